#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# The manual page of the directives and variables, made of their page in docs/,
# so that there is one text of them.  Writes it to standard output.
#
#   debian/man-page.pl docs/directives.md
#
# It knows what that page is made of: headings, paragraphs, lists, fenced blocks
# and tables, of which each row becomes an entry.

use strict;
use warnings;

use open qw(:std :encoding(UTF-8));
use utf8;

my ($file) = @ARGV or die "usage: $0 docs/directives.md\n";

my %heading = (name => 'NAME', description => 'DESCRIPTION');
my $setting = '';
my $about = 'directives and variables of the refund\-notify module of nginx';

if ($file =~ /\.zh-CN\.md$/) {
    %heading = (name => '名称', description => '描述');

    # a line of Chinese has few places where it could be stretched

    $setting = ".ad l\n";
    $about = 'nginx 的 refund\-notify 模块的指令与变量';
}

open my $in, '<', $file or die "$file: $!\n";
my @lines = <$in>;
chomp @lines;

# the title, and the links to the other language and to README.md

splice @lines, 0, 4;

print ".\\\" made of $file\n",
      ".TH refund\\-notify 5 \"\" \"refund\\-notify\" \"nginx\"\n",
      ".SH $heading{name}\nrefund\\-notify \\- $about\n",
      ".SH $heading{description}\n$setting";

my ($fenced, @header, @paragraph);

for my $line (@lines, '') {

    if ($line =~ /^```/) {
        print $fenced ? ".fi\n.RE\n" : ".PP\n.RS 4\n.nf\n";
        $fenced = !$fenced;

    } elsif ($fenced) {
        print begun(escaped($line)), "\n";

    } elsif ($line =~ /^\|/) {
        row($line =~ /\G\|? *((?:\\\||[^|])*?) *\|(?=.|\z)/g);

    } elsif ($line =~ /^#+ (.*)/) {
        print '.SH ', text($1), "\n";

    } elsif ($line =~ /^- (.*)/) {
        flush_paragraph();
        print ".IP \\(bu 2\n";
        @paragraph = $1;

    } elsif ($line ne '') {
        print ".PP\n" if !@paragraph;
        push @paragraph, $line =~ s/^ +//r;

    } else {
        flush_paragraph();
        @header = ();
    }
}


# The first cell is what the row is about, the last what is to be said of it;
# those between are told with the name of their column.

sub row {
    my (@cells) = @_;

    if (!@header) {
        @header = @cells;
        return;
    }

    return if $cells[0] =~ /^-+$/;

    print ".TP\n", begun(text(shift @cells)), "\n";
    print begun(text(pop @cells)), "\n";

    for my $i (1 .. @cells) {
        my $cell = $cells[$i - 1];

        print ".br\n", text($header[$i]), ': ', text($cell), "\n"
            if $cell ne '';
    }

    return;
}


sub flush_paragraph {
    print begun(text("@paragraph")), "\n" if @paragraph;
    @paragraph = ();
    return;
}


sub text {
    my ($markdown) = @_;

    my $roff = '';

    $markdown =~ s/\[(.*?)\]\(.*?\)/$1/g;
    $markdown =~ s/\\\|/|/g;

    for my $part (split /(`[^`]+`|\*\*.+?\*\*)/, $markdown) {
        $roff .= $part =~ /^`(.*)`$/ || $part =~ /^\*\*(.*)\*\*$/
                 ? '\fB' . escaped($1) . '\fR'
                 : escaped($part);
    }

    return $roff;
}


sub escaped {
    my ($text) = @_;

    $text =~ s/\\/\\e/g;
    $text =~ s/-/\\-/g;
    return $text;
}


# A line that begins with one of these would be a request.

sub begun {
    my ($roff) = @_;

    return $roff =~ s/^(?=[.'])/\\&/r;
}
