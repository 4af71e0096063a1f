/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Clients that stall, beside one that behaves (tests/test-abuse.sh).
 *
 *     nbd-abuse WHERE CONTROL STEPS [SEED]
 *
 * A crowd of connections, each stuck in one of the states of enum abuse.  In
 * each step one of them is closed, or a new one opened and brought to where
 * it gets stuck; then a client that behaves writes a block and reads another,
 * which must be what it wrote.  Its replies have RAW_PATIENCE_SECONDS to come.
 *
 * What the stuck clients would write is all 0xee, to blocks that nobody else
 * writes: a write whose data never came must not be there at the end.
 *
 * When the steps are done, the crowd is there still: the word "crowded" on
 * standard output, and a line on standard input lets it go (the script looks
 * at the server meanwhile).  The last wait is for the server to notice.
 *
 * Exit status 0; 1 and one line, which tells the seed.
 */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd-raw.h"
#include "test-util.h"

#define BLOCK_BYTES ((uint32_t) TEST_BLOCK_BYTES)
#define NR_GOOD_BLOCKS 256
#define BAD_OFFSET ((uint64_t) NR_GOOD_BLOCKS * BLOCK_BYTES)
#define BIG_BYTES (UINT32_C (1) << 20)
#define NR_BIG_READS 16
#define NR_SMALL_READS 2000
#define CROWD 32

enum abuse {
  SAYS_NOTHING,   /* connects, and does not even read */
  HALF_HANDSHAKE, /* stops within its choice of an export */
  IDLES,          /* is ready for requests, and has none */
  HALF_REQUEST,
  HALF_DATA,           /* of a write of 1 MiB */
  READS_NOTHING,       /* of 16 replies of 1 MiB */
  READS_NOTHING_SMALL, /* of replies to as many reads as fit */
  NONSENSE,            /* a request without its magic number */
  NR_ABUSES
};

static const char *const abuse_names[NR_ABUSES] = {
  "say nothing",
  "stop within the handshake",
  "idle",
  "stop within a request",
  "stop within its data",
  "leave 16 MiB of replies unread",
  "leave small replies unread",
  "send nonsense",
};

static const char *where;
static int crowd[CROWD]; /* sockets; -1: none */
static int good;         /* the socket of the client that behaves */
static uint32_t generations[NR_GOOD_BLOCKS];
static unsigned nr_by_abuse[NR_ABUSES];
static unsigned step;

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  fprintf (stderr, "nbd-abuse: seed %" PRIu64 ", step %u: ", test_seed (),
           step);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

/* As much as the sockets take, without waiting: the server reads no more
 * once it waits for us to take a reply.
 */
static void
send_what_fits (int sock, const void *data, size_t count)
{
  if (send (sock, data, count, MSG_NOSIGNAL | MSG_DONTWAIT) <= 0)
    return;
}

static void
ask_for_much (int sock, unsigned nr, uint32_t bytes)
{
  static struct raw_request requests[NR_SMALL_READS];
  unsigned i;

  for (i = 0; i < nr; i++)
    raw_prepare (&requests[i], RAW_READ, i, 0, bytes);
  send_what_fits (sock, requests, nr * sizeof requests[0]);
}

/* A socket that is stuck as it should be, or -1. */
static int
get_stuck (enum abuse abuse, struct rng *rng)
{
  static uint8_t data[1 << 20];
  struct raw_request request;
  struct raw_choice choice;
  const int sock =
    abuse <= HALF_HANDSHAKE ? raw_connect (where) : raw_open (where);

  if (sock == -1)
    return -1;
  memset (data, 0xee, sizeof data);
  raw_choose (&choice);
  raw_prepare (&request, RAW_WRITE, 0, BAD_OFFSET, BIG_BYTES);
  switch (abuse) {
  case HALF_HANDSHAKE:
    raw_send (sock, &choice, 1 + rng_below (rng, sizeof choice - 1));
    break;
  case HALF_REQUEST:
    raw_send (sock, &request, 1 + rng_below (rng, sizeof request - 1));
    break;
  case HALF_DATA:
    raw_send (sock, &request, sizeof request);
    send_what_fits (sock, data, 1 + rng_below (rng, sizeof data - 1));
    break;
  case READS_NOTHING:
    ask_for_much (sock, NR_BIG_READS, BIG_BYTES);
    break;
  case READS_NOTHING_SMALL:
    ask_for_much (sock, NR_SMALL_READS, BLOCK_BYTES);
    break;
  case NONSENSE:
    request.magic = 0;
    raw_send (sock, &request, sizeof request);
    break;
  default:
    break;
  }
  return sock;
}

