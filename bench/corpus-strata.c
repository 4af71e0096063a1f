/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each stratum has random numbers of its own and files come before memory, so
 * what the memory of programs happens to be has no influence on file strata:
 * but on libs, which takes what memory lacks and so comes after it.  Its
 * pages are a longer or shorter piece of the same sequence then.
 */

#define _GNU_SOURCE

#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "bench-random.h"
#include "corpus-database.h"
#include "corpus-files.h"
#include "corpus-made.h"
#include "corpus-memory.h"
#include "corpus-strata.h"

static void take_duplicates (struct pages *pages);
static void take_same (struct pages *pages);

/* Real pages, copies of them, made pages: in this order.  packages never
 * lack: no other stratum may become incompressible in another's place.
 */
struct stratum strata[NR_STRATA] = {
  { "packages", take_packages, 8, RUN_PAGES, true, 0, { 0 }, NULL },
  { "ext4", take_ext4, 7, RUN_PAGES, true, 0, { 0 }, NULL },
  { "database", take_database, 6, RUN_PAGES, true, 0, { 0 }, NULL },
  { "sources", take_sources, 8, RUN_PAGES, true, 0, { 0 }, NULL },
  { "cc1", take_compiler, 16, RUN_PAGES, true, 0, { 0 }, NULL },
  { "python", take_python, 19, RUN_PAGES, true, 0, { 0 }, NULL },
  { "node", take_node, 15, RUN_PAGES, true, 0, { 0 }, NULL },
  { "libs", take_libraries, 12, RUN_PAGES, true, 0, { 0 }, NULL },
  { "duplicate", take_duplicates, 2, 1, false, 0, { 0 }, NULL },
  { "same", take_same, 7, 1, false, 0, { 0 }, NULL },
};

/* Copies of real pages of the mix. */
static void
take_duplicates (struct pages *pages)
{
  size_t nr_real = 0;

  for (const struct stratum *s = strata; s->real; ++s)
    nr_real += s->nr_mixed;
  pages_note (pages, "copies of pages above");
  while (pages_lacking (pages)) {
    const struct stratum *s = strata;
    size_t n = pages_random (pages) % nr_real;

    for (; n >= s->nr_mixed; ++s)
      n -= s->nr_mixed;
    add_page (pages, s->pages.data + n * PAGE_BYTES);
  }
}

/* Of ten: seven of zeros, two of a 32-bit period, one of 64 bits. */
static void
take_same (struct pages *pages)
{
  uint64_t page[PAGE_BYTES / 8];

  pages_note (pages, "one 64-bit period a page; of ten, seven of zeros");
  for (size_t n = 0; pages_lacking (pages); ++n) {
    uint64_t word = n % 10 < 7 ? 0 : pages_random (pages);

    if (n % 10 < 9)
      word = (word >> 32) * UINT64_C (0x100000001);
    for (size_t i = 0; i < PAGE_BYTES / 8; ++i)
      page[i] = word;
    add_page (pages, page);
  }
}

/* nr_mixed pages are due; returns how many of them lack. */
static size_t
take_stratum (struct stratum *s, size_t nr_each_pages, uint64_t seed)
{
  const size_t due = s->nr_mixed;
  size_t notes_bytes;

  s->pages.nr_wanted = s->real && nr_each_pages > due ? nr_each_pages : due;
  s->pages.data = allocate (s->pages.nr_wanted, PAGE_BYTES);
  s->pages.rng_state = mix (seed * NR_STRATA + (s - strata) + 1);
  s->pages.notes = open_memstream (&s->notes, &notes_bytes);
  if (s->pages.notes == NULL)
    err (EXIT_FAILURE, "open_memstream");
  if (s->pages.nr_wanted > 0)
    s->take (&s->pages);
  fclose (s->pages.notes);
  s->nr_mixed = s->pages.nr < due ? s->pages.nr : due;
  return due - s->nr_mixed;
}

void
take_strata (size_t nr_mix_pages, size_t nr_each_pages, uint64_t seed)
{
  size_t lacking = 0, due_before = 0;
  unsigned percent = 0;

  pages_remember (nr_mix_pages + NR_STRATA * nr_each_pages);
  for (struct stratum *s = strata; s < strata + NR_STRATA; ++s) {
    size_t due;

    /* Rounded so that all of them are the whole. */
    percent += s->share_percent;
    due = nr_mix_pages * percent / 100;
    s->nr_mixed = due - due_before + lacking;
    due_before = due;
    lacking = take_stratum (s, nr_each_pages, seed);
    if (lacking && !(s + 1)->real)
      errx (EXIT_FAILURE, "too few pages on this machine: %zu short", lacking);
  }
}

void
free_strata (void)
{
  for (struct stratum *s = strata; s < strata + NR_STRATA; ++s) {
    free (s->pages.data);
    free (s->notes);
  }
}
