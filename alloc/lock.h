/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Mutexes with a rank.  A thread takes locks in ascending rank only, and
 * holds at most one of each rank.  A build with
 * --enable-debug-checks keeps, a thread, the set of ranks held, and stops on
 * the first violation; other builds pay for a plain mutex.
 *
 * The whole list, outermost first (docs/LOCKING tells what each guards):
 */

#ifndef ZMEM_LOCK_H
#define ZMEM_LOCK_H

#include <pthread.h>
#include <stdbool.h>

enum lock_rank {
  LOCK_SETTINGS, /* one change of codec or limit at a time */
  LOCK_CONTEXT,  /* a borrowed codec context counts as held */
  LOCK_COMPACT,  /* the compactor's run, a slice at a time */
  LOCK_GROUP,    /* block group, striped */
  LOCK_BOUNCE,   /* the bounce slot of writes at the limit */
  LOCK_CLASS,    /* size class */
  LOCK_LEAF,     /* free zspages, runs of side tables */
  NR_LOCK_RANKS
};

struct lock {
  pthread_mutex_t mutex;
#ifdef ZMEM_DEBUG_CHECKS
  enum lock_rank rank;
#endif
};

#ifdef ZMEM_DEBUG_CHECKS
/* Note that this thread holds (or lets go of) a lock of this rank. */
extern void lock_rank_enter (enum lock_rank rank);
extern void lock_rank_leave (enum lock_rank rank);
extern bool lock_rank_held (enum lock_rank rank);
#else
static inline void
lock_rank_enter (enum lock_rank rank)
{
  (void) rank;
}
static inline void
lock_rank_leave (enum lock_rank rank)
{
  (void) rank;
}
#endif

static inline void
lock_init (struct lock *lock, enum lock_rank rank)
{
  pthread_mutex_init (&lock->mutex, NULL);
#ifdef ZMEM_DEBUG_CHECKS
  lock->rank = rank;
#else
  (void) rank;
#endif
}

static inline void
lock_destroy (struct lock *lock)
{
  pthread_mutex_destroy (&lock->mutex);
}

static inline void
lock_acquire (struct lock *lock)
{
#ifdef ZMEM_DEBUG_CHECKS
  lock_rank_enter (lock->rank);
#endif
  pthread_mutex_lock (&lock->mutex);
}

/* False, at once, where somebody holds it. */
static inline bool
lock_try_acquire (struct lock *lock)
{
  if (pthread_mutex_trylock (&lock->mutex) != 0)
    return false;
#ifdef ZMEM_DEBUG_CHECKS
  lock_rank_enter (lock->rank);
#endif
  return true;
}

static inline void
lock_release (struct lock *lock)
{
  pthread_mutex_unlock (&lock->mutex);
#ifdef ZMEM_DEBUG_CHECKS
  lock_rank_leave (lock->rank);
#endif
}

/* Does this thread hold a lock of this lock's rank?  Exact enough for an
 * assertion, since nobody holds two of one rank.
 */
#ifdef ZMEM_DEBUG_CHECKS
#define ASSERT_LOCKED(lock)                                                    \
  do {                                                                         \
    if (!lock_rank_held ((lock)->rank))                                        \
      __builtin_trap ();                                                       \
  } while (0)
#else
#define ASSERT_LOCKED(lock) ((void) (lock))
#endif

/* Hold the lock until the end of the enclosing scope. */
static inline void
lock_scope_end (struct lock **lock)
{
  lock_release (*lock);
}
#define LOCK_SCOPE_NAME2(line) lock_scope_##line
#define LOCK_SCOPE_NAME(line) LOCK_SCOPE_NAME2 (line)
#define LOCK_FOR_SCOPE(l)                                                      \
  __attribute__ ((cleanup (lock_scope_end))) struct lock *LOCK_SCOPE_NAME (    \
    __LINE__) = (l);                                                           \
  lock_acquire (LOCK_SCOPE_NAME (__LINE__))

#endif /* ZMEM_LOCK_H */
