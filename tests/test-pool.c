/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool against a shadow: a list of the objects that ought to live, each
 * filled to the end of its slot with bytes that tell it from all others.
 * After each phase everything is counted again: objects by iterating,
 * fullness by counting them, held and resident bytes by asking the kernel.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "pages.h"
#include "pool-check.h"
#include "pool.h"
#include "probe.h"
#include "test-util.h"

#define ARENA_BYTES (192 * MIB)
#define LOC_PER_ZSPAGE_SHIFT (ZSPAGE_SHIFT - ZS_LOC_SHIFT)

struct object {
  zs_loc loc;
  owner_t owner;
  uint32_t bytes;
  uint64_t tag;
};

struct shadow {
  struct object *objects;
  size_t nr, max;
  uint64_t next_tag;
};

static struct pages pages;
static struct pool *pool;

static void
open_pool (uint64_t arena_bytes, uint64_t limit)
{
  probe_reset ();
  pages_init (&pages, &probe_ops, limit);
  ck_assert_int_eq (pool_create (&pages, arena_bytes, &pool), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_int_eq (pool_activate (pool), 0);
  if (limit != PAGES_NO_LIMIT)
    probe_watch_limit (limit);
}

static void
close_pool (void)
{
  pool_destroy (pool);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

static void
shadow_init (struct shadow *shadow, size_t max, uint64_t first_tag)
{
  shadow->objects = calloc (max, sizeof shadow->objects[0]);
  ck_assert_ptr_nonnull (shadow->objects);
  shadow->nr = 0;
  shadow->max = max;
  shadow->next_tag = first_tag;
}

/* 16 bytes at a time: every slot is a multiple of that. */
static void
fill_object (const struct object *object)
{
  uint64_t *p = pool_borrow (pool, object->loc);
  const size_t words = pool_slot_bytes (pool, object->loc) / sizeof *p;

  for (size_t i = 0; i < words; ++i)
    p[i] = object->tag * UINT64_C (0x9e3779b97f4a7c15) + i;
}

/* Called by threads too: notes. */
static void
verify_object (const struct object *object)
{
  const uint64_t *p = pool_borrow (pool, object->loc);
  const size_t bytes = pool_slot_bytes (pool, object->loc);

  if (bytes < object->bytes)
    test_note_failure ("slot of %zu bytes for %u", bytes, object->bytes);
  if (pool_owner (pool, object->loc) != object->owner)
    test_note_failure ("owner is %x, was %x",
                       pool_owner (pool, object->loc), object->owner);
  for (size_t i = 0; i < bytes / sizeof *p; ++i)
    if (p[i] != object->tag * UINT64_C (0x9e3779b97f4a7c15) + i) {
      test_note_failure ("object %" PRIx64 " of %u bytes was overwritten at "
                         "byte %zu", object->loc, object->bytes, i * 8);
      return;
    }
}

static int
alloc_object (struct shadow *shadow, uint32_t bytes)
{
  struct object object = {
    .bytes = bytes, .tag = shadow->next_tag++,
  };
  int r;

  object.owner = (owner_t) object.tag;
  r = pool_alloc (pool, bytes, object.owner, &object.loc);
  if (r < 0)
    return r;
  if (bytes > size_class_largest_compressed ()
      && (object.loc << ZS_LOC_SHIFT) % PAGE_BYTES != 0)
    test_note_failure ("a raw object is not page-aligned");
  fill_object (&object);
  shadow->objects[shadow->nr++] = object;
  return 0;
}

static void
free_object (struct shadow *shadow, size_t i)
{
  verify_object (&shadow->objects[i]);
  pool_free (pool, shadow->objects[i].loc);
  shadow->objects[i] = shadow->objects[--shadow->nr];
}

static void
free_all (struct shadow *shadow, struct rng *rng)
{
  while (shadow->nr > 0)
    free_object (shadow, rng_below (rng, shadow->nr));
}

/*--------------------------------------------------------------------*/
/* Counting everything again. */

struct found {
  struct object *objects;
  size_t nr, max;
};

static int
note_object (void *opaque, zs_loc loc, owner_t owner)
{
  struct found *found = opaque;

  if (found->nr == found->max)
    return -E2BIG;
  found->objects[found->nr++] = (struct object) { .loc = loc, .owner = owner };
  return 0;
}

static int
compare_locs (const void *a, const void *b)
{
  const zs_loc x = ((const struct object *) a)->loc;
  const zs_loc y = ((const struct object *) b)->loc;

  return x < y ? -1 : x > y;
}

/* The class's zspages by fullness, counted from its objects, which are
 * sorted by location.
 */
static void
check_fullness (const struct found *found, size_t start,
                const struct pool_class_stats *stats)
{
  uint64_t by_fullness[NR_FULLNESS_GROUPS] = { 0 }, nr_zspages = 0;

  for (size_t i = start; i < found->nr; ) {
    const zs_loc zspage = found->objects[i].loc >> LOC_PER_ZSPAGE_SHIFT;
    uint64_t n = 0;

    while (i < found->nr
           && found->objects[i].loc >> LOC_PER_ZSPAGE_SHIFT == zspage)
      ++n, ++i;
    ck_assert_uint_le (n, stats->objects_per_zspage);
    if (n == stats->objects_per_zspage)
      ++by_fullness[NR_FULLNESS_GROUPS - 1];
    else
      ++by_fullness[(n * 8 - 1) / stats->objects_per_zspage];
    ++nr_zspages;
  }
  ck_assert_uint_eq (stats->nr_zspages, nr_zspages);
  for (unsigned g = 0; g < NR_FULLNESS_GROUPS; ++g)
    ck_assert_uint_eq (stats->by_fullness[g], by_fullness[g]);
}

static void
check_objects (struct shadow *shadow)
{
  struct found found = {
    .objects = calloc (shadow->nr + 1, sizeof (struct object)),
    .max = shadow->nr + 1,
  };
  struct pool_stats stats;
  uint64_t resident = 0, nr_zspages = 0;

  for (unsigned idx = 0; idx < pool_nr_classes (pool); ++idx) {
    const size_t start = found.nr;
    struct pool_class_stats class_stats;

    ck_assert_int_eq (pool_iterate (pool, idx, note_object, &found), 0);
    qsort (found.objects + start, found.nr - start, sizeof found.objects[0],
           compare_locs);
    pool_class_stats (pool, idx, &class_stats);
    ck_assert_uint_eq (class_stats.object_bytes,
                       size_class_table ()->classes[idx].object_bytes);
    ck_assert_uint_eq (class_stats.objects_per_zspage,
                       size_class_table ()->classes[idx].nr_objects);
    ck_assert_uint_eq (class_stats.nr_inuse, found.nr - start);
    for (size_t i = start; i < found.nr; ++i)
      ck_assert_uint_eq (pool_slot_bytes (pool, found.objects[i].loc),
                         class_stats.object_bytes);
    check_fullness (&found, start, &class_stats);
    resident += class_stats.resident_bytes;
    nr_zspages += class_stats.nr_zspages;
  }

  pool_stats (pool, &stats);
  ck_assert_uint_eq (stats.arena_bytes, resident);
  ck_assert_uint_eq (stats.nr_zspages, nr_zspages);

  /* Iterating saw exactly the objects that live. */
  ck_assert_uint_eq (found.nr, shadow->nr);
  qsort (found.objects, found.nr, sizeof found.objects[0], compare_locs);
  qsort (shadow->objects, shadow->nr, sizeof shadow->objects[0],
         compare_locs);
  for (size_t i = 0; i < found.nr; ++i) {
    ck_assert_uint_eq (found.objects[i].loc, shadow->objects[i].loc);
    ck_assert_uint_eq (found.objects[i].owner, shadow->objects[i].owner);
  }
  free (found.objects);
}

/* held, to the byte, is what the kernel says of the pool's mappings. */
static void
check_memory (void)
{
  struct pool_stats stats;
  void *start;
  size_t bytes;

  pool_stats (pool, &stats);
  ck_assert_uint_eq (pages_held (&pages), probe_resident_bytes ());
  ck_assert_uint_eq (stats.arena_bytes,
                     probe_resident_at (pool_borrow (pool, 0), &start,
                                        &bytes));
  ck_assert_ptr_eq (start, pool_borrow (pool, 0));
  ck_assert_uint_eq (stats.bookkeeping_bytes,
                     pages_held (&pages) - stats.arena_bytes);
}

static void
check_everything (struct shadow *shadow)
{
  char error[256] = "";

  ck_assert_msg (pool_check (pool, error, sizeof error) == 0, "%s", error);
  check_objects (shadow);
  check_memory ();
  for (size_t i = 0; i < shadow->nr; ++i)
    verify_object (&shadow->objects[i]);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

/*--------------------------------------------------------------------*/
/* One thread, at random. */

enum sizes { SIZES_ALL, SIZES_SMALL, SIZES_LARGE, SIZES_RAW, SIZES_ONE,
             SIZES_TINY, NR_SIZES };

static uint32_t
choose_size (struct rng *rng, enum sizes sizes)
{
  switch (sizes) {
  case SIZES_SMALL: return (uint32_t) rng_between (rng, 1, 256);
  case SIZES_LARGE: return (uint32_t) rng_between (rng, 2000, 4096);
  case SIZES_RAW: return 4096;
  case SIZES_ONE: return 1234;
  case SIZES_TINY: return (uint32_t) rng_between (rng, 1, 16);
  case SIZES_ALL: case NR_SIZES:
  default: return (uint32_t) rng_between (rng, 1, 4096);
  }
}

static void
run_phase (struct shadow *shadow, struct rng *rng, enum sizes sizes,
           unsigned nr_ops, unsigned alloc_percent)
{
  for (unsigned i = 0; i < nr_ops; ++i) {
    if (rng_below (rng, 100) < alloc_percent && shadow->nr < shadow->max)
      ck_assert_int_eq (alloc_object (shadow, choose_size (rng, sizes)), 0);
    else if (shadow->nr > 0)
      free_object (shadow, rng_below (rng, shadow->nr));
  }
}

START_TEST (test_random)
{
  const unsigned nr_ops = test_quick () || TEST_SANITIZED ? 2000 : 8000;
  struct pool_stats stats;
  struct shadow shadow;
  struct rng rng;

  rng_init (&rng, test_seed (), (uint64_t) _i);
  shadow_init (&shadow, nr_ops, 1);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  check_everything (&shadow);
  for (unsigned round = 0; round < 2; ++round) {
    run_phase (&shadow, &rng, (enum sizes) _i, nr_ops, 95);
    check_everything (&shadow);
    run_phase (&shadow, &rng, SIZES_ALL, nr_ops, 50);
    check_everything (&shadow);
    run_phase (&shadow, &rng, (enum sizes) _i, nr_ops, 10);
    check_everything (&shadow);
    free_all (&shadow, &rng);
    check_everything (&shadow);
    pool_stats (pool, &stats);
    ck_assert_uint_eq (stats.arena_bytes, 0);
    ck_assert_uint_eq (stats.nr_zspages, 0);
    ck_assert_uint_gt (stats.nr_zspages_released, 0);
  }
  close_pool ();
  free (shadow.objects);
}
END_TEST

/* Every size, and the slot that each gets. */
START_TEST (test_every_size)
{
  struct shadow shadow;
  struct rng rng;

  rng_init (&rng, test_seed (), 20);
  shadow_init (&shadow, 2 * OBJECT_MAX, 1);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (uint32_t bytes = 1; bytes <= OBJECT_MAX; ++bytes) {
    const struct size_class_table *table = size_class_table ();
    ck_assert_int_eq (alloc_object (&shadow, bytes), 0);
    ck_assert_uint_eq
      (pool_slot_bytes (pool, shadow.objects[shadow.nr - 1].loc),
       table->classes[size_class_of (table, bytes)].object_bytes);
  }
  check_everything (&shadow);
  free_all (&shadow, &rng);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}
END_TEST

/* Owners are opaque: all 32 bits come back. */
START_TEST (test_owners)
{
  static const owner_t owners[] = {
    0, 1, UINT32_C (1) << 31, OWNER_NONE, OWNER_NONE - 1, 0x55555555
  };
  zs_loc locs[sizeof owners / sizeof owners[0]];

  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (unsigned i = 0; i < sizeof owners / sizeof owners[0]; ++i)
    ck_assert_int_eq (pool_alloc (pool, 100, owners[i], &locs[i]), 0);
  for (unsigned i = 0; i < sizeof owners / sizeof owners[0]; ++i)
    ck_assert_uint_eq (pool_owner (pool, locs[i]), owners[i]);
  /* Destroyed with objects in it. */
  close_pool ();
}
END_TEST

static int
stop_at_third (void *opaque, zs_loc loc, owner_t owner)
{
  (void) loc;
  (void) owner;
  return ++*(unsigned *) opaque == 3 ? 42 : 0;
}

START_TEST (test_iterate_ends_early)
{
  unsigned nr = 0;
  zs_loc loc;

  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (unsigned i = 0; i < 10; ++i)
    ck_assert_int_eq (pool_alloc (pool, 16, i, &loc), 0);
  ck_assert_int_eq (pool_iterate (pool, 0, stop_at_third, &nr), 42);
  ck_assert_uint_eq (nr, 3);
  nr = 100;
  ck_assert_int_eq (pool_iterate (pool, 1, stop_at_third, &nr), 0);
  ck_assert_uint_eq (nr, 100);
  close_pool ();
}
END_TEST

/* What is fresh costs what it has touched: one object, one page of arena;
 * many, not a percent more than they are.
 */
START_TEST (test_touches_little)
{
  struct pool_stats stats;
  struct shadow shadow;

  shadow_init (&shadow, 20000, 1);
  for (size_t bytes = 16; bytes <= 4096; bytes += 1020) {
    open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
    for (unsigned i = 0; i < 10000 && i * bytes < 24 * MIB; ++i) {
      ck_assert_int_eq (alloc_object (&shadow, (uint32_t) bytes), 0);
      pool_stats (pool, &stats);
      const uint64_t taken = (i + 1) * pool_slot_bytes
        (pool, shadow.objects[i].loc);
      ck_assert_uint_le (stats.arena_bytes,
                         pages_round_up (taken + taken / 80 + 4096));
      if (i == 0)
        ck_assert_uint_le (stats.arena_bytes, PAGE_BYTES);
    }
    shadow.nr = 0;
    close_pool ();
  }
  free (shadow.objects);
}
END_TEST

/* The arena's address space is used up: -ENOMEM, and a zspage that one
 * class gave back serves another.
 */
START_TEST (test_arena_used_up)
{
  const unsigned per_zspage = ZSPAGE_BYTES / 4096;
  struct shadow shadow;
  zs_loc loc, freed;
  size_t nr;

  shadow_init (&shadow, 40000, 1);
  open_pool (4 * ZSPAGE_BYTES, PAGES_NO_LIMIT);
  while (alloc_object (&shadow, 4096) == 0)
    ;
  ck_assert_uint_eq (shadow.nr, 4 * per_zspage);
  ck_assert_int_eq (pool_alloc (pool, 4096, 0, &loc), -ENOMEM);
  ck_assert_int_eq (pool_alloc (pool, 16, 0, &loc), -ENOMEM);
  check_everything (&shadow);

  freed = shadow.objects[70].loc;
  free_object (&shadow, 70);
  ck_assert_int_eq (pool_alloc (pool, 16, 0, &loc), -ENOMEM);
  ck_assert_int_eq (alloc_object (&shadow, 4096), 0);
  ck_assert_uint_eq (shadow.objects[shadow.nr - 1].loc, freed);

  for (size_t i = shadow.nr; i-- > 0; )
    if (shadow.objects[i].loc >> LOC_PER_ZSPAGE_SHIFT == 2)
      free_object (&shadow, i);
  ck_assert_uint_eq (shadow.nr, 3 * per_zspage);
  for (nr = 0; alloc_object (&shadow, 16) == 0; ++nr)
    ;
  ck_assert_uint_eq (nr, MAX_OBJECTS_PER_ZSPAGE);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}
END_TEST

START_TEST (test_sizes_of_arenas)
{
  static const uint64_t sizes[] = {
    1, ZSPAGE_BYTES - 1, ZSPAGE_BYTES, ZSPAGE_BYTES + 1, 5 * MIB,
  };
  zs_loc loc;

  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    unsigned nr = 0;
    open_pool (sizes[i], PAGES_NO_LIMIT);
    while (pool_alloc (pool, 4096, 7, &loc) == 0)
      ++nr;
    ck_assert_uint_eq (nr, (sizes[i] + ZSPAGE_BYTES - 1) / ZSPAGE_BYTES
                       * (ZSPAGE_BYTES / 4096));
    close_pool ();
  }
#if !TEST_SANITIZED
  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pool_create (&pages, ARENA_MAX_BYTES, &pool), 0);
  ck_assert_int_eq (pool_activate (pool), 0);
  ck_assert_int_eq (pool_alloc (pool, 4096, 7, &loc), 0);
  ck_assert_uint_le (pages_held (&pages), 64 * KIB);
  pool_destroy (pool);
#endif
}
END_TEST

/*--------------------------------------------------------------------*/
/* The limit. */

START_TEST (test_limit)
{
  const uint64_t limit = 4 * MIB;
  struct shadow shadow;
  struct rng rng;
  zs_loc loc;

  rng_init (&rng, test_seed (), 30 + (uint64_t) _i);
  shadow_init (&shadow, 1 << 19, 1);
  open_pool (ARENA_BYTES, limit);
  for (unsigned round = 0; round < 6; ++round) {
    const enum sizes sizes = round % 2 == 0 ? (enum sizes) _i : SIZES_ALL;
    uint32_t bytes;
    uint64_t held;

    while (bytes = choose_size (&rng, sizes),
           alloc_object (&shadow, bytes) == 0)
      ;
    held = pages_held (&pages);
    ck_assert_uint_le (held, limit);
    ck_assert_int_eq (pool_alloc (pool, bytes, 0, &loc), -ENOSPC);
    ck_assert_uint_eq (pages_held (&pages), held);
    /* Nothing is refused that there is room for: two pages of objects,
     * what a new zspage takes of side table, descriptors and links.
     */
    ck_assert_uint_gt (held + 2 * PAGE_BYTES + 20 * PAGE_BYTES, limit);
    check_everything (&shadow);
    for (unsigned i = (unsigned) (shadow.nr * (round + 1) / 7); i > 0; --i)
      free_object (&shadow, rng_below (&rng, shadow.nr));
    check_everything (&shadow);
  }
  free_all (&shadow, &rng);
  check_everything (&shadow);
  ck_assert_uint_le (atomic_load (&pages.highest), limit);
  close_pool ();
  free (shadow.objects);
}
END_TEST

/* At the limit an object finds any free slot of its class that is resident
 * already, also where the fullest zspage has only untouched ones.
 */
START_TEST (test_limit_finds_resident_slots)
{
  const unsigned per_zspage = ZSPAGE_BYTES / 4096, nr_freed = 40;
  struct shadow shadow;
  unsigned nr = 0;

  shadow_init (&shadow, 4096, 1);
  open_pool (ARENA_BYTES, PAGES_NO_LIMIT);
  for (unsigned i = 0; i < 2 * per_zspage - 24; ++i)
    ck_assert_int_eq (alloc_object (&shadow, 4096), 0);
  atomic_store (&pages.limit, pages_held (&pages));
  /* The first zspage becomes the emptier one. */
  for (unsigned i = nr_freed; i-- > 0; )
    free_object (&shadow, i);
  while (alloc_object (&shadow, 4096) == 0)
    ++nr;
  ck_assert_uint_ge (nr, nr_freed);
  check_everything (&shadow);
  close_pool ();
  free (shadow.objects);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads: each its own objects, some of which change hands. */

#define NR_THREADS 8
#define NR_BOXES 16

static struct shadow shadows[NR_THREADS];
static struct {
  pthread_mutex_t mutex;
  bool full;
  struct object object;
} boxes[NR_BOXES];
static uint64_t threads_limit;
static atomic_bool threads_done;

/* Put an object into a box, take the one that was there. */
static void
swap_with_box (struct shadow *shadow, struct rng *rng)
{
  const size_t i = rng_below (rng, shadow->nr);
  const unsigned box = rng_below (rng, NR_BOXES);
  const struct object mine = shadow->objects[i];

  pthread_mutex_lock (&boxes[box].mutex);
  if (boxes[box].full)
    shadow->objects[i] = boxes[box].object;
  else
    shadow->objects[i] = shadow->objects[--shadow->nr];
  boxes[box].object = mine;
  boxes[box].full = true;
  pthread_mutex_unlock (&boxes[box].mutex);
}

static void *
use_pool (void *arg)
{
  struct shadow *shadow = arg;
  const uint64_t thread = (uint64_t) (shadow - shadows);
  const unsigned nr_ops = test_quick () || TEST_SANITIZED ? 4000 : 30000;
  struct rng rng;

  rng_init (&rng, test_seed (), 40 + thread);
  for (unsigned i = 0; i < nr_ops; ++i) {
    const unsigned phase = i / 500 % 4;
    const unsigned what = rng_below (&rng, 100);

    if (what < 40 + 10 * phase && shadow->nr < shadow->max) {
      const int r = alloc_object
        (shadow, choose_size (&rng, (enum sizes) (phase % NR_SIZES)));
      if (r < 0 && (r != -ENOSPC || threads_limit == PAGES_NO_LIMIT))
        test_note_failure ("pool_alloc gave %d", r);
      if (r < 0 && shadow->nr > 0)
        free_object (shadow, rng_below (&rng, shadow->nr));
    }
    else if (shadow->nr > 0 && what >= 95)
      swap_with_box (shadow, &rng);
    else if (shadow->nr > 0)
      free_object (shadow, rng_below (&rng, shadow->nr));
  }
  return NULL;
}

static int
count_object (void *opaque, zs_loc loc, owner_t owner)
{
  (void) loc;
  (void) owner;
  ++*(uint64_t *) opaque;
  return 0;
}

/* Look at everything while it moves. */
static void *
watch_pool (void *arg)
{
  (void) arg;
  while (!atomic_load (&threads_done)) {
    struct pool_class_stats class_stats;
    struct pool_stats stats;
    uint64_t nr = 0;

    if (pages_held (&pages) > threads_limit)
      test_note_failure ("held is %" PRIu64, pages_held (&pages));
    pool_stats (pool, &stats);
    for (unsigned idx = 0; idx < pool_nr_classes (pool); idx += 7) {
      pool_class_stats (pool, idx, &class_stats);
      if (class_stats.nr_inuse
          > class_stats.nr_zspages * class_stats.objects_per_zspage)
        test_note_failure ("more objects than slots in class %u", idx);
      pool_iterate (pool, idx, count_object, &nr);
    }
    sleep_us (100);
  }
  return NULL;
}

static void
run_threads (void)
{
  pthread_t threads[NR_THREADS], watcher;

  atomic_store (&threads_done, false);
  ck_assert_int_eq (pthread_create (&watcher, NULL, watch_pool, NULL), 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, use_pool,
                                      &shadows[i]), 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&threads_done, true);
  pthread_join (watcher, NULL);
}

/* All objects, of threads and boxes, in one list. */
static void
gather_objects (struct shadow *all)
{
  for (unsigned i = 0; i < NR_THREADS; ++i) {
    memcpy (all->objects + all->nr, shadows[i].objects,
            shadows[i].nr * sizeof all->objects[0]);
    all->nr += shadows[i].nr;
    shadows[i].nr = 0;
  }
  for (unsigned i = 0; i < NR_BOXES; ++i) {
    if (boxes[i].full)
      all->objects[all->nr++] = boxes[i].object;
    boxes[i].full = false;
  }
}

START_TEST (test_threads)
{
  struct pool_stats stats;
  struct shadow all;
  struct rng rng;

  rng_init (&rng, test_seed (), 50);
  threads_limit = _i == 0 ? PAGES_NO_LIMIT : 2 * MIB;
  open_pool (ARENA_BYTES, threads_limit);
  shadow_init (&all, NR_THREADS * 4000 + NR_BOXES, 1);
  for (unsigned i = 0; i < NR_BOXES; ++i)
    pthread_mutex_init (&boxes[i].mutex, NULL);
  for (uint64_t i = 0; i < NR_THREADS; ++i)
    shadow_init (&shadows[i], 4000, i << 28);

  for (unsigned round = 0; round < 2; ++round) {
    run_threads ();
    gather_objects (&all);
    check_everything (&all);
    free_all (&all, &rng);
    check_everything (&all);
    pool_stats (pool, &stats);
    ck_assert_uint_eq (stats.arena_bytes, 0);
  }
  close_pool ();
  for (unsigned i = 0; i < NR_THREADS; ++i)
    free (shadows[i].objects);
  free (all.objects);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("pool");
  TCase *tcase = tcase_create ("pool");
  SRunner *runner;
  int nr_failed;

  test_start ("test-pool");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_every_size);
  tcase_add_test (tcase, test_owners);
  tcase_add_test (tcase, test_iterate_ends_early);
  tcase_add_test (tcase, test_touches_little);
  tcase_add_test (tcase, test_arena_used_up);
  tcase_add_test (tcase, test_sizes_of_arenas);
  tcase_add_loop_test (tcase, test_random, 0, NR_SIZES);
  tcase_add_loop_test (tcase, test_limit, 0, NR_SIZES);
  tcase_add_test (tcase, test_limit_finds_resident_slots);
  tcase_add_loop_test (tcase, test_threads, 0, 2);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
