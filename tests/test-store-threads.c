/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The store under threads, where the model test does not look: whether a
 * block that several write is ever seen torn, whether a codec can be
 * changed under running requests, and whether what one asks meanwhile makes
 * sense.
 *
 * Every block is always one of a few variants, made beforehand; a reader
 * compares what it gets with all of them.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libcheck.h"
#include "probe.h"
#include "store-fixture.h"
#include "test-util.h"

#define NR_VARIANTS 16
#define NR_BLOCKS 96 /* of 16: 6 groups, shared by everybody */
#define NR_WRITERS 4
#define NR_READERS 3

static uint8_t variants[NR_VARIANTS][BLOCK_BYTES];
static struct store *store;
static atomic_bool done;
static bool may_be_full;
static unsigned nr_ops;

static void
make_variants (void)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 1);
  for (unsigned i = 1; i < NR_VARIANTS; ++i)
    make_block (&rng, (enum content) (i % NR_CONTENTS), variants[i]);
  memset (variants[0], 0, BLOCK_BYTES);
}

static void
check_variant (const uint8_t *block, uint64_t blkno)
{
  for (unsigned i = 0; i < NR_VARIANTS; ++i)
    if (memcmp (block, variants[i], BLOCK_BYTES) == 0)
      return;
  test_note_failure ("block %" PRIu64 " is none of what was written", blkno);
}

/* A run of whole blocks: one request, every block a variant.  Or a part of
 * one, which is written with what it may hold: zeros of a trimmed block.
 */
static void *
write_variants (void *arg)
{
  uint8_t *buf = malloc (NR_BLOCKS * BLOCK_BYTES);
  struct rng rng;

  rng_init (&rng, test_seed (), 100 + (uint64_t) (uintptr_t) arg);
  for (unsigned i = 0; i < nr_ops; ++i) {
    const uint64_t n = rng_between (&rng, 1, 20);
    const uint64_t first = rng_below (&rng, NR_BLOCKS - n);
    int r;

    if (rng_once_in (&rng, 6))
      r = store_trim (store, n * BLOCK_BYTES, first * BLOCK_BYTES);
    else if (rng_once_in (&rng, 6))
      r = store_zero (store, n * BLOCK_BYTES, first * BLOCK_BYTES,
                      rng_once_in (&rng, 2));
    else {
      for (uint64_t j = 0; j < n; ++j)
        memcpy (buf + j * BLOCK_BYTES, variants[rng_below (&rng, NR_VARIANTS)],
                BLOCK_BYTES);
      r = store_write (store, buf, n * BLOCK_BYTES, first * BLOCK_BYTES);
    }
    if (r != 0 && !(r == -ENOSPC && may_be_full))
      test_note_failure ("write, trim or zero gave %d", r);
  }
  free (buf);
  return NULL;
}

static void *
read_variants (void *arg)
{
  uint8_t *buf = malloc (NR_BLOCKS * BLOCK_BYTES);
  struct rng rng;

  rng_init (&rng, test_seed (), 200 + (uint64_t) (uintptr_t) arg);
  while (!atomic_load (&done)) {
    const uint64_t n = rng_between (&rng, 1, 20);
    const uint64_t first = rng_below (&rng, NR_BLOCKS - n);
    const int r = store_read (store, buf, n * BLOCK_BYTES, first * BLOCK_BYTES);

    if (r != 0)
      test_note_failure ("read gave %d", r);
    for (uint64_t j = 0; r == 0 && j < n; ++j)
      check_variant (buf + j * BLOCK_BYTES, first + j);
  }
  free (buf);
  return NULL;
}

struct coverage {
  uint64_t next;
};

static int
note_extent (void *opaque, uint64_t offset, uint64_t count,
             enum extent_kind kind)
{
  struct coverage *coverage = opaque;

  (void) kind;
  if (offset != coverage->next || count == 0)
    test_note_failure ("extent at %" PRIu64 ", expected at %" PRIu64, offset,
                       coverage->next);
  coverage->next = offset + count;
  return 0;
}

/* Extents and statistics, while everything changes. */
static void *
ask_questions (void *arg)
{
  const uint64_t size = store_size_bytes (store);
  const uint64_t nr_blocks = (size + BLOCK_BYTES - 1) / BLOCK_BYTES;
  struct stats stats;

  (void) arg;
  memset (&stats, 0, sizeof stats);
  while (!atomic_load (&done)) {
    struct coverage coverage = { 0 };

    if (store_extents (store, size, 0, false, note_extent, &coverage) != 0 ||
        coverage.next != size)
      test_note_failure ("extents end at %" PRIu64, coverage.next);
    store_stats (store, &stats);
    if (stats.hole_blocks > nr_blocks || stats.live_blocks > nr_blocks)
      test_note_failure ("%" PRIu64 " holes, %" PRIu64 " live of %" PRIu64,
                         stats.hole_blocks, stats.live_blocks, nr_blocks);
    if (stats.payload_bytes > nr_blocks * BLOCK_BYTES ||
        stats.checksum_failures > 0)
      test_note_failure ("payload %" PRIu64 ", checksum failures %" PRIu64,
                         stats.payload_bytes, stats.checksum_failures);
    sleep_us (30);
  }
  return NULL;
}

