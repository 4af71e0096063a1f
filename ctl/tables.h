/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Tables: the statistics and the size classes for people.
 */

#ifndef ZMEM_CTL_TABLES_H
#define ZMEM_CTL_TABLES_H

#include <stdbool.h>
#include <stdio.h>

#include "values.h"

extern void table_print_stats (const struct values *values, FILE *out);

/* How a bar of a histogram may look. */
struct bar_style {
  unsigned width; /* columns of the whole line */
  bool utf8;
};

/* The answer to "classes", which is written over, as a histogram: a bar for
 * each range of sizes, or for each class.  False: it is not such an answer.
 */
extern bool table_print_classes (char *body, bool each_class,
                                 const struct bar_style *style, FILE *out);

#endif /* ZMEM_CTL_TABLES_H */
