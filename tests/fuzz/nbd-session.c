/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD sessions; see nbd-session.h.  The protocol is nbd's doc/proto.md.
 */

#include <config.h>

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "nbd-session.h"

#define BLOCK_BYTES 4096
#define MAX_MESSAGES 128

/*--- The protocol. ---*/

#define OPTION_MAGIC UINT64_C (0x49484156454f5054)
#define REQUEST_MAGIC UINT32_C (0x25609513)
#define REPLY_MAGIC UINT32_C (0x67446698)
#define FLAGS_FIXED_NEWSTYLE 1
#define FLAGS_NO_ZEROES 2

enum option {
  OPT_EXPORT_NAME = 1,
  OPT_ABORT,
  OPT_LIST,
  OPT_PEEK_EXPORT,
  OPT_STARTTLS,
  OPT_INFO,
  OPT_GO,
  OPT_STRUCTURED_REPLY,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_EXTENDED_HEADERS
};

enum command {
  CMD_READ,
  CMD_WRITE,
  CMD_DISC,
  CMD_FLUSH,
  CMD_TRIM,
  CMD_CACHE,
  CMD_ZERO,
  CMD_BLOCK_STATUS
};

#define FLAG_FUA 1
#define FLAG_NO_HOLE 2
#define FLAG_REQ_ONE 8
#define FLAG_FAST_ZERO 16

struct __attribute__ ((packed)) option_head {
  uint64_t magic;
  uint32_t option, length;
};
struct __attribute__ ((packed)) request {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t handle, offset;
  uint32_t count;
};
struct __attribute__ ((packed)) reply {
  uint32_t magic, error;
  uint64_t handle;
};

/*--- Streams. ---*/

void
stream_add (struct stream *stream, const void *bytes, size_t nr)
{
  if (stream->room - stream->nr < nr) {
    stream->room = 2 * stream->room + nr;
    stream->bytes = realloc (stream->bytes, stream->room);
    if (stream->bytes == NULL)
      abort ();
  }
  if (nr > 0)
    memcpy (stream->bytes + stream->nr, bytes, nr);
  stream->nr += nr;
}

void
stream_free (struct stream *stream)
{
  free (stream->bytes);
  *stream = (struct stream) { NULL };
}

/*--- Sessions. ---*/

struct session {
  struct rng *rng;
  uint64_t disk_bytes, next_handle;
  struct stream stream;
  size_t starts[MAX_MESSAGES + 1]; /* of messages, in the stream */
  unsigned nr;
};

static void
begin_message (struct session *session)
{
  if (session->nr < MAX_MESSAGES)
    session->starts[session->nr++] = session->stream.nr;
}

static void
add_option (struct session *session, enum option option, const void *data,
            size_t bytes)
{
  const struct option_head head = { htobe64 (OPTION_MAGIC), htobe32 (option),
                                    htobe32 ((uint32_t) bytes) };

  begin_message (session);
  stream_add (&session->stream, &head, sizeof head);
  stream_add (&session->stream, data, bytes);
}

static void
add_u32 (struct stream *stream, uint32_t n)
{
  n = htobe32 (n);
  stream_add (stream, &n, sizeof n);
}

static void
add_string (struct stream *stream, const char *text)
{
  add_u32 (stream, (uint32_t) strlen (text));
  stream_add (stream, text, strlen (text));
}

static const char *
choose_export (struct rng *rng)
{
  static const char *const names[] = { "", "", "", "stats", "nothing", "x/y" };

  return names[rng_below (rng, sizeof names / sizeof names[0])];
}

/* INFO and GO: a name and the kinds of information that are wanted. */
static void
add_go (struct session *session, enum option option, const char *name)
{
  struct stream data = { NULL };
  const uint64_t nr = rng_below (session->rng, 5);

  add_string (&data, name);
  for (uint64_t i = 0; i < nr + 1; ++i) {
    const uint16_t info =
      htobe16 ((uint16_t) (i == 0 ? nr : rng_below (session->rng, 5)));
    stream_add (&data, &info, sizeof info);
  }
  add_option (session, option, data.bytes, data.nr);
  stream_free (&data);
}

