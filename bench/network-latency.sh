#!/bin/bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What does the way to the server cost?  Reads and writes of 4 KiB at random,
# over one connection, one at a time and 16 in flight:
#
#     unix    a Unix socket
#     tcp     TCP on the loopback interface
#     veth    TCP between two network namespaces
#     psk     as tcp, with TLS and a pre-shared key
#     cert    as tcp, with TLS and certificates of both sides
#     1ms, 5ms, loss   as veth, with netem at both ends: half of that delay
#             on each way; one packet of 100 lost on each way.  Left out where
#             the kernel has no netem
#
#   bench/network-latency.sh [OPTION OF THE PLUGIN]...
#
# As root.  From the environment too, besides what servers.sh takes:
#
#   ROUNDS        [5]
#   SECONDS_EACH  of a row, a workload, a round [1]
#   DEPTHS        requests in flight [1 16]
#   SIZE          MiB of the corpus to use [32]
#
# A server each; they take turns, in an order that turns with the round, and
# all figures are medians over the rounds, in microseconds.  Namespaces and
# ports are this script's own, and go with it.

# What servers.sh sets:
# shellcheck disable=SC2154
if [ -z "${ZMEM_APART:-}" ]; then
    exec env ZMEM_APART=yes unshare --net "$0" "$@"
fi
# shellcheck source=bench/servers.sh
. "$(dirname "$0")/servers.sh"

: "${ROUNDS:=5}" "${SECONDS_EACH:=1}" "${DEPTHS:=1 16}" "${SIZE:=32}"
zmem_args=("$@")
rows=(unix tcp veth psk cert)
workloads=(randread randwrite)
declare -A uris

for command in ip nsenter psktool certtool; do
    command -v "$command" >/dev/null || die "needs $command"
done

# The client of veth and of those that are delayed is in another namespace.
is_remote () { case $1 in veth|1ms|5ms|loss) ;; *) false ;; esac; }

join_namespaces () {
    ip link set lo up
    unshare --net sleep infinity &
    pid[client]=$!
    for _ in {1..100}; do
        if [ "$(readlink "/proc/${pid[client]}/ns/net")" != \
             "$(readlink /proc/self/ns/net)" ]; then break; fi
        sleep 0.1
    done
    ip link add name up0 type veth peer name up1 netns "${pid[client]}"
    ip address add 192.0.2.1/24 dev up0
    ip link set up0 up
    at_client ip address add 192.0.2.2/24 dev up1
    at_client ip link set up1 up
}

at_client () { nsenter --net="/proc/${pid[client]}/ns/net" "$@"; }

# netem ROW: what both ends of the link do now.
netem () {
    local how
    case $1 in
        1ms) how="delay 500us" ;;
        5ms) how="delay 2500us" ;;
        loss) how="loss 1%" ;;
        *) return 0 ;;
    esac
    # shellcheck disable=SC2086
    tc qdisc replace dev up0 root netem limit 10000 $how &&
        at_client tc qdisc replace dev up1 root netem limit 10000 $how
}

no_netem () {
    is_remote "$1" && [ "$1" != veth ] || return 0
    tc qdisc delete dev up0 root
    at_client tc qdisc delete dev up1 root
}

# make_certificate NAME KIND LINE...
make_certificate () {
    local name=$1 kind=$2
    shift 2
    printf '%s\n' "$@" signing_key encryption_key >"$dir/template"
    certtool --generate-privkey --key-type=ecdsa \
             --outfile "$dir/pki/$name-key.pem"
    certtool "$kind" --load-privkey "$dir/pki/$name-key.pem" \
             --load-ca-certificate "$dir/pki/ca-cert.pem" \
             --load-ca-privkey "$dir/pki/ca-key.pem" \
             --template "$dir/template" --outfile "$dir/pki/$name-cert.pem"
}

