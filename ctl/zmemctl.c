/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * zmemctl: the administrator's command.  Here: its command line.
 *
 * Exit status: 0; 1: the server answered an error, or cannot be reached, or
 * the answer cannot be written; 2: the command line is wrong; 3: verify found
 * damage.
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "find.h"
#include "verbs.h"

#define SECONDS_MIN 0.1
#define SECONDS_MAX 86400

static const char short_options[] = "s:jt:ao:n:c:hV";
static const struct option long_options[] = {
  { "socket", required_argument, NULL, 's' },
  { "json", no_argument, NULL, 'j' },
  { "timeout", required_argument, NULL, 't' },
  { "all", no_argument, NULL, 'a' },
  { "output", required_argument, NULL, 'o' },
  { "interval", required_argument, NULL, 'n' },
  { "count", required_argument, NULL, 'c' },
  { "help", no_argument, NULL, 'h' },
  { "version", no_argument, NULL, 'V' },
  { NULL, 0, NULL, 0 },
};

static void
end_usage (void)
{
  fputs ("Try \"zmemctl --help\".\n", stderr);
  exit (EXIT_USAGE);
}

/* All has been printed: the exit status, worse if it did not arrive. */
static int
end_output (int status)
{
  if (fflush (stdout) != EOF && !ferror (stdout))
    return status;
  say ("the answer cannot be written: %s", strerror (errno));
  return EXIT_ERROR;
}

static int
parse_seconds (const char *option, const char *text)
{
  char *end;
  const double seconds = strtod (text, &end);

  /* Written so that it also refuses what is no number at all. */
  if (end == text || *end != '\0' ||
      !(seconds >= SECONDS_MIN && seconds <= SECONDS_MAX)) {
    say ("%s takes seconds, from %g to %d, not \"%s\"", option, SECONDS_MIN,
         SECONDS_MAX, text);
    end_usage ();
  }
  return (int) (seconds * 1000 + 0.5);
}

static unsigned long
parse_count (const char *option, const char *text)
{
  char *end;
  unsigned long count;

  errno = 0;
  count = strtoul (text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 ||
      count == 0) {
    say ("%s takes a number of 1 or more, not \"%s\"", option, text);
    end_usage ();
  }
  return count;
}

/* Options may stand before and behind the command.  Ends the program for
 * --help, --version and what is wrong.
 */
static void
parse_options (int argc, char *argv[], struct options *options)
{
  int c;

  while ((c = getopt_long (argc, argv, short_options, long_options, NULL)) !=
         -1)
    switch (c) {
    case 's':
      options->socket = optarg;
      break;
    case 'j':
      options->json = true;
      break;
    case 't':
      options->timeout_ms = parse_seconds ("--timeout", optarg);
      break;
    case 'a':
      options->all = true;
      break;
    case 'o':
      options->output = optarg;
      break;
    case 'n':
      options->interval_ms = parse_seconds ("--interval", optarg);
      break;
    case 'c':
      options->count = parse_count ("--count", optarg);
      break;
    case 'h':
      exit (end_output (find_verb ("help")->run (options, NULL, "help")));
    case 'V':
      printf ("zmemctl %s\n", PACKAGE_VERSION);
      exit (end_output (0));
    default:
      end_usage ();
    }
}

static const struct verb *
parse_verb (char *args[], int nr_args)
{
  const struct verb *verb, *nearest;

  if (nr_args == 0) {
    say ("a command is missing, such as \"zmemctl stats\"");
    end_usage ();
  }
  verb = find_verb (args[0]);
  if (verb == NULL) {
    nearest = find_nearest_verb (args[0]);
    if (nearest == NULL)
      say ("there is no command \"%s\"", args[0]);
    else
      say ("there is no command \"%s\": did you mean \"%s\"?", args[0],
           nearest->name);
    end_usage ();
  }
  if (nr_args - 1 < verb->min_args || nr_args - 1 > verb->max_args ||
      (verb->understands != NULL &&
       !verb->understands (args + 1, nr_args - 1))) {
    if (*verb->args == '\0')
      say ("\"%s\" takes no argument", verb->name);
    else
      say ("the arguments of \"%s\" are: %s", verb->name, verb->args);
    end_usage ();
  }
  return verb;
}

