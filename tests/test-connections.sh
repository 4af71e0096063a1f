#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Eight connections at once, eight requests under way on each, against a
# shadow copy (nbd-model.c); each codec, and a codec that changes meanwhile.
# Then sixty-four on each, of eight connections and of sixty-four, with the
# client of the benchmark (nbd-load).
# ZMEM_SECONDS: how long all of that goes on [until all requests are done].
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
model=$top_builddir/tests/nbd-model
load=$top_builddir/bench/nbd-load
[ -x "$model" ] || skip "this test needs libnbd's headers at build time"

model_was_well () {
  cat "$tmp/model.out"
  [ "$model_status" -eq 0 ]
}

# Of a longer run, for each of the six below.
part_seconds=$((${ZMEM_SECONDS:-0} / 6))
operations=2500
[ -z "${ZMEM_QUICK:-}" ] || operations=500

for codec in lz4 zstd none; do
  # A size that ends within a block.
  start_server_as $codec size=36000003 compress=$codec
  check "$codec: eight connections against a shadow copy" \
        bounded "$model" "$uri" 8 $operations "$RANDOM" $part_seconds
  check "$codec: parts of blocks were written" at_least \
        "$(stat_value partial_writes)" 1000
  check "$codec: nothing failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
  wait_for 60 clients_have_gone
  check "$codec: all connections have gone" is_equal \
        "$(stat_value connections)" 0
  stop_server $codec
done

# Codecs come and go while the connections write and read.
start_server_as changing size=36000003
bounded "$model" "$uri" 8 $operations "$RANDOM" $part_seconds \
        >"$tmp/model.out" 2>&1 &
model_pid=$!
nr_changes=0
while ! process_ended $model_pid; do
  for codec in zstd:1 none lz4:8 zstd:-5 lz4; do
    zmemctl compress $codec >/dev/null 2>>"$tmp/compress.out" &&
      nr_changes=$((nr_changes + 1))
  done
done
wait $model_pid
model_status=$?
check "eight connections while the codec changes" model_was_well
check "the codec changed many times" at_least $nr_changes 5
check "no change of codec was refused" test ! -s "$tmp/compress.out"
check "nothing failed its checksum" is_equal \
      "$(stat_value checksum_failures)" 0
stop_server changing

# Half of the blocks compress well, half do not.
readonly corpus=$tmp/corpus
mixed_file "$tmp/half" $((20 * M))
text_file "$corpus" $((20 * M))
cat "$tmp/half" >>"$corpus"
# Of each workload.
length="--ops 25000"
[ -z "${ZMEM_QUICK:-}" ] || length="--ops 3000"
[ $part_seconds -lt 7 ] || length="--seconds $((part_seconds / 7))"

# run_load ARGUMENTS...: afterwards, and for the next run, the state says what
# must be on the disk.
run_load () {
  bounded "$load" --verify --state "$tmp/$codec.state" --corpus "$corpus" \
          --seed "$seed" "$@" "$uri"
}

for codec in lz4 zstd; do
  start_server_as load-$codec size=$((40 * M)) compress=$codec
  seed=$RANDOM
  echo "seed $seed"
  # shellcheck disable=SC2086
  check "$codec: 8 connections, 64 requests under way on each" run_load \
        --connections 8 --depth 64 $length \
        --workload mixed,part,swap,churn,part
  # shellcheck disable=SC2086
  check "$codec: 64 connections, 64 requests under way on each" run_load \
        --connections 64 --depth 64 $length --workload mixed,churn
  check "$codec: all that is then on the disk" run_load \
        --depth 8 --ops 160 --workload seqread256
  check "$codec: nothing failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
  stop_server load-$codec
done

finish
