/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the block table says of one block, in 64 bits.  These layouts are
 * the only place that knows them.
 *
 *  bits  63       ...                                            3 2  0
 *  HOLE  0000000000000000000000000000000000000000000000000000000 | 0
 *  SAME  check 29                | pattern 32                    | 1
 *  OBJECT, encoded:
 *        -2 | incompressible 1 | settling 1 | age 3 | size 12 |
 *                                   location 39 | codec 3 | 2
 *  OBJECT, raw (codec 0):
 *        checksum 24 | age 3 | page 31               | codec 0 | 2
 *
 * HOLE is the all-zero word, so a range never written costs nothing.  The
 * payload's size is what was stored; the slot that it lies in, which the
 * zspage knows, may be larger.
 *
 * SAME's pattern is the block's content, so it has a check, as payloads have;
 * the pattern says what it is, so equal patterns are equal entries.
 *
 * Kinds CLUSTER, SHARED, BACKING and BAD are named for what comes later
 * (settling, sharing, a backing tier, recovery); nothing writes them yet.
 */

#ifndef ZMEM_ENTRY_H
#define ZMEM_ENTRY_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "checksum.h"
#include "pool.h"

typedef uint64_t entry_t;
typedef uint32_t blkno_t; /* 31 bits: it is an object's owner */

#define BLKNO_BITS 31
#define MAX_BLOCKS ((uint64_t) 1 << BLKNO_BITS)

enum entry_kind {
  ENTRY_HOLE = 0,
  ENTRY_SAME = 1,
  ENTRY_OBJECT = 2,
  ENTRY_CLUSTER = 3,
  ENTRY_SHARED = 4,
  ENTRY_BACKING = 5,
  ENTRY_BAD = 6
};

#define ENTRY_KIND_BITS 3
#define ENTRY_CODEC_BITS 3
#define ENTRY_SIZE_BITS 12
#define ENTRY_AGE_BITS 3
#define ENTRY_PAGE_BITS (ZS_LOC_BITS + ZS_LOC_SHIFT - BLOCK_SHIFT)

#define ENTRY_CODEC_SHIFT ENTRY_KIND_BITS
#define ENTRY_LOC_SHIFT (ENTRY_CODEC_SHIFT + ENTRY_CODEC_BITS)
#define ENTRY_SIZE_SHIFT (ENTRY_LOC_SHIFT + ZS_LOC_BITS)
#define ENTRY_AGE_SHIFT (ENTRY_SIZE_SHIFT + ENTRY_SIZE_BITS)
#define ENTRY_SETTLING_SHIFT (ENTRY_AGE_SHIFT + ENTRY_AGE_BITS)
#define ENTRY_INCOMPRESSIBLE_SHIFT (ENTRY_SETTLING_SHIFT + 1)

#define ENTRY_RAW_AGE_SHIFT (ENTRY_LOC_SHIFT + ENTRY_PAGE_BITS)
#define ENTRY_RAW_CHECKSUM_SHIFT (ENTRY_RAW_AGE_SHIFT + ENTRY_AGE_BITS)

#define ENTRY_PATTERN_SHIFT ENTRY_KIND_BITS
#define ENTRY_SAME_CHECK_SHIFT (ENTRY_PATTERN_SHIFT + 32)

static_assert (ENTRY_INCOMPRESSIBLE_SHIFT < 64, "encoded entry fits");
static_assert (ENTRY_RAW_CHECKSUM_SHIFT + RAW_CHECKSUM_BITS == 64,
               "raw entry fills its word");
static_assert (ENTRY_SAME_CHECK_SHIFT < 64, "pattern and its check fit");
static_assert (MAX_CODECS == 1 << ENTRY_CODEC_BITS, "codec fits");
static_assert (BLOCK_BYTES == OBJECT_MAX, "a raw block is one object");

#define ENTRY_BITS(entry, shift, bits)                                         \
  (((entry) >> (shift)) & ((UINT64_C (1) << (bits)) - 1))

static inline enum entry_kind
entry_kind (entry_t entry)
{
  return (enum entry_kind) ENTRY_BITS (entry, 0, ENTRY_KIND_BITS);
}

