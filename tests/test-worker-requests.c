/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests to the worker, which are done in its steps, over a real pool, with
 * a clock of the test's own and no thread.
 */

#include <config.h>

#include <stdlib.h>

#include "libcheck.h"
#include "worker-fixture.h"

START_TEST (test_request)
{
  struct compact_report report, before = { 0 };
  uint64_t ticket, arena, reclaimable;
  unsigned nr_slices = 0;

  open_worker (0);
  add_items (0, 20000, 100, 4096);
  free_most (0, 20000, 2);
  arena = arena_bytes ();
  reclaimable = compactor_reclaimable (worker.compactor);
  ticket = ask (-1);
  ck_assert (!compact_worker_report (&worker, ticket, &report));
  ck_assert_uint_eq (report.moved_objects, 0);

  do {
    const uint64_t start_ns = fake_ns;

    before = report;
    ck_assert_uint_eq (step (false), 0);
    nr_slices++;
    /* A slice, and what cannot be cut short. */
    ck_assert_uint_le (fake_ns - start_ns,
                       WORKER_SLICE_NS + 4 * LOOK_AT_CLOCK_NS);
    ck_assert_uint_le (before.moved_objects, report.moved_objects);
  } while (!compact_worker_report (&worker, ticket, &report));
  ck_assert_uint_gt (nr_slices, 4);
  ck_assert_uint_eq (nr_runs (), 1);
  ck_assert_uint_gt (before.moved_objects, 0);
  ck_assert_uint_eq (report.moved_objects,
                     atomic_load (&worker.compactor->totals.moved_objects));
  ck_assert_uint_eq (report.returned_bytes, arena - arena_bytes ());
  ck_assert_uint_le (report.copied_bytes, report.returned_bytes);
  ck_assert_uint_ge (report.returned_bytes, reclaimable / 2);
  check_pool ();
  /* That was all there was to do. */
  step_to_sleep ();
  ck_assert (is_done (ticket));
  ck_assert (is_done (0));
  close_worker ();
}
END_TEST

START_TEST (test_request_of_a_class)
{
  const unsigned class_idx = size_class_of (size_class_table (), 2000);
  struct pool_class_stats before, after, other;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 4000, 2000, 2000);
  add_items (4000, 8000, 3000, 3000);
  free_most (0, 8000, 2);
  pool_class_stats (pool, class_idx, &before);
  pool_class_stats (pool, size_class_of (size_class_table (), 3000), &other);
  ticket = ask ((int) class_idx);
  while (!is_done (ticket))
    step (false);
  pool_class_stats (pool, class_idx, &after);
  ck_assert_uint_lt (after.resident_bytes, before.resident_bytes);
  pool_class_stats (pool, size_class_of (size_class_table (), 3000), &after);
  ck_assert_uint_eq (after.resident_bytes, other.resident_bytes);
  close_worker ();
}
END_TEST

/* Without a thread a request is done when it returns. */
START_TEST (test_request_without_thread)
{
  struct compact_report report;
  uint64_t ticket;

  open_worker (0);
  ck_assert (compact_worker_report (&worker, 0, &report));
  ck_assert_uint_eq (report.moved_objects, 0);
  add_items (0, 5000, 2000, 2000);
  free_most (0, 5000, 2);
  ticket = compact_worker_request (&worker, -1);
  ck_assert (compact_worker_report (&worker, ticket, &report));
  ck_assert_uint_gt (report.moved_objects, 0);
  ck_assert_uint_gt (report.returned_bytes, 0);
  ck_assert_uint_eq (nr_runs (), 1);
  close_worker ();
}
END_TEST

