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
#include <unistd.h>

#include "client.h"
#include "compact.h"
#include "find.h"
#include "list.h"
#include "map.h"
#include "save.h"
#include "svg.h"
#include "tables.h"
#include "terminal.h"
#include "text.h"
#include "values.h"
#include "verbs.h"
#include "verification.h"
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

/* An answer from another version.  Returns the exit status. */
static int
fail_strange (const struct client *client, const char *what,
              const char *command)
{
  say ("%s: the answer %s this zmemctl knows: \"zmemctl raw %s\" shows it",
       client->path, what, command);
  return EXIT_ERROR;
}

/* What the server says, as it says it, but for what a terminal would obey. */
static int
run_raw (const struct options *options, struct client *client,
         const char *command)
{
  char *body = ask (client, command);

  (void) options;
  if (body == NULL)
    return EXIT_ERROR;
  text_make_lines_printable (body);
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
  const struct bar_style style = { terminal_width (STDOUT_FILENO),
                                   terminal_is_utf8 () };
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
  return understood
           ? 0
           : fail_strange (client, "has not the columns that", "classes");
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
            value_is_number (value->text, &number) ? text_size (number, text)
                                                   : value->text);
  else if (strcmp (value->name, "note") == 0)
    printf ("note: %s\n", value->text);
  else
    printf ("%s %s\n", value->name, value->text);
}

/* limit, compress: some lines. */
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

/* What a run that was watched came to; its values go. */
static int
end_run (const struct options *options, struct client *client, enum run_end end,
         const char *verb, struct values *values,
         void (*print) (const struct values *, FILE *))
{
  switch (end) {
  case RUN_REPORTED:
    if (options->json)
      values_print_json (values, stdout);
    else
      print (values, stdout);
    values_free (values);
    return 0;
  case RUN_LEFT:
    say ("it goes on without being watched: \"zmemctl %s status\" tells how"
         " far it is",
         verb);
    return EXIT_ERROR;
  case RUN_STRANGE:
    return fail_strange (client, "is no report that", verb);
  case RUN_FAILED:
    break;
  }
  say ("%s", client->error);
  return EXIT_ERROR;
}

static int
run_compact (const struct options *options, struct client *client,
             const char *command)
{
  struct values values;
  const enum run_end end = compact_run (client, command, &values);

  return end_run (options, client, end, "compact", &values, compact_print);
}

static int
run_verify (const struct options *options, struct client *client,
            const char *command)
{
  struct values values;
  const enum run_end end = verify_run (client, command, &values);
  const bool damaged = end == RUN_REPORTED && verify_found_damage (&values);
  const int status =
    end_run (options, client, end, "verify", &values, verify_print);

  return status == 0 && damaged ? EXIT_DAMAGE : status;
}

/* The picture as text, to be freed. */
static char *
draw_map (const struct map *map, const struct values *stats, size_t *bytes)
{
  char *svg = NULL;
  FILE *out = open_memstream (&svg, bytes);

  if (out != NULL)
    svg_print (map, stats, out);
  if (out == NULL || fclose (out) == EOF) {
    perror ("zmemctl");
    exit (EXIT_ERROR);
  }
  return svg;
}

/* False: it has been said why. */
static bool
write_output (const char *path, const char *data, size_t bytes)
{
  int r;

  if (strcmp (path, "-") == 0) {
    fwrite (data, 1, bytes, stdout);
    return true; /* main looks whether it did arrive */
  }
  r = save_file (path, data, bytes);
  if (r < 0)
    say ("%s: the picture cannot be written: %s", path, strerror (-r));
  return r == 0;
}

static int
run_map (const struct options *options, struct client *client,
         const char *command)
{
  char *stats_body, *map_body, *svg;
  struct values stats;
  struct map map;
  size_t bytes;
  bool written;

  stats_body = ask (client, "stats");
  if (stats_body == NULL)
    return EXIT_ERROR;
  map_body = ask (client, command);
  if (map_body == NULL || !map_parse (&map, map_body)) {
    free (stats_body);
    return map_body == NULL ? EXIT_ERROR
                            : fail_strange (client, "is no map that", command);
  }

  values_parse (&stats, stats_body);
  svg = draw_map (&map, &stats, &bytes);
  written = write_output (options->output, svg, bytes);
  free (svg);
  map_free (&map);
  values_free (&stats);
  return written ? 0 : EXIT_ERROR;
}

static int
run_watch (const struct options *options, struct client *client,
           const char *command)
{
  const struct watch watch = {
    .interval_ms =
      options->interval_ms != 0 ? options->interval_ms : INTERVAL_DEFAULT_MS,
    .count = options->count,
    .json = options->json,
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
                                              : TIMEOUT_FIND_MS,
                     options->json, stdout) &&
      !options->json)
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
         "\nCommands:\n",
         stdout);
  for (verb = verbs; verb->name != NULL; ++verb)
    printf ("  %-8s %-29s  %s\n", verb->name, verb->args, verb->help);
  fputs ("\nOptions:\n"
         "  -s, --socket=SOCKET      the server's control socket"
         " (its control= option)\n"
         "  -j, --json               answer in JSON\n"
         "  -t, --timeout=SECONDS    wait so long for an answer"
         " (default: 10)\n"
         "  -a, --all                classes: a line each, not ranges\n"
         "  -o, --output=FILE        map: where to, \"-\" is standard"
         " output\n"
         "  -n, --interval=SECONDS   watch: how often (default: 1)\n"
         "  -c, --count=N            watch: end after so many intervals\n"
         "  -h, --help               print this text\n"
         "  -V, --version            print the version\n"
         "\nWithout -s: $ZMEM_CONTROL, else the only server whose socket is"
         " in /run/zmem\nor $XDG_RUNTIME_DIR/zmem.\n"
         "Exit status: 0; 1: an error, or no answer; 2: a wrong command"
         " line;\n3: verify found damage.\n",
         stdout);
  return 0;
}

const struct verb verbs[] = {
  { "stats", "[json|prometheus]", "the statistics", 0, 1, .run = run_stats },
  { "classes", "[json]", "the size classes, as a histogram", 0, 1,
    .run = run_classes },
  { "map", "", "draw the zspages (-o FILE.svg)", 0, 0, .run = run_map },
  { "limit", "[SIZE|none]", "show or set how much RAM may be held", 0, 1,
    .run = run_plain },
  { "compress", "[CODEC[:LEVEL]]", "show or set the codec of new blocks", 0, 1,
    .run = run_plain },
  { "compact", "[wait] [class SIZE]|status", "move objects, give pages back", 0,
    3, .understands = compact_understands, .run = run_compact },
  { "verify", "[rate=SIZE]|start|status|stop",
    "check the checksums of all blocks", 0, 2,
    .understands = verify_understands, .run = run_verify },
  { "list", "", "find running servers", 0, 0, .local = true, .run = run_list },
  { "watch", "", "show rates, again every second", 0, 0, .run = run_watch },
  { "raw", "COMMAND...", "send a line, print the answer as it is", 1, 100,
    .run = run_raw },
  { "help", "", "this text", 0, 0, .local = true, .run = run_help },
  { .name = NULL },
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
