/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The probe; see probe.h.
 *
 *     range   | base ... base + bytes |      one a reserve
 *     bits    a bit a page: resident, as far as the probe was told
 *
 * Guard: mutex for the list of ranges; the bits are atomic.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "probe.h"
#include "test-util.h"

#define MAX_RANGES 64

struct range {
  char *base; /* NULL: free */
  size_t bytes;
  char *active_start, *active_end;
  _Atomic uint64_t *bits;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct range ranges[MAX_RANGES];

static _Atomic uint64_t nr_calls[NR_PROBE_KINDS];
static _Atomic uint64_t fail_at[NR_PROBE_KINDS]; /* 0: never */
static atomic_bool fail_always[NR_PROBE_KINDS];
static _Atomic uint64_t nr_failed;
static _Atomic uint64_t watched_limit;
static _Atomic uint64_t nr_resident; /* bytes, by the probe's account */

/* What this thread's last populate left half done. */
static _Thread_local char *failed_start, *failed_end;

const char *const probe_kind_names[NR_PROBE_KINDS] = {
  [PROBE_RESERVE] = "reserve",
  [PROBE_ACTIVATE] = "activate",
  [PROBE_POPULATE] = "populate",
  [PROBE_PURGE] = "purge",
};

static bool
must_fail (enum probe_kind kind)
{
  const uint64_t nr = atomic_fetch_add (&nr_calls[kind], 1) + 1;

  if (nr != atomic_load (&fail_at[kind]) && !atomic_load (&fail_always[kind]))
    return false;
  atomic_fetch_add (&nr_failed, 1);
  return true;
}

/* A copy of the range that holds [addr, addr + bytes); base NULL: none. */
static struct range
find_range (const char *addr, size_t bytes, const char *what)
{
  struct range found = { .base = NULL };

  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i)
    if (ranges[i].base != NULL && addr >= ranges[i].base &&
        addr + bytes <= ranges[i].base + ranges[i].bytes)
      found = ranges[i];
  pthread_mutex_unlock (&mutex);
  if (found.base == NULL)
    test_note_failure ("%s of %zu bytes outside of what was reserved", what,
                       bytes);
  else if ((uintptr_t) addr % PAGE_BYTES != 0 || bytes % PAGE_BYTES != 0 ||
           bytes == 0)
    test_note_failure ("%s of %zu bytes that are no whole pages", what, bytes);
  return found;
}

/* Set or clear the bits of a range's pages; how many were not so before. */
static size_t
mark_pages (const struct range *range, const char *addr, size_t bytes,
            bool resident)
{
  const size_t first = (size_t) (addr - range->base) / PAGE_BYTES;
  const size_t end = first + bytes / PAGE_BYTES;
  size_t nr_changed = 0;

  for (size_t page = first, nr; page < end; page += nr) {
    const unsigned shift = page % 64;
    _Atomic uint64_t *word = &range->bits[page / 64];
    uint64_t bits, before;

    nr = end - page < 64 - shift ? end - page : 64 - shift;
    bits = UINT64_MAX >> (64 - nr) << shift;
    before =
      resident ? ~atomic_fetch_or (word, bits) : atomic_fetch_and (word, ~bits);
    nr_changed += (size_t) __builtin_popcountll (before & bits);
  }
  return nr_changed;
}

static void
check_limit (struct pages *pages, uint64_t resident)
{
  const uint64_t limit = atomic_load (&watched_limit);
  const uint64_t held = pages_held (pages);

  if (limit == 0)
    return;
  if (held > limit)
    test_note_failure ("held is %" PRIu64 ", limit %" PRIu64, held, limit);
  if (resident > limit)
    test_note_failure ("%" PRIu64 " bytes resident, limit %" PRIu64, resident,
                       limit);
}

