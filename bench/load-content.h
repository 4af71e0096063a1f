/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the disk must hold, as nbd-load knows it: see load-content.c.
 *
 * None of these functions locks: who calls one has claimed the blocks of the
 * extent (load-schedule.h), from before the request is sent until its answer
 * has been worked in.
 */

#ifndef ZMEM_LOAD_CONTENT_H
#define ZMEM_LOAD_CONTENT_H

#include <stdint.h>

#include "load-workloads.h"

#define BLOCK_BYTES 4096
#define SECTOR_BYTES 512
#define BLOCK_SECTORS (BLOCK_BYTES / SECTOR_BYTES)

/* Lies within a block, or is made of whole blocks. */
struct extent {
  uint64_t sector; /* the first, of the disk */
  unsigned nr_sectors;
};

/* A write from its begin to its end. */
struct pending_write {
  uint32_t new_generations[MAX_UNIT_BLOCKS];
  uint32_t old_generations[BLOCK_SECTORS]; /* of an extent in one block */
};

/* Map the pages that are written; returns how many there are.  Exits with a
 * sentence and status 2 where that is not possible.
 */
extern uint64_t map_corpus (const char *path, uint64_t seed);

/* Know of a disk of so many blocks.  state: a file that knows of it from
 * earlier, and for later; NULL for a disk of zeros, and none.
 */
extern void map_generations (const char *state, uint64_t nr_blocks);

/* How many blocks of what was read are wrong. */
extern unsigned count_wrong_blocks (struct extent extent, const char *data);

/* Returns what to send: the corpus itself, or what was put together in
 * buffer, which has room for the extent.
 */
extern const char *begin_write (struct pending_write *write,
                                struct extent extent, char *buffer);
extern void begin_trim (struct extent extent);

/* error: an errno, 0 for none. */
extern void finish_write (const struct pending_write *write,
                          struct extent extent, int error);
extern void finish_trim (struct extent extent, int error);

#endif /* ZMEM_LOAD_CONTENT_H */
