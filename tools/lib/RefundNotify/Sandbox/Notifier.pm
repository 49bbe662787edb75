package RefundNotify::Sandbox::Notifier;

# WeChat Pay's notifies: each is sent to nginx, and again after the intervals of
# a ladder until it is acknowledged.  Runs in Mojolicious' event loop.
#
#   $notifier = RefundNotify::Sandbox::Notifier->new(
#       pay => ..., shop => ...,   of WeChatPay.pm
#       url => $url,               where notifies go
#       sent => sub { ... })       called with a notify after each try of it
#   $notifier->add($notify, %option)       sends one of WeChatPay.pm's: its
#                                  record, or undef if too many wait; label: how
#                                  it is called; resend: what to bend each time;
#                                  once => 1: without a ladder
#   $notifier->again($n), $notifier->stop($n)     now, or no more; true if there
#   $notifier->records             all that there are, the latest first
#   $notifier->speed($factor)      times WeChat Pay's ladder
#   $notifier->profile($name)      of LADDERS, for notifies from now on
#   $notifier->result($try, $result, $reason)     what nginx logged about a try
#
# A record: n, label, version, status, event_id, out_refund_no, profile, state
# (waiting, acknowledged, given up, stopped, once), next (the clock, while it
# waits), tries: try (a number of its own), at, after (the interval before it, s
# of WeChat Pay's time), due, seconds, status, answer, result, reason.

use strict;
use warnings;

use Mojo::IOLoop;
use Mojo::UserAgent;
use Time::HiRes qw(time);

use RefundNotify::Test::WeChatPay;

# WeChat Pay's pages on the notify, of both versions; the older one stood on
# those of APIv2.

use constant LADDERS => {
    current => [ 15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800,
                 10800, 10800, 21600, 21600 ],
    older => [ 15, 15, 30, 180, 1800, 1800, 1800, 1800, 3600 ],
};

# it waits this long for an answer, s

use constant PATIENCE => 5;

use constant { KEPT => 200, WAITING => 500 };


sub new {
    my ($class, %option) = @_;

    # a connection for each try: what comes after a reload of nginx is not to
    # meet one that was just closed

    my $agent = Mojo::UserAgent->new(
        max_redirects => 0, max_connections => 0,
        connect_timeout => PATIENCE, request_timeout => PATIENCE);

    return bless { %option, agent => $agent, records => [], count => 0,
                   tries => 0, speed => 1, profile => 'current' }, $class;
}


sub records { return @{ $_[0]{records} } }


sub speed {
    my ($self, $factor) = @_;

    return $self->{speed} if !defined $factor;

    my $former = $self->{speed};

    $self->{speed} = $factor;

    # what waits already, waits its rest at the new speed

    for my $record (grep { defined $_->{next} } $self->records) {
        my $rest = $record->{next} - time;

        $self->_wait($record, $rest * $former / $factor);
    }

    return $factor;
}


sub profile {
    my ($self, $name) = @_;

    $self->{profile} = $name if defined $name;
    return $self->{profile};
}


sub add {
    my ($self, $notify, %option) = @_;

    return if WAITING <= grep { $_->{state} eq 'waiting' } $self->records;

    my $record = {
        n => ++$self->{count},
        label => $option{label},
        version => $notify->{version},
        status => $notify->{status},
        $notify->{refund_id} ? (event_id => $notify->{event_id}) : (),
        out_refund_no => $notify->{out_refund_no},
        profile => $self->{profile},
        state => $option{once} ? 'once' : 'waiting',
        resend => $option{resend} || {},
        notify => $notify,
        tries => [],
        intervals => [ @{ LADDERS->{ $self->{profile} } } ],
    };

    unshift @{ $self->{records} }, $record;

    # the oldest that are done with make room

    my $over = $self->records - KEPT;

    for my $old (reverse $self->records) {
        last if $over-- <= 0;
        $self->{records} = [ grep { $_ != $old } $self->records ]
            if $old->{state} ne 'waiting';
    }

    $self->_try($record, 0);
    return $record;
}


sub again {
    my ($self, $n) = @_;

    my $record = $self->_find($n) or return 0;

    $self->_try($record, undef);
    return 1;
}


sub stop {
    my ($self, $n) = @_;

    my $record = $self->_find($n) or return 0;

    $self->_cancel($record);
    $record->{state} = 'stopped' if $record->{state} eq 'waiting';
    return 1;
}


sub result {
    my ($self, $try, $result, $reason) = @_;

    for my $record ($self->records) {
        for (grep { $_->{try} == $try } @{ $record->{tries} }) {
            @$_{qw(result reason)} = ($result, $reason);
            return;
        }
    }

    return;
}


sub _find {
    my ($self, $n) = @_;

    return (grep { $_->{n} == $n } $self->records)[0];
}


# $after: the interval that has passed; undef: it was asked for by hand, which
# leaves the ladder as it is.

sub _try {
    my ($self, $record, $after) = @_;

    my $notify = $self->{pay}->resend($self->{shop}, $record->{notify},
                                      %{ $record->{resend} });
    my $try = { try => ++$self->{tries}, at => time, after => $after,
                due => $record->{next} };

    push @{ $record->{tries} }, $try;
    delete $record->{next} if defined $after;

    # named several times stays so: probes of the parser are sent as they are

    my $tx = $self->{agent}->build_tx(POST => $self->{url});
    my @headers = (@{ $notify->{headers} }, 'Sandbox-Try' => $try->{try},
                   Connection => 'close');

    while (my ($name, $value) = splice @headers, 0, 2) {
        $tx->req->headers->add($name => $value);
    }

    $tx->req->body($notify->{body});

    $self->{agent}->start($tx => sub {
        my (undef, $done) = @_;

        my $response = { status => $done->res->code // 0,
                         body => $done->res->body };

        $try->{seconds} = time - $try->{at};
        $try->{status} = $response->{status};
        $try->{answer} = substr $response->{body}, 0, 300;
        $try->{error} = $done->error->{message}
            if $done->error && !$done->error->{code};

        $self->_answered($record, $response, defined $after);
        $self->{sent}->($record, $try);
    });

    return;
}


sub _answered {
    my ($self, $record, $response, $of_ladder) = @_;

    if ($record->{state} eq 'once') {
        return;
    }

    if ($self->{pay}->acknowledged($record->{notify}, $response)) {
        $self->_cancel($record);
        $record->{state} = 'acknowledged';
        return;
    }

    return if !$of_ladder || $record->{state} ne 'waiting';

    my $interval = shift @{ $record->{intervals} };

    if (!defined $interval) {
        $record->{state} = 'given up';
        return;
    }

    $record->{interval} = $interval;
    $self->_wait($record, $interval / $self->{speed});
    return;
}


sub _wait {
    my ($self, $record, $seconds) = @_;

    $self->_cancel($record);
    $seconds = 0 if $seconds < 0;
    $record->{next} = time + $seconds;
    $record->{timer} = Mojo::IOLoop->timer($seconds => sub {
        delete $record->{timer};
        $self->_try($record, $record->{interval});
    });
    return;
}


sub _cancel {
    my ($self, $record) = @_;

    Mojo::IOLoop->remove(delete $record->{timer}) if $record->{timer};
    delete $record->{next};
    return;
}


1;
