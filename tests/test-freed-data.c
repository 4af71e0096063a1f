/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What was freed is not to be had again: a disk is filled with blocks that
 * have a secret in every 64 bytes, of every kind and codec; they go, in each
 * of the ways that a block can go; others take their slots; and everything
 * that can be read is read, into a buffer that was poisoned, and searched.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "libcheck.h"
#include "store-fixture.h"
#include "test-util.h"

/* Not whole blocks: the last has 100 bytes. */
#define TAIL_BYTES 100
#define SIZE (4 * MIB + TAIL_BYTES)
#define SECRET "S3cr3t!" /* and its NUL: 8 bytes */
#define SECRET_BYTES sizeof SECRET
#define POISON 0xa5

static struct rng rng;

/* A block with nothing but the secret's halves in it as a pattern of 8 bytes;
 * one that compresses, to any size; one that does not.
 */
enum secret_kind { SECRET_REPEATED, SECRET_TEXT, SECRET_RANDOM, NR_SECRETS };

static void
make_secret_block (enum secret_kind kind, uint8_t block[BLOCK_BYTES])
{
  const unsigned step = kind == SECRET_REPEATED ? SECRET_BYTES : 64;

  if (kind == SECRET_TEXT)
    make_text_block (&rng, (unsigned) rng_below (&rng, 80), block);
  else
    rng_fill (&rng, block, BLOCK_BYTES);
  for (unsigned i = 0; i < BLOCK_BYTES; i += step)
    memcpy (block + i, SECRET, SECRET_BYTES);
}

/* All of the disk, the last 100 bytes too. */
static void
fill_with_secrets (struct disk *disk)
{
  uint8_t block[BLOCK_BYTES];

  for (uint64_t offset = 0; offset < SIZE; offset += BLOCK_BYTES) {
    make_secret_block ((enum secret_kind) rng_below (&rng, NR_SECRETS), block);
    disk_write (disk, block,
                SIZE - offset < BLOCK_BYTES ? SIZE - offset : BLOCK_BYTES,
                offset);
  }
}

static bool
has_secret (const void *buf, size_t bytes)
{
  return memmem (buf, bytes, SECRET, SECRET_BYTES) != NULL;
}

/* Read it all, whole, and in requests of any size at any place. */
static void
check_no_secret (struct disk *disk)
{
  uint8_t *buf = disk->scratch;

  memset (buf, POISON, SIZE);
  ck_assert_int_eq (store_read (disk->store, buf, SIZE, 0), 0);
  ck_assert (!has_secret (buf, SIZE));
  for (unsigned i = 0; i < 500; ++i) {
    const uint64_t count = rng_size (&rng, 5 * BLOCK_BYTES);
    const uint64_t offset = rng_below (&rng, SIZE - count + 1);

    memset (buf, POISON, count);
    ck_assert_int_eq (store_read (disk->store, buf, count, offset), 0);
    ck_assert (!has_secret (buf, count));
    ck_assert (memcmp (buf, disk->shadow + offset, count) == 0);
  }
}

/* Something harmless in the slots: smaller than what was there, larger,
 * parts of blocks that were never written since.
 */
static void
write_harmless (struct disk *disk, unsigned nr)
{
  uint8_t block[BLOCK_BYTES];

  for (unsigned i = 0; i < nr; ++i) {
    const uint64_t blkno = rng_below (&rng, disk->nr_blocks - 1);
    uint64_t start = 0, count = BLOCK_BYTES;

    make_block (&rng, (enum content) rng_below (&rng, NR_CONTENTS), block);
    if (rng_once_in (&rng, 2)) {
      start = rng_below (&rng, BLOCK_BYTES);
      count = rng_between (&rng, 1, BLOCK_BYTES - start);
    }
    disk_write (disk, block, count, blkno * BLOCK_BYTES + start);
  }
  /* A byte of the last block, which is none of the disk's size. */
  disk_write (disk, "x", 1, SIZE - 1 - rng_below (&rng, TAIL_BYTES));
}

static const char *const codecs[] = { "lz4", "zstd", "none" };
#define NR_TEST_CODECS 3

enum way { WAY_TRIM, WAY_ZERO, WAY_PUNCH, WAY_OVERWRITE, NR_WAYS };

static void
make_go (struct disk *disk, enum way way)
{
  uint8_t zeros[BLOCK_BYTES] = { 0 };

  switch (way) {
  case WAY_TRIM:
    disk_trim (disk, SIZE, 0);
    break;
  case WAY_ZERO:
  case WAY_PUNCH:
    disk_zero (disk, SIZE, 0, way == WAY_PUNCH);
    break;
  default:
    for (uint64_t offset = 0; offset < SIZE; offset += BLOCK_BYTES)
      disk_write (disk, zeros,
                  SIZE - offset < BLOCK_BYTES ? SIZE - offset : BLOCK_BYTES,
                  offset);
  }
}

START_TEST (test_gone_in_every_way)
{
  const enum way way = (enum way) (_i % NR_WAYS);
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, codecs[_i / NR_WAYS]);

  rng_init (&rng, test_seed (), 60 + (uint64_t) _i);
  fill_with_secrets (&disk);
  disk_verify (&disk, SIZE, 0);
  ck_assert (has_secret (disk.shadow + SIZE - TAIL_BYTES, TAIL_BYTES));
  make_go (&disk, way);
  check_no_secret (&disk);
  for (unsigned i = 0; i < 4; ++i) {
    write_harmless (&disk, 300);
    disk_set_codec (&disk, codecs[rng_below (&rng, NR_TEST_CODECS)]);
    check_no_secret (&disk);
  }
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* Ranges at any place of a disk whose other blocks keep their secrets: the
 * edges of a trim are zeros to the byte, and nothing of a neighbour is.
 */
