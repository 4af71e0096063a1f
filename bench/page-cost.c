/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What does a page cost to get and to give back?
 *
 *   page-cost [--rounds N]
 *
 * Anonymous memory against a shared mapping of a memfd (what a pool in a file
 * on tmpfs would be), both without huge pages:
 *
 *   touch        write one byte to a page that is not there
 *   populate N   MADV_POPULATE_WRITE of N pages that are not there
 *   fallocate N  the same for a file, and then touch each: what a pool on a
 *                tmpfs must do, where touching a page too many is a SIGBUS
 *   purge N      give N resident pages back: MADV_DONTNEED, and
 *                FALLOC_FL_PUNCH_HOLE or MADV_REMOVE for the memfd
 *
 * Nanoseconds a page: the median and the mean over all calls of all rounds,
 * less what reading the clock costs.  The mean holds what the median hides:
 * new page tables, refills of the kernel's free lists, interrupts.  Half of
 * the columns are measured while a second thread touches (and drops) pages of
 * the other half of the same mapping, as writers do while a purger works; it
 * has a processor of its own, where there are two.
 *
 * What it printed: docs/ALLOCATOR.
 */

#define _GNU_SOURCE

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench-clock.h"

#define PAGE_BYTES 4096
#define HALF_PAGES 8192 /* measured; as many for the second thread */
#define HALF_BYTES ((size_t) HALF_PAGES * PAGE_BYTES)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum backing { ANONYMOUS, MEMFD };
enum verb { TOUCH, POPULATE, FALLOCATE, PURGE, PURGE_BY_MADVISE };

struct operation {
  enum verb verb;
  unsigned nr_pages;
  const char *name;
};

static const struct operation operations[] = {
  { TOUCH, 1, "touch" },
  { POPULATE, 1, "populate 1" },
  { POPULATE, 4, "populate 4" },
  { POPULATE, 16, "populate 16" },
  { POPULATE, 32, "populate 32" },
  { POPULATE, 64, "populate 64" },
  { FALLOCATE, 1, "fallocate 1, touch" },
  { FALLOCATE, 16, "fallocate 16, touch" },
  { FALLOCATE, 64, "fallocate 64, touch" },
  { PURGE, 1, "purge 1" },
  { PURGE, 16, "purge 16" },
  { PURGE, 64, "purge 64 (256K)" },
  { PURGE_BY_MADVISE, 1, "purge 1, MADV_REMOVE" },
  { PURGE_BY_MADVISE, 16, "purge 16, MADV_REMOVE" },
  { PURGE_BY_MADVISE, 64, "purge 64, MADV_REMOVE" },
};
#define NR_OPERATIONS (sizeof operations / sizeof *operations)

struct mapping {
  enum backing backing;
  int fd; /* -1: anonymous */
  char *start;
};

struct figure {
  double median_ns, mean_ns; /* a page */
};

static double clock_ns; /* two readings, nothing between */
static atomic_bool stop_touching;

