/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Verifying (store/verify.h): what it finds, what it counts, how fast it
 * goes, how it ends; steps with a clock of our own, and its thread.
 */

#include <config.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "compactor.h"
#include "libcheck.h"
#include "store-fixture.h"
#include "store-private.h"
#include "test-util.h"

#define SIZE (16 * MIB)
#define MS UINT64_C (1000000)

static struct rng rng;
static struct disk disk;
static struct verify_report report;

/* What the hook was told, in order. */
static uint64_t told[4 * VERIFY_MAX_LISTED];
static unsigned nr_told;

static void
note_damage (void *opaque, uint64_t offset)
{
  ck_assert_ptr_eq (opaque, &nr_told);
  ck_assert_uint_lt (nr_told, sizeof told / sizeof told[0]);
  told[nr_told++] = offset;
}

static void
begin (void)
{
  rng_init (&rng, test_seed (), 1);
  disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  nr_told = 0;
  store_on_damage (disk.store, note_damage, &nr_told);
}

static void
end (void)
{
  disk_close (&disk);
}

static void
write_block (uint64_t blkno, enum content content)
{
  uint8_t block[BLOCK_BYTES];

  make_block (&rng, content, block);
  disk_write (&disk, block, BLOCK_BYTES, blkno * BLOCK_BYTES);
}

/* Blocks of every kind and codec, holes between them; returns how many. */
static unsigned
fill_disk (void)
{
  static const char *const codecs[] = { "lz4", "zstd:1", "zstd:9", "none" };
  unsigned nr = 0;

  for (unsigned codec = 0; codec < 4; ++codec) {
    disk_set_codec (&disk, codecs[codec]);
    for (uint64_t blkno = codec; blkno < disk.nr_blocks; blkno += 4)
      if (!rng_once_in (&rng, 3) && blkno / 600 % 2 == 0) {
        write_block (blkno, (enum content) rng_below (&rng, NR_CONTENTS));
        nr++;
      }
  }
  return nr;
}

static void
flip_bit (uint64_t blkno)
{
  uint32_t bytes;
  uint8_t *payload = store_payload_for_test (disk.store, blkno, &bytes);

  ck_assert_ptr_nonnull (payload);
  payload[rng_below (&rng, bytes)] ^= (uint8_t) (1 << rng_below (&rng, 8));
}

static bool
has_payload (uint64_t blkno)
{
  uint32_t bytes;

  return store_payload_for_test (disk.store, blkno, &bytes) != NULL;
}

/* All steps, one after the other, at one time; how many. */
static unsigned
walk (void)
{
  struct verifier *verifier = &disk.store->verifier;
  unsigned nr = 1;

  verify_begin (verifier, 0);
  while (verify_step (verifier, 1, false) != VERIFY_DONE)
    ++nr;
  store_verify_report (disk.store, &report);
  ck_assert_int_eq (report.state, VERIFY_FINISHED);
  ck_assert_uint_eq (report.passed_blocks, report.disk_blocks);
  return nr;
}

/* By the thread; to its end. */
static void
walk_by_thread (void)
{
  ck_assert_int_eq (store_verify_start (disk.store, NULL), 0);
  do {
    sleep_us (200);
    store_verify_report (disk.store, &report);
  } while (report.state == VERIFY_RUNNING);
  ck_assert_int_eq (report.state, VERIFY_FINISHED);
  store_verify_stop (disk.store);
}

/* An empty disk of 1 TiB is region words alone.  (Without the probe, which
 * has a note of each page.)
 */
START_TEST (test_empty_disk)
{
  const struct store_params params = {
    .size_bytes = TEST_SANITIZED ? TIB / 16 : TIB,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
  };
  struct disk large = { .nr_blocks = params.size_bytes / BLOCK_BYTES };
  struct verifier *verifier;
  unsigned nr = 1;
  uint64_t held;

  ck_assert_int_eq (store_create (&params, &large.store), 0);
  ck_assert_int_eq (store_start (large.store), 0);
  verifier = &large.store->verifier;
  held = disk_held (&large);
  store_verify_report (large.store, &report);
  ck_assert_int_eq (report.state, VERIFY_IDLE);
  verify_begin (verifier, 1);
  while (verify_step (verifier, nr, false) != VERIFY_DONE)
    ++nr;
  ck_assert_uint_eq (nr,
                     large.nr_blocks / REGION_BLOCKS / VERIFY_SLICE_REGIONS);
  store_verify_report (large.store, &report);
  ck_assert_int_eq (report.state, VERIFY_FINISHED);
  ck_assert_uint_eq (report.disk_blocks, large.nr_blocks);
  ck_assert_uint_eq (report.checked_blocks, 0);
  ck_assert_uint_eq (report.checked_bytes, 0);
  ck_assert_uint_eq (report.damaged_blocks, 0);
  ck_assert_uint_eq (disk_held (&large), held);
  store_destroy (large.store);
}
END_TEST

