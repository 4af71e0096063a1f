/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A zspage: ZSPAGE_BYTES of the arena, cut into equal slots of one class.
 *
 *     |slot 0|slot 1|... |slot n-1|waste|
 *     |r|r|r| | |r|r|r|r| | | | | | | | |     a bit a page: resident
 *
 * It fills from its low end, so the pages of its untouched tail are not
 * resident; nor are those that compaction has purged in place.
 *
 * Invariants, while the zspage belongs to a class:
 *     nr_inuse == number of set bits of its side table, >= 1 but for a
 *     source of compaction
 *     every slot in use lies within resident pages
 *     no free slot below word first_free_word of the bits
 *     group == fullness_group (nr_inuse, nr_objects), but for a source,
 *     which is in no list
 *     holed: no free slot lies in resident pages
 *     growing: the reserve makes pages of it resident, with no lock held
 * A zspage that belongs to no class is in one of the pool's three lists of
 * free ones.
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
  uint64_t *inuse_bits;  /* side table; owners follow the bits */
  uint64_t resident;     /* pages */
  zspage_idx next, prev; /* in its fullness list, or a free list */
  uint16_t class_idx;
  uint16_t nr_inuse;
  uint16_t first_free_word;
  uint8_t group;
  bool isolated : 1; /* a source of compaction: in no list */
  bool holed : 1;    /* in the list of those without a free slot in
                                   resident pages; see fullness.h */
  bool growing : 1;  /* nobody else populates, isolates or retires
                                   it; see reserve.c */
};
static_assert (sizeof (struct zspage) == 32, "two to a cache line");
static_assert (MAX_OBJECTS_PER_ZSPAGE < UINT16_MAX, "nr_inuse fits");
static_assert (ZSPAGE_PAGES == 64, "a bit a page");

static inline owner_t *
zspage_owners (const struct zspage *zspage, const struct size_class *class)
{
  return (owner_t *) (zspage->inuse_bits + side_table_words (class));
}

/* The lowest free slot.  There must be one. */
extern unsigned zspage_lowest_free (struct zspage *zspage,
                                    const struct size_class *class);
/* The lowest free slot of [first, end) that lies in resident pages; SLOT_NONE.
 */
#define SLOT_NONE UINT32_MAX
extern unsigned zspage_lowest_resident_free (struct zspage *zspage,
                                             const struct size_class *class,
                                             unsigned first, unsigned end);
/* The highest slot in use below `end`; SLOT_NONE. */
extern unsigned zspage_highest_inuse (const struct zspage *zspage,
                                      unsigned end);
/* Claim a slot that is free, and free it again. */
extern void zspage_claim_slot (struct zspage *zspage, unsigned slot);
extern void zspage_release_slot (struct zspage *zspage, unsigned slot);

/* Free slots in resident pages; and of those that touch pages [first, end).
 */
extern unsigned zspage_nr_resident_free (const struct zspage *zspage,
                                         const struct size_class *class);
extern unsigned zspage_nr_resident_free_in (const struct zspage *zspage,
                                            const struct size_class *class,
                                            unsigned first, unsigned end);
/* Resident pages that no slot in use touches. */
extern uint64_t zspage_free_pages (const struct zspage *zspage,
                                   const struct size_class *class);
static inline bool
zspage_slot_inuse (const struct zspage *zspage, unsigned slot)
{
  return zspage->inuse_bits[slot / 64] >> (slot % 64) & 1;
}

static inline unsigned
zspage_nr_resident (const struct zspage *zspage)
{
  return __builtin_popcountll (zspage->resident);
}

/* The pages [first, end) as bits; end > first. */
static inline uint64_t
page_bits (unsigned first, unsigned end)
{
  return (UINT64_MAX >> (ZSPAGE_PAGES - (end - first))) << first;
}

/* The pages that a slot lies in. */
static inline uint64_t
slot_page_bits (const struct size_class *class, unsigned slot)
{
  const size_t start = (size_t) slot * class->object_bytes;

  return page_bits (start / PAGE_BYTES,
                    (start + class->object_bytes - 1) / PAGE_BYTES + 1);
}

static inline bool
zspage_slot_resident (const struct zspage *zspage,
                      const struct size_class *class, unsigned slot)
{
  return (slot_page_bits (class, slot) & ~zspage->resident) == 0;
}

/* Pages that so many objects fill, packed from the low end. */
static inline unsigned
packed_pages (const struct size_class *class, unsigned nr_objects)
{
  return ((size_t) nr_objects * class->object_bytes + PAGE_BYTES - 1) /
         PAGE_BYTES;
}

#endif /* ZMEM_ZSPAGE_H */
