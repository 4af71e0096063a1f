/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of size classes, all of it: there are few enough of sizes,
 * classes and offsets to try each.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>

#include "libcheck.h"
#include "size-class.h"
#include "test-util.h"

static const struct size_class_table *table;

static void
get_table (void)
{
  table = size_class_table ();
  ck_assert_ptr_nonnull (table);
}

/* The sizes are those that dividing a zspage by 64 ... 16384 gives, no
 * other, each once, ascending.
 */
START_TEST (test_classes_are_the_divisions)
{
  const size_t least = ZSPAGE_BYTES / OBJECT_MAX;
  unsigned idx = 0;
  size_t previous = 0;

  for (size_t k = MAX_OBJECTS_PER_ZSPAGE; k >= least; --k) {
    const size_t size = ZSPAGE_BYTES / k / OBJECT_ALIGN * OBJECT_ALIGN;
    if (size == previous)
      continue;
    ck_assert_uint_lt (idx, table->nr_classes);
    ck_assert_uint_eq (table->classes[idx].object_bytes, size);
    /* The larger k wins. */
    ck_assert_uint_eq (table->classes[idx].nr_objects, k);
    previous = size;
    ++idx;
  }
  ck_assert_uint_eq (idx, table->nr_classes);
  ck_assert_uint_le (table->nr_classes, MAX_SIZE_CLASSES);
}
END_TEST

START_TEST (test_sizes_ascend)
{
  ck_assert_uint_eq (table->classes[0].object_bytes, OBJECT_MIN);
  ck_assert_uint_eq (table->classes[table->nr_classes - 1].object_bytes,
                     OBJECT_MAX);
  for (unsigned i = 0; i < table->nr_classes; ++i) {
    const struct size_class *class = &table->classes[i];

    ck_assert_uint_eq (class->object_bytes % OBJECT_ALIGN, 0);
    ck_assert_uint_le ((size_t) class->object_bytes * class->nr_objects,
                       ZSPAGE_BYTES);
    ck_assert_uint_le (class->nr_objects, MAX_OBJECTS_PER_ZSPAGE);
    if (i > 0)
      ck_assert_uint_gt (class->object_bytes,
                         table->classes[i - 1].object_bytes);
  }
}
END_TEST

START_TEST (test_smallest_class_that_fits)
{
  for (size_t bytes = 1; bytes <= OBJECT_MAX; ++bytes) {
    const unsigned idx = size_class_of (table, bytes);

    ck_assert_uint_lt (idx, table->nr_classes);
    ck_assert_uint_ge (table->classes[idx].object_bytes, bytes);
    if (idx > 0)
      ck_assert_uint_lt (table->classes[idx - 1].object_bytes, bytes);
  }
}
END_TEST

/* The multiplication that stands for a division: every class and offset,
 * the tail behind the last object as well.
 */
START_TEST (test_slot_of_every_offset)
{
  for (unsigned i = 0; i < table->nr_classes; ++i) {
    const struct size_class *class = &table->classes[i];
    size_t wrong = ZSPAGE_BYTES;

    for (size_t offset = 0; offset < ZSPAGE_BYTES; ++offset)
      if (size_class_slot (class, offset) != offset / class->object_bytes)
        wrong = offset;
    ck_assert_msg (wrong == ZSPAGE_BYTES,
                   "class of %u bytes: slot of offset %zu is said to be %u",
                   class->object_bytes, wrong, size_class_slot (class, wrong));
  }
}
END_TEST

/* What dividing loses: the tail of a zspage is less than an object and
 * less than what rounding down to 16 left over, so below sqrt (16 * 256 Ki)
 * bytes, 0.8 % of a zspage.
 */
START_TEST (test_tail_is_small)
{
  for (unsigned i = 0; i < table->nr_classes; ++i) {
    const struct size_class *class = &table->classes[i];
    const size_t tail =
      ZSPAGE_BYTES - (size_t) class->object_bytes * class->nr_objects;

    ck_assert_uint_lt (tail, class->object_bytes);
    ck_assert_uint_lt (tail, OBJECT_ALIGN * class->nr_objects);
    ck_assert_uint_le (tail * 128, ZSPAGE_BYTES);
  }
}
END_TEST

/* Memory that an object takes (its share of the zspage) over its size
 * rounded up to 16: for one size at most 1.6 % + 16 bytes, over all sizes
 * alike at most 0.9 %, which leaves the rest of 1.5 % to partly filled
 * zspages.
 */
START_TEST (test_waste_of_division)
{
  uint64_t taken_sum = 0, rounded_sum = 0;

  for (size_t bytes = OBJECT_ALIGN; bytes <= OBJECT_MAX;
       bytes += OBJECT_ALIGN) {
    const struct size_class *class =
      &table->classes[size_class_of (table, bytes)];
    /* In 1/1024 bytes. */
    const uint64_t taken = ZSPAGE_BYTES * 1024 / class->nr_objects;

    ck_assert_uint_le (taken, (bytes + bytes * 16 / 1000 + 16) * 1024);
    taken_sum += taken;
    rounded_sum += bytes * 1024;
  }
  ck_assert_msg (taken_sum * 1000 <= rounded_sum * 1009,
                 "waste is %" PRIu64 " in 10000",
                 (taken_sum - rounded_sum) * 10000 / rounded_sum);
}
END_TEST

START_TEST (test_largest_compressed)
{
  const size_t bytes = size_class_largest_compressed ();
  const unsigned idx = size_class_of (table, bytes);

  ck_assert_uint_lt (bytes, OBJECT_MAX);
  ck_assert_uint_eq (table->classes[idx].object_bytes, bytes);
  ck_assert_uint_eq (idx, table->nr_classes - 2);
}
END_TEST

START_TEST (test_table_is_one)
{
  ck_assert_ptr_eq (size_class_table (), table);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("size-class");
  TCase *tcase = tcase_create ("table");
  SRunner *runner;
  int nr_failed;

  test_start ("test-size-class");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_checked_fixture (tcase, get_table, NULL);
  tcase_add_test (tcase, test_classes_are_the_divisions);
  tcase_add_test (tcase, test_sizes_ascend);
  tcase_add_test (tcase, test_smallest_class_that_fits);
  tcase_add_test (tcase, test_slot_of_every_offset);
  tcase_add_test (tcase, test_tail_is_small);
  tcase_add_test (tcase, test_waste_of_division);
  tcase_add_test (tcase, test_largest_compressed);
  tcase_add_test (tcase, test_table_is_one);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
