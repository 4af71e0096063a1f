/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Migrate: move one batch of objects out of a source.
 *
 * For each object: its owner's lock is tried; the owner must point at it; it
 * is copied to the slot that was claimed for it; the owner is re-pointed with
 * one store.  All of that is the objects' user's (compact_ops.move), and so
 * no lock of the pool is held meanwhile.
 */

#ifndef ZMEM_MIGRATE_H
#define ZMEM_MIGRATE_H

#include "compactor.h"

struct migrated {
  unsigned nr_offered; /* 0: no object is left, or no place for one */
  unsigned nr_moved;
  unsigned nr_busy;
  unsigned nr_in_transit;
  uint64_t copied_bytes;
};

extern struct migrated migrate_batch (struct pool *pool,
                                      struct pool_source *source, bool pack,
                                      const struct compact_ops *ops,
                                      void *opaque);

#endif /* ZMEM_MIGRATE_H */
