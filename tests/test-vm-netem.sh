#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A slow network, and one that loses packets, between a real kernel and zmem:
# every byte is right all the same (tests/vm/netem.scenario).  What the reads
# took is printed, and judged by nobody; docs/SCALING has it.

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires tc
guest_requires
guest_program pattern
check "tc can be taken along" guest_copy tc
seed=$RANDOM
echo "seed $seed"

start_tcp_server size=64M
# What start_tcp_server sets:
# shellcheck disable=SC2154
guest_start netem "$srcdir/tests/vm/netem.scenario" \
            MEMORY=128 SEED=$seed PORT="$port"
for words in "no netem" "delay 1 ms" "delay 10 ms" "loss 1 %" \
             "delay 10 ms, loss 1 %"; do
  guest_says netem 240 "$words: p50 .* zeros 0 wrong 0 errors 0"
done
guest_ends netem 240
grep -a "guest says: " "$tmp/netem.console"
for words in "loss 1 %" "delay 10 ms, loss 1 %"; do
  check "packets were lost, with $words" grep -aqE \
        "^guest says: $words: .*dropped [1-9]" "$tmp/netem.console"
done
check "no read failed its checksum" is_equal \
      "$(stat_value checksum_failures)" 0
stop_server
finish
