/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's public calls; see pool.h.
 *
 * An allocation takes one lock, its class's.  What classes share, the list
 * of free zspages and the side tables' pages, is reached once a zspage; the
 * counters of held and resident bytes once a batch of pages.
 *
 * Making pages resident happens under the class's lock: it keeps `touched`
 * exact and a failure simple (nothing was claimed yet), and only growth
 * pays, in batches that are small against what the class already holds
 * (grow_pages).  Purging happens under no lock: a zspage without objects
 * belongs to whoever emptied it.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool-private.h"

/* Touch ahead at most 1/128 of what the class has, so that the slack of a
 * fresh pool stays below 0.4 % (half a batch on average), and at most 128
 * KiB at once.
 */
#define TOUCH_AHEAD_SHIFT 7
#define TOUCH_AHEAD_MAX_PAGES 32

/* A run of the longest kind for every zspage: more than any mix of tables
 * takes at once.  Runs are never joined, so a pool whose sizes keep changing
 * could still use it up; then it has no room, as at the limit.
 */
static uint32_t
side_table_reserve_pages (uint64_t nr_zspages)
{
  const uint64_t pages = nr_zspages * SIDE_TABLE_MAX_PAGES;

  return pages < UINT32_MAX ? pages : UINT32_MAX - 1;
}

static zspage_idx
nr_zspages_of (uint64_t arena_bytes)
{
  if (arena_bytes > ARENA_MAX_BYTES)
    arena_bytes = ARENA_MAX_BYTES;
  return (zspage_idx) ((arena_bytes + ZSPAGE_BYTES - 1) / ZSPAGE_BYTES);
}

uint64_t
pool_address_bytes (uint64_t arena_bytes)
{
  const zspage_idx nr = nr_zspages_of (arena_bytes);

  return nr * (uint64_t) (ZSPAGE_BYTES + sizeof (struct zspage))
    + side_tables_address_bytes (side_table_reserve_pages (nr));
}

size_t
pool_struct_bytes (void)
{
  return sizeof (struct pool);
}

int
pool_create (struct pages *pages, uint64_t arena_bytes, struct pool **ret)
{
  struct pool *pool = aligned_alloc (CACHE_LINE_BYTES, sizeof *pool);
  void *arena;
  int r;

  if (pool == NULL)
    return -ENOMEM;
  memset (pool, 0, sizeof *pool);
  pool->pages = pages;
  pool->table = size_class_table ();
  pool->nr_zspages = nr_zspages_of (arena_bytes);
  pool->arena_bytes = (uint64_t) pool->nr_zspages * ZSPAGE_BYTES;
  pool->free_head = ZSPAGE_NONE;
  lock_init (&pool->free_lock, LOCK_LEAF);
  for (unsigned i = 0; i < pool->table->nr_classes; i++) {
    lock_init (&pool->classes[i].lock, LOCK_CLASS);
    fullness_init (&pool->classes[i].lists);
  }

  r = pages_reserve (pages, pool->arena_bytes, &arena);
  if (r == 0) {
    pool->arena = arena;
    r = grown_array_reserve (pages, &pool->zspages, sizeof (struct zspage),
                             pool->nr_zspages);
  }
  if (r == 0)
    r = side_tables_reserve (&pool->side_tables, pages,
                             side_table_reserve_pages (pool->nr_zspages));
  if (r < 0) {
    pool_destroy (pool);
    return r;
  }
  *ret = pool;
  return 0;
}

int
pool_activate (struct pool *pool)
{
  int r = pages_activate (pool->pages, pool->arena, pool->arena_bytes);

  if (r == 0)
    r = grown_array_activate (pool->pages, &pool->zspages);
  if (r == 0)
    r = side_tables_activate (&pool->side_tables);
  return r;
}

void
pool_destroy (struct pool *pool)
{
  if (pool == NULL)
    return;
  side_tables_release (&pool->side_tables);
  grown_array_release (pool->pages, &pool->zspages);
  if (pool->arena != NULL) {
    pages_uncharge (pool->pages, atomic_load (&pool->resident_bytes));
    pages_release (pool->pages, pool->arena, pool->arena_bytes);
  }
  for (unsigned i = 0; i < pool->table->nr_classes; i++)
    lock_destroy (&pool->classes[i].lock);
  lock_destroy (&pool->free_lock);
  free (pool);
}

