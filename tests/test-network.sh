#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Between two machines: two network namespaces that are joined by a pair of
# virtual Ethernet interfaces,
#
#     server: up0 192.0.2.1, 2001:db8::1 ------ up1 192.0.2.2 :client
#
# What is copied and read at random over it is right; the link may break for
# a while; and a client's machine may vanish without a word, as at a loss of
# power.  The namespaces belong to a process each and go with it, so there is
# nothing to be removed.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy ip setpriv unshare nsenter perl
load=$top_builddir/bench/nbd-load
[ -x "$load" ] || skip "this test needs libnbd's headers at build time"
unshare --net true 2>/dev/null || skip "this test may not make namespaces"

#----------------------------------------------------------------------
# The namespaces.

declare -A holders=()
# Clients and namespaces in the background end with this test, even if that is
# killed.
dying=(setpriv --pdeathsig KILL)

# enter NAME COMMAND...: becomes the command, in that namespace.
enter () {
  local holder=${holders[$1]}
  shift
  exec nsenter --net="/proc/$holder/ns/net" "$@"
}

# at NAME COMMAND...: run it there, for so long at the most.
at () {
  local holder=${holders[$1]}
  shift
  bounded nsenter --net="/proc/$holder/ns/net" "$@"
}

is_apart () {
  local theirs
  theirs=$(readlink "/proc/$1/ns/net") &&
    [ "$theirs" != "$(readlink /proc/self/ns/net)" ]
}

make_namespace () {
  "${dying[@]}" unshare --net sleep infinity </dev/null &
  holders[$1]=$!
  adopt_daemon $!
  if ! wait_for 60 is_apart "${holders[$1]}"; then
    fail "there is a namespace for the $1"
    finish
  fi
  at "$1" ip link set lo up
}

# The kernel ends a namespace when the last process of it has ended.
remove_namespace () {
  local pid kept=()
  end_process "${holders[$1]}"
  wait "${holders[$1]}" 2>/dev/null
  for pid in "${daemon_pids[@]}"; do
    [ "$pid" = "${holders[$1]}" ] || kept+=("$pid")
  done
  daemon_pids=("${kept[@]}")
  unset "holders[$1]"
}

join_namespaces () {
  at server ip link add up0 type veth peer name up1 \
     netns "${holders[client]}" &&
    at server ip address add 192.0.2.1/24 dev up0 &&
    at client ip address add 192.0.2.2/24 dev up1 &&
    at server ip link set up0 up &&
    at client ip link set up1 up
}

make_namespace server
make_namespace client
join_namespaces >"$tmp/join.out" 2>&1 ||
  skip "no pair of virtual interfaces: $(tail -n 1 "$tmp/join.out")"
uri=nbd://192.0.2.1

# launch starts this one, and as a job of its own: where the server's
# namespace is.
nbdkit () { enter server nbdkit "$@"; }

# serve NAME [NBDKIT-OPTIONS... --] KEY=VALUE...
serve () {
  local name=$1 options=()
  shift
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  if ! launch "$name" "${options[@]}" "$ZMEM_PLUGIN" "$@" \
       "control=$tmp/$name.ctl"; then
    fail "server $name starts" "$tmp/$name.log"
    finish
  fi
  uri=nbd://192.0.2.1
}

nr_requests () {
  zmemctl --json stats | grep -Eo '"(read|write)_requests": *[0-9]+' |
    awk '{ sum += $2 } END { print sum + 0 }'
}
nr_connections_is () { [ "$(stat_value connections)" = "$1" ]; }

#----------------------------------------------------------------------
# Data over the link.

mixed_file "$tmp/data" $((8 * M))
serve copy -- size=64M
check "there is a way" is_equal "$(at client nbdinfo --size "$uri")" \
      $((64 * M))
check "there is none past the link" not nbdinfo --size nbd://127.0.0.1
check "copy in" at client nbdcopy --connections=4 "$tmp/data" "$uri"
check "copy out" at client nbdcopy --connections=4 "$uri" "$tmp/out"
check "every byte is the same" cmp -n $((8 * M)) "$tmp/data" "$tmp/out"
stop_server copy

# run_load NAME ARGUMENTS...: nbd-load in the client's namespace.
run_load () {
  local name=$1
  shift
  at client "$load" --corpus "$tmp/data" --json --verify \
     --state "$tmp/state" "$@" "$uri" >"$tmp/$name.out" 2>"$tmp/$name.err"
}
load_was_well () {
  cat "$tmp/$1.out" "$tmp/$1.err"
  is_equal "exit status $2" "exit status 0" &&
    [ ! -s "$tmp/$1.err" ] &&
    ! grep -Ev '"errors": *0\b.*"wrong": *0\b' "$tmp/$1.out"
}

