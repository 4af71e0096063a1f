/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The store: its life, its settings, its statistics.  What a read or a
 * write does is in range.c (ranges to blocks) and block.c (one block).
 *
 * In address space a disk reserves 1/512 of its size for the table and, for
 * the arena, four times its size, up to what a location can name (8 TiB).
 * Without a compactor that can be used up: blocks rewritten in ever other
 * sizes, but for one in each zspage (seen after 24 such rounds, with held at
 * eleven times the disk, when nothing compacted).  Then there is no room, as
 * at the limit: compaction may find some, else ENOSPC, the old data whole.
 *
 * With a reserve (G8), reads, writes and trims take no memory of the system
 * while they run: the pool's grows ahead of them (reserve.c), by the worker;
 * and the table is resident from the start, unless it is so large that this
 * would take more than 1/64 of the limit: then a write to a region that has
 * no live block makes its page resident.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block.h"
#include "room.h"
#include "size-class.h"
#include "stats.h"

/* After `limit` was lowered the caller compacts for two seconds at most. */
#define LIMIT_RECLAIM_STEPS 200
#define LIMIT_RECLAIM_STEP_NS (10 * UINT64_C (1000000))

/* The reserve: 1/64 of the limit, and no more than that. */
#define RESERVE_SHIFT 6
#define RESERVE_MAX_BYTES (UINT64_C (8) << 20)

#define ARENA_PER_DISK 4
/* One zspage a class may be open beyond that. */
#define ARENA_EXTRA_BYTES (MAX_SIZE_CLASSES * ZSPAGE_BYTES)

