/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's reserve: what is filled is what allocations find, held stays
 * below the ceiling, the limit takes it back, and a zspage whose pages are
 * coming is left alone by everybody else, whatever becomes of its objects.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "libcheck.h"
#include "pool-fixture.h"
#include "pool-move.h"
#include "probe.h"

#define RESERVE_BYTES (2 * MIB)
#define NR_OBJECTS 20000

static struct shadow shadow;

static void
open_reserve (uint64_t limit, const struct pages_ops *ops)
{
  open_pool_with_reserve (ops, ARENA_BYTES, limit, RESERVE_BYTES);
  shadow_init (&shadow, NR_OBJECTS, 1);
}

static void
close_reserve (void)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 9);
  check_everything (&shadow);
  free_all (&shadow, &rng);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}

static uint64_t
primed_bytes (void)
{
  struct pool_stats stats;

  pool_stats (pool, &stats);
  return stats.primed_bytes;
}

static uint64_t
nr_populates (void)
{
  return atomic_load (&pages.nr_populates);
}

/* New classes, bursts, steady growth: nothing is populated but by the
 * refill.
 */
START_TEST (test_allocations_find_pages)
{
  struct rng rng;
  uint64_t before;

  rng_init (&rng, test_seed (), 1);
  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  ck_assert (pool_wants_refill (pool));
  ck_assert (!pool_is_refilled (pool));
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  ck_assert (!pool_wants_refill (pool));
  ck_assert (pool_is_refilled (pool));
  ck_assert_uint_eq (primed_bytes (), RESERVE_BYTES);
  check_everything (&shadow);

  before = nr_populates ();
  for (uint32_t bytes = 300; bytes <= 4096; bytes += 60)
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  ck_assert_uint_eq (nr_populates (), before);
  ck_assert (pool_wants_refill (pool));
  ck_assert_uint_lt (primed_bytes (), RESERVE_BYTES);

  for (unsigned i = 0; i < 2000; i++) {
    ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
    ck_assert_uint_eq (primed_bytes (), RESERVE_BYTES);
    before = nr_populates ();
    for (unsigned j = 0; j < 4; j++)
      ck_assert_int_eq (alloc_object (&shadow, rng_between (&rng, 300, 4096)),
                        0);
    ck_assert_uint_eq (nr_populates (), before);
  }
  check_everything (&shadow);
  close_reserve ();
}
END_TEST

/* One refill is all that is needed, whatever came before. */
START_TEST (test_refill_is_whole)
{
  struct rng rng;
  uint64_t before;

  rng_init (&rng, test_seed (), 2);
  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  for (unsigned i = 0; i < 2000; i++) {
    for (uint64_t nr = rng_between (&rng, 1, 40); nr > 0; nr--)
      if (shadow.nr > rng_between (&rng, 1, 2000))
        free_object (&shadow, rng_below (&rng, shadow.nr));
      else
        ck_assert_int_eq (alloc_object (&shadow, 4096 - 400 * (nr % 4)), 0);
    ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
    before = nr_populates ();
    ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
    ck_assert_uint_eq (nr_populates (), before);
  }
  close_reserve ();
}
END_TEST

/* A zspage that was purged in place and then emptied may have pages in its
 * middle alone: no place for what comes.
 */
START_TEST (test_spare_has_its_first_page)
{
  const uint32_t bytes = 4096;
  const unsigned class_idx = size_class_of (size_class_table (), bytes);
  struct pool_source source;
  uint64_t before;

  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  pool_set_spare_max (pool, 10);
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  for (unsigned i = 0; i < 4; i++)
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  free_object (&shadow, 0); /* the last one is the first now, */
  while (shadow.nr > 1)     /* and stays */
    free_object (&shadow, 1);
  ck_assert (pool_isolate_emptiest (pool, class_idx, &source));
  pool_source_finish (pool, &source, 1);
  free_object (&shadow, 0);
  check_everything (&shadow);

  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  before = nr_populates ();
  ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  ck_assert_uint_eq (nr_populates (), before);
  close_reserve ();
}
END_TEST

