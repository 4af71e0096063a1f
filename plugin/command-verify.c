/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * verify [start] [rate=SIZE]   have all blocks compared with their checksums
 * verify status                how far that is, or what the last one found
 * verify stop                  end it
 *
 * The walk is the store's, in a thread of its own; every form answers at
 * once, with the report as of now.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "codec.h"
#include "commands-private.h"
#include "size-text.h"
#include "stats.h"
#include "store.h"

#define BLANKS " \t\r\n\v\f"

enum verb { VERIFY_START, VERIFY_STATUS, VERIFY_STOP };

struct request {
  enum verb verb;
  bool has_rate;
  uint64_t rate; /* 0: any */
};

/* What follows "rate=". */
static int
parse_rate (const char *size, const struct answer *answer,
            struct request *request)
{
  char why[COMMAND_ERROR_BYTES / 2], quoted[QUOTE_BYTES];

  request->has_rate = true;
  request->rate = 0;
  if (strcmp (size, "none") == 0)
    return 0;
  if (size_text_parse (size, &request->rate, why, sizeof why) < 0)
    return answer_reject (answer, -EINVAL, "verify rate=%s: %s",
                          answer_quote (size, quoted), why);
  if (request->rate == 0)
    return answer_reject (answer, -EINVAL,
                          "verify rate=%s: this would take"
                          " for ever: give a size, or none",
                          answer_quote (size, quoted));
  return 0;
}

static int
parse_request (const char *args, const struct answer *answer,
               struct request *ret)
{
  static const char rate[] = "rate=";
  char words[COMMAND_MAX_BYTES + 1], *rest, *word;
  int r = 0;

  *ret = (struct request) { .verb = VERIFY_START };
  strcpy (words, args);
  word = strtok_r (words, BLANKS, &rest);
  if (word != NULL && strcmp (word, "status") == 0) {
    ret->verb = VERIFY_STATUS;
    word = strtok_r (NULL, BLANKS, &rest);
  }
  else if (word != NULL && strcmp (word, "stop") == 0) {
    ret->verb = VERIFY_STOP;
    word = strtok_r (NULL, BLANKS, &rest);
  }
  else {
    if (word != NULL && strcmp (word, "start") == 0)
      word = strtok_r (NULL, BLANKS, &rest);
    if (word != NULL && strncmp (word, rate, sizeof rate - 1) == 0) {
      r = parse_rate (word + sizeof rate - 1, answer, ret);
      word = strtok_r (NULL, BLANKS, &rest);
    }
  }
  if (r == 0 && word != NULL)
    return answer_reject_args (answer, "verify",
                               "[start] [rate=SIZE], or status, or stop", args);
  return r;
}

static const char *const state_names[] = {
  [VERIFY_IDLE] = "idle",
  [VERIFY_RUNNING] = "running",
  [VERIFY_FINISHED] = "finished",
  [VERIFY_STOPPED] = "stopped",
};

static void
print_offsets (const struct verify_report *report, FILE *out)
{
  fputs ("verify_damaged_offsets ", out);
  if (report->nr_listed == 0)
    fputs ("none", out);
  for (unsigned i = 0; i < report->nr_listed; ++i)
    fprintf (out, "%s%" PRIu64, i == 0 ? "" : ",",
             report->listed[i] * BLOCK_BYTES);
  if (report->damaged_blocks > report->nr_listed)
    fputs (",...", out);
  putc ('\n', out);
}

static void
print_report (struct store *store, FILE *out)
{
  struct verify_report report;
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  store_verify_report (store, &report);
  fprintf (out, "verify_state %s\n", state_names[report.state]);
  fprintf (out, "verify_passed_bytes %" PRIu64 "\n",
           report.passed_blocks * BLOCK_BYTES < stats.size_bytes
             ? report.passed_blocks * BLOCK_BYTES
             : stats.size_bytes);
  fprintf (out, "verify_blocks %" PRIu64 "\n", report.checked_blocks);
  fprintf (out, "verify_payload_bytes %" PRIu64 "\n", report.checked_bytes);
  fprintf (out, "verify_damaged_blocks %" PRIu64 "\n", report.damaged_blocks);
  print_offsets (&report, out);
  if (report.rate == 0)
    fputs ("verify_rate_bytes none\n", out);
  else
    fprintf (out, "verify_rate_bytes %" PRIu64 "\n", report.rate);
  fprintf (out, "verify_running_microseconds %" PRIu64 "\n",
           report.running_ns / 1000);
  fprintf (out, "size_bytes %" PRIu64 "\n", stats.size_bytes);
  fprintf (out, "payload_bytes %" PRIu64 "\n", stats.payload_bytes);
}

int
command_verify (struct store *store, const char *args,
                const struct answer *answer)
{
  struct request request;
  int r = parse_request (args, answer, &request);

  if (r < 0)
    return r;
  if (request.verb == VERIFY_START) {
    r = store_verify_start (store, request.has_rate ? &request.rate : NULL);
    if (r < 0)
      return answer_reject (answer, r,
                            "verify: its thread cannot be started:"
                            " %s",
                            strerror (-r));
  }
  if (request.verb == VERIFY_STOP)
    store_verify_stop (store);
  print_report (store, answer->out);
  return 0;
}
