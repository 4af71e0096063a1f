/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Bars made of characters.
 */

#include <config.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bar.h"

static void
print_times (const char *piece, uint64_t nr, FILE *out)
{
  while (nr-- > 0)
    fputs (piece, out);
}

void
bar_print (uint64_t filled, uint64_t rest, bool utf8, FILE *out)
{
  print_times (utf8 ? "\u2588" : "#", filled, out);
  print_times (utf8 ? "\u2591" : ".", rest, out);
}

#define NR_LEVELS 8

void
bar_print_parts (const uint64_t *parts, unsigned nr, uint64_t whole, bool utf8,
                 FILE *out)
{
  static const char *const blocks[NR_LEVELS] = {
    "\u2581", "\u2582", "\u2583", "\u2584",
    "\u2585", "\u2586", "\u2587", "\u2588",
  };
  static const char *const ascii[NR_LEVELS] = {
    ".", ":", "-", "=", "+", "*", "#", "@",
  };
  unsigned i;

  for (i = 0; i < nr; ++i) {
    const double share = whole == 0 ? 0 : (double) parts[i] / (double) whole;
    const unsigned level =
      share < 1 ? (unsigned) (share * NR_LEVELS) : NR_LEVELS - 1;

    if (parts[i] == 0)
      putc (' ', out);
    else
      fputs (utf8 ? blocks[level] : ascii[level], out);
  }
}
