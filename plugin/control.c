/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The control socket's thread: a poll loop over the listening socket, an
 * eventfd that ends it, and at most MAX_CLIENTS clients.  No socket in it
 * blocks.  plugin/control-bind.c makes the socket.
 *
 * A client has at most one answer pending.  Until that has left, its next
 * line is not run and nothing more is read from it, so that what a client
 * can make the server keep is one line and one answer (the longest: of
 * "classes json", some 80 KiB; of "map", 1/65536 of the arena), however much
 * it sends and however little it reads:
 *
 *     answer != NULL             wait to send
 *     waiting                    `line` begins with a command whose answer
 *                                is not there yet: ask again at ask_at_ms
 *     neither                    no whole line in `line`: wait to receive
 *
 * A command that takes long does not hold up the thread: it is asked again
 * (-EAGAIN of command_run), and others are served meanwhile.  Of a client
 * that waits only one thing is noticed, that it hangs up.
 *
 * One that takes nothing of its answer for STALLED_MS is dropped.  One that
 * sends nothing may stay; when all places are taken, a newcomer gets that of
 * whoever has been silent for longest, so idle connections never lock an
 * administrator out.  To wait for an answer is not to be silent.
 *
 * Dropped: threads that serve a client each (a stack for whoever connects),
 * and a queue of answers with a bound (the kernel's socket buffer is one).
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "commands.h"
#include "control-bind.h"
#include "control.h"
#include "service-thread.h"
#include "store.h"

#define MAX_CLIENTS 16
#define STALLED_MS (30 * 1000)
/* After an accept that failed for want of descriptors or memory. */
#define ACCEPT_PAUSE_MS 1000
/* After a poll that failed. */
#define POLL_PAUSE_MS 100
#define ASK_AGAIN_MS 20

struct client {
  int fd;       /* -1: this place is free */
  bool ending;  /* read no more; close after the answer */
  bool waiting; /* for the answer to the first of `line` */
  int64_t ask_at_ms;
  struct command_wait wait;
  size_t line_bytes;
  char line[COMMAND_MAX_BYTES + 2]; /* its end is CR LF at the most */
  char *answer;                     /* owned; NULL: none is pending */
  size_t answer_bytes, answer_sent;
  int64_t progress_ms; /* when it last sent or took something */
};

static struct {
  struct control_socket socket; /* .fd -1: not bound */
  int stop_fd;                  /* -1: no thread */
  pthread_t thread;

  /* From here on the thread's own. */
  struct store *store;
  int64_t accept_from_ms;
  struct client clients[MAX_CLIENTS];
} control = { .socket = { .fd = -1 }, .stop_fd = -1 };

static int64_t
now_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
drop_client (struct client *client)
{
  close (client->fd);
  free (client->answer);
  client->fd = -1;
  client->answer = NULL;
}

/* A place for a newcomer: a free one, or that of the most silent. */
static struct client *
find_place (void)
{
  struct client *place = &control.clients[0];
  unsigned i;

  for (i = 0; i < MAX_CLIENTS; ++i) {
    struct client *client = &control.clients[i];
    if (client->fd == -1)
      return client;
    if (client->progress_ms < place->progress_ms)
      place = client;
  }
  nbdkit_debug ("control: all %d places are taken: dropping the client that"
                " has been silent for longest",
                MAX_CLIENTS);
  drop_client (place);
  return place;
}

/* Only this server's user and root may command it.  The socket's mode says
 * so already; this holds if somebody changes the mode.
 */
static bool
may_command (int fd)
{
  struct ucred peer;
  socklen_t bytes = sizeof peer;

  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == -1)
    return false;
  return peer.uid == geteuid () || peer.uid == 0;
}

static void
accept_client (void)
{
  static const char refusal[] =
    "error only the server's user and root may use this socket\n";
  struct client *client;
  const int fd =
    accept4 (control.socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

  if (fd == -1) {
    /* The connection stays in the queue, and poll would say so for ever. */
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
        errno == ENOBUFS) {
      nbdkit_debug ("control: accept: %m");
      control.accept_from_ms = now_ms () + ACCEPT_PAUSE_MS;
    }
    return;
  }
  if (!may_command (fd)) {
    /* A courtesy: what becomes of it does not matter. */
    (void) !send (fd, refusal, sizeof refusal - 1, MSG_NOSIGNAL);
    close (fd);
    return;
  }

  client = find_place ();
  client->fd = fd;
  client->ending = client->waiting = false;
  client->wait = (struct command_wait) { 0 };
  client->line_bytes = 0;
  client->progress_ms = now_ms ();
}

