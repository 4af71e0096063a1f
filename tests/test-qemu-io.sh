#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-io: parts of blocks, requests that cross blocks and regions, zeroes
# and trims with odd edges, large requests.  qemu-io reads back with the
# expected pattern and fails where it differs.

. "${srcdir:-.}/tests/functions.sh"
requires qemu-io nbdcopy

# io NAME COMMAND...: one client that runs these commands in order.
io () {
  local name=$1 args=() command
  shift
  for command; do args+=(-c "$command"); done
  check "$name" qemu-io -f raw "$uri" "${args[@]}"
}

start_server size=256M

io "an untouched disk reads as zeros" \
   "read -P 0 0 1" "read -P 0 4095 2" "read -P 0 100M 1M" \
   "read -P 0 268435455 1"

io "a part of a block" \
   "write -P 0x11 100 200" \
   "read -P 0 0 100" "read -P 0x11 100 200" "read -P 0 300 3796"
io "a part within that part" \
   "write -P 0x22 150 1" \
   "read -P 0x11 100 50" "read -P 0x22 150 1" "read -P 0x11 151 149"
io "the first and the last byte of a block" \
   "write -P 0x33 8192 1" "write -P 0x44 12287 1" \
   "read -P 0x33 8192 1" "read -P 0 8193 4094" "read -P 0x44 12287 1" \
   "read -P 0 12288 1"
io "across two blocks" \
   "write -P 0x55 20000 1000" \
   "read -P 0 19999 1" "read -P 0x55 20000 1000" "read -P 0 21000 1"
io "over whole blocks with odd edges" \
   "write -P 0x66 65535 20482" \
   "read -P 0 65534 1" "read -P 0x66 65535 20482" "read -P 0 86017 1"
io "across regions (2 MiB)" \
   "write -P 0x77 2097141 21" \
   "read -P 0 2097140 1" "read -P 0x77 2097141 21" "read -P 0 2097162 1"
io "the last byte of the disk" \
   "write -P 0x78 268435455 1" \
   "read -P 0 268431360 4095" "read -P 0x78 268435455 1"

# The same over blocks whose content is kept as a payload, not as a pattern:
# a file's bytes, written again and again.
text_file "$tmp/text" 65536
random_file "$tmp/random" 65536
for kind in text random; do
  io "parts of blocks of $kind" \
     "write -s $tmp/$kind 16M 64k" \
     "write -P 0x10 16777217 1" "write -P 0x20 16785407 2" \
     "write -P 0x30 16793600 4096" "write -P 0x40 16810000 10000" \
     "discard 16830464 8193" "write -z 16840000 100"
  nbdcopy "$uri" "$tmp/disk"
  dd if="$tmp/disk" of="$tmp/part" bs=64k skip=256 count=1 status=none
  cp "$tmp/$kind" "$tmp/expected"
  put () {                      # put OCTAL OFFSET BYTES
    head -c "$3" /dev/zero | tr '\0' "\\$1" |
      dd of="$tmp/expected" bs=64k seek="$2" oflag=seek_bytes conv=notrunc \
         status=none
  }
  base=$((16 * M))
  put 020 $((16777217 - base)) 1
  put 040 $((16785407 - base)) 2
  put 060 $((16793600 - base)) 4096
  put 100 $((16810000 - base)) 10000
  put 000 $((16830464 - base)) 8193
  put 000 $((16840000 - base)) 100
  check "what is around them in $kind is as it was" \
        cmp "$tmp/expected" "$tmp/part"
  io "trim the $kind" "discard 16M 64k" "read -P 0 16M 64k"
done

io "zeroes with odd edges" \
   "write -P 0x88 1M 64k" "write -z 1048577 20000" \
   "read -P 0x88 1M 1" "read -P 0 1048577 20000" "read -P 0x88 1068577 1000"
io "zeroes that may punch" \
   "write -P 0x99 1200k 64k" "write -z -u 1228801 9000" \
   "read -P 0x99 1200k 1" "read -P 0 1228801 9000" "read -P 0x99 1237801 1000"
io "trims with odd edges" \
   "write -P 0xaa 1400k 64k" "discard 1433601 30000" \
   "read -P 0xaa 1400k 1" "read -P 0 1433601 30000" \
   "read -P 0xaa 1463601 1000"
io "writes with FUA, and flushes" \
   "write -f -P 0xab 1600k 64k" "flush" "read -P 0xab 1600k 64k"

io "requests of 32 MiB" \
   "write -P 0xbb 64M 32M" "read -P 0xbb 64M 32M" \
   "write -P 0xcc 67108865 33554430" "read -P 0xbb 64M 1" \
   "read -P 0xcc 67108865 33554430" "read -P 0xbb 100663295 1"
io "a trim of the whole disk" "discard 0 256M" "read -P 0 0 32M" \
   "read -P 0 64M 32M" "read -P 0 268435455 1"

check_fails "nothing past the end" '.' qemu-io -f raw "$uri" \
            -c "write -P 1 268435455 2"

# Many requests of one client at once, over the same few blocks.
io "many at once" \
   "aio_write -P 1 0 3000" "aio_write -P 2 3000 3000" \
   "aio_write -P 3 6000 3000" "aio_write -P 4 9000 3000" \
   "aio_write -P 5 12000 3000" "aio_write -P 6 15000 3000" \
   "aio_write -P 7 18000 3000" "aio_write -P 8 21000 3000" "aio_flush" \
   "read -P 1 0 3000" "read -P 2 3000 3000" "read -P 3 6000 3000" \
   "read -P 4 9000 3000" "read -P 5 12000 3000" "read -P 6 15000 3000" \
   "read -P 7 18000 3000" "read -P 8 21000 3000" "read -P 0 24000 1000"

check "nothing failed its checksum" is_equal "$(stat_value eio_errors)" 0
stop_server

finish
