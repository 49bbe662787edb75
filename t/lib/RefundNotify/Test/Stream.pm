package RefundNotify::Test::Stream;

# Notifies that never cease, as WeChat Pay sends them: a fresh one every so
# often, each sent again after a FAIL, in time compressed, to any of several
# machines, until it was acknowledged.  It runs in a process of its own.
#
#   $stream = RefundNotify::Test::Stream->new(
#       pay => $pay, shop => $shop,
#       clients => [ $client, ... ],   each send goes to one of them
#       path => $path,
#       every => 0.05, again => 0.3)   s between two fresh ones, and after FAIL
#   $stream->sent                      what was answered so far, in order:
#                                      hashes with id, sent, at (times), answer
#   $stream->flows($n, $since, $seconds)   waits until n that were sent since
#                                      then got SUCCESS; true if they did
#   $stream->finish($seconds)          no fresh ones; waits for the rest; true
#                                      if every one was acknowledged
#   $stream->early(@requests)          of what the business app got, which
#                                      always accepts: the ids that were
#                                      acknowledged before it had them
#   $stream->again(\@faults, @requests)   the ids that it got more than once,
#                                      and those of them that no fault explains:
#                                      each is [ $from, $to ], and explains that
#                                      what was first delivered meanwhile comes
#                                      again
#   $stream->gap($from, $to)           the longest time without a SUCCESS that
#                                      was asked for after $from: (its length,
#                                      its begin)

use strict;
use warnings;

use IO::Select;
use JSON::XS ();
use POSIX ();
use RefundNotify::Test::Util
    qw(adopt read_file scratch_dir slow stop_process wait_until);
use Time::HiRes qw(time);

my $json = JSON::XS->new->ascii->canonical;
my $count = 0;


sub new {
    my ($class, %option) = @_;

    my $self = bless { path => '/', every => 0.05, again => 0.3, %option,
                       log => scratch_dir() . '/stream-' . ++$count . '.jsonl',
                       seen => [], read => 0 }, $class;

    $self->{pid} = fork // die "fork: $!\n";

    if (!$self->{pid}) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM);
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
    my ($self, $n, $since, $seconds) = @_;

    return wait_until(sub {
        $n <= grep { $_->{sent} >= $since && $_->{answer} eq 'SUCCESS' }
                   $self->sent;
    }, $seconds);
}


sub gap {
    my ($self, $from, $to) = @_;

    my ($longest, $begin, $last) = (0, $from, $from);

    for my $at ((map { $_->{at} }
                 grep { $_->{sent} >= $from && $_->{at} <= $to
                        && $_->{answer} eq 'SUCCESS' } $self->sent), $to)
    {
        ($longest, $begin) = ($at - $last, $last) if $at - $last > $longest;
        $last = $at;
    }

    return ($longest, $begin);
}


sub finish {
    my ($self, $seconds) = @_;

    CORE::kill 'USR1', $self->{pid};

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


sub again {
    my ($self, $faults, @requests) = @_;

    my (%deliveries, @again, @unexplained);

    push @{ $deliveries{ $_->{id} } }, $_ for @requests;

    for my $id (sort grep { @{ $deliveries{$_} } > 1 } keys %deliveries) {
        my $first = $deliveries{$id}[0]{time};

        push @again, $id;
        push @unexplained, $id
            if !grep { $_->[0] <= $first && $first <= $_->[1] } @$faults;
    }

    return (\@again, \@unexplained);
}


# What follows runs in the stream's own process.


sub _run {
    my ($self) = @_;

    my $ending = 0;
    my $fresh = time;
    my $select = IO::Select->new;
    my (@due, %open);

    local $SIG{USR1} = sub { $ending = 1 };

    open my $out, '>>:raw', $self->{log} or die "$self->{log}: $!\n";

    while (!$ending || @due || %open) {
        my $now = time;

        if (!$ending && $now >= $fresh) {
            push @due, { at => $now, notify => $self->_notify };
            $fresh = $now + $self->{every};
        }

        my @now = grep { $_->{at} <= $now } @due;

        @due = grep { $_->{at} > $now } @due;

        for my $turn (@now) {
            my $notify = $self->{pay}->resend($self->{shop}, $turn->{notify});
            my $clients = $self->{clients};
            my $connection = $clients->[ rand @$clients ]->connect;

            $connection->send('POST', $self->{path},
                              [ @{ $notify->{headers} },
                                Connection => 'close' ], $notify->{body});

            if (!$connection->{socket}) {
                push @due, { %$turn, at => $now + $self->{again} };
                next;
            }

            $open{ fileno $connection->{socket} }
                = { %$turn, connection => $connection, sent => $now };
            $select->add($connection->{socket});
        }

        for my $socket ($select->can_read(0.01)) {
            my $turn = $open{ fileno $socket };
            my $response = $turn->{connection}->step or next;
            my $answer = $self->{pay}->answer($turn->{notify}, $response);

            delete $open{ fileno $socket };
            $select->remove($socket);
            $turn->{connection}->close;

            syswrite $out, $json->encode({
                id => $turn->{notify}{event_id}, sent => $turn->{sent},
                at => time, answer => $answer }) . "\n";

            push @due, { at => time + $self->{again},
                         notify => $turn->{notify} } if $answer ne 'SUCCESS';
        }
    }

    return;
}


# Of either version in turn.

sub _notify {
    my ($self) = @_;

    my $make = $self->{made}++ % 2 ? 'v2_notify' : 'v3_notify';

    return $self->{pay}->$make($self->{shop});
}


1;
