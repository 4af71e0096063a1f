/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD by hand, for clients that misbehave: what a library would finish can
 * be left half done here.  Simple replies, no options but the export's name.
 *
 * WHERE is the path of a Unix socket, or a TCP port of 127.0.0.1.
 *
 * Nothing here ends the program.  A server that has gone, or does not answer
 * within RAW_PATIENCE_SECONDS, is a false or a -1.
 */

#ifndef ZMEM_NBD_RAW_H
#define ZMEM_NBD_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAW_PATIENCE_SECONDS 60

enum raw_command {
  RAW_READ = 0,
  RAW_WRITE = 1,
  RAW_DISCONNECT = 2,
  RAW_TRIM = 4
};

struct __attribute__ ((packed)) raw_request {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t handle, offset;
  uint32_t count;
};

/* The client's part of the handshake, in one piece: flags and the option. */
struct __attribute__ ((packed)) raw_choice {
  uint32_t client_flags;
  uint64_t version;
  uint32_t option, length;
};

extern void raw_choose (struct raw_choice *choice);

/* A socket, with nothing said yet; or -1. */
extern int raw_connect (const char *where);

/* The same, ready for requests. */
extern int raw_open (const char *where);

extern bool raw_send (int sock, const void *data, size_t count);
extern bool raw_receive (int sock, void *data, size_t count);

extern void raw_prepare (struct raw_request *request, enum raw_command command,
                         uint64_t handle, uint64_t offset, uint32_t count);

/* Send a request, and `data` if it is a write. */
extern bool raw_ask (int sock, enum raw_command command, uint64_t handle,
                     uint64_t offset, uint32_t count, const void *data);

/* The head of the next reply.  What was read follows it. */
extern bool raw_reply (int sock, uint64_t *handle, uint32_t *error);

/* One request and its reply. */
extern bool raw_write (int sock, uint64_t offset, const void *data,
                       uint32_t count);
extern bool raw_read (int sock, uint64_t offset, void *data, uint32_t count);

/* What the server's control socket says of its number of connections, or -1:
 * it says nothing.
 */
extern int raw_nr_connections (const char *control);

/* Wait until there are no more than these.  False: they do not go. */
extern bool raw_wait_for_connections (const char *control, int at_most);

#endif /* ZMEM_NBD_RAW_H */
