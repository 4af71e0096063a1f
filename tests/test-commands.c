/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands, on a real disk without a server: what each answers, what each
 * refuses, and that no line whatever makes it answer with something that a
 * terminal or the protocol could stumble over.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands-fixture.h"
#include "format-check.h"
#include "libcheck.h"
#include "pages.h"
#include "test-util.h"

START_TEST (test_stats)
{
  unsigned nr;

  answers ("stats", "hole_blocks 4096\n");
  answers ("stats json", "\"hole_blocks\": 4096,");
  ck_assert_ptr_null (json_fault (body));
  answers ("stats prometheus", "zmem_hole_blocks 4096\n");
  ck_assert_ptr_null (prometheus_fault (body, &nr));
  refuses ("stats xml", "\"json\", \"prometheus\" or nothing, not \"xml\"");
  refuses ("stats json please", "not \"json please\"");
}
END_TEST

START_TEST (test_classes)
{
  answers ("classes", " fullness group0 group1 group2 group3 group4 group5"
                      " group6 group7 full\n");
  answers ("classes json", "\"classes\"");
  ck_assert_ptr_null (json_fault (body));
  refuses ("classes prometheus", "\"json\" or nothing");
}
END_TEST

START_TEST (test_limit)
{
  answers ("limit", "limit_bytes 67108864\n");
  answers ("limit 32M", "limit_bytes 33554432\n");
  ck_assert_uint_eq (get_stats ().limit_bytes, 32 * MIB);
  ck_assert_ptr_null (strstr (body, "note"));
  answers ("limit none", "limit_bytes none\n");
  ck_assert_uint_eq (get_stats ().limit_bytes, PAGES_NO_LIMIT);
  refuses ("limit lots", "limit \"lots\": ");
  refuses ("limit 1.5G", "whole number");
  refuses ("limit -1", "negative");
  refuses ("limit 1G 2G", "limit \"1G 2G\": ");
  refuses ("limit 4K", "too little, for an empty disk of this size takes up"
                       " to ");
  ck_assert_uint_eq (get_stats ().limit_bytes, PAGES_NO_LIMIT);
}
END_TEST

/* A limit below what is held is taken, and said to be one. */
START_TEST (test_limit_below_held)
{
  static uint8_t block[TEST_BLOCK_BYTES];
  char line[64], expected[64];
  uint64_t full, low;
  struct rng rng;
  unsigned i;

  rng_init (&rng, test_seed (), 1);
  for (i = 0; i < 2048; ++i) {
    make_block (&rng, CONTENT_RANDOM, block);
    ck_assert_int_eq (store_write (store, block, sizeof block,
                                   i * sizeof block),
                      0);
  }
  full = get_stats ().held_bytes;
  low = full - 4 * MIB;
  snprintf (line, sizeof line, "limit %" PRIu64, low);
  snprintf (expected, sizeof expected, "limit_bytes %" PRIu64 "\n", low);
  answers (line, expected);
  answers ("limit", "growth is refused until held_bytes has fallen below");

  make_block (&rng, CONTENT_RANDOM, block);
  ck_assert_int_eq (store_write (store, block, sizeof block, 12 * MIB),
                    -ENOSPC);
  ck_assert_int_eq (store_trim (store, 8 * MIB, 0), 0);
  answers ("limit", expected);
  ck_assert_ptr_null (strstr (body, "note"));
  ck_assert_int_eq (store_write (store, block, sizeof block, 12 * MIB), 0);
}
END_TEST

START_TEST (test_compress)
{
  answers ("compress", "compress lz4:1\n");
  ck_assert_ptr_null (strstr (body, "note"));
  answers ("compress zstd:-3", "compress zstd:-3\n");
  ck_assert_ptr_nonnull (strstr (body, "note"));
  ck_assert_int_eq (store_codec (store).id, CODEC_ZSTD);
  answers ("compress none", "compress none\n");
  refuses ("compress bzip2", "bzip2");
  refuses ("compress lz4:fast", "number");
  refuses ("compress lz4 4", "lz4 4");
  refuses ("compress \033[31m", "no such codec");
  answers ("compress", "compress none\n");
}
END_TEST

/* The codec's contexts count as held: they may not pass the limit. */
START_TEST (test_compress_beyond_limit)
{
  const struct store_params params = {
    .size_bytes = 16 * MIB,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .nr_contexts = 2,
  };
  char line[64];

  snprintf (line, sizeof line, "limit %" PRIu64, store_min_bytes (&params));
  answers (line, "limit_bytes");
  refuses ("compress zstd:19", "the limit leaves no room");
  /* What takes no more than there is goes through. */
  answers ("compress lz4:8", "compress lz4:8\n");
  answers ("compress none", "compress none\n");
  answers ("limit none", "none");
  answers ("compress zstd:19", "compress zstd:19\n");
}
END_TEST

/* The least limit that a refusal names is one that is taken, whatever the
 * codec was at the start.
 */
