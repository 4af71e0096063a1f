/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Side tables; see side-table.h.
 *
 * Free runs are never joined: a run of n pages is used again for n pages.
 * Address space is plentiful, and what a run costs while free is 8 bytes of
 * link a page.
 *
 * Tried and dropped: one table a page (4 KiB for the 264 bytes of a raw
 * zspage: 1.6 % of the pool); a list of shared pages a size class (up to
 * 190 half-empty pages, three times what the tables of a 168 MiB disk
 * need).
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "side-table.h"

#define RUN_NONE UINT32_MAX

/* Of the reserve: runs of two pages, for classes of 144 to 256 bytes, of three
 * pages, and of each other length that a class has.
 */
#define KEPT_OF_TWO 4
#define KEPT_OF_THREE 2
#define KEPT_OF_MORE 1

struct run_link {
  uint32_t next; /* in free_runs */
  bool resident; /* the system would not take it back */
};

struct shared_page {
  uint32_t next, prev; /* in partial, RUN_NONE at the ends */
  uint64_t used;       /* a bit a table */
  uint64_t pad[2];
};
static_assert (sizeof (struct shared_page) == 32, "header of a shared page");

static size_t
round_table (size_t bytes)
{
  return (bytes + SIDE_TABLE_GRANULE - 1) & ~(SIDE_TABLE_GRANULE - 1);
}

/* Tables a shared page holds, of a rounded size. */
static unsigned
tables_per_page (size_t rounded)
{
  return (PAGE_BYTES - sizeof (struct shared_page)) / rounded;
}

uint64_t
side_tables_address_bytes (uint32_t nr_pages)
{
  return nr_pages * (uint64_t) (PAGE_BYTES + sizeof (struct run_link));
}

int
side_tables_reserve (struct side_tables *st, struct pages *pages,
                     uint32_t nr_pages)
{
  void *base;
  int r;

  memset (st, 0, sizeof *st);
  st->pages = pages;
  st->nr_pages = nr_pages;
  for (size_t i = 0; i <= SIDE_TABLE_MAX_PAGES; i++)
    st->free_runs[i] = RUN_NONE;
  for (size_t i = 0; i < SIDE_TABLE_GROUPS; i++)
    st->partial[i] = RUN_NONE;
  for (size_t i = 0; i <= SIDE_TABLE_MAX_PAGES; i++)
    st->kept[i] = RUN_NONE;
  r = pages_reserve (pages, nr_pages * PAGE_BYTES, &base);
  if (r < 0)
    return r;
  r =
    grown_array_reserve (pages, &st->links, sizeof (struct run_link), nr_pages);
  if (r < 0) {
    pages_release (pages, base, nr_pages * PAGE_BYTES);
    return r;
  }
  st->base = base;
  lock_init (&st->lock, LOCK_LEAF);
  return 0;
}

int
side_tables_activate (struct side_tables *st)
{
  const int r = pages_activate (st->pages, st->base, st->nr_pages * PAGE_BYTES);

  return r < 0 ? r : grown_array_activate (st->pages, &st->links);
}

void
side_tables_release (struct side_tables *st)
{
  if (st->base == NULL)
    return;
  pages_uncharge (st->pages, st->resident_bytes);
  pages_release (st->pages, st->base, st->nr_pages * PAGE_BYTES);
  grown_array_release (st->pages, &st->links);
  lock_destroy (&st->lock);
  st->base = NULL;
}

uint64_t
side_tables_resident (struct side_tables *st)
{
  LOCK_FOR_SCOPE (&st->lock);
  return st->resident_bytes + st->links.touched_bytes;
}

static struct run_link *
link_of (struct side_tables *st, uint32_t page)
{
  return (struct run_link *) st->links.base + page;
}

static void *
page_address (struct side_tables *st, uint32_t page)
{
  return st->base + page * PAGE_BYTES;
}

static uint32_t
page_of (struct side_tables *st, const void *addr)
{
  return ((const char *) addr - st->base) / PAGE_BYTES;
}