static void
add_meta_context (struct session *session, enum option option, const char *name)
{
  static const char *const contexts[] = { "base:allocation",
                                          "base:", "qemu:dirty-bitmap:x", "",
                                          "zmem:x" };
  struct stream data = { NULL };
  const uint64_t nr = rng_below (session->rng, 4);

  add_string (&data, name);
  add_u32 (&data, (uint32_t) nr);
  for (uint64_t i = 0; i < nr; ++i)
    add_string (&data, contexts[i == 0 ? 0 : rng_below (session->rng, 5)]);
  add_option (session, option, data.bytes, data.nr);
  stream_free (&data);
}

static void
add_any_option (struct session *session, const char *name)
{
  switch (rng_below (session->rng, 8)) {
  case 0:
  case 1:
    add_option (session, OPT_STRUCTURED_REPLY, NULL, 0);
    break;
  case 2:
    add_option (session, OPT_LIST, NULL, 0);
    break;
  case 3:
    add_go (session, OPT_INFO, name);
    break;
  case 4:
    add_meta_context (session, OPT_LIST_META_CONTEXT, name);
    break;
  case 5:
  case 6:
    add_option (session, OPT_STRUCTURED_REPLY, NULL, 0);
    add_meta_context (session, OPT_SET_META_CONTEXT, name);
    break;
  default:
    add_option (session, rng_below (session->rng, 12), "abc",
                rng_below (session->rng, 4));
  }
}

static void
add_handshake (struct session *session)
{
  const uint32_t flags = htobe32 (rng_once_in (session->rng, 4)
                                    ? FLAGS_FIXED_NEWSTYLE
                                    : FLAGS_FIXED_NEWSTYLE | FLAGS_NO_ZEROES);
  const char *name = choose_export (session->rng);

  begin_message (session);
  stream_add (&session->stream, &flags, sizeof flags);
  for (uint64_t i = rng_below (session->rng, 5); i > 0; --i)
    add_any_option (session, name);
  if (rng_once_in (session->rng, 3))
    add_option (session, OPT_EXPORT_NAME, name, strlen (name));
  else
    add_go (session, OPT_GO, name);
}

/* 512 bytes to a MiB, as often small as large; at a sector, or anywhere. */
static void
choose_range (struct rng *rng, uint64_t disk_bytes, uint64_t *offset,
              uint32_t *count)
{
  const uint64_t unit = rng_once_in (rng, 3)   ? 1
                        : rng_once_in (rng, 2) ? 512
                                               : BLOCK_BYTES;

  *count = (uint32_t) (rng_size (rng, MIB / unit) * unit);
  if (unit == 1)
    *count = (uint32_t) rng_size (rng, 100000);
  *offset = rng_below (rng, (disk_bytes - *count) / unit + 1) * unit;
  /* Half of them meet. */
  if (rng_once_in (rng, 2))
    *offset %= 4 * MIB;
}

static void
add_request (struct stream *stream, enum command command, uint16_t flags,
             uint64_t handle, uint64_t offset, uint32_t count)
{
  const struct request request = { htobe32 (REQUEST_MAGIC), htobe16 (flags),
                                   htobe16 (command),       htobe64 (handle),
                                   htobe64 (offset),        htobe32 (count) };

  stream_add (stream, &request, sizeof request);
}

static void
add_data (struct rng *rng, struct stream *stream, uint32_t count,
          uint64_t offset)
{
  uint8_t *data = malloc (count);

  if (data == NULL)
    abort ();
  make_range (rng, data, count, offset);
  stream_add (stream, data, count);
  free (data);
}

