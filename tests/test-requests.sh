#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Requests of every size, at blocks' and at odd sectors' offsets, up to the
# largest that nbdkit takes; trims and zeroes of nearly 4 GiB, which is what
# a request can name; and those that must be refused and change nothing.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
client=$top_builddir/tests/nbd-requests

# Not a multiple of a block.
start_server_as sizes size=$((71 * M + 3072))
fresh=$(held_bytes)
check "512 bytes to 64 MiB: written, read, zeroed, trimmed" \
      bounded "$client" "$sock" sizes
check "no request failed" is_equal "$(stat_value other_errors) \
$(stat_value eio_errors) $(stat_value enospc_errors)" "0 0 0"
check "a zero of all has given everything back" wait_for 120 \
      held_is_at_most $((fresh + M))
stop_server sizes

start_server_as edges size=1T
fresh=$(held_bytes)
check "nearly 4 GiB are trimmed and zeroed, what is around stays" \
      bounded "$client" "$sock" edges
check "no request failed" is_equal "$(stat_value other_errors) \
$(stat_value eio_errors) $(stat_value enospc_errors)" "0 0 0"
# Once without holes: 8 bytes for each of a million blocks, until trimmed.
check "zeroes without holes took the table's room" at_least \
      "$(stat_value held_highest_bytes)" $((fresh + 8 * M))
check "and no more" at_most "$(stat_value held_highest_bytes)" \
      $((fresh + 14 * M))
check "trims have given everything back" wait_for 120 \
      held_is_at_most $((fresh + M))
check "nothing is left" is_equal "$(stat_value live_blocks)" 0
stop_server edges

start_server_as refused size=$((66 * M))
check "requests that must be refused are, and change nothing" \
      bounded "$client" "$sock" refused
sed 's/^/    /' "$tmp/check.out"
check "the server survives them" server_is_alive
stop_server refused

# The client sees what is wrong: a disk that keeps nothing, and one that ends
# elsewhere than it says.
if nbdkit null --dump-plugin >/dev/null 2>&1; then
  check "null starts" launch null -U "$tmp/null.sock" null $((72 * M))
  check_fails "a disk that keeps nothing is found out" 'should be 0x' \
              bounded "$client" "$sock" sizes
  stop_server null
fi

finish
