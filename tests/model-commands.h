/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Control commands for the model test, at random, through the plugin's parser.
 */

#ifndef ZMEM_MODEL_COMMANDS_H
#define ZMEM_MODEL_COMMANDS_H

#include <stdbool.h>

#include "store.h"
#include "test-util.h"

/* Give one command, or ask once more for the answer of the last one; note an
 * answer that cannot be.  `changes`: also those that change a setting.  One
 * caller.  Returns how many were given: 0 or 1.
 */
extern unsigned model_command (struct store *store, struct rng *rng,
                               bool changes);

#endif /* ZMEM_MODEL_COMMANDS_H */
