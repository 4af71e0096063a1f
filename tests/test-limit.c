/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The default limit, over trees of /proc and /sys that the tests make: what
 * kernels and containers of several kinds show, and whether the least of it
 * is found and named.
 */

#include <config.h>

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcheck.h"
#include "limit.h"
#include "test-util.h"

#define GIB (MIB << 10)

/* 16 GiB, as the kernel says it. */
#define MEMINFO "MemTotal:       16777216 kB\nMemFree:         1234567 kB\n"

/* How version 1 says "no limit". */
#define V1_UNLIMITED "9223372036854771712\n"

#define V2_MOUNT                                                               \
  "22 1 0:20 / /proc rw,nosuid - proc proc rw\n"                               \
  "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 "          \
  "rw,nsdelegate,memory_recursiveprot\n"

#define V1_MOUNTS                                                              \
  "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"        \
  "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"       \
  "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:4 master:2 - "        \
  "cgroup cgroup rw,memory\n"

static char root[64];

static void
make_root (void)
{
  strcpy (root, "/tmp/zmem-test.XXXXXX");
  ck_assert_ptr_nonnull (mkdtemp (root));
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
remove_root (void)
{
  nftw (root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Write a file of the tree, with the folders above it. */
static void
put (const char *path, const char *text)
{
  char *name, *slash;
  FILE *file;

  ck_assert_int_gt (asprintf (&name, "%s%s", root, path), 0);
  for (slash = strchr (name + strlen (root) + 1, '/'); slash != NULL;
       slash = strchr (slash + 1, '/')) {
    *slash = '\0';
    ck_assert (mkdir (name, 0700) == 0 || errno == EEXIST);
    *slash = '/';
  }
  file = fopen (name, "w");
  ck_assert_ptr_nonnull (file);
  fputs (text, file);
  ck_assert_int_eq (fclose (file), 0);
  free (name);
}

static void
expect (uint64_t bytes, const char *text)
{
  struct memory_bound bound;

  ck_assert_int_eq (memory_bound_find (root, &bound), 0);
  ck_assert_uint_eq (bound.bytes, bytes);
  ck_assert_str_eq (bound.text, text);
}

START_TEST (test_no_cgroups)
{
  put ("/proc/meminfo", MEMINFO);
  expect (16 * GIB, "physical memory");

  put ("/proc/self/cgroup", "");
  put ("/proc/self/mountinfo", "");
  expect (16 * GIB, "physical memory");
}
END_TEST

START_TEST (test_no_meminfo)
{
  struct memory_bound bound;

  ck_assert_int_eq (memory_bound_find (root, &bound), -ENOENT);
  put ("/proc/meminfo", "MemFree: 5 kB\n");
  ck_assert_int_eq (memory_bound_find (root, &bound), -ENODATA);
}
END_TEST

START_TEST (test_v2)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/cgroup", "0::/system.slice/zmem.service\n");
  put ("/proc/self/mountinfo", V2_MOUNT);
  put ("/sys/fs/cgroup/system.slice/zmem.service/memory.max", "4294967296\n");
  expect (4 * GIB, "memory.max of the control group "
                   "/system.slice/zmem.service");
}
END_TEST

START_TEST (test_v2_max)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/cgroup", "0::/system.slice/zmem.service\n");
  put ("/proc/self/mountinfo", V2_MOUNT);
  put ("/sys/fs/cgroup/system.slice/zmem.service/memory.max", "max\n");
  put ("/sys/fs/cgroup/system.slice/zmem.service/memory.high", "max\n");
  put ("/sys/fs/cgroup/system.slice/memory.max", "max\n");
  expect (16 * GIB, "physical memory");

  /* More than there is bounds nothing. */
  put ("/sys/fs/cgroup/system.slice/memory.max", "17179869185\n");
  expect (16 * GIB, "physical memory");
  put ("/sys/fs/cgroup/system.slice/memory.max", "17179869183\n");
  expect (16 * GIB - 1, "memory.max of the control group /system.slice");
}
END_TEST

START_TEST (test_v2_throttled)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/cgroup", "0::/a\n");
  put ("/proc/self/mountinfo", V2_MOUNT);
  put ("/sys/fs/cgroup/a/memory.max", "8589934592\n");
  put ("/sys/fs/cgroup/a/memory.high", "1073741824\n");
  expect (GIB, "memory.high of the control group /a");
}
END_TEST

/* The least counts, wherever on the way up it is. */
START_TEST (test_v2_nested)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/cgroup", "0::/a/b/c\n");
  put ("/proc/self/mountinfo", V2_MOUNT);
  put ("/sys/fs/cgroup/a/b/c/memory.max", "3221225472\n");
  put ("/sys/fs/cgroup/a/b/memory.max", "max\n");
  put ("/sys/fs/cgroup/a/memory.max", "2147483648\n");
  /* Of somebody else. */
  put ("/sys/fs/cgroup/a/b/c/d/memory.max", "4096\n");
  put ("/sys/fs/cgroup/a/other/memory.max", "4096\n");
  expect (2 * GIB, "memory.max of the control group /a");

  put ("/sys/fs/cgroup/a/b/memory.max", "1073741824\n");
  expect (GIB, "memory.max of the control group /a/b");
}
END_TEST

