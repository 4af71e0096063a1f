/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codec zstd: one compressed zstd block a block of the disk, without the
 * frame around it.
 *
 *   frame     | magic 4 | descriptor 1 | window 1 | block header 3 | block |
 *   payload                                                        | block |
 *
 * With content size, checksum and dictionary id off and a window of one
 * block, what is in front of the block is always the same or follows from
 * the payload's length.  It is left away, and put back into a buffer of the
 * context to decode.  Of zstd's interface only the stable part is used, so
 * that the shared library may be any.
 *
 * Measured on the pages of bench/corpus, one processor (4 KiB blocks,
 * median ns; "bytes" is the payload's mean, raw blocks included; KiB of a
 * context's state).  lz4 for comparison:
 *
 *   codec-bench FILE -n 16 zstd:-100 ...  encode   decode   bytes    KiB
 *   lz4:1                                  4,800    1,170    1,737     16
 *   zstd:-100                              1,980      720    3,543    172
 *   zstd:-20                               4,100    1,920    2,603    172
 *   zstd:-5                                6,780    2,680    1,808    172
 *   zstd:-1                                7,900    2,800    1,397    172
 *   zstd:1                                11,470    4,560    1,273    172
 *   zstd:3                                12,640    4,300    1,259    188
 *   zstd:6                                35,800    3,430    1,225    188
 *   zstd:9                                86,600    3,430    1,222    204
 *
 *   (314 blocks, -n 128)
 *   zstd:12                              209,000    4,100    1,105    369
 *   zstd:19                              806,000    4,700    1,090    369
 *   zstd:22                              878,000    4,600    1,090    369
 *
 * Hence the default, 1: level 3 costs 10 % more for 1 %.  Below -5 lz4 is
 * better at both; -100, where a quarter of the blocks is raw, is the end.
 * Above 17 nothing is gained, but nothing is in the way either.
 *
 * - Without the frame: 9 bytes of 998 less than a frame without content
 *   size, 10 less than zstd's default (zstd:1, blocks that compress).  The
 *   copy that decoding needs does not slow it down: 4,330 ns against 4,680
 *   (median, zstd alone, payloads out of the cache).
 * - A look at blocks that follow one that did not compress (see
 *   looks_incompressible): random blocks in long runs 990 ns instead of
 *   2,560 with zstd:1, 3,770 with zstd:3, 15,800 with zstd:9; the corpus, of
 *   which 9 % is random in short runs, 3 % less time in all.  Of its 36,417
 *   blocks that compress none was given up.
 *
 * Tried and dropped:
 * - The look at every block: 170 ns on each that compresses, 1,570 ns
 *   saved on the 9 % that does not (zstd:1): no gain.
 * - Half the look.  At every block, repeats of 4 bytes alone would give up
 *   2.6 % of the corpus's payload bytes, of 8 bytes 4.3 %.  The histogram
 *   alone gives up none of them, but random bytes that come again show in
 *   it only where the sample takes both.
 * - A smaller hash table (ZSTD_c_hashLog 9 to 12 for the 13 that zstd takes),
 *   to stay in the first-level cache: level 1 up to 8 % slower and up to
 *   1.1 % larger.
 * - ZSTD_compressCCtx instead of ZSTD_compress2: the same time within 3 %,
 *   and it writes the content size.
 */

#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "codec.h"

/* Why these: the table above. */
#define LEVEL_DEFAULT 1
#define LEVEL_MIN (-100)
#define LEVEL_MAX 22

#define FRAME_HEADER_BYTES 6
#define BLOCK_HEADER_BYTES 3
#define PREFIX_BYTES (FRAME_HEADER_BYTES + BLOCK_HEADER_BYTES)

/* Magic; a descriptor without content size, checksum and dictionary; a
 * window of 1 << BLOCK_SHIFT bytes (exponent - 10 in the upper five bits).
 */
static const uint8_t frame_header[FRAME_HEADER_BYTES] = {
  0x28, 0xb5, 0x2f, 0xfd, 0x00, (BLOCK_SHIFT - 10) << 3,
};

#define SAMPLE_WORDS 512

struct zstd_state {
  ZSTD_CCtx *cctx;
  ZSTD_DCtx *dctx;
  unsigned nr_skips_left;      /* blocks that a look alone may give up */
  uint32_t seen[SAMPLE_WORDS]; /* by hash, of this block or an earlier one */
  uint8_t frame[PREFIX_BYTES + BLOCK_BYTES];
};

/* The block header that ends a frame with one compressed block. */
static void
put_block_header (uint8_t header[BLOCK_HEADER_BYTES], size_t bytes)
{
  const uint32_t last = 1, compressed = 2;
  const uint32_t word = last | compressed << 1 | (uint32_t) bytes << 3;

  header[0] = (uint8_t) word;
  header[1] = (uint8_t) (word >> 8);
  header[2] = (uint8_t) (word >> 16);
}

/* Does a four-byte word come twice, of those that start at every 8th byte?
 * Entries of `seen` that earlier blocks left can only make it say yes.
 */
static bool
sample_repeats (struct zstd_state *state, const uint8_t *block)
{
  for (size_t i = 0; i < BLOCK_BYTES; i += 8) {
    uint32_t word, *seen;

    memcpy (&word, block + i, sizeof word);
    seen = &state->seen[word * UINT32_C (2654435761) >> 23];
    if (*seen == word)
      return true;
    *seen = word;
  }
  return false;
}

/* Do all byte values come about equally often?  A sample of 512 bytes, 8
 * contiguous ones from each 64.  Of random bytes the sum of squares is
 * 1534 on average, with a deviation of 45; what entropy coding could shrink
 * by 2 % is some 8 deviations off.
 */
static bool
sample_is_flat (const uint8_t *block)
{
  enum { STRIDE = 64, RUN = 8, MEAN = 1534, DEVIATION = 45 };
  uint16_t counts[256] = { 0 };
  uint32_t sum = 0;

  static_assert (BLOCK_BYTES / STRIDE * RUN == 512, "what MEAN is for");
  for (size_t i = 0; i < BLOCK_BYTES; i += STRIDE)
    for (size_t j = 0; j < RUN; j++)
      counts[block[i + j]]++;
  for (unsigned value = 0; value < 256; value++)
    sum += (uint32_t) counts[value] * counts[value];
  return sum < MEAN + 4 * DEVIATION;
}

static bool
looks_incompressible (struct zstd_state *state, const uint8_t *block)
{
  return !sample_repeats (state, block) && sample_is_flat (block);
}

/* zstd's verdict over `max_bytes`, 0 for no. */
static size_t
compress_block (struct zstd_state *state, const void *block, void *encoded,
                size_t max_bytes)
{
  uint8_t expected[BLOCK_HEADER_BYTES];
  size_t bytes;

  if (max_bytes > BLOCK_BYTES)
    max_bytes = BLOCK_BYTES;
  bytes = ZSTD_compress2 (state->cctx, state->frame, PREFIX_BYTES + max_bytes,
                          block, BLOCK_BYTES);
  if (ZSTD_isError (bytes) || bytes <= PREFIX_BYTES)
    return 0;
  bytes -= PREFIX_BYTES;

  /* Anything but one compressed block is zstd saying that it did not
   * compress (or one byte value throughout, which never gets here).
   */
  put_block_header (expected, bytes);
  if (memcmp (state->frame, frame_header, FRAME_HEADER_BYTES) != 0 ||
      memcmp (state->frame + FRAME_HEADER_BYTES, expected,
              BLOCK_HEADER_BYTES) != 0)
    return 0;
  memcpy (encoded, state->frame + PREFIX_BYTES, bytes);
  return bytes;
}

static size_t
zstd_encode (void *opaque, int level, const void *block, void *encoded,
             size_t max_bytes)
{
  /* Of a run of blocks that look incompressible every 16th is tried all the
   * same, so that what the look does not see costs little.
   */
  const unsigned max_skips = 15;
  struct zstd_state *state = opaque;
  size_t bytes;

  (void) level; /* is in the context's parameters */
  if (state->nr_skips_left > 0 && looks_incompressible (state, block)) {
    state->nr_skips_left--;
    return 0;
  }
  bytes = compress_block (state, block, encoded, max_bytes);
  state->nr_skips_left = bytes == 0 ? max_skips : 0;
  return bytes;
}

static bool
zstd_decode (void *opaque, const void *encoded, size_t encoded_bytes,
             void *block)
{
  struct zstd_state *state = opaque;

  if (encoded_bytes > BLOCK_BYTES)
    return false;
  memcpy (state->frame, frame_header, FRAME_HEADER_BYTES);
  put_block_header (state->frame + FRAME_HEADER_BYTES, encoded_bytes);
  memcpy (state->frame + PREFIX_BYTES, encoded, encoded_bytes);
  return ZSTD_decompressDCtx (state->dctx, block, BLOCK_BYTES, state->frame,
                              PREFIX_BYTES + encoded_bytes) == BLOCK_BYTES;
}

/* Parameters that every encode then uses.  false: the library refuses one. */
static bool
set_parameters (ZSTD_CCtx *cctx, int level)
{
  const struct {
    ZSTD_cParameter parameter;
    int value;
  } settings[] = {
    { ZSTD_c_compressionLevel, level }, { ZSTD_c_windowLog, BLOCK_SHIFT },
    { ZSTD_c_contentSizeFlag, 0 },      { ZSTD_c_checksumFlag, 0 },
    { ZSTD_c_dictIDFlag, 0 },
  };

  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
    if (ZSTD_isError (ZSTD_CCtx_setParameter (cctx, settings[i].parameter,
                                              settings[i].value)))
      return false;
  return true;
}

/* Encode and decode a block, so that both contexts have allocated all that
 * they ever will for blocks of this size.  It is also a proof that this
 * zstd makes the frames that we take apart: false if not.
 */
static bool
warm_up (struct zstd_state *state)
{
  uint8_t block[BLOCK_BYTES], encoded[BLOCK_BYTES], decoded[BLOCK_BYTES];
  uint32_t random = 1;
  size_t bytes;

  /* Half of it literals of 16 values; the other half a match that even the
   * fastest level, which looks at a byte in a hundred, finds.
   */
  memset (block, 0, sizeof block);
  for (size_t i = 0; i < BLOCK_BYTES / 2; i++) {
    random = random * UINT32_C (1664525) + UINT32_C (1013904223);
    block[i] = (uint8_t) (random >> 28);
  }
  bytes = compress_block (state, block, encoded, BLOCK_BYTES);
  return bytes > 0 && zstd_decode (state, encoded, bytes, decoded) &&
         memcmp (block, decoded, BLOCK_BYTES) == 0;
}

static void
zstd_free_state (void *opaque)
{
  struct zstd_state *state = opaque;

  if (state == NULL)
    return;
  ZSTD_freeCCtx (state->cctx);
  ZSTD_freeDCtx (state->dctx);
  free (state);
}

static void *
zstd_create_state (int level, size_t *bytes)
{
  struct zstd_state *state = calloc (1, sizeof *state);

  if (state == NULL)
    return NULL;
  state->cctx = ZSTD_createCCtx ();
  state->dctx = ZSTD_createDCtx ();
  if (state->cctx == NULL || state->dctx == NULL ||
      !set_parameters (state->cctx, level) || !warm_up (state)) {
    zstd_free_state (state);
    return NULL;
  }
  *bytes = sizeof *state + ZSTD_sizeof_CCtx (state->cctx) +
           ZSTD_sizeof_DCtx (state->dctx);
  return state;
}

const struct codec_ops codec_zstd_ops = {
  .name = "zstd",
  .chosen = true,
  .level_name = "LEVEL",
  .level_word = "level",
  .level_default = LEVEL_DEFAULT,
  .level_min = LEVEL_MIN,
  .level_max = LEVEL_MAX,
  .decode_needs_state = true,
  .level_in_state = true,
  .library_version = ZSTD_versionString,
  .create_state = zstd_create_state,
  .free_state = zstd_free_state,
  .encode = zstd_encode,
  .decode = zstd_decode,
};
