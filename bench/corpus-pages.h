/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pages of a stratum, and runs of pages that could be taken.
 */

#ifndef ZMEM_CORPUS_PAGES_H
#define ZMEM_CORPUS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define PAGE_BYTES 4096
#define PAGES_PER_MIB 256

/* Neighbours compress and die alike, so real pages stay together. */
#define RUN_PAGES 8

struct pages {
  uint8_t *data; /* room for nr_wanted */
  size_t nr, nr_wanted;
  uint64_t rng_state; /* of this stratum alone */
  FILE *notes;        /* what was tried, for the manifest: pages_note */
};

/* A run of pages that could be taken: of a file, or of /proc/PID/mem. */
struct run {
  const char *path; /* borrowed */
  off_t offset;
};

struct runs {
  struct run *items;
  size_t nr, room;
};

/* calloc and realloc that end the program when there is no memory. */
void *allocate (size_t nr, size_t bytes);
void *reallocate (void *p, size_t nr, size_t bytes);

/* Once, before any page is added: so many will be at most. */
void pages_remember (size_t nr_pages);

static inline size_t
pages_lacking (const struct pages *pages)
{
  return pages->nr_wanted - pages->nr;
}

uint64_t pages_random (struct pages *pages);

/* A line of what the stratum was taken from, or why not. */
void pages_note (struct pages *pages, const char *format, ...)
  __attribute__ ((format (printf, 2, 3)));

bool is_same_filled (const uint8_t *page);

/* Whatever it holds. */
void add_page (struct pages *pages, const void *page);

/* Those of a buffer that are not same-filled and were in no stratum yet,
 * until there are enough.
 */
void add_real_pages (struct pages *pages, const uint8_t *buf, size_t bytes);

void add_run (struct runs *runs, const char *path, off_t offset);

/* A run for each RUN_PAGES of a file's whole pages. */
void add_runs_of_file (struct runs *runs, const char *path, off_t bytes);

/* Take runs in a random order until there are enough pages, and free the
 * runs.  What cannot be read (a guard page, a file that went away) is passed
 * over.
 */
void take_runs (struct pages *pages, struct runs *runs);

#endif /* ZMEM_CORPUS_PAGES_H */
