#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Compaction in a real server: memory comes back by itself after scattered
# trims; held is what the kernel says, before, during and after; a client that
# is killed in the middle of its trims and a server that is stopped in the
# middle of a run leave nothing behind and lose nothing.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl nbdcopy qemu-io cmp

readonly disk_blocks=16384      # 64 MiB

# random_half SEED: numbers of blocks, a random half of them.
random_half () {
  perl -e 'srand $ARGV[0];
           for (0 .. $ARGV[1] - 1) { print "$_\n" if rand () < 0.5 }' \
       "$1" "$disk_blocks"
}

# trims LIST: of these blocks, as commands of qemu-io.
trims () { awk '{ print "discard -q " $1 * 4096 " 4096" }' "$1"; }

# zero_in FILE LIST: these blocks become zeros.
zero_in () {
  perl -e 'open my $disk, "+<", $ARGV[0] or die;
           open my $list, "<", $ARGV[1] or die;
           while (<$list>) {
             sysseek $disk, $_ * 4096, 0;
             syswrite $disk, "\0" x 4096;
           }' "$1" "$2"
}

# trim_all LIST: by one client, one request at a time.
trim_all () {
  trims "$1" | qemu-io -d unmap -f raw "$uri" >/dev/null
}

disk_is () {
  rm -f "$tmp/back"
  nbdcopy "$uri" "$tmp/back" && cmp "$1" "$tmp/back"
}

# Resident bytes of the server's own mappings: they alone are to be neither in
# core dumps nor in huge pages.
mapped_bytes () {
  awk '/^Rss:/ { kib = $2 }
       /^VmFlags:.* dd/ && / nh/ { sum += kib }
       END { print sum * 1024 }' "/proc/$server_pid/smaps"
}

# That against held, which may change between two looks at it; other_bytes are
# those of it that malloc gave.
agrees_with_kernel () {
  local low mapped high swap slack
  low=$(held_bytes)
  mapped=$(mapped_bytes)
  high=$(held_bytes)
  if [ "$low" -gt "$high" ]; then swap=$low; low=$high; high=$swap; fi
  slack=$((high / 50 + M))
  at_least $((mapped + other_bytes)) $((low - slack)) &&
    at_most $((mapped + other_bytes)) $((high + slack))
}

# has_returned HELD PAYLOAD: since it held so much for so much payload, the
# memory of what was freed has come back (G2).
has_returned () {
  local freed=$(($2 - $(stat_value payload_bytes)))
  [ "$freed" -gt 0 ] &&
    [ "$(held_bytes)" -le $(($1 - freed / 100 * 97 + 2 * M)) ]
}

mixed_file "$tmp/disk" $((disk_blocks * 4096 - 2 * M))
random_file "$tmp/random" $((2 * M))
cat "$tmp/random" >>"$tmp/disk"
rm "$tmp/random"
seed=${ZMEM_SEED:-$RANDOM}
echo "ZMEM_SEED=$seed"
random_half "$seed" >"$tmp/half"
random_half $((seed + 1)) >"$tmp/half2"

#----------------------------------------------------------------------
# By itself.

start_server size=64M
other_bytes=$(($(held_bytes) - $(mapped_bytes)))
check "held at first is what the kernel says and some contexts" \
      at_most "${other_bytes#-}" $(($(stat_value context_bytes) + M))
check "a full disk" nbdcopy "$tmp/disk" "$uri"
held=$(held_bytes)
payload=$(stat_value payload_bytes)
check "held is what the kernel says" agrees_with_kernel

trim_all "$tmp/half" &
trim_pid=$!
disagreed=0
looks=0
while ! process_ended $trim_pid; do
  agrees_with_kernel >"$tmp/disagreement" || {
    disagreed=$((disagreed + 1)); cat "$tmp/disagreement"; }
  looks=$((looks + 1))
