/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Asking a server to compact, watching it, and its report.
 */

#ifndef ZMEM_CTL_COMPACT_H
#define ZMEM_CTL_COMPACT_H

#include <stdbool.h>
#include <stdio.h>

#include "client.h"
#include "values.h"

/* The arguments of "compact": is this what it takes? */
extern bool compact_understands (char *args[], int nr);

enum compact_end {
  COMPACT_REPORTED,             /* see the values */
  COMPACT_FAILED,               /* see client->error */
  COMPACT_STRANGE,              /* the answer is none that is known */
  COMPACT_LEFT                  /* Ctrl-C or its like, while it was running */
};

/* Send `command`, wait until the compaction that it began has ended, and
 * fill in what the server says of it, to be freed after COMPACT_REPORTED.
 * Where standard error is a terminal, and it takes some time, that shows how
 * far it is.
 */
extern enum compact_end compact_run (struct client *client,
                                     const char *command,
                                     struct values *values);

/* The report for people. */
extern void compact_print (const struct values *values, FILE *out);

#endif /* ZMEM_CTL_COMPACT_H */
