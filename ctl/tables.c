/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Tables for people.
 *
 * Kinds of blocks, requests and errors are not listed here: they are whatever
 * the server has names for that end in _blocks, _requests and _errors.
 */

#include <config.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"
#include "text.h"
#include "values.h"

/* If `name` is STEM followed by `suffix`, the stem with blanks in place of
 * underlines; else NULL.  Good until the next call.
 */
#define STEM_BYTES 32

static const char *
name_stem (const char *name, const char *suffix)
{
  static char stem[STEM_BYTES];
  const size_t bytes = strlen (name), suffix_bytes = strlen (suffix);
  size_t i;

  if (bytes <= suffix_bytes
      || strcmp (name + bytes - suffix_bytes, suffix) != 0)
    return NULL;
  for (i = 0; i < bytes - suffix_bytes && i < STEM_BYTES - 1; ++i)
    stem[i] = name[i] == '_' ? ' ' : name[i];
  stem[i] = '\0';
  return stem;
}

static void
print_size_line (const struct values *values, const char *label,
                 const char *name, const char *remark, FILE *out)
{
  char text[TEXT_BYTES];
  uint64_t bytes;

  if (values_text (values, name) == NULL)
    return;
  fprintf (out, "%-12s %12s", label,
           values_number (values, name, &bytes) ? text_size (bytes, text)
           : values_text (values, name));
  fprintf (out, "%s%s\n", *remark == '\0' ? "" : "   ", remark);
}

/* "of limit 12.5 GiB (2.4 %), highest 320.1 MiB" */
static const char *
describe_held (const struct values *values, char *remark,
               size_t remark_bytes)
{
  const uint64_t held = values_get (values, "held_bytes");
  char limit_text[TEXT_BYTES], percent[TEXT_BYTES], highest[TEXT_BYTES];
  uint64_t limit;

  text_size (values_get (values, "held_highest_bytes"), highest);
  if (values_number (values, "limit_bytes", &limit))
    snprintf (remark, remark_bytes, "%s of limit %s, highest %s",
              text_percent (held, limit, percent),
              text_size (limit, limit_text), highest);
  else
    snprintf (remark, remark_bytes, "no limit, highest %s", highest);
  return remark;
}

static void
print_memory (const struct values *values, FILE *out)
{
  char remark[4 * TEXT_BYTES], text[TEXT_BYTES];
  const char *codec = values_text (values, "compress");

  print_size_line (values, "size", "size_bytes", "", out);
  print_size_line (values, "logical", "logical_bytes",
                   "live blocks, uncompressed", out);
  print_size_line (values, "payload", "payload_bytes", "compressed", out);
  print_size_line (values, "held", "held_bytes",
                   describe_held (values, remark, sizeof remark), out);
  print_size_line (values, "  metadata", "metadata_bytes", "", out);
  fprintf (out, "%-12s %12s   logical over held\n", "ratio",
           text_ratio (values_get (values, "ratio_thousandths"), text));
  if (codec != NULL)
    fprintf (out, "%-12s %12s   for new blocks\n", "compress", codec);
  fprintf (out, "%-12s %12s\n", "clients",
           text_count (values_get (values, "connections"), text));
  fprintf (out, "%-12s %12s\n", "up",
           text_uptime (values_get (values, "uptime_seconds"), text));
}

/* Each kind that is not the sum of others. */
static bool
is_block_kind (const char *name)
{
  return strcmp (name, "live_blocks") != 0
    && name_stem (name, "_blocks") != NULL;
}

static void
print_blocks (const struct values *values, FILE *out)
{
  char count[TEXT_BYTES], percent[TEXT_BYTES];
  uint64_t total = 0;
  size_t i;

  for (i = 0; i < values->nr; ++i)
    if (is_block_kind (values->list[i].name))
      total += values_get (values, values->list[i].name);

  fprintf (out, "\n%-14s %16s\n", "blocks", text_count (total, count));
  for (i = 0; i < values->nr; ++i) {
    const char *name = values->list[i].name;
    uint64_t nr;

    if (!is_block_kind (name))
      continue;
    nr = values_get (values, name);
    fprintf (out, "  %-12s %16s %9s\n", name_stem (name, "_blocks"),
             text_count (nr, count), text_percent (nr, total, percent));
  }
}

/* A percentile of the requests that are called `stem`, or "". */
static const char *
get_latency (const struct values *values, const char *stem,
             const char *percentile, char text[TEXT_BYTES])
{
  char name[2 * STEM_BYTES];
  const char *us;

  snprintf (name, sizeof name, "%s_latency_%s_us", stem, percentile);
  us = values_text (values, name);
  return us == NULL ? "" : text_time_us (strtod (us, NULL), text);
}

