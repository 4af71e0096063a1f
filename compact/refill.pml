/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Who takes of the reserve, and the worker that fills it up, as a model for
 * spin; run by tests/check-models.sh.
 *
 * Stands for: compact_worker_refill (compact/worker.c), wait_or_refill,
 * compact_worker_ask_refill (worker-thread.c), pool_refill (alloc/reserve.c),
 * class_ask_below_half_locked (alloc/pool-private.h) and refill_soon
 * (store/block.c); beside them compaction, which takes in the worker's own
 * step.
 *
 * Left out: how much is taken; where pages come from.  A refill may fail a
 * few times, wherever it is.  After a failure there is a step sometime, else
 * none: asleep, the worker hears of a refill by its eventfd alone.
 *
 * Memory model: spin's is sequentially consistent, and so are the code's
 * accesses of refill_asked, the store of wants_refill and the worker's load
 * of it.  Whether it is set already is looked at relaxed, under the lock of
 * the class or of the list that was taken of.  pool_refill clears it before
 * it takes that lock: whoever has the lock later sees it cleared, and what
 * was taken by whoever had it earlier the refill sees.
 *
 * Checked: when nobody moves any more, nothing is lacking.
 */

#define BUG_CLEAR_LATE 1        /* refill_asked, after the refill */
#define BUG_LOOK_ONCE 2         /* not again when a retry has come true */
#define BUG_ASK_FIRST 3         /* then take */
#define BUG_WANTS_LATE 4        /* wants_refill is cleared after the refill */
#define BUG_HEAR_LATE 5         /* the eventfd is read after the refill */
#define BUG_STAYS_ASKED 6       /* after a retry that came true */
#define BUG_NO_LAST_REFILL 7    /* after compaction, at the end of a step */

#ifdef DEEP                     /* see tests/check-models.sh */
#define NR_TAKES 2              /* of each thread */
#else
#define NR_TAKES 1
#endif
#define NR_FAILURES 2
#define NR_STEPS 2
#define NR_CLASSES 2

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

bool lacks[NR_CLASSES];
bool wants, asked, event, failed;
byte failures = NR_FAILURES, steps = NR_STEPS;
byte nr_running = 2;

inline ask_refill ()
{
  if
  :: !asked ->
     atomic { was = asked; asked = true };
     if
     :: !was -> event = true
     :: else
     fi
  :: else
  fi;
  was = false
}

inline refill_soon ()
{
  if
  :: wants -> ask_refill ()
  :: else
  fi
}

/* Under the class's lock. */
inline take (class)
{
  atomic {
    lacks[class] = true;
    wants = true
  }
}

proctype take_and_ask ()
{
  bool was;
  byte nr, class;

  do
  :: nr < NR_TAKES ->
     if
     :: class = 0
     :: class = 1
     fi;
     if
     :: bug == BUG_ASK_FIRST -> refill_soon (); take (class)
     :: else -> take (class); refill_soon ()
     fi;
     nr++
  :: else -> break
  od;
  nr_running--
}

inline fill_up ()
{
  failed = false;
  if
  :: bug != BUG_WANTS_LATE -> wants = false
  :: else
  fi;
  class = 0;
  do
  :: class < NR_CLASSES && !failed ->
     if
     :: atomic { lacks[class] && failures > 0 -> failures--; failed = true }
     :: lacks[class] = false
     fi;
     class++
  :: else -> break
  od;
  class = 0;
  if
  :: bug == BUG_WANTS_LATE -> wants = false
  :: else
  fi
}

inline refill ()
{
  retry = failed;
  if
  :: !retry && bug != BUG_CLEAR_LATE -> asked = false
  :: else
  fi;
  if
  :: retry || wants ->
     fill_up ();
     if
     :: failed -> asked = true
     :: !failed && retry ->
        if
        :: bug != BUG_STAYS_ASKED -> asked = false
        :: else
        fi;
        if
        :: bug != BUG_LOOK_ONCE -> refill_soon ()
        :: else
        fi
     :: !failed && !retry ->
        if
        :: bug == BUG_CLEAR_LATE -> asked = false
        :: else
        fi
     fi
  :: else
  fi;
  retry = false
}

inline step ()
{
  if
  :: steps > 0 -> steps--; take (0)      /* compaction does */
  :: true
  fi;
  if
  :: bug != BUG_NO_LAST_REFILL || failed -> refill ()
  :: else
  fi
}

proctype work ()
{
  bool was, retry;
  byte class;

end:
  do
  :: event ->
     if
     :: bug == BUG_HEAR_LATE -> refill (); event = false
     :: else -> event = false; refill ()
     fi
  :: steps > 0 -> step ()
  :: failed -> step ()
  od
}

/* timeout: nobody else can move. */
proctype check ()
{
  nr_running == 0;
  timeout;
  assert (!lacks[0] && !lacks[1])
}

init {
  atomic {
    choose_bug ();
    run work (); run take_and_ask (); run take_and_ask (); run check ()
  }
}
