#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# bench/corpus: its size, what its manifest says against what it wrote, the
# shares of the mix, one seed twice, strata as files, bad arguments, a machine
# without the programs that it uses; and nothing left, whatever its end.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires mke2fs debugfs sqlite3 tar xz gzip

corpus=$top_builddir/bench/corpus
export TMPDIR=$tmp/private
mkdir "$TMPDIR" "$tmp/out" && cd "$tmp/out" || exit 1

corpus () { bounded "$corpus" "$@"; }
is_empty_folder () { is_equal "$(ls -A "$1")" ''; }
exits_with () {
  local wanted=$1
  shift
  "$@"
  is_equal $? "$wanted"
}

# The table of the mix, which ends with the mix itself.
mix_of () { sed -n '/^stratum/,/^mix/{ /^stratum/!p; /^mix/q }' "$1.manifest"; }
# pages_of FILE REGEX: of the strata of such names, together.
pages_of () {
  mix_of "$1" | awk -v r="^($2)\$" '$1 ~ r { n += $2 } END { print n + 0 }'
}

#----------------------------------------------------------------------
# A corpus of 4 MiB, with strata of 1 MiB: 1024 pages, 256 pages.

nr_pages=1024
check "a corpus with its strata" \
      corpus -o one -s 4 --seed 5 --strata strata1 --strata-mib 1
cp "$tmp/check.out" printed
check "has its size" is_equal "$(stat -c %s one)" $((4 * M))
check "FILE.manifest is what was printed" cmp printed one.manifest
check "nothing else is left in the folder" \
      is_equal "$(echo *)" 'one one.manifest printed strata1'
check "nothing is left in TMPDIR" is_empty_folder "$TMPDIR"

for line in 'seed +5' 'date +20[0-9]{2}-[0-9]{2}-[0-9]{2} ' \
            'codecs +lz4 [0-9.]+, zstd [0-9.]+'; do
  check "the manifest says: $line" grep -Eq "^$line" one.manifest
done
check "the pages of the strata are the mix's" \
      is_equal "$(pages_of one '[^m].*')" $nr_pages
check "and the mix's are those of the file" is_equal "$(pages_of one mix)" \
      $nr_pages

# share_is PERCENT REGEX NR: rounding may take a page from each of NR strata,
# or give it one.
share_is () {
  local pages low=$((nr_pages * $1 / 100 - $3))
  pages=$(pages_of one "$2")
  at_least "$pages" "$low" && at_most "$pages" $((low + 2 * $3 + 1))
}
check "8 % are packages" share_is 8 packages 1
check "7 % are ext4" share_is 7 ext4 1
check "6 % are database" share_is 6 database 1
check "8 % are sources" share_is 8 sources 1
check "2 % are duplicates" share_is 2 duplicate 1
check "7 % are same-filled" share_is 7 same 1
# Not everybody has node.  What it lacks is libs'.
check "62 % are memory and libraries" share_is 62 'cc1|python|node|libs' 4
check "no less than 12 % are libraries" \
      at_least "$(pages_of one libs)" $((nr_pages * 12 / 100 - 1))
check "anonymous memory is there" at_least "$(pages_of one cc1)" 1

# Numbers of the whole against the file: zeros and the like, once each.
count_pages () {
  perl -e '
    open my $in, "<:raw", $ARGV[0] or die "$ARGV[0]: $!\n";
    my ($same, $copies, %seen) = (0, 0);
    while (read $in, my $page, 4096) {
      if ($page eq substr ($page, 0, 8) x 512) { $same++ }
      elsif ($seen{$page}++) { $copies++ }
    }
    print "$same $copies\n"' "$1"
}
check "same-filled pages and copies are as many as it says" is_equal \
      "$(count_pages one)" "$(pages_of one same) $(pages_of one duplicate)"

ratio_of () { mix_of one | awk -v s="$1" '$1 == s { print int($4 * 1000) }'; }
check "packages do not compress" at_least "$(ratio_of packages)" 950
for stratum in ext4 database sources libs; do
  check "$stratum compresses" at_most "$(ratio_of $stratum)" 850
done

#----------------------------------------------------------------------
# Strata by themselves.

strata='cc1 database ext4 libs node packages python sources'
check "a file for each stratum" is_equal "$(cd strata1 && echo *)" "$strata"
for stratum in database ext4 libs packages sources; do
  check "$stratum: 1 MiB" is_equal "$(stat -c %s "strata1/$stratum")" "$M"
  check "$stratum: neither same-filled pages nor copies" \
        is_equal "$(count_pages "strata1/$stratum")" '0 0'
