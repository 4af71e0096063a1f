/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Side tables: what is kept of a zspage's slots, outside of the arena.
 *
 *     | in-use bits: 1 a slot, in whole words | owners: 4 bytes a slot |
 *
 * 264 bytes for a zspage of 64 raw blocks, 66 KiB for one of 16384 objects
 * of 16 bytes.  Up to SIDE_TABLE_SHARED_MAX bytes, tables of about the same
 * size share a page; larger ones have a run of pages each.  An empty page
 * or run goes back to the system, but for what the reserve keeps.
 *
 *     shared page:  | header 32 | table | table | ... |
 *
 * Locks: one leaf lock, taken inside.  Called once a zspage, not once an
 * object.
 */

#ifndef ZMEM_SIDE_TABLE_H
#define ZMEM_SIDE_TABLE_H

#include <stdint.h>

#include "lock.h"
#include "pages.h"
#include "size-class.h"

/* Sizes are rounded up to this; two of the largest fill a shared page. */
#define SIDE_TABLE_GRANULE ((size_t) 64)
#define SIDE_TABLE_SHARED_MAX ((size_t) 1984)
#define SIDE_TABLE_GROUPS (SIDE_TABLE_SHARED_MAX / SIDE_TABLE_GRANULE)
#define SIDE_TABLE_MAX_BYTES                                                   \
  (MAX_OBJECTS_PER_ZSPAGE / 8 + MAX_OBJECTS_PER_ZSPAGE * sizeof (uint32_t))
#define SIDE_TABLE_MAX_PAGES                                                   \
  ((SIDE_TABLE_MAX_BYTES + PAGE_BYTES - 1) / PAGE_BYTES)

struct side_tables {
  struct pages *pages;
  char *base; /* reserved range of nr_pages */
  uint32_t nr_pages;
  struct lock lock;
  /* The rest: guard lock. */
  uint32_t nr_bumped;       /* pages ever handed out, from the low end */
  struct grown_array links; /* struct run_link, by page */
  uint32_t free_runs[SIDE_TABLE_MAX_PAGES + 1]; /* heads, by length */
  uint32_t partial[SIDE_TABLE_GROUPS];          /* shared pages with room */
  /* The reserve: free runs that have their pages, by length. */
  uint32_t kept[SIDE_TABLE_MAX_PAGES + 1]; /* heads */
  uint32_t nr_kept[SIDE_TABLE_MAX_PAGES + 1];
  uint32_t max_kept[SIDE_TABLE_MAX_PAGES + 1];
  uint64_t resident_bytes; /* of tables; links not included */
};

/* Address space that so many pages of tables take, links included. */
extern uint64_t side_tables_address_bytes (uint32_t nr_pages);

extern int side_tables_reserve (struct side_tables *st, struct pages *pages,
                                uint32_t nr_pages);
extern int side_tables_activate (struct side_tables *st);
extern void side_tables_release (struct side_tables *st);
extern uint64_t side_tables_resident (struct side_tables *st);

/* Keep up to so many single free pages resident, and some longer runs, from
 * the next refill on (by one thread at a time; pages are populated with no
 * lock held), as long as held stays at or below the ceiling.
 */
extern void side_tables_set_reserve (struct side_tables *st, uint32_t nr_pages);
extern int side_tables_refill (struct side_tables *st, uint64_t ceiling_bytes);

static inline size_t
side_table_words (const struct size_class *class)
{
  return (class->nr_objects + 63) / 64;
}

static inline size_t
side_table_bytes (const struct size_class *class)
{
  return side_table_words (class) * sizeof (uint64_t) +
         class->nr_objects * sizeof (uint32_t);
}

/* A table of that many bytes, all zero. */
extern int side_table_alloc (struct side_tables *st, size_t bytes,
                             uint64_t **ret);
extern void side_table_free (struct side_tables *st, size_t bytes,
                             uint64_t *table);

#endif /* ZMEM_SIDE_TABLE_H */
