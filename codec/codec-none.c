/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codec none: the block as it is.  compress=none names it, and every other
 * codec falls back on it for what does not compress.
 *
 * There is no encode: the payload of a raw block is the block, and whoever
 * stores it copies it from where it is (context_encode).
 */

#include <config.h>

#include <string.h>

#include "codec.h"

static bool
raw_decode (void *state, const void *encoded, size_t encoded_bytes, void *block)
{
  (void) state;
  if (encoded_bytes != BLOCK_BYTES)
    return false;
  memcpy (block, encoded, BLOCK_BYTES);
  return true;
}

const struct codec_ops codec_raw_ops = {
  .name = "none",
  .chosen = true,
  .decode = raw_decode,
};
