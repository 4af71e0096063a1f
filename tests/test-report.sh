#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# bench/report.pl: on made-up results, whose medians, ratios and verdicts were
# worked out by hand, it says just these, as text, markdown and JSON; its plots
# are well-formed and show what is there; a file with next to nothing in it
# will do, and one that is broken is refused with the number of the line.
#
# Functions and perl are given to check:
# shellcheck disable=SC2016,SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl

report () { bounded perl "$srcdir/bench/report.pl" "$@"; }
results=$tmp/results.jsonl

# load ROUND SERVER PHASE OPS_S [MORE]: a line of that type.
load () {
  printf '{"type": "load", "round": %s, "server": "%s", "phase": "%s", ' \
         "$1" "$2" "$3"
  printf '"ops_s": %s%s}\n' "$4" "${5:+, $5}"
}

# loads SERVER PHASE MEMBER VALUE...: a line a round, with MEMBER, or if that
# is ops_s nothing else.
loads () {
  local server=$1 phase=$2 member=$3 round=0 value
  shift 3
  for value; do
    round=$((round + 1))
    if [ "$member" = ops_s ]; then
      load $round "$server" "$phase" "$value"
    else
      load $round "$server" "$phase" 1000 "\"$member\": $value"
    fi
  done
}

held () {
  printf '{"type": "held", "round": %s, "server": "%s", "phase": "%s", ' \
         "$1" "$2" "$3"
  printf '"held_mib": %s, "baseline_mib": 9}\n' "$4"
}

# timeline SERVER: two samples of each of two phases.
timeline () {
  local t=0 phase
  for phase in fill trim; do
    printf '{"type": "mark", "round": 1, "server": "%s", "t_s": %s, ' "$1" $t
    printf '"phase": "%s"}\n' $phase
    for t in $((t + 1)) $((t + 2)); do
      printf '{"type": "sample", "round": 1, "server": "%s", ' "$1"
      printf '"t_s": %s, "held_mib": %s}\n' $t $((40 + t))
    done
  done
}

percentiles='"percentiles_us": [[50, 100], [99, 300], [99.9, 900]],
  "p50_us": 100, "p99_us": 300, "p999_us": 900, "max_us": 5000'
