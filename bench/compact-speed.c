/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * How fast does compaction move objects?  A store in this process, without
 * a server, without a worker: one thread fills it from a corpus, frees part
 * of it and compacts all of it.
 *
 *   compact-speed [--rounds N] [--seed N] [--compress CODEC] CORPUS
 *   compact-speed --bounds
 *
 * --bounds: what the size classes cost at the most, by computation; see
 * docs/COMPACTION.
 *
 *     half     a random half of the blocks is freed
 *     second   every second block
 *     runs     9 blocks of 20, in turns
 *     90%      a random nine tenths
 *     10%      a random tenth
 *     rewrite  nothing is freed, but each block overwritten about twice,
 *              at random
 *
 * A line a pattern, of the round with the median of bytes moved a second
 * [5 rounds], each with a store of its own:
 *
 *   L        payloads that are left, each rounded up to 16 bytes
 *   held     before and after, MiB
 *   moved    objects, and their payload bytes
 *   moved/s, objects/s, returned/s
 *            by the thread's processor time, which others that run on the
 *            machine disturb least; GB is 10^9 bytes
 *   wall     milliseconds of the run by the clock
 *
 * All that is left is read back and compared, the store is recounted
 * (store_check), and G1 and G3 of docs/COMPACTION are checked: nothing is busy
 * here.  Exit status: 0; 1 where any of that fails (told; a guarantee that
 * fails ends nothing else); 2 on wrong usage.
 */

#define _GNU_SOURCE

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench-clock.h"
#include "bench-corpus.h"
#include "bench-random.h"
#include "codec.h"
#include "compactor.h"
#include "side-table.h"
#include "size-class.h"
#include "stats.h"
#include "store.h"

#define MAX_ROUNDS 101

/* What was done to a block after the fill. */
struct pattern {
  const char *name;
  unsigned free_percent;   /* of the blocks, at random; */
  unsigned turn, free_run; /* or so many of each turn of so many */
  unsigned overwrites;     /* of as many random blocks as there are, before */
};

static const struct pattern patterns[] = {
  { "half", 50, 0, 0, 0 }, { "second", 0, 2, 1, 0 }, { "runs", 0, 20, 9, 0 },
  { "90%", 90, 0, 0, 0 },  { "10%", 10, 0, 0, 0 },   { "rewrite", 0, 0, 0, 2 },
};
#define NR_PATTERNS (sizeof patterns / sizeof *patterns)

struct outcome {
  double left_mib, before_mib, after_mib;
  double cpu_s, wall_s;
  struct compact_report report;
};

static const char *corpus;
static uint32_t nr_blocks;
static uint32_t *pages;    /* by block: its page of the corpus */
static uint32_t *shuffled; /* blocks */
#define FREED UINT32_MAX
static uint64_t rng_state;
static bool guarantee_failed;
static struct codec_spec codec = { .id = CODEC_LZ4, .level = 1 };

static double
seconds (clockid_t clock)
{
  return read_clock_ns (clock) / 1e9;
}

static void
must (int r, const char *what)
{
  if (r != 0) {
    errno = -r;
    err (EXIT_FAILURE, "%s", what);
  }
}

static struct stats
get_stats (struct store *store)
{
  struct stats stats = { 0 };

  store_stats (store, &stats);
  return stats;
}

static struct store *
create_store (void)
{
  const struct store_params params = {
    .size_bytes = nr_blocks * (uint64_t) BLOCK_BYTES,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = codec,
    .compact_manual = true,
  };
  struct store *store;

  must (store_create (&params, &store), "store_create");
  must (store_start (store), "store_start");
  return store;
}

static void
write_block (struct store *store, uint32_t block, uint32_t page)
{
  must (store_write (store, corpus + page * BLOCK_BYTES, BLOCK_BYTES,
                     block * BLOCK_BYTES),
        "store_write");
  pages[block] = page;
}

static void
free_block (struct store *store, uint32_t block)
{
  must (store_trim (store, BLOCK_BYTES, block * BLOCK_BYTES), "store_trim");
  pages[block] = FREED;
}