static void
print_request (const struct values *values, const char *stem, uint64_t nr,
               FILE *out)
{
  char count[TEXT_BYTES], size[TEXT_BYTES], name[2 * STEM_BYTES];
  char p50[TEXT_BYTES], p99[TEXT_BYTES], p999[TEXT_BYTES];
  const bool latency = nr > 0;
  uint64_t bytes;

  snprintf (name, sizeof name, "%s_bytes", stem);
  fprintf (out, "  %-12s %16s %11s", stem, text_count (nr, count),
           values_number (values, name, &bytes) ? text_size (bytes, size)
           : "");
  if (latency)
    fprintf (out, " %9s %9s %9s", get_latency (values, stem, "p50", p50),
             get_latency (values, stem, "p99", p99),
             get_latency (values, stem, "p99.9", p999));
  putc ('\n', out);
}

static void
print_requests (const struct values *values, FILE *out)
{
  size_t i;

  fprintf (out, "\n%-14s %16s %11s %9s %9s %9s\n", "requests", "count",
           "bytes", "p50 <=", "p99 <=", "p99.9 <=");
  for (i = 0; i < values->nr; ++i) {
    const char *stem = name_stem (values->list[i].name, "_requests");
    if (stem != NULL)
      print_request (values, stem, values_get (values, values->list[i].name),
                     out);
  }
}

static void
print_errors (const struct values *values, FILE *out)
{
  char count[TEXT_BYTES];
  bool none = true;
  size_t i;

  fputs ("\nerrors", out);
  for (i = 0; i < values->nr; ++i) {
    const char *name = values->list[i].name;
    const char *stem = name_stem (name, "_errors");
    uint64_t nr;

    if (stem == NULL && strcmp (name, "checksum_failures") == 0)
      stem = "checksum";
    if (stem == NULL)
      continue;
    nr = values_get (values, name);
    if (nr == 0)
      continue;
    fprintf (out, "%s %s %s", none ? "       " : ",", stem,
             text_count (nr, count));
    none = false;
  }
  fputs (none ? "        none\n" : "\n", out);
}

void
table_print_stats (const struct values *values, FILE *out)
{
  print_memory (values, out);
  print_blocks (values, out);
  print_requests (values, out);
  print_errors (values, out);
}

/* The size classes. */

struct row {                    /* a class, or the sum of a range of them */
  uint64_t object_bytes;        /* the largest */
  uint64_t objects, inuse, zspages, resident_bytes, wasted_bytes;
};

/* The columns of an answer, by the names in its first line. */
static const struct {
  const char *name;
  size_t offset;
} columns[] = {
  { "object_bytes", offsetof (struct row, object_bytes) },
  { "objects", offsetof (struct row, objects) },
  { "inuse", offsetof (struct row, inuse) },
  { "zspages", offsetof (struct row, zspages) },
  { "resident_bytes", offsetof (struct row, resident_bytes) },
  { "wasted_bytes", offsetof (struct row, wasted_bytes) },
};
#define NR_COLUMNS (sizeof columns / sizeof columns[0])

/* Which field of an answer's lines is each column. */
static bool
find_columns (char *head, unsigned fields[NR_COLUMNS])
{
  unsigned nr_found = 0, field, i;
  char *name;

  for (field = 0; (name = strsep (&head, " ")) != NULL; ++field)
    for (i = 0; i < NR_COLUMNS; ++i)
      if (strcmp (name, columns[i].name) == 0) {
        fields[i] = field;
        ++nr_found;
      }
  return nr_found == NR_COLUMNS;
}

static bool
parse_row (char *line, const unsigned fields[NR_COLUMNS], struct row *row)
{
  unsigned nr_found = 0, field, i;
  char *text;

  for (field = 0; (text = strsep (&line, " ")) != NULL; ++field)
    for (i = 0; i < NR_COLUMNS; ++i)
      if (fields[i] == field) {
        uint64_t number;
        if (!value_is_number (text, &number))
          return false;
        memcpy ((char *) row + columns[i].offset, &number, sizeof number);
        ++nr_found;
      }
  return nr_found == NR_COLUMNS;
}

/* More rows than any server has classes. */
#define MAX_ROWS 1024

static bool
parse_rows (char *body, struct row rows[MAX_ROWS], unsigned *nr)
{
  unsigned fields[NR_COLUMNS];
  char *line;

  *nr = 0;
  line = strsep (&body, "\n");
  if (line == NULL || !find_columns (line, fields))
    return false;
  while ((line = strsep (&body, "\n")) != NULL) {
    if (*line == '\0')
      continue;
    if (*nr == MAX_ROWS || !parse_row (line, fields, &rows[*nr]))
      return false;
    ++*nr;
  }
  return true;
}