static void *
zspage_address (const struct pool *pool, zspage_idx idx)
{
  return pool->arena + (uint64_t) idx * ZSPAGE_BYTES;
}

/* A free zspage, from the released ones or from the untouched rest. */
static int
take_free_zspage (struct pool *pool, zspage_idx *ret)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  if (pool->free_head != ZSPAGE_NONE) {
    *ret = pool->free_head;
    pool->free_head = pool_zspage (pool, pool->free_head)->next;
    return 0;
  }
  if (pool->nr_bumped == pool->nr_zspages)
    return -ENOSPC;
  const int r = grown_array_touch (pool->pages, &pool->zspages,
                                   pool->nr_bumped);
  if (r < 0)
    return r;
  *ret = pool->nr_bumped++;
  pool_zspage (pool, *ret)->nr_touched = 0;
  return 0;
}

static void
put_free_zspage (struct pool *pool, zspage_idx idx)
{
  LOCK_FOR_SCOPE (&pool->free_lock);

  pool_zspage (pool, idx)->next = pool->free_head;
  pool->free_head = idx;
}

/* A zspage for the class, without objects and in none of its lists. */
static int
new_zspage_locked (struct pool *pool, unsigned class_idx, zspage_idx *ret)
{
  const struct size_class *class = &pool->table->classes[class_idx];
  uint64_t *side_table;
  zspage_idx idx;
  int r;

  ASSERT_LOCKED (&pool->classes[class_idx].lock);
  r = take_free_zspage (pool, &idx);
  if (r < 0)
    return r;
  r = side_table_alloc (&pool->side_tables, side_table_bytes (class),
                        &side_table);
  if (r < 0) {
    put_free_zspage (pool, idx);
    return r;
  }

  struct zspage *zspage = pool_zspage (pool, idx);
  zspage->inuse_bits = side_table;
  zspage->class_idx = class_idx;
  zspage->nr_inuse = 0;
  zspage->first_free_word = 0;
  pool->classes[class_idx].nr_touched_pages += zspage->nr_touched;
  *ret = idx;
  return 0;
}

/* Hand back a zspage without objects, which the caller has taken out of its
 * class's lists.  No lock held.
 */
static void
retire_zspage (struct pool *pool, zspage_idx idx)
{
  struct zspage *zspage = pool_zspage (pool, idx);
  const struct size_class *class = &pool->table->classes[zspage->class_idx];
  const size_t bytes = zspage->nr_touched * PAGE_BYTES;

  side_table_free (&pool->side_tables, side_table_bytes (class),
                   zspage->inuse_bits);
  zspage->inuse_bits = NULL;
  /* If the system would not take the pages, the next user of the zspage
   * finds them touched.
   */
  if (bytes > 0 &&
      pages_purge (pool->pages, zspage_address (pool, idx), bytes) == 0) {
    zspage->nr_touched = 0;
    atomic_fetch_sub (&pool->resident_bytes, bytes);
  }
  put_free_zspage (pool, idx);
}

/* Make the zspage's pages resident up to `end_page`. */
static int
populate_zspage_locked (struct pool *pool, struct class_state *state,
                        zspage_idx idx, unsigned end_page)
{
  struct zspage *zspage = pool_zspage (pool, idx);
  char *start = (char *) zspage_address (pool, idx)
    + zspage->nr_touched * PAGE_BYTES;
  const unsigned nr_pages = end_page - zspage->nr_touched;
  const int r = pages_populate (pool->pages, start, nr_pages * PAGE_BYTES);

  ASSERT_LOCKED (&state->lock);
  if (r < 0)
    return r;
  zspage->nr_touched = end_page;
  state->nr_touched_pages += nr_pages;
  atomic_fetch_add (&pool->resident_bytes, nr_pages * PAGE_BYTES);
  return 0;
}

/* Make resident at least `needed` pages of the zspage: a batch, or just
 * what is needed where the limit leaves no more.
 */
