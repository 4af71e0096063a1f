/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the system refuses to the plugin's parts, in process, as test-fail-nth
 * has it for the store: commands, the control socket, the file of statistics,
 * locking, the default limit, options.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "control.h"
#include "fail-scene.h"
#include "libcheck.h"
#include "limit.h"
#include "memlock.h"
#include "options.h"
#include "statsfile.h"

/*--------------------------------------------------------------------*/
/* Commands. */

static const char *command_line;
static size_t answer_bytes;

static int
give_command (void)
{
  struct command_wait wait = { 0 };
  char *text = NULL;
  FILE *out = open_memstream (&text, &answer_bytes);
  int r;

  if (out == NULL)
    return -ENOMEM;
  strcpy (sentence, "");
  r = command_run (disk.store, command_line, &wait, out, sentence,
                   sizeof sentence);
  if (r == 0 && ferror (out))
    r = -EIO;
  if (fclose (out) == EOF || text == NULL)
    r = -EIO;
  free (text);
  return r;
}

static void
check_command (int r, bool failed)
{
  if (!failed)
    ck_assert_uint_gt (answer_bytes, 0);
  if (r == -ENOMEM && *sentence == '\0')
    ck_assert (failed); /* not even a stream */
  else
    ck_assert_int_eq (r < 0 && r != -EIO, *sentence != '\0');
}

START_TEST (test_commands)
{
  static const char *const lines[] = { "stats",
                                       "stats json",
                                       "stats prometheus",
                                       "classes",
                                       "classes json",
                                       "limit",
                                       "limit 512M",
                                       "limit none",
                                       "compress",
                                       "compress zstd:2",
                                       "compress lz4",
                                       "compact",
                                       "compact wait",
                                       "compact status",
                                       "map",
                                       "verify status",
                                       "help" };
  struct scene scene = { NULL, give_command, check_command };

  open_disk ();
  for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; ++i) {
    scene.name = command_line = lines[i];
    fail_each (&scene, FAULT_MALLOC);
    disk_check_all (&disk);
  }
  close_disk ();
}
END_TEST

static int
start_verify (void)
{
  const int r = give_command ();

  store_verify_stop (disk.store);
  return r;
}

static void
check_verify (int r, bool failed)
{
  struct verify_report report;

  check_command (r, failed);
  store_verify_report (disk.store, &report);
  ck_assert_int_eq (report.state == VERIFY_IDLE, r < 0);
}

