# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# From the summary to tables, whatever they will be printed as.  A table is
#
#   {title, notes => [sentences], columns => [names], rows => [[cells]],
#    align => a letter l or r a column [the first l, all others r]}
#
# with the first cell of a row as its name; first columns that are all l, if
# the others are all r, are names, too.  A cell that was not measured is
# undef; rows and columns of nothing but these are left out.

package Tables;

use strict;
use warnings;
use utf8;


#----------------------------------------------------------------------
# Numbers.

# Two or three significant digits; thousands as k, millions as M.
sub short {
  my ($value) = @_;
  my $suffix = '';

  return sprintf '%.2g', $value if $value != 0 && abs($value) < 0.0995;
  for my $next (qw(k M G)) {
    last if abs($value) < 999.5;
    $value /= 1000;
    $suffix = $next;
  }
  my $digits = abs($value) >= 99.95 ? 0
    : abs($value) >= 9.995 ? 1
    : 2;
  return sprintf("%.*f", $digits, $value) . $suffix;
}

# With so many digits that it cannot look like the aim that it missed.
sub ratio {
  my ($value) = @_;
  my $digits = abs($value) < 9.9995 ? 3 : abs($value) < 99.995 ? 2 : 1;
  return sprintf '%.*f', $digits, $value;
}

# Microseconds: a tenth matters below a hundred.
sub us {
  my ($value) = @_;
  return sprintf '%.1f', $value if abs($value) < 99.95;
  my $text = sprintf '%.0f', $value;
  1 while $text =~ s/^(-?\d+)(\d{3})/$1,$2/;
  return $text;
}

# The median, and half of the range between smallest and largest in percent
# of it.
sub with_spread {
  my ($spread) = @_;
  return undef unless $spread;
  my $text = short($spread->{median});
  return $text if $spread->{n} < 2 || $spread->{median} == 0;
  return sprintf '%s ±%.0f%%', $text,
    50 * ($spread->{max} - $spread->{min}) / abs $spread->{median};
}

sub range {
  my ($spread, $format) = @_;
  return $spread->{n} < 2
    ? undef
    : $format->($spread->{min}) . '..' . $format->($spread->{max});
}

#----------------------------------------------------------------------
# From the summary to tables.

sub of_summary {
  my ($summary) = @_;
  my @tables = (
    aims_table($summary),
    faults_table($summary),
    throughput_table($summary),
    ratios_table($summary),
    latency_one_table($summary),
    latency_table($summary),
    cpu_table($summary),
    beyond_null_table($summary),
    held_table($summary),
    sweep_tables($summary),
    strata_tables($summary),
    scale_tables($summary),
  );
  return grep { defined } map { without_empty($_) } @tables;
}

