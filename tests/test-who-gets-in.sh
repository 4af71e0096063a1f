#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Who gets in, and what a local user can plant: links, pipes and sockets
# where the control socket and the statistics file are made; sockets where
# zmemctl looks for servers; and what a server that is none may print.
# What needs users other than ours is for root.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl

# All of /run/zmem is somebody else's.
export XDG_RUNTIME_DIR=$tmp/run
mkdir -m 0700 "$XDG_RUNTIME_DIR" "$XDG_RUNTIME_DIR/zmem"
chmod 711 "$tmp"

# listen PATH [stream|dgram [ANSWER]]: what is no zmem, until it is killed.  It
# gives whoever connects the answer.
cat >"$tmp/listen.pl" <<'END2'
use strict; use warnings; use Socket;
my ($path, $type, $answer) = @ARGV;
umask 0177;
alarm 300;
$SIG{PIPE} = "IGNORE";
socket(my $s, PF_UNIX, $type eq "dgram" ? SOCK_DGRAM : SOCK_STREAM, 0) or die;
bind($s, pack_sockaddr_un($path)) or die "bind: $!";
if ($type eq "dgram") { print "ready\n"; close STDOUT; sleep }
listen($s, 10) or die;
print "ready\n"; close STDOUT;
$answer = eval qq("$answer");
while (accept(my $c, $s)) {
  sysread $c, my $line, 4096;
  syswrite $c, $answer;
}
END2
chmod 644 "$tmp/listen.pl"
listeners=()
# start_listener [SETPRIV...] -- PATH TYPE ANSWER
start_listener () {
  local as=()
  while [ "$1" != -- ]; do as+=("$1"); shift; done
  shift
  rm -f "$tmp/listener.out"     # another one's "ready"
  ${as[@]+"${as[@]}"} perl "$tmp/listen.pl" "$1" "${2:-stream}" "${3:-}" \
    >"$tmp/listener.out" 2>&1 </dev/null &
  listeners+=("$!")
  wait_for 60 grep -q ready "$tmp/listener.out" ||
    fail "a listener starts on $1" "$tmp/listener.out"
}
end_listeners () {
  local pid
  for pid in "${listeners[@]}"; do
    { kill "$pid"; wait "$pid"; } 2>/dev/null
  done
  listeners=()
}
at_end end_listeners

# Two other users.  (No functions: what runs in the background is to be a
# child of this shell.)
one=(setpriv --reuid=65533 --regid=65533 --clear-groups)
another=(setpriv --reuid=65534 --regid=65534 --clear-groups)
may_change_user () {
  [ "$(id -u)" -eq 0 ] && [ "$("${one[@]}" id -u 2>/dev/null)" = 65533 ]
}

# refused NAME REGEX KEY=VALUE: no server starts with it.
refused () {
  check_fails "$1" "$2" bounded nbdkit -f -U "$tmp/refused.sock" \
              "$ZMEM_PLUGIN" size=1M "$3"
}
mode () { stat -c '%a %F' "$1"; }
answers () { zmemctl raw limit >"$tmp/answer" && grep -q ^limit_bytes "$tmp/answer"; }

#----------------------------------------------------------------------
# The control socket's mode, whatever the umask.

for mask in 000 022 077; do
  (umask $mask; exec 3>&1
   timeout 60 nbdkit -U - "$ZMEM_PLUGIN" size=1M \
     control="$tmp/umask.ctl" --run "stat -c '%a %F' $tmp/umask.ctl >&3") \
    >"$tmp/umask.out" 2>&1
  check "umask $mask: the control socket is for its owner alone" \
        is_equal "$(tail -n 1 "$tmp/umask.out")" "600 socket"
done

#----------------------------------------------------------------------
# What stands at the control socket's path.

mkfifo "$tmp/fifo.ctl"
refused "a pipe is not opened" 'there is a file already' \
        control="$tmp/fifo.ctl"
check "and is still one" test -p "$tmp/fifo.ctl"

