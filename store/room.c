/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Room for a write at the limit; see room.h.
 */

#include <config.h>

#include "room.h"

/* What to ask for, once more with each try: room for the writes that come
 * after this one, too, so that not each of them has to ask; and contexts of
 * another codec want some MiB at once.
 */
#define ROOM_BYTES ((uint64_t) 1 << 20)

static uint64_t
bytes_to_ask (struct store *store, const struct room *room)
{
  const uint64_t held = pages_held (&store->pages);
  const uint64_t limit = atomic_load (&store->pages.limit);

  return room->nr_tries * ROOM_BYTES + (held > limit ? held - limit : 0);
}

/* Spare zspages are in nobody's use, nor is the reserve. */
static bool
purge_spare (struct store *store, uint64_t bytes)
{
  uint64_t purged = 0, n;

  do {
    n = pool_purge_one_unused (store->pool);
    purged += n;
  } while (n > 0 && purged < bytes);
  return purged > 0;
}

/* Has anybody given back anything since the last try? */
static bool
look_again (struct store *store, struct room *room)
{
  const struct room now = room_begin (store);
  const bool changed =
    now.seen != room->seen || now.nr_purges != room->nr_purges;

  room->seen = now.seen;
  room->nr_purges = now.nr_purges;
  return changed;
}

bool
room_make (struct store *store, struct room *room)
{
  const bool looked = room->looked;
  uint64_t bytes;
  bool purged, made;

  if (room->nr_tries == ROOM_MAX_TRIES)
    return false;
  if (room->nr_tries++ == 0)
    atomic_fetch_add_explicit (&store->nr_waited_writes, 1,
                               memory_order_relaxed);
  /* Not twice in a row: what a try in vain gave back itself looks the same. */
  room->looked = !looked && look_again (store, room);
  if (room->looked)
    return true;
  bytes = bytes_to_ask (store, room);
  purged = purge_spare (store, bytes);
  if (store->compact_manual)
    return purged;
  room->looked = !looked && purged;
  if (room->looked)
    return true;
  made = compactor_make_room (&store->compactor, bytes, room->seen,
                              ROOM_MAX_NS / ROOM_MAX_TRIES);
  return look_again (store, room) || made || purged;
}
