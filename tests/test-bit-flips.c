/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Bits flipped in memory (G9), in a store that is at work: each flip is an
 * EIO on exactly that block, or harmless; never wrong data, never a crash.
 *
 *   test_payloads     bits of slots, thousands of times, under readers, a
 *                     compacting worker and changes of the codec
 *   test_compaction   damage that is moved stays, and stays where it belongs
 *   test_raw          every single bit of a raw block, and pairs of bits
 *   test_entries      every bit of entries of every kind, and pairs
 *
 * ZMEM_SECONDS=N: test_payloads goes on for so long, instead of for a number
 * of rounds.
 *
 * Bits are flipped under the group's lock: nobody then reads the payload,
 * and ThreadSanitizer has nothing to say.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xxhash.h>

#include "block.h"
#include "compactor.h"
#include "libcheck.h"
#include "store-fixture.h"
#include "store-private.h"
#include "test-util.h"

#define NR_BLOCKS 2048
#define NR_VERSIONS 2
#define NR_READERS 2

static struct rng rng;
static struct disk disk;

static struct {
  uint64_t bits, damaged, read_eio, verify_found, harmless, healed;
} seen;

/*--------------------------------------------------------------------*/
/* A block is always one of two contents, or zeros where it was trimmed. */

static uint8_t versions[NR_VERSIONS][NR_BLOCKS][BLOCK_BYTES];
static atomic_bool damaged[NR_BLOCKS];

static bool
is_a_version (const uint8_t *block, uint64_t blkno)
{
  return memcmp (block, versions[0][blkno], BLOCK_BYTES) == 0 ||
         memcmp (block, versions[1][blkno], BLOCK_BYTES) == 0 ||
         is_all_zero (block, BLOCK_BYTES);
}

static void
make_versions (void)
{
  for (unsigned v = 0; v < NR_VERSIONS; ++v)
    for (unsigned i = 0; i < NR_BLOCKS; ++i)
      make_block (&rng,
                  (enum content) rng_between (&rng, CONTENT_PATTERN64,
                                              NR_CONTENTS - 1),
                  versions[v][i]);
}

static void
write_version (uint64_t blkno)
{
  disk_write (&disk, versions[rng_below (&rng, NR_VERSIONS)][blkno],
              BLOCK_BYTES, blkno * BLOCK_BYTES);
}

/* Flip a bit of the slot, under the lock.  Returns the bits of the payload. */
static uint64_t
flip (uint64_t blkno, uint64_t at)
{
  struct group_stripe *stripe = stripe_of (disk.store, blkno);
  uint32_t bytes;

  LOCK_FOR_SCOPE (&stripe->lock);
  uint8_t *payload = store_payload_for_test (disk.store, blkno, &bytes);
  payload[at / 8] ^= (uint8_t) (1 << at % 8);
  return bytes * 8;
}

static atomic_bool done;

static void *
read_for_ever (void *opaque)
{
  static _Thread_local uint8_t buf[8 * BLOCK_BYTES];
  struct rng mine;

  rng_init (&mine, test_seed (), 100 + (uint64_t) (uintptr_t) opaque);
  while (!atomic_load (&done)) {
    const uint64_t n = rng_between (&mine, 1, 8);
    const uint64_t first = rng_below (&mine, NR_BLOCKS - n);
    bool may_fail = false;
    int r;

    for (uint64_t i = first; i < first + n; ++i)
      may_fail |= atomic_load (&damaged[i]);
    r = store_read (disk.store, buf, n * BLOCK_BYTES, first * BLOCK_BYTES);
    for (uint64_t i = first; i < first + n; ++i)
      may_fail |= atomic_load (&damaged[i]);
    if (r != 0 && !(r == -EIO && may_fail))
      test_note_failure ("a read of %" PRIu64 " blocks at %" PRIu64 " gave %d",
                         n, first, r);
    for (uint64_t i = 0; r == 0 && i < n; ++i)
      if (!is_a_version (buf + i * BLOCK_BYTES, first + i))
        test_note_failure ("block %" PRIu64 " is wrong", first + i);
  }
  return NULL;
}

static void
compact_all (void)
{
  struct compact_report compacted;
  const uint64_t ticket = store_compact (disk.store, -1);

  while (!store_compact_report (disk.store, ticket, &compacted))
    sleep_us (100);
}

