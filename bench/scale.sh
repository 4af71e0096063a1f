#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What grows with the work, and how fast: zmem's cost over
#
#     disk-size  disks of 1 GiB to 1 TiB, untouched, with the corpus packed at
#                their start, and with it spread evenly over them: memory
#     fullness   a disk that takes 1 % to 99 % of its limit: random reads and
#                overwrites
#     extents    listing the extents of a whole disk, and trimming it, 4 GiB
#                a request: untouched, and with the corpus spread over it
#     threads    nbdkit's threads a connection, 1 to 16, beside nbdkit's
#                memory plugin with allocator=malloc
#     pool       1/4 to 2 GiB of data, to 16 GiB with FULL=1: memory, speed,
#                and all of compaction after a random half was trimmed
#                (compact=manual)
#
#   bench/scale.sh [OPTION]...
#
# with options of the plugin.  A table for each: a row is something measured,
# a column a size, the last two columns
#
#     growth     cost a unit at the largest size over cost a unit at the
#                smallest: 1 is linear, less grows slower.  The cost is what
#                was measured, a GiB; of ops/s, the time an operation; of what
#                is told by the operation or the GiB, just that
#     at last    the same over the size before, where a cost that does not
#                grow hides nothing any more
#
# and "*" beside more than 1.25.
#
# From the environment too:
#
#   ROUNDS      what is printed are medians [1]
#   PARTS       of the above [all]
#   DISKS       GiB [1 4 16 64 256 1024]
#   FULL        1: pools of up to 16 GiB
#   SECONDS_EACH  of random reads and overwrites [1.5]
#   RESULTS     a file to append to: a JSON object a point [none]
#
# and CORPUS, BENCH, ZMEM_PLUGIN, ZMEMCTL: see servers.sh.
#
# Memory is what zmem says (held, metadata) and what the kernel says of the
# process (resident: RssAnon + RssShmem; page tables: VmPTE, which is in
# neither).  The guarantee that metadata is held against: 16 bytes a live
# block + 4 KiB a region with a live block + 1 MiB, + 0.1 byte a hole.
# Processor time is the server's alone.  Of fullness and pool, blocks are read
# back in the end and compared; wrong data ends the run.

# What servers.sh sets:
# shellcheck disable=SC2154
# shellcheck source=bench/servers.sh
. "$(dirname "$0")/servers.sh"

all_parts="disk-size fullness extents threads pool"
: "${ROUNDS:=1}" "${PARTS:=$all_parts}" "${DISKS:=1 4 16 64 256 1024}"
: "${FULL:=0}" "${SECONDS_EACH:=1.5}" "${RESULTS:=$dir/results.jsonl}"
zmem_args=("$@")
points=$dir/points              # of this part
what=
x_name=
x=

# start_disk GIB [option of nbdkit]...
start_disk () {
    local gib=$1
    shift
    start_nbdkit zmem "$@" "$ZMEM_PLUGIN" "size=${gib}G" \
        "control=$dir/zmem.ctl" "${zmem_args[@]}"
}

# scale_load NAME [argument]...: prints a JSON line a workload.
scale_load () {
    local name=$1
    shift
    "$BENCH/scale-load" --corpus "$CORPUS" --server-pid "${pid[$name]}" \
        --seconds "$SECONDS_EACH" "$@" \
        "nbd+unix:///?socket=$dir/$name.sock" ||
        die "$name: scale-load $* failed"
}

# point KIND SERIES Y_NAME VALUE, at this $x.  KIND: what its growth is of.
#   total  grows with x     rate  ops/s     each  a cost a unit     -  nothing
point () {
    [ -n "$4" ] || die "$what: no $3 of $2"
    printf '%s\t%s\t%s\t%s\t%s\n' "$x" "$@" >>"$points"
}

# All statistics, and what is calculated of them, as "name value".
account () {
    get_stats zmem
    awk '
        { s[$1] = $2; print }
        END {
            mib = 1048576
            bound = 16 * s["live_blocks"] + 4096 * s["live_regions"] + mib \
                    + 0.1 * s["hole_blocks"]
            print "bound_share", s["metadata_bytes"] / bound
            print "held_mib", s["held_bytes"] / mib
            print "metadata_mib", s["metadata_bytes"] / mib
            if (s["payload_bytes"] > 0)
                print "held_over_payload", s["held_bytes"] / s["payload_bytes"]
        }' "$dir/zmem.stats" >"$dir/account"
}

# value NAME, of the account that was made last
value () {
    awk -v name="$1" '$1 == name { print $2 }' "$dir/account"
}

process_mib () {
    awk -v which="$1" '$1 ~ "^(" which "):$" { kib += $2 }
                       END { print kib / 1024 }' "/proc/${pid[zmem]}/status"
}

