/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Load on an NBD server, measured: the client behind every speed number.
 *
 *   nbd-load [options] --corpus FILE URI
 *
 *     --workload LIST   of fill, randread, randwrite, mixed (70 % reads),
 *                       churn (50 % reads, 10 % trims), trimhalf (a random
 *                       half, each block once), seqread256, seqwrite256,
 *                       joined by commas; done in turn, a line of results
 *                       each                             [randread]
 *     --connections C   to the server, a thread for each [2]
 *     --depth D         requests in flight on each       [16]
 *     --seconds S | --ops N   how long each workload runs; but fill and
 *                       trimhalf go once over what they are for  [5 s]
 *     --rate N          requests a second, at most, begun once a millisecond:
 *                       for latency while processors are to spare  [any]
 *     --size MIB        of the disk to use               [size of the corpus]
 *     --seed N          of blocks, and of what is written  [1]
 *     --verify          compare all that is read with what was written
 *     --state FILE      keep there what was written, for a later run's
 *                       --verify; without it a run starts from a disk of zeros
 *     --json            an object a line in place of text
 *
 * Of a workload of several kinds of requests the latency is also told by
 * kind: further lines of text, further members of the object (read_p99_us).
 *
 * Content: a block has a generation, which each write to it raises.  What
 * generation g of block b holds is a page of the corpus: page b (modulo the
 * corpus) at the first, so that a fill copies the corpus with its locality,
 * and one chosen by mixing (b, g) after; a trim
 * begins again with 0.  So a byte that was read is known to
 * be right or wrong from 4 bytes a block.
 *
 *   generation   0: zeros.  UNKNOWN: a write began and was not answered, or
 *                failed, so a state is of use even after a server or a client
 *                was killed.  But a write of one block that is refused with
 *                ENOSPC is held to have changed nothing.
 *
 * Never two requests in flight for one block: a request claims its first
 * block (all requests of a workload are of one size and aligned to it), and
 * a random one that finds it claimed picks another.
 *
 * Lean, for the client shares its processors with the server: libnbd's
 * asynchronous calls, whole blocks sent from the corpus where it is mapped,
 * no strict mode, simple replies (as the kernel's client), no clearing of
 * read buffers.
 *
 * Exit status: 0; 1 on errors of the server or wrong data (the first is
 * told); 2 on wrong usage.  Link with -lnbd.
 */

#define _GNU_SOURCE

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "bench-latency.h"
#include "bench-random.h"

#define BLOCK_BYTES     4096
#define MAX_CONNECTIONS 64
#define MAX_DEPTH       256
#define MAX_ASKED       64 /* workloads */
#define LARGE_BLOCKS    64 /* a request of 256 KiB */
#define UNKNOWN         UINT32_MAX

enum kind { READ, WRITE, TRIM, NR_KINDS };

static const char *const kind_names[NR_KINDS] = { "read", "write", "trim" };

/* SHUFFLED: sequential in a random order of the blocks. */
enum order { RANDOM, SEQUENTIAL, SHUFFLED };

struct workload {
  const char *name;
  unsigned blocks; /* of a request */
  unsigned read_percent, trim_percent;
  enum order order;
  unsigned once; /* over a share of the range: one in so many blocks */
};

static const struct workload workloads[] = {
  { "fill", 1, 0, 0, SEQUENTIAL, 1 },
  { "randread", 1, 100, 0, RANDOM, 0 },
  { "randwrite", 1, 0, 0, RANDOM, 0 },
  { "mixed", 1, 70, 0, RANDOM, 0 },
  { "churn", 1, 50, 10, RANDOM, 0 },
  { "trimhalf", 1, 0, 100, SHUFFLED, 2 },
  { "seqread256", LARGE_BLOCKS, 100, 0, SEQUENTIAL, 0 },
  { "seqwrite256", LARGE_BLOCKS, 0, 0, SEQUENTIAL, 0 },
};
#define NR_WORKLOADS (sizeof workloads / sizeof *workloads)

/* Of a workload. */
struct results {
  uint64_t nr_errors, nr_wrong;
  struct latency latency[NR_KINDS];
};

struct request {
  struct connection *connection;
  struct request *next_free;
  uint64_t block;
  uint64_t start_ns;
  char *buffer;
  enum kind kind;
  uint32_t old_generations[LARGE_BLOCKS]; /* unless it reads */
};

struct connection {
  struct nbd_handle *nbd;
  pthread_t thread;
  struct request requests[MAX_DEPTH];
  struct request *free;
  unsigned nr_in_flight;
  uint64_t nr_started; /* by this workload */
  uint64_t rng_state;
  bool drained; /* no more requests to start */
  struct results results;
};

/* Set before the threads start. */
static unsigned nr_connections, depth;
static double seconds = 5;
static uint64_t nr_ops, seed, rate;
static int verify, json;
static const char *corpus;
static uint64_t nr_corpus_pages, nr_blocks;
static const struct workload *workload;
static uint64_t start_ns, stop_ns;
static bool ops_limited;
static uint32_t *shuffled; /* units, for SHUFFLED */

/* Shared.  A generation is its claimant's. */
static uint32_t *generations;
static _Atomic uint8_t *claims;
static _Atomic uint64_t cursor;
static _Atomic int64_t nr_left; /* requests to start, if ops_limited */
static atomic_bool error_told;

static struct connection connections[MAX_CONNECTIONS];

static uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * UINT64_C (1000000000) + ts.tv_nsec;
}

