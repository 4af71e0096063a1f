/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Load for bench/scale.sh: blocks at the start of a disk or spread evenly
 * over all of it, more of them than the corpus has pages, and requests that
 * go over a huge disk in one sweep.
 *
 *   scale-load [options] --corpus FILE URI
 *
 *     --workload LIST   joined by commas; done in turn, a JSON object each:
 *                         fill      write each block once
 *                         read      blocks at random
 *                         write     blocks at random
 *                         trimhalf  a random half of the blocks
 *                         extents   list those of the whole disk
 *                         trimall   trim the whole disk
 *     --blocks N        to use                [as many as the corpus has]
 *     --spread          evenly over the disk, in place of from its start
 *     --connections C, --depth D              [2, 16]
 *     --seconds S | --ops N   how long read and write go on    [2 s]
 *     --seed N          of random blocks, and of the half      [1]
 *     --verify          compare all that is read with what was written
 *     --state FILE      keep there what was written, for a later run
 *     --server-pid PID  tell its processor time as well
 *
 * extents and trimall ask for as much at once as NBD's 32 bits allow (4 GiB
 * less a block), one request at a time.
 *
 * Content: scale-content.h.
 *
 * Never two requests in flight for one block: of all S requests in flight,
 * the one in slot s uses the blocks s, s + S, s + 2S ... only.
 *
 * Exit status: 0; 1 on errors of the server or wrong data (ENOSPC is counted
 * and is none: the block keeps what it held); 2 on wrong usage.
 * Link with -lnbd.
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
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "bench-clock.h"
#include "bench-corpus.h"
#include "bench-options.h"
#include "bench-random.h"
#include "scale-content.h"

#define MAX_CONNECTIONS 64
#define MAX_DEPTH 256
#define MAX_ASKED 16 /* workloads */
/* The most that a request of NBD covers, in whole blocks. */
#define SWEEP_BYTES ((UINT64_C (1) << 32) - BLOCK_BYTES)

enum kind { FILL, READ, WRITE, TRIMHALF, EXTENTS, TRIMALL, NR_WORKLOADS };

static const char *const workload_names[NR_WORKLOADS] = {
  "fill", "read", "write", "trimhalf", "extents", "trimall",
};

/* Of a request in flight. */
struct slot {
  struct connection *connection;
  struct slot *next_free;
  uint64_t index;      /* among all slots */
  uint64_t next_block; /* of those that go over all once */
  uint64_t block;
  uint8_t old_generation;
  char *buffer;
};

struct connection {
  struct nbd_handle *nbd;
  pthread_t thread;
  struct slot slots[MAX_DEPTH];
  struct slot *free;
  unsigned nr_in_flight;
  uint64_t rng_state;
  uint64_t nr_done, nr_enospc, nr_errors, nr_wrong; /* by this workload */
};

/* Set before the threads start. */
static uint64_t nr_connections = 2, depth = 16, nr_ops;
static double seconds = 2;
static int verify, spread;
static clockid_t server_clock;
static bool has_server_clock;
static struct corpus corpus = { .seed = 1 };
static uint64_t nr_blocks, disk_blocks, nr_slots;
static enum kind workload;
static uint64_t stop_ns;

/* Shared.  A generation is its slot's. */
static uint8_t *generations;
static _Atomic int64_t nr_left; /* requests to start, if nr_ops is set */
static atomic_bool error_told;

static struct connection connections[MAX_CONNECTIONS];

/* 0 where no server was named. */
static uint64_t
server_ns (void)
{
  return has_server_clock ? read_clock_ns (server_clock) : 0;
}

/*--- Requests for one block. ---*/

static void
tell_first (const struct slot *slot, const char *what)
{
  if (!atomic_exchange (&error_told, true))
    fprintf (stderr, "scale-load: %s, block %" PRIu64 ": %s\n",
             workload_names[workload], slot->block, what);
}

