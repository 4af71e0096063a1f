/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Clients that are killed at random, and what they leave behind
 * (tests/test-kills.sh).
 *
 *     nbd-kills WHERE CONTROL KILLS [OFFSET [SEED]]
 *
 * A victim is a process that keeps many requests in flight on a connection
 * of its own.  A few of them run at a time, until each is killed, or leaves
 * in some other bad way (enum leaving).  Blocks are dealt out in turn:
 *
 *     | 0 | 1 | 2 | 3 | 0 | 1 | ...     NR_BLOCKS, from OFFSET on; after
 *                                       them those of the bystander
 *
 * A victim writes only its own, and has at most one write under way for
 * each.  In memory that it shares with us it notes of each block
 *
 *     acknowledged <= sent <= acknowledged + 1      (generations)
 *
 * `sent` before the write is sent, `acknowledged` when the reply has come.
 * When the victims have gone and the server has noticed, each block must be
 * wholly of the one or of the other generation: what was acknowledged is
 * there, and nothing is torn.  All the while a bystander writes and reads
 * blocks of its own, through a connection that must last from the first kill
 * to the last.
 *
 * Exit status 0; 1 and one line, which tells the seed.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nbd-raw.h"
#include "test-util.h"

#define BLOCK_BYTES ((uint32_t) TEST_BLOCK_BYTES)
#define NR_VICTIMS 4
#define NR_BLOCKS 512
#define NR_BYSTANDER_BLOCKS 64
#define NR_IN_FLIGHT 24
#define BIG_READ_BYTES (UINT32_C (1) << 20)
#define NR_BIG_READS 16

/* Exit status of a victim that found something wrong. */
#define VICTIM_COMPLAINS 3

enum leaving {
  KILLED,       /* by SIGKILL, wherever it is */
  KILLED_DEAF,  /* the same; it has stopped to read */
  RESET,        /* throws away what it would send */
  HALF_REQUEST, /* leaves within a request */
  HALF_DATA,    /* leaves within what is written */
  SAYS_GOODBYE, /* disconnects with requests in flight */
  NR_LEAVINGS
};

/* Shared with the victims. */
struct slot {
  _Atomic uint32_t acknowledged, sent;
};
static struct slot *slots; /* NR_BLOCKS */
static _Atomic uint32_t *nr_begun;

static const char *where, *control;
static uint64_t start_offset;
static int bystander; /* its socket */
static uint32_t bystander_generation[NR_BYSTANDER_BLOCKS];
static uint64_t nr_acknowledged, nr_open, nr_open_arrived,
  nr_by_leaving[NR_LEAVINGS];
static unsigned nr_kills_done;

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  fprintf (stderr,
           "nbd-kills: seed %" PRIu64 ", after %u kills: ", test_seed (),
           nr_kills_done);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

/* What a block holds in its generation: 0 is zeros, as at first.  Each of
 * the kinds that the store treats differently.
 */
static void
fill_block (uint8_t *buf, uint32_t block, uint32_t generation)
{
  struct rng rng;
  uint64_t word;

  memset (buf, 0, BLOCK_BYTES);
  if (generation == 0)
    return;
  rng_init (&rng, block, generation);
  word = rng_u64 (&rng);
  switch (generation % 4) {
  case 0: /* does not compress */
    rng_fill (&rng, buf, BLOCK_BYTES);
    return;
  case 1: /* one pattern */
    for (unsigned i = 0; i < BLOCK_BYTES; i += 4)
      memcpy (buf + i, &word, 4);
    return;
  default: /* compresses, to many sizes */
    rng_fill (&rng, buf, 16 + word % (BLOCK_BYTES * 3 / 4));
  }
}

static bool
is_generation (const uint8_t *data, uint32_t block, uint32_t generation)
{
  uint8_t wanted[BLOCK_BYTES];

  fill_block (wanted, block, generation);
  return memcmp (data, wanted, BLOCK_BYTES) == 0;
}

static uint64_t
offset_of (uint32_t block)
{
  return start_offset + (uint64_t) block * BLOCK_BYTES;
}

/*--- The victim. ---*/

struct victim {
  unsigned index;
  enum leaving leaving;
  unsigned nr_replies; /* after how many it leaves, if by itself */
  struct rng rng;
  int sock;
};

static void __attribute__ ((noreturn))
complain (const char *what, uint32_t block)
{
  fprintf (stderr, "nbd-kills: a victim: %s, block %" PRIu32 "\n", what, block);
  _exit (VICTIM_COMPLAINS);
}

/* The server may have gone: that is for the parent to say. */
static void
victim_asks (struct victim *victim, bool is_write, uint32_t block)
{
  uint8_t buf[BLOCK_BYTES];
  bool sent;

  if (is_write) {
    const uint32_t generation = slots[block].acknowledged + 1;

    fill_block (buf, block, generation);
    slots[block].sent = generation;
  }
  sent = raw_ask (victim->sock, is_write ? RAW_WRITE : RAW_READ,
                  block * 2 + is_write, offset_of (block), BLOCK_BYTES, buf);
  if (!sent)
    _exit (EXIT_SUCCESS);
}

