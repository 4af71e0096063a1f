/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * How large should a zspage be?  Asked of real payload sizes.
 *
 *   zspage-survey [--seed N] [--churn TIMES] CORPUS
 *
 * Compresses each 4 KiB page of a corpus with lz4 and with zstd:1, then fills
 * a simulated pool with the payloads, for each codec and each way to cut
 * memory into classes, and counts pages:
 *
 *   division Z     class k: floor (Z / k) bytes, rounded down to 16;
 *                  pages become resident as the fill reaches them, in batches
 *                  of clamp (touched pages of the class / 128, 1, 32)
 *   zsmalloc 8     the kernel's: sizes 16 bytes apart, 1 to 8 pages a zspage,
 *                  whichever wastes least, like classes merged; a zspage is
 *                  resident at once and as a whole.  Its 8-byte handle and
 *                  metadata are left out: this flatters it.
 *
 *   payload   encoded page + 4 bytes of checksum; same-filled pages have none;
 *             what the largest class below 4096 cannot take is raw, 4096
 *   L         sum of payloads, each rounded up to 16
 *   resident  = L + classes + tail
 *   classes   slots larger than payloads, and the rest of a full zspage that
 *             makes no slot
 *   tail      pages touched ahead of what is used
 *
 * Allocation is from the fullest zspage of the class that has room, lowest
 * slot first.  After the fill, `churn` times the number of pages are
 * overwritten, each by the payload of a page drawn at random (the new object
 * is there before the old one goes), and then a random half is freed.  Two
 * numbers for each: `whole` gives back a zspage when its last object goes;
 * `purge` gives back also each page that no object touches.  Nothing moves:
 * what compaction adds comes on top.
 *
 * Link with -llz4 -lzstd.  What it printed: docs/ALLOCATOR.
 */

#define _GNU_SOURCE

#include <assert.h>
#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lz4.h>
#include <zstd.h>

#include "bench-corpus.h"

#define PAGE_BYTES 4096
#define ALIGN 16
#define CHECKSUM_BYTES 4
#define DESCRIPTOR_BYTES 64
#define MAX_CLASSES 256
#define MAX_BATCH 32

struct class {
  uint32_t object_bytes, nr_objects;
  uint32_t zspage_pages;
  bool whole; /* resident at once: zsmalloc */
  size_t nr_touched_pages;
  struct zspage *zspages; /* list */
};

struct zspage {
  struct zspage *next, **link;
  struct class *class;
  uint32_t nr_inuse;
  uint32_t nr_touched_pages; /* from its low end */
  uint32_t lowest_free;      /* no free slot lies below */
  bool inuse[];
};

struct object {
  struct zspage *zspage; /* NULL: none */
  uint32_t slot;
  uint32_t bytes; /* rounded up to ALIGN */
};

struct pool {
  const char *name;
  size_t zspage_bytes; /* 0: zsmalloc */
  struct class classes[MAX_CLASSES];
  unsigned nr_classes;
  uint32_t largest_compressed;
};

struct account {
  size_t payload_bytes; /* L */
  size_t whole_bytes, purge_bytes;
  size_t class_bytes; /* part of resident that the classes cost */
  size_t metadata_bytes;
};

static uint64_t rng_state;

