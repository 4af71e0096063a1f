/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A client of a server whose calls are made to fail (tests/test-faults.sh).
 *
 *     nbd-faults URI CONTROL FAULTS FAMILY STEP ROW [SEED]
 *
 * Round after round of requests and control commands, in each of which the
 * Nth call of the family, and the ROW - 1 after it, fail (fault-slots.h); N
 * grows by STEP on average, from 1 until a round has fewer calls.
 *
 * A write or a zero request may be refused (ENOMEM, ENOSPC); then each block
 * is as it was or as it should be.  A read or a trim is never refused.  A
 * command may be answered with an error or, where the server could not even
 * make one, not at all.  After each round, with nothing failing, every byte
 * is compared with a copy and the server answers commands again.  After the
 * last all is trimmed, and no more is held than before the first.
 *
 * Exit status 0, or 1 and a sentence that names the family, N and the seed.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "fault-slots.h"
#include "test-util.h"

#define MAX_BYTES (160 * KIB)
#define COMPARE_BYTES MIB
#define MAX_ROUNDS 100000
#define ANSWER_BYTES (256 * KIB)
#define ANSWER_SECONDS 60
/* The server writes its file of statistics every second. */
#define FILE_ROUND_US 1300000
/* Held after all was trimmed: what differs from run to run. */
#define HELD_SLACK_BYTES MIB
#define HELD_TRIES 500
#define HELD_PAUSE_US 20000

static struct nbd_handle *nbd;
static struct fault_slot *slot;
static const char *family_name = "-", *control_path;
static uint64_t size_bytes, nth;
static uint8_t *shadow, *buf, *back;
static struct rng rng;

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  fprintf (stderr,
           "nbd-faults: %s, N = %" PRIu64 " (%.31s), seed %" PRIu64 ": ",
           family_name, nth, slot != NULL ? slot->name : "", test_seed ());
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

static void *
allocate (uint64_t bytes)
{
  void *p = calloc (1, bytes);

  if (p == NULL)
    die ("out of memory");
  return p;
}

static bool
has_failed (void)
{
  return slot != NULL && atomic_load (&slot->nr_failed) > 0;
}

static void
disarm (void)
{
  if (slot != NULL)
    atomic_store (&slot->nth, 0);
}

static void
arm (uint64_t nr_in_row)
{
  disarm ();
  atomic_store (&slot->nr_calls, 0);
  atomic_store (&slot->nr_failed, 0);
  atomic_store (&slot->nr_in_row, nr_in_row);
  atomic_store (&slot->nth, nth);
}

/*--- Requests. ---*/

/* Each block of the range is as it was or as `buf` has it. */
static void
take_old_or_new (uint64_t count, uint64_t offset)
{
  uint64_t i, n;

  if (nbd_pread (nbd, back, count, offset, 0) == -1)
    die ("read after a refusal: %s", nbd_get_error ());
  for (i = 0; i < count; i += n) {
    n = TEST_BLOCK_BYTES - (offset + i) % TEST_BLOCK_BYTES;
    if (n > count - i)
      n = count - i;
    if (memcmp (back + i, buf + i, n) != 0 &&
        memcmp (back + i, shadow + offset + i, n) != 0)
      die ("block %" PRIu64 " is neither old nor new after a refusal",
           (offset + i) / TEST_BLOCK_BYTES);
  }
  memcpy (shadow + offset, back, count);
}

/* A request that makes the range what `buf` is has returned r. */
static void
note_change (int r, const char *request, uint64_t count, uint64_t offset)
{
  const int error = nbd_get_errno ();

  if (r == 0) {
    memcpy (shadow + offset, buf, count);
    return;
  }
  if (!has_failed () || (error != ENOMEM && error != ENOSPC))
    die ("%s of %" PRIu64 " at %" PRIu64 ": %s", request, count, offset,
         nbd_get_error ());
  take_old_or_new (count, offset);
}

static void
write_somewhere (uint64_t count, uint64_t offset)
{
  make_range (&rng, buf, count, offset);
  note_change (nbd_pwrite (nbd, buf, count, offset, 0), "write", count, offset);
}

static void
zero_somewhere (uint64_t count, uint64_t offset)
{
  memset (buf, 0, count);
  note_change (nbd_zero (nbd, count, offset, 0), "zero", count, offset);
}

