/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Latencies, counted: 64 buckets a power of two of nanoseconds, so that a
 * percentile is known within 1.6 %; the largest exactly.
 */

#ifndef ZMEM_BENCH_LATENCY_H
#define ZMEM_BENCH_LATENCY_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define LATENCY_BUCKET_BITS 6
#define LATENCY_NR_BUCKETS (64 << LATENCY_BUCKET_BITS)

struct latency {
  uint64_t nr, max_ns;
  uint64_t buckets[LATENCY_NR_BUCKETS];
};

static inline unsigned
latency_bucket (uint64_t ns)
{
  unsigned shift;

  if (ns < 1 << LATENCY_BUCKET_BITS)
    return ns;
  shift = 63 - __builtin_clzll (ns) - LATENCY_BUCKET_BITS;
  return ((shift + 1) << LATENCY_BUCKET_BITS) + (ns >> shift) -
         (1 << LATENCY_BUCKET_BITS);
}

/* The middle of a bucket. */
static inline double
latency_bucket_ns (unsigned bucket)
{
  const unsigned shift = bucket >> LATENCY_BUCKET_BITS;
  const uint64_t low = bucket & ((1 << LATENCY_BUCKET_BITS) - 1);

  if (shift == 0)
    return low;
  return ((low + (1 << LATENCY_BUCKET_BITS)) + 0.5) *
         ((uint64_t) 1 << (shift - 1));
}

static inline void
latency_add (struct latency *l, uint64_t ns)
{
  l->nr++;
  l->buckets[latency_bucket (ns)]++;
  if (ns > l->max_ns)
    l->max_ns = ns;
}

static inline void
latency_add_all (struct latency *l, const struct latency *other)
{
  l->nr += other->nr;
  if (other->max_ns > l->max_ns)
    l->max_ns = other->max_ns;
  for (unsigned i = 0; i < LATENCY_NR_BUCKETS; ++i)
    l->buckets[i] += other->buckets[i];
}

/* Never above the largest; 0 if there is none. */
static inline double
latency_percentile_us (const struct latency *l, double fraction)
{
  uint64_t left = l->nr * fraction;

  for (unsigned i = 0; i < LATENCY_NR_BUCKETS; ++i) {
    if (left < l->buckets[i]) {
      const double ns = latency_bucket_ns (i);

      return (ns < l->max_ns ? ns : l->max_ns) / 1e3;
    }
    left -= l->buckets[i];
  }
  return l->max_ns / 1e3;
}

/* As the rest of a line of text, or as members of a JSON object, their names
 * beginning with prefix.
 */
static inline void
latency_print (const struct latency *l, const char *prefix, bool json)
{
  const double p50 = latency_percentile_us (l, 0.5);
  const double p99 = latency_percentile_us (l, 0.99);
  const double p999 = latency_percentile_us (l, 0.999);

  if (json)
    printf (", \"%sp50_us\": %.1f, \"%sp99_us\": %.1f, "
            "\"%sp999_us\": %.1f, \"%smax_us\": %.1f",
            prefix, p50, prefix, p99, prefix, p999, prefix, l->max_ns / 1e3);
  else
    printf ("  us: p50 %.1f p99 %.1f p99.9 %.1f max %.1f", p50, p99, p999,
            l->max_ns / 1e3);
}

/* Enough of them to draw the distribution: a member of a JSON object. */
static inline void
latency_print_percentiles (const struct latency *l)
{
  static const double percents[] = { 1,  5,  10,   25,   50,    75, 90,
                                     95, 99, 99.5, 99.9, 99.99, 100 };

  printf (", \"percentiles_us\": [");
  for (unsigned i = 0; i < sizeof percents / sizeof *percents; ++i)
    printf ("%s[%g, %.1f]", i == 0 ? "" : ", ", percents[i],
            latency_percentile_us (l, percents[i] / 100));
  putchar (']');
}

/* The same as latency_print with its count: of one kind of requests. */
static inline void
latency_print_kind (const struct latency *l, const char *kind, bool json)
{
  char prefix[16];

  snprintf (prefix, sizeof prefix, "%s_", kind);
  printf (json ? ", \"%s_ops\": %" PRIu64 : "  %-9s %9" PRIu64 " ops", kind,
          l->nr);
  latency_print (l, prefix, json);
  if (!json)
    putchar ('\n');
}

#endif /* ZMEM_BENCH_LATENCY_H */
