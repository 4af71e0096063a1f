/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The plugin: nbdkit's callbacks, and the life of the one disk.
 *
 *   load             options at their defaults
 *   config           one option (options.c)
 *   config_complete  options together
 *   get_ready        all that can fail, fails here: limit chosen, address
 *                    space reserved, sockets bound, locking tried
 *   ---- nbdkit drops its rights, forks, changes directory ----
 *   after_fork       memory made writable and locked, threads started
 *   cleanup          threads stopped; runs only if get_ready did
 *   unload           the rest; always runs, after --help as well
 *
 * A connection's handle is the disk, or one snapshot of the statistics.
 *
 * Below here functions return -errno and print nothing; what they return is
 * said once, here.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control.h"
#include "hang-up.h"
#include "memlock.h"
#include "options.h"
#include "requests.h"
#include "startup.h"
#include "stats-output.h"
#include "statsfile.h"
#include "store.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define BLOCK_SIZE_MAX_BYTES (UINT32_C (64) << 20)

/* A full disk would otherwise write a line for every write. */
#define FULL_REPORT_SECONDS 60

#define DISK_DESCRIPTION "compressed RAM disk"
#define STATS_DESCRIPTION "statistics of the disk, as text, at this moment"

static struct options options;

/* The disk, from get_ready to unload. */
static struct store *store;

/* What get_ready has prepared for after_fork and cleanup. */
static bool control_bound, statsfile_prepared;
static bool worker_started;

struct handle {
  bool readonly;
  char *stats; /* owned; NULL: this is the disk */
  size_t stats_bytes;
};

static int fail (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));

/* Report an error of the start.  Returns -1, for the caller to return. */
static int
fail (const char *format, ...)
{
  char sentence[OPTIONS_ERROR_BYTES + 128];
  va_list args;

  va_start (args, format);
  vsnprintf (sentence, sizeof sentence, format, args);
  va_end (args);
  nbdkit_error ("zmem: %s", sentence);
  return -1;
}

/*----- start -----*/

static void
zmem_load (void)
{
  options_init (&options);
}

static int
zmem_config (const char *key, const char *value)
{
  char error[OPTIONS_ERROR_BYTES];

  if (options_set (&options, key, value, error, sizeof error) < 0)
    return fail ("%s", error);
  return 0;
}

static int
zmem_config_complete (void)
{
  char error[OPTIONS_ERROR_BYTES];

  if (options_check (&options, error, sizeof error) < 0)
    return fail ("%s", error);
  return 0;
}

/* One thread a connection, or several: nbdkit asks before get_ready. */
static int
zmem_thread_model (void)
{
  return options.parallel == PARALLEL_YES ||
             (options.parallel == PARALLEL_AUTO && hang_up_is_survived ())
           ? THREAD_MODEL
           : NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS;
}

static void
zmem_dump_plugin (void)
{
  const char *comma = "";
  unsigned id;

  printf ("zmem_version=%s\n", PACKAGE_VERSION);
  printf ("zmem_codecs=");
  for (id = 0; id < MAX_CODECS; ++id)
    if (codec_table[id] != NULL && codec_table[id]->chosen) {
      printf ("%s%s", comma, codec_table[id]->name);
      comma = ",";
    }
  printf ("\n");
  for (id = 0; id < MAX_CODECS; ++id)
    if (codec_table[id] != NULL && codec_table[id]->library_version != NULL)
      printf ("zmem_%s_version=%s\n", codec_table[id]->name,
              codec_table[id]->library_version ());
  printf ("zmem_block_size=%zu\n", BLOCK_BYTES);
  printf ("zmem_max_size=%" PRIu64 "\n", STORE_MAX_BYTES);
}

