/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests of every size, one at a time (tests/test-requests.sh).
 *
 *     nbd-requests SOCKET sizes     each power of two from 512 bytes to
 *                                   64 MiB: write, read, zero, trim
 *     nbd-requests SOCKET edges     trims and zeroes of nearly 4 GiB
 *     nbd-requests SOCKET refused   requests that must be refused
 *
 * It speaks the protocol itself, since libraries refuse or cut what is sent
 * here: simple replies, no options but the export's name.
 *
 * Exit status 0; or 1 and one line that says what was wrong.
 */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define KIB ((uint64_t) 1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define SECTOR_BYTES ((uint64_t) 512)
#define BLOCK_BYTES ((uint64_t) 4096)
#define MAX_REQUEST_BYTES (64 * MIB)
/* More than twice the maximum is not even skipped. */
#define UNSKIPPED_BYTES (129 * MIB)

enum command {
  READ = 0,
  WRITE = 1,
  TRIM = 4,
  CACHE = 5,
  ZERO = 6,
  NO_HOLE = 0x20000 /* a flag, with ZERO */
};

static const char *socket_path;
static int sock = -1;
static uint64_t size_bytes;
static uint64_t next_handle;
static uint8_t *buf; /* MAX_REQUEST_BYTES + SECTOR_BYTES */

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  fprintf (stderr, "nbd-requests: ");
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

static void *
allocate (uint64_t count)
{
  void *p = calloc (1, count);

  if (p == NULL)
    die ("out of memory");
  return p;
}

/*--- The protocol. ---*/

struct __attribute__ ((packed)) greeting {
  uint64_t magic, version;
  uint16_t flags;
};
struct __attribute__ ((packed)) choice {
  uint32_t client_flags;
  uint64_t version;
  uint32_t option, length;
};
struct __attribute__ ((packed)) export
{
  uint64_t size;
  uint16_t flags;
};
struct __attribute__ ((packed)) request {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t handle, offset;
  uint32_t count;
};
struct __attribute__ ((packed)) reply {
  uint32_t magic, error;
  uint64_t handle;
};

#define NBD_MAGIC UINT64_C (0x4e42444d41474943)
#define OPTION_MAGIC UINT64_C (0x49484156454f5054)
#define REQUEST_MAGIC UINT32_C (0x25609513)
#define REPLY_MAGIC UINT32_C (0x67446698)
#define FIXED_NEWSTYLE_NO_ZEROES 3
#define OPT_EXPORT_NAME 1

/* False: the server has closed the connection. */
static bool
receive (void *data, uint64_t count)
{
  uint8_t *p = data;

  while (count > 0) {
    const ssize_t n = recv (sock, p, count, 0);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == 0 || (n == -1 && errno == ECONNRESET))
      return false;
    if (n == -1)
      die ("recv: %s", strerror (errno));
    p += n;
    count -= (uint64_t) n;
  }
  return true;
}

static void
transmit (const void *data, uint64_t count)
{
  const uint8_t *p = data;

  while (count > 0) {
    const ssize_t n = send (sock, p, count, MSG_NOSIGNAL);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      die ("send: %s", strerror (errno));
    p += n;
    count -= (uint64_t) n;
  }
}

static void
open_connection (void)
{
  const struct choice choice = {
    .client_flags = htobe32 (FIXED_NEWSTYLE_NO_ZEROES),
    .version = htobe64 (OPTION_MAGIC),
    .option = htobe32 (OPT_EXPORT_NAME),
  };
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  struct greeting greeting;
  struct export export;

  if (strlen (socket_path) >= sizeof address.sun_path)
    die ("%s: too long", socket_path);
  memcpy (address.sun_path, socket_path, strlen (socket_path));
  sock = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (sock == -1 ||
      connect (sock, (struct sockaddr *) &address, sizeof address) == -1)
    die ("%s: %s", socket_path, strerror (errno));

  if (!receive (&greeting, sizeof greeting) ||
      be64toh (greeting.magic) != NBD_MAGIC ||
      be64toh (greeting.version) != OPTION_MAGIC ||
      be16toh (greeting.flags) != FIXED_NEWSTYLE_NO_ZEROES)
    die ("this is no server that we know");
  transmit (&choice, sizeof choice);
  if (!receive (&export, sizeof export))
    die ("the server refuses its default export");
  size_bytes = be64toh (export.size);
}

