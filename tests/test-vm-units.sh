#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The units of a client that swaps (systemd/examples), as they are: in a guest
# whose first process is this machine's systemd, with its udev, and a real
# nbd-client (tests/vm/units.scenario).  At boot the swap comes on; it is used;
# it goes off in order, when asked in words and when the machine goes down.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
. "$srcdir/tests/vm/guest.sh"

requires systemctl udevadm mkswap swapon modprobe
for file in /lib/systemd/systemd /lib/udev/rules.d/99-systemd.rules; do
  [ -e "$file" ] || skip "this test needs $file"
done
guest_requires
guest_program pressure

#----------------------------------------------------------------------
# A systemd in the guest: the files of this machine, but few units.

root=$guest_trees/base
units=$root/etc/systemd/system

copy_systemd () {
  local name
  for name in systemctl udevadm mkswap swapon swapoff modprobe \
              /lib/systemd/systemd /lib/systemd/systemd-shutdown; do
    guest_copy "$name" || return 1
  done
  mkdir -p "$units" "$root/lib/systemd/system" "$root/lib/udev/rules.d" &&
    ln -s usr/sbin "$root/sbin" &&
    ln -s /usr/sbin/udevadm "$root/lib/systemd/systemd-udevd" &&
    ln -s /usr/sbin/systemd-shutdown "$root/lib/systemd/" &&
    cp /lib/udev/rules.d/{60-block,99-systemd}.rules "$root/lib/udev/rules.d/"
  for name in basic final local-fs network network-online paths reboot \
              shutdown slices sockets swap sysinit timers umount; do
    cp "/lib/systemd/system/$name.target" "$units" || return 1
  done
  for name in modprobe@.service systemd-reboot.service \
              systemd-udev-trigger.service systemd-udevd.service \
              systemd-udevd-control.socket systemd-udevd-kernel.socket; do
    cp "/lib/systemd/system/$name" "$units" || return 1
  done
  mkdir -p "$units/sysinit.target.wants" "$units/sockets.target.wants" &&
    ln -s ../systemd-udevd.service ../systemd-udev-trigger.service \
       "$units/sysinit.target.wants" &&
    ln -s ../systemd-udevd-control.socket ../systemd-udevd-kernel.socket \
       "$units/sockets.target.wants"
}

# What makes a machine of it: the scenario, and a network that is there early.
write_units () {
  printf '%s\n' "[Manager]" LogTarget=console LogColor=no ShowStatus=yes \
         StatusUnitFormat=name \
         DefaultEnvironment=SYSTEMD_COLORS=0 >"$root/etc/systemd/system.conf"
  echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
  echo "root:x:0:0:root:/:/bin/sh" >"$root/etc/passwd"
  echo "root:x:0:" >"$root/etc/group"
  cat >"$units/scenario.service" <<'END'
[Unit]
After=basic.target
Requires=basic.target
[Service]
Type=simple
Environment=HOME=/ PATH=/bin:/sbin:/usr/sbin:/usr/bin
ExecStart=sh -c '. /scenario.env; . /functions; (. /scenario); \
  status=$$?; echo "guest: exit $$status"; \
  if [ $$status = 0 ]; then systemctl --no-block reboot; else reboot -f; fi'
StandardInput=tty-force
StandardOutput=tty
TTYPath=/dev/ttyS0
END
  printf '%s\n' "[Unit]" Requires=scenario.service >"$units/default.target"
  cat >"$units/network.service" <<'END'
[Unit]
DefaultDependencies=no
Before=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true
END
  mkdir "$units/network-online.target.wants"
  ln -s ../network.service "$units/network-online.target.wants/"
}

# As docs/SERVICES says.
install_ours () {
  cp "$srcdir"/systemd/examples/{zmem-swap@.service,dev-nbd0.swap} "$units" &&
    mkdir -p "$root/etc/zmem" "$units/swap.target.wants" &&
    echo "ZMEM_SERVER=\"10.0.2.2 $port\"" >"$root/etc/zmem/nbd0.swap" &&
    ln -s ../dev-nbd0.swap "$units/swap.target.wants/"
}

start_tcp_server size=128M
empty=$(held_bytes)
check "the guest has a systemd" copy_systemd || finish
check "and units for it" write_units || finish
check "the client's units are installed" install_ours || finish

#----------------------------------------------------------------------

guest_start units "$srcdir/tests/vm/units.scenario" \
            MEMORY=192 PRESSURE=24 INIT=/usr/sbin/systemd
guest_says units 240 "swap is on"
check "a client is connected" is_equal "$(stat_value connections)" 1
check "mkswap wrote" at_least "$(stat_value write_requests)" 1
check "swapon discarded all of it" at_least "$(stat_value trim_bytes)" \
      $((120 * M))
guest_tell units "go on"
guest_says units 240 "it is disconnected"
grep -a 'guest says: swapped' "$tmp/units.console"
check "the server sees that" wait_for 60 clients_have_gone
guest_tell units "go on"
guest_says units 240 "both have stopped"
guest_says units 240 "the second swaps"
check "it holds what was swapped out" at_least "$(held_bytes)" \
      $((empty + M))
guest_tell units "go on"
guest_ends units 240

# line_of TEXT: of the console, the last.
line_of () { grep -anE "$1" "$tmp/units.console" | tail -n 1 | cut -d : -f 1; }
swap_off=$(line_of 'Deactivated swap dev-nbd0')
disconnected=$(line_of 'Stopped zmem-swap@nbd0')
check "down: the swap was off" at_least "${swap_off:-0}" \
      "$(line_of 'the second swaps')"
check "down: then the connection ended" at_least "${disconnected:-0}" \
      "$swap_off"
check "nobody is connected" wait_for 60 clients_have_gone
server_served_all
stop_server
finish
