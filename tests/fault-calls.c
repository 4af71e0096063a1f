/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The functions that can be made to fail, and how each does; see
 * fault-calls.h.  They stand before the C library's, in a library that is
 * preloaded (fault-preload.c) or in a program itself (fail-nth.c), where the C
 * library's own allocations come by here as well.
 *
 * What is not here: what has no result to fail with (free, munmap, close),
 * and an eventfd that is written, which cannot fail.
 */

/* The headers' own definitions of some of these, for FORTIFY, are in the way
 * of ours (clang).
 */
#undef _FORTIFY_SOURCE

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault-calls.h"
#include "test-util.h"

#if FAULT_CALLS

#define FAILS(family, error)                                                   \
  fault_fails (family, __func__, __builtin_return_address (0), error)

/* The allocator itself, which needs no dlsym: that allocates. */
#if TEST_SANITIZED
#define REAL(function) __interceptor_##function
#else
#define REAL(function) __libc_##function
#define __libc_aligned_alloc __libc_memalign
#endif
extern void *REAL (malloc) (size_t bytes);
extern void *REAL (calloc) (size_t nr, size_t bytes);
extern void *REAL (realloc) (void *p, size_t bytes);
extern void *REAL (aligned_alloc) (size_t alignment, size_t bytes);
extern void REAL (free) (void *p);

/*--- Memory. ---*/

static _Atomic int64_t nr_allocations;

int64_t
fault_nr_allocations (void)
{
  return atomic_load (&nr_allocations);
}

static inline void *
note_allocated (void *p)
{
  if (p != NULL)
    atomic_fetch_add (&nr_allocations, 1);
  return p;
}

EXPORTED void *
malloc (size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM) ? NULL
                                      : note_allocated (REAL (malloc) (bytes));
}

EXPORTED void *
calloc (size_t nr, size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM)
           ? NULL
           : note_allocated (REAL (calloc) (nr, bytes));
}

EXPORTED void *
realloc (void *p, size_t bytes)
{
  void *new;

  if (FAILS (FAULT_MALLOC, ENOMEM))
    return NULL;
  new = REAL (realloc) (p, bytes);
  if (p == NULL)
    return note_allocated (new);
  if (new == NULL && bytes == 0)
    atomic_fetch_sub (&nr_allocations, 1); /* it was freed */
  return new;
}

EXPORTED void *
aligned_alloc (size_t alignment, size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM)
           ? NULL
           : note_allocated (REAL (aligned_alloc) (alignment, bytes));
}

EXPORTED void
free (void *p)
{
  if (p != NULL)
    atomic_fetch_sub (&nr_allocations, 1);
  REAL (free) (p);
}

EXPORTED void *
mmap (void *addr, size_t bytes, int protection, int flags, int fd, off_t offset)
{
  return FAILS (FAULT_MMAP, ENOMEM)
           ? MAP_FAILED
           : NEXT (mmap) (addr, bytes, protection, flags, fd, offset);
}

EXPORTED int
mprotect (void *addr, size_t bytes, int protection)
{
  return FAILS (FAULT_MMAP, ENOMEM) ? -1
                                    : NEXT (mprotect) (addr, bytes, protection);
}

EXPORTED int
madvise (void *addr, size_t bytes, int advice)
{
  return FAILS (FAULT_MADVISE, ENOMEM) ? -1
                                       : NEXT (madvise) (addr, bytes, advice);
}

EXPORTED int
mlock (const void *addr, size_t bytes)
{
  return FAILS (FAULT_LOCK, ENOMEM) ? -1 : NEXT (mlock) (addr, bytes);
}

EXPORTED int
mlockall (int flags)
{
  return FAILS (FAULT_LOCK, ENOMEM) ? -1 : NEXT (mlockall) (flags);
}

EXPORTED int
setrlimit (__rlimit_resource_t resource, const struct rlimit *limit)
{
  return FAILS (FAULT_LOCK, EPERM) ? -1 : NEXT (setrlimit) (resource, limit);
}

EXPORTED int
getrlimit (__rlimit_resource_t resource, struct rlimit *limit)
{
  return FAILS (FAULT_LOCK, EINVAL) ? -1 : NEXT (getrlimit) (resource, limit);
}

EXPORTED int
prctl (int option, ...)
{
  unsigned long args[4];
  va_list list;

  va_start (list, option);
  for (unsigned i = 0; i < 4; ++i)
    args[i] = va_arg (list, unsigned long);
  va_end (list);
  return FAILS (FAULT_LOCK, EPERM)
           ? -1
           : NEXT (prctl) (option, args[0], args[1], args[2], args[3]);
}

/*--- Threads. ---*/

#if TEST_SANITIZED
extern __typeof__ (pthread_create) __interceptor_pthread_create;
#define REAL_THREAD __interceptor_pthread_create
#else
#define REAL_THREAD NEXT (pthread_create)
#endif

EXPORTED int
pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                void *(*run) (void *), void *opaque)
{
  return FAILS (FAULT_THREAD, EAGAIN) ? EAGAIN
                                      : REAL_THREAD (thread, attr, run, opaque);
}

/*--- Sockets, and what is waited for beside them. ---*/

