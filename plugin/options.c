/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Options: one function an option, found by its key in a table.
 *
 * plugin.c calls options_set for each key=value in the order of the command
 * line, then options_check.  What needs the machine (how much memory there
 * is, whether a path can be written) is looked at later, in get_ready.
 *
 * Each function here sees to its own value and says what is wrong with it;
 * options_set puts "KEY=VALUE: " in front, unless it is there already.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "options.h"
#include "pages.h"
#include "size-text.h"
#include "store.h"

#define STATS_INTERVAL_DEFAULT_SECONDS 10
#define STATS_INTERVAL_MAX_SECONDS 86400

/* An export name is an NBD string: the protocol has no longer ones. */
#define EXPORT_NAME_MAX_BYTES 4096

const char options_help[] =
  "size=SIZE               (required) size of the disk, as in 1G\n"
  "compress=lz4[:ACCEL]    how new blocks are compressed (default: lz4)\n"
  "compress=zstd[:LEVEL]\n"
  "compress=none\n"
  "limit=SIZE              the most RAM to hold, everything included\n"
  "limit=PERCENT%          (default: 80% of memory, less where it is little)\n"
  "limit=none\n"
  "compact=auto|manual     compact by itself, or when asked (default: auto)\n"
  "compact-rate=SIZE       bytes to copy a second for that (default: none)\n"
  "control=SOCKET          Unix socket for zmemctl\n"
  "stats-export=NAME       read-only export of the statistics as text\n"
  "statsfile=FILE          the same for Prometheus, replaced time and again\n"
  "stats-interval=SECONDS  how often (default: 10)\n"
  "mlock=yes|no            lock the disk in RAM (default: no)\n"
  "parallel=yes|no|auto    several threads a connection (default: auto, which\n"
  "                        is yes where that is safe: from nbdkit 1.34 on)";

static int reject (char *error, size_t error_bytes, const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));

/* Returns -EINVAL, for the caller to return. */
static int
reject (char *error, size_t error_bytes, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (error, error_bytes, format, args);
  va_end (args);
  return -EINVAL;
}

/* Replace an owned string; takes `new_string`. */
static void
replace_string (char **string, char *new_string)
{
  free (*string);
  *string = new_string;
}

/* `path` from the root, malloc'ed: a server that goes into the background
 * changes its directory.
 */
static int
make_absolute (const char *path, char **ret, char *error, size_t error_bytes)
{
  char *cwd;

  if (*path == '\0')
    return reject (error, error_bytes, "a path is needed");

  if (*path == '/') {
    *ret = strdup (path);
    return *ret == NULL ? -ENOMEM : 0;
  }

  cwd = getcwd (NULL, 0);
  if (cwd == NULL)
    return reject (error, error_bytes,
                   "cannot tell the current directory (%s): "
                   "give a path from the root",
                   strerror (errno));
  if (asprintf (ret, "%s/%s", strcmp (cwd, "/") == 0 ? "" : cwd, path) == -1)
    *ret = NULL;
  free (cwd);
  return *ret == NULL ? -ENOMEM : 0;
}

static int
set_size (struct options *options, const char *value, char *error,
          size_t error_bytes)
{
  uint64_t bytes;
  char max[SIZE_TEXT_BYTES];
  const int r = size_text_parse (value, &bytes, error, error_bytes);

  if (r < 0)
    return r;
  if (bytes == 0)
    return reject (error, error_bytes,
                   "a disk has at least one byte, as in size=1G");
  if (bytes > STORE_MAX_BYTES)
    return reject (error, error_bytes, "a disk can have %s at most",
                   size_text_print (STORE_MAX_BYTES, max, sizeof max));
  options->size_bytes = bytes;
  return 0;
}

static int
set_compress (struct options *options, const char *value, char *error,
              size_t error_bytes)
{
  struct codec_spec spec;
  const int r = codec_spec_parse (value, &spec, error, error_bytes);

  if (r == 0)
    options->codec = spec;
  return r;
}

/* "50%"; 0 where it is none, else 1 to 100. */
static unsigned
parse_percent (const char *text)
{
  char *end;
  unsigned long percent;

  if (text[0] < '0' || text[0] > '9')
    return 0;
  errno = 0;
  percent = strtoul (text, &end, 10);
  if (errno != 0 || strcmp (end, "%") != 0 || percent > 100)
    return 0;
  return (unsigned) percent;
}

static int
set_limit (struct options *options, const char *value, char *error,
           size_t error_bytes)
{
  const size_t length = strlen (value);
  uint64_t bytes = 0;
  unsigned percent = 0;

  if (strcmp (value, "none") == 0)
    bytes = PAGES_NO_LIMIT;
  else if (length > 0 && value[length - 1] == '%') {
    percent = parse_percent (value);
    if (percent == 0)
      return reject (error, error_bytes,
                     "a share of memory is a whole number from 1%% to 100%%");
  }
  else {
    const int r = size_text_parse (value, &bytes, error, error_bytes);

    if (r < 0)
      return r;
    if (bytes == 0)
      return reject (error, error_bytes,
                     "nothing fits in that: give a size, as in limit=512M, "
                     "or limit=none");
  }
  options->limit_bytes = bytes;
  options->limit_percent = percent;
  return 0;
}

