/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD sessions as a client sends them, made from a seed: whole and valid,
 * then changed.  A session is a list of messages (a handshake's option, a
 * request with its data), so that a change may hit a field, a message, or
 * any byte.
 */

#ifndef ZMEM_NBD_SESSION_H
#define ZMEM_NBD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../test-util.h"

/* The bytes that a client sends, owned. */
struct stream {
  uint8_t *bytes;
  size_t nr, room;
};

extern void stream_add (struct stream *stream, const void *bytes, size_t nr);
extern void stream_free (struct stream *stream);

/* A valid session, then `nr_changes` changes of it: 0, and it stays valid.
 * Of one seed always the same.  Appends to *stream.
 */
extern void session_make (struct rng *rng, uint64_t disk_bytes,
                          unsigned nr_changes, struct stream *stream);

/* A valid session of plain requests, one after the other, each to be
 * answered before the next is read (nbdkit --threads=1), and in *replies all
 * that a server must answer from its 18th byte on, but for the export's flags
 * (bytes 8 and 9 of these).
 */
extern void session_make_clean (struct rng *rng, uint64_t disk_bytes,
                                struct stream *stream, struct stream *replies);

#endif /* ZMEM_NBD_SESSION_H */