static inline entry_t
entry_hole (void)
{
  return 0;
}

static inline entry_t
entry_same (uint32_t pattern)
{
  /* The high bits of the product depend on all bits of the pattern. */
  const entry_t check =
    ((entry_t) pattern + 1) * UINT64_C (0x9e3779b97f4a7c15) >>
    ENTRY_SAME_CHECK_SHIFT;

  return ENTRY_SAME | (entry_t) pattern << ENTRY_PATTERN_SHIFT |
         check << ENTRY_SAME_CHECK_SHIFT;
}

static inline uint32_t
entry_pattern (entry_t entry)
{
  return (uint32_t) (entry >> ENTRY_PATTERN_SHIFT);
}

static inline entry_t
entry_object_encoded (zs_loc loc, enum codec_id codec, uint32_t bytes)
{
  assert (loc >> ZS_LOC_BITS == 0);
  assert (bytes >> ENTRY_SIZE_BITS == 0);
  assert (codec != CODEC_RAW);
  return ENTRY_OBJECT | (entry_t) codec << ENTRY_CODEC_SHIFT |
         (entry_t) loc << ENTRY_LOC_SHIFT | (entry_t) bytes << ENTRY_SIZE_SHIFT;
}

static inline entry_t
entry_object_raw (zs_loc loc, uint32_t checksum)
{
  const uint64_t page = loc >> (BLOCK_SHIFT - ZS_LOC_SHIFT);

  assert (page << (BLOCK_SHIFT - ZS_LOC_SHIFT) == loc);
  assert (checksum >> RAW_CHECKSUM_BITS == 0);
  return ENTRY_OBJECT | (entry_t) CODEC_RAW << ENTRY_CODEC_SHIFT |
         (entry_t) page << ENTRY_LOC_SHIFT |
         (entry_t) checksum << ENTRY_RAW_CHECKSUM_SHIFT;
}

/* Is it a SAME entry, and as entry_same made it? */
static inline bool
entry_same_is_sound (entry_t entry)
{
  return entry == entry_same (entry_pattern (entry));
}

/* The rest of these are for kind OBJECT only. */

static inline enum codec_id
entry_codec (entry_t entry)
{
  return (enum codec_id) ENTRY_BITS (entry, ENTRY_CODEC_SHIFT,
                                     ENTRY_CODEC_BITS);
}

static inline zs_loc
entry_loc (entry_t entry)
{
  if (entry_codec (entry) == CODEC_RAW)
    return ENTRY_BITS (entry, ENTRY_LOC_SHIFT, ENTRY_PAGE_BITS)
           << (BLOCK_SHIFT - ZS_LOC_SHIFT);
  return ENTRY_BITS (entry, ENTRY_LOC_SHIFT, ZS_LOC_BITS);
}

/* Bytes of payload, checksum included. */
static inline uint32_t
entry_payload_bytes (entry_t entry)
{
  if (entry_codec (entry) == CODEC_RAW)
    return BLOCK_BYTES;
  return (uint32_t) ENTRY_BITS (entry, ENTRY_SIZE_SHIFT, ENTRY_SIZE_BITS);
}

static inline uint32_t
entry_raw_checksum (entry_t entry)
{
  return (uint32_t) (entry >> ENTRY_RAW_CHECKSUM_SHIFT);
}

/* The same object elsewhere: what a compactor publishes. */
static inline entry_t
entry_with_loc (entry_t entry, zs_loc loc)
{
  if (entry_codec (entry) == CODEC_RAW) {
    const entry_t mask = ((UINT64_C (1) << ENTRY_PAGE_BITS) - 1)
                         << ENTRY_LOC_SHIFT;
    return (entry & ~mask) | (entry_t) (loc >> (BLOCK_SHIFT - ZS_LOC_SHIFT))
                               << ENTRY_LOC_SHIFT;
  }
  const entry_t mask = ((UINT64_C (1) << ZS_LOC_BITS) - 1) << ENTRY_LOC_SHIFT;
  return (entry & ~mask) | (entry_t) loc << ENTRY_LOC_SHIFT;
}

#endif /* ZMEM_ENTRY_H */
