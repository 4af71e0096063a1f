/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Ranges of bytes: read, write, trim and zero, cut into groups and blocks.
 *
 *      |  block  |  block  |  block  |  block  |
 *           ^------------------------------^
 *      part |      whole, by group    | part
 *
 * Whole blocks of a write are encoded and placed under no lock at all; the
 * group's lock is held once, for as many stores as there are blocks in the
 * group, and what the entries pointed at is freed after letting go of it.
 */

#include <config.h>

#include <errno.h>

#include "block.h"
#include "room.h"

static_assert (GROUP_BLOCKS <= CONTEXT_SCRATCH_BLOCKS,
               "a group's payloads fit a context's scratch");

static inline uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* The end of the group that a block is in, but no further than `end`. */
static inline uint64_t
group_end (uint64_t blkno, uint64_t end)
{
  return min_u64 ((blkno | (GROUP_BLOCKS - 1)) + 1, end);
}

/* Read [offset, offset + count), which lies within one group.  -EAGAIN: a
 * block of it needs a context.
 */
static int
read_group (struct store *store, struct context *context, char *buf,
            size_t count, uint64_t offset)
{
  struct group_stripe *stripe = stripe_of (store, offset >> BLOCK_SHIFT);

  LOCK_FOR_SCOPE (&stripe->lock);
  while (count > 0) {
    const uint64_t blkno = offset >> BLOCK_SHIFT;
    const size_t in_block = offset & (BLOCK_BYTES - 1);
    const size_t n = min_u64 (BLOCK_BYTES - in_block, count);
    const int r = block_load_part (store, stripe, context, blkno,
                                   block_table_load (&store->table, blkno),
                                   in_block, n, buf);

    if (r < 0)
      return r;
    buf += n;
    offset += n;
    count -= n;
  }
  return 0;
}

/* Most codecs decode without a context.  Where one is needed, read_group
 * says so, and with the group unlocked one is borrowed, for the rest of the
 * request: what a group holds is not known before it is locked.
 */
int
store_read (struct store *store, void *buf, uint64_t count, uint64_t offset)
{
  const uint64_t group_bytes = GROUP_BLOCKS * BLOCK_BYTES;
  struct context *context = NULL;
  char *p = buf;
  int r = 0;

  while (count > 0 && r == 0) {
    const uint64_t n =
      min_u64 (group_bytes - (offset & (group_bytes - 1)), count);

    r = read_group (store, context, p, n, offset);
    if (r == -EAGAIN && context == NULL) {
      context = borrow_context (store);
      r = read_group (store, context, p, n, offset);
    }
    p += n;
    offset += n;
    count -= n;
  }
  return_context (store, context);
  return r;
}

/* Publish the prepared blocks [blkno, blkno + n) of one group, and drop
 * what they replace.  On an error those from the failing one on are
 * dropped instead.  Returns how many were published.
 */
static unsigned
publish_group (struct store *store, uint64_t blkno, unsigned n,
               const struct prepared *prepared, int *ret)
{
  struct group_stripe *stripe = stripe_of (store, blkno);
  entry_t drop[GROUP_BLOCKS];
  unsigned nr_published = 0;
  int r = 0;

  lock_acquire (&stripe->lock);
  for (unsigned i = 0; i < n; i++) {
    if (r == 0)
      r = block_publish (store, stripe, blkno + i, prepared[i].entry, &drop[i]);
    if (r < 0)
      drop[i] = prepared[i].entry;
    else
      nr_published++;
  }
  lock_release (&stripe->lock);
  for (unsigned i = 0; i < n; i++)
    block_drop (store, drop[i]);
  *ret = r;
  return nr_published;
}

/* Write one block, for which there was no room a moment ago: let compaction
 * find some; else it may fit where the block is already.
 */
static int
write_at_limit (struct store *store, uint64_t blkno, const char *data)
{
  struct group_stripe *stripe = stripe_of (store, blkno);
  struct context *context = borrow_context (store);
  struct room room = room_begin (store);
  struct prepared prepared;
  int r;

  block_prepare (context, 0, blkno, data, &prepared);
  do {
    r = block_place (store, blkno, &prepared);
    if (r == 0)
      publish_group (store, blkno, 1, &prepared, &r);
  } while (r == -ENOSPC && room_make (store, &room));

  if (r == -ENOSPC || r == -ENOMEM) {
    entry_t drop;

    lock_acquire (&stripe->lock);
    if (block_store_in_place (store, stripe, blkno, &prepared, &drop) == 0)
      r = 0;
    lock_release (&stripe->lock);
    if (r == 0)
      block_drop (store, drop);
  }
  return_context (store, context);
  return r;
}

/* Write the whole blocks [blkno, blkno + n) of one group. */
static int
write_group (struct store *store, uint64_t blkno, unsigned n, const char *data)
{
  struct prepared prepared[GROUP_BLOCKS];
  struct context *context = borrow_context (store);
  unsigned nr_placed = 0, nr_written;
  int r;

  for (unsigned i = 0; i < n; i++)
    block_prepare (context, i, blkno + i, data + i * BLOCK_BYTES, &prepared[i]);
  while (nr_placed < n &&
         block_place (store, blkno + nr_placed, &prepared[nr_placed]) == 0)
    nr_placed++;
  return_context (store, context);

  nr_written = publish_group (store, blkno, nr_placed, prepared, &r);
  for (r = 0; nr_written < n && r == 0; nr_written++)
    r = write_at_limit (store, blkno + nr_written,
                        data + nr_written * BLOCK_BYTES);
  return r;
}

