/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Values: an answer of "name value" lines, taken apart.  What the names are
 * is the server's affair: one that has more of them, or fewer, is read as
 * well.
 */

#ifndef ZMEM_CTL_VALUES_H
#define ZMEM_CTL_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct value {
  const char *name;
  const char *text; /* the rest of the line; may be empty */
};

struct values {
  char *body;         /* owned; the strings lie in it */
  struct value *list; /* owned */
  size_t nr;
};

/* Take `body` (malloc'ed, NULL: an empty answer) apart.  Ends the program
 * where there is no memory.
 */
extern void values_parse (struct values *values, char *body);
extern void values_free (struct values *values);

/* NULL: there is no such name. */
extern const char *values_text (const struct values *values, const char *name);
/* False: no such name, or what it has is no number ("none"). */
extern bool values_number (const struct values *values, const char *name,
                           uint64_t *number);
/* The number, or 0. */
extern uint64_t values_get (const struct values *values, const char *name);

/* Does the text begin with a digit and have nothing but digits? */
extern bool value_is_number (const char *text, uint64_t *number);

/* One JSON object on one line: numbers plain, all else strings. */
extern void values_print_json (const struct values *values, FILE *out);
extern void json_print_string (const char *text, FILE *out);

#endif /* ZMEM_CTL_VALUES_H */
