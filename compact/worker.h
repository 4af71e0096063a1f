/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The worker: the thread that compacts and purges by itself.
 *
 * Asleep it costs nothing: it waits in poll for its eventfds and for the
 * system's memory pressure.  Awake it looks every POLICY_TICK_NS, and works
 * in slices of WORKER_SLICE_NS.  After a slice it pauses where the slice
 * took longer by the clock than it had of the processor (somebody else
 * wants it), and as long as its budget of bytes a second asks for.
 *
 * All that it decides is in compact_worker_step, which knows no thread and
 * takes the time as a number: tests call it with a clock of their own.
 *
 * Locks: the compactor's, for a slice at a time; `request_lock`, a leaf.
 */

#ifndef ZMEM_WORKER_H
#define ZMEM_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "compactor.h"
#include "lock.h"
#include "policy.h"

#define WORKER_SLICE_NS (200 * UINT64_C (1000))
/* After a slice in which somebody else had the processor. */
#define WORKER_PAUSE_NS (1000 * UINT64_C (1000))

struct worker_settings {
  bool manual;               /* compact=manual */
  uint64_t rate;             /* bytes copied a second; 0: any */
  const char *pressure_path; /* PSI file; NULL: none.  Borrowed for
                                   compact_worker_init alone */
};

/* What the worker cannot find out from the pool. */
struct worker_facts {
  uint64_t held_bytes, limit_bytes, discarded_bytes;
};

struct compact_worker {
  struct compactor *compactor;
  void (*facts) (void *opaque, struct worker_facts *ret);
  void *opaque;
  struct worker_settings settings;

  _Atomic bool asleep;       /* a poke must wake it */
  _Atomic bool refill_asked; /* nobody need ring for one */
  _Atomic bool stopping;
  int event_fd, refill_fd;
  int pressure_fd; /* -1: none */
  pthread_t thread;
  bool started;

  /* The step's own. */
  struct policy_state policy;
  struct policy_decision decision; /* of the run under way */
  bool running;                    /* a run of ours */
  bool pressure;
  uint64_t run_returned; /* totals.returned_bytes at its begin */
  uint64_t next_look_ns;
  uint64_t budget_ns; /* when the budget allows the next slice */
  int refill_error;   /* what the reserve lacks, for this reason */

  struct lock request_lock; /* guards the rest */
  uint64_t ticket_asked, ticket_begun, ticket_finished;
  int next_class_idx;           /* of the run asked for; -1: all */
  struct compact_report report; /* of the last one finished */
};

/* 0 or -errno (no eventfd).  The compactor is borrowed until
 * compact_worker_destroy.
 */
extern int
compact_worker_init (struct compact_worker *worker, struct compactor *compactor,
                     const struct worker_settings *settings,
                     void (*facts) (void *opaque, struct worker_facts *ret),
                     void *opaque);
extern void compact_worker_destroy (struct compact_worker *worker);

/* The thread; 0 or -errno.  Stop: in the middle of a run, too, which is
 * ended; returns when the thread has.
 */
extern int compact_worker_start (struct compact_worker *worker);
extern void compact_worker_stop (struct compact_worker *worker);

/* Something was freed.  Nearly free while the worker is awake.  To be
 * called after the free: what is freed before the worker falls asleep it
 * sees by itself.
 */
extern void compact_worker_wake (struct compact_worker *worker);

static inline void
compact_worker_poke (struct compact_worker *worker)
{
  if (atomic_load_explicit (&worker->asleep, memory_order_relaxed))
    compact_worker_wake (worker);
}

/* Something of the pool's reserve was taken (pool_wants_refill), and is to
 * come back at once: rings the worker, once for each refill.  It interrupts a
 * pause or sleep of the worker's for the refill alone.
 */
extern void compact_worker_ask_refill (struct compact_worker *worker);

/* Ask for a thorough run over all classes (-1) or one, and get its ticket.
 * If one is under way the new one follows it.  Without a thread it is done
 * when this returns.
 */
extern uint64_t compact_worker_request (struct compact_worker *worker,
                                        int class_idx);
/* True: the run of that ticket has ended, and this is its report (of the
 * last that has ended, should there have been another since).  False: what
 * it has done so far.
 */
extern bool compact_worker_report (struct compact_worker *worker,
                                   uint64_t ticket, struct compact_report *ret);

/* One look or one slice at the time now_ns.  Returns when to be called
 * again, in nanoseconds from now: 0 at once; UINT64_MAX: when woken.
 * `contended`: of the last slice, see above; the thread finds it out.
 */
extern uint64_t compact_worker_step (struct compact_worker *worker,
                                     uint64_t now_ns, bool contended);

#endif /* ZMEM_WORKER_H */
