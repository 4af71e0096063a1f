/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests and their completion.
 *
 *   schedule: try_start, claim_unit  --> start_request --> libnbd, server
 *                                                             |
 *   schedule: release_unit           <-- complete_request <---+
 *
 * A connection is a thread's, with as many requests as there may be in flight.
 * Lean, for the client shares its processors with the server: libnbd's
 * asynchronous calls, what is within one block sent from the corpus where it
 * is mapped, no strict mode, simple replies (as the kernel's client), no
 * clearing of read buffers.
 */

#define _GNU_SOURCE

#include <err.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#include "bench-clock.h"
#include "bench-random.h"
#include "load-connection.h"
#include "load-content.h"

struct request {
  struct connection *connection;
  struct request *next_free;
  uint64_t unit; /* claimed: its first block */
  struct extent extent;
  uint64_t start_ns;
  char *buffer;
  enum kind kind;
  struct pending_write write;
};

struct connection {
  struct nbd_handle *nbd;
  pthread_t thread;
  struct request requests[MAX_DEPTH];
  struct request *free;
  unsigned nr_in_flight;
  struct turn turn;
  struct results results; /* of this workload */
};

/* Set before the threads start. */
static const struct load *load;
static const struct workload *workload;

static atomic_bool error_told;

static struct connection connections[MAX_CONNECTIONS];

static uint64_t
request_bytes (const struct request *r)
{
  return (uint64_t) r->extent.nr_sectors * SECTOR_BYTES;
}

static uint64_t
request_offset (const struct request *r)
{
  return r->extent.sector * SECTOR_BYTES;
}

/*--- Completion. ---*/

static void
tell_first (const struct request *r, const char *what)
{
  if (!atomic_exchange (&error_told, true))
    fprintf (stderr,
             "nbd-load: %s: %s of %" PRIu64 " bytes at offset %" PRIu64
             ": %s\n",
             workload->name, kind_names[r->kind], request_bytes (r),
             request_offset (r), what);
}

static void
check_read (const struct request *r)
{
  const unsigned nr_wrong = count_wrong_blocks (r->extent, r->buffer);

  if (nr_wrong > 0) {
    r->connection->results.nr_wrong += nr_wrong;
    tell_first (r, "WRONG DATA");
  }
}

/* libnbd calls this when the reply is in. */
static int
complete_request (void *opaque, int *error)
{
  struct request *r = opaque;
  struct connection *connection = r->connection;
  struct results *results = &connection->results;

  latency_add (&results->latency[r->kind], now_ns () - r->start_ns);
  results->bytes += request_bytes (r);
  if (*error != 0) {
    results->nr_errors++;
    tell_first (r, strerror (*error));
  }
  else if (r->kind == READ && load->verify)
    check_read (r);
  if (r->kind == WRITE)
    finish_write (&r->write, r->extent, *error);
  else if (r->kind == TRIM)
    finish_trim (r->extent, *error);

  release_unit (r->unit);
  r->next_free = connection->free;
  connection->free = r;
  connection->nr_in_flight--;
  return 1; /* retire the command */
}

/*--- Start. ---*/

static enum kind
choose_kind (struct turn *turn)
{
  const unsigned reads = workload->read_percent;
  const unsigned trims = workload->trim_percent;
  unsigned percent = 0;

  if (reads % 100 > 0 || trims % 100 > 0)
    percent = rng (&turn->rng_state) % 100;
  return percent < reads ? READ : percent < reads + trims ? TRIM : WRITE;
}

/* Of the unit and kind of this request. */
static struct extent
choose_extent (const struct request *r, struct turn *turn)
{
  struct extent extent = {
    .sector = r->unit * BLOCK_SECTORS,
    .nr_sectors = workload->unit_blocks * BLOCK_SECTORS,
  };

  if (workload->cover == PART) {
    const uint64_t random = rng (&turn->rng_state);

    extent.nr_sectors = 1 + random % (BLOCK_SECTORS - 1);
    extent.sector += (random >> 32) % (BLOCK_SECTORS + 1 - extent.nr_sectors);
  }
  else if (workload->cover == SINGLE_READS && r->kind == READ) {
    extent.nr_sectors = BLOCK_SECTORS;
    extent.sector +=
      rng (&turn->rng_state) % workload->unit_blocks * BLOCK_SECTORS;
  }
  return extent;
}

static int64_t
send_request (struct request *r)
{
  struct nbd_handle *nbd = r->connection->nbd;
  const nbd_completion_callback done = {
    .callback = complete_request,
    .user_data = r,
  };
  const uint64_t bytes = request_bytes (r), offset = request_offset (r);

  switch (r->kind) {
  case READ:
    return nbd_aio_pread (nbd, r->buffer, bytes, offset, done, 0);
  case WRITE:
    return nbd_aio_pwrite (nbd, begin_write (&r->write, r->extent, r->buffer),
                           bytes, offset, done, 0);
  default:
    begin_trim (r->extent);
    return nbd_aio_trim (nbd, bytes, offset, done, 0);
  }
}

static void
start_request (struct connection *connection, uint64_t start_ns)
{
  struct request *r = connection->free;
  struct turn *turn = &connection->turn;

  connection->free = r->next_free;
  connection->nr_in_flight++;
  r->unit = claim_unit (turn);
  r->kind = choose_kind (turn);
  r->extent = choose_extent (r, turn);
  r->start_ns = start_ns;
  if (send_request (r) == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
}

/* libnbd is never asked to read before there is something: it would wait for
 * the rest of that reply, and send nothing meanwhile.
 */
static void *
run_connection (void *opaque)
{
  struct connection *connection = opaque;
  struct turn *turn = &connection->turn;
  uint64_t start_ns;

  for (;;) {
    while (connection->free && (start_ns = try_start (turn)) != 0)
      start_request (connection, start_ns);
    if (connection->nr_in_flight == 0 && turn->drained)
      return NULL;
    if (nbd_poll (connection->nbd, load->rate ? 1 : -1) == -1)
      errx (EXIT_FAILURE, "%s", nbd_get_error ());
  }
}

void
run_connections (const struct workload *w, struct results *sum)
{
  workload = w;
  for (unsigned i = 0; i < load->nr_connections; ++i) {
    struct connection *c = &connections[i];

    begin_turn (&c->turn, i);
    memset (&c->results, 0, sizeof c->results);
    if (pthread_create (&c->thread, NULL, run_connection, c) != 0)
      errx (EXIT_FAILURE, "pthread_create");
  }
  for (unsigned i = 0; i < load->nr_connections; ++i) {
    pthread_join (connections[i].thread, NULL);
    add_results (sum, &connections[i].results);
  }
}

/*--- Open and close. ---*/

static void
open_connection (struct connection *connection, const char *uri)
{
  const size_t buffer_bytes = MAX_UNIT_BLOCKS * BLOCK_BYTES;
  struct nbd_handle *nbd = nbd_create ();
  char *buffers = aligned_alloc (BLOCK_BYTES, load->depth * buffer_bytes);

  if (buffers == NULL)
    err (EXIT_FAILURE, "aligned_alloc");
  if (nbd == NULL || nbd_set_uri_allow_local_file (nbd, true) == -1 ||
      nbd_set_request_structured_replies (nbd, false) == -1 ||
      nbd_set_pread_initialize (nbd, false) == -1 ||
      nbd_set_strict_mode (nbd, 0) == -1 || nbd_connect_uri (nbd, uri) == -1)
    errx (EXIT_FAILURE, "%s: %s", uri, nbd_get_error ());
  connection->nbd = nbd;
  for (unsigned i = 0; i < load->depth; ++i) {
    struct request *r = &connection->requests[i];

    r->connection = connection;
    r->buffer = buffers + i * buffer_bytes;
    r->next_free = connection->free;
    connection->free = r;
  }
}

void
open_connections (const struct load *of_all, const char *uri)
{
  load = of_all;
  for (unsigned i = 0; i < load->nr_connections; ++i)
    open_connection (&connections[i], uri);
}

uint64_t
disk_bytes (void)
{
  const int64_t bytes = nbd_get_size (connections[0].nbd);

  if (bytes == -1)
    errx (EXIT_FAILURE, "%s", nbd_get_error ());
  return bytes;
}

void
close_connections (void)
{
  for (unsigned i = 0; i < load->nr_connections; ++i) {
    nbd_shutdown (connections[i].nbd, 0);
    nbd_close (connections[i].nbd);
  }
}
