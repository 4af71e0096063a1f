/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the in-process tests share; see test-util.h.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "test-util.h"

#define OS_PAGE_BYTES ((size_t) 4096)

static uint64_t seed;

void
test_start (const char *name)
{
  const char *text = getenv ("ZMEM_SEED");
  struct timespec now;

  if (text != NULL && *text != '\0')
    seed = strtoull (text, NULL, 0);
  else {
    clock_gettime (CLOCK_REALTIME, &now);
    seed = ((uint64_t) now.tv_sec * 1000000007 + (uint64_t) now.tv_nsec) %
           1000000000;
  }
  printf ("%s: ZMEM_SEED=%" PRIu64 "%s\n", name, seed,
          test_quick () ? " ZMEM_QUICK=1" : "");
  fflush (stdout);
}

uint64_t
test_seed (void)
{
  return seed;
}

void
test_set_seed (uint64_t value)
{
  seed = value;
}

bool
test_quick (void)
{
  const char *text = getenv ("ZMEM_QUICK");

  return text != NULL && *text != '\0' && strcmp (text, "0") != 0;
}

bool
test_short (void)
{
  return test_quick () || TEST_SANITIZED;
}

unsigned
test_seconds (void)
{
  const char *text = getenv ("ZMEM_SECONDS");

  return text != NULL ? (unsigned) strtoul (text, NULL, 10) : 0;
}

/*--------------------------------------------------------------------*/
/* Random numbers. */

