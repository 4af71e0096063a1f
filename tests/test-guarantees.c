/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The guarantees on memory, of a whole disk with real payloads, against the
 * trims and overwrites that an enemy would choose (frees.h):
 *
 *   G1  after compaction held <= 1.02 L + M + 2 MiB, with L the payloads,
 *       each rounded up to 16 bytes, and M 16 bytes a live block, 4 KiB a
 *       live region and 1 MiB
 *   G2  dropping blocks of F payload bytes lowers held by 0.97 F - 2 MiB
 *   G3  a run copies no more bytes than it returns
 *   G5  held never passes the limit, and while the payloads are well below
 *       it no write is refused
 *
 * In bytes and counts, never in time; there is no worker, so a compaction is
 * done when store_compact returns.  And what a compaction may do to the
 * table: one word a move, of which the location alone changes.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compactor.h"
#include "frees.h"
#include "libcheck.h"
#include "probe.h"
#include "situation.h"
#include "store-fixture.h"
#include "store-private.h"
#include "test-util.h"

static struct rng rng;
static struct disk disk;
static char situation[160];
static uint8_t block[BLOCK_BYTES];
static uint64_t *ages; /* of blocks: when last written */
static uint64_t next_age;
static struct victim *victims;
static entry_t *entries;                /* before a compaction */
static uint64_t nr_changed[MAX_CODECS]; /* entries, by codec */

/*--------------------------------------------------------------------*/
/* Blocks to write. */

enum mix {
  MIX_TEXT,       /* payloads of any size */
  MIX_EVERY_KIND, /* of every kind that a block can be */
  MIX_RAW,
  MIX_JUST_ABOVE, /* payloads a little above a class */
  MIX_SMALL,      /* payloads below 300 bytes */
  MIX_REPEAT,     /* payloads of 8 bytes: hundreds of them in a zspage */
  MIX_EVERY_KIND_ZSTD,
  NR_MIXES
};

#define NR_ABOVE 50
static unsigned noise_above[NR_ABOVE]; /* bytes of noise for that */

/* So many bytes that do not compress, then zeros. */
static void
make_noise_block (unsigned bytes)
{
  memset (block, 0, sizeof block);
  rng_fill (&rng, block, bytes);
}

static void
make_mixed_block (enum mix mix)
{
  static const enum content kinds[] = {
    CONTENT_TEXT,   CONTENT_TEXT, CONTENT_TEXT,      CONTENT_TEXT,
    CONTENT_SO,     CONTENT_SO,   CONTENT_NEAR,      CONTENT_RANDOM,
    CONTENT_RANDOM, CONTENT_ZERO, CONTENT_PATTERN32, CONTENT_PATTERN64,
  };

  switch ((int) mix) {
  case MIX_TEXT:
    make_text_block (&rng, (unsigned) rng_below (&rng, 60), block);
    break;
  case MIX_RAW:
    make_block (&rng, CONTENT_RANDOM, block);
    break;
  case MIX_JUST_ABOVE:
    make_noise_block (noise_above[rng_below (&rng, NR_ABOVE)]);
    break;
  case MIX_SMALL:
    make_noise_block ((unsigned) rng_below (&rng, 280));
    break;
  case MIX_REPEAT:
    make_block (&rng, CONTENT_PATTERN64, block);
    break;
  default:
    make_block (&rng, kinds[rng_below (&rng, sizeof kinds / sizeof kinds[0])],
                block);
    break;
  }
}

static void
write_block (uint64_t blkno)
{
  disk_write (&disk, block, BLOCK_BYTES, blkno * BLOCK_BYTES);
  ages[blkno] = ++next_age;
}

static bool
block_is_hole (uint64_t blkno)
{
  return entry_kind (block_table_load (&disk.store->table, blkno)) ==
         ENTRY_HOLE;
}

