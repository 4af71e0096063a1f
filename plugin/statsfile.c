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
  char *path, *tmp_path;        /* owned; NULL: no file is wanted */
  unsigned interval_seconds;
  struct store *store;
  bool running;
  pthread_t thread;

  bool failing;                 /* the thread's own: the last write failed */

  pthread_mutex_t mutex;        /* guards stop */
  pthread_cond_t wake;
  bool stop;
} statsfile;

static bool
is_ours (const char *path)
{
  struct stat st;

  return lstat (path, &st) == 0 && S_ISREG (st.st_mode)
    && st.st_uid == geteuid ();
}

/* A new, empty FILE.zmem.tmp: a descriptor, or -errno. */
static int
create_tmp (const char *tmp_path)
{
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int fd = open (tmp_path, flags, 0644);

  if (fd == -1 && errno == EEXIST) {
    if (!is_ours (tmp_path))
      return -EEXIST;
    if (unlink (tmp_path) == 0)
      fd = open (tmp_path, flags, 0644);
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
replace_file (const char *data, size_t bytes)
{
  const int fd = create_tmp (statsfile.tmp_path);
  int r;

  if (fd < 0)
    return fd;
  r = write_all (fd, data, bytes);
  if (close (fd) == -1 && r == 0)
    r = -errno;
  if (r == 0 && rename (statsfile.tmp_path, statsfile.path) == -1)
    r = -errno;
  if (r < 0)
    unlink (statsfile.tmp_path);
  return r;
}

static void
write_statistics (void)
{
  size_t bytes;
  char *text = stats_report_string (statsfile.store, STATS_PROMETHEUS,
                                    &bytes);
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
  while (!statsfile.stop
         && pthread_cond_timedwait (&statsfile.wake, &statsfile.mutex,
                                    &until) != ETIMEDOUT)
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
  free (statsfile.tmp_path);
  statsfile.path = statsfile.tmp_path = NULL;
}

int
statsfile_prepare (const char *path, unsigned interval_seconds, char *error,
                   size_t error_bytes)
{
  struct stat st;
  int fd;

  if (interval_seconds == 0)
    return reject (error, error_bytes, -EINVAL,
                   "%s: the interval must be a second at least", path);
  /* Renaming would replace a device or a link as readily as a file. */
  if (lstat (path, &st) == 0 && !S_ISREG (st.st_mode))
    return reject (error, error_bytes, -EINVAL,
                   "%s: this is no regular file: choose another path", path);

  statsfile.path = strdup (path);
  if (statsfile.path == NULL
      || asprintf (&statsfile.tmp_path, "%s.zmem.tmp", path) == -1) {
    statsfile.tmp_path = NULL;
    forget_paths ();
    return reject (error, error_bytes, -ENOMEM, "%s: out of memory", path);
  }
  statsfile.interval_seconds = interval_seconds;

  fd = create_tmp (statsfile.tmp_path);
  if (fd < 0) {
    forget_paths ();
    return reject (error, error_bytes, fd,
                   "%s: no file can be made in its directory: %s", path,
                   strerror (-fd));
  }
  close (fd);
  unlink (statsfile.tmp_path);
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

  r = service_thread_start (&statsfile.thread, "zmem-statsfile",
                            run_statsfile, NULL);
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
