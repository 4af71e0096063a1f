/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The compactor over a pool, against frees that an enemy would choose
 * (frees.h): whatever they leave, a run packs it, as far as its goal goes.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "compact-fixture.h"
#include "libcheck.h"
#include "policy.h"

/*--------------------------------------------------------------------*/
/* Patterns. */

/* Each pattern once, or a share of them, in any order, on a pool that is fresh
 * for the first and was compacted and filled up again for the next.
 */
START_TEST (test_patterns)
{
  const enum mix mix = (enum mix) _i;
  const unsigned nr_patterns = test_quick ()   ? 4
                               : test_short () ? 16
                                               : NR_FREES;
  enum frees order[NR_FREES];

  rng_init (&rng, test_seed (), 100 + (uint64_t) _i);
  for (unsigned i = 0; i < NR_FREES; ++i) {
    const unsigned j = (unsigned) rng_below (&rng, i + 1);
    order[i] = order[j];
    order[j] = (enum frees) i;
  }
  for (unsigned i = 0; i < nr_patterns; ++i) {
    if (i % 4 == 0) {
      open_world (PAGES_NO_LIMIT, NULL);
      choose_mix (mix);
    }
    snprintf (situation, sizeof situation, "mix %d, %s, run %u", (int) mix,
              frees_names[order[i]], i % 4);
    fill (mix, bytes_of_mix (mix));
    free_by_pattern (order[i]);
    run_and_check ();
    if (i % 4 == 3 || i == nr_patterns - 1)
      close_world ();
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
  for (unsigned round = 0; round < (test_short () ? 1 : 3); ++round) {
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
  for (unsigned round = 0; round < (test_short () ? 3 : 24); ++round) {
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
  for (unsigned step = 0; step < (test_short () ? 5 : 30); ++step) {
    const uint32_t low = 600 + 100 * (shrink ? 30 - step : step);
    const size_t nr = list_victims ();

    snprintf (situation, sizeof situation, "drift %d, step %u", _i, step);
    choose_frees (&rng,
                  rng_once_in (&rng, 2) ? FREES_RANDOM_10 : FREES_RANDOM_50,
                  victims, nr);
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
    .minimal_bytes = s.resident_bytes - policy_reclaimable (&s),
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
              measure_class (class_idx).minimal_bytes * 101 / 100 + PAGE_BYTES);
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
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