echo precious >"$tmp/file"
ln "$tmp/file" "$tmp/hard.ctl"
refused "another name of a file is not replaced" 'there is a file already' \
        control="$tmp/hard.ctl"
check "nor the file changed" is_equal "$(cat "$tmp/file")" precious

# A dead socket behind a link: not ours to remove.
start_listener -- "$tmp/dead.sock"
ln -s dead.sock "$tmp/link.ctl"
refused "a link to a live socket is refused" 'a symbolic link' \
        control="$tmp/link.ctl"
end_listeners
check "a socket stays when its listener is killed" test -S "$tmp/dead.sock"
refused "a link to a dead socket is refused" 'a symbolic link' \
        control="$tmp/link.ctl"
check "and the socket behind it stays" test -S "$tmp/dead.sock"
check "and the link" test -L "$tmp/link.ctl"

start_listener -- "$tmp/dgram.ctl" dgram
refused "a live socket of another kind is left alone" \
        'cannot tell whether a server listens' control="$tmp/dgram.ctl"
check "and stays" test -S "$tmp/dgram.ctl"
end_listeners

mkdir -m 0777 "$tmp/open"
chmod 0777 "$tmp/open"
refused "a folder that everybody may write to is refused" \
        'control=.*everybody may write' control="$tmp/open/ctl"
check "and nothing is left in it" is_equal "$(ls -A "$tmp/open")" ""
chmod 1777 "$tmp/open"
start_server_as sticky size=1M control="$tmp/open/ctl"
ctl=$tmp/open/ctl
check "one with the sticky bit is not" answers
stop_server sticky

# Somebody swaps a dead socket and a link to a file and to a dead socket, as
# fast as can be, while servers start there and end.  Whatever they find, what
# the links lead to stays as it is.
mkdir "$tmp/victim" "$tmp/race"
echo precious >"$tmp/victim/file"
start_listener -- "$tmp/victim/sock"
end_listeners
victim_before=$(stat -c '%n %i %s %Y %A' "$tmp/victim/"*)
cat >"$tmp/swap.pl" <<'END2'
use strict; use warnings; use Socket;
my ($dir, $victim) = @ARGV;
alarm 120;
chdir $dir or die;
for (my $i = 0; ; $i++) {
  if ($i % 3 == 0) {
    socket(my $s, PF_UNIX, SOCK_STREAM, 0);
    bind($s, pack_sockaddr_un("next"));
  }
  elsif ($i % 3 == 1) { symlink "$victim/sock", "next" }
  else { symlink "$victim/file", "next" }
  rename "next", "ctl";
}
END2
perl "$tmp/swap.pl" "$tmp/race" "$tmp/victim" &
swap_pid=$!
nr_refused=0 nr_served=0
for _ in $(seq 20); do
  # Not -U -, whose folder stays behind when nbdkit is refused.
  rm -f "$tmp/race.sock"
  if timeout 60 nbdkit -U "$tmp/race.sock" "$ZMEM_PLUGIN" size=1M \
       control="$tmp/race/ctl" --run true 2>>"$tmp/race.err"
  then nr_served=$((nr_served + 1))
  else nr_refused=$((nr_refused + 1))
  fi
done
{ kill "$swap_pid"; wait "$swap_pid"; } 2>/dev/null
echo "of 20 servers beside a swapper $nr_served served"
check "beside a swapper of links some server is refused" \
      at_least $nr_refused 1
check "with a sentence each" not grep -Ev 'control=|MiB disk' "$tmp/race.err"
check "and what the links led to is as it was" \
      is_equal "$(stat -c '%n %i %s %Y %A' "$tmp/victim/"*)" "$victim_before"

#----------------------------------------------------------------------
# The statistics file, with traps where it is written.

mkdir "$tmp/stats"
file=$tmp/stats/zmem.prom
has_statistics () { [ ! -L "$file" ] && grep -q '^zmem_size_bytes' "$file"; }