/* Every hole is written; the others, too, or not. */
static void
write_disk (enum mix mix, bool holes_only)
{
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno)
    if (!holes_only || block_is_hole (blkno)) {
      make_mixed_block (mix);
      write_block (blkno);
    }
}

/* For the larger classes: how much noise makes a payload that is just too
 * large for the one below.
 */
static void
find_noise_above (void)
{
  const struct size_class_table *table = size_class_table ();
  unsigned noise = 0;

  for (unsigned i = 0; i < NR_ABOVE; ++i) {
    const uint32_t below =
      table->classes[table->nr_classes - 3 - (NR_ABOVE - 1 - i)].object_bytes;

    for (;; ++noise) {
      uint32_t bytes = 0;

      make_noise_block (noise);
      write_block (0);
      store_payload_for_test (disk.store, 0, &bytes);
      if (bytes > below)
        break;
    }
    noise_above[i] = noise;
  }
}

/*--------------------------------------------------------------------*/

static uint64_t
size_of_disk (enum mix mix)
{
  const uint64_t bytes = mix == MIX_RAW ? 12 * MIB : 20 * MIB;

  return test_short () ? bytes / 2 : bytes;
}

static void
open_disk (uint64_t size, uint64_t limit, const char *codec)
{
  disk = disk_open (size, limit, codec);
  ages = calloc (disk.nr_blocks, sizeof ages[0]);
  victims = calloc (disk.nr_blocks, sizeof victims[0]);
  entries = calloc (disk.nr_blocks, sizeof entries[0]);
  ck_assert (ages != NULL && victims != NULL && entries != NULL);
}

static void
open_mixed (enum mix mix)
{
  open_disk (size_of_disk (mix), PAGES_NO_LIMIT,
             mix == MIX_EVERY_KIND_ZSTD ? "zstd" : "lz4");
  if (mix == MIX_JUST_ABOVE)
    find_noise_above ();
}

static void
close_disk (void)
{
  disk_close (&disk);
  free (ages);
  free (victims);
  free (entries);
}

/* Blocks that have an object. */
static size_t
list_victims (void)
{
  size_t nr = 0;

  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno) {
    const entry_t entry = block_table_load (&disk.store->table, blkno);

    if (entry_kind (entry) == ENTRY_OBJECT)
      victims[nr++] = (struct victim) {
        .loc = entry_loc (entry),
        .age = ages[blkno],
        .id = blkno,
        .slot_bytes = (uint32_t) pool_slot_bytes (store_pool (disk.store),
                                                  entry_loc (entry)),
      };
  }
  return nr;
}

static void
discard_block (uint64_t blkno)
{
  if (blkno % 3 == 0)
    disk_zero (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES, true);
  else
    disk_trim (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
}

static void
discard_by_pattern (enum frees frees)
{
  const size_t nr = list_victims ();

  choose_frees (&rng, frees, victims, nr);
  for (size_t i = 0; i < nr; ++i)
    if (victims[i].freed)
      discard_block (victims[i].id);
}

/*--------------------------------------------------------------------*/
/* The table before and after. */

static void
keep_entries (void)
{
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno)
    entries[blkno] = block_table_load (&disk.store->table, blkno);
}

static int
class_of_loc (zs_loc loc)
{
  return (int) size_class_of (size_class_table (),
                              pool_slot_bytes (store_pool (disk.store), loc));
}

/* A word is another only in its location, and no more of them than objects
 * have moved, and of the class alone (-1: any).
 */
static void
check_entries (uint64_t nr_moved, int class_idx)
{
  uint64_t nr = 0;

  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno) {
    const entry_t old = entries[blkno];
    const entry_t new = block_table_load (&disk.store->table, blkno);

    if (new == old)
      continue;
    CHECK_EQ (entry_kind (old), ENTRY_OBJECT);
    CHECK_EQ (entry_kind (new), ENTRY_OBJECT);
    CHECK_EQ (entry_codec (new), entry_codec (old));
    CHECK_EQ (entry_with_loc (old, entry_loc (new)), new);
    if (class_idx >= 0)
      CHECK_EQ (class_of_loc (entry_loc (new)), (unsigned) class_idx);
    ++nr_changed[entry_codec (new)];
    ++nr;
  }
  CHECK_LE (nr, nr_moved);
  CHECK (nr > 0 || nr_moved == 0);
}

