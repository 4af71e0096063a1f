/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * held and the limit, as a model for spin; run by tests/check-models.sh.
 *
 * Stands for: pages_charge, pages_uncharge and pages_set_limit
 * (alloc/pages.c), each atomic access a step of its own.
 *
 * Left out: the memory itself; the count of the most that was held; that the
 * generation in held wraps around after 65,536 changes of the limit.
 *
 * Memory model: spin's is sequentially consistent, and so is each of these
 * accesses.
 *
 * Checked: from the moment at which the limit has been set, held never rises
 * while that takes it above the limit; nothing is lost of what is charged and
 * uncharged.
 *
 * The first version had no generation: a charge that had looked at the limit
 * before it was lowered could be made after that, and pass it.
 * (BUG_NO_GENERATION; tests/test-pages.c has it in C.)
 */

#define BUG_NO_GENERATION 1
#define BUG_GENERATION_FIRST 2  /* it moves on before the limit changes */
#define BUG_LIMIT_FIRST 3       /* a charge looks at the limit, then at held */
#define BUG_NO_CAS 4            /* held is stored */
#define BUG_STALE_LIMIT 5       /* a second try does not look at it again */

#ifdef DEEP                     /* see tests/check-models.sh */
#define NR_CHARGERS 3
#else
#define NR_CHARGERS 2
#endif
#define NR_CHARGES 2

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

byte held, generation;          /* one word */
byte limit = 6;
byte sum;                       /* of what is charged */
byte set_limit = 6;             /* the limit of the last change that is done */
byte nr_running = NR_CHARGERS + 1;

inline compare_and_swap ()
{
  atomic {
    if
    :: (held == seen && generation == seen_generation) || bug == BUG_NO_CAS ->
       assert (seen + bytes <= set_limit || held + bytes <= set_limit);
       held = seen + bytes; sum = sum + bytes; done = true
    :: else
    fi;
    seen = held; seen_generation = generation
  }
}

proctype charge (byte bytes)
{
  byte seen, seen_generation, seen_limit, nr;
  bool done;

  do
  :: nr < NR_CHARGES ->
     done = false;
     if
     :: bug == BUG_LIMIT_FIRST -> seen_limit = limit
     :: else
     fi;
     atomic { seen = held; seen_generation = generation };
     if
     :: bug == BUG_STALE_LIMIT -> seen_limit = limit
     :: else
     fi;
     do
     :: !done ->
        if
        :: bug != BUG_LIMIT_FIRST && bug != BUG_STALE_LIMIT ->
           seen_limit = limit
        :: else
        fi;
        if
        :: seen + bytes > seen_limit -> break   /* ENOSPC */
        :: else -> compare_and_swap ()
        fi
     :: else ->
        atomic { held = held - bytes; sum = sum - bytes };
        break
     od;
     nr++
  :: else -> break
  od;
  nr_running--
}

inline change_limit (bytes)
{
  if
  :: bug == BUG_GENERATION_FIRST ->
     generation++; atomic { limit = bytes; set_limit = bytes }
  :: bug == BUG_NO_GENERATION -> atomic { limit = bytes; set_limit = bytes }
  :: else ->
     limit = bytes;
     atomic { generation++; set_limit = bytes }
  fi
}

proctype set ()
{
  change_limit (3);
  atomic { set_limit = 6; limit = 6 };  /* raised: nobody minds when */
  change_limit (4);
  nr_running--
}

proctype check ()
{
  nr_running == 0;
  assert (held == 0 && sum == 0)
}

init {
  atomic {
    choose_bug ();
    run charge (1); run charge (3);
#ifdef DEEP
    run charge (2);
#endif
    run set (); run check ()
  }
}
