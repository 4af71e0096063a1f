/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The worker over a real pool: step by step with a clock of the test's own
 * and no thread, then the thread itself beside others that free.
 *
 * An item owns an object: items[owner] says where it lies, under a striped
 * lock, as a block table would.
 */

#include <config.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "compactor.h"
#include "pool-check.h"
#include "pool-fixture.h"
#include "policy.h"
#include "probe.h"
#include "worker.h"

#define MS UINT64_C (1000000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

#define MAX_ITEMS 40000
#define NR_MUTEXES 64

/*--------------------------------------------------------------------*/
/* Items. */

struct item {
  bool live;
  uint32_t bytes;
  zs_loc loc;
};
static struct item items[MAX_ITEMS];
static pthread_mutex_t mutexes[NR_MUTEXES];

static pthread_mutex_t *
mutex_of (owner_t owner)
{
  return &mutexes[owner % NR_MUTEXES];
}

static uint64_t
word_of (owner_t owner, size_t i)
{
  return (owner + 1) * UINT64_C (0x9e3779b97f4a7c15) + i;
}

static void
add_item (owner_t owner, uint32_t bytes)
{
  struct item item = { .live = true, .bytes = bytes };
  uint64_t *words;

  if (pool_alloc (pool, bytes, owner, &item.loc) < 0) {
    test_note_failure ("no room for an object");
    return;
  }
  words = pool_borrow (pool, item.loc);
  for (size_t i = 0; i < bytes / sizeof *words; i++)
    words[i] = word_of (owner, i);
  pthread_mutex_lock (mutex_of (owner));
  items[owner] = item;
  pthread_mutex_unlock (mutex_of (owner));
}

/* Nobody moves what no item points at. */
static void
free_item (owner_t owner)
{
  const uint64_t *words;
  struct item item;

  pthread_mutex_lock (mutex_of (owner));
  item = items[owner];
  items[owner].live = false;
  pthread_mutex_unlock (mutex_of (owner));
  if (!item.live)
    return;
  words = pool_borrow (pool, item.loc);
  for (size_t i = 0; i < item.bytes / sizeof *words; i++)
    if (words[i] != word_of (owner, i)) {
      test_note_failure ("item %u is damaged", owner);
      break;
    }
  pool_free (pool, item.loc);
}

static enum move_result
move_locked (owner_t owner, zs_loc from, zs_loc to, uint32_t *copied)
{
  struct item *item = &items[owner];

  if (!item->live || item->loc != from)
    return MOVE_IN_TRANSIT;
  memcpy (pool_borrow (pool, to), pool_borrow (pool, from), item->bytes);
  item->loc = to;
  *copied = item->bytes;
  return MOVE_DONE;
}

static enum move_result
move_item (void *opaque, owner_t owner, zs_loc from, zs_loc to,
           uint32_t *copied)
{
  enum move_result result;

  (void) opaque;
  if (pthread_mutex_trylock (mutex_of (owner)) != 0)
    return MOVE_BUSY;
  result = move_locked (owner, from, to, copied);
  pthread_mutex_unlock (mutex_of (owner));
  return result;
}

static const struct compact_ops ops = { .move = move_item };

/*--------------------------------------------------------------------*/
/* The worker, and a clock that passes when it is looked at. */

#define LOOK_AT_CLOCK_NS UINT64_C (10000)

static struct compactor compactor;
static struct compact_worker worker;
static struct rng rng;
static uint64_t fake_ns;
static atomic_uint nr_facts;
static _Atomic uint64_t discarded_bytes;

static uint64_t
fake_now_ns (void)
{
  return fake_ns += LOOK_AT_CLOCK_NS;
}

static void
tell_facts (void *opaque, struct worker_facts *ret)
{
  (void) opaque;
  ret->held_bytes = pages_held (&pages);
  ret->limit_bytes = atomic_load (&pages.limit);
  ret->discarded_bytes = atomic_load (&discarded_bytes);
  atomic_fetch_add (&nr_facts, 1);
}

static void
open_worker_of (const struct worker_settings *settings,
                uint64_t (*now_ns) (void))
{
  rng_init (&rng, test_seed (), 1);
  memset (items, 0, sizeof items);
  for (unsigned i = 0; i < NR_MUTEXES; i++)
    pthread_mutex_init (&mutexes[i], NULL);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  fake_ns = 1000 * SECOND;
  compactor_init (&compactor, pool, &ops, NULL, now_ns);
  ck_assert_int_eq (compact_worker_init (&worker, &compactor, settings,
                                         tell_facts, NULL), 0);
}