/* Make the answer: a head, then `body` (freed here).  False: no memory. */
static bool
set_answer (struct client *client, const char *head, char *body,
            size_t body_bytes)
{
  const size_t head_bytes = strlen (head);

  client->answer = malloc (head_bytes + body_bytes);
  if (client->answer != NULL) {
    memcpy (client->answer, head, head_bytes);
    if (body_bytes > 0)
      memcpy (client->answer + head_bytes, body, body_bytes);
    client->answer_bytes = head_bytes + body_bytes;
    client->answer_sent = 0;
    client->progress_ms = now_ms ();
  }
  free (body);
  return client->answer != NULL;
}

static bool
answer_error (struct client *client, const char *sentence)
{
  char head[COMMAND_ERROR_BYTES + sizeof "error \n"];

  snprintf (head, sizeof head, "error %s\n", sentence);
  return set_answer (client, head, NULL, 0);
}

/* Run a line that was received and make its answer, or find that there is
 * none yet; none at all for a blank one.  False: no memory.
 */
static bool
answer_line (struct client *client, const char *line)
{
  char error[COMMAND_ERROR_BYTES] = "", head[sizeof "ok \n" + 20];
  char *body = NULL;
  size_t body_bytes = 0;
  bool failed;
  FILE *out;
  int r;

  if (line[strspn (line, " \t")] == '\0')
    return true;

  out = open_memstream (&body, &body_bytes);
  if (out == NULL)
    return false;
  r =
    command_run (control.store, line, &client->wait, out, error, sizeof error);
  failed = ferror (out);
  /* No memory to close it with: a body of NULL, and no error (glibc). */
  if (fclose (out) == EOF || failed || body == NULL) {
    free (body);
    return false;
  }
  if (r == -EAGAIN) {
    free (body);
    client->waiting = true;
    client->ask_at_ms = now_ms () + ASK_AGAIN_MS;
    return true;
  }
  if (r < 0) {
    free (body);
    return answer_error (client, error);
  }
  snprintf (head, sizeof head, "ok %zu\n", body_bytes);
  return set_answer (client, head, body, body_bytes);
}

static bool
answer_long_line (struct client *client)
{
  char sentence[COMMAND_ERROR_BYTES];

  client->ending = true;
  client->line_bytes = 0;
  snprintf (sentence, sizeof sentence, "a command has %d bytes at most",
            COMMAND_MAX_BYTES);
  return answer_error (client, sentence);
}

/* Answer the first whole line of what was received, and take it off, but
 * for one that must be asked again.  `bytes` includes its end.
 */
static bool
answer_first_line (struct client *client, size_t bytes)
{
  char line[sizeof client->line];
  size_t length = bytes - 1;
  bool good;

  if (length > 0 && client->line[length - 1] == '\r')
    --length;
  if (length > COMMAND_MAX_BYTES)
    return answer_long_line (client);
  memcpy (line, client->line, length);
  line[length] = '\0';

  if (strlen (line) < length)
    good = answer_error (client, "a command has no NUL byte in it");
  else
    good = answer_line (client, line);
  if (!client->waiting) {
    client->line_bytes -= bytes;
    memmove (client->line, client->line + bytes, client->line_bytes);
  }
  return good;
}

/* Run what was received until there is an answer to be sent or waited for,
 * or no whole line left.
 */
static bool
answer_lines (struct client *client)
{
  while (client->answer == NULL && !client->waiting) {
    const char *end = memchr (client->line, '\n', client->line_bytes);

    if (end == NULL) {
      if (client->line_bytes == sizeof client->line)
        return answer_long_line (client);
      return true;
    }
    if (!answer_first_line (client, (size_t) (end - client->line) + 1))
      return false;
  }
  return true;
}

/* Is the answer there now?  False, here and below: the client is to be
 * dropped.
 */
static bool
ask_again (struct client *client)
{
  const int64_t now = now_ms ();

  if (now < client->ask_at_ms)
    return true;
  client->progress_ms = now;
  client->waiting = false;
  return answer_lines (client);
}

static bool
receive (struct client *client)
{
  const ssize_t r = recv (client->fd, client->line + client->line_bytes,
                          sizeof client->line - client->line_bytes, 0);

  if (r == -1)
    return errno == EAGAIN || errno == EINTR;
  client->progress_ms = now_ms ();

  if (r == 0) {
    client->ending = true;
    if (client->line_bytes == 0)
      return false;
    /* Half a command ("limit 10" of "limit 10G") is not to be run. */
    return answer_error (client, "the last line has no end");
  }
  client->line_bytes += (size_t) r;
  return answer_lines (client);
}

/* Send answers until the client's buffer is full or there is none. */
static bool
send_answers (struct client *client)
{
  while (client->answer != NULL) {
    const ssize_t r =
      send (client->fd, client->answer + client->answer_sent,
            client->answer_bytes - client->answer_sent, MSG_NOSIGNAL);
    if (r == -1)
      return errno == EAGAIN || errno == EINTR;
    client->progress_ms = now_ms ();
    client->answer_sent += (size_t) r;
    if (client->answer_sent < client->answer_bytes)
      continue;

    free (client->answer);
    client->answer = NULL;
    if (client->ending)
      return false;
    if (!answer_lines (client))
      return false;
  }
  return true;
}

