/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Verifying; see verify.h.
 *
 *     step:   while the slice lasts
 *               a region without live entries   pass over it
 *               else a group of it              lock, check each, unlock
 *             merge what was seen into the report; log what is damaged
 *
 * A thread of its own, there only while a walk is under way.  As a part of
 * the compaction worker's steps it would wait for compaction and compaction
 * for it, and that worker, which knows no blocks, would need a hook, and a
 * second reason to be awake; this is less code, and costs nothing when
 * nobody verifies.
 *
 * Checksums alone, no decoding.  A block takes 860 ns (lz4), 720 (zstd), 1,300
 * (raw); with decoding it took 2,250, 7,900 and 1,190 (65,536 blocks of
 * libraries, processor time, the least of five).  It could only find a wrong
 * payload that has the right checksum: one that the encoder made.
 */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "block.h"
#include "service-thread.h"
#include "verify.h"

/* What a slice has seen. */
struct tally {
  uint64_t blocks, bytes;
  uint64_t damaged[VERIFY_SLICE_GROUPS * GROUP_BLOCKS];
  unsigned nr_damaged;
};

/*--------------------------------------------------------------------*/
/* A slice. */

static void
check_block (struct store *store, struct group_stripe *stripe, uint64_t blkno,
             struct tally *tally)
{
  const entry_t entry = block_table_load (&store->table, blkno);

  if (entry == entry_hole ())
    return;
  tally->blocks++;
  if (entry_kind (entry) == ENTRY_OBJECT)
    tally->bytes += entry_payload_bytes (entry);
  if (block_check (store, blkno, entry) == 0)
    return;
  group_count (stripe, COUNT_VERIFY_FAILURES, 1);
  tally->damaged[tally->nr_damaged++] = blkno;
}

/* Check the blocks [first, end) of one group. */
static void
check_group (struct store *store, uint64_t first, uint64_t end,
             struct tally *tally)
{
  struct group_stripe *stripe = stripe_of (store, first);

  LOCK_FOR_SCOPE (&stripe->lock);
  for (uint64_t blkno = first; blkno < end; blkno++)
    check_block (store, stripe, blkno, tally);
}

/* From next_blkno on, until the slice is at its end, or the disk, or so many
 * bytes have been looked at.
 */
static void
check_slice (struct verifier *verifier, uint64_t max_bytes, struct tally *tally)
{
  struct store *store = verifier->store;
  const uint64_t nr_blocks = store->table.nr_blocks;
  unsigned nr_groups = 0, nr_regions = 0;
  uint64_t blkno = verifier->next_blkno, end;

  while (blkno < nr_blocks && nr_groups < VERIFY_SLICE_GROUPS &&
         nr_regions < VERIFY_SLICE_REGIONS && tally->bytes < max_bytes) {
    if (block_table_region_live (&store->table, region_of (blkno)) == 0) {
      end = (blkno | (REGION_BLOCKS - 1)) + 1;
      nr_regions++;
    }
    else {
      end = (blkno | (GROUP_BLOCKS - 1)) + 1;
      if (end > nr_blocks)
        end = nr_blocks;
      check_group (store, blkno, end, tally);
      nr_groups++;
    }
    blkno = end;
  }
  verifier->next_blkno = blkno < nr_blocks ? blkno : nr_blocks;
}

/*--------------------------------------------------------------------*/
/* The walk. */

static void
begin_walk_locked (struct verifier *verifier, uint64_t rate)
{
  ASSERT_LOCKED (&verifier->lock);
  verifier->rate = rate;
  verifier->report = (struct verify_report) {
    .state = VERIFY_RUNNING,
    .rate = rate,
    .disk_blocks = verifier->store->table.nr_blocks,
  };
  verifier->next_blkno = 0;
  verifier->begin_ns = verifier->budget_ns = 0;
  atomic_store (&verifier->stopping, false);
}

void
verify_begin (struct verifier *verifier, uint64_t rate)
{
  LOCK_FOR_SCOPE (&verifier->lock);

  begin_walk_locked (verifier, rate);
}

/* Into the report.  Returns how many of tally->damaged are to be told: as
 * many as the report has room for.
 */
static unsigned
merge_tally (struct verifier *verifier, const struct tally *tally,
             uint64_t now_ns)
{
  struct verify_report *report = &verifier->report;
  unsigned nr_listed = 0;

  LOCK_FOR_SCOPE (&verifier->lock);
  report->passed_blocks = verifier->next_blkno;
  report->checked_blocks += tally->blocks;
  report->checked_bytes += tally->bytes;
  report->damaged_blocks += tally->nr_damaged;
  report->running_ns = now_ns - verifier->begin_ns;
  while (nr_listed < tally->nr_damaged && report->nr_listed < VERIFY_MAX_LISTED)
    report->listed[report->nr_listed++] = tally->damaged[nr_listed++];
  if (verifier->next_blkno == report->disk_blocks) {
    report->state = VERIFY_FINISHED;
    verifier->nr_runs++;
  }
  return nr_listed;
}

static uint64_t
rate_now (struct verifier *verifier)
{
  LOCK_FOR_SCOPE (&verifier->lock);

  return verifier->rate;
}

