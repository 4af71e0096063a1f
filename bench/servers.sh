#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What the scripts of bench/ share: servers that are started, loaded and
# stopped, and numbers that are noted and brought to a median.  Sourced, not
# run.  Whatever was started is gone at the end, also after Ctrl-C: processes,
# the zram device, the private folder.
#
#     . "$(dirname "$0")/servers.sh"
#     start_zmem auto compact=auto
#     json=$(load auto --workload fill); field ops_s "$json"
#     note auto fresh "$(held_kib auto)"; median auto fresh
#     stop_servers
#
# From the environment, each with a default:
#
#   ZMEM_PLUGIN  [nbdkit-zmem-plugin.so in the folder above BENCH]
#   ZMEMCTL      [zmemctl in the folder above BENCH]
#   BENCH        folder of the bench programs (make bench-programs)
#                [where the script is]
#   CORPUS       pages to write; made anew if there is no such file
#                [/tmp/zmem-corpus.168]
#   LOAD_ARGS    more arguments of nbd-load
#
# shellcheck shell=bash

set -eu -o pipefail
export LC_ALL=C

DISK=512M
: "${CORPUS:=/tmp/zmem-corpus.168}" "${LOAD_ARGS:=}"
: "${BENCH:=$(dirname "$0")}"
: "${ZMEMCTL:=$BENCH/../zmemctl}"
: "${ZMEM_PLUGIN:=$BENCH/../nbdkit-zmem-plugin.so}"

dir=$(mktemp -d "${TMPDIR:-/tmp}/zmem-bench.XXXXXX")
results=$dir/results            # name, what, value
: >"$results"
declare -A pid before_kib
declare -A last                 # of what was noted, by "name what"
zram_sys=
zram_node=

die () {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Told again while it is there: a job that is about to become another program
# forgets what it is told.
end_process () {
    while kill "$1" 2>/dev/null; do sleep 0.02; done
    wait "$1" 2>/dev/null || :
}

# start_job NAME COMMAND...: a function in the background, and begun: a program
# it must exec, so that it is the one that is told to end.  A shell of which a
# trap is still this script's, and not yet its own, takes a signal for this
# script's: it stops the servers, or forgets it.
start_job () {
    local name=$1
    shift
    rm -f "$dir/begun"
    { : >"$dir/begun"; "$@"; } &
    pid[$name]=$!
    until [ -e "$dir/begun" ]; do
        kill -0 "${pid[$name]}" 2>/dev/null || die "$name has not begun"
        sleep 0.01
    done
}

# A device that a process has just closed may be busy for a moment.
remove_zram () {
    local number=${zram_sys##*/zram}

    [ -n "$zram_sys" ] || return 0
    for _ in {1..50}; do
        if { echo 1 >"$zram_sys/reset"; } 2>/dev/null; then break; fi
        sleep 0.1
    done
    [ -z "$zram_node" ] || rm -f "$zram_node"
    { echo "$number" >/sys/class/zram-control/hot_remove; } ||
        echo "${0##*/}: /dev/zram$number could not be removed" >&2
    zram_sys=''
    zram_node=''
}

stop_servers () {
    local name
    for name in "${!pid[@]}"; do
        end_process "${pid[$name]}"
    done
    pid=()
    remove_zram
}

trap 'stop_servers; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP

# Remember the process that was just started as NAME, and wait until it
# listens: until FILE is there.
await_server () {
    local name=$1 file=$2
    pid[$name]=$!
    for _ in {1..100}; do
        if [ -e "$file" ]; then return; fi
        kill -0 "${pid[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$dir/$name.err" >&2
    die "$name did not start"
}

start_nbdkit () {
    local name=$1
    shift
    rm -f "$dir/$name".*
    nbdkit -f -P "$dir/$name.pid" -U "$dir/$name.sock" "$@" \
        2>"$dir/$name.err" &
    await_server "$name" "$dir/$name.pid"
    before_kib[$name]=$(resident_kib "$name")
}

# start_zmem NAME [option of the plugin]...
start_zmem () {
    local name=$1
    shift
    start_nbdkit "$name" "$ZMEM_PLUGIN" "size=$DISK" \
        "control=$dir/$name.ctl" "$@"
}

must_be_kind () {
    case $1 in
        malloc|sparse|zstd|null|bare|bare-zstd|zram|zmem|zmem-zstd) ;;
        *)
            die "$1 is no kind of server: malloc, sparse, zstd, null," \
                "bare, bare-zstd, zram, zmem, zmem-zstd are" ;;
    esac
}

# start_kind NAME KIND [option of zmem]...
start_kind () {
    local name=$1 kind=$2
    shift 2
    must_be_kind "$kind"
    case $kind in
        malloc|sparse|zstd)
            start_nbdkit "$name" memory "$DISK" "allocator=$kind" ;;
        null) start_nbdkit "$name" null "$DISK" ;;
        bare|bare-zstd)
            local codec=${kind#bare}
            codec=${codec:--lz4}
            start_nbdkit "$name" "$BENCH/nbdkit-bare-plugin.so" \
                         "size=$DISK" "codec=${codec#-}" ;;
        zram) start_zram ;;
        zmem) start_zmem "$name" "$@" ;;
        zmem-zstd) start_zmem "$name" compress=zstd:1 "$@" ;;
    esac
}

