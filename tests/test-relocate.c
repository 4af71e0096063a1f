/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Compaction and the block store together, where they meet: blocks that are
 * read for ever, a limit that is lowered, partial writes at the limit, who
 * wakes the worker.  What compaction guarantees is in test-guarantees.c.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "compactor.h"
#include "libcheck.h"
#include "probe.h"
#include "store-fixture.h"
#include "store-private.h"
#include "test-util.h"

#define DISK_BYTES (24 * MIB)

static struct rng rng;
static struct disk disk;

static void
fill_disk (void)
{
  uint8_t block[TEST_BLOCK_BYTES];

  for (uint64_t blkno = 0; blkno < disk.nr_blocks; blkno++) {
    make_text_block (&rng, (unsigned) rng_below (&rng, 100), block);
    disk_write (&disk, block, sizeof block, blkno * sizeof block);
  }
}

/* All blocks but every third. */
static void
trim_most (void)
{
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; blkno++)
    if (blkno % 3 != 0)
      disk_trim (&disk, TEST_BLOCK_BYTES, blkno * TEST_BLOCK_BYTES);
}

static void
compact (void)
{
  struct compact_report report;
  const uint64_t ticket = store_compact (disk.store, -1);

  while (!store_compact_report (disk.store, ticket, &report))
    sleep_us (1000);
}

/* Blocks that are being read, for as long as their groups are locked. */
#define NR_READERS 16

struct reader {
  pthread_t thread;
  uint64_t blkno;
};
static struct reader readers[NR_READERS];
static pthread_barrier_t held;
static atomic_bool let_go;

static void *
hold_block (void *opaque)
{
  struct reader *reader = opaque;
  struct group_stripe *stripe = stripe_of (disk.store, reader->blkno);

  lock_acquire (&stripe->lock);
  pthread_barrier_wait (&held);
  while (!atomic_load (&let_go))
    sleep_us (1000);
  lock_release (&stripe->lock);
  return NULL;
}

static void
start_readers (void)
{
  atomic_store (&let_go, false);
  pthread_barrier_init (&held, NULL, NR_READERS + 1);
  for (unsigned i = 0; i < NR_READERS; i++) {
    readers[i].blkno = i * 5 * GROUP_BLOCKS;
    pthread_create (&readers[i].thread, NULL, hold_block, &readers[i]);
  }
  pthread_barrier_wait (&held);
}

static void
end_readers (void)
{
  atomic_store (&let_go, true);
  for (unsigned i = 0; i < NR_READERS; i++)
    pthread_join (readers[i].thread, NULL);
  pthread_barrier_destroy (&held);
}

static bool
is_held (uint64_t blkno)
{
  for (unsigned i = 0; i < NR_READERS; i++)
    if (stripe_of (disk.store, blkno) ==
        stripe_of (disk.store, readers[i].blkno))
      return true;
  return false;
}

/* They delay nothing but the blocks of their stripes: a whole compaction
 * comes to its end meanwhile, with a worker and without, and so do reads and
 * writes of all others.
 */
START_TEST (test_readers_for_ever)
{
  uint8_t block[TEST_BLOCK_BYTES];
  uint64_t left;

  rng_init (&rng, test_seed (), 1 + (uint64_t) _i);
  disk = disk_open (DISK_BYTES, PAGES_NO_LIMIT, "lz4");
  fill_disk ();
  trim_most ();
  start_readers ();
  if (_i == 1)
    ck_assert_int_eq (store_start_worker (disk.store), 0);

  compact ();
  ck_assert_uint_gt (disk_stats (&disk).compact_skipped_objects, 0);
  ck_assert_uint_gt (disk_stats (&disk).compact_returned_bytes, 0);
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; blkno++) {
    if (is_held (blkno))
      continue;
    disk_verify (&disk, TEST_BLOCK_BYTES, blkno * TEST_BLOCK_BYTES);
    if (blkno % 7 == 0) {
      make_text_block (&rng, 50, block);
      disk_write (&disk, block, sizeof block, blkno * sizeof block);
    }
  }
  left = disk_stats (&disk).reclaimable_bytes;

  end_readers ();
  compact ();
  ck_assert_uint_le (disk_stats (&disk).reclaimable_bytes, left);
  ck_assert_uint_le (disk_stats (&disk).reclaimable_bytes, MIB);
  store_stop_worker (disk.store);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Lowered below held: what can be reclaimed is, before the call returns;
 * growth is refused, reads and trims go on, nothing is lost.
 */
