/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What compaction decides from which statistics: tables of classes, of
 * sources, and of looks one after the other.  No clock, no pool.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "policy.h"
#include "pool-move.h"
#include "test-util.h"

#define N_ELEMS(a) (sizeof (a) / sizeof (a)[0])
#define MS UINT64_C (1000000)
#define GIB (MIB << 10)

/*--------------------------------------------------------------------*/
/* What can be had of a class, by hand. */

static const struct {
  uint32_t object_bytes, objects_per_zspage;
  uint64_t nr_inuse, resident_pages, reclaimable_pages;
} classes[] = {
  /* Raw blocks: a page each. */
  { 4096, 64, 0, 0, 0 },
  { 4096, 64, 0, 64, 64 },
  { 4096, 64, 1, 64, 63 },
  { 4096, 64, 64, 64, 0 },
  { 4096, 64, 64, 128, 64 },
  { 4096, 64, 96, 128, 32 },
  { 4096, 64, 65, 65, 0 },
  /* The smallest: 256 to a page. */
  { 16, 16384, 1, 1, 0 },
  { 16, 16384, 1, 64, 63 },
  { 16, 16384, 256, 2, 1 },
  { 16, 16384, 257, 2, 0 },
  { 16, 16384, 16384, 64, 0 },
  { 16, 16384, 16385, 66, 1 },
  /* 127 * 2064 bytes: 63.996 pages.  10 of them: 5.04 pages. */
  { 2064, 127, 127, 64, 0 },
  { 2064, 127, 137, 70, 0 },
  { 2064, 127, 137, 128, 58 },
  { 2064, 127, 1270, 640, 0 },
  { 2064, 127, 635, 640, 320 },
  /* 65 * 4032 bytes: 63.98 pages; an object straddles pages. */
  { 4032, 65, 2, 3, 1 },
  { 4032, 65, 1, 2, 1 },
  /* 963 * 272 bytes: 63.95 pages. */
  { 272, 963, 963 * 3 + 1, 4 * 64, 63 },
  /* Fewer resident than packing needs cannot be, and is none. */
  { 4096, 64, 64, 60, 0 },
};

static struct pool_class_stats
class_stats (uint32_t object_bytes, uint32_t objects_per_zspage,
             uint64_t nr_inuse, uint64_t resident_pages)
{
  return (struct pool_class_stats) {
    .object_bytes = object_bytes, .objects_per_zspage = objects_per_zspage,
    .nr_inuse = nr_inuse, .resident_bytes = resident_pages * PAGE_BYTES,
  };
}

START_TEST (test_reclaimable)
{
  const struct pool_class_stats stats =
    class_stats (classes[_i].object_bytes, classes[_i].objects_per_zspage,
                 classes[_i].nr_inuse, classes[_i].resident_pages);

  ck_assert_uint_eq (policy_reclaimable (&stats),
                     classes[_i].reclaimable_pages * PAGE_BYTES);
}
END_TEST

START_TEST (test_choose_class)
{
  const struct pool_class_stats stats[] = {
    class_stats (16, 16384, 16384, 64),         /* nothing */
    class_stats (2064, 127, 137, 128),          /* 58 pages */
    class_stats (4032, 65, 0, 0),               /* empty */
    class_stats (4096, 64, 1, 64),              /* 63 pages */
    class_stats (272, 963, 1, 2),               /* 1 page */
  };
  static const int order[] = { 3, 1, 4, -1 };
  uint64_t reclaimable[N_ELEMS (stats)];
  bool done[N_ELEMS (stats)] = { false };

  for (unsigned i = 0; i < N_ELEMS (stats); i++)
    reclaimable[i] = policy_reclaimable (&stats[i]);
  for (unsigned i = 0; i < N_ELEMS (order); i++) {
    const int chosen = policy_choose_class (reclaimable, N_ELEMS (stats),
                                            done);

    ck_assert_int_eq (chosen, order[i]);
    if (chosen >= 0)
      done[chosen] = true;
  }
  ck_assert_int_eq (policy_choose_class (reclaimable, 0, done), -1);
}
END_TEST

