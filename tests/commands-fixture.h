/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk without a server, and commands to it, for libcheck programs: what is
 * wrong with an answer ends the test.
 */

#ifndef ZMEM_COMMANDS_FIXTURE_H
#define ZMEM_COMMANDS_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "commands.h"
#include "libcheck.h"
#include "stats.h"
#include "store.h"

/* 16 MiB, limit 64 MiB. */
extern struct store *store;
extern struct command_wait command_wait;
extern char error[COMMAND_ERROR_BYTES];
extern char *body; /* of the last answer */
extern size_t body_bytes;

extern void open_store (bool compact_manual, uint64_t compact_rate);
/* Without a worker: what is asked for is done at once.  A checked fixture. */
extern void begin_commands (void);
extern void end_commands (void);

/* What command_run returns. */
extern int run_command (const char *line);
/* It succeeds and says that; it fails, and says that. */
extern void answers (const char *line, const char *piece);
extern void refuses (const char *line, const char *advice);

extern struct stats get_stats (void);

#endif /* ZMEM_COMMANDS_FIXTURE_H */
