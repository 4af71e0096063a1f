/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Payloads damaged in memory (G9): -EIO on that block and a counter, never
 * wrong data, and it heals by being overwritten or trimmed.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "libcheck.h"
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

/* Each bit of a payload counts: flip some, one after the other. */
START_TEST (test_damage_is_seen)
{
  static const char *const codecs[] = { "lz4", "zstd", "none" };
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, codecs[_i]);
  uint8_t back[BLOCK_BYTES];
  uint64_t nr_seen = 0;

  init_rng (50 + (uint64_t) _i);
  for (unsigned content = CONTENT_PATTERN64; content < NR_CONTENTS; ++content) {
    uint32_t bytes;
    uint8_t *payload;

    write_block (&disk, 1, (enum content) content);
    payload = store_payload_for_test (disk.store, 1, &bytes);
    ck_assert_ptr_nonnull (payload);
    for (unsigned i = 0; i < 200; ++i) {
      const uint32_t at = i == 0   ? 0
                          : i == 1 ? bytes - 1
                                   : rng_below (&rng, bytes);
      const uint8_t bit = (uint8_t) (1 << rng_below (&rng, 8));
      payload[at] ^= bit;
      ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES, BLOCK_BYTES),
                        -EIO);
      ck_assert_int_eq (store_read (disk.store, back, 1, BLOCK_BYTES + 17),
                        -EIO);
      payload[at] ^= bit;
      nr_seen += 2;
    }
    ck_assert_uint_eq (disk_stats (&disk).checksum_failures, nr_seen);
    disk_verify (&disk, SIZE, 0);
  }
  disk_close (&disk);
}
END_TEST

static void
damage_block (struct disk *disk, uint64_t blkno)
{
  uint32_t bytes;
  uint8_t *payload = store_payload_for_test (disk->store, blkno, &bytes);

  ck_assert_ptr_nonnull (payload);
  payload[rng_below (&rng, bytes)] ^= 0x40;
}

/* Damage stays on its block, a partial write does not hide it, a whole one
 * or a trim heals it.
 */
START_TEST (test_damage_stays_on_its_block)
{
  static const enum content contents[] = {
    CONTENT_TEXT,
    CONTENT_RANDOM,
    CONTENT_PATTERN64,
    CONTENT_SO,
  };
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  uint8_t back[BLOCK_BYTES];

  init_rng (60);
  for (uint64_t i = 0; i < 64; ++i)
    write_block (&disk, i, contents[i % 4]);
  for (uint64_t i = 16; i < 32; ++i)
    damage_block (&disk, i);
  for (uint64_t i = 0; i < 64; ++i) {
    const bool bad = i >= 16 && i < 32;
    ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES,
                                  i * BLOCK_BYTES),
                      bad ? -EIO : 0);
    if (!bad)
      continue;
    /* Parts: refused, the block as it was, the neighbours too. */
    ck_assert_int_eq (store_write (disk.store, "x", 1, i * BLOCK_BYTES + 9),
                      -EIO);
    ck_assert_int_eq (store_zero (disk.store, 100, i * BLOCK_BYTES + 9, true),
                      -EIO);
    ck_assert_int_eq (store_read (disk.store, back, 1, i * BLOCK_BYTES), -EIO);
  }
  disk_verify (&disk, 16 * BLOCK_BYTES, 0);
  disk_verify (&disk, SIZE - 32 * BLOCK_BYTES, 32 * BLOCK_BYTES);
  disk_check (&disk);

  for (uint64_t i = 16; i < 32; ++i)
    switch (i % 3) {
    case 0:
      write_block (&disk, i, CONTENT_TEXT);
      break;
    case 1:
      disk_trim (&disk, BLOCK_BYTES, i * BLOCK_BYTES);
      break;
    default:
      disk_zero (&disk, BLOCK_BYTES, i * BLOCK_BYTES, false);
    }
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/* An edge that cannot be zeroed does not keep the other one from it. */
START_TEST (test_trim_beside_damage)
{
  struct disk disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  uint8_t back[BLOCK_BYTES];

  init_rng (61);
  for (uint64_t i = 0; i < 4; ++i)
    write_block (&disk, i, CONTENT_TEXT);
  damage_block (&disk, 0);
  store_trim (disk.store, 3 * BLOCK_BYTES, 100);
  ck_assert_int_eq (store_read (disk.store, back, 100, 3 * BLOCK_BYTES), 0);
  ck_assert (is_all_zero (back, 100));
  ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES, 2 * BLOCK_BYTES),
                    0);
  ck_assert (is_all_zero (back, BLOCK_BYTES));
  disk_check (&disk);
  disk_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store-damage");
  TCase *tcase = tcase_create ("store-damage");
  SRunner *runner;
  int nr_failed;

  test_start ("test-store-damage");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_damage_is_seen, 0, 3);
  tcase_add_test (tcase, test_damage_stays_on_its_block);
  tcase_add_test (tcase, test_trim_beside_damage);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
