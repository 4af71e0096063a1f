/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A compactor to test with; see compact-fixture.h.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compact-fixture.h"
#include "policy.h"
#include "probe.h"

#define NR_MUTEXES 64

struct compactor compactor;
struct item *items;
struct victim *victims;
uint64_t live_bytes;
struct rng rng;
char situation[160];

uint64_t nr_moves;
unsigned busy_once_in;
struct rng busy_rng;
bool alone;
uint64_t held_before;

static uint32_t *free_items; /* numbers, as a stack */
static size_t nr_free_items;
static pthread_mutex_t mutexes[NR_MUTEXES];
static uint64_t next_age;
static uint64_t copied_bytes; /* counted by the one who moves */

/*--------------------------------------------------------------------*/
/* Owners. */

pthread_mutex_t *
mutex_of (size_t item)
{
  return &mutexes[item % NR_MUTEXES];
}

static void
check_move (owner_t owner, zs_loc from, zs_loc to)
{
  const size_t bytes = pool_slot_bytes (pool, from);

  if (pool_slot_bytes (pool, to) != bytes)
    test_note_failure ("%s: moved from %zu to %zu bytes", situation, bytes,
                       pool_slot_bytes (pool, to));
  if (to >> LOC_PER_ZSPAGE_SHIFT == from >> LOC_PER_ZSPAGE_SHIFT && to >= from)
    test_note_failure ("%s: moved up within a zspage", situation);
  /* It takes the class lock, so nobody may hold that now. */
  if (pool_owner (pool, to) != owner)
    test_note_failure ("%s: the target belongs to %x, not to %x", situation,
                       pool_owner (pool, to), owner);
  if (alone && pages_held (&pages) > held_before)
    test_note_failure ("%s: compaction raised held", situation);
}

static enum move_result
move_locked (struct item *item, owner_t owner, zs_loc from, zs_loc to,
             uint32_t *copied)
{
  const size_t bytes = pool_slot_bytes (pool, from);

  if (!item->live || item->object.loc != from)
    return MOVE_IN_TRANSIT;
  if (item->stays != MOVE_DONE)
    return item->stays;
  if (busy_once_in != 0 && rng_once_in (&busy_rng, busy_once_in))
    return MOVE_BUSY;
  check_move (owner, from, to);
  memcpy (pool_borrow (pool, to), pool_borrow (pool, from), bytes);
  item->object.loc = to;
  memset (pool_borrow (pool, from), 0xdd, bytes);
  *copied = (uint32_t) bytes;
  ++nr_moves;
  copied_bytes += bytes;
  return MOVE_DONE;
}

static enum move_result
move_item (void *opaque, owner_t owner, zs_loc from, zs_loc to,
           uint32_t *copied)
{
  enum move_result result;

  if (opaque != &compactor || owner >= MAX_ITEMS) {
    test_note_failure ("%s: move of %x", situation, owner);
    return MOVE_IN_TRANSIT;
  }
  if (pthread_mutex_trylock (mutex_of (owner)) != 0)
    return MOVE_BUSY;
  result = move_locked (&items[owner], owner, from, to, copied);
  pthread_mutex_unlock (mutex_of (owner));
  return result;
}

/* A hint: the object may be gone. */
static void
prefetch_item (void *opaque, owner_t owner, zs_loc from)
{
  (void) opaque;
  (void) from;
  if (owner >= MAX_ITEMS)
    test_note_failure ("%s: prefetch of %x", situation, owner);
}

static const struct compact_ops ops = {
  .move = move_item,
  .prefetch = prefetch_item,
};

/*--------------------------------------------------------------------*/
/* The world: a pool, a compactor, items. */

void
open_world (uint64_t limit, uint64_t (*now_ns) (void))
{
  open_pool (ARENA_BYTES, limit);
  compactor_init (&compactor, pool, &ops, &compactor, now_ns);
  items = calloc (MAX_ITEMS, sizeof items[0]);
  free_items = calloc (MAX_ITEMS, sizeof free_items[0]);
  victims = calloc (MAX_ITEMS, sizeof victims[0]);
  ck_assert (items != NULL && free_items != NULL && victims != NULL);
  for (nr_free_items = 0; nr_free_items < MAX_ITEMS; ++nr_free_items)
    free_items[nr_free_items] = (uint32_t) (MAX_ITEMS - 1 - nr_free_items);
  for (unsigned i = 0; i < NR_MUTEXES; ++i)
    pthread_mutex_init (&mutexes[i], NULL);
  live_bytes = next_age = nr_moves = copied_bytes = 0;
  busy_once_in = 0;
  alone = true;
}

