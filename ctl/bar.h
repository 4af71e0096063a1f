/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Bars made of characters, in UTF-8 or plain ASCII.
 */

#ifndef ZMEM_CTL_BAR_H
#define ZMEM_CTL_BAR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* `filled` dark characters and, behind them, `rest` light ones. */
extern void bar_print (uint64_t filled, uint64_t rest, bool utf8, FILE *out);

/* A character for each part, the higher the more of `whole` it is: from
 * nothing, a blank, by way of a trace to all of it.
 */
extern void bar_print_parts (const uint64_t *parts, unsigned nr, uint64_t whole,
                             bool utf8, FILE *out);

#endif /* ZMEM_CTL_BAR_H */
