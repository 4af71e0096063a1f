/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool to test with; see pool-fixture.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libcheck.h"
#include "pool-check.h"
#include "pool-fixture.h"
#include "probe.h"

struct pages pages;
struct pool *pool;

void
open_pool_with_reserve (const struct pages_ops *ops, uint64_t arena_bytes,
                        uint64_t limit, uint64_t reserve)
{
  probe_reset ();
  pages_init (&pages, ops, limit);
  ck_assert_int_eq (pool_create (&pages, arena_bytes, &pool), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
  pool_set_reserve (pool, reserve);
  ck_assert_int_eq (pool_activate (pool), 0);
  if (limit != PAGES_NO_LIMIT)
    probe_watch_limit (limit);
}

void
open_pool (uint64_t arena_bytes, uint64_t limit)
{
  open_pool_with_reserve (&probe_ops, arena_bytes, limit, 0);
}

void
close_pool (void)
{
  pool_destroy (pool);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

void
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
    test_note_failure ("owner is %x, was %x", pool_owner (pool, object->loc),
                       object->owner);
  for (size_t i = 0; i < bytes / sizeof *p; ++i)
    if (p[i] != object->tag * UINT64_C (0x9e3779b97f4a7c15) + i) {
      test_note_failure ("object %" PRIx64 " of %u bytes was overwritten at "
                         "byte %zu",
                         object->loc, object->bytes, i * 8);
      return;
    }
}

int
alloc_object (struct shadow *shadow, uint32_t bytes)
{
  struct object object = {
    .bytes = bytes,
    .tag = shadow->next_tag++,
  };
  int r;

  object.owner = (owner_t) object.tag;
  r = pool_alloc (pool, bytes, object.owner, &object.loc);
  if (r < 0)
    return r;
  if (bytes > size_class_largest_compressed () &&
      (object.loc << ZS_LOC_SHIFT) % PAGE_BYTES != 0)
    test_note_failure ("a raw object is not page-aligned");
  fill_object (&object);
  shadow->objects[shadow->nr++] = object;
  return 0;
}

void
free_object (struct shadow *shadow, size_t i)
{
  verify_object (&shadow->objects[i]);
  pool_free (pool, shadow->objects[i].loc);
  shadow->objects[i] = shadow->objects[--shadow->nr];
}

void
free_all (struct shadow *shadow, struct rng *rng)
{
  while (shadow->nr > 0)
    free_object (shadow, rng_below (rng, shadow->nr));
}

uint32_t
choose_size (struct rng *rng, enum sizes sizes)
{
  switch (sizes) {
  case SIZES_SMALL:
    return (uint32_t) rng_between (rng, 1, 256);
  case SIZES_LARGE:
    return (uint32_t) rng_between (rng, 2000, 4096);
  case SIZES_RAW:
    return 4096;
  case SIZES_ONE:
    return 1234;
  case SIZES_TINY:
    return (uint32_t) rng_between (rng, 1, 16);
  case SIZES_ALL:
  case NR_SIZES:
  default:
    return (uint32_t) rng_between (rng, 1, 4096);
  }
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

  for (size_t i = start; i < found->nr;) {
    const zs_loc zspage = found->objects[i].loc >> LOC_PER_ZSPAGE_SHIFT;
    uint64_t n = 0;

    while (i < found->nr &&
           found->objects[i].loc >> LOC_PER_ZSPAGE_SHIFT == zspage)
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

/* For each of many: an assertion of libcheck writes to a file. */
static void
expect_equal (uint64_t is, uint64_t want, const char *what)
{
  if (is != want)
    test_note_failure ("%s: %" PRIu64 ", not %" PRIu64, what, is, want);
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
      expect_equal (pool_slot_bytes (pool, found.objects[i].loc),
                    class_stats.object_bytes, "slot bytes");
    check_fullness (&found, start, &class_stats);
    resident += class_stats.resident_bytes;
    nr_zspages += class_stats.nr_zspages;
  }

  pool_stats (pool, &stats);
  ck_assert_uint_eq (stats.arena_bytes,
                     resident + stats.primed_bytes + stats.spare_bytes);
  ck_assert_uint_eq (stats.nr_zspages, nr_zspages);

  /* Iterating saw exactly the objects that live. */
  ck_assert_uint_eq (found.nr, shadow->nr);
  qsort (found.objects, found.nr, sizeof found.objects[0], compare_locs);
  qsort (shadow->objects, shadow->nr, sizeof shadow->objects[0], compare_locs);
  for (size_t i = 0; i < found.nr; ++i) {
    expect_equal (found.objects[i].loc, shadow->objects[i].loc, "location");
    expect_equal (found.objects[i].owner, shadow->objects[i].owner, "owner");
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
                     probe_resident_at (pool_borrow (pool, 0), &start, &bytes));
  ck_assert_ptr_eq (start, pool_borrow (pool, 0));
  ck_assert_uint_eq (stats.bookkeeping_bytes,
                     pages_held (&pages) - stats.arena_bytes);
}

void
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
