/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Zspages that belong to no class: released ones, whose pages are purged,
 * spare ones, which have theirs, and primed ones, which have the first few;
 * see pool.h.
 *
 * The free lock guards the lists and no more: a zspage that was taken out of
 * them is the taker's, who purges it, or gives it to a class, with no lock of
 * the lists held.
 */

#include <config.h>

#include <errno.h>

#include "pool-private.h"

/* Take the head of a list; ZSPAGE_NONE: it is empty. */
static zspage_idx
pop_locked (struct pool *pool, zspage_idx *head)
{
  const zspage_idx idx = *head;

  if (idx != ZSPAGE_NONE)
    *head = pool_zspage (pool, idx)->next;
  return idx;
}

static void
push_locked (struct pool *pool, zspage_idx *head, zspage_idx idx)
{
  pool_zspage (pool, idx)->next = *head;
  *head = idx;
}

static zspage_idx
pop_spare_locked (struct pool *pool)
{
  const zspage_idx idx = pop_locked (pool, &pool->spare_head);

  if (idx != ZSPAGE_NONE) {
    pool->nr_spare--;
    atomic_fetch_sub (&pool->spare_bytes,
                      zspage_nr_resident (pool_zspage (pool, idx)) *
                        PAGE_BYTES);
  }
  return idx;
}

static zspage_idx
pop_primed_locked (struct pool *pool)
{
  const zspage_idx idx = pop_locked (pool, &pool->primed_head);

  if (idx != ZSPAGE_NONE) {
    pool->nr_primed--;
    atomic_fetch_sub (&pool->primed_bytes,
                      zspage_nr_resident (pool_zspage (pool, idx)) *
                        PAGE_BYTES);
    pool_ask_for_refill (pool);
  }
  return idx;
}

/* A released one, or of the untouched rest. */
static int
take_blank_locked (struct pool *pool, zspage_idx *ret)
{
  *ret = pop_locked (pool, &pool->free_head);
  if (*ret != ZSPAGE_NONE)
    return 0;
  if (pool->nr_bumped == pool->nr_zspages)
    return -ENOSPC;
  const int r =
    grown_array_touch (pool->pages, &pool->zspages, pool->nr_bumped);
  if (r < 0)
    return r;
  *ret = pool->nr_bumped++;
  pool_zspage (pool, *ret)->resident = 0;
  return 0;
}

int
pool_take_blank_zspage (struct pool *pool, zspage_idx *ret)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  return take_blank_locked (pool, ret);
}

int
pool_take_free_zspage (struct pool *pool, bool resident, zspage_idx *ret)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  *ret = pop_spare_locked (pool);
  if (*ret == ZSPAGE_NONE)
    *ret = pop_primed_locked (pool);
  if (*ret != ZSPAGE_NONE)
    return 0;
  return resident ? -ENOSPC : take_blank_locked (pool, ret);
}

void
pool_put_free_zspage (struct pool *pool, zspage_idx idx)
{
  const unsigned nr = zspage_nr_resident (pool_zspage (pool, idx));

  LOCK_FOR_SCOPE (&pool->free_lock);
  if (nr == 0) {
    push_locked (pool, &pool->free_head, idx);
    return;
  }
  push_locked (pool, &pool->spare_head, idx);
  pool->nr_spare++;
  atomic_fetch_add (&pool->spare_bytes, nr * PAGE_BYTES);
}

void
pool_put_primed_zspage (struct pool *pool, zspage_idx idx)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  push_locked (pool, &pool->primed_head, idx);
  pool->nr_primed++;
  atomic_fetch_add (&pool->primed_bytes,
                    zspage_nr_resident (pool_zspage (pool, idx)) * PAGE_BYTES);
}

zspage_idx
pool_nr_primed (struct pool *pool)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  return pool->nr_primed;
}

uint64_t
pool_purge_pages (struct pool *pool, zspage_idx idx, uint64_t page_mask)
{
  uint64_t purged = 0;

  while (page_mask != 0) {
    const unsigned first = __builtin_ctzll (page_mask);
    const uint64_t above = ~(page_mask >> first);
    const unsigned nr = above == 0 ? 64 : __builtin_ctzll (above);
    const uint64_t run = page_bits (first, first + nr);

    if (pages_purge (pool->pages,
                     (char *) zspage_address (pool, idx) + first * PAGE_BYTES,
                     nr * PAGE_BYTES) == 0)
      purged |= run;
    page_mask &= ~run;
  }
  atomic_fetch_sub (&pool->resident_bytes,
                    __builtin_popcountll (purged) * PAGE_BYTES);
  return purged;
}

static uint64_t
purge_free_zspage (struct pool *pool, zspage_idx idx)
{
  struct zspage *zspage = pool_zspage (pool, idx);
  const uint64_t purged = pool_purge_pages (pool, idx, zspage->resident);

  zspage->resident &= ~purged;
  pool_put_free_zspage (pool, idx);
  return __builtin_popcountll (purged) * PAGE_BYTES;
}

void
pool_set_spare_max (struct pool *pool, unsigned nr_zspages)
{
  atomic_store (&pool->max_spare, nr_zspages);
}

static zspage_idx
take_spare_beyond (struct pool *pool, unsigned keep)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  return pool->nr_spare > keep ? pop_spare_locked (pool) : ZSPAGE_NONE;
}

uint64_t
pool_purge_one_spare (struct pool *pool, unsigned keep)
{
  const zspage_idx idx = take_spare_beyond (pool, keep);

  return idx == ZSPAGE_NONE ? 0 : purge_free_zspage (pool, idx);
}

static zspage_idx
take_primed (struct pool *pool)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  return pop_primed_locked (pool);
}

uint64_t
pool_purge_one_primed (struct pool *pool)
{
  const zspage_idx idx = take_primed (pool);

  return idx == ZSPAGE_NONE ? 0 : purge_free_zspage (pool, idx);
}

uint64_t
pool_purge_one_unused (struct pool *pool)
{
  const uint64_t purged = pool_purge_one_spare (pool, 0);

  return purged > 0 ? purged : pool_purge_one_primed (pool);
}

uint64_t
pool_purge_spare (struct pool *pool, unsigned keep)
{
  uint64_t bytes = 0, purged;

  /* None is purged, too, where the system would not take the pages. */
  do {
    purged = pool_purge_one_spare (pool, keep);
    bytes += purged;
  } while (purged > 0);
  return bytes;
}

uint64_t
pool_retire_zspage (struct pool *pool, zspage_idx idx, bool keep_pages)
{
  struct zspage *zspage = pool_zspage (pool, idx);
  const struct size_class *class = &pool->table->classes[zspage->class_idx];

  atomic_fetch_sub (&pool->nr_inuse_zspages, 1);
  atomic_fetch_add (&pool->nr_released, 1);
  side_table_free (&pool->side_tables, side_table_bytes (class),
                   zspage->inuse_bits);
  zspage->inuse_bits = NULL;
  /* What comes begins with its first page.  How many there are is read
   * without their lock: one too many is kept, or one too few.
   */
  if (keep_pages && (zspage->resident & 1) != 0 &&
      atomic_load_explicit (&pool->spare_bytes, memory_order_relaxed) <
        (uint64_t) atomic_load_explicit (&pool->max_spare,
                                         memory_order_relaxed) *
          ZSPAGE_BYTES) {
    pool_put_free_zspage (pool, idx);
    return 0;
  }
  return purge_free_zspage (pool, idx);
}