static uint64_t
splitmix64 (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void
rng_init (struct rng *rng, uint64_t from_seed, uint64_t stream)
{
  uint64_t state = from_seed;

  state = splitmix64 (&state) ^ (stream * UINT64_C (0xd1342543de82ef95));
  for (unsigned i = 0; i < 4; ++i)
    rng->s[i] = splitmix64 (&state);
}

static inline uint64_t
rotate_left (uint64_t x, unsigned k)
{
  return (x << k) | (x >> (64 - k));
}

uint64_t
rng_u64 (struct rng *rng)
{
  uint64_t *s = rng->s;
  const uint64_t result = rotate_left (s[1] * 5, 7) * 9;
  const uint64_t t = s[1] << 17;

  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left (s[3], 45);
  return result;
}

uint64_t
rng_below (struct rng *rng, uint64_t n)
{
  assert (n > 0);
  /* The bias of the remainder is below 2^-20 for all that tests ask. */
  return rng_u64 (rng) % n;
}

uint64_t
rng_between (struct rng *rng, uint64_t low, uint64_t high)
{
  assert (low <= high);
  return low + rng_below (rng, high - low + 1);
}

bool
rng_once_in (struct rng *rng, uint64_t n)
{
  return rng_below (rng, n) == 0;
}

uint64_t
rng_size (struct rng *rng, uint64_t max)
{
  const unsigned max_bits = 64 - __builtin_clzll (max);
  const unsigned bits = rng_between (rng, 1, max_bits);
  uint64_t size = rng_between (rng, UINT64_C (1) << (bits - 1),
                               (UINT64_C (2) << (bits - 1)) - 1);

  return size <= max ? size : max;
}

void
rng_fill (struct rng *rng, void *buf, size_t bytes)
{
  uint8_t *to = buf;
  uint64_t word;

  for (; bytes >= sizeof word; bytes -= sizeof word, to += sizeof word) {
    word = rng_u64 (rng);
    memcpy (to, &word, sizeof word);
  }
  word = rng_u64 (rng);
  memcpy (to, &word, bytes);
}

/*--------------------------------------------------------------------*/
/* Blocks. */

const char *const content_names[NR_CONTENTS] = {
  [CONTENT_ZERO] = "zero",
  [CONTENT_PATTERN32] = "32-bit pattern",
  [CONTENT_PATTERN64] = "64-bit pattern",
  [CONTENT_TEXT] = "text",
  [CONTENT_SO] = "so",
  [CONTENT_NEAR] = "nearly incompressible",
  [CONTENT_RANDOM] = "random",
};

#define NR_WORDS 1024
#define WORD_MAX 12

static struct word {
  uint8_t bytes; /* the blank behind it included */
  char text[WORD_MAX];
} words[NR_WORDS];

static void
make_words (void)
{
  struct rng rng;

  rng_init (&rng, 1, 1);
  for (unsigned i = 0; i < NR_WORDS; ++i) {
    const unsigned letters = rng_between (&rng, 1, WORD_MAX - 1);
    for (unsigned j = 0; j < letters; ++j)
      words[i].text[j] = (char) ('a' + rng_below (&rng, 26));
    words[i].text[letters] = rng_once_in (&rng, 12) ? '\n' : ' ';
    words[i].bytes = (uint8_t) (letters + 1);
  }
}

static pthread_once_t words_once = PTHREAD_ONCE_INIT;

void
make_text_block (struct rng *rng, unsigned noise_percent, void *block)
{
  uint8_t *to = block;
  size_t at = 0;

  pthread_once (&words_once, make_words);
  while (at < TEST_BLOCK_BYTES) {
    const uint64_t r = rng_u64 (rng);
    const size_t left = TEST_BLOCK_BYTES - at;

    if ((r >> 32) % 100 < noise_percent) {
      const size_t bytes = left < sizeof r ? left : sizeof r;
      const uint64_t noise = rng_u64 (rng);
      memcpy (to + at, &noise, bytes);
      at += bytes;
    }
    else {
      /* A few words are frequent, most are rare. */
      const uint64_t u = r & 0xffff;
      const struct word *word = &words[(u * u >> 16) * u * NR_WORDS >> 32];
      const size_t bytes = word->bytes < left ? word->bytes : left;
      memcpy (to + at, word->text, bytes);
      at += bytes;
    }
  }
}

/* Instructions: an opcode out of a few, a register byte, a small signed
 * displacement; between them runs of pointers that rise slowly.
 */
static void
make_so_block (struct rng *rng, uint8_t *block)
{
  static const uint8_t opcodes[] = {
    0x48, 0x89, 0x8b, 0xe8, 0x0f, 0x83, 0xc3, 0x85, 0x74, 0x41, 0x5d,
  };
  uint64_t pointer = UINT64_C (0x7f0000000000) + (rng_u64 (rng) & 0xffffff0);
  size_t at = 0;

  while (at < TEST_BLOCK_BYTES) {
    uint8_t piece[64];
    size_t bytes = 0;

    if (rng_once_in (rng, 8)) {
      for (; bytes < sizeof piece; bytes += sizeof pointer) {
        memcpy (piece + bytes, &pointer, sizeof pointer);
        pointer += rng_below (rng, 16) * 8;
      }
    }
    else if (rng_once_in (rng, 10)) {
      bytes = rng_between (rng, 4, sizeof piece);
      memset (piece, 0, bytes);
    }
    else {
      const uint64_t r = rng_u64 (rng);
      const int32_t displacement = (int32_t) (r >> 40 & 0xff) - 0x80;
      piece[bytes++] = opcodes[r % sizeof opcodes];
      piece[bytes++] = (uint8_t) (0xc0 | (r >> 16 & 0x3f));
      memcpy (piece + bytes, &displacement, sizeof displacement);
      bytes += sizeof displacement;
    }
    if (bytes > TEST_BLOCK_BYTES - at)
      bytes = TEST_BLOCK_BYTES - at;
    memcpy (block + at, piece, bytes);
    at += bytes;
  }
}

/* Random bytes, of which a part is there twice. */
static void
make_near_block (struct rng *rng, uint8_t *block)
{
  const size_t bytes = rng_between (rng, 8, 400);
  const size_t from = rng_below (rng, 1000);
  const size_t to = rng_between (rng, 2000, 3500);

  rng_fill (rng, block, TEST_BLOCK_BYTES);
  memcpy (block + to, block + from, bytes);
}

static void
fill_words64 (uint8_t *block, uint64_t word)
{
  for (size_t at = 0; at < TEST_BLOCK_BYTES; at += sizeof word)
    memcpy (block + at, &word, sizeof word);
}

void
make_block (struct rng *rng, enum content content, void *block)
{
  uint64_t word = rng_u64 (rng);

  switch (content) {
  case CONTENT_ZERO:
    memset (block, 0, TEST_BLOCK_BYTES);
    break;
  case CONTENT_PATTERN32:
    word = (word & 0xffffffff) | 1;
    fill_words64 (block, word | word << 32);
    break;
  case CONTENT_PATTERN64:
    if (word >> 32 == (word & 0xffffffff))
      word ^= 1;
    fill_words64 (block, word);
    break;
  case CONTENT_TEXT:
    make_text_block (rng, (unsigned) (word % 60 * (word >> 32 & 1)), block);
    break;
  case CONTENT_SO:
    make_so_block (rng, block);
    break;
  case CONTENT_NEAR:
    make_near_block (rng, block);
    break;
  case CONTENT_RANDOM:
  case NR_CONTENTS:
  default:
    rng_fill (rng, block, TEST_BLOCK_BYTES);
    break;
  }
}

void
make_range (struct rng *rng, void *buf, size_t bytes, uint64_t offset)
{
  uint8_t block[TEST_BLOCK_BYTES];
  unsigned content = CONTENT_ZERO, run_blocks = 0;
  uint8_t *to = buf;

  while (bytes > 0) {
    const size_t from = (size_t) (offset % TEST_BLOCK_BYTES);
    size_t n = TEST_BLOCK_BYTES - from;

    if (n > bytes)
      n = bytes;
    if (run_blocks == 0) {
      content = rng_below (rng, NR_CONTENTS);
      run_blocks = rng_size (rng, 40);
    }
    --run_blocks;
    make_block (rng, (enum content) content, block);
    memcpy (to, block + from, n);
    to += n;
    offset += n;
    bytes -= n;
  }
}

bool
is_all_zero (const void *buf, size_t bytes)
{
  const uint8_t *p = buf;

  return bytes == 0 || (p[0] == 0 && memcmp (p, p + 1, bytes - 1) == 0);
}

/*--------------------------------------------------------------------*/
/* Notes of failures. */

static pthread_mutex_t notes_mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned nr_notes;
static char first_note[1024];

void
test_note_failure (const char *format, ...)
{
  va_list args;

  pthread_mutex_lock (&notes_mutex);
  if (nr_notes++ == 0) {
    va_start (args, format);
    vsnprintf (first_note, sizeof first_note, format, args);
    va_end (args);
    fprintf (stderr, "failure noted: %s\n", first_note);
  }
  pthread_mutex_unlock (&notes_mutex);
}

unsigned
test_nr_failures (void)
{
  unsigned nr;

  pthread_mutex_lock (&notes_mutex);
  nr = nr_notes;
  pthread_mutex_unlock (&notes_mutex);
  return nr;
}

const char *
test_first_failure (void)
{
  return test_nr_failures () > 0 ? first_note : NULL;
}

void
test_forget_failures (void)
{
  pthread_mutex_lock (&notes_mutex);
  nr_notes = 0;
  pthread_mutex_unlock (&notes_mutex);
}

/*--------------------------------------------------------------------*/
/* What the kernel says of our memory. */

uint64_t
resident_bytes (const void *addr, size_t bytes)
{
  enum { CHUNK_PAGES = 1 << 16 };
  unsigned char *vec = malloc (CHUNK_PAGES);
  uint64_t nr_pages = 0;

  if (vec == NULL)
    abort ();
  for (size_t at = 0; at < bytes; at += CHUNK_PAGES * OS_PAGE_BYTES) {
    size_t n = bytes - at;
    if (n > CHUNK_PAGES * OS_PAGE_BYTES)
      n = CHUNK_PAGES * OS_PAGE_BYTES;
    if (mincore ((char *) addr + at, n, vec) == -1) {
      test_note_failure ("mincore: %s", strerror (errno));
      break;
    }
    for (size_t i = 0; i < n / OS_PAGE_BYTES; ++i)
      nr_pages += vec[i] & 1;
  }
  free (vec);
  return nr_pages * OS_PAGE_BYTES;
}

/* Does the line of VmFlags name all of the wanted ones ("nh dd ")? */
static bool
line_has_flags (const char *line, const char *flags)
{
  char flag[4] = "";

  for (; flags[0] != '\0'; flags += 3) {
    memcpy (flag, flags, 3);
    if (strstr (line, flag) == NULL)
      return false;
  }
  return true;
}

unsigned
smaps_of_range (const void *addr, size_t bytes, const char *flags,
                uint64_t *rss_bytes, uint64_t *huge_bytes, bool *all_flags)
{
  const uintptr_t start = (uintptr_t) addr, end = start + bytes;
  FILE *file = fopen ("/proc/self/smaps", "r");
  bool inside = false;
  unsigned nr = 0;
  char line[512];

  *rss_bytes = *huge_bytes = 0;
  *all_flags = true;
  if (file == NULL)
    abort ();
  while (fgets (line, sizeof line, file) != NULL) {
    uintptr_t from, to;
    uint64_t kib;

    if (sscanf (line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
      inside = from >= start && to <= end;
      nr += inside;
    }
    else if (!inside)
      continue;
    else if (sscanf (line, "Rss: %" SCNu64, &kib) == 1)
      *rss_bytes += kib * KIB;
    else if (sscanf (line, "AnonHugePages: %" SCNu64, &kib) == 1)
      *huge_bytes += kib * KIB;
    else if (strncmp (line, "VmFlags:", 8) == 0 &&
             !line_has_flags (line, flags))
      *all_flags = false;
  }
  fclose (file);
  return nr;
}

/* The kernel answers EFAULT where we would get a signal. */
static bool
page_moves_through_pipe (void *addr, bool into)
{
  int fds[2];
  char byte = 0;
  bool ok;

  if (pipe (fds) == -1)
    abort ();
  if (into)
    ok = syscall (SYS_write, fds[1], &byte, 1) == 1 &&
         syscall (SYS_read, fds[0], addr, 1) == 1;
  else
    ok = syscall (SYS_write, fds[1], addr, 1) == 1;
  close (fds[0]);
  close (fds[1]);
  return ok;
}

bool
page_is_readable (const void *addr)
{
  return page_moves_through_pipe ((void *) addr, false);
}

bool
page_is_writable (void *addr)
{
  return page_moves_through_pipe (addr, true);
}

void
sleep_us (unsigned us)
{
  const struct timespec t = {
    .tv_sec = us / 1000000,
    .tv_nsec = (long) (us % 1000000) * 1000,
  };

  nanosleep (&t, NULL);
}
