/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's side of compaction; see pool-move.h.
 *
 * A batch costs two turns of the class's lock: one to pick objects and claim
 * their targets, one to free what is left behind.  Within a batch targets
 * come from one zspage after the other, so each is found and put into its
 * fullness list once.
 *
 * An isolated zspage is in no list, so nothing is allocated in it, and free
 * pages of it stay free: they are purged with no lock held.
 */

#include <config.h>

#include <string.h>

#include "pool-move.h"
#include "pool-private.h"

/* How many zspages to compare in search of the emptiest: those of one
 * fullness group are within an eighth of each other.
 */
#define EMPTIEST_LOOKS 16

/* How many zspages to look at for targets, with the class locked.  Those that
 * have none are holed then, so the next batch sees others.
 */
#define TARGET_LOOKS 256

static const struct size_class *
class_of (const struct pool *pool, const struct pool_source *source)
{
  return &pool->table->classes[source->class_idx];
}

static struct class_state *
state_of (struct pool *pool, const struct pool_source *source)
{
  return &pool->classes[source->class_idx];
}

/* The highest object below slot `end` that may move: those of the pool's user
 * itself (OWNER_NONE) never do.  SLOT_NONE: there is none.
 */
static unsigned
highest_movable (const struct zspage *zspage, const struct size_class *class,
                 unsigned end)
{
  const owner_t *owners = zspage_owners (zspage, class);

  do
    end = zspage_highest_inuse (zspage, end);
  while (end != SLOT_NONE && owners[end] == OWNER_NONE);
  return end;
}

/* Where to look for it: in the lists of all groups but the full ones, and at
 * last among the holed ones, of which there is little to be had.
 */
static const uint8_t source_lists[] = {
  0, 1, 2, 3, 4, 5, 6, 7, FULLNESS_HOLED
};
#define NR_SOURCE_LISTS (sizeof source_lists / sizeof source_lists[0])
static_assert (NR_SOURCE_LISTS == FULLNESS_FULL + 1, "all but the full ones");

static zspage_idx
find_emptiest_locked (struct pool *pool, unsigned class_idx)
{
  const struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];
  const struct zspage *zspages = pool->zspages.base;
  zspage_idx emptiest = ZSPAGE_NONE;

  for (unsigned i = 0; i < NR_SOURCE_LISTS && emptiest == ZSPAGE_NONE; i++) {
    unsigned nr_looks = EMPTIEST_LOOKS;

    for (zspage_idx idx = state->lists.head[source_lists[i]];
         idx != ZSPAGE_NONE && nr_looks > 0;
         idx = fullness_next (&state->lists, zspages, idx), nr_looks--)
      if ((emptiest == ZSPAGE_NONE ||
           zspages[idx].nr_inuse < zspages[emptiest].nr_inuse) &&
          !zspages[idx].growing &&
          highest_movable (&zspages[idx], class, class->nr_objects) !=
            SLOT_NONE)
        emptiest = idx;
  }
  return emptiest;
}

/* Would packing low leave the slot where it is? */
static bool
is_packed (const struct pool_source *source, const struct size_class *class,
           unsigned slot)
{
  return (size_t) (slot + 1) * class->object_bytes <=
         source->pack_end_page * PAGE_BYTES;
}

/* Go through the moves of a pack, as pool_moves_begin would offer them. */
static void
plan_pack (struct zspage *zspage, const struct size_class *class,
           struct pool_source *ret)
{
  unsigned top = highest_movable (zspage, class, class->nr_objects);
  unsigned next = 0, nr_moves = ret->nr_slots_elsewhere, highest_to = 0;

  ret->pack_end_page =
    packed_pages (class, zspage->nr_inuse - ret->nr_slots_elsewhere);
  for (unsigned i = 0; i < ret->nr_slots_elsewhere && top != SLOT_NONE; i++)
    top = highest_movable (zspage, class, top);
  while (top != SLOT_NONE && !is_packed (ret, class, top)) {
    const unsigned to = zspage_lowest_resident_free (zspage, class, next, top);

    if (to == SLOT_NONE)
      break;
    nr_moves++;
    highest_to = to;
    next = to + 1;
    top = highest_movable (zspage, class, top);
  }
  if (top == SLOT_NONE || top < highest_to)
    top = highest_to;
  ret->nr_to_pack = nr_moves;
  ret->nr_packed_pages = __builtin_popcountll (
    zspage->resident & page_bits (0, packed_pages (class, top + 1)));
}