static void
send_request (unsigned command, uint64_t offset, uint32_t count)
{
  const struct request request = {
    .magic = htobe32 (REQUEST_MAGIC),
    .flags = htobe16 ((uint16_t) (command >> 16)),
    .type = htobe16 ((uint16_t) command),
    .handle = htobe64 (++next_handle),
    .offset = htobe64 (offset),
    .count = htobe32 (count),
  };

  transmit (&request, sizeof request);
}

/* The request's error, or 0.  What is written is data, and so is where a
 * read goes.
 */
static uint32_t
request (unsigned command, uint64_t offset, uint32_t count, void *data)
{
  struct reply reply;

  send_request (command, offset, count);
  if (command == WRITE)
    transmit (data, count);
  if (!receive (&reply, sizeof reply))
    die ("the server hung up at command %u of %" PRIu32 " bytes at %" PRIu64,
         command & 0xffff, count, offset);
  if (be32toh (reply.magic) != REPLY_MAGIC ||
      be64toh (reply.handle) != next_handle)
    die ("not the reply to what was asked");
  if (command == READ && reply.error == 0 && !receive (data, count))
    die ("the server hung up in its reply");
  return be32toh (reply.error);
}

static void
must (unsigned command, uint64_t offset, uint64_t count, void *data)
{
  const uint32_t error = request (command, offset, (uint32_t) count, data);

  if (error != 0)
    die ("command %u of %" PRIu64 " bytes at %" PRIu64 ": error %" PRIu32,
         command & 0xffff, count, offset, error);
}

/*--- Data and a copy of it. ---*/

/* splitmix64; blocks that compress, and others. */
static void
fill_data (uint8_t *data, uint64_t count)
{
  static uint64_t state = 42;

  for (uint64_t i = 0; i < count; i++) {
    static uint64_t z;

    if (i % 8 == 0) {
      z = (state += UINT64_C (0x9e3779b97f4a7c15));
      z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
      z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
      z ^= z >> 31;
      if (i / BLOCK_BYTES % 2 == 0)
        z |= UINT64_C (0x2020202020202020) * (z % 5);
      if (i / BLOCK_BYTES % 4 == 0)
        z &= UINT64_C (0xff00ff00000000ff);
    }
    data[i] = (uint8_t) (z >> (i % 8 * 8)) | 1; /* none is zero */
  }
}

/* A part of the disk and what it must hold. */
struct part {
  uint64_t offset, count;
  uint8_t *copy;
};

static void
check_part (const char *when, const struct part *part)
{
  for (uint64_t done = 0; done < part->count;) {
    const uint64_t left = part->count - done;
    const uint64_t count = left < MAX_REQUEST_BYTES ? left : MAX_REQUEST_BYTES;

    memset (buf, 0xee, count);
    must (READ, part->offset + done, count, buf);
    if (memcmp (buf, part->copy + done, count) != 0)
      for (uint64_t i = 0; i < count; i++)
        if (buf[i] != part->copy[done + i])
          die ("%s: byte %" PRIu64 " is 0x%02x and should be 0x%02x", when,
               part->offset + done + i, buf[i], part->copy[done + i]);
    done += count;
  }
}

static void
fill_part (const struct part *part)
{
  fill_data (part->copy, part->count);
  for (uint64_t done = 0; done < part->count;) {
    const uint64_t left = part->count - done;
    const uint64_t count = left < MAX_REQUEST_BYTES ? left : MAX_REQUEST_BYTES;

    must (WRITE, part->offset + done, count, part->copy + done);
    done += count;
  }
}

/* [offset, offset + count) of the disk reads as zeros. */
static void
zero_in_part (const struct part *part, uint64_t offset, uint64_t count)
{
  const uint64_t part_end = part->offset + part->count;
  const uint64_t start = offset > part->offset ? offset : part->offset;
  const uint64_t end = offset + count < part_end ? offset + count : part_end;

  if (start < end)
    memset (part->copy + (start - part->offset), 0, end - start);
}

/*--- sizes ---*/

/* What lies before and behind. */
#define MARGIN_BYTES (2 * BLOCK_BYTES + SECTOR_BYTES)

static const struct part *whole;

