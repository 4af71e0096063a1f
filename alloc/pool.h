/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool: objects of 16 to 4096 bytes in zspages, by handle.
 *
 *   arena   |zspage 0|zspage 1|...          reserved address space
 *           zspage = 256 KiB cut into equal objects of one size class,
 *           filled from its low end; pages past what was ever used of it
 *           are not resident
 *   outside the arena: a descriptor a zspage, and its side table (a bit a
 *           slot: in use; 4 bytes a slot: owner)
 *
 * An object's location (zs_loc) is its offset in the arena / 16.  It stays
 * valid until pool_free, or until somebody who may (compaction, under the
 * lock of the owner's entry) moves it and re-points the owner.
 *
 * Every object carries an owner, given at allocation, opaque to the pool.
 *
 * Locks: one a size class, taken inside; callers need none, and may hold
 * those of lower rank (lock.h).  Nothing here blocks but on those locks and
 * on the kernel making pages resident.
 *
 * Errors: -ENOSPC: over pages->limit, or the arena's address space is used
 * up (by scattered objects).  -ENOMEM: the system would not give memory.
 */

#ifndef ZMEM_POOL_H
#define ZMEM_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pages.h"
#include "size-class.h"

typedef uint64_t zs_loc; /* 39 bits: offset in the arena / 16 */
#define ZS_LOC_BITS 39
#define ZS_LOC_SHIFT 4
#define ARENA_MAX_BYTES ((uint64_t) 1 << (ZS_LOC_BITS + ZS_LOC_SHIFT))

typedef uint32_t owner_t;     /* 31 bits of the user's, 1 bit of tag */
#define OWNER_NONE UINT32_MAX /* belongs to the pool's user, never moves */

struct pool;

/* Address space that a pool with so large an arena takes, all included. */
extern uint64_t pool_address_bytes (uint64_t arena_bytes);

/* What pool_create allocates besides, and does not charge to pages. */
extern size_t pool_struct_bytes (void);

/* Reserve address space for `arena_bytes` (rounded up to whole zspages, at
 * most ARENA_MAX_BYTES) and its bookkeeping.  `pages` is borrowed until
 * pool_destroy.  To be followed by pool_activate, after a fork if there is
 * one, before anything else.
 */
extern int pool_create (struct pages *pages, uint64_t arena_bytes,
                        struct pool **ret);
extern int pool_activate (struct pool *pool);
extern void pool_destroy (struct pool *pool);

/* A new object of at least `bytes` (1 to 4096), its pages resident, its
 * content undefined.
 */
extern int pool_alloc (struct pool *pool, size_t bytes, owner_t owner,
                       zs_loc *ret);

/* Free an object.  When it was the last of its zspage, the zspage's pages
 * go back to the system before this returns, unless it may be a spare one.
 */
extern void pool_free (struct pool *pool, zs_loc loc);

/* Spare zspages: emptied ones that keep their pages, for the next class that
 * needs a zspage, or until somebody purges them: a purge interrupts the
 * other processors, so it had better not be under a writer's feet.  At most
 * `nr_zspages` of them (0 from the start).  At the limit an allocation takes
 * their pages, and those of the reserve.
 */
extern void pool_set_spare_max (struct pool *pool, unsigned nr_zspages);
/* Purge all but `keep` of them, or one if there are more than that; the
 * bytes given back.
 */
extern uint64_t pool_purge_spare (struct pool *pool, unsigned keep);
extern uint64_t pool_purge_one_spare (struct pool *pool, unsigned keep);

/* The reserve: memory that is resident before it is needed, so that an
 * allocation finds it where the system has none to give.  Up to `bytes` of
 * primed zspages, whose first pages are resident; besides, each class that
 * has objects has some free slots ready, and side tables some pages.
 * To be called between pool_create and pool_activate.  0: none.
 */
extern void pool_set_reserve (struct pool *pool, uint64_t bytes);
/* Something was taken of it.  Sequentially consistent; no lock needed. */
extern bool pool_wants_refill (const struct pool *pool);
/* What was has come back.  By the time that this returns more may have been
 * taken; no lock needed.
 */
extern bool pool_is_refilled (const struct pool *pool);
/* Fill it up, as long as held stays at or below `ceiling_bytes`, which arrays
 * that grow with what comes may pass by some pages; -ENOSPC, -ENOMEM: not all
 * of it.  One thread at a time.
 */
extern int pool_refill (struct pool *pool, uint64_t ceiling_bytes);
/* Purge a spare zspage, or else a primed one; the bytes given back. */
extern uint64_t pool_purge_one_unused (struct pool *pool);

/* The object's bytes.  Borrowed for as long as the caller keeps it from
 * being freed and moved (the block store: by its group's lock).
 */
static inline void *
pool_borrow (const struct pool *pool, zs_loc loc)
{
  return *(char *const *) pool + (loc << ZS_LOC_SHIFT);
}

/* Does [loc, loc + bytes) lie in the arena?  Of what was allocated it does;
 * for a location of doubtful origin.
 */
static inline bool
pool_contains (const struct pool *pool, zs_loc loc, size_t bytes)
{
  return (loc << ZS_LOC_SHIFT) + bytes <=
         *(const uint64_t *) ((char *const *) pool + 1);
}

/* How many bytes the object's slot has; it may be more than was asked. */
extern size_t pool_slot_bytes (const struct pool *pool, zs_loc loc);

extern owner_t pool_owner (struct pool *pool, zs_loc loc);

/* Call fn for each object of the class, under the class's lock: it must
 * not call the pool.  A non-zero return ends the walk and is returned.
 */
typedef int (*pool_object_fn) (void *opaque, zs_loc loc, owner_t owner);
extern int pool_iterate (struct pool *pool, unsigned class_idx,
                         pool_object_fn fn, void *opaque);

/* Fullness groups: group g holds zspages of which more than g/8 and at most
 * (g+1)/8 of the slots are in use, but for the full ones, which are group
 * NR_FULLNESS_GROUPS - 1.
 */
#define NR_FULLNESS_GROUPS 9

struct pool_class_stats {
  uint32_t object_bytes;
  uint32_t objects_per_zspage;
  uint64_t nr_inuse; /* objects */
  uint64_t nr_zspages;
  uint64_t resident_bytes; /* of its zspages' pages */
  uint64_t nr_frees;       /* ever */
  uint64_t nr_isolated;    /* of nr_zspages: sources, in no group */
  uint64_t ahead_bytes;    /* resident for what comes: the reserve */
  uint64_t by_fullness[NR_FULLNESS_GROUPS]; /* zspages */
};

extern unsigned pool_nr_classes (const struct pool *pool);
extern void pool_class_stats (struct pool *pool, unsigned class_idx,
                              struct pool_class_stats *ret);

struct pool_stats {
  uint64_t arena_bytes;       /* resident in the arena */
  uint64_t spare_bytes;       /* of these, in spare zspages */
  uint64_t primed_bytes;      /* of these, in primed ones */
  uint64_t bookkeeping_bytes; /* resident side tables and descriptors */
  uint64_t nr_zspages;
  uint64_t nr_zspages_released; /* ever */
};
extern void pool_stats (struct pool *pool, struct pool_stats *ret);

#endif /* ZMEM_POOL_H */
