/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Load on an NBD server, measured: the client behind every speed number.
 *
 *   nbd-load [options] --corpus FILE URI
 *
 *     --workload LIST   of the workloads below, joined by commas; done in
 *                       turn, a line of results each     [randread]
 *     --connections C   to the server, a thread for each [2]
 *     --depth D         requests in flight on each       [16]
 *     --seconds S | --ops N   how long each workload runs, a request of each
 *                       connection at least; but those that go once over what
 *                       they are for do that              [5 s]
 *     --rate N          requests a second, at most, begun once a millisecond:
 *                       for latency while processors are to spare; 0: no
 *                       bound                            [0]
 *     --size MIB        of the disk to use               [size of the corpus]
 *     --seed N          of blocks, and of what is written  [1]
 *     --verify          compare all that is read with what was written
 *     --state FILE      keep there what was written, for a later run's
 *                       --verify; without it a run starts from a disk of zeros
 *     --server-pid PID  tell the processor time of that process, an operation
 *     --json            an object a line in place of text
 *
 *   fill, fill256     once over the range, in order, by 4 KiB or 256 KiB
 *   randread, randwrite  blocks at random
 *   mixed             70 % reads of blocks, 30 % writes
 *   churn             50 % reads of blocks, 40 % writes, 10 % trims
 *   part              50 % reads, 50 % writes, each of 512 to 3584 bytes of a
 *                     block
 *   swap              as a kernel that swaps: of clusters of 8 blocks, 60 %
 *                     reads of a single block, 25 % writes and 15 % trims of
 *                     all 8
 *   trimhalf, trim256 trim a random half of the blocks, or of the pieces of
 *                     256 KiB, each once
 *   seqread256, seqwrite256  in order, over and over, by 256 KiB
 *
 * Requests of 256 KiB leave out what is at the end of the range and smaller.
 * Of a workload of several kinds of requests the latency is also told by
 * kind: further lines of text, further members of the object (read_p99_us).
 *
 *   load-workloads   the table of workloads
 *   load-content     what a block must hold: generations, the state file
 *   load-schedule    which unit of the disk is next, and when
 *   load-connection  requests and their completion
 *   load-results     sums and printing
 *
 * Exit status: 0; 1 on errors of the server or wrong data (the first is
 * told); 2 on wrong usage.  Link with -lnbd.
 */

#define _GNU_SOURCE

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench-clock.h"
#include "bench-options.h"
#include "load-connection.h"
#include "load-content.h"
#include "load-results.h"
#include "load-schedule.h"
#include "load-workloads.h"

#define MAX_ASKED 64 /* workloads */
#define MIB_BLOCKS (1048576 / BLOCK_BYTES)
/* The number of a block fits 32 bits: 16 TiB, less 1 MiB. */
#define MAX_MIB (UINT32_MAX / MIB_BLOCKS)

enum option_value {
  FLAG, /* getopt_long has done all of it */
  CONNECTIONS,
  DEPTH,
  OPS,
  RATE,
  SIZE,
  SEED,
  SERVER_PID,
  NR_NUMBERS, /* and FLAG */
  SECONDS = NR_NUMBERS,
  CORPUS,
  WORKLOAD,
  STATE,
  HELP,
  NR_OPTIONS
};

static const struct {
  uint64_t least, most, preset; /* 0: not given */
} ranges[NR_NUMBERS] = {
  [CONNECTIONS] = { 1, MAX_CONNECTIONS, 2 },
  [DEPTH] = { 1, MAX_DEPTH, 16 },
  [OPS] = { 1, INT64_MAX, 0 },
  [RATE] = { 0, 1000000000, 0 },
  [SIZE] = { 1, MAX_MIB, 0 },
  [SEED] = { 0, UINT64_MAX, 1 },
  [SERVER_PID] = { 1, INT_MAX, 0 },
};

/* The command line. */
static int verify, json;
static uint64_t numbers[NR_NUMBERS];
static double seconds = 5;
static const char *strings[NR_OPTIONS]; /* CORPUS, STATE */
static const struct workload *asked[MAX_ASKED];
static unsigned nr_asked;

static struct load load;

/*--- Options. ---*/

static void
parse_workloads (const char *list)
{
  char *names = strdup (list), *rest = names, *name;

  if (names == NULL)
    err (EXIT_FAILURE, "strdup");
  nr_asked = 0;
  while ((name = strsep (&rest, ",")) != NULL)
    if (nr_asked < MAX_ASKED)
      asked[nr_asked++] = find_workload (name);
    else
      errx (2, "--workload takes at most %d workloads", MAX_ASKED);
  free (names);
}