/*--------------------------------------------------------------------*/

static const struct {
  const char *what;
  unsigned resident, in_place, packed, elsewhere, to_pack;
  uint32_t object_bytes;
  int64_t credit;
  bool pays;
} packs[] = {
  { "half full, scattered", 64, 0, 32, 0, 32, 4096, 0, true },
  { "more to copy than it gives", 64, 0, 40, 0, 30, 4096, 0, false },
  { "the same, and the run is ahead", 64, 0, 40, 0, 30, 4096,
    6 * 4096, true },
  { "not ahead enough", 64, 0, 40, 0, 30, 4096, 6 * 4096 - 1, false },
  { "behind: it does not make it worse", 64, 0, 32, 0, 32, 4096,
    -1000000, true },
  { "behind, and would", 64, 0, 32, 0, 33, 4096, -1000000, false },
  { "free pages give as much in place", 64, 32, 32, 0, 1, 16, 0, false },
  { "one page more", 64, 31, 32, 0, 1, 16, 0, true },
  { "one page more, all that it costs", 64, 31, 32, 0, 2, 4096, 0, true },
  { "nothing to gain", 10, 0, 10, 0, 0, 4096, 1 << 20, false },
  { "it would even grow", 9, 0, 10, 0, 3, 4096, 1 << 20, false },
  { "most leave for elsewhere", 64, 0, 2, 60, 1, 4096, 0, true },
  { "many leave, little is gained", 20, 0, 19, 100, 1, 2064, 0, false },
  { "small objects", 64, 0, 33, 0, 7936, 16, 0, true },
  { "small objects, one too many", 64, 0, 33, 0, 7937, 16, 0, false },
};

START_TEST (test_pack_pays)
{
  const struct pool_source source = {
    .nr_resident_pages = packs[_i].resident,
    .nr_free_pages = packs[_i].in_place,
    .nr_packed_pages = packs[_i].packed,
    .nr_slots_elsewhere = packs[_i].elsewhere,
    .nr_to_pack = packs[_i].to_pack,
  };

  ck_assert_msg (policy_pack_pays (&source, packs[_i].object_bytes,
                                   packs[_i].credit) == packs[_i].pays,
                 "%s", packs[_i].what);
}
END_TEST

/* Whatever the sources: a run that packs only where it pays never falls
 * behind, and each pack that costs no more than it gains is done.
 */
START_TEST (test_pack_keeps_ahead)
{
  int64_t credit = 0;
  struct rng rng;

  rng_init (&rng, test_seed (), 1);
  for (unsigned i = 0; i < 100000; i++) {
    const unsigned resident = (unsigned) rng_between (&rng, 1, 64);
    const unsigned packed = (unsigned) rng_between (&rng, 0, resident);
    const uint32_t bytes = (uint32_t) rng_between (&rng, 1, 256) * 16;
    const struct pool_source source = {
      .nr_resident_pages = resident,
      .nr_packed_pages = packed,
      .nr_slots_elsewhere = (unsigned) rng_below (&rng, 100),
      .nr_to_pack = (unsigned) rng_below (&rng, 100),
    };
    const unsigned moves = source.nr_slots_elsewhere > source.nr_to_pack
      ? source.nr_slots_elsewhere : source.nr_to_pack;
    const int64_t ahead =
      (int64_t) (resident - packed) * 4096 - (int64_t) moves * bytes;

    if (policy_pack_pays (&source, bytes, credit)) {
      credit += ahead;
      ck_assert_int_ge (credit, 0);
    }
    else
      ck_assert (ahead < 0 || packed == resident);
  }
}
END_TEST

/*--------------------------------------------------------------------*/
/* Looks, one after the other. */

static struct policy_state state;
static struct policy_input input;
static struct policy_decision decision;

/* A pool of 100 MiB that nothing has happened to. */
static void
start (void)
{
  memset (&state, 0, sizeof state);
  input = (struct policy_input) {
    .now_ns = 5000 * MS,
    .arena_bytes = 100 * MIB,
    .held_bytes = 101 * MIB,
    .limit_bytes = PAGES_NO_LIMIT,
  };
}

