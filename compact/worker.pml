/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The worker's sleep, as a model for spin; run by tests/check-models.sh.
 *
 * Stands for: compact_worker_step, begin_request, look, schedule_look,
 * look_is_due (compact/worker.c), run_worker, wait_for_news,
 * compact_worker_wake, compact_worker_stop (worker-thread.c) and
 * compact_worker_poke (worker.h); beside them threads that free objects
 * (pool_free, then block_drop's poke), that lower the limit
 * (store_set_limit), and that ask for a run (compact_worker_request).
 *
 * Left out: the reserve (refill.pml); what a look decides, but that it wants
 * another look after it has seen something new, and none after it has not;
 * runs and spare zspages, which only keep the thread awake; time: a wait that
 * is not for ever may end at any moment.
 *
 * Memory model: spin's is sequentially consistent.  The code's poke loads
 * `asleep` relaxed.  That is enough: a free takes the class's lock and pokes
 * after it, and a look sets `asleep`, then takes that lock; whichever had the
 * lock first happens before the other.  A lowered limit has no lock: there
 * `asleep` is read by an exchange (compact_worker_wake), sequentially
 * consistent as the store of the limit before it, the worker's exchange and
 * its load of the limit.
 *
 * Checked: when nobody moves any more, the worker has seen every free and
 * limit and has run what was asked for; told to stop, it ends.
 */

#define BUG_ONE_LOOK 1          /* asleep is set, and no look follows */
#define BUG_POKE_FIRST 2        /* then free */
#define BUG_RING_FIRST 3        /* then ask */
#define BUG_DRAIN_LATE 4        /* the eventfd is read after the step */
#define BUG_STOP_WITHOUT_RING 5
#define BUG_FORGET_ASLEEP 6     /* is never set */
#define BUG_LIMIT_WITHOUT_POKE 7
#define BUG_WAKE_WITHOUT_RING 8 /* asleep is cleared, that is all */

#ifdef DEEP                     /* see tests/check-models.sh */
#define NR_FREES 2              /* of each thread */
#else
#define NR_FREES 1
#endif

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

bool asleep, stopping, event;
byte frees, limit, asked;       /* how often there was something new */
byte seen_frees, seen_limit, done_asked;        /* the worker's */
byte nr_running = 4;

inline wake ()
{
  atomic { was = asleep; asleep = false };
  if
  :: was && bug != BUG_WAKE_WITHOUT_RING -> event = true
  :: else
  fi
}

inline poke ()
{
  if
  :: asleep -> wake ()
  :: else
  fi
}

proctype free_objects ()
{
  bool was;
  byte nr;

  do
  :: nr < NR_FREES ->
     if
     :: bug == BUG_POKE_FIRST -> poke (); frees++
     :: else -> frees++; poke ()
     fi;
     was = false;
     nr++
  :: else -> break
  od;
  nr_running--
}

proctype lower_limit ()
{
  bool was;

  limit++;
  if
  :: bug != BUG_LIMIT_WITHOUT_POKE -> wake ()
  :: else
  fi;
  nr_running--
}

proctype ask ()
{
  if
  :: bug == BUG_RING_FIRST -> event = true; asked++
  :: else -> asked++; event = true
  fi;
  nr_running--
}

inline look ()
{
  /* The classes, each under its lock; then the rest. */
  atomic { news = seen_frees != frees; seen_frees = frees };
  atomic { news = news || seen_limit != limit; seen_limit = limit };
  if
  :: news -> asleep = false; idle = false
  :: else ->
     atomic { was = asleep; asleep = bug != BUG_FORGET_ASLEEP };
     idle = was || bug == BUG_ONE_LOOK || bug == BUG_FORGET_ASLEEP
  fi;
  news = false; was = false
}

inline step ()
{
  if
  :: asked != done_asked -> done_asked = asked; asleep = false; idle = false
  :: else ->
     if
     :: !idle || !asleep -> look ()
     :: else
     fi
  fi
}

proctype work ()
{
  bool idle, news, was;        /* idle: no look is due by the clock */

  do
  :: stopping -> break
  :: else ->
     step ();
     if
     :: bug == BUG_DRAIN_LATE -> event = false
     :: else
     fi;
     if
     :: event -> event = (bug == BUG_DRAIN_LATE)
     :: !idle
     fi
  od
}

/* timeout: nobody else can move. */
proctype check ()
{
  bool was;

  nr_running == 0;
  timeout;
  assert (seen_frees == frees && seen_limit == limit && done_asked == asked);
  stopping = true;
  if
  :: bug != BUG_STOP_WITHOUT_RING -> event = true
  :: else
  fi
}

init {
  atomic {
    choose_bug ();
    run work (); run free_objects (); run free_objects ();
    run lower_limit (); run ask (); run check ()
  }
}
