/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The reserve: what is resident before it is needed; see pool.h.
 *
 *     a class that has objects    class_ahead_bytes of free slots in
 *                                 resident pages: steady growth
 *     primed zspages              their first pages resident, of no class:
 *                                 bursts, and classes that are new
 *     side tables                 pages for those of zspages to come
 *
 * A server that is asked to store what a machine swaps out cannot wait for
 * memory of that machine.  Who writes takes what is there; the worker fills
 * it up, and should the system let it wait for a page, it waits alone: pages
 * are populated with no lock held.  A zspage whose pages come is `growing`
 * meanwhile: objects are allocated and freed in the pages that it has, but
 * nobody else populates, isolates or retires it.
 *
 * The compactor moves objects to what is ready, too, and takes a zspage with
 * free slots away for a time; then it asks for a refill, and until that has
 * come the class may take primed zspages though several of its own have room.
 *
 * Tried and dropped: whole zspages of 256 KiB as the reserve, half of one
 * for each of 190 classes being 24 MiB of resident slack, a quarter of what
 * a guest of 218 MiB swapped out.
 */

#include <config.h>

#include <errno.h>

#include "pool-private.h"

#define PRIMED_PAGES AHEAD_MIN_PAGES

/* A page of side tables for so many primed zspages: up to 15 share a page,
 * those of objects below 530 bytes have one and more each.
 */
#define PRIMED_PER_TABLE_PAGE 2

/* How many zspages of a list to look at, with the class locked, for one that
 * lacks pages.
 */
#define GROWTH_LOOKS 32

void
pool_set_reserve (struct pool *pool, uint64_t bytes)
{
  const uint64_t nr = bytes / (PRIMED_PAGES * PAGE_BYTES);

  pool->max_primed =
    nr < pool->nr_zspages / 2 ? (zspage_idx) nr : pool->nr_zspages / 2;
  side_tables_set_reserve (&pool->side_tables,
                           pool->max_primed / PRIMED_PER_TABLE_PAGE);
  atomic_store (&pool->wants_refill, pool_has_reserve (pool));
}

bool
pool_wants_refill (const struct pool *pool)
{
  return atomic_load (&pool->wants_refill);
}

bool
pool_is_refilled (const struct pool *pool)
{
  /* In this order: a refill sets the one before it clears the other. */
  return !atomic_load (&pool->wants_refill) &&
         !atomic_load (&pool->is_refilling);
}

/* Pages [first, end) of a zspage that are to come. */
struct growth {
  zspage_idx zspage;
  unsigned first, end;
};

/* The fullest zspage that lacks pages, as far as a short look tells. */
static zspage_idx
find_growing_locked (struct pool *pool, const struct class_state *state)
{
  const struct zspage *zspages = pool->zspages.base;

  ASSERT_LOCKED (&state->lock);
  /* What was looked at in vain is among the holed ones. */
  for (int list = FULLNESS_HOLED; list >= 0; list--) {
    zspage_idx idx =
      list == FULLNESS_FULL ? ZSPAGE_NONE : state->lists.head[list];

    for (unsigned nr = 0; idx != ZSPAGE_NONE && nr < GROWTH_LOOKS; nr++) {
      if (zspages[idx].resident != UINT64_MAX)
        return idx;
      idx = fullness_next (&state->lists, zspages, idx);
    }
  }
  return ZSPAGE_NONE;
}

/* What the class lacks, in the zspage that would be allocated from next.
 * False: nothing, or there is none that lacks pages.
 */
