/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Make a corpus: a file of real 4 KiB pages to measure with.
 *
 *   corpus -o FILE -s MIB [--seed N] [--strata DIR [--strata-mib N]]
 *
 * A compressed RAM disk is worth what it makes of the pages that people
 * really swap and store, so the corpus is taken from the machine that it is
 * made on, and mixed:
 *
 *   stratum    share  from
 *   packages      8%  tar of libraries and headers through xz and gzip; where
 *                     neither is, a generator of random numbers
 *   ext4          7%  an image of real files, made by mke2fs -d
 *   database      6%  an SQLite file under churn
 *   sources       8%  whole pages of source and text files of /usr/include,
 *                     /usr/share
 *   cc1          16%  anonymous writable memory that programs started here
 *   python       19%    have built up (/proc/PID/mem of children)
 *   node         15%
 *   libs         12%  whole pages of shared objects of /usr/lib
 *   duplicate     2%  copies of pages above
 *   same          7%  one 64-bit period; most of them zeros
 *
 * A program that is not installed, or too small, leaves what it lacks to the
 * next stratum; libs is the last that takes any.  Strata of real pages keep
 * no same-filled page and no second copy, so that those shares are what they
 * say.
 *
 * Neighbours compress and die alike, so real pages stay together in runs of
 * RUN_PAGES; the runs are shuffled.  With one seed and one size, all but the
 * anonymous memory comes out the same on one machine; that does not
 * (addresses, timing).
 *
 * --strata writes each real stratum by itself, to DIR/STRATUM, in the order
 * in which it was taken: N MiB of each [16], or what there is; of these the
 * mix has the first, as far as its share goes.
 *
 * A manifest goes to stdout and to FILE.manifest: what the strata were taken
 * from and what was missing, how many pages each has, and what lz4 and zstd:1
 * make of them one by one.
 *
 * Nothing else is left, nor anything at all after an error or a signal: an
 * output has its name once it is whole, and FILE gets its name last.
 *
 *   corpus.c           options and outputs
 *   corpus-strata.c    the table of strata
 *   corpus-files.c, -made.c, -database.c, -memory.c  what they are taken from
 *   corpus-pages.c     pages, each taken once
 *   corpus-manifest.c
 *   corpus-children.c  programs, the private folder, and their end
 *
 * Link with -llz4 -lzstd.
 */

#define _GNU_SOURCE

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench-random.h"
#include "corpus-children.h"
#include "corpus-manifest.h"
#include "corpus-pages.h"
#include "corpus-strata.h"

#define MAX_MIB 65536
#define DEFAULT_STRATA_MIB 16

static const char *output, *strata_folder;
static size_t nr_mix_pages, nr_each_pages; /* 0: no strata */
static uint64_t seed = 1;
static bool folder_is_ours; /* it was not there before */

/*--- Outputs: NAME.part until it is whole. ---*/

static char *
concat (const char *a, const char *b, const char *c)
{
  char *all;

  if (asprintf (&all, "%s%s%s", a, b, c) == -1)
    err (EXIT_FAILURE, "asprintf");
  return all;
}

static FILE *
open_part (const char *path)
{
  char *part = concat (path, ".part", "");
  FILE *fp = fopen (part, "w");

  if (fp == NULL)
    err (EXIT_FAILURE, "%s", part);
  free (part);
  return fp;
}

static void
close_part (FILE *fp, const char *path)
{
  char *part = concat (path, ".part", "");
  const bool failed = ferror (fp);

  if (fclose (fp) == EOF || failed || rename (part, path) == -1)
    err (EXIT_FAILURE, "%s", path);
  free (part);
}

static void
remove_part (const char *path)
{
  char *part = concat (path, ".part", "");

  unlink (part);
  free (part);
}

static void
remove_outputs (void)
{
  char *manifest = concat (output, ".manifest", "");

  remove_part (output);
  remove_part (manifest);
  free (manifest);
  for (const struct stratum *s = strata; strata_folder && s->real; ++s) {
    char *path = concat (strata_folder, "/", s->name);

    remove_part (path);
    if (folder_is_ours)
      unlink (path);
    free (path);
  }
  if (folder_is_ours)
    rmdir (strata_folder);
}

/* What cannot be written is told before the work, not after it. */
static void
try_outputs (void)
{
  struct stat st;

  if (stat (output, &st) == 0 && !S_ISREG (st.st_mode))
    errx (EXIT_FAILURE, "%s is no regular file, so it is not replaced", output);
  fclose (open_part (output));
  if (strata_folder == NULL)
    return;
  folder_is_ours = mkdir (strata_folder, 0777) == 0;
  if (!folder_is_ours &&
      (errno != EEXIST || stat (strata_folder, &st) == -1 ||
       !S_ISDIR (st.st_mode) || access (strata_folder, W_OK) == -1)) {
    warnx ("--strata %s: neither is it a folder that can be written to, nor "
           "can one be made",
           strata_folder);
    remove_part (output);
    exit (EXIT_FAILURE);
  }
}

