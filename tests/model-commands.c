/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Control commands for the model test; see model-commands.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "model-commands.h"
#include "stats.h"

enum outcome {
  ANSWERS,    /* always, and says `piece` */
  MAY_REFUSE, /* for want of memory or room */
  REFUSES     /* always, with a sentence that has `piece` */
};

struct command {
  const char *line; /* NULL: a limit about what is held */
  enum outcome outcome;
  const char *piece;
};

static const struct command questions[] = {
  { "stats", ANSWERS, "held_bytes " },
  { "stats json", ANSWERS, "\"held_bytes\":" },
  { "stats prometheus", ANSWERS, "held_bytes" },
  { "classes", ANSWERS, "" },
  { "classes json", ANSWERS, "" },
  { "map", ANSWERS, "object_bytes objects_per_zspage" },
  { "help", ANSWERS, "compact" },
  { "limit", ANSWERS, "limit_bytes " },
  { "compress", ANSWERS, "compress " },
  { "compact status", ANSWERS, "compact_state " },
  { "compact", ANSWERS, "compact_state " },
  { "compact wait", ANSWERS, "compact_state finished" },
  { "compact class 1000", ANSWERS, "compact_state " },
  { "compact wait class 4096", ANSWERS, "compact_state finished" },
  { "  ", ANSWERS, "" },
  { "stats yaml", REFUSES, "yaml" },
  { "compact class 5000", REFUSES, "5000" },
  { "compact soon", REFUSES, "soon" },
  { "limit 50%", REFUSES, "50%" },
  { "limit 1", REFUSES, "too little" },
  { "limit lots", REFUSES, "lots" },
  { "compress gzip", REFUSES, "gzip" },
  { "compress lz4:x", REFUSES, "lz4" },
  { "drop everything", REFUSES, "drop" },
};

static const struct command changes[] = {
  { "limit none", ANSWERS, "limit_bytes none" },
  { NULL, MAY_REFUSE, "limit_bytes " },
  { "compress lz4", MAY_REFUSE, "compress lz4" },
  { "compress lz4:4", MAY_REFUSE, "compress lz4:4" },
  { "compress zstd", MAY_REFUSE, "compress zstd" },
  { "compress zstd:3", MAY_REFUSE, "compress zstd:3" },
  { "compress none", MAY_REFUSE, "compress none" },
};

#define NR_OF(array) (sizeof array / sizeof array[0])

/* What waits for its answer: of which command, and as which line. */
static struct command_wait wait;
static struct command current;
static char line[64];

static void
choose_command (struct store *store, struct rng *rng, bool may_change)
{
  struct stats stats;

  current = may_change && rng_once_in (rng, 4)
              ? changes[rng_below (rng, NR_OF (changes))]
              : questions[rng_below (rng, NR_OF (questions))];
  if (current.line != NULL) {
    snprintf (line, sizeof line, "%s", current.line);
    return;
  }
  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  snprintf (line, sizeof line, "limit %" PRIu64,
            stats.held_bytes * rng_between (rng, 85, 105) / 100);
}

static void
check_answer (int r, const char *body, const char *error)
{
  const char *text = r == 0 ? body : error;
  const bool may_succeed = current.outcome != REFUSES;
  const bool may_fail = current.outcome != ANSWERS;

  if (r == 0 ? !may_succeed : !may_fail)
    test_note_failure ("command \"%s\" gave %d: %s", line, r, text);
  else if ((r == 0 || current.outcome == REFUSES) &&
           strstr (text, current.piece) == NULL)
    test_note_failure ("command \"%s\" does not say \"%s\": %.200s", line,
                       current.piece, text);
  else if (r != 0 && (*body != '\0' || *error == '\0'))
    test_note_failure ("command \"%s\" failed with a body or without a"
                       " sentence",
                       line);
}

unsigned
model_command (struct store *store, struct rng *rng, bool may_change)
{
  const unsigned nr_new = wait.ticket == 0;
  char error[COMMAND_ERROR_BYTES] = "", *body = NULL;
  size_t body_bytes;
  FILE *out = open_memstream (&body, &body_bytes);
  int r;

  if (out == NULL)
    abort ();
  if (nr_new)
    choose_command (store, rng, may_change);
  r = command_run (store, line, &wait, out, error, sizeof error);
  fclose (out);
  if (r != -EAGAIN)
    check_answer (r, body, error);
  free (body);
  return nr_new;
}
