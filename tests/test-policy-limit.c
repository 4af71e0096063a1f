/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What compaction decides, look after look, for other reasons than frees: at
 * the limit, under memory pressure, with spare zspages, and where runs are
 * left to the user.  No clock, no pool.
 */

#include <config.h>

#include <stdlib.h>

#include "libcheck.h"
#include "policy-fixture.h"

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

int
main (void)
{
  Suite *suite = suite_create ("policy-limit");
  TCase *tcase = tcase_create ("policy-limit");
  SRunner *runner;
  int nr_failed;

  test_start ("test-policy-limit");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_limit_watermarks);
  tcase_add_test (tcase, test_limit_needs_reclaimable);
  tcase_add_test (tcase, test_limit_lowered);
  tcase_add_test (tcase, test_limit_retry);
  tcase_add_test (tcase, test_limit_again);
  tcase_add_test (tcase, test_pressure);
  tcase_add_test (tcase, test_manual);
  tcase_add_test (tcase, test_spare);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
