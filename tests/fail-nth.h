/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * In a program: the Nth call of a family fails, of those that this thread
 * makes between fail_nth and fail_nth_end, the C library's own included.
 * A program that uses it links fault-calls.c, which counts allocations.
 */

#ifndef ZMEM_FAIL_NTH_H
#define ZMEM_FAIL_NTH_H

#include <stdbool.h>
#include <stdint.h>

#include "fault-slots.h"

/* nth 0: only count. */
extern void fail_nth (enum fault_family family, uint64_t nth);
/* The same for all threads of the program. */
extern void fail_nth_anywhere (enum fault_family family, uint64_t nth);
/* Returns whether a call has failed. */
extern bool fail_nth_end (void);
/* Since fail_nth. */
extern uint64_t fail_nth_calls (void);

/* Calls made to fail, since the program began. */
extern uint64_t fail_nth_total (enum fault_family family);

extern unsigned nr_open_files (void);

#endif /* ZMEM_FAIL_NTH_H */
