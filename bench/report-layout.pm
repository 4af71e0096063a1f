# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# How the report looks: the head of the run and the tables, for a terminal of
# 100 columns or as GitHub's markdown.  report-tables.pm says what a table is.

package Layout;

use strict;
use warnings;

use List::Util qw(max sum0);
use Text::Wrap ();

my $WIDTH = 100;

#----------------------------------------------------------------------
# The head: what ran, where and when.

my @HEAD = qw(date command machine kernel versions corpus mode rounds seconds);
my @VERSIONS = qw(zmem nbdkit libnbd lz4 zstd);

# [name, value]
sub head {
  my ($run) = @_;
  my %of = %$run;
  my @there = grep { defined $of{$_} } @VERSIONS;

  delete $of{type};
  $of{versions} = join ', ', map { "$_ $of{$_}" } @there if @there;
  delete @of{@VERSIONS};
  return map { [$_, $of{$_}] }
    grep { defined $of{$_} && !ref $of{$_} }
    Results::in_order(\@HEAD, sort keys %of);
}

#----------------------------------------------------------------------
# For a terminal.

sub to_text {
  my ($summary) = @_;
  my @parts = map { text_table($_) } Tables::of_summary($summary);
  my $head = text_head($summary->{run});

  unshift @parts, $head if $head ne '';
  return join "\n", @parts;
}

sub text_head {
  my ($run) = @_;
  my $text = '';

  local $Text::Wrap::columns = $WIDTH;
  local $Text::Wrap::huge = 'overflow';
  local $Text::Wrap::unexpand = 0;
  for my $line (head($run)) {
    $text .= Text::Wrap::wrap(sprintf('%-9s ', $line->[0]), ' ' x 10,
      $line->[1]) . "\n";
  }
  return $text;
}

sub text_table {
  my ($table) = @_;
  local $Text::Wrap::columns = $WIDTH;
  local $Text::Wrap::unexpand = 0;
  my $text = "$table->{title}\n";

  $text .= Text::Wrap::wrap('', '', $_) . "\n" for @{$table->{notes} // []};
  return $text . join "\n", map { text_block($table, @$_) } blocks($table);
}

# How many of the first columns name a row.
sub nr_names {
  my ($table) = @_;
  return ($table->{align} // 'l') =~ /^(l+)r+$/ ? length $1 : 1;
}

sub cell_text {
  my ($cell) = @_;
  return $cell // '-';
}

sub column_width {
  my ($table, $i) = @_;
  return max map { length } $table->{columns}[$i],
    map { cell_text($_->[$i]) } @{$table->{rows}};
}

sub table_width {
  my ($table, $gap, @columns) = @_;
  return sum0(map { $gap + column_width($table, $_) } @columns) - $gap;
}

# The columns that fit side by side, and the gap between them: a narrow one
# if that makes them all fit.  If it does not, the names are repeated below.
sub blocks {
  my ($table) = @_;
  my @all = 0 .. $#{$table->{columns}};
  my $nr_names = nr_names($table);
  my @names = @all[0 .. $nr_names - 1];

  for my $gap (2, 1) {
    return ([$gap, @all]) if table_width($table, $gap, @all) <= $WIDTH;
  }
  my @blocks = ([2, @names]);
  for my $i (@all[$nr_names .. $#all]) {
    my (undef, @columns) = @{$blocks[-1]};
    push @blocks, [2, @names]
      if @columns > $nr_names
      && table_width($table, 2, @columns, $i) > $WIDTH;
    push @{$blocks[-1]}, $i;
  }
  return @blocks;
}

sub text_block {
  my ($table, $gap, @columns) = @_;
  my @align = split //, $table->{align} // 'l';
  my $text = '';

  for my $row ($table->{columns}, undef, @{$table->{rows}}) {
    my @cells = map {
      my $width = column_width($table, $_);
      my $cell = $row ? cell_text($row->[$_]) : '-' x $width;
      ($align[$_] // 'r') eq 'l'
        ? sprintf('%-*s', $width, $cell)
        : sprintf('%*s', $width, $cell);
    } @columns;
    $text .= join(" " x $gap, @cells) =~ s/ +$//r . "\n";
  }
  return $text;
}

#----------------------------------------------------------------------
# As markdown.

sub to_markdown {
  my ($summary) = @_;
  my @parts = map { markdown_table($_) } Tables::of_summary($summary);
  my @head = map { [$_->[0], $_->[1]] } head($summary->{run});

  unshift @parts, markdown_rows(['', ''], 'll', @head) if @head;
  return join "\n", @parts;
}

sub markdown_table {
  my ($table) = @_;
  my $text = '### ' . markdown_cell($table->{title}) . "\n\n";

  $text .= markdown_cell($_) . "\n\n" for @{$table->{notes} // []};
  return $text
    . markdown_rows($table->{columns}, $table->{align} // 'l',
    @{$table->{rows}});
}

sub markdown_rows {
  my ($columns, $align, @rows) = @_;
  my @align = split //, $align;
  my @rule = map { ($align[$_] // 'r') eq 'l' ? '---' : '---:' }
    0 .. $#$columns;

  return join '', map { '| ' . join(' | ', @$_) . " |\n" }
    [map { markdown_cell($_) } @$columns], \@rule,
    map { [map { markdown_cell($_ // '-') } @$_] } @rows;
}

sub markdown_cell {
  my ($text) = @_;
  $text =~ s/&/&amp;/g;
  $text =~ s/</&lt;/g;
  $text =~ s/([\\|*_~`\[\]])/\\$1/g;
  return $text;
}

1;