static int
set_compact (struct options *options, const char *value, char *error,
             size_t error_bytes)
{
  const bool manual = strcmp (value, "manual") == 0;

  if (!manual && strcmp (value, "auto") != 0)
    return reject (error, error_bytes, "auto or manual is needed");
  options->compact_manual = manual;
  return 0;
}

static int
set_compact_rate (struct options *options, const char *value, char *error,
                  size_t error_bytes)
{
  uint64_t bytes = 0;

  if (strcmp (value, "none") != 0) {
    const int r = size_text_parse (value, &bytes, error, error_bytes);

    if (r < 0)
      return r;
    if (bytes == 0)
      return reject (error, error_bytes,
                     "nothing would be copied: give a size, as in "
                     "compact-rate=64M, or compact-rate=none");
  }
  options->compact_rate = bytes;
  return 0;
}

static int
set_control (struct options *options, const char *value, char *error,
             size_t error_bytes)
{
  const size_t max_bytes = sizeof ((struct sockaddr_un *) 0)->sun_path - 1;
  char *path;
  const int r = make_absolute (value, &path, error, error_bytes);

  if (r < 0)
    return r;
  if (strlen (path) > max_bytes) {
    free (path);
    return reject (error, error_bytes,
                   "from the root that is longer than the %zu bytes that "
                   "the name of a Unix socket can have: "
                   "choose a shorter path",
                   max_bytes);
  }
  replace_string (&options->control, path);
  return 0;
}

static int
set_stats_export (struct options *options, const char *value, char *error,
                  size_t error_bytes)
{
  char *name;

  if (*value == '\0')
    return reject (error, error_bytes,
                   "the export with the empty name is the disk: "
                   "choose a name, as in stats-export=stats");
  if (strlen (value) > EXPORT_NAME_MAX_BYTES)
    return reject (error, error_bytes,
                   "the name of an export has %d bytes at most",
                   EXPORT_NAME_MAX_BYTES);
  name = strdup (value);
  if (name == NULL)
    return -ENOMEM;
  replace_string (&options->stats_export, name);
  return 0;
}

static int
set_statsfile (struct options *options, const char *value, char *error,
               size_t error_bytes)
{
  char *path;
  const int r = make_absolute (value, &path, error, error_bytes);

  if (r < 0)
    return r;
  if (path[strlen (path) - 1] == '/') {
    free (path);
    return reject (error, error_bytes,
                   "that is a directory: name a file in it");
  }
  replace_string (&options->statsfile, path);
  return 0;
}

static int
set_stats_interval (struct options *options, const char *value, char *error,
                    size_t error_bytes)
{
  char *end;
  unsigned long seconds;

  errno = 0;
  seconds = strtoul (value, &end, 10);
  /* strtoul takes a sign, and turns -1 into something huge. */
  if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 ||
      seconds < 1 || seconds > STATS_INTERVAL_MAX_SECONDS)
    return reject (error, error_bytes,
                   "a whole number of seconds is needed, from 1 to %d",
                   STATS_INTERVAL_MAX_SECONDS);
  options->stats_interval_seconds = (unsigned) seconds;
  return 0;
}

/* The words that nbdkit_parse_bool knows: 0 no, 1 yes, -1 neither. */
static int
parse_yes_or_no (const char *value)
{
  static const char *const words[2][6] = {
    { "no", "n", "off", "false", "f", "0" },
    { "yes", "y", "on", "true", "t", "1" },
  };
  int yes, i;

  for (yes = 0; yes < 2; ++yes)
    for (i = 0; i < 6; ++i)
      if (strcasecmp (value, words[yes][i]) == 0)
        return yes;
  return -1;
}

static int
set_mlock (struct options *options, const char *value, char *error,
           size_t error_bytes)
{
  const int yes = parse_yes_or_no (value);

  if (yes == -1)
    return reject (error, error_bytes, "yes or no is needed");
  options->mlock = yes;
  return 0;
}

static int
set_parallel (struct options *options, const char *value, char *error,
              size_t error_bytes)
{
  const int yes = parse_yes_or_no (value);

  if (yes != -1)
    options->parallel = yes ? PARALLEL_YES : PARALLEL_NO;
  else if (strcmp (value, "auto") == 0)
    options->parallel = PARALLEL_AUTO;
  else
    return reject (error, error_bytes, "yes, no or auto is needed");
  return 0;
}