static void
run_threads (void *(*other) (void *) )
{
  pthread_t writers[NR_WRITERS], readers[NR_READERS], asker, other_thread;

  atomic_store (&done, false);
  for (uintptr_t i = 0; i < NR_READERS; ++i)
    ck_assert_int_eq (pthread_create (&readers[i], NULL, read_variants,
                                      (void *) i),
                      0);
  ck_assert_int_eq (pthread_create (&asker, NULL, ask_questions, NULL), 0);
  if (other != NULL)
    ck_assert_int_eq (pthread_create (&other_thread, NULL, other, NULL), 0);
  for (uintptr_t i = 0; i < NR_WRITERS; ++i)
    ck_assert_int_eq (pthread_create (&writers[i], NULL, write_variants,
                                      (void *) i),
                      0);
  for (unsigned i = 0; i < NR_WRITERS; ++i)
    pthread_join (writers[i], NULL);
  atomic_store (&done, true);
  for (unsigned i = 0; i < NR_READERS; ++i)
    pthread_join (readers[i], NULL);
  pthread_join (asker, NULL);
  if (other != NULL)
    pthread_join (other_thread, NULL);
}

/* Readers without a lock may have mapped the zero page: ask smaps. */
static void
check_and_close (struct disk *disk)
{
  char error[512] = "";
  struct stats stats;

  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
  ck_assert_msg (store_check (disk->store, error, sizeof error) == 0, "%s",
                 error);
  stats = disk_stats (disk);
  ck_assert_uint_eq (stats.held_bytes, probe_rss_bytes () +
                                         stats.context_bytes +
                                         disk->other_foreign);
  disk_close (disk);
}

/* Loop: codecs. */
static const char *const codecs[] = { "lz4", "zstd:1", "none" };

START_TEST (test_blocks_are_not_torn)
{
  struct disk disk =
    disk_open_bare (NR_BLOCKS * BLOCK_BYTES, PAGES_NO_LIMIT, codecs[_i]);

  make_variants ();
  store = disk.store;
  may_be_full = false;
  nr_ops = test_short () ? 1500 : 10000;
  run_threads (NULL);
  check_and_close (&disk);
}
END_TEST

/* Fill the disk behind the blocks in use until the limit is reached, and
 * leave room for a few blocks.
 */
static void
add_ballast (struct disk *disk)
{
  uint8_t block[BLOCK_BYTES];
  uint64_t blkno = NR_BLOCKS;
  struct rng rng;
  int r = 0;

  rng_init (&rng, test_seed (), 3);
  while (r == 0) {
    ck_assert_uint_lt (blkno, disk->nr_blocks);
    rng_fill (&rng, block, sizeof block);
    r = store_write (disk->store, block, BLOCK_BYTES, blkno * BLOCK_BYTES);
    ++blkno;
  }
  ck_assert_int_eq (r, -ENOSPC);
  ck_assert_int_eq (store_trim (disk->store, 24 * BLOCK_BYTES,
                                (blkno - 25) * BLOCK_BYTES),
                    0);
}

/* At the limit blocks are written over in place. */
START_TEST (test_blocks_are_not_torn_at_the_limit)
{
  const struct store_params params = {
    .size_bytes = 8 * MIB,
    .codec = { CODEC_LZ4, 1 },
    .limit_bytes = PAGES_NO_LIMIT,
  };
  struct disk disk =
    disk_open_bare (params.size_bytes, store_min_bytes (&params), "lz4");

  make_variants ();
  add_ballast (&disk);
  store = disk.store;
  may_be_full = true;
  nr_ops = test_short () ? 1500 : 10000;
  run_threads (NULL);
  ck_assert_uint_gt (disk_stats (&disk).in_place_writes, 0);
  check_and_close (&disk);
}
END_TEST

static void *
switch_codecs (void *arg)
{
  static const struct codec_spec specs[] = {
    { CODEC_ZSTD, 1 }, { CODEC_LZ4, 1 }, { CODEC_ZSTD, -3 },
    { CODEC_RAW, 0 },  { CODEC_LZ4, 7 },
  };

  (void) arg;
  for (unsigned i = 0; !atomic_load (&done); ++i) {
    const int r = store_set_codec (store, &specs[i % 5]);

    if (r != 0)
      test_note_failure ("store_set_codec gave %d", r);
    sleep_us (i == 0 ? 2000 : 200);
  }
  return NULL;
}

/* The first change to a codec whose decoding needs a context is the
 * delicate one: do it often, on a disk of its own each time.
 */
