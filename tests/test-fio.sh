#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# fio verifies what it wrote: mixed sizes from 512 bytes to 64 KiB, several
# jobs at once, trims before writes; and for longer, up to 1 MiB, deeper.
# ZMEM_SECONDS: how long [three rounds of the last].
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires fio
[[ $(fio --enghelp) = *nbd* ]] || skip "this fio has no nbd engine"

mib=48
[ -z "${ZMEM_QUICK:-}" ] || mib=12

# run_fio ARGUMENTS...: with what all runs have in common.
run_fio () {
  (cd "$tmp" &&
     fio --output-format=terse --ioengine=nbd --uri="$uri" --thread \
         --group_reporting --randrepeat=1 "$@")
}

for codec in lz4 zstd none; do
  start_server_as $codec size=256M compress=$codec

  check "$codec: verify mixed sizes, four jobs" run_fio \
        --name=mixed --rw=randwrite --bsrange=512-64k --iodepth=8 \
        --numjobs=4 --size=$((mib / 4))m --offset_increment=32m \
        --buffer_compress_percentage=50 --refill_buffers \
        --do_verify=1 --verify=crc32c --verify_fatal=1

  check "$codec: verify odd sizes and offsets" run_fio \
        --name=odd --rw=randwrite --bsrange=512-20k --bs_unaligned \
        --iodepth=1 --size=8m --offset=128m --norandommap --verify=crc32c \
        --verify_fatal=1 --do_verify=1 --io_size=16m

  # fio trims a block and writes it anew without waiting for the trim's
  # reply: deeper than 1 it finds wrong what is right, on any server.
  check "$codec: verify after trims, four jobs" run_fio \
        --name=trim --rw=randtrimwrite --bs=4k --iodepth=1 --numjobs=4 \
        --size=$((mib / 8))m --offset=160m --offset_increment=24m \
        --refill_buffers --buffer_compress_percentage=30 \
        --do_verify=1 --verify=crc32c --verify_fatal=1

  check "$codec: reads, writes and trims at once" run_fio --minimal \
        --name=readers --rw=randread --bsrange=512-64k --iodepth=8 \
        --size=32m --io_size=${mib}m \
        --name=writers --rw=randrw --bsrange=512-64k --iodepth=8 \
        --numjobs=2 --size=32m --io_size=${mib}m \
        --name=trimmers --rw=randtrim --bs=16k --iodepth=4 --size=32m \
        --io_size=${mib}m

  check "$codec: no request failed" is_equal "$(stat_value other_errors) \
$(stat_value eio_errors) $(stat_value enospc_errors)" "0 0 0"
  stop_server $codec
done

# Longer: sixteen under way, verified while it goes on and in the end; each
# round over what the one before left.
start_server_as long size=256M
rounds=3
[ -z "${ZMEM_QUICK:-}" ] || rounds=1
for ((round = 1; round <= rounds || SECONDS < ${ZMEM_SECONDS:-0}; round++)); do
  for sizes in 512-4k 4k-4k 512-1m; do
    check "long, round $round: sizes of $sizes" run_fio \
          --name=long --rw=randwrite --bsrange=$sizes --iodepth=16 \
          --numjobs=2 --size=${mib}m --offset_increment=128m \
          --refill_buffers --buffer_compress_percentage=$((round % 4 * 25)) \
          --randseed=$((round * 1000)) --do_verify=1 --verify=xxhash \
          --verify_backlog=512 --verify_fatal=1
  done
  check "long, round $round: trimmed among it" run_fio \
        --name=trims --rw=randtrimwrite --bs=8k --iodepth=1 --numjobs=8 \
        --size=$((mib / 4))m --offset_increment=32m --refill_buffers \
        --buffer_compress_percentage=60 --do_verify=1 --verify=xxhash \
        --verify_fatal=1
done
check "long: no request failed" is_equal "$(stat_value other_errors) \
$(stat_value eio_errors) $(stat_value enospc_errors)" "0 0 0"
stop_server long

finish
