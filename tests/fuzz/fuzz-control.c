/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The control protocol, through its real socket and thread (plugin/control.c)
 * down to the commands and the store.
 *
 *     [how] bytes
 *       how: how many bytes are sent at once; 'W': with a compaction worker
 *
 * A client sends the bytes, says that there are no more, and reads to the
 * end, all at once.
 *
 * The oracle: as many answers as a second reader of the protocol counts
 * commands and mistakes in it, each "ok N" and N bytes of whole printable
 * lines, or "error" and a sentence; and then the server closes.  JSON is
 * JSON.  Afterwards another client gets its answer, and the disk is as it
 * was.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "../format-check.h"
#include "../test-util.h"
#include "commands.h"
#include "control.h"
#include "fuzz.h"
#include "pages.h"
#include "store.h"

#define DISK_BYTES (1 * MIB)
#define NR_BLOCKS_USED 64
#define MAX_INPUT_BYTES 4096
#define ANSWER_MS (40 * 1000)

static struct store *store;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static uint8_t written[NR_BLOCKS_USED * BLOCK_BYTES], back[sizeof written];
static char *answers; /* what the client has received */
static size_t answers_bytes, answers_room;

/* nbdkit's, for control.c. */
void
nbdkit_debug (const char *format, ...)
{
  (void) format;
}

void
nbdkit_error (const char *format, ...)
{
  FUZZ_CHECK (false, "nbdkit_error (\"%s\")", format);
}

/* $FUZZ_TMP is removed by run.sh, whatever happens. */
static void
prepare (void)
{
  const struct store_params params = {
    .size_bytes = DISK_BYTES,
    .limit_bytes = PAGES_NO_LIMIT,
    .codec = { CODEC_LZ4, 1 },
    .nr_contexts = 1,
  };
  const char *tmp = getenv ("FUZZ_TMP");
  char error[512];
  struct rng rng;

  if (store != NULL)
    return;
  snprintf (address.sun_path, sizeof address.sun_path, "%s/fuzz-%d.ctl",
            tmp == NULL ? "/tmp" : tmp, (int) getpid ());
  rng_init (&rng, 1, 0);
  make_range (&rng, written, sizeof written, 0);
  if (store_create (&params, &store) < 0 || store_start (store) < 0 ||
      store_write (store, written, sizeof written, 0) < 0 ||
      control_bind (address.sun_path, error, sizeof error) < 0 ||
      control_start (store) < 0)
    abort ();
  atexit (control_stop);
}

/*--- The client. ---*/

static int
open_client (void)
{
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd == -1 ||
      connect (fd, (const struct sockaddr *) &address, sizeof address) == -1)
    abort ();
  return fd;
}

/* False: there is no more to come. */
static bool
receive_some (int fd)
{
  ssize_t n;

  if (answers_room - answers_bytes < 65536) {
    answers_room = 2 * answers_room + 65536;
    answers = realloc (answers, answers_room + 1);
    if (answers == NULL)
      abort ();
  }
  n = recv (fd, answers + answers_bytes, answers_room - answers_bytes,
            MSG_DONTWAIT);
  if (n == -1)
    return errno == EAGAIN || errno == EINTR;
  answers_bytes += (size_t) n;
  return n > 0;
}

/* Send it all, `chunk` bytes at once, receiving what there is meanwhile. */
static void
converse (const uint8_t *data, size_t bytes, size_t chunk)
{
  const int fd = open_client ();
  struct pollfd poll_fd = { .fd = fd };
  bool shut = false;
  int r;

  answers_bytes = 0;
  do {
    if (bytes > 0) {
      const ssize_t n = send (fd, data, bytes < chunk ? bytes : chunk,
                              MSG_NOSIGNAL | MSG_DONTWAIT);

      if (n > 0)
        data += n, bytes -= (size_t) n;
      else if (errno != EAGAIN)
        bytes = 0; /* it has closed: that is looked at below */
    }
    if (bytes == 0 && !shut)
      shut = shutdown (fd, SHUT_WR) == 0 || errno == ENOTCONN;
    poll_fd.events = POLLIN | (bytes > 0 ? POLLOUT : 0);
    r = poll (&poll_fd, 1, ANSWER_MS);
    /* libFuzzer has a timer. */
    FUZZ_CHECK (r > 0 || (r == -1 && errno == EINTR), "no answer in time");
  } while (receive_some (fd));
  close (fd);
  if (answers_bytes > 0)
    answers[answers_bytes] = '\0';
}