static enum policy_reason
look (void)
{
  policy_decide (&state, &input, &decision);
  input.pressure = false;
  return decision.reason;
}

/* When the last one said so, which must be a tick. */
static enum policy_reason
next_look (void)
{
  ck_assert_uint_le (decision.wait_ns, POLICY_TICK_NS);
  input.now_ns += decision.wait_ns;
  return look ();
}

static bool
sleeps (void)
{
  return decision.reason == POLICY_IDLE && decision.wait_ns == UINT64_MAX;
}

static void
overwrite (uint64_t bytes)
{
  input.nr_frees++;
  input.reclaimable_bytes += bytes;
}

static void
trim (uint64_t bytes)
{
  input.nr_frees++;
  input.discarded_bytes += bytes;
  input.reclaimable_bytes += bytes;
}

/* The run that was decided returns so much, and ends. */
static void
run_ends (uint64_t bytes)
{
  input.reclaimable_bytes -= bytes;
  input.held_bytes -= bytes;
  policy_run_ended (&state, input.now_ns, &decision, bytes);
}

static void
start_asleep (void)
{
  start ();
  look ();
  ck_assert (sleeps ());
}

START_TEST (test_idle_sleeps)
{
  start_asleep ();
  for (unsigned i = 0; i < 10; i++) {
    input.now_ns += 1000 * MS;
    look ();
    ck_assert (sleeps ());
  }
  /* A few frees: awake for a tick, then asleep again. */
  overwrite (4096);
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.wait_ns, POLICY_TICK_NS);
  next_look ();
  ck_assert (sleeps ());
}
END_TEST

/* What was freed before the first look is found, but is not news of a trim
 * of all that.
 */
START_TEST (test_first_look)
{
  start ();
  input.nr_frees = 1000000;
  input.discarded_bytes = GIB;
  input.reclaimable_bytes = 3 * MIB;
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_uint_eq (state.debt_bytes, 0);
  /* Overwrites go on. */
  for (unsigned i = 0; i < 100; i++) {
    overwrite (0);
    ck_assert_int_eq (next_look (), POLICY_IDLE);
  }
  ck_assert_int_eq (next_look (), POLICY_QUIET);
}
END_TEST

START_TEST (test_quiet)
{
  start_asleep ();
  overwrite (POLICY_LOW_BYTES);
  ck_assert_int_eq (look (), POLICY_IDLE);
  next_look ();
  ck_assert (sleeps ());        /* not more than that */

  overwrite (4096);
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_int_eq (next_look (), POLICY_QUIET);
  ck_assert_uint_eq (decision.until_reclaimable, 0);
  ck_assert_uint_eq (decision.until_returned, UINT64_MAX);
  ck_assert_uint_eq (decision.keep_spare, POLICY_SPARE_ZSPAGES);
  /* It goes on to its end, also below where it began. */
  input.reclaimable_bytes = 100 * KIB;
  ck_assert_int_eq (next_look (), POLICY_QUIET);
  run_ends (100 * KIB);
  look ();
  ck_assert (sleeps ());
}
END_TEST

/* Writes begin: a quiet run ends; they end: it begins again. */
START_TEST (test_quiet_is_over)
{
  start_asleep ();
  overwrite (MIB);
  look ();
  ck_assert_int_eq (next_look (), POLICY_QUIET);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.wait_ns, POLICY_TICK_NS);
  ck_assert_int_eq (next_look (), POLICY_QUIET);
}
END_TEST

/* What trimming leaves is worked on at the second look at the latest,
 * whatever the last run had to leave.
 */
