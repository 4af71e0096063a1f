/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codecs and payloads: what goes in comes out, every damage is -EIO, and no
 * input makes a decoder read or write where it must not.  Contexts lent and
 * rebuilt: test-context.c; compress=: test-codec-spec.c.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <lz4.h>
#include <xxhash.h>
#include <zstd.h>

#include "checksum.h"
#include "codec.h"
#include "context.h"
#include "libcheck.h"
#include "test-util.h"

#define MAX_PAYLOAD 4032
#define MAX_ENCODED (MAX_PAYLOAD - CHECKSUM_BYTES)

static struct rng rng;
static struct context_pool *pool;
static struct context *context;

/* Every backend, from one end of its range to the other. */
static const struct codec_spec specs[] = {
  { CODEC_RAW, 0 },   { CODEC_LZ4, 1 },     { CODEC_LZ4, 4 },
  { CODEC_LZ4, 17 },  { CODEC_LZ4, 65537 }, { CODEC_ZSTD, -100 },
  { CODEC_ZSTD, -5 }, { CODEC_ZSTD, -1 },   { CODEC_ZSTD, 1 },
  { CODEC_ZSTD, 3 },  { CODEC_ZSTD, 5 },    { CODEC_ZSTD, 9 },
  { CODEC_ZSTD, 13 }, { CODEC_ZSTD, 19 },   { CODEC_ZSTD, 22 },
};
#define NR_SPECS (sizeof specs / sizeof specs[0])

static void
use_codec (const struct codec_spec *spec)
{
  ck_assert_int_eq (context_pool_set_codec (pool, spec), 0);
}

static void
setup (void)
{
  rng_init (&rng, test_seed (), 0);
  ck_assert_int_eq (context_pool_create (1, MAX_PAYLOAD, &pool), 0);
  use_codec (&specs[0]);
  context = NULL;
}

static void
teardown (void)
{
  context_pool_destroy (pool);
}

