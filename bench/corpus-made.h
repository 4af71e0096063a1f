/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The strata for which programs make something of real files: packages and
 * an ext4 image.
 */

#ifndef ZMEM_CORPUS_MADE_H
#define ZMEM_CORPUS_MADE_H

#include "corpus-pages.h"

void take_packages (struct pages *pages);
void take_ext4 (struct pages *pages);

#endif /* ZMEM_CORPUS_MADE_H */
