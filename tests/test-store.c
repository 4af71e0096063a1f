/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The disk: every kind of block, whole and in parts, read, written,
 * trimmed, zeroed and asked for its extents; sizes that are no whole
 * blocks.  Damaged payloads: test-store-damage.c; limits and guarantees:
 * test-store-limit.c; threads: test-store-threads.c.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libcheck.h"
#include "pool.h"
#include "probe.h"
#include "store-fixture.h"
#include "test-util.h"

#define SIZE (16 * MIB)

static struct rng rng;

static void
init_rng (uint64_t stream)
{
  rng_init (&rng, test_seed (), stream);
}

static void
write_block (struct disk *disk, uint64_t blkno, enum content content)
{
  uint8_t block[BLOCK_BYTES];

  make_block (&rng, content, block);
  disk_write (disk, block, BLOCK_BYTES, blkno * BLOCK_BYTES);
}

/*--------------------------------------------------------------------*/

START_TEST (test_sizes_refused)
{
  static const uint64_t sizes[] = { 0, STORE_MAX_BYTES + 1, UINT64_MAX };
  struct store_params params = {
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .pages_ops = &probe_ops,
  };

  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    struct store *store = NULL;
    params.size_bytes = sizes[i];
    ck_assert_int_eq (store_create (&params, &store), -EINVAL);
    ck_assert_ptr_null (store);
  }
  ck_assert_uint_eq (probe_nr_ranges (), 0);
}
END_TEST

START_TEST (test_never_started)
{
  const struct store_params params = {
    .size_bytes = SIZE,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .pages_ops = &probe_ops,
  };
  struct store *store = NULL;

  ck_assert_int_eq (store_create (&params, &store), 0);
  store_destroy (store);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
}
END_TEST

/* Created before a fork, started after it. */
START_TEST (test_fork_between)
{
  const struct store_params params = {
    .size_bytes = SIZE,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
  };
  char block[BLOCK_BYTES] = "after the fork", back[BLOCK_BYTES];
  struct store *store = NULL;
  int status;
  pid_t pid;

  ck_assert_int_eq (store_create (&params, &store), 0);
  pid = fork ();
  ck_assert_int_ne (pid, -1);
  if (pid == 0) {
    const bool ok = store_start (store) == 0 &&
                    store_write (store, block, sizeof block, 12345) == 0 &&
                    store_read (store, back, sizeof back, 12345) == 0 &&
                    memcmp (block, back, sizeof back) == 0;
    _exit (ok ? 0 : 1);
  }
  ck_assert_int_eq (waitpid (pid, &status, 0), pid);
  ck_assert_int_eq (status, 0);
  store_destroy (store);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Kinds of blocks: what each costs. */

static uint64_t
nr_objects (const struct disk *disk)
{
  struct pool *pool = store_pool (disk->store);
  uint64_t nr = 0;

  for (unsigned i = 0; i < pool_nr_classes (pool); ++i) {
    struct pool_class_stats stats;
    pool_class_stats (pool, i, &stats);
    nr += stats.nr_inuse;
  }
  return nr;
}

START_TEST (test_same_filled_costs_no_object)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  const uint64_t before = nr_objects (&disk);
  struct stats stats;
  uint32_t bytes;

  init_rng (1);
  for (uint64_t i = 0; i < 100; ++i)
    write_block (&disk, i * 7, i % 2 ? CONTENT_PATTERN32 : CONTENT_ZERO);
  stats = disk_stats (&disk);
  ck_assert_uint_eq (nr_objects (&disk), before);
  ck_assert_uint_eq (stats.same_filled_blocks, 100);
  ck_assert_uint_eq (stats.payload_bytes, 0);
  ck_assert_ptr_null (store_payload_for_test (disk.store, 0, &bytes));
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

START_TEST (test_repeated_64_bits_cost_a_tiny_object)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  const uint64_t before = nr_objects (&disk);
  struct stats stats;

  init_rng (2);
  for (uint64_t i = 0; i < 100; ++i)
    write_block (&disk, i * 5, CONTENT_PATTERN64);
  stats = disk_stats (&disk);
  ck_assert_uint_eq (nr_objects (&disk), before + 100);
  ck_assert_uint_eq (stats.repeat_blocks, 100);
  ck_assert_uint_le (stats.payload_rounded_bytes, 100 * 16);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

START_TEST (test_raw_costs_a_block)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT,
                                _i == 0   ? "lz4"
                                : _i == 1 ? "zstd"
                                          : "none");
  struct stats stats;
  uint32_t bytes;
  void *payload;

  init_rng (3);
  for (uint64_t i = 0; i < 100; ++i)
    write_block (&disk, i * 3, CONTENT_RANDOM);
  stats = disk_stats (&disk);
  ck_assert_uint_eq (stats.raw_blocks, 100);
  ck_assert_uint_eq (stats.payload_bytes, 100 * BLOCK_BYTES);
  ck_assert_uint_eq (stats.payload_rounded_bytes, 100 * BLOCK_BYTES);
  payload = store_payload_for_test (disk.store, 3, &bytes);
  ck_assert_ptr_nonnull (payload);
  ck_assert_uint_eq (bytes, BLOCK_BYTES);
  ck_assert_int_eq (memcmp (payload, disk.shadow + 3 * BLOCK_BYTES,
                            BLOCK_BYTES),
                    0);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

