/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD by hand (nbd-raw.h).
 */

#include <config.h>

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "nbd-raw.h"

#define OPTION_MAGIC UINT64_C (0x49484156454f5054)
#define REQUEST_MAGIC UINT32_C (0x25609513)
#define REPLY_MAGIC UINT32_C (0x67446698)
#define FIXED_NEWSTYLE_NO_ZEROES 3
#define OPT_EXPORT_NAME 1
#define GREETING_BYTES 18
#define EXPORT_BYTES 10
#define STATS_BYTES 65536

struct __attribute__ ((packed)) reply {
  uint32_t magic, error;
  uint64_t handle;
};

static int
connect_unix (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const int sock = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (sock == -1 || strlen (path) >= sizeof address.sun_path)
    return -1;
  memcpy (address.sun_path, path, strlen (path));
  if (connect (sock, (struct sockaddr *) &address, sizeof address) == 0)
    return sock;
  close (sock);
  return -1;
}

static int
connect_tcp (uint16_t port)
{
  const struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons (port),
                                       .sin_addr = {
                                         htonl (INADDR_LOOPBACK) } };
  const int sock = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;

  if (sock == -1)
    return -1;
  setsockopt (sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect (sock, (const struct sockaddr *) &address, sizeof address) == 0)
    return sock;
  close (sock);
  return -1;
}

int
raw_connect (const char *where)
{
  const struct timeval patience = { .tv_sec = RAW_PATIENCE_SECONDS };
  const int sock = where[0] >= '0' && where[0] <= '9'
                     ? connect_tcp ((uint16_t) atoi (where))
                     : connect_unix (where);

  if (sock != -1) {
    setsockopt (sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt (sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  return sock;
}

void
raw_choose (struct raw_choice *choice)
{
  choice->client_flags = htobe32 (FIXED_NEWSTYLE_NO_ZEROES);
  choice->version = htobe64 (OPTION_MAGIC);
  choice->option = htobe32 (OPT_EXPORT_NAME);
  choice->length = 0;
}

int
raw_open (const char *where)
{
  uint8_t greeting[GREETING_BYTES], export[EXPORT_BYTES];
  const int sock = raw_connect (where);
  struct raw_choice choice;

  if (sock == -1)
    return -1;
  raw_choose (&choice);
  if (raw_receive (sock, greeting, sizeof greeting) &&
      raw_send (sock, &choice, sizeof choice) &&
      raw_receive (sock, export, sizeof export))
    return sock;
  close (sock);
  return -1;
}

bool
raw_send (int sock, const void *data, size_t count)
{
  const uint8_t *p = data;

  while (count > 0) {
    const ssize_t n = send (sock, p, count, MSG_NOSIGNAL);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    p += n;
    count -= (size_t) n;
  }
  return true;
}

bool
raw_receive (int sock, void *data, size_t count)
{
  uint8_t *p = data;

  while (count > 0) {
    const ssize_t n = recv (sock, p, count, 0);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    p += n;
    count -= (size_t) n;
  }
  return true;
}

void
raw_prepare (struct raw_request *request, enum raw_command command,
             uint64_t handle, uint64_t offset, uint32_t count)
{
  request->magic = htobe32 (REQUEST_MAGIC);
  request->flags = 0;
  request->type = htobe16 ((uint16_t) command);
  request->handle = htobe64 (handle);
  request->offset = htobe64 (offset);
  request->count = htobe32 (count);
}

bool
raw_ask (int sock, enum raw_command command, uint64_t handle, uint64_t offset,
         uint32_t count, const void *data)
{
  struct raw_request request;

  raw_prepare (&request, command, handle, offset, count);
  return raw_send (sock, &request, sizeof request) &&
         (command != RAW_WRITE || raw_send (sock, data, count));
}

bool
raw_reply (int sock, uint64_t *handle, uint32_t *error)
{
  struct reply reply;

  if (!raw_receive (sock, &reply, sizeof reply) ||
      be32toh (reply.magic) != REPLY_MAGIC)
    return false;
  *handle = be64toh (reply.handle);
  *error = be32toh (reply.error);
  return true;
}

static bool
is_well (int sock)
{
  uint64_t handle;
  uint32_t error;

  return raw_reply (sock, &handle, &error) && error == 0;
}

bool
raw_write (int sock, uint64_t offset, const void *data, uint32_t count)
{
  return raw_ask (sock, RAW_WRITE, 0, offset, count, data) && is_well (sock);
}

bool
raw_read (int sock, uint64_t offset, void *data, uint32_t count)
{
  return raw_ask (sock, RAW_READ, 0, offset, count, NULL) && is_well (sock) &&
         raw_receive (sock, data, count);
}

int
raw_nr_connections (const char *control)
{
  static char text[STATS_BYTES];
  const char *line;
  size_t used = 0;
  ssize_t n;
  const int sock = raw_connect (control);
  int nr = -1;

  if (sock == -1)
    return -1;
  if (raw_send (sock, "stats\n", 6)) {
    shutdown (sock, SHUT_WR);
    while (used < sizeof text - 1 &&
           (n = recv (sock, text + used, sizeof text - 1 - used, 0)) > 0)
      used += (size_t) n;
    text[used] = '\0';
    line = strstr (text, "\nconnections");
    if (line == NULL || sscanf (line, "\nconnections %d", &nr) != 1)
      nr = -1;
  }
  close (sock);
  return nr;
}

bool
raw_wait_for_connections (const char *control, int at_most)
{
  const struct timespec pause = { .tv_nsec = 2000000 };
  int tries, nr;

  for (tries = 0; tries < RAW_PATIENCE_SECONDS * 500; tries++) {
    nr = raw_nr_connections (control);
    if (nr == -1)
      return false;
    if (nr <= at_most)
      return true;
    nanosleep (&pause, NULL);
  }
  return false;
}
