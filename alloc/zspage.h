/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A zspage: ZSPAGE_BYTES of the arena, cut into equal slots of one class.
 *
 *     |slot 0|slot 1|... |slot n-1|waste|
 *     |<- nr_touched pages ->|  not resident  |
 *
 * Invariants, while the zspage belongs to a class:
 *     nr_inuse == number of set bits of its side table, >= 1
 *     every slot in use lies within the touched pages
 *     no free slot below word first_free_word of the bits
 *     group == fullness_group (nr_inuse, nr_objects)
 * A zspage that belongs to no class is in the pool's list of free ones.
 * Guard of all fields: its class's lock; for a free one, the pool's.
 *
 * This file knows one zspage; lists of them are fullness.h, who allocates
 * them pool.c.
 */

#ifndef ZMEM_ZSPAGE_H
#define ZMEM_ZSPAGE_H

#include <assert.h>
#include <stdint.h>

#include "pool.h"
#include "side-table.h"

typedef uint32_t zspage_idx;
#define ZSPAGE_NONE UINT32_MAX

struct zspage {
  uint64_t *inuse_bits;         /* side table; owners follow the bits */
  zspage_idx next, prev;        /* in its fullness list, or the free list */
  uint16_t class_idx;
  uint16_t nr_inuse;
  uint16_t first_free_word;
  uint8_t nr_touched;           /* pages, from the low end */
  uint8_t group;
  uint64_t spare;               /* compaction's: isolated, when last moved */
};
static_assert (sizeof (struct zspage) == 32, "two to a cache line");
static_assert (MAX_OBJECTS_PER_ZSPAGE < UINT16_MAX, "nr_inuse fits");
static_assert (ZSPAGE_PAGES <= UINT8_MAX, "nr_touched fits");

static inline owner_t *
zspage_owners (const struct zspage *zspage, const struct size_class *class)
{
  return (owner_t *) (zspage->inuse_bits + side_table_words (class));
}

/* Claim the lowest free slot.  There must be one. */
extern unsigned zspage_claim_slot (struct zspage *zspage,
                                   const struct size_class *class);
/* The slot that zspage_claim_slot would claim. */
extern unsigned zspage_lowest_free (struct zspage *zspage,
                                    const struct size_class *class);
extern void zspage_release_slot (struct zspage *zspage, unsigned slot);

static inline bool
zspage_slot_inuse (const struct zspage *zspage, unsigned slot)
{
  return zspage->inuse_bits[slot / 64] >> (slot % 64) & 1;
}

/* Pages, from the low end, that must be resident for this slot. */
static inline unsigned
zspage_pages_for_slot (const struct size_class *class, unsigned slot)
{
  return ((size_t) (slot + 1) * class->object_bytes + PAGE_BYTES - 1)
    / PAGE_BYTES;
}

#endif /* ZMEM_ZSPAGE_H */
