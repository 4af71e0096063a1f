/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The compactor over a pool, against frees that an enemy would choose
 * (frees.h), busy owners, purges that fail, and threads that go on
 * allocating and freeing.
 *
 * Objects belong to items, which are their owners: item i's object says so
 * and lies where items[i] says.  Locks of items are striped, and leaves.  What
 * an object was moved from is overwritten at once, so whoever still believes
 * in it is found out.
 *
 * Asserted is what a run promises, in bytes and counts, never in time.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "compactor.h"
#include "frees.h"
#include "policy.h"
#include "pool-check.h"
#include "pool-fixture.h"
#include "probe.h"

#define NR_MUTEXES 64
#define MAX_ITEMS ((size_t) 1 << 17)
#define ITEM_NONE SIZE_MAX
#define STEPS_MAX 1000000       /* that a run takes: or it never ends */

/* Guard: its mutex. */
struct item {
  struct object object;
  bool live;
  enum move_result stays;       /* MOVE_DONE: it lets itself be moved */
};

static struct compactor compactor;
static struct item *items;
static uint32_t *free_items;    /* numbers, as a stack */
static size_t nr_free_items;
static struct victim *victims;
static pthread_mutex_t mutexes[NR_MUTEXES];
static uint64_t live_bytes;     /* of slots; no thread but the test's own */
static uint64_t next_age;
static struct rng rng;
static char situation[160];     /* what failed, for messages */

/* The compactor's calls, counted by the one who moves. */
static uint64_t nr_moves, copied_bytes, nr_refused;
static unsigned busy_once_in;   /* any object, any time; 0: never */
static struct rng busy_rng;
static bool alone;              /* no other thread: held cannot grow */
static uint64_t held_before;

