/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Every option: what it takes, what it refuses, and whether the sentence of
 * a refusal names the option and says what would be right.  Besides, sizes
 * as text, which the options are full of.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libcheck.h"
#include "options.h"
#include "pages.h"
#include "size-text.h"
#include "store.h"
#include "test-util.h"

#define GIB (MIB << 10)

static struct options options;
static char error[OPTIONS_ERROR_BYTES];

static void
begin (void)
{
  options_init (&options);
}

static void
end (void)
{
  options_free (&options);
}

static void
set (const char *key, const char *value)
{
  strcpy (error, "");
  ck_assert_msg (options_set (&options, key, value, error, sizeof error) == 0,
                 "%s=%s: %s", key, value, error);
  ck_assert_str_eq (error, "");
}

/* The value is refused, in a sentence that begins with key and value and has
 * `advice` in it; the options are as they were.
 */
static void
refuse (const char *key, const char *value, const char *advice)
{
  const struct options before = options;
  char start[128];

  memset (error, 'x', sizeof error);
  ck_assert_msg (options_set (&options, key, value, error, sizeof error) ==
                   -EINVAL,
                 "%s=%s is taken", key, value);
  ck_assert (memchr (error, '\0', sizeof error) != NULL);
  snprintf (start, sizeof start, "%s=%.60s", key, value);
  ck_assert_msg (strncmp (error, start, strlen (start)) == 0, "%s=%s: %s", key,
                 value, error);
  ck_assert_msg (strstr (error, advice) != NULL, "no \"%s\": %s", advice,
                 error);
  ck_assert_msg (strchr (error, '\n') == NULL, "two lines: %s", error);
  ck_assert_mem_eq (&before, &options, sizeof before);
}

static const struct {
  const char *text;
  uint64_t bytes;
} good_sizes[] = {
  { "1", 1 },
  { "4096", 4096 },
  { "1b", 1 },
  { "3s", 1536 },
  { "1k", KIB },
  { "1K", KIB },
  { "1536M", 1536 * MIB },
  { "1g", GIB },
  { "20G", 20 * GIB },
  { "8T", 8 * TIB },
  { "8796093022208", 8 * TIB },
  { "007", 7 },
};

/* Refused wherever a size is wanted. */
static const struct {
  const char *text;
  const char *advice;
} bad_sizes[] = {
  { "", "as in 1G" },
  { "G", "as in 1G" },
  { "big", "as in 1G" },
  { "/dev/ram0", "as in 1G" },
  { "-1", "negative" },
  { "-1G", "negative" },
  { "1.5G", "whole number" },
  { "1,5G", "whole number" },
  { "1GB", "G alone" },
  { "1GiB", "G alone" },
  { "512mb", "M alone" },
  { "1 G", "no such unit" },
  { "1x", "no such unit" },
  { "0x1000", "no such unit" },
  { "1G ", "G alone" },
  { "8E", "at most" },
  { "9223372036854775808", "at most" },
  { "18446744073709551617", "at most" },
  { "-99999999999999999999", "negative" },
  { "9999999999999999999999999999999G", "at most" },
};

#define COUNT(table) (sizeof table / sizeof table[0])

START_TEST (test_size)
{
  ck_assert_uint_eq (options.size_bytes, 0);
  set ("size", good_sizes[_i].text);
  ck_assert_uint_eq (options.size_bytes, good_sizes[_i].bytes);
}
END_TEST

START_TEST (test_size_refused)
{
  set ("size", "1G");
  refuse ("size", bad_sizes[_i].text, bad_sizes[_i].advice);
}
END_TEST

START_TEST (test_size_out_of_range)
{
  refuse ("size", "0", "as in size=1G");
  refuse ("size", "0G", "as in size=1G");
  refuse ("size", "8796093022209", "8 TiB at most");
  refuse ("size", "9T", "8 TiB at most");
  refuse ("size", "7E", "8 TiB at most");
}
END_TEST

