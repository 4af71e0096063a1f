/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The block table: entries come back, a region is resident as long as one
 * of its entries is no hole and not a moment longer, and of a last hole and
 * a first entry at once, by two groups of one region, neither is lost.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block-table.h"
#include "libcheck.h"
#include "probe.h"
#include "test-util.h"

#define NR_BLOCKS (UINT64_C (10) * REGION_BLOCKS + 77)

static struct pages pages;
static struct block_table table;

static void
open_table (uint64_t nr_blocks, uint64_t limit)
{
  probe_reset ();
  pages_init (&pages, &probe_ops, limit);
  ck_assert_int_eq (block_table_reserve (&table, &pages, nr_blocks), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_int_eq (block_table_activate (&table), 0);
}

static void
close_table (void)
{
  block_table_release (&table);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

static void
check_memory (uint64_t nr_regions)
{
  ck_assert_uint_eq (atomic_load (&table.nr_resident), nr_regions);
  ck_assert_uint_eq (block_table_resident (&table),
                     nr_regions * PAGE_BYTES +
                       block_table_region_bytes (table.nr_blocks));
  ck_assert_uint_eq (pages_held (&pages), block_table_resident (&table));
  ck_assert_uint_eq (probe_resident_bytes (), pages_held (&pages));
}

START_TEST (test_empty)
{
  open_table (NR_BLOCKS, PAGES_NO_LIMIT);
  for (uint64_t i = 0; i < NR_BLOCKS; ++i)
    if (block_table_load (&table, i) != entry_hole ())
      test_note_failure ("block %" PRIu64 " is no hole", i);
  for (region_t i = 0; i < 11; ++i) {
    ck_assert_uint_eq (block_table_region (&table, i), 0);
    ck_assert_uint_eq (block_table_region_live (&table, i), 0);
  }
  /* Loading holes touches nothing. */
  check_memory (0);
  close_table ();
}
END_TEST

START_TEST (test_one_region)
{
  const entry_t same = entry_same (7), other = entry_same (8);

  open_table (NR_BLOCKS, PAGES_NO_LIMIT);
  ck_assert_int_eq (block_table_publish (&table, 600, entry_hole (), same), 0);
  ck_assert_uint_eq (block_table_load (&table, 600), same);
  ck_assert_uint_eq (block_table_region_live (&table, 1), 1);
  check_memory (1);
  /* Of one kind or of another: no hole is no hole. */
  ck_assert_int_eq (block_table_publish (&table, 600, same, other), 0);
  ck_assert_int_eq (block_table_publish (&table, 600, other, other), 0);
  ck_assert_uint_eq (block_table_region_live (&table, 1), 1);
  ck_assert_int_eq (block_table_publish (&table, 601, entry_hole (),
                                         entry_hole ()),
                    0);
  ck_assert_int_eq (block_table_publish (&table, 1023, entry_hole (), same), 0);
  ck_assert_uint_eq (block_table_region_live (&table, 1), 2);
  ck_assert_int_eq (block_table_publish (&table, 600, other, entry_hole ()), 0);
  ck_assert_uint_eq (block_table_load (&table, 600), entry_hole ());
  check_memory (1);
  ck_assert_int_eq (block_table_publish (&table, 1023, same, entry_hole ()), 0);
  ck_assert_uint_eq (block_table_region (&table, 1), 0);
  ck_assert_uint_eq (block_table_load (&table, 1023), entry_hole ());
  check_memory (0);
  close_table ();
}
END_TEST

/* All of it full: the count has room for all of a region. */
START_TEST (test_all_blocks)
{
  open_table (NR_BLOCKS, PAGES_NO_LIMIT);
  for (uint64_t i = 0; i < NR_BLOCKS; ++i)
    ck_assert_int_eq (block_table_publish (&table, i, entry_hole (),
                                           entry_same ((uint32_t) i)),
                      0);
  check_memory (11);
  for (region_t i = 0; i < 11; ++i)
    ck_assert_uint_eq (block_table_region_live (&table, i),
                       i < 10 ? REGION_BLOCKS : 77);
  for (uint64_t i = 0; i < NR_BLOCKS; ++i)
    if (block_table_load (&table, i) != entry_same ((uint32_t) i))
      test_note_failure ("block %" PRIu64 " is another", i);
  for (uint64_t i = NR_BLOCKS; i-- > 0;)
    ck_assert_int_eq (block_table_publish (&table, i, entry_same ((uint32_t) i),
                                           entry_hole ()),
                      0);
  check_memory (0);
  close_table ();
}
END_TEST

START_TEST (test_sizes)
{
  static const uint64_t sizes[] = {
    1,
    REGION_BLOCKS - 1,
    REGION_BLOCKS,
    REGION_BLOCKS + 1,
  };

  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    open_table (sizes[i], PAGES_NO_LIMIT);
    ck_assert_int_eq (block_table_publish (&table, sizes[i] - 1, entry_hole (),
                                           entry_same (1)),
                      0);
    check_memory (1);
    close_table ();
  }
  /* Words of regions cost 4 bytes in 2 MiB; never more than is needed. */
  ck_assert_uint_eq (block_table_region_bytes (1), PAGE_BYTES);
  ck_assert_uint_eq (block_table_region_bytes (TIB / BLOCK_BYTES), 2 * MIB);
}
END_TEST

/* No page for the table: an error, and nothing has changed. */
START_TEST (test_no_page)
{
  const entry_t same = entry_same (7);

  open_table (NR_BLOCKS, PAGES_NO_LIMIT);
  pages_set_limit (&pages, pages_held (&pages) + PAGE_BYTES);
  ck_assert_int_eq (block_table_publish (&table, 0, entry_hole (), same), 0);
  ck_assert_int_eq (block_table_publish (&table, 600, entry_hole (), same),
                    -ENOSPC);
  ck_assert_uint_eq (block_table_region (&table, 1), 0);
  ck_assert_uint_eq (block_table_load (&table, 600), entry_hole ());
  ck_assert_int_eq (block_table_publish (&table, 1, entry_hole (), same), 0);
  check_memory (1);

  pages_set_limit (&pages, PAGES_NO_LIMIT);
  probe_fail_nth (PROBE_POPULATE, 1);
  ck_assert_int_eq (block_table_publish (&table, 600, entry_hole (), same),
                    -ENOMEM);
  ck_assert_uint_eq (block_table_load (&table, 600), entry_hole ());
  check_memory (1);
  ck_assert_int_eq (block_table_publish (&table, 600, entry_hole (), same), 0);

  /* A page that is not taken back is used again. */
  probe_fail_nth (PROBE_PURGE, 1);
  ck_assert_int_eq (block_table_publish (&table, 600, same, entry_hole ()), 0);
  ck_assert_uint_eq (block_table_load (&table, 600), entry_hole ());
  check_memory (2);
  ck_assert_int_eq (block_table_publish (&table, 601, entry_hole (), same), 0);
  ck_assert_uint_eq (block_table_load (&table, 600), entry_hole ());
  ck_assert_int_eq (block_table_publish (&table, 601, same, entry_hole ()), 0);
  check_memory (1);
  close_table ();
}
END_TEST

START_TEST (test_reserve_fails)
{
  for (unsigned nth = 1; nth <= 2; ++nth) {
    probe_reset ();
    pages_init (&pages, &probe_ops, PAGES_NO_LIMIT);
    probe_fail_nth (PROBE_RESERVE, nth);
    ck_assert_int_eq (block_table_reserve (&table, &pages, NR_BLOCKS), -ENOMEM);
    ck_assert_uint_eq (probe_nr_ranges (), 0);
    probe_fail_nth (PROBE_RESERVE, 0);
    ck_assert_int_eq (block_table_reserve (&table, &pages, NR_BLOCKS), 0);
    probe_fail_nth (PROBE_ACTIVATE, nth);
    ck_assert_int_eq (block_table_activate (&table), -ENOMEM);
    block_table_release (&table);
    ck_assert_uint_eq (pages_held (&pages), 0);
    ck_assert_uint_eq (probe_nr_ranges (), 0);
  }
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads with a block each, in two regions, so that a region's page comes
 * and goes all the time.  What a thread published is there until the thread
 * takes it away.
 */

#define NR_THREADS 6

static unsigned nr_rounds;

static void *
come_and_go (void *arg)
{
  const uint64_t thread = (uint64_t) (uintptr_t) arg;
  const uint64_t blkno = thread % 2 * REGION_BLOCKS + thread * 16;
  struct rng rng;

  rng_init (&rng, test_seed (), thread);
  for (unsigned i = 0; i < nr_rounds; ++i) {
    const entry_t entry = entry_same ((uint32_t) rng_u64 (&rng));

    if (block_table_publish (&table, blkno, entry_hole (), entry) != 0)
      test_note_failure ("publish failed");
    for (uint64_t n = rng_below (&rng, 20); n > 0; --n)
      if (block_table_load (&table, blkno) != entry)
        test_note_failure ("a published entry is lost");
    if (block_table_publish (&table, blkno, entry, entry_hole ()) != 0)
      test_note_failure ("publish failed");
    if (block_table_load (&table, blkno) != entry_hole ())
      test_note_failure ("a hole holds something");
  }
  return NULL;
}

START_TEST (test_threads)
{
  pthread_t threads[NR_THREADS];

  nr_rounds = test_short () ? 10000 : 100000;
  open_table (NR_BLOCKS, PAGES_NO_LIMIT);
  for (uintptr_t i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, come_and_go,
                                      (void *) i),
                      0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  ck_assert_uint_eq (block_table_region (&table, 0), 0);
  ck_assert_uint_eq (block_table_region (&table, 1), 0);
  ck_assert_uint_eq (atomic_load (&table.nr_resident), 0);
  /* The region came and went, or this has tested nothing. */
  ck_assert_uint_gt (probe_nr_calls (PROBE_PURGE), nr_rounds / 100);
  ck_assert_uint_eq (pages_held (&pages), probe_rss_bytes ());
  close_table ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("block-table");
  TCase *tcase = tcase_create ("block-table");
  SRunner *runner;
  int nr_failed;

  test_start ("test-block-table");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_empty);
  tcase_add_test (tcase, test_one_region);
  tcase_add_test (tcase, test_all_blocks);
  tcase_add_test (tcase, test_sizes);
  tcase_add_test (tcase, test_no_page);
  tcase_add_test (tcase, test_reserve_fails);
  tcase_add_test (tcase, test_threads);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
