/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What a block device holds, looked at without the page cache: for guests.
 *
 *   pattern write FILE SEED FIRST COUNT
 *   pattern verify FILE SEED FIRST COUNT
 *   pattern churn FILE SEED COUNT PROGRESS-FILE
 *   pattern latency FILE SEED COUNT READS
 *
 * FIRST, COUNT: blocks of 4096 bytes.  What a block holds follows from its
 * number, its version and the seed; "write" writes version 1, 64 KiB at a
 * time, and "verify" says what it found:
 *
 *   good 4096 zeros 0 wrong 0 errors 0
 *
 * "churn" writes all blocks and then, until it gets a SIGTERM, blocks at
 * random, each with its next version, and verifies others, one request at a
 * time; then it verifies all, says the same and how many requests it made.
 * The number so far is in PROGRESS-FILE.  A write that failed counts as an
 * error, and so does each later block of it that is neither old nor new.
 * "latency" reads single blocks at random, one at a time, and says
 * "p50 P p99 P max M us".
 *
 * Exit status: 0 if all was good, 1 if not, 2 for what makes no sense.
 */

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 4096
#define AT_ONCE 16

static const char *path;
static int fd;
static uint64_t seed;
static size_t first, count;
static char *buffer;
static unsigned long good, zeros, wrong, errors;
static volatile sig_atomic_t ended;

