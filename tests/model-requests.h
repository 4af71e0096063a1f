/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What a thread of the model test does: requests of every kind, at random,
 * within stripes of the disk that are its own, and a flat array that knows
 * what these hold.
 */

#ifndef ZMEM_MODEL_REQUESTS_H
#define ZMEM_MODEL_REQUESTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store.h"
#include "test-util.h"

#define MAX_REQUEST MIB

/* What all threads share. */
struct model {
  struct store *store;
  uint8_t *shadow; /* each byte: guard: its stripe's owner */
  uint64_t size;
  bool calm; /* no error is allowed */
};
extern struct model model;

/* A cache or flush request has nothing to do, and no call in the store. */
/* clang-format off */
#define MODEL_KINDS(X)                \
  X (READ, "read")                    \
  X (WRITE, "write")                  \
  X (TRIM, "trim")                    \
  X (PUNCH, "zero, may punch")        \
  X (ZERO, "zero")                    \
  X (EXTENTS, "extents")              \
  X (COMMAND, "command")              \
  X (REFUSED, "refused at the limit")
/* clang-format on */
#define MODEL_KIND(name, text) MODEL_##name,
enum model_kind { MODEL_KINDS (MODEL_KIND) NR_MODEL_KINDS };
extern const char *const model_kind_names[NR_MODEL_KINDS];

struct stripe {
  uint64_t start, end;
};

struct model_thread {
  pthread_t thread;
  struct rng rng;
  struct stripe *stripes;
  unsigned nr_stripes;
  uint8_t *buf;  /* MAX_REQUEST: what is written */
  uint8_t *back; /* and what is read */
  uint64_t nr_passed;
  uint64_t nr_done[NR_MODEL_KINDS];
};

/* One request, and perhaps a look at what it did. */
extern void model_request (struct model_thread *thread);

/* Note where two ranges differ. */
extern void model_note_difference (const char *what, const uint8_t *is,
                                   const uint8_t *was, uint64_t count,
                                   uint64_t offset);

#endif /* ZMEM_MODEL_REQUESTS_H */