static struct pool_class_stats
stats_of (uint32_t bytes)
{
  struct pool_class_stats stats;

  pool_class_stats (pool, size_class_of (size_class_table (), bytes), &stats);
  return stats;
}

static bool
is_in_first_zspage (size_t i)
{
  return shadow.objects[i].loc >> LOC_PER_ZSPAGE_SHIFT ==
         shadow.objects[0].loc >> LOC_PER_ZSPAGE_SHIFT;
}

/* All but one of the first zspage's objects, which then is the last. */
static void
free_first_zspage (void)
{
  for (size_t i = shadow.nr - 1; i > 0; i--)
    if (is_in_first_zspage (i))
      free_object (&shadow, i);
}

/* The free that empties a zspage takes away what was ready in it, all that
 * was; three others have room, but no page for it.
 */
START_TEST (test_free_takes_what_is_ready)
{
  const uint32_t bytes = 4096;
  uint64_t before;

  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  while (stats_of (bytes).by_fullness[NR_FULLNESS_GROUPS - 1] == 0) {
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
    ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  }
  while (stats_of (bytes).nr_zspages < 4 ||
         stats_of (bytes).resident_bytes > shadow.nr * bytes)
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  free_first_zspage ();
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  ck_assert (pool_is_refilled (pool));

  free_object (&shadow, 0);
  ck_assert_uint_eq (stats_of (bytes).nr_zspages, 3);
  ck_assert (!pool_is_refilled (pool));
  before = nr_populates ();
  ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  ck_assert_uint_eq (nr_populates (), before);
  close_reserve ();
}
END_TEST

/* Where all pages are resident there is nothing to ask for. */
START_TEST (test_nothing_to_ask_for)
{
  const uint32_t bytes = 4096;

  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  do {
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
    ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  } while (stats_of (bytes).resident_bytes < ZSPAGE_BYTES);
  while (shadow.nr < 63)
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  for (unsigned i = 0; i < 10; i++) {
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
    ck_assert (pool_is_refilled (pool));
    free_object (&shadow, i);
  }
  /* Until there is another one. */
  ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
  ck_assert (!pool_is_refilled (pool));
  close_reserve ();
}
END_TEST

/* The ceiling is not passed, and what is lacking is had later. */
START_TEST (test_ceiling)
{
  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  const uint64_t ceiling = pages_held (&pages) + MIB;

  ck_assert_int_eq (pool_refill (pool, ceiling), -ENOSPC);
  ck_assert_uint_le (pages_held (&pages), ceiling);
  ck_assert_uint_gt (primed_bytes (), MIB / 2);
  ck_assert_int_eq (pool_refill (pool, 0), -ENOSPC);
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  ck_assert_uint_eq (primed_bytes (), RESERVE_BYTES);
  close_reserve ();
}
END_TEST

/* Whatever comes last, zspages, a class's pages or side tables'. */
START_TEST (test_any_ceiling)
{
  uint64_t ceiling;

  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  ck_assert_int_eq (alloc_object (&shadow, 300), 0);
  for (ceiling = pages_held (&pages); pool_refill (pool, ceiling) != 0;
       ceiling += 3 * PAGE_BYTES)
    /* Bookkeeping: an array that grows. */
    ck_assert_uint_le (pages_held (&pages), ceiling + 2 * PAGE_BYTES);
  ck_assert_uint_le (pages_held (&pages), ceiling + 2 * PAGE_BYTES);
  ck_assert_uint_eq (primed_bytes (), RESERVE_BYTES);
  check_everything (&shadow);
  close_reserve ();
}
END_TEST