percentiles=${percentiles//$'\n'/}

make_results () {
  echo '{"type": "run", "machine": "a made-up one", "zstd": "1.5.40",' \
       '"rounds": 3}'

  # Ratios 1.1, 0.6, 0.96: their median misses 0.97.  (120 / 200, the ratio
  # of the medians, is another.)
  loads malloc randread ops_s 100000 200000 400000
  loads zmem randread ops_s 110000 120000 384000
  # 3, 1.9 and 1.8: just reached.
  loads zram randread ops_s 36666.5 63157.89 213333
  # 97 of 100, where 0.97 is the aim.
  loads malloc mixed ops_s 100000
  loads zmem mixed ops_s 97000
  # Two rounds: the median is between 13 and 16.
  loads zstd randwrite ops_s 10000 10000
  loads zmem randwrite ops_s 130000 160000
  # In MiB/s.
  load 1 malloc seqread256 8000 '"mib_s": 2000'
  load 1 zmem seqread256 4000 '"mib_s": 1000'

  # Differences 2, 3.5, 2: within 3.  And 8.5, beyond 8.
  loads malloc latread p50_us 40 50 60
  loads zmem latread p50_us 42 53.5 62
  loads malloc latwrite p50_us 50
  loads zmem latwrite p50_us 58.5

  # (11 - 8) / 2.5 of a decode is 1.2; (16 - 10) / 4 of an encode 1.5.
  echo '{"type": "codec", "name": "zstd:1", "encode_us": 9, "decode_us": 9}'
  echo '{"type": "codec", "name": "lz4:1", "encode_us": 4, "decode_us": 2.5}'
  load 4 null randread 1000 '"server_cpu_us": 8'
  load 4 zmem randread 1000 '"server_cpu_us": 11'
  load 4 null randwrite 1000 '"server_cpu_us": 10'
  load 4 zmem randwrite 1000 '"server_cpu_us": 16'

  load 5 zmem randread 1000 "$percentiles"
  load 1 zmem randread-c8 64000
  load 1 zmem randread-c1 16000
  load 1 malloc randread-c8 80000
  held 1 zmem fill 70
  held 2 zmem fill 74
  timeline zmem
  timeline zram
  echo '{"type": "stratum", "round": 1, "stratum": "libs", "server": "zmem",' \
       '"mib": 64, "held_mib": 24, "read_ops_s": 5, "write_ops_s": null}'
  echo '{"type": "stratum", "round": 1, "stratum": "libs", "server": "zram",' \
       '"mib": 64, "held_mib": 32}'
  for x in 1 10 100; do
    echo '{"type": "scale", "what": "size '\''<&|", "x": '$x', "x_name":' \
         '"GiB", "series": "zmem", "y": '$x', "y_name": "100% of `id` | MiB"}'
    echo '{"type": "scale", "what": "size '\''<&|", "x": '$x', "x_name":' \
         '"GiB", "series": "a '\''<b>", "y": 7, "y_name":' \
         '"100% of `id` | MiB"}'
  done
}
make_results >"$results"

#----------------------------------------------------------------------
# Numbers.

check "a report is made" report --json "$tmp/json" --text "$tmp/text" \
      "$results"
report "$results" >"$tmp/stdout"
check "--text is what standard output gets" cmp "$tmp/text" "$tmp/stdout"
check "JSON is JSON" perl -MJSON::PP -0 -ne 'decode_json($_)' "$tmp/json"
check "no line is longer than 100 columns" perl -CS -ne \
      'die "line $.\n" if length > 101' "$tmp/text"

# json EXPRESSION: what it is of the document $d, which perl is to print;
# aim (PHASE, OF, TO) finds an aim that was judged.
json () {
  perl -MJSON::PP -e '
    sub aim { my ($p, $o, $t) = @_;
      (grep { "$_->{phase} $_->{of} $_->{to} $_->{how}" =~ /^$p $o $t/ }
        @{$d->{aims}})[0] }
    sub row { my ($of, $p) = @_;
      (grep { $_->{phase} eq $p } @{$d->{$of}})[0] }
    sub told { my ($s) = @_; join " ", @$s{qw(median min max n)} }
    open my $f, "<", shift; local $/; $d = decode_json(<$f>);
    print eval(shift) // $@' "$1" "$2"
}
says () { check "$1" is_equal "$(json "$tmp/json" "$2")" "$3"; }

says "a median with its spread" \
     'told(row("throughput", "mixed")->{servers}{zmem})' "97000 97000 97000 1"
says "a ratio is the median of the ratios within a round" \
     'told(aim("randread", "zmem", "malloc")->{spread})' "0.96 0.6 1.1 3"
says "a ratio is the same in the row of its phase" \
     'told(row("throughput", "randread")->{ratios}{"zmem/malloc"})' \
     "0.96 0.6 1.1 3"
says "an even number of rounds" \
     'told(aim("randwrite", "zmem", "zstd")->{spread})' "14.5 13 16 2"
says "a latency's difference is taken within a round" \
     'told(aim("latread", "zmem", "malloc")->{spread})' "2 2 3.5 3"
says "processor time beyond null, over the codec's" \
     'told(aim("randread", "zmem", "null")->{spread})' "1.2 1.2 1.2 1"
says "phases of 256K are in MiB/s" \
     'row("throughput", "seqread256")->{unit} .
        row("throughput", "seqread256")->{servers}{zmem}{median}' "MiB/s1000"
says "held memory" 'told(row("held", "fill")->{servers}{zmem})' "72 70 74 2"
says "growth" 'join " ", map { $_->{growth} }
                 @{$d->{scale}[0]{measures}[0]{series}}' "1 0"
says "a version is no number" '$d->{run}{zstd}' "1.5.40"

verdicts='join ", ", map { "$_->{phase} $_->{of}/$_->{to} " .
            ($_->{reached} ? "yes" : "no") } @{$d->{aims}}'
