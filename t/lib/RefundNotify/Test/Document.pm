package RefundNotify::Test::Document;

# What the pages of the documentation are made of.
#
#   parts($markdown)      a hash: outline, the kinds of its headings, paragraphs,
#                         lists, blocks and tables, one after the other; blocks,
#                         each [ language, text ]; tables, of rows, of cells
#   spans(\@row)          what stands in backquotes in a row, sorted
#   pages()               the English pages, from the project's directory:
#                         README.md, CHANGELOG.md, SECURITY.md, those of bench/,
#                         examples/ and docs/
#   chinese($page)        the name of its counterpart

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();

our @EXPORT_OK = qw(parts spans pages chinese);

my $root = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../../..');


sub pages {
    return ('README.md', 'CHANGELOG.md', 'SECURITY.md', 'bench/README.md',
            'examples/README.md',
            map { s{^\Q$root/\E}{}r }
                grep { !/\.zh-CN\.md$/ } glob "$root/docs/*.md");
}


sub chinese {
    my ($page) = @_;

    return $page =~ s/\.md$/.zh-CN.md/r;
}


sub parts {
    my ($text) = @_;

    my %parts = (outline => [], blocks => [], tables => []);
    my ($last, $block) = ('');

    for my $line (split /\n/, $text) {

        if ($line =~ /^```(\w*)/) {
            $block = $block ? undef : [ $1, '' ];
            push @{ $parts{blocks} }, $block if $block;
            push @{ $parts{outline} }, "block $1" if $block;
            $last = '';
            next;
        }

        if ($block) {
            $block->[1] .= "$line\n";
            next;
        }

        my ($mark) = $line =~ /^(#+|-|\d+\.) /;
        my $kind = $line eq '' ? ''
                   : $line =~ /^\|/ ? 'table'
                   : $mark ? "mark $mark"
                   : $last =~ /^(?:mark [-\d]|text)/ ? $last : 'text';

        if ($kind eq 'table') {
            push @{ $parts{tables} }, [] if $last ne 'table';
            push @{ $parts{tables}[-1] },
                 [ $line =~ /\G\|? *((?:\\\||[^|])*?) *\|(?=.|\z)/g ];
        }

        push @{ $parts{outline} }, $kind
            if $kind ne '' && ($mark || $kind ne $last);
        $last = $kind;
    }

    return \%parts;
}


sub spans {
    my ($row) = @_;

    return [ sort "@$row" =~ /`([^`]+)`/g ];
}


1;