void
close_world (void)
{
  compactor_destroy (&compactor);
  close_pool ();
  free (items);
  free (free_items);
  free (victims);
}

size_t
reserve_items (size_t nr)
{
  const size_t first = MAX_ITEMS - nr_free_items;

  nr_free_items -= nr;
  return first;
}

int
give_object (size_t i, uint32_t bytes, uint64_t age)
{
  struct object object;
  struct shadow one = {
    .objects = &object,
    .max = 1,
    .next_tag = age << 32 | i,
  };
  const int r = alloc_object (&one, bytes);

  if (r < 0)
    return r;
  pthread_mutex_lock (mutex_of (i));
  items[i] = (struct item) {
    .object = object,
    .live = true,
    .stays = MOVE_DONE,
  };
  pthread_mutex_unlock (mutex_of (i));
  return 0;
}

void
take_object (size_t i)
{
  struct object object;
  struct shadow one = { .objects = &object, .nr = 1, .max = 1 };

  pthread_mutex_lock (mutex_of (i));
  object = items[i].object;
  items[i].live = false;
  pthread_mutex_unlock (mutex_of (i));
  free_object (&one, 0);
}

size_t
new_item (uint32_t bytes)
{
  size_t i;
  int r;

  ck_assert_uint_gt (nr_free_items, 0);
  i = free_items[nr_free_items - 1];
  r = give_object (i, bytes, ++next_age);
  if (r == -ENOSPC)
    return ITEM_NONE;
  CHECK_EQ (r, 0);
  --nr_free_items;
  live_bytes += pool_slot_bytes (pool, items[i].object.loc);
  return i;
}

void
drop_item (size_t i)
{
  live_bytes -= pool_slot_bytes (pool, items[i].object.loc);
  take_object (i);
  free_items[nr_free_items++] = (uint32_t) i;
}

size_t
any_item (void)
{
  for (;;) {
    const size_t i = rng_below (&rng, MAX_ITEMS);
    if (items[i].live)
      return i;
  }
}

size_t
list_victims (void)
{
  size_t nr = 0;

  for (size_t i = 0; i < MAX_ITEMS; ++i)
    if (items[i].live)
      victims[nr++] = (struct victim) {
        .loc = items[i].object.loc,
        .slot_bytes = (uint32_t) pool_slot_bytes (pool, items[i].object.loc),
        .age = items[i].object.tag >> 32,
        .id = i,
      };
  return nr;
}

void
free_by_pattern (enum frees frees)
{
  const size_t nr = list_victims ();

  choose_frees (&rng, frees, victims, nr);
  for (size_t i = 0; i < nr; ++i)
    if (victims[i].freed)
      drop_item (victims[i].id);
}

void
check_world (void)
{
  struct shadow shadow;

  shadow_init (&shadow, MAX_ITEMS - nr_free_items, 0);
  for (size_t i = 0; i < MAX_ITEMS; ++i)
    if (items[i].live)
      shadow.objects[shadow.nr++] = items[i].object;
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
  check_everything (&shadow);
  free (shadow.objects);
}

/*--------------------------------------------------------------------*/
/* Mixes of sizes. */

uint32_t few[NR_FEW];

void
choose_mix (enum mix mix)
{
  const struct size_class_table *table = size_class_table ();

  for (unsigned i = 0; i < NR_FEW; ++i)
    if (mix == MIX_JUST_ABOVE)
      few[i] = table->classes[table->nr_classes - 2 - rng_below (&rng, 60)]
                 .object_bytes +
               1;
    else if (mix == MIX_TWO && i >= 2)
      few[i] = few[i % 2];
    else
      few[i] = (uint32_t) rng_between (&rng, 200, 4032);
}

uint32_t
size_of_mix (enum mix mix)
{
  if ((int) mix < NR_SIZES)
    return choose_size (&rng, (enum sizes) mix);
  if (mix == MIX_ALL)
    return (uint32_t) rng_size (&rng, 4096);
  if (mix == MIX_RAW_AND_FEW && rng_once_in (&rng, 2))
    return 4096;
  if (mix == MIX_LARGEST)
    return (uint32_t) size_class_largest_compressed ();
  return few[rng_below (&rng, NR_FEW)];
}

uint64_t
bytes_of_mix (enum mix mix)
{
  const uint64_t bytes = (int) mix == SIZES_TINY    ? MIB / 2
                         : (int) mix == SIZES_SMALL ? 3 * MIB / 2
                         : (int) mix == SIZES_ALL   ? 12 * MIB
                                                    : 8 * MIB;

  return test_short () ? bytes / 2 : bytes;
}

