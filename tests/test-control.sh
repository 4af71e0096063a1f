#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The control socket: its place in the file system, its protocol, and
# clients that do not behave.  perl speaks to it here, byte by byte, since
# zmemctl would behave.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl nbdcopy qemu-io

#----------------------------------------------------------------------
# Clients.

# talk STRING: send it (perl's escapes), then the end of input; print what
# comes back until the server closes.
cat >"$tmp/talk.pl" <<'END'
use strict; use warnings; use Socket; use IO::Handle;
my ($path, $string, $pause) = @ARGV;
$string = eval qq("$string");
alarm 140;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
connect($s, pack_sockaddr_un($path)) or die "connect: $!\n";
$s->autoflush(1);
$SIG{PIPE} = "IGNORE";
if ($pause) {
  for (split //, $string) { syswrite $s, $_; select undef, undef, undef, .001 }
}
else { print $s $string }
shutdown $s, 1;
local $/;
my $answer = <$s>;
print defined $answer ? $answer : "";
END
talk () { bounded perl "$tmp/talk.pl" "$ctl" "$@"; }

# frames: read answers; a line for each, "ok" or "error SENTENCE".  Fails on
# anything that is no sequence of whole answers.
cat >"$tmp/frames.pl" <<'END'
use strict; use warnings;
while (defined(my $head = <STDIN>)) {
  if ($head =~ /^error ([ -~]+)\n\z/) { print "error $1\n"; next }
  $head =~ /^ok (\d+)\n\z/ or die "no answer begins with: $head";
  my $nr = $1;
  read(STDIN, my $body, $nr) == $nr or die "a body is cut short\n";
  $body eq "" or $body =~ /\n\z/ or die "a body's last line has no end\n";
  print "ok\n";
}
END
frames () { perl "$tmp/frames.pl"; }

# Does the current server answer?
answers () { [ "$(talk 'limit\n' | frames)" = ok ]; }

#----------------------------------------------------------------------
# Where it stands.

start_server size=64M
first_ctl=$ctl

check "the socket is for its owner alone" \
      is_equal "$(stat -c '%a %F' "$ctl")" "600 socket"
check "it answers" answers

fds_at_start=$(nr_fds)

# refused NAME REGEX CONTROL: no server starts with this control socket.
refused () {
  check_fails "$1" "$2" bounded nbdkit -f -U "$tmp/refused.sock" \
              "$ZMEM_PLUGIN" size=1M control="$3"
}

refused "a live server's socket is not taken" 'another server listens' "$ctl"
check "and that server goes on" answers

echo precious >"$tmp/file"
refused "a file is not replaced" 'there is a file already' "$tmp/file"
check "and is as it was" is_equal "$(cat "$tmp/file")" precious
mkdir "$tmp/dir"
refused "a directory is not replaced" 'there is a directory already' \
        "$tmp/dir"
ln -s "$tmp/nowhere" "$tmp/link"
refused "a symbolic link is not followed" 'there is a symbolic link' \
        "$tmp/link"
check "and nothing was made behind it" not test -e "$tmp/nowhere"
refused "a folder that is not there is not made" 'directory does not exist' \
        "$tmp/missing/ctl"

# A server that is killed leaves its socket behind.
start_server_as killed size=1M
killed_ctl=$ctl
{ kill -KILL "$server_pid"; wait "$server_pid"; } 2>/dev/null
unset "server_pids[killed]"
check "a killed server leaves its socket" test -S "$killed_ctl"
start_server_as heir size=1M control="$killed_ctl"
ctl=$killed_ctl
check "the next one replaces it" answers
stop_server heir
check "and removes it at the end" not test -e "$killed_ctl"

# Somebody else's socket at our path, at the end.
start_server_as robbed size=1M
robbed_ctl=$ctl
mv "$robbed_ctl" "$robbed_ctl.mine"
start_server_as robber size=1M control="$robbed_ctl"
stop_server robbed
ctl=$robbed_ctl
check "a socket that another server put there stays" answers
stop_server robber
check "until that one ends" not test -e "$robbed_ctl"

# In the background, where the current folder is another.
(cd "$tmp" && bounded nbdkit -U "$tmp/daemon.sock" --pidfile "$tmp/daemon.pid" \
  "$ZMEM_PLUGIN" size=1M control=daemon.ctl) >"$tmp/daemon.log" 2>&1
wait_for 120 test -s "$tmp/daemon.pid"
daemon_pid=$(cat "$tmp/daemon.pid")
adopt_daemon "$daemon_pid"
ctl=$tmp/daemon.ctl
check "a server in the background answers" answers
kill -TERM "$daemon_pid"
check "it ends" wait_for 120 process_ended "$daemon_pid"
check "and removes its socket" not test -e "$ctl"

select_server main
ctl=$first_ctl

if [ "$(id -u)" -eq 0 ]; then
  # The mode keeps others out; should somebody widen it, the server does.
  # shellcheck disable=SC2016
  as_nobody () {
    bounded perl -e '$) = "65534 65534"; $( = 65534; $< = $> = 65534;
                     exec @ARGV or die $!' "$@"
  }
  chmod 711 "$tmp"
  chmod 644 "$tmp/talk.pl"
  check_fails "another user cannot connect" 'Permission denied' \
              as_nobody perl "$tmp/talk.pl" "$ctl" 'limit\n'
  chmod 666 "$ctl"
  check "nor command, if the mode were wider" \
        matches "$(as_nobody perl "$tmp/talk.pl" "$ctl" 'limit\n')" \
        '^error only the server.s user and root may use this socket$'
  chmod 600 "$ctl"
fi

#----------------------------------------------------------------------
# One that never reads.  It stays while everything below goes on.

cat >"$tmp/stall.pl" <<'END'
use strict; use warnings; use Socket;
my ($path) = @ARGV;
$SIG{PIPE} = "IGNORE";
alarm 300;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
connect($s, pack_sockaddr_un($path)) or die;
my ($start, $lines, $sent) = (time, "stats json\n" x 1000, 0);
for (;;) {
  my $r = send $s, $lines, 0x40 | 0x4000;      # DONTWAIT, NOSIGNAL
  if (defined $r) { $sent += $r }
  elsif ($!{EPIPE} || $!{ECONNRESET}) { last }
  elsif ($!{EAGAIN}) {
    if ($sent) { print STDERR "stalled\n"; $sent = 0 }
    select undef, undef, undef, .1;
  }
  else { die "send: $!" }
}
print time - $start, "\n";
END
# Another has a server to itself, where nobody pushes it out.
start_server_as lonely size=1M
perl "$tmp/stall.pl" "$ctl" >"$tmp/lonely.out" 2>"$tmp/lonely.err" &
lonely_pid=$!
select_server main
perl "$tmp/stall.pl" "$ctl" >"$tmp/stall.out" 2>"$tmp/stall.err" &
stall_pid=$!
check "a client that never reads is no longer read from" \
      wait_for 120 grep -q stalled "$tmp/stall.err"

#----------------------------------------------------------------------
# The protocol.

whole=$(talk 'compress\n')
check "an answer is ok, its length, its body" is_equal "$whole" \
      $'ok 15\ncompress lz4:1'

check "lines may come together" is_equal \
      "$(talk 'limit\nhelp\nclasses\n' | frames)" $'ok\nok\nok'
check "and byte by byte" is_equal \
      "$(talk 'limit\nnonsense\nstats\n' pause | frames | cut -c1-7)" \
      $'ok\nerror t\nok'
check "CR LF ends a line" is_equal "$(talk 'limit\r\nhelp\r\n' | frames)" \
      $'ok\nok'
check "blank lines are ignored" is_equal \
      "$(talk '\n\r\n  \n\t\nlimit\n\n' | frames)" ok
check "unknown commands are errors" matches "$(talk 'frobnicate\n')" \
      '^error there is no command "frobnicate"'
check "what is quoted is printable" matches \
      "$(talk '\x1b[31mred\xff\n')" '^error .*"\?\[31mred\?"'
check "a NUL byte is an error" is_equal \
      "$(talk 'limit\0 1\nlimit\n' | frames | cut -c1-5)" $'error\nok'
check "half a line is not run" is_equal \
      "$(talk 'limit\nlimit 1' | frames)" \
      $'ok\nerror the last line has no end'
check "a line may have 1024 bytes" is_equal \
      "$(talk "limit@{[' ' x 1019]}\\r\\n" | frames)" ok
for bytes in 1020 1021 100000; do
  check "and not $((5 + bytes))" is_equal \
        "$(talk "limit@{[' ' x $bytes]}\\nlimit\\n" | frames)" \
        'error a command has 1024 bytes at most'
done
for what in "" " json" " prometheus"; do
  check "stats$what" is_equal "$(talk "stats$what\\n" | frames)" ok
done
check "many commands in one go" is_equal \
      "$(talk "@{[qq(stats json\\n) x 3000]}" | frames | sort | uniq -c |
         tr -d ' ')" "3000ok"

