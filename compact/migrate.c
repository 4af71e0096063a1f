/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One batch of moves; see migrate.h.
 */

#include <config.h>

#include "migrate.h"

/* An object that moves costs some cache misses: its owner's lock and word,
 * its first lines.  They are asked for so many objects ahead.
 */
#define PREFETCH_AHEAD 4

static void
prefetch (const struct compact_ops *ops, void *opaque,
          const struct pool_move *move)
{
  if (ops->prefetch != NULL)
    ops->prefetch (opaque, move->owner, move->from);
}

static void
move_one (const struct compact_ops *ops, void *opaque, struct pool_move *move,
          struct migrated *ret)
{
  uint32_t copied = 0;

  switch (ops->move (opaque, move->owner, move->from, move->to, &copied)) {
  case MOVE_DONE:
    move->done = true;
    ret->nr_moved++;
    ret->copied_bytes += copied;
    break;
  case MOVE_BUSY:
    ret->nr_busy++;
    break;
  case MOVE_IN_TRANSIT:
    ret->nr_in_transit++;
    break;
  }
}

struct migrated
migrate_batch (struct pool *pool, struct pool_source *source, bool pack,
               const struct compact_ops *ops, void *opaque)
{
  struct pool_move moves[POOL_MOVES_MAX];
  const unsigned nr =
    pool_moves_begin (pool, source, pack, moves, POOL_MOVES_MAX);
  struct migrated ret = { .nr_offered = nr };

  for (unsigned i = 0; i < nr && i < PREFETCH_AHEAD; i++)
    prefetch (ops, opaque, &moves[i]);
  for (unsigned i = 0; i < nr; i++) {
    if (i + PREFETCH_AHEAD < nr)
      prefetch (ops, opaque, &moves[i + PREFETCH_AHEAD]);
    move_one (ops, opaque, &moves[i], &ret);
  }
  if (nr > 0)
    pool_moves_end (pool, source, moves, nr);
  return ret;
}
