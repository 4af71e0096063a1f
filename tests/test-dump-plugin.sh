#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What nbdkit tells of the plugin without a disk: --dump-plugin, --help,
# --version.

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit

check "--dump-plugin" bounded nbdkit "$ZMEM_PLUGIN" --dump-plugin
cp "$tmp/check.out" "$tmp/dump"
has () { grep -Ex -e "$1" "$tmp/dump" || { cat "$tmp/dump"; return 1; }; }

version=$(sed -n 's/^AC_INIT(\[zmem\], \[\([^]]*\)\].*/\1/p' \
              "$srcdir/configure.ac")

check "its name" has 'name=zmem'
check "its version" has "version=$version"
check "requests could run in parallel" has 'max_thread_model=parallel'
if nbdkit_survives_hang_ups; then model=parallel; else
  model=serialize_requests
fi
check "a connection's do where nbdkit survives clients that hang up" \
      has "thread_model=$model"
check "errors keep their number" has 'errno_is_preserved=1'
check "size is the option without a key" has 'magic_config_key=size'
for callback in list_exports default_export export_description block_size \
                can_multi_conn can_fua can_fast_zero can_cache extents trim \
                zero cache flush; do
  check "has $callback" has "has_$callback=1"
done
for codec in lz4 zstd; do
  check "tells of $codec" grep -Eq "^zmem_.*$codec" "$tmp/dump"
done

check "--help" bounded nbdkit "$ZMEM_PLUGIN" --help
cp "$tmp/check.out" "$tmp/help"
for option in size compress limit compact compact-rate control stats-export \
              statsfile stats-interval mlock parallel; do
  check "--help tells of $option=" grep -Eq "^ *$option=" "$tmp/help"
done

check "--version" bounded nbdkit "$ZMEM_PLUGIN" --version
cp "$tmp/check.out" "$tmp/version"
check "--version says $version" grep -Fx "zmem $version" "$tmp/version"

finish
