/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Signals as something to poll for.
 */

#include <config.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

#include "signals.h"

int
signals_open (const int *numbers, size_t nr)
{
  sigset_t set;
  size_t i;
  int fd;

  sigemptyset (&set);
  for (i = 0; i < nr; ++i)
    sigaddset (&set, numbers[i]);
  sigprocmask (SIG_BLOCK, &set, NULL);
  fd = signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd == -1) {
    perror ("zmemctl: signalfd");
    exit (1);
  }
  return fd;
}

int
signals_open_end (void)
{
  static const int end[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

  return signals_open (end, sizeof end / sizeof end[0]);
}
