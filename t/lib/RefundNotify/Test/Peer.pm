package RefundNotify::Test::Peer;

# A scripted server in a process of its own: the base of BusinessApp, FastCGI,
# Uwsgi and ScriptedRedis, which add the protocol.  It ends with the test.
#
#   $peer = CLASS->new(rules => [ {...}, ... ], port => $port)
#   $peer->port
#   $peer->rules({...}, ...)       replaces the rules, from the next request on
#   $peer->accepting($how)         yes; no: refuses connections; close, reset:
#                                  ends each at once; hang: never reads
#   $peer->vanished($yes)          to its clients it is as if its machine were
#                                  gone (1), or there again (0): no packet that
#                                  comes is seen; Linux
#   $peer->drop                    closes every connection, as a restart does
#   $peer->requests                what came so far, in order: hashes with n,
#                                  connection, time, what the protocol adds,
#                                  and "ended" (a time) and "how": answered,
#                                  closed, reset (by a rule), left (by nginx)
#   $peer->wait_for($n, $seconds)  waits for n requests; true if they came
#   $peer->settle($seconds)        waits until each request has ended
#   $peer->forget                  forgets the requests so far
#   $peer->stop
#
# A rule is a hash.  The first that matches a request answers it; none: 200.
# Whom it matches: path, method, id (the webhook-id), and for Redis command and
# key: a string or qr//; after "skip" matches (0), for "times" matches (all).
# What it does is the protocol's; common to all:
#
#   delay => s      waits first
#   fault => how    close, reset or hang, instead of an answer
#   cut => n        only n bytes of the body (of Redis' reply), and then:
#   then => how     close (the default), reset or hang
#   every => s      the answer byte by byte, one every s seconds
#   raw => bytes    these bytes and then close (or "then")

use strict;
use warnings;

use IO::Handle;
use IO::Socket::INET;
use JSON::XS ();
use Mojo::Reactor::Poll;
use POSIX ();
use Socket qw(AF_UNIX PF_UNSPEC SOCK_STREAM SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

use RefundNotify::Test::Util
    qw(scratch_dir free_port wait_until stop_process adopt);
use RefundNotify::Test::Schema qw(received);

my $json = JSON::XS->new->ascii->canonical;
my $count = 0;
my @peers;


sub new {
    my ($class, %option) = @_;

    my $self = bless {
        port => $option{port} // free_port(),
        log => scratch_dir() . '/' . lc($class =~ s/.*:://r) . '-'
               . ++$count . '.jsonl',
        seen => [],
        read => 0,
        base => 0,
        %option,
    }, $class;

    $self->{listener} = $self->_listen;
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC
        or die "socketpair: $!\n";

    $self->{pid} = fork // die "fork: $!\n";

    if (!$self->{pid}) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM);
        $SIG{PIPE} = 'IGNORE';
        close $ours;

        eval { $self->_run($theirs); 1 } or print STDERR "# peer: $@";
        POSIX::_exit(0);
    }

    adopt($self->{pid});
    delete $self->{listener};
    close $theirs;
    $ours->autoflush(1);
    $self->{control} = $ours;

    $self->rules(@{ $option{rules} || [] });
    push @peers, $self;

    return $self;
}


# What any of them received and was not asked for yet is noted as well.

sub read_all {
    $_->requests for @peers;
    return;
}


sub port {
    my ($self) = @_;

    return $self->{port};
}


sub rules {
    my ($self, @rules) = @_;

    # JSON has no patterns: they travel as text, which perl begins with (?^

    return $self->_control(rules => [
        map { my $rule = $_;
              +{ map { $_ => ref $rule->{$_} eq 'Regexp' ? "$rule->{$_}"
                                                         : $rule->{$_} }
                 keys %$rule } } @rules
    ]);
}


sub accepting {
    my ($self, $how) = @_;

    return $self->_control(accepting => $how);
}


sub vanished {
    my ($self, $yes) = @_;

    return $self->_control(vanished => $yes);
}


sub drop {
    my ($self) = @_;

    return $self->_control('drop');
}


sub requests {
    my ($self) = @_;

    open my $file, '<:raw', $self->{log} or return;
    seek $file, $self->{read}, 0;

    while (my $line = <$file>) {
        last if $line !~ /\n\z/;

        $self->{read} += length $line;
        my $record = $json->decode($line);
        my $n = $record->{n} - 1;

        received($record);
        $self->{seen}[$n] = { %{ $self->{seen}[$n] || {} }, %$record };
    }

    my @seen = @{ $self->{seen} };
    splice @seen, 0, $self->{base};
    return @seen;
}


