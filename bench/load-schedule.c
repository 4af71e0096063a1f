/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Which unit is next, and whether there is a next one yet.
 *
 * Never two requests in flight for one unit: a request claims its unit by the
 * unit's first block (the units of a workload are of one size and aligned to
 * it), and one that finds it claimed takes another: a random one another
 * random one, any other the next.  With at least twice as many units as
 * requests in flight the expected number of tries is below 2.
 */

#define _GNU_SOURCE

#include <err.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bench-clock.h"
#include "bench-random.h"
#include "load-content.h"
#include "load-schedule.h"

/* Set before the threads start. */
static const struct load *load;
static const struct workload *workload;
static uint64_t nr_units;
static uint64_t start_ns, stop_ns;
static bool ops_limited;
static uint32_t *shuffled; /* units, for SHUFFLED */
static _Atomic uint8_t *claims;

/* Written by all connections, hence apart from what they only read. */
static struct {
  alignas (64) _Atomic uint64_t cursor;
  _Atomic int64_t nr_left; /* requests to start, if ops_limited */
} shared;

void
prepare_schedule (const struct load *of_all)
{
  load = of_all;
  claims = calloc (load->nr_blocks, sizeof *claims);
  if (claims == NULL)
    err (EXIT_FAILURE, "claims");
}

void
check_room (const struct workload *w)
{
  const uint64_t units = load->nr_blocks / w->unit_blocks;
  const unsigned nr_in_flight = load->nr_connections * load->depth;

  if (units < UINT64_C (2) * nr_in_flight)
    errx (2,
          "%s with %u requests in flight needs %u KiB of the disk, not %" PRIu64
          ": take a larger --size, or a smaller --depth",
          w->name, nr_in_flight,
          2 * nr_in_flight * w->unit_blocks * (BLOCK_BYTES / 1024),
          load->nr_blocks * (BLOCK_BYTES / 1024));
}

static void
shuffle_units (void)
{
  uint64_t state = mix (load->seed);

  shuffled = realloc (shuffled, nr_units * sizeof *shuffled);
  if (shuffled == NULL)
    err (EXIT_FAILURE, "realloc");
  shuffle (shuffled, nr_units, &state);
}

void
begin_schedule (const struct workload *w)
{
  workload = w;
  nr_units = load->nr_blocks / w->unit_blocks;
  if (w->order == SHUFFLED)
    shuffle_units ();
  shared.cursor = 0;
  ops_limited = load->nr_ops > 0 || w->once > 0;
  shared.nr_left = w->once > 0 ? nr_units / w->once : load->nr_ops;
  start_ns = now_ns ();
  stop_ns = start_ns + load->seconds * 1e9;
}

void
begin_turn (struct turn *turn, unsigned connection)
{
  turn->rng_state =
    mix (load->seed * 1000 + connection + (workload - workloads) * 100);
  turn->nr_started = 0;
  turn->drained = false;
}

uint64_t
schedule_start_ns (void)
{
  return start_ns;
}

/* One look at the clock for each request, as the client is to be lean.  The
 * first is never too late: of a phase that is over before its thread has begun
 * nothing would be measured.
 */
uint64_t
try_start (struct turn *turn)
{
  const uint64_t now = now_ns ();

  if (turn->drained)
    return 0;
  if (!ops_limited && now >= stop_ns && turn->nr_started > 0)
    turn->drained = true;
  else if (load->rate && turn->nr_started * 1e9 * load->nr_connections >
                           (double) load->rate * (now - start_ns))
    return 0;
  else if (ops_limited)
    turn->drained = atomic_fetch_sub (&shared.nr_left, 1) <= 0;
  turn->nr_started += !turn->drained;
  return turn->drained ? 0 : now;
}

static bool
try_claim (uint64_t block)
{
  return atomic_exchange_explicit (&claims[block], 1, memory_order_acquire) ==
         0;
}

static uint64_t
next_unit (struct turn *turn)
{
  uint64_t next;

  if (workload->order == RANDOM)
    return rng (&turn->rng_state) % nr_units;
  next = atomic_fetch_add_explicit (&shared.cursor, 1, memory_order_relaxed);
  next %= nr_units;
  return workload->order == SHUFFLED ? shuffled[next] : next;
}

uint64_t
claim_unit (struct turn *turn)
{
  uint64_t block;

  do
    block = next_unit (turn) * workload->unit_blocks;
  while (!try_claim (block));
  return block;
}

void
release_unit (uint64_t block)
{
  atomic_store_explicit (&claims[block], 0, memory_order_release);
}
