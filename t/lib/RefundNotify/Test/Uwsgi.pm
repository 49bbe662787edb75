package RefundNotify::Test::Uwsgi;

# A uwsgi server that does what its rules say.  See Peer for the interface and
# what is common to all rules; here a rule may have also
#
#   status => 200, headers => [ name => value, ... ], body => bytes
#   framing => 'close'  without Content-Length
#
# A request has: method, path (of REQUEST_URI), params, body, id.  As uwsgi has
# no keepalive, the connection ends with the answer.

use strict;
use warnings;

use parent 'RefundNotify::Test::Peer';


sub parse {
    my ($self, $conn) = @_;

    return if length $conn->{in} < 4;

    my (undef, $size) = unpack 'Cv', $conn->{in};
    return if length $conn->{in} < 4 + $size;

    my %params = unpack '(v/a)*', substr $conn->{in}, 4, $size;
    my $length = $params{CONTENT_LENGTH} || 0;
    return if length $conn->{in} < 4 + $size + $length;

    my $body = substr $conn->{in}, 4 + $size, $length;
    substr $conn->{in}, 0, 4 + $size + $length, '';

    return { params => \%params, body => $body,
             method => $params{REQUEST_METHOD},
             path => $params{REQUEST_URI},
             id => $params{HTTP_WEBHOOK_ID} };
}


sub answer {
    my ($self, $conn, $request, $rule) = @_;

    my $status = $rule->{status} // 200;
    my $body = $rule->{body} // '';
    my @headers = (@{ $rule->{headers} || [] },
                   ($rule->{framing} // '') eq 'close'
                   ? () : ('Content-Length' => length $body));
    my $head = "HTTP/1.1 $status Status\r\n";
    my $cut = defined $rule->{cut} && $rule->{cut} < length $body;

    while (my ($name, $value) = splice @headers, 0, 2) {
        $head .= "$name: $value\r\n";
    }

    if ($cut) {
        return $self->pieces($rule, "$head\r\n"
                             . substr($body, 0, $rule->{cut}), 1);
    }

    return ($self->pieces($rule, "$head\r\n$body"), [ 'done' ], [ 'close' ]);
}


1;
