/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool by many threads: each has objects of its own, some of which
 * change hands, while one more looks at everything; without a limit and
 * with one that is reached all the time.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libcheck.h"
#include "pool-fixture.h"
#include "probe.h"

#define NR_THREADS 8
#define NR_BOXES 16

static struct shadow shadows[NR_THREADS];
static struct {
  pthread_mutex_t mutex;
  bool full;
  struct object object;
} boxes[NR_BOXES];
static uint64_t threads_limit;
static atomic_bool threads_done;

/* Put an object into a box, take the one that was there. */
static void
swap_with_box (struct shadow *shadow, struct rng *rng)
{
  const size_t i = rng_below (rng, shadow->nr);
  const unsigned box = rng_below (rng, NR_BOXES);
  const struct object mine = shadow->objects[i];

  pthread_mutex_lock (&boxes[box].mutex);
  if (boxes[box].full)
    shadow->objects[i] = boxes[box].object;
  else
    shadow->objects[i] = shadow->objects[--shadow->nr];
  boxes[box].object = mine;
  boxes[box].full = true;
  pthread_mutex_unlock (&boxes[box].mutex);
}

static void *
use_pool (void *arg)
{
  struct shadow *shadow = arg;
  const uint64_t thread = (uint64_t) (shadow - shadows);
  const unsigned nr_ops = test_short () ? 4000 : 30000;
  struct rng rng;

  rng_init (&rng, test_seed (), 40 + thread);
  for (unsigned i = 0; i < nr_ops; ++i) {
    const unsigned phase = i / 500 % 4;
    const unsigned what = rng_below (&rng, 100);

    if (what < 40 + 10 * phase && shadow->nr < shadow->max) {
      const int r =
        alloc_object (shadow,
                      choose_size (&rng, (enum sizes) (phase % NR_SIZES)));
      if (r < 0 && (r != -ENOSPC || threads_limit == PAGES_NO_LIMIT))
        test_note_failure ("pool_alloc gave %d", r);
      if (r < 0 && shadow->nr > 0)
        free_object (shadow, rng_below (&rng, shadow->nr));
    }
    else if (shadow->nr > 0 && what >= 95)
      swap_with_box (shadow, &rng);
    else if (shadow->nr > 0)
      free_object (shadow, rng_below (&rng, shadow->nr));
  }
  return NULL;
}

static int
count_object (void *opaque, zs_loc loc, owner_t owner)
{
  (void) loc;
  (void) owner;
  ++*(uint64_t *) opaque;
  return 0;
}

/* Look at everything while it moves. */
static void *
watch_pool (void *arg)
{
  (void) arg;
  while (!atomic_load (&threads_done)) {
    struct pool_class_stats class_stats;
    struct pool_stats stats;
    uint64_t nr = 0;

    if (pages_held (&pages) > threads_limit)
      test_note_failure ("held is %" PRIu64, pages_held (&pages));
    pool_stats (pool, &stats);
    for (unsigned idx = 0; idx < pool_nr_classes (pool); idx += 7) {
      pool_class_stats (pool, idx, &class_stats);
      if (class_stats.nr_inuse >
          class_stats.nr_zspages * class_stats.objects_per_zspage)
        test_note_failure ("more objects than slots in class %u", idx);
      pool_iterate (pool, idx, count_object, &nr);
    }
    sleep_us (100);
  }
  return NULL;
}

static void
run_threads (void)
{
  pthread_t threads[NR_THREADS], watcher;

  atomic_store (&threads_done, false);
  ck_assert_int_eq (pthread_create (&watcher, NULL, watch_pool, NULL), 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, use_pool, &shadows[i]),
                      0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&threads_done, true);
  pthread_join (watcher, NULL);
}

/* All objects, of threads and boxes, in one list. */
static void
gather_objects (struct shadow *all)
{
  for (unsigned i = 0; i < NR_THREADS; ++i) {
    memcpy (all->objects + all->nr, shadows[i].objects,
            shadows[i].nr * sizeof all->objects[0]);
    all->nr += shadows[i].nr;
    shadows[i].nr = 0;
  }
  for (unsigned i = 0; i < NR_BOXES; ++i) {
    if (boxes[i].full)
      all->objects[all->nr++] = boxes[i].object;
    boxes[i].full = false;
  }
}

START_TEST (test_threads)
{
  struct pool_stats stats;
  struct shadow all;
  struct rng rng;

  rng_init (&rng, test_seed (), 50);
  threads_limit = _i == 0 ? PAGES_NO_LIMIT : 2 * MIB;
  open_pool (ARENA_BYTES, threads_limit);
  shadow_init (&all, NR_THREADS * 4000 + NR_BOXES, 1);
  for (unsigned i = 0; i < NR_BOXES; ++i)
    pthread_mutex_init (&boxes[i].mutex, NULL);
  for (uint64_t i = 0; i < NR_THREADS; ++i)
    shadow_init (&shadows[i], 4000, i << 28);

  for (unsigned round = 0; round < 2; ++round) {
    run_threads ();
    gather_objects (&all);
    check_everything (&all);
    free_all (&all, &rng);
    check_everything (&all);
    pool_stats (pool, &stats);
    ck_assert_uint_eq (stats.arena_bytes, 0);
  }
  close_pool ();
  for (unsigned i = 0; i < NR_THREADS; ++i)
    free (shadows[i].objects);
  free (all.objects);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("pool-threads");
  TCase *tcase = tcase_create ("pool-threads");
  SRunner *runner;
  int nr_failed;

  test_start ("test-pool-threads");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_threads, 0, 2);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
