#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Does memory come back?  zmem (lz4) beside nbdkit's memory plugin with
# allocator=zstd and, for root where there is /sys/class/zram-control, the
# kernel's zram (lz4) behind qemu-nbd: what each holds
#
#     fresh      after writing the corpus once
#     rewritten  after OVERWRITES times as many writes at random
#     0.25 s     after the last trim of a random half was answered
#     1 s
#     compacted  after "zmemctl compact wait"; zram: a 1 written to its
#                "compact"; zstd has none: as it is then
#
#   bench/compact-memory.sh [OPTION OF THE PLUGIN]...
#
# From the environment too, besides what servers.sh takes:
#
#   ROUNDS      each with servers started afresh, another half trimmed; what
#               is printed are medians [1]
#   OVERWRITES  [5]
#   SERVERS     of zmem, zstd, zram [all that can be had]
#
# Held, of a process: RssAnon + RssShmem, less what it had at its start; of
# zram: its pool (mm_stat, mem_used_total), without its table.  For zmem also
# what it says itself, against the guarantees of docs/COMPACTION (the worst of
# all rounds): H held_bytes, L payload_rounded_bytes, M 16 bytes a live block
# + 4 KiB a live region + 1 MiB, F what was freed of payload_bytes.
# A server that returned wrong data ends the comparison.

# What servers.sh sets:
# shellcheck disable=SC2154
# shellcheck source=bench/servers.sh
. "$(dirname "$0")/servers.sh"

: "${ROUNDS:=1}" "${OVERWRITES:=5}"
if [ -z "${SERVERS:-}" ]; then
    SERVERS="zmem zstd"
    if zram_possible; then SERVERS+=" zram"; fi
fi
zmem_args=("$@")
moments=(fresh rewritten 0.25s 1s compacted)

start_server () {
    start_kind "$1" "$1" "${zmem_args[@]}"
}

do_load () {
    load "$@" --seed "$round" >/dev/null || die "$1: nbd-load ${*:2} failed"
}

# What zmem says: H, L, M in MiB, and what they are to each other.
note_account () {
    local moment=$1 what number
    get_stats zmem
    while read -r what number; do
        note zmem "$what:$moment" "$number"
    done < <(awk '
        function get(name) {
            if (!(name in s)) {
                print "no statistic " name >"/dev/stderr"
                exit
            }
            return s[name]
        }
        { s[$1] = $2 }
        END {
            mib = 1048576
            h = get("held_bytes")
            l = get("payload_rounded_bytes")
            m = 16 * get("live_blocks") + 4096 * get("live_regions") + mib
            print "H", h / mib
            print "L", l / mib
            print "M", m / mib
            print "ratio", (h - m) / l
            print "G1", (h - 1.02 * l - m) / mib - 2
            print "payload", get("payload_bytes") / mib
            print "copied", get("compact_copied_bytes") / mib
            print "returned", get("compact_returned_bytes") / mib
        }' "$dir/zmem.stats")
}

# What this round has to say to the guarantees; see print_verdicts.
note_verdicts () {
    note zmem G2 "$(calculate \
        "0.97 * (${last[zmem payload:rewritten]} - ${last[zmem payload:1s]}) \
         - 2 - (${last[zmem H:rewritten]} - ${last[zmem H:1s]})")"
    note zmem G3 "$(calculate "${last[zmem copied:compacted]} \
                               - ${last[zmem returned:compacted]}")"
    note zmem halved \
        "$(calculate "${last[zmem held:1s]} / ${last[zmem held:rewritten]}")"
}

note_held () {
    local server=$1 moment=$2
    note "$server" "held:$moment" "$(calculate "$(held_kib "$server") / 1024")"
    if [ "$server" = zmem ]; then note_account "$moment"; fi
}

# Until so many seconds after $since.
sleep_until () {
    sleep "$(calculate "$since + $1 > $EPOCHREALTIME \
                        ? $since + $1 - $EPOCHREALTIME : 0")"
}

compact_server () {
    case $1 in
        zmem) control zmem compact wait >/dev/null ;;
        zram) echo 1 >"$zram_sys/compact" ;;
        zstd) ;;
    esac
}

run_server () {
    local server=$1
    start_server "$server"
    do_load "$server" --workload fill
    sleep 0.5
    note_held "$server" fresh
    do_load "$server" --workload randwrite --ops $((OVERWRITES * nr_blocks))
    sleep 0.5
    note_held "$server" rewritten
    do_load "$server" --workload trimhalf
    local since=$EPOCHREALTIME
    sleep_until 0.25
    note_held "$server" 0.25s
    sleep_until 1
    note_held "$server" 1s
    compact_server "$server"
    note_held "$server" compacted
    do_load "$server" --workload randread --ops "$nr_blocks" --verify
    stop_servers
    if [ "$server" = zmem ]; then note_verdicts; fi
}

# row TITLE NAME PREFIX FORMAT
row () {
    local moment
    printf '%-24s' "  $1"
    for moment in "${moments[@]}"; do
        # shellcheck disable=SC2059
        printf " $4" "$(median "$2" "$3:$moment")"
    done
    printf '\n'
}

heading () {
    printf '%-24s' "$1"
    printf ' %10s' "${moments[@]}"
    printf '\n'
}

# verdict TITLE WHAT AT-MOST
verdict () {
    awk -v title="$1" -v worst="$(most zmem "$2")" -v bound="$3" 'BEGIN {
        printf "  %-46s %8.2f, at most %.2f: %s\n", title, worst, bound,
               worst <= bound ? "holds" : "DOES NOT HOLD" }'
}

print_zmem () {
    local what
    heading "zmem's account, MiB"
    for what in H L M; do row $what zmem $what '%10.2f'; done
    row "(H - M) / L" zmem ratio '%10.4f'
    row "H - (1.02 L + M + 2)" zmem G1 '%10.2f'
    row "compaction: copied" zmem copied '%10.2f'
    row "compaction: returned" zmem returned '%10.2f'
    echo "guarantees, MiB, the worst of $ROUNDS"
    verdict "G1: H - (1.02 L + M + 2), compacted" G1:compacted 0
    verdict "G2: 0.97 F - 2 - what H fell by in 1 s" G2 0
    verdict "G3: copied - returned" G3 0
    verdict "aim: held 1 s after the trim / before it" halved 0.52
}

for ((round = 1; round <= ROUNDS; round++)); do
    echo "round $round of $ROUNDS; load average $(cut -d' ' -f1 /proc/loadavg)"
    for server in $SERVERS; do
        run_server "$server"
    done
done
heading "MiB held"
for server in $SERVERS; do
    row "$server" "$server" held '%10.1f'
done
if [[ " $SERVERS " == *" zmem "* ]]; then print_zmem; fi
