/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Options, as the plugin gets them: lines of KEY=VALUE.
 *
 * The oracle: an option is taken or refused; what is refused changes
 * nothing and has a sentence that fits and names the key; what is taken is
 * within its range; and a size is what a second, slower reader makes of it.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/un.h>

#include "fuzz.h"
#include "options.h"
#include "pages.h"
#include "size-text.h"
#include "store.h"

/* Digits, and at most one letter: in 128 bits, where nothing overflows. */
static bool
read_size (const char *text, uint64_t *bytes)
{
  static const char units[] = "bkmgtpe";
  unsigned __int128 n = 0;
  const char *unit;

  text += strspn (text, " \t\n\v\f\r");
  const bool plus = *text == '+';

  text += plus;
  if (!isdigit ((unsigned char) *text))
    return !plus && *text == '-' && strspn (text + 1, "0") > 0 &&
           read_size (text + 1, bytes) && *bytes == 0; /* -0 is 0 */
  for (; isdigit ((unsigned char) *text); ++text)
    if (n < (unsigned __int128) 1 << 64)
      n = n * 10 + (unsigned) (*text - '0');
  if (tolower ((unsigned char) *text) == 's')
    n *= 512, ++text;
  else if (*text != '\0') {
    unit = strchr (units, tolower ((unsigned char) *text++));
    if (unit == NULL)
      return false;
    n <<= 10 * (unit - units);
  }
  *bytes = (uint64_t) n;
  return *text == '\0' && n <= INT64_MAX;
}

static void
check_size (const char *text)
{
  uint64_t is = 0, want = 0;
  char error[OPTIONS_ERROR_BYTES] = "", print[SIZE_TEXT_BYTES];
  const bool good = read_size (text, &want);
  const int r = size_text_parse (text, &is, error, sizeof error);

  FUZZ_CHECK (r == (good ? 0 : -EINVAL), "\"%s\" gave %d: %s", text, r, error);
  FUZZ_CHECK (is == want || !good, "\"%s\" is %" PRIu64 ", not %" PRIu64, text,
              is, want);
  FUZZ_CHECK (strlen (size_text_print (is, print, sizeof print)) > 4,
              "%" PRIu64 " is \"%s\"", is, print);
}

static void
check_codec (const struct codec_spec *spec)
{
  struct codec_spec again = { 0 };
  char text[CODEC_SPEC_TEXT_BYTES], error[OPTIONS_ERROR_BYTES];

  codec_spec_print (spec, text, sizeof text);
  FUZZ_CHECK (codec_spec_parse (text, &again, error, sizeof error) == 0,
              "%s: %s", text, error);
  FUZZ_CHECK (again.id == spec->id && again.level == spec->level, "%s", text);
}

static void
check_options (const struct options *o)
{
  FUZZ_CHECK (o->size_bytes <= STORE_MAX_BYTES, "%" PRIu64, o->size_bytes);
  FUZZ_CHECK (o->limit_bytes <= INT64_MAX || o->limit_bytes == PAGES_NO_LIMIT,
              "%" PRIu64, o->limit_bytes);
  FUZZ_CHECK (o->limit_bytes == 0 || o->limit_percent == 0, "both");
  FUZZ_CHECK (o->limit_percent <= 100, "%u", o->limit_percent);
  FUZZ_CHECK (o->compact_rate <= INT64_MAX, "%" PRIu64, o->compact_rate);
  FUZZ_CHECK (o->stats_interval_seconds >= 1 &&
                o->stats_interval_seconds <= 86400,
              "%u", o->stats_interval_seconds);
  FUZZ_CHECK (o->control == NULL ||
                (o->control[0] == '/' &&
                 strlen (o->control) <
                   sizeof ((struct sockaddr_un *) 0)->sun_path),
              "%s", o->control);
  FUZZ_CHECK (o->statsfile == NULL || o->statsfile[0] == '/', "%s",
              o->statsfile);
  FUZZ_CHECK (o->stats_export == NULL || *o->stats_export != '\0', "empty");
  check_codec (&o->codec);
}

static void
set_option (struct options *options, const char *key, const char *value,
            size_t error_bytes)
{
  const struct options before = *options;
  char *error = malloc (error_bytes);
  int r;

  memset (error, 'x', error_bytes);
  r = options_set (options, key, value, error, error_bytes);
  FUZZ_CHECK (r == 0 || r == -EINVAL, "%s=%s gave %d", key, value, r);
  if (r < 0) {
    FUZZ_CHECK (strnlen (error, error_bytes) < error_bytes, "no end");
    FUZZ_CHECK (error_bytes < 100 ||
                  strncmp (error, key, strnlen (key, 64)) == 0,
                "%s=%s: %s", key, value, error);
    FUZZ_CHECK (memcmp (options, &before, sizeof before) == 0,
                "%s=%s was refused and changed something", key, value);
  }
  check_options (options);
  free (error);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes)
{
  static const size_t error_sizes[] = { OPTIONS_ERROR_BYTES, 100, 33, 1 };
  struct input input = { data, bytes };
  struct options options;
  char error[OPTIONS_ERROR_BYTES] = "";
  int r;

  options_init (&options);
  while (input.left > 0) {
    char *line = take_string (&input, '\n'), *value = strchr (line, '=');

    if (value == NULL)
      check_size (line);
    else {
      *value++ = '\0';
      check_size (value);
      set_option (&options, line, value,
                  error_sizes[strlen (line) % 7 < 4 ? 0 : bytes % 4]);
    }
    free (line);
  }
  r = options_check (&options, error, sizeof error);
  FUZZ_CHECK (r == 0 || (r == -EINVAL && *error != '\0'), "%d: %s", r, error);
  FUZZ_CHECK (r < 0 || options.size_bytes > 0, "no size");
  options_free (&options);
  return 0;
}
