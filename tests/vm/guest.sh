# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Guests: a real Linux kernel in qemu, without KVM, so that it runs anywhere.
# Sourced by tests/test-vm-*.sh after functions.sh:
#
#     . "$srcdir/tests/vm/guest.sh"
#     guest_requires
#     start_tcp_server size=1G              # sets port
#     guest_program pressure                # tests/vm/pressure.c, static
#     guest_start swap tests/vm/swap PORT="$port"
#     guest_says swap 240 "half way"; guest_tell swap "go on"
#     guest_ends swap 240                   # three checks
#
# A guest is Debian's cloud kernel (fetch-kernel.sh) and an initramfs:
# busybox, nbd-client, some modules, tests/vm/init, our programs, and a
# scenario: a piece of shell that init runs.  It sees the host as 10.0.2.2.
# ZMEM_VM: folder of the kernel [build/vm of the source].
#
# Root's tests run in a network namespace of their own, one guest at a time on
# a tap device, which takes segments of 64 KiB from the guest: three quarters
# of the processor time of qemu's network of user processes (test-vm-swap),
# which is the others'.
#
# shellcheck shell=bash
# What functions.sh sets and reads:
# shellcheck disable=SC2034,SC2154

: "${ZMEM_VM:=$srcdir/build/vm}"

guest_modules="virtio_pci virtio_net virtio_blk nbd raid0 raid1 sch_netem zram"
declare -A guest_pids=()
guest_trees=$tmp/guests
guest_netdev=user,id=net
guest_append='' # more for the kernel's command line

# The test itself, again, in a network of its own; or this one is used.
guest_enter_network () {
  [ "$(id -u)" = 0 ] || return
  if [ -z "${ZMEM_OWN_NETWORK-}" ]; then
    unshare --net ip tuntap add dev probe0 mode tap 2>/dev/null || return
    rmdir "$tmp"
    ZMEM_OWN_NETWORK=yes exec unshare --net bash "$0"
  fi
  ip link set lo up &&
    ip tuntap add dev tap0 mode tap vnet_hdr &&
    ip addr add 10.0.2.2/24 dev tap0 &&
    ip link set tap0 up || exit 1
  listen_address=0.0.0.0
  guest_netdev=tap,id=net,ifname=tap0,script=no,downscript=no
}
guest_enter_network

guest_requires () {
  requires qemu-system-x86_64 busybox nbd-client cpio gcc modprobe
  [ -e "$ZMEM_VM/vmlinuz" ] ||
    skip "no kernel for a guest: say tests/vm/fetch-kernel.sh $ZMEM_VM"
  mkdir -p "$guest_trees/base"
  guest_make_base >"$tmp/base.log" 2>&1 || {
    fail "the guest's programs are there" "$tmp/base.log"
    finish
  }
}

# guest_copy PROGRAM: a program of the host and its libraries, where they are.
guest_copy () {
  local root=$guest_trees/base file path
  path=$(type -P "$1") || return 1
  mkdir -p "$root/usr/sbin"
  cp -L "$path" "$root/usr/sbin/" || return 1
  for file in $(ldd "$path" | grep -o '/[^ ]*'); do
    mkdir -p "$root/${file%/*}"
    cp -L "$file" "$root/$file" || return 1
  done
}

