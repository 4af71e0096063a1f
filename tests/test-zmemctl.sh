#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# zmemctl: its command line, its tables, how it finds servers, and what it
# makes of servers that do not behave, or only behave when told to (perl plays
# those).
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
usage 'did you mean "map"\?' mpa
compact_usage='the arguments of "compact" are: \[wait\] \[class SIZE\]\|status'
for args in now class 'class 0' 'class 4097' 'class x' 'wait wait' \
            'status wait' 'class 16 17'; do
  # shellcheck disable=SC2086
  usage "$compact_usage" compact $args
done
usage '"map" draws a picture: say where to, with -o FILE\.svg' map
usage '"map" draws a picture, for which there is no --json' \
      map -j -o "$tmp/x.svg"
usage '"map" takes no argument' map all -o "$tmp/x.svg"
usage '[-]-output is for "map" alone' stats -o "$tmp/x.svg"
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
report=$(zmemctl compact)
check "compact: it waits for the end" matches "$report" \
      '^compaction +finished$'
check "compact: what was moved" matches "$report" \
      '^moved +[0-9,]+   objects, [0-9.]+ [KM]?i?B$'
check "compact: what is left" matches "$report" \
      '^reclaimable +[0-9.]+ [KM]?i?B   still$'
check "compact in JSON" is_json "$(zmemctl --json compact)"
check "compact wait is the same" matches "$(zmemctl compact wait)" \
      '^compaction +finished$'
check "compact in a class" matches "$(zmemctl compact wait class 100)" \
      '^compaction +finished$'
check_fails "compact with a class that only the server refuses" \
            'zmemctl: .*1G' zmemctl compact class 1G
check "compact status" matches "$(zmemctl --json compact status)" \
      '"compact_state": "finished"'
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
# Fragmentation, and how it goes.