/* Take a run, free or new.  Not resident yet, unless its link says so. */
static int
take_run_locked (struct side_tables *st, unsigned nr_pages, uint32_t *ret)
{
  ASSERT_LOCKED (&st->lock);
  uint32_t page = st->free_runs[nr_pages];

  if (page != RUN_NONE) {
    st->free_runs[nr_pages] = link_of (st, page)->next;
    *ret = page;
    return 0;
  }
  if (st->nr_pages - st->nr_bumped < nr_pages)
    return -ENOSPC;
  page = st->nr_bumped;
  const int r = grown_array_touch (st->pages, &st->links, page + nr_pages - 1);
  if (r < 0)
    return r;
  link_of (st, page)->resident = false;
  st->nr_bumped += nr_pages;
  *ret = page;
  return 0;
}

static void
put_run_locked (struct side_tables *st, unsigned nr_pages, uint32_t page)
{
  ASSERT_LOCKED (&st->lock);
  link_of (st, page)->next = st->free_runs[nr_pages];
  st->free_runs[nr_pages] = page;
}

static void
put_kept_locked (struct side_tables *st, unsigned nr_pages, uint32_t page)
{
  ASSERT_LOCKED (&st->lock);
  link_of (st, page)->next = st->kept[nr_pages];
  link_of (st, page)->resident = true;
  st->kept[nr_pages] = page;
  st->nr_kept[nr_pages]++;
}

static bool
take_kept_locked (struct side_tables *st, unsigned nr_pages, uint32_t *page)
{
  ASSERT_LOCKED (&st->lock);
  if (st->kept[nr_pages] == RUN_NONE)
    return false;
  *page = st->kept[nr_pages];
  st->kept[nr_pages] = link_of (st, *page)->next;
  st->nr_kept[nr_pages]--;
  return true;
}

static int
alloc_run_locked (struct side_tables *st, unsigned nr_pages, uint32_t *ret)
{
  const size_t bytes = nr_pages * PAGE_BYTES;
  uint32_t page;
  int r = 0;

  if (!take_kept_locked (st, nr_pages, &page))
    r = take_run_locked (st, nr_pages, &page);
  if (r < 0)
    return r;
  if (link_of (st, page)->resident)
    memset (page_address (st, page), 0, bytes);
  else {
    r = pages_populate (st->pages, page_address (st, page), bytes);
    if (r < 0) {
      put_run_locked (st, nr_pages, page);
      return r;
    }
    st->resident_bytes += bytes;
  }
  *ret = page;
  return 0;
}

static void
free_run_locked (struct side_tables *st, unsigned nr_pages, uint32_t page)
{
  const size_t bytes = nr_pages * PAGE_BYTES;

  if (st->nr_kept[nr_pages] < st->max_kept[nr_pages]) {
    put_kept_locked (st, nr_pages, page);
    return;
  }
  if (pages_purge (st->pages, page_address (st, page), bytes) == 0) {
    link_of (st, page)->resident = false;
    st->resident_bytes -= bytes;
  }
  else
    link_of (st, page)->resident = true;
  put_run_locked (st, nr_pages, page);
}

void
side_tables_set_reserve (struct side_tables *st, uint32_t nr_pages)
{
  const struct size_class_table *classes = size_class_table ();

  LOCK_FOR_SCOPE (&st->lock);
  st->max_kept[1] = nr_pages;
  for (unsigned i = 0; i < classes->nr_classes; i++) {
    const size_t bytes = side_table_bytes (&classes->classes[i]);
    const size_t nr = pages_round_up (bytes) / PAGE_BYTES;

    if (nr > 1)
      st->max_kept[nr] = nr_pages == 0 ? 0
                         : nr == 2     ? KEPT_OF_TWO
                         : nr == 3     ? KEPT_OF_THREE
                                       : KEPT_OF_MORE;
  }
}

/* A run that is to be kept, not resident unless its link says so; false:
 * enough are.
 */
static bool
take_run_to_keep (struct side_tables *st, unsigned nr_pages, uint32_t *page,
                  int *r)
{
  LOCK_FOR_SCOPE (&st->lock);

  if (st->nr_kept[nr_pages] >= st->max_kept[nr_pages])
    return false;
  *r = take_run_locked (st, nr_pages, page);
  return true;
}