make_keys () {
    psktool -u alice -p "$dir/keys.psk"
    mkdir "$dir/pki"
    make_certificate ca --generate-self-signed 'cn = "ours"' ca \
                     cert_signing_key
    make_certificate server --generate-certificate 'cn = "server"' \
                     'ip_address = 127.0.0.1' tls_www_server
    make_certificate client --generate-certificate 'cn = "client"' \
                     tls_www_client
}

# start_row ROW PORT
start_row () {
    local row=$1 port=$2 options=()
    uris[$row]=nbd://127.0.0.1:$port
    case $row in
        unix) uris[unix]="nbd+unix:///?socket=$dir/unix.sock" ;;
        psk)
            options=(--tls=require --tls-psk="$dir/keys.psk")
            uris[psk]="nbds://alice@127.0.0.1:$port/"
            uris[psk]+="?tls-psk-file=$dir/keys.psk" ;;
        cert)
            options=(--tls=require --tls-certificates="$dir/pki"
                     --tls-verify-peer)
            uris[cert]="nbds://127.0.0.1:$port/?tls-certificates=$dir/pki" ;;
        veth|1ms|5ms|loss) uris[$row]=nbd://192.0.2.1:$port ;;
    esac
    if [ "$row" = unix ]; then
        start_zmem unix "${zmem_args[@]}"
    else
        nbdkit -f -P "$dir/$row.pid" -p "$port" "${options[@]}" \
               "$ZMEM_PLUGIN" "size=$DISK" "${zmem_args[@]}" \
               2>"$dir/$row.err" &
        await_server "$row" "$dir/$row.pid"
    fi
}

# load_row ROW [argument of nbd-load]...: prints its JSON line.
load_row () {
    local row=$1 at=()
    shift
    if is_remote "$row"; then at=(at_client); fi
    # shellcheck disable=SC2086
    "${at[@]}" "$BENCH/nbd-load" $LOAD_ARGS --corpus "$CORPUS" \
        --state "$dir/$row.state" --size "$SIZE" --connections 1 --json "$@" \
        "${uris[$row]}" || die "$row: nbd-load $* failed"
}

run_row () {
    local row=$1 depth workload json figure
    netem "$row"
    for depth in $DEPTHS; do
        for workload in "${workloads[@]}"; do
            json=$(load_row "$row" --workload "$workload" --depth "$depth" \
                            --seconds "$SECONDS_EACH" --verify)
            for figure in p50_us p99_us ops_s; do
                note "$row:$depth:$workload" $figure \
                     "$(field $figure "$json")"
            done
        done
    done
    no_netem "$row"
}

print_table () {
    local depth row workload
    for depth in $DEPTHS; do
        printf '%-18s %26s %26s\n' "$depth in flight" "read" "write"
        printf '%18s' ''
        printf ' %8s %8s %8s' p50 p99 ops/s p50 p99 ops/s
        printf '\n'
        for row in "${rows[@]}"; do
            printf '  %-16s' "$row"
            for workload in "${workloads[@]}"; do
                printf ' %8.0f %8.0f %8.0f' \
                       "$(median "$row:$depth:$workload" p50_us)" \
                       "$(median "$row:$depth:$workload" p99_us)" \
                       "$(median "$row:$depth:$workload" ops_s)"
            done
            printf '\n'
        done
    done
}

make_keys >"$dir/keys.out" 2>&1 || { cat "$dir/keys.out" >&2; die "no keys"; }
join_namespaces
if netem loss 2>/dev/null; then
    no_netem loss
    rows+=(1ms 5ms loss)
else
    echo "no netem here: without delay and loss"
fi
for ((i = 0; i < ${#rows[@]}; i++)); do
    start_row "${rows[i]}" $((10809 + i))
    load_row "${rows[i]}" --workload fill256 --depth 4 >/dev/null
done
echo "$ROUNDS rounds of $SECONDS_EACH s; load average" \
     "$(cut -d' ' -f1 /proc/loadavg)"
for ((round = 0; round < ROUNDS; round++)); do
    for ((i = 0; i < ${#rows[@]}; i++)); do
        run_row "${rows[(i + round) % ${#rows[@]}]}"
    done
done
print_table
