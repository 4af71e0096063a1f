#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-img: convert in and out, compare, map, and its load generator.

. "${srcdir:-.}/tests/functions.sh"
requires qemu-img nbdcopy

readonly image=$tmp/image.raw
readonly image_bytes=$((48 * M))

# Text, random bytes, a hole, text again.
make_image () {
  text_file "$image" $((16 * M))
  random_file "$tmp/random" $((8 * M))
  dd if="$tmp/random" of="$image" bs=1M seek=16 conv=notrunc status=none
  text_file "$tmp/text" $((4 * M)) 5000000
  dd if="$tmp/text" of="$image" bs=1M seek=40 conv=notrunc status=none
  truncate -s $image_bytes "$image"
}
make_image

# The map that qemu-img prints: start length data, a line a run.
qemu_map () {
  qemu-img map --output=json -f raw "$1" |
    sed -n 's/.*"start": \([0-9]*\), "length": \([0-9]*\),.* "data": \([a-z]*\).*/\1 \2 \3/p'
}

start_server size=$image_bytes
check "convert raw to the disk" \
      qemu-img convert -n -m 8 -W -f raw -O raw "$image" "$uri"
check "compare finds them identical" \
      qemu-img compare -f raw -F raw "$image" "$uri"
check "map tells data from holes" is_equal "$(qemu_map "$uri")" \
"0 $((24 * M)) true
$((24 * M)) $((16 * M)) false
$((40 * M)) $((4 * M)) true
$((44 * M)) $((4 * M)) false"

check "convert the disk to qcow2" \
      qemu-img convert -f raw -O qcow2 "$uri" "$tmp/out.qcow2"
check "the qcow2 file is sound" qemu-img check -f qcow2 "$tmp/out.qcow2"
check "the qcow2 file has the same content" \
      qemu-img compare -f qcow2 -F raw "$tmp/out.qcow2" "$image"

# Random 12 KiB writes at a step that is no multiple of a block, then reads.
check "bench: overlapping writes" qemu-img bench -f raw -w -c 3000 -d 32 \
      -s 12k -S 5120 --pattern=170 "$uri"
check "bench: reads" qemu-img bench -f raw -c 5000 -d 32 -s 4k "$uri"
nbdcopy "$uri" "$tmp/after-bench"
# 3000 steps of 5120 bytes: the pattern reaches to the last one's end.
bench_end=$((2999 * 5120 + 12288))
head -c $bench_end /dev/zero | tr '\0' '\252' >"$tmp/expected"
tail -c +$((bench_end + 1)) "$image" >>"$tmp/expected"
check "bench wrote what it says and nothing else" \
      cmp "$tmp/expected" "$tmp/after-bench"
stop_server

# A disk as a container: a qcow2 image inside of it.
start_server_as container size=$((64 * M))
check "create qcow2 within a disk" qemu-img create -q -f qcow2 "$uri" 48M
check "convert into the qcow2 within" \
      qemu-img convert -n -f raw -O qcow2 "$image" "$uri"
check "the qcow2 within is sound" qemu-img check -f qcow2 "$uri"
check "the qcow2 within has the same content" \
      qemu-img compare -f qcow2 -F raw "$uri" "$image"
stop_server container

finish
