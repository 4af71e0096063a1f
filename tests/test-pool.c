/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool against a shadow, by one thread: any sizes in any order, what it
 * touches, its address space used up, its limit reached.  Threads:
 * test-pool-threads.c.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "libcheck.h"
#include "pool-fixture.h"
#include "probe.h"

static void
run_phase (struct shadow *shadow, struct rng *rng, enum sizes sizes,
           unsigned nr_ops, unsigned alloc_percent)
{
  for (unsigned i = 0; i < nr_ops; ++i) {
    if (rng_below (rng, 100) < alloc_percent && shadow->nr < shadow->max)
      ck_assert_int_eq (alloc_object (shadow, choose_size (rng, sizes)), 0);
    else if (shadow->nr > 0)
      free_object (shadow, rng_below (rng, shadow->nr));
  }
}

START_TEST (test_random)
{
  const unsigned nr_ops = test_short () ? 2000 : 8000;
  struct pool_stats stats;
  struct shadow shadow;
  struct rng rng;

  rng_init (&rng, test_seed (), (uint64_t) _i);
  shadow_init (&shadow, nr_ops, 1);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  check_everything (&shadow);
  for (unsigned round = 0; round < 2; ++round) {
    run_phase (&shadow, &rng, (enum sizes) _i, nr_ops, 95);
    check_everything (&shadow);
    run_phase (&shadow, &rng, SIZES_ALL, nr_ops, 50);
    check_everything (&shadow);
    run_phase (&shadow, &rng, (enum sizes) _i, nr_ops, 10);
    check_everything (&shadow);
    free_all (&shadow, &rng);
    check_everything (&shadow);
    pool_stats (pool, &stats);
    ck_assert_uint_eq (stats.arena_bytes, 0);
    ck_assert_uint_eq (stats.nr_zspages, 0);
    ck_assert_uint_gt (stats.nr_zspages_released, 0);
  }
  close_pool ();
  free (shadow.objects);
}
END_TEST

/* Every size, and the slot that each gets. */
START_TEST (test_every_size)
{
  struct shadow shadow;
  struct rng rng;

  rng_init (&rng, test_seed (), 20);
  shadow_init (&shadow, 2 * OBJECT_MAX, 1);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (uint32_t bytes = 1; bytes <= OBJECT_MAX; ++bytes) {
    const struct size_class_table *table = size_class_table ();
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
    ck_assert_uint_eq (
      pool_slot_bytes (pool, shadow.objects[shadow.nr - 1].loc),
      table->classes[size_class_of (table, bytes)].object_bytes);
  }
  check_everything (&shadow);
  free_all (&shadow, &rng);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}
END_TEST

/* Owners are opaque: all 32 bits come back. */
START_TEST (test_owners)
{
  static const owner_t owners[] = {
    0, 1, UINT32_C (1) << 31, OWNER_NONE, OWNER_NONE - 1, 0x55555555,
  };
  zs_loc locs[sizeof owners / sizeof owners[0]];

  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (unsigned i = 0; i < sizeof owners / sizeof owners[0]; ++i)
    ck_assert_int_eq (pool_alloc (pool, 100, owners[i], &locs[i]), 0);
  for (unsigned i = 0; i < sizeof owners / sizeof owners[0]; ++i)
    ck_assert_uint_eq (pool_owner (pool, locs[i]), owners[i]);
  /* Destroyed with objects in it. */
  close_pool ();
}
END_TEST

static int
stop_at_third (void *opaque, zs_loc loc, owner_t owner)
{
  (void) loc;
  (void) owner;
  return ++*(unsigned *) opaque == 3 ? 42 : 0;
}

START_TEST (test_iterate_ends_early)
{
  unsigned nr = 0;
  zs_loc loc;

  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (unsigned i = 0; i < 10; ++i)
    ck_assert_int_eq (pool_alloc (pool, 16, i, &loc), 0);
  ck_assert_int_eq (pool_iterate (pool, 0, stop_at_third, &nr), 42);
  ck_assert_uint_eq (nr, 3);
  nr = 100;
  ck_assert_int_eq (pool_iterate (pool, 1, stop_at_third, &nr), 0);
  ck_assert_uint_eq (nr, 100);
  close_pool ();
}
END_TEST

/* What is fresh costs what it has touched: one object, one page of arena;
 * many, not a percent more than they are.
 */
START_TEST (test_touches_little)
{
  struct pool_stats stats;
  struct shadow shadow;

  shadow_init (&shadow, 20000, 1);
  for (size_t bytes = 16; bytes <= 4096; bytes += 1020) {
    open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
    for (unsigned i = 0; i < 10000 && i * bytes < 24 * MIB; ++i) {
      ck_assert_int_eq (alloc_object (&shadow, (uint32_t) bytes), 0);
      pool_stats (pool, &stats);
      const uint64_t taken =
        (i + 1) * pool_slot_bytes (pool, shadow.objects[i].loc);
      ck_assert_uint_le (stats.arena_bytes,
                         pages_round_up (taken + taken / 80 + 4096));
      if (i == 0)
        ck_assert_uint_le (stats.arena_bytes, PAGE_BYTES);
    }
    shadow.nr = 0;
    close_pool ();
  }
  free (shadow.objects);
}
END_TEST

/* The arena's address space is used up: -ENOSPC, and a zspage that one
 * class gave back serves another.
 */
