#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Every bad option is refused at the start, by one sentence that names it.

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo

# refused NAME REGEX OPTION...: the server does not start, and says one line
# that matches.  A server that starts after all ends at once, with status 0.
refused () {
  local name=$1 regex=$2
  shift 2
  # Not -U -: nbdkit 1.32 leaves that folder behind when it does not start.
  check_fails "$name: $*" "$regex" bounded nbdkit -U "$tmp/refused.sock" \
              "$ZMEM_PLUGIN" "$@" --run true || return
  cp "$tmp/check.out" "$tmp/refused"
  check "$name: said in one sentence" is_equal \
        "$(grep -c '^nbdkit: error: ' "$tmp/refused") \
$(wc -l <"$tmp/refused")" "1 1"
}

size=size=64M

refused "no size" 'size='
for bad in 0 -1 -1G junk 1X '' ' ' 1.5G 0x1000 9T 8E 99999999999999999999 \
           1GG none; do
  refused "bad size" 'size=' "size=$bad"
done
refused "bad size without its key" 'size=' junk

for bad in foo '' lz5 LZ4x lz4: lz4:x lz4:0 lz4:-1 lz4:99999999999 zstd: \
           zstd:99 zstd:1x zstd:-99999999 none:1 lz4,zstd repeat; do
  refused "bad codec" 'compress=' $size "compress=$bad"
done

for bad in junk 0 -1 '' 1 100k 0% 101% -5% % 5%% 99999999999999999999; do
  refused "bad limit" 'limit=' $size "limit=$bad"
done

for bad in maybe '' yes AUTO auto,manual 64M; do
  refused "bad compact" 'compact=.*auto or manual' $size "compact=$bad"
done
for bad in maybe '' AUTO 2 16; do
  refused "bad parallel" 'parallel=.*yes, no or auto' $size "parallel=$bad"
done
for bad in junk 0 0G -1 '' 1.5G 10% fast 99999999999999999999; do
  refused "bad compact-rate" 'compact-rate=' $size "compact-rate=$bad"
done

refused "no control path" 'control=' $size control=
refused "control path in no directory" 'control=.*(exist|No such)' $size \
        "control=$tmp/missing/ctl"
refused "control path too long" 'control=.*(longer|too long)' $size \
        "control=$tmp/$(printf 'x%.0s' {1..120})"
echo precious >"$tmp/file"
refused "a file in place of the control socket" 'control=' $size \
        "control=$tmp/file"
check "that file is left alone" is_equal "$(cat "$tmp/file")" precious
mkdir "$tmp/folder"
refused "a folder in place of the control socket" 'control=' $size \
        "control=$tmp/folder"

refused "no export name" 'stats-export=' $size stats-export=
refused "no statistics file" 'statsfile=' $size statsfile=
refused "statistics file in no directory" 'statsfile=' $size \
        "statsfile=$tmp/missing/zmem.prom"
refused "a folder in place of the statistics file" 'statsfile=' $size \
        "statsfile=$tmp/folder"
ln -s file "$tmp/link"
refused "a link in place of the statistics file" 'statsfile=' $size \
        "statsfile=$tmp/link"
check "what it leads to is left alone" is_equal "$(cat "$tmp/file")" precious
for bad in 0 -1 junk '' 1.5 1s 99999999999; do
  refused "bad interval" 'stats-interval=' $size "statsfile=$tmp/prom" \
          "stats-interval=$bad"
done
check "a server that did not start left no statistics" test ! -e "$tmp/prom"
refused "one path for two" '(control|statsfile)=' $size \
        "control=$tmp/both" "statsfile=$tmp/both"

for bad in maybe '' 2; do
  refused "bad mlock" 'mlock=' $size "mlock=$bad"
done

refused "a mistyped option" 'sise=.*size=' sise=1G
refused "a mistyped option" 'compres=.*compress=' $size compres=lz4
refused "a mistyped option" 'compac=.*compact=' $size compac=auto
refused "a mistyped option" 'compact_rate=.*compact-rate=' $size \
        compact_rate=1M
refused "a mistyped option" 'stat-file=.*statsfile=' $size stat-file=x
refused "an unknown option" 'frobnicate=.*compress=' $size frobnicate=1

# The socket of a live server.
start_server_as live size=64M
refused "another server's control socket" 'control=.*another server' $size \
        "control=$ctl"
check "that server still answers on it" zmemctl stats
check "that server still serves" is_equal "$(nbdinfo --size "$uri")" \
      $((64 * M))
stop_server live

# What comes close to a bad option, and is none.
accepted () {
  check "accepted: $*" bounded nbdkit -U - "$ZMEM_PLUGIN" "$@" --run true
}
accepted 1G
accepted size=1
accepted size=8T
accepted size=4097b
accepted $size compress=zstd:-7
accepted $size compress=zstd:19
accepted $size compress=lz4:16
accepted $size limit=100%
accepted $size limit=none mlock=no
accepted $size compact=manual
accepted $size compact=auto compact-rate=1
accepted $size compact-rate=none
accepted $size parallel=auto
accepted $size parallel=no
accepted $size parallel=yes
accepted $size stats-interval=86400
accepted $size "control=$tmp/new.ctl" "statsfile=$tmp/new.prom"
check "it took its control socket with it" test ! -e "$tmp/new.ctl"

# Address space that could not be made usable is refused at start, not after
# the fork, where nobody would hear of it.
little_data () { (ulimit -d 2000000 && bounded nbdkit -U "$tmp/little.sock" \
                    "$ZMEM_PLUGIN" size=1G --run true); }
check_fails "a limit on data" 'size=:.*address space.*ulimit -d' little_data

finish