/* Take it out of its list, and tell what is worth knowing of it. */
static void
isolate_locked (struct pool *pool, unsigned class_idx, zspage_idx idx,
                struct pool_source *ret)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];
  struct zspage *zspage = pool_zspage (pool, idx);

  ASSERT_LOCKED (&state->lock);
  fullness_remove (&state->lists, pool->zspages.base, idx);
  state->nr_resident_free -= zspage_nr_resident_free (zspage, class);
  zspage->isolated = true;
  zspage->holed = false; /* that is to be found out again */
  state->nr_isolated++;

  ret->zspage = idx;
  ret->class_idx = class_idx;
  ret->next_slot = class->nr_objects;
  ret->cut_short = false;
  ret->nr_inuse = zspage->nr_inuse;
  ret->nr_resident_pages = zspage_nr_resident (zspage);
  ret->nr_free_pages = __builtin_popcountll (zspage_free_pages (zspage, class));
  ret->room_elsewhere = state->nr_resident_free >= zspage->nr_inuse;
  ret->nr_slots_elsewhere =
    ret->room_elsewhere ? zspage->nr_inuse : (unsigned) state->nr_resident_free;
  if (!ret->room_elsewhere)
    plan_pack (zspage, class, ret);
  class_lost_ready_locked (pool, class_idx);
}

bool
pool_isolate_emptiest (struct pool *pool, unsigned class_idx,
                       struct pool_source *ret)
{
  struct class_state *state = &pool->classes[class_idx];

  LOCK_FOR_SCOPE (&state->lock);
  const zspage_idx idx = find_emptiest_locked (pool, class_idx);
  if (idx == ZSPAGE_NONE)
    return false;
  isolate_locked (pool, class_idx, idx, ret);
  return true;
}

/* Of these pages, the ones that lie in runs of at least `min_run`. */
static uint64_t
pages_in_runs (uint64_t pages, unsigned min_run)
{
  uint64_t kept = 0;

  while (pages != 0) {
    const unsigned first = __builtin_ctzll (pages);
    const uint64_t above = ~(pages >> first);
    const unsigned nr = above == 0 ? 64 : __builtin_ctzll (above);
    const uint64_t run = page_bits (first, first + nr);

    if (nr >= min_run)
      kept |= run;
    pages &= ~run;
  }
  return kept;
}

/* Were these pages of it purged, would what it keeps be packed? */
static bool
would_be_packed (const struct zspage *zspage, const struct size_class *class,
                 uint64_t page_mask)
{
  const size_t kept =
    (zspage_nr_resident (zspage) - __builtin_popcountll (page_mask)) *
    PAGE_BYTES;

  return kept - (size_t) zspage->nr_inuse * class->object_bytes <=
         POOL_IN_PLACE_SLACK;
}

bool
pool_isolate_with_free_run (struct pool *pool, unsigned class_idx,
                            unsigned group, unsigned min_pages,
                            unsigned *max_looks, struct pool_source *ret)
{
  struct class_state *state = &pool->classes[class_idx];
  const struct size_class *class = &pool->table->classes[class_idx];

  LOCK_FOR_SCOPE (&state->lock);
  for (unsigned left = state->lists.length[group]; left > 0 && *max_looks > 0;
       left--) {
    const zspage_idx idx = state->lists.head[group];
    const struct zspage *zspage = pool_zspage (pool, idx);
    const uint64_t runs =
      pages_in_runs (zspage_free_pages (zspage, class), min_pages);

    --*max_looks;
    if (runs != 0 && !zspage->growing &&
        would_be_packed (zspage, class, runs)) {
      isolate_locked (pool, class_idx, idx, ret);
      return true;
    }
    fullness_rotate (&state->lists, pool->zspages.base, group);
  }
  return false;
}

/* Where targets come from, during one batch. */
struct target {
  zspage_idx idx; /* ZSPAGE_NONE: none yet */
  unsigned slot;
  unsigned max_looks; /* in search of one */
};

/* Put the zspage that targets came from into the list that it belongs to. */
static void
leave_target_locked (struct pool *pool, unsigned class_idx,
                     struct target *target)
{
  struct class_state *state = &pool->classes[class_idx];