ln -s "$tmp/file" "$file.zmem.tmp"
refused "a link of the temporary name is not followed" 'statsfile=.*exists' \
        statsfile="$file"
check "what it leads to is as it was" is_equal "$(cat "$tmp/file")" precious
rm "$file.zmem.tmp"
mkdir "$file.zmem.tmp"
refused "a folder of that name is left alone" 'statsfile=.*exists' \
        statsfile="$file"
rmdir "$file.zmem.tmp"
# Our own file, by another name: the name goes, the file stays.
ln "$tmp/file" "$file.zmem.tmp"
start_server_as stats size=1M statsfile="$file" stats-interval=1
check "another name of a file is removed" wait_for 60 has_statistics
check "and the file is not written to" is_equal "$(cat "$tmp/file")" precious
check "the mode is that of a file for all to read" matches "$(mode "$file")" \
      '^6(44|40|00) regular file$'

# While it runs.
ln -sf "$tmp/file" "$file"
check "a link in its place is replaced" wait_for 60 has_statistics
check "not followed" is_equal "$(cat "$tmp/file")" precious
ln -f "$tmp/file" "$file"
check "another name of a file, too" wait_for 60 has_statistics
check "not written to" is_equal "$(cat "$tmp/file")" precious
rm -f "$file"
mkfifo "$file"
check "a pipe, too" wait_for 60 test -f "$file"
ln -s "$tmp/file" "$file.zmem.tmp"
complained () { grep -q 'statsfile=.*cannot be written' "$tmp/stats.log"; }
check "a link of the temporary name stops it" wait_for 60 complained
check "not the file behind" is_equal "$(cat "$tmp/file")" precious
check "it removes no link" test -L "$file.zmem.tmp"
rm "$file.zmem.tmp"
stop_server stats

#----------------------------------------------------------------------
# What answers where zmemctl asks, and is no zmem.

evil='ok 20\nnote \x1b]0;pwned\x07\x9b2J\t\n'
start_listener -- "$tmp/evil.ctl" stream "$evil"
ctl=$tmp/evil.ctl
escapes () { LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f-\xff]' "$1"; }
for command in "raw limit" stats classes "--json stats" "stats prometheus" \
               limit compress "compact status" map; do
  # Whether it takes that for an answer or not.
  # shellcheck disable=SC2086
  zmemctl $command >"$tmp/evil.out" 2>&1 </dev/null
  check "zmemctl $command says something of it" test -s "$tmp/evil.out"
  check "with nothing for a terminal to obey" not escapes "$tmp/evil.out"
done
zmemctl raw limit >"$tmp/evil.out" 2>&1
check "an answer is told" grep -q pwned "$tmp/evil.out"
end_listeners
start_listener -- "$tmp/evil2.ctl" stream 'error \x1b[31mred\x9b2J\n'
ctl=$tmp/evil2.ctl
zmemctl limit >"$tmp/evil.out" 2>&1
check "an error is told" grep -q 'red' "$tmp/evil.out"
check "and harmless" not escapes "$tmp/evil.out"
end_listeners

#----------------------------------------------------------------------
# Other users.

if ! may_change_user; then
  echo "not tested: other users, since we are not root"
  finish
fi

# A server of user 65533; a file of its own, since its socket is closed to
# others by the mode.
mkdir -m 0755 "$tmp/theirs"
chown 65533:65533 "$tmp/theirs"
cp "$ZMEMCTL" "$tmp/zmemctl"
"${one[@]}" nbdkit -f -U "$tmp/theirs/nbd.sock" --pidfile "$tmp/theirs/pid" \
  "$ZMEM_PLUGIN" size=1M control="$tmp/theirs/ctl" </dev/null \
  2>"$tmp/theirs.log" &
server_pids[theirs]=$!
check "a server of another user starts" wait_for 60 test -s "$tmp/theirs/pid"
command=("$tmp/zmemctl" -s "$tmp/theirs/ctl" raw limit)
check "its socket is its user's" is_equal \
      "$(stat -c '%u %a' "$tmp/theirs/ctl")" "65533 600"
