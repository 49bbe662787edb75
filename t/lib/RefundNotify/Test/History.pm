package RefundNotify::Test::History;

# What happened in a run, told by each process of it, and what of it must not
# have happened.
#
#   $history = RefundNotify::Test::History->new
#   $history->note($what, %entry)  appends a line of JSON to this process' own
#                                  file, before what it tells of can be seen
#                                  elsewhere; "at" is now() unless given
#   now()                          seconds of a clock that is never set, the
#                                  same for all processes
#   $history->check(lease => $s, timeout => $s, retry => $s, deadline => $s,
#                   slack => $s, memory => $bytes)
#                                  a hash, see below: of the module its lease,
#                                  its store's timeout, after what time it tries
#                                  to renew again, and its deadline; of the
#                                  machine how late it may run what is to be
#                                  run; in passes, that hold about so much of
#                                  the files at once
#   $history->table($found)        its text
#   $history->lines(@parts)        what was noted of the faults, and of ids that
#                                  have such a part: the lines, by time
#   violations()                   the names of what must not have happened
#
# What can be noted, and with what:
#
#   sent        id, send (one of these for each request), genuine, amount,
#               store, targets (array reference, of their names), leaves: how
#               the client goes away, or is slow, if it does
#   answered    id, send, answer: SUCCESS, the word of a FAIL, "left" where the
#               client went away, "late" where it waited no longer, "none"
#               where there was no connection, or it ended without one; whole:
#               when the last byte of the request had left; unseen: when the
#               client, which may be late itself, had last looked in vain
#   delivered   id, target, delivery (one of these for each), attempt, amount,
#               effect (what is booked: a refund and its status)
#   booked      id, target, effect     once for each id that the business app
#                                      did not know
#   accepted    id, target, delivery   the answer that says so is about to end
#   ended       id, target, delivery   it is no longer live
#   fault       name, at, until, and what it explains:
#               forgets => [ stores ]  their records are gone
#               hampers => [ stores ]  no lease of theirs can be renewed
#               stops => 1             a worker does nothing at all
#               stalls => 1            nobody is accepted
#               cuts => 1              connections end
#
# check() counts, in a hash of what, each an array reference of ids, or of
# effects:
#
#   lost        genuine, but never answered SUCCESS, or not accepted by each of
#               its targets
#   early       answered SUCCESS before each target had accepted it
#   let_in      delivered though none that is genuine was sent before with that
#               id and amount; or answered SUCCESS though it was not genuine
#   doubled     booked twice at a target
#   twice       delivered to a target where another delivery of it was live, and
#               no fault explains it
#   falling     an attempt not higher than one before, and no fault explains it
#   repeated    delivered to a target that had accepted it, and SUCCESS had been
#               answered since, and no fault from the begin of the accepted
#               delivery on explains it
#   late        answered, or hung up on, later than the deadline and the slack,
#               which begin with the last byte; what of it a worker was stopped,
#               or nobody was accepted, does not count
#   unanswered  there was no connection, or it ended, and nobody was killed
#
# which must all be empty; and numbers: events (genuine), sends, forged,
# deliveries, again (deliveries beyond the first), slowest (ms that count before
# an answer), twice_explained, falling_explained, repeated_explained,
# late_explained, unanswered_explained; answers, a hash of them; leaves, one of
# how clients went away.
#
# A lease is renewed each third of it, with two thirds left therefore when a
# fault begins: one that is shorter, by the timeout of the last renewal, ends
# none.  Those that leave no time to try again between them are one.  A worker
# that is stopped cannot renew either.

use strict;
use warnings;

use Exporter 'import';
use JSON::XS ();
use List::Util qw(max min sum);
use RefundNotify::Test::Util qw(scratch_dir);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our @EXPORT_OK = qw(now violations);

my $json = JSON::XS->new->ascii->canonical;
my $count = 0;

my @violations = (
    lost       => 'lost',
    early      => 'SUCCESS without acceptance',
    let_in     => 'not authentic, but let in',
    doubled    => 'effect doubled',
    twice      => 'delivered while live',
    falling    => 'attempt not higher',
    repeated   => 'delivered after SUCCESS',
    late       => 'answered late',
    unanswered => 'not answered',
);


sub new {
    my ($class) = @_;

    my $dir = scratch_dir() . '/history-' . ++$count;

    mkdir $dir or die "$dir: $!\n";
    return bless { dir => $dir, owner => 0 }, $class;
}


sub now { return clock_gettime(CLOCK_MONOTONIC) }