static void
check_read (const struct slot *slot)
{
  const uint8_t generation = generations[slot->block];
  char page[BLOCK_BYTES];

  if (generation == UNKNOWN)
    return;
  content_make (&corpus, slot->block, generation, page);
  if (memcmp (slot->buffer, page, BLOCK_BYTES) != 0) {
    slot->connection->nr_wrong++;
    tell_first (slot, "WRONG DATA");
  }
}

static uint64_t
offset_of (uint64_t block)
{
  return (spread ? block * disk_blocks / nr_blocks : block) * BLOCK_BYTES;
}

static bool
goes_over_all (enum kind kind)
{
  return kind == FILL || kind == TRIMHALF;
}

/* False: this slot has nothing more to do. */
static bool
choose_block (struct slot *slot)
{
  uint64_t *rng_state = &slot->connection->rng_state;
  uint64_t nr_mine;

  if (goes_over_all (workload)) {
    do {
      slot->block = slot->next_block;
      slot->next_block += nr_slots;
    } while (workload == TRIMHALF && slot->block < nr_blocks &&
             (mix (slot->block + (corpus.seed << 40)) & 1));
    return slot->block < nr_blocks;
  }
  if (nr_ops > 0 ? atomic_fetch_sub (&nr_left, 1) <= 0 : now_ns () >= stop_ns)
    return false;
  nr_mine = (nr_blocks - slot->index + nr_slots - 1) / nr_slots;
  slot->block = slot->index + nr_slots * (rng (rng_state) % nr_mine);
  return true;
}

/* libnbd calls this when the reply is in. */
static int
complete_request (void *opaque, int *error)
{
  struct slot *slot = opaque;
  struct connection *connection = slot->connection;
  uint8_t *generation = &generations[slot->block];

  connection->nr_done++;
  if (*error == ENOSPC && workload != READ) {
    connection->nr_enospc++;
    *generation = slot->old_generation;
  }
  else if (*error != 0) {
    connection->nr_errors++;
    tell_first (slot, strerror (*error));
  }
  else if (workload == READ && verify)
    check_read (slot);
  else if (workload == TRIMHALF)
    *generation = 0;
  else if (workload != READ)
    *generation = content_next (slot->old_generation);

  slot->next_free = connection->free;
  connection->free = slot;
  connection->nr_in_flight--;
  return 1; /* retire the command */
}

