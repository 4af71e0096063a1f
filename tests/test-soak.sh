#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Mixed load for a while, with memory, latency, descriptors and threads
# written down after each round; at the end nothing of it may have grown.
#
#   ZMEM_SECONDS    how long [10]; an hour is the long form:
#                     make check TESTS=tests/test-soak.sh ZMEM_SECONDS=3600 \
#                                ZMEM_SOAK=/var/tmp/soak
#   ZMEM_SOAK       a folder for soak.tsv and soak.svg (gnuplot) [none]
#
# A round: 4 connections, 16 requests in flight on each, in turn 70 % reads
# and 30 % writes, the pattern of swap, writes with trims, and parts of blocks
# (nbd-load, which compares all that it reads with what must be there, from
# the first round to the last); then some clients that are killed at random
# (nbd-kills), in a part of the disk of their own.
#
# Flat: of each column the median of the last quarter of the rounds is, beside
# the median of the first quarter,
#
#   held, resident memory    at most 1.05 of it and 2 MiB; of less than two
#                            minutes: 1.5 of it
#   descriptors, threads     no more
#   p50, p99                 at most 1.5 and 2 of it; of 40 rounds or more
#                            only: a short run asks nothing of the clock
#
# The first two rounds do not count.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
load=$top_builddir/bench/nbd-load
kills=$top_builddir/tests/nbd-kills
[ -x "$load" ] || skip "this test needs libnbd's headers at build time"
requires perl

seconds=${ZMEM_SECONDS:-10}
folder=${ZMEM_SOAK:-$tmp}
mkdir -p "$folder" || skip "cannot write to $folder"
readonly tsv=$folder/soak.tsv corpus=$tmp/corpus
readonly corpus_mib=24 warm_up_rounds=2 min_rounds_for_latency=40
# Of a short run the disk still settles while it is looked at.
phase_seconds=0.1 nr_kills=3 memory_factor=1.5
if [ "$seconds" -ge 120 ]; then
  phase_seconds=1 nr_kills=6 memory_factor=1.05
fi

mixed_file "$corpus" $((corpus_mib * M / 2))
text_file "$tmp/text" $((corpus_mib * M / 2))
cat "$tmp/text" >>"$corpus"

# One number of a line of JSON.
json_number () { sed -n "s/.*\"$2\": \([0-9.]*\).*/\1/p" <<<"$1"; }

# mix [fill,]: the seed stays: with the state it says what must be on the disk.
mix () {
  bounded "$load" --verify --state "$tmp/state" --corpus "$corpus" \
          --connections 4 --depth 16 --seconds $phase_seconds --seed "$seed" \
          --json --workload "${1}mixed,swap,churn,part" "$uri" \
          >"$tmp/mix.json"
}

kill_some () {
  bounded "$kills" "$sock" "$ctl" $nr_kills $((corpus_mib * M)) "$1" \
          >"$tmp/kills.out"
}

# Once those who were killed have gone: what is left.
sample () {
  local mixed
  mixed=$(grep '"workload": "mixed"' "$tmp/mix.json")
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' $((SECONDS - began)) \
    "$(held_bytes)" "$(process_bytes "$server_pid" VmRSS)" "$(nr_fds)" \
    "$(nr_threads)" "$(json_number "$mixed" p50_us)" \
    "$(json_number "$mixed" p99_us)" >>"$tsv"
}

start_server size=$(((corpus_mib + 4) * M)) limit=48M
printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' seconds held_bytes resident_bytes \
       descriptors threads p50_us p99_us >"$tsv"
seed=$RANDOM
echo "seed $seed"
began=$SECONDS
rounds=0
went_well=yes
while [ $((SECONDS - began)) -lt "$seconds" ] ||
      [ $rounds -lt $((warm_up_rounds + 4)) ]; do
  fill=
  [ $rounds -gt 0 ] || fill=fill,
  if ! mix "$fill" 2>"$tmp/round.err" ||
     ! kill_some $((seed + rounds)) 2>>"$tmp/round.err" ||
     ! wait_for 20 clients_have_gone; then
    went_well=no
    break
  fi
  rounds=$((rounds + 1))
  [ $rounds -le $warm_up_rounds ] || sample
done
check "$rounds rounds: all that was read is what was written" \
      is_equal "$went_well $(head -c 400 "$tmp/round.err" |
                               grep -v ZMEM_SEED=)" "yes "
check "nothing failed its checksum" is_equal \
      "$(stat_value checksum_failures)" 0
check "the limit held" at_most "$(stat_value held_highest_bytes)" $((48 * M))

# is_flat FILE COLUMN FACTOR SLACK
is_flat () {
  perl -e '
    my ($file, $column, $factor, $slack) = @ARGV;
    sub median { my @v = sort { $a <=> $b } @_; return $v[$#v / 2]; }
    open my $in, "<", $file or die "$file: $!\n";
    my @names = split /\s+/, <$in>;
    my ($nr) = grep { $names[$_] eq $column } 0 .. $#names;
    my @v = map { (split)[$nr] } <$in>;
    my $quarter = int((@v + 3) / 4);
    my $first = median(@v[0 .. $quarter - 1]);
    my $last = median(@v[@v - $quarter .. $#v]);
    print "$column: first quarter $first, last $last, ",
      scalar @v, " rounds\n";
    exit($last <= $first * $factor + $slack ? 0 : 1)' "$@"
}

flat () {
  check "$1 is flat" is_flat "$tsv" "$@"
  sed 's/^/    /' "$tmp/check.out"
}
flat held_bytes $memory_factor $((2 * M))
flat resident_bytes $memory_factor $((2 * M))
flat descriptors 1 0
flat threads 1 0
if [ $rounds -ge $((warm_up_rounds + min_rounds_for_latency)) ]; then
  flat p50_us 1.5 0
  flat p99_us 2 0
fi

# The rule sees what grows.
awk -F '\t' -v OFS='\t' 'NR > 1 { $4 += NR } 1' "$tsv" >"$tmp/grown.tsv"
check "descriptors that grow are not flat" not \
      is_flat "$tmp/grown.tsv" descriptors 1 0

plot () {
  gnuplot <<END
set terminal svg size 900,1000 dynamic background rgb 'white'
set output '$folder/soak.svg'
set multiplot layout 5,1 title 'zmem under mixed load, $rounds rounds'
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror
set yrange [0:*]
unset key
set ylabel 'MiB held'
plot '$tsv' skip 1 using 1:(\$2/1048576) with lines lw 2 lc rgb '#d55e00'
set ylabel 'MiB resident'
plot '$tsv' skip 1 using 1:(\$3/1048576) with lines lw 2 lc rgb '#d55e00'
set ylabel 'descriptors'
plot '$tsv' skip 1 using 1:4 with lines lw 2 lc rgb '#0072b2'
set ylabel 'threads'
plot '$tsv' skip 1 using 1:5 with lines lw 2 lc rgb '#0072b2'
set ylabel 'us, p50 and p99'
set xlabel 'seconds'
set logscale y
set yrange [*:*]
plot '$tsv' skip 1 using 1:6 with lines lw 2 lc rgb '#009e73', \
     '$tsv' skip 1 using 1:7 with lines lw 2 lc rgb '#882255'
END
}
if type -P gnuplot >/dev/null; then
  check "a plot" plot
  check "it is one" grep -q '</svg>' "$folder/soak.svg"
fi
stop_server
finish
