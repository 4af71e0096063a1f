/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Doubly linked lists of zspages by index; see fullness.h.
 */

#include <config.h>

#include <string.h>

#include "fullness.h"

void
fullness_init (struct fullness_lists *lists)
{
  memset (lists, 0, sizeof *lists);
  for (unsigned l = 0; l < NR_FULLNESS_LISTS; l++)
    lists->head[l] = ZSPAGE_NONE;
}

void
fullness_insert (struct fullness_lists *lists, struct zspage *zspages,
                 zspage_idx idx, const struct size_class *class)
{
  struct zspage *zspage = &zspages[idx];

  zspage->group = fullness_group (zspage->nr_inuse, class->nr_objects);
  const unsigned list = fullness_list (zspage);
  const zspage_idx head = lists->head[list];

  if (head == ZSPAGE_NONE)
    zspage->next = zspage->prev = idx;
  else {
    zspage->next = head;
    zspage->prev = zspages[head].prev;
    zspages[zspage->prev].next = idx;
    zspages[head].prev = idx;
  }
  lists->head[list] = idx;
  lists->length[list]++;
  lists->nr_zspages[zspage->group]++;
}

void
fullness_remove (struct fullness_lists *lists, struct zspage *zspages,
                 zspage_idx idx)
{
  const struct zspage *zspage = &zspages[idx];
  const unsigned list = fullness_list (zspage);

  zspages[zspage->next].prev = zspage->prev;
  zspages[zspage->prev].next = zspage->next;
  if (lists->head[list] == idx)
    lists->head[list] = zspage->next == idx ? ZSPAGE_NONE : zspage->next;
  lists->length[list]--;
  lists->nr_zspages[zspage->group]--;
}

void
fullness_rotate (struct fullness_lists *lists, struct zspage *zspages,
                 unsigned list)
{
  if (lists->head[list] != ZSPAGE_NONE)
    lists->head[list] = zspages[lists->head[list]].next;
}

void
fullness_set_holed (struct fullness_lists *lists, struct zspage *zspages,
                    zspage_idx idx, const struct size_class *class, bool holed)
{
  fullness_remove (lists, zspages, idx);
  zspages[idx].holed = holed;
  fullness_insert (lists, zspages, idx, class);
}

void
fullness_update (struct fullness_lists *lists, struct zspage *zspages,
                 zspage_idx idx, const struct size_class *class)
{
  const struct zspage *zspage = &zspages[idx];

  if (fullness_group (zspage->nr_inuse, class->nr_objects) != zspage->group) {
    fullness_remove (lists, zspages, idx);
    fullness_insert (lists, zspages, idx, class);
  }
}

zspage_idx
fullness_fullest_with_room (const struct fullness_lists *lists)
{
  for (int g = FULLNESS_FULL - 1; g >= 0; g--)
    if (lists->head[g] != ZSPAGE_NONE)
      return lists->head[g];
  return lists->head[FULLNESS_HOLED];
}
