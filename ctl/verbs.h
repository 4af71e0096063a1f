/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Verbs: what zmemctl can be told to do.
 */

#ifndef ZMEM_CTL_VERBS_H
#define ZMEM_CTL_VERBS_H

#include <stdbool.h>

#include "client.h"

/* Exit statuses. */
enum { EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_DAMAGE = 3 };

struct options {
  const char *socket; /* NULL: not given */
  bool json;
  bool all;            /* classes: each of them */
  const char *output;  /* map: a path, or "-"; NULL: not given */
  int timeout_ms;      /* 0: not given */
  int interval_ms;     /* watch; 0: not given */
  unsigned long count; /* watch; 0: not given */
};

#define TIMEOUT_DEFAULT_MS (10 * 1000)
/* Finding servers must not take long because one of them hangs. */
#define TIMEOUT_FIND_MS (2 * 1000)
#define INTERVAL_DEFAULT_MS 1000

struct verb {
  const char *name, *args, *help;
  int min_args, max_args;
  bool local; /* needs no server: client is NULL */
  /* Where their number does not tell: are the arguments what it takes? */
  bool (*understands) (char *args[], int nr);
  /* `command`: the verb and its arguments, one blank between them.  Returns
   * the exit status, and has said what was wrong.
   */
  int (*run) (const struct options *options, struct client *client,
              const char *command);
};

/* Ends with one whose name is NULL. */
extern const struct verb verbs[];

/* The verb of this name; NULL: there is none. */
extern const struct verb *find_verb (const char *name);
/* The one that is most like it; NULL: none is. */
extern const struct verb *find_nearest_verb (const char *name);

/* An error for the user, on stderr. */
extern void say (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));

#endif /* ZMEM_CTL_VERBS_H */
