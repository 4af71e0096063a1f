/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A Unix socket outlives its server when that is killed, and then stands in
 * the way of the next.  Whether a server is behind it, connecting tells:
 *
 *     connected, or its queue is full      a live server: leave it alone
 *     refused                              nobody listens: replace it
 *
 * Hence a socket here is never bound without listening, but for an instant;
 * two servers that start at once might each take the other's for a dead one
 * in that instant, so looking, removing, binding and listening are done
 * under a lock on the directory.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control-bind.h"
#include "reject.h"

#define BACKLOG 16
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS (10 * 1000 * 1000)

/* Lock the directory that `path` lies in; the descriptor is the lock.  -1:
 * without.  Anybody who can read the directory can hold its lock, so it is
 * not waited for longer than a second: then two servers that start in one
 * instant are less likely than a lock that never goes away.
 */
static int
lock_directory (const char *path)
{
  static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
  const char *slash = strrchr (path, '/');
  char *directory = strndup (path, (size_t) (slash - path) + 1);
  unsigned i;
  int fd;

  if (directory == NULL)
    return -1;
  fd = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free (directory);
  if (fd == -1)
    return -1;
  for (i = 0; i < LOCK_TRIES; ++i) {
    if (flock (fd, LOCK_EX | LOCK_NB) == 0)
      return fd;
    nanosleep (&pause, NULL);
  }
  close (fd);
  return -1;
}

/* 0: nobody listens there, and the file may go. */
static int
check_dead (const struct sockaddr_un *addr, char *error, size_t error_bytes)
{
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                         0);
  int r;

  if (fd == -1)
    return reject (error, error_bytes, -errno, "%s: socket: %m",
                   addr->sun_path);
  r = connect (fd, (const struct sockaddr *) addr, sizeof *addr) == 0
    ? 0 : errno;
  close (fd);

  switch (r) {
  case ECONNREFUSED:
    return 0;
  case 0:
  case EAGAIN:
    return reject (error, error_bytes, -EADDRINUSE,
                   "%s: another server listens on this socket: end it first,"
                   " or choose another path", addr->sun_path);
  default:
    return reject (error, error_bytes, -r,
                   "%s: cannot tell whether a server listens on this socket"
                   " (%s): choose another path", addr->sun_path,
                   strerror (r));
  }
}

/* See that nothing stands at the path; remove the socket of a dead server.
 */
static int
clear_path (const struct sockaddr_un *addr, char *error, size_t error_bytes)
{
  struct stat st;
  int r;

  if (lstat (addr->sun_path, &st) == -1)
    return errno == ENOENT ? 0
      : reject (error, error_bytes, -errno, "%s: %m", addr->sun_path);
  if (!S_ISSOCK (st.st_mode))
    return reject (error, error_bytes, -EEXIST,
                   "%s: there is %s already: choose another path",
                   addr->sun_path,
                   S_ISLNK (st.st_mode) ? "a symbolic link"
                   : S_ISDIR (st.st_mode) ? "a directory" : "a file");

  r = check_dead (addr, error, error_bytes);
  if (r < 0)
    return r;
  if (unlink (addr->sun_path) == -1 && errno != ENOENT)
    return reject (error, error_bytes, -errno,
                   "%s: the socket of a dead server cannot be removed: %m",
                   addr->sun_path);
  return 0;
}

/* Bind `fd` and listen, with the directory locked. */
static int
bind_socket (int fd, const struct sockaddr_un *addr,
             struct control_socket *ret, char *error, size_t error_bytes)
{
  struct stat st;
  int r;

  r = clear_path (addr, error, error_bytes);
  if (r < 0)
    return r;

  /* The file gets the mode that its descriptor has: never a wider one. */
  if (fchmod (fd, S_IRUSR | S_IWUSR) == -1)
    return reject (error, error_bytes, -errno, "%s: fchmod: %m",
                   addr->sun_path);
  if (bind (fd, (const struct sockaddr *) addr, sizeof *addr) == -1)
    return reject (error, error_bytes, -errno, errno == ENOENT
                   ? "%s: the directory does not exist: create it first"
                   : "%s: the control socket cannot be made: %m",
                   addr->sun_path);
  if (listen (fd, BACKLOG) == -1 || lstat (addr->sun_path, &st) == -1) {
    r = reject (error, error_bytes, -errno, "%s: listen: %m",
                addr->sun_path);
    unlink (addr->sun_path);
    return r;
  }
  ret->device = st.st_dev;
  ret->inode = st.st_ino;
  return 0;
}

int
control_socket_create (const char *path, struct control_socket *ret,
                       char *error, size_t error_bytes)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int fd, lock_fd, r;
  char *copy;

  if (path[0] != '/' || strlen (path) >= sizeof addr.sun_path)
    return reject (error, error_bytes, -EINVAL,
                   "%s: the path of a control socket begins with / and has"
                   " %zu bytes at most", path, sizeof addr.sun_path - 1);
  strcpy (addr.sun_path, path);

  copy = strdup (path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (copy == NULL || fd == -1) {
    r = reject (error, error_bytes, -errno, "%s: %m", path);
    free (copy);
    if (fd != -1)
      close (fd);
    return r;
  }

  lock_fd = lock_directory (path);
  r = bind_socket (fd, &addr, ret, error, error_bytes);
  if (lock_fd != -1)
    close (lock_fd);
  if (r < 0) {
    close (fd);
    free (copy);
    return r;
  }
  ret->fd = fd;
  ret->path = copy;
  return 0;
}

void
control_socket_remove (struct control_socket *socket)
{
  struct stat st;

  if (socket->fd == -1)
    return;

  /* Somebody may have put another socket there.  Between the look and the
   * removal nobody of ours can: a live server's socket is left alone.
   */
  if (lstat (socket->path, &st) == 0 && st.st_dev == socket->device
      && st.st_ino == socket->inode)
    unlink (socket->path);

  close (socket->fd);
  free (socket->path);
  socket->fd = -1;
  socket->path = NULL;
}
