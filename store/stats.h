/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Statistics: each declared once, in stats.def.
 *
 * struct stats is a snapshot: plain numbers, filled by whoever knows them
 * (store_stats, requests_stats), read by the outputs through stats_table.
 * What counts while requests run lies elsewhere: with the lock that guards
 * it (group-lock.h) or sharded (request counters), so that nothing on the
 * data path writes a word that all processors share.
 */

#ifndef ZMEM_STATS_H
#define ZMEM_STATS_H

#include <stddef.h>
#include <stdint.h>

struct stats {
#define STAT(name, type, unit, help) uint64_t name;
#include "stats.def"
#undef STAT
};

enum stat_type { STAT_GAUGE, STAT_COUNTER };

struct stat_desc {
  const char *name;
  enum stat_type type;
  const char *unit;
  const char *help;
  size_t offset; /* of the uint64_t in struct stats */
};

extern const struct stat_desc stats_table[];
extern const unsigned nr_stats;

static inline uint64_t
stats_value (const struct stats *stats, const struct stat_desc *desc)
{
  const void *value = (const char *) stats + desc->offset;

  return *(const uint64_t *) value;
}

/* A latency histogram: bucket i counts what took at most about
 * 2^(i/2) half microseconds (exactly: histogram_bound_ns), the last one what
 * took longer than a quarter of a second.
 */
#define HISTOGRAM_BUCKETS 40

struct histogram {
  uint64_t count[HISTOGRAM_BUCKETS];
  uint64_t sum_ns;
};

/* The upper bound, inclusive, of bucket i in nanoseconds: 0.5 us for bucket
 * 0, then alternately times 1.5 and 4/3 (0.5, 0.75, 1, 1.5, 2, 3, 4, 6 ...);
 * UINT64_MAX for the last.
 */
extern uint64_t histogram_bound_ns (unsigned bucket);
extern unsigned histogram_bucket (uint64_t ns);
extern uint64_t histogram_total (const struct histogram *histogram);
/* The bound of the bucket in which the given thousandth of all lies. */
extern uint64_t histogram_percentile_ns (const struct histogram *histogram,
                                         unsigned thousandths);

#endif /* ZMEM_STATS_H */
