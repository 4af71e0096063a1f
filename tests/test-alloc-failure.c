/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory that is not to be had: the Nth call of each kind (reserve,
 * activate, populate, purge) fails, for every N, until a run has fewer than
 * N calls.  Each time: a clean error or none, the old data whole, all
 * accounts right; then the same request again, and it succeeds.
 *
 * Under AddressSanitizer the leak check at exit belongs to it.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libcheck.h"
#include "pool-check.h"
#include "pool.h"
#include "probe.h"
#include "store-fixture.h"
#include "test-util.h"

/* More calls than this in a run: the test never ends.  */
#define MAX_NTH 5000

/*--------------------------------------------------------------------*/
/* The pool. */

#define NR_OBJECTS 300

static struct pages pages;
static struct pool *pool;
static struct rng rng;
static uint64_t highest_zspage; /* that ever had an object */

/* After the Nth; short: every early call, then a sample. */
static uint64_t
next_nth (uint64_t nth)
{
  return nth + 1 + (nth > 30 && test_short () ? rng_below (&rng, 50) : 0);
}

static void
check_pool (void)
{
  char error[256] = "";

  ck_assert_msg (pool_check (pool, error, sizeof error) == 0, "%s", error);
  ck_assert_uint_eq (pages_held (&pages), probe_resident_bytes ());
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

/* Allocate, with one more try after an error. */
static void
alloc_twice (uint32_t bytes, owner_t owner, zs_loc *loc)
{
  const uint64_t held = pages_held (&pages);
  int r = pool_alloc (pool, bytes, owner, loc);

  if (r != 0) {
    ck_assert_int_eq (r, -ENOMEM);
    /* More, if at all, by what descriptors and links have grown. */
    ck_assert_uint_le (pages_held (&pages), held + 2 * PAGE_BYTES);
    check_pool ();
    ck_assert_int_eq (pool_alloc (pool, bytes, owner, loc), 0);
  }
  memset (pool_borrow (pool, *loc), (int) owner, bytes);
  if (*loc >> (ZSPAGE_SHIFT - ZS_LOC_SHIFT) > highest_zspage)
    highest_zspage = *loc >> (ZSPAGE_SHIFT - ZS_LOC_SHIFT);
}

static void
use_pool (void)
{
  static zs_loc locs[NR_OBJECTS];
  static uint32_t sizes[NR_OBJECTS];

  for (unsigned round = 0; round < 2; ++round) {
    for (owner_t i = 0; i < NR_OBJECTS; ++i) {
      sizes[i] = i % 5 == 0 ? 4096 : (uint32_t) rng_size (&rng, 4096);
      alloc_twice (sizes[i], i, &locs[i]);
    }
    check_pool ();
    for (owner_t i = 0; i < NR_OBJECTS; ++i) {
      const uint8_t *p = pool_borrow (pool, locs[i]);
      ck_assert (p[0] == (uint8_t) i && memcmp (p, p + 1, sizes[i] - 1) == 0);
      ck_assert_uint_eq (pool_owner (pool, locs[i]), i);
      pool_free (pool, locs[i]);
    }
    check_pool ();
  }
}

/* Loop: the kind of call that fails. */
START_TEST (test_pool)
{
  const enum probe_kind kind = (enum probe_kind) _i;
  uint64_t nth;

  for (nth = 1; nth < MAX_NTH; nth = next_nth (nth)) {
    int r;

    /* The same sequence each time. */
    rng_init (&rng, test_seed (), 1);
    probe_reset ();
    probe_fail_nth (kind, nth);
    pages_init (&pages, &probe_ops, PAGES_NO_LIMIT);
    r = pool_create (&pages, 64 * MIB, &pool);
    if (r != 0) {
      ck_assert_int_eq (r, -ENOMEM);
      ck_assert_uint_eq (probe_nr_ranges (), 0);
      continue;
    }
    r = pool_activate (pool);
    if (r == 0)
      use_pool ();
    else
      ck_assert_int_eq (r, -ENOMEM);
    pool_destroy (pool);
    ck_assert_uint_eq (pages_held (&pages), 0);
    ck_assert_uint_eq (probe_nr_ranges (), 0);
    ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
    if (probe_nr_failed () == 0)
      break;
  }
  ck_assert_uint_gt (nth, 1);
  ck_assert_uint_lt (nth, MAX_NTH);
}
END_TEST

/* Purging never works: what could not be given back is used again. */
START_TEST (test_pool_never_purges)
{
  uint64_t nr_zspages_used = 0;

  probe_reset ();
  pages_init (&pages, &probe_ops, PAGES_NO_LIMIT);
  ck_assert_int_eq (pool_create (&pages, 64 * MIB, &pool), 0);
  ck_assert_int_eq (pool_activate (pool), 0);
  probe_fail_all (PROBE_PURGE);
  for (unsigned round = 0; round < 12; ++round) {
    rng_init (&rng, test_seed (), 2);
    use_pool ();
    if (round == 0)
      nr_zspages_used = highest_zspage + 1;
  }
  /* Each may have been touched to its end by now. */
  ck_assert_uint_eq (highest_zspage + 1, nr_zspages_used);
  ck_assert_uint_le (pages_held (&pages), nr_zspages_used * ZSPAGE_BYTES + MIB);
  pool_destroy (pool);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
}
END_TEST

/*--------------------------------------------------------------------*/
/* The store. */

#define SIZE (5 * MIB + 100)

static uint8_t *buf; /* SIZE bytes */

/* Do it; after an error see what is there, and do it once more. */
static void
write_twice (struct disk *disk, uint64_t count, uint64_t offset)
{
  const int r = store_write (disk->store, buf, count, offset);

  if (r != 0) {
    ck_assert_int_eq (r, -ENOMEM);
    disk_verify_old_or_new (disk, buf, count, offset);
    disk_check_all (disk);
  }
  disk_write (disk, buf, count, offset);
  disk_verify (disk, count, offset);
}

static void
write_content (struct disk *disk, enum content content, uint64_t nr_blocks,
               uint64_t blkno)
{
  for (uint64_t i = 0; i < nr_blocks; ++i)
    make_block (&rng, content, buf + i * BLOCK_BYTES);
  write_twice (disk, nr_blocks * BLOCK_BYTES, blkno * BLOCK_BYTES);
}

static void
zero_twice (struct disk *disk, uint64_t count, uint64_t offset, bool may_punch)
{
  const int r = store_zero (disk->store, count, offset, may_punch);

  memset (buf, 0, count);
  if (r != 0) {
    ck_assert_int_eq (r, -ENOMEM);
    disk_verify_old_or_new (disk, buf, count, offset);
    disk_check_all (disk);
  }
  disk_zero (disk, count, offset, may_punch);
  disk_verify (disk, count, offset);
}

/* A trim gives no error, but its edges may stay. */
static void
trim_twice (struct disk *disk, uint64_t count, uint64_t offset)
{
  memset (buf, 0, count);
  ck_assert_int_eq (store_trim (disk->store, count, offset), 0);
  disk_verify_old_or_new (disk, buf, count, offset);
  disk_trim (disk, count, offset);
  disk_verify (disk, count, offset);
}

/* Every kind of request, every kind of block, new and old regions; short,
 * because it is run once for each of its calls.
 */
static void
use_store (struct disk *disk)
{
  write_content (disk, CONTENT_PATTERN32, 1, 3);
  write_content (disk, CONTENT_RANDOM, 5, 5);
  write_content (disk, CONTENT_TEXT, 18, 500);
  write_content (disk, CONTENT_PATTERN64, 3, 1100);
  write_content (disk, CONTENT_SO, 5, 30);
  rng_fill (&rng, buf, 5000);
  write_twice (disk, 100, 1200 * BLOCK_BYTES + 50);
  write_twice (disk, 5000, 7 * BLOCK_BYTES + 1);
  write_twice (disk, 90, SIZE - 90);
  make_range (&rng, buf, 70000, 77777);
  write_twice (disk, 70000, 77777);
  write_content (disk, CONTENT_RANDOM, 8, 500);
  write_content (disk, CONTENT_TEXT, 5, 5);
  zero_twice (disk, MIB - 2000, 4 * MIB + 1000, false);
  zero_twice (disk, 100000, 5, true);
  trim_twice (disk, MIB, 123456);
  write_content (disk, CONTENT_NEAR, 8, 40);
  zero_twice (disk, MIB, 2 * MIB, true);
  trim_twice (disk, SIZE, 0);
  write_content (disk, CONTENT_TEXT, 20, 1000);
  disk_check_all (disk);
}

/* Create and start where either may fail; false: it did, and left nothing. */
static bool
try_open (struct disk *disk)
{
  struct store_params params = {
    .size_bytes = SIZE,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .pages_ops = &probe_ops,
  };
  struct store *store = NULL;
  int r = store_create (&params, &store);

  if (r != 0) {
    ck_assert_int_eq (r, -ENOMEM);
    ck_assert_uint_eq (probe_nr_ranges (), 0);
    return false;
  }
  r = store_start (store);
  if (r != 0) {
    ck_assert_int_eq (r, -ENOMEM);
    store_destroy (store);
    ck_assert_uint_eq (probe_nr_ranges (), 0);
    return false;
  }
  disk->store = store;
  return true;
}

/* What the fixture's disk_open would make: a disk that has no store yet. */
static struct disk
prepare_disk (void)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");

  store_destroy (disk.store);
  disk.store = NULL;
  return disk;
}

