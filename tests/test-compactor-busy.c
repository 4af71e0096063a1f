/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The compactor over a pool, with others in its way: busy owners, purges that
 * fail, and threads that go on allocating and freeing.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "compact-fixture.h"
#include "libcheck.h"
#include "pool-check.h"
#include "probe.h"

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
    if (!victims[i].freed && victims[i].loc >> LOC_PER_ZSPAGE_SHIFT != zspage) {
      items[victims[i].id].stays = (enum move_result) _i;
      zspage = victims[i].loc >> LOC_PER_ZSPAGE_SHIFT;
      ++nr_stay;
    }
  CHECK (nr_stay > COMPACT_PARKED_MAX);
  for (unsigned i = 0; i < 3; ++i) {
    const struct compact_report report = run (&everything);

    if (_i == MOVE_BUSY && i == 0)
      CHECK (report.skipped_busy > 0);
    measure (); /* nothing is isolated */
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
        test_note_failure ("%s: the object of item %zu is another's", situation,
                           i);
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
  size_t *live; /* items, all from its own range */
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

  for (unsigned try = 0;; ++try) {
    const uint64_t seen = compactor_returned (&compactor);
    const int r = give_object (i, bytes, ++worker->age);

    if (r == 0) {
      --worker->nr_idle;
      worker->live[worker->nr_live++] = i;
      return 0;
    }
    if (r != -ENOSPC || threads_limit == PAGES_NO_LIMIT)
      test_note_failure ("pool_alloc gave %d", r);
    if (try == 4 ||
        !compactor_make_room (&compactor, 4 * PAGE_BYTES, seen, 1000000))
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
  const unsigned nr_ops = test_quick ()    ? 5000
                          : TEST_SANITIZED ? 30000
                                           : 150000;
  struct rng own;

  rng_init (&own, test_seed (), 800 + worker->number);
  for (unsigned i = 0; i < nr_ops; ++i) {
    const unsigned what = (unsigned) rng_below (&own, 100);
    const unsigned growth = i / 4000 % 2 == 0 ? 60 : 25;

    if (what < growth && worker->nr_idle > 0) {
      if (worker_alloc (worker, rng_once_in (&own, 4)
                                  ? (uint32_t) rng_between (&own, 1, 4096)
                                  : sizes[rng_below (&own, 7)]) != 0 &&
          worker->nr_live > 0)
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
  size_t first;

  worker->number = number;
  worker->live = calloc (ITEMS_PER_THREAD, sizeof worker->live[0]);
  worker->idle = calloc (ITEMS_PER_THREAD, sizeof worker->idle[0]);
  ck_assert (worker->live != NULL && worker->idle != NULL);
  first = reserve_items (ITEMS_PER_THREAD);
  for (size_t i = 0; i < ITEMS_PER_THREAD; ++i)
    worker->idle[worker->nr_idle++] = first + i;
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
                                    NULL),
                    0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, work, &workers[i]), 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&threads_done, true);
  pthread_join (compacting, NULL);

  CHECK (nr_moves > 0);
  end_run ();
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
  Suite *suite = suite_create ("compactor-busy");
  TCase *tcase = tcase_create ("compactor-busy");
  SRunner *runner;
  int nr_failed;

  test_start ("test-compactor-busy");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_lone_loop_test (tcase, test_one_busy, MOVE_BUSY,
                            MOVE_IN_TRANSIT + 1);
  tcase_add_lone_loop_test (tcase, test_busy_in_every_zspage, MOVE_BUSY,
                            MOVE_IN_TRANSIT + 1);
  tcase_add_lone_loop_test (tcase, test_half_busy, 0, 2);
  tcase_add_lone_test (tcase, test_nth_purge_fails);
  tcase_add_lone_test (tcase, test_every_purge_fails);
  tcase_add_loop_test (tcase, test_threads, 0, 2);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
