/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The stratum "database": pages of an SQLite file under churn.
 */

#ifndef ZMEM_CORPUS_DATABASE_H
#define ZMEM_CORPUS_DATABASE_H

#include "corpus-pages.h"

void take_database (struct pages *pages);

#endif /* ZMEM_CORPUS_DATABASE_H */