static int
zmem_get_ready (void)
{
  char error[OPTIONS_ERROR_BYTES], summary[STARTUP_SUMMARY_BYTES];

  if (startup_create_store (&options, &store, summary, sizeof summary, error,
                            sizeof error) < 0)
    return fail ("%s", error);

  if (options.mlock && memlock_prepare (error, sizeof error) < 0)
    return fail ("mlock=yes: %s", error);

  if (options.statsfile != NULL) {
    if (statsfile_prepare (options.statsfile, options.stats_interval_seconds,
                           error, sizeof error) < 0)
      return fail ("statsfile=%s", error);
    statsfile_prepared = true;
  }

  /* Last, since it leaves a socket behind. */
  if (options.control != NULL) {
    if (control_bind (options.control, error, sizeof error) < 0)
      return fail ("control=%s", error);
    control_bound = true;
  }

  /* Always said: the limit is zmem's choice unless the user made one. */
  fprintf (stderr, "nbdkit: zmem: %s%s\n", summary,
           options.mlock ? ", locked in memory" : "");
  if (options.parallel == PARALLEL_YES && !hang_up_is_survived ())
    fprintf (stderr,
             "nbdkit: zmem: parallel=yes: a client that hangs up can "
             "end this nbdkit, and the disk with it, unless --tls=require\n");
  return 0;
}

/* Verify has found a block whose payload is damaged. */
static void
report_damage (void *opaque, uint64_t offset)
{
  (void) opaque;
  nbdkit_error ("verify: the block at offset %" PRIu64 " is damaged: its "
                "checksum is wrong; writing all of its %zu bytes, or "
                "trimming it, heals it",
                offset, BLOCK_BYTES);
}

static int
start_serving (void)
{
  /* nbdkit --swap has locked memory just before, which a fork loses, but
   * not nbdkit -f.  store_start then has to unlock the disk's.
   */
  const bool lock_memory = options.mlock || memlock_is_on ();
  char error[OPTIONS_ERROR_BYTES];
  int r;

  r = store_start (store);
  if (r < 0)
    return fail ("cannot make the disk's memory usable: %s", strerror (-r));

  if (lock_memory && memlock_lock (error, sizeof error) < 0)
    return fail ("%s: %s", options.mlock ? "mlock=yes" : "--swap", error);

  store_on_damage (store, report_damage, NULL);
  r = store_start_worker (store);
  if (r < 0)
    return fail ("cannot start the thread that compacts: %s", strerror (-r));
  worker_started = true;

  if (control_bound) {
    r = control_start (store);
    if (r < 0)
      return fail ("control=%s: cannot start its thread: %s", options.control,
                   strerror (-r));
  }
  if (statsfile_prepared) {
    r = statsfile_start (store);
    if (r < 0)
      return fail ("statsfile=%s: cannot start its thread: %s",
                   options.statsfile, strerror (-r));
  }
  return 0;
}

/* Who asks before who is asked: a command may wait for a run of the
 * worker's, and one that came after the worker's end would compact by itself
 * and keep the server from ending.
 */
static void
zmem_cleanup (void)
{
  if (statsfile_prepared)
    statsfile_stop ();
  if (control_bound)
    control_stop ();
  if (worker_started) {
    store_verify_stop (store);
    store_stop_worker (store);
  }
  worker_started = false;
}

/* An nbdkit whose after_fork fails ends without cleanup and unload: what would
 * outlive it, the control socket, goes here.
 */
static int
zmem_after_fork (void)
{
  if (start_serving () == 0)
    return 0;
  zmem_cleanup ();
  return -1;
}

static void
zmem_unload (void)
{
  if (store != NULL)
    store_destroy (store);
  options_free (&options);
}

/*----- exports and connections -----*/

static int
zmem_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  (void) readonly;
  (void) is_tls;
  if (nbdkit_add_export (exports, "", DISK_DESCRIPTION) == -1)
    return -1;
  if (options.stats_export != NULL)
    return nbdkit_add_export (exports, options.stats_export, STATS_DESCRIPTION);
  return 0;
}

static const char *
zmem_default_export (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  return "";
}

/* A client chose this name: let it write no control characters to the log.
 */
static void
print_foreign_name (const char *name, char *text, size_t text_bytes)
{
  size_t i;

  for (i = 0; name[i] != '\0' && i + 1 < text_bytes; ++i)
    text[i] = name[i] < ' ' || name[i] > '~' ? '?' : name[i];
  text[i] = '\0';
}

