/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Does this nbdkit survive a client that hangs up?
 *
 * nbdkit 1.32 does not, when it has several threads a connection.  They wait
 * for each other to send their replies:
 *
 *   thread 1                       threads 2 to 16
 *   --------                       ---------------
 *   status is "active"             status is "active"
 *   lock the sending side          wait for that lock
 *   send () = EPIPE
 *   status becomes "dead"
 *   unlock                         2 has the lock, and fails likewise
 *   lock, shutdown (),
 *   socket = -1, unlock            3 has the lock: assert (socket >= 0)
 *
 * None of them looks at the status again once it has the lock.  A reader
 * that meets a reset connection or half a request closes in the same way.
 * The abort takes the disk with it, and all other clients.  It is not rare:
 * of clients that hung up with 16 small requests in flight the first to the
 * 48th did it, over Unix sockets and TCP; where 16 replies of 1 MiB had piled
 * up, the first to the fourth.  (400 over TLS, whose sending side has no such
 * assertion, did not.)  A single thread looks at the status between any two
 * sends: after 1000 clients that left in all of these ways the server was
 * there (tests/test-kills.sh).
 *
 * nbdkit has one thread a connection for a plugin whose model is
 * SERIALIZE_REQUESTS; connections are served beside each other.  So that is
 * zmem's model where nbdkit is older than 1.34, whose release notes have the
 * fix ("rare assertion failure ... clients hanging up early").  What is lost
 * is that a single connection can keep more than one processor busy, and that
 * a read need not wait for the write before it.  With two connections on two
 * processors 1 thread a connection and 16 are alike: 163 and 142 thousand
 * reads a second, 105 and 107 thousand writes (docs/BENCHMARKS, Scale:
 * threads).
 *
 * nbdkit does not tell a plugin its version, but there is a function that
 * later ones have and 1.32 has not.
 *
 * Tried and dropped, each with 200 clients of four kinds:
 * - nbdkit -t 1 does the same, if everybody thinks of it.
 * - A preloaded library whose send () succeeds where the client has gone, and
 *   whose read () then says end of file.  Three kinds were survived, but half
 *   a request at the end made an end after 11 clients: there it is nbdkit
 *   itself that finds the error.
 * - Catching SIGABRT and parking the thread.  The lock of the sending side
 *   stays locked, the connection's other threads and its socket are never
 *   freed (866 threads and 451 descriptors after 200 clients), and SIGTERM no
 *   longer ends the server.
 * - Holding replies back in the plugin: it is not told that a client has
 *   gone, and sends nothing itself.
 */

#include <config.h>

#include <stddef.h>

#include "hang-up.h"

/* nbdkit's, of 1.34.  Not from its header, which is of the version that was
 * there at build time; weak, so that it may be missing.
 */
extern void nbdkit_disconnect (int force) __attribute__ ((weak));

bool
hang_up_is_survived (void)
{
  return nbdkit_disconnect != NULL;
}