static bool
begin_growth (struct pool *pool, unsigned class_idx, struct growth *ret)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];

  LOCK_FOR_SCOPE (&state->lock);
  const uint64_t wanted = class_ahead_bytes (state);
  const uint64_t ready = state->nr_resident_free * class->object_bytes;
  if (ready >= wanted) {
    state->nr_owed = 0;
    return false;
  }
  ret->zspage = find_growing_locked (pool, state);
  if (ret->zspage == ZSPAGE_NONE) {
    state->grown_out = true;
    return false;
  }
  struct zspage *zspage = pool_zspage (pool, ret->zspage);
  ret->first = __builtin_ctzll (~zspage->resident);
  ret->end = ret->first;
  while (ret->end < ZSPAGE_PAGES && !(zspage->resident >> ret->end & 1) &&
         (ret->end - ret->first) * PAGE_BYTES < wanted - ready)
    ret->end++;
  zspage->growing = true;
  return true;
}

/* The pages are there, or (r < 0) are not. */
static void
end_growth (struct pool *pool, unsigned class_idx, const struct growth *growth,
            int r)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];
  struct zspage *zspage = pool_zspage (pool, growth->zspage);
  const unsigned nr = growth->end - growth->first;
  bool emptied;

  lock_acquire (&state->lock);
  zspage->growing = false;
  emptied = zspage->nr_inuse == 0;
  if (r == 0) {
    if (!emptied)
      state->nr_resident_free -=
        zspage_nr_resident_free_in (zspage, class, growth->first, growth->end);
    zspage->resident |= page_bits (growth->first, growth->end);
    atomic_fetch_add (&pool->resident_bytes, nr * PAGE_BYTES);
  }
  if (r == 0 && !emptied) {
    state->nr_resident_free +=
      zspage_nr_resident_free_in (zspage, class, growth->first, growth->end);
    state->nr_resident_pages += nr;
    if (zspage->holed)
      fullness_set_holed (&state->lists, pool->zspages.base, growth->zspage,
                          class, false);
  }
  lock_release (&state->lock);
  if (emptied)
    pool_retire_zspage (pool, growth->zspage, true);
}

/* What a zspage lacks may be less than what the class does.  Who allocates
 * as fast as this grows is not waited for.
 */
static int
grow_class (struct pool *pool, unsigned class_idx, uint64_t ceiling_bytes)
{
  unsigned nr_pages = 0;
  struct growth growth;
  int r = 0;

  while (r == 0 && nr_pages < 2 * AHEAD_MAX_PAGES &&
         begin_growth (pool, class_idx, &growth)) {
    nr_pages += growth.end - growth.first;
    r = pages_populate_below (pool->pages, ceiling_bytes,
                              (char *) zspage_address (pool, growth.zspage) +
                                growth.first * PAGE_BYTES,
                              (growth.end - growth.first) * PAGE_BYTES);
    end_growth (pool, class_idx, &growth, r);
  }
  return r;
}

/* A zspage of no class, with its first pages. */
static int
prime_zspage (struct pool *pool, uint64_t ceiling_bytes)
{
  const size_t bytes = PRIMED_PAGES * PAGE_BYTES;
  zspage_idx idx;
  int r = pool_take_blank_zspage (pool, &idx);

  if (r < 0)
    return r;
  r = pages_populate_below (pool->pages, ceiling_bytes,
                            zspage_address (pool, idx), bytes);
  if (r < 0) {
    pool_put_free_zspage (pool, idx);
    return r;
  }
  pool_zspage (pool, idx)->resident = page_bits (0, PRIMED_PAGES);
  atomic_fetch_add (&pool->resident_bytes, bytes);
  pool_put_primed_zspage (pool, idx);
  return 0;
}

int
pool_refill (struct pool *pool, uint64_t ceiling_bytes)
{
  int r = 0;

  atomic_store (&pool->is_refilling, true);
  /* What is taken from here on asks for another refill. */
  atomic_store (&pool->wants_refill, false);
  while (r == 0 && pool_nr_primed (pool) < pool->max_primed)
    r = prime_zspage (pool, ceiling_bytes);
  for (unsigned i = 0; r == 0 && i < pool->table->nr_classes; i++)
    r = grow_class (pool, i, ceiling_bytes);
  if (r == 0)
    r = side_tables_refill (&pool->side_tables, ceiling_bytes);
  atomic_store (&pool->is_refilling, false);
  return r;
}