START_TEST (test_last_one_counts)
{
  set ("size", "1G");
  set ("size", "2G");
  ck_assert_uint_eq (options.size_bytes, 2 * GIB);
  set ("control", "/run/first");
  set ("control", "/run/second");
  ck_assert_str_eq (options.control, "/run/second");
  set ("limit", "50%");
  set ("limit", "1G");
  ck_assert_uint_eq (options.limit_percent, 0);
  ck_assert_uint_eq (options.limit_bytes, GIB);
  set ("limit", "50%");
  ck_assert_uint_eq (options.limit_percent, 50);
  ck_assert_uint_eq (options.limit_bytes, 0);
}
END_TEST

START_TEST (test_limit)
{
  ck_assert_uint_eq (options.limit_bytes, 0);
  ck_assert_uint_eq (options.limit_percent, 0);
  set ("limit", good_sizes[_i].text);
  ck_assert_uint_eq (options.limit_bytes, good_sizes[_i].bytes);
  ck_assert_uint_eq (options.limit_percent, 0);
}
END_TEST

START_TEST (test_limit_refused)
{
  refuse ("limit", bad_sizes[_i].text, bad_sizes[_i].advice);
}
END_TEST

START_TEST (test_limit_words)
{
  set ("limit", "none");
  ck_assert_uint_eq (options.limit_bytes, PAGES_NO_LIMIT);
  set ("limit", "1%");
  ck_assert_uint_eq (options.limit_percent, 1);
  set ("limit", "100%");
  ck_assert_uint_eq (options.limit_percent, 100);

  refuse ("limit", "0", "limit=512M");
  refuse ("limit", "None", "not a size");
  refuse ("limit", "0%", "from 1% to 100%");
  refuse ("limit", "101%", "from 1% to 100%");
  refuse ("limit", "-5%", "from 1% to 100%");
  refuse ("limit", "%", "from 1% to 100%");
  refuse ("limit", "50.5%", "from 1% to 100%");
  refuse ("limit", "5%%", "from 1% to 100%");
  refuse ("limit", "18446744073709551666%", "from 1% to 100%");
}
END_TEST

START_TEST (test_compress)
{
  char text[CODEC_SPEC_TEXT_BYTES];

  codec_spec_print (&options.codec, text, sizeof text);
  ck_assert_str_eq (text, "lz4:1");

  set ("compress", "zstd:-3");
  ck_assert_int_eq (options.codec.id, CODEC_ZSTD);
  ck_assert_int_eq (options.codec.level, -3);
  set ("compress", "lz4:8");
  ck_assert_int_eq (options.codec.id, CODEC_LZ4);
  ck_assert_int_eq (options.codec.level, 8);
  set ("compress", "none");
  ck_assert_int_eq (options.codec.id, CODEC_RAW);

  refuse ("compress", "", "lz4");
  refuse ("compress", "gzip", "zstd");
  refuse ("compress", "none:1", "none");
  refuse ("compress", "lz4:", "from");
  refuse ("compress", "lz4:fast", "from");
  refuse ("compress", "zstd:99", "from");
}
END_TEST

START_TEST (test_compact)
{
  ck_assert (!options.compact_manual);
  set ("compact", "manual");
  ck_assert (options.compact_manual);
  set ("compact", "auto");
  ck_assert (!options.compact_manual);

  refuse ("compact", "", "auto or manual");
  refuse ("compact", "Auto", "auto or manual");
  refuse ("compact", "manually", "auto or manual");
  refuse ("compact", "yes", "auto or manual");
  refuse ("compact", "64M", "auto or manual");
}
END_TEST

START_TEST (test_compact_rate)
{
  ck_assert_uint_eq (options.compact_rate, 0);
  set ("compact-rate", good_sizes[_i].text);
  ck_assert_uint_eq (options.compact_rate, good_sizes[_i].bytes);
  set ("compact-rate", "none");
  ck_assert_uint_eq (options.compact_rate, 0);
}
END_TEST

START_TEST (test_compact_rate_refused)
{
  set ("compact-rate", "64M");
  refuse ("compact-rate", bad_sizes[_i].text, bad_sizes[_i].advice);
  refuse ("compact-rate", "0", "compact-rate=none");
  refuse ("compact-rate", "0G", "compact-rate=none");
  refuse ("compact-rate", "None", "not a size");
  refuse ("compact-rate", "10%", "no such unit");
}
END_TEST

