package RefundNotify::Test::Stream;

# Notifies that never cease, as WeChat Pay sends them: a fresh one every so
# often, each sent again after a FAIL, in time compressed, to any of several
# machines, until it was acknowledged.  It runs in a process of its own.
#
#   $stream = RefundNotify::Test::Stream->new(
#       pay => $pay, shop => $shop,
#       clients => [ $client, ... ],   each send goes to one of them
#       path => $path,
#       every => 0.05, again => 0.3,   s between two fresh ones, and after FAIL
#       twice => 1)                once more after SUCCESS, as if that had been
#                                  lost: who has forgotten it delivers it again
#
#   and, for one that is of several merchants, abused, or kept by a History:
#       make => sub { ... },       what to send next, each a hash of notify,
#                                  shop, path, ladder, and of what is noted
#       ladder => [ $seconds, ... ]   instead of again: then it is given up,
#       spare => $n,               but not before the stream ebbs: the last n
#                                  steps are for afterwards
#       signed => $seconds,        a signature is used again for so long
#       patience => $seconds,      hangs up when there is no answer by then
#       leaves => sub { ... },     asked at each send: how the client goes away
#                                  before it is answered: reset or close, both
#                                  with half of it sent or all; or "slow": the
#                                  second half comes bit by bit; "" as a rule
#       most => $n,                open at once
#       seed => $n,                of all that it leaves to chance
#       history => $history)       what is sent and answered is noted there,
#                                  instead of in what sent() returns
#   $stream->sent                      what was answered so far, in order:
#                                      hashes with id, sent, at (times), answer,
#                                      again (it was acknowledged before)
#   $stream->flows($n, $since, $seconds, $which)   waits until n that were sent
#                                      since then got their first SUCCESS; true
#                                      if they did
#   $stream->ebb                       no fresh ones from now on
#   $stream->finish($seconds)          likewise, and waits for the rest; true if
#                                      every one was acknowledged, or given up
#   $stream->early(@requests)          of what the business app got, which
#                                      always accepts: the ids that were
#                                      acknowledged before it had them
#   $stream->waited($fault, $seconds)   waits until all are accepted that were
#                                      sent so far, and returns for how long one
#                                      that the fault concerns waited at most,
#                                      from its beginning on, and from its "over"
#   $stream->again(\@faults, @requests)   the deliveries that repeat another,
#                                      and those of them that no fault explains
#
# $which: a sub that is true for the ids that are meant.  A fault is a hash:
#
#   which => $which     those whose record it concerns (all)
#   from, over          when it began, and when Redis had dealt with it (times)
#   loses => $seconds   what was written so long before it, and during it, may
#                       be lost; undef: nothing

use strict;
use warnings;

use IO::Select;
use JSON::XS ();
use List::Util qw(max);
use POSIX ();
use RefundNotify::Test::History qw(now);
use RefundNotify::Test::Util
    qw(adopt read_file scratch_dir slow stop_process wait_until
       write_file);
use Time::HiRes qw(time);

my $json = JSON::XS->new->ascii->canonical;
my $count = 0;


sub new {
    my ($class, %option) = @_;

    my $self = bless { path => '/', every => 0.05, again => 0.3,
                       patience => 9e9, most => 9e9, leaves => sub { '' },
                       spare => 0, signed => 0,
                       %option,
                       log => scratch_dir() . '/stream-' . ++$count . '.jsonl',
                       seen => [], read => 0 }, $class;

    $self->{pid} = fork // die "fork: $!\n";

    if (!$self->{pid}) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM);
        srand $self->{seed} if defined $self->{seed};
        eval { $self->_run; 1 } or print STDERR "# stream: $@";
        POSIX::_exit($@ ? 1 : 0);
    }

    adopt($self->{pid});
    return $self;
}


sub sent {
    my ($self) = @_;

    open my $file, '<:raw', $self->{log} or return;
    seek $file, $self->{read}, 0;

    while (my $line = <$file>) {
        last if $line !~ /\n\z/;

        $self->{read} += length $line;
        push @{ $self->{seen} }, $json->decode($line);
    }

    return @{ $self->{seen} };
}


