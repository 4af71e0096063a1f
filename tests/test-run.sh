#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# ./run as its users meet it: it serves, says how to connect, refuses a second
# server in the same folder, removes what a dead one left, says what it held
# when it is stopped, and leaves nothing behind.

# Functions are given to check.
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo perl

run=$(cd "$srcdir" && pwd)/run
export ZMEM_BUILD=$top_builddir
mkdir "$tmp/work" && cd "$tmp/work" || exit 1
run_pid=

has_connect_lines () { grep -q '^What it holds:' ../out; }
run_ended () { process_ended "$run_pid"; }
run_decided () { has_connect_lines || run_ended; }

# start_run ARGUMENT...: what it prints goes to ../out and ../err.
start_run () {
  # Not the last one's lines, while this one has not begun.
  : >../out
  # TMPDIR: a run that is killed leaves its folder.
  TMPDIR=$tmp "$run" "$@" >../out 2>../err </dev/null &
  run_pid=$!
  adopt_daemon "$run_pid"
  wait_for 120 run_decided
  check "run $* serves" has_connect_lines || cat ../out ../err
}

# stop_run: as Ctrl-C does.  (A script's own background jobs ignore SIGINT.)
stop_run () {
  kill -TERM "$run_pid"
  wait_for 120 run_ended
  wait "$run_pid"
  check "run ends with 0" is_equal $? 0
  check "run says what the disk held" grep -q '^What the disk held:' ../out
  check "and something after that" is_below_account
}
is_below_account () {
  sed -n '/^What the disk held:/,/^Stopped/p' ../out | grep -q '[0-9]'
}

exits_with () {
  local wanted=$1
  shift
  "$@"
  is_equal $? "$wanted"
}
is_empty_folder () { is_equal "$(ls -A .)" ''; }

check "--help" grep -q '^usage: ./run' <("$run" --help)
check "a word that is no option: exit code 2" exits_with 2 "$run" nonsense
check_fails "a wrong value: nbdkit's sentence" '^nbdkit: error: .' \
            "$run" size=nonsense
check_fails "an unknown option: the same" '^nbdkit: error: .' \
            "$run" no-such-option=1
check "neither left anything" is_empty_folder

start_run size=64M
for word in 'nbd-client -unix' 'swapon --discard' 'discard=unmap' nbdcopy; do
  check "says how to: $word" grep -q -e "$word" ../out
done
uri='nbd+unix:///?socket=zmem.sock'
check "size= is heeded" is_equal "$(nbdinfo --size "$uri")" $((64 * M))
ctl=./zmem.ctl
check "zmemctl finds it" zmemctl stats

check_fails "a second one in the same folder" '^run: .*already listens' "$run"
check "the first one goes on" nbdinfo --size "$uri"
stop_run
check "nothing is left" is_empty_folder

# A killed server's sockets are no obstacle; a file of that name is one.
make_stale_sockets () {
  perl -MIO::Socket::UNIX -e '
    IO::Socket::UNIX->new (Local => $_, Listen => 1) or die for @ARGV' \
    zmem.sock zmem.ctl
}
check "sockets of nobody" make_stale_sockets
start_run 32M
check "a size without its key" is_equal "$(nbdinfo --size "$uri")" $((32 * M))
stop_run
echo precious >zmem.sock
check_fails "a file named zmem.sock" '^run: .*no socket' "$run"
check "it is still there" is_equal "$(cat zmem.sock)" precious
rm zmem.sock

# Where run itself is killed, nbdkit does not stay.
nobody_listens () { ! nbdinfo --size "$uri"; }
start_run size=16M control=other.ctl
check "control= is heeded" test -S other.ctl
kill -KILL "$run_pid"
wait "$run_pid" 2>/dev/null
check "nbdkit ends with run" wait_for 120 nobody_listens

finish
