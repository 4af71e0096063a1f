/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Blocks that repeat 4 or 8 bytes from end to end.
 */

#ifndef ZMEM_SAME_FILLED_H
#define ZMEM_SAME_FILLED_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec.h"

/* Does the block repeat its first 8 bytes?  Comparing it with itself, 8
 * bytes on, is exactly that question, and memcmp asks it with the widest
 * vectors that the machine has and stops at the first difference.
 */
static inline bool
block_repeats_8_bytes (const void *block)
{
  const char *p = block;

  return memcmp (p, p + 8, BLOCK_BYTES - 8) == 0;
}

/* For such a block: are the two halves of the 8 bytes the same as well? */
static inline bool
block_repeats_4_bytes (const void *block, uint32_t *pattern)
{
  uint32_t words[2];

  memcpy (words, block, sizeof words);
  *pattern = words[0];
  return words[0] == words[1];
}

/* Fill with a pattern that starts at a block's first byte; `offset` is
 * where in the block `buf` starts.
 */
static inline void
fill_pattern (void *buf, size_t bytes, uint32_t pattern, size_t offset)
{
  char *p = buf;

  if (pattern == 0) {
    memset (p, 0, bytes);
    return;
  }
  const unsigned shift = offset % 4 * 8;
  const uint32_t rotated =
    shift == 0 ? pattern : pattern >> shift | pattern << (32 - shift);
  const uint64_t word = (uint64_t) rotated << 32 | rotated;

  static_assert (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
                 "the first byte of a word is its lowest");
  while (bytes >= sizeof word) {
    memcpy (p, &word, sizeof word);
    p += sizeof word;
    bytes -= sizeof word;
  }
  memcpy (p, &word, bytes);
}

#endif /* ZMEM_SAME_FILLED_H */
