/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The picture of the pool.
 *
 *     title: held, reclaimable, fragmentation
 *     legend
 *     bytes  zspages  a cell
 *     3,120    9,000       9  |||||||||||||||||||||
 *                             |||||||:::::....
 *     4,096       12       1  |||||||||:::.
 *
 * The bands of a small pool stand in two or three columns, so that its
 * picture is no long strip.
 *
 * Nearly all of the file is cells: 20 bytes each, in one path for as long as
 * the colour stays the same.  A class's zspages come fullest first, so it has
 * few paths.  Nothing but numbers comes from the server, so nothing needs to
 * be escaped.
 */

#include <config.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cells.h"
#include "map.h"
#include "svg.h"
#include "text.h"
#include "values.h"

/* 20 bytes each, and 350 for a class, of which there are some 200. */
#define MAX_CELLS 24000

/* In units of the picture, about pixels. */
#define MARGIN 16
#define CLASS_MAX_CELLS 1024 /* more are no easier read */
#define CELL_WIDTH 5
#define CELL_STEP 6
#define CELL_HEIGHT 16 /* of one whose pages are all resident */
#define ROW_STEP 19
#define BAND_GAP 5
#define BYTES_RIGHT 60 /* columns of text end there */
#define ZSPAGES_RIGHT 130
#define SHARE_RIGHT 185
#define CELLS_LEFT 200
#define TITLE_BASE 34
#define SUBTITLE_BASE 54
#define NOTE_BASE 70
#define LEGEND_BASE 98
#define HEAD_BASE 130
#define BANDS_TOP 140
#define TEXT_RISE 4 /* of a cell's text, above its lower edge */

/* How bands are laid out, by how many zspages there are; about as wide. */
static const struct shape {
  uint64_t max_zspages;
  unsigned nr_columns, cells_a_row;
} shapes[] = {
  { 1500, 3, 24 },
  { 6000, 2, 56 },
  { UINT64_MAX, 1, 128 },
};
#define WIDTH (CELLS_LEFT + 128 * CELL_STEP + MARGIN)

struct layout {
  uint64_t limit; /* cells a class, at most */
  unsigned nr_columns, cells_a_row;
  uint64_t bottom; /* the band that passes it ends its column */
};

/* A place for a band. */
struct place {
  unsigned column;
  uint64_t top;
};

static unsigned
column_width (const struct layout *layout)
{
  return CELLS_LEFT + layout->cells_a_row * CELL_STEP + MARGIN;
}

static uint64_t
picture_width (const struct layout *layout)
{
  const unsigned width = layout->nr_columns * column_width (layout);

  return width > WIDTH ? width : WIDTH;
}

static uint64_t
band_height (const struct layout *layout, const struct map_class *class)
{
  const uint64_t nr = cells_count (class, cells_share (class, layout->limit));

  return (nr + layout->cells_a_row - 1) / layout->cells_a_row * ROW_STEP +
         BAND_GAP;
}

/* Where the band after that of `class`, at `place`, comes. */
static struct place
next_place (const struct layout *layout, const struct map_class *class,
            struct place place)
{
  place.top += band_height (layout, class);
  if (place.top >= layout->bottom && place.column + 1 < layout->nr_columns)
    place = (struct place) { place.column + 1, BANDS_TOP };
  return place;
}

static struct layout
choose_layout (const struct map *map)
{
  const struct shape *shape = shapes;
  struct layout layout = { .limit = cells_limit (map, MAX_CELLS) };
  uint64_t height = 0;
  unsigned i;

  if (layout.limit > CLASS_MAX_CELLS)
    layout.limit = CLASS_MAX_CELLS;
  while (map_count_zspages (map) > shape->max_zspages)
    ++shape;
  layout.nr_columns = shape->nr_columns;
  layout.cells_a_row = shape->cells_a_row;
  for (i = 0; i < map->nr; ++i)
    height += band_height (&layout, &map->classes[i]);
  layout.bottom = BANDS_TOP + height / layout.nr_columns;
  return layout;
}

static uint64_t
picture_height (const struct map *map, const struct layout *layout)
{
  struct place place = { 0, BANDS_TOP };
  uint64_t bottom = BANDS_TOP + ROW_STEP;
  unsigned i;

  for (i = 0; i < map->nr; ++i) {
    const uint64_t end = place.top + band_height (layout, &map->classes[i]);

    if (end > bottom)
      bottom = end;
    place = next_place (layout, &map->classes[i], place);
  }
  return bottom + MARGIN;
}