/* At the limit all of the reserve is used for objects. */
START_TEST (test_limit_takes_it)
{
  const uint64_t limit = 4 * MIB;
  uint64_t bytes = 0;

  open_reserve (limit, &probe_ops);
  ck_assert_int_eq (pool_refill (pool, limit), 0);
  ck_assert_uint_eq (primed_bytes (), RESERVE_BYTES);
  while (alloc_object (&shadow, 4096) == 0)
    bytes += 4096;
  ck_assert_uint_eq (primed_bytes (), 0);
  /* But for bookkeeping. */
  ck_assert_uint_gt (bytes, limit - limit / 8);
  ck_assert_int_eq (pool_refill (pool, limit - limit / 16), -ENOSPC);
  close_reserve ();
}
END_TEST

/* The system has none: nothing is lost, and it is had later. */
START_TEST (test_failures)
{
  uint64_t nr_failed;

  for (uint64_t nth = 1;; nth++) {
    open_reserve (PAGES_NO_LIMIT, &probe_ops);
    for (uint32_t bytes = 300; bytes <= 4096; bytes += 200)
      ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
    probe_fail_nth (PROBE_POPULATE, nth);
    const int r = pool_refill (pool, UINT64_MAX);
    nr_failed = probe_nr_failed ();
    probe_fail_nth (PROBE_POPULATE, 0);
    ck_assert_int_eq (r, nr_failed > 0 ? -ENOMEM : 0);
    check_everything (&shadow);
    ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
    ck_assert_uint_eq (primed_bytes (), RESERVE_BYTES);
    close_reserve ();
    if (nr_failed == 0)
      break;
    ck_assert_uint_lt (nth, 1000);
  }
}
END_TEST

/*--------------------------------------------------------------------*/
/* What others do while a zspage's pages come. */

static void (*while_populating) (void);

static int
populate_and_meddle (struct pages *p, void *addr, size_t bytes)
{
  void (*const meddle) (void) = while_populating;

  while_populating = NULL;
  if (meddle != NULL)
    meddle ();
  return probe_ops.populate (p, addr, bytes);
}

static struct pages_ops
meddling_ops (void)
{
  struct pages_ops ops = probe_ops;

  ops.populate = populate_and_meddle;
  return ops;
}

/* Nothing else makes the one zspage's class grow; the primed ones are there,
 * so the first thing populated is the growth.
 */
static void
grow_meanwhile (void (*meddle) (void))
{
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  /* Half of what is ready is taken. */
  while (!pool_wants_refill (pool))
    ck_assert_int_eq (alloc_object (&shadow, 1000), 0);
  while_populating = meddle;
  ck_assert_int_eq (pool_refill (pool, UINT64_MAX), 0);
  ck_assert (while_populating == NULL);
}

static void
free_everything (void)
{
  while (shadow.nr > 0)
    free_object (&shadow, shadow.nr - 1);
}

static void
free_and_take_again (void)
{
  free_everything ();
  ck_assert_int_eq (alloc_object (&shadow, 1000), 0);
}

/* More than its resident slots: what follows goes elsewhere. */
static void
allocate_beyond (void)
{
  for (unsigned i = 0; i < 200; i++)
    ck_assert_int_eq (alloc_object (&shadow, 1000), 0);
}

/* The same, where there is no primed one to go to. */
static void
purge_and_allocate_beyond (void)
{
  while (pool_purge_one_unused (pool) > 0)
    ;
  allocate_beyond ();
}

static void
try_to_isolate (void)
{
  const unsigned class_idx = size_class_of (size_class_table (), 1000);
  unsigned max_looks = 100;
  struct pool_source source;

  ck_assert (!pool_isolate_emptiest (pool, class_idx, &source));
  for (unsigned g = 0; g < NR_FULLNESS_GROUPS; g++)
    ck_assert (
      !pool_isolate_with_free_run (pool, class_idx, g, 1, &max_looks, &source));
}

