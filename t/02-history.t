#!/usr/bin/perl

# The checker of histories: each of these breaks one promise, or seems to, and a
# fault explains it; what is found in it is that, and nothing else.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::History qw(violations);

use POSIX ();

my %option = (lease => 3, timeout => 0.4, retry => 0.5, deadline => 1.5,
              slack => 0.5, stores => [ 'main', 'local' ]);

# Two processes write the lines, in turn; where a line says no "at" it is the
# line's number.

my %sent = (send => 1, genuine => 1, amount => 5, store => 'main',
            targets => [ 'a' ]);

sub sent { return [ sent => %sent, @_ ] }
sub answered { return [ answered => send => 1, answer => 'SUCCESS', @_ ] }
sub accepted { return [ accepted => target => 'a', delivery => 1, @_ ] }
sub ended { return [ ended => target => 'a', delivery => 1, @_ ] }
sub booked { return [ booked => target => 'a', effect => 'r', @_ ] }
sub fault { return [ fault => name => 'f', id => undef, @_ ] }

sub delivered {
    return [ delivered => target => 'a', delivery => 1, attempt => 1,
                          amount => 5, @_ ];
}

my @first = (sent(), delivered(), booked());
my @good = (@first, accepted(), ended(), answered());
my @again = (sent(send => 2), delivered(delivery => 2, attempt => 2),
             accepted(delivery => 2), ended(delivery => 2),
             answered(send => 2));
my @same = map { $_->[0] eq 'delivered' ? [ @$_, attempt => 1 ] : $_ } @again;
my @falling = (@first, ended(), @same);
my @repeated = (@good, @again);
my @over = (sent(send => 2, at => 30), answered(send => 2, at => 31));
my @late = (@first, accepted(), ended(),
            answered(answer => 'late', at => 9, whole => 1.1, unseen => 6),
            @over);
my @slow = (@first, accepted(), ended(),
            answered(at => 9, whole => 1.1, unseen => 3.7));
my @none = (@first, accepted(), ended(), answered(answer => 'none', at => 9),
            sent(send => 2, at => 9.5), answered(send => 2, at => 9.6));
my @twice = (@first, sent(send => 2, at => 12),
             delivered(delivery => 2, attempt => 2, at => 12.5),
             accepted(delivery => 2, at => 14),
             ended(delivery => 2, at => 15),
             answered(send => 2, at => 16, whole => 12.1, unseen => 12.6),
             accepted(at => 30), ended(at => 30));

