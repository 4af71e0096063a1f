/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Verifying, watched (run.h).
 */

#include <config.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "text.h"
#include "verification.h"

#define STATUS_COMMAND "verify status"

/* A size is the server's to judge. */
static bool
is_rate (const char *text)
{
  static const char rate[] = "rate=";

  return strncmp (text, rate, sizeof rate - 1) == 0 &&
         text[sizeof rate - 1] != '\0';
}

bool
verify_understands (char *args[], int nr)
{
  if (nr == 1 &&
      (strcmp (args[0], "status") == 0 || strcmp (args[0], "stop") == 0))
    return true;
  if (nr > 0 && strcmp (args[0], "start") == 0) {
    ++args;
    --nr;
  }
  return nr == 0 || (nr == 1 && is_rate (args[0]));
}

/* " 42.3 %  1.2 GiB  830.0 MiB/s  damaged: 3".  Holes take no time, so it is
 * the payloads that tell how far it is.
 */
static void
describe (const struct values *values, int64_t passed_ms,
          struct run_progress *ret)
{
  const uint64_t done = values_get (values, "verify_payload_bytes");
  const uint64_t us = values_get (values, "verify_running_microseconds");
  const uint64_t damaged = values_get (values, "verify_damaged_blocks");
  uint64_t all = values_get (values, "payload_bytes");
  char percent[TEXT_BYTES], bytes[TEXT_BYTES], rate[TEXT_BYTES];
  int length;

  (void) passed_ms;
  if (all < done) /* it changes meanwhile */
    all = done;
  ret->done = all < done || all == 0 ? 0 : (double) done / (double) all;
  length = snprintf (
    ret->line, sizeof ret->line, "%8s %11s %11s/s",
    text_percent (done, all, percent), text_size (done, bytes),
    text_size (us == 0 ? 0 : text_round ((double) done * 1e6 / (double) us),
               rate));
  if (damaged > 0)
    snprintf (ret->line + length, sizeof ret->line - (size_t) length,
              "  damaged: %s", text_count (damaged, bytes));
}

static const struct run_kind verify_kind = {
  .status_command = STATUS_COMMAND,
  .state = "verify_state",
  .progress = describe,
};

enum run_end
verify_run (struct client *client, const char *command, struct values *values)
{
  static const char walk[] = "verify rate=";

  if (strcmp (command, "verify") == 0 ||
      strncmp (command, walk, sizeof walk - 1) == 0)
    return run_follow (&verify_kind, client, command, values);
  return run_ask (&verify_kind, client, command, values);
}

bool
verify_found_damage (const struct values *values)
{
  return values_get (values, "verify_damaged_blocks") > 0;
}

/* The report. */

static void
print_work (const struct values *values, FILE *out)
{
  const uint64_t us = values_get (values, "verify_running_microseconds");
  const uint64_t bytes = values_get (values, "verify_payload_bytes");
  char text[TEXT_BYTES], more[TEXT_BYTES];

  fprintf (out, "%-12s %12s   blocks, %s of payload\n", "looked at",
           text_count (values_get (values, "verify_blocks"), text),
           text_size (bytes, more));
  fprintf (out, "%-12s %12s", "took", text_time_us ((double) us, text));
  if (us > 0 && bytes > 0)
    fprintf (out, "   %s/s",
             text_size (text_round ((double) bytes * 1e6 / (double) us), more));
  putc ('\n', out);
}

static void
print_damage (const struct values *values, FILE *out)
{
  const char *offsets = values_text (values, "verify_damaged_offsets");
  char text[TEXT_BYTES];

  fprintf (out, "%-12s %12s", "damaged",
           text_count (values_get (values, "verify_damaged_blocks"), text));
  if (!verify_found_damage (values)) {
    fputs ("   blocks\n", out);
    return;
  }
  fprintf (out, "   blocks, of 4096 bytes each, at %s\n",
           offsets == NULL ? "?" : offsets);
  fputs ("Reading such a block is an I/O error; writing all of it, or trimming"
         " it, heals it.\n",
         out);
}

void
verify_print (const struct values *values, FILE *out)
{
  const char *state = values_text (values, "verify_state");

  fprintf (out, "%-12s %12s", "verification", state);
  if (strcmp (state, "idle") == 0) {
    fputs ("   none was asked for yet\n", out);
    return;
  }
  putc ('\n', out);
  print_work (values, out);
  print_damage (values, out);
}