START_TEST (test_edges)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, codecs[_i]);
  uint8_t *buf = malloc (SIZE);

  ck_assert_ptr_nonnull (buf);
  rng_init (&rng, test_seed (), 80 + (uint64_t) _i);
  fill_with_secrets (&disk);
  for (unsigned i = 0; i < 300; ++i) {
    const uint64_t count = rng_size (&rng, 20 * BLOCK_BYTES);
    const uint64_t offset =
      rng_once_in (&rng, 8) ? SIZE - count : rng_below (&rng, SIZE - count + 1);

    if (rng_once_in (&rng, 2))
      disk_trim (&disk, count, offset);
    else
      disk_zero (&disk, count, offset, rng_once_in (&rng, 2));
    memset (buf, POISON, count);
    ck_assert_int_eq (store_read (disk.store, buf, count, offset), 0);
    ck_assert (is_all_zero (buf, count));
  }
  disk_verify (&disk, SIZE, 0);
  free (buf);
  disk_close (&disk);
}
END_TEST

/* A read that fails leaves what lies behind the damage as it was, and in the
 * damaged block nothing but what that block may say.
 */
START_TEST (test_errors_fill_nothing)
{
  enum { NR = 16, DAMAGED = 7 };
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, codecs[_i]);
  uint8_t buf[NR * BLOCK_BYTES], block[BLOCK_BYTES];
  uint8_t *payload;
  uint32_t bytes;

  rng_init (&rng, test_seed (), 90 + (uint64_t) _i);
  fill_with_secrets (&disk);
  disk_trim (&disk, SIZE, 0);
  for (unsigned i = 0; i < NR; ++i) {
    make_block (&rng, CONTENT_TEXT, block);
    disk_write (&disk, block, BLOCK_BYTES, i * BLOCK_BYTES);
  }
  payload = store_payload_for_test (disk.store, DAMAGED, &bytes);
  ck_assert_ptr_nonnull (payload);
  payload[bytes / 2] ^= 1;

  memset (buf, POISON, sizeof buf);
  ck_assert_int_eq (store_read (disk.store, buf, sizeof buf, 0), -EIO);
  ck_assert (memcmp (buf, disk.shadow, DAMAGED * BLOCK_BYTES) == 0);
  for (size_t i = (DAMAGED + 1) * BLOCK_BYTES; i < sizeof buf; ++i)
    ck_assert_uint_eq (buf[i], POISON);
  ck_assert (!has_secret (buf, sizeof buf));

  /* A part of it: not a byte of what was found to be wrong. */
  memset (buf, POISON, sizeof buf);
  ck_assert_int_eq (store_read (disk.store, buf, 10, DAMAGED * BLOCK_BYTES + 5),
                    -EIO);
  for (size_t i = 0; i < sizeof buf; ++i)
    ck_assert_uint_eq (buf[i], POISON);
  disk_trim (&disk, BLOCK_BYTES, DAMAGED * BLOCK_BYTES);
  disk_verify (&disk, SIZE, 0);
  disk_close (&disk);
}
END_TEST

/* At the limit a block is overwritten in the slot that it has, which may be
 * much larger than what is put there.
 */
START_TEST (test_in_place)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  uint8_t block[BLOCK_BYTES];
  unsigned nr_written = 0;

  rng_init (&rng, test_seed (), 99);
  fill_with_secrets (&disk);
  /* There is no more than what is held. */
  ck_assert_int_ge (store_set_limit (disk.store, disk_held (&disk)), 0);
  for (uint64_t blkno = 0; blkno < disk.nr_blocks - 1; ++blkno) {
    make_text_block (&rng, (unsigned) rng_below (&rng, 60), block);
    if (store_write (disk.store, block, BLOCK_BYTES, blkno * BLOCK_BYTES) == 0)
      ++nr_written;
    disk_verify_old_or_new (&disk, block, BLOCK_BYTES, blkno * BLOCK_BYTES);
  }
  ck_assert_uint_ge (nr_written, 1);
  ck_assert_uint_ge (disk_stats (&disk).in_place_writes, 1);
  disk_verify (&disk, SIZE, 0);
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno)
    if (has_secret (disk.shadow + blkno * BLOCK_BYTES,
                    blkno == disk.nr_blocks - 1 ? TAIL_BYTES : BLOCK_BYTES))
      disk_trim (&disk, blkno == disk.nr_blocks - 1 ? TAIL_BYTES : BLOCK_BYTES,
                 blkno * BLOCK_BYTES);
  check_no_secret (&disk);
  disk_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("freed-data");
  TCase *tcase = tcase_create ("freed-data");
  SRunner *runner;
  int nr_failed;

  test_start ("test-freed-data");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_gone_in_every_way, 0,
                       NR_WAYS * NR_TEST_CODECS);
  tcase_add_loop_test (tcase, test_edges, 0, NR_TEST_CODECS);
  tcase_add_loop_test (tcase, test_errors_fill_nothing, 0, NR_TEST_CODECS);
  tcase_add_test (tcase, test_in_place);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
