/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codecs: what turns a 4096-byte block into a payload and back.
 *
 *     payload = encoded bytes, then a checksum of them (checksum.h)
 *
 * One const ops table a backend, one file a backend.  Parameters (struct
 * codec_spec) are immutable and shared; what a backend must scribble on is
 * a context, private to whoever has borrowed it (context.h).
 *
 * No function here takes a lock or, but for create, allocates memory.
 */

#ifndef ZMEM_CODEC_H
#define ZMEM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_SHIFT 12
#define BLOCK_BYTES ((size_t) 1 << BLOCK_SHIFT)

/* What an entry of the block table says of a payload: 3 bits.  The values
 * are a format (a pool in a file keeps them): add, never renumber.
 */
enum codec_id {
  CODEC_RAW = 0,    /* the block itself, checksum in the entry */
  CODEC_REPEAT = 1, /* 8 bytes, repeated */
  CODEC_LZ4 = 2,
  CODEC_ZSTD = 3,
  NR_CODECS = 4,
  MAX_CODECS = 8
};

/* What the user chooses: a backend and its level. */
struct codec_spec {
  enum codec_id id; /* CODEC_RAW: do not compress */
  int level;        /* lz4: acceleration; zstd: level */
};

struct codec_ops {
  const char *name;       /* as in compress=NAME */
  bool chosen;            /* may be named in compress= */
  const char *level_name; /* "ACCEL", "LEVEL", or NULL: takes none */
  const char *level_word; /* the same in a sentence */
  int level_default, level_min, level_max;
  bool decode_needs_state;
  bool level_in_state; /* another level needs another state */
  /* Of the library behind it, to tell users; NULL: there is none. */
  const char *(*library_version) (void);

  /* Make a state for this level, everything that encode and decode touch
   * allocated.  *bytes: what it occupies.  NULL: out of memory.  The two
   * functions are NULL where a codec has no state.
   */
  void *(*create_state) (int level, size_t *bytes);
  void (*free_state) (void *state);

  /* Encode a block into at most max_bytes of `encoded`; the number of
   * bytes, or 0 where it does not fit.  NULL for raw: nothing to do.
   */
  size_t (*encode) (void *state, int level, const void *block, void *encoded,
                    size_t max_bytes);

  /* The reverse, into exactly BLOCK_BYTES.  Never reads past
   * encoded_bytes nor writes past the block, whatever the input; false if
   * the input is not an encoded block.  `state` is NULL unless
   * decode_needs_state.
   */
  bool (*decode) (void *state, const void *encoded, size_t encoded_bytes,
                  void *block);
};

/* By codec_id; NULL where there is none. */
extern const struct codec_ops *const codec_table[MAX_CODECS];

extern const struct codec_ops codec_raw_ops, codec_repeat_ops, codec_lz4_ops,
  codec_zstd_ops;

/* Parse "lz4", "lz4:4", "zstd:-3", "none".  0, or -EINVAL and in `error`
 * one sentence that says what was wrong and what would be right.
 */
extern int codec_spec_parse (const char *text, struct codec_spec *spec,
                             char *error, size_t error_bytes);
/* The reverse; the level is always written where the codec takes one. */
extern void codec_spec_print (const struct codec_spec *spec, char *text,
                              size_t text_bytes);
#define CODEC_SPEC_TEXT_BYTES 32

#endif /* ZMEM_CODEC_H */
