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
 * Making pages resident happens under the class's lock: it keeps `resident`
 * exact and a failure simple (nothing was claimed yet), and only growth
 * pays, in batches that are small against what the class already holds
 * (grow_pages).  Purging happens under no lock: a zspage without objects
 * belongs to whoever emptied it, or took it from the spare ones.
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

/* At the limit, how many zspages to look at for a slot that needs no page: in
 * most of them there is one, but in those that were purged in place.
 */
#define FIND_RESIDENT_LOOKS 256

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

  return nr * (uint64_t) (ZSPAGE_BYTES + sizeof (struct zspage)) +
         side_tables_address_bytes (side_table_reserve_pages (nr));
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
  pool->free_head = pool->spare_head = pool->primed_head = ZSPAGE_NONE;
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

/* A zspage for the class, without objects and in none of its lists.
 * `resident`: only one that has pages.
 */
static int
new_zspage_locked (struct pool *pool, unsigned class_idx, bool resident,
                   zspage_idx *ret)
{
  const struct size_class *class = &pool->table->classes[class_idx];
  uint64_t *side_table;
  zspage_idx idx;
  int r;

  ASSERT_LOCKED (&pool->classes[class_idx].lock);
  r = pool_take_free_zspage (pool, resident, &idx);
  if (r < 0)
    return r;
  r = side_table_alloc (&pool->side_tables, side_table_bytes (class),
                        &side_table);
  if (r < 0) {
    pool_put_free_zspage (pool, idx);
    return r;
  }

  struct zspage *zspage = pool_zspage (pool, idx);
  zspage->inuse_bits = side_table;
  zspage->class_idx = class_idx;
  zspage->nr_inuse = 0;
  zspage->first_free_word = 0;
  zspage->isolated = zspage->holed = zspage->growing = false;
  pool->classes[class_idx].nr_resident_pages += zspage_nr_resident (zspage);
  atomic_fetch_add (&pool->nr_inuse_zspages, 1);
  pool_ask_for_refill (pool); /* a side table was taken */
  *ret = idx;
  return 0;
}

/* pages_populate; at the limit spare zspages make room, and the reserve. */
static int
populate (struct pool *pool, void *start, size_t bytes)
{
  int r;

  do
    r = pages_populate (pool->pages, start, bytes);
  while (r == -ENOSPC && pool_purge_one_unused (pool) > 0);
  return r;
}

/* Make pages [first, end) of the zspage resident, none of which is.  `listed`:
 * it is in the class's lists.
 */
static int
populate_zspage_locked (struct pool *pool, struct class_state *state,
                        zspage_idx idx, bool listed, unsigned first,
                        unsigned end)
{
  struct zspage *zspage = pool_zspage (pool, idx);
  char *start = (char *) zspage_address (pool, idx) + first * PAGE_BYTES;
  const size_t bytes = (end - first) * PAGE_BYTES;
  const struct size_class *class = &pool->table->classes[zspage->class_idx];
  const int r = populate (pool, start, bytes);

  ASSERT_LOCKED (&state->lock);
  if (r < 0)
    return r;
  if (listed)
    state->nr_resident_free -=
      zspage_nr_resident_free_in (zspage, class, first, end);
  zspage->resident |= page_bits (first, end);
  if (listed)
    state->nr_resident_free +=
      zspage_nr_resident_free_in (zspage, class, first, end);
  if (zspage->holed)
    fullness_set_holed (&state->lists, pool->zspages.base, idx, class, false);
  state->nr_resident_pages += end - first;
  state->grown_out = false; /* there was one, after all */
  atomic_fetch_add (&pool->resident_bytes, bytes);
  return 0;
}

/* Make the slot's pages resident, and some after them: a batch, or just what
 * is needed where the limit leaves no more.
 */
static int
grow_pages_locked (struct pool *pool, struct class_state *state, zspage_idx idx,
                   bool listed, unsigned slot)
{
  const struct zspage *zspage = pool_zspage (pool, idx);
  const struct size_class *class = &pool->table->classes[zspage->class_idx];
  /* At most two pages, so what is missing is in one piece. */
  const uint64_t missing = slot_page_bits (class, slot) & ~zspage->resident;
  const unsigned first = __builtin_ctzll (missing);
  const unsigned needed = 64 - __builtin_clzll (missing);
  uint64_t ahead = state->nr_resident_pages >> TOUCH_AHEAD_SHIFT;
  unsigned end = needed;

  if (ahead > TOUCH_AHEAD_MAX_PAGES)
    ahead = TOUCH_AHEAD_MAX_PAGES;
  while (end < ZSPAGE_PAGES && end - first < ahead &&
         !(zspage->resident >> end & 1))
    end++;
  if (end > needed &&
      populate_zspage_locked (pool, state, idx, listed, first, end) == 0)
    return 0;
  return populate_zspage_locked (pool, state, idx, listed, first, needed);
}