done
wait $trim_pid
check "a random half is trimmed" is_equal $? 0
check "held is what the kernel says in each of $looks looks meanwhile" \
      is_equal "$disagreed" 0
check "memory comes back with no command" \
      wait_for 120 has_returned "$held" "$payload"
check "held is what the kernel says after it" agrees_with_kernel
check "objects have been moved" at_least "$(stat_value compact_moved_objects)" 1
check "no more was copied than returned" at_most \
      "$(stat_value compact_copied_bytes)" \
      "$(stat_value compact_returned_bytes)"
cp "$tmp/disk" "$tmp/model"
zero_in "$tmp/model" "$tmp/half"
check "what was not trimmed is as it was" disk_is "$tmp/model"

# The rest goes, and with it the table's pages.
seq 0 $((disk_blocks - 1)) >"$tmp/all"
check "everything is trimmed" trim_all "$tmp/all"
check "then next to nothing is held" wait_for 120 held_is_at_most $((3 * M))
check "and no page of the table" is_equal "$(stat_value live_regions)" 0
check "the kernel agrees" agrees_with_kernel

#----------------------------------------------------------------------
# A client that is killed in the middle of its trims.

check "a full disk again" nbdcopy "$tmp/disk" "$uri"
held=$(held_bytes)
payload=$(stat_value payload_bytes)
trims=$(stat_value trim_requests)
trims "$tmp/half2" >"$tmp/storm"
# Without the function's time limit around it: the client itself is killed.
command qemu-io -d unmap -f raw "$uri" <"$tmp/storm" >/dev/null 2>&1 &
storm_pid=$!
check "a storm of trims begins" wait_for 120 eval \
      "[ \"\$(stat_value trim_requests)\" -gt $((trims + 200)) ]"
{ kill -KILL $storm_pid; wait $storm_pid; } 2>/dev/null
check "its client is gone" wait_for 120 clients_have_gone
check "the server is alive" server_is_alive
check "memory comes back all the same" \
      wait_for 120 has_returned "$held" "$payload"
trimmed=$(($(stat_value trim_requests) - trims))
# The request at which it was killed may have been answered or not: it was
# done, since it was counted.
head -n "$trimmed" "$tmp/half2" >"$tmp/trimmed"
cp "$tmp/disk" "$tmp/model"
zero_in "$tmp/model" "$tmp/trimmed"
check "the trims that were done, and no others" disk_is "$tmp/model"
stop_server

#----------------------------------------------------------------------
# A server that is stopped in the middle of a run: of a slow one, that it has
# begun itself, and of one that a client waits for.

start_server_as slow size=64M compact-rate=16K
check "a full disk" nbdcopy "$tmp/disk" "$uri"
trim_all "$tmp/half"
check "a run begins" wait_for 120 eval \
      '[ "$(stat_value compact_moved_objects)" -gt 0 ]'
check "and goes on" at_least "$(stat_value reclaimable_bytes)" $((M / 2))
cp "$tmp/disk" "$tmp/model"
zero_in "$tmp/model" "$tmp/half"
check "meanwhile all is there" disk_is "$tmp/model"
stop_server slow
check "nothing of it is left" not test -e "$ctl"

start_server_as manual size=64M compact=manual compact-rate=16K
check "a full disk" nbdcopy "$tmp/disk" "$uri"
trim_all "$tmp/half"
moved=$(stat_value compact_moved_objects)
check "manual: nothing moves by itself" is_equal "$moved" 0
zmemctl -t 100 raw compact wait >"$tmp/waited" 2>&1 &
wait_pid=$!
check "a run that was asked for begins" wait_for 120 eval \
      '[ "$(stat_value compact_moved_objects)" -gt 0 ]'
check "what is reclaimable is left" at_least \
      "$(stat_value reclaimable_bytes)" $((M / 2))
stop_server manual
wait $wait_pid
check "who waited for it is told, or cut off" matches "$(cat "$tmp/waited")" \
      'compact_state|closed|reset'

finish
