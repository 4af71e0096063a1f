/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The block table; see block-table.h.
 */

#include <config.h>

#include <assert.h>
#include <sched.h>
#include <string.h>

#include "block-table.h"

static size_t
entries_bytes (const struct block_table *table)
{
  return table->nr_regions * PAGE_BYTES;
}

uint64_t
block_table_entries_bytes (uint64_t nr_blocks)
{
  return (nr_blocks + REGION_BLOCKS - 1) / REGION_BLOCKS * PAGE_BYTES;
}

uint64_t
block_table_region_bytes (uint64_t nr_blocks)
{
  const uint64_t nr_regions = (nr_blocks + REGION_BLOCKS - 1) / REGION_BLOCKS;

  return pages_round_up (nr_regions * sizeof (uint32_t));
}

uint64_t
block_table_address_bytes (uint64_t nr_blocks)
{
  const uint64_t nr_regions = (nr_blocks + REGION_BLOCKS - 1) / REGION_BLOCKS;

  return nr_regions * PAGE_BYTES + block_table_region_bytes (nr_blocks);
}

int
block_table_reserve (struct block_table *table, struct pages *pages,
                     uint64_t nr_blocks)
{
  void *entries, *regions;
  int r;

  memset (table, 0, sizeof *table);
  table->pages = pages;
  table->nr_blocks = nr_blocks;
  table->nr_regions = (nr_blocks + REGION_BLOCKS - 1) / REGION_BLOCKS;
  r = pages_reserve (pages, entries_bytes (table), &entries);
  if (r < 0)
    return r;
  r = pages_reserve (pages, block_table_region_bytes (nr_blocks), &regions);
  if (r < 0) {
    pages_release (pages, entries, entries_bytes (table));
    return r;
  }
  table->entries = entries;
  table->regions = regions;
  return 0;
}

static int
make_all_resident (struct block_table *table)
{
  const int r = pages_populate (table->pages, (void *) table->entries,
                                entries_bytes (table));

  if (r < 0)
    return r;
  for (region_t i = 0; i < table->nr_regions; i++)
    atomic_store_explicit (&table->regions[i], REGION_RESIDENT,
                           memory_order_relaxed);
  atomic_store (&table->nr_resident, table->nr_regions);
  return 0;
}

int
block_table_activate (struct block_table *table)
{
  const uint64_t region_bytes = block_table_region_bytes (table->nr_blocks);
  int r = pages_activate (table->pages, (void *) table->entries,
                          entries_bytes (table));

  if (r == 0)
    r = pages_activate (table->pages, (void *) table->regions, region_bytes);
  if (r == 0)
    r = pages_populate (table->pages, (void *) table->regions, region_bytes);
  table->active = r == 0;
  if (r == 0 && table->pinned)
    r = make_all_resident (table);
  return r;
}

uint64_t
block_table_resident (struct block_table *table)
{
  return atomic_load (&table->nr_resident) * PAGE_BYTES +
         (table->active ? block_table_region_bytes (table->nr_blocks) : 0);
}

void
block_table_release (struct block_table *table)
{
  if (table->entries == NULL)
    return;
  pages_uncharge (table->pages, block_table_resident (table));
  pages_release (table->pages, (void *) table->entries, entries_bytes (table));
  pages_release (table->pages, (void *) table->regions,
                 block_table_region_bytes (table->nr_blocks));
  table->entries = NULL;
}

static void *
region_page (struct block_table *table, region_t region)
{
  return (char *) table->entries + region * PAGE_BYTES;
}

/* 0 -> BUSY -> RESIDENT | 1.  The caller has seen 0. */
static int
make_region_resident (struct block_table *table, region_t region)
{
  const int r =
    pages_populate (table->pages, region_page (table, region), PAGE_BYTES);

  if (r < 0) {
    atomic_store (&table->regions[region], 0);
    return r;
  }
  atomic_fetch_add (&table->nr_resident, 1);
  atomic_store (&table->regions[region], REGION_RESIDENT | 1);
  return 0;
}

static int
count_in (struct block_table *table, region_t region)
{
  _Atomic uint32_t *word = &table->regions[region];
  uint32_t seen = atomic_load (word);

  for (;;) {
    if (seen & REGION_BUSY) {
      sched_yield (); /* for one madvise of one page */
      seen = atomic_load (word);
    }
    else if (seen == 0) {
      if (atomic_compare_exchange_weak (word, &seen, REGION_BUSY))
        return make_region_resident (table, region);
    }
    else if (atomic_compare_exchange_weak (word, &seen, seen + 1))
      return 0;
  }
}

/* RESIDENT | 0 -> BUSY -> 0, unless a writer was faster. */
static void
purge_region (struct block_table *table, region_t region)
{
  uint32_t expected = REGION_RESIDENT;

  if (table->pinned)
    return;
  if (!atomic_compare_exchange_strong (&table->regions[region], &expected,
                                       REGION_BUSY))
    return;
  if (pages_purge (table->pages, region_page (table, region), PAGE_BYTES) < 0) {
    atomic_store (&table->regions[region], REGION_RESIDENT);
    return;
  }
  atomic_fetch_sub (&table->nr_resident, 1);
  atomic_store (&table->regions[region], 0);
}

static void
count_out (struct block_table *table, region_t region)
{
  const uint32_t before = atomic_fetch_sub (&table->regions[region], 1);

  assert (before & REGION_RESIDENT);
  assert ((before & REGION_COUNT_MASK) > 0);
  if ((before & REGION_COUNT_MASK) == 1)
    purge_region (table, region);
}

int
block_table_publish (struct block_table *table, uint64_t blkno, entry_t old,
                     entry_t new)
{
  if (old == new)
    return 0;
  if (old == entry_hole ()) {
    const int r = count_in (table, region_of (blkno));

    if (r < 0)
      return r;
  }
  assert (atomic_load (&table->entries[blkno]) == old);
  atomic_store_explicit (&table->entries[blkno], new, memory_order_release);
  if (new == entry_hole ())
    count_out (table, region_of (blkno));
  return 0;
}
