/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the system refuses, in process: the Nth call of a family fails, for
 * every N until no call does.  Each time a clean error or none; the store
 * consistent, its data whole; nothing leaked, by counts of allocations and
 * descriptors, under AddressSanitizer by its own; and the same once more, with
 * nothing failing, succeeds.
 *
 * Here the store; the plugin's parts are in test-fail-nth-plugin.c.  Pages are
 * test-alloc-failure's, calls of a whole server test-faults.sh's.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "compactor.h"
#include "fail-scene.h"
#include "libcheck.h"
#include "probe.h"

/*--------------------------------------------------------------------*/
/* The life of a store. */

static struct codec_spec life_codec;
static int nr_ranges; /* of address space */

static int
count_reserve (struct pages *pages, size_t bytes, void **addr)
{
  const int r = pages_anonymous.reserve (pages, bytes, addr);

  nr_ranges += r == 0;
  return r;
}

static void
count_release (struct pages *pages, void *addr, size_t bytes)
{
  --nr_ranges;
  pages_anonymous.release (pages, addr, bytes);
}

static int
live (void)
{
  struct pages_ops ops = pages_anonymous;
  const struct store_params params = { .size_bytes = FAIL_DISK_BYTES,
                                       .limit_bytes = PAGES_NO_LIMIT,
                                       .codec = life_codec,
                                       .nr_contexts = 2,
                                       .pages_ops = &ops };
  struct store *store = NULL;
  int r;

  ops.reserve = count_reserve;
  ops.release = count_release;
  r = store_create (&params, &store);
  if (r < 0)
    return r;
  r = store_start (store);
  if (r == 0)
    r = store_start_worker (store);
  if (r == 0)
    store_stop_worker (store);
  store_destroy (store);
  return r;
}

static void
check_life (int r, bool failed)
{
  (void) failed;
  ck_assert (r == 0 || r == -ENOMEM || r == -EMFILE || r == -EAGAIN);
  ck_assert_int_eq (nr_ranges, 0);
}

/* Loop: the codec. */
START_TEST (test_life)
{
  static const struct codec_spec codecs[] = { { CODEC_LZ4, 1 },
                                              { CODEC_ZSTD, 1 },
                                              { CODEC_RAW, 0 } };
  const struct scene scene = { "life of a store", live, check_life };

  life_codec = codecs[_i];
  ck_assert_uint_gt (fail_each (&scene, FAULT_MALLOC), 2);
  ck_assert_uint_gt (fail_each (&scene, FAULT_MMAP), 5);
  ck_assert_uint_gt (fail_each (&scene, FAULT_MADVISE), 5);
  ck_assert_uint_gt (fail_each (&scene, FAULT_SOCKET), 0);
  ck_assert_uint_gt (fail_each (&scene, FAULT_THREAD), 0);
  fail_each (&scene, FAULT_FILE);
}
END_TEST

/* Advice that is needed: a huge page would be more than what is counted.
 * The second one, that the pages stay out of core dumps, is not.
 */
START_TEST (test_advice)
{
  struct pages pages;
  void *addr;

  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  for (uint64_t nth = 0; nth <= 2; ++nth) {
    int r;

    ck_assert_int_eq (pages_reserve (&pages, MIB, &addr), 0);
    fail_nth (FAULT_MADVISE, nth);
    r = pages_activate (&pages, addr, MIB);
    ck_assert_int_eq (fail_nth_end (), nth > 0);
    ck_assert_int_eq (r, nth == 1 ? -ENOMEM : 0);
    pages_release (&pages, addr, MIB);
  }
}
END_TEST

/*--------------------------------------------------------------------*/
/* A disk with data. */

/* Reads, writes, zeroes, trims and extents allocate nothing: they cannot fail
 * for want of it, and a server that is swapped to does not wait for itself.
 */
START_TEST (test_requests)
{
  unsigned nr_refused = 0;

  open_disk ();
  for (unsigned i = 0; i < 200; ++i) {
    const uint64_t count = rng_size (&rng, 200000);
    const uint64_t offset = rng_below (&rng, FAIL_DISK_BYTES - count);
    struct store *store = disk.store;

    make_range (&rng, buf, count, offset);
    fail_nth (FAULT_MALLOC, 1);
    nr_refused += store_read (store, disk.scratch, count, offset) != 0;
    nr_refused += store_zero (store, count, offset, i % 2) != 0;
    nr_refused += store_write (store, buf, count, offset) != 0;
    nr_refused += store_trim (store, count / 4, offset) != 0;
    ck_assert (!fail_nth_end ());
    ck_assert_uint_eq (fail_nth_calls (), 0);
    disk_write (&disk, buf, count, offset);
  }
  ck_assert_uint_eq (nr_refused, 0);
  disk_verify (&disk, FAIL_DISK_BYTES, 0);
  close_disk ();
}
END_TEST

