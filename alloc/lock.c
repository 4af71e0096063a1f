/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The ranks that a thread holds, in builds with --enable-debug-checks.
 */

#include <config.h>

#include "lock.h"

#ifdef ZMEM_DEBUG_CHECKS

#include <stdio.h>
#include <stdlib.h>

static _Thread_local unsigned ranks_held; /* bit r: rank r is held */

void
lock_rank_enter (enum lock_rank rank)
{
  if (ranks_held >> rank != 0) {
    fprintf (stderr,
             "zmem: lock order violated: rank %d taken while the "
             "ranks in mask %#x are held\n",
             (int) rank, ranks_held);
    abort ();
  }
  ranks_held |= 1U << rank;
}

void
lock_rank_leave (enum lock_rank rank)
{
  ranks_held &= ~(1U << rank);
}

bool
lock_rank_held (enum lock_rank rank)
{
  return ranks_held >> rank & 1;
}

#else

/* ISO C wants something in a file. */
typedef int lock_ranks_are_not_checked_in_this_build;

#endif