static void
open_worker (uint64_t rate)
{
  const struct worker_settings settings = { .rate = rate };

  open_worker_of (&settings, fake_now_ns);
}

static void
check_pool (void)
{
  char error[256] = "";

  ck_assert_msg (pool_check (pool, error, sizeof error) == 0, "%s", error);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

/* Nothing is isolated, and everything can be freed. */
static void
close_worker (void)
{
  struct pool_class_stats class;
  struct pool_stats stats;

  compact_worker_stop (&worker);
  ck_assert_int_eq (compactor.phase, COMPACT_NOT_RUNNING);
  for (unsigned i = 0; i < pool_nr_classes (pool); i++) {
    pool_class_stats (pool, i, &class);
    ck_assert_uint_eq (class.nr_isolated, 0);
  }
  check_pool ();
  for (owner_t i = 0; i < MAX_ITEMS; i++)
    free_item (i);
  check_pool ();
  pool_stats (pool, &stats);
  ck_assert_uint_eq (stats.arena_bytes, 0);
  compact_worker_destroy (&worker);
  compactor_destroy (&compactor);
  close_pool ();
}

static void
add_items (owner_t start, owner_t end, uint32_t low, uint32_t high)
{
  for (owner_t i = start; i < end; i++)
    add_item (i, (uint32_t) rng_between (&rng, low, high));
}

/* As trims would, one in `of` being left. */
static void
free_most (owner_t start, owner_t end, unsigned of)
{
  for (owner_t i = start; i < end; i++)
    if (items[i].live && !rng_once_in (&rng, of)) {
      atomic_fetch_add (&discarded_bytes, items[i].bytes);
      free_item (i);
      compact_worker_poke (&worker);
    }
}

static uint64_t
nr_runs (void)
{
  return atomic_load (&compactor.totals.runs);
}

static uint64_t
nr_copied (void)
{
  return atomic_load (&compactor.totals.copied_bytes);
}

static uint64_t
arena_bytes (void)
{
  struct pool_stats stats;

  pool_stats (pool, &stats);
  return stats.arena_bytes;
}

static uint64_t
spare_bytes (void)
{
  struct pool_stats stats;

  pool_stats (pool, &stats);
  return stats.spare_bytes;
}

/* One step, as the thread would: the time that it asks for passes. */
static uint64_t
step (bool contended)
{
  const uint64_t wait = compact_worker_step (&worker, fake_ns, contended);

  if (wait != NEVER)
    fake_ns += wait;
  return wait;
}

/* Until it sleeps. */
static void
step_to_sleep (void)
{
  unsigned nr = 0;

  while (step (false) != NEVER)
    ck_assert_uint_lt (++nr, 1000000);
  ck_assert (atomic_load (&worker.asleep));
  ck_assert (!worker.running);
}

/* Was the eventfd written?  Reads it. */
static bool
was_rung (void)
{
  struct pollfd fd = { .fd = worker.event_fd, .events = POLLIN };
  uint64_t rung;

  return poll (&fd, 1, 0) == 1
    && read (worker.event_fd, &rung, sizeof rung) == sizeof rung;
}

/* Ask as if the thread were there: the steps are this test's. */
static uint64_t
ask (int class_idx)
{
  uint64_t ticket;

  worker.started = true;
  ticket = compact_worker_request (&worker, class_idx);
  worker.started = false;
  ck_assert (was_rung ());
  return ticket;
}

static bool
is_done (uint64_t ticket)
{
  struct compact_report report;

  return compact_worker_report (&worker, ticket, &report);
}

/*--------------------------------------------------------------------*/
/* Requests. */

START_TEST (test_request)
{
  struct compact_report report, before = { 0 };
  uint64_t ticket, arena, reclaimable;
  unsigned nr_slices = 0;

  open_worker (0);
  add_items (0, 20000, 100, 4096);
  free_most (0, 20000, 2);
  arena = arena_bytes ();
  reclaimable = compactor_reclaimable (&compactor);
  ticket = ask (-1);
  ck_assert (!compact_worker_report (&worker, ticket, &report));
  ck_assert_uint_eq (report.moved_objects, 0);

  do {
    const uint64_t start_ns = fake_ns;

    before = report;
    ck_assert_uint_eq (step (false), 0);
    nr_slices++;
    /* A slice, and what cannot be cut short. */
    ck_assert_uint_le (fake_ns - start_ns,
                       WORKER_SLICE_NS + 4 * LOOK_AT_CLOCK_NS);
    ck_assert_uint_le (before.moved_objects, report.moved_objects);
  } while (!compact_worker_report (&worker, ticket, &report));
  ck_assert_uint_gt (nr_slices, 4);
  ck_assert_uint_eq (nr_runs (), 1);
  ck_assert_uint_gt (before.moved_objects, 0);
  ck_assert_uint_eq (report.moved_objects,
                     atomic_load (&compactor.totals.moved_objects));
  ck_assert_uint_eq (report.returned_bytes, arena - arena_bytes ());
  ck_assert_uint_le (report.copied_bytes, report.returned_bytes);
  ck_assert_uint_ge (report.returned_bytes, reclaimable / 2);
  check_pool ();
  /* That was all there was to do. */
  step_to_sleep ();
  ck_assert (is_done (ticket));
  ck_assert (is_done (0));
  close_worker ();
}
END_TEST

START_TEST (test_request_of_a_class)
{
  const unsigned class_idx = size_class_of (size_class_table (), 2000);
  struct pool_class_stats before, after, other;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 4000, 2000, 2000);
  add_items (4000, 8000, 3000, 3000);
  free_most (0, 8000, 2);
  pool_class_stats (pool, class_idx, &before);
  pool_class_stats (pool, size_class_of (size_class_table (), 3000), &other);
  ticket = ask ((int) class_idx);
  while (!is_done (ticket))
    step (false);
  pool_class_stats (pool, class_idx, &after);
  ck_assert_uint_lt (after.resident_bytes, before.resident_bytes);
  pool_class_stats (pool, size_class_of (size_class_table (), 3000), &after);
  ck_assert_uint_eq (after.resident_bytes, other.resident_bytes);
  close_worker ();
}
END_TEST

