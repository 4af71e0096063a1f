/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Do reads proceed while another connection's write is being compressed?
 * (tests/test-memory-defects.sh)
 *
 *     nbd-during-write URI
 *
 * One connection sends a write of 32 MiB.  Another one meanwhile reads the
 * write's first block and, once that one is new, its last block.  When that
 * one is still old, the two reads lay within the write: no lock that the
 * write holds from end to end keeps readers out.  Under such a lock the
 * first block turns new only when the last one has, and this is never seen.
 *
 * No time is measured, only an order is.  The server should compress
 * slowly, so that the reader surely gets a processor during a write.
 *
 * Exit status 0: seen.  1: never seen in as many writes, or an error.
 */

#include <config.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#define BLOCK 4096
#define WRITE_BYTES ((uint64_t) 32 * 1024 * 1024)
#define NR_WRITES 5

struct write {
  const char *uri;
  uint8_t *buf;
  atomic_bool done;
};

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "nbd-during-write: %s\n", what);
  exit (EXIT_FAILURE);
}

static struct nbd_handle *
open_connection (const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_connect_uri (nbd, uri) == -1)
    die (nbd_get_error ());
  return nbd;
}

/* Text that takes time to compress; every block begins with the number of
 * the write, which is never 0.
 */
static void
fill_blocks (uint8_t *buf, unsigned nr_write)
{
  uint32_t state = 12345 + nr_write;

  for (uint64_t i = 0; i < WRITE_BYTES; i++) {
    state = state * 1664525 + 1013904223;
    buf[i] =
      i % BLOCK == 0 ? (uint8_t) nr_write : "etaoin shrdlu"[state >> 16 & 7];
  }
}

static void *
run_write (void *opaque)
{
  struct write *write = opaque;
  struct nbd_handle *nbd = open_connection (write->uri);

  if (nbd_pwrite (nbd, write->buf, WRITE_BYTES, 0, 0) == -1)
    die (nbd_get_error ());
  atomic_store (&write->done, true);
  nbd_close (nbd);
  return NULL;
}

static bool
block_is_new (struct nbd_handle *nbd, uint64_t offset, unsigned nr_write)
{
  uint8_t block[BLOCK];

  if (nbd_pread (nbd, block, BLOCK, offset, 0) == -1)
    die (nbd_get_error ());
  return block[0] == nr_write;
}

/* How often a pair of reads lay within the write. */
static unsigned
count_reads_within (struct nbd_handle *nbd, const char *uri, uint8_t *buf,
                    unsigned nr_write)
{
  struct write write = { .uri = uri, .buf = buf, .done = false };
  pthread_t thread;
  unsigned nr_within = 0;

  fill_blocks (buf, nr_write);
  if (pthread_create (&thread, NULL, run_write, &write) != 0)
    die ("cannot create a thread");
  while (!atomic_load (&write.done))
    if (block_is_new (nbd, 0, nr_write) &&
        !block_is_new (nbd, WRITE_BYTES - BLOCK, nr_write))
      nr_within++;
  pthread_join (thread, NULL);
  return nr_within;
}

int
main (int argc, char *argv[])
{
  struct nbd_handle *nbd;
  uint8_t *buf;
  unsigned nr_within = 0;

  if (argc != 2) {
    fprintf (stderr, "usage: nbd-during-write URI\n");
    return EXIT_FAILURE;
  }
  nbd = open_connection (argv[1]);
  buf = malloc (WRITE_BYTES);
  if (buf == NULL)
    die ("out of memory");
  for (unsigned i = 1; i <= NR_WRITES && nr_within == 0; i++)
    nr_within = count_reads_within (nbd, argv[1], buf, i);
  free (buf);
  nbd_close (nbd);
  if (nr_within == 0)
    die ("no read proceeded while a write was under way");
  printf ("%u reads proceeded while a write was under way\n", nr_within);
  return EXIT_SUCCESS;
}
