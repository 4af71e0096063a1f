/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * One const table of commands; "help" prints it, and a test compares it
 * with the man page.  Those that take more than a few lines are in files of
 * their own, command-*.c.
 *
 * Answers are "name value" lines, like the statistics, so that zmemctl reads
 * all of them alike; what a person should know besides is a line that begins
 * with "note".
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "commands-private.h"
#include "commands.h"
#include "pages.h"
#include "size-text.h"
#include "stats-output.h"
#include "stats.h"
#include "store.h"

struct command {
  const char *name;
  const char *args; /* as "help" shows them */
  const char *help;
  int (*run) (struct store *store, const char *args,
              const struct answer *answer);
};

int
answer_reject (const struct answer *answer, int r, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (answer->error, answer->error_bytes, format, args);
  va_end (args);
  return r;
}

const char *
answer_quote (const char *typed, char quoted[QUOTE_BYTES])
{
  size_t i;

  for (i = 0; i < QUOTE_BYTES - 1 && typed[i] != '\0'; ++i)
    quoted[i] = typed[i] >= ' ' && typed[i] <= '~' ? typed[i] : '?';
  quoted[i] = '\0';
  return quoted;
}

int
answer_reject_args (const struct answer *answer, const char *command,
                    const char *wanted, const char *args)
{
  char quoted[QUOTE_BYTES];

  return answer_reject (answer, -EINVAL, "\"%s\" takes %s, not \"%s\"", command,
                        wanted, answer_quote (args, quoted));
}

int
answer_reject_memory (const struct answer *answer)
{
  return answer_reject (answer, -ENOMEM, "no memory is left for the answer");
}

/* Collect a report; free it. */
static struct stats_report *
collect_report (struct store *store, const struct answer *answer)
{
  struct stats_report *report = malloc (sizeof *report);

  if (report == NULL)
    answer_reject_memory (answer);
  else
    stats_report_collect (store, report);
  return report;
}

static int
run_stats (struct store *store, const char *args, const struct answer *answer)
{
  struct stats_report *report;
  enum stats_format format;

  if (*args == '\0')
    format = STATS_TEXT;
  else if (strcmp (args, "json") == 0)
    format = STATS_JSON;
  else if (strcmp (args, "prometheus") == 0)
    format = STATS_PROMETHEUS;
  else
    return answer_reject_args (answer, "stats",
                               "\"json\", \"prometheus\" or nothing", args);

  report = collect_report (store, answer);
  if (report == NULL)
    return -ENOMEM;
  stats_report_print (report, format, answer->out);
  free (report);
  return 0;
}

static int
run_classes (struct store *store, const char *args, const struct answer *answer)
{
  struct stats_report *report;

  if (*args != '\0' && strcmp (args, "json") != 0)
    return answer_reject_args (answer, "classes", "\"json\" or nothing", args);

  report = collect_report (store, answer);
  if (report == NULL)
    return -ENOMEM;
  stats_classes_print (report, *args == '\0' ? STATS_TEXT : STATS_JSON,
                       answer->out);
  free (report);
  return 0;
}

static void
print_limit (struct store *store, FILE *out)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  if (stats.limit_bytes == PAGES_NO_LIMIT)
    fputs ("limit_bytes none\n", out);
  else
    fprintf (out, "limit_bytes %" PRIu64 "\n", stats.limit_bytes);
  fprintf (out, "held_bytes %" PRIu64 "\n", stats.held_bytes);
  if (stats.held_bytes > stats.limit_bytes)
    fputs ("note more is held than the limit allows:"
           " growth is refused until held_bytes has fallen below it\n",
           out);
}

static int
set_limit (struct store *store, const char *args, const struct answer *answer)
{
  char why[COMMAND_ERROR_BYTES / 2], quoted[QUOTE_BYTES];
  uint64_t limit_bytes;
  int r;

  if (strcmp (args, "none") == 0)
    limit_bytes = PAGES_NO_LIMIT;
  else if (strchr (args, '%') != NULL)
    return answer_reject (answer, -EINVAL,
                          "limit \"%s\": a percentage is"
                          " for the start (limit=); here give a size, or"
                          " none",
                          answer_quote (args, quoted));
  else if (size_text_parse (args, &limit_bytes, why, sizeof why) < 0)
    return answer_reject (answer, -EINVAL, "limit \"%s\": %s",
                          answer_quote (args, quoted), why);

  r = store_set_limit (store, limit_bytes);
  if (r == -EINVAL)
    return answer_reject (answer, r,
                          "limit \"%s\": too little, for an empty"
                          " disk of this size takes up to %" PRIu64 " bytes",
                          answer_quote (args, quoted), store_min_limit (store));
  if (r < 0)
    return answer_reject (answer, r, "limit \"%s\": %s",
                          answer_quote (args, quoted), strerror (-r));
  return 0;
}

