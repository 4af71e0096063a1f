/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The three formats of one report.
 *
 * Every number is printed from integers: no floating point and no locale
 * can put a comma, or a rounded digit, where a program reads a number.
 * UINT64_MAX, which is "no limit" or "longer than the last bound", is "none"
 * or "inf" in text, null in JSON, +Inf for Prometheus.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "pool.h"
#include "requests.h"
#include "stats-output.h"
#include "stats.h"
#include "store.h"

/* The percentiles that text and JSON report. */
static const struct {
  unsigned thousandths;
  const char *text_name, *json_name;
} percentiles[] = {
  { 500, "p50", "p50_us" },
  { 990, "p99", "p99_us" },
  { 999, "p99.9", "p99_9_us" },
};
#define NR_PERCENTILES (sizeof percentiles / sizeof percentiles[0])

void
stats_report_collect (struct store *store, struct stats_report *report)
{
  struct pool *pool = store_pool (store);
  unsigned i;

  memset (report, 0, sizeof *report);
  store_stats (store, &report->stats);
  requests_stats (&report->stats, &report->read_latency,
                  &report->write_latency);
  report->codec = store_codec (store);

  report->nr_classes = pool_nr_classes (pool);
  assert (report->nr_classes <= MAX_SIZE_CLASSES);
  for (i = 0; i < report->nr_classes; ++i)
    pool_class_stats (pool, i, &report->classes[i]);
}

/* value / 10^digits, exactly, without zeros at the end. */
static void
print_scaled (FILE *out, uint64_t value, unsigned digits)
{
  uint64_t scale = 1, fraction;
  unsigned i;

  for (i = 0; i < digits; ++i)
    scale *= 10;
  fprintf (out, "%" PRIu64, value / scale);

  fraction = value % scale;
  if (fraction == 0)
    return;
  while (fraction % 10 == 0) {
    fraction /= 10;
    --digits;
  }
  fprintf (out, ".%0*" PRIu64, (int) digits, fraction);
}

/* Nanoseconds as microseconds; `infinity` is what UINT64_MAX looks like. */
static void
print_us (FILE *out, uint64_t ns, const char *infinity)
{
  if (ns == UINT64_MAX)
    fputs (infinity, out);
  else
    print_scaled (out, ns, 3);
}

/* A statistic's number; `no_limit` is what PAGES_NO_LIMIT looks like, which
 * of all statistics the limit alone can be.
 */
static void
print_stat (FILE *out, const struct stats_report *report,
            const struct stat_desc *desc, const char *no_limit)
{
  const uint64_t value = stats_value (&report->stats, desc);

  if (desc->offset == offsetof (struct stats, limit_bytes) &&
      value == PAGES_NO_LIMIT)
    fputs (no_limit, out);
  else
    fprintf (out, "%" PRIu64, value);
}

/* Text. */

/* The buckets that are not empty on one line, as BOUND:COUNT. */
static void
text_print_latency (FILE *out, const char *name,
                    const struct histogram *histogram)
{
  unsigned i;

  for (i = 0; i < NR_PERCENTILES; ++i) {
    fprintf (out, "%s_latency_%s_us ", name, percentiles[i].text_name);
    print_us (out,
              histogram_percentile_ns (histogram, percentiles[i].thousandths),
              "inf");
    putc ('\n', out);
  }

  fprintf (out, "%s_latency_buckets_us", name);
  for (i = 0; i < HISTOGRAM_BUCKETS; ++i) {
    if (histogram->count[i] == 0)
      continue;
    putc (' ', out);
    print_us (out, histogram_bound_ns (i), "inf");
    fprintf (out, ":%" PRIu64, histogram->count[i]);
  }
  putc ('\n', out);
}

static void
text_print (const struct stats_report *report, FILE *out)
{
  char codec[CODEC_SPEC_TEXT_BYTES];
  unsigned i;

  for (i = 0; i < nr_stats; ++i) {
    fprintf (out, "%s ", stats_table[i].name);
    print_stat (out, report, &stats_table[i], "none");
    putc ('\n', out);
  }

  codec_spec_print (&report->codec, codec, sizeof codec);
  fprintf (out, "compress %s\n", codec);
  text_print_latency (out, "read", &report->read_latency);
  text_print_latency (out, "write", &report->write_latency);
}

/* JSON.  Names and codecs are plain ASCII words: nothing needs escaping. */