# Medians of $points as a table, and each as a line of RESULTS.
print_points () {
    awk -F '\t' -v what="$what" -v x_name="$x_name" -v results="$RESULTS" '
        function median(list,   a, n, i, j, t) {
            n = split(list, a, " ")
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) {
                    t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
                }
            return (a[int((n + 1) / 2)] + a[int(n / 2) + 1]) / 2
        }
        function text(v) {
            return sprintf(v >= 100 ? "%.0f" : v >= 10 ? "%.1f" : \
                           v >= 1 || v == 0 ? "%.2f" : "%.3g", v)
        }
        function growth(kind, x0, y0, x1, y1) {
            if (kind == "-" || y0 * y1 == 0 || x0 == x1)
                return ""
            if (kind == "rate")
                return y0 / y1
            return kind == "total" ? (y1 / x1) / (y0 / x0) : y1 / y0
        }
        !($1 in seen_x) { seen_x[$1]; xs[++nr_x] = $1 }
        { row = $3 SUBSEP $4 }
        !(row in kind) { kind[row] = $2; rows[++nr_rows] = row }
        { values[row, $1] = values[row, $1] " " $5 }
        END {
            printf "\n%-47s", what ", " x_name
            for (i = 1; i <= nr_x; i++)
                printf " %8s", xs[i]
            printf " %8s %8s\n", "growth", "at last"
            for (r = 1; r <= nr_rows; r++) {
                split(rows[r], part, SUBSEP)
                printf "  %-15s %-29s", part[1], part[2]
                for (i = 1; i <= nr_x; i++) {
                    if (!((rows[r], xs[i]) in values)) {
                        y[i] = 0
                        printf " %8s", "-"
                        continue
                    }
                    y[i] = median(values[rows[r], xs[i]])
                    printf " %8s", text(y[i])
                    printf "{\"type\": \"scale\", \"what\": \"%s\", " \
                           "\"x\": %s, \"x_name\": \"%s\", " \
                           "\"series\": \"%s\", \"y\": %.6g, " \
                           "\"y_name\": \"%s\"}\n", what, xs[i], x_name,
                           part[1], y[i], part[2] >>results
                }
                k = kind[rows[r]]
                last = nr_x > 1 ? nr_x - 1 : 1
                g = growth(k, xs[1], y[1], xs[nr_x], y[nr_x])
                l = growth(k, xs[last], y[last], xs[nr_x], y[nr_x])
                much = g > 1.25 || l > 1.25
                printf "%s%s\n", (g == "" ? "" : sprintf(" %8s %8s", text(g),
                                                         text(l))),
                                 (much ? " *" : "")
                if (much)
                    faster = faster "\n    " part[1] ": " part[2]
            }
            print "  faster than linear, by more than a quarter:" \
                  (faster == "" ? " nothing" : faster)
        }' "$points"
}

# at_most TITLE Y_NAME BOUND: the worst of this part's points of that name.
at_most () {
    awk -F '\t' -v title="$1" -v name="$2" -v bound="$3" '
        $4 == name && (nr++ == 0 || $5 + 0 > worst) { worst = $5 + 0 }
        END { printf "  %s: at most %.3f, %s\n", title, worst,
                     worst <= bound ? "holds" : "DOES NOT HOLD" }' "$points"
}

#-----------------------------------------------------------------------
# Disks.

# fill_disk DATA: as the name of a series says.
fill_disk () {
    case $1 in
        untouched) ;;
        packed) scale_load zmem --workload fill >/dev/null ;;
        spread) scale_load zmem --workload fill --spread >/dev/null ;;
    esac
}

run_disk_size () {
    local data
    for x in $DISKS; do
        for data in untouched packed spread; do
            start_disk "$x"
            fill_disk $data
            sleep 0.3
            account
            point total $data "metadata MiB" "$(value metadata_mib)"
            point - $data "metadata / guarantee" "$(value bound_share)"
            point total $data "held MiB" "$(value held_mib)"
            point total $data "resident MiB" \
                "$(process_mib 'RssAnon|RssShmem')"
            point total $data "page tables MiB" "$(process_mib VmPTE)"
            stop_servers
        done
    done
}

report_disk_size () {
    at_most "metadata over what is guaranteed" "metadata / guarantee" 1
}

