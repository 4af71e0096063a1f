#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Verify in a real server: bits of its memory are flipped from outside, by way
# of /proc/PID/mem, in the places where a pattern that was written is found;
# zmemctl verify says which blocks are damaged, the log too; all others are
# right; writing and trimming heals them.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl nbdcopy qemu-io cmp script

# exits_with STATUS COMMAND...
exits_with () {
  local want=$1
  shift
  "$@"
  is_equal $? "$want"
}

# flip_in_server TEXT: one bit, right behind each place where the server's own
# mappings (those kept out of core dumps) have this text.  Says how many.
flip_in_server () {
  perl -e '
    use strict;
    my ($pid, $text) = @ARGV;
    my (@ranges, $range, $rss);
    open my $smaps, "<", "/proc/$pid/smaps" or die "smaps: $!";
    while (<$smaps>) {
      if (/^([0-9a-f]+)-([0-9a-f]+) rw/) { $range = [hex $1, hex $2] }
      elsif (/^[0-9a-f]+-[0-9a-f]+ /) { $range = undef }
      elsif (/^Rss: +(\d+)/) { $rss = $1 }
      elsif (/^VmFlags:.* dd/ && $range && $rss) { push @ranges, $range }
    }
    open my $mem, "+<:raw", "/proc/$pid/mem" or die "mem: $!";
    my $nr = 0;
    # The mappings are far larger than what of them is resident.
    open my $pagemap, "<:raw", "/proc/$pid/pagemap" or die "pagemap: $!";
    for (@ranges) {
      my ($at, $end) = @$_;
      for (my $empty = 0; $at < $end && $empty < 16384; $at += 4096) {
        sysseek $pagemap, $at / 4096 * 8, 0;
        sysread $pagemap, my $word, 8;
        if (!(unpack ("Q", $word) >> 63)) { ++$empty; next }
        $empty = 0;
        sysseek $mem, $at, 0;
        sysread ($mem, my $page, 4096) == 4096 or next;
        my $found = index $page, $text;
        next if $found < 0 || $found + length ($text) >= 4096;
        $found += length $text;
        sysseek $mem, $at + $found, 0;
        syswrite $mem, chr (ord (substr $page, $found, 1) ^ 0x10), 1;
        ++$nr;
      }
    }
    print $nr' "$server_pid" "$1"
}

# blocks_with TEXT: numbers of the blocks of the disk that have it.
blocks_with () {
  perl -e 'local $/ = \4096; my $n = 0;
           while (<STDIN>) { print "$n\n" if index ($_, $ARGV[0]) >= 0; ++$n }' \
       "$1" <"$tmp/disk"
}

# Odd blocks are random, and stay as they are; even ones are text, whose first
# bytes are to be found in an lz4 payload as well.  Some have a word of their
# own.
perl -e '
  srand $ARGV[0];
  for my $n (0 .. 4095) {
    my $word = $n % 512 == 5 ? "zmem-to-be-damaged-1" :
               $n == 1000 ? "zmem-to-be-damaged-2" : sprintf "block %014d", $n;
    my $rest = $n % 2 ? join ("", map { pack "L", rand 2**32 } 1 .. 1019)
                      : "abcdefgh" . ("text that is the same $n " x 200);
    print substr $word . $rest, 0, 4096;
  }' "${ZMEM_SEED:-1}" >"$tmp/disk"
check "the disk has 16 MiB" is_equal "$(stat -c %s "$tmp/disk")" $((16 * M))

#----------------------------------------------------------------------

start_server size=16M compact=manual
check "verify before any" matches "$(zmemctl verify status)" \
      '^verification +idle   none was asked for yet$'
check "an empty disk is well" exits_with 0 zmemctl verify
check "a full disk" nbdcopy "$tmp/disk" "$uri"
report=$(zmemctl verify)
check "it is well" is_equal $? 0
check "verify: it waits for the end" matches "$report" \
      '^verification +finished$'
check "verify: what was looked at" matches "$report" \
      '^looked at +4,096   blocks, [0-9.]+ MiB of payload$'
check "verify: no damage" matches "$report" '^damaged +0   blocks$'
check "verify in JSON" is_json "$(zmemctl --json verify)"
check "verify in JSON: no damage" matches "$(zmemctl --json verify)" \
      '"verify_damaged_blocks": 0, "verify_damaged_offsets": "none"'
# The two, and those of JSON.
check "runs are counted" is_equal "$(stat_value verify_runs)" 4