/* A container with a namespace of its own: its group is the top. */
START_TEST (test_v2_namespace)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/cgroup", "0::/\n");
  put ("/proc/self/mountinfo", V2_MOUNT);
  put ("/sys/fs/cgroup/memory.max", "536870912\n");
  expect (512 * MIB, "memory.max of the control group /");

  /* Entered from outside of it. */
  put ("/proc/self/cgroup", "0::/../../other\n");
  expect (512 * MIB, "memory.max of the control group /");
}
END_TEST

START_TEST (test_v1)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/mountinfo", V1_MOUNTS);
  put ("/proc/self/cgroup",
       "9:name=systemd:/x\n4:memory:/jobs/7\n3:cpuset:/cpus\n0::/\n");
  put ("/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "2147483648\n");
  put ("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", V1_UNLIMITED);
  put ("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED);
  /* Of a hierarchy that has no memory controller. */
  put ("/sys/fs/cgroup/cpu/jobs/7/memory.limit_in_bytes", "4096\n");
  expect (2 * GIB, "memory.limit_in_bytes of the control group /jobs/7");

  put ("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1073741824\n");
  expect (GIB, "memory.limit_in_bytes of the control group /jobs");

  put ("/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", V1_UNLIMITED);
  put ("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", V1_UNLIMITED);
  expect (16 * GIB, "physical memory");
}
END_TEST

/* Several controllers mounted as one; names that only contain "memory". */
START_TEST (test_v1_joined)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/mountinfo",
       "35 31 0:32 / /cg rw - cgroup cgroup rw,cpu,memory,blkio\n"
       "36 31 0:33 / /no rw - cgroup cgroup rw,name=memory\n");
  put ("/proc/self/cgroup", "5:name=memory:/n\n4:cpu,memory,blkio:/m\n");
  put ("/cg/m/memory.limit_in_bytes", "3221225472\n");
  put ("/cg/n/memory.limit_in_bytes", "4096\n");
  put ("/no/m/memory.limit_in_bytes", "4096\n");
  expect (3 * GIB, "memory.limit_in_bytes of the control group /m");
}
END_TEST

/* A container without a namespace: the path is the host's, the mount shows
 * only the part below it.
 */
START_TEST (test_v1_container)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/mountinfo",
       "35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup "
       "rw,memory\n");
  put ("/proc/self/cgroup", "4:memory:/docker/0123\n");
  put ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  expect (GIB, "memory.limit_in_bytes of the control group /");

  /* A group of its own inside. */
  put ("/proc/self/cgroup", "4:memory:/docker/0123/inner\n");
  put ("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "536870912\n");
  expect (512 * MIB, "memory.limit_in_bytes of the control group /inner");

  /* Elsewhere: a name that begins alike is no parent. */
  put ("/proc/self/cgroup", "4:memory:/docker/01234/inner\n");
  expect (GIB, "memory.limit_in_bytes of the control group /");
}
END_TEST

/* Version 1 for memory, version 2 for the rest, and the other way round. */
START_TEST (test_both_versions)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/mountinfo", V1_MOUNTS
       "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  put ("/proc/self/cgroup", "4:memory:/one\n0::/two\n");
  put ("/sys/fs/cgroup/memory/one/memory.limit_in_bytes", "2147483648\n");
  put ("/sys/fs/cgroup/unified/two/cgroup.procs", "1\n");
  expect (2 * GIB, "memory.limit_in_bytes of the control group /one");

  put ("/sys/fs/cgroup/unified/two/memory.max", "1073741824\n");
  expect (GIB, "memory.max of the control group /two");
}
END_TEST

/* Names with spaces, colons and backslashes. */
START_TEST (test_odd_names)
{
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/mountinfo",
       "30 23 0:26 / /my\\040groups\\134x rw - cgroup2 none rw\n");
  put ("/proc/self/cgroup", "0::/a b/c:d\n");
  put ("/my groups\\x/a b/c:d/memory.max", "1073741824\n");
  expect (GIB, "memory.max of the control group /a b/c:d");
}
END_TEST

