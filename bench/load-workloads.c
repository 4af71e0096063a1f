/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The workloads of nbd-load.  A new one is a line here, and one in the head
 * of nbd-load.c.
 *
 * In the long run of "swap" 15 clusters of 40 are free: a read there finds
 * zeros, which a kernel would not have asked for.
 */

#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load-workloads.h"

const char *const kind_names[NR_KINDS] = { "read", "write", "trim" };

const struct workload workloads[] = {
  /* blocks, % reads, % trims, order, once, cover */
  { "fill", 1, 0, 0, SEQUENTIAL, 1, WHOLE },
  { "fill256", MAX_UNIT_BLOCKS, 0, 0, SEQUENTIAL, 1, WHOLE },
  { "randread", 1, 100, 0, RANDOM, 0, WHOLE },
  { "randwrite", 1, 0, 0, RANDOM, 0, WHOLE },
  { "mixed", 1, 70, 0, RANDOM, 0, WHOLE },
  { "churn", 1, 50, 10, RANDOM, 0, WHOLE },
  { "part", 1, 50, 0, RANDOM, 0, PART },
  { "swap", 8, 60, 15, RANDOM, 0, SINGLE_READS },
  { "trimhalf", 1, 0, 100, SHUFFLED, 2, WHOLE },
  { "trim256", MAX_UNIT_BLOCKS, 0, 100, SHUFFLED, 2, WHOLE },
  { "seqread256", MAX_UNIT_BLOCKS, 100, 0, SEQUENTIAL, 0, WHOLE },
  { "seqwrite256", MAX_UNIT_BLOCKS, 0, 0, SEQUENTIAL, 0, WHOLE },
  { .name = NULL },
};

const struct workload *
find_workload (const char *name)
{
  const struct workload *w;

  for (w = workloads; w->name; ++w)
    if (strcmp (w->name, name) == 0)
      return w;
  fprintf (stderr, "nbd-load: --workload takes");
  for (w = workloads; w->name; ++w)
    fprintf (stderr, "%s %s", w == workloads ? "" : ",", w->name);
  fprintf (stderr, ", or several joined by commas, not \"%s\"\n", name);
  exit (2);
}
