/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Verifying: a walk over all blocks, in the background, that compares every
 * payload with its checksum, so that damage is found before somebody reads
 * it, and while what is to be done about it can still be chosen.
 *
 * It goes region by region, by their words, and in a live region group by
 * group: the group's lock is held for the checksums of up to 16 payloads,
 * less than a read of those blocks holds it for, and no other lock is waited
 * for meanwhile.  Nothing is decoded: see verify.c.
 *
 * What a walk promises: a payload that was damaged before it began, and that
 * stays, is found; blocks that are written meanwhile are looked at as they
 * were before or after.
 *
 * All decisions are in verify_step, which knows no thread and takes the time
 * as a number; verify_start has a thread of its own make the steps.
 *
 * Locks: `lock`, a leaf; a group's, one at a time, and never both.
 */

#ifndef ZMEM_VERIFY_H
#define ZMEM_VERIFY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lock.h"
#include "store.h"

/* A slice ends after so many groups, or so many regions without blocks: some
 * 100 to 300 us.
 */
#define VERIFY_SLICE_GROUPS 16
#define VERIFY_SLICE_REGIONS 4096
/* After a slice in which somebody else had the processor. */
#define VERIFY_PAUSE_NS (1000 * UINT64_C (1000))
/* With a rate, slices come at least so often (if a group allows it). */
#define VERIFY_RATE_SLICES_PER_S 20

#define VERIFY_DONE UINT64_MAX

struct verifier {
  struct store *store; /* borrowed for as long as there is one */
  _Atomic bool stopping;
  pthread_t thread;
  bool has_thread; /* that is to be joined; the callers' */

  /* The step's own. */
  uint64_t next_blkno; /* where it goes on */
  uint64_t begin_ns;
  uint64_t budget_ns; /* when the rate allows the next slice */

  struct lock lock; /* guards the rest, but for on_damage */
  pthread_cond_t wake;
  uint64_t rate;     /* payload bytes a second; 0: any */
  bool rate_changed; /* since the thread last waited */
  struct verify_report report;
  uint64_t nr_runs; /* that came to their end */

  store_damage_fn on_damage; /* set before the first start */
  void *on_damage_opaque;
};

extern void verifier_init (struct verifier *verifier, struct store *store);
/* Stops it, too. */
extern void verifier_destroy (struct verifier *verifier);

/* Begin a walk whose steps are to be made by the caller (tests). */
extern void verify_begin (struct verifier *verifier, uint64_t rate);

/* One slice at the time now_ns.  Returns when to be called again, in
 * nanoseconds from now: 0 at once; VERIFY_DONE: that was the last.
 * `contended`: in the last slice somebody else wanted the processor.
 */
extern uint64_t verify_step (struct verifier *verifier, uint64_t now_ns,
                             bool contended);

#endif /* ZMEM_VERIFY_H */
