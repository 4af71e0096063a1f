/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands: what an administrator can ask of a running disk, one a line.
 * No sockets and no nbdkit here, so that a unit test and a fuzzer can call
 * it; control.c is what carries lines in and answers out.
 */

#ifndef ZMEM_COMMANDS_H
#define ZMEM_COMMANDS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "store.h"

/* The longest line, its end not counted. */
#define COMMAND_MAX_BYTES 1024
/* Room for the sentence of an error. */
#define COMMAND_ERROR_BYTES 512

/* What a client waits for, from one call to the next; all zero at first and
 * whenever a command has been answered.  One a client.
 */
struct command_wait {
  uint64_t ticket; /* of a compaction; 0: nothing */
};

/* Run one command (no end of line) and write the body of its answer to
 * `out`: whole lines of printable ASCII.  A blank line is no command: an
 * empty body.
 *
 * 0, or -errno and in `error` one sentence on one line; `out` is then as it
 * was.  -EAGAIN is no error, and has no sentence: the answer is not there
 * yet; ask again, a little later, with the same line and the same `wait`.
 * Who does not want it any more just does not ask: nothing is kept for it.
 *
 * Borrows all it is given.  May wait for codec contexts to come back, and
 * for as long as a lower limit takes to have memory reclaimed (some 2
 * seconds at the most); never for a compaction, unless the store has no
 * worker.  One caller at a time.
 */
extern int command_run (struct store *store, const char *line,
                        struct command_wait *wait, FILE *out, char *error,
                        size_t error_bytes);

#endif /* ZMEM_COMMANDS_H */
