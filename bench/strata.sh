#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Each kind of data by itself: what zmem makes of packages, an ext4 image, a
# database, sources, the memory of programs and libraries, beside the servers
# that people would use in its place.
#
#   bench/strata.sh
#
# From the environment too, besides what servers.sh takes (but CORPUS):
#
#   STRATA        folder with a file for each stratum, as from "corpus
#                 --strata" [made anew, for this run]
#   STRATA_MIB    of each, when they are made [16]
#   SERVERS       of malloc, sparse, zstd, zram, zmem, zmem-zstd; null and
#                 bare are passed over [all that can be had]
#   ROUNDS        [3]
#   SECONDS_EACH  of reading and of overwriting at random [1]
#   RESULTS       file that gets a JSON line for each round, stratum and
#                 server, after what it has [none that stays]
#
# For each stratum of each round all servers are started afresh, with a disk
# of its size.  Then each phase (fill, randread, randwrite) runs on one after
# the other, in an order that turns with the round.  Held is what there is
# after fill: of a process RssAnon + RssShmem less what it had at its start
# (allocator=malloc: less that without the disk, which is resident from the
# start), of zram its pool.  Ratios are taken within a round; the tables show
# medians over the rounds.  A server that returned wrong data ends it all.

CORPUS=/dev/null                # until there are strata

# What servers.sh sets:
# shellcheck disable=SC2154
# shellcheck source=bench/servers.sh
. "$(dirname "$0")/servers.sh"

: "${ROUNDS:=3}" "${SECONDS_EACH:=1}" "${STRATA_MIB:=16}" "${STRATA:=}"
: "${RESULTS:=$dir/results.jsonl}"
least_bytes=262144              # nbd-load needs room for what is in flight

[ $# = 0 ] || die "$1: takes no arguments; the head of this file says what" \
    "is taken from the environment"

# What compare.sh is asked for may come here too: those that keep no data are
# left out.
servers=()
for server in ${SERVERS:-malloc sparse zstd zram zmem zmem-zstd}; do
    case $server in
        null|bare*) ;;
        zram) if zram_possible; then servers+=(zram); fi ;;
        *) servers+=("$server") ;;
    esac
done
[ ${#servers[@]} -gt 0 ] || die "SERVERS=$SERVERS: none of them keeps data"

make_strata () {
    STRATA=$dir/strata
    echo "making strata of $STRATA_MIB MiB"
    TMPDIR=$dir "$BENCH/corpus" -o "$dir/mix" -s "$STRATA_MIB" \
        --strata "$STRATA" --strata-mib "$STRATA_MIB" >/dev/null ||
        die "no strata could be made"
    rm "$dir/mix"
    sed -n '/^Strata/,/^$/p' "$dir/mix.manifest"
}

find_strata () {
    local file
    strata=()
    for file in "$STRATA"/*; do
        if [ ! -f "$file" ]; then continue; fi
        if [ "$(stat -Lc %s "$file")" -lt $least_bytes ]; then
            echo "${file##*/}: too small, left out"
        else
            strata+=("${file##*/}")
        fi
    done
    [ ${#strata[@]} -gt 0 ] ||
        die "STRATA=$STRATA: no folder with a file for each stratum"
}

# run_phase SERVER WORKLOAD [argument of nbd-load]...: its operations a second
run_phase () {
    local server=$1 workload=$2 json
    shift 2
    json=$(load "$server" --workload "$workload" --seed "$round" "$@") ||
        die "$stratum: $server: nbd-load --workload $workload failed"
    field ops_s "$json"
}

start_servers () {
    local server
    for server in "${servers[@]}"; do
        start_kind "$server" "$server"
    done
    if [ -n "${pid[malloc]:-}" ]; then
        before_kib[malloc]=$((before_kib[malloc] - 1024 * ${DISK%M}))
    fi
}

# measure PHASE COMMAND...: on each server, in this round's order, the command
# with the server's name after it; what it prints is noted.
measure () {
    local phase=$1 i server value
    shift
    for ((i = 0; i < ${#servers[@]}; i++)); do
        server=${servers[(i + round) % ${#servers[@]}]}
        value=$("$@" "$server") || exit
        note "$server" "$stratum:$phase" "$value"
    done
}

do_fill () { run_phase "$1" fill >/dev/null && held_mib "$1"; }
do_read () { run_phase "$1" randread --seconds "$SECONDS_EACH" --verify; }
do_write () { run_phase "$1" randwrite --seconds "$SECONDS_EACH"; }

held_mib () {
    sleep 0.3                   # what is freed late
    calculate "$(held_kib "$1") / 1024"
}

write_lines () {
    local server what=$stratum
    for server in "${servers[@]}"; do
        printf '{"type": "stratum", "round": %d, "stratum": "%s", ' \
               "$round" "$stratum"
        printf '"server": "%s", "mib": %s, "held_mib": %s, ' "$server" \
               "$mib" "${last[$server $what:held]}"
        printf '"read_ops_s": %s, "write_ops_s": %s}\n' \
               "${last[$server $what:read]}" "${last[$server $what:write]}"
    done >>"$RESULTS"
}

note_ratios () {
    local phase ours malloc
    for phase in read write; do
        ours=${last[zmem $stratum:$phase]:-}
        malloc=${last[malloc $stratum:$phase]:-}
        if [ -n "$ours" ] && [ -n "$malloc" ]; then
            note ratio "$stratum:$phase" "$(calculate "$ours / $malloc")"
        fi
    done
}

run_stratum () {
    local bytes
    CORPUS=$STRATA/$stratum
    bytes=$(stat -Lc %s "$CORPUS")
    DISK=$(((bytes + 1048575) / 1048576))M
    mib=$(calculate "$bytes / 1048576")
    mib_of[$stratum]=$mib
    start_servers
    measure held do_fill
    measure read do_read
    measure write do_write
    stop_servers
    write_lines
    note_ratios
}

# heading TITLE [further column]...
heading () {
    printf '\n%-10s %7s' "$1" MiB
    shift
    printf ' %9s' "${servers[@]}" "$@"
    printf '\n'
}

print_tables () {
    local server held
    heading "MiB held"
    for stratum in "${strata[@]}"; do
        printf '%-10s %7.1f' "$stratum" "${mib_of[$stratum]}"
        for server in "${servers[@]}"; do
            printf ' %9.2f' "$(median "$server" "$stratum:held")"
        done
        printf '\n'
    done
    echo
    echo "Held, of the data; then zmem/malloc, operations a second"
    heading stratum read overwrite
    for stratum in "${strata[@]}"; do
        printf '%-10s %7.1f' "$stratum" "${mib_of[$stratum]}"
        for server in "${servers[@]}"; do
            held=$(median "$server" "$stratum:held")
            printf ' %8.1f%%' "$(calculate "100 * $held / ${mib_of[$stratum]}")"
        done
        if [ -n "${last[ratio $stratum:read]:-}" ]; then
            printf ' %9.2f %9.2f' "$(median ratio "$stratum:read")" \
                   "$(median ratio "$stratum:write")"
        fi
        printf '\n'
    done
}

declare -A mib_of
if [ -z "$STRATA" ]; then make_strata; fi
find_strata
for ((round = 1; round <= ROUNDS; round++)); do
    echo "round $round of $ROUNDS; load average $(cut -d' ' -f1 /proc/loadavg)"
    for stratum in "${strata[@]}"; do
        run_stratum
    done
done
print_tables
