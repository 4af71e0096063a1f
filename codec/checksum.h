/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The checksum of a payload: the low bits of XXH3 (64 bits, no seed).
 */

#ifndef ZMEM_CHECKSUM_H
#define ZMEM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <xxhash.h>

#define CHECKSUM_BYTES 4     /* at the end of an encoded payload */
#define RAW_CHECKSUM_BITS 24 /* in the entry of a raw block */

static inline uint32_t
checksum_payload (const void *data, size_t bytes)
{
  return (uint32_t) XXH3_64bits (data, bytes);
}

static inline uint32_t
checksum_raw_block (const void *data, size_t bytes)
{
  return (uint32_t) XXH3_64bits (data, bytes) &
         ((UINT32_C (1) << RAW_CHECKSUM_BITS) - 1);
}

#endif /* ZMEM_CHECKSUM_H */
