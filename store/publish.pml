/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Publishing against compaction, as a model for spin; run by
 * tests/check-models.sh.
 *
 * Stands for:
 *   write      block_place, publish_group, block_drop (store/block.c,
 *              range.c): allocate, copy, publish under the group's lock, free
 *              the old after letting go of it; a publish that fails drops
 *              the new
 *   trim       replace_group
 *   read       read_group: all of it under the group's lock
 *   alloc,     pool_alloc, pool_free, pool_retire_zspage (alloc/pool.c)
 *   drop
 *   compact    pool_isolate_emptiest, pool_moves_begin, pool_moves_end,
 *              pool_source_finish (alloc/pool-move.c) and move_block
 *              (store/relocate.c): a batch or more, then the source is purged
 *
 *     zspage    0       1       2
 *     slots   | 0 1 | 2 3 | 4 5 |    block 0 in slot 0, block 1 in slot 2
 *
 * What happens under a class's lock is one step: all that it touches is
 * touched under that lock only.  A payload has two halves, copied one by one.
 * Where the pool prefers one slot to another, any may be taken here.
 *
 * Left out: size classes but one, the lists' order, batches longer than a
 * zspage, the table's page (store/block-table.pml) and its failures but as
 * "cannot be published", the limit (alloc/held.pml), writes in place
 * (store/overwrite.pml).
 *
 * Memory model: spin's is sequentially consistent.  Entries and payloads are
 * read and written under the group's lock, slots under the class's; a payload
 * is written before that, by who has the slot alone, and the release of the
 * group's lock publishes it.  So with locks that are locks nothing else is
 * seen; that no access goes round them is ThreadSanitizer's to find
 * (tests/test-model).
 *
 * Checked: INVARIANT in every state, so a kill at any moment leaves each
 * block whole, old or new; no object is touched that is not its owner's; none
 * is freed twice; in the end each object has an entry and each zspage is in
 * the list that it belongs to.
 *
 * A location that comes back (freed and taken again by the same block, while
 * a move of it is planned) cannot be: nothing is allocated in an isolated
 * zspage, and a batch claims all its targets before it moves the first
 * object.  MAY_ALLOC_IN_ISOLATED shows that it would be harmless: what is
 * moved is what the entry says at that moment.  (Not so for whoever works on
 * an object without the group's lock: they need more than its location.)
 */

#ifdef DEEP                     /* see tests/check-models.sh */
#define NR_ROUNDS 2             /* of the compactor */
#define NR_BATCHES 2            /* of a round */
#else
#define NR_ROUNDS 1
#define NR_BATCHES 1
#endif

#define BUG_NO_LOCATION_CHECK 1 /* moves what is in transit */
#define BUG_NO_GROUP_LOCK 2     /* the compactor looks, copies, publishes */
#define BUG_FREE_FIRST 3        /* a write frees the old, then publishes */
#define BUG_PUBLISH_FIRST 4     /* a write publishes, then copies */
#define BUG_MOVE_PUBLISHES_FIRST 5
#define BUG_READ_UNLOCKED 6     /* the entry was loaded under the lock */
#define BUG_RETIRE_ISOLATED 7   /* by its last free */
#define BUG_END_FREES_SOURCE 8  /* whether it has moved or not */
#define BUG_END_FREES_TARGET 9  /* likewise */
#define BUG_FORGET_EMPTY_TARGET 10      /* that lost all others meanwhile */
#define BUG_LIST_EMPTY_SOURCE 11        /* put back although empty */
#define BUG_ALLOC_IN_ISOLATED 12        /* with pages about to be purged */
#define BUG_DROP_UNPUBLISHED_NOT 13     /* of a publish that failed */
#define BUG_LOAD_EARLY 14       /* what a write frees, before the lock */
#define MAY_ALLOC_IN_ISOLATED 30        /* and nothing of it is purged */

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

#define NR_SLOTS 6
#define NONE NR_SLOTS
#define ZSPAGE(slot) ((slot) / 2)
#define NR_INUSE(z) ((owner[2 * (z)] != 0) + (owner[2 * (z) + 1] != 0))

byte entry[2];                  /* slot, or NONE: HOLE */
byte stored[2];                 /* what the block holds, by the entry */
bool locked[2];                 /* the block's group */

#define FREE 0
#define LISTED 1
#define ISOLATED 2
#define RETIRED 3               /* of no class, about to be purged */
byte state[3];
byte owner[NR_SLOTS];           /* block + 1; 0: the slot is free */
byte low[NR_SLOTS], high[NR_SLOTS];     /* the payload */

byte nr_running;

#define WHOLE(b) (owner[entry[b]] == (b) + 1 && low[entry[b]] == stored[b] && high[entry[b]] == stored[b])
#define INVARIANT(b) (entry[b] == NONE -> stored[b] == 0 : WHOLE (b))

inline lock (b)
{
  atomic { !locked[b] -> locked[b] = true }
}
inline unlock (b)
{
  locked[b] = false
}

#define IS_OPEN(z) (state[z] == LISTED || (state[z] == ISOLATED && (bug == BUG_ALLOC_IN_ISOLATED || bug == MAY_ALLOC_IN_ISOLATED)))
#define HAS_ROOM(z) (IS_OPEN (z) && NR_INUSE (z) < 2)
#define NO_ROOM !(HAS_ROOM (0) || HAS_ROOM (1) || HAS_ROOM (2))
#define LOWEST_FREE(z) (2 * (z) + (owner[2 * (z)] != 0))

inline take_slot (z)
{
  HAS_ROOM (z) -> slot = LOWEST_FREE (z)
}

inline take_zspage (z)
{
  state[z] == FREE && NO_ROOM -> state[z] = LISTED; slot = 2 * z
}

/* Into `slot`; NONE: there is no room. */
inline alloc (b)
{
  atomic {
    if
    :: take_slot (0)
    :: take_slot (1)
    :: take_slot (2)
    :: take_zspage (0)
    :: take_zspage (1)
    :: take_zspage (2)
    :: else -> slot = NONE
    fi;
    if
    :: slot != NONE -> owner[slot] = b + 1
    :: else
    fi
  }
}

#define IS_EMPTIED(z) (NR_INUSE (z) == 0 && (state[z] == LISTED || bug == BUG_RETIRE_ISOLATED))

/* Under the class's lock; `emptied`: zspages that are ours now, a bit each. */
inline free_slot (s)
{
  assert (owner[s] != 0);
  owner[s] = 0; low[s] = 0; high[s] = 0;
  if
  :: IS_EMPTIED (ZSPAGE (s)) ->
     assert (state[ZSPAGE (s)] == LISTED || state[ZSPAGE (s)] == ISOLATED);
     state[ZSPAGE (s)] = RETIRED;
     emptied = emptied | (1 << ZSPAGE (s))
  :: else
  fi
}

inline retire_one (z)
{
  atomic {
    (emptied >> (z)) & 1 ->
    assert (state[z] == RETIRED && NR_INUSE (z) == 0);
    state[z] = FREE;
    emptied = emptied & ~(1 << (z))
  }
}

/* With no lock held. */
inline retire ()
{
  do
  :: retire_one (0)
  :: retire_one (1)
  :: retire_one (2)
  :: emptied == 0 -> break
  od
}

inline drop (s)
{
  atomic { free_slot (s) };
  retire ()
}

inline copy (b, value)
{
  atomic { assert (owner[slot] == b + 1); low[slot] = value };
  atomic { assert (owner[slot] == b + 1); high[slot] = value }
}

proctype write (byte b, value; bool may_trim)
{
  byte slot = NONE, old = NONE, emptied;

  if
  :: alloc (b)
  :: may_trim -> value = 0
  fi;
  if
  :: slot == NONE && value != 0 -> goto end     /* ENOSPC */
  :: else
  fi;
  if
  :: slot != NONE && bug != BUG_PUBLISH_FIRST -> copy (b, value)
  :: else
  fi;
  if
  :: bug == BUG_FREE_FIRST && entry[b] != NONE -> drop (entry[b])
  :: bug == BUG_LOAD_EARLY -> old = entry[b]
  :: else
  fi;
  lock (b);
  if
  :: bug != BUG_LOAD_EARLY -> old = entry[b]
  :: else
  fi;
  if
  :: atomic { entry[b] = slot; stored[b] = value }
  :: slot != NONE -> old = (bug == BUG_DROP_UNPUBLISHED_NOT -> NONE : slot)
  fi;
  if
  :: slot != NONE && bug == BUG_PUBLISH_FIRST && entry[b] == slot ->
     copy (b, value)
  :: else
  fi;
  unlock (b);
  if
  :: old != NONE && bug != BUG_FREE_FIRST -> drop (old)
  :: else
  fi;
end:
  atomic { slot = NONE; old = NONE; nr_running-- }
}

proctype read (byte b)
{
  byte slot, value;

  lock (b);
  atomic { slot = entry[b]; value = stored[b] };
  if
  :: bug == BUG_READ_UNLOCKED -> unlock (b)
  :: else
  fi;
  if
  :: slot != NONE ->
     assert (owner[slot] == b + 1 && low[slot] == value);
     assert (owner[slot] == b + 1 && high[slot] == value)
  :: else
  fi;
  if
  :: bug != BUG_READ_UNLOCKED -> unlock (b)
  :: else
  fi;
  nr_running--
}

/* In a listed zspage, or lower in the source itself. */
#define HAS_TARGET(z) (NR_INUSE (z) < 2 && (state[z] == LISTED || (z == source && LOWEST_FREE (z) < top)))

inline claim (z)
{
  HAS_TARGET (z) -> to[nr] = LOWEST_FREE (z)
}

/* One object of the source, the highest below `top`, and a place for it. */
inline claim_move ()
{
  from[nr] = top;
  if
  :: claim (0)
  :: claim (1)
  :: claim (2)
  :: else -> to[nr] = NONE
  fi;
  if
  :: to[nr] != NONE ->
     whose[nr] = owner[top] - 1;
     owner[to[nr]] = owner[top];
     nr++
  :: else
  fi
}

inline begin_moves ()
{
  atomic {
    nr = 0;
    top = 2 * source + 1;
    if
    :: owner[top] != 0 -> claim_move ()
    :: else
    fi;
    top--;
    if
    :: owner[top] != 0 -> claim_move ()
    :: else
    fi;
    i = 0
  }
}

#define IS_MOVED (entry[b] == from[i] || (bug == BUG_NO_LOCATION_CHECK && entry[b] != NONE))

inline move_one ()
{
  b = whose[i]; done[i] = false;
  if
  :: atomic { !locked[b] && bug != BUG_NO_GROUP_LOCK -> locked[b] = true }
  :: atomic { locked[b] && bug != BUG_NO_GROUP_LOCK -> goto next }
  :: bug == BUG_NO_GROUP_LOCK
  fi;
  if
  :: IS_MOVED ->
     if
     :: bug == BUG_MOVE_PUBLISHES_FIRST -> entry[b] = to[i]
     :: else
     fi;
     atomic { assert (owner[from[i]] == b + 1 && owner[to[i]] == b + 1);
              low[to[i]] = low[from[i]] };
     atomic { assert (owner[from[i]] == b + 1 && owner[to[i]] == b + 1);
              high[to[i]] = high[from[i]] };
     entry[b] = to[i];
     done[i] = true
  :: else
  fi;
  if
  :: bug != BUG_NO_GROUP_LOCK -> unlock (b)
  :: else
  fi;
next:
  i++
}

#define FREES_SOURCE ((done[i] || bug == BUG_END_FREES_SOURCE) && bug != BUG_END_FREES_TARGET)

/* In one turn of the class's lock; then what was emptied is retired. */
inline end_moves ()
{
  atomic {
    i = 0;
    do
    :: i < nr ->
       if
       :: FREES_SOURCE -> free_slot (from[i])
       :: else -> free_slot (to[i])
       fi;
       i++
    :: else -> break
    od;
    if
    :: bug == BUG_FORGET_EMPTY_TARGET -> emptied = 0
    :: else
    fi;
    i = 0; nr = 0
  };
  retire ()
}

/* A page is a slot: what is free of a source with objects is purged. */
inline finish ()
{
  atomic {
    if
    :: NR_INUSE (source) != 1 || bug == MAY_ALLOC_IN_ISOLATED -> top = NONE
    :: else -> top = LOWEST_FREE (source)
    fi
  };
  if
  :: top != NONE -> assert (owner[top] == 0)    /* purge */
  :: else
  fi;
  atomic {
    assert (state[source] == ISOLATED);
    if
    :: NR_INUSE (source) > 0 || bug == BUG_LIST_EMPTY_SOURCE ->
       state[source] = LISTED
    :: else -> state[source] = RETIRED; emptied = 1 << source
    fi
  };
  retire ()
}

/* Of these the pool takes the emptiest. */
inline isolate (z)
{
  state[z] == LISTED -> state[z] = ISOLATED; source = z
}

proctype compact ()
{
  byte source, top, nr, i, b, emptied, nr_rounds, nr_batches;
  byte from[2], to[2], whose[2];
  bool done[2];

  do
  :: nr_rounds < NR_ROUNDS ->
     atomic {
       if
       :: isolate (0)
       :: isolate (1)
       :: isolate (2)
       :: else -> break
       fi
     };
     nr_batches = 0;
     do
     :: nr_batches < NR_BATCHES ->
        begin_moves ();
        do
        :: i < nr -> move_one ()
        :: else -> break
        od;
        end_moves ();
        nr_batches++
     :: else -> break
     od;
     finish ();
     nr_rounds++
  :: else -> break
  od;
  atomic { source = 0; top = 0; b = 0; nr_rounds = 0; nr_running-- }
}

#define HAS_ENTRY(s) (owner[s] == 0 || entry[owner[s] - 1] == s)
#define IS_WELL(z) (state[z] == (NR_INUSE (z) > 0 -> LISTED : FREE))

proctype check ()
{
  do
  :: !INVARIANT (0) || !INVARIANT (1) -> assert (false)
  :: nr_running == 0 ->
     assert (HAS_ENTRY (0) && HAS_ENTRY (1) && HAS_ENTRY (2));
     assert (HAS_ENTRY (3) && HAS_ENTRY (4) && HAS_ENTRY (5));
     assert (IS_WELL (0) && IS_WELL (1) && IS_WELL (2));
     break
  od
}

inline put (b, slot, value)
{
  entry[b] = slot; stored[b] = value;
  owner[slot] = b + 1; low[slot] = value; high[slot] = value;
  state[ZSPAGE (slot)] = LISTED
}

init {
  atomic {
    choose_bug ();
    put (0, 0, 8);
    put (1, 2, 9);
    run compact ();
    if
    :: nr_running = 3; run write (0, 1, true); run read (0)
    :: nr_running = 3; run write (0, 1, true); run write (0, 2, false)
    :: nr_running = 3; run write (0, 1, true); run write (1, 2, true)
#ifdef DEEP
    :: nr_running = 4; run write (0, 1, true); run read (0); run write (1, 2, true)
#endif
    fi;
    run check ()
  }
}
