/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the store takes for a block: no nbdkit, no client, one thread.
 *
 *   store-speed CORPUS [CODEC] [PASSES] [COPIES]        [lz4] [5] [1]
 *
 * Writes the corpus so many times, a page a block, then all again and again in
 * a random order; reads in a random order; the same in pieces of 64 blocks.
 * With many copies little of what is needed is in a cache.  A line
 * each: microseconds of processor time a block, the least of the passes.
 * codec-bare says what of it is the codec's; the rest is ours.  To count
 * instructions:
 *
 *   valgrind --tool=callgrind --toggle-collect=store_read store-speed ...
 */

#include <config.h>

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench-clock.h"
#include "bench-corpus.h"
#include "bench-random.h"
#include "codec.h"
#include "store.h"

#define LARGE_BLOCKS 64

static const char *corpus;
static uint32_t nr_pages, nr_copies = 1;
static struct store *store;
static char *buffer; /* of LARGE_BLOCKS, as nbdkit has one a thread */
static uint64_t rng_state = 1;

static double
processor_us (void)
{
  return read_clock_ns (CLOCK_THREAD_CPUTIME_ID) / 1e3;
}

static void
read_piece (uint32_t unit, uint32_t page, uint32_t nr_blocks)
{
  (void) page;
  if (store_read (store, buffer, nr_blocks * BLOCK_BYTES,
                  (uint64_t) unit * nr_blocks * BLOCK_BYTES) != 0)
    errx (EXIT_FAILURE, "a read failed");
}

/* The copy stands for the socket's: the data are in the cache. */
static void
copy_piece (uint32_t unit, uint32_t page, uint32_t nr_blocks)
{
  (void) unit;
  page %= nr_pages / nr_blocks;
  memcpy (buffer, corpus + (size_t) page * nr_blocks * BLOCK_BYTES,
          nr_blocks * BLOCK_BYTES);
}

static void
write_piece (uint32_t unit, uint32_t page, uint32_t nr_blocks)
{
  copy_piece (unit, page, nr_blocks);
  if (store_write (store, buffer, nr_blocks * BLOCK_BYTES,
                   (uint64_t) unit * nr_blocks * BLOCK_BYTES) != 0)
    errx (EXIT_FAILURE, "a write failed");
}

typedef void (*piece_fn) (uint32_t unit, uint32_t page, uint32_t nr_blocks);

/* Microseconds a block of fn for every unit, in a random order. */
static double
run_pass (piece_fn fn, uint32_t nr_blocks)
{
  const uint32_t nr_units = nr_pages * nr_copies / nr_blocks;
  uint32_t *units = malloc (nr_units * sizeof *units);
  uint32_t *pages = malloc (nr_units * sizeof *pages);
  double us;

  if (units == NULL || pages == NULL)
    err (EXIT_FAILURE, "malloc");
  shuffle (units, nr_units, &rng_state);
  shuffle (pages, nr_units, &rng_state);
  us = processor_us ();
  for (uint32_t i = 0; i < nr_units; ++i)
    fn (units[i], pages[i], nr_blocks);
  us = (processor_us () - us) / nr_units / nr_blocks;
  free (units);
  free (pages);
  return us;
}

static double
least_of (piece_fn fn, uint32_t nr_blocks, unsigned nr_passes)
{
  double least = run_pass (fn, nr_blocks);

  while (--nr_passes > 0) {
    const double us = run_pass (fn, nr_blocks);

    if (us < least)
      least = us;
  }
  return least;
}

static void
map_corpus (const char *path)
{
  uint64_t nr;

  corpus = map_pages (path, &nr);
  if (nr < LARGE_BLOCKS)
    errx (2, "%s: smaller than %d pages", path, LARGE_BLOCKS);
  nr_pages = nr;
}

static void
start_store (const char *codec)
{
  struct store_params params = { .limit_bytes = PAGES_NO_LIMIT };
  char error[256];

  params.size_bytes = (uint64_t) nr_pages * nr_copies * BLOCK_BYTES;
  if (codec_spec_parse (codec, &params.codec, error, sizeof error) < 0)
    errx (2, "%s", error);
  if (store_create (&params, &store) < 0 || store_start (store) < 0)
    errx (EXIT_FAILURE, "the store did not start");
}

int
main (int argc, char *argv[])
{
  const unsigned nr_passes = argc > 3 ? atoi (argv[3]) : 5;

  if (argc > 4)
    nr_copies = atoi (argv[4]);
  if (argc < 2 || argc > 5 || nr_passes == 0 || nr_copies == 0) {
    fprintf (stderr, "usage: store-speed CORPUS [CODEC] [PASSES] [COPIES]\n");
    return 2;
  }
  map_corpus (argv[1]);
  start_store (argc > 2 ? argv[2] : "lz4");
  buffer = aligned_alloc (BLOCK_BYTES, LARGE_BLOCKS * BLOCK_BYTES);
  if (buffer == NULL)
    err (EXIT_FAILURE, "malloc");
  printf ("fill       %7.3f\n", run_pass (write_piece, 1));
  for (uint32_t nr = 1; nr <= LARGE_BLOCKS; nr *= LARGE_BLOCKS) {
    const double copy = least_of (copy_piece, nr, nr_passes);

    printf ("write %3uK %7.3f\n", nr * 4,
            least_of (write_piece, nr, nr_passes) - copy);
    printf ("read  %3uK %7.3f\n", nr * 4, least_of (read_piece, nr, nr_passes));
  }
  store_destroy (store);
  return 0;
}
