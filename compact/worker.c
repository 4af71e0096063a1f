/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the worker does in a step; see worker.h.  The thread that makes them
 * is in worker-thread.c.
 *
 *     step:  a request        begin it, or a slice of it
 *            else             look, if it is time; purge spare zspages; a
 *                             slice of the run under way
 *            then             fill up the pool's reserve
 *
 * Falling asleep without missing a free: `asleep` is set, then a whole look
 * follows.  A free takes its class's lock, and so does the look, after it
 * has set `asleep`.  So the look sees the free, or the free comes after the
 * look in the order of that lock, and whoever freed sees `asleep` and pokes.
 * Who has taken something of the pool's reserve rings for a refill, asleep or
 * not; see compact_worker_refill.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "worker-private.h"

/* To purge in one go, about half a slice. */
#define PURGE_ZSPAGES 8

static uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/*--------------------------------------------------------------------*/
/* The run under way: what both kinds share. */

static void
begin_run (struct compact_worker *worker, const struct compact_goal *goal)
{
  LOCK_FOR_SCOPE (&worker->compactor->lock);

  compactor_begin (worker->compactor, goal);
  worker->run_returned = compactor_returned (worker->compactor);
}

/* The compactor's lock held.  A writer at the limit may have taken the run
 * to its end meanwhile, and even have had one of its own.
 */
static bool
step_run_locked (struct compact_worker *worker, uint64_t now_ns)
{
  struct compactor *compactor = worker->compactor;
  const uint64_t rate = worker->settings.rate;
  const uint64_t copied = compactor->report.copied_bytes;
  bool more;

  ASSERT_LOCKED (&compactor->lock);
  if (compactor->phase == COMPACT_NOT_RUNNING)
    return false;
  more = compactor_step (compactor, compactor->now_ns () + WORKER_SLICE_NS);
  if (rate > 0)
    worker->budget_ns =
      now_ns + (compactor->report.copied_bytes - copied) * NS_PER_S / rate;
  return more;
}

/* What the run, and writers by its side, have returned since this was asked
 * last.
 */
static uint64_t
take_returned (struct compact_worker *worker)
{
  const uint64_t returned = compactor_returned (worker->compactor);
  const uint64_t since = returned - worker->run_returned;

  worker->run_returned = returned;
  return since;
}

static uint64_t
budget_wait (const struct compact_worker *worker, uint64_t now_ns)
{
  return worker->budget_ns > now_ns ? worker->budget_ns - now_ns : 0;
}

void
compact_worker_look_at (struct compact_worker *worker, uint64_t now_ns)
{
  atomic_store (&worker->asleep, false);
  worker->next_look_ns = now_ns;
}

/*--------------------------------------------------------------------*/
/* Runs by our own decision. */

/* Tell the policy what the run has returned so far; what is left of its
 * goal is counted from here.
 */
static void
settle_run (struct compact_worker *worker, uint64_t now_ns)
{
  const struct policy_decision so_far = { .reason = POLICY_IDLE };
  const uint64_t returned = take_returned (worker);
  uint64_t *until = &worker->decision.until_returned;

  policy_run_ended (&worker->policy, now_ns, &so_far, returned);
  if (*until != UINT64_MAX)
    *until -= min_u64 (*until, returned);
}

static void
begin_decided_run (struct compact_worker *worker)
{
  const struct policy_decision *decision = &worker->decision;
  const struct compact_goal goal = {
    .class_idx = -1,
    .thorough = decision->reason != POLICY_OVERWRITES,
    .keep_spare = decision->keep_spare,
    .until_reclaimable = decision->until_reclaimable,
    .until_returned = decision->until_returned,
  };

  begin_run (worker, &goal);
  worker->running = true;
}

static void
cut_decided_run (struct compact_worker *worker)
{
  LOCK_FOR_SCOPE (&worker->compactor->lock);

  compactor_end (worker->compactor);
  worker->running = false;
}

static void
finish_decided_run (struct compact_worker *worker, uint64_t now_ns)
{
  policy_run_ended (&worker->policy, now_ns, &worker->decision,
                    take_returned (worker));
  worker->running = false;
  compact_worker_look_at (worker, now_ns);
}

