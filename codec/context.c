/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Contexts lent and taken back, and payloads made and checked with them.
 *
 * Which contexts are free is one word, a bit a context; borrowing is one
 * compare-and-swap, returning one atomic or.  Only who finds none free takes
 * the mutex and sleeps.  Nobody sleeps beside a free context for good:
 *
 *   waiter, under the mutex:  nr_waiters++  (w1)    return:  free |= bit  (r1)
 *                             look at free  (w2)             nr_waiters?  (r2)
 *                             none: sleep   (w3)             > 0: under the
 *                                                            mutex, signal (r3)
 *
 *   All four accesses are sequentially consistent, so either w2 comes after
 *   r1 and sees the bit, or r2 comes after w1 and sees the waiter.  In the
 *   second case r3 cannot fall between w2 and w3, where it would be lost:
 *   the waiter holds the mutex from w1 until it sleeps.  A waiter that is
 *   woken and finds the context gone sleeps again; who has it will return
 *   it, and then finds the waiter counted.
 *
 *   context_pool_set_codec waits for one certain context.  It says so in
 *   `wanted` first: others pass over that bit, and a return that sees it
 *   wakes everybody instead of one, who might be the wrong one.  `wanted` is
 *   cleared once that context is out, and its return is a return like any.
 *
 * Measured on the pages of bench/corpus, checksum and borrowing included
 * (codec-bench FILE -n 8 lz4 zstd:1 none; median ns a block):
 *
 *   lz4:1  encode 4,570  decode 1,130     zstd:1  encode 11,500  decode 4,530
 *   none   encode   490  decode   250
 *
 * Tried and dropped:
 * - Starting the search for a free context at the processor's number, so
 *   that its tables stay in that processor's cache: two threads, a pause of
 *   0 to 16 us between calls, lz4: 4,700 ns against 4,720 from the lowest
 *   bit on, three runs each, less than between runs.
 * - Raw: checking the payload before copying it, not the copy: 640 ns
 *   against 620 (median, payloads out of the cache).
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "codec.h"
#include "context.h"

#define CACHE_LINE_BYTES 64
#define SCRATCH_BYTES (CONTEXT_SCRATCH_BLOCKS * BLOCK_BYTES)

struct context_pool {
  /* This line is what borrowing and returning write. */
  _Alignas(CACHE_LINE_BYTES) _Atomic uint64_t free; /* bit a context */
  _Atomic uint64_t wanted;     /* by set_codec: one bit or none */
  _Atomic unsigned nr_waiters; /* writers hold the mutex */

  _Alignas(CACHE_LINE_BYTES) pthread_mutex_t mutex;
  pthread_cond_t returned;
  _Atomic size_t bytes;
  unsigned nr_contexts;
  /* Guard of these two: the one caller of set_codec. */
  bool started;
  struct codec_spec spec;                /* of all contexts; raw at first */
  struct context contexts[MAX_CONTEXTS]; /* guard: being borrowed */
};

static_assert (MAX_CONTEXTS <= 64, "free has a bit a context");

static inline uint64_t
bit_of (unsigned index)
{
  return UINT64_C (1) << index;
}

/*** Borrow and return ***/

static struct context *
try_borrow (struct context_pool *pool)
{
  uint64_t free_bits = atomic_load (&pool->free);

  for (;;) {
    const uint64_t usable = free_bits & ~atomic_load (&pool->wanted);
    unsigned index;

    if (usable == 0)
      return NULL;
    index = (unsigned) __builtin_ctzll (usable);
    if (atomic_compare_exchange_weak (&pool->free, &free_bits,
                                      free_bits & ~bit_of (index)))
      return &pool->contexts[index];
  }
}

static bool
try_borrow_index (struct context_pool *pool, unsigned index)
{
  return atomic_fetch_and (&pool->free, ~bit_of (index)) & bit_of (index);
}