# Undef of a table with nothing in it.
sub without_empty {
  my ($table) = @_;
  my @rows = grep { my $row = $_; grep { defined } @$row[1 .. $#$row] }
    @{$table->{rows}};
  my @columns = grep { my $i = $_; $i == 0 || grep { defined $_->[$i] } @rows }
    0 .. $#{$table->{columns}};

  return undef if !@rows;
  return {
    %$table,
    columns => [@{$table->{columns}}[@columns]],
    rows => [map { [@$_[@columns]] } @rows],
  };
}

# The servers that have a cell in any of these rows.
sub servers_in {
  my (@rows) = @_;
  return Results::in_order(\@Results::SERVERS,
    sort map { keys %{$_->{servers}} } @rows);
}

# A row a phase, a column a server.
sub server_table {
  my ($title, $rows, $name_of, $cell_of) = @_;
  my @servers = servers_in(@$rows);

  return {
    title => $title,
    columns => ['', @servers],
    rows => [
      map {
        my $row = $_;
        [$name_of->($row), map { $cell_of->($row->{servers}{$_}) } @servers]
      } @$rows
    ],
  };
}

my $PM = 'Median over the rounds, ± half of the range between smallest and'
  . ' largest.';

sub aims_table {
  my ($summary) = @_;
  my @aims = @{$summary->{aims}};
  my $nr_reached = grep { $_->{reached} } @aims;
  my $nr_missing = @{$summary->{aims_not_measured}};
  my $note = "$nr_reached of " . @aims . " reached"
    . ($nr_missing ? "; $nr_missing more were not measured here" : '')
    . '. The median over the rounds of what was compared within a round is'
    . ' judged; floors are the least that is expected.';

  return {
    title => 'Aims',
    notes => [$note],
    columns => ['phase', 'compared', 'median', 'range', 'aim', '', ''],
    align => 'llrrrll',
    rows => [map { aim_row($_) } @aims],
  };
}

sub aim_row {
  my ($aim) = @_;
  my $us = $aim->{unit} eq 'us';
  my $format = $us ? sub { us($_[0]) . ' us' } : \&ratio;
  my $limit = defined $aim->{least}
    ? '>= ' . $aim->{least}
    : '<= ' . $aim->{most} . ($us ? ' us' : '');

  return [
    $aim->{phase}, $aim->{what}, $format->($aim->{spread}{median}),
    range($aim->{spread}, $us ? \&us : \&ratio), $limit,
    $aim->{force} eq 'floor' ? 'floor' : '',
    $aim->{reached} ? 'reached' : 'NOT reached',
  ];
}

sub faults_table {
  my ($summary) = @_;
  return {
    title => 'Errors and wrong data',
    notes => ['What these loads measured is in the tables; an aim that rests'
        . ' on them is not reached.'],
    columns => ['phase', 'server', 'round', 'errors', 'wrong'],
    align => 'llrrr',
    rows => [map { [@$_{qw(phase server round errors wrong)}] }
        @{$summary->{faults}}],
  };
}

sub without_sweeps {
  return grep { !Results::is_sweep($_->{phase}) } @_;
}

sub throughput_table {
  my ($summary) = @_;
  my $table = server_table('Throughput, ops/s where no unit is named',
    [without_sweeps(@{$summary->{throughput}})],
    sub {
      $_[0]{phase} . ($_[0]{unit} eq 'ops/s' ? '' : ", $_[0]{unit}");
    },
    \&with_spread);
  $table->{notes} = [$PM];
  return $table;
}

sub ratios_table {
  my ($summary) = @_;
  my @names = Summary::ratio_names();
  return {
    title => 'Throughput, ratios',
    notes => ['Median of the ratios within a round, smallest..largest.'],
    columns => ['', @names],
    rows => [
      map {
        my $row = $_;
        [$row->{phase}, map { ratio_cell($row->{ratios}{$_}) } @names]
      } without_sweeps(@{$summary->{throughput}})
    ],
  };
}

sub ratio_cell {
  my ($spread) = @_;
  return undef unless $spread;
  my $range = range($spread, \&short);
  return short($spread->{median}) . (defined $range ? " $range" : '');
}

#----------------------------------------------------------------------

my @QUANTILES = (
  ['p50', 'p50_us'], ['p99', 'p99_us'], ['p99.9', 'p999_us'],
  ['max', 'max_us'],
);

# Of the maxima the largest, of all others the median over the rounds.
sub latency_cell {
  my ($values, $quantile) = @_;
  my $spread = $values->{$quantile} // return undef;
  return us($quantile eq 'max_us' ? $spread->{max} : $spread->{median});
}

# A row a phase and percentile, a column a server.
sub percentile_rows {
  my ($servers, @entries) = @_;
  my @rows;

  for my $entry (@entries) {
    my $name = $entry->{phase} . ($entry->{kind} ? ", $entry->{kind}s" : '');
    for my $quantile (@QUANTILES) {
      my ($title, $member) = @$quantile;
      my @cells = map { latency_cell($entry->{servers}{$_}, $member) }
        @$servers;
      next unless grep { defined } @cells;
      push @rows, [$name, $title, @cells];
      $name = '';
    }
  }
  return \@rows;
}

my $LATENCY_NOTE = 'Median over the rounds; max: the largest of all rounds.';

sub latency_of {
  my ($title, @entries) = @_;
  my @servers = servers_in(@entries);
  return {
    title => $title,
    notes => [$LATENCY_NOTE],
    columns => ['', '', @servers],
    align => 'll' . 'r' x @servers,
    rows => percentile_rows(\@servers, @entries),
  };
}

sub latency_one_table {
  my ($summary) = @_;
  return latency_of('Latency of one request at a time, us',
    grep { $_->{phase} =~ /^lat/ && !$_->{kind} } @{$summary->{latency}});
}

# Where requests are of several kinds each is told by itself.
sub latency_table {
  my ($summary) = @_;
  my @entries = without_sweeps(
    grep { $_->{phase} !~ /^lat/ } @{$summary->{latency}});
  my %has_kinds = map { $_->{phase} => 1 } grep { $_->{kind} } @entries;
  return latency_of('Latency under load, us',
    grep { $_->{kind} || !$has_kinds{$_->{phase}} } @entries);
}

#----------------------------------------------------------------------

sub cpu_table {
  my ($summary) = @_;
  my $table = server_table(
    'Processor time of the server, us an operation',
    [without_sweeps(@{$summary->{cpu}})],
    sub { $_[0]{phase} }, \&with_spread);
  $table->{notes} = [$PM];
  return $table;
}

sub beyond_null_table {
  my ($summary) = @_;
  return {
    title => "Processor time beyond nbdkit null's, us an operation",
    notes => ['Within a round; beside it what the bare codec takes for a'
        . ' page of the corpus.'],
    columns => ['', 'server', 'beyond null', 'bare codec', '', 'times'],
    align => 'llrrlr',
    rows => [
      map {
        [
          $_->{phase}, $_->{server}, with_spread($_->{beyond_null_us}),
          $_->{codec_us}
          ? (short($_->{codec_us}), $_->{codec}, short($_->{times_codec}))
          : (undef, undef, undef),
        ]
      } @{$summary->{beyond_null}}
    ],
  };
}

sub held_table {
  my ($summary) = @_;
  my $table = server_table('Memory held after a phase, MiB',
    $summary->{held}, sub { $_[0]{phase} }, \&with_spread);
  $table->{notes} = [$PM];
  return $table;
}

sub sweep_tables {
  my ($summary) = @_;
  my @rows = grep { $_->{sweep} } @{$summary->{throughput}};
  my %name = (c => 'connections', d => 'depth');
  my @tables;

  for my $of (Results::in_order(\@Results::PHASES, map { $_->{of} } @rows)) {
    for my $sweep (qw(c d)) {
      my @some = grep { $_->{of} eq $of && $_->{sweep} eq $sweep } @rows;
      my $table = server_table("Throughput by $name{$sweep}: $of, ops/s",
        \@some, sub { "$sweep$_[0]{x}" }, \&with_spread);
      push @{$table->{columns}}, 'zmem/malloc';
      for my $i (0 .. $#some) {
        my $spread = $some[$i]{ratios}{'zmem/malloc'};
        push @{$table->{rows}[$i]},
          $spread ? short($spread->{median}) : undef;
      }
      push @tables, $table;
    }
  }
  return @tables;
}

#----------------------------------------------------------------------

sub strata_tables {
  my ($summary) = @_;
  my @rows = @{$summary->{strata}};
  my @tables = (strata_held_table(@rows));

  for my $member (qw(read_ops_s write_ops_s)) {
    my ($does) = $member =~ /^(\w+?)_/;
    push @tables, server_table("Throughput by kind of data: ${does}s, ops/s",
      [map { {%$_, servers => $_->{$member}} } @rows],
      sub { $_[0]{stratum} }, \&with_spread);
  }
  return @tables;
}

sub strata_held_table {
  my (@rows) = @_;
  my @servers = servers_in(map { {servers => $_->{held_mib}} } @rows);
  my @ratios = ('zmem/zram', 'zmem/zstd');

  return {
    title => 'Memory held by kind of data, MiB (share of the data)',
    columns => ['', 'data', @servers, @ratios],
    rows => [
      map {
        my $row = $_;
        [
          $row->{stratum}, short($row->{mib}),
          (map { share_cell($row->{held_mib}{$_}, $row->{mib}) } @servers),
          map { $_ ? short($_->{median}) : undef }
            @{$row->{held_ratios}}{@ratios},
        ]
      } @rows
    ],
  };
}

sub share_cell {
  my ($spread, $mib) = @_;
  return undef unless $spread;
  return short($spread->{median})
    . ($mib > 0 ? sprintf(' (%.0f%%)', 100 * $spread->{median} / $mib) : '');
}

sub scale_tables {
  my ($summary) = @_;
  return map { scale_table($_) } @{$summary->{scale}};
}

sub scale_table {
  my ($scale) = @_;
  my (%seen, @rows);
  my @x = sort { $a <=> $b } grep { !$seen{$_}++ } map { $_->[0] }
    map { @{$_->{points}} } map { @{$_->{series}} } @{$scale->{measures}};

  for my $measure (@{$scale->{measures}}) {
    for my $series (@{$measure->{series}}) {
      my %spread = map { $_->[0] => $_->[1] } @{$series->{points}};
      my $growth = $series->{growth};
      push @rows, [
        $measure->{y_name}, $series->{name},
        (map { $_ ? short($_->{median}) : undef } @spread{@x}),
        defined $growth ? sprintf('%.2f', $growth) =~ s/^-(?=0\.00$)//r
        : undef,
      ];
    }
  }
  return {
    title => "Scale: $scale->{what}, by $scale->{x_name}",
    notes => ['growth: the g of y ~ x^g from the first to the last column; 0'
        . ' is flat, 1 linear.'],
    columns => ['', '', @x, 'growth'],
    align => 'll' . 'r' x (@x + 1),
    rows => \@rows,
  };
}

1;