check "its user may command it" bounded "${one[@]}" "${command[@]}"
check "root may" bounded "${command[@]}"
check_fails "others may not connect" 'only the server.s user and root' \
            bounded "${another[@]}" "${command[@]}"
chmod 0666 "$tmp/theirs/ctl"
check_fails "nor command, if the mode were wider" \
            'only the server.s user and root' "${another[@]}" "${command[@]}"
check "its user still may" bounded "${one[@]}" "${command[@]}"
stop_server theirs

# Of root, with its rights dropped (-u): its socket was made before, and is
# root's.
mkdir -m 0777 "$tmp/pids"
chmod 0777 "$tmp/pids"
nbdkit -f -U "$tmp/dropped.sock" -P "$tmp/pids/dropped" -u 65533 -g 65533 \
  "$ZMEM_PLUGIN" size=1M control="$tmp/dropped.ctl" </dev/null \
  2>"$tmp/dropped.log" &
server_pids[dropped]=$!
ctl=$tmp/dropped.ctl
check "a server that drops its rights starts" \
      wait_for 60 test -s "$tmp/pids/dropped"
check "with -u the socket is root's" is_equal "$(stat -c '%u %a' "$ctl")" \
      "0 600"
check "root may command it" answers
check_fails "the user that it became may not connect" \
            'only the server.s user and root' \
            bounded "${one[@]}" "$tmp/zmemctl" -s "$ctl" raw limit
stop_server dropped

# Planted where zmemctl looks: by others in a folder of ours, and in a folder
# of others, which root has from its environment.
true_answer='ok 39\nsize_bytes 1048576\nlimit_bytes 1234567\n'
chmod 1777 "$XDG_RUNTIME_DIR/zmem"
chmod 711 "$XDG_RUNTIME_DIR"
start_listener "${one[@]}" -- "$XDG_RUNTIME_DIR/zmem/planted" stream \
               "$true_answer"
# What it is worth: by name it is believed.
check "a planted socket answers to its name" \
      bounded "$ZMEMCTL" -s "$XDG_RUNTIME_DIR/zmem/planted" raw limit
list () { bounded "$ZMEMCTL" list 2>&1; }
check "a socket that another user planted is not found" \
      not grep -q planted <(list)
start_server_as ours size=1M control="$XDG_RUNTIME_DIR/zmem/ours"
check "a server of ours is" grep -q ours <(list)
stop_server ours
end_listeners
rm "$XDG_RUNTIME_DIR/zmem/planted"
chmod 0755 "$XDG_RUNTIME_DIR/zmem"
chown 65533:65533 "$XDG_RUNTIME_DIR/zmem"
start_listener "${one[@]}" -- "$XDG_RUNTIME_DIR/zmem/planted" stream \
               "$true_answer"
check "nor one in a folder of another user" not grep -q planted <(list)
check "which that user finds" grep -q planted \
      <(bounded "${one[@]}" "$tmp/zmemctl" list 2>&1)
end_listeners

# A dead socket of another user, where nobody but root could remove it.
chmod 1777 "$tmp/open"
start_listener "${another[@]}" -- "$tmp/open/dead"
end_listeners
check_fails "another user's dead socket cannot be replaced by a user" \
            'cannot be (removed|told)|cannot tell|cannot be made' \
            bounded "${one[@]}" nbdkit -f -U "$tmp/open/nbd" "$ZMEM_PLUGIN" \
            size=1M control="$tmp/open/dead"
# A temporary file of another user's.
"${another[@]}" sh -c "echo theirs >'$tmp/open/prom.zmem.tmp'"
refused "nor another user's file of the temporary name, not even by root" \
        'statsfile=.*exists' statsfile="$tmp/open/prom"
check "which is as it was" is_equal "$(cat "$tmp/open/prom.zmem.tmp")" theirs

finish
