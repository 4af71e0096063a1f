/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Cells of a picture of zspages: how many of these each stands for, how full
 * it is, and its colour.
 */

#ifndef ZMEM_CTL_CELLS_H
#define ZMEM_CTL_CELLS_H

#include <stdint.h>

#include "map.h"

/* So many cells a class, at most, that all classes together have no more
 * than `max_cells`, but one each in any case.  Classes below that keep a cell
 * a zspage.
 */
extern uint64_t cells_limit (const struct map *map, uint64_t max_cells);

/* How many zspages a cell of this class stands for, and how many cells it
 * has then; the last may stand for fewer.
 */
extern uint64_t cells_share (const struct map_class *class, uint64_t limit);
extern uint64_t cells_count (const struct map_class *class, uint64_t share);

/* The mean of those that the cell stands for. */
extern struct map_zspage cells_mean (const struct map_class *class,
                                     uint64_t share, uint64_t idx);

/* From nothing in use to full.  Viridis: its lightness rises evenly, so it
 * is read as well by the colour-blind, and in grey.
 */
#define NR_COLOURS 16
extern const char *const cells_colours[NR_COLOURS];
extern unsigned cells_colour (unsigned inuse); /* in 255ths */

#endif /* ZMEM_CTL_CELLS_H */
