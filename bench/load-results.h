/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What a workload of nbd-load came to, and how it is printed.
 */

#ifndef ZMEM_LOAD_RESULTS_H
#define ZMEM_LOAD_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench-latency.h"
#include "load-workloads.h"

/* Of a connection, then of all. */
struct results {
  uint64_t nr_errors;
  uint64_t nr_wrong; /* blocks */
  uint64_t bytes;    /* of all requests, trims too */
  struct latency latency[NR_KINDS];
};

struct outcome {
  const char *workload;
  unsigned nr_connections, depth;
  double seconds;
  double server_cpu_seconds; /* below 0: nobody asked for it */
  struct results results;
};

extern void add_results (struct results *sum, const struct results *other);

/* A line of text, and one a kind of requests where there are several; or a
 * JSON object on a line of its own.
 */
extern void print_outcome (const struct outcome *outcome, bool json);

/* The processor time of a process, all its threads, gone ones too.  The
 * first exits with a sentence and status 2 where there is no such process.
 */
extern void watch_server (int pid);
extern double server_cpu_seconds (void); /* below 0: none is watched */

#endif /* ZMEM_LOAD_RESULTS_H */