static void
check_around (const char *what, uint64_t offset, uint64_t count)
{
  const uint64_t start = offset > MARGIN_BYTES ? offset - MARGIN_BYTES : 0;
  const uint64_t end = offset + count;
  const uint64_t left = size_bytes - end;
  const uint64_t behind = left < MARGIN_BYTES ? left : MARGIN_BYTES;
  const struct part parts[] = {
    { start, offset - start, whole->copy + start },
    { offset, count, whole->copy + offset },
    { end, behind, whole->copy + end },
  };
  char when[100];

  snprintf (when, sizeof when, "%s of %" PRIu64 " bytes at %" PRIu64, what,
            count, offset);
  for (unsigned i = 0; i < 3; i++)
    check_part (when, &parts[i]);
}

static void
try_size (uint64_t offset, uint64_t count)
{
  const struct part part = { offset, count, whole->copy + offset };

  fill_part (&part);
  check_around ("write", offset, count);
  must (ZERO, offset, count, NULL);
  memset (part.copy, 0, count);
  check_around ("zero", offset, count);
  fill_part (&part);
  must (TRIM, offset, count, NULL);
  memset (part.copy, 0, count);
  check_around ("trim", offset, count);
  fill_part (&part);
  must (ZERO | NO_HOLE, offset, count, NULL);
  memset (part.copy, 0, count);
  check_around ("zero without a hole", offset, count);
  fill_part (&part);
}

static void
try_sizes (void)
{
  static const uint64_t offsets[] = {
    0,
    SECTOR_BYTES,
    BLOCK_BYTES - SECTOR_BYTES,
    2 * MIB - SECTOR_BYTES,
    3 * MIB + 5 * SECTOR_BYTES,
  };
  struct part part = { 0, size_bytes, allocate (size_bytes) };
  unsigned nr_tried = 0;

  if (size_bytes < MAX_REQUEST_BYTES + 4 * MIB || size_bytes > GIB)
    die ("sizes takes a disk of 68 MiB to 1 GiB");
  whole = &part;
  for (uint64_t count = SECTOR_BYTES; count <= MAX_REQUEST_BYTES; count *= 2) {
    /* Of the large ones an odd one and one that ends with the disk. */
    for (unsigned i = 0; i < (count > 4 * MIB ? 2 : 5); i++, nr_tried++)
      if (count <= 4 * MIB || i == 1)
        try_size (offsets[i], count);
    try_size (size_bytes - count, count);
    nr_tried++;
  }
  check_part ("in the end", &part);
  must (ZERO, 0, size_bytes, NULL);
  memset (part.copy, 0, size_bytes);
  check_part ("zero of all", &part);
  printf ("%u sizes and places\n", nr_tried);
  free (part.copy);
}

/*--- edges ---*/

#define EDGE_BYTES (64 * KIB)

/* The blocks that these bytes lie in: one that is trimmed by halves is a block
 * of zeros, no hole.
 */
static void
trim_blocks (uint64_t offset, uint64_t count)
{
  const uint64_t head = offset % BLOCK_BYTES;
  const uint64_t tail = -(offset + count) % BLOCK_BYTES;

  must (TRIM, offset - head, BLOCK_BYTES, NULL);
  must (TRIM, offset, count, NULL);
  must (TRIM, offset + count + tail - BLOCK_BYTES, BLOCK_BYTES, NULL);
}

/* Parts that straddle the start and the end, and some in the middle. */
static void
try_edges (unsigned command, uint64_t offset, uint64_t count)
{
  const uint64_t end = offset + count;
  struct part parts[] = {
    { .offset = offset - EDGE_BYTES, .count = 2 * EDGE_BYTES },
    { .offset = offset + GIB - 100, .count = BLOCK_BYTES },
    { .offset = offset + 3 * GIB, .count = 2 * MIB },
    { .offset = end - EDGE_BYTES, .count = 2 * EDGE_BYTES },
    { .offset = end + 4 * GIB, .count = EDGE_BYTES },
  };
  const unsigned nr_parts = sizeof parts / sizeof parts[0];
  char when[100];

  snprintf (when, sizeof when, "command 0x%x of %" PRIu64 " bytes at %" PRIu64,
            command, count, offset);
  for (unsigned i = 0; i < nr_parts; i++) {
    parts[i].copy = allocate (parts[i].count);
    fill_part (&parts[i]);
  }
  must (command, offset, count, NULL);
  for (unsigned i = 0; i < nr_parts; i++) {
    zero_in_part (&parts[i], offset, count);
    check_part (when, &parts[i]);
  }
  /* Leave nothing. */
  trim_blocks (offset, count);
  for (unsigned i = 0; i < nr_parts; i++) {
    trim_blocks (parts[i].offset, parts[i].count);
    free (parts[i].copy);
  }
}

