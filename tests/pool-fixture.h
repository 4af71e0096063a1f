/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool to test with, over the probe's pages, and shadows of it: lists of
 * the objects that ought to live.  Each object is filled to the end of its
 * slot with bytes that tell it from all others.  For libcheck programs.
 */

#ifndef ZMEM_POOL_FIXTURE_H
#define ZMEM_POOL_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "pages.h"
#include "pool.h"
#include "test-util.h"

#define ARENA_BYTES (192 * MIB)
#define LOC_PER_ZSPAGE_SHIFT (ZSPAGE_SHIFT - ZS_LOC_SHIFT)

struct object {
  zs_loc loc;
  owner_t owner;
  uint32_t bytes;
  uint64_t tag;
};

struct shadow {
  struct object *objects;
  size_t nr, max;
  uint64_t next_tag;
};

/* The one pool under test. */
extern struct pages pages;
extern struct pool *pool;

extern void open_pool (uint64_t arena_bytes, uint64_t limit);
extern void open_pool_with_reserve (const struct pages_ops *ops,
                                    uint64_t arena_bytes, uint64_t limit,
                                    uint64_t reserve);
extern void close_pool (void);

extern void shadow_init (struct shadow *shadow, size_t max, uint64_t first_tag);

/* These may be called by threads, each with its own shadow; what they see
 * wrong is noted.
 */
extern int alloc_object (struct shadow *shadow, uint32_t bytes);
extern void free_object (struct shadow *shadow, size_t i);
extern void free_all (struct shadow *shadow, struct rng *rng);

enum sizes {
  SIZES_ALL,
  SIZES_SMALL,
  SIZES_LARGE,
  SIZES_RAW,
  SIZES_ONE,
  SIZES_TINY,
  NR_SIZES
};
extern uint32_t choose_size (struct rng *rng, enum sizes sizes);

/* Count everything again, when no other thread is at work: objects by
 * iterating, fullness by counting them, held and resident bytes by asking
 * the kernel.  The shadow is all that lives.
 */
extern void check_everything (struct shadow *shadow);

#endif /* ZMEM_POOL_FIXTURE_H */
