#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Writes the seeds of one fuzzer, the inputs that it begins with, as files
# into a folder.  An input that has once found something is added at the end
# of its fuzzer's.
#
#     tests/fuzz/make-seeds.sh NAME FOLDER
set -u
export LC_ALL=C

# seed NAME TEXT...: pieces with printf's escapes.
seed () {
  local name=$1
  shift
  printf '%b' "$@" >"$folder/$name"
}

# times N CHARACTER
times () { head -c "$1" /dev/zero | tr '\0' "$2"; }

#----------------------------------------------------------------------

seeds_of_options () {
  seed size 'size=1G\n'
  seed most 'size=8T\ncompress=zstd:-3\nlimit=80%\ncompact=manual\n' \
       'compact-rate=64M\n'
  seed paths 'size=1536m\ncontrol=x.ctl\nstats-export=stats\n' \
       'statsfile=/run/zmem/x.prom\nstats-interval=86400\nmlock=on\n'
  seed wrong 'siez=1G\ncompres=lz4\nlimit=1.5G\nsize=-1\nsize=8E\n' \
       'size=0x10\nlimit=0%\nlimit=101%\nlimit=150%\n'
  seed refused 'limit=none\ncompress=lz4:65537\ncompress=none:1\n' \
       'mlock=perhaps\nstats-interval=0\ncontrol=\nstatsfile=/tmp/\n'
  seed sizes '-0\n+5K\n 7s\n9223372036854775807\n8191P\n8E\n0E\n1GB\n1 G\n+-0\n'
  seed long "size=$(times 600 1)\\n$(times 100 k)=1\\n" \
       "control=/$(times 106 x)\\ncontrol=/$(times 107 x)\\n" \
       "control=/$(times 200 x)\\nstats-export=$(times 4097 e)\\n"
}

# The first byte: how many bytes are sent at once, or W: with a worker.
seeds_of_control () {
  seed questions 'Wstats\nstats json\nstats prometheus\nclasses\n' \
       'classes json\nmap\nhelp\n'
  seed limits 'Wlimit\nlimit 64M\nlimit 1K\nlimit none\nlimit 50%\nlimit x\n'
  seed codecs '~compress\ncompress zstd:3\ncompress none\n' \
       'compress lz4:70000\ncompress\n'
  seed compactions 'Wcompact\ncompact wait\ncompact class 100\n' \
       'compact wait class 4K\ncompact status\ncompact class\n'
  seed blanks '~\n\r\n  \t\n stats \r\nstats'
  seed mistakes 'zhelp me\nmap all\nstats xml\nclasses yaml\nnothing\n' \
       'he\0000lp\n'
  seed longer-line " $(times 1025 h)\\nhelp\\n"
  seed long-lines " $(times 1024 s)\\r\\n$(times 1023 ' ')h\\n" \
       "$(times 1026 x)\\nhelp\\n"
}

# See fuzz-answers.c for the first byte.
seeds_of_answers () {
  seed values 'vsize_bytes 1073741824\nlimit_bytes none\nheld_bytes 400000\n' \
       'live_blocks 3\nraw_blocks 1\nread_requests 5\n' \
       'read_latency_p50_us 1.5\nread_latency_p99_us inf\nio_errors 2\n' \
       'compress lz4:1\ncompact_state finished\ncompact_moved_objects 7\n' \
       'note this is "one" \\ word\n'
  seed classes 'cPobject_bytes objects inuse zspages resident_bytes ' \
       'wasted_bytes group0 group1 group2 group3 group4 group5 group6 ' \
       'group7 full\n48 5461 100 2 8192 3392 1 0 0 0 0 0 0 0 1\n' \
       '4096 64 64 1 262144 0 0 0 0 0 0 0 0 0 1\n'
  seed classes-old 'c\0320object_bytes objects inuse zspages ' \
       'resident_bytes wasted_bytes\n16 16384 1 1 4096 4080\n'
  seed map 'mheld_bytes 5000\n\tobject_bytes objects_per_zspage zspages ' \
       'map\n48 5461 2 ff401a05\n4096 64 3 ff408c400a03\n'
  seed map-pages 'm\tobject_bytes objects_per_zspage zspages map\n' \
       '48 5461 1 ff41\n48 5461 2 ff401a\n'
  seed latency 'l0.5:12 0.75:3 inf:1\n0.5:20 0.75:3 1.5:7 inf:2\n'
  seed socket 'sok 12\nheld_bytes 1\nmore'
  seed refused 'serror there is no command "x"\n'
  seed stranger 'sHTTP/1.1 400 Bad Request\r\n\r\n'

  # Found something: numbers that no server has.
  seed percent 'vheld_bytes 18446744073709551615\nlimit_bytes 1\n'
  seed rate 'vcompact_state finished\ncompact_running_microseconds 1\n' \
       'compact_copied_bytes 18446744073709551615\n'
  seed wasted 'cPobject_bytes objects inuse zspages resident_bytes ' \
       'wasted_bytes\n16 16384 1 1 4096 8192\n'
}