/* What a relative path becomes; owned by the caller. */
static char *
from_cwd (const char *name)
{
  char *cwd = getcwd (NULL, 0), *path;

  ck_assert_ptr_nonnull (cwd);
  ck_assert_int_gt (asprintf (&path, "%s/%s", cwd, name), 0);
  free (cwd);
  return path;
}

START_TEST (test_paths_are_absolute)
{
  char *path = from_cwd ("a.sock");

  ck_assert_ptr_null (options.control);
  ck_assert_ptr_null (options.statsfile);
  set ("control", "/run/zmem/a.sock");
  ck_assert_str_eq (options.control, "/run/zmem/a.sock");
  set ("statsfile", "a.sock");
  ck_assert_str_eq (options.statsfile, path);
  free (path);

  ck_assert_int_eq (chdir ("/"), 0);
  set ("statsfile", "z.prom");
  ck_assert_str_eq (options.statsfile, "/z.prom");
  set ("control", "z.sock");
  ck_assert_str_eq (options.control, "/z.sock");
}
END_TEST

START_TEST (test_paths_refused)
{
  refuse ("control", "", "path");
  refuse ("statsfile", "", "path");
  refuse ("statsfile", "/var/lib/", "file in it");
}
END_TEST

START_TEST (test_no_current_directory)
{
  char dir[] = "/tmp/zmem-test.XXXXXX";

  ck_assert_ptr_nonnull (mkdtemp (dir));
  ck_assert_int_eq (chdir (dir), 0);
  ck_assert_int_eq (rmdir (dir), 0);
  refuse ("control", "a.sock", "from the root");
  set ("control", "/a.sock");
}
END_TEST

/* sun_path has 108 bytes, one of them for the end. */
START_TEST (test_control_too_long)
{
  char path[120];

  memset (path, 'a', sizeof path);
  path[0] = '/';
  path[107] = '\0';
  set ("control", path);
  ck_assert_str_eq (options.control, path);

  path[107] = 'a';
  path[108] = '\0';
  refuse ("control", path, "107 bytes");

  /* It is the absolute path that counts. */
  ck_assert_int_eq (chdir ("/tmp"), 0);
  path[0] = 'a';
  path[102] = '\0';
  set ("control", path);
  path[102] = 'a';
  path[103] = '\0';
  refuse ("control", path, "shorter");
}
END_TEST

START_TEST (test_stats_export)
{
  char name[4098];

  ck_assert_ptr_null (options.stats_export);
  set ("stats-export", "stats");
  ck_assert_str_eq (options.stats_export, "stats");
  refuse ("stats-export", "", "stats-export=stats");

  memset (name, 'n', sizeof name);
  name[4096] = '\0';
  set ("stats-export", name);
  ck_assert_str_eq (options.stats_export, name);
  name[4096] = 'n';
  name[4097] = '\0';
  refuse ("stats-export", name, "4096 bytes");
}
END_TEST

START_TEST (test_stats_interval)
{
  ck_assert_uint_eq (options.stats_interval_seconds, 10);
  set ("stats-interval", "1");
  ck_assert_uint_eq (options.stats_interval_seconds, 1);
  set ("stats-interval", "86400");
  ck_assert_uint_eq (options.stats_interval_seconds, 86400);

  refuse ("stats-interval", "", "from 1 to 86400");
  refuse ("stats-interval", "0", "from 1 to 86400");
  refuse ("stats-interval", "-1", "from 1 to 86400");
  refuse ("stats-interval", " 5", "from 1 to 86400");
  refuse ("stats-interval", "5s", "from 1 to 86400");
  refuse ("stats-interval", "1.5", "from 1 to 86400");
  refuse ("stats-interval", "86401", "from 1 to 86400");
  refuse ("stats-interval", "18446744073709551617", "from 1 to 86400");
}
END_TEST

