/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Validators: what the heads of zspage.h and fullness.h claim, recounted.
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "pool-check.h"
#include "pool-private.h"

struct checker {
  struct pool *pool;
  char *error;
  size_t error_bytes;
  uint64_t nr_zspages;
  uint64_t nr_resident_pages;
};

static int __attribute__ ((format (printf, 2, 3)))
fail (struct checker *checker, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (checker->error, checker->error_bytes, fmt, args);
  va_end (args);
  return -EIO;
}

static int
check_zspage (struct checker *checker, zspage_idx idx, unsigned class_idx,
              unsigned list)
{
  const struct zspage *zspage = pool_zspage (checker->pool, idx);
  const struct size_class *class = &checker->pool->table->classes[class_idx];
  unsigned nr_inuse = 0;

  if (zspage->class_idx != class_idx || fullness_list (zspage) != list ||
      zspage->isolated || zspage->growing)
    return fail (checker, "zspage %u: class %u group %u in the list of %u %u",
                 idx, zspage->class_idx, zspage->group, class_idx, list);
  if (zspage->holed && zspage_nr_resident_free (zspage, class) > 0)
    return fail (checker, "zspage %u: has resident free slots, but is holed",
                 idx);
  for (unsigned slot = 0; slot < side_table_words (class) * 64; slot++) {
    if (!zspage_slot_inuse (zspage, slot))
      continue;
    nr_inuse++;
    if (slot >= class->nr_objects ||
        !zspage_slot_resident (zspage, class, slot))
      return fail (checker, "zspage %u: slot %u in use is not in its pages",
                   idx, slot);
  }
  if (nr_inuse != zspage->nr_inuse || nr_inuse == 0)
    return fail (checker, "zspage %u: %u slots in use, it says %u", idx,
                 nr_inuse, zspage->nr_inuse);
  if (fullness_group (nr_inuse, class->nr_objects) != zspage->group)
    return fail (checker, "zspage %u: %u in use of %u is not group %u", idx,
                 nr_inuse, class->nr_objects, zspage->group);
  for (unsigned word = 0; word < zspage->first_free_word; word++)
    if (zspage->inuse_bits[word] != UINT64_MAX)
      return fail (checker, "zspage %u: free slot below word %u", idx,
                   zspage->first_free_word);
  return 0;
}

static int
check_class (struct checker *checker, unsigned class_idx)
{
  const struct class_state *state = &checker->pool->classes[class_idx];
  uint64_t nr_inuse = 0, nr_resident = 0, nr_resident_free = 0;
  uint32_t nr_by_group[NR_FULLNESS_GROUPS] = { 0 };

  for (unsigned l = 0; l < NR_FULLNESS_LISTS; l++) {
    uint32_t nr = 0;
    const zspage_idx head = state->lists.head[l];
    zspage_idx prev = head == ZSPAGE_NONE
                        ? ZSPAGE_NONE
                        : pool_zspage (checker->pool, head)->prev;

    for (zspage_idx idx = head; idx != ZSPAGE_NONE;
         idx =
           fullness_next (&state->lists, checker->pool->zspages.base, idx)) {
      const struct zspage *zspage = pool_zspage (checker->pool, idx);
      const int r = check_zspage (checker, idx, class_idx, l);

      if (r < 0)
        return r;
      if (zspage->prev != prev)
        return fail (checker, "zspage %u: its prev is %u, not %u", idx,
                     zspage->prev, prev);
      prev = idx;
      nr++;
      nr_by_group[zspage->group]++;
      nr_inuse += zspage->nr_inuse;
      nr_resident += zspage_nr_resident (zspage);
      nr_resident_free +=
        zspage_nr_resident_free (zspage,
                                 &checker->pool->table->classes[class_idx]);
    }
    if (nr != state->lists.length[l])
      return fail (checker, "class %u list %u: %u zspages, it says %u",
                   class_idx, l, nr, state->lists.length[l]);
    checker->nr_zspages += nr;
  }
  for (unsigned g = 0; g < NR_FULLNESS_GROUPS; g++)
    if (nr_by_group[g] != state->lists.nr_zspages[g])
      return fail (checker, "class %u group %u: %u zspages, it says %u",
                   class_idx, g, nr_by_group[g], state->lists.nr_zspages[g]);
  if (nr_inuse != state->nr_inuse || nr_resident != state->nr_resident_pages)
    return fail (checker,
                 "class %u: %lu objects in %lu pages, it says %lu "
                 "in %lu",
                 class_idx, (unsigned long) nr_inuse,
                 (unsigned long) nr_resident, (unsigned long) state->nr_inuse,
                 (unsigned long) state->nr_resident_pages);
  if (nr_resident_free != state->nr_resident_free)
    return fail (checker, "class %u: %lu resident free slots, it says %lu",
                 class_idx, (unsigned long) nr_resident_free,
                 (unsigned long) state->nr_resident_free);
  if (state->nr_isolated != 0)
    return fail (checker, "class %u: %u zspages are isolated", class_idx,
                 state->nr_isolated);
  checker->nr_resident_pages += nr_resident;
  return 0;
}