/* A page, or less, that ends where the next byte is a fault. */
static uint8_t *
map_guarded_page (void)
{
  uint8_t *map =
    mmap (NULL, 3 * BLOCK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  ck_assert_ptr_ne (map, MAP_FAILED);
  ck_assert_int_eq (mprotect (map + BLOCK_BYTES, BLOCK_BYTES,
                              PROT_READ | PROT_WRITE),
                    0);
  return map + BLOCK_BYTES;
}

/* The next page of what this program is made of: real code and tables. */
static void
make_program_block (uint8_t *block)
{
  static uint8_t *image;
  static size_t nr_pages, next;

  if (image == NULL) {
    const int fd = open ("/proc/self/exe", O_RDONLY);
    const off_t bytes = lseek (fd, 0, SEEK_END);

    ck_assert_int_ge (fd, 0);
    ck_assert_int_ge (bytes, BLOCK_BYTES);
    nr_pages = (size_t) bytes / BLOCK_BYTES;
    image = malloc (nr_pages * BLOCK_BYTES);
    ck_assert_ptr_nonnull (image);
    ck_assert_int_eq (pread (fd, image, nr_pages * BLOCK_BYTES, 0),
                      nr_pages * BLOCK_BYTES);
    close (fd);
  }
  memcpy (block, image + next++ % nr_pages * BLOCK_BYTES, BLOCK_BYTES);
}

static void
make_periodic_block (uint8_t *block, size_t period)
{
  rng_fill (&rng, block, period);
  for (size_t i = period; i < BLOCK_BYTES; i++)
    block[i] = block[i - period];
}

/* Case i of NR_CASES kinds of blocks. */
#define NR_CASES (NR_CONTENTS + 4)
static void
make_case (unsigned i, uint8_t *block)
{
  static const size_t periods[] = { 3, 5, 8, 100, 511, 1001, 2048, 4095 };

  switch (i) {
  case NR_CONTENTS: /* zeros and one byte */
    memset (block, 0, BLOCK_BYTES);
    block[rng_below (&rng, BLOCK_BYTES)] = 1 + rng_below (&rng, 255);
    break;
  case NR_CONTENTS + 1:
    make_periodic_block (block, periods[rng_below (&rng, 8)]);
    break;
  case NR_CONTENTS + 2:
    make_program_block (block);
    break;
  case NR_CONTENTS + 3: /* four bits a byte: no matches, coding only */
    rng_fill (&rng, block, BLOCK_BYTES);
    for (size_t j = 0; j < BLOCK_BYTES; j++)
      block[j] &= 0x5a;
    break;
  default:
    make_block (&rng, (enum content) i, block);
  }
}

static bool
is_repeat64 (const uint8_t *block)
{
  return memcmp (block, block + 8, BLOCK_BYTES - 8) == 0;
}

/* What the store does: encode, keep the bytes elsewhere, decode from there,
 * but with guards around both.
 */
static void
check_round_trip (const uint8_t *block, struct payload *payload,
                  uint8_t *stored_page, uint8_t *decoded)
{
  uint8_t *stored;

  context_encode (context, 3, block, is_repeat64 (block), payload);
  ck_assert_uint_gt (payload->bytes, 0);
  if (payload->codec == CODEC_RAW) {
    ck_assert_uint_eq (payload->bytes, BLOCK_BYTES);
    ck_assert_ptr_eq (payload->data, block);
    ck_assert_uint_eq (payload->checksum >> RAW_CHECKSUM_BITS, 0);
  }
  else {
    ck_assert_uint_le (payload->bytes, MAX_PAYLOAD);
    ck_assert_ptr_eq (payload->data, context->scratch[3]);
  }

  stored = stored_page + BLOCK_BYTES - payload->bytes;
  memcpy (stored, payload->data, payload->bytes);
  memset (decoded, 0xee, BLOCK_BYTES);
  ck_assert_int_eq (payload_decode (context, payload->codec, stored,
                                    payload->bytes, payload->checksum, decoded),
                    0);
  ck_assert_mem_eq (decoded, block, BLOCK_BYTES);
  payload->data = stored;
}

START_TEST (test_round_trip)
{
  const struct codec_spec *spec = &specs[_i];
  const unsigned nr_rounds = spec->level > 8 && spec->id == CODEC_ZSTD ? 4
                             : test_quick ()                           ? 20
                                                                       : 200;
  uint8_t *stored = map_guarded_page (), *decoded = map_guarded_page ();
  uint8_t block[BLOCK_BYTES];
  struct payload payload;

  use_codec (spec);
  context = context_borrow (pool);
  ck_assert_int_eq (context->spec.id, spec->id);
  for (unsigned round = 0; round < nr_rounds; round++)
    for (unsigned i = 0; i < NR_CASES; i++) {
      make_case (i, block);
      check_round_trip (block, &payload, stored, decoded);
      if (is_repeat64 (block))
        ck_assert_int_eq (payload.codec, CODEC_REPEAT);
      else if (spec->id == CODEC_RAW || i == CONTENT_RANDOM)
        ck_assert_int_eq (payload.codec, CODEC_RAW);
      else
        ck_assert (payload.codec == CODEC_RAW || payload.codec == spec->id);
    }
  context_return (pool, context);
}
END_TEST

static uint32_t
payload_bytes_of (const uint8_t *block)
{
  struct payload payload;

  context_encode (context, 0, block, false, &payload);
  return payload.bytes;
}

/* Blocks shrink as they should, so that "raw, always" is no codec. */
START_TEST (test_sizes)
{
  static const struct {
    struct codec_spec spec;
    unsigned max_text, max_zeros, max_nibbles;
  } cases[] = {
    { { CODEC_RAW, 0 }, 4096, 4096, 4096 },
    { { CODEC_LZ4, 1 }, 3400, 40, 4096 },
    { { CODEC_ZSTD, -1 }, 3000, 40, 4096 },
    { { CODEC_ZSTD, 1 }, 2400, 40, 2300 },
    { { CODEC_ZSTD, 19 }, 2300, 40, 2300 },
  };
  uint8_t block[BLOCK_BYTES];

  use_codec (&cases[_i].spec);
  context = context_borrow (pool);
  make_text_block (&rng, 0, block);
  ck_assert_uint_le (payload_bytes_of (block), cases[_i].max_text);
  make_case (NR_CONTENTS + 3, block);
  ck_assert_uint_le (payload_bytes_of (block), cases[_i].max_nibbles);
  memset (block, 0, BLOCK_BYTES);
  block[1234] = 5;
  ck_assert_uint_le (payload_bytes_of (block), cases[_i].max_zeros);
  rng_fill (&rng, block, BLOCK_BYTES);
  ck_assert_uint_eq (payload_bytes_of (block), BLOCK_BYTES);
  context_return (pool, context);
}
END_TEST

START_TEST (test_repeat64)
{
  uint8_t block[BLOCK_BYTES], decoded[BLOCK_BYTES];
  struct payload payload;

  use_codec (&specs[_i]);
  context = context_borrow (pool);
  make_block (&rng, CONTENT_PATTERN64, block);
  context_encode (context, 15, block, true, &payload);
  ck_assert_int_eq (payload.codec, CODEC_REPEAT);
  ck_assert_uint_eq (payload.bytes, 8 + CHECKSUM_BYTES);
  ck_assert_int_eq (payload_decode (NULL, CODEC_REPEAT, payload.data,
                                    payload.bytes, 0, decoded),
                    0);
  ck_assert_mem_eq (block, decoded, BLOCK_BYTES);

  /* Who says so wrongly loses nothing. */
  block[BLOCK_BYTES - 1] ^= 1;
  context_encode (context, 15, block, true, &payload);
  ck_assert_int_ne (payload.codec, CODEC_REPEAT);
  ck_assert_int_eq (payload_decode (context, payload.codec, payload.data,
                                    payload.bytes, payload.checksum, decoded),
                    0);
  ck_assert_mem_eq (block, decoded, BLOCK_BYTES);
  context_return (pool, context);
}
END_TEST

/* An encoder keeps within max_bytes: the next byte is a fault. */
START_TEST (test_encode_bound)
{
  const struct codec_spec *spec = &specs[_i];
  const struct codec_ops *ops = codec_table[spec->id];
  const unsigned step = spec->level > 8 ? 509 : test_quick () ? 67 : 7;
  uint8_t *page = map_guarded_page ();
  uint8_t block[BLOCK_BYTES], decoded[BLOCK_BYTES];

  use_codec (spec);
  context = context_borrow (pool);
  for (unsigned i = 0; ops->encode && i < NR_CASES; i++) {
    void *state = context->states[spec->id];

    make_case (i, block);
    for (size_t max_bytes = 1; max_bytes <= BLOCK_BYTES; max_bytes += step) {
      uint8_t *encoded = page + BLOCK_BYTES - max_bytes;
      const size_t bytes =
        ops->encode (state, spec->level, block, encoded, max_bytes);

      ck_assert_uint_le (bytes, max_bytes);
      if (bytes > 0) {
        ck_assert (ops->decode (state, encoded, bytes, decoded));
        ck_assert_mem_eq (block, decoded, BLOCK_BYTES);
      }
    }
  }
  context_return (pool, context);
}
END_TEST

/* Make a payload of this codec, in memory of its own size. */
static uint8_t *
make_payload (enum codec_id id, struct payload *payload)
{
  uint8_t block[BLOCK_BYTES], *copy;

  if (id == CODEC_REPEAT)
    make_block (&rng, CONTENT_PATTERN64, block);
  else
    make_text_block (&rng, rng_below (&rng, 40), block);
  context_encode (context, 0, block, id == CODEC_REPEAT, payload);
  ck_assert_int_eq (payload->codec, id);
  copy = malloc (payload->bytes);
  ck_assert_ptr_nonnull (copy);
  memcpy (copy, payload->data, payload->bytes);
  return copy;
}

static int
decode (const struct payload *payload, const uint8_t *data)
{
  uint8_t block[BLOCK_BYTES];

  return payload_decode (context, payload->codec, data, payload->bytes,
                         payload->checksum, block);
}

/* No 24 bits tell all flips of a raw block apart, one in 16.8 million is not
 * seen: no other is let pass.
 */
static bool
is_same_checksum (const struct payload *payload, const uint8_t *data)
{
  return payload->codec == CODEC_RAW &&
         XXH3_64bits (data, payload->bytes) % (1 << 24) == payload->checksum;
}

/* Every single bit, of the payload, its checksum and the entry's. */
START_TEST (test_flipped_bits)
{
  const struct codec_spec spec = {
    _i == CODEC_REPEAT ? CODEC_LZ4 : (enum codec_id) _i,
    1,
  };
  const unsigned nr_rounds = test_quick () ? 1 : 4;
  struct payload payload;

  use_codec (&spec);
  context = context_borrow (pool);
  for (unsigned round = 0; round < nr_rounds; round++) {
    uint8_t *data = make_payload ((enum codec_id) _i, &payload);

    for (size_t bit = 0; bit < payload.bytes * 8; bit++) {
      data[bit / 8] ^= (uint8_t) (1 << bit % 8);
      if (decode (&payload, data) != -EIO)
        ck_assert_msg (is_same_checksum (&payload, data), "bit %zu", bit);
      data[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
    for (unsigned bit = 0; _i == CODEC_RAW && bit < RAW_CHECKSUM_BITS; bit++) {
      payload.checksum ^= UINT32_C (1) << bit;
      ck_assert_int_eq (decode (&payload, data), -EIO);
      payload.checksum ^= UINT32_C (1) << bit;
    }
    ck_assert_int_eq (decode (&payload, data), 0);
    free (data);
  }
  context_return (pool, context);
}
END_TEST

START_TEST (test_wrong_length)
{
  const struct codec_spec spec = {
    _i == CODEC_REPEAT ? CODEC_LZ4 : (enum codec_id) _i,
    1,
  };
  struct payload payload;
  uint8_t *data, *padded = malloc (2 * BLOCK_BYTES);

  ck_assert_ptr_nonnull (padded);
  use_codec (&spec);
  context = context_borrow (pool);
  data = make_payload ((enum codec_id) _i, &payload);
  rng_fill (&rng, padded, 2 * BLOCK_BYTES);
  memcpy (padded, data, payload.bytes);

  const uint32_t right_bytes = payload.bytes;
  for (payload.bytes = 0; payload.bytes <= 2 * BLOCK_BYTES; payload.bytes++)
    ck_assert_int_eq (decode (&payload, padded),
                      payload.bytes == right_bytes ? 0 : -EIO);
  free (padded);
  free (data);
  context_return (pool, context);
}
END_TEST

START_TEST (test_wrong_codec)
{
  const struct codec_spec zstd = { CODEC_ZSTD, 1 };
  struct payload payload;
  uint8_t *data, block[BLOCK_BYTES];

  use_codec (&zstd);
  context = context_borrow (pool);
  data = make_payload (CODEC_ZSTD, &payload);
  for (unsigned id = 0; id < 2 * MAX_CODECS; id++) {
    payload.codec = (enum codec_id) id;
    ck_assert_int_eq (decode (&payload, data), id == CODEC_ZSTD ? 0 : -EIO);
  }
  ck_assert_int_eq (payload_decode (NULL, CODEC_ZSTD, data, payload.bytes, 0,
                                    block),
                    -EAGAIN);
  ck_assert (codec_decode_needs_context (CODEC_ZSTD));
  ck_assert (!codec_decode_needs_context (CODEC_LZ4));
  free (data);
  context_return (pool, context);
}
END_TEST

/* Encoded bytes, a few of them changed, or bytes out of nowhere. */
static size_t
make_garbage (const struct codec_ops *ops, void *state, uint8_t *encoded)
{
  uint8_t block[BLOCK_BYTES];
  size_t bytes = 0;

  if (!rng_once_in (&rng, 4)) {
    make_case (rng_below (&rng, NR_CASES), block);
    bytes = ops->encode (state, 1, block, encoded, MAX_ENCODED);
  }
  if (bytes == 0) {
    bytes = rng_size (&rng, BLOCK_BYTES);
    rng_fill (&rng, encoded, bytes);
    return bytes;
  }
  for (unsigned n = rng_size (&rng, 32); n > 0; n--)
    encoded[rng_below (&rng, bytes)] ^= (uint8_t) rng_between (&rng, 1, 255);
  if (rng_once_in (&rng, 4))
    bytes = rng_between (&rng, 1, bytes);
  return bytes;
}

/* With no checksum in front: a decoder keeps to its input and its block
 * whatever it is given; what lies beyond either is a fault.
 */
START_TEST (test_garbage)
{
  const struct codec_spec spec = { (enum codec_id) _i, 1 };
  const struct codec_ops *ops = codec_table[_i];
  const unsigned nr_rounds = test_short () ? 5000 : 100000;
  uint8_t *page = map_guarded_page (), *block = map_guarded_page ();
  uint8_t encoded[BLOCK_BYTES];
  unsigned nr_refused = 0;

  use_codec (&spec);
  context = context_borrow (pool);
  for (unsigned round = 0; round < nr_rounds; round++) {
    void *state = context->states[_i];
    const size_t bytes = make_garbage (ops, state, encoded);
    uint8_t *at_end = page + BLOCK_BYTES - bytes;

    memcpy (at_end, encoded, bytes);
    nr_refused += !ops->decode (state, at_end, bytes, block);
    memcpy (page, encoded, bytes);
    ops->decode (state, page, bytes, block);
  }
  ck_assert_uint_gt (nr_refused, nr_rounds / 4);
  ck_assert (!ops->decode (context->states[_i], page, 0, block));
  context_return (pool, context);
}
END_TEST

/* Encode text of any length, as the backends would. */
static size_t
encode_bytes (enum codec_id id, const uint8_t *text, size_t bytes,
              uint8_t *encoded, size_t max_bytes)
{
  const size_t frame_bytes = 9; /* in front of the first block's content */
  uint8_t frame[8192];
  size_t n;

  if (id == CODEC_LZ4)
    return (size_t) LZ4_compress_default ((const char *) text, (char *) encoded,
                                          (int) bytes, (int) max_bytes);
  ZSTD_CCtx *cctx = ZSTD_createCCtx ();
  ck_assert_ptr_nonnull (cctx);
  ZSTD_CCtx_setParameter (cctx, ZSTD_c_contentSizeFlag, 0);
  n = ZSTD_compress2 (cctx, frame, sizeof frame, text, bytes);
  ck_assert (!ZSTD_isError (n) && n > frame_bytes);
  ZSTD_freeCCtx (cctx);
  memcpy (encoded, frame + frame_bytes, n - frame_bytes);
  return n - frame_bytes;
}

/* What is well encoded, but no block, is no block. */
START_TEST (test_not_a_block)
{
  const struct codec_spec spec = { (enum codec_id) _i, 1 };
  const struct codec_ops *ops = codec_table[_i];
  uint8_t text[2 * BLOCK_BYTES], encoded[2 * BLOCK_BYTES];
  uint8_t *block = map_guarded_page ();

  use_codec (&spec);
  context = context_borrow (pool);
  make_text_block (&rng, 0, text);
  make_text_block (&rng, 0, text + BLOCK_BYTES);
  for (size_t bytes = BLOCK_BYTES - 100; bytes <= BLOCK_BYTES + 100; bytes++) {
    const size_t n =
      encode_bytes ((enum codec_id) _i, text, bytes, encoded, sizeof encoded);

    ck_assert_int_eq (ops->decode (context->states[_i], encoded, n, block),
                      bytes == BLOCK_BYTES);
  }
  rng_fill (&rng, encoded, sizeof encoded);
  for (size_t n = BLOCK_BYTES; n <= 2 * BLOCK_BYTES; n += BLOCK_BYTES / 4)
    ck_assert (!ops->decode (context->states[_i], encoded, n, block));
  context_return (pool, context);
}
END_TEST

/* A run of what does not compress is looked at only; what follows it and
 * does compress is seen, at once or, where the look is blind, within 16.
 */
START_TEST (test_incompressible_run)
{
  const struct codec_spec spec = { CODEC_ZSTD, _i };
  uint8_t block[BLOCK_BYTES];
  unsigned nr_raw;

  use_codec (&spec);
  context = context_borrow (pool);
  for (unsigned i = 0; i < NR_CASES; i++) {
    for (unsigned n = rng_between (&rng, 1, 100); n > 0; n--) {
      rng_fill (&rng, block, BLOCK_BYTES);
      ck_assert_uint_eq (payload_bytes_of (block), BLOCK_BYTES);
    }
    if (i == CONTENT_RANDOM || i == CONTENT_NEAR)
      memcpy (block + 2048, block, 2048);
    else
      make_case (i, block);
    if (i == NR_CONTENTS + 1)
      make_periodic_block (block, 1000);
    if (i != CONTENT_PATTERN32 && i != CONTENT_ZERO && i != CONTENT_TEXT)
      ck_assert_uint_lt (payload_bytes_of (block), BLOCK_BYTES);
  }

  rng_fill (&rng, block, BLOCK_BYTES);
  ck_assert_uint_eq (payload_bytes_of (block), BLOCK_BYTES);
  nr_raw = 0;
  for (unsigned i = 0; i < 100; i++) {
    /* Words repeat out of step with the sample, bytes beside it. */
    make_periodic_block (block, 2048 + 33);
    nr_raw += payload_bytes_of (block) == BLOCK_BYTES;
  }
  ck_assert_uint_le (nr_raw, 15);
  context_return (pool, context);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("codec");
  TCase *tcase = tcase_create ("codec");
  SRunner *runner;
  int nr_failed;

  test_start ("test-codec");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, setup, teardown);
  tcase_add_loop_test (tcase, test_round_trip, 0, NR_SPECS);
  tcase_add_loop_test (tcase, test_sizes, 0, 5);
  tcase_add_loop_test (tcase, test_repeat64, 0, NR_SPECS);
  tcase_add_loop_test (tcase, test_encode_bound, 0, NR_SPECS);
  tcase_add_loop_test (tcase, test_flipped_bits, 0, NR_CODECS);
  tcase_add_loop_test (tcase, test_wrong_length, 0, NR_CODECS);
  tcase_add_test (tcase, test_wrong_codec);
  tcase_add_loop_test (tcase, test_garbage, CODEC_REPEAT, NR_CODECS);
  tcase_add_loop_test (tcase, test_not_a_block, CODEC_LZ4, NR_CODECS);
  tcase_add_loop_test (tcase, test_incompressible_run, 1, 4);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