/* Flip bits of the slot of a block: one, two, or many.  True: some of them
 * are bits of its payload, so that it is damaged now.
 */
static bool
damage (uint64_t blkno)
{
  const unsigned shape = (unsigned) rng_below (&rng, 4);
  struct group_stripe *stripe = stripe_of (disk.store, blkno);
  uint64_t slot_bits, payload_bits = 0, at[200];
  bool in_payload = false;
  unsigned nr;

  lock_acquire (&stripe->lock);
  slot_bits =
    8 *
    pool_slot_bytes (disk.store->pool,
                     entry_loc (block_table_load (&disk.store->table, blkno)));
  lock_release (&stripe->lock);
  /* The least slot has 128 bits. */
  nr =
    shape < 2 ? 1
    : shape == 2
      ? 2
      : (unsigned) rng_between (&rng, 3, slot_bits < 400 ? slot_bits / 2 : 200);
  atomic_store (&damaged[blkno], true);
  for (unsigned i = 0; i < nr; ++i) {
    bool again;

    do { /* each bit once, or they cancel out */
      again = false;
      at[i] = rng_below (&rng, slot_bits);
      for (unsigned j = 0; j < i; ++j)
        again |= at[i] == at[j];
    } while (again);
    /* Compaction may have moved it: to a slot of the same size. */
    payload_bits = flip (blkno, at[i]);
    in_payload |= at[i] < payload_bits;
  }
  seen.bits += nr;
  if (!in_payload)
    atomic_store (&damaged[blkno], false);
  return in_payload;
}

static bool
has_payload (uint64_t blkno)
{
  uint32_t bytes;

  return store_payload_for_test (disk.store, blkno, &bytes) != NULL;
}

/* What a damaged block answers, whatever is asked of a part of it. */
static void
check_damaged (uint64_t blkno)
{
  const uint64_t at = blkno * BLOCK_BYTES;
  uint8_t back[BLOCK_BYTES];

  ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES, at), -EIO);
  ck_assert_int_eq (store_read (disk.store, back, 3,
                                at + rng_below (&rng, BLOCK_BYTES - 3)),
                    -EIO);
  /* A part of it is not to be written: what of the rest?  It stays as it
   * is, and says so.
   */
  if (rng_once_in (&rng, 2))
    ck_assert_int_eq (store_write (disk.store, "part", 4, at + 1000), -EIO);
  else
    ck_assert_int_eq (store_zero (disk.store, 100, at + 7, true), -EIO);
  ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES, at), -EIO);
  seen.read_eio++;
}