uint64_t
verify_step (struct verifier *verifier, uint64_t now_ns, bool contended)
{
  const uint64_t rate = rate_now (verifier);
  struct tally tally;
  unsigned nr_listed;

  if (verifier->begin_ns == 0)
    verifier->begin_ns = verifier->budget_ns = now_ns;
  if (rate > 0 && verifier->budget_ns > now_ns)
    return verifier->budget_ns - now_ns;
  if (contended)
    return VERIFY_PAUSE_NS;

  tally.blocks = tally.bytes = tally.nr_damaged = 0;
  check_slice (verifier,
               rate > 0 ? rate / VERIFY_RATE_SLICES_PER_S + 1 : UINT64_MAX,
               &tally);
  nr_listed = merge_tally (verifier, &tally, now_ns);
  if (verifier->on_damage != NULL)
    for (unsigned i = 0; i < nr_listed; i++)
      verifier->on_damage (verifier->on_damage_opaque,
                           tally.damaged[i] * BLOCK_BYTES);

  if (verifier->next_blkno == verifier->store->table.nr_blocks)
    return VERIFY_DONE;
  if (rate == 0)
    return 0;
  verifier->budget_ns =
    now_ns + (uint64_t) ((double) tally.bytes * NS_PER_S / (double) rate);
  return verifier->budget_ns - now_ns;
}

/*--------------------------------------------------------------------*/
/* The thread. */

/* Until then, or until somebody wants something of it. */
static void
wait_until (struct verifier *verifier, uint64_t until_ns)
{
  const struct timespec until = {
    .tv_sec = (time_t) (until_ns / NS_PER_S),
    .tv_nsec = (long) (until_ns % NS_PER_S),
  };

  LOCK_FOR_SCOPE (&verifier->lock);
  if (!atomic_load (&verifier->stopping) && !verifier->rate_changed)
    pthread_cond_timedwait (&verifier->wake, &verifier->lock.mutex, &until);
  verifier->rate_changed = false;
}

static void *
run_verifier (void *opaque)
{
  struct verifier *verifier = opaque;
  bool contended = false;

  while (!atomic_load (&verifier->stopping)) {
    const uint64_t before = service_thread_waited_ns ();
    const uint64_t now_ns = clock_ns (CLOCK_MONOTONIC);
    const uint64_t wait_ns = verify_step (verifier, now_ns, contended);

    if (wait_ns == VERIFY_DONE)
      return NULL;
    /* After a pause it is to be found out again. */
    contended = wait_ns == 0 &&
                service_thread_waited_ns () - before > SERVICE_CONTENDED_NS;
    if (wait_ns > 0)
      wait_until (verifier, now_ns + wait_ns);
  }
  LOCK_FOR_SCOPE (&verifier->lock);
  verifier->report.state = VERIFY_STOPPED;
  return NULL;
}

/*--------------------------------------------------------------------*/
/* The calls of store.h. */

void
verifier_init (struct verifier *verifier, struct store *store)
{
  pthread_condattr_t attr;

  verifier->store = store;
  lock_init (&verifier->lock, LOCK_LEAF);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&verifier->wake, &attr);
  pthread_condattr_destroy (&attr);
}

void
verifier_destroy (struct verifier *verifier)
{
  store_verify_stop (verifier->store);
  pthread_cond_destroy (&verifier->wake);
  lock_destroy (&verifier->lock);
}

void
store_on_damage (struct store *store, store_damage_fn fn, void *opaque)
{
  store->verifier.on_damage = fn;
  store->verifier.on_damage_opaque = opaque;
}

/* True: one is under way, and has this rate now, if there is one. */
static bool
is_running (struct verifier *verifier, const uint64_t *rate)
{
  LOCK_FOR_SCOPE (&verifier->lock);

  if (verifier->report.state != VERIFY_RUNNING)
    return false;
  if (rate != NULL) {
    verifier->rate = verifier->report.rate = *rate;
    verifier->rate_changed = true;
    pthread_cond_signal (&verifier->wake);
  }
  return true;
}

static void
join_thread (struct verifier *verifier)
{
  if (verifier->has_thread)
    pthread_join (verifier->thread, NULL);
  verifier->has_thread = false;
}

int
store_verify_start (struct store *store, const uint64_t *rate)
{
  struct verifier *verifier = &store->verifier;
  int r;

  if (is_running (verifier, rate))
    return 0;
  join_thread (verifier);
  verify_begin (verifier, rate != NULL ? *rate : 0);
  r = service_thread_start (&verifier->thread, "zmem-verify", run_verifier,
                            verifier);
  verifier->has_thread = r == 0;
  if (r < 0) {
    LOCK_FOR_SCOPE (&verifier->lock);

    verifier->report = (struct verify_report) { .state = VERIFY_IDLE };
  }
  return r;
}

void
store_verify_stop (struct store *store)
{
  struct verifier *verifier = &store->verifier;

  lock_acquire (&verifier->lock);
  atomic_store (&verifier->stopping, true);
  pthread_cond_signal (&verifier->wake);
  lock_release (&verifier->lock);
  join_thread (verifier);
}

void
store_verify_report (struct store *store, struct verify_report *ret)
{
  LOCK_FOR_SCOPE (&store->verifier.lock);

  *ret = store->verifier.report;
}
