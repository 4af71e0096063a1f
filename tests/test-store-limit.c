/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the disk holds: never more than its limit, little more than its
 * payloads, nothing much when it is empty.  And what it does at the limit:
 * refuse, keep the old data, read, trim, and write what fits the slot that
 * it has.  All counted by the kernel as well (disk_check).
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block-table.h"
#include "libcheck.h"
#include "pool.h"
#include "probe.h"
#include "size-class.h"
#include "store-fixture.h"
#include "test-util.h"

#define SIZE (32 * MIB)
#define ROOM (6 * MIB) /* above what an empty disk holds */

static struct rng rng;
static uint8_t block[BLOCK_BYTES];

static uint64_t
limit_for (const char *codec, uint64_t room)
{
  struct store_params params = {
    .size_bytes = SIZE,
    .limit_bytes = PAGES_NO_LIMIT,
  };
  char error[256];

  ck_assert_int_eq (codec_spec_parse (codec, &params.codec, error,
                                      sizeof error),
                    0);
  return store_min_bytes (&params) + room;
}

static struct disk
open_limited (const char *codec, uint64_t room, uint64_t stream)
{
  rng_init (&rng, test_seed (), stream);
  return disk_open (SIZE, limit_for (codec, room), codec);
}

/* Write a block; after -ENOSPC see that it is as it was. */
static int
try_block (struct disk *disk, uint64_t blkno, enum content content)
{
  const uint64_t at = blkno * BLOCK_BYTES;
  int r;

  make_block (&rng, content, block);
  r = store_write (disk->store, block, BLOCK_BYTES, at);
  ck_assert (r == 0 || r == -ENOSPC);
  if (r == 0) {
    memcpy (disk->shadow + at, block, BLOCK_BYTES);
    disk->kinds[blkno] =
      is_all_zero (block, BLOCK_BYTES) ? SHADOW_ZERO : SHADOW_DATA;
  }
  disk_verify (disk, BLOCK_BYTES, at);
  return r;
}

/* From block `first` on, until one is refused; the number written. */
static uint64_t
fill_with (struct disk *disk, uint64_t first, enum content content)
{
  uint64_t n = 0;

  while (try_block (disk, first + n, content) == 0)
    ck_assert_uint_lt (first + ++n, disk->nr_blocks);
  return n;
}

/*--------------------------------------------------------------------*/

/* The least limit that starts is what store_min_bytes says, or less. */
START_TEST (test_least_limit)
{
  struct store_params params = {
    .size_bytes = SIZE,
    .codec = { CODEC_LZ4, 1 },
    .pages_ops = &probe_ops,
  };
  struct store *store = NULL;

  params.limit_bytes = store_min_bytes (&params);
  ck_assert_int_eq (store_create (&params, &store), 0);
  ck_assert_int_eq (store_start (store), 0);
  ck_assert_int_eq (store_set_limit (store, params.limit_bytes - 1), -EINVAL);
  ck_assert_int_eq (store_set_limit (store, params.limit_bytes), 0);
  store_destroy (store);
  ck_assert_uint_eq (probe_nr_ranges (), 0);

  params.limit_bytes = 4 * PAGE_BYTES;
  ck_assert_int_eq (store_create (&params, &store), 0);
  ck_assert_int_eq (store_start (store), -ENOSPC);
  store_destroy (store);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
}
END_TEST

START_TEST (test_full_of_random_data)
{
  struct disk disk = open_limited ("lz4", ROOM, 1);
  const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);
  const struct stats stats = disk_stats (&disk);

  /* It is really full, and only then. */
  ck_assert_uint_gt (n * BLOCK_BYTES, ROOM - 256 * KIB);
  ck_assert_uint_gt (stats.held_bytes + 64 * KIB, stats.limit_bytes);
  ck_assert_uint_le (stats.held_highest_bytes, stats.limit_bytes);
  disk_check_all (&disk);
  /* Any other block is refused as well; none of it is lost. */
  for (unsigned i = 0; i < 100; ++i)
    ck_assert_int_eq (try_block (&disk,
                                 n + rng_below (&rng, disk.nr_blocks - n),
                                 CONTENT_RANDOM),
                      -ENOSPC);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* A request that crosses: blocks are old or new, each as a whole. */
