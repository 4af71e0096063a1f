/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The model: many threads use one disk at random, and a flat array knows
 * what it ought to hold.
 *
 *     disk    |  stripe 0  |s1|   stripe 2      |s3|s4| ...
 *     blocks  |----|----|----|----|----|----|----|----|
 *
 * The disk is cut at random bytes into stripes, each owned by one thread.
 * A thread writes, zeroes and trims within its stripes alone, and knows
 * each byte of them; but neighbours share blocks, so whatever one of them
 * does to a block must not undo what another did: a lost update is what a
 * wrong read-modify-write makes.  Nobody else writes a thread's bytes of
 * the array, so the array needs no lock.
 *
 * Beside them one thread disturbs: changes the codec, moves the limit to
 * where writes are refused and below what is held, asks for statistics and
 * extents, and gives the plugin's control commands, good ones and bad ones.
 * After an error each block of the request must be as it was or as it was to
 * be.
 *
 * And one compacts without a pause: in every third epoch it asks a worker
 * thread for run after run, in the next it does them itself, in the next
 * nobody compacts but who meets the limit.
 *
 * What it would not see: a block that is wrong for a moment and right when it
 * is read (reads are a third of the requests); damage that no request and no
 * checksum meets; a held that is wrong within an epoch (it is compared between
 * them; that it is never above the limit is tests/test-store-limit's); a write
 * that is refused although there is room (tests/test-guarantees's); a hang,
 * but by whoever waits for the test; an order of two threads that this machine
 * does not produce: for these there are the models, docs/LOCKING.
 *
 * An epoch is a number of requests a thread; after it all stop, the store
 * recounts itself (store_check), held is compared with what the kernel
 * says, and every byte with the array.
 *
 *   test-model [--threads N] [--size BYTES] [--ops N a thread and epoch]
 *              [--epochs N | --seconds N] [--seed N] [--calm]
 *
 * ZMEM_SECONDS and ZMEM_THREADS are the same as --seconds and --threads; then
 * a line now and then says how far it is.
 *
 * --calm: no disturbing thread and no limit, so that no error is allowed.
 * A run can be repeated by its seed, but for how the threads interleave.
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compactor.h"
#include "model-commands.h"
#include "model-disturb.h"
#include "model-requests.h"
#include "probe.h"
#include "stats.h"
#include "store.h"
#include "test-util.h"

#define MAX_THREADS 64
#define PROGRESS_SECONDS 30

static struct options {
  unsigned nr_threads;
  uint64_t size;
  unsigned nr_ops; /* a thread and epoch */
  unsigned nr_epochs;
  unsigned seconds; /* 0: as many epochs as said */
  bool calm;
} options;

static uint64_t foreign_bytes; /* held that is no mapping and no context */
static struct model_thread workers[MAX_THREADS];
static uint64_t nr_commands; /* guard: the disturbing thread */
static pthread_barrier_t epoch_start, epoch_end;
static atomic_bool stopping; /* set between epochs */
static enum {
  COMPACT_NEVER,
  COMPACT_BY_WORKER,
  COMPACT_BY_HAND,
  NR_COMPACT_WAYS
} compact_way;              /* set between epochs */
static atomic_uint nr_busy; /* workers that are not done with the epoch */

/*--------------------------------------------------------------------*/
/* A thread that makes requests. */

static void *
work (void *arg)
{
  struct model_thread *thread = arg;

  for (;;) {
    pthread_barrier_wait (&epoch_start);
    if (atomic_load (&stopping))
      return NULL;
    for (unsigned i = 0; i < options.nr_ops && test_nr_failures () == 0; ++i)
      model_request (thread);
    atomic_fetch_sub (&nr_busy, 1);
    pthread_barrier_wait (&epoch_end);
  }
}

/*--------------------------------------------------------------------*/
/* What disturbs: model-disturb.c, as long as a worker works. */

static void *
disturb (void *arg)
{
  struct rng *rng = arg;

  for (;;) {
    pthread_barrier_wait (&epoch_start);
    if (atomic_load (&stopping))
      return NULL;
    while (atomic_load (&nr_busy) > 0) {
      disturb_with_questions (model.store, rng);
      if (!options.calm)
        disturb_with_changes (model.store, rng);
      nr_commands += model_command (model.store, rng, !options.calm);
      sleep_us (300);
    }
    store_set_limit (model.store, PAGES_NO_LIMIT);
    pthread_barrier_wait (&epoch_end);
  }
}

/*--------------------------------------------------------------------*/
/* Between epochs. */

static uint64_t
count_check (bool ok, const char *what)
{
  if (!ok)
    test_note_failure ("%s", what);
  return ok;
}

/* Held, to the byte, is what the kernel says, and what malloc gave. */
static uint64_t
check_held (void)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (model.store, &stats);
  if (stats.held_bytes ==
      probe_rss_bytes () + stats.context_bytes + foreign_bytes)
    return 1;
  test_note_failure ("held is %" PRIu64 ", %" PRIu64
                     " resident, contexts %" PRIu64 ", other %" PRIu64,
                     stats.held_bytes, probe_rss_bytes (), stats.context_bytes,
                     foreign_bytes);
  return 0;
}

static uint64_t
check_all_bytes (uint8_t *back)
{
  uint64_t nr_passed = 0;

  for (uint64_t at = 0; at < options.size; at += MAX_REQUEST) {
    const uint64_t left = options.size - at;
    const uint64_t n = left < MAX_REQUEST ? left : MAX_REQUEST;

    if (store_read (model.store, back, n, at) != 0)
      test_note_failure ("read at %" PRIu64 " failed", at);
    else if (memcmp (back, model.shadow + at, n) != 0)
      model_note_difference ("last read", back, model.shadow + at, n, at);
    else
      ++nr_passed;
  }
  return nr_passed;
}

static uint64_t
check_epoch (void)
{
  char error[512] = "";
  uint64_t nr_passed = 0;

  nr_passed +=
    count_check (store_check (model.store, error, sizeof error) == 0, error);
  nr_passed += check_held ();
  nr_passed += check_all_bytes (workers[0].back);
  return nr_passed;
}

/*--------------------------------------------------------------------*/
/* The thread that compacts. */

static void
compact_once (void)
{
  struct compact_report report;
  const uint64_t ticket = store_compact (model.store, -1);

  while (!store_compact_report (model.store, ticket, &report))
    sleep_us (100);
}

static void *
compact (void *opaque)
{
  (void) opaque;
  for (;;) {
    pthread_barrier_wait (&epoch_start);
    if (atomic_load (&stopping))
      return NULL;
    while (compact_way != COMPACT_NEVER && atomic_load (&nr_busy) > 0)
      compact_once ();
    pthread_barrier_wait (&epoch_end);
  }
}

/* Between epochs: the next one compacts in the next way. */
static void
begin_compacting (unsigned epoch)
{
  compact_way = epoch % NR_COMPACT_WAYS;
  if (compact_way == COMPACT_BY_WORKER && store_start_worker (model.store) != 0)
    test_note_failure ("no worker");
}

static void
end_compacting (void)
{
  if (compact_way == COMPACT_BY_WORKER)
    store_stop_worker (model.store);
}

/* There was something to move. */
static uint64_t
check_moved (unsigned nr_epochs)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (model.store, &stats);
  printf ("test-model: %" PRIu64 " objects moved, %" PRIu64 " met busy\n",
          stats.compact_moved_objects, stats.compact_skipped_objects);
  return count_check (nr_epochs < NR_COMPACT_WAYS ||
                        stats.compact_moved_objects > 0,
                      "nothing was moved");
}

