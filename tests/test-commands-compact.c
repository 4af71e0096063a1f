/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands about compaction, on a real disk without a server: compact,
 * map, and a limit that is lowered.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands-fixture.h"
#include "format-check.h"
#include "libcheck.h"
#include "pages.h"
#include "pool.h"
#include "size-class.h"
#include "test-util.h"

/* Fill the disk with raw blocks and blocks of text, whose payloads are of
 * many sizes, then trim a random half of them.
 */
static void
make_holes (struct rng *rng)
{
  static uint8_t block[TEST_BLOCK_BYTES];
  const unsigned nr_blocks = 16 * MIB / sizeof block;
  unsigned i;

  for (i = 0; i < nr_blocks; ++i) {
    make_block (rng, i % 2 == 0 ? CONTENT_RANDOM : CONTENT_TEXT, block);
    ck_assert_int_eq (store_write (store, block, sizeof block,
                                   i * sizeof block),
                      0);
  }
  for (i = 0; i < nr_blocks; ++i)
    if (rng_once_in (rng, 2))
      ck_assert_int_eq (store_trim (store, sizeof block, i * sizeof block), 0);
}

/* A number of the last answer. */
static uint64_t
value (const char *name)
{
  const size_t name_bytes = strlen (name);
  char *copy = strdup (body), *rest = copy, *line;
  uint64_t number = 0;
  bool found = false;

  while ((line = strsep (&rest, "\n")) != NULL)
    if (strncmp (line, name, name_bytes) == 0 && line[name_bytes] == ' ') {
      number = strtoull (line + name_bytes + 1, NULL, 10);
      found = true;
    }
  free (copy);
  ck_assert_msg (found, "no %s in %s", name, body);
  return number;
}

/* The answer has these lines, in this order, and no others. */
static void
is_report (const char *state)
{
  static const char *const names[] = {
    "compact_state",
    "compact_moved_objects",
    "compact_copied_bytes",
    "compact_returned_bytes",
    "compact_released_zspages",
    "compact_skipped_objects",
    "compact_running_microseconds",
    "reclaimable_bytes",
  };
  char *copy = strdup (body), *rest = copy, *line, expected[64];
  unsigned i;

  for (i = 0; i < sizeof names / sizeof names[0]; ++i) {
    line = strsep (&rest, "\n");
    ck_assert_ptr_nonnull (line);
    snprintf (expected, sizeof expected, "%s ", names[i]);
    ck_assert_msg (strncmp (line, expected, strlen (expected)) == 0,
                   "no %s: %s", names[i], line);
  }
  ck_assert_str_eq (rest, "");
  free (copy);
  snprintf (expected, sizeof expected, "compact_state %s\n", state);
  ck_assert_msg (strncmp (body, expected, strlen (expected)) == 0, "%s", body);
}

START_TEST (test_compact)
{
  struct rng rng;
  uint64_t held, returned;

  rng_init (&rng, test_seed (), 3);
  answers ("compact status", "compact_state idle\n");
  is_report ("idle");
  ck_assert_uint_eq (value ("reclaimable_bytes"), 0);

  make_holes (&rng);
  held = get_stats ().held_bytes;
  answers ("compact status", "compact_moved_objects 0\n");
  is_report ("idle");
  ck_assert_uint_gt (value ("reclaimable_bytes"), 0);

  answers ("compact", "compact_state finished\n");
  is_report ("finished");
  returned = value ("compact_returned_bytes");
  ck_assert_uint_gt (value ("compact_moved_objects"), 0);
  ck_assert_uint_gt (returned, 0);
  ck_assert_uint_le (value ("compact_copied_bytes"), returned);
  ck_assert_uint_eq (value ("compact_skipped_objects"), 0);
  ck_assert_uint_le (get_stats ().held_bytes, held - returned);
  ck_assert_uint_eq (value ("reclaimable_bytes"),
                     get_stats ().reclaimable_bytes);

  answers ("compact status", "compact_state finished\n");
  is_report ("finished");
  ck_assert_uint_eq (value ("compact_returned_bytes"), returned);
}
END_TEST

/* How many zspages the class of objects of this size has. */
static uint64_t
nr_zspages_of (size_t bytes)
{
  struct pool_class_stats class;

  pool_class_stats (store_pool (store),
                    size_class_of (size_class_table (), bytes), &class);
  return class.nr_zspages;
}

