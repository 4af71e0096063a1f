#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# In a memory control group, small ones too: a disk that is filled beyond its
# limit gets ENOSPC, and never does the kernel kill its server.  With the
# default limit, which follows from the group's, and with one that leaves the
# group 16 MiB for nbdkit and its buffers, and for the pages of its files.  They
# count for the group that first has them read: here each server's, as after a
# boot; and cannot go where they are locked.
#
# Needs a hierarchy of memory groups (version 1 or 2) that we may write to.

. "${srcdir:-.}/tests/functions.sh"
requires nbdcopy cmp

# Sets parent (where groups are made) and the names of a group's files.
find_hierarchy () {
  local v1=/sys/fs/cgroup/memory v2=/sys/fs/cgroup
  if [ -e $v1/memory.limit_in_bytes ]; then
    parent=$v1 limit_file=memory.limit_in_bytes
    most_file=memory.max_usage_in_bytes kills_file=memory.oom_control
  elif grep -qw memory $v2/cgroup.subtree_control 2>/dev/null; then
    parent=$v2 limit_file=memory.max most_file=memory.peak
    kills_file=memory.events
  else
    skip "this machine has no memory control groups"
  fi
}
find_hierarchy
group=$parent/zmem-test-$$
mkdir "$group" 2>/dev/null ||
  skip "this test needs to make control groups in $parent"

remove_group () {
  local pid
  for pid in "${server_pids[@]}"; do end_process "$pid"; done
  wait_for 60 rmdir "$group" 2>/dev/null
}
at_end remove_group

random_file "$tmp/some" $((4 * M))
random_file "$tmp/much" $((160 * M))

# The server's files, of which nobody else has read any.
mkdir "$tmp/cold"
files=("$(type -P nbdkit)" "$ZMEM_PLUGIN")
mapfile -t libraries < <(ldd "${files[@]}" | awk '$2 == "=>" { print $3 }' |
                           sort -u)
cp -L "${files[@]}" "${libraries[@]}" "$tmp/cold"
sync "$tmp/cold"/*
ZMEM_PLUGIN=$tmp/cold/${ZMEM_PLUGIN##*/}
forget_files () {
  local file
  for file in "$tmp/cold"/*; do
    dd if="$file" iflag=nocache count=0 2>/dev/null
  done
}

# In the background: a server, of the group from its start.
nbdkit () {
  # shellcheck disable=SC2016
  exec sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" \
       env LD_LIBRARY_PATH="$tmp/cold" "$tmp/cold/nbdkit" "$@"
}

nr_kills () { sed -n 's/^oom_kill //p' "$group/$kills_file"; }

fill () { nbdcopy "$tmp/much" "$uri"; }

# try NAME MIB OPTION...: a server in a group of so many MiB.
try () {
  local name=$1 mib=$2
  shift 2
  check "$name: the group's limit" \
        sh -c "echo $((mib * M)) >'$group/$limit_file'"
  [ ! -w "$group/$most_file" ] || echo 0 >"$group/$most_file" 2>/dev/null
  forget_files
  start_server_as "$name" size=1G compress=none "$@"
  check "$name: what is written at first" nbdcopy "$tmp/some" "$uri"
  check_fails "$name: it is filled up" 'No space left' fill
  check "$name: its server lives" server_is_alive
  check "$name: the kernel has killed nobody" is_equal "$(nr_kills)" 0
  check "$name: it is full" at_least "$(stat_value held_bytes)" \
        $(($(stat_value limit_bytes) - M))
  check "$name: what is full can be overwritten" nbdcopy "$tmp/some" "$uri"
  check "$name: and is right" \
        cmp -n $((4 * M)) "$tmp/some" <(nbdcopy "$uri" - 2>/dev/null)
  if [ -e "$group/$most_file" ]; then
    echo "$name: limit $(stat_value limit_bytes), held" \
         "$(stat_value held_bytes), the group $(cat "$group/$most_file")"
  fi
  stop_server "$name"
}

try default32 32
try locked32 32 mlock=yes
try default128 128
try locked128 128 mlock=yes
try sixteen64 64 limit=48M
try locked64 64 limit=48M mlock=yes
finish
