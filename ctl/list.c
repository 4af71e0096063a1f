/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The list of servers: all are looked at, then printed, so that columns are
 * as wide as they need to be.
 */

#include <config.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "find.h"
#include "list.h"
#include "text.h"
#include "values.h"

struct server {
  char *path; /* borrowed; NULL: no control socket */
  bool live;
  struct values values;        /* where it is live */
  enum client_failure failure; /* where it is not */
  char error[CLIENT_ERROR_BYTES];
};

static void
look_at (struct server *server, char *path, int timeout_ms)
{
  struct client client;
  char *body = NULL;

  server->path = path;
  if (client_open (&client, path, timeout_ms)) {
    body = client_ask (&client, "stats");
    client_close (&client);
  }
  server->live = body != NULL;
  if (server->live) {
    values_parse (&server->values, body);
    return;
  }
  server->failure = client.failure;
  memcpy (server->error, client.error, sizeof server->error);
  if (client.failure == CLIENT_STRANGER)
    server->path = NULL;
}

static void
print_server_json (const struct server *server, FILE *out)
{
  const struct values *values = &server->values;

  fputs ("{\"socket\": ", out);
  json_print_string (server->path, out);
  if (server->live)
    fprintf (out,
             ", \"live\": true, \"size_bytes\": %" PRIu64
             ", \"held_bytes\": %" PRIu64 ", \"ratio_thousandths\": %" PRIu64
             "}",
             values_get (values, "size_bytes"),
             values_get (values, "held_bytes"),
             values_get (values, "ratio_thousandths"));
  else {
    fputs (", \"live\": false, \"error\": ", out);
    json_print_string (server->error, out);
    putc ('}', out);
  }
}

static void
print_server (const struct server *server, int path_width, FILE *out)
{
  static const char *const states[] = {
    [CLIENT_UNREACHABLE] = "cannot be used",
    [CLIENT_DEAD] = "dead: no server listens there",
    [CLIENT_NO_ANSWER] = "does not answer",
    [CLIENT_STRANGER] = "no control socket",
    [CLIENT_INTERRUPTED] = "interrupted",
    [CLIENT_REFUSED] = "refuses to answer",
  };
  const struct values *values = &server->values;
  char size[TEXT_BYTES], held[TEXT_BYTES], ratio[TEXT_BYTES];

  text_make_printable (server->path);
  fprintf (out, "%-*s", path_width, server->path);
  if (server->live)
    fprintf (out, " %10s %10s %8s\n",
             text_size (values_get (values, "size_bytes"), size),
             text_size (values_get (values, "held_bytes"), held),
             text_ratio (values_get (values, "ratio_thousandths"), ratio));
  else
    fprintf (out, "  %s\n", states[server->failure]);
}

static void
print_json (const struct server *servers, size_t nr, FILE *out)
{
  const char *between = "";
  size_t i;

  putc ('[', out);
  for (i = 0; i < nr; ++i)
    if (servers[i].path != NULL) {
      fputs (between, out);
      print_server_json (&servers[i], out);
      between = ",\n ";
    }
  fputs ("]\n", out);
}

static void
print_table (const struct server *servers, size_t nr, FILE *out)
{
  static const char head[] = "SOCKET";
  size_t width = strlen (head), i;

  for (i = 0; i < nr; ++i)
    if (servers[i].path != NULL && strlen (servers[i].path) > width)
      width = strlen (servers[i].path);

  fprintf (out, "%-*s %10s %10s %8s\n", (int) width, head, "SIZE", "HELD",
           "RATIO");
  for (i = 0; i < nr; ++i)
    if (servers[i].path != NULL)
      print_server (&servers[i], (int) width, out);
}

bool
list_servers (int timeout_ms, bool json, FILE *out)
{
  struct sockets sockets;
  struct server *servers;
  size_t i, nr_found = 0;

  find_sockets (&sockets);
  servers = calloc (sockets.nr + 1, sizeof *servers);
  if (servers == NULL) {
    perror ("zmemctl");
    exit (1);
  }
  for (i = 0; i < sockets.nr; ++i) {
    look_at (&servers[i], sockets.paths[i], timeout_ms);
    nr_found += servers[i].path != NULL;
  }

  if (json)
    print_json (servers, sockets.nr, out);
  else if (nr_found > 0)
    print_table (servers, sockets.nr, out);

  for (i = 0; i < sockets.nr; ++i)
    if (servers[i].live)
      values_free (&servers[i].values);
  free (servers);
  free_sockets (&sockets);
  return nr_found > 0;
}
