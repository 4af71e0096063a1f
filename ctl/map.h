/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The answer to "map", taken apart: each zspage of each size class.
 */

#ifndef ZMEM_CTL_MAP_H
#define ZMEM_CTL_MAP_H

#include <stdbool.h>
#include <stdint.h>

#define MAP_PAGES 64 /* of a zspage */

struct map_class {
  uint64_t object_bytes, objects_per_zspage, nr_zspages;
  const char *digits; /* 4 a zspage, fullest first */
};

struct map {
  char *body;                /* owned; the digits lie in it */
  struct map_class *classes; /* owned */
  unsigned nr;
};

/* Take `body` (malloc'ed) apart.  False, and it is freed: this is no such
 * answer.  Ends the program where there is no memory.
 */
extern bool map_parse (struct map *map, char *body);
extern void map_free (struct map *map);

struct map_zspage {
  unsigned inuse; /* of its slots, in 255ths */
  unsigned resident_pages;
};
extern struct map_zspage map_zspage (const struct map_class *class,
                                     uint64_t idx);

extern uint64_t map_count_zspages (const struct map *map);

#endif /* ZMEM_CTL_MAP_H */
