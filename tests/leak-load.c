/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Connections that come and go, and as many commands (tests/test-leaks.sh).
 *
 *     leak-load URI CONTROL TIMES
 *
 * Each time: connect, write, read back, trim, disconnect, every eighth time
 * without a word of farewell; then a command on a connection of its own, the
 * limit, the codec, compaction, statistics, in turn.
 *
 * Exit status 0; or 1 and a sentence.
 */

#include <config.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <libnbd.h>

#include "test-util.h"

#define MAX_BYTES (64 * KIB)

static struct rng rng;

static void __attribute__ ((noreturn)) die (const char *what, const char *why)
{
  fprintf (stderr, "leak-load: seed %" PRIu64 ": %s: %s\n", test_seed (), what,
           why);
  exit (EXIT_FAILURE);
}

static void
connect_and_write (const char *uri, unsigned i)
{
  static uint8_t data[MAX_BYTES], back[MAX_BYTES];
  struct nbd_handle *nbd = nbd_create ();
  uint64_t count, offset;

  if (nbd == NULL || nbd_connect_uri (nbd, uri) == -1)
    die ("connect", nbd_get_error ());
  count = rng_size (&rng, MAX_BYTES);
  offset = rng_below (&rng, (uint64_t) nbd_get_size (nbd) - count);
  make_range (&rng, data, count, offset);
  if (nbd_pwrite (nbd, data, count, offset, 0) == -1 ||
      nbd_pread (nbd, back, count, offset, 0) == -1)
    die ("request", nbd_get_error ());
  if (memcmp (data, back, count) != 0)
    die ("read", "other data than was written");
  if (i % 2 == 0 && nbd_trim (nbd, count, offset, 0) == -1)
    die ("trim", nbd_get_error ());
  if (i % 8 != 7)
    nbd_shutdown (nbd, 0);
  nbd_close (nbd);
}

static void
give_command (const char *path, unsigned i)
{
  static const char *const lines[] = {
    "limit 48M\n", "compact wait\n",     "compress lz4\n", "stats json\n",
    "map\n",       "limit none\n",       "classes json\n", "compress zstd:3\n",
    "limit\n",     "compact class 2K\n", "nonsense\n",     "compress zstd:1\n",
    "stats\n",     "compact status\n",
  };
  const char *line = lines[i % (sizeof lines / sizeof lines[0])];
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char answer[16384];
  ssize_t r;
  size_t nr = 0;

  strncpy (addr.sun_path, path, sizeof addr.sun_path - 1);
  if (connect (fd, (struct sockaddr *) &addr, sizeof addr) == -1 ||
      send (fd, line, strlen (line), MSG_NOSIGNAL) == -1 ||
      shutdown (fd, SHUT_WR) == -1)
    die (line, "not sent");
  /* Every sixteenth hangs up at once. */
  if (i % 16 != 15) {
    while ((r = recv (fd, answer, sizeof answer, 0)) > 0)
      nr += (size_t) r;
    if (nr == 0)
      die (line, "no answer");
  }
  close (fd);
}

int
main (int argc, char *argv[])
{
  unsigned long times;

  if (argc != 4) {
    fprintf (stderr, "usage: leak-load URI CONTROL TIMES\n");
    return EXIT_FAILURE;
  }
  test_start ("leak-load");
  rng_init (&rng, test_seed (), 1);
  times = strtoul (argv[3], NULL, 10);
  for (unsigned long i = 0; i < times; ++i) {
    connect_and_write (argv[1], (unsigned) i);
    give_command (argv[2], (unsigned) i);
  }
  return EXIT_SUCCESS;
}
