#!/bin/sh
# zmem: make ./configure, after a git clone.
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
set -e
cd "$(dirname "$0")"
exec autoreconf -fi
