/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The workloads of nbd-load: what each asks of a server, a line of a table.
 */

#ifndef ZMEM_LOAD_WORKLOADS_H
#define ZMEM_LOAD_WORKLOADS_H

#define MAX_UNIT_BLOCKS 64 /* a request of 256 KiB */

enum kind { READ, WRITE, TRIM, NR_KINDS };

extern const char *const kind_names[NR_KINDS];

/* Of units.  SHUFFLED: one after the other, in a random order. */
enum order { RANDOM, SEQUENTIAL, SHUFFLED };

/* What a request covers of the unit that it has claimed.  WHOLE: all of it.
 * PART: 1 to 7 sectors of a block.  SINGLE_READS: writes and trims all, a
 * read one of its blocks.
 */
enum cover { WHOLE, PART, SINGLE_READS };

/* The range is cut into units of so many blocks, each aligned to its size. */
struct workload {
  const char *name;
  unsigned unit_blocks; /* at most MAX_UNIT_BLOCKS */
  unsigned read_percent, trim_percent;
  enum order order;
  unsigned once; /* over a share of the units: one in so many; 0: timed */
  enum cover cover;
};

/* Ends with a name of NULL. */
extern const struct workload workloads[];

/* Exits with a sentence and status 2 where there is none of that name. */
extern const struct workload *find_workload (const char *name);

#endif /* ZMEM_LOAD_WORKLOADS_H */
