/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Watching a server.
 *
 * A picture a look, on a terminal; elsewhere a line an interval, which is
 * two looks and their difference.  SIGINT and its like, a stop (Ctrl-Z) and
 * a new size of the window come in through descriptors, so there is no
 * handler and nothing to interrupt: one poll waits for them and for the time
 * of the next look.  Those that end it also end the wait for an answer.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "latency.h"
#include "now-ms.h"
#include "signals.h"
#include "terminal.h"
#include "text.h"
#include "values.h"
#include "watch.h"

/* What one look saw. */
struct look {
  int64_t time_ms;
  struct values values;
};

static const char *const kinds[] = { "read", "write" };
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

/* What happened between two looks. */
struct rates {
  struct {
    double requests; /* a second, both */
    double mib;
    struct latency latency; /* of these requests alone */
  } kinds[NR_KINDS];
  double trims;
};

static bool
take_look (struct client *client, struct look *look)
{
  char *body = client_ask (client, "stats");

  if (body == NULL)
    return false;
  look->time_ms = now_ms ();
  values_parse (&look->values, body);
  return true;
}

/* By how much PREFIX_SUFFIX grew, a second.  A server that was started
 * anew counts from 0: that is no rate.
 */
static double
get_rate (const struct look *now, const struct look *before, const char *prefix,
          const char *suffix)
{
  const double seconds = (double) (now->time_ms - before->time_ms) / 1000;
  uint64_t value, value_before;
  char name[64];

  snprintf (name, sizeof name, "%s_%s", prefix, suffix);
  value = values_get (&now->values, name);
  value_before = values_get (&before->values, name);
  if (value < value_before || seconds <= 0)
    return 0;
  return (double) (value - value_before) / seconds;
}

static void
compute_rates (const struct look *now, const struct look *before,
               struct rates *rates)
{
  struct latency latency, latency_before;
  char name[64];
  size_t i;

  for (i = 0; i < NR_KINDS; ++i) {
    rates->kinds[i].requests = get_rate (now, before, kinds[i], "requests");
    rates->kinds[i].mib =
      get_rate (now, before, kinds[i], "bytes") / (1024 * 1024);
    snprintf (name, sizeof name, "%s_latency_buckets_us", kinds[i]);
    latency_parse (values_text (&now->values, name), &latency);
    latency_parse (values_text (&before->values, name), &latency_before);
    latency_subtract (&latency, &latency_before, &rates->kinds[i].latency);
  }
  rates->trims = get_rate (now, before, "trim", "requests");
}

/* One line an interval, for a file or a pipe. */

static void
print_line_head (void)
{
  puts ("time      held_MiB   ratio    reads/s   writes/s"
        "  read_MiB/s write_MiB/s read_p99_us write_p99_us");
}

static void
print_line (const struct look *look, const struct rates *rates)
{
  const time_t now = time (NULL);
  const uint64_t held = values_get (&look->values, "held_bytes");
  char clock[16], ratio[TEXT_BYTES];
  struct tm tm;

  strftime (clock, sizeof clock, "%H:%M:%S", localtime_r (&now, &tm));
  printf ("%-8s %9.1f %7s %10.0f %10.0f %11.1f %11.1f %11.10g %12.10g\n", clock,
          (double) held / (1024 * 1024),
          text_ratio (values_get (&look->values, "ratio_thousandths"), ratio),
          rates->kinds[0].requests, rates->kinds[1].requests,
          rates->kinds[0].mib, rates->kinds[1].mib,
          latency_percentile_us (&rates->kinds[0].latency, 990),
          latency_percentile_us (&rates->kinds[1].latency, 990));
}

/* Infinity is null: JSON has no such number. */
static void
print_json_us (const char *kind, const char *percentile, double us)
{
  printf (", \"%s_latency_%s_us\": ", kind, percentile);
  if (us > 1e15)
    fputs ("null", stdout);
  else
    printf ("%.10g", us);
}

