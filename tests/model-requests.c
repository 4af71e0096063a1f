/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests of the model test; see model-requests.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "model-requests.h"

struct model model;

#define MODEL_KIND_NAME(name, text) text,
const char *const model_kind_names[NR_MODEL_KINDS] = { MODEL_KINDS (
  MODEL_KIND_NAME) };

/*--------------------------------------------------------------------*/
/* Ranges of a thread's own. */

static struct stripe
choose_range (struct model_thread *thread)
{
  const struct stripe *stripe =
    &thread->stripes[rng_below (&thread->rng, thread->nr_stripes)];
  const uint64_t bytes = stripe->end - stripe->start;
  uint64_t n =
    rng_size (&thread->rng, bytes < MAX_REQUEST ? bytes : MAX_REQUEST);
  struct stripe range;

  /* All of a stripe and whole blocks are more likely than chance. */
  if (bytes <= MAX_REQUEST && rng_once_in (&thread->rng, 8))
    n = bytes;
  range.start = stripe->start + rng_below (&thread->rng, bytes - n + 1);
  range.end = range.start + n;
  if (rng_once_in (&thread->rng, 3)) {
    const uint64_t start = (range.start + 4095) & ~UINT64_C (4095);
    const uint64_t end = (range.end + 4095) & ~UINT64_C (4095);
    if (start < end && end <= stripe->end)
      range = (struct stripe) { start, end };
    if (range.end - range.start > MAX_REQUEST)
      range.end -= 4096;
  }
  return range;
}

void
model_note_difference (const char *what, const uint8_t *is, const uint8_t *was,
                       uint64_t count, uint64_t offset)
{
  uint64_t i = 0;

  while (i < count && is[i] == was[i])
    ++i;
  test_note_failure ("%s of %" PRIu64 " at %" PRIu64 ": byte %" PRIu64
                     " of the disk is %02x, not %02x",
                     what, count, offset, offset + i, is[i], was[i]);
}

/* Read a range of one's own, and perhaps more of the disk around it, of
 * which one knows nothing.
 */
static void
do_read (struct model_thread *thread, struct stripe range)
{
  uint64_t start = range.start, end = range.end;
  int r;

  if (rng_once_in (&thread->rng, 3)) {
    const uint64_t room = MAX_REQUEST - (end - start);
    const uint64_t before = rng_below (&thread->rng, room / 2 + 1);
    const uint64_t after = rng_below (&thread->rng, room / 2 + 1);
    start -= before < start ? before : start;
    end += after < model.size - end ? after : model.size - end;
  }
  r = store_read (model.store, thread->back, end - start, start);
  ++thread->nr_done[MODEL_READ];
  if (r != 0)
    test_note_failure ("read of %" PRIu64 " at %" PRIu64 " gave %d",
                       end - start, start, r);
  else if (memcmp (thread->back + (range.start - start),
                   model.shadow + range.start, range.end - range.start) != 0)
    model_note_difference ("read", thread->back + (range.start - start),
                           model.shadow + range.start, range.end - range.start,
                           range.start);
  else
    ++thread->nr_passed;
}

/* After an error, or a trim at the limit: each block's part of the range is
 * old or new; take it as it is.
 */
static void
take_old_or_new (struct model_thread *thread, struct stripe range)
{
  const uint64_t count = range.end - range.start;
  const int r = store_read (model.store, thread->back, count, range.start);

  if (r != 0) {
    test_note_failure ("read after an error gave %d", r);
    return;
  }
  for (uint64_t i = 0; i < count;) {
    const uint64_t left = 4096 - (range.start + i) % 4096;
    const uint64_t n = left < count - i ? left : count - i;

    if (memcmp (thread->back + i, thread->buf + i, n) != 0 &&
        memcmp (thread->back + i, model.shadow + range.start + i, n) != 0) {
      test_note_failure ("block %" PRIu64 " is neither old nor new",
                         (range.start + i) / 4096);
      return;
    }
    i += n;
  }
  memcpy (model.shadow + range.start, thread->back, count);
}

/* The request has been made: thread->buf is what the range should hold. */
static void
settle_result (struct model_thread *thread, struct stripe range, int r,
               bool may_stay, const char *what)
{
  const uint64_t count = range.end - range.start;

  if (r == 0 && !may_stay)
    memcpy (model.shadow + range.start, thread->buf, count);
  else if (r == 0 || (r == -ENOSPC && !model.calm)) {
    thread->nr_done[MODEL_REFUSED] += r != 0;
    take_old_or_new (thread, range);
  }
  else {
    test_note_failure ("%s of %" PRIu64 " at %" PRIu64 " gave %d", what, count,
                       range.start, r);
    take_old_or_new (thread, range);
  }
  ++thread->nr_passed;
  if (rng_once_in (&thread->rng, 4))
    do_read (thread, range);
}

