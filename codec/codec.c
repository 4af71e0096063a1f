/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of codecs, and compress= to and from text.
 *
 * A new backend is one file with a const struct codec_ops, an id in codec.h
 * and a line in codec_table.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

const struct codec_ops *const codec_table[MAX_CODECS] = {
  [CODEC_RAW] = &codec_raw_ops,
  [CODEC_REPEAT] = &codec_repeat_ops,
  [CODEC_LZ4] = &codec_lz4_ops,
  [CODEC_ZSTD] = &codec_zstd_ops,
};

static_assert (NR_CODECS <= MAX_CODECS, "ids fit the table");

/* How much of what the user wrote an error quotes. */
#define QUOTED_BYTES 64

/* The chosen codec that the first name_bytes of `name` spell, or NR_CODECS. */
static enum codec_id
find_codec (const char *name, size_t name_bytes)
{
  for (unsigned id = 0; id < NR_CODECS; id++) {
    const struct codec_ops *ops = codec_table[id];

    if (ops->chosen && strlen (ops->name) == name_bytes &&
        memcmp (ops->name, name, name_bytes) == 0)
      return (enum codec_id) id;
  }
  return NR_CODECS;
}

/* Add to a sentence, as far as there is room. */
static void __attribute__ ((format (printf, 3, 4)))
append (char *text, size_t text_bytes, const char *format, ...)
{
  const size_t used = strnlen (text, text_bytes);
  va_list args;

  va_start (args, format);
  vsnprintf (text + used, text_bytes - used, format, args);
  va_end (args);
}

/* "... use lz4[:ACCEL], zstd[:LEVEL] or none": raw, the odd one, is last. */
static void
report_unknown (const char *text, char *error, size_t error_bytes)
{
  const char *separator = " use ";

  snprintf (error, error_bytes, "compress=%.*s: unknown codec;", QUOTED_BYTES,
            text);
  for (unsigned id = CODEC_RAW + 1; id < NR_CODECS; id++)
    if (codec_table[id]->chosen) {
      append (error, error_bytes, "%s%s[:%s]", separator, codec_table[id]->name,
              codec_table[id]->level_name);
      separator = ", ";
    }
  append (error, error_bytes, " or %s", codec_table[CODEC_RAW]->name);
}

/* A whole decimal number and nothing else: no space, no plus sign. */
static int
parse_level (const char *text, long *level)
{
  const char *digits = *text == '-' ? text + 1 : text;
  char *end;

  if (*digits < '0' || *digits > '9')
    return -EINVAL;
  /* What overflows becomes LONG_MIN or LONG_MAX, beyond every range. */
  *level = strtol (text, &end, 10);
  return *end == '\0' ? 0 : -EINVAL;
}

int
codec_spec_parse (const char *text, struct codec_spec *spec, char *error,
                  size_t error_bytes)
{
  const size_t name_bytes = strcspn (text, ":");
  const enum codec_id id = find_codec (text, name_bytes);
  const struct codec_ops *ops;
  long level;

  if (id == NR_CODECS) {
    report_unknown (text, error, error_bytes);
    return -EINVAL;
  }
  ops = codec_table[id];

  if (text[name_bytes] == '\0')
    level = ops->level_default;
  else if (ops->level_name == NULL) {
    snprintf (error, error_bytes,
              "compress=%.*s: %s takes no level; use %s alone", QUOTED_BYTES,
              text, ops->name, ops->name);
    return -EINVAL;
  }
  else if (parse_level (text + name_bytes + 1, &level) < 0) {
    snprintf (error, error_bytes,
              "compress=%.*s: the %s must be a number from %d to %d",
              QUOTED_BYTES, text, ops->level_word, ops->level_min,
              ops->level_max);
    return -EINVAL;
  }
  if (level < ops->level_min || level > ops->level_max) {
    snprintf (error, error_bytes, "compress=%.*s: the %s goes from %d to %d",
              QUOTED_BYTES, text, ops->level_word, ops->level_min,
              ops->level_max);
    return -EINVAL;
  }

  spec->id = id;
  spec->level = (int) level;
  return 0;
}

void
codec_spec_print (const struct codec_spec *spec, char *text, size_t text_bytes)
{
  const struct codec_ops *ops = codec_table[spec->id];

  if (ops->level_name == NULL)
    snprintf (text, text_bytes, "%s", ops->name);
  else
    snprintf (text, text_bytes, "%s:%d", ops->name, spec->level);
}
