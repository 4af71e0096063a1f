#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A server is killed and started again, and begins empty, or says nothing for a
# while: what a real kernel's NBD clients see, by nbd-client's options
# (tests/vm/restart.scenario; the table is in docs/SCALING).  What counts: no
# client that has the disk open is ever given zeros, or anything else, in place
# of what it wrote.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires mkfs.ext4
guest_requires
guest_program pattern
guest_program pressure
check "mkfs.ext4 can be taken along" guest_copy mkfs.ext4
seed=$RANDOM
echo "seed $seed"

freeze () { kill -STOP "$server_pid"; }
thaw () { kill -CONT "$server_pid"; }
kill_it () {
  kill -KILL "$server_pid"
  wait "$server_pid" 2>/dev/null
  unset "server_pids[main]"
  rm -f "$ctl"
}
start_it () {
  # What start_tcp_server sets:
  # shellcheck disable=SC2154
  launch main -i "$listen_address" -p "$port" "$ZMEM_PLUGIN" size=256M \
         "control=$ctl" || {
    fail "the server starts again" "$log"
    finish
  }
}

# on_request SECONDS WORDS COMMAND...: what the guest asks for.
on_request () {
  local seconds=$1 words=$2
  shift 2
  guest_says restart "$seconds" "$words"
  "$@"
  guest_tell restart "it is so"
}

# saw STEP OUTCOME CLIENT...: these clients, by their numbers in the scenario.
saw () {
  local step=$1 outcome=$2 client
  shift 2
  for client; do
    check "$step: client $client: $outcome" grep -aq \
          "^guest says: $step: client $client $outcome " "$tmp/restart.console"
  done
}

start_tcp_server size=256M
guest_start restart "$srcdir/tests/vm/restart.scenario" \
            MEMORY=128 PRESSURE=40 SEED=$seed PORT="$port" TIMEOUT=6

on_request 240 "freeze it, 1" freeze
on_request 240 "kill it, 1" kill_it
on_request 240 "start it, 1" start_it
on_request 240 "freeze it, 2" freeze
on_request 240 "thaw it, 2" thaw
on_request 240 "kill it, 3" kill_it
on_request 240 "start it, 3" start_it
guest_says restart 240 "no file system is left"
on_request 240 "kill it, 4" kill_it
on_request 240 "start it, 4" start_it
guest_says restart 240 "the next one swaps: GOOD"
guest_ends restart 240 'I/O error'
grep -a '^guest says: ' "$tmp/restart.console"

saw before right 0 1 2 3 4 5 6
# Who gave no -timeout waits for ever, unless it is an old ioctl that waits.
saw flight waits 0
saw flight error 1 2 3 4 5 6
saw down error 0 1 2 3 4 5 6
saw up error 0 1 2 3 4 5 6
saw held error 1
saw flight error 0
saw again zeros 0 1 2 3 4 5 6
saw silence waits 0 4
saw silence error 1 2 3 5 6
saw silence right 0 4
saw thawed right 0 4
saw thawed error 1 2 3 5 6
check "a process whose pages are gone is killed" grep -aqE \
      '^guest says: the process .* ended with 1(35|37): filled' \
      "$tmp/restart.console"
stop_server
finish
