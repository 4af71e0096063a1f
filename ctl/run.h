/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Runs: what a server was asked to do that takes its time (a compaction, a
 * verification), watched to its end.
 */

#ifndef ZMEM_CTL_RUN_H
#define ZMEM_CTL_RUN_H

#include <stdint.h>

#include "client.h"
#include "text.h"
#include "values.h"

#define RUN_LINE_BYTES (6 * TEXT_BYTES)

/* How far a run is: so much of it, and that in words, for behind the bar. */
struct run_progress {
  double done; /* from 0 to 1 */
  char line[RUN_LINE_BYTES];
};

struct run_kind {
  const char *status_command; /* asks for the report as of now */
  const char *state;          /* the name of the value that says "running" */
  void (*progress) (const struct values *values, int64_t passed_ms,
                    struct run_progress *ret);
};

enum run_end {
  RUN_REPORTED, /* see the values */
  RUN_FAILED,   /* see client->error */
  RUN_STRANGE,  /* the answer is none that is known */
  RUN_LEFT      /* Ctrl-C or its like, while it was running */
};

/* Send `command` and fill in the report that comes back. */
extern enum run_end run_ask (const struct run_kind *kind, struct client *client,
                             const char *command, struct values *values);

/* The same, but wait until the run has ended; the report is its last.  Where
 * standard error is a terminal, and it takes some time, that shows how far
 * it is.  The values are to be freed after RUN_REPORTED.
 */
extern enum run_end run_follow (const struct run_kind *kind,
                                struct client *client, const char *command,
                                struct values *values);

#endif /* ZMEM_CTL_RUN_H */
