/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Pages: every byte that zmem maps comes from here, and is counted here.
 *
 * A range of address space is reserved (costs nothing, PROT_NONE, may be
 * done before a fork), then activated (readable and writable, no
 * transparent huge pages, not in core dumps; after the fork).  Its pages
 * come into being one of two ways only: pages_populate, which charges them
 * to `held` first, or pages_charge, for memory that a library
 * allocates on our behalf.  pages_purge hands them back and lowers `held`
 * afterwards.  Hence
 *
 *     held == resident pages of our mappings + what pages_charge added
 *     held <= limit, at every instant, unless the limit was lowered
 *
 * What really maps, touches and purges is behind `struct pages_ops`, so a
 * test brings its own failing mmap and a pool in a file its own backing
 * (which finds its descriptor in a struct around its struct pages).
 *
 * Errors: 0 or -errno.  -ENOSPC: over the limit.  -ENOMEM: the system has
 * none.  No locks needed anywhere; every function may be called from any
 * thread.
 */

#ifndef ZMEM_PAGES_H
#define ZMEM_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_BYTES ((size_t) 1 << PAGE_SHIFT)

#define PAGES_NO_LIMIT UINT64_MAX

struct pages;

struct pages_ops {
  /* Reserve address space without memory; *addr is page-aligned. */
  int (*reserve) (struct pages *pages, size_t bytes, void **addr);
  /* Make a reserved range usable.  Nothing becomes resident. */
  int (*activate) (struct pages *pages, void *addr, size_t bytes);
  /* Make the pages of the range resident and writable, zero-filled where
   * they were not.  -ENOMEM where the system (or the cgroup) has none.
   */
  int (*populate) (struct pages *pages, void *addr, size_t bytes);
  /* Give the pages back; they read as zeros until populated again. */
  int (*purge) (struct pages *pages, void *addr, size_t bytes);
  /* Unmap the range.  Cannot fail. */
  void (*release) (struct pages *pages, void *addr, size_t bytes);
};

/* Private anonymous memory: what is used unless a test says otherwise. */
extern const struct pages_ops pages_anonymous;

struct pages {
  const struct pages_ops *ops;
  _Atomic uint64_t held_word; /* bytes, and the generation of the limit */
  _Atomic uint64_t highest;   /* the most that held ever was, bytes */
  _Atomic uint64_t limit;     /* bytes, or PAGES_NO_LIMIT */
  _Atomic uint64_t nr_populates;
  _Atomic uint64_t nr_purges;
};

extern void pages_init (struct pages *pages, const struct pages_ops *ops,
                        uint64_t limit_bytes);

/* Above the bytes in held_word: a number that changes with the limit. */
#define HELD_GENERATION ((uint64_t) 1 << 48)
#define HELD_BYTES_MASK (HELD_GENERATION - 1)

static inline uint64_t
pages_held (struct pages *pages)
{
  return atomic_load_explicit (&pages->held_word, memory_order_relaxed) &
         HELD_BYTES_MASK;
}

static inline size_t
pages_round_up (size_t bytes)
{
  return (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

/* Could `bytes` be reserved and activated, all at once?  What activation
 * meets (RLIMIT_DATA, vm.overcommit_memory=2) is seen here before a fork.
 */
extern int pages_probe (struct pages *pages, size_t bytes);

extern int pages_reserve (struct pages *pages, size_t bytes, void **addr);
extern int pages_activate (struct pages *pages, void *addr, size_t bytes);
extern void pages_release (struct pages *pages, void *addr, size_t bytes);

/* Charge and make resident [addr, addr + bytes), page-aligned, none of
 * whose pages is resident yet.  All or nothing: on an error nothing is
 * charged, and what had become resident is purged.
 */
extern int pages_populate (struct pages *pages, void *addr, size_t bytes);
/* The same, as long as held stays at or below the ceiling; else -ENOSPC. */
extern int pages_populate_below (struct pages *pages, uint64_t ceiling_bytes,
                                 void *addr, size_t bytes);

/* Purge [addr, addr + bytes), all of which is resident, and uncharge it.
 * On an error all of it stays resident and charged.
 */
extern int pages_purge (struct pages *pages, void *addr, size_t bytes);

/* Charge memory that is about to come from elsewhere (codec contexts), or
 * uncharge what has gone: that, or pages that pages_release will unmap.
 * Charging fails with -ENOSPC when it would pass the limit.
 */
extern int pages_charge (struct pages *pages, uint64_t bytes);
extern void pages_uncharge (struct pages *pages, uint64_t bytes);

/* Change the limit.  When this returns, held is not above it, or from now on
 * falls until it is not: no charge is under way that has not seen it.
 */
extern void pages_set_limit (struct pages *pages, uint64_t limit_bytes);

/* An array that grows at its end and stays: descriptors of zspages, links
 * of free runs.  Elements below `nr_touched` are resident.
 * Guard: the owner's lock.
 */
struct grown_array {
  void *base;
  size_t elem_bytes;
  size_t nr_max;
  size_t touched_bytes; /* page-aligned */
};

extern int grown_array_reserve (struct pages *pages, struct grown_array *array,
                                size_t elem_bytes, size_t nr_max);
extern int grown_array_activate (struct pages *pages,
                                 struct grown_array *array);
/* Make element `index` (and all below it) usable. */
extern int grown_array_touch (struct pages *pages, struct grown_array *array,
                              size_t index);
extern void grown_array_release (struct pages *pages,
                                 struct grown_array *array);

#endif /* ZMEM_PAGES_H */
