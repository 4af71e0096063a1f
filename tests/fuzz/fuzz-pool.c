/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The allocator, by a stream of operations: what writers, trims and the
 * compactor ask of it, in every order, the pages failing where the stream
 * says, and a limit; with a reserve, where it begins with a G and its size.
 * One thread: the threads' tests are others.
 *
 * The oracle: after each operation the pool's validator, the number of
 * objects of each class and `held` against the limit; and each object, when
 * it is moved, freed, or at the end, has its owner and the content that it
 * was given.  In the end all is freed and nothing is held but the reserve.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "../probe.h"
#include "../test-util.h"
#include "fuzz.h"
#include "pages.h"
#include "pool-check.h"
#include "pool-move.h"
#include "pool.h"
#include "refill.h"

#define ARENA_ZSPAGES 24
#define MAX_OBJECTS 2048
#define MAX_OPERATIONS 400
#define RESERVE_UNIT (8 * KIB)

struct object {
  zs_loc loc;
  unsigned class_idx;
  owner_t owner; /* its index, or OWNER_NONE */
  uint64_t tag;
  bool live;
};

static struct pages pages;
static struct pool *pool;
static struct object objects[MAX_OBJECTS];
static unsigned live[MAX_OBJECTS], nr_live; /* indices of live ones */
static unsigned nr_of_class[MAX_SIZE_CLASSES];
static uint64_t next_tag;

/* What is being compacted, and the moves that have begun. */
static struct pool_source source;
static struct pool_move moves[POOL_MOVES_MAX];
static unsigned nr_moves;
static bool has_source;

/*--- Objects and their content. ---*/

static void
fill (const struct object *object)
{
  uint64_t *p = pool_borrow (pool, object->loc);

  for (size_t i = 0; i < pool_slot_bytes (pool, object->loc) / 8; ++i)
    p[i] = object->tag * UINT64_C (0x9e3779b97f4a7c15) + i;
}

static void
verify (const struct object *object)
{
  const uint64_t *p = pool_borrow (pool, object->loc);

  FUZZ_CHECK (pool_owner (pool, object->loc) == object->owner,
              "owner %u, not %u", pool_owner (pool, object->loc),
              object->owner);
  for (size_t i = 0; i < pool_slot_bytes (pool, object->loc) / 8; ++i)
    FUZZ_CHECK (p[i] == object->tag * UINT64_C (0x9e3779b97f4a7c15) + i,
                "object at %" PRIx64 " overwritten at byte %zu", object->loc,
                8 * i);
}

static void
alloc_one (size_t bytes, bool movable)
{
  const uint64_t failed_before = probe_nr_failed ();
  const bool limited = atomic_load (&pages.limit) != PAGES_NO_LIMIT;
  struct object *object = objects;
  struct pool_stats stats;
  int r;

  while (object < objects + MAX_OBJECTS && object->live)
    ++object;
  if (object == objects + MAX_OBJECTS)
    return;
  object->owner = movable ? (owner_t) (object - objects) : OWNER_NONE;
  r = pool_alloc (pool, bytes, object->owner, &object->loc);
  if (r < 0) {
    pool_stats (pool, &stats);
    FUZZ_CHECK ((r == -ENOMEM && probe_nr_failed () > failed_before) ||
                  (r == -ENOSPC &&
                   (limited || stats.nr_zspages == ARENA_ZSPAGES)),
                "%d with %" PRIu64 " zspages in use", r, stats.nr_zspages);
    return;
  }
  FUZZ_CHECK (pool_slot_bytes (pool, object->loc) >= bytes, "%zu", bytes);
  object->class_idx = size_class_of (size_class_table (), bytes);
  object->tag = next_tag++;
  object->live = true;
  live[nr_live++] = (unsigned) (object - objects);
  ++nr_of_class[object->class_idx];
  fill (object);
}

static void
free_one (unsigned i)
{
  struct object *object = &objects[live[i]];

  verify (object);
  object->live = false;
  --nr_of_class[object->class_idx];
  live[i] = live[--nr_live];
  pool_free (pool, object->loc);
}

/*--- What the compactor does. ---*/

