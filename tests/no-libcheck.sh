#!/bin/sh
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# In the place of the unit tests where configure found no libcheck.
echo "configure found no libcheck (Debian: check): the unit tests are not built"
exit 77
