package RefundNotify::Test::Client;

# An HTTP/1.1 client on raw sockets, so that it can misbehave.
#
#   $client = RefundNotify::Test::Client->new(
#       port => $port,             of 127.0.0.1, or of
#       address => '::1',          this address
#       unix => $path)             a unix socket instead
#
#   $client->request($method, $path, \@headers, $body, %option)
#   $client->post($path, $notify, %option)     one of WeChatPay.pm's notifies
#   $client->parallel(\@requests, %option)     each [ $method, $path, \@headers,
#                                              $body ] on a socket of its own,
#                                              all at once; their responses
#   $client->connect                           a connection, see below
#   $client->curl(@arguments)                  curl's output, for HTTP/2
#
# Headers are a list of names and values; Host and Content-Length are added
# where they are missing.  Options: timeout (s, default 15); pieces (bytes sent
# at once) and pause (s between them); chunked (bytes in a chunk).
#
# A response is a hash: status (0 if none came), reason, headers (names in lower
# case), fields ([ name, value ] as received), body, time (s, from the last byte
# sent), at (the clock when it was whole), error ("" or closed, timeout, cut,
# not HTTP, or what the system said).
#
# A connection: write($bytes), request(...) as above and again, send(...) and
# read(%option) for the two halves of it (pipelining), finish (FIN: nothing more
# is sent), reset (RST), close, eof($seconds): true once the server has closed.

use strict;
use warnings;

use IO::Select;
use IO::Socket::IP;
use IO::Socket::UNIX;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(sleep time);

use RefundNotify::Test::Util qw(slow);


sub new {
    my ($class, %option) = @_;

    return bless { address => '127.0.0.1', host => 'localhost', %option },
                 $class;
}


sub connect {
    my ($self) = @_;

    my $socket = $self->{unix}
                 ? IO::Socket::UNIX->new(Peer => $self->{unix})
                 : IO::Socket::IP->new(PeerHost => $self->{address},
                                       PeerPort => $self->{port});

    return bless { error => "$!" }, 'RefundNotify::Test::Connection'
        if !$socket;

    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if !$self->{unix};
    $socket->blocking(0);

    return bless { socket => $socket, in => '', host => $self->{host} },
                 'RefundNotify::Test::Connection';
}


sub request {
    my ($self, $method, $path, $headers, $body, %option) = @_;

    my $connection = $self->connect;
    my $response = $connection->request($method, $path,
                                        [ @{ $headers || [] },
                                          Connection => 'close' ],
                                        $body, %option);
    $connection->close;
    return $response;
}


sub post {
    my ($self, $path, $notify, %option) = @_;

    return $self->request('POST', $path, $notify->{headers}, $notify->{body},
                          %option);
}


