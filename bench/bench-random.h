/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Seeded random numbers (splitmix64), and a shuffle.
 */

#ifndef ZMEM_BENCH_RANDOM_H
#define ZMEM_BENCH_RANDOM_H

#include <stdint.h>

static inline uint64_t
mix (uint64_t z)
{
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static inline uint64_t
rng (uint64_t *state)
{
  return mix (*state += 0x9e3779b97f4a7c15);
}

/* 0 to nr - 1 in a random order (Fisher and Yates). */
static inline void
shuffle (uint32_t *numbers, uint32_t nr, uint64_t *state)
{
  for (uint32_t i = 0; i < nr; ++i) {
    const uint32_t j = rng (state) % (i + UINT64_C (1));

    numbers[i] = numbers[j];
    numbers[j] = i;
  }
}

#endif /* ZMEM_BENCH_RANDOM_H */