# To be given to check: without xmllint, tags at least are paired.
is_well_formed () {
  if type -P xmllint >/dev/null; then
    xmllint --noout "$1"
  else
    perl -0777 -ne '
      s/^<\?xml[^>]*\?>//;
      for (m{<([^>]*)>}g) {
        next if m{/$};
        m{^(/?)(\w+)( [\w:-]+="[^"<&]*")*$} or die "this is no tag: <$_>\n";
        if (!$1) { push @open, $2 }
        elsif (!@open || pop @open ne $2) { die "nothing to close: <$_>\n" }
      }
      die "not closed: @open\n" if @open;
    ' "$1"
  fi
}
# The cells of a picture: paths as narrow as that, and what is behind them.
count_cells () {
  grep -v 'class="strip"' "$1" | grep -oE 'h5v-[0-9]+h-5z' | wc -l
}

# Of all classes, the zspages that are not full.
count_partial () {
  zmemctl raw classes | awk '
    NR == 1 { for (i = 1; i <= NF; ++i) field[$i] = i; next }
    { for (g = 0; g < 8; ++g) nr += $field["group" g] }
    END { print nr + 0 }'
}

if type -P qemu-io >/dev/null; then
  seed=$RANDOM
  echo "seed of the blocks that are trimmed: $seed"
  start_server_as worn size=16M compact=manual
  mixed_file "$tmp/disk" $((16 * M))
  check "a disk to wear out" nbdcopy "$tmp/disk" "$uri"
  check "compact status before any" matches "$(zmemctl compact status)" \
        '^compaction +idle   none was asked for yet$'
  perl -e 'srand shift; rand () < 0.5 and print "discard ${_}k 4k\n"
             for map { 4 * $_ } 0 .. 4095' "$seed" >"$tmp/trims"
  trim_half () { qemu-io -f raw "$uri" <"$tmp/trims"; }
  check "a random half of it is trimmed" trim_half

  check "classes: how full the zspages are" matches "$(zmemctl classes)" \
        '^all .*  \|.{9}\|$'
  partial=$(count_partial)
  resident=$(stat_value arena_bytes)
  check "map, before" zmemctl map -o "$tmp/before.svg"
  check "map: the picture is well-formed" is_well_formed "$tmp/before.svg"
  check "map: a cell for each zspage" is_equal \
        "$(count_cells "$tmp/before.svg")" "$(stat_value zspages)"
  check "map: what is held stands in it" matches \
        "$(cat "$tmp/before.svg")" \
        'zmem: held [0-9.]+ MiB, reclaimable [0-9.]+ [KM]iB, fragmentation'

  json=$(zmemctl --json compact)
  check "compact: it gives something back" \
        matches "$json" '"compact_returned_bytes": [1-9]'
  check "compact: fewer zspages have gaps" \
        at_most "$(count_partial)" $((partial / 2))
  check "compact: less is resident" \
        at_most "$(stat_value arena_bytes)" $((resident - 1))
  check "map, after" eval "zmemctl map -o - >'$tmp/after.svg'"
  check "map: well-formed again" is_well_formed "$tmp/after.svg"
  check "map: fewer cells" at_most "$(count_cells "$tmp/after.svg")" \
        $(($(count_cells "$tmp/before.svg") - 1))
  stop_server worn
  select_server main
else
  echo "not tested: a worn disk, since there is no qemu-io"
fi

echo old >"$tmp/old.svg"
ln -s old.svg "$tmp/link.svg"
check "map: to a link" zmemctl map -o "$tmp/link.svg"
check "map: which stays one" test -L "$tmp/link.svg"
check "map: a file that was there is replaced" is_well_formed "$tmp/old.svg"
check_fails "map: a folder that is not there" \
            'nowhere/x\.svg: the picture cannot be written: No such file' \
            zmemctl map -o "$tmp/nowhere/x.svg"
check_fails "map: a disk that is full" \
            '/dev/full: the picture cannot be written: No space' \
            zmemctl map -o /dev/full
check "map: the same, on standard output" \
      exits_with 1 eval 'zmemctl map -o - >/dev/full'
check "map: no temporary file is left" not compgen -G "$tmp/*.svg.*"

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
# descriptor 9.  Where it is not waited for at once, OUT must not be there from
# the last time: what is looked for might be seen before it begins.
on_terminal () {
  local out=$1
  shift
  TERM=xterm bounded script -qefc "exec $ZMEMCTL -s $ctl $*" "$out.typescript" \
      <"$tmp/keys" >"$out"
}
has_pictures () { [ "$(grep -c 'per second' "$1")" -ge "$2" ]; }
mkfifo "$tmp/keys"
exec 9<>"$tmp/keys"
rm -f "$tmp/screen"
on_terminal "$tmp/screen" watch -n 0.1 &
watch_pid=$!
check "watch: pictures" wait_for 120 has_pictures "$tmp/screen" 3
printf '\003' >&9
wait "$watch_pid"
check "watch: Ctrl-C is a good end" is_equal $? 0
screen=$(cat "$tmp/screen")
check "watch: it takes the screen" is_equal "${screen:0:8}" "$enter"
check "watch: and gives it back" matches "${screen//$leave/LEFT}" 'LEFT'
check "watch: what it showed last stays" matches "${screen##*"$leave"}" \
      '^size +64\.0 MiB'

start_server_as brief size=1M
rm -f "$tmp/screen"
on_terminal "$tmp/screen" watch -n 0.1 &
watch_pid=$!
check "watch: pictures of another" wait_for 120 has_pictures "$tmp/screen" 2
stop_server brief
wait "$watch_pid"
check "watch: a server that ends is an error" is_equal $? 1
screen=$(cat "$tmp/screen")
check "watch: the screen is given back first" \
      matches "${screen##*"$leave"}" 'zmemctl: .*(closed|reset)'
#----------------------------------------------------------------------
# Servers that do not behave.

# fake ANSWER...: listen, and to whoever asks send these; then keep silent.
# An answer that begins with "until FILE " is repeated until the file is there;
# "body EXPRESSION" stands for what perl makes of that, with a head.  What was
# asked is in $tmp/asked.
cat >"$tmp/fake.pl" <<'END'
use strict; use warnings; use IO::Handle; use Socket;
my ($asked, $path, @answers) = @ARGV;
my @until;
for (@answers) {
  push @until, s/^until (\S+) // ? $1 : undef;
  if (s/^body //) {
    my $body = eval or die $@;
    $_ = "ok " . length ($body) . "\n$body";
  } else {
    $_ = eval qq("$_");
  }
}
open my $log, ">", $asked or die;
$log->autoflush;
$SIG{PIPE} = "IGNORE";
socket(my $l, PF_UNIX, SOCK_STREAM, 0) or die;
umask 0177;
# The path is there only when it listens.
bind($l, pack_sockaddr_un("$path.new")) && listen($l, 5) or die;
rename "$path.new", $path or die;
my @clients;
CLIENT: while (accept my $s, $l) {
  push @clients, $s;
  if ($answers[0] eq "close") { close $s; next }
  for my $i (0 .. $#answers) {
    do {
      my $line = <$s>;
      defined $line or next CLIENT;
      print $log $line;
      syswrite $s, $answers[$i];
    } until (!defined $until[$i] || -e $until[$i]);
  }
}
END
fake () {
  perl "$tmp/fake.pl" "$tmp/asked" "$tmp/fake.ctl" "$@" &
  fake_pid=$!
  ctl=$tmp/fake.ctl
  wait_for 120 test -S "$ctl" || fail "a fake server starts"
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
rm -f "$tmp/screen"
on_terminal "$tmp/screen" -t 86400 watch -n 0.1 &
watch_pid=$!
check "watch: a picture of that" wait_for 120 has_pictures "$tmp/screen" 1
sleep 0.3
printf '\003' >&9
wait "$watch_pid"
check "watch: Ctrl-C does not wait for an answer" is_equal $? 0
end_fake

#----------------------------------------------------------------------
# Compactions that take as long as the test wants.

# compact_answer STATE RETURNED RECLAIMABLE
compact_answer () {
  printf 'body "compact_state %s\\ncompact_moved_objects 12345\\n' "$1"
  printf 'compact_copied_bytes 1048576\\ncompact_returned_bytes %s\\n' "$2"
  printf 'compact_released_zspages 7\\ncompact_skipped_objects 1\\n'
  printf 'compact_running_microseconds 2000\\nreclaimable_bytes %s\\n"' "$3"
}
running=$(compact_answer running $M $((3 * M)))
finished=$(compact_answer finished $((4 * M)) 4096)
asked () { [ "$(wc -l <"$tmp/asked")" -ge "$1" ]; }
line_begin=$'\r\e[K'
has_bar () { grep -qF ' 25.0 %' "$1"; }

fake "$finished"
report=$(zmemctl compact)
check "compact: a table" is_equal "$report" "\
compaction       finished
moved              12,345   objects, 1.0 MiB
gave back         4.0 MiB   zspages emptied: 7
skipped                 1   objects, busy
took                 2 ms   500.0 MiB/s copied
reclaimable       4.0 KiB   still"
on_terminal "$tmp/screen" compact
check "compact: no bar where it is over at once" \
      not grep -qF "$line_begin" "$tmp/screen"
end_fake

fake "$running"
check "compact status does not wait" matches "$(zmemctl compact status)" \
      '^compaction +running$'
check "it asked for that" is_equal "$(cat "$tmp/asked")" "compact status"
end_fake

rm -f "$tmp/go"
fake "until $tmp/go $running" "$finished"
rm -f "$tmp/screen"
on_terminal "$tmp/screen" compact wait class 0100 &
compact_pid=$!
check "compact: a bar on the terminal" wait_for 120 has_bar "$tmp/screen"
touch "$tmp/go"
wait "$compact_pid"
check "compact: its end is a good one" is_equal $? 0
screen=$(tr -d '\n' <"$tmp/screen")
check "compact: the bar is as far as it is" matches "$screen" \
      '#+\.+ +25\.0 % +1\.0 MiB given back .*/s copied'
check "compact: the bar goes" matches "${screen##*"$line_begin"}" \
      '^compaction +finished'
check "compact: what was asked" is_equal "$(sort -u "$tmp/asked")" \
      "$(printf 'compact class 0100\ncompact status')"
check "compact: waiting is not the server's" \
      is_equal "$(head -n 1 "$tmp/asked")" "compact class 0100"
end_fake

rm -f "$tmp/go"
fake "until $tmp/go $running" "$finished"
zmemctl --json compact >"$tmp/out" 2>"$tmp/err" &
compact_pid=$!
check "compact: it looks again and again" wait_for 120 asked 9
touch "$tmp/go"
wait "$compact_pid"
check "compact: a good end in JSON" is_equal $? 0
check "compact: JSON when finished, once" matches "$(cat "$tmp/out")" \
      '^\{"compact_state": "finished", .*"reclaimable_bytes": 4096\}$'
check "compact: no bar where there is no terminal" \
      is_equal "$(cat "$tmp/err")" ""
end_fake

fake "until $tmp/never $running"
rm -f "$tmp/screen"
on_terminal "$tmp/screen" -t 86400 compact &
compact_pid=$!
check "compact: a bar again" wait_for 120 has_bar "$tmp/screen"
printf '\003' >&9
wait "$compact_pid"
check "compact: Ctrl-C ends the watching" is_equal $? 1
screen=$(cat "$tmp/screen")
check "compact: and says that the compaction goes on" \
      matches "${screen##*"$line_begin"}" \
      '^zmemctl: it goes on .*"zmemctl compact status" tells'
end_fake

fake "$running" "$running"
check_fails "compact: a server that falls silent" 'did not answer within' \
            zmemctl -t 0.5 compact
end_fake
fake "$running" 'error no\n'
check_fails "compact: a server that refuses later" '^zmemctl: no$' \
            zmemctl compact
end_fake
fake 'ok 47\nmoved 0 objects: this version does not compact\n'
check_fails "compact: a server that does not" \
            'is no report that this zmemctl knows: "zmemctl raw compact"' \
            zmemctl compact
end_fake
exec 9>&-

#----------------------------------------------------------------------
# Classes and maps that are not those of a real server.

columns='class object_bytes objects inuse zspages resident_bytes wasted_bytes'
row='5 96 21840 9 8 81920 40960'
fake "body \"$columns fullness\\n$row 1,0,0,1,0,0,0,0,6\\n\""
check "classes of an older server, without groups" is_equal \
      "$(COLUMNS=70 zmemctl classes --all | head -n 2 | tail -n 1)" \
      "96                      9         8   80.0 KiB   50.0 %   ######......"
end_fake
fake "body \"$columns group0 group1 group2 group3 group4 group5 group6 group7\
 full\\n$row 1 0 0 1 0 0 0 0 6\\n\""
check "classes with groups" matches "$(zmemctl classes)" \
      '^all +9 +8 +80\.0 KiB +50\.0 %  \|:  :    #\|$'
check "classes: higher blocks where the locale has them" matches \
      "$(LC_ALL=C.UTF-8 zmemctl classes)" \
      $'\\|\xe2\x96\x82  \xe2\x96\x82    \xe2\x96\x87\\|'
end_fake

stats='body "held_bytes 1048576\n"'
map_head='"object_bytes objects_per_zspage zspages map\n"'
# map_of EXPRESSION: of a server with that behind the head; to $tmp/fake.svg.
map_of () {
  fake "$stats" "body $map_head . $1"
  rm -f "$tmp/fake.svg"
  zmemctl map -o "$tmp/fake.svg"
  local status=$?
  end_fake
  return "$status"
}
check "map of an empty pool" map_of '""'
check "map of nothing is well-formed, too" is_well_formed "$tmp/fake.svg"
check "map: it says that there is nothing" \
      grep -q 'no objects are stored' "$tmp/fake.svg"
check "map: without what an older server does not tell" \
      grep -q '>zmem: held 1\.0 MiB</text>' "$tmp/fake.svg"

check "map of four zspages" map_of '"16 16384 4 ff40fe2080010000\n"'
svg=$(cat "$tmp/fake.svg")
check "map: full and resident" matches "$svg" \
      'class="c15" d="M200 [0-9]+h5v-16h-5z"'
check "map: nearly full is another colour, and half as high" matches "$svg" \
      'class="c14" d="M206 [0-9]+h5v-8h-5z"'
check "map: a single page is seen" matches "$svg" \
      'class="c7" d="M212 [0-9]+h5v-1h-5z"'
check "map: none is not" is_equal "$(count_cells "$tmp/fake.svg")" 3

# 100000 in at most 1024 cells: 98 a cell, and 40 in the last.
check "map of a large class" \
      map_of '"4096 64 100000 " . "ff40" x 100000 . "\n"'
check "map: it says what a cell stands for" grep -q '>98</text>' \
      "$tmp/fake.svg"
check "map: and has as many cells" is_equal \
      "$(count_cells "$tmp/fake.svg")" 1021
check "map: the mean of full ones is full" \
      not grep -qE 'path class="c([0-9]|1[0-4])"' "$tmp/fake.svg"

# 200 in at most 24000 cells: 120 each, so 9 a cell, and 112 cells each.
# shellcheck disable=SC2016
check "map of many large classes" map_of \
      'join "", map { 16 * $_ . " 64 1000 " . "804080208010" x 250
                      . "8000" x 250 . "\n" } 1 .. 200'
check "map: of all together there are not too many cells" \
      is_equal "$(count_cells "$tmp/fake.svg")" $((84 * 200))
check "map: so the file is not too large" \
      at_most "$(wc -c <"$tmp/fake.svg")" $M
check "map: well-formed however large" is_well_formed "$tmp/fake.svg"

for line in '"4096 64 2 ff40\n"' '"4096 64 1 ff41\n"' '"4096 64 1 ffxx\n"' \
            '"4096 64\n"' '"4096 64 1 ff4\n"'; do
  check_fails "map: not understood: $line" \
              'is no map that this zmemctl knows' map_of "$line"
  check "map: and no picture of it" not test -e "$tmp/fake.svg"
done
fake "$stats" 'error there is no command\n'
check_fails "map: a server without it" '^zmemctl: there is no command$' \
            zmemctl map -o "$tmp/fake.svg"
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