static int
write_whole (struct store *store, uint64_t first, uint64_t end,
             const char *data)
{
  int r = 0;

  while (first < end && r == 0) {
    const uint64_t stop = group_end (first, end);

    r = write_group (store, first, stop - first, data);
    data += (stop - first) * BLOCK_BYTES;
    first = stop;
  }
  return r;
}

/* Whole blocks [first, end) become `new`, HOLE or SAME; no payload is
 * looked at.
 */
static int
replace_group (struct store *store, uint64_t first, uint64_t end, entry_t new)
{
  struct group_stripe *stripe = stripe_of (store, first);
  entry_t drop[GROUP_BLOCKS];
  uint64_t discarded_bytes = 0;
  unsigned n = 0;
  int r = 0;

  lock_acquire (&stripe->lock);
  for (uint64_t blkno = first; blkno < end && r == 0; blkno++) {
    r = block_publish (store, stripe, blkno, new, &drop[n]);
    n += r == 0;
  }
  lock_release (&stripe->lock);
  for (unsigned i = 0; i < n; i++)
    if (entry_kind (drop[i]) == ENTRY_OBJECT)
      discarded_bytes += entry_payload_bytes (drop[i]);
  /* Before the worker can see what was freed. */
  if (discarded_bytes > 0)
    atomic_fetch_add_explicit (&store->discarded_bytes, discarded_bytes,
                               memory_order_relaxed);
  for (unsigned i = 0; i < n; i++)
    block_drop (store, drop[i]);
  return r;
}

/* SAME needs a page of the table where there is none. */
static int
replace_group_with_room (struct store *store, uint64_t first, uint64_t end,
                         entry_t new)
{
  struct room room = room_begin (store);
  int r;

  do
    r = replace_group (store, first, end, new);
  while (r == -ENOSPC && room_make (store, &room));
  return r;
}

static int
replace_whole (struct store *store, uint64_t first, uint64_t end, entry_t new)
{
  int r = 0;

  while (first < end && r == 0) {
    if (new == entry_hole () &&
        block_table_region_live (&store->table, region_of (first)) == 0) {
      first = min_u64 ((first | (REGION_BLOCKS - 1)) + 1, end);
      continue;
    }
    const uint64_t stop = group_end (first, end);
    r = replace_group_with_room (store, first, stop, new);
    first = stop;
  }
  return r;
}

/* A range of bytes as blocks: a part at each edge, whole ones between. */
struct cut {
  uint64_t head_blkno;
  size_t head_offset, head_bytes; /* head_bytes may be 0 */
  uint64_t first, end;            /* whole blocks [first, end) */
  size_t tail_bytes;              /* of block `end`; may be 0 */
};

static struct cut
cut_range (uint64_t count, uint64_t offset)
{
  struct cut cut = { 0 };

  cut.head_blkno = offset >> BLOCK_SHIFT;
  cut.head_offset = offset & (BLOCK_BYTES - 1);
  if (cut.head_offset != 0)
    cut.head_bytes = min_u64 (BLOCK_BYTES - cut.head_offset, count);
  offset += cut.head_bytes;
  count -= cut.head_bytes;
  cut.first = offset >> BLOCK_SHIFT;
  cut.end = cut.first + (count >> BLOCK_SHIFT);
  cut.tail_bytes = count & (BLOCK_BYTES - 1);
  return cut;
}

int
store_write (struct store *store, const void *buf, uint64_t count,
             uint64_t offset)
{
  const struct cut cut = cut_range (count, offset);
  const char *p = buf;
  int r = 0;

  if (cut.head_bytes > 0)
    r = block_write_part (store, cut.head_blkno, cut.head_offset,
                          cut.head_bytes, p);
  p += cut.head_bytes;
  if (r == 0)
    r = write_whole (store, cut.first, cut.end, p);
  p += (cut.end - cut.first) * BLOCK_BYTES;
  if (r == 0 && cut.tail_bytes > 0)
    r = block_write_part (store, cut.end, 0, cut.tail_bytes, p);
  return r;
}

/* As cut_range, but the disk's last block counts as whole where the range
 * covers all of it that there is.
 */
static struct cut
cut_to_discard (const struct store *store, uint64_t count, uint64_t offset)
{
  if (offset + count == store->size_bytes)
    count =
      ((store->size_bytes + BLOCK_BYTES - 1) & ~(uint64_t) (BLOCK_BYTES - 1)) -
      offset;
  return cut_range (count, offset);
}

static int
zero_edges (struct store *store, const struct cut *cut)
{
  int head = 0, tail = 0;

  /* Both, whatever becomes of the first: a trim keeps no error. */
  if (cut->head_bytes > 0)
    head = block_write_part (store, cut->head_blkno, cut->head_offset,
                             cut->head_bytes, NULL);
  if (cut->tail_bytes > 0)
    tail = block_write_part (store, cut->end, 0, cut->tail_bytes, NULL);
  return head < 0 ? head : tail;
}

int
store_trim (struct store *store, uint64_t count, uint64_t offset)
{
  const struct cut cut = cut_to_discard (store, count, offset);

  /* The whole blocks first: they make room for the edges.  A trim is a
   * hint, so an edge that cannot be zeroed stays as it is.
   */
  replace_whole (store, cut.first, cut.end, entry_hole ());
  zero_edges (store, &cut);
  return 0;
}

int
store_zero (struct store *store, uint64_t count, uint64_t offset,
            bool may_punch)
{
  const struct cut cut = cut_to_discard (store, count, offset);
  const int r = replace_whole (store, cut.first, cut.end,
                               may_punch ? entry_hole () : entry_same (0));

  return r < 0 ? r : zero_edges (store, &cut);
}