sub note {
    my ($self, $what, %entry) = @_;

    if ($self->{owner} != $$) {
        open $self->{out}, '>>:raw', "$self->{dir}/$$"
            or die "$self->{dir}: $!\n";
        $self->{owner} = $$;
    }

    my $line = $json->encode({ at => now(), %entry, what => $what }) . "\n";

    (syswrite($self->{out}, $line) // 0) == length $line
        or die "$self->{dir}: $!\n";
    return;
}


# Of a long run there are millions of lines: they are kept as text, and read in
# several passes, each for a share of the ids.

sub check {
    my ($self, %option) = @_;

    my %found = map { $_ => [] } violations();
    my @paths = glob "$self->{dir}/*";
    my $passes = 1 + int sum(0, map { -s } @paths) / ($option{memory} // 5e7);
    my %booked;

    $found{$_} = 0 for qw(events sends forged deliveries again slowest
                          twice_explained falling_explained repeated_explained
                          late_explained unanswered_explained);
    $found{answers} = {};
    $found{leaves} = {};

    my @faults = $self->_read(sub { !defined $_[0] });
    my $excuses = excuses(\@faults, \%option);

    for my $pass (0 .. $passes - 1) {
        my %lines;

        $self->_read(sub {
            my ($id, $line) = @_;

            push @{ $lines{$id} }, $line
                if defined $id && unpack('%32C*', $id) % $passes == $pass;
            return 0;
        });

        for my $id (sort keys %lines) {
            my @entries = sort { $a->{at} <=> $b->{at} }
                          map { $json->decode($_) } @{ delete $lines{$id} };

            check_answers(\%found, $id, \@entries, $excuses,
                          $option{deadline} + $option{slack});
            check_deliveries(\%found, $id, \@entries, $excuses);

            $booked{"$_->{target} $_->{effect}"}++
                for grep { $_->{what} eq 'booked' } @entries;
        }
    }

    $found{doubled} = [ grep { $booked{$_} > 1 } sort keys %booked ];
    return \%found;
}


sub lines {
    my ($self, @parts) = @_;

    my $wanted = join '|', map { quotemeta } @parts;

    return map { sprintf '%.3f %s', delete $_->{at}, $json->encode($_) }
           sort { $a->{at} <=> $b->{at} }
                $self->_read(sub { !defined $_[0] || $_[0] =~ $wanted });
}


# The entries, decoded, of which the code says that they are wanted: it is given
# the id, undef for a fault, and the line.

sub _read {
    my ($self, $wanted) = @_;

    my @entries;

    for my $path (glob "$self->{dir}/*") {
        open my $file, '<:raw', $path or die "$path: $!\n";

        while (my $line = <$file>) {
            my ($id) = $line =~ /"id":"([^"]*)"/;

            push @entries, $json->decode($line) if $wanted->($id, $line);
        }
    }

    return @entries;
}


sub check_answers {
    my ($found, $id, $entries, $excuses, $limit) = @_;

    my (%sends, %accepted, %authentic, %bad, $genuine);
    my $success = 0;

    for my $entry (@$entries) {
        my $what = $entry->{what};

        if ($what eq 'sent') {
            $found->{sends}++;
            $sends{ $entry->{send} } = $entry;
            $found->{leaves}{ $entry->{leaves} }++ if $entry->{leaves};

            if ($entry->{genuine}) {
                $genuine = $entry;
                $authentic{ $entry->{amount} } = 1;

            } else {
                $found->{forged}++;
            }

        } elsif ($what eq 'delivered') {
            $bad{let_in} = 1 if !$authentic{ $entry->{amount} };

        } elsif ($what eq 'accepted') {
            $accepted{ $entry->{target} } = 1;

        } elsif ($what eq 'answered') {
            my $sent = $sends{ $entry->{send} };
            my $answer = $entry->{answer};

            $found->{answers}{$answer}++;

            if ($answer eq 'none') {
                if (explains($excuses->{cuts}, $sent->{at}, $entry->{at})) {
                    $found->{unanswered_explained}++;

                } else {
                    $bad{unanswered} = 1;
                }

            } elsif (defined $entry->{whole}) {
                my $took = $entry->{unseen} - $entry->{whole};
                my $counts = $took - overlap($excuses->{late},
                                             @$entry{qw(whole unseen)});

                $found->{slowest} = max($found->{slowest}, int 1000 * $counts);

                if ($counts > $limit) {
                    $bad{late} = 1;

                } elsif ($took > $limit || $answer eq 'late') {
                    $found->{late_explained}++;
                }
            }

            if ($answer eq 'SUCCESS') {
                $bad{let_in} = 1 if !$sent->{genuine};
                $success ||= $sent->{genuine};
                $bad{early} = 1
                    if grep { !$accepted{$_} } @{ $sent->{targets} };
            }
        }
    }

    push @{ $found->{$_} }, $id for keys %bad;

    return if !$genuine;

    $found->{events}++;

    push @{ $found->{lost} }, $id
        if !$success || grep { !$accepted{$_} } @{ $genuine->{targets} };
    return;
}


# Those to one target follow each other; the faults that explain that one did
# not are those between the begin of the one and of the other.

