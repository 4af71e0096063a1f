/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A thread of the plugin's own, beside those that nbdkit serves requests
 * with.
 *
 * Signals are nbdkit's business: the thread takes none.  Its stack is small
 * because a server that locks its memory (nbdkit --swap) makes all of every
 * stack resident, and the default one has 8 MiB.
 *
 * It works in slices, and makes way where others want the processor: a slice
 * in which it waited for longer than SERVICE_CONTENDED_NS was interrupted.
 */

#ifndef ZMEM_SERVICE_THREAD_H
#define ZMEM_SERVICE_THREAD_H

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifndef PTHREAD_STACK_MIN
#define PTHREAD_STACK_MIN 16384
#endif

/* On top of what the system itself needs of it. */
#define SERVICE_STACK_BYTES ((size_t) 256 << 10)

#define NS_PER_S UINT64_C (1000000000)
#define SERVICE_CONTENDED_NS (50 * UINT64_C (1000))

static inline uint64_t
clock_ns (clockid_t clock)
{
  struct timespec now;

  clock_gettime (clock, &now);
  return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

/* How long the calling thread was there, by the clock, without the processor.
 */
static inline uint64_t
service_thread_waited_ns (void)
{
  return clock_ns (CLOCK_MONOTONIC) - clock_ns (CLOCK_THREAD_CPUTIME_ID);
}

/* 0 or -errno.  `name`: 15 characters at most, as seen in top. */
static inline int
service_thread_start (pthread_t *thread, const char *name,
                      void *(*run) (void *), void *opaque)
{
  sigset_t all, before;
  pthread_attr_t attr;
  int r;

  r = pthread_attr_init (&attr);
  if (r != 0)
    return -r;
  /* Should the system refuse this size, its default does, too. */
  pthread_attr_setstacksize (&attr,
                             (size_t) PTHREAD_STACK_MIN + SERVICE_STACK_BYTES);

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  r = pthread_create (thread, &attr, run, opaque);
  pthread_sigmask (SIG_SETMASK, &before, NULL);

  pthread_attr_destroy (&attr);
  if (r == 0)
    pthread_setname_np (*thread, name);
  return -r;
}

#endif /* ZMEM_SERVICE_THREAD_H */
