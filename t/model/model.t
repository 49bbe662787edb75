#!/usr/bin/perl

# The model of a notify, notify.pml, searched by spin in every interleaving:
# what it promises holds, and is refuted where it must be.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Test::More;

my $model = dirname(abs_path(__FILE__)) . '/notify.pml';

my %assertion = (
    accepted => 'accepted)',
    live     => '(live<=1)',
    attempt  => '(number>highest)',
    settled  => '(answered==',
);

# tries, what the model is made with, and what is refuted; of three tries one
# late command is enough for a quick search (two: 9 million states)

my @rows = (
    [2, '',              undef     ],
    [3, '',              undef     ],

    [2, 'FORGETS',       'live'    ],
    [2, 'STOPS',         'live'    ],

    [2, 'COMMITS_FIRST', 'accepted'],
    [3, 'RELEASES_ANY',  'live'    ],
    [2, 'RENEWS_ANY',    'attempt' ],
    [3, 'TAKES_LIVE',    'live'    ],
    [2, 'REMOVES',       'attempt' ],
    [2, 'NEVER_EXPIRES', 'settled' ],
);

for my $row (@rows) {
    my ($tries, $with, $refuted) = @$row;

    my $name = "$tries tries" . ($with ? ", $with" : '');
    my $verdict = search($tries, $with);

    my ($states) = $verdict =~ /(\d+) states, stored/;
    my ($failed) = $verdict =~ /assertion violated (.*) \(at depth/;

    ok $states, "$name: searched" or diag $verdict;

    if ($refuted) {
        like $failed // 'nothing', qr/\Q$assertion{$refuted}\E/,
            "$name: $refuted is refuted";

    } else {
        like $verdict, qr/errors: 0$/m, "$name: holds";
        unlike $verdict, qr/not completed|max search depth|out of memory/,
            "$name: the search was complete";
        note "$name: $states states";
    }
}

done_testing;


sub search {
    my ($tries, $with) = @_;

    my $directory = tempdir(CLEANUP => 1);
    my @flags = ("-DTRIES=$tries", $with ? "-D$with" : ());

    push @flags, '-DLATE=1' if $tries > 2;

    # a short search is over before an optimizer is

    my $optimize = $tries > 2 ? '-O1' : '-O0';

    return `cd $directory && spin -a @flags $model 2>&1 \\
            && cc $optimize -w -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c 2>&1 \\
            && ./pan -m10000 -w24 2>&1`;
}
