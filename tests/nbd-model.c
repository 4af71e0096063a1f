/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Many connections at once against a flat array (tests/test-connections.sh).
 *
 *     nbd-model URI CONNECTIONS OPERATIONS [SEED [SECONDS]]
 *
 * The disk is cut into pieces, dealt out in turn to the connections:
 *
 *     | 0 | 1 | 2 | ... | 7 | 0 | 1 | ...
 *
 * Only its connection touches a piece, and has at most one request under
 * way for it, so the shadow copy says exactly what a read must return.  The
 * pieces of the first rounds are smaller than a block and unaligned: then
 * several connections change parts of one block at the same time, and a
 * read-modify-write that loses an update is seen.  Those of the last round
 * hold many whole blocks.
 *
 * After each round another connection compares the whole disk with the
 * shadow and checks that what the server calls zero is zero.  With SECONDS the
 * rounds are done again until they have passed.
 *
 * Exit status 0, or 1 and a sentence that names the seed.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#define MAX_CONNECTIONS 64
#define NR_IN_FLIGHT 8
#define MAX_REQUEST ((uint64_t) 256 * 1024)
#define COMPARE_BYTES ((uint64_t) 1024 * 1024)

static const uint64_t piece_sizes[] = { 1000, 4099, 4096, 262144 + 100 };
#define NR_ROUNDS (sizeof piece_sizes / sizeof piece_sizes[0])

static const char *uri;
static unsigned nr_connections;
static uint64_t nr_operations; /* a connection and round */
static uint64_t seed;
static uint64_t size_bytes;
static uint8_t *shadow;

enum operation { OP_READ, OP_WRITE, OP_TRIM, OP_ZERO, OP_FLUSH, OP_CACHE };
static const char *const operation_names[] = {
  "read", "write", "trim", "zero", "flush", "cache",
};

/* One request under way. */
struct request {
  bool busy;
  enum operation operation;
  int64_t cookie;
  uint64_t piece;
  uint64_t offset, count;
  uint8_t *buf; /* MAX_REQUEST, owned */
};

struct connection {
  unsigned index;
  uint64_t piece_bytes;
  uint64_t random_state;
  struct nbd_handle *nbd;
  struct request requests[NR_IN_FLIGHT];
};

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  fprintf (stderr, "nbd-model: seed %" PRIu64 ": ", seed);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

