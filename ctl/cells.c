/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Cells of a picture of zspages.
 */

#include <config.h>

#include <stdint.h>

#include "cells.h"
#include "map.h"

const char *const cells_colours[NR_COLOURS] = {
  "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e",
  "#2a788e", "#23888e", "#1f988b", "#22a884", "#35b779", "#54c568",
  "#7ad151", "#a5db36", "#d2e21b", "#fde725"
};

/* The last colour is for what is quite full, and for nothing else. */
unsigned
cells_colour (unsigned inuse)
{
  return inuse >= 255 ? NR_COLOURS - 1 : inuse * (NR_COLOURS - 1) / 255;
}

uint64_t
cells_share (const struct map_class *class, uint64_t limit)
{
  return (class->nr_zspages + limit - 1) / limit;
}

uint64_t
cells_count (const struct map_class *class, uint64_t share)
{
  return (class->nr_zspages + share - 1) / share;
}

static uint64_t
count_all (const struct map *map, uint64_t limit)
{
  uint64_t nr = 0;
  unsigned i;

  for (i = 0; i < map->nr; ++i)
    nr += cells_count (&map->classes[i], cells_share (&map->classes[i], limit));
  return nr;
}

uint64_t
cells_limit (const struct map *map, uint64_t max_cells)
{
  uint64_t fits = 1, beyond = max_cells + 1;

  /* With the limit the count rises, or stays. */
  while (beyond - fits > 1) {
    const uint64_t middle = fits + (beyond - fits) / 2;

    if (count_all (map, middle) <= max_cells)
      fits = middle;
    else
      beyond = middle;
  }
  return fits;
}

struct map_zspage
cells_mean (const struct map_class *class, uint64_t share, uint64_t idx)
{
  const uint64_t begin = idx * share;
  const uint64_t end =
    class->nr_zspages - begin < share ? class->nr_zspages : begin + share;
  uint64_t inuse = 0, resident_pages = 0, i;
  struct map_zspage mean;

  for (i = begin; i < end; ++i) {
    const struct map_zspage zspage = map_zspage (class, i);

    inuse += zspage.inuse;
    resident_pages += zspage.resident_pages;
  }
  /* Down: full is what is full, and up: resident is what has any page. */
  mean.inuse = (unsigned) (inuse / (end - begin));
  mean.resident_pages =
    (unsigned) ((resident_pages + (end - begin) - 1) / (end - begin));
  return mean;
}