static uint64_t
step_decided_run (struct compact_worker *worker, uint64_t now_ns,
                  bool contended)
{
  bool more;

  if (contended)
    return WORKER_PAUSE_NS;
  if (budget_wait (worker, now_ns) == 0) {
    lock_acquire (&worker->compactor->lock);
    more = step_run_locked (worker, now_ns);
    lock_release (&worker->compactor->lock);
    if (!more) {
      finish_decided_run (worker, now_ns);
      return 0;
    }
  }
  /* Time for a look comes first. */
  return min_u64 (budget_wait (worker, now_ns),
                  worker->next_look_ns > now_ns ? worker->next_look_ns - now_ns
                                                : 0);
}

/*--------------------------------------------------------------------*/
/* Looks. */

static void
collect_input (struct compact_worker *worker, uint64_t now_ns,
               struct policy_input *ret)
{
  struct pool *pool = worker->compactor->pool;
  struct pool_class_stats class;
  struct worker_facts facts;
  struct pool_stats stats;

  memset (ret, 0, sizeof *ret);
  for (unsigned i = 0; i < pool_nr_classes (pool); i++) {
    pool_class_stats (pool, i, &class);
    ret->reclaimable_bytes += policy_reclaimable (&class);
    ret->nr_frees += class.nr_frees;
  }
  pool_stats (pool, &stats);
  worker->facts (worker->opaque, &facts);
  ret->now_ns = now_ns;
  ret->manual = worker->settings.manual;
  ret->pressure = worker->pressure;
  ret->spare_bytes = stats.spare_bytes;
  ret->arena_bytes = stats.arena_bytes;
  ret->held_bytes = facts.held_bytes;
  ret->limit_bytes = facts.limit_bytes;
  ret->discarded_bytes = facts.discarded_bytes;
}

/* Falling asleep takes one more look, see above. */
static void
schedule_look (struct compact_worker *worker, uint64_t now_ns)
{
  if (worker->decision.wait_ns != NEVER) {
    atomic_store (&worker->asleep, false);
    worker->next_look_ns = now_ns + worker->decision.wait_ns;
  }
  else if (atomic_exchange (&worker->asleep, true))
    worker->next_look_ns = NEVER;
  else
    worker->next_look_ns = now_ns;
}

static bool
look_is_due (const struct compact_worker *worker, uint64_t now_ns)
{
  if (worker->pressure || now_ns >= worker->next_look_ns)
    return true;
  /* Woken. */
  return worker->next_look_ns == NEVER && !atomic_load (&worker->asleep);
}

static void
look (struct compact_worker *worker, uint64_t now_ns)
{
  struct policy_input input;
  struct policy_decision next;

  if (worker->running)
    settle_run (worker, now_ns);
  collect_input (worker, now_ns, &input);
  worker->pressure = false;
  policy_decide (&worker->policy, &input, &next);

  if (worker->running && next.reason != worker->decision.reason)
    cut_decided_run (worker);
  if (worker->running) { /* with the goal that it has */
    next.until_returned = worker->decision.until_returned;
    next.until_reclaimable = worker->decision.until_reclaimable;
  }
  worker->decision = next;
  if (!worker->running && next.reason != POLICY_IDLE)
    begin_decided_run (worker);
  schedule_look (worker, now_ns);
}

/* Purge some of the spare zspages that are not to be kept; true: there may
 * be more of them.
 */
static bool
purge_spare (struct compact_worker *worker)
{
  struct pool *pool = worker->compactor->pool;
  unsigned keep = worker->decision.keep_spare;
  struct pool_stats stats;
  uint64_t nr;

  pool_stats (pool, &stats);
  /* At least so many: some may have few pages. */
  nr = stats.spare_bytes / ZSPAGE_BYTES;
  if (nr > keep + PURGE_ZSPAGES)
    keep = (unsigned) nr - PURGE_ZSPAGES;
  return pool_purge_spare (pool, keep) > 0 &&
         keep > worker->decision.keep_spare;
}

/*--------------------------------------------------------------------*/
/* Runs that were asked for. */