sub parallel {
    my ($self, $requests, %option) = @_;

    my $end = time + slow($option{timeout} // 15);
    my $select = IO::Select->new;
    my (@responses, %waiting);

    # connect all first, so that the requests leave as close as possible

    my @connections = map { $self->connect } @$requests;

    for my $i (0 .. $#connections) {
        my $connection = $connections[$i];

        $connection->send(@{ $requests->[$i] });

        if (!$connection->{socket}) {
            $responses[$i] = $connection->failed($connection->{error});
            next;
        }

        $connection->{index} = $i;
        $waiting{ fileno $connection->{socket} } = $connection;
        $select->add($connection->{socket});
    }

    while (%waiting) {
        my @ready = $select->can_read($end - time);

        if (!@ready) {
            for my $connection (values %waiting) {
                $responses[ $connection->{index} ]
                    = $connection->failed('timeout');
            }

            last;
        }

        for my $socket (@ready) {
            my $connection = $waiting{ fileno $socket };
            my $response = $connection->step or next;

            $responses[ $connection->{index} ] = $response;
            delete $waiting{ fileno $socket };
            $select->remove($socket);
        }
    }

    $_->close for @connections;
    return @responses;
}


sub curl {
    my ($self, @arguments) = @_;

    open my $pipe, '-|', 'curl', '-sS', '--max-time', slow(15), @arguments
        or die "curl: $!\n";
    local $/;
    my $output = <$pipe>;
    close $pipe;
    return $output;
}


package RefundNotify::Test::Connection;

use strict;
use warnings;

use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(sleep time);

use RefundNotify::Test::Util qw(slow);


sub request {
    my ($self, $method, $path, $headers, $body, %option) = @_;

    $self->send($method, $path, $headers, $body, %option);
    return $self->read(%option);
}


sub send {
    my ($self, $method, $path, $headers, $body, %option) = @_;

    my @headers = @{ $headers || [] };
    my %has;

    for (my $i = 0; $i < @headers; $i += 2) {
        $has{ lc $headers[$i] } = 1;
    }

    unshift @headers, Host => $self->{host} // 'localhost' if !$has{host};

    if (defined $body && $option{chunked}) {
        push @headers, 'Transfer-Encoding' => 'chunked';
        $body = join '', map { sprintf("%x\r\n", length) . "$_\r\n" }
                             unpack("(a$option{chunked})*", $body), '';

    } elsif (defined $body && !$has{'content-length'}
             && !$has{'transfer-encoding'})
    {
        push @headers, 'Content-Length' => length $body;
    }

    my $bytes = "$method $path HTTP/1.1\r\n";

    while (my ($name, $value) = splice @headers, 0, 2) {
        $bytes .= "$name: $value\r\n";
    }

    $self->{method} = $method;
    return $self->write("$bytes\r\n" . ($body // ''), %option);
}


sub write {
    my ($self, $bytes, %option) = @_;

    return if !$self->{socket};

    local $SIG{PIPE} = 'IGNORE';

    my $size = $option{pieces} || length $bytes || 1;
    my $end = time + slow($option{timeout} // 15);
    my $select = IO::Select->new($self->{socket});

    for my $piece (unpack "(a$size)*", $bytes) {
        while (length $piece) {
            last if !$select->can_write($end - time);

            my $n = syswrite $self->{socket}, $piece;

            if (defined $n) {
                substr $piece, 0, $n, '';

            } elsif (!$!{EAGAIN}) {
                $self->{error} = "$!";
                last;
            }
        }

        last if length $piece;
        sleep $option{pause} if $option{pause};
    }

    $self->{sent} = time;
    return;
}


sub read {
    my ($self, %option) = @_;

    return $self->failed($self->{error} // 'closed') if !$self->{socket};

    my $end = time + slow($option{timeout} // 15);
    my $select = IO::Select->new($self->{socket});
    my $response = $self->parse;

    while (!$response) {
        $response = $select->can_read($end - time) ? $self->step
                                                   : $self->failed('timeout');
    }

    return $response;
}


# Reads once; the response, if it is whole now or never will be.

sub step {
    my ($self) = @_;

    my $n = sysread $self->{socket}, $self->{in}, 262144, length $self->{in};

    return if !defined $n && $!{EAGAIN};

    my $error = defined $n ? 'closed' : "$!";

    $self->{eof} = 1 if !$n;

    return $self->parse // ($self->{eof} ? $self->failed($error) : undef);
}


# Takes one whole response off the input, or returns nothing.

sub parse {
    my ($self) = @_;

    # an interim response is not the answer

    $self->{in} =~ s{^HTTP/1\.1 1\d\d .*?\r\n\r\n}{}s;

    my $end = index $self->{in}, "\r\n\r\n";
    return if $end < 0;

    my ($line, @lines) = split /\r\n/, substr $self->{in}, 0, $end;
    my @fields = map { [ /^([^:]*):\s*(.*)$/ ] } @lines;
    my %headers = map { lc $_->[0] => $_->[1] } @fields;
    my (undef, $status, $reason) = split / /, $line, 3;

    return $self->failed('not HTTP') if ($status // '') !~ /^\d{3}$/;

    my ($next, $body, $error) = ($end + 4, '', '');

    if (($self->{method} // '') eq 'HEAD' || $status =~ /^(204|304)$/) {
        # no body

    } elsif (($headers{'transfer-encoding'} // '') =~ /chunked/) {
        while (1) {
            my $at = index $self->{in}, "\r\n", $next;
            my $size = $at < 0 ? 0 : hex substr $self->{in}, $next, $at - $next;

            if ($at < 0 || length $self->{in} < $at + 4 + $size) {
                return if !$self->{eof};
                $error = 'cut';
                last;
            }

            $body .= substr $self->{in}, $at + 2, $size;
            $next = $at + 4 + $size;
            last if !$size;
        }

    } elsif (defined $headers{'content-length'}) {
        my $length = $headers{'content-length'};

        if (length $self->{in} < $next + $length) {
            return if !$self->{eof};
            $error = 'cut';
        }

        $body = substr $self->{in}, $next, $length;
        $next += length $body;

    } else {
        return if !$self->{eof};
        $body = substr $self->{in}, $next;
        $next += length $body;
    }

    substr $self->{in}, 0, $next, '';

    return { status => $status, reason => $reason, fields => \@fields,
             headers => \%headers, body => $body, error => $error,
             time => time - $self->{sent}, at => time };
}


sub failed {
    my ($self, $error) = @_;

    return { status => 0, reason => '', fields => [], headers => {},
             body => $self->{in} // '', error => $error,
             time => $self->{sent} ? time - $self->{sent} : 0, at => time };
}


sub eof {
    my ($self, $seconds) = @_;

    my $end = time + slow($seconds // 5);
    my $select = IO::Select->new($self->{socket});

    while (!$self->{eof} && $select->can_read($end - time)) {
        my $n = sysread $self->{socket}, $self->{in}, 262144,
                        length $self->{in};

        $self->{eof} = 1 if !$n && !(!defined $n && $!{EAGAIN});
    }

    return $self->{eof};
}


sub finish {
    my ($self) = @_;

    return shutdown $self->{socket}, 1;
}


sub reset {
    my ($self) = @_;

    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    return $self->close;
}


sub close {
    my ($self) = @_;

    my $socket = delete $self->{socket} or return;
    return CORE::close $socket;
}


1;