/* Some options are for one verb alone; given to another they would be a
 * misunderstanding.
 */
static void
check_options (const struct options *options, const struct verb *verb)
{
  const bool watch = strcmp (verb->name, "watch") == 0;
  const bool map = strcmp (verb->name, "map") == 0;

  if ((options->interval_ms != 0 || options->count != 0) && !watch) {
    say ("--interval and --count are for \"watch\" alone");
    end_usage ();
  }
  if (options->all && strcmp (verb->name, "classes") != 0) {
    say ("--all is for \"classes\" alone");
    end_usage ();
  }
  if (options->output != NULL && !map) {
    say ("--output is for \"map\" alone");
    end_usage ();
  }
  if (map && (options->output == NULL || *options->output == '\0')) {
    say ("\"map\" draws a picture: say where to, with -o FILE.svg, or -o -"
         " for standard output");
    end_usage ();
  }
  if (map && options->json) {
    say ("\"map\" draws a picture, for which there is no --json");
    end_usage ();
  }
}

/* The line to send: the arguments, or for raw those behind the verb, with a
 * blank between them.
 */
static char *
join_command (char *args[], int nr_args)
{
  size_t bytes = 1;
  char *command, *to;
  int i;

  for (i = 0; i < nr_args; ++i)
    bytes += strlen (args[i]) + 1;
  command = to = malloc (bytes);
  if (command == NULL) {
    perror ("zmemctl");
    exit (EXIT_ERROR);
  }
  *to = '\0';
  for (i = 0; i < nr_args; ++i) {
    if (i > 0)
      *to++ = ' ';
    to = stpcpy (to, args[i]);
  }
  if (strchr (command, '\n') != NULL) {
    say ("a command is one line");
    end_usage ();
  }
  return command;
}

/* The socket to talk to, to be freed; ends the program where there is none.
 */
static char *
choose_socket (const struct options *options)
{
  const char *named =
    options->socket != NULL ? options->socket : getenv ("ZMEM_CONTROL");
  char error[CLIENT_ERROR_BYTES], *path;

  if (named != NULL && *named != '\0')
    path = strdup (named);
  else {
    path = find_only_server (options->timeout_ms != 0 ? options->timeout_ms
                                                      : TIMEOUT_FIND_MS,
                             error, sizeof error);
    if (path == NULL) {
      say ("%s", error);
      exit (EXIT_ERROR);
    }
  }
  if (path == NULL) {
    perror ("zmemctl");
    exit (EXIT_ERROR);
  }
  return path;
}

static int
run_verb (const struct verb *verb, const struct options *options,
          const char *command)
{
  struct client client;
  char *path;
  int status;

  if (verb->local)
    return verb->run (options, NULL, command);

  path = choose_socket (options);
  if (client_open (&client, path,
                   options->timeout_ms != 0 ? options->timeout_ms
                                            : TIMEOUT_DEFAULT_MS)) {
    status = verb->run (options, &client, command);
    client_close (&client);
  }
  else {
    say ("%s", client.error);
    status = EXIT_ERROR;
  }
  free (path);
  return status;
}

int
main (int argc, char *argv[])
{
  struct options options = { .socket = NULL };
  const struct verb *verb;
  char *command;
  int status;
  bool raw;

  /* Which characters the terminal has; numbers stay as they are in C. */
  setlocale (LC_CTYPE, "");

  parse_options (argc, argv, &options);
  argc -= optind;
  argv += optind;
  verb = parse_verb (argv, argc);
  check_options (&options, verb);
  raw = strcmp (verb->name, "raw") == 0;
  command = join_command (argv + raw, argc - raw);

  status = run_verb (verb, &options, command);
  free (command);

  return end_output (status);
}
