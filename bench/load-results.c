/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What a workload of nbd-load came to: sums, and their two forms.  Members of
 * the JSON object are only ever added: scripts read it.
 */

#define _GNU_SOURCE

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench-clock.h"
#include "load-results.h"

#define MIB 1048576

static bool server_is_watched;
static clockid_t server_clock;

void
add_results (struct results *sum, const struct results *other)
{
  sum->nr_errors += other->nr_errors;
  sum->nr_wrong += other->nr_wrong;
  sum->bytes += other->bytes;
  for (unsigned k = 0; k < NR_KINDS; ++k)
    latency_add_all (&sum->latency[k], &other->latency[k]);
}

/*--- The server's processor time. ---*/

void
watch_server (int pid)
{
  const int error = clock_getcpuclockid (pid, &server_clock);

  if (error != 0)
    errx (2, "--server-pid takes the id of a running process, not %d: %s", pid,
          strerror (error));
  server_is_watched = true;
}

double
server_cpu_seconds (void)
{
  return server_is_watched ? read_clock_ns (server_clock) / 1e9 : -1;
}

/*--- Printing. ---*/

static double
server_cpu_us (const struct outcome *o, uint64_t nr_ops)
{
  return nr_ops > 0 ? o->server_cpu_seconds * 1e6 / nr_ops : 0;
}

static void
print_json (const struct outcome *o, const struct latency *all)
{
  printf ("{\"workload\": \"%s\", \"ops\": %" PRIu64 ", \"seconds\": %.6f"
          ", \"ops_s\": %.0f, \"mib_s\": %.1f"
          ", \"connections\": %u, \"depth\": %u",
          o->workload, all->nr, o->seconds, all->nr / o->seconds,
          o->results.bytes / o->seconds / MIB, o->nr_connections, o->depth);
  latency_print (all, "", true);
  latency_print_percentiles (all);
  if (o->server_cpu_seconds >= 0)
    printf (", \"server_cpu_us\": %.3f", server_cpu_us (o, all->nr));
  printf (", \"errors\": %" PRIu64 ", \"wrong\": %" PRIu64,
          o->results.nr_errors, o->results.nr_wrong);
}

static void
print_text (const struct outcome *o, const struct latency *all)
{
  printf ("%-11s %9" PRIu64 " ops %8.0f ops/s %7.1f MiB/s", o->workload,
          all->nr, all->nr / o->seconds, o->results.bytes / o->seconds / MIB);
  latency_print (all, "", false);
  if (o->server_cpu_seconds >= 0)
    printf ("  server CPU %.2f us/op", server_cpu_us (o, all->nr));
  printf ("  errors %" PRIu64 " wrong %" PRIu64 "\n", o->results.nr_errors,
          o->results.nr_wrong);
}

void
print_outcome (const struct outcome *o, bool json)
{
  static struct latency all;
  unsigned nr_kinds = 0;

  memset (&all, 0, sizeof all);
  for (unsigned k = 0; k < NR_KINDS; ++k) {
    nr_kinds += o->results.latency[k].nr > 0;
    latency_add_all (&all, &o->results.latency[k]);
  }
  if (json)
    print_json (o, &all);
  else
    print_text (o, &all);
  for (unsigned k = 0; nr_kinds > 1 && k < NR_KINDS; ++k)
    if (json || o->results.latency[k].nr > 0)
      latency_print_kind (&o->results.latency[k], kind_names[k], json);
  if (json)
    puts ("}");
  fflush (stdout);
}
