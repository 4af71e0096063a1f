#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# zmem against what people would use in its place, side by side.
#
#   bench/compare.sh [--full] [--out DIR]
#
# Servers: zmem with lz4 and with zstd:1; nbdkit's memory plugin with
# allocator=malloc (no compression: the ceiling), sparse and zstd; the
# kernel's zram with lz4 behind qemu-nbd, direct I/O (for root, where there is
# /sys/class/zram-control); nbdkit null (the floor of the protocol) and bare,
# bare-zstd (bench/bare-plugin.c: the codec and nothing else).
#
# What is measured: a table a phase, phases in run_round; for all but null
# every byte that is read is compared with what was written.  The short run
# ("make bench") takes less than five minutes, the full one ("make
# bench-full") an hour: it adds servers, connections 1 to 8, depths 1 to 64,
# parts of blocks, swap, overwriting while compaction runs, strata.sh and
# scale.sh.
#
# On a shared machine a number means little and a ratio something, if what it
# compares ran within the same seconds.  So in each round all servers are
# started afresh, and each phase runs on one after the other, in an order that
# turns with the round, before the next phase has its turn.  Ratios are taken
# within a round; report.pl prints medians over the rounds, and the spread.
#
# Held: of a process RssAnon + RssShmem, less what it had at its start; of
# zram its pool (mm_stat), without its table.  (allocator=malloc has its whole
# disk resident from the start.)  Rewriting is a fixed number of writes, so
# that what is held after it can be compared.
#
# DIR [bench-results] gets results.jsonl (what was measured, a line each; its
# format is at the head of report.pl), summary.json, summary.txt and plots.
# A server that returned wrong data ends the comparison.
#
# From the environment too, besides what servers.sh takes:
#
#   ROUNDS        [3; full: 5]
#   SECONDS_EACH  of the timed phases [0.5; full: 2]
#   SERVERS       of those above, to choose [all of the run]
#   PHASES        of those in run_round, to choose [all of the run], and
#                 randread or randwrite with -cN or -dN, N connections or N
#                 requests at a time; fill is always done

full=false
out=bench-results
command="bench/compare.sh $*"

# What servers.sh sets:
# shellcheck disable=SC2154
# shellcheck source=bench/servers.sh
. "$(dirname "$0")/servers.sh"

while [ $# -gt 0 ]; do
    case $1 in
        --full) full=true ;;
        --out)
            [ $# -gt 1 ] || die "--out: a folder must follow"
            out=$2
            shift ;;
        *) die "$1: not one of --full, --out DIR" ;;
    esac
    shift
done

main_phases="fill latread latwrite randread randwrite mixed seqread256"
main_phases+=" seqwrite256 trimhalf"
few_servers="malloc zstd zram zmem"
if $full; then
    : "${ROUNDS:=5}" "${SECONDS_EACH:=2}"
    : "${SERVERS:=null malloc sparse zstd zram bare bare-zstd zmem zmem-zstd}"
    full_phases="$main_phases part swap randwrite-compact"
    for n in c{1,2,4,8} d{1,2,4,8,16,32,64}; do
        full_phases+=" randread-$n randwrite-$n"
    done
    : "${PHASES:=$full_phases fill256}"
else
    : "${ROUNDS:=3}" "${SECONDS_EACH:=0.5}"
    : "${SERVERS:=null malloc zstd zram bare zmem zmem-zstd}"
    : "${PHASES:=$main_phases}"
fi

# A mistake is told before anything is started.
phases="$main_phases part swap fill256 randwrite-compact"
shapes=''
for server in $SERVERS; do must_be_kind "$server"; done
for phase in $PHASES; do
    if [[ $phase =~ ^(randread|randwrite)-[cd][1-9][0-9]*$ ]]; then
        shapes+=" $phase"
    elif [[ " $phases " != *" $phase "* ]]; then
        die "$phase is no phase: $phases, and randread or randwrite with -c" \
            "or -d and a number, as in randread-d16, are"
    fi
done

servers=()
for server in $SERVERS; do
    if [ "$server" != zram ] || zram_possible; then servers+=("$server"); fi
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
lines=$out/results.jsonl

#----------------------------------------------------------------------
# What is going on.

nr_steps=0
step=0

