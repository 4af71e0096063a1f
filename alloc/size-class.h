/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Size classes by division: class k cuts a zspage into k equal objects of
 * floor (ZSPAGE_BYTES / k) bytes, rounded down to OBJECT_ALIGN.  Where two k
 * give the same size the larger k wins, so sizes are at least OBJECT_ALIGN
 * apart and nothing smaller than a zspage's last few bytes is lost.
 *
 *   class 0: 16 bytes ... class NR-1: 4096 bytes (raw blocks, page-aligned)
 *
 * Why 256 KiB, and what 64 KiB and 1 MiB cost: docs/ALLOCATOR.
 */

#ifndef ZMEM_SIZE_CLASS_H
#define ZMEM_SIZE_CLASS_H

#include <stddef.h>
#include <stdint.h>

#include "pages.h"

#define ZSPAGE_SHIFT 18
#define ZSPAGE_BYTES ((size_t) 1 << ZSPAGE_SHIFT)
#define ZSPAGE_PAGES (ZSPAGE_BYTES / PAGE_BYTES)

#define OBJECT_ALIGN ((size_t) 16)
#define OBJECT_MIN OBJECT_ALIGN
#define OBJECT_MAX ((size_t) 4096)
#define MAX_OBJECTS_PER_ZSPAGE (ZSPAGE_BYTES / OBJECT_MIN)

#define MAX_SIZE_CLASSES 256

struct size_class {
  uint32_t object_bytes;
  uint32_t nr_objects; /* a zspage */
  uint64_t reciprocal; /* see size_class_slot */
};

struct size_class_table {
  unsigned nr_classes;
  struct size_class classes[MAX_SIZE_CLASSES];
  /* by (size - 1) / OBJECT_ALIGN */
  uint8_t by_size[OBJECT_MAX / OBJECT_ALIGN];
};

/* Immutable after size_class_init, which only the first call runs. */
extern const struct size_class_table *size_class_table (void);

/* The class for an object of `bytes`, 1 <= bytes <= OBJECT_MAX. */
static inline unsigned
size_class_of (const struct size_class_table *table, size_t bytes)
{
  return table->by_size[(bytes - 1) / OBJECT_ALIGN];
}

/* The slot that byte `offset` of a zspage lies in.  A multiplication in
 * place of a division: exact for offset < ZSPAGE_BYTES (checked for every
 * offset and class in tests/test-size-class.c).
 */
static inline unsigned
size_class_slot (const struct size_class *class, size_t offset)
{
  return (offset * class->reciprocal) >> 40;
}

/* The largest size below a whole block that has a class of its own: what
 * compresses to more is better kept raw.
 */
extern size_t size_class_largest_compressed (void);

#endif /* ZMEM_SIZE_CLASS_H */
