/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The worker's thread: it makes the steps of worker.c, and in between waits
 * in poll, for the time that the step asked for, for whoever wakes it, and
 * for the system's memory pressure.
 *
 * Between slices the thread lets go of the processor for a moment, always:
 * the compactor's lock is not a fair one, and a writer that waits for it
 * needs longer to wake up than this thread needs to take it again.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "worker-private.h"

/* Emptied zspages that wait for the worker, 256 MiB: writers and trims leave
 * it so many before they purge themselves.
 */
#define WORKER_SPARE_MAX 1024
#define BREATH_NS (20 * UINT64_C (1000))

/* Tell of 150 ms in 2 s in which some task waited for memory. */
static const char pressure_trigger[] = "some 150000 2000000";

/* A descriptor, or -1: then the system tells nothing. */
static int
open_pressure (const char *path)
{
  int fd;

  if (path == NULL)
    return -1;
  fd = open (path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd == -1)
    return -1;
  if (write (fd, pressure_trigger, sizeof pressure_trigger) !=
      (ssize_t) sizeof pressure_trigger) {
    close (fd);
    return -1;
  }
  return fd;
}

int
compact_worker_init (struct compact_worker *worker, struct compactor *compactor,
                     const struct worker_settings *settings,
                     void (*facts) (void *opaque, struct worker_facts *ret),
                     void *opaque)
{
  memset (worker, 0, sizeof *worker);
  worker->pressure_fd = -1;
  worker->event_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (worker->event_fd == -1)
    return -errno;
  worker->refill_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (worker->refill_fd == -1) {
    const int err = errno;

    close (worker->event_fd);
    return -err;
  }
  worker->pressure_fd = open_pressure (settings->pressure_path);
  worker->compactor = compactor;
  worker->facts = facts;
  worker->opaque = opaque;
  worker->settings = *settings;
  worker->settings.pressure_path = NULL; /* was borrowed */
  worker->next_class_idx = -1;
  lock_init (&worker->request_lock, LOCK_LEAF);
  return 0;
}

void
compact_worker_destroy (struct compact_worker *worker)
{
  compact_worker_stop (worker);
  lock_destroy (&worker->request_lock);
  close (worker->event_fd);
  close (worker->refill_fd);
  if (worker->pressure_fd != -1)
    close (worker->pressure_fd);
}

static void
ring (int event_fd)
{
  const uint64_t one = 1;
  ssize_t r;

  do
    r = write (event_fd, &one, sizeof one);
  while (r == -1 && errno == EINTR);
  /* EAGAIN: it has been rung 2^64 times, and is heard. */
}

static void
hear (int event_fd)
{
  uint64_t rung;

  while (read (event_fd, &rung, sizeof rung) == -1 && errno == EINTR)
    ;
}

void
compact_worker_ring (struct compact_worker *worker)
{
  ring (worker->event_fd);
}

void
compact_worker_wake (struct compact_worker *worker)
{
  if (atomic_exchange (&worker->asleep, false))
    compact_worker_ring (worker);
}

void
compact_worker_ask_refill (struct compact_worker *worker)
{
  if (!atomic_load (&worker->refill_asked) &&
      !atomic_exchange (&worker->refill_asked, true))
    ring (worker->refill_fd);
}

/* True: it was the time, or somebody rang for a step.  False: for a refill
 * alone, and that was made.
 */
static bool
wait_or_refill (struct compact_worker *worker, uint64_t wait_ns)
{
  const struct timespec timeout = {
    .tv_sec = (time_t) (wait_ns / NS_PER_S),
    .tv_nsec = (long) (wait_ns % NS_PER_S),
  };
  struct pollfd fds[] = {
    { .fd = worker->event_fd, .events = POLLIN },
    { .fd = worker->pressure_fd, .events = POLLPRI },
    { .fd = worker->refill_fd, .events = POLLIN },
  };

  if (ppoll (fds, 3, wait_ns == NEVER ? NULL : &timeout, NULL) <= 0)
    return true;
  if (fds[0].revents != 0)
    hear (worker->event_fd);
  if (fds[2].revents != 0)
    hear (worker->refill_fd);
  if ((fds[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
    close (worker->pressure_fd); /* its cgroup has gone */
    worker->pressure_fd = -1;
  }
  else if ((fds[1].revents & POLLPRI) != 0)
    worker->pressure = true;
  if (fds[0].revents != 0 || fds[1].revents != 0)
    return true;
  /* A step knows when to try again. */
  return compact_worker_refill (worker) < 0;
}

static void
wait_for_news (struct compact_worker *worker, uint64_t wait_ns)
{
  uint64_t (*const now_ns) (void) = worker->compactor->now_ns;
  const uint64_t until_ns = wait_ns == NEVER ? NEVER : now_ns () + wait_ns;

  while (!wait_or_refill (worker, wait_ns)) {
    const uint64_t now = now_ns ();

    if (now >= until_ns)
      return;
    wait_ns = until_ns == NEVER ? NEVER : until_ns - now;
  }
}

static void *
run_worker (void *opaque)
{
  struct compact_worker *worker = opaque;
  bool contended = false;

  /* What poll may be late by; 50 us otherwise, too much for a breath. */
  prctl (PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
  while (!atomic_load (&worker->stopping)) {
    const uint64_t before = service_thread_waited_ns ();
    uint64_t wait_ns =
      compact_worker_step (worker, worker->compactor->now_ns (), contended);

    /* After a pause it is to be found out again. */
    contended = wait_ns == 0 &&
                service_thread_waited_ns () - before > SERVICE_CONTENDED_NS;
    if (wait_ns < BREATH_NS)
      wait_ns = BREATH_NS;
    wait_for_news (worker, wait_ns);
  }
  return NULL;
}

int
compact_worker_start (struct compact_worker *worker)
{
  int r;

  atomic_store (&worker->stopping, false);
  compact_worker_look_at (worker, 0);
  pool_set_spare_max (worker->compactor->pool, WORKER_SPARE_MAX);
  r =
    service_thread_start (&worker->thread, "zmem-compact", run_worker, worker);
  if (r < 0) {
    pool_set_spare_max (worker->compactor->pool, 0);
    return r;
  }
  LOCK_FOR_SCOPE (&worker->request_lock);
  worker->started = true;
  return 0;
}

void
compact_worker_stop (struct compact_worker *worker)
{
  bool started;

  lock_acquire (&worker->request_lock);
  started = worker->started;
  worker->started = false;
  lock_release (&worker->request_lock);
  if (started) {
    atomic_store (&worker->stopping, true);
    compact_worker_ring (worker);
    pthread_join (worker->thread, NULL);
  }
  compact_worker_end_runs (worker);
  /* Nobody would wait for a poke. */
  atomic_store (&worker->asleep, false);
  pool_set_spare_max (worker->compactor->pool, 0);
  pool_purge_spare (worker->compactor->pool, 0);
}
