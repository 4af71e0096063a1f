/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A refill of a pool's reserve, as the worker does it, and what it may do: for
 * the fuzzers that have a pool.
 */

#ifndef ZMEM_FUZZ_REFILL_H
#define ZMEM_FUZZ_REFILL_H

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>

#include "../probe.h"
#include "fuzz.h"
#include "pages.h"
#include "pool-private.h"

/* Arrays that grow: of zspages, of side tables' pages. */
#define REFILL_BOOKKEEPING_BYTES (4 * PAGE_BYTES)

static inline void
refill (struct pool *pool, uint64_t ceiling_bytes)
{
  const uint64_t failed_before = probe_nr_failed ();
  uint64_t most_held = pages_held (pool->pages);
  int r;

  if (!pool_has_reserve (pool))
    return;
  if (most_held < ceiling_bytes)
    most_held = ceiling_bytes;
  r = pool_refill (pool, ceiling_bytes);
  FUZZ_CHECK (r == 0 || r == -ENOSPC ||
                (r == -ENOMEM && probe_nr_failed () > failed_before),
              "%d", r);
  FUZZ_CHECK (pages_held (pool->pages) <= most_held + REFILL_BOOKKEEPING_BYTES,
              "%" PRIu64 " held", pages_held (pool->pages));
}

#endif /* ZMEM_FUZZ_REFILL_H */