static void
start_request (struct slot *slot)
{
  struct nbd_handle *nbd = slot->connection->nbd;
  const nbd_completion_callback done = {
    .callback = complete_request,
    .user_data = slot,
  };
  const uint64_t offset = offset_of (slot->block);
  uint8_t *generation = &generations[slot->block];
  int64_t cookie;

  slot->connection->nr_in_flight++;
  slot->old_generation = *generation;
  if (workload == READ)
    cookie = nbd_aio_pread (nbd, slot->buffer, BLOCK_BYTES, offset, done, 0);
  else if (workload == TRIMHALF) {
    *generation = UNKNOWN;
    cookie = nbd_aio_trim (nbd, BLOCK_BYTES, offset, done, 0);
  }
  else {
    *generation = UNKNOWN;
    content_make (&corpus, slot->block, content_next (slot->old_generation),
                  slot->buffer);
    cookie = nbd_aio_pwrite (nbd, slot->buffer, BLOCK_BYTES, offset, done, 0);
  }
  if (cookie == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
}

static void *
run_connection (void *opaque)
{
  struct connection *connection = opaque;
  struct slot *slot;

  for (;;) {
    while ((slot = connection->free) != NULL) {
      connection->free = slot->next_free;
      if (choose_block (slot))
        start_request (slot);
    }
    if (connection->nr_in_flight == 0)
      return NULL;
    if (nbd_poll (connection->nbd, -1) == -1)
      errx (EXIT_FAILURE, "%s", nbd_get_error ());
  }
}

static void
reset_connection (struct connection *connection)
{
  connection->nr_done = connection->nr_enospc = 0;
  connection->nr_errors = connection->nr_wrong = 0;
  connection->free = NULL;
  for (unsigned i = depth; i-- > 0;) {
    struct slot *slot = &connection->slots[i];

    slot->next_block = slot->index;
    slot->next_free = connection->free;
    connection->free = slot;
  }
}

static bool
run_blocks (void)
{
  uint64_t nr_done = 0, nr_enospc = 0, nr_errors = 0, nr_wrong = 0;
  const uint64_t server_start_ns = server_ns (), start_ns = now_ns ();
  double elapsed;

  stop_ns = start_ns + seconds * 1e9;
  nr_left = nr_ops;
  for (unsigned i = 0; i < nr_connections; ++i) {
    struct connection *c = &connections[i];

    reset_connection (c);
    c->rng_state = mix (corpus.seed * 1000 + i + workload * 100);
    if (pthread_create (&c->thread, NULL, run_connection, c) != 0)
      errx (EXIT_FAILURE, "pthread_create");
  }
  for (unsigned i = 0; i < nr_connections; ++i) {
    const struct connection *c = &connections[i];

    pthread_join (c->thread, NULL);
    nr_done += c->nr_done;
    nr_enospc += c->nr_enospc;
    nr_errors += c->nr_errors;
    nr_wrong += c->nr_wrong;
  }
  elapsed = (now_ns () - start_ns) / 1e9;
  printf ("{\"workload\": \"%s\", \"ops\": %" PRIu64 ", \"seconds\": %.3f"
          ", \"ops_s\": %.0f",
          workload_names[workload], nr_done, elapsed, nr_done / elapsed);
  if (has_server_clock && nr_done > 0)
    printf (", \"server_cpu_us\": %.3f",
            (server_ns () - server_start_ns) / 1e3 / nr_done);
  printf (", \"enospc\": %" PRIu64 ", \"errors\": %" PRIu64
          ", \"wrong\": %" PRIu64 "}\n",
          nr_enospc, nr_errors, nr_wrong);
  return nr_errors == 0 && nr_wrong == 0;
}

/*--- Sweeps over the whole disk. ---*/

struct sweep {
  uint64_t nr_requests, nr_extents, allocated_bytes;
  uint64_t offset;  /* done up to here */
  uint64_t most_ns; /* that a request took */
};

static int
add_extents (void *opaque, const char *context, uint64_t offset,
             uint32_t *entries, size_t nr_entries, int *error)
{
  struct sweep *sweep = opaque;

  (void) context;
  (void) error;
  for (size_t i = 0; i + 1 < nr_entries; i += 2) {
    offset += entries[i];
    sweep->nr_extents++;
    if (!(entries[i + 1] & LIBNBD_STATE_HOLE))
      sweep->allocated_bytes += entries[i];
  }
  sweep->offset = offset;
  return 0;
}

static int
sweep_once (struct nbd_handle *nbd, struct sweep *sweep, uint64_t bytes)
{
  const nbd_extent_callback add = {
    .callback = add_extents,
    .user_data = sweep,
  };

  if (workload == EXTENTS)
    return nbd_block_status (nbd, bytes, sweep->offset, add, 0);
  if (nbd_trim (nbd, bytes, sweep->offset, 0) == -1)
    return -1;
  sweep->offset += bytes;
  return 0;
}

static bool
run_sweep (struct nbd_handle *nbd)
{
  const uint64_t disk_bytes = disk_blocks * BLOCK_BYTES;
  const uint64_t server_start_ns = server_ns (), start_ns = now_ns ();
  struct sweep sweep = { 0 };
  uint64_t now = start_ns;

  while (sweep.offset < disk_bytes) {
    const uint64_t left = disk_bytes - sweep.offset, then = now;
    const uint64_t before = sweep.offset;
    const uint64_t bytes = left < SWEEP_BYTES ? left : SWEEP_BYTES;

    if (sweep_once (nbd, &sweep, bytes) == -1)
      errx (EXIT_FAILURE, "%s", nbd_get_error ());
    if (sweep.offset <= before)
      errx (EXIT_FAILURE, "extents at %" PRIu64 ": none were told", before);
    sweep.nr_requests++;
    now = now_ns ();
    if (now - then > sweep.most_ns)
      sweep.most_ns = now - then;
  }
  printf ("{\"workload\": \"%s\", \"ops\": %" PRIu64 ", \"seconds\": %.6f"
          ", \"max_us\": %.1f",
          workload_names[workload], sweep.nr_requests, (now - start_ns) / 1e9,
          sweep.most_ns / 1e3);
  if (has_server_clock)
    printf (", \"server_cpu_all_us\": %.1f",
            (server_ns () - server_start_ns) / 1e3);
  if (workload == EXTENTS)
    printf (", \"extents\": %" PRIu64 ", \"allocated_blocks\": %" PRIu64,
            sweep.nr_extents, sweep.allocated_bytes / BLOCK_BYTES);
  puts ("}");
  if (workload == TRIMALL)
    memset (generations, 0, nr_blocks);
  return true;
}

/*--- Start. ---*/

/* path: NULL for a state that dies with us. */
static void
map_generations (const char *path)
{
  int fd = -1;

  if (path) {
    fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd == -1 || ftruncate (fd, nr_blocks) == -1)
      err (EXIT_FAILURE, "%s", path);
  }
  generations = mmap (NULL, nr_blocks, PROT_READ | PROT_WRITE,
                      path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
  if (generations == MAP_FAILED)
    err (EXIT_FAILURE, "%s", path ? path : "generations");
  if (fd != -1)
    close (fd);
}

/* Simple replies, as the kernel's client has, but where extents are asked
 * for.
 */
static struct nbd_handle *
connect_nbd (const char *uri, bool for_extents)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL ||
      nbd_set_request_structured_replies (nbd, for_extents) == -1 ||
      (for_extents &&
       nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1) ||
      nbd_set_pread_initialize (nbd, false) == -1 ||
      nbd_set_strict_mode (nbd, 0) == -1 || nbd_connect_uri (nbd, uri) == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
  return nbd;
}

