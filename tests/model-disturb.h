/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What disturbs the model test; each call a few requests, any thread.
 */

#ifndef ZMEM_MODEL_DISTURB_H
#define ZMEM_MODEL_DISTURB_H

#include "store.h"
#include "test-util.h"

/* Ask for statistics and extents, and note answers that cannot be. */
extern void disturb_with_questions (struct store *store, struct rng *rng);

/* Change the codec, or move the limit about what is held, at times. */
extern void disturb_with_changes (struct store *store, struct rng *rng);

#endif /* ZMEM_MODEL_DISTURB_H */
