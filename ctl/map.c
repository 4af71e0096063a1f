/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The answer to "map", taken apart.
 *
 *     object_bytes objects_per_zspage zspages ...
 *     4096 64 3 ff408c400a03
 *               ^^^^        one zspage: in use, in 255ths; resident pages
 */

#include <config.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"
#include "values.h"

#define DIGITS 4 /* a zspage */

static unsigned
count_lines (const char *body)
{
  unsigned nr = 1;

  for (; *body != '\0'; ++body)
    nr += *body == '\n';
  return nr;
}

/* -1: none. */
static int
digit_value (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return -1;
}

static unsigned
parse_byte (const char *digits)
{
  return (unsigned) (digit_value (digits[0]) << 4 | digit_value (digits[1]));
}

/* Take the blanks between them out.  False: there are not so many digits,
 * or something else.
 */
static bool
join_digits (char *text, uint64_t nr)
{
  uint64_t nr_found = 0;
  const char *from;

  for (from = text; *from != '\0'; ++from) {
    if (*from == ' ')
      continue;
    if (digit_value (*from) == -1)
      return false;
    text[nr_found++] = *from;
  }
  text[nr_found] = '\0';
  return nr_found % DIGITS == 0 && nr_found / DIGITS == nr;
}

static bool
parse_number (char **line, uint64_t *number)
{
  const char *text = strsep (line, " ");

  return text != NULL && value_is_number (text, number);
}

static bool
check_zspages (const struct map_class *class)
{
  uint64_t i;

  for (i = 0; i < class->nr_zspages; ++i)
    if (map_zspage (class, i).resident_pages > MAP_PAGES)
      return false;
  return true;
}

static bool
parse_class (char *line, struct map_class *class)
{
  if (!parse_number (&line, &class->object_bytes) ||
      !parse_number (&line, &class->objects_per_zspage) ||
      !parse_number (&line, &class->nr_zspages) || line == NULL ||
      !join_digits (line, class->nr_zspages))
    return false;
  class->digits = line;
  return class->nr_zspages > 0 && check_zspages (class);
}

static bool
parse_classes (struct map *map)
{
  static const char head[] = "object_bytes";
  char *rest = map->body, *line = strsep (&rest, "\n");

  if (line == NULL || strncmp (line, head, sizeof head - 1) != 0)
    return false;
  while ((line = strsep (&rest, "\n")) != NULL) {
    if (*line == '\0')
      continue;
    if (!parse_class (line, &map->classes[map->nr]))
      return false;
    ++map->nr;
  }
  return true;
}

bool
map_parse (struct map *map, char *body)
{
  map->body = body;
  map->nr = 0;
  map->classes = calloc (count_lines (body), sizeof *map->classes);
  if (map->classes == NULL) {
    perror ("zmemctl");
    exit (1);
  }
  if (parse_classes (map))
    return true;
  map_free (map);
  return false;
}

void
map_free (struct map *map)
{
  free (map->classes);
  free (map->body);
  map->classes = NULL;
  map->body = NULL;
  map->nr = 0;
}

struct map_zspage
map_zspage (const struct map_class *class, uint64_t idx)
{
  const char *digits = class->digits + DIGITS * idx;
  const struct map_zspage zspage = {
    .inuse = parse_byte (digits),
    .resident_pages = parse_byte (digits + 2),
  };

  return zspage;
}

uint64_t
map_count_zspages (const struct map *map)
{
  uint64_t nr = 0;
  unsigned i;

  for (i = 0; i < map->nr; ++i)
    nr += map->classes[i].nr_zspages;
  return nr;
}
