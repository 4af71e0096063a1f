#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A real kernel keeps an ext4 on zmem (tests/vm/ext4.scenario): what it deletes
# comes back, at once with `mount -o discard` and by fstrim without; what it
# keeps is the same after another connection, and what the host sees is a clean
# file system.

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires mkfs.ext4 e2fsck nbdcopy
guest_requires
for program in mkfs.ext4 e2fsck; do
  check "the guest has $program" guest_copy "$program" || finish
done

seed=${ZMEM_SEED:-$RANDOM}
echo "seed $seed"

start_tcp_server size=256M
guest_start ext4 "$srcdir/tests/vm/ext4.scenario" \
            PORT="$port" MEMORY=160 FILES=150 SEED="$seed"
guest_says ext4 240 "the tree is in"
grep -a "guest says: the tree" "$tmp/ext4.console"
tree=$(held_bytes)
guest_tell ext4 "go on"

guest_says ext4 240 "ballast is in"
full=$(held_bytes)
echo "held: with the tree $tree, with 16 MiB of ballast $full"
check "the ballast is held" at_least "$full" $((tree + 16 * M))
guest_tell ext4 "go on"

guest_says ext4 240 "the first half is deleted"
check "mount -o discard gives back what is deleted" wait_for 120 \
      held_is_at_most $((full - 7 * M))
half=$(held_bytes)
guest_tell ext4 "go on"

guest_says ext4 240 "the second half is deleted"
check "without discard nobody tells the server" at_least "$(held_bytes)" \
      $((half - 2 * M))
guest_tell ext4 "go on"
guest_says ext4 240 trimmed
# But for two spare zspages, and up to 768 KiB that do not pay to compact
# (compact/policy.h): 1.25 MiB.
check "fstrim gives back what was deleted" wait_for 120 \
      held_is_at_most $((tree + 2 * M))
echo "held: the first half deleted $half, all trimmed $(held_bytes)"
guest_tell ext4 "go on"

guest_ends ext4 240
server_served_all
check "the host copies the disk" nbdcopy "$uri" "$tmp/disk"
check "the host finds the file system clean" e2fsck -f -n "$tmp/disk"
stop_server
finish
