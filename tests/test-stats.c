/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Statistics: the table, the histograms' arithmetic against a plain one, and
 * the three outputs, each read back by a strict reader of its format.
 */

#include <config.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format-check.h"
#include "libcheck.h"
#include "pages.h"
#include "requests.h"
#include "stats-output.h"
#include "stats.h"
#include "store.h"
#include "test-util.h"

/*----- the table -----*/

START_TEST (test_table_is_sound)
{
  static const char *const units[] = {
    "bytes",   "blocks",       "requests", "events",
    "seconds", "microseconds", "ratio",    "1",
  };
  unsigned i, j;

  ck_assert_uint_eq (nr_stats * sizeof (uint64_t), sizeof (struct stats));
  for (i = 0; i < nr_stats; ++i) {
    const struct stat_desc *desc = &stats_table[i];
    const size_t help_bytes = strlen (desc->help);
    bool known = false;

    ck_assert (islower (desc->name[0]));
    ck_assert_uint_eq (strspn (desc->name, "abcdefghijklmnopqrstuvwxyz_"
                                           "0123456789"),
                       strlen (desc->name));
    ck_assert_msg (strstr (desc->name, "_total") == NULL,
                   "%s: Prometheus counters get _total", desc->name);
    ck_assert_msg (help_bytes > 0 && strpbrk (desc->help, "\n\\\"") == NULL &&
                     desc->help[help_bytes - 1] != '.',
                   "%s: help", desc->name);
    for (j = 0; j < sizeof units / sizeof units[0]; ++j)
      known |= strcmp (desc->unit, units[j]) == 0;
    ck_assert_msg (known, "%s: unit %s", desc->name, desc->unit);
    for (j = 0; j < i; ++j) {
      ck_assert_str_ne (desc->name, stats_table[j].name);
      ck_assert_uint_ne (desc->offset, stats_table[j].offset);
    }
  }
}
END_TEST

START_TEST (test_value_is_of_its_field)
{
  struct stats stats;
  unsigned i;

  memset (&stats, 0, sizeof stats);
  stats.held_bytes = 7;
  stats.uptime_seconds = 9;
  for (i = 0; i < nr_stats; ++i) {
    const char *name = stats_table[i].name;
    const uint64_t expected = strcmp (name, "held_bytes") == 0       ? 7
                              : strcmp (name, "uptime_seconds") == 0 ? 9
                                                                     : 0;
    ck_assert_uint_eq (stats_value (&stats, &stats_table[i]), expected);
  }
}
END_TEST

/*----- histograms -----*/

START_TEST (test_bounds)
{
  static const uint64_t first[] = { 500, 750, 1000, 1500, 2000, 3000, 4000 };
  unsigned i;

  for (i = 0; i < sizeof first / sizeof first[0]; ++i)
    ck_assert_uint_eq (histogram_bound_ns (i), first[i]);
  for (i = 1; i < HISTOGRAM_BUCKETS - 1; ++i)
    ck_assert_uint_eq (histogram_bound_ns (i) * (i & 1 ? 2 : 3),
                       histogram_bound_ns (i - 1) * (i & 1 ? 3 : 4));
  ck_assert_uint_eq (histogram_bound_ns (HISTOGRAM_BUCKETS - 1), UINT64_MAX);
}
END_TEST

/* The first bucket whose bound is not below it. */
static unsigned
plain_bucket (uint64_t ns)
{
  unsigned i = 0;

  while (histogram_bound_ns (i) < ns)
    ++i;
  return i;
}

START_TEST (test_bucket_agrees_with_bounds)
{
  struct rng rng;
  uint64_t ns;
  unsigned i;

  for (ns = 0; ns < 100 * 1000; ++ns)
    ck_assert_uint_eq (histogram_bucket (ns), plain_bucket (ns));
  for (i = 0; i < HISTOGRAM_BUCKETS - 1; ++i) {
    ck_assert_uint_eq (histogram_bucket (histogram_bound_ns (i)), i);
    ck_assert_uint_eq (histogram_bucket (histogram_bound_ns (i) + 1), i + 1);
  }
  ck_assert_uint_eq (histogram_bucket (UINT64_MAX), HISTOGRAM_BUCKETS - 1);

  rng_init (&rng, test_seed (), 1);
  for (i = 0; i < 100 * 1000; ++i) {
    ns = rng_size (&rng, UINT64_MAX);
    ck_assert_uint_eq (histogram_bucket (ns), plain_bucket (ns));
  }
}
END_TEST

