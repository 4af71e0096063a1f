#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A real ext4 image goes in over several connections and comes out again,
# with each codec and from one server to another.

. "${srcdir:-.}/tests/functions.sh"
requires nbdcopy nbdinfo mkfs.ext4 e2fsck

readonly image=$tmp/ext4.img
readonly image_bytes=$((160 * M))

mib=48
[ -z "${ZMEM_QUICK:-}" ] || mib=12

# Files of this machine: headers, which there are wherever this was built,
# and programs.
make_tree () {
  mkdir -p "$tmp/tree/headers" "$tmp/tree/programs"
  copy_some /usr/include "$tmp/tree/headers" $((mib * M)) &&
    copy_some /usr/bin "$tmp/tree/programs" $((mib * M))
}

# copy_some FROM TO BYTES: regular files, in the order of their names, until
# there are so many bytes.
copy_some () {
  (cd "$1" && find . -type f -readable -size -8192k -printf '%s %p\0' 2>/dev/null |
     sort -z -k2 |
     awk -v RS='\0' -v ORS='\0' -v most="$3" '
       { bytes = int (($1 + 4095) / 4096) * 4096; sum += bytes
         if (sum > most) exit
         sub (/^[0-9]+ /, ""); print }' |
     tar cf - --null -T -) | tar xf - -C "$2"
}

check "take files of this machine" make_tree
check "make an ext4 image of them" mkfs.ext4 -q -F -d "$tmp/tree" "$image" \
      $((image_bytes / K))k
check "there is something in it" at_least \
      "$(du -s --block-size=1 "$image" | cut -f1)" $((mib * M))

start_server size=$image_bytes compress=lz4
check "copy in" nbdcopy --connections=4 --requests=32 --flush "$image" "$uri"
check "copy out" nbdcopy --connections=4 "$uri" "$tmp/out.img"
check "every byte is the same" cmp "$image" "$tmp/out.img"
check "the file system is whole" e2fsck -fn "$tmp/out.img"
check "what is held is less than what was written" at_most "$(held_bytes)" \
      $(($(du -s --block-size=1 "$image" | cut -f1) * 3 / 4))
lz4_held=$(held_bytes)

first_uri=$uri
start_server_as zstd size=$image_bytes compress=zstd:3
check "copy from server to server" nbdcopy --connections=4 "$first_uri" "$uri"
rm -f "$tmp/out.img"
check "copy that one out" nbdcopy "$uri" "$tmp/out.img"
check "every byte is still the same" cmp "$image" "$tmp/out.img"
check "zstd takes less than lz4" at_most "$(held_bytes)" "$lz4_held"
stop_server zstd
stop_server

start_server_as none size=$image_bytes compress=none
# Without extents every zero is sent as data, too.
check "copy in, uncompressed" nbdcopy --no-extents --connections=2 \
      --request-size=$((32 * M)) "$image" "$uri"
rm -f "$tmp/out.img"
check "copy out, uncompressed" nbdcopy --synchronous "$uri" "$tmp/out.img"
check "every byte is the same, uncompressed" cmp "$image" "$tmp/out.img"
stop_server none

finish
