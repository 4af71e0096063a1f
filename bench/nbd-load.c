/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Load on an NBD server, measured: the client behind every speed number.
 *
 *   nbd-load [options] --corpus FILE URI
 *
 *     --workload LIST   of fill, randread, randwrite, mixed (70 % reads),
 *                       seqread256, seqwrite256, joined by commas; done in
 *                       turn, a line of results each     [randread]
 *     --connections C   to the server, a thread for each [2]
 *     --depth D         requests in flight on each       [16]
 *     --seconds S | --ops N   how long each workload runs; but a fill goes
 *                       once over the range              [5 s]
 *     --size MIB        of the disk to use               [size of the corpus]
 *     --seed N          of blocks, and of what is written  [1]
 *     --verify          compare all that is read with what was written
 *     --state FILE      keep there what was written, for a later run's
 *                       --verify; without it a run starts from a disk of zeros
 *     --json            an object a line in place of text
 *
 * Content: a block has a generation, which each write to it raises.  What
 * generation g of block b holds is a page of the corpus: page b (modulo the
 * corpus) at the first, so that a fill copies the corpus with its locality,
 * and one chosen by mixing (b, g) after.  So a byte that was read is known to
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

#define BLOCK_BYTES     4096
#define MAX_CONNECTIONS 64
#define MAX_DEPTH       256
#define MAX_ASKED       64 /* workloads */
#define LARGE_BLOCKS    64 /* a request of 256 KiB */
#define UNKNOWN         UINT32_MAX

/* Latency: 64 buckets a power of two of nanoseconds, so within 1.6 %. */
#define BUCKET_BITS 6
#define NR_BUCKETS  (64 << BUCKET_BITS)

struct workload {
  const char *name;
  unsigned blocks; /* of a request */
  unsigned read_percent;
  bool sequential;
};

static const struct workload workloads[] = {
  { "fill", 1, 0, true },
  { "randread", 1, 100, false },
  { "randwrite", 1, 0, false },
  { "mixed", 1, 70, false },
  { "seqread256", LARGE_BLOCKS, 100, true },
  { "seqwrite256", LARGE_BLOCKS, 0, true },
};
#define NR_WORKLOADS (sizeof workloads / sizeof *workloads)

/* Of a workload. */
struct results {
  uint64_t nr_done, nr_errors, nr_wrong, max_ns;
  uint64_t buckets[NR_BUCKETS];
};

struct request {
  struct connection *connection;
  struct request *next_free;
  uint64_t block;
  uint64_t start_ns;
  char *buffer;
  bool is_read;
  uint32_t old_generations[LARGE_BLOCKS]; /* of a write */
};

struct connection {
  struct nbd_handle *nbd;
  pthread_t thread;
  struct request requests[MAX_DEPTH];
  struct request *free;
  unsigned nr_in_flight;
  uint64_t rng_state;
  bool drained; /* no more requests to start */
  struct results results;
};

/* Set before the threads start. */
static unsigned nr_connections, depth;
static double seconds = 5;
static uint64_t nr_ops, seed;
static int verify, json;
static const char *corpus;
static uint64_t nr_corpus_pages, nr_blocks;
static const struct workload *workload;
static uint64_t start_ns, stop_ns;
static bool ops_limited;

/* Shared.  A generation is its claimant's. */
static uint32_t *generations;
static _Atomic uint8_t *claims;
static _Atomic uint64_t cursor;
static _Atomic int64_t nr_left; /* requests to start, if ops_limited */
static atomic_bool error_told;

static struct connection connections[MAX_CONNECTIONS];

static uint64_t
mix (uint64_t z)
{
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static uint64_t
rng (struct connection *connection)
{
  return mix (connection->rng_state += 0x9e3779b97f4a7c15);
}

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
             r->is_read ? "read" : "write", workload->blocks, r->block, what);
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

/*--- Latency. ---*/

static unsigned
bucket_of (uint64_t ns)
{
  unsigned shift;

  if (ns < 1 << BUCKET_BITS)
    return ns;
  shift = 63 - __builtin_clzll (ns) - BUCKET_BITS;
  return ((shift + 1) << BUCKET_BITS) + (ns >> shift) - (1 << BUCKET_BITS);
}

/* The middle of a bucket. */
static double
bucket_ns (unsigned bucket)
{
  unsigned shift = bucket >> BUCKET_BITS;
  uint64_t low = bucket & ((1 << BUCKET_BITS) - 1);

  if (shift == 0)
    return low;
  return ((low + (1 << BUCKET_BITS)) + 0.5) * ((uint64_t) 1 << (shift - 1));
}

