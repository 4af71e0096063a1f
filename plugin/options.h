/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Options: key=value pairs, parsed and checked.  No nbdkit here, so that a
 * unit test and a fuzzer can call it: an error is one sentence in a buffer.
 */

#ifndef ZMEM_OPTIONS_H
#define ZMEM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"

/* Whether several threads work on one connection (hang-up.h). */
enum parallel { PARALLEL_AUTO, PARALLEL_YES, PARALLEL_NO };

struct options {
  uint64_t size_bytes;    /* 0: not given */
  uint64_t limit_bytes;   /* 0: not given; PAGES_NO_LIMIT: none */
  unsigned limit_percent; /* of memory (limit.h); 0: not given so */
  struct codec_spec codec;
  bool compact_manual;
  uint64_t compact_rate; /* bytes a second; 0: any */
  bool mlock;
  enum parallel parallel;
  char *control;      /* absolute paths, owned; NULL: none */
  char *stats_export; /* export name, owned; NULL: none */
  char *statsfile;
  unsigned stats_interval_seconds;
};

#define OPTIONS_ERROR_BYTES 512

extern void options_init (struct options *options);
extern void options_free (struct options *options);

/* Set one option.  0, or -EINVAL (-ENOMEM) and in `error` one sentence that
 * names the key, says what was wrong and what would be right.  An unknown
 * key names the nearest known one where there is one.  Of an option given
 * twice the last one counts.
 */
extern int options_set (struct options *options, const char *key,
                        const char *value, char *error, size_t error_bytes);

/* All are given: check what needs more than one of them. */
extern int options_check (const struct options *options, char *error,
                          size_t error_bytes);

/* For --help: a line or two an option. */
extern const char options_help[];

#endif /* ZMEM_OPTIONS_H */
