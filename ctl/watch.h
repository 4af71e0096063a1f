/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Watching a server: what it does, again and again.
 */

#ifndef ZMEM_CTL_WATCH_H
#define ZMEM_CTL_WATCH_H

#include <stdbool.h>

#include "client.h"

struct watch {
  int interval_ms;
  unsigned long count; /* of intervals; 0: until interrupted */
  bool json;           /* an object an interval, instead of text */
};

/* Watch until the count is reached, Ctrl-C, or a failure.  On a terminal,
 * its whole screen; else a line an interval.  True: ended as it should;
 * false: see client->error.
 */
extern bool watch_run (const struct watch *watch, struct client *client);

#endif /* ZMEM_CTL_WATCH_H */
