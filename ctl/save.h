/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing a file so that it is there as a whole, or as it was before.
 */

#ifndef ZMEM_CTL_SAVE_H
#define ZMEM_CTL_SAVE_H

#include <stddef.h>

/* Write the file, by way of a temporary one beside it.  What is there and is
 * no regular file (/dev/stderr, a pipe) is written to as it is.  0 or -errno.
 */
extern int save_file (const char *path, const char *data, size_t bytes);

#endif /* ZMEM_CTL_SAVE_H */