# show NAME...: what is about to be done.
show () {
    step=$((step + 1))
    [ -t 2 ] || return 0
    local percent=$((nr_steps > 0 ? 100 * step / nr_steps : 0))
    local bar=$((percent > 100 ? 30 : percent * 30 / 100))
    printf '\r\e[K[%-30s] %3d%%  %4d s  %s' "${blanks:0:bar}" \
           "$((percent > 100 ? 100 : percent))" "$SECONDS" "$*" >&2
}
printf -v blanks '%30s' ''
blanks=${blanks// /#}

show_nothing () {
    [ -t 2 ] || return 0
    printf '\r\e[K' >&2
}

is_asked () { [[ " ${PHASES//$'\n'/ } " == *" $1 "* ]]; }
is_served () { [[ " ${servers[*]} " == *" $1 "* ]]; }

#----------------------------------------------------------------------
# Lines of results.

version_of () { "$@" 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }

note_run () {
    local cpu memory zmem codecs
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
    zmem=$(nbdkit --dump-plugin "$ZMEM_PLUGIN")
    codecs=$(sed -n 's/^zmem_\(lz4\|zstd\)_version=/\1 /p' <<<"$zmem")
    perl -MJSON::PP -e '
        my %run = (type => "run", @ARGV);
        $run{rounds} += 0;
        print JSON::PP->new->canonical->encode (\%run), "\n";
        ' date "$(date -u +%Y-%m-%d)" command "$command" \
          machine "$cpu, $(nproc) processors, $memory GiB" \
          kernel "$(uname -sr)" nbdkit "$(version_of nbdkit --version)" \
          libnbd "$(version_of pkg-config --modversion libnbd)" \
          qemu-nbd "$(version_of qemu-nbd --version)" \
          lz4 "$(version_of grep lz4 <<<"$codecs")" \
          zstd "$(version_of grep zstd <<<"$codecs")" \
          zmem "$(sed -n 's/^version=//p' <<<"$zmem")" \
          corpus "$(corpus_line)" rounds "$ROUNDS" \
          seconds "$SECONDS_EACH" \
          mode "$(if $full; then echo full; else echo short; fi)" >"$lines"
}

corpus_line () {
    if [ -e "$CORPUS.manifest" ]; then
        sed -n '1s/^corpus *//p' "$CORPUS.manifest"
    else
        echo "$nr_blocks pages of $CORPUS"
    fi
}

line () {
    printf '{"type": "%s", "round": %s, "server": "%s", ' \
           "$1" "$round" "$server"
    shift
    printf '%s}\n' "$*"
} >>"$lines"

note_held () {
    line held "\"phase\": \"$1\"," \
         "\"held_mib\": $(calculate "$(held_kib "$server") / 1024")," \
         "\"baseline_mib\": $(calculate "${before_kib[$server]:-0} / 1024")"
}

#----------------------------------------------------------------------
# Phases.

# Sets how: arguments of nbd-load.
choose_load () {
    local workload=${1%%-*}
    how=(--connections 2 --depth 16 --workload "$workload")
    case $1 in
        fill|fill256|trimhalf) ;;
        latread) how=(--connections 1 --depth 1 --workload randread) ;;
        latwrite) how=(--connections 1 --depth 1 --workload randwrite) ;;
        *-c*[0-9]) how+=(--connections "${1##*-c}") ;;
        *-d*[0-9]) how+=(--depth "${1##*-d}") ;;
    esac
    case $1 in
        randwrite) how+=(--ops "$((nr_blocks * (1 + nr_full)))") ;;
        *) how+=(--seconds "$SECONDS_EACH") ;;
    esac
    if [ "$server" != null ]; then how+=(--verify); fi
}
nr_full=0
if $full; then nr_full=1; fi

