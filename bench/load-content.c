/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the disk must hold.
 *
 * A sector of 512 bytes has a generation, 8 to a block:
 *
 *   0        zeros: never written, or trimmed
 *   g        sector s of block b is sector s of the page of the corpus that
 *            (b, g) chooses
 *   UNKNOWN  a write or trim began and was not answered, or failed: nothing
 *            is said, so that a state is of use even after a server or a
 *            client was killed.  But a write within one block that is refused
 *            with ENOSPC is held to have changed nothing.
 *
 * (b, 1) chooses page b, modulo the corpus, so that a fill copies the corpus
 * with its locality; later generations mix (b, g).  So a byte that was read is
 * known to be right or wrong from 32 bytes a block.
 *
 * A write makes of its sectors the generation after the highest of their
 * block, whether it is of all the block or of a part.  So 8 equal generations
 * are one page, and a whole block is checked by one comparison.
 *
 * The state file is these generations, 4 bytes each, in the order of the disk.
 */

#define _GNU_SOURCE

#include <assert.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench-random.h"
#include "load-content.h"

#define UNKNOWN UINT32_MAX

/* Set before the threads start. */
static const char *corpus;
static uint64_t nr_corpus_pages, corpus_seed;

/* By sector.  A generation is its claimant's. */
static uint32_t *generations;

/*--- Generations. ---*/

static const char *
page_of (uint64_t block, uint32_t generation)
{
  static const char zeros[BLOCK_BYTES];
  uint64_t page = block;

  if (generation == 0)
    return zeros;
  if (generation > 1)
    page =
      mix (block + (corpus_seed << 40) + ((uint64_t) generation << 20) * 977);
  return corpus + page % nr_corpus_pages * BLOCK_BYTES;
}

static const char *
content (uint64_t sector, uint32_t generation)
{
  return page_of (sector / BLOCK_SECTORS, generation) +
         sector % BLOCK_SECTORS * SECTOR_BYTES;
}

/* The generations of a whole block are looked at on the way of every request,
 * hence as few words, without a loop or a call.
 */
static inline bool
block_is_uniform (const uint32_t *g)
{
  uint64_t pairs[BLOCK_SECTORS / 2];

  static_assert (sizeof pairs == BLOCK_SECTORS * sizeof *g, "8 generations");
  memcpy (pairs, g, sizeof pairs);
  return ((pairs[0] ^ pairs[1]) | (pairs[0] ^ pairs[2]) |
          (pairs[0] ^ pairs[3])) == 0 &&
         g[0] == g[1];
}

static inline bool
are_equal (const uint32_t *g, unsigned nr)
{
  if (nr == BLOCK_SECTORS)
    return block_is_uniform (g);
  return memcmp (g, g + 1, (nr - 1) * sizeof *g) == 0;
}

static inline void
set_block (uint32_t *g, uint32_t generation)
{
  for (unsigned i = 0; i < BLOCK_SECTORS; ++i)
    g[i] = generation;
}

static void
set_generations (uint64_t sector, unsigned nr, uint32_t generation)
{
  uint32_t *g = &generations[sector];

  for (; nr >= BLOCK_SECTORS; nr -= BLOCK_SECTORS, g += BLOCK_SECTORS)
    set_block (g, generation);
  for (unsigned i = 0; i < nr; ++i)
    g[i] = generation;
}

/* Those of the block that this sector is in. */
static uint32_t *
block_generations (uint64_t sector)
{
  return &generations[sector & ~(BLOCK_SECTORS - UINT64_C (1))];
}

static uint32_t
highest_known (const uint32_t *g)
{
  uint32_t highest = 0;

  for (unsigned i = 0; i < BLOCK_SECTORS; ++i)
    if (g[i] != UNKNOWN && g[i] > highest)
      highest = g[i];
    else if (g[i] == UNKNOWN && highest == 0)
      highest = 1; /* see next_generation */
  return highest;
}

/* What follows UNKNOWN must be neither zeros nor UNKNOWN, nor what a fill
 * writes, which may have been what was not answered.
 */
static inline uint32_t
next_generation (const uint32_t *g)
{
  const uint32_t highest = block_is_uniform (g) ? g[0] : highest_known (g);

  return highest >= UNKNOWN - 1 ? 2 : highest + 1;
}

/*--- Reads. ---*/

/* Sectors of one generation. */
static bool
run_is_right (uint64_t sector, unsigned nr, const char *data)
{
  const uint32_t generation = generations[sector];

  return generation == UNKNOWN ||
         memcmp (data, content (sector, generation), nr * SECTOR_BYTES) == 0;
}