static void
make_pattern (struct store *store, const struct pattern *pattern)
{
  const uint32_t nr_random = (uint64_t) nr_blocks * pattern->free_percent / 100;

  for (uint32_t block = 0; block < nr_blocks; ++block)
    write_block (store, block, block);
  for (uint64_t i = (uint64_t) nr_blocks * pattern->overwrites; i > 0; --i)
    write_block (store, rng (&rng_state) % nr_blocks,
                 rng (&rng_state) % nr_blocks);
  shuffle (shuffled, nr_blocks, &rng_state);
  for (uint32_t i = 0; i < nr_random; ++i)
    free_block (store, shuffled[i]);
  if (pattern->turn > 0)
    for (uint32_t block = 0; block < nr_blocks; ++block)
      if (block % pattern->turn >= pattern->turn - pattern->free_run)
        free_block (store, block);
}

static void
check_store (struct store *store)
{
  static const char zeros[BLOCK_BYTES];
  static char data[BLOCK_BYTES];
  char error[256];

  for (uint32_t block = 0; block < nr_blocks; ++block) {
    const char *expected =
      pages[block] == FREED ? zeros : corpus + pages[block] * BLOCK_BYTES;

    must (store_read (store, data, BLOCK_BYTES, block * BLOCK_BYTES),
          "store_read");
    if (memcmp (data, expected, BLOCK_BYTES) != 0)
      errx (EXIT_FAILURE, "block %" PRIu32 ": WRONG DATA", block);
  }
  if (store_check (store, error, sizeof error) != 0)
    errx (EXIT_FAILURE, "store_check: %s", error);
}

static void
check_guarantees (const struct stats *stats,
                  const struct compact_report *report)
{
  const double allowed = 1.02 * stats->payload_rounded_bytes +
                         16.0 * stats->live_blocks +
                         4096.0 * stats->live_regions + (3 << 20);

  if (stats->held_bytes > allowed) {
    warnx ("G1 DOES NOT HOLD: %.2f MiB held, %.2f allowed, %.2f reclaimable",
           stats->held_bytes / 1048576.0, allowed / 1048576,
           stats->reclaimable_bytes / 1048576.0);
    guarantee_failed = true;
  }
  if (report->copied_bytes > report->returned_bytes) {
    warnx ("G3 DOES NOT HOLD: %" PRIu64 " bytes copied, %" PRIu64 " returned",
           report->copied_bytes, report->returned_bytes);
    guarantee_failed = true;
  }
}

static void
measure (const struct pattern *pattern, struct outcome *outcome)
{
  struct store *store = create_store ();
  struct stats stats;
  uint64_t ticket;

  make_pattern (store, pattern);
  stats = get_stats (store);
  outcome->before_mib = stats.held_bytes / 1048576.0;
  outcome->left_mib = stats.payload_rounded_bytes / 1048576.0;

  outcome->wall_s = seconds (CLOCK_MONOTONIC);
  outcome->cpu_s = seconds (CLOCK_THREAD_CPUTIME_ID);
  ticket = store_compact (store, -1); /* no worker: returns when done */
  outcome->cpu_s = seconds (CLOCK_THREAD_CPUTIME_ID) - outcome->cpu_s;
  outcome->wall_s = seconds (CLOCK_MONOTONIC) - outcome->wall_s;

  if (!store_compact_report (store, ticket, &outcome->report))
    errx (EXIT_FAILURE, "store_compact has returned before it was done");
  stats = get_stats (store);
  outcome->after_mib = stats.held_bytes / 1048576.0;
  check_guarantees (&stats, &outcome->report);
  check_store (store);
  store_destroy (store);
}

static double
moved_gb_s (const struct outcome *outcome)
{
  return outcome->report.copied_bytes / outcome->cpu_s / 1e9;
}

static int
compare_speed (const void *a, const void *b)
{
  const double x = moved_gb_s (a), y = moved_gb_s (b);

  return (x > y) - (x < y);
}

static void
print_outcome (const struct pattern *pattern, const struct outcome *o)
{
  const struct compact_report *r = &o->report;

  printf ("%-8s %7.1f %7.1f %7.1f %8" PRIu64 " %8.1f %8.1f %9.2f %9.0f "
          "%9.2f %7.1f\n",
          pattern->name, o->left_mib, o->before_mib, o->after_mib,
          r->moved_objects, r->copied_bytes / 1048576.0,
          r->returned_bytes / 1048576.0, moved_gb_s (o),
          r->moved_objects / o->cpu_s, r->returned_bytes / o->cpu_s / 1e9,
          o->wall_s * 1000);
  fflush (stdout);
}

