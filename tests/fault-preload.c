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
 * The functions themselves are in fault-calls.c.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include "fault-calls.h"
#include "fault-slots.h"

#define PLUGIN_NAME "nbdkit-zmem-plugin"
#define MAX_FRAMES 32

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

bool
fault_fails (enum fault_family family, const char *name, const void *caller,
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

EXPORTED void *
dlopen (const char *path, int mode)
{
  void *handle = NEXT (dlopen) (path, mode);

  if (slots != NULL && handle != NULL && plugin.end == 0)
    dl_iterate_phdr (note_object, NULL);
  return handle;
}
