/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The answers to fault-calls.c in a program; see fail-nth.h.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fail-nth.h"
#include "fault-calls.h"
#include "test-util.h"

static _Atomic bool armed, armed_anywhere;
static enum fault_family armed_family; /* written while nothing is armed */
static uint64_t armed_nth;
static _Atomic uint64_t nr_calls, nr_failed;
static _Atomic uint64_t totals[NR_FAULT_FAMILIES];
static __thread bool armed_here;

static void
arm (enum fault_family family, uint64_t nth)
{
  atomic_store (&armed, false);
  armed_family = family;
  armed_nth = nth;
  atomic_store (&nr_calls, 0);
  atomic_store (&nr_failed, 0);
}

void
fail_nth (enum fault_family family, uint64_t nth)
{
  arm (family, nth);
  armed_here = true;
  atomic_store (&armed, true);
}

void
fail_nth_anywhere (enum fault_family family, uint64_t nth)
{
  arm (family, nth);
  atomic_store (&armed_anywhere, true);
  atomic_store (&armed, true);
}

bool
fail_nth_end (void)
{
  atomic_store (&armed, false);
  atomic_store (&armed_anywhere, false);
  armed_here = false;
  return atomic_load (&nr_failed) > 0;
}

uint64_t
fail_nth_calls (void)
{
  return atomic_load (&nr_calls);
}

uint64_t
fail_nth_total (enum fault_family family)
{
  return atomic_load (&totals[family]);
}

bool
fault_fails (enum fault_family family, const char *name, const void *caller,
             int error)
{
  (void) name;
  (void) caller;
  if (!atomic_load (&armed) || family != armed_family ||
      !(armed_here || atomic_load (&armed_anywhere)))
    return false;
  if (atomic_fetch_add (&nr_calls, 1) + 1 != armed_nth)
    return false;
  atomic_fetch_add (&nr_failed, 1);
  atomic_fetch_add (&totals[family], 1);
  errno = error;
  return true;
}

unsigned
nr_open_files (void)
{
  DIR *dir = opendir ("/proc/self/fd");
  unsigned nr = 0;

  if (dir == NULL)
    abort ();
  while (readdir (dir) != NULL)
    ++nr;
  closedir (dir);
  return nr;
}