static int
compare_samples (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

static double
median (uint64_t *samples, size_t nr)
{
  qsort (samples, nr, sizeof *samples, compare_samples);
  return (samples[(nr - 1) / 2] + samples[nr / 2]) / 2.0;
}

static double
mean (const uint64_t *samples, size_t nr)
{
  double sum = 0;

  for (size_t i = 0; i < nr; ++i)
    sum += samples[i];
  return sum / nr;
}

static void
calibrate_clock (void)
{
  uint64_t samples[1001];

  for (size_t i = 0; i < 1001; ++i) {
    uint64_t start = now_ns ();

    samples[i] = now_ns () - start;
  }
  clock_ns = median (samples, 1001);
}

static struct mapping
map_pages (enum backing backing)
{
  struct mapping m = { backing, -1, NULL };
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;

  if (backing == MEMFD) {
    m.fd = memfd_create ("page-cost", MFD_CLOEXEC);
    if (m.fd == -1 || ftruncate (m.fd, 2 * HALF_BYTES) == -1)
      err (EXIT_FAILURE, "memfd");
    flags = MAP_SHARED;
  }
  m.start = mmap (NULL, 2 * HALF_BYTES, PROT_READ | PROT_WRITE,
                  flags | MAP_NORESERVE, m.fd, 0);
  if (m.start == MAP_FAILED)
    err (EXIT_FAILURE, "mmap");
  madvise (m.start, 2 * HALF_BYTES, MADV_NOHUGEPAGE);
  return m;
}

static void
unmap_pages (struct mapping *m)
{
  munmap (m->start, 2 * HALF_BYTES);
  if (m->fd != -1)
    close (m->fd);
}

static void
populate (struct mapping *m, size_t offset, size_t bytes)
{
  if (madvise (m->start + offset, bytes, MADV_POPULATE_WRITE) == -1)
    err (EXIT_FAILURE, "MADV_POPULATE_WRITE");
}

static void
purge (struct mapping *m, size_t offset, size_t bytes, bool by_madvise)
{
  int r;

  if (m->backing == ANONYMOUS)
    r = madvise (m->start + offset, bytes, MADV_DONTNEED);
  else if (by_madvise)
    r = madvise (m->start + offset, bytes, MADV_REMOVE);
  else
    r = fallocate (m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                   bytes);
  if (r == -1)
    err (EXIT_FAILURE, "purge");
}

static void
touch (struct mapping *m, size_t offset)
{
  *(volatile char *) (m->start + offset) = 1;
}

static void
fallocate_and_touch (struct mapping *m, size_t offset, size_t bytes)
{
  if (fallocate (m->fd, 0, offset, bytes) == -1)
    err (EXIT_FAILURE, "fallocate");
  for (size_t at = offset; at < offset + bytes; at += PAGE_BYTES)
    touch (m, at);
}

/* Left to the scheduler, both threads may share a processor for a while, and
 * a purge then interrupts nobody: half the cost, or a tenth.
 */
static void
pin_thread (unsigned nth)
{
  static cpu_set_t allowed;
  static bool have_allowed;
  cpu_set_t one;

  if (!have_allowed)
    have_allowed = sched_getaffinity (0, sizeof allowed, &allowed) == 0;
  nth %= CPU_COUNT (&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET (cpu, &allowed) && nth-- == 0) {
      CPU_ZERO (&one);
      CPU_SET (cpu, &one);
      sched_setaffinity (0, sizeof one, &one);
      return;
    }
}

/* The second thread: the upper half, page by page, dropped when full. */
static void *
touch_upper_half (void *opaque)
{
  struct mapping *m = opaque;

  pin_thread (1);
  while (!atomic_load_explicit (&stop_touching, memory_order_relaxed)) {
    for (size_t i = 0;
         i < HALF_PAGES &&
         !atomic_load_explicit (&stop_touching, memory_order_relaxed);
         ++i)
      touch (m, HALF_BYTES + i * PAGE_BYTES);
    purge (m, HALF_BYTES, HALF_BYTES, false);
  }
  return NULL;
}

/* One pass over the lower half; one sample a call. */
static size_t
measure_pass (struct mapping *m, const struct operation *op, uint64_t *samples)
{
  const size_t bytes = (size_t) op->nr_pages * PAGE_BYTES;
  size_t nr = 0;

  if (op->verb == PURGE || op->verb == PURGE_BY_MADVISE)
    populate (m, 0, HALF_BYTES);
  for (size_t at = 0; at < HALF_BYTES; at += bytes) {
    uint64_t start = now_ns ();

    switch (op->verb) {
    case TOUCH:
      touch (m, at);
      break;
    case POPULATE:
      populate (m, at, bytes);
      break;
    case FALLOCATE:
      fallocate_and_touch (m, at, bytes);
      break;
    case PURGE:
      purge (m, at, bytes, false);
      break;
    case PURGE_BY_MADVISE:
      purge (m, at, bytes, true);
      break;
    }
    samples[nr++] = now_ns () - start;
  }
  return nr;
}

static struct figure
measure (enum backing backing, const struct operation *op, bool contended,
         unsigned nr_rounds)
{
  uint64_t *samples = calloc ((size_t) nr_rounds * HALF_PAGES, sizeof *samples);
  struct figure figure;
  size_t nr = 0;

  if (samples == NULL)
    err (EXIT_FAILURE, "calloc");
  /* Touched now: faults of our own would be among what is measured. */
  memset (samples, 0xff, (size_t) nr_rounds * HALF_PAGES * sizeof *samples);
  for (unsigned round = 0; round < nr_rounds; ++round) {
    struct mapping m = map_pages (backing);
    pthread_t thread;

    atomic_store (&stop_touching, false);
    if (contended && pthread_create (&thread, NULL, touch_upper_half, &m) != 0)
      errx (EXIT_FAILURE, "pthread_create");
    nr += measure_pass (&m, op, samples + nr);
    atomic_store (&stop_touching, true);
    if (contended)
      pthread_join (thread, NULL);
    unmap_pages (&m);
  }
  figure.mean_ns = (mean (samples, nr) - clock_ns) / op->nr_pages;
  figure.median_ns = (median (samples, nr) - clock_ns) / op->nr_pages;
  free (samples);
  return figure;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "rounds", required_argument, NULL, 'r' },
    { NULL, 0, NULL, 0 },
  };
  unsigned nr_rounds = 9;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    if (c == 'r')
      nr_rounds = strtoul (optarg, NULL, 10);
    else
      nr_rounds = 0;
  if (nr_rounds == 0 || nr_rounds > 10000 || optind != argc) {
    fprintf (stderr, "usage: page-cost [--rounds N]\n");
    return 2;
  }
  pin_thread (0);
  calibrate_clock ();

  printf ("%-22s %15s %15s   %15s %15s\n", "ns a page: median/mean",
          "anonymous", "memfd", "anonymous +1", "memfd +1");
  for (size_t i = 0; i < NR_OPERATIONS; ++i) {
    printf ("%-22s", operations[i].name);
    for (unsigned contended = 0; contended <= 1; ++contended) {
      for (enum backing backing = ANONYMOUS; backing <= MEMFD; ++backing) {
        struct figure f;

        if (backing == ANONYMOUS && (operations[i].verb == FALLOCATE ||
                                     operations[i].verb == PURGE_BY_MADVISE)) {
          printf (" %15s", "");
          continue;
        }
        f = measure (backing, &operations[i], contended, nr_rounds);
        printf ("   %6.0f/%6.0f", f.median_ns, f.mean_ns);
      }
      printf ("  ");
    }
    printf ("\n");
    fflush (stdout);
  }
  return EXIT_SUCCESS;
}