static void
serve_client (struct client *client, short revents)
{
  bool keep;

  if (client->answer == NULL && !client->waiting && (revents & POLLIN))
    keep = receive (client);
  else
    keep = !(revents & (POLLHUP | POLLERR | POLLNVAL));
  if (keep && client->waiting)
    keep = ask_again (client);
  if (keep)
    keep = send_answers (client);
  if (keep && client->answer != NULL &&
      now_ms () - client->progress_ms >= STALLED_MS) {
    nbdkit_debug ("control: dropping a client that does not read");
    keep = false;
  }
  if (!keep)
    drop_client (client);
}

/* How long poll may sleep: until a client stalls, one that waits is to ask
 * again, or accept is tried again; -1: as long as it likes.
 */
static int
poll_timeout_ms (void)
{
  const int64_t now = now_ms ();
  int64_t until = INT64_MAX;
  unsigned i;

  if (control.accept_from_ms > now)
    until = control.accept_from_ms;
  for (i = 0; i < MAX_CLIENTS; ++i) {
    const struct client *client = &control.clients[i];
    if (client->fd != -1 && client->answer != NULL &&
        client->progress_ms + STALLED_MS < until)
      until = client->progress_ms + STALLED_MS;
    if (client->fd != -1 && client->waiting && client->ask_at_ms < until)
      until = client->ask_at_ms;
  }
  if (until == INT64_MAX)
    return -1;
  return until <= now ? 0 : (int) (until - now);
}

/* In `fds`: what ends us, the listener, then a slot a client. */
#define NR_FDS (2 + MAX_CLIENTS)

static void
fill_poll_fds (struct pollfd fds[NR_FDS])
{
  unsigned i;

  fds[0] = (struct pollfd) { .fd = control.stop_fd, .events = POLLIN };
  fds[1] = (struct pollfd) {
    .fd = control.accept_from_ms > now_ms () ? -1 : control.socket.fd,
    .events = POLLIN,
  };
  for (i = 0; i < MAX_CLIENTS; ++i) {
    const struct client *client = &control.clients[i];
    fds[2 + i] = (struct pollfd) {
      .fd = client->fd,
      .events = client->waiting          ? 0
                : client->answer == NULL ? POLLIN
                                         : POLLOUT,
    };
  }
}

/* poll has failed, for want of memory as a rule, and nothing else tells what
 * there is to do: wait a moment, for one that works again.  False: the thread
 * is to end.
 */
static bool
wait_for_poll (void)
{
  static const struct timespec pause = {
    .tv_nsec = POLL_PAUSE_MS * 1000 * 1000,
  };
  eventfd_t stop;

  nbdkit_debug ("control: poll: %m");
  nanosleep (&pause, NULL);
  return eventfd_read (control.stop_fd, &stop) == -1;
}

static void *
run_control (void *opaque)
{
  struct pollfd fds[NR_FDS];
  unsigned i;

  (void) opaque;
  for (;;) {
    fill_poll_fds (fds);
    if (poll (fds, NR_FDS, poll_timeout_ms ()) == -1) {
      if (errno == EINTR || wait_for_poll ())
        continue;
      break;
    }
    if (fds[0].revents != 0)
      break;
    /* Clients first: accepting may give one's place to another. */
    for (i = 0; i < MAX_CLIENTS; ++i)
      if (control.clients[i].fd != -1)
        serve_client (&control.clients[i], fds[2 + i].revents);
    if (fds[1].revents != 0)
      accept_client ();
  }

  for (i = 0; i < MAX_CLIENTS; ++i)
    if (control.clients[i].fd != -1)
      drop_client (&control.clients[i]);
  return NULL;
}

int
control_bind (const char *path, char *error, size_t error_bytes)
{
  return control_socket_create (path, &control.socket, error, error_bytes);
}

int
control_start (struct store *store)
{
  unsigned i;
  int r;

  if (control.socket.fd == -1)
    return 0;

  control.stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (control.stop_fd == -1)
    return -errno;

  control.store = store;
  control.accept_from_ms = 0;
  for (i = 0; i < MAX_CLIENTS; ++i)
    control.clients[i].fd = -1;

  r = service_thread_start (&control.thread, "zmem-control", run_control, NULL);
  if (r < 0) {
    close (control.stop_fd);
    control.stop_fd = -1;
  }
  return r;
}

void
control_stop (void)
{
  if (control.stop_fd != -1) {
    /* Cannot fail: the counter is far from its end. */
    eventfd_write (control.stop_fd, 1);
    pthread_join (control.thread, NULL);
    close (control.stop_fd);
    control.stop_fd = -1;
  }
  control_socket_remove (&control.socket);
}