static struct context *
wait_for_context (struct context_pool *pool)
{
  struct context *context;

  pthread_mutex_lock (&pool->mutex);
  atomic_fetch_add (&pool->nr_waiters, 1);
  while ((context = try_borrow (pool)) == NULL)
    pthread_cond_wait (&pool->returned, &pool->mutex);
  atomic_fetch_sub (&pool->nr_waiters, 1);
  pthread_mutex_unlock (&pool->mutex);
  return context;
}

struct context *
context_borrow (struct context_pool *pool)
{
  struct context *context = try_borrow (pool);

  return context ? context : wait_for_context (pool);
}

/* Borrow this one and no other. */
static struct context *
borrow_index (struct context_pool *pool, unsigned index)
{
  atomic_store (&pool->wanted, bit_of (index));
  pthread_mutex_lock (&pool->mutex);
  atomic_fetch_add (&pool->nr_waiters, 1);
  while (!try_borrow_index (pool, index))
    pthread_cond_wait (&pool->returned, &pool->mutex);
  atomic_fetch_sub (&pool->nr_waiters, 1);
  pthread_mutex_unlock (&pool->mutex);
  atomic_store (&pool->wanted, 0);
  return &pool->contexts[index];
}

static void
wake_waiters (struct context_pool *pool)
{
  pthread_mutex_lock (&pool->mutex);
  if (atomic_load (&pool->wanted))
    pthread_cond_broadcast (&pool->returned);
  else
    pthread_cond_signal (&pool->returned);
  pthread_mutex_unlock (&pool->mutex);
}

void
context_return (struct context_pool *pool, struct context *context)
{
  const uint64_t bit = bit_of (context->index);
  const uint64_t before = atomic_fetch_or (&pool->free, bit);

  assert (!(before & bit));
  (void) before;
  if (atomic_load (&pool->nr_waiters) > 0)
    wake_waiters (pool);
}

/*** Build and rebuild ***/

int
context_pool_create (unsigned nr_contexts, size_t max_payload_bytes,
                     struct context_pool **ret)
{
  struct context_pool *pool;

  if (nr_contexts < 1 || nr_contexts > MAX_CONTEXTS ||
      max_payload_bytes <= CHECKSUM_BYTES || max_payload_bytes >= BLOCK_BYTES)
    return -EINVAL;

  pool = aligned_alloc (CACHE_LINE_BYTES, sizeof *pool);
  if (pool == NULL)
    return -ENOMEM;
  memset (pool, 0, sizeof *pool);
  pthread_mutex_init (&pool->mutex, NULL);
  pthread_cond_init (&pool->returned, NULL);
  pool->nr_contexts = nr_contexts;
  atomic_init (&pool->bytes, sizeof *pool);
  for (unsigned i = 0; i < nr_contexts; i++) {
    pool->contexts[i].index = i;
    pool->contexts[i].max_payload_bytes = (uint32_t) max_payload_bytes;
  }
  pool->spec = (struct codec_spec) { .id = CODEC_RAW };
  *ret = pool;
  return 0;
}

/* Give a context a state of a codec, or with NULL take away what it has:
 * the only place where states and bytes change.
 */
static void
replace_state (struct context_pool *pool, struct context *context,
               enum codec_id id, void *state, size_t bytes)
{
  void *old = context->states[id];
  const size_t old_bytes = context->state_bytes[id];

  context->states[id] = state;
  context->state_bytes[id] = bytes;
  if (old)
    codec_table[id]->free_state (old);
  atomic_fetch_add (&pool->bytes, bytes - old_bytes);
}

void
context_pool_destroy (struct context_pool *pool)
{
  if (pool == NULL)
    return;
  for (unsigned i = 0; i < pool->nr_contexts; i++) {
    struct context *context = &pool->contexts[i];

    for (unsigned id = 0; id < NR_CODECS; id++)
      replace_state (pool, context, (enum codec_id) id, NULL, 0);
    free (context->scratch);
  }
  pthread_cond_destroy (&pool->returned);
  pthread_mutex_destroy (&pool->mutex);
  free (pool);
}

