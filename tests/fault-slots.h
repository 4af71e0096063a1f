/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The file through which fault-preload.c is told which calls of the served
 * plugin are to fail, and tells what it did: a slot a family, 64 bytes each,
 * mapped by both sides; no locks.
 *
 *     nth         of the calls counted from now on, the first to fail;
 *                 0: none
 *     nr_in_row   how many fail from there on; 0: one
 *     nr_calls    counted so far
 *     nr_failed   made to fail so far
 *     name        of the function that failed last
 */

#ifndef ZMEM_FAULT_SLOTS_H
#define ZMEM_FAULT_SLOTS_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

enum fault_family {
  FAULT_MALLOC, /* malloc, calloc, realloc, aligned_alloc */
  FAULT_MMAP,   /* mmap, mprotect */
  FAULT_MADVISE,
  FAULT_THREAD, /* pthread_create */
  FAULT_SOCKET, /* socket to send; eventfd, poll */
  FAULT_FILE,   /* open, write, rename, ... */
  FAULT_LOCK,   /* mlock, mlockall, limits, prctl */
  NR_FAULT_FAMILIES
};

static const char *const fault_family_names[NR_FAULT_FAMILIES] = {
  "malloc", "mmap", "madvise", "thread", "socket", "file", "lock",
};

struct fault_slot {
  _Atomic uint64_t nth, nr_in_row, nr_calls, nr_failed;
  char name[32];
};
static_assert (sizeof (struct fault_slot) == 64, "scripts count on it");

#define FAULT_FILE_BYTES (NR_FAULT_FAMILIES * sizeof (struct fault_slot))

#endif /* ZMEM_FAULT_SLOTS_H */