START_TEST (test_limit_lowered)
{
  const struct stats none = { 0 };
  uint8_t block[TEST_BLOCK_BYTES];
  struct stats stats = none;
  uint64_t packed;

  rng_init (&rng, test_seed (), 10 + (uint64_t) _i);
  disk = disk_open (DISK_BYTES, PAGES_NO_LIMIT, "lz4");
  if (_i == 1)
    ck_assert_int_eq (store_start_worker (disk.store), 0);
  fill_disk ();
  trim_most ();
  stats = disk_stats (&disk);
  packed = stats.held_bytes - stats.reclaimable_bytes + MIB;
  ck_assert_int_eq (store_set_limit (disk.store, packed), 0);
  ck_assert_uint_le (disk_held (&disk), packed);
  disk_verify (&disk, disk.size, 0);

  /* Below what there is. */
  ck_assert_int_eq (store_set_limit (disk.store, disk.min_bytes + MIB), 0);
  rng_fill (&rng, block, sizeof block);
  ck_assert_int_eq (store_write (disk.store, block, sizeof block,
                                 TEST_BLOCK_BYTES),
                    -ENOSPC);
  disk_verify (&disk, disk.size, 0);
  disk_trim (&disk, disk.size, 0);
  disk_write (&disk, block, sizeof block, TEST_BLOCK_BYTES);
  store_stop_worker (disk.store);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Parts of blocks are written where there is room only in pieces: by way of
 * compaction, of which the group that is being changed must not be in the
 * way.
 */
START_TEST (test_partial_write_at_the_limit)
{
  uint8_t part[4000]; /* of noise: the block becomes a raw one */
  struct stats stats;

  rng_init (&rng, test_seed (), 20 + (uint64_t) _i);
  disk = disk_open (DISK_BYTES, PAGES_NO_LIMIT, "lz4");
  fill_disk ();
  trim_most ();
  stats = disk_stats (&disk);
  ck_assert_uint_gt (stats.reclaimable_bytes, 6 * MIB);
  /* Without what store_set_limit would reclaim. */
  pages_set_limit (&disk.store->pages, stats.held_bytes);
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; blkno += 6) {
    rng_fill (&rng, part, sizeof part);
    disk_write (&disk, part, sizeof part,
                blkno * TEST_BLOCK_BYTES + rng_between (&rng, 1, 90));
  }
  stats = disk_stats (&disk);
  ck_assert_uint_gt (stats.compact_waited_writes, 0);
  ck_assert_uint_gt (stats.compact_moved_objects, 0);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* A block of which a part is written may have become same-filled, by somebody
 * else, between a first try and the last one, which goes in place.
 */
START_TEST (test_same_filled_in_place)
{
  const entry_t same = entry_same (0x01020304);
  struct prepared prepared = { .entry = same };
  struct group_stripe *stripe;
  uint8_t block[TEST_BLOCK_BYTES];
  entry_t old;

  rng_init (&rng, test_seed (), 30);
  memset (&prepared.payload, 0xff, sizeof prepared.payload);
  disk = disk_open (MIB, PAGES_NO_LIMIT, "lz4");
  make_text_block (&rng, 50, block);
  disk_write (&disk, block, sizeof block, 0);
  stripe = stripe_of (disk.store, 0);

  lock_acquire (&stripe->lock);
  ck_assert_int_eq (block_store_in_place (disk.store, stripe, 0, &prepared,
                                          &old),
                    0);
  lock_release (&stripe->lock);
  ck_assert_int_eq (entry_kind (old), ENTRY_OBJECT);
  block_drop (disk.store, old);
  ck_assert (block_table_load (&disk.store->table, 0) == same);

  for (size_t i = 0; i < sizeof block; i += 4)
    memcpy (block + i, "\4\3\2\1", 4);
  memcpy (disk.shadow, block, sizeof block);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Writing what is new frees nothing, and does not wake the worker. */
START_TEST (test_fresh_writes_let_it_sleep)
{
  _Atomic bool *asleep;
  uint8_t block[TEST_BLOCK_BYTES];

  rng_init (&rng, test_seed (), 40);
  disk = disk_open (MIB, PAGES_NO_LIMIT, "lz4");
  asleep = &disk.store->worker.asleep;
  atomic_store (asleep, true); /* there is no thread */
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; blkno++) {
    make_text_block (&rng, (unsigned) rng_below (&rng, 100), block);
    disk_write (&disk, block, sizeof block, blkno * sizeof block);
  }
  ck_assert (atomic_load (asleep));
  if (_i == 0)
    disk_trim (&disk, TEST_BLOCK_BYTES, 0);
  else if (_i == 1)
    disk_write (&disk, block, sizeof block, 0);
  else
    disk_write (&disk, block, 100, 50);
  ck_assert (!atomic_load (asleep));
  disk_close (&disk);
}
END_TEST

/* At the limit the pages of spare zspages are room for whatever needs it:
 * contexts for another codec, more than is asked for at once; a page of the
 * table, a side table, an object; also where nothing compacts.
 */
START_TEST (test_spare_zspages_are_room)
{
  uint8_t block[TEST_BLOCK_BYTES];

  rng_init (&rng, test_seed (), 50 + (uint64_t) _i);
  disk = disk_open (DISK_BYTES, PAGES_NO_LIMIT, "lz4");
  pool_set_spare_max (disk.store->pool, 1000);
  disk.store->compact_manual = _i == 0;
  fill_disk ();
  disk_trim (&disk, disk.size, 0);
  ck_assert_uint_gt (disk_stats (&disk).spare_bytes, 4 * MIB);
  pages_set_limit (&disk.store->pages, disk_held (&disk));

  disk_set_codec (&disk, "zstd");
  memset (block, 7, sizeof block);
  disk_write (&disk, block, sizeof block, 0);
  make_text_block (&rng, 50, block);
  disk_write (&disk, block, sizeof block, disk.size / 2);
  disk_write (&disk, block, 100, disk.size / 4 + 50);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Raw blocks: in the first zspages every second one of most goes, in the
 * others eight in a row.  The holes of those are purged where they are, however
 * many of the first come before them, and not filled by moving.
 */
#define NR_SCATTERED 40
#define NR_WITH_RUNS 80

START_TEST (test_holes_are_purged_in_place)
{
  uint8_t block[TEST_BLOCK_BYTES];
  const uint64_t nr_blocks = (NR_SCATTERED + NR_WITH_RUNS) * 64 - 1;

  rng_init (&rng, test_seed (), 60);
  disk = disk_open ((NR_SCATTERED + NR_WITH_RUNS) * 64 * TEST_BLOCK_BYTES,
                    PAGES_NO_LIMIT, "none");
  for (uint64_t blkno = 0; blkno < nr_blocks; blkno++) {
    rng_fill (&rng, block, sizeof block);
    disk_write (&disk, block, sizeof block, blkno * sizeof block);
  }
  for (uint64_t blkno = 0; blkno < nr_blocks; blkno++) {
    /* The bounce object is the first of the class. */
    const uint64_t zspage = (blkno + 1) / 64, slot = (blkno + 1) % 64;

    if (zspage < NR_SCATTERED ? slot % 2 == 1 && slot < 56
                              : slot >= 16 && slot < 24)
      disk_trim (&disk, TEST_BLOCK_BYTES, blkno * TEST_BLOCK_BYTES);
  }
  compact ();
  ck_assert_uint_ge (disk_stats (&disk).compact_returned_bytes,
                     NR_WITH_RUNS * 8 * TEST_BLOCK_BYTES);
  /* Of the scattered ones less than half have to go into the others. */
  ck_assert_uint_le (disk_stats (&disk).compact_moved_objects,
                     NR_SCATTERED / 2 * 36);
  ck_assert_uint_le (disk_stats (&disk).reclaimable_bytes, 64 * KIB);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

static Suite *
make_suite (void)
{
  Suite *suite = suite_create ("relocate");
  TCase *tcase = tcase_create ("all");

  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_readers_for_ever, 0, 2);
  tcase_add_loop_test (tcase, test_limit_lowered, 0, 2);
  tcase_add_lone_test (tcase, test_partial_write_at_the_limit);
  tcase_add_lone_test (tcase, test_same_filled_in_place);
  tcase_add_lone_loop_test (tcase, test_fresh_writes_let_it_sleep, 0, 3);
  tcase_add_lone_loop_test (tcase, test_spare_zspages_are_room, 0, 2);
  tcase_add_lone_test (tcase, test_holes_are_purged_in_place);
  suite_add_tcase (suite, tcase);
  return suite;
}

int
main (void)
{
  SRunner *runner;
  int nr_failed;

  test_start ("test-relocate");
  runner = srunner_create (make_suite ());
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
