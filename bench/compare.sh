#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# zmem against what people would use in its place: nbdkit's memory plugin,
# plain (allocator=malloc: the ceiling) and compressed (allocator=zstd).
#
#   ZMEM_PLUGIN=.../nbdkit-zmem-plugin.so bench/compare.sh [zmem options]
#
# Without ZMEM_PLUGIN only the others are measured.  From the environment too:
#
#   CORPUS    pages to write; made anew if there is no such file
#             [/tmp/zmem-corpus.168]
#   ROUNDS    [3]
#   SECONDS_EACH  of the timed workloads [3]
#   BENCH     folder of corpus and nbd-load (make bench-programs)
#             [where this script is]
#   LOAD_ARGS more arguments of nbd-load, "--connections 4" say
#
# On a shared machine a number means little and a ratio something, if what it
# compares ran within the same seconds.  So in each round all servers are
# started afresh, and each workload runs on one after the other, in an order
# that turns with the round, before the next workload has its turn.  Ratios
# are taken within a round; all that is printed is a median over the rounds.
# The processor time of a server, an operation, is the steadiest of the lot.
#
# Fill and randwrite do a fixed amount of work, once and twice the range, so
# that the memory held after them can be compared: RssAnon + RssShmem, less
# what there was at the start, half a second after the last write.
# (allocator=malloc has its whole disk resident from the start.)
# A server that returned wrong data ends the comparison.

set -eu -o pipefail

: "${CORPUS:=/tmp/zmem-corpus.168}" "${ROUNDS:=3}" "${SECONDS_EACH:=3}"
: "${BENCH:=$(dirname "$0")}" "${LOAD_ARGS:=}" "${ZMEM_PLUGIN:=}"
DISK=512M
ZMEM_ARGS=("$@")

servers=(malloc zstd)
if [ -n "$ZMEM_PLUGIN" ]; then servers+=(zmem); fi
workloads=(fill randread randwrite mixed)

dir=$(mktemp -d /tmp/zmem-compare.XXXXXX)
declare -A pid before_kib
results=$dir/results            # round, server, what, value

stop_servers () {
    local s
    for s in "${!pid[@]}"; do
        kill "${pid[$s]}" 2>/dev/null || :
        wait "${pid[$s]}" 2>/dev/null || :
    done
    pid=()
}
trap 'stop_servers; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP

die () {
    echo "compare.sh: $*" >&2
    exit 1
}

held_kib () {
    awk '/^Rss(Anon|Shmem):/ { kib += $2 } END { print kib }' \
        "/proc/${pid[$1]}/status"
}

cpu_ticks () {
    awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat"
}

start_server () {
    local server=$1 plugin
    case $server in
        malloc|zstd) plugin=(memory "$DISK" "allocator=$server") ;;
        zmem) plugin=("$ZMEM_PLUGIN" "size=$DISK" "${ZMEM_ARGS[@]}") ;;
    esac
    rm -f "$dir/$server".*
    nbdkit -f -P "$dir/$server.pid" -U "$dir/$server.sock" "${plugin[@]}" &
    pid[$server]=$!
    for _ in {1..100}; do
        if [ -s "$dir/$server.pid" ]; then
            before_kib[$server]=$(held_kib "$server")
            return
        fi
        kill -0 "${pid[$server]}" 2>/dev/null || break
        sleep 0.1
    done
    die "nbdkit ${plugin[*]} did not start"
}

load () {
    local server=$1
    shift
    # shellcheck disable=SC2086
    "$BENCH/nbd-load" $LOAD_ARGS --corpus "$CORPUS" \
        --state "$dir/$server.state" --json "$@" \
        "nbd+unix:///?socket=$dir/$server.sock" ||
        die "$server: nbd-load $* failed"
}

