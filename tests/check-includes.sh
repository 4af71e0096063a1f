#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The layers, as their #includes have them: each folder sees those below it
# and no other.  Besides:
#   - nbdkit's headers are for plugin/ alone, the compressors' for codec/
#   - mapping memory is for alloc/pages*.c alone
#   - a header's name is unique in the tree, since folders see each other's
#     headers by plain name
# tests/ and bench/ may look everywhere.
set -u

cd "${srcdir:?}" || exit 1
command -v perl >/dev/null || { echo "there is no perl here"; exit 77; }

exec perl -w - <<'END'
use strict;

my %sees = (
  alloc   => [qw(alloc)],
  codec   => [qw(codec)],
  compact => [qw(compact alloc)],
  store   => [qw(store codec alloc compact)],
  plugin  => [qw(plugin store codec alloc compact)],
  ctl     => [qw(ctl)],
);
# System headers that only one folder may include.
my @reserved = (
  [qr{^nbdkit-}, "plugin"],
  [qr{^(lz4|zstd|zdict|xxhash)}, "codec"],
);
my $mapping = qr{mmap(?:64)?|munmap|mremap|madvise|posix_madvise
                 |process_madvise|fallocate(?:64)?|posix_fallocate(?:64)?}x;

my $failed = 0;
sub complain { print @_, "\n"; $failed = 1; }

my %folder_of;                  # of a header, by its plain name
for my $folder (sort keys %sees) {
  for my $path (glob "$folder/*.h $folder/*.def") {
    my ($name) = $path =~ m{([^/]+)$};
    complain "$path: $folder_of{$name}/$name has the same name"
      if exists $folder_of{$name};
    $folder_of{$name} = $folder;
  }
}

for my $folder (sort keys %sees) {
  my %allowed = map { $_ => 1 } @{$sees{$folder}};
  for my $path (glob "$folder/*.c $folder/*.h $folder/*.def") {
    open my $in, "<", $path or die "$path: $!";
    my $text = do { local $/; <$in> };
    close $in;

    # Comments and then strings go, newlines stay, for the line numbers.
    $text =~ s{("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(/\*.*?\*/|//[^\n]*)}
              {defined $1 ? $1 : "\n" x ($2 =~ tr/\n//)}gse;
    my $number = 0;
    for my $line (split /\n/, $text) {
      $number++;
      my $where = "$path:$number";
      if ($line =~ m{^\s*#\s*include\s*([<"])([^>"]+)[>"]}) {
        my ($quote, $header) = ($1, $2);
        for (@reserved) {
          my ($pattern, $owner) = @$_;
          complain "$where: <$header> is for $owner/ alone"
            if $header =~ $pattern && $folder ne $owner;
        }
        next if $quote eq "<" || $header eq "config.h";
        my ($name) = $header =~ m{([^/]+)$};
        my $of = $folder_of{$name};
        if (!defined $of) {
          complain "$where: no folder has a header $header";
        } elsif (!$allowed{$of}) {
          complain "$where: $folder/ may not see $of/$name: it sees "
                   . join (", ", @{$sees{$folder}});
        }
        next;
      }
      $line =~ s{"(?:\\.|[^"\\])*"}{""}g;
      complain "$where: $1 is for alloc/pages*.c alone"
        if $path !~ m{^alloc/pages[^/]*\.c$}
           && $line =~ m{(?<![\w.>])($mapping)\s*\(};
    }
  }
}
exit $failed;
END
