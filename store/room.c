/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Room for a write at the limit; see room.h.
 */

#include <config.h>

#include "room.h"

/* What to ask for: room for the writes that come after this one, too, so
 * that not each of them has to ask.
 */
#define ROOM_BYTES ((uint64_t) 1 << 20)

static uint64_t
bytes_to_ask (struct store *store)
{
  const uint64_t held = pages_held (&store->pages);
  const uint64_t limit = atomic_load (&store->pages.limit);

  return ROOM_BYTES + (held > limit ? held - limit : 0);
}

bool
room_make (struct store *store, struct room *room)
{
  const uint64_t seen = room->seen;

  if (store->compact_manual || room->nr_tries == ROOM_MAX_TRIES)
    return false;
  if (room->nr_tries++ == 0)
    atomic_fetch_add_explicit (&store->nr_waited_writes, 1,
                               memory_order_relaxed);
  room->seen = compactor_returned (&store->compactor);
  if (room->seen != seen)
    return true;
  if (!compactor_make_room (&store->compactor, bytes_to_ask (store), seen,
                            ROOM_MAX_NS / ROOM_MAX_TRIES))
    return false;
  room->seen = compactor_returned (&store->compactor);
  return true;
}
