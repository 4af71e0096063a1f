/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Fullness groups: the zspages of a class in lists by how full they are.
 *
 * Allocation takes from the fullest that has room, so that the emptiest
 * have a chance to become empty (and the compactor little to do).  The lists
 * are circular: the head's prev is the tail.
 *
 * One more list is of holed zspages: each of their free slots reaches into a
 * page that is not resident (any more, or yet).  Who looks for a slot that
 * needs no page, and has seen that, puts them there (fullness_set_holed), and
 * so passes each of them once; allocation takes them last.  A zspage leaves it
 * when a slot is freed or pages are populated.
 * Guard: the class's lock.
 */

#ifndef ZMEM_FULLNESS_H
#define ZMEM_FULLNESS_H

#include "zspage.h"

#define FULLNESS_FULL (NR_FULLNESS_GROUPS - 1)

#define FULLNESS_HOLED NR_FULLNESS_GROUPS
#define NR_FULLNESS_LISTS (NR_FULLNESS_GROUPS + 1)

struct fullness_lists {
  zspage_idx head[NR_FULLNESS_LISTS];
  uint32_t length[NR_FULLNESS_LISTS];
  uint32_t nr_zspages[NR_FULLNESS_GROUPS]; /* by group, holed or not */
};

static inline unsigned
fullness_list (const struct zspage *zspage)
{
  return zspage->holed ? FULLNESS_HOLED : zspage->group;
}

static inline unsigned
fullness_group (unsigned nr_inuse, unsigned nr_objects)
{
  assert (nr_inuse >= 1 && nr_inuse <= nr_objects);
  if (nr_inuse == nr_objects)
    return FULLNESS_FULL;
  return (nr_inuse * 8 - 1) / nr_objects;
}

extern void fullness_init (struct fullness_lists *lists);
/* Put a zspage into the list of its nr_inuse (or the holed ones'), and take it
 * out again.
 */
extern void fullness_insert (struct fullness_lists *lists,
                             struct zspage *zspages, zspage_idx idx,
                             const struct size_class *class);
extern void fullness_remove (struct fullness_lists *lists,
                             struct zspage *zspages, zspage_idx idx);
/* Make the head of the list its tail. */
extern void fullness_rotate (struct fullness_lists *lists,
                             struct zspage *zspages, unsigned list);
/* It is a holed one, or is none any more. */
extern void fullness_set_holed (struct fullness_lists *lists,
                                struct zspage *zspages, zspage_idx idx,
                                const struct size_class *class, bool holed);
/* nr_inuse changed: move it if its group did. */
extern void fullness_update (struct fullness_lists *lists,
                             struct zspage *zspages, zspage_idx idx,
                             const struct size_class *class);
/* The zspage after `idx` in its list; ZSPAGE_NONE: it is the last. */
static inline zspage_idx
fullness_next (const struct fullness_lists *lists, const struct zspage *zspages,
               zspage_idx idx)
{
  const zspage_idx next = zspages[idx].next;

  return next == lists->head[fullness_list (&zspages[idx])] ? ZSPAGE_NONE
                                                            : next;
}

/* The fullest zspage that has room, or ZSPAGE_NONE. */
extern zspage_idx fullness_fullest_with_room (const struct fullness_lists *);

#endif /* ZMEM_FULLNESS_H */
