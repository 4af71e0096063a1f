# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What the server tests share: a private folder, servers that are started
# and stopped, checks that are counted.  Each of them goes like this:
#
#     . "${srcdir:-.}/tests/functions.sh"
#     requires nbdinfo
#     start_server size=1G
#     check "says its size" is_equal "$(nbdinfo --size "$uri")" $G
#     stop_server
#     finish
#
# From the harness: srcdir, top_builddir, ZMEM_PLUGIN, ZMEMCTL.
#
# Nothing here measures time.  Where something is waited for, it is an event
# (a file appears, a process ends), and the wait has an end: wait_for.
#
# shellcheck shell=bash

set -u
export LC_ALL=C

: "${srcdir:=.}" "${top_builddir:=.}"
: "${ZMEM_PLUGIN:?must be the absolute path of the plugin}"
: "${ZMEMCTL:?must be the absolute path of zmemctl}"

# mkfs and e2fsck are not on everybody's path.
PATH=$PATH:/usr/sbin:/sbin

readonly K=1024
readonly M=$((1024 * K))
readonly G=$((1024 * M))
# shellcheck disable=SC2034
readonly T=$((1024 * G))

# ZMEM_DELAYS: delay-preload.so.  What the shell itself does is held up, too.
if [ -n "${ZMEM_DELAYS:-}" ] && [ "${LD_PRELOAD:-}" != "$ZMEM_DELAYS" ]; then
  LD_PRELOAD=$ZMEM_DELAYS exec bash "$0" "$@"
fi

#----------------------------------------------------------------------
# The private folder.  A Unix socket's path has at most 107 bytes.