/* Its edges may stay where there is no memory for them. */
static void
trim_somewhere (uint64_t count, uint64_t offset)
{
  memset (buf, 0, count);
  if (nbd_trim (nbd, count, offset, 0) == -1)
    die ("trim of %" PRIu64 " at %" PRIu64 ": %s", count, offset,
         nbd_get_error ());
  if (has_failed ())
    take_old_or_new (count, offset);
  else
    memcpy (shadow + offset, buf, count);
}

static void
compare (uint64_t count, uint64_t offset)
{
  if (nbd_pread (nbd, back, count, offset, 0) == -1)
    die ("read of %" PRIu64 " at %" PRIu64 ": %s", count, offset,
         nbd_get_error ());
  for (uint64_t i = 0; i < count; ++i)
    if (back[i] != shadow[offset + i])
      die ("byte %" PRIu64 " is %02x, not %02x", offset + i, back[i],
           shadow[offset + i]);
}

static void
compare_all (void)
{
  for (uint64_t at = 0; at < size_bytes; at += COMPARE_BYTES)
    compare (size_bytes - at < COMPARE_BYTES ? size_bytes - at : COMPARE_BYTES,
             at);
}

static void
request_somewhere (unsigned i)
{
  const uint64_t count = rng_size (&rng, MAX_BYTES);
  const uint64_t offset = rng_below (&rng, size_bytes - count);

  switch (i % 8) {
  case 2:
    zero_somewhere (count, offset);
    break;
  case 4:
    trim_somewhere (count, offset);
    break;
  case 6:
    compare (count, offset);
    break;
  default:
    write_somewhere (count, offset);
    break;
  }
}

/*--- Commands. ---*/

static char answer[ANSWER_BYTES + 1];

/* All that the server says; false: it hung up or could not be reached. */
static bool
ask (const char *command)
{
  const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  size_t used = 0;
  ssize_t r;

  strncpy (addr.sun_path, control_path, sizeof addr.sun_path - 1);
  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  answer[0] = '\0';
  if (connect (fd, (struct sockaddr *) &addr, sizeof addr) == -1)
    die ("connect to the control socket: %m");
  if (send (fd, command, strlen (command), MSG_NOSIGNAL) > 0 &&
      send (fd, "\n", 1, MSG_NOSIGNAL) > 0)
    shutdown (fd, SHUT_WR);
  while ((r = recv (fd, answer + used, ANSWER_BYTES - used, 0)) > 0)
    used += (size_t) r;
  if (r == -1 && errno == EAGAIN)
    die ("\"%s\": no answer within %d s", command, ANSWER_SECONDS);
  close (fd);
  answer[used] = '\0';
  return used > 0;
}

/* "ok BYTES", and so many bytes behind it; none of our commands has none. */
static bool
is_ok (void)
{
  char *end;
  unsigned long bytes;

  if (strncmp (answer, "ok ", 3) != 0)
    return false;
  bytes = strtoul (answer + 3, &end, 10);
  return *end == '\n' && bytes > 0 && strlen (end + 1) == bytes;
}

/* It succeeds; or where a call has failed it may be refused. */
static void
command (const char *line)
{
  const bool answered = ask (line);

  if (answered && is_ok ())
    return;
  if (!has_failed ())
    die ("\"%s\": %s", line, answered ? answer : "no answer");
  if (answered && strncmp (answer, "error ", 6) != 0)
    die ("\"%s\": neither ok nor error: %s", line, answer);
}

static uint64_t
statistic (const char *name)
{
  char piece[64];
  const char *p;

  snprintf (piece, sizeof piece, "\n%s ", name);
  if (!ask ("stats") || !is_ok ())
    die ("the server does not answer any more: %s", answer);
  p = strstr (answer, piece);
  if (p == NULL)
    die ("no %s in the statistics", name);
  return strtoull (p + strlen (piece), NULL, 10);
}

/*--- Rounds. ---*/

static void
run_round (void)
{
  static const char *const lines[] = { "stats",
                                       "limit 64M",
                                       "compress zstd:2",
                                       "classes json",
                                       "map",
                                       "compact wait",
                                       "stats prometheus",
                                       "compress lz4:2",
                                       "compact",
                                       "stats json",
                                       "limit none",
                                       "compact status",
                                       "compress zstd",
                                       "help",
                                       "limit" };

  for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; ++i) {
    request_somewhere (2 * i);
    command (lines[i]);
    request_somewhere (2 * i + 1);
  }
  if (strcmp (family_name, "file") == 0)
    sleep_us (FILE_ROUND_US);
}

