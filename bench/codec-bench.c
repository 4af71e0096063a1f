/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * What encoding and decoding a block cost, checksum included, as the store
 * does them: context_encode into scratch, payload_decode from a place of
 * the payload's own.
 *
 *   codec-bench FILE [-n EVERY] [-t THREADS] SPEC...
 *
 * FILE is a corpus (bench/corpus) or any file; EVERY takes one block of so
 * many.  Blocks of one repeated 32-bit word are left out, as in the store.
 * A line a SPEC: nanoseconds a block, median and mean; bytes of payload a
 * block; the share of raw blocks and what those cost alone.  With threads,
 * which share one pool of two contexts each, each does all blocks, and a
 * number is the mean over threads.
 *
 * Each number is the least of three passes.  The clock's own cost (measured
 * first, said in the first line) is taken off.
 */

#include <config.h>

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench-clock.h"
#include "bench-corpus.h"
#include "checksum.h"
#include "codec.h"
#include "context.h"

#define NR_PASSES 3
#define MAX_THREADS 32
/* What size_class_largest_compressed (alloc/) says. */
#define MAX_PAYLOAD_BYTES 4032

static const uint8_t *blocks;  /* the file */
static const uint8_t **chosen; /* its blocks that are measured */
static size_t nr_chosen;
static uint64_t clock_ns; /* what now_ns costs */
static struct context_pool *contexts;

struct cost {
  uint32_t median_ns, mean_ns, raw_mean_ns;
};

struct thread_result {
  struct cost encode, decode;
  uint64_t payload_bytes;
  size_t nr_raw;
};

static void
measure_clock (void)
{
  const unsigned n = 1000000;
  const uint64_t start = now_ns ();

  for (unsigned i = 0; i < n; i++)
    now_ns ();
  clock_ns = (now_ns () - start) / n;
}

static bool
repeats (const uint8_t *block, size_t period)
{
  return memcmp (block, block + period, BLOCK_BYTES - period) == 0;
}

static void
choose_blocks (const char *file, size_t every)
{
  uint64_t nr_blocks;

  blocks = (const uint8_t *) map_pages (file, &nr_blocks);
  chosen = calloc (nr_blocks + 1, sizeof *chosen);
  if (chosen == NULL)
    err (1, "calloc");
  for (size_t i = 0; i < nr_blocks; i += every)
    if (!repeats (blocks + i * BLOCK_BYTES, 4))
      chosen[nr_chosen++] = blocks + i * BLOCK_BYTES;
  if (nr_chosen == 0)
    errx (1, "%s: no block to measure", file);
}

static int
compare_u32 (const void *a, const void *b)
{
  const uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

  return (x > y) - (x < y);
}

/* Sorts ns[]; keeps in *cost the least of what it has and this. */
static void
note_cost (struct cost *cost, uint32_t *ns, uint64_t raw_ns, size_t nr_raw)
{
  uint64_t sum = 0;
  struct cost this;

  for (size_t i = 0; i < nr_chosen; i++)
    sum += ns[i];
  qsort (ns, nr_chosen, sizeof *ns, compare_u32);
  this.median_ns = ns[nr_chosen / 2];
  this.mean_ns = (uint32_t) (sum / nr_chosen);
  this.raw_mean_ns = nr_raw ? (uint32_t) (raw_ns / nr_raw) : 0;
  if (cost->mean_ns == 0 || this.mean_ns < cost->mean_ns)
    *cost = this;
}

static uint32_t
elapsed_ns (uint64_t start)
{
  const uint64_t ns = now_ns () - start;

  return (uint32_t) (ns > clock_ns ? ns - clock_ns : 0);
}

/* Everything in order, encoding and decoding apart: a disk that is filled,
 * then read.
 */
static void
run_pass (struct thread_result *result, struct payload *payloads,
          uint8_t *store, uint32_t *ns)
{
  uint8_t *next = store, block[BLOCK_BYTES];
  uint64_t raw_ns = 0;
  size_t nr_raw = 0;

  for (size_t i = 0; i < nr_chosen; i++) {
    struct payload *payload = &payloads[i];
    const bool repeat64 = repeats (chosen[i], 8);
    const uint64_t start = now_ns ();
    struct context *context = context_borrow (contexts);

    context_encode (context, 0, chosen[i], repeat64, payload);
    ns[i] = elapsed_ns (start);
    memcpy (next, payload->data, payload->bytes);
    context_return (contexts, context);
    payload->data = next;
    next += (payload->bytes + 15) / 16 * 16;
    if (payload->codec == CODEC_RAW) {
      nr_raw++;
      raw_ns += ns[i];
    }
  }
  result->nr_raw = nr_raw;
  result->payload_bytes = 0;
  for (size_t i = 0; i < nr_chosen; i++)
    result->payload_bytes += payloads[i].bytes;
  note_cost (&result->encode, ns, raw_ns, nr_raw);

  raw_ns = 0;
  for (size_t i = 0; i < nr_chosen; i++) {
    const struct payload *payload = &payloads[i];
    const uint64_t start = now_ns ();
    struct context *context = NULL;
    int r;

    if (codec_decode_needs_context (payload->codec))
      context = context_borrow (contexts);
    r = payload_decode (context, payload->codec, payload->data, payload->bytes,
                        payload->checksum, block);
    if (context)
      context_return (contexts, context);
    ns[i] = elapsed_ns (start);
    if (payload->codec == CODEC_RAW)
      raw_ns += ns[i];
    if (r < 0 || memcmp (block, chosen[i], BLOCK_BYTES) != 0)
      errx (1, "block %zu came back different", i);
  }
  note_cost (&result->decode, ns, raw_ns, nr_raw);
}