static uint64_t
rng (void)
{
  uint64_t z = (rng_state += 0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static void *
allocate (size_t nr, size_t bytes)
{
  void *p = calloc (nr, bytes);

  if (p == NULL)
    err (EXIT_FAILURE, "calloc");
  return p;
}

static size_t
round_up (size_t n, size_t unit)
{
  return (n + unit - 1) / unit * unit;
}

/*--- Classes, smallest first. ---*/

static void
make_classes_by_division (struct pool *pool)
{
  const uint32_t z = pool->zspage_bytes;

  /* The largest k of those that give one size. */
  for (uint32_t size = ALIGN; size <= PAGE_BYTES; size += ALIGN) {
    uint32_t k = z / size;

    if (z / k / ALIGN * ALIGN != size)
      continue;
    pool->classes[pool->nr_classes++] = (struct class) {
      .object_bytes = size,
      .nr_objects = k,
      .zspage_pages = z / PAGE_BYTES,
    };
  }
}

static void
make_classes_of_zsmalloc (struct pool *pool)
{
  struct class *up = NULL; /* of the next larger size */
  struct class *classes = pool->classes;

  for (uint32_t size = PAGE_BYTES; size >= 2 * ALIGN; size -= ALIGN) {
    uint32_t pages = 1, least = UINT32_MAX, nr;

    for (uint32_t i = 1; i <= 8; ++i)
      if (i * PAGE_BYTES % size < least) {
        least = i * PAGE_BYTES % size;
        pages = i;
      }
    nr = pages * PAGE_BYTES / size;
    if (up && up->zspage_pages == pages && up->nr_objects == nr)
      continue; /* merged: the larger size serves */
    up = &classes[pool->nr_classes++];
    *up = (struct class) {
      .object_bytes = size,
      .nr_objects = nr,
      .zspage_pages = pages,
      .whole = true,
    };
  }
  for (unsigned i = 0; i < pool->nr_classes / 2; ++i) {
    struct class swap = classes[i];

    classes[i] = classes[pool->nr_classes - 1 - i];
    classes[pool->nr_classes - 1 - i] = swap;
  }
}

static void
make_classes (struct pool *pool)
{
  if (pool->zspage_bytes)
    make_classes_by_division (pool);
  else
    make_classes_of_zsmalloc (pool);
  pool->largest_compressed = pool->classes[pool->nr_classes - 2].object_bytes;
}

static struct class *
find_class (struct pool *pool, uint32_t bytes)
{
  unsigned low = 0, high = pool->nr_classes - 1;

  while (low < high) {
    unsigned middle = (low + high) / 2;

    if (pool->classes[middle].object_bytes < bytes)
      low = middle + 1;
    else
      high = middle;
  }
  return &pool->classes[low];
}

/*--- Objects. ---*/

static struct zspage *
make_zspage (struct class *class)
{
  struct zspage *zspage =
    allocate (1, sizeof *zspage + class->nr_objects * sizeof (bool));

  zspage->class = class;
  zspage->next = class->zspages;
  zspage->link = &class->zspages;
  if (zspage->next)
    zspage->next->link = &zspage->next;
  class->zspages = zspage;
  return zspage;
}

static void
release_zspage (struct zspage *zspage)
{
  zspage->class->nr_touched_pages -= zspage->nr_touched_pages;
  *zspage->link = zspage->next;
  if (zspage->next)
    zspage->next->link = zspage->link;
  free (zspage);
}

static struct zspage *
find_fullest (struct class *class)
{
  struct zspage *best = NULL;

  for (struct zspage *z = class->zspages; z; z = z->next)
    if (z->nr_inuse < class->nr_objects &&
        (best == NULL || z->nr_inuse > best->nr_inuse))
      best = z;
  return best;
}

static void
touch_pages (struct zspage *zspage, uint32_t nr_needed)
{
  struct class *class = zspage->class;
  size_t batch = class->nr_touched_pages / 128;
  size_t nr = nr_needed;

  if (nr <= zspage->nr_touched_pages)
    return;
  batch = batch < 1 ? 1 : batch > MAX_BATCH ? MAX_BATCH : batch;
  if (nr < zspage->nr_touched_pages + batch)
    nr = zspage->nr_touched_pages + batch;
  if (class->whole || nr > class->zspage_pages)
    nr = class->zspage_pages;
  class->nr_touched_pages += nr - zspage->nr_touched_pages;
  zspage->nr_touched_pages = nr;
}

/* bytes: 0 for a page that needs no object. */
static struct object
allocate_object (struct pool *pool, uint32_t bytes)
{
  struct object object = { NULL, 0, 0 };
  struct zspage *zspage;
  struct class *class;

  if (bytes == 0)
    return object;
  if (bytes > pool->largest_compressed)
    bytes = PAGE_BYTES;
  class = find_class (pool, bytes);
  zspage = find_fullest (class);
  if (zspage == NULL)
    zspage = make_zspage (class);
  object.bytes = round_up (bytes, ALIGN);
  object.zspage = zspage;
  for (object.slot = zspage->lowest_free; zspage->inuse[object.slot];)
    object.slot++;
  assert (object.slot < class->nr_objects);
  zspage->inuse[object.slot] = true;
  zspage->lowest_free = object.slot + 1;
  zspage->nr_inuse++;
  touch_pages (zspage,
               round_up ((object.slot + 1) * class->object_bytes, PAGE_BYTES) /
                 PAGE_BYTES);
  return object;
}

static void
free_object (struct object *object)
{
  struct zspage *zspage = object->zspage;

  if (zspage == NULL)
    return;
  zspage->inuse[object->slot] = false;
  if (object->slot < zspage->lowest_free)
    zspage->lowest_free = object->slot;
  if (--zspage->nr_inuse == 0)
    release_zspage (zspage);
  *object = (struct object) { NULL, 0, 0 };
}

/*--- Counting. ---*/

/* Pages that an object touches. */
static uint32_t
count_used_pages (const struct zspage *zspage)
{
  const uint32_t size = zspage->class->object_bytes;
  uint32_t nr = 0, next = 0; /* pages below `next` are counted */

  for (uint32_t slot = 0; slot < zspage->class->nr_objects; ++slot) {
    uint32_t first = slot * size / PAGE_BYTES;
    uint32_t end = round_up ((slot + 1) * size, PAGE_BYTES) / PAGE_BYTES;

    if (!zspage->inuse[slot])
      continue;
    nr += end - (first > next ? first : next);
    next = end;
  }
  return nr;
}

static struct account
count_pool (const struct pool *pool, const struct object *objects, size_t nr)
{
  struct account a = { 0 };

  for (size_t i = 0; i < nr; ++i) {
    a.payload_bytes += objects[i].bytes;
    if (objects[i].zspage)
      a.class_bytes +=
        objects[i].zspage->class->object_bytes - objects[i].bytes;
  }
  for (unsigned c = 0; c < pool->nr_classes; ++c) {
    const struct class *class = &pool->classes[c];

    for (const struct zspage *z = class->zspages; z; z = z->next) {
      a.whole_bytes += (size_t) z->nr_touched_pages * PAGE_BYTES;
      a.purge_bytes += (size_t) count_used_pages (z) * PAGE_BYTES;
      a.metadata_bytes += DESCRIPTOR_BYTES + class->nr_objects * 4 +
                          round_up (class->nr_objects, 64) / 8;
      if (z->nr_inuse == class->nr_objects)
        a.class_bytes += (size_t) z->nr_touched_pages * PAGE_BYTES -
                         (size_t) class->nr_objects * class->object_bytes;
    }
  }
  return a;
}

static double
percent_above (size_t bytes, size_t payload_bytes)
{
  return 100.0 * bytes / payload_bytes - 100;
}

static double
mib (size_t bytes)
{
  return bytes / 1048576.0;
}

static void
survey (struct pool *pool, const char *codec, const uint16_t *sizes,
        size_t nr_pages, double churn)
{
  struct object *objects = allocate (nr_pages, sizeof *objects);
  struct account fresh, churned, halved;

  make_classes (pool);
  for (size_t i = 0; i < nr_pages; ++i)
    objects[i] = allocate_object (pool, sizes[i]);
  fresh = count_pool (pool, objects, nr_pages);

  for (size_t n = churn * nr_pages; n > 0; --n) {
    size_t i = rng () % nr_pages;
    struct object new = allocate_object (pool, sizes[rng () % nr_pages]);

    free_object (&objects[i]);
    objects[i] = new;
  }
  churned = count_pool (pool, objects, nr_pages);

  for (size_t i = nr_pages; i > 1; --i) {
    size_t j = rng () % i;
    struct object swap = objects[i - 1];

    objects[i - 1] = objects[j];
    objects[j] = swap;
  }
  for (size_t i = 0; i < nr_pages / 2; ++i)
    free_object (&objects[i]);
  halved = count_pool (pool, objects, nr_pages);

  printf ("%-6s %-14s %4u  %6.2f %6.2f  %5.2f %5.2f %5.2f  %5.2f  "
          "%6.2f %6.1f %6.1f  %6.2f %6.1f %6.1f\n",
          codec, pool->name, pool->nr_classes, mib (fresh.payload_bytes),
          mib (fresh.whole_bytes),
          percent_above (fresh.whole_bytes, fresh.payload_bytes),
          100.0 * fresh.class_bytes / fresh.payload_bytes,
          percent_above (fresh.whole_bytes - fresh.class_bytes,
                         fresh.payload_bytes),
          100.0 * fresh.metadata_bytes / fresh.payload_bytes,
          mib (churned.payload_bytes),
          percent_above (churned.whole_bytes, churned.payload_bytes),
          percent_above (churned.purge_bytes, churned.payload_bytes),
          mib (halved.payload_bytes),
          percent_above (halved.whole_bytes, halved.payload_bytes),
          percent_above (halved.purge_bytes, halved.payload_bytes));

  for (size_t i = 0; i < nr_pages; ++i)
    free_object (&objects[i]);
  free (objects);
}

/*--- Payloads. ---*/

static bool
is_same_filled (const char *page)
{
  return memcmp (page, page + 8, PAGE_BYTES - 8) == 0;
}

static void
measure_payloads (const char *corpus, size_t nr_pages, uint16_t *lz4,
                  uint16_t *zstd)
{
  static char out[2 * PAGE_BYTES];
  ZSTD_CCtx *cctx = ZSTD_createCCtx ();

  for (size_t i = 0; i < nr_pages; ++i) {
    const char *page = corpus + i * PAGE_BYTES;

    lz4[i] = zstd[i] = 0;
    if (is_same_filled (page))
      continue;
    lz4[i] =
      CHECKSUM_BYTES + LZ4_compress_default (page, out, PAGE_BYTES, sizeof out);
    zstd[i] = CHECKSUM_BYTES +
              ZSTD_compressCCtx (cctx, out, sizeof out, page, PAGE_BYTES, 1);
  }
  ZSTD_freeCCtx (cctx);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "seed", required_argument, NULL, 's' },
    { "churn", required_argument, NULL, 'c' },
    { NULL, 0, NULL, 0 },
  };
  static const struct pool shapes[] = {
    { .name = "zsmalloc 8" },
    { .name = "division 64K", .zspage_bytes = 64 << 10 },
    { .name = "division 256K", .zspage_bytes = 256 << 10 },
    { .name = "division 1M", .zspage_bytes = 1 << 20 },
  };
  static struct pool pool;
  uint64_t seed = 1;
  double churn = 2;
  const char *corpus;
  uint64_t nr_pages;
  uint16_t *sizes[2];
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 's':
      seed = strtoull (optarg, NULL, 0);
      break;
    case 'c':
      churn = strtod (optarg, NULL);
      break;
    default:
      optind = argc;
    }
  if (optind + 1 != argc) {
    fprintf (stderr, "usage: zspage-survey [--seed N] [--churn TIMES] "
                     "CORPUS\n");
    return 2;
  }
  corpus = map_pages (argv[optind], &nr_pages);
  sizes[0] = allocate (nr_pages, sizeof **sizes);
  sizes[1] = allocate (nr_pages, sizeof **sizes);
  measure_payloads (corpus, nr_pages, sizes[0], sizes[1]);

  printf ("%-6s %-14s %4s  %6s %6s  %5s %5s %5s  %5s  %6s %6s %6s  "
          "%6s %6s %6s\n",
          "", "", "", "L", "resid.", "above", "class", "tail", "meta",
          "churned", "whole", "purge", "halved", "whole", "purge");
  printf ("%-6s %-14s %4s  %6s %6s  %5s %5s %5s  %5s  %6s %6s %6s  "
          "%6s %6s %6s\n",
          "codec", "zspages", "nr", "MiB", "MiB", "%", "%", "%", "%", "L MiB",
          "%", "%", "L MiB", "%", "%");
  for (unsigned i = 0; i < 2; ++i)
    for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; ++s) {
      rng_state = seed;
      pool = shapes[s];
      survey (&pool, i == 0 ? "lz4" : "zstd:1", sizes[i], nr_pages, churn);
    }
  free (sizes[0]);
  free (sizes[1]);
  return EXIT_SUCCESS;
}