static void
add_row (struct row *to, const struct row *row)
{
  to->objects += row->objects;
  to->inuse += row->inuse;
  to->zspages += row->zspages;
  to->resident_bytes += row->resident_bytes;
  to->wasted_bytes += row->wasted_bytes;
}

/* Ranges of this many bytes, (0, 256] and so on; each of them is shown, so
 * that the shape is seen, from the first to the last that has something.
 */
#define RANGE_BYTES 256
#define MAX_RANGES 64

static unsigned
merge_rows (const struct row *rows, unsigned nr,
            struct row ranges[MAX_RANGES])
{
  unsigned nr_ranges = 0, i;

  memset (ranges, 0, MAX_RANGES * sizeof ranges[0]);
  for (i = 0; i < nr; ++i) {
    uint64_t range = rows[i].object_bytes == 0 ? 0
      : (rows[i].object_bytes - 1) / RANGE_BYTES;
    if (range >= MAX_RANGES)
      range = MAX_RANGES - 1;
    add_row (&ranges[range], &rows[i]);
    if (range >= nr_ranges)
      nr_ranges = (unsigned) range + 1;
  }
  for (i = 0; i < nr_ranges; ++i)
    ranges[i].object_bytes = (i + 1) * (uint64_t) RANGE_BYTES;
  return nr_ranges;
}

static void
print_times (const char *piece, uint64_t nr, FILE *out)
{
  while (nr-- > 0)
    fputs (piece, out);
}

/* Objects in use, then what is resident around them. */
static void
print_bar (const struct row *row, uint64_t max_bytes, unsigned bar_width,
           bool utf8, FILE *out)
{
  const double scale = max_bytes == 0 ? 0
    : (double) bar_width / (double) max_bytes;
  const double used_bytes = (double) row->resident_bytes
    - (double) row->wasted_bytes;
  const uint64_t all = (uint64_t) ((double) row->resident_bytes * scale
                                   + 0.5);
  uint64_t used = (uint64_t) (used_bytes * scale + 0.5);

  if (used > all)
    used = all;
  print_times (utf8 ? "\u2588" : "#", used, out);
  print_times (utf8 ? "\u2591" : ".", all - used, out);
}

#define NUMBERS_WIDTH 57        /* what print_row writes before its bar */

static void
print_row (const char *label, const struct row *row, FILE *out)
{
  char inuse[TEXT_BYTES], resident[TEXT_BYTES], used[TEXT_BYTES];
  char zspages[TEXT_BYTES];

  fprintf (out, "%-10s %14s %9s %10s %8s", label,
           text_count (row->inuse, inuse), text_count (row->zspages, zspages),
           text_size (row->resident_bytes, resident),
           text_percent (row->resident_bytes - row->wasted_bytes,
                         row->resident_bytes, used));
}

static void
print_histogram (const struct row *rows, unsigned nr, bool ranges,
                 const struct bar_style *style, FILE *out)
{
  const unsigned bar_width = style->width > NUMBERS_WIDTH + 8
    ? style->width - NUMBERS_WIDTH - 1 : 8;
  struct row total = { .object_bytes = 0 };
  uint64_t max_bytes = 0;
  char label[2 * TEXT_BYTES];
  unsigned i;

  for (i = 0; i < nr; ++i) {
    add_row (&total, &rows[i]);
    if (rows[i].resident_bytes > max_bytes)
      max_bytes = rows[i].resident_bytes;
  }

  fprintf (out, "%-10s %14s %9s %10s %8s\n", ranges ? "bytes" : "class",
           "objects", "zspages", "resident", "used");
  for (i = 0; i < nr; ++i) {
    if (ranges)
      snprintf (label, sizeof label, "%" PRIu64 "-%" PRIu64,
                rows[i].object_bytes - RANGE_BYTES + 1,
                rows[i].object_bytes);
    else
      snprintf (label, sizeof label, "%" PRIu64, rows[i].object_bytes);
    print_row (label, &rows[i], out);
    if (rows[i].resident_bytes > 0) {
      fputs ("   ", out);
      print_bar (&rows[i], max_bytes, bar_width, style->utf8, out);
    }
    putc ('\n', out);
  }
  print_row ("all", &total, out);
  putc ('\n', out);
}

bool
table_print_classes (char *body, bool each_class,
                     const struct bar_style *style, FILE *out)
{
  static struct row rows[MAX_ROWS];
  struct row ranges[MAX_RANGES];
  unsigned nr;

  if (!parse_rows (body, rows, &nr))
    return false;
  if (nr == 0)
    fputs ("no objects are stored\n", out);
  else if (each_class)
    print_histogram (rows, nr, false, style, out);
  else
    print_histogram (ranges, merge_rows (rows, nr, ranges), true, style,
                     out);
  return true;
}
