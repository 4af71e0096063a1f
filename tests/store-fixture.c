/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk to test with; see store-fixture.h.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libcheck.h"
#include "probe.h"
#include "store-fixture.h"
#include "test-util.h"

struct disk
disk_open_bare (uint64_t size, uint64_t limit, const char *codec)
{
  struct store_params params = {
    .size_bytes = size,
    .limit_bytes = limit,
    .nr_contexts = 4, /* the same memory on every machine */
    .pages_ops = &probe_ops,
  };
  struct disk disk = {
    .size = size,
    .nr_blocks = (size + BLOCK_BYTES - 1) / BLOCK_BYTES,
  };
  char error[256];
  struct stats stats;
  uint64_t resident;

  probe_reset ();
  ck_assert_int_eq (codec_spec_parse (codec, &params.codec, error,
                                      sizeof error),
                    0);
  ck_assert_int_eq (store_create (&params, &disk.store), 0);
  ck_assert_uint_eq (probe_resident_bytes (), 0);
  ck_assert_int_eq (store_start (disk.store), 0);
  if (limit != PAGES_NO_LIMIT)
    probe_watch_limit (limit);
  ck_assert_uint_eq (store_size_bytes (disk.store), size);

  disk.min_bytes = store_min_bytes (&params);
  stats = disk_stats (&disk);
  resident = probe_resident_bytes ();
  ck_assert_uint_le (stats.held_bytes, disk.min_bytes);
  ck_assert_uint_ge (stats.held_bytes, resident + stats.context_bytes);
  disk.other_foreign = stats.held_bytes - resident - stats.context_bytes;
  return disk;
}

struct disk
disk_open (uint64_t size, uint64_t limit, const char *codec)
{
  struct disk disk = disk_open_bare (size, limit, codec);

  disk.shadow = calloc (1, size);
  disk.scratch = malloc (size);
  disk.kinds = calloc (1, disk.nr_blocks);
  ck_assert (disk.shadow != NULL && disk.scratch != NULL && disk.kinds != NULL);
  return disk;
}