START_TEST (test_crossing_requests_at_the_limit)
{
  struct disk disk = open_limited ("lz4", ROOM, 2);
  uint8_t *buf = malloc (MIB);
  unsigned nr_refused = 0;

  for (unsigned i = 0; i < 200; ++i) {
    const uint64_t count = rng_size (&rng, MIB);
    const uint64_t at = rng_below (&rng, SIZE - count + 1);
    int r;

    if (rng_once_in (&rng, 4))
      make_range (&rng, buf, count, at);
    else
      rng_fill (&rng, buf, count);
    r = store_write (disk.store, buf, count, at);
    ck_assert (r == 0 || r == -ENOSPC);
    nr_refused += r != 0;
    disk_verify_old_or_new (&disk, buf, count, at);
    if (r == 0)
      ck_assert_int_eq (memcmp (disk.shadow + at, buf, count), 0);
    if (nr_refused % 10 == 9)
      disk_trim (&disk, SIZE / 16, rng_below (&rng, 16) * (SIZE / 16));
  }
  ck_assert_uint_gt (nr_refused, 0);
  ck_assert_uint_le (disk_stats (&disk).held_highest_bytes,
                     disk_stats (&disk).limit_bytes);
  free (buf);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* What fits the block's slot is never refused: raw over raw, compressed
 * over raw, parts of raw ones, same-filled over anything.
 */
START_TEST (test_overwrite_at_the_limit)
{
  struct disk disk = open_limited ("lz4", ROOM, 3);
  const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);
  const uint64_t before = disk_stats (&disk).in_place_writes;

  for (unsigned i = 0; i < 1000; ++i)
    ck_assert_int_eq (try_block (&disk, rng_below (&rng, n), CONTENT_RANDOM),
                      0);
  ck_assert_uint_gt (disk_stats (&disk).in_place_writes, before + 900);
  for (unsigned i = 0; i < 500; ++i) {
    const uint64_t count = rng_between (&rng, 1, BLOCK_BYTES);
    const uint64_t at = rng_below (&rng, n * BLOCK_BYTES - count);
    rng_fill (&rng, block, count);
    disk_write (&disk, block, count, at);
  }
  disk_check_all (&disk);
  /* Once each: a block that has shrunk may have a smaller slot. */
  for (uint64_t i = 0; i < n; i += 3) {
    const unsigned content = rng_below (&rng, CONTENT_RANDOM);
    ck_assert_int_eq (try_block (&disk, i, (enum content) content), 0);
  }
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* The same for compressed blocks: each takes back what it held. */
START_TEST (test_rewrite_compressed_at_the_limit)
{
  struct disk disk = open_limited (_i == 0 ? "lz4" : "zstd", ROOM, 4);
  const uint64_t n = fill_with (&disk, 0, CONTENT_TEXT);
  uint8_t *buf = malloc (16 * BLOCK_BYTES);

  fill_with (&disk, n, CONTENT_RANDOM);
  for (unsigned i = 0; i < 1000; ++i) {
    const uint64_t at = rng_below (&rng, n - 16) * BLOCK_BYTES;
    const uint64_t blocks = rng_between (&rng, 1, 16);
    memcpy (buf, disk.shadow + at, blocks * BLOCK_BYTES);
    disk_write (&disk, buf, blocks * BLOCK_BYTES, at);
  }
  free (buf);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* A range: zspages go back, and what comes instead lies elsewhere. */
START_TEST (test_trim_makes_room)
{
  struct disk disk = open_limited ("lz4", ROOM, 5);

  for (unsigned round = 0; round < 2; ++round) {
    const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);
    const uint64_t nr_freed = n / 2;

    disk_trim (&disk, nr_freed * BLOCK_BYTES, 0);
    ck_assert_uint_ge (fill_with (&disk, disk.nr_blocks / 2, CONTENT_RANDOM),
                       nr_freed - nr_freed / 20 - 4);
    disk_check_all (&disk);
    disk_trim (&disk, SIZE, 0);
  }
  disk_close (&disk);
}
END_TEST

/* Blocks here and there: no zspage empties, but their slots are free. */
START_TEST (test_scattered_trim_makes_room)
{
  struct disk disk = open_limited ("lz4", ROOM, 15);
  const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);

  for (unsigned round = 0; round < 4; ++round) {
    for (uint64_t i = round; i < n; i += 3)
      disk_trim (&disk, BLOCK_BYTES, i * BLOCK_BYTES);
    for (uint64_t i = round; i < n; i += 3)
      ck_assert_int_eq (try_block (&disk, i, CONTENT_RANDOM), 0);
  }
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* The first block of a region and of a class takes pages of the table and of
 * side tables besides its own.  With too few below the limit compaction finds
 * the rest; what a try in vain took and gave back is not mistaken for that.
 */
START_TEST (test_first_of_its_kind_at_the_limit)
{
  const uint64_t nr_fragmented = 320; /* a quarter MiB to be had, and more */
  struct disk disk = open_limited ("lz4", ROOM, 16);

  for (uint64_t nr_pages = 24; nr_pages-- > 0;) {
    const uint64_t blkno = (1 + nr_pages % 15) * REGION_BLOCKS;

    disk_trim (&disk, SIZE, 0);
    for (uint64_t i = 0; i < nr_fragmented; ++i)
      ck_assert_int_eq (try_block (&disk, i, CONTENT_TEXT), 0);
    for (uint64_t i = 0; i < nr_fragmented; i += 2)
      disk_trim (&disk, BLOCK_BYTES, i * BLOCK_BYTES);
    while (pool_purge_one_unused (store_pool (disk.store)) > 0)
      ;
    ck_assert_int_eq (store_set_limit (disk.store, disk_held (&disk) +
                                                     nr_pages * PAGE_BYTES),
                      0);
    ck_assert_msg (try_block (&disk, blkno, CONTENT_PATTERN64) == 0,
                   "%" PRIu64 " pages below the limit", nr_pages);
    ck_assert_int_eq (store_set_limit (disk.store, PAGES_NO_LIMIT), 0);
  }
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Trims and zeroes of whole blocks that free memory work at the limit;
 * edges that need more stay, which is said of trims alone.
 */
START_TEST (test_discard_at_the_limit)
{
  struct disk disk = open_limited ("lz4", ROOM, 6);
  const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);

  disk_zero (&disk, 64 * BLOCK_BYTES, 0, false);
  disk_check_all (&disk);
  fill_with (&disk, n, CONTENT_RANDOM);
  for (unsigned i = 0; i < 50; ++i) {
    const uint64_t at =
      rng_between (&rng, 64 * BLOCK_BYTES, n * BLOCK_BYTES / 2);
    const uint64_t count = rng_below (&rng, 8 * BLOCK_BYTES);
    /* What the edges become is less than they were. */
    disk_trim (&disk, count, at);
    disk_verify (&disk, 20 * BLOCK_BYTES, at & ~(BLOCK_BYTES - 1));
  }
  disk_trim (&disk, SIZE, 0);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Lowered below what is held: growth is refused, held falls and does not
 * rise before it is below the new limit.
 */
START_TEST (test_limit_lowered)
{
  struct disk disk = open_limited ("lz4", 2 * ROOM, 7);
  const uint64_t low = limit_for ("lz4", ROOM);
  const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);
  uint64_t held = disk_held (&disk);

  ck_assert_int_eq (store_set_limit (disk.store, low), 0);
  ck_assert_uint_eq (disk_stats (&disk).limit_bytes, low);
  ck_assert_int_eq (try_block (&disk, n, CONTENT_RANDOM), -ENOSPC);
  ck_assert_int_eq (try_block (&disk, 5, CONTENT_RANDOM), 0);
  disk_check_all (&disk);
  for (uint64_t i = 0; i < n && held > low; ++i) {
    const uint64_t before = held;
    const int r = try_block (&disk, disk.nr_blocks - 1 - i, CONTENT_RANDOM);

    /* Once so much is trimmed, compaction may find room. */
    ck_assert (r == -ENOSPC || (r == 0 && disk_held (&disk) <= low));
    disk_trim (&disk, BLOCK_BYTES, i * BLOCK_BYTES);
    held = disk_held (&disk);
    ck_assert_uint_le (held, before);
  }
  ck_assert_uint_le (held, low);
  probe_watch_limit (low);
  fill_with (&disk, disk.nr_blocks / 2, CONTENT_RANDOM);
  ck_assert_uint_le (disk_held (&disk), low);
  ck_assert_int_eq (store_set_limit (disk.store, low + ROOM), 0);
  probe_watch_limit (low + ROOM);
  ck_assert_uint_gt (fill_with (&disk, disk.nr_blocks / 4, CONTENT_RANDOM),
                     ROOM / BLOCK_BYTES * 9 / 10);
  ck_assert_int_eq (store_set_limit (disk.store, PAGES_NO_LIMIT), 0);
  probe_watch_limit (0);
  for (uint64_t i = 0; i < 100; ++i)
    ck_assert_int_eq (try_block (&disk, i, CONTENT_RANDOM), 0);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* A codec whose contexts have no room is refused, the disk goes on. */
START_TEST (test_codec_at_the_limit)
{
  const struct codec_spec zstd = { CODEC_ZSTD, 1 };
  struct disk disk = open_limited ("lz4", ROOM, 8);
  const uint64_t n = fill_with (&disk, 0, CONTENT_RANDOM);

  ck_assert_int_eq (store_set_codec (disk.store, &zstd), -ENOSPC);
  ck_assert_int_eq (store_codec (disk.store).id, CODEC_LZ4);
  ck_assert_int_eq (try_block (&disk, 3, CONTENT_TEXT), 0);
  disk_check_all (&disk);
  disk_trim (&disk, n * BLOCK_BYTES, 0);
  disk_set_codec (&disk, "zstd:1");
  ck_assert_int_eq (try_block (&disk, 3, CONTENT_TEXT), 0);
  ck_assert_uint_eq (disk_stats (&disk).zstd_blocks, 1);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads run into the limit together, one looks all the time. */

#define NR_THREADS 6
static struct store *shared_store;
static uint64_t shared_limit;
static atomic_bool threads_done;

static void *
press_on (void *arg)
{
  const uint64_t thread = (uint64_t) (uintptr_t) arg;
  const uint64_t part = SIZE / NR_THREADS / BLOCK_BYTES;
  const unsigned nr = test_short () ? 500 : 4000;
  uint8_t *buf = malloc (32 * BLOCK_BYTES);
  struct rng mine;

  rng_init (&mine, test_seed (), 100 + thread);
  for (unsigned i = 0; i < nr; ++i) {
    const uint64_t blocks = rng_between (&mine, 1, 32);
    const uint64_t at =
      (thread * part + rng_below (&mine, part - blocks)) * BLOCK_BYTES;
    int r;

    if (rng_once_in (&mine, 5))
      r = store_trim (shared_store, blocks * BLOCK_BYTES, at);
    else {
      make_range (&mine, buf, blocks * BLOCK_BYTES, at);
      r = store_write (shared_store, buf, blocks * BLOCK_BYTES, at);
    }
    if (r != 0 && r != -ENOSPC)
      test_note_failure ("write or trim gave %d", r);
  }
  free (buf);
  return NULL;
}

static void *
watch_held (void *arg)
{
  uint64_t *nr_looks = arg;
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  while (!atomic_load (&threads_done)) {
    store_stats (shared_store, &stats);
    if (stats.held_bytes > shared_limit)
      test_note_failure ("held is %" PRIu64 ", limit %" PRIu64,
                         stats.held_bytes, shared_limit);
    ++*nr_looks;
    sleep_us (50);
  }
  return NULL;
}

START_TEST (test_threads_at_the_limit)
{
  struct disk disk = open_limited ("lz4", ROOM, 9);
  pthread_t threads[NR_THREADS], watcher;
  uint64_t nr_looks = 0;

  shared_store = disk.store;
  shared_limit = disk_stats (&disk).limit_bytes;
  atomic_store (&threads_done, false);
  ck_assert_int_eq (pthread_create (&watcher, NULL, watch_held, &nr_looks), 0);
  for (uintptr_t i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, press_on, (void *) i),
                      0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&threads_done, true);
  pthread_join (watcher, NULL);
  ck_assert_uint_gt (nr_looks, 0);
  ck_assert_uint_le (disk_stats (&disk).held_highest_bytes, shared_limit);
  ck_assert_uint_gt (disk_stats (&disk).held_highest_bytes, shared_limit - MIB);
  disk_check (&disk);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Guarantees: what is held for what is stored.  DESIGN 7:
 * M = 16 B a live block + 4 KiB a region with a live block + 1 MiB.
 */

static uint64_t
allowed_metadata (const struct stats *stats)
{
  return 16 * stats->live_blocks + 4096 * stats->live_regions + MIB;
}

static void
fill_disk (struct disk *disk, bool incompressible)
{
  const size_t chunk = 64 * BLOCK_BYTES;
  uint8_t *buf = malloc (chunk);

  for (uint64_t at = 0; at < disk->size; at += chunk) {
    for (size_t i = 0; i < chunk; i += BLOCK_BYTES)
      if (incompressible)
        make_block (&rng, CONTENT_RANDOM, buf + i);
      else
        make_text_block (&rng, rng_below (&rng, 60), buf + i);
    ck_assert_int_eq (store_write (disk->store, buf, chunk, at), 0);
  }
  free (buf);
}

/* G6, and G7 beside it. */
START_TEST (test_incompressible_data)
{
  const uint64_t size = test_short () ? 32 * MIB : 96 * MIB;
  struct disk disk = disk_open_bare (size, PAGES_NO_LIMIT, "lz4");
  struct stats stats;

  rng_init (&rng, test_seed (), 20);
  fill_disk (&disk, true);
  stats = disk_stats (&disk);
  ck_assert_uint_eq (stats.raw_blocks, disk.nr_blocks);
  ck_assert_msg (stats.held_bytes <=
                   size + size / 100 + allowed_metadata (&stats),
                 "held %" PRIu64 " for %" PRIu64 " of incompressible data",
                 stats.held_bytes, size);
  ck_assert_uint_le (stats.metadata_bytes, allowed_metadata (&stats));
  disk_check (&disk);
  disk_close (&disk);
}
END_TEST

/* Fresh: blocks of text of all payload sizes, written once. */
START_TEST (test_fresh_overhead)
{
  const uint64_t size = test_short () ? 64 * MIB : 256 * MIB;
  struct disk disk = disk_open_bare (size, PAGES_NO_LIMIT, "lz4");
  struct stats stats;
  uint64_t payload;

  rng_init (&rng, test_seed (), 21);
  fill_disk (&disk, false);
  stats = disk_stats (&disk);
  payload = stats.payload_rounded_bytes;
  ck_assert_uint_gt (stats.lz4_blocks, disk.nr_blocks * 9 / 10);
  ck_assert_msg (stats.held_bytes <=
                   payload + payload * 15 / 1000 + allowed_metadata (&stats),
                 "held %" PRIu64 " (metadata %" PRIu64 ", allowed %" PRIu64
                 ") for payloads of %" PRIu64,
                 stats.held_bytes, stats.metadata_bytes,
                 allowed_metadata (&stats), payload);
  ck_assert_uint_le (stats.metadata_bytes, allowed_metadata (&stats));
  disk_check (&disk);

  /* All freed: back to about what an empty disk holds. */
  ck_assert_int_eq (store_trim (disk.store, size, 0), 0);
  stats = disk_stats (&disk);
  ck_assert_uint_eq (stats.live_blocks, 0);
  ck_assert_uint_eq (stats.live_regions, 0);
  ck_assert_uint_le (stats.arena_bytes, ZSPAGE_BYTES);
  ck_assert_uint_le (stats.held_bytes, disk.min_bytes + 64 * KIB);
  disk_check (&disk);
  disk_close (&disk);
}
END_TEST

/* Blocks few and far between, of every kind: G7. */
START_TEST (test_sparse_metadata)
{
  struct disk disk = disk_open_bare (128 * MIB, PAGES_NO_LIMIT, "lz4");
  struct stats stats;

  rng_init (&rng, test_seed (), 22);
  for (uint64_t i = 0; i < disk.nr_blocks; i += 300) {
    make_block (&rng, (enum content) (i / 300 % NR_CONTENTS), block);
    ck_assert_int_eq (store_write (disk.store, block, BLOCK_BYTES,
                                   i * BLOCK_BYTES),
                      0);
  }
  stats = disk_stats (&disk);
  ck_assert_uint_eq (stats.live_regions, 64);
  ck_assert_uint_le (stats.metadata_bytes, allowed_metadata (&stats));
  disk_check (&disk);
  disk_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store-limit");
  TCase *tcase = tcase_create ("store-limit");
  SRunner *runner;
  int nr_failed;

  test_start ("test-store-limit");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_lone_test (tcase, test_least_limit);
  tcase_add_lone_test (tcase, test_full_of_random_data);
  tcase_add_lone_test (tcase, test_crossing_requests_at_the_limit);
  tcase_add_lone_test (tcase, test_overwrite_at_the_limit);
  tcase_add_lone_loop_test (tcase, test_rewrite_compressed_at_the_limit, 0, 2);
  tcase_add_lone_test (tcase, test_trim_makes_room);
  tcase_add_lone_test (tcase, test_scattered_trim_makes_room);
  tcase_add_lone_test (tcase, test_first_of_its_kind_at_the_limit);
  tcase_add_lone_test (tcase, test_discard_at_the_limit);
  tcase_add_lone_test (tcase, test_limit_lowered);
  tcase_add_lone_test (tcase, test_codec_at_the_limit);
  tcase_add_test (tcase, test_threads_at_the_limit);
  tcase_add_lone_test (tcase, test_incompressible_data);
  tcase_add_lone_test (tcase, test_fresh_overhead);
  tcase_add_lone_test (tcase, test_sparse_metadata);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