static void
add_any_request (struct session *session)
{
  static const enum command commands[] = {
    CMD_WRITE, CMD_WRITE, CMD_WRITE,        CMD_READ,  CMD_READ,  CMD_TRIM,
    CMD_ZERO,  CMD_ZERO,  CMD_BLOCK_STATUS, CMD_CACHE, CMD_FLUSH,
  };
  static const uint16_t all_flags[] = { 0,
                                        0,
                                        0,
                                        FLAG_FUA,
                                        FLAG_NO_HOLE,
                                        FLAG_REQ_ONE,
                                        FLAG_FAST_ZERO,
                                        FLAG_NO_HOLE | FLAG_FUA };
  const enum command command = commands[rng_below (session->rng, 11)];
  uint64_t offset;
  uint32_t count;

  choose_range (session->rng, session->disk_bytes, &offset, &count);
  if (command == CMD_FLUSH)
    offset = count = 0;
  begin_message (session);
  add_request (&session->stream, command,
               all_flags[rng_below (session->rng, 8)], ++session->next_handle,
               offset, count);
  if (command == CMD_WRITE)
    add_data (session->rng, &session->stream, count, offset);
}

/*--- Changes. ---*/

/* Numbers that somebody may have forgotten. */
static uint64_t
choose_number (struct session *session)
{
  const uint64_t numbers[] = { 0,
                               1,
                               511,
                               4095,
                               4096,
                               4097,
                               65536,
                               1 << 20,
                               (1 << 25) + 1,
                               1 << 26,
                               INT32_MAX,
                               UINT32_MAX,
                               UINT32_MAX - 4095,
                               INT64_MAX,
                               UINT64_MAX,
                               UINT64_MAX - 4095,
                               session->disk_bytes,
                               session->disk_bytes - 1,
                               session->disk_bytes - 4096,
                               rng_u64 (session->rng) };

  return numbers[rng_below (session->rng, sizeof numbers / sizeof numbers[0])];
}

/* A field of a message's head: these lie at its multiples of 2. */
static void
change_field (struct session *session, size_t start, size_t bytes)
{
  static const size_t widths[] = { 2, 4, 4, 8 };
  const size_t width = widths[rng_below (session->rng, 4)];
  const uint64_t number = htobe64 (choose_number (session));
  const size_t head = bytes < 28 ? bytes : 28;
  size_t at;

  if (head < width)
    return;
  at = rng_below (session->rng, (head - width) / 2 + 1) * 2;
  memcpy (session->stream.bytes + start + at,
          (const uint8_t *) &number + 8 - width, width);
}

/* Put `bytes` in place of [start, start + nr). */
static void
splice (struct stream *stream, size_t start, size_t nr, const void *bytes,
        size_t nr_new)
{
  struct stream made = { NULL };

  stream_add (&made, stream->bytes, start);
  stream_add (&made, bytes, nr_new);
  stream_add (&made, stream->bytes + start + nr, stream->nr - start - nr);
  stream_free (stream);
  *stream = made;
}

/* The messages' starts are not moved after a splice: the next change then
 * hits what it hits.
 */
static void
change (struct session *session)
{
  struct stream *stream = &session->stream;
  const unsigned i = (unsigned) rng_below (session->rng, session->nr);
  const unsigned j = (unsigned) rng_below (session->rng, session->nr);
  size_t start = session->starts[i], bytes;
  uint8_t other[64];

  if (start >= stream->nr)
    start = stream->nr - 1;
  bytes = (i + 1 < session->nr ? session->starts[i + 1] : stream->nr);
  bytes = bytes > start && bytes <= stream->nr ? bytes - start : 1;
  switch (rng_below (session->rng, 10)) {
  case 0: /* a bit, anywhere */
    stream->bytes[rng_below (session->rng, stream->nr)] ^=
      (uint8_t) (1 << rng_below (session->rng, 8));
    break;
  case 1: /* a message is missing */
    if (stream->nr > bytes)
      splice (stream, start, bytes, NULL, 0);
    break;
  case 2: /* comes twice */
    if (bytes <= sizeof other) {
      memcpy (other, stream->bytes + start, bytes);
      splice (stream,
              session->starts[j] <= stream->nr ? session->starts[j] : start, 0,
              other, bytes);
    }
    break;
  case 3: /* the end is missing */
    stream->nr -= rng_below (session->rng, stream->nr);
    break;
  case 4: /* some bytes more */
    rng_fill (session->rng, other, sizeof other);
    splice (stream, start, 0, other, rng_below (session->rng, 64));
    break;
  default:
    change_field (session, start, bytes);
  }
}

