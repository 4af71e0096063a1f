/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Numbers as people read them.
 */

#include <config.h>

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "text.h"

const char *
text_size (uint64_t bytes, char text[TEXT_BYTES])
{
  static const char units[] = "KMGTPE";
  uint64_t unit_bytes = 1024, whole, tenths;
  unsigned unit = 0;

  if (bytes < 1024) {
    snprintf (text, TEXT_BYTES, "%" PRIu64 " B", bytes);
    return text;
  }
  while (units[unit + 1] != '\0' && bytes / 1024 >= unit_bytes) {
    unit_bytes *= 1024;
    ++unit;
  }
  whole = bytes / unit_bytes;
  tenths = (bytes % unit_bytes * 10 + unit_bytes / 2) / unit_bytes;
  whole += tenths / 10;
  /* What was rounded to 1024.0 is 1.0 of the next. */
  if (whole == 1024 && units[unit + 1] != '\0') {
    whole = 1;
    ++unit;
  }
  snprintf (text, TEXT_BYTES, "%" PRIu64 ".%u %ciB", whole,
            (unsigned) (tenths % 10), units[unit]);
  return text;
}

const char *
text_count (uint64_t count, char text[TEXT_BYTES])
{
  char digits[TEXT_BYTES];
  const int nr = snprintf (digits, sizeof digits, "%" PRIu64, count);
  char *to = text;
  int i;

  for (i = 0; i < nr; ++i) {
    if (i > 0 && (nr - i) % 3 == 0)
      *to++ = ',';
    *to++ = digits[i];
  }
  *to = '\0';
  return text;
}

const char *
text_ratio (uint64_t thousandths, char text[TEXT_BYTES])
{
  if (thousandths == 0)
    snprintf (text, TEXT_BYTES, "-");
  else
    snprintf (text, TEXT_BYTES, thousandths < 10000 ? "%.2fx" : "%.1fx",
              (double) thousandths / 1000);
  return text;
}

const char *
text_percent (uint64_t part, uint64_t whole, char text[TEXT_BYTES])
{
  if (whole == 0)
    snprintf (text, TEXT_BYTES, "-");
  else {
    const uint64_t rounded = text_round (1000 * (double) part / (double) whole);

    snprintf (text, TEXT_BYTES, "%" PRIu64 ".%u %%", rounded / 10,
              (unsigned) (rounded % 10));
  }
  return text;
}

const char *
text_time_us (double us, char text[TEXT_BYTES])
{
  if (us <= 0)
    snprintf (text, TEXT_BYTES, "-");
  else if (isinf (us))
    snprintf (text, TEXT_BYTES, "off scale");
  else if (us < 1000)
    snprintf (text, TEXT_BYTES, "%.3g us", us);
  else if (us < 1000 * 1000)
    snprintf (text, TEXT_BYTES, "%.3g ms", us / 1000);
  else
    snprintf (text, TEXT_BYTES, "%.4g s", us / (1000 * 1000));
  return text;
}

const char *
text_uptime (uint64_t seconds, char text[TEXT_BYTES])
{
  const uint64_t minutes = seconds / 60, hours = minutes / 60;
  const uint64_t days = hours / 24;

  if (minutes == 0)
    snprintf (text, TEXT_BYTES, "%" PRIu64 " s", seconds);
  else if (hours == 0)
    snprintf (text, TEXT_BYTES, "%" PRIu64 " min %" PRIu64 " s", minutes,
              seconds % 60);
  else if (days == 0)
    snprintf (text, TEXT_BYTES, "%" PRIu64 " h %" PRIu64 " min", hours,
              minutes % 60);
  else
    snprintf (text, TEXT_BYTES, "%" PRIu64 " d %" PRIu64 " h", days,
              hours % 24);
  return text;
}

uint64_t
text_round (double x)
{
  if (!(x > 0))
    return 0;
  return x >= 0x1p64 ? UINT64_MAX : (uint64_t) (x + 0.5);
}

void
text_make_printable (char *text)
{
  for (; *text != '\0'; ++text)
    if (*text < ' ' || *text > '~')
      *text = '?';
}

void
text_make_lines_printable (char *text)
{
  for (; *text != '\0'; ++text)
    if ((*text < ' ' || *text > '~') && *text != '\n' && *text != '\t')
      *text = '?';
}
