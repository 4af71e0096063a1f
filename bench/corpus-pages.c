/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Real pages are taken once and are not same-filled, so that the shares of
 * the strata "duplicate" and "same" are what they say.
 */

#define _GNU_SOURCE

#include <err.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench-random.h"
#include "corpus-pages.h"

static uint64_t *seen_hashes; /* open addressing; 0 is empty */
static size_t nr_seen_slots;

void *
allocate (size_t nr, size_t bytes)
{
  return memset (reallocate (NULL, nr, bytes), 0, nr * bytes);
}

void *
reallocate (void *p, size_t nr, size_t bytes)
{
  p = reallocarray (p, nr ? nr : 1, bytes);
  if (p == NULL)
    err (EXIT_FAILURE, "realloc");
  return p;
}

void
pages_remember (size_t nr_pages)
{
  nr_seen_slots = 2 * nr_pages + 1;
  seen_hashes = allocate (nr_seen_slots, sizeof *seen_hashes);
}

uint64_t
pages_random (struct pages *pages)
{
  return rng (&pages->rng_state);
}

void
pages_note (struct pages *pages, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vfprintf (pages->notes, format, args);
  va_end (args);
  putc ('\n', pages->notes);
}

bool
is_same_filled (const uint8_t *page)
{
  return memcmp (page, page + 8, PAGE_BYTES - 8) == 0;
}

static uint64_t
hash_page (const uint8_t *page)
{
  uint64_t hash = 1, word;

  for (size_t i = 0; i < PAGE_BYTES; i += sizeof word) {
    memcpy (&word, page + i, sizeof word);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return hash ? hash : 1;
}

/* Remember a page; true if it was there before. */
static bool
is_seen_before (const uint8_t *page)
{
  uint64_t hash = hash_page (page);
  size_t i;

  for (i = hash % nr_seen_slots; seen_hashes[i]; i = (i + 1) % nr_seen_slots)
    if (seen_hashes[i] == hash)
      return true;
  seen_hashes[i] = hash;
  return false;
}

void
add_page (struct pages *pages, const void *page)
{
  memcpy (pages->data + pages->nr++ * PAGE_BYTES, page, PAGE_BYTES);
}

void
add_real_pages (struct pages *pages, const uint8_t *buf, size_t bytes)
{
  for (size_t i = 0; i + PAGE_BYTES <= bytes && pages_lacking (pages);
       i += PAGE_BYTES)
    if (!is_same_filled (buf + i) && !is_seen_before (buf + i))
      add_page (pages, buf + i);
}

void
add_run (struct runs *runs, const char *path, off_t offset)
{
  if (runs->nr == runs->room) {
    runs->room = runs->room ? 2 * runs->room : 1024;
    runs->items = reallocate (runs->items, runs->room, sizeof *runs->items);
  }
  runs->items[runs->nr++] = (struct run) { path, offset };
}

void
add_runs_of_file (struct runs *runs, const char *path, off_t bytes)
{
  for (off_t at = 0; at + PAGE_BYTES <= bytes; at += RUN_PAGES * PAGE_BYTES)
    add_run (runs, path, at);
}

void
take_runs (struct pages *pages, struct runs *runs)
{
  static uint8_t buf[RUN_PAGES * PAGE_BYTES];

  while (runs->nr > 0 && pages_lacking (pages)) {
    struct run *pick = &runs->items[pages_random (pages) % runs->nr];
    struct run run = *pick;
    int fd = open (run.path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes;

    *pick = runs->items[--runs->nr];
    if (fd == -1)
      continue;
    bytes = pread (fd, buf, sizeof buf, run.offset);
    close (fd);
    if (bytes > 0)
      add_real_pages (pages, buf, bytes);
  }
  free (runs->items);
  *runs = (struct runs) { 0 };
}