/* The first call's part: scratch, and then raw contexts may be had.  Where
 * it fails, a next call goes on.
 */
static int
start_pool (struct context_pool *pool)
{
  for (unsigned i = 0; i < pool->nr_contexts; i++) {
    struct context *context = &pool->contexts[i];

    if (context->scratch)
      continue;
    context->scratch = aligned_alloc (BLOCK_BYTES, SCRATCH_BYTES);
    if (context->scratch == NULL)
      return -ENOMEM;
    /* Resident from now on, as it is counted. */
    memset (context->scratch, 0, SCRATCH_BYTES);
    atomic_fetch_add (&pool->bytes, SCRATCH_BYTES);
    context->spec = (struct codec_spec) { .id = CODEC_RAW };
  }
  pool->started = true;
  atomic_store (&pool->free, UINT64_MAX >> (64 - pool->nr_contexts));
  return 0;
}

bool
context_pool_needs_states (const struct codec_spec *from,
                           const struct codec_spec *to)
{
  const struct codec_ops *ops = codec_table[to->id];

  return ops->create_state != NULL &&
         (from->id != to->id ||
          (ops->level_in_state && from->level != to->level));
}

/* A state a context, all or none. */
static int
create_states (struct context_pool *pool, const struct codec_spec *spec,
               void *states[MAX_CONTEXTS], size_t *state_bytes)
{
  const struct codec_ops *ops = codec_table[spec->id];

  for (unsigned i = 0; i < pool->nr_contexts; i++) {
    states[i] = ops->create_state (spec->level, state_bytes);
    if (states[i] == NULL) {
      while (i-- > 0)
        ops->free_state (states[i]);
      return -ENOMEM;
    }
  }
  return 0;
}

/* Encode with `spec` from now on; let go of the state for the codec before,
 * if no old block can need it.
 */
static void
switch_spec (struct context_pool *pool, struct context *context,
             const struct codec_spec *spec)
{
  const enum codec_id old_id = context->spec.id;

  context->spec = *spec;
  if (old_id != spec->id && !codec_table[old_id]->decode_needs_state)
    replace_state (pool, context, old_id, NULL, 0);
}

/* Three rounds: make all new states, so that what can fail does so while
 * nothing has changed; hand them out; and only then, when every context can
 * decode what the new codec encodes, switch to it.
 */
int
context_pool_set_codec (struct context_pool *pool,
                        const struct codec_spec *spec)
{
  int r = pool->started ? 0 : start_pool (pool);

  if (r < 0)
    return r;
  if (context_pool_needs_states (&pool->spec, spec)) {
    void *states[MAX_CONTEXTS];
    size_t state_bytes;

    r = create_states (pool, spec, states, &state_bytes);
    if (r < 0)
      return r;
    for (unsigned i = 0; i < pool->nr_contexts; i++) {
      struct context *context = borrow_index (pool, i);

      replace_state (pool, context, spec->id, states[i], state_bytes);
      context_return (pool, context);
    }
  }
  for (unsigned i = 0; i < pool->nr_contexts; i++) {
    struct context *context = borrow_index (pool, i);

    switch_spec (pool, context, spec);
    context_return (pool, context);
  }
  pool->spec = *spec;
  return 0;
}

size_t
context_pool_bytes (struct context_pool *pool)
{
  return atomic_load_explicit (&pool->bytes, memory_order_relaxed);
}

/*** Payloads ***/

/* Encode with this codec, checksum right behind; false: does not fit. */
static bool
encode_payload (struct context *context, enum codec_id id, void *scratch,
                const void *block, struct payload *payload)
{
  const size_t max_bytes = context->max_payload_bytes - CHECKSUM_BYTES;
  const size_t bytes =
    codec_table[id]->encode (context->states[id], context->spec.level, block,
                             scratch, max_bytes);
  uint32_t checksum;

  if (bytes == 0)
    return false;
  assert (bytes <= max_bytes);
  checksum = checksum_payload (scratch, bytes);
  memcpy ((uint8_t *) scratch + bytes, &checksum, CHECKSUM_BYTES);
  *payload = (struct payload) {
    .codec = id,
    .bytes = (uint32_t) bytes + CHECKSUM_BYTES,
    .data = scratch,
  };
  return true;
}

