#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Eight connections at once, eight requests under way on each, against a
# shadow copy (nbd-model.c); each codec, and a codec that changes meanwhile.

. "${srcdir:-.}/tests/functions.sh"
model=$top_builddir/tests/nbd-model
[ -x "$model" ] || skip "this test needs libnbd's headers at build time"

model_was_well () {
  cat "$tmp/model.out"
  [ "$model_status" -eq 0 ]
}

operations=2500
[ -z "${ZMEM_QUICK:-}" ] || operations=500

for codec in lz4 zstd none; do
  # A size that ends within a block.
  start_server_as $codec size=36000003 compress=$codec
  check "$codec: eight connections against a shadow copy" \
        bounded "$model" "$uri" 8 $operations
  check "$codec: parts of blocks were written" at_least \
        "$(stat_value partial_writes)" 1000
  check "$codec: nothing failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
  wait_for 20 clients_have_gone
  check "$codec: all connections have gone" is_equal \
        "$(stat_value connections)" 0
  stop_server $codec
done

# Codecs come and go while the connections write and read.
start_server_as changing size=36000003
bounded "$model" "$uri" 8 $operations >"$tmp/model.out" 2>&1 &
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

finish
