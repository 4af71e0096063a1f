/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The terminal.  The sequences are those of ECMA-48 and xterm, which every
 * terminal of today understands: no need of terminfo.
 */

#include <config.h>

#include <langinfo.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "terminal.h"

#define DEFAULT_WIDTH 80
#define MAX_WIDTH 1000

/* The other screen, without a cursor; back. */
static const char enter_sequence[] = "\033[?1049h\033[?25l\033[2J";
static const char leave_sequence[] = "\033[?25h\033[?1049l";

const char terminal_home[] = "\033[H";
const char terminal_line_end[] = "\033[K\n";
const char terminal_clear_below[] = "\033[J";
const char terminal_clear_line[] = "\r\033[K";

static bool entered;

unsigned
terminal_width (int fd)
{
  struct winsize size;
  const char *columns;
  long width = 0;

  if (ioctl (fd, TIOCGWINSZ, &size) == 0)
    width = size.ws_col;
  if (width == 0 && (columns = getenv ("COLUMNS")) != NULL)
    width = strtol (columns, NULL, 10);
  return width < 1 || width > MAX_WIDTH ? DEFAULT_WIDTH : (unsigned) width;
}

bool
terminal_is_utf8 (void)
{
  return strcmp (nl_langinfo (CODESET), "UTF-8") == 0;
}

/* A terminal that went away cannot be restored. */
static void
write_sequence (const char *sequence)
{
  (void) !write (STDOUT_FILENO, sequence, strlen (sequence));
}

void
terminal_enter (void)
{
  entered = true;
  write_sequence (enter_sequence);
}

void
terminal_leave (void)
{
  if (entered)
    write_sequence (leave_sequence);
  entered = false;
}
