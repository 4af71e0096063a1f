/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The worker step by step, over a real pool, with a clock of the test's own
 * and no thread: when it works, pauses, and sleeps.
 */

#include <config.h>

#include <stdlib.h>

#include "libcheck.h"
#include "worker-fixture.h"

/*--------------------------------------------------------------------*/
/* Pauses. */

static uint64_t
nr_copied (void)
{
  return atomic_load (&worker.compactor->totals.copied_bytes);
}

/* Before a slice begins, no more has been copied than the time since the
 * first allows.
 */
static void
check_rate (uint64_t rate, uint64_t ticket)
{
  uint64_t start_ns = 0, start_copied = nr_copied (), nr_slices = 0;

  for (unsigned i = 0; i < 1000000; i++) {
    const uint64_t copied = nr_copied (), now_ns = fake_ns;

    if (ticket != 0 ? is_done (ticket) : atomic_load (&worker.asleep))
      break;
    step (false);
    if (nr_copied () == copied)
      continue;
    if (nr_slices++ == 0)
      start_ns = now_ns;
    /* The division leaves a byte a slice. */
    ck_assert_uint_le (copied - start_copied,
                       (now_ns - start_ns) / 1000 * rate / 1000000 + nr_slices);
  }
  ck_assert_uint_gt (nr_slices, 3);
  ck_assert_uint_gt (nr_copied () - start_copied, MIB);
}

START_TEST (test_rate)
{
  const uint64_t rate = _i == 0 ? 100 * KIB : 20 * MIB;

  open_worker (rate);
  add_items (0, 8000, 2000, 4096);
  free_most (0, 8000, 2);
  check_rate (rate, ask (-1));
  step_to_sleep ();
  free_most (0, 8000, 2);
  check_rate (rate, 0);
  close_worker ();
}
END_TEST

/* Somebody else wants the processor. */
START_TEST (test_contended)
{
  open_worker (0);
  step_to_sleep ();
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  while (!worker.running)
    step (false);
  step (false);
  for (unsigned i = 0; i < 10; i++) {
    const uint64_t copied = nr_copied ();

    ck_assert_uint_eq (step (true), WORKER_PAUSE_NS);
    ck_assert_uint_eq (nr_copied (), copied);
  }
  ck_assert (worker.running);
  ck_assert_uint_eq (step (false), 0);
  step_to_sleep ();
  close_worker ();
}
END_TEST

/* What somebody waits for goes on, with a pause after every second slice,
 * the thread being the one who finds out.
 */