START_TEST (test_mlock)
{
  static const char *const yes[] = { "yes", "y", "on",  "true",
                                     "t",   "1", "YES", "True" };
  static const char *const no[] = {
    "no", "n", "off", "false", "f", "0", "Off"
  };
  unsigned i;

  ck_assert (!options.mlock);
  for (i = 0; i < COUNT (yes); ++i) {
    options.mlock = false;
    set ("mlock", yes[i]);
    ck_assert (options.mlock);
  }
  for (i = 0; i < COUNT (no); ++i) {
    options.mlock = true;
    set ("mlock", no[i]);
    ck_assert (!options.mlock);
  }
  refuse ("mlock", "", "yes or no");
  refuse ("mlock", "maybe", "yes or no");
  refuse ("mlock", "2", "yes or no");
}
END_TEST

START_TEST (test_parallel)
{
  ck_assert_int_eq (options.parallel, PARALLEL_AUTO);
  set ("parallel", "yes");
  ck_assert_int_eq (options.parallel, PARALLEL_YES);
  set ("parallel", "Off");
  ck_assert_int_eq (options.parallel, PARALLEL_NO);
  set ("parallel", "auto");
  ck_assert_int_eq (options.parallel, PARALLEL_AUTO);
  refuse ("parallel", "", "yes, no or auto");
  refuse ("parallel", "AUTO", "yes, no or auto");
  refuse ("parallel", "16", "yes, no or auto");
}
END_TEST

static const struct {
  const char *key;
  const char *meant; /* NULL: nothing like it, all are named */
} unknown_keys[] = {
  { "siz", "size" },
  { "Size", "size" },
  { "compres", "compress" },
  { "compression", "compress" },
  { "compat", "compact" },
  { "compact_rate", "compact-rate" },
  { "limits", "limit" },
  { "stats_export", "stats-export" },
  { "statsexport", "stats-export" },
  { "stats-file", "statsfile" },
  { "stats-intervall", "stats-interval" },
  { "lock", "mlock" },
  { "contol", "control" },
  { "file", NULL },
  { "x", NULL },
  { "", NULL },
  { "allocator", NULL },
  { "a-key-that-is-longer-than-any-of-those-that-there-are", NULL },
};

START_TEST (test_unknown_key)
{
  const char *key = unknown_keys[_i].key, *meant = unknown_keys[_i].meant;
  char text[64];

  ck_assert_int_eq (options_set (&options, key, "1", error, sizeof error),
                    -EINVAL);
  snprintf (text, sizeof text, "%s= is no option", key);
  ck_assert_msg (strncmp (error, text, strlen (text)) == 0, "%s", error);
  if (meant != NULL) {
    snprintf (text, sizeof text, "did you mean %s=?", meant);
    ck_assert_msg (strstr (error, text) != NULL, "%s", error);
  }
  else {
    ck_assert_msg (strstr (error, "did you mean") == NULL, "%s", error);
    ck_assert_msg (strstr (error, " size=, ") != NULL, "%s", error);
    ck_assert_msg (strstr (error, " and parallel=") != NULL, "%s", error);
  }
}
END_TEST

/* What is printed ends where the buffer does. */
START_TEST (test_small_buffer)
{
  char small[24];

  memset (small, 'x', sizeof small);
  ck_assert_int_eq (options_set (&options, "nonsense", "1", small, 16),
                    -EINVAL);
  ck_assert_uint_eq (strlen (small), 15);
  ck_assert_mem_eq (small + 16, "xxxxxxxx", 8);
  ck_assert_int_eq (options_set (&options, "size", "x", small, 16), -EINVAL);
  ck_assert_uint_eq (strlen (small), 15);
  ck_assert_mem_eq (small + 16, "xxxxxxxx", 8);
}
END_TEST

START_TEST (test_check)
{
  ck_assert_int_eq (options_check (&options, error, sizeof error), -EINVAL);
  ck_assert_str_eq (error, "size= is required: nbdkit zmem 1G");

  set ("size", "1");
  ck_assert_int_eq (options_check (&options, error, sizeof error), 0);

  set ("control", "/run/same");
  set ("statsfile", "/run/other");
  ck_assert_int_eq (options_check (&options, error, sizeof error), 0);
  set ("statsfile", "/run/same");
  ck_assert_int_eq (options_check (&options, error, sizeof error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "control="));
  ck_assert_ptr_nonnull (strstr (error, "statsfile="));
}
END_TEST

