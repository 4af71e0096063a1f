/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One block; see block.h.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "block.h"
#include "room.h"
#include "same-filled.h"

/* What a payload's checksum is bound to: its block and its codec.  So the
 * intact payload of another block, or this one read as another codec's, is as
 * good as damaged.  For the blocks of a disk the products differ, all of them.
 */
static uint32_t
binding_of (uint64_t blkno, enum codec_id codec)
{
  return (uint32_t) blkno * UINT32_C (0x9e3779b1) +
         (uint32_t) codec * UINT32_C (0x85ebca77);
}

void
block_prepare (struct context *context, unsigned scratch_idx, uint64_t blkno,
               const void *data, struct prepared *prepared)
{
  const bool repeats = block_repeats_8_bytes (data);
  uint32_t pattern;

  if (repeats && block_repeats_4_bytes (data, &pattern)) {
    prepared->entry = entry_same (pattern);
    return;
  }
  prepared->entry = entry_hole ();
  context_encode (context, scratch_idx, data, repeats, &prepared->payload);
  payload_bind (&prepared->payload,
                binding_of (blkno, prepared->payload.codec));
}

static entry_t
object_entry (zs_loc loc, const struct payload *payload)
{
  if (payload->codec == CODEC_RAW)
    return entry_object_raw (loc, payload->checksum);
  return entry_object_encoded (loc, payload->codec, payload->bytes);
}

/* If something was taken of the pool's reserve. */
static void
refill_soon (struct store *store)
{
  if (pool_wants_refill (store->pool))
    compact_worker_ask_refill (&store->worker);
}

int
block_place (struct store *store, uint64_t blkno, struct prepared *prepared)
{
  const struct payload *payload = &prepared->payload;
  zs_loc loc;
  int r;

  if (entry_kind (prepared->entry) == ENTRY_SAME)
    return 0;
  r = pool_alloc (store->pool, payload->bytes, blkno, &loc);
  refill_soon (store);
  if (r < 0)
    return r;
  memcpy (pool_borrow (store->pool, loc), payload->data, payload->bytes);
  prepared->entry = object_entry (loc, payload);
  return 0;
}

int
block_publish (struct store *store, struct group_stripe *stripe, uint64_t blkno,
               entry_t new, entry_t *old)
{
  int r;

  ASSERT_LOCKED (&stripe->lock);
  *old = block_table_load (&store->table, blkno);
  r = block_table_publish (&store->table, blkno, *old, new);
  if (r == 0)
    group_account (stripe, *old, new);
  return r;
}

void
block_drop (struct store *store, entry_t entry)
{
  if (entry_kind (entry) != ENTRY_OBJECT)
    return;
  pool_free (store->pool, entry_loc (entry));
  compact_worker_poke (&store->worker);
  refill_soon (store);
}

static int
overwrite_slot (struct store *store, struct group_stripe *stripe,
                uint64_t blkno, const struct prepared *prepared)
{
  const struct payload *payload = &prepared->payload;
  const entry_t old = block_table_load (&store->table, blkno);

  ASSERT_LOCKED (&stripe->lock);
  if (entry_kind (old) != ENTRY_OBJECT ||
      pool_slot_bytes (store->pool, entry_loc (old)) < payload->bytes)
    return -ENOSPC;
  /* A raw entry's location counts in whole pages. */
  if (payload->codec == CODEC_RAW &&
      pool_slot_bytes (store->pool, entry_loc (old)) != BLOCK_BYTES)
    return -ENOSPC;

  const entry_t bounced = object_entry (store->bounce, payload);
  const entry_t new = object_entry (entry_loc (old), payload);

  LOCK_FOR_SCOPE (&store->bounce_lock);
  memcpy (pool_borrow (store->pool, store->bounce), payload->data,
          payload->bytes);
  block_table_publish (&store->table, blkno, old, bounced);
  memcpy (pool_borrow (store->pool, entry_loc (old)), payload->data,
          payload->bytes);
  block_table_publish (&store->table, blkno, bounced, new);
  group_account (stripe, old, new);
  group_count (stripe, COUNT_IN_PLACE_WRITES, 1);
  return 0;
}

int
block_store_in_place (struct store *store, struct group_stripe *stripe,
                      uint64_t blkno, const struct prepared *prepared,
                      entry_t *old)
{
  int r;

  if (entry_kind (prepared->entry) == ENTRY_SAME) {
    r = block_publish (store, stripe, blkno, prepared->entry, old);
    if (r == 0)
      return 0;
  }
  else
    r = overwrite_slot (store, stripe, blkno, prepared);
  *old = entry_hole ();
  return r;
}

/* What payload_check and payload_decode are to be given. */
static uint32_t
object_checksum (uint64_t blkno, entry_t entry)
{
  return entry_codec (entry) == CODEC_RAW
           ? entry_raw_checksum (entry)
           : binding_of (blkno, entry_codec (entry));
}

/* An entry is trusted no more than a payload: where it points outside of the
 * arena the block is damaged.  (Inside of it the checksum tells.)
 */
static bool
object_is_in_pool (const struct store *store, entry_t entry)
{
  return pool_contains (store->pool, entry_loc (entry),
                        entry_payload_bytes (entry));
}

