#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing leaks, however often clients come and go and the limit, the codec and
# compaction are told otherwise (leak-load.c): by the kernel's account neither
# descriptors nor threads nor resident memory; by valgrind no allocation, and
# no memory is used wrongly.  There are no suppressions: at the end of a server
# everything is freed, nbdkit's own included.
#
# ZMEM_LONG=1: ten times as often; ZMEM_QUICK=1: a tenth as often.

. "${srcdir:-.}/tests/functions.sh"
load=$top_builddir/tests/leak-load
[ -x "$load" ] || skip "this test needs libnbd's headers at build time"

nr_times=1000
[ -z "${ZMEM_LONG:-}" ] || nr_times=10000
[ -z "${ZMEM_QUICK:-}" ] || nr_times=100

#----------------------------------------------------------------------
# By the kernel's account.

start_server size=64M compress=zstd limit=64M stats-export=stats \
  statsfile="$tmp/stats" stats-interval=1
# The file that is written each second is open meanwhile.
check "its statistics are written" wait_for 60 test -s "$tmp/stats"
before=$(threads_and_fds)
# What is made only once is there after the first ones: malloc's arenas and the
# stacks that libc keeps.
check "connections and commands, at first" bounded "$load" "$uri" "$ctl" \
      $((nr_times / 5))
rss=$(process_bytes "$server_pid" VmRSS)
check "$nr_times connections and as many commands" \
      timeout -k 5 1200 "$load" "$uri" "$ctl" $nr_times
check "threads and descriptors are as before" \
      wait_for 30 threads_and_fds_are "$before"
zmemctl compress zstd >/dev/null
rss_then=$(process_bytes "$server_pid" VmRSS)
echo "resident bytes at first: $rss, after $nr_times more: $rss_then"
check "resident memory, but for 16 MiB" at_most "$rss_then" $((rss + 16 * M))
stop_server

#----------------------------------------------------------------------
# By valgrind, which is slow.

if ! type -P valgrind >/dev/null; then
  echo "without valgrind, which is not here"
  finish
fi

# valgrind_is_up: where the server has ended, too.
valgrind_is_up () {
  [ -s "$tmp/valgrind.pid" ] || process_ended "$server_pid"
}

: >"$tmp/valgrind.log"
valgrind --quiet --leak-check=full --show-leak-kinds=all \
  --errors-for-leak-kinds=all --error-exitcode=9 --num-callers=30 \
  nbdkit -f --pidfile "$tmp/valgrind.pid" -U "$tmp/valgrind.sock" \
  "$ZMEM_PLUGIN" size=16M compress=zstd limit=64M stats-export=stats \
  statsfile="$tmp/stats" stats-interval=1 control="$tmp/valgrind.ctl" \
  </dev/null 2>>"$tmp/valgrind.log" &
server_pids[valgrind]=$!
select_server valgrind
wait_for 120 valgrind_is_up
check "under valgrind: connections and commands" \
      timeout -k 5 1200 "$load" "$uri" "$ctl" $((nr_times / 10))
# nbdkit frees no connection that is there when it is told to end.
wait_for 60 clients_have_gone
stop_server valgrind
check "valgrind has nothing to say" not grep -A 40 '^==' "$tmp/valgrind.log"
finish