static int
compare_u64 (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* Against the times themselves, sorted: the bound of the bucket of the time
 * that has that rank.
 */
START_TEST (test_percentile)
{
  static const unsigned asked[] = { 0, 1, 500, 900, 990, 999, 1000 };
  static uint64_t times[5000];
  struct rng rng;
  unsigned round, i;

  rng_init (&rng, test_seed (), 2);
  for (round = 0; round < 200; ++round) {
    const size_t nr = (size_t) rng_between (&rng, 1, 5000);
    struct histogram histogram = { .sum_ns = 0 };

    for (i = 0; i < nr; ++i) {
      times[i] = rng_size (&rng, UINT64_C (1) << 32);
      ++histogram.count[histogram_bucket (times[i])];
    }
    qsort (times, nr, sizeof times[0], compare_u64);
    for (i = 0; i < sizeof asked / sizeof asked[0]; ++i) {
      size_t rank = (nr * asked[i] + 999) / 1000;
      if (rank == 0)
        rank = 1;
      ck_assert_uint_eq (histogram_percentile_ns (&histogram, asked[i]),
                         histogram_bound_ns (
                           histogram_bucket (times[rank - 1])));
    }
  }
}
END_TEST

START_TEST (test_percentile_at_the_ends)
{
  struct histogram histogram = { .sum_ns = 0 };

  ck_assert_uint_eq (histogram_percentile_ns (&histogram, 500), 0);
  histogram.count[HISTOGRAM_BUCKETS - 1] = 1;
  ck_assert_uint_eq (histogram_percentile_ns (&histogram, 500), UINT64_MAX);
  /* Where total * 1000 does not fit in 64 bits. */
  histogram.count[3] = UINT64_C (1) << 62;
  ck_assert_uint_eq (histogram_percentile_ns (&histogram, 999),
                     histogram_bound_ns (3));
}
END_TEST

/*----- the readers -----*/

static void
json_check (const char *text)
{
  const char *fault = json_fault (text);

  ck_assert_msg (fault == NULL, "no JSON: ...%.60s", fault);
}

/* Returns the number of metrics. */
static unsigned
prometheus_check (const char *text)
{
  unsigned nr;
  const char *fault = prometheus_fault (text, &nr);

  ck_assert_msg (fault == NULL, "%s", fault);
  return nr;
}

START_TEST (test_json_fault)
{
  static const char *const bad[] = {
    "",    "{",  "{}x",    "{\"a\" 1}", "{\"a\": }", "{\"a\": 1,}", "[1 2]",
    "01",  "1.", "\"\n\"", "{a: 1}",    "inf",       "{\"a\": 1}}", "[1,]",
    "nul",
  };
  unsigned i;

  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    ck_assert_msg (json_fault (bad[i]) != NULL, "taken for JSON: %s", bad[i]);
  json_check ("{\"a\": [1, 2.5, null, \"x\", {}], \"b\": {\"c\": 0}}\n");
}
END_TEST

#define HEAD(name, type) "# HELP " name " help\n# TYPE " name " " type "\n"

START_TEST (test_prometheus_fault)
{
  static const char *const bad[] = {
    "",
    "a 1\n",
    "# TYPE a gauge\na 1\n",
    "# HELP a help\na 1\n",
    HEAD ("a", "gauge") "a 1",
    HEAD ("a", "gauge") "b 1\n",
    HEAD ("a", "gauge") "a x\n",
    HEAD ("a", "gauge") "\na 1\n",
    HEAD ("a", "counter") "a 1\n",
    HEAD ("1a", "gauge") "1a 1\n",
    HEAD ("h", "histogram") "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\n",
    HEAD ("h", "histogram") "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\n",
    HEAD ("h", "histogram") "h_bucket{le=\"1\"} 1\nh_count 1\n",
    HEAD ("h", "histogram") "h_bucket{le=\"+Inf\"} 1\nh_count 2\n",
  };
  unsigned i, nr;

  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    ck_assert_msg (prometheus_fault (bad[i], &nr) != NULL,
                   "taken for Prometheus' format: %s", bad[i]);
  ck_assert_uint_eq (prometheus_check (
                       HEAD ("a_total", "counter") "a_total 1\n" HEAD (
                         "h", "histogram") "h_bucket{le=\"0.5\"} 1\n"
                                           "h_bucket{le=\"+Inf\"} 1\n"
                                           "h_sum 0.25\nh_count 1\n"),
                     2);
}
END_TEST

/*----- outputs -----*/

/* A report with another number everywhere. */
static struct stats_report report;

static void
fill_report (void)
{
  uint64_t *values = (uint64_t *) &report.stats;
  unsigned i;

  memset (&report, 0, sizeof report);
  for (i = 0; i < nr_stats; ++i)
    values[i] = 1000 + i;
  report.codec.id = CODEC_ZSTD;
  report.codec.level = -3;
  for (i = 0; i < HISTOGRAM_BUCKETS; ++i)
    report.read_latency.count[i] = i * i;
  report.read_latency.sum_ns = UINT64_C (12345678901);
  report.write_latency.count[1] = 3;
  report.write_latency.sum_ns = 2100;
  report.nr_classes = 3;
  report.classes[1] = (struct pool_class_stats) {
    .object_bytes = 48,
    .objects_per_zspage = 5461,
    .nr_inuse = 5500,
    .nr_zspages = 2,
    .resident_bytes = 270336,
    .by_fullness = { [0] = 1, [8] = 1 },
  };
}

static char *
print (enum stats_format format, bool classes)
{
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream (&text, &bytes);

  ck_assert_ptr_nonnull (out);
  if (classes)
    stats_classes_print (&report, format, out);
  else
    stats_report_print (&report, format, out);
  ck_assert_int_eq (fclose (out), 0);
  ck_assert_uint_eq (strlen (text), bytes);
  return text;
}

static void
has (const char *text, const char *piece)
{
  ck_assert_msg (strstr (text, piece) != NULL, "no \"%s\" in:\n%s", piece,
                 text);
}

START_TEST (test_text)
{
  char *text, *rest, *line, expected[128];
  unsigned i;

  fill_report ();
  text = rest = print (STATS_TEXT, false);
  for (i = 0; i < nr_stats; ++i) {
    line = strsep (&rest, "\n");
    snprintf (expected, sizeof expected, "%s %u", stats_table[i].name,
              1000 + i);
    ck_assert_str_eq (line, expected);
  }
  ck_assert_str_eq (strsep (&rest, "\n"), "compress zstd:-3");
  ck_assert_str_eq (rest + strlen (rest) - 7, "0.75:3\n");
  has (rest, "read_latency_p99.9_us inf\nread_latency_buckets_us 0.75:1 1:4"
             " 1.5:9 2:16 ");
  has (rest, " inf:1521\nwrite_latency_p50_us 0.75\nwrite_latency_p99_us"
             " 0.75\n");
  free (text);
}
END_TEST

START_TEST (test_json)
{
  char *text, expected[128];
  unsigned i;

  fill_report ();
  text = print (STATS_JSON, false);
  json_check (text);
  for (i = 0; i < nr_stats; ++i) {
    snprintf (expected, sizeof expected, "\n  \"%s\": %u,", stats_table[i].name,
              1000 + i);
    has (text, expected);
  }
  has (text, "\"compress\": \"zstd:-3\"");
  has (text, "\"sum_ns\": 12345678901,");
  has (text, "{\"le_us\": 0.75, \"count\": 3}");
  has (text, "{\"le_us\": null, \"count\": 1521}");
  free (text);
}
END_TEST

START_TEST (test_prometheus)
{
  char *text, expected[128];
  unsigned i;

  fill_report ();
  text = print (STATS_PROMETHEUS, false);
  /* Each statistic, the codec, two histograms. */
  ck_assert_uint_eq (prometheus_check (text), nr_stats + 3);
  for (i = 0; i < nr_stats; ++i) {
    snprintf (expected, sizeof expected, "\nzmem_%s%s %u\n",
              stats_table[i].name,
              stats_table[i].type == STAT_COUNTER ? "_total" : "", 1000 + i);
    has (text, expected);
  }
  has (text, "\nzmem_compress_info{compress=\"zstd:-3\"} 1\n");
  has (text, "\nzmem_read_latency_seconds_bucket{le=\"0.0000005\"} 0\n");
  has (text, "\nzmem_read_latency_seconds_sum 12.345678901\n");
  has (text, "\nzmem_write_latency_seconds_sum 0.0000021\n");
  has (text, "\nzmem_write_latency_seconds_bucket{le=\"+Inf\"} 3\n");
  has (text, "\nzmem_write_latency_seconds_count 3\n");
  free (text);
}
END_TEST

START_TEST (test_no_limit)
{
  static const char *const expected[] = {
    [STATS_TEXT] = "\nlimit_bytes none\n",
    [STATS_JSON] = "\"limit_bytes\": null,",
    [STATS_PROMETHEUS] = "\nzmem_limit_bytes +Inf\n",
  };
  char *text;

  fill_report ();
  report.stats.limit_bytes = PAGES_NO_LIMIT;
  report.stats.hole_blocks = PAGES_NO_LIMIT; /* a number like any */
  text = print ((enum stats_format) _i, false);
  has (text, expected[_i]);
  has (text, "18446744073709551615");
  if (_i == STATS_JSON)
    json_check (text);
  if (_i == STATS_PROMETHEUS)
    prometheus_check (text);
  free (text);
}
END_TEST

START_TEST (test_classes)
{
  char *text;

  fill_report ();
  text = print (STATS_TEXT, true);
  ck_assert_str_eq (text, "class object_bytes objects inuse zspages"
                          " resident_bytes wasted_bytes fullness group0 group1"
                          " group2 group3 group4 group5 group6 group7 full\n"
                          "1 48 10922 5500 2 270336 6336 1,0,0,0,0,0,0,0,1"
                          " 1 0 0 0 0 0 0 0 1\n");
  free (text);

  text = print (STATS_JSON, true);
  json_check (text);
  has (text, "\"object_bytes\": 48,");
  has (text, "\"wasted_bytes\": 6336,");
  has (text, "\"fullness\": [1,0,0,0,0,0,0,0,1], \"group0\": 1,"
             " \"group1\": 0, \"group2\": 0, \"group3\": 0, \"group4\": 0,"
             " \"group5\": 0, \"group6\": 0, \"group7\": 0, \"full\": 1}");
  free (text);

  report.nr_classes = 0;
  text = print (STATS_JSON, true);
  json_check (text);
  free (text);
}
END_TEST

/*----- a real disk -----*/

static struct store *
open_store (void)
{
  const struct store_params params = {
    .size_bytes = 16 * MIB,
    .limit_bytes = 64 * MIB,
    .codec = { CODEC_LZ4, 1 },
    .nr_contexts = 2,
  };
  struct store *store;

  ck_assert_int_eq (store_create (&params, &store), 0);
  ck_assert_int_eq (store_start (store), 0);
  return store;
}

START_TEST (test_report_of_a_disk)
{
  static uint8_t block[TEST_BLOCK_BYTES];
  struct store *store = open_store ();
  uint64_t inuse = 0;
  struct rng rng;
  char *classes;
  unsigned i;

  rng_init (&rng, test_seed (), 3);
  for (i = 0; i < 20; ++i) {
    make_block (&rng, i < 5 ? CONTENT_RANDOM : CONTENT_TEXT, block);
    ck_assert_int_eq (requests_write (store, block, sizeof block,
                                      i * sizeof block),
                      0);
  }
  ck_assert_int_eq (requests_read (store, block, sizeof block, 0), 0);

  stats_report_collect (store, &report);
  ck_assert_uint_eq (report.stats.raw_blocks, 5);
  ck_assert_uint_eq (report.stats.live_blocks, 20);
  ck_assert_uint_eq (report.stats.read_requests, 1);
  ck_assert_uint_eq (report.stats.write_bytes, 20 * sizeof block);
  ck_assert_uint_eq (report.stats.limit_bytes, 64 * MIB);
  ck_assert_uint_ge (report.stats.held_bytes, 5 * sizeof block);
  ck_assert_int_eq (report.codec.id, CODEC_LZ4);
  for (i = 0; i < report.nr_classes; ++i)
    inuse += report.classes[i].nr_inuse;
  ck_assert_uint_ge (inuse, 20);
  classes = print (STATS_JSON, true);
  json_check (classes);
  free (classes);
  store_destroy (store);
}
END_TEST

START_TEST (test_string)
{
  struct store *store = open_store ();
  const enum stats_format format = (enum stats_format) _i;
  size_t bytes;
  char *text = stats_report_string (store, format, &bytes);

  ck_assert_ptr_nonnull (text);
  ck_assert_uint_eq (strlen (text), bytes);
  if (format == STATS_TEXT)
    has (text, "\nhole_blocks 4096\n");
  if (format == STATS_JSON)
    json_check (text);
  if (format == STATS_PROMETHEUS)
    prometheus_check (text);
  free (text);
  store_destroy (store);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("stats");
  TCase *tcase = tcase_create ("stats");
  SRunner *runner;
  int nr_failed;

  test_start ("stats");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_table_is_sound);
  tcase_add_test (tcase, test_value_is_of_its_field);
  tcase_add_test (tcase, test_bounds);
  tcase_add_test (tcase, test_bucket_agrees_with_bounds);
  tcase_add_test (tcase, test_percentile);
  tcase_add_test (tcase, test_percentile_at_the_ends);
  tcase_add_test (tcase, test_json_fault);
  tcase_add_test (tcase, test_prometheus_fault);
  tcase_add_test (tcase, test_text);
  tcase_add_test (tcase, test_json);
  tcase_add_test (tcase, test_prometheus);
  tcase_add_loop_test (tcase, test_no_limit, STATS_TEXT, STATS_PROMETHEUS + 1);
  tcase_add_test (tcase, test_classes);
  tcase_add_test (tcase, test_report_of_a_disk);
  tcase_add_loop_test (tcase, test_string, STATS_TEXT, STATS_PROMETHEUS + 1);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
