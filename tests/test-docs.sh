#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What the manual pages and README say against what is there: options of the
# plugin, commands of the control socket and of zmemctl, its options, and
# statistics.  Each list is compared both ways.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires perl

plugin_pod=$srcdir/man/nbdkit-zmem-plugin.pod
ctl_pod=$srcdir/man/zmemctl.pod

# section FILE HEADING: from one =head1 to the next.
section () { awk -v h="=head1 $2" '/^=head1 /{ on = $0 == h } on' "$1"; }

# Lines without repetition, in order; one that is empty is none.
set_of () { sort -u | sed '/^$/d'; }

# same_set A B: two sets of lines, with what only one of them has.
same_set () {
  diff <(set_of <<<"$1") <(set_of <<<"$2") | sed -n 's/^[<>]/&/p' >"$tmp/diff"
  [ -n "$1" ] || { echo "the first set is empty"; return 1; }
  [ ! -s "$tmp/diff" ] || { cat "$tmp/diff"; return 1; }
}

#----------------------------------------------------------------------
# Options of the plugin.

# After the line that nbdkit prints about the plugin.
plugin_help=$(nbdkit "$ZMEM_PLUGIN" --help | sed -n '/^plugin: /,$p')
plugin_options=$(sed -nE 's/^\[?([a-z-]+)=.*/\1/p' <<<"$plugin_help")
documented=$(section "$plugin_pod" PARAMETERS |
               sed -nE 's/^=item B<([a-z-]+)=>.*/\1/p')
check "options of --help and of the manual page" \
      same_set "$plugin_options" "$documented"
synopsis=$(section "$plugin_pod" SYNOPSIS | grep -oE '[a-z-]+\]?=' |
             tr -d ']=')
check "options of --help and of the synopsis" \
      same_set "$plugin_options" "$synopsis"

# known_options TEXT: every NAME= of a command line in it (nbdkit's with zmem,
# or ./run's) is an option.
known_options () {
  local name unknown=
  # Lines go on after a backslash; what is before the plugin's name, and
  # parameters of filters, are nbdkit's.
  for name in $(sed -e :a -e '/\\$/N; s/\\\n//; ta' <<<"$1" |
                  sed -nE 's/.*(nbdkit .*[ /]zmem(-plugin\.so)?|\.\/run) //p' |
                  grep -oE '(^|[ []|C<)[a-z-]+=' | tr -d ' [=C<' | sort -u); do
    case $name in allow|deny) continue ;; esac
    grep -qx "$name" <<<"$plugin_options" || unknown+=" $name"
  done
  is_equal "$unknown" ""
}
check "options that README uses" known_options "$(cat "$srcdir/README")"
check "options that the manual page uses" known_options "$(cat "$plugin_pod")"
check "options that zmemctl's page uses" known_options "$(cat "$ctl_pod")"

#----------------------------------------------------------------------
# Commands of the control socket.

start_server size=1M
commands=$(zmemctl raw help | awk '{ print $1 }')
documented=$(section "$plugin_pod" "CONTROL SOCKET" |
               sed -nE 's/^=item B<([a-z]+)>.*/\1/p')
check "commands of help and of the manual page" \
      same_set "$commands" "$documented"

named=$({ zmemctl raw compact status; zmemctl raw verify status; } |
          awk '{ print $1 }')
documented=$(section "$plugin_pod" "CONTROL SOCKET" |
               sed -nE 's/^=item C<([a-z_]+)>.*/\1/p')
check "lines of the answers to compact and verify, and of the manual page" \
      same_set "$named" "$documented"

# zmemctl's.
verbs=$("$ZMEMCTL" --help |
          sed -nE '/^Commands:/,/^Options:/s/^  ([a-z]+) .*/\1/p')
documented=$(section "$ctl_pod" COMMANDS |
               sed -nE 's/^=item B<([a-z]+)>.*/\1/p')
check "commands of zmemctl --help and of its page" \
      same_set "$verbs" "$documented"
