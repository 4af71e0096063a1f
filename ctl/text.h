/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Numbers as people read them, in the caller's buffer, which is returned.
 */

#ifndef ZMEM_CTL_TEXT_H
#define ZMEM_CTL_TEXT_H

#include <stdint.h>

#define TEXT_BYTES 40 /* room for any of these */

/* "512 B", "1.4 GiB" */
extern const char *text_size (uint64_t bytes, char text[TEXT_BYTES]);
/* "1,234,567" */
extern const char *text_count (uint64_t count, char text[TEXT_BYTES]);
/* "3.2x"; "-" where there is nothing to compare */
extern const char *text_ratio (uint64_t thousandths, char text[TEXT_BYTES]);
/* "4.7 %"; "-" of nothing */
extern const char *text_percent (uint64_t part, uint64_t whole,
                                 char text[TEXT_BYTES]);
/* "6 us", "1.5 ms", "2.1 s"; "-" is 0, which nothing takes; infinity is "off
 * scale"
 */
extern const char *text_time_us (double us, char text[TEXT_BYTES]);
/* "12 s", "5 min 12 s", "3 h 5 min", "2 d 3 h" */
extern const char *text_uptime (uint64_t seconds, char text[TEXT_BYTES]);

/* Rounded; below 0 it is 0, and what is too large for it the largest. */
extern uint64_t text_round (double x);

/* Turn what a terminal might obey into question marks. */
extern void text_make_printable (char *text);
/* The same, but lines and tabulators stay. */
extern void text_make_lines_printable (char *text);

#endif /* ZMEM_CTL_TEXT_H */
