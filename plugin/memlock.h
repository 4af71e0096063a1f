/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * mlock=yes: keep the server's memory out of swap, so that it can serve as
 * swap itself.
 *
 * What is locked is every mapping of the process, now and later, page by
 * page as it becomes resident: locking as such costs no memory.
 *
 * memlock_prepare belongs before the fork, where errors are seen and rights
 * are still there (-u drops them); memlock_lock after it, since a fork loses
 * locks.  Both return 0, or -errno and in `error` one sentence, for the
 * caller to put behind the option that asked for it.
 */

#ifndef ZMEM_MEMLOCK_H
#define ZMEM_MEMLOCK_H

#include <stdbool.h>
#include <stddef.h>

/* Is the memory of this process locked already (nbdkit --swap)? */
extern bool memlock_is_on (void);

/* Raise what can be raised and see whether memlock_lock will succeed.  To
 * be called when the disk's address space is reserved: it counts.
 */
extern int memlock_prepare (char *error, size_t error_bytes);

/* Lock.  To be called when the disk's memory is writable (store_start):
 * making locked memory writable would make all of it resident.
 */
extern int memlock_lock (char *error, size_t error_bytes);

#endif /* ZMEM_MEMLOCK_H */
