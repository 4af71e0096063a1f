#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# zmemctl: its command line, its tables, how it finds servers, and what it
# makes of servers that do not behave (perl plays those).
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl nbdcopy script

# Without the -s that the function zmemctl has.
bare () { bounded "$ZMEMCTL" "$@"; }

# exits_with STATUS COMMAND...
exits_with () {
  local want=$1
  shift
  "$@"
  is_equal $? "$want"
}

# To be given to check: the text on standard input is JSON.  Without perl's
# JSON::PP (Debian has it in perl-modules) it is looked at less closely.
is_json () {
  if perl -MJSON::PP -e 1 2>/dev/null; then
    perl -MJSON::PP -e 'local $/; decode_json (<STDIN>)' <<<"$1"
  else
    matches "$1" '^[[{].*[]}]$'
  fi
}

export XDG_RUNTIME_DIR=$tmp/run
mkdir -p "$XDG_RUNTIME_DIR/zmem"
unset ZMEM_CONTROL

#----------------------------------------------------------------------
# The command line.

for help in --help -h help; do
  check "$help goes to standard output" \
        matches "$(bare $help 2>/dev/null)" '^Usage: zmemctl '
  check "$help is a success" bare $help
done
check "--version" matches "$(bare --version)" '^zmemctl [0-9]+\.[0-9]+'

# usage REGEX ARGUMENTS...: exit status 2, and says something on standard
# error alone.
usage () {
  local regex=$1
  shift
  check "usage: $*" exits_with 2 bare "$@"
  check "says: $regex" matches "$(bare "$@" 2>&1 >/dev/null)" "$regex"
}
usage 'a command is missing'
usage 'did you mean "stats"\?' stast
usage 'did you mean "classes"\?' clases
usage 'did you mean "watch"\?' whatch
usage 'did you mean "list"\?' lst
usage 'there is no command "frobnicate"$' frobnicate
usage '"compact" takes no argument' compact now
usage 'the arguments of "limit" are: \[SIZE\|none\]' limit 1 G
usage 'the arguments of "raw" are: COMMAND' raw
usage 'a command is one line' raw "$(printf 'limit\ncompact')"
usage '[-]-timeout takes seconds' -t 0 stats
usage '[-]-timeout takes seconds' -t nan stats
usage '[-]-interval takes seconds' watch -n 1x
usage '[-]-count takes a number' watch -c -1
usage '[-]-interval and --count are for "watch" alone' stats -n 1
usage '[-]-all is for "classes" alone' stats --all
usage 'unrecognized option' --nonsense stats
usage 'requires an argument' stats -s

#----------------------------------------------------------------------
# Nobody there.

check "no server anywhere: exit status 1" exits_with 1 bare stats
check_fails "and where was looked" "no running server .*$XDG_RUNTIME_DIR/zmem" \
            bare stats
check "list of nothing is a success" bare list
check "--json list of nothing is empty" is_equal "$(bare --json list)" '[]'
check_fails "no such socket" 'there is no such socket' \
            bare -s "$tmp/nowhere" stats
check_fails "a path from \$ZMEM_CONTROL" 'there is no such socket' \
            env ZMEM_CONTROL="$tmp/nowhere" "$ZMEMCTL" stats
touch "$tmp/file"
check_fails "a file is no socket" 'no (control socket|server listens)' \
            bare -s "$tmp/file" stats
check_fails "a path that no socket can have" '1 to 107 bytes' \
            bare -s "$(printf '%0200d' 0)" stats

#----------------------------------------------------------------------
# A server, and some blocks in it.

start_server size=64M limit=none
random_file "$tmp/random" $((2 * M))
text_file "$tmp/text" $((8 * M))
cat "$tmp/text" "$tmp/random" >"$tmp/disk"
check "blocks to look at" nbdcopy "$tmp/disk" "$uri"

stats=$(zmemctl stats)
check "stats: the size" matches "$stats" '^size +64\.0 MiB$'
check "stats: held, and that there is no limit" matches "$stats" \
      '^held +[0-9.]+ MiB +no limit, highest [0-9.]+ MiB$'
