/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * mlock=yes.
 *
 * A server whose disk is swap must not wait for swap: each of its pages that
 * is swapped out would have to be read from itself.  And it must not start
 * writing to disks when it asks for memory, hence PR_SET_IO_FLUSHER.
 *
 * mlockall is told MCL_ONFAULT, so the terabytes of reserved address space
 * stay free of charge; they do count in full against RLIMIT_MEMLOCK, as does
 * every mapping made later (16 stacks of 8 MiB a connection, and malloc's
 * arenas).  So without CAP_IPC_LOCK the limit must be infinite, or large.
 *
 * On fault is not enough for program text: pages of a library that nothing
 * has run yet would be read from a file system at the worst of times.  So
 * what is mapped from files is made resident as it is locked.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "memlock.h"
#include "pages.h"
#include "size-text.h"

#ifndef PR_SET_IO_FLUSHER /* Linux 5.6 */
#define PR_SET_IO_FLUSHER 57
#endif

#define CAP_IPC_LOCK_BIT 14

/* What a finite RLIMIT_MEMLOCK must leave for what is mapped later: some
 * sixteen connections with 16 stacks of 8 MiB each, and malloc's arenas.
 */
#define HEADROOM_BYTES (UINT64_C (3) << 30)

#define LOCK_FLAGS (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)

/* A number in /proc/self/status ("VmLck:"); 0 where there is none. */
static uint64_t
read_status (const char *key, int base)
{
  const size_t length = strlen (key);
  uint64_t value = 0;
  char line[256];
  FILE *file = fopen ("/proc/self/status", "re");

  if (file == NULL)
    return 0;
  while (fgets (line, sizeof line, file) != NULL)
    if (strncmp (line, key, length) == 0) {
      value = strtoull (line + length, NULL, base);
      break;
    }
  fclose (file);
  return value;
}

bool
memlock_is_on (void)
{
  return read_status ("VmLck:", 10) > 0;
}

/* Raise RLIMIT_MEMLOCK as far as may be, and return what it is then. */
static uint64_t
raise_lock_limit (void)
{
  const struct rlimit infinite = { RLIM_INFINITY, RLIM_INFINITY };
  struct rlimit limit;

  if (setrlimit (RLIMIT_MEMLOCK, &infinite) == 0)
    return RLIM_INFINITY;
  if (getrlimit (RLIMIT_MEMLOCK, &limit) == -1)
    return 0;
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_MEMLOCK, &limit);
  getrlimit (RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur;
}

/* Threads inherit it, also over a fork. */
static void
become_io_flusher (void)
{
  if (prctl (PR_SET_IO_FLUSHER, 1, 0, 0, 0) == -1)
    nbdkit_debug ("zmem: PR_SET_IO_FLUSHER: %m");
}

/* Before Linux 5.18 a page that is locked can only be given back by
 * unlocking it first.  Tried with one page, the way the pool does it.
 */
static bool
can_purge_locked (void)
{
  struct pages pages;
  void *page;
  bool can = true;

  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  if (pages_reserve (&pages, PAGE_BYTES, &page) < 0)
    return true; /* other calls will say so */
  if (pages_activate (&pages, page, PAGE_BYTES) == 0 &&
      mlock (page, PAGE_BYTES) == 0)
    can = pages.ops->purge (&pages, page, PAGE_BYTES) == 0;
  pages_release (&pages, page, PAGE_BYTES);
  return can;
}

static uint64_t
address_space_bytes (void)
{
  return read_status ("VmSize:", 10) * 1024;
}

/* Put "RLIMIT_MEMLOCK is 8 MiB and ... is needed" into `error`. */
static void
explain_limit (uint64_t limit_bytes, char *error, size_t error_bytes)
{
  char limit[SIZE_TEXT_BYTES], needed[SIZE_TEXT_BYTES];

  snprintf (error, error_bytes,
            "RLIMIT_MEMLOCK is %s, and %s are needed, for the "
            "whole address space counts: raise it (ulimit -l unlimited, or "
            "LimitMEMLOCK=infinity in a systemd unit) or give nbdkit "
            "CAP_IPC_LOCK",
            size_text_print (limit_bytes, limit, sizeof limit),
            size_text_print (address_space_bytes () + HEADROOM_BYTES, needed,
                             sizeof needed));
}

int
memlock_prepare (char *error, size_t error_bytes)
{
  const bool locked_before = memlock_is_on ();
  const bool capable = read_status ("CapEff:", 16) >> CAP_IPC_LOCK_BIT & 1;
  const uint64_t limit_bytes = raise_lock_limit ();

  become_io_flusher ();

  if (!can_purge_locked ()) {
    snprintf (error, error_bytes,
              "this kernel cannot give back memory that is "
              "locked: Linux 5.18 or later is needed");
    return -EINVAL;
  }

  if (limit_bytes != RLIM_INFINITY && !capable &&
      limit_bytes < address_space_bytes () + HEADROOM_BYTES) {
    explain_limit (limit_bytes, error, error_bytes);
    return -EPERM;
  }

  /* With nbdkit -u, which a plugin cannot see, root and its capability are
   * gone when after_fork locks, and then nobody hears why the server ends.
   */
  if (limit_bytes != RLIM_INFINITY &&
      limit_bytes < address_space_bytes () + HEADROOM_BYTES) {
    char limit[SIZE_TEXT_BYTES];

    fprintf (stderr,
             "nbdkit: zmem: mlock=yes relies on CAP_IPC_LOCK, since "
             "RLIMIT_MEMLOCK is %s and could not be raised: it will fail "
             "with -u\n",
             size_text_print (limit_bytes, limit, sizeof limit));
  }

  /* The capability may be one of a user namespace, which does not count
   * here.  Only trying tells; nothing becomes resident.
   */
  if (locked_before)
    return 0;
  if (mlockall (LOCK_FLAGS) == -1) {
    const int err = errno;

    if (limit_bytes != RLIM_INFINITY)
      explain_limit (limit_bytes, error, error_bytes);
    else
      snprintf (error, error_bytes, "mlockall: %s", strerror (err));
    return -err;
  }
  munlockall ();
  return 0;
}

/* Lock, page in, what is mapped privately from files: program text, its
 * constants and variables.
 */
static void
page_in_files (void)
{
  char line[4352]; /* addresses, and a path of PATH_MAX */
  FILE *file = fopen ("/proc/self/maps", "re");

  if (file == NULL) {
    nbdkit_debug ("zmem: /proc/self/maps: %m");
    return;
  }
  while (fgets (line, sizeof line, file) != NULL) {
    uintptr_t start, end;
    char rights[5];

    if (sscanf (line, "%" SCNxPTR "-%" SCNxPTR " %4s", &start, &end, rights) ==
          3 &&
        rights[0] == 'r' && rights[3] == 'p' && strchr (line, '/') != NULL &&
        mlock ((void *) start, end - start) == -1)
      nbdkit_debug ("zmem: mlock: %m: %s", line);
  }
  fclose (file);
}

int
memlock_lock (char *error, size_t error_bytes)
{
  if (mlockall (LOCK_FLAGS) == -1) {
    const int err = errno;

    snprintf (error, error_bytes,
              "mlockall: %s: was CAP_IPC_LOCK lost since the "
              "start?  Raise RLIMIT_MEMLOCK instead (ulimit -l unlimited)",
              strerror (err));
    return -err;
  }
  page_in_files ();
  return 0;
}