static void
forget_data (struct disk *disk)
{
  memset (disk->shadow, 0, SIZE);
  memset (disk->kinds, SHADOW_HOLE, disk->nr_blocks);
}

START_TEST (test_store)
{
  const enum probe_kind kind = (enum probe_kind) _i;
  struct disk disk = prepare_disk ();
  uint64_t nth, nr_failed;

  buf = malloc (SIZE);
  for (nth = 1; nth < MAX_NTH; nth = next_nth (nth)) {
    rng_init (&rng, test_seed (), 3);
    probe_reset ();
    probe_fail_nth (kind, nth);
    if (!try_open (&disk))
      continue;
    forget_data (&disk);
    use_store (&disk);
    nr_failed = probe_nr_failed ();
    store_destroy (disk.store);
    ck_assert_uint_eq (probe_nr_ranges (), 0);
    if (nr_failed == 0)
      break;
  }
  ck_assert_uint_gt (nth, 1);
  ck_assert_uint_lt (nth, MAX_NTH);
  probe_reset ();
  ck_assert (try_open (&disk));
  free (buf);
  disk_close (&disk);
}
END_TEST

/* No page is to be had for a while: errors, reads and trims go on. */
START_TEST (test_store_without_pages)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  unsigned nr_refused = 0;

  buf = malloc (SIZE);
  rng_init (&rng, test_seed (), 4);
  use_store (&disk);
  for (unsigned round = 0; round < 5; ++round) {
    probe_fail_all (PROBE_POPULATE);
    for (unsigned i = 0; i < 50; ++i) {
      const uint64_t count = rng_size (&rng, 200000);
      const uint64_t at = rng_below (&rng, SIZE - count);
      int r;

      make_range (&rng, buf, count, at);
      r = store_write (disk.store, buf, count, at);
      ck_assert (r == 0 || r == -ENOMEM);
      nr_refused += r != 0;
      disk_verify_old_or_new (&disk, buf, count, at);
    }
    disk_trim (&disk, MIB, rng_below (&rng, 4) * MIB);
    disk_check_all (&disk);
    probe_fail_nth (PROBE_POPULATE, 0);
    write_content (&disk, CONTENT_RANDOM, 64, rng_below (&rng, 1200));
    disk_check_all (&disk);
  }
  ck_assert_uint_gt (nr_refused, 0);
  free (buf);
  disk_close (&disk);
}
END_TEST

/* Nothing can be given back for a while: held stays, and stays right. */
START_TEST (test_store_never_purges)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  uint64_t held_before = 0;

  buf = malloc (SIZE);
  probe_fail_all (PROBE_PURGE);
  for (unsigned round = 0; round < 10; ++round) {
    rng_init (&rng, test_seed (), 5);
    use_store (&disk);
    disk_trim (&disk, SIZE, 0);
    disk_check_all (&disk);
    if (round == 3)
      held_before = disk_held (&disk);
  }
  ck_assert_uint_gt (probe_nr_failed (), 0);
  ck_assert_uint_le (disk_held (&disk), held_before * 3 / 2);
  probe_fail_nth (PROBE_PURGE, 0);
  use_store (&disk);
  free (buf);
  disk_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("alloc-failure");
  TCase *tcase = tcase_create ("alloc-failure");
  SRunner *runner;
  int nr_failed;

  test_start ("test-alloc-failure");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_pool, 0, NR_PROBE_KINDS);
  tcase_add_test (tcase, test_pool_never_purges);
  tcase_add_loop_test (tcase, test_store, 0, NR_PROBE_KINDS);
  tcase_add_test (tcase, test_store_without_pages);
  tcase_add_test (tcase, test_store_never_purges);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