check "stats: the ratio" matches "$stats" '^ratio +[0-9.]+x +'
check "stats: the codec" matches "$stats" '^compress +lz4:1 '
check "stats: blocks" matches "$stats" '^blocks +16,384$'
check "stats: a kind, with its part" matches "$stats" '^  lz4 +2,048 +12\.5 %$'
check "stats: another" matches "$stats" '^  raw +512 +3\.1 %$'
check "stats: writes" matches "$stats" \
      '^  write +[0-9,]+ +10\.0 MiB +[0-9.]+ .s +[0-9.]+ .s +[0-9.]+ .s$'
check "stats: no errors" matches "$stats" '^errors +none$'
check "stats in JSON" is_json "$(zmemctl stats --json)"
check "the same, said otherwise" is_json "$(zmemctl stats json)"
check "stats for Prometheus" matches "$(zmemctl stats prometheus)" \
      '^zmem_lz4_blocks 2048$'
check_fails "stats in no such format" 'takes "json"' zmemctl stats xml

check "limit" is_equal "$(zmemctl limit | head -n 1)" "limit none"
check "limit SIZE" is_equal "$(zmemctl limit 48M | head -n 1)" \
      "limit 48.0 MiB"
check "and it is the limit now" is_equal "$(stat_value limit_bytes)" \
      $((48 * M))
check "limit in JSON" matches "$(zmemctl -j limit)" \
      '^\{"limit_bytes": 50331648, "held_bytes": [0-9]+\}$'
check "a limit below held: a note" matches "$(zmemctl limit 4M)" \
      '^note: more is held than the limit allows'
check "a wrong limit: exit status 1" exits_with 1 zmemctl limit lots
check_fails "and why" 'limit "lots": not a size' zmemctl limit lots
check "limit none again" is_equal "$(zmemctl limit none | head -n 1)" \
      "limit none"
check "compress" is_equal "$(zmemctl compress)" "compress lz4:1"
check "compress CODEC" is_equal "$(zmemctl compress zstd | head -n 1)" \
      "compress zstd:1"
check "compress in JSON" is_equal "$(zmemctl --json compress)" \
      '{"compress": "zstd:1"}'
check_fails "a wrong codec" 'zmemctl: .*brotli' zmemctl compress brotli
check "compact" is_equal "$(zmemctl compact)" \
      "moved 0 objects: this version does not compact"
check "compact in JSON" is_json "$(zmemctl --json compact)"
check "raw" matches "$(zmemctl raw help)" '^compact '
check "raw of several words" is_json "$(zmemctl raw stats json)"
check_fails "raw of nonsense" 'there is no command "nonsense"' \
            zmemctl raw nonsense
check "an answer that cannot be written: exit status 1" \
      exits_with 1 eval 'zmemctl stats >/dev/full'

#----------------------------------------------------------------------
# The histogram.

# No line has more characters than that.
no_wider () {
  is_equal "$(perl -CI -ne 'chomp; print if length > '"$2" <<<"$1")" ""
}
# perl itself: code and data that compress to all sizes.
check "blocks of all sizes" nbdcopy "$(type -P perl)" "$uri"
classes=$(COLUMNS=90 zmemctl classes)
check "classes: a bar" matches "$classes" '^3841-4096 +[0-9,]+ .* #+\.*$'
check "classes: a sum" matches "$classes" '^all +[12],[0-9]{3} '
check "classes: plain ASCII without a locale" \
      not grep -q '[^ -~]' <<<"$classes"
check "classes: as wide as it may be" no_wider "$classes" 90
check "classes: and it is used" not no_wider "$classes" 80
utf8=$(LC_ALL=C.UTF-8 COLUMNS=120 zmemctl classes)
check "classes: blocks where the locale has them" \
      matches "$utf8" $'\xe2\x96\x88\xe2\x96\x88'