static void
print_help (void)
{
  printf ("usage: nbd-load [--workload LIST] [--connections C] [--depth D]\n"
          "    [--seconds S | --ops N] [--rate N] [--size MIB] [--seed N]\n"
          "    [--verify] [--state FILE] [--server-pid PID] [--json]\n"
          "    --corpus FILE URI\n"
          "workloads:");
  for (const struct workload *w = workloads; w->name; ++w)
    printf (" %s", w->name);
  putchar ('\n');
  exit (EXIT_SUCCESS);
}

static void
parse_option (const char *name, enum option_value option, const char *text)
{
  switch (option) {
  case FLAG:
    break;
  case HELP:
    print_help ();
    break;
  case SECONDS:
    seconds = parse_seconds (name, text);
    break;
  case WORKLOAD:
    parse_workloads (text);
    break;
  case CORPUS:
  case STATE:
    strings[option] = text;
    break;
  default:
    numbers[option] =
      parse_number (name, text, ranges[option].least, ranges[option].most);
  }
}

/* Returns the URI. */
static const char *
parse_command_line (int argc, char *argv[])
{
  static const struct option options[] = {
    { "corpus", required_argument, NULL, CORPUS },
    { "workload", required_argument, NULL, WORKLOAD },
    { "connections", required_argument, NULL, CONNECTIONS },
    { "depth", required_argument, NULL, DEPTH },
    { "seconds", required_argument, NULL, SECONDS },
    { "ops", required_argument, NULL, OPS },
    { "rate", required_argument, NULL, RATE },
    { "size", required_argument, NULL, SIZE },
    { "seed", required_argument, NULL, SEED },
    { "verify", no_argument, &verify, true },
    { "state", required_argument, NULL, STATE },
    { "server-pid", required_argument, NULL, SERVER_PID },
    { "json", no_argument, &json, true },
    { "help", no_argument, NULL, HELP },
    { NULL, 0, NULL, 0 },
  };
  int c, index;

  for (unsigned i = 0; i < NR_NUMBERS; ++i)
    numbers[i] = ranges[i].preset;
  parse_workloads ("randread");
  while ((c = getopt_long (argc, argv, "", options, &index)) != -1)
    if (c == '?')
      exit (2); /* getopt_long has said why */
    else
      parse_option (options[index].name, c, optarg);
  if (strings[CORPUS] == NULL)
    errx (2, "needs --corpus FILE, the pages to write; bench/corpus makes one");
  if (optind + 1 != argc)
    errx (2, "needs one URI, such as nbd+unix:///?socket=PATH, not %d",
          argc - optind);
  return argv[optind];
}

/*--- A workload. ---*/

/* Returns whether all was well. */
static bool
run_workload (const struct workload *workload)
{
  static struct outcome outcome;
  const double server_cpu_before = server_cpu_seconds ();

  memset (&outcome, 0, sizeof outcome);
  outcome.workload = workload->name;
  outcome.nr_connections = load.nr_connections;
  outcome.depth = load.depth;
  begin_schedule (workload);
  run_connections (workload, &outcome.results);
  outcome.seconds = (now_ns () - schedule_start_ns ()) / 1e9;
  outcome.server_cpu_seconds =
    server_cpu_before < 0 ? -1 : server_cpu_seconds () - server_cpu_before;
  print_outcome (&outcome, json);
  return outcome.results.nr_errors == 0 && outcome.results.nr_wrong == 0;
}

static void
check_disk (void)
{
  const uint64_t bytes = disk_bytes (), wanted = load.nr_blocks * BLOCK_BYTES;

  if (bytes < wanted)
    errx (2,
          "the disk has %" PRIu64 " bytes, fewer than the %" PRIu64
          " to use: take a smaller --size",
          bytes, wanted);
}

int
main (int argc, char *argv[])
{
  const char *uri = parse_command_line (argc, argv);
  const uint64_t nr_corpus_pages = map_corpus (strings[CORPUS], numbers[SEED]);
  bool good = true;

  load = (struct load) {
    .nr_connections = numbers[CONNECTIONS],
    .depth = numbers[DEPTH],
    .seconds = seconds,
    .nr_ops = numbers[OPS],
    .rate = numbers[RATE],
    .seed = numbers[SEED],
    .nr_blocks = numbers[SIZE] ? numbers[SIZE] * MIB_BLOCKS : nr_corpus_pages,
    .verify = verify,
  };
  prepare_schedule (&load);
  for (unsigned i = 0; i < nr_asked; ++i)
    check_room (asked[i]);
  if (numbers[SERVER_PID] > 0)
    watch_server (numbers[SERVER_PID]);
  open_connections (&load, uri);
  check_disk ();
  map_generations (strings[STATE], load.nr_blocks);

  for (unsigned i = 0; i < nr_asked; ++i)
    good &= run_workload (asked[i]);
  close_connections ();
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
