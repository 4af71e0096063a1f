# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The plots that are grouped bars: throughput beside the peers, and memory held
# by kind of data.

package Bars;

use strict;
use warnings;
use utf8;

use List::Util qw(max min);

# Peers first, then zmem, then what bounds it.
my @ORDER = qw(malloc sparse zstd zram zmem zmem-zstd bare null);

sub servers_of {
  my (@groups) = @_;
  return Results::in_order(\@ORDER, sort map { keys %{$_->{bars}} } @groups);
}

#----------------------------------------------------------------------
# Grouped bars.

# bars FIGURE, GROUPS, SERVERS, TOP: the commands of a panel.  A group is
# {name, bars => {server => spread}, aim => {server => y}}.  What is higher
# than TOP is cut off and labelled.
sub bars {
  my ($figure, $groups, $servers, $top, $format) = @_;
  my $width = min(0.84 / @$servers, 0.2);
  my (@commands, @plots);

  for my $s (0 .. $#$servers) {
    my $server = $servers->[$s];
    my @rows;
    for my $g (0 .. $#$groups) {
      my $spread = $groups->[$g]{bars}{$server} // next;
      my $x = $g + ($s - ($#$servers) / 2) * $width;
      push @rows, [$x, map { min($_, $top) } @$spread{qw(median min max)}];
      push @commands,
        bar_labels($server, $x, $spread, $top, $format),
        aim_mark($x, $width, $groups->[$g]{aim}{$server});
    }
    my $data = Gnuplot::add_data($figure, @rows) // next;
    my $colour = Gnuplot::quote(Gnuplot::colour_of($server, $s));
    push @plots,
      sprintf('%s using 1:2:(%g) with boxes lc rgb %s', $data,
      0.9 * $width, $colour),
      Gnuplot::whiskers($data, '#222222');
  }
  my @names = map { [$_, $groups->[$_]{name}] } 0 .. $#$groups;
  return (
    sprintf('set xrange [-0.55:%g]', $#$groups + 0.55),
    "set yrange [0:$top]",
    Gnuplot::named_tics('x', @names), 'set xtics scale 0', @commands,
    'plot ' . join(', ', @plots),
  );
}

# The number over zmem's bar, and in a bar that is cut off.
sub bar_labels {
  my ($server, $x, $spread, $top, $format) = @_;
  my $text = $format->($spread->{median});

  if ($spread->{median} > $top) {
    return Gnuplot::label("$text ↑", "first $x, first " . 0.985 * $top,
      "right rotate by 90 font ',11' tc rgb '#ffffff'");
  }
  return () if $server ne 'zmem';
  return Gnuplot::label($text,
    "first $x, first " . min($spread->{max}, 0.97 * $top),
    "center offset 0,0.55 font ',11' tc rgb '#a04000'");
}

sub aim_mark {
  my ($x, $width, $y) = @_;
  return () unless defined $y;
  return sprintf 'set arrow from first %g, first %g to first %g, first %g'
    . " nohead front lw 2.5 lc rgb '#000000'",
    $x - 0.5 * $width, $y, $x + 0.5 * $width, $y;
}

sub level_line {
  my ($y, $text) = @_;
  return (
    "set arrow from graph 0, first $y to graph 1, first $y nohead back"
      . " lw 1.5 lc rgb '#4d4d4d'",
    Gnuplot::label($text, "graph 1, first $y",
      "left offset 0.6,0 font ',12' tc rgb '#4d4d4d'"),
  );
}

#----------------------------------------------------------------------
# Throughput beside peers: malloc is 1, or if it is not there, ops/s.

sub throughput {
  my ($summary) = @_;
  my @rows = grep { $_->{phase} !~ /^lat|^trim/ && !$_->{sweep} }
    @{$summary->{throughput}};
  my $relative = grep { keys %{$_->{to_malloc}} > 1 } @rows;
  my @groups = map { throughput_group($_, $relative) } @rows;
  my @servers = servers_of(@groups);
  return undef unless @servers;

  my $nr_panels = @groups > 5 ? 2 : 1;
  my $per_panel = int((@groups + $nr_panels - 1) / $nr_panels);
  my $figure = Gnuplot::new_figure(
    title => 'Throughput' . ($relative ? ' beside its peers' : ''),
    subtitle => 'ops/s'
      . ($relative ? ' relative to nbdkit memory allocator=malloc (= 1)' : '')
      . ', higher is better'
      . '; bars: median over the rounds, whiskers: smallest and largest',
    width => 1000, height => 130 + 270 * $nr_panels,
    columns => 1, nr_panels => $nr_panels,
    space => {left => 50, right => 66, top => 20, bottom => 34},
    legend => [
      Gnuplot::legend_of('box', @servers),
      (grep { %{$_->{aim}} } @groups) ? ['aim', '#000000', 'line'] : (),
    ],
  );
  my $top = bar_top($relative, @groups);
  while (my @some = splice @groups, 0, $per_panel) {
    Gnuplot::add_panel($figure,
      $relative ? level_line(1, 'malloc') : "set format y '%.0s%c'",
      bars($figure, \@some, \@servers, $top,
        $relative ? sub { sprintf '%.2f', $_[0] } : \&Tables::short));
  }
  return $figure;
}

# ops/s relative to malloc's, which itself is the line at 1.
sub throughput_group {
  my ($row, $relative) = @_;
  my %bars = %{$relative ? $row->{to_malloc} : $row->{servers}};
  my %aim;

  delete $bars{malloc} if $relative;
  return () if !%bars || !$relative && $row->{unit} ne 'ops/s';
  for my $server ($relative ? keys %bars : ()) {
    my $least = Aims::ratio_aim($row->{phase}, $server, 'malloc');
    $aim{$server} = $least if defined $least;
  }
  return {
    name => Gnuplot::phase_title($row->{phase}),
    bars => \%bars,
    aim => \%aim,
  };
}

# null, which does nothing, may be so far above that it is cut off.
sub bar_top {
  my ($relative, @groups) = @_;
  my (@all, @but_null);

  for my $bars (map { $_->{bars} } @groups) {
    push @all, map { $_->{max} } values %$bars;
    push @but_null, map { $bars->{$_}{max} } grep { $_ ne 'null' } keys %$bars;
  }
  my $least = $relative ? 1.1 : 0;
  return 1.12 * (max(@all) || 1) unless @but_null;
  return min(1.12 * max(@all, $least),
    1.3 * max(@but_null, $least)) || 1;
}

#----------------------------------------------------------------------
# Held by kind of data.

sub strata {
  my ($summary) = @_;
  my @groups = grep { %{$_->{bars}} }
    map { strata_group($_) } grep { $_->{mib} > 0 } @{$summary->{strata}};
  my @servers = servers_of(@groups);
  return undef unless @servers;

  # Who holds much more than the data, whatever they are, is told, not drawn.
  my $top = 160;
  my %least = map {
    my $server = $_;
    $server => min(map { $_->{median} } grep { defined }
      map { $_->{bars}{$server} } @groups)
  } @servers;
  my @beyond = grep { $least{$_} > $top } @servers;
  @servers = grep { $least{$_} <= $top } @servers;
  return undef unless @servers;

  my $high = max(100, map { $_->{max} } grep { defined }
      map { @{$_->{bars}}{@servers} } @groups);
  my $figure = Gnuplot::new_figure(
    title => 'Memory held by kind of data',
    subtitle => '% of the data, lower is better; median over the rounds'
      . (@beyond ? '; off the scale: ' . join(', ',
        map { sprintf '%s (%.0f)', $_, $least{$_} } @beyond) : ''),
    width => max(620, 160 + 105 * @groups), height => 400, nr_panels => 1,
    space => {left => 50, right => 110, top => 20, bottom => 34},
    legend => [Gnuplot::legend_of('box', @servers)],
  );
  Gnuplot::add_panel($figure, level_line(100, 'uncompressed'),
    bars($figure, \@groups, \@servers, min(1.12 * $high, $top),
      sub { sprintf '%.0f', $_[0] }));
  return $figure;
}

sub strata_group {
  my ($row) = @_;
  my %bars;

  for my $server (keys %{$row->{held_mib}}) {
    my $spread = $row->{held_mib}{$server};
    $bars{$server}
      = {map { $_ => 100 * $spread->{$_} / $row->{mib} } qw(median min max)};
  }
  return {name => $row->{stratum}, bars => \%bars, aim => {}};
}

1;