static void
heal (uint64_t blkno)
{
  switch (rng_below (&rng, 4)) {
  case 0:
    disk_trim (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
    break;
  case 1:
    disk_zero (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES, false);
    break;
  default:
    write_version (blkno);
  }
  atomic_store (&damaged[blkno], false);
  disk_verify (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
  seen.healed++;
}

/* Verify, by its steps, finds these, in this order, and no others. */
static void
check_verify (const uint64_t *bad, unsigned nr_bad)
{
  struct verifier *verifier = &disk.store->verifier;
  struct verify_report report;

  verify_begin (verifier, 0);
  while (verify_step (verifier, 1, false) != VERIFY_DONE)
    ;
  store_verify_report (disk.store, &report);
  ck_assert_uint_eq (report.damaged_blocks, nr_bad);
  for (unsigned i = 0; i < report.nr_listed; ++i)
    ck_assert_uint_eq (report.listed[i], bad[i]);
  seen.verify_found += nr_bad;
}

static void
one_round (void)
{
  uint64_t bad[NR_BLOCKS];
  unsigned nr_bad = 0;

  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    if (rng_once_in (&rng, 30) && has_payload (blkno)) {
      if (damage (blkno))
        bad[nr_bad++] = blkno;
      else {
        disk_verify (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
        seen.harmless++;
      }
    }
  seen.damaged += nr_bad;
  check_verify (bad, nr_bad);
  for (unsigned i = 0; i < nr_bad; ++i)
    check_damaged (bad[i]);
  compact_all ();
  for (unsigned i = 0; i < nr_bad; ++i)
    if (rng_once_in (&rng, 8))
      check_damaged (bad[i]);
  for (unsigned i = 0; i < nr_bad; ++i)
    heal (bad[i]);
  /* Blocks come and go, so that there is something to compact. */
  for (unsigned i = 0; i < 200; ++i)
    if (rng_once_in (&rng, 3))
      write_version (rng_below (&rng, NR_BLOCKS));
    else
      disk_trim (&disk, BLOCK_BYTES, rng_below (&rng, NR_BLOCKS) * BLOCK_BYTES);
}

static bool
is_time_up (unsigned round)
{
  static time_t begin;
  const char *seconds = getenv ("ZMEM_SECONDS");

  if (begin == 0)
    begin = time (NULL);
  if (seconds != NULL)
    return time (NULL) - begin >= atoi (seconds);
  return round >= (test_short () ? 8U : 40U);
}

START_TEST (test_payloads)
{
  static const char *const codecs[] = {
    "lz4", "zstd:1", "none", "zstd:9", "lz4:8", "zstd:-5",
  };
  pthread_t readers[NR_READERS];
  struct stats stats;
  char error[512];

  rng_init (&rng, test_seed (), 1);
  make_versions ();
  disk = disk_open (NR_BLOCKS * BLOCK_BYTES, PAGES_NO_LIMIT, "lz4");
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    write_version (blkno);
  ck_assert_int_eq (store_start_worker (disk.store), 0);
  for (uintptr_t i = 0; i < NR_READERS; ++i)
    ck_assert_int_eq (pthread_create (&readers[i], NULL, read_for_ever,
                                      (void *) i),
                      0);
  for (unsigned round = 0; !is_time_up (round); ++round) {
    disk_set_codec (&disk, codecs[round % 6]);
    for (unsigned i = 0; i < NR_BLOCKS / 16; ++i)
      write_version (rng_below (&rng, NR_BLOCKS));
    one_round ();
    disk_verify (&disk, disk.size, 0);
    ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
  }
  atomic_store (&done, true);
  for (unsigned i = 0; i < NR_READERS; ++i)
    pthread_join (readers[i], NULL);
  store_stop_worker (disk.store);

  stats = disk_stats (&disk);
  ck_assert_uint_eq (seen.verify_found, seen.damaged);
  ck_assert_uint_eq (stats.verify_failures, seen.damaged);
  ck_assert_uint_ge (stats.checksum_failures, 4 * seen.damaged);
  ck_assert_uint_gt (stats.compact_moved_objects, 0);
  ck_assert_msg (store_check (disk.store, error, sizeof error) == 0, "%s",
                 error);
  printf ("%" PRIu64 " bits flipped in slots: %" PRIu64 " blocks damaged, "
          "%" PRIu64 " times EIO, found by verify %" PRIu64 ", healed %" PRIu64
          "; %" PRIu64 " blocks harmless\n",
          seen.bits, seen.damaged, seen.read_eio, seen.verify_found,
          seen.healed, seen.harmless);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/

static entry_t
entry_of (uint64_t blkno)
{
  return block_table_load (&disk.store->table, blkno);
}

/* Damage that compaction moves goes with its block, and with no other; put
 * right at its new place, the block is.
 */
START_TEST (test_compaction)
{
  uint64_t bad[NR_BLOCKS], at[NR_BLOCKS], old_loc[NR_BLOCKS];
  unsigned nr_bad = 0, nr_moved = 0;
  uint8_t back[BLOCK_BYTES];

  rng_init (&rng, test_seed (), 2);
  make_versions ();
  disk = disk_open (NR_BLOCKS * BLOCK_BYTES, PAGES_NO_LIMIT,
                    _i == 0 ? "lz4" : "zstd");
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    write_version (blkno);
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    if (!rng_once_in (&rng, 4))
      disk_trim (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
    else if (rng_once_in (&rng, 2)) {
      uint32_t bytes;

      store_payload_for_test (disk.store, blkno, &bytes);
      bad[nr_bad] = blkno;
      at[nr_bad] = rng_below (&rng, bytes * 8);
      old_loc[nr_bad] = entry_loc (entry_of (blkno));
      flip (blkno, at[nr_bad++]);
    }
  compact_all ();
  for (unsigned i = 0; i < nr_bad; ++i) {
    nr_moved += entry_loc (entry_of (bad[i])) != old_loc[i];
    ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES,
                                  bad[i] * BLOCK_BYTES),
                      -EIO);
  }
  ck_assert_uint_gt (nr_moved, 0);
  check_verify (bad, nr_bad);
  for (unsigned i = 0; i < nr_bad; ++i)
    flip (bad[i], at[i]);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/

/* A raw block's checksum has 24 bits, and no hash of that length can see all
 * pairs; what is asked is that it misses no more than a random one does: one
 * flip in 16.8 million.
 */
START_TEST (test_raw)
{
  const unsigned nr_pairs = test_short () ? 20000 : 200000;
  const unsigned nr_bits = BLOCK_BYTES * 8;
  unsigned nr_missed = 0;
  uint8_t block[BLOCK_BYTES];
  uint64_t hash;

  rng_init (&rng, test_seed (), 3);
  disk = disk_open (MIB, PAGES_NO_LIMIT, "lz4");
  rng_fill (&rng, block, sizeof block);
  disk_write (&disk, block, sizeof block, 0);
  ck_assert_int_eq (entry_codec (entry_of (0)), CODEC_RAW);
  hash = XXH3_64bits (block, BLOCK_BYTES);
  for (unsigned i = 0; i < nr_bits + nr_pairs; ++i) {
    const unsigned pair = (unsigned) rng_below (&rng, nr_bits);
    const unsigned first =
      i < nr_bits ? i : (unsigned) rng_below (&rng, nr_bits);

    flip (0, first);
    if (i >= nr_bits && pair != first)
      flip (0, pair);
    if (store_read (disk.store, block, BLOCK_BYTES, 0) == 0) {
      /* A true collision of 24 bits, nothing else. */
      ck_assert_uint_eq (XXH3_64bits (block, BLOCK_BYTES) % (1 << 24),
                         hash % (1 << 24));
      nr_missed++;
    }
    flip (0, first);
    if (i >= nr_bits && pair != first)
      flip (0, pair);
  }
  printf ("raw: %u single bits and %u pairs, missed %u\n", nr_bits, nr_pairs,
          nr_missed);
  /* More than two of 232,768: in one of two million runs of a checksum that is
   * well.
   */
  ck_assert_uint_le (nr_missed, 2);
  disk_check_all (&disk);
  disk_close (&disk);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Entries. */

static void
flip_entry (uint64_t blkno, uint64_t mask)
{
  struct group_stripe *stripe = stripe_of (disk.store, blkno);
  _Atomic entry_t *entry = &disk.store->table.entries[blkno];

  LOCK_FOR_SCOPE (&stripe->lock);
  atomic_store (entry, atomic_load (entry) ^ mask);
}

static struct {
  uint64_t flips, eio, harmless;
} entries_seen;

/* With the bits of the mask flipped the block is EIO, or as it was; verify
 * says the same; its neighbours are as they were.
 */
static void
try_entry (uint64_t blkno, uint64_t mask)
{
  uint8_t back[BLOCK_BYTES], part[100];
  int whole, r, found;

  flip_entry (blkno, mask);
  whole = store_read (disk.store, back, BLOCK_BYTES, blkno * BLOCK_BYTES);
  r = store_read (disk.store, part, sizeof part, blkno * BLOCK_BYTES + 50);
  ck_assert_msg (whole == 0 || whole == -EIO, "read gave %d", whole);
  ck_assert_int_eq (r, whole);
  if (whole == 0) {
    ck_assert_msg (memcmp (back, disk.shadow + blkno * BLOCK_BYTES,
                           BLOCK_BYTES) == 0 &&
                     memcmp (part, back + 50, sizeof part) == 0,
                   "wrong data: block %" PRIu64 ", entry %016" PRIx64
                   ", flipped %016" PRIx64,
                   blkno, entry_of (blkno), mask);
    entries_seen.harmless++;
  }
  else {
    /* Refused, and nothing of the pool is touched. */
    ck_assert_int_eq (store_write (disk.store, "x", 1, blkno * BLOCK_BYTES + 5),
                      -EIO);
    entries_seen.eio++;
  }
  lock_acquire (&stripe_of (disk.store, blkno)->lock);
  found = block_check (disk.store, blkno, entry_of (blkno));
  lock_release (&stripe_of (disk.store, blkno)->lock);
  /* Another codec's name is found by the checksum, too. */
  ck_assert_int_eq (found, whole);
  flip_entry (blkno, mask);
  entries_seen.flips++;
}

static const enum content entry_contents[] = {
  CONTENT_ZERO, CONTENT_PATTERN32, CONTENT_PATTERN64,
  CONTENT_TEXT, CONTENT_SO,        CONTENT_RANDOM,
};

START_TEST (test_entries)
{
  static const char *const codecs[] = { "lz4", "zstd", "none" };
  const unsigned nr_each = test_short () ? 4 : 30;
  uint8_t block[BLOCK_BYTES];

  memset (&entries_seen, 0, sizeof entries_seen);
  rng_init (&rng, test_seed (), 4 + (uint64_t) _i);
  disk = disk_open (NR_BLOCKS * BLOCK_BYTES, PAGES_NO_LIMIT, codecs[_i]);
  /* Many of a size: a location that is wrong is another block's. */
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    if (blkno % 7 != 6) {
      make_block (&rng, entry_contents[blkno % 7], block);
      disk_write (&disk, block, sizeof block, blkno * BLOCK_BYTES);
    }
  for (unsigned kind = 0; kind < 7; ++kind)
    for (unsigned i = 0; i < nr_each; ++i) {
      const uint64_t blkno = rng_below (&rng, NR_BLOCKS / 7 - 1) * 7 + kind;

      for (unsigned bit = 0; bit < 64; ++bit)
        try_entry (blkno, UINT64_C (1) << bit);
      for (unsigned j = 0; j < 64; ++j)
        try_entry (blkno, UINT64_C (1) << rng_below (&rng, 64) |
                            UINT64_C (1) << rng_below (&rng, 64));
      for (unsigned j = 0; j < 64; ++j)
        try_entry (blkno, rng_u64 (&rng) | 1);
    }
  printf ("%s: %" PRIu64 " flips in entries: %" PRIu64 " EIO, %" PRIu64
          " harmless\n",
          codecs[_i], entries_seen.flips, entries_seen.eio,
          entries_seen.harmless);
  ck_assert_uint_gt (entries_seen.eio, 0);
  disk_verify (&disk, disk.size, 0);
  disk_close (&disk);
}
END_TEST

/* A size that is wrong, and then compaction: it copies no more than there is
 * room for, so the neighbours stay as they are.
 */
START_TEST (test_entries_and_compaction)
{
  uint8_t block[BLOCK_BYTES], back[BLOCK_BYTES];
  struct compact_report compacted;
  bool bad[NR_BLOCKS] = { false };
  const uint64_t sizes =
    (((UINT64_C (1) << ENTRY_SIZE_BITS) - 1) << ENTRY_SIZE_SHIFT);
  uint64_t nr_moved = 0;

  rng_init (&rng, test_seed (), 8);
  disk = disk_open (NR_BLOCKS * BLOCK_BYTES, PAGES_NO_LIMIT, "lz4");
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno) {
    make_text_block (&rng, 20, block);
    disk_write (&disk, block, sizeof block, blkno * BLOCK_BYTES);
  }
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    if (rng_once_in (&rng, 2))
      disk_trim (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
    else if (rng_once_in (&rng, 4)) {
      flip_entry (blkno, ~entry_of (blkno) & sizes);
      bad[blkno] = true;
    }
  store_compact (disk.store, -1);
  store_compact_report (disk.store, 0, &compacted);
  nr_moved = compacted.moved_objects;
  ck_assert_uint_gt (nr_moved, 0);
  for (uint64_t blkno = 0; blkno < NR_BLOCKS; ++blkno)
    if (bad[blkno])
      ck_assert_int_eq (store_read (disk.store, back, BLOCK_BYTES,
                                    blkno * BLOCK_BYTES),
                        -EIO);
    else
      disk_verify (&disk, BLOCK_BYTES, blkno * BLOCK_BYTES);
  disk_close (&disk);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("bit-flips");
  TCase *tcase = tcase_create ("bit-flips");
  const char *seconds = getenv ("ZMEM_SECONDS");
  SRunner *runner;
  int nr_failed;

  test_start ("test-bit-flips");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS +
                              (seconds == NULL ? 0 : atoi (seconds)));
  tcase_add_test (tcase, test_payloads);
  tcase_add_lone_loop_test (tcase, test_compaction, 0, 2);
  tcase_add_lone_test (tcase, test_raw);
  tcase_add_lone_loop_test (tcase, test_entries, 0, 3);
  tcase_add_lone_test (tcase, test_entries_and_compaction);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
