/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Entries: what is put in comes out, at the ends of every field and at
 * random, and no field spills into another.
 */

#include <config.h>

#include <stdlib.h>

#include "entry.h"
#include "libcheck.h"
#include "test-util.h"

#define MAX_LOC (((zs_loc) 1 << ZS_LOC_BITS) - 1)
#define MAX_PAYLOAD ((UINT32_C (1) << ENTRY_SIZE_BITS) - 1)
#define MAX_RAW_CHECKSUM ((UINT32_C (1) << RAW_CHECKSUM_BITS) - 1)
#define LOC_PER_PAGE ((zs_loc) 1 << (BLOCK_SHIFT - ZS_LOC_SHIFT))
#define NR_TRIES 20000

/* What the fields that no maker sets begin with. */
static unsigned
entry_age_encoded (entry_t entry)
{
  return ENTRY_BITS (entry, ENTRY_AGE_SHIFT, ENTRY_AGE_BITS);
}

START_TEST (test_hole_is_zero)
{
  ck_assert_uint_eq (entry_hole (), 0);
  ck_assert_uint_eq (entry_kind (0), ENTRY_HOLE);
}
END_TEST

static void
check_same (uint32_t pattern)
{
  const entry_t entry = entry_same (pattern);

  ck_assert_uint_eq (entry_kind (entry), ENTRY_SAME);
  ck_assert_uint_eq (entry_pattern (entry), pattern);
  ck_assert_uint_ne (entry, entry_hole ());
}

START_TEST (test_same)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 1);
  check_same (0);
  check_same (1);
  check_same (UINT32_MAX);
  for (unsigned i = 0; i < 32; ++i)
    check_same (UINT32_C (1) << i);
  for (unsigned i = 0; i < NR_TRIES; ++i)
    check_same ((uint32_t) rng_u64 (&rng));
}
END_TEST

static void
check_encoded (zs_loc loc, enum codec_id codec, uint32_t bytes)
{
  const entry_t entry = entry_object_encoded (loc, codec, bytes);

  ck_assert_uint_eq (entry_kind (entry), ENTRY_OBJECT);
  ck_assert_uint_eq (entry_codec (entry), codec);
  ck_assert_uint_eq (entry_loc (entry), loc);
  ck_assert_uint_eq (entry_payload_bytes (entry), bytes);
  ck_assert_uint_eq (entry_age_encoded (entry), 0);
  ck_assert_uint_eq (entry >> ENTRY_SETTLING_SHIFT, 0);
}

static const zs_loc odd_locs[] = { 0, 1, 255, 256, 257, MAX_LOC - 1, MAX_LOC };
static const uint32_t odd_sizes[] = { 1, 16, 2048, MAX_PAYLOAD - 1,
                                      MAX_PAYLOAD };
#define NR_ODD_LOCS (sizeof odd_locs / sizeof odd_locs[0])
#define NR_ODD_SIZES (sizeof odd_sizes / sizeof odd_sizes[0])

START_TEST (test_encoded)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 2);
  for (unsigned codec = 1; codec < MAX_CODECS; ++codec) {
    for (size_t i = 0; i < NR_ODD_LOCS; ++i)
      for (size_t j = 0; j < NR_ODD_SIZES; ++j)
        check_encoded (odd_locs[i], (enum codec_id) codec, odd_sizes[j]);
    for (unsigned i = 0; i < ZS_LOC_BITS; ++i)
      check_encoded ((zs_loc) 1 << i, (enum codec_id) codec, 1);
    for (unsigned i = 0; i < NR_TRIES; ++i)
      check_encoded (rng_u64 (&rng) & MAX_LOC, (enum codec_id) codec,
                     (uint32_t) rng_u64 (&rng) & MAX_PAYLOAD);
  }
}
END_TEST

