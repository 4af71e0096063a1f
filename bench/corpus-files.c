/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Files that only some may read are left alone: a corpus is left lying about.
 */

#define _GNU_SOURCE

#include <err.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "corpus-files.h"

#define MAX_FOLDERS 8

/* Those that were asked for, until the end.  Nftw passes no argument on: the
 * walk fills the one after the last.
 */
static struct folder {
  const char *path; /* borrowed: a literal */
  struct files files;
} folders[MAX_FOLDERS];
static size_t nr_folders;

bool
any_file (const char *path)
{
  (void) path;
  return true;
}

bool
source_file (const char *path)
{
  static const char *const suffixes[] = {
    ".c",   ".cc",   ".cmake", ".cpp", ".css",  ".el",  ".h",   ".hpp",
    ".htm", ".html", ".java",  ".js",  ".json", ".lua", ".m4",  ".md",
    ".pl",  ".pm",   ".po",    ".pp",  ".py",   ".rb",  ".rst", ".sh",
    ".sql", ".tcl",  ".ts",    ".txt", ".vim",  ".xml",
  };
  const char *name = strrchr (path, '/') + 1, *dot = strrchr (name, '.');

  if (dot == NULL) /* C++ has headers without one */
    return strncmp (path, "/usr/include/", strlen ("/usr/include/")) == 0;
  for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; ++i)
    if (strcmp (dot, suffixes[i]) == 0)
      return true;
  return false;
}

bool
library_file (const char *path)
{
  return strstr (strrchr (path, '/'), ".so") != NULL;
}

static void
add_file (struct files *files, const char *path, off_t bytes)
{
  char *copy = strdup (path);

  if (copy == NULL)
    err (EXIT_FAILURE, "strdup");
  if (files->nr == files->room) {
    files->room = files->room ? 2 * files->room : 1024;
    files->items = reallocate (files->items, files->room, sizeof *files->items);
  }
  files->items[files->nr++] = (struct file) { copy, bytes };
}

static int
visit_file (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) ftw;
  if (type == FTW_F && S_ISREG (st->st_mode) && (st->st_mode & S_IROTH) &&
      st->st_size > 0)
    add_file (&folders[nr_folders].files, path, st->st_size);
  return 0;
}

/* All files of a folder.  To walk through one takes a second or two, and
 * several strata ask for the same.
 */
static const struct files *
files_of (const char *folder)
{
  for (size_t i = 0; i < nr_folders; ++i)
    if (strcmp (folders[i].path, folder) == 0)
      return &folders[i].files;
  if (nr_folders == MAX_FOLDERS)
    errx (EXIT_FAILURE, "%s: more than %d folders", folder, MAX_FOLDERS);
  folders[nr_folders].path = folder;
  nftw (folder, visit_file, 32, FTW_PHYS);
  return &folders[nr_folders++].files;
}

static int
compare_files (const void *a, const void *b)
{
  const struct file *x = a, *y = b;

  return strcmp (x->path, y->path);
}

void
list_files (struct files *files, const char *folder, file_filter *wanted)
{
  const struct files *all = files_of (folder);

  for (size_t i = 0; i < all->nr; ++i)
    if (wanted (all->items[i].path))
      add_file (files, all->items[i].path, all->items[i].bytes);
  if (files->nr > 0) /* the order of a folder is nobody's promise */
    qsort (files->items, files->nr, sizeof *files->items, compare_files);
}

void
free_files (struct files *files)
{
  for (size_t i = 0; i < files->nr; ++i)
    free (files->items[i].path);
  free (files->items);
  *files = (struct files) { 0 };
}

/* And free the list. */
static void
take_files (struct pages *pages, struct files *files)
{
  struct runs runs = { 0 };

  for (size_t i = 0; i < files->nr; ++i)
    add_runs_of_file (&runs, files->items[i].path, files->items[i].bytes);
  take_runs (pages, &runs);
  free_files (files);
}

void
take_sources (struct pages *pages)
{
  struct files files = { 0 };

  list_files (&files, "/usr/include", source_file);
  list_files (&files, "/usr/share", source_file);
  pages_note (pages,
              "whole pages of %zu source and text files of "
              "/usr/include, /usr/share",
              files.nr);
  take_files (pages, &files);
}

void
take_libraries (struct pages *pages)
{
  struct files files = { 0 };

  list_files (&files, "/usr/lib", library_file);
  pages_note (pages, "whole pages of %zu shared objects of /usr/lib", files.nr);
  take_files (pages, &files);
}
