/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The reserve and compaction (G8): what is resident and free is what the
 * compactor moves objects to, and what allocations are to find.
 *
 * Clients here do as a server's do: each has one request under way, at any
 * time between two steps of the worker or two moves of a step, and whoever
 * sees that something was taken of the reserve waits for the refill.  Then
 * no request ever populates a page.
 */

#include <config.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "libcheck.h"
#include "worker-fixture.h"

#define RESERVE_BYTES (8 * MIB)
#define NR_CLIENTS 2
#define NR_ITEMS 6000

/* Many zspages of few classes, a few of each, or one or two of all. */
static const unsigned nr_sizes_of[] = { 6, 40, 1900 };
#define NR_MIXES (sizeof nr_sizes_of / sizeof nr_sizes_of[0])
static unsigned nr_sizes;

static unsigned nr_idle; /* clients that wait for nothing */
static unsigned once_in; /* do they ask for something */
static uint64_t nr_requests, nr_while_moving;

static uint32_t
size_of (unsigned i)
{
  return 4096 - 3800 / nr_sizes * i;
}

static uint32_t
any_size (void)
{
  return size_of ((unsigned) rng_below (&worker_rng, nr_sizes));
}

/* Whose class has the fewest resident bytes to spare, of some sizes. */
static uint32_t
scarcest_size (void)
{
  const unsigned nr = nr_sizes < 50 ? nr_sizes : 50;
  const unsigned first = (unsigned) rng_below (&worker_rng, nr_sizes);
  uint64_t spare, least = UINT64_MAX;
  struct pool_class_stats class;
  uint32_t ret = size_of (first);

  for (unsigned i = 0; i < nr; i++) {
    const uint32_t size = size_of ((first + i) % nr_sizes);

    pool_class_stats (pool, size_class_of (size_class_table (), size), &class);
    spare = class.resident_bytes - class.nr_inuse * class.object_bytes;
    if (class.nr_inuse > 0 && spare < least) {
      least = spare;
      ret = size;
    }
  }
  return ret;
}

/* Of an idle client: write a block, or trim one. */
static void
request (void)
{
  const owner_t owner = (owner_t) rng_below (&worker_rng, NR_ITEMS);
  const uint64_t before = atomic_load (&pages.nr_populates);
  const bool live = is_live (owner);

  if (live)
    discard_item (owner);
  if (!live || rng_once_in (&worker_rng, 2))
    add_item (owner,
              rng_once_in (&worker_rng, 4) ? any_size () : scarcest_size ());
  nr_requests++;
  if (atomic_load (&pages.nr_populates) != before)
    test_note_failure ("request %" PRIu64 " populated", nr_requests);
  if (!pool_is_refilled (pool))
    nr_idle--;
}

static void
requests (void)
{
  if (pool_is_refilled (pool))
    nr_idle = NR_CLIENTS;
  while (nr_idle > 0 && rng_once_in (&worker_rng, once_in))
    request ();
}

static void
requests_while_moving (void)
{
  const uint64_t before = nr_requests;

  requests ();
  nr_while_moving += nr_requests - before;
}

/* Fragmented anew; then a burst, more than what is ready. */
static void
fragment (unsigned of)
{
  free_most (0, NR_ITEMS, of);
  for (owner_t i = 0; i < NR_ITEMS / 4; i++)
    if (!is_live (i))
      add_item (i, any_size ());
  nr_idle = 0;
}

START_TEST (test_no_request_populates)
{
  const unsigned nr_rounds = TEST_SANITIZED ? 30 : 150;

  open_worker_with_reserve (RESERVE_BYTES);
  pool_set_spare_max (pool, 1000);
  nr_sizes = nr_sizes_of[_i];
  nr_requests = nr_while_moving = 0;
  after_move = requests_while_moving;
  for (unsigned i = 0; i < nr_rounds; i++) {
    fragment (1 + i % 4);
    once_in = i % 2 == 0 ? 2 : 100;
    for (unsigned j = 0; j < 300; j++) {
      if (j % 100 == 50)
        ask (-1);
      requests ();
      step (false);
    }
  }
  printf ("%" PRIu64 " requests, %" PRIu64 " of them while a step moved "
          "objects; %" PRIu64 " runs\n",
          nr_requests, nr_while_moving, nr_runs ());
  ck_assert_uint_gt (nr_while_moving, nr_rounds);
  ck_assert_uint_gt (nr_runs (), nr_rounds);
  after_move = NULL;
  /* Compaction and refill come to an end. */
  step_to_sleep ();
  ck_assert (pool_is_refilled (pool));
  close_worker ();
}
END_TEST

static bool
rings (void)
{
  compact_worker_ask_refill (&worker);
  ck_assert (!was_rung ());
  return was_rung_for_refill ();
}

/* Whoever takes of the reserve rings, as long as nobody has before him, and
 * as long as it helps.
 */
START_TEST (test_one_ring_a_refill)
{
  open_worker_with_reserve (RESERVE_BYTES);
  nr_sizes = nr_sizes_of[0];
  step_to_sleep ();

  add_item (0, any_size ());
  ck_assert (rings ());
  ck_assert (!rings ());
  step (false);
  ck_assert (pool_is_refilled (pool));
  ck_assert (rings ());
  ck_assert (!rings ());

  atomic_store (&pages.limit, pages_held (&pages));
  add_item (1, 1000);
  for (unsigned i = 0; i < 3; i++) {
    step (false);
    ck_assert (!rings ());
  }
  atomic_store (&pages.limit, PAGES_NO_LIMIT);
  step (false);
  step (false); /* after a look, which sees the new limit */
  ck_assert (pool_is_refilled (pool));
  ck_assert (rings ());
  close_worker ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("worker-reserve");
  TCase *tcase = tcase_create ("worker-reserve");
  SRunner *runner;
  int nr_failed;

  test_start ("test-worker-reserve");
  tcase_set_timeout (tcase, TEST_TIMEOUT_SECONDS);
  tcase_add_loop_test (tcase, test_no_request_populates, 0, NR_MIXES);
  tcase_add_lone_test (tcase, test_one_ring_a_refill);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_ENV);
  nr_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return nr_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
