/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The whole plugin, in a real nbdkit, fed with NBD sessions that are not
 * quite right (nbd-session.h).  No coverage guides it.
 *
 *     fuzz-nbd [--seconds=N] [--seed=N] [--found=PREFIX]
 *     fuzz-nbd --repeat=FILE        a stream that once found something
 *
 * Each session goes to a server of its own, nbdkit -s, through a socket that
 * is its standard input and output, and the server must end: by itself, soon
 * after the stream has, and not by a signal.  Every CLEAN_EVERY of them a
 * valid session goes to another server, and each byte of the answer must be
 * right.
 *
 * An assertion of nbdkit itself that fails (its sources have other names), or
 * a server that does not end after it has unloaded the plugin, is counted and
 * is none of ours.  With $FUZZ_PRELOAD, a sanitizer's runtime,
 * the plugin may be built with that sanitizer.
 *
 * Environment: ZMEM_PLUGIN.  Exit status 0; 77: there is no nbdkit; 1: what
 * was found is in PREFIX..., and how to repeat it on standard output.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nbd-session.h"

#define DISK_BYTES (16 * MIB + 3072)
#define CLEAN_EVERY 20
#define HANG_MS (60 * 1000)
#define AFTER_UNLOAD_MS 500
#define LOG_BYTES 65536

/* How a server has ended. */
enum verdict { WELL, NOT_OURS, HANGS, DIES };

static const char *found_prefix = "nbd-";
static struct counts {
  unsigned nr_changed, nr_clean, nr_not_ours;
  uint64_t sent_bytes, received_bytes;
} counts;

static void __attribute__ ((noreturn)) die (const char *what)
{
  perror (what);
  exit (EXIT_FAILURE);
}

static int64_t
now_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*--- A server. ---*/

struct server {
  pid_t pid;
  int fd;     /* our end of its socket */
  int log_fd; /* what it writes to standard error */
};

/* With one thread all is in order; with more there is little memory. */
static void
run_nbdkit (bool one_thread)
{
  const char *plugin = getenv ("ZMEM_PLUGIN");
  const char *preload = getenv ("FUZZ_PRELOAD");
  char size[40];
  char *args[] = { (char *) "nbdkit",
                   (char *) "-s",
                   (char *) "-f",
                   (char *) (one_thread ? "--threads=1" : "--threads=8"),
                   (char *) plugin,
                   size,
                   (char *) (one_thread ? "limit=64M" : "limit=5M"),
                   (char *) "stats-export=stats",
                   NULL };

  snprintf (size, sizeof size, "size=%" PRIu64, (uint64_t) DISK_BYTES);
  if (preload != NULL && *preload != '\0') {
    setenv ("LD_PRELOAD", preload, 1);
    setenv ("ASAN_OPTIONS", "abort_on_error=1:detect_leaks=0", 1);
    setenv ("UBSAN_OPTIONS", "abort_on_error=1:print_stacktrace=1", 1);
  }
  execvp (args[0], args);
  _exit (127);
}

