/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The inside of the store: for store/ alone.
 */

#ifndef ZMEM_STORE_PRIVATE_H
#define ZMEM_STORE_PRIVATE_H

#include <time.h>

#include "block-table.h"
#include "compactor.h"
#include "context.h"
#include "group-lock.h"
#include "lock.h"
#include "pages.h"
#include "pool.h"
#include "store.h"
#include "verify.h"
#include "worker.h"

struct store {
  struct group_locks locks; /* first: it is aligned */
  uint64_t size_bytes;
  struct pages pages;
  struct block_table table;
  struct pool *pool;
  struct context_pool *contexts;
  unsigned nr_contexts;

  struct lock settings_lock; /* guards the next two, and their changes */
  struct codec_spec codec;
  uint64_t context_bytes; /* charged to pages */

  struct lock bounce_lock; /* guards the content of: */
  zs_loc bounce;           /* a resident object of a whole block */

  struct compactor compactor;
  struct compact_worker worker;
  bool has_worker; /* both of them are initialised */
  bool compact_manual;
  uint64_t compact_rate;
  _Atomic uint64_t discarded_bytes; /* payloads freed by trim and zero */
  _Atomic uint64_t nr_waited_writes;

  struct verifier verifier;

  struct codec_spec first_codec; /* for store_start */
  struct timespec start_time;
};

static inline struct group_stripe *
stripe_of (struct store *store, uint64_t blkno)
{
  return group_stripe (&store->locks, blkno);
}

/* The compactor and its worker, by store_start and store_destroy. */
extern int store_init_compaction (struct store *store);
extern void store_end_compaction (struct store *store);

/* A context.  To be called before a group lock is taken. */
static inline struct context *
borrow_context (struct store *store)
{
  lock_rank_enter (LOCK_CONTEXT);
  return context_borrow (store->contexts);
}

/* NULL: there is none to return. */
static inline void
return_context (struct store *store, struct context *context)
{
  if (context == NULL)
    return;
  context_return (store->contexts, context);
  lock_rank_leave (LOCK_CONTEXT);
}

#endif /* ZMEM_STORE_PRIVATE_H */
