#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A real ext4 image goes in over several connections and comes out again,
# with each codec and from one server to another; a sparse file onto a disk
# that was in use; what is sparse, and what is allocated, in the end.
#
# Functions are given to check:
# shellcheck disable=SC2317

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

#----------------------------------------------------------------------
# Sparse files: data, zeros that are written, holes, in steps of 1000 bytes
# too, and a hole at the end.

make_sparse () {
  rm -f "$tmp/sparse"
  truncate -s $((64 * M)) "$tmp/sparse"
  put () { dd of="$tmp/sparse" bs="$1" seek="$2" conv=notrunc status=none; }
  head -c $((3 * M)) "$image" | put 1M 5
  random_file "$tmp/random" 100000
  put 1000 20000 <"$tmp/random"
  head -c $((8 * M)) /dev/zero | put 1M 30
  for ((i = 0; i < 40; i++)); do
    head -c $((1 + i * 777)) "$tmp/random" | put 1000 $((45000 + i * 100))
  done
}
make_sparse
check "the file is sparse" at_most \
      "$(du --block-size=1 "$tmp/sparse" | cut -f1)" $((16 * M))
# Blocks that hold something.
nr_blocks=$(perl -e 'local $/ = \4096; my $nr = 0;
  while (<STDIN>) { $nr++ if /[^\0]/ } print $nr' <"$tmp/sparse")

# copy_sparse NAME ARGUMENTS...: the sparse file, in and out again.
copy_sparse () {
  local name=$1
  shift
  check "$name: copy in" nbdcopy "$@" "$tmp/sparse" "$uri"
  rm -f "$tmp/out"
  check "$name: copy out" nbdcopy --connections=8 "$uri" "$tmp/out"
  check "$name: every byte is the same" cmp "$tmp/sparse" "$tmp/out"
}

start_server_as sparse size=64M
copy_sparse "onto an empty disk" --connections=8 --destination-is-zero
check "zeros, too, are left out" is_equal "$(stat_value live_blocks)" \
      "$nr_blocks"
check "the copy is as sparse" at_most \
      "$(du --block-size=1 "$tmp/out" | cut -f1)" $((nr_blocks * 4096 + M))

random_file "$tmp/random" $((64 * M))
check "a disk full of something else" nbdcopy "$tmp/random" "$uri"
copy_sparse "onto a disk in use" --connections=8 --requests=64
check "what was there is gone" is_equal "$(stat_value live_blocks)" \
      "$nr_blocks"

check "full again" nbdcopy "$tmp/random" "$uri"
copy_sparse "allocated" --connections=8 --allocated
check "all of it is allocated" is_equal "$(stat_value live_blocks)" \
      $((64 * M / 4096))
check "zeros that are allocated take no pages" wait_for 120 held_is_at_most \
      $((nr_blocks * 4200 + 3 * M))
copy_sparse "and sparse again" --connections=3 --sparse=65536

# Pipes are read and written in order, one request at a time.
pipe_in () { dd if="$1" bs=10000 status=none | nbdcopy - "$uri"; }
pipe_out () { nbdcopy "$uri" - | cmp - "$1"; }
check "copy in through a pipe" pipe_in "$tmp/random"
check "copy out through a pipe: every byte is the same" \
      pipe_out "$tmp/random"
stop_server sparse

finish