# sweep DATA WORKLOAD EXPECTED: over the whole disk; how many blocks are
# allocated, if it lists extents.
sweep () {
    local data=$1 workload=$2 json cpu_us found
    json=$(scale_load zmem --workload "$workload")
    if [ "$workload" = extents ]; then
        found=$(field allocated_blocks "$json")
        [ "$found" = "$3" ] ||
            die "$data, $x GiB: extents of $found blocks, not of $3"
    fi
    cpu_us=$(field server_cpu_all_us "$json")
    point total "$data" "$workload ms" \
        "$(calculate "1000 * $(field seconds "$json")")"
    point each "$data" "$workload cpu us/GiB" "$(calculate "$cpu_us / $x")"
    point - "$data" "$workload longest request us" \
        "$(field max_us "$json")"
    if [ "$workload" = extents ]; then
        point - "$data" "extents listed" "$(field extents "$json")"
        point - "$data" "extents cpu us an extent" \
            "$(calculate "$cpu_us / $(field extents "$json")")"
    fi
}

run_extents () {
    for x in $DISKS; do
        start_disk "$x"
        for _ in {1..9}; do     # a request or a few: mostly noise
            sweep untouched extents 0
            sweep untouched trimall
        done
        stop_servers

        start_disk "$x"
        fill_disk spread
        for _ in 1 2 3; do
            sweep spread extents "$nr_blocks"
        done
        sweep spread trimall
        sweep trimmed extents 0
        stop_servers
    done
}

#-----------------------------------------------------------------------
# Fullness.

# Blocks an operation, in percent, by the difference of two accounts.
percent_of_ops () {
    calculate "100 * ($(value "$1") - $2) / $3"
}

# run_random SERIES WORKLOAD SERVER [argument]...: prints the JSON line.
run_random () {
    local json
    json=$(scale_load "$3" --workload "$2" "${@:4}")
    point rate "$1" "$2 ops/s" "$(field ops_s "$json")"
    point each "$1" "$2 cpu us" "$(field server_cpu_us "$json")"
    echo "$json"
}

run_fullness () {
    local held_bytes json ops waited in_place copied
    local state=(--state "$dir/scale.state")
    local -A first=()
    start_disk 1
    fill_disk packed
    sleep 0.5
    account
    held_bytes=$(value held_bytes)
    stop_servers

    for x in 1 10 25 50 75 90 99; do
        start_nbdkit zmem "$ZMEM_PLUGIN" size=1G "control=$dir/zmem.ctl" \
            "${zmem_args[@]}" "limit=$((held_bytes * 100 / x))"
        rm -f "$dir/scale.state"
        scale_load zmem --workload fill "${state[@]}" >/dev/null
        sleep 0.5
        account
        point - zmem "full before, %" \
            "$(calculate "100 * $(value held_bytes) / $(value limit_bytes)")"
        waited=$(value compact_waited_writes)
        in_place=$(value in_place_writes)
        copied=$(value compact_copied_bytes)

        json=$(run_random zmem read zmem "${state[@]}")
        : "${first[read]:=$(field ops_s "$json")}"
        point - zmem "read ops/s over the first" \
            "$(calculate "$(field ops_s "$json") / ${first[read]}")"

        json=$(run_random zmem write zmem "${state[@]}")
        : "${first[write]:=$(field ops_s "$json")}"
        point - zmem "write ops/s over the first" \
            "$(calculate "$(field ops_s "$json") / ${first[write]}")"
        ops=$(field ops "$json")
        account
        point - zmem "full after, %" \
            "$(calculate "100 * $(value held_bytes) / $(value limit_bytes)")"
        point - zmem "writes that met the limit, %" \
            "$(percent_of_ops compact_waited_writes "$waited" "$ops")"
        point - zmem "writes in place, %" \
            "$(percent_of_ops in_place_writes "$in_place" "$ops")"
        point - zmem "writes refused, %" \
            "$(calculate "100 * $(field enospc "$json") / $ops")"
        point - zmem "compaction copied B a write" \
            "$(calculate "($(value compact_copied_bytes) - $copied) / $ops")"
        scale_load zmem --workload read --verify --ops $((nr_blocks / 4)) \
            "${state[@]}" >/dev/null
        stop_servers
    done
}

#-----------------------------------------------------------------------
# Threads.

run_threads () {
    local server workload servers
    local -A ops_s
    servers=(zmem malloc)
    if ((round % 2 == 0)); then servers=(malloc zmem); fi
    for x in 1 2 4 8 16; do
        start_disk 1 -t "$x"
        start_nbdkit malloc -t "$x" memory 1G allocator=malloc
        for server in "${servers[@]}"; do
            scale_load "$server" --workload fill >/dev/null
        done
        for workload in read write; do
            for server in "${servers[@]}"; do
                ops_s[$server]=$(field ops_s \
                    "$(run_random "$server" $workload "$server")")
            done
            point rate zmem/malloc "$workload" \
                "$(calculate "${ops_s[zmem]} / ${ops_s[malloc]}")"
        done
        stop_servers
    done
}

#-----------------------------------------------------------------------
# Pool.

