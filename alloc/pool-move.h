/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's side of compaction: isolate a zspage, offer its objects and
 * places for them, take back what has moved, purge what is empty.
 *
 *     pool_isolate_emptiest     out of its class's lists: nothing is
 *                               allocated in it, its last free does not
 *                               release it
 *     pool_moves_begin          objects of it, highest first, each with a
 *                               claimed slot of the fullest other zspage
 *       (the caller moves each, or does not, with no lock of the pool held)
 *     pool_moves_end            of what moved the old slot is freed, of the
 *                               rest the new one
 *     pool_source_finish        purge what is wholly free: the zspage, or
 *                               pages of it; then back into the lists
 *
 * Targets lie in resident pages only, so compaction never makes a page
 * resident and never raises held.  One compactor at a time (its own lock
 * sees to that); allocations and frees of the same class go on meanwhile.
 * Class locks are taken inside, for at most one batch of moves.
 */

#ifndef ZMEM_POOL_MOVE_H
#define ZMEM_POOL_MOVE_H

#include "pool.h"

/* An isolated zspage. */
struct pool_source {
  uint32_t zspage; /* its index */
  unsigned class_idx;
  unsigned next_slot; /* objects below it are still to be offered;
                                   0: every one has been */
  /* As of when it was isolated: */
  unsigned nr_inuse;
  unsigned nr_resident_pages;
  unsigned nr_free_pages;      /* resident pages without any object */
  bool room_elsewhere;         /* resident slots for all of its objects */
  unsigned nr_slots_elsewhere; /* how many, where there are fewer */
  /* Without room for all: were nr_slots_elsewhere of them to leave, and the
   * others packed low, as far as its resident pages allow:
   */
  unsigned nr_packed_pages; /* pages that it would keep */
  unsigned nr_to_pack;      /* objects that would move, all in all */
  unsigned pack_end_page;   /* what ends below it stays */
  bool cut_short;           /* of the last batch: there may be targets, but
                                   many zspages were looked at */
};

/* At most so many in a batch: for so long a class is locked. */
#define POOL_MOVES_MAX 64

struct pool_move {
  zs_loc from, to;
  owner_t owner;
  bool done; /* the caller's: the object is at `to` now */
};

/* The emptiest zspage of the class that has room, as far as a short look
 * tells.  False: every zspage of the class is full, or isolated already, or
 * has nothing that may move (OWNER_NONE).
 */
extern bool pool_isolate_emptiest (struct pool *pool, unsigned class_idx,
                                   struct pool_source *ret);

/* What a zspage may keep that is resident and free once it was purged in
 * place.  More would stay for good: free slots that reach into purged pages
 * are no targets, so the rest could not be moved together.
 */
#define POOL_IN_PLACE_SLACK ((size_t) 512)

/* A zspage of that fullness group that has free pages in runs of at least
 * `min_pages`, and would be packed without them: to be purged in place.  Looks
 * at no more than `max_looks` zspages and takes that off *max_looks; what was
 * looked at goes to the end of its list.  False: none was seen.
 */
extern bool pool_isolate_with_free_run (struct pool *pool, unsigned class_idx,
                                        unsigned group, unsigned min_pages,
                                        unsigned *max_looks,
                                        struct pool_source *ret);

/* Fill in moves[0 .. max).  `pack`: where no other zspage has room, lower
 * slots of this one will do, for objects beyond pack_end_page.  Returns how
 * many; 0: there is no object left to offer, or no place, or (cut_short) it
 * is to be tried again.  An object that is in transit is offered as well.
 */
extern unsigned pool_moves_begin (struct pool *pool, struct pool_source *source,
                                  bool pack, struct pool_move *moves,
                                  unsigned max);
extern void pool_moves_end (struct pool *pool, struct pool_source *source,
                            const struct pool_move *moves, unsigned nr);

/* Offer all objects of the source again: those that were busy. */
extern void pool_source_rewind (struct pool *pool, struct pool_source *source);

/* Objects that are left in it. */
extern unsigned pool_source_inuse (struct pool *pool,
                                   const struct pool_source *source);

struct pool_returned {
  uint64_t bytes; /* purged */
  bool released;  /* the whole zspage */
};

/* Purge the zspage if it is empty; else its free pages, in runs of at least
 * `min_run` pages, where that leaves it packed; else its free tail.  Then it
 * is no source any more.
 */
extern struct pool_returned pool_source_finish (struct pool *pool,
                                                struct pool_source *source,
                                                unsigned min_run);

/* Each zspage of the class that is not isolated, in no order: slots in use,
 * and one bit for each of its pages that is resident.  Fills in at most `max`
 * of them and returns how many there are.  For pictures: the class is locked
 * meanwhile.
 */
struct pool_zspage_info {
  uint32_t nr_inuse;
  uint64_t resident;
};
extern uint64_t pool_list_zspages (struct pool *pool, unsigned class_idx,
                                   struct pool_zspage_info *list, uint64_t max);

#endif /* ZMEM_POOL_MOVE_H */