START_TEST (test_arena_used_up)
{
  const unsigned per_zspage = ZSPAGE_BYTES / 4096;
  struct shadow shadow;
  zs_loc loc, freed;
  size_t nr;

  shadow_init (&shadow, 40000, 1);
  open_pool (4 * ZSPAGE_BYTES, PAGES_NO_LIMIT);
  while (alloc_object (&shadow, 4096) == 0)
    ;
  ck_assert_uint_eq (shadow.nr, 4 * per_zspage);
  ck_assert_int_eq (pool_alloc (pool, 4096, 0, &loc), -ENOSPC);
  ck_assert_int_eq (pool_alloc (pool, 16, 0, &loc), -ENOSPC);
  check_everything (&shadow);

  freed = shadow.objects[70].loc;
  free_object (&shadow, 70);
  ck_assert_int_eq (pool_alloc (pool, 16, 0, &loc), -ENOSPC);
  ck_assert_int_eq (alloc_object (&shadow, 4096), 0);
  ck_assert_uint_eq (shadow.objects[shadow.nr - 1].loc, freed);

  for (size_t i = shadow.nr; i-- > 0;)
    if (shadow.objects[i].loc >> LOC_PER_ZSPAGE_SHIFT == 2)
      free_object (&shadow, i);
  ck_assert_uint_eq (shadow.nr, 3 * per_zspage);
  for (nr = 0; alloc_object (&shadow, 16) == 0; ++nr)
    ;
  ck_assert_uint_eq (nr, MAX_OBJECTS_PER_ZSPAGE);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}
END_TEST

START_TEST (test_sizes_of_arenas)
{
  static const uint64_t sizes[] = {
    1, ZSPAGE_BYTES - 1, ZSPAGE_BYTES, ZSPAGE_BYTES + 1, 5 * MIB,
  };
  zs_loc loc;

  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    unsigned nr = 0;
    open_pool (sizes[i], PAGES_NO_LIMIT);
    while (pool_alloc (pool, 4096, 7, &loc) == 0)
      ++nr;
    ck_assert_uint_eq (nr, (sizes[i] + ZSPAGE_BYTES - 1) / ZSPAGE_BYTES *
                             (ZSPAGE_BYTES / 4096));
    close_pool ();
  }
#if !TEST_SANITIZED
  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pool_create (&pages, ARENA_MAX_BYTES, &pool), 0);
  ck_assert_int_eq (pool_activate (pool), 0);
  ck_assert_int_eq (pool_alloc (pool, 4096, 7, &loc), 0);
  ck_assert_uint_le (pages_held (&pages), 64 * KIB);
  pool_destroy (pool);
#endif
}
END_TEST

/*--------------------------------------------------------------------*/
/* The limit. */

START_TEST (test_limit)
{
  const uint64_t limit = 2 * MIB;
  struct shadow shadow;
  struct rng rng;
  zs_loc loc;

  rng_init (&rng, test_seed (), 30 + (uint64_t) _i);
  shadow_init (&shadow, 1 << 19, 1);
  open_pool (ARENA_BYTES, limit);
  for (unsigned round = 0; round < 6; ++round) {
    const enum sizes sizes = round % 2 == 0 ? (enum sizes) _i : SIZES_ALL;
    uint32_t bytes;
    uint64_t held;

    while (bytes = choose_size (&rng, sizes),
           alloc_object (&shadow, bytes) == 0)
      ;
    held = pages_held (&pages);
    ck_assert_uint_le (held, limit);
    ck_assert_int_eq (pool_alloc (pool, bytes, 0, &loc), -ENOSPC);
    ck_assert_uint_eq (pages_held (&pages), held);
    /* Nothing is refused that there is room for: two pages of objects,
     * what a new zspage takes of side table, descriptors and links.
     */
    ck_assert_uint_gt (held + 2 * PAGE_BYTES + 20 * PAGE_BYTES, limit);
    check_everything (&shadow);
    for (unsigned i = (unsigned) (shadow.nr * (round + 1) / 7); i > 0; --i)
      free_object (&shadow, rng_below (&rng, shadow.nr));
    check_everything (&shadow);
  }
  free_all (&shadow, &rng);
  check_everything (&shadow);
  ck_assert_uint_le (atomic_load (&pages.highest), limit);
  close_pool ();
  free (shadow.objects);
}
END_TEST

/* At the limit an object finds any free slot of its class that is resident
 * already, also where the fullest zspage has only untouched ones.
 */
START_TEST (test_limit_finds_resident_slots)
{
  const unsigned per_zspage = ZSPAGE_BYTES / 4096, nr_freed = 40;
  struct shadow shadow;
  unsigned nr = 0;

  shadow_init (&shadow, 4096, 1);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (unsigned i = 0; i < 2 * per_zspage - 24; ++i)
    ck_assert_int_eq (alloc_object (&shadow, 4096), 0);
  pages_set_limit (&pages, pages_held (&pages));
  /* The first zspage becomes the emptier one. */
  for (unsigned i = nr_freed; i-- > 0;)
    free_object (&shadow, i);
  while (alloc_object (&shadow, 4096) == 0)
    ++nr;
  ck_assert_uint_ge (nr, nr_freed);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("pool");
  TCase *tcase = tcase_create ("pool");
  SRunner *runner;
  int nr_failed;

  test_start ("test-pool");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_every_size);
  tcase_add_test (tcase, test_owners);
  tcase_add_test (tcase, test_iterate_ends_early);
  tcase_add_test (tcase, test_touches_little);
  tcase_add_test (tcase, test_arena_used_up);
  tcase_add_test (tcase, test_sizes_of_arenas);
  tcase_add_loop_test (tcase, test_random, 0, NR_SIZES);
  tcase_add_loop_test (tcase, test_limit, 0, NR_SIZES);
  tcase_add_test (tcase, test_limit_finds_resident_slots);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
