/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the in-process tests share: a seed that is said, random numbers that
 * come back with it, blocks of every character, notes of failures from
 * threads that must not jump.
 *
 * Environment: ZMEM_SEED=N instead of a seed from the clock; ZMEM_QUICK=1
 * for a short run, ZMEM_SECONDS=N for one of so many seconds, where a test has
 * a length.
 */

#ifndef ZMEM_TEST_UTIL_H
#define ZMEM_TEST_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ThreadSanitizer or AddressSanitizer is at work: be modest with address space
 * and with time.
 */
#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#elif __has_feature(address_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED TEST_TSAN
#endif

#define TEST_BLOCK_BYTES ((size_t) 4096)
#define KIB ((uint64_t) 1 << 10)
#define MIB ((uint64_t) 1 << 20)
#define TIB ((uint64_t) 1 << 40)

/* First thing in main: choose the seed and print it. */
extern void test_start (const char *name);
extern uint64_t test_seed (void);
extern void test_set_seed (uint64_t seed);
/* ZMEM_QUICK is set. */
extern bool test_quick (void);
/* That, or a sanitizer, with which all takes several times as long. */
extern bool test_short (void);
/* Of a longer run (make check-long); 0: as long as the test is. */
extern unsigned test_seconds (void);
/* Seconds that libcheck gives a test: a guard against hanging, no more. */
#define TEST_TIMEOUT_SECONDS 900

/* Random numbers (xoshiro256**), the same for the same seed and stream. */
struct rng {
  uint64_t s[4];
};
extern void rng_init (struct rng *rng, uint64_t seed, uint64_t stream);
extern uint64_t rng_u64 (struct rng *rng);
/* In [0, n), n > 0. */
extern uint64_t rng_below (struct rng *rng, uint64_t n);
/* In [low, high]. */
extern uint64_t rng_between (struct rng *rng, uint64_t low, uint64_t high);
/* True once in n. */
extern bool rng_once_in (struct rng *rng, uint64_t n);
/* In [1, max], small ones as likely as large ones (log-uniform). */
extern uint64_t rng_size (struct rng *rng, uint64_t max);
extern void rng_fill (struct rng *rng, void *buf, size_t bytes);

/* What a block is like. */
enum content {
  CONTENT_ZERO,
  CONTENT_PATTERN32, /* one 32-bit word, repeated; not zero */
  CONTENT_PATTERN64, /* one 64-bit word, of two unlike halves */
  CONTENT_TEXT,      /* words with some noise: sizes of any class */
  CONTENT_SO,        /* like machine code and its tables */
  CONTENT_NEAR,      /* shrinks by less than a tenth, or not */
  CONTENT_RANDOM,
  NR_CONTENTS
};
extern const char *const content_names[NR_CONTENTS];
extern void make_block (struct rng *rng, enum content content, void *block);
/* Text with a given part of it noise: more of it, larger payloads. */
extern void make_text_block (struct rng *rng, unsigned noise_percent,
                             void *block);
/* What is to be at [offset, offset + bytes) of a disk: a content for each
 * block of the disk, or one for several.
 */
extern void make_range (struct rng *rng, void *buf, size_t bytes,
                        uint64_t offset);

extern bool is_all_zero (const void *buf, size_t bytes);

/* A failure seen where one cannot stop: counted, the first one kept.  May
 * be called by any thread.
 */
extern void test_note_failure (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));
extern unsigned test_nr_failures (void);
/* The first one noted; NULL: none. */
extern const char *test_first_failure (void);
extern void test_forget_failures (void);

/* Resident bytes of a page-aligned range, by mincore. */
extern uint64_t resident_bytes (const void *addr, size_t bytes);

/* What /proc/self/smaps says of the mappings that lie in the range:
 * resident bytes, and of those in huge pages.  *all_flags: does each of
 * them have all of the flags (two letters and a space each: "nh dd ")?
 * Returns the number of mappings.
 */
extern unsigned smaps_of_range (const void *addr, size_t bytes,
                                const char *flags, uint64_t *rss_bytes,
                                uint64_t *huge_bytes, bool *all_flags);

/* Could the page be read (or written) without a fault? */
extern bool page_is_readable (const void *addr);
extern bool page_is_writable (void *addr);

extern void sleep_us (unsigned us);

#endif /* ZMEM_TEST_UTIL_H */
