#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What makes an error harder to use: the table in SECURITY, held against the
# plugin and zmemctl as they were built.  Builds that do without (no
# optimising, a sanitizer, a compiler that lacks something) say so in config.h,
# and skip.
set -u

for tool in readelf nm; do
  command -v $tool >/dev/null || { echo "there is no $tool here"; exit 77; }
done
if [ "$(uname -m)" != x86_64 ]; then
  echo "the table is about x86_64"
  exit 77
fi
: "${srcdir:?}" "${top_builddir:?}"
hardening=$(sed -n 's/^HARDENING_[A-Z]* = *//p' "$top_builddir/Makefile" |
              tr '\n' ' ')
for flag in -D_FORTIFY_SOURCE=2 -fstack-protector-strong -Wl,-z,relro \
            -Wl,-z,now; do
  case " $hardening " in
    *" $flag "*) ;;
    *) echo "this build is without $flag"; exit 77 ;;
  esac
done

program=$top_builddir/zmemctl
plugin=$ZMEM_PLUGIN
fail=0

# has FILE FEATURE: is it there, by what the file says of itself?
has ()
{
  local dynamic segments undefined
  dynamic=$(readelf -W -d "$1") segments=$(readelf -W -l "$1")
  undefined=$(nm -D -u "$1")

  case $2 in
    'full RELRO')
      grep -q GNU_RELRO <<<"$segments" &&
        grep -Eq 'BIND_NOW|Flags:.* NOW' <<<"$dynamic" ;;
    'position-independent')
      readelf -h "$1" | grep -q 'Type: *DYN' && ! grep -q TEXTREL <<<"$dynamic" ;;
    'stack protector') grep -q '__stack_chk_fail' <<<"$undefined" ;;
    'FORTIFY')
      # gcc's names; both compilers reach these.
      grep -Eq '__(v?sn?printf|v?fprintf|printf|memcpy|memmove|strcpy|read)_chk' \
        <<<"$undefined" ;;
    'no executable stack')
      grep -q 'GNU_STACK.* RW ' <<<"$segments" ;;
    'nothing writable and executable') ! grep -Eq ' (RWE|WE) ' <<<"$segments" ;;
    'no search path') ! grep -Eq 'R(UN)?PATH' <<<"$dynamic" ;;
    *) echo "the test does not know \"$2\""; return 1 ;;
  esac
}

nr=0
while IFS='|' read -r _ feature in_plugin in_program _; do
  read -r feature <<<"$feature"
  read -r in_plugin <<<"$in_plugin"
  read -r in_program <<<"$in_program"
  [ "$in_plugin" = yes ] || [ "$in_program" = yes ] || continue
  nr=$((nr + 1))
  for file in "$in_plugin|$plugin" "$in_program|$program"; do
    [ "${file%%|*}" = yes ] || continue
    if has "${file#*|}" "$feature"; then
      echo "ok: ${file##*/}: $feature"
    else
      echo "FAILED: ${file##*/} is not: $feature"
      fail=1
    fi
  done
done <"$srcdir/SECURITY"
if [ $nr -lt 7 ]; then
  echo "FAILED: SECURITY's table has $nr rows, not 7 at least"
  fail=1
fi
exit $fail