/*--- Content. ---*/

static const char *
content (uint64_t block, uint32_t generation)
{
  static const char zeros[BLOCK_BYTES];
  uint64_t page = block;

  if (generation == 0)
    return zeros;
  if (generation > 1)
    page = mix (block + (seed << 40) + ((uint64_t) generation << 20) * 977);
  return corpus + page % nr_corpus_pages * BLOCK_BYTES;
}

static uint32_t
next_generation (uint32_t generation)
{
  /* What follows UNKNOWN must be neither zeros nor UNKNOWN. */
  return generation >= UNKNOWN - 1 ? 2 : generation + 1;
}

static void
tell_first (const struct request *r, const char *what)
{
  if (!atomic_exchange (&error_told, true))
    fprintf (stderr, "nbd-load: %s of %u blocks at block %" PRIu64 ": %s\n",
             kind_names[r->kind], workload->blocks, r->block, what);
}

static void
check_read (const struct request *r)
{
  for (unsigned i = 0; i < workload->blocks; ++i) {
    uint32_t generation = generations[r->block + i];

    if (generation != UNKNOWN &&
        memcmp (r->buffer + i * BLOCK_BYTES, content (r->block + i, generation),
                BLOCK_BYTES) != 0) {
      r->connection->results.nr_wrong++;
      tell_first (r, "WRONG DATA");
    }
  }
}

/*--- Requests. ---*/

static bool
try_claim (uint64_t block)
{
  return atomic_exchange_explicit (&claims[block], 1, memory_order_acquire) ==
         0;
}

static uint64_t
claim_block (struct connection *connection)
{
  const uint64_t nr_units = nr_blocks / workload->blocks;
  uint64_t block;

  do {
    uint64_t unit =
      (workload->order == RANDOM
         ? rng (&connection->rng_state)
         : atomic_fetch_add_explicit (&cursor, 1, memory_order_relaxed)) %
      nr_units;

    if (workload->order == SHUFFLED)
      unit = shuffled[unit];
    block = unit * workload->blocks;
  } while (!try_claim (block));
  return block;
}

/* Returns what to send. */
static const char *
begin_write (struct request *r)
{
  const char *page = NULL;

  for (unsigned i = 0; i < workload->blocks; ++i) {
    uint32_t *generation = &generations[r->block + i];

    r->old_generations[i] = *generation;
    *generation = UNKNOWN;
    page = content (r->block + i, next_generation (r->old_generations[i]));
    if (workload->blocks > 1)
      memcpy (r->buffer + i * BLOCK_BYTES, page, BLOCK_BYTES);
  }
  return workload->blocks > 1 ? r->buffer : page;
}

static void
begin_trim (struct request *r)
{
  for (unsigned i = 0; i < workload->blocks; ++i)
    generations[r->block + i] = UNKNOWN;
}

static void
finish_trim (struct request *r, int error)
{
  if (error == 0)
    for (unsigned i = 0; i < workload->blocks; ++i)
      generations[r->block + i] = 0;
}

static void
finish_write (struct request *r, int error)
{
  if (error == ENOSPC && workload->blocks == 1)
    generations[r->block] = r->old_generations[0];
  if (error == 0)
    for (unsigned i = 0; i < workload->blocks; ++i)
      generations[r->block + i] = next_generation (r->old_generations[i]);
}