check "classes: as wide as it may be, too" no_wider "$utf8" 120
check "classes: each" at_least "$(zmemctl classes --all | wc -l)" 25
check "classes in JSON" is_json "$(zmemctl classes --json)"

#----------------------------------------------------------------------
# watch, elsewhere and on a terminal.

watch=$(zmemctl watch -n 0.1 -c 3)
check "watch: a head and as many lines as asked for" \
      is_equal "$(wc -l <<<"$watch")" 4
check "watch: numbers" matches "$watch" \
      '^[0-9:]{8} +[0-9.]+ +[0-9.]+x( +[0-9.]+){6}$'
nbdcopy "$uri" null: &
copy_pid=$!
check "watch in JSON" is_json "$(zmemctl watch --json -n 0.2 -c 1)"
wait "$copy_pid"
check "watch ends with its reader" eval \
      'zmemctl watch -n 0.1 | head -n 2 >/dev/null'

readonly enter=$'\e[?1049h' leave=$'\e[?25h\e[?1049l'

# on_terminal OUT ARGUMENTS...: zmemctl on a terminal whose keyboard is the
# descriptor 9.
on_terminal () {
  local out=$1
  shift
  TERM=xterm bounded script -qefc "$ZMEMCTL -s $ctl $*" "$out.typescript" \
      <"$tmp/keys" >"$out"
}
has_pictures () { [ "$(grep -c 'per second' "$1")" -ge "$2" ]; }
mkfifo "$tmp/keys"
exec 9<>"$tmp/keys"
on_terminal "$tmp/screen" watch -n 0.1 &
watch_pid=$!
check "watch: pictures" wait_for 60 has_pictures "$tmp/screen" 3
printf '\003' >&9
wait "$watch_pid"
check "watch: Ctrl-C is a good end" is_equal $? 0
screen=$(cat "$tmp/screen")
check "watch: it takes the screen" is_equal "${screen:0:8}" "$enter"
check "watch: and gives it back" matches "${screen//$leave/LEFT}" 'LEFT'
check "watch: what it showed last stays" matches "${screen##*"$leave"}" \
      '^size +64\.0 MiB'

start_server_as brief size=1M
on_terminal "$tmp/screen" watch -n 0.1 &
watch_pid=$!
check "watch: pictures of another" wait_for 60 has_pictures "$tmp/screen" 2
stop_server brief
wait "$watch_pid"
check "watch: a server that ends is an error" is_equal $? 1
screen=$(cat "$tmp/screen")
check "watch: the screen is given back first" \
      matches "${screen##*"$leave"}" 'zmemctl: .*(closed|reset)'
#----------------------------------------------------------------------
# Servers that do not behave.

# fake ANSWER: listen, and to whoever asks send that; then keep silent.
cat >"$tmp/fake.pl" <<'END'
use strict; use warnings; use Socket;
my ($path, $answer) = @ARGV;
$answer = eval qq("$answer");
$SIG{PIPE} = "IGNORE";
socket(my $l, PF_UNIX, SOCK_STREAM, 0) or die;
umask 0177;
# The path is there only when it listens.
bind($l, pack_sockaddr_un("$path.new")) && listen($l, 5) or die;
rename "$path.new", $path or die;
my @clients;
while (accept my $s, $l) {
  push @clients, $s;
  if ($answer eq "close") { close $s; next }
  sysread $s, my $line, 100;
  syswrite $s, $answer;
}
END
fake () {
  perl "$tmp/fake.pl" "$tmp/fake.ctl" "$1" &
  fake_pid=$!
  ctl=$tmp/fake.ctl
  wait_for 60 test -S "$ctl" || fail "a fake server starts"
}
end_fake () {
  { kill "$fake_pid"; wait "$fake_pid"; } 2>/dev/null
  rm -f "$tmp/fake.ctl"
}

fake ''
check_fails "a server that never answers" 'did not answer within 0\.3 s' \
            zmemctl -t 0.3 stats
end_fake

