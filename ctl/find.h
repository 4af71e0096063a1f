/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Where servers are found when nobody says where: control sockets in
 * /run/zmem and $XDG_RUNTIME_DIR/zmem.
 */

#ifndef ZMEM_CTL_FIND_H
#define ZMEM_CTL_FIND_H

#include <stddef.h>

struct sockets {
  char **paths; /* owned, sorted within a directory */
  size_t nr;
};

/* All sockets in those directories, live or dead, that could be a zmem's: by
 * their mode, and by who may have put them there: this user, root, or who owns
 * /run/zmem.  Ends the program where there is no memory.
 */
extern void find_sockets (struct sockets *sockets);
extern void free_sockets (struct sockets *sockets);

/* The directories that are looked into, as "A and B". */
extern const char *find_where (void);

/* The path of the one socket that a server answers on, to be freed.  NULL:
 * there is none, or several; and in `error` one sentence.  Each server is
 * given timeout_ms to answer.
 */
extern char *find_only_server (int timeout_ms, char *error, size_t error_bytes);

#endif /* ZMEM_CTL_FIND_H */
