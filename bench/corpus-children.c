/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The process that was started waits; another one, which leads a group of its
 * own, does the work.  So a Ctrl-C reaches only the one that waits, and what
 * has to go then is one group, stopped processes and pipelines included.
 */

#define _GNU_SOURCE

#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "corpus-children.h"

static char *scratch_folder;

char *
scratch_path (const char *name)
{
  char *path;

  if (asprintf (&path, "%s/%s", scratch_folder, name) == -1)
    err (EXIT_FAILURE, "asprintf");
  return path;
}

/*--- The process that waits. ---*/

static int
remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  remove (path);
  return 0;
}

void
remove_tree (const char *path)
{
  nftw (path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

static bool
make_scratch_folder (void)
{
  const char *parent = getenv ("TMPDIR");

  if (parent == NULL || *parent == '\0')
    parent = "/tmp";
  if (asprintf (&scratch_folder, "%s/corpus.XXXXXX", parent) == -1)
    err (EXIT_FAILURE, "asprintf");
  if (mkdtemp (scratch_folder) == NULL) {
    warn ("no folder can be made in %s: set TMPDIR", parent);
    return false;
  }
  return true;
}

/* Those signals that ask us to end.  One that is ignored stays ignored. */
static void
find_signals (sigset_t *set)
{
  static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
  struct sigaction action;

  sigemptyset (set);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; ++i)
    if (sigaction (signals[i], NULL, &action) == 0 &&
        action.sa_handler != SIG_IGN)
      sigaddset (set, signals[i]);
  sigaddset (set, SIGCHLD);
}

/* Returns the signal that asked us to end, or 0 when the child has ended. */
static int
wait_for_end (pid_t pid, const sigset_t *set, int *status)
{
  int sig = 0;

  while (sigwait (set, &sig) == 0)
    if (sig != SIGCHLD) {
      kill (-pid, SIGKILL);
      waitpid (pid, status, 0);
      return sig;
    }
    else if (waitpid (pid, status, WNOHANG) == pid)
      break;
  kill (-pid, SIGKILL);
  return 0;
}

void
do_guarded (void (*work) (void), void (*undo) (void))
{
  sigset_t set, old;
  int status = 0, sig;
  pid_t pid;

  signal (SIGCHLD, SIG_DFL);
  find_signals (&set);
  sigprocmask (SIG_BLOCK, &set, &old);
  if (!make_scratch_folder ()) {
    undo ();
    exit (EXIT_FAILURE);
  }
  fflush (NULL);
  pid = fork ();
  if (pid == -1)
    warn ("fork");
  else if (pid == 0) {
    setpgid (0, 0);
    sigprocmask (SIG_SETMASK, &old, NULL);
    work ();
    exit (EXIT_SUCCESS);
  }
  else
    setpgid (pid, pid); /* whoever comes first */

  sig = pid > 0 ? wait_for_end (pid, &set, &status) : 0;
  remove_tree (scratch_folder);
  free (scratch_folder);
  if (pid > 0 && sig == 0 && WIFEXITED (status) && WEXITSTATUS (status) == 0) {
    sigprocmask (SIG_SETMASK, &old, NULL);
    return;
  }
  undo ();
  if (sig != 0) {
    signal (sig, SIG_DFL);
    raise (sig);
    sigprocmask (SIG_SETMASK, &old, NULL);
  }
  if (pid > 0 && WIFSIGNALED (status))
    warnx ("ended by signal %d", WTERMSIG (status));
  exit (EXIT_FAILURE);
}

/*--- Programs. ---*/

/* mke2fs and debugfs are not on everybody's PATH. */
static void
extend_path (void)
{
  static bool done;
  const char *old = getenv ("PATH");
  char *new;

  if (done)
    return;
  done = true;
  if (asprintf (&new, "%s:/usr/sbin:/sbin", old ? old : "/usr/bin:/bin") == -1)
    err (EXIT_FAILURE, "asprintf");
  setenv ("PATH", new, 1);
  free (new);
}

bool
is_program (const char *name)
{
  const char *rest;
  bool found = false;

  extend_path ();
  for (rest = getenv ("PATH"); !found && *rest;) {
    const int len = strcspn (rest, ":");
    char *path;

    if (asprintf (&path, "%.*s/%s", len, rest, name) == -1)
      err (EXIT_FAILURE, "asprintf");
    found = access (path, X_OK) == 0;
    free (path);
    rest += len + (rest[len] == ':');
  }
  return found;
}

/* By posix_spawn, which returns when the program has replaced us: a child of
 * fork would for a moment count our own memory as its own.
 */
pid_t
start_program (const char *const *argv, const char *input, int output)
{
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int r;

  extend_path ();
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_addopen (&actions, 0, input ? input : "/dev/null",
                                    O_RDONLY, 0);
  if (output == -1)
    posix_spawn_file_actions_addopen (&actions, 1, "/dev/null", O_WRONLY, 0);
  else
    posix_spawn_file_actions_adddup2 (&actions, output, 1);
  posix_spawn_file_actions_addopen (&actions, 2, "/dev/null", O_WRONLY, 0);
  r =
    posix_spawnp (&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
  posix_spawn_file_actions_destroy (&actions);
  return r == 0 ? pid : -1;
}

bool
run_program (const char *const *argv, const char *input)
{
  pid_t pid = start_program (argv, input, -1);
  int status;

  return pid != -1 && waitpid (pid, &status, 0) == pid && WIFEXITED (status) &&
         WEXITSTATUS (status) == 0;
}
