/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Random operations on a file against a copy in memory, as fsx does
 * (tests/test-nbdfuse.sh).
 *
 *     file-random FILE COPY OPERATIONS [SEED]
 *
 * The file keeps its size.  Reads and writes, of 1 byte to 256 KiB at any
 * offset, go through the kernel's cache or around it (O_DIRECT), each as
 * likely; besides, parts are read through a mapping, holes are punched, ranges
 * are zeroed, and all is synchronised.  What the file system cannot do
 * (EOPNOTSUPP, ENODEV)
 * is left out and told of at the end.
 *
 * Every read must return what the copy holds.  In the end all of the file is
 * read around the cache, and the copy is written to the file COPY, for
 * somebody else to compare.
 *
 * Exit status 0; or 1 and one line with the seed, the operation's number and
 * the first byte that is wrong.
 */

#define _GNU_SOURCE

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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_BYTES ((uint64_t) 256 * 1024)
#define SMALL_BYTES ((uint64_t) 6000)
#define PAGE_BYTES ((uint64_t) 4096)

enum operation {
  OP_READ,
  OP_WRITE,
  OP_MAP,
  OP_PUNCH,
  OP_ZERO,
  OP_SYNC,
  NR_OPERATIONS
};

static const struct {
  const char *name;
  unsigned percent;
} operations[NR_OPERATIONS] = {
  [OP_READ] = { "read", 35 },        [OP_WRITE] = { "write", 43 },
  [OP_MAP] = { "mapped read", 10 },  [OP_PUNCH] = { "punched hole", 6 },
  [OP_ZERO] = { "zeroed range", 4 }, [OP_SYNC] = { "fsync", 2 },
};

static uint64_t seed, random_state;
static uint64_t nr_operation; /* the present one, from 1 on */
static uint64_t nr_done[NR_OPERATIONS], nr_direct;
static bool is_unsupported[NR_OPERATIONS];

static int cached_fd, direct_fd; /* of one file; -1: it has no O_DIRECT */
static uint64_t size_bytes;
static uint8_t *copy; /* size_bytes */
static uint8_t *buf;  /* MAX_BYTES, aligned to a page */

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  fprintf (stderr, "file-random: seed %" PRIu64 ", operation %" PRIu64 ": ",
           seed, nr_operation);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (EXIT_FAILURE);
}