# pool_load WORKLOAD [argument]...: a point of speed, one of processor time.
pool_load () {
    local json
    json=$(scale_load zmem --workload "$1" --blocks $((mib * 256)) \
        --state "$dir/scale.state" "${@:2}")
    point rate zmem "$1 ops/s" "$(field ops_s "$json")"
    point each zmem "$1 cpu us" "$(field server_cpu_us "$json")"
}

# Of all its threads that there are, in ms: exact, where ticks are not.
server_cpu_ms () {
    awk '{ ns += $1 } END { printf "%.3f\n", ns / 1e6 }' \
        "/proc/${pid[zmem]}/task"/*/schedstat
}

# All of the work is done here: none was before, by compact=manual.  zmemctl
# looks for the end ten times a second, so the server's own times count.
compact_pool () {
    local start=$EPOCHREALTIME cpu_ms
    cpu_ms=$(server_cpu_ms)
    control zmem compact wait >/dev/null
    point - zmem "compact wait ms" \
        "$(calculate "1000 * ($EPOCHREALTIME - $start)")"
    point each zmem "compact cpu ms/GiB" \
        "$(calculate "($(server_cpu_ms) - $cpu_ms) / $x")"
    account
    point each zmem "compact at work ms/GiB" \
        "$(calculate "$(value compact_running_microseconds) / 1000 / $x")"
    point each zmem "compact copied MiB/GiB" \
        "$(calculate "$(value compact_copied_bytes) / 2^20 / $x")"
    point - zmem "compact returned MiB/GiB" \
        "$(calculate "$(value compact_returned_bytes) / 2^20 / $x")"
    point each zmem "held/payload, compacted" "$(value held_over_payload)"
}

# At 16 GiB one round takes minutes.  At each size the same share of blocks
# is overwritten, so that the pool is as fragmented at each.
run_pool_size () {
    rm -f "$dir/scale.state"
    start_nbdkit zmem "$ZMEM_PLUGIN" "size=${mib}M" "control=$dir/zmem.ctl" \
        compact=manual "${zmem_args[@]}"
    pool_load fill
    sleep 0.5
    account
    point total zmem "payload MiB" \
        "$(calculate "$(value payload_bytes) / 2^20")"
    point total zmem "held MiB" "$(value held_mib)"
    point each zmem "held/payload, fresh" "$(value held_over_payload)"
    point total zmem "metadata MiB" "$(value metadata_mib)"
    point - zmem "metadata / guarantee" "$(value bound_share)"
    pool_load read
    pool_load write --ops $((mib * 128))
    sleep 0.5
    account
    point each zmem "held/payload, half rewritten" "$(value held_over_payload)"
    pool_load trimhalf
    account
    point each zmem "held/payload, half trimmed" "$(value held_over_payload)"
    compact_pool
    scale_load zmem --workload read --blocks $((mib * 256)) --verify \
        --state "$dir/scale.state" --ops $((mib * 32)) >/dev/null
    stop_servers
}

# Lets a size be, and says so, where what it takes is not there: with real
# pages lz4 leaves 0.42 of them; room for 0.6, and for the client.
run_pool () {
    local mib free_mib sizes="256 512 1024 2048"
    if [ "$FULL" = 1 ]; then sizes+=" 4096 8192 16384"; fi
    for mib in $sizes; do
        x=$(calculate "$mib / 1024")
        free_mib=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' \
            /proc/meminfo)
        if ((mib * 6 / 10 + 1024 > free_mib)); then
            echo "pool of $x GiB: not measured, $((mib * 6 / 10 + 1024)) MiB" \
                "of memory are needed and $free_mib available"
            return
        fi
        run_pool_size
    done
}

report_pool () {
    at_most "metadata over what is guaranteed" "metadata / guarantee" 1
}

#-----------------------------------------------------------------------

# part NAME X_NAME RUN [REPORT]
part () {
    what=$1
    x_name=$2
    : >"$points"
    for ((round = 1; round <= ROUNDS; round++)); do
        echo "$what, round $round of $ROUNDS; load average" \
            "$(cut -d' ' -f1 /proc/loadavg)"
        "$3"
    done
    print_points
    if [ -n "${4:-}" ]; then "$4"; fi
    echo
}

[ -x "$BENCH/scale-load" ] ||
    die "no $BENCH/scale-load: 'make bench-programs', or set BENCH"
for name in $PARTS; do
    [[ " $all_parts " == *" $name "* ]] ||
        die "PARTS: $name is none of $all_parts"
done
for name in $PARTS; do
    case $name in
        disk-size) part "$name" "disk GiB" run_disk_size report_disk_size ;;
        fullness) part "$name" "% of the limit" run_fullness ;;
        extents) part "$name" "disk GiB" run_extents ;;
        threads) part "$name" "threads a connection" run_threads ;;
        pool) part "$name" "GiB stored" run_pool report_pool ;;
    esac
done
