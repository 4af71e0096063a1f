/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A worker to test with, over the pool of pool-fixture.h: step by step with
 * a clock of the test's own and no thread, or with the thread itself.
 *
 * An item owns an object: a table says where it lies, under a striped lock,
 * as a block table would.
 */

#ifndef ZMEM_WORKER_FIXTURE_H
#define ZMEM_WORKER_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pool-fixture.h"
#include "test-util.h"
#include "worker.h"

#define MS UINT64_C (1000000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX /* to wait for */

extern struct compact_worker worker; /* with worker.compactor */
extern struct rng worker_rng;
extern atomic_uint nr_facts; /* how often it asked for them: its looks */
/* Called after each move, with no lock but the compactor's; NULL: nothing. */
extern void (*after_move) (void);

/*--------------------------------------------------------------------*/
/* A clock that passes when it is looked at. */

#define LOOK_AT_CLOCK_NS UINT64_C (10000)
extern uint64_t fake_ns;
extern uint64_t fake_now_ns (void);

/* With that clock, and so many bytes a second. */
extern void open_worker (uint64_t rate);
extern void open_worker_with_reserve (uint64_t reserve);
/* now_ns: as compactor_init has it. */
extern void open_worker_of (const struct worker_settings *settings,
                            uint64_t (*now_ns) (void));
/* Nothing is isolated, and everything can be freed. */
extern void close_worker (void);

/*--------------------------------------------------------------------*/
/* Items, owners of 0 to MAX_ITEMS - 1.  Threads may add and free, each its
 * own; what they see wrong is noted.
 */

#define MAX_ITEMS 40000

extern void add_item (owner_t owner, uint32_t bytes);
/* Nothing, where there is none. */
extern void free_item (owner_t owner);
extern bool is_live (owner_t owner);
/* As a trim does: the worker hears of it. */
extern void discard_item (owner_t owner);
/* Of [start, end), of any size in [low, high]. */
extern void add_items (owner_t start, owner_t end, uint32_t low, uint32_t high);
/* As trims would, one in `of` being left. */
extern void free_most (owner_t start, owner_t end, unsigned of);

extern void check_pool (void);
extern uint64_t nr_runs (void);
extern uint64_t arena_bytes (void);
extern uint64_t spare_bytes (void);

/*--------------------------------------------------------------------*/
/* Steps. */

/* One step, as the thread would: the time that it asks for passes. */
extern uint64_t step (bool contended);
/* Until it sleeps. */
extern void step_to_sleep (void);
/* Was the eventfd written?  Reads it. */
extern bool was_rung (void);
extern bool was_rung_for_refill (void);
/* Ask as if the thread were there: the steps are the test's. */
extern uint64_t ask (int class_idx);
extern bool is_done (uint64_t ticket);

#endif /* ZMEM_WORKER_FIXTURE_H */