static int
probe_reserve (struct pages *pages, size_t bytes, void **addr)
{
  int r;

  if (must_fail (PROBE_RESERVE))
    return -ENOMEM;
  if (bytes == 0 || bytes % PAGE_BYTES != 0)
    test_note_failure ("reserve of %zu bytes", bytes);
  r = pages_anonymous.reserve (pages, bytes, addr);
  if (r < 0)
    return r;

  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i)
    if (ranges[i].base == NULL) {
      ranges[i] = (struct range) {
        .base = *addr,
        .bytes = bytes,
        .bits = calloc (bytes / PAGE_BYTES / 64 + 1, sizeof (uint64_t)),
      };
      if (ranges[i].bits == NULL)
        abort ();
      break;
    }
    else if (i == MAX_RANGES - 1)
      test_note_failure ("more than %d ranges reserved", MAX_RANGES);
  pthread_mutex_unlock (&mutex);
  return 0;
}

static int
probe_activate (struct pages *pages, void *addr, size_t bytes)
{
  const struct range found = find_range (addr, bytes, "activate");
  char *const start = addr;

  if (must_fail (PROBE_ACTIVATE))
    return -ENOMEM;
  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i)
    if (ranges[i].base != NULL && ranges[i].base == found.base) {
      if (ranges[i].active_start == NULL || start < ranges[i].active_start)
        ranges[i].active_start = start;
      if (start + bytes > ranges[i].active_end)
        ranges[i].active_end = start + bytes;
    }
  pthread_mutex_unlock (&mutex);
  return pages_anonymous.activate (pages, addr, bytes);
}

/* Half of the pages come, then none is left. */
static int
populate_half (struct pages *pages, const struct range *range, char *addr,
               size_t bytes)
{
  const size_t half = bytes / PAGE_BYTES / 2 * PAGE_BYTES;

  if (half > 0 && pages_anonymous.populate (pages, addr, half) == 0)
    atomic_fetch_add (&nr_resident,
                      mark_pages (range, addr, half, true) * PAGE_BYTES);
  failed_start = addr;
  failed_end = addr + bytes;
  return -ENOMEM;
}

static int
probe_populate (struct pages *pages, void *addr, size_t bytes)
{
  const struct range range = find_range (addr, bytes, "populate");
  size_t nr_new;
  int r;

  if (range.base == NULL)
    return -ENOMEM;
  if ((char *) addr < range.active_start ||
      (char *) addr + bytes > range.active_end)
    test_note_failure ("populate of what was not activated");
  if (must_fail (PROBE_POPULATE))
    return populate_half (pages, &range, addr, bytes);

  nr_new = mark_pages (&range, addr, bytes, true);
  if (nr_new != bytes / PAGE_BYTES)
    test_note_failure ("populate of %zu pages, %zu of them resident already",
                       bytes / PAGE_BYTES, bytes / PAGE_BYTES - nr_new);
  /* Charged before, uncharged after: the sum is never above the limit. */
  check_limit (pages, atomic_fetch_add (&nr_resident, nr_new * PAGE_BYTES) +
                        nr_new * PAGE_BYTES);
  r = pages_anonymous.populate (pages, addr, bytes);
  if (r < 0)
    test_note_failure ("the system has no memory");
  check_limit (pages, 0);
  return r;
}

static int
probe_purge (struct pages *pages, void *addr, size_t bytes)
{
  const struct range range = find_range (addr, bytes, "purge");
  const bool of_failed =
    (char *) addr >= failed_start && (char *) addr + bytes <= failed_end;
  size_t nr_gone;
  int r;

  if (range.base == NULL)
    return -ENOMEM;
  /* After a populate that failed this cannot: see pages_populate. */
  if (!of_failed && must_fail (PROBE_PURGE))
    return -ENOMEM;
  r = pages_anonymous.purge (pages, addr, bytes);
  if (r < 0) {
    test_note_failure ("purge failed: %d", r);
    return r;
  }
  nr_gone = mark_pages (&range, addr, bytes, false);
  atomic_fetch_sub (&nr_resident, nr_gone * PAGE_BYTES);
  if (nr_gone != bytes / PAGE_BYTES && !of_failed)
    test_note_failure ("purge of %zu pages, %zu of them not resident",
                       bytes / PAGE_BYTES, bytes / PAGE_BYTES - nr_gone);
  failed_start = failed_end = NULL;
  return 0;
}

