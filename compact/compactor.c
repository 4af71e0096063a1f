/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Runs of compaction, in steps; see compactor.h.
 *
 * Why a run ends: a class's turn takes at most as many sources as it had
 * zspages when the turn began; each source is offered MAX_TRIES times at the
 * most, and then it is empty, or parked, or the class's last; a class has a
 * turn, and two more if objects were busy.
 */

#include <config.h>

#include <assert.h>
#include <string.h>
#include <time.h>

#include "compactor.h"
#include "migrate.h"
#include "policy.h"

#define MAX_PASSES 3
#define MAX_TRIES 8
/* Zspages to look at in one step of COMPACT_IN_PLACE. */
#define LOOKS_A_STEP 32
/* A writer that waits for room steps another's run by so much at a time. */
#define ROOM_STEP_NS (100 * UINT64_C (1000))
/* After a search that found nothing, so much more is worth another one. */
#define ROOM_WORTH_BYTES ((uint64_t) 64 << 10)

static uint64_t
monotonic_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

void
compactor_init (struct compactor *compactor, struct pool *pool,
                const struct compact_ops *ops, void *opaque,
                uint64_t (*now_ns) (void))
{
  memset (compactor, 0, sizeof *compactor);
  lock_init (&compactor->lock, LOCK_COMPACT);
  compactor->pool = pool;
  compactor->ops = ops;
  compactor->opaque = opaque;
  compactor->now_ns = now_ns != NULL ? now_ns : monotonic_ns;
}

void
compactor_destroy (struct compactor *compactor)
{
  lock_acquire (&compactor->lock);
  compactor_end (compactor);
  lock_release (&compactor->lock);
  lock_destroy (&compactor->lock);
}

static void
count (_Atomic uint64_t *total, uint64_t *of_run, uint64_t n)
{
  *of_run += n;
  atomic_fetch_add_explicit (total, n, memory_order_relaxed);
}

static void
count_returned (struct compactor *compactor, uint64_t bytes)
{
  count (&compactor->totals.returned_bytes, &compactor->report.returned_bytes,
         bytes);
}

static void
finish_source (struct compactor *compactor, struct pool_source *source,
               unsigned min_run)
{
  const struct pool_returned returned =
    pool_source_finish (compactor->pool, source, min_run);

  count_returned (compactor, returned.bytes);
  count (&compactor->totals.released_zspages,
         &compactor->report.released_zspages, returned.released);
}

static void
finish_sources (struct compactor *compactor)
{
  if (compactor->has_source)
    finish_source (compactor, &compactor->source, 1);
  compactor->has_source = false;
  while (compactor->nr_parked > 0)
    finish_source (compactor, &compactor->parked[--compactor->nr_parked], 1);
}

void
compactor_end (struct compactor *compactor)
{
  ASSERT_LOCKED (&compactor->lock);
  finish_sources (compactor);
  compactor->phase = COMPACT_NOT_RUNNING;
}

void
compactor_begin (struct compactor *compactor, const struct compact_goal *goal)
{
  ASSERT_LOCKED (&compactor->lock);
  compactor_end (compactor);
  compactor->goal = *goal;
  memset (&compactor->report, 0, sizeof compactor->report);
  memset (compactor->met_busy, 0, sizeof compactor->met_busy);
  for (unsigned i = 0; i < MAX_SIZE_CLASSES; i++)
    compactor->done[i] =
      goal->class_idx != -1 && i != (unsigned) goal->class_idx;
  compactor->nr_passes = 1;
  compactor->phase = COMPACT_SPARE;
  atomic_fetch_add_explicit (&compactor->totals.runs, 1, memory_order_relaxed);
}

static bool
returned_enough (const struct compactor *compactor)
{
  return compactor->report.returned_bytes >= compactor->goal.until_returned;
}

/* As far as is known without another survey. */
static bool
left_little (const struct compactor *compactor)
{
  const uint64_t until = compactor->goal.until_reclaimable;

  return until > 0 &&
         compactor->all_reclaimable <=
           until + compactor->report.returned_bytes - compactor->then_returned;
}

/* One at a time: a purge takes longer than many moves. */
static void
step_spare (struct compactor *compactor)
{
  const uint64_t bytes =
    pool_purge_one_spare (compactor->pool, compactor->goal.keep_spare);

  count_returned (compactor, bytes);
  if (bytes == 0 || returned_enough (compactor))
    compactor->phase = COMPACT_SURVEY;
}

/* What could be had of each class, and in all. */
static uint64_t
survey_classes (struct pool *pool, uint64_t *reclaimable)
{
  uint64_t all = 0;

  for (unsigned i = 0; i < pool_nr_classes (pool); i++) {
    struct pool_class_stats class;

    pool_class_stats (pool, i, &class);
    reclaimable[i] = policy_reclaimable (&class);
    all += reclaimable[i];
  }
  return all;
}

static void
step_survey (struct compactor *compactor)
{
  compactor->all_reclaimable =
    survey_classes (compactor->pool, compactor->reclaimable);
  compactor->then_returned = compactor->report.returned_bytes;
  compactor->phase = COMPACT_CHOOSE;
}