unsigned
pool_find_resident_free_locked (struct pool *pool, unsigned class_idx,
                                unsigned *max_looks, zspage_idx *ret)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];
  struct zspage *zspages = pool->zspages.base;

  ASSERT_LOCKED (&state->lock);
  if (state->nr_resident_free == 0)
    return SLOT_NONE;
  for (int g = FULLNESS_FULL - 1; g >= 0; g--)
    while (state->lists.head[g] != ZSPAGE_NONE && *max_looks > 0) {
      --*max_looks;
      *ret = state->lists.head[g];
      const unsigned slot = zspage_lowest_resident_free (&zspages[*ret], class,
                                                         0, class->nr_objects);
      if (slot != SLOT_NONE)
        return slot;
      fullness_set_holed (&state->lists, zspages, *ret, class, true);
    }
  return SLOT_NONE;
}

/* Where an object of the class goes. */
struct place {
  zspage_idx zspage; /* ZSPAGE_NONE: nowhere */
  unsigned slot;
  bool is_new; /* the zspage: in none of the class's lists */
};

static bool
place_is_resident (const struct pool *pool, unsigned class_idx,
                   const struct place *place)
{
  return zspage_slot_resident (pool_zspage (pool, place->zspage),
                               &pool->table->classes[class_idx], place->slot);
}

/* A zspage for the class, and its first slot. */
static int
place_in_new_locked (struct pool *pool, unsigned class_idx, bool resident,
                     struct place *place)
{
  zspage_idx idx;
  const int r = new_zspage_locked (pool, class_idx, resident, &idx);

  if (r == 0)
    *place = (struct place) { .zspage = idx, .slot = 0, .is_new = true };
  return r;
}

/* Any slot of the class in resident pages. */
static int
place_in_resident_locked (struct pool *pool, unsigned class_idx,
                          struct place *place)
{
  unsigned max_looks = FIND_RESIDENT_LOOKS;
  zspage_idx idx;
  const unsigned slot =
    pool_find_resident_free_locked (pool, class_idx, &max_looks, &idx);

  if (slot == SLOT_NONE)
    return -ENOSPC;
  *place = (struct place) { .zspage = idx, .slot = slot };
  return 0;
}

/* Zspages of the class that have room, resident or not. */
static uint32_t
nr_with_room (const struct class_state *state)
{
  uint32_t nr = 0;

  for (unsigned g = 0; g < FULLNESS_FULL; g++)
    nr += state->lists.nr_zspages[g];
  return nr;
}

/* Another zspage of the reserve, of which a few pages are resident.  Not from
 * the second half of the arena, which is for zspages that are full.
 */
static int
place_in_primed_locked (struct pool *pool, unsigned class_idx,
                        struct place *place)
{
  struct class_state *state = &pool->classes[class_idx];
  const bool few = nr_with_room (state) < RESERVE_MAX_OPEN;
  const uint64_t nr_inuse =
    atomic_load_explicit (&pool->nr_inuse_zspages, memory_order_relaxed);
  int r;

  if (nr_inuse >= pool->nr_zspages / 2 || (!few && state->nr_owed == 0))
    return -ENOSPC;
  r = place_in_new_locked (pool, class_idx, true, place);
  if (r == 0 && !few)
    state->nr_owed--;
  return r;
}

/* The place needs pages, and there is a reserve: a place that needs none, as
 * far as there is one.  Pages of a zspage that is growing are not ours to
 * populate.
 */
static int
place_in_reserve_locked (struct pool *pool, unsigned class_idx,
                         struct place *place)
{
  const bool growing = pool_zspage (pool, place->zspage)->growing;

  if (place_in_resident_locked (pool, class_idx, place) == 0 ||
      place_in_primed_locked (pool, class_idx, place) == 0)
    return 0;
  return growing ? place_in_new_locked (pool, class_idx, false, place) : 0;
}

/* In resident pages.  On an error, place->zspage is one that was made for
 * nothing, and is in no list, or ZSPAGE_NONE.
 */
static int
find_place_locked (struct pool *pool, unsigned class_idx, struct place *place)
{
  struct class_state *state = &pool->classes[class_idx];
  int r = 0;

  *place = (struct place) {
    .zspage = fullness_fullest_with_room (&state->lists),
  };
  if (place->zspage == ZSPAGE_NONE)
    r = place_in_new_locked (pool, class_idx, false, place);
  else {
    place->slot = zspage_lowest_free (pool_zspage (pool, place->zspage),
                                      &pool->table->classes[class_idx]);
    if (pool_has_reserve (pool) && !place_is_resident (pool, class_idx, place))
      r = place_in_reserve_locked (pool, class_idx, place);
  }
  if (r == 0 && !place_is_resident (pool, class_idx, place))
    r = grow_pages_locked (pool, state, place->zspage, !place->is_new,
                           place->slot);
  if (r < 0 && !place->is_new) {
    place->zspage = ZSPAGE_NONE;
    if (place_in_resident_locked (pool, class_idx, place) == 0)
      r = 0;
  }
  return r;
}

