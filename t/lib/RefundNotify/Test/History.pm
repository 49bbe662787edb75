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
#   $history->check(lease => $s, memory => $bytes)
#                                  a hash, see below; in passes, that hold about
#                                  so much of the files at once
#   $history->table($found)        its text
#   $history->lines(@parts)        what was noted of the faults, and of ids that
#                                  have such a part: the lines, by time
#   violations()                   the names of what must not have happened
#
# What can be noted, and with what:
#
#   sent        id, send (one of these for each request), genuine, amount,
#               store, targets (array reference, of their names)
#   answered    id, send, answer: SUCCESS, the word of a FAIL, "left" where the
#               client went away, "late" where it waited no longer, "none"
#               where the connection ended without one
#   delivered   id, target, delivery (one of these for each), attempt, amount,
#               effect (what is booked: a refund and its status)
#   booked      id, target, effect     once for each id that the business app
#                                      did not know
#   accepted    id, target, delivery   the answer that says so is about to end
#   ended       id, target, delivery   it is no longer live
#   fault       name, at, until, and what it explains:
#               forgets => [ stores ]  their records are gone
#               hampers => [ stores ]  no lease of theirs can be renewed
#               stops => 1             nobody can be answered
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
#   late        the client waited no longer, and nobody was stopped
#   unanswered  the connection ended, and nobody was killed
#
# which must all be empty; and numbers: events (genuine), sends, forged,
# deliveries, again (deliveries beyond the first), twice_explained,
# falling_explained, late_explained, unanswered_explained; answers, a hash of
# them.
#
# A fault that hampers for less than a third of the lease explains nothing, for
# there is time enough to renew; those with less than that between them are one.

use strict;
use warnings;

use Exporter 'import';
use JSON::XS ();
use List::Util qw(sum);
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
    late       => 'answered late',
    unanswered => 'not answered',
);


# what such an answer is a case of, and what explains it

my %bad_answers = (
    late => [ 'late', 'stops' ],
    none => [ 'unanswered', 'cuts' ],
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

    $found{$_} = 0 for qw(events sends forged deliveries again twice_explained
                          falling_explained late_explained
                          unanswered_explained);
    $found{answers} = {};

    my @faults = $self->_read(sub { !defined $_[0] });
    my $excuses = excuses(\@faults, $option{lease});

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

            check_answers(\%found, $id, \@entries, $excuses);
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
    my ($found, $id, $entries, $excuses) = @_;

    my (%sends, %accepted, %authentic, %bad, $genuine);
    my $success = 0;

    for my $entry (@$entries) {
        my $what = $entry->{what};

        if ($what eq 'sent') {
            $found->{sends}++;
            $sends{ $entry->{send} } = $entry;

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

            $found->{answers}{ $entry->{answer} }++;

            if ($entry->{answer} eq 'SUCCESS') {
                $bad{let_in} = 1 if !$sent->{genuine};
                $success ||= $sent->{genuine};
                $bad{early} = 1
                    if grep { !$accepted{$_} } @{ $sent->{targets} };

            } elsif (my $bad = $bad_answers{ $entry->{answer} }) {
                my ($what, $excuse) = @$bad;

                if (explains($excuses->{$excuse}, $sent->{at}, $entry->{at})) {
                    $found->{"${what}_explained"}++;

                } else {
                    $bad{$what} = 1;
                }
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
    my (%live, %last, %twice, %falling);

    for my $entry (@$entries) {
        my $target = $entry->{target} // next;
        my $live = $live{$target} //= {};

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

        $live->{ $entry->{delivery} } = $entry;
        $last{$target} = $entry;
    }

    push @{ $found->{twice} }, keys %twice;
    push @{ $found->{falling} }, keys %falling;
    return;
}


# What explains what, as lists of [ from, until ].

sub excuses {
    my ($faults, $lease) = @_;

    my (%excuses, %hampered);

    for my $fault (sort { $a->{at} <=> $b->{at} } @$faults) {
        my ($from, $until) = @$fault{qw(at until)};

        for my $what (grep { $fault->{$_} } qw(stops cuts)) {
            push @{ $excuses{$what} }, [ $from, $until ];
        }

        for my $store (@{ $fault->{forgets} || [] }) {
            push @{ $excuses{$_}{$store} }, [ $from, $until ]
                for qw(twice falling);
        }

        for my $store (@{ $fault->{hampers} || [] }) {
            my $last = $hampered{$store}[-1];

            if ($last && $from - $last->[1] < $lease / 3) {
                $last->[1] = $until if $until > $last->[1];

            } else {
                push @{ $hampered{$store} }, [ $from, $until ];
            }
        }
    }

    # Who was stopped before he sent what he has claimed sends it after those
    # that came later.

    for my $store (keys %hampered) {
        my @long = grep { $_->[1] - $_->[0] >= $lease / 3 }
                        @{ $hampered{$store} };

        push @{ $excuses{$_}{$store} }, @long for qw(twice falling);
    }

    return \%excuses;
}


sub explains {
    my ($intervals, $from, $until) = @_;

    return scalar grep { $_->[0] <= $until && $_->[1] >= $from }
                       @{ $intervals || [] };
}


sub table {
    my ($self, $found) = @_;

    my @rows = map { [ $_, $found->{$_} ] }
                   qw(events sends forged deliveries again);
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