/*--------------------------------------------------------------------*/
/* Guarantees. */

static void
check_g1 (void)
{
  const struct stats s = disk_stats (&disk);
  const uint64_t payloads = s.payload_rounded_bytes;
  const uint64_t metadata =
    16 * s.live_blocks + PAGE_BYTES * s.live_regions + MIB;

  CHECK_LE (s.held_bytes, payloads + payloads / 50 + metadata + 2 * MIB);
  /* Most of that is the 3 MiB, on a disk so small.  So, besides, of what is
   * in proportion to the payloads: 2 %, and a page a class.
   */
  CHECK_LE (s.arena_bytes,
            payloads + payloads / 50 +
              pool_nr_classes (store_pool (disk.store)) * PAGE_BYTES);
  CHECK_EQ (s.spare_bytes, 0);
  CHECK_LE (s.reclaimable_bytes, MIB + s.arena_bytes / 100);
}

/* G3, and that what it reports is what happened. */
static struct compact_report
compact (int class_idx)
{
  const struct stats before = disk_stats (&disk);
  struct compact_report report;
  struct stats after;
  uint64_t ticket;

  keep_entries ();
  ticket = store_compact (disk.store, class_idx);
  memset (&report, 0, sizeof report);
  CHECK (store_compact_report (disk.store, ticket, &report));
  after = disk_stats (&disk);
  CHECK_EQ (report.skipped_busy, 0);
  CHECK_LE (report.copied_bytes, report.returned_bytes);
  CHECK_EQ (after.compact_moved_objects - before.compact_moved_objects,
            report.moved_objects);
  CHECK_EQ (after.compact_copied_bytes - before.compact_copied_bytes,
            report.copied_bytes);
  CHECK_EQ (after.compact_returned_bytes - before.compact_returned_bytes,
            report.returned_bytes);
  CHECK_EQ (after.compact_skipped_objects, before.compact_skipped_objects);
  CHECK_LE (after.held_bytes + report.returned_bytes, before.held_bytes);
  CHECK_EQ (after.payload_bytes, before.payload_bytes);
  CHECK_EQ (after.payload_rounded_bytes, before.payload_rounded_bytes);
  CHECK_EQ (after.live_blocks, before.live_blocks);
  check_entries (report.moved_objects, class_idx);
  return report;
}

static void
compact_and_check (void)
{
  struct compact_report second;

  compact (-1);
  check_g1 ();
  disk_check_all (&disk);
  second = compact (-1);
  CHECK_LE (second.returned_bytes, 256 * KIB);
}

/* G2; the disk is compact. */
static void
drop_and_check (enum frees frees)
{
  const struct stats before = disk_stats (&disk);
  uint64_t dropped;
  struct stats after;

  discard_by_pattern (frees);
  dropped = before.payload_bytes - disk_stats (&disk).payload_bytes;
  compact_and_check ();
  after = disk_stats (&disk);
  CHECK_LE (dropped * 97 / 100, before.held_bytes - after.held_bytes + 2 * MIB);
  CHECK_EQ (after.discarded_bytes - before.discarded_bytes, dropped);
}

/*--------------------------------------------------------------------*/

/* Each pattern once, or a share of them, in any order, on a disk that is filled
 * up again for the next.
 */