/* Sectors of one block. */
static bool
sectors_are_right (uint64_t sector, unsigned nr, const char *data)
{
  if (are_equal (&generations[sector], nr))
    return run_is_right (sector, nr, data);
  for (unsigned i = 0; i < nr; ++i)
    if (!run_is_right (sector + i, 1, data + i * SECTOR_BYTES))
      return false;
  return true;
}

unsigned
count_wrong_blocks (struct extent extent, const char *data)
{
  const unsigned each =
    extent.nr_sectors < BLOCK_SECTORS ? extent.nr_sectors : BLOCK_SECTORS;
  unsigned nr_wrong = 0;

  for (unsigned i = 0; i < extent.nr_sectors; i += each)
    nr_wrong +=
      !sectors_are_right (extent.sector + i, each, data + i * SECTOR_BYTES);
  return nr_wrong;
}

/*--- Writes and trims. ---*/

/* A whole block; returns what to send. */
static inline const char *
begin_block (uint32_t *new_generation, uint64_t sector)
{
  uint32_t *g = &generations[sector];

  *new_generation = next_generation (g);
  set_block (g, UNKNOWN);
  return content (sector, *new_generation);
}

static const char *
begin_part (uint32_t *new_generation, struct extent extent)
{
  *new_generation = next_generation (block_generations (extent.sector));
  set_generations (extent.sector, extent.nr_sectors, UNKNOWN);
  return content (extent.sector, *new_generation);
}

const char *
begin_write (struct pending_write *write, struct extent extent, char *buffer)
{
  const uint64_t sector = extent.sector;
  const unsigned nr_blocks = extent.nr_sectors / BLOCK_SECTORS;
  uint32_t *new = write->new_generations;

  if (nr_blocks <= 1) {
    memcpy (write->old_generations, block_generations (sector),
            sizeof write->old_generations);
    return nr_blocks == 1 ? begin_block (new, sector)
                          : begin_part (new, extent);
  }
  for (unsigned i = 0; i < nr_blocks; ++i)
    memcpy (buffer + i * BLOCK_BYTES,
            begin_block (&new[i], sector + i * BLOCK_SECTORS), BLOCK_BYTES);
  return buffer;
}

void
finish_write (const struct pending_write *write, struct extent extent,
              int error)
{
  const unsigned nr_blocks = extent.nr_sectors / BLOCK_SECTORS;
  const uint32_t *new = write->new_generations;

  if (error == 0 && nr_blocks == 0)
    set_generations (extent.sector, extent.nr_sectors, new[0]);
  else if (error == 0)
    for (unsigned i = 0; i < nr_blocks; ++i)
      set_block (&generations[extent.sector + i * BLOCK_SECTORS], new[i]);
  else if (error == ENOSPC && nr_blocks <= 1)
    memcpy (block_generations (extent.sector), write->old_generations,
            sizeof write->old_generations);
}

void
begin_trim (struct extent extent)
{
  set_generations (extent.sector, extent.nr_sectors, UNKNOWN);
}

void
finish_trim (struct extent extent, int error)
{
  if (error == 0)
    set_generations (extent.sector, extent.nr_sectors, 0);
}

/*--- Start. ---*/

uint64_t
map_corpus (const char *path, uint64_t seed)
{
  const int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;

  if (fd == -1 || fstat (fd, &st) == -1)
    err (2, "--corpus=%s", path);
  if (!S_ISREG (st.st_mode) || st.st_size < BLOCK_BYTES)
    errx (2, "--corpus takes a file of pages of %d bytes, and %s has not one",
          BLOCK_BYTES, path);
  corpus_seed = seed;
  nr_corpus_pages = st.st_size / BLOCK_BYTES;
  corpus = mmap (NULL, st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (corpus == MAP_FAILED)
    err (2, "--corpus=%s", path);
  close (fd);
  return nr_corpus_pages;
}

void
map_generations (const char *state, uint64_t nr_blocks)
{
  const size_t bytes = nr_blocks * BLOCK_SECTORS * sizeof *generations;
  /* Of a disk of 1 TiB it is 8 GiB, of which what is written is touched. */
  const int flags =
    MAP_NORESERVE | (state ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  int fd = -1;

  if (state) {
    fd = open (state, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd == -1 || ftruncate (fd, bytes) == -1)
      err (2, "--state=%s", state);
  }
  generations = mmap (NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (generations == MAP_FAILED)
    err (EXIT_FAILURE, "%s", state ? state : "generations");
  if (fd != -1)
    close (fd);
}