START_TEST (test_trim_within_two_ticks)
{
  static const uint64_t left[] = { 0, 500 * KIB, MIB, 3 * MIB, 20 * MIB };

  for (unsigned i = 0; i < N_ELEMS (left); i++) {
    start_asleep ();
    /* A run that leaves so much. */
    overwrite (left[i] + MIB);
    look ();
    ck_assert_int_eq (next_look (), POLICY_QUIET);
    run_ends (MIB);
    look ();
    ck_assert (sleeps ());

    for (unsigned j = 0; j < 5; j++) {
      trim (MIB);
      look ();
      ck_assert_int_eq (next_look (), POLICY_QUIET);
      run_ends (MIB);
      look ();
      ck_assert (sleeps ());
    }
    /* In small pieces, too. */
    for (unsigned j = 0; decision.reason != POLICY_QUIET; j++) {
      ck_assert_uint_lt (j, 16);
      trim (64 * KIB);
      look ();
      next_look ();
    }
  }
}
END_TEST

/* What was trimmed just as a run ended is not taken for what it has left. */
START_TEST (test_trim_at_the_end_of_a_run)
{
  start_asleep ();
  overwrite (MIB);
  look ();
  ck_assert_int_eq (next_look (), POLICY_QUIET);
  run_ends (MIB);
  trim (10 * MIB);
  look ();
  ck_assert_int_eq (next_look (), POLICY_QUIET);
}
END_TEST

/* Overwriting goes on all the time, one trim: a run for what was trimmed and
 * not a byte more.
 */
START_TEST (test_discards_while_overwriting)
{
  start_asleep ();
  overwrite (MIB);
  look ();
  for (unsigned i = 0; i < 10; i++) {
    overwrite (0);
    ck_assert_int_eq (next_look (), POLICY_IDLE);
  }
  trim (5 * MIB);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_DISCARDS);
  ck_assert_uint_eq (decision.until_returned, 5 * MIB);
  ck_assert_uint_eq (decision.until_reclaimable, 0);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_DISCARDS);
  run_ends (5 * MIB);
  for (unsigned i = 0; i < 10; i++) {
    overwrite (0);
    ck_assert_int_eq (next_look (), POLICY_IDLE);
  }
  /* Overwriting ends. */
  ck_assert_int_eq (next_look (), POLICY_QUIET);
}
END_TEST

/* However much it is, a trim is not taken for overwriting. */
START_TEST (test_large_discards)
{
  start_asleep ();
  trim (50 * MIB);
  ck_assert_int_eq (look (), POLICY_IDLE);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_DISCARDS);
}
END_TEST

/* Nothing else is freed: the rules of quiet, and all there is. */
START_TEST (test_discards_alone)
{
  start_asleep ();
  trim (5 * MIB);
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_int_eq (next_look (), POLICY_QUIET);
  ck_assert_uint_eq (decision.until_returned, UINT64_MAX);
}
END_TEST

/* Trims without a pause are not put off for ever. */
START_TEST (test_continuous_discards)
{
  uint64_t returned = 0, since;

  start_asleep ();
  since = input.now_ns;
  for (unsigned i = 0; i < 100; i++) {
    trim (100 * KIB);
    if (i == 0 ? look () : next_look ()) {
      ck_assert_int_eq (decision.reason, POLICY_DISCARDS);
      ck_assert_uint_ge (input.now_ns - since, POLICY_DISCARD_MAX_NS);
      ck_assert_uint_le (input.now_ns - since,
                         POLICY_DISCARD_MAX_NS + POLICY_TICK_NS);
      since = input.now_ns;
      returned += decision.until_returned;
      run_ends (decision.until_returned);
    }
  }
  ck_assert_uint_ge (returned, 8 * MIB);
  ck_assert_uint_le (returned, 10 * MIB);
}
END_TEST

/* Trims that emptied whole zspages, or whose holes were filled, are nobody's
 * debt: overwrites are not chased for them.
 */
START_TEST (test_discards_that_left_nothing)
{
  start_asleep ();
  trim (50 * MIB);
  input.reclaimable_bytes = 100 * KIB;
  look ();
  for (unsigned i = 0; i < 40; i++) {
    overwrite (50 * KIB);       /* to 2 MiB */
    ck_assert_int_eq (next_look (), POLICY_IDLE);
  }
}
END_TEST

