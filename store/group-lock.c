/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Group locks and the counters that lie with them; see group-lock.h.
 */

#include <config.h>

#include <string.h>

#include "group-lock.h"

void
group_locks_init (struct group_locks *locks)
{
  for (unsigned i = 0; i < GROUP_STRIPES; i++) {
    lock_init (&locks->stripes[i].lock, LOCK_GROUP);
    for (unsigned c = 0; c < NR_GROUP_COUNTERS; c++)
      atomic_init (&locks->stripes[i].counters[c], 0);
  }
}

void
group_locks_destroy (struct group_locks *locks)
{
  for (unsigned i = 0; i < GROUP_STRIPES; i++)
    lock_destroy (&locks->stripes[i].lock);
}

void
entry_account (uint64_t counters[NR_ENTRY_COUNTERS], entry_t entry, int sign)
{
  switch (entry_kind (entry)) {
  case ENTRY_SAME:
    counters[COUNT_SAME_FILLED] += sign;
    break;
  case ENTRY_OBJECT: {
    const uint64_t bytes = entry_payload_bytes (entry);
    const uint64_t rounded =
      (bytes + OBJECT_ALIGN - 1) / OBJECT_ALIGN * OBJECT_ALIGN;

    if (entry_codec (entry) < NR_CODECS) /* else it is damaged */
      counters[COUNT_BY_CODEC + entry_codec (entry)] += sign;
    counters[COUNT_PAYLOAD_BYTES] += sign * bytes;
    counters[COUNT_PAYLOAD_ROUNDED_BYTES] += sign * rounded;
    break;
  }
  case ENTRY_HOLE:
  case ENTRY_CLUSTER:
  case ENTRY_SHARED:
  case ENTRY_BACKING:
  case ENTRY_BAD:
    break;
  }
}

void
group_account (struct group_stripe *stripe, entry_t old, entry_t new)
{
  uint64_t delta[NR_ENTRY_COUNTERS] = { 0 };

  entry_account (delta, old, -1);
  entry_account (delta, new, 1);
  for (unsigned c = 0; c < NR_ENTRY_COUNTERS; c++)
    if (delta[c] != 0)
      group_count (stripe, c, delta[c]);
}

void
group_counters_sum (struct group_locks *locks, uint64_t sums[NR_GROUP_COUNTERS])
{
  memset (sums, 0, NR_GROUP_COUNTERS * sizeof sums[0]);
  for (unsigned i = 0; i < GROUP_STRIPES; i++)
    for (unsigned c = 0; c < NR_GROUP_COUNTERS; c++)
      sums[c] += atomic_load_explicit (&locks->stripes[i].counters[c],
                                       memory_order_relaxed);
}