START_TEST (test_contended_request)
{
  unsigned nr_steps = 0, nr_pauses = 0;
  bool contended = false;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (-1);
  while (!is_done (ticket)) {
    const uint64_t now_ns = fake_ns, wait = step (contended);

    /* It worked: its clock went on. */
    ck_assert_uint_gt (fake_ns - wait, now_ns);
    nr_steps++;
    if (wait > 0) {
      ck_assert_uint_eq (wait, WORKER_PAUSE_NS);
      ck_assert (contended);
      nr_pauses++;
    }
    contended = wait == 0;
  }
  ck_assert_uint_ge (nr_pauses, 3);
  ck_assert_uint_le (nr_pauses, nr_steps / 2);
  close_worker ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Asleep and awake. */

START_TEST (test_sleep_and_wake)
{
  open_worker (0);
  add_items (0, 1000, 2000, 2000);
  step_to_sleep ();
  ck_assert (!was_rung ());
  for (owner_t i = 0; i < 20; i++) {
    free_item (i);
    compact_worker_poke (&worker);
    ck_assert (!atomic_load (&worker.asleep));
    ck_assert (was_rung ());
    /* Awake: nobody needs to ring. */
    compact_worker_poke (&worker);
    ck_assert (!was_rung ());
    /* It does not sleep where something was freed in the last tick. */
    for (unsigned j = 0; j < 5; j++) {
      ck_assert_uint_eq (step (false), POLICY_TICK_NS);
      ck_assert (!atomic_load (&worker.asleep));
      free_item (100 + 5 * i + j);
    }
    step_to_sleep ();
  }
  ck_assert_uint_eq (nr_runs (), 0);
  close_worker ();
}
END_TEST

/* A free that comes when it has just decided to sleep, before and after it
 * says so.
 */
START_TEST (test_free_while_falling_asleep)
{
  open_worker (0);
  add_items (0, 1000, 2000, 2000);
  step_to_sleep ();
  for (owner_t i = 0; i < 100; i += 2) {
    free_item (i);
    compact_worker_poke (&worker);
    ck_assert (was_rung ());
    while (!atomic_load (&worker.asleep))
      step (false);
    /* It has yet to look once more. */
    ck_assert_uint_eq (worker.next_look_ns, fake_ns);
    free_item (i + 1);
    if (i % 4 == 0) { /* whoever freed did not see `asleep` */
      ck_assert_uint_eq (step (false), POLICY_TICK_NS);
      ck_assert (!atomic_load (&worker.asleep));
    }
    else {
      compact_worker_poke (&worker);
      ck_assert (was_rung ());
      ck_assert_uint_eq (step (false), POLICY_TICK_NS);
    }
    step_to_sleep ();
  }
  close_worker ();
}
END_TEST

/* Freed memory comes back by itself: the run begins within two ticks. */
START_TEST (test_quiet_run)
{
  uint64_t held, reclaimable, start_ns;

  open_worker (0);
  add_items (0, 20000, 100, 4096);
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 0);
  for (unsigned i = 1; i <= 3; i++) {
    free_most (0, 20000, 2);
    ck_assert (!atomic_load (&worker.asleep));
    held = pages_held (&pages);
    reclaimable = compactor_reclaimable (worker.compactor);
    start_ns = fake_ns;
    while (nr_runs () < i)
      step (false);
    ck_assert_uint_le (fake_ns - start_ns, 2 * POLICY_TICK_NS +
                                             WORKER_SLICE_NS +
                                             4 * LOOK_AT_CLOCK_NS);
    ck_assert_int_eq (worker.decision.reason, POLICY_QUIET);
    ck_assert (worker.compactor->goal.thorough);
    step_to_sleep ();
    ck_assert_uint_eq (nr_runs (), i);
    ck_assert_uint_ge (held - pages_held (&pages) + 2 * MIB, reclaimable);
  }
  close_worker ();
}
END_TEST

START_TEST (test_nothing_for_an_hour)
{
  unsigned nr;

  open_worker (0);
  add_items (0, 20000, 100, 4096);
  free_most (0, 20000, 3);
  step_to_sleep ();
  ck_assert_uint_ge (nr_runs (), 1);
  const uint64_t runs = nr_runs ();
  nr = atomic_load (&nr_facts);
  for (unsigned i = 0; i < 3600; i++) {
    fake_ns += SECOND;
    ck_assert_uint_eq (step (false), NEVER);
    ck_assert (atomic_load (&worker.asleep));
    ck_assert (!was_rung ());
  }
  ck_assert_uint_eq (nr_runs (), runs);
  /* Not even a look. */
  ck_assert_uint_eq (atomic_load (&nr_facts), nr);
  close_worker ();
}
END_TEST

/* A steady load of overwrites whose holes are filled again is left alone. */
START_TEST (test_steady_load)
{
  open_worker (0);
  add_items (0, 10000, 2000, 2000);
  step_to_sleep ();
  for (unsigned i = 0; i < 2000; i++) {
    for (unsigned j = 0; j < 20; j++) {
      const owner_t owner = (owner_t) rng_below (&worker_rng, 10000);

      free_item (owner);
      compact_worker_poke (&worker);
      add_item (owner, 2000);
    }
    ck_assert_uint_eq (step (false), POLICY_TICK_NS);
  }
  ck_assert_uint_eq (nr_runs (), 0);
  close_worker ();
}
END_TEST