static void
refuse_export (const char *name)
{
  char text[80];

  print_foreign_name (name, text, sizeof text);
  if (options.stats_export != NULL)
    nbdkit_error ("there is no export \"%s\": there are \"\", the disk, and "
                  "\"%s\", its statistics",
                  text, options.stats_export);
  else
    nbdkit_error ("there is no export \"%s\": the disk is the export with "
                  "the empty name",
                  text);
  nbdkit_set_error (ENOENT);
  errno = ENOENT;
}

static void *
zmem_open (int readonly)
{
  const char *name = nbdkit_export_name ();
  const bool is_stats = options.stats_export != NULL && name != NULL &&
                        strcmp (name, options.stats_export) == 0;
  struct handle *h;

  if (name == NULL)
    return NULL; /* nbdkit has said why */
  if (!is_stats && *name != '\0') {
    refuse_export (name);
    return NULL;
  }

  h = calloc (1, sizeof *h);
  if (h == NULL) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  h->readonly = readonly || is_stats;
  if (is_stats) {
    h->stats = stats_report_string (store, STATS_TEXT, &h->stats_bytes);
    if (h->stats == NULL) {
      nbdkit_error ("cannot write the statistics: %m");
      free (h);
      return NULL;
    }
  }
  else
    requests_connected ();
  return h;
}

static void
zmem_close (void *handle)
{
  struct handle *h = handle;

  if (h->stats == NULL)
    requests_disconnected ();
  free (h->stats);
  free (h);
}

/* Disk or statistics?  An int, so that it is also the callback for what only
 * the disk can do.
 */
static int
is_disk (void *handle)
{
  const struct handle *h = handle;

  return h->stats == NULL;
}

static const char *
zmem_export_description (void *handle)
{
  return is_disk (handle) ? DISK_DESCRIPTION : STATS_DESCRIPTION;
}

static int64_t
zmem_get_size (void *handle)
{
  const struct handle *h = handle;

  return h->stats == NULL ? (int64_t) store_size_bytes (store)
                          : (int64_t) h->stats_bytes;
}

static int
zmem_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                 uint32_t *maximum)
{
  (void) handle;
  *minimum = 1;
  *preferred = BLOCK_BYTES;
  *maximum = BLOCK_SIZE_MAX_BYTES;
  return 0;
}

static int
zmem_can_write (void *handle)
{
  const struct handle *h = handle;

  return !h->readonly;
}

static int
zmem_can_always (void *handle)
{
  (void) handle;
  return 1;
}

static int
zmem_can_fua (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

static int
zmem_can_cache (void *handle)
{
  (void) handle;
  return NBDKIT_CACHE_NATIVE;
}

static int
zmem_is_rotational (void *handle)
{
  (void) handle;
  return 0;
}

/*----- requests -----*/

/* May a refusal for want of memory be written to the log now? */
static bool
is_report_due (void)
{
  static _Atomic int64_t due_seconds;
  struct timespec now;
  int64_t due = atomic_load (&due_seconds);

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec >= due &&
         atomic_compare_exchange_strong (&due_seconds, &due,
                                         now.tv_sec + FULL_REPORT_SECONDS);
}

/* Report what became of a request, and return what nbdkit wants.
 *
 * A damaged payload is an error each time: it is rare, and each is news.  A
 * disk at its limit refuses thousands of writes a second; the client hears
 * of each, the log of one a minute, and of the others with nbdkit -v.
 */
static int
finish_request (int r, const char *request, uint64_t count, uint64_t offset)
{
  if (r == 0)
    return 0;

  if (r == -EIO)
    nbdkit_error ("%s of %" PRIu64 " bytes at offset %" PRIu64 ": a block is "
                  "damaged: its checksum is wrong",
                  request, count, offset);
  else if (r != -ENOSPC && r != -ENOMEM)
    nbdkit_error ("%s of %" PRIu64 " bytes at offset %" PRIu64 ": %s", request,
                  count, offset, strerror (-r));
  else if (is_report_due ())
    nbdkit_error ("%s of %" PRIu64 " bytes at offset %" PRIu64 " refused: "
                  "%s (said at most once in %d seconds)",
                  request, count, offset,
                  r == -ENOSPC ? "the limit is reached: raise limit=, or "
                                 "trim what is not needed"
                               : "the system has no memory",
                  FULL_REPORT_SECONDS);
  else
    nbdkit_debug ("%s of %" PRIu64 " bytes at offset %" PRIu64 " refused: "
                  "%s",
                  request, count, offset, strerror (-r));

  nbdkit_set_error (-r);
  errno = -r;
  return -1;
}

static int
zmem_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  const struct handle *h = handle;

  (void) flags;
  if (h->stats != NULL) {
    memcpy (buf, h->stats + offset, count);
    return 0;
  }
  return finish_request (requests_read (store, buf, count, offset), "read",
                         count, offset);
}

