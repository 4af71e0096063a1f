#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The statistics in all their formats: text, JSON and Prometheus', from the
# control socket, the export and the file, are well-formed and tell the same;
# and who reads the file while it is replaced goes on reading the old one.

. "${srcdir:-.}/tests/functions.sh"
requires qemu-io nbdcopy
umask 022

file=$tmp/zmem.prom

# The text exposition format: each metric has its HELP and TYPE once and
# before its samples, which are numbers; a counter ends in _total; the
# buckets of a histogram never fall, and the last is its count.
is_prometheus () {
  [ "$(tail -c 1 "$1" | od -An -c | tr -d ' ')" = '\n' ] ||
    { echo "the last line has no end"; return 1; }
  awk '
    function bad (why) { print FILENAME ":" FNR ": " why ": " $0; failed = 1 }
    /^# HELP / { if ($3 in help) bad("second HELP"); help[$3] = 1
                 if (NF < 4) bad("HELP without words"); next }
    /^# TYPE / { if ($3 in type) bad("second TYPE"); type[$3] = $4
                 if (!($3 in help)) bad("TYPE without HELP")
                 if ($4 !~ /^(gauge|counter|histogram)$/) bad("odd type")
                 if ($4 == "counter" && $3 !~ /_total$/)
                   bad("counter without _total")
                 next }
    /^#/ || /^$/ { bad("odd line"); next }
    {
      if ($0 !~ /^zmem_[a-z0-9_]+({[a-z]+="[^"]*"})? ([0-9]+(\.[0-9]+)?|\+Inf)$/)
        bad("odd sample")
      metric = $1; sub (/{.*/, "", metric); base = metric
      sub (/_(bucket|sum|count)$/, "", base)
      if (base in type && type[base] == "histogram") metric = base
      if (!(metric in type)) bad("no TYPE")
      if ($1 in seen) bad("twice")
      seen[$1] = 1; nr++
      if ($1 ~ /_bucket{/) {
        if ($2 + 0 < last[base] + 0) bad("bucket falls")
        last[base] = $2
      }
      if ($1 ~ /_count$/ && $2 != last[base]) bad("count is no last bucket")
    }
    END { if (nr < 40) { print nr + 0, "samples only"; failed = 1 }
          exit failed }' "$1"
}

sample () { sed -n "s/^zmem_$1 //p" "$file"; }
sample_is () { [ "$(sample "$1")" = "$2" ]; }

start_server size=64M "statsfile=$file" stats-interval=1 stats-export=stats
check "the file appears" wait_for 60 test -s "$file"
check "it is Prometheus text" is_prometheus "$file"
check "it has the disk's size" is_equal "$(sample size_bytes)" $((64 * M))
check "everybody may read it" is_equal "$(stat -c %a "$file")" 644

text_file "$tmp/text" $((8 * M))
qemu-io -f raw "$uri" -c "write -s $tmp/text 0 8M" >"$tmp/qemu-io.out"
check "it is written anew" wait_for 60 sample_is write_bytes_total $((8 * M))

# Replaced, not rewritten: who has the old file open goes on reading that.
is_replaced () { [ ! "/proc/$$/fd/$1" -ef "$file" ]; }
lines=$(wc -l <"$file")
for nth in first second third; do
  exec {fd}<"$file"
  check "it is replaced a $nth time" wait_for 60 is_replaced "$fd"
  check "the file before that stays whole" is_equal "$(wc -l <&"$fd")" \
        "$lines"
  exec {fd}<&-
done

# The same names in every format, and the same values of what stands still.
zmemctl --json stats >"$tmp/stats.json"
nbdcopy "$(export_uri stats)" - >"$tmp/stats.text"
zmemctl stats prometheus >"$tmp/stats.prom"
check "the control socket gives Prometheus text, too" \
      is_prometheus "$tmp/stats.prom"
all_formats_have () {
  local name type nr=0
  while read -r name type; do
    nr=$((nr + 1))
    [ "$type" = GAUGE ] && type='' || type=_total
    grep -Eq "^ *\"$name\": [0-9]+,?$" "$tmp/stats.json" ||
      { echo "JSON has no $name"; return 1; }
    grep -Eq "^$name [0-9]+$" "$tmp/stats.text" ||
      { echo "the text has no $name"; return 1; }
    grep -Eq "^zmem_$name$type [0-9]+$" "$tmp/stats.prom" ||
      { echo "Prometheus has no $name"; return 1; }
  done < <(sed -n 's/^STAT (\([a-z0-9_]*\), \([A-Z]*\),.*/\1 \2/p' \
               "$srcdir/store/stats.def")
  at_least "$nr" 40
}
check "all formats have every statistic" all_formats_have
for name in size_bytes limit_bytes live_blocks lz4_blocks payload_bytes; do
  value=$(sed -n "s/^$name //p" "$tmp/stats.text")
  check "all formats tell one value of $name" is_equal \
        "$value $value" \
        "$(stat_value $name) $(sed -n "s/^zmem_$name //p" "$tmp/stats.prom")"
done
check "the blocks that were written are there" is_equal \
      "$(stat_value live_blocks)" 2048
check "ratio: logical over held" is_equal \
      "$(sed -n 's/^ratio_thousandths //p' "$tmp/stats.text")" \
      "$(awk '/^logical_bytes / { l = $2 } /^held_bytes / { h = $2 }
              END { print int (l * 1000 / h) }' "$tmp/stats.text")"
if type -P jq >/dev/null; then
  check "JSON is JSON" jq -e ".size_bytes == $((64 * M))" "$tmp/stats.json"
fi
stop_server
check "nothing is left beside the file" is_equal \
      "$(echo "$tmp"/zmem.prom*)" "$file"

finish