/* splitmix64 */
static uint64_t
next_random (void)
{
  uint64_t z = (random_state += UINT64_C (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* One range in three begins at a page, one in three ends at one. */
static void
choose_range (uint64_t *offset, uint64_t *count)
{
  const uint64_t most = next_random () % 2 == 0 ? SMALL_BYTES : MAX_BYTES;

  *offset = next_random () % size_bytes;
  *count = 1 + next_random () % most;
  if (next_random () % 3 == 0)
    *offset -= *offset % PAGE_BYTES;
  if (next_random () % 3 == 0)
    *count += PAGE_BYTES - (*offset + *count) % PAGE_BYTES;
  if (*count > MAX_BYTES)
    *count = MAX_BYTES;
  if (*count > size_bytes - *offset)
    *count = size_bytes - *offset;
}

static enum operation
choose_operation (void)
{
  unsigned percent = (unsigned) (next_random () % 100);
  unsigned operation = 0;

  while (percent >= operations[operation].percent)
    percent -= operations[operation++].percent;
  return (enum operation) operation;
}

/* Bytes that compress, that do not, and that repeat. */
static void
fill_data (uint64_t count)
{
  const uint64_t kind = next_random () % 4;
  const uint8_t byte = (uint8_t) next_random ();

  for (uint64_t i = 0; i < count; i++)
    buf[i] = kind == 0                   ? byte
             : kind == 1 || i % 16 >= 12 ? (uint8_t) next_random ()
                                         : (uint8_t) (byte + i / 16 % 7);
}

static int
choose_fd (void)
{
  if (direct_fd == -1 || next_random () % 2 == 0)
    return cached_fd;
  nr_direct++;
  return direct_fd;
}

static void
read_exactly (int fd, void *data, uint64_t count, uint64_t offset)
{
  uint8_t *p = data;

  while (count > 0) {
    const ssize_t n = pread (fd, p, count, (off_t) offset);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      die ("read of %" PRIu64 " bytes at %" PRIu64 ": %s", count, offset,
           n == 0 ? "the file ends there" : strerror (errno));
    p += n;
    count -= (uint64_t) n;
    offset += (uint64_t) n;
  }
}

static void
write_exactly (int fd, const void *data, uint64_t count, uint64_t offset)
{
  const uint8_t *p = data;

  while (count > 0) {
    const ssize_t n = pwrite (fd, p, count, (off_t) offset);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      die ("write of %" PRIu64 " bytes at %" PRIu64 ": %s", count, offset,
           n == 0 ? "nothing was written" : strerror (errno));
    p += n;
    count -= (uint64_t) n;
    offset += (uint64_t) n;
  }
}

static void
compare (const char *what, const uint8_t *data, uint64_t count, uint64_t offset)
{
  if (memcmp (data, copy + offset, count) == 0)
    return;
  for (uint64_t i = 0; i < count; i++)
    if (data[i] != copy[offset + i])
      die ("%s of %" PRIu64 " bytes at %" PRIu64 ": byte %" PRIu64
           " is 0x%02x and should be 0x%02x",
           what, count, offset, offset + i, data[i], copy[offset + i]);
}

static void
do_read (uint64_t offset, uint64_t count)
{
  const int fd = choose_fd ();

  memset (buf, 0xee, count);
  read_exactly (fd, buf, count, offset);
  compare (fd == direct_fd ? "direct read" : "read", buf, count, offset);
}

static void
do_write (uint64_t offset, uint64_t count)
{
  fill_data (count);
  write_exactly (choose_fd (), buf, count, offset);
  memcpy (copy + offset, buf, count);
}

/* False: the file system cannot. */
static bool
do_map (uint64_t offset, uint64_t count)
{
  const uint64_t head = offset % PAGE_BYTES;
  uint8_t *map = mmap (NULL, head + count, PROT_READ, MAP_SHARED, cached_fd,
                       (off_t) (offset - head));

  if (map == MAP_FAILED) {
    if (errno == ENODEV)
      return false;
    die ("mmap of %" PRIu64 " bytes at %" PRIu64 ": %s", count, offset,
         strerror (errno));
  }
  compare ("mapped read", map + head, count, offset);
  munmap (map, head + count);
  return true;
}

static bool
do_zero (int mode, uint64_t offset, uint64_t count)
{
  if (fallocate (cached_fd, mode | FALLOC_FL_KEEP_SIZE, (off_t) offset,
                 (off_t) count) == -1) {
    if (errno == EOPNOTSUPP)
      return false;
    die ("fallocate 0x%x of %" PRIu64 " bytes at %" PRIu64 ": %s",
         (unsigned) mode, count, offset, strerror (errno));
  }
  memset (copy + offset, 0, count);
  return true;
}

static void
do_operation (void)
{
  const enum operation operation = choose_operation ();
  uint64_t offset, count;
  bool supported = true;

  choose_range (&offset, &count);
  if (is_unsupported[operation])
    return;
  switch (operation) {
  case OP_READ:
    do_read (offset, count);
    break;
  case OP_WRITE:
    do_write (offset, count);
    break;
  case OP_MAP:
    supported = do_map (offset, count);
    break;
  case OP_PUNCH:
    supported = do_zero (FALLOC_FL_PUNCH_HOLE, offset, count);
    break;
  case OP_ZERO:
    supported = do_zero (FALLOC_FL_ZERO_RANGE, offset, count);
    break;
  case OP_SYNC:
    if (fsync (cached_fd) == -1)
      die ("fsync: %s", strerror (errno));
    break;
  case NR_OPERATIONS:
    abort ();
  }
  is_unsupported[operation] = !supported;
  nr_done[operation] += supported;
}

static void
open_file (const char *name)
{
  struct stat st;

  cached_fd = open (name, O_RDWR | O_CLOEXEC);
  if (cached_fd == -1 || fstat (cached_fd, &st) == -1)
    die ("%s: %s", name, strerror (errno));
  if (!S_ISREG (st.st_mode) || st.st_size == 0)
    die ("%s is no regular file with something in it", name);
  size_bytes = (uint64_t) st.st_size;
  direct_fd = open (name, O_RDWR | O_CLOEXEC | O_DIRECT);

  copy = malloc (size_bytes);
  if (copy == NULL || posix_memalign ((void **) &buf, PAGE_BYTES, MAX_BYTES))
    die ("out of memory");
  read_exactly (cached_fd, copy, size_bytes, 0);

  /* Where odd offsets are refused, there is no use for it. */
  if (direct_fd != -1 && size_bytes > 1 &&
      pread (direct_fd, buf + 1, 1, 1) != 1) {
    close (direct_fd);
    direct_fd = -1;
  }
}

static void
check_all (void)
{
  for (uint64_t offset = 0; offset < size_bytes; offset += MAX_BYTES) {
    const uint64_t left = size_bytes - offset;
    const uint64_t count = left < MAX_BYTES ? left : MAX_BYTES;

    read_exactly (direct_fd == -1 ? cached_fd : direct_fd, buf, count, offset);
    compare ("last look", buf, count, offset);
  }
}

static void
save_copy (const char *name)
{
  const int fd = open (name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  if (fd == -1)
    die ("%s: %s", name, strerror (errno));
  write_exactly (fd, copy, size_bytes, 0);
  if (close (fd) == -1)
    die ("%s: %s", name, strerror (errno));
}

static void
print_account (void)
{
  printf ("seed %" PRIu64 ":", seed);
  for (unsigned i = 0; i < NR_OPERATIONS; i++) {
    printf ("%s %" PRIu64 " %s", i > 0 ? "," : "", nr_done[i],
            operations[i].name);
    if (is_unsupported[i])
      printf (" (the file system cannot)");
  }
  printf ("; %" PRIu64 " with O_DIRECT\n", nr_direct);
}

int
main (int argc, char *argv[])
{
  uint64_t nr_operations;

  if (argc != 4 && argc != 5) {
    fprintf (stderr, "usage: file-random FILE COPY OPERATIONS [SEED]\n");
    return EXIT_FAILURE;
  }
  nr_operations = strtoull (argv[3], NULL, 10);
  seed = argc == 5 ? strtoull (argv[4], NULL, 10) : (uint64_t) time (NULL);
  random_state = seed;

  open_file (argv[1]);
  while (nr_operation < nr_operations) {
    nr_operation++;
    do_operation ();
  }
  check_all ();
  save_copy (argv[2]);
  print_account ();
  free (copy);
  free (buf);
  return EXIT_SUCCESS;
}
