#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The units of systemd/: systemd-analyze has nothing to say about them; the
# command line and the limits of zmem@.service serve, started by a client
# that connects (systemd-socket-activate); and a systemd of our own, in
# namespaces of its own, starts the units as they are, sandbox and all, ends
# them, and starts none a second time by itself.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh" || exit 1
requires nbdkit nbdcopy nbdinfo qemu-io prlimit setpriv unshare nsenter \
         systemd-analyze systemd-socket-activate systemctl

units=$srcdir/systemd
text_file "$tmp/data" $((8 * M))

# value_of UNIT KEY: what the unit sets.
value_of () { sed -n "s/^$2=//p" "$units/$1"; }

# copies_in_and_out: through $uri.
copies_in_and_out () {
  rm -f "$tmp/out"
  nbdcopy --connections=4 "$tmp/data" "$uri" && nbdcopy "$uri" "$tmp/out" &&
    cmp -n $((8 * M)) "$tmp/data" "$tmp/out"
}

#----------------------------------------------------------------------
# systemd-analyze.  nbd-client may not be installed, and our manual pages
# are not.

folder=$tmp/units
mkdir "$folder"
cp "$units"/zmem@.* "$units"/examples/* "$folder"
chmod u+w "$folder"/*
sed -i "s|=nbd-client |=$(type -P true) |" "$folder/zmem-swap@.service"

# verify UNIT...: passes without a word.
verify () {
  local words
  words=$(SYSTEMD_UNIT_PATH="$folder:" bounded systemd-analyze verify \
            --man=no "${@/#/$folder/}" 2>&1) || { echo "$words"; return 1; }
  is_equal "$words" ""
}

check "the server's units" verify zmem@.socket zmem@.service
check "the client's units" verify zmem-swap@.service dev-nbd0.swap
sed 's/^Restart=no/Restart=perhaps/' "$units/zmem@.service" \
  >"$folder/wrong@.service"
check "a mistake would be told" not verify wrong@.service
rm "$folder/wrong@.service"

# The network comes up before swap.target or after it: its service waits for
# sysinit.target or does not.
network_is () {
  mkdir -p "$folder/network-online.target.wants" "$folder/swap.target.wants"
  ln -sf ../network.service "$folder/network-online.target.wants"
  ln -sf ../dev-nbd0.swap "$folder/swap.target.wants"
  {
    echo "[Unit]"
    [ "$1" = late ] || echo "DefaultDependencies=no"
    printf '%s\n' "Before=network-online.target" "[Service]" "Type=oneshot" \
           "ExecStart=$(type -P true)"
  } >"$folder/network.service"
}
network_is early
check "swap over an early network" verify dev-nbd0.swap
network_is late
check "over a late one it would be a cycle" not verify dev-nbd0.swap
cp "$tmp/check.out" "$tmp/cycle"
check "which is what verify says" grep -q 'ordering cycle' "$tmp/cycle"
late_lines=$(sed -n 's/^#     //p' "$units/examples/dev-nbd0.swap" |
               sed 's/NAME/disk/g')
check "the comment has five lines for that" is_equal \
      "$(wc -l <<<"$late_lines")" 5
rm -r "$folder/swap.target.wants"
awk -v lines="$late_lines" '
  { sub (/^WantedBy=.*/, "WantedBy=multi-user.target"); print }
  /^\[Unit\]/ { print lines }' "$units/examples/dev-nbd0.swap" \
  >"$folder/dev-nbd0.swap"
mkdir "$folder/multi-user.target.wants"
ln -s ../dev-nbd0.swap "$folder/multi-user.target.wants"
check "with them it is none, and the server may be on this machine" \
      verify dev-nbd0.swap

exposure=$(bounded systemd-analyze security --offline=true --no-pager \
             "$folder/zmem@.service" 2>&1 | sed -n 's/.*: \([0-9.]*\) .*/\1/p' |
             tail -n 1)
echo "note: systemd-analyze security: $exposure of 10"
check "little of the system is exposed" at_most "${exposure/./}" 25

#----------------------------------------------------------------------
# By systemd-socket-activate: the unit's command line, with its limits.

