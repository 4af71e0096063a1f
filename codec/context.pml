/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Contexts lent and taken back, as a model for spin; run by
 * tests/check-models.sh.
 *
 * Stands for: try_borrow, wait_for_context, context_borrow, borrow_index,
 * wake_waiters, context_return (codec/context.c) and the rounds of
 * context_pool_set_codec, each atomic access a step of its own; one context or
 * two, threads that borrow one and return it, one that sets the codec.
 * (DEEP: see tests/check-models.sh.)
 *
 * Left out: what a context is used for.
 *
 * Memory model: spin's is sequentially consistent, and so is each of these
 * accesses.
 *
 * Checked: nobody has a context that somebody else has; nobody sleeps for
 * ever.
 */

#define BUG_COUNT_LATE 1        /* a waiter looks, then counts itself */
#define BUG_RETURN_LOOKS_FIRST 2        /* at nr_waiters, then free |= bit */
#define BUG_WAKE_ONE 3          /* although a certain context is wanted: where
                                   there is but one, that is too few */
#define BUG_SIGNAL_UNLOCKED 4
#define BUG_BORROW_WITHOUT_CAS 5
#define BUG_FORGET_WAKE 6

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

byte nr_contexts;
byte free;                      /* a bit a context */
byte wanted;
byte nr_waiters;
bool mutex;
bool sleeps[5];                 /* in pthread_cond_wait */
byte nr_users[2];               /* of a context */

#define LOWEST(bits) ((bits) & 1 -> 1 : 2)
#define INDEX(mine) ((mine) - 1)

/* `mine`: what was borrowed, or 0. */
inline try_borrow ()
{
  bits = free;
  do
  :: true ->
     usable = wanted;
     usable = bits & ~usable;
     if
     :: usable == 0 -> mine = 0; break
     :: else
     fi;
     atomic {
       if
       :: bits == free || bug == BUG_BORROW_WITHOUT_CAS ->
          mine = LOWEST (usable); free = bits & ~mine; break
       :: else -> bits = free
       fi
     }
  od;
  bits = 0; usable = 0
}

inline try_borrow_index (index)
{
  atomic { mine = free & (1 << index); free = free & ~(1 << index) }
}

inline lock () { atomic { !mutex -> mutex = true } }
inline unlock () { mutex = false }

inline wait ()
{
  atomic { mutex = false; sleeps[me] = true };
  atomic { !sleeps[me] && !mutex -> mutex = true }
}

inline signal ()
{
  if
  :: atomic { sleeps[0] -> sleeps[0] = false }
  :: atomic { sleeps[1] -> sleeps[1] = false }
  :: atomic { sleeps[2] -> sleeps[2] = false }
  :: atomic { sleeps[3] -> sleeps[3] = false }
  :: atomic { sleeps[4] -> sleeps[4] = false }
  :: atomic { !sleeps[0] && !sleeps[1] && !sleeps[2] && !sleeps[3] && !sleeps[4] -> skip }
  fi
}

inline broadcast ()
{
  atomic { sleeps[0] = false; sleeps[1] = false; sleeps[2] = false;
           sleeps[3] = false; sleeps[4] = false }
}

inline use ()
{
  atomic { nr_users[INDEX (mine)]++; assert (nr_users[INDEX (mine)] == 1) };
  nr_users[INDEX (mine)]--
}

inline give_back ()
{
  if
  :: bug == BUG_RETURN_LOOKS_FIRST -> any = nr_waiters > 0; free = free | mine
  :: else ->
     atomic { assert (!(free & mine)); free = free | mine };
     any = nr_waiters > 0
  fi;
  if
  :: any && bug != BUG_FORGET_WAKE ->
     if
     :: bug != BUG_SIGNAL_UNLOCKED -> lock ()
     :: else
     fi;
     if
     :: wanted != 0 && bug != BUG_WAKE_ONE -> broadcast ()
     :: else -> signal ()
     fi;
     if
     :: bug != BUG_SIGNAL_UNLOCKED -> unlock ()
     :: else
     fi
  :: else
  fi;
  mine = 0; any = false
}

proctype borrow (byte me)
{
  byte mine, bits, usable;
  bool any;

  try_borrow ();
  if
  :: mine == 0 ->
     lock ();
     if
     :: bug != BUG_COUNT_LATE -> nr_waiters++
     :: else
     fi;
     do
     :: true ->
        try_borrow ();
        if
        :: mine != 0 -> break
        :: else
        fi;
        if
        :: bug == BUG_COUNT_LATE -> nr_waiters++
        :: else
        fi;
        wait ();
        if
        :: bug == BUG_COUNT_LATE -> nr_waiters--
        :: else
        fi
     od;
     if
     :: bug != BUG_COUNT_LATE -> nr_waiters--
     :: else
     fi;
     unlock ()
  :: else
  fi;
  use ();
  give_back ()
}

inline borrow_index (index)
{
  wanted = 1 << index;
  lock ();
  nr_waiters++;
  do
  :: true ->
     try_borrow_index (index);
     if
     :: mine != 0 -> break
     :: else -> wait ()
     fi
  od;
  nr_waiters--;
  unlock ();
  wanted = 0
}

proctype set_codec (byte me)
{
  byte mine;
  bool any;

  borrow_index (0);
  use ();
  give_back ();
  if
  :: nr_contexts > 1 -> borrow_index (1); use (); give_back ()
  :: else
  fi
}

init {
  atomic {
    choose_bug ();
    if
    :: nr_contexts = 1; free = 1;
       run borrow (0); run borrow (1); run borrow (2)
    :: nr_contexts = 2; free = 3;
       run borrow (0); run borrow (1)
#ifdef DEEP
    :: nr_contexts = 2; free = 3;
       run borrow (0); run borrow (1); run borrow (2)
#endif
    fi;
    run set_codec (4)
  }
}
