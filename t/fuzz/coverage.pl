#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
#   t/fuzz/coverage.pl build/fuzz-coverage target ...
#
# Runs the targets over t/fuzz/corpus and says of each file of src/wechatpay how
# many of its lines they reach; and names each line that none of them does,
# unless t/fuzz/unreached explains it.  Fails if there is one, or if an
# explanation is of no line.

use strict;
use warnings;

my ($dir, @targets) = @ARGV;
my (%reached, %unused);
my $failed = 0;

my @explained = explained('t/fuzz/unreached');

for my $target (@targets) {
    local $ENV{LLVM_PROFILE_FILE} = "$dir/$target.profraw";
    run("$dir/fuzz_$target -runs=0 t/fuzz/corpus/$target"
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
    my $lines = $reached{$file};
    my @text = read_lines($file);
    my @missed = grep { !$lines->{$_} } sort { $a <=> $b } keys %$lines;
    my @unexplained = grep { !explanation($file, $_, \@text, $lines) } @missed;

    printf "%-40s %4d lines, %3d not reached, %3d not explained\n", $file,
           scalar keys %$lines, scalar @missed, scalar @unexplained;

    printf "    %4d  %s\n", $_, $text[$_ - 1] for @unexplained;
    $failed ||= @unexplained;
}

print "\nnot reached, and why:\n" if @explained;

for (@explained) {
    printf "%4d  %s: %s\n      %s\n", @$_{qw(used file pattern reason)};

    if (!$_->{used}) {
        print "      NO SUCH LINE\n";
        $failed = 1;
    }
}

print 'fuzz-coverage: ', $failed ? 'FAILED' : 'passed', "\n";
exit($failed ? 1 : 0);


# An explanation is of the lines that its pattern matches, and of those around
# them that are not reached either: a branch is named by one line of it.

sub explanation {
    my ($name, $line, $text, $lines) = @_;

    for my $step (-1, 1) {
        for (my $i = $line; exists $lines->{$i} && !$lines->{$i}; $i += $step) {
            for my $entry (@explained) {
                if ($name =~ /$entry->{file}/
                    && $text->[$i - 1] =~ /$entry->{pattern}/)
                {
                    $entry->{used}++;
                    return 1;
                }
            }
        }
    }

    return 0;
}


# Of three lines each, with an empty one between two: files, lines, and why.

sub explained {
    my ($path) = @_;

    my $text = join "\n", grep { !/^#/ } read_lines($path);

    $text =~ s/^\n+//;

    return map {
        my ($file, $pattern, $reason) = split /\n\s*/, $_, 3;
        { file => qr/$file/, pattern => qr/$pattern/, used => 0,
          reason => $reason =~ s/\s+/ /gr };
    } grep { /\S/ } split /\n\n+/, $text;
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