# activate OPTIONS: be the unit's command when a client connects to $sock.
activate () {
  local text words stack
  text=$(value_of zmem@.service ExecStart)
  text=${text/\$NBDKIT_OPTIONS/}
  text=${text/\$ZMEM_OPTIONS/$1}
  text=${text//%i/main}
  text=${text//\/run\/zmem/$tmp}
  text=${text/ zmem / $ZMEM_PLUGIN }
  read -r -a words <<<"$text"
  systemd-socket-activate -l "$sock" "${confined[@]}" "${words[@]}" \
    </dev/null 2>>"$log" &
  server_pid=$!
  server_pids[main]=$server_pid
  wait_for 60 listens "$sock"
}
# The socket is there a moment before somebody listens.
listens () {
  awk -v path="$1" '$4 == "00010000" && $NF == path { found = 1 }
                    END { exit !found }' /proc/net/unix
}

# As far as prlimit, setpriv and unshare can do what the unit says, and this
# machine lets them.
stack=$(value_of zmem@.service LimitSTACK)
stack=$((${stack%M} * M))
confined=(prlimit "--stack=$stack:$stack")
! prlimit --memlock=unlimited true 2>/dev/null ||
  confined+=(--memlock=unlimited)
if [ "$(id -u)" -eq 0 ]; then
  kept=$(value_of zmem@.service CapabilityBoundingSet | tr 'A-Z ' 'a-z,' |
           sed 's/cap_/+/g')
  ! unshare -n true 2>/dev/null || confined+=(unshare -n)
  confined+=(setpriv --no-new-privs --bounding-set="-all,$kept")
fi

check "somebody listens" activate "size=64M mlock=yes"
check "a client starts the server" is_equal "$(nbdinfo --size "$uri")" \
      $((64 * M))
check "its stacks are limited" is_equal \
      "$(awk '/^Max stack/ { print $4 }' "/proc/$server_pid/limits")" "$stack"
check "4 connections read back what they wrote" copies_in_and_out
check "its memory is locked" at_least \
      "$(process_bytes "$server_pid" VmLck)" $((64 * M))
check "zmemctl reaches it" zmemctl stats
stop_server
rm -f "$sock"

# The deepest stacks: the densest compression of both codecs.
for codec in zstd:22 lz4:1; do
  check "somebody listens ($codec)" activate "size=64M compress=$codec"
  check "$codec with these stacks" copies_in_and_out
  stop_server
  rm -f "$sock"
done

#----------------------------------------------------------------------
# By a systemd: the first process of namespaces of its own, in a control
# group of its own, with no units but ours and the targets that they name.

[ "$(id -u)" -eq 0 ] || { echo "left out: systemd needs root"; finish; }

pid1=                           # as we see it
group=                          # its control group
end_systemd () {
  local i
  [ -z "$pid1" ] || kill -KILL "$pid1" 2>/dev/null
  [ -n "$group" ] || return 0
  # Processes that were killed leave a group a moment later.
  for ((i = 0; i < 250; i++)); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$group" ] || break
    sleep 0.02
  done
}
at_end end_systemd

# within COMMAND...: where the units' sockets are.
within () { bounded nsenter -t "$pid1" -m -p -n -- "$@"; }
in_run () { within systemctl "$@"; }
state_of () { in_run show -P "$2" "$1"; }
state_is () { [ "$(state_of "$1" ActiveState)" = "$2" ]; }

mkdir "$tmp/system" "$tmp/empty" "$tmp/newdev"
cp "$units"/zmem@.* "$units/examples/zmem-swap@.service" "$tmp/system"
for target in basic sysinit sockets shutdown umount swap network-online; do
  printf '[Unit]\nDescription=%s\n' "$target" >"$tmp/system/$target.target"
done
printf '%s\n' '[Unit]' 'DefaultDependencies=no' 'Requires=sysinit.target' \
       'After=sysinit.target sockets.target' >"$tmp/system/basic.target"
for target in sysinit shutdown umount swap network-online; do
  echo DefaultDependencies=no >>"$tmp/system/$target.target"
done

cat >"$tmp/boot" <<'BOOT'
set -e
tmp=$1 plugin=$2 plugindir=$3
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/test
mount --bind "$tmp" /run/test
tmp=/run/test
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs "$plugindir"
cp "$plugin" "$plugindir/nbdkit-zmem-plugin.so"
chmod 755 "$plugindir" "$plugindir/nbdkit-zmem-plugin.so"
# Stand-ins for the client's commands.
mount -t tmpfs tmpfs /usr/local/sbin
chmod 755 /usr/local/sbin
for command in nbd-client mkswap; do
  printf '%s\n' '#!/bin/sh' "echo $command \"\$@\" >>/run/commands" \
         "test ! -e /run/$command.fails" >/usr/local/sbin/$command
  chmod 755 /usr/local/sbin/$command
done
mkdir "$tmp/etc"
for file in passwd group nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d; do
  [ ! -e /etc/$file ] || cp -rp /etc/$file "$tmp/etc"
done
mount -t tmpfs -o mode=755 tmpfs /etc
cp -rp "$tmp/etc/." /etc
mkdir /etc/zmem
mount -t tmpfs -o mode=755 tmpfs "$tmp/newdev"
for file in null zero full random urandom; do
  touch "$tmp/newdev/$file"
  mount --bind /dev/$file "$tmp/newdev/$file"
done
touch "$tmp/newdev/test-device"
mkdir "$tmp/newdev/shm" "$tmp/newdev/pts"
ln -s pts/ptmx "$tmp/newdev/ptmx"
mount --rbind "$tmp/newdev" /dev
# What PrivateTmp= leaves behind.
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
systemd=/lib/systemd/systemd
[ -x $systemd ] || systemd=/usr/lib/systemd/systemd
exec env -i PATH="$PATH" container=zmem-test SYSTEMD_LOG_TARGET=null \
     SYSTEMD_UNIT_PATH="$tmp/system" SYSTEMD_GENERATOR_PATH="$tmp/empty" \
     SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$tmp/empty" \
     $systemd --system --unit=basic.target
BOOT

start_systemd () {
  local mounted launcher plugindir
  mounted=$(findmnt -n -l -t cgroup2 -o TARGET | head -n 1)
  [ -n "$mounted" ] || { echo "no control groups, version 2"; return 1; }
  group=$mounted/zmem-test.$$
  mkdir "$group" || { group=; return 1; }
  plugindir=$(nbdkit --dump-config | sed -n 's/^plugindir=//p')
  umask 022
  (echo "$BASHPID" >"$group/cgroup.procs" &&
     exec unshare --pid --fork --kill-child --mount --net --uts --ipc --cgroup \
       bash "$tmp/boot" "$tmp" "$ZMEM_PLUGIN" "$plugindir") \
    </dev/null >"$tmp/systemd.log" 2>&1 &
  launcher=$!
  child_of_launcher () {
    pid1=$(cat "/proc/$launcher/task/$launcher/children") &&
      pid1=${pid1%% *} && [ -n "$pid1" ]
  }
  wait_for 60 child_of_launcher && wait_for 30 state_is basic.target active
}

if ! start_systemd >"$tmp/start.out" 2>&1; then
  cat "$tmp/start.out" "$tmp/systemd.log"
  echo "left out: no systemd can be started here"
  finish
fi

# select_disk NAME: as select_server, for the one that systemd runs.
select_disk () {
  disk=$1
  sock=/run/zmem/$1.sock
  uri="nbd+unix:///?socket=$sock"
}
# write_conf FILE TEXT
write_conf () {
  echo "$2" >"$tmp/conf"
  within cp /run/test/conf "/etc/zmem/$1"
}
main_pid () { state_of "zmem@$disk.service" MainPID; }
service_is () { state_is "zmem@$disk.service" "$1"; }
socket_is () { state_is "zmem@$disk.socket" "$1"; }
copies_within () {
  rm -f "$tmp/out"
  within nbdcopy --connections=4 /run/test/data "$uri" &&
    within nbdcopy "$uri" /run/test/out &&
    cmp -n $((8 * M)) "$tmp/data" "$tmp/out"
}
holds_data () {
  rm -f "$tmp/out"
  within nbdcopy "$uri" /run/test/out &&
    cmp -n $((8 * M)) "$tmp/data" "$tmp/out"
}
# Of the current disk's server: a line of its /proc/PID/status.
status_of () {
  within sed -n "s/^$1:[[:space:]]*//p" "/proc/$(main_pid)/status"
}
in_sandbox () { within nsenter -t "$(main_pid)" -m -n -- "$@"; }
cp "$ZMEMCTL" "$tmp/zmemctl"

select_disk disk
check_fails "a disk without its file does not start" Assert \
            in_run start zmem@disk.socket
write_conf disk.conf 'ZMEM_OPTIONS="size=64M mlock=yes"'
check "its socket starts" in_run start zmem@disk.socket
check "and no server yet" service_is inactive
check "its owner alone may connect" is_equal \
      "$(within stat -c %a:%U "$sock")" 700:root
check "zmemctl does not ask it" not within /run/test/zmemctl stats
check "and so starts nothing" service_is inactive
check "4 connections read back what they wrote" copies_within
check "the server is active" service_is active

# The second disk: TCP by drop-in, as the comment in zmem@.socket says.
select_disk other
write_conf other.conf $'ZMEM_OPTIONS="size=32M"\nNBDKIT_OPTIONS="--threads=8"'
mkdir "$tmp/system/zmem@other.socket.d"
sed -n 's/^#     //p' "$units/zmem@.socket" | sed 's/192\.0\.2\.1/127.0.0.1/' |
  grep -A 1 '^\[Socket\]' | head -n 2 >"$tmp/system/zmem@other.socket.d/tcp.conf"
check "there is a line for TCP" grep -qx ListenStream=127.0.0.1:10809 \
      "$tmp/system/zmem@other.socket.d/tcp.conf"
in_run daemon-reload
check "a disk on TCP starts" in_run start zmem@other.socket
uri=nbd://127.0.0.1:10809
check "over TCP, too, they read back what they wrote" copies_within
select_disk other
check "it is the same disk" holds_data
check "nbdkit has its options" grep -qa -e '--threads=8' \
      <(within cat "/proc/$(main_pid)/cmdline")

# The sandbox is there.
select_disk disk
check "zmemctl finds the servers" is_equal \
      "$(within /run/test/zmemctl list | grep -oE '/run/zmem/[^ ]*' | sort |
           tr '\n' ' ')" "/run/zmem/disk.ctl /run/zmem/other.ctl "
check "system calls are filtered" is_equal "$(status_of Seccomp)" 2
check "no new privileges" is_equal "$(status_of NoNewPrivs)" 1
check "no rights but two" is_equal \
      $((0x$(status_of CapBnd) & ~(1 << 14 | 1 << 24))) 0
check "memory is locked" matches "$(status_of VmLck)" '^[1-9]'
check "the stack limit" within \
      grep -q "^Max stack size *$stack *$stack " "/proc/$(main_pid)/limits"
check "it hears of memory pressure" grep -q memory \
      <(within find "/proc/$(main_pid)/fd" -lname '*pressure*' -printf '%l\n' \
          -o -lname '*/memory' -printf '%l\n')
check_fails "it cannot write to /etc" Read-only in_sandbox touch /etc/zmem/x
check_fails "nor to /usr" Read-only in_sandbox touch /usr/x
check "it may write to /run/zmem" in_sandbox test -w /run/zmem
check "it has a /tmp of its own" is_equal "$(in_sandbox ls -A /tmp)" ""
check "it has no device but a few" not in_sandbox test -e /dev/test-device
check "it has no network" is_equal \
      "$(in_sandbox sed -e 1,2d -e 's/:.*//' /proc/self/net/dev | tr -d ' ')" lo

# It dies.  Nobody is served zeros.
within kill -KILL "$(main_pid)"
check "a server that is killed has failed" wait_for 60 service_is failed
check_fails "a client that comes again is refused" nbd_connect \
            within nbdinfo "$uri"
check "the socket is closed with it" wait_for 60 socket_is failed
check_fails "and stays so" nbd_connect within nbdinfo "$uri"
check "no server was started" service_is failed
check_fails "nor is one by hand" . in_run start zmem@disk.service
select_disk other
check "another disk is as it was" holds_data

# As the head of zmem@.service says.
again () {
  sed -n 's/^#     systemctl /systemctl /p' "$units/zmem@.service" |
    sed "s/NAME/$disk/g" >"$tmp/again"
  [ "$(wc -l <"$tmp/again")" -eq 2 ] && within sh -ex /run/test/again
}
select_disk disk
check "asked in words, it starts anew" again
check "and is empty" within nbdcopy "$uri" /run/test/out
check "all zeros" cmp -n $((64 * M)) "$tmp/out" /dev/zero
check "the server is active" service_is active

# Ended in good order, the server is not started again either.
check "the server ends" in_run stop zmem@disk.service
check_fails "a client is refused after that, too" nbd_connect \
            within nbdinfo "$uri"
check "and the socket is closed" wait_for 60 socket_is failed
check "it starts anew" again
check "and serves" copies_within
check "stopping the socket stops all" in_run stop zmem@disk.socket
check "the server is gone" wait_for 60 service_is inactive
check "its sockets are gone" not within ls "$sock" /run/zmem/disk.ctl
select_disk other
check "another disk is still as it was" holds_data

# Options that are wrong.
select_disk wrong
write_conf wrong.conf 'ZMEM_OPTIONS="size=64M compress=brotli"'
in_run start zmem@wrong.socket
check_fails "wrong options: no client is served" nbd_connect \
            within nbdinfo "$uri"
check "the unit has failed" wait_for 60 service_is failed
check "the socket, too" wait_for 60 socket_is failed
write_conf wrong.conf 'ZMEM_OPTIONS="size=64M"'
check "mended, it starts" again
check "and serves" copies_within

# The client's unit, with commands that only say what they were called with.
write_conf nbd0.swap 'ZMEM_SERVER="-unix /run/zmem/other.sock"'
commands () { within cat /run/commands; }
check "the swap client's connection starts" in_run start zmem-swap@nbd0.service
check "it connects and makes swap" is_equal "$(commands)" \
"nbd-client -unix /run/zmem/other.sock /dev/nbd0 -b 4096 -swap
mkswap /dev/nbd0"
check "it stops" in_run stop zmem-swap@nbd0.service
check "it disconnects" is_equal "$(commands | tail -n 1)" \
      "nbd-client -d /dev/nbd0"
within touch /run/mkswap.fails
check "without swap it fails" not in_run start zmem-swap@nbd0.service
check "and is not left connected" is_equal \
      "$(commands | tail -n 2 | tr '\n' ';')" \
      "mkswap /dev/nbd0;nbd-client -d /dev/nbd0;"

finish
