#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Every source, header, script and page of the tree is in a list of
# Makefile.am, so that the tarball has it and make check runs it.
set -u

cd "${srcdir:?}" || exit 1
fail=0

folders=()
for folder in alloc bench codec compact ctl docs man plugin store tests; do
  [ ! -d "$folder" ] || folders+=("$folder")
done

while read -r file; do
  case $file in
    # Makefile.am takes these by pattern.
    docs/plots/*.svg|bench/*.sh|tests/vm/*|tests/fuzz/*.sh) ;;
    *)
      # A program may be listed without its source.
      pattern=${file//./\\.}
      case $file in bench/*.c|tests/*.c) pattern="${pattern%\\.c}(\\.c)?" ;; esac
      if ! grep -qE "(^|[[:space:]])$pattern([[:space:]]|\$)" Makefile.am; then
        echo "$file is in no list of Makefile.am"
        fail=1
      fi
      ;;
  esac
  case $file in
    tests/functions.sh|tests/vm/guest.sh) ;;
    *.sh)
      [ -x "$file" ] || { echo "$file is not executable"; fail=1; }
      ;;
  esac
done < <(find "${folders[@]}" -type f \( -name '*.[ch]' -o -name '*.def' \
           -o -name '*.sh' -o -name '*.pod' -o -name '*.pml' -o -path 'docs/*' \) | sort)

# The other way round: distdir would fail on a file that is not there, but not
# name the list.
while read -r file; do
  [ -e "$file" ] || { echo "Makefile.am lists $file, which is not there"; fail=1; }
done < <(grep -oE '(alloc|bench|codec|compact|ctl|docs|man|plugin|store|tests)/[A-Za-z0-9_-]+\.(c|h|def|sh|pod|pml)\b' \
           Makefile.am | sort -u)
exit $fail
