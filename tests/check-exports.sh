#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The plugin exports plugin_init alone, and lacks nothing but nbdkit's own
# functions.  (It is linked with undefined symbols, so a forgotten function
# would else be seen by its first user.)
set -u

fail=0
for tool in nm ldd; do
  command -v $tool >/dev/null || { echo "there is no $tool here"; exit 77; }
done

exported=$(nm -D --defined-only "$ZMEM_PLUGIN" | awk '{ print $NF }' |
             grep -v '^_\(init\|fini\|edata\|end\|_bss_start\)$')
if [ "$exported" != plugin_init ]; then
  echo "the plugin exports, instead of plugin_init alone: ${exported//$'\n'/ }"
  fail=1
fi

missing=$(ldd -r "$ZMEM_PLUGIN" 2>&1 | sed -n 's/^undefined symbol: *\([^ 	]*\).*/\1/p' |
            grep -v '^nbdkit_')
if [ -n "$missing" ]; then
  echo "the plugin calls functions that nobody has: ${missing//$'\n'/ }"
  fail=1
fi
exit $fail
