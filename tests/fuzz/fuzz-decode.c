/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Payloads decoded that were damaged in memory, or that nobody encoded.
 *
 *     [codec] [how] ...
 *       's'   the rest is the payload, as it is
 *       'c'   the rest is the payload, but for its checksum, which is right
 *       'd'   the block that the rest makes is encoded, damaged by the
 *             bytes behind it, and decoded
 *       'f'   the same with the checksum made right again, so that the
 *             codec itself gets to see the damage
 *
 * The payload ends where a page that nobody may read begins, and so does the
 * block: the libraries are not instrumented, and a read or a write past
 * either is a SIGSEGV nevertheless.
 *
 * The oracle: 0 or -EIO, and -EIO whenever the checksum is not that of the
 * bytes; what was not damaged comes back as it was.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include <xxhash.h>

#include "context.h"
#include "fuzz.h"
#include "pages.h"

#define MAX_DAMAGES 16

static struct context_pool *contexts;
static uint8_t *payload_end, *block;

/* `nr` pages with one before and one behind that are not mapped. */
static uint8_t *
map_guarded (size_t nr)
{
  uint8_t *p = mmap (NULL, (nr + 2) * PAGE_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED ||
      mprotect (p + PAGE_BYTES, nr * PAGE_BYTES, PROT_READ | PROT_WRITE) == -1)
    abort ();
  return p + PAGE_BYTES;
}

static void
prepare (void)
{
  static const struct codec_spec specs[] = { { CODEC_ZSTD, 1 },
                                             { CODEC_LZ4, 1 } };

  if (contexts != NULL)
    return;
  payload_end = map_guarded (2) + 2 * PAGE_BYTES;
  block = map_guarded (1);
  /* The second keeps what decodes the first. */
  if (context_pool_create (1, BLOCK_BYTES - 1, &contexts) < 0 ||
      context_pool_set_codec (contexts, &specs[0]) < 0 ||
      context_pool_set_codec (contexts, &specs[1]) < 0)
    abort ();
}

static bool
checksum_is_right (enum codec_id codec, const uint8_t *data, size_t bytes,
                   uint32_t raw_checksum)
{
  uint32_t stored;

  if (codec == CODEC_RAW)
    return bytes == BLOCK_BYTES &&
           (XXH3_64bits (data, bytes) & 0xffffff) == raw_checksum;
  if (bytes < sizeof stored)
    return false;
  memcpy (&stored, data + bytes - sizeof stored, sizeof stored);
  return (uint32_t) XXH3_64bits (data, bytes - sizeof stored) == stored;
}

/* At the right place, with every context that there can be. */
static int
decode (enum codec_id codec, const uint8_t *data, size_t bytes,
        uint32_t raw_checksum)
{
  struct context *context;
  int r, without;

  memmove (payload_end - bytes, data, bytes);
  memset (block, 0xa5, BLOCK_BYTES);
  without = payload_decode (NULL, codec, payload_end - bytes, bytes,
                            raw_checksum, block);
  context = context_borrow (contexts);
  r = payload_decode (context, codec, payload_end - bytes, bytes, raw_checksum,
                      block);
  context_return (contexts, context);

  FUZZ_CHECK (r == 0 || r == -EIO, "codec %d gave %d", (int) codec, r);
  FUZZ_CHECK (without == r || without == -EAGAIN, "%d without a context",
              without);
  FUZZ_CHECK (r == -EIO || checksum_is_right (codec, data, bytes, raw_checksum),
              "codec %d: damage to %zu bytes was not seen", (int) codec, bytes);
  return r;
}

/*--- What nobody encoded. ---*/

static void
decode_stranger (enum codec_id codec, const struct input *input, bool right)
{
  uint8_t data[BLOCK_BYTES + 64];
  size_t bytes = input->left;
  uint32_t checksum;

  if (bytes > sizeof data - sizeof checksum)
    bytes = sizeof data - sizeof checksum;
  memcpy (data, input->data, bytes);
  checksum = (uint32_t) XXH3_64bits (data, bytes);
  if (right && codec != CODEC_RAW) {
    memcpy (data + bytes, &checksum, sizeof checksum);
    bytes += sizeof checksum;
  }
  decode (codec, data, bytes, checksum & 0xffffff);
}

/*--- What was encoded. ---*/

/* Bytes of the input, again and again with a counter in between, so that a
 * few of them are a block that compresses.
 */
static void
make_block (struct input *input, uint8_t made[BLOCK_BYTES])
{
  const unsigned period = 1 + take_below (input, BLOCK_BYTES);
  const uint8_t step = take_byte (input);
  struct input all = *input;

  for (unsigned i = 0; i < BLOCK_BYTES; ++i) {
    made[i] = i < period ? take_byte (&all) : made[i - period];
    if (i % period == 0)
      made[i] = (uint8_t) (made[i] + step);
  }
}

static bool
repeats_64 (const uint8_t made[BLOCK_BYTES])
{
  return memcmp (made, made + 8, BLOCK_BYTES - 8) == 0;
}

/* Bytes changed, and now and then some cut off.  Returns how many are left.
 */
static size_t
damage (struct input *input, uint8_t *data, size_t bytes)
{
  for (unsigned nr = take_byte (input) % MAX_DAMAGES; nr > 0; --nr) {
    const unsigned at = take_below (input, (unsigned) bytes);
    const uint8_t how = take_byte (input);

    if (how == 'x' && bytes > 8)
      bytes -= at % (bytes - 8);
    else
      data[at % bytes] ^= how;
  }
  return bytes;
}

static void
decode_damaged (enum codec_id codec, struct input *input, bool mend)
{
  const struct codec_spec spec = { codec, codec_table[codec]->level_default };
  uint8_t made[BLOCK_BYTES], data[BLOCK_BYTES];
  struct payload payload;
  struct context *context;
  uint32_t checksum;
  size_t bytes;

  if (codec != CODEC_REPEAT && context_pool_set_codec (contexts, &spec) < 0)
    abort ();
  make_block (input, made);
  context = context_borrow (contexts);
  context_encode (context, 0, made, repeats_64 (made), &payload);
  bytes = payload.bytes;
  memcpy (data, payload.data, bytes);
  context_return (contexts, context);

  FUZZ_CHECK (decode (payload.codec, data, bytes, payload.checksum) == 0,
              "codec %d, undamaged", (int) payload.codec);
  FUZZ_CHECK (memcmp (block, made, BLOCK_BYTES) == 0, "codec %d gave %s",
              (int) payload.codec, "another block");
  bytes = damage (input, data, bytes);
  if (mend && payload.codec != CODEC_RAW) {
    checksum = (uint32_t) XXH3_64bits (data, bytes - sizeof checksum);
    memcpy (data + bytes - sizeof checksum, &checksum, sizeof checksum);
  }
  decode (payload.codec, data, bytes, payload.checksum);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes)
{
  static const char codecs[] = "nrlz"; /* none, repeat, lz4, zstd */
  struct input input = { data, bytes };
  const char letter = take_letter (&input, codecs);
  const enum codec_id codec =
    (enum codec_id) (strchr (codecs, letter) - codecs);
  const char how = take_letter (&input, "scdf");

  prepare ();
  if (how == 's' || how == 'c')
    decode_stranger (codec, &input, how == 'c');
  else
    decode_damaged (codec, &input, how == 'f');
  return 0;
}
