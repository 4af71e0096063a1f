/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Programs that are started, and the private folder: none of it is there
 * after the end, however that comes.
 */

#ifndef ZMEM_CORPUS_CHILDREN_H
#define ZMEM_CORPUS_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

/* Do the work in a process that leads a group of its own, with a private
 * folder in TMPDIR or /tmp.  When it has ended, or when a signal asks this
 * process to end, whatever is left of the group is killed and the folder is
 * removed; unless the work returned, undo is called.  Returns if the work
 * did, and ends the program otherwise.
 */
void do_guarded (void (*work) (void), void (*undo) (void));

/* Of a file in the private folder; to be freed. */
char *scratch_path (const char *name);

void remove_tree (const char *path);

/* If it is on PATH, or in the folders of an administrator. */
bool is_program (const char *name);

/* -1: not there.  Standard input is a file, /dev/null for NULL; output goes
 * to a descriptor, to /dev/null for -1; errors to /dev/null.
 */
pid_t start_program (const char *const *argv, const char *input, int output);

/* Start it and wait for its end; false unless all is well. */
bool run_program (const char *const *argv, const char *input);

#endif /* ZMEM_CORPUS_CHILDREN_H */