/* Overwrites that leave far too much behind: down to half, not thorough. */
START_TEST (test_overwrites)
{
  open_worker (0);
  add_items (0, 20000, 2000, 2000);
  add_items (20000, 20100, 2000, 2000);
  step_to_sleep ();
  for (owner_t i = 0; i < 20000; i += 2)
    free_item (i);
  compact_worker_poke (&worker);
  step (false);
  for (owner_t i = 20000; !worker.running; i++) {
    ck_assert_uint_lt (i, 20100);
    free_item (i);
    step (false);
  }
  ck_assert_int_eq (worker.decision.reason, POLICY_OVERWRITES);
  ck_assert (!worker.compactor->goal.thorough);
  ck_assert_uint_eq (worker.compactor->goal.until_returned, UINT64_MAX);
  while (worker.running) {
    if (fake_ns >= worker.next_look_ns)
      free_item (20099); /* nothing, but it keeps the load up */
    step (false);
  }
  ck_assert_uint_lt (compactor_reclaimable (worker.compactor), 4 * MIB);
  close_worker ();
}
END_TEST

START_TEST (test_manual)
{
  const struct worker_settings settings = { .manual = true };
  uint64_t ticket;

  open_worker_of (&settings, fake_now_ns);
  pool_set_spare_max (pool, 1000);
  add_items (0, 10000, 2000, 4096);
  add_items (10000, 20000, 1500, 1500);
  free_most (0, 10000, 2);
  for (owner_t i = 10000; i < 20000; i++)
    free_item (i);
  ck_assert_uint_gt (spare_bytes (), 10 * MIB);
  ck_assert_uint_gt (compactor_reclaimable (worker.compactor),
                     spare_bytes () + 5 * MIB);
  step_to_sleep ();
  ck_assert_uint_le (spare_bytes (), POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES);
  ck_assert_uint_gt (compactor_reclaimable (worker.compactor), 5 * MIB);
  ck_assert_uint_eq (nr_runs (), 0);
  worker.pressure = true;
  step_to_sleep ();
  ck_assert_uint_eq (spare_bytes (), 0);
  ck_assert_uint_eq (nr_runs (), 0);

  ticket = ask (-1);
  while (!is_done (ticket))
    step (false);
  ck_assert_uint_eq (nr_runs (), 1);
  ck_assert_uint_lt (compactor_reclaimable (worker.compactor), 2 * MIB);
  close_worker ();
}
END_TEST

/* Spare zspages go a few at a time, and make way for whom they disturb. */
START_TEST (test_purge_in_slices)
{
  unsigned nr_steps = 0;

  open_worker (0);
  pool_set_spare_max (pool, 1000);
  add_items (0, 20000, 2000, 2000);
  for (owner_t i = 0; i < 20000; i++)
    free_item (i);
  ck_assert_uint_gt (spare_bytes (), 100 * ZSPAGE_BYTES);
  while (spare_bytes () > POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES) {
    const uint64_t before = spare_bytes (), wait = step (true);

    if (spare_bytes () > POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES)
      ck_assert_uint_eq (wait, WORKER_PAUSE_NS);
    ck_assert_uint_lt (spare_bytes (), before);
    ck_assert_uint_le (before - spare_bytes (), 10 * ZSPAGE_BYTES);
    nr_steps++;
  }
  ck_assert_uint_ge (nr_steps, 10);
  step_to_sleep ();
  close_worker ();
}
END_TEST

START_TEST (test_pressure)
{
  open_worker (0);
  add_items (0, 2000, 2000, 2000);
  step_to_sleep ();
  free_most (0, 200, 2); /* too little to begin by itself */
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 0);
  worker.pressure = true;
  ck_assert_uint_eq (step (false), 0);
  ck_assert (!worker.pressure);
  ck_assert_uint_eq (nr_runs (), 1);
  ck_assert_int_eq (worker.decision.reason, POLICY_PRESSURE);
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 1);
  close_worker ();
}
END_TEST

/* The limit is lowered below what is held; nothing was freed just now. */
START_TEST (test_limit_lowered)
{
  open_worker (0);
  add_items (0, 5000, 2000, 2000);
  step_to_sleep ();
  free_most (0, 300, 2);
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 0);
  pages_set_limit (&pages, 5 * MIB);
  compact_worker_poke (&worker);
  ck_assert (was_rung ());
  step (false);
  ck_assert_int_eq (worker.decision.reason, POLICY_LIMIT);
  ck_assert_uint_eq (nr_runs (), 1);
  step_to_sleep ();
  ck_assert_uint_eq (spare_bytes (), 0);
  pages_set_limit (&pages, PAGES_NO_LIMIT);
  close_worker ();
}
END_TEST

