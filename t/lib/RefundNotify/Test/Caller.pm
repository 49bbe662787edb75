package RefundNotify::Test::Caller;

# A business app that asks for refunds: a Client that speaks JSON.
#
#   $caller->body(%fields)         a refund's fields: a hash, out_refund_no
#                                  and transaction_id of its own, 1 fen of 1;
#                                  those given replace, undef leaves out, and
#                                  amount's replace amount's
#   $caller->create($location, %fields)     POST of such a body
#   $caller->call($method, $path, $body)    a hash is sent as JSON
#
# The two return a Client's response with also json (what the body says) and
# line, all of the answer but data in one line:
#
#   200 accepted
#   400 rejected PARAM_ERROR amount.refund
#   404 rejected RESOURCE_NOT_EXISTS (REFUNDNOTEXIST)
#   502 unknown UNVERIFIED_RESPONSE retryable
#
# with the field if there is one, provider_code in brackets if it is another.
# What is not as it has to be stands there as it came.

use strict;
use warnings;
use utf8;

use parent 'RefundNotify::Test::Client';

use JSON::XS ();

my $json = JSON::XS->new->utf8->canonical;
my $count = 0;


sub body {
    my ($self, %fields) = @_;

    my $n = sprintf '%d%06d', $$, ++$count;
    my $amount = exists $fields{amount} ? delete $fields{amount} : {};
    my %body = (out_refund_no => "refund$n",
                exists $fields{out_trade_no}
                ? () : (transaction_id => "420000$n"), %fields);

    $body{amount} = ref $amount eq 'HASH'
                    ? defined_only({ refund => 1, total => 1,
                                     currency => 'CNY', %$amount })
                    : $amount;

    return defined_only(\%body);
}


sub defined_only {
    my ($hash) = @_;

    return { map { $_ => $hash->{$_} } grep { defined $hash->{$_} }
                                            keys %$hash };
}


sub create {
    my ($self, $location, %fields) = @_;

    return $self->call('POST', $location, $self->body(%fields));
}


sub call {
    my ($self, $method, $path, $body, %option) = @_;

    my $headers = defined $body
                  ? [ 'Content-Type' => 'application/json' ] : [];

    return read_answer($self->request(
        $method, $path, $headers,
        ref $body ? $json->encode($body) : $body, %option));
}


sub read_answer {
    my ($response) = @_;

    my $answer = eval { $json->decode($response->{body}) };
    my $type = $response->{headers}{'content-type'} // '-';

    $response->{json} = ref $answer eq 'HASH' ? $answer : {};
    $response->{line} = join ' ', $response->{status}, line($answer),
                        $type eq 'application/json' ? () : "($type)",
                        $response->{error} || ();

    $response->{line} .= " $response->{body}" if !$answer;
    return $response;
}


sub line {
    my ($answer) = @_;

    return 'no JSON' if ref $answer ne 'HASH';

    my $outcome = $answer->{outcome} // '';

    if ($outcome eq 'accepted') {
        my $members = join ' ', sort keys %$answer;

        return $members eq 'api_version data merchant outcome provider'
               && $answer->{provider} eq 'wechatpay'
               && ref $answer->{data} eq 'HASH' ? $outcome : $members;
    }

    my $error = $answer->{error};

    return join ' ', 'odd', sort keys %$answer
        if $outcome !~ /^(?:rejected|unknown)$/ || ref $error ne 'HASH'
           || join(' ', sort keys %$answer) ne 'error outcome'
           || !JSON::XS::is_bool($error->{retryable})
           || grep { !/^(?:code|provider_code|message|field|retryable)$/ }
                   keys %$error;

    my $provider = $error->{provider_code} // $error->{code};

    return join ' ', $outcome, $error->{code}, $error->{field} // (),
                $provider eq $error->{code} ? () : "($provider)",
                $error->{retryable} ? 'retryable' : ();
}


1;
