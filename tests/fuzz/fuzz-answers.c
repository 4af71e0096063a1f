/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What zmemctl reads: the answers of a server, which may be of another
 * version, or no zmem at all.
 *
 *     [what] ...
 *       'v'   "name value" lines: tables, JSON, the report of a compaction
 *       'c'   the size classes: a histogram
 *       'm'   the map: a picture
 *       'l'   two latencies, a line each, and their difference
 *       's'   what comes through the socket, heads and all
 *
 * The oracle: JSON is JSON, the picture is one and smaller than 1 MiB, what
 * goes to a terminal is printable, no percentile lies outside of the
 * buckets; and the socket's reader takes exactly what a second reader does.
 */

#include <config.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../format-check.h"
#include "client.h"
#include "compact.h"
#include "fuzz.h"
#include "latency.h"
#include "map.h"
#include "svg.h"
#include "tables.h"
#include "values.h"

#define BODY_MAX_BYTES (64 << 20) /* ctl/client.c */
#define HEAD_MAX_BYTES 1024

static char *text; /* what was printed */
static size_t text_bytes;

static FILE *
begin_text (void)
{
  FILE *out;

  free (text);
  out = open_memstream (&text, &text_bytes);
  if (out == NULL)
    abort ();
  return out;
}

/* Lines without control characters; `utf8`: some beyond ASCII. */
static void
end_text (FILE *out, bool utf8)
{
  if (fclose (out) == EOF)
    abort ();
  for (size_t i = 0; i < text_bytes; ++i) {
    const unsigned char c = (unsigned char) text[i];

    FUZZ_CHECK (c == '\n' || (c >= ' ' && c < 0x7f) || (utf8 && c >= 0x80),
                "byte %02x in %s", c, text);
  }
}

static void
read_values (char *body)
{
  struct values values;
  FILE *out;

  values_parse (&values, body);
  out = begin_text ();
  table_print_stats (&values, out);
  if (values_text (&values, "compact_state") != NULL)
    compact_print (&values, out);
  end_text (out, false);
  out = begin_text ();
  values_print_json (&values, out);
  end_text (out, false);
  FUZZ_CHECK (json_fault (text) == NULL, "at %s in %s", json_fault (text),
              text);
  for (size_t i = 0; i < values.nr; ++i)
    FUZZ_CHECK (values_text (&values, values.list[i].name) != NULL, "%s",
                values.list[i].name);
  values_free (&values);
}

static void
read_classes (struct input *input)
{
  const uint8_t how = take_byte (input);
  const struct bar_style style = { how & 0x7f, how & 0x80 };
  char *body = take_string (input, '\0'), *again = strdup (body);
  FILE *out = begin_text ();

  if (again == NULL)
    abort ();
  table_print_classes (body, true, &style, out);
  table_print_classes (again, false, &style, out);
  end_text (out, style.utf8);
  FUZZ_CHECK (text_bytes < 2000 * (size_t) 1000, "%zu bytes", text_bytes);
  free (body);
  free (again);
}

static void
read_map (struct input *input)
{
  struct values values;
  struct map map;
  size_t nr_open = 0, nr_closed = 0;
  FILE *out;

  values_parse (&values, take_string (input, '\t'));
  if (!map_parse (&map, take_string (input, '\0'))) {
    values_free (&values);
    return;
  }
  for (unsigned i = 0; i < map.nr; ++i)
    for (uint64_t j = 0; j < map.classes[i].nr_zspages; ++j)
      FUZZ_CHECK (map_zspage (&map.classes[i], j).resident_pages <= MAP_PAGES,
                  "class %u zspage %" PRIu64, i, j);
  out = begin_text ();
  svg_print (&map, &values, out);
  end_text (out, true);
  FUZZ_CHECK (text_bytes < 1 << 20, "%zu bytes", text_bytes);
  for (size_t i = 0; i < text_bytes; ++i) {
    nr_open += text[i] == '<';
    nr_closed += text[i] == '>';
  }
  FUZZ_CHECK (nr_open == nr_closed && strstr (text, "</svg>") != NULL, "%s",
              text);
  map_free (&map);
  values_free (&values);
}

