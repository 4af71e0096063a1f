/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The time for waiting: it never jumps, and means nothing by itself.
 */

#ifndef ZMEM_CTL_NOW_MS_H
#define ZMEM_CTL_NOW_MS_H

#include <stdint.h>
#include <time.h>

static inline int64_t
now_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif /* ZMEM_CTL_NOW_MS_H */