tmp=$(mktemp -d "${TMPDIR:-/tmp}/zmem.XXXXXX") || exit 1
if [ ${#tmp} -gt 60 ]; then
  rmdir "$tmp"
  tmp=$(mktemp -d /tmp/zmem.XXXXXX) || exit 1
fi

#----------------------------------------------------------------------
# Clients.  Each has a longest time: a server that hangs is a failure, not
# a reason to wait for ever.

# ZMEM_SECONDS: make check-long asks for longer runs.
readonly client_seconds=$((240 + ${ZMEM_SECONDS:-0}))

bounded () { timeout -k 5 "$client_seconds" "$@"; }

for client in nbdinfo nbdcopy qemu-img qemu-io fio; do
  eval "$client () { bounded $client \"\$@\"; }"
done

zmemctl () { bounded "$ZMEMCTL" -s "$ctl" "$@"; }

#----------------------------------------------------------------------
# Checks.

nr_passed=0
nr_failed=0
finished=no

skip () {
  echo "skipped: $*"
  finished=yes
  exit 77
}

# Skip the whole test where a command is missing.
requires () {
  local command
  for command; do
    type -P "$command" >/dev/null || skip "this test needs $command"
  done
}

pass () {
  nr_passed=$((nr_passed + 1))
  echo "ok: $1"
}

# fail NAME [FILE]: the file tells what was seen.
fail () {
  nr_failed=$((nr_failed + 1))
  echo "FAILED: $1"
  if [ $# -ge 2 ]; then head -c 4000 "$2" | sed 's/^/    /'; fi
}

# check NAME COMMAND...: the command succeeds.
check () {
  local name=$1 status
  shift
  "$@" >"$tmp/check.out" 2>&1 </dev/null
  status=$?
  if [ $status -eq 0 ]; then
    pass "$name"
  else
    echo "exit status $status of: $1" >>"$tmp/check.out"
    fail "$name" "$tmp/check.out"
  fi
  return $status
}

# check_fails NAME REGEX COMMAND...: the command fails by itself, neither by
# a signal nor by its longest time, and says something that matches.
check_fails () {
  local name=$1 regex=$2 status
  shift 2
  "$@" >"$tmp/check.out" 2>&1 </dev/null
  status=$?
  if [ $status -gt 0 ] && [ $status -lt 124 ] &&
     grep -Eq -e "$regex" "$tmp/check.out"; then
    pass "$name"
    return 0
  fi
  echo "exit status $status of: $1; wanted a failure that says /$regex/" \
       >>"$tmp/check.out"
  fail "$name" "$tmp/check.out"
  return 1
}

# To be given to check, so that a failure shows the values.
is_equal () {
  [ "$1" = "$2" ] || { echo "got '$1', not '$2'"; return 1; }
}
at_most () {
  [ "$1" -le "$2" ] || { echo "$1 is more than $2"; return 1; }
}
at_least () {
  [ "$1" -ge "$2" ] || { echo "$1 is less than $2"; return 1; }
}
matches () {
  printf '%s\n' "$1" | grep -Eq -e "$2" ||
    { printf '%s\nhas nothing like /%s/\n' "$1" "$2"; return 1; }
}
not () { ! "$@"; }

# To be given to check: the text is JSON.  Without perl's JSON::PP (Debian has it
# in perl-modules) it is looked at less closely.
is_json () {
  if perl -MJSON::PP -e 1 2>/dev/null; then
    perl -MJSON::PP -e 'local $/; decode_json (<STDIN>)' <<<"$1"
  else
    matches "$1" '^[[{].*[]}]$'
  fi
}

# The last line of a test: the account, and the exit status.
finish () {
  local name
  for name in "${!server_pids[@]}"; do stop_server "$name"; done
  finished=yes
  [ $nr_failed -eq 0 ] || print_logs
  echo "took $SECONDS s"        # ./check adds these up
  echo "$nr_passed passed, $nr_failed failed"
  [ $nr_failed -eq 0 ] && [ $nr_passed -gt 0 ]
  exit
}

#----------------------------------------------------------------------
# Waiting.

# wait_for SECONDS COMMAND...: until the command succeeds; for so long at
# least.  The seconds only bound a wait for what will never come: on a loaded
# machine everything may take ten times what it takes on a quiet one.  What
# the command says the last time, in vain, is said.
wait_for () {
  local end=$((SECONDS + $1)) steps="0.02 0.02 0.05 0.1 0.2"
  shift
  until "$@" >/dev/null 2>&1; do
    # The clock ticks once a second, so not at `end` yet.
    if [ $SECONDS -gt $end ]; then
      "$@"
      return
    fi
    sleep "${steps%% *}"
    # The last one stays: who looks all the time takes from whom he waits for.
    steps=${steps#* }
  done
}

process_ended () {
  local state
  # A process that nobody has waited for yet (a daemon's parent may be a
  # container's first process, which waits for none) has ended, too.
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" \
            2>/dev/null)
  [ -z "$state" ] || [ "$state" = Z ]
}

#----------------------------------------------------------------------
# Servers.  One that is started becomes the current one:
#
#   sock, uri    its NBD socket, its default export
#   ctl          its control socket
#   log          what it writes to standard error
#   server_pid
#
# select_server makes another one current.

declare -A server_pids=()
daemon_pids=()

# shellcheck disable=SC2034
select_server () {
  sock=$tmp/$1.sock
  uri="nbd+unix:///?socket=$sock"
  ctl=$tmp/$1.ctl
  log=$tmp/$1.log
  server_pid=${server_pids[$1]:-}
}
select_server main

# The URI of another export of the current server.
export_uri () { echo "nbd+unix:///$1?socket=$sock"; }

# launch NAME NBDKIT-ARGUMENTS...: run nbdkit in the foreground of a job of
# ours.  False if it ended before it was ready.
launch () {
  local name=$1
  shift
  rm -f "$tmp/$name.pid"
  nbdkit -f --pidfile "$tmp/$name.pid" "$@" </dev/null 2>>"$tmp/$name.log" &
  server_pids[$name]=$!
  select_server "$name"
  if ! wait_for 120 launch_decided "$name" "$@" ||
     process_ended "$server_pid"; then
    end_process "$server_pid"
    unset "server_pids[$name]"
    return 1
  fi
}

launch_decided () {
  local name=$1 pid=${server_pids[$1]}
  shift
  { [ -s "$tmp/$name.pid" ] && threads_are_there "$pid" "$@"; } ||
    process_ended "$pid"
}

# threads_are_there PID NBDKIT-ARGUMENTS...: what the plugin starts last is.
# nbdkit writes its pidfile before that, so that who looks then may see fewer
# threads, and nothing locked.
threads_are_there () {
  local pid=$1 last
  shift
  case " $* " in
    *" statsfile="*) last=zmem-statsfile ;;
    *" control="*) last=zmem-control ;;
    *" $ZMEM_PLUGIN "*) last=zmem-compact ;;
    *) return 0 ;;
  esac
  cat "/proc/$pid/task/"*/comm | grep -qx "$last"
}

# launch_tcp NAME NBDKIT-ARGUMENTS...: on a port of listen_address that is
# free; sets port.
listen_address=127.0.0.1
launch_tcp () {
  local name=$1 try
  shift
  for try in 1 2 3 4 5 6 7 8; do
    port=$((20000 + RANDOM % 12000))
    launch "$name" -i "$listen_address" -p "$port" "$@" && return
    echo "port $port is taken (try $try)"
  done
  return 1
}

# start_server_as NAME [NBDKIT-OPTIONS... --] KEY=VALUE...
# Where no control= is given, $ctl is it.
start_server_as () {
  local name=$1 options=() arg
  shift
  for arg; do
    if [ "$arg" = -- ]; then
      while [ "$1" != -- ]; do options+=("$1"); shift; done
      shift
      break
    fi
  done
  case " $*" in
    *" control="*) ;;
    *) set -- "$@" "control=$tmp/$name.ctl" ;;
  esac
  if ! launch "$name" -U "$tmp/$name.sock" "${options[@]}" \
       "$ZMEM_PLUGIN" "$@"; then
    fail "server $name starts with $*" "$tmp/$name.log"
    finish
  fi
}

