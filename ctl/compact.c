/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Compaction, watched.
 *
 *     send "compact"; while the answer says "running":
 *       wait 100 ms, or for Ctrl-C; send "compact status"
 *
 * The server answers at once, and does the work whether anybody watches it
 * or not.  So that no other command has to wait, and the answer is not
 * waited for longer than other answers, its "compact wait" is not used.
 */

#include <config.h>

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bar.h"
#include "client.h"
#include "compact.h"
#include "now-ms.h"
#include "signals.h"
#include "terminal.h"
#include "text.h"
#include "values.h"

#define LOOK_MS 100
#define PATIENCE_MS 500         /* what is over sooner needs no bar */

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
  return !value_is_number (text, &bytes)
    || (bytes >= 1 && bytes <= CLASS_MAX_BYTES);
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
  return nr == 0
    || (nr == 2 && strcmp (args[0], "class") == 0 && is_class_size (args[1]));
}

/* The bar. */

struct progress {
  bool terminal, utf8;
  bool drawn;
  int64_t begin_ms;
};

static void
begin_progress (struct progress *progress)
{
  progress->terminal = isatty (STDERR_FILENO);
  progress->utf8 = terminal_is_utf8 ();
  progress->drawn = false;
  progress->begin_ms = now_ms ();
}

static void
erase_progress (struct progress *progress)
{
  if (progress->drawn)
    fputs (terminal_clear_line, stderr);
  progress->drawn = false;
}

#define BAR_MAX_WIDTH 40

/* " 42.3 %  1.2 GiB given back  830.0 MiB/s copied", the bar before it. */
static void
draw_progress (struct progress *progress, const struct values *values,
               int64_t passed_ms)
{
  const uint64_t returned = values_get (values, "compact_returned_bytes");
  const uint64_t all = returned + values_get (values, "reclaimable_bytes");
  const double rate = (double) values_get (values, "compact_copied_bytes")
    * 1000 / (double) passed_ms;
  const unsigned columns = terminal_width (STDERR_FILENO);
  char percent[TEXT_BYTES], bytes[TEXT_BYTES], copied[TEXT_BYTES];
  char line[5 * TEXT_BYTES];
  unsigned width, filled;
  int length;

  length = snprintf (line, sizeof line, "%8s %11s given back %11s/s copied",
                     text_percent (returned, all, percent),
                     text_size (returned, bytes),
                     text_size ((uint64_t) rate, copied));

  /* The last column stays free: some terminals go on in the next line. */
  width = columns > (unsigned) length + 1 ? columns - (unsigned) length - 1
    : 0;
  if (width > BAR_MAX_WIDTH)
    width = BAR_MAX_WIDTH;
  filled = all == 0 ? 0
    : (unsigned) ((double) returned / (double) all * width);

  fputs (terminal_clear_line, stderr);
  bar_print (filled, width - filled, progress->utf8, stderr);
  fprintf (stderr, "%.*s", (int) columns - 1, line);
  fflush (stderr);
  progress->drawn = true;
}

/* The watching. */

/* False: somebody wants us to end. */
static bool
wait_look (int end_fd)
{
  struct pollfd fd = { .fd = end_fd, .events = POLLIN };

  return poll (&fd, 1, LOOK_MS) <= 0;
}

static bool
is_running (const struct values *values)
{
  const char *state = values_text (values, "compact_state");

  return state != NULL && strcmp (state, "running") == 0;
}

static enum compact_end
ask (struct client *client, const char *command, struct values *values)
{
  char *body = client_ask (client, command);

  if (body == NULL)
    return client->failure == CLIENT_INTERRUPTED ? COMPACT_LEFT
      : COMPACT_FAILED;
  values_parse (values, body);
  if (values_text (values, "compact_state") != NULL)
    return COMPACT_REPORTED;
  values_free (values);
  return COMPACT_STRANGE;
}

static enum compact_end
wait_finished (struct client *client, int end_fd, struct values *values)
{
  enum compact_end end = COMPACT_REPORTED;
  struct progress progress;

  begin_progress (&progress);
  while (end == COMPACT_REPORTED && is_running (values)) {
    const int64_t passed_ms = now_ms () - progress.begin_ms;

    if (progress.terminal && passed_ms >= PATIENCE_MS)
      draw_progress (&progress, values, passed_ms);
    values_free (values);
    end = wait_look (end_fd) ? ask (client, STATUS_COMMAND, values)
      : COMPACT_LEFT;
  }
  erase_progress (&progress);
  return end;
}

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

enum compact_end
compact_run (struct client *client, const char *command,
             struct values *values)
{
  char line[COMMAND_BYTES];
  enum compact_end end = ask (client, drop_wait (command, line), values);

  if (end == COMPACT_REPORTED && strcmp (command, STATUS_COMMAND) != 0
      && is_running (values)) {
    client->interrupt_fd = signals_open_end ();
    end = wait_finished (client, client->interrupt_fd, values);
    close (client->interrupt_fd);
    client->interrupt_fd = -1;
  }
  return end;
}

/* The report. */

static const char *
get_size (const struct values *values, const char *name,
          char text[TEXT_BYTES])
{
  return text_size (values_get (values, name), text);
}

static const char *
get_count (const struct values *values, const char *name,
           char text[TEXT_BYTES])
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
             text_size ((uint64_t) ((double) copied * 1e6 / (double) us),
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
