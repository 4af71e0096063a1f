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

  const unsigned slot =
    word * 64 + __builtin_ctzll (~zspage->inuse_bits[word]);
  assert (slot < class->nr_objects);
  (void) class;
  return slot;
}

unsigned
zspage_claim_slot (struct zspage *zspage, const struct size_class *class)
{
  const unsigned slot = zspage_lowest_free (zspage, class);

  zspage->inuse_bits[slot / 64] |= UINT64_C (1) << (slot % 64);
  zspage->nr_inuse++;
  return slot;
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
