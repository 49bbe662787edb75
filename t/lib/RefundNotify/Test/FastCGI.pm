package RefundNotify::Test::FastCGI;

# A FastCGI responder that does what its rules say.  See Peer for the interface
# and what is common to all rules; here a rule may have also
#
#   status => 200, headers => [ name => value, ... ], body => bytes
#   stderr => text      sent before the answer
#   no_end => 1         the whole answer, but no END_REQUEST, and then "then"
#
# With "cut" neither the rest of the body nor END_REQUEST is sent.  php_fatal()
# is the rule that answers as PHP does after a fatal error with display_errors:
# HTTP 200.  A request has: method, path (of SCRIPT_NAME), params, body, id.

use strict;
use warnings;

use parent 'RefundNotify::Test::Peer';


my %TYPE = (begin => 1, end => 3, params => 4, stdin => 5, stdout => 6,
            stderr => 7);


sub php_fatal {
    return { headers => [ 'Content-Type' => 'text/html; charset=UTF-8',
                          'X-Powered-By' => 'PHP/8.2.7' ],
             body => "<br />\n<b>Fatal error</b>:  Uncaught Error: Call to "
                     . "undefined function book_refund() in /srv/index.php:3"
                     . "\nStack trace:\n#0 {main}\n  thrown in "
                     . "<b>/srv/index.php</b> on line <b>3</b><br />\n" };
}


sub parse {
    my ($self, $conn) = @_;

    while (length $conn->{in} >= 8) {
        my (undef, $type, $id, $length, $padding)
            = unpack 'CCnnC', $conn->{in};

        return if length $conn->{in} < 8 + $length + $padding;

        my $content = substr $conn->{in}, 8, $length;
        substr $conn->{in}, 0, 8 + $length + $padding, '';

        if ($type == $TYPE{begin}) {
            $conn->{request} = { fastcgi_id => $id, params => '', body => '',
                                 keep => (unpack 'nC', $content)[1] & 1 };

        } elsif ($type == $TYPE{params}) {
            $conn->{request}{params} .= $content;

        } elsif ($type == $TYPE{stdin} && $length) {
            $conn->{request}{body} .= $content;

        } elsif ($type == $TYPE{stdin}) {
            my $request = delete $conn->{request};
            my %params = pairs($request->{params});

            return { %$request, params => \%params,
                     method => $params{REQUEST_METHOD},
                     path => $params{SCRIPT_NAME},
                     id => $params{HTTP_WEBHOOK_ID} };
        }
    }

    return;
}


sub pairs {
    my ($bytes) = @_;

    my ($position, @words) = (0);

    while ($position < length $bytes) {
        my @lengths;

        for (1, 2) {
            my $length = unpack 'C', substr $bytes, $position;

            if ($length & 0x80) {
                $length = unpack('N', substr $bytes, $position) & 0x7fffffff;
                $position += 3;
            }

            $position++;
            push @lengths, $length;
        }

        for my $length (@lengths) {
            push @words, substr $bytes, $position, $length;
            $position += $length;
        }
    }

    return @words;
}


sub answer {
    my ($self, $conn, $request, $rule) = @_;

    my $id = $request->{fastcgi_id};
    my $body = $rule->{body} // '';
    my $head = 'Status: ' . ($rule->{status} // 200) . "\r\n";
    my @headers = @{ $rule->{headers} || [ 'Content-Type' => 'text/plain' ] };
    my $cut = defined $rule->{cut} && $rule->{cut} < length $body;

    while (my ($name, $value) = splice @headers, 0, 2) {
        $head .= "$name: $value\r\n";
    }

    my $bytes = packets($id, $TYPE{stderr}, $rule->{stderr} // '')
                . packets($id, $TYPE{stdout}, "$head\r\n"
                          . ($cut ? substr $body, 0, $rule->{cut} : $body));

    if ($cut || $rule->{no_end}) {
        return $self->pieces($rule, $bytes, 1);
    }

    $bytes .= packet($id, $TYPE{stdout}, '')
              . packet($id, $TYPE{end}, pack 'NCx3', 0, 0);

    return ($self->pieces($rule, $bytes), [ 'done' ],
            $request->{keep} ? () : [ 'close' ]);
}


sub packets {
    my ($id, $type, $content) = @_;

    return join '', map { packet($id, $type, $_) }
                        unpack '(a32768)*', $content;
}


sub packet {
    my ($id, $type, $content) = @_;

    return pack('CCnnCx', 1, $type, $id, length $content, 0) . $content;
}


1;
