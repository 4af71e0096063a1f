/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Decisions of compaction; see policy.h.
 *
 * Three things keep it from working for nothing:
 *   - A run that is under way goes on at a lower level than one begins at.
 *   - What a run has left (it would cost more to move than it returns, or
 *     was busy) does not count again: the next one begins when there is
 *     WORTH_BYTES more.  That is learned at a look that nothing was freed
 *     before, so it cannot swallow what was just trimmed.
 *   - Where nothing was freed since such a run, none begins at all.
 *
 * Why trimmed memory comes back (G2): what is trimmed makes R grow, and the
 * quiet look that follows begins a run if R passes both POLICY_LOW_BYTES and
 * what was left + WORTH_BYTES.  Either is below 1 MiB above what the last
 * run left.
 */

#include <config.h>

#include "policy.h"
#include "pool-move.h"

/* What a run should return, at the least. */
#define WORTH_BYTES (POLICY_LOW_BYTES / 4)

static uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static uint64_t
max_u64 (uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

static uint64_t
pages_of (uint64_t bytes)
{
  return (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
}

uint64_t
policy_reclaimable (const struct pool_class_stats *class)
{
  const uint64_t bytes = class->object_bytes;
  const uint64_t per_zspage = class->objects_per_zspage;
  const uint64_t kept =
    class->nr_inuse / per_zspage * pages_of (per_zspage * bytes) +
    pages_of (class->nr_inuse % per_zspage * bytes);
  const uint64_t resident = class->resident_bytes / PAGE_BYTES;

  const uint64_t ahead = class->ahead_bytes / PAGE_BYTES;

  return resident > kept + ahead ? (resident - kept - ahead) * PAGE_BYTES : 0;
}

int
policy_choose_class (const uint64_t *reclaimable_bytes, unsigned nr_classes,
                     const bool *done)
{
  uint64_t most = 0;
  int chosen = -1;

  for (unsigned i = 0; i < nr_classes; i++)
    if (!done[i] && reclaimable_bytes[i] > most) {
      most = reclaimable_bytes[i];
      chosen = (int) i;
    }
  return chosen;
}

/* A pack that costs no more than it gains leaves copied <= returned as it
 * was, also where the run is behind (objects that were busy); one that costs
 * more may use up what the run is ahead, no further.
 */
bool
policy_pack_pays (const struct pool_source *source, uint32_t object_bytes,
                  int64_t credit)
{
  const int64_t gain =
    (int64_t) source->nr_resident_pages - (int64_t) source->nr_packed_pages;
  const uint64_t nr_moves =
    max_u64 (source->nr_slots_elsewhere, source->nr_to_pack);
  const int64_t cost = (int64_t) (nr_moves * object_bytes);

  return gain > (int64_t) source->nr_free_pages &&
         cost <= gain * (int64_t) PAGE_BYTES + (credit > 0 ? credit : 0);
}

/*--------------------------------------------------------------------*/

/* What has changed since the last look. */
struct news {
  bool freed, discarded;
};

static struct news
take_news (struct policy_state *state, const struct policy_input *input)
{
  struct news news = { .freed = input->nr_frees != state->nr_frees };

  /* What was trimmed before the first look is nobody's debt: should it not
   * have come back, a quiet look finds it.
   */
  if (state->has_looked && input->discarded_bytes != state->discarded_bytes) {
    news.discarded = true;
    if (state->debt_bytes == 0)
      state->debt_since_ns = input->now_ns;
    state->debt_bytes += input->discarded_bytes - state->discarded_bytes;
  }
  /* Where whole zspages were trimmed nothing is owed; nor where allocations
   * have filled the holes.
   */
  state->debt_bytes = min_u64 (state->debt_bytes, input->reclaimable_bytes);
  if (news.freed)
    state->exhausted = false;
  state->nr_frees = input->nr_frees;
  state->discarded_bytes = input->discarded_bytes;
  return news;
}

/* Learn what a run has left, from the first look after it. */
static void
learn_left (struct policy_state *state, const struct policy_input *input,
            struct news news)
{
  const uint64_t bytes = input->reclaimable_bytes;

  if (state->quiet_run_ended)
    state->left_bytes = news.freed ? 0 : bytes;
  if (state->quiet_run_ended || state->busy_run_ended)
    state->busy_left_bytes = bytes;
  state->quiet_run_ended = state->busy_run_ended = false;
  state->left_bytes = min_u64 (state->left_bytes, bytes);
  state->busy_left_bytes = min_u64 (state->busy_left_bytes, bytes);
}

static uint64_t
low_watermark (const struct policy_input *input)
{
  return input->limit_bytes - input->limit_bytes / 16;
}

static void
watch_limit (struct policy_state *state, const struct policy_input *input)
{
  const uint64_t limit = input->limit_bytes;

  if (limit == PAGES_NO_LIMIT || input->held_bytes <= low_watermark (input))
    state->above_watermark = false;
  else if (input->held_bytes > limit - limit / 32)
    state->above_watermark = true;
}

static uint64_t
overwrites_threshold (const struct policy_input *input)
{
  return POLICY_HIGH_BYTES + input->arena_bytes / 25;
}

static bool
is_above_low (const struct policy_state *state,
              const struct policy_input *input)
{
  return input->reclaimable_bytes >
         max_u64 (POLICY_LOW_BYTES, state->left_bytes + WORTH_BYTES);
}

static bool
wants_quiet (const struct policy_state *state, const struct policy_input *input,
             struct news news)
{
  if (news.freed || !state->has_looked)
    return false;
  return state->running == POLICY_QUIET ||
         (!state->exhausted && is_above_low (state, input));
}

/* Is a run at the limit wanted, though perhaps not yet? */
static bool
limit_presses (const struct policy_state *state,
               const struct policy_input *input)
{
  return state->above_watermark && !state->exhausted &&
         input->reclaimable_bytes > WORTH_BYTES;
}

static bool
wants_limit (const struct policy_state *state, const struct policy_input *input)
{
  if (state->running == POLICY_LIMIT)
    return state->above_watermark;
  return limit_presses (state, input) && input->now_ns >= state->retry_at_ns;
}

static bool
wants_discards (const struct policy_state *state,
                const struct policy_input *input, struct news news)
{
  if (!news.freed)
    return false;
  if (state->running == POLICY_DISCARDS)
    return state->debt_bytes > 0;
  return state->debt_bytes >= WORTH_BYTES && is_above_low (state, input) &&
         (!news.discarded ||
          input->now_ns - state->debt_since_ns >= POLICY_DISCARD_MAX_NS);
}

/* What was trimmed is not for these to see to. */
static bool
wants_overwrites (const struct policy_state *state,
                  const struct policy_input *input, struct news news)
{
  const uint64_t high = overwrites_threshold (input);
  const uint64_t bytes = input->reclaimable_bytes - state->debt_bytes;

  if (!news.freed)
    return false;
  if (state->running == POLICY_OVERWRITES)
    return bytes > high / 2;
  return bytes > max_u64 (high, state->busy_left_bytes + high / 2);
}

/* All there is comes before a part of it. */
static enum policy_reason
choose_reason (const struct policy_state *state,
               const struct policy_input *input, struct news news)
{
  if (input->manual || input->reclaimable_bytes == 0)
    return POLICY_IDLE;
  if (state->running == POLICY_PRESSURE ||
      (input->pressure && !state->exhausted))
    return POLICY_PRESSURE;
  if (wants_quiet (state, input, news))
    return POLICY_QUIET;
  if (wants_limit (state, input))
    return POLICY_LIMIT;
  if (wants_discards (state, input, news))
    return POLICY_DISCARDS;
  if (wants_overwrites (state, input, news))
    return POLICY_OVERWRITES;
  return POLICY_IDLE;
}

static void
set_goal (const struct policy_state *state, const struct policy_input *input,
          struct policy_decision *ret)
{
  ret->until_reclaimable = 0;
  ret->until_returned = UINT64_MAX;
  if (ret->reason == POLICY_LIMIT)
    ret->until_returned = input->held_bytes - low_watermark (input);
  else if (ret->reason == POLICY_DISCARDS)
    ret->until_returned = state->debt_bytes;
  else if (ret->reason == POLICY_OVERWRITES)
    ret->until_reclaimable = overwrites_threshold (input) / 2;
}

void
policy_decide (struct policy_state *state, const struct policy_input *input,
               struct policy_decision *ret)
{
  const struct news news = take_news (state, input);

  learn_left (state, input, news);
  watch_limit (state, input);

  ret->reason = choose_reason (state, input, news);
  set_goal (state, input, ret);
  ret->keep_spare =
    input->pressure || state->above_watermark || ret->reason == POLICY_PRESSURE
      ? 0
      : POLICY_SPARE_ZSPAGES;
  ret->refill_below_bytes = input->limit_bytes == PAGES_NO_LIMIT ? UINT64_MAX
                            : state->above_watermark             ? 0
                                                     : low_watermark (input);

  const bool may_sleep =
    ret->reason == POLICY_IDLE && !news.freed &&
    input->spare_bytes <= (uint64_t) ret->keep_spare * ZSPAGE_BYTES &&
    (input->manual || !limit_presses (state, input));
  ret->wait_ns = may_sleep ? UINT64_MAX : POLICY_TICK_NS;

  state->running = ret->reason;
  state->has_looked = true;
}

void
policy_run_ended (struct policy_state *state, uint64_t now_ns,
                  const struct policy_decision *decision,
                  uint64_t returned_bytes)
{
  const bool reached = returned_bytes >= decision->until_returned;

  state->debt_bytes -= min_u64 (state->debt_bytes, returned_bytes);
  if (decision->reason == POLICY_IDLE)
    return;

  state->running = POLICY_IDLE;
  state->debt_since_ns = now_ns;
  if (decision->reason == POLICY_OVERWRITES) {
    state->busy_run_ended = true;
    return;
  }
  if (reached)
    return;
  state->exhausted = true;
  state->quiet_run_ended = true;
  state->debt_bytes = 0;
  if (returned_bytes < WORTH_BYTES)
    state->retry_at_ns = now_ns + POLICY_RETRY_NS;
}