static void
read_latency (struct input *input)
{
  char *texts[2] = { take_string (input, '\n'), take_string (input, '\n') };
  static struct latency latencies[3];

  latency_parse (texts[0], &latencies[0]);
  latency_parse (texts[1], &latencies[1]);
  latency_subtract (&latencies[1], &latencies[0], &latencies[2]);
  for (unsigned i = 0; i < latencies[2].nr; ++i)
    FUZZ_CHECK (latencies[2].buckets[i].count <= latencies[1].buckets[i].count,
                "bucket %u", i);
  for (unsigned i = 0; i < 3; ++i) {
    const double us = latency_percentile_us (&latencies[i], 990);
    bool known = us <= 0 && us >= 0;

    for (unsigned j = 0; j < latencies[i].nr; ++j)
      known |= memcmp (&us, &latencies[i].buckets[j].bound_us, sizeof us) == 0;
    FUZZ_CHECK (known, "%g us", us);
  }
  free (texts[0]);
  free (texts[1]);
}

/*--- The socket. ---*/

/* Where the body begins and how long it is, if these bytes are "ok N\n" and
 * N of them, with nothing but digits in N; whatever follows is not ours.
 */
static const uint8_t *
find_body (const struct input *input, size_t *body_bytes)
{
  const uint8_t *line_end = memchr (input->data, '\n', input->left);
  uint64_t n = 0;
  size_t i;

  if (line_end == NULL || line_end - input->data >= HEAD_MAX_BYTES ||
      strncmp ((const char *) input->data, "ok ", 3) != 0)
    return NULL;
  for (i = 3; isdigit (input->data[i]) && n <= BODY_MAX_BYTES; ++i)
    n = n * 10 + (uint64_t) (input->data[i] - '0');
  /* A C string's end is as good as the line's. */
  if (i == 3 || (input->data[i] != '\n' && input->data[i] != '\0') ||
      n > BODY_MAX_BYTES ||
      n > input->left - (size_t) (line_end + 1 - input->data))
    return NULL;
  *body_bytes = n;
  return line_end + 1;
}

static void
read_socket (struct input *input)
{
  struct client client = { .path = "/fuzz",
                           .timeout_ms = 2000,
                           .interrupt_fd = -1 };
  const uint8_t *want = NULL;
  size_t want_bytes = 0;
  int fds[2];
  char *body;

  if (input->left > 65536 ||
      socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == -1)
    return;
  if (write (fds[1], input->data, input->left) != (ssize_t) input->left ||
      shutdown (fds[1], SHUT_WR) == -1)
    abort ();
  if (input->left > 0)
    want = find_body (input, &want_bytes);
  client.fd = fds[0];
  body = client_ask (&client, "stats");
  FUZZ_CHECK ((body != NULL) == (want != NULL), "%s",
              body != NULL ? body : client.error);
  FUZZ_CHECK (body == NULL || memcmp (body, want, want_bytes) == 0, "body");
  FUZZ_CHECK (body != NULL || client.failure == CLIENT_REFUSED ||
                client.failure == CLIENT_STRANGER ||
                client.failure == CLIENT_NO_ANSWER,
              "%s", client.error);
  for (const char *p = client.error; body == NULL && *p != '\0'; ++p)
    FUZZ_CHECK (*p >= ' ' && *p <= '~', "error: %s", client.error);
  free (body);
  close (fds[1]);
  client_close (&client);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes)
{
  struct input input = { data, bytes };

  switch (take_letter (&input, "vcmls")) {
  case 'v':
    read_values (take_string (&input, '\0'));
    break;
  case 'c':
    read_classes (&input);
    break;
  case 'm':
    read_map (&input);
    break;
  case 'l':
    read_latency (&input);
    break;
  default:
    read_socket (&input);
    break;
  }
  return 0;
}
