/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk to test with: a store over the probe's pages, and a flat shadow of
 * what it ought to hold.  For libcheck programs: what goes wrong ends the
 * test.  One thread; what is read may be read by many.
 */

#ifndef ZMEM_STORE_FIXTURE_H
#define ZMEM_STORE_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "stats.h"
#include "store.h"

/* What an extent may say of a block. */
enum shadow_kind {
  SHADOW_HOLE,         /* a hole, nothing else */
  SHADOW_ZERO,         /* allocated zeros, nothing else */
  SHADOW_ZERO_OR_HOLE, /* the contract leaves it open */
  SHADOW_DATA
};

struct disk {
  struct store *store;
  uint64_t size, nr_blocks;
  uint8_t *shadow;        /* size bytes */
  uint8_t *kinds;         /* enum shadow_kind, a block */
  uint8_t *scratch;       /* size bytes, for comparing */
  uint64_t other_foreign; /* held that is no mapping and no context */
  uint64_t min_bytes;     /* store_min_bytes */
};

/* Create and start.  `codec` as in compress=. */
extern struct disk disk_open (uint64_t size, uint64_t limit, const char *codec);
/* Without the shadow: for disks that are larger than memory. */
extern struct disk disk_open_bare (uint64_t size, uint64_t limit,
                                   const char *codec);
extern void disk_close (struct disk *disk);
extern void disk_set_codec (struct disk *disk, const char *codec);

/* Do it to the store, expect 0, and to the shadow. */
extern void disk_write (struct disk *disk, const void *buf, uint64_t count,
                        uint64_t offset);
extern void disk_trim (struct disk *disk, uint64_t count, uint64_t offset);
extern void disk_zero (struct disk *disk, uint64_t count, uint64_t offset,
                       bool may_punch);
/* Read and compare. */
extern void disk_verify (struct disk *disk, uint64_t count, uint64_t offset);

/* After a write that gave an error: each block of the range is as it was or
 * as `buf` says; take what it is into the shadow.
 */
extern void disk_verify_old_or_new (struct disk *disk, const void *buf,
                                    uint64_t count, uint64_t offset);

/* Extents of the range: complete, in order, no gap, none empty, right. */
extern void disk_check_extents (struct disk *disk, uint64_t count,
                                uint64_t offset);

/* store_check, and held against what the kernel says. */
extern void disk_check (struct disk *disk);
/* That, every byte, and all extents. */
extern void disk_check_all (struct disk *disk);

extern struct stats disk_stats (const struct disk *disk);
extern uint64_t disk_held (const struct disk *disk);

#endif /* ZMEM_STORE_FIXTURE_H */