  if (target->idx != ZSPAGE_NONE)
    fullness_update (&state->lists, pool->zspages.base, target->idx,
                     &pool->table->classes[class_idx]);
  target->idx = ZSPAGE_NONE;
}

static bool
next_target_locked (struct pool *pool, unsigned class_idx,
                    struct target *target)
{
  const struct size_class *class = &pool->table->classes[class_idx];

  if (target->idx != ZSPAGE_NONE) {
    target->slot = zspage_lowest_resident_free (pool_zspage (pool, target->idx),
                                                class, 0, class->nr_objects);
    if (target->slot != SLOT_NONE)
      return true;
    leave_target_locked (pool, class_idx, target);
  }
  target->slot =
    pool_find_resident_free_locked (pool, class_idx, &target->max_looks,
                                    &target->idx);
  if (target->slot == SLOT_NONE)
    target->idx = ZSPAGE_NONE;
  return target->slot != SLOT_NONE;
}

static void
claim_locked (struct pool *pool, unsigned class_idx, zspage_idx idx,
              unsigned slot, owner_t owner)
{
  struct zspage *zspage = pool_zspage (pool, idx);

  zspage_claim_slot (zspage, slot);
  zspage_owners (zspage, &pool->table->classes[class_idx])[slot] = owner;
  pool->classes[class_idx].nr_inuse++;
  if (!zspage->isolated)
    pool->classes[class_idx].nr_resident_free--;
}

unsigned
pool_moves_begin (struct pool *pool, struct pool_source *source, bool pack,
                  struct pool_move *moves, unsigned max)
{
  const struct size_class *class = class_of (pool, source);
  struct zspage *zspage = pool_zspage (pool, source->zspage);
  struct target target = { .idx = ZSPAGE_NONE, .max_looks = TARGET_LOOKS };
  unsigned nr = 0;

  LOCK_FOR_SCOPE (&state_of (pool, source)->lock);
  source->cut_short = false;
  while (nr < max) {
    const unsigned slot = highest_movable (zspage, class, source->next_slot);
    zspage_idx to_idx = source->zspage;
    unsigned to;

    if (slot == SLOT_NONE) {
      source->next_slot = 0;
      break;
    }
    if (next_target_locked (pool, source->class_idx, &target)) {
      to_idx = target.idx;
      to = target.slot;
    }
    else if (target.max_looks == 0) {
      source->cut_short = true;
      break;
    }
    else {
      to = pack && !is_packed (source, class, slot)
             ? zspage_lowest_resident_free (zspage, class, 0, slot)
             : SLOT_NONE;
      if (to == SLOT_NONE)
        break;
    }
    const owner_t owner = zspage_owners (zspage, class)[slot];
    claim_locked (pool, source->class_idx, to_idx, to, owner);
    moves[nr++] = (struct pool_move) {
      .from = make_loc (source->zspage, slot, class),
      .to = make_loc (to_idx, to, class),
      .owner = owner,
    };
    source->next_slot = slot;
  }
  leave_target_locked (pool, source->class_idx, &target);
  class_lost_ready_locked (pool, source->class_idx);
  return nr;
}

void
pool_moves_end (struct pool *pool, struct pool_source *source,
                const struct pool_move *moves, unsigned nr)
{
  const struct size_class *class = class_of (pool, source);
  struct class_state *state = state_of (pool, source);
  zspage_idx emptied[POOL_MOVES_MAX];
  unsigned nr_emptied = 0;

  lock_acquire (&state->lock);
  for (unsigned i = 0; i < nr; i++) {
    const zs_loc loc = moves[i].done ? moves[i].from : moves[i].to;

    /* A target may have lost all its other objects meanwhile. */
    if (pool_free_slot_locked (pool, state, loc_zspage (loc),
                               size_class_slot (class, loc_offset (loc))))
      emptied[nr_emptied++] = loc_zspage (loc);
  }
  lock_release (&state->lock);
  for (unsigned i = 0; i < nr_emptied; i++)
    pool_retire_zspage (pool, emptied[i], true);
}

void
pool_source_rewind (struct pool *pool, struct pool_source *source)
{
  source->next_slot = class_of (pool, source)->nr_objects;
  source->cut_short = false;
}

