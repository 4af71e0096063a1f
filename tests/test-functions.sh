#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# That a test script can fail: what one exits with, and says last, is as its
# checks were, whatever else it has to clean up.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo

# script NAME LINE...: a test that does this.
script () {
  local name=$1
  shift
  { echo '. "$srcdir/tests/functions.sh"'
    printf '%s\n' "$@"
  } >"$tmp/$name.sh"
}
export srcdir

# ends_with NAME STATUS REGEX: it exits with the status, its output matches,
# and it leaves no folder.
ends_with () {
  local status
  mkdir -p "$tmp/$1.tmp"
  TMPDIR=$tmp/$1.tmp bounded bash "$tmp/$1.sh" >"$tmp/$1.out" 2>&1
  status=$?
  if [ "$status" -ne "$2" ]; then
    echo "exit status $status, not $2, and said:"
    cat "$tmp/$1.out"
    return 1
  fi
  grep -Eq "$3" "$tmp/$1.out" && rmdir "$tmp/$1.tmp"
}

cleaned='cleaned () { echo cleaned; }; at_end cleaned'

script good 'check one true' finish
check "one whose checks pass passes" ends_with good 0 '^1 passed, 0 failed$'
script bad 'check one true' 'check two false' finish
check "one with a check that fails fails" ends_with bad 1 '^1 passed, 1 failed$'
script bad-fails 'check_fails one sentence true' finish
check "and where a command did not fail" \
      ends_with bad-fails 1 '^0 passed, 1 failed$'
script none finish
check "one that checks nothing fails" ends_with none 1 '^0 passed, 0 failed$'
script short 'check one true'
check "one that ends before its end fails" \
      ends_with short 1 'ended before its end'
script skipped 'skip for a reason'
check "one that is skipped says so" ends_with skipped 77 'skipped: for a reason'
script ended 'check one true' 'kill -TERM $$' finish
check "one that is ended fails" ends_with ended 1 'ended before its end'

script clean-good "$cleaned" 'check one true' finish
check "what has to clean up passes" ends_with clean-good 0 '^cleaned$'
script clean-bad "$cleaned" 'check one false' finish
check "and fails" ends_with clean-bad 1 '^cleaned$'
script clean-fails 'cleaned () { false; }; at_end cleaned' 'check one true' \
       finish
check "cleaning up in vain is no failure of what is tested" \
      ends_with clean-fails 0 '^1 passed, 0 failed$'
script clean-skipped "$cleaned" 'skip for a reason'
check "and is skipped" ends_with clean-skipped 77 '^cleaned$'
script clean-twice "$cleaned" 'again () { echo again; }; at_end again' \
       'check one false' finish
check "whatever it cleans up" ends_with clean-twice 1 '^again$'

# nbdkit says that it is there before the plugin's threads are: a test that
# counts them, or what is locked, is not to look before.  This one goes on when
# it was looked at, and is waited for: the second time, since the first wait may
# be of a look before it.
slow='sleep () { : >"$tmp/waits"; command sleep "$@"; }
be_looked_at () {
  echo $BASHPID >"$1"
  for _ in 1 2; do
    rm -f "$tmp/waits"
    until [ -e "$tmp/waits" ]; do command sleep 0.01; done
  done
}'
script slow-start "$slow" 'nbdkit () { be_looked_at "$3"; exec nbdkit "$@"; }' \
       'start_server size=1M' 'there=$(threads_and_fds)' \
       'check answers bounded nbdinfo --size "$uri"' \
       'check one wait_for 60 threads_and_fds_are "$there"' stop_server finish
check "a server is started when its threads are" \
      ends_with slow-start 0 '^3 passed, 0 failed$'
script no-start "$slow" 'nbdkit () { be_looked_at "$3"; exit 1; }' \
       'check one true' 'start_server size=1M' 'check two true' finish
check "one that ends before that is not started" \
      ends_with no-start 1 '^1 passed, 1 failed$'
script vain 'is_two () { is_equal 1 2; }' 'check one wait_for 0 is_two' finish
check "what is waited for in vain is said" ends_with vain 1 "got '1', not '2'"

# A trap of its own would have its last command's status.
own_traps () {
  grep -l 'functions\.sh"' "$srcdir"/tests/test-*.sh |
    xargs grep -l '^ *trap .*EXIT'
}
check "no test has a trap of its own in place of at_end" \
      is_equal "$(own_traps)" ""

finish
