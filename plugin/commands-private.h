/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the commands share (commands.c, command-*.c): where an
 * answer goes, and how a command says that there is none.
 */

#ifndef ZMEM_COMMANDS_PRIVATE_H
#define ZMEM_COMMANDS_PRIVATE_H

#include <stddef.h>
#include <stdio.h>

#include "commands.h"
#include "store.h"

/* Where a command leaves its answer, and what it waits for. */
struct answer {
  FILE *out;
  char *error;
  size_t error_bytes;
  struct command_wait *wait;
};

/* Say what is wrong.  Returns r, for the caller to return. */
extern int answer_reject (const struct answer *answer, int r,
                          const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));

/* "COMMAND" takes WANTED, not "ARGS".  Returns -EINVAL. */
extern int answer_reject_args (const struct answer *answer, const char *command,
                               const char *wanted, const char *args);

/* No memory is left for the answer.  Returns -ENOMEM. */
extern int answer_reject_memory (const struct answer *answer);

/* What a client typed, fit to be shown on a terminal: cut to a few words,
 * nothing but printable ASCII.  Returns `quoted`.
 */
#define QUOTE_BYTES 41
extern const char *answer_quote (const char *typed, char quoted[QUOTE_BYTES]);

/* The commands of files of their own; `args` is what follows the name,
 * without blanks around it, at most COMMAND_MAX_BYTES.
 */
extern int command_compact (struct store *store, const char *args,
                            const struct answer *answer);
extern int command_map (struct store *store, const char *args,
                        const struct answer *answer);
extern int command_verify (struct store *store, const char *args,
                           const struct answer *answer);

#endif /* ZMEM_COMMANDS_PRIVATE_H */