static uint64_t
nr_blocks_of (uint64_t size_bytes)
{
  return (size_bytes + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
}

static unsigned
nr_contexts_of (const struct store_params *params)
{
  long n = params->nr_contexts;

  if (n == 0)
    n = 2 * sysconf (_SC_NPROCESSORS_ONLN);
  if (n < 2)
    n = 2;
  return n < MAX_CONTEXTS ? n : MAX_CONTEXTS;
}

/* At the most, a context of this codec takes that much besides scratch: what
 * was measured (codec-lz4.c, codec-zstd.c) and a third more.
 */
static uint64_t
state_bytes_bound (enum codec_id id)
{
  switch (id) {
  case CODEC_LZ4:
    return 32 << 10;
  case CODEC_ZSTD:
    return 512 << 10;
  default:
    return 0;
  }
}

static uint64_t
contexts_bytes_bound (unsigned nr_contexts, enum codec_id id)
{
  return (16 << 10) /* the pool of contexts itself */
         + nr_contexts *
             (CONTEXT_SCRATCH_BLOCKS * BLOCK_BYTES + state_bytes_bound (id));
}

static bool
pins_table (const struct store_params *params)
{
  return params->reserve &&
         block_table_entries_bytes (nr_blocks_of (params->size_bytes)) <=
           params->limit_bytes >> RESERVE_SHIFT;
}

static uint64_t
reserve_bytes_of (const struct store_params *params)
{
  const uint64_t bytes = params->limit_bytes >> RESERVE_SHIFT;

  if (!params->reserve)
    return 0;
  return bytes < RESERVE_MAX_BYTES ? bytes : RESERVE_MAX_BYTES;
}

static uint64_t
min_bytes_of (uint64_t size_bytes, bool pinned, unsigned nr_contexts,
              enum codec_id id)
{
  const uint64_t nr_blocks = nr_blocks_of (size_bytes);

  return sizeof (struct store) + pool_struct_bytes () + (256 << 10) +
         block_table_region_bytes (nr_blocks) +
         (pinned ? block_table_entries_bytes (nr_blocks) : 0) +
         contexts_bytes_bound (nr_contexts, id);
}

uint64_t
store_min_bytes (const struct store_params *params)
{
  return min_bytes_of (params->size_bytes, pins_table (params),
                       nr_contexts_of (params), params->codec.id);
}

uint64_t
store_min_limit (struct store *store)
{
  return min_bytes_of (store->size_bytes, store->table.pinned,
                       store->nr_contexts, store_codec (store).id);
}

/* See that memory can be made usable later, while errors are still seen. */
static int
probe_address_space (struct store *store, uint64_t arena_bytes)
{
  return pages_probe (&store->pages,
                      block_table_address_bytes (store->table.nr_blocks) +
                        pool_address_bytes (arena_bytes));
}

int
store_create (const struct store_params *params, struct store **ret)
{
  struct store *store;
  uint64_t arena_bytes;
  int r;

  if (params->size_bytes == 0 || params->size_bytes > STORE_MAX_BYTES)
    return -EINVAL;
  store = aligned_alloc (_Alignof(struct store), sizeof *store);
  if (store == NULL)
    return -ENOMEM;
  memset (store, 0, sizeof *store);
  group_locks_init (&store->locks);
  lock_init (&store->settings_lock, LOCK_SETTINGS);
  lock_init (&store->bounce_lock, LOCK_BOUNCE);
  verifier_init (&store->verifier, store);
  store->size_bytes = params->size_bytes;
  store->first_codec = params->codec;
  store->nr_contexts = nr_contexts_of (params);
  store->compact_manual = params->compact_manual;
  store->compact_rate = params->compact_rate;
  pages_init (&store->pages,
              params->pages_ops ? params->pages_ops : &pages_anonymous,
              params->limit_bytes);

  arena_bytes = params->size_bytes * ARENA_PER_DISK + ARENA_EXTRA_BYTES;
  store->table.nr_blocks = nr_blocks_of (params->size_bytes);
  r = probe_address_space (store, arena_bytes);
  if (r == 0)
    r = block_table_reserve (&store->table, &store->pages,
                             nr_blocks_of (params->size_bytes));
  if (r == 0)
    r = pool_create (&store->pages, arena_bytes, &store->pool);
  if (r == 0) {
    store->table.pinned = pins_table (params);
    pool_set_reserve (store->pool, reserve_bytes_of (params));
  }
  if (r == 0)
    r =
      context_pool_create (store->nr_contexts, size_class_largest_compressed (),
                           &store->contexts);
  if (r == 0)
    r = store_init_compaction (store);
  if (r < 0) {
    store_destroy (store);
    return r;
  }
  *ret = store;
  return 0;
}

/* The contexts' memory is charged before it is taken, by its bound, and
 * corrected when it is known.
 */
static int
set_codec_locked (struct store *store, const struct codec_spec *spec)
{
  uint64_t bound = 0;
  int r;

  ASSERT_LOCKED (&store->settings_lock);
  if (store->context_bytes == 0)
    bound = contexts_bytes_bound (store->nr_contexts, spec->id);
  else if (context_pool_needs_states (&store->codec, spec))
    bound = store->nr_contexts * state_bytes_bound (spec->id);
  r = pages_charge (&store->pages, bound);
  if (r < 0)
    return r;
  r = context_pool_set_codec (store->contexts, spec);
  if (r == 0)
    store->codec = *spec;

  const uint64_t before = store->context_bytes;
  store->context_bytes = context_pool_bytes (store->contexts);
  pages_uncharge (&store->pages, bound + before - store->context_bytes);
  return r;
}

int
store_set_codec (struct store *store, const struct codec_spec *spec)
{
  struct room room = room_begin (store);
  int r;

  do {
    LOCK_FOR_SCOPE (&store->settings_lock);

    r = set_codec_locked (store, spec);
  } while (r == -ENOSPC && room_make (store, &room));
  return r;
}

int
store_start (struct store *store)
{
  int r = pages_charge (&store->pages, sizeof *store + pool_struct_bytes ());

  clock_gettime (CLOCK_MONOTONIC, &store->start_time);
  if (r == 0)
    r = block_table_activate (&store->table);
  if (r == 0)
    r = pool_activate (store->pool);
  if (r == 0)
    r = store_set_codec (store, &store->first_codec);
  if (r == 0)
    r = pool_alloc (store->pool, BLOCK_BYTES, OWNER_NONE, &store->bounce);
  return r;
}

void
store_destroy (struct store *store)
{
  if (store == NULL)
    return;
  verifier_destroy (&store->verifier);
  store_end_compaction (store);
  context_pool_destroy (store->contexts);
  pool_destroy (store->pool);
  block_table_release (&store->table);
  group_locks_destroy (&store->locks);
  lock_destroy (&store->settings_lock);
  lock_destroy (&store->bounce_lock);
  free (store);
}

uint64_t
store_size_bytes (const struct store *store)
{
  return store->size_bytes;
}

/* The limit has been lowered, perhaps below what is held: give back what can
 * be, for a bounded time; the worker goes on where this ends.
 */
static void
reclaim_to_limit (struct store *store)
{
  const uint64_t limit = atomic_load (&store->pages.limit);
  uint64_t seen = compactor_returned (&store->compactor), held;

  while (pages_held (&store->pages) > limit &&
         pool_purge_one_unused (store->pool) > 0)
    ;
  if (store->compact_manual)
    return;
  for (unsigned i = 0; i < LIMIT_RECLAIM_STEPS; i++) {
    held = pages_held (&store->pages);
    if (held <= limit || !compactor_make_room (&store->compactor, held - limit,
                                               seen, LIMIT_RECLAIM_STEP_NS))
      break;
    seen = compactor_returned (&store->compactor);
  }
  /* Not a poke: no lock orders it after the limit. */
  compact_worker_wake (&store->worker);
}

int
store_set_limit (struct store *store, uint64_t limit_bytes)
{
  if (limit_bytes < store_min_limit (store))
    return -EINVAL;
  lock_acquire (&store->settings_lock);
  pages_set_limit (&store->pages, limit_bytes);
  lock_release (&store->settings_lock);
  reclaim_to_limit (store);
  return 0;
}

struct codec_spec
store_codec (struct store *store)
{
  LOCK_FOR_SCOPE (&store->settings_lock);

  return store->codec;
}

struct pool *
store_pool (struct store *store)
{
  return store->pool;
}

static uint64_t
seconds_since (const struct timespec *then)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec - then->tv_sec - (now.tv_nsec < then->tv_nsec);
}

