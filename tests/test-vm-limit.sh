#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A real kernel swaps beyond the server's limit (tests/vm/swap-limit.scenario):
# it lives and answers, and reads back what was stored before.
#
# A process that is killed there takes its time to die: on a busy host this
# kernel, which is interpreted, was seen to try 48 s to swap something out for
# it, at 2000 refused writes a second.  So the limit is raised for that, as
# docs/RECIPES says.

. "$srcdir/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

guest_requires
guest_program pressure

guest_append=rootfstype=ramfs
start_tcp_server size=256M limit=16M
guest_start limit "$srcdir/tests/vm/swap-limit.scenario" \
            PORT="$port" MEMORY=128 SMALL=24 PRESSURE=192
guest_says limit 240 "the small one has filled"
guest_says limit 240 "the large one began"
has_refused () { [ "$(stat_value enospc_errors)" -ge 1000 ]; }
check "writes are refused" wait_for 240 has_refused
guest_tell limit "are you there?"
guest_says limit 240 "it answers"
check "the limit was never passed" \
      at_most "$(stat_value held_highest_bytes)" $((16 * M))
check "the limit is raised" zmemctl limit 256M
guest_tell limit "enough"
guest_ends limit 240
check "no read failed its checksum" is_equal \
      "$(stat_value checksum_failures)" 0
stop_server
finish
