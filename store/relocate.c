/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The store's side of compaction: what moves a block's object (relocate.h),
 * and the calls of store.h about it.
 *
 * A reader holds its group's lock while it decodes, so an object whose group
 * could be locked has no reader.  An object that the block's entry does not
 * point at is in transit, and somebody else's.
 */

#include <config.h>

#include <string.h>

#include "limit.h"
#include "relocate.h"
#include "store-private.h"

/* Of an object that will move: its first lines; the rest follows by itself.
 */
#define PREFETCH_LINES 4

static enum move_result
move_block (void *opaque, owner_t owner, zs_loc from, zs_loc to,
            uint32_t *copied)
{
  struct store *store = opaque;
  const uint64_t blkno = owner;
  struct group_stripe *stripe = stripe_of (store, blkno);
  enum move_result r = MOVE_IN_TRANSIT;

  if (!lock_try_acquire (&stripe->lock))
    return MOVE_BUSY;
  const entry_t entry = block_table_load (&store->table, blkno);
  if (entry_kind (entry) == ENTRY_OBJECT && entry_loc (entry) == from) {
    /* An entry that is damaged must not damage others. */
    *copied = entry_payload_bytes (entry);
    if (*copied > pool_slot_bytes (store->pool, to))
      *copied = (uint32_t) pool_slot_bytes (store->pool, to);
    memcpy (pool_borrow (store->pool, to), pool_borrow (store->pool, from),
            *copied);
    block_table_publish (&store->table, blkno, entry,
                         entry_with_loc (entry, to));
    r = MOVE_DONE;
  }
  lock_release (&stripe->lock);
  return r;
}

static void
prefetch_block (void *opaque, owner_t owner, zs_loc from)
{
  struct store *store = opaque;
  const char *object = pool_borrow (store->pool, from);

  __builtin_prefetch (stripe_of (store, owner), 1);
  __builtin_prefetch ((const void *) &store->table.entries[owner], 1);
  for (unsigned i = 0; i < PREFETCH_LINES; i++)
    __builtin_prefetch (object + i * 64);
}

const struct compact_ops relocate_ops = {
  .move = move_block,
  .prefetch = prefetch_block,
};

int
store_start_worker (struct store *store)
{
  return compact_worker_start (&store->worker);
}

void
store_stop_worker (struct store *store)
{
  if (store->has_worker)
    compact_worker_stop (&store->worker);
}

uint64_t
store_compact (struct store *store, int class_idx)
{
  return compact_worker_request (&store->worker, class_idx);
}

bool
store_compact_report (struct store *store, uint64_t ticket,
                      struct compact_report *ret)
{
  return compact_worker_report (&store->worker, ticket, ret);
}

static void
worker_facts (void *opaque, struct worker_facts *ret)
{
  struct store *store = opaque;

  ret->held_bytes = pages_held (&store->pages);
  ret->limit_bytes = atomic_load (&store->pages.limit);
  ret->discarded_bytes = atomic_load (&store->discarded_bytes);
}

int
store_init_compaction (struct store *store)
{
  char path[LIMIT_TEXT_BYTES + 64];
  const struct worker_settings settings = {
    .manual = store->compact_manual,
    .rate = store->compact_rate,
    .pressure_path = memory_pressure_path ("", path, sizeof path),
  };
  int r;

  compactor_init (&store->compactor, store->pool, &relocate_ops, store, NULL);
  r = compact_worker_init (&store->worker, &store->compactor, &settings,
                           worker_facts, store);
  if (r < 0)
    compactor_destroy (&store->compactor);
  store->has_worker = r == 0;
  return r;
}

void
store_end_compaction (struct store *store)
{
  if (!store->has_worker)
    return;
  compact_worker_stop (&store->worker);
  compact_worker_destroy (&store->worker);
  compactor_destroy (&store->compactor);
  store->has_worker = false;
}