START_TEST (test_least_limit)
{
  static const char *const changes[] = {
    "compress none",
    "compress zstd",
    "compress lz4",
  };

  for (unsigned i = 0; i < sizeof changes / sizeof changes[0]; i++) {
    unsigned long least;
    char line[64];

    answers (changes[i], changes[i]);
    refuses ("limit 4K", "takes up to ");
    least = strtoul (strstr (error, "up to ") + 6, NULL, 10);
    snprintf (line, sizeof line, "limit %lu", least - 1);
    refuses (line, "too little");
    snprintf (line, sizeof line, "limit %lu", least);
    answers (line, "limit_bytes");
    answers ("limit none", "none");
  }
}
END_TEST

/* Each command that help lists is one. */
START_TEST (test_help)
{
  char *list, *rest, *line, name[16];
  unsigned nr = 0;

  answers ("help", "help ");
  list = rest = strdup (body);
  while ((line = strsep (&rest, "\n")) != NULL && *line != '\0') {
    ck_assert_int_eq (sscanf (line, "%15s", name), 1);
    ck_assert_msg (run_command (name) == 0, "%s: %s", name, error);
    ++nr;
  }
  ck_assert_uint_eq (nr, 8);
  free (list);
  refuses ("help me", "takes nothing");
}
END_TEST

START_TEST (test_words_and_blanks)
{
  char line[COMMAND_MAX_BYTES + 2];

  answers ("  limit \t 32M  ", "limit_bytes 33554432\n");
  ck_assert_int_eq (run_command (""), 0);
  ck_assert_uint_eq (body_bytes, 0);
  ck_assert_int_eq (run_command (" \t "), 0);
  ck_assert_uint_eq (body_bytes, 0);
  refuses ("STATS", "there is no command \"STATS\"");
  refuses ("stat", "\"help\" lists");
  refuses ("statsjson", "statsjson");

  memset (line, ' ', sizeof line);
  memcpy (line, "help", 4);
  line[COMMAND_MAX_BYTES] = '\0';
  answers (line, "help ");
  line[COMMAND_MAX_BYTES] = ' ';
  line[COMMAND_MAX_BYTES + 1] = '\0';
  refuses (line, "1024 bytes at most");
}
END_TEST

/* One line of printable ASCII, not empty. */
static bool
is_sentence (const char *text)
{
  const char *c;

  for (c = text; *c != '\0'; ++c)
    if (*c < ' ' || *c > '~')
      return false;
  return c != text;
}

static bool
is_lines (const char *text)
{
  const char *c;

  for (c = text; *c != '\0'; ++c)
    if ((*c < ' ' || *c > '~') && *c != '\n')
      return false;
  return c == text || c[-1] == '\n';
}

/* Any bytes, and words of the language in any order with any bytes. */
START_TEST (test_any_line)
{
  static const char *const words[] = {
    "stats",    "json", "prometheus", "classes",
    "limit",    "none", "1G",         "99999999999999999999",
    "compress", "lz4",  "zstd:",      "lz4:-1",
    "compact",  "wait", "class",      "100",
    "status",   "map",  "help",       " ",
    "\t",       "\r",   "%s%n",       "\033]0;x\007",
    "\x80\xff", "\"",   "\\",
  };
  const unsigned nr = test_quick () ? 2000 : 20000;
  char line[COMMAND_MAX_BYTES + 64];
  struct rng rng;
  unsigned i;

  rng_init (&rng, test_seed (), 2);
  for (i = 0; i < nr; ++i) {
    const size_t length = (size_t) rng_size (&rng, COMMAND_MAX_BYTES + 8);
    size_t used = 0;
    int r;

    while (used < length)
      if (rng_once_in (&rng, 4))
        line[used++] = (char) rng_between (&rng, 1, 255);
      else
        used =
          (size_t) (stpcpy (
                      line + used,
                      words[rng_below (&rng, sizeof words / sizeof words[0])]) -
                    line);
    line[used] = '\0';
    r = run_command (line);
    ck_assert_int_ne (r, -EAGAIN);
    if (r < 0)
      ck_assert_msg (body_bytes == 0 && is_sentence (error), "%d: %s", r,
                     error);
    else
      ck_assert_msg (is_lines (body) && *error == '\0', "%s", body);
  }
}
END_TEST

/* A sentence that does not fit is cut, not written past its end. */
START_TEST (test_small_buffer)
{
  char small[8 + 1];
  FILE *out = fopen ("/dev/null", "w");

  ck_assert_ptr_nonnull (out);
  memset (small, 'x', sizeof small);
  ck_assert_int_lt (command_run (store, "nonsense", &command_wait, out, small,
                                 8),
                    0);
  ck_assert_uint_eq (strlen (small), 7);
  ck_assert_int_eq (small[8], 'x');
  fclose (out);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("commands");
  TCase *tcase = tcase_create ("commands");
  SRunner *runner;
  int nr_failed;

  test_start ("commands");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, begin_commands, end_commands);
  tcase_add_test (tcase, test_stats);
  tcase_add_test (tcase, test_classes);
  tcase_add_test (tcase, test_limit);
  tcase_add_test (tcase, test_limit_below_held);
  tcase_add_test (tcase, test_compress);
  tcase_add_test (tcase, test_compress_beyond_limit);
  tcase_add_test (tcase, test_least_limit);
  tcase_add_test (tcase, test_help);
  tcase_add_test (tcase, test_words_and_blanks);
  tcase_add_test (tcase, test_any_line);
  tcase_add_test (tcase, test_small_buffer);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
