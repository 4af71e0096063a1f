/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of size classes; see size-class.h.
 */

#include <config.h>

#include <assert.h>
#include <pthread.h>

#include "size-class.h"

static struct size_class_table table;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static_assert (OBJECT_MAX / OBJECT_ALIGN <= MAX_SIZE_CLASSES,
               "a class index fits its byte");
static_assert (ZSPAGE_BYTES % OBJECT_MAX == 0, "raw blocks waste nothing");

static void
add_class (uint32_t object_bytes)
{
  struct size_class *class = &table.classes[table.nr_classes++];

  class->object_bytes = object_bytes;
  class->nr_objects = ZSPAGE_BYTES / object_bytes;
  class->reciprocal = (UINT64_C (1) << 40) / object_bytes + 1;
}

static void
make_table (void)
{
  uint32_t previous = 0;

  /* More objects first: sizes ascend. */
  for (size_t k = MAX_OBJECTS_PER_ZSPAGE; k >= ZSPAGE_BYTES / OBJECT_MAX; k--) {
    const uint32_t bytes = ZSPAGE_BYTES / k / OBJECT_ALIGN * OBJECT_ALIGN;

    if (bytes > previous)
      add_class (bytes);
    previous = bytes;
  }

  unsigned class_idx = 0;
  for (size_t i = 0; i < OBJECT_MAX / OBJECT_ALIGN; i++) {
    if (table.classes[class_idx].object_bytes < (i + 1) * OBJECT_ALIGN)
      class_idx++;
    table.by_size[i] = class_idx;
  }
}

const struct size_class_table *
size_class_table (void)
{
  pthread_once (&table_once, make_table);
  return &table;
}

size_t
size_class_largest_compressed (void)
{
  const struct size_class_table *t = size_class_table ();

  return t->classes[t->nr_classes - 2].object_bytes;
}
