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

#include "bar.h"
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

  if (bytes <= suffix_bytes ||
      strcmp (name + bytes - suffix_bytes, suffix) != 0)
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
describe_held (const struct values *values, char *remark, size_t remark_bytes)
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
  return strcmp (name, "live_blocks") != 0 &&
         name_stem (name, "_blocks") != NULL;
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
           values_number (values, name, &bytes) ? text_size (bytes, size) : "");
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

  fprintf (out, "\n%-14s %16s %11s %9s %9s %9s\n", "requests", "count", "bytes",
           "p50 <=", "p99 <=", "p99.9 <=");
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
    if (stem == NULL && strcmp (name, "verify_failures") == 0)
      stem = "verify";
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

#define NR_GROUPS 9 /* the last: full */

struct row {             /* a class, or the sum of a range of them */
  uint64_t object_bytes; /* the largest */
  uint64_t objects, inuse, zspages, resident_bytes, wasted_bytes;
  uint64_t groups[NR_GROUPS]; /* zspages by fullness */
};

/* The columns of an answer, by the names in its first line.  Those of the
 * groups come last: an older server has none of them.
 */
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
  { "group0", offsetof (struct row, groups[0]) },
  { "group1", offsetof (struct row, groups[1]) },
  { "group2", offsetof (struct row, groups[2]) },
  { "group3", offsetof (struct row, groups[3]) },
  { "group4", offsetof (struct row, groups[4]) },
  { "group5", offsetof (struct row, groups[5]) },
  { "group6", offsetof (struct row, groups[6]) },
  { "group7", offsetof (struct row, groups[7]) },
  { "full", offsetof (struct row, groups[8]) },
};
#define NR_COLUMNS (sizeof columns / sizeof columns[0])
#define NR_COLUMNS_NEEDED (NR_COLUMNS - NR_GROUPS)

/* Which column is each field of an answer's lines. */
#define MAX_FIELDS 64

struct fields {
  unsigned nr;
  int columns[MAX_FIELDS]; /* -1: one that is not known */
  bool groups;             /* they are there */
};

static int
find_column (const char *name)
{
  unsigned i;

  for (i = 0; i < NR_COLUMNS; ++i)
    if (strcmp (name, columns[i].name) == 0)
      return (int) i;
  return -1;
}

static bool
find_fields (char *head, struct fields *fields)
{
  bool seen[NR_COLUMNS] = { false };
  char *name;
  unsigned i;

  for (fields->nr = 0; (name = strsep (&head, " ")) != NULL; ++fields->nr) {
    if (fields->nr == MAX_FIELDS)
      return false;
    fields->columns[fields->nr] = find_column (name);
    if (fields->columns[fields->nr] != -1)
      seen[fields->columns[fields->nr]] = true;
  }
  for (i = 0; i < NR_COLUMNS_NEEDED; ++i)
    if (!seen[i])
      return false;
  fields->groups = true;
  for (; i < NR_COLUMNS; ++i)
    if (!seen[i])
      fields->groups = false;
  return true;
}

static bool
parse_row (char *line, const struct fields *fields, struct row *row)
{
  unsigned field;
  char *text;

  memset (row, 0, sizeof *row);
  for (field = 0; (text = strsep (&line, " ")) != NULL; ++field) {
    uint64_t number;

    if (field == fields->nr)
      return false;
    if (fields->columns[field] == -1)
      continue;
    if (!value_is_number (text, &number))
      return false;
    memcpy ((char *) row + columns[fields->columns[field]].offset, &number,
            sizeof number);
  }
  return field == fields->nr;
}

/* More rows than any server has classes. */
#define MAX_ROWS 1024

static bool
parse_rows (char *body, struct row rows[MAX_ROWS], unsigned *nr, bool *groups)
{
  struct fields fields;
  char *line;

  *nr = 0;
  line = strsep (&body, "\n");
  if (line == NULL || !find_fields (line, &fields))
    return false;
  *groups = fields.groups;
  while ((line = strsep (&body, "\n")) != NULL) {
    if (*line == '\0')
      continue;
    if (*nr == MAX_ROWS || !parse_row (line, &fields, &rows[*nr]))
      return false;
    ++*nr;
  }
  return true;
}

static void
add_row (struct row *to, const struct row *row)
{
  unsigned i;

  to->objects += row->objects;
  to->inuse += row->inuse;
  to->zspages += row->zspages;
  to->resident_bytes += row->resident_bytes;
  to->wasted_bytes += row->wasted_bytes;
  for (i = 0; i < NR_GROUPS; ++i)
    to->groups[i] += row->groups[i];
}

/* Ranges of this many bytes, (0, 256] and so on; each of them is shown, so
 * that the shape is seen, from the first to the last that has something.
 */
#define RANGE_BYTES 256
#define MAX_RANGES 64