/*--------------------------------------------------------------------*/

/* Stripes: many shorter than a block, many of some blocks, a few longer
 * than the largest request.
 */
static void
cut_into_stripes (struct rng *rng)
{
  static const uint64_t typical[] = { 300, 6000, 70000, 3 * MAX_REQUEST };
  /* On a small disk no longer than that each thread has some. */
  const uint64_t longest = options.size / options.nr_threads / 4 + 1;
  uint64_t at = 0;

  for (unsigned i = 0; at < options.size; ++i) {
    const uint64_t most = typical[rng_below (rng, 4)];
    const uint64_t bytes = rng_size (rng, most < longest ? most : longest);
    const uint64_t left = options.size - at;
    struct model_thread *worker = &workers[i % options.nr_threads];

    worker->stripes = realloc (worker->stripes, (worker->nr_stripes + 1) *
                                                  sizeof worker->stripes[0]);
    if (worker->stripes == NULL)
      abort ();
    worker->stripes[worker->nr_stripes].start = at;
    at += bytes < left ? bytes : left;
    worker->stripes[worker->nr_stripes++].end = at;
  }
}

static void
open_store (void)
{
  const struct store_params params = {
    .size_bytes = options.size,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .pages_ops = &probe_ops,
    .reserve = test_seed () % 2,
  };
  struct stats stats;
  int r = store_create (&params, &model.store);

  if (r == 0)
    r = store_start (model.store);
  if (r != 0) {
    fprintf (stderr, "test-model: no store: %s\n", strerror (-r));
    exit (EXIT_FAILURE);
  }
  memset (&stats, 0, sizeof stats);
  store_stats (model.store, &stats);
  foreign_bytes = stats.held_bytes - probe_rss_bytes () - stats.context_bytes;
}

