/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What disturbs the model test; see model-disturb.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "model-disturb.h"
#include "stats.h"

static void
disturb_codec (struct store *store, struct rng *rng)
{
  static const struct codec_spec specs[] = {
    { CODEC_LZ4, 1 }, { CODEC_ZSTD, 1 },  { CODEC_RAW, 0 },
    { CODEC_LZ4, 8 }, { CODEC_ZSTD, -3 }, { CODEC_LZ4, 1 },
  };
  const struct codec_spec *spec =
    &specs[rng_below (rng, sizeof specs / sizeof specs[0])];
  const int r = store_set_codec (store, spec);

  if (r != 0 && r != -ENOSPC)
    test_note_failure ("store_set_codec gave %d", r);
}

/* Somewhere around what is held, or far above it. */
static void
disturb_limit (struct store *store, struct rng *rng)
{
  struct stats stats;
  uint64_t limit = PAGES_NO_LIMIT;
  int r;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  if (!rng_once_in (rng, 3))
    limit = stats.held_bytes * rng_between (rng, 90, 104) / 100;
  r = store_set_limit (store, limit);
  if (r != 0 && r != -EINVAL)
    test_note_failure ("store_set_limit gave %d", r);
}

static void
disturb_stats (struct store *store)
{
  const uint64_t size = store_size_bytes (store);
  const uint64_t nr_blocks = (size + 4095) / 4096;
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  if (stats.size_bytes != size || stats.live_blocks > nr_blocks ||
      stats.hole_blocks > nr_blocks)
    test_note_failure ("statistics: %" PRIu64 " live, %" PRIu64
                       " holes of %" PRIu64,
                       stats.live_blocks, stats.hole_blocks, nr_blocks);
  if (stats.checksum_failures > 0)
    test_note_failure ("%" PRIu64 " checksum failures",
                       stats.checksum_failures);
}

static int
follow_extent (void *opaque, uint64_t offset, uint64_t count,
               enum extent_kind kind)
{
  uint64_t *next = opaque;

  (void) kind;
  if (offset != *next || count == 0)
    test_note_failure ("extent at %" PRIu64 ", not at %" PRIu64, offset, *next);
  *next = offset + count;
  return 0;
}

static void
disturb_extents (struct store *store, struct rng *rng)
{
  const uint64_t size = store_size_bytes (store);
  const uint64_t start = rng_below (rng, size);
  const uint64_t count = rng_between (rng, 1, size - start);
  uint64_t next = start;
  const int r = store_extents (store, count, start, rng_once_in (rng, 4),
                               follow_extent, &next);

  if (r != 0 || next == start || next > start + count)
    test_note_failure ("extents of %" PRIu64 " at %" PRIu64
                       ": %d, end at %" PRIu64,
                       count, start, r, next);
}

void
disturb_with_questions (struct store *store, struct rng *rng)
{
  disturb_stats (store);
  disturb_extents (store, rng);
}

void
disturb_with_changes (struct store *store, struct rng *rng)
{
  if (rng_once_in (rng, 2))
    disturb_limit (store, rng);
  if (rng_once_in (rng, 5))
    disturb_codec (store, rng);
}