#----------------------------------------------------------------------
# What changes a running disk.

check "the limit is shown" matches "$(talk 'limit\n')" '^limit_bytes [0-9]+$'
check "the limit is set" matches "$(talk 'limit 32M\n')" \
      '^limit_bytes 33554432$'
check "and is what the statistics say" \
      is_equal "$(stat_value limit_bytes)" $((32 * M))
random_file "$tmp/random" $((40 * M))
# One request at a time: a client that gives up with others under way can
# make nbdkit 1.32.5 fail an assertion of its own (raw_send_socket).
check_fails "it holds" 'No space left' \
            nbdcopy --connections=1 --requests=1 "$tmp/random" "$uri"
check "held is below it" at_most "$(held_bytes)" $((32 * M))
# Full now: a lower limit is taken, and said to be one.
check "a limit below held is taken, and said" matches \
      "$(talk 'limit 8M\n')" '^note more is held than the limit allows'
check "an impossible one is not" matches "$(talk 'limit 4K\n')" \
      '^error limit "4K": too little, for an empty disk of this size takes up to'
check "limit none" matches "$(talk 'limit none\n')" '^limit_bytes none$'
check "then it fits" nbdcopy "$tmp/random" "$uri"
check "compress is set" matches "$(talk 'compress zstd:2\n')" \
      '^compress zstd:2$'
