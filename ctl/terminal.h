/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The terminal: what it can show, and the whole screen for a while.
 */

#ifndef ZMEM_CTL_TERMINAL_H
#define ZMEM_CTL_TERMINAL_H

#include <stdbool.h>

/* Columns of this output: the terminal's, or $COLUMNS, or 80. */
extern unsigned terminal_width (int fd);

/* May characters beyond ASCII be printed?  By the locale; call setlocale
 * first.
 */
extern bool terminal_is_utf8 (void);

/* Take the whole screen (stdout is a terminal), the cursor hidden.  What was
 * on it comes back with terminal_leave, which does nothing where nothing was
 * taken.
 */
extern void terminal_enter (void);
extern void terminal_leave (void);

/* Begin and end one picture: nothing of the one before stays. */
extern const char terminal_home[];     /* to the top left corner */
extern const char terminal_line_end[]; /* clear the rest of the line */
extern const char terminal_clear_below[];

/* Back to the begin of the line, and nothing of it stays. */
extern const char terminal_clear_line[];

#endif /* ZMEM_CTL_TERMINAL_H */