# One number of nbd-load's JSON line.
field () {
    local rest=${2#*"\"$1\": "}

    echo "${rest%%[,\}]*}"
}

note () {
    echo "$round $server $1 $2" >>"$results"
}

run_workload () {
    local server=$1 workload=$2 cpu json how ops
    case $workload in
        randwrite) how=(--ops $((2 * nr_blocks))) ;;
        *) how=(--seconds "$SECONDS_EACH") ;;
    esac
    cpu=$(cpu_ticks "$server")
    json=$(load "$server" --workload "$workload" "${how[@]}")
    cpu=$(($(cpu_ticks "$server") - cpu))
    ops=$(field ops "$json")
    note "ops_s:$workload" "$(field ops_s "$json")"
    note "p99_us:$workload" "$(field p99_us "$json")"
    note "cpu_us:$workload" \
         "$(awk "BEGIN { print $cpu / $ticks * 1e6 / $ops }")"
    case $workload in
        fill|randwrite)
            sleep 0.5
            note "held_mib:$workload" "$(awk "BEGIN { print \
                ($(held_kib "$server") - ${before_kib[$server]}) / 1024 }")"
    esac
}

run_round () {
    local i server workload
    for server in "${servers[@]}"; do
        start_server "$server"
        note held_mib:start \
             "$(awk "BEGIN { print ${before_kib[$server]} / 1024 }")"
    done
    for workload in "${workloads[@]}"; do
        for ((i = 0; i < ${#servers[@]}; i++)); do
            server=${servers[(i + round) % ${#servers[@]}]}
            run_workload "$server" "$workload"
        done
    done
    for server in "${servers[@]}"; do
        load "$server" --workload randread --ops 10000 --verify >/dev/null
    done
    stop_servers
}

print_tables () {
    awk -v servers="${servers[*]}" -v rounds="$ROUNDS" '
        { value[$1, $2, $3] = $4 }
        function median(a, n,    i, j, t) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && a[j - 1] > a[j]; j--) {
                    t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
                }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        # other: "" for the number itself
        function cell(server, other, what,    r, a) {
            for (r = 1; r <= rounds; r++) {
                a[r] = value[r, server, what]
                if (other != "")
                    a[r] /= value[r, other, what]
            }
            return median(a, rounds)
        }
        function row(name, server, other, prefix, columns, format,
                     n, i, c) {
            printf "%-22s", name
            n = split(columns, c)
            for (i = 1; i <= n; i++)
                printf " " format, cell(server, other, prefix ":" c[i])
            printf "\n"
        }
        function table(title, prefix, columns, format,    n, i, c) {
            printf "%-22s", title
            n = split(columns, c)
            for (i = 1; i <= n; i++)
                printf " %10s", c[i]
            printf "\n"
            for (i = 1; i <= nr_servers; i++)
                row("  " server[i], server[i], "", prefix, columns, format)
            if (server[nr_servers] == "zmem" && prefix != "held_mib") {
                row("  zmem/malloc", "zmem", "malloc", prefix, columns,
                    "%10.2f")
                row("  zmem/zstd", "zmem", "zstd", prefix, columns, "%10.2f")
            }
        }
        END {
            nr_servers = split(servers, server)
            all = "fill randread randwrite mixed"
            table("ops/s", "ops_s", all, "%10.0f")
            table("server CPU, us/op", "cpu_us", all, "%10.1f")
            table("p99 latency, us", "p99_us", all, "%10.0f")
            table("MiB held after", "held_mib", "start fill randwrite", "%10.1f")
        }' "$results"
}

command -v nbdkit >/dev/null || die "needs nbdkit"
[ -x "$BENCH/nbd-load" ] ||
    die "no $BENCH/nbd-load: 'make bench-programs', or set BENCH"
if [ ! -e "$CORPUS" ]; then
    "$BENCH/corpus" -o "$CORPUS" -s 168
fi
nr_blocks=$(($(stat -Lc %s "$CORPUS") / 4096))
ticks=$(getconf CLK_TCK)

for ((round = 1; round <= ROUNDS; round++)); do
    echo "round $round of $ROUNDS; load average $(cut -d' ' -f1 /proc/loadavg)"
    run_round
done
print_tables
