package RefundNotify::Test::Scgi;

# An SCGI server that does what its rules say: Uwsgi's rules, answers and
# requests, in SCGI's form (path is SCRIPT_NAME's).

use strict;
use warnings;

use parent 'RefundNotify::Test::Uwsgi';


sub parse {
    my ($self, $conn) = @_;

    # a netstring of names and values that NULs end, and then the body

    my ($digits) = $conn->{in} =~ /^(\d+):/ or return;
    my $start = length($digits) + 1;
    my $end = $start + $digits + 1;
    return if length $conn->{in} < $end;

    my %params = unpack '(Z*)*', substr $conn->{in}, $start, $digits;
    my $length = $params{CONTENT_LENGTH} || 0;
    return if length $conn->{in} < $end + $length;

    my $body = substr $conn->{in}, $end, $length;
    substr $conn->{in}, 0, $end + $length, '';

    return { params => \%params, body => $body,
             method => $params{REQUEST_METHOD},
             path => $params{SCRIPT_NAME},
             id => $params{HTTP_WEBHOOK_ID} };
}


1;
