#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The limit: reached, lived with, left again, changed while running.

. "${srcdir:-.}/tests/functions.sh"
requires qemu-io nbdcopy

readonly limit=$((24 * M))

io () { qemu-io -f raw "$uri" "$@"; }

# What is on the disk now, cut from a copy of it: content OFFSET BYTES FILE.
copy_out () { rm -f "$tmp/disk"; nbdcopy "$uri" "$tmp/disk"; }
content () {
  dd if="$tmp/disk" of="$3" iflag=skip_bytes,count_bytes skip="$1" \
     count="$2" bs=1M status=none
}

# fill FILE FIRST LAST: write FILE, which has 1 MiB, at each of these MiB
# until one is refused; nr_filled, and the refusal in fill.out.
fill () {
  local mib
  nr_filled=0
  for ((mib = $2; mib < $3; mib++)); do
    io -c "write -s $1 ${mib}M 1M" >"$tmp/fill.out" 2>&1 || return 0
    nr_filled=$((nr_filled + 1))
  done
}

# Each block of the second file is as in the first one, or all zeros.
is_whole_or_zero () {
  awk 'NR == FNR { new[FNR] = $0; next }
       $0 !~ /^[ 0]*$/ && $0 != new[FNR] { torn++ }
       END { if (torn) print torn, "blocks are torn"; exit torn > 0 }' \
      <(od -v -An -tx8 -w4096 "$1") <(od -v -An -tx8 -w4096 "$2")
}

start_server size=256M compress=lz4 limit=$limit
check "says its limit at start" grep -Eq 'limit 24 MiB' "$log"
check "says its limit when asked" is_equal "$(stat_value limit_bytes)" $limit

random_file "$tmp/old-random" $((8 * M))
random_file "$tmp/new-random" $((8 * M))
text_file "$tmp/old-text" $((4 * M))
random_file "$tmp/random-1M" $M
text_file "$tmp/text-1M" $M 7000000

check "write random data below the limit" \
      nbdcopy "$tmp/old-random" "$uri"
check "write text below the limit" io -c "write -s $tmp/old-text 16M 4M"

# Reach it, with what does not compress and then with what does, so that
# neither kind of slot is left.
fill "$tmp/random-1M" 32 96
first_refused=$((32 + nr_filled))
check "the limit lets in what it should" at_least $nr_filled 8
check "the limit keeps out the rest" at_most $nr_filled 16
check "a refused write is told as: no space" grep -q \
      'No space left on device' "$tmp/fill.out"
copy_out
content $((first_refused * M)) $M "$tmp/refused"
check "a refused write tore no block" is_whole_or_zero "$tmp/random-1M" \
      "$tmp/refused"
fill "$tmp/text-1M" 128 192
check "a refused write of text is told as: no space" grep -q \
      'No space left on device' "$tmp/fill.out"
fill "$tmp/random-1M" 200 201
check "still no room for random data" is_equal $nr_filled 0

check "the server says that it is full, and what to do" \
      grep -Eq 'limit.*trim' "$log"
check "the server says it once" is_equal "$(grep -c refused "$log")" 1
check "refusals are counted" at_least "$(stat_value enospc_errors)" 3
check "held is within the limit" at_most "$(held_bytes)" $limit
check "held is near the limit" at_least "$(held_bytes)" $((limit - M))

copy_out
content 0 $((8 * M)) "$tmp/part"
check "old random data is whole" cmp "$tmp/old-random" "$tmp/part"
content $((16 * M)) $((4 * M)) "$tmp/part"
check "old text is whole" cmp "$tmp/old-text" "$tmp/part"

# What fits into the slot that its block has is never refused.
check "overwrite all random data at the limit" \
      nbdcopy "$tmp/new-random" "$uri"
check "overwrite parts of it at the limit" \
      io -c "write -P 0x5a 1000 7000" -c "write -s $tmp/random-1M 70001 300"
check "overwrite text by the same text at the limit" \
      io -c "write -s $tmp/old-text 16M 4M"
check "overwrite text by what takes less at the limit" \
      io -c "write -P 0 16M 512k" -c "write -P 7 16896k 512k"
check "it was overwritten in place" at_least "$(stat_value in_place_writes)" 1
copy_out
content 0 $((8 * M)) "$tmp/part"
dd if="$tmp/random-1M" of="$tmp/new-random" bs=300 count=1 seek=70001 \
   oflag=seek_bytes conv=notrunc status=none
head -c 7000 /dev/zero | tr '\0' '\132' |
  dd of="$tmp/new-random" seek=1000 bs=7000 oflag=seek_bytes conv=notrunc \
     status=none
