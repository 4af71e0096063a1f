/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Strict readers of JSON and of Prometheus' text format.
 */

#include <config.h>

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format-check.h"

/*----- JSON -----*/

/* Each takes the text at *at off and returns whether it was there. */
static bool json_value (const char **at);

static void
json_space (const char **at)
{
  *at += strspn (*at, " \t\r\n");
}

static bool
json_take (const char **at, char c)
{
  json_space (at);
  if (**at != c)
    return false;
  ++*at;
  return true;
}

static bool
json_string (const char **at)
{
  if (!json_take (at, '"'))
    return false;
  for (; **at != '"'; ++*at) {
    if ((unsigned char) **at < ' ')
      return false;
    if (**at == '\\' && strchr ("\"\\/bfnrt", *++*at) == NULL)
      return false;
  }
  ++*at;
  return true;
}

static bool
json_digits (const char **at)
{
  const size_t nr = strspn (*at, "0123456789");

  *at += nr;
  return nr > 0;
}

static bool
json_number (const char **at)
{
  if (**at == '-')
    ++*at;
  if (**at == '0' && isdigit ((unsigned char) (*at)[1]))
    return false;
  if (!json_digits (at))
    return false;
  if (**at == '.') {
    ++*at;
    return json_digits (at);
  }
  return true;
}

static bool
json_members (const char **at, char end, bool named)
{
  if (json_take (at, end))
    return true;
  do {
    if (named && (!json_string (at) || !json_take (at, ':')))
      return false;
    if (!json_value (at))
      return false;
  } while (json_take (at, ','));
  return json_take (at, end);
}

static bool
json_value (const char **at)
{
  json_space (at);
  if (json_take (at, '{'))
    return json_members (at, '}', true);
  if (json_take (at, '['))
    return json_members (at, ']', false);
  if (**at == '"')
    return json_string (at);
  if (strncmp (*at, "null", 4) == 0) {
    *at += 4;
    return true;
  }
  return json_number (at);
}

const char *
json_fault (const char *text)
{
  const char *at = text;
  const bool good = json_value (&at);

  json_space (&at);
  return good && *at == '\0' ? NULL : at;
}

/*----- Prometheus -----*/

#define NAME_BYTES 64
#define FAULT_BYTES 256

/* The metric whose lines are being read. */
struct metric {
  char name[NAME_BYTES], type[16];
  unsigned nr_samples;
  double last_le; /* histograms: the bucket before */
  double last_bucket;
};

static char fault[FAULT_BYTES];

static bool find_fault (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));

/* Returns false, for the caller to return. */
static bool
find_fault (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (fault, sizeof fault, format, args);
  va_end (args);
  return false;
}

static bool
is_metric_name (const char *name)
{
  static const char chars[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:";

  return *name != '\0' && !isdigit ((unsigned char) *name) &&
         strspn (name, chars) == strlen (name);
}

static bool
is_known_type (const char *type)
{
  return strcmp (type, "counter") == 0 || strcmp (type, "gauge") == 0 ||
         strcmp (type, "histogram") == 0;
}

/* # HELP NAME TEXT, then # TYPE NAME TYPE: the beginning of a metric. */
static bool
check_comment (const char *line, struct metric *metric)
{
  char kind[8], name[NAME_BYTES], type[16];
  int used = 0;

  if (sscanf (line, "# %7s %63s %n", kind, name, &used) != 2 ||
      line[used] == '\0')
    return find_fault ("comment: %s", line);
  if (strcmp (kind, "HELP") == 0) {
    memset (metric, 0, sizeof *metric);
    metric->last_le = -1;
    strcpy (metric->name, name);
    return is_metric_name (name) || find_fault ("name: %s", name);
  }
  if (strcmp (kind, "TYPE") != 0 || strcmp (name, metric->name) != 0 ||
      metric->nr_samples != 0 || metric->type[0] != '\0' ||
      sscanf (line + used, "%15s", type) != 1 || !is_known_type (type))
    return find_fault ("type: %s", line);
  strcpy (metric->type, type);
  return true;
}

/* NAME_bucket{le="..."} N: ascending and cumulative. */
static bool
check_bucket (const char *labels, double value, struct metric *metric)
{
  double le;
  char *end;

  if (strncmp (labels, "{le=\"", 5) != 0)
    return find_fault ("labels of a bucket: %s", labels);
  le = strtod (labels + 5, &end);
  if (strcmp (end, "\"}") != 0)
    return find_fault ("labels of a bucket: %s", labels);
  if (!(metric->last_le < le) || !(value >= metric->last_bucket))
    return find_fault ("%s: not above the bucket before", labels);
  metric->last_le = le;
  metric->last_bucket = value;
  return true;
}

static bool
check_histogram_sample (const char *suffix, double value, struct metric *metric)
{
  if (strncmp (suffix, "_bucket{", 8) == 0)
    return check_bucket (suffix + 7, value, metric);
  if (strcmp (suffix, "_sum") == 0)
    return true;
  if (strcmp (suffix, "_count") != 0)
    return find_fault ("sample of a histogram: %s", suffix);
  return (isinf (metric->last_le) && !(value < metric->last_bucket) &&
          !(value > metric->last_bucket)) ||
         find_fault ("%s_count is not its +Inf bucket", metric->name);
}

/* NAME VALUE or NAME{LABELS} VALUE; cuts the line. */
static bool
check_sample (char *line, struct metric *metric)
{
  const size_t name_bytes = strlen (metric->name);
  char *value_text = strrchr (line, ' '), *end;
  const char *suffix;
  double value;

  if (value_text == NULL || metric->type[0] == '\0' ||
      strncmp (line, metric->name, name_bytes) != 0)
    return find_fault ("after %s comes: %s", metric->name, line);
  *value_text++ = '\0';
  value = strtod (value_text, &end);
  if (end == value_text || *end != '\0')
    return find_fault ("value of %s: %s", line, value_text);

  ++metric->nr_samples;
  suffix = line + name_bytes;
  if (strcmp (metric->type, "histogram") == 0)
    return check_histogram_sample (suffix, value, metric);
  if (*suffix != '\0' && *suffix != '{')
    return find_fault ("sample of %s: %s", metric->name, line);
  if (strcmp (metric->type, "counter") == 0 &&
      (name_bytes < 6 || strcmp (metric->name + name_bytes - 6, "_total") != 0))
    return find_fault ("counter: %s", metric->name);
  return true;
}

const char *
prometheus_fault (const char *text, unsigned *nr_metrics)
{
  struct metric metric = { .name = "" };
  char *copy = strdup (text), *rest = copy, *line;
  bool good = true;

  *nr_metrics = 0;
  if (*text == '\0' || text[strlen (text) - 1] != '\n')
    good = find_fault ("the last line has no end");
  while (good && (line = strsep (&rest, "\n")) != NULL) {
    if (*line == '\0') {
      if (rest != NULL)
        good = find_fault ("a blank line");
      break;
    }
    *nr_metrics += strncmp (line, "# HELP ", 7) == 0;
    good = *line == '#' ? check_comment (line, &metric)
                        : check_sample (line, &metric);
  }
  free (copy);
  return good ? NULL : fault;
}
