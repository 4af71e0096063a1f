/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Compaction, watched (run.h).  The server's "compact wait" is not used: it
 * would be waited for longer than other answers are.
 */

#include <config.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "compact.h"
#include "text.h"

#define STATUS_COMMAND "compact status"
/* Room for the longest that compact_understands lets pass. */
#define COMMAND_BYTES 64

#define CLASS_MAX_BYTES 4096
#define CLASS_MAX_LETTERS 16

/* A size with a unit ("4K") is the server's to judge. */
static bool
is_class_size (const char *text)
{
  uint64_t bytes;

  if (*text < '0' || *text > '9' || strlen (text) > CLASS_MAX_LETTERS)
    return false;
  return !value_is_number (text, &bytes) ||
         (bytes >= 1 && bytes <= CLASS_MAX_BYTES);
}

bool
compact_understands (char *args[], int nr)
{
  if (nr == 1 && strcmp (args[0], "status") == 0)
    return true;
  if (nr > 0 && strcmp (args[0], "wait") == 0) {
    ++args;
    --nr;
  }
  return nr == 0 ||
         (nr == 2 && strcmp (args[0], "class") == 0 && is_class_size (args[1]));
}

/* " 42.3 %  1.2 GiB given back  830.0 MiB/s copied" */
static void
describe (const struct values *values, int64_t passed_ms,
          struct run_progress *ret)
{
  const uint64_t returned = values_get (values, "compact_returned_bytes");
  const uint64_t all = returned + values_get (values, "reclaimable_bytes");
  const double rate = (double) values_get (values, "compact_copied_bytes") *
                      1000 / (double) passed_ms;
  char percent[TEXT_BYTES], bytes[TEXT_BYTES], copied[TEXT_BYTES];

  /* Of a sum that has wrapped around there is no part. */
  ret->done = all < returned || all == 0 ? 0 : (double) returned / (double) all;
  snprintf (ret->line, sizeof ret->line, "%8s %11s given back %11s/s copied",
            text_percent (returned, all, percent), text_size (returned, bytes),
            text_size (text_round (rate), copied));
}

static const struct run_kind compact_kind = {
  .status_command = STATUS_COMMAND,
  .state = "compact_state",
  .progress = describe,
};

/* The same without "wait": see above. */
static const char *
drop_wait (const char *command, char line[COMMAND_BYTES])
{
  static const char wait[] = "compact wait";

  if (strncmp (command, wait, sizeof wait - 1) != 0)
    return command;
  snprintf (line, COMMAND_BYTES, "compact%s", command + sizeof wait - 1);
  return line;
}

enum run_end
compact_run (struct client *client, const char *command, struct values *values)
{
  char line[COMMAND_BYTES];

  if (strcmp (command, STATUS_COMMAND) == 0)
    return run_ask (&compact_kind, client, command, values);
  return run_follow (&compact_kind, client, drop_wait (command, line), values);
}

/* The report. */

static const char *
get_size (const struct values *values, const char *name, char text[TEXT_BYTES])
{
  return text_size (values_get (values, name), text);
}

static const char *
get_count (const struct values *values, const char *name, char text[TEXT_BYTES])
{
  return text_count (values_get (values, name), text);
}

static void
print_work (const struct values *values, FILE *out)
{
  const uint64_t us = values_get (values, "compact_running_microseconds");
  const uint64_t copied = values_get (values, "compact_copied_bytes");
  char text[TEXT_BYTES], more[TEXT_BYTES];

  fprintf (out, "%-12s %12s   objects, %s\n", "moved",
           get_count (values, "compact_moved_objects", text),
           text_size (copied, more));
  fprintf (out, "%-12s %12s   zspages emptied: %s\n", "gave back",
           get_size (values, "compact_returned_bytes", text),
           get_count (values, "compact_released_zspages", more));
  fprintf (out, "%-12s %12s   objects, busy\n", "skipped",
           get_count (values, "compact_skipped_objects", text));
  fprintf (out, "%-12s %12s", "took", text_time_us ((double) us, text));
  if (us > 0 && copied > 0)
    fprintf (out, "   %s/s copied",
             text_size (text_round ((double) copied * 1e6 / (double) us),
                        more));
  putc ('\n', out);
}

void
compact_print (const struct values *values, FILE *out)
{
  const char *state = values_text (values, "compact_state");
  char text[TEXT_BYTES];

  fprintf (out, "%-12s %12s", "compaction", state);
  if (strcmp (state, "idle") == 0)
    fputs ("   none was asked for yet\n", out);
  else {
    putc ('\n', out);
    print_work (values, out);
  }
  fprintf (out, "%-12s %12s   still\n", "reclaimable",
           get_size (values, "reclaimable_bytes", text));
}