void
context_encode (struct context *context, unsigned scratch_idx,
                const void *block, bool repeat64, struct payload *payload)
{
  void *scratch = context->scratch[scratch_idx];

  assert (scratch_idx < CONTEXT_SCRATCH_BLOCKS);
  if (repeat64 &&
      encode_payload (context, CODEC_REPEAT, scratch, block, payload))
    return;
  if (context->spec.id != CODEC_RAW &&
      encode_payload (context, context->spec.id, scratch, block, payload))
    return;
  *payload = (struct payload) {
    .codec = CODEC_RAW,
    .bytes = BLOCK_BYTES,
    .data = block,
    .checksum = checksum_raw_block (block, BLOCK_BYTES),
  };
}

/* The copy is checked, not the original: it is in the cache, and it is what
 * the client gets.
 */
static int
decode_raw (const void *data, size_t bytes, uint32_t checksum, void *block)
{
  if (!codec_raw_ops.decode (NULL, data, bytes, block) ||
      checksum_raw_block (block, BLOCK_BYTES) != checksum)
    return -EIO;
  return 0;
}

static bool
payload_is_possible (enum codec_id codec, size_t bytes)
{
  return (unsigned) codec < MAX_CODECS && codec_table[codec] != NULL &&
         bytes > CHECKSUM_BYTES && bytes < BLOCK_BYTES;
}

/* Of an encoded payload; its checksum is behind it. */
static bool
checksum_is_right (const void *data, size_t encoded_bytes, uint32_t binding)
{
  uint32_t checksum;

  memcpy (&checksum, (const uint8_t *) data + encoded_bytes, CHECKSUM_BYTES);
  return (checksum_payload (data, encoded_bytes) ^ binding) == checksum;
}

void
payload_bind (struct payload *payload, uint32_t binding)
{
  uint32_t checksum;
  uint8_t *at;

  if (payload->codec == CODEC_RAW)
    return;
  at = (uint8_t *) (uintptr_t) payload->data + payload->bytes - CHECKSUM_BYTES;
  memcpy (&checksum, at, CHECKSUM_BYTES);
  checksum ^= binding;
  memcpy (at, &checksum, CHECKSUM_BYTES);
}

int
payload_check (enum codec_id codec, const void *data, size_t bytes,
               uint32_t checksum)
{
  if (codec == CODEC_RAW)
    return bytes == BLOCK_BYTES && checksum_raw_block (data, bytes) == checksum
             ? 0
             : -EIO;
  return payload_is_possible (codec, bytes) &&
             checksum_is_right (data, bytes - CHECKSUM_BYTES, checksum)
           ? 0
           : -EIO;
}

int
payload_decode (struct context *context, enum codec_id codec, const void *data,
                size_t bytes, uint32_t checksum, void *block)
{
  const struct codec_ops *ops;
  void *state = NULL;
  size_t encoded_bytes;

  if (codec == CODEC_RAW)
    return decode_raw (data, bytes, checksum, block);

  if (!payload_is_possible (codec, bytes))
    return -EIO;
  ops = codec_table[codec];
  if (ops->decode_needs_state && context == NULL)
    return -EAGAIN;
  encoded_bytes = bytes - CHECKSUM_BYTES;
  if (!checksum_is_right (data, encoded_bytes, checksum))
    return -EIO;

  if (ops->decode_needs_state) {
    state = context->states[codec];
    if (state == NULL)
      return -EIO; /* nobody encoded this */
  }
  return ops->decode (state, data, encoded_bytes, block) ? 0 : -EIO;
}
