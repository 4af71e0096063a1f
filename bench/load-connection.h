/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The connections of nbd-load: see load-connection.c.
 */

#ifndef ZMEM_LOAD_CONNECTION_H
#define ZMEM_LOAD_CONNECTION_H

#include <stdint.h>

#include "load-results.h"
#include "load-schedule.h"

#define MAX_CONNECTIONS 64
#define MAX_DEPTH 256

/* All that the load says; kept until close_connections.  Exits with a
 * sentence and status 1 where the server does not let us in.
 */
extern void open_connections (const struct load *load, const char *uri);
extern void close_connections (void);

extern uint64_t disk_bytes (void);

/* Run a workload, whose schedule has begun, on all of them until it is
 * done; adds what it came to to sum.
 */
extern void run_connections (const struct workload *workload,
                             struct results *sum);

#endif /* ZMEM_LOAD_CONNECTION_H */
