/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The strata of anonymous memory: what programs that are started here have
 * built up.
 */

#ifndef ZMEM_CORPUS_MEMORY_H
#define ZMEM_CORPUS_MEMORY_H

#include "corpus-pages.h"

void take_compiler (struct pages *pages);
void take_python (struct pages *pages);
void take_node (struct pages *pages);

#endif /* ZMEM_CORPUS_MEMORY_H */