serve main -- size=64M
for workload in fill256 mixed,churn part,swap seqread256; do
  run_load "$workload" --workload "$workload" --ops 1500 --depth 8
  status=$?
  check "$workload over the link" load_was_well "$workload" $status
done

#----------------------------------------------------------------------
# Delay and loss, where this kernel has netem built in or as a module.

if [ -n "$(type -P tc)" ] &&
   at server tc qdisc add dev up0 root netem delay 3ms 1ms loss 1% \
      2>"$tmp/tc.out" &&
   at client tc qdisc add dev up1 root netem delay 3ms 1ms loss 1% \
      2>"$tmp/tc.out"; then
  run_load netem --workload mixed,seqread256 --ops 500 --depth 8
  status=$?
  check "with delay and loss" load_was_well netem $status
  at server tc qdisc delete dev up0 root
  at client tc qdisc delete dev up1 root
else
  echo "note: no delay and loss here: $(tail -n 1 "$tmp/tc.out" 2>/dev/null)"
fi

#----------------------------------------------------------------------
# The link breaks in the middle of a transfer, and is mended.

# Segments that were sent again, of both sides.
nr_sent_again () {
  local side
  for side in server client; do
    at $side cat /proc/net/netstat /proc/net/snmp
  done |
    awk '$1 ~ /^(TcpExt|Tcp):$/ {
           if ($2 ~ /^[0-9-]+$/) {
             for (i = 2; i <= NF; i++)
               if (name[i] ~ /^(RetransSegs|TCPTimeouts)$/) sum += $i
           } else
             for (i = 2; i <= NF; i++) name[i] = $i
         }
         END { print sum + 0 }'
}
more_sent_again () { [ "$(nr_sent_again)" -gt "$1" ]; }
more_requests () { [ "$(nr_requests)" -gt "$1" ]; }
is_quiet () {
  local before
  before=$(nr_requests)
  sleep 0.3
  [ "$(nr_requests)" = "$before" ]
}

before=$(nr_requests)
enter client "${dying[@]}" "$load" --corpus "$tmp/data" --json --verify \
      --state "$tmp/state" --workload mixed --ops 8000 --rate 2000 --depth 4 \
      "$uri" >"$tmp/broken.out" 2>"$tmp/broken.err" </dev/null &
load_pid=$!
check "a transfer is under way" wait_for 120 more_requests $((before + 300))
sent=$(nr_sent_again)
at server ip link set up0 down
check "with the link down, segments are sent again" \
      wait_for 120 more_sent_again "$sent"
check "no request arrives" wait_for 120 is_quiet
requests=$(nr_requests)
sent=$(nr_sent_again)
check "they are sent again once more" wait_for 120 more_sent_again "$sent"
check "still no request arrives" is_equal "$(nr_requests)" "$requests"
check "the client waits" not process_ended $load_pid
check "the server keeps its connections" is_equal \
      "$(stat_value connections)" 2
at server ip link set up0 up
check "the link is mended: the transfer goes on" \
      wait_for 120 more_requests "$requests"
wait_for 150 process_ended $load_pid || kill -KILL $load_pid
wait $load_pid
status=$?
check "it ends without an error, and all is right" load_was_well broken \
      $status
check "all of it was done" matches "$(cat "$tmp/broken.out")" '"ops": 8000\b'

#----------------------------------------------------------------------
# Clients that vanish.  NBD as it is spoken:
#
#   idle  reads a block and then keeps its connection
#   busy  asks for 24 MiB and reads nothing of the answer but its head