static void
print_begin (uint64_t width, uint64_t height, FILE *out)
{
  unsigned i;

  fprintf (out,
           "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
           "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\""
           " width=\"%" PRIu64 "\" height=\"%" PRIu64 "\""
           " viewBox=\"0 0 %" PRIu64 " %" PRIu64 "\">\n"
           "<title>zmem: zspages by size class and fullness</title>\n"
           "<style>\n"
           "text { font: 12px sans-serif; fill: #222222 }\n"
           ".number { text-anchor: end }\n"
           ".title { font-size: 18px; font-weight: bold }\n"
           ".strip { fill: #ececec }\n",
           width, height, width, height);
  for (i = 0; i < NR_COLOURS; ++i)
    fprintf (out, ".c%u { fill: %s }\n", i, cells_colours[i]);
  fprintf (out,
           "</style>\n"
           "<rect width=\"%" PRIu64 "\" height=\"%" PRIu64 "\""
           " fill=\"#ffffff\"/>\n",
           width, height);
}

static void
print_size (const struct values *stats, const char *label, const char *name,
            FILE *out)
{
  char text[TEXT_BYTES];
  uint64_t bytes;

  if (values_number (stats, name, &bytes))
    fprintf (out, "%s %s", label, text_size (bytes, text));
}

static void
print_title (const struct map *map, const struct values *stats, FILE *out)
{
  const uint64_t nr = map_count_zspages (map);
  char text[TEXT_BYTES];
  uint64_t thousandths;

  fprintf (out, "<text class=\"title\" x=\"%d\" y=\"%d\">zmem", MARGIN,
           TITLE_BASE);
  print_size (stats, ": held", "held_bytes", out);
  print_size (stats, ", reclaimable", "reclaimable_bytes", out);
  if (values_number (stats, "fragmentation_thousandths", &thousandths))
    fprintf (out, ", fragmentation %s", text_percent (thousandths, 1000, text));
  fprintf (out,
           "</text>\n<text x=\"%d\" y=\"%d\">%s zspage%s in %u size"
           " class%s",
           MARGIN, SUBTITLE_BASE, text_count (nr, text), nr == 1 ? "" : "s",
           map->nr, map->nr == 1 ? "" : "es");
  fprintf (out,
           "</text>\n<text x=\"%d\" y=\"%d\">A cell is a zspage, or the"
           " mean of as many as stands beside its class; the fullest come"
           " first.</text>\n",
           MARGIN, NOTE_BASE);
}

#define LEGEND_STEP 14
#define LEGEND_LEFT (CELLS_LEFT + 60)

/* Its last colour stands apart, as it does among the cells. */
static void
print_legend (FILE *out)
{
  const int full = LEGEND_LEFT + NR_COLOURS * LEGEND_STEP;
  unsigned i;

  fprintf (out,
           "<text x=\"%d\" y=\"%d\">slots in use:</text>\n"
           "<text class=\"number\" x=\"%d\" y=\"%d\">none</text>\n",
           MARGIN, LEGEND_BASE, LEGEND_LEFT - 8, LEGEND_BASE);
  for (i = 0; i < NR_COLOURS; ++i)
    fprintf (out,
             "<rect class=\"c%u\" x=\"%u\" y=\"%d\" width=\"%d\""
             " height=\"%d\"/>\n",
             i, LEGEND_LEFT + i * LEGEND_STEP + (i == NR_COLOURS - 1 ? 4 : 0),
             LEGEND_BASE - CELL_HEIGHT + TEXT_RISE, LEGEND_STEP, CELL_HEIGHT);
  fprintf (out,
           "<text x=\"%d\" y=\"%d\">all; a cell is as high as the part"
           " of its pages that is resident</text>\n",
           full + 12, LEGEND_BASE);
}

static void
print_head (FILE *out)
{
  static const struct {
    int right;
    const char *text;
  } heads[] = {
    { BYTES_RIGHT, "bytes" },
    { ZSPAGES_RIGHT, "zspages" },
    { SHARE_RIGHT, "a cell" },
  };
  unsigned i;

  for (i = 0; i < sizeof heads / sizeof heads[0]; ++i)
    fprintf (out, "<text class=\"number\" x=\"%d\" y=\"%d\">%s</text>\n",
             heads[i].right, HEAD_BASE, heads[i].text);
}

static void
print_number (uint64_t number, int right, uint64_t base, FILE *out)
{
  char text[TEXT_BYTES];

  fprintf (out,
           "<text class=\"number\" x=\"%d\" y=\"%" PRIu64 "\">%s"
           "</text>\n",
           right, base, text_count (number, text));
}