sub wait_for {
    my ($self, $n, $seconds) = @_;

    return wait_until(sub { $self->requests >= $n }, $seconds);
}


sub settle {
    my ($self, $seconds) = @_;

    return wait_until(sub { !grep { !$_->{ended} } $self->requests },
                      $seconds);
}


sub forget {
    my ($self) = @_;

    $self->requests;
    $self->{base} = @{ $self->{seen} };
    return;
}


sub stop {
    my ($self) = @_;

    return if !$self->{pid};

    close $self->{control};
    stop_process(delete $self->{pid}, 'KILL');
    return;
}


sub _control {
    my ($self, @words) = @_;

    my $control = $self->{control};

    print $control $json->encode(\@words), "\n";
    (readline($control) // '') eq "ok\n" or die ref $self, ": @words failed\n";
    return;
}


sub _listen {
    my ($self) = @_;

    return IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp',
                                 LocalPort => $self->{port}, Listen => 1024,
                                 ReuseAddr => 1, Blocking => 0)
           || die "port $self->{port}: $!\n";
}


# What follows runs in the server's own process.


sub _run {
    my ($self, $control) = @_;

    my $reactor = $self->{reactor} = Mojo::Reactor::Poll->new;
    my $buffer = '';

    $reactor->on(error => sub { print STDERR "# peer: $_[1]" });

    open $self->{out}, '>>:raw', $self->{log} or die "$self->{log}: $!\n";
    $self->{how} = 'yes';
    $self->{rule_list} = [];
    $self->{connections} = {};

    $reactor->io($control => sub {
        sysread($control, $buffer, 65536, length $buffer)
            or POSIX::_exit(0);

        while ($buffer =~ s/^(.*)\n//) {
            my $words = $json->decode($1);
            my $ok = eval { $self->_command(@$words); 1 };
            syswrite $control, $ok ? "ok\n" : "$@\n";
        }
    })->watch($control, 1, 0);

    $self->_accept_on;
    $reactor->start;
    return;
}


sub _command {
    my ($self, $word, $value) = @_;

    if ($word eq 'rules') {
        $self->{rule_list} = $value;

    } elsif ($word eq 'drop') {
        $self->end($_, 'closed') for values %{ $self->{connections} };

    } elsif ($word eq 'vanished') {

        # a filter in front of the socket that lets no byte through, as
        # socket(7) says; a number that Socket does not know

        my $filter = pack 'SCCL', 0x06, 0, 0, 0;

        for my $socket ($self->{listener},
                        map { $_->{socket} } values %{ $self->{connections} })
        {
            setsockopt $socket, SOL_SOCKET, $value ? 26 : 27,
                       $value ? pack('S x!8 P', 1, $filter) : pack('i', 0)
                or die "setsockopt: $!\n";
        }

    } elsif ($word eq 'accepting') {
        if ($value eq 'no') {
            $self->{reactor}->remove($self->{listener});
            close delete $self->{listener};

        } elsif ($self->{how} eq 'no') {
            $self->{listener} = $self->_listen;
            $self->_accept_on;
        }

        $self->{how} = $value;
    }

    return;
}


sub _accept_on {
    my ($self) = @_;

    my $listener = $self->{listener};

    $self->{reactor}->io($listener => sub {
        while (my $socket = $listener->accept) {
            $self->_accepted($socket);
        }
    })->watch($listener, 1, 0);

    return;
}


sub _accepted {
    my ($self, $socket) = @_;

    my $conn = { socket => $socket, in => '', out => '', steps => [],
                 number => ++$self->{accepted} };

    $socket->blocking(0);
    $self->{connections}{ $conn->{number} } = $conn;

    if ($self->{how} eq 'close' || $self->{how} eq 'reset') {
        $self->end($conn, $self->{how} eq 'close' ? 'closed' : 'reset');
        return;
    }

    return if $self->{how} eq 'hang';

    $self->{reactor}->io($socket => sub {
        my ($reactor, $writable) = @_;

        $writable ? $self->advance($conn) : $self->_readable($conn);
    })->watch($socket, 1, 0);

    return;
}


sub _readable {
    my ($self, $conn) = @_;

    my $n = sysread $conn->{socket}, $conn->{in}, 262144, length $conn->{in};

    return if !defined $n && $!{EAGAIN};

    if (!$n) {
        $self->end($conn, 'left');
        return;
    }

    $self->input($conn);
    return;
}


