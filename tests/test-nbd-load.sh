#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The client of the benchmark (bench/nbd-load.c): each of its workloads finds
# right what is right, wrong what is wrong, and tells its results in JSON;
# what it knows of a disk outlasts it in a file; and what is asked of it
# wrongly is refused by one sentence.
#
# Functions are given to check, and conditions to perl:
# shellcheck disable=SC2317,SC2016

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit qemu-io perl
perl -MJSON::PP -e 1 2>/dev/null || skip "this test needs perl's JSON::PP"
load=$top_builddir/bench/nbd-load
[ -x "$load" ] || skip "this test needs libnbd's headers at build time"

corpus=$tmp/corpus
mixed_file "$corpus" $((8 * M))

# run_load ARGUMENTS...: on the current server, with what all runs have in
# common.  Afterwards: load.out, load.err, load_status.
run_load () {
  bounded "$load" --corpus "$corpus" --depth 8 --json "$@" "$uri" \
          >"$tmp/load.out" 2>"$tmp/load.err" </dev/null
  load_status=$?
}

# The last run's lines, each of a workload of its list, as perl sees them:
# true if the condition is true of each.  $l is the object.
all_lines () {
  perl -MJSON::PP -e '
    use strict; use warnings;
    my ($condition, $file) = @ARGV;
    open my $in, "<", $file or die "$file: $!\n";
    my ($nr, $failed) = (0, 0);
    while (my $line = <$in>) {
      our $l = decode_json ($line);
      $nr++;
      my $true = eval "no strict; $condition";
      die $@ if $@;
      unless ($true) { print "not true: $condition\n$line"; $failed = 1 }
    }
    print "no lines\n" unless $nr;
    exit ($failed || !$nr)' "$1" "$tmp/load.out" || {
      head -n 3 "$tmp/load.err"
      return 1
    }
}