void
disk_close (struct disk *disk)
{
  store_destroy (disk->store);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
  free (disk->shadow);
  free (disk->scratch);
  free (disk->kinds);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

void
disk_set_codec (struct disk *disk, const char *codec)
{
  struct codec_spec spec, now;
  char error[256];

  ck_assert_int_eq (codec_spec_parse (codec, &spec, error, sizeof error), 0);
  ck_assert_int_eq (store_set_codec (disk->store, &spec), 0);
  now = store_codec (disk->store);
  ck_assert_int_eq (now.id, spec.id);
  ck_assert_int_eq (now.level, spec.level);
}

/*--------------------------------------------------------------------*/

static uint64_t
bytes_of_block (const struct disk *disk, uint64_t blkno)
{
  const uint64_t left = disk->size - blkno * BLOCK_BYTES;

  return left < BLOCK_BYTES ? left : BLOCK_BYTES;
}

static bool
block_is_zero (const struct disk *disk, uint64_t blkno)
{
  return is_all_zero (disk->shadow + blkno * BLOCK_BYTES,
                      bytes_of_block (disk, blkno));
}

/* Is all of the block, as far as the disk goes, in the range? */
static bool
block_is_whole (const struct disk *disk, uint64_t blkno, uint64_t count,
                uint64_t offset)
{
  return offset <= blkno * BLOCK_BYTES &&
         offset + count >= blkno * BLOCK_BYTES + bytes_of_block (disk, blkno);
}

/* Blocks of the range got the given content: whole ones are `kind` now,
 * parts of zeros may have left a hole.
 */
static void
note_kinds (struct disk *disk, uint64_t count, uint64_t offset,
            enum shadow_kind kind)
{
  if (count == 0)
    return;
  for (uint64_t blkno = offset / BLOCK_BYTES;
       blkno <= (offset + count - 1) / BLOCK_BYTES; ++blkno) {
    if (!block_is_zero (disk, blkno))
      disk->kinds[blkno] = SHADOW_DATA;
    else if (block_is_whole (disk, blkno, count, offset))
      disk->kinds[blkno] = kind;
    else
      disk->kinds[blkno] = SHADOW_ZERO_OR_HOLE;
  }
}

void
disk_write (struct disk *disk, const void *buf, uint64_t count, uint64_t offset)
{
  ck_assert_int_eq (store_write (disk->store, buf, count, offset), 0);
  memcpy (disk->shadow + offset, buf, count);
  note_kinds (disk, count, offset, SHADOW_ZERO);
}

/* A disk's last block, where it is no whole one, may count as an edge. */
static void
note_discarded (struct disk *disk, uint64_t count, uint64_t offset,
                enum shadow_kind kind)
{
  memset (disk->shadow + offset, 0, count);
  note_kinds (disk, count, offset, kind);
  if (count > 0 && offset + count == disk->size &&
      disk->size % BLOCK_BYTES != 0 &&
      disk->kinds[disk->nr_blocks - 1] != SHADOW_DATA)
    disk->kinds[disk->nr_blocks - 1] = SHADOW_ZERO_OR_HOLE;
}

void
disk_trim (struct disk *disk, uint64_t count, uint64_t offset)
{
  ck_assert_int_eq (store_trim (disk->store, count, offset), 0);
  note_discarded (disk, count, offset, SHADOW_HOLE);
}

void
disk_zero (struct disk *disk, uint64_t count, uint64_t offset, bool may_punch)
{
  ck_assert_int_eq (store_zero (disk->store, count, offset, may_punch), 0);
  note_discarded (disk, count, offset, may_punch ? SHADOW_HOLE : SHADOW_ZERO);
}

void
disk_verify (struct disk *disk, uint64_t count, uint64_t offset)
{
  uint8_t *buf = disk->scratch;

  memset (buf, 0xa5, count);
  ck_assert_int_eq (store_read (disk->store, buf, count, offset), 0);
  if (memcmp (buf, disk->shadow + offset, count) == 0)
    return;
  for (uint64_t i = 0; i < count; ++i)
    ck_assert_msg (buf[i] == disk->shadow[offset + i],
                   "read of %" PRIu64 " at %" PRIu64 ": byte %" PRIu64
                   " is %02x, not %02x",
                   count, offset, offset + i, buf[i], disk->shadow[offset + i]);
}

void
disk_verify_old_or_new (struct disk *disk, const void *buf, uint64_t count,
                        uint64_t offset)
{
  const uint8_t *new = buf;

  ck_assert_int_eq (store_read (disk->store, disk->scratch, count, offset), 0);
  for (uint64_t i = 0; i < count;) {
    const uint64_t in_block = (offset + i) % BLOCK_BYTES;
    uint64_t n = BLOCK_BYTES - in_block;

    if (n > count - i)
      n = count - i;
    ck_assert_msg (memcmp (disk->scratch + i, new + i, n) == 0 ||
                     memcmp (disk->scratch + i, disk->shadow + offset + i, n) ==
                       0,
                   "block %" PRIu64 " is neither old nor new after an error",
                   (offset + i) / BLOCK_BYTES);
    i += n;
  }
  memcpy (disk->shadow + offset, disk->scratch, count);
  for (uint64_t i = offset / BLOCK_BYTES;
       i <= (offset + count - 1) / BLOCK_BYTES; ++i)
    disk->kinds[i] =
      block_is_zero (disk, i) ? SHADOW_ZERO_OR_HOLE : SHADOW_DATA;
}

/*--------------------------------------------------------------------*/

struct extents_seen {
  struct disk *disk;
  uint64_t next, end;
  unsigned nr;
};

static const bool kind_allowed[4][3] = {
  [SHADOW_HOLE] = { [EXTENT_HOLE] = true },
  [SHADOW_ZERO] = { [EXTENT_ZERO] = true },
  [SHADOW_ZERO_OR_HOLE] = { [EXTENT_ZERO] = true, [EXTENT_HOLE] = true },
  [SHADOW_DATA] = { [EXTENT_DATA] = true },
};

static int
check_extent (void *opaque, uint64_t offset, uint64_t count,
              enum extent_kind kind)
{
  struct extents_seen *seen = opaque;

  ck_assert_uint_eq (offset, seen->next);
  ck_assert_uint_gt (count, 0);
  ck_assert_uint_le (offset + count, seen->end);
  for (uint64_t blkno = offset / BLOCK_BYTES;
       blkno <= (offset + count - 1) / BLOCK_BYTES; ++blkno)
    ck_assert_msg (kind_allowed[seen->disk->kinds[blkno]][kind],
                   "block %" PRIu64 " (%d) is said to be %d", blkno,
                   seen->disk->kinds[blkno], (int) kind);
  seen->next = offset + count;
  ++seen->nr;
  return 0;
}

void
disk_check_extents (struct disk *disk, uint64_t count, uint64_t offset)
{
  struct extents_seen seen = {
    .disk = disk,
    .next = offset,
    .end = offset + count,
  };

  while (seen.next < seen.end) {
    const uint64_t before = seen.next;
    seen.nr = 0;
    ck_assert_int_eq (store_extents (disk->store, seen.end - before, before,
                                     false, check_extent, &seen),
                      0);
    ck_assert_uint_gt (seen.next, before);
    ck_assert_uint_le (seen.nr, STORE_MAX_EXTENTS);
    /* It stops early only after enough of them. */
    ck_assert (seen.next == seen.end || seen.nr == STORE_MAX_EXTENTS);
  }
  seen = (struct extents_seen) {
    .disk = disk,
    .next = offset,
    .end = offset + count,
  };
  if (count > 0) {
    ck_assert_int_eq (store_extents (disk->store, count, offset, true,
                                     check_extent, &seen),
                      0);
    ck_assert_uint_eq (seen.nr, 1);
  }
}

struct stats
disk_stats (const struct disk *disk)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (disk->store, &stats);
  return stats;
}

