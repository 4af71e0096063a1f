/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Contexts: lent to one at a time, waited for without loss, rebuilt under
 * way; what they hold is what they say, later calls allocate nothing, and a
 * failing allocation leaves every one working.
 *
 * To see and to fail allocations this program has its own malloc in front
 * of the C library's (not with a sanitizer, which has that place taken).
 */

#include <config.h>

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "context.h"
#include "libcheck.h"
#include "test-util.h"

#define MAX_PAYLOAD 4032
#define SCRATCH_BYTES (CONTEXT_SCRATCH_BLOCKS * BLOCK_BYTES)

/*--------------------------------------------------------------------*/
/* Allocations, counted. */

static atomic_ulong nr_allocs; /* ever */

#if !TEST_SANITIZED
static atomic_long live_bytes; /* as malloc rounds them */
static atomic_ulong fail_at;   /* the value of nr_allocs that fails; or 0 */

#define INTERPOSED __attribute__ ((visibility ("default")))

extern void *__libc_malloc (size_t bytes);
extern void *__libc_calloc (size_t nr, size_t bytes);
extern void *__libc_realloc (void *old, size_t bytes);
extern void *__libc_memalign (size_t align, size_t bytes);
extern void __libc_free (void *ptr);

static bool
alloc_fails (void)
{
  const unsigned long n = atomic_fetch_add (&nr_allocs, 1) + 1;

  return n == atomic_load (&fail_at);
}

static void *
note_alloc (void *ptr)
{
  if (ptr)
    atomic_fetch_add (&live_bytes, (long) malloc_usable_size (ptr));
  return ptr;
}

INTERPOSED void *
malloc (size_t bytes)
{
  return alloc_fails () ? NULL : note_alloc (__libc_malloc (bytes));
}

INTERPOSED void *
calloc (size_t nr, size_t bytes)
{
  return alloc_fails () ? NULL : note_alloc (__libc_calloc (nr, bytes));
}

INTERPOSED void *
aligned_alloc (size_t align, size_t bytes)
{
  return alloc_fails () ? NULL : note_alloc (__libc_memalign (align, bytes));
}

INTERPOSED void *
realloc (void *old, size_t bytes)
{
  const long old_bytes = old ? (long) malloc_usable_size (old) : 0;
  void *ptr = alloc_fails () ? NULL : __libc_realloc (old, bytes);

  if (ptr || bytes == 0)
    atomic_fetch_sub (&live_bytes, old_bytes);
  return note_alloc (ptr);
}

INTERPOSED void
free (void *ptr)
{
  if (ptr)
    atomic_fetch_sub (&live_bytes, (long) malloc_usable_size (ptr));
  __libc_free (ptr);
}
#endif

/*--------------------------------------------------------------------*/

static const struct codec_spec spec_none = { CODEC_RAW, 0 };
static const struct codec_spec spec_lz4 = { CODEC_LZ4, 1 };
static const struct codec_spec spec_zstd = { CODEC_ZSTD, 1 };
#if !TEST_SANITIZED
static const struct codec_spec spec_zstd_9 = { CODEC_ZSTD, 9 };
#endif

static struct context_pool *
make_pool (unsigned nr_contexts, const struct codec_spec *spec)
{
  struct context_pool *pool = NULL;

  ck_assert_int_eq (context_pool_create (nr_contexts, MAX_PAYLOAD, &pool), 0);
  ck_assert_int_eq (context_pool_set_codec (pool, spec), 0);
  return pool;
}

static void
check_round_trip (struct context *context, const uint8_t *block)
{
  const bool repeat64 = memcmp (block, block + 8, BLOCK_BYTES - 8) == 0;
  uint8_t decoded[BLOCK_BYTES];
  struct payload payload;

  context_encode (context, 0, block, repeat64, &payload);
  if (payload_decode (context, payload.codec, payload.data, payload.bytes,
                      payload.checksum, decoded) != 0 ||
      memcmp (block, decoded, BLOCK_BYTES) != 0)
    test_note_failure ("codec %d: a block came back different",
                       (int) payload.codec);
}