unsigned
pool_source_inuse (struct pool *pool, const struct pool_source *source)
{
  LOCK_FOR_SCOPE (&state_of (pool, source)->lock);

  return pool_zspage (pool, source->zspage)->nr_inuse;
}

/* Back into the lists; false: it is empty, and out of the class instead. */
static bool
put_back_locked (struct pool *pool, const struct pool_source *source)
{
  struct class_state *state = state_of (pool, source);
  struct zspage *zspage = pool_zspage (pool, source->zspage);

  ASSERT_LOCKED (&state->lock);
  zspage->isolated = false;
  state->nr_isolated--;
  if (zspage->nr_inuse > 0) {
    /* At the end of its list: others are to be looked at before it. */
    fullness_insert (&state->lists, pool->zspages.base, source->zspage,
                     class_of (pool, source));
    fullness_rotate (&state->lists, pool->zspages.base, fullness_list (zspage));
    state->nr_resident_free +=
      zspage_nr_resident_free (zspage, class_of (pool, source));
    state->grown_out = false;
    return true;
  }
  state->nr_resident_pages -= zspage_nr_resident (zspage);
  return false;
}

/* Pages beyond the highest slot in use. */
static uint64_t
tail_pages (const struct zspage *zspage, const struct size_class *class)
{
  const unsigned highest = zspage_highest_inuse (zspage, class->nr_objects);
  const unsigned end = packed_pages (class, highest + 1);

  return end == ZSPAGE_PAGES ? 0 : page_bits (end, ZSPAGE_PAGES);
}

/* What to purge of a source: all of its free pages where that leaves it
 * packed, else those of its tail.  A hole before the tail would be in the way
 * of the moves that can still pack it, since targets are resident.
 */
static uint64_t
pages_to_purge (struct pool *pool, const struct pool_source *source,
                unsigned min_run)
{
  const struct size_class *class = class_of (pool, source);
  const struct zspage *zspage = pool_zspage (pool, source->zspage);
  uint64_t pages;

  LOCK_FOR_SCOPE (&state_of (pool, source)->lock);
  if (zspage->nr_inuse == 0)
    return 0; /* the whole of it will go */
  pages = pages_in_runs (zspage_free_pages (zspage, class), min_run);
  if (zspage_nr_resident (zspage) - __builtin_popcountll (pages) >
        packed_pages (class, zspage->nr_inuse) &&
      !would_be_packed (zspage, class, pages))
    pages &= tail_pages (zspage, class);
  return pages;
}

struct pool_returned
pool_source_finish (struct pool *pool, struct pool_source *source,
                    unsigned min_run)
{
  struct class_state *state = state_of (pool, source);
  struct zspage *zspage = pool_zspage (pool, source->zspage);
  struct pool_returned ret = { 0 };
  uint64_t purged;

  purged = pool_purge_pages (pool, source->zspage,
                             pages_to_purge (pool, source, min_run));
  ret.bytes = __builtin_popcountll (purged) * PAGE_BYTES;

  lock_acquire (&state->lock);
  zspage->resident &= ~purged;
  state->nr_resident_pages -= __builtin_popcountll (purged);
  ret.released = !put_back_locked (pool, source);
  /* A refill may have found no zspage to grow. */
  class_lost_ready_locked (pool, source->class_idx);
  lock_release (&state->lock);
  if (ret.released)
    ret.bytes += pool_retire_zspage (pool, source->zspage, false);
  return ret;
}

static uint64_t
list_zspages_locked (struct pool *pool, const struct class_state *state,
                     struct pool_zspage_info *list, uint64_t max)
{
  const struct zspage *zspages = pool->zspages.base;
  uint64_t nr = 0;

  for (unsigned l = 0; l < NR_FULLNESS_LISTS; l++)
    for (zspage_idx idx = state->lists.head[l]; idx != ZSPAGE_NONE;
         idx = fullness_next (&state->lists, zspages, idx), nr++)
      if (nr < max)
        list[nr] = (struct pool_zspage_info) {
          .nr_inuse = zspages[idx].nr_inuse,
          .resident = zspages[idx].resident,
        };
  return nr;
}

uint64_t
pool_list_zspages (struct pool *pool, unsigned class_idx,
                   struct pool_zspage_info *list, uint64_t max)
{
  LOCK_FOR_SCOPE (&pool->classes[class_idx].lock);

  return list_zspages_locked (pool, &pool->classes[class_idx], list, max);
}
