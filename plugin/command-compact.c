/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * compact [wait] [class SIZE]   have everything compacted, or one size class
 * compact status                what the last run that was asked for did
 *
 * The run is the worker's.  "compact" answers when it has been asked for,
 * "compact wait" when it has ended: until then the client keeps the run's
 * ticket and asks again (command_wait).
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "commands-private.h"
#include "compactor.h"
#include "size-class.h"
#include "size-text.h"
#include "stats.h"
#include "store.h"

#define BLANKS " \t\r\n\v\f"

struct request {
  bool status, wait;
  int class_idx; /* -1: all */
};

/* The class of "class SIZE". */
static int
parse_class (const char *size, const struct answer *answer, int *class_idx)
{
  char why[COMMAND_ERROR_BYTES / 2], quoted[QUOTE_BYTES];
  uint64_t bytes;

  if (size == NULL)
    return answer_reject (answer, -EINVAL,
                          "\"compact class\" takes the size"
                          " of an object, from 1 to %zu bytes",
                          OBJECT_MAX);
  if (size_text_parse (size, &bytes, why, sizeof why) < 0)
    return answer_reject (answer, -EINVAL, "compact class \"%s\": %s",
                          answer_quote (size, quoted), why);
  if (bytes < 1 || bytes > OBJECT_MAX)
    return answer_reject (answer, -EINVAL,
                          "compact class \"%s\": an object"
                          " has 1 to %zu bytes",
                          answer_quote (size, quoted), OBJECT_MAX);
  *class_idx = (int) size_class_of (size_class_table (), bytes);
  return 0;
}

static int
parse_request (const char *args, const struct answer *answer,
               struct request *ret)
{
  char words[COMMAND_MAX_BYTES + 1], *rest, *word;
  int r;

  *ret = (struct request) { .class_idx = -1 };
  strcpy (words, args);
  word = strtok_r (words, BLANKS, &rest);
  if (word != NULL && strcmp (word, "status") == 0) {
    ret->status = true;
    word = strtok_r (NULL, BLANKS, &rest);
  }
  else {
    if (word != NULL && strcmp (word, "wait") == 0) {
      ret->wait = true;
      word = strtok_r (NULL, BLANKS, &rest);
    }
    if (word != NULL && strcmp (word, "class") == 0) {
      r = parse_class (strtok_r (NULL, BLANKS, &rest), answer, &ret->class_idx);
      if (r < 0)
        return r;
      word = strtok_r (NULL, BLANKS, &rest);
    }
  }
  if (word != NULL)
    return answer_reject_args (answer, "compact",
                               "[wait] [class SIZE], or status", args);
  return 0;
}

static void
print_report (struct store *store, const char *state,
              const struct compact_report *report, FILE *out)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  fprintf (out, "compact_state %s\n", state);
  fprintf (out, "compact_moved_objects %" PRIu64 "\n", report->moved_objects);
  fprintf (out, "compact_copied_bytes %" PRIu64 "\n", report->copied_bytes);
  fprintf (out, "compact_returned_bytes %" PRIu64 "\n", report->returned_bytes);
  fprintf (out, "compact_released_zspages %" PRIu64 "\n",
           report->released_zspages);
  fprintf (out, "compact_skipped_objects %" PRIu64 "\n", report->skipped_busy);
  fprintf (out, "compact_running_microseconds %" PRIu64 "\n",
           report->running_ns / 1000);
  fprintf (out, "reclaimable_bytes %" PRIu64 "\n", stats.reclaimable_bytes);
}

static int
print_status (struct store *store, const struct answer *answer)
{
  struct compact_report report;
  const bool ended = store_compact_report (store, 0, &report);

  /* The shortest of runs takes some time: none at all, no run. */
  print_report (store,
                !ended                  ? "running"
                : report.running_ns > 0 ? "finished"
                                        : "idle",
                &report, answer->out);
  return 0;
}

int
command_compact (struct store *store, const char *args,
                 const struct answer *answer)
{
  struct compact_report report;
  struct request request;
  uint64_t ticket = answer->wait->ticket;
  bool ended;
  const int r = parse_request (args, answer, &request);

  if (r < 0)
    return r;
  if (request.status)
    return print_status (store, answer);

  if (ticket == 0)
    ticket = store_compact (store, request.class_idx);
  ended = store_compact_report (store, ticket, &report);
  if (request.wait && !ended) {
    answer->wait->ticket = ticket;
    return -EAGAIN;
  }
  print_report (store, ended ? "finished" : "running", &report, answer->out);
  return 0;
}
