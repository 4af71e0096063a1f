/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing a file as a whole.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "save.h"

/* 0 or -errno. */
static int
write_all (int fd, const char *data, size_t bytes)
{
  while (bytes > 0) {
    const ssize_t r = write (fd, data, bytes);

    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      return -errno;
    data += r;
    bytes -= (size_t) r;
  }
  return 0;
}

/* Write and close. */
static int
fill (int fd, const char *data, size_t bytes)
{
  const int r = write_all (fd, data, bytes);

  if (close (fd) == -1 && r == 0)
    return -errno;
  return r;
}

/* mkstemp's files are for nobody else; this one is like any other. */
static int
give_usual_mode (int fd)
{
  const mode_t mask = umask (0);

  umask (mask);
  return fchmod (fd, 0666 & ~mask) == -1 ? -errno : 0;
}

static int
replace (const char *path, const char *data, size_t bytes)
{
  char temporary[PATH_MAX];
  int fd, r;

  if (snprintf (temporary, sizeof temporary, "%s.XXXXXX", path) >=
      (int) sizeof temporary)
    return -ENAMETOOLONG;
  fd = mkostemp (temporary, O_CLOEXEC);
  if (fd == -1)
    return -errno;

  r = give_usual_mode (fd);
  if (r == 0)
    r = fill (fd, data, bytes);
  else
    close (fd);
  if (r == 0 && rename (temporary, path) == -1)
    r = -errno;
  if (r < 0)
    unlink (temporary);
  return r;
}

int
save_file (const char *path, const char *data, size_t bytes)
{
  char *target;
  struct stat st;
  int fd, r;

  if (stat (path, &st) == -1)
    return errno == ENOENT ? replace (path, data, bytes) : -errno;
  if (!S_ISREG (st.st_mode)) {
    fd = open (path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    return fd == -1 ? -errno : fill (fd, data, bytes);
  }
  /* A link stays one. */
  target = realpath (path, NULL);
  if (target == NULL)
    return -errno;
  r = replace (target, data, bytes);
  free (target);
  return r;
}