/* Here and below NBDKIT_FLAG_FUA asks for nothing: what has returned is as
 * lasting as it will ever be.
 */
static int
zmem_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void) handle;
  (void) flags;
  return finish_request (requests_write (store, buf, count, offset), "write",
                         count, offset);
}

static int
zmem_flush (void *handle, uint32_t flags)
{
  (void) flags;
  return is_disk (handle) ? requests_flush () : 0;
}

static int
zmem_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle;
  (void) flags;
  return finish_request (requests_trim (store, count, offset), "trim", count,
                         offset);
}

/* Zeroing is always fast, so NBDKIT_FLAG_FAST_ZERO asks for nothing. */
static int
zmem_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  const bool may_punch = flags & NBDKIT_FLAG_MAY_TRIM;

  (void) handle;
  return finish_request (requests_zero (store, count, offset, may_punch),
                         "zero", count, offset);
}

static int
zmem_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) count;
  (void) offset;
  (void) flags;
  return is_disk (handle) ? requests_cache () : 0;
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t count,
            enum extent_kind kind)
{
  static const uint32_t types[] = {
    [EXTENT_DATA] = 0,
    [EXTENT_ZERO] = NBDKIT_EXTENT_ZERO,
    [EXTENT_HOLE] = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO,
  };

  if (nbdkit_add_extent (opaque, offset, count, types[kind]) == -1)
    return errno > 0 ? -errno : -EINVAL;
  return 0;
}

static int
zmem_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
  const bool one = flags & NBDKIT_FLAG_REQ_ONE;

  if (!is_disk (handle))
    return nbdkit_add_extent (extents, offset, count, 0);
  return finish_request (requests_extents (store, count, offset, one,
                                           add_extent, extents),
                         "block status", count, offset);
}

static struct nbdkit_plugin plugin = {
  .name = "zmem",
  .longname = "zmem compressed RAM disk",
  .version = PACKAGE_VERSION,
  .description = "Serves compressed RAM as a disk, and gives back "
                 "the memory of what is trimmed.",
  .magic_config_key = "size",
  .config_help = options_help,
  .errno_is_preserved = 1,

  .load = zmem_load,
  .unload = zmem_unload,
  .config = zmem_config,
  .config_complete = zmem_config_complete,
  .thread_model = zmem_thread_model,
  .dump_plugin = zmem_dump_plugin,
  .get_ready = zmem_get_ready,
  .after_fork = zmem_after_fork,
  .cleanup = zmem_cleanup,

  .list_exports = zmem_list_exports,
  .default_export = zmem_default_export,
  .open = zmem_open,
  .close = zmem_close,
  .export_description = zmem_export_description,
  .get_size = zmem_get_size,
  .block_size = zmem_block_size,
  .can_write = zmem_can_write,
  .can_flush = zmem_can_always,
  .can_extents = zmem_can_always,
  .can_fua = zmem_can_fua,
  .can_cache = zmem_can_cache,
  .can_trim = is_disk,
  .can_zero = is_disk,
  .can_fast_zero = is_disk,
  /* Each connection to the statistics has a snapshot of its own. */
  .can_multi_conn = is_disk,
  .is_rotational = zmem_is_rotational,

  .pread = zmem_pread,
  .pwrite = zmem_pwrite,
  .flush = zmem_flush,
  .trim = zmem_trim,
  .zero = zmem_zero,
  .extents = zmem_extents,
  .cache = zmem_cache,
};

/* What nbdkit calls; its header only defines it. */
extern struct nbdkit_plugin *plugin_init (void);

NBDKIT_REGISTER_PLUGIN (plugin)
