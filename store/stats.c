/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of statistics, and the arithmetic of latency histograms.
 *
 * Bounds of buckets, in units of 250 ns:
 *
 *     bucket  0  1  2  3  4   5   6 ...  38       39
 *     bound   2  3  4  6  8  12  16 ...  2^20     everything else
 *
 * so a bound is a power of two or one and a half of it, and the bucket of a
 * time is found from its highest set bit and the one below: no loop and no
 * table, since this runs in every request.
 */

#include <config.h>

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "stats.h"

#define BOUND_UNIT_NS UINT64_C (250)

const struct stat_desc stats_table[] = {
#define STAT(stat_name, stat_type, stat_unit, stat_help)                       \
  { .name = #stat_name,                                                        \
    .type = STAT_##stat_type,                                                  \
    .unit = #stat_unit,                                                        \
    .help = stat_help,                                                         \
    .offset = offsetof (struct stats, stat_name) },
#include "stats.def"
#undef STAT
};

const unsigned nr_stats = sizeof stats_table / sizeof stats_table[0];

static_assert (sizeof (struct stats) ==
                 sizeof stats_table / sizeof stats_table[0] * sizeof (uint64_t),
               "struct stats is its table's numbers and nothing else");

uint64_t
histogram_bound_ns (unsigned bucket)
{
  assert (bucket < HISTOGRAM_BUCKETS);

  if (bucket == HISTOGRAM_BUCKETS - 1)
    return UINT64_MAX;
  return ((bucket & 1 ? 3 : 2) * BOUND_UNIT_NS) << (bucket / 2);
}

unsigned
histogram_bucket (uint64_t ns)
{
  /* Bounds are inclusive: ns is within a bound of m units if units < m. */
  const uint64_t units = ns == 0 ? 0 : (ns - 1) / BOUND_UNIT_NS;
  unsigned high, bucket;

  if (units < 2)
    return 0;

  high = 63 - (unsigned) __builtin_clzll (units);
  bucket = 2 * high - 1 + ((units >> (high - 1)) & 1);
  return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

uint64_t
histogram_total (const struct histogram *histogram)
{
  uint64_t total = 0;

  for (unsigned i = 0; i < HISTOGRAM_BUCKETS; ++i)
    total += histogram->count[i];
  return total;
}

uint64_t
histogram_percentile_ns (const struct histogram *histogram,
                         unsigned thousandths)
{
  const uint64_t total = histogram_total (histogram);
  uint64_t rank, below = 0;
  unsigned i;

  assert (thousandths <= 1000);

  if (total == 0)
    return 0;

  /* Rounded up: the 500th thousandth of three is the second. */
  rank = total / 1000 * thousandths + (total % 1000 * thousandths + 999) / 1000;
  if (rank == 0)
    rank = 1;

  for (i = 0; i < HISTOGRAM_BUCKETS - 1; ++i) {
    below += histogram->count[i];
    if (below >= rank)
      break;
  }
  return histogram_bound_ns (i);
}