/* As the store does under the owner's lock: only what is still there. */
static bool
move_one (const struct pool_move *move)
{
  struct object *object = &objects[move->owner];

  FUZZ_CHECK (move->owner < MAX_OBJECTS, "owner %u was offered", move->owner);
  if (!object->live || object->loc != move->from)
    return false;
  verify (object);
  memcpy (pool_borrow (pool, move->to), pool_borrow (pool, move->from),
          pool_slot_bytes (pool, move->from));
  memset (pool_borrow (pool, move->from), 0xee,
          pool_slot_bytes (pool, move->from));
  object->loc = move->to;
  return true;
}

static void
begin_moves (struct input *input)
{
  const bool pack = take_byte (input) & 1;

  if (!has_source || nr_moves > 0)
    return;
  nr_moves = pool_moves_begin (pool, &source, pack, moves,
                               1 + take_below (input, POOL_MOVES_MAX));
  for (unsigned i = 0; i < nr_moves; ++i)
    FUZZ_CHECK (moves[i].from != moves[i].to, "move %u", i);
}

/* The bits of a byte say which are busy, again and again. */
static void
end_moves (uint8_t busy)
{
  for (unsigned i = 0; i < nr_moves; ++i)
    moves[i].done = !(busy >> i % 8 & 1) && move_one (&moves[i]);
  if (nr_moves > 0)
    pool_moves_end (pool, &source, moves, nr_moves);
  nr_moves = 0;
}

static void
finish_source (unsigned min_run)
{
  end_moves (0);
  if (has_source)
    pool_source_finish (pool, &source, min_run);
  has_source = false;
}

/* All of one zspage, as a compactor would. */
static void
evacuate (unsigned class_idx)
{
  finish_source (1);
  has_source = pool_isolate_emptiest (pool, class_idx, &source);
  while (has_source && (nr_moves = pool_moves_begin (pool, &source, true, moves,
                                                     POOL_MOVES_MAX)) > 0)
    end_moves (0);
  finish_source (1);
}

/* By a size, as in an allocation: seeds can name the same. */
static unsigned
take_class (struct input *input)
{
  return size_class_of (size_class_table (),
                        1 + take_below (input, OBJECT_MAX));
}

static void
isolate (struct input *input, bool emptiest)
{
  const unsigned class_idx = take_class (input);
  const unsigned group = take_byte (input) % NR_FULLNESS_GROUPS;
  unsigned max_looks = 1 + group;

  if (has_source)
    return;
  has_source = emptiest
                 ? pool_isolate_emptiest (pool, class_idx, &source)
                 : pool_isolate_with_free_run (pool, class_idx, group,
                                               1 + take_byte (input) % 16,
                                               &max_looks, &source);
}

/*--- The stream. ---*/

static void
set_limit (uint64_t bytes)
{
  atomic_store (&pages.limit, bytes);
  probe_watch_limit (bytes == PAGES_NO_LIMIT ? 0 : bytes);
}

