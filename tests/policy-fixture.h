/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Looks of the policy, one after the other, at a pool that is nothing but
 * numbers; the test is its clock and says what happens between two looks.
 */

#ifndef ZMEM_POLICY_FIXTURE_H
#define ZMEM_POLICY_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "policy.h"
#include "test-util.h"

#define MS UINT64_C (1000000)

extern struct policy_state state;
extern struct policy_input input;
extern struct policy_decision decision;

/* A pool of 100 MiB that nothing has happened to. */
extern void start (void);
/* That, and it was looked at. */
extern void start_asleep (void);

extern enum policy_reason look (void);
/* When the last one said so, which must be a tick. */
extern enum policy_reason next_look (void);
/* Did the last one decide to? */
extern bool sleeps (void);

extern void overwrite (uint64_t bytes);
extern void trim (uint64_t bytes);
/* The run that was decided returns so much, and ends. */
extern void run_ends (uint64_t bytes);

#endif /* ZMEM_POLICY_FIXTURE_H */