static const struct option {
  const char *key;
  int (*set) (struct options *options, const char *value, char *error,
              size_t error_bytes);
  bool names_itself; /* its errors begin with "KEY=VALUE: " */
} option_table[] = {
  { "size", set_size, false },
  { "compress", set_compress, true },
  { "limit", set_limit, false },
  { "compact", set_compact, false },
  { "compact-rate", set_compact_rate, false },
  { "control", set_control, false },
  { "stats-export", set_stats_export, false },
  { "statsfile", set_statsfile, false },
  { "stats-interval", set_stats_interval, false },
  { "mlock", set_mlock, false },
  { "parallel", set_parallel, false },
};

#define NR_OPTIONS (sizeof option_table / sizeof option_table[0])

/* Past every key of the table; longer ones are near none of them. */
#define KEY_MAX 24

static unsigned
smallest (unsigned a, unsigned b, unsigned c)
{
  const unsigned ab = a < b ? a : b;

  return ab < c ? ab : c;
}

/* How many letters must be added, dropped or changed to turn `a` into `b`
 * (Levenshtein); both shorter than KEY_MAX.
 */
static unsigned
count_edits (const char *a, const char *b)
{
  const unsigned b_length = (unsigned) strlen (b);
  unsigned row[KEY_MAX] = { 0 }, i, j;

  for (j = 0; j <= b_length; ++j)
    row[j] = j;
  for (i = 0; a[i] != '\0'; ++i) {
    unsigned diagonal = row[0]; /* of the row before */

    row[0] = i + 1;
    for (j = 0; j < b_length; ++j) {
      const unsigned above = row[j + 1];

      row[j + 1] = smallest (above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
      diagonal = above;
    }
  }
  return row[b_length];
}

/* The known key that is most like `key`, or NULL: none is.  One that differs
 * by more edits than a third of its letters is hardly what was meant.
 */
static const char *
nearest_key (const char *key)
{
  const char *nearest = NULL;
  unsigned i, edits, fewest = KEY_MAX;

  if (strlen (key) >= KEY_MAX)
    return NULL;
  for (i = 0; i < NR_OPTIONS; ++i) {
    edits = count_edits (key, option_table[i].key);
    if (edits < fewest && edits * 3 <= strlen (option_table[i].key) + 1) {
      nearest = option_table[i].key;
      fewest = edits;
    }
  }
  return nearest;
}

static int
reject_key (const char *key, char *error, size_t error_bytes)
{
  const char *nearest = nearest_key (key);
  size_t used;
  unsigned i;

  if (nearest != NULL)
    return reject (error, error_bytes,
                   "%.64s= is no option of this plugin: did you mean %s=?", key,
                   nearest);

  reject (error, error_bytes, "%.64s= is no option of this plugin, which has",
          key);
  for (i = 0; i < NR_OPTIONS; ++i) {
    used = strlen (error);
    snprintf (error + used, error_bytes - used, "%s %s=",
              i == 0                ? ""
              : i == NR_OPTIONS - 1 ? " and"
                                    : ",",
              option_table[i].key);
  }
  return -EINVAL;
}

void
options_init (struct options *options)
{
  const struct codec_spec lz4 = {
    CODEC_LZ4,
    codec_table[CODEC_LZ4]->level_default,
  };

  memset (options, 0, sizeof *options);
  options->codec = lz4;
  options->stats_interval_seconds = STATS_INTERVAL_DEFAULT_SECONDS;
}

void
options_free (struct options *options)
{
  free (options->control);
  free (options->stats_export);
  free (options->statsfile);
  options_init (options);
}

int
options_set (struct options *options, const char *key, const char *value,
             char *error, size_t error_bytes)
{
  char why[OPTIONS_ERROR_BYTES] = "";
  unsigned i;
  int r;

  for (i = 0; i < NR_OPTIONS; ++i)
    if (strcmp (key, option_table[i].key) == 0)
      break;
  if (i == NR_OPTIONS)
    return reject_key (key, error, error_bytes);

  r = option_table[i].set (options, value, why, sizeof why);
  if (r == -ENOMEM)
    snprintf (why, sizeof why, "out of memory");
  if (r < 0 && option_table[i].names_itself)
    snprintf (error, error_bytes, "%s", why);
  else if (r < 0)
    snprintf (error, error_bytes, "%s=%.128s: %s", key, value, why);
  return r;
}

int
options_check (const struct options *options, char *error, size_t error_bytes)
{
  if (options->size_bytes == 0)
    return reject (error, error_bytes, "size= is required: nbdkit zmem 1G");

  /* The file is replaced by rename, which would take the socket away. */
  if (options->control != NULL && options->statsfile != NULL &&
      strcmp (options->control, options->statsfile) == 0)
    return reject (error, error_bytes,
                   "control= and statsfile= name the same path: "
                   "choose another for one of them");
  return 0;
}
