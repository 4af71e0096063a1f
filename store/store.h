/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The store: a disk of bytes over a table of compressed blocks.
 *
 * All of read, write, trim, zero and extents may be called from any number
 * of threads at once, on any ranges.  A single block is always read and
 * written as a whole: a reader sees it before or after a write, never in
 * between.  Ranges must lie within the disk (nbdkit sees to it); offsets
 * and counts need no alignment.
 *
 * Errors: 0, or -errno:
 *   -ENOSPC  the write would pass the limit, or scattered blocks have used up
 *            the pool's address space; the blocks of the request that it had
 *            not reached are as they were
 *   -ENOMEM  the system refused memory; likewise
 *   -EIO     a block's payload failed its checksum
 * Nothing is printed.
 */

#ifndef ZMEM_STORE_H
#define ZMEM_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "pages.h"

#define STORE_MAX_BYTES ((uint64_t) 1 << 43) /* 31 bits of blocks */

struct store;
struct stats;

struct store_params {
  uint64_t size_bytes;  /* 1 to STORE_MAX_BYTES */
  uint64_t limit_bytes; /* on held; PAGES_NO_LIMIT: none */
  struct codec_spec codec;
  unsigned nr_contexts;              /* 0: two a processor */
  const struct pages_ops *pages_ops; /* NULL: pages_anonymous */
  /* Memory is there before it is needed: see store.c. */
  bool reserve;
  bool compact_manual;   /* compact when asked to, never by itself */
  uint64_t compact_rate; /* bytes a second to copy, at most; 0: any */
};

/* Reserve address space; no memory to speak of.  -EINVAL: size out of
 * range.  -ENOMEM: so much address space cannot be had, or could not be made
 * usable by store_start (ulimit -v, ulimit -d, vm.overcommit_memory=2).
 */
extern int store_create (const struct store_params *params, struct store **ret);

/* Make it usable: to be called once, after a fork if there is one.
 * -ENOSPC: the limit is below what an empty disk holds (store_min_bytes).
 */
extern int store_start (struct store *store);

extern void store_destroy (struct store *store);

/* What an empty disk of these parameters holds, about, at the most. */
extern uint64_t store_min_bytes (const struct store_params *params);

/* The same of a store with the codec that it has now: the least limit that
 * store_set_limit takes.
 */
extern uint64_t store_min_limit (struct store *store);

extern uint64_t store_size_bytes (const struct store *store);

extern int store_read (struct store *store, void *buf, uint64_t count,
                       uint64_t offset);
extern int store_write (struct store *store, const void *buf, uint64_t count,
                        uint64_t offset);

/* Whole blocks become holes and give their memory back.  The edges are
 * written with zeros, but stay as they are where the limit forbids that.
 */
extern int store_trim (struct store *store, uint64_t count, uint64_t offset);

/* The range reads as zeros.  may_punch: whole blocks become holes;
 * otherwise they stay allocated (same-filled, 8 bytes a block of table).
 */
extern int store_zero (struct store *store, uint64_t count, uint64_t offset,
                       bool may_punch);

/* Extents from the table alone, in order, without a gap, from `offset` on;
 * stops after STORE_MAX_EXTENTS of them or, if `one`, after the first.
 * A non-zero return of fn ends the walk and is returned.
 */
enum extent_kind { EXTENT_DATA, EXTENT_ZERO, EXTENT_HOLE };
typedef int (*store_extent_fn) (void *opaque, uint64_t offset, uint64_t count,
                                enum extent_kind kind);
#define STORE_MAX_EXTENTS 16384
extern int store_extents (struct store *store, uint64_t count, uint64_t offset,
                          bool one, store_extent_fn fn, void *opaque);

/* Settings of a running store.  A limit below held is taken: held falls as
 * blocks go, growth is refused meanwhile.  -EINVAL: below store_min_limit.
 */
extern int store_set_limit (struct store *store, uint64_t limit_bytes);
extern int store_set_codec (struct store *store, const struct codec_spec *spec);
extern struct codec_spec store_codec (struct store *store);

/* Fill in the part of the statistics that the store knows (stats.h). */
extern void store_stats (struct store *store, struct stats *stats);

/* The thread that compacts and purges by itself (worker.h), to be started
 * after store_start and stopped before store_destroy, in the middle of a run
 * too.  0 or -errno.  Without it nothing happens by itself: what a request
 * frees is purged by the request, and a write that meets the limit compacts.
 */
extern int store_start_worker (struct store *store);
extern void store_stop_worker (struct store *store);

/* Ask for a compaction of everything (class_idx -1) or of one size class;
 * returns a ticket, at once where there is a worker, else when it is done.
 * store_compact_report: true when that run has ended, false so far; either
 * way what it did.  Ticket 0: the last run that was asked for, if any.
 */
struct compact_report;
extern uint64_t store_compact (struct store *store, int class_idx);
extern bool store_compact_report (struct store *store, uint64_t ticket,
                                  struct compact_report *ret);

/* Verify: compare every payload with its checksum, in a thread of its own
 * that is there while it does (verify.h).  Nobody is told of it but by the
 * report, the statistics and store_on_damage; the blocks stay as they are.
 */
enum verify_state {
  VERIFY_IDLE, /* there was none yet */
  VERIFY_RUNNING,
  VERIFY_FINISHED,
  VERIFY_STOPPED /* before its end */
};

#define VERIFY_MAX_LISTED 16

struct verify_report { /* of the one under way, else of the last */
  enum verify_state state;
  uint64_t rate; /* payload bytes a second, at most; 0: any */
  uint64_t disk_blocks;
  uint64_t passed_blocks;  /* of these: it has come so far */
  uint64_t checked_blocks; /* of these: no holes */
  uint64_t checked_bytes;  /* their payloads */
  uint64_t damaged_blocks;
  uint64_t running_ns;
  unsigned nr_listed;
  uint64_t listed[VERIFY_MAX_LISTED]; /* the first damaged blocks */
};

/* Begin one; if one is under way it goes on.  *rate is its rate from now on;
 * NULL: any, or what it has.  -errno: there can be no thread.  This and the
 * stop: one caller at a time, between store_start and store_destroy.
 */
extern int store_verify_start (struct store *store, const uint64_t *rate);
/* Returns when it has ended.  Of none under way: does nothing. */
extern void store_verify_stop (struct store *store);
extern void store_verify_report (struct store *store,
                                 struct verify_report *ret);

/* To be told of the damaged blocks that a report lists, as they are found,
 * each by the offset of its first byte.  Called by the thread, with no lock
 * held.  To be set before the first store_verify_start.
 */
typedef void (*store_damage_fn) (void *opaque, uint64_t offset);
extern void store_on_damage (struct store *store, store_damage_fn fn,
                             void *opaque);

struct pool;
extern struct pool *store_pool (struct store *store);

/* The validator, for tests and debug builds: recount everything.  No other
 * call may be under way.  0, or -EIO and in `error` what is inconsistent.
 */
extern int store_check (struct store *store, char *error, size_t error_bytes);

/* For tests: the payload of a block that has one, to damage it.  NULL:
 * the block has none.
 */
extern void *store_payload_for_test (struct store *store, uint64_t blkno,
                                     uint32_t *bytes);

#endif /* ZMEM_STORE_H */