static void
check_no_failure (void)
{
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());
}

START_TEST (test_bad_parameters)
{
  struct context_pool *pool = NULL;

  ck_assert_int_eq (context_pool_create (0, 4032, &pool), -EINVAL);
  ck_assert_int_eq (context_pool_create (65, 4032, &pool), -EINVAL);
  ck_assert_int_eq (context_pool_create (1, 4096, &pool), -EINVAL);
  ck_assert_int_eq (context_pool_create (1, 4, &pool), -EINVAL);
  ck_assert_ptr_null (pool);
  context_pool_destroy (NULL);
  /* Made, and never started. */
  ck_assert_int_eq (context_pool_create (64, 4095, &pool), 0);
  context_pool_destroy (pool);
}
END_TEST

START_TEST (test_each_is_its_own)
{
  struct context_pool *pool = make_pool (64, &spec_lz4);
  struct context *contexts[64];

  for (unsigned round = 0; round < 3; round++) {
    uint64_t seen = 0;

    for (unsigned i = 0; i < 64; i++) {
      contexts[i] = context_borrow (pool);
      ck_assert_uint_lt (contexts[i]->index, 64);
      ck_assert (!(seen >> contexts[i]->index & 1));
      seen |= UINT64_C (1) << contexts[i]->index;
      ck_assert_uint_eq ((uintptr_t) contexts[i]->scratch % BLOCK_BYTES, 0);
      memset (contexts[i]->scratch, (int) i, SCRATCH_BYTES);
    }
    for (unsigned i = 0; i < 64; i++) {
      const uint8_t *bytes = contexts[i]->scratch[0];
      size_t nr_same = 0;

      while (nr_same < SCRATCH_BYTES && bytes[nr_same] == i)
        nr_same++;
      ck_assert_uint_eq (nr_same, SCRATCH_BYTES);
      context_return (pool, contexts[i]);
    }
  }
  context_pool_destroy (pool);
}
END_TEST

/* The payload never passes what the pool was made for. */
START_TEST (test_max_payload)
{
  struct rng rng;
  uint8_t block[BLOCK_BYTES];

  rng_init (&rng, test_seed (), 1);
  for (unsigned i = 0; i < 60; i++) {
    const size_t max_bytes = rng_between (&rng, 5, BLOCK_BYTES - 1);
    struct context_pool *pool;
    struct context *context;

    ck_assert_int_eq (context_pool_create (1, max_bytes, &pool), 0);
    ck_assert_int_eq (context_pool_set_codec (pool,
                                              i % 2 ? &spec_lz4 : &spec_zstd),
                      0);
    context = context_borrow (pool);
    for (unsigned j = 0; j < 100; j++) {
      struct payload payload;

      make_text_block (&rng, rng_below (&rng, 100), block);
      context_encode (context, j % CONTEXT_SCRATCH_BLOCKS, block, false,
                      &payload);
      ck_assert (payload.bytes <= max_bytes || payload.codec == CODEC_RAW);
    }
    context_return (pool, context);
    context_pool_destroy (pool);
  }
}
END_TEST

/* A codec's change: who has a context keeps it, old payloads can be read,
 * and what cannot be needed is given back.
 */