/* One class, and no other. */
START_TEST (test_compact_class)
{
  struct pool *pool;
  struct pool_class_stats class;
  uint64_t nr_before[MAX_SIZE_CLASSES], nr_raw;
  struct rng rng;
  unsigned i;

  rng_init (&rng, test_seed (), 4);
  make_holes (&rng);
  pool = store_pool (store);
  for (i = 0; i < pool_nr_classes (pool); ++i) {
    pool_class_stats (pool, i, &class);
    nr_before[i] = class.nr_zspages;
  }
  nr_raw = nr_zspages_of (4096);

  answers ("compact wait class 4K", "compact_state finished\n");
  ck_assert_uint_gt (value ("compact_released_zspages"), 0);
  ck_assert_uint_eq (nr_zspages_of (4096),
                     nr_raw - value ("compact_released_zspages"));
  for (i = 0; i < pool_nr_classes (pool) - 1; ++i) {
    pool_class_stats (pool, i, &class);
    ck_assert_uint_eq (class.nr_zspages, nr_before[i]);
  }

  /* It is packed now. */
  answers ("compact class 4096", "compact_moved_objects 0\n");
  answers ("compact  class\t1", "compact_state finished\n");
}
END_TEST

START_TEST (test_compact_refused)
{
  refuses ("compact now", "takes [wait] [class SIZE], or status, not \"now\"");
  refuses ("compact wait wait", "not \"wait wait\"");
  refuses ("compact status wait", "not \"status wait\"");
  refuses ("compact status class 5", "not \"status class 5\"");
  refuses ("compact class 5 wait", "not \"class 5 wait\"");
  refuses ("compact class 5 5", "not \"class 5 5\"");
  refuses ("compact class", "takes the size of an object, from 1 to 4096");
  refuses ("compact wait class", "takes the size of an object");
  refuses ("compact class 0", "class \"0\": an object has 1 to 4096 bytes");
  refuses ("compact class 4097", "1 to 4096 bytes");
  refuses ("compact class 5000", "1 to 4096 bytes");
  refuses ("compact class -1", "negative");
  refuses ("compact class raw", "class \"raw\": ");
  refuses ("compact class \033[31m", "class \"?[31m\": ");
  answers ("compact status", "compact_state idle\n");
}
END_TEST

/* With a worker that may copy 4 KiB a second: "wait" is asked again and
 * again, until the run has ended; others are answered meanwhile.
 */
START_TEST (test_compact_wait)
{
  struct command_wait first;
  struct rng rng;
  unsigned i;

  store_destroy (store);
  open_store (true, 4096);
  rng_init (&rng, test_seed (), 5);
  make_holes (&rng);
  ck_assert_int_eq (store_start_worker (store), 0);

  ck_assert_int_eq (run_command ("compact wait"), -EAGAIN);
  ck_assert_uint_eq (body_bytes, 0);
  ck_assert_str_eq (error, "");
  first = command_wait;

  /* Another client. */
  command_wait = (struct command_wait) { 0 };
  answers ("stats", "hole_blocks ");
  answers ("compact status", "compact_state running\n");
  is_report ("running");
  ck_assert_uint_gt (value ("reclaimable_bytes"), 0);
  /* One more, after this one; and its client has hung up. */
  ck_assert_int_eq (run_command ("compact wait class 100"), -EAGAIN);

  command_wait = first;
  for (i = 0; i < 3; ++i) {
    ck_assert_int_eq (run_command ("compact wait"), -EAGAIN);
    ck_assert_uint_eq (command_wait.ticket, first.ticket);
  }
  command_wait = (struct command_wait) { 0 };
  store_stop_worker (store);
}
END_TEST

/* The same with nothing in its way. */
START_TEST (test_compact_wait_to_the_end)
{
  uint64_t held;
  struct rng rng;
  int r;

  store_destroy (store);
  open_store (true, 0);
  rng_init (&rng, test_seed (), 6);
  make_holes (&rng);
  held = get_stats ().held_bytes;
  ck_assert_int_eq (store_start_worker (store), 0);
  while ((r = run_command ("compact wait")) == -EAGAIN) {
    ck_assert_uint_eq (body_bytes, 0);
    sleep_us (1000);
  }
  ck_assert_int_eq (r, 0);
  is_report ("finished");
  ck_assert_uint_gt (value ("compact_returned_bytes"), 0);
  ck_assert_uint_lt (get_stats ().held_bytes, held);

  /* Not waited for, it is asked for all the same. */
  ck_assert_int_eq (run_command ("compact"), 0);
  while (strstr (body, "compact_state running\n") != NULL) {
    sleep_us (1000);
    ck_assert_int_eq (run_command ("compact status"), 0);
  }
  is_report ("finished");
  ck_assert_uint_eq (value ("compact_moved_objects"), 0);
  store_stop_worker (store);
}
END_TEST

/* A lower limit has memory reclaimed before it is said to be passed, unless
 * compaction is for when it is asked for.
 */