/* Without a thread a request is done when it returns. */
START_TEST (test_request_without_thread)
{
  struct compact_report report;
  uint64_t ticket;

  open_worker (0);
  ck_assert (compact_worker_report (&worker, 0, &report));
  ck_assert_uint_eq (report.moved_objects, 0);
  add_items (0, 5000, 2000, 2000);
  free_most (0, 5000, 2);
  ticket = compact_worker_request (&worker, -1);
  ck_assert (compact_worker_report (&worker, ticket, &report));
  ck_assert_uint_gt (report.moved_objects, 0);
  ck_assert_uint_gt (report.returned_bytes, 0);
  ck_assert_uint_eq (nr_runs (), 1);
  close_worker ();
}
END_TEST

/* Requests that come while one is under way are one run, after it. */
START_TEST (test_tickets)
{
  uint64_t first, second, third, fourth;

  open_worker (0);
  add_items (0, 10000, 1000, 4096);
  free_most (0, 10000, 2);
  first = ask (100);
  second = ask (100);
  ck_assert_uint_lt (first, second);
  step (false);
  ck_assert_int_eq (compactor.goal.class_idx, 100);
  while (!is_done (first))
    step (false);
  ck_assert (is_done (second));
  ck_assert_uint_eq (nr_runs (), 1);

  first = ask (-1);
  step (false);
  ck_assert (!is_done (first));
  second = ask (100);
  third = ask (101);
  ck_assert_uint_lt (second, third);
  while (!is_done (first)) {
    ck_assert (!is_done (second));
    ck_assert (!is_done (third));
    step (false);
  }
  ck_assert_uint_eq (nr_runs (), 2);
  ck_assert (!is_done (second));
  step (false);
  ck_assert_uint_eq (nr_runs (), 3);
  /* Two classes: all of them. */
  ck_assert_int_eq (compactor.goal.class_idx, -1);
  fourth = is_done (third) ? third : ask (102);
  while (!is_done (third))
    step (false);
  ck_assert (is_done (second));
  while (!is_done (fourth))
    step (false);
  ck_assert (is_done (0));
  close_worker ();
}
END_TEST

/* A writer at the limit takes the run to its end between two slices; so it
 * may, and the request is answered all the same.
 */
START_TEST (test_writer_ends_the_run)
{
  struct compact_report report;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (-1);
  step (false);
  ck_assert_int_ne (compactor.phase, COMPACT_NOT_RUNNING);
  ck_assert (compactor_make_room (&compactor, 1024 * MIB,
                                  compactor_returned (&compactor),
                                  1000 * SECOND));
  ck_assert_int_eq (compactor.phase, COMPACT_NOT_RUNNING);
  while (!compact_worker_report (&worker, ticket, &report))
    step (false);
  ck_assert_uint_gt (report.returned_bytes, 0);
  step_to_sleep ();

  /* The same with a run that nobody asked for. */
  add_items (20000, 40000, 1000, 4096);
  free_most (20000, 40000, 2);
  while (!worker.running)
    step (false);
  step (false);
  ck_assert (compactor_make_room (&compactor, 1024 * MIB,
                                  compactor_returned (&compactor),
                                  1000 * SECOND));
  step_to_sleep ();
  close_worker ();
}
END_TEST