/* Requests that come while one is under way are one run, after it. */
START_TEST (test_tickets)
{
  uint64_t first, second, third, fourth;

  open_worker (0);
  add_items (0, 10000, 1000, 4096);
  free_most (0, 10000, 2);
  first = ask (100);
  second = ask (100);
  ck_assert_uint_lt (first, second);
  step (false);
  ck_assert_int_eq (worker.compactor->goal.class_idx, 100);
  while (!is_done (first))
    step (false);
  ck_assert (is_done (second));
  ck_assert_uint_eq (nr_runs (), 1);

  first = ask (-1);
  step (false);
  ck_assert (!is_done (first));
  second = ask (100);
  third = ask (101);
  ck_assert_uint_lt (second, third);
  while (!is_done (first)) {
    ck_assert (!is_done (second));
    ck_assert (!is_done (third));
    step (false);
  }
  ck_assert_uint_eq (nr_runs (), 2);
  ck_assert (!is_done (second));
  step (false);
  ck_assert_uint_eq (nr_runs (), 3);
  /* Two classes: all of them. */
  ck_assert_int_eq (worker.compactor->goal.class_idx, -1);
  fourth = is_done (third) ? third : ask (102);
  while (!is_done (third))
    step (false);
  ck_assert (is_done (second));
  while (!is_done (fourth))
    step (false);
  ck_assert (is_done (0));
  close_worker ();
}
END_TEST

/* A writer at the limit takes the run to its end between two slices; so it
 * may, and the request is answered all the same.
 */
START_TEST (test_writer_ends_the_run)
{
  struct compact_report report;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (-1);
  step (false);
  ck_assert_int_ne (worker.compactor->phase, COMPACT_NOT_RUNNING);
  ck_assert (compactor_make_room (worker.compactor, 1024 * MIB,
                                  compactor_returned (worker.compactor),
                                  1000 * SECOND));
  ck_assert_int_eq (worker.compactor->phase, COMPACT_NOT_RUNNING);
  while (!compact_worker_report (&worker, ticket, &report))
    step (false);
  ck_assert_uint_gt (report.returned_bytes, 0);
  step_to_sleep ();

  /* The same with a run that nobody asked for. */
  add_items (20000, 40000, 1000, 4096);
  free_most (20000, 40000, 2);
  while (!worker.running)
    step (false);
  step (false);
  ck_assert (compactor_make_room (worker.compactor, 1024 * MIB,
                                  compactor_returned (worker.compactor),
                                  1000 * SECOND));
  step_to_sleep ();
  close_worker ();
}
END_TEST

/* And has one of its own besides, which finds nothing. */
START_TEST (test_writer_replaces_the_run)
{
  const struct compact_goal goal = { .class_idx = -1, .until_returned = 1 };
  struct compact_report ignored;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (5);
  step (false);
  ticket = ask (-1);
  while (worker.compactor->goal.class_idx != -1)
    step (false);
  step (false);
  ck_assert (!is_done (ticket));
  compactor_run (worker.compactor, &goal, &ignored);
  ck_assert (!is_done (ticket));
  while (!is_done (ticket))
    step (false);
  /* It was had again, whole. */
  ck_assert_int_eq (worker.compactor->goal.class_idx, -1);
  ck_assert (worker.compactor->goal.thorough);
  close_worker ();
}
END_TEST

/* It takes the place of a run that was not asked for. */
START_TEST (test_request_during_a_run)
{
  uint64_t ticket;

  open_worker (MIB);
  step_to_sleep ();
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  while (!worker.running)
    step (false);
  step (false);
  ck_assert (worker.running);
  ticket = ask (-1);
  step (false);
  ck_assert (!worker.running);
  ck_assert_uint_eq (nr_runs (), 2);
  while (!is_done (ticket))
    step (false);
  step_to_sleep ();
  close_worker ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("worker-requests");
  TCase *tcase = tcase_create ("worker-requests");
  SRunner *runner;
  int nr_failed;

  test_start ("test-worker-requests");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_request);
  tcase_add_test (tcase, test_request_of_a_class);
  tcase_add_test (tcase, test_request_without_thread);
  tcase_add_test (tcase, test_tickets);
  tcase_add_test (tcase, test_writer_ends_the_run);
  tcase_add_test (tcase, test_writer_replaces_the_run);
  tcase_add_test (tcase, test_request_during_a_run);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