/* One run more of that length; false: enough are kept, or *r says why not. */
static bool
keep_run (struct side_tables *st, unsigned nr_pages, uint64_t ceiling_bytes,
          int *r)
{
  const size_t bytes = nr_pages * PAGE_BYTES;
  uint32_t page;

  if (!take_run_to_keep (st, nr_pages, &page, r) || *r < 0)
    return false;
  const bool resident = link_of (st, page)->resident;
  if (!resident)
    *r = pages_populate_below (st->pages, ceiling_bytes,
                               page_address (st, page), bytes);
  LOCK_FOR_SCOPE (&st->lock);
  if (*r < 0) {
    put_run_locked (st, nr_pages, page);
    return false;
  }
  st->resident_bytes += resident ? 0 : bytes;
  put_kept_locked (st, nr_pages, page);
  return true;
}

int
side_tables_refill (struct side_tables *st, uint64_t ceiling_bytes)
{
  int r = 0;

  for (unsigned nr = 1; r == 0 && nr <= SIDE_TABLE_MAX_PAGES; nr++)
    while (keep_run (st, nr, ceiling_bytes, &r))
      ;
  return r;
}

static void
link_partial_locked (struct side_tables *st, unsigned group, uint32_t page)
{
  struct shared_page *header = page_address (st, page);

  header->prev = RUN_NONE;
  header->next = st->partial[group];
  if (header->next != RUN_NONE)
    ((struct shared_page *) page_address (st, header->next))->prev = page;
  st->partial[group] = page;
}

static void
unlink_partial_locked (struct side_tables *st, unsigned group, uint32_t page)
{
  struct shared_page *header = page_address (st, page);

  if (header->next != RUN_NONE)
    ((struct shared_page *) page_address (st, header->next))->prev =
      header->prev;
  if (header->prev != RUN_NONE)
    ((struct shared_page *) page_address (st, header->prev))->next =
      header->next;
  else
    st->partial[group] = header->next;
}

static int
alloc_shared_locked (struct side_tables *st, size_t rounded, uint64_t **ret)
{
  const unsigned group = rounded / SIDE_TABLE_GRANULE - 1;
  const unsigned per_page = tables_per_page (rounded);
  uint32_t page = st->partial[group];

  if (page == RUN_NONE) {
    const int r = alloc_run_locked (st, 1, &page);

    if (r < 0)
      return r;
    link_partial_locked (st, group, page);
  }

  struct shared_page *header = page_address (st, page);
  const unsigned i = __builtin_ctzll (~header->used);

  assert (i < per_page);
  header->used |= UINT64_C (1) << i;
  if (header->used == (UINT64_C (1) << per_page) - 1)
    unlink_partial_locked (st, group, page);
  *ret = (uint64_t *) ((char *) (header + 1) + i * rounded);
  memset (*ret, 0, rounded);
  return 0;
}

static void
free_shared_locked (struct side_tables *st, size_t rounded, uint64_t *table)
{
  const unsigned group = rounded / SIDE_TABLE_GRANULE - 1;
  const uint32_t page = page_of (st, table);
  struct shared_page *header = page_address (st, page);
  const unsigned i = ((char *) table - (char *) (header + 1)) / rounded;

  if (header->used == (UINT64_C (1) << tables_per_page (rounded)) - 1)
    link_partial_locked (st, group, page);
  header->used &= ~(UINT64_C (1) << i);
  if (header->used == 0) {
    unlink_partial_locked (st, group, page);
    free_run_locked (st, 1, page);
  }
}

int
side_table_alloc (struct side_tables *st, size_t bytes, uint64_t **ret)
{
  const size_t rounded = round_table (bytes);
  uint32_t page;
  int r;

  LOCK_FOR_SCOPE (&st->lock);
  if (rounded <= SIDE_TABLE_SHARED_MAX)
    return alloc_shared_locked (st, rounded, ret);
  r = alloc_run_locked (st, pages_round_up (bytes) / PAGE_BYTES, &page);
  if (r == 0)
    *ret = page_address (st, page);
  return r;
}

void
side_table_free (struct side_tables *st, size_t bytes, uint64_t *table)
{
  const size_t rounded = round_table (bytes);

  LOCK_FOR_SCOPE (&st->lock);
  if (rounded <= SIDE_TABLE_SHARED_MAX)
    free_shared_locked (st, rounded, table);
  else
    free_run_locked (st, pages_round_up (bytes) / PAGE_BYTES,
                     page_of (st, table));
}