/* And has one of its own besides, which finds nothing. */
START_TEST (test_writer_replaces_the_run)
{
  const struct compact_goal goal = { .class_idx = -1, .until_returned = 1 };
  struct compact_report ignored;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (5);
  step (false);
  ticket = ask (-1);
  while (compactor.goal.class_idx != -1)
    step (false);
  step (false);
  ck_assert (!is_done (ticket));
  compactor_run (&compactor, &goal, &ignored);
  ck_assert (!is_done (ticket));
  while (!is_done (ticket))
    step (false);
  /* It was had again, whole. */
  ck_assert_int_eq (compactor.goal.class_idx, -1);
  ck_assert (compactor.goal.thorough);
  close_worker ();
}
END_TEST

/* It takes the place of a run that was not asked for. */
START_TEST (test_request_during_a_run)
{
  uint64_t ticket;

  open_worker (MIB);
  step_to_sleep ();
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  while (!worker.running)
    step (false);
  step (false);
  ck_assert (worker.running);
  ticket = ask (-1);
  step (false);
  ck_assert (!worker.running);
  ck_assert_uint_eq (nr_runs (), 2);
  while (!is_done (ticket))
    step (false);
  step_to_sleep ();
  close_worker ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Pauses. */

/* Before a slice begins, no more has been copied than the time since the
 * first allows.
 */
static void
check_rate (uint64_t rate, uint64_t ticket)
{
  uint64_t start_ns = 0, start_copied = nr_copied (), nr_slices = 0;

  for (unsigned i = 0; i < 1000000; i++) {
    const uint64_t copied = nr_copied (), now_ns = fake_ns;

    if (ticket != 0 ? is_done (ticket) : atomic_load (&worker.asleep))
      break;
    step (false);
    if (nr_copied () == copied)
      continue;
    if (nr_slices++ == 0)
      start_ns = now_ns;
    /* The division leaves a byte a slice. */
    ck_assert_uint_le (copied - start_copied,
                       (now_ns - start_ns) / 1000 * rate / 1000000
                       + nr_slices);
  }
  ck_assert_uint_gt (nr_slices, 3);
  ck_assert_uint_gt (nr_copied () - start_copied, MIB);
}

START_TEST (test_rate)
{
  const uint64_t rate = _i == 0 ? 100 * KIB : 20 * MIB;

  open_worker (rate);
  add_items (0, 8000, 2000, 4096);
  free_most (0, 8000, 2);
  check_rate (rate, ask (-1));
  step_to_sleep ();
  free_most (0, 8000, 2);
  check_rate (rate, 0);
  close_worker ();
}
END_TEST

/* Somebody else wants the processor. */
START_TEST (test_contended)
{
  open_worker (0);
  step_to_sleep ();
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  while (!worker.running)
    step (false);
  step (false);
  for (unsigned i = 0; i < 10; i++) {
    const uint64_t copied = nr_copied ();

    ck_assert_uint_eq (step (true), WORKER_PAUSE_NS);
    ck_assert_uint_eq (nr_copied (), copied);
  }
  ck_assert (worker.running);
  ck_assert_uint_eq (step (false), 0);
  step_to_sleep ();
  close_worker ();
}
END_TEST

/* What somebody waits for goes on, with a pause after every second slice,
 * the thread being the one who finds out.
 */
START_TEST (test_contended_request)
{
  unsigned nr_steps = 0, nr_pauses = 0;
  bool contended = false;
  uint64_t ticket;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (-1);
  while (!is_done (ticket)) {
    const uint64_t now_ns = fake_ns, wait = step (contended);

    /* It worked: its clock went on. */
    ck_assert_uint_gt (fake_ns - wait, now_ns);
    nr_steps++;
    if (wait > 0) {
      ck_assert_uint_eq (wait, WORKER_PAUSE_NS);
      ck_assert (contended);
      nr_pauses++;
    }
    contended = wait == 0;
  }
  ck_assert_uint_ge (nr_pauses, 3);
  ck_assert_uint_le (nr_pauses, nr_steps / 2);
  close_worker ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Asleep and awake. */

START_TEST (test_sleep_and_wake)
{
  open_worker (0);
  add_items (0, 1000, 2000, 2000);
  step_to_sleep ();
  ck_assert (!was_rung ());
  for (owner_t i = 0; i < 20; i++) {
    free_item (i);
    compact_worker_poke (&worker);
    ck_assert (!atomic_load (&worker.asleep));
    ck_assert (was_rung ());
    /* Awake: nobody needs to ring. */
    compact_worker_poke (&worker);
    ck_assert (!was_rung ());
    /* It does not sleep where something was freed in the last tick. */
    for (unsigned j = 0; j < 5; j++) {
      ck_assert_uint_eq (step (false), POLICY_TICK_NS);
      ck_assert (!atomic_load (&worker.asleep));
      free_item (100 + 5 * i + j);
    }
    step_to_sleep ();
  }
  ck_assert_uint_eq (nr_runs (), 0);
  close_worker ();
}
END_TEST

/* A free that comes when it has just decided to sleep, before and after it
 * says so.
 */
START_TEST (test_free_while_falling_asleep)
{
  open_worker (0);
  add_items (0, 1000, 2000, 2000);
  step_to_sleep ();
  for (owner_t i = 0; i < 100; i += 2) {
    free_item (i);
    compact_worker_poke (&worker);
    ck_assert (was_rung ());
    while (!atomic_load (&worker.asleep))
      step (false);
    /* It has yet to look once more. */
    ck_assert_uint_eq (worker.next_look_ns, fake_ns);
    free_item (i + 1);
    if (i % 4 == 0) {           /* whoever freed did not see `asleep` */
      ck_assert_uint_eq (step (false), POLICY_TICK_NS);
      ck_assert (!atomic_load (&worker.asleep));
    }
    else {
      compact_worker_poke (&worker);
      ck_assert (was_rung ());
      ck_assert_uint_eq (step (false), POLICY_TICK_NS);
    }
    step_to_sleep ();
  }
  close_worker ();
}
END_TEST

/* Freed memory comes back by itself: the run begins within two ticks. */
START_TEST (test_quiet_run)
{
  uint64_t held, reclaimable, start_ns;

  open_worker (0);
  add_items (0, 20000, 100, 4096);
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 0);
  for (unsigned i = 1; i <= 3; i++) {
    free_most (0, 20000, 2);
    ck_assert (!atomic_load (&worker.asleep));
    held = pages_held (&pages);
    reclaimable = compactor_reclaimable (&compactor);
    start_ns = fake_ns;
    while (nr_runs () < i)
      step (false);
    ck_assert_uint_le (fake_ns - start_ns, 2 * POLICY_TICK_NS
                       + WORKER_SLICE_NS + 4 * LOOK_AT_CLOCK_NS);
    ck_assert_int_eq (worker.decision.reason, POLICY_QUIET);
    ck_assert (compactor.goal.thorough);
    step_to_sleep ();
    ck_assert_uint_eq (nr_runs (), i);
    ck_assert_uint_ge (held - pages_held (&pages) + 2 * MIB, reclaimable);
  }
  close_worker ();
}
END_TEST

START_TEST (test_nothing_for_an_hour)
{
  unsigned nr;

  open_worker (0);
  add_items (0, 20000, 100, 4096);
  free_most (0, 20000, 3);
  step_to_sleep ();
  ck_assert_uint_ge (nr_runs (), 1);
  const uint64_t runs = nr_runs ();
  nr = atomic_load (&nr_facts);
  for (unsigned i = 0; i < 3600; i++) {
    fake_ns += SECOND;
    ck_assert_uint_eq (step (false), NEVER);
    ck_assert (atomic_load (&worker.asleep));
    ck_assert (!was_rung ());
  }
  ck_assert_uint_eq (nr_runs (), runs);
  /* Not even a look. */
  ck_assert_uint_eq (atomic_load (&nr_facts), nr);
  close_worker ();
}
END_TEST

/* A steady load of overwrites whose holes are filled again is left alone. */
START_TEST (test_steady_load)
{
  open_worker (0);
  add_items (0, 10000, 2000, 2000);
  step_to_sleep ();
  for (unsigned i = 0; i < 2000; i++) {
    for (unsigned j = 0; j < 20; j++) {
      const owner_t owner = (owner_t) rng_below (&rng, 10000);

      free_item (owner);
      compact_worker_poke (&worker);
      add_item (owner, 2000);
    }
    ck_assert_uint_eq (step (false), POLICY_TICK_NS);
  }
  ck_assert_uint_eq (nr_runs (), 0);
  close_worker ();
}
END_TEST

/* Overwrites that leave far too much behind: down to half, not thorough. */
START_TEST (test_overwrites)
{
  open_worker (0);
  add_items (0, 20000, 2000, 2000);
  add_items (20000, 20100, 2000, 2000);
  step_to_sleep ();
  for (owner_t i = 0; i < 20000; i += 2)
    free_item (i);
  compact_worker_poke (&worker);
  step (false);
  for (owner_t i = 20000; !worker.running; i++) {
    ck_assert_uint_lt (i, 20100);
    free_item (i);
    step (false);
  }
  ck_assert_int_eq (worker.decision.reason, POLICY_OVERWRITES);
  ck_assert (!compactor.goal.thorough);
  ck_assert_uint_eq (compactor.goal.until_returned, UINT64_MAX);
  while (worker.running) {
    if (fake_ns >= worker.next_look_ns)
      free_item (20099);        /* nothing, but it keeps the load up */
    step (false);
  }
  ck_assert_uint_lt (compactor_reclaimable (&compactor), 4 * MIB);
  close_worker ();
}
END_TEST

START_TEST (test_manual)
{
  const struct worker_settings settings = { .manual = true };
  uint64_t ticket;

  open_worker_of (&settings, fake_now_ns);
  pool_set_spare_max (pool, 1000);
  add_items (0, 10000, 2000, 4096);
  add_items (10000, 20000, 1500, 1500);
  free_most (0, 10000, 2);
  for (owner_t i = 10000; i < 20000; i++)
    free_item (i);
  ck_assert_uint_gt (spare_bytes (), 10 * MIB);
  ck_assert_uint_gt (compactor_reclaimable (&compactor),
                     spare_bytes () + 5 * MIB);
  step_to_sleep ();
  ck_assert_uint_le (spare_bytes (), POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES);
  ck_assert_uint_gt (compactor_reclaimable (&compactor), 5 * MIB);
  ck_assert_uint_eq (nr_runs (), 0);
  worker.pressure = true;
  step_to_sleep ();
  ck_assert_uint_eq (spare_bytes (), 0);
  ck_assert_uint_eq (nr_runs (), 0);

  ticket = ask (-1);
  while (!is_done (ticket))
    step (false);
  ck_assert_uint_eq (nr_runs (), 1);
  ck_assert_uint_lt (compactor_reclaimable (&compactor), 2 * MIB);
  close_worker ();
}
END_TEST

/* Spare zspages go a few at a time, and make way for whom they disturb. */
START_TEST (test_purge_in_slices)
{
  unsigned nr_steps = 0;

  open_worker (0);
  pool_set_spare_max (pool, 1000);
  add_items (0, 20000, 2000, 2000);
  for (owner_t i = 0; i < 20000; i++)
    free_item (i);
  ck_assert_uint_gt (spare_bytes (), 100 * ZSPAGE_BYTES);
  while (spare_bytes () > POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES) {
    const uint64_t before = spare_bytes (), wait = step (true);

    if (spare_bytes () > POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES)
      ck_assert_uint_eq (wait, WORKER_PAUSE_NS);
    ck_assert_uint_lt (spare_bytes (), before);
    ck_assert_uint_le (before - spare_bytes (), 10 * ZSPAGE_BYTES);
    nr_steps++;
  }
  ck_assert_uint_ge (nr_steps, 10);
  step_to_sleep ();
  close_worker ();
}
END_TEST

START_TEST (test_pressure)
{
  open_worker (0);
  add_items (0, 2000, 2000, 2000);
  step_to_sleep ();
  free_most (0, 200, 2);        /* too little to begin by itself */
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 0);
  worker.pressure = true;
  ck_assert_uint_eq (step (false), 0);
  ck_assert (!worker.pressure);
  ck_assert_uint_eq (nr_runs (), 1);
  ck_assert_int_eq (worker.decision.reason, POLICY_PRESSURE);
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 1);
  close_worker ();
}
END_TEST

