# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# From the lines of a results file to what is told of it: the one document
# that the tables, the plots and --json are made of.  A spread is {median,
# min, max, n} over the rounds; what was not measured is not in it.

package Summary;

use strict;
use warnings;

use JSON::PP ();
use List::Util qw(uniq);

my @RATIOS = (
  ['zmem', 'malloc'], ['zmem', 'zram'], ['zmem', 'zstd'],
  ['zmem-zstd', 'malloc'], ['bare', 'malloc'],
  ['zmem', 'bare'],
);
my @QUANTILES = qw(p50_us p99_us p999_us max_us);

sub of_results {
  my ($results) = @_;
  my (@judged, @unmeasured);

  for my $aim (Aims::all()) {
    my $judged = Aims::judge($results, $aim);
    if ($judged) { push @judged, $judged }
    else { push @unmeasured, {%$aim} }
  }
  return {
    run => $results->{run}[0] // {},
    aims => \@judged,
    aims_not_measured => \@unmeasured,
    faults => faults($results),
    throughput => throughput($results),
    latency => latency($results),
    cpu => cpu($results),
    beyond_null => beyond_null($results),
    held => held($results),
    strata => strata($results),
    scale => scale($results),
  };
}

# by_server LINES-BY-SERVER, FUNCTION: {server => what it returns for the
# server's lines}, without those for which it is undef.
sub by_server {
  my ($lines, $function) = @_;
  my %values = map { $_ => $function->($lines->{$_}) } keys %$lines;

  delete @values{grep { !defined $values{$_} } keys %values};
  return \%values;
}

#----------------------------------------------------------------------

# Loads that met errors or data that was not what had been written.
sub faults {
  my ($results) = @_;
  return [
    map {
      {
        phase => $_->{phase}, server => $_->{server}, round => $_->{round},
        errors => $_->{errors} // 0, wrong => $_->{wrong} // 0,
      }
    } grep { $_->{errors} || $_->{wrong} } @{$results->{load}}
  ];
}

# Phases with requests of 256 KiB are told in MiB/s.
sub throughput {
  my ($results) = @_;
  my @rows;

  for my $phase (Results::phases_of($results, 'load')) {
    my $lines = $results->{by_phase}{load}{$phase};
    my $member = $phase =~ /256$/ ? 'mib_s' : 'ops_s';
    my $servers = by_server($lines,
      sub { Results::spread_of_rounds($_[0], $member) });
    my ($of, $sweep, $x) = Results::split_phase($phase);
    push @rows, {
      phase => $phase,
      unit => $member eq 'mib_s' ? 'MiB/s' : 'ops/s',
      servers => $servers,
      $sweep ? (sweep => $sweep, of => $of, x => $x + 0) : (),
      ratios => ratios($lines),
      to_malloc => by_server($lines, sub {
        Results::spread_of_ratios($_[0], $lines->{malloc}, 'ops_s') }),
    };
  }
  return \@rows;
}

# Within a round, against the peers.
sub ratios {
  my ($lines) = @_;
  my %ratios;

  for my $pair (@RATIOS) {
    my ($of, $to) = @$pair;
    my $spread
      = Results::spread_of_ratios($lines->{$of}, $lines->{$to}, 'ops_s');
    $ratios{"$of/$to"} = $spread if $spread;
  }
  return \%ratios;
}

sub ratio_names {
  return map { "$_->[0]/$_->[1]" } @RATIOS;
}

#----------------------------------------------------------------------

# One entry a phase, and where requests are of several kinds one a kind.
sub latency {
  my ($results) = @_;
  my @rows;

  for my $phase (Results::phases_of($results, 'load')) {
    my $lines = $results->{by_phase}{load}{$phase};
    for my $kind ('', qw(read write trim)) {
      my $servers
        = by_server($lines, sub { latency_of($_[0], $kind) });
      push @rows, {phase => $phase, kind => $kind, servers => $servers}
        if %$servers;
    }
  }
  return \@rows;
}

