/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What is chosen of the files here is seeded; what the programs make of it
 * has no time and no random identity in it.
 */

#define _GNU_SOURCE

#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "corpus-children.h"
#include "corpus-files.h"
#include "corpus-made.h"

#define MIB 1048576

/* So many neighbours are chosen at a time: folders stay together. */
#define NEIGHBOURS 64

/*--- Packages. ---*/

/* How many bytes go in for one that comes out: more than any of them gives
 * of programs and text.  The end is cut off.
 */
#define PACKED_AT_BEST 12

static void
write_list (struct pages *pages, const char *path)
{
  const off_t wanted = (off_t) pages_lacking (pages) * PAGE_BYTES;
  struct files files = { 0 };
  off_t listed = 0;
  FILE *fp = fopen (path, "w");

  if (fp == NULL)
    err (EXIT_FAILURE, "%s", path);
  list_files (&files, "/usr/include", source_file);
  list_files (&files, "/usr/lib", library_file);
  for (size_t left = files.nr; left > 0 && listed < PACKED_AT_BEST * wanted;) {
    const size_t at = pages_random (pages) % files.nr;

    for (size_t i = at; i < at + NEIGHBOURS && i < files.nr; ++i)
      if (files.items[i].bytes > 0) {
        fwrite (files.items[i].path, strlen (files.items[i].path) + 1, 1, fp);
        listed += files.items[i].bytes;
        files.items[i].bytes = 0; /* not again */
        left--;
      }
  }
  if (fclose (fp) == EOF)
    err (EXIT_FAILURE, "%s", path);
  free_files (&files);
}

static void
read_stream (struct pages *pages, int fd)
{
  static uint8_t buf[RUN_PAGES * PAGE_BYTES];
  size_t have = 0;
  ssize_t got;

  while (pages_lacking (pages) &&
         (got = read (fd, buf + have, sizeof buf - have)) > 0)
    if ((have += got) == sizeof buf) {
      add_real_pages (pages, buf, have);
      have = 0;
    }
  add_real_pages (pages, buf, have);
}

/* Until only `lacking` pages lack. */
static void
take_packed (struct pages *pages, const char *packer, const char *options,
             size_t lacking)
{
  static const char script[] =
    "tar --null --no-recursion -P -cf - -T \"$1\" | $2 $3";
  char *list = scratch_path ("list");
  const char *argv[] = { "/bin/sh", "-c",   script,  "sh",
                         list,      packer, options, NULL };
  const size_t nr_wanted = pages->nr_wanted, before = pages->nr;
  int fds[2];
  pid_t pid;

  write_list (pages, list);
  if (pipe2 (fds, O_CLOEXEC) == -1)
    err (EXIT_FAILURE, "pipe");
  pages->nr_wanted -= lacking;
  pid = start_program (argv, NULL, fds[1]);
  close (fds[1]);
  if (pid != -1)
    read_stream (pages, fds[0]);
  close (fds[0]); /* which ends the pipeline */
  if (pid != -1)
    waitpid (pid, NULL, 0);
  pages->nr_wanted = nr_wanted;
  pages_note (pages, "%zu pages of tar (libraries, headers) through %s %s",
              pages->nr - before, packer, options);
  unlink (list);
  free (list);
}

static void
take_generated (struct pages *pages)
{
  uint64_t page[PAGE_BYTES / 8];

  pages_note (pages, "%zu pages of a generator of random numbers",
              pages_lacking (pages));
  while (pages_lacking (pages)) {
    for (size_t i = 0; i < PAGE_BYTES / 8; ++i)
      page[i] = pages_random (pages);
    add_page (pages, page);
  }
}

/* A stream has an order that a choice of its pages should not have. */
static void
shuffle_runs (struct pages *pages)
{
  static uint8_t buf[RUN_PAGES * PAGE_BYTES];

  for (size_t left = pages->nr / RUN_PAGES; left > 1; --left) {
    uint8_t *a = pages->data + (left - 1) * sizeof buf;
    uint8_t *b = pages->data + pages_random (pages) % left * sizeof buf;

    memcpy (buf, a, sizeof buf);
    memmove (a, b, sizeof buf);
    memcpy (b, buf, sizeof buf);
  }
}

