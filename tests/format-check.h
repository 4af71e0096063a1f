/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Strict readers of what zmem prints.  They know the formats, and nothing of
 * zmem.
 */

#ifndef ZMEM_FORMAT_CHECK_H
#define ZMEM_FORMAT_CHECK_H

/* JSON (RFC 8259).  NULL: sound; else where it is not. */
extern const char *json_fault (const char *text);

/* Prometheus' text exposition format 0.0.4, each metric with # HELP and
 * # TYPE before its samples, counters called ..._total, histograms with
 * ascending bounds, cumulative counts and the last bucket equal to _count.
 * NULL: sound, and in *nr_metrics how many there are; else what is wrong,
 * good until the next call.
 */
extern const char *prometheus_fault (const char *text, unsigned *nr_metrics);

#endif /* ZMEM_FORMAT_CHECK_H */
