/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What a corpus is made of, in words and numbers.
 */

#ifndef ZMEM_CORPUS_MANIFEST_H
#define ZMEM_CORPUS_MANIFEST_H

#include <stdint.h>
#include <stdio.h>

/* For the strata as they were taken.  folder: where each has a file of at
 * most nr_each_pages, or NULL.
 */
void print_manifest (FILE *fp, uint64_t seed, const char *folder,
                     size_t nr_each_pages);

#endif /* ZMEM_CORPUS_MANIFEST_H */