text_file "$tmp/text" $((4 * M))
check "and used" nbdcopy "$tmp/text" "$uri"
check "for new blocks" at_least "$(stat_value zstd_blocks)" 1000
check "a wrong codec is an error" matches "$(talk 'compress brotli\n')" \
      '^error .*brotli'

#----------------------------------------------------------------------
# Compaction, on servers of its own.

# A random half of the blocks, to be trimmed.  The seed brings it back.
seed=${ZMEM_SEED:-$RANDOM}
echo "seed $seed (ZMEM_SEED)"
random_half () {
  awk -v seed="$seed" -v nr="$1" 'BEGIN {
    srand (seed)
    for (i = 0; i < nr; i++)
      if (rand () < .5) print "discard", i * 4096, 4096 }'
}
# Raw blocks, then compressed ones.
text_file "$tmp/more-text" $((16 * M)) 2000000
{ head -c $((16 * M)) "$tmp/random"; cat "$tmp/more-text"; } >"$tmp/filling"
fill_and_trim () {
  nbdcopy "$tmp/filling" "$uri" || return
  random_half 8192 | qemu-io -f raw "$uri" >"$tmp/trim.out" 2>&1 || return
  ! grep -i 'fail' "$tmp/trim.out"
}
# field NAME TEXT: a number of an answer.
field () { sed -n "s/^$1 //p" <<<"$2"; }

start_server_as compact size=64M compact=manual
check "no compaction yet" matches "$(talk 'compact status\n')" \
      '^compact_state idle$'
check "half of the blocks go" fill_and_trim
held=$(held_bytes)
check "that leaves something to be had" at_least \
      "$(stat_value reclaimable_bytes)" $((2 * M))
answer=$(talk 'compact wait\n')
check "compact wait answers when it is done" matches "$answer" \
      '^compact_state finished$'
returned=$(field compact_returned_bytes "$answer")
check "and has given memory back" at_least "$returned" $((2 * M))
check "more than it has copied" at_most \
      "$(field compact_copied_bytes "$answer")" "$returned"
check "held has fallen by that" at_most "$(held_bytes)" $((held - returned))
check "the status tells of it" is_equal \
      "$(field compact_returned_bytes "$(talk 'compact status\n')")" \
      "$returned"
check "so do the statistics" at_least \
      "$(stat_value compact_returned_bytes)" "$returned"
check "the next one finds nothing" matches "$(talk 'compact wait\n')" \
      '^compact_moved_objects 0$'
check "one class" is_equal \
      "$(talk 'compact wait class 4096\ncompact class 1\n' | frames)" \
      $'ok\nok'
check "no such class" matches "$(talk 'compact class 5000\n')" \
      '^error compact class "5000": an object has 1 to 4096 bytes$'
check "a map" is_equal "$(talk 'map\n' | frames)" ok
check "of raw blocks, too" matches "$(talk 'map\n')" \
      '^4096 64 [0-9]+ ([0-9a-f]{4})+$'
stop_server compact

