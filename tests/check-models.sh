#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The models beside the code (*.pml), by spin: each in all of its states,
# without a violation; and each with every defect that is built into it
# (#define BUG_x), in which spin must find one: so a model can fail.  With
# MAY_x, a change that is claimed to be harmless, it must find none.
#
# One program a model: which defect it has, it reads from $BUG.
#
#   ZMEM_MODELS=deep   more threads and turns: minutes and gigabytes

. "${srcdir:-.}/tests/functions.sh"
requires spin cc

models="alloc/held codec/context compact/refill compact/worker
  store/block-table store/overwrite store/publish"
longest=200000                  # steps of a run
define=()
[ "${ZMEM_MODELS-}" != deep ] || define=(-DDEEP)

sources=$(cd "$srcdir" && pwd)

# build_model MODEL: ./pan, in a folder of its own.
build_model () {
  mkdir -p "$tmp/$1" && cd "$tmp/$1" || return
  spin "${define[@]}" -a "$sources/$1.pml" >spin.out 2>&1 &&
    cc -O1 -w -DSAFETY -DNOFAIR -o pan pan.c >>spin.out 2>&1 || {
      cat spin.out
      return 1
    }
}

# run_model MODEL BUG: what spin found is in ./out.
run_model () {
  cd "$tmp/$1" || return
  BUG=$2 timeout -k 5 250 ./pan -w20 -m"$longest" >out 2>&1
  rm -f ./*.trail
}

nr_states () { sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$tmp/$1/out"; }

# All states were seen, and none was wrong.
is_right () {
  run_model "$1" "$2"
  if grep -q 'max search depth too small\|Search not completed' out ||
     ! grep -q 'errors: 0$' out; then
    grep -v '^[[:space:]]*$' out | head -n 20
    return 1
  fi
}

# It says what is wrong.
is_wrong () {
  run_model "$1" "$2"
  grep -q '^pan:1: \(assertion violated\|invalid end state\)' out || {
    head -n 20 out
    return 1
  }
}

for model in $models; do
  if check "$model.pml becomes a program" build_model "$model"; then
    if check "$model.pml holds" is_right "$model" 0; then
      echo "    $(nr_states "$model") states"
    fi
    nr_bugs=0
    while read -r _ name number _; do
      case $name in
        BUG_*)
          nr_bugs=$((nr_bugs + 1))
          check "$model.pml: $name is found" is_wrong "$model" "$number"
          ;;
        MAY_*) check "$model.pml: $name is harmless" is_right "$model" "$number" ;;
      esac
    done < <(grep -E '^#define (BUG|MAY)_' "$sources/$model.pml")
    check "$model.pml has defects built in" at_least $nr_bugs 3
  fi
done

# Each model that there is.
check "no model is left out" is_equal \
  "$(cd "$sources" && find . -path ./build -prune -o -name '*.pml' -print |
       sed 's|^\./||; s|\.pml$||' | sort | xargs)" \
  "$(xargs <<<"$models")"
finish
