/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The block store, by a stream of operations, against a flat array: reads,
 * writes of whole blocks and of parts, trims, zeroes of both kinds, extents,
 * the limit and the codec changing, memory failing where the stream says,
 * payloads damaged, and between any two of them a slice of compaction.  With
 * a reserve where the stream begins with a G and its size; it is refilled
 * where the stream says.  One thread: tests/test-model has many.
 *
 * The oracle: what is read is what the array has; after an error each block
 * of the request is as it was or as it was to be; an error has a cause;
 * extents tell what is zero; held is below the limit; store_check; and when
 * all has been trimmed, what an empty disk holds.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "../probe.h"
#include "../test-util.h"
#include "fuzz.h"
#include "refill.h"
#include "size-class.h"
#include "stats.h"
#include "store-private.h"
#include "store.h"

/* A region and a bit, and the last block is none. */
#define DISK_BYTES (2 * MIB + 20 * BLOCK_BYTES + 1000)
#define MAX_REQUEST_BYTES (64 * BLOCK_BYTES)
#define MAX_OPERATIONS 200
#define CHECK_EVERY 16 /* operations */

static struct store *store;
static uint8_t array[DISK_BYTES], new_data[DISK_BYTES], back[DISK_BYTES];
static bool may_fail;          /* a limit, or a populate that failed */
static uint64_t foreign_bytes; /* held that is no mapping and no context */

struct range {
  uint64_t offset, count;
};

static uint64_t
min (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* Requests begin and end at blocks, at sectors, or anywhere. */
static struct range
take_range (struct input *input)
{
  static const uint64_t units[] = { BLOCK_BYTES, 512, 1, BLOCK_BYTES };
  const uint8_t how = take_byte (input);
  const uint64_t unit = units[how % 4];
  struct range range;

  /* Half of them within 32 blocks of each other, else none would meet. */
  range.offset =
    unit * take_below (input, how & 4
                                ? 0x10000
                                : (unsigned) (32 * BLOCK_BYTES / unit) + 1);
  if (how & 8)
    range.offset += 2 * MIB - 8 * BLOCK_BYTES;
  range.offset %= DISK_BYTES;
  range.count = 1 + take_byte (input);
  range.count *= how & 16 ? 37 : unit;
  range.count = min (range.count, MAX_REQUEST_BYTES);
  range.count = min (range.count, DISK_BYTES - range.offset);
  return range;
}

static struct stats
get_stats (void)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  return stats;
}

/*--- What a request may do. ---*/

static void
read_back (struct range range)
{
  memset (back, 0xa5, range.count);
  FUZZ_CHECK (store_read (store, back, range.count, range.offset) == 0,
              "%" PRIu64 " at %" PRIu64, range.count, range.offset);
}

static void
check_read (struct range range)
{
  read_back (range);
  for (uint64_t i = 0;
       i < range.count && memcmp (back, array + range.offset, range.count) != 0;
       ++i)
    FUZZ_CHECK (back[i] == array[range.offset + i],
                "byte %" PRIu64 " is %02x, not %02x", range.offset + i, back[i],
                array[range.offset + i]);
}

/* The request gave r, and new_data is what the range should hold.  `stays`:
 * it may be as it was, for no reason.
 */
static void
settle (struct range range, int r, bool stays)
{
  uint8_t *was = array + range.offset;

  FUZZ_CHECK (r == 0 || ((r == -ENOSPC || r == -ENOMEM) && may_fail),
              "%d without a cause", r);
  if (r == 0 && !stays) {
    memcpy (was, new_data, range.count);
    check_read (range);
    return;
  }
  read_back (range);
  for (uint64_t i = 0, n; i < range.count; i += n) {
    n = min (BLOCK_BYTES - (range.offset + i) % BLOCK_BYTES, range.count - i);
    FUZZ_CHECK (memcmp (back + i, new_data + i, n) == 0 ||
                  memcmp (back + i, was + i, n) == 0,
                "the block of byte %" PRIu64 " is neither old nor new",
                range.offset + i);
  }
  memcpy (was, back, range.count);
}

static void
write_range (struct input *input)
{
  const struct range range = take_range (input);
  struct rng rng;

  rng_init (&rng, take_byte (input), 0);
  make_range (&rng, new_data, range.count, range.offset);
  settle (range, store_write (store, new_data, range.count, range.offset),
          false);
}

/* Whole blocks of the range, the disk's last one included. */
static struct range
whole_blocks (struct range range)
{
  uint64_t end = range.offset + range.count;
  const uint64_t start =
    (range.offset + BLOCK_BYTES - 1) & ~(uint64_t) (BLOCK_BYTES - 1);

  if (end != DISK_BYTES)
    end &= ~(uint64_t) (BLOCK_BYTES - 1);
  return (struct range) { start, start < end ? end - start : 0 };
}

static int
expect_kind (void *opaque, uint64_t offset, uint64_t count,
             enum extent_kind kind)
{
  const enum extent_kind *want = opaque;

