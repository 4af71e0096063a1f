/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the store registers with the compactor: moving one block's object,
 * under the try-locked group of its block.  The opaque pointer is the store;
 * an owner is a block's number.
 */

#ifndef ZMEM_RELOCATE_H
#define ZMEM_RELOCATE_H

#include "compactor.h"

extern const struct compact_ops relocate_ops;

#endif /* ZMEM_RELOCATE_H */
