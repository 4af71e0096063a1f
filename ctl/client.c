/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The client's end of a control socket.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "now-ms.h"
#include "text.h"
#include "values.h"

/* A first line that is longer, or a body, comes from no zmem. */
#define HEAD_MAX_BYTES 1024
#define BODY_MAX_BYTES ((uint64_t) 64 << 20)

/* Between two attempts to connect to a server whose queue is full. */
#define CONNECT_PAUSE_MS 20

static bool fail (struct client *client, enum client_failure failure,
                  const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));

/* Returns false, for the caller to return. */
static bool
fail (struct client *client, enum client_failure failure, const char *format,
      ...)
{
  va_list args;

  client->failure = failure;
  va_start (args, format);
  vsnprintf (client->error, sizeof client->error, format, args);
  va_end (args);
  return false;
}

/* Wait until the socket is ready for `events`, at most until then. */
static bool
wait_ready (struct client *client, short events, int64_t until_ms)
{
  struct pollfd fds[2] = {
    { .fd = client->fd, .events = events },
    { .fd = client->interrupt_fd, .events = POLLIN },
  };
  int64_t left;
  int r;

  do {
    left = until_ms - now_ms ();
    r = left <= 0 ? 0 : poll (fds, 2, (int) left);
  } while (r == -1 && errno == EINTR);
  if (r > 0 && fds[1].revents != 0)
    return fail (client, CLIENT_INTERRUPTED, "%s: interrupted", client->path);
  if (r > 0)
    return true;
  return fail (client, CLIENT_NO_ANSWER,
               "%s: the server did not answer within %g s", client->path,
               client->timeout_ms / 1000.0);
}

static bool
fail_connect (struct client *client, int err)
{
  switch (err) {
  case ENOENT:
    return fail (client, CLIENT_UNREACHABLE, "%s: there is no such socket",
                 client->path);
  case ECONNREFUSED:
    return fail (client, CLIENT_DEAD, "%s: no server listens there",
                 client->path);
  case EACCES:
    return fail (client, CLIENT_UNREACHABLE,
                 "%s: only the server's user and root may use this socket",
                 client->path);
  case ENOTSOCK:
  case EPROTOTYPE:
    return fail (client, CLIENT_UNREACHABLE, "%s: this is no control socket",
                 client->path);
  default:
    return fail (client, CLIENT_UNREACHABLE, "%s: %s", client->path,
                 strerror (err));
  }
}

bool
client_open (struct client *client, const char *path, int timeout_ms)
{
  static const struct timespec pause = {
    .tv_nsec = CONNECT_PAUSE_MS * 1000 * 1000,
  };
  const int64_t until_ms = now_ms () + timeout_ms;
  struct sockaddr_un addr = { .sun_family = AF_UNIX };

  client->fd = -1;
  client->path = path;
  client->timeout_ms = timeout_ms;
  client->interrupt_fd = -1;

  if (*path == '\0' || strlen (path) >= sizeof addr.sun_path)
    return fail (client, CLIENT_UNREACHABLE,
                 "%s: the path of a socket has 1 to %zu bytes", path,
                 sizeof addr.sun_path - 1);
  strcpy (addr.sun_path, path);

  client->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (client->fd == -1)
    return fail_connect (client, errno);
  while (connect (client->fd, (const struct sockaddr *) &addr, sizeof addr) ==
         -1) {
    const int err = errno;

    /* EAGAIN: the server's queue is full; nothing tells when it is not. */
    if (err == EAGAIN && now_ms () < until_ms) {
      nanosleep (&pause, NULL);
      continue;
    }
    client_close (client);
    if (err == EAGAIN)
      return fail (client, CLIENT_NO_ANSWER,
                   "%s: the server took no connection within %g s", path,
                   timeout_ms / 1000.0);
    return fail_connect (client, err);
  }
  return true;
}

static bool
fail_stranger (struct client *client)
{
  return fail (client, CLIENT_STRANGER, "%s: what answers there is no zmem",
               client->path);
}

void
client_close (struct client *client)
{
  if (client->fd != -1)
    close (client->fd);
  client->fd = -1;
}

static bool
send_all (struct client *client, const char *data, size_t bytes,
          int64_t until_ms)
{
  while (bytes > 0) {
    const ssize_t r = send (client->fd, data, bytes, MSG_NOSIGNAL);

    if (r >= 0) {
      data += r;
      bytes -= (size_t) r;
    }
    else if (errno == EAGAIN) {
      if (!wait_ready (client, POLLOUT, until_ms))
        return false;
    }
    else if (errno == EPIPE || errno == ECONNRESET)
      return true; /* it may have said why: that is read next */
    else if (errno != EINTR)
      return fail (client, CLIENT_NO_ANSWER, "%s: %m", client->path);
  }
  return true;
}

/* At least one byte and at most `bytes`; 0: failed. */
static size_t
receive_some (struct client *client, char *data, size_t bytes, int64_t until_ms)
{
  for (;;) {
    const ssize_t r = recv (client->fd, data, bytes, 0);

    if (r > 0)
      return (size_t) r;
    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1 && errno == EAGAIN) {
      if (!wait_ready (client, POLLIN, until_ms))
        return 0;
      continue;
    }
    if (r == 0)
      fail (client, CLIENT_NO_ANSWER, "%s: the server closed the connection",
            client->path);
    else
      fail (client, CLIENT_NO_ANSWER, "%s: %m", client->path);
    return 0;
  }
}

/* The first line without its end.  A byte at a time, since what follows it
 * is for somebody else: 20 of them, once a command.
 */
static bool
receive_head (struct client *client, char head[HEAD_MAX_BYTES],
              int64_t until_ms)
{
  size_t used = 0;

  for (;;) {
    if (receive_some (client, head + used, 1, until_ms) == 0)
      return false;
    if (head[used] == '\n') {
      head[used] = '\0';
      return true;
    }
    /* The longest first word is known before anything is trusted. */
    if (++used == HEAD_MAX_BYTES ||
        (used == 3 && strncmp (head, "ok ", 3) != 0 &&
         strncmp (head, "err", 3) != 0))
      return fail_stranger (client);
  }
}

static char *
receive_body (struct client *client, size_t bytes, int64_t until_ms)
{
  char *body = malloc (bytes + 1);
  size_t used = 0;

  if (body == NULL) {
    fail (client, CLIENT_NO_ANSWER, "%s: %m", client->path);
    return NULL;
  }
  while (used < bytes) {
    const size_t r = receive_some (client, body + used, bytes - used, until_ms);
    if (r == 0) {
      free (body);
      return NULL;
    }
    used += r;
  }
  body[bytes] = '\0';
  return body;
}

char *
client_ask (struct client *client, const char *command)
{
  const int64_t until_ms = now_ms () + client->timeout_ms;
  char head[HEAD_MAX_BYTES];
  uint64_t bytes;

  assert (strchr (command, '\n') == NULL);

  if (!send_all (client, command, strlen (command), until_ms) ||
      !send_all (client, "\n", 1, until_ms) ||
      !receive_head (client, head, until_ms))
    return NULL;

  if (strncmp (head, "error ", 6) == 0) {
    text_make_printable (head);
    fail (client, CLIENT_REFUSED, "%s", head + 6);
    return NULL;
  }
  if (strncmp (head, "ok ", 3) != 0 || !value_is_number (head + 3, &bytes) ||
      bytes > BODY_MAX_BYTES) {
    fail_stranger (client);
    return NULL;
  }
  return receive_body (client, bytes, until_ms);
}
