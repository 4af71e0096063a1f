#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# bench/compare.sh from end to end, as small as can be: that it measures what
# it says and leaves nothing behind.  No number that it measures is judged.

. "$srcdir/tests/functions.sh"

requires nbdkit perl gnuplot
bench=$top_builddir/bench
for program in codec-bare nbd-load nbdkit-bare-plugin.so; do
  [ -e "$bench/$program" ] ||
    skip "no bench/$program: say 'make bench-programs'"
done

mkdir "$tmp/tmp"
# compare ARGUMENTS...: in an environment of its own.
compare () {
  TMPDIR=$tmp/tmp BENCH=$bench CORPUS=$tmp/corpus ROUNDS=1 SECONDS_EACH=0.05 \
    bounded "$srcdir/bench/compare.sh" "$@"
}

# Any pages will do: what bench/corpus makes is test-corpus.sh's.
text_file "$tmp/corpus" $((8 * M))
head -c 4M /dev/urandom >>"$tmp/corpus"
head -c 4M /dev/zero >>"$tmp/corpus"

# Told to end as soon as they may be, jobs do so, and nothing else.
cat >"$tmp/jobs.sh" <<'END'
. "$srcdir/bench/servers.sh"
idle_for_ever () { exec sleep 600; }
for _ in {1..60}; do
    start_job idle idle_for_ever
    end_process "${pid[idle]}"
    [ -d "$dir" ] || die "a job has cleaned up"
done
END
end_jobs () {
  TMPDIR=$tmp/tmp BENCH=$bench CORPUS=$tmp/corpus srcdir=$srcdir \
    bounded bash "$tmp/jobs.sh"
}
check "60 jobs end when they are told to" end_jobs

check_fails "a mistyped option" '^compare.sh: --fulll: not one of --full' \
            compare --fulll
SERVERS="malloc zmemm" PHASES=fill \
  check_fails "a mistyped server" 'zmemm is no kind of server: malloc, ' \
              compare --out "$tmp/mistyped"
PHASES="fill randred-d4" \
  check_fails "a mistyped phase" 'randred-d4 is no phase: fill ' \
              compare --out "$tmp/mistyped"
check "nothing was begun" test ! -e "$tmp/mistyped"

export SERVERS="null malloc bare zmem"
export PHASES="fill latread randread randwrite mixed seqread256 trimhalf
               randread-c2 randwrite-d4 randwrite-compact"
check "a small run" compare --out "$tmp/results"
for file in results.jsonl summary.json summary.txt throughput.svg held.svg; do
  check "there is $file" test -s "$tmp/results/$file"
done

# lines PATTERN: how many lines of the results match.
lines () { grep -cE "$1" "$tmp/results/results.jsonl"; }
check "the run's head" is_equal "$(lines '"type":"run"')" 1
check "what the codecs take" is_equal "$(lines '"type": "codec"')" 2
check "four servers were read" \
      is_equal "$(lines '"type": "load".*"phase": "randread",')" 4
check "with and without a codec" is_equal \
      "$(lines '"load".*"server": "(null|bare)", "phase": "randwrite",')" 2
check "other connections and depths, of malloc and zmem" is_equal \
      "$(lines '"phase": "randread-c2".*"connections": 2[^0-9]')$(lines '"phase": "randwrite-d4".*"depth": 4[^0-9]')" 22
check "their processor time is known" \
      is_equal "$(lines '"type": "load".*"server_cpu_us": [0-9.]*[1-9]')" \
               "$(lines '"type": "load"')"
check "no error" is_equal "$(lines '"errors": [1-9]')" 0
check "nothing wrong but what null made up" \
      is_equal "$(lines '"wrong": [1-9]')" 0
check "held, after trimming as well" \
      is_equal "$(lines '"type": "held".*"server": "zmem", "phase": "trimhalf"')" 1
check "held over time" \
      at_least "$(lines '"type": "sample".*"server": "zmem"')" 3
check "compaction ran meanwhile" is_equal \
      "$(lines '"load".*"server": "zmem", "phase": "randwrite-compact"')" 1
check "one line is one of JSON" is_json \
      "$(head -n 1 "$tmp/results/results.jsonl")"
check "the summary is JSON" is_json "$(cat "$tmp/results/summary.json")"
check "ratios are told" grep -q 'zmem/malloc' "$tmp/results/summary.txt"

check "the private folders are gone" is_equal "$(ls -A "$tmp/tmp")" ""

finish