START_TEST (test_compressed_costs_less)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, _i == 0 ? "lz4" : "zstd");
  struct stats stats;
  uint8_t block[BLOCK_BYTES];
  uint32_t bytes;

  init_rng (4);
  for (uint64_t i = 0; i < 100; ++i) {
    make_text_block (&rng, 0, block);
    disk_write (&disk, block, BLOCK_BYTES, i * BLOCK_BYTES);
  }
  stats = disk_stats (&disk);
  ck_assert_uint_eq (_i == 0 ? stats.lz4_blocks : stats.zstd_blocks, 100);
  ck_assert_uint_lt (stats.payload_bytes, 100 * BLOCK_BYTES * 3 / 4);
  ck_assert_ptr_nonnull (store_payload_for_test (disk.store, 0, &bytes));
  ck_assert_uint_lt (bytes, BLOCK_BYTES);
  /* As often as one likes: the old object goes. */
  for (uint64_t i = 0; i < 100; ++i)
    disk_write (&disk, block, BLOCK_BYTES, i * BLOCK_BYTES);
  ck_assert_uint_eq (disk_stats (&disk).live_blocks, 100);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Parts of blocks over each kind of old block. */

static const struct {
  size_t offset, count;
} parts[] = {
  { 0, 1 }, { 4095, 1 },  { 1, 4095 }, { 0, 4095 }, { 1, 4094 }, { 2047, 2 },
  { 3, 5 }, { 512, 512 }, { 4092, 4 }, { 0, 4 },    { 2, 1021 },
};
#define NR_PARTS (sizeof parts / sizeof parts[0])

enum part_op {
  PART_WRITE,
  PART_WRITE_ZERO,
  PART_ZERO,
  PART_PUNCH,
  PART_TRIM,
  NR_PART_OPS
};

static void
change_part (struct disk *disk, enum part_op op, size_t count, uint64_t offset)
{
  uint8_t buf[BLOCK_BYTES];

  switch (op) {
  case PART_WRITE_ZERO:
    memset (buf, 0, sizeof buf);
    disk_write (disk, buf, count, offset);
    break;
  case PART_ZERO:
    disk_zero (disk, count, offset, false);
    break;
  case PART_PUNCH:
    disk_zero (disk, count, offset, true);
    break;
  case PART_TRIM:
    disk_trim (disk, count, offset);
    break;
  case PART_WRITE:
  case NR_PART_OPS:
  default:
    rng_fill (&rng, buf, sizeof buf);
    disk_write (disk, buf, count, offset);
  }
}

/* Loop: the codec of the old blocks. */
static const char *const part_codecs[] = { "lz4", "zstd:1", "none" };