guest_make_base () {
  local root=$guest_trees/base version module file
  version=$(ls "$ZMEM_VM/lib/modules")
  mkdir -p "$root/bin" "$root/lib/modules/$version"
  cp "$srcdir/tests/vm/init" "$root/init"
  cp "$(type -P busybox)" "$root/bin/busybox"
  guest_copy nbd-client || return 1
  for module in $guest_modules; do
    modprobe -d "$ZMEM_VM" -S "$version" --show-depends "$module"
  done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u >"$tmp/modules" ||
    return 1
  while read -r file; do
    file=${file#"$ZMEM_VM"}
    file=${file#/}
    mkdir -p "$root/${file%/*}"
    cp "$ZMEM_VM/$file" "$root/$file" || return 1
  done <"$tmp/modules"
  cp "$ZMEM_VM/lib/modules/$version"/modules.{dep,alias,builtin,order} \
     "$root/lib/modules/$version/"
}

# guest_program NAME [GCC-OPTION]...: tests/vm/NAME.c for all guests of this
# test.
guest_program () {
  local name=$1
  shift
  check "the guest's program $name" gcc -O2 -Wall -Wextra -static -o \
        "$guest_trees/base/bin/$name" "$srcdir/tests/vm/$name.c" "$@"
}

# A TCP server that guests reach, on a port that is free; sets port and uri.
# start_tcp_server [NAME --] KEY=VALUE...
start_tcp_server () {
  local name=main
  if [ "${2-}" = -- ]; then name=$1; shift 2; fi
  launch_tcp "$name" "$ZMEM_PLUGIN" "control=$tmp/$name.ctl" "$@" || {
    fail "server $name starts with $*" "$tmp/$name.log"
    finish
  }
  # For the clients of whoever called this.
  uri=nbd://127.0.0.1:$port
}

# guest_start NAME SCENARIO [NAME=VALUE]... [-- QEMU-OPTION]...
# The values are variables of the scenario; MEMORY is the guest's, in MiB.
# It is ended after 10 minutes and the seconds of a longer run.
guest_start () {
  local name=$1 scenario=$2 memory=128 root=$guest_trees/$1
  shift 2
  rm -rf "$root"
  mkdir -p "$root"
  cp "$scenario" "$root/scenario"
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in MEMORY=*) memory=${1#*=} ;; esac
    echo "export '$1'" >>"$root/scenario.env"
    shift
  done
  shift
  { (cd "$guest_trees/base" && find . | cpio -o -H newc)
    (cd "$root" && find . | cpio -o -H newc); } \
      >"$tmp/$name.initrd" 2>/dev/null
  mkfifo "$tmp/$name.keys"
  # no_timer_check: where qemu gets no processor for a tenth of a second, the
  # kernel takes its timer for broken and panics.  mitigations=off: a tenth
  # of the time; nobody in there is to be kept from anything.
  # guest_tso4=off: segments of 64 KiB are for the other direction alone.
  # With them in both, test-vm-limit stood still each time in 96 MiB, most
  # likely for want of the memory to receive one.
  # maxcpus=2: with one possible processor qemu before 8.1 leaves out the
  # barriers of what it translates, though its devices are threads of their
  # own.  A busy host had 3 of 32 test-vm-limit stand still for ever: what the
  # guest's card had to send was in its queue, and qemu had not been told.
  # Open for both, so that neither side waits for the other.
  timeout -k 5 $((600 + ${ZMEM_SECONDS:-0})) \
    qemu-system-x86_64 -accel tcg -smp 1,maxcpus=2 -m "$memory" -nodefaults \
    -no-user-config -display none -no-reboot -serial stdio \
    -netdev "$guest_netdev" \
    -device virtio-net-pci,netdev=net,romfile=,guest_tso4=off,guest_tso6=off \
    -kernel "$ZMEM_VM/vmlinuz" -initrd "$tmp/$name.initrd" \
    -append "console=ttyS0 quiet panic=-1 oops=panic no_timer_check \
mitigations=off $guest_append" "$@" \
    <>"$tmp/$name.keys" >"$tmp/$name.console" 2>&1 &
  guest_pids[$name]=$!
  daemon_pids+=("$!")
}

# The current server had no request that failed, no payload that was damaged.
server_served_all () {
  check "no read failed its checksum" is_equal \
        "$(stat_value checksum_failures)" 0
  check "no request failed" is_equal "$(stat_value enospc_errors) \
$(stat_value enomem_errors) $(stat_value eio_errors) \
$(stat_value other_errors)" "0 0 0 0"
}

# guest_has_said NAME TEXT: what the scenario told by "says", an ERE.
guest_has_said () { grep -qaE "^guest says: $2" "$tmp/$1.console"; }

guest_is_gone () { process_ended "${guest_pids[$1]}"; }

guest_said_or_gone () { guest_has_said "$@" || guest_is_gone "$1"; }

# guest_fails NAME CHECK: so the test ends, since nothing that it would wait for
# will come.
guest_fails () {
  local pid
  fail "guest $1 $2" <(tail -n 60 "$tmp/$1.console")
  for pid in "${guest_pids[@]}"; do end_process "$pid"; done
  # They would wait for a client that is gone without a word.
  for pid in "${server_pids[@]}"; do kill -KILL "$pid"; done
  server_pids=()
  finish
}

# guest_says NAME SECONDS TEXT: wait until it says so.
guest_says () {
  wait_for "$2" guest_said_or_gone "$1" "$3"
  guest_has_said "$1" "$3" || guest_fails "$1" "says: $3"
  pass "guest $1 says: $3"
}

# guest_tell NAME TEXT: a line for its `hear`.
guest_tell () { echo "$2" >"$tmp/$1.keys"; }

# guest_ends NAME SECONDS [ERE]: it ends well by itself, and its kernel had
# nothing to complain of but what matches.
guest_ends () {
  local name=$1 seconds=$2 known=${3:-^$}
  wait_for "$seconds" guest_is_gone "$name" ||
    guest_fails "$name" "ends in $seconds s"
  wait "${guest_pids[$name]}" 2>/dev/null
  tail -n 60 "$tmp/$name.console" >"$tmp/$name.tail"
  if grep -qa '^guest: exit 0' "$tmp/$name.console"; then
    pass "guest $name ends well"
  else
    fail "guest $name ends well" "$tmp/$name.tail"
  fi
  if grep -aE 'WARNING:|BUG:|Oops|Call Trace|I/O error|blocked for more' \
          "$tmp/$name.console" | grep -avE "$known" >"$tmp/$name.trouble"; then
    fail "no trouble in the kernel of guest $name" "$tmp/$name.trouble"
  else
    pass "no trouble in the kernel of guest $name"
  fi
}
