/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The control socket's place in the file system.
 */

#ifndef ZMEM_CONTROL_BIND_H
#define ZMEM_CONTROL_BIND_H

#include <stddef.h>
#include <sys/types.h>

struct control_socket {
  int fd;           /* listening, non-blocking; -1: none */
  char *path;       /* owned */
  int directory_fd; /* that it lies in, so that its removal needs
                                   no memory and no descriptor */
  dev_t device;     /* with inode: which file is ours */
  ino_t inode;
};

/* Bind and listen.  0, or -errno and in `error` one sentence that begins
 * with the path.
 */
extern int control_socket_create (const char *path, struct control_socket *ret,
                                  char *error, size_t error_bytes);

/* Close it and remove the file, if it is still the one that was made.
 * Does nothing where fd is -1.
 */
extern void control_socket_remove (struct control_socket *socket);

#endif /* ZMEM_CONTROL_BIND_H */
