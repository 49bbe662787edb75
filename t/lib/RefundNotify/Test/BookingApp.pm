package RefundNotify::Test::BookingApp;

# A business app that books what it gets, once for each webhook-id, and tells a
# History.  As BusinessApp, but it keeps no requests, and
#
#   new(history => $history, target => $name)
#
# It books what a rule does not say it refuses:
#
#   refuses => 1
#   known => 1          a rule for what it has booked before; what it has not it
#                       books, and answers 500
#   tells => $path      a file that is there when the rule has been used

use strict;
use warnings;

use parent 'RefundNotify::Test::BusinessApp';

use JSON::XS ();
use RefundNotify::Test::Util qw(write_file);
use Socket qw(MSG_DONTWAIT MSG_PEEK);

my $json = JSON::XS->new->utf8;


sub requests { return }


sub record {
    my ($self, $conn, $request) = @_;

    my $data = $json->decode($request->{body})->{data};
    my $id = $request->{id};
    my $live = $self->{live}{$id} //= {};

    # What nginx has given up is not live, even if this process has not been
    # told so yet.

    for my $other (values %$live) {
        my $n = recv $other->{socket}, my $byte, 1, MSG_PEEK | MSG_DONTWAIT;

        $self->end($other, 'left')
            if defined $n ? !length $byte : !$!{EAGAIN};
    }

    $self->{live}{$id}{ $conn->{number} } = $conn;

    $request->{delivery} = "$self->{target}." . ++$self->{n};
    $request->{effect} = "$data->{refund_id}:$data->{status}";
    $self->_note($request, delivered =>
                 attempt => $request->{headers}{'refund-attempt'} // 0,
                 amount => $data->{amount}{refund},
                 effect => $request->{effect});
    return;
}


sub find_rule {
    my ($self, $request) = @_;

    my $rule = $self->SUPER::find_rule($request);

    $rule = { status => 500 }
        if $rule->{known} && !$self->{booked}{ $request->{id} };

    write_file($rule->{tells}, '') if $rule->{tells} && !-e $rule->{tells};

    if (!$rule->{refuses} && !$self->{booked}{ $request->{id} }++) {
        $self->_note($request, booked => effect => $request->{effect});
    }

    return $rule;
}


# Told before the last byte of an answer leaves.

sub answer {
    my ($self, $conn, $request, $rule) = @_;

    my @steps = $self->SUPER::answer($conn, $request, $rule);

    return @steps if ($rule->{status} // 200) !~ /^2/
                     || $steps[-1][0] !~ /^(?:done|close)$/
                     || !grep { $_->[0] eq 'done' } @steps;

    my ($i) = grep { $steps[$_][0] =~ /^(?:write|drip)$/ } 0 .. $#steps;
    my $accepted = [ call => sub { $self->_note($request, 'accepted') } ];

    if ($steps[$i][0] eq 'drip') {
        my $last = substr $steps[$i][1], -1, 1, '';

        splice @steps, $i + 1, 0, $accepted, [ write => $last ];

    } else {
        splice @steps, $i, 0, $accepted;
    }

    return @steps;
}


sub ended {
    my ($self, $conn, $how) = @_;

    my $request = delete $conn->{current} or return;

    delete $self->{live}{ $request->{id} }{ $conn->{number} };
    delete $self->{live}{ $request->{id} }
        if !%{ $self->{live}{ $request->{id} } };
    $self->_note($request, ended => how => $how);
    return;
}


sub _note {
    my ($self, $request, $what, %entry) = @_;

    $self->{history}->note($what, id => $request->{id},
                           target => $self->{target},
                           delivery => $request->{delivery}, %entry);
    return;
}


1;