START_TEST (test_patterns)
{
  const enum mix mix = (enum mix) _i;
  const unsigned nr_patterns = test_quick ()   ? 3
                               : test_short () ? 15
                                               : NR_FREES;
  enum frees order[NR_FREES];

  rng_init (&rng, test_seed (), 100 + (uint64_t) _i);
  for (unsigned i = 0; i < NR_FREES; ++i) {
    const unsigned j = (unsigned) rng_below (&rng, i + 1);
    order[i] = order[j];
    order[j] = (enum frees) i;
  }
  open_mixed (mix);
  for (unsigned i = 0; i < nr_patterns; ++i) {
    snprintf (situation, sizeof situation, "mix %d, before %s", (int) mix,
              frees_names[order[i]]);
    write_disk (mix, true);
    compact (-1);
    check_g1 ();
    snprintf (situation, sizeof situation, "mix %d, %s", (int) mix,
              frees_names[order[i]]);
    drop_and_check (order[i]);
  }
  /* All kinds of objects have been moved, where there are enough of them for
   * many zspages, whatever the order.
   */
  if (!test_short () && mix == MIX_EVERY_KIND)
    CHECK (nr_changed[CODEC_RAW] > 0 && nr_changed[CODEC_LZ4] > 0);
  if (!test_short () && mix == MIX_EVERY_KIND_ZSTD)
    CHECK (nr_changed[CODEC_RAW] > 0 && nr_changed[CODEC_ZSTD] > 0);
  if (!test_short () && mix == MIX_REPEAT)
    CHECK (nr_changed[CODEC_REPEAT] > 0);
  close_disk ();
}
END_TEST

/* Nothing but the payloads' pages and the table's is left of a disk that was
 * emptied, in any order.
 */
START_TEST (test_drop_everything)
{
  uint64_t empty;

  rng_init (&rng, test_seed (), 200);
  open_mixed (MIX_EVERY_KIND);
  empty = disk_held (&disk);
  for (unsigned round = 0; round < 2; ++round) {
    snprintf (situation, sizeof situation, "all dropped, round %u", round);
    write_disk (MIX_EVERY_KIND, false);
    compact (-1);
    if (round == 0)
      disk_trim (&disk, disk.size, 0);
    else
      while (disk_stats (&disk).live_blocks > 0) {
        discard_by_pattern (FREES_RANDOM_50);
        if (list_victims () < 10)
          disk_trim (&disk, disk.size, 0);
      }
    compact_and_check ();
    CHECK_EQ (disk_stats (&disk).live_regions, 0);
    CHECK_LE (disk_held (&disk), empty + MIB);
  }
  close_disk ();
}
END_TEST

START_TEST (test_random_overwrites)
{
  const enum mix mix = (enum mix) _i;

  rng_init (&rng, test_seed (), 300 + (uint64_t) _i);
  open_mixed (mix);
  snprintf (situation, sizeof situation, "mix %d, overwritten", (int) mix);
  write_disk (mix, false);
  for (uint64_t n = disk.nr_blocks * (test_quick () ? 1 : 4); n > 0; --n) {
    make_mixed_block (mix);
    write_block (rng_below (&rng, disk.nr_blocks));
  }
  compact_and_check ();
  drop_and_check (FREES_RANDOM_50);
  close_disk ();
}
END_TEST

/* Trim, refill with another mix, trim, and so on. */
START_TEST (test_sawtooth)
{
  rng_init (&rng, test_seed (), 400);
  open_mixed (MIX_JUST_ABOVE);
  for (unsigned round = 0; round < (test_quick () ? 1 : 4); ++round) {
    snprintf (situation, sizeof situation, "sawtooth %u", round);
    for (unsigned tooth = 0; tooth < 4; ++tooth) {
      enum mix mix = (enum mix) rng_below (&rng, NR_MIXES);

      write_disk (mix, true);
      discard_by_pattern ((enum frees) rng_below (&rng, NR_FREES));
    }
    compact_and_check ();
    drop_and_check ((enum frees) rng_below (&rng, NR_FREES));
  }
  close_disk ();
}
END_TEST

