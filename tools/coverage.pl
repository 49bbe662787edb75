#!/usr/bin/perl
#
# Copyright (C) the refund-notify authors
#
# Prints what of the source the tests reached, and names what they did not:
#
#   tools/coverage.pl coverage.json unreached.txt
#
# coverage.json is gcovr's.  unreached.txt says why a line does not go each way
# that it could, or those behind it are not reached: a reason at the beginning of
# a line, and below it, indented, the places that it explains, each as
#
#   file function: the line, which is reached
#
# with " #2" behind it, and so on, for the next of a function that are alike; or
# as /pattern/, for all lines that match and are followed by none that is not
# reached.
#
# A reason that begins with "sometimes" is of places that hang on the time.
#
# Exits with 1 where too little was reached, where a line or a branch was not and
# is not explained, and where a place that is explained is not there or was
# reached.

use strict;
use warnings;

use JSON::XS ();

my %least = (line => 95, branch => 85);
my %called = (line => 'of the lines', branch => 'of the branches');

my ($json, $list) = @ARGV;

die "usage: tools/coverage.pl coverage.json unreached.txt\n" if !defined $list;

my @files = grep { grep { counts($_) } @{ $_->{lines} } }
            @{ JSON::XS::decode_json(contents($json))->{files} };
my $explained = read_list($list);
my (%all, %found, @problems);

printf "%-17s%-18s\n", 'lines', 'branches';

for my $file (@files) {
    my %sum;

    for my $line (grep { counts($_) } @{ $file->{lines} }) {
        add(\%sum, 'line', $line->{count});
        add(\%sum, 'branch', $_->{count}) for @{ $line->{branches} };
    }

    $all{$_} += $sum{$_} for keys %sum;
    print figures(\%sum), "$file->{file}\n";
}

print figures(\%all), "in all\n";

for my $file (@files) {
    for my $place (unreached($file)) {
        my ($key) = grep { defined $explained->{$_} }
                         $place->{key}, $place->{lines} ? () : pattern($place);

        push @problems, "$place->{key}: not reached, and not explained"
            if !defined $key;

        $found{$key} = 1 if defined $key;

        printf "%s:%s %s%s\n", $file->{file},
               $place->{lines} // "$place->{branches} branches",
               $place->{function},
               defined $key ? ": $explained->{$key}" : '';
    }
}

push @problems, map { "$_: explained, and not there or reached" }
                grep { !$found{$_} && $explained->{$_} !~ /^sometimes/ }
                sort keys %$explained;

for my $what (sort keys %least) {
    push @problems, "less than $least{$what} % $called{$what}"
        if percent(\%all, $what) < $least{$what};
}

print "coverage: $_\n" for @problems;
print 'coverage: ', (@problems ? 'FAILED' : 'passed'), "\n";
exit(@problems ? 1 : 0);


sub counts {
    my ($line) = @_;

    return !$line->{'gcovr/noncode'};
}


sub add {
    my ($sum, $what, $count) = @_;

    $sum->{$what}++;
    $sum->{"$what reached"} += $count ? 1 : 0;
    return;
}


sub percent {
    my ($sum, $what) = @_;

    return 100 * ($sum->{"$what reached"} // 0) / ($sum->{$what} || 1);
}


sub figures {
    my ($sum) = @_;

    return join '', map {
        $sum->{$_} ? sprintf '%5.1f %% %-11s', percent($sum, $_),
                             "$sum->{\"$_ reached\"}/$sum->{$_}"
                   : ' ' x 19
    } qw(line branch);
}


sub pattern {
    my ($place) = @_;

    return grep { m{^/(.*)/$} && $place->{text} =~ $1 } keys %$explained;
}


# The lines that do not go each way, and those that follow one another without
# one that is reached between them: one place, where the former lead to the
# latter.

sub unreached {
    my ($file) = @_;

    my @source = split /\n/, contents($file->{file});
    my ($function, @places, $before, $open) = ('');
    my %line = map { $_->{line_number} => $_ }
               grep { counts($_) } @{ $file->{lines} };

    for my $number (1 .. @source) {
        my $text = $source[$number - 1] =~ s/^\s+|\s+$//gr;

        if ($source[$number - 1] =~ /^(\w+)\(/) {
            ($function, $before, $open) = ($1, 'not called', undef);
        }

        my $line = $line{$number} or next;

        if (!$line->{count}) {
            push @places, $open = { function => $function, text => $before }
                if !$open;

            $open->{lines} = $open->{lines}
                             ? $open->{lines} =~ s/(?:-\d+)?$/-$number/r
                             : $number;
            next;
        }

        my $branches = @{ $line->{branches} };
        my $taken = grep { $_->{count} } @{ $line->{branches} };

        ($before, $open) = ($text, undef);
        push @places, $open = { function => $function, text => $text,
                                branches => "$number, $taken of $branches" }
            if $taken < $branches;
    }

    my %alike;

    for my $place (@places) {
        my $key = "$file->{file} $place->{function}: $place->{text}";

        $place->{key} = $key . (++$alike{$key} > 1 ? " #$alike{$key}" : '');
    }

    return @places;
}


sub read_list {
    my ($name) = @_;

    my (%explained, $why);

    for (grep { /\S/ && !/^#/ } split /\n/, contents($name)) {
        if (/^\s+(.*\S)/) {
            $explained{$1} = $why;

        } else {
            $why = $_;
        }
    }

    return \%explained;
}


sub contents {
    my ($name) = @_;

    open my $handle, '<', $name or die "$name: $!\n";
    local $/;
    return scalar <$handle>;
}
