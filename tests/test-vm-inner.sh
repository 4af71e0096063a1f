#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The server is in the machine that swaps to it (tests/vm/inner.scenario):
# mlock=yes, IO flusher, out-of-memory score lowered, over a Unix socket.  In
# one guest all others are in a memory cgroup, in one the server is first.
# ZMEM_SECONDS: how long it swaps [20]; make check-long: an hour.

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires nbdkit chrt
guest_requires
guest_program pressure
for program in nbdkit "$ZMEM_PLUGIN" "$ZMEMCTL" chrt; do
  check "the guest has ${program##*/}" guest_copy "$program" || finish
done

seed=${ZMEM_SEED:-$RANDOM}
seconds=${ZMEM_SECONDS:-20}
echo "seed $seed"

# Two guests at once, and neither needs the network.
# shellcheck disable=SC2034
guest_netdev=user,id=net

# start NAME NAME=VALUE...
start () {
  local name=$1
  shift
  guest_start "$name" "$srcdir/tests/vm/inner.scenario" \
              MEMORY=256 PRESSURE=232 SEED="$seed" WALK="$seconds" \
              MLOCK=yes "$@"
}

# ends NAME: it has swapped, and every page was right.
ends () {
  guest_says "$1" 240 "swap is on"
  guest_says "$1" $((300 + seconds)) "swapped out"
  guest_ends "$1" 240
  grep -aE '^(guest says: |GOOD)' "$tmp/$1.console"
  check "every page was right" grep -qa '^GOOD' "$tmp/$1.console"
}

start cgroup REST=72 FIRST=0
start first REST=0 FIRST=8192 WALK=$((seconds / 2))
ends cgroup
ends first
finish