START_TEST (test_verify)
{
  struct scene scene = { "verify start", start_verify, check_verify };

  open_disk ();
  command_line = "verify start";
  ck_assert_uint_gt (fail_each (&scene, FAULT_THREAD), 0);
  scene.check = check_command;
  fail_each (&scene, FAULT_MALLOC);
  disk_check_all (&disk);
  close_disk ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* The control socket and the file of statistics. */

static bool
file_is_there (const char *name)
{
  struct stat st;

  return stat (path_in_dir (name), &st) == 0;
}

static int
serve_control (void)
{
  int r;

  *sentence = '\0';
  r = control_bind (path_in_dir ("ctl"), sentence, sizeof sentence);
  if (r < 0)
    return r;
  r = control_start (disk.store);
  control_stop ();
  return r;
}

/* What the failing call would have removed is removed here. */
static void
check_control (int r, bool failed)
{
  (void) r;
  if (failed)
    unlink (path_in_dir ("ctl"));
  ck_assert (!file_is_there ("ctl"));
}

static int
serve_statsfile (void)
{
  int r;

  *sentence = '\0';
  r = statsfile_prepare (path_in_dir ("stats"), 10, sentence, sizeof sentence);
  if (r < 0)
    return r;
  r = statsfile_start (disk.store);
  statsfile_stop ();
  return r;
}

static void
check_statsfile (int r, bool failed)
{
  if (r == 0)
    ck_assert (failed || file_is_there ("stats"));
  if (failed)
    unlink (path_in_dir ("stats.zmem.tmp"));
  ck_assert (!file_is_there ("stats.zmem.tmp"));
  unlink (path_in_dir ("stats"));
}

START_TEST (test_services)
{
  static const enum fault_family families[] = { FAULT_MALLOC, FAULT_THREAD,
                                                FAULT_SOCKET, FAULT_FILE };
  const struct scene control = { "control socket", serve_control,
                                 check_control };
  const struct scene statsfile = { "file of statistics", serve_statsfile,
                                   check_statsfile };

  open_disk ();
  for (unsigned i = 0; i < sizeof families / sizeof families[0]; ++i) {
    fail_each (&control, families[i]);
    fail_each (&statsfile, families[i]);
  }
  close_disk ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Locking, the default limit, options. */

static int
prepare_lock (void)
{
  *sentence = '\0';
  return memlock_prepare (sentence, sizeof sentence);
}

static void
check_lock (int r, bool failed)
{
  munlockall ();
  check_sentence (r, failed);
}

START_TEST (test_lock)
{
  const struct scene scene = { "locking in memory", prepare_lock, check_lock };

  if (prepare_lock () < 0)
    return; /* not allowed here */
  fail_each (&scene, FAULT_LOCK);
  fail_each (&scene, FAULT_MALLOC);
  fail_each (&scene, FAULT_FILE);
}
END_TEST

static struct memory_bound bound;

static int
find_bound (void)
{
  return memory_bound_find (dir, &bound);
}

/* A limit of all the memory that there is would end in the OOM killer. */
static void
check_bound (int r, bool failed)
{
  (void) failed;
  if (r == 0)
    ck_assert_uint_eq (bound.bytes, UINT64_C (1) << 30);
}

static void
put_file (const char *name, const char *text)
{
  FILE *file = fopen (path_in_dir (name), "w");

  ck_assert_ptr_nonnull (file);
  fputs (text, file);
  ck_assert_int_eq (fclose (file), 0);
}

START_TEST (test_bound)
{
  const struct scene scene = { "default limit", find_bound, check_bound };

  mkdir (path_in_dir ("proc"), 0700);
  mkdir (path_in_dir ("proc/self"), 0700);
  mkdir (path_in_dir ("group"), 0700);
  mkdir (path_in_dir ("group/a"), 0700);
  put_file ("proc/meminfo", "MemTotal: 16777216 kB\n");
  put_file ("proc/self/cgroup", "0::/a\n");
  put_file ("proc/self/mountinfo",
            "30 23 0:26 / /group rw - cgroup2 cgroup2 rw\n");
  put_file ("group/a/memory.max", "1073741824\n");
  put_file ("group/memory.max", "max\n");
  fail_each (&scene, FAULT_MALLOC);
  fail_each (&scene, FAULT_FILE);
}
END_TEST

static int
take_options (void)
{
  static const char *const values[][2] = {
    { "size", "1G" },         { "control", "ctl" },
    { "control", "/ctl" },    { "stats-export", "stats" },
    { "statsfile", "stats" },
  };
  struct options options;
  int r = 0;

  *sentence = '\0';
  options_init (&options);
  for (unsigned i = 0; r == 0 && i < sizeof values / sizeof values[0]; ++i)
    r = options_set (&options, values[i][0], values[i][1], sentence,
                     sizeof sentence);
  options_free (&options);
  return r;
}

START_TEST (test_options)
{
  const struct scene scene = { "options", take_options, check_sentence };

  ck_assert_uint_gt (fail_each (&scene, FAULT_MALLOC), 0);
  ck_assert_uint_gt (fail_each (&scene, FAULT_FILE), 0);
}
END_TEST

int
main (void)
{
  TCase *tcase = tcase_create ("fail-nth-plugin");

  test_start ("test-fail-nth-plugin");
  tcase_add_test (tcase, test_commands);
  tcase_add_test (tcase, test_verify);
  tcase_add_test (tcase, test_services);
  tcase_add_test (tcase, test_lock);
  tcase_add_test (tcase, test_bound);
  tcase_add_test (tcase, test_options);
  return run_fail_tests ("fail-nth-plugin", tcase);
}