static int
load_object (struct store *store, struct context *context, uint64_t blkno,
             entry_t entry, void *buf)
{
  if (!object_is_in_pool (store, entry))
    return -EIO;
  return payload_decode (context, entry_codec (entry),
                         pool_borrow (store->pool, entry_loc (entry)),
                         entry_payload_bytes (entry),
                         object_checksum (blkno, entry), buf);
}

static int
load (struct store *store, struct context *context, uint64_t blkno,
      entry_t entry, void *buf)
{
  switch (entry_kind (entry)) {
  case ENTRY_HOLE:
    if (entry != entry_hole ())
      return -EIO;
    memset (buf, 0, BLOCK_BYTES);
    return 0;
  case ENTRY_SAME:
    if (!entry_same_is_sound (entry))
      return -EIO;
    fill_pattern (buf, BLOCK_BYTES, entry_pattern (entry), 0);
    return 0;
  case ENTRY_OBJECT:
    return load_object (store, context, blkno, entry, buf);
  case ENTRY_CLUSTER:
  case ENTRY_SHARED:
  case ENTRY_BACKING:
  case ENTRY_BAD:
    break;
  }
  return -EIO;
}

int
block_load (struct store *store, struct group_stripe *stripe,
            struct context *context, uint64_t blkno, entry_t entry, void *buf)
{
  const int r = load (store, context, blkno, entry, buf);

  ASSERT_LOCKED (&stripe->lock);
  if (r == -EIO)
    group_count (stripe, COUNT_CHECKSUM_FAILURES, 1);
  return r;
}

int
block_check (struct store *store, uint64_t blkno, entry_t entry)
{
  switch (entry_kind (entry)) {
  case ENTRY_HOLE:
    return entry == entry_hole () ? 0 : -EIO;
  case ENTRY_SAME:
    return entry_same_is_sound (entry) ? 0 : -EIO;
  case ENTRY_OBJECT:
    if (!object_is_in_pool (store, entry))
      return -EIO;
    return payload_check (entry_codec (entry),
                          pool_borrow (store->pool, entry_loc (entry)),
                          entry_payload_bytes (entry),
                          object_checksum (blkno, entry));
  case ENTRY_CLUSTER:
  case ENTRY_SHARED:
  case ENTRY_BACKING:
  case ENTRY_BAD:
    break;
  }
  return -EIO;
}

int
block_load_part (struct store *store, struct group_stripe *stripe,
                 struct context *context, uint64_t blkno, entry_t entry,
                 size_t offset, size_t count, void *buf)
{
  uint8_t whole[BLOCK_BYTES];
  int r;

  if (count == BLOCK_BYTES)
    return block_load (store, stripe, context, blkno, entry, buf);
  if (entry_same_is_sound (entry) || entry == entry_hole ()) {
    fill_pattern (buf, count,
                  entry == entry_hole () ? 0 : entry_pattern (entry), offset);
    return 0;
  }
  r = block_load (store, stripe, context, blkno, entry, whole);
  if (r == 0)
    memcpy (buf, whole + offset, count);
  return r;
}

/* A part of a block that is to be changed; data == NULL: to zeros. */
struct part {
  uint64_t blkno;
  size_t offset, count;
  const void *data;
};

/* Under the group lock: load, change, store.  Where there is no room it may
 * go `in_place`.  *drop: what the caller frees after it has let go of the
 * lock.
 */
static int
modify_locked (struct store *store, struct group_stripe *stripe,
               struct context *context, const struct part *part, bool in_place,
               entry_t *drop)
{
  const entry_t old = block_table_load (&store->table, part->blkno);
  struct prepared prepared;
  uint8_t block[BLOCK_BYTES];
  int r;

  *drop = entry_hole ();
  if (part->data == NULL && entry_is_zero (old))
    return 0;
  r = block_load (store, stripe, context, part->blkno, old, block);
  if (r < 0)
    return r;
  if (part->data != NULL)
    memcpy (block + part->offset, part->data, part->count);
  else
    memset (block + part->offset, 0, part->count);

  block_prepare (context, 0, part->blkno, block, &prepared);
  if (in_place)
    r = block_store_in_place (store, stripe, part->blkno, &prepared, drop);
  else {
    r = block_place (store, part->blkno, &prepared);
    if (r == 0) {
      r = block_publish (store, stripe, part->blkno, prepared.entry, drop);
      if (r < 0)
        *drop = prepared.entry;
    }
  }
  if (r == 0)
    group_count (stripe, COUNT_PARTIAL_WRITES, 1);
  return r;
}

static int
modify (struct store *store, struct context *context, const struct part *part,
        bool in_place)
{
  struct group_stripe *stripe = stripe_of (store, part->blkno);
  entry_t drop;
  int r;

  lock_acquire (&stripe->lock);
  r = modify_locked (store, stripe, context, part, in_place, &drop);
  lock_release (&stripe->lock);
  block_drop (store, drop);
  return r;
}

int
block_write_part (struct store *store, uint64_t blkno, size_t offset,
                  size_t count, const void *data)
{
  const struct part part = { blkno, offset, count, data };
  struct context *context = borrow_context (store);
  struct room room = room_begin (store);
  int r;

  do
    r = modify (store, context, &part, false);
  while (r == -ENOSPC && room_make (store, &room));
  if ((r == -ENOSPC || r == -ENOMEM) &&
      modify (store, context, &part, true) == 0)
    r = 0;
  return_context (store, context);
  return r;
}
