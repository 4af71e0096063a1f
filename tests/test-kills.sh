#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Clients killed at random, with two dozen requests in flight on each
# (nbd-kills.c): what was acknowledged is there, nothing is torn, another
# client never notices, and the server is as it was.  With nbdkit before 1.34
# this is what parallel=auto is for (plugin/hang-up.c), and a server without
# it does end.
#
# ZMEM_KILLS: how many, over a Unix socket and over TCP each [30]
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
client=$top_builddir/tests/nbd-kills
kills=${ZMEM_KILLS:-30}

# killing WHERE: a thousand kills take longer than a test's client may.
killing () {
  timeout -k 5 $((150 + kills)) "$client" "$1" "$ctl" "$kills"
}

# kill_clients NAME WHERE
kill_clients () {
  check "$1: what clients that are killed had acknowledged is there" \
        killing "$2"
  sed 's/^/    /' "$tmp/check.out"
  check "$1: the server is there" server_is_alive
  check "$1: its threads and descriptors are as before" \
        wait_for 20 threads_and_fds_are "$before"
  check "$1: nothing failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
}

start_server_as unix size=16M
before=$(threads_and_fds)
kill_clients unix "$sock"
stop_server unix

check "a server on TCP" launch_tcp tcp "$ZMEM_PLUGIN" size=16M compress=zstd \
      "control=$tmp/tcp.ctl"
before=$(threads_and_fds)
kill_clients tcp "$port"
stop_server tcp

# Several threads a connection, where nbdkit can do it and where it can not.
start_server_as parallel size=16M parallel=yes
before=$(threads_and_fds)
if nbdkit_survives_hang_ups; then
  kill_clients parallel "$sock"
  stop_server parallel
else
  check "parallel=yes: the risk is said at start" \
        grep -q 'parallel=yes: a client that hangs up can end' "$log"
  check_fails "parallel=yes: clients that are killed end the server" \
              'after [0-9]+ kills: the server has gone' \
              bounded "$client" "$sock" "$ctl" 500
  sed 's/^/    /' "$tmp/check.out"
  wait_for 20 process_ended "$server_pid"
  check "by nbdkit's assertion" grep -q "raw_send_socket: Assertion" "$log"
  wait "$server_pid"
  unset "server_pids[parallel]"
fi

finish
