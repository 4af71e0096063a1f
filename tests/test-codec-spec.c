/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * compress=: what is taken, what is refused and in which words; and the
 * table of codecs that both come from.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "libcheck.h"
#include "test-util.h"

/* What was parsed is something that a state can be made of. */
static void
check_state (const struct codec_spec *spec)
{
  const struct codec_ops *ops = codec_table[spec->id];
  size_t bytes = 0;
  void *state;

  if (ops->create_state == NULL)
    return;
  state = ops->create_state (spec->level, &bytes);
  ck_assert_ptr_nonnull (state);
  ck_assert_uint_gt (bytes, 0);
  ops->free_state (state);
}

static const struct {
  const char *text;
  struct codec_spec spec;
  const char *printed;
} good_specs[] = {
  { "lz4", { CODEC_LZ4, 1 }, "lz4:1" },
  { "lz4:1", { CODEC_LZ4, 1 }, "lz4:1" },
  { "lz4:007", { CODEC_LZ4, 7 }, "lz4:7" },
  { "lz4:65537", { CODEC_LZ4, 65537 }, "lz4:65537" },
  { "zstd", { CODEC_ZSTD, 1 }, "zstd:1" },
  { "zstd:0", { CODEC_ZSTD, 0 }, "zstd:0" },
  { "zstd:-3", { CODEC_ZSTD, -3 }, "zstd:-3" },
  { "zstd:-100", { CODEC_ZSTD, -100 }, "zstd:-100" },
  { "zstd:22", { CODEC_ZSTD, 22 }, "zstd:22" },
  { "none", { CODEC_RAW, 0 }, "none" },
};

START_TEST (test_parse_good)
{
  struct codec_spec spec = { NR_CODECS, 12345 };
  char error[256] = "", text[CODEC_SPEC_TEXT_BYTES];

  ck_assert_int_eq (codec_spec_parse (good_specs[_i].text, &spec, error,
                                      sizeof error),
                    0);
  ck_assert_str_eq (error, "");
  ck_assert_int_eq (spec.id, good_specs[_i].spec.id);
  ck_assert_int_eq (spec.level, good_specs[_i].spec.level);
  codec_spec_print (&spec, text, sizeof text);
  ck_assert_str_eq (text, good_specs[_i].printed);
  check_state (&spec);
}
END_TEST

#define UNKNOWN ": unknown codec; use lz4[:ACCEL], zstd[:LEVEL] or none"
#define LZ4_RANGE ": the acceleration goes from 1 to 65537"
#define LZ4_NUMBER ": the acceleration must be a number from 1 to 65537"
#define ZSTD_RANGE ": the level goes from -100 to 22"
#define ZSTD_NUMBER ": the level must be a number from -100 to 22"
#define NONE_LEVEL ": none takes no level; use none alone"

static const struct {
  const char *text, *error;
} bad_specs[] = {
  { "", UNKNOWN },
  { ":", UNKNOWN },
  { ":3", UNKNOWN },
  { "lz5", UNKNOWN },
  { "lz", UNKNOWN },
  { "lz44", UNKNOWN },
  { "LZ4", UNKNOWN },
  { " lz4", UNKNOWN },
  { "lz4 ", UNKNOWN },
  { "raw", UNKNOWN },
  { "repeat", UNKNOWN },
  { "zstd,3", UNKNOWN },
  { "lz4:0", LZ4_RANGE },
  { "lz4:-1", LZ4_RANGE },
  { "lz4:65538", LZ4_RANGE },
  { "lz4:4294967297", LZ4_RANGE },
  { "lz4:99999999999999999999999", LZ4_RANGE },
  { "lz4:", LZ4_NUMBER },
  { "lz4:fast", LZ4_NUMBER },
  { "lz4:1:", LZ4_NUMBER },
  { "lz4:1x", LZ4_NUMBER },
  { "lz4: 1", LZ4_NUMBER },
  { "lz4:1 ", LZ4_NUMBER },
  { "lz4:+1", LZ4_NUMBER },
  { "lz4:0x1", LZ4_NUMBER },
  { "lz4:1.5", LZ4_NUMBER },
  { "zstd:", ZSTD_NUMBER },
  { "zstd:-", ZSTD_NUMBER },
  { "zstd:--3", ZSTD_NUMBER },
  { "zstd:- 3", ZSTD_NUMBER },
  { "zstd:99", ZSTD_RANGE },
  { "zstd:23", ZSTD_RANGE },
  { "zstd:-101", ZSTD_RANGE },
  { "zstd:-99999999999999999999999", ZSTD_RANGE },
  { "none:1", NONE_LEVEL },
  { "none:", NONE_LEVEL },
};

START_TEST (test_parse_bad)
{
  const char *text = bad_specs[_i].text;
  struct codec_spec spec = { CODEC_LZ4, 42 };
  char error[256], expected[256], small[16];

  ck_assert_int_eq (codec_spec_parse (text, &spec, error, sizeof error),
                    -EINVAL);
  strcpy (expected, "compress=");
  strcat (expected, text);
  strcat (expected, bad_specs[_i].error);
  ck_assert_str_eq (error, expected);
  /* What was there stays. */
  ck_assert_int_eq (spec.id, CODEC_LZ4);
  ck_assert_int_eq (spec.level, 42);

  /* A sentence that does not fit is cut, in whatever place. */
  for (size_t bytes = 1; bytes <= 10; bytes++) {
    memset (small, '#', sizeof small);
    codec_spec_parse (text, &spec, small, bytes);
    ck_assert_uint_eq (strlen (small), bytes - 1);
    ck_assert_int_eq (small[bytes], '#');
  }
}
END_TEST

START_TEST (test_parse_long)
{
  struct codec_spec spec;
  char text[10000], error[256];

  memset (text, 'z', sizeof text);
  text[sizeof text - 1] = '\0';
  ck_assert_int_eq (codec_spec_parse (text, &spec, error, sizeof error),
                    -EINVAL);
  /* The end, which says what to do, is there all the same. */
  ck_assert_ptr_nonnull (strstr (error, UNKNOWN));
}
END_TEST

START_TEST (test_table)
{
  for (unsigned id = 0; id < MAX_CODECS; id++) {
    const struct codec_ops *ops = codec_table[id];

    ck_assert_int_eq (ops != NULL, id < NR_CODECS);
    if (ops == NULL)
      continue;
    ck_assert_ptr_nonnull (ops->decode);
    ck_assert_int_eq (ops->encode == NULL, id == CODEC_RAW);
    ck_assert_int_eq (ops->create_state == NULL, ops->free_state == NULL);
    ck_assert (!ops->decode_needs_state || ops->create_state);
    ck_assert_int_eq (ops->level_name == NULL, ops->level_word == NULL);
    ck_assert_int_le (ops->level_min, ops->level_default);
    ck_assert_int_le (ops->level_default, ops->level_max);
    /* What report_unknown counts on. */
    ck_assert (!ops->chosen || id == CODEC_RAW || ops->level_name);
  }
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("codec-spec");
  TCase *tcase = tcase_create ("codec-spec");
  SRunner *runner;
  int nr_failed;

  test_start ("test-codec-spec");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_parse_good, 0,
                       sizeof good_specs / sizeof good_specs[0]);
  tcase_add_loop_test (tcase, test_parse_bad, 0,
                       sizeof bad_specs / sizeof bad_specs[0]);
  tcase_add_test (tcase, test_parse_long);
  tcase_add_test (tcase, test_table);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
