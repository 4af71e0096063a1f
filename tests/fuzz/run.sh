#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs one fuzzer for some seconds: what "make fuzz" and the stage fuzz of
# ./check put in front of each.
#
#     tests/fuzz/run.sh [COMMAND...] PATH/fuzz-NAME
#
#   FUZZ_SECONDS          how long (default: 3)
#   make-seeds.sh         what it begins with, and what once found something
#   tests/fuzz/NAME.dict  words that inputs are made of, if there is one
#   corpus/NAME           beside the fuzzer: inputs that reached new code; it
#                         stays and grows from run to run
#   found/                beside the fuzzer: what failed, with the command
#                         that repeats it
#
# A program of another name is run as it is.
set -u

program=${!#}
name=${program##*/fuzz-}
[ "$name" != "$program" ] || exec "$@"

case $program in /*) ;; *) program=$PWD/$program ;; esac
folder=${program%/*}
seeds=$folder/seeds/$name
dict=${srcdir:-.}/tests/fuzz/$name.dict
corpus=$folder/corpus/$name
found=$folder/found
seconds=${FUZZ_SECONDS:-3}

export ASAN_OPTIONS="${ASAN_OPTIONS:-}:allocator_may_return_null=1"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
mkdir -p "$corpus" "$found" || exit 1
FUZZ_TMP=$(mktemp -d /tmp/zmem-fuzz.XXXXXX) || exit 1   # sockets
export FUZZ_TMP
trap 'rm -rf "$FUZZ_TMP"' EXIT
before=$(find "$found" -name "$name-*" | sort)

# Of the NBD stream there is no coverage: it is no libFuzzer program.
if [ "$name" = nbd ]; then
  "$@" --seconds="$seconds" --found="$found/$name-"
  status=$?
else
  options=(-max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048
           -artifact_prefix="$found/$name-" -print_final_stats=1
           -verbosity=1 -close_fd_mask=0)
  [ ! -e "$dict" ] || options+=(-dict="$dict")
  rm -rf "$seeds"
  "${0%/*}/make-seeds.sh" "$name" "$seeds" || exit 1
  # All that is there comes first: a seed that fails fails at once.
  "$@" "${options[@]}" "$corpus" "$seeds" 2>&1
  status=$?
fi
if [ $status -eq 77 ] && [ "$name" = nbd ]; then
  exit 77
fi
[ $status -ne 0 ] || exit 0

echo "FAILED: fuzz-$name (status $status)"
while read -r file; do
  [ -n "$file" ] || continue
  echo "the input is kept:  $file"
  if [ "$name" = nbd ]; then
    echo "to repeat it:       $program --repeat=$file"
  else
    echo "to repeat it:       $program $file"
  fi
done < <(comm -13 <(echo "$before") <(find "$found" -name "$name-*" | sort))
exit 1