void
fill (enum mix mix, uint64_t bytes)
{
  while (live_bytes < bytes)
    if (new_item (size_of_mix (mix)) == ITEM_NONE)
      break;
}

/*--------------------------------------------------------------------*/
/* What the objects would fit into. */

static uint64_t
pages_of (uint64_t bytes)
{
  return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

struct footprint
measure (void)
{
  struct footprint ret = { .nr_classes = 0 };

  for (unsigned i = 0; i < pool_nr_classes (pool); ++i) {
    struct pool_class_stats s;
    uint64_t minimal;

    pool_class_stats (pool, i, &s);
    CHECK_EQ (s.nr_isolated, 0);
    minimal = s.nr_inuse / s.objects_per_zspage *
                pages_of ((uint64_t) s.objects_per_zspage * s.object_bytes) +
              pages_of (s.nr_inuse % s.objects_per_zspage * s.object_bytes);
    /* Two parts of zspages may round up to a page less. */
    CHECK_LE (minimal, s.resident_bytes + PAGE_BYTES);
    if (minimal > s.resident_bytes)
      minimal = s.resident_bytes;
    CHECK_EQ (policy_reclaimable (&s), s.resident_bytes - minimal);
    ret.slot_bytes += s.nr_inuse * s.object_bytes;
    ret.resident_bytes += s.resident_bytes;
    ret.minimal_bytes += minimal;
    ret.nr_classes += s.nr_inuse > 0;
  }
  return ret;
}

/* A page a class and 2 %, the ends of zspages that no slot fits included; and
 * a few for runs so small that it would have cost more to move them.
 */
#define FEW_PAGES 16

uint64_t
resident_max (const struct footprint *footprint)
{
  return footprint->slot_bytes + footprint->slot_bytes / 50 +
         (footprint->nr_classes + FEW_PAGES) * PAGE_BYTES;
}

void
check_compact (void)
{
  const struct footprint now = measure ();
  struct pool_stats stats;

  pool_stats (pool, &stats);
  CHECK_EQ (stats.spare_bytes, 0);
  CHECK_EQ (stats.arena_bytes, now.resident_bytes);
  CHECK_LE (now.resident_bytes, resident_max (&now));
  CHECK_LE (now.resident_bytes - now.minimal_bytes, MIB);
  CHECK_EQ (compactor_reclaimable (&compactor),
            now.resident_bytes - now.minimal_bytes);
}

/*--------------------------------------------------------------------*/
/* Runs. */

const struct compact_goal everything = {
  .class_idx = -1,
  .thorough = true,
  .until_returned = UINT64_MAX,
};

struct before
look_before (void)
{
  struct before ret = {
    .nr_populates = probe_nr_calls (PROBE_POPULATE),
    .moves = nr_moves,
    .copied = copied_bytes,
  };

  pool_stats (pool, &ret.pool);
  ret.held = held_before = pages_held (&pages);
  return ret;
}

void
check_report (const struct before *before, const struct compact_report *report)
{
  struct pool_stats now;

  pool_stats (pool, &now);
  CHECK_EQ (report->moved_objects, nr_moves - before->moves);
  CHECK_EQ (report->copied_bytes, copied_bytes - before->copied);
  CHECK_EQ (report->returned_bytes, before->pool.arena_bytes - now.arena_bytes);
  CHECK_EQ (report->released_zspages, before->pool.nr_zspages - now.nr_zspages);
  CHECK_LE (pages_held (&pages) + report->returned_bytes, before->held);
  CHECK_EQ (probe_nr_calls (PROBE_POPULATE), before->nr_populates);
}

struct compact_report
run (const struct compact_goal *goal)
{
  const struct before before = look_before ();
  struct compact_report report;

  compactor_run (&compactor, goal, &report);
  check_report (&before, &report);
  return report;
}

struct compact_report
run_and_check (void)
{
  const struct compact_report first = run (&everything);
  struct compact_report second;

  CHECK_EQ (first.skipped_busy, 0);
  CHECK_LE (first.copied_bytes, first.returned_bytes);
  check_world ();
  check_compact ();
  second = run (&everything);
  CHECK_LE (second.copied_bytes, second.returned_bytes);
  CHECK_LE (second.returned_bytes, 256 * KIB);
  check_compact ();
  return first;
}

void
end_run (void)
{
  lock_acquire (&compactor.lock);
  compactor_end (&compactor);
  lock_release (&compactor.lock);
}
