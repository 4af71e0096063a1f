#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What the tests have reached of the store and what is below it, by gcov's
# counts: "make coverage", in the folder of a build that counts.
#
#   coverage.sh SOURCES
#
# Prints a table of the files of alloc/, codec/, compact/ and store/, and of
# each folder; fails where a folder has less than 90 % of its lines or 80 % of
# its branches.  Leaves coverage/zmem.info for other tools of lcov,
# coverage/index.html where there is a genhtml, and coverage/missed: the lines
# that nothing has reached.
#
# Branches: of calls that cannot return, gcov has none (geninfo's
# no_exception_branch); an assertion's failing side is no branch of zmem's.
set -u

sources=$(cd "${1:?usage: coverage.sh SOURCES}" && pwd) || exit 1
lines_wanted=90
branches_wanted=80

command -v lcov >/dev/null || {
  echo "coverage: there is no lcov here (Debian: apt-get install lcov)" >&2
  exit 1
}
[ -n "$(find . -name '*.gcda' -print -quit)" ] || {
  echo "coverage: nothing was counted: configure with --enable-coverage" >&2
  exit 1
}
mkdir -p coverage || exit 1
rc=(--rc lcov_branch_coverage=1 --rc geninfo_no_exception_branch=1
    --rc 'lcov_excl_br_line=LCOV_EXCL_BR_LINE|assert|ck_assert')

lcov -q "${rc[@]}" -c -d . -b . -o coverage/all.info 2>coverage/lcov.log &&
  lcov -q "${rc[@]}" -e coverage/all.info \
       "$sources"/{alloc,codec,compact,store}/'*' \
       -o coverage/zmem.info 2>>coverage/lcov.log || {
  tail -n 20 coverage/lcov.log >&2
  exit 1
}
! command -v genhtml >/dev/null ||
  genhtml -q --branch-coverage -o coverage coverage/zmem.info \
          >>coverage/lcov.log 2>&1

: >coverage/missed
awk -v top="$sources/" -v lines_wanted=$lines_wanted \
    -v branches_wanted=$branches_wanted '
  function percent(hit, of) { return of == 0 ? 100 : 100 * hit / of }
  function row(name, l, lf, b, bf) {
    printf "%-28s %5d of %5d %6.1f %%  %5d of %5d %6.1f %%\n", name, \
           l, lf, percent(l, lf), b, bf, percent(b, bf)
  }
  /^SF:/ {
    file = substr($0, 4)
    sub(top, "", file)
    folder = file
    sub("/.*", "", folder)
    l = lf = b = bf = 0
  }
  /^DA:/ {
    split(substr($0, 4), f, ",")
    lf++
    if (f[2] > 0) l++
    else print file ":" f[1] >"coverage/missed"
  }
  /^BRDA:/ {
    split(substr($0, 6), f, ",")
    bf++
    if (f[4] != "-" && f[4] > 0) b++
    else print file ":" f[1] ": a branch" >"coverage/missed"
  }
  /^end_of_record/ {
    row(file, l, lf, b, bf)
    L[folder] += l; LF[folder] += lf; B[folder] += b; BF[folder] += bf
  }
  BEGIN { printf "%-28s %23s  %23s\n", "", "lines", "branches" }
  END {
    split("alloc codec compact store", folders, " ")
    for (i = 1; i <= 4; i++) {
      folder = folders[i]
      row(folder "/", L[folder], LF[folder], B[folder], BF[folder])
      if (LF[folder] == 0 || percent(L[folder], LF[folder]) < lines_wanted ||
          percent(B[folder], BF[folder]) < branches_wanted)
        status = 1
    }
    exit status
  }' coverage/zmem.info || {
  echo "coverage: less than $lines_wanted % of lines or $branches_wanted %" \
       "of branches; coverage/missed has what was not reached" >&2
  exit 1
}
