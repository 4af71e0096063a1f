#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-img: convert in and out, compare, map, and its load generator; and
# qemu-nbd, a client that serves the disk onwards.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdcopy

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

#----------------------------------------------------------------------
# In from a compressed qcow2 image and out into another one, on a disk in use.

start_server_as dirty size=$image_bytes
random_file "$tmp/random" $image_bytes
# dirty: the disk holds something else everywhere.
dirty () { nbdcopy "$tmp/random" "$uri"; }
# has_image: every byte, by another client.
has_image () {
  rm -f "$tmp/out"
  nbdcopy "$uri" "$tmp/out" && cmp "$image" "$tmp/out"
}
check "a compressed qcow2 image" \
      qemu-img convert -c -f raw -O qcow2 "$image" "$tmp/in.qcow2"
check "a disk in use" dirty
check "convert it to the disk" \
      qemu-img convert -n -m 16 -W -f qcow2 -O raw "$tmp/in.qcow2" "$uri"
check "the disk is the image" has_image
check "what it does not have has left the disk" is_equal \
      "$(stat_value hole_blocks)" $((20 * M / 4096))
check "convert the disk to a compressed qcow2" \
      qemu-img convert -c -m 16 -f raw -O qcow2 "$uri" "$tmp/again.qcow2"
check "that one is sound" qemu-img check -f qcow2 "$tmp/again.qcow2"
check "and the same as the first, as strictly as can be" \
      qemu-img compare -s -f qcow2 -F qcow2 "$tmp/in.qcow2" "$tmp/again.qcow2"
check "a disk in use again" dirty
check "convert with zeros as data" \
      qemu-img convert -n -S 0 -f qcow2 -O raw "$tmp/again.qcow2" "$uri"
check "the disk is the image again" has_image
check "one byte becomes another" \
      qemu-io -f raw "$uri" -c "write -P 0x01 41943041 1"
check_fails "compare finds it" 'mismatch at offset 41943040' \
            qemu-img compare -f raw -F raw "$image" "$uri"
check "bench: writes with flushes" qemu-img bench -f raw -w -c 2000 -d 16 \
      -s 64k -S 20480 --flush-interval=32 --pattern=85 "$uri"
check "the disk has that pattern" qemu-io -f raw "$uri" \
      -c "read -P 85 0 32M" -c "read -P 85 32M $((1999 * 20480 + 65536 - 32 * M))"
stop_server dirty

#----------------------------------------------------------------------
# The map follows at once: holes, and zeros that are no holes.

# As qemu_map, and whether it reads as zeros.
zero_map () {
  qemu-img map --output=json -f raw "$1" |
    sed -n 's/.*"start": \([0-9]*\), "length": \([0-9]*\),.* "zero": \([a-z]*\), "data": \([a-z]*\).*/\1 \2 zero=\3 data=\4/p'
}
start_server_as map size=16M
text_file "$tmp/text" $((16 * M))
check "a disk without holes" nbdcopy "$tmp/text" "$uri"
check "the map says so" is_equal "$(zero_map "$uri")" \
      "0 $((16 * M)) zero=false data=true"
check "holes and zeros" qemu-io -d unmap -f raw "$uri" \
      -c "discard 1M 1M" -c "write -z 4M 64k" -c "write -zu 6M 64k" \
      -c "discard 8191k 2k" -c "write -P 0 10M 64k" -c "discard 12M 4M"
check "the map has each at once" is_equal "$(zero_map "$uri")" \
"0 $M zero=false data=true
$M $M zero=true data=false
$((2 * M)) $((2 * M)) zero=false data=true
$((4 * M)) 65536 zero=true data=true
$((4 * M + 65536)) $((2 * M - 65536)) zero=false data=true
$((6 * M)) 65536 zero=true data=false
$((6 * M + 65536)) $((4 * M - 65536)) zero=false data=true
$((10 * M)) 65536 zero=true data=true
$((10 * M + 65536)) $((2 * M - 65536)) zero=false data=true
$((12 * M)) $((4 * M)) zero=true data=false"
check "a byte in a hole" qemu-io -f raw "$uri" -c "write -P 1 13000000 1"
check "the map has its block at once" matches "$(zero_map "$uri")" \
      "^$((13000000 / 4096 * 4096)) 4096 zero=false data=true\$"
stop_server map

#----------------------------------------------------------------------
# qemu-nbd serves the disk onwards; its clients are any.

start_server_as onward size=$image_bytes
disk_uri=$uri

# start_qemu_nbd NAME OPTIONS...: uri is then what it serves.
start_qemu_nbd () {
  local name=$1
  shift
  qemu-nbd -f raw -t -e 16 -k "$tmp/$name.nbd" --pid-file "$tmp/$name.nbd.pid" \
           "$@" "$disk_uri" </dev/null >"$tmp/$name.nbd.log" 2>&1 &
  nbd_pid=$!
  adopt_daemon $nbd_pid
  wait_for 120 test -s "$tmp/$name.nbd.pid"
  uri="nbd+unix:///?socket=$tmp/$name.nbd"
}
stop_qemu_nbd () {
  kill -TERM $nbd_pid
  check "$1: qemu-nbd ends" wait_for 120 process_ended $nbd_pid
  wait $nbd_pid
  check "$1: with success" is_equal $? 0
}

start_qemu_nbd plain
check "through qemu-nbd: copy in" nbdcopy --connections=4 "$image" "$uri"
check "through qemu-nbd: copy out" nbdcopy --connections=4 "$uri" "$tmp/onward"
check "through qemu-nbd: every byte is the same" cmp "$image" "$tmp/onward"
rm -f "$tmp/out"
check "the same without it" nbdcopy "$disk_uri" "$tmp/out"
check "every byte is the same without it" cmp "$image" "$tmp/out"
check "the map comes through" is_equal "$(qemu_map "$uri")" \
      "$(qemu_map "$disk_uri")"
live=$(stat_value live_blocks)
check "trim" qemu-io -d unmap -f raw "$uri" -c "discard 0 8M"
check "its trims end in qemu-nbd" is_equal "$(stat_value live_blocks)" "$live"
stop_qemu_nbd plain

start_qemu_nbd unmap --discard=unmap --detect-zeroes=unmap --cache=none
check "trim" qemu-io -d unmap -f raw "$uri" -c "discard 0 8M"
check "with --discard=unmap trims come through" is_equal \
      "$(stat_value live_blocks)" $((live - 2048))
check "zeros, written as data" qemu-io -f raw "$uri" -c "write -P 0 8M 1M"
check "with --detect-zeroes=unmap they become holes" is_equal \
      "$(stat_value live_blocks)" $((live - 2048 - 256))
load=$top_builddir/bench/nbd-load
if [ -x "$load" ]; then
  mixed_file "$tmp/corpus" $((16 * M))
  check "trim all" qemu-io -d unmap -f raw "$uri" -c "discard 0 $image_bytes"
  load () {
    bounded "$load" --verify --state "$tmp/state" --corpus "$tmp/corpus" "$@"
  }
  check "load through qemu-nbd, against a shadow copy" \
        load --connections 8 --depth 16 --ops 6000 \
        --workload mixed,part,swap,churn "$uri"
  check "all that is then on the disk, without it" \
        load --depth 8 --ops 64 --workload seqread256 "$disk_uri"
fi
stop_qemu_nbd unmap
wait_for 120 clients_have_gone
stop_server onward

finish
