/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Which unit is next, and whether there is a next one yet: what the
 * connections of nbd-load share while a workload runs.  See load-schedule.c.
 */

#ifndef ZMEM_LOAD_SCHEDULE_H
#define ZMEM_LOAD_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "load-workloads.h"

/* For all workloads. */
struct load {
  unsigned nr_connections, depth;
  double seconds;
  uint64_t nr_ops; /* 0: seconds count */
  uint64_t rate;   /* requests a second of all connections; 0: no bound */
  uint64_t seed;
  uint64_t nr_blocks; /* of the disk, to use */
  bool verify;
};

/* A connection's. */
struct turn {
  uint64_t rng_state;
  uint64_t nr_started;
  bool drained; /* no more requests to start */
};

/* Once, before any workload. */
extern void prepare_schedule (const struct load *load);

/* Whether the disk has units enough for all requests in flight to find one
 * soon.  Else exits with a sentence and status 2.
 */
extern void check_room (const struct workload *workload);

/* Begin a workload: now.  No thread runs yet. */
extern void begin_schedule (const struct workload *workload);
extern void begin_turn (struct turn *turn, unsigned connection);
extern uint64_t schedule_start_ns (void);

/* Whether to start a request now, which is then counted as started: returns
 * the time, its start.  0: later, or never (drained).
 */
extern uint64_t try_start (struct turn *turn);

/* Returns the first block of a unit that is the caller's alone until it is
 * released.
 */
extern uint64_t claim_unit (struct turn *turn);
extern void release_unit (uint64_t block);

#endif /* ZMEM_LOAD_SCHEDULE_H */