static void
probe_release (struct pages *pages, void *addr, size_t bytes)
{
  const struct range found = find_range (addr, bytes, "release");

  if (found.base == NULL)
    return;
  if (found.base != addr || found.bytes != bytes)
    test_note_failure ("release of a part of what was reserved");
  atomic_fetch_sub (&nr_resident,
                    mark_pages (&found, addr, bytes, false) * PAGE_BYTES);
  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i)
    if (ranges[i].base == found.base)
      ranges[i] = (struct range) { .base = NULL };
  pthread_mutex_unlock (&mutex);
  free ((void *) found.bits);
  pages_anonymous.release (pages, found.base, found.bytes);
}

const struct pages_ops probe_ops = {
  .reserve = probe_reserve,
  .activate = probe_activate,
  .populate = probe_populate,
  .purge = probe_purge,
  .release = probe_release,
};

void
probe_reset (void)
{
  if (probe_nr_ranges () != 0)
    test_note_failure ("%u ranges were never released", probe_nr_ranges ());
  for (unsigned kind = 0; kind < NR_PROBE_KINDS; ++kind) {
    atomic_store (&nr_calls[kind], 0);
    atomic_store (&fail_at[kind], 0);
    atomic_store (&fail_always[kind], false);
  }
  atomic_store (&nr_failed, 0);
  atomic_store (&watched_limit, 0);
}

void
probe_fail_nth (enum probe_kind kind, uint64_t nth)
{
  atomic_store (&fail_always[kind], false);
  atomic_store (&fail_at[kind],
                nth == 0 ? 0 : atomic_load (&nr_calls[kind]) + nth);
}

void
probe_fail_all (enum probe_kind kind)
{
  atomic_store (&fail_always[kind], true);
}

uint64_t
probe_nr_failed (void)
{
  return atomic_load (&nr_failed);
}

uint64_t
probe_nr_calls (enum probe_kind kind)
{
  return atomic_load (&nr_calls[kind]);
}

void
probe_watch_limit (uint64_t limit_bytes)
{
  atomic_store (&watched_limit, limit_bytes);
}

unsigned
probe_nr_ranges (void)
{
  unsigned nr = 0;

  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i)
    nr += ranges[i].base != NULL;
  pthread_mutex_unlock (&mutex);
  return nr;
}

uint64_t
probe_resident_bytes (void)
{
  const uint64_t counted = atomic_load (&nr_resident);
  uint64_t bytes = 0;

  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i)
    if (ranges[i].base != NULL)
      bytes += resident_bytes (ranges[i].base, ranges[i].bytes);
  pthread_mutex_unlock (&mutex);
  /* More: a page was touched (if only read) behind the back of pages. */
  if (bytes != counted)
    test_note_failure ("mincore: %" PRIu64 " bytes resident, of which "
                       "pages_populate made %" PRIu64,
                       bytes, counted);
  return bytes;
}

/* Does [from, to) have a byte of a range? */
static bool
touches_range (uintptr_t from, uintptr_t to)
{
  bool touches = false;

  pthread_mutex_lock (&mutex);
  for (unsigned i = 0; i < MAX_RANGES; ++i) {
    const uintptr_t base = (uintptr_t) ranges[i].base;
    if (base != 0 && from < base + ranges[i].bytes && base < to)
      touches = true;
  }
  pthread_mutex_unlock (&mutex);
  return touches;
}

/* Neighbouring ranges may be one mapping; nobody else's memory joins them,
 * as it has other advice.
 */
uint64_t
probe_rss_bytes (void)
{
  FILE *file = fopen ("/proc/self/smaps", "r");
  bool ours = false;
  uint64_t bytes = 0;
  char line[512];

  if (file == NULL)
    abort ();
  while (fgets (line, sizeof line, file) != NULL) {
    uintptr_t from, to;
    uint64_t kib;

    if (sscanf (line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
      ours = touches_range (from, to);
    else if (ours && sscanf (line, "Rss: %" SCNu64, &kib) == 1)
      bytes += kib * KIB;
  }
  fclose (file);
  return bytes;
}

uint64_t
probe_resident_at (const void *addr, void **start, size_t *bytes)
{
  const struct range range =
    find_range ((char *) ((uintptr_t) addr & ~(uintptr_t) (PAGE_BYTES - 1)),
                PAGE_BYTES, "look");

  if (range.base == NULL)
    return UINT64_MAX;
  *start = range.base;
  *bytes = range.bytes;
  return resident_bytes (range.base, range.bytes);
}