START_TEST (test_change_of_codec)
{
  struct rng rng;
  struct context_pool *pool = make_pool (3, &spec_none);
  struct context *context;
  struct payload payload;
  uint8_t block[BLOCK_BYTES], decoded[BLOCK_BYTES], *stored;
  const size_t bytes_none = context_pool_bytes (pool);
  size_t bytes_lz4, bytes_zstd;

  rng_init (&rng, test_seed (), 2);
  ck_assert_uint_ge (bytes_none, 3 * SCRATCH_BYTES);
  ck_assert_int_eq (context_pool_set_codec (pool, &spec_lz4), 0);
  bytes_lz4 = context_pool_bytes (pool);
  ck_assert_uint_ge (bytes_lz4, bytes_none + 3 * 16384);
  ck_assert_int_eq (context_pool_set_codec (pool, &spec_zstd), 0);
  bytes_zstd = context_pool_bytes (pool);
  ck_assert_uint_ge (bytes_zstd, bytes_none + 3 * 100000);

  make_text_block (&rng, 5, block);
  context = context_borrow (pool);
  context_encode (context, 0, block, false, &payload);
  ck_assert_int_eq (payload.codec, CODEC_ZSTD);
  stored = malloc (payload.bytes);
  ck_assert_ptr_nonnull (stored);
  memcpy (stored, payload.data, payload.bytes);
  context_return (pool, context);

  ck_assert_int_eq (context_pool_set_codec (pool, &spec_lz4), 0);
  ck_assert_uint_eq (context_pool_bytes (pool),
                     bytes_zstd + bytes_lz4 - bytes_none);
  context = context_borrow (pool);
  ck_assert_int_eq (context->spec.id, CODEC_LZ4);
  ck_assert_int_eq (payload_decode (context, CODEC_ZSTD, stored, payload.bytes,
                                    0, decoded),
                    0);
  ck_assert_mem_eq (block, decoded, BLOCK_BYTES);
  context_return (pool, context);

  ck_assert_int_eq (context_pool_set_codec (pool, &spec_none), 0);
  ck_assert_uint_eq (context_pool_bytes (pool), bytes_zstd);
  ck_assert_int_eq (context_pool_set_codec (pool, &spec_zstd), 0);
  ck_assert_uint_eq (context_pool_bytes (pool), bytes_zstd);
  ck_assert_int_eq (context_pool_set_codec (pool, &spec_zstd), 0);
  ck_assert_uint_eq (context_pool_bytes (pool), bytes_zstd);
  free (stored);
  context_pool_destroy (pool);
}
END_TEST

/* A level's change changes what is made. */
START_TEST (test_change_of_level)
{
  const struct codec_spec worse = { _i, _i == CODEC_LZ4 ? 64 : -50 };
  const struct codec_spec better = { _i, _i == CODEC_LZ4 ? 1 : 19 };
  struct rng rng;
  struct context_pool *pool = make_pool (1, &worse);
  struct payload payload;
  struct context *context;
  uint8_t block[BLOCK_BYTES];
  uint32_t worse_bytes;

  rng_init (&rng, test_seed (), 3);
  make_text_block (&rng, 0, block);
  context = context_borrow (pool);
  context_encode (context, 0, block, false, &payload);
  worse_bytes = payload.bytes;
  context_return (pool, context);
  ck_assert_int_eq (context_pool_set_codec (pool, &better), 0);
  context = context_borrow (pool);
  ck_assert_int_eq (context->spec.level, better.level);
  context_encode (context, 0, block, false, &payload);
  ck_assert_uint_lt (payload.bytes, worse_bytes);
  context_return (pool, context);
  context_pool_destroy (pool);
}
END_TEST

/*--------------------------------------------------------------------*/
/* Threads. */

struct load {
  struct context_pool *pool;
  unsigned nr_rounds, nr_blocks;
  atomic_int inside[MAX_CONTEXTS];
  atomic_uint nr_running;
  unsigned next_stream;
  pthread_mutex_t mutex;
};

/* Borrow, be alone in there, find scratch as it was left, return. */
static void *
run_borrower (void *opaque)
{
  struct load *load = opaque;
  uint8_t block[BLOCK_BYTES];
  struct rng rng;

  pthread_mutex_lock (&load->mutex);
  rng_init (&rng, test_seed (), 100 + load->next_stream++);
  pthread_mutex_unlock (&load->mutex);

  for (unsigned round = 0; round < load->nr_rounds; round++) {
    struct context *context = context_borrow (load->pool);
    struct payload payload;
    uint8_t kept[BLOCK_BYTES];

    if (atomic_fetch_add (&load->inside[context->index], 1) != 0)
      test_note_failure ("context %u was lent twice", context->index);
    for (unsigned i = 0; i < load->nr_blocks; i++) {
      make_block (&rng, rng_between (&rng, CONTENT_TEXT, CONTENT_RANDOM),
                  block);
      context_encode (context, 1, block, false, &payload);
      memcpy (kept, payload.data, payload.bytes);
      if (rng_once_in (&rng, 2))
        sched_yield ();
      if (memcmp (kept, payload.data, payload.bytes) != 0)
        test_note_failure ("scratch changed under its borrower");
      check_round_trip (context, block);
    }
    if (load->nr_blocks == 0 && rng_once_in (&rng, 4))
      sched_yield ();
    atomic_fetch_sub (&load->inside[context->index], 1);
    context_return (load->pool, context);
  }
  atomic_fetch_sub (&load->nr_running, 1);
  return NULL;
}

