/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Scenes with a failing call; see fail-scene.h.
 */

#include <config.h>

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "fail-scene.h"
#include "fault-calls.h"
#include "libcheck.h"

/* What nbdkit has for a plugin. */
static unsigned nr_reports;

void
nbdkit_error (const char *format, ...)
{
  (void) format;
  ++nr_reports;
}

void
nbdkit_debug (const char *format, ...)
{
  (void) format;
}

char dir[] = "/tmp/zmem-fail-nth.XXXXXX";

char *
path_in_dir (const char *name)
{
  static char path[128];

  snprintf (path, sizeof path, "%s/%s", dir, name);
  return path;
}

static int
remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (path);
}

void
make_dir (void)
{
  strcpy (strrchr (dir, '.'), ".XXXXXX"); /* the last one's is gone */
  ck_assert_ptr_nonnull (mkdtemp (dir));
}

void
remove_dir (void)
{
  nftw (dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/*--------------------------------------------------------------------*/
char sentence[1024];

void
check_sentence (int r, bool failed)
{
  (void) failed;
  ck_assert_int_eq (r < 0, *sentence != '\0');
}

struct holdings {
  int64_t allocations;
  unsigned files;
};

static struct holdings
get_holdings (void)
{
  return (struct holdings) { fault_nr_allocations (), nr_open_files () };
}

static void
check_holdings (const struct scene *scene, uint64_t nth, struct holdings before)
{
  const struct holdings now = get_holdings ();

  ck_assert_msg (now.files == before.files,
                 "%s, N = %" PRIu64 ": %u descriptors, %u before", scene->name,
                 nth, now.files, before.files);
  if (!TEST_SANITIZED)
    ck_assert_msg (now.allocations == before.allocations,
                   "%s, N = %" PRIu64 ": %" PRId64 " allocations, %" PRId64
                   " before",
                   scene->name, nth, now.allocations, before.allocations);
}

uint64_t
fail_each (const struct scene *scene, enum fault_family family)
{
  struct holdings before;
  uint64_t nth;
  bool failed = true;
  int r;

  /* Once without: what is made only once is there then. */
  for (unsigned i = 0; i < 2; ++i) {
    r = scene->act ();
    ck_assert_msg (r == 0, "%s: %s", scene->name, strerror (-r));
    scene->check (0, false);
  }
  before = get_holdings ();
  for (nth = 1; failed && nth < FAIL_MAX_NTH; ++nth) {
    /* What a sanitizer allocates for a new thread must not fail. */
    if (TEST_SANITIZED)
      fail_nth (family, nth);
    else
      fail_nth_anywhere (family, nth);
    r = scene->act ();
    failed = fail_nth_end ();
    ck_assert_msg (r == 0 || failed,
                   "%s, N = %" PRIu64 ": %s, and nothing"
                   " failed",
                   scene->name, nth, strerror (-r));
    scene->check (r, failed);
    check_holdings (scene, nth, before);
  }
  ck_assert_msg (!failed, "%s: no end", scene->name);
  printf ("%s: %s: %" PRIu64 " calls failed\n", scene->name,
          fault_family_names[family], nth - 2);
  fflush (stdout);
  return nth - 2;
}

/*--------------------------------------------------------------------*/

struct disk disk;
struct rng rng;
uint8_t *buf;

void
fill_disk (unsigned nr_writes)
{
  static const char *const codecs[] = { "lz4", "zstd", "none" };

  for (unsigned i = 0; i < nr_writes; ++i) {
    const uint64_t count = rng_size (&rng, 200000);
    const uint64_t offset = rng_below (&rng, FAIL_DISK_BYTES - count);

    if (i % 10 == 0)
      disk_set_codec (&disk, codecs[i / 10 % 3]);
    make_range (&rng, buf, count, offset);
    disk_write (&disk, buf, count, offset);
  }
}

void
open_disk (void)
{
  rng_init (&rng, test_seed (), 1);
  buf = malloc (FAIL_DISK_BYTES);
  ck_assert_ptr_nonnull (buf);
  disk = disk_open (FAIL_DISK_BYTES, PAGES_NO_LIMIT, "lz4");
  fill_disk (60);
}

void
close_disk (void)
{
  disk_close (&disk);
  free (buf);
}

/*--------------------------------------------------------------------*/

int
run_fail_tests (const char *name, TCase *tcase)
{
  Suite *suite = suite_create (name);
  SRunner *runner;
  int nr_failed;

  if (!FAULT_CALLS) {
    printf ("skipped: ThreadSanitizer stands before the same functions\n");
    return 77;
  }
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, make_dir, remove_dir);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