static int
grow_pages_locked (struct pool *pool, struct class_state *state,
                   zspage_idx idx, unsigned needed)
{
  const struct zspage *zspage = pool_zspage (pool, idx);
  uint64_t ahead = state->nr_touched_pages >> TOUCH_AHEAD_SHIFT;
  unsigned end;

  if (ahead > TOUCH_AHEAD_MAX_PAGES)
    ahead = TOUCH_AHEAD_MAX_PAGES;
  end = zspage->nr_touched + ahead;
  if (end > ZSPAGE_PAGES)
    end = ZSPAGE_PAGES;
  if (end > needed && populate_zspage_locked (pool, state, idx, end) == 0)
    return 0;
  return populate_zspage_locked (pool, state, idx, needed);
}

/* The fullest zspage with a free slot in pages that are resident already,
 * for when no page can be had.  Only a class's last new zspage can have an
 * untouched tail and no such slot, so the walk is short.
 */
static zspage_idx
find_resident_room_locked (struct pool *pool, unsigned class_idx)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];

  ASSERT_LOCKED (&state->lock);
  for (int g = FULLNESS_FULL - 1; g >= 0; g--)
    for (zspage_idx idx = state->lists.head[g]; idx != ZSPAGE_NONE;
         idx = pool_zspage (pool, idx)->next) {
      struct zspage *zspage = pool_zspage (pool, idx);
      const unsigned slot = zspage_lowest_free (zspage, class);

      if (zspage_pages_for_slot (class, slot) <= zspage->nr_touched)
        return idx;
    }
  return ZSPAGE_NONE;
}

static int
alloc_locked (struct pool *pool, unsigned class_idx, owner_t owner,
              zs_loc *ret, zspage_idx *unused)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];
  struct zspage *zspages = pool->zspages.base;
  zspage_idx idx = fullness_fullest_with_room (&state->lists);
  const bool is_new = idx == ZSPAGE_NONE;
  int r;

  ASSERT_LOCKED (&state->lock);
  if (is_new) {
    r = new_zspage_locked (pool, class_idx, &idx);
    if (r < 0)
      return r;
  }

  struct zspage *zspage = &zspages[idx];
  const unsigned needed =
    zspage_pages_for_slot (class, zspage_lowest_free (zspage, class));
  if (needed > zspage->nr_touched) {
    r = grow_pages_locked (pool, state, idx, needed);
    if (r < 0) {
      if (is_new) {
        state->nr_touched_pages -= zspage->nr_touched;
        *unused = idx;
        return r;
      }
      idx = find_resident_room_locked (pool, class_idx);
      if (idx == ZSPAGE_NONE)
        return r;
      zspage = &zspages[idx];
    }
  }

  const unsigned slot = zspage_claim_slot (zspage, class);
  zspage_owners (zspage, class)[slot] = owner;
  state->nr_inuse++;
  if (is_new) {
    fullness_insert (&state->lists, zspages, idx, class);
    atomic_fetch_add (&pool->nr_inuse_zspages, 1);
  }
  else
    fullness_update (&state->lists, zspages, idx, class);
  *ret = make_loc (idx, slot, class);
  return 0;
}

int
pool_alloc (struct pool *pool, size_t bytes, owner_t owner, zs_loc *ret)
{
  const unsigned class_idx = size_class_of (pool->table, bytes);
  struct lock *lock = &pool->classes[class_idx].lock;
  zspage_idx unused = ZSPAGE_NONE;
  int r;

  lock_acquire (lock);
  r = alloc_locked (pool, class_idx, owner, ret, &unused);
  lock_release (lock);
  if (unused != ZSPAGE_NONE)
    retire_zspage (pool, unused);
  return r;
}

/* Free the slot; true if that emptied the zspage, which then is in no list
 * any more.
 */
static bool
free_locked (struct pool *pool, struct class_state *state, zspage_idx idx,
             size_t offset)
{
  struct zspage *zspages = pool->zspages.base;
  struct zspage *zspage = &zspages[idx];
  const struct size_class *class = &pool->table->classes[zspage->class_idx];

  ASSERT_LOCKED (&state->lock);
  zspage_release_slot (zspage, size_class_slot (class, offset));
  state->nr_inuse--;
  if (zspage->nr_inuse > 0) {
    fullness_update (&state->lists, zspages, idx, class);
    return false;
  }
  fullness_remove (&state->lists, zspages, idx);
  state->nr_touched_pages -= zspage->nr_touched;
  return true;
}