# A slow one: it is watched, asked for, hastened, stopped.
check "start does not wait" matches "$(zmemctl verify start rate=1K)" \
      '^verification +running$'
check "a rate as it was given" matches "$(zmemctl raw verify status)" \
      '^verify_rate_bytes 1024$'
bar=$(COLUMNS=100 bounded script -qec \
  "timeout -s INT 2 '$ZMEMCTL' -s '$ctl' verify" /dev/null </dev/null)
check "on a terminal a bar" matches "$bar" '%  +[0-9.]+ [KM]?i?B +[0-9.]+ [KM]?i?B/s'
check "Ctrl-C ends the watching" matches "$bar" \
      'goes on without being watched'
check "and nothing else" matches "$(zmemctl verify status)" \
      '^verification +running$'
check "stop" matches "$(zmemctl verify stop)" '^verification +stopped$'
check "stopped: not a run" is_equal "$(stat_value verify_runs)" 4
check "start" exits_with 0 zmemctl verify start rate=1K
check "a new rate takes it to its end" matches \
      "$(zmemctl verify rate=none)" '^verification +finished$'
check_fails "a wrong rate" 'rate=lots: not a size' zmemctl verify rate=lots
check_fails "no rate at all" 'for ever' zmemctl verify rate=0
check_fails "a wrong word" 'the arguments of "verify" are' zmemctl verify now

#----------------------------------------------------------------------
# Damage.

[ "$(id -u)" = 0 ] || { stop_server; skip "flipping bits of a server needs root"; }
mapfile -t bad < <(blocks_with zmem-to-be-damaged)
check "blocks to be damaged" is_equal "${#bad[@]}" 9
nr=$(($(flip_in_server zmem-to-be-damaged-1) +
      $(flip_in_server zmem-to-be-damaged-2)))
check "a bit of each is flipped" is_equal "$nr" 9
offsets=
for n in "${bad[@]}"; do offsets+=,$((n * 4096)); done
offsets=${offsets#,}

report=$(zmemctl verify)
check "verify finds damage: exit status 3" is_equal $? 3
check "verify says which blocks" matches "$report" \
      "^damaged +9   blocks, of 4096 bytes each, at $offsets\$"
check "and what to do" matches "$report" 'or trimming it, heals it'
check "in JSON" matches "$(zmemctl --json verify status)" \
      "\"verify_damaged_blocks\": 9, \"verify_damaged_offsets\": \"$offsets\""
check "status says so, too" exits_with 3 zmemctl verify status
check "counted" is_equal "$(stat_value verify_failures)" 9
check "but not as reads" is_equal "$(stat_value checksum_failures)" 0
check "stats show it" matches "$(zmemctl stats)" '^errors +verify 9$'
for n in "${bad[@]}"; do
  check "the log has block $n" matches "$(cat "$log")" \
    "verify: the block at offset $((n * 4096)) is damaged: .* heals it"
done

# Every other block is right; these are EIO, each by itself.
reads=$(perl -e '
  for my $n (0 .. 4095) { printf "read -v %d 16\n", $n * 4096 }' |
  qemu-io -r -f raw "$uri" 2>&1)
check "exactly these are EIO" is_equal \
      "$(grep -c 'Input/output error' <<<"$reads")" 9
check "a count of them" is_equal "$(stat_value checksum_failures)" 9
cp "$tmp/disk" "$tmp/want"
for n in "${bad[@]}"; do
  check_fails "a part of block $n cannot be written" 'Input/output error' \
    qemu-io -f raw -c "write -P 7 $((n * 4096 + 512)) 512" "$uri"
  # The first is trimmed, the others are written.
  if [ "$n" = "${bad[0]}" ]; then
    command="discard $((n * 4096)) 4096"
    byte='\0'
  else
    command="write -P 65 $((n * 4096)) 4096"
    byte=A
  fi
  check "block $n: $command" qemu-io -d unmap -f raw -c "$command" "$uri"
  head -c 4096 /dev/zero | tr '\0' "$byte" |
    dd of="$tmp/want" bs=4096 seek="$n" conv=notrunc status=none
done
check "it is well again" exits_with 0 zmemctl verify
check "and right" nbdcopy "$uri" "$tmp/back"
check "to the last byte" cmp "$tmp/want" "$tmp/back"

# A server that ends in the middle of one.
check "start once more" exits_with 0 zmemctl verify start rate=1K
stop_server
finish
