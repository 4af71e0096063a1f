/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests: from what nbdkit asks to calls of the store, with counters and
 * latency around them.  A function here returns 0 or -errno, like the store,
 * and prints nothing; plugin.c turns that into nbdkit's -1 and errno.
 *
 * The counters are sharded by processor, so that two processors seldom write
 * one cache line; they are added up when somebody asks.  A request is counted
 * when it is done, whether it failed or not; its bytes only if it succeeded.
 */

#ifndef ZMEM_REQUESTS_H
#define ZMEM_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "stats.h"
#include "store.h"

extern int requests_read (struct store *store, void *buf, uint32_t count,
                          uint64_t offset);
extern int requests_write (struct store *store, const void *buf, uint32_t count,
                           uint64_t offset);
extern int requests_trim (struct store *store, uint32_t count, uint64_t offset);
extern int requests_zero (struct store *store, uint32_t count, uint64_t offset,
                          bool may_punch);
/* Nothing is ever pending: these two only count. */
extern int requests_flush (void);
extern int requests_cache (void);
extern int requests_extents (struct store *store, uint64_t count,
                             uint64_t offset, bool one, store_extent_fn fn,
                             void *opaque);

/* Clients come and go. */
extern void requests_connected (void);
extern void requests_disconnected (void);

/* Fill in the part of the statistics that requests know, and how long reads
 * and writes took.
 */
extern void requests_stats (struct stats *stats, struct histogram *read,
                            struct histogram *write);

#endif /* ZMEM_REQUESTS_H */