/* Of a disk that is well, everything is looked at, and nothing is found. */
START_TEST (test_all_kinds)
{
  struct stats stats;
  unsigned nr_live, nr_steps;

  begin ();
  fill_disk ();
  write_block (disk.nr_blocks - 1, CONTENT_RANDOM);
  stats = disk_stats (&disk);
  nr_live = (unsigned) stats.live_blocks;
  ck_assert (stats.same_filled_blocks > 0 && stats.raw_blocks > 0 &&
             stats.repeat_blocks > 0 && stats.lz4_blocks > 0 &&
             stats.zstd_blocks > 0 && stats.hole_blocks > 0);

  nr_steps = walk ();
  ck_assert_uint_ge (nr_steps,
                     disk.nr_blocks / 2 / GROUP_BLOCKS / VERIFY_SLICE_GROUPS);
  ck_assert_uint_eq (report.checked_blocks, nr_live);
  ck_assert_uint_eq (report.checked_bytes, stats.payload_bytes);
  ck_assert_uint_eq (report.damaged_blocks, 0);
  ck_assert_uint_eq (report.nr_listed, 0);
  ck_assert_uint_eq (disk_stats (&disk).verify_runs, 1);
  ck_assert_uint_eq (disk_stats (&disk).verify_failures, 0);

  walk_by_thread ();
  ck_assert_uint_eq (report.checked_blocks, nr_live);
  ck_assert_uint_eq (report.checked_bytes, stats.payload_bytes);
  ck_assert_uint_eq (disk_stats (&disk).verify_runs, 2);
  ck_assert_uint_eq (nr_told, 0);
  disk_check_all (&disk);
  end ();
}
END_TEST

/* Exactly the damaged blocks: the first ones listed and told, all counted,
 * again at each walk until they heal, and not as failures of reads.
 */
START_TEST (test_damage_is_found)
{
  uint64_t bad[VERIFY_MAX_LISTED + 9];
  unsigned nr_bad = 0;

  begin ();
  fill_disk ();
  for (uint64_t blkno = 0;
       blkno < disk.nr_blocks && nr_bad < sizeof bad / sizeof bad[0]; ++blkno)
    if (has_payload (blkno) && rng_once_in (&rng, 20))
      bad[nr_bad++] = blkno;
  ck_assert_uint_eq (nr_bad, sizeof bad / sizeof bad[0]);
  for (unsigned i = 0; i < nr_bad; ++i)
    flip_bit (bad[i]);

  for (unsigned round = 1; round <= 2; ++round) {
    nr_told = 0;
    if (round == 1)
      walk ();
    else
      walk_by_thread ();
    ck_assert_uint_eq (report.damaged_blocks, nr_bad);
    ck_assert_uint_eq (report.nr_listed, VERIFY_MAX_LISTED);
    ck_assert_uint_eq (nr_told, VERIFY_MAX_LISTED);
    for (unsigned i = 0; i < VERIFY_MAX_LISTED; ++i) {
      ck_assert_uint_eq (report.listed[i], bad[i]);
      ck_assert_uint_eq (told[i], bad[i] * BLOCK_BYTES);
    }
    ck_assert_uint_eq (disk_stats (&disk).verify_failures, round * nr_bad);
    ck_assert_uint_eq (disk_stats (&disk).checksum_failures, 0);
  }

  /* All but the last heal. */
  for (unsigned i = 0; i + 1 < nr_bad; ++i)
    if (i % 2 == 0)
      write_block (bad[i], CONTENT_SO);
    else
      disk_trim (&disk, BLOCK_BYTES, bad[i] * BLOCK_BYTES);
  walk ();
  ck_assert_uint_eq (report.damaged_blocks, 1);
  ck_assert_uint_eq (report.listed[0], bad[nr_bad - 1]);
  write_block (bad[nr_bad - 1], CONTENT_ZERO);
  walk ();
  ck_assert_uint_eq (report.damaged_blocks, 0);
  disk_check_all (&disk);
  end ();
}
END_TEST