# It answers once: the second look of watch waits for ever.
fake 'ok 13\nsize_bytes 1\n'
on_terminal "$tmp/screen" -t 86400 watch -n 0.1 &
watch_pid=$!
check "watch: a picture of that" wait_for 60 has_pictures "$tmp/screen" 1
sleep 0.3
printf '\003' >&9
wait "$watch_pid"
check "watch: Ctrl-C does not wait for an answer" is_equal $? 0
exec 9>&-
end_fake

fake 'ok 100\nhalf of it'
check_fails "an answer that stops half-way" 'did not answer within' \
            zmemctl -t 0.3 raw stats
check "of which nothing is printed" is_equal \
      "$(zmemctl -t 0.3 raw stats 2>/dev/null)" ""
end_fake

fake 'close'
check_fails "a server that hangs up" '(closed the connection|reset by peer)' \
            zmemctl stats
end_fake

# misunderstood NAME ANSWER
misunderstood () {
  fake "$2"
  check_fails "$1" 'what answers there is no zmem' zmemctl -t 5 stats
  end_fake
}
misunderstood "an NBD server" 'NBDMAGICIHAVEOPT'
misunderstood "an answer without a number" 'ok many\n'
misunderstood "an answer without an end" "@{['o' x 5000]}"
misunderstood "an answer that is far too long" 'ok 99999999999\n'
misunderstood "a negative length" 'ok -1\n'

fake 'error \x1b]0;owned\x07 no\n'
check_fails "what a terminal obeys is not passed on" 'zmemctl: .]0;owned. no' \
            zmemctl stats
check "no escape came through" not eval \
      "bare -s '$tmp/fake.ctl' stats 2>&1 | grep -q '[[:cntrl:]]'"
end_fake

fake 'ok 21\nsurprise\nsize_bytes x\n'
check "values that are not known or no numbers do no harm" zmemctl stats
check "and are kept in JSON" is_equal "$(zmemctl --json limit)" \
      '{"surprise": "", "size_bytes": "x"}'
check_fails "columns that are not known are an error" 'columns' \
            zmemctl classes
end_fake

#----------------------------------------------------------------------
# Finding servers.

if compgen -G '/run/zmem/*' >/dev/null; then
  echo "not tested: finding servers, since there is something in /run/zmem"
else
  here=$XDG_RUNTIME_DIR/zmem
  # The NBD socket lies beside the other, as it does with real users.
  start_server_as one -U "$here/one.sock" -- size=3M control="$here/one.ctl"
  check "the only server is found" matches "$(bare stats)" '^size +3\.0 MiB$'
  list=$(bare list)
  check "list: size, held, ratio" matches "$list" \
        "^$here/one\\.ctl +3\\.0 MiB +[0-9.]+ [KM]iB +"
  check "list: NBD sockets are none of them" \
        is_equal "$(wc -l <<<"$list")" 2
  check "and their server has no errors from it" \
        not grep -q error "$log"
  check "\$ZMEM_CONTROL goes before what is found" \
        matches "$(ZMEM_CONTROL=$tmp/main.ctl bare stats)" '^size +64\.0 MiB$'
  check "-s goes before \$ZMEM_CONTROL" matches \
        "$(ZMEM_CONTROL=$tmp/nowhere bare -s "$tmp/main.ctl" stats)" \
        '^size +64\.0 MiB$'

  start_server_as two size=5M control="$here/two.ctl"
  two_pid=$server_pid
  check_fails "of two, one must be chosen" '2 servers are running' bare stats
  check "list: both" is_equal "$(bare list | grep -c 'MiB')" 2
  check "list in JSON" is_json "$(bare --json list)"
  { kill -KILL "$two_pid"; wait "$two_pid"; } 2>/dev/null
  unset "server_pids[two]"
  check "a dead one is none to be chosen from" bare stats
  check "list: it is said to be dead" matches "$(bare list)" \
        "^$here/two\\.ctl +dead"
  check "list in JSON says so, too" matches "$(bare --json list)" \
        '"live": false, "error": "'
  stop_server one
  check_fails "none that answers" 'where no socket answers' bare stats
fi

stop_server main
finish
