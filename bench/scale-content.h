/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What scale-load writes, of any amount: pages of a corpus, no two of them
 * equal but where the corpus has equal pages itself.
 *
 * A block's generation, a byte, says what it holds.  1: the corpus' page of
 * the same number, if there is one.  Else a page chosen by mixing, with 4 of
 * its bytes changed by mixing; but one of a repeated 64-bit pattern stays
 * one.  0: zeros.  UNKNOWN: a write began and was not answered, or failed.
 */

#ifndef ZMEM_SCALE_CONTENT_H
#define ZMEM_SCALE_CONTENT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "bench-random.h"

#define BLOCK_BYTES 4096
#define UNKNOWN UINT8_MAX

struct corpus {
  const char *pages;
  uint64_t nr_pages;
  uint64_t seed; /* less than 2^24 */
};

/* Of one repeated 64-bit pattern. */
static inline bool
content_is_filled (const char *page)
{
  return memcmp (page, page + 8, BLOCK_BYTES - 8) == 0;
}

/* Change 4 bytes of the page. */
static inline void
content_change (char *page, uint64_t how)
{
  uint32_t word, change = (uint32_t) how | 1;
  char *at = page + (how >> 32) % (BLOCK_BYTES / sizeof word) * sizeof word;

  memcpy (&word, at, sizeof word);
  word ^= change;
  memcpy (at, &word, sizeof word);
}

/* Of a block (fewer than 2^32 of them) in a generation other than UNKNOWN. */
static inline void
content_make (const struct corpus *corpus, uint64_t block, uint8_t generation,
              char *page)
{
  const uint64_t chosen = mix (block << 8 | generation | corpus->seed << 40);

  if (generation == 0) {
    memset (page, 0, BLOCK_BYTES);
    return;
  }
  if (generation == 1 && block < corpus->nr_pages) {
    memcpy (page, corpus->pages + block * BLOCK_BYTES, BLOCK_BYTES);
    return;
  }
  memcpy (page, corpus->pages + chosen % corpus->nr_pages * BLOCK_BYTES,
          BLOCK_BYTES);
  if (!content_is_filled (page))
    content_change (page, mix (chosen));
}

/* Neither zeros nor UNKNOWN. */
static inline uint8_t
content_next (uint8_t generation)
{
  return generation >= UNKNOWN - 1 ? 2 : generation + 1;
}

#endif /* ZMEM_SCALE_CONTENT_H */