start_server () { start_server_as main "$@"; }

# stop_server [NAME]: ask it to end and see that it does so in good order.
stop_server () {
  local name=${1:-main} pid status
  pid=${server_pids[$name]:-}
  if [ -z "$pid" ]; then
    fail "server $name is there to be stopped"
    return 1
  fi
  kill -TERM "$pid" 2>/dev/null
  wait_for 120 process_ended "$pid" || kill -KILL "$pid"
  wait "$pid"
  status=$?
  unset "server_pids[$name]"
  check "server $name ends in good order" server_was_well "$status" \
        "$tmp/$name.log"
}

server_was_well () {
  if [ "$1" -ne 0 ]; then
    echo "the server's exit status is $1"
    return 1
  fi
  ! grep -E 'Assertion|Sanitizer|runtime error|corrupt|inconsistent' "$2"
}

server_is_alive () { ! process_ended "$server_pid"; }

# A server that left for the background: end it when the test does.
adopt_daemon () { daemon_pids+=("$1"); }

end_process () {
  kill -TERM "$1" 2>/dev/null || return 0
  wait_for 60 process_ended "$1" || kill -KILL "$1" 2>/dev/null
}

print_logs () {
  local file
  for file in "$tmp"/*.log; do
    [ -s "$file" ] || continue
    echo "--- ${file##*/}"
    tail -n 40 "$file"
  done
}

# at_end COMMAND: a test's own cleaning up, while its servers still run.  (Not
# by a trap of its own: what that does first is then the test's exit status.)
end_commands=()
at_end () { end_commands+=("$1"); }

clean_up () {
  local status=$? pid command
  trap - EXIT
  for command in ${end_commands[@]+"${end_commands[@]}"}; do "$command"; done
  for pid in "${server_pids[@]}" "${daemon_pids[@]}"; do
    end_process "$pid"
  done
  if [ $finished = no ]; then
    print_logs
    echo "the test ended before its end (status $status)"
    status=1
  fi
  rm -rf "$tmp"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# From 1.34 on it does, with several threads a connection (plugin/hang-up.c).
nbdkit_survives_hang_ups () {
  local version
  version=$(nbdkit --version | sed 's/^nbdkit //')
  [ "$(printf '%s\n' 1.34 "$version" | sort -V | head -n 1)" = 1.34 ]
}

#----------------------------------------------------------------------
# What a server says of itself.

# One statistic of the current server, a number.
stat_value () {
  zmemctl --json stats | grep -Eo "\"$1\": *[0-9]+" | head -n 1 |
    grep -Eo '[0-9]+$'
}
held_bytes () { stat_value held_bytes; }

# held_is_at_most BYTES, to be waited for: what was trimmed is purged, and what
# is left moved together, a moment after the trim was answered.
held_is_at_most () { at_most "$(held_bytes)" "$1"; }

# A client that has ended may still have its connection for a moment.
clients_have_gone () { is_equal "$(stat_value connections)" 0; }

# What a server has open, and its threads.
nr_fds () { find "/proc/$server_pid/fd" -mindepth 1 | wc -l; }
nr_threads () {
  find "/proc/$server_pid/task" -mindepth 1 -maxdepth 1 | wc -l
}

# Both, to be waited for: a connection's threads end, and its descriptor is
# closed, a moment after the client has seen it go.
threads_and_fds () { echo "$(nr_threads) threads, $(nr_fds) descriptors"; }
threads_and_fds_are () { is_equal "$(threads_and_fds)" "$1"; }

# A field of /proc/PID/status that is in kB, in bytes: RssAnon, VmLck.
process_bytes () {
  local kib
  kib=$(sed -n "s/^$2:[[:space:]]*\([0-9]*\) kB$/\1/p" "/proc/$1/status")
  echo $((kib * 1024))
}

#----------------------------------------------------------------------
# Data.  Where broken pipes are ignored, seq and others tell of theirs.

# random_file FILE BYTES: does not compress.
random_file () { head -c "$2" /dev/urandom >"$1"; }

# text_file FILE BYTES [FIRST]: compresses; no two blocks are equal, and
# another FIRST makes other blocks.
text_file () {
  seq "${3:-1000000}" 99999999 2>/dev/null | head -c "$2" >"$1"
}

# mixed_file FILE BYTES: compresses a little, with every codec, to payloads
# of many sizes.
mixed_file () {
  { paste -d '' <(base64 -w 44 /dev/urandom) <(seq 1000000 99999999) |
      head -c "$2" >"$1"; } 2>/dev/null
}