static void
trim_all (void)
{
  if (nbd_trim (nbd, size_bytes, 0, 0) == -1)
    die ("trim of everything: %s", nbd_get_error ());
  memset (shadow, 0, size_bytes);
}

/* With all trimmed: what is held when no more of it goes, or once it is as
 * little as is wanted.
 */
static uint64_t
held_at_rest (uint64_t wanted_bytes)
{
  uint64_t held = statistic ("held_bytes"), before;
  unsigned nr_same = 0, i;

  for (i = 0; i < HELD_TRIES && held > wanted_bytes && nr_same < 20; ++i) {
    sleep_us (HELD_PAUSE_US);
    before = held;
    held = statistic ("held_bytes");
    nr_same = held == before ? nr_same + 1 : 0;
  }
  return held;
}

static void
check_at_rest (uint64_t held_before)
{
  const uint64_t held = held_at_rest (held_before + HELD_SLACK_BYTES);

  if (held > held_before + HELD_SLACK_BYTES)
    die ("%" PRIu64 " bytes are held after all was trimmed, %" PRIu64 " before",
         held, held_before);
  if (statistic ("live_blocks") != 0 || statistic ("payload_bytes") != 0)
    die ("live_blocks %" PRIu64 ", payload_bytes %" PRIu64 " after all was"
         " trimmed",
         statistic ("live_blocks"), statistic ("payload_bytes"));
  if (statistic ("checksum_failures") != 0)
    die ("a payload failed its checksum");
}

static void
enumerate (uint64_t step, uint64_t row)
{
  uint64_t held_before, nr_injected = 0, nr_rounds = 0;

  /* What is made once only is there now. */
  run_round ();
  trim_all ();
  held_before = held_at_rest (0);

  for (nth = 1; nr_rounds < MAX_ROUNDS;
       nth += step == 1 ? 1 : 1 + rng_below (&rng, 2 * step - 1)) {
    const bool last = (arm (row), run_round (), disarm (), !has_failed ());

    compare_all ();
    command ("stats");
    ++nr_rounds;
    nr_injected += atomic_load (&slot->nr_failed);
    if (last)
      break;
    if (nr_rounds % 16 == 0)
      trim_all ();
  }
  atomic_store (&slot->nr_failed, 0);
  trim_all ();
  check_at_rest (held_before);
  printf ("serving: %s: %" PRIu64 " calls failed, in %" PRIu64
          " rounds, the last N"
          " was %" PRIu64 "\n",
          family_name, nr_injected, nr_rounds, nth);
}

static void
map_slot (const char *path)
{
  const int fd = open (path, O_RDWR | O_CLOEXEC);
  struct fault_slot *slots;
  unsigned i;

  slots = fd == -1 ? MAP_FAILED
                   : mmap (NULL, FAULT_FILE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_SHARED, fd, 0);
  if (slots == MAP_FAILED)
    die ("%s: %m", path);
  close (fd);
  for (i = 0; i < NR_FAULT_FAMILIES; ++i)
    if (strcmp (fault_family_names[i], family_name) == 0)
      break;
  if (i == NR_FAULT_FAMILIES)
    die ("no such family");
  slot = &slots[i];
}

int
main (int argc, char *argv[])
{
  if (argc != 7 && argc != 8) {
    fprintf (stderr, "usage: nbd-faults URI CONTROL FAULTS FAMILY STEP ROW"
                     " [SEED]\n");
    return EXIT_FAILURE;
  }
  test_start ("nbd-faults");
  if (argc == 8)
    test_set_seed (strtoull (argv[7], NULL, 0));
  rng_init (&rng, test_seed (), 1);

  nbd = nbd_create ();
  if (nbd == NULL || nbd_connect_uri (nbd, argv[1]) == -1)
    die ("%s", nbd_get_error ());
  size_bytes = (uint64_t) nbd_get_size (nbd);
  shadow = allocate (size_bytes);
  buf = allocate (MAX_BYTES);
  back = allocate (COMPARE_BYTES);

  control_path = argv[2];
  family_name = argv[4];
  map_slot (argv[3]);
  enumerate (strtoull (argv[5], NULL, 0), strtoull (argv[6], NULL, 0));
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  free (shadow);
  free (buf);
  free (back);
  return EXIT_SUCCESS;
}
