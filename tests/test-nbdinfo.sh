#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What a client learns before it reads or writes: sizes, flags, exports,
# and the map of what is allocated.

. "${srcdir:-.}/tests/functions.sh"
requires nbdinfo nbdcopy qemu-io

# can_be URI WHAT...: nbdinfo answers yes to each.
can_be () {
  local uri=$1 what
  shift
  for what; do
    # shellcheck disable=SC2086
    nbdinfo $what "$uri" || { echo "no: $what"; return 1; }
  done
}

# says_no URI WHAT: nbdinfo answers no, which is exit status 2.
says_no () {
  # shellcheck disable=SC2086
  nbdinfo $2 "$1"
  is_equal $? 2
}

# The map as "offset length type" lines.
map_of () { nbdinfo --map "$1" | awk '{ print $1, $2, $3 }'; }

readonly DATA=0 ZERO=2 HOLE=3

start_server size=1G stats-export=stats

check "says its size" is_equal "$(nbdinfo --size "$uri")" $G
check "offers what it can do" can_be "$uri" \
      "--can multi-conn" "--can fua" "--can trim" "--can zero" \
      "--can fast-zero" "--can cache" "--can flush" "--can df"
check "is no rotational disk" says_no "$uri" "--is rotational"
check "is not read-only" says_no "$uri" "--is read-only"

info=$(nbdinfo "$uri")
check "smallest request: 1 byte" matches "$info" 'block_size_minimum: 1$'
check "best request: a block" matches "$info" 'block_size_preferred: 4096'
check "largest request: 64 MiB" matches "$info" 'block_size_maximum: 67108864'

list=$(nbdinfo --list "$uri")
check "lists the disk" matches "$list" '^export="":'
check "lists the statistics" matches "$list" '^export="stats":'
check "describes the disk" matches "$list" 'description: .*compressed'

check "an untouched disk is one hole" is_equal "$(map_of "$uri")" "0 $G $HOLE"

# Blocks 16 to 19 data, 20 to 23 zeros that stay allocated, 30 and 31
# written and trimmed again; then a data block far away.
printf '%64s' 'not a repeating 32-bit pattern' >"$tmp/data"
qemu-io -f raw "$uri" \
        -c "write -s $tmp/data 64k 16k" -c "write -z 80k 16k" \
        -c "write -s $tmp/data 120k 8k" -c "discard 120k 8k" \
        -c "write -s $tmp/data 512M 4k" >"$tmp/qemu-io.out" 2>&1
check "the map tells data, zeros and holes" is_equal "$(map_of "$uri")" \
"0 65536 $HOLE
65536 16384 $DATA
81920 16384 $ZERO
98304 $((512 * M - 98304)) $HOLE
$((512 * M)) 4096 $DATA
$((512 * M + 4096)) $((512 * M - 4096)) $HOLE"

check_fails "refuses an export that it does not have" \
            '(No such file|unknown|not.*(found|exist|available))' \
            nbdinfo "$(export_uri nonsense)"
check "goes on after that" is_equal "$(nbdinfo --size "$uri")" $G

check "the statistics are read-only" can_be "$(export_uri stats)" \
      "--is read-only"
nbdcopy "$(export_uri stats)" - >"$tmp/stats.out"
check "the statistics are text" grep -Eq '^held_bytes [1-9][0-9]*$' \
      "$tmp/stats.out"
check "the statistics know the five blocks with data" \
      grep -Eqx '(lz4|repeat)_blocks 5' "$tmp/stats.out"
check_fails "the statistics cannot be written" '.' \
            qemu-io -f raw "$(export_uri stats)" -c "write 0 512"
stop_server

start_server_as terabyte size=1T
check "a terabyte says its size" is_equal "$(nbdinfo --size "$uri")" $T
check "a terabyte is one hole" is_equal "$(map_of "$uri")" "0 $T $HOLE"
qemu-io -f raw "$uri" -c "write -s $tmp/data 700G 4k" >"$tmp/qemu-io.out" 2>&1
check "one block in a terabyte" is_equal "$(map_of "$uri")" \
"0 $((700 * G)) $HOLE
$((700 * G)) 4096 $DATA
$((700 * G + 4096)) $((324 * G - 4096)) $HOLE"
check "a terabyte takes less than 10 MiB" \
      at_most "$(process_bytes "$server_pid" RssAnon)" $((10 * M))
stop_server terabyte

# A size that is no multiple of a block or a sector.
readonly ODD=$((3 * M + 1234567))
start_server_as odd size=$ODD
check "an odd size is served exactly" is_equal "$(nbdinfo --size "$uri")" $ODD
check "the map of an odd size ends where it ends" \
      is_equal "$(map_of "$uri")" "0 $ODD $HOLE"
random_file "$tmp/odd.in" $ODD
check "an odd size is written to its end" nbdcopy "$tmp/odd.in" "$uri"
check "an odd size is read to its end" nbdcopy "$uri" "$tmp/odd.out"
check "the odd last bytes are whole" cmp "$tmp/odd.in" "$tmp/odd.out"
stop_server odd

finish