my @rows = (
    [ 'one that is delivered', '', @good ],
    [ 'not answered, and delivered again', '',
      @first, ended(), @again ],
    [ 'forged, refused', '',
      sent(genuine => 0), answered(answer => 'unverified') ],
    [ 'two targets', '',
      sent(targets => [ 'a', 'b' ]),
      map({ my @at = (target => $_);
            (delivered(@at), booked(@at), accepted(@at), ended(@at)) }
          qw(a b)),
      answered() ],

    [ 'never accepted', 'lost', @first, ended(), answered(answer => 'store') ],
    [ 'accepted, but never answered', 'lost', @good[0 .. 4] ],
    [ 'SUCCESS, but never delivered', 'early lost', sent(), answered() ],
    [ 'SUCCESS to the forged one only', 'let_in lost',
      @good[0 .. 4], sent(send => 2, genuine => 0), answered(send => 2) ],
    [ 'SUCCESS before it was accepted', 'early',
      @first, answered(), accepted(), ended() ],
    [ 'SUCCESS when one target of two had accepted', 'early lost',
      sent(targets => [ 'a', 'b' ]), @good[1 .. 5] ],
    [ 'delivered before it was sent', 'let_in',
      delivered(at => 0), sent(), booked(), accepted(), ended(), answered() ],
    [ 'a forged one is delivered', 'let_in',
      sent(genuine => 0), delivered(), ended(), answered(answer => 'x') ],
    [ 'a forged amount is delivered', 'let_in repeated',
      @good, sent(send => 2, genuine => 0, amount => 500),
      delivered(delivery => 2, attempt => 2, amount => 500),
      ended(delivery => 2) ],
    [ 'a forged amount is refused', '',
      @good, sent(send => 2, genuine => 0, amount => 500),
      answered(send => 2, answer => 'unverified') ],
    [ 'booked twice', 'doubled', @good, booked() ],
    [ 'booked under two ids', 'doubled',
      @good, map { [ @$_, id => 'other' ] } @good ],
    [ 'booked by two targets', '',  @good, booked(target => 'b') ],

    [ 'delivered while live', 'twice', @twice ],
    [ '... and Redis forgot meanwhile', 'twice_explained',
      @twice, fault(at => 5, until => 5, forgets => [ 'main' ]) ],
    [ '... and another store forgot', 'twice',
      @twice, fault(at => 5, until => 5, forgets => [ 'local' ]) ],
    [ '... and Redis had forgotten before', 'twice',
      @twice, fault(at => 0, until => 0.5, forgets => [ 'main' ]) ],
    [ '... and Redis forgot afterwards', 'twice',
      @twice, fault(at => 13, until => 14, forgets => [ 'main' ]) ],
    [ '... and it could not be renewed', 'twice_explained',
      @twice, fault(at => 5, until => 6.7, hampers => [ 'main' ]) ],
    [ '... for less than two thirds of the lease', 'twice',
      @twice, fault(at => 5, until => 6.5, hampers => [ 'main' ]) ],
    [ '... nor could that in another store', 'twice',
      @twice, fault(at => 5, until => 8, hampers => [ 'local' ]) ],
    [ '... for two moments, one after the other', 'twice_explained',
      @twice, fault(at => 6.4, until => 7, hampers => [ 'main' ]),
      fault(at => 5, until => 6, hampers => [ 'main' ]) ],
    [ '... for two moments, with time between them', 'twice',
      @twice, fault(at => 6.6, until => 7.4, hampers => [ 'main' ]),
      fault(at => 5, until => 6, hampers => [ 'main' ]) ],
    [ '... and somebody was stopped for a moment', 'twice',
      @twice, fault(at => 5, until => 5.5, stops => 1) ],
    [ '... and somebody was stopped for long', 'twice_explained',
      @twice, fault(at => 5, until => 8, stops => 1) ],
    [ '... or could not renew, and then was stopped', 'twice_explained',
      @twice, fault(at => 5, until => 6, hampers => [ 'main' ]),
      fault(at => 6.2, until => 7, stops => 1) ],
    [ 'two targets at once', '',
      sent(targets => [ 'a', 'b' ]), delivered(), delivered(target => 'b'),
      accepted(), accepted(target => 'b'), ended(), ended(target => 'b'),
      answered() ],

    [ 'the attempt does not grow', 'falling', @falling ],
    [ '... for Redis forgot', 'falling_explained',
      @falling, fault(at => 4, until => 5, forgets => [ 'main' ]) ],
    [ '... while somebody was stopped for long', 'falling_explained',
      @falling, fault(at => 4, until => 6, stops => 1) ],
    [ '... while somebody was stopped for a moment', 'falling',
      @falling, fault(at => 4, until => 4.8, stops => 1) ],
    [ '... while Redis could not be asked', 'falling',
      @falling, fault(at => 2, until => 7, hampers => [ 'main' ]) ],

    [ 'delivered again after SUCCESS', 'repeated', @repeated ],
    [ '... to another target', '',
      @good, sent(send => 2, targets => [ 'b' ]),
      delivered(target => 'b'), accepted(target => 'b'), ended(target => 'b'),
      answered(send => 2) ],
    [ '... for Redis forgot', 'repeated_explained',
      @repeated, fault(at => 5, until => 5, forgets => [ 'main' ]) ],
    [ '... for it could not be told', 'repeated_explained',
      @repeated, fault(at => 3.9, until => 4.2, hampers => [ 'main' ]) ],
    [ '... for another could not be told', 'repeated',
      @repeated, fault(at => 3.9, until => 4.2, hampers => [ 'local' ]) ],
    [ '... for who was to tell was killed', 'repeated_explained',
      @repeated, fault(at => 4.1, until => 4.1, cuts => 1) ],
    [ '... for who was to send was stopped', 'repeated_explained',
      @repeated, fault(at => 3, until => 7, stops => 1) ],
    [ '... and Redis had forgotten before', 'repeated',
      @repeated, fault(at => 1, until => 1.9, forgets => [ 'main' ]) ],
    [ '... and Redis forgot while it was delivered', 'repeated_explained',
      @repeated, fault(at => 3, until => 3.9, forgets => [ 'main' ]) ],
    [ '... and was hampered afterwards', 'repeated',
      @repeated, fault(at => 9, until => 12, hampers => [ 'main' ]) ],

    [ 'answered when the deadline is long over', 'late', @slow ],
    [ '... in time, but seen late', '',
      @first, accepted(), ended(),
      answered(at => 9, whole => 1.1, unseen => 3) ],
    [ '... after a body that came slowly', '',
      @first, accepted(), ended(),
      answered(at => 9, whole => 2, unseen => 3.7) ],
    [ '... for a worker was stopped', 'late_explained',
      @slow, fault(at => 2, until => 2.7, stops => 1) ],
    [ '... and a worker was stopped in it for a moment', 'late',
      @slow, fault(at => 2, until => 2.2, stops => 1) ],
    [ '... and nobody was accepted, in part at the same time', 'late_explained',
      @slow, fault(at => 2, until => 2.4, stops => 1),
      fault(at => 2.3, until => 2.7, stalls => 1) ],
    [ '... two were stopped at the same time, for a moment', 'late',
      @slow, fault(at => 2, until => 2.4, stops => 1),
      fault(at => 2, until => 2.4, stalls => 1) ],

    [ 'the client waits no longer', 'late', @late ],
    [ '... for a worker was stopped', 'late_explained',
      @late, fault(at => 2, until => 5.2, stops => 1) ],
    [ '... and one was stopped in it for a moment', 'late',
      @late, fault(at => 2, until => 2.2, stops => 1) ],
    [ '... for Redis was stopped', 'late',
      @late, fault(at => 0, until => 9, hampers => [ 'main' ]) ],
    [ '... when a worker had been stopped', 'late',
      @late, fault(at => 0, until => 0.9, stops => 1) ],
    [ '... when a worker was killed', 'late',
      @late, fault(at => 0, until => 9, cuts => 1) ],

    [ 'the connection ends', 'unanswered', @none ],
    [ '... for a worker was killed', 'unanswered_explained',
      @none, fault(at => 0, until => 2, cuts => 1) ],
    [ '... when a worker had been killed', 'unanswered',
      @none, fault(at => 0, until => 0.9, cuts => 1) ],
    [ '... when a worker was stopped', 'unanswered',
      @none, fault(at => 0, until => 9, stops => 1) ],
);

