/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the system refuses, in process: the Nth call of a family fails, for
 * every N until no call does.  Each time a clean error or none; the store
 * consistent, its data whole; nothing leaked, by counts of allocations and
 * descriptors, under AddressSanitizer by its own; and the same once more, with
 * nothing failing, succeeds.
 *
 * Pages are test-alloc-failure's, calls of a whole server test-faults.sh's.
 */

#include <config.h>

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "commands.h"
#include "compactor.h"
#include "control.h"
#include "fail-nth.h"
#include "fault-calls.h"
#include "limit.h"
#include "memlock.h"
#include "options.h"
#include "probe.h"
#include "statsfile.h"
#include "store-fixture.h"
#include "test-util.h"

#define MAX_NTH 5000
#define SIZE (4 * MIB)

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

static char dir[] = "/tmp/zmem-fail-nth.XXXXXX";

static char *
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

static void
make_dir (void)
{
  ck_assert_ptr_nonnull (mkdtemp (dir));
}

static void
remove_dir (void)
{
  nftw (dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/*--------------------------------------------------------------------*/

/* What is tried with a failing call.  `act` returns 0 or -errno and leaves
 * nothing of what it made; `check` may look at what is there then.
 */
struct scene {
  const char *name;
  int (*act) (void);
  void (*check) (int r, bool failed);
};

/* Of an act that gives one. */
static char sentence[1024];

/* An error and a sentence, or neither. */
static void
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
  return (struct holdings){ fault_nr_allocations (), nr_open_files () };
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

/* Calls made to fail until none was left; in whatever thread.  Returns how
 * many.
 */
static uint64_t
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
  for (nth = 1; failed && nth < MAX_NTH; ++nth) {
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
/* The life of a store. */

static struct codec_spec life_codec;
static int nr_ranges; /* of address space */

static int
count_reserve (struct pages *pages, size_t bytes, void **addr)
{
  const int r = pages_anonymous.reserve (pages, bytes, addr);

  nr_ranges += r == 0;
  return r;
}

static void
count_release (struct pages *pages, void *addr, size_t bytes)
{
  --nr_ranges;
  pages_anonymous.release (pages, addr, bytes);
}

static int
live (void)
{
  struct pages_ops ops = pages_anonymous;
  const struct store_params params = { .size_bytes = SIZE,
                                       .limit_bytes = PAGES_NO_LIMIT,
                                       .codec = life_codec,
                                       .nr_contexts = 2,
                                       .pages_ops = &ops };
  struct store *store = NULL;
  int r;

  ops.reserve = count_reserve;
  ops.release = count_release;
  r = store_create (&params, &store);
  if (r < 0)
    return r;
  r = store_start (store);
  if (r == 0)
    r = store_start_worker (store);
  if (r == 0)
    store_stop_worker (store);
  store_destroy (store);
  return r;
}

static void
check_life (int r, bool failed)
{
  (void) failed;
  ck_assert (r == 0 || r == -ENOMEM || r == -EMFILE || r == -EAGAIN);
  ck_assert_int_eq (nr_ranges, 0);
}

/* Loop: the codec. */
START_TEST (test_life)
{
  static const struct codec_spec codecs[] = { { CODEC_LZ4, 1 },
                                              { CODEC_ZSTD, 1 },
                                              { CODEC_RAW, 0 } };
  const struct scene scene = { "life of a store", live, check_life };

  life_codec = codecs[_i];
  ck_assert_uint_gt (fail_each (&scene, FAULT_MALLOC), 2);
  ck_assert_uint_gt (fail_each (&scene, FAULT_MMAP), 5);
  ck_assert_uint_gt (fail_each (&scene, FAULT_MADVISE), 5);
  ck_assert_uint_gt (fail_each (&scene, FAULT_SOCKET), 0);
  ck_assert_uint_gt (fail_each (&scene, FAULT_THREAD), 0);
  fail_each (&scene, FAULT_FILE);
}
END_TEST

/* Advice that is needed: a huge page would be more than what is counted.
 * The second one, that the pages stay out of core dumps, is not.
 */
START_TEST (test_advice)
{
  struct pages pages;
  void *addr;

  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  for (uint64_t nth = 0; nth <= 2; ++nth) {
    int r;

    ck_assert_int_eq (pages_reserve (&pages, MIB, &addr), 0);
    fail_nth (FAULT_MADVISE, nth);
    r = pages_activate (&pages, addr, MIB);
    ck_assert_int_eq (fail_nth_end (), nth > 0);
    ck_assert_int_eq (r, nth == 1 ? -ENOMEM : 0);
    pages_release (&pages, addr, MIB);
  }
}
END_TEST

/*--------------------------------------------------------------------*/
/* A disk with data. */

static struct disk disk;
static struct rng rng;
static uint8_t *buf; /* SIZE bytes */

static void
fill_disk (unsigned nr_writes)
{
  static const char *const codecs[] = { "lz4", "zstd", "none" };

  for (unsigned i = 0; i < nr_writes; ++i) {
    const uint64_t count = rng_size (&rng, 200000);
    const uint64_t offset = rng_below (&rng, SIZE - count);

    if (i % 10 == 0)
      disk_set_codec (&disk, codecs[i / 10 % 3]);
    make_range (&rng, buf, count, offset);
    disk_write (&disk, buf, count, offset);
  }
}

static void
open_disk (void)
{
  rng_init (&rng, test_seed (), 1);
  buf = malloc (SIZE);
  ck_assert_ptr_nonnull (buf);
  disk = disk_open (SIZE, PAGES_NO_LIMIT, "lz4");
  fill_disk (60);
}

static void
close_disk (void)
{
  disk_close (&disk);
  free (buf);
}

/* Reads, writes, zeroes, trims and extents allocate nothing: they cannot fail
 * for want of it, and a server that is swapped to does not wait for itself.
 */
START_TEST (test_requests)
{
  unsigned nr_refused = 0;

  open_disk ();
  for (unsigned i = 0; i < 200; ++i) {
    const uint64_t count = rng_size (&rng, 200000);
    const uint64_t offset = rng_below (&rng, SIZE - count);
    struct store *store = disk.store;

    make_range (&rng, buf, count, offset);
    fail_nth (FAULT_MALLOC, 1);
    nr_refused += store_read (store, disk.scratch, count, offset) != 0;
    nr_refused += store_zero (store, count, offset, i % 2) != 0;
    nr_refused += store_write (store, buf, count, offset) != 0;
    nr_refused += store_trim (store, count / 4, offset) != 0;
    ck_assert (!fail_nth_end ());
    ck_assert_uint_eq (fail_nth_calls (), 0);
    disk_write (&disk, buf, count, offset);
  }
  ck_assert_uint_eq (nr_refused, 0);
  disk_verify (&disk, SIZE, 0);
  close_disk ();
}
END_TEST

static const struct codec_spec codec_pairs[][2] = {
  { { CODEC_LZ4, 1 }, { CODEC_ZSTD, 3 } },
  { { CODEC_ZSTD, 3 }, { CODEC_ZSTD, 1 } },
  { { CODEC_ZSTD, 1 }, { CODEC_LZ4, 4 } },
  { { CODEC_LZ4, 4 }, { CODEC_RAW, 0 } },
};
static const struct codec_spec *from, *to;

static int
change_codec (void)
{
  return store_set_codec (disk.store, to);
}

static void
check_codec (int r, bool failed)
{
  const struct codec_spec now = store_codec (disk.store);

  (void) failed;
  ck_assert (r == 0 || r == -ENOMEM);
  ck_assert_int_eq (now.id, r == 0 ? to->id : from->id);
  ck_assert_int_eq (now.level, r == 0 ? to->level : from->level);
  disk_check_all (&disk);
  make_range (&rng, buf, 20000, 3000);
  disk_write (&disk, buf, 20000, 3000);
  ck_assert_int_eq (store_set_codec (disk.store, to), 0);
  ck_assert_int_eq (store_set_codec (disk.store, from), 0);
  disk_check_all (&disk);
}

/* Loop: from which codec to which. */
START_TEST (test_codec)
{
  const struct scene scene = { "change of codec", change_codec, check_codec };

  open_disk ();
  from = &codec_pairs[_i][0];
  to = &codec_pairs[_i][1];
  ck_assert_int_eq (store_set_codec (disk.store, from), 0);
  fail_each (&scene, FAULT_MALLOC);
  close_disk ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Pages, where the unit tests of requests do not come by: compaction, the
 * limit, the codec.
 */

static void
trim_most (void)
{
  for (uint64_t blkno = 0; blkno < disk.nr_blocks; ++blkno)
    if (blkno % 5 != 0)
      disk_trim (&disk, TEST_BLOCK_BYTES, blkno * TEST_BLOCK_BYTES);
}

static void
disturb_disk (void)
{
  struct compact_report report;
  const struct codec_spec zstd = { CODEC_ZSTD, 2 };
  uint64_t ticket;
  int r;

  trim_most ();
  ticket = store_compact (disk.store, -1);
  ck_assert (store_compact_report (disk.store, ticket, &report));
  disk_check (&disk);
  r = store_set_limit (disk.store, disk_held (&disk) * 9 / 10);
  ck_assert (r == 0 || r == -EINVAL);
  for (unsigned i = 0; i < 10; ++i) {
    const uint64_t count = rng_size (&rng, 100000);
    const uint64_t offset = rng_below (&rng, SIZE - count);

    make_range (&rng, buf, count, offset);
    r = store_write (disk.store, buf, count, offset);
    ck_assert (r == 0 || r == -ENOMEM || r == -ENOSPC);
    disk_verify_old_or_new (&disk, buf, count, offset);
  }
  r = store_set_codec (disk.store, &zstd);
  ck_assert (r == 0 || r == -ENOSPC);
  ck_assert_int_eq (store_set_limit (disk.store, PAGES_NO_LIMIT), 0);
  rng_fill (&rng, buf, MIB);
  r = store_write (disk.store, buf, MIB, MIB);
  ck_assert (r == 0 || r == -ENOMEM);
  disk_verify_old_or_new (&disk, buf, MIB, MIB);
  disk_check_all (&disk);
}

/* ZMEM_LONG=1: every N, where there are many. */
static bool
is_long (void)
{
  const char *text = getenv ("ZMEM_LONG");

  return text != NULL && *text != '\0';
}

/* Loop: the kind of call. */
START_TEST (test_pages)
{
  const enum probe_kind kind = (enum probe_kind) _i;
  uint64_t nth = 1, failed_before;

  open_disk ();
  do {
    fill_disk (12);
    failed_before = probe_nr_failed ();
    probe_fail_nth (kind, nth);
    disturb_disk ();
    nth += nth < 12 || is_long () ? 1 : 1 + rng_below (&rng, 12);
  } while (probe_nr_failed () > failed_before && nth < MAX_NTH);
  probe_fail_nth (kind, 0);
  ck_assert_uint_lt (nth, MAX_NTH);
  printf ("compaction, limit and codec: %s: %" PRIu64 " calls failed\n",
          probe_kind_names[kind], probe_nr_failed ());
  fflush (stdout);
  fill_disk (12);
  disk_check_all (&disk);
  close_disk ();
}
END_TEST

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
  Suite *suite = suite_create ("fail-nth");
  TCase *tcase = tcase_create ("fail-nth");
  SRunner *runner;
  int nr_failed;

  test_start ("test-fail-nth");
  if (!FAULT_CALLS) {
    printf ("skipped: ThreadSanitizer stands before the same functions\n");
    return 77;
  }
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, make_dir, remove_dir);
  tcase_add_loop_test (tcase, test_life, 0, 3);
  tcase_add_test (tcase, test_advice);
  tcase_add_test (tcase, test_requests);
  tcase_add_loop_test (tcase, test_codec, 0,
                       sizeof codec_pairs / sizeof codec_pairs[0]);
  tcase_add_loop_test (tcase, test_pages, 0, NR_PROBE_KINDS);
  tcase_add_test (tcase, test_commands);
  tcase_add_test (tcase, test_services);
  tcase_add_test (tcase, test_lock);
  tcase_add_test (tcase, test_bound);
  tcase_add_test (tcase, test_options);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
