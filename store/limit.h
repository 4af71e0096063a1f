/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The default limit: a share of the memory that this process can have.
 *
 * Anonymous memory that runs out is the out-of-memory killer, never an
 * error that could be handed to a client, so a disk without a limit is a
 * disk that dies full.  What a process can have is the least of physical
 * memory and of the limits of its control group and of every group above it.
 */

#ifndef ZMEM_LIMIT_H
#define ZMEM_LIMIT_H

#include <stddef.h>
#include <stdint.h>

/* Of what bounds it, and what that has to leave for the rest of the process:
 * up to 13.8 MiB was seen to be taken beside the disk (tests/test-cgroup.sh),
 * most of it pages of nbdkit's files, which mlock=yes keeps.
 */
#define LIMIT_DEFAULT_PERCENT 80
#define LIMIT_DEFAULT_LEAVES ((uint64_t) 16 << 20)
#define LIMIT_DEFAULT_LEAST_PERCENT 50

#define LIMIT_TEXT_BYTES 160

struct memory_bound {
  uint64_t bytes;
  /* What bounds it, to be put behind "80 % of ": "physical memory", or
   * "memory.max of the control group /system.slice".
   */
  char text[LIMIT_TEXT_BYTES];
};

/* Find the bound.  `root` is put in front of /proc and of every mount point
 * (a test brings its own tree); "" in life.  0, or -errno: /proc/meminfo
 * cannot be read, or there is no memory or descriptor to read the others
 * with.  Control groups that are not there, or not for us, bound nothing.
 */
extern int memory_bound_find (const char *root, struct memory_bound *ret);

/* A hundredth of it `percent` times, in whole pages. */
extern uint64_t memory_bound_percent (const struct memory_bound *bound,
                                      unsigned percent);

/* LIMIT_DEFAULT_PERCENT, or less: what leaves LIMIT_DEFAULT_LEAVES, but not
 * less than LIMIT_DEFAULT_LEAST_PERCENT.
 */
extern unsigned memory_bound_default_percent (const struct memory_bound *bound);

/* The file of pressure stall information (PSI) on memory that concerns this
 * process most: its control group's (version 2), else the system's.  `root`
 * as above.  Returns `path`, or NULL: there is none, or it does not fit.
 */
extern const char *memory_pressure_path (const char *root, char *path,
                                         size_t path_bytes);

#endif /* ZMEM_LIMIT_H */
