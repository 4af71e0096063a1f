/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The compactor: runs over a pool, in steps, one at a time.
 *
 *     run: for each class, most reclaimable first
 *            purge in place where long runs of pages are free (thorough)
 *            while a zspage can be emptied into the others: empty it
 *            pack the last one low, purge its tail, where that pays
 *          once more for classes in which objects were busy
 *
 * How objects move is migrate.h.  Who decides when is worker.h, a command,
 * or a writer that has met the limit: whoever holds `lock` may step the run
 * that there is, or begin one.
 *
 * Guarantees, of a run that has ended by itself and met no busy object:
 * copied <= returned; and nothing is left that policy_reclaimable counts but
 * pages that it would have cost more to move.
 *
 * Lock: `lock`, rank LOCK_COMPACT, before group locks.  The totals may be
 * read by anyone.
 */

#ifndef ZMEM_COMPACTOR_H
#define ZMEM_COMPACTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lock.h"
#include "pool-move.h"
#include "pool.h"

enum move_result {
  MOVE_DONE,
  MOVE_BUSY,      /* its lock is held by somebody */
  MOVE_IN_TRANSIT /* its owner does not point at it */
};

/* What the objects' user registers. */
struct compact_ops {
  /* If the owner's lock is free and the owner points at `from`: copy the
   * object to `to`, re-point the owner with one store.  *copied: bytes.
   * No lock of the pool is held.
   */
  enum move_result (*move) (void *opaque, owner_t owner, zs_loc from, zs_loc to,
                            uint32_t *copied);
  /* It will be moved soon: fetch what that needs.  May be NULL. */
  void (*prefetch) (void *opaque, owner_t owner, zs_loc from);
};

/* Free pages in runs of at least so many are purged where they are, in
 * zspages at least half full: less would cost more than moving does, since a
 * purge interrupts the other processors.
 */
#define COMPACT_IN_PLACE_PAGES 8

/* After a writer at the limit found nothing to be had, nobody looks for so
 * long, unless much was freed meanwhile.
 */
#define COMPACT_NO_ROOM_NS (10 * UINT64_C (1000000))

/* What a run may do, and when it ends before it is finished. */
struct compact_goal {
  int class_idx;              /* -1: all */
  bool thorough;              /* look for free pages in all zspages, too */
  unsigned keep_spare;        /* emptied zspages not to purge */
  uint64_t until_reclaimable; /* bytes; 0: no end */
  uint64_t until_returned;    /* bytes; UINT64_MAX: no end */
};

struct compact_totals {
  _Atomic uint64_t runs;
  _Atomic uint64_t moved_objects;
  _Atomic uint64_t copied_bytes;
  _Atomic uint64_t returned_bytes;
  _Atomic uint64_t released_zspages;
  _Atomic uint64_t skipped_busy; /* objects; again and again counts */
  _Atomic uint64_t running_ns;
};

/* The same of one run. */
struct compact_report {
  uint64_t moved_objects;
  uint64_t copied_bytes;
  uint64_t returned_bytes;
  uint64_t released_zspages;
  uint64_t skipped_busy;
  uint64_t running_ns; /* at work; pauses are not counted */
};

/* Zspages that hold a busy object wait here, isolated, for the end of the
 * class's turn.  When it is full they go back at once.
 */
#define COMPACT_PARKED_MAX 32

enum compact_phase {
  COMPACT_NOT_RUNNING,
  COMPACT_SPARE,  /* purge spare zspages */
  COMPACT_SURVEY, /* what is there to be had */
  COMPACT_CHOOSE, /* the next class */
  COMPACT_IN_PLACE,
  COMPACT_EVACUATE
};

struct compactor {
  struct lock lock;
  struct pool *pool;
  const struct compact_ops *ops;
  void *opaque;
  uint64_t (*now_ns) (void);
  struct compact_totals totals;

  /* The run.  Guard: lock. */
  enum compact_phase phase;
  struct compact_goal goal;
  struct compact_report report; /* of this run, or the last one */
  /* As of the begin of the pass: by class, in all, report.returned_bytes. */
  uint64_t reclaimable[MAX_SIZE_CLASSES];
  uint64_t all_reclaimable, then_returned;
  bool done[MAX_SIZE_CLASSES];
  bool met_busy[MAX_SIZE_CLASSES];
  unsigned nr_passes;
  unsigned class_idx;    /* being worked on */
  uint32_t object_bytes; /* of that class */
  /* COMPACT_IN_PLACE: looks left, by fullness group. */
  uint64_t nr_looks[NR_FULLNESS_GROUPS];
  uint64_t nr_sources; /* left for COMPACT_EVACUATE */
  bool has_source, source_packs;
  unsigned source_skipped; /* objects of it that could not be moved */
  unsigned source_moved;   /* since all were offered, */
  unsigned source_tries;   /* which was so often */
  struct pool_source source;
  struct pool_source parked[COMPACT_PARKED_MAX];
  unsigned nr_parked;
  uint64_t no_room_until_ns;    /* a writer found none: do not look again */
  uint64_t no_room_reclaimable; /* but where there is more than this */
};

/* `now_ns`: NULL for CLOCK_MONOTONIC. */
extern void compactor_init (struct compactor *compactor, struct pool *pool,
                            const struct compact_ops *ops, void *opaque,
                            uint64_t (*now_ns) (void));
/* Ends the run that there is. */
extern void compactor_destroy (struct compactor *compactor);

/* Begin a run; one that is under way is ended first.  Lock held. */
extern void compactor_begin (struct compactor *compactor,
                             const struct compact_goal *goal);

/* Go on with the run until it has ended (false), or until about `until_ns`
 * of the clock: a batch of moves and a purge are not cut short.  Lock held.
 */
extern bool compactor_step (struct compactor *compactor, uint64_t until_ns);

/* End the run that there is: nothing stays isolated.  Lock held. */
extern void compactor_end (struct compactor *compactor);

/* All of it, at once, by the caller; takes the lock. */
extern void compactor_run (struct compactor *compactor,
                           const struct compact_goal *goal,
                           struct compact_report *ret);

/* A writer has met the limit and holds no lock but, perhaps, a context:
 * make room for about `bytes`.  True: something was returned since `seen`
 * (compactor_returned, from before the writer tried), by this call or by
 * somebody else, or its time was up before it had looked everywhere: try
 * again.  False: there is nothing to be had now.  Takes the lock; bounded by
 * about `max_ns` of work, and what others do before it.
 */
extern uint64_t compactor_returned (struct compactor *compactor);
extern bool compactor_make_room (struct compactor *compactor, uint64_t bytes,
                                 uint64_t seen, uint64_t max_ns);

/* What a thorough run could return now, and what spare zspages have; takes
 * class locks, one at a time.
 */
extern uint64_t compactor_reclaimable (struct compactor *compactor);

#endif /* ZMEM_COMPACTOR_H */