static void
run_load (unsigned nr_contexts, unsigned nr_threads, unsigned nr_rounds,
          unsigned nr_blocks, bool change_codec)
{
  static const struct codec_spec specs[] = {
    { CODEC_LZ4, 1 }, { CODEC_ZSTD, 1 },  { CODEC_LZ4, 4 },
    { CODEC_RAW, 0 }, { CODEC_ZSTD, -5 },
  };
  struct load load = { .pool = make_pool (nr_contexts, &spec_lz4),
                       .nr_rounds = nr_rounds,
                       .nr_blocks = nr_blocks,
                       .nr_running = nr_threads,
                       .mutex = PTHREAD_MUTEX_INITIALIZER };
  pthread_t threads[32];
  unsigned nr_changes = 0;

  for (unsigned i = 0; i < nr_threads; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, run_borrower, &load),
                      0);
  while (change_codec && atomic_load (&load.nr_running) > 0) {
    ck_assert_int_eq (context_pool_set_codec (load.pool,
                                              &specs[nr_changes++ % 5]),
                      0);
    sched_yield ();
  }
  for (unsigned i = 0; i < nr_threads; i++)
    pthread_join (threads[i], NULL);
  ck_assert (!change_codec || nr_changes >= 5);
  context_pool_destroy (load.pool);
  check_no_failure ();
}

static unsigned
rounds (unsigned full)
{
  return test_quick () ? full / 10 : TEST_SANITIZED ? full / 4 : full;
}

START_TEST (test_threads)
{
  run_load (2, 8, rounds (400), 4, true);
}
END_TEST

/* Hardly anything but waiting and waking; a wake-up lost is a test that
 * does not end.
 */
START_TEST (test_wake_ups)
{
  run_load (1, 2, rounds (20000), 0, false);
  run_load (1, 8, rounds (20000), 0, false);
  run_load (2, 3, rounds (20000), 0, false);
  run_load (3, 16, rounds (20000), 0, false);
}
END_TEST

START_TEST (test_wake_ups_of_change)
{
  run_load (1, 8, rounds (10000), 0, true);
  run_load (2, 3, rounds (10000), 0, true);
  run_load (3, 16, rounds (10000), 0, true);
}
END_TEST

static void *
run_change (void *opaque)
{
  struct load *load = opaque;

  if (context_pool_set_codec (load->pool, &spec_zstd) != 0)
    test_note_failure ("set_codec failed");
  atomic_store (&load->nr_running, 0);
  return NULL;
}

/* A change waits for a context that is out, and nobody else waits for it. */
START_TEST (test_change_waits)
{
  struct load load = { .pool = make_pool (2, &spec_lz4), .nr_running = 1 };
  struct context *held = context_borrow (load.pool), *other;
  pthread_t thread;
  bool seen_new = false;

  ck_assert_uint_eq (held->index, 0);
  ck_assert_int_eq (pthread_create (&thread, NULL, run_change, &load), 0);
  for (unsigned i = 0; i < 20; i++) {
    other = context_borrow (load.pool);
    ck_assert_int_eq (other->spec.id, CODEC_LZ4);
    context_return (load.pool, other);
    sleep_us (1000);
  }
  ck_assert_uint_eq (atomic_load (&load.nr_running), 1);
  ck_assert_int_eq (held->spec.id, CODEC_LZ4);
  context_return (load.pool, held);
  pthread_join (thread, NULL);
  held = context_borrow (load.pool);
  other = context_borrow (load.pool);
  seen_new = held->spec.id == CODEC_ZSTD && other->spec.id == CODEC_ZSTD;
  ck_assert (seen_new);
  context_return (load.pool, held);
  context_return (load.pool, other);
  context_pool_destroy (load.pool);
  check_no_failure ();
}
END_TEST