/* By a clock of our own: at no time more than the rate has allowed, but for
 * the group that passes it, and not much less either.
 */
START_TEST (test_rate)
{
  const uint64_t rate = MIB;
  struct verifier *verifier;
  uint64_t now_ns = 5000 * MS, wait_ns, allowed;
  const uint64_t begin_ns = now_ns;
  uint64_t before = 0, nr_steps = 0;

  begin ();
  fill_disk ();
  verifier = &disk.store->verifier;
  verify_begin (verifier, rate);
  while ((wait_ns = verify_step (verifier, now_ns, false)) != VERIFY_DONE) {
    store_verify_report (disk.store, &report);
    allowed = (now_ns - begin_ns) * rate / (1000 * MS);
    ck_assert_uint_le (report.checked_bytes, allowed +
                                               rate / VERIFY_RATE_SLICES_PER_S +
                                               GROUP_BLOCKS * BLOCK_BYTES + 1);
    ck_assert_uint_ge (report.checked_bytes + 1, allowed);
    before = report.checked_bytes;
    /* Too early: nothing happens, and the rest is to be waited for. */
    if (wait_ns > 2) {
      ck_assert_uint_eq (verify_step (verifier, now_ns + wait_ns / 2, false),
                         wait_ns - wait_ns / 2);
      store_verify_report (disk.store, &report);
      ck_assert_uint_eq (report.checked_bytes, before);
    }
    now_ns += wait_ns;
    nr_steps++;
  }
  ck_assert_uint_gt (before, 0);
  store_verify_report (disk.store, &report);
  ck_assert_uint_eq (report.checked_bytes, disk_stats (&disk).payload_bytes);
  /* All but the last step's bytes were waited for, to a nanosecond each. */
  ck_assert_uint_ge (now_ns - begin_ns + nr_steps, before * 1000 * MS / rate);
  ck_assert_uint_eq (report.running_ns, now_ns - begin_ns);
  ck_assert_uint_eq (report.rate, rate);

  /* Where others want the processor it pauses, once. */
  verify_begin (verifier, 0);
  ck_assert_uint_eq (verify_step (verifier, now_ns, true), VERIFY_PAUSE_NS);
  ck_assert_uint_eq (verify_step (verifier, now_ns, false), 0);
  end ();
}
END_TEST

/* The thread: it stops when it is told to, however slow it is; it can begin
 * anew; a rate can be set while it runs; who asks meanwhile begins no other.
 */