START_TEST (test_codec_changes_under_requests)
{
  const unsigned nr_rounds = test_short () ? 10 : 60;

  make_variants ();
  may_be_full = false;
  nr_ops = 300;
  for (unsigned i = 0; i < nr_rounds && test_nr_failures () == 0; ++i) {
    struct disk disk =
      disk_open_bare (NR_BLOCKS * BLOCK_BYTES, PAGES_NO_LIMIT, "lz4");
    store = disk.store;
    run_threads (switch_codecs);
    check_and_close (&disk);
  }
}
END_TEST

/*--------------------------------------------------------------------*/
/* The first write to a region against the last trim of it: writes that
 * were acknowledged are there.  Thread i has blocks of its own in one
 * region, so all share a page of the table, and mostly all of it is holes.
 */

#define NR_SHARERS 6

static void *
share_region (void *arg)
{
  const uint64_t thread = (uint64_t) (uintptr_t) arg;
  uint8_t block[BLOCK_BYTES], back[BLOCK_BYTES];
  struct rng rng;

  rng_init (&rng, test_seed (), 300 + thread);
  for (unsigned i = 0; i < nr_ops; ++i) {
    /* Another group for each, all of region 0. */
    const uint64_t at = (thread * 16 + rng_below (&rng, 4)) * BLOCK_BYTES;
    const unsigned content = rng_between (&rng, 1, NR_CONTENTS - 1);

    make_block (&rng, (enum content) content, block);
    if (store_write (store, block, BLOCK_BYTES, at) != 0 ||
        store_read (store, back, BLOCK_BYTES, at) != 0 ||
        memcmp (block, back, BLOCK_BYTES) != 0)
      test_note_failure ("a write was lost");
    if (store_trim (store, BLOCK_BYTES, at) != 0 ||
        store_read (store, back, BLOCK_BYTES, at) != 0 ||
        !is_all_zero (back, BLOCK_BYTES))
      test_note_failure ("a trim was lost");
  }
  return NULL;
}

START_TEST (test_region_comes_and_goes)
{
  struct disk disk = disk_open_bare (2 * MIB, PAGES_NO_LIMIT, "lz4");
  pthread_t threads[NR_SHARERS], asker;

  store = disk.store;
  nr_ops = test_short () ? 3000 : 10000;
  atomic_store (&done, false);
  ck_assert_int_eq (pthread_create (&asker, NULL, ask_questions, NULL), 0);
  for (uintptr_t i = 0; i < NR_SHARERS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, share_region,
                                      (void *) i),
                      0);
  for (unsigned i = 0; i < NR_SHARERS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&done, true);
  pthread_join (asker, NULL);
  ck_assert_uint_eq (disk_stats (&disk).live_blocks, 0);
  ck_assert_uint_eq (disk_stats (&disk).live_regions, 0);
  check_and_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Statistics of a disk without a hole, whose blocks change their kind all
 * the time: none of them is ever counted twice, or the holes would be
 * fewer than none.
 */

#define NR_FLIPPERS 3

static void *
flip_kinds (void *arg)
{
  const uint64_t blkno = (uint64_t) (uintptr_t) arg * 16;

  for (unsigned i = 0; !atomic_load (&done); ++i)
    if (store_write (store, variants[1 + i % (NR_VARIANTS - 1)], BLOCK_BYTES,
                     blkno * BLOCK_BYTES) != 0)
      test_note_failure ("write failed");
  return NULL;
}

START_TEST (test_statistics_of_a_full_disk)
{
  const unsigned nr_looks = test_short () ? 2000 : 20000;
  struct disk disk =
    disk_open_bare (NR_FLIPPERS * 16 * BLOCK_BYTES, PAGES_NO_LIMIT, "lz4");
  pthread_t threads[NR_FLIPPERS];

  make_variants ();
  store = disk.store;
  ck_assert_int_eq (store_zero (store, disk.size, 0, false), 0);
  atomic_store (&done, false);
  for (uintptr_t i = 0; i < NR_FLIPPERS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, flip_kinds,
                                      (void *) i),
                      0);
  for (unsigned i = 0; i < nr_looks; ++i) {
    const struct stats stats = disk_stats (&disk);
    if (stats.hole_blocks > disk.nr_blocks ||
        stats.logical_bytes > disk.nr_blocks * BLOCK_BYTES)
      test_note_failure ("%" PRIu64 " holes, %" PRIu64 " live of %" PRIu64,
                         stats.hole_blocks, stats.live_blocks, disk.nr_blocks);
  }
  atomic_store (&done, true);
  for (unsigned i = 0; i < NR_FLIPPERS; ++i)
    pthread_join (threads[i], NULL);
  ck_assert_uint_eq (disk_stats (&disk).hole_blocks, 0);
  check_and_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store-threads");
  TCase *tcase = tcase_create ("store-threads");
  SRunner *runner;
  int nr_failed;

  test_start ("test-store-threads");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_blocks_are_not_torn, 0, 3);
  tcase_add_test (tcase, test_blocks_are_not_torn_at_the_limit);
  tcase_add_test (tcase, test_codec_changes_under_requests);
  tcase_add_test (tcase, test_region_comes_and_goes);
  tcase_add_test (tcase, test_statistics_of_a_full_disk);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