# Codec and way (fuzz-decode.c), the period and step of a block, its text.
seeds_of_decode () {
  local codec way

  for codec in n r l z; do
    for way in d f; do
      seed "$codec$way" "$codec$way" '\0003\0000\0001' \
           'some text of which a block is made, again and again' \
           '\0005\0000\0007x\0001\0002\0003\0200\0100'
      seed "$codec$way-pattern" "$codec$way" '\0000\0007\0000' 12345678 \
           '\0003\0000\0000\0001'
    done
  done
  seed lc-short 'lc\0017\0001\0000\0001\0000\0377\0377\0000'
  seed rc 'rc12345678'
  seed ls 'ls1234567890'
  seed zc 'zc\0050\0265\0057\0375\0000\0000\0000'
}

# Letters are operations (fuzz-pool.c), what follows each its operands.
seeds_of_pool () {
  seed few 'aAAaBBaCCaDDfAAfBBCaEEfAAfAA'
  seed many-raw 'A\0017\0377~A\0017\0377~A\0017\0377~F\0003\0000I\0017\0377' \
       's\0002F\0002\0001p\0000'
  seed moves 'A\0004\0000~A\0004\0000~F\0004\0000i\0004\0000m\0001\0000\0100' \
       'e\0377m\0000\0000\0100e\0000q\0001'
  seed meanwhile 'A\0004\0000~A\0004\0000~F\0004\0000i\0004\0000' \
       'm\0001\0000\0100F\0002\0000A\0004\0000\0020e\0000A\0004\0000\0020' \
       'wm\0000\0000\0077e\0125q\0010'
  seed failing 'l\0010A\0002\0000~Ln\0001A\0003\0000~n\0002aZZN\0001' \
       'F\0001\0000N\0001p\0000'
  seed reserve 'G\0040GA\0004\0000~GA\0002\0000~F\0002\0000GI\0004\0000' \
       'g\0004l\0010A\0003\0000~GLn\0001GI\0002\0000G'
  seed immovable 'o\0003\0000o\0003\0000A\0003\0000~F\0002\0000' \
       'I\0003\0000r\0003\0000\0004\0002q\0002'
}

# The same of fuzz-store.c.
seeds_of_store () {
  seed writes 'w\0000\0000\0000\0040\0001w\0003\0100\0100\0200\0002' \
       'r\0000\0000\0000\0100x\0000\0000\0000\0200'
  seed odd 'w\0002\0003\0377\0001\0001w\0022\0017\0240\0377\0003' \
       'r\0022\0017\0250\0377r\0002\0017\0377\0002r\0001\0000\0007\0100' \
       'w\0001\0000\0005\0003\0006z\0022\0000\0005\0144t\0002\0020\0001\0377' \
       'Z\0022\0000\0001\0377x\0022\0000\0003\0377r\0000\0000\0000\0040'
  seed end 'w\0004\0002\0023\0003\0001w\0004\0002\0024\0001\0002' \
       't\0004\0002\0024\0001w\0004\0002\0024\0001\0003' \
       'd\0004\0002\0024\0001\0005\0005Z\0004\0002\0024\0001'
  seed discards 'w\0010\0000\0000\0077\0003t\0011\0000\0003\0020' \
       'z\0002\0000\0017\0003Z\0000\0000\0001\0007x\0010\0000\0000\0077'
  seed compaction 'w\0000\0000\0000\0077\0003w\0000\0000\0040\0077\0004' \
       't\0000\0000\0001\0000t\0000\0000\0003\0000t\0000\0000\0005\0000' \
       'k\0002j\0007w\0000\0000\0002\0001\0005j\0007J'
  # Raw blocks: all of one class.
  seed moves 'c\0002w\0000\0000\0000\0077\0003w\0000\0000\0040\0077\0004' \
       't\0000\0000\0000\0047Kr\0000\0000\0040\0077' \
       'w\0000\0000\0000\0077\0005t\0000\0000\0004\0027' \
       't\0000\0000\0037\0015k\0002j\0007j\0007j\0007j\0007' \
       'r\0000\0000\0000\0077'
  seed codecs 'c\0001w\0000\0000\0000\0077\0005c\0000' \
       'w\0000\0000\0002\0077\0006c\0002w\0000\0000\0004\0010\0007' \
       'd\0000\0000\0005\0000\0003\0003r\0000\0000\0000\0077'
  seed limits 'w\0000\0000\0000\0077\0001l\0002w\0000\0000\0010\0077\0002' \
       'w\0003\0000\0020\0300\0003t\0000\0000\0000\0040K' \
       'w\0000\0000\0010\0077\0004L'
  seed failing 'w\0000\0000\0000\0077\0001n\0001w\0000\0000\0000\0077\0002' \
       'n\0002Z\0000\0000\0100\0077N\0001t\0000\0000\0000\0077Kn\0001c\0001'
  seed reserve 'G\0040Gw\0000\0000\0000\0077\0001Gt\0000\0000\0000\0040K' \
       'g\0004l\0002w\0000\0000\0010\0077\0002GLn\0001G' \
       'c\0001w\0003\0000\0020\0300\0003s\0003Gp\0000'
}

#----------------------------------------------------------------------

if [ $# -ne 2 ] || [ "$(type -t "seeds_of_$1")" != function ]; then
  echo "usage: make-seeds.sh NAME FOLDER" >&2
  exit 2
fi
folder=$2
mkdir -p "$folder" || exit
"seeds_of_$1"