START_TEST (test_limit_reclaims)
{
  const bool manual = _i;
  char line[64];
  struct rng rng;
  uint64_t low;

  store_destroy (store);
  open_store (manual, 0);
  rng_init (&rng, test_seed (), 7);
  make_holes (&rng);
  low = get_stats ().held_bytes - 2 * MIB;
  snprintf (line, sizeof line, "limit %" PRIu64, low);
  answers (line, "held_bytes ");
  if (manual) {
    ck_assert_uint_gt (value ("held_bytes"), low);
    ck_assert_ptr_nonnull (strstr (body, "note more is held"));
    answers ("compact", "compact_state finished\n");
    answers ("limit", "held_bytes ");
  }
  ck_assert_uint_le (value ("held_bytes"), low);
  ck_assert_ptr_null (strstr (body, "note"));
  ck_assert_uint_gt (get_stats ().compact_returned_bytes, 0);
}
END_TEST

/* A line of "map" says what the pool's statistics say. */
static void
check_map_line (const char *line)
{
  static const char hex[] = "0123456789abcdef";
  struct pool_class_stats class;
  unsigned object_bytes, nr_objects, i, last_fullness = 0xff, nr_full = 0;
  uint64_t nr_zspages, nr_pages = 0;
  int used = 0;

  ck_assert_int_eq (sscanf (line, "%u %u %" SCNu64 " %n", &object_bytes,
                            &nr_objects, &nr_zspages, &used),
                    3);
  pool_class_stats (store_pool (store),
                    size_class_of (size_class_table (), object_bytes), &class);
  ck_assert_uint_eq (object_bytes, class.object_bytes);
  ck_assert_uint_eq (nr_objects, class.objects_per_zspage);
  ck_assert_uint_eq (nr_zspages, class.nr_zspages);
  line += used;
  ck_assert_uint_eq (strlen (line), 4 * nr_zspages);
  ck_assert_uint_eq (strspn (line, hex), 4 * nr_zspages);

  for (i = 0; i < nr_zspages; ++i) {
    unsigned fullness, pages;

    ck_assert_int_eq (sscanf (line + 4 * i, "%2x%2x", &fullness, &pages), 2);
    ck_assert_uint_le (fullness, last_fullness);
    ck_assert_uint_le (pages, ZSPAGE_PAGES);
    last_fullness = fullness;
    nr_full += fullness == 0xff;
    nr_pages += pages;
  }
  ck_assert_uint_eq (nr_full, class.by_fullness[NR_FULLNESS_GROUPS - 1]);
  ck_assert_uint_eq (nr_pages * PAGE_BYTES, class.resident_bytes);
}

static unsigned
check_map (void)
{
  char *copy, *rest, *line;
  unsigned nr = 0;

  answers ("map", "object_bytes ");
  copy = rest = strdup (body);
  ck_assert_str_eq (strsep (&rest, "\n"),
                    "object_bytes objects_per_zspage zspages map");
  while ((line = strsep (&rest, "\n")) != NULL && *line != '\0') {
    check_map_line (line);
    ++nr;
  }
  free (copy);
  return nr;
}

START_TEST (test_map)
{
  static uint8_t block[TEST_BLOCK_BYTES];
  struct pool_class_stats class;
  unsigned nr_classes = 0, i;
  struct pool *pool = store_pool (store);
  struct rng rng;

  /* The one object that every store has, and then 63 more: full. */
  answers ("map", "\n4096 64 1 04");
  rng_init (&rng, test_seed (), 8);
  for (i = 0; i < 31; ++i) {
    make_block (&rng, CONTENT_RANDOM, block);
    ck_assert_int_eq (store_write (store, block, sizeof block,
                                   i * sizeof block),
                      0);
  }
  answers ("map", "\n4096 64 1 7f");
  for (; i < 63; ++i) {
    make_block (&rng, CONTENT_RANDOM, block);
    ck_assert_int_eq (store_write (store, block, sizeof block,
                                   i * sizeof block),
                      0);
  }
  answers ("map", "\n4096 64 1 ff40\n");

  make_holes (&rng);
  for (i = 0; i < pool_nr_classes (pool); ++i) {
    pool_class_stats (pool, i, &class);
    nr_classes += class.nr_zspages > 0;
  }
  ck_assert_uint_gt (nr_classes, 1);
  ck_assert_uint_eq (check_map (), nr_classes);
  answers ("compact", "finished");
  check_map ();

  refuses ("map x", "\"map\" takes nothing, not \"x\"");
  refuses ("map json", "takes nothing");
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("commands-compact");
  TCase *tcase = tcase_create ("commands-compact");
  SRunner *runner;
  int nr_failed;

  test_start ("commands-compact");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, begin_commands, end_commands);
  tcase_add_test (tcase, test_compact);
  tcase_add_test (tcase, test_compact_class);
  tcase_add_test (tcase, test_compact_refused);
  tcase_add_test (tcase, test_compact_wait);
  tcase_add_test (tcase, test_compact_wait_to_the_end);
  tcase_add_loop_test (tcase, test_limit_reclaims, 0, 2);
  tcase_add_test (tcase, test_map);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
