#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Static analysis: "make analysis", a stage of ./check.  No finding may be left;
# one that is wrong has its reason at its place.
#
#   gcc         gcc -fanalyzer
#   cppcheck    its warnings, performance, portability
#   format      clang-format has nothing to change
#   scripts     shellcheck
#
# ANALYSIS_DIR: where each leaves its .log and its .trs.  A tool that is not
# there is skipped.
set -u

: "${srcdir:?}" "${top_builddir:?}" "${ANALYSIS_DIR:=$top_builddir/analysis}"
mkdir -p "$ANALYSIS_DIR" || exit 1
cd "$srcdir" || exit 1
jobs=$(nproc)

# The code that is installed, and all of it.
sources=({alloc,codec,compact,store,plugin,ctl}/*.c)
all=({alloc,codec,compact,store,plugin,ctl,bench,tests}/*.[ch]
     tests/{fuzz,vm}/*.[ch])
scripts=(check run .ci/run install-packages autogen.sh {bench,tests,tests/fuzz}/*.sh
         tests/vm/{fetch-kernel,guest}.sh)
flags=(-std=gnu17 -DHAVE_CONFIG_H -I"$top_builddir" -iquote alloc -iquote codec
       -iquote compact -iquote store -iquote plugin -iquote ctl)

# in_parallel NR COMMAND...: with the names on standard input, NR at a time.
in_parallel () { xargs -P "$jobs" -n "$@"; }

# Each prints its findings, and fails where there is one.
#
# gcc 12 takes what realloc returned for lost where a caller ends the program
# (ctl/find.c add_path), hence no -Wanalyzer-malloc-leak; the sanitizers look
# for leaks.
run_gcc ()
{
  printf '%s\n' "${sources[@]}" |
    in_parallel 1 gcc -O2 -fanalyzer -Wno-analyzer-malloc-leak -Werror \
                -S -o /dev/null "${flags[@]}"
}
run_cppcheck ()
{
  cppcheck -q -j "$jobs" --language=c --std=c11 --inline-suppr \
    --enable=warning,performance,portability --error-exitcode=1 \
    -DHAVE_CONFIG_H -I"$top_builddir" -Ialloc -Icodec -Icompact -Istore \
    -Iplugin -Ictl alloc codec compact store plugin ctl
}
run_format () { clang-format --dry-run -Werror "${all[@]}"; }
# Not 2317: functions are called from traps and by `check`, which it cannot
# see.  2016: what is quoted so is for eval and awk.  2015, 2017: meant.
run_scripts ()
{
  printf '%s\n' "${scripts[@]}" |
    in_parallel 8 shellcheck -x -e SC2015,SC2016,SC2017,SC2317
}

status=0
# stage NAME PROGRAM
stage ()
{
  local log=$ANALYSIS_DIR/$1.log result=PASS began=$SECONDS

  if ! command -v "$2" >/dev/null; then
    result=SKIP
    echo "there is no $2 here" >"$log"
  elif ! "run_$1" >"$log" 2>&1; then
    result=FAIL
    status=1
    cat "$log"
  fi
  echo ":test-result: $result" >"$ANALYSIS_DIR/$1.trs"
  echo "$result: $1, $((SECONDS - began)) s"
}
stage format clang-format
stage scripts shellcheck
stage cppcheck cppcheck
stage gcc gcc
exit $status