static void
print_json (const struct look *look, const struct rates *rates)
{
  size_t i;

  printf ("{\"time\": %" PRIdMAX, (intmax_t) time (NULL));
  printf (", \"held_bytes\": %" PRIu64 ", \"ratio_thousandths\": %" PRIu64,
          values_get (&look->values, "held_bytes"),
          values_get (&look->values, "ratio_thousandths"));
  for (i = 0; i < NR_KINDS; ++i) {
    const struct latency *latency = &rates->kinds[i].latency;

    printf (", \"%ss_per_second\": %.1f, \"%s_mib_per_second\": %.3f", kinds[i],
            rates->kinds[i].requests, kinds[i], rates->kinds[i].mib);
    print_json_us (kinds[i], "p50", latency_percentile_us (latency, 500));
    print_json_us (kinds[i], "p99", latency_percentile_us (latency, 990));
    print_json_us (kinds[i], "p99_9", latency_percentile_us (latency, 999));
  }
  printf (", \"trims_per_second\": %.1f}\n", rates->trims);
}

/* The picture. */

static void
print_held (const struct values *values, const char *end)
{
  const uint64_t held = values_get (values, "held_bytes");
  char held_text[TEXT_BYTES], limit_text[TEXT_BYTES], percent[TEXT_BYTES];
  uint64_t limit;

  printf ("held     %12s", text_size (held, held_text));
  if (values_number (values, "limit_bytes", &limit))
    printf ("   %s of limit %s", text_percent (held, limit, percent),
            text_size (limit, limit_text));
  fputs (end, stdout);
}

static void
print_kind (const char *kind, double requests, double mib,
            const struct latency *latency, const char *end)
{
  char p50[TEXT_BYTES], p99[TEXT_BYTES], p999[TEXT_BYTES];
  char count[TEXT_BYTES];

  printf ("%-8s %12s %10.1f %10s %10s %10s%s", kind,
          text_count (text_round (requests), count), mib,
          text_time_us (latency_percentile_us (latency, 500), p50),
          text_time_us (latency_percentile_us (latency, 990), p99),
          text_time_us (latency_percentile_us (latency, 999), p999), end);
}

static uint64_t
count_errors (const struct values *values)
{
  uint64_t nr = 0;
  size_t i;

  for (i = 0; i < values->nr; ++i) {
    const char *at = strstr (values->list[i].name, "_errors");
    if (at != NULL && at[strlen ("_errors")] == '\0')
      nr += values_get (values, values->list[i].name);
  }
  return nr;
}

static void
print_picture (const char *path, const struct look *look,
               const struct rates *rates, const char *end)
{
  const struct values *values = &look->values;
  const char *codec = values_text (values, "compress");
  char text[TEXT_BYTES];
  size_t i;

  printf ("%s, up %s%s%s", path,
          text_uptime (values_get (values, "uptime_seconds"), text), end, end);
  printf ("size     %12s%s",
          text_size (values_get (values, "size_bytes"), text), end);
  printf ("logical  %12s%s",
          text_size (values_get (values, "logical_bytes"), text), end);
  print_held (values, end);
  printf ("ratio    %12s   %s%s",
          text_ratio (values_get (values, "ratio_thousandths"), text),
          codec == NULL ? "" : codec, end);
  printf ("clients  %12s%s%s",
          text_count (values_get (values, "connections"), text), end, end);
  printf ("%-8s %12s %10s %10s %10s %10s%s", "", "per second", "MiB/s",
          "p50 <=", "p99 <=", "p99.9 <=", end);
  for (i = 0; i < NR_KINDS; ++i)
    print_kind (kinds[i], rates->kinds[i].requests, rates->kinds[i].mib,
                &rates->kinds[i].latency, end);
  printf ("%-8s %12s%s%s", "trim", text_count (text_round (rates->trims), text),
          end, end);
  printf ("errors   %12s%s", text_count (count_errors (values), text), end);
}

static void
draw_picture (const char *path, const struct look *look,
              const struct rates *rates)
{
  fputs (terminal_home, stdout);
  print_picture (path, look, rates, terminal_line_end);
  fputs (terminal_clear_below, stdout);
  fflush (stdout);
}

/* Signals. */

