/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Pages: the only caller of mmap, madvise and their kind.  The contract is
 * in pages.h; what each way of touching and purging costs, and why the
 * memory is anonymous, in docs/ALLOCATOR.
 *
 * Pages are made resident with MADV_POPULATE_WRITE, not by touching them: a
 * batch costs one system call, and the moment is ours to choose.  It does not
 * make running out of memory an error: in a cgroup of 40 MiB (v1, Linux 6.18)
 * populating beyond it was the out-of-memory killer all the same.  Only the
 * limit protects from that; the call can fail, though, and is checked.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pages.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED /* Linux 5.18 */
#define MADV_DONTNEED_LOCKED 24
#endif

static int
anonymous_reserve (struct pages *pages, size_t bytes, void **addr)
{
  void *p = mmap (NULL, bytes, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  (void) pages;
  if (p == MAP_FAILED)
    return -errno;
  *addr = p;
  return 0;
}

/* Memory that was locked before the fork (nbdkit --swap) is still marked
 * so, or a future mapping would be: mprotect would then make the whole
 * range resident.  Hence unlock first; memlock.c locks again, on fault.
 */
static int
anonymous_activate (struct pages *pages, void *addr, size_t bytes)
{
  (void) pages;
  munlock (addr, bytes);
  if (mprotect (addr, bytes, PROT_READ | PROT_WRITE) == -1)
    return -errno;
  /* A kernel built without huge pages refuses the advice (EINVAL), and then
   * there is nothing to advise against.  With them, and without the advice,
   * what is held would not be what is counted.
   */
  if (madvise (addr, bytes, MADV_NOHUGEPAGE) == -1 && errno != EINVAL)
    return -errno;
  madvise (addr, bytes, MADV_DONTDUMP);
  return 0;
}

/* A kernel before 5.14: write to each page.  They are not resident yet, so
 * what is written is what they hold.
 */
static void
touch_each_page (void *addr, size_t bytes)
{
  for (size_t i = 0; i < bytes; i += PAGE_BYTES)
    ((volatile char *) addr)[i] = 0;
}

static int
anonymous_populate (struct pages *pages, void *addr, size_t bytes)
{
  (void) pages;
  for (;;) {
    if (madvise (addr, bytes, MADV_POPULATE_WRITE) == 0)
      return 0;
    if (errno == EINVAL) {
      touch_each_page (addr, bytes);
      return 0;
    }
    if (errno != EINTR && errno != EAGAIN)
      return -ENOMEM;
  }
}

static int
anonymous_purge (struct pages *pages, void *addr, size_t bytes)
{
  (void) pages;
  if (madvise (addr, bytes, MADV_DONTNEED) == 0 ||
      (errno == EINVAL && madvise (addr, bytes, MADV_DONTNEED_LOCKED) == 0))
    return 0;
  return -errno;
}

static void
anonymous_release (struct pages *pages, void *addr, size_t bytes)
{
  (void) pages;
  if (munmap (addr, bytes) == -1)
    abort (); /* only a wrong address can do that */
}

const struct pages_ops pages_anonymous = {
  .reserve = anonymous_reserve,
  .activate = anonymous_activate,
  .populate = anonymous_populate,
  .purge = anonymous_purge,
  .release = anonymous_release,
};

void
pages_init (struct pages *pages, const struct pages_ops *ops,
            uint64_t limit_bytes)
{
  pages->ops = ops;
  atomic_init (&pages->held_word, 0);
  atomic_init (&pages->highest, 0);
  atomic_init (&pages->limit, limit_bytes);
  atomic_init (&pages->nr_populates, 0);
  atomic_init (&pages->nr_purges, 0);
}

static void
raise_highest (struct pages *pages, uint64_t held)
{
  uint64_t highest =
    atomic_load_explicit (&pages->highest, memory_order_relaxed);

  while (held > highest &&
         !atomic_compare_exchange_weak (&pages->highest, &highest, held))
    ;
}

/* held first, then the limit, then held again: if it has the generation that
 * it had, the limit is the one that was seen.  (alloc/held.pml)
 */
int
pages_charge (struct pages *pages, uint64_t bytes)
{
  uint64_t word = atomic_load (&pages->held_word), held;

  do {
    const uint64_t limit = atomic_load (&pages->limit);

    held = word & HELD_BYTES_MASK;
    if (held > limit || bytes > limit - held || bytes > HELD_BYTES_MASK - held)
      return -ENOSPC;
  } while (
    !atomic_compare_exchange_weak (&pages->held_word, &word, word + bytes));
  raise_highest (pages, held + bytes);
  return 0;
}

void
pages_uncharge (struct pages *pages, uint64_t bytes)
{
  atomic_fetch_sub (&pages->held_word, bytes);
}

void
pages_set_limit (struct pages *pages, uint64_t limit_bytes)
{
  atomic_store (&pages->limit, limit_bytes);
  atomic_fetch_add (&pages->held_word, HELD_GENERATION);
}

int
pages_reserve (struct pages *pages, size_t bytes, void **addr)
{
  return pages->ops->reserve (pages, pages_round_up (bytes), addr);
}

int
pages_probe (struct pages *pages, size_t bytes)
{
  void *addr;
  int r = pages_reserve (pages, bytes, &addr);

  if (r < 0)
    return r;
  r = pages_activate (pages, addr, bytes);
  pages_release (pages, addr, bytes);
  return r;
}

int
pages_activate (struct pages *pages, void *addr, size_t bytes)
{
  return pages->ops->activate (pages, addr, pages_round_up (bytes));
}

void
pages_release (struct pages *pages, void *addr, size_t bytes)
{
  pages->ops->release (pages, addr, pages_round_up (bytes));
}

int
pages_populate (struct pages *pages, void *addr, size_t bytes)
{
  int r = pages_charge (pages, bytes);

  if (r < 0)
    return r;
  r = pages->ops->populate (pages, addr, bytes);
  if (r < 0) {
    /* Some may have come.  That this fails, too, no system has: the range is
     * ours, and where locked pages cannot be purged memlock.c locks nothing.
     */
    pages->ops->purge (pages, addr, bytes);
    pages_uncharge (pages, bytes);
    return r;
  }
  atomic_fetch_add_explicit (&pages->nr_populates, 1, memory_order_relaxed);
  return 0;
}

int
pages_populate_below (struct pages *pages, uint64_t ceiling_bytes, void *addr,
                      size_t bytes)
{
  if (pages_held (pages) + bytes > ceiling_bytes)
    return -ENOSPC;
  return pages_populate (pages, addr, bytes);
}

int
pages_purge (struct pages *pages, void *addr, size_t bytes)
{
  const int r = pages->ops->purge (pages, addr, bytes);

  if (r < 0)
    return r;
  pages_uncharge (pages, bytes);
  atomic_fetch_add_explicit (&pages->nr_purges, 1, memory_order_relaxed);
  return 0;
}

int
grown_array_reserve (struct pages *pages, struct grown_array *array,
                     size_t elem_bytes, size_t nr_max)
{
  array->elem_bytes = elem_bytes;
  array->nr_max = nr_max;
  array->touched_bytes = 0;
  array->base = NULL;
  return pages_reserve (pages, elem_bytes * nr_max, &array->base);
}

int
grown_array_activate (struct pages *pages, struct grown_array *array)
{
  return pages_activate (pages, array->base, array->elem_bytes * array->nr_max);
}

int
grown_array_touch (struct pages *pages, struct grown_array *array, size_t index)
{
  const size_t end = pages_round_up ((index + 1) * array->elem_bytes);
  int r;

  if (end <= array->touched_bytes)
    return 0;
  r = pages_populate (pages, (char *) array->base + array->touched_bytes,
                      end - array->touched_bytes);
  if (r == 0)
    array->touched_bytes = end;
  return r;
}

void
grown_array_release (struct pages *pages, struct grown_array *array)
{
  if (array->base == NULL)
    return;
  pages_uncharge (pages, array->touched_bytes);
  pages_release (pages, array->base, array->elem_bytes * array->nr_max);
  array->base = NULL;
}