static void
stats_of_blocks (struct store *store, struct stats *stats)
{
  uint64_t sums[NR_GROUP_COUNTERS];

  group_counters_sum (&store->locks, sums);
  stats->same_filled_blocks = sums[COUNT_SAME_FILLED];
  stats->raw_blocks = sums[COUNT_BY_CODEC + CODEC_RAW];
  stats->repeat_blocks = sums[COUNT_BY_CODEC + CODEC_REPEAT];
  stats->lz4_blocks = sums[COUNT_BY_CODEC + CODEC_LZ4];
  stats->zstd_blocks = sums[COUNT_BY_CODEC + CODEC_ZSTD];
  stats->live_blocks = stats->same_filled_blocks + stats->raw_blocks +
                       stats->repeat_blocks + stats->lz4_blocks +
                       stats->zstd_blocks;
  /* A block that changes its kind while it is counted may count twice. */
  if (stats->live_blocks > store->table.nr_blocks)
    stats->live_blocks = store->table.nr_blocks;
  /* Counters are added up while they move: never below zero. */
  stats->hole_blocks = store->table.nr_blocks > stats->live_blocks
                         ? store->table.nr_blocks - stats->live_blocks
                         : 0;
  stats->logical_bytes = stats->live_blocks * BLOCK_BYTES;
  stats->payload_bytes = sums[COUNT_PAYLOAD_BYTES];
  stats->payload_rounded_bytes = sums[COUNT_PAYLOAD_ROUNDED_BYTES];
  stats->checksum_failures = sums[COUNT_CHECKSUM_FAILURES];
  stats->verify_failures = sums[COUNT_VERIFY_FAILURES];
  stats->partial_writes = sums[COUNT_PARTIAL_WRITES];
  stats->in_place_writes = sums[COUNT_IN_PLACE_WRITES];
}

static void
stats_of_verifying (struct store *store, struct stats *stats)
{
  LOCK_FOR_SCOPE (&store->verifier.lock);

  stats->verify_runs = store->verifier.nr_runs;
}

static void
stats_of_memory (struct store *store, struct stats *stats)
{
  struct pool_stats pool;

  pool_stats (store->pool, &pool);
  stats->held_bytes = pages_held (&store->pages);
  stats->held_highest_bytes = atomic_load (&store->pages.highest);
  stats->limit_bytes = atomic_load (&store->pages.limit);
  stats->arena_bytes = pool.arena_bytes;
  /* Two counters are read while both move: never below zero. */
  stats->metadata_bytes = stats->held_bytes > pool.arena_bytes
                            ? stats->held_bytes - pool.arena_bytes
                            : 0;
  stats->live_regions = atomic_load (&store->table.nr_resident);
  stats->spare_bytes = pool.spare_bytes;
  stats->reserve_bytes = pool.primed_bytes;
  stats->zspages = pool.nr_zspages;
  stats->zspages_released = pool.nr_zspages_released;
  stats->pages_populated = atomic_load (&store->pages.nr_populates);
  stats->pages_purged = atomic_load (&store->pages.nr_purges);
  stats->ratio_thousandths =
    stats->held_bytes ? stats->logical_bytes * 1000 / stats->held_bytes : 0;
}

static void
stats_of_compaction (struct store *store, struct stats *stats)
{
  struct compact_totals *totals = &store->compactor.totals;

  stats->reclaimable_bytes = compactor_reclaimable (&store->compactor);
  stats->fragmentation_thousandths =
    stats->arena_bytes == 0
      ? 0
      : stats->reclaimable_bytes * 1000 / stats->arena_bytes;
  stats->discarded_bytes = atomic_load (&store->discarded_bytes);
  stats->compact_runs = atomic_load (&totals->runs);
  stats->compact_moved_objects = atomic_load (&totals->moved_objects);
  stats->compact_copied_bytes = atomic_load (&totals->copied_bytes);
  stats->compact_returned_bytes = atomic_load (&totals->returned_bytes);
  stats->compact_released_zspages = atomic_load (&totals->released_zspages);
  stats->compact_skipped_objects = atomic_load (&totals->skipped_busy);
  stats->compact_running_microseconds =
    atomic_load (&totals->running_ns) / 1000;
  stats->compact_waited_writes = atomic_load (&store->nr_waited_writes);
}

void
store_stats (struct store *store, struct stats *stats)
{
  stats->size_bytes = store->size_bytes;
  stats_of_blocks (store, stats);
  stats_of_memory (store, stats);
  stats_of_compaction (store, stats);
  stats_of_verifying (store, stats);
  stats->uptime_seconds = seconds_since (&store->start_time);
  LOCK_FOR_SCOPE (&store->settings_lock);
  stats->context_bytes = store->context_bytes;
}

void *
store_payload_for_test (struct store *store, uint64_t blkno, uint32_t *bytes)
{
  const entry_t entry = block_table_load (&store->table, blkno);

  if (entry_kind (entry) != ENTRY_OBJECT)
    return NULL;
  *bytes = entry_payload_bytes (entry);
  return pool_borrow (store->pool, entry_loc (entry));
}