START_TEST (test_help_names_every_option)
{
  static const char *const keys[] = {
    "size=",           "compress=", "limit=",        "compact=",
    "compact-rate=",   "control=",  "stats-export=", "statsfile=",
    "stats-interval=", "mlock=",    "parallel=",
  };
  unsigned i;

  for (i = 0; i < COUNT (keys); ++i) {
    const char *line = strstr (options_help, keys[i]);

    ck_assert_ptr_nonnull (line);
    ck_assert (line == options_help || line[-1] == '\n');
  }
  /* nbdkit ends it. */
  ck_assert_int_ne (options_help[strlen (options_help) - 1], '\n');
}
END_TEST

static const struct {
  uint64_t bytes;
  const char *text;
} printed_sizes[] = {
  { 0, "0 bytes" },
  { 1, "1 byte" },
  { 1023, "1023 bytes" },
  { 1024, "1 KiB" },
  { 1025, "1.0 KiB" },
  { 1536, "1.5 KiB" },
  { 1023 * KIB, "1023 KiB" },
  { MIB - 1, "1.0 MiB" },
  { MIB, "1 MiB" },
  { 10 * MIB + MIB / 20 - 1, "10.0 MiB" },
  { 10 * MIB + MIB / 20 + 1, "10.1 MiB" },
  { 20078939340, "18.7 GiB" },
  { GIB, "1 GiB" },
  { 8 * TIB, "8 TiB" },
  { TIB << 20, "1 EiB" },
  { UINT64_MAX, "16.0 EiB" },
};

START_TEST (test_size_printed)
{
  char text[SIZE_TEXT_BYTES];

  ck_assert_str_eq (size_text_print (printed_sizes[_i].bytes, text,
                                     sizeof text),
                    printed_sizes[_i].text);
}
END_TEST

START_TEST (test_size_text_largest)
{
  uint64_t bytes = 0;

  ck_assert_int_eq (size_text_parse ("9223372036854775807", &bytes, error,
                                     sizeof error),
                    0);
  ck_assert_uint_eq (bytes, INT64_MAX);
  ck_assert_int_eq (size_text_parse ("7e", &bytes, error, sizeof error), 0);
  ck_assert_uint_eq (bytes, UINT64_C (7) << 60);
  ck_assert_int_eq (size_text_parse ("8191P", &bytes, error, sizeof error), 0);
  ck_assert_uint_eq (bytes, UINT64_C (8191) << 50);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("options");
  TCase *tcase = tcase_create ("options");
  SRunner *runner;
  int nr_failed;

  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, begin, end);
  tcase_add_loop_test (tcase, test_size, 0, COUNT (good_sizes));
  tcase_add_loop_test (tcase, test_size_refused, 0, COUNT (bad_sizes));
  tcase_add_test (tcase, test_size_out_of_range);
  tcase_add_test (tcase, test_last_one_counts);
  tcase_add_loop_test (tcase, test_limit, 0, COUNT (good_sizes));
  tcase_add_loop_test (tcase, test_limit_refused, 0, COUNT (bad_sizes));
  tcase_add_test (tcase, test_limit_words);
  tcase_add_test (tcase, test_compress);
  tcase_add_test (tcase, test_compact);
  tcase_add_loop_test (tcase, test_compact_rate, 0, COUNT (good_sizes));
  tcase_add_loop_test (tcase, test_compact_rate_refused, 0, COUNT (bad_sizes));
  tcase_add_test (tcase, test_paths_are_absolute);
  tcase_add_test (tcase, test_paths_refused);
  tcase_add_test (tcase, test_no_current_directory);
  tcase_add_test (tcase, test_control_too_long);
  tcase_add_test (tcase, test_stats_export);
  tcase_add_test (tcase, test_stats_interval);
  tcase_add_test (tcase, test_mlock);
  tcase_add_test (tcase, test_parallel);
  tcase_add_loop_test (tcase, test_unknown_key, 0, COUNT (unknown_keys));
  tcase_add_test (tcase, test_small_buffer);
  tcase_add_test (tcase, test_check);
  tcase_add_test (tcase, test_help_names_every_option);
  tcase_add_loop_test (tcase, test_size_printed, 0, COUNT (printed_sizes));
  tcase_add_test (tcase, test_size_text_largest);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
