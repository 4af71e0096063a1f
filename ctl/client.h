/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The client's end of a control socket.
 *
 *     send     a command and LF
 *     receive  "ok N\n" and N bytes, or "error SENTENCE\n"
 *
 * One connection serves any number of commands.  Nothing waits longer than
 * the time limit, whatever the server does.
 */

#ifndef ZMEM_CTL_CLIENT_H
#define ZMEM_CTL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#define CLIENT_ERROR_BYTES 1024

enum client_failure {
  CLIENT_UNREACHABLE, /* there is no socket, or not for us */
  CLIENT_DEAD,        /* a socket that nobody listens on */
  CLIENT_NO_ANSWER,   /* not in time, or not all of it */
  CLIENT_STRANGER,    /* what listens there is no zmem */
  CLIENT_INTERRUPTED, /* by interrupt_fd */
  CLIENT_REFUSED      /* the server answered an error */
};

struct client {
  int fd;           /* -1: not connected */
  const char *path; /* borrowed */
  int timeout_ms;   /* a connection's, and an answer's */
  /* Waiting ends when this can be read.  -1, as client_open sets it: none */
  int interrupt_fd;
  enum client_failure failure;    /* of the call that failed last, with */
  char error[CLIENT_ERROR_BYTES]; /* one sentence */
};

/* Connect.  False: see client->failure and client->error. */
extern bool client_open (struct client *client, const char *path,
                         int timeout_ms);
extern void client_close (struct client *client);

/* Send a command, which has no end of line in it, and wait for the answer.
 * The body, NUL behind it, to be freed; NULL: see client->failure, and the
 * connection is of no more use, but after CLIENT_REFUSED.
 */
extern char *client_ask (struct client *client, const char *command);

#endif /* ZMEM_CTL_CLIENT_H */
