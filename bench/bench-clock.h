/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Clocks, in nanoseconds: time that passes, and processor time of a thread
 * (CLOCK_THREAD_CPUTIME_ID), of this process or of another
 * (clock_getcpuclockid).
 */

#ifndef ZMEM_BENCH_CLOCK_H
#define ZMEM_BENCH_CLOCK_H

#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t
read_clock_ns (clockid_t clock)
{
  struct timespec ts;

  if (clock_gettime (clock, &ts) == -1)
    err (EXIT_FAILURE, "clock_gettime");
  return ts.tv_sec * UINT64_C (1000000000) + ts.tv_nsec;
}

static inline uint64_t
now_ns (void)
{
  return read_clock_ns (CLOCK_MONOTONIC);
}

#endif /* ZMEM_BENCH_CLOCK_H */
