#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The kernel of the guests of tests/test-vm-*.sh: that of Debian's package
# linux-image-cloud-amd64, fetched with apt-get and unpacked, not installed.
#
#   tests/vm/fetch-kernel.sh DIR
#
# makes DIR/vmlinuz and DIR/lib/modules/VERSION with what modprobe needs; does
# nothing where they are there.  Exit status: 0; 1 it failed; 3 there is no
# such kernel for this machine, or no apt-get (a sentence says so).

set -eu -o pipefail
PATH=$PATH:/usr/sbin:/sbin

[ $# -eq 1 ] || {
  echo "usage: tests/vm/fetch-kernel.sh DIR" >&2
  exit 1
}
dir=$1

if [ -e "$dir/vmlinuz" ]; then exit 0; fi
if [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then
  echo "fetch-kernel.sh: no kernel for guests: this is no Debian for amd64"
  exit 3
fi

package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
            grep -o -m 1 'linux-image-[0-9][^ ]*' || :)
if [ -z "$package" ]; then
  apt-get update >/dev/null
  package=$(apt-cache depends linux-image-cloud-amd64 |
              grep -o -m 1 'linux-image-[0-9][^ ]*')
fi

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -q download "$package" >log 2>&1 ||
  { apt-get update && apt-get -q download "$package"; } >>log 2>&1 || {
    cat log >&2
    echo "fetch-kernel.sh: $package could not be fetched" >&2
    exit 1
  }
dpkg-deb -x ./*.deb root
version=$(ls root/lib/modules)
depmod -b root "$version"
rm -rf "${dir:?}/lib"
mv root/lib "$dir/lib"
# Last: its being there says that all is.
mv root/boot/vmlinuz-"$version" "$dir/vmlinuz"
