/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Where servers are found.
 */

#include <config.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "find.h"

#define SYSTEM_DIRECTORY "/run/zmem"

static void
end_without_memory (void)
{
  perror ("zmemctl");
  exit (1);
}

static void
add_path (struct sockets *sockets, const char *path)
{
  char **paths =
    realloc (sockets->paths, (sockets->nr + 1) * sizeof *sockets->paths);

  if (paths == NULL)
    end_without_memory ();
  sockets->paths = paths;
  paths[sockets->nr] = strdup (path);
  if (paths[sockets->nr] == NULL)
    end_without_memory ();
  ++sockets->nr;
}

/* What a server makes its control socket with.  NBD sockets, which often
 * lie beside it, are executable: nbdkit makes them so, as the kernel does
 * unless told otherwise.  They must not be asked to find out, since that is
 * an error in the log of their server.
 */
#define CONTROL_MODE 0600

/* Whoever answers on a socket is believed, so who may have put it there
 * matters: in a directory, only its owner, root and this user are.  Anybody
 * may have put what is not, where others may write.
 */
static bool
is_trusted (const struct stat *st, uid_t directory_uid)
{
  return st->st_uid == 0 || st->st_uid == geteuid () ||
         st->st_uid == directory_uid;
}

static void
find_in_opened (struct sockets *sockets, int directory_fd, uid_t owner,
                const char *directory)
{
  struct dirent **entries;
  char path[PATH_MAX];
  struct stat st;
  const int nr = scandirat (directory_fd, ".", &entries, NULL, alphasort);
  int i;

  for (i = 0; i < nr; ++i) {
    const int bytes =
      snprintf (path, sizeof path, "%s/%s", directory, entries[i]->d_name);
    if (bytes < (int) sizeof path &&
        fstatat (directory_fd, entries[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) ==
          0 &&
        S_ISSOCK (st.st_mode) && (st.st_mode & ALLPERMS) == CONTROL_MODE &&
        is_trusted (&st, owner))
      add_path (sockets, path);
    free (entries[i]);
  }
  if (nr >= 0)
    free (entries);
}

/* A directory that is not there, or not for us, has no sockets.  One that
 * `any_owner` may not have must be this user's or root's.
 */
static void
find_in (struct sockets *sockets, const char *directory, bool any_owner)
{
  const int fd = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat st;

  if (fd == -1)
    return;
  if (fstat (fd, &st) == 0 && (any_owner || is_trusted (&st, 0)))
    find_in_opened (sockets, fd, st.st_uid, directory);
  close (fd);
}

/* $XDG_RUNTIME_DIR/zmem; NULL: there is none. */
static const char *
user_directory (void)
{
  static char directory[PATH_MAX];
  const char *runtime = getenv ("XDG_RUNTIME_DIR");
  int bytes;

  if (runtime == NULL || *runtime == '\0')
    return NULL;
  bytes = snprintf (directory, sizeof directory, "%s/zmem", runtime);
  return bytes < (int) sizeof directory ? directory : NULL;
}

void
find_sockets (struct sockets *sockets)
{
  const char *user = user_directory ();

  sockets->paths = NULL;
  sockets->nr = 0;
  /* Only root makes directories in /run, or gives one away. */
  find_in (sockets, SYSTEM_DIRECTORY, true);
  /* Whereas the environment may be somebody else's: su and sudo keep it. */
  if (user != NULL && strcmp (user, SYSTEM_DIRECTORY) != 0)
    find_in (sockets, user, false);
}

void
free_sockets (struct sockets *sockets)
{
  size_t i;

  for (i = 0; i < sockets->nr; ++i)
    free (sockets->paths[i]);
  free (sockets->paths);
  sockets->paths = NULL;
  sockets->nr = 0;
}

const char *
find_where (void)
{
  static char where[sizeof SYSTEM_DIRECTORY " and " + PATH_MAX];
  const char *user = user_directory ();

  snprintf (where, sizeof where, "%s%s%s", SYSTEM_DIRECTORY,
            user == NULL ? "" : " and ", user == NULL ? "" : user);
  return where;
}

static void explain (char *error, size_t error_bytes, const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));

static void
explain (char *error, size_t error_bytes, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (error, error_bytes, format, args);
  va_end (args);
}

static bool
server_answers (const char *path, int timeout_ms)
{
  struct client client;
  char *body;

  if (!client_open (&client, path, timeout_ms))
    return false;
  body = client_ask (&client, "limit");
  client_close (&client);
  free (body);
  return body != NULL;
}

char *
find_only_server (int timeout_ms, char *error, size_t error_bytes)
{
  struct sockets sockets;
  char *only = NULL;
  size_t i, nr_live = 0;

  find_sockets (&sockets);
  for (i = 0; i < sockets.nr; ++i) {
    if (!server_answers (sockets.paths[i], timeout_ms))
      continue;
    if (++nr_live == 1) {
      only = strdup (sockets.paths[i]);
      if (only == NULL)
        end_without_memory ();
    }
  }

  if (nr_live == 0)
    explain (error, error_bytes,
             "no running server was found in %s%s: name its control socket"
             " with -s SOCKET or in $ZMEM_CONTROL",
             find_where (), sockets.nr == 0 ? "" : ", where no socket answers");
  if (nr_live > 1) {
    explain (error, error_bytes,
             "%zu servers are running in %s: choose one with -s SOCKET"
             " (zmemctl list shows them)",
             nr_live, find_where ());
    free (only);
    only = NULL;
  }
  free_sockets (&sockets);
  return only;
}