sub flows {
    my ($self, $n, $since, $seconds, $which) = @_;

    return wait_until(sub {
        my $found = 0;

        for my $sent (reverse $self->sent) {
            last if $sent->{at} < $since || $found == $n;
            $found++ if $sent->{sent} >= $since && $sent->{answer} eq 'SUCCESS'
                        && !$sent->{again}
                        && (!$which || $which->($sent->{id}));
        }

        return $found == $n;
    }, $seconds);
}


sub waited {
    my ($self, $fault, $seconds) = @_;

    my ($from, $over, $which) = @$fault{qw(from over which)};
    my $to = time;
    my (%first, %accepted);

    wait_until(sub {
        (%first, %accepted) = ();

        for my $sent (grep { !$_->{again} && (!$which || $which->($_->{id})) }
                           $self->sent)
        {
            $first{ $sent->{id} } //= $sent->{sent};
            $accepted{ $sent->{id} } = $sent->{at}
                if $sent->{answer} eq 'SUCCESS';
        }

        delete @first{ grep { $first{$_} > $to
                              || ($accepted{$_} // $to) < $from } keys %first };
        return !grep { !$accepted{$_} } keys %first;
    }, $seconds);

    return map {
        my $since = $_;

        max 0, map { ($accepted{$_} // time) - max($first{$_}, $since) }
                   keys %first;
    } $from, $over;
}


sub ebb {
    my ($self) = @_;

    # a signal would interrupt a call on its connections

    write_file("$self->{log}.ebb", '');
    return;
}


sub finish {
    my ($self, $seconds) = @_;

    $self->ebb;

    my $status = stop_process($self->{pid}, 0, slow($seconds));

    return defined $status && $status == 0;
}


sub early {
    my ($self, @requests) = @_;

    my (%delivered, %early);

    $delivered{ $_->{id} } //= $_->{time} for @requests;

    for my $sent (grep { $_->{answer} eq 'SUCCESS' } $self->sent) {
        $early{ $sent->{id} } = 1
            if ($delivered{ $sent->{id} } // 9e9) > $sent->{at};
    }

    return sort keys %early;
}


# The first attempt of a record: there was none any more.  A later one: there
# was one, but that it was accepted could not be written.

sub again {
    my ($self, $faults, @requests) = @_;

    my (%last, @again, @unexplained);

    for my $request (@requests) {
        my ($id, $attempt) = ($request->{id},
                              $request->{headers}{'refund-attempt'});
        my $before = $last{$id};

        $last{$id} = $request;
        next if !$before;

        push @again, my $repeat = sprintf '%s: attempt %d, %.2f s after %d',
            $id, $attempt, $request->{time} - $before->{time},
            $before->{headers}{'refund-attempt'};

        push @unexplained, $repeat if !grep {
            my $lost = $attempt == 1;

            (!$lost || defined $_->{loses})
            && ($lost || $attempt > $before->{headers}{'refund-attempt'})
            && $before->{time} >= $_->{from} - ($_->{loses} // 0)
            && $before->{time} <= $_->{over}
            && (!$_->{which} || $_->{which}->($id));
        } @$faults;
    }

    return (\@again, \@unexplained);
}


# What follows runs in the stream's own process.


sub _run {
    my ($self) = @_;

    my $fresh = time;
    my $select = IO::Select->new;
    my ($looked, $before);
    my (@due, %open);

    open $self->{out}, '>>:raw', $self->{log} or die "$self->{log}: $!\n";

    while (!$self->{ending} || @due || %open) {
        my $now = time;

        $self->{ending} = -e "$self->{log}.ebb";

        # what could not be sent in time is not made up for

        $fresh = $now - 0.1 if $fresh < $now - 0.1;

        while (!$self->{ending} && $now >= $fresh) {
            push @due, map { { at => $now, signed => $now, tries => 0, %$_ } }
                           $self->_make;
            $fresh += $self->{every};
        }

        my @now = grep { $_->{at} <= $now } @due;

        @due = grep { $_->{at} > $now } @due;

        while (@now && keys %open < $self->{most}) {
            my $turn = shift @now;
            my $socket = $self->_send($turn);

            if ($socket) {
                $open{ fileno $socket } = $turn;
                $select->add($socket);

            } else {
                push @due, $self->_next($turn);
            }
        }

        push @due, @now;

        # what is read now had not come when it was looked for before

        ($before, $looked) = ($looked, now());
        $self->{unseen} = $before // $looked;

        for my $socket ($select->can_read(0.01)) {
            my $turn = $open{ fileno $socket };
            my $response = $turn->{connection}->step or next;

            delete $open{ fileno $socket };
            $select->remove($socket);
            push @due, $self->_answered($turn, $response->{status}
                        ? $self->{pay}->answer($turn->{notify}, $response)
                        : 'none');
        }

        for my $turn (grep { length $_->{rest} } values %open) {
            $turn->{connection}->write(
                substr $turn->{rest}, 0, 1 + rand 40, '');
            $turn->{sent} = time;
            $turn->{whole} = now() if !length $turn->{rest};
        }

        for my $number (grep { $open{$_}{sent} < $now - $self->{patience} }
                             keys %open)
        {
            my $turn = delete $open{$number};

            $select->remove($turn->{connection}{socket});
            push @due, $self->_answered($turn, 'late');
        }
    }

    return;
}


# Of either version in turn.

sub _make {
    my ($self) = @_;

    return $self->{make}->() if $self->{make};

    my $make = $self->{made}++ % 2 ? 'v2_notify' : 'v3_notify';

    return { notify => $self->{pay}->$make($self->{shop}) };
}


# The socket on which the answer will come, or none.

sub _send {
    my ($self, $turn) = @_;

    # a signature is fresh for the first time; a forged one is left as it is

    if ($turn->{tries} && !$turn->{forged}
        && time - $turn->{signed} >= $self->{signed})
    {
        $turn->{signed} = time;
        $turn->{notify} = $self->{pay}->resend($turn->{shop} // $self->{shop},
                                               $turn->{notify});
    }

    my $at = now();
    my $notify = $turn->{notify};
    my $clients = $self->{clients};
    my $connection = $clients->[ rand @$clients ]->connect;
    my $leaves = $self->{leaves}->();
    my $body = $notify->{body};

    $turn->{connection} = $connection;
    $turn->{tries}++;
    $turn->{send} = "$$." . ++$self->{sends};

    $self->{history}->note(sent => at => $at, id => $notify->{event_id},
                           send => $turn->{send}, leaves => $leaves,
                           %{ $turn->{noted} })
        if $self->{history};

    $turn->{sent} = time;

    $turn->{rest} = $leaves =~ /half|slow/
                    ? substr $body, length($body) / 2, length $body, '' : '';

    $connection->send('POST', $turn->{path} // $self->{path},
                      [ @{ $notify->{headers} }, Connection => 'close',
                        'Content-Length' => length $notify->{body} ], $body);

    $turn->{whole} = length $turn->{rest} ? undef : now();
    $self->_note($turn, 'none') if $self->{history} && !$connection->{socket};

    if ($leaves =~ /reset|close/ && $connection->{socket}) {
        $leaves =~ /reset/ ? $connection->reset : $connection->close;
        $self->_note($turn, 'left');
    }

    return $connection->{socket};
}


sub _answered {
    my ($self, $turn, $answer) = @_;

    $turn->{connection}->close;
    $self->_note($turn, $answer);

    return $self->_next($turn) if $answer ne 'SUCCESS';
    return if !$self->{twice} || $turn->{again};
    return { %$turn, again => 1, at => time + $self->{again} };
}


sub _note {
    my ($self, $turn, $answer) = @_;

    if ($self->{history}) {
        $self->{history}->note(answered => id => $turn->{notify}{event_id},
                               send => $turn->{send},
                               answer => $answer =~ s/ .*//sr,
                               whole => $turn->{whole},
                               unseen => $self->{unseen});
        return;
    }

    syswrite $self->{out}, $json->encode({
        id => $turn->{notify}{event_id}, sent => $turn->{sent}, at => time,
        answer => $answer, again => $turn->{again} }) . "\n";
    return;
}


# The same once more, later, if there is a later.

sub _next {
    my ($self, $turn) = @_;

    my $ladder = $turn->{ladder} // $self->{ladder};
    my $last = $ladder ? @$ladder - $self->{spare} : 0;

    $turn->{tries} = $last
        if $ladder && @$ladder && !$self->{ending} && $turn->{tries} > $last;

    my $delay = $ladder ? $ladder->[ $turn->{tries} - 1 ] : $self->{again};

    return defined $delay ? { %$turn, at => time + $delay } : ();
}


1;