/* A little trimmed among overwrites: no run for a few blocks. */
START_TEST (test_small_discards)
{
  start_asleep ();
  overwrite (MIB);
  look ();
  trim (8 * KIB);
  next_look ();
  for (unsigned i = 0; i < 20; i++) {
    overwrite (0);
    ck_assert_int_eq (next_look (), POLICY_IDLE);
  }
}
END_TEST

/* Steady overwriting, around the threshold: 2 MiB + 1/25 of 100 MiB. */
START_TEST (test_overwrites)
{
  const uint64_t high = 6 * MIB;
  unsigned nr_runs = 0;
  struct rng rng;

  rng_init (&rng, test_seed (), 2);
  start_asleep ();
  overwrite (high);
  look ();
  for (unsigned i = 0; i < 20; i++) {
    overwrite (0);
    ck_assert_int_eq (next_look (), POLICY_IDLE);
  }
  overwrite (4096);
  ck_assert_int_eq (next_look (), POLICY_OVERWRITES);
  ck_assert_uint_eq (decision.until_reclaimable, high / 2);
  ck_assert_uint_eq (decision.until_returned, UINT64_MAX);
  /* On its way down it is not ended for being below the threshold. */
  input.reclaimable_bytes = high / 2 + 4096;
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_OVERWRITES);
  run_ends (4096);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_IDLE);

  /* The load hovers around the threshold: a run that could not get below
   * is not begun again and again.
   */
  for (unsigned i = 0; i < 1000; i++) {
    input.reclaimable_bytes = high - 256 * KIB
      + rng_below (&rng, 512) * KIB;
    overwrite (0);
    if (next_look ()) {
      ck_assert_int_eq (decision.reason, POLICY_OVERWRITES);
      nr_runs++;
      policy_run_ended (&state, input.now_ns, &decision, 0);
    }
  }
  ck_assert_uint_eq (nr_runs, 1);

  /* It grows far beyond: again. */
  overwrite (high);
  ck_assert_int_eq (next_look (), POLICY_OVERWRITES);
}
END_TEST

/* A load whose holes grow back after every run: once a threshold's half. */
START_TEST (test_overwrites_grow)
{
  unsigned nr_runs = 0;

  start_asleep ();
  look ();
  for (unsigned i = 0; i < 1200; i++) {
    overwrite (100 * KIB);
    if (i == 0 ? look () : next_look ()) {
      ck_assert_int_eq (decision.reason, POLICY_OVERWRITES);
      nr_runs++;
      run_ends (input.reclaimable_bytes - decision.until_reclaimable);
    }
  }
  /* 120000 KiB in steps of 3072, the first of 6144. */
  ck_assert_uint_ge (nr_runs, 36);
  ck_assert_uint_le (nr_runs, 38);
}
END_TEST

/*--------------------------------------------------------------------*/
/* The limit: 320 MiB, watermarks at 310 and at 300. */

static void
start_at_limit (uint64_t held)
{
  start ();
  input.limit_bytes = 320 * MIB;
  input.arena_bytes = held;
  input.held_bytes = held;
  input.nr_frees = 1;
  look ();
}

START_TEST (test_limit_watermarks)
{
  start_at_limit (310 * MIB);
  overwrite (4 * MIB);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.keep_spare, POLICY_SPARE_ZSPAGES);

  input.held_bytes += 4096;
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_LIMIT);
  ck_assert_uint_eq (decision.until_returned, 10 * MIB + 4096);
  ck_assert_uint_eq (decision.keep_spare, 0);
  /* Down to the low one, not just below the high one. */
  input.held_bytes -= 2 * MIB;
  input.reclaimable_bytes -= 2 * MIB;
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_LIMIT);
  input.held_bytes = 300 * MIB;
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.keep_spare, POLICY_SPARE_ZSPAGES);
  /* Between them nothing happens on the way up. */
  input.held_bytes = 309 * MIB;
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
}
END_TEST

START_TEST (test_limit_needs_reclaimable)
{
  start_at_limit (319 * MIB);
  overwrite (POLICY_LOW_BYTES / 4);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  overwrite (4096);
  ck_assert_int_eq (next_look (), POLICY_LIMIT);
}
END_TEST

