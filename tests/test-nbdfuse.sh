#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdfuse makes a file of the disk; file-random.c reads, writes, maps,
# punches, zeroes and synchronises it at random beside a copy in memory.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdfuse nbdcopy umount
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
: 2>/dev/null <>/dev/fuse || skip "/dev/fuse may not be opened"
[ "$(id -u)" -eq 0 ] || requires fusermount3

random=$top_builddir/tests/file-random
mounts=()

unmount () {
  if [ "$(id -u)" -eq 0 ]; then umount "$@"; else fusermount3 -u "$@"; fi
}

# Whatever happens, nothing stays mounted.
leave_mounts () {
  local mount
  for mount in "${mounts[@]}"; do unmount "$mount" 2>/dev/null; done
}
at_end leave_mounts

mount_decided () {
  [ -s "$tmp/$1.fuse.pid" ] || process_ended "$fuse_pid"
}

# mount_disk OPTIONS...: the current server's, as the file $disk.
mount_disk () {
  local name=${ctl##*/}
  name=${name%.ctl}
  mkdir "$tmp/$name.mnt"
  mounts+=("$tmp/$name.mnt")
  disk=$tmp/$name.mnt/disk
  nbdfuse -P "$tmp/$name.fuse.pid" "$@" "$disk" "$uri" \
          </dev/null >"$tmp/fuse.log" 2>&1 &
  fuse_pid=$!
  adopt_daemon $fuse_pid
  wait_for 120 mount_decided "$name"
  if [ ! -s "$tmp/$name.fuse.pid" ]; then
    if grep -Eiq 'not permitted|permission denied' "$tmp/fuse.log"; then
      stop_server "$name"
      skip "file systems may not be mounted here: $(head -n 1 "$tmp/fuse.log")"
    fi
    fail "nbdfuse mounts $uri" "$tmp/fuse.log"
    finish
  fi
}

unmount_disk () {
  check "unmount" unmount "${disk%/*}"
  check "nbdfuse ends then" wait_for 120 process_ended $fuse_pid
  wait $fuse_pid
  check "with success" is_equal $? 0
  wait_for 120 clients_have_gone
}

operations=8000
[ -z "${ZMEM_QUICK:-}" ] || operations=1000

# try NAME NBDFUSE-OPTIONS...: on the current server.
try () {
  local name=$1
  shift
  mount_disk "$@"
  check "$name: the file has the disk's size" is_equal \
        "$(stat -c %s "$disk")" "$(stat_value size_bytes)"
  check "$name: random operations" \
        bounded "$random" "$disk" "$tmp/copy" $operations
  sed 's/^/    /' "$tmp/check.out"
  check "$name: holes became trims" at_least "$(stat_value trim_requests)" \
        $((operations / 30))
  check "$name: fsync became flushes" at_least \
        "$(stat_value flush_requests)" 1
  unmount_disk
  rm -f "$tmp/out"
  check "$name: read by another client" nbdcopy "$uri" "$tmp/out"
  check "$name: every byte is the same" cmp "$tmp/copy" "$tmp/out"
  check "$name: no request failed" is_equal "$(stat_value other_errors) \
$(stat_value eio_errors) $(stat_value enospc_errors)" "0 0 0"
}

# A size that ends within a block.
start_server_as lz4 size=$((32 * M + 1003))
try "lz4"
stop_server lz4
start_server_as zstd size=$((32 * M)) compress=zstd
try "zstd, kept in the kernel's cache" -C 8 -o kernel_cache
stop_server zstd

# A disk that is full says so, and keeps what it has.
start_server_as full size=64M limit=10M compress=none
mount_disk
random_file "$tmp/random" $((4 * M))
copy_in () { dd if="$tmp/random" of="$disk" bs=64k conv=notrunc,fsync "$@"; }
check "a file copied onto a small limit" copy_in
check_fails "one too many is told that there is no room" \
            'No space left on device' \
            copy_in if=/dev/urandom seek=16M oflag=seek_bytes count=512
check "what was there is as it was" cmp -n $((4 * M)) "$tmp/random" "$disk"
unmount_disk
stop_server full

# file-random sees what is wrong: a disk that keeps nothing.
if nbdkit null --dump-plugin >/dev/null 2>&1; then
  check "null starts" launch null -U "$tmp/null.sock" null 32M
  mount_disk
  check_fails "lost writes are found out" \
              'seed 7, operation [0-9]+: .* should be 0x' \
              bounded "$random" "$disk" "$tmp/copy" 100 7
  check "unmount" unmount "${disk%/*}"
  wait_for 120 process_ended $fuse_pid
  stop_server null
fi

finish
