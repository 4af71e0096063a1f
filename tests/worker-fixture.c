/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A worker to test with; see worker-fixture.h.
 */

#include <config.h>

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "compactor.h"
#include "libcheck.h"
#include "pool-check.h"
#include "probe.h"
#include "worker-fixture.h"

#define NR_MUTEXES 64

struct compact_worker worker;
struct rng worker_rng;
atomic_uint nr_facts;
void (*after_move) (void);
uint64_t fake_ns;

static struct compactor compactor;
static _Atomic uint64_t discarded_bytes;

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

void
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
void
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

bool
is_live (owner_t owner)
{
  return items[owner].live;
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
  if (after_move != NULL)
    after_move ();
  return result;
}

static const struct compact_ops ops = { .move = move_item };

/*--------------------------------------------------------------------*/
/* The worker. */

uint64_t
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
open_all (const struct worker_settings *settings, uint64_t (*now_ns) (void),
          uint64_t reserve)
{
  rng_init (&worker_rng, test_seed (), 1);
  memset (items, 0, sizeof items);
  for (unsigned i = 0; i < NR_MUTEXES; i++)
    pthread_mutex_init (&mutexes[i], NULL);
  after_move = NULL;
  open_pool_with_reserve (&probe_ops, ARENA_BYTES, PAGES_NO_LIMIT, reserve);
  fake_ns = 1000 * SECOND;
  compactor_init (&compactor, pool, &ops, NULL, now_ns);
  ck_assert_int_eq (compact_worker_init (&worker, &compactor, settings,
                                         tell_facts, NULL),
                    0);
}

void
open_worker_of (const struct worker_settings *settings,
                uint64_t (*now_ns) (void))
{
  open_all (settings, now_ns, 0);
}

void
open_worker (uint64_t rate)
{
  const struct worker_settings settings = { .rate = rate };

  open_worker_of (&settings, fake_now_ns);
}

void
open_worker_with_reserve (uint64_t reserve)
{
  const struct worker_settings settings = { .rate = 0 };

  open_all (&settings, fake_now_ns, reserve);
}

void
check_pool (void)
{
  char error[256] = "";

  ck_assert_msg (pool_check (pool, error, sizeof error) == 0, "%s", error);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

void
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
  ck_assert_uint_eq (stats.arena_bytes, stats.primed_bytes);
  compact_worker_destroy (&worker);
  compactor_destroy (&compactor);
  close_pool ();
}

void
add_items (owner_t start, owner_t end, uint32_t low, uint32_t high)
{
  for (owner_t i = start; i < end; i++)
    add_item (i, (uint32_t) rng_between (&worker_rng, low, high));
}

void
discard_item (owner_t owner)
{
  atomic_fetch_add (&discarded_bytes, items[owner].bytes);
  free_item (owner);
  compact_worker_poke (&worker);
}

void
free_most (owner_t start, owner_t end, unsigned of)
{
  for (owner_t i = start; i < end; i++)
    if (items[i].live && !rng_once_in (&worker_rng, of))
      discard_item (i);
}

uint64_t
nr_runs (void)
{
  return atomic_load (&compactor.totals.runs);
}

uint64_t
arena_bytes (void)
{
  struct pool_stats stats;

  pool_stats (pool, &stats);
  return stats.arena_bytes;
}

uint64_t
spare_bytes (void)
{
  struct pool_stats stats;

  pool_stats (pool, &stats);
  return stats.spare_bytes;
}

uint64_t
step (bool contended)
{
  const uint64_t wait = compact_worker_step (&worker, fake_ns, contended);

  if (wait != NEVER)
    fake_ns += wait;
  return wait;
}

void
step_to_sleep (void)
{
  unsigned nr = 0;

  while (step (false) != NEVER)
    ck_assert_uint_lt (++nr, 1000000);
  ck_assert (atomic_load (&worker.asleep));
  ck_assert (!worker.running);
}

static bool
was_written (int event_fd)
{
  struct pollfd fd = { .fd = event_fd, .events = POLLIN };
  uint64_t rung;

  return poll (&fd, 1, 0) == 1 &&
         read (event_fd, &rung, sizeof rung) == sizeof rung;
}

bool
was_rung (void)
{
  return was_written (worker.event_fd);
}

bool
was_rung_for_refill (void)
{
  return was_written (worker.refill_fd);
}

uint64_t
ask (int class_idx)
{
  uint64_t ticket;

  worker.started = true;
  ticket = compact_worker_request (&worker, class_idx);
  worker.started = false;
  ck_assert (was_rung ());
  return ticket;
}

bool
is_done (uint64_t ticket)
{
  struct compact_report report;

  return compact_worker_report (&worker, ticket, &report);
}