static void
prepare (struct rng *rng)
{
  model.size = options.size;
  model.calm = options.calm;
  open_store ();
  model.shadow = calloc (1, options.size);
  cut_into_stripes (rng);
  for (unsigned i = 0; i < options.nr_threads; ++i) {
    rng_init (&workers[i].rng, test_seed (), 100 + i);
    workers[i].buf = malloc (MAX_REQUEST);
    workers[i].back = malloc (MAX_REQUEST);
    if (model.shadow == NULL || workers[i].buf == NULL ||
        workers[i].back == NULL || workers[i].nr_stripes == 0) {
      fprintf (stderr, "test-model: no memory, or too small a disk\n");
      exit (EXIT_FAILURE);
    }
  }
  pthread_barrier_init (&epoch_start, NULL, options.nr_threads + 3);
  pthread_barrier_init (&epoch_end, NULL, options.nr_threads + 3);
}

static void
finish (void)
{
  store_destroy (model.store);
  for (unsigned i = 0; i < options.nr_threads; ++i) {
    free (workers[i].stripes);
    free (workers[i].buf);
    free (workers[i].back);
  }
  free (model.shadow);
  pthread_barrier_destroy (&epoch_start);
  pthread_barrier_destroy (&epoch_end);
}

static uint64_t
now_seconds (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec;
}

static uint64_t
total_of (enum model_kind kind)
{
  uint64_t total = kind == MODEL_COMMAND ? nr_commands : 0;

  for (unsigned i = 0; i < options.nr_threads; ++i)
    total += workers[i].nr_done[kind];
  return total;
}

static void
say_progress (uint64_t seconds, unsigned nr_epochs)
{
  static uint64_t said;

  if (options.seconds == 0 || seconds < said + PROGRESS_SECONDS)
    return;
  said = seconds;
  printf ("test-model: %" PRIu64 " s, %u epochs, %" PRIu64 " writes, %" PRIu64
          " reads, %u failed\n",
          seconds, nr_epochs, total_of (MODEL_WRITE), total_of (MODEL_READ),
          test_nr_failures ());
  fflush (stdout);
}

static void
say_totals (void)
{
  printf ("test-model:");
  for (unsigned i = 0; i < NR_MODEL_KINDS; ++i)
    printf ("%s %" PRIu64 " %s", i > 0 ? "," : "", total_of (i),
            model_kind_names[i]);
  printf ("\n");
}

static uint64_t
run_epochs (void)
{
  const uint64_t start = now_seconds ();
  uint64_t nr_passed = 0;
  unsigned epoch;

  for (epoch = 0; test_nr_failures () == 0; ++epoch) {
    if (options.seconds > 0 ? now_seconds () - start >= options.seconds
                            : epoch == options.nr_epochs)
      break;
    atomic_store (&nr_busy, options.nr_threads);
    begin_compacting (epoch);
    pthread_barrier_wait (&epoch_start);
    pthread_barrier_wait (&epoch_end);
    end_compacting ();
    nr_passed += check_epoch ();
    say_progress (now_seconds () - start, epoch + 1);
  }
  nr_passed += check_moved (epoch);
  atomic_store (&stopping, true);
  pthread_barrier_wait (&epoch_start);
  return nr_passed;
}

