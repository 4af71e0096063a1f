/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Extents: what of the disk is data, zeros or a hole, from the table alone.
 *
 * No lock is taken: entries are hints here, and a client that asks while it
 * writes gets one answer or the other.  A region without live entries is
 * one step, whatever its page of the table holds.
 */

#include <config.h>

#include "block.h"

/* Neighbours of one kind become one extent before they are reported. */
struct extent_run {
  uint64_t offset, end; /* bytes reported up to, and run up to */
  enum extent_kind kind;
  unsigned nr_reported, nr_max;
  store_extent_fn fn;
  void *opaque;
};

static enum extent_kind
kind_of_entry (entry_t entry)
{
  if (entry == entry_hole ())
    return EXTENT_HOLE;
  return entry == entry_same (0) ? EXTENT_ZERO : EXTENT_DATA;
}

static int
report_run (struct extent_run *run)
{
  int r;

  if (run->end == run->offset)
    return 0;
  r = run->fn (run->opaque, run->offset, run->end - run->offset, run->kind);
  run->offset = run->end;
  run->nr_reported++;
  return r;
}

/* [run->end, end) is of this kind. */
static int
extend_run (struct extent_run *run, uint64_t end, enum extent_kind kind)
{
  int r = 0;

  if (kind != run->kind)
    r = report_run (run);
  if (run->nr_reported < run->nr_max) {
    run->kind = kind;
    run->end = end;
  }
  return r;
}

int
store_extents (struct store *store, uint64_t count, uint64_t offset, bool one,
               store_extent_fn fn, void *opaque)
{
  const uint64_t end = offset + count;
  struct extent_run run = {
    .offset = offset,
    .end = offset,
    .kind = EXTENT_HOLE,
    .nr_max = one ? 1 : STORE_MAX_EXTENTS,
    .fn = fn,
    .opaque = opaque,
  };
  int r = 0;

  while (run.end < end && run.nr_reported < run.nr_max && r == 0) {
    const uint64_t blkno = run.end >> BLOCK_SHIFT;
    uint64_t next = blkno + 1;
    enum extent_kind kind = EXTENT_HOLE;

    if (block_table_region_live (&store->table, region_of (blkno)) == 0)
      next = (blkno | (REGION_BLOCKS - 1)) + 1;
    else
      kind = kind_of_entry (block_table_load (&store->table, blkno));
    next <<= BLOCK_SHIFT;
    r = extend_run (&run, next < end ? next : end, kind);
  }
  if (r == 0 && run.nr_reported < run.nr_max)
    r = report_run (&run);
  return r;
}
