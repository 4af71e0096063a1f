/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Codec contexts: the mutable half of a codec, borrowed for one call.
 *
 * A pool of about two a processor (nbdkit runs 16 threads a connection; a
 * context a thread would cost what the disk saves).  A context knows the
 * codec that new blocks are encoded with; changing the codec means
 * borrowing each context in turn and rebuilding it, so nothing dangles and
 * a write that has a context goes on with the codec that it started with.
 * A state that only decodes (zstd, after a change to lz4) stays, since old
 * blocks keep their codec.
 *
 * Lock order: a borrowed context ranks outside of the group locks
 * (LOCK_CONTEXT): borrow before taking one, and never two.
 */

#ifndef ZMEM_CONTEXT_H
#define ZMEM_CONTEXT_H

#include "codec.h"

/* The blocks whose payloads one borrower may keep in scratch at once. */
#define CONTEXT_SCRATCH_BLOCKS 16

#define MAX_CONTEXTS 64

struct context {
  struct codec_spec spec; /* what new blocks are encoded with */
  void *states[MAX_CODECS];
  size_t state_bytes[MAX_CODECS];
  unsigned index; /* in its pool */
  uint32_t max_payload_bytes;
  /* Payloads before they have a place in the pool of objects. */
  uint8_t (*scratch)[BLOCK_BYTES];
};

struct context_pool;

/* Scratch and states are allocated by the first context_pool_set_codec, so
 * that this may run before a fork.  nr_contexts: 1 to MAX_CONTEXTS.
 * max_payload_bytes: the longest payload, checksum included, that is better
 * than a raw block, at most BLOCK_BYTES - 1 (its size is a 12-bit field of
 * an entry).  0, -EINVAL where these are out of range, or -ENOMEM.
 */
extern int context_pool_create (unsigned nr_contexts, size_t max_payload_bytes,
                                struct context_pool **ret);
/* Every context must have been returned.  NULL: does nothing. */
extern void context_pool_destroy (struct context_pool *pool);

/* Rebuild every context for `spec`; also the first build, before which
 * nothing can be borrowed.  No context encodes with a new codec before all
 * can decode it.  Waits for contexts to be returned, each in turn, and so
 * must not be called with one in hand.  0, or -ENOMEM: then nothing has
 * changed (of a first build: raw, or it is to be called again).  One caller
 * at a time.  Old states are freed after the new ones are made.
 */
extern int context_pool_set_codec (struct context_pool *pool,
                                   const struct codec_spec *spec);

/* Does a change between these two codecs make new states? */
extern bool context_pool_needs_states (const struct codec_spec *from,
                                       const struct codec_spec *to);

/* Bytes that contexts occupy, scratch and states.  Any thread, any time. */
extern size_t context_pool_bytes (struct context_pool *pool);

/* Does decoding this codec need a borrowed context? */
static inline bool
codec_decode_needs_context (enum codec_id id)
{
  return codec_table[id] != NULL && codec_table[id]->decode_needs_state;
}

/* Waits while all are out. */
extern struct context *context_borrow (struct context_pool *pool);
extern void context_return (struct context_pool *pool, struct context *context);

/* A payload: what `encode` made of a block. */
struct payload {
  enum codec_id codec;
  uint32_t bytes;    /* checksum included; BLOCK_BYTES if raw */
  const void *data;  /* scratch, or for raw the block itself */
  uint32_t checksum; /* raw only: 24 bits, goes into the entry */
};

/* Encode one block that is not same-filled by a 32-bit pattern.
 * `repeat64`: it repeats its first 8 bytes.  `scratch_idx` chooses the
 * piece of scratch that payload->data then points into; it is good until
 * the context is returned or that piece is used again.  Never fails: what
 * does not compress becomes raw, and then payload->data is `block`.
 */
extern void context_encode (struct context *context, unsigned scratch_idx,
                            const void *block, bool repeat64,
                            struct payload *payload);

/* Bind an encoded payload to where it belongs: its checksum, in scratch, is
 * XORed with this.  Of a raw one: does nothing.
 */
extern void payload_bind (struct payload *payload, uint32_t binding);

/* Is a payload as it was encoded?  By its checksum alone.  `checksum`: for
 * raw, the whole of it, the entry's; for others what it was bound to, or 0.
 * 0, or -EIO.
 */
extern int payload_check (enum codec_id codec, const void *data, size_t bytes,
                          uint32_t checksum);

/* Check, then decode a payload into BLOCK_BYTES at `block`; `checksum` as for
 * payload_check.  0, or -EIO: damaged, the content of `block` is
 * then undefined.  `context` may be NULL; -EAGAIN: this codec needs one.
 */
extern int payload_decode (struct context *context, enum codec_id codec,
                           const void *data, size_t bytes, uint32_t checksum,
                           void *block);

#endif /* ZMEM_CONTEXT_H */
