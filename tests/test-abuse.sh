#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Clients that stall: that say nothing, stop within the handshake, a request
# or its data, or read no replies (nbd-abuse.c).  Others are served, memory
# stays where it belongs, and when they go all that they took comes back.
#
# nbdkit waits for such a client for ever: docs/SERVICES, Clients that stall.
#
# ZMEM_STEPS: how many of them come [100]
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
client=$top_builddir/tests/nbd-abuse
steps=${ZMEM_STEPS:-100}

is_crowded () { grep -q crowded "$tmp/abuse.out"; }
ended_well () {
  cat "$tmp/abuse.err"
  wait "$client_pid"
}

# abuse NAME WHERE: with one thread a connection, the crowd's is at most 32
# threads, and as many buffers of 1 MiB.
abuse () {
  local name=$1 resident before threads
  before=$(threads_and_fds)
  threads=$(nr_threads)
  resident=$(process_bytes "$server_pid" RssAnon)
  rm -f "$tmp/go" "$tmp/abuse.out" # the last one's "crowded"
  mkfifo "$tmp/go"
  timeout -k 5 300 "$client" "$2" "$ctl" "$steps" <"$tmp/go" \
          >"$tmp/abuse.out" 2>"$tmp/abuse.err" &
  client_pid=$!
  exec 7>"$tmp/go"
  wait_for 290 eval 'is_crowded || process_ended $client_pid'
  check "$name: a crowd of stuck clients, and one that is served" is_crowded
  sed 's/^/    /' "$tmp/abuse.out"
  echo "    $(threads_and_fds), before: $before; RssAnon:" \
       "$(process_bytes "$server_pid" RssAnon), before: $resident"
  check "$name: held is within the limit" at_most \
        "$(stat_value held_highest_bytes)" $((16 * M))
  if ! nbdkit_survives_hang_ups; then
    check "$name: a stuck client has one thread" at_most \
          "$(nr_threads)" $((threads + 33))
    check "$name: and no more than its requests' memory" at_most \
          "$(process_bytes "$server_pid" RssAnon)" $((resident + 52 * M))
  fi
  echo go >&7
  exec 7>&-
  check "$name: they go, and nothing came of half a write" ended_well
  check "$name: threads and descriptors are as before" \
        wait_for 20 threads_and_fds_are "$before"
  check "$name: nothing failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
}

start_server_as unix size=8M limit=16M
abuse unix "$sock"
stop_server unix

check "a server on TCP" launch_tcp tcp "$ZMEM_PLUGIN" size=8M limit=16M \
      "control=$tmp/tcp.ctl"
abuse tcp "$port"

# As after a client's loss of power: nothing is heard of it any more.
exec 9<>"/dev/tcp/127.0.0.1/$port"
head -c 18 <&9 >/dev/null
kill -TERM "$server_pid"
greets_nobody () {
  local greeting
  exec 8<>"/dev/tcp/127.0.0.1/$port"
  greeting=$(timeout 1 head -c 8 <&8)
  exec 8>&-
  [ "$greeting" = "" ]
}
check "asked to end, it greets nobody else" wait_for 60 greets_nobody
check "and waits for a client that says nothing" server_is_alive
exec 9>&-
stop_server tcp

finish
