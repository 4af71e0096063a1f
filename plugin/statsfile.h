/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The statistics in a file, in Prometheus' text format, for its
 * node_exporter to pick up.  A thread replaces the file every so often; a
 * reader sees a whole one, the old or the new.
 *
 * Life: as control.h's.
 */

#ifndef ZMEM_STATSFILE_H
#define ZMEM_STATSFILE_H

#include <stddef.h>

#include "store.h"

/* See that the file could be written.  `path` is absolute.
 * 0, or -errno and in `error` one sentence that begins with the path.
 */
extern int statsfile_prepare (const char *path, unsigned interval_seconds,
                              char *error, size_t error_bytes);

/* Write the file, then again every interval.  `store` is borrowed until
 * statsfile_stop.  0 or -errno.  Without statsfile_prepare it does nothing.
 */
extern int statsfile_start (struct store *store);

/* Write the file a last time and end the thread.  The file stays. */
extern void statsfile_stop (void);

#endif /* ZMEM_STATSFILE_H */
