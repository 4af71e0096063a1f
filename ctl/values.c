/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers taken apart.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "values.h"

static size_t
count_lines (const char *body)
{
  size_t nr = 1;

  for (; *body != '\0'; ++body)
    nr += *body == '\n';
  return nr;
}

void
values_parse (struct values *values, char *body)
{
  char *line, *rest = body, *space;

  values->body = body;
  values->nr = 0;
  values->list = NULL;
  if (body == NULL)
    return;

  values->list = calloc (count_lines (body), sizeof *values->list);
  if (values->list == NULL) {
    perror ("zmemctl");
    exit (1);
  }
  while ((line = strsep (&rest, "\n")) != NULL) {
    if (*line == '\0')
      continue;
    text_make_printable (line);
    space = strchr (line, ' ');
    if (space != NULL)
      *space++ = '\0';
    values->list[values->nr].name = line;
    values->list[values->nr].text = space != NULL ? space : "";
    ++values->nr;
  }
}

void
values_free (struct values *values)
{
  free (values->list);
  free (values->body);
  values->list = NULL;
  values->body = NULL;
  values->nr = 0;
}

const char *
values_text (const struct values *values, const char *name)
{
  size_t i;

  for (i = 0; i < values->nr; ++i)
    if (strcmp (values->list[i].name, name) == 0)
      return values->list[i].text;
  return NULL;
}

bool
value_is_number (const char *text, uint64_t *number)
{
  char *end;
  uint64_t value;

  if (*text < '0' || *text > '9')
    return false;
  errno = 0;
  value = strtoumax (text, &end, 10);
  if (*end != '\0' || errno != 0)
    return false;
  *number = value;
  return true;
}

bool
values_number (const struct values *values, const char *name, uint64_t *number)
{
  const char *text = values_text (values, name);

  return text != NULL && value_is_number (text, number);
}

uint64_t
values_get (const struct values *values, const char *name)
{
  uint64_t number = 0;

  values_number (values, name, &number);
  return number;
}

void
json_print_string (const char *text, FILE *out)
{
  putc ('"', out);
  for (; *text != '\0'; ++text) {
    const unsigned char c = (unsigned char) *text;
    if (c < ' ' || c == 0x7f)
      fprintf (out, "\\u%04x", (unsigned) c);
    else {
      if (c == '"' || c == '\\')
        putc ('\\', out);
      putc (c, out);
    }
  }
  putc ('"', out);
}

void
values_print_json (const struct values *values, FILE *out)
{
  uint64_t number;
  size_t i;

  putc ('{', out);
  for (i = 0; i < values->nr; ++i) {
    if (i > 0)
      fputs (", ", out);
    json_print_string (values->list[i].name, out);
    fputs (": ", out);
    if (value_is_number (values->list[i].text, &number))
      fprintf (out, "%" PRIu64, number);
    else
      json_print_string (values->list[i].text, out);
  }
  fputs ("}\n", out);
}
