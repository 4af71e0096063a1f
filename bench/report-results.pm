# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A results file of the benchmark, read and checked, and the statistics over
# its rounds.  One JSON object a line:
#
#   run      once: date, command, machine, versions
#   load     one phase on one server in one round: what nbd-load measured
#   held     MiB held after a phase, baseline taken off
#   sample   MiB held at a time; mark: a phase began at that time
#   codec    processor time of the bare codec, a page
#   stratum  held and speed with one kind of data
#   scale    one point of a curve: cost as work grows
#
# Any of them may be missing.  A line that is not what it should be ends the
# report with its number; a type that nobody here knows is left out, with one
# warning.

package Results;

use strict;
use warnings;

use JSON::PP ();
use Scalar::Util qw(looks_like_number);

# The order of columns, and of rows.
our @SERVERS = qw(malloc sparse zstd zram null zmem zmem-zstd bare
  bare-zstd);
our @PHASES = qw(fill fill256 randread randwrite mixed part swap
  seqread256 seqwrite256 latread latwrite trimhalf randwrite-compact);

# What a line must have; "?": may be absent, or null.
my %LOAD_NUMBERS = map { $_ => 'number?' } qw(mib_s p50_us p99_us p999_us
  max_us server_cpu_us errors wrong),
  map { ("${_}_p50_us", "${_}_p99_us", "${_}_p999_us", "${_}_max_us") }
  qw(read write trim);

my %MEMBERS = (
  run => {rounds => 'number?'},
  load => {
    round => 'number', server => 'name', phase => 'name',
    ops_s => 'number', percentiles_us => 'pairs?', %LOAD_NUMBERS,
  },
  held => {
    round => 'number', server => 'name', phase => 'name',
    held_mib => 'number',
  },
  sample => {
    round => 'number', server => 'name', t_s => 'number',
    held_mib => 'number',
  },
  mark => {
    round => 'number', server => 'name', t_s => 'number', phase => 'name',
  },
  codec => {name => 'name', encode_us => 'number', decode_us => 'number'},
  stratum => {
    round => 'number?', stratum => 'name', server => 'name',
    mib => 'number', held_mib => 'number',
    read_ops_s => 'number?', write_ops_s => 'number?',
  },
  scale => {
    what => 'name', x => 'number', x_name => 'name', series => 'name',
    y => 'number', y_name => 'name',
  },
);

#----------------------------------------------------------------------
# Reading.

# Returns {TYPE => [lines]}, each a hash; dies with a sentence.
sub read_file {
  my ($path) = @_;
  my %results = map { $_ => [] } keys %MEMBERS;
  my ($nr, $nr_unknown, $first_unknown) = (0, 0);

  open my $file, '<:raw', $path or die "$path: $!\n";
  while (my $text = <$file>) {
    $nr++;
    next if $text =~ /^\s*$/;
    my $line = eval { parse_line($text) };
    die "$path: line $nr: $@" if $@;
    if ($MEMBERS{$line->{type}}) {
      die "$path: line $nr: a second run; one file is one run\n"
        if $line->{type} eq 'run' && @{$results{run}};
      push @{$results{$line->{type}}}, $line;
    }
    else {
      $nr_unknown++;
      $first_unknown //= "line $nr has the unknown type \"$line->{type}\"";
    }
  }
  close $file or die "$path: $!\n";

  warn "$path: $first_unknown; ignored, with "
    . ($nr_unknown - 1) . " more of unknown types\n"
    if $nr_unknown;
  die "$path: no results in it\n" unless grep { @$_ } values %results;
  return index_results(\%results);
}

sub parse_line {
  my ($text) = @_;
  my $line = eval { JSON::PP->new->utf8->decode($text) };

  die "no JSON object\n" unless ref $line eq 'HASH';
  my $type = $line->{type};
  die "no \"type\", which should be one of "
    . join(', ', sort keys %MEMBERS) . "\n"
    unless is_name($type);
  my $members = $MEMBERS{$type} // {};
  for my $member (sort keys %$members) {
    check_member($line, $member, $members->{$member});
  }
  return $line;
}

sub check_member {
  my ($line, $member, $kind) = @_;
  my $value = $line->{$member};
  my $optional = $kind =~ s/\?$//;

  return if $optional && !defined $value;
  if ($kind eq 'number') {
    die "\"$member\" of type $line->{type} should be a number\n"
      unless is_number($value);
  }
  elsif ($kind eq 'name') {
    die "\"$member\" of type $line->{type} should be a name\n"
      unless is_name($value);
  }
  else {
    die "\"$member\" of type $line->{type} should be a list of"
      . " [percent, us]\n"
      unless is_pairs($value);
  }
}

