/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Verbs: a function each, in one const table.  Most of them send a line to
 * the server's control socket and show what comes back.  Nothing here knows
 * more of the server than the lines (client.h) and the names in them.
 */

#include <config.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "find.h"
#include "list.h"
#include "tables.h"
#include "terminal.h"
#include "text.h"
#include "values.h"
#include "verbs.h"
#include "watch.h"

void
say (const char *format, ...)
{
  va_list args;

  fflush (stdout);
  fputs ("zmemctl: ", stderr);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  putc ('\n', stderr);
}

/* Ask; NULL: the error has been said. */
static char *
ask (struct client *client, const char *command)
{
  char *body = client_ask (client, command);

  if (body == NULL)
    say ("%s", client->error);
  return body;
}

/* What the server says, as it says it. */
static int
run_raw (const struct options *options, struct client *client,
         const char *command)
{
  char *body = ask (client, command);

  (void) options;
  if (body == NULL)
    return EXIT_ERROR;
  fputs (body, stdout);
  free (body);
  return 0;
}

static int
run_stats (const struct options *options, struct client *client,
           const char *command)
{
  struct values values;
  char *body;

  if (options->json)
    return run_raw (options, client, "stats json");
  if (strcmp (command, "stats") != 0)
    return run_raw (options, client, command);

  body = ask (client, command);
  if (body == NULL)
    return EXIT_ERROR;
  values_parse (&values, body);
  table_print_stats (&values, stdout);
  values_free (&values);
  return 0;
}

static int
run_classes (const struct options *options, struct client *client,
             const char *command)
{
  const struct bar_style style = { terminal_width (), terminal_is_utf8 () };
  char *body;
  bool understood;

  if (options->json)
    return run_raw (options, client, "classes json");
  if (strcmp (command, "classes") != 0)
    return run_raw (options, client, command);

  body = ask (client, command);
  if (body == NULL)
    return EXIT_ERROR;
  understood = table_print_classes (body, options->all, &style, stdout);
  free (body);
  if (!understood) {
    say ("%s: the answer has not the columns that this zmemctl knows:"
         " \"zmemctl raw classes\" shows it", client->path);
    return EXIT_ERROR;
  }
  return 0;
}

/* "limit_bytes 1073741824" as "limit 1.0 GiB"; anything else as it is. */
static void
print_plain_value (const struct value *value)
{
  const size_t bytes = strlen (value->name);
  const char *suffix = bytes > 6 ? value->name + bytes - 6 : "";
  char text[TEXT_BYTES];
  uint64_t number;

  if (strcmp (suffix, "_bytes") == 0)
    printf ("%.*s %s\n", (int) bytes - 6, value->name,
            value_is_number (value->text, &number)
            ? text_size (number, text) : value->text);
  else if (strcmp (value->name, "note") == 0)
    printf ("note: %s\n", value->text);
  else
    printf ("%s %s\n", value->name, value->text);
}

/* limit, compress, compact: some lines. */
static int
run_plain (const struct options *options, struct client *client,
           const char *command)
{
  struct values values;
  char *body = ask (client, command);
  size_t i;

  if (body == NULL)
    return EXIT_ERROR;
  values_parse (&values, body);
  if (options->json)
    values_print_json (&values, stdout);
  else
    for (i = 0; i < values.nr; ++i)
      print_plain_value (&values.list[i]);
  values_free (&values);
  return 0;
}

static int
run_watch (const struct options *options, struct client *client,
           const char *command)
{
  const struct watch watch = {
    .interval_ms = options->interval_ms != 0 ? options->interval_ms
      : INTERVAL_DEFAULT_MS,
    .count = options->count,
    .json = options->json
  };

  (void) command;
  if (watch_run (&watch, client))
    return 0;
  say ("%s", client->error);
  return EXIT_ERROR;
}

static int
run_list (const struct options *options, struct client *client,
          const char *command)
{
  (void) client;
  (void) command;
  if (!list_servers (options->timeout_ms != 0 ? options->timeout_ms
                     : TIMEOUT_FIND_MS, options->json, stdout)
      && !options->json)
    say ("no control socket was found in %s", find_where ());
  return 0;
}