static struct server
start_server (bool one_thread)
{
  struct server server;
  int fds[2];

  server.log_fd = memfd_create ("log", MFD_CLOEXEC);
  if (server.log_fd == -1 ||
      socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
    die ("fuzz-nbd");
  server.pid = fork ();
  if (server.pid == -1)
    die ("fuzz-nbd: fork");
  if (server.pid == 0) {
    dup2 (fds[1], STDIN_FILENO);
    dup2 (fds[1], STDOUT_FILENO);
    dup2 (server.log_fd, STDERR_FILENO);
    run_nbdkit (one_thread);
  }
  close (fds[1]);
  fcntl (fds[0], F_SETFL, O_NONBLOCK);
  server.fd = fds[0];
  return server;
}

/* Send what is left of the stream, as far as it goes; at its end say so. */
static void
send_some (const struct server *server, const struct stream *stream,
           size_t *sent)
{
  const ssize_t n =
    send (server->fd, stream->bytes + *sent, stream->nr - *sent, MSG_NOSIGNAL);

  if (n > 0)
    *sent += (size_t) n;
  else if (n == -1 && errno != EAGAIN && errno != EINTR)
    *sent = stream->nr; /* it has hung up */
  if (*sent == stream->nr)
    shutdown (server->fd, SHUT_WR);
}

/* Send the stream and collect what comes back, until the server hangs up.
 * False: it does not.
 */
static bool
converse (const struct server *server, const struct stream *stream,
          struct stream *replies)
{
  static uint8_t buf[1 << 18];
  const int64_t until_ms = now_ms () + HANG_MS;
  size_t sent = 0;

  if (stream->nr == 0)
    shutdown (server->fd, SHUT_WR);
  for (;;) {
    struct pollfd poll_fd = { .fd = server->fd,
                              .events =
                                POLLIN | (sent < stream->nr ? POLLOUT : 0) };
    ssize_t n;

    if (poll (&poll_fd, 1, 1000) == -1 && errno != EINTR)
      die ("fuzz-nbd: poll");
    if (now_ms () > until_ms)
      return false;
    if (sent < stream->nr && poll_fd.revents & (POLLOUT | POLLERR))
      send_some (server, stream, &sent);
    n = recv (server->fd, buf, sizeof buf, 0);
    if (n > 0) {
      counts.received_bytes += (uint64_t) n;
      if (replies != NULL)
        stream_add (replies, buf, (size_t) n);
    }
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
      return true;
  }
}

/*--- The oracle. ---*/

static void
read_log (const struct server *server, char log[LOG_BYTES])
{
  const ssize_t n = pread (server->log_fd, log, LOG_BYTES - 1, 0);

  log[n < 0 ? 0 : n] = '\0';
}

/* nbdkit's own sources are said without a folder ("connections.c:123"), ours
 * with one, as they were given to the compiler.
 */
static bool
is_assertion_of_nbdkit (const char *log)
{
  const char *line = strstr (log, "Assertion `");

  if (line == NULL || strstr (log, "Sanitizer") != NULL)
    return false;
  while (line > log && line[-1] != '\n')
    --line;
  line += strcspn (line, " ");
  line += strspn (line, " ");
  return strcspn (line, "/") > strcspn (line, ":");
}

/* Has the server unloaded the plugin?  Then what it still does is its own:
 * with ASan's runtime in it, libp11-kit's destructor waits for ever for a lock
 * of the C library once an error was printed, whichever the plugin.
 */
static bool
has_unloaded (const struct server *server)
{
  char path[40], line[4096];
  bool loaded = false;
  FILE *in;

  snprintf (path, sizeof path, "/proc/%d/maps", (int) server->pid);
  in = fopen (path, "r");
  if (in == NULL)
    return false;
  while (!loaded && fgets (line, sizeof line, in) != NULL)
    loaded = strstr (line, "nbdkit-zmem-plugin") != NULL;
  fclose (in);
  return !loaded;
}

static enum verdict
await_end (const struct server *server, int *status)
{
  const int64_t since_ms = now_ms ();
  const struct timespec pause = { .tv_nsec = 1000 * 1000 };

  while (waitpid (server->pid, status, WNOHANG) == 0) {
    if (now_ms () > since_ms + AFTER_UNLOAD_MS && has_unloaded (server))
      return NOT_OURS;
    if (now_ms () > since_ms + HANG_MS)
      return HANGS;
    nanosleep (&pause, NULL);
  }
  return WELL;
}

/* To its end; the log says why if that is no good one. */
static enum verdict
end_server (struct server *server, bool converses, char log[LOG_BYTES])
{
  int status = 0;
  enum verdict verdict = converses ? await_end (server, &status) : HANGS;

  if (verdict != WELL) {
    kill (server->pid, SIGKILL);
    waitpid (server->pid, &status, 0);
  }
  read_log (server, log);
  if (verdict == WELL && WIFEXITED (status) && WEXITSTATUS (status) == 127)
    exit (77);
  if (verdict == WELL &&
      (WIFSIGNALED (status) || strstr (log, "runtime error") != NULL ||
       strstr (log, "corrupt") != NULL))
    verdict = is_assertion_of_nbdkit (log) ? NOT_OURS : DIES;
  close (server->fd);
  close (server->log_fd);
  return verdict;
}

static enum verdict
try_stream (const struct stream *stream, bool one_thread, char log[LOG_BYTES])
{
  struct server server = start_server (one_thread);
  const bool converses = converse (&server, stream, NULL);

  counts.sent_bytes += stream->nr;
  return end_server (&server, converses, log);
}

/* Where the answer to a clean session is wrong; SIZE_MAX: nowhere. */
static size_t
find_fault (const struct stream *is, const struct stream *wanted)
{
  const size_t greeting = 18, flags = 8;

  if (is->nr < greeting)
    return is->nr;
  for (size_t i = 0; i < wanted->nr; ++i)
    if (i != flags && i != flags + 1 &&
        (greeting + i >= is->nr || is->bytes[greeting + i] != wanted->bytes[i]))
      return greeting + i;
  return is->nr == greeting + wanted->nr ? SIZE_MAX : greeting + wanted->nr;
}

static enum verdict
try_clean (struct rng *rng, char log[LOG_BYTES])
{
  struct stream stream = { NULL }, wanted = { NULL }, replies = { NULL };
  struct server server = start_server (true);
  enum verdict verdict;
  bool converses;

  session_make_clean (rng, DISK_BYTES, &stream, &wanted);
  converses = converse (&server, &stream, &replies);
  verdict = end_server (&server, converses, log);
  if (verdict <= NOT_OURS && find_fault (&replies, &wanted) != SIZE_MAX) {
    snprintf (log, LOG_BYTES,
              "the answer to a clean session is wrong at byte"
              " %zu of %zu",
              find_fault (&replies, &wanted), replies.nr);
    verdict = DIES;
  }
  stream_free (&stream);
  stream_free (&wanted);
  stream_free (&replies);
  return verdict;
}

/*--- ---*/

static void
keep (const struct stream *stream, uint64_t seed)
{
  char path[4096];
  FILE *out;

  snprintf (path, sizeof path, "%s%" PRIu64, found_prefix, seed);
  out = fopen (path, "w");
  if (out == NULL || fwrite (stream->bytes, 1, stream->nr, out) != stream->nr ||
      fclose (out) == EOF)
    die (path);
}

static int
report (enum verdict verdict, uint64_t seed, const char *log)
{
  printf ("fuzz-nbd: seed %" PRIu64 ": %s\n%s\n", seed,
          verdict == HANGS ? "the server hangs" : "the server fails", log);
  return EXIT_FAILURE;
}

/* Session `seed`, of which the stream alone repeats it. */
static enum verdict
try_session (uint64_t seed, char log[LOG_BYTES])
{
  struct stream stream = { NULL };
  enum verdict verdict;
  struct rng rng;

  rng_init (&rng, seed, 0);
  if (seed % CLEAN_EVERY == 0) {
    ++counts.nr_clean;
    return try_clean (&rng, log);
  }
  session_make (&rng, DISK_BYTES, (unsigned) rng_below (&rng, 6), &stream);
  verdict = try_stream (&stream, rng_once_in (&rng, 4), log);
  ++counts.nr_changed;
  counts.nr_not_ours += verdict == NOT_OURS;
  if (verdict > NOT_OURS)
    keep (&stream, seed);
  stream_free (&stream);
  return verdict;
}

static int
run_for (unsigned seconds, uint64_t seed)
{
  const int64_t until_ms = now_ms () + seconds * (int64_t) 1000;
  static char log[LOG_BYTES];

  printf ("fuzz-nbd: from seed %" PRIu64 "\n", seed);
  do {
    const enum verdict verdict = try_session (seed, log);

    if (verdict > NOT_OURS)
      return report (verdict, seed, log);
    ++seed;
  } while (now_ms () < until_ms);
  printf ("fuzz-nbd: %u sessions changed, %u clean; %" PRIu64
          " bytes sent, %" PRIu64 " received; %u failures of nbdkit's own\n",
          counts.nr_changed, counts.nr_clean, counts.sent_bytes,
          counts.received_bytes, counts.nr_not_ours);
  return EXIT_SUCCESS;
}

static int
repeat (const char *path)
{
  struct stream stream = { NULL };
  FILE *in = fopen (path, "r");
  static char log[LOG_BYTES];
  enum verdict verdict;
  int c;

  if (in == NULL)
    die (path);
  while ((c = getc (in)) != EOF) {
    const uint8_t byte = (uint8_t) c;
    stream_add (&stream, &byte, 1);
  }
  fclose (in);
  verdict = try_stream (&stream, false, log);
  stream_free (&stream);
  printf ("%s", log);
  return verdict > NOT_OURS ? report (verdict, 0, log) : EXIT_SUCCESS;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "seconds", required_argument, NULL, 's' },
    { "seed", required_argument, NULL, 'S' },
    { "found", required_argument, NULL, 'f' },
    { "repeat", required_argument, NULL, 'r' },
    { NULL, 0, NULL, 0 },
  };
  uint64_t seed = (uint64_t) time (NULL) * 1000;
  unsigned seconds = 3;
  int c;

  setvbuf (stdout, NULL, _IOLBF, 0);
  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 's':
      seconds = (unsigned) strtoul (optarg, NULL, 10);
      break;
    case 'S':
      seed = strtoumax (optarg, NULL, 10);
      break;
    case 'f':
      found_prefix = optarg;
      break;
    case 'r':
      return repeat (optarg);
    default:
      return 2;
    }
  if (getenv ("ZMEM_PLUGIN") == NULL) {
    fprintf (stderr, "fuzz-nbd: ZMEM_PLUGIN must be the plugin's path\n");
    return 2;
  }
  return run_for (seconds, seed);
}