static void
json_print_latency (FILE *out, const char *name,
                    const struct histogram *histogram)
{
  unsigned i;

  fprintf (out, "  \"%s_latency\": {\n", name);
  fprintf (out, "    \"count\": %" PRIu64 ",\n", histogram_total (histogram));
  fprintf (out, "    \"sum_ns\": %" PRIu64 ",\n", histogram->sum_ns);
  for (i = 0; i < NR_PERCENTILES; ++i) {
    fprintf (out, "    \"%s\": ", percentiles[i].json_name);
    print_us (out,
              histogram_percentile_ns (histogram, percentiles[i].thousandths),
              "null");
    fputs (",\n", out);
  }

  fputs ("    \"buckets\": [", out);
  for (i = 0; i < HISTOGRAM_BUCKETS; ++i) {
    fputs (i == 0 ? "\n      {\"le_us\": " : ",\n      {\"le_us\": ", out);
    print_us (out, histogram_bound_ns (i), "null");
    fprintf (out, ", \"count\": %" PRIu64 "}", histogram->count[i]);
  }
  fputs ("\n    ]\n  }", out);
}

static void
json_print (const struct stats_report *report, FILE *out)
{
  char codec[CODEC_SPEC_TEXT_BYTES];
  unsigned i;

  fputs ("{\n", out);
  for (i = 0; i < nr_stats; ++i) {
    fprintf (out, "  \"%s\": ", stats_table[i].name);
    print_stat (out, report, &stats_table[i], "null");
    fputs (",\n", out);
  }
  codec_spec_print (&report->codec, codec, sizeof codec);
  fprintf (out, "  \"compress\": \"%s\",\n", codec);
  json_print_latency (out, "read", &report->read_latency);
  fputs (",\n", out);
  json_print_latency (out, "write", &report->write_latency);
  fputs ("\n}\n", out);
}

/* Prometheus: text exposition format 0.0.4. */

static void
prometheus_print_help (FILE *out, const char *name, const char *suffix,
                       const char *type, const char *help)
{
  fprintf (out, "# HELP zmem_%s%s ", name, suffix);
  for (; *help; ++help) {
    if (*help == '\\')
      putc ('\\', out);
    putc (*help, out);
  }
  fprintf (out, "\n# TYPE zmem_%s%s %s\n", name, suffix, type);
}

static void
prometheus_print_stat (FILE *out, const struct stats_report *report,
                       const struct stat_desc *desc)
{
  const bool counter = desc->type == STAT_COUNTER;
  const char *suffix = counter ? "_total" : "";

  prometheus_print_help (out, desc->name, suffix, counter ? "counter" : "gauge",
                         desc->help);
  fprintf (out, "zmem_%s%s ", desc->name, suffix);
  print_stat (out, report, desc, "+Inf");
  putc ('\n', out);
}

/* Buckets are cumulative here; the sum is of seconds. */
static void
prometheus_print_latency (FILE *out, const char *name, const char *help,
                          const struct histogram *histogram)
{
  uint64_t cumulative = 0;
  unsigned i;

  prometheus_print_help (out, name, "", "histogram", help);
  for (i = 0; i < HISTOGRAM_BUCKETS; ++i) {
    cumulative += histogram->count[i];
    fprintf (out, "zmem_%s_bucket{le=\"", name);
    if (i == HISTOGRAM_BUCKETS - 1)
      fputs ("+Inf", out);
    else
      print_scaled (out, histogram_bound_ns (i), 9);
    fprintf (out, "\"} %" PRIu64 "\n", cumulative);
  }
  fprintf (out, "zmem_%s_sum ", name);
  print_scaled (out, histogram->sum_ns, 9);
  fprintf (out, "\nzmem_%s_count %" PRIu64 "\n", name, cumulative);
}

static void
prometheus_print (const struct stats_report *report, FILE *out)
{
  char codec[CODEC_SPEC_TEXT_BYTES];
  unsigned i;

  for (i = 0; i < nr_stats; ++i)
    prometheus_print_stat (out, report, &stats_table[i]);

  codec_spec_print (&report->codec, codec, sizeof codec);
  prometheus_print_help (out, "compress_info", "", "gauge",
                         "the codec that new blocks are compressed with");
  fprintf (out, "zmem_compress_info{compress=\"%s\"} 1\n", codec);

  prometheus_print_latency (out, "read_latency_seconds", "time that reads took",
                            &report->read_latency);
  prometheus_print_latency (out, "write_latency_seconds",
                            "time that writes took", &report->write_latency);
}

