/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A corpus (bench/corpus), or any file, as pages of 4096 bytes.
 */

#ifndef ZMEM_BENCH_CORPUS_H
#define ZMEM_BENCH_CORPUS_H

#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CORPUS_PAGE_BYTES 4096

/* Mapped for good, and resident.  Without a page, or where it cannot be had,
 * the program ends with a sentence and status 2.
 */
static inline const char *
map_pages (const char *path, uint64_t *nr_pages)
{
  const int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  void *pages;

  if (fd == -1 || fstat (fd, &st) == -1)
    err (2, "the corpus %s", path);
  if (!S_ISREG (st.st_mode) || st.st_size < CORPUS_PAGE_BYTES)
    errx (2, "a corpus is a file of pages of %d bytes, and %s has not one",
          CORPUS_PAGE_BYTES, path);
  *nr_pages = st.st_size / CORPUS_PAGE_BYTES;
  pages = mmap (NULL, *nr_pages * CORPUS_PAGE_BYTES, PROT_READ,
                MAP_SHARED | MAP_POPULATE, fd, 0);
  if (pages == MAP_FAILED)
    err (2, "the corpus %s", path);
  close (fd);
  return pages;
}

#endif /* ZMEM_BENCH_CORPUS_H */
