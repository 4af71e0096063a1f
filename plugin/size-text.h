/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Sizes as people write and read them.  No nbdkit here: options, the control
 * socket and their tests use it alike.
 */

#ifndef ZMEM_SIZE_TEXT_H
#define ZMEM_SIZE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Parse a size by the grammar of nbdkit_parse_size: a decimal number, then
 * nothing, or one letter of either case: b, s (512 bytes), or k m g t p e
 * (powers of 1024).  0, or -EINVAL and in `error` half a sentence, for the
 * caller to put behind what it was that had this value: what is wrong with
 * it and what would be right.
 */
extern int size_text_parse (const char *text, uint64_t *bytes, char *error,
                            size_t error_bytes);

/* "512 bytes", "1 GiB", "18.7 GiB": exact where it has no fraction, else
 * rounded to a tenth.  Returns `text`, of SIZE_TEXT_BYTES at least.
 */
extern const char *size_text_print (uint64_t bytes, char *text,
                                    size_t text_bytes);
#define SIZE_TEXT_BYTES 32

#endif /* ZMEM_SIZE_TEXT_H */
