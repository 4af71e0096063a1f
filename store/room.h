/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Room: what a write does that has met the limit.
 *
 *     struct room room = room_begin (store);
 *     do
 *       r = ...;                    it may say -ENOSPC
 *     while (r == -ENOSPC && room_make (store, &room));
 *
 * Compaction is asked for it, and its answer waited for, which is bounded:
 * ROOM_MAX_NS in all.  Then comes what can be done without room, or ENOSPC.
 * No group lock may be held; a context may.
 */

#ifndef ZMEM_ROOM_H
#define ZMEM_ROOM_H

#include "store-private.h"

#define ROOM_MAX_NS (100 * UINT64_C (1000000))
#define ROOM_MAX_TRIES 16

struct room {
  /* Before the last try: compactor_returned, and purges by anybody. */
  uint64_t seen, nr_purges;
  unsigned nr_tries;
  bool looked; /* the last try came of what somebody gave back */
};

static inline struct room
room_begin (struct store *store)
{
  return (struct room) {
    .seen = compactor_returned (&store->compactor),
    .nr_purges = atomic_load (&store->pages.nr_purges),
  };
}

/* True: try again. */
extern bool room_make (struct store *store, struct room *room);

#endif /* ZMEM_ROOM_H */
