#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What does compaction cost those who read and write meanwhile?  The latency
# of both, in microseconds, under a load that frees (nbd-load's churn: 50 %
# reads, 40 % writes, 10 % trims, so that four fifths of the blocks are live),
# with
#
#     off     compact=manual, and nobody asks
#     auto    compact=auto, the default
#     flat    the same, and flat out: compaction of everything is asked for
#             again every 0.2 ms, on one connection to the control socket
#             ("zmemctl compact wait" in a loop leaves it idle mostly)
#
#   bench/compact-latency.sh [OPTION OF THE PLUGIN]...
#
# From the environment too, besides what servers.sh takes:
#
#   FULL      percents: the range that is used is that much of the corpus and,
#             after a while of churn, limit= is set so that what each server
#             then holds is that much of it [10 50 90 99]
#   SHAPES    connections x requests in flight on each [1x4 2x16]
#   ROUNDS    [3]
#   SECONDS_EACH  of a server, a round [1]
#   RATE      requests a second, at most: G4 is about a machine that has a
#             processor to spare, and a load without a bound leaves none on a
#             small one [0: no bound]
#
# The three servers of a cell of the table take turns, in an order that turns
# with the round; all that is printed is a median over the rounds, but for
# what was refused, which is the most.  "held": percent of limit= after a
# round; "at work": percent of the time that compaction ran, as the server
# counts it; "refused": writes that met the limit (their latency counts as
# well).
#
# G4: p99.9 of reads, and of writes, with auto <= 1.25 times that with off
# + 200 us.

# What servers.sh sets:
# shellcheck disable=SC2154
# shellcheck source=bench/servers.sh
. "$(dirname "$0")/servers.sh"

: "${FULL:=10 50 90 99}" "${SHAPES:=1x4 2x16}"
: "${ROUNDS:=3}" "${SECONDS_EACH:=1}" "${RATE:=0}"
zmem_args=("$@")
servers=(off auto flat)

columns=(ops_s held work refused)
for kind in read write; do
    for figure in p50 p99 p999 max; do
        columns+=("${kind}_${figure}_us")
    done
done

# churn NAME [argument]...: prints nbd-load's JSON line.  Writes may be
# refused; nothing else may fail.
churn () {
    local name=$1 json
    shift
    json=$(load "$name" --workload churn "${shape_args[@]}" "$@" \
                2>"$dir/load.err") || :
    if [ "$(field wrong "$json")" != 0 ] ||
           grep -v 'No space left on device' "$dir/load.err" >&2; then
        die "$name: nbd-load churn failed"
    fi
    echo "$json"
}

start_cell () {
    local server mode held
    for server in "${servers[@]}"; do
        mode=auto
        if [ "$server" = off ]; then mode=manual; fi
        start_zmem "$server" compact=$mode "${zmem_args[@]}"
        load "$server" --workload fill "${shape_args[@]}" >/dev/null ||
            die "$server: nbd-load fill failed"
        churn "$server" --seconds "$SECONDS_EACH" >/dev/null
        get_stats "$server"
        held=$(statistic "$server" held_bytes)
        control "$server" limit $((held * 100 / full)) >/dev/null
    done
}

run_server () {
    local server=$1 json before work held limit column
    get_stats "$server"
    before=$(statistic "$server" compact_running_microseconds)
    if [ "$server" = flat ]; then start_compacting flat; fi
    json=$(churn "$server" --seconds "$SECONDS_EACH" --rate "$RATE")
    if [ "$server" = flat ]; then stop_compacting; fi
    get_stats "$server"
    work=$(statistic "$server" compact_running_microseconds)
    held=$(statistic "$server" held_bytes)
    limit=$(statistic "$server" limit_bytes)
    note "$cell:$server" work "$(calculate "($work - $before) \
         / $(field ops "$json") * $(field ops_s "$json") / 1e4")"
    note "$cell:$server" held "$(calculate "100 * $held / $limit")"
    note "$cell:$server" refused "$(field errors "$json")"
    for column in ops_s "${columns[@]:4}"; do
        note "$cell:$server" "$column" "$(field "$column" "$json")"
    done
}

run_cell () {
    local round i server
    start_cell
    for ((round = 0; round < ROUNDS; round++)); do
        for ((i = 0; i < ${#servers[@]}; i++)); do
            run_server "${servers[(i + round) % ${#servers[@]}]}"
        done
    done
    for server in "${servers[@]}"; do
        load "$server" --workload randread --ops 20000 --verify \
            "${shape_args[@]}" >/dev/null ||
            die "$server: nbd-load randread --verify failed"
    done
    stop_servers
}

# verdict KIND: G4 for reads or writes of this cell.
verdict () {
    local column=${1}_p999_us
    awk -v kind="$1" -v off="$(median "$cell:off" "$column")" \
        -v auto="$(median "$cell:auto" "$column")" 'BEGIN {
            bound = 1.25 * off + 200
            printf "  G4, %ss: p99.9 %.0f us, at most %.0f: %s\n", kind,
                   auto, bound, auto <= bound ? "holds" : "DOES NOT HOLD" }'
}

print_cell () {
    local server column
    printf '%-18s %6s %6s %6s %7s %29s %31s\n' "$shape, $full % full" \
        "" held "at work" "" "read, us" "write, us"
    printf '  %-12s %10s %6s %7s %7s' "" ops/s % % refused
    printf ' %7s %7s %7s %7s' p50 p99 p99.9 max p50 p99 p99.9 max
    printf '\n'
    for server in "${servers[@]}"; do
        printf '  %-12s' "$server"
        for column in "${columns[@]}"; do
            case $column in
                ops_s) printf ' %10.0f' "$(median "$cell:$server" ops_s)" ;;
                held) printf ' %6.1f' "$(median "$cell:$server" held)" ;;
                work) printf ' %7.1f' "$(median "$cell:$server" work)" ;;
                refused) printf ' %7d' "$(most "$cell:$server" refused)" ;;
                *) printf ' %7.0f' "$(median "$cell:$server" "$column")" ;;
            esac
        done
        printf '\n'
    done
    verdict read
    verdict write
}

command -v perl >/dev/null || die "needs perl"
corpus_mib=$((nr_blocks / 256))
echo "$ROUNDS rounds of $SECONDS_EACH s; load average" \
     "$(cut -d' ' -f1 /proc/loadavg)"
for shape in $SHAPES; do
    for full in $FULL; do
        cell=$shape:$full
        size_mib=$((corpus_mib * full / 100))
        shape_args=(--connections "${shape%x*}" --depth "${shape#*x}"
                    --size $((size_mib > 0 ? size_mib : 1)))
        run_cell
        print_cell
    done
done