static void
fill_block (uint8_t *buf, uint32_t block, uint32_t generation)
{
  struct rng rng;

  memset (buf, 0, BLOCK_BYTES);
  if (generation == 0)
    return;
  rng_init (&rng, block, generation);
  rng_fill (&rng, buf, 64 + rng_below (&rng, BLOCK_BYTES - 64));
}

static void
behave (struct rng *rng)
{
  uint8_t data[BLOCK_BYTES], wanted[BLOCK_BYTES];
  uint32_t block = (uint32_t) rng_below (rng, NR_GOOD_BLOCKS);

  fill_block (data, block, ++generations[block]);
  if (!raw_write (good, (uint64_t) block * BLOCK_BYTES, data, BLOCK_BYTES))
    die ("a write of a client that behaves is not answered");
  block = (uint32_t) rng_below (rng, NR_GOOD_BLOCKS);
  if (!raw_read (good, (uint64_t) block * BLOCK_BYTES, data, BLOCK_BYTES))
    die ("a read of a client that behaves is not answered");
  fill_block (wanted, block, generations[block]);
  if (memcmp (data, wanted, BLOCK_BYTES) != 0)
    die ("block %" PRIu32 " is not what was written", block);
}

static void
let_go (unsigned i)
{
  close (crowd[i]);
  crowd[i] = -1;
}

static void
take_step (struct rng *rng)
{
  const unsigned i = (unsigned) rng_below (rng, CROWD);
  const enum abuse abuse = (enum abuse) rng_below (rng, NR_ABUSES);

  if (crowd[i] != -1)
    let_go (i);
  crowd[i] = get_stuck (abuse, rng);
  if (crowd[i] == -1)
    die ("a new client is not let in");
  nr_by_abuse[abuse]++;
}

/* Nothing came of the writes that were begun. */
static void
check_begun_writes (void)
{
  static uint8_t data[1 << 20];
  size_t i;

  if (!raw_read (good, BAD_OFFSET, data, sizeof data))
    die ("the last read is not answered");
  for (i = 0; i < sizeof data; i++)
    if (data[i] != 0)
      die ("half a write has been done: byte %zu is 0x%02x", i, data[i]);
}

int
main (int argc, char *argv[])
{
  struct rng rng;
  char line[16];
  unsigned i, nr_steps;

  if (argc < 4 || argc > 5) {
    fprintf (stderr, "usage: nbd-abuse WHERE CONTROL STEPS [SEED]\n");
    return 2;
  }
  test_start ("nbd-abuse");
  where = argv[1];
  nr_steps = (unsigned) atoi (argv[3]);
  if (argc > 4)
    test_set_seed (strtoull (argv[4], NULL, 10));
  rng_init (&rng, test_seed (), 0);
  for (i = 0; i < CROWD; i++)
    crowd[i] = -1;
  good = raw_open (where);
  if (good == -1)
    die ("%s: there is no server", where);
  /* Another run may have been here. */
  if (!raw_ask (good, RAW_TRIM, 0, 0, (uint32_t) BAD_OFFSET + BIG_BYTES,
                NULL) ||
      !raw_reply (good, &(uint64_t) { 0 }, &(uint32_t) { 0 }))
    die ("cannot trim");

  for (step = 0; step < nr_steps; step++) {
    take_step (&rng);
    behave (&rng);
  }
  for (i = 0; i < NR_ABUSES; i++)
    printf ("%u %s%s", nr_by_abuse[i], abuse_names[i],
            i + 1 < NR_ABUSES ? ", " : "\n");
  puts ("crowded");
  fflush (stdout);
  if (fgets (line, sizeof line, stdin) == NULL)
    die ("standard input has ended");
  for (i = 0; i < 100; i++)
    behave (&rng);
  for (i = 0; i < CROWD; i++)
    if (crowd[i] != -1)
      let_go (i);
  if (!raw_wait_for_connections (argv[2], 1))
    die ("the server keeps connections that were closed");
  for (i = 0; i < 100; i++)
    behave (&rng);
  check_begun_writes ();
  return 0;
}