/* The zspages of a list of free ones, and the pages that they have. */
static uint64_t
count_list (const struct pool *pool, zspage_idx head, uint64_t *nr_pages)
{
  uint64_t nr = 0;

  *nr_pages = 0;
  for (zspage_idx idx = head; idx != ZSPAGE_NONE;
       idx = pool_zspage (pool, idx)->next) {
    nr++;
    *nr_pages += zspage_nr_resident (pool_zspage (pool, idx));
  }
  return nr;
}

int
pool_check (struct pool *pool, char *error, size_t error_bytes)
{
  struct checker checker = {
    .pool = pool,
    .error = error,
    .error_bytes = error_bytes,
  };
  uint64_t nr_free = 0, nr_spare, spare_pages, nr_primed, primed_pages;

  for (unsigned i = 0; i < pool->table->nr_classes; i++) {
    const int r = check_class (&checker, i);

    if (r < 0)
      return r;
  }
  for (zspage_idx idx = pool->free_head; idx != ZSPAGE_NONE;
       idx = pool_zspage (pool, idx)->next) {
    nr_free++;
    if (pool_zspage (pool, idx)->resident != 0)
      return fail (&checker, "zspage %u is free and has pages", idx);
  }
  nr_spare = count_list (pool, pool->spare_head, &spare_pages);
  nr_primed = count_list (pool, pool->primed_head, &primed_pages);
  if (nr_spare != pool->nr_spare ||
      spare_pages * PAGE_BYTES != atomic_load (&pool->spare_bytes))
    return fail (&checker,
                 "%lu spare zspages of %lu pages, it says %u of "
                 "%lu bytes",
                 (unsigned long) nr_spare, (unsigned long) spare_pages,
                 pool->nr_spare,
                 (unsigned long) atomic_load (&pool->spare_bytes));
  if (nr_primed != pool->nr_primed ||
      primed_pages * PAGE_BYTES != atomic_load (&pool->primed_bytes))
    return fail (&checker,
                 "%lu primed zspages of %lu pages, it says %u of "
                 "%lu bytes",
                 (unsigned long) nr_primed, (unsigned long) primed_pages,
                 pool->nr_primed,
                 (unsigned long) atomic_load (&pool->primed_bytes));
  checker.nr_resident_pages += spare_pages + primed_pages;
  nr_free += nr_spare + nr_primed;
  if (checker.nr_zspages + nr_free != pool->nr_bumped ||
      checker.nr_zspages != atomic_load (&pool->nr_inuse_zspages))
    return fail (&checker, "%lu zspages in lists and %lu free, of %u used",
                 (unsigned long) checker.nr_zspages, (unsigned long) nr_free,
                 pool->nr_bumped);
  if (checker.nr_resident_pages * PAGE_BYTES !=
      atomic_load (&pool->resident_bytes))
    return fail (&checker, "%lu resident pages, resident_bytes says %lu",
                 (unsigned long) checker.nr_resident_pages,
                 (unsigned long) atomic_load (&pool->resident_bytes));
  return 0;
}