/* splitmix64 */
static uint64_t
next_random (struct connection *conn)
{
  uint64_t z = (conn->random_state += UINT64_C (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static struct nbd_handle *
open_connection (void)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL ||
      nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_connect_uri (nbd, uri) == -1)
    die ("%s", nbd_get_error ());
  return nbd;
}

static void
close_connection (struct nbd_handle *nbd)
{
  if (nbd_shutdown (nbd, 0) == -1)
    die ("%s", nbd_get_error ());
  nbd_close (nbd);
}

/* Data of each kind that the store treats differently. */
static void
fill_data (struct connection *conn, uint8_t *buf, uint64_t count)
{
  const uint64_t word = next_random (conn);
  const uint64_t kind = next_random (conn) % 5;

  for (uint64_t i = 0; i < count; i++) {
    switch (kind) {
    case 0: /* one byte, zero now and then */
      buf[i] = word % 4 == 0 ? 0 : (uint8_t) (word >> 8);
      break;
    case 1: /* 32-bit pattern */
      buf[i] = (uint8_t) (word >> (8 * (i % 4)));
      break;
    case 2: /* 64-bit pattern */
      buf[i] = (uint8_t) (word >> (8 * (i % 8)));
      break;
    case 3: /* compresses */
      buf[i] =
        i % 16 < 12 ? (uint8_t) (i / 16 % 7) : (uint8_t) next_random (conn);
      break;
    default: /* does not */
      buf[i] = (uint8_t) next_random (conn);
    }
  }
}

/* Choose a piece of this connection that has no request under way: mostly
 * one of the first few, where everybody is.
 */
static uint64_t
choose_piece (struct connection *conn)
{
  const uint64_t nr_pieces =
    (size_bytes + conn->piece_bytes - 1) / conn->piece_bytes;
  const uint64_t nr_own =
    (nr_pieces - conn->index + nr_connections - 1) / nr_connections;
  uint64_t piece;
  bool taken;

  do {
    const bool crowded = next_random (conn) % 4 != 0;

    piece = conn->index +
            nr_connections *
              (next_random (conn) % (crowded ? 2 * NR_IN_FLIGHT : nr_own));
    taken = false;
    for (unsigned i = 0; i < NR_IN_FLIGHT; i++)
      taken |= conn->requests[i].busy && conn->requests[i].piece == piece;
  } while (taken);
  return piece;
}

/* A range within the request's piece, now and then all of it. */
static void
choose_range (struct connection *conn, struct request *req)
{
  const uint64_t start = req->piece * conn->piece_bytes;
  const uint64_t left = size_bytes - start;
  const uint64_t bytes = left < conn->piece_bytes ? left : conn->piece_bytes;

  req->offset = 0;
  req->count = bytes;
  if (next_random (conn) % 4 != 0) {
    req->offset = next_random (conn) % bytes;
    req->count = 1 + next_random (conn) % (bytes - req->offset);
  }
  if (req->count > MAX_REQUEST)
    req->count = MAX_REQUEST;
  req->offset += start;
}

static enum operation
choose_operation (struct connection *conn)
{
  const uint64_t percent = next_random (conn) % 100;

  return percent < 40   ? OP_READ
         : percent < 80 ? OP_WRITE
         : percent < 88 ? OP_TRIM
         : percent < 96 ? OP_ZERO
         : percent < 98 ? OP_FLUSH
                        : OP_CACHE;
}

/* Send the request, and let the shadow have what it will do: nobody looks
 * at the piece until the reply has come.
 */
static void
start_request (struct connection *conn, struct request *req)
{
  struct nbd_handle *nbd = conn->nbd;
  const uint32_t fua = next_random (conn) % 8 == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
  const uint32_t no_hole =
    next_random (conn) % 2 == 0 ? LIBNBD_CMD_FLAG_NO_HOLE : 0;

  req->piece = choose_piece (conn);
  choose_range (conn, req);
  req->operation = choose_operation (conn);
  switch (req->operation) {
  case OP_READ:
    memset (req->buf, 0xee, req->count);
    req->cookie = nbd_aio_pread (nbd, req->buf, req->count, req->offset,
                                 NBD_NULL_COMPLETION, 0);
    break;
  case OP_WRITE:
    fill_data (conn, req->buf, req->count);
    memcpy (shadow + req->offset, req->buf, req->count);
    req->cookie = nbd_aio_pwrite (nbd, req->buf, req->count, req->offset,
                                  NBD_NULL_COMPLETION, fua);
    break;
  case OP_TRIM:
    memset (shadow + req->offset, 0, req->count);
    req->cookie =
      nbd_aio_trim (nbd, req->count, req->offset, NBD_NULL_COMPLETION, fua);
    break;
  case OP_ZERO:
    memset (shadow + req->offset, 0, req->count);
    req->cookie = nbd_aio_zero (nbd, req->count, req->offset,
                                NBD_NULL_COMPLETION, fua | no_hole);
    break;
  case OP_FLUSH:
    req->cookie = nbd_aio_flush (nbd, NBD_NULL_COMPLETION, 0);
    break;
  case OP_CACHE:
    req->cookie =
      nbd_aio_cache (nbd, req->count, req->offset, NBD_NULL_COMPLETION, 0);
    break;
  }
  if (req->cookie == -1)
    die ("%s: %s", operation_names[req->operation], nbd_get_error ());
  req->busy = true;
}

/* Compare what was read from `offset` on with the shadow. */
static void
compare (const char *who, const uint8_t *buf, uint64_t count, uint64_t offset)
{
  if (memcmp (buf, shadow + offset, count) == 0)
    return;
  for (uint64_t i = 0; i < count; i++)
    if (buf[i] != shadow[offset + i])
      die ("%s: read of %" PRIu64 " bytes at %" PRIu64 ": byte %" PRIu64
           " is 0x%02x and should be 0x%02x",
           who, count, offset, offset + i, buf[i], shadow[offset + i]);
}

/* Take the replies that have come. */
static unsigned
retire_requests (struct connection *conn)
{
  char who[64];
  unsigned nr_retired = 0;

  snprintf (who, sizeof who, "connection %u, pieces of %" PRIu64 " bytes",
            conn->index, conn->piece_bytes);
  for (unsigned i = 0; i < NR_IN_FLIGHT; i++) {
    struct request *req = &conn->requests[i];

    if (!req->busy)
      continue;
    switch (nbd_aio_command_completed (conn->nbd, req->cookie)) {
    case 0:
      continue;
    case -1:
      die ("%s: %s of %" PRIu64 " bytes at %" PRIu64 ": %s", who,
           operation_names[req->operation], req->count, req->offset,
           nbd_get_error ());
    }
    if (req->operation == OP_READ)
      compare (who, req->buf, req->count, req->offset);
    req->busy = false;
    nr_retired++;
  }
  return nr_retired;
}

static void
start_requests (struct connection *conn, uint64_t *nr_left)
{
  for (unsigned i = 0; i<NR_IN_FLIGHT && * nr_left> 0; i++)
    if (!conn->requests[i].busy) {
      start_request (conn, &conn->requests[i]);
      (*nr_left)--;
    }
}

static void *
run_connection (void *opaque)
{
  struct connection *conn = opaque;
  uint64_t nr_left = nr_operations;
  uint64_t nr_open = nr_operations;

  conn->nbd = open_connection ();
  for (unsigned i = 0; i < NR_IN_FLIGHT; i++) {
    conn->requests[i].buf = malloc (MAX_REQUEST);
    if (conn->requests[i].buf == NULL)
      die ("out of memory");
  }
  while (nr_open > 0) {
    start_requests (conn, &nr_left);
    if (nbd_poll (conn->nbd, -1) == -1)
      die ("connection %u: %s", conn->index, nbd_get_error ());
    nr_open -= retire_requests (conn);
  }
  for (unsigned i = 0; i < NR_IN_FLIGHT; i++)
    free (conn->requests[i].buf);
  close_connection (conn->nbd);
  return NULL;
}

static bool
all_zero (const uint8_t *buf, uint64_t count)
{
  return count == 0 || (buf[0] == 0 && memcmp (buf, buf + 1, count - 1) == 0);
}

struct extents_walk {
  uint64_t offset;
};

static int
check_extents (void *opaque, const char *context, uint64_t offset,
               uint32_t *entries, size_t nr_entries, int *error)
{
  struct extents_walk *walk = opaque;

  (void) context;
  (void) error;
  for (size_t i = 0; i + 1 < nr_entries; i += 2) {
    const uint64_t left = size_bytes - offset;
    const uint64_t count = entries[i] < left ? entries[i] : left;

    if (entries[i + 1] & LIBNBD_STATE_ZERO &&
        !all_zero (shadow + offset, count))
      die ("%" PRIu64 " bytes at %" PRIu64 " are said to be zero, "
           "and are not",
           count, offset);
    offset += count;
  }
  walk->offset = offset;
  return 0;
}

/* Through a connection of its own, with none of the others there. */
static void
check_disk (void)
{
  struct nbd_handle *nbd = open_connection ();
  struct extents_walk walk = { .offset = 0 };
  uint8_t *buf = malloc (COMPARE_BYTES);

  if (buf == NULL)
    die ("out of memory");
  for (uint64_t offset = 0; offset < size_bytes; offset += COMPARE_BYTES) {
    const uint64_t left = size_bytes - offset;
    const uint64_t count = left < COMPARE_BYTES ? left : COMPARE_BYTES;

    if (nbd_pread (nbd, buf, count, offset, 0) == -1)
      die ("%s", nbd_get_error ());
    compare ("the whole disk", buf, count, offset);
  }
  free (buf);

  while (walk.offset < size_bytes) {
    const uint64_t before = walk.offset;
    const nbd_extent_callback callback = {
      .callback = check_extents,
      .user_data = &walk,
    };

    if (nbd_block_status (nbd, size_bytes - before, before, callback, 0) == -1)
      die ("%s", nbd_get_error ());
    if (walk.offset == before)
      die ("block status at %" PRIu64 " says nothing", before);
  }
  close_connection (nbd);
}

static void
run_round (unsigned round)
{
  static struct connection conns[MAX_CONNECTIONS];
  pthread_t threads[MAX_CONNECTIONS];

  memset (conns, 0, sizeof conns);
  for (unsigned i = 0; i < nr_connections; i++) {
    conns[i].index = i;
    conns[i].piece_bytes = piece_sizes[round % NR_ROUNDS];
    conns[i].random_state = seed + (round * MAX_CONNECTIONS + i) * 1000003;
    if (pthread_create (&threads[i], NULL, run_connection, &conns[i]) != 0)
      die ("cannot create a thread");
  }
  for (unsigned i = 0; i < nr_connections; i++)
    pthread_join (threads[i], NULL);
  check_disk ();
}

static void
open_shadow (void)
{
  struct nbd_handle *nbd = open_connection ();
  const int64_t size = nbd_get_size (nbd);

  if (size == -1)
    die ("%s", nbd_get_error ());
  size_bytes = (uint64_t) size;
  shadow = calloc (1, size_bytes);
  if (shadow == NULL)
    die ("out of memory");
  close_connection (nbd);
}

int
main (int argc, char *argv[])
{
  const time_t start = time (NULL);
  unsigned round = 0;
  long seconds;

  if (argc < 4 || argc > 6) {
    fprintf (stderr, "usage: nbd-model URI CONNECTIONS OPERATIONS [SEED "
                     "[SECONDS]]\n");
    return EXIT_FAILURE;
  }
  uri = argv[1];
  nr_connections = (unsigned) strtoul (argv[2], NULL, 10);
  nr_operations = strtoull (argv[3], NULL, 10);
  seed = argc > 4 ? strtoull (argv[4], NULL, 10) : (uint64_t) start;
  seconds = argc > 5 ? strtol (argv[5], NULL, 10) : 0;
  if (nr_connections < 1 || nr_connections > MAX_CONNECTIONS)
    die ("1 to %d connections", MAX_CONNECTIONS);

  open_shadow ();
  /* Each connection has pieces enough to choose from (choose_piece). */
  if (size_bytes / piece_sizes[NR_ROUNDS - 1] / nr_connections <
      2 * NR_IN_FLIGHT)
    die ("the disk is too small for %u connections", nr_connections);
  check_disk ();
  while (round % NR_ROUNDS != 0 || round == 0 || time (NULL) < start + seconds)
    run_round (round++);
  printf ("seed %" PRIu64 ": %u rounds of %u connections with %" PRIu64
          " requests each\n",
          seed, round, nr_connections, nr_operations);
  free (shadow);
  return EXIT_SUCCESS;
}