cat >"$tmp/client.pl" <<'END'
use strict; use warnings; use Socket;
my ($what, $told) = @ARGV;
alarm 300;
socket (my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
connect ($s, pack_sockaddr_in (10809, inet_aton ("192.0.2.1")))
  or die "connect: $!\n";
sub get {
  my ($bytes) = @_;
  my $got = "";
  while (length $got < $bytes) {
    sysread $s, $got, $bytes - length $got, length $got
      or die "the server has closed\n";
  }
  return $got;
}
sub put { syswrite ($s, $_[0]) == length $_[0] or die "send: $!\n" }
get (18) =~ /^NBDMAGICIHAVEOPT/ or die "no NBD server\n";
put (pack "N", 3);
put ("IHAVEOPT" . pack "NN", 1, 0);                # NBD_OPT_EXPORT_NAME ""
get (10);
my $bytes = $what eq "busy" ? 24 << 20 : 4096;
put (pack "NnnQ>Q>N", 0x25609513, 0, 0, 1, 0, $bytes);     # NBD_CMD_READ
(unpack "NN", get (16))[1] == 0 or die "an error\n";
get ($bytes) unless $what eq "busy";
open my $file, ">", $told or die "$told: $!\n";
close $file;
sleep 300;
END

# connect_client NAME WHAT: one that is connected; sets client_pid.
connect_client () {
  enter client "${dying[@]}" perl "$tmp/client.pl" "$2" "$tmp/$1.told" \
        2>"$tmp/$1.err" </dev/null &
  client_pid=$!
  check "$1: a client has read" wait_for 120 test -e "$tmp/$1.told" ||
    cat "$tmp/$1.err"
}
kill_client () {
  { kill -KILL "$client_pid"; wait "$client_pid"; } 2>/dev/null
}

# The cable first, that nothing says goodbye; then the machine.
client_vanishes () {
  at client ip link delete up1
  kill_client
  remove_namespace client
}
# There is one of the same address again.
client_returns () {
  make_namespace client
  check "$1: a new client machine" join_namespaces
}
serves_next () {
  run_load next --workload randread,seqread256 --ops 500 --depth 8
  status=$?
  check "$1: the next client is served, and all is right" \
        load_was_well next $status
}

wait_for 60 clients_have_gone
check "no connection is left" is_equal "$(stat_value connections)" 0
held=$(held_bytes)
fds=$(nr_fds)
few_fds () { at_most "$(nr_fds)" "$fds"; }

connect_client killed idle
kill_client
check "killed: its connection is freed" wait_for 120 clients_have_gone
check "killed: and its files" wait_for 120 few_fds
serves_next killed

# In the middle of an answer: the server has something to send, and learns
# from the machine that has the address now that there is no such connection.
connect_client busy busy
client_vanishes
check "busy: the server lives" server_is_alive
check "busy: it does not know yet" is_equal "$(stat_value connections)" 1
client_returns busy
check "busy: its connection is freed" wait_for 120 clients_have_gone
check "busy: and its files" wait_for 120 few_fds
serves_next busy

# One that was not asked for anything: nothing tells the server, which waits
# for its next request.
connect_client idle idle
client_vanishes
check "idle: the server lives" server_is_alive
client_returns idle
serves_next idle
check "idle: the server goes on waiting" wait_for 60 nr_connections_is 1
# nbdkit 1.32.5 would not even end for SIGTERM while it waits so.  An
# administrator can end the connection, where the kernel can
# (CONFIG_INET_DIAG_DESTROY); ss lists what it has ended.
is_stuck=no
if [ -n "$(at server ss -HKt dst 192.0.2.2 2>"$tmp/ss.err")" ]; then
  check "idle: ss -K ends it" wait_for 120 clients_have_gone
else
  echo "note: this kernel cannot end a connection (ss -K)"
  is_stuck=yes
fi
serves_next "after all"

wait_for 120 held_is_at_most "$held"
check "clients that vanished hold no memory" at_most "$(held_bytes)" "$held"
check "no checksum failed" is_equal "$(stat_value checksum_failures)" 0
if [ $is_stuck = no ]; then
  stop_server main
else
  { kill -KILL "$server_pid"; wait "$server_pid"; } 2>/dev/null
  unset 'server_pids[main]'
fi

#----------------------------------------------------------------------
# The ip filter's words for IPv4 and IPv6.

if [ -e /proc/net/if_inet6 ] &&
   at server ip address add 2001:db8::1/64 dev up0 nodad &&
   at client ip address add 2001:db8::2/64 dev up1 nodad; then
  # one_of_two ALLOWED DENIED: their addresses.
  one_of_two () {
    local before
    check "$1 is served" is_equal \
          "$(at client nbdinfo --size "nbd://$1")" $((64 * M))
    before=$(nr_requests)
    check_fails "$2 is refused" 'disconnected|reset' \
                at client nbdcopy "nbd://$2" "$tmp/refused.out"
    check "$2: by one line" is_equal "$(wc -l <"$tmp/check.out") line" \
          "1 line"
    check "$2: reads nothing" test ! -s "$tmp/refused.out"
    check "$2: asks nothing" is_equal "$(nr_requests)" "$before"
    check "$1 is served again" is_equal \
          "$(at client nbdinfo --size "nbd://$1")" $((64 * M))
  }
  serve ipv4 --filter=ip -- size=64M allow=anyipv4 deny=all
  one_of_two 192.0.2.1 '[2001:db8::1]'
  stop_server ipv4
  serve ipv6 --filter=ip -- size=64M deny=anyipv4
  one_of_two '[2001:db8::1]' 192.0.2.1
  stop_server ipv6
else
  echo "note: no IPv6 here"
fi

finish
