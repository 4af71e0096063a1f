# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# The plots, one function each; a plot for which nothing was measured is not
# made.  Each takes what it shows from the summary, but for held memory over
# time, which comes from the samples.

package Plots;

use strict;
use warnings;
use utf8;

use File::Path ();
use List::Util qw(max min uniq);

sub draw_all {
  my ($results, $summary, $dir) = @_;
  my %figures = (
    throughput => Bars::throughput($summary),
    latency => latency($summary),
    'latency-one' => latency_one($summary),
    held => held($results),
    'connections-depth' => sweeps($summary),
    strata => Bars::strata($summary),
    scales($summary),
  );

  File::Path::make_path($dir, {error => \my $errors});
  die "$dir: " . (values %{$errors->[0]})[0] . "\n" if @$errors;
  for my $name (sort grep { $figures{$_} } keys %figures) {
    Gnuplot::draw($figures{$name}, "$dir/$name.svg");
  }
}

#----------------------------------------------------------------------
# Latency: y over percentiles on a scale of nines, 90 % is 1, 99 % is 2.

my @NINES = (50, 90, 99, 99.9, 99.99);

sub nines {
  my ($percent) = @_;
  return -log(1 - $percent / 100) / log(10);
}

sub latency {
  my ($summary) = @_;
  my @entries = grep {
    my $entry = $_;
    !$entry->{kind} && grep { curve_of($_) } values %{$entry->{servers}}
  } @{$summary->{latency}};
  my %wanted = map { $_ => 1 } qw(randread randwrite mixed);
  my @some = grep { $wanted{$_->{phase}} } @entries;
  # A short run may have had other phases alone.
  @some = grep { !Results::is_sweep($_->{phase}) } @entries unless @some;
  @some = @some[0 .. min(2, $#some)];
  return undef unless @some;

  my @servers = Results::in_order(\@Results::SERVERS,
    sort map { keys %{$_->{servers}} } @some);
  my $figure = Gnuplot::new_figure(
    title => 'Latency under load',
    subtitle => 'Lower is better; how many percent of the requests were'
      . ' answered within that time (median over the rounds)',
    width => max(700, 60 + 320 * @some), height => 430,
    nr_panels => scalar @some,
    legend => [Gnuplot::legend_of('line', @servers)],
  );
  my @range = us_range(map { values %{$_->{servers}} } @some);
  for my $entry (@some) {
    latency_panel($figure, $entry, \@servers, @range);
  }
  return $figure;
}

# [x, us] of a server in a phase; nothing if it has no percentiles.
sub curve_of {
  my ($values) = @_;
  return map { [nines($_->[0]), $_->[1]] }
    grep { $_->[0] >= 50 && $_->[0] < 100 && $_->[1] > 0 }
    @{$values->{percentiles_us}};
}

# Whole steps of 1, 2, 5, 10.
sub us_range {
  my @us = map { $_->[1] } map { curve_of($_) } @_;
  my ($low, $high) = (1e9, 1e-9);

  for my $power (-3 .. 9) {
    for my $step (1, 2, 5) {
      my $value = $step * 10**$power;
      $low = $value if $value <= min(@us);
      $high = $value if $value >= max(@us) && $high < max(@us);
    }
  }
  return ($low, $high);
}

# Ticks of 1, 2, 5, 10 us as people say them.
sub us_tics {
  my ($low, $high) = @_;
  my @steps = $high / $low > 1000 ? (1) : (1, 2, 5);
  my @values = grep { $_ >= 0.99 * $low && $_ <= 1.01 * $high }
    map { my $power = $_; map { $_ * 10**$power } @steps } -3 .. 9;
  return map { [$_, $_ >= 1e6 ? $_ / 1e6 . ' s'
    : $_ >= 1000 ? $_ / 1000 . ' ms' : "$_ us"] } @values;
}

sub latency_panel {
  my ($figure, $entry, $servers, $low, $high) = @_;
  my @plots;

  for my $nr (Gnuplot::drawing_order(@$servers)) {
    my $values = $entry->{servers}{$servers->[$nr]} // next;
    my $data = Gnuplot::add_data($figure, curve_of($values)) // next;
    push @plots, "$data using 1:2 with lines "
      . Gnuplot::line_style($nr, @$servers);
  }
  Gnuplot::add_panel($figure,
    Gnuplot::panel_title(Gnuplot::phase_title($entry->{phase})),
    'set logscale y', "set yrange [$low:$high]",
    sprintf('set xrange [%g:%g]', nines(50), nines(99.99)),
    Gnuplot::named_tics('x', map { [nines($_), $_] } @NINES),
    Gnuplot::named_tics('y', us_tics($low, $high)),
    'set grid xtics', Gnuplot::axis_label('x', '% of requests'),
    'plot ' . join(', ', @plots));
}

#----------------------------------------------------------------------
# One request at a time: for each server from the median to p99.9.

sub latency_one {
  my ($summary) = @_;
  my @entries = grep { $_->{phase} =~ /^lat/ && !$_->{kind} }
    @{$summary->{latency}};
  my @servers = Results::in_order(\@Results::SERVERS,
    sort map { keys %{$_->{servers}} } @entries);
  return undef unless grep { $_->{p50_us} }
    map { values %{$_->{servers}} } @entries;

  my $figure = Gnuplot::new_figure(
    title => 'Latency of one request at a time',
    subtitle => 'Lower is better; large dot and number: median, small dots:'
      . ' p99 and p99.9; shaded: as far from malloc as is aimed at',
    width => 40 + 480 * @entries, height => 150 + 32 * @servers,
    nr_panels => scalar @entries,
    space => {left => 92, right => 30, bottom => 40},
  );
  for my $entry (@entries) {
    latency_one_panel($figure, $entry, @servers);
  }
  return $figure;
}

sub latency_one_panel {
  my ($figure, $entry, @servers) = @_;
  my (@commands, @plots, @all);

  for my $s (0 .. $#servers) {
    my $values = $entry->{servers}{$servers[$s]} // next;
    my ($p50, @tail) = map { $_->{median} } grep { $_ && $_->{median} > 0 }
      @$values{qw(p50_us p99_us p999_us)};
    next unless defined $p50;
    my $y = $#servers - $s;
    my $colour = Gnuplot::quote(Gnuplot::colour_of($servers[$s], $s));
    push @all, $p50, @tail;
    push @commands,
      Gnuplot::label(Tables::us($p50), "first $p50, first $y",
        "center offset 0,0.75 font ',11'"),
      map { Gnuplot::label('', "first $_, first $y",
        "point pt 7 ps 0.45 lc rgb $colour") } @tail;
    push @plots,
      Gnuplot::add_data($figure, map { [$_, $y] } $p50, @tail)
      . " using 1:2 with lines lw 2 lc rgb $colour",
      Gnuplot::add_data($figure, [$p50, $y])
      . " using 1:2 with points pt 7 ps 1 lc rgb $colour";
  }
  return unless @plots;
  my ($low, $high) = (min(@all) / 1.35, max(@all) * 1.2);
  Gnuplot::add_panel($figure,
    Gnuplot::panel_title(Gnuplot::phase_title($entry->{phase})), @commands,
    aim_band($entry), 'set logscale x',
    sprintf('set xrange [%g:%g]', $low, $high),
    "set yrange [-0.6:$#servers.7]",
    Gnuplot::named_tics('y',
      map { [$#servers - $_, $servers[$_]] } 0 .. $#servers),
    'set ytics scale 0', Gnuplot::named_tics('x', us_tics($low, $high)),
    'set grid noytics xtics', 'plot ' . join(', ', @plots));
}

# Between malloc's median and the most that zmem is to take.
sub aim_band {
  my ($entry) = @_;
  my $spread = ($entry->{servers}{malloc} // {})->{p50_us};
  my ($aim) = grep { $_->{phase} eq $entry->{phase}
      && $_->{how} eq 'difference' } Aims::all();
  return () unless $spread && $aim;
  return sprintf 'set object rectangle from first %g, graph 0 to first %g,'
    . " graph 1 behind fs solid noborder fc rgb '#fbe3d3'",
    $spread->{median}, $spread->{median} + $aim->{most};
}

#----------------------------------------------------------------------
# Held memory over time.  Servers take different times for the same phase,
# so each phase is as wide for all: x is the phase and how much of it is done.

sub held {
  my ($results) = @_;
  my @samples = @{$results->{sample}};
  return undef unless @samples;
  my $round = min(map { $_->{round} } @samples);
  my @servers = Results::servers_of({sample =>
      [grep { $_->{round} == $round } @samples]}, 'sample');
  my %marks = map { $_ => [marks_of($results, $round, $_)] } @servers;
  my @phases = phases_of_marks(map { $marks{$_} } @servers);

  my %lines = map {
    my $server = $_;
    $server => [held_line($marks{$server}, \@phases,
      grep { $_->{round} == $round && $_->{server} eq $server } @samples)]
  } @servers;
  @servers = grep { @{$lines{$_}} } @servers;
  return @servers ? held_figure(\@phases, \%lines, @servers) : undef;
}

# [t, phase] of a server, in time; the second mark of a name is "name 2".
sub marks_of {
  my ($results, $round, $server) = @_;
  my %nr;
  return map { [$_->{t_s}, $nr{$_->{phase}}++
      ? "$_->{phase} $nr{$_->{phase}}" : $_->{phase}] }
    sort { $a->{t_s} <=> $b->{t_s} }
    grep { $_->{round} == $round && $_->{server} eq $server }
    @{$results->{mark}};
}

# All phases, in the order of the server that went through most of them.
sub phases_of_marks {
  my @by_length = sort { @$b <=> @$a } @_;
  return uniq map { $_->[1] } map { @$_ } @by_length;
}

# [x, MiB] of a server, and a row that gnuplot takes as a gap where it left a
# phase out; x is in seconds if nothing was marked.
sub held_line {
  my ($marks, $phases, @samples) = @_;
  my %number = map { $phases->[$_] => $_ } 0 .. $#$phases;
  my ($at, $previous, @rows) = (-1);

  @samples = sort { $a->{t_s} <=> $b->{t_s} } @samples;
  return map { [$_->{t_s}, $_->{held_mib}] } @samples unless @$phases;
  for my $sample (@samples) {
    $at++ while $at < $#$marks && $marks->[$at + 1][0] <= $sample->{t_s};
    next if $at < 0;
    my $begin = $marks->[$at][0];
    my $end = $at < $#$marks ? $marks->[$at + 1][0] : $samples[-1]{t_s};
    my $number = $number{$marks->[$at][1]};
    push @rows, [] if defined $previous && $number > $previous + 1;
    $previous = $number;
    push @rows, [$number
        + ($end > $begin ? ($sample->{t_s} - $begin) / ($end - $begin) : 0),
      $sample->{held_mib}];
  }
  return @rows;
}

sub held_figure {
  my ($phases, $lines, @servers) = @_;
  my %most = map { $_ => max(map { $_->[1] } grep { @$_ } @{$lines->{$_}}) }
    @servers;
  my ($top, @beyond) = held_top(\%most, @servers);
  my $figure = Gnuplot::new_figure(
    title => 'Memory held for the same data',
    subtitle => 'MiB, lower is better'
      . (@$phases ? '; within a phase, each server at its own pace' : '')
      . (@beyond ? '; off the scale: ' . join(', ',
        map { sprintf '%s (%.0f)', $_, $most{$_} } @beyond) : ''),
    width => 900, height => 420, nr_panels => 1,
    space => {right => 90, top => 20},
  );
  my (@plots, @ends);
  my %is_beyond = map { $_ => 1 } @beyond;
  for my $nr (Gnuplot::drawing_order(@servers)) {
    my $server = $servers[$nr];
    next if $is_beyond{$server};
    my @rows = @{$lines->{$server}};
    push @plots, Gnuplot::add_data($figure, @rows)
      . ' using 1:2 with lines ' . Gnuplot::line_style($nr, @servers);
    push @ends,
      [$server, Gnuplot::colour_of($server, $nr), @{$rows[-1]}];
  }
  Gnuplot::add_panel($figure, "set yrange [0:$top]",
    phase_marks(@$phases), Gnuplot::end_labels(0.055 * $top, @ends),
    'plot ' . join(', ', @plots));
  return $figure;
}

# What does not compress may be far above all others: then it is told, not
# drawn.  Returns the top of the axis and who is beyond it.
sub held_top {
  my ($most, @servers) = @_;
  my %plain = (malloc => 1, sparse => 1);
  my @packed = map { $most->{$_} } grep { !$plain{$_} } @servers;
  my $all = max(values %$most) || 1;

  return 1.08 * $all if !@packed || $all <= 1.6 * max(@packed);
  my $top = 1.4 * max(@packed) || 1;
  return ($top, grep { $most->{$_} > $top } @servers);
}

# Vertical lines, with the name of the phase that begins there.
sub phase_marks {
  my @phases = @_;
  return Gnuplot::axis_label('x', 'seconds') unless @phases;
  return (
    'set xrange [0:' . @phases . ']', "set format x ''",
    'set xtics 1 scale 0 nomirror',
    map {
      my $x = $_ + 0.5;
      (
        $_ ? "set arrow from first $_, graph 0 to first $_, graph 1 nohead"
          . " back lw 1.2 dt (4,4) lc rgb '#888888'" : (),
        Gnuplot::label($phases[$_], "first $x, graph 0",
          'center offset 0,-1.2'),
      )
    } 0 .. $#phases
  );
}

#----------------------------------------------------------------------
# Connections and depth.

sub sweeps {
  my ($summary) = @_;
  my @rows = grep { $_->{sweep} } @{$summary->{throughput}};
  my @servers = Results::in_order(\@Results::SERVERS,
    sort map { keys %{$_->{servers}} } @rows);
  my @panels;

  for my $of (Results::in_order(\@Results::PHASES, map { $_->{of} } @rows)) {
    for my $sweep (qw(c d)) {
      my @some = grep { $_->{of} eq $of && $_->{sweep} eq $sweep } @rows;
      push @panels, \@some if @some;
    }
  }
  return undef unless @panels;
  my $columns = min(2, scalar @panels);
  my $nr_rows = int((@panels + $columns - 1) / $columns);
  my $figure = Gnuplot::new_figure(
    title => 'Throughput by connections and depth',
    subtitle => 'ops/s, higher is better; median over the rounds, whiskers:'
      . ' smallest and largest',
    width => 40 + 490 * $columns, height => 90 + 300 * $nr_rows,
    columns => $columns, nr_panels => scalar @panels,
    legend => [Gnuplot::legend_of('line', @servers)],
  );
  my $top = 1.05 * (max(map { $_->{max} }
      map { values %{$_->{servers}} } @rows) || 1);
  sweep_panel($figure, $top, \@servers, @$_) for @panels;
  return $figure;
}

sub sweep_panel {
  my ($figure, $top, $servers, @rows) = @_;
  my @x = map { $_->{x} } @rows;
  my @plots;

  for my $nr (Gnuplot::drawing_order(@$servers)) {
    my $server = $servers->[$nr];
    my $data = Gnuplot::add_data($figure,
      map { [$_->{x}, @{$_->{servers}{$server}}{qw(median min max)}] }
      grep { $_->{servers}{$server} } @rows) // next;
    push @plots,
      "$data using 1:2 with linespoints pt 7 ps 0.5 "
      . Gnuplot::line_style($nr, @$servers),
      Gnuplot::whiskers($data, Gnuplot::colour_of($server, $nr));
  }
  Gnuplot::add_panel($figure,
    Gnuplot::panel_title(Gnuplot::phase_title($rows[0]{of})
      . ($rows[0]{sweep} eq 'c' ? ' by connections' : ' by depth')),
    'set logscale x 2', "set yrange [0:$top]", "set format y '%.0s%c'",
    sprintf('set xrange [%g:%g]', min(@x) / 1.15, max(@x) * 1.15),
    Gnuplot::named_tics('x', map { [$_, $_] } @x),
    Gnuplot::axis_label('x', $rows[0]{sweep} eq 'c' ? 'connections'
      : 'requests in flight on each connection'),
    'plot ' . join(', ', @plots));
}

#----------------------------------------------------------------------
# Scale: one plot a "what".  Axes that span decades are logarithmic.

sub scales {
  my ($summary) = @_;
  my (%figures, %nr);

  for my $scale (@{$summary->{scale}}) {
    my $what = lc($scale->{what}) =~ s/[^a-z0-9]+/-/gr =~ s/^-|-$//gr;
    my $name = 'scale-' . ($what eq '' ? 'other' : $what);
    $name .= "-$nr{$name}" if $nr{$name}++;
    $figures{$name} = scale($scale);
  }
  return %figures;
}

sub spans_decades {
  my @values = @_;
  return min(@values) > 0 && max(@values) >= 30 * min(@values);
}

# Those of a geometric row of sizes, too.
sub is_log_x {
  my ($x_name, @x) = @_;
  return 0 if $x_name =~ /%/ || $x[0] <= 0 || $x[-1] < 8 * $x[0];
  return !grep { $x[$_] < 1.5 * $x[$_ - 1] } 1 .. $#x;
}

# A panel a measure.
sub scale {
  my ($scale) = @_;
  my @measures = @{$scale->{measures}};
  my @names = Results::in_order(\@Results::SERVERS,
    map { $_->{name} } map { @{$_->{series}} } @measures);
  my @axes = map { axes_of($scale->{x_name}, $_) } @measures;
  my $columns = min(3, scalar @measures);
  my $nr_rows = int((@measures + $columns - 1) / $columns);
  my $width = @measures == 1 ? 680 : 20 + 330 * $columns;
  my $figure = Gnuplot::new_figure(
    title => 'Scale: ' . ($scale->{what} =~ tr/-_/  /r),
    subtitle => "By $scale->{x_name}"
      . ((grep { $_->{log_y} } @axes)
      ? '; dashed: growth in proportion to it' : ''),
    width => $width, height => 90 + (@measures == 1 ? 310 : 230) * $nr_rows,
    columns => $columns, nr_panels => scalar @measures,
    legend => [Gnuplot::legend_of('line', @names)],
    space => {bottom => 36},
  );
  scale_panel($figure, $measures[$_], $axes[$_], @names) for 0 .. $#measures;
  return $figure;
}

# {x => ascending, y => all, log_x, log_y}
sub axes_of {
  my ($x_name, $measure) = @_;
  my @points = map { @{$_->{points}} } @{$measure->{series}};
  my @x = uniq sort { $a <=> $b } map { $_->[0] } @points;
  my @y = map { @{$_->[1]}{qw(min max)} } @points;
  my $log_x = is_log_x($x_name, @x);

  return {
    x => \@x, y => \@y,
    log_x => $log_x, log_y => $log_x && spans_decades(@y),
  };
}

sub scale_panel {
  my ($figure, $measure, $axes, @names) = @_;
  my %points = map { $_->{name} => $_->{points} } @{$measure->{series}};
  my @x = @{$axes->{x}};
  my @y = @{$axes->{y}};
  my @plots = map { scale_plots($figure, $_, \%points, @names) }
    grep { $points{$names[$_]} } Gnuplot::drawing_order(@names);

  unshift @plots, linear_line($figure, \@x, grep { defined }
      @points{@names}) if $axes->{log_y};
  Gnuplot::add_panel($figure, Gnuplot::panel_title($measure->{y_name}),
    $axes->{log_x} ? log_range('x', 1.03, @x)
    : linear_range('x', 0.015 * ($x[-1] - $x[0] || 1), @x),
    $axes->{log_y} ? log_range('y', 1.6, @y)
    : sprintf('set yrange [%g:%g]', min(0, @y), 1.12 * max(@y, 0) || 1),
    max(@y) >= 10000 && min(@y, 1) >= 1
    ? "set format y '%.0s%c'" : "set format y '%g'",
    Gnuplot::named_tics('x', map { [$_, $_] }
        spaced($axes->{log_x}, @x)),
    'plot ' . join(', ', @plots));
}

sub log_range {
  my ($axis, $factor, @values) = @_;
  return ("set logscale $axis", sprintf "set ${axis}range [%.9g:%.9g]",
    min(@values) / $factor, max(@values) * $factor);
}

sub linear_range {
  my ($axis, $more, @values) = @_;
  return sprintf "set ${axis}range [%.9g:%.9g]", min(@values) - $more,
    max(@values) + $more;
}

# Those of ascending x that are far enough from each other for their names.
sub spaced {
  my ($log, @x) = @_;
  my @at = map { $log ? log $_ : $_ } @x;
  my $least = 0.09 * ($at[-1] - $at[0]);
  my @some = shift @x;
  my $last = shift @at;

  for my $i (0 .. $#x) {
    next if $at[$i] - $last < $least;
    $last = $at[$i];
    push @some, $x[$i];
  }
  return @some;
}

sub scale_plots {
  my ($figure, $nr, $points, @names) = @_;
  my $data = Gnuplot::add_data($figure, map { [$_->[0],
    @{$_->[1]}{qw(median min max)}] } @{$points->{$names[$nr]}});
  return ("$data using 1:2 with linespoints pt 7 ps 0.5 "
      . Gnuplot::line_style($nr, @names),
    Gnuplot::whiskers($data, Gnuplot::colour_of($names[$nr], $nr)));
}

# Through the first point of the first series.
sub linear_line {
  my ($figure, $x, @series) = @_;
  my $first = $series[0][0];
  my $factor = $first->[1]{median} / $first->[0];
  return Gnuplot::add_data($figure,
    map { [$_, $_ * $factor] } grep { $_ >= $first->[0] } @$x)
    . " using 1:2 with lines dt (4,4) lw 1.5 lc rgb '#888888'";
}

1;
