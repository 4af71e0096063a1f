/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What compaction computes from which statistics: tables of classes and of
 * sources.  No clock, no pool.
 */

#include <config.h>

#include <stdlib.h>

#include "libcheck.h"
#include "policy.h"
#include "pool-move.h"
#include "test-util.h"

#define N_ELEMS(a) (sizeof (a) / sizeof (a)[0])

/*--------------------------------------------------------------------*/
/* What can be had of a class, by hand. */

static const struct {
  uint32_t object_bytes, objects_per_zspage;
  uint64_t nr_inuse, resident_pages, reclaimable_pages;
} classes[] = {
  /* Raw blocks: a page each. */
  { 4096, 64, 0, 0, 0 },
  { 4096, 64, 0, 64, 64 },
  { 4096, 64, 1, 64, 63 },
  { 4096, 64, 64, 64, 0 },
  { 4096, 64, 64, 128, 64 },
  { 4096, 64, 96, 128, 32 },
  { 4096, 64, 65, 65, 0 },
  /* The smallest: 256 to a page. */
  { 16, 16384, 1, 1, 0 },
  { 16, 16384, 1, 64, 63 },
  { 16, 16384, 256, 2, 1 },
  { 16, 16384, 257, 2, 0 },
  { 16, 16384, 16384, 64, 0 },
  { 16, 16384, 16385, 66, 1 },
  /* 127 * 2064 bytes: 63.996 pages.  10 of them: 5.04 pages. */
  { 2064, 127, 127, 64, 0 },
  { 2064, 127, 137, 70, 0 },
  { 2064, 127, 137, 128, 58 },
  { 2064, 127, 1270, 640, 0 },
  { 2064, 127, 635, 640, 320 },
  /* 65 * 4032 bytes: 63.98 pages; an object straddles pages. */
  { 4032, 65, 2, 3, 1 },
  { 4032, 65, 1, 2, 1 },
  /* 963 * 272 bytes: 63.95 pages. */
  { 272, 963, 963 * 3 + 1, 4 * 64, 63 },
  /* Fewer resident than packing needs cannot be, and is none. */
  { 4096, 64, 64, 60, 0 },
};

static struct pool_class_stats
class_stats (uint32_t object_bytes, uint32_t objects_per_zspage,
             uint64_t nr_inuse, uint64_t resident_pages)
{
  return (struct pool_class_stats) {
    .object_bytes = object_bytes,
    .objects_per_zspage = objects_per_zspage,
    .nr_inuse = nr_inuse,
    .resident_bytes = resident_pages * PAGE_BYTES,
  };
}

START_TEST (test_reclaimable)
{
  const struct pool_class_stats stats =
    class_stats (classes[_i].object_bytes, classes[_i].objects_per_zspage,
                 classes[_i].nr_inuse, classes[_i].resident_pages);

  ck_assert_uint_eq (policy_reclaimable (&stats),
                     classes[_i].reclaimable_pages * PAGE_BYTES);
}
END_TEST

START_TEST (test_choose_class)
{
  const struct pool_class_stats stats[] = {
    class_stats (16, 16384, 16384, 64), /* nothing */
    class_stats (2064, 127, 137, 128),  /* 58 pages */
    class_stats (4032, 65, 0, 0),       /* empty */
    class_stats (4096, 64, 1, 64),      /* 63 pages */
    class_stats (272, 963, 1, 2),       /* 1 page */
  };
  static const int order[] = { 3, 1, 4, -1 };
  uint64_t reclaimable[N_ELEMS (stats)];
  bool done[N_ELEMS (stats)] = { false };

  for (unsigned i = 0; i < N_ELEMS (stats); i++)
    reclaimable[i] = policy_reclaimable (&stats[i]);
  for (unsigned i = 0; i < N_ELEMS (order); i++) {
    const int chosen = policy_choose_class (reclaimable, N_ELEMS (stats), done);

    ck_assert_int_eq (chosen, order[i]);
    if (chosen >= 0)
      done[chosen] = true;
  }
  ck_assert_int_eq (policy_choose_class (reclaimable, 0, done), -1);
}
END_TEST

