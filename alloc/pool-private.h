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
  _Alignas(CACHE_LINE_BYTES) struct lock lock;
  /* The rest: guard lock. */
  struct fullness_lists lists;
  uint64_t nr_inuse;
  uint64_t nr_resident_pages;
  uint64_t nr_resident_free; /* slots, of the zspages in the lists */
  uint64_t nr_frees;         /* ever */
  uint32_t nr_isolated;      /* zspages that are in no list */
  uint32_t nr_owed;          /* see class_lost_ready_locked */
  bool grown_out;            /* as far as a refill has seen, all pages of the
                                zspages in the lists are resident */
};

struct pool {
  char *arena;          /* these two first: pool_borrow and */
  uint64_t arena_bytes; /* pool_contains read them; reserved */
  struct pages *pages;
  const struct size_class_table *table;
  zspage_idx nr_zspages; /* that the arena has room for */

  struct lock free_lock; /* guards the next seven */
  zspage_idx free_head;  /* released zspages without pages */
  zspage_idx spare_head; /* and those that still have pages */
  zspage_idx nr_spare;
  zspage_idx primed_head; /* the reserve's, with their first pages */
  zspage_idx nr_primed;
  zspage_idx nr_bumped;       /* zspages ever used, from the low end */
  struct grown_array zspages; /* struct zspage, by index */

  struct side_tables side_tables;

  _Atomic zspage_idx max_spare;    /* more than that are purged when emptied */
  _Atomic uint64_t spare_bytes;    /* resident in spare zspages */
  zspage_idx max_primed;           /* 0: there is no reserve */
  _Atomic uint64_t primed_bytes;   /* resident in primed zspages */
  _Atomic bool wants_refill;       /* something was taken of the reserve */
  _Atomic bool is_refilling;       /* what was taken before is on its way */
  _Atomic uint64_t resident_bytes; /* in the arena */
  _Atomic uint64_t nr_inuse_zspages;
  _Atomic uint64_t nr_released;

  struct class_state classes[MAX_SIZE_CLASSES];
};
static_assert (offsetof (struct pool, arena) == 0, "pool_borrow");
static_assert (offsetof (struct pool, arena_bytes) == sizeof (char *),
               "pool_contains");

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
  return (((uint64_t) idx << ZSPAGE_SHIFT) +
          (uint64_t) slot * class->object_bytes) >>
         ZS_LOC_SHIFT;
}

static inline void *
zspage_address (const struct pool *pool, zspage_idx idx)
{
  return pool->arena + (uint64_t) idx * ZSPAGE_BYTES;
}

/* Between pool.c, pool-move.c, reserve.c and free-zspages.c. */

/* Where there is a reserve: how much a class that has objects is to have
 * ready, in resident pages of free slots.
 */
#define AHEAD_MIN_PAGES 4
#define AHEAD_MAX_PAGES 32
#define AHEAD_SHIFT 6 /* 1/64 of what it has */

static inline uint64_t
class_ahead_bytes (const struct class_state *state)
{
  uint64_t pages = state->nr_resident_pages >> AHEAD_SHIFT;

  if (pages < AHEAD_MIN_PAGES)
    pages = AHEAD_MIN_PAGES;
  if (pages > AHEAD_MAX_PAGES)
    pages = AHEAD_MAX_PAGES;
  return state->nr_inuse == 0 ? 0 : pages * PAGE_BYTES;
}

static inline bool
pool_has_reserve (const struct pool *pool)
{
  return pool->max_primed > 0;
}

/* Something was taken of the reserve.  Under the lock that a refill takes to
 * look at what was taken.
 */
static inline void
pool_ask_for_refill (struct pool *pool)
{
  if (pool_has_reserve (pool) &&
      !atomic_load_explicit (&pool->wants_refill, memory_order_relaxed))
    atomic_store (&pool->wants_refill, true);
}

/* A class that has so many zspages with room takes no primed one but what it
 * is owed: with a few pages in each it would have a side table for little.
 */
#define RESERVE_MAX_OPEN 3

/* Half of what is to be ready: time to ask for more, where there is any to be
 * had.  True: it was asked for.
 */
static inline bool
class_ask_below_half_locked (struct pool *pool, unsigned class_idx)
{
  const struct class_state *state = &pool->classes[class_idx];
  const uint64_t ready =
    state->nr_resident_free * pool->table->classes[class_idx].object_bytes;

  ASSERT_LOCKED (&state->lock);
  if (!pool_has_reserve (pool) || state->grown_out ||
      ready >= class_ahead_bytes (state) / 2)
    return false;
  pool_ask_for_refill (pool);
  return true;
}

/* Not an allocation has taken what was ready, but the compactor, or the free
 * that emptied its zspage.  Until the refill has come, the class may take so
 * many primed zspages more.
 */
static inline void
class_lost_ready_locked (struct pool *pool, unsigned class_idx)
{
  if (class_ask_below_half_locked (pool, class_idx))
    pool->classes[class_idx].nr_owed = RESERVE_MAX_OPEN;
}

/* A free zspage: a spare one, a primed one, a released one, or of the
 * untouched rest.  `resident`: only one that has pages, or -ENOSPC.  No lock
 * of its class is needed, nor in the way.
 */
extern int pool_take_free_zspage (struct pool *pool, bool resident,
                                  zspage_idx *ret);
/* One without pages: a released one, or of the untouched rest. */
extern int pool_take_blank_zspage (struct pool *pool, zspage_idx *ret);
/* One that has got its first pages: to the primed ones. */
extern void pool_put_primed_zspage (struct pool *pool, zspage_idx idx);
/* Purge a primed one; the bytes given back. */
extern uint64_t pool_purge_one_primed (struct pool *pool);
extern zspage_idx pool_nr_primed (struct pool *pool);
/* One that has pages becomes a spare one, whatever their maximum is. */
extern void pool_put_free_zspage (struct pool *pool, zspage_idx idx);

/* A free slot in resident pages of the fullest zspage that has one.  Looks at
 * no more than *max_looks zspages, which are taken off it; those that have
 * none are holed from then on.  SLOT_NONE: with looks left, there is none.
 */
extern unsigned pool_find_resident_free_locked (struct pool *pool,
                                                unsigned class_idx,
                                                unsigned *max_looks,
                                                zspage_idx *ret);

/* Free the slot; the class's lock is held.  True: that emptied the zspage,
 * which now is in no list and is the caller's to retire.
 */
extern bool pool_free_slot_locked (struct pool *pool, struct class_state *state,
                                   zspage_idx idx, unsigned slot);

/* Purge those pages of a zspage that nobody can allocate in, run by run.
 * Returns the ones that are gone; the caller takes them off `resident`.
 */
extern uint64_t pool_purge_pages (struct pool *pool, zspage_idx idx,
                                  uint64_t page_mask);

/* Hand back a zspage without objects, which is out of its class's lists and
 * accounts.  `keep_pages`: it may become a spare one.  Returns bytes purged.
 */
extern uint64_t pool_retire_zspage (struct pool *pool, zspage_idx idx,
                                    bool keep_pages);

#endif /* ZMEM_POOL_PRIVATE_H */