/* libnbd calls this when the reply is in. */
static int
complete_request (void *opaque, int *error)
{
  struct request *r = opaque;
  struct connection *connection = r->connection;
  struct results *results = &connection->results;

  latency_add (&results->latency[r->kind], now_ns () - r->start_ns);
  if (*error != 0) {
    results->nr_errors++;
    tell_first (r, strerror (*error));
  }
  else if (r->kind == READ && verify)
    check_read (r);
  if (r->kind == WRITE)
    finish_write (r, *error);
  else if (r->kind == TRIM)
    finish_trim (r, *error);

  atomic_store_explicit (&claims[r->block], 0, memory_order_release);
  r->next_free = connection->free;
  connection->free = r;
  connection->nr_in_flight--;
  return 1; /* retire the command */
}

static enum kind
choose_kind (struct connection *connection)
{
  const unsigned reads = workload->read_percent;
  const unsigned trims = workload->trim_percent;
  unsigned percent = 0;

  if (reads % 100 > 0 || trims % 100 > 0)
    percent = rng (&connection->rng_state) % 100;
  return percent < reads ? READ : percent < reads + trims ? TRIM : WRITE;
}

static void
start_request (struct connection *connection)
{
  struct request *r = connection->free;
  const nbd_completion_callback done = {
    .callback = complete_request,
    .user_data = r,
  };
  const size_t bytes = (size_t) workload->blocks * BLOCK_BYTES;
  int64_t cookie;

  connection->free = r->next_free;
  connection->nr_in_flight++;
  r->block = claim_block (connection);
  r->kind = choose_kind (connection);
  r->start_ns = now_ns ();
  switch (r->kind) {
  case READ:
    cookie = nbd_aio_pread (connection->nbd, r->buffer, bytes,
                            r->block * BLOCK_BYTES, done, 0);
    break;
  case WRITE:
    cookie = nbd_aio_pwrite (connection->nbd, begin_write (r), bytes,
                             r->block * BLOCK_BYTES, done, 0);
    break;
  default:
    begin_trim (r);
    cookie = nbd_aio_trim (connection->nbd, bytes, r->block * BLOCK_BYTES,
                           done, 0);
  }
  if (cookie == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
}

static bool
may_start (struct connection *connection)
{
  if (connection->drained)
    return false;
  if (!ops_limited && now_ns () >= stop_ns)
    connection->drained = true;
  else if (rate && connection->nr_started * 1e9 * nr_connections >
                     (double) rate * (now_ns () - start_ns))
    return false;
  else if (ops_limited)
    connection->drained = atomic_fetch_sub (&nr_left, 1) <= 0;
  connection->nr_started += !connection->drained;
  return !connection->drained;
}

/* libnbd is never asked to read before there is something: it would wait for
 * the rest of that reply, and send nothing meanwhile.
 */
static void *
run_connection (void *opaque)
{
  struct connection *connection = opaque;

  for (;;) {
    while (connection->free && may_start (connection))
      start_request (connection);
    if (connection->nr_in_flight == 0 && connection->drained)
      return NULL;
    if (nbd_poll (connection->nbd, rate ? 1 : -1) == -1)
      errx (EXIT_FAILURE, "%s", nbd_get_error ());
  }
}

/*--- A workload. ---*/

static void
print_results (double elapsed)
{
  static struct results sum;
  static struct latency all;
  unsigned nr_kinds = 0;
  double mib_s;

  memset (&sum, 0, sizeof sum);
  memset (&all, 0, sizeof all);
  for (unsigned c = 0; c < nr_connections; ++c) {
    const struct results *r = &connections[c].results;

    sum.nr_errors += r->nr_errors;
    sum.nr_wrong += r->nr_wrong;
    for (unsigned k = 0; k < NR_KINDS; ++k)
      latency_add_all (&sum.latency[k], &r->latency[k]);
  }
  for (unsigned k = 0; k < NR_KINDS; ++k) {
    nr_kinds += sum.latency[k].nr > 0;
    latency_add_all (&all, &sum.latency[k]);
  }
  mib_s = all.nr / elapsed * workload->blocks * BLOCK_BYTES / 1048576;

  printf (json ? "{\"workload\": \"%s\", \"ops\": %" PRIu64
                 ", \"ops_s\": %.0f, \"mib_s\": %.1f"
               : "%-11s %9" PRIu64 " ops %8.0f ops/s %7.1f MiB/s",
          workload->name, all.nr, all.nr / elapsed, mib_s);
  latency_print (&all, "", json);
  printf (json ? ", \"errors\": %" PRIu64 ", \"wrong\": %" PRIu64
               : "  errors %" PRIu64 " wrong %" PRIu64 "\n",
          sum.nr_errors, sum.nr_wrong);
  for (unsigned k = 0; nr_kinds > 1 && k < NR_KINDS; ++k)
    latency_print_kind (&sum.latency[k], kind_names[k], json);
  if (json)
    puts ("}");
  fflush (stdout);
}

static void
shuffle_units (uint32_t nr)
{
  uint64_t state = mix (seed);

  shuffled = realloc (shuffled, nr * sizeof *shuffled);
  if (shuffled == NULL)
    err (EXIT_FAILURE, "realloc");
  shuffle (shuffled, nr, &state);
}

static bool
run_workload (const struct workload *w)
{
  bool good = true;

  workload = w;
  if (nr_blocks / w->blocks < 2 * nr_connections * depth)
    errx (2, "%s: the disk is too small for so many requests in flight",
          w->name);
  if (w->order == SHUFFLED)
    shuffle_units (nr_blocks / w->blocks);
  cursor = 0;
  start_ns = now_ns ();
  stop_ns = start_ns + seconds * 1e9;
  ops_limited = nr_ops > 0 || w->once > 0;
  nr_left = w->once > 0 ? nr_blocks / w->blocks / w->once : nr_ops;

  for (unsigned i = 0; i < nr_connections; ++i) {
    struct connection *c = &connections[i];

    c->rng_state = mix (seed * 1000 + i + (w - workloads) * 100);
    c->drained = false;
    c->nr_started = 0;
    memset (&c->results, 0, sizeof c->results);
    if (pthread_create (&c->thread, NULL, run_connection, c) != 0)
      errx (EXIT_FAILURE, "pthread_create");
  }
  for (unsigned i = 0; i < nr_connections; ++i) {
    struct results *r = &connections[i].results;

    pthread_join (connections[i].thread, NULL);
    good &= r->nr_errors == 0 && r->nr_wrong == 0;
  }
  print_results ((now_ns () - start_ns) / 1e9);
  return good;
}

/*--- Start. ---*/

static void
map_corpus (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;

  if (fd == -1 || fstat (fd, &st) == -1)
    err (EXIT_FAILURE, "%s", path);
  nr_corpus_pages = st.st_size / BLOCK_BYTES;
  if (nr_corpus_pages == 0)
    errx (EXIT_FAILURE, "%s: smaller than a page", path);
  corpus = mmap (NULL, st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (corpus == MAP_FAILED)
    err (EXIT_FAILURE, "%s", path);
  close (fd);
}

/* state: NULL for a state that dies with us. */
static void
map_generations (const char *state)
{
  const size_t bytes = nr_blocks * sizeof *generations;
  int fd = -1;

  if (state) {
    fd = open (state, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd == -1 || ftruncate (fd, bytes) == -1)
      err (EXIT_FAILURE, "%s", state);
  }
  generations = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                      state ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
  claims = calloc (nr_blocks, sizeof *claims);
  if (generations == MAP_FAILED || claims == NULL)
    err (EXIT_FAILURE, "%s", state ? state : "generations");
  if (fd != -1)
    close (fd);
}

static void
open_connection (struct connection *connection, const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();
  char *buffers =
    aligned_alloc (BLOCK_BYTES, (size_t) depth * LARGE_BLOCKS * BLOCK_BYTES);

  if (nbd == NULL || buffers == NULL ||
      nbd_set_uri_allow_local_file (nbd, true) == -1 ||
      nbd_set_request_structured_replies (nbd, false) == -1 ||
      nbd_set_pread_initialize (nbd, false) == -1 ||
      nbd_set_strict_mode (nbd, 0) == -1 || nbd_connect_uri (nbd, uri) == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
  connection->nbd = nbd;
  for (unsigned i = 0; i < depth; ++i) {
    struct request *r = &connection->requests[i];

    r->connection = connection;
    r->buffer = buffers + (size_t) i * LARGE_BLOCKS * BLOCK_BYTES;
    r->next_free = connection->free;
    connection->free = r;
  }
}

static const struct workload *
find_workload (const char *name)
{
  for (size_t i = 0; i < NR_WORKLOADS; ++i)
    if (strcmp (workloads[i].name, name) == 0)
      return &workloads[i];
  errx (2,
        "--workload=%s: not one of fill, randread, randwrite, mixed, churn, "
        "trimhalf, seqread256, seqwrite256",
        name);
}

static void
usage (void)
{
  fprintf (stderr,
           "usage: nbd-load [--workload LIST] [--connections C] "
           "[--depth D]\n"
           "    [--seconds S | --ops N] [--rate N] [--size MIB] [--seed N] "
           "[--verify]\n    [--state FILE] [--json] --corpus FILE URI\n");
  exit (2);
}

int
main (int argc, char *argv[])
{
  enum { CONNECTIONS, DEPTH, OPS, RATE, SIZE, SEED, NR_NUMBERS };
  enum { CORPUS, WORKLOAD, STATE, NR_STRINGS };
  enum { FLAG, SECONDS, NUMBER, STRING = NUMBER + NR_NUMBERS };
  static const struct option options[] = {
    { "corpus", required_argument, NULL, STRING + CORPUS },
    { "workload", required_argument, NULL, STRING + WORKLOAD },
    { "connections", required_argument, NULL, NUMBER + CONNECTIONS },
    { "depth", required_argument, NULL, NUMBER + DEPTH },
    { "seconds", required_argument, NULL, SECONDS },
    { "ops", required_argument, NULL, NUMBER + OPS },
    { "rate", required_argument, NULL, NUMBER + RATE },
    { "size", required_argument, NULL, NUMBER + SIZE },
    { "seed", required_argument, NULL, NUMBER + SEED },
    { "verify", no_argument, &verify, true },
    { "state", required_argument, NULL, STRING + STATE },
    { "json", no_argument, &json, true },
    { NULL, 0, NULL, 0 }
  };
  uint64_t numbers[NR_NUMBERS] = {
    [CONNECTIONS] = 2, [DEPTH] = 16, [SEED] = 1
  };
  char randread[] = "randread";
  char *strings[NR_STRINGS] = { [WORKLOAD] = randread }, *name;
  const struct workload *asked[MAX_ASKED];
  unsigned nr_asked = 0;
  bool good = true;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    if (c == '?')
      usage ();
    else if (c >= STRING)
      strings[c - STRING] = optarg;
    else if (c >= NUMBER)
      numbers[c - NUMBER] = strtoull (optarg, NULL, 0);
    else if (c == SECONDS)
      seconds = strtod (optarg, NULL);
  if (strings[CORPUS] == NULL || optind + 1 != argc ||
      numbers[CONNECTIONS] - 1 >= MAX_CONNECTIONS ||
      numbers[DEPTH] - 1 >= MAX_DEPTH)
    usage ();
  nr_connections = numbers[CONNECTIONS];
  depth = numbers[DEPTH];
  nr_ops = numbers[OPS];
  seed = numbers[SEED];
  rate = numbers[RATE];

  while ((name = strsep (&strings[WORKLOAD], ",")) != NULL)
    if (nr_asked < MAX_ASKED)
      asked[nr_asked++] = find_workload (name);
    else
      errx (2, "--workload: at most %d", MAX_ASKED);
  map_corpus (strings[CORPUS]);
  nr_blocks =
    numbers[SIZE] ? numbers[SIZE] * (1048576 / BLOCK_BYTES) : nr_corpus_pages;
  map_generations (strings[STATE]);
  for (unsigned i = 0; i < nr_connections; ++i)
    open_connection (&connections[i], argv[optind]);
  if (nbd_get_size (connections[0].nbd) < (int64_t) nr_blocks * BLOCK_BYTES)
    errx (2, "the disk is smaller than %" PRIu64 " MiB; see --size",
          nr_blocks / (1048576 / BLOCK_BYTES));
  for (unsigned i = 0; i < nr_asked; ++i)
    good &= run_workload (asked[i]);
  for (unsigned i = 0; i < nr_connections; ++i) {
    nbd_shutdown (connections[i].nbd, 0);
    nbd_close (connections[i].nbd);
  }
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