/* The limit is lowered below what is held; nothing was freed just now. */
START_TEST (test_limit_lowered)
{
  open_worker (0);
  add_items (0, 5000, 2000, 2000);
  step_to_sleep ();
  free_most (0, 300, 2);
  step_to_sleep ();
  ck_assert_uint_eq (nr_runs (), 0);
  atomic_store (&pages.limit, 5 * MIB);
  compact_worker_poke (&worker);
  ck_assert (was_rung ());
  step (false);
  ck_assert_int_eq (worker.decision.reason, POLICY_LIMIT);
  ck_assert_uint_eq (nr_runs (), 1);
  step_to_sleep ();
  ck_assert_uint_eq (spare_bytes (), 0);
  atomic_store (&pages.limit, PAGES_NO_LIMIT);
  close_worker ();
}
END_TEST

/* close_worker checks what is left over. */
START_TEST (test_stop_in_the_middle)
{
  struct compact_report report;
  uint64_t ticket, waiting;

  open_worker (0);
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  ticket = ask (-1);
  for (int i = 0; i < _i || !compactor.has_source; i++)
    step (false);
  ck_assert (!is_done (ticket));
  waiting = ask (7);
  compact_worker_stop (&worker);
  /* Nobody waits for it for ever. */
  ck_assert (compact_worker_report (&worker, ticket, &report));
  ck_assert (is_done (waiting));
  ck_assert_uint_gt (report.moved_objects, 0);
  close_worker ();
}
END_TEST