/*--------------------------------------------------------------------*/
/* Allocations. */

/* Once set, a context allocates nothing, whatever the block. */
START_TEST (test_no_allocation)
{
  static const struct codec_spec specs[] = {
    { CODEC_LZ4, 1 },   { CODEC_LZ4, 8 },  { CODEC_ZSTD, -100 },
    { CODEC_ZSTD, -1 }, { CODEC_ZSTD, 1 }, { CODEC_ZSTD, 3 },
    { CODEC_ZSTD, 6 },  { CODEC_ZSTD, 9 }, { CODEC_ZSTD, 19 },
    { CODEC_ZSTD, 22 },
  };
  const struct codec_spec *spec = &specs[_i];
  const unsigned nr_blocks = rounds (spec->level > 9 ? 600 : 6000);
  struct context_pool *pool = make_pool (2, spec);
  unsigned long allocs_before, allocs_after;
  struct rng rng;
  uint8_t block[BLOCK_BYTES];

  /* libcheck's assertions allocate: none between these two. */
  allocs_before = atomic_load (&nr_allocs);
  rng_init (&rng, test_seed (), 4);
  for (unsigned i = 0; i < nr_blocks; i++) {
    struct context *context = context_borrow (pool);

    if (i % 3 == 0)
      make_text_block (&rng, rng_below (&rng, 100), block);
    else
      make_block (&rng, rng_below (&rng, NR_CONTENTS), block);
    check_round_trip (context, block);
    context_return (pool, context);
  }
  allocs_after = atomic_load (&nr_allocs);
  ck_assert_uint_eq (allocs_after, allocs_before);
  check_no_failure ();
  context_pool_destroy (pool);
}
END_TEST

#if !TEST_SANITIZED
/* What is said to be held is what malloc has given, but for its rounding. */
START_TEST (test_bytes)
{
  static const struct codec_spec specs[] = {
    { CODEC_RAW, 0 },   { CODEC_LZ4, 1 }, { CODEC_ZSTD, 1 },
    { CODEC_ZSTD, 19 }, { CODEC_LZ4, 3 }, { CODEC_ZSTD, -5 },
  };
  const long before = atomic_load (&live_bytes);
  struct context_pool *pool = make_pool (4, &specs[0]);

  for (unsigned i = 0; i < sizeof specs / sizeof specs[0]; i++) {
    long bytes, live;

    ck_assert_int_eq (context_pool_set_codec (pool, &specs[i]), 0);
    bytes = (long) context_pool_bytes (pool);
    live = atomic_load (&live_bytes) - before;
    ck_assert_int_le (bytes, live + 512);
    ck_assert_int_ge (bytes, live - live / 50);
  }
  context_pool_destroy (pool);
  ck_assert_int_eq (atomic_load (&live_bytes), before);
}
END_TEST

static void
check_all_contexts (struct context_pool *pool, struct rng *rng)
{
  struct context *first = context_borrow (pool);
  struct context *second = context_borrow (pool);
  uint8_t block[BLOCK_BYTES];

  make_text_block (rng, 5, block);
  check_round_trip (first, block);
  check_round_trip (second, block);
  context_return (pool, second);
  context_return (pool, first);
  check_no_failure ();
}

/* Both contexts encode with this. */
static void
check_all_specs (struct context_pool *pool, const struct codec_spec *spec)
{
  struct context *contexts[2];

  for (unsigned i = 0; i < 2; i++) {
    contexts[i] = context_borrow (pool);
    ck_assert_int_eq (contexts[i]->spec.id, spec->id);
    ck_assert_int_eq (contexts[i]->spec.level, spec->level);
  }
  for (unsigned i = 0; i < 2; i++)
    context_return (pool, contexts[i]);
}

