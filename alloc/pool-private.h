/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The inside of the pool: for alloc/ alone.
 */

#ifndef ZMEM_POOL_PRIVATE_H
#define ZMEM_POOL_PRIVATE_H

#include <stddef.h>

#include "fullness.h"
#include "lock.h"
#include "pool.h"
#include "zspage.h"

#define CACHE_LINE_BYTES 64

struct class_state {
  _Alignas (CACHE_LINE_BYTES) struct lock lock;
  /* The rest: guard lock. */
  struct fullness_lists lists;
  uint64_t nr_inuse;
  uint64_t nr_touched_pages;
};

struct pool {
  char *arena;                  /* first: pool_borrow reads it */
  struct pages *pages;
  const struct size_class_table *table;
  uint64_t arena_bytes;         /* reserved */
  zspage_idx nr_zspages;        /* that the arena has room for */

  struct lock free_lock;        /* guards the next three */
  zspage_idx free_head;         /* released zspages */
  zspage_idx nr_bumped;         /* zspages ever used, from the low end */
  struct grown_array zspages;   /* struct zspage, by index */

  struct side_tables side_tables;

  _Atomic uint64_t resident_bytes;      /* in the arena */
  _Atomic uint64_t nr_inuse_zspages;
  _Atomic uint64_t nr_released;

  struct class_state classes[MAX_SIZE_CLASSES];
};
static_assert (offsetof (struct pool, arena) == 0, "pool_borrow");

static inline struct zspage *
pool_zspage (const struct pool *pool, zspage_idx idx)
{
  return (struct zspage *) pool->zspages.base + idx;
}

static inline zspage_idx
loc_zspage (zs_loc loc)
{
  return loc >> (ZSPAGE_SHIFT - ZS_LOC_SHIFT);
}

static inline size_t
loc_offset (zs_loc loc)
{
  return (loc << ZS_LOC_SHIFT) & (ZSPAGE_BYTES - 1);
}

static inline zs_loc
make_loc (zspage_idx idx, unsigned slot, const struct size_class *class)
{
  return (((uint64_t) idx << ZSPAGE_SHIFT)
          + (uint64_t) slot * class->object_bytes) >> ZS_LOC_SHIFT;
}

#endif /* ZMEM_POOL_PRIVATE_H */
