/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Between worker.c (steps) and worker-thread.c (the thread).
 */

#ifndef ZMEM_WORKER_PRIVATE_H
#define ZMEM_WORKER_PRIVATE_H

#include "service-thread.h"
#include "worker.h"

#define NEVER UINT64_MAX

/* Make the thread's poll return, now or when it is next called. */
extern void compact_worker_ring (struct compact_worker *worker);

/* Fill up the pool's reserve, of which something was taken; 0, or why there
 * is some lacking.
 */
extern int compact_worker_refill (struct compact_worker *worker);

/* The next step is to look, at that time. */
extern void compact_worker_look_at (struct compact_worker *worker,
                                    uint64_t now_ns);

/* There is no thread (any more): end what it was at, and what was asked. */
extern void compact_worker_end_runs (struct compact_worker *worker);

#endif /* ZMEM_WORKER_PRIVATE_H */
