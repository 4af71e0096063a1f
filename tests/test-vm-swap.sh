#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A real kernel swaps to zmem (tests/vm/swap.scenario), and memory comes back:
# when a process has ended, and when one was killed in the middle.
#
# Not all of it by itself: this kernel discards a cluster of 256 slots when
# the last of them is free, and keeps the last 64 slots that were freed for
# itself, each of which may keep a cluster back.  (Seen after a process of 128
# MiB: 16 MiB held of 75.)  What is left goes with the next swapon -d.
#
# ZMEM_SECONDS: how long the first process walks its pages [5].

. "$srcdir/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

guest_requires
guest_program pressure

held_at_most () { at_most "$(held_bytes)" "$1"; }
highest () { stat_value held_highest_bytes; }

seconds=${ZMEM_SECONDS:-5}
start_tcp_server size=256M
empty=$(held_bytes)
guest_start swap "$srcdir/tests/vm/swap.scenario" \
            PORT="$port" MEMORY=96 PRESSURE=128 WALK="$seconds"
guest_says swap 240 "swap is on"
guest_says swap $((240 + seconds)) "swapped out"
grep -a "guest says: swapped" "$tmp/swap.console"
guest_says swap 240 "the first has ended"
check "the first one's memory has come back" \
      wait_for 120 held_at_most $(($(highest) * 45 / 100))
guest_tell swap "go on"
guest_says swap 240 "the second swaps"
check "it holds memory" at_least "$(held_bytes)" $((empty + 10 * M))
guest_tell swap "kill it"
guest_says swap 240 "the second was killed"
check "the killed one's memory has come back" \
      wait_for 120 held_at_most $(($(highest) * 45 / 100))
guest_tell swap "go on"
guest_says swap 240 "swap is on afresh"
check "and what was left" wait_for 120 held_at_most $((empty + 2 * M))
guest_tell swap "go on"
guest_ends swap 240
server_served_all
stop_server
finish
