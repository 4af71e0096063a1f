/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Start nbdkit time and again, and let the Nth call of a family of the
 * plugin's fail each time (tests/test-faults.sh).
 *
 *     fault-starts FAMILY STEP DIR NBDKIT-ARGUMENTS...
 *
 * N goes from 1 until a server has fewer calls from its start to its end; by
 * one at first, then by STEP on average.  Each time one of the two:
 *
 *   - the server ends with status 1, having said why in one sentence of the
 *     plugin's (or it refuses this one connection, in one sentence);
 *   - it serves: what is written is read back, at the second try if the first
 *     was refused for want of memory; a second server like it, which says
 *     the same at its start; it ends with status 0.
 *
 * Either way nothing is left in DIR but the statistics.  (What could not be
 * removed because the very removal failed is removed here.)
 *
 * nbdkit serves on a socket pair (-s), and so is waited for without looking
 * time and again.  LD_PRELOAD and ZMEM_FAULTS are set for it alone.
 *
 * Prints how many calls failed; exit status 0, or 1 after sentences that say
 * what was wrong.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libnbd.h>

#include "fault-slots.h"
#include "test-util.h"

/* The first ones are all taken, whatever STEP is. */
#define NR_ALL 12
#define MAX_NTH 5000
#define LOG_BYTES ((size_t) 16384)
#define DATA_BYTES (256 * KIB)

static const char *dir, *preload;
static struct fault_slot *slots, *slot;
static uint64_t nth;
static unsigned nr_wrong;
static bool was_wrong; /* this time */
static char log_text[LOG_BYTES + 1], first_summary[512];

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "fault-starts: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static void __attribute__ ((format (printf, 1, 2)))
wrong (const char *format, ...)
{
  va_list args;

  printf ("N = %" PRIu64 " (%.31s): ", nth, slot->name);
  va_start (args, format);
  vprintf (format, args);
  va_end (args);
  printf ("\n");
  was_wrong = true;
}