START_TEST (test_parts)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, part_codecs[_i]);

  init_rng (5);
  for (int old = -1; old < NR_CONTENTS; ++old)
    for (unsigned op = 0; op < NR_PART_OPS; ++op)
      for (unsigned i = 0; i < NR_PARTS; ++i) {
        const uint64_t at = (uint64_t) (old + 2) * BLOCK_BYTES;

        if (old < 0)
          disk_trim (&disk, BLOCK_BYTES, at);
        else
          write_block (&disk, (uint64_t) (old + 2), (enum content) old);
        for (unsigned j = 0; j < NR_PARTS; ++j)
          disk_verify (&disk, parts[j].count, at + parts[j].offset);
        change_part (&disk, (enum part_op) op, parts[i].count,
                     at + parts[i].offset);
        disk_verify (&disk, 3 * BLOCK_BYTES, at - BLOCK_BYTES);
        disk_check_extents (&disk, 3 * BLOCK_BYTES, at - BLOCK_BYTES);
      }
  ck_assert_uint_gt (disk_stats (&disk).partial_writes, 0);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* A part that undoes what made a block unlike itself. */
START_TEST (test_part_makes_same_filled)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  const uint64_t before = nr_objects (&disk);
  const char x = 'x', zero = 0;

  disk_write (&disk, &x, 1, 5 * BLOCK_BYTES + 77);
  ck_assert_uint_eq (nr_objects (&disk), before + 1);
  disk_write (&disk, &zero, 1, 5 * BLOCK_BYTES + 77);
  ck_assert_uint_eq (nr_objects (&disk), before);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Neither reads nor parts of nothing cost memory. */
START_TEST (test_untouched_costs_nothing)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  const uint64_t before = disk_held (&disk);

  disk_verify (&disk, SIZE, 0);
  disk_trim (&disk, SIZE, 0);
  disk_trim (&disk, 1000, 3000);
  disk_zero (&disk, SIZE, 0, true);
  disk_check_all (&disk);
  ck_assert_uint_eq (disk_held (&disk), before);
  /* Requests of no bytes. */
  disk_write (&disk, "", 0, 100);
  disk_verify (&disk, 0, SIZE);
  disk_trim (&disk, 0, 4096);
  disk_zero (&disk, 0, 4096, false);
  ck_assert_uint_eq (disk_held (&disk), before);
  ck_assert_uint_eq (disk_stats (&disk).live_blocks, 0);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Requests at random against the shadow, on disks of many sizes. */

static const uint64_t odd_sizes[] = {
  1,     511,         4095,    4096,        4097,           65535,
  65537, 2 * MIB - 1, 2 * MIB, 2 * MIB + 5, 6 * MIB + 4095,
};
#define NR_ODD_SIZES (sizeof odd_sizes / sizeof odd_sizes[0])

/* Where things happen: anywhere, at an edge of a block, a group, a region
 * or the disk.
 */
static uint64_t
choose_edge (uint64_t size)
{
  static const uint64_t units[] = { 1, 4096, 65536, 2 * MIB };
  const uint64_t unit = units[rng_below (&rng, 4)];
  uint64_t at = rng_below (&rng, size + 1) / unit * unit;

  if (rng_once_in (&rng, 8))
    at = size;
  if (rng_once_in (&rng, 4))
    at += rng_below (&rng, 5) - 2;
  return at <= size ? at : size;
}

static void
random_request (struct disk *disk, uint8_t *buf)
{
  uint64_t start = choose_edge (disk->size), end;

  if (rng_once_in (&rng, 2))
    end = choose_edge (disk->size);
  else
    end = start + rng_size (&rng, MIB);
  if (end > disk->size)
    end = disk->size;
  if (end < start) {
    const uint64_t t = start;
    start = end;
    end = t;
  }
  switch (rng_below (&rng, 8)) {
  case 0:
    disk_trim (disk, end - start, start);
    break;
  case 1:
    disk_zero (disk, end - start, start, rng_once_in (&rng, 2));
    break;
  case 2:
    disk_check_extents (disk, end - start, start);
    break;
  case 3:
  case 4:
    disk_verify (disk, end - start, start);
    break;
  default:
    make_range (&rng, buf, end - start, start);
    disk_write (disk, buf, end - start, start);
  }
}

