/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One block: what it takes to load and to store it.
 *
 * Storing has steps, so that each can happen where it costs least:
 *
 *     block_prepare   what is it?  encode it           context, no lock
 *     block_place     an object for it, copied in      no lock needed
 *     block_publish   the entry, one atomic store      group lock
 *     block_drop      free what the entry pointed at   no lock needed
 *
 * A block that is placed but not published is in transit: its object's
 * owner is set, but the owner's entry does not point at it, and so the
 * compactor leaves it alone.
 *
 * Where there is no room for an object, block_store_in_place stores it in
 * the slot that the block already has.
 */

#ifndef ZMEM_BLOCK_H
#define ZMEM_BLOCK_H

#include "store-private.h"

/* A block's new content. */
struct prepared {
  entry_t entry;          /* SAME: complete; OBJECT: from placing on */
  struct payload payload; /* OBJECT only */
};

extern void block_prepare (struct context *context, unsigned scratch_idx,
                           uint64_t blkno, const void *data,
                           struct prepared *prepared);

/* Fills in prepared->entry.  -ENOSPC, -ENOMEM: no object, nothing done. */
extern int block_place (struct store *store, uint64_t blkno,
                        struct prepared *prepared);

/* Group lock held.  *old is what block_drop is to be called with after the
 * lock is let go.  On an error nothing has changed, and the new entry is
 * what has to be dropped.
 */
extern int block_publish (struct store *store, struct group_stripe *stripe,
                          uint64_t blkno, entry_t new, entry_t *old);

/* Free the object of an entry that is no longer, or never was, published, and
 * let the worker know.
 */
extern void block_drop (struct store *store, entry_t entry);

/* Group lock held: store it without any more room.  A payload goes into the
 * slot that the block already has, by way of the bounce slot, never torn; SAME
 * needs none where the block is no HOLE.  *old is what block_drop is to be
 * called with.  -ENOSPC: neither is so; nothing has changed.
 */
extern int block_store_in_place (struct store *store,
                                 struct group_stripe *stripe, uint64_t blkno,
                                 const struct prepared *prepared, entry_t *old);

/* Group lock held: the block's content, BLOCK_BYTES.  -EIO: damaged.
 * `context` may be NULL; -EAGAIN: this block needs one.
 */
extern int block_load (struct store *store, struct group_stripe *stripe,
                       struct context *context, uint64_t blkno, entry_t entry,
                       void *buf);

/* Group lock held: is what the block has in memory undamaged?  By checksums
 * alone, no context is needed.  0, or -EIO.
 */
extern int block_check (struct store *store, uint64_t blkno, entry_t entry);

/* The same as block_load for [offset, offset + count) of the block. */
extern int block_load_part (struct store *store, struct group_stripe *stripe,
                            struct context *context, uint64_t blkno,
                            entry_t entry, size_t offset, size_t count,
                            void *buf);

/* Read-modify-write of a part of a block.  data == NULL: zeros.  No lock
 * held.
 */
extern int block_write_part (struct store *store, uint64_t blkno, size_t offset,
                             size_t count, const void *data);

/* Does the entry read as zeros from end to end? */
static inline bool
entry_is_zero (entry_t entry)
{
  return entry == entry_hole () || entry == entry_same (0);
}

#endif /* ZMEM_BLOCK_H */
