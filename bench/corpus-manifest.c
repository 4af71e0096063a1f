/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Pages are compressed one by one, as the store does it: nothing is kept of a
 * same-filled page but its word, which is counted as nothing here, and what
 * needs more than MAX_PAYLOAD_BYTES stays raw.
 */

#define _GNU_SOURCE

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lz4.h>
#include <zstd.h>

#include "corpus-manifest.h"
#include "corpus-strata.h"

/* What size_class_largest_compressed (alloc/) says. */
#define MAX_PAYLOAD_BYTES 4032
#define ZSTD_LEVEL 1
#define ROOM_BYTES (2 * PAGE_BYTES) /* for what grows */

/* What a codec makes of pages. */
struct outcome {
  size_t bytes, nr_raw;
};

struct row {
  size_t nr_pages;
  struct outcome lz4, zstd;
};

static void
add_payload (struct outcome *outcome, size_t bytes)
{
  const int raw = bytes > MAX_PAYLOAD_BYTES;

  outcome->bytes += raw ? PAGE_BYTES : bytes;
  outcome->nr_raw += raw;
}

static void
add_row (struct row *sum, const struct row *row)
{
  sum->nr_pages += row->nr_pages;
  sum->lz4.bytes += row->lz4.bytes;
  sum->lz4.nr_raw += row->lz4.nr_raw;
  sum->zstd.bytes += row->zstd.bytes;
  sum->zstd.nr_raw += row->zstd.nr_raw;
}

/* An error of zstd is a number above every other one: the page stays raw. */
static struct row
compress_pages (const uint8_t *pages, size_t nr_pages)
{
  static char out[ROOM_BYTES];
  ZSTD_CCtx *cctx = ZSTD_createCCtx ();
  struct row row = { .nr_pages = nr_pages };

  for (size_t n = 0; n < nr_pages; ++n) {
    const uint8_t *page = pages + n * PAGE_BYTES;

    if (is_same_filled (page))
      continue;
    add_payload (&row.lz4, LZ4_compress_default ((const char *) page, out,
                                                 PAGE_BYTES, sizeof out));
    add_payload (&row.zstd, ZSTD_compressCCtx (cctx, out, sizeof out, page,
                                               PAGE_BYTES, ZSTD_LEVEL));
  }
  ZSTD_freeCCtx (cctx);
  return row;
}

static void
print_row (FILE *fp, const char *name, const struct row *row, size_t of)
{
  const double bytes = row->nr_pages ? (double) row->nr_pages * PAGE_BYTES : 1;

  fprintf (fp, "%-10s %8zu", name, row->nr_pages);
  if (of > 0)
    fprintf (fp, " %6.2f%%", 100.0 * row->nr_pages / of);
  fprintf (fp, " %7.3f %7.3f %8zu %9zu\n", row->lz4.bytes / bytes,
           row->zstd.bytes / bytes, row->lz4.nr_raw, row->zstd.nr_raw);
}

static void
print_head (FILE *fp, uint64_t seed, size_t nr_pages)
{
  const time_t now = time (NULL);
  char date[32];

  strftime (date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", gmtime (&now));
  fprintf (fp, "corpus     %zu pages of %d bytes, %.1f MiB\n", nr_pages,
           PAGE_BYTES, (double) nr_pages / PAGES_PER_MIB);
  fprintf (fp, "seed       %" PRIu64 "\n", seed);
  fprintf (fp, "date       %s\n", date);
  fprintf (fp, "codecs     lz4 %s, zstd %s\n", LZ4_versionString (),
           ZSTD_versionString ());
  fprintf (fp, "\nThe mix.  lz4, zstd:1: what it makes of each page, of 1; "
               "raw: pages that stay.\n");
  fprintf (fp, "%-10s %8s %7s %7s %7s %8s %9s\n", "stratum", "pages", "share",
           "lz4", "zstd:1", "raw lz4", "raw zstd");
}

static void
print_mix (FILE *fp, size_t nr_pages)
{
  struct row sum = { 0 };

  for (const struct stratum *s = strata; s < strata + NR_STRATA; ++s) {
    struct row row = compress_pages (s->pages.data, s->nr_mixed);

    print_row (fp, s->name, &row, nr_pages);
    add_row (&sum, &row);
  }
  print_row (fp, "mix", &sum, nr_pages);
  fprintf (fp, "%-10s %8s %7s %7.1f %7.1f MiB\n", "payload", "", "",
           sum.lz4.bytes / 1048576.0, sum.zstd.bytes / 1048576.0);
}

static void
print_files (FILE *fp, const char *folder, size_t nr_each_pages)
{
  fprintf (fp, "\nStrata by themselves, in %s.\n", folder);
  fprintf (fp, "%-10s %8s %7s %7s %8s %9s\n", "stratum", "pages", "lz4",
           "zstd:1", "raw lz4", "raw zstd");
  for (const struct stratum *s = strata; s->real; ++s) {
    const size_t nr = s->pages.nr < nr_each_pages ? s->pages.nr : nr_each_pages;
    struct row row = compress_pages (s->pages.data, nr);

    print_row (fp, s->name, &row, 0);
  }
}

static void
print_notes (FILE *fp)
{
  fprintf (fp, "\nTaken from.  What a stratum lacks is the next one's.\n");
  for (const struct stratum *s = strata; s < strata + NR_STRATA; ++s) {
    const char *line = s->notes;

    for (size_t len; line && *line; line += len) {
      len = strchrnul (line, '\n') - line + 1;
      fprintf (fp, "%-10s %.*s", s->name, (int) len, line);
    }
  }
}

void
print_manifest (FILE *fp, uint64_t seed, const char *folder,
                size_t nr_each_pages)
{
  size_t nr_pages = 0;

  for (const struct stratum *s = strata; s < strata + NR_STRATA; ++s)
    nr_pages += s->nr_mixed;
  print_head (fp, seed, nr_pages);
  print_mix (fp, nr_pages);
  if (folder)
    print_files (fp, folder, nr_each_pages);
  print_notes (fp);
}