EXPORTED int
socket (int domain, int type, int protocol)
{
  return FAILS (FAULT_SOCKET, EMFILE) ? -1
                                      : NEXT (socket) (domain, type, protocol);
}

EXPORTED int
bind (int fd, const struct sockaddr *addr, socklen_t bytes)
{
  return FAILS (FAULT_SOCKET, ENOMEM) ? -1 : NEXT (bind) (fd, addr, bytes);
}

EXPORTED int
listen (int fd, int backlog)
{
  return FAILS (FAULT_SOCKET, ENOBUFS) ? -1 : NEXT (listen) (fd, backlog);
}

EXPORTED int
connect (int fd, const struct sockaddr *addr, socklen_t bytes)
{
  return FAILS (FAULT_SOCKET, ENOMEM) ? -1 : NEXT (connect) (fd, addr, bytes);
}

EXPORTED int
accept4 (int fd, struct sockaddr *addr, socklen_t *bytes, int flags)
{
  return FAILS (FAULT_SOCKET, EMFILE) ? -1
                                      : NEXT (accept4) (fd, addr, bytes, flags);
}

EXPORTED int
getsockopt (int fd, int level, int name, void *value, socklen_t *bytes)
{
  return FAILS (FAULT_SOCKET, ENOBUFS)
           ? -1
           : NEXT (getsockopt) (fd, level, name, value, bytes);
}

EXPORTED ssize_t
recv (int fd, void *buf, size_t bytes, int flags)
{
  return FAILS (FAULT_SOCKET, ENOMEM) ? -1
                                      : NEXT (recv) (fd, buf, bytes, flags);
}

EXPORTED ssize_t
send (int fd, const void *buf, size_t bytes, int flags)
{
  return FAILS (FAULT_SOCKET, ENOBUFS) ? -1
                                       : NEXT (send) (fd, buf, bytes, flags);
}

EXPORTED int
eventfd (unsigned count, int flags)
{
  return FAILS (FAULT_SOCKET, EMFILE) ? -1 : NEXT (eventfd) (count, flags);
}

EXPORTED int
poll (struct pollfd *fds, nfds_t nr, int timeout_ms)
{
  return FAILS (FAULT_SOCKET, ENOMEM) ? -1 : NEXT (poll) (fds, nr, timeout_ms);
}

EXPORTED int
ppoll (struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
       const sigset_t *mask)
{
  return FAILS (FAULT_SOCKET, ENOMEM) ? -1
                                      : NEXT (ppoll) (fds, nr, timeout, mask);
}

/*--- Files. ---*/

EXPORTED int
open (const char *path, int flags, ...)
{
  mode_t mode = 0;
  va_list list;

  if (__OPEN_NEEDS_MODE (flags)) {
    va_start (list, flags);
    mode = va_arg (list, mode_t);
    va_end (list);
  }
  return FAILS (FAULT_FILE, EMFILE) ? -1 : NEXT (open) (path, flags, mode);
}

EXPORTED FILE *
fopen (const char *path, const char *mode)
{
  return FAILS (FAULT_FILE, EMFILE) ? NULL : NEXT (fopen) (path, mode);
}

EXPORTED ssize_t
write (int fd, const void *buf, size_t bytes)
{
  struct stat st;

  return fstat (fd, &st) == 0 && S_ISREG (st.st_mode) &&
             FAILS (FAULT_FILE, ENOSPC)
           ? -1
           : NEXT (write) (fd, buf, bytes);
}

EXPORTED int
rename (const char *from, const char *to)
{
  return FAILS (FAULT_FILE, ENOSPC) ? -1 : NEXT (rename) (from, to);
}

EXPORTED int
unlink (const char *path)
{
  return FAILS (FAULT_FILE, EIO) ? -1 : NEXT (unlink) (path);
}

EXPORTED int
lstat (const char *path, struct stat *st)
{
  return FAILS (FAULT_FILE, ENOMEM) ? -1 : NEXT (lstat) (path, st);
}

EXPORTED int
fchmod (int fd, mode_t mode)
{
  return FAILS (FAULT_FILE, EIO) ? -1 : NEXT (fchmod) (fd, mode);
}

EXPORTED int
flock (int fd, int operation)
{
  return FAILS (FAULT_FILE, ENOLCK) ? -1 : NEXT (flock) (fd, operation);
}

EXPORTED int
access (const char *path, int mode)
{
  return FAILS (FAULT_FILE, ENOMEM) ? -1 : NEXT (access) (path, mode);
}

EXPORTED char *
getcwd (char *buf, size_t bytes)
{
  return FAILS (FAULT_FILE, ENOMEM) ? NULL : NEXT (getcwd) (buf, bytes);
}

EXPORTED int
fallocate (int fd, int mode, off_t offset, off_t bytes)
{
  return FAILS (FAULT_FILE, ENOSPC)
           ? -1
           : NEXT (fallocate) (fd, mode, offset, bytes);
}

EXPORTED int
ftruncate (int fd, off_t bytes)
{
  return FAILS (FAULT_FILE, ENOSPC) ? -1 : NEXT (ftruncate) (fd, bytes);
}

#else

int64_t
fault_nr_allocations (void)
{
  return 0;
}

#endif
