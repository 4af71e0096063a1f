/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Preloaded into nbdkit it makes the Nth call of a family fail, as the
 * system would (tests/test-faults.sh):
 *
 *     ZMEM_FAULTS=FILE LD_PRELOAD=fault-preload.so nbdkit ... zmem ...
 *
 * FILE has a slot a family (fault-slots.h); it may be changed at any time.
 *
 * Counted are the plugin's calls alone, since nbdkit ends itself or aborts
 * where it has no memory.  Whose call it is, the return address says where it
 * lies in the plugin or in nbdkit.  Where it lies in a library (a stream of
 * libc's that grows, a context that libzstd makes), the stack is walked to
 * the first frame that lies in one of the two.
 *
 * What does not count: an eventfd that is written, which cannot fail, and
 * what has no result to fail with (free, munmap, close).
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unwind.h>

#include "fault-slots.h"

#define PLUGIN_NAME "nbdkit-zmem-plugin"
#define MAX_FRAMES 32

#define EXPORTED __attribute__ ((visibility ("default")))

/* The C library's own, which need no dlsym: that allocates. */
extern void *__libc_malloc (size_t bytes);
extern void *__libc_calloc (size_t nr, size_t bytes);
extern void *__libc_realloc (void *p, size_t bytes);
extern void *__libc_memalign (size_t alignment, size_t bytes);

struct range {
  uintptr_t start, end;
};

static struct fault_slot *slots;    /* NULL: nothing ever fails */
static struct range server, plugin; /* 0, 0: not there (yet) */
/* While this thread looks whose call it is. */
static __thread bool looking __attribute__ ((tls_model ("initial-exec")));

static inline bool
lies_in (const struct range *range, uintptr_t address)
{
  return address >= range->start && address < range->end;
}

/*--- Where nbdkit and the plugin are. ---*/

static struct range
range_of (const struct dl_phdr_info *info)
{
  struct range range = { UINTPTR_MAX, 0 };

  for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW (Phdr) *phdr = &info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + phdr->p_vaddr;

    if (phdr->p_type != PT_LOAD)
      continue;
    if (start < range.start)
      range.start = start;
    if (start + phdr->p_memsz > range.end)
      range.end = start + phdr->p_memsz;
  }
  return range;
}

static int
note_object (struct dl_phdr_info *info, size_t bytes, void *opaque)
{
  (void) bytes;
  (void) opaque;
  if (info->dlpi_name[0] == '\0' && server.end == 0)
    server = range_of (info); /* the program itself, which comes first */
  else if (strstr (info->dlpi_name, PLUGIN_NAME) != NULL)
    plugin = range_of (info);
  return 0;
}

static void __attribute__ ((constructor)) attach (void)
{
  const char *path = getenv ("ZMEM_FAULTS");
  void *p;
  int fd;

  if (path == NULL)
    return;
  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd == -1)
    return;
  p = mmap (NULL, FAULT_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close (fd);
  if (p == MAP_FAILED)
    return;
  dl_iterate_phdr (note_object, NULL);
  slots = p;
}

/*--- Whose call, and is it to fail? ---*/

struct walk {
  unsigned nr_frames;
  bool from_plugin;
};

static _Unwind_Reason_Code
look_at_frame (struct _Unwind_Context *context, void *opaque)
{
  struct walk *walk = opaque;
  const uintptr_t address = _Unwind_GetIP (context);

  walk->from_plugin = lies_in (&plugin, address);
  return walk->from_plugin || lies_in (&server, address) ||
             ++walk->nr_frames == MAX_FRAMES
           ? _URC_END_OF_STACK
           : _URC_NO_REASON;
}

static bool
is_from_plugin (const void *caller)
{
  struct walk walk = { 0 };

  if (lies_in (&plugin, (uintptr_t) caller))
    return true;
  if (plugin.end == 0 || looking || lies_in (&server, (uintptr_t) caller))
    return false;
  looking = true;
  _Unwind_Backtrace (look_at_frame, &walk);
  looking = false;
  return walk.from_plugin;
}

/* True, and errno: this call fails. */
static bool
fails (enum fault_family family, const char *name, const void *caller,
       int error)
{
  struct fault_slot *slot;
  uint64_t nth, n, nr_in_row;

  if (slots == NULL || !is_from_plugin (caller))
    return false;
  slot = &slots[family];
  n = atomic_fetch_add (&slot->nr_calls, 1) + 1;
  nth = atomic_load (&slot->nth);
  nr_in_row = atomic_load (&slot->nr_in_row);
  if (nth == 0 || n < nth || n >= nth + (nr_in_row > 0 ? nr_in_row : 1))
    return false;
  strncpy (slot->name, name, sizeof slot->name - 1);
  atomic_fetch_add (&slot->nr_failed, 1);
  errno = error;
  return true;
}

#define FAILS(family, error)                                                   \
  fails (family, __func__, __builtin_return_address (0), error)

/* The next definition of the function that this one stands before. */
#define NEXT(function)                                                         \
  ({                                                                           \
    static __typeof__ (&(function)) next_;                                     \
    if (next_ == NULL)                                                         \
      *(void **) &next_ = dlsym (RTLD_NEXT, #function);                        \
    next_;                                                                     \
  })

EXPORTED void *
dlopen (const char *path, int mode)
{
  void *handle = NEXT (dlopen) (path, mode);

  if (slots != NULL && handle != NULL && plugin.end == 0)
    dl_iterate_phdr (note_object, NULL);
  return handle;
}

/*--- Memory. ---*/

EXPORTED void *
malloc (size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM) ? NULL : __libc_malloc (bytes);
}

EXPORTED void *
calloc (size_t nr, size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM) ? NULL : __libc_calloc (nr, bytes);
}

EXPORTED void *
realloc (void *p, size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM) ? NULL : __libc_realloc (p, bytes);
}

EXPORTED void *
aligned_alloc (size_t alignment, size_t bytes)
{
  return FAILS (FAULT_MALLOC, ENOMEM) ? NULL
                                      : __libc_memalign (alignment, bytes);
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

EXPORTED int
pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                void *(*run) (void *), void *opaque)
{
  return FAILS (FAULT_THREAD, EAGAIN)
           ? EAGAIN
           : NEXT (pthread_create) (thread, attr, run, opaque);
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