static const struct codec_spec codec_pairs[][2] = {
  { { CODEC_LZ4, 1 }, { CODEC_ZSTD, 3 } },
  { { CODEC_ZSTD, 3 }, { CODEC_ZSTD, 1 } },
  { { CODEC_ZSTD, 1 }, { CODEC_LZ4, 4 } },
  { { CODEC_LZ4, 4 }, { CODEC_RAW, 0 } },
};
static const struct codec_spec *from, *to;

static int
change_codec (void)
{
  return store_set_codec (disk.store, to);
}

static void
check_codec (int r, bool failed)
{
  const struct codec_spec now = store_codec (disk.store);

  (void) failed;
  ck_assert (r == 0 || r == -ENOMEM);
  ck_assert_int_eq (now.id, r == 0 ? to->id : from->id);
  ck_assert_int_eq (now.level, r == 0 ? to->level : from->level);
  disk_check_all (&disk);
  make_range (&rng, buf, 20000, 3000);
  disk_write (&disk, buf, 20000, 3000);
  ck_assert_int_eq (store_set_codec (disk.store, to), 0);
  ck_assert_int_eq (store_set_codec (disk.store, from), 0);
  disk_check_all (&disk);
}

/* Loop: from which codec to which. */
START_TEST (test_codec)
{
  const struct scene scene = { "change of codec", change_codec, check_codec };

  open_disk ();
  from = &codec_pairs[_i][0];
  to = &codec_pairs[_i][1];
  ck_assert_int_eq (store_set_codec (disk.store, from), 0);
  fail_each (&scene, FAULT_MALLOC);
  close_disk ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Pages, where the unit tests of requests do not come by: compaction, the
 * limit, the codec.
 */

static void
trim_most (void)
{
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno)
    if (blkno % 5 != 0)
      disk_trim (&disk, TEST_BLOCK_BYTES, blkno * TEST_BLOCK_BYTES);
}

static void
disturb_disk (void)
{
  struct compact_report report;
  const struct codec_spec zstd = { CODEC_ZSTD, 2 };
  uint64_t ticket;
  int r;

  trim_most ();
  ticket = store_compact (disk.store, -1);
  ck_assert (store_compact_report (disk.store, ticket, &report));
  disk_check (&disk);
  r = store_set_limit (disk.store, disk_held (&disk) * 9 / 10);
  ck_assert (r == 0 || r == -EINVAL);
  for (unsigned i = 0; i < 10; ++i) {
    const uint64_t count = rng_size (&rng, 100000);
    const uint64_t offset = rng_below (&rng, FAIL_DISK_BYTES - count);

    make_range (&rng, buf, count, offset);
    r = store_write (disk.store, buf, count, offset);
    ck_assert (r == 0 || r == -ENOMEM || r == -ENOSPC);
    disk_verify_old_or_new (&disk, buf, count, offset);
  }
  r = store_set_codec (disk.store, &zstd);
  ck_assert (r == 0 || r == -ENOSPC);
  ck_assert_int_eq (store_set_limit (disk.store, PAGES_NO_LIMIT), 0);
  rng_fill (&rng, buf, MIB);
  r = store_write (disk.store, buf, MIB, MIB);
  ck_assert (r == 0 || r == -ENOMEM);
  disk_verify_old_or_new (&disk, buf, MIB, MIB);
  disk_check_all (&disk);
}

/* ZMEM_LONG=1: every N, where there are many. */
static bool
is_long (void)
{
  const char *text = getenv ("ZMEM_LONG");

  return text != NULL && *text != '\0';
}

/* Loop: the kind of call. */
START_TEST (test_pages)
{
  const enum probe_kind kind = (enum probe_kind) _i;
  uint64_t nth = 1, failed_before;

  open_disk ();
  do {
    fill_disk (12);
    failed_before = probe_nr_failed ();
    probe_fail_nth (kind, nth);
    disturb_disk ();
    nth += nth < 12 || is_long () ? 1 : 1 + rng_below (&rng, 12);
  } while (probe_nr_failed () > failed_before && nth < FAIL_MAX_NTH);
  probe_fail_nth (kind, 0);
  ck_assert_uint_lt (nth, FAIL_MAX_NTH);
  printf ("compaction, limit and codec: %s: %" PRIu64 " calls failed\n",
          probe_kind_names[kind], probe_nr_failed ());
  fflush (stdout);
  fill_disk (12);
  disk_check_all (&disk);
  close_disk ();
}
END_TEST

int
main (void)
{
  TCase *tcase = tcase_create ("fail-nth");

  test_start ("test-fail-nth");
  tcase_add_loop_test (tcase, test_life, 0, 3);
  tcase_add_test (tcase, test_advice);
  tcase_add_test (tcase, test_requests);
  tcase_add_loop_test (tcase, test_codec, 0,
                       sizeof codec_pairs / sizeof codec_pairs[0]);
  tcase_add_loop_test (tcase, test_pages, 0, NR_PROBE_KINDS);
  return run_fail_tests ("fail-nth", tcase);
}
