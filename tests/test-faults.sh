#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What the system refuses: the Nth call of each family (memory, mappings,
# advice, threads, sockets, files, locking) that the plugin makes fails, by
# way of fault-preload.c.
#
#   At start, N from 1 until no call fails any more: the server says why in
#   one sentence and ends with status 1, leaving neither a socket nor a file
#   behind; or the call is one that it can do without, and it serves.
#
#   While serving, under requests and control commands (nbd-faults.c): clean
#   errors, all data as it was or as it should be, and the server goes on.
#
# In the short form some N of the long families are left out, by chance;
# ZMEM_LONG=1 leaves out none.  How many calls were made to fail is said.
#
. "${srcdir:-.}/tests/functions.sh"
client=$top_builddir/tests/nbd-faults
starts=$top_builddir/tests/fault-starts
preload=$top_builddir/tests/fault-preload.so
[ -x "$client" ] || skip "this test needs libnbd's headers at build time"

long=${ZMEM_LONG:-}
: "${ZMEM_SEED:=$((RANDOM * 32768 + RANDOM))}"
export ZMEM_SEED FAULT_PRELOAD=$preload
echo "ZMEM_SEED=$ZMEM_SEED"

# said FAMILY: the counts of a program that was checked.
said () { grep -E "^(start|serving): $1.*: " "$tmp/check.out"; }

#----------------------------------------------------------------------
# At start.

# try_starts FAMILY STEP
try_starts () {
  local step=$2
  [ -z "$long" ] || step=1
  mkdir "$tmp/start-$1"
  check "start: $1: each time a sentence or a server" timeout -k 5 1200 \
        "$starts" "$1" "$step" "$tmp/start-$1" \
        nbdkit -s "$ZMEM_PLUGIN" size=16M compress=zstd control=ctl \
        statsfile=stats stats-export=stats mlock=$mlock
  said "$1"
}

# Locking in memory needs a right that not every container gives.
mlock=yes
nbdkit -U - --run true "$ZMEM_PLUGIN" 1M mlock=yes 2>/dev/null || mlock=no

try_starts malloc 4
try_starts mmap 1
try_starts madvise 4
try_starts thread 1
try_starts socket 1
try_starts file 3
[ $mlock = no ] || try_starts lock 16

#----------------------------------------------------------------------
# While serving.

# serve FAMILY STEP ROW: at the Nth call and after it ROW calls fail.
serve () {
  local step=$2
  [ -z "$long" ] || step=1
  check "serving: $1, $3 in a row" timeout -k 5 1200 \
        "$client" "$uri" "$ctl" "$ZMEM_FAULTS" "$1" "$step" "$3"
  said "$1"
}

export ZMEM_FAULTS=$tmp/faults
head -c 448 /dev/zero >"$ZMEM_FAULTS"
LD_PRELOAD=$preload start_server size=8M compress=zstd \
  statsfile="$tmp/stats" stats-interval=1
serve malloc 16 1
serve malloc 32 1000
serve madvise 3 1
serve madvise 5 1000
serve socket 16 1
serve file 1 1
check "the server is well" server_is_alive
check "its file of statistics is there" test -s "$tmp/stats"
check "and nothing beside it" test ! -e "$tmp/stats.zmem.tmp"
stop_server
finish
