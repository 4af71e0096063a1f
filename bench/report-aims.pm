# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What zmem is to reach beside its peers, and whether it did.  This table is
# the only place for these numbers: terminal, JSON, plots and docs take them
# from here.
#
# Each aim compares two servers within a round and judges the median over the
# rounds.  By how it compares:
#
#   ratio       ops/s of one over ops/s of the other, at least so much
#   difference  median latency of one less that of the other, at most so many
#               microseconds
#   codec       processor time an operation of one beyond that of the other,
#               over what the bare codec takes for a page, at most so much

package Aims;

use strict;
use warnings;

# "binds": to be reached.  "floor": the least that is expected.
my @RATIOS = (
  # phase, of, least against: malloc (binds), zram, zstd (floors)
  ['randread', 'zmem', 0.97, 1.9, 4.6],
  ['randwrite', 'zmem', 0.88, 2.0, 14],
  ['mixed', 'zmem', 0.97, 1.3, 6],
  ['seqread256', 'zmem', 0.60, 2, 2.5],
  ['seqwrite256', 'zmem', 0.35, 2, 5],
  ['randread', 'zmem-zstd', 0.75],
  ['randwrite', 'zmem-zstd', 0.55],
);

my @DIFFERENCES = (
  # phase, of, to, at most so many microseconds
  ['latread', 'zmem', 'malloc', 3],
  ['latwrite', 'zmem', 'malloc', 8],
);

my @CODECS = (
  # phase, of, beyond, codec, what it does, at most so many times that
  ['randread', 'zmem', 'null', 'lz4', 'decode', 1.2],
  ['randwrite', 'zmem', 'null', 'lz4', 'encode', 1.2],
);

# One hash an aim: phase, how, of, to, member (of the phase's lines),
# least or most, force (binds or floor), what (for people).
sub all {
  my @aims;

  for my $row (@RATIOS) {
    my ($phase, $of, @least) = @$row;
    for my $to (qw(malloc zram zstd)) {
      my $least = shift @least // next;
      push @aims, {
        phase => $phase, how => 'ratio', of => $of, to => $to,
        member => 'ops_s', least => $least, unit => 'times',
        force => $to eq 'malloc' ? 'binds' : 'floor',
        what => "$of/$to",
      };
    }
  }
  for my $row (@DIFFERENCES) {
    my ($phase, $of, $to, $most) = @$row;
    push @aims, {
      phase => $phase, how => 'difference', of => $of, to => $to,
      member => 'p50_us', most => $most, unit => 'us',
      force => 'binds', what => "$of - $to, p50",
    };
  }
  for my $row (@CODECS) {
    my ($phase, $of, $to, $codec, $does, $most) = @$row;
    push @aims, {
      phase => $phase, how => 'codec', of => $of, to => $to,
      member => 'server_cpu_us', codec => $codec, does => $does,
      most => $most, unit => 'times', force => 'binds',
      what => "($of - $to)/$codec $does, CPU",
    };
  }
  return @aims;
}

# ratio_aim PHASE OF TO: the least ratio of ops/s that is aimed at, if any.
sub ratio_aim {
  my ($phase, $of, $to) = @_;
  my ($aim) = grep {
         $_->{how} eq 'ratio'
      && $_->{phase} eq $phase
      && $_->{of} eq $of
      && $_->{to} eq $to
  } all();
  return $aim && $aim->{least};
}

# Microseconds a page of the bare codec.  "lz4" is lz4 at its first level.
sub codec_us {
  my ($results, $codec, $does) = @_;
  my @lines = @{$results->{codec}};

  for my $pattern (qr/^\Q$codec\E:1$/, qr/^\Q$codec\E(:|$)/) {
    my ($name) = map { $_->{name} } grep { $_->{name} =~ $pattern } @lines;
    next unless defined $name;
    return Results::median(map { $_->{"${does}_us"} }
        grep { $_->{name} eq $name } @lines);
  }
  return undef;
}

# The aim with its spread and verdict; undef if it was not measured.
sub judge {
  my ($results, $aim) = @_;
  my $lines = $results->{by_phase}{load}{$aim->{phase}} // {};
  my %judged = %$aim;
  my $combine = \&Results::ratio;

  if ($aim->{how} eq 'difference') {
    $combine = sub { $_[0] - $_[1] };
  }
  elsif ($aim->{how} eq 'codec') {
    my $us = codec_us($results, $aim->{codec}, $aim->{does});
    return undef unless $us;
    $combine = sub { ($_[0] - $_[1]) / $us };
    $judged{codec_us} = $us;
  }
  $judged{spread} = Results::spread_of_pairs($lines->{$aim->{of}},
    $lines->{$aim->{to}}, $aim->{member}, $combine);
  return undef unless $judged{spread};

  my $median = $judged{spread}{median};
  my $faulty = grep { $_->{errors} || $_->{wrong} } @{$lines->{$aim->{of}}};
  $judged{reached} = !$faulty
    && (defined $aim->{least} ? $median >= $aim->{least}
    : $median <= $aim->{most});
  return \%judged;
}

1;
