/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Values of options: what is none ends the program with one sentence and
 * status 2.
 */

#ifndef ZMEM_BENCH_OPTIONS_H
#define ZMEM_BENCH_OPTIONS_H

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SECONDS 1e6

/* Decimal. */
static inline uint64_t
parse_number (const char *option, const char *text, uint64_t least,
              uint64_t most)
{
  const bool digits = text[strspn (text, "0123456789")] == '\0';
  uint64_t number;

  errno = 0;
  number = strtoull (text, NULL, 10);
  if (*text == '\0' || !digits || errno != 0 || number < least || number > most)
    errx (2, "--%s takes a number from %" PRIu64 " to %" PRIu64 ", not \"%s\"",
          option, least, most, text);
  return number;
}

static inline double
parse_seconds (const char *option, const char *text)
{
  const bool digits = text[strspn (text, "0123456789.")] == '\0';
  char *end;
  const double number = strtod (text, &end);

  if (!digits || end == text || *end != '\0' || !(number > 0) ||
      number > MAX_SECONDS)
    errx (2,
          "--%s takes a number above 0 and up to %.0f, such as 0.5, "
          "not \"%s\"",
          option, MAX_SECONDS, text);
  return number;
}

#endif /* ZMEM_BENCH_OPTIONS_H */