static void
open_connection (struct connection *connection, unsigned number,
                 const char *uri)
{
  char *buffers = aligned_alloc (BLOCK_BYTES, depth * BLOCK_BYTES);

  if (buffers == NULL)
    err (EXIT_FAILURE, "aligned_alloc");
  connection->nbd = connect_nbd (uri, false);
  for (unsigned i = 0; i < depth; ++i) {
    struct slot *slot = &connection->slots[i];

    slot->connection = connection;
    slot->index = number * depth + i;
    slot->buffer = buffers + (size_t) i * BLOCK_BYTES;
  }
}

static enum kind
find_workload (const char *name)
{
  for (unsigned i = 0; i < NR_WORKLOADS; ++i)
    if (strcmp (workload_names[i], name) == 0)
      return i;
  errx (2,
        "--workload=%s: not one of fill, read, write, trimhalf, extents, "
        "trimall",
        name);
}

static void
usage (void)
{
  fprintf (stderr,
           "usage: scale-load [--workload LIST] [--blocks N] [--spread]\n"
           "    [--connections C] [--depth D] [--seconds S | --ops N] "
           "[--seed N]\n    [--verify] [--state FILE] [--server-pid PID] "
           "--corpus FILE URI\n");
  exit (2);
}

static void
name_server (const char *pid)
{
  const pid_t server = parse_number ("server-pid", pid, 1, INT32_MAX);
  const int r = clock_getcpuclockid (server, &server_clock);

  if (r != 0)
    errx (2, "--server-pid=%s: %s", pid, strerror (r));
  has_server_clock = true;
}

/* What is to be done, and with what. */
struct request {
  enum kind asked[MAX_ASKED];
  unsigned nr_asked;
  const char *corpus, *state, *uri;
};