for (@rows) {
    my ($name, $expected, @lines) = @$_;
    my $history = RefundNotify::Test::History->new;

    for my $process (0, 1) {
        my $pid = fork // die "fork: $!\n";

        if (!$pid) {
            for my $i (grep { $_ % 2 == $process } 0 .. $#lines) {
                my ($what, %entry) = @{ $lines[$i] };

                %entry = (id => 'id', at => $i + 1, %entry);
                delete $entry{id} if $what eq 'fault';
                $history->note($what, %entry);
            }

            POSIX::_exit(0);
        }

        waitpid $pid, 0;
    }

    my $found = $history->check(%option);

    is(join(' ', sort +(grep { @{ $found->{$_} } } violations()),
                      grep { /_explained$/ && $found->{$_} } keys %$found),
       $expected, $name);
}


# the numbers, and the table

{
    my $history = RefundNotify::Test::History->new;
    my $n = 0;

    for (@twice, [ @{ sent(genuine => 0) }, id => 'forged' ]) {
        my ($what, %entry) = @$_;

        $history->note($what, id => 'genuine', at => ++$n, %entry);
    }

    my $found = $history->check(%option);
    my %table = map { /^(.*?) +(\d+)$/ } split /\n/, $history->table($found);

    is_deeply([ @table{ 'events', 'sends', 'forged', 'deliveries', 'again',
                        'lost', 'delivered while live', 'answered late',
                        'slowest answer, ms', 'answer: SUCCESS' } ],
              [ 1, 3, 1, 2, 1, 0, 1, 0, 500, 1 ],
              'what the table says') or diag $history->table($found);

    is_deeply($history->check(%option, memory => 300), $found,
              'the same, found in several passes');

    $history->note(fault => at => 2.5, until => 3, name => 'f');

    is_deeply([ map { /^(\S+) .*"what":"(\w+)"/ }
                    $history->lines('enuin', 'nobody') ],
              [ map { sprintf('%.3f', $_->[0]), $_->[1] }
                    sort { $a->[0] <=> $b->[0] } [ 2.5, 'fault' ],
                    map { my ($what, %entry) = @{ $twice[$_] };
                          [ $entry{at} // $_ + 1, $what ] } 0 .. $#twice ],
              'what is told of an id, by time');
}

done_testing;