static void
path_in_dir (char path[PATH_MAX], const char *name)
{
  if (snprintf (path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
    abort ();
}

/*--- The server. ---*/

/* Returns its process; *fd: the client's end. */
static pid_t
start_server (char *argv[], int *fd)
{
  char log_path[PATH_MAX], faults_path[PATH_MAX];
  int pair[2];
  pid_t pid;

  path_in_dir (log_path, "log");
  path_in_dir (faults_path, "faults");
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
    die ("socketpair");
  pid = fork ();
  if (pid == -1)
    die ("fork");
  if (pid == 0) {
    const int log_fd = open (log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (log_fd == -1 || chdir (dir) == -1 || dup2 (pair[1], 0) == -1 ||
        dup2 (pair[1], 1) == -1 || dup2 (log_fd, 2) == -1)
      _exit (100);
    setenv ("LD_PRELOAD", preload, 1);
    setenv ("ZMEM_FAULTS", faults_path, 1);
    execvp (argv[0], argv);
    _exit (101);
  }
  close (pair[1]);
  *fd = pair[0];
  return pid;
}

static void
read_log (void)
{
  char path[PATH_MAX];
  ssize_t r;
  int fd;

  path_in_dir (path, "log");
  fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd == -1)
    die (path);
  r = read (fd, log_text, LOG_BYTES);
  log_text[r > 0 ? r : 0] = '\0';
  close (fd);
}

/* How many lines of the log begin with `start` (NULL: any), and have `piece`
 * in them.
 */
static unsigned
count_lines (const char *start, const char *piece)
{
  unsigned nr = 0;

  for (const char *line = log_text, *end; *line != '\0'; line = end) {
    end = strchrnul (line, '\n');
    if ((start == NULL || strncmp (line, start, strlen (start)) == 0) &&
        memmem (line, (size_t) (end - line), piece, strlen (piece)))
      ++nr;
    end += *end != '\0';
  }
  return nr;
}

/* "16 MiB disk, compress=..., limit ..." */
static void
get_summary (char summary[sizeof first_summary])
{
  const char *p = strstr (log_text, " disk, ");

  snprintf (summary, sizeof first_summary, "%.*s",
            p != NULL ? (int) strcspn (p, "\n") : 0, p != NULL ? p : "");
}

/*--- Does it serve? ---*/

static bool
write_twice (struct nbd_handle *nbd, const uint8_t *data, uint64_t offset)
{
  if (nbd_pwrite (nbd, data, DATA_BYTES, offset, 0) == 0)
    return true;
  if (atomic_load (&slot->nr_failed) == 0 ||
      (nbd_get_errno () != ENOMEM && nbd_get_errno () != ENOSPC))
    return false;
  return nbd_pwrite (nbd, data, DATA_BYTES, offset, 0) == 0;
}

static bool
requests_go_well (struct nbd_handle *nbd)
{
  static uint8_t data[DATA_BYTES], back[DATA_BYTES];
  struct rng rng;

  rng_init (&rng, test_seed (), nth);
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t offset = i * (MIB + 4000);

    make_range (&rng, data, DATA_BYTES, offset);
    if (!write_twice (nbd, data, offset) ||
        nbd_pread (nbd, back, DATA_BYTES, offset, 0) == -1)
      return false;
    if (memcmp (data, back, DATA_BYTES) != 0) {
      wrong ("other data is read than was written");
      return true;
    }
    if (nbd_trim (nbd, DATA_BYTES, offset, 0) == -1)
      return false;
  }
  return true;
}

/* False: it did not even begin to. */
static bool
server_serves (int fd)
{
  struct nbd_handle *nbd = nbd_create ();
  bool serves;

  if (nbd == NULL)
    die ("nbd_create");
  serves = nbd_connect_socket (nbd, fd) == 0;
  if (serves && !requests_go_well (nbd))
    wrong ("%s", nbd_get_error ());
  if (serves)
    nbd_shutdown (nbd, 0);
  nbd_close (nbd); /* and fd */
  return serves;
}

/*--- What is left. ---*/

static bool
may_stay (const char *name)
{
  return strcmp (name, "log") == 0 || strcmp (name, "faults") == 0 ||
         strcmp (name, "stats") == 0;
}

static void
check_left (void)
{
  const bool not_removed =
    strcmp (slot->name, "unlink") == 0 || strcmp (slot->name, "lstat") == 0;
  DIR *folder = opendir (dir);
  struct dirent *entry;

  if (folder == NULL)
    die (dir);
  while ((entry = readdir (folder)) != NULL) {
    char path[PATH_MAX];

    if (entry->d_name[0] == '.' || may_stay (entry->d_name))
      continue;
    if (!not_removed)
      wrong ("%s stays", entry->d_name);
    path_in_dir (path, entry->d_name);
    unlink (path);
  }
  closedir (folder);
}

/*--- One start, and all. ---*/

static void
check_end (bool served, int status)
{
  char summary[sizeof first_summary];

  if (!WIFEXITED (status))
    wrong ("ended by signal %d", WTERMSIG (status));
  else if (WEXITSTATUS (status) > (served ? 0 : 1))
    wrong ("%s, and ended with status %d", served ? "served" : "did not serve",
           WEXITSTATUS (status));
  if (!served &&
      (count_lines (NULL, "error:") != 1 ||
       (status != 0 && count_lines ("nbdkit: error: zmem: ", "") != 1)))
    wrong ("not one sentence");
  if (count_lines (NULL, "Assertion") > 0)
    wrong ("an assertion");
  get_summary (summary);
  if (*first_summary == '\0')
    strcpy (first_summary, summary);
  if (served && strcmp (summary, first_summary) != 0)
    wrong ("it says%s, and without a fault%s", summary, first_summary);
}

/* Returns whether it started. */
static bool
try_start (char *argv[])
{
  int fd, status;
  bool served;
  pid_t pid;

  memset (slot, 0, sizeof *slot);
  atomic_store (&slot->nth, nth);
  was_wrong = false;
  pid = start_server (argv, &fd);
  served = server_serves (fd);
  if (waitpid (pid, &status, 0) != pid)
    die ("waitpid");
  read_log ();
  check_end (served, status);
  check_left ();
  if (was_wrong) {
    printf ("%s\n", log_text);
    ++nr_wrong;
  }
  return status == 0;
}

static void
map_slots (const char *family)
{
  char path[PATH_MAX];
  int fd;

  path_in_dir (path, "faults");
  fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd == -1 || ftruncate (fd, FAULT_FILE_BYTES) == -1)
    die (path);
  slots =
    mmap (NULL, FAULT_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (slots == MAP_FAILED)
    die ("mmap");
  close (fd);
  for (unsigned i = 0; i < NR_FAULT_FAMILIES; ++i)
    if (strcmp (fault_family_names[i], family) == 0)
      slot = &slots[i];
  if (slot == NULL)
    die (family);
}

int
main (int argc, char *argv[])
{
  uint64_t step, nr_failed = 0, nr_ended = 0;
  struct rng rng;

  preload = getenv ("FAULT_PRELOAD");
  if (argc < 5 || preload == NULL) {
    fprintf (stderr, "usage: FAULT_PRELOAD=LIBRARY fault-starts FAMILY STEP"
                     " DIR NBDKIT-ARGUMENTS...\n");
    return EXIT_FAILURE;
  }
  test_start ("fault-starts");
  rng_init (&rng, test_seed (), 0);
  step = strtoull (argv[2], NULL, 0);
  dir = argv[3];
  map_slots (argv[1]);

  /* Without a fault, for what it says and that it serves. */
  if (!try_start (argv + 4))
    wrong ("does not serve without a fault");
  while (nth < MAX_NTH) {
    nth += step <= 1 || nth < NR_ALL ? 1 : 1 + rng_below (&rng, 2 * step - 1);
    const bool started = try_start (argv + 4);

    if (atomic_load (&slot->nr_failed) == 0)
      break;
    ++nr_failed;
    nr_ended += !started;
  }
  if (nr_failed == 0)
    wrong ("no call was made to fail");
  printf ("start: %s: %" PRIu64
          " calls failed one by one, the last N was %" PRIu64 "; %" PRIu64
          " of them ended the server\n",
          argv[1], nr_failed, nth, nr_ended);
  return nr_wrong == 0 && !was_wrong ? EXIT_SUCCESS : EXIT_FAILURE;
}
