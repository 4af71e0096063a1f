#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# mlock=yes: what the disk holds is locked in RAM, also by a server that
# has gone into the background or has dropped its rights; what is trimmed
# is given back all the same.

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdcopy qemu-io prlimit setpriv
[ "$(id -u)" -eq 0 ] || skip "only root may lock memory"

# Bytes of a process that are locked and resident.
locked_bytes () {
  awk '/^[0-9a-f]+-/ { mine = $5 == 0 }
       /^Locked:/ && mine { kib += $2 }
       END { print kib * 1024 }' "/proc/$1/smaps"
}

# Locking may be forbidden to this container's root, too.
if ! bounded nbdkit -U "$tmp/probe.sock" "$ZMEM_PLUGIN" 64M mlock=yes \
     --run true >"$tmp/try.out" 2>&1; then
  grep -q RLIMIT_MEMLOCK "$tmp/try.out" &&
    skip "this root may not lock memory: $(tail -n 1 "$tmp/try.out")"
fi

# serve NAME NBDKIT-ARGUMENTS...: a server in the background.  It gets a
# folder that nobody can write to.
serve () {
  local name=$1
  shift
  select_server "$name"
  rm -f "$tmp/open/$name.pid"
  bounded nbdkit -U "$tmp/open/$name.sock" --pidfile "$tmp/open/$name.pid" \
          "$@" "control=$tmp/open/$name.ctl" 2>>"$log" || return 1
  wait_for 60 test -s "$tmp/open/$name.pid"
  server_pid=$(cat "$tmp/open/$name.pid")
  adopt_daemon "$server_pid"
  wait_for 60 threads_are_there "$server_pid" control=
  sock=$tmp/open/$name.sock
  uri="nbd+unix:///?socket=$sock"
  ctl=$tmp/open/$name.ctl
}
mkdir "$tmp/open"
chmod 711 "$tmp"
chmod 1777 "$tmp/open"
cp "$ZMEM_PLUGIN" "$tmp/open/nbdkit-zmem-plugin.so"
chmod 755 "$tmp/open/nbdkit-zmem-plugin.so"

# holds_and_returns NAME: the data path of the current, locked server.
holds_and_returns () {
  local name=$1 locked held
  locked=$(locked_bytes "$server_pid")
  check "$name: copy in" nbdcopy "$tmp/random" "$uri"
  check "$name: what is written is locked" at_least \
        "$(locked_bytes "$server_pid")" $((locked + 31 * M))
  rm -f "$tmp/out"
  nbdcopy "$uri" "$tmp/out"
  check "$name: it comes out again" cmp -n $((32 * M)) "$tmp/random" \
        "$tmp/out"
  held=$(held_bytes)
  locked=$(locked_bytes "$server_pid")
  check "$name: trim" qemu-io -f raw "$uri" -c "discard 0 32M"
  check "$name: trimming lowers what is held" wait_for 120 \
        held_is_at_most $((held - 31 * M))
  check "$name: the kernel has it back" at_most \
        "$(locked_bytes "$server_pid")" $((locked - 30 * M))
  check "$name: the trimmed disk reads as zeros" qemu-io -f raw "$uri" \
        -c "read -P 0 0 32M"
}

ends () {
  kill -TERM "$server_pid"
  check "$1: ends" wait_for 60 process_ended "$server_pid"
}

random_file "$tmp/random" $((32 * M))

check "mlock=no starts" serve unlocked "$ZMEM_PLUGIN" size=256M
check "mlock=no locks nothing" is_equal \
      "$(process_bytes "$server_pid" VmLck)" 0
ends unlocked

check "mlock=yes starts in the background" serve locked "$ZMEM_PLUGIN" \
      size=256M mlock=yes
check "it says that it is locked" grep -q 'locked' "$log"
check "it is locked in the background" at_least \
      "$(process_bytes "$server_pid" VmLck)" 1
check "an empty disk takes little" at_most \
      "$(locked_bytes "$server_pid")" $((48 * M))
holds_and_returns background
ends background

# Dropping rights means losing the capability: then the resource limit must
# do, which root raises where the container lets it.
if prlimit --memlock=unlimited true 2>/dev/null; then
  check "mlock=yes starts and drops its rights" serve nobody -u 65534 -g 65534 \
        "$tmp/open/nbdkit-zmem-plugin.so" size=256M mlock=yes
  check "it has dropped them" matches "$(cat "/proc/$server_pid/status")" \
        '^Uid:.65534.65534'
  check "it is locked without rights" at_least \
        "$(process_bytes "$server_pid" VmLck)" 1
  holds_and_returns nobody
  ends nobody
else
  echo "left out: dropping rights (RLIMIT_MEMLOCK cannot be raised here)"
fi

start_server_as terabyte size=1T mlock=yes
check "a locked terabyte takes little" at_most \
      "$(locked_bytes "$server_pid")" $((48 * M))
stop_server terabyte

# nbdkit --swap makes a large heap resident, whatever it serves.
if launch null -U "$tmp/null.sock" --swap null; then
  swap_rss=$(process_bytes "$server_pid" RssAnon)
  stop_server null
  start_server_as swap --swap -- size=256M
  check "nbdkit -f --swap locks, too" at_least \
        "$(process_bytes "$server_pid" VmLck)" $((256 * M))
  check "an empty disk under --swap is not made resident" at_most \
        "$(process_bytes "$server_pid" RssAnon)" $((swap_rss + 8 * M))
  holds_and_returns swap
  stop_server swap
else
  fail "nbdkit --swap starts" "$tmp/null.log"
fi

# A user who may not lock so much, and one who may.
# as_nobody SETPRIV-OPTION...
as_nobody () {
  rm -f "$tmp/open/nobody.sock"
  TMPDIR=$tmp/open bounded prlimit --memlock=65536:65536 \
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@" \
    nbdkit -U "$tmp/open/nobody.sock" "$tmp/open/nbdkit-zmem-plugin.so" \
    size=64M mlock=yes \
    --run 'nbdcopy "$TMPDIR/data" "$uri"'
}
random_file "$tmp/open/data" $((4 * M))
# Whatever the umask.
chmod 644 "$tmp/open/data"
check_fails "a low limit is refused" '^nbdkit: error: zmem: mlock=yes: ' \
            as_nobody
cp "$tmp/check.out" "$tmp/refused.out"
check "and named" grep -Eq 'RLIMIT_MEMLOCK is 64 KiB.*ulimit -l' \
      "$tmp/refused.out"
check "in one line" is_equal "$(wc -l <"$tmp/refused.out")" 1
check "a user with the capability may lock" as_nobody \
      --inh-caps=+ipc_lock --ambient-caps=+ipc_lock

finish
