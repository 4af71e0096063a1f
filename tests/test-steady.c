/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * G8: with a reserve (mlock=yes) reads, writes and trims in the steady state
 * allocate nothing, make nothing resident and fault nothing.
 *
 * Who takes memory is told by the thread: malloc and its like are interposed,
 * populates are seen by the pages' operations, faults are the kernel's count
 * for the thread.  A client goes on when the worker has refilled what was
 * taken, as it does wherever it has a processor to itself.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "libcheck.h"
#include "pool.h"
#include "stats.h"
#include "store.h"
#include "test-util.h"

#define NR_CLIENTS 2
#define DISK_BYTES (64 * MIB)
#define NR_BLOCKS (DISK_BYTES / TEST_BLOCK_BYTES)
#define NR_CONTENT_BLOCKS 1024

static struct store *store;
static uint8_t contents[NR_CONTENT_BLOCKS][TEST_BLOCK_BYTES];

/* Of clients, while they are counted. */
static _Thread_local bool counted;
static atomic_uint nr_allocations, nr_populates;

/*--------------------------------------------------------------------*/

#if !TEST_SANITIZED
/* The C library's own, under the names that it has for those who interpose.
 */
extern void *__libc_malloc (size_t);
extern void *__libc_calloc (size_t, size_t);
extern void *__libc_realloc (void *, size_t);
extern void *__libc_memalign (size_t, size_t);
extern void __libc_free (void *);

#define INTERPOSED __attribute__ ((visibility ("default")))

static void
count_allocation (void)
{
  if (counted)
    atomic_fetch_add (&nr_allocations, 1);
}

INTERPOSED void *
malloc (size_t bytes)
{
  count_allocation ();
  return __libc_malloc (bytes);
}

INTERPOSED void *
calloc (size_t nr, size_t bytes)
{
  count_allocation ();
  return __libc_calloc (nr, bytes);
}

INTERPOSED void *
realloc (void *p, size_t bytes)
{
  count_allocation ();
  return __libc_realloc (p, bytes);
}

INTERPOSED void *
aligned_alloc (size_t align, size_t bytes)
{
  count_allocation ();
  return __libc_memalign (align, bytes);
}

INTERPOSED void
free (void *p)
{
  count_allocation ();
  __libc_free (p);
}
#endif

static int
populate_counted (struct pages *pages, void *addr, size_t bytes)
{
  if (counted)
    atomic_fetch_add (&nr_populates, 1);
  return pages_anonymous.populate (pages, addr, bytes);
}

/*--------------------------------------------------------------------*/

static void
make_contents (void)
{
  struct rng rng;

  rng_init (&rng, test_seed (), 1);
  for (unsigned i = 0; i < NR_CONTENT_BLOCKS; i++)
    if (i % 8 == 0)
      make_block (&rng, (enum content) (i / 8 % NR_CONTENTS), contents[i]);
    else
      make_text_block (&rng, i % 100, contents[i]);
}

static void
one_request (struct rng *rng)
{
  static _Thread_local uint8_t buf[2 * TEST_BLOCK_BYTES];
  const uint64_t blkno = rng_below (rng, NR_BLOCKS);
  const uint64_t offset = blkno * TEST_BLOCK_BYTES;
  const uint8_t *content = contents[rng_below (rng, NR_CONTENT_BLOCKS)];
  int r;

  switch (rng_below (rng, 8)) {
  case 0:
  case 1:
  case 2:
    r = store_read (store, buf, TEST_BLOCK_BYTES, offset);
    break;
  case 3:
    r = store_trim (store, TEST_BLOCK_BYTES, offset);
    break;
  case 4:
    r = store_write (store, content, 512, offset + 1024);
    break;
  default:
    r = store_write (store, content, TEST_BLOCK_BYTES, offset);
  }
  if (r < 0)
    test_note_failure ("a request gave %d", r);
  while (!pool_is_refilled (store_pool (store)))
    sleep_us (20);
}

static unsigned nr_requests; /* a client; */
static bool count_them;
static atomic_ulong nr_faults;

static uint64_t
thread_faults (void)
{
  struct rusage usage;

  getrusage (RUSAGE_THREAD, &usage);
  return (uint64_t) usage.ru_minflt + (uint64_t) usage.ru_majflt;
}

static void *
run_client (void *arg)
{
  uint64_t before;
  struct rng rng;

  rng_init (&rng, test_seed (), (uint64_t) (uintptr_t) arg);
  /* Its stack, and what the libraries keep for a thread. */
  for (unsigned i = 0; i < nr_requests / 5; i++)
    one_request (&rng);
  before = thread_faults ();
  counted = count_them;
  for (unsigned i = 0; i < nr_requests; i++)
    one_request (&rng);
  counted = false;
  if (count_them)
    atomic_fetch_add (&nr_faults, thread_faults () - before);
  return NULL;
}

static void
run_clients (unsigned nr, bool count)
{
  pthread_t threads[NR_CLIENTS];

  nr_requests = nr;
  count_them = count;
  for (uintptr_t i = 0; i < NR_CLIENTS; i++)
    pthread_create (&threads[i], NULL, run_client,
                    (void *) (i + (count ? 20 : 10)));
  for (unsigned i = 0; i < NR_CLIENTS; i++)
    pthread_join (threads[i], NULL);
}