/* Payloads of all blocks grow, or shrink, a little with each overwrite. */
START_TEST (test_drift)
{
  const unsigned nr_steps = test_quick () ? 4 : 20;

  rng_init (&rng, test_seed (), 410 + (uint64_t) _i);
  open_mixed (MIX_TEXT);
  write_disk (MIX_TEXT, false);
  for (unsigned step = 0; step < nr_steps; ++step) {
    const unsigned noise = 55 * (_i == 0 ? step : nr_steps - step) / nr_steps;

    snprintf (situation, sizeof situation, "drift %d, step %u", _i, step);
    for (uint64_t n = disk.nr_blocks / 3; n > 0; --n) {
      make_text_block (&rng, noise + (unsigned) rng_below (&rng, 4), block);
      write_block (rng_below (&rng, disk.nr_blocks));
    }
    if (step % 5 == 4)
      compact_and_check ();
  }
  compact_and_check ();
  drop_and_check (FREES_EVERY_SECOND_BY_AGE);
  close_disk ();
}
END_TEST

/* One class at a time: nothing else is touched; all in all it is the same. */
START_TEST (test_class_by_class)
{
  uint64_t nr_moved = 0;

  rng_init (&rng, test_seed (), 420);
  open_mixed (MIX_EVERY_KIND);
  snprintf (situation, sizeof situation, "class by class");
  write_disk (MIX_EVERY_KIND, false);
  discard_by_pattern (FREES_RANDOM_50);
  for (unsigned i = 0; i < pool_nr_classes (store_pool (disk.store)); ++i)
    nr_moved += compact ((int) i).moved_objects;
  CHECK (nr_moved > 0);
  check_g1 ();
  disk_check_all (&disk);
  close_disk ();
}
END_TEST

