/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The picture of the pool.
 */

#ifndef ZMEM_CTL_SVG_H
#define ZMEM_CTL_SVG_H

#include <stdio.h>

#include "map.h"
#include "values.h"

/* Print an SVG, of less than 1 MiB however large the pool: a band a size
 * class, a cell a zspage.  `stats`: the answer to "stats", for its head.
 */
extern void svg_print (const struct map *map, const struct values *stats,
                       FILE *out);

#endif /* ZMEM_CTL_SVG_H */
