/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Runs, watched.
 *
 *     send the command; while the answer says "running":
 *       wait 100 ms, or for Ctrl-C; ask for the status
 *
 * The server answers at once, and does the work whether anybody watches it
 * or not.  So no other command has to wait, and the answer is not waited for
 * longer than other answers.
 */

#include <config.h>

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bar.h"
#include "now-ms.h"
#include "run.h"
#include "signals.h"
#include "terminal.h"

#define LOOK_MS 100
#define PATIENCE_MS 500 /* what is over sooner needs no bar */

/* The bar. */

struct drawing {
  bool terminal, utf8;
  bool drawn;
  int64_t begin_ms;
};

static void
begin_drawing (struct drawing *drawing)
{
  drawing->terminal = isatty (STDERR_FILENO);
  drawing->utf8 = terminal_is_utf8 ();
  drawing->drawn = false;
  drawing->begin_ms = now_ms ();
}

static void
erase_drawing (struct drawing *drawing)
{
  if (drawing->drawn)
    fputs (terminal_clear_line, stderr);
  drawing->drawn = false;
}

#define BAR_MAX_WIDTH 40

static void
draw (struct drawing *drawing, const struct run_progress *progress)
{
  const unsigned columns = terminal_width (STDERR_FILENO);
  const unsigned length = (unsigned) strlen (progress->line);
  /* The last column stays free: some terminals go on in the next line. */
  unsigned width = columns > length + 1 ? columns - length - 1 : 0, filled;

  if (width > BAR_MAX_WIDTH)
    width = BAR_MAX_WIDTH;
  filled = (unsigned) (progress->done * width);
  if (filled > width)
    filled = width;

  fputs (terminal_clear_line, stderr);
  bar_print (filled, width - filled, drawing->utf8, stderr);
  fprintf (stderr, "%.*s", (int) columns - 1, progress->line);
  fflush (stderr);
  drawing->drawn = true;
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
is_running (const struct run_kind *kind, const struct values *values)
{
  const char *state = values_text (values, kind->state);

  return state != NULL && strcmp (state, "running") == 0;
}

enum run_end
run_ask (const struct run_kind *kind, struct client *client,
         const char *command, struct values *values)
{
  char *body = client_ask (client, command);

  if (body == NULL)
    return client->failure == CLIENT_INTERRUPTED ? RUN_LEFT : RUN_FAILED;
  values_parse (values, body);
  if (values_text (values, kind->state) != NULL)
    return RUN_REPORTED;
  values_free (values);
  return RUN_STRANGE;
}

static enum run_end
wait_finished (const struct run_kind *kind, struct client *client, int end_fd,
               struct values *values)
{
  enum run_end end = RUN_REPORTED;
  struct run_progress progress;
  struct drawing drawing;

  begin_drawing (&drawing);
  while (end == RUN_REPORTED && is_running (kind, values)) {
    const int64_t passed_ms = now_ms () - drawing.begin_ms;

    if (drawing.terminal && passed_ms >= PATIENCE_MS) {
      kind->progress (values, passed_ms, &progress);
      draw (&drawing, &progress);
    }
    values_free (values);
    end = wait_look (end_fd)
            ? run_ask (kind, client, kind->status_command, values)
            : RUN_LEFT;
  }
  erase_drawing (&drawing);
  return end;
}

enum run_end
run_follow (const struct run_kind *kind, struct client *client,
            const char *command, struct values *values)
{
  enum run_end end = run_ask (kind, client, command, values);

  if (end == RUN_REPORTED && is_running (kind, values)) {
    client->interrupt_fd = signals_open_end ();
    end = wait_finished (kind, client, client->interrupt_fd, values);
    close (client->interrupt_fd);
    client->interrupt_fd = -1;
  }
  return end;
}