static int
run_help (const struct options *options, struct client *client,
          const char *command)
{
  const struct verb *verb;

  (void) options;
  (void) client;
  (void) command;
  fputs ("Usage: zmemctl [OPTION]... COMMAND [ARGUMENT]...\n"
         "Control a running zmem disk through its control socket.\n"
         "\nCommands:\n", stdout);
  for (verb = verbs; verb->name != NULL; ++verb)
    printf ("  %-8s %-17s  %s\n", verb->name, verb->args, verb->help);
  fputs ("\nOptions:\n"
         "  -s, --socket=SOCKET      the server's control socket"
         " (its control= option)\n"
         "  -j, --json               answer in JSON\n"
         "  -t, --timeout=SECONDS    wait so long for an answer"
         " (default: 10)\n"
         "  -a, --all                classes: a line each, not ranges\n"
         "  -n, --interval=SECONDS   watch: how often (default: 1)\n"
         "  -c, --count=N            watch: end after so many intervals\n"
         "  -h, --help               print this text\n"
         "  -V, --version            print the version\n"
         "\nWithout -s: $ZMEM_CONTROL, else the only server whose socket is"
         " in /run/zmem\nor $XDG_RUNTIME_DIR/zmem.\n"
         "Exit status: 0; 1: an error, or no answer; 2: a wrong command"
         " line.\n", stdout);
  return 0;
}

const struct verb verbs[] = {
  { "stats", "[json|prometheus]", "the statistics", 0, 1, false, run_stats },
  { "classes", "[json]", "the size classes, as a histogram", 0, 1, false,
    run_classes },
  { "limit", "[SIZE|none]", "show or set how much RAM may be held", 0, 1,
    false, run_plain },
  { "compress", "[CODEC[:LEVEL]]", "show or set the codec of new blocks", 0, 1,
    false, run_plain },
  { "compact", "", "move objects so that pages empty", 0, 0, false,
    run_plain },
  { "list", "", "find running servers", 0, 0, true, run_list },
  { "watch", "", "show rates, again every second", 0, 0, false, run_watch },
  { "raw", "COMMAND...", "send a line, print the answer as it is", 1, 100,
    false, run_raw },
  { "help", "", "this text", 0, 0, true, run_help },
  { .name = NULL }
};

const struct verb *
find_verb (const char *name)
{
  const struct verb *verb;

  for (verb = verbs; verb->name != NULL; ++verb)
    if (strcmp (name, verb->name) == 0)
      return verb;
  return NULL;
}

/* Longer than every verb; what is longer is like none. */
#define NEAR_BYTES 16
/* Of a short name, more edits than this leave nothing. */
#define NEAR_EDITS 2

static unsigned
min (unsigned a, unsigned b)
{
  return a < b ? a : b;
}

/* How many letters must be added, dropped, changed or swapped with their
 * neighbour to turn `a` into `b` (optimal string alignment).
 */
static unsigned
count_edits (const char *a, const char *b)
{
  unsigned edits[NEAR_BYTES + 1][NEAR_BYTES + 1];
  const size_t a_bytes = strlen (a), b_bytes = strlen (b);
  unsigned i, j;

  for (i = 0; i <= a_bytes; ++i)
    edits[i][0] = i;
  for (j = 0; j <= b_bytes; ++j)
    edits[0][j] = j;
  for (i = 1; i <= a_bytes; ++i)
    for (j = 1; j <= b_bytes; ++j) {
      edits[i][j] = min (min (edits[i - 1][j], edits[i][j - 1]) + 1,
                         edits[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        edits[i][j] = min (edits[i][j], edits[i - 2][j - 2] + 1);
    }
  return edits[a_bytes][b_bytes];
}

const struct verb *
find_nearest_verb (const char *name)
{
  const struct verb *verb, *nearest = NULL;
  unsigned fewest = NEAR_EDITS + 1;

  if (strlen (name) > NEAR_BYTES)
    return NULL;
  for (verb = verbs; verb->name != NULL; ++verb) {
    const unsigned edits = count_edits (name, verb->name);
    if (edits < fewest && edits < strlen (verb->name) - 1) {
      nearest = verb;
      fewest = edits;
    }
  }
  return nearest;
}
