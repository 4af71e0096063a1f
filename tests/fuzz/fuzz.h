/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the fuzzers share.  Each is a function of bytes, called again and
 * again by libFuzzer, which sees which edges of the code an input has
 * reached and makes more like it.  A fuzzer takes the bytes apart with the
 * functions here, and when its oracle is wronged it says why and aborts:
 * then libFuzzer keeps the input (tests/fuzz/run.sh tells where).
 *
 * Bytes that are not there read as zero, so that every input means
 * something.  Letters choose an operation where there is one of that letter,
 * which makes seeds that people can read; all other bytes choose one, too.
 */

#ifndef ZMEM_FUZZ_H
#define ZMEM_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's entry: 0, or -1: do not keep this input. */
extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes);

struct input {
  const uint8_t *data;
  size_t left;
};

static inline uint8_t
take_byte (struct input *input)
{
  if (input->left == 0)
    return 0;
  --input->left;
  return *input->data++;
}

/* In [0, n), from two bytes. */
static inline unsigned
take_below (struct input *input, unsigned n)
{
  const unsigned high = take_byte (input);

  return (high << 8 | take_byte (input)) % n;
}

/* One of `letters`, by its letter or by chance. */
static inline char
take_letter (struct input *input, const char *letters)
{
  const uint8_t byte = take_byte (input);

  if (byte != '\0' && strchr (letters, byte) != NULL)
    return (char) byte;
  return letters[byte % strlen (letters)];
}

/* Up to `end` or the last byte, as an owned string without NUL bytes inside
 * (it ends at the first), in exactly the bytes that it needs: a sanitizer
 * sees who reads past it.
 */
static inline char *
take_string (struct input *input, char end)
{
  size_t bytes = 0;
  char *string;

  while (bytes < input->left && input->data[bytes] != (uint8_t) end)
    ++bytes;
  string = strndup ((const char *) input->data, bytes);
  if (string == NULL)
    abort ();
  bytes += bytes < input->left;
  input->data += bytes;
  input->left -= bytes;
  return string;
}

/* The oracle's verdict, with a sentence as for printf. */
#define FUZZ_CHECK(condition, ...)                                             \
  do {                                                                         \
    if (!(condition)) {                                                        \
      fprintf (stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);         \
      fprintf (stderr, __VA_ARGS__);                                           \
      putc ('\n', stderr);                                                     \
      abort ();                                                                \
    }                                                                          \
  } while (0)

#endif /* ZMEM_FUZZ_H */