check "the new random data is whole" cmp "$tmp/new-random" "$tmp/part"
head -c 512K /dev/zero >"$tmp/expected"
head -c 512K /dev/zero | tr '\0' '\7' >>"$tmp/expected"
tail -c +$((M + 1)) "$tmp/old-text" >>"$tmp/expected"
content $((16 * M)) $((4 * M)) "$tmp/part"
check "the new text is whole" cmp "$tmp/expected" "$tmp/part"
check "held is still within the limit" at_most \
      "$(stat_value held_highest_bytes)" $limit

# That freed some; take it again.  Then what does not fit is refused, and
# what it was to replace stays.
fill "$tmp/random-1M" 96 128
check_fails "random data in place of text is refused" \
            'No space left on device' io -c "write -s $tmp/random-1M 18M 1M"
copy_out
content $((18 * M)) $M "$tmp/part"
dd if="$tmp/old-text" of="$tmp/text-18M" bs=1M skip=2 count=1 status=none
# Some blocks of it may have found room; no block is anything else.
check "what it was to replace is whole" awk '
    FILENAME == ARGV[1] { old[FNR] = $0; next }
    FILENAME == ARGV[2] { new[FNR] = $0; next }
    $0 != old[FNR] && $0 != new[FNR] { torn++ }
    $0 == old[FNR] { kept++ }
    END { print torn + 0, "torn,", kept + 0, "kept"; exit torn || !kept }' \
  <(od -v -An -tx8 -w4096 "$tmp/text-18M") \
  <(od -v -An -tx8 -w4096 "$tmp/random-1M") \
  <(od -v -An -tx8 -w4096 "$tmp/part")

# Room is made by trimming and by zeroing.
held_before=$(held_bytes)
check "trim at the limit" io -c "discard 32M 4M"
check "trim with odd edges at the limit" io -c "discard 37748737 100000"
check "a trim gives memory back" wait_for 120 \
      held_is_at_most $((held_before - 3 * M))
check "there is room again" io -c "write -s $tmp/random-1M 204M 1M" \
      -c "write -s $tmp/random-1M 205M 1M" -c "write -s $tmp/random-1M 206M 1M"
check "zero at the limit" io -c "write -z 204M 3M"
check "there is room after zeroing" io -c "write -s $tmp/random-1M 212M 1M" \
      -c "write -s $tmp/random-1M 213M 1M" -c "read -P 0 204M 3M"

# Raised, lowered below what is held, and left again.
fill "$tmp/random-1M" 214 226
check "raise the limit" zmemctl limit $((limit + 10 * M))
check "the limit is raised" is_equal "$(stat_value limit_bytes)" \
      $((limit + 10 * M))
fill "$tmp/random-1M" 226 235
check "9 MiB more fit into 10" is_equal $nr_filled 9
held_before=$(held_bytes)
check "lower the limit below what is held" zmemctl limit $((16 * M))
check "what is held does not grow" at_most "$(held_bytes)" "$held_before"
check_fails "growth is refused meanwhile" 'No space left on device' \
            io -c "write -s $tmp/random-1M 240M 1M"
check "overwriting is not refused meanwhile" \
      nbdcopy "$tmp/old-random" "$uri"
check "held did not grow meanwhile" at_most "$(held_bytes)" "$held_before"
check "trim the rest" io -c "discard 32M 224M"
check "held is below the new limit" wait_for 120 held_is_at_most $((16 * M))
check "there is room below the new limit" \
      io -c "write -s $tmp/random-1M 240M 1M"

for bad in junk -1 0 1 1k 12Q; do
  check_fails "a limit of $bad is refused" "limit" zmemctl limit -- $bad
done
check "the limit is as it was" is_equal "$(stat_value limit_bytes)" \
      $((16 * M))
check "no limit" zmemctl limit none
check "no limit is told as: null" matches "$(zmemctl --json stats)" \
      '"limit_bytes": null'
check "held never passed the highest limit" at_most \
      "$(stat_value held_highest_bytes)" $((limit + 10 * M))
copy_out
content 0 $((8 * M)) "$tmp/part"
check "the data is whole at the end" cmp "$tmp/old-random" "$tmp/part"
stop_server

start_server_as default size=64M
check "the default limit is said at start" \
      grep -Eq 'limit [0-9.]+ [KMGT]iB \(80 % of ' "$log"
check "there is a default limit" at_least "$(stat_value limit_bytes)" $M
memory=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * K))
check "the default limit is within the machine's memory" \
      at_most "$(stat_value limit_bytes)" $((memory / 10 * 8 + M))
stop_server default

start_server_as percent size=64M limit=10%
check "a limit in percent" at_most "$(stat_value limit_bytes)" \
      $((memory / 10))
stop_server percent

finish