#define CHECK(condition)                                                \
  ck_assert_msg (condition, "%s: not so: %s", situation, #condition)
#define CHECK_LE(a, b)                                                  \
  do {                                                                  \
    const uint64_t a_ = (a), b_ = (b);                                  \
    ck_assert_msg (a_ <= b_, "%s: %s = %" PRIu64 " > %s = %" PRIu64,    \
                   situation, #a, a_, #b, b_);                          \
  } while (0)
#define CHECK_EQ(a, b)                                                  \
  do {                                                                  \
    const uint64_t a_ = (a), b_ = (b);                                  \
    ck_assert_msg (a_ == b_, "%s: %s = %" PRIu64 ", %s = %" PRIu64,     \
                   situation, #a, a_, #b, b_);                          \
  } while (0)

/*--------------------------------------------------------------------*/
/* Owners. */

static pthread_mutex_t *
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
  if (pthread_mutex_trylock (mutex_of (owner)) != 0) {
    ++nr_refused;
    return MOVE_BUSY;
  }
  result = move_locked (&items[owner], owner, from, to, copied);
  pthread_mutex_unlock (mutex_of (owner));
  nr_refused += result != MOVE_DONE;
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
  .move = move_item, .prefetch = prefetch_item
};

/*--------------------------------------------------------------------*/
/* The world: a pool, a compactor, items. */

static void
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
  live_bytes = next_age = nr_moves = copied_bytes = nr_refused = 0;
  busy_once_in = 0;
  alone = true;
}

static void
close_world (void)
{
  compactor_destroy (&compactor);
  close_pool ();
  free (items);
  free (free_items);
  free (victims);
}

/* Give item `i` an object; any thread that owns the item. */
static int
give_object (size_t i, uint32_t bytes, uint64_t age)
{
  struct object object;
  struct shadow one = {
    .objects = &object, .max = 1, .next_tag = age << 32 | i
  };
  const int r = alloc_object (&one, bytes);

  if (r < 0)
    return r;
  pthread_mutex_lock (mutex_of (i));
  items[i] = (struct item) {
    .object = object, .live = true, .stays = MOVE_DONE
  };
  pthread_mutex_unlock (mutex_of (i));
  return 0;
}

static void
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

/* ITEM_NONE: over the limit. */
static size_t
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

static void
drop_item (size_t i)
{
  live_bytes -= pool_slot_bytes (pool, items[i].object.loc);
  take_object (i);
  free_items[nr_free_items++] = (uint32_t) i;
}

/* Any live one, of which there are enough that this ends. */
static size_t
any_item (void)
{
  for (;;) {
    const size_t i = rng_below (&rng, MAX_ITEMS);
    if (items[i].live)
      return i;
  }
}

/* All that live, as victims. */
static size_t
list_victims (void)
{
  size_t nr = 0;

  for (size_t i = 0; i < MAX_ITEMS; ++i)
    if (items[i].live)
      victims[nr++] = (struct victim) {
        .loc = items[i].object.loc,
        .slot_bytes = (uint32_t) pool_slot_bytes (pool, items[i].object.loc),
        .age = items[i].object.tag >> 32, .id = i
      };
  return nr;
}

static void
free_by_pattern (enum frees frees)
{
  const size_t nr = list_victims ();

  choose_frees (&rng, frees, victims, nr);
  for (size_t i = 0; i < nr; ++i)
    if (victims[i].freed)
      drop_item (victims[i].id);
}

/* Content, every structure, and the kernel's account. */
static void
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
/* What the objects would fit into. */

struct footprint {
  uint64_t slot_bytes;          /* of all objects */
  uint64_t resident_bytes, minimal_bytes;
  unsigned nr_classes;          /* with objects */
};

static uint64_t
pages_of (uint64_t bytes)
{
  return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static struct footprint
measure (void)
{
  struct footprint ret = { .nr_classes = 0 };

  for (unsigned i = 0; i < pool_nr_classes (pool); ++i) {
    struct pool_class_stats s;
    uint64_t minimal;

    pool_class_stats (pool, i, &s);
    CHECK_EQ (s.nr_isolated, 0);
    minimal = s.nr_inuse / s.objects_per_zspage
      * pages_of ((uint64_t) s.objects_per_zspage * s.object_bytes)
      + pages_of (s.nr_inuse % s.objects_per_zspage * s.object_bytes);
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

static uint64_t
resident_max (const struct footprint *footprint)
{
  return footprint->slot_bytes + footprint->slot_bytes / 50
    + (footprint->nr_classes + FEW_PAGES) * PAGE_BYTES;
}

/* After a run that met nobody busy. */
static void
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

static const struct compact_goal everything = {
  .class_idx = -1, .thorough = true, .until_returned = UINT64_MAX
};

struct before {
  struct pool_stats pool;
  uint64_t held, nr_populates, moves, copied;
};

static struct before
look_before (void)
{
  struct before ret = {
    .nr_populates = probe_nr_calls (PROBE_POPULATE), .moves = nr_moves,
    .copied = copied_bytes
  };

  pool_stats (pool, &ret.pool);
  ret.held = held_before = pages_held (&pages);
  return ret;
}

/* What it says is what happened. */
static void
check_report (const struct before *before,
              const struct compact_report *report)
{
  struct pool_stats now;

  pool_stats (pool, &now);
  CHECK_EQ (report->moved_objects, nr_moves - before->moves);
  CHECK_EQ (report->copied_bytes, copied_bytes - before->copied);
  CHECK_EQ (report->returned_bytes,
            before->pool.arena_bytes - now.arena_bytes);
  CHECK_EQ (report->released_zspages,
            before->pool.nr_zspages - now.nr_zspages);
  CHECK_LE (pages_held (&pages) + report->returned_bytes, before->held);
  CHECK_EQ (probe_nr_calls (PROBE_POPULATE), before->nr_populates);
}

static struct compact_report
run (const struct compact_goal *goal)
{
  const struct before before = look_before ();
  struct compact_report report;

  compactor_run (&compactor, goal, &report);
  check_report (&before, &report);
  return report;
}

/* All of it, twice, and everything that is promised. */
static struct compact_report
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

/*--------------------------------------------------------------------*/
/* Mixes of sizes. */

enum mix {
  MIX_ALL = NR_SIZES,           /* those before are enum sizes */
  MIX_FEW,                      /* eight sizes */
  MIX_JUST_ABOVE,               /* a byte more than a class holds */
  MIX_RAW_AND_FEW,
  MIX_TWO,                      /* two classes, much of each */
  MIX_LARGEST,                  /* of those that compress: odd pages */
  NR_MIXES
};

#define NR_FEW 8
static uint32_t few[NR_FEW];

static void
choose_mix (enum mix mix)
{
  const struct size_class_table *table = size_class_table ();

  for (unsigned i = 0; i < NR_FEW; ++i)
    if (mix == MIX_JUST_ABOVE)
      few[i] = table->classes[table->nr_classes - 2
                              - rng_below (&rng, 60)].object_bytes + 1;
    else if (mix == MIX_TWO && i >= 2)
      few[i] = few[i % 2];
    else
      few[i] = (uint32_t) rng_between (&rng, 200, 4032);
}

static uint32_t
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

static uint64_t
bytes_of_mix (enum mix mix)
{
  const uint64_t bytes = (int) mix == SIZES_TINY ? MIB
    : (int) mix == SIZES_SMALL ? 3 * MIB
    : (int) mix == SIZES_ALL ? 24 * MIB : 16 * MIB;

  return TEST_SANITIZED || test_quick () ? bytes / 3 : bytes;
}

static void
fill (enum mix mix, uint64_t bytes)
{
  while (live_bytes < bytes)
    if (new_item (size_of_mix (mix)) == ITEM_NONE)
      break;
}

/*--------------------------------------------------------------------*/
/* Patterns. */

/* Each pattern once, in any order, on a pool that is fresh for the first and
 * was compacted and filled up again for the next.
 */
START_TEST (test_patterns)
{
  const enum mix mix = (enum mix) _i;
  enum frees order[NR_FREES];

  rng_init (&rng, test_seed (), 100 + (uint64_t) _i);
  for (unsigned i = 0; i < NR_FREES; ++i) {
    const unsigned j = (unsigned) rng_below (&rng, i + 1);
    order[i] = order[j];
    order[j] = (enum frees) i;
  }
  for (unsigned i = 0; i < NR_FREES; ++i) {
    if (i % 4 == 0) {
      open_world (PAGES_NO_LIMIT, NULL);
      choose_mix (mix);
    }
    snprintf (situation, sizeof situation, "mix %d, %s, run %u", (int) mix,
              frees_names[order[i]], i % 4);
    fill (mix, bytes_of_mix (mix));
    free_by_pattern (order[i]);
    run_and_check ();
    if (i % 4 == 3 || i == NR_FREES - 1)
      close_world ();
    if (test_quick () && i == 3)
      break;
  }
}
END_TEST

/* Free, refill, free, refill, each time another way. */
START_TEST (test_sawtooth)
{
  const enum mix mix = (enum mix) _i;

  rng_init (&rng, test_seed (), 200 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, NULL);
  choose_mix (mix);
  for (unsigned round = 0; round < (test_quick () ? 1 : 3); ++round) {
    snprintf (situation, sizeof situation, "mix %d, sawtooth %u", (int) mix,
              round);
    for (unsigned tooth = 0; tooth < 6; ++tooth) {
      fill (mix, bytes_of_mix (mix));
      free_by_pattern ((enum frees) rng_below (&rng, NR_FREES));
    }
    run_and_check ();
  }
  close_world ();
}
END_TEST

/* A few frees and a compaction, again and again: runs that have little
 * to do, among zspages with pages that were purged before.
 */
START_TEST (test_wear_down)
{
  const enum mix mix = (enum mix) _i;

  rng_init (&rng, test_seed (), 250 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, NULL);
  choose_mix (mix);
  fill (mix, bytes_of_mix (mix) / 2);
  for (unsigned round = 0; round < (test_quick () ? 4 : 24); ++round) {
    const uint64_t before = live_bytes;

    snprintf (situation, sizeof situation, "mix %d, worn down %u", (int) mix,
              round);
    free_by_pattern (rng_once_in (&rng, 8)
                     ? (enum frees) rng_below (&rng, NR_FREES)
                     : FREES_RANDOM_10);
    while (live_bytes < before * 9 / 10)
      new_item (size_of_mix (mix));
    run_and_check ();
  }
  close_world ();
}
END_TEST

/* Sizes that grow, or shrink, from class to class; compacted at the end of
 * it, or all the time.
 */
START_TEST (test_drift)
{
  const bool shrink = _i % 2 != 0, often = _i / 2 != 0;
  const uint64_t bytes = bytes_of_mix (MIX_FEW);

  rng_init (&rng, test_seed (), 300 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, NULL);
  for (unsigned step = 0; step < (test_quick () ? 6 : 30); ++step) {
    const uint32_t low = 600 + 100 * (shrink ? 30 - step : step);
    const size_t nr = list_victims ();

    snprintf (situation, sizeof situation, "drift %d, step %u", _i, step);
    choose_frees (&rng, rng_once_in (&rng, 2) ? FREES_RANDOM_10
                  : FREES_RANDOM_50, victims, nr);
    for (size_t i = 0; i < nr; ++i)
      if (victims[i].freed)
        drop_item (victims[i].id);
    while (live_bytes < bytes)
      new_item ((uint32_t) rng_between (&rng, low, low + 150));
    if (often && step % 3 == 0)
      run_and_check ();
  }
  run_and_check ();
  close_world ();
}
END_TEST

/* Nothing to do is nothing done; nor with nothing there. */
START_TEST (test_nothing_to_do)
{
  struct compact_report report;

  rng_init (&rng, test_seed (), 400);
  open_world (PAGES_NO_LIMIT, NULL);
  snprintf (situation, sizeof situation, "empty");
  report = run (&everything);
  CHECK_EQ (report.moved_objects + report.returned_bytes, 0);
  CHECK_EQ (compactor_reclaimable (&compactor), 0);

  snprintf (situation, sizeof situation, "one object");
  new_item (1000);
  report = run (&everything);
  CHECK_EQ (report.moved_objects + report.returned_bytes, 0);

  snprintf (situation, sizeof situation, "full");
  for (unsigned i = 0; i < 640; ++i)
    new_item (4096);
  report = run (&everything);
  CHECK_EQ (report.moved_objects + report.returned_bytes, 0);
  check_world ();
  check_compact ();
  close_world ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Goals. */

static struct footprint
measure_class (unsigned class_idx)
{
  struct pool_class_stats s;

  pool_class_stats (pool, class_idx, &s);
  return (struct footprint) {
    .resident_bytes = s.resident_bytes,
    .minimal_bytes = s.resident_bytes - policy_reclaimable (&s)
  };
}

START_TEST (test_one_class)
{
  const struct size_class_table *table = size_class_table ();
  struct compact_goal goal = everything;
  uint64_t other;

  rng_init (&rng, test_seed (), 410);
  open_world (PAGES_NO_LIMIT, NULL);
  choose_mix (MIX_TWO);
  few[0] = 1000;
  few[1] = 3000;
  for (unsigned i = 2; i < NR_FEW; ++i)
    few[i] = few[i % 2];
  fill (MIX_TWO, bytes_of_mix (MIX_TWO));
  free_by_pattern (FREES_RANDOM_50);
  for (unsigned i = 0; i < 2; ++i) {
    const unsigned class_idx = size_class_of (table, few[i]);
    const unsigned other_idx = size_class_of (table, few[1 - i]);
    struct compact_report report;

    snprintf (situation, sizeof situation, "class %u", class_idx);
    goal.class_idx = (int) class_idx;
    other = measure_class (other_idx).resident_bytes;
    report = run (&goal);
    CHECK (report.moved_objects > 0);
    CHECK_LE (report.copied_bytes, report.returned_bytes);
    CHECK_EQ (measure_class (other_idx).resident_bytes, other);
    CHECK_LE (measure_class (class_idx).resident_bytes,
              measure_class (class_idx).minimal_bytes * 101 / 100
              + PAGE_BYTES);
    check_world ();
  }
  check_compact ();
  close_world ();
}
END_TEST

/* A run ends when it has returned, or left, so much. */
START_TEST (test_until)
{
  const uint64_t slack = 2 * ZSPAGE_BYTES;
  struct compact_goal goal = everything;
  struct compact_report report;
  uint64_t before, after, largest = 0;

  rng_init (&rng, test_seed (), 420);
  open_world (PAGES_NO_LIMIT, NULL);
  choose_mix (MIX_FEW);
  goal.thorough = _i != 0;
  fill (MIX_FEW, 12 * MIB);
  free_by_pattern (FREES_RANDOM_50);

  snprintf (situation, sizeof situation, "until returned");
  goal.until_returned = MIB;
  before = compactor_reclaimable (&compactor);
  report = run (&goal);
  after = compactor_reclaimable (&compactor);
  CHECK_LE (MIB, report.returned_bytes);
  CHECK_LE (report.returned_bytes, MIB + slack);
  CHECK_EQ (before - after, report.returned_bytes);
  check_world ();

  snprintf (situation, sizeof situation, "until reclaimable");
  goal.until_returned = UINT64_MAX;
  goal.until_reclaimable = 2 * MIB;
  CHECK_LE (2 * MIB + slack, after);
  for (unsigned i = 0; i < pool_nr_classes (pool); ++i) {
    const struct footprint class = measure_class (i);

    if (class.resident_bytes - class.minimal_bytes > largest)
      largest = class.resident_bytes - class.minimal_bytes;
  }
  run (&goal);
  after = compactor_reclaimable (&compactor);
  CHECK_LE (after, 2 * MIB);
  /* It looks at what is left when a class is done. */
  CHECK_LE (2 * MIB, after + slack + largest);
  check_world ();

  /* There already: nothing is done. */
  report = run (&goal);
  CHECK_EQ (report.moved_objects + report.returned_bytes, 0);
  close_world ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Busy objects. */

/* One object, in the emptiest zspage, never moves. */
START_TEST (test_one_busy)
{
  struct compact_report report;
  struct footprint now;
  uint64_t nr;
  zs_loc loc;
  size_t one = ITEM_NONE;

  rng_init (&rng, test_seed (), 500 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, NULL);
  snprintf (situation, sizeof situation, "one %s",
            _i == MOVE_BUSY ? "busy" : "in transit");
  for (unsigned i = 0; i < 640; ++i)
    new_item (4096);
  nr = list_victims ();
  choose_frees (&rng, FREES_A_THIRD, victims, nr);
  for (size_t i = 0; i < nr; ++i)
    if (victims[i].loc >> LOC_PER_ZSPAGE_SHIFT == 5) {
      victims[i].freed = one != ITEM_NONE;
      one = victims[i].freed ? one : victims[i].id;
    }
  for (size_t i = 0; i < nr; ++i)
    if (victims[i].freed)
      drop_item (victims[i].id);
  items[one].stays = (enum move_result) _i;
  loc = items[one].object.loc;

  report = run (&everything);
  CHECK_EQ (items[one].object.loc, loc);
  CHECK (report.moved_objects > 0);
  if (_i == MOVE_BUSY)
    CHECK (report.skipped_busy > 0);
  check_world ();
  now = measure ();
  CHECK_LE (now.resident_bytes, now.minimal_bytes + 4 * PAGE_BYTES);

  /* It can be freed, and so can all others. */
  drop_item (one);
  check_world ();
  run_and_check ();
  close_world ();
}
END_TEST

/* One object in each zspage, more than can be parked, does not move. */
START_TEST (test_busy_in_every_zspage)
{
  const uint64_t bytes = (COMPACT_PARKED_MAX + 24) * ZSPAGE_BYTES;
  size_t nr, nr_stay = 0;
  uint64_t zspage = UINT64_MAX;

  rng_init (&rng, test_seed (), 510 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, NULL);
  snprintf (situation, sizeof situation, "%s in every zspage",
            _i == MOVE_BUSY ? "busy" : "in transit");
  while (live_bytes < bytes)
    new_item (2500);
  free_by_pattern (FREES_RANDOM_50);
  nr = list_victims ();
  choose_frees (&rng, FREES_ALL_BUT_ANY, victims, nr);
  for (size_t i = 0; i < nr; ++i)
    if (!victims[i].freed
        && victims[i].loc >> LOC_PER_ZSPAGE_SHIFT != zspage) {
      items[victims[i].id].stays = (enum move_result) _i;
      zspage = victims[i].loc >> LOC_PER_ZSPAGE_SHIFT;
      ++nr_stay;
    }
  CHECK (nr_stay > COMPACT_PARKED_MAX);
  for (unsigned i = 0; i < 3; ++i) {
    const struct compact_report report = run (&everything);

    if (_i == MOVE_BUSY && i == 0)
      CHECK (report.skipped_busy > 0);
    measure ();                 /* nothing is isolated */
    check_world ();
  }
  for (size_t i = 0; i < MAX_ITEMS; ++i)
    items[i].stays = MOVE_DONE;
  run_and_check ();
  close_world ();
}
END_TEST

/* Every object is busy every other time: it takes a few runs more. */
START_TEST (test_half_busy)
{
  struct footprint now;
  unsigned nr_runs = 0;

  rng_init (&rng, test_seed (), 520 + (uint64_t) _i);
  rng_init (&busy_rng, test_seed (), 540 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, NULL);
  choose_mix (MIX_FEW);
  snprintf (situation, sizeof situation, "half busy");
  busy_once_in = 2;
  fill (MIX_FEW, bytes_of_mix (MIX_FEW));
  free_by_pattern (_i == 0 ? FREES_RANDOM_50 : FREES_RANDOM_90);
  do {
    const struct compact_report report = run (&everything);

    CHECK (nr_runs > 0 || report.skipped_busy > 0);
    CHECK (++nr_runs <= 12);
    now = measure ();
  } while (now.resident_bytes > resident_max (&now));
  check_world ();
  close_world ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Steps. */

static uint64_t fake_ns;

/* It never shows the same time twice. */
static uint64_t
fake_now_ns (void)
{
  return fake_ns += 1000;
}

static bool
step (uint64_t ns)
{
  bool more;

  held_before = pages_held (&pages);
  lock_acquire (&compactor.lock);
  more = compactor_step (&compactor, fake_ns + ns);
  lock_release (&compactor.lock);
  return more;
}

static void
begin (const struct compact_goal *goal)
{
  lock_acquire (&compactor.lock);
  compactor_begin (&compactor, goal);
  lock_release (&compactor.lock);
}

static void
end (void)
{
  lock_acquire (&compactor.lock);
  compactor_end (&compactor);
  lock_release (&compactor.lock);
}

/* In the smallest steps there are, it ends as if it had been one. */
START_TEST (test_small_steps)
{
  static const uint64_t steps_ns[] = { 1, 1001, 5001, 200000 };
  unsigned nr_steps = 1;
  struct before before;

  rng_init (&rng, test_seed (), 600 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, fake_now_ns);
  choose_mix (MIX_FEW);
  snprintf (situation, sizeof situation, "steps of %" PRIu64 " ns",
            steps_ns[_i]);
  fill (MIX_FEW, bytes_of_mix (MIX_FEW));
  free_by_pattern (FREES_RANDOM_50);
  before = look_before ();
  begin (&everything);
  while (step (steps_ns[_i]))
    CHECK (++nr_steps < STEPS_MAX);
  /* A step is a few batches, not the whole. */
  if (_i == 0)
    CHECK_LE ((nr_moves - before.moves) / (8 * POOL_MOVES_MAX), nr_steps);
  check_report (&before, &compactor.report);
  CHECK_LE (compactor.report.copied_bytes, compactor.report.returned_bytes);
  CHECK (!step (steps_ns[_i]));
  check_world ();
  check_compact ();
  close_world ();
}
END_TEST

/* Ended in the middle, again and again, with frees and allocations between
 * the steps: nothing is lost, nothing stays isolated.
 */
START_TEST (test_end_in_the_middle)
{
  const enum mix mix = _i % 2 != 0 ? MIX_FEW : MIX_TWO;
  const bool busy = _i / 2 != 0;
  const uint64_t bytes = bytes_of_mix (mix) / 2;

  rng_init (&rng, test_seed (), 620 + (uint64_t) _i);
  rng_init (&busy_rng, test_seed (), 640 + (uint64_t) _i);
  open_world (PAGES_NO_LIMIT, fake_now_ns);
  alone = false;                /* allocations go on */
  choose_mix (mix);
  busy_once_in = busy ? 3 : 0;
  for (unsigned round = 0; round < (test_quick () ? 8 : 60); ++round) {
    const unsigned nr_steps = (unsigned) rng_size (&rng, 400);

    snprintf (situation, sizeof situation, "round %u, %u steps", round,
              nr_steps);
    fill (mix, bytes);
    free_by_pattern (rng_once_in (&rng, 2) ? FREES_RANDOM_50
                     : FREES_ANY_SHARE);
    begin (&everything);
    for (unsigned i = 0; i < nr_steps && step (1); ++i)
      for (unsigned n = rng_below (&rng, 4); n > 0; --n)
        if (rng_once_in (&rng, 2))
          drop_item (any_item ());
        else
          new_item (size_of_mix (mix));
    if (rng_once_in (&rng, 4))
      begin (&everything);      /* that ends it as well */
    end ();
    CHECK (!step (1));
    measure ();
    check_world ();
  }
  busy_once_in = 0;
  alone = true;
  snprintf (situation, sizeof situation, "at last");
  free_by_pattern (FREES_RANDOM_50);
  run_and_check ();
  close_world ();
}
END_TEST

/* A zspage whose objects all go while it is isolated. */
START_TEST (test_free_everything_meanwhile)
{
  rng_init (&rng, test_seed (), 660);
  open_world (PAGES_NO_LIMIT, fake_now_ns);
  choose_mix (MIX_FEW);
  for (unsigned nr_steps = 1; nr_steps < 64; nr_steps += 5) {
    snprintf (situation, sizeof situation, "all freed after %u steps",
              nr_steps);
    fill (MIX_FEW, 4 * MIB);
    free_by_pattern (FREES_RANDOM_50);
    begin (&everything);
    for (unsigned i = 0; i < nr_steps && step (1); ++i)
      ;
    for (size_t i = 0; i < MAX_ITEMS; ++i)
      if (items[i].live)
        drop_item (i);
    if (nr_steps % 2 == 0)
      while (step (1))
        ;
    end ();
    check_world ();
    CHECK_EQ (measure ().resident_bytes, 0);
  }
  close_world ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Room for a writer. */

START_TEST (test_make_room)
{
  const uint64_t second = UINT64_C (1000000000);
  uint64_t seen, moves, before;
  unsigned nr_calls = 0;

  rng_init (&rng, test_seed (), 670);
  open_world (PAGES_NO_LIMIT, NULL);
  snprintf (situation, sizeof situation, "make room");
  choose_mix (MIX_FEW);
  fill (MIX_FEW, bytes_of_mix (MIX_FEW));
  free_by_pattern (FREES_RANDOM_50);

  before = held_before = pages_held (&pages);
  seen = compactor_returned (&compactor);
  CHECK (compactor_make_room (&compactor, 64 * KIB, seen, second));
  CHECK (compactor_returned (&compactor) > seen);
  CHECK (pages_held (&pages) < before);
  /* Somebody else has made room since it looked. */
  moves = nr_moves;
  CHECK (compactor_make_room (&compactor, 64 * KIB, seen, second));
  CHECK_EQ (nr_moves, moves);

  while (seen = compactor_returned (&compactor),
         compactor_make_room (&compactor, 64 * KIB, seen, second)) {
    CHECK (compactor_returned (&compactor) > seen);
    CHECK (++nr_calls < 100000);
  }
  end ();
  check_world ();
  CHECK_LE (measure ().resident_bytes, measure ().minimal_bytes + MIB);
  close_world ();
}
END_TEST

/* At the limit, all of which is fragmented: room for other sizes is found as
 * long as there is some.
 */
START_TEST (test_limit)
{
  const uint64_t limit = 8 * MIB;
  unsigned nr_refused_at_once = 0;

  rng_init (&rng, test_seed (), 680);
  open_world (limit, NULL);
  alone = false;
  snprintf (situation, sizeof situation, "limit");
  few[0] = 1500;
  for (unsigned i = 1; i < NR_FEW; ++i)
    few[i] = few[0];
  fill (MIX_FEW, UINT64_MAX);
  free_by_pattern (FREES_EVERY_SECOND);
  while (live_bytes < limit * 85 / 100) {
    const uint64_t seen = compactor_returned (&compactor);

    if (new_item (3100) != ITEM_NONE)
      continue;
    ++nr_refused_at_once;
    CHECK (compactor_make_room (&compactor, 4 * PAGE_BYTES, seen,
                                UINT64_C (1000000000)));
  }
  CHECK (nr_refused_at_once > 0);
  end ();
  check_world ();
  close_world ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Purges that fail. */

/* All but what a spare zspage makes differ. */
static void
check_content (void)
{
  char error[256] = "";

  ck_assert_msg (pool_check (pool, error, sizeof error) == 0, "%s: %s",
                 situation, error);
  CHECK_EQ (pages_held (&pages), probe_resident_bytes ());
  for (size_t i = 0; i < MAX_ITEMS; ++i)
    if (items[i].live) {
      const uint64_t *p = pool_borrow (pool, items[i].object.loc);
      const size_t words =
        pool_slot_bytes (pool, items[i].object.loc) / sizeof *p;
      const uint64_t first =
        items[i].object.tag * UINT64_C (0x9e3779b97f4a7c15);

      if (pool_owner (pool, items[i].object.loc) != i)
        test_note_failure ("%s: the object of item %zu is another's",
                           situation, i);
      for (size_t j = 0; j < words; ++j)
        if (p[j] != first + j) {
          test_note_failure ("%s: item %zu was overwritten", situation, i);
          break;
        }
    }
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

static void
fragment (uint64_t stream)
{
  rng_init (&rng, test_seed (), stream);
  open_world (PAGES_NO_LIMIT, NULL);
  choose_mix (MIX_FEW);
  fill (MIX_FEW, 3 * MIB);
  free_by_pattern (FREES_RANDOM_50);
}

START_TEST (test_nth_purge_fails)
{
  bool failed = true;

  for (unsigned nth = 1; failed; nth += test_quick () ? 5 : 1) {
    fragment (700);
    snprintf (situation, sizeof situation, "purge %u fails", nth);
    probe_fail_nth (PROBE_PURGE, nth);
    run (&everything);
    failed = probe_nr_failed () > 0;
    probe_fail_nth (PROBE_PURGE, 0);
    check_content ();
    run (&everything);
    check_world ();
    check_compact ();
    close_world ();
    CHECK (nth < 5000);
  }
}
END_TEST

START_TEST (test_every_purge_fails)
{
  fragment (710);
  snprintf (situation, sizeof situation, "every purge fails");
  probe_fail_all (PROBE_PURGE);
  for (unsigned i = 0; i < 3; ++i) {
    const struct compact_report report = run (&everything);
    CHECK_EQ (report.returned_bytes, 0);
    check_content ();
  }
  /* Frees and allocations go on. */
  free_by_pattern (FREES_ANY_SHARE);
  check_content ();
  fill (MIX_FEW, 2 * MIB);
  check_content ();
  probe_fail_nth (PROBE_PURGE, 0);
  run (&everything);
  check_world ();
  check_compact ();
  close_world ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads. */

#define NR_THREADS 3
#define ITEMS_PER_THREAD 12000

struct worker {
  unsigned number;
  size_t *live;                 /* items, all from its own range */
  size_t nr_live;
  size_t *idle;
  size_t nr_idle;
  uint64_t age;
};

static uint64_t threads_limit;
static atomic_bool threads_done;

static int
worker_alloc (struct worker *worker, uint32_t bytes)
{
  const size_t i = worker->idle[worker->nr_idle - 1];

  for (unsigned try = 0; ; ++try) {
    const uint64_t seen = compactor_returned (&compactor);
    const int r = give_object (i, bytes, ++worker->age);

    if (r == 0) {
      --worker->nr_idle;
      worker->live[worker->nr_live++] = i;
      return 0;
    }
    if (r != -ENOSPC || threads_limit == PAGES_NO_LIMIT)
      test_note_failure ("pool_alloc gave %d", r);
    if (try == 4 || !compactor_make_room (&compactor, 4 * PAGE_BYTES, seen,
                                          1000000))
      return r;
  }
}

static void
worker_free (struct worker *worker, size_t nth)
{
  const size_t i = worker->live[nth];

  worker->live[nth] = worker->live[--worker->nr_live];
  take_object (i);
  worker->idle[worker->nr_idle++] = i;
}

/* Under its lock it stays where it is. */
static void
worker_read (struct worker *worker, size_t nth)
{
  const size_t i = worker->live[nth];

  pthread_mutex_lock (mutex_of (i));
  const struct object *object = &items[i].object;
  const uint64_t *p = pool_borrow (pool, object->loc);
  const size_t words = pool_slot_bytes (pool, object->loc) / sizeof *p;
  for (size_t j = 0; j < words; ++j)
    if (p[j] != object->tag * UINT64_C (0x9e3779b97f4a7c15) + j) {
      test_note_failure ("item %zu was overwritten at byte %zu", i, j * 8);
      break;
    }
  pthread_mutex_unlock (mutex_of (i));
}

/* It grows, then it shrinks by scattered frees, and again. */
static void *
work (void *arg)
{
  static const uint32_t sizes[] = { 16, 400, 1100, 1111, 2700, 4000, 4096 };
  struct worker *worker = arg;
  const unsigned nr_ops = test_quick () ? 5000
    : TEST_SANITIZED ? 30000 : 150000;
  struct rng own;

  rng_init (&own, test_seed (), 800 + worker->number);
  for (unsigned i = 0; i < nr_ops; ++i) {
    const unsigned what = (unsigned) rng_below (&own, 100);
    const unsigned growth = i / 4000 % 2 == 0 ? 60 : 25;

    if (what < growth && worker->nr_idle > 0) {
      if (worker_alloc (worker, rng_once_in (&own, 4)
                        ? (uint32_t) rng_between (&own, 1, 4096)
                        : sizes[rng_below (&own, 7)]) != 0
          && worker->nr_live > 0)
        worker_free (worker, rng_below (&own, worker->nr_live));
    }
    else if (worker->nr_live > 0 && what < 90)
      worker_free (worker, rng_below (&own, worker->nr_live));
    else if (worker->nr_live > 0)
      worker_read (worker, rng_below (&own, worker->nr_live));
  }
  return NULL;
}

static void
compact_once (struct rng *own)
{
  struct pool_zspage_info list[8];
  struct compact_goal goal = everything;
  struct compact_report report;

  if (rng_once_in (own, 4))
    goal.class_idx = (int) rng_below (own, pool_nr_classes (pool));
  goal.thorough = !rng_once_in (own, 3);
  if (rng_once_in (own, 4))
    goal.until_returned = rng_size (own, MIB);
  compactor_run (&compactor, &goal, &report);
  pool_list_zspages (pool, (unsigned) rng_below (own, pool_nr_classes (pool)),
                     list, 8);
  if (pages_held (&pages) > threads_limit)
    test_note_failure ("held is %" PRIu64, pages_held (&pages));
}

static void *
compact_without_pause (void *arg)
{
  struct rng own;

  (void) arg;
  rng_init (&own, test_seed (), 820);
  while (!atomic_load (&threads_done))
    compact_once (&own);
  return NULL;
}

static void
start_worker (struct worker *worker, unsigned number)
{
  worker->number = number;
  worker->live = calloc (ITEMS_PER_THREAD, sizeof worker->live[0]);
  worker->idle = calloc (ITEMS_PER_THREAD, sizeof worker->idle[0]);
  ck_assert (worker->live != NULL && worker->idle != NULL);
  for (size_t i = 0; i < ITEMS_PER_THREAD; ++i)
    worker->idle[worker->nr_idle++] = number * ITEMS_PER_THREAD + i;
  nr_free_items -= ITEMS_PER_THREAD;
}

START_TEST (test_threads)
{
  struct worker workers[NR_THREADS] = { { .number = 0 } };
  pthread_t threads[NR_THREADS], compacting;

  threads_limit = _i == 0 ? PAGES_NO_LIMIT : 12 * MIB;
  atomic_store (&threads_done, false);
  rng_init (&rng, test_seed (), 830 + (uint64_t) _i);
  open_world (threads_limit, NULL);
  alone = false;
  snprintf (situation, sizeof situation, "threads");
  for (unsigned i = 0; i < NR_THREADS; ++i)
    start_worker (&workers[i], i);
  ck_assert_int_eq (pthread_create (&compacting, NULL, compact_without_pause,
                                    NULL), 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, work, &workers[i]),
                      0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&threads_done, true);
  pthread_join (compacting, NULL);

  CHECK (nr_moves > 0);
  end ();
  check_world ();
  for (unsigned i = 0; i < NR_THREADS; ++i)
    for (unsigned n = workers[i].nr_live / 2; n > 0; --n)
      worker_free (&workers[i], rng_below (&rng, workers[i].nr_live));
  alone = true;
  run_and_check ();
  for (unsigned i = 0; i < NR_THREADS; ++i) {
    while (workers[i].nr_live > 0)
      worker_free (&workers[i], 0);
    free (workers[i].live);
    free (workers[i].idle);
  }
  check_world ();
  CHECK_EQ (measure ().resident_bytes, 0);
  close_world ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("compactor");
  TCase *tcase = tcase_create ("compactor");
  SRunner *runner;
  int nr_failed;

  test_start ("test-compactor");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_nothing_to_do);
  tcase_add_loop_test (tcase, test_patterns, 0, NR_MIXES);
  tcase_add_loop_test (tcase, test_sawtooth, 0, NR_MIXES);
  tcase_add_loop_test (tcase, test_wear_down, 0, NR_MIXES);
  tcase_add_loop_test (tcase, test_drift, 0, 4);
  tcase_add_test (tcase, test_one_class);
  tcase_add_loop_test (tcase, test_until, 0, 2);
  tcase_add_loop_test (tcase, test_one_busy, MOVE_BUSY, MOVE_IN_TRANSIT + 1);
  tcase_add_loop_test (tcase, test_busy_in_every_zspage, MOVE_BUSY,
                       MOVE_IN_TRANSIT + 1);
  tcase_add_loop_test (tcase, test_half_busy, 0, 2);
  tcase_add_loop_test (tcase, test_small_steps, 0, 4);
  tcase_add_loop_test (tcase, test_end_in_the_middle, 0, 4);
  tcase_add_test (tcase, test_free_everything_meanwhile);
  tcase_add_test (tcase, test_make_room);
  tcase_add_test (tcase, test_limit);
  tcase_add_test (tcase, test_nth_purge_fails);
  tcase_add_test (tcase, test_every_purge_fails);
  tcase_add_loop_test (tcase, test_threads, 0, 2);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