static void
do_write (struct model_thread *thread, struct stripe range)
{
  const uint64_t count = range.end - range.start;

  ++thread->nr_done[MODEL_WRITE];
  make_range (&thread->rng, thread->buf, count, range.start);
  settle_result (thread, range,
                 store_write (model.store, thread->buf, count, range.start),
                 false, "write");
}

static void
do_zero (struct model_thread *thread, struct stripe range, bool may_punch)
{
  const uint64_t count = range.end - range.start;

  ++thread->nr_done[may_punch ? MODEL_PUNCH : MODEL_ZERO];
  memset (thread->buf, 0, count);
  settle_result (thread, range,
                 store_zero (model.store, count, range.start, may_punch), false,
                 "zero");
}

/* The blocks of a range that lie wholly in it: [first, end) in bytes.  False:
 * none does.  What they are is known exactly: no other thread changes them.
 */
static bool
whole_blocks (struct stripe range, struct stripe *ret)
{
  ret->start = (range.start + 4095) & ~UINT64_C (4095);
  ret->end = range.end & ~UINT64_C (4095);
  return ret->start < ret->end;
}

struct extents {
  uint64_t next;
  bool holes; /* nothing else is right */
};

/* A block is data exactly if it is not zero: zeros become no object, however
 * they come about.
 */
static int
compare_extent (void *opaque, uint64_t offset, uint64_t count,
                enum extent_kind kind)
{
  struct extents *extents = opaque;

  if (offset != extents->next || count == 0)
    test_note_failure ("extent at %" PRIu64 ", not at %" PRIu64, offset,
                       extents->next);
  if (extents->holes && kind != EXTENT_HOLE)
    test_note_failure ("extent at %" PRIu64 " is %d, no hole", offset, kind);
  for (uint64_t at = offset; at < offset + count; at += 4096)
    if (is_all_zero (model.shadow + at, 4096) == (kind == EXTENT_DATA)) {
      test_note_failure ("extent at %" PRIu64 " is %d, but block %" PRIu64
                         " is not",
                         offset, kind, at / 4096);
      break;
    }
  extents->next = offset + count;
  return 0;
}

static void
do_extents (struct model_thread *thread, struct stripe range, bool holes)
{
  struct extents extents = { .holes = holes };
  struct stripe whole;
  int r;

  if (!whole_blocks (range, &whole))
    return;
  extents.next = whole.start;
  r = store_extents (model.store, whole.end - whole.start, whole.start, false,
                     compare_extent, &extents);
  if (r != 0 || extents.next != whole.end)
    test_note_failure ("extents of %" PRIu64 " at %" PRIu64
                       ": %d, end at %" PRIu64,
                       whole.end - whole.start, whole.start, r, extents.next);
  else
    ++thread->nr_passed;
  ++thread->nr_done[MODEL_EXTENTS];
}

/* Whole blocks read as zeros afterwards, whatever the limit; edges may stay
 * where the limit forbids to write them.
 */
static void
do_trim (struct model_thread *thread, struct stripe range)
{
  const uint64_t count = range.end - range.start;
  const int r = store_trim (model.store, count, range.start);
  struct stripe whole;

  ++thread->nr_done[MODEL_TRIM];
  if (whole_blocks (range, &whole)) {
    const uint64_t bytes = whole.end - whole.start;
    if (store_read (model.store, thread->back, bytes, whole.start) != 0 ||
        !is_all_zero (thread->back, bytes))
      test_note_failure ("trim of %" PRIu64 " at %" PRIu64 " left something",
                         count, range.start);
    memset (model.shadow + whole.start, 0, bytes);
    if (rng_once_in (&thread->rng, 4))
      do_extents (thread, whole, true);
  }
  memset (thread->buf, 0, count);
  settle_result (thread, range, r, !model.calm, "trim");
}

void
model_request (struct model_thread *thread)
{
  const struct stripe range = choose_range (thread);

  switch (rng_below (&thread->rng, 17)) {
  case 0:
  case 1:
    do_trim (thread, range);
    break;
  case 2:
    do_zero (thread, range, true);
    break;
  case 3:
    do_zero (thread, range, false);
    break;
  case 4:
  case 5:
  case 6:
  case 7:
  case 8:
    do_read (thread, range);
    break;
  case 9:
    do_extents (thread, range, false);
    break;
  default:
    do_write (thread, range);
  }
}
