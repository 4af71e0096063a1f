/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Validators of the pool, for tests and debug builds.
 */

#ifndef ZMEM_POOL_CHECK_H
#define ZMEM_POOL_CHECK_H

#include <stddef.h>

#include "pool.h"

/* Recount everything, class by class: bits against nr_inuse, lists against
 * groups, touched pages against the counters.  Cost: every side table read.
 * Nobody else may use the pool meanwhile.  0, or -EIO and in `error` the
 * first inconsistency.
 */
extern int pool_check (struct pool *pool, char *error, size_t error_bytes);

#endif /* ZMEM_POOL_CHECK_H */