synopsis=$(section "$ctl_pod" SYNOPSIS | sed -nE 's/^ zmemctl ([a-z]+).*/\1/p')
check "commands of zmemctl --help and of the synopsis" \
      same_set "$(grep -vx help <<<"$verbs")" "$synopsis"
check "zmemctl knows each command of the server" is_equal \
      "$(comm -13 <(set_of <<<"$verbs") <(set_of <<<"$commands"))" ""

# known_verbs FILE: what follows "zmemctl" in examples and in C<zmemctl ...>
# is one of them.
known_verbs () {
  local verb unknown=
  while read -r verb; do
    grep -qx "$verb" <<<"$verbs" || unknown+=" $verb"
  done < <(sed -nE -e 's/^ +([^ ]+ \| )?zmemctl (-[a-z-]+ )*([a-z]+).*/\3/p' \
                   -e 's/.*C<zmemctl (-[a-z-]+ )*([a-z]+).*/\2/p' "$1")
  is_equal "$unknown" ""
}
for file in README man/nbdkit-zmem-plugin.pod man/zmemctl.pod; do
  check "commands of zmemctl in $file" known_verbs "$srcdir/$file"
done

# Its options, short and long.
ctl_options=$("$ZMEMCTL" --help | sed -n '/^Options:/,$p' |
                grep -oE '^  -[A-Za-z], --[a-z]+' | tr -d ', ' |
                sed 's/--/ --/' | tr ' ' '\n')
documented=$(section "$ctl_pod" OPTIONS |
               sed -nE 's/^=item B<(--?[A-Za-z]+)=?>.*/\1/p')
check "options of zmemctl --help and of its page" \
      same_set "$ctl_options" "$documented"

#----------------------------------------------------------------------
# Statistics: names and what is said of them.

declared=$(sed -nE 's/^STAT \(([a-z0-9_]+), .*, "(.*)"\)$/\1: \2/p' \
             "$srcdir/store/stats.def")
check "every line of stats.def is understood" is_equal \
      "$(grep -c '^STAT (' "$srcdir/store/stats.def")" \
      "$(wc -l <<<"$declared")"

# NAME: TEXT, the text as stats.def would have it.  A name may keep its
# small letter at the beginning of a sentence.
documented=$(section "$plugin_pod" STATISTICS | perl -00 -ne '
  if (/^=item B<(\w+)>$/m) { $name = $1; next }
  if (defined $name) {
    s/\s+/ /g; s/^\s+|\.?\s*$//g;
    s/^([A-Z])(?=[a-z ])/\l$1/ unless /^RAM/;
    s/[A-Z]<([^<>]*)>/$1/g;
    print "$name: $_\n";
    undef $name;
  }')
check "statistics of stats.def and of the manual page" \
      same_set "$declared" "$documented"

# The names of a real answer.
printed=$(zmemctl raw stats | awk '{ print $1 }')
declared_names=$(cut -d : -f 1 <<<"$declared")
named=$(echo "$declared_names"
        section "$ctl_pod" OUTPUT | grep '^=item' |
          grep -oE 'B<[a-z0-9_.]+>' | sed 's/B<//; s/>//')
check "names that stats prints and that are explained" \
      same_set "$printed" "$named"
columns=$(zmemctl raw classes | head -n 1 | tr ' ' '\n')
explained=$(section "$ctl_pod" OUTPUT | sed -n '/zmemctl raw classes/,$p' |
              grep -oE 'C<[a-z0-9_]+>' | sed 's/C<//; s/>//')
check "columns of classes that are explained" is_equal \
      "$(comm -23 <(set_of <<<"$columns") <(set_of <<<"$explained"))" ""
prometheus=$(zmemctl stats prometheus |
               sed -nE 's/^zmem_([a-z0-9_]+) .*/\1/p' |
               sed -E 's/_total$//' | grep -v latency_seconds_)
check "Prometheus has each, under its name" \
      same_set "$declared_names" "$prometheus"
stop_server

finish