/*--------------------------------------------------------------------*/

static const struct {
  const char *what;
  unsigned resident, in_place, packed, elsewhere, to_pack;
  uint32_t object_bytes;
  int64_t credit;
  bool pays;
} packs[] = {
  { "half full, scattered", 64, 0, 32, 0, 32, 4096, 0, true },
  { "more to copy than it gives", 64, 0, 40, 0, 30, 4096, 0, false },
  { "the same, and the run is ahead", 64, 0, 40, 0, 30, 4096, 6 * 4096, true },
  { "not ahead enough", 64, 0, 40, 0, 30, 4096, 6 * 4096 - 1, false },
  { "behind: it does not make it worse", 64, 0, 32, 0, 32, 4096, -1000000,
    true },
  { "behind, and would", 64, 0, 32, 0, 33, 4096, -1000000, false },
  { "free pages give as much in place", 64, 32, 32, 0, 1, 16, 0, false },
  { "one page more", 64, 31, 32, 0, 1, 16, 0, true },
  { "one page more, all that it costs", 64, 31, 32, 0, 2, 4096, 0, true },
  { "nothing to gain", 10, 0, 10, 0, 0, 4096, 1 << 20, false },
  { "it would even grow", 9, 0, 10, 0, 3, 4096, 1 << 20, false },
  { "most leave for elsewhere", 64, 0, 2, 60, 1, 4096, 0, true },
  { "many leave, little is gained", 20, 0, 19, 100, 1, 2064, 0, false },
  { "small objects", 64, 0, 33, 0, 7936, 16, 0, true },
  { "small objects, one too many", 64, 0, 33, 0, 7937, 16, 0, false },
};

START_TEST (test_pack_pays)
{
  const struct pool_source source = {
    .nr_resident_pages = packs[_i].resident,
    .nr_free_pages = packs[_i].in_place,
    .nr_packed_pages = packs[_i].packed,
    .nr_slots_elsewhere = packs[_i].elsewhere,
    .nr_to_pack = packs[_i].to_pack,
  };

  ck_assert_msg (policy_pack_pays (&source, packs[_i].object_bytes,
                                   packs[_i].credit) == packs[_i].pays,
                 "%s", packs[_i].what);
}
END_TEST

/* Whatever the sources: a run that packs only where it pays never falls
 * behind, and each pack that costs no more than it gains is done.
 */
START_TEST (test_pack_keeps_ahead)
{
  int64_t credit = 0;
  struct rng rng;

  rng_init (&rng, test_seed (), 1);
  for (unsigned i = 0; i < 100000; i++) {
    const unsigned resident = (unsigned) rng_between (&rng, 1, 64);
    const unsigned packed = (unsigned) rng_between (&rng, 0, resident);
    const uint32_t bytes = (uint32_t) rng_between (&rng, 1, 256) * 16;
    const struct pool_source source = {
      .nr_resident_pages = resident,
      .nr_packed_pages = packed,
      .nr_slots_elsewhere = (unsigned) rng_below (&rng, 100),
      .nr_to_pack = (unsigned) rng_below (&rng, 100),
    };
    const unsigned moves = source.nr_slots_elsewhere > source.nr_to_pack
                             ? source.nr_slots_elsewhere
                             : source.nr_to_pack;
    const int64_t ahead =
      (int64_t) (resident - packed) * 4096 - (int64_t) moves * bytes;

    if (policy_pack_pays (&source, bytes, credit)) {
      credit += ahead;
      ck_assert_int_ge (credit, 0);
    }
    else
      ck_assert (ahead < 0 || packed == resident);
  }
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("policy");
  TCase *tcase = tcase_create ("policy");
  SRunner *runner;
  int nr_failed;

  test_start ("test-policy");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_reclaimable, 0, N_ELEMS (classes));
  tcase_add_test (tcase, test_choose_class);
  tcase_add_loop_test (tcase, test_pack_pays, 0, N_ELEMS (packs));
  tcase_add_test (tcase, test_pack_keeps_ahead);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