/* Returns the block of the reply. */
static uint32_t
victim_hears (struct victim *victim)
{
  uint8_t data[BLOCK_BYTES];
  uint64_t handle;
  uint32_t error, block;

  if (!raw_reply (victim->sock, &handle, &error))
    _exit (EXIT_SUCCESS);
  block = (uint32_t) (handle / 2);
  if (error != 0)
    complain ("a request failed", block);
  if (handle % 2 == 1)
    slots[block].acknowledged = slots[block].sent;
  else {
    if (!raw_receive (victim->sock, data, BLOCK_BYTES))
      _exit (EXIT_SUCCESS);
    if (!is_generation (data, block, slots[block].acknowledged))
      complain ("read something else than was written", block);
  }
  return block;
}

static void __attribute__ ((noreturn)) victim_leaves (struct victim *victim)
{
  const struct linger at_once = { .l_onoff = 1 };
  struct raw_request request;
  uint8_t data[BLOCK_BYTES];
  unsigned i;

  switch (victim->leaving) {
  case KILLED_DEAF:
    for (i = 0; i < NR_BIG_READS; i++)
      raw_ask (victim->sock, RAW_READ, i, start_offset, BIG_READ_BYTES, NULL);
    for (;;)
      pause ();
  case RESET:
    setsockopt (victim->sock, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    break;
  case HALF_REQUEST:
  case HALF_DATA:
    /* It never gets as far as the block that it names. */
    memset (data, 0xee, sizeof data);
    raw_prepare (&request, RAW_WRITE, 0, offset_of (victim->index),
                 BLOCK_BYTES);
    raw_send (victim->sock, &request,
              victim->leaving == HALF_DATA
                ? sizeof request
                : 1 + rng_below (&victim->rng, sizeof request - 1));
    if (victim->leaving == HALF_DATA)
      raw_send (victim->sock, data,
                1 + rng_below (&victim->rng, BLOCK_BYTES - 1));
    break;
  default:
    raw_ask (victim->sock, RAW_DISCONNECT, 0, 0, 0, NULL);
  }
  close (victim->sock);
  _exit (EXIT_SUCCESS);
}

static void __attribute__ ((noreturn)) run_victim (struct victim *victim)
{
  bool busy[NR_BLOCKS] = { false };
  unsigned nr_in_flight = 0, nr_replies = 0;

  victim->sock = raw_open (where);
  (*nr_begun)++;
  if (victim->sock == -1)
    _exit (EXIT_SUCCESS);
  for (;;) {
    while (nr_in_flight < NR_IN_FLIGHT) {
      const uint32_t block =
        victim->index +
        NR_VICTIMS *
          (uint32_t) rng_below (&victim->rng, NR_BLOCKS / NR_VICTIMS);

      if (busy[block])
        continue;
      busy[block] = true;
      nr_in_flight++;
      victim_asks (victim, !rng_once_in (&victim->rng, 4), block);
    }
    if (nr_replies++ == victim->nr_replies && victim->leaving != KILLED)
      victim_leaves (victim);
    busy[victim_hears (victim)] = false;
    nr_in_flight--;
  }
}

/*--- The bystander. ---*/

static void
bystander_asks (struct rng *rng)
{
  const uint32_t i = (uint32_t) rng_below (rng, NR_BYSTANDER_BLOCKS);
  const uint32_t block = NR_BLOCKS + i;
  uint8_t data[BLOCK_BYTES];

  if (rng_once_in (rng, 2)) {
    fill_block (data, block, ++bystander_generation[i]);
    if (!raw_write (bystander, offset_of (block), data, BLOCK_BYTES))
      die ("the server has gone, or fails a write of another client");
    return;
  }
  if (!raw_read (bystander, offset_of (block), data, BLOCK_BYTES))
    die ("the server has gone, or fails a read of another client");
  if (!is_generation (data, block, bystander_generation[i]))
    die ("another client's block %" PRIu32 " is wrong", block);
}

/* All of what the victims have left.  What came after all counts as
 * acknowledged from now on.
 */
static void
check_blocks (void)
{
  static uint8_t data[NR_BLOCKS * TEST_BLOCK_BYTES];
  uint32_t block;

  if (!raw_read (bystander, start_offset, data, sizeof data))
    die ("the server has gone, or does not read");
  for (block = 0; block < NR_BLOCKS; block++) {
    const uint8_t *p = data + (size_t) block * BLOCK_BYTES;
    const uint32_t acknowledged = slots[block].acknowledged;
    const uint32_t sent = slots[block].sent;
    const bool arrived = sent != acknowledged && is_generation (p, block, sent);

    if (!arrived && !is_generation (p, block, acknowledged))
      die ("block %" PRIu32 " is neither of generation %" PRIu32 ", which was "
           "acknowledged, nor of %" PRIu32 ", which was sent",
           block, acknowledged, sent);
    nr_open += sent != acknowledged;
    nr_open_arrived += arrived;
    slots[block].sent = slots[block].acknowledged =
      arrived ? sent : acknowledged;
  }
}

/*--- Rounds. ---*/

static void
start_victims (struct rng *rng, pid_t *pids, unsigned nr)
{
  unsigned i;

  *nr_begun = 0;
  fflush (NULL);
  for (i = 0; i < nr; i++) {
    struct victim victim = {
      .index = i,
      .leaving = (enum leaving) rng_below (rng, NR_LEAVINGS),
      .nr_replies = (unsigned) rng_below (rng, 400),
    };

    rng_init (&victim.rng, test_seed (), rng_u64 (rng));
    nr_by_leaving[victim.leaving]++;
    pids[i] = fork ();
    if (pids[i] == -1)
      die ("fork: %s", strerror (errno));
    if (pids[i] == 0) {
      prctl (PR_SET_PDEATHSIG, SIGKILL);
      close (bystander);
      run_victim (&victim);
    }
  }
}

static void
run_round (struct rng *rng, unsigned nr)
{
  pid_t pids[NR_VICTIMS];
  unsigned i, nr_requests;
  int status;

  start_victims (rng, pids, nr);
  for (i = 0; i < nr; i++) {
    /* Not before all are connected; then after as many requests of ours as
     * chance will have it.
     */
    while (*nr_begun < nr)
      bystander_asks (rng);
    nr_requests = (unsigned) rng_size (rng, 100);
    while (nr_requests-- > 0)
      bystander_asks (rng);
    kill (pids[i], SIGKILL);
    if (waitpid (pids[i], &status, 0) != pids[i])
      die ("waitpid: %s", strerror (errno));
    if (WIFEXITED (status) && WEXITSTATUS (status) != EXIT_SUCCESS)
      die ("a victim complains");
    nr_kills_done++;
  }
  if (!raw_wait_for_connections (control, 1))
    die ("the server has gone, or keeps a connection that was closed");
  check_blocks ();
}

static void *
share (size_t bytes)
{
  void *p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED)
    die ("mmap: %s", strerror (errno));
  return p;
}

