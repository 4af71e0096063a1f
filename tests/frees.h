/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Frees that an enemy would choose: patterns that leave zspages and pages as
 * hard to empty as can be.  They know where each object lies, so the tests of
 * the compactor and those of the whole store share them.
 */

#ifndef ZMEM_FREES_H
#define ZMEM_FREES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool.h"
#include "test-util.h"

/* An object that could be freed. */
struct victim {
  zs_loc loc;
  uint32_t slot_bytes;
  uint64_t age; /* smaller: allocated earlier */
  uint64_t id;  /* the caller's */
  bool freed;   /* the answer */
};

enum frees {
  /* By place. */
  FREES_EVERY_SECOND,
  FREES_ALL_BUT_LOWEST, /* of each zspage one is left */
  FREES_ALL_BUT_HIGHEST,
  FREES_ALL_BUT_MIDDLE,
  FREES_ALL_BUT_ANY,
  FREES_ONE_OF_EACH, /* of each zspage one goes */
  FREES_LOW_HALVES,  /* of each zspage */
  FREES_HIGH_HALVES,
  FREES_JUST_BELOW_HALF, /* random ones; half and one more are left */
  FREES_A_THIRD,         /* of each zspage: three fit into two */
  FREES_RAMP,            /* the first nearly empty, the last full */
  FREES_ANY_SHARE,       /* a random share of each zspage */
  /* Runs of so many pages, every second of them. */
  FREES_RUNS_OF_1,
  FREES_RUNS_OF_2,
  FREES_RUNS_OF_4,
  FREES_RUNS_OF_8,
  FREES_RUNS_OF_16,
  FREES_HOLES, /* 10 pages of 21: the most such holes in a
                                   zspage that stays more than half full */
  FREES_ALL_BUT_ONE_A_PAGE,
  FREES_ALL_BUT_STRADDLING, /* what lies in two pages is left */
  FREES_STRADDLING,         /* and the reverse */
  /* By class. */
  FREES_CLASSES,
  FREES_MOST_OF_CLASSES, /* 97 % of every second class */
  /* By age. */
  FREES_OLDEST_HALF,
  FREES_NEWEST_HALF,
  FREES_EVERY_SECOND_BY_AGE,
  /* By chance. */
  FREES_RANDOM_10,
  FREES_RANDOM_50,
  FREES_RANDOM_90,
  FREES_RANDOM_99,
  NR_FREES
};
extern const char *const frees_names[NR_FREES];

/* Sorts them by location, and sets `freed` of each. */
extern void choose_frees (struct rng *rng, enum frees frees,
                          struct victim *victims, size_t nr);

#endif /* ZMEM_FREES_H */
