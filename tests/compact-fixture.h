/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A compactor to test with, over the pool of pool-fixture.h, and all that a
 * run of it promises, in bytes and counts, never in time.
 *
 * Objects belong to items, which are their owners: item i's object says so
 * and lies where items[i] says.  Locks of items are striped, and leaves.  What
 * an object was moved from is overwritten at once, so whoever still believes
 * in it is found out.
 */

#ifndef ZMEM_COMPACT_FIXTURE_H
#define ZMEM_COMPACT_FIXTURE_H

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compactor.h"
#include "frees.h"
#include "libcheck.h"
#include "pool-fixture.h"
#include "situation.h"
#include "test-util.h"

#define MAX_ITEMS ((size_t) 1 << 17)
#define ITEM_NONE SIZE_MAX

/* Guard: its mutex. */
struct item {
  struct object object;
  bool live;
  enum move_result stays; /* MOVE_DONE: it lets itself be moved */
};

extern struct compactor compactor;
extern struct item *items;
extern struct victim *victims; /* MAX_ITEMS of them, the test's */
extern uint64_t live_bytes;    /* of slots; no thread but the test's own */
extern struct rng rng;         /* of all that follows; the test begins it */
extern char situation[160];    /* what failed, for messages */

extern uint64_t nr_moves;     /* counted by the one who moves */
extern unsigned busy_once_in; /* any object, any time; 0: never */
extern struct rng busy_rng;
extern bool alone; /* no other thread: held cannot grow */
extern uint64_t held_before;

/*--------------------------------------------------------------------*/
/* The world: a pool, a compactor, items. */

extern void open_world (uint64_t limit, uint64_t (*now_ns) (void));
extern void close_world (void);
/* Content, every structure, and the kernel's account. */
extern void check_world (void);

/* ITEM_NONE: over the limit. */
extern size_t new_item (uint32_t bytes);
extern void drop_item (size_t i);
/* Any live one, of which there are enough that this ends. */
extern size_t any_item (void);
/* All that live, as victims. */
extern size_t list_victims (void);
extern void free_by_pattern (enum frees frees);

/* For threads, each with items of its own: so many numbers in a row, of
 * which this is the first, before any new_item.
 */
extern size_t reserve_items (size_t nr);
/* 0 or what pool_alloc says. */
extern int give_object (size_t i, uint32_t bytes, uint64_t age);
extern void take_object (size_t i);
extern pthread_mutex_t *mutex_of (size_t item);

/*--------------------------------------------------------------------*/
/* Mixes of sizes. */

enum mix {
  MIX_ALL = NR_SIZES, /* those before are enum sizes */
  MIX_FEW,            /* eight sizes */
  MIX_JUST_ABOVE,     /* a byte more than a class holds */
  MIX_RAW_AND_FEW,
  MIX_TWO,     /* two classes, much of each */
  MIX_LARGEST, /* of those that compress: odd pages */
  NR_MIXES
};

#define NR_FEW 8
extern uint32_t few[NR_FEW]; /* chosen by choose_mix, or by the test */

extern void choose_mix (enum mix mix);
extern uint32_t size_of_mix (enum mix mix);
extern uint64_t bytes_of_mix (enum mix mix);
/* Until so much lives, or the limit is reached. */
extern void fill (enum mix mix, uint64_t bytes);

/*--------------------------------------------------------------------*/
/* What the objects would fit into. */

struct footprint {
  uint64_t slot_bytes; /* of all objects */
  uint64_t resident_bytes, minimal_bytes;
  unsigned nr_classes; /* with objects */
};

/* Nothing may be isolated. */
extern struct footprint measure (void);
/* What a thorough run may leave resident. */
extern uint64_t resident_max (const struct footprint *footprint);
/* After a run that met nobody busy. */
extern void check_compact (void);

/*--------------------------------------------------------------------*/
/* Runs. */

extern const struct compact_goal everything;

struct before {
  struct pool_stats pool;
  uint64_t held, nr_populates, moves, copied;
};

extern struct before look_before (void);
/* What it says is what happened. */
extern void check_report (const struct before *before,
                          const struct compact_report *report);

/* A whole one, with its report checked. */
extern struct compact_report run (const struct compact_goal *goal);
/* All of it, twice, and everything that is promised; the first's report. */
extern struct compact_report run_and_check (void);
/* End what a step, or room for a writer, has left under way. */
extern void end_run (void);

#endif /* ZMEM_COMPACT_FIXTURE_H */