  FUZZ_CHECK (kind == *want, "%" PRIu64 " at %" PRIu64 " is %d", count, offset,
              (int) kind);
  return 0;
}

/* Trim, or zero with or without holes: of whole blocks that is exact. */
static void
discard_range (struct input *input, char how)
{
  enum extent_kind kind = how == 'Z' ? EXTENT_ZERO : EXTENT_HOLE;
  const struct range range = take_range (input);
  const struct range whole = whole_blocks (range);
  const int r = how == 't'
                  ? store_trim (store, range.count, range.offset)
                  : store_zero (store, range.count, range.offset, how == 'z');

  FUZZ_CHECK (how != 't' || r == 0, "a trim gave %d", r);
  if (whole.count > 0 && (r == 0 || how == 'z')) {
    store_extents (store, whole.count, whole.offset, false, expect_kind, &kind);
    memset (array + whole.offset, 0, whole.count);
  }
  memset (new_data, 0, range.count);
  settle (range, r, how == 't' && may_fail);
}

static int
check_extent (void *opaque, uint64_t offset, uint64_t count,
              enum extent_kind kind)
{
  uint64_t *next = opaque;

  FUZZ_CHECK (offset == *next && count > 0,
              "extent at %" PRIu64 ", not at %" PRIu64, offset, *next);
  *next += count;
  for (uint64_t n; count > 0; offset += n, count -= n) {
    const uint64_t block = offset / BLOCK_BYTES * BLOCK_BYTES;

    n = min (BLOCK_BYTES - offset % BLOCK_BYTES, count);
    FUZZ_CHECK (is_all_zero (array + block,
                             min (BLOCK_BYTES, DISK_BYTES - block)) ==
                  (kind != EXTENT_DATA),
                "block %" PRIu64 " is %d", offset / BLOCK_BYTES, (int) kind);
  }
  return 0;
}

static void
check_extents (struct range range)
{
  uint64_t next = range.offset;

  FUZZ_CHECK (store_extents (store, range.count, range.offset, false,
                             check_extent, &next) == 0,
              "extents");
  FUZZ_CHECK (next == range.offset + range.count, "end at %" PRIu64, next);
}

/* A bit of a payload flips: that block, and no other, gives an error until
 * the bit is back.
 */
static void
damage (struct input *input)
{
  const uint64_t blkno = take_range (input).offset / BLOCK_BYTES;
  const uint64_t offset = blkno * BLOCK_BYTES;
  const struct range block = { offset, min (BLOCK_BYTES, DISK_BYTES - offset) };
  const unsigned at = take_below (input, 8 * BLOCK_BYTES);
  uint32_t bytes;
  uint8_t *payload = store_payload_for_test (store, blkno, &bytes);

  if (payload == NULL)
    return;
  payload[at / 8 % bytes] ^= (uint8_t) (1 << at % 8);
  FUZZ_CHECK (store_read (store, back, block.count, offset) == -EIO,
              "damage of block %" PRIu64 " was not seen", blkno);
  FUZZ_CHECK (store_write (store, "x", 1, offset) == -EIO,
              "damage was written over in part");
  payload[at / 8 % bytes] ^= (uint8_t) (1 << at % 8);
  check_read (block);
}

/*--- What happens beside requests. ---*/

static void
set_limit (uint64_t limit)
{
  const int r = store_set_limit (store, limit);

  FUZZ_CHECK (r == 0 || (r == -EINVAL && limit < store_min_limit (store)),
              "limit %" PRIu64 " gave %d", limit, r);
  if (r < 0)
    return;
  may_fail = may_fail || limit != PAGES_NO_LIMIT;
  probe_watch_limit (limit == PAGES_NO_LIMIT ? 0 : limit);
}

static void
set_codec (unsigned i)
{
  static const struct codec_spec specs[] = {
    { CODEC_LZ4, 1 }, { CODEC_ZSTD, 1 },  { CODEC_RAW, 0 },
    { CODEC_LZ4, 9 }, { CODEC_ZSTD, -3 },
  };
  const int r = store_set_codec (store, &specs[i % 5]);

  FUZZ_CHECK (r == 0 || (r == -ENOSPC && may_fail), "%d", r);
}

static void
begin_compaction (struct input *input)
{
  const uint8_t how = take_byte (input);
  const struct compact_goal goal = {
    .class_idx = how & 1 ? (int) size_class_of (size_class_table (),
                                                1 + take_below (input, 4096))
                         : -1,
    .thorough = how & 2,
    .keep_spare = how >> 2 & 3,
    .until_reclaimable = how & 16 ? 64 * KIB : 0,
    .until_returned = how & 32 ? 64 * KIB : UINT64_MAX,
  };

  compactor_begin (&store->compactor, &goal);
}

static void
fail_pages (enum probe_kind kind, uint64_t nth)
{
  probe_fail_nth (kind, nth);
  may_fail = may_fail || kind == PROBE_POPULATE;
}

