/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Pages: what is held is what the kernel says is resident, the limit is
 * never passed, and what fails leaves nothing behind.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libcheck.h"
#include "pages.h"
#include "probe.h"
#include "test-util.h"

#define RANGE_PAGES 1024
#define RANGE_BYTES (RANGE_PAGES * PAGE_BYTES)

static struct pages pages;
static char *range;

static void
make_range_of (const struct pages_ops *ops, uint64_t limit)
{
  void *addr = NULL;

  probe_reset ();
  pages_init (&pages, ops, limit);
  ck_assert_int_eq (pages_reserve (&pages, RANGE_BYTES, &addr), 0);
  ck_assert_int_eq (pages_activate (&pages, addr, RANGE_BYTES), 0);
  range = addr;
}

static void
finish_range (void)
{
  pages_uncharge (&pages, resident_bytes (range, RANGE_BYTES));
  pages_release (&pages, range, RANGE_BYTES);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

static char *
page (size_t i)
{
  return range + i * PAGE_BYTES;
}

static void
check_held_is_resident (void)
{
  ck_assert_uint_eq (pages_held (&pages), resident_bytes (range, RANGE_BYTES));
}

START_TEST (test_reserved_only)
{
  void *addr = NULL;

  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_reserve (&pages, RANGE_BYTES, &addr), 0);
  ck_assert_uint_eq ((uintptr_t) addr % PAGE_BYTES, 0);
  ck_assert (!page_is_readable (addr));
  ck_assert (!page_is_readable ((char *) addr + RANGE_BYTES - 1));
  ck_assert_uint_eq (resident_bytes (addr, RANGE_BYTES), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_int_eq (pages_activate (&pages, addr, RANGE_BYTES), 0);
  ck_assert_uint_eq (resident_bytes (addr, RANGE_BYTES), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert (page_is_writable (addr));
  ck_assert (page_is_writable ((char *) addr + RANGE_BYTES - 1));
  pages_release (&pages, addr, RANGE_BYTES);
  ck_assert (!page_is_readable (addr));
}
END_TEST

START_TEST (test_odd_sizes_are_rounded)
{
  ck_assert_uint_eq (pages_round_up (0), 0);
  ck_assert_uint_eq (pages_round_up (1), PAGE_BYTES);
  ck_assert_uint_eq (pages_round_up (PAGE_BYTES), PAGE_BYTES);
  ck_assert_uint_eq (pages_round_up (PAGE_BYTES + 1), 2 * PAGE_BYTES);
}
END_TEST

/* No huge pages, or one touched page holds 2 MiB; not in core dumps. */
START_TEST (test_advice)
{
  uint64_t rss, huge;
  bool all_flags;

  make_range_of (&pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_populate (&pages, page (0), RANGE_BYTES), 0);
  ck_assert_uint_ge (smaps_of_range (range, RANGE_BYTES, "nh dd ", &rss, &huge,
                                     &all_flags),
                     1);
  ck_assert_uint_eq (huge, 0);
  ck_assert_uint_eq (rss, RANGE_BYTES);
  ck_assert (all_flags);
  finish_range ();
}
END_TEST

/* Reserved before a fork, activated after it. */
START_TEST (test_fork_between)
{
  void *addr = NULL;
  int status;
  pid_t pid;

  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_reserve (&pages, RANGE_BYTES, &addr), 0);
  pid = fork ();
  ck_assert_int_ne (pid, -1);
  if (pid == 0) {
    const bool ok = pages_activate (&pages, addr, RANGE_BYTES) == 0 &&
                    pages_populate (&pages, addr, 2 * PAGE_BYTES) == 0 &&
                    resident_bytes (addr, RANGE_BYTES) == 2 * PAGE_BYTES &&
                    is_all_zero (addr, 2 * PAGE_BYTES);
    _exit (ok ? 0 : 1);
  }
  ck_assert_int_eq (waitpid (pid, &status, 0), pid);
  ck_assert_int_eq (status, 0);
  pages_release (&pages, addr, RANGE_BYTES);
}
END_TEST

START_TEST (test_populate_and_purge)
{
  make_range_of (&pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_populate (&pages, page (3), 5 * PAGE_BYTES), 0);
  ck_assert_uint_eq (pages_held (&pages), 5 * PAGE_BYTES);
  check_held_is_resident ();
  ck_assert (is_all_zero (page (3), 5 * PAGE_BYTES));
  memset (page (3), 0xaa, 5 * PAGE_BYTES);

  ck_assert_int_eq (pages_purge (&pages, page (4), 2 * PAGE_BYTES), 0);
  ck_assert_uint_eq (pages_held (&pages), 3 * PAGE_BYTES);
  check_held_is_resident ();
  ck_assert_int_eq (pages_populate (&pages, page (4), 2 * PAGE_BYTES), 0);
  ck_assert (is_all_zero (page (4), 2 * PAGE_BYTES));
  ck_assert_int_eq (page (3)[PAGE_BYTES - 1], (char) 0xaa);
  ck_assert_int_eq (page (6)[0], (char) 0xaa);
  ck_assert_uint_eq (atomic_load (&pages.nr_populates), 2);
  ck_assert_uint_eq (atomic_load (&pages.nr_purges), 1);
  ck_assert_uint_eq (atomic_load (&pages.highest), 5 * PAGE_BYTES);
  check_held_is_resident ();
  finish_range ();
}
END_TEST

START_TEST (test_limit)
{
  make_range_of (&probe_ops, 4 * PAGE_BYTES);
  probe_watch_limit (4 * PAGE_BYTES);
  ck_assert_int_eq (pages_populate (&pages, page (0), 5 * PAGE_BYTES), -ENOSPC);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_uint_eq (probe_nr_calls (PROBE_POPULATE), 0);
  ck_assert_int_eq (pages_populate (&pages, page (0), 3 * PAGE_BYTES), 0);
  ck_assert_int_eq (pages_populate (&pages, page (3), 2 * PAGE_BYTES), -ENOSPC);
  ck_assert_int_eq (pages_populate (&pages, page (3), PAGE_BYTES), 0);
  ck_assert_int_eq (pages_populate (&pages, page (4), PAGE_BYTES), -ENOSPC);
  ck_assert_int_eq (pages_charge (&pages, 1), -ENOSPC);
  check_held_is_resident ();
  ck_assert_uint_eq (atomic_load (&pages.highest), 4 * PAGE_BYTES);

  ck_assert_int_eq (pages_purge (&pages, page (1), PAGE_BYTES), 0);
  ck_assert_int_eq (pages_populate (&pages, page (9), PAGE_BYTES), 0);
  check_held_is_resident ();
  ck_assert_uint_eq (atomic_load (&pages.highest), 4 * PAGE_BYTES);
  finish_range ();
}
END_TEST

/* A limit below held refuses growth, and lets held fall. */
START_TEST (test_limit_lowered)
{
  make_range_of (&pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_populate (&pages, page (0), 8 * PAGE_BYTES), 0);
  pages_set_limit (&pages, 4 * PAGE_BYTES);
  ck_assert_int_eq (pages_populate (&pages, page (8), PAGE_BYTES), -ENOSPC);
  ck_assert_int_eq (pages_charge (&pages, 1), -ENOSPC);
  ck_assert_int_eq (pages_purge (&pages, page (0), 4 * PAGE_BYTES), 0);
  ck_assert_int_eq (pages_populate (&pages, page (8), PAGE_BYTES), -ENOSPC);
  ck_assert_int_eq (pages_purge (&pages, page (4), PAGE_BYTES), 0);
  ck_assert_int_eq (pages_populate (&pages, page (8), PAGE_BYTES), 0);
  check_held_is_resident ();
  finish_range ();
}
END_TEST

START_TEST (test_foreign)
{
  make_range_of (&pages_anonymous, 3 * PAGE_BYTES);
  ck_assert_int_eq (pages_charge (&pages, 5000), 0);
  ck_assert_uint_eq (pages_held (&pages), 5000);
  ck_assert_int_eq (pages_populate (&pages, page (0), 2 * PAGE_BYTES), -ENOSPC);
  ck_assert_int_eq (pages_populate (&pages, page (0), PAGE_BYTES), 0);
  ck_assert_int_eq (pages_charge (&pages, 2 * PAGE_BYTES - 5000), 0);
  ck_assert_int_eq (pages_charge (&pages, 1), -ENOSPC);
  /* A sum that wraps is over any limit. */
  ck_assert_int_eq (pages_charge (&pages, UINT64_MAX), -ENOSPC);
  ck_assert_int_eq (pages_charge (&pages, UINT64_MAX - PAGE_BYTES), -ENOSPC);
  ck_assert_uint_eq (pages_held (&pages), 3 * PAGE_BYTES);
  pages_uncharge (&pages, 2 * PAGE_BYTES);
  check_held_is_resident ();
  finish_range ();
}
END_TEST

/* All or nothing. */
START_TEST (test_populate_fails)
{
  make_range_of (&probe_ops, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_populate (&pages, page (0), 2 * PAGE_BYTES), 0);
  for (size_t nr = 1; nr <= 64; nr *= 2) {
    probe_fail_nth (PROBE_POPULATE, 1);
    ck_assert_int_eq (pages_populate (&pages, page (10), nr * PAGE_BYTES),
                      -ENOMEM);
    ck_assert_uint_eq (pages_held (&pages), 2 * PAGE_BYTES);
    ck_assert_uint_eq (probe_resident_bytes (), 2 * PAGE_BYTES);
    ck_assert_int_eq (pages_populate (&pages, page (10), nr * PAGE_BYTES), 0);
    check_held_is_resident ();
    ck_assert_int_eq (pages_purge (&pages, page (10), nr * PAGE_BYTES), 0);
  }
  finish_range ();
}
END_TEST

START_TEST (test_purge_fails)
{
  make_range_of (&probe_ops, PAGES_NO_LIMIT);
  ck_assert_int_eq (pages_populate (&pages, page (0), 4 * PAGE_BYTES), 0);
  memset (page (0), 0x55, 4 * PAGE_BYTES);
  probe_fail_nth (PROBE_PURGE, 1);
  ck_assert_int_eq (pages_purge (&pages, page (1), 2 * PAGE_BYTES), -ENOMEM);
  ck_assert_uint_eq (pages_held (&pages), 4 * PAGE_BYTES);
  check_held_is_resident ();
  ck_assert_uint_eq (atomic_load (&pages.nr_purges), 0);
  ck_assert_int_eq (pages_purge (&pages, page (1), 2 * PAGE_BYTES), 0);
  check_held_is_resident ();
  finish_range ();
}
END_TEST

START_TEST (test_reserve_and_activate_fail)
{
  void *addr = NULL;

  probe_reset ();
  pages_init (&pages, &probe_ops, PAGES_NO_LIMIT);
  probe_fail_nth (PROBE_RESERVE, 1);
  ck_assert_int_eq (pages_reserve (&pages, RANGE_BYTES, &addr), -ENOMEM);
  ck_assert_int_eq (pages_reserve (&pages, RANGE_BYTES, &addr), 0);
  probe_fail_nth (PROBE_ACTIVATE, 1);
  ck_assert_int_eq (pages_activate (&pages, addr, RANGE_BYTES), -ENOMEM);
  pages_release (&pages, addr, RANGE_BYTES);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads, each with its own part of the range, together over the limit;
 * one more looks at held all the time.
 */

#define NR_THREADS 6
#define THREAD_PAGES (RANGE_PAGES / NR_THREADS)
#define THREADS_LIMIT (RANGE_PAGES / 4 * PAGE_BYTES)

static atomic_bool threads_done;

static void *
populate_and_purge (void *arg)
{
  const size_t first = (size_t) (uintptr_t) arg * THREAD_PAGES;
  const unsigned nr_rounds = test_quick () ? 200 : 2000;
  bool resident[THREAD_PAGES] = { false };
  struct rng rng;

  rng_init (&rng, test_seed (), 100 + first);
  for (unsigned i = 0; i < nr_rounds; ++i) {
    const size_t at = rng_below (&rng, THREAD_PAGES);
    size_t nr = 1;
    int r;

    while (at + nr < THREAD_PAGES && resident[at + nr] == resident[at] &&
           nr < 16)
      ++nr;
    if (resident[at])
      r = pages_purge (&pages, page (first + at), nr * PAGE_BYTES);
    else
      r = pages_populate (&pages, page (first + at), nr * PAGE_BYTES);
    if (r == 0)
      memset (resident + at, !resident[at], nr);
    else if (r != -ENOSPC || resident[at])
      test_note_failure ("populate or purge gave %d", r);
  }
  return NULL;
}

static void *
watch_held (void *arg)
{
  (void) arg;
  while (!atomic_load (&threads_done)) {
    if (pages_held (&pages) > THREADS_LIMIT)
      test_note_failure ("held is %" PRIu64, pages_held (&pages));
    sleep_us (20);
  }
  return NULL;
}

START_TEST (test_threads_at_the_limit)
{
  pthread_t threads[NR_THREADS], watcher;

  make_range_of (&probe_ops, THREADS_LIMIT);
  probe_watch_limit (THREADS_LIMIT);
  atomic_store (&threads_done, false);
  ck_assert_int_eq (pthread_create (&watcher, NULL, watch_held, NULL), 0);
  for (uintptr_t i = 0; i < NR_THREADS; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, populate_and_purge,
                                      (void *) i),
                      0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  atomic_store (&threads_done, true);
  pthread_join (watcher, NULL);
  check_held_is_resident ();
  ck_assert_uint_eq (probe_resident_bytes (), pages_held (&pages));
  ck_assert_uint_le (atomic_load (&pages.highest), THREADS_LIMIT);
  ck_assert_uint_ge (atomic_load (&pages.highest), pages_held (&pages));
  finish_range ();
}
END_TEST

/* A charge that has seen the limit before it is lowered must not be made
 * after that and pass it.  A signal lowers it, now and then in the middle of
 * a charge.  (Under ThreadSanitizer, which keeps signals back, hardly ever.)
 */
static volatile sig_atomic_t limit_lowered;
static uint64_t held_then;

static void
lower_limit (int signum)
{
  (void) signum;
  if (limit_lowered)
    return;
  pages_set_limit (&pages, 0);
  held_then = pages_held (&pages);
  limit_lowered = true;
}

static void
set_timer_us (unsigned us)
{
  const struct itimerval timer = { { 0, us }, { 0, us } };

  ck_assert_int_eq (setitimer (ITIMER_REAL, &timer, NULL), 0);
}

START_TEST (test_limit_lowered_in_a_charge)
{
  const struct sigaction action = { .sa_handler = lower_limit };
  unsigned nr_lowered = 0;

  pages_init (&pages, &pages_anonymous, PAGES_NO_LIMIT);
  ck_assert_int_eq (sigaction (SIGALRM, &action, NULL), 0);
  set_timer_us (50);
  for (unsigned i = 0; i < 10000000 && nr_lowered < 2000; ++i) {
    const int r = pages_charge (&pages, 1);

    if (limit_lowered) {
      ck_assert_uint_le (pages_held (&pages), held_then);
      pages_set_limit (&pages, PAGES_NO_LIMIT);
      ++nr_lowered;
      limit_lowered = false;
    }
    if (r == 0)
      pages_uncharge (&pages, 1);
  }
  set_timer_us (0);
  ck_assert_uint_eq (pages_held (&pages), 0);
}
END_TEST

/*--------------------------------------------------------------------*/

static void
check_grown_array (size_t elem_bytes, size_t nr_max)
{
  struct grown_array array;

  probe_reset ();
  pages_init (&pages, &probe_ops, PAGES_NO_LIMIT);
  ck_assert_int_eq (grown_array_reserve (&pages, &array, elem_bytes, nr_max),
                    0);
  ck_assert_int_eq (grown_array_activate (&pages, &array), 0);
  ck_assert_uint_eq (pages_held (&pages), 0);
  for (size_t i = 0; i < nr_max; i += i / 3 + 1) {
    char *elem = (char *) array.base + i * elem_bytes;
    ck_assert_int_eq (grown_array_touch (&pages, &array, i), 0);
    ck_assert (is_all_zero (elem, elem_bytes));
    memset (elem, 0xee, elem_bytes);
    ck_assert_int_eq (grown_array_touch (&pages, &array, i / 2), 0);
    ck_assert_uint_eq (pages_held (&pages), array.touched_bytes);
    ck_assert_uint_eq (probe_resident_bytes (), array.touched_bytes);
    /* No more than is needed but for the page begun. */
    ck_assert_uint_eq (array.touched_bytes,
                       pages_round_up ((i + 1) * elem_bytes));
  }
  ck_assert_int_eq (grown_array_touch (&pages, &array, nr_max - 1), 0);
  grown_array_release (&pages, &array);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_uint_eq (probe_nr_ranges (), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

START_TEST (test_grown_array)
{
  check_grown_array (1, 3 * PAGE_BYTES);
  check_grown_array (8, 1000);
  check_grown_array (24, 5000);
  check_grown_array (4095, 20);
  check_grown_array (4096, 20);
  check_grown_array (5000, 20);
}
END_TEST

START_TEST (test_grown_array_refused)
{
  struct grown_array array;

  probe_reset ();
  pages_init (&pages, &probe_ops, 2 * PAGE_BYTES);
  ck_assert_int_eq (grown_array_reserve (&pages, &array, 16, 4096), 0);
  ck_assert_int_eq (grown_array_activate (&pages, &array), 0);
  ck_assert_int_eq (grown_array_touch (&pages, &array, 256), 0);
  ck_assert_int_eq (grown_array_touch (&pages, &array, 512), -ENOSPC);
  ck_assert_uint_eq (pages_held (&pages), 2 * PAGE_BYTES);
  ck_assert_int_eq (grown_array_touch (&pages, &array, 511), 0);
  pages_set_limit (&pages, 3 * PAGE_BYTES);
  probe_fail_nth (PROBE_POPULATE, 1);
  ck_assert_int_eq (grown_array_touch (&pages, &array, 512), -ENOMEM);
  ck_assert_uint_eq (pages_held (&pages), 2 * PAGE_BYTES);
  ck_assert_int_eq (grown_array_touch (&pages, &array, 512), 0);
  ck_assert_uint_eq (probe_resident_bytes (), pages_held (&pages));
  grown_array_release (&pages, &array);
  ck_assert_uint_eq (pages_held (&pages), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("pages");
  TCase *tcase = tcase_create ("pages");
  SRunner *runner;
  int nr_failed;

  test_start ("test-pages");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_test (tcase, test_reserved_only);
  tcase_add_test (tcase, test_odd_sizes_are_rounded);
  tcase_add_test (tcase, test_advice);
  tcase_add_test (tcase, test_fork_between);
  tcase_add_test (tcase, test_populate_and_purge);
  tcase_add_test (tcase, test_limit);
  tcase_add_test (tcase, test_limit_lowered);
  tcase_add_test (tcase, test_foreign);
  tcase_add_test (tcase, test_populate_fails);
  tcase_add_test (tcase, test_purge_fails);
  tcase_add_test (tcase, test_reserve_and_activate_fail);
  tcase_add_test (tcase, test_threads_at_the_limit);
  tcase_add_test (tcase, test_limit_lowered_in_a_charge);
  tcase_add_test (tcase, test_grown_array);
  tcase_add_test (tcase, test_grown_array_refused);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