START_TEST (test_stop_by_itself)
{
  open_worker (0);
  step_to_sleep ();
  add_items (0, 20000, 1000, 4096);
  free_most (0, 20000, 2);
  while (!worker.running || !compactor.has_source)
    step (false);
  compact_worker_stop (&worker);
  ck_assert (!worker.running);
  /* Again, and when nothing is left to stop. */
  compact_worker_stop (&worker);
  close_worker ();
}
END_TEST

/* Any order of everything. */
START_TEST (test_random)
{
  uint64_t ticket = 0;

  open_worker (_i % 2 == 0 ? 0 : 5 * MIB);
  pool_set_spare_max (pool, 20);
  rng_init (&rng, test_seed (), 100 + (uint64_t) _i);
  for (unsigned i = 0; i < (test_quick () ? 1000 : 5000); i++) {
    const owner_t start = (owner_t) rng_below (&rng, 4000);
    const owner_t end = start + (owner_t) rng_size (&rng, 1000);

    switch (rng_below (&rng, 8)) {
    case 0:
      for (owner_t j = start; j < end; j++)
        if (!items[j].live)
          add_item (j, (uint32_t) rng_size (&rng, 4096));
      break;
    case 1: free_most (start, end, 1 + (unsigned) rng_below (&rng, 5)); break;
    case 2: ticket = ask ((int) rng_below (&rng, 100) - 1); break;
    case 3: worker.pressure = rng_once_in (&rng, 10); break;
    case 4: fake_ns += rng_size (&rng, SECOND); break;
    case 5:
      compactor_make_room (&compactor, rng_size (&rng, MIB),
                           compactor_returned (&compactor), MS);
      break;
    default:
      for (uint64_t j = rng_below (&rng, 20); j > 0; j--)
        step (rng_once_in (&rng, 3));
      break;
    }
  }
  if (ticket != 0)
    while (!is_done (ticket))
      step (false);
  step_to_sleep ();
  /* Asleep, and everything that is worth it was done. */
  ck_assert_uint_le (spare_bytes (), POLICY_SPARE_ZSPAGES * ZSPAGE_BYTES);
  close_worker ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* The thread.  Nothing here asks how long something takes, only whether it
 * happens at all.
 */

#define NR_THREADS 2
#define ITEMS_A_THREAD 3000

static atomic_bool threads_done;

/* What the system tells of its memory, where it does. */
static const char *const pressure_paths[] = {
  NULL, "/nonexistent/memory.pressure", "/proc/pressure/memory",
};
#define NR_PRESSURE_PATHS 3

static void
open_thread_worker (const char *pressure_path)
{
  const struct worker_settings settings = { .pressure_path = pressure_path };

  open_worker_of (&settings, NULL);
}

static void *
churn (void *opaque)
{
  const owner_t first = (owner_t) (uintptr_t) opaque * ITEMS_A_THREAD;
  struct rng own;

  rng_init (&own, test_seed (), 200 + first);
  while (!atomic_load (&threads_done)) {
    const owner_t owner = first + (owner_t) rng_below (&own, ITEMS_A_THREAD);

    if (items[owner].live) {
      free_item (owner);
      compact_worker_poke (&worker);
    }
    else if (rng_below (&own, 100) < 60)
      add_item (owner, (uint32_t) rng_between (&own, 1, 4096));
  }
  return NULL;
}

START_TEST (test_start_and_stop)
{
  pthread_t threads[NR_THREADS];

  open_thread_worker (NULL);
  atomic_store (&threads_done, false);
  for (uintptr_t i = 0; i < NR_THREADS; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, churn, (void *) i),
                      0);
  for (unsigned i = 0; i < 50; i++) {
    uint64_t ticket;

    ck_assert_int_eq (compact_worker_start (&worker), 0);
    ticket = compact_worker_request (&worker, -1);
    sleep_us ((unsigned) rng_size (&rng, 4000));
    if (i % 5 == 0)
      while (!is_done (ticket))
        sleep_us (100);
    compact_worker_stop (&worker);
    ck_assert (is_done (ticket));
    ck_assert_uint_eq (spare_bytes (), 0);
  }
  ck_assert_int_eq (compact_worker_start (&worker), 0);
  atomic_store (&threads_done, true);
  for (unsigned i = 0; i < NR_THREADS; i++)
    pthread_join (threads[i], NULL);
  ck_assert_uint_gt (atomic_load (&compactor.totals.moved_objects), 0);
  close_worker ();
}
END_TEST