static void
claim_place_locked (struct pool *pool, unsigned class_idx,
                    const struct place *place, owner_t owner)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];
  struct zspage *zspages = pool->zspages.base;
  const zspage_idx idx = place->zspage;

  zspage_claim_slot (&zspages[idx], place->slot);
  zspage_owners (&zspages[idx], class)[place->slot] = owner;
  state->nr_inuse++;
  if (place->is_new) {
    fullness_insert (&state->lists, zspages, idx, class);
    state->nr_resident_free += zspage_nr_resident_free (&zspages[idx], class);
    state->grown_out = false;
  }
  else {
    fullness_update (&state->lists, zspages, idx, class);
    state->nr_resident_free--;
  }
  class_ask_below_half_locked (pool, class_idx);
}

static int
alloc_locked (struct pool *pool, unsigned class_idx, owner_t owner, zs_loc *ret,
              zspage_idx *unused)
{
  struct class_state *state = &pool->classes[class_idx];
  struct place place;
  const int r = find_place_locked (pool, class_idx, &place);

  ASSERT_LOCKED (&state->lock);
  if (r < 0) {
    *unused = place.zspage;
    if (place.zspage != ZSPAGE_NONE) /* out of the class again */
      state->nr_resident_pages -=
        zspage_nr_resident (pool_zspage (pool, place.zspage));
    return r;
  }
  claim_place_locked (pool, class_idx, &place, owner);
  *ret = make_loc (place.zspage, place.slot, &pool->table->classes[class_idx]);
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
    pool_retire_zspage (pool, unused, true);
  return r;
}

bool
pool_free_slot_locked (struct pool *pool, struct class_state *state,
                       zspage_idx idx, unsigned slot)
{
  struct zspage *zspages = pool->zspages.base;
  struct zspage *zspage = &zspages[idx];
  const struct size_class *class = &pool->table->classes[zspage->class_idx];

  ASSERT_LOCKED (&state->lock);
  zspage_release_slot (zspage, slot);
  state->nr_inuse--;
  if (zspage->isolated)
    return false; /* the compactor's */
  state->nr_resident_free++;
  if (zspage->nr_inuse > 0) {
    if (zspage->holed)
      fullness_set_holed (&state->lists, zspages, idx, class, false);
    fullness_update (&state->lists, zspages, idx, class);
    return false;
  }
  fullness_remove (&state->lists, zspages, idx);
  state->nr_resident_free -= zspage_nr_resident_free (zspage, class);
  state->nr_resident_pages -= zspage_nr_resident (zspage);
  class_lost_ready_locked (pool, zspage->class_idx);
  return !zspage->growing; /* the refill's, then */
}

void
pool_free (struct pool *pool, zs_loc loc)
{
  const zspage_idx idx = loc_zspage (loc);
  const unsigned class_idx = pool_zspage (pool, idx)->class_idx;
  struct class_state *state = &pool->classes[class_idx];
  bool emptied;

  lock_acquire (&state->lock);
  state->nr_frees++;
  emptied =
    pool_free_slot_locked (pool, state, idx,
                           size_class_slot (&pool->table->classes[class_idx],
                                            loc_offset (loc)));
  lock_release (&state->lock);
  if (emptied)
    pool_retire_zspage (pool, idx, true);
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
  return zspage_owners (zspage,
                        class)[size_class_slot (class, loc_offset (loc))];
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
  for (unsigned l = 0; l < NR_FULLNESS_LISTS; l++)
    for (zspage_idx idx = state->lists.head[l]; idx != ZSPAGE_NONE;
         idx = fullness_next (&state->lists, pool->zspages.base, idx)) {
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
  ret->resident_bytes = state->nr_resident_pages * PAGE_BYTES;
  ret->ahead_bytes = pool_has_reserve (pool) ? class_ahead_bytes (state) : 0;
  ret->nr_frees = state->nr_frees;
  ret->nr_isolated = ret->nr_zspages = state->nr_isolated;
  for (unsigned g = 0; g < NR_FULLNESS_GROUPS; g++) {
    ret->by_fullness[g] = state->lists.nr_zspages[g];
    ret->nr_zspages += ret->by_fullness[g];
  }
}

void
pool_stats (struct pool *pool, struct pool_stats *ret)
{
  ret->arena_bytes = atomic_load (&pool->resident_bytes);
  ret->spare_bytes = atomic_load (&pool->spare_bytes);
  ret->primed_bytes = atomic_load (&pool->primed_bytes);
  ret->nr_zspages = atomic_load (&pool->nr_inuse_zspages);
  ret->nr_zspages_released = atomic_load (&pool->nr_released);
  ret->bookkeeping_bytes = side_tables_resident (&pool->side_tables);
  LOCK_FOR_SCOPE (&pool->free_lock);
  ret->bookkeeping_bytes += pool->zspages.touched_bytes;
}