says "verdicts" "$verdicts" \
     "randread zmem/malloc no, randread zmem/zram yes, \
randwrite zmem/zstd yes, mixed zmem/malloc yes, seqread256 zmem/malloc no, \
latread zmem/malloc yes, latwrite zmem/malloc no, randread zmem/null yes, \
randwrite zmem/null no"
says "what was not measured is no verdict" \
     '@{$d->{aims}} + @{$d->{aims_not_measured}}' 21

# The same, for people.
text=$(cat "$tmp/text")
says_text () { check "text: $1" matches "$text" "$2"; }
says_text "the account" '^5 of 9 reached; 12 more were not measured'
says_text "an aim that was missed" \
  '^randread +zmem/malloc +0\.960 +0\.600\.\.1\.100 +>= 0\.97 +NOT reached$'
says_text "an aim that was reached" \
  '^randread +zmem/zram +1\.900 .*>= 1\.9 +floor +reached$'
says_text "a difference" \
  '^latread +zmem - malloc, p50 +2\.0 us +2\.0\.\.3\.5 +<= 3 us +reached$'
# 70 and 74: 2 of 72 are 2.8 %.
says_text "a median and its spread in percent" '^fill +72\.0 ±3%$'
says_text "connections, the fewest first" '^c1 +- +16\.0k +-$'
says_text "connections and the ratio" '^c8 +80\.0k +64\.0k +0\.80$'
says_text "a stratum" '^libs +64\.0 +32\.0 \(50%\) +24\.0 \(38%\) +0\.75$'
says_text "the kind of run" '^machine +a made-up one$'
check "text: no row for what was not measured" not grep -qE \
      'swap|sparse|zmem-zstd|Errors' "$tmp/text"

markdown=$(report --markdown "$results")
check "markdown: a table" matches "$markdown" '^\| --- \| ---: \|'
check "markdown: a row" matches "$markdown" \
  '^\| randread \| zmem/malloc \| 0\.960 \| 0\.600\.\.1\.100 \| >= 0\.97 \|'
check "markdown: no bar from a name ends a cell" matches "$markdown" \
      "^### Scale: size '&lt;&amp;\\\\\\|, by GiB"

# Whoever returned wrong data has reached nothing.
sed '/"zmem", "phase": "mixed"/s/}$/, "wrong": 2}/' "$results" >"$tmp/wrong"
check "wrong data is reported" report --json "$tmp/json" --text "$tmp/text" \
      "$tmp/wrong"
says "wrong data: not reached" \
     'aim("mixed", "zmem", "malloc")->{reached} ? "yes" : "no"' no
check "wrong data: said" grep -qE '^mixed +zmem +1 +0 +2$' "$tmp/text"

#----------------------------------------------------------------------
# Little in it, and what is no results file.

load 1 zmem fill 12345 >"$tmp/one"
check "one phase of one server" report --json "$tmp/json" --text "$tmp/text" \
      "$tmp/one"
check "just that is told" is_equal "$(tail -n 3 "$tmp/text" | tr -s ' -')" \
      "$(printf ' zmem\n- -\nfill 12.3k' | tr -s ' -')"
says "no aim was judged" 'scalar @{$d->{aims}}' 0

{ cat "$tmp/one"; echo '{"type": "rumour"}'; echo '{"type": "rumour"}'; } \
  >"$tmp/unknown"
report "$tmp/unknown" >"$tmp/out" 2>"$tmp/err"
check "unknown types do not matter" is_equal "$?" 0
check "but for one warning" is_equal "$(grep -c 'line 2 .*rumour' "$tmp/err") \
$(wc -l <"$tmp/err")" "1 1"

refuses () {
  { cat "$tmp/one"; printf '%s\n' "$3"; } >"$tmp/broken"
  check_fails "refused: $1" "line 2: $2" report "$tmp/broken"
}
refuses "half a line" "no JSON" '{"type": "load", "round": 1'
refuses "no object" "no JSON" '[1, 2]'
refuses "no type" "no .type" '{"round": 1}'
refuses "no number" '"ops_s" of type load should be a number' \
        "$(load 1 zmem fill '"many"')"
refuses "a number that is none" '"p50_us" of type load should be a number' \
        "$(load 1 zmem fill 1 '"p50_us": "inf"')"
refuses "a missing member" '"held_mib" of type held should be a number' \
        '{"type": "held", "round": 1, "server": "zmem", "phase": "fill"}'