START_TEST (test_random_requests)
{
  const uint64_t size = odd_sizes[_i];
  const unsigned nr = test_short () ? 100 : 400;
  struct disk disk = disk_open (size, PAGES_NO_LIMIT, _i % 2 ? "lz4" : "zstd");
  uint8_t *buf = malloc (size);

  init_rng (10 + (uint64_t) _i);
  for (unsigned i = 0; i < nr; ++i) {
    random_request (&disk, buf);
    if (rng_once_in (&rng, 50)) {
      const uint64_t end = choose_edge (size);
      disk_check_all (&disk);
      disk_trim (&disk, size - end, end);
    }
  }
  disk_check_all (&disk);
  disk_trim (&disk, size, 0);
  ck_assert_uint_eq (disk_stats (&disk).live_blocks, 0);
  ck_assert_uint_eq (disk_stats (&disk).live_regions, 0);
  disk_check_all (&disk);
  free (buf);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Extents. */

static int
count_extent (void *opaque, uint64_t offset, uint64_t count,
              enum extent_kind kind)
{
  (void) offset;
  (void) count;
  (void) kind;
  ++*(unsigned *) opaque;
  return 0;
}

static int
stop_at_fifth (void *opaque, uint64_t offset, uint64_t count,
               enum extent_kind kind)
{
  count_extent (opaque, offset, count, kind);
  return *(unsigned *) opaque == 5 ? -77 : 0;
}

START_TEST (test_extents_of_many_kinds)
{
  const uint64_t nr = STORE_MAX_EXTENTS + 1000;
  struct disk disk = disk_open (nr * BLOCK_BYTES, PAGES_NO_LIMIT, "lz4");
  unsigned n = 0;

  init_rng (30);
  for (uint64_t i = 0; i < nr; i += 2)
    write_block (&disk, i, i % 3 ? CONTENT_PATTERN32 : CONTENT_ZERO);
  ck_assert_int_eq (store_extents (disk.store, disk.size, 0, false,
                                   count_extent, &n),
                    0);
  ck_assert_uint_eq (n, STORE_MAX_EXTENTS);
  disk_check_extents (&disk, disk.size, 0);
  n = 0;
  ck_assert_int_eq (store_extents (disk.store, disk.size, 0, false,
                                   stop_at_fifth, &n),
                    -77);
  ck_assert_uint_eq (n, 5);
  for (unsigned i = 0; i < 50; ++i) {
    const uint64_t from = rng_below (&rng, disk.size);
    disk_check_extents (&disk, 1 + rng_below (&rng, disk.size - from), from);
  }
  disk_close (&disk);
}
END_TEST

/* Allocated zeros stay allocated, whatever they were. */
START_TEST (test_zero_without_punch_stays)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  unsigned n = 0;

  init_rng (31);
  for (uint64_t i = 0; i < NR_CONTENTS; ++i)
    write_block (&disk, i, (enum content) i);
  disk_zero (&disk, SIZE / 2, 0, false);
  ck_assert_uint_eq (disk_stats (&disk).same_filled_blocks,
                     SIZE / 2 / BLOCK_BYTES);
  ck_assert_int_eq (store_extents (disk.store, SIZE, 0, false, count_extent,
                                   &n),
                    0);
  ck_assert_uint_eq (n, 2);
  disk_check_all (&disk);
  disk_zero (&disk, SIZE, 0, true);
  ck_assert_uint_eq (disk_stats (&disk).live_blocks, 0);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* A disk far larger than memory: nothing goes over its blocks. */
START_TEST (test_huge_disk)
{
  const uint64_t size = TEST_SANITIZED ? 256 * MIB : TIB;
  struct disk disk = disk_open_bare (size, PAGES_NO_LIMIT, "lz4");
  const uint64_t held = disk_held (&disk);
  const uint64_t at = size / 2 - 5;
  char buf[10] = "0123456789", back[10];
  unsigned n = 0;

  ck_assert_uint_le (held, MIB + size / BLOCK_BYTES / 10);
  ck_assert_uint_le (held, 10 * MIB);
  ck_assert_int_eq (store_extents (disk.store, size, 0, false, count_extent,
                                   &n),
                    0);
  ck_assert_uint_eq (n, 1);
  ck_assert_int_eq (store_trim (disk.store, size, 0), 0);
  ck_assert_int_eq (store_zero (disk.store, size, 0, true), 0);
  ck_assert_int_eq (store_read (disk.store, back, 10, size - 10), 0);
  ck_assert (is_all_zero (back, 10));
  ck_assert_uint_eq (disk_held (&disk), held);

  ck_assert_int_eq (store_write (disk.store, buf, 10, at), 0);
  ck_assert_int_eq (store_write (disk.store, buf, 1, size - 1), 0);
  ck_assert_int_eq (store_read (disk.store, back, 10, at), 0);
  ck_assert_int_eq (memcmp (buf, back, 10), 0);
  n = 0;
  ck_assert_int_eq (store_extents (disk.store, size, 0, false, count_extent,
                                   &n),
                    0);
  ck_assert_uint_eq (n, 4);
  ck_assert_uint_le (disk_held (&disk), held + 128 * KIB);
  disk_check (&disk);
  ck_assert_int_eq (store_trim (disk.store, size, 0), 0);
  ck_assert_uint_eq (disk_stats (&disk).live_blocks, 0);
  disk_check (&disk);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Codecs changed while blocks of the others live. */

START_TEST (test_codecs_side_by_side)
{
  static const char *const codecs[] = {
    "lz4", "zstd:1", "none", "zstd:-3", "lz4:8", "zstd:9", "lz4:1",
  };
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "none");
  uint8_t *buf = malloc (SIZE);

  init_rng (40);
  for (unsigned i = 0; i < 2 * sizeof codecs / sizeof codecs[0]; ++i) {
    const char *codec = codecs[i % (sizeof codecs / sizeof codecs[0])];
    disk_set_codec (&disk, codec);
    for (unsigned j = 0; j < 20; ++j) {
      const uint64_t from = rng_below (&rng, SIZE);
      uint64_t count = rng_size (&rng, 300000);
      if (count > SIZE - from)
        count = SIZE - from;
      make_range (&rng, buf, count, from);
      disk_write (&disk, buf, count, from);
    }
    disk_check_all (&disk);
  }
  ck_assert_uint_gt (disk_stats (&disk).lz4_blocks, 0);
  ck_assert_uint_gt (disk_stats (&disk).zstd_blocks, 0);
  disk_trim (&disk, SIZE, 0);
  disk_check_all (&disk);
  free (buf);
  disk_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store");
  TCase *tcase = tcase_create ("store");
  SRunner *runner;
  int nr_failed;

  test_start ("test-store");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_sizes_refused);
  tcase_add_test (tcase, test_never_started);
  tcase_add_test (tcase, test_fork_between);
  tcase_add_test (tcase, test_same_filled_costs_no_object);
  tcase_add_test (tcase, test_repeated_64_bits_cost_a_tiny_object);
  tcase_add_loop_test (tcase, test_raw_costs_a_block, 0, 3);
  tcase_add_loop_test (tcase, test_compressed_costs_less, 0, 2);
  tcase_add_loop_test (tcase, test_parts, 0, 3);
  tcase_add_test (tcase, test_part_makes_same_filled);
  tcase_add_test (tcase, test_untouched_costs_nothing);
  tcase_add_loop_test (tcase, test_random_requests, 0, (int) NR_ODD_SIZES);
  tcase_add_test (tcase, test_extents_of_many_kinds);
  tcase_add_test (tcase, test_zero_without_punch_stays);
  tcase_add_test (tcase, test_huge_disk);
  tcase_add_test (tcase, test_codecs_side_by_side);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
