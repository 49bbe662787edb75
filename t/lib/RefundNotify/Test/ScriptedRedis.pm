package RefundNotify::Test::ScriptedRedis;

# A Redis that misbehaves: a proxy in front of a real one, which passes all on
# but for what its rules say.  See Peer for the interface and what is common to
# all rules.  A request is a command: command (upper case), key (its first
# argument), words.
#
#   ScriptedRedis->new(redis => $redis)     in front of this Redis
#
# What a rule may have also:
#
#   reply => bytes      answered instead, e.g. "-LOADING Redis is loading\r\n"
#   forward => 1        with reply or fault: the real one runs it all the same
#   split => n          the reply in pieces of n bytes, one every "every" s

use strict;
use warnings;

use parent 'RefundNotify::Test::Peer';

use IO::Socket::INET;
use RefundNotify::Test::Resp qw(resp_parse);


# Replies leave in the order of the commands, so each command has a slot; a slot
# is filled by the real Redis' reply, or by a rule.

sub input {
    my ($self, $conn) = @_;

    # a reply that was sent calls this again: many commands may come at once

    return if $conn->{parsing};

    local $conn->{parsing} = 1;

    while (my ($words, $next) = resp_parse($conn->{in}, 0)) {
        my $bytes = substr $conn->{in}, 0, $next, '';
        my $request = { words => $words, command => uc $words->[0],
                        key => $words->[1] };
        my $rule = $self->find_rule($request);
        my $own = defined $rule->{reply} || defined $rule->{fault};
        my $forward = !$own || $rule->{forward};
        my $slot = { rule => $rule, wait => $forward,
                     reply => $rule->{reply} };

        $self->record($conn, $request);
        push @{ $conn->{slots} }, $slot;

        if ($forward) {
            $self->_upstream($conn) or return $self->end($conn, 'closed');
            $conn->{upstream}->blocking(1);
            syswrite $conn->{upstream}, $bytes;
            $conn->{upstream}->blocking(0);
        }

        $self->_flush($conn);
        last if $conn->{ended};
    }

    return;
}


sub _upstream {
    my ($self, $conn) = @_;

    return 1 if $conn->{upstream};

    my $upstream = $conn->{upstream} = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $self->{redis}->port) or return;
    my $buffer = '';

    $upstream->blocking(0);

    $self->{reactor}->io($upstream => sub {
        my $n = sysread $upstream, $buffer, 262144, length $buffer;

        return if !defined $n && $!{EAGAIN};
        return $self->end($conn, 'closed') if !$n;

        while (my (undef, $next) = resp_parse($buffer, 0)) {
            my $reply = substr $buffer, 0, $next, '';
            my ($slot) = grep { $_->{wait} } @{ $conn->{slots} };

            # what was not asked for is a message of a channel

            push @{ $conn->{slots} }, $slot = { rule => {} } if !$slot;

            $slot->{reply} //= $reply;
            $slot->{wait} = 0;
        }

        $self->_flush($conn);
    })->watch($upstream, 1, 0);

    return 1;
}


sub _flush {
    my ($self, $conn) = @_;

    while ($conn->{slots} && @{ $conn->{slots} }) {
        my $slot = $conn->{slots}[0];
        my $rule = $slot->{rule};

        last if $slot->{wait};

        shift @{ $conn->{slots} };

        if ($rule->{delay}) {
            push @{ $conn->{steps} }, [ sleep => $rule->{delay} ];
        }

        push @{ $conn->{steps} },
             $rule->{fault} ? [ $rule->{fault} ]
             : defined $rule->{raw} ? $self->pieces($rule, $rule->{raw}, 1)
             : $self->_reply($rule, $slot->{reply});
    }

    $self->advance($conn);
    return;
}


sub _reply {
    my ($self, $rule, $reply) = @_;

    if (defined $rule->{cut} && $rule->{cut} < length $reply) {
        return $self->pieces($rule, substr($reply, 0, $rule->{cut}), 1);
    }

    if ($rule->{split}) {
        return map { ([ write => $_ ], [ sleep => $rule->{every} // 0.002 ]) }
                   unpack "(a$rule->{split})*", $reply;
    }

    return $self->pieces($rule, $reply);
}


sub closed {
    my ($self, $conn) = @_;

    if (my $upstream = delete $conn->{upstream}) {
        $self->{reactor}->remove($upstream);
        close $upstream;
    }

    return;
}


1;