static void
try_all_edges (void)
{
  static const struct {
    uint64_t offset, count;
  } ranges[] = {
    { 512 * GIB, 4 * GIB - BLOCK_BYTES },
    { 300 * GIB + SECTOR_BYTES, 4 * GIB - SECTOR_BYTES },
    { 77 * GIB + 12345, 4 * GIB - 1 },
  };
  static const unsigned commands[] = { TRIM, ZERO, ZERO | NO_HOLE };

  if (size_bytes < 600 * GIB)
    die ("edges takes a disk of 600 GiB or more");
  for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
    for (unsigned j = 0; j < sizeof commands / sizeof commands[0]; j++)
      try_edges (commands[j], ranges[i].offset, ranges[i].count);
}

/*--- refused ---*/

static void
must_be_refused (unsigned command, uint64_t offset, uint64_t count)
{
  const uint32_t error = request (command, offset, (uint32_t) count, buf);

  printf ("command 0x%05x of %10" PRIu64 " bytes at %20" PRIu64
          ": error %" PRIu32 "\n",
          command, count, offset, error);
  if (error == 0)
    die ("it was not refused");
}

/* Not even read: the server hangs up. */
static void
send_too_much (void)
{
  struct reply reply;

  send_request (WRITE, 0, UNSKIPPED_BYTES);
  if (receive (&reply, sizeof reply) && reply.error == 0)
    die ("a write of %" PRIu64 " bytes was not refused", UNSKIPPED_BYTES);
  printf ("after a write of %" PRIu64 " bytes the server hangs up\n",
          UNSKIPPED_BYTES);
  close (sock);
  open_connection ();
}

static void
try_refused (void)
{
  static const unsigned commands[] = {
    READ, WRITE, TRIM, CACHE, ZERO, ZERO | NO_HOLE,
  };
  struct part part = { 0, size_bytes, allocate (size_bytes) };
  const struct {
    uint64_t offset, count;
  } ranges[] = {
    { size_bytes, 1 },
    { size_bytes - 1, 2 },
    { size_bytes - SECTOR_BYTES, 2 * SECTOR_BYTES },
    { size_bytes - MIB, MIB + 1 },
    { 0, size_bytes + 1 },
    { size_bytes + 5 * GIB, BLOCK_BYTES },
    { INT64_MAX - 100, BLOCK_BYTES },
    { UINT64_MAX - BLOCK_BYTES + 1, BLOCK_BYTES },
    { UINT64_MAX - 10, BLOCK_BYTES },
    { 0, 0 },
  };

  if (size_bytes < MAX_REQUEST_BYTES + MIB || size_bytes > GIB)
    die ("refused takes a disk of 65 MiB to 1 GiB");
  fill_part (&part);
  fill_data (buf, MAX_REQUEST_BYTES + SECTOR_BYTES);
  for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
    for (unsigned j = 0; j < sizeof commands / sizeof commands[0]; j++) {
      /* Data of which there is too much comes below. */
      if (commands[j] <= WRITE && ranges[i].count > MAX_REQUEST_BYTES)
        continue;
      must_be_refused (commands[j], ranges[i].offset, ranges[i].count);
    }
  must_be_refused (TRIM, SECTOR_BYTES, UINT32_MAX);
  must_be_refused (ZERO, SECTOR_BYTES, UINT32_MAX);
  must_be_refused (READ, 0, MAX_REQUEST_BYTES + SECTOR_BYTES);
  must_be_refused (WRITE, 0, MAX_REQUEST_BYTES + SECTOR_BYTES);
  check_part ("after what was refused", &part);
  send_too_much ();
  check_part ("after too much", &part);
  free (part.copy);
}

/*--- ---*/

int
main (int argc, char *argv[])
{
  static const struct {
    const char *name;
    void (*run) (void);
  } modes[] = {
    { "sizes", try_sizes },
    { "edges", try_all_edges },
    { "refused", try_refused },
  };

  for (unsigned i = 0; argc == 3 && i < sizeof modes / sizeof modes[0]; i++)
    if (strcmp (argv[2], modes[i].name) == 0) {
      socket_path = argv[1];
      buf = allocate (MAX_REQUEST_BYTES + SECTOR_BYTES);
      open_connection ();
      modes[i].run ();
      close (sock);
      free (buf);
      return EXIT_SUCCESS;
    }
  fprintf (stderr, "usage: nbd-requests SOCKET sizes|edges|refused\n");
  return EXIT_FAILURE;
}
