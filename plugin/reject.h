/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * How a function that cannot do what the user wants says why: one sentence,
 * into a buffer of the caller's, who knows where it is to be shown.
 */

#ifndef ZMEM_REJECT_H
#define ZMEM_REJECT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

/* Returns r, for the caller to return. */
__attribute__ ((format (printf, 4, 5))) static inline int
reject (char *error, size_t error_bytes, int r, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (error, error_bytes, format, args);
  va_end (args);
  return r;
}

#endif /* ZMEM_REJECT_H */
