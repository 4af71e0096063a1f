/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What compaction decides, look after look, from what was freed: by trims, by
 * overwrites, by nobody.  No clock, no pool.
 */

#include <config.h>

#include <stdlib.h>

#include "libcheck.h"
#include "policy-fixture.h"

#define GIB (MIB << 10)

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
  ck_assert (sleeps ()); /* not more than that */

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

  for (unsigned i = 0; i < sizeof left / sizeof left[0]; i++) {
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
    overwrite (50 * KIB); /* to 2 MiB */
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
    input.reclaimable_bytes = high - 256 * KIB + rng_below (&rng, 512) * KIB;
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
  Suite *suite = suite_create ("policy-looks");
  TCase *tcase = tcase_create ("policy-looks");
  SRunner *runner;
  int nr_failed;

  test_start ("test-policy-looks");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
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
  tcase_add_test (tcase, test_no_endless_runs);
  tcase_add_test (tcase, test_part_of_a_run);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