/* The nth allocation of a change fails, for every n: -ENOMEM, two contexts
 * that work as before, nothing lost; and the same call then succeeds.
 */
static unsigned
fail_each_allocation (const struct codec_spec *from,
                      const struct codec_spec *to)
{
  struct rng rng;
  uint8_t block[BLOCK_BYTES];
  unsigned n;
  int r = -ENOMEM;

  rng_init (&rng, test_seed (), 5);
  make_text_block (&rng, 0, block); /* it too may allocate, once */
  for (n = 1; r != 0; n++) {
    const long before = atomic_load (&live_bytes);
    struct context_pool *pool;

    ck_assert_int_eq (context_pool_create (2, MAX_PAYLOAD, &pool), 0);
    if (from)
      ck_assert_int_eq (context_pool_set_codec (pool, from), 0);
    atomic_store (&fail_at, atomic_load (&nr_allocs) + n);
    r = context_pool_set_codec (pool, to);
    atomic_store (&fail_at, 0);
    ck_assert (r == 0 || r == -ENOMEM);
    if (from) {
      check_all_contexts (pool, &rng);
      check_all_specs (pool, r == 0 ? to : from);
    }
    ck_assert_int_eq (context_pool_set_codec (pool, to), 0);
    check_all_contexts (pool, &rng);
    context_pool_destroy (pool);
    ck_assert_int_eq (atomic_load (&live_bytes), before);
    ck_assert_uint_lt (n, 100);
  }
  return n - 2; /* how many of them failed */
}

START_TEST (test_failing_allocation)
{
  struct context_pool *pool = NULL;

  ck_assert_uint_eq (fail_each_allocation (NULL, &spec_none), 2);
  ck_assert_uint_eq (fail_each_allocation (NULL, &spec_lz4), 4);
  ck_assert_uint_eq (fail_each_allocation (&spec_zstd, &spec_lz4), 2);
  ck_assert_uint_eq (fail_each_allocation (&spec_lz4, &spec_none), 0);
  /* State, two contexts of the library and what they allocate in turn. */
  ck_assert_uint_ge (fail_each_allocation (&spec_lz4, &spec_zstd), 8);
  ck_assert_uint_ge (fail_each_allocation (&spec_zstd, &spec_zstd_9), 8);

  atomic_store (&fail_at, atomic_load (&nr_allocs) + 1);
  ck_assert_int_eq (context_pool_create (1, MAX_PAYLOAD, &pool), -ENOMEM);
  atomic_store (&fail_at, 0);
  ck_assert_ptr_null (pool);
}
END_TEST
#endif

int
main (void)
{
  Suite *suite = suite_create ("context");
  TCase *tcase = tcase_create ("context");
  TCase *waiting = tcase_create ("waiting");
  SRunner *runner;
  int nr_failed;

  test_start ("test-context");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_set_timeout (waiting, TEST_TIMEOUT_SECONDS / 4);
  tcase_add_test (tcase, test_bad_parameters);
  tcase_add_lone_test (tcase, test_each_is_its_own);
  tcase_add_lone_test (tcase, test_max_payload);
  tcase_add_test (tcase, test_change_of_codec);
  tcase_add_loop_test (tcase, test_change_of_level, CODEC_LZ4, CODEC_ZSTD + 1);
  tcase_add_test (waiting, test_threads);
  tcase_add_test (waiting, test_wake_ups);
  tcase_add_test (waiting, test_wake_ups_of_change);
  tcase_add_test (waiting, test_change_waits);
  tcase_add_lone_loop_test (tcase, test_no_allocation, 0, 10);
#if !TEST_SANITIZED
  tcase_add_lone_test (tcase, test_bytes);
  tcase_add_lone_test (tcase, test_failing_allocation);
#endif
  suite_add_tcase (suite, tcase);
  suite_add_tcase (suite, waiting);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