static int
run_limit (struct store *store, const char *args, const struct answer *answer)
{
  if (*args != '\0') {
    const int r = set_limit (store, args, answer);
    if (r < 0)
      return r;
  }
  print_limit (store, answer->out);
  return 0;
}

static int
set_codec (struct store *store, const char *args, const struct answer *answer)
{
  struct codec_spec spec;
  char text[CODEC_SPEC_TEXT_BYTES], why[COMMAND_ERROR_BYTES / 2];
  char quoted[QUOTE_BYTES];
  int r;

  /* Their sentence quotes what was typed: not with such bytes in it. */
  if (strcmp (answer_quote (args, quoted), args) != 0)
    return answer_reject (answer, -EINVAL, "compress \"%s\": no such codec",
                          quoted);
  if (codec_spec_parse (args, &spec, why, sizeof why) < 0)
    return answer_reject (answer, -EINVAL, "%s", why);

  r = store_set_codec (store, &spec);
  codec_spec_print (&spec, text, sizeof text);
  if (r == -ENOSPC)
    return answer_reject (answer, r,
                          "compress \"%s\": the limit leaves no"
                          " room for what this codec needs",
                          text);
  if (r == -ENOMEM)
    return answer_reject (answer, r,
                          "compress \"%s\": the system has no"
                          " memory for what this codec needs",
                          text);
  if (r < 0)
    return answer_reject (answer, r, "compress \"%s\": %s", text,
                          strerror (-r));
  return 0;
}

static int
run_compress (struct store *store, const char *args,
              const struct answer *answer)
{
  struct codec_spec spec;
  char text[CODEC_SPEC_TEXT_BYTES];

  if (*args != '\0') {
    const int r = set_codec (store, args, answer);
    if (r < 0)
      return r;
  }

  spec = store_codec (store);
  codec_spec_print (&spec, text, sizeof text);
  fprintf (answer->out, "compress %s\n", text);
  if (*args != '\0')
    fputs ("note blocks written before this keep the codec that they have\n",
           answer->out);
  return 0;
}

static int run_help (struct store *store, const char *args,
                     const struct answer *answer);

static const struct command command_table[] = {
  { "stats", "[json|prometheus]", "the statistics", run_stats },
  { "classes", "[json]", "the size classes in use", run_classes },
  { "limit", "[SIZE|none]", "show or set what held_bytes may not pass",
    run_limit },
  { "compress", "[CODEC[:LEVEL]]", "show or set the codec of new blocks",
    run_compress },
  { "compact", "[wait] [class SIZE]|status", "move objects so that pages empty",
    command_compact },
  { "map", "", "how full each zspage is", command_map },
  { "verify", "[rate=SIZE]|start|status|stop",
    "check the checksums of all blocks", command_verify },
  { "help", "", "this list", run_help },
};

#define NR_COMMANDS (sizeof command_table / sizeof command_table[0])

static int
run_help (struct store *store, const char *args, const struct answer *answer)
{
  unsigned i;

  (void) store;
  if (*args != '\0')
    return answer_reject_args (answer, "help", "nothing", args);
  for (i = 0; i < NR_COMMANDS; ++i)
    fprintf (answer->out, "%-8s %-29s  %s\n", command_table[i].name,
             command_table[i].args, command_table[i].help);
  return 0;
}

/* Copy `line` without the blanks around it, and split off its first word.
 * Returns what follows that word; empty: nothing.
 */
static char *
split_line (const char *line, char words[COMMAND_MAX_BYTES + 1])
{
  static const char blanks[] = " \t\r\n\v\f";
  size_t bytes;
  char *args;

  line += strspn (line, blanks);
  bytes = strlen (line);
  while (bytes > 0 && strchr (blanks, line[bytes - 1]) != NULL)
    --bytes;
  memcpy (words, line, bytes);
  words[bytes] = '\0';

  args = words + strcspn (words, blanks);
  if (*args != '\0') {
    *args++ = '\0';
    args += strspn (args, blanks);
  }
  return args;
}

int
command_run (struct store *store, const char *line, struct command_wait *wait,
             FILE *out, char *error, size_t error_bytes)
{
  const struct answer answer = { out, error, error_bytes, wait };
  char words[COMMAND_MAX_BYTES + 1], quoted[QUOTE_BYTES];
  const char *args;
  unsigned i;
  int r;

  if (strlen (line) > COMMAND_MAX_BYTES)
    return answer_reject (&answer, -EINVAL, "a command has %d bytes at most",
                          COMMAND_MAX_BYTES);
  args = split_line (line, words);
  if (words[0] == '\0')
    return 0;

  for (i = 0; i < NR_COMMANDS; ++i)
    if (strcmp (words, command_table[i].name) == 0) {
      r = command_table[i].run (store, args, &answer);
      if (r != -EAGAIN)
        *wait = (struct command_wait) { 0 };
      return r;
    }
  return answer_reject (&answer, -EINVAL,
                        "there is no command \"%s\":"
                        " \"help\" lists what there is",
                        answer_quote (words, quoted));
}