/*--- The oracle. ---*/

/* How many answers these bytes have coming. */
static unsigned
count_answers (const uint8_t *data, size_t bytes)
{
  unsigned nr = 0;

  for (;;) {
    const uint8_t *end = memchr (data, '\n', bytes);
    size_t length = end == NULL ? bytes : (size_t) (end - data), blanks = 0;

    if (end == NULL && length < COMMAND_MAX_BYTES + 2)
      return nr + (bytes > 0); /* a last line without an end */
    length -= end != NULL && length > 0 && data[length - 1] == '\r';
    if (length > COMMAND_MAX_BYTES)
      return nr + 1; /* too long: the end */
    while (blanks < length && strchr (" \t", data[blanks]) != NULL &&
           data[blanks] != '\0')
      ++blanks;
    nr += blanks < length;
    bytes -= (size_t) (end + 1 - data);
    data = end + 1;
  }
}

/* One answer at `at`; returns where the next begins. */
static const char *
check_answer (const char *at)
{
  const char *line_end = strchr (at, '\n'), *body, *end;
  char *digits_end, *copy;

  FUZZ_CHECK (line_end != NULL, "half an answer: %s", at);
  body = end = line_end + 1;
  if (strncmp (at, "ok ", 3) == 0) {
    end = body + strtoumax (at + 3, &digits_end, 10);
    FUZZ_CHECK (digits_end == line_end, "head %s", at);
    FUZZ_CHECK (end <= answers + answers_bytes, "short body: %s", at);
    FUZZ_CHECK (end == body || end[-1] == '\n', "no whole lines: %s", at);
  }
  else
    FUZZ_CHECK (strncmp (at, "error ", 6) == 0 && line_end > at + 6, "head %s",
                at);
  for (; at < end; ++at)
    FUZZ_CHECK (*at == '\n' || (*at >= ' ' && *at <= '~'), "byte %02x",
                (unsigned char) *at);
  if (end > body && *body == '{') {
    copy = strndup (body, (size_t) (end - body));
    FUZZ_CHECK (copy != NULL && json_fault (copy) == NULL, "%s", copy);
    free (copy);
  }
  return end;
}

static void
check_answers (unsigned nr_wanted)
{
  const char *at = answers, *end = answers + answers_bytes;
  unsigned nr = 0;

  for (; answers_bytes > 0 && at < end; ++nr)
    at = check_answer (at);
  FUZZ_CHECK (nr == nr_wanted, "%u answers, not %u: %s", nr, nr_wanted,
              answers_bytes > 0 ? answers : "");
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t bytes)
{
  static const struct codec_spec lz4 = { CODEC_LZ4, 1 };
  static const uint8_t question[] = "limit\n";
  struct input input = { data, bytes };
  const uint8_t how = take_byte (&input);

  if (bytes > MAX_INPUT_BYTES)
    return -1;
  prepare ();
  if (how == 'W' && store_start_worker (store) < 0)
    abort ();
  converse (input.data, input.left, how == 'W' ? 4096 : 1u + how * how / 16);
  check_answers (count_answers (input.data, input.left));

  /* The same state for each input. */
  if (store_set_limit (store, PAGES_NO_LIMIT) < 0 ||
      store_set_codec (store, &lz4) < 0)
    abort ();
  converse (question, sizeof question - 1, 64);
  check_answers (1);
  FUZZ_CHECK (strstr (answers, "limit_bytes none\n") != NULL, "%s", answers);
  FUZZ_CHECK (store_read (store, back, sizeof back, 0) == 0 &&
                memcmp (back, written, sizeof back) == 0,
              "the disk");
  if (how == 'W')
    store_stop_worker (store);
  return 0;
}
