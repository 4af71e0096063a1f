/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of the Nth failure share: a scene that is played again and
 * again, each time with another call failing, and a disk with data.
 */

#ifndef ZMEM_FAIL_SCENE_H
#define ZMEM_FAIL_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "fail-nth.h"
#include "store-fixture.h"
#include "test-util.h"

#define FAIL_MAX_NTH 5000
#define FAIL_DISK_BYTES (4 * MIB)

/* What is tried with a failing call.  `act` returns 0 or -errno and leaves
 * nothing of what it made; `check` may look at what is there then.
 */
struct scene {
  const char *name;
  int (*act) (void);
  void (*check) (int r, bool failed);
};

/* Calls made to fail until none was left; in whatever thread.  Returns how
 * many.
 */
extern uint64_t fail_each (const struct scene *scene, enum fault_family family);

/* Of an act that gives one. */
extern char sentence[1024];
/* To be a scene's check: an error and a sentence, or neither. */
extern void check_sentence (int r, bool failed);

/* A folder of the test's own, in /tmp; path_in_dir's string is its own until
 * the next call.
 */
extern char dir[];
extern void make_dir (void);
extern void remove_dir (void);
extern char *path_in_dir (const char *name);

/* A disk that has data in every codec. */
extern struct disk disk;
extern struct rng rng;
extern uint8_t *buf; /* FAIL_DISK_BYTES */
extern void open_disk (void);
extern void fill_disk (unsigned nr_writes);
extern void close_disk (void);

/* The end of main, after test_start: run the case, which has a folder.  77
 * where nothing can be made to fail.
 */
struct TCase;
extern int run_fail_tests (const char *name, struct TCase *tcase);

#endif /* ZMEM_FAIL_SCENE_H */