/* A guard against hanging, no more. */
static bool
wait_until_asleep (void)
{
  for (unsigned i = 0; i < 60000; i++) {
    if (atomic_load (&worker.asleep))
      return true;
    sleep_us (1000);
  }
  return false;
}

START_TEST (test_thread_wakes)
{
  uint64_t ticket;

  open_thread_worker (pressure_paths[_i]);
  if (_i < 2)
    ck_assert_int_eq (worker.pressure_fd, -1);
  add_items (0, 20000, 1000, 4096);
  ck_assert_int_eq (compact_worker_start (&worker), 0);
  ck_assert (wait_until_asleep ());
  ck_assert_uint_eq (nr_runs (), 0);
  for (unsigned i = 0; i < 3; i++) {
    const uint64_t runs = nr_runs ();

    free_most (0, 20000, 2);
    for (unsigned j = 0; nr_runs () == runs; j++) {
      ck_assert_uint_lt (j, 60000);
      sleep_us (1000);
    }
    ck_assert (wait_until_asleep ());
  }
  /* Out of its sleep on command, too. */
  ticket = compact_worker_request (&worker, -1);
  for (unsigned j = 0; !is_done (ticket); j++) {
    ck_assert_uint_lt (j, 60000);
    sleep_us (1000);
  }
  close_worker ();
}
END_TEST

