/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The block table: one entry a block, one word a region of 512 blocks,
 * whose entries fill one page of the table.
 *
 * An entry changes only under its group's lock (the caller's business).
 * Code without the lock may load one, as a hint.
 *
 * A region word says whether the region's page of the table is resident,
 * and how many of its entries are no HOLE:
 *
 *     0               not resident: all are HOLE, nobody touches the page
 *     RESIDENT | n    resident, n live entries
 *     BUSY            somebody makes it resident, or purges it; wait
 *
 *        0 --(first writer)--> BUSY --> RESIDENT | 1
 *        RESIDENT | 0 --(who counted out last)--> BUSY --> 0
 *
 * A writer counts itself in before it stores an entry, and a trim stores
 * HOLE before it counts out, so RESIDENT | 0 means that no entry is live
 * nor about to be: the page may go.  Two groups share a page and its last
 * trim must not race with a first write; this is what keeps an acknowledged
 * write from being purged.
 */

#ifndef ZMEM_BLOCK_TABLE_H
#define ZMEM_BLOCK_TABLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "entry.h"
#include "pages.h"

#define REGION_SHIFT 9
#define REGION_BLOCKS ((uint64_t) 1 << REGION_SHIFT)
static_assert (REGION_BLOCKS * sizeof (entry_t) == PAGE_BYTES,
               "a region's entries fill a page");

#define REGION_RESIDENT (UINT32_C (1) << 31)
#define REGION_BUSY (UINT32_C (1) << 30)
#define REGION_COUNT_MASK ((UINT32_C (1) << 10) - 1)

typedef uint32_t region_t;

struct block_table {
  struct pages *pages;
  uint64_t nr_blocks;
  region_t nr_regions;
  _Atomic entry_t *entries;
  _Atomic uint32_t *regions;    /* resident from the start: 2 MiB a TiB */
  _Atomic uint64_t nr_resident; /* regions */
  bool pinned;                  /* all of it resident, from the start on */
  bool active;
};

extern int block_table_reserve (struct block_table *table, struct pages *pages,
                                uint64_t nr_blocks);
/* `pinned` is to be set, if at all, between the two. */
extern int block_table_activate (struct block_table *table);
extern void block_table_release (struct block_table *table);

/* Address space that a table takes. */
extern uint64_t block_table_address_bytes (uint64_t nr_blocks);
/* Bytes that the entries take, where all are resident. */
extern uint64_t block_table_entries_bytes (uint64_t nr_blocks);
/* Bytes that the region words take. */
extern uint64_t block_table_region_bytes (uint64_t nr_blocks);
/* Bytes resident, region words included. */
extern uint64_t block_table_resident (struct block_table *table);

static inline region_t
region_of (uint64_t blkno)
{
  return blkno >> REGION_SHIFT;
}

static inline uint32_t
block_table_region (const struct block_table *table, region_t region)
{
  return atomic_load_explicit (&table->regions[region], memory_order_acquire);
}

/* Live entries of a region: a hint, unless nothing else runs. */
static inline unsigned
block_table_region_live (const struct block_table *table, region_t region)
{
  return block_table_region (table, region) & REGION_COUNT_MASK;
}

/* Load an entry: under its group's lock the truth, else a hint.  Without the
 * lock the page may be purged between the two loads; it then reads as HOLE.
 * (Private memory maps its zero page for that.  A table in a file would get
 * a page that nobody has charged: there, look at the word once more.)
 */
static inline entry_t
block_table_load (const struct block_table *table, uint64_t blkno)
{
  if (!(block_table_region (table, region_of (blkno)) & REGION_RESIDENT))
    return entry_hole ();
  return atomic_load_explicit (&table->entries[blkno], memory_order_acquire);
}

/* Under the group's lock: replace `old`, which is what the entry holds, by
 * `new`, with one store.  Fails (-ENOSPC, -ENOMEM: no page for the table)
 * only where a HOLE becomes something else; then nothing has changed.
 */
extern int block_table_publish (struct block_table *table, uint64_t blkno,
                                entry_t old, entry_t new);

#endif /* ZMEM_BLOCK_TABLE_H */