static uint64_t
number_of (const char *name, const char *text, uint64_t least)
{
  char *end;
  const uint64_t n = strtoull (text, &end, 0);

  if (*text == '\0' || *end != '\0' || n < least) {
    fprintf (stderr,
             "test-model: --%s: not a number of at least %" PRIu64 ": %s\n",
             name, least, text);
    exit (EXIT_FAILURE);
  }
  return n;
}

static void
read_options (int argc, char *argv[])
{
  static const struct option longopts[] = {
    { "threads", required_argument, NULL, 't' },
    { "size", required_argument, NULL, 's' },
    { "ops", required_argument, NULL, 'o' },
    { "epochs", required_argument, NULL, 'e' },
    { "seconds", required_argument, NULL, 'S' },
    { "seed", required_argument, NULL, 'r' },
    { "calm", no_argument, NULL, 'c' },
    { NULL, 0, NULL, 0 },
  };
  int opt;

  options = (struct options) {
    .nr_threads = 16,
    .size = 40 * MIB + 1234,
    .nr_ops = 1000,
    .nr_epochs = test_quick ()    ? 6
                 : TEST_SANITIZED ? 10
                                  : 60,
    .seconds = test_seconds (),
  };
  if (getenv ("ZMEM_SECONDS") != NULL)
    options.seconds = number_of ("seconds", getenv ("ZMEM_SECONDS"), 1);
  if (getenv ("ZMEM_THREADS") != NULL)
    options.nr_threads = number_of ("threads", getenv ("ZMEM_THREADS"), 1);
  while ((opt = getopt_long (argc, argv, "", longopts, NULL)) != -1)
    switch (opt) {
    case 't':
      options.nr_threads = number_of ("threads", optarg, 1);
      break;
    case 's':
      options.size = number_of ("size", optarg, 1);
      break;
    case 'o':
      options.nr_ops = number_of ("ops", optarg, 1);
      break;
    case 'e':
      options.nr_epochs = number_of ("epochs", optarg, 1);
      break;
    case 'S':
      options.seconds = number_of ("seconds", optarg, 1);
      break;
    case 'r':
      test_set_seed (number_of ("seed", optarg, 0));
      break;
    case 'c':
      options.calm = true;
      break;
    default:
      fprintf (stderr,
               "usage: test-model [--threads N] [--size BYTES] "
               "[--ops N] [--epochs N] [--seconds N] [--seed N] [--calm]\n");
      exit (EXIT_FAILURE);
    }
  if (options.nr_threads > MAX_THREADS)
    options.nr_threads = MAX_THREADS;
}

int
main (int argc, char *argv[])
{
  uint64_t nr_passed;
  pthread_t disturber, compacter;
  struct rng rng, disturber_rng;

  test_start ("test-model");
  read_options (argc, argv);
  printf ("test-model: --seed %" PRIu64 " --threads %u --size %" PRIu64
          " --ops %u%s\n",
          test_seed (), options.nr_threads, options.size, options.nr_ops,
          options.calm ? " --calm" : "");
  fflush (stdout);
  rng_init (&rng, test_seed (), 1);
  rng_init (&disturber_rng, test_seed (), 2);
  prepare (&rng);

  pthread_create (&disturber, NULL, disturb, &disturber_rng);
  pthread_create (&compacter, NULL, compact, NULL);
  for (unsigned i = 0; i < options.nr_threads; ++i)
    pthread_create (&workers[i].thread, NULL, work, &workers[i]);
  nr_passed = run_epochs ();
  pthread_join (disturber, NULL);
  pthread_join (compacter, NULL);
  for (unsigned i = 0; i < options.nr_threads; ++i) {
    pthread_join (workers[i].thread, NULL);
    nr_passed += workers[i].nr_passed;
  }
  say_totals ();
  finish ();
  probe_reset (); /* notes what was not released */
  printf ("%" PRIu64 " passed, %u failed\n", nr_passed, test_nr_failures ());
  return test_nr_failures () == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