zram_possible () {
    [ "$(id -u)" = 0 ] && [ -e /sys/class/zram-control ] &&
        command -v qemu-nbd >/dev/null
}

start_zram () {
    local number node
    rm -f "$dir"/zram.*
    number=$(cat /sys/class/zram-control/hot_add)
    zram_sys=/sys/block/zram$number
    node=/dev/zram$number
    echo lz4 >"$zram_sys/comp_algorithm"
    echo $DISK >"$zram_sys/disksize"
    for _ in {1..10}; do
        if [ -b "$node" ]; then break; fi
        sleep 0.1
    done
    if [ ! -b "$node" ]; then
        zram_node=$node
        IFS=: read -r major minor <"$zram_sys/dev"
        mknod "$node" b "$major" "$minor"
    fi
    qemu-nbd --cache=none --aio=native --discard=unmap -f raw -t -e 8 \
        -k "$dir/zram.sock" "$node" 2>"$dir/zram.err" &
    await_server zram "$dir/zram.sock"
}

resident_kib () {
    awk '/^Rss(Anon|Shmem):/ { kib += $2 } END { print kib }' \
        "/proc/${pid[$1]}/status"
}

# What the server holds for its disk.  Of a process: what it has grown by.
held_kib () {
    if [ "$1" = zram ]; then
        awk '{ print $3 / 1024 }' "$zram_sys/mm_stat"
    else
        echo $(($(resident_kib "$1") - ${before_kib[$1]}))
    fi
}

# load NAME [argument of nbd-load]...: prints its JSON line.
load () {
    local name=$1
    shift
    # shellcheck disable=SC2086
    "$BENCH/nbd-load" $LOAD_ARGS --corpus "$CORPUS" \
        --state "$dir/$name.state" --json "$@" \
        "nbd+unix:///?socket=$dir/$name.sock"
}

# One number of such a line.
field () {
    local rest=${2#*"\"$1\": "}

    echo "${rest%%[,\}]*}"
}

# zmemctl of the server of that name.
control () {
    local name=$1
    shift
    "$ZMEMCTL" -t 60 -s "$dir/$name.ctl" "$@"
}

# statistic NAME STATISTIC, of the answer that get_stats had last
get_stats () {
    control "$1" raw stats >"$dir/$1.stats"
}

statistic () {
    awk -v name="$2" '
        $1 == name { print $2; found = 1 }
        END {
            if (!found)
                print "no statistic " name >"/dev/stderr"
            exit ! found
        }' "$dir/$1.stats"
}

compact_zmem_for_ever () {
    exec 2>"$dir/compacting"
    exec perl -MIO::Socket::UNIX -e '
        my $socket = IO::Socket::UNIX->new ($ARGV[0]) or die "$ARGV[0]: $!\n";
        while (1) {
            print $socket "compact\n";
            $socket->flush;
            my $head = <$socket> // die "the server hung up\n";
            $head =~ /^ok (\d+)$/ or die $head;
            read $socket, my $body, $1;
            select undef, undef, undef, 0.0002;
        }' "$1"
}

compact_zram_for_ever () {
    exec 2>"$dir/compacting"
    while echo 1 >"$zram_sys/compact"; do sleep 0.001; done
}

# Ask for compaction of everything again and again, from now until
# stop_compacting.
start_compacting () {
    if [ "$1" = zram ]; then
        start_job compacting compact_zram_for_ever
    else
        start_job compacting compact_zmem_for_ever "$dir/$1.ctl"
    fi
}

stop_compacting () {
    kill -0 "${pid[compacting]}" 2>/dev/null || {
        cat "$dir/compacting" >&2
        die "compaction could not be asked for"
    }
    end_process "${pid[compacting]}"
    unset 'pid[compacting]'
}

calculate () {
    awk "BEGIN { print ($1) }"
}

# note NAME WHAT VALUE
note () {
    [ -n "$3" ] || die "$1: no $2"
    # shellcheck disable=SC2034
    last[$1 $2]=$3
    echo "$1 $2 $3" >>"$results"
}

# All values that were noted for this name, ascending.
noted () {
    awk -v name="$1" -v what="$2" '$1 == name && $2 == what { print $3 }' \
        "$results" | sort -g
}

median () {
    noted "$@" | awk '
        { a[NR] = $1 }
        END { print (a[int ((NR + 1) / 2)] + a[int (NR / 2) + 1]) / 2 }'
}

most () {
    noted "$@" | tail -n 1
}

command -v nbdkit >/dev/null || die "needs nbdkit"
[ -e "$ZMEM_PLUGIN" ] || die "no $ZMEM_PLUGIN: set ZMEM_PLUGIN"
[ -x "$ZMEMCTL" ] || die "no $ZMEMCTL: set ZMEMCTL"
[ -x "$BENCH/nbd-load" ] ||
    die "no $BENCH/nbd-load: 'make bench-programs', or set BENCH"
if [ ! -e "$CORPUS" ]; then
    "$BENCH/corpus" -o "$CORPUS" -s 168
fi
# shellcheck disable=SC2034
nr_blocks=$(($(stat -Lc %s "$CORPUS") / 4096))