/* xz as in Debian's, deflate as in most others.  xz at its fastest: what
 * comes out is no less dense, and there are seconds to be saved.
 */
void
take_packages (struct pages *pages)
{
  static const char *const packers[][2] = { { "xz", "-1" }, { "gzip", "-6" } };
  bool there[2];

  for (int i = 0; i < 2; ++i)
    if (!(there[i] = is_program (packers[i][0]) && is_program ("tar")))
      pages_note (pages, "%s or tar: not there", packers[i][0]);
  if (there[0])
    take_packed (pages, packers[0][0], packers[0][1],
                 there[1] ? pages_lacking (pages) / 2 : 0);
  if (there[1] && pages_lacking (pages))
    take_packed (pages, packers[1][0], packers[1][1], 0);
  if (pages_lacking (pages))
    take_generated (pages);
  shuffle_runs (pages);
}

/*--- An ext4 image. ---*/

/* Of the image itself.  Of a file: its time of modification. */
#define IMAGE_TIME "1600000000"

static void
make_parents (char *path, size_t stage_len)
{
  for (char *slash = path + stage_len + 1; (slash = strchr (slash, '/'));
       *slash++ = '/') {
    *slash = '\0';
    mkdir (path, 0755);
  }
}

static bool
copy_file (const char *from, const char *to)
{
  int in = open (from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out;
  static char buf[MIB];
  struct timespec times[2];
  struct stat st;
  ssize_t bytes;
  bool good;

  if (in == -1)
    return false;
  out = open (to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (out == -1 || fstat (in, &st) == -1)
    err (EXIT_FAILURE, "%s", to);
  while ((bytes = read (in, buf, sizeof buf)) > 0)
    if (write (out, buf, bytes) != bytes)
      break;
  times[0] = times[1] = st.st_mtim;
  good = bytes == 0 && futimens (out, times) == 0;
  close (in);
  if (close (out) == -1 || !good)
    err (EXIT_FAILURE, "%s", to);
  return true;
}

/* What debugfs could take for something else than a plain name. */
static bool
is_plain_name (const char *path)
{
  for (; *path; ++path)
    if (*path == '"' || *path == '\\' || *path < ' ' || *path > '~')
      return false;
  return true;
}

/* Copies real files to a folder until they need `wanted` bytes of blocks. */
static off_t
stage_files (struct pages *pages, const char *stage, off_t wanted,
             size_t *nr_staged)
{
  struct files files = { 0 };
  char path[PATH_MAX];
  off_t staged = 0;

  list_files (&files, "/usr/bin", any_file);
  list_files (&files, "/usr/lib", any_file);
  list_files (&files, "/usr/share", any_file);
  *nr_staged = 0;
  for (size_t left = files.nr; left > 0 && staged < wanted;) {
    const size_t at = pages_random (pages) % files.nr;

    for (size_t i = at; i < at + NEIGHBOURS && i < files.nr; ++i) {
      struct file *file = &files.items[i];
      const off_t bytes = (file->bytes + PAGE_BYTES - 1) & -PAGE_BYTES;

      if (file->bytes == 0)
        continue;
      file->bytes = 0; /* not again */
      left--;
      /* One large file would be most of a small image. */
      if (bytes > wanted / 8 || !is_plain_name (file->path) ||
          (size_t) snprintf (path, sizeof path, "%s%s", stage, file->path) >=
            sizeof path)
        continue;
      make_parents (path, strlen (stage));
      if (copy_file (file->path, path)) {
        staged += bytes;
        ++*nr_staged;
      }
      if (staged >= wanted)
        break;
    }
  }
  free_files (&files);
  return staged;
}

static FILE *fix_fp; /* nftw passes no argument on */
static size_t fix_stage_len;

/* A line for debugfs: the time of change is no other than that of
 * modification.  Nobody can set it on the files that mke2fs reads.
 */
static int
fix_time (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  const char *inside = path + fix_stage_len;
  intmax_t seconds = st->st_mtime;

  if (ftw->level == 0)
    inside = "/";
  if (type == FTW_DP) { /* all that was in it has been made */
    const struct timespec times[2] = { { atol (IMAGE_TIME), 0 },
                                       { atol (IMAGE_TIME), 0 } };

    seconds = times[1].tv_sec;
    utimensat (AT_FDCWD, path, times, 0);
  }
  fprintf (fix_fp, "sif \"%s\" ctime @%jd\nsif \"%s\" ctime_extra 0\n", inside,
           seconds, inside);
  return 0;
}

static void
write_fixes (const char *path, const char *stage)
{
  if ((fix_fp = fopen (path, "w")) == NULL)
    err (EXIT_FAILURE, "%s", path);
  fix_stage_len = strlen (stage);
  nftw (stage, fix_time, 32, FTW_PHYS | FTW_DEPTH);
  if (fclose (fix_fp) == EOF)
    err (EXIT_FAILURE, "%s", path);
}

static bool
make_image (struct pages *pages, const char *image, const char *stage,
            off_t bytes, size_t nr_files)
{
  char *fixes = scratch_path ("fixes"), uuid[64], extended[96], kib[32],
       inodes[32];
  const char *make[] = { "mke2fs", "-q",  "-F",  "-t",   "ext4", "-b", "4096",
                         "-I",     "256", "-N",  inodes, "-U",   uuid, "-E",
                         extended, "-d",  stage, image,  kib,    NULL };
  const char *fix[] = { "debugfs", "-w", "-f", fixes, image, NULL };
  bool good;

  snprintf (uuid, sizeof uuid, "%08x-0000-4000-8000-%012" PRIx64,
            (unsigned) pages_random (pages), pages_random (pages) >> 16);
  snprintf (extended, sizeof extended, "hash_seed=%s", uuid);
  snprintf (inodes, sizeof inodes, "%zu", 2 * nr_files + 1024);
  /* A quarter is left free, and there is a journal. */
  snprintf (kib, sizeof kib, "%jdk", (intmax_t) (bytes / 3 * 4 / 1024 + 16384));
  setenv ("E2FSPROGS_FAKE_TIME", IMAGE_TIME, 1);
  write_fixes (fixes, stage);
  good = run_program (make, NULL);
  if (good && !run_program (fix, NULL))
    pages_note (pages, "debugfs: not there, or failed: its times of change "
                       "are those of its making");
  unlink (fixes);
  free (fixes);
  return good;
}

void
take_ext4 (struct pages *pages)
{
  char *stage = scratch_path ("stage"), *image = scratch_path ("image");
  const off_t wanted = (off_t) pages->nr_wanted * PAGE_BYTES / 4 * 5;
  struct runs runs = { 0 };
  size_t nr_files;
  struct stat st;
  off_t staged;

  if (!is_program ("mke2fs"))
    pages_note (pages, "mke2fs: not there");
  else if (mkdir (stage, 0755) == -1)
    err (EXIT_FAILURE, "%s", stage);
  else {
    staged = stage_files (pages, stage, wanted, &nr_files);
    if (make_image (pages, image, stage, staged, nr_files) &&
        stat (image, &st) == 0) {
      pages_note (pages,
                  "pages of an ext4 image of %zu files of /usr, "
                  "%jd MiB, made by mke2fs -d",
                  nr_files, (intmax_t) (staged / MIB));
      add_runs_of_file (&runs, image, st.st_size);
      take_runs (pages, &runs);
    }
    else
      pages_note (pages, "mke2fs -d: failed");
  }
  remove_tree (stage);
  unlink (image);
  free (image);
  free (stage);
}
