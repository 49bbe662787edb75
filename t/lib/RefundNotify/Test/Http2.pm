package RefundNotify::Test::Http2;

# A small HTTP/2 client with prior knowledge, which can reset what it sent.
#
#   $http2 = RefundNotify::Test::Http2->new(port => $port,     connects
#       settings => $bytes)        what its SETTINGS say; nothing unless given
#   $stream = $http2->send($method, $path, \@headers, $body)   its number; a
#                                  body that is large waits for the server
#   $response = $http2->read($stream, $seconds)
#   $http2->receive($stream)       what has come so far, or comes next
#   $http2->reset($stream, $code)  RST_STREAM; 8 (CANCEL) unless given
#   $http2->close                  closes the connection
#
#   What is not as it should be is made of these:
#
#   $http2->stream                 the number of a new stream
#   $http2->frame($type, $flags, $stream, $payload)   sends it; $type is a name
#                                  of %FRAME or a number
#   $http2->write($bytes)          of as many frames as one likes
#   bytes($type, $flags, $stream, $payload)   those of a frame
#   block(@headers)                names and values, as HEADERS bear them
#   integer($text)                 a text after its length
#
# A response is a hash: status (0 if none came), body, error ("", closed,
# timeout, "reset CODE", or "goaway CODE").  Response headers that nginx sends
# in Huffman's code are not decoded, so only the status is told.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use List::Util qw(min);
use Time::HiRes qw(time);

use RefundNotify::Test::Util qw(slow);

my %FRAME = (data => 0, headers => 1, priority => 2, reset => 3, settings => 4,
             push => 5, ping => 6, goaway => 7, window => 8,
             continuation => 9);

my @STATUS = (200, 204, 206, 304, 400, 404, 500);


sub new {
    my ($class, %option) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $option{port})
        or die "port $option{port}: $!\n";

    my $self = bless { socket => $socket, next => 1, in => '',
                       streams => {} }, $class;

    $self->write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    $self->frame('settings', 0, 0, $option{settings} // '');
    return $self;
}


sub stream {
    my ($self) = @_;

    my $stream = $self->{next};

    $self->{next} += 2;
    $self->{streams}{$stream} = { status => 0, body => '', error => '',
                                  window => 65535 };
    return $stream;
}


sub send {
    my ($self, $method, $path, $headers, $body) = @_;

    my $stream = $self->stream;
    my @headers = @{ $headers || [] };
    my @pairs = (':method' => $method, ':scheme' => 'http', ':path' => $path,
                 ':authority' => 'localhost');

    while (my ($name, $value) = splice @headers, 0, 2) {
        push @pairs, lc $name, $value if $name !~ /^(?:connection|host)$/i;
    }

    $self->frame('headers', defined $body ? 4 : 5, $stream, block(@pairs));
    $self->_data($stream, $body) if defined $body;

    return $stream;
}


# Literals without indexing: a zero, then name and value with their lengths.

sub block {
    my (@headers) = @_;

    my $block = '';

    while (my ($name, $value) = splice @headers, 0, 2) {
        $block .= "\0" . integer($name) . integer($value);
    }

    return $block;
}


# In frames as large as any server takes, and no more than it allows; what ends
# early, by an answer, is not sent to its end.

sub _data {
    my ($self, $stream, $body) = @_;

    my $end = time + slow(15);
    my $response = $self->{streams}{$stream};

    while (!$response->{ended}) {
        my $size = min(length $body, 16384, $response->{window});

        if ($size || !length $body) {
            $response->{window} -= $size;
            $self->frame('data', $size == length $body ? 1 : 0, $stream,
                         substr $body, 0, $size, '');
            return if !length $body;

        } elsif (!$self->_receive($response, $end)) {
            return;
        }
    }

    return;
}


sub integer {
    my ($text) = @_;

    my $n = length $text;
    return pack('C', $n) . $text if $n < 127;

    my $bytes = "\x7f";

    for ($n -= 127; $n >= 128; $n >>= 7) {
        $bytes .= chr($n & 127 | 128);
    }

    return $bytes . chr($n) . $text;
}


sub frame {
    my ($self, $type, $flags, $stream, $payload) = @_;

    return $self->write(bytes($type, $flags, $stream, $payload));
}


sub bytes {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
           . pack('CCN', $FRAME{$type} // $type, $flags, $stream) . $payload;
}


sub reset {
    my ($self, $stream, $code) = @_;

    return $self->frame('reset', 0, $stream, pack 'N', $code // 8);
}


sub read {
    my ($self, $stream, $seconds) = @_;

    my $end = time + slow($seconds // 15);
    my $response = $self->{streams}{$stream};

    while (!$response->{ended}) {
        last if !$self->_receive($response, $end);
    }

    return $response;
}


sub receive {
    my ($self, $stream, $seconds) = @_;

    return $self->_receive($self->{streams}{$stream},
                           time + slow($seconds // 15));
}


sub _receive {
    my ($self, $response, $end) = @_;

    if (!IO::Select->new($self->{socket})->can_read($end - time)) {
        $response->{error} = 'timeout';
        return 0;
    }

    my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};

    if (!$n) {
        $response->{error} = defined $self->{goaway} ? "goaway $self->{goaway}"
                                                     : 'closed';
        return 0;
    }

    $self->_frames;
    return 1;
}


sub _frames {
    my ($self) = @_;

    while (length $self->{in} >= 9) {
        my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', $self->{in};
        my $length = $high << 16 | $low;

        return if length $self->{in} < 9 + $length;

        my $payload = substr $self->{in}, 9, $length;
        my $response = $self->{streams}{$stream};
        substr $self->{in}, 0, 9 + $length, '';

        if ($type == $FRAME{settings} && !($flags & 1)) {
            $self->frame('settings', 1, 0, '');

        } elsif ($type == $FRAME{ping} && !($flags & 1)) {
            $self->frame('ping', 1, 0, $payload);

        } elsif ($type == $FRAME{headers}) {
            $response->{status} = status($payload);

        } elsif ($type == $FRAME{data}) {
            $response->{body} .= $payload;

        } elsif ($type == $FRAME{window}) {
            $response->{window} += unpack 'N', $payload;

        } elsif ($type == $FRAME{goaway}) {
            $self->{goaway} = unpack 'x4 N', $payload;

        } elsif ($type == $FRAME{reset}) {
            $response->{error} = 'reset ' . unpack 'N', $payload;
            $response->{ended} = 1;
        }

        if (($type == $FRAME{headers} || $type == $FRAME{data}) && $flags & 1)
        {
            $response->{ended} = 1;
        }
    }

    return;
}


# The status comes first in the block: indexed, or a literal of three digits.

sub status {
    my ($block) = @_;

    # changes of the table's size may stand before it

    $block =~ s/^(?:\x3f[\x80-\xff]*[\x00-\x7f]|[\x20-\x3e])+//;

    my $first = ord $block;
    return $STATUS[$first - 0x88] if $first >= 0x88 && $first <= 0x8e;
    return $block =~ /^.\x03(\d{3})/s ? $1 : 0;
}


sub write {
    my ($self, $bytes) = @_;

    local $SIG{PIPE} = 'IGNORE';

    while (length $bytes) {
        my $n = syswrite $self->{socket}, $bytes or return 0;
        substr $bytes, 0, $n, '';
    }

    return 1;
}


sub close {
    my ($self) = @_;

    return CORE::close $self->{socket};
}


1;