int
main (int argc, char *argv[])
{
  unsigned nr_kills, nr;
  struct rng rng;
  uint32_t block;

  if (argc < 4 || argc > 6) {
    fprintf (stderr, "usage: nbd-kills WHERE CONTROL KILLS [OFFSET [SEED]]\n");
    return 2;
  }
  test_start ("nbd-kills");
  where = argv[1];
  control = argv[2];
  nr_kills = (unsigned) atoi (argv[3]);
  if (argc > 4)
    start_offset = strtoull (argv[4], NULL, 10);
  if (argc > 5)
    test_set_seed (strtoull (argv[5], NULL, 10));
  rng_init (&rng, test_seed (), 0);
  slots = share (NR_BLOCKS * sizeof *slots);
  nr_begun = share (sizeof *nr_begun);
  bystander = raw_open (where);
  if (bystander == -1)
    die ("%s: there is no server", where);
  /* Another run may have been here. */
  if (!raw_ask (bystander, RAW_TRIM, 0, start_offset,
                (NR_BLOCKS + NR_BYSTANDER_BLOCKS) * BLOCK_BYTES, NULL) ||
      !raw_reply (bystander, &(uint64_t) { 0 }, &(uint32_t) { 0 }))
    die ("cannot trim");

  while (nr_kills_done < nr_kills) {
    nr = (unsigned) rng_between (&rng, 1, NR_VICTIMS);
    run_round (&rng,
               nr < nr_kills - nr_kills_done ? nr : nr_kills - nr_kills_done);
  }
  for (block = 0; block < NR_BLOCKS; block++)
    nr_acknowledged += slots[block].acknowledged;
  if (nr_acknowledged == 0 || nr_open == 0)
    die ("no write was acknowledged, or none was ever open: this tests "
         "nothing");
  printf ("%u clients have gone: %" PRIu64 " killed, %" PRIu64 " killed deaf, "
          "%" PRIu64 " reset, %" PRIu64 " in a request, %" PRIu64 " in its "
          "data, %" PRIu64 " disconnected\n%" PRIu64 " writes acknowledged "
          "and there; of %" PRIu64 " that were open %" PRIu64 " are there\n",
          nr_kills_done, nr_by_leaving[KILLED], nr_by_leaving[KILLED_DEAF],
          nr_by_leaving[RESET], nr_by_leaving[HALF_REQUEST],
          nr_by_leaving[HALF_DATA], nr_by_leaving[SAYS_GOODBYE],
          nr_acknowledged, nr_open, nr_open_arrived);
  return 0;
}
