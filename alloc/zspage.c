/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Slots of one zspage; see zspage.h.
 *
 * The lowest free slot is always the one claimed: the untouched tail stays
 * untouched, and what is in use gathers at the low end.
 */

#include <config.h>

#include "zspage.h"

unsigned
zspage_lowest_free (struct zspage *zspage, const struct size_class *class)
{
  unsigned word = zspage->first_free_word;

  assert (zspage->nr_inuse < class->nr_objects);
  while (zspage->inuse_bits[word] == UINT64_MAX)
    word++;
  zspage->first_free_word = word;

  const unsigned slot = word * 64 + __builtin_ctzll (~zspage->inuse_bits[word]);
  assert (slot < class->nr_objects);
  (void) class;
  return slot;
}

unsigned
zspage_lowest_resident_free (struct zspage *zspage,
                             const struct size_class *class, unsigned first,
                             unsigned end)
{
  if (zspage->nr_inuse == class->nr_objects)
    return SLOT_NONE;
  const unsigned lowest = zspage_lowest_free (zspage, class);

  for (unsigned slot = first > lowest ? first : lowest; slot < end; slot++)
    if (!zspage_slot_inuse (zspage, slot) &&
        zspage_slot_resident (zspage, class, slot))
      return slot;
  return SLOT_NONE;
}

unsigned
zspage_highest_inuse (const struct zspage *zspage, unsigned end)
{
  while (end > 0) {
    const unsigned word = (end - 1) / 64, nr_bits = (end - 1) % 64 + 1;
    const uint64_t bits =
      zspage->inuse_bits[word] & (UINT64_MAX >> (64 - nr_bits));

    if (bits != 0)
      return word * 64 + 63 - __builtin_clzll (bits);
    end = word * 64;
  }
  return SLOT_NONE;
}

void
zspage_claim_slot (struct zspage *zspage, unsigned slot)
{
  assert (!zspage_slot_inuse (zspage, slot));
  zspage->inuse_bits[slot / 64] |= UINT64_C (1) << (slot % 64);
  zspage->nr_inuse++;
}

void
zspage_release_slot (struct zspage *zspage, unsigned slot)
{
  assert (zspage_slot_inuse (zspage, slot));
  zspage->inuse_bits[slot / 64] &= ~(UINT64_C (1) << (slot % 64));
  zspage->nr_inuse--;
  if (slot / 64 < zspage->first_free_word)
    zspage->first_free_word = slot / 64;
}

/* The slots that touch pages [*first, *end), as [*first, *end). */
static void
pages_to_slots (const struct size_class *class, unsigned *first, unsigned *end)
{
  *first = size_class_slot (class, *first * PAGE_BYTES);
  *end = size_class_slot (class, *end * PAGE_BYTES - 1) + 1;
  if (*end > class->nr_objects)
    *end = class->nr_objects;
}

unsigned
zspage_nr_resident_free_in (const struct zspage *zspage,
                            const struct size_class *class, unsigned first,
                            unsigned end)
{
  unsigned nr = 0;

  pages_to_slots (class, &first, &end);
  for (unsigned slot = first; slot < end; slot++)
    nr += !zspage_slot_inuse (zspage, slot) &&
          zspage_slot_resident (zspage, class, slot);
  return nr;
}

unsigned
zspage_nr_resident_free (const struct zspage *zspage,
                         const struct size_class *class)
{
  if (zspage->resident == UINT64_MAX)
    return class->nr_objects - zspage->nr_inuse;
  return zspage_nr_resident_free_in (zspage, class, 0, ZSPAGE_PAGES);
}

/* Is any of the slots [first, end) in use? */
static bool
any_inuse (const struct zspage *zspage, unsigned first, unsigned end)
{
  for (unsigned word = first / 64; word <= (end - 1) / 64; word++) {
    uint64_t bits = zspage->inuse_bits[word];

    if (word == first / 64)
      bits &= UINT64_MAX << (first % 64);
    if (word == (end - 1) / 64)
      bits &= UINT64_MAX >> (63 - (end - 1) % 64);
    if (bits != 0)
      return true;
  }
  return false;
}

uint64_t
zspage_free_pages (const struct zspage *zspage, const struct size_class *class)
{
  uint64_t pages = 0;

  for (unsigned page = 0; page < ZSPAGE_PAGES; page++) {
    unsigned first = page, end = page + 1;

    pages_to_slots (class, &first, &end);
    if (first >= end || !any_inuse (zspage, first, end))
      pages |= UINT64_C (1) << page;
  }
  return pages & zspage->resident;
}