/* Claim the requests that wait, all in one; false: there are none. */
static bool
claim_requests (struct compact_worker *worker, int *class_idx)
{
  LOCK_FOR_SCOPE (&worker->request_lock);

  if (worker->ticket_asked == worker->ticket_begun)
    return false;
  worker->ticket_begun = worker->ticket_asked;
  *class_idx = worker->next_class_idx;
  return true;
}

static bool
request_is_under_way (struct compact_worker *worker)
{
  LOCK_FOR_SCOPE (&worker->request_lock);

  return worker->ticket_begun > worker->ticket_finished;
}

static struct compact_goal
request_goal (int class_idx)
{
  return (struct compact_goal) {
    .class_idx = class_idx,
    .thorough = true,
    .until_returned = UINT64_MAX,
  };
}

/* False: nothing is asked for. */
static bool
begin_request (struct compact_worker *worker, uint64_t now_ns)
{
  struct compact_goal goal;
  int class_idx;

  if (request_is_under_way (worker))
    return true;
  if (!claim_requests (worker, &class_idx))
    return false;
  if (worker->running) {
    settle_run (worker, now_ns);
    cut_decided_run (worker);
    worker->policy.running = POLICY_IDLE;
  }
  goal = request_goal (class_idx);
  begin_run (worker, &goal);
  compact_worker_look_at (worker, now_ns);
  return true;
}

/* A run of everything leaves to the policy what any finished run leaves. */
static void
finish_request (struct compact_worker *worker, uint64_t now_ns, bool all,
                const struct compact_report *report)
{
  const struct policy_decision done = {
    .reason = all ? POLICY_QUIET : POLICY_IDLE,
    .until_returned = UINT64_MAX,
  };

  policy_run_ended (&worker->policy, now_ns, &done, take_returned (worker));
  compact_worker_look_at (worker, now_ns);
  LOCK_FOR_SCOPE (&worker->request_lock);
  worker->report = *report;
  worker->ticket_finished = worker->ticket_begun;
}

/* A writer at the limit took the run to its end and then had one of its
 * own: what ours did is not known any more.  Have it again; as a rule it
 * finds little left to do.
 */
static void
repeat_request (struct compact_worker *worker)
{
  LOCK_FOR_SCOPE (&worker->request_lock);

  if (worker->ticket_asked != worker->ticket_begun)
    worker->next_class_idx = -1; /* the one that follows has it now */
  worker->ticket_begun = worker->ticket_finished;
}

static bool
is_request_goal (const struct compact_goal *goal)
{
  return goal->thorough && goal->keep_spare == 0 &&
         goal->until_reclaimable == 0 && goal->until_returned == UINT64_MAX;
}

/* Somebody waits for it, so it goes on where it is contended, and pauses
 * after that slice: the next call is not contended, if it is the thread's.
 */
static uint64_t
step_request (struct compact_worker *worker, uint64_t now_ns, bool contended)
{
  struct compactor *compactor = worker->compactor;
  struct compact_report report;
  bool more, ours, all;

  /* No longer than a tick: spare zspages are purged meanwhile. */
  if (budget_wait (worker, now_ns) > 0)
    return min_u64 (budget_wait (worker, now_ns), POLICY_TICK_NS);

  lock_acquire (&compactor->lock);
  more = step_run_locked (worker, now_ns);
  ours = is_request_goal (&compactor->goal);
  all = compactor->goal.class_idx == -1;
  report = compactor->report;
  lock_release (&compactor->lock);

  if (!more && ours)
    finish_request (worker, now_ns, all, &report);
  else if (!more)
    repeat_request (worker);
  if (!more)
    return 0;
  return contended ? WORKER_PAUSE_NS
                   : min_u64 (budget_wait (worker, now_ns), POLICY_TICK_NS);
}

/* Where there is no thread: by whoever asks. */
static void
run_request (struct compact_worker *worker, uint64_t ticket, int class_idx)
{
  const struct compact_goal goal = request_goal (class_idx);
  struct compact_report report;

  compactor_run (worker->compactor, &goal, &report);
  LOCK_FOR_SCOPE (&worker->request_lock);
  worker->report = report;
  if (worker->ticket_finished < ticket)
    worker->ticket_begun = worker->ticket_finished = ticket;
}