# The usual protocol: one request, one answer.  parse() takes a whole request
# off $conn->{in}; answer() says how it is answered, in steps:
#
#   [write => bytes] [sleep => s] [drip => bytes, s] [repeat => bytes, s]
#   [close] [reset] [hang] [done] [call => code]

sub input {
    my ($self, $conn) = @_;

    while (!$conn->{current} && !$conn->{ended}) {
        my $request = $self->parse($conn) or return;

        $conn->{current} = $request;
        $self->record($conn, $request);

        my $rule = $self->find_rule($request);

        push @{ $conn->{steps} },
             $rule->{delay} ? [ sleep => $rule->{delay} ] : (),
             $rule->{fault} ? [ $rule->{fault} ]
             : defined $rule->{raw} ? $self->pieces($rule, $rule->{raw}, 1)
             : $self->answer($conn, $request, $rule);

        $self->advance($conn);
    }

    return;
}


# The steps that send bytes as the rule wants them sent; $last: and then end.

sub pieces {
    my ($self, $rule, $bytes, $last) = @_;

    return ($rule->{every} ? [ drip => $bytes, $rule->{every} ]
                           : [ write => $bytes ],
            $last ? [ $rule->{then} // 'close' ] : ());
}


sub record {
    my ($self, $conn, $request) = @_;

    $request->{n} = ++$self->{n};
    $request->{connection} = $conn->{number};
    $request->{time} = time;
    syswrite $self->{out}, $json->encode($request) . "\n";
    return;
}


sub ended {
    my ($self, $conn, $how) = @_;

    if (my $request = delete $conn->{current}) {
        syswrite $self->{out}, $json->encode({ n => $request->{n}, how => $how,
                                               ended => time }) . "\n";
    }

    return;
}


sub find_rule {
    my ($self, $request) = @_;

    RULE: for my $rule (@{ $self->{rule_list} }) {
        for my $name (qw(path method id command key)) {
            my $want = $rule->{$name} // next;
            my $have = $request->{$name} // '';

            next RULE if $want =~ /^\(\?\^/ ? $have !~ $want : $have ne $want;
        }

        my $used = ++$rule->{used} - ($rule->{skip} // 0);

        next if $used <= 0 || $used > ($rule->{times} // $used);
        return $rule;
    }

    return {};
}


sub advance {
    my ($self, $conn) = @_;

    my $reactor = $self->{reactor};

    while (!$conn->{ended} && !$conn->{timer}) {
        if (length $conn->{out}) {
            my $n = syswrite $conn->{socket}, $conn->{out};

            if (!defined $n && $!{EAGAIN}) {
                $reactor->watch($conn->{socket}, 1, 1);
                return;
            }

            return $self->end($conn, 'left') if !defined $n;

            substr $conn->{out}, 0, $n, '';
            next;
        }

        my $step = shift @{ $conn->{steps} };

        if (!$step) {
            $reactor->watch($conn->{socket}, 1, 0);
            $self->input($conn) if !$conn->{current} && length $conn->{in};
            return;
        }

        my ($what, $value, $seconds) = @$step;

        if ($what eq 'write') {
            $conn->{out} = $value;

        } elsif ($what eq 'drip' || $what eq 'repeat') {
            next if !length $value;

            $conn->{out} = $what eq 'drip' ? substr($value, 0, 1, '') : $value;
            unshift @{ $conn->{steps} }, [ sleep => $seconds // 0 ],
                                         [ $what, $value, $seconds ];

        } elsif ($what eq 'sleep') {
            $reactor->watch($conn->{socket}, 1, 0);
            $conn->{timer} = $reactor->timer($value => sub {
                delete $conn->{timer};
                $self->advance($conn);
            });

        } elsif ($what eq 'close') {
            $self->end($conn, 'closed');

        } elsif ($what eq 'reset') {
            $self->end($conn, 'reset');

        } elsif ($what eq 'hang') {
            $conn->{steps} = [];

        } elsif ($what eq 'call') {
            $value->();

        } elsif ($what eq 'done') {
            $self->ended($conn, 'answered');
        }
    }

    return;
}


sub end {
    my ($self, $conn, $how) = @_;

    return if $conn->{ended}++;

    $self->ended($conn, $how);
    $self->{reactor}->remove($conn->{timer}) if $conn->{timer};
    $self->{reactor}->remove($conn->{socket});
    delete $self->{connections}{ $conn->{number} };

    if ($how eq 'reset') {
        setsockopt $conn->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    }

    close $conn->{socket};
    $self->closed($conn);
    return;
}


sub closed { return }


1;
