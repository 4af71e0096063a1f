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
 *
 * Looking and removing are done in the directory as it was opened, so that
 * who may change a part of the path cannot have something removed elsewhere.
 * Only binding takes the path (that is what ss and lsof then show), and it
 * follows no link at its end.  Where everybody may write, unless the sticky
 * bit protects what is there, the socket could be replaced by another: such
 * a directory is refused.
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

/* Where `path` has its last part. */
static const char *
last_part (const char *path)
{
  return strrchr (path, '/') + 1;
}

/* The directory that `path` lies in: a descriptor, or -errno. */
static int
open_directory (const char *path)
{
  char *directory = strndup (path, (size_t) (last_part (path) - path));
  int fd;

  if (directory == NULL)
    return -errno;
  fd = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free (directory);
  return fd == -1 ? -errno : fd;
}

/* Lock it, until it is closed, or go without.  Anybody who can read the
 * directory can hold its lock, so it is not waited for longer than a second:
 * then two servers that start in one instant are less likely than a lock that
 * never goes away.
 */
static void
lock_directory (int directory_fd)
{
  static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
  unsigned i;

  for (i = 0; i < LOCK_TRIES; ++i) {
    if (flock (directory_fd, LOCK_EX | LOCK_NB) == 0)
      return;
    nanosleep (&pause, NULL);
  }
}

/* May anybody put another socket in place of ours? */
static int
check_directory (int directory_fd, const char *path, char *error,
                 size_t error_bytes)
{
  struct stat st;

  if (fstat (directory_fd, &st) == -1)
    return reject (error, error_bytes, -errno, "%s: %m", path);
  if ((st.st_mode & (S_IWOTH | S_ISVTX)) == S_IWOTH)
    return reject (error, error_bytes, -EPERM,
                   "%s: everybody may write to its directory, and could put"
                   " another socket there: choose another path, or take that"
                   " right away (chmod o-w)",
                   path);
  return 0;
}

/* 0: nobody listens there, and the file may go. */
static int
check_dead (const struct sockaddr_un *addr, char *error, size_t error_bytes)
{
  const int fd =
    socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int r;

  if (fd == -1)
    return reject (error, error_bytes, -errno, "%s: socket: %m",
                   addr->sun_path);
  r =
    connect (fd, (const struct sockaddr *) addr, sizeof *addr) == 0 ? 0 : errno;
  close (fd);

  switch (r) {
  case ECONNREFUSED:
    return 0;
  case 0:
  case EAGAIN:
    return reject (error, error_bytes, -EADDRINUSE,
                   "%s: another server listens on this socket: end it first,"
                   " or choose another path",
                   addr->sun_path);
  default:
    return reject (error, error_bytes, -r,
                   "%s: cannot tell whether a server listens on this socket"
                   " (%s): choose another path",
                   addr->sun_path, strerror (r));
  }
}

/* See that nothing stands at the path; remove the socket of a dead server.
 */
static int
clear_path (int directory_fd, const struct sockaddr_un *addr, char *error,
            size_t error_bytes)
{
  const char *name = last_part (addr->sun_path);
  struct stat st;
  int r;

  if (fstatat (directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == -1)
    return errno == ENOENT
             ? 0
             : reject (error, error_bytes, -errno, "%s: %m", addr->sun_path);
  if (!S_ISSOCK (st.st_mode))
    return reject (error, error_bytes, -EEXIST,
                   "%s: there is %s already: choose another path",
                   addr->sun_path,
                   S_ISLNK (st.st_mode)   ? "a symbolic link"
                   : S_ISDIR (st.st_mode) ? "a directory"
                                          : "a file");

  r = check_dead (addr, error, error_bytes);
  if (r < 0)
    return r;
  if (unlinkat (directory_fd, name, 0) == -1 && errno != ENOENT)
    return reject (error, error_bytes, -errno,
                   "%s: the socket of a dead server cannot be removed: %m",
                   addr->sun_path);
  return 0;
}

/* Bind `fd` and listen, with the directory locked. */
static int
bind_in_directory (int fd, int directory_fd, const struct sockaddr_un *addr,
                   struct control_socket *ret, char *error, size_t error_bytes)
{
  const char *name = last_part (addr->sun_path);
  struct stat st;
  int r;

  r = clear_path (directory_fd, addr, error, error_bytes);
  if (r < 0)
    return r;

  /* The file gets the mode that its descriptor has: never a wider one. */
  if (fchmod (fd, S_IRUSR | S_IWUSR) == -1)
    return reject (error, error_bytes, -errno, "%s: fchmod: %m",
                   addr->sun_path);
  if (bind (fd, (const struct sockaddr *) addr, sizeof *addr) == -1)
    return reject (error, error_bytes, -errno,
                   "%s: the control socket cannot be made: %m", addr->sun_path);
  if (listen (fd, BACKLOG) == -1 ||
      fstatat (directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == -1) {
    r = reject (error, error_bytes, -errno, "%s: listen: %m", addr->sun_path);
    unlinkat (directory_fd, name, 0);
    return r;
  }
  ret->device = st.st_dev;
  ret->inode = st.st_ino;
  return 0;
}

static int
bind_socket (int fd, const struct sockaddr_un *addr, struct control_socket *ret,
             char *error, size_t error_bytes)
{
  const int directory_fd = open_directory (addr->sun_path);
  int r;

  if (directory_fd < 0)
    return reject (error, error_bytes, directory_fd,
                   directory_fd == -ENOENT
                     ? "%s: the directory does not exist: create it first"
                     : "%s: its directory cannot be opened: %s",
                   addr->sun_path, strerror (-directory_fd));
  r = check_directory (directory_fd, addr->sun_path, error, error_bytes);
  if (r == 0) {
    lock_directory (directory_fd);
    r = bind_in_directory (fd, directory_fd, addr, ret, error, error_bytes);
  }
  if (r < 0) {
    close (directory_fd);
    return r;
  }
  flock (directory_fd, LOCK_UN);
  ret->directory_fd = directory_fd;
  return 0;
}

int
control_socket_create (const char *path, struct control_socket *ret,
                       char *error, size_t error_bytes)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int fd, r;
  char *copy;

  if (path[0] != '/' || strlen (path) >= sizeof addr.sun_path)
    return reject (error, error_bytes, -EINVAL,
                   "%s: the path of a control socket begins with / and has"
                   " %zu bytes at most",
                   path, sizeof addr.sun_path - 1);
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

  r = bind_socket (fd, &addr, ret, error, error_bytes);
  if (r < 0) {
    close (fd);
    free (copy);
    return r;
  }
  ret->fd = fd;
  ret->path = copy;
  return 0;
}

/* Somebody may have put another socket there.  Between the look and the
 * removal nobody of ours can: a live server's socket is left alone.
 */
static void
remove_ours (const struct control_socket *socket)
{
  const char *name = last_part (socket->path);
  struct stat st;

  if (fstatat (socket->directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
      st.st_dev == socket->device && st.st_ino == socket->inode)
    unlinkat (socket->directory_fd, name, 0);
  close (socket->directory_fd);
}

void
control_socket_remove (struct control_socket *socket)
{
  if (socket->fd == -1)
    return;
  remove_ours (socket);
  close (socket->fd);
  free (socket->path);
  socket->fd = -1;
  socket->path = NULL;
}