sub latency_of {
  my ($lines, $kind) = @_;
  my %values;

  # A load may have been without requests of this kind.
  $lines = [grep { $_->{"${kind}_ops"} // 1 } @$lines] if $kind;

  for my $quantile (@QUANTILES) {
    my $spread = Results::spread_of_rounds($lines,
      $kind ? "${kind}_$quantile" : $quantile);
    $values{$quantile} = $spread if $spread;
  }
  return undef unless %values;
  $values{percentiles_us} = percentiles($lines) if $kind eq '';
  return \%values;
}

# [percent, median over the rounds in us], ascending.
sub percentiles {
  my ($lines) = @_;
  my %values;

  for my $line (@$lines) {
    for my $pair (@{$line->{percentiles_us} // []}) {
      push @{$values{$pair->[0] + 0}}, $pair->[1];
    }
  }
  return [map { [$_ + 0, Results::median(@{$values{$_}})] }
      sort { $a <=> $b } keys %values];
}

#----------------------------------------------------------------------

sub cpu {
  my ($results) = @_;
  my @rows;

  for my $phase (Results::phases_of($results, 'load')) {
    my $servers = by_server($results->{by_phase}{load}{$phase},
      sub { Results::spread_of_rounds($_[0], 'server_cpu_us') });
    push @rows, {phase => $phase, servers => $servers} if %$servers;
  }
  return \@rows;
}

# Processor time that the protocol does not explain, beside the bare codec's.
sub beyond_null {
  my ($results) = @_;
  my @rows;

  for my $row (['randread', 'decode'], ['randwrite', 'encode']) {
    my ($phase, $does) = @$row;
    my $lines = $results->{by_phase}{load}{$phase} // {};
    for my $pair (['zmem', 'lz4'], ['zmem-zstd', 'zstd']) {
      my ($server, $codec) = @$pair;
      my $spread = Results::spread_of_pairs($lines->{$server},
        $lines->{null}, 'server_cpu_us', sub { $_[0] - $_[1] });
      next unless $spread;
      my $us = Aims::codec_us($results, $codec, $does);
      push @rows, {
        phase => $phase, server => $server, beyond_null_us => $spread,
        $us
        ? (
          codec => "$codec $does", codec_us => $us,
          times_codec => $spread->{median} / $us,
          )
        : (),
      };
    }
  }
  return \@rows;
}

#----------------------------------------------------------------------

sub held {
  my ($results) = @_;
  my @rows;

  for my $phase (Results::phases_of($results, 'held')) {
    push @rows, {
      phase => $phase,
      servers => by_server($results->{by_phase}{held}{$phase},
        sub { Results::spread_of_rounds($_[0], 'held_mib') }),
    };
  }
  return \@rows;
}

sub strata {
  my ($results) = @_;
  my @lines = @{$results->{stratum}};
  my @rows;

  for my $stratum (uniq map { $_->{stratum} } @lines) {
    my %lines;
    push @{$lines{$_->{server}}}, $_
      for grep { $_->{stratum} eq $stratum } @lines;
    my %row = (stratum => $stratum,
      mib => Results::median(map { $_->{mib} } map { @$_ } values %lines));
    for my $member (qw(held_mib read_ops_s write_ops_s)) {
      $row{$member} = by_server(\%lines,
        sub { Results::spread_of_rounds($_[0], $member) });
    }
    for my $to (qw(zram zstd)) {
      my $spread = Results::spread_of_ratios($lines{zmem}, $lines{$to},
        'held_mib');
      $row{held_ratios}{"zmem/$to"} = $spread if $spread;
    }
    push @rows, \%row;
  }
  return \@rows;
}

#----------------------------------------------------------------------

# One entry a "what", in it one a measure (y_name), in it one a series with
# its points [x, spread of y], ascending.
sub scale {
  my ($results) = @_;
  my @lines = @{$results->{scale}};
  my @rows;

  for my $what (uniq map { $_->{what} } @lines) {
    my @of = grep { $_->{what} eq $what } @lines;
    push @rows, {
      what => $what,
      x_name => $of[0]{x_name},
      measures => [
        map {
          my $y_name = $_;
          scale_measure($y_name, grep { $_->{y_name} eq $y_name } @of)
        } uniq map { $_->{y_name} } @of
      ],
    };
  }
  return \@rows;
}

sub scale_measure {
  my ($y_name, @lines) = @_;
  my @series
    = Results::in_order(\@Results::SERVERS, map { $_->{series} } @lines);

  return {
    y_name => $y_name,
    series => [
      map {
        my $series = $_;
        scale_series($series, grep { $_->{series} eq $series } @lines)
      } @series
    ],
  };
}

sub scale_series {
  my ($name, @lines) = @_;
  my %values;

  push @{$values{$_->{x} + 0}}, $_->{y} for @lines;
  my @points = map { [$_ + 0, Results::spread_of(@{$values{$_}})] }
    sort { $a <=> $b } keys %values;
  my %series = (name => $name, points => \@points);
  my $growth = growth($points[0], $points[-1]);
  $series{growth} = $growth if defined $growth;
  return \%series;
}

# The g of y ~ x^g between two points: 0 is flat, 1 linear.
sub growth {
  my ($first, $last) = @_;
  my @x = map { $_->[0] } $first, $last;
  my @y = map { $_->[1]{median} } $first, $last;

  return undef if $x[0] <= 0 || $x[0] == $x[1] || $y[0] <= 0 || $y[1] <= 0;
  return log($y[1] / $y[0]) / log($x[1] / $x[0]);
}

#----------------------------------------------------------------------

# As JSON text: numbers with six digits, verdicts as booleans.
sub to_json {
  my ($summary) = @_;
  return JSON::PP->new->utf8->canonical->pretty->encode(
    json_value($summary, ''));
}

sub json_value {
  my ($value, $name) = @_;

  if (ref $value eq 'HASH') {
    return {map { $_ => json_value($value->{$_}, $_) } keys %$value};
  }
  if (ref $value eq 'ARRAY') {
    return [map { json_value($_, $name) } @$value];
  }
  return $value ? JSON::PP::true : JSON::PP::false if $name eq 'reached';
  return $value if !Results::is_number($value) || !is_plain_number($value);
  return 0 + sprintf '%.6g', $value;
}

# Not a string that happens to look like a number, a version say.
sub is_plain_number {
  my ($value) = @_;
  return JSON::PP->new->allow_nonref->encode($value) !~ /^"/;
}

1;
