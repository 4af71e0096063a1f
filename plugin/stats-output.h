/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Statistics for people and programs: one report, three formats.
 *
 *   text        a line a value, "name value"; then the codec as "compress
 *               lz4:1"; then read_latency_p50_us, _p99_us, _p99.9_us and
 *               read_latency_buckets_us (BOUND:COUNT ..., but for empty
 *               ones), and the same of writes
 *   JSON        one object
 *   Prometheus  text exposition format 0.0.4, names with the prefix zmem_
 *
 * No limit is "none", null or +Inf; a latency above the last bound "inf",
 * null or +Inf.
 */

#ifndef ZMEM_STATS_OUTPUT_H
#define ZMEM_STATS_OUTPUT_H

#include <stdio.h>

#include "pool.h"
#include "stats.h"
#include "store.h"

enum stats_format { STATS_TEXT, STATS_JSON, STATS_PROMETHEUS };

struct stats_report {
  struct stats stats;
  struct histogram read_latency, write_latency;
  struct codec_spec codec;
  unsigned nr_classes;
  struct pool_class_stats classes[MAX_SIZE_CLASSES];
};

/* Ask the store and the request counters.  Takes class locks briefly, one
 * at a time.
 */
extern void stats_report_collect (struct store *store,
                                  struct stats_report *report);

extern void stats_report_print (const struct stats_report *report,
                                enum stats_format format, FILE *out);

/* The size classes: text has one header line, then a row a class that has
 * a zspage; or JSON.  There is no Prometheus format of them.  Their zspages
 * by fullness come twice, as one list (fullness) and by name (group0 ...
 * group7, full).
 */
extern void stats_classes_print (const struct stats_report *report,
                                 enum stats_format format, FILE *out);

/* The whole text in one malloc'ed string, or NULL and errno. */
extern char *stats_report_string (struct store *store, enum stats_format format,
                                  size_t *length);

#endif /* ZMEM_STATS_OUTPUT_H */