struct signals {
  int end_fd;    /* asks us to end */
  int screen_fd; /* a stop, or a new size */
};

static void
open_signals (struct signals *signals)
{
  static const int screen[] = { SIGTSTP, SIGWINCH };

  signals->end_fd = signals_open_end ();
  signals->screen_fd = signals_open (screen, sizeof screen / sizeof screen[0]);
}

static void
close_signals (struct signals *signals)
{
  close (signals->end_fd);
  close (signals->screen_fd);
}

/* A stop: leave the terminal to the shell until we are continued. */
static void
take_screen_signal (int screen_fd, bool screen)
{
  struct signalfd_siginfo info;

  if (read (screen_fd, &info, sizeof info) != sizeof info ||
      info.ssi_signo != SIGTSTP)
    return;
  if (screen)
    terminal_leave ();
  raise (SIGSTOP);
  if (screen)
    terminal_enter ();
}

enum event { EVENT_TIME, EVENT_REDRAW, EVENT_END };

static enum event
wait_event (const struct signals *signals, int64_t until_ms, bool screen)
{
  struct pollfd fds[2] = {
    { .fd = signals->end_fd, .events = POLLIN },
    { .fd = signals->screen_fd, .events = POLLIN },
  };
  const int64_t left = until_ms - now_ms ();
  const int r = poll (fds, 2, left <= 0 ? 0 : (int) left);

  if (r == 0)
    return EVENT_TIME;
  if (r == -1)
    return EVENT_REDRAW; /* interrupted: no harm */
  if (fds[0].revents != 0)
    return EVENT_END;
  take_screen_signal (signals->screen_fd, screen);
  return EVENT_REDRAW;
}

static void
show (const struct watch *watch, bool screen, const char *path,
      const struct look *look, const struct rates *rates)
{
  if (screen)
    draw_picture (path, look, rates);
  else {
    if (watch->json)
      print_json (look, rates);
    else
      print_line (look, rates);
    fflush (stdout);
  }
}

/* Wait for the time of the next look; false: asked to end. */
static bool
wait_interval (const struct signals *signals, int64_t until_ms, bool screen,
               const char *path, const struct look *look,
               const struct rates *rates)
{
  for (;;)
    switch (wait_event (signals, until_ms, screen)) {
    case EVENT_TIME:
      return true;
    case EVENT_END:
      return false;
    case EVENT_REDRAW:
      if (screen)
        draw_picture (path, look, rates);
    }
}

/* The loop; `look` is the latest, `rates` those that led to it. */
static bool
watch_loop (const struct watch *watch, struct client *client,
            const struct signals *signals, bool screen, struct look *look,
            struct rates *rates)
{
  unsigned long nr = 0;

  while (watch->count == 0 || nr < watch->count) {
    const int64_t until_ms = look->time_ms + watch->interval_ms;
    struct look before = *look;

    if (!wait_interval (signals, until_ms, screen, client->path, look, rates))
      return true;
    if (!take_look (client, look)) {
      *look = before;
      return client->failure == CLIENT_INTERRUPTED;
    }
    compute_rates (look, &before, rates);
    values_free (&before.values);
    show (watch, screen, client->path, look, rates);
    ++nr;
    if (ferror (stdout))
      return true; /* main says so */
  }
  return true;
}

bool
watch_run (const struct watch *watch, struct client *client)
{
  const bool screen = !watch->json && isatty (STDOUT_FILENO);
  static struct rates rates; /* large */
  struct signals signals;
  struct look look;
  bool r;

  if (!take_look (client, &look))
    return false;
  open_signals (&signals);
  client->interrupt_fd = signals.end_fd;

  if (screen) {
    terminal_enter ();
    draw_picture (client->path, &look, &rates);
  }
  else if (!watch->json)
    print_line_head ();
  fflush (stdout);

  r = watch_loop (watch, client, &signals, screen, &look, &rates);

  /* The screen goes; what it showed last stays. */
  if (screen) {
    terminal_leave ();
    print_picture (client->path, &look, &rates, "\n");
  }
  values_free (&look.values);
  client->interrupt_fd = -1;
  close_signals (&signals);
  return r;
}
