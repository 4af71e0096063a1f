/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Latency between two looks at a server.
 */

#include <config.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>

#include "latency.h"

void
latency_parse (const char *text, struct latency *latency)
{
  latency->nr = 0;
  while (text != NULL && *text != '\0' && latency->nr < LATENCY_MAX_BUCKETS) {
    char *end;
    const double bound_us = strtod (text, &end);
    uint64_t count;

    if (end == text || *end != ':')
      return;
    text = end + 1;
    count = strtoumax (text, &end, 10);
    if (end == text)
      return;
    text = end + (*end == ' ');

    latency->buckets[latency->nr].bound_us = bound_us;
    latency->buckets[latency->nr].count = count;
    ++latency->nr;
  }
}

/* Buckets that are empty are not told, so the two have different ones; both
 * are read from the same text, so equal bounds are equal numbers.
 */
void
latency_subtract (const struct latency *now, const struct latency *before,
                  struct latency *ret)
{
  unsigned i, j = 0;

  *ret = *now;
  for (i = 0; i < ret->nr; ++i) {
    while (j < before->nr &&
           before->buckets[j].bound_us < ret->buckets[i].bound_us)
      ++j;
    if (j < before->nr &&
        before->buckets[j].bound_us <= ret->buckets[i].bound_us &&
        before->buckets[j].count <= ret->buckets[i].count)
      ret->buckets[i].count -= before->buckets[j].count;
  }
}

double
latency_percentile_us (const struct latency *latency, unsigned thousandths)
{
  uint64_t total = 0, below = 0;
  unsigned i;

  for (i = 0; i < latency->nr; ++i)
    total += latency->buckets[i].count;
  for (i = 0; i < latency->nr; ++i) {
    below += latency->buckets[i].count;
    /* Of nothing, below * 1000 >= 0 would be true. */
    if (below > 0 && below * 1000 >= total * thousandths)
      return latency->buckets[i].bound_us;
  }
  return 0;
}