/* Large enough that percents count. */
START_TEST (test_large_disk)
{
  rng_init (&rng, test_seed (), 430);
  open_disk (test_short () ? 32 * MIB : 256 * MIB, PAGES_NO_LIMIT, "lz4");
  snprintf (situation, sizeof situation, "large disk");
  write_disk (MIX_EVERY_KIND, false);
  compact_and_check ();
  drop_and_check (FREES_RANDOM_50);
  close_disk ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* At the limit. */

#define ROOM (16 * MIB)         /* above what an empty disk holds */
#define PAYLOADS_MAX (12 * MIB) /* of it; G1: 12.24 + 2 MiB, and entries */

static void
open_limited (void)
{
  struct store_params params = {
    .size_bytes = 64 * MIB,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
  };

  open_disk (params.size_bytes, store_min_bytes (&params) + ROOM, "lz4");
}

/* Scattered trims until the payloads leave room for a few more. */
static void
keep_below_payloads_max (void)
{
  while (disk_stats (&disk).payload_rounded_bytes >
         PAYLOADS_MAX - 64 * BLOCK_BYTES)
    for (unsigned n = 32; n > 0;) {
      const uint64_t blkno = rng_below (&rng, disk.nr_blocks);

      if (block_is_hole (blkno))
        continue;
      discard_block (blkno);
      --n;
    }
}

/* Payloads drift from class to class, well below the limit, while what was
 * left of the others fills it: every write succeeds (disk_write sees to
 * that), and held is never above (the probe does).
 */
START_TEST (test_drift_at_the_limit)
{
  const unsigned nr_rounds = test_quick () ? 3 : TEST_SANITIZED ? 6 : 16;
  struct stats stats;

  rng_init (&rng, test_seed (), 500 + (uint64_t) _i);
  open_limited ();
  for (unsigned round = 0; round < nr_rounds; ++round) {
    const unsigned noise = (unsigned) rng_below (&rng, 58);

    snprintf (situation, sizeof situation, "limit, round %u", round);
    for (unsigned n = 0; n < 3000; ++n) {
      if (n % 32 == 0)
        keep_below_payloads_max ();
      if (_i == 1 && round % 4 == 3)
        make_block (&rng, CONTENT_RANDOM, block);
      else
        make_text_block (&rng, noise, block);
      write_block (rng_below (&rng, disk.nr_blocks));
    }
    disk_check (&disk);
  }
  stats = disk_stats (&disk);
  CHECK_EQ (stats.enospc_errors, 0);
  CHECK_LE (stats.held_highest_bytes, stats.limit_bytes);
  /* It was reached; in few rounds it need not be. */
  CHECK (test_quick () || stats.compact_waited_writes > 0);
  disk_check_all (&disk);
  close_disk ();
}
END_TEST

/* Full to the limit with one size, every second block trimmed: the room is
 * there, all of it in pieces, for blocks of another size.
 */
START_TEST (test_fragmented_at_the_limit)
{
  uint64_t blkno = 0, nr_written = 0;

  rng_init (&rng, test_seed (), 510);
  open_limited ();
  snprintf (situation, sizeof situation, "fragmented at the limit");
  do
    make_noise_block (1500);
  while (store_write (disk.store, block, BLOCK_BYTES, blkno * BLOCK_BYTES) ==
           0 &&
         (memcpy (disk.shadow + blkno * BLOCK_BYTES, block, BLOCK_BYTES),
          disk.kinds[blkno] = SHADOW_DATA, ++blkno < disk.nr_blocks));
  CHECK (blkno < disk.nr_blocks);
  disk_check_all (&disk);
  for (uint64_t i = 0; i < blkno; i += 2)
    discard_block (i);
  while (disk_stats (&disk).payload_rounded_bytes <
         PAYLOADS_MAX - BLOCK_BYTES) {
    make_noise_block (2900);
    write_block (blkno++);
    ++nr_written;
  }
  CHECK (nr_written > 500);
  CHECK (disk_stats (&disk).compact_waited_writes > 0);
  disk_check_all (&disk);
  compact (-1);
  check_g1 ();
  close_disk ();
}
END_TEST

/* Compaction at the limit needs no page more. */
START_TEST (test_compact_at_the_limit)
{
  uint64_t held;

  rng_init (&rng, test_seed (), 520);
  open_limited ();
  snprintf (situation, sizeof situation, "compact at the limit");
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno) {
    make_text_block (&rng, (unsigned) rng_below (&rng, 60), block);
    if (store_write (disk.store, block, BLOCK_BYTES, blkno * BLOCK_BYTES) != 0)
      break;
    memcpy (disk.shadow + blkno * BLOCK_BYTES, block, BLOCK_BYTES);
    disk.kinds[blkno] = SHADOW_DATA;
  }
  held = disk_held (&disk);
  discard_by_pattern (FREES_EVERY_SECOND);
  /* Not one page more than there is. */
  ck_assert_int_eq (store_set_limit (disk.store, disk_held (&disk)), 0);
  probe_watch_limit (disk_held (&disk));
  compact_and_check ();
  CHECK_LE (disk_held (&disk) + ROOM * 2 / 5, held);
  close_disk ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("guarantees");
  TCase *tcase = tcase_create ("guarantees");
  SRunner *runner;
  int nr_failed;

  test_start ("test-guarantees");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_patterns, 0, NR_MIXES);
  tcase_add_test (tcase, test_drop_everything);
  tcase_add_loop_test (tcase, test_random_overwrites, MIX_TEXT,
                       MIX_EVERY_KIND + 1);
  tcase_add_test (tcase, test_sawtooth);
  tcase_add_loop_test (tcase, test_drift, 0, 2);
  tcase_add_test (tcase, test_class_by_class);
  tcase_add_test (tcase, test_large_disk);
  tcase_add_loop_test (tcase, test_drift_at_the_limit, 0, 2);
  tcase_add_test (tcase, test_fragmented_at_the_limit);
  tcase_add_test (tcase, test_compact_at_the_limit);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
