#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Four defects of nbdkit-memory-plugin's allocator=zstd (1.32.5), which zmem
# must not have:
#
#   1. a client that asks for extents of an untouched disk kills the server
#   2. memory does not fall when half of the blocks are trimmed
#   3. a failed allocation during a write loses the old block
#   4. one lock is held through every compression
#
# Of 2, what is trimmed here is the first half of the blocks; a half that is
# scattered all over the zspages needs compaction.

. "${srcdir:-.}/tests/functions.sh"
requires nbdinfo nbdcopy qemu-io

# 1. Extents of an untouched disk.
for codec in lz4 zstd none; do
  start_server_as untouched-$codec size=1G compress=$codec
  check "$codec: extents of an untouched disk" matches \
        "$(nbdinfo --map "$uri")" '^ *0 +1073741824 +3 +hole,zero$'
  check "$codec: the server survives it" server_is_alive
  check "$codec: the server goes on" is_equal "$(nbdinfo --size "$uri")" $G
  stop_server untouched-$codec
done

# 2. Memory falls, by our own account and by the kernel's.
for codec in lz4 zstd none; do
  start_server_as half-$codec size=256M compress=$codec
  mixed_file "$tmp/data" $((64 * M))
  held_empty=$(held_bytes)
  metadata_empty=$(stat_value metadata_bytes)
  rss_empty=$(process_bytes "$server_pid" RssAnon)
  check "$codec: write 64 MiB" nbdcopy "$tmp/data" "$uri"
  wait_for 60 clients_have_gone
  held_full=$(held_bytes)
  payload_full=$(stat_value payload_rounded_bytes)
  rss_full=$(process_bytes "$server_pid" RssAnon)
  check "$codec: the kernel agrees with what is held" at_most \
        $((held_full - held_empty)) $((rss_full - rss_empty + M))
  # Connections have left something behind in malloc's arenas.
  check "$codec: the kernel sees little else" at_most \
        $((rss_full - rss_empty)) $((held_full - held_empty + 24 * M))

  check "$codec: trim the first half" qemu-io -f raw "$uri" -c "discard 0 32M"
  payload_freed=$((payload_full - $(stat_value payload_rounded_bytes)))
  check "$codec: half of the payload is gone" at_least $payload_freed \
        $((payload_full * 45 / 100))
  check "$codec: so is its memory, in a moment" wait_for 120 \
        held_is_at_most $((held_full - payload_freed * 97 / 100 + 2 * M))
  rss_half=$(process_bytes "$server_pid" RssAnon)
  freed=$((held_full - $(held_bytes)))
  check "$codec: the kernel has got it back" at_least \
        $((rss_full - rss_half)) $((freed * 9 / 10))

  rm -f "$tmp/out"
  nbdcopy "$uri" "$tmp/out"
  check "$codec: the other half is whole" cmp -i $((32 * M)) \
        -n $((32 * M)) "$tmp/data" "$tmp/out"
  check "$codec: trim all" qemu-io -f raw "$uri" -c "discard 0 256M"
  check "$codec: next to nothing is held" wait_for 120 \
        held_is_at_most $((held_empty + M))
  check "$codec: no page of the table is left" at_most \
        "$(stat_value metadata_bytes)" $((metadata_empty + 64 * K))
  check "$codec: nothing is live" is_equal "$(stat_value live_blocks)" 0
  stop_server half-$codec
done

# 3. A refused write leaves the old block whole.
for codec in lz4 zstd; do
  start_server_as refused-$codec size=256M compress=$codec limit=16M
  text_file "$tmp/old" $((2 * M))
  random_file "$tmp/random" $M
  check "$codec: write the old data" nbdcopy "$tmp/old" "$uri"
  mib=16
  while [ $mib -lt 64 ] &&
        qemu-io -f raw "$uri" -c "write -s $tmp/random ${mib}M 1M" \
                >"$tmp/fill.out" 2>&1; do
    mib=$((mib + 1))
  done
  check "$codec: the limit is reached" at_most $mib 32
  check_fails "$codec: a whole block that needs more is refused" \
              'No space left' qemu-io -f raw "$uri" \
              -c "write -s $tmp/random 100k 4k"
  check_fails "$codec: a part of a block that needs more is refused" \
              'No space left' qemu-io -f raw "$uri" \
              -c "write -s $tmp/random 204801 4000"
  rm -f "$tmp/out"
  nbdcopy "$uri" "$tmp/out"
  check "$codec: the old data is whole" cmp -n $((2 * M)) "$tmp/old" \
        "$tmp/out"
  stop_server refused-$codec
done

# 4. Readers go on while another connection's write is compressed.
check "requests run in parallel" matches \
      "$(nbdkit "$ZMEM_PLUGIN" --dump-plugin)" '^max_thread_model=parallel$'
during_write=$top_builddir/tests/nbd-during-write
if [ -x "$during_write" ]; then
  # A level that takes long, so that the reader gets its turn.
  start_server_as parallel size=64M compress=zstd:15
  check "reads go on during a write" bounded "$during_write" "$uri"
  stop_server parallel
else
  echo "left out: reads during a write (needs libnbd's headers)"
fi

finish
