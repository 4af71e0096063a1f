# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What all plots share: colours, the figure with its title and legend, and
# gnuplot itself.  A figure is a row or a grid of panels; a panel is the
# gnuplot commands that draw it into the box that the figure gives it.
#
# Sizes are pixels of the SVG file, from its upper left corner.

package Gnuplot;

use strict;
use warnings;
use utf8;

use File::Copy ();
use File::Temp ();

# Okabe and Ito's colours, which colour-blind people tell apart; a server has
# the same one in every plot, and zmem the one that stands out.
my %COLOUR = (
  'malloc' => '#4d4d4d',
  'sparse' => '#a6a6a6',
  'zstd' => '#0072b2',
  'zram' => '#009e73',
  'null' => '#cc79a7',
  'zmem' => '#d55e00',
  'zmem-zstd' => '#e69f00',
  'bare' => '#56b4e9',
  'bare-zstd' => '#882255',
);
my @OTHER_COLOURS = ('#332288', '#117733', '#999933');

my $TITLE_PX = 52;              # title and subtitle
my $LEGEND_PX = 24;             # a row of it
my $MARK_PX = 34;               # a legend's line

sub is_there {
  return !!grep { -x "$_/gnuplot" && -f _ } split /:/, $ENV{PATH} // '';
}

# A series is a server, or begins with one: "zmem read".
sub server_of {
  my ($series) = @_;
  my ($first) = split / /, $series;
  return $COLOUR{$first} ? $first : $series;
}

sub colour_of {
  my ($series, $nr) = @_;
  return $COLOUR{server_of($series)}
    // $OTHER_COLOURS[($nr // 0) % @OTHER_COLOURS];
}

# Lines of one server differ by their dashes: of each series how many before
# it are of the same server.
my @DASHES = ('1', '(8,4)', '(2,3)', '(8,3,2,3)');

sub dash_of {
  my ($nr, @series) = @_;
  my $server = server_of($series[$nr]);
  my $before = grep { server_of($_) eq $server } @series[0 .. $nr - 1];
  return $DASHES[$before % @DASHES];
}

# How line NR of these series looks: zmem's is thicker.
sub line_style {
  my ($nr, @series) = @_;
  return 'lc rgb ' . quote(colour_of($series[$nr], $nr))
    . ' lw ' . (server_of($series[$nr]) eq 'zmem' ? 3 : 2)
    . ' dt ' . dash_of($nr, @series);
}

# Numbers of these series in the order of drawing: zmem over all others.
sub drawing_order {
  my @series = @_;
  my @is_zmem = map { server_of($_) eq 'zmem' ? 1 : 0 } @series;
  return sort { $is_zmem[$a] <=> $is_zmem[$b] || $a <=> $b } 0 .. $#series;
}

# For a legend: what a server is, where its name alone does not tell.
my %LONG_NAME = (
  'zstd' => 'nbdkit zstd', 'null' => 'null (protocol)',
  'bare' => 'bare lz4', 'bare-zstd' => 'bare zstd',
  'zmem' => 'zmem, lz4', 'zmem-zstd' => 'zmem, zstd',
);

# Legend entries of these series: shape is box or line.
sub legend_of {
  my ($shape, @names) = @_;
  return map {
    [$LONG_NAME{$names[$_]} // $names[$_], colour_of($names[$_], $_), $shape,
      dash_of($_, @names)]
  } 0 .. $#names;
}

sub quote {
  my ($text) = @_;
  $text =~ s/'/''/g;
  return "'$text'";
}

#----------------------------------------------------------------------
# Figures.

# new_figure: width, height, title, subtitle, legend => [[name, colour, box
# or line, dashes]], columns, nr_panels, space => {left and so on}.
sub new_figure {
  my (%figure) = @_;
  place_legend(\%figure);
  $figure{top} = $TITLE_PX + 6 + $LEGEND_PX * $figure{nr_legend_rows};
  $figure{columns} //= $figure{nr_panels};
  $figure{panels} = [];
  $figure{data} = '';
  $figure{nr_data} = 0;
  return \%figure;
}

# add_data FIGURE, ROWS: the name of a data block with these rows.  Returns
# undef for no rows, which gnuplot would not plot.
sub add_data {
  my ($figure, @rows) = @_;
  return undef unless @rows;
  my $name = '$data' . $figure->{nr_data}++;
  $figure->{data} .= "$name << end_of_data\n"
    . join('', map { join(' ', @$_) . "\n" } @rows) . "end_of_data\n";
  return $name;
}

