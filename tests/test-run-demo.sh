#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# ./run demo passes, and leaves nothing behind.
set -u

for tool in nbdkit nbdcopy; do
  command -v $tool >/dev/null || { echo "there is no $tool here"; exit 77; }
done
PATH=$PATH:/usr/sbin:/sbin
command -v mkfs.ext4 >/dev/null || { echo "there is no mkfs.ext4 here"; exit 77; }

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/zmem-test-demo.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP

export ZMEM_BUILD=${top_builddir:?} TMPDIR=$dir
# Smaller than what users see.
export ZMEM_QUICK=1
if ! "${srcdir:?}/run" demo >"$dir/out" 2>&1; then
  cat "$dir/out"
  echo "FAILED: the demo failed"
  exit 1
fi
tail -n 1 "$dir/out"
tail -n 1 "$dir/out" | grep -q '^demo: passed' || exit 1
rm "$dir/out"
left=$(ls -A "$dir")
[ -z "$left" ] || { echo "FAILED: the demo left $left"; exit 1; }