refuses "a name of two lines" '"server" of type load should be a name' \
        "$(load 1 'z\nmem' fill 1)"
refuses "odd percentiles" ".percentiles_us. of type load should be a list of" \
        "$(load 1 zmem fill 1 '"percentiles_us": [50, 3]')"
{ echo '{"type": "run"}'; echo '{"type": "run"}'; } >"$tmp/broken"
check_fails "refused: two runs" "line 2: a second run" report "$tmp/broken"
: >"$tmp/broken"
check_fails "refused: nothing" "no results" report "$tmp/broken"
check_fails "refused: no such file" "$tmp/none: No such file" \
            report "$tmp/none"
check_fails "refused: no file" "no results file" report
check_fails "refused: two files" "one results file, not 2" report a b
check_fails "JSON that cannot be written" "/none/json: No such" \
            report --json "$tmp/none/json" "$results"

#----------------------------------------------------------------------
# Plots.

perl=$(type -P perl)
# without_gnuplot ARG...: with nothing on the path.
without_gnuplot () {
  PATH=$tmp/none "$perl" "$srcdir/bench/report.pl" "$@"
}
check_fails "without gnuplot there are no plots" "no gnuplot" \
            without_gnuplot --plots "$tmp/plots" "$results"
check "but all else" without_gnuplot --plots "$tmp/plots" \
      --json "$tmp/json" "$results"
check "no folder for no plots" not test -e "$tmp/plots"
if ! type -P gnuplot >/dev/null; then
  echo "no gnuplot: the plots are not tested"
  finish
fi

is_svg () {
  if type -P xmllint >/dev/null; then
    xmllint --noout "$1" || return
  fi
  perl -0 -ne '
    s/<\?.*?\?>|<!--.*?-->|<!DOCTYPE.*?>//gs;
    while (/<(\/?)([\w:]+)[^<>]*?(\/?)>/g) {
      if ($1) { pop @open eq $2 or die "</$2> ends another\n" }
      elsif (!$3) { push @open, $2 }
    }
    die "<$open[-1]> has no end\n" if @open;
    die "no svg\n" unless /<svg/;' "$1"
}

mkdir "$tmp/scratch"
check "plots are made" env TMPDIR="$tmp/scratch" \
      "$perl" "$srcdir/bench/report.pl" --plots "$tmp/plots" "$results"
check "nothing is left of what they were made from" \
      is_equal "$(ls -A "$tmp/scratch")" ""
check "those for which there is something" is_equal \
      "$(cd "$tmp/plots" && echo *)" \
      "connections-depth.svg held.svg latency-one.svg latency.svg \
scale-size.svg strata.svg throughput.svg"
for file in "$tmp"/plots/*.svg; do
  check "${file##*/} is XML" is_svg "$file"
  check "${file##*/} shows zmem in its colour" \
        grep -qiE 'rgb\( *213, *94, *0\)|#d55e00' "$file"
done
shows () { check "$1 shows $2" grep -qF -- "$2" "$tmp/plots/$1.svg"; }
shows throughput 'random read'
shows throughput '>0.96<'
shows throughput '>aim<'
shows latency '99.99'
shows latency-one '>53.5<'
shows held '>trim<'
shows connections-depth 'random read by connections'
shows strata '>38<'
shows scale-size "100% of \`id\` | MiB"

sed 's/"ops_s": 384000/"ops_s": 399000/' "$results" >"$tmp/other"
check "plots of other results" report --plots "$tmp/plots2" "$tmp/other"
check "differ where the results do" not cmp -s "$tmp/plots/throughput.svg" \
      "$tmp/plots2/throughput.svg"
check "and only there" cmp "$tmp/plots/held.svg" "$tmp/plots2/held.svg"

check "plots of one phase" report --plots "$tmp/plots3" "$tmp/one"
check "plots of one phase: throughput" is_equal "$(ls "$tmp/plots3")" \
      throughput.svg
check "plots of one phase: XML" is_svg "$tmp/plots3/throughput.svg"
check_fails "a folder that cannot be" "$tmp/one/plots" \
            report --plots "$tmp/one/plots" "$results"

finish
