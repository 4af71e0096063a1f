#!/usr/bin/env perl
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# A results file of the benchmark as tables, JSON and plots.
#
#   report.pl [--json FILE] [--text FILE] [--plots DIR] [--markdown]
#             results.jsonl
#
#   --json FILE   medians, spreads, ratios and verdicts as one document
#   --text FILE   the tables there, too
#   --plots DIR   SVG files, made with gnuplot
#   --markdown    the tables as GitHub's markdown
#
# What is in the file is told, and nothing else: a short run gives fewer
# tables, rows and plots.  report-results.pm says what a line may be,
# report-aims.pm what is aimed at.
#
# Exit status: 0; 1 if something could not be read, written or drawn; 2 for
# wrong arguments.  Without gnuplot there are no plots, which is an error only
# if nothing besides them was asked for.

use strict;
use warnings;
use utf8;

use FindBin qw($Bin);
use Getopt::Long qw(GetOptionsFromArray);

for my $part (qw(results aims summary tables layout gnuplot bars plots)) {
  require "$Bin/report-$part.pm";
}

my $USAGE = "usage: report.pl [--json FILE] [--text FILE] [--plots DIR]"
  . " [--markdown] results.jsonl\n";

sub parse_arguments {
  my %wanted;

  local $SIG{__WARN__} = sub { print STDERR "report.pl: $_[0]" };
  GetOptionsFromArray(\@_, \%wanted, 'json=s', 'text=s', 'plots=s',
    'markdown', 'help|h')
    or exit 2;
  if ($wanted{help}) {
    print $USAGE;
    exit 0;
  }
  if (@_ != 1) {
    print STDERR 'report.pl: ', @_ ? "one results file, not " . @_
      : 'no results file was named', "\n", $USAGE;
    exit 2;
  }
  $wanted{results} = $_[0];
  return \%wanted;
}

sub write_file {
  my ($path, $layer, $text) = @_;

  open my $file, ">$layer", $path or die "$path: $!\n";
  print $file $text or die "$path: $!\n";
  close $file or die "$path: $!\n";
}

sub make_report {
  my ($wanted) = @_;
  my $results = Results::read_file($wanted->{results});
  my $summary = Summary::of_results($results);
  my $text = $wanted->{markdown} ? Layout::to_markdown($summary)
    : Layout::to_text($summary);

  print $text or die "standard output: $!\n";
  write_file($wanted->{text}, ':utf8', $text) if defined $wanted->{text};
  write_file($wanted->{json}, ':raw', Summary::to_json($summary))
    if defined $wanted->{json};
  return 1 unless defined $wanted->{plots};
  if (!Gnuplot::is_there()) {
    warn "no plots: there is no gnuplot (Debian: gnuplot-nox)\n";
    return defined $wanted->{json} || defined $wanted->{text}
      || $wanted->{markdown};
  }
  Plots::draw_all($results, $summary, $wanted->{plots});
  return 1;
}

binmode STDOUT, ':utf8';
binmode STDERR, ':utf8';
# So that temporary files go, too.
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
$SIG{__WARN__} = sub { print STDERR "report.pl: $_[0]" };

my $wanted = parse_arguments(@ARGV);
my $done = eval { make_report($wanted) };
if ($@) {
  print STDERR "report.pl: $@";
  exit 1;
}
exit($done ? 0 : 1);