START_TEST (test_meanwhile)
{
  static void (*const meddles[]) (void) = {
    free_everything,           free_and_take_again, allocate_beyond,
    purge_and_allocate_beyond, try_to_isolate,
  };
  const struct pages_ops ops = meddling_ops ();

  open_reserve (PAGES_NO_LIMIT, &ops);
  ck_assert_int_eq (alloc_object (&shadow, 1000), 0);
  grow_meanwhile (meddles[_i]);
  check_everything (&shadow);
  close_reserve ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads that allocate and free, one that refills, one that compacts. */

#define NR_THREADS 4

static struct shadow shadows[NR_THREADS];
static atomic_bool done;

static void *
allocate_and_free (void *arg)
{
  struct shadow *mine = arg;
  const unsigned nr_ops = test_short () ? 20000 : 100000;
  struct rng rng;

  rng_init (&rng, test_seed (), 100 + (uint64_t) (mine - shadows));
  for (unsigned i = 0; i < nr_ops; i++) {
    const uint64_t size = rng_between (&rng, 1, 3000);

    if (mine->nr > size)
      free_object (mine, rng_below (&rng, mine->nr));
    else if (alloc_object (mine, choose_size (&rng, SIZES_ALL)) < 0)
      test_note_failure ("no room");
  }
  return NULL;
}

static void *
refill (void *arg)
{
  (void) arg;
  while (!atomic_load (&done)) {
    const int r = pool_refill (pool, UINT64_MAX);

    if (r < 0)
      test_note_failure ("refill gave %d", r);
  }
  return NULL;
}

static void *
purge_in_place (void *arg)
{
  const unsigned nr_classes = pool_nr_classes (pool);
  struct pool_source source;
  struct rng rng;

  (void) arg;
  rng_init (&rng, test_seed (), 50);
  while (!atomic_load (&done)) {
    if (pool_isolate_emptiest (pool, rng_below (&rng, nr_classes), &source))
      pool_source_finish (pool, &source, 1);
    if (rng_once_in (&rng, 50))
      pool_purge_one_unused (pool);
  }
  return NULL;
}

START_TEST (test_threads)
{
  pthread_t threads[NR_THREADS], refiller, purger;
  struct rng rng;

  rng_init (&rng, test_seed (), 3);
  open_reserve (PAGES_NO_LIMIT, &probe_ops);
  atomic_store (&done, false);
  for (uint64_t i = 0; i < NR_THREADS; i++) {
    shadow_init (&shadows[i], NR_OBJECTS / NR_THREADS, (i + 1) << 28);
    pthread_create (&threads[i], NULL, allocate_and_free, &shadows[i]);
  }
  pthread_create (&refiller, NULL, refill, NULL);
  pthread_create (&purger, NULL, purge_in_place, NULL);
  for (unsigned i = 0; i < NR_THREADS; i++)
    pthread_join (threads[i], NULL);
  atomic_store (&done, true);
  pthread_join (refiller, NULL);
  pthread_join (purger, NULL);
  for (unsigned i = 0; i < NR_THREADS; i++) {
    for (size_t j = 0; j < shadows[i].nr; j++)
      shadow.objects[shadow.nr++] = shadows[i].objects[j];
    free (shadows[i].objects);
  }
  close_reserve ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("reserve");
  TCase *tcase = tcase_create ("reserve");
  SRunner *runner;
  int nr_failed;

  test_start ("test-reserve");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_lone_test (tcase, test_allocations_find_pages);
  tcase_add_lone_test (tcase, test_refill_is_whole);
  tcase_add_lone_test (tcase, test_spare_has_its_first_page);
  tcase_add_lone_test (tcase, test_free_takes_what_is_ready);
  tcase_add_lone_test (tcase, test_nothing_to_ask_for);
  tcase_add_lone_test (tcase, test_ceiling);
  tcase_add_lone_test (tcase, test_any_ceiling);
  tcase_add_lone_test (tcase, test_limit_takes_it);
  tcase_add_lone_test (tcase, test_failures);
  tcase_add_loop_test (tcase, test_meanwhile, 0, 5);
  tcase_add_test (tcase, test_threads);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