void
pool_free (struct pool *pool, zs_loc loc)
{
  const zspage_idx idx = loc_zspage (loc);
  struct class_state *state =
    &pool->classes[pool_zspage (pool, idx)->class_idx];
  bool emptied;

  lock_acquire (&state->lock);
  emptied = free_locked (pool, state, idx, loc_offset (loc));
  lock_release (&state->lock);
  if (emptied) {
    atomic_fetch_sub (&pool->nr_inuse_zspages, 1);
    atomic_fetch_add (&pool->nr_released, 1);
    retire_zspage (pool, idx);
  }
}

size_t
pool_slot_bytes (const struct pool *pool, zs_loc loc)
{
  const struct zspage *zspage = pool_zspage (pool, loc_zspage (loc));

  return pool->table->classes[zspage->class_idx].object_bytes;
}

owner_t
pool_owner (struct pool *pool, zs_loc loc)
{
  const struct zspage *zspage = pool_zspage (pool, loc_zspage (loc));
  const struct size_class *class = &pool->table->classes[zspage->class_idx];

  LOCK_FOR_SCOPE (&pool->classes[zspage->class_idx].lock);
  return zspage_owners (zspage, class)[size_class_slot (class,
                                                        loc_offset (loc))];
}

static int
iterate_zspage_locked (struct pool *pool, zspage_idx idx, pool_object_fn fn,
                       void *opaque)
{
  const struct zspage *zspage = pool_zspage (pool, idx);
  const struct size_class *class = &pool->table->classes[zspage->class_idx];
  const owner_t *owners = zspage_owners (zspage, class);

  for (unsigned slot = 0; slot < class->nr_objects; slot++) {
    if (!zspage_slot_inuse (zspage, slot))
      continue;
    const int r = fn (opaque, make_loc (idx, slot, class), owners[slot]);
    if (r != 0)
      return r;
  }
  return 0;
}

int
pool_iterate (struct pool *pool, unsigned class_idx, pool_object_fn fn,
              void *opaque)
{
  struct class_state *state = &pool->classes[class_idx];

  LOCK_FOR_SCOPE (&state->lock);
  for (unsigned g = 0; g < NR_FULLNESS_GROUPS; g++)
    for (zspage_idx idx = state->lists.head[g]; idx != ZSPAGE_NONE;
         idx = pool_zspage (pool, idx)->next) {
      const int r = iterate_zspage_locked (pool, idx, fn, opaque);

      if (r != 0)
        return r;
    }
  return 0;
}

unsigned
pool_nr_classes (const struct pool *pool)
{
  return pool->table->nr_classes;
}

void
pool_class_stats (struct pool *pool, unsigned class_idx,
                  struct pool_class_stats *ret)
{
  const struct size_class *class = &pool->table->classes[class_idx];
  struct class_state *state = &pool->classes[class_idx];

  LOCK_FOR_SCOPE (&state->lock);
  memset (ret, 0, sizeof *ret);
  ret->object_bytes = class->object_bytes;
  ret->objects_per_zspage = class->nr_objects;
  ret->nr_inuse = state->nr_inuse;
  ret->resident_bytes = state->nr_touched_pages * PAGE_BYTES;
  for (unsigned g = 0; g < NR_FULLNESS_GROUPS; g++) {
    ret->by_fullness[g] = state->lists.nr_zspages[g];
    ret->nr_zspages += ret->by_fullness[g];
  }
}

void
pool_stats (struct pool *pool, struct pool_stats *ret)
{
  ret->arena_bytes = atomic_load (&pool->resident_bytes);
  ret->nr_zspages = atomic_load (&pool->nr_inuse_zspages);
  ret->nr_zspages_released = atomic_load (&pool->nr_released);
  ret->bookkeeping_bytes = side_tables_resident (&pool->side_tables);
  LOCK_FOR_SCOPE (&pool->free_lock);
  ret->bookkeeping_bytes += pool->zspages.touched_bytes;
}
