/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The control socket: commands (commands.h) in, answers out, served by one
 * thread that touches no data path.
 *
 *     client:  a command a line, LF or CR LF, COMMAND_MAX_BYTES at most;
 *              a blank line is ignored
 *     server:  "ok N\n", then exactly N bytes of body
 *         or   "error SENTENCE\n"
 *
 * Answers come in the order of the commands.  A client may send the next
 * command before it has read the last answer; the server reads it after.
 * Where an answer is waited for ("compact wait"), others are served
 * meanwhile; who hangs up instead has it run all the same.
 * After a line that is too long, or a last line without an end, the server
 * answers with an error and closes.
 *
 * Life: control_bind before a fork, where its errors are still seen;
 * control_start after it; control_stop at the end, also where there was no
 * control_start.  All three from the same thread, and for one socket a
 * process.
 */

#ifndef ZMEM_CONTROL_H
#define ZMEM_CONTROL_H

#include <stddef.h>

#include "store.h"

/* Create the socket, with mode 0600 from its first instant, and listen.
 * `path` is absolute.  The socket of a dead server is replaced; anything
 * else that stands there is left alone and is an error.
 * 0, or -errno and in `error` one sentence that begins with the path.
 */
extern int control_bind (const char *path, char *error, size_t error_bytes);

/* Serve what has been bound.  `store` is borrowed until control_stop.
 * 0 or -errno.  Without control_bind it does nothing.
 */
extern int control_start (struct store *store);

/* End the thread (it finishes the command that it is running) and remove
 * the socket, if it is still ours.
 */
extern void control_stop (void);

#endif /* ZMEM_CONTROL_H */
