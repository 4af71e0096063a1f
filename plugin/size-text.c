/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Sizes as people write and read them.
 *
 * What is read is what nbdkit_parse_size reads, so that size= here means
 * what it means to every other plugin.  What is printed has the unit's full
 * name ("1.4 GiB"), which the grammar does not take back; the error for it
 * says which letter would do.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "size-text.h"

/* Each is 1024 times the one before. */
static const char units[] = "bkmgtpe";

/* The number of bytes that a unit's letter stands for; 0: no such unit. */
static uint64_t
unit_bytes (char letter)
{
  const int lower = tolower ((unsigned char) letter);
  const char *unit;

  if (lower == 's')
    return 512;
  if (lower == '\0')
    return 1;
  unit = strchr (units, lower);
  return unit == NULL ? 0 : UINT64_C (1) << (10 * (unit - units));
}

/* Say what is wrong with what follows the digits. */
static void
explain_suffix (const char *suffix, char *error, size_t error_bytes)
{
  if (*suffix == '.' || *suffix == ',')
    snprintf (error, error_bytes,
              "a size is a whole number: take a smaller unit "
              "(1536M, not 1.5G)");
  else if (unit_bytes (*suffix) != 0)
    snprintf (error, error_bytes, "the unit of a size is one letter: %c alone",
              toupper ((unsigned char) *suffix));
  else
    snprintf (error, error_bytes,
              "no such unit of a size: K, M, G, T, P and E are, as in 1G");
}

int
size_text_parse (const char *text, uint64_t *bytes, char *error,
                 size_t error_bytes)
{
  char *suffix;
  intmax_t number;
  uint64_t scale;

  errno = 0;
  number = strtoimax (text, &suffix, 10);
  if (suffix == text) {
    snprintf (error, error_bytes,
              "not a size: give a number of bytes, or a number and one of "
              "K, M, G, T, P and E, as in 1G");
    return -EINVAL;
  }
  if (number < 0) {
    snprintf (error, error_bytes, "a size cannot be negative");
    return -EINVAL;
  }
  scale = unit_bytes (*suffix);
  if (scale == 0 || (*suffix != '\0' && suffix[1] != '\0')) {
    explain_suffix (suffix, error, error_bytes);
    return -EINVAL;
  }
  if (errno == ERANGE || (uint64_t) number > INT64_MAX / scale) {
    snprintf (error, error_bytes,
              "a size can be 8E - 1 bytes (2^63 - 1) at most");
    return -EINVAL;
  }

  *bytes = (uint64_t) number * scale;
  return 0;
}

const char *
size_text_print (uint64_t bytes, char *text, size_t text_bytes)
{
  static const char *const names[] = {
    "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
  };
  unsigned unit = 0;
  uint64_t whole = bytes, rest = 0, one, tenths;

  while (whole >= 1024) {
    rest |= (whole & 1023) << (10 * unit); /* bytes below the unit */
    whole >>= 10;
    unit++;
  }
  if (rest == 0) {
    snprintf (text, text_bytes, "%" PRIu64 " %s", whole,
              bytes == 1 ? "byte" : names[unit]);
    return text;
  }

  /* rest < one <= 2^60, hence no overflow; 1023.96 KiB becomes 1.0 MiB. */
  one = UINT64_C (1) << (10 * unit);
  tenths = whole * 10 + (rest * 10 + one / 2) / one;
  if (tenths >= 10240) {
    tenths = 10;
    unit++;
  }
  snprintf (text, text_bytes, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10,
            tenths % 10, names[unit]);
  return text;
}
