/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * From options to a disk: choose the limit, reserve the address space.
 * No nbdkit here.
 */

#ifndef ZMEM_STARTUP_H
#define ZMEM_STARTUP_H

#include <stddef.h>

#include "options.h"
#include "store.h"

/* Room for "1 GiB disk, compress=lz4:1, limit 18.7 GiB (80 % of ...)". */
#define STARTUP_SUMMARY_BYTES 320

/* Create the store that the options, all checked, ask for, and put into
 * `summary` what it is.  To be called before a fork; *ret is owned by the
 * caller.  0, or -errno and in `error` one sentence that names the option at
 * fault.
 */
extern int startup_create_store (const struct options *options,
                                 struct store **ret, char *summary,
                                 size_t summary_bytes, char *error,
                                 size_t error_bytes);

#endif /* ZMEM_STARTUP_H */
