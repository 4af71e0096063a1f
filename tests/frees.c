/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Patterns of frees; see frees.h.
 */

#include <config.h>

#include <stdlib.h>

#include "frees.h"

const char *const frees_names[NR_FREES] = {
  [FREES_EVERY_SECOND] = "every second",
  [FREES_ALL_BUT_LOWEST] = "all but the lowest of a zspage",
  [FREES_ALL_BUT_HIGHEST] = "all but the highest of a zspage",
  [FREES_ALL_BUT_MIDDLE] = "all but the middle one of a zspage",
  [FREES_ALL_BUT_ANY] = "all but any one of a zspage",
  [FREES_ONE_OF_EACH] = "one of each zspage",
  [FREES_LOW_HALVES] = "the low half of each zspage",
  [FREES_HIGH_HALVES] = "the high half of each zspage",
  [FREES_JUST_BELOW_HALF] = "just below half of each zspage",
  [FREES_A_THIRD] = "a third of each zspage",
  [FREES_RAMP] = "from nearly all to nothing",
  [FREES_ANY_SHARE] = "a random share of each zspage",
  [FREES_RUNS_OF_1] = "every second page",
  [FREES_RUNS_OF_2] = "every second run of 2 pages",
  [FREES_RUNS_OF_4] = "every second run of 4 pages",
  [FREES_RUNS_OF_8] = "every second run of 8 pages",
  [FREES_RUNS_OF_16] = "every second run of 16 pages",
  [FREES_HOLES] = "holes of 10 pages",
  [FREES_ALL_BUT_ONE_A_PAGE] = "all but one a page",
  [FREES_ALL_BUT_STRADDLING] = "all but those in two pages",
  [FREES_STRADDLING] = "those in two pages",
  [FREES_CLASSES] = "whole classes",
  [FREES_MOST_OF_CLASSES] = "most of every second class",
  [FREES_OLDEST_HALF] = "the oldest half",
  [FREES_NEWEST_HALF] = "the newest half",
  [FREES_EVERY_SECOND_BY_AGE] = "every second by age",
  [FREES_RANDOM_10] = "random 10 %",
  [FREES_RANDOM_50] = "random 50 %",
  [FREES_RANDOM_90] = "random 90 %",
  [FREES_RANDOM_99] = "random 99 %",
};

static int
compare_locs (const void *a, const void *b)
{
  const zs_loc x = ((const struct victim *) a)->loc;
  const zs_loc y = ((const struct victim *) b)->loc;

  return x < y ? -1 : x > y;
}

static int
compare_ages (const void *a, const void *b)
{
  const uint64_t x = ((const struct victim *) a)->age;
  const uint64_t y = ((const struct victim *) b)->age;

  return x < y ? -1 : x > y;
}

static uint64_t
zspage_of (const struct victim *victim)
{
  return victim->loc >> (ZSPAGE_SHIFT - ZS_LOC_SHIFT);
}

/* First and last page, counted through the arena. */
static uint64_t
first_page_of (const struct victim *victim)
{
  return (victim->loc << ZS_LOC_SHIFT) / PAGE_BYTES;
}

static uint64_t
last_page_of (const struct victim *victim)
{
  return ((victim->loc << ZS_LOC_SHIFT) + victim->slot_bytes - 1) / PAGE_BYTES;
}

static void
free_all_but (struct victim *victims, size_t nr, size_t kept)
{
  for (size_t i = 0; i < nr; ++i)
    victims[i].freed = i != kept;
}

static void
free_percent (struct rng *rng, struct victim *victims, size_t nr,
              unsigned percent)
{
  for (size_t i = 0; i < nr; ++i)
    victims[i].freed = rng_below (rng, 100) < percent;
}

/* Exactly so many, any of them. */
static void
free_some (struct rng *rng, struct victim *victims, size_t nr, size_t some)
{
  for (size_t i = 0; i < nr; ++i) {
    victims[i].freed = rng_below (rng, nr - i) < some;
    some -= victims[i].freed;
  }
}

/* The objects of one zspage, in order; `part` of all of them in thousandths
 * lie below it.
 */
static void
free_in_zspage (struct rng *rng, enum frees frees, struct victim *victims,
                size_t nr, unsigned part)
{
  switch ((int) frees) {
  case FREES_ALL_BUT_LOWEST:
    free_all_but (victims, nr, 0);
    break;
  case FREES_ALL_BUT_HIGHEST:
    free_all_but (victims, nr, nr - 1);
    break;
  case FREES_ALL_BUT_MIDDLE:
    free_all_but (victims, nr, nr / 2);
    break;
  case FREES_ALL_BUT_ANY:
    free_all_but (victims, nr, rng_below (rng, nr));
    break;
  case FREES_ONE_OF_EACH:
    free_some (rng, victims, nr, 1);
    break;
  case FREES_LOW_HALVES:
    for (size_t i = 0; i < nr; ++i)
      victims[i].freed = i < nr / 2;
    break;
  case FREES_HIGH_HALVES:
    for (size_t i = 0; i < nr; ++i)
      victims[i].freed = i >= nr / 2;
    break;
  case FREES_JUST_BELOW_HALF:
    free_some (rng, victims, nr, (nr - 1) / 2);
    break;
  case FREES_A_THIRD:
    free_some (rng, victims, nr, nr / 3);
    break;
  case FREES_RAMP:
    free_some (rng, victims, nr, nr * (1000 - part) / 1000);
    break;
  case FREES_ANY_SHARE:
  default:
    free_some (rng, victims, nr, rng_below (rng, nr + 1));
    break;
  }
}