/* No free is missed, wherever between two looks it comes: after each there
 * is a look that began later.
 */
START_TEST (test_no_lost_wake)
{
  const unsigned nr = test_quick () ? 20 : 60;

  open_thread_worker (NULL);
  add_items (0, nr, 2000, 2000);
  ck_assert_int_eq (compact_worker_start (&worker), 0);
  for (owner_t i = 0; i < nr; i++) {
    unsigned seen;

    if (i % 3 == 0)
      ck_assert (wait_until_asleep ());
    else if (i % 3 == 1)        /* about when it falls asleep */
      sleep_us ((unsigned) (POLICY_TICK_NS / 1000 - 200
                            + rng_below (&rng, 400)));
    else
      sleep_us ((unsigned) rng_below (&rng, 1000));
    seen = atomic_load (&nr_facts);
    free_item (i);
    compact_worker_poke (&worker);
    for (unsigned j = 0; atomic_load (&nr_facts) - seen < 2; j++) {
      ck_assert_uint_lt (j, 600000);
      sleep_us (100);
    }
  }
  close_worker ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("worker");
  TCase *tcase = tcase_create ("worker");
  SRunner *runner;
  int nr_failed;

  test_start ("test-worker");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_request);
  tcase_add_test (tcase, test_request_of_a_class);
  tcase_add_test (tcase, test_request_without_thread);
  tcase_add_test (tcase, test_tickets);
  tcase_add_test (tcase, test_writer_ends_the_run);
  tcase_add_test (tcase, test_writer_replaces_the_run);
  tcase_add_test (tcase, test_request_during_a_run);
  tcase_add_loop_test (tcase, test_rate, 0, 2);
  tcase_add_test (tcase, test_contended);
  tcase_add_test (tcase, test_contended_request);
  tcase_add_test (tcase, test_sleep_and_wake);
  tcase_add_test (tcase, test_free_while_falling_asleep);
  tcase_add_test (tcase, test_quiet_run);
  tcase_add_test (tcase, test_nothing_for_an_hour);
  tcase_add_test (tcase, test_steady_load);
  tcase_add_test (tcase, test_overwrites);
  tcase_add_test (tcase, test_manual);
  tcase_add_test (tcase, test_purge_in_slices);
  tcase_add_test (tcase, test_pressure);
  tcase_add_test (tcase, test_limit_lowered);
  tcase_add_loop_test (tcase, test_stop_in_the_middle, 1, 6);
  tcase_add_test (tcase, test_stop_by_itself);
  tcase_add_loop_test (tcase, test_random, 0, 6);
  tcase_add_test (tcase, test_start_and_stop);
  tcase_add_loop_test (tcase, test_thread_wakes, 0, NR_PRESSURE_PATHS);
  tcase_add_test (tcase, test_no_lost_wake);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
