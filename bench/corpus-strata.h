/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * All strata: what they are, how much of the mix each is, and their pages.
 */

#ifndef ZMEM_CORPUS_STRATA_H
#define ZMEM_CORPUS_STRATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corpus-pages.h"

struct stratum {
  const char *name;
  void (*take) (struct pages *pages); /* as many as wanted, or there are */
  unsigned share_percent;             /* of the mix */
  unsigned run_pages;                 /* how many pages stay together */
  bool real;       /* what lacks is the next one's; it can have a file */
  size_t nr_mixed; /* of its pages, the first so many are the mix's */
  struct pages pages;
  char *notes; /* what pages_note said */
};

#define NR_STRATA 10
extern struct stratum strata[NR_STRATA];

/* Take a mix of so many pages, and of each real stratum at least
 * nr_each_pages if there are so many.  Ends the program if there is too
 * little for the mix.
 */
void take_strata (size_t nr_mix_pages, size_t nr_each_pages, uint64_t seed);

void free_strata (void);

#endif /* ZMEM_CORPUS_STRATA_H */