run_load () {
    local phase=$1 json how
    choose_load "$phase"
    if [ "${pid[$server]+is}" = is ]; then
        how+=(--server-pid "${pid[$server]}")
    fi
    show "round $round of $ROUNDS, $phase, $server"
    json=$(load "$server" "${how[@]}") || {
        show_nothing
        die "$server: nbd-load ${how[*]} failed"
    }
    json=${json#\{}
    line load "\"phase\": \"$phase\", ${json%\}}"
}

# The servers that a phase is for, the first of them another in each round.
servers_of () {
    local all=("${servers[@]}") i
    case $1 in
        *-compact) all=(zram zmem zmem-zstd) ;;
        *-c*[0-9]|*-d*[0-9])
            read -ra all <<<"$few_servers" ;;
        # Bare serves whole blocks only.
        trimhalf|swap|part) all=(malloc sparse zstd zram zmem zmem-zstd) ;;
    esac
    for ((i = 0; i < ${#all[@]}; i++)); do
        echo "${all[(i + round) % ${#all[@]}]}"
    done
}

run_phase () {
    local phase=$1 server
    is_asked "$phase" || [ "$phase" = fill ] || return 0
    for server in $(servers_of "$phase"); do
        is_served "$server" || continue
        case $phase in *-compact) start_compacting "$server" ;; esac
        run_load "$phase"
        case $phase in *-compact) stop_compacting ;; esac
        case $phase in
            fill|randwrite) sleep 0.3 ;;
            trimhalf) sleep 1 ;;
        esac
        case $phase in
            *-c*[0-9]|*-d*[0-9]) ;;
            *) note_held "$phase" ;;
        esac
        if [ "$phase" = trimhalf ]; then
            compact
            note_held compacted
        fi
    done
}

compact () {
    case $server in
        zmem*) control "$server" compact wait >/dev/null ;;
        zram) echo 1 >"$zram_sys/compact" ;;
    esac
}

start_servers () {
    local server
    for server in "${servers[@]}"; do
        show "round $round of $ROUNDS, starting $server"
        start_kind "$server" "$server"
    done
}

# What is held after trimming is looked at in servers that have seen nothing
# but blocks: of a large request's buffers, 256 KiB a thread, nbdkit's heap
# keeps some for good.
run_round () {
    local phase server
    start_servers
    for phase in fill latread latwrite randread randwrite mixed seqread256 \
                 seqwrite256 randwrite-compact part $shapes swap; do
        run_phase "$phase"
    done
    stop_servers
    if is_asked trimhalf; then
        start_servers
        for server in $(servers_of trimhalf); do
            if is_served "$server"; then
                show "round $round of $ROUNDS, to be trimmed, $server"
                load "$server" --workload fill >/dev/null
            fi
        done
        run_phase trimhalf
        stop_servers
    fi
    if is_asked fill256; then
        start_servers
        run_phase fill256
        stop_servers
    fi
}

#----------------------------------------------------------------------
# Held over time.

sample_for_ever () {
    local start=$1
    while :; do
        line sample "\"t_s\": $(calculate "$(now) - $start")," \
             "\"held_mib\": $(calculate "$(held_kib "$server") / 1024")"
        sleep 0.1
    done
}

now () { date +%s.%N; }

mark () {
    line mark "\"t_s\": $(calculate "$(now) - $start"), \"phase\": \"$1\""
}

run_history_of () {
    local server=$1 round=1 start
    start_kind "$server" "$server"
    start=$(now)
    start_job sampler sample_for_ever "$start"
    show "held over time, $server"
    mark fill
    load "$server" --workload fill --verify >/dev/null
    mark churn
    load "$server" --workload churn --ops $((2 * nr_blocks)) --verify \
         >/dev/null
    mark refill
    load "$server" --workload fill --verify >/dev/null
    mark trim
    load "$server" --workload trimhalf >/dev/null
    sleep 2
    mark compact
    compact
    sleep 1
    stop_servers
}

run_history () {
    local server
    for server in zstd zram zmem zmem-zstd; do
        if is_served "$server"; then run_history_of "$server"; fi
    done
}

#----------------------------------------------------------------------

count_steps () {
    local round=0 phase
    for phase in fill $PHASES; do
        for server in $(servers_of "$phase"); do
            if is_served "$server"; then nr_steps=$((nr_steps + 1)); fi
        done
    done
    nr_steps=$(((nr_steps + ${#servers[@]} * (3 + nr_full)) * ROUNDS + 6))
}

count_steps
note_run
show codecs
"$BENCH/codec-bare" "$CORPUS" >>"$lines"
for ((round = 1; round <= ROUNDS; round++)); do run_round; done
run_history
if $full; then
    show_nothing
    RESULTS=$lines "$(dirname "$0")/strata.sh"
    RESULTS=$lines "$(dirname "$0")/scale.sh"
fi
show_nothing
"$(dirname "$0")/report.pl" --json "$out/summary.json" \
    --text "$out/summary.txt" --plots "$out" "$lines"
