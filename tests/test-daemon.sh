#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A server in the background: paths that were relative where it started,
# its end in good order, and what is left of one that was killed.

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy qemu-io

mkdir -p "$tmp/start" "$tmp/run/zmem"

# serve NAME OPTION...: nbdkit goes into the background; all of its paths
# are relative.
serve () {
  local name=$1
  shift
  (cd "$tmp/start" && rm -f "$name.pid" "$name.sock" &&
     bounded nbdkit -U "$name.sock" --pidfile "$name.pid" "$ZMEM_PLUGIN" \
             size=64M "$@") 2>>"$tmp/$name.log" || return 1
  wait_for 60 test -s "$tmp/start/$name.pid" || return 1
  server_pid=$(cat "$tmp/start/$name.pid")
  adopt_daemon "$server_pid"
  sock=$tmp/start/$name.sock
  uri="nbd+unix:///?socket=$sock"
  ctl=$tmp/start/$name.ctl
  log=$tmp/$name.log
}

check "starts with relative paths" serve one control=one.ctl \
      statsfile=one.prom stats-interval=1
check "is in the background, elsewhere" is_equal \
      "$(readlink "/proc/$server_pid/cwd")" /
check "has said its limit before it went" grep -q limit "$log"

cd / || exit 1
check "its disk is there" is_equal "$(nbdinfo --size "$uri")" $((64 * M))
check "its control socket is where it was asked for" zmemctl stats
check "nobody else may use the control socket" is_equal \
      "$(stat -c %a "$ctl")" 600
check "its statistics are where they were asked for" \
      wait_for 60 test -s "$tmp/start/one.prom"
random_file "$tmp/data" $((16 * M))
check "copy in" nbdcopy "$tmp/data" "$uri"
check "copy out" nbdcopy "$uri" "$tmp/out"
check "every byte is the same" cmp -n $((16 * M)) "$tmp/data" "$tmp/out"
check "it has threads of its own" grep -q zmem \
      <(cat "/proc/$server_pid/task/"*/comm)

kill -TERM "$server_pid"
check "ends when asked to" wait_for 60 process_ended "$server_pid"
check "its control socket is gone" test ! -e "$ctl"
check "its statistics are not" grep -q "^zmem_write_bytes_total $((16 * M))$" \
      "$tmp/start/one.prom"
check "no other file is left" is_equal \
      "$(cd "$tmp/start" && echo one.*)" "one.pid one.prom one.sock"

# Killed: its control socket stays, and is in nobody's way.
check "starts again" serve two control=two.ctl
kill -KILL "$server_pid"
check "is killed" wait_for 60 process_ended "$server_pid"
check "its control socket stays" test -S "$ctl"
check_fails "and nobody answers on it" '.' zmemctl stats
check "the next server takes it over" serve two control=two.ctl
check "and answers on it" zmemctl stats
check "and serves an empty disk" qemu-io -f raw "$uri" -c "read -P 0 0 32M"
second_pid=$server_pid

# zmemctl finds servers by their sockets; of the dead one it says nothing.
check "starts where zmemctl looks" serve three control=../run/zmem/three.ctl
third_pid=$server_pid
check "starts beside it" serve four control=../run/zmem/four.ctl
kill -KILL "$server_pid"
wait_for 60 process_ended "$server_pid"
check "zmemctl list" bounded env XDG_RUNTIME_DIR="$tmp/run" "$ZMEMCTL" list
cp "$tmp/check.out" "$tmp/list"
check "it finds the live one" grep -q "run/zmem/three.ctl .*64" "$tmp/list"
check "it lists no dead one as live" not grep "run/zmem/four.ctl .*64" \
      "$tmp/list"
check "the only live one needs no -s" bounded \
      env XDG_RUNTIME_DIR="$tmp/run" "$ZMEMCTL" stats

for server_pid in "$second_pid" "$third_pid"; do
  kill -TERM "$server_pid"
  check "ends in the end" wait_for 60 process_ended "$server_pid"
done
check "their control sockets are gone" test ! -e "$tmp/start/two.ctl" -a \
      ! -e "$tmp/run/zmem/three.ctl"

finish
