#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Across a network, on the loopback interface: nbdkit's ip filter, TLS with
# pre-shared keys, and TLS with certificates; what those get who may not.
# A refused client gets one error, reads nothing and leaves nothing behind;
# the next one that may is served.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy qemu-img psktool certtool
[ "$(nbdkit --dump-config | sed -n 's/^tls=//p')" = yes ] ||
  skip "this nbdkit has no TLS"

# launch_tcp NAME ARGUMENTS...: on a port that is free; sets port.
launch_tcp () {
  local name=$1 tries
  shift
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    port=$((20000 + RANDOM % 12000))
    if launch "$name" -i 127.0.0.1 -p $port "$@" "control=$tmp/$name.ctl"; then
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

# copies NAME URI: in and out, every byte the same.
copies () {
  check "$1: copy in" nbdcopy --connections=4 "$tmp/data" "$2"
  rm -f "$tmp/out"
  check "$1: copy out" nbdcopy --connections=4 "$2" "$tmp/out"
  check "$1: every byte is the same" cmp -n $((4 * M)) "$tmp/data" "$tmp/out"
}

# account: what a refused client must leave as it is.
account () {
  zmemctl --json stats |
    grep -Eo '"(read|write|trim|zero)_requests": *[0-9]+'
}
is_account () { [ "$(account)" = "$1" ]; }
# One more while the control socket's last client is being let go.
few_fds () { at_most "$(nr_fds)" "$1"; }

# refused NAME REGEX URI|COMMAND...: by one line (qemu gives advice besides),
# and nothing comes of it.  A URI is copied from.
refused () {
  local name=$1 regex=$2 before held fds
  shift 2
  [ $# -gt 1 ] || set -- nbdcopy "$1" "$tmp/refused.out"
  wait_for 60 clients_have_gone
  before=$(account)
  held=$(held_bytes)
  fds=$(nr_fds)
  check_fails "$name is refused" "$regex" "$@"
  check "$name: one line says so" is_equal \
        "$(grep -cv '^Did you forget' "$tmp/check.out") line" "1 line"
  check "$name: nothing was read" test ! -s "$tmp/refused.out"
  rm -f "$tmp/refused.out"
  wait_for 60 is_account "$before"
  check "$name: nothing is left behind" is_equal "$(account)" "$before"
  check "$name: nothing is held for it" wait_for 60 held_is_at_most "$held"
  check "$name: its connection is freed" wait_for 60 few_fds "$fds"
  check "$name: the server lives" server_is_alive
}

# served NAME URI
served () {
  check "$1 is served" is_equal "$(nbdinfo --size "$2")" $((64 * M))
}

#----------------------------------------------------------------------
# The ip filter.

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
served "an allowed address" "$uri"
copies TCP "$uri"
stop_server filter

for rules in "deny=$address" deny=all "allow=anyipv6,anyunix deny=any"; do
  # shellcheck disable=SC2086
  launch_tcp refusing --filter=ip "$ZMEM_PLUGIN" size=64M $rules
  refused "a client, with $rules," 'disconnected|reset' "$uri"
  check "the server says why, with $rules" grep -q 'not permitted' "$log"
  stop_server refusing
done

#----------------------------------------------------------------------
# Pre-shared keys.

make_key () { # FILE USER
  check "a key for $2" psktool -u "$2" -p "$tmp/$1.psk"
}
make_key keys alice
make_key keys bob
make_key wrong alice
# A key that is right under another name than its own.
sed -n 's/^alice:/carol:/p' "$tmp/keys.psk" >"$tmp/carol.psk"
sed -n 's/^alice:/bob:/p' "$tmp/keys.psk" >"$tmp/mixed-up.psk"

# What clients say.  nbdkit tells them of no reason: it hangs up, which one
# that sends meanwhile may see as a reset.
no_tls='server requires TLS encryption first'
hung_up='gnutls_(handshake|record_(send|recv)): .*(terminated|push|pull)'
unverified='gnutls_handshake: Error in the certificate verification'

launch_tcp psk --tls=require --tls-psk="$tmp/keys.psk" "$ZMEM_PLUGIN" \
           size=64M stats-export=stats
# psk_uri USER FILE [EXPORT]
psk_uri () {
  echo "nbds://$1@127.0.0.1:$port/${3:-}?tls-psk-file=$tmp/$2.psk"
}
served "a client with the key" "$(psk_uri alice keys)"
check "the connection is encrypted" matches \
      "$(nbdinfo "$(psk_uri alice keys)")" '^protocol: .* with TLS'
copies "PSK" "$(psk_uri alice keys)"
check "the statistics are served over TLS" nbdcopy \
      "$(psk_uri alice keys stats)" -

refused "a client without TLS" "$no_tls" "$uri"
refused "a client with another key" "$hung_up" "$(psk_uri alice wrong)"
refused "a user whom the server does not know" "$hung_up" \
        "$(psk_uri carol carol)"
refused "a user with another's key" "$hung_up" "$(psk_uri bob mixed-up)"
refused "a client that asks for the statistics, too," "$hung_up" \
        "$(psk_uri alice wrong stats)"
refused "a client with a certificate in place of a key" "$hung_up" \
        "nbds://127.0.0.1:$port/?tls-certificates=$tmp"
served "then one with the key" "$(psk_uri alice keys)"
served "and the other user" "$(psk_uri bob keys)"
stop_server psk

#----------------------------------------------------------------------
# Certificates.

# What is in each folder, for a server or a client.
pki=$tmp/pki
mkdir -p "$pki"/{ours,theirs,server,elsewhere,impostor} \
      "$pki"/{client,revoked,expired,stranger,none}

make_key_of () { # FILE
  certtool --generate-privkey --key-type=ecdsa --outfile "$1"
}
# make_ca FOLDER NAME
make_ca () {
  printf '%s\n' "cn = \"$2\"" ca cert_signing_key >"$1/template"
  make_key_of "$1/ca-key.pem" &&
    certtool --generate-self-signed --load-privkey "$1/ca-key.pem" \
             --template "$1/template" --outfile "$1/ca-cert.pem"
}
# make_certificate FOLDER AUTHORITY KIND TEMPLATE-LINES...
make_certificate () {
  local folder=$pki/$1 authority=$pki/$2 kind=$3
  shift 3
  printf '%s\n' "tls_www_$kind" signing_key encryption_key "$@" \
         >"$folder/template"
  make_key_of "$folder/$kind-key.pem" &&
    certtool --generate-certificate --load-privkey "$folder/$kind-key.pem" \
             --load-ca-certificate "$authority/ca-cert.pem" \
             --load-ca-privkey "$authority/ca-key.pem" \
             --template "$folder/template" --outfile "$folder/$kind-cert.pem"
}
# Without what a private key needs, nothing below means anything.
made () { check "$@" || finish; }

made "our authority" make_ca "$pki/ours" "Ours"
made "another authority" make_ca "$pki/theirs" "Theirs"
for folder in server client revoked expired stranger none elsewhere; do
  cp "$pki/ours/ca-cert.pem" "$pki/$folder/"
done
# They trust each other, whom nobody else does.
cp "$pki/theirs/ca-cert.pem" "$pki/impostor/"
here=('ip_address = 127.0.0.1' 'dns_name = localhost' 'cn = "localhost"')
made "the server's certificate" make_certificate server ours server \
     "${here[@]}"
made "a client's" make_certificate client ours client 'cn = "alice"'
made "one to be revoked" make_certificate revoked ours client 'cn = "mallory"'
made "an old one" make_certificate expired ours client 'cn = "rip"' \
     'activation_date = "2020-01-01 00:00:00"' \
     'expiration_date = "2021-01-01 00:00:00"'
made "a stranger's" make_certificate stranger theirs client 'cn = "alice"'
made "another server's" make_certificate elsewhere ours server \
     'cn = "elsewhere.example"' 'dns_name = elsewhere.example'
made "an impostor's" make_certificate impostor theirs server "${here[@]}"
printf '%s\n' 'expiration_days = 365' 'crl_next_update = 365' \
       'crl_number = 1' >"$pki/template"
made "a list of the revoked" certtool --generate-crl \
     --load-ca-privkey "$pki/ours/ca-key.pem" \
     --load-ca-certificate "$pki/ours/ca-cert.pem" \
     --load-certificate "$pki/revoked/client-cert.pem" \
     --template "$pki/template" --outfile "$pki/server/ca-crl.pem"

tls_uri () { echo "nbds://127.0.0.1:$port/?tls-certificates=$pki/$1"; }

launch_tcp tls --tls=require --tls-certificates="$pki/server" \
           --tls-verify-peer "$ZMEM_PLUGIN" size=64M
served "a client with a certificate" "$(tls_uri client)"
check "its connection is encrypted" matches \
      "$(nbdinfo "$(tls_uri client)")" '^protocol: .* with TLS'
copies certificates "$(tls_uri client)"

# qemu, too.
qemu_disk=driver=nbd,host=127.0.0.1,port=$port,tls-creds=tls0
qemu_tls () { echo "tls-creds-x509,id=tls0,endpoint=client,dir=$pki/$1"; }
truncate -s 64M "$tmp/data"
check "qemu finds every byte the same" qemu-img compare \
      --object "$(qemu_tls client)" --image-opts "$qemu_disk" \
      "driver=file,filename=$tmp/data"

refused "a client without TLS" "$no_tls" "$uri"
refused "a client without a certificate" "$hung_up" "$(tls_uri none)"
refused "a client with a certificate of another authority" "$hung_up" \
        "$(tls_uri stranger)"
refused "a client whose certificate has expired" "$hung_up" \
        "$(tls_uri expired)"
refused "a client whose certificate was revoked" "$hung_up" \
        "$(tls_uri revoked)"
refused "a client with a key in place of a certificate" \
        'gnutls_handshake: Insufficient credentials' \
        "$(psk_uri alice keys)"
refused "a client that does not trust the server's authority" "$unverified" \
        "$(tls_uri impostor)"
refused "qemu without a certificate" 'TLS channel' qemu-img info \
        --object "$(qemu_tls none)" --image-opts "$qemu_disk"
refused "qemu without TLS" 'TLS negotiation required' \
        qemu-img info --image-opts "${qemu_disk%,*}"
served "then one with a certificate" "$(tls_uri client)"
stop_server tls

# The other way round: a client refuses what is not its server.
launch_tcp elsewhere --tls=require --tls-certificates="$pki/elsewhere" \
           "$ZMEM_PLUGIN" size=64M
refused "a server that has another's name" "$unverified" "$(tls_uri client)"
stop_server elsewhere
launch_tcp impostor --tls=require --tls-certificates="$pki/impostor" \
           "$ZMEM_PLUGIN" size=64M
refused "a server with a certificate of another authority" "$unverified" \
        "$(tls_uri client)"
stop_server impostor
launch_tcp plain --tls=off "$ZMEM_PLUGIN" size=64M
refused "a server without TLS" 'server refused TLS' "$(tls_uri client)"
stop_server plain

# Without --tls-verify-peer, certificates show who the server is, and no more.
launch_tcp lax --tls=require --tls-certificates="$pki/server" \
           "$ZMEM_PLUGIN" size=64M
served "without --tls-verify-peer, anybody" "$(tls_uri none)"
refused "a client without TLS, even so," "$no_tls" "$uri"
stop_server lax

# A server that lacks what it needs does not start.
check_fails "no certificates: no server" 'certificate' \
            bounded nbdkit -f -U "$tmp/x.sock" --tls=require \
            --tls-certificates="$pki" "$ZMEM_PLUGIN" size=1M

finish