static unsigned
merge_rows (const struct row *rows, unsigned nr, struct row ranges[MAX_RANGES])
{
  unsigned nr_ranges = 0, i;

  memset (ranges, 0, MAX_RANGES * sizeof ranges[0]);
  for (i = 0; i < nr; ++i) {
    uint64_t range =
      rows[i].object_bytes == 0 ? 0 : (rows[i].object_bytes - 1) / RANGE_BYTES;
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

/* Nobody wastes more than there is, but who knows what answers. */
static uint64_t
used_bytes (const struct row *row)
{
  return row->wasted_bytes < row->resident_bytes
           ? row->resident_bytes - row->wasted_bytes
           : 0;
}

/* Objects in use, then what is resident around them. */
static void
print_bar (const struct row *row, uint64_t max_bytes, unsigned bar_width,
           bool utf8, FILE *out)
{
  const double scale =
    max_bytes == 0 ? 0 : (double) bar_width / (double) max_bytes;
  const uint64_t all = text_round ((double) row->resident_bytes * scale);
  const uint64_t used = text_round ((double) used_bytes (row) * scale);

  bar_print (used, all - used, utf8, out);
}

/* What print_row writes before its bar, without the groups and with them. */
#define NUMBERS_WIDTH 57
#define GROUPS_WIDTH (NR_GROUPS + 4)
#define BAR_MIN_WIDTH 8

static void
print_row (const char *label, const struct row *row, bool groups, bool utf8,
           FILE *out)
{
  char inuse[TEXT_BYTES], resident[TEXT_BYTES], used[TEXT_BYTES];
  char zspages[TEXT_BYTES];

  fprintf (out, "%-10s %14s %9s %10s %8s", label,
           text_count (row->inuse, inuse), text_count (row->zspages, zspages),
           text_size (row->resident_bytes, resident),
           text_percent (used_bytes (row), row->resident_bytes, used));
  if (groups && row->zspages > 0) {
    fputs ("  |", out);
    bar_print_parts (row->groups, NR_GROUPS, row->zspages, utf8, out);
    putc ('|', out);
  }
}

static void
print_label (const struct row *row, bool range, char label[2 * TEXT_BYTES])
{
  if (range)
    snprintf (label, 2 * TEXT_BYTES, "%" PRIu64 "-%" PRIu64,
              row->object_bytes - RANGE_BYTES + 1, row->object_bytes);
  else
    snprintf (label, 2 * TEXT_BYTES, "%" PRIu64, row->object_bytes);
}

static void
print_histogram (const struct row *rows, unsigned nr, bool ranges, bool groups,
                 const struct bar_style *style, FILE *out)
{
  const unsigned before_bar = NUMBERS_WIDTH + groups * GROUPS_WIDTH + 1;
  const unsigned bar_width = style->width > before_bar + BAR_MIN_WIDTH
                               ? style->width - before_bar
                               : BAR_MIN_WIDTH;
  struct row total = { .object_bytes = 0 };
  uint64_t max_bytes = 0;
  char label[2 * TEXT_BYTES];
  unsigned i;

  for (i = 0; i < nr; ++i) {
    add_row (&total, &rows[i]);
    if (rows[i].resident_bytes > max_bytes)
      max_bytes = rows[i].resident_bytes;
  }

  fprintf (out, "%-10s %14s %9s %10s %8s%s\n", ranges ? "bytes" : "class",
           "objects", "zspages", "resident", "used",
           groups ? "  empty..full" : "");
  for (i = 0; i < nr; ++i) {
    print_label (&rows[i], ranges, label);
    print_row (label, &rows[i], groups, style->utf8, out);
    if (rows[i].resident_bytes > 0) {
      fputs ("   ", out);
      print_bar (&rows[i], max_bytes, bar_width, style->utf8, out);
    }
    putc ('\n', out);
  }
  print_row ("all", &total, groups, style->utf8, out);
  putc ('\n', out);
  if (groups)
    fprintf (out,
             "\nempty..full: of the zspages, how many are up to 1/8 in"
             " use, 2/8, ... 8/8,\nand quite full: from few (%s) to all"
             " (%s)\n",
             style->utf8 ? "\u2581" : ".", style->utf8 ? "\u2588" : "@");
}

bool
table_print_classes (char *body, bool each_class, const struct bar_style *style,
                     FILE *out)
{
  static struct row rows[MAX_ROWS];
  struct row ranges[MAX_RANGES];
  bool groups;
  unsigned nr;

  if (!parse_rows (body, rows, &nr, &groups))
    return false;
  if (nr == 0)
    fputs ("no objects are stored\n", out);
  else if (each_class)
    print_histogram (rows, nr, false, groups, style, out);
  else
    print_histogram (ranges, merge_rows (rows, nr, ranges), true, groups, style,
                     out);
  return true;
}