/* The limit was lowered below held: asleep until now, nothing freed. */
START_TEST (test_limit_lowered)
{
  start_at_limit (200 * MIB);
  overwrite (500 * KIB);
  next_look ();
  next_look ();
  ck_assert (sleeps ());
  input.limit_bytes = 100 * MIB;
  ck_assert_int_eq (look (), POLICY_LIMIT);
  ck_assert_uint_eq (decision.until_returned,
                     200 * MIB - (100 * MIB - 100 * MIB / 16));
  run_ends (400 * KIB);
  look ();
  ck_assert (sleeps ());
}
END_TEST

/* A run that returned next to nothing: not again for a while, however much
 * is overwritten; and not at all where nothing was freed.
 */
START_TEST (test_limit_retry)
{
  uint64_t ended;

  start_at_limit (319 * MIB);
  overwrite (MIB);
  ck_assert_int_eq (next_look (), POLICY_LIMIT);
  run_ends (4096);
  ended = input.now_ns;
  overwrite (0);
  look ();
  while (decision.reason == POLICY_IDLE) {
    overwrite (0);
    next_look ();
  }
  ck_assert_int_eq (decision.reason, POLICY_LIMIT);
  ck_assert_uint_eq (input.now_ns - ended, POLICY_RETRY_NS);

  run_ends (4096);
  look ();
  ck_assert (sleeps ());
  /* A free in the time in which it is not to be tried: it is not
   * forgotten.
   */
  overwrite (0);
  ended = input.now_ns;
  look ();
  while (decision.reason == POLICY_IDLE)
    next_look ();
  ck_assert_int_eq (decision.reason, POLICY_LIMIT);
  ck_assert_uint_eq (input.now_ns - ended, POLICY_RETRY_NS);
}
END_TEST

/* One that did return something is followed by the next. */
START_TEST (test_limit_again)
{
  start_at_limit (319 * MIB);
  overwrite (2 * MIB);
  ck_assert_int_eq (next_look (), POLICY_LIMIT);
  run_ends (MIB);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_LIMIT);
}
END_TEST

/*--------------------------------------------------------------------*/

START_TEST (test_pressure)
{
  start_asleep ();
  input.reclaimable_bytes = 100 * KIB;
  input.spare_bytes = 2 * ZSPAGE_BYTES;
  input.pressure = true;
  ck_assert_int_eq (look (), POLICY_PRESSURE);
  ck_assert_uint_eq (decision.until_returned, UINT64_MAX);
  ck_assert_uint_eq (decision.until_reclaimable, 0);
  ck_assert_uint_eq (decision.keep_spare, 0);
  /* Frees do not end it. */
  overwrite (0);
  input.spare_bytes = 0;
  ck_assert_int_eq (next_look (), POLICY_PRESSURE);
  run_ends (50 * KIB);
  look ();
  ck_assert (sleeps ());
  /* Nothing was freed since: it would find nothing. */
  input.pressure = true;
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.keep_spare, 0);
  overwrite (0);
  input.pressure = true;
  ck_assert_int_eq (look (), POLICY_PRESSURE);
}
END_TEST

START_TEST (test_manual)
{
  start ();
  input.manual = true;
  input.reclaimable_bytes = 50 * MIB;
  input.spare_bytes = 10 * ZSPAGE_BYTES;
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.keep_spare, POLICY_SPARE_ZSPAGES);
  ck_assert_uint_eq (decision.wait_ns, POLICY_TICK_NS);
  trim (10 * MIB);
  input.pressure = true;
  input.spare_bytes = 0;
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.wait_ns, POLICY_TICK_NS);
  input.limit_bytes = 100 * MIB;
  overwrite (50 * MIB);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  ck_assert_int_eq (next_look (), POLICY_IDLE);
  ck_assert (sleeps ());
}
END_TEST

/* What does not pay is left, and not tried again before something is
 * freed; then only when there is more of it.
 */
