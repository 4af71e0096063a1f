/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * libcheck, without what it does at each assertion that holds: it writes a
 * message to a file and flushes it, so that after a signal it can name the
 * last one.  Four million of them were half of a test's time; sanitizers and
 * debuggers name the place as well.
 */

#ifndef ZMEM_LIBCHECK_H
#define ZMEM_LIBCHECK_H

#include <check.h>

#include "test-util.h"

#define _mark_point(file, line) ((void) 0)

/* A test of one thread, in a program that has some with more: TSan, for which
 * it would take ten times as long, has nothing to find in it.
 */
#define tcase_add_lone_loop_test(tcase, test, start, end)                      \
  do                                                                           \
    if (TEST_TSAN)                                                             \
      (void) (test);                                                           \
    else                                                                       \
      tcase_add_loop_test (tcase, test, start, end);                           \
  while (0)
#define tcase_add_lone_test(tcase, test)                                       \
  tcase_add_lone_loop_test (tcase, test, 0, 1)

#endif /* ZMEM_LIBCHECK_H */
