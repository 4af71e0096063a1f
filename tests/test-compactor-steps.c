/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The compactor over a pool, step by step: runs of many steps with a clock of
 * the test's own, runs that are ended in the middle, and those that make room
 * for a writer.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "compact-fixture.h"
#include "libcheck.h"

#define STEPS_MAX 1000000 /* that a run takes: or it never ends */

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
begin_run (const struct compact_goal *goal)
{
  lock_acquire (&compactor.lock);
  compactor_begin (&compactor, goal);
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
  begin_run (&everything);
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
  alone = false; /* allocations go on */
  choose_mix (mix);
  busy_once_in = busy ? 3 : 0;
  for (unsigned round = 0; round < (test_quick () ? 8 : 60); ++round) {
    const unsigned nr_steps = (unsigned) rng_size (&rng, 400);

    snprintf (situation, sizeof situation, "round %u, %u steps", round,
              nr_steps);
    fill (mix, bytes);
    free_by_pattern (rng_once_in (&rng, 2) ? FREES_RANDOM_50 : FREES_ANY_SHARE);
    begin_run (&everything);
    for (unsigned i = 0; i < nr_steps && step (1); ++i)
      for (unsigned n = rng_below (&rng, 4); n > 0; --n)
        if (rng_once_in (&rng, 2))
          drop_item (any_item ());
        else
          new_item (size_of_mix (mix));
    if (rng_once_in (&rng, 4))
      begin_run (&everything); /* that ends it as well */
    end_run ();
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
    begin_run (&everything);
    for (unsigned i = 0; i < nr_steps && step (1); ++i)
      ;
    for (size_t i = 0; i < MAX_ITEMS; ++i)
      if (items[i].live)
        drop_item (i);
    if (nr_steps % 2 == 0)
      while (step (1))
        ;
    end_run ();
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
  end_run ();
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
  end_run ();
  check_world ();
  close_world ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("compactor-steps");
  TCase *tcase = tcase_create ("compactor-steps");
  SRunner *runner;
  int nr_failed;

  test_start ("test-compactor-steps");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_small_steps, 0, 4);
  tcase_add_loop_test (tcase, test_end_in_the_middle, 0, 4);
  tcase_add_test (tcase, test_free_everything_meanwhile);
  tcase_add_test (tcase, test_make_room);
  tcase_add_test (tcase, test_limit);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