# One that copies a block a second will not be done while we look.
start_server_as slow size=64M compact=manual compact-rate=4096
check "half of the blocks go again" fill_and_trim
bounded perl "$tmp/talk.pl" "$ctl" 'compact wait\nlimit\n' \
        >"$tmp/patient.out" &
patient_pid=$!
is_running () {
  matches "$(talk 'compact status\n')" '^compact_state running$'
}
check "a compaction is under way" wait_for 120 is_running
check "others are answered" is_equal \
      "$(talk 'stats\nlimit\ncompact\n' | frames)" $'ok\nok\nok'
check "the disk is read" nbdcopy "$uri" "$tmp/back"
check "the one that waits has no answer" is_equal \
      "$(cat "$tmp/patient.out")" ""
check "it still waits" not process_ended "$patient_pid"

# Clients that hang up while they wait, more than there are places.
slow_fds=$(nr_fds)
cat >"$tmp/leave.pl" <<'END'
use strict; use warnings; use Socket;
my ($path) = @ARGV;
for (1 .. 50) {
  socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
  connect($s, pack_sockaddr_un($path)) or die;
  syswrite $s, "compact wait class 4096\nlimit\n";
  select undef, undef, undef, .005 if $_ % 2;
  close $s;
}
END
check "clients that hang up while they wait" bounded perl "$tmp/leave.pl" \
      "$ctl"
check "leave it answering" answers
no_more_fds () { at_most "$(nr_fds)" "$slow_fds"; }
check "leave nothing behind" wait_for 60 no_more_fds
check "and the first one waiting" not process_ended "$patient_pid"
# In the middle of all that.
stop_server slow
wait "$patient_pid"
check "who waited was told nothing" is_equal "$(cat "$tmp/patient.out")" ""
select_server main
ctl=$first_ctl

#----------------------------------------------------------------------
# Crowds.

cat >"$tmp/crowd.pl" <<'END'
use strict; use warnings; use Socket; use IO::Handle;
my ($path, $nr) = @ARGV;
alarm 60;
my @clients;
sub ask {
  my ($s) = @_;
  syswrite $s, "limit\n";
  my $r = sysread $s, my $answer, 4096;
  return defined $r && $r > 0 && $answer =~ /^ok /;
}
$SIG{PIPE} = "IGNORE";
for (1 .. $nr) {
  socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
  connect($s, pack_sockaddr_un($path)) or die;
  ask($s) or die "client $_ is not answered\n";
  push @clients, $s;
  select undef, undef, undef, .005;
}
print join(" ", grep { ask($clients[$_ - 1]) } 1 .. $nr), "\n";
END
# Of 16 places the one that never reads may have one, if it was not silent
# for longest.
check "a crowd: the newest are served, and no others" matches \
      "$(bounded perl "$tmp/crowd.pl" "$ctl" 40)" \
      "^(25 )?$(seq -s ' ' 26 40)\$"
check "and the server still answers" answers

for _ in $(seq 20); do talk 'stats json\nstats' >/dev/null; done
# One for the client that never reads, if it still has its place.
few_fds () { at_most "$(nr_fds)" $((fds_at_start + 1)); }
check "clients that left leave nothing behind" wait_for 60 few_fds

# Clients that hang up with an answer on its way.
cat >"$tmp/rude.pl" <<'END'
use strict; use warnings; use Socket;
my ($path) = @ARGV;
for (1 .. 300) {
  socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
  connect($s, pack_sockaddr_un($path)) or die;
  syswrite $s, "stats json\n" x (1 + $_ % 50);
  close $s;
}
END
check "rude clients" bounded perl "$tmp/rude.pl" "$ctl"
check "leave it answering" answers

#----------------------------------------------------------------------
# The disk has not noticed.

check "the disk reads" nbdcopy "$uri" "$tmp/back"
check "and is right" cmp -n $((4 * M)) "$tmp/text" "$tmp/back"

if [ "${ZMEM_QUICK:-}" != 1 ]; then
  # It may have been dropped by the crowd already; if not, after 30 s.
  check "the client that never read is dropped" \
        wait_for 120 process_ended "$stall_pid"
  check "one that nobody else pushes out" \
        wait_for 120 process_ended "$lonely_pid"
  check "after 30 seconds, not at once" at_least \
        "$(cat "$tmp/lonely.out")" 29
  check "and not much later" at_most "$(cat "$tmp/lonely.out")" 45
  check "others are served all the same" answers
fi
stop_server lonely
select_server main

stop_server
check "the socket is removed at the end" not test -e "$first_ctl"
finish
