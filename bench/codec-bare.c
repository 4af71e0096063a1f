/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the codecs' libraries take for the pages of a corpus, and nothing
 * else: no checksum, no choice of what to store.
 *
 *   codec-bare CORPUS
 *
 * A line of JSON a codec: microseconds of processor time a page, the mean of
 * all pages in a random order (the least of NR_PASSES), and the mean of the
 * encoded bytes, 4096 where a page does not shrink.  What a server pays on
 * top of this is its own; its clients' requests come in a random order, too,
 * so a page to be decoded comes from memory; one to be encoded has just been
 * received and is in the cache.  Link with -llz4 -lzstd.
 */

#include <config.h>

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <zstd.h>

#include "bench-clock.h"
#include "bench-corpus.h"
#include "bench-random.h"

#define PAGE_BYTES 4096
#define SLOT_BYTES 8192 /* no encoded page is longer */
#define NR_PASSES 3

struct bare_codec {
  const char *name;
  int (*encode) (const char *page, char *encoded);
  int (*decode) (const char *encoded, int bytes, char *page);
};

static const char *corpus;
static uint32_t nr_pages;
static uint32_t *order;
static char *slots;
static int *slot_bytes;

static LZ4_stream_t lz4_state;
static ZSTD_CCtx *zstd_cctx;
static ZSTD_DCtx *zstd_dctx;

static int
encode_lz4 (const char *page, char *encoded)
{
  return LZ4_compress_fast_extState (&lz4_state, page, encoded, PAGE_BYTES,
                                     SLOT_BYTES, 1);
}

static int
decode_lz4 (const char *encoded, int bytes, char *page)
{
  return LZ4_decompress_safe (encoded, page, bytes, PAGE_BYTES);
}

static int
encode_zstd (const char *page, char *encoded)
{
  return ZSTD_compressCCtx (zstd_cctx, encoded, SLOT_BYTES, page, PAGE_BYTES,
                            1);
}

static int
decode_zstd (const char *encoded, int bytes, char *page)
{
  return ZSTD_decompressDCtx (zstd_dctx, page, PAGE_BYTES, encoded, bytes);
}

static const struct bare_codec codecs[] = {
  { "lz4:1", encode_lz4, decode_lz4 },
  { "zstd:1", encode_zstd, decode_zstd },
};

static double
processor_us (void)
{
  return read_clock_ns (CLOCK_PROCESS_CPUTIME_ID) / 1e3;
}

/* encode == NULL: what it takes to bring the pages into the cache. */
static double
encode_all (int (*encode) (const char *page, char *encoded))
{
  static char page[PAGE_BYTES];
  const double start = processor_us ();

  for (uint32_t i = 0; i < nr_pages; ++i) {
    memcpy (page, corpus + (size_t) order[i] * PAGE_BYTES, PAGE_BYTES);
    __asm__ volatile("" ::"r"(page) : "memory");
    if (encode)
      slot_bytes[order[i]] =
        encode (page, slots + (size_t) order[i] * SLOT_BYTES);
  }
  return processor_us () - start;
}

static double
decode_all (int (*decode) (const char *encoded, int bytes, char *page))
{
  static char page[PAGE_BYTES];
  const double start = processor_us ();

  for (uint32_t i = 0; i < nr_pages; ++i)
    if (decode (slots + (size_t) order[i] * SLOT_BYTES, slot_bytes[order[i]],
                page) != PAGE_BYTES)
      errx (EXIT_FAILURE, "page %u came back different", order[i]);
  return processor_us () - start;
}

static void
keep_least (double *least, double value)
{
  if (*least == 0 || value < *least)
    *least = value;
}

static void
measure (const struct bare_codec *codec)
{
  double encode = 0, copy = 0, decode = 0;
  uint64_t bytes = 0;

  for (unsigned pass = 0; pass < NR_PASSES; ++pass) {
    keep_least (&copy, encode_all (NULL));
    keep_least (&encode, encode_all (codec->encode));
    keep_least (&decode, decode_all (codec->decode));
  }
  for (uint32_t i = 0; i < nr_pages; ++i)
    bytes += slot_bytes[i] < PAGE_BYTES ? slot_bytes[i] : PAGE_BYTES;
  printf ("{\"type\": \"codec\", \"name\": \"%s\", \"encode_us\": %.3f, "
          "\"decode_us\": %.3f, \"bytes\": %.1f}\n",
          codec->name, (encode - copy) / nr_pages, decode / nr_pages,
          (double) bytes / nr_pages);
}

int
main (int argc, char *argv[])
{
  uint64_t rng_state = 1;
  uint64_t nr;

  if (argc != 2) {
    fprintf (stderr, "usage: codec-bare CORPUS\n");
    return 2;
  }
  corpus = map_pages (argv[1], &nr);
  nr_pages = nr;
  order = calloc (nr_pages, sizeof *order);
  slot_bytes = calloc (nr_pages, sizeof *slot_bytes);
  slots = malloc ((size_t) nr_pages * SLOT_BYTES);
  zstd_cctx = ZSTD_createCCtx ();
  zstd_dctx = ZSTD_createDCtx ();
  if (order == NULL || slot_bytes == NULL || slots == NULL ||
      zstd_cctx == NULL || zstd_dctx == NULL)
    err (EXIT_FAILURE, "%s", argv[1]);
  shuffle (order, nr_pages, &rng_state);
  for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; ++i)
    measure (&codecs[i]);
  return 0;
}
