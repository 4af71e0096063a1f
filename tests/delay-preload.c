/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Preloaded into a test script and all that it starts, it holds processes and
 * threads up, seldom and for long: as a busy machine does, which is where a
 * test fails that looks too early, and where two threads meet that never do.
 *
 *     ZMEM_DELAYS=delay-preload.so tests/test-abuse.sh
 *
 * (tests/functions.sh; `make check-delays` runs all of them.)  Held up are
 * those that have just begun, a process before its first redirection above
 * all, and calls that others wait for to have an effect: a socket that is
 * there, a file with its name.  A lock or a request is so seldom that what
 * makes a million of them is not slowed down.
 *
 * There is no seed: two runs are as different as two runs on a busy machine.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fault-calls.h"

/* A call that is held up, and how: so many of a thousand, for so long at most,
 * in milliseconds.
 */
struct delay {
  unsigned per_mille, milliseconds;
};

static const struct delay process_begins = { 60, 500 };
static const struct delay thread_begins = { 100, 300 };
static const struct delay socket_appears = { 100, 300 };
static const struct delay file_appears = { 100, 50 };
static const struct delay talk_begins = { 30, 200 };
static const struct delay sometimes = { 10, 8 };
static const struct delay often = { 1, 3 };

/* xorshift64, of a state for each thread; a child has its parent's, so that
 * fork() makes it anew.
 */
static __thread uint64_t state __attribute__ ((tls_model ("initial-exec")));

static uint64_t
next_random (void)
{
  struct timespec now;

  if (state == 0) {
    clock_gettime (CLOCK_MONOTONIC, &now);
    state = ((uint64_t) now.tv_nsec * UINT64_C (2654435761)) ^
            ((uint64_t) getpid () << 32) ^ (uintptr_t) &state;
  }
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static void
hold_up (const struct delay *delay)
{
  const int saved_errno = errno;

  if (next_random () % 1000 < delay->per_mille) {
    const uint64_t most = delay->milliseconds * UINT64_C (1000000);
    const struct timespec pause = { .tv_nsec = (long) (next_random () % most) };

    nanosleep (&pause, NULL);
  }
  errno = saved_errno;
}

/* Before the call, since somebody may be done too late, and after it, since
 * somebody may have seen what it did too early.
 */
#define DELAYED(delay, type, function, parameters, arguments)                  \
  EXPORTED type function parameters                                            \
  {                                                                            \
    type result;                                                               \
                                                                               \
    hold_up (&(delay));                                                        \
    result = NEXT (function) arguments;                                        \
    hold_up (&(delay));                                                        \
    return result;                                                             \
  }

/*--- Processes and threads. ---*/

EXPORTED pid_t
fork (void)
{
  const pid_t pid = NEXT (fork) ();

  if (pid == 0)
    state = 0;
  hold_up (&process_begins);
  return pid;
}

EXPORTED int
execve (const char *path, char *const argv[], char *const environment[])
{
  hold_up (&process_begins);
  return NEXT (execve) (path, argv, environment);
}

struct beginning {
  void *(*run) (void *);
  void *opaque;
};

static void *
begin (void *opaque)
{
  const struct beginning beginning = *(struct beginning *) opaque;

  free (opaque);
  hold_up (&thread_begins);
  return beginning.run (beginning.opaque);
}

EXPORTED int
pthread_create (pthread_t *thread, const pthread_attr_t *attributes,
                void *(*run) (void *), void *opaque)
{
  struct beginning *beginning = malloc (sizeof *beginning);
  int r;

  if (beginning == NULL)
    return EAGAIN;
  *beginning = (struct beginning) { run, opaque };
  hold_up (&thread_begins);
  r = NEXT (pthread_create) (thread, attributes, begin, beginning);
  if (r != 0)
    free (beginning);
  hold_up (&thread_begins);
  return r;
}

/*--- Sockets. ---*/

DELAYED (socket_appears, int, bind,
         (int sock, const struct sockaddr *address, socklen_t bytes),
         (sock, address, bytes))
DELAYED (socket_appears, int, listen, (int sock, int backlog), (sock, backlog))
DELAYED (talk_begins, int, accept,
         (int sock, struct sockaddr *address, socklen_t *bytes),
         (sock, address, bytes))
DELAYED (talk_begins, int, accept4,
         (int sock, struct sockaddr *address, socklen_t *bytes, int flags),
         (sock, address, bytes, flags))
DELAYED (talk_begins, int, connect,
         (int sock, const struct sockaddr *address, socklen_t bytes),
         (sock, address, bytes))
DELAYED (talk_begins, int, shutdown, (int sock, int how), (sock, how))
DELAYED (often, ssize_t, recv, (int sock, void *buf, size_t bytes, int flags),
         (sock, buf, bytes, flags))
DELAYED (often, ssize_t, send,
         (int sock, const void *buf, size_t bytes, int flags),
         (sock, buf, bytes, flags))
DELAYED (sometimes, int, poll,
         (struct pollfd * fds, nfds_t nr_fds, int milliseconds),
         (fds, nr_fds, milliseconds))

/*--- Files. ---*/

static int
open_late (int (*next) (const char *, int, ...), const char *path, int flags,
           mode_t mode)
{
  const struct delay *delay = flags & O_CREAT ? &file_appears : &often;
  int fd;

  hold_up (delay);
  fd = next (path, flags, mode);
  hold_up (delay);
  return fd;
}

/* Of a file that is not made the mode is not given, and not looked at. */
#define OPEN_LATE(function)                                                    \
  EXPORTED int function (const char *path, int flags, ...)                     \
  {                                                                            \
    mode_t mode = 0;                                                           \
    va_list args;                                                              \
                                                                               \
    if (flags & (O_CREAT | O_TMPFILE)) {                                       \
      va_start (args, flags);                                                  \
      mode = va_arg (args, mode_t);                                            \
      va_end (args);                                                           \
    }                                                                          \
    return open_late (NEXT (function), path, flags, mode);                     \
  }

OPEN_LATE (open)
OPEN_LATE (open64)
DELAYED (file_appears, int, rename, (const char *from, const char *to),
         (from, to))
DELAYED (file_appears, int, unlink, (const char *path), (path))
DELAYED (often, int, close, (int fd), (fd))

/*--- Memory and locks. ---*/

DELAYED (sometimes, int, madvise, (void *start, size_t bytes, int advice),
         (start, bytes, advice))
DELAYED (often, int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
DELAYED (often, int, pthread_mutex_unlock, (pthread_mutex_t * mutex), (mutex))
DELAYED (often, int, pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
DELAYED (often, int, pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
DELAYED (often, int, pthread_rwlock_unlock, (pthread_rwlock_t * lock), (lock))
