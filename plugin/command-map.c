/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * map: every zspage of the pool, by class, for pictures of fragmentation.
 *
 *     object_bytes objects_per_zspage zspages map
 *     48 5461 2 ff401a05
 *
 * Four hex digits a zspage, the fullest first: two for how full it is (00:
 * no object, ff: no room, else 1 + 253 * inuse / objects, rounded down), two
 * for how many of its 64 pages are resident.  The answer has 4 bytes for each
 * 256 KiB of zspages.
 */

#include <config.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands-private.h"
#include "pool-move.h"
#include "pool.h"
#include "store.h"

/* Room for zspages that come meanwhile. */
#define MAP_EXTRA 1024

static unsigned
nr_resident_pages (const struct pool_zspage_info *zspage)
{
  return (unsigned) __builtin_popcountll (zspage->resident);
}

/* Fullest first; of equally full ones, that with more pages. */
static int
compare_zspages (const void *a, const void *b)
{
  const struct pool_zspage_info *x = a, *y = b;
  const unsigned x_pages = nr_resident_pages (x);
  const unsigned y_pages = nr_resident_pages (y);

  if (x->nr_inuse != y->nr_inuse)
    return x->nr_inuse > y->nr_inuse ? -1 : 1;
  return x_pages > y_pages ? -1 : x_pages < y_pages;
}

static unsigned
fullness_byte (uint32_t nr_inuse, uint32_t nr_objects)
{
  if (nr_inuse == 0)
    return 0;
  if (nr_inuse >= nr_objects)
    return 0xff;
  return 1 + (unsigned) (UINT64_C (253) * nr_inuse / nr_objects);
}

static void
print_class (const struct pool_class_stats *class,
             const struct pool_zspage_info *list, uint64_t nr, FILE *out)
{
  uint64_t i;

  fprintf (out, "%" PRIu32 " %" PRIu32 " %" PRIu64 " ", class->object_bytes,
           class->objects_per_zspage, nr);
  for (i = 0; i < nr; ++i)
    fprintf (out, "%02x%02x",
             fullness_byte (list[i].nr_inuse, class->objects_per_zspage),
             nr_resident_pages (&list[i]));
  putc ('\n', out);
}

/* The line of a class; none where it has no zspage. */
static void
map_class (struct pool *pool, unsigned class_idx, struct pool_zspage_info *list,
           uint64_t max, FILE *out)
{
  struct pool_class_stats class;
  uint64_t nr = pool_list_zspages (pool, class_idx, list, max);

  if (nr == 0)
    return;
  if (nr > max)
    nr = max; /* it has grown: a part will do */
  qsort (list, nr, sizeof *list, compare_zspages);
  pool_class_stats (pool, class_idx, &class);
  print_class (&class, list, nr, out);
}

/* How many zspages the class has that has most. */
static uint64_t
most_zspages (struct pool *pool)
{
  const unsigned nr_classes = pool_nr_classes (pool);
  struct pool_class_stats class;
  uint64_t most = 0;
  unsigned i;

  for (i = 0; i < nr_classes; ++i) {
    pool_class_stats (pool, i, &class);
    if (class.nr_zspages > most)
      most = class.nr_zspages;
  }
  return most;
}

int
command_map (struct store *store, const char *args, const struct answer *answer)
{
  struct pool *pool = store_pool (store);
  const unsigned nr_classes = pool_nr_classes (pool);
  struct pool_zspage_info *list;
  uint64_t max;
  unsigned i;

  if (*args != '\0')
    return answer_reject_args (answer, "map", "nothing", args);
  max = most_zspages (pool) + MAP_EXTRA;
  list = malloc (max * sizeof *list);
  if (list == NULL)
    return answer_reject_memory (answer);

  fputs ("object_bytes objects_per_zspage zspages map\n", answer->out);
  for (i = 0; i < nr_classes; ++i)
    map_class (pool, i, list, max, answer->out);
  free (list);
  return 0;
}
