/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The worker's thread, over a real pool, beside others that free.  Nothing
 * here asks how long something takes, only whether it happens at all.
 */

#include <config.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "libcheck.h"
#include "worker-fixture.h"

#define NR_THREADS 2
#define ITEMS_A_THREAD 3000

static atomic_bool threads_done;

/* What the system tells of its memory, where it does. */
static const char *const pressure_paths[] = {
  NULL,
  "/nonexistent/memory.pressure",
  "/proc/pressure/memory",
};
#define NR_PRESSURE_PATHS 3

static void
open_thread_worker (const char *pressure_path)
{
  const struct worker_settings settings = { .pressure_path = pressure_path };

  open_worker_of (&settings, NULL);
}

static void *
churn (void *opaque)
{
  const owner_t first = (owner_t) (uintptr_t) opaque * ITEMS_A_THREAD;
  struct rng own;

  rng_init (&own, test_seed (), 200 + first);
  while (!atomic_load (&threads_done)) {
    const owner_t owner = first + (owner_t) rng_below (&own, ITEMS_A_THREAD);

    if (is_live (owner)) {
      free_item (owner);
      compact_worker_poke (&worker);
    }
    else if (rng_below (&own, 100) < 60)
      add_item (owner, (uint32_t) rng_between (&own, 1, 4096));
  }
  return NULL;
}

START_TEST (test_start_and_stop)
{
  pthread_t threads[NR_THREADS];

  open_thread_worker (NULL);
  atomic_store (&threads_done, false);
  for (uintptr_t i = 0; i < NR_THREADS; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, churn, (void *) i), 0);
  for (unsigned i = 0; i < 50; i++) {
    uint64_t ticket;

    ck_assert_int_eq (compact_worker_start (&worker), 0);
    ticket = compact_worker_request (&worker, -1);
    sleep_us ((unsigned) rng_size (&worker_rng, 4000));
    if (i % 5 == 0)
      while (!is_done (ticket))
        sleep_us (100);
    compact_worker_stop (&worker);
    ck_assert (is_done (ticket));
    ck_assert_uint_eq (spare_bytes (), 0);
  }
  ck_assert_int_eq (compact_worker_start (&worker), 0);
  atomic_store (&threads_done, true);
  for (unsigned i = 0; i < NR_THREADS; i++)
    pthread_join (threads[i], NULL);
  ck_assert_uint_gt (atomic_load (&worker.compactor->totals.moved_objects), 0);
  close_worker ();
}
END_TEST

/* A guard against hanging, no more. */
static bool
wait_until_asleep (void)
{
  for (unsigned i = 0; i < 60000; i++) {
    if (atomic_load (&worker.asleep))
      return true;
    sleep_us (1000);
  }
  return false;
}

START_TEST (test_thread_wakes)
{
  uint64_t ticket;

  open_thread_worker (pressure_paths[_i]);
  if (_i < 2)
    ck_assert_int_eq (worker.pressure_fd, -1);
  add_items (0, 20000, 1000, 4096);
  ck_assert_int_eq (compact_worker_start (&worker), 0);
  ck_assert (wait_until_asleep ());
  ck_assert_uint_eq (nr_runs (), 0);
  for (unsigned i = 0; i < 3; i++) {
    const uint64_t runs = nr_runs ();

    free_most (0, 20000, 2);
    for (unsigned j = 0; nr_runs () == runs; j++) {
      ck_assert_uint_lt (j, 60000);
      sleep_us (1000);
    }
    ck_assert (wait_until_asleep ());
  }
  /* Out of its sleep on command, too. */
  ticket = compact_worker_request (&worker, -1);
  for (unsigned j = 0; !is_done (ticket); j++) {
    ck_assert_uint_lt (j, 60000);
    sleep_us (1000);
  }
  close_worker ();
}
END_TEST

/* No free is missed, wherever between two looks it comes: after each there
 * is a look that began later.
 */
START_TEST (test_no_lost_wake)
{
  const unsigned nr = test_quick () ? 20 : 60;

  open_thread_worker (NULL);
  add_items (0, nr, 2000, 2000);
  ck_assert_int_eq (compact_worker_start (&worker), 0);
  for (owner_t i = 0; i < nr; i++) {
    unsigned seen;

    if (i % 3 == 0)
      ck_assert (wait_until_asleep ());
    else if (i % 3 == 1) /* about when it falls asleep */
      sleep_us ((unsigned) (POLICY_TICK_NS / 1000 - 200 +
                            rng_below (&worker_rng, 400)));
    else
      sleep_us ((unsigned) rng_below (&worker_rng, 1000));
    seen = atomic_load (&nr_facts);
    free_item (i);
    compact_worker_poke (&worker);
    for (unsigned j = 0; atomic_load (&nr_facts) - seen < 2; j++) {
      ck_assert_uint_lt (j, 600000);
      sleep_us (100);
    }
  }
  close_worker ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("worker-thread");
  TCase *tcase = tcase_create ("worker-thread");
  SRunner *runner;
  int nr_failed;

  test_start ("test-worker-thread");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_start_and_stop);
  tcase_add_loop_test (tcase, test_thread_wakes, 0, NR_PRESSURE_PATHS);
  tcase_add_test (tcase, test_no_lost_wake);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