static void
free_zspage_by_zspage (struct rng *rng, enum frees frees,
                       struct victim *victims, size_t nr)
{
  for (size_t i = 0; i < nr;) {
    size_t end = i + 1;

    while (end < nr && zspage_of (&victims[end]) == zspage_of (&victims[i]))
      ++end;
    free_in_zspage (rng, frees, victims + i, end - i,
                    (unsigned) (i * 1000 / nr));
    i = end;
  }
}

/* Every second run of pages: what begins in it goes, but for what reaches
 * into the next, which keeps that page's first bytes.
 */
static void
free_runs (struct victim *victims, size_t nr, unsigned run_pages)
{
  for (size_t i = 0; i < nr; ++i)
    victims[i].freed = first_page_of (&victims[i]) / run_pages % 2 == 0 &&
                       last_page_of (&victims[i]) / run_pages % 2 == 0;
}

static void
free_holes (struct victim *victims, size_t nr)
{
  for (size_t i = 0; i < nr; ++i)
    victims[i].freed = first_page_of (&victims[i]) % ZSPAGE_PAGES % 21 >= 11 &&
                       last_page_of (&victims[i]) % ZSPAGE_PAGES % 21 >= 11;
}

static void
free_all_but_one_a_page (struct victim *victims, size_t nr)
{
  uint64_t page = UINT64_MAX;

  for (size_t i = 0; i < nr; ++i) {
    victims[i].freed = first_page_of (&victims[i]) == page;
    if (!victims[i].freed)
      page = last_page_of (&victims[i]);
  }
}

/* Of half of the classes, `percent`. */
static void
free_classes (struct rng *rng, struct victim *victims, size_t nr,
              unsigned percent)
{
  const uint64_t chosen = rng_u64 (rng) | 1;

  for (size_t i = 0; i < nr; ++i) {
    const unsigned class_idx =
      size_class_of (size_class_table (), victims[i].slot_bytes);
    victims[i].freed =
      (chosen >> class_idx % 64 & 1) && rng_below (rng, 100) < percent;
  }
}

static void
free_by_age (enum frees frees, struct victim *victims, size_t nr)
{
  qsort (victims, nr, sizeof victims[0], compare_ages);
  for (size_t i = 0; i < nr; ++i)
    victims[i].freed = frees == FREES_OLDEST_HALF   ? i < nr / 2
                       : frees == FREES_NEWEST_HALF ? i >= nr / 2
                                                    : i % 2 == 0;
  qsort (victims, nr, sizeof victims[0], compare_locs);
}

void
choose_frees (struct rng *rng, enum frees frees, struct victim *victims,
              size_t nr)
{
  qsort (victims, nr, sizeof victims[0], compare_locs);
  switch ((int) frees) {
  case FREES_EVERY_SECOND:
    for (size_t i = 0; i < nr; ++i)
      victims[i].freed = i % 2 == 0;
    break;
  case FREES_RUNS_OF_1:
    free_runs (victims, nr, 1);
    break;
  case FREES_RUNS_OF_2:
    free_runs (victims, nr, 2);
    break;
  case FREES_RUNS_OF_4:
    free_runs (victims, nr, 4);
    break;
  case FREES_RUNS_OF_8:
    free_runs (victims, nr, 8);
    break;
  case FREES_RUNS_OF_16:
    free_runs (victims, nr, 16);
    break;
  case FREES_HOLES:
    free_holes (victims, nr);
    break;
  case FREES_ALL_BUT_ONE_A_PAGE:
    free_all_but_one_a_page (victims, nr);
    break;
  case FREES_ALL_BUT_STRADDLING:
  case FREES_STRADDLING:
    for (size_t i = 0; i < nr; ++i)
      victims[i].freed =
        (first_page_of (&victims[i]) == last_page_of (&victims[i])) ==
        (frees == FREES_ALL_BUT_STRADDLING);
    break;
  case FREES_CLASSES:
    free_classes (rng, victims, nr, 100);
    break;
  case FREES_MOST_OF_CLASSES:
    free_classes (rng, victims, nr, 97);
    break;
  case FREES_OLDEST_HALF:
  case FREES_NEWEST_HALF:
  case FREES_EVERY_SECOND_BY_AGE:
    free_by_age (frees, victims, nr);
    break;
  case FREES_RANDOM_10:
    free_percent (rng, victims, nr, 10);
    break;
  case FREES_RANDOM_50:
    free_percent (rng, victims, nr, 50);
    break;
  case FREES_RANDOM_90:
    free_percent (rng, victims, nr, 90);
    break;
  case FREES_RANDOM_99:
    free_percent (rng, victims, nr, 99);
    break;
  default:
    free_zspage_by_zspage (rng, frees, victims, nr);
    break;
  }
}