/* Those in which something was busy have another turn. */
static bool
begin_next_pass (struct compactor *compactor)
{
  bool any = false;

  if (compactor->nr_passes == MAX_PASSES)
    return false;
  compactor->nr_passes++;
  for (unsigned i = 0; i < MAX_SIZE_CLASSES; i++) {
    compactor->done[i] = !compactor->met_busy[i];
    any = any || compactor->met_busy[i];
    compactor->met_busy[i] = false;
  }
  return any;
}

static void
begin_class (struct compactor *compactor, unsigned class_idx)
{
  struct pool_class_stats class;

  pool_class_stats (compactor->pool, class_idx, &class);
  compactor->class_idx = class_idx;
  compactor->object_bytes = class.object_bytes;
  compactor->nr_sources = class.nr_zspages;
  memcpy (compactor->nr_looks, class.by_fullness, sizeof compactor->nr_looks);
  compactor->phase =
    compactor->goal.thorough ? COMPACT_IN_PLACE : COMPACT_EVACUATE;
}

static void
step_choose (struct compactor *compactor)
{
  int idx;

  if (returned_enough (compactor) || left_little (compactor)) {
    compactor_end (compactor);
    return;
  }
  idx =
    policy_choose_class (compactor->reclaimable,
                         pool_nr_classes (compactor->pool), compactor->done);
  if (idx != -1)
    begin_class (compactor, (unsigned) idx);
  else if (begin_next_pass (compactor))
    compactor->phase = COMPACT_SURVEY;
  else
    compactor_end (compactor);
}

static void
end_class (struct compactor *compactor)
{
  finish_sources (compactor);
  compactor->done[compactor->class_idx] = true;
  compactor->phase = COMPACT_CHOOSE;
}

/* The groups of zspages at least half full, one after the other. */
static void
step_in_place (struct compactor *compactor)
{
  unsigned group = NR_FULLNESS_GROUPS / 2, max, left;
  struct pool_source source;

  while (group < NR_FULLNESS_GROUPS - 1 && compactor->nr_looks[group] == 0)
    group++;
  if (group == NR_FULLNESS_GROUPS - 1) {
    compactor->phase = COMPACT_EVACUATE;
    return;
  }
  max = compactor->nr_looks[group] < LOOKS_A_STEP ? compactor->nr_looks[group]
                                                  : LOOKS_A_STEP;
  left = max;
  if (pool_isolate_with_free_run (compactor->pool, compactor->class_idx, group,
                                  COMPACT_IN_PLACE_PAGES, &left, &source)) {
    finish_source (compactor, &source, COMPACT_IN_PLACE_PAGES);
    compactor->nr_looks[group] -= max - left;
  }
  else
    /* With looks to spare it has no more zspages to look at. */
    compactor->nr_looks[group] -= left > 0 ? compactor->nr_looks[group] : max;
}

/* Is anything left to be had of the class, and is it not its last source's
 * turn already?
 */
static bool
wants_source (struct compactor *compactor)
{
  struct pool_class_stats class;

  if (compactor->nr_sources == 0 || returned_enough (compactor) ||
      left_little (compactor) || compactor->nr_parked == COMPACT_PARKED_MAX)
    return false;
  compactor->nr_sources--;
  pool_class_stats (compactor->pool, compactor->class_idx, &class);
  return policy_reclaimable (&class) > 0;
}

/* False: the class has had its turn. */
static bool
begin_source (struct compactor *compactor)
{
  struct pool_source *source = &compactor->source;

  if (!wants_source (compactor) ||
      !pool_isolate_emptiest (compactor->pool, compactor->class_idx, source))
    return false;
  compactor->has_source = true;
  compactor->source_skipped = compactor->source_moved = 0;
  compactor->source_tries = 0;
  compactor->source_packs = !source->room_elsewhere;
  if (source->room_elsewhere)
    return true;
  /* A run never copies more than it returns. */
  return policy_pack_pays (source, compactor->object_bytes,
                           (int64_t) compactor->report.returned_bytes -
                             (int64_t) compactor->report.copied_bytes);
}

/* Locks are held for a moment: what was busy may not be any more.  Offer the
 * source once more, as long as that moves something.
 */
static bool
try_again (struct compactor *compactor)
{
  if (compactor->source_skipped == 0 || compactor->source_moved == 0 ||
      ++compactor->source_tries == MAX_TRIES)
    return false;
  compactor->source_skipped = compactor->source_moved = 0;
  pool_source_rewind (compactor->pool, &compactor->source);
  return true;
}

/* All objects of the source have been offered, or no place is left. */
static void
end_source (struct compactor *compactor)
{
  const unsigned nr_left =
    pool_source_inuse (compactor->pool, &compactor->source);

  if (nr_left > 0 && try_again (compactor))
    return;
  if (nr_left > 0 && compactor->source_skipped > 0)
    compactor->met_busy[compactor->class_idx] = true;
  if (compactor->source_packs || compactor->source.next_slot > 0) {
    end_class (compactor);
    return;
  }
  /* What is left was busy, or may never move. */
  if (nr_left > 0 && compactor->source_skipped > 0)
    compactor->parked[compactor->nr_parked++] = compactor->source;
  else
    finish_source (compactor, &compactor->source, 1);
  compactor->has_source = false;
}

