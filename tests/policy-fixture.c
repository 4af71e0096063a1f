/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Looks of the policy, one after the other; see policy-fixture.h.
 */

#include <config.h>

#include <string.h>

#include "libcheck.h"
#include "policy-fixture.h"

struct policy_state state;
struct policy_input input;
struct policy_decision decision;

void
start (void)
{
  memset (&state, 0, sizeof state);
  input = (struct policy_input) {
    .now_ns = 5000 * MS,
    .arena_bytes = 100 * MIB,
    .held_bytes = 101 * MIB,
    .limit_bytes = PAGES_NO_LIMIT,
  };
}

enum policy_reason
look (void)
{
  policy_decide (&state, &input, &decision);
  input.pressure = false;
  return decision.reason;
}

enum policy_reason
next_look (void)
{
  ck_assert_uint_le (decision.wait_ns, POLICY_TICK_NS);
  input.now_ns += decision.wait_ns;
  return look ();
}

bool
sleeps (void)
{
  return decision.reason == POLICY_IDLE && decision.wait_ns == UINT64_MAX;
}

void
overwrite (uint64_t bytes)
{
  input.nr_frees++;
  input.reclaimable_bytes += bytes;
}

void
trim (uint64_t bytes)
{
  input.nr_frees++;
  input.discarded_bytes += bytes;
  input.reclaimable_bytes += bytes;
}

void
run_ends (uint64_t bytes)
{
  input.reclaimable_bytes -= bytes;
  input.held_bytes -= bytes;
  policy_run_ended (&state, input.now_ns, &decision, bytes);
}

void
start_asleep (void)
{
  start ();
  look ();
  ck_assert (sleeps ());
}
