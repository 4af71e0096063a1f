/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The probe: pages_ops that really map anonymous memory, watch what is done
 * with it, and fail on demand.  There is one in a program.
 *
 * What it watches, page by page, in its own account and by mincore:
 *
 *   - populate: page-aligned, within an activated part of a reserved range,
 *     none of the pages resident yet;
 *   - purge: all of the pages resident (or of the populate that has just
 *     failed on this thread);
 *   - with probe_watch_limit: at the start and the end of every populate
 *     held, and what the probe counted itself, are not above the limit.
 *
 * What breaks a rule is noted with test_note_failure.
 */

#ifndef ZMEM_PROBE_H
#define ZMEM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "pages.h"

enum probe_kind {
  PROBE_RESERVE,
  PROBE_ACTIVATE,
  PROBE_POPULATE,
  PROBE_PURGE,
  NR_PROBE_KINDS
};
extern const char *const probe_kind_names[NR_PROBE_KINDS];

extern const struct pages_ops probe_ops;

/* Forget everything: counts, failures to come, the watched limit.  Ranges
 * that are still reserved are noted as failures.
 */
extern void probe_reset (void);

/* Let the nth call from now on (1: the next) of this kind fail with
 * -ENOMEM; 0: none.  A populate that fails has made half of its pages
 * resident; a purge that fails has done nothing.
 */
extern void probe_fail_nth (enum probe_kind kind, uint64_t nth);
/* Let every call of the kind fail, until probe_fail_nth. */
extern void probe_fail_all (enum probe_kind kind);
/* How many calls were made to fail since probe_reset. */
extern uint64_t probe_nr_failed (void);
extern uint64_t probe_nr_calls (enum probe_kind kind);

/* Note it when held or the resident bytes pass this; 0: do not watch. */
extern void probe_watch_limit (uint64_t limit_bytes);

extern unsigned probe_nr_ranges (void);
/* Resident bytes of all ranges, by mincore.  No other thread may be at
 * work.  Notes where the probe's own account differs.
 */
extern uint64_t probe_resident_bytes (void);
/* The same by smaps, which does not count a page that was only read: for
 * when readers without a lock have been at work.
 */
extern uint64_t probe_rss_bytes (void);
/* By mincore, of the range that addr lies in; where that is goes to *start
 * and *bytes.
 */
extern uint64_t probe_resident_at (const void *addr, void **start,
                                   size_t *bytes);

#endif /* ZMEM_PROBE_H */