void
session_make (struct rng *rng, uint64_t disk_bytes, unsigned nr_changes,
              struct stream *stream)
{
  struct session session = { .rng = rng, .disk_bytes = disk_bytes };

  add_handshake (&session);
  for (uint64_t i = rng_size (rng, 40); i > 0; --i)
    add_any_request (&session);
  if (!rng_once_in (rng, 3)) {
    begin_message (&session);
    add_request (&session.stream, CMD_DISC, 0, 0, 0, 0);
  }
  for (; nr_changes > 0 && session.stream.nr > 0; --nr_changes)
    change (&session);
  stream_add (stream, session.stream.bytes, session.stream.nr);
  stream_free (&session.stream);
}

/*--- The clean one. ---*/

static void
add_reply (struct stream *replies, uint64_t handle)
{
  const struct reply reply = { htobe32 (REPLY_MAGIC), 0, htobe64 (handle) };

  stream_add (replies, &reply, sizeof reply);
}

static void
add_clean_request (struct rng *rng, uint8_t *array, uint64_t disk_bytes,
                   uint64_t handle, struct stream *stream,
                   struct stream *replies)
{
  static const enum command commands[] = { CMD_WRITE, CMD_WRITE, CMD_READ,
                                           CMD_READ,  CMD_TRIM,  CMD_ZERO,
                                           CMD_FLUSH };
  const enum command command = commands[rng_below (rng, 7)];
  uint64_t offset;
  uint32_t count;

  choose_range (rng, disk_bytes, &offset, &count);
  if (command == CMD_FLUSH)
    offset = count = 0;
  add_request (stream, command,
               command == CMD_ZERO && rng_once_in (rng, 2) ? FLAG_NO_HOLE : 0,
               handle, offset, count);
  add_reply (replies, handle);
  if (command == CMD_WRITE) {
    add_data (rng, stream, count, offset);
    memcpy (array + offset, stream->bytes + stream->nr - count, count);
  }
  else if (command == CMD_TRIM || command == CMD_ZERO)
    memset (array + offset, 0, count);
  else if (command == CMD_READ)
    stream_add (replies, array + offset, count);
}

void
session_make_clean (struct rng *rng, uint64_t disk_bytes, struct stream *stream,
                    struct stream *replies)
{
  const uint32_t flags = htobe32 (FLAGS_FIXED_NEWSTYLE | FLAGS_NO_ZEROES);
  const struct option_head head = { htobe64 (OPTION_MAGIC),
                                    htobe32 (OPT_EXPORT_NAME), 0 };
  const uint64_t size = htobe64 (disk_bytes);
  const uint16_t export_flags = 0;
  uint8_t *array = calloc (1, disk_bytes);

  if (array == NULL)
    abort ();
  stream_add (stream, &flags, sizeof flags);
  stream_add (stream, &head, sizeof head);
  stream_add (replies, &size, sizeof size);
  stream_add (replies, &export_flags, sizeof export_flags);
  for (uint64_t handle = 1; handle <= 30; ++handle)
    add_clean_request (rng, array, disk_bytes, handle, stream, replies);
  add_request (stream, CMD_DISC, 0, 0, 0, 0);
  free (array);
}