static void *
run_thread (void *opaque)
{
  struct payload *payloads = calloc (nr_chosen, sizeof *payloads);
  uint8_t *store = malloc (nr_chosen * BLOCK_BYTES);
  uint32_t *ns = malloc (nr_chosen * sizeof *ns);

  if (payloads == NULL || store == NULL || ns == NULL)
    err (1, "malloc");
  memset (store, 1, nr_chosen * BLOCK_BYTES);
  for (unsigned pass = 0; pass < NR_PASSES; pass++)
    run_pass (opaque, payloads, store, ns);
  free (ns);
  free (store);
  free (payloads);
  return NULL;
}

static struct cost
mean_cost (const struct thread_result *results, unsigned nr, bool encode)
{
  struct cost sum = { 0, 0, 0 };

  for (unsigned i = 0; i < nr; i++) {
    const struct cost *cost = encode ? &results[i].encode : &results[i].decode;

    sum.median_ns += cost->median_ns / nr;
    sum.mean_ns += cost->mean_ns / nr;
    sum.raw_mean_ns += cost->raw_mean_ns / nr;
  }
  return sum;
}

static void
run_spec (const char *text, unsigned nr_threads)
{
  struct thread_result results[MAX_THREADS] = { 0 };
  struct codec_spec spec;
  struct cost encode, decode;
  pthread_t threads[MAX_THREADS];
  char error[256], name[CODEC_SPEC_TEXT_BYTES];

  if (codec_spec_parse (text, &spec, error, sizeof error) < 0)
    errx (1, "%s", error);
  if (context_pool_set_codec (contexts, &spec) < 0)
    errx (1, "%s: out of memory", text);
  for (unsigned i = 0; i < nr_threads; i++)
    if (pthread_create (&threads[i], NULL, run_thread, &results[i]) != 0)
      errx (1, "pthread_create");
  for (unsigned i = 0; i < nr_threads; i++)
    pthread_join (threads[i], NULL);

  encode = mean_cost (results, nr_threads, true);
  decode = mean_cost (results, nr_threads, false);
  codec_spec_print (&spec, name, sizeof name);
  printf ("%-10s  encode %7" PRIu32 " %7" PRIu32 "  decode %6" PRIu32
          " %6" PRIu32 "  payload %7.1f  raw %5.2f%% %6" PRIu32 " %5" PRIu32
          "  contexts %zu KiB\n",
          name, encode.median_ns, encode.mean_ns, decode.median_ns,
          decode.mean_ns, (double) results[0].payload_bytes / nr_chosen,
          100.0 * results[0].nr_raw / nr_chosen, encode.raw_mean_ns,
          decode.raw_mean_ns, context_pool_bytes (contexts) / 1024);
  fflush (stdout);
}

static __attribute__ ((noreturn)) void
usage (void)
{
  fprintf (stderr, "usage: codec-bench FILE [-n EVERY] [-t THREADS] SPEC...\n");
  exit (2);
}

int
main (int argc, char *argv[])
{
  long every = 1, nr_threads = 1;
  int c;

  while ((c = getopt (argc, argv, "n:t:")) != -1)
    switch (c) {
    case 'n':
      every = atol (optarg);
      break;
    case 't':
      nr_threads = atol (optarg);
      break;
    default:
      usage ();
    }
  if (argc - optind < 2 || every < 1 || nr_threads < 1 ||
      nr_threads > MAX_THREADS)
    usage ();

  measure_clock ();
  choose_blocks (argv[optind], (size_t) every);
  if (context_pool_create ((unsigned) nr_threads * 2, MAX_PAYLOAD_BYTES,
                           &contexts) < 0)
    errx (1, "out of memory");
  printf ("%zu blocks, %ld thread%s, clock %" PRIu64 " ns; "
          "median and mean ns a block; raw: share, mean ns\n",
          nr_chosen, nr_threads, nr_threads == 1 ? "" : "s", clock_ns);
  for (int i = optind + 1; i < argc; i++)
    run_spec (argv[i], (unsigned) nr_threads);
  context_pool_destroy (contexts);
  free (chosen);
  return 0;
}