START_TEST (test_no_endless_runs)
{
  unsigned nr_runs = 0;

  start_asleep ();
  overwrite (10 * MIB);
  look ();
  ck_assert_int_eq (next_look (), POLICY_QUIET);
  run_ends (2 * MIB);
  for (unsigned i = 0; i < 100; i++) {
    input.now_ns += 1000 * MS;
    look ();
    ck_assert (sleeps ());
    /* Allocations alone make pages resident. */
    input.reclaimable_bytes += 4096;
  }
  input.reclaimable_bytes = 8 * MIB;

  /* A free now and then, with quiet between. */
  for (unsigned i = 0; i < 1000; i++) {
    overwrite (4096);
    look ();
    if (next_look ()) {
      ck_assert_int_eq (decision.reason, POLICY_QUIET);
      run_ends (0);
      nr_runs++;
      look ();
    }
    ck_assert (sleeps ());
  }
  /* 4000 KiB, at most a run for each 192 of them. */
  ck_assert_uint_ge (nr_runs, 1);
  ck_assert_uint_le (nr_runs, 4000 / 192 + 1);
}
END_TEST

/* Spare zspages beyond what may stay keep it awake. */
START_TEST (test_spare)
{
  start ();
  input.spare_bytes = 3 * ZSPAGE_BYTES;
  ck_assert_int_eq (look (), POLICY_IDLE);
  ck_assert_uint_eq (decision.keep_spare, POLICY_SPARE_ZSPAGES);
  ck_assert_uint_eq (decision.wait_ns, POLICY_TICK_NS);
  input.spare_bytes = POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES;
  next_look ();
  ck_assert (sleeps ());
}
END_TEST

/* A run that was cut short, or goes on, has paid its part of the debt. */
START_TEST (test_part_of_a_run)
{
  const struct policy_decision so_far = { .reason = POLICY_IDLE };

  start_asleep ();
  trim (5 * MIB);
  look ();
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_DISCARDS);
  policy_run_ended (&state, input.now_ns, &so_far, 3 * MIB);
  input.reclaimable_bytes -= 3 * MIB;
  ck_assert_uint_eq (state.debt_bytes, 2 * MIB);
  overwrite (0);
  ck_assert_int_eq (next_look (), POLICY_DISCARDS);
  ck_assert_uint_eq (decision.until_returned, 2 * MIB);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("policy");
  TCase *tcase = tcase_create ("policy");
  SRunner *runner;
  int nr_failed;

  test_start ("test-policy");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_reclaimable, 0, N_ELEMS (classes));
  tcase_add_test (tcase, test_choose_class);
  tcase_add_loop_test (tcase, test_pack_pays, 0, N_ELEMS (packs));
  tcase_add_test (tcase, test_pack_keeps_ahead);
  tcase_add_test (tcase, test_idle_sleeps);
  tcase_add_test (tcase, test_first_look);
  tcase_add_test (tcase, test_quiet);
  tcase_add_test (tcase, test_quiet_is_over);
  tcase_add_test (tcase, test_trim_within_two_ticks);
  tcase_add_test (tcase, test_trim_at_the_end_of_a_run);
  tcase_add_test (tcase, test_discards_while_overwriting);
  tcase_add_test (tcase, test_large_discards);
  tcase_add_test (tcase, test_discards_alone);
  tcase_add_test (tcase, test_continuous_discards);
  tcase_add_test (tcase, test_discards_that_left_nothing);
  tcase_add_test (tcase, test_small_discards);
  tcase_add_test (tcase, test_overwrites);
  tcase_add_test (tcase, test_overwrites_grow);
  tcase_add_test (tcase, test_limit_watermarks);
  tcase_add_test (tcase, test_limit_needs_reclaimable);
  tcase_add_test (tcase, test_limit_lowered);
  tcase_add_test (tcase, test_limit_retry);
  tcase_add_test (tcase, test_limit_again);
  tcase_add_test (tcase, test_pressure);
  tcase_add_test (tcase, test_manual);
  tcase_add_test (tcase, test_no_endless_runs);
  tcase_add_test (tcase, test_spare);
  tcase_add_test (tcase, test_part_of_a_run);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