static void
map_corpus (const char *path)
{
  uint64_t nr;

  corpus = map_pages (path, &nr);
  if (nr < 256 || nr >= FREED)
    errx (EXIT_FAILURE, "%s: not of a useful size", path);
  nr_blocks = nr;
  pages = malloc (nr_blocks * sizeof *pages);
  shuffled = malloc (nr_blocks * sizeof *shuffled);
  if (pages == NULL || shuffled == NULL)
    err (EXIT_FAILURE, "%s", path);
}

/* Payloads are rounded up to OBJECT_ALIGN; there are none between the
 * largest that is compressed and OBJECT_MAX.
 */
static void
print_bounds (void)
{
  const struct size_class_table *table = size_class_table ();
  double most = 0, sum = 0;
  size_t at_bytes = 0, side_bytes = 0;
  unsigned nr_sizes = 0;

  for (size_t bytes = OBJECT_MIN; bytes <= OBJECT_MAX; bytes += OBJECT_ALIGN) {
    const struct size_class *class =
      &table->classes[size_class_of (table, bytes)];
    const double each = (double) ZSPAGE_BYTES / class->nr_objects;

    if (bytes > size_class_largest_compressed () && bytes < OBJECT_MAX)
      continue;
    if (each / bytes - 1 > most) {
      most = each / bytes - 1;
      at_bytes = bytes;
    }
    sum += each / bytes - 1;
    nr_sizes++;
  }
  for (unsigned i = 0; i < table->nr_classes; ++i)
    side_bytes += side_table_bytes (&table->classes[i]);

  printf ("classes                          %u\n"
          "lost in full zspages, at most    %.3f %% (payloads of %zu bytes)\n"
          "  mean of all sizes              %.3f %%\n"
          "a page for each class            %zu KiB\n"
          "a side table for each class      %zu KiB\n",
          table->nr_classes, most * 100, at_bytes, sum / nr_sizes * 100,
          table->nr_classes * PAGE_BYTES / 1024, side_bytes / 1024);
}

static void
usage (void)
{
  fprintf (stderr, "usage: compact-speed [--rounds N] [--seed N] "
                   "[--compress CODEC] CORPUS\n"
                   "       compact-speed --bounds\n");
  exit (2);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "rounds", required_argument, NULL, 'r' },
    { "seed", required_argument, NULL, 's' },
    { "compress", required_argument, NULL, 'c' },
    { "bounds", no_argument, NULL, 'b' },
    { NULL, 0, NULL, 0 },
  };
  static struct outcome outcomes[MAX_ROUNDS];
  unsigned long nr_rounds = 5;
  uint64_t seed = 1;
  char error[256];
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 'r':
      nr_rounds = strtoul (optarg, NULL, 0);
      break;
    case 's':
      seed = strtoull (optarg, NULL, 0);
      break;
    case 'c':
      if (codec_spec_parse (optarg, &codec, error, sizeof error) != 0)
        errx (2, "%s", error);
      break;
    case 'b':
      print_bounds ();
      return EXIT_SUCCESS;
    default:
      usage ();
    }
  if (optind + 1 != argc || nr_rounds - 1 >= MAX_ROUNDS)
    usage ();
  map_corpus (argv[optind]);
  rng_state = mix (seed);

  printf ("%-8s %7s %7s %7s %8s %8s %8s %9s %9s %9s %7s\n"
          "%-8s %7s %7s %7s %8s %8s %8s %9s %9s %9s %7s\n",
          "", "L", "held", "after", "objects", "copied", "returned", "moved",
          "objects", "returned", "wall", "pattern", "MiB", "MiB", "MiB",
          "moved", "MiB", "MiB", "GB/s", "/s", "GB/s", "ms");
  for (size_t p = 0; p < NR_PATTERNS; ++p) {
    for (unsigned long i = 0; i < nr_rounds; ++i)
      measure (&patterns[p], &outcomes[i]);
    qsort (outcomes, nr_rounds, sizeof *outcomes, compare_speed);
    print_outcome (&patterns[p], &outcomes[nr_rounds / 2]);
  }
  return guarantee_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
