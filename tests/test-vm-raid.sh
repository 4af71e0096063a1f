#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# How zmem grows past one server, on what a kernel has for it: md's RAID 1 over
# two servers, of which one after the other is killed in the middle of writing;
# RAID 0 over two; and swap on two (tests/vm/raid.scenario, docs/SCALING).
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires mdadm swapon
guest_requires
guest_program pattern
guest_program pressure
check "mdadm can be taken along" guest_copy mdadm
check "swapon can be taken along" guest_copy swapon
seed=$RANDOM
echo "seed $seed"

declare -A ports=()

# start_half NAME: where it was, if it was.
start_half () {
  if [ -z "${ports[$1]-}" ]; then
    start_tcp_server "$1" -- size=64M
    # What start_tcp_server sets:
    # shellcheck disable=SC2154
    ports[$1]=$port
  elif ! launch "$1" -i "$listen_address" -p "${ports[$1]}" "$ZMEM_PLUGIN" \
              size=64M "control=$tmp/$1.ctl"; then
    fail "server $1 starts again" "$tmp/$1.log"
    finish
  fi
}

# kill_half NAME: as a machine's loss of power.
kill_half () {
  kill -KILL "${server_pids[$1]}"
  wait "${server_pids[$1]}" 2>/dev/null
  unset "server_pids[$1]"
  rm -f "$tmp/$1.ctl"
}

# half_holds NAME, held_falls NAME BYTES
half_holds () { select_server "$1"; held_bytes; }
held_falls () { at_most "$(half_holds "$1")" "$2"; }

full_half () {
  check "$1 holds what was written" \
        at_least "$(half_holds "$1")" $((empty + 3 * M))
}
empty_half () {
  check "the memory of $1 has come back" \
        wait_for 120 held_falls "$1" $((empty + 2 * M))
}

# on_request SECONDS WORDS COMMAND...: what the guest asks for.
on_request () {
  local seconds=$1 words=$2
  shift 2
  guest_says raid "$seconds" "$words"
  "$@"
  guest_tell raid "it is so"
}

start_half A
start_half B
empty=$(half_holds A)
guest_start raid "$srcdir/tests/vm/raid.scenario" MEMORY=128 PRESSURE=48 \
            SEED=$seed PORT_A="${ports[A]}" PORT_B="${ports[B]}"

on_request 240 "kill B" kill_half B
guest_says raid 240 "goes on without B"
on_request 240 "start B" start_half B
guest_says raid 240 "B is whole again"
on_request 240 "kill A" kill_half A
guest_says raid 240 "RAID 1: requests [0-9]+ good"
grep -a "guest says: RAID 1" "$tmp/raid.console"

on_request 240 "look at B" full_half B
on_request 240 "B is discarded" empty_half B
on_request 240 "start A" start_half A

guest_says raid 240 "RAID 0: [0-9]+ blocks"
blocks=$(sed -n 's/^guest says: RAID 0: \([0-9]*\) blocks.*/\1/p' \
             "$tmp/raid.console")
check "RAID 0 is nearly as large as both" at_least "$blocks" $((2 * 15872))
full_halves () { full_half A; full_half B; }
empty_halves () { empty_half A; empty_half B; }
on_request 240 "both are full" full_halves
on_request 240 "both are discarded" empty_halves
guest_says raid 240 "swapped out"
grep -a "guest says: swapped out" "$tmp/raid.console"
# Two disks were lost, and each had a request under way.
guest_ends raid 240 'I/O error'
for half in A B; do
  select_server $half
  check "no read of $half failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
  stop_server $half
done
finish
