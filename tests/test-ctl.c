/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What zmemctl makes of numbers that no server has: it may be of another
 * version, or none.  What it makes of a server's: tests/test-zmemctl.sh.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bar.h"
#include "compact.h"
#include "libcheck.h"
#include "tables.h"
#include "test-util.h"
#include "text.h"

static char *printed;
static size_t printed_bytes;

static FILE *
begin_print (void)
{
  FILE *out;

  free (printed);
  out = open_memstream (&printed, &printed_bytes);
  ck_assert_ptr_nonnull (out);
  return out;
}

START_TEST (test_percent)
{
  char text[TEXT_BYTES];

  ck_assert_str_eq (text_percent (1, 3, text), "33.3 %");
  ck_assert_str_eq (text_percent (1999, 2000, text), "100.0 %");
  ck_assert_str_eq (text_percent (5, 1, text), "500.0 %");
  ck_assert_str_eq (text_percent (UINT64_MAX, UINT64_MAX, text), "100.0 %");
  /* The most that can be told. */
  ck_assert_str_eq (text_percent (UINT64_MAX, 1, text),
                    "1844674407370955161.5 %");
}
END_TEST

START_TEST (test_round)
{
  ck_assert_uint_eq (text_round (0), 0);
  ck_assert_uint_eq (text_round (0.5), 1);
  ck_assert_uint_eq (text_round (1234.4), 1234);
  ck_assert_uint_eq (text_round (-21.5), 0);
  ck_assert_uint_eq (text_round (0x1p63), UINT64_C (1) << 63);
  ck_assert_uint_eq (text_round (0x1p64), UINT64_MAX);
  ck_assert_uint_eq (text_round (1e300), UINT64_MAX);
}
END_TEST

/* More zspages in a group than there are. */
START_TEST (test_parts)
{
  static const uint64_t parts[] = { 0, 1, 2, UINT64_C (1) << 40 };
  FILE *out = begin_print ();

  bar_print_parts (parts, 4, 1, false, out);
  fclose (out);
  ck_assert_str_eq (printed, " @@@");
}
END_TEST

/* More wasted than there is. */
START_TEST (test_classes)
{
  const struct bar_style style = { 80, false };
  char body[] = "object_bytes objects inuse zspages resident_bytes"
                " wasted_bytes\n16 16384 1 1 4096 8192\n";
  FILE *out = begin_print ();

  ck_assert (table_print_classes (body, true, &style, out));
  fclose (out);
  ck_assert_ptr_nonnull (strchr (printed, '.'));
  ck_assert_ptr_null (strchr (printed, '#'));
}
END_TEST

START_TEST (test_report)
{
  struct values values;
  FILE *out = begin_print ();

  values_parse (&values, strdup ("compact_state finished\n"
                                 "compact_running_microseconds 1\n"
                                 "compact_copied_bytes"
                                 " 18446744073709551615\n"));
  compact_print (&values, out);
  fclose (out);
  values_free (&values);
  ck_assert_msg (strstr (printed, "16.0 EiB/s") != NULL, "%s", printed);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("ctl");
  TCase *tcase = tcase_create ("ctl");
  SRunner *runner;
  int nr_failed;

  test_start ("test-ctl");
  tcase_add_test (tcase, test_percent);
  tcase_add_test (tcase, test_round);
  tcase_add_test (tcase, test_parts);
  tcase_add_test (tcase, test_classes);
  tcase_add_test (tcase, test_report);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