sub check_deliveries {
    my ($found, $id, $entries, $excuses) = @_;

    my ($genuine) = grep { $_->{what} eq 'sent' && $_->{genuine} } @$entries;
    my $store = $genuine ? $genuine->{store} : '';
    my (%live, %last, %twice, %falling, %begun, %accepted, %done, %repeated);

    for my $entry (@$entries) {
        %done = %accepted
            if $entry->{what} eq 'answered' && $entry->{answer} eq 'SUCCESS';

        my $target = $entry->{target} // next;
        my $live = $live{$target} //= {};

        $accepted{$target} = $begun{ $entry->{delivery} } // $entry->{at}
            if $entry->{what} eq 'accepted';

        if ($entry->{what} eq 'ended') {
            delete $live->{ $entry->{delivery} };
            next;
        }

        next if $entry->{what} ne 'delivered';

        my ($first) = sort { $a->{at} <=> $b->{at} } values %$live;
        my $last = $last{$target};

        $found->{deliveries}++;
        $found->{again}++ if $last;

        if ($first) {
            if (explains($excuses->{twice}{$store}, $first->{at}, $entry->{at}))
            {
                $found->{twice_explained}++;

            } else {
                $twice{$id} = 1;
            }
        }

        if ($last && $entry->{attempt} <= $last->{attempt}) {
            if (explains($excuses->{falling}{$store}, $last->{at},
                         $entry->{at}))
            {
                $found->{falling_explained}++;

            } else {
                $falling{$id} = 1;
            }
        }

        if (defined $done{$target}) {
            if (explains($excuses->{repeated}{$store}, $done{$target},
                         $entry->{at})
                || explains($excuses->{cuts}, $done{$target}, $entry->{at}))
            {
                $found->{repeated_explained}++;

            } else {
                $repeated{$id} = 1;
            }
        }

        $begun{ $entry->{delivery} } = $entry->{at};
        $live->{ $entry->{delivery} } = $entry;
        $last{$target} = $entry;
    }

    push @{ $found->{twice} }, keys %twice;
    push @{ $found->{falling} }, keys %falling;
    push @{ $found->{repeated} }, keys %repeated;
    return;
}


# What explains what, as lists of [ from, until ], by store but for those of
# answers.

sub excuses {
    my ($faults, $option) = @_;

    my (%excuses, %hampers, %forgets);
    my @stops = map { [ @$_{qw(at until)} ] } grep { $_->{stops} } @$faults;
    my $long = $option->{lease} * 2 / 3 - $option->{timeout};

    for my $fault (@$faults) {
        my @when = @$fault{qw(at until)};

        push @{ $excuses{cuts} }, [ @when ] if $fault->{cuts};
        push @{ $excuses{late} }, [ @when ]
            if $fault->{stops} || $fault->{stalls};
        push @{ $forgets{$_} }, [ @when ] for @{ $fault->{forgets} || [] };
        push @{ $hampers{$_} }, [ @when ] for @{ $fault->{hampers} || [] };
    }

    $excuses{late} = [ merged(0, @{ $excuses{late} || [] }) ];

    for my $store (@{ $option->{stores} }) {
        my @forgets = @{ $forgets{$store} || [] };
        my @hampers = @{ $hampers{$store} || [] };

        $excuses{twice}{$store} = [
            @forgets,
            grep { $_->[1] - $_->[0] >= $long }
                 merged($option->{retry}, @hampers, @stops) ];

        # Who was stopped before he sent what he has claimed sends it after
        # those that came later.

        $excuses{falling}{$store} = [
            @forgets, grep { $_->[1] - $_->[0] >= $long } @stops ];

        $excuses{repeated}{$store} = [ @forgets, @hampers, @stops ];
    }

    return \%excuses;
}


# The same intervals, but those with less than so much between them are one.

sub merged {
    my ($gap, @intervals) = @_;

    my @merged;

    for my $interval (sort { $a->[0] <=> $b->[0] } @intervals) {
        my $last = $merged[-1];

        if ($last && $interval->[0] - $last->[1] <= $gap) {
            $last->[1] = max($last->[1], $interval->[1]);

        } else {
            push @merged, [ @$interval ];
        }
    }

    return @merged;
}


sub explains {
    my ($intervals, $from, $until) = @_;

    return scalar grep { $_->[0] <= $until && $_->[1] >= $from }
                       @{ $intervals || [] };
}


# How much of a time is in the intervals, which do not overlap themselves.

sub overlap {
    my ($intervals, $from, $until) = @_;

    return sum 0, map { max(0, min($_->[1], $until) - max($_->[0], $from)) }
                      @$intervals;
}


sub table {
    my ($self, $found) = @_;

    my @rows = map { [ $_, $found->{$_} ] }
                   qw(events sends forged deliveries again);
    push @rows, [ 'slowest answer, ms', $found->{slowest} ];
    my $answers = $found->{answers};

    for (my $i = 0; $i < @violations; $i += 2) {
        my ($name, $text) = @violations[$i, $i + 1];

        push @rows, [ $text, scalar @{ $found->{$name} } ];
        push @rows, [ "  explained by a fault", $found->{"${name}_explained"} ]
            if defined $found->{"${name}_explained"};
    }

    return join '', map { sprintf "%-32s %8s\n", @$_ }
                    @rows, map { [ "answer: $_", $answers->{$_} ] }
                               sort keys %$answers;
}


sub violations { return map { $violations[2 * $_] } 0 .. $#violations / 2 }


1;