/* What no kernel writes must do no harm. */
START_TEST (test_nonsense)
{
  static const char *const mounts[] = {
    "\n",
    "30\n",
    "30 23 0:26 / /m\n",
    "30 23 0:26 / /m rw\n",
    "30 23 0:26 / /m rw -\n",
    "30 23 0:26 / /m rw - cgroup2\n",
    "30 23 0:26 / /m rw - cgroup2 none\n",
    "      - cgroup2 \n",
    "30 23 0:26 / /m\\04 rw - cgroup2 none rw\n",
    "30 23 0:26 / \\ rw - cgroup2 none rw\n",
    " - - -\n",
  };
  static const char *const groups[] = {
    "",       "0",        "0:",        "0::",           "::", ":::", "0::x",
    "0::/..", "4:memory", "4:memory:", "4:,memory,:/m",
  };
  static const char *const limits[] = { "", "\n", "max", "-", "1e9x" };
  unsigned m, g, l;
  struct memory_bound bound;

  put ("/proc/meminfo", MEMINFO);
  for (m = 0; m < sizeof mounts / sizeof mounts[0]; ++m)
    for (g = 0; g < sizeof groups / sizeof groups[0]; ++g)
      for (l = 0; l < sizeof limits / sizeof limits[0]; ++l) {
        put ("/proc/self/mountinfo", mounts[m]);
        put ("/proc/self/cgroup", groups[g]);
        put ("/m/memory.max", limits[l]);
        ck_assert_int_eq (memory_bound_find (root, &bound), 0);
        ck_assert_uint_le (bound.bytes, 16 * GIB);
      }
}
END_TEST

/* A path too long to be told is cut, not overrun. */
START_TEST (test_long_path)
{
  char path[1024], name[1100], line[1100];
  struct memory_bound bound;
  unsigned i;

  for (i = 0; i < sizeof path - 1; ++i)
    path[i] = i % 100 == 0 ? '/' : 'x';
  path[i] = '\0';
  put ("/proc/meminfo", MEMINFO);
  put ("/proc/self/mountinfo", V2_MOUNT);
  snprintf (line, sizeof line, "0::%s\n", path);
  put ("/proc/self/cgroup", line);
  snprintf (name, sizeof name, "/sys/fs/cgroup%s/memory.max", path);
  put (name, "1073741824\n");
  ck_assert_int_eq (memory_bound_find (root, &bound), 0);
  ck_assert_uint_eq (bound.bytes, GIB);
  ck_assert_uint_eq (strlen (bound.text), LIMIT_TEXT_BYTES - 1);
}
END_TEST

START_TEST (test_percent)
{
  struct memory_bound bound = { .bytes = 16 * GIB };

  ck_assert_uint_eq (memory_bound_percent (&bound, 100), 16 * GIB);
  ck_assert_uint_eq (memory_bound_percent (&bound, 50), 8 * GIB);
  /* 13743895347.2 bytes, in whole pages. */
  ck_assert_uint_eq (memory_bound_percent (&bound, LIMIT_DEFAULT_PERCENT),
                     UINT64_C (13743894528));
  bound.bytes = 4095;
  ck_assert_uint_eq (memory_bound_percent (&bound, 100), 0);
  bound.bytes = UINT64_MAX;
  ck_assert_uint_eq (memory_bound_percent (&bound, 100), UINT64_MAX - 4095);
}
END_TEST

/* A small group keeps 16 MiB for the rest of the process, or a half. */
START_TEST (test_default_percent)
{
  static const struct {
    uint64_t mib;
    unsigned percent;
  } cases[] = {
    { 16 << 10, 80 }, { 80, 80 }, { 79, 79 }, { 64, 75 },
    { 33, 51 },       { 32, 50 }, { 1, 50 },  { 0, 50 },
  };
  struct memory_bound bound;

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    bound.bytes = cases[i].mib << 20;
    ck_assert_uint_eq (memory_bound_default_percent (&bound), cases[i].percent);
  }
}
END_TEST

/* This very machine: whatever bounds it, something does. */
START_TEST (test_this_machine)
{
  struct memory_bound bound;
  const uint64_t physical =
    (uint64_t) sysconf (_SC_PHYS_PAGES) * (uint64_t) sysconf (_SC_PAGESIZE);

  ck_assert_int_eq (memory_bound_find ("", &bound), 0);
  ck_assert_uint_gt (bound.bytes, 0);
  ck_assert_uint_le (bound.bytes, physical);
  printf ("here: %" PRIu64 " bytes, by %s\n", bound.bytes, bound.text);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("limit");
  TCase *tcase = tcase_create ("bound");
  SRunner *runner;
  int nr_failed;

  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, make_root, remove_root);
  tcase_add_test (tcase, test_no_cgroups);
  tcase_add_test (tcase, test_no_meminfo);
  tcase_add_test (tcase, test_v2);
  tcase_add_test (tcase, test_v2_max);
  tcase_add_test (tcase, test_v2_throttled);
  tcase_add_test (tcase, test_v2_nested);
  tcase_add_test (tcase, test_v2_namespace);
  tcase_add_test (tcase, test_v1);
  tcase_add_test (tcase, test_v1_joined);
  tcase_add_test (tcase, test_v1_container);
  tcase_add_test (tcase, test_both_versions);
  tcase_add_test (tcase, test_odd_names);
  tcase_add_test (tcase, test_nonsense);
  tcase_add_test (tcase, test_long_path);
  tcase_add_test (tcase, test_percent);
  tcase_add_test (tcase, test_default_percent);
  tcase_add_test (tcase, test_this_machine);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