/* close_worker checks what is left over. */
START_TEST (test_stop_in_the_middle)
{
  struct compact_report report;
  uint64_t ticket, waiting;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (-1);
  for (int i = 0; i < _i || !worker.compactor->has_source; i++)
    step (false);
  ck_assert (!is_done (ticket));
  waiting = ask (7);
  compact_worker_stop (&worker);
  /* Nobody waits for it for ever. */
  ck_assert (compact_worker_report (&worker, ticket, &report));
  ck_assert (is_done (waiting));
  ck_assert_uint_gt (report.moved_objects, 0);
  close_worker ();
}
END_TEST

START_TEST (test_stop_by_itself)
{
  open_worker (0);
  step_to_sleep ();
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  while (!worker.running || !worker.compactor->has_source)
    step (false);
  compact_worker_stop (&worker);
  ck_assert (!worker.running);
  /* Again, and when nothing is left to stop. */
  compact_worker_stop (&worker);
  close_worker ();
}
END_TEST

/* Any order of everything. */
START_TEST (test_random)
{
  uint64_t ticket = 0;

  open_worker (_i % 2 == 0 ? 0 : 5 * MIB);
  pool_set_spare_max (pool, 20);
  rng_init (&worker_rng, test_seed (), 100 + (uint64_t) _i);
  for (unsigned i = 0; i < (test_quick () ? 1000 : 5000); i++) {
    const owner_t start = (owner_t) rng_below (&worker_rng, 4000);
    const owner_t end = start + (owner_t) rng_size (&worker_rng, 1000);

    switch (rng_below (&worker_rng, 8)) {
    case 0:
      for (owner_t j = start; j < end; j++)
        if (!is_live (j))
          add_item (j, (uint32_t) rng_size (&worker_rng, 4096));
      break;
    case 1:
      free_most (start, end, 1 + (unsigned) rng_below (&worker_rng, 5));
      break;
    case 2:
      ticket = ask ((int) rng_below (&worker_rng, 100) - 1);
      break;
    case 3:
      worker.pressure = rng_once_in (&worker_rng, 10);
      break;
    case 4:
      fake_ns += rng_size (&worker_rng, SECOND);
      break;
    case 5:
      compactor_make_room (worker.compactor, rng_size (&worker_rng, MIB),
                           compactor_returned (worker.compactor), MS);
      break;
    default:
      for (uint64_t j = rng_below (&worker_rng, 20); j > 0; j--)
        step (rng_once_in (&worker_rng, 3));
      break;
    }
  }
  if (ticket != 0)
    while (!is_done (ticket))
      step (false);
  step_to_sleep ();
  /* Asleep, and everything that is worth it was done. */
  ck_assert_uint_le (spare_bytes (), POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES);
  close_worker ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("worker");
  TCase *tcase = tcase_create ("worker");
  SRunner *runner;
  int nr_failed;

  test_start ("test-worker");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_rate, 0, 2);
  tcase_add_test (tcase, test_contended);
  tcase_add_test (tcase, test_contended_request);
  tcase_add_test (tcase, test_sleep_and_wake);
  tcase_add_test (tcase, test_free_while_falling_asleep);
  tcase_add_test (tcase, test_quiet_run);
  tcase_add_test (tcase, test_nothing_for_an_hour);
  tcase_add_test (tcase, test_steady_load);
  tcase_add_test (tcase, test_overwrites);
  tcase_add_test (tcase, test_manual);
  tcase_add_test (tcase, test_purge_in_slices);
  tcase_add_test (tcase, test_pressure);
  tcase_add_test (tcase, test_limit_lowered);
  tcase_add_loop_test (tcase, test_stop_in_the_middle, 1, 6);
  tcase_add_test (tcase, test_stop_by_itself);
  tcase_add_loop_test (tcase, test_random, 0, 6);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
