/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Files of this machine, listed; and the strata that are pages of files.
 */

#ifndef ZMEM_CORPUS_FILES_H
#define ZMEM_CORPUS_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "corpus-pages.h"

struct file {
  char *path; /* owned */
  off_t bytes;
};

struct files {
  struct file *items; /* by path */
  size_t nr, room;
};

/* Filters, of a path. */
typedef bool file_filter (const char *path);
file_filter any_file, source_file, library_file;

/* Add what everybody may read and the filter wants of a folder and all below
 * it.  A folder that is not there has no files; its name has to stay, and what
 * is in it is looked at once.
 */
void list_files (struct files *files, const char *folder, file_filter *wanted);

void free_files (struct files *files);

/* Strata. */
void take_sources (struct pages *pages);
void take_libraries (struct pages *pages);

#endif /* ZMEM_CORPUS_FILES_H */