uint64_t
disk_held (const struct disk *disk)
{
  return disk_stats (disk).held_bytes;
}

static void
check_stats (const struct disk *disk)
{
  const struct stats s = disk_stats (disk);

  ck_assert_uint_eq (s.size_bytes, disk->size);
  ck_assert_uint_eq (s.live_blocks + s.hole_blocks, disk->nr_blocks);
  ck_assert_uint_eq (s.same_filled_blocks + s.raw_blocks + s.repeat_blocks +
                       s.lz4_blocks + s.zstd_blocks,
                     s.live_blocks);
  ck_assert_uint_eq (s.logical_bytes, s.live_blocks * BLOCK_BYTES);
  ck_assert_uint_le (s.payload_bytes, s.payload_rounded_bytes);
  ck_assert_uint_le (s.payload_rounded_bytes,
                     s.payload_bytes +
                       15 * (s.live_blocks - s.same_filled_blocks));
  ck_assert_uint_eq (s.metadata_bytes + s.arena_bytes, s.held_bytes);
  ck_assert_uint_le (s.payload_bytes, s.arena_bytes);
  ck_assert_uint_le (s.held_bytes, s.held_highest_bytes);
}

void
disk_check (struct disk *disk)
{
  char error[512] = "";
  struct stats stats;

  ck_assert_msg (store_check (disk->store, error, sizeof error) == 0, "%s",
                 error);
  stats = disk_stats (disk);
  ck_assert_uint_eq (stats.held_bytes, probe_resident_bytes () +
                                         stats.context_bytes +
                                         disk->other_foreign);
  check_stats (disk);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

void
disk_check_all (struct disk *disk)
{
  disk_check (disk);
  disk_verify (disk, disk->size, 0);
  disk_check_extents (disk, disk->size, 0);
}
