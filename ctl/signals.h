/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Signals as something to poll for: no handlers, nothing is interrupted.
 */

#ifndef ZMEM_CTL_SIGNALS_H
#define ZMEM_CTL_SIGNALS_H

#include <stddef.h>

/* From now on these signals do nothing but to make the descriptor that is
 * returned readable (signalfd).  Ends the program where there is none.
 */
extern int signals_open (const int *numbers, size_t nr);

/* The same of those that ask a program to end: Ctrl-C and its like. */
extern int signals_open_end (void);

#endif /* ZMEM_CTL_SIGNALS_H */