START_TEST (test_steady)
{
  static const char *const codecs[] = { "lz4", "zstd:1" };
  const unsigned nr = TEST_SANITIZED ? 1000 : 50000;
  struct pages_ops ops = pages_anonymous;
  struct store_params params = {
    .size_bytes = DISK_BYTES,
    .limit_bytes = 512 * MIB,
    .reserve = true,
    .pages_ops = &ops,
  };
  struct stats before, after;
  char error[200] = "";

  ops.populate = populate_counted;
  ck_assert_int_eq (codec_spec_parse (codecs[_i], &params.codec, error,
                                      sizeof error),
                    0);
  ck_assert_int_eq (store_create (&params, &store), 0);
  ck_assert_int_eq (store_start (store), 0);
  ck_assert_int_eq (store_start_worker (store), 0);
  for (uint64_t i = 0; i < NR_BLOCKS; i++)
    ck_assert_int_eq (store_write (store, contents[i % NR_CONTENT_BLOCKS],
                                   TEST_BLOCK_BYTES, i * TEST_BLOCK_BYTES),
                      0);
  run_clients (nr, false);
  /* Nor in what the test itself touches. */
  memset (&before, 0, sizeof before);
  store_stats (store, &before);
  run_clients (nr, true);
  store_stats (store, &after);
  printf ("%s: %u requests of %d clients: %u allocations, %u populates, %lu "
          "faults; by the worker %" PRIu64 " populates, %" PRIu64 " purges\n",
          codecs[_i], nr, NR_CLIENTS, atomic_load (&nr_allocations),
          atomic_load (&nr_populates), atomic_load (&nr_faults),
          after.pages_populated - before.pages_populated,
          after.pages_purged - before.pages_purged);
  fflush (stdout);
  ck_assert_uint_eq (atomic_load (&nr_allocations), 0);
  ck_assert_uint_eq (atomic_load (&nr_populates), 0);
  if (!TEST_SANITIZED)
    ck_assert_uint_eq (atomic_load (&nr_faults), 0);
  ck_assert_msg (test_nr_failures () == 0, "%s", test_first_failure ());

  store_stop_worker (store);
  ck_assert_msg (store_check (store, error, sizeof error) == 0, "%s", error);
  store_destroy (store);
}
END_TEST

/* Where the table is too large to be resident from the start it is not, and
 * what a limit must be says so.
 */
START_TEST (test_table)
{
  struct store_params params = {
    .size_bytes = 4096 * MIB,
    .limit_bytes = 513 * MIB,
    .reserve = true,
    .codec = { CODEC_LZ4, 1 },
  };
  uint64_t pinned_min, other_min;
  struct stats stats;

  for (int pinned = 1; pinned >= 0; pinned--) {
    params.limit_bytes = pinned ? 513 * MIB : 511 * MIB;
    ck_assert_int_eq (store_create (&params, &store), 0);
    ck_assert_int_eq (store_start (store), 0);
    memset (&stats, 0, sizeof stats);
    store_stats (store, &stats);
    ck_assert_uint_eq (stats.live_regions, pinned ? 2048 : 0);
    *(pinned ? &pinned_min : &other_min) = store_min_limit (store);
    ck_assert_uint_eq (store_min_limit (store), store_min_bytes (&params));
    ck_assert_int_eq (store_write (store, contents[1], TEST_BLOCK_BYTES, 0), 0);
    ck_assert_int_eq (store_trim (store, TEST_BLOCK_BYTES, 0), 0);
    store_stats (store, &stats);
    ck_assert_uint_eq (stats.live_regions, pinned ? 2048 : 0);
    store_destroy (store);
  }
  ck_assert_uint_eq (pinned_min - other_min, 8 * MIB);
}
END_TEST

/* A limit that is lowered takes the reserve back, with a worker that compacts
 * and with one that does not.
 */
START_TEST (test_limit_lowered)
{
  struct store_params params = {
    .size_bytes = DISK_BYTES,
    .limit_bytes = 512 * MIB,
    .reserve = true,
    .codec = { CODEC_LZ4, 1 },
    .compact_manual = _i,
  };
  struct stats stats = { .reserve_bytes = 0 };
  uint64_t held, limit;

  ck_assert_int_eq (store_create (&params, &store), 0);
  ck_assert_int_eq (store_start (store), 0);
  ck_assert_int_eq (store_start_worker (store), 0);
  while (stats.reserve_bytes < 8 * MIB) {
    store_stats (store, &stats);
    sleep_us (1000);
  }
  held = stats.held_bytes;
  limit = store_min_limit (store) + MIB;
  ck_assert_uint_gt (held, limit);
  ck_assert_int_eq (store_set_limit (store, limit), 0);
  store_stats (store, &stats);
  ck_assert_uint_le (stats.held_bytes, limit);
  ck_assert_int_eq (store_set_limit (store, 512 * MIB), 0);
  store_stop_worker (store);
  store_destroy (store);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("steady");
  TCase *tcase = tcase_create ("steady");
  SRunner *runner;
  int nr_failed;

  test_start ("test-steady");
  make_contents ();
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_steady, 0, 2);
  tcase_add_test (tcase, test_table);
  tcase_add_loop_test (tcase, test_limit_lowered, 0, 2);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
