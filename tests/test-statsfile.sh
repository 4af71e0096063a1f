#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# statsfile=: the file is there from the start, is replaced as a whole, has
# the last numbers at the end, and trouble with it is said once.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdcopy

file=$tmp/stats/zmem.prom
mkdir "$tmp/stats"

inode () { stat -c %i "$file"; }
# has NAME VALUE-REGEX: the file says so.
has () { grep -Eq "^zmem_$1 ($2)\$" "$file"; }
# The file is another one than that.
replaced () { [ -e "$file" ] && [ "$(inode)" != "$1" ]; }
leftover () { compgen -G "$tmp/stats/*.tmp"; }

#----------------------------------------------------------------------

start_server size=64M statsfile="$file" stats-interval=1
check "the file is there" wait_for 120 test -s "$file"
check "others may read it" is_equal "$(umask 022; stat -c %A "$file")" \
      "-rw-r--r--"
check "it has the statistics" has size_bytes $((64 * M))
first=$(inode)

text_file "$tmp/text" $((4 * M))
check "blocks to count" nbdcopy "$tmp/text" "$uri"
check "the file is replaced" wait_for 120 replaced "$first"
check "and says what was written" wait_for 120 has lz4_blocks 1024

# A reader that opens it now and then never sees half of one: each begins
# with the first statistic and ends with the last histogram's count.
whole () {
  local text first_line
  text=$(cat "$file") || return
  first_line=${text%%$'\n'*}
  matches "$first_line" '^# HELP zmem_size_bytes ' >/dev/null &&
    matches "${text##*$'\n'}" '^zmem_write_latency_seconds_count [0-9]+$' \
            >/dev/null
}
always_whole () {
  local i seen latest nr_replaced=0
  seen=$(inode)
  for ((i = 0; nr_replaced < 3 && i < 100000; i++)); do
    whole || { echo "after $i good ones"; cat "$file"; return 1; }
    latest=$(inode)
    [ "$latest" = "$seen" ] || nr_replaced=$((nr_replaced + 1))
    seen=$latest
  done
  is_equal "$nr_replaced" 3
}
check "a reader always sees a whole one" always_whole

# Its folder goes away: said once, not every second; and it goes on when the
# folder is back.
mv "$tmp/stats" "$tmp/away"
complained () { grep -q 'statsfile=.*cannot be written' "$log"; }
check "trouble is said" wait_for 120 complained
# Two more intervals, by the server's clock.
later=$(($(stat_value uptime_seconds) + 3))
has_uptime () { at_least "$(stat_value uptime_seconds)" "$later"; }
check "time goes by" wait_for 120 has_uptime
check "once" is_equal "$(grep -c 'statsfile=' "$log")" 1
check "the disk does not mind" nbdcopy "$tmp/text" "$uri"
mv "$tmp/away" "$tmp/stats"
second=$(inode)
check "it goes on when it can" wait_for 120 replaced "$second"
mv "$tmp/stats" "$tmp/away"
complained_again () { [ "$(grep -c 'statsfile=' "$log")" = 2 ]; }
check "trouble that comes back is said again" wait_for 120 complained_again
mv "$tmp/away" "$tmp/stats"
stop_server

# An interval that never comes: what is there at the end was written then.
start_server_as last size=64M statsfile="$file" stats-interval=86400
check "a new server begins anew" wait_for 120 has lz4_blocks 0
check "some more blocks" nbdcopy "$tmp/text" "$uri"
check "not yet in the file" has lz4_blocks 0
stop_server last
check "the last numbers are written at the end" has lz4_blocks 1024
check "nothing else is left behind" not leftover

# A file of the temporary name that is no leftover of ours stays.
mkfifo "$file.zmem.tmp"
check_fails "what is no regular file is not removed" 'statsfile=' \
            bounded nbdkit -U "$tmp/x.sock" "$ZMEM_PLUGIN" size=1M \
            statsfile="$file" --run true
check "and is still there" test -p "$file.zmem.tmp"
rm "$file.zmem.tmp"

# What a killed server left is in nobody's way.
echo rubbish >"$file.zmem.tmp"
start_server_as tidy size=1M statsfile="$file"
check "a leftover is replaced" wait_for 120 has size_bytes $M
stop_server tidy
check "and gone" not leftover

# In the background, from another folder.
(cd "$tmp/stats" && bounded nbdkit -U "$tmp/daemon.sock" \
  --pidfile "$tmp/daemon.pid" "$ZMEM_PLUGIN" size=2M statsfile=zmem.prom) \
  >"$tmp/daemon.log" 2>&1
wait_for 120 test -s "$tmp/daemon.pid"
daemon_pid=$(cat "$tmp/daemon.pid")
adopt_daemon "$daemon_pid"
check "a server in the background writes it where it was told to" \
      wait_for 120 has size_bytes $((2 * M))
kill -TERM "$daemon_pid"
check "and ends" wait_for 120 process_ended "$daemon_pid"

#----------------------------------------------------------------------
# What is refused at the start.

# refused NAME REGEX PATH
refused () {
  check_fails "$1" "statsfile=.*$2" bounded nbdkit -f -U "$tmp/refused.sock" \
              "$ZMEM_PLUGIN" size=1M statsfile="$3"
}
refused "a folder that is not there" 'No such file or directory' \
        "$tmp/missing/zmem.prom"
refused "a device" 'this is no regular file' /dev/null
check "which is still one" test -c /dev/null
refused "a folder" 'this is no regular file' "$tmp/stats"
ln -s "$tmp/elsewhere" "$tmp/stats/link"
refused "a link" 'this is no regular file' "$tmp/stats/link"
check "which leads where it did" is_equal "$(readlink "$tmp/stats/link")" \
      "$tmp/elsewhere"
if [ "$(id -u)" -ne 0 ]; then
  chmod a-w "$tmp/stats"
  refused "a folder that is not for us" 'Permission denied' \
          "$tmp/stats/other"
  chmod u+w "$tmp/stats"
fi

finish
