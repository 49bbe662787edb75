package RefundNotify::Test::BusinessApp;

# The business app: an HTTP/1.1 server that does what its rules say.  See Peer
# for the interface and what is common to all rules; here a rule may have also
#
#   status => 200, headers => [ name => value, ... ], body => bytes
#   size => n           a body of n bytes instead
#   framing => how      length (the default), chunked, or close (HTTP/1.0's)
#   informational => [ 103, ... ]   sent before the answer
#   keepalive => 0      says "Connection: close" and closes
#   endless => s        a chunked body that never ends, a byte every s seconds
#   hang_up => 1        closes after an answer that promised to keep alive
#
# A request has: method, path, protocol, headers (names in lower case; repeated
# ones joined by ", "), fields ([ name, value ] as sent), body, id.

use strict;
use warnings;

use parent 'RefundNotify::Test::Peer';

use Mojo::Message::Response ();


my $messages = Mojo::Message::Response->new;


sub parse {
    my ($self, $conn) = @_;

    my $end = index $conn->{in}, "\r\n\r\n";
    return if $end < 0;

    my ($line, @lines) = split /\r\n/, substr $conn->{in}, 0, $end;
    my ($method, $path, $protocol) = split / /, $line;
    my (@fields, %headers, $body);

    for (@lines) {
        my ($name, $value) = /^([^:]+):\s*(.*?)\s*$/ or next;

        push @fields, [ $name, $value ];
        $headers{ lc $name } = defined $headers{ lc $name }
                               ? "$headers{ lc $name }, $value" : $value;
    }

    my $next = $end + 4;

    if (($headers{'transfer-encoding'} // '') =~ /chunked/i) {
        ($body, $next) = unchunk($conn->{in}, $next) or return;

    } else {
        my $length = $headers{'content-length'} // 0;

        return if length $conn->{in} < $next + $length;

        $body = substr $conn->{in}, $next, $length;
        $next += $length;
    }

    substr $conn->{in}, 0, $next, '';

    return { method => $method, path => $path, protocol => $protocol,
             headers => \%headers, fields => \@fields, body => $body,
             id => $headers{'webhook-id'} };
}


sub unchunk {
    my ($bytes, $position) = @_;

    my $body = '';

    while (1) {
        my $end = index $bytes, "\r\n", $position;
        return () if $end < 0;

        my $size = hex substr $bytes, $position, $end - $position;
        my $next = $end + 2 + $size;
        return () if length $bytes < $next + 2;

        return ($body, $next + 2) if !$size;

        $body .= substr $bytes, $end + 2, $size;
        $position = $next + 2;
    }
}


sub answer {
    my ($self, $conn, $request, $rule) = @_;

    my $status = $rule->{status} // 200;
    my $body = defined $rule->{size} ? 'x' x $rule->{size}
                                     : $rule->{body} // '';
    my $framing = $rule->{endless} ? 'chunked' : $rule->{framing} // 'length';
    my @headers = @{ $rule->{headers} || [] };
    my $last = ($rule->{keepalive} // 1) == 0 || $framing eq 'close'
               || lc($request->{headers}{connection} // '') eq 'close'
               || $request->{protocol} eq 'HTTP/1.0';
    my $bodiless = $status == 204 || $status == 304;

    push @headers, Connection => 'close' if $last;

    if (!$bodiless && $framing eq 'length') {
        push @headers, 'Content-Length' => length $body;

    } elsif (!$bodiless && $framing eq 'chunked') {
        push @headers, 'Transfer-Encoding' => 'chunked';
    }

    my $head = join '', map { status_line($_) . "\r\n" }
                            @{ $rule->{informational} || [] };
    $head .= status_line($status);

    while (my ($name, $value) = splice @headers, 0, 2) {
        $head .= "$name: $value\r\n";
    }

    $head .= "\r\n";

    if ($rule->{endless}) {
        return ([ write => $head ],
                [ repeat => "1\r\nx\r\n", $rule->{endless} ]);
    }

    my $cut = defined $rule->{cut} && $rule->{cut} < length $body;

    if ($bodiless) {
        $body = '';

    } elsif ($framing eq 'chunked') {
        my $size = sprintf '%x', length $body;

        $body = length $body
                ? "$size\r\n" . ($cut ? substr $body, 0, $rule->{cut}
                                      : "$body\r\n0\r\n\r\n")
                : "0\r\n\r\n";

    } elsif ($cut) {
        $body = substr $body, 0, $rule->{cut};
    }

    return $self->pieces($rule, $head . $body, 1) if $cut;

    return ($self->pieces($rule, $head . $body), [ 'done' ],
            $last || $rule->{hang_up} ? [ 'close' ] : ());
}


sub status_line {
    my ($status) = @_;

    return "HTTP/1.1 $status "
           . ($messages->default_message($status) || 'Unknown') . "\r\n";
}


1;