done

# The first pages of a stratum are the mix's.
has_first_page () {
  perl -e '
    my ($page, %pages);
    open my $stratum, "<:raw", $ARGV[0] or die "$ARGV[0]: $!\n";
    open my $mix, "<:raw", $ARGV[1] or die "$ARGV[1]: $!\n";
    $pages{$page}++ while read $mix, $page, 4096;
    read $stratum, $page, 4096;
    exit !$pages{$page}' "$1" "$2"
}
for stratum in database ext4 libs packages sources; do
  check "the mix has the first page of $stratum" \
        has_first_page "strata1/$stratum" one
done

check "the same once more" \
      corpus -o two -s 4 --seed 5 --strata strata2 --strata-mib 1
for stratum in database ext4 libs packages sources; do
  check "one seed, the same $stratum" cmp "strata1/$stratum" "strata2/$stratum"
done
check "another seed" \
      corpus -o three -s 1 --seed 6 --strata strata3 --strata-mib 1
for stratum in database ext4 libs packages sources; do
  check "another seed, another $stratum" \
        not cmp -s "strata1/$stratum" "strata3/$stratum"
done

#----------------------------------------------------------------------
# Without the programs: all is files' and the generator's.

check "with no programs" env PATH=/nonexistent "$corpus" -o bare -s 1
check "has its size" is_equal "$(stat -c %s bare)" "$M"
check "has no memory of programs" is_equal "$(pages_of bare 'cc1|python|node')" 0
check "says that xz is missing" grep -q '^packages .*xz.*: not there' \
      bare.manifest
check "says that node is missing" grep -q '^node .*: not there' bare.manifest
check "says where packages come from" grep -q '^packages .*generator' \
      bare.manifest

#----------------------------------------------------------------------
# Bad arguments: a sentence, status 2, and no output.

mkdir "$tmp/empty" && cd "$tmp/empty" || exit 1
: >"$tmp/file"
# refuses STATUS REGEX ARGUMENT...
refuses () {
  local status=$1 regex=$2
  shift 2
  check_fails "says so: $*" "^corpus: .*$regex" corpus "$@"
  check "with status $status" exits_with "$status" corpus "$@"
}
refuses 2 '-o FILE is missing' -s 4
refuses 2 '-s MIB is missing' -o x
for size in 0 65537 -1 4k ''; do
  refuses 2 'a number from 1 to 65536' -o x -s "$size"
done
refuses 2 '--seed many: must be a number' -o x -s 1 --seed many
refuses 2 '--strata-mib needs --strata' -o x -s 1 --strata-mib 1
refuses 2 'y: an argument too many' -o x -s 1 y
refuses 1 'no/x' -o no/x -s 1
refuses 1 'no regular file' -o /dev/null -s 1
refuses 1 'neither is it a folder' -o x -s 1 --strata "$tmp/file"
check_fails "a TMPDIR that is not there" 'set TMPDIR' \
            env TMPDIR="$tmp/no" "$corpus" -o x -s 1
check "none of them left anything" is_empty_folder "$tmp/empty"

#----------------------------------------------------------------------
# A signal, while programs run: everything goes.

# Of all processes: those of a parent, those of a group, but zombies.
processes_by () {
  cat /proc/[0-9]*/stat 2>/dev/null |
    sed -E 's/^([0-9]+) \(.*\) ([A-Za-z]) ([0-9]+) ([0-9]+).*/\1 \2 \3 \4/' |
    awk -v column="$1" -v id="$2" '$2 != "Z" && $column == id { print $1 }'
}
# Its first stratum is being made.
has_begun () { compgen -G "$TMPDIR/corpus.*/list"; }
corpus_ended () { process_ended "$corpus_pid"; }
group_is_gone () { is_equal "$(processes_by 4 "$worker")" ''; }
"$corpus" -o x -s 64 --strata s >/dev/null 2>&1 </dev/null &
corpus_pid=$!
check "it begins" wait_for 60 has_begun
# The one that does the work leads the group that all others are in.
worker=$(processes_by 3 $corpus_pid)
check "a process does the work" matches "$worker" '^[0-9]+$'
check "and leads a group" not group_is_gone
kill -TERM $corpus_pid
check "it ends" wait_for 60 corpus_ended
wait $corpus_pid
check "by the signal" is_equal $? 143
check "with all that it started" wait_for 60 group_is_gone
check "nothing is left in TMPDIR" is_empty_folder "$TMPDIR"
check "nor where its output goes" is_empty_folder "$tmp/empty"

finish
