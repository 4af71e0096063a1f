/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codec lz4: one LZ4 block a block of the disk, no frame.
 *
 * The state is LZ4's hash table, 16 KiB, cleared by every call; decoding
 * needs none.
 *
 * Measured on the pages of bench/corpus, one processor (4 KiB blocks,
 * median ns; "bytes" is the payload's mean, raw blocks included):
 *
 *   codec-bench FILE -n 16 lz4:1 ...    encode   decode   bytes
 *   lz4:1                                4,800    1,170    1,737
 *   lz4:4                                4,480    1,170    1,848
 *   lz4:8                                3,840    1,090    1,978
 *   lz4:16                               3,100    1,050    2,183
 *   lz4:64                               1,790      710    2,786
 *
 * Beyond some 64 it is hardly a codec any more; the range is the library's.
 *
 * Tried and dropped:
 * - LZ4_resetStream_fast and LZ4_compress_fast_continue, which clear nothing:
 *   6,050 ns against 5,100 with LZ4_compress_fast_extState (mean, the two
 *   interleaved, pages that compress), 0.15 % smaller at acceleration 1 but
 *   1.1 % larger at 4 and 1.3 % at 8.  Their table has 4 bytes an entry, so
 *   half as many entries.
 * - A look beforehand at what cannot compress, as codec-zstd.c has one: the
 *   look costs 990 ns on a random page, LZ4 itself, which then goes through
 *   it in growing steps and stops when max_bytes are full, 1,020 ns.
 */

#include <config.h>

#include <stdlib.h>

#include <lz4.h>

#include "codec.h"

/* LZ4_ACCELERATION_MAX of lz4.c: beyond it the library clamps. */
#define ACCELERATION_MAX 65537

static void *
lz4_create_state (int level, size_t *bytes)
{
  (void) level;
  *bytes = (size_t) LZ4_sizeofState ();
  return malloc (*bytes);
}

static void
lz4_free_state (void *state)
{
  free (state);
}

static size_t
lz4_encode (void *state, int level, const void *block, void *encoded,
            size_t max_bytes)
{
  /* Stops, and returns 0, as soon as max_bytes are full. */
  const int r =
    LZ4_compress_fast_extState (state, block, encoded, (int) BLOCK_BYTES,
                                (int) max_bytes, level);

  return r > 0 ? (size_t) r : 0;
}

static bool
lz4_decode (void *state, const void *encoded, size_t encoded_bytes, void *block)
{
  (void) state;
  return LZ4_decompress_safe (encoded, block, (int) encoded_bytes,
                              (int) BLOCK_BYTES) == (int) BLOCK_BYTES;
}

const struct codec_ops codec_lz4_ops = {
  .name = "lz4",
  .chosen = true,
  .level_name = "ACCEL",
  .level_word = "acceleration",
  .level_default = 1,
  .level_min = 1,
  .level_max = ACCELERATION_MAX,
  .decode_needs_state = false,
  .library_version = LZ4_versionString,
  .create_state = lz4_create_state,
  .free_state = lz4_free_state,
  .encode = lz4_encode,
  .decode = lz4_decode,
};