static void
parse_workloads (char *list, struct request *request)
{
  char *name;

  request->nr_asked = 0;
  while ((name = strsep (&list, ",")) != NULL)
    if (request->nr_asked < MAX_ASKED)
      request->asked[request->nr_asked++] = find_workload (name);
    else
      errx (2, "--workload: at most %d", MAX_ASKED);
}

static void
parse_options (int argc, char *argv[], struct request *request)
{
  static const struct option options[] = {
    { "workload", required_argument, NULL, 'w' },
    { "blocks", required_argument, NULL, 'b' },
    { "spread", no_argument, &spread, true },
    { "connections", required_argument, NULL, 'c' },
    { "depth", required_argument, NULL, 'd' },
    { "seconds", required_argument, NULL, 't' },
    { "ops", required_argument, NULL, 'o' },
    { "seed", required_argument, NULL, 's' },
    { "verify", no_argument, &verify, true },
    { "state", required_argument, NULL, 'f' },
    { "server-pid", required_argument, NULL, 'p' },
    { "corpus", required_argument, NULL, 'i' },
    { NULL, 0, NULL, 0 },
  };
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 0:
      break;
    case 'w':
      parse_workloads (optarg, request);
      break;
    case 'b':
      nr_blocks = parse_number ("blocks", optarg, 1, UINT32_MAX);
      break;
    case 'c':
      nr_connections = parse_number ("connections", optarg, 1, MAX_CONNECTIONS);
      break;
    case 'd':
      depth = parse_number ("depth", optarg, 1, MAX_DEPTH);
      break;
    case 't':
      seconds = parse_seconds ("seconds", optarg);
      break;
    case 'o':
      nr_ops = parse_number ("ops", optarg, 1, INT64_MAX);
      break;
    case 's':
      corpus.seed = parse_number ("seed", optarg, 0, (1 << 24) - 1);
      break;
    case 'f':
      request->state = optarg;
      break;
    case 'p':
      name_server (optarg);
      break;
    case 'i':
      request->corpus = optarg;
      break;
    default:
      usage ();
    }
  if (request->corpus == NULL || optind + 1 != argc)
    usage ();
  request->uri = argv[optind];
}

static void
learn_disk (struct nbd_handle *nbd)
{
  disk_blocks = nbd_get_size (nbd) / BLOCK_BYTES;
  nr_slots = nr_connections * depth;
  if (nr_blocks > disk_blocks)
    errx (2, "the disk has %" PRIu64 " blocks, --blocks is %" PRIu64,
          disk_blocks, nr_blocks);
  if (nr_blocks < nr_slots)
    errx (2, "%" PRIu64 " blocks are too few for %" PRIu64 " in flight",
          nr_blocks, nr_slots);
}

int
main (int argc, char *argv[])
{
  struct request request = { .asked = { READ }, .nr_asked = 1 };
  struct nbd_handle *sweeper;
  bool good = true;

  parse_options (argc, argv, &request);
  corpus.pages = map_pages (request.corpus, &corpus.nr_pages);
  if (nr_blocks == 0)
    nr_blocks = corpus.nr_pages;
  map_generations (request.state);
  sweeper = connect_nbd (request.uri, true);
  learn_disk (sweeper);
  for (unsigned i = 0; i < nr_connections; ++i)
    open_connection (&connections[i], i, request.uri);

  for (unsigned i = 0; i < request.nr_asked; ++i) {
    workload = request.asked[i];
    good &= workload == EXTENTS || workload == TRIMALL ? run_sweep (sweeper)
                                                       : run_blocks ();
    fflush (stdout);
  }
  for (unsigned i = 0; i < nr_connections; ++i) {
    nbd_shutdown (connections[i].nbd, 0);
    nbd_close (connections[i].nbd);
  }
  nbd_shutdown (sweeper, 0);
  nbd_close (sweeper);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