static double
percentile_us (const uint64_t *buckets, uint64_t nr, double fraction)
{
  uint64_t left = nr * fraction;

  for (unsigned i = 0; i < NR_BUCKETS; ++i) {
    if (left < buckets[i])
      return bucket_ns (i) / 1000;
    left -= buckets[i];
  }
  return 0;
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
      workload->sequential
        ? atomic_fetch_add_explicit (&cursor, 1, memory_order_relaxed)
        : rng (connection);

    block = unit % nr_units * workload->blocks;
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
  const uint64_t ns = now_ns () - r->start_ns;

  results->buckets[bucket_of (ns)]++;
  results->nr_done++;
  if (ns > results->max_ns)
    results->max_ns = ns;

  if (*error != 0) {
    results->nr_errors++;
    tell_first (r, strerror (*error));
  }
  else if (r->is_read && verify)
    check_read (r);
  if (!r->is_read)
    finish_write (r, *error);

  atomic_store_explicit (&claims[r->block], 0, memory_order_release);
  r->next_free = connection->free;
  connection->free = r;
  connection->nr_in_flight--;
  return 1; /* retire the command */
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
  r->is_read = workload->read_percent == 100 ||
               (workload->read_percent > 0 &&
                rng (connection) % 100 < workload->read_percent);
  r->start_ns = now_ns ();
  if (r->is_read)
    cookie = nbd_aio_pread (connection->nbd, r->buffer, bytes,
                            r->block * BLOCK_BYTES, done, 0);
  else
    cookie = nbd_aio_pwrite (connection->nbd, begin_write (r), bytes,
                             r->block * BLOCK_BYTES, done, 0);
  if (cookie == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
}

static bool
may_start (struct connection *connection)
{
  if (connection->drained)
    return false;
  if (ops_limited)
    connection->drained = atomic_fetch_sub (&nr_left, 1) <= 0;
  else
    connection->drained = now_ns () >= stop_ns;
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
    if (connection->nr_in_flight == 0)
      return NULL;
    if (nbd_poll (connection->nbd, -1) == -1)
      errx (EXIT_FAILURE, "%s", nbd_get_error ());
  }
}

/*--- A workload. ---*/

static void
print_results (double elapsed)
{
  static struct results sum;
  double mib_s;

  memset (&sum, 0, sizeof sum);
  for (unsigned c = 0; c < nr_connections; ++c) {
    const struct results *r = &connections[c].results;

    sum.nr_done += r->nr_done;
    sum.nr_errors += r->nr_errors;
    sum.nr_wrong += r->nr_wrong;
    if (sum.max_ns < r->max_ns)
      sum.max_ns = r->max_ns;
    for (unsigned i = 0; i < NR_BUCKETS; ++i)
      sum.buckets[i] += r->buckets[i];
  }
  mib_s = sum.nr_done / elapsed * workload->blocks * BLOCK_BYTES / 1048576;

  printf (json
            ? "{\"workload\": \"%s\", \"ops\": %" PRIu64 ", \"ops_s\": %.0f, "
              "\"mib_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
              "\"p999_us\": %.1f, \"max_us\": %.1f, \"errors\": %" PRIu64
              ", \"wrong\": %" PRIu64 "}\n"
            : "%-11s %9" PRIu64 " ops %8.0f ops/s %7.1f MiB/s  us: p50 %.1f "
              "p99 %.1f p99.9 %.1f max %.1f  errors %" PRIu64 " wrong %" PRIu64
              "\n",
          workload->name, sum.nr_done, sum.nr_done / elapsed, mib_s,
          percentile_us (sum.buckets, sum.nr_done, 0.5),
          percentile_us (sum.buckets, sum.nr_done, 0.99),
          percentile_us (sum.buckets, sum.nr_done, 0.999), sum.max_ns / 1000.0,
          sum.nr_errors, sum.nr_wrong);
  fflush (stdout);
}

static bool
run_workload (const struct workload *w)
{
  bool good = true;

  workload = w;
  if (nr_blocks / w->blocks < 2 * nr_connections * depth)
    errx (2, "%s: the disk is too small for so many requests in flight",
          w->name);
  cursor = 0;
  start_ns = now_ns ();
  stop_ns = start_ns + seconds * 1e9;
  ops_limited = nr_ops > 0 || w == &workloads[0];
  nr_left = w == &workloads[0] ? nr_blocks : nr_ops;

  for (unsigned i = 0; i < nr_connections; ++i) {
    struct connection *c = &connections[i];

    c->rng_state = mix (seed * 1000 + i + (w - workloads) * 100);
    c->drained = false;
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
        "--workload=%s: not one of fill, randread, randwrite, mixed, "
        "seqread256, seqwrite256",
        name);
}

static void
usage (void)
{
  fprintf (stderr,
           "usage: nbd-load [--workload LIST] [--connections C] "
           "[--depth D]\n"
           "    [--seconds S | --ops N] [--size MIB] [--seed N] [--verify] "
           "[--state FILE]\n    [--json] --corpus FILE URI\n");
  exit (2);
}

int
main (int argc, char *argv[])
{
  enum { CONNECTIONS, DEPTH, OPS, SIZE, SEED, NR_NUMBERS };
  enum { CORPUS, WORKLOAD, STATE, NR_STRINGS };
  enum { FLAG, SECONDS, NUMBER, STRING = NUMBER + NR_NUMBERS };
  static const struct option options[] = {
    { "corpus", required_argument, NULL, STRING + CORPUS },
    { "workload", required_argument, NULL, STRING + WORKLOAD },
    { "connections", required_argument, NULL, NUMBER + CONNECTIONS },
    { "depth", required_argument, NULL, NUMBER + DEPTH },
    { "seconds", required_argument, NULL, SECONDS },
    { "ops", required_argument, NULL, NUMBER + OPS },
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
