/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The store's validator: the table is the truth; recount everything else
 * from it.
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "pool-check.h"

struct recount {
  struct store *store;
  char *error;
  size_t error_bytes;
  uint64_t counters[NR_ENTRY_COUNTERS];
  uint64_t nr_objects;
  uint64_t nr_resident; /* regions */
};

static int __attribute__ ((format (printf, 2, 3)))
fail (struct recount *recount, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (recount->error, recount->error_bytes, fmt, args);
  va_end (args);
  return -EIO;
}

static int
check_entry (struct recount *recount, uint64_t blkno, entry_t entry)
{
  struct store *store = recount->store;

  entry_account (recount->counters, entry, 1);
  if (entry_kind (entry) != ENTRY_OBJECT)
    return 0;
  recount->nr_objects++;
  if (pool_owner (store->pool, entry_loc (entry)) != blkno)
    return fail (recount, "block %lu: its object belongs to %u",
                 (unsigned long) blkno,
                 pool_owner (store->pool, entry_loc (entry)));
  if (pool_slot_bytes (store->pool, entry_loc (entry)) <
      entry_payload_bytes (entry))
    return fail (recount, "block %lu: its payload is larger than its slot",
                 (unsigned long) blkno);
  return 0;
}

static int
check_region (struct recount *recount, region_t region)
{
  struct block_table *table = &recount->store->table;
  const uint32_t word = block_table_region (table, region);
  uint64_t end = (region + UINT64_C (1)) << REGION_SHIFT;
  unsigned nr_live = 0;

  if (word == 0)
    return 0;
  if (word & REGION_BUSY)
    return fail (recount, "region %u is busy", region);
  recount->nr_resident++;
  if (end > table->nr_blocks)
    end = table->nr_blocks;
  for (uint64_t blkno = (uint64_t) region << REGION_SHIFT; blkno < end;
       blkno++) {
    const entry_t entry = block_table_load (table, blkno);
    const int r = check_entry (recount, blkno, entry);

    if (r < 0)
      return r;
    nr_live += entry != entry_hole ();
  }
  if (nr_live != (word & REGION_COUNT_MASK))
    return fail (recount, "region %u: %u live entries, its word says %u",
                 region, nr_live, word & REGION_COUNT_MASK);
  return 0;
}

static int
check_counters (struct recount *recount)
{
  uint64_t sums[NR_GROUP_COUNTERS];

  group_counters_sum (&recount->store->locks, sums);
  for (unsigned c = 0; c < NR_ENTRY_COUNTERS; c++)
    if (sums[c] != recount->counters[c])
      return fail (recount, "counter %u: the table has %lu, it says %lu", c,
                   (unsigned long) recount->counters[c],
                   (unsigned long) sums[c]);
  return 0;
}

static int
check_objects (struct recount *recount)
{
  struct pool *pool = recount->store->pool;
  uint64_t nr_inuse = 0;

  for (unsigned i = 0; i < pool_nr_classes (pool); i++) {
    struct pool_class_stats stats;

    pool_class_stats (pool, i, &stats);
    nr_inuse += stats.nr_inuse;
  }
  /* The bounce slot is nobody's block. */
  if (nr_inuse != recount->nr_objects + 1)
    return fail (recount, "%lu objects in the pool, the table has %lu",
                 (unsigned long) nr_inuse - 1,
                 (unsigned long) recount->nr_objects);
  return 0;
}

static int
check_held (struct recount *recount)
{
  struct store *store = recount->store;
  struct pool_stats pool;
  uint64_t held;

  if (recount->nr_resident != atomic_load (&store->table.nr_resident))
    return fail (recount, "%lu resident regions, the table says %lu",
                 (unsigned long) recount->nr_resident,
                 (unsigned long) atomic_load (&store->table.nr_resident));
  pool_stats (store->pool, &pool);
  held = sizeof *store + pool_struct_bytes () + store->context_bytes +
         pool.arena_bytes + pool.bookkeeping_bytes +
         block_table_resident (&store->table);
  if (held != pages_held (&store->pages))
    return fail (recount, "held is %lu, its parts add up to %lu",
                 (unsigned long) pages_held (&store->pages),
                 (unsigned long) held);
  return 0;
}

int
store_check (struct store *store, char *error, size_t error_bytes)
{
  struct recount recount = {
    .store = store,
    .error = error,
    .error_bytes = error_bytes,
  };
  int r = pool_check (store->pool, error, error_bytes);

  for (region_t i = 0; r == 0 && i < store->table.nr_regions; i++)
    r = check_region (&recount, i);
  if (r == 0)
    r = check_counters (&recount);
  if (r == 0)
    r = check_objects (&recount);
  if (r == 0)
    r = check_held (&recount);
  return r;
}
