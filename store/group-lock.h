/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Group locks: 16 blocks (64 KiB of disk) under one lock.  Groups share
 * GROUP_STRIPES locks; neighbours never share one, and nobody holds two.
 *
 * What is counted when an entry changes lies with the lock that guards the
 * change, so counting costs two plain additions to a line that is hot
 * anyway.  The counters are atomic only so that a reader of statistics need
 * not take a thousand locks: the holder of the lock loads, adds and stores.
 */

#ifndef ZMEM_GROUP_LOCK_H
#define ZMEM_GROUP_LOCK_H

#include <stdatomic.h>
#include <stdint.h>

#include "entry.h"
#include "lock.h"

#define GROUP_SHIFT 4
#define GROUP_BLOCKS ((uint64_t) 1 << GROUP_SHIFT)

#define GROUP_STRIPES 1024
static_assert ((GROUP_STRIPES & (GROUP_STRIPES - 1)) == 0, "a mask");

/* What the entries of a stripe's groups add up to; then events. */
enum group_counter {
  COUNT_SAME_FILLED,
  COUNT_BY_CODEC, /* blocks, by codec_id from here on */
  COUNT_PAYLOAD_BYTES = COUNT_BY_CODEC + NR_CODECS,
  COUNT_PAYLOAD_ROUNDED_BYTES,
  COUNT_CHECKSUM_FAILURES,
  COUNT_VERIFY_FAILURES,
  COUNT_PARTIAL_WRITES,
  COUNT_IN_PLACE_WRITES,
  NR_GROUP_COUNTERS
};
#define NR_ENTRY_COUNTERS COUNT_CHECKSUM_FAILURES

struct group_stripe {
  _Alignas(128) struct lock lock;
  _Atomic uint64_t counters[NR_GROUP_COUNTERS]; /* guard: lock, see above */
};

struct group_locks {
  struct group_stripe stripes[GROUP_STRIPES];
};

extern void group_locks_init (struct group_locks *locks);
extern void group_locks_destroy (struct group_locks *locks);

static inline struct group_stripe *
group_stripe (struct group_locks *locks, uint64_t blkno)
{
  return &locks->stripes[(blkno >> GROUP_SHIFT) & (GROUP_STRIPES - 1)];
}

/* Add to a counter; the lock is held. */
static inline void
group_count (struct group_stripe *stripe, enum group_counter counter,
             uint64_t n)
{
  ASSERT_LOCKED (&stripe->lock);
  atomic_store_explicit (&stripe->counters[counter],
                         atomic_load_explicit (&stripe->counters[counter],
                                               memory_order_relaxed) +
                           n,
                         memory_order_relaxed);
}

/* An entry changes from old to new: the one place that accounts for it. */
extern void group_account (struct group_stripe *stripe, entry_t old,
                           entry_t new);

/* Add what an entry stands for (sign 1) or take it off (-1); for
 * group_account, and for the validator's recount.
 */
extern void entry_account (uint64_t counters[NR_ENTRY_COUNTERS], entry_t entry,
                           int sign);

/* The sum over all stripes: exact when nothing runs. */
extern void group_counters_sum (struct group_locks *locks,
                                uint64_t sums[NR_GROUP_COUNTERS]);

#endif /* ZMEM_GROUP_LOCK_H */