/*--- The work. ---*/

static void
write_pages (FILE *fp, const struct pages *pages, size_t first, size_t nr)
{
  if (fwrite (pages->data + first * PAGE_BYTES, PAGE_BYTES, nr, fp) != nr)
    err (EXIT_FAILURE, "write");
}

static void
write_shuffled (FILE *fp)
{
  struct {
    const struct pages *pages;
    size_t first, nr;
  } *runs = allocate (nr_mix_pages, sizeof *runs);
  uint64_t state = mix (seed);
  size_t nr_runs = 0;

  for (const struct stratum *s = strata; s < strata + NR_STRATA; ++s)
    for (size_t n = 0; n < s->nr_mixed; n += s->run_pages) {
      const size_t left = s->nr_mixed - n;

      runs[nr_runs].pages = &s->pages;
      runs[nr_runs].first = n;
      runs[nr_runs++].nr = left < s->run_pages ? left : s->run_pages;
    }
  while (nr_runs > 0) {
    const size_t pick = rng (&state) % nr_runs;

    write_pages (fp, runs[pick].pages, runs[pick].first, runs[pick].nr);
    runs[pick] = runs[--nr_runs];
  }
  free (runs);
}

static void
write_strata (void)
{
  for (const struct stratum *s = strata; s->real; ++s) {
    char *path = concat (strata_folder, "/", s->name);
    FILE *fp = open_part (path);

    write_pages (fp, &s->pages, 0,
                 s->pages.nr < nr_each_pages ? s->pages.nr : nr_each_pages);
    close_part (fp, path);
    free (path);
  }
}

static void
write_manifest (void)
{
  char *path = concat (output, ".manifest", ""), *text;
  FILE *fp = open_part (path), *memory;
  size_t bytes;

  if ((memory = open_memstream (&text, &bytes)) == NULL)
    err (EXIT_FAILURE, "open_memstream");
  print_manifest (memory, seed, strata_folder, nr_each_pages);
  fclose (memory);
  fputs (text, fp);
  close_part (fp, path);
  fputs (text, stdout);
  free (text);
  free (path);
}

static void
make_corpus (void)
{
  FILE *fp;

  take_strata (nr_mix_pages, nr_each_pages, seed);
  if (strata_folder)
    write_strata ();
  write_manifest ();
  fp = open_part (output);
  write_shuffled (fp);
  close_part (fp, output);
  free_strata ();
}

/*--- Options. ---*/

static void __attribute__ ((noreturn)) usage (void)
{
  fprintf (stderr, "usage: corpus -o FILE -s MIB [--seed N] "
                   "[--strata DIR [--strata-mib N]]\n");
  exit (2);
}

static uint64_t
parse_number (const char *option, const char *text, uint64_t least,
              uint64_t most)
{
  uint64_t number;
  char *end;

  errno = 0;
  number = strtoull (text, &end, 0);
  if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' ||
      number < least || number > most) {
    warnx ("%s %s: must be a number from %" PRIu64 " to %" PRIu64, option, text,
           least, most);
    exit (2);
  }
  return number;
}

static void
parse_options (int argc, char *argv[])
{
  static const struct option options[] = {
    { "output", required_argument, NULL, 'o' },
    { "size", required_argument, NULL, 's' },
    { "seed", required_argument, NULL, 'r' },
    { "strata", required_argument, NULL, 'd' },
    { "strata-mib", required_argument, NULL, 'm' },
    { NULL, 0, NULL, 0 },
  };
  size_t mib = 0, strata_mib = 0;
  int c;

  while ((c = getopt_long (argc, argv, "o:s:", options, NULL)) != -1)
    switch (c) {
    case 'o':
      output = optarg;
      break;
    case 's':
      mib = parse_number ("-s", optarg, 1, MAX_MIB);
      break;
    case 'r':
      seed = parse_number ("--seed", optarg, 0, UINT64_MAX);
      break;
    case 'd':
      strata_folder = optarg;
      break;
    case 'm':
      strata_mib = parse_number ("--strata-mib", optarg, 1, MAX_MIB);
      break;
    default:
      usage ();
    }
  if (optind != argc)
    warnx ("%s: an argument too many", argv[optind]);
  else if (output == NULL)
    warnx ("-o FILE is missing: where the corpus goes");
  else if (mib == 0)
    warnx ("-s MIB is missing: how large the corpus is to be");
  else if (strata_mib && strata_folder == NULL)
    warnx ("--strata-mib needs --strata DIR: where the strata go");
  else {
    nr_mix_pages = mib * PAGES_PER_MIB;
    if (strata_folder)
      nr_each_pages =
        (strata_mib ? strata_mib : DEFAULT_STRATA_MIB) * PAGES_PER_MIB;
    return;
  }
  usage ();
}

int
main (int argc, char *argv[])
{
  parse_options (argc, argv);
  try_outputs ();
  do_guarded (make_corpus, remove_outputs);
  return EXIT_SUCCESS;
}
