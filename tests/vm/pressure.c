/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * More memory than the machine has: what swaps in a guest.
 *
 *   pressure MIB [SEED] [SECONDS]
 *
 * Fills MIB with pages of four kinds (one word all over; a few different
 * words; text; random bytes), then for SECONDS [0: a sixteenth of them]
 * verifies pages at random, each byte, and rewrites each that it has verified
 * with the page's next version.  At the end all pages are verified.
 * Prints "filled", then "GOOD", or the first page that was wrong and exits
 * with 1.  What a page holds follows from its number, version and the seed.
 */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_BYTES 4096

static uint64_t seed = 1;
static size_t nr_pages;
static char *pages;
static uint8_t *versions;

static uint64_t
next_random (uint64_t *state)
{
  uint64_t z = (*state += 0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static void
make_text (char *page, uint64_t *state)
{
  static const char *const words[] = {
    "the ",  "disk ",  "of ",   "memory ", "is ", "compressed ", "and ",  "a ",
    "page ", "comes ", "back ", "as ",     "it ", "went.\n",     "swap ", "0x",
  };
  size_t used = 0;

  while (used < PAGE_BYTES) {
    const char *word = words[next_random (state) % 16];
    size_t n = strlen (word);

    if (n > PAGE_BYTES - used)
      n = PAGE_BYTES - used;
    memcpy (page + used, word, n);
    used += n;
  }
}

static void
make_page (char *page, size_t number, uint8_t version)
{
  uint64_t state = seed * 1000003 + number * 257 + version;
  const unsigned kind = next_random (&state) % 4;
  uint64_t *words = (uint64_t *) page;
  const uint64_t first = next_random (&state);

  if (kind == 3) {
    make_text (page, &state);
    return;
  }
  for (size_t i = 0; i < PAGE_BYTES / sizeof *words; ++i)
    words[i] = kind == 0   ? (uint32_t) first * UINT64_C (0x100000001)
               : kind == 1 ? first + i % 13
                           : next_random (&state);
}

static void
verify_page (size_t number)
{
  static uint64_t wanted[PAGE_BYTES / 8];

  make_page ((char *) wanted, number, versions[number]);
  if (memcmp (pages + number * PAGE_BYTES, wanted, PAGE_BYTES) != 0) {
    printf ("page %zu, version %u: WRONG\n", number, versions[number]);
    exit (1);
  }
}

static void
rewrite_page (size_t number)
{
  versions[number]++;
  make_page (pages + number * PAGE_BYTES, number, versions[number]);
}

int
main (int argc, char *argv[])
{
  const time_t start = time (NULL);
  uint64_t state;
  long seconds = 0;
  size_t nr_walked = 0;

  if (argc < 2)
    errx (2, "usage: pressure MIB [SEED] [SECONDS]");
  nr_pages = (size_t) atol (argv[1]) * (1048576 / PAGE_BYTES);
  if (argc > 2)
    seed = strtoull (argv[2], NULL, 10);
  if (argc > 3)
    seconds = atol (argv[3]);
  setvbuf (stdout, NULL, _IOLBF, 0);
  state = seed;
  pages = mmap (NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  versions = calloc (nr_pages, 1);
  if (nr_pages == 0 || pages == MAP_FAILED || versions == NULL)
    err (2, "%s MiB", argv[1]);

  for (size_t i = 0; i < nr_pages; ++i)
    rewrite_page (i);
  puts ("filled");
  do {
    for (size_t i = 0; i < nr_pages / 16; ++i, ++nr_walked) {
      const size_t number = next_random (&state) % nr_pages;

      verify_page (number);
      rewrite_page (number);
    }
  } while (time (NULL) < start + seconds);
  for (size_t i = 0; i < nr_pages; ++i)
    verify_page (i);
  printf ("GOOD: %zu pages, %zu walked\n", nr_pages, nr_walked);
  return 0;
}
