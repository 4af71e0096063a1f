/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Asking a server to verify its blocks, watching it, and its report.
 */

#ifndef ZMEM_CTL_VERIFICATION_H
#define ZMEM_CTL_VERIFICATION_H

#include <stdbool.h>
#include <stdio.h>

#include "client.h"
#include "run.h"
#include "values.h"

/* The arguments of "verify": is this what it takes? */
extern bool verify_understands (char *args[], int nr);

/* Send `command`; what begins a walk is watched to its end, but for "start",
 * "status" and "stop".  The values are to be freed after RUN_REPORTED.
 */
extern enum run_end verify_run (struct client *client, const char *command,
                                struct values *values);

/* The report for people. */
extern void verify_print (const struct values *values, FILE *out);

/* Does the report tell of damage? */
extern bool verify_found_damage (const struct values *values);

#endif /* ZMEM_CTL_VERIFICATION_H */