static void
step_evacuate (struct compactor *compactor)
{
  struct migrated migrated;

  if (!compactor->has_source && !begin_source (compactor)) {
    end_class (compactor);
    return;
  }
  migrated =
    migrate_batch (compactor->pool, &compactor->source, compactor->source_packs,
                   compactor->ops, compactor->opaque);
  count (&compactor->totals.moved_objects, &compactor->report.moved_objects,
         migrated.nr_moved);
  count (&compactor->totals.copied_bytes, &compactor->report.copied_bytes,
         migrated.copied_bytes);
  count (&compactor->totals.skipped_busy, &compactor->report.skipped_busy,
         migrated.nr_busy);
  compactor->source_skipped += migrated.nr_busy + migrated.nr_in_transit;
  compactor->source_moved += migrated.nr_moved;
  if (migrated.nr_offered == 0 && !compactor->source.cut_short)
    end_source (compactor);
}

static void
step_once (struct compactor *compactor)
{
  switch (compactor->phase) {
  case COMPACT_NOT_RUNNING:
    break;
  case COMPACT_SPARE:
    step_spare (compactor);
    break;
  case COMPACT_SURVEY:
    step_survey (compactor);
    break;
  case COMPACT_CHOOSE:
    step_choose (compactor);
    break;
  case COMPACT_IN_PLACE:
    step_in_place (compactor);
    break;
  case COMPACT_EVACUATE:
    step_evacuate (compactor);
    break;
  }
}

bool
compactor_step (struct compactor *compactor, uint64_t until_ns)
{
  const uint64_t start_ns = compactor->now_ns ();
  uint64_t now_ns;

  ASSERT_LOCKED (&compactor->lock);
  do {
    step_once (compactor);
    now_ns = compactor->now_ns ();
  } while (compactor->phase != COMPACT_NOT_RUNNING && now_ns < until_ns);
  count (&compactor->totals.running_ns, &compactor->report.running_ns,
         now_ns - start_ns);
  return compactor->phase != COMPACT_NOT_RUNNING;
}

void
compactor_run (struct compactor *compactor, const struct compact_goal *goal,
               struct compact_report *ret)
{
  LOCK_FOR_SCOPE (&compactor->lock);

  compactor_begin (compactor, goal);
  while (compactor_step (compactor, UINT64_MAX))
    ;
  *ret = compactor->report;
}

uint64_t
compactor_reclaimable (struct compactor *compactor)
{
  uint64_t reclaimable[MAX_SIZE_CLASSES];
  struct pool_stats stats;

  pool_stats (compactor->pool, &stats);
  return survey_classes (compactor->pool, reclaimable) + stats.spare_bytes;
}

uint64_t
compactor_returned (struct compactor *compactor)
{
  return atomic_load (&compactor->totals.returned_bytes);
}

/* Step a run, our own or another's, until so many bytes were returned. */
static void
step_for_room (struct compactor *compactor, uint64_t until_returned,
               uint64_t until_ns)
{
  uint64_t now_ns;

  do
    now_ns = compactor->now_ns ();
  while (compactor_returned (compactor) < until_returned && now_ns < until_ns &&
         compactor_step (compactor, now_ns + ROOM_STEP_NS));
}

/* Has a search found nothing lately, and is hardly more to be had by now? */
static bool
is_hopeless (struct compactor *compactor, uint64_t now_ns)
{
  return now_ns < compactor->no_room_until_ns &&
         compactor_reclaimable (compactor) <
           compactor->no_room_reclaimable + ROOM_WORTH_BYTES;
}

bool
compactor_make_room (struct compactor *compactor, uint64_t bytes, uint64_t seen,
                     uint64_t max_ns)
{
  const struct compact_goal goal = {
    .class_idx = -1,
    .thorough = true,
    .until_returned = bytes,
  };
  bool out_of_time;

  LOCK_FOR_SCOPE (&compactor->lock);
  if (compactor_returned (compactor) != seen)
    return true; /* while we waited for the lock */
  const uint64_t now_ns = compactor->now_ns ();
  if (is_hopeless (compactor, now_ns))
    return false;

  if (compactor->phase != COMPACT_NOT_RUNNING)
    step_for_room (compactor, seen + bytes, now_ns + max_ns);
  if (compactor->phase == COMPACT_NOT_RUNNING &&
      compactor_returned (compactor) == seen) {
    compactor_begin (compactor, &goal);
    step_for_room (compactor, seen + bytes, now_ns + max_ns);
    out_of_time = compactor->phase != COMPACT_NOT_RUNNING;
    compactor_end (compactor);
  }
  else
    out_of_time = compactor->phase != COMPACT_NOT_RUNNING;
  if (out_of_time || compactor_returned (compactor) != seen)
    return true;
  compactor->no_room_until_ns = compactor->now_ns () + COMPACT_NO_ROOM_NS;
  compactor->no_room_reclaimable = compactor_reclaimable (compactor);
  return false;
}