# Each panel begins with nothing set by the one before.
sub add_panel {
  my ($figure, @commands) = @_;
  push @{$figure->{panels}}, join '', map { "$_\n" } @commands;
}

sub at_px {
  my ($figure, $x, $y) = @_;
  return sprintf 'screen %.5f, screen %.5f', $x / $figure->{width},
    1 - $y / $figure->{height};
}

# The box of the axes: left, right, top and bottom of panel NR.
my %SPACE = (left => 68, right => 24, top => 34, bottom => 54);

sub panel_margins {
  my ($figure, $nr) = @_;
  my %space = (%SPACE, %{$figure->{space} // {}});
  my $columns = $figure->{columns};
  my $nr_rows = int(($figure->{nr_panels} + $columns - 1) / $columns);
  my $width = $figure->{width} / $columns;
  my $height = ($figure->{height} - $figure->{top}) / $nr_rows;
  my $x = $width * ($nr % $columns);
  my $y = $figure->{top} + $height * int($nr / $columns);

  return map { sprintf "set %smargin at screen %.5f\n", @$_ }
    ['l', ($x + $space{left}) / $figure->{width}],
    ['r', ($x + $width - $space{right}) / $figure->{width}],
    ['t', 1 - ($y + $space{top}) / $figure->{height}],
    ['b', 1 - ($y + $height - $space{bottom}) / $figure->{height}];
}

sub head_commands {
  my ($figure) = @_;
  my $text = 'set label 1001 ' . quote($figure->{title}) . ' at '
    . at_px($figure, 16, 22) . " left font ',17'\n";

  $text .= 'set label 1002 ' . quote($figure->{subtitle}) . ' at '
    . at_px($figure, 16, 44) . " left font ',12' tc rgb '#555555'\n"
    if defined $figure->{subtitle};
  return $text . legend_commands($figure);
}

# About what the terminal's font takes.
sub text_px {
  my ($text) = @_;
  my $narrow = $text =~ tr/fijlrt.,:;()| //;
  my $wide = $text =~ tr/mwMW//;
  return 7.9 * length($text) - 3.2 * $narrow + 3.5 * $wide;
}

# Notes with each entry its place [left, right of the mark, row].
sub place_legend {
  my ($figure) = @_;
  my ($x, $row) = (16, 0);

  for my $entry (@{$figure->{legend} // []}) {
    my $mark = $entry->[2] eq 'box' ? 18 : $MARK_PX;
    my $width = $mark + 6 + text_px($entry->[0]);
    ($x, $row) = (16, $row + 1) if $x > 16 && $x + $width > $figure->{width};
    push @{$figure->{places}}, [$x, $x + $mark, $row];
    $x += $width + 20;
  }
  $figure->{nr_legend_rows} = $x > 16 ? $row + 1 : 0;
}

# (The widths differ since gnuplot's SVG has one dash pattern for all arrows of
# one width and colour.)
sub legend_commands {
  my ($figure) = @_;
  my ($nr, $text) = (1100, '');

  for my $i (0 .. $#{$figure->{legend} // []}) {
    my ($name, $colour, $shape, $dash) = @{$figure->{legend}[$i]};
    my ($x, $right, $row) = @{$figure->{places}[$i]};
    my $y = $TITLE_PX + 15 + $LEGEND_PX * $row;
    $nr++;
    $text .= $shape eq 'box'
      ? sprintf("set object %d rectangle from %s to %s fs solid noborder"
        . " fc rgb '%s' front\n", $nr, at_px($figure, $x, $y - 6),
      at_px($figure, $right, $y + 6), $colour)
      : sprintf("set arrow %d from %s to %s nohead back lw %g dt %s"
        . " lc rgb '%s'\n", $nr, at_px($figure, $x, $y),
      at_px($figure, $right, $y), 2.5 + 0.01 * $i, $dash // 1, $colour);
    $text .= "set label $nr " . quote($name) . ' at '
      . at_px($figure, $right + 6, $y) . " left\n";
  }
  return $text;
}

my $PANEL_START = <<'END';
unset logscale
unset xtics
unset ytics
set xrange [*:*] noextend
set yrange [*:*]
unset xlabel
unset ylabel
unset title
set format
set border 3 lc rgb '#777777'
set xtics nomirror out scale 0.5 offset 0,0.3 textcolor rgb '#222222'
set ytics nomirror out scale 0.5 offset 0.5,0 textcolor rgb '#222222'
set grid ytics noxtics lt 1 lw 1 lc rgb '#e3e3e3'
set boxwidth
set style fill solid noborder
END

my $PANEL_END = <<'END';
unset label
unset object
unset arrow
END

sub script_of {
  my ($figure, $output) = @_;
  my $text = "set terminal svg size $figure->{width},$figure->{height}"
    . " background '#ffffff' font 'sans-serif,13' noenhanced\n"
    . "set encoding utf8\nset output " . quote($output) . "\n"
    . "unset key\n$figure->{data}set multiplot\n" . head_commands($figure);

  for my $nr (0 .. $#{$figure->{panels}}) {
    $text .= $PANEL_START . join('', panel_margins($figure, $nr))
      . $figure->{panels}[$nr] . $PANEL_END;
  }
  return $text . "unset multiplot\nunset output\n";
}

# Draw it to PATH, which appears only when it is whole.
sub draw {
  my ($figure, $path) = @_;
  my $dir = File::Temp->newdir('zmem-report.XXXXXX', TMPDIR => 1);
  my ($script, $svg, $errors) = map { "$dir/$_" } qw(script svg errors);

  open my $file, '>:utf8', $script or die "$script: $!\n";
  print $file script_of($figure, $svg);
  close $file or die "$script: $!\n";
  my $status = system 'sh', '-c', 'exec gnuplot "$1" 2>"$2"', 'sh', $script,
    $errors;
  if ($status != 0 || !-s $svg) {
    open my $said, '<', $errors or die "$errors: $!\n";
    my @lines = grep { /\S/ } <$said>;
    die "$path: gnuplot failed: " . ($lines[-1] // "status $status\n");
  }
  File::Copy::move($svg, $path) or die "$path: $!\n";
}

#----------------------------------------------------------------------
# Commands that several plots use.

my %PHASE_TITLE = (
  fill => 'fill', fill256 => 'fill, 256K', randread => 'random read',
  randwrite => 'random overwrite', mixed => 'mixed, 70% reads',
  part => 'parts of blocks', swap => 'swap-like',
  seqread256 => 'read, 256K', seqwrite256 => 'write, 256K',
  'randwrite-compact' => 'overwrite, compacting',
  trimhalf => 'trim a half',
  latread => 'reads', latwrite => 'writes',
);

sub phase_title {
  my ($phase) = @_;
  return $PHASE_TITLE{$phase} // $phase;
}

sub panel_title {
  my ($text) = @_;
  return 'set title ' . quote($text) . " font ',14' offset 0,-0.3";
}

sub axis_label {
  my ($axis, $text) = @_;
  return "set ${axis}label " . quote($text)
    . " offset 0,0.5 tc rgb '#444444'";
}

# [position, text]...  The text is a format, as printf's.
sub named_tics {
  my ($axis, @tics) = @_;
  return "set ${axis}tics nomirror out ("
    . join(', ', map { quote($_->[1] =~ s/%/%%/gr) . " $_->[0]" } @tics)
    . ')';
}

# From smallest to largest, columns 3 and 4.  (Error bars need a point, and
# one of size 0 is no valid SVG for all readers.)
sub whiskers {
  my ($data, $colour) = @_;
  return "$data using 1:3:(0):(\$4-\$3) with vectors nohead lw 1.2"
    . " lc rgb '$colour'";
}

sub label {
  my ($text, $where, $more) = @_;
  return 'set label ' . quote($text) . " at $where front " . ($more // '');
}

# Names at the ends of lines: [name, colour, x, y], moved up where they would
# be nearer to each other than GAP of y.
sub end_labels {
  my ($gap, @ends) = @_;
  my ($least, @labels);

  for my $end (sort { $a->[3] <=> $b->[3] } @ends) {
    my ($name, $colour, $x, $y) = @$end;
    $y = $least if defined $least && $y < $least;
    $least = $y + $gap;
    push @labels, label($name, "first $x, first $y",
      "left offset 0.8,0 tc rgb '$colour'");
  }
  return @labels;
}

1;
