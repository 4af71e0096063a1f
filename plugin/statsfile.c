/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The statistics file and the thread that replaces it.
 *
 * FILE.zmem.tmp is written beside FILE and renamed over it.  It is made with
 * O_EXCL and O_NOFOLLOW, so that nobody else's file, nor what a link leads
 * to, is ever written; one that a killed server left behind, a regular file
 * of this user's, is removed first.  Nothing is synced: the file is about a
 * disk that lies in RAM.
 *
 * The directory is opened once a write, and both names are looked up in what
 * was opened: who may change a part of the path cannot have a file made in
 * one directory and renamed into another.
 *
 * What goes wrong is said when it begins, not every interval.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "reject.h"
#include "service-thread.h"
#include "stats-output.h"
#include "statsfile.h"
#include "store.h"

static struct {
  char *path;                        /* owned, as are these parts of it; */
  char *directory, *name, *tmp_name; /* NULL: no file is wanted */
  unsigned interval_seconds;
  struct store *store;
  bool running;
  pthread_t thread;

  bool failing; /* the thread's own: the last write failed */

  pthread_mutex_t mutex; /* guards stop */
  pthread_cond_t wake;
  bool stop;
} statsfile;

static int
open_directory (void)
{
  const int fd = open (statsfile.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  return fd == -1 ? -errno : fd;
}

static bool
is_ours (int directory_fd, const char *name)
{
  struct stat st;

  return fstatat (directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG (st.st_mode) && st.st_uid == geteuid ();
}

/* A new, empty FILE.zmem.tmp: a descriptor, or -errno. */
static int
create_tmp (int directory_fd)
{
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  const char *name = statsfile.tmp_name;
  int fd = openat (directory_fd, name, flags, 0644);

  if (fd == -1 && errno == EEXIST) {
    if (!is_ours (directory_fd, name))
      return -EEXIST;
    if (unlinkat (directory_fd, name, 0) == 0)
      fd = openat (directory_fd, name, flags, 0644);
  }
  return fd == -1 ? -errno : fd;
}

static int
write_all (int fd, const char *data, size_t bytes)
{
  while (bytes > 0) {
    const ssize_t r = write (fd, data, bytes);
    if (r == -1 && errno != EINTR)
      return -errno;
    if (r > 0) {
      data += r;
      bytes -= (size_t) r;
    }
  }
  return 0;
}

static int
replace_file_in (int directory_fd, const char *data, size_t bytes)
{
  const int fd = create_tmp (directory_fd);
  int r;

  if (fd < 0)
    return fd;
  r = write_all (fd, data, bytes);
  if (close (fd) == -1 && r == 0)
    r = -errno;
  if (r == 0 && renameat (directory_fd, statsfile.tmp_name, directory_fd,
                          statsfile.name) == -1)
    r = -errno;
  if (r < 0)
    unlinkat (directory_fd, statsfile.tmp_name, 0);
  return r;
}

static int
replace_file (const char *data, size_t bytes)
{
  const int directory_fd = open_directory ();
  int r;

  if (directory_fd < 0)
    return directory_fd;
  r = replace_file_in (directory_fd, data, bytes);
  close (directory_fd);
  return r;
}

static void
write_statistics (void)
{
  size_t bytes;
  char *text = stats_report_string (statsfile.store, STATS_PROMETHEUS, &bytes);
  const int r = text == NULL ? -errno : replace_file (text, bytes);

  free (text);
  if (r < 0 && !statsfile.failing)
    nbdkit_error ("statsfile=%s: cannot be written, trying on: %s",
                  statsfile.path, strerror (-r));
  statsfile.failing = r < 0;
}

/* True: time to write again; false: time to end. */
static bool
wait_interval (void)
{
  struct timespec until;
  bool stop;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += statsfile.interval_seconds;

  pthread_mutex_lock (&statsfile.mutex);
  while (!statsfile.stop &&
         pthread_cond_timedwait (&statsfile.wake, &statsfile.mutex, &until) !=
           ETIMEDOUT)
    ;
  stop = statsfile.stop;
  pthread_mutex_unlock (&statsfile.mutex);
  return !stop;
}

static void *
run_statsfile (void *opaque)
{
  (void) opaque;
  do
    write_statistics ();
  while (wait_interval ());
  write_statistics ();
  return NULL;
}

static void
forget_paths (void)
{
  free (statsfile.path);
  free (statsfile.directory);
  free (statsfile.name);
  free (statsfile.tmp_name);
  statsfile.path = statsfile.directory = NULL;
  statsfile.name = statsfile.tmp_name = NULL;
}

/* False: no memory. */
static bool
keep_paths (const char *path)
{
  const char *name = strrchr (path, '/') + 1;

  statsfile.path = strdup (path);
  statsfile.directory = strndup (path, (size_t) (name - path));
  statsfile.name = strdup (name);
  if (asprintf (&statsfile.tmp_name, "%s.zmem.tmp", name) == -1)
    statsfile.tmp_name = NULL;
  return statsfile.path != NULL && statsfile.directory != NULL &&
         statsfile.name != NULL && statsfile.tmp_name != NULL;
}

/* Make a file in the directory, and take it away again. */
static int
try_directory (void)
{
  const int directory_fd = open_directory ();
  int fd;

  if (directory_fd < 0)
    return directory_fd;
  fd = create_tmp (directory_fd);
  if (fd >= 0) {
    close (fd);
    unlinkat (directory_fd, statsfile.tmp_name, 0);
  }
  close (directory_fd);
  return fd < 0 ? fd : 0;
}

int
statsfile_prepare (const char *path, unsigned interval_seconds, char *error,
                   size_t error_bytes)
{
  struct stat st;
  int r;

  if (interval_seconds == 0)
    return reject (error, error_bytes, -EINVAL,
                   "%s: the interval must be a second at least", path);
  /* Renaming would replace a device or a link as readily as a file. */
  if (lstat (path, &st) == 0 && !S_ISREG (st.st_mode))
    return reject (error, error_bytes, -EINVAL,
                   "%s: this is no regular file: choose another path", path);

  if (!keep_paths (path)) {
    forget_paths ();
    return reject (error, error_bytes, -ENOMEM, "%s: out of memory", path);
  }
  statsfile.interval_seconds = interval_seconds;

  r = try_directory ();
  if (r < 0) {
    forget_paths ();
    return reject (error, error_bytes, r,
                   "%s: no file can be made in its directory: %s", path,
                   strerror (-r));
  }
  return 0;
}

int
statsfile_start (struct store *store)
{
  pthread_condattr_t attr;
  int r;

  if (statsfile.path == NULL)
    return 0;

  statsfile.store = store;
  statsfile.stop = statsfile.failing = false;
  pthread_mutex_init (&statsfile.mutex, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&statsfile.wake, &attr);
  pthread_condattr_destroy (&attr);

  r = service_thread_start (&statsfile.thread, "zmem-statsfile", run_statsfile,
                            NULL);
  statsfile.running = r == 0;
  return r;
}

void
statsfile_stop (void)
{
  if (statsfile.running) {
    pthread_mutex_lock (&statsfile.mutex);
    statsfile.stop = true;
    pthread_cond_signal (&statsfile.wake);
    pthread_mutex_unlock (&statsfile.mutex);
    pthread_join (statsfile.thread, NULL);
    statsfile.running = false;
    pthread_cond_destroy (&statsfile.wake);
    pthread_mutex_destroy (&statsfile.mutex);
  }
  forget_paths ();
}