static uint64_t
next_random (uint64_t *state)
{
  uint64_t z = (*state += 0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* One word all over; text of numbers; random bytes. */
static void
make_block (char *block, size_t number, unsigned version)
{
  uint64_t state = (seed * 1000003 + number) * 257 + version;
  const unsigned kind = next_random (&state) % 3;
  const uint64_t word = next_random (&state) | 1;
  uint64_t words[BLOCK_BYTES / sizeof (uint64_t)];

  if (kind == 1) {
    for (size_t i = 0; i < BLOCK_BYTES; i += 16) {
      char line[17];

      snprintf (line, sizeof line, "%14llx\n ",
                (unsigned long long) ((word + i) & 0xffffffffff));
      memcpy (block + i, line, 16);
    }
    return;
  }
  for (size_t i = 0; i < BLOCK_BYTES / sizeof *words; ++i)
    words[i] = kind == 0 ? word : next_random (&state);
  memcpy (block, words, BLOCK_BYTES);
}

static void
complain (const char *what, size_t number)
{
  /* The first few are enough to see what goes on. */
  if (errors + wrong <= 3)
    fprintf (stderr, "%s: %s block %zu%s%s\n", path, what, number,
             errno ? ": " : "", errno ? strerror (errno) : "");
}

/* nr blocks from the buffer, to number on. */
static int
write_blocks (size_t number, size_t nr)
{
  const ssize_t bytes = (ssize_t) (nr * BLOCK_BYTES);

  errno = 0;
  if (pwrite (fd, buffer, (size_t) bytes, (off_t) number * BLOCK_BYTES) ==
      bytes)
    return 0;
  errors += nr;
  complain ("write", number);
  return -1;
}

static int
read_blocks (size_t number, size_t nr)
{
  const ssize_t bytes = (ssize_t) (nr * BLOCK_BYTES);

  errno = 0;
  if (pread (fd, buffer, (size_t) bytes, (off_t) number * BLOCK_BYTES) == bytes)
    return 0;
  errors += nr;
  complain ("read", number);
  return -1;
}

static void
judge_block (const char *block, size_t number, unsigned version)
{
  static const char nothing[BLOCK_BYTES];
  char wanted[BLOCK_BYTES];

  make_block (wanted, number, version);
  if (memcmp (block, wanted, BLOCK_BYTES) == 0)
    good++;
  else if (memcmp (block, nothing, BLOCK_BYTES) == 0)
    zeros++;
  else {
    wrong++;
    errno = 0;
    complain ("wrong", number);
  }
}

static size_t
smaller (size_t a, size_t b)
{
  return a < b ? a : b;
}

static void
write_all (void)
{
  for (size_t i = 0; i < count; i += AT_ONCE) {
    const size_t nr = smaller (count - i, AT_ONCE);

    for (size_t j = 0; j < nr; ++j)
      make_block (buffer + j * BLOCK_BYTES, first + i + j, 1);
    if (write_blocks (first + i, nr) == 0)
      good += nr;
  }
}

/* versions: of each block, or null for 1. */
static void
verify_all (const unsigned *versions)
{
  good = 0;
  for (size_t i = 0; i < count; i += AT_ONCE) {
    const size_t nr = smaller (count - i, AT_ONCE);

    if (read_blocks (first + i, nr) == -1)
      continue;
    for (size_t j = 0; j < nr; ++j)
      judge_block (buffer + j * BLOCK_BYTES, first + i + j,
                   versions ? versions[i + j] : 1);
  }
}

static int
say_account (void)
{
  printf ("good %lu zeros %lu wrong %lu errors %lu\n", good, zeros, wrong,
          errors);
  return zeros + wrong + errors > 0;
}

static void
end_churn (int signal_number)
{
  (void) signal_number;
  ended = 1;
}

static void
tell_progress (int progress_fd, unsigned long nr_requests)
{
  char text[32];
  const int n = snprintf (text, sizeof text, "%-20lu\n", nr_requests);

  if (pwrite (progress_fd, text, (size_t) n, 0) != n)
    err (2, "progress");
}

static int
churn (const char *progress)
{
  const int progress_fd = open (progress, O_WRONLY | O_CREAT, 0600);
  unsigned *const versions = calloc (count, sizeof *versions);
  uint64_t state = seed;
  unsigned long nr_requests = 0;

  if (progress_fd == -1 || versions == NULL)
    err (2, "%s", progress);
  signal (SIGTERM, end_churn);
  write_all ();
  for (size_t i = 0; i < count; ++i)
    versions[i] = 1;
  while (!ended) {
    const size_t number = next_random (&state) % count;

    if (next_random (&state) % 4 == 0) {
      if (read_blocks (number, 1) == 0)
        judge_block (buffer, number, versions[number]);
    }
    else {
      make_block (buffer, number, versions[number] + 1);
      if (write_blocks (number, 1) == 0)
        versions[number]++;
    }
    tell_progress (progress_fd, ++nr_requests);
  }
  verify_all (versions);
  printf ("requests %lu ", nr_requests);
  return say_account ();
}

static int
compare_doubles (const void *a, const void *b)
{
  const double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static double
now_us (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

static int
latency (size_t nr_reads)
{
  double *const took = calloc (nr_reads, sizeof *took);
  uint64_t state = seed;

  if (took == NULL || nr_reads == 0)
    errx (2, "%zu reads", nr_reads);
  for (size_t i = 0; i < nr_reads; ++i) {
    const size_t number = next_random (&state) % count;
    const double start = now_us ();
    const int failed = read_blocks (number, 1);

    took[i] = now_us () - start;
    if (!failed)
      judge_block (buffer, number, 1);
  }
  qsort (took, nr_reads, sizeof *took, compare_doubles);
  printf ("p50 %.0f p99 %.0f max %.0f us ", took[nr_reads / 2],
          took[nr_reads * 99 / 100], took[nr_reads - 1]);
  return say_account ();
}

int
main (int argc, char *argv[])
{
  const char *const what = argc > 1 ? argv[1] : "";

  if (argc != 6)
    errx (2, "usage: pattern write|verify FILE SEED FIRST COUNT, or\n"
             "       pattern churn FILE SEED COUNT PROGRESS-FILE, or\n"
             "       pattern latency FILE SEED COUNT READS");
  setvbuf (stdout, NULL, _IOLBF, 0);
  path = argv[2];
  seed = strtoull (argv[3], NULL, 10);
  count = strtoull (argv[4], NULL, 10);
  fd = open (path, O_RDWR | O_DIRECT);
  if (fd == -1)
    err (1, "%s", path);
  buffer = mmap (NULL, (size_t) AT_ONCE * BLOCK_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffer == MAP_FAILED)
    err (2, "mmap");
  if (strcmp (what, "churn") == 0)
    return churn (argv[5]);
  if (strcmp (what, "latency") == 0)
    return latency (strtoull (argv[5], NULL, 10));
  first = count;
  count = strtoull (argv[5], NULL, 10);
  if (strcmp (what, "write") == 0)
    write_all ();
  else if (strcmp (what, "verify") == 0)
    verify_all (NULL);
  else
    errx (2, "%s: neither write nor verify", what);
  return say_account ();
}