# Neither infinite nor no number at all.
sub is_number {
  my ($value) = @_;
  return !ref $value && looks_like_number($value) && $value - $value == 0;
}

# Names go into tables and into gnuplot's commands, hence one line.
sub is_name {
  my ($value) = @_;
  return defined $value && !ref $value && $value =~ /\A[^\x00-\x1f\x7f]+\z/;
}

sub is_pairs {
  my ($value) = @_;
  return ref $value eq 'ARRAY'
    && !grep { ref $_ ne 'ARRAY' || @$_ != 2 || grep { !is_number($_) } @$_ }
    @$value;
}

# by_phase: {load or held}{phase}{server} => [lines], in the file's order.
sub index_results {
  my ($results) = @_;

  for my $type (qw(load held)) {
    for my $line (@{$results->{$type}}) {
      push @{$results->{by_phase}{$type}{$line->{phase}}{$line->{server}}},
        $line;
    }
  }
  return $results;
}

#----------------------------------------------------------------------
# What is in it, in the order of the tables.

# Those of @$order first, then the others as they came; each once.
sub in_order {
  my ($order, @names) = @_;
  my %there = map { $_ => 1 } @names;
  my %seen;

  return grep { $there{$_} && !$seen{$_}++ } @$order, @names;
}

sub servers_of {
  my ($results, @types) = @_;
  return in_order(\@SERVERS,
    map { $_->{server} } map { @{$results->{$_}} } @types);
}

# randread-c2 is a phase of connections, randread-d16 one of depth.
sub split_phase {
  my ($phase) = @_;
  return $phase =~ /^(.+)-([cd])(\d+)$/ ? ($1, $2, $3) : ($phase, '', 0);
}

sub is_sweep {
  return (split_phase($_[0]))[1] ne '';
}

sub phases_of {
  my ($results, $type) = @_;
  my @phases = in_order(\@PHASES, map { $_->{phase} } @{$results->{$type}});
  my %rank = map { $PHASES[$_] => $_ } 0 .. $#PHASES;
  my @sweeps = map { $_->[0] }
    sort {
           ($rank{$a->[1]} // 99) <=> ($rank{$b->[1]} // 99)
        || $a->[1] cmp $b->[1]
        || $a->[2] cmp $b->[2]
        || $a->[3] <=> $b->[3]
    }
    map { [$_, split_phase($_)] } grep { is_sweep($_) } @phases;

  return ((grep { !is_sweep($_) } @phases), @sweeps);
}

#----------------------------------------------------------------------
# Statistics.

sub median {
  my @sorted = sort { $a <=> $b } @_;
  my $nr = @sorted;
  return undef unless $nr;
  return ($sorted[($nr - 1) / 2] + $sorted[$nr / 2]) / 2;
}

# What a table shows of a value over the rounds; undef of no values.
sub spread_of {
  my @sorted = sort { $a <=> $b } @_;
  return undef unless @sorted;
  return {
    median => median(@sorted),
    min => $sorted[0],
    max => $sorted[-1],
    n => scalar @sorted,
  };
}

# {round => value} of a member; a median where a round has it twice.
sub by_round {
  my ($lines, $member) = @_;
  my %values;

  for my $line (@{$lines // []}) {
    push @{$values{$line->{round} // 0}}, $line->{$member}
      if defined $line->{$member};
  }
  return {map { $_ => median(@{$values{$_}}) } keys %values};
}

sub spread_of_rounds {
  my ($lines, $member) = @_;
  return spread_of(values %{by_round($lines, $member)});
}

# Combine what two servers had within one round, then the spread over the
# rounds that both have.  The function returns nothing where there is no
# sense in a value.
sub spread_of_pairs {
  my ($of, $to, $member, $combine) = @_;
  my ($a, $b) = (by_round($of, $member), by_round($to, $member));

  return spread_of(map { $combine->($a->{$_}, $b->{$_}) }
      grep { defined $b->{$_} } keys %$a);
}

sub ratio {
  my ($of, $to) = @_;
  return $to > 0 ? $of / $to : ();
}

sub spread_of_ratios {
  my ($of, $to, $member) = @_;
  return spread_of_pairs($of, $to, $member, \&ratio);
}

1;
