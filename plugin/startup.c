/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * From options to a disk.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "codec.h"
#include "limit.h"
#include "options.h"
#include "pages.h"
#include "size-text.h"
#include "startup.h"
#include "store.h"

/* Room for a size and why it is that. */
#define LIMIT_SENTENCE_BYTES (SIZE_TEXT_BYTES + LIMIT_TEXT_BYTES + 32)

/* The limit, and what to say of it: "18.7 GiB (80 % of physical memory)". */
static int
choose_limit (const struct options *options, uint64_t *limit_bytes, char *text,
              size_t text_bytes, char *error, size_t error_bytes)
{
  unsigned percent = options->limit_percent;
  struct memory_bound bound;
  char size[SIZE_TEXT_BYTES];
  int r;

  *limit_bytes = options->limit_bytes;
  if (options->limit_bytes == PAGES_NO_LIMIT) {
    snprintf (text, text_bytes, "none");
    return 0;
  }
  if (options->limit_bytes > 0) {
    size_text_print (options->limit_bytes, text, text_bytes);
    return 0;
  }

  r = memory_bound_find ("", &bound);
  if (r < 0) {
    snprintf (error, error_bytes,
              "limit=: cannot tell how much memory there is "
              "(/proc/meminfo, control groups: %s): give a size, as in "
              "limit=1G",
              strerror (-r));
    return r;
  }
  if (percent == 0)
    percent = memory_bound_default_percent (&bound);
  *limit_bytes = memory_bound_percent (&bound, percent);
  snprintf (text, text_bytes, "%s (%u %% of %s)",
            size_text_print (*limit_bytes, size, sizeof size), percent,
            bound.text);
  return 0;
}

/* Would so much do for an empty disk? */
static int
check_limit (const struct store_params *params, const char *limit_text,
             char *error, size_t error_bytes)
{
  const uint64_t min_bytes = store_min_bytes (params);
  char min[SIZE_TEXT_BYTES];

  if (params->limit_bytes >= min_bytes)
    return 0;
  snprintf (error, error_bytes,
            "limit=: %s is too little, for an empty disk takes up to %s "
            "(limit=%" PRIu64 ")",
            limit_text, size_text_print (min_bytes, min, sizeof min),
            min_bytes);
  return -EINVAL;
}

int
startup_create_store (const struct options *options, struct store **ret,
                      char *summary, size_t summary_bytes, char *error,
                      size_t error_bytes)
{
  struct store_params params = {
    .size_bytes = options->size_bytes,
    .codec = options->codec,
    .reserve = options->mlock,
    .compact_manual = options->compact_manual,
    .compact_rate = options->compact_rate,
  };
  char limit[LIMIT_SENTENCE_BYTES];
  char size[SIZE_TEXT_BYTES], codec[CODEC_SPEC_TEXT_BYTES];
  int r;

  size_text_print (options->size_bytes, size, sizeof size);
  r = choose_limit (options, &params.limit_bytes, limit, sizeof limit, error,
                    error_bytes);
  if (r == 0)
    r = check_limit (&params, limit, error, error_bytes);
  if (r < 0)
    return r;

  r = store_create (&params, ret);
  if (r < 0) {
    snprintf (error, error_bytes,
              "size=: cannot get address space for a disk of %s: %s (some six "
              "times its size is reserved, without memory: see ulimit -v, "
              "ulimit -d, and vm.overcommit_memory, which must not be 2)",
              size, strerror (-r));
    return r;
  }

  codec_spec_print (&options->codec, codec, sizeof codec);
  snprintf (summary, summary_bytes, "%s disk, compress=%s, limit %s", size,
            codec, limit);
  return 0;
}
