/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Assertions that tell in which situation they failed: `situation` is a
 * string of whoever includes this.
 */

#ifndef ZMEM_SITUATION_H
#define ZMEM_SITUATION_H

#include <inttypes.h>
#include <stdint.h>

#include "libcheck.h"

#define CHECK(condition)                                                       \
  ck_assert_msg (condition, "%s: not so: %s", situation, #condition)
#define CHECK_LE(a, b)                                                         \
  do {                                                                         \
    const uint64_t a_ = (a), b_ = (b);                                         \
    ck_assert_msg (a_ <= b_, "%s: %s = %" PRIu64 " > %s = %" PRIu64,           \
                   situation, #a, a_, #b, b_);                                 \
  } while (0)
#define CHECK_EQ(a, b)                                                         \
  do {                                                                         \
    const uint64_t a_ = (a), b_ = (b);                                         \
    ck_assert_msg (a_ == b_, "%s: %s = %" PRIu64 ", %s = %" PRIu64, situation, \
                   #a, a_, #b, b_);                                            \
  } while (0)

#endif /* ZMEM_SITUATION_H */