static void
compact (struct input *input, char how)
{
  LOCK_FOR_SCOPE (&store->compactor.lock);

  if (how == 'k')
    begin_compaction (input);
  else if (how == 'J')
    compactor_end (&store->compactor);
  else
    for (unsigned i = take_byte (input) % 8; i > 0; --i)
      compactor_step (&store->compactor, 0);
}

/*--- The stream and the oracle. ---*/

static void
operate (struct input *input)
{
  const char how = take_letter (input, "wwwwwrtzZxckjjjJKspSPlLnNdCgG");

  switch (how) {
  case 'w':
    write_range (input);
    break;
  case 'r':
    check_read (take_range (input));
    break;
  case 't':
  case 'z':
  case 'Z':
    discard_range (input, how);
    break;
  case 'x':
    check_extents (take_range (input));
    break;
  case 'c':
    set_codec (take_byte (input));
    break;
  case 'k':
  case 'j':
  case 'J':
    compact (input, how);
    break;
  case 'K':
    store_compact (store, -1);
    break;
  case 's':
    pool_set_spare_max (store->pool, take_byte (input) % 4);
    break;
  case 'p':
    pool_purge_spare (store->pool, take_byte (input) % 4);
    break;
  case 'l':
    set_limit (pages_held (&store->pages) + take_byte (input) * PAGE_BYTES);
    break;
  case 'L':
    set_limit (PAGES_NO_LIMIT);
    break;
  case 'n':
    fail_pages (PROBE_POPULATE, take_byte (input) % 4);
    break;
  case 'N':
    fail_pages (PROBE_PURGE, take_byte (input) % 4);
    break;
  case 'd':
    damage (input);
    break;
  case 'g':
    refill (store->pool,
            pages_held (&store->pages) + take_byte (input) * PAGE_BYTES);
    break;
  case 'G':
    refill (store->pool, 64 * DISK_BYTES); /* more than there is */
    break;
  default:
    break;
  }
}

static void
check_now_and_then (void)
{
  char error[512] = "";
  struct stats stats;

  compact (NULL, 'J'); /* the validator wants nothing isolated */
  FUZZ_CHECK (store_check (store, error, sizeof error) == 0, "%s", error);
  stats = get_stats ();
  FUZZ_CHECK (stats.held_bytes ==
                probe_resident_bytes () + stats.context_bytes + foreign_bytes,
              "held %" PRIu64, stats.held_bytes);
}

/* The reserve follows the limit of the beginning, which then goes. */
static void
open_store (uint64_t limit_bytes)
{
  const struct store_params params = {
    .size_bytes = DISK_BYTES,
    .limit_bytes = limit_bytes,
    .reserve = limit_bytes != PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .nr_contexts = 1,
    .pages_ops = &probe_ops,
  };
  struct stats stats;

  probe_reset ();
  if (store_create (&params, &store) < 0 || store_start (store) < 0)
    abort ();
  store_set_limit (store, PAGES_NO_LIMIT);
  memset (array, 0, sizeof array);
  may_fail = false;
  stats = get_stats ();
  foreign_bytes =
    stats.held_bytes - stats.context_bytes - probe_resident_bytes ();
}

/* All is as it should be, and when all is trimmed nothing is left but the
 * zspage of the bounce object, which never moves, and what pages of it others
 * had touched, and the reserve.
 */
static void
end_store (void)
{
  struct stats stats;

  fail_pages (PROBE_POPULATE, 0);
  fail_pages (PROBE_PURGE, 0);
  check_now_and_then ();
  check_read ((struct range) { 0, DISK_BYTES });
  check_extents ((struct range) { 0, DISK_BYTES });
  store_trim (store, DISK_BYTES, 0);
  store_compact (store, -1);
  check_now_and_then ();
  stats = get_stats ();
  FUZZ_CHECK (stats.live_blocks == 0, "%" PRIu64 " blocks", stats.live_blocks);
  FUZZ_CHECK (stats.arena_bytes <= ZSPAGE_BYTES + stats.reserve_bytes,
              "%" PRIu64 " bytes in the arena of an empty disk",
              stats.arena_bytes);
  store_destroy (store);
  FUZZ_CHECK (probe_nr_ranges () == 0, "%u", probe_nr_ranges ());
  FUZZ_CHECK (test_nr_failures () == 0, "%s", test_first_failure ());
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes)
{
  struct input input = { data, bytes };

  if (bytes > 1 && data[0] == 'G') {
    take_byte (&input);
    open_store ((4 + take_byte (&input)) * MIB);
  }
  else
    open_store (PAGES_NO_LIMIT);
  for (unsigned i = 1; i <= MAX_OPERATIONS && input.left > 0; ++i) {
    operate (&input);
    FUZZ_CHECK (pages_held (&store->pages) <= atomic_load (&store->pages.limit),
                "operation %u", i);
    FUZZ_CHECK (test_nr_failures () == 0, "%s", test_first_failure ());
    if (i % CHECK_EVERY == 0)
      check_now_and_then ();
  }
  end_store ();
  return 0;
}
