#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
#   t/fuzz/coverage.pl build/fuzz-coverage target ...
#
# Runs the targets over t/fuzz/corpus and says of each file of src/wechatpay how
# many of its lines they reach.  t/fuzz/unreached says of each function how many
# of its lines they do not, and why; where that is another number, up or down,
# the lines are named and it fails.

use strict;
use warnings;

my ($dir, @targets) = @ARGV;
my (%reached, %functions);
my $failed = 0;

for my $target (@targets) {
    local $ENV{LLVM_PROFILE_FILE} = "$dir/$target.profraw";
    my $inputs = join ' ', grep { -d } map { "t/fuzz/$_/$target" }
                                          qw(corpus seeds);

    run("$dir/fuzz_$target -runs=0 $inputs"
        . " >$dir/$target.log 2>&1");
}

run("llvm-profdata merge -o $dir/profile "
    . join ' ', map { "$dir/$_.profraw" } @targets);

my $file;

for (split /\n/, run("llvm-cov export -format=lcov -instr-profile=$dir/profile "
                     . join ' -object ', map { "$dir/fuzz_$_" } @targets))
{
    if (/^SF:.*?(src\/wechatpay\/.*)/) {
        $file = $1;

    } elsif (/^SF:/) {
        $file = undef;

    } elsif ($file && /^DA:(\d+),(\d+)/) {
        $reached{$file}{$1} += $2;
    }
}

%reached or die "no line of src/wechatpay in the profile\n";

for $file (sort keys %reached) {
    my @text = read_lines($file);
    my ($function, $all, $missed) = ('', 0, 0);

    # a brace is where its branch is, and counted otherwise by another clang; a
    # macro where it is used, and where it is defined, too

    for my $n (grep { $text[$_ - 1] =~ /^[^#]*\w/ } 1 .. @text) {
        $function = $1 if $text[$n - 1] =~ /^(\w+)\(/;

        next if !defined $reached{$file}{$n};

        $all++;
        next if $reached{$file}{$n};

        $missed++;
        push @{ $functions{"$file $function"}{missed} }, $n;
        $functions{"$file $function"}{text} = \@text;
    }

    printf "%-40s %4d lines, %3d not reached\n", $file, $all, $missed;
}

my @reasons = explained('t/fuzz/unreached');

for my $name (sort keys %functions) {
    my ($missed, $text) = @{ $functions{$name} }{qw(missed text)};
    my $explained = $functions{$name}{explained} // 0;

    next if $explained == @{ $missed // [] };

    $failed = 1;

    printf "\n%s %d: t/fuzz/unreached explains %d\n", $name,
           scalar @{ $missed // [] }, $explained;
    printf "    %4d  %s\n", $_, $text->[$_ - 1] for @{ $missed // [] };
}

print "\nnot reached, and why:\n";
printf "%4d  %s\n", @$_ for @reasons;

print 'fuzz-coverage: ', $failed ? 'FAILED' : 'passed', "\n";
exit($failed ? 1 : 0);


# Functions, "file function lines" each, and behind them, indented, why; the
# numbers of a function that stands there more than once add up.

sub explained {
    my ($path) = @_;

    my @reasons;

    for (grep { !/^#/ } read_lines($path)) {
        if (/^(\S+) (\w+) (\d+)$/) {
            push @reasons, [ 0, '' ] if !@reasons || $reasons[-1][1];
            $reasons[-1][0] += $3;
            $functions{"src/wechatpay/$1 $2"}{explained} += $3;

        } elsif (/^ +(.+)/) {
            $reasons[-1][1] .= ($reasons[-1][1] ? ' ' : '') . $1;

        } elsif (length) {
            die "$path: $_\n";
        }
    }

    return @reasons;
}


sub read_lines {
    my ($path) = @_;

    open my $fh, '<', $path or die "$path: $!\n";
    chomp(my @lines = <$fh>);
    return @lines;
}


sub run {
    my ($command) = @_;

    my $output = qx($command);
    $? == 0 or die "$command: failed\n";
    return $output;
}
