#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A qemu guest whose root disk is zmem (tests/vm/root.scenario), through qemu's
# own NBD client: it writes, reboots, finds everything, deletes, and memory
# comes back; and with reconnect-delay= it outlives cuts of its connection.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires mke2fs e2fsck nbdcopy
guest_requires

# The disk holds what the initramfs of other guests does; this one's initramfs
# goes on to it.
cp -a "$guest_trees/base" "$tmp/root"
check "a root file system is made" \
      mke2fs -q -t ext4 -d "$tmp/root" "$tmp/image" 96M || finish
cp "$srcdir/tests/vm/root.init" "$guest_trees/base/init"

start_server size=96M
check "it is copied to the disk" nbdcopy "$tmp/image" "$uri"
empty=$(held_bytes)

# boot NUMBER QEMU-OPTION...
boot () {
  local number=$1
  shift
  guest_start "root$number" "$srcdir/tests/vm/root.scenario" \
              BOOT="$number" MEMORY=128 -- "$@"
}

# The README's line.
drive="file=nbd+unix:///?socket=$sock,format=raw,if=virtio,discard=unmap"
drive+=",detect-zeroes=unmap"

boot 1 -drive "$drive"
guest_says root1 240 written
guest_ends root1 240
full=$(held_bytes)
check "what it wrote is held" at_least "$full" $((empty + 12 * M))

boot 2 -drive "$drive"
guest_says root2 240 "found again"
full=$(held_bytes)
guest_tell root2 "go on"
guest_says root2 240 deleted
check "what it deletes comes back" wait_for 120 \
      held_is_at_most $((full - 8 * M))
echo "held: $empty at first, $full with its files, $(held_bytes) without some"
guest_tell root2 "go on"
guest_ends root2 240

#----------------------------------------------------------------------
# Cuts.  What is cut is a relay: the disk of a server that is started again
# would be empty.  It has one request in flight at a time, for nbdkit 1.32.5
# can abort when a client of several vanishes; qemu has as many as it likes.

start_relay () {
  rm -f "$tmp/relay.sock" "$tmp/relay.pid"
  nbdkit -f -t 1 -U "$tmp/relay.sock" --pidfile "$tmp/relay.pid" \
         nbd "socket=$sock" </dev/null 2>>"$tmp/relay.log" &
  relay_pid=$!
  daemon_pids+=("$relay_pid")
  check "the relay is there" wait_for 60 test -s "$tmp/relay.pid"
}
cut_connection () {
  kill -KILL "$relay_pid"
  wait "$relay_pid" 2>/dev/null
  check "the connection is cut" wait_for 60 clients_have_gone
}
is_connected () { [ "$(stat_value connections)" = 1 ]; }
# The rounds that the guest has done; a_round_after NUMBER
rounds () { grep -ac '^guest says: round' "$tmp/root3.console"; }
a_round_after () { [ "$(rounds)" -gt "$1" ]; }

start_relay
boot 3 -blockdev "driver=nbd,node-name=disk,discard=unmap,reconnect-delay=60,\
server.type=unix,server.path=$tmp/relay.sock" \
     -device virtio-blk-pci,drive=disk
guest_says root3 240 "round 2"
for cut in 1 2 3; do
  before=$(rounds)
  cut_connection
  # One outage is long enough for a first attempt to fail.
  [ $cut != 2 ] || sleep 2
  start_relay
  check "cut $cut: qemu connects again" wait_for 120 is_connected
  # The round that was cut, and one after it.
  check "cut $cut: the guest goes on" wait_for 120 \
        a_round_after $((before + 1))
done
guest_tell root3 enough
guest_ends root3 240
echo "rounds: $(rounds)"
kill "$relay_pid"
wait "$relay_pid" 2>/dev/null

server_served_all
check "the host copies the disk" nbdcopy "$uri" "$tmp/copy"
check "the host finds the file system clean" e2fsck -f -n "$tmp/copy"
stop_server
finish
