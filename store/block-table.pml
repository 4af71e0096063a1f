/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The region word of the block table, as a model for spin; run by
 * tests/check-models.sh.
 *
 * Stands for: block_table_load, count_in, make_region_resident,
 * purge_region, count_out and block_table_publish (block-table.h, .c), each
 * atomic access a step of its own.
 *
 * One region of NR_GROUPS groups, a block each.  A group's lock lets one
 * thread at a time be in these functions for it, so a group is one process
 * that stores, replaces, trims and loads at random.  Populating and purging
 * the page may fail.
 *
 * Left out: what an entry points at (store/publish.pml), the limit
 * (alloc/held.pml), and loads without the lock, which are hints.
 *
 * Memory model: spin's is sequentially consistent.  The word is changed by
 * sequentially consistent read-modify-writes alone, or by a plain store of
 * who has it BUSY.  An entry is stored before the count_out that follows it
 * in the program, a release; all later changes of the word are in its release
 * sequence, and the purger's compare and swap acquires it: no HOLE arrives
 * after the purge.  A first store follows a count_in that acquires what
 * make_region_resident released: it does not come before the populate.
 *
 * Checked: an entry under its lock holds what was last stored; nobody stores
 * to a page that is not resident; no count is lost; in the end the page is
 * resident exactly if an entry is live (or its purge failed); nobody waits
 * for ever.
 */

#define NR_GROUPS 3
#ifdef DEEP                     /* see tests/check-models.sh */
#define NR_OPS 3                /* of each group */
#else
#define NR_OPS 2
#endif

#define BUG_COUNT_OUT_FIRST 1   /* a trim counts out, then stores HOLE */
#define BUG_COUNT_IN_LATE 2     /* a writer stores, then counts itself in */
#define BUG_PURGE_WITHOUT_CAS 3 /* RESIDENT | 0 was seen a moment ago */
#define BUG_PASS_BUSY 4         /* count_in does not wait out BUSY */
#define BUG_KEEP_BUSY 5         /* a populate that failed leaves BUSY */
#define BUG_ZERO_EARLY 6        /* the word is 0 before the page goes */
#define BUG_RESIDENT_EARLY 7    /* RESIDENT before the page is there */
#define BUG_FORGET_COUNT_OUT 8  /* a trim does not count out */
#define BUG_KEEP_COUNT 9        /* a populate that failed stays counted */

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

/* The word: BUSY, 0, or RESIDENT + count. */
#define BUSY 99
#define RESIDENT 16
byte word;
#define IS_RESIDENT (word >= RESIDENT && word != BUSY)

bool page;                      /* is resident */
byte entry[NR_GROUPS];          /* 0: HOLE */
byte acknowledged[NR_GROUPS];   /* what entry must hold, under its lock */
bool purge_failed;
byte nr_running = NR_GROUPS;

inline populate (failed)
{
  if
  :: failed = false; page = true
  :: failed = true
  fi
}

/* Private memory that was purged reads as zeros: HOLE. */
inline purge (failed)
{
  if
  :: atomic {
       failed = false;
       page = false;
       entry[0] = 0; entry[1] = 0; entry[2] = 0
     }
  :: failed = true
  fi
}

inline store_entry (value)
{
  atomic {
    assert (page);
    entry[me] = value
  }
}

inline make_region_resident (failed)
{
  if
  :: bug == BUG_RESIDENT_EARLY -> word = RESIDENT + 1; populate (failed)
  :: else ->
     populate (failed);
     if
     :: failed && bug == BUG_KEEP_BUSY -> skip
     :: failed && bug == BUG_KEEP_COUNT -> word = RESIDENT + 1
     :: failed && bug != BUG_KEEP_BUSY && bug != BUG_KEEP_COUNT -> word = 0
     :: !failed -> word = RESIDENT + 1
     fi
  fi
}

/* A compare and swap that fails starts again: a step that waits until it can
 * be done is the same, but for the turns in vain.
 */
inline count_in (failed)
{
  failed = false;
  if
  :: atomic { word == 0 -> word = BUSY };
     make_region_resident (failed)
  :: atomic { IS_RESIDENT -> word++ }
  :: atomic { bug == BUG_PASS_BUSY && word == BUSY -> skip }
  fi
}

inline purge_region (failed)
{
  if
  :: atomic { word == RESIDENT || bug == BUG_PURGE_WITHOUT_CAS -> word = BUSY };
     if
     :: bug == BUG_ZERO_EARLY -> word = 0
     :: else
     fi;
     purge (failed);
     if
     :: failed -> atomic { purge_failed = true; word = RESIDENT }
     :: else -> word = 0
     fi
  :: atomic { word != RESIDENT && bug != BUG_PURGE_WITHOUT_CAS -> skip }
  fi
}

inline count_out (failed)
{
  atomic {
    assert (word > RESIDENT && word != BUSY);
    word--;
    last = word == RESIDENT
  };
  if
  :: last -> purge_region (failed)
  :: else
  fi
}

/* A HOLE becomes something else. */
inline publish_first (value)
{
  if
  :: atomic { bug == BUG_COUNT_IN_LATE && IS_RESIDENT -> skip };
     store_entry (value);
     count_in (failed)
  :: atomic { bug != BUG_COUNT_IN_LATE || !IS_RESIDENT -> skip };
     count_in (failed);
     if
     :: failed
     :: !failed -> store_entry (value)
     fi
  fi;
  if
  :: failed
  :: !failed -> acknowledged[me] = value
  fi
}

/* Something becomes HOLE. */
inline publish_hole ()
{
  if
  :: bug == BUG_COUNT_OUT_FIRST -> count_out (failed); store_entry (0)
  :: bug == BUG_FORGET_COUNT_OUT -> store_entry (0)
  :: else -> store_entry (0); count_out (failed)
  fi;
  acknowledged[me] = 0
}

/* Under the group's lock: block_table_load. */
inline load ()
{
  if
  :: IS_RESIDENT -> seen = entry[me]
  :: else -> seen = 0
  fi;
  assert (seen == acknowledged[me])
}

proctype group (byte me)
{
  bool failed, last;
  byte seen, nr_ops;

  do
  :: nr_ops < NR_OPS ->
     nr_ops++;
     load ();
     if
     :: acknowledged[me] == 0 -> publish_first (1)
     :: acknowledged[me] == 1 -> store_entry (2); acknowledged[me] = 2
     :: acknowledged[me] != 0 -> publish_hole ()
     fi;
     load ();
     failed = false; last = false; seen = 0
  :: nr_ops == NR_OPS -> break
  od;
  nr_running--
}

/* When all have stopped. */
active proctype check ()
{
  byte nr_live;

  nr_running == 0;
  nr_live = (entry[0] != 0) + (entry[1] != 0) + (entry[2] != 0);
  assert (entry[0] == acknowledged[0] && entry[1] == acknowledged[1]);
  assert (entry[2] == acknowledged[2]);
  if
  :: nr_live > 0 -> assert (word == RESIDENT + nr_live && page)
  :: nr_live == 0 && page -> assert (word == RESIDENT && purge_failed)
  :: nr_live == 0 && !page -> assert (word == 0)
  fi
}

init {
  atomic {
    choose_bug ();
    run group (0); run group (1); run group (2)
  }
}