uint64_t
compact_worker_request (struct compact_worker *worker, int class_idx)
{
  uint64_t ticket;
  bool started;

  lock_acquire (&worker->request_lock);
  started = worker->started;
  /* Several that wait are one run. */
  if (worker->ticket_asked == worker->ticket_begun)
    worker->next_class_idx = class_idx;
  else if (worker->next_class_idx != class_idx)
    worker->next_class_idx = -1;
  ticket = ++worker->ticket_asked;
  lock_release (&worker->request_lock);

  if (started)
    compact_worker_ring (worker);
  else
    run_request (worker, ticket, class_idx);
  return ticket;
}

/* Ticket 0: of the last request. */
bool
compact_worker_report (struct compact_worker *worker, uint64_t ticket,
                       struct compact_report *ret)
{
  struct compactor *compactor = worker->compactor;

  LOCK_FOR_SCOPE (&compactor->lock);
  LOCK_FOR_SCOPE (&worker->request_lock);

  if (ticket == 0)
    ticket = worker->ticket_asked;
  if (worker->ticket_finished >= ticket) {
    *ret = worker->report;
    return true;
  }
  memset (ret, 0, sizeof *ret);
  if (worker->ticket_begun >= ticket && is_request_goal (&compactor->goal))
    *ret = compactor->report;
  return false;
}

/*--------------------------------------------------------------------*/

/* Whoever takes of the reserve sets wants_refill and then looks at
 * refill_asked; here it is the other way round, so one of the two sees the
 * other.  What the limit or the system forbids is tried again when the next
 * step comes, and until then ringing helps nobody.
 */
int
compact_worker_refill (struct compact_worker *worker)
{
  struct pool *pool = worker->compactor->pool;
  const bool retry = worker->refill_error < 0;

  if (!retry) {
    atomic_store (&worker->refill_asked, false);
    if (!pool_wants_refill (pool))
      return 0;
  }
  worker->refill_error =
    pool_refill (pool, worker->decision.refill_below_bytes);
  if (worker->refill_error < 0)
    atomic_store (&worker->refill_asked, true);
  else if (retry) {
    atomic_store (&worker->refill_asked, false);
    if (pool_wants_refill (pool))
      compact_worker_ask_refill (worker);
  }
  return worker->refill_error;
}

static uint64_t
until_next_look (const struct compact_worker *worker, uint64_t now_ns)
{
  if (worker->next_look_ns == NEVER)
    return NEVER;
  return worker->next_look_ns > now_ns ? worker->next_look_ns - now_ns : 0;
}

static uint64_t
step (struct compact_worker *worker, uint64_t now_ns, bool contended)
{
  if (begin_request (worker, now_ns)) {
    /* Purging copies nothing: no budget holds it. */
    if (budget_wait (worker, now_ns) > 0 && purge_spare (worker))
      return 0;
    return step_request (worker, now_ns, contended);
  }
  if (look_is_due (worker, now_ns))
    look (worker, now_ns);
  if (purge_spare (worker))
    return contended ? WORKER_PAUSE_NS : 0;
  if (worker->running)
    return step_decided_run (worker, now_ns, contended);
  return until_next_look (worker, now_ns);
}

uint64_t
compact_worker_step (struct compact_worker *worker, uint64_t now_ns,
                     bool contended)
{
  const uint64_t wait_ns = step (worker, now_ns, contended);

  /* Last: compaction takes of it, a look says up to where; and see above. */
  compact_worker_refill (worker);
  /* The system may have memory again, and tells nobody. */
  return worker->refill_error == -ENOMEM ? min_u64 (wait_ns, POLICY_TICK_NS)
                                         : wait_ns;
}

void
compact_worker_end_runs (struct compact_worker *worker)
{
  struct compactor *compactor = worker->compactor;

  LOCK_FOR_SCOPE (&compactor->lock);
  compactor_end (compactor);
  worker->running = false;
  worker->policy.running = POLICY_IDLE;

  LOCK_FOR_SCOPE (&worker->request_lock);
  if (worker->ticket_finished < worker->ticket_asked) {
    memset (&worker->report, 0, sizeof worker->report);
    if (worker->ticket_begun > worker->ticket_finished &&
        is_request_goal (&compactor->goal))
      worker->report = compactor->report;
  }
  worker->ticket_begun = worker->ticket_finished = worker->ticket_asked;
}
