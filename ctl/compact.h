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
#include "run.h"
#include "values.h"

/* The arguments of "compact": is this what it takes? */
extern bool compact_understands (char *args[], int nr);

/* Send `command`, wait until the compaction that it began has ended, and
 * fill in what the server says of it, to be freed after RUN_REPORTED.
 */
extern enum run_end compact_run (struct client *client, const char *command,
                                 struct values *values);

/* The report for people. */
extern void compact_print (const struct values *values, FILE *out);

#endif /* ZMEM_CTL_COMPACT_H */
