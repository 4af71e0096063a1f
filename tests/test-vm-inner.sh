#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The server is in the machine that swaps to it (tests/vm/inner.scenario):
# mlock=yes, IO flusher, out-of-memory score lowered, over a Unix socket.
# ZMEM_SECONDS: how long it swaps [20]; make check-long: an hour.

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires nbdkit
guest_requires
guest_program pressure
for program in nbdkit "$ZMEM_PLUGIN" "$ZMEMCTL"; do
  check "the guest has ${program##*/}" guest_copy "$program" || finish
done

seed=${ZMEM_SEED:-$RANDOM}
seconds=${ZMEM_SECONDS:-20}
echo "seed $seed"

guest_start inner "$srcdir/tests/vm/inner.scenario" \
            MEMORY=256 REST=72 PRESSURE=232 SEED="$seed" WALK="$seconds" \
            MLOCK=yes
guest_says inner 240 "swap is on" || finish
guest_says inner $((240 + seconds)) "swapped out" || finish
guest_ends inner 240
grep -aE '^(guest says: |GOOD)' "$tmp/inner.console"
check "every page was right" grep -qa '^GOOD' "$tmp/inner.console"
finish