/* What a cell would fill were all of its pages resident. */
static void
print_strip (uint64_t nr_cells, unsigned cells_a_row, uint64_t top, FILE *out)
{
  uint64_t bottom = top + CELL_HEIGHT;

  fputs ("<path class=\"strip\" d=\"", out);
  while (nr_cells > 0) {
    const uint64_t nr = nr_cells < cells_a_row ? nr_cells : cells_a_row;
    const uint64_t width = nr * CELL_STEP - (CELL_STEP - CELL_WIDTH);

    fprintf (out, "M%d %" PRIu64 "h%" PRIu64 "v-%dh-%" PRIu64 "z", CELLS_LEFT,
             bottom, width, CELL_HEIGHT, width);
    nr_cells -= nr;
    bottom += ROW_STEP;
  }
  fputs ("\"/>\n", out);
}

static void
print_cells (const struct map_class *class, uint64_t share,
             unsigned cells_a_row, uint64_t top, FILE *out)
{
  const uint64_t nr = cells_count (class, share);
  unsigned colour = NR_COLOURS; /* of the path that is open: none is */
  uint64_t i;

  for (i = 0; i < nr; ++i) {
    const struct map_zspage mean = cells_mean (class, share, i);
    const unsigned height =
      (mean.resident_pages * CELL_HEIGHT + MAP_PAGES - 1) / MAP_PAGES;

    if (height == 0)
      continue;
    if (cells_colour (mean.inuse) != colour) {
      fputs (colour == NR_COLOURS ? "" : "\"/>\n", out);
      colour = cells_colour (mean.inuse);
      fprintf (out, "<path class=\"c%u\" d=\"", colour);
    }
    fprintf (out, "M%" PRIu64 " %" PRIu64 "h%dv-%uh-%dz",
             CELLS_LEFT + i % cells_a_row * CELL_STEP,
             top + i / cells_a_row * ROW_STEP + CELL_HEIGHT, CELL_WIDTH, height,
             CELL_WIDTH);
  }
  fputs (colour == NR_COLOURS ? "" : "\"/>\n", out);
}

static void
print_band (const struct layout *layout, const struct map_class *class,
            uint64_t top, FILE *out)
{
  const uint64_t share = cells_share (class, layout->limit);
  const uint64_t base = top + CELL_HEIGHT - TEXT_RISE;
  char bytes[TEXT_BYTES], objects[TEXT_BYTES];

  fprintf (out, "<g>\n<title>objects of %s bytes, %s a zspage</title>\n",
           text_count (class->object_bytes, bytes),
           text_count (class->objects_per_zspage, objects));
  print_number (class->object_bytes, BYTES_RIGHT, base, out);
  print_number (class->nr_zspages, ZSPAGES_RIGHT, base, out);
  print_number (share, SHARE_RIGHT, base, out);
  print_strip (cells_count (class, share), layout->cells_a_row, top, out);
  print_cells (class, share, layout->cells_a_row, top, out);
  fputs ("</g>\n", out);
}

/* The elements that follow lie in this column, until end_column. */
static void
begin_column (const struct layout *layout, unsigned column, FILE *out)
{
  fprintf (out, "<g transform=\"translate(%u 0)\">\n",
           column * column_width (layout));
  print_head (out);
}

static void
end_column (FILE *out)
{
  fputs ("</g>\n", out);
}

static void
print_bands (const struct map *map, const struct layout *layout, FILE *out)
{
  struct place place = { 0, BANDS_TOP };
  unsigned i;

  begin_column (layout, 0, out);
  for (i = 0; i < map->nr; ++i) {
    const struct place next = next_place (layout, &map->classes[i], place);

    print_band (layout, &map->classes[i], place.top, out);
    if (next.column != place.column && i + 1 < map->nr) {
      end_column (out);
      begin_column (layout, next.column, out);
    }
    place = next;
  }
  end_column (out);
}

void
svg_print (const struct map *map, const struct values *stats, FILE *out)
{
  const struct layout layout = choose_layout (map);

  print_begin (picture_width (&layout), picture_height (map, &layout), out);
  print_title (map, stats, out);
  if (map->nr == 0)
    fprintf (out, "<text x=\"%d\" y=\"%d\">no objects are stored</text>\n",
             MARGIN, LEGEND_BASE);
  else {
    print_legend (out);
    print_bands (map, &layout, out);
  }
  fputs ("</svg>\n", out);
}
