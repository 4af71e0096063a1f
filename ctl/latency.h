/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Latency between two looks at a server: it counts since its start, so what
 * happened in between is a difference.
 */

#ifndef ZMEM_CTL_LATENCY_H
#define ZMEM_CTL_LATENCY_H

#include <stdint.h>

#define LATENCY_MAX_BUCKETS 256

struct latency {
  unsigned nr;
  struct {
    double bound_us; /* the last may be INFINITY */
    uint64_t count;
  } buckets[LATENCY_MAX_BUCKETS]; /* ascending */
};

/* Parse "0.5:12 0.75:3 inf:1".  NULL, or what is no such text: as far as it
 * goes.
 */
extern void latency_parse (const char *text, struct latency *latency);

/* What of `now` was not yet in `before`. */
extern void latency_subtract (const struct latency *now,
                              const struct latency *before,
                              struct latency *ret);

/* The bound of the bucket in which the given thousandth lies; 0 of nothing.
 */
extern double latency_percentile_us (const struct latency *latency,
                                     unsigned thousandths);

#endif /* ZMEM_CTL_LATENCY_H */
