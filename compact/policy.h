/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Policy: what compaction should do, from statistics alone.  No clock, no
 * thread, no memory: time and counts come in, a decision goes out, so that
 * a table of cases tests it.
 *
 * reclaimable: what a finished compaction would return.  A class of I objects
 * of s bytes, n to a zspage, fits into
 *
 *     floor (I / n) * pages (n * s) + pages ((I mod n) * s)
 *
 * pages, pages (b) being b / 4096 rounded up; what it has resident beyond
 * that can be returned.
 *
 * When (policy_decide), with R the reclaimable and S the spare bytes (of
 * emptied zspages that nobody has purged yet):
 *
 *   quiet     nothing was freed since the last look: compact if R passes
 *             POLICY_LOW_BYTES, then sleep until a free wakes the worker
 *   discards  blocks were trimmed, and none since the last look, or the
 *             first of them POLICY_DISCARD_MAX_NS ago: the same, but return no
 *             more than was trimmed, so that writes that go on meanwhile are
 *             not chased
 *   overwrites alone: only if R passes POLICY_HIGH_BYTES + a 1/25 of the
 *             arena, down to half of that; allocations fill most holes
 *   limit     held is within 1/32 of the limit, or above it: compact if R
 *             passes POLICY_LOW_BYTES / 4, until held is below 1/16 or
 *             nothing is left to be had.  After a run that returned next to
 *             nothing, not again for POLICY_RETRY_NS
 *   pressure  the system is short of memory: all there is, once
 *
 * manual: never compacts, but purges spare zspages all the same.
 */

#ifndef ZMEM_POLICY_H
#define ZMEM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

#define POLICY_TICK_NS (50 * UINT64_C (1000000)) /* looks, while awake */
#define POLICY_DISCARD_MAX_NS (500 * UINT64_C (1000000))
#define POLICY_RETRY_NS (200 * UINT64_C (1000000))
#define POLICY_LOW_BYTES ((uint64_t) 768 << 10)
#define POLICY_HIGH_BYTES ((uint64_t) 2 << 20)
/* Emptied zspages that may stay, for the next that needs one. */
#define POLICY_SPARE_ZSPAGES 2

/* Bytes that a compaction of the class would return. */
extern uint64_t policy_reclaimable (const struct pool_class_stats *class);

/* The next class to compact, of those whose bit in `done` (one a class) is
 * not set: the one that returns most.  -1: none would return a page.
 */
extern int policy_choose_class (const uint64_t *reclaimable_bytes,
                                unsigned nr_classes, const bool *done);

/* The last source of a class cannot be emptied: part of its objects find
 * room elsewhere, the rest would be packed low.  Does that pay?  `credit`:
 * bytes that the run has returned beyond what it has copied, for a run never
 * copies more than it returns.
 */
struct pool_source;
extern bool policy_pack_pays (const struct pool_source *source,
                              uint32_t object_bytes, int64_t credit);

/* What is known at a look. */
struct policy_input {
  uint64_t now_ns;
  bool manual;
  bool pressure; /* the system reported it since the last */
  uint64_t reclaimable_bytes;
  uint64_t spare_bytes;
  uint64_t arena_bytes;
  uint64_t held_bytes, limit_bytes;
  uint64_t nr_frees;        /* ever */
  uint64_t discarded_bytes; /* ever, by trim and zero */
};

/* What is remembered from look to look; all zero at first. */
struct policy_state {
  uint64_t nr_frees; /* of the last look */
  uint64_t discarded_bytes;
  uint64_t debt_bytes; /* trimmed, not yet compacted for */
  uint64_t debt_since_ns;
  uint64_t retry_at_ns; /* at the limit, not before */
  bool above_watermark; /* hysteresis of the limit */
  bool has_looked;
  unsigned running;     /* enum policy_reason of the run under way */
  bool exhausted;       /* a run left only what it could not have, and
                                   nothing was freed since */
  bool quiet_run_ended; /* since the last look; not for overwrites */
  bool busy_run_ended;  /* the same, for overwrites */
  uint64_t left_bytes;  /* reclaimable that such a run has left */
  uint64_t busy_left_bytes;
};

enum policy_reason {
  POLICY_IDLE, /* do not compact */
  POLICY_QUIET,
  POLICY_DISCARDS,
  POLICY_OVERWRITES,
  POLICY_LIMIT,
  POLICY_PRESSURE
};

struct policy_decision {
  enum policy_reason reason;   /* of the run; POLICY_IDLE: none */
  uint64_t until_reclaimable;  /* the run ends when so little is left, */
  uint64_t until_returned;     /* or so much has been returned */
  unsigned keep_spare;         /* zspages; purge the others now */
  uint64_t refill_below_bytes; /* of held, for the pool's reserve */
  /* Until the next look; UINT64_MAX: sleep until something is freed. */
  uint64_t wait_ns;
};

extern void policy_decide (struct policy_state *state,
                           const struct policy_input *input,
                           struct policy_decision *ret);

/* The run that was decided has ended: by reaching what it was for, or
 * because nothing more could be done.  With a decision of POLICY_IDLE: it has
 * returned so much more, and goes on, or was cut short.
 */
extern void policy_run_ended (struct policy_state *state, uint64_t now_ns,
                              const struct policy_decision *decision,
                              uint64_t returned_bytes);

#endif /* ZMEM_POLICY_H */
