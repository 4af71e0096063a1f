/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands to a disk without a server; see commands-fixture.h.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands-fixture.h"
#include "test-util.h"

struct store *store;
struct command_wait command_wait;
char error[COMMAND_ERROR_BYTES];
char *body;
size_t body_bytes;

void
open_store (bool compact_manual, uint64_t compact_rate)
{
  const struct store_params params = {
    .size_bytes = 16 * MIB,
    .limit_bytes = 64 * MIB,
    .codec = { CODEC_LZ4, 1 },
    .nr_contexts = 2,
    .compact_manual = compact_manual,
    .compact_rate = compact_rate,
  };

  ck_assert_int_eq (store_create (&params, &store), 0);
  ck_assert_int_eq (store_start (store), 0);
  command_wait = (struct command_wait) { 0 };
}

void
begin_commands (void)
{
  open_store (false, 0);
}

void
end_commands (void)
{
  store_destroy (store);
  free (body);
  body = NULL;
}

int
run_command (const char *line)
{
  FILE *out;
  int r;

  free (body);
  body = NULL;
  strcpy (error, "");
  out = open_memstream (&body, &body_bytes);
  ck_assert_ptr_nonnull (out);
  r = command_run (store, line, &command_wait, out, error, sizeof error);
  ck_assert_int_eq (fclose (out), 0);
  /* There is something to be waited for exactly while it is waited for. */
  ck_assert_int_eq (r == -EAGAIN, command_wait.ticket != 0);
  return r;
}

void
answers (const char *line, const char *piece)
{
  const int r = run_command (line);

  ck_assert_msg (r == 0, "%s: %s", line, error);
  ck_assert_str_eq (error, "");
  ck_assert_msg (strstr (body, piece) != NULL, "%s: no \"%s\" in %s", line,
                 piece, body);
}

void
refuses (const char *line, const char *advice)
{
  const int r = run_command (line);

  ck_assert_msg (r < 0, "%s: not refused", line);
  ck_assert_uint_eq (body_bytes, 0);
  ck_assert_msg (strstr (error, advice) != NULL, "%s: no \"%s\" in %s", line,
                 advice, error);
}

struct stats
get_stats (void)
{
  struct stats stats;

  memset (&stats, 0, sizeof stats);
  store_stats (store, &stats);
  return stats;
}