# ended STATUS [REGEX]: so ended the last run, and, with a regex, its
# standard error is one line that matches; else it is empty.
ended () {
  cat "$tmp/load.err"
  is_equal "exit status $load_status" "exit status $1" &&
    if [ $# -ge 2 ]; then
      is_equal "$(wc -l <"$tmp/load.err") line" "1 line" &&
        grep -Eq -e "$2" "$tmp/load.err"
    else
      [ ! -s "$tmp/load.err" ]
    fi
}

# start_nbdkit NAME ARGUMENTS...: a server that is not zmem.
start_nbdkit () {
  local name=$1
  shift
  if ! launch "$name" -U "$tmp/$name.sock" "$@"; then
    fail "nbdkit $1 starts" "$tmp/$name.log"
    finish
  fi
}

has_plugin () { nbdkit "$1" --dump-plugin >/dev/null 2>&1; }

# What there is, from the sentence that says it.
bounded "$load" --workload none --corpus "$corpus" "$uri" 2>"$tmp/load.err"
workloads=$(sed -n 's/.*--workload takes \(.*\), or several.*/\1/p' \
                "$tmp/load.err" | tr -d ' ')
for name in fill fill256 randread randwrite mixed churn part swap trimhalf \
            trim256 seqread256 seqwrite256; do
  check "there is $name" matches ",$workloads," ",$name,"
done

#----------------------------------------------------------------------
# A server that is right.

start_server size=32M
state=$tmp/main.state

# Each after another that left something behind.
run_load --verify --state "$state" --ops 1500 --server-pid "$server_pid" \
         --workload "$workloads,part,swap,churn,part,mixed"
check "all workloads: nothing is wrong" ended 0
check "all were run" is_equal "$(sed 's/^{"workload": "\([^"]*\)".*/\1/' \
      "$tmp/load.out" | paste -sd,)" "$workloads,part,swap,churn,part,mixed"
check "none has errors" all_lines '$l->{errors} == 0 && $l->{wrong} == 0'
check "the number of requests is what was asked for" all_lines \
      'my %once = (fill => 2048, fill256 => 32, trimhalf => 1024,
                   trim256 => 16);
       $l->{ops} == ($once{$l->{workload}} // 1500)'
check "the shape is told" all_lines \
      '$l->{connections} == 2 && $l->{depth} == 8'
check "the rate is requests by seconds" all_lines \
      '$l->{seconds} > 0 &&
       abs ($l->{ops_s} - $l->{ops} / $l->{seconds}) <= 1 + $l->{ops_s} / 100'
check "the server used a processor" all_lines '$l->{server_cpu_us} > 0'
check "the percentiles are those that are documented" all_lines \
      'join (" ", map { $_->[0] } @{$l->{percentiles_us}}) eq
       "1 5 10 25 50 75 90 95 99 99.5 99.9 99.99 100"'
check "they never fall" all_lines \
      'my $last = 0;
       ! grep { my $f = $_->[1] < $last; $last = $_->[1]; $f }
         @{$l->{percentiles_us}}'
check "and agree with those that are told by name" all_lines \
      'my %p = map { @$_ } @{$l->{percentiles_us}};
       $p{50} == $l->{p50_us} && $p{99} == $l->{p99_us} &&
       $p{99.9} == $l->{p999_us} && $p{100} == $l->{max_us}'
check "kinds of requests add up to all" all_lines \
      '$l->{workload} !~ /^(mixed|churn|part|swap)$/ ||
       $l->{read_ops} + $l->{write_ops} + $l->{trim_ops} == $l->{ops}'
check "swap reads, writes and trims as it says" all_lines \
      '$l->{workload} ne "swap" ||
       ($l->{read_ops} > 750 && $l->{write_ops} > 250 &&
        $l->{trim_ops} > 150)'
# Of 512 to 3584 bytes, each as likely: 2048 on average.  mib_s has one digit
# after the point.
check "part moves parts of blocks" all_lines \
      'my $mib = 1500 * 2048 / 1048576;
       $l->{workload} ne "part" ||
       abs ($l->{mib_s} * $l->{seconds} - $mib) <
         $mib / 10 + 0.05 * $l->{seconds}'
check "the server saw parts of blocks written" at_least \
      "$(stat_value partial_writes)" 1000

# What is known of the disk outlasts the client; parts and wholes.
run_load --verify --state "$state" --workload seqread256,randread --ops 400
check "a later run knows what is on the disk" ended 0
check "it has no processor time that was not asked for" all_lines \
      '!exists $l->{server_cpu_us} && $l->{wrong} == 0'
run_load --verify --workload seqread256 --ops 32
check "a run without that knows of zeros alone" ended 1 'WRONG DATA$'
check "and finds wrong what is not" all_lines '$l->{wrong} > 500'

# By time, at a bounded rate, and as text.  However short, it is measured.
run_load --workload randread,randwrite --seconds 0.000001 \
         --server-pid "$server_pid"
check "each connection has a request at least" all_lines \
      '$l->{ops} >= $l->{connections} && $l->{server_cpu_us} > 0'
run_load --workload randread --seconds 0.3 --rate 1000
check "a bounded rate is kept" all_lines \
      '$l->{ops} > 0 && $l->{ops} <= 1000 * $l->{seconds} + 2'
text=$(bounded "$load" --corpus "$corpus" --ops 500 --workload churn \
               --server-pid "$server_pid" "$uri")
check "text tells the same" matches "$text" \
      '^churn +500 ops .* us: p50 .* server CPU [0-9.]+ us/op  errors 0 wrong 0'
check "and kinds of requests" matches "$text" '^  read +[0-9]+ ops  us: p50 '
stop_server

# Refused writes change nothing, and the client knows.
start_server_as full size=32M limit=6M compress=none
run_load --workload fill,part,randwrite --ops 2000 --verify \
         --state "$tmp/full.state"
check "writes that are refused are errors" ended 1 'No space left on device$'
check "they are counted" all_lines '$l->{errors} > 0 && $l->{wrong} == 0'
run_load --workload seqread256 --ops 32 --verify --state "$tmp/full.state"
check "they changed nothing" ended 0
# Were one unknown, it could not be wrong.
zmemctl limit 64M >"$tmp/limit.out"
qemu-io -f raw "$uri" -c "write -P 0x5a 0 8M" >"$tmp/qemu-io.out"
run_load --workload seqread256 --ops 32 --verify --state "$tmp/full.state"
check "all blocks are known nevertheless" all_lines '$l->{wrong} == 2048'
stop_server full

# A server that is killed keeps, in a file, what it has answered.  What it had
# not is unknown, and no error.
readonly disk=$tmp/disk
is_written () { ! cmp -s -n $((32 * M)) "$disk" /dev/zero; }
if has_plugin file; then
  truncate -s 32M "$disk"
  start_nbdkit file file "$disk"
  run_load --verify --state "$tmp/file.state" --seconds 100 --workload part &
  client_pid=$!
  check "the file is written to" wait_for 120 is_written
  kill -KILL "$server_pid"
  wait "$server_pid" 2>/dev/null
  unset 'server_pids[file]'
  check "the client ends with its server" wait_for 120 process_ended $client_pid
  wait $client_pid
  rm -f "$sock"
  start_nbdkit file file "$disk"
  for name in seqread256 part,swap; do
    run_load --verify --state "$tmp/file.state" --ops 1000 --workload $name
    check "what a killed server leaves is known: $name" ended 0
  done
  stop_server file
fi

#----------------------------------------------------------------------
# Servers that are wrong.

# Keeps nothing: whatever reads what it wrote must see that.
start_nbdkit null null 32M
for name in mixed churn part swap; do
  run_load --verify --workload "$name" --ops 1500
  check "$name: lost writes are told" ended 1 "$name: read of .*WRONG DATA\$"
  check "$name: and counted" all_lines '$l->{wrong} > 0 && $l->{errors} == 0'
done
run_load --workload fill,seqread256 --ops 32
check "without --verify nothing is compared" ended 0
stop_server null

# A disk that changes behind the client's back, by so many bytes at an offset.
start_nbdkit memory memory 32M
state=$tmp/memory.state
run_load --verify --state "$state" --workload fill,part,swap,fill256 --ops 1000
check "nbdkit's own memory is right" ended 0

# changed NAME OFFSET BYTES NR_BLOCKS WORKLOADS...: exactly so many are wrong.
changed () {
  run_load --state "$state" --workload "$5" --ops 1000
  check "$1: prepared" ended 0
  qemu-io -f raw "$uri" -c "write -P 0x5a $2 $3" >"$tmp/qemu-io.out"
  run_load --verify --state "$state" --workload seqread256 --ops 32
  check "$1: wrong" ended 1 "read of 262144 bytes at offset .*WRONG DATA\$"
  check "$1: exactly that" all_lines "\$l->{wrong} == $4"
}
changed "a block of one generation" $((77 * 4096)) 4096 1 fill256
changed "a sector of such" $((4 * M + 3584)) 512 1 fill
changed "neighbouring parts of two blocks" $((5 * M - 512)) 1024 2 fill
# Enough of "part" for sectors of several generations in nearly every block.
changed "a sector among others" $((2 * M + 1024)) 512 1 fill,part,part,part
changed "blocks that were trimmed" 0 $((8 * M)) 2048 fill,trimhalf,trim256
stop_server memory

# Answers with errors.
if has_plugin eval; then
  start_nbdkit error eval get_size='echo 33554432' \
               pread='echo EIO broken >&2; exit 1'
  run_load --workload randread --ops 20
  check "an error is told" ended 1 \
        'randread: read of 4096 bytes at offset [0-9]+: Input/output error$'
  check "and counted" all_lines '$l->{errors} == 20 && $l->{wrong} == 0'
  stop_server error

  # Of a write that failed nothing is known: here it was done.
  truncate -s 0 "$disk"
  truncate -s 32M "$disk"
  start_nbdkit liar eval get_size='echo 33554432' \
    pread="dd if=$disk"' iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=1M' \
    pwrite="dd of=$disk"' oflag=seek_bytes seek=$4 bs=1M conv=notrunc
            echo EIO broken >&2
            exit 1'
  run_load --workload randwrite,part --ops 20 --state "$tmp/liar.state"
  check "failed writes are errors" ended 1 'Input/output error$'
  check "the file was written to" is_written
  run_load --workload seqread256 --ops 32 --verify --state "$tmp/liar.state"
  check "what they left is not known" ended 0
  stop_server liar
fi

#----------------------------------------------------------------------
# Bad arguments.

# refused REGEX ARGUMENTS...: ended by one sentence, before it did anything.
refused () {
  local regex=$1
  shift
  bounded "$load" "$@" >"$tmp/load.out" 2>"$tmp/load.err" </dev/null
  load_status=$?
  check "refused: ${*//$tmp/}" ended 2 "$regex"
  check "and did nothing" test ! -s "$tmp/load.out"
}

start_server_as idle size=32M
all=(--corpus "$corpus" "$uri")
for bad in x 0 -1 257 '' ' 1' 1.5 0x10 99999999999999999999; do
  refused "--depth takes a number from 1 to 256, not \"$bad\"" \
          --depth "$bad" "${all[@]}"
done
refused '--connections takes .* 1 to 64, not "65"' --connections 65 "${all[@]}"
refused '--ops takes a number .*, not "5k"' --ops 5k "${all[@]}"
refused '--ops takes a number .*, not "0"' --ops 0 "${all[@]}"
refused '--rate takes a number .*, not "fast"' --rate fast "${all[@]}"
refused '--size takes a number .*, not "1G"' --size 1G "${all[@]}"
refused '--seed takes a number .*, not "-1"' --seed -1 "${all[@]}"
for bad in 0 -1 x '' inf nan 5s 1.2.3 . 9999999; do
  refused "--seconds takes a number above 0 .*, not \"$bad\"" \
          --seconds "$bad" "${all[@]}"
done
for bad in none '' 'fill,' 'fill mixed' FILL fill256k; do
  refused '--workload takes fill, .* seqwrite256, or several joined by commas' \
          --workload "$bad" "${all[@]}"
done
refused '--server-pid takes a number' --server-pid self "${all[@]}"
refused '--server-pid takes a number' --server-pid 0 "${all[@]}"
# Above any that Linux gives.
refused '--server-pid takes the id of a running process, not 2000000000' \
        --server-pid 2000000000 "${all[@]}"
refused 'needs --corpus FILE' "$uri"
refused 'needs one URI' --corpus "$corpus"
refused 'needs one URI' "${all[@]}" "$uri"
refused "--corpus=.*No such file" --corpus "$tmp/none" "$uri"
refused '--corpus takes a file of pages' --corpus "$tmp" "$uri"
refused '--corpus takes a file of pages' --corpus /dev/null "$uri"
refused '--state=.*No such file' --state "$tmp/none/state" "${all[@]}"
refused "unrecognized option '--deep'" --deep 5 "${all[@]}"
refused 'the disk has 33554432 bytes, fewer than the 67108864 to use' \
        --size 64 "${all[@]}"
refused 'fill256 with 128 requests in flight needs 65536 KiB' \
        --workload randread,fill256 --depth 64 "${all[@]}"
stop_server idle

select_server gone
run_load --workload randread
check "a server that is not there is an error of the server" ended 1 \
      "connect.*No such file or directory"
check "--help is a success" matches "$(bounded "$load" --help)" \
      "^workloads: ${workloads//,/ }\$"

finish
