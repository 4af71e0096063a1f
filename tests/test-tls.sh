#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Across a network: TLS with a pre-shared key, and nbdkit's ip filter, both
# on the loopback interface.

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy
[ "$(nbdkit --dump-config | sed -n 's/^tls=//p')" = yes ] ||
  skip "this nbdkit has no TLS"

# launch_tcp NAME ARGUMENTS...: on a port that is free; sets port.
launch_tcp () {
  local name=$1 tries
  shift
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    port=$((20000 + RANDOM % 12000))
    if launch "$name" -i 127.0.0.1 -p $port "$@"; then
      uri=nbd://127.0.0.1:$port
      return 0
    fi
    grep -q 'in use' "$tmp/$name.log" || break
    echo "port $port is taken (try $tries)"
    rm -f "$tmp/$name.log"
  done
  fail "server $name starts" "$tmp/$name.log"
  finish
}

text_file "$tmp/data" $((4 * M))

# nbdkit 1.32.5 as Debian 12 has it was built without inet_pton: its ip
# filter takes no addresses, only words.
address=127.0.0.1
if ! bounded nbdkit -U "$tmp/probe.sock" --filter=ip null allow=$address \
     --run true 2>"$tmp/probe.out"; then
  echo "note: this nbdkit's ip filter takes no address"
  address=anyipv4
fi

launch_tcp filter --filter=ip "$ZMEM_PLUGIN" size=64M \
           allow=$address deny=all
check "an allowed address is served" is_equal "$(nbdinfo --size "$uri")" \
      $((64 * M))
check "copy in over TCP" nbdcopy --connections=4 "$tmp/data" "$uri"
check "copy out over TCP" nbdcopy "$uri" "$tmp/out"
check "every byte is the same" cmp -n $((4 * M)) "$tmp/data" "$tmp/out"
stop_server filter

launch_tcp refusing --filter=ip "$ZMEM_PLUGIN" size=64M deny=$address
check_fails "a denied address is not served" '.' nbdinfo --size "$uri"
check "the server survives that" server_is_alive
check "the server says why" grep -q 'not permitted' "$log"
stop_server refusing

requires psktool
psktool -u alice -p "$tmp/keys.psk" >"$tmp/psktool.out" 2>&1
psktool -u alice -p "$tmp/wrong.psk" >"$tmp/psktool.out" 2>&1

launch_tcp tls --tls=require --tls-psk="$tmp/keys.psk" "$ZMEM_PLUGIN" \
           size=64M stats-export=stats
tls_uri () {
  echo "nbds://alice@127.0.0.1:$port/${2:-}?tls-psk-file=$tmp/$1.psk"
}
check "a client with the key is served" is_equal \
      "$(nbdinfo --size "$(tls_uri keys)")" $((64 * M))
check "the connection is encrypted" matches \
      "$(nbdinfo "$(tls_uri keys)")" '^protocol: .* with TLS'
check "copy in over TLS" nbdcopy --connections=4 "$tmp/data" \
      "$(tls_uri keys)"
rm -f "$tmp/out"
check "copy out over TLS" nbdcopy "$(tls_uri keys)" "$tmp/out"
check "every byte is the same over TLS" cmp -n $((4 * M)) "$tmp/data" \
      "$tmp/out"
check "the statistics are served over TLS" nbdcopy \
      "$(tls_uri keys stats)" -
check_fails "a client without TLS is refused" '.' nbdinfo --size "$uri"
check_fails "a client with another key is refused" '.' \
            nbdinfo --size "$(tls_uri wrong)"
check "the server goes on" is_equal \
      "$(nbdinfo --size "$(tls_uri keys)")" $((64 * M))
stop_server tls

finish