START_TEST (test_thread)
{
  const uint64_t slow = 1, any = 0;

  begin ();
  fill_disk ();
  store_verify_stop (disk.store); /* there is none */
  store_verify_report (disk.store, &report);
  ck_assert_int_eq (report.state, VERIFY_IDLE);

  ck_assert_int_eq (store_verify_start (disk.store, &slow), 0);
  do {
    sleep_us (100);
    store_verify_report (disk.store, &report);
  } while (report.checked_blocks == 0);
  ck_assert_int_eq (report.state, VERIFY_RUNNING);
  store_verify_stop (disk.store);
  store_verify_report (disk.store, &report);
  ck_assert_int_eq (report.state, VERIFY_STOPPED);
  ck_assert_uint_lt (report.passed_blocks, report.disk_blocks);
  ck_assert_uint_eq (disk_stats (&disk).verify_runs, 0);

  ck_assert_int_eq (store_verify_start (disk.store, &slow), 0);
  ck_assert_int_eq (store_verify_start (disk.store, NULL), 0);
  store_verify_report (disk.store, &report);
  ck_assert_int_eq (report.state, VERIFY_RUNNING);
  ck_assert_uint_eq (report.rate, slow);
  ck_assert_int_eq (store_verify_start (disk.store, &any), 0);
  do {
    sleep_us (100);
    store_verify_report (disk.store, &report);
  } while (report.state == VERIFY_RUNNING);
  ck_assert_int_eq (report.state, VERIFY_FINISHED);
  ck_assert_uint_eq (report.rate, any);
  ck_assert_uint_eq (report.checked_bytes, disk_stats (&disk).payload_bytes);
  ck_assert_uint_eq (disk_stats (&disk).verify_runs, 1);

  /* In the middle of one the disk may go. */
  ck_assert_int_eq (store_verify_start (disk.store, &slow), 0);
  end ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* While blocks are written, trimmed, read and moved. */

#define NR_WRITERS 3

static atomic_bool done;

static void *
write_blocks (void *opaque)
{
  const uint64_t thread = (uint64_t) (uintptr_t) opaque;
  static _Thread_local uint8_t buf[20 * BLOCK_BYTES];
  struct rng mine;

  rng_init (&mine, test_seed (), 10 + thread);
  while (!atomic_load (&done)) {
    const uint64_t n = rng_between (&mine, 1, 20);
    const uint64_t at = rng_below (&mine, disk.nr_blocks - n) * BLOCK_BYTES;
    const uint64_t bytes = n * BLOCK_BYTES;
    int r;

    if (rng_once_in (&mine, 3))
      r = store_trim (disk.store, bytes, at);
    else if (rng_once_in (&mine, 4))
      r = store_write (disk.store, "part", 4, at + 100);
    else if (rng_once_in (&mine, 4))
      r = store_read (disk.store, buf, bytes, at);
    else {
      make_range (&mine, buf, bytes, at);
      r = store_write (disk.store, buf, bytes, at);
    }
    if (r != 0)
      test_note_failure ("a request gave %d", r);
  }
  return NULL;
}

static void *
compact_and_switch (void *opaque)
{
  static const struct codec_spec specs[] = {
    { CODEC_ZSTD, 1 },
    { CODEC_LZ4, 1 },
    { CODEC_RAW, 0 },
  };
  struct compact_report compacted;

  (void) opaque;
  for (unsigned i = 0; !atomic_load (&done); ++i) {
    const uint64_t ticket = store_compact (disk.store, -1);

    while (!store_compact_report (disk.store, ticket, &compacted))
      sleep_us (200);
    if (store_set_codec (disk.store, &specs[i % 3]) != 0)
      test_note_failure ("store_set_codec failed");
  }
  return NULL;
}

/* Nothing that is well is ever said to be damaged, and what is damaged, and
 * written by nobody, is found each time, wherever compaction has moved it.
 */
START_TEST (test_concurrent)
{
  const unsigned nr_walks = test_short () ? 5 : 15;
  pthread_t writers[NR_WRITERS], other;
  struct disk whole;
  uint64_t bad;
  char error[512];

  begin ();
  fill_disk ();
  /* The last region, where writers do not come. */
  bad = disk.nr_blocks - 5;
  write_block (bad, CONTENT_TEXT);
  flip_bit (bad);
  whole = disk;
  disk.nr_blocks -= REGION_BLOCKS;
  ck_assert_int_eq (store_start_worker (disk.store), 0);
  atomic_store (&done, false);
  for (uintptr_t i = 0; i < NR_WRITERS; ++i)
    ck_assert_int_eq (pthread_create (&writers[i], NULL, write_blocks,
                                      (void *) i),
                      0);
  ck_assert_int_eq (pthread_create (&other, NULL, compact_and_switch, NULL), 0);
  for (unsigned i = 0; i < nr_walks; ++i) {
    nr_told = 0;
    walk_by_thread ();
    ck_assert_uint_eq (report.damaged_blocks, 1);
    ck_assert_uint_eq (report.listed[0], bad);
    ck_assert_uint_eq (nr_told, 1);
  }
  atomic_store (&done, true);
  for (unsigned i = 0; i < NR_WRITERS; ++i)
    pthread_join (writers[i], NULL);
  pthread_join (other, NULL);
  store_stop_worker (disk.store);
  ck_assert_uint_eq (disk_stats (&disk).verify_runs, nr_walks);
  ck_assert_uint_eq (disk_stats (&disk).verify_failures, nr_walks);
  ck_assert_uint_eq (disk_stats (&disk).checksum_failures, 0);
  ck_assert_msg (store_check (disk.store, error, sizeof error) == 0, "%s",
                 error);
  disk = whole;
  end ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("verify");
  TCase *tcase = tcase_create ("verify");
  SRunner *runner;
  int nr_failed;

  test_start ("test-verify");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_empty_disk);
  tcase_add_test (tcase, test_all_kinds);
  tcase_add_test (tcase, test_damage_is_found);
  tcase_add_test (tcase, test_rate);
  tcase_add_test (tcase, test_thread);
  tcase_add_test (tcase, test_concurrent);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