static void
check_raw (zs_loc loc, uint32_t checksum)
{
  const entry_t entry = entry_object_raw (loc, checksum);

  ck_assert_uint_eq (entry_kind (entry), ENTRY_OBJECT);
  ck_assert_uint_eq (entry_codec (entry), CODEC_RAW);
  ck_assert_uint_eq (entry_loc (entry), loc);
  ck_assert_uint_eq (entry_payload_bytes (entry), BLOCK_BYTES);
  ck_assert_uint_eq (entry_raw_checksum (entry), checksum);
  ck_assert_uint_eq (ENTRY_BITS (entry, ENTRY_RAW_AGE_SHIFT, ENTRY_AGE_BITS),
                     0);
}

START_TEST (test_raw)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 3);
  for (unsigned i = 0; i < ENTRY_PAGE_BITS; ++i) {
    check_raw (((zs_loc) 1 << i) * LOC_PER_PAGE, 0);
    check_raw (((zs_loc) 1 << i) * LOC_PER_PAGE, MAX_RAW_CHECKSUM);
  }
  check_raw (0, 0);
  check_raw (0, MAX_RAW_CHECKSUM);
  check_raw (MAX_LOC & ~(LOC_PER_PAGE - 1), MAX_RAW_CHECKSUM);
  for (unsigned i = 0; i < NR_TRIES; ++i)
    check_raw (rng_u64 (&rng) & MAX_LOC & ~(LOC_PER_PAGE - 1),
               (uint32_t) rng_u64 (&rng) & MAX_RAW_CHECKSUM);
}
END_TEST

/* Moving an object changes its location and nothing else: not even the
 * bits that no maker sets (age, settling, incompressible).
 */
START_TEST (test_with_loc)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 4);
  for (unsigned i = 0; i < NR_TRIES; ++i) {
    const zs_loc from = rng_u64 (&rng) & MAX_LOC, to = rng_u64 (&rng) & MAX_LOC;
    const uint32_t bytes = (uint32_t) rng_u64 (&rng) & MAX_PAYLOAD;
    const unsigned codec = rng_between (&rng, 1, MAX_CODECS - 1);
    const entry_t more = rng_u64 (&rng) << ENTRY_AGE_SHIFT;

    ck_assert_uint_eq (
      entry_with_loc (
        entry_object_encoded (from, (enum codec_id) codec, bytes) | more, to),
      entry_object_encoded (to, (enum codec_id) codec, bytes) | more);
  }
  for (unsigned i = 0; i < NR_TRIES; ++i) {
    const zs_loc from = rng_u64 (&rng) & MAX_LOC & ~(LOC_PER_PAGE - 1);
    const zs_loc to = rng_u64 (&rng) & MAX_LOC & ~(LOC_PER_PAGE - 1);
    const uint32_t checksum = (uint32_t) rng_u64 (&rng) & MAX_RAW_CHECKSUM;
    const entry_t age = rng_below (&rng, 1 << ENTRY_AGE_BITS)
                        << ENTRY_RAW_AGE_SHIFT;

    ck_assert_uint_eq (entry_with_loc (entry_object_raw (from, checksum) | age,
                                       to),
                       entry_object_raw (to, checksum) | age);
  }
}
END_TEST

/* The arithmetic that the design rests on. */
START_TEST (test_widths)
{
  ck_assert_uint_eq (ENTRY_PAGE_BITS, 31);
  ck_assert_uint_eq (BLKNO_BITS, 31);
  ck_assert_uint_eq (ARENA_MAX_BYTES, MAX_BLOCKS * BLOCK_BYTES);
  /* A payload that gets a class of its own can be said in 12 bits. */
  ck_assert_uint_le (size_class_largest_compressed (), MAX_PAYLOAD);
  ck_assert_uint_lt (NR_CODECS - 1, MAX_CODECS);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("entry");
  TCase *tcase = tcase_create ("entry");
  SRunner *runner;
  int nr_failed;

  test_start ("test-entry");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_hole_is_zero);
  tcase_add_test (tcase, test_same);
  tcase_add_test (tcase, test_encoded);
  tcase_add_test (tcase, test_raw);
  tcase_add_test (tcase, test_with_loc);
  tcase_add_test (tcase, test_widths);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