void
stats_report_print (const struct stats_report *report, enum stats_format format,
                    FILE *out)
{
  switch (format) {
  case STATS_TEXT:
    text_print (report, out);
    break;
  case STATS_JSON:
    json_print (report, out);
    break;
  case STATS_PROMETHEUS:
    prometheus_print (report, out);
    break;
  }
}

/* Size classes. */

/* Resident bytes that no object occupies. */
static uint64_t
class_wasted_bytes (const struct pool_class_stats *class)
{
  const uint64_t used = class->nr_inuse * class->object_bytes;

  return class->resident_bytes > used ? class->resident_bytes - used : 0;
}

/* The names of the fullness groups: of those that are up to an eighth full,
 * up to two eighths, and so on.
 */
static const char *const group_names[NR_FULLNESS_GROUPS] = {
  "group0", "group1", "group2", "group3", "group4",
  "group5", "group6", "group7", "full",
};

static void
print_fullness (FILE *out, const struct pool_class_stats *class)
{
  unsigned i;

  for (i = 0; i < NR_FULLNESS_GROUPS; ++i)
    fprintf (out, "%s%" PRIu64, i == 0 ? "" : ",", class->by_fullness[i]);
}

static void
text_print_class (FILE *out, unsigned idx, const struct pool_class_stats *class)
{
  unsigned i;

  fprintf (out,
           "%u %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
           " %" PRIu64 " ",
           idx, class->object_bytes,
           class->nr_zspages * class->objects_per_zspage, class->nr_inuse,
           class->nr_zspages, class->resident_bytes,
           class_wasted_bytes (class));
  print_fullness (out, class);
  for (i = 0; i < NR_FULLNESS_GROUPS; ++i)
    fprintf (out, " %" PRIu64, class->by_fullness[i]);
  putc ('\n', out);
}

static void
json_print_class (FILE *out, unsigned idx, const struct pool_class_stats *class)
{
  unsigned i;

  fprintf (out,
           "    {\"class\": %u, \"object_bytes\": %" PRIu32
           ", \"objects_per_zspage\": %" PRIu32 ", \"objects\": %" PRIu64
           ", \"inuse\": %" PRIu64 ", \"zspages\": %" PRIu64
           ", \"resident_bytes\": %" PRIu64 ", \"wasted_bytes\": %" PRIu64
           ", \"fullness\": [",
           idx, class->object_bytes, class->objects_per_zspage,
           class->nr_zspages * class->objects_per_zspage, class->nr_inuse,
           class->nr_zspages, class->resident_bytes,
           class_wasted_bytes (class));
  print_fullness (out, class);
  putc (']', out);
  for (i = 0; i < NR_FULLNESS_GROUPS; ++i)
    fprintf (out, ", \"%s\": %" PRIu64, group_names[i], class->by_fullness[i]);
  putc ('}', out);
}

void
stats_classes_print (const struct stats_report *report,
                     enum stats_format format, FILE *out)
{
  const bool json = format == STATS_JSON;
  bool first = true;
  unsigned i;

  assert (format != STATS_PROMETHEUS);

  if (json)
    fputs ("{\n  \"classes\": [", out);
  else {
    fputs ("class object_bytes objects inuse zspages resident_bytes"
           " wasted_bytes fullness",
           out);
    for (i = 0; i < NR_FULLNESS_GROUPS; ++i)
      fprintf (out, " %s", group_names[i]);
    putc ('\n', out);
  }
  for (i = 0; i < report->nr_classes; ++i) {
    if (report->classes[i].nr_zspages == 0)
      continue;
    if (json) {
      fputs (first ? "\n" : ",\n", out);
      json_print_class (out, i, &report->classes[i]);
    }
    else
      text_print_class (out, i, &report->classes[i]);
    first = false;
  }
  if (json)
    fputs (first ? "]\n}\n" : "\n  ]\n}\n", out);
}

char *
stats_report_string (struct store *store, enum stats_format format,
                     size_t *length)
{
  struct stats_report *report = malloc (sizeof *report);
  char *string = NULL;
  FILE *out;
  bool failed;

  if (report == NULL)
    return NULL;
  stats_report_collect (store, report);

  out = open_memstream (&string, length);
  if (out == NULL) {
    free (report);
    return NULL;
  }
  stats_report_print (report, format, out);
  free (report);

  failed = ferror (out);
  /* No memory to close it with: a string of NULL, and no error (glibc). */
  if (fclose (out) == EOF || failed || string == NULL) {
    free (string);
    errno = ENOMEM;
    return NULL;
  }
  return string;
}
