/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codec repeat: a block that is its first 8 bytes 512 times over.  Arrays of
 * one pointer or one double look so; a 32-bit period needs no object at all
 * (kind SAME) and does not come here.
 */

#include <config.h>

#include <string.h>

#include "codec.h"

#define PATTERN_BYTES 8

static size_t
repeat_encode (void *state, int level, const void *block, void *encoded,
               size_t max_bytes)
{
  const char *bytes = block;

  (void) state;
  (void) level;
  /* Whoever calls knows already, but a mistake here would lose data: the
   * second look costs 0.1 us on the rare block that gets this far.
   */
  if (max_bytes < PATTERN_BYTES ||
      memcmp (bytes, bytes + PATTERN_BYTES, BLOCK_BYTES - PATTERN_BYTES) != 0)
    return 0;
  memcpy (encoded, bytes, PATTERN_BYTES);
  return PATTERN_BYTES;
}

static bool
repeat_decode (void *state, const void *encoded, size_t encoded_bytes,
               void *block)
{
  char *bytes = block;

  (void) state;
  if (encoded_bytes != PATTERN_BYTES)
    return false;
  for (size_t i = 0; i < BLOCK_BYTES; i += PATTERN_BYTES)
    memcpy (bytes + i, encoded, PATTERN_BYTES);
  return true;
}

const struct codec_ops codec_repeat_ops = {
  .name = "repeat",
  .chosen = false,
  .encode = repeat_encode,
  .decode = repeat_decode,
};