static void
operate (struct input *input)
{
  unsigned n;

  switch (take_letter (input, "aAoffFspiIrmmeewqgGnNlLC")) {
  case 'a':
    alloc_one (1 + take_below (input, OBJECT_MAX), true);
    break;
  case 'A':
    n = 1 + take_below (input, OBJECT_MAX);
    for (unsigned i = take_byte (input) % 128; i > 0; --i)
      alloc_one (n, true);
    break;
  case 'o':
    alloc_one (1 + take_below (input, OBJECT_MAX), false);
    break;
  case 'f':
    n = take_below (input, MAX_OBJECTS);
    if (nr_live > 0)
      free_one (n % nr_live);
    break;
  case 'F': /* all but every nth, from there on */
    n = 1 + take_byte (input) % 16;
    for (unsigned i = nr_live * (take_byte (input) % 8) / 8; i < nr_live; ++i)
      if (i % n != 0 || n == 1)
        free_one (i);
    break;
  case 's':
    pool_set_spare_max (pool, take_byte (input) % 4);
    break;
  case 'p':
    pool_purge_spare (pool, take_byte (input) % 4);
    break;
  case 'i':
    isolate (input, true);
    break;
  case 'I':
    evacuate (take_class (input));
    break;
  case 'r':
    isolate (input, false);
    break;
  case 'm':
    begin_moves (input);
    break;
  case 'e':
    end_moves (take_byte (input));
    break;
  case 'w':
    if (has_source && nr_moves == 0)
      pool_source_rewind (pool, &source);
    break;
  case 'q':
    finish_source (1 + take_byte (input) % 16);
    break;
  case 'g':
    refill (pool, pages_held (&pages) + take_byte (input) * PAGE_BYTES);
    break;
  case 'G':
    refill (pool, 2 * ARENA_ZSPAGES * ZSPAGE_BYTES); /* more than there is */
    break;
  case 'n':
    probe_fail_nth (PROBE_POPULATE, take_byte (input) % 4);
    break;
  case 'N':
    probe_fail_nth (PROBE_PURGE, take_byte (input) % 4);
    break;
  case 'l':
    set_limit (pages_held (&pages) + take_byte (input) * PAGE_BYTES);
    break;
  case 'L':
    set_limit (PAGES_NO_LIMIT);
    break;
  case 'C':
    probe_resident_bytes ();
    break;
  default:
    break;
  }
}

/*--- The oracle. ---*/

static void
check_all (void)
{
  unsigned nr_claimed[MAX_SIZE_CLASSES] = { 0 };
  struct pool_class_stats stats;
  char error[256] = "";

  FUZZ_CHECK (has_source || pool_check (pool, error, sizeof error) == 0, "%s",
              error);
  FUZZ_CHECK (pages_held (&pages) <= atomic_load (&pages.limit), "%" PRIu64,
              pages_held (&pages));
  if (nr_moves > 0)
    nr_claimed[source.class_idx] = nr_moves;
  for (unsigned i = 0; i < pool_nr_classes (pool); ++i) {
    pool_class_stats (pool, i, &stats);
    FUZZ_CHECK (stats.nr_inuse == nr_of_class[i] + nr_claimed[i],
                "class %u: %" PRIu64 " objects, not %u", i, stats.nr_inuse,
                nr_of_class[i] + nr_claimed[i]);
  }
  FUZZ_CHECK (test_nr_failures () == 0, "%s", test_first_failure ());
}

static void
end_all (void)
{
  struct pool_stats stats;

  probe_fail_nth (PROBE_POPULATE, 0);
  probe_fail_nth (PROBE_PURGE, 0);
  finish_source (1);
  check_all ();
  probe_resident_bytes ();
  while (nr_live > 0)
    free_one (nr_live - 1);
  pool_purge_spare (pool, 0);
  check_all ();
  pool_stats (pool, &stats);
  FUZZ_CHECK (stats.arena_bytes == stats.primed_bytes &&
                stats.nr_zspages == 0 && stats.spare_bytes == 0 &&
                (pool_has_reserve (pool) || stats.primed_bytes == 0),
              "%" PRIu64 " bytes", stats.arena_bytes);
  pool_destroy (pool);
  FUZZ_CHECK (pages_held (&pages) == 0 && probe_nr_ranges () == 0,
              "%" PRIu64 " held", pages_held (&pages));
  FUZZ_CHECK (test_nr_failures () == 0, "%s", test_first_failure ());
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes)
{
  struct input input = { data, bytes };

  memset (objects, 0, sizeof objects);
  memset (nr_of_class, 0, sizeof nr_of_class);
  probe_reset ();
  pages_init (&pages, &probe_ops, PAGES_NO_LIMIT);
  if (pool_create (&pages, ARENA_ZSPAGES * ZSPAGE_BYTES, &pool) < 0)
    abort ();
  if (bytes > 1 && data[0] == 'G') {
    take_byte (&input);
    pool_set_reserve (pool, (1 + take_byte (&input)) * RESERVE_UNIT);
  }
  if (pool_activate (pool) < 0)
    abort ();
  for (unsigned i = 0; i < MAX_OPERATIONS && input.left > 0; ++i) {
    operate (&input);
    check_all ();
  }
  end_all ();
  return 0;
}
