#!/usr/bin/perl

# Three outcomes and never two: each error code of WeChat Pay's; answers that
# are forged, cut, late or missing, of which none is believed; calls that are
# made once, whatever becomes of them; what is refused here, because it would
# fail there or be another refund.

use lib 't/lib';
use utf8;
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(write_file);

use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store local shm:1m;

    # no keepalive: nginx would use a connection again with another location's
    # client certificate

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%% max_fails=0;
        %%SECOND_PEER%%
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location /v3 {
            refund_request shop;
            refund_request_pass /internal/shop;
            refund_request_error_rate 1000r/s;
        }

        location /v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/shop;
            refund_request_error_rate 1000r/s;
        }

        location /md5 {
            refund_request md5;
            refund_request_api v2;
            refund_request_pass /internal/md5;
            refund_request_error_rate 1000r/s;
        }

        location /hurried/v3 {
            refund_request shop;
            refund_request_pass /internal/shop;
            refund_request_error_rate 1000r/s;
            refund_request_deadline 600ms;
        }

        location /hurried/v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/shop;
            refund_request_error_rate 1000r/s;
            refund_request_deadline 600ms;
        }

        location /impatient {
            refund_request shop;
            refund_request_pass /internal/shop/impatient;
        }

        location /limited {
            refund_request md5;
            refund_request_api v2;
            refund_request_pass /internal/md5;
            refund_request_error_rate 1r/s;
        }

        location /stored {
            refund_request shop;
            refund_request_pass /internal/shop;
            refund_request_error_rate 1000r/s;
            refund_request_store local;
            refund_request_deadline 3s;
        }

        location /agent/stored {
            refund_request agent;
            refund_request_pass /internal/shop;
            refund_request_store local;
        }

        location /anonymous {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/anonymous;
            refund_request_error_rate 1000r/s;
        }

        location /stranger {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/stranger;
            refund_request_error_rate 1000r/s;
        }

        location /exchanged {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/md5;
            refund_request_error_rate 1000r/s;
        }

        location /internal/shop/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/shop-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/shop-apiclient_key.pem;
            %%INCLUDE%%

            location /internal/shop/impatient/ {
                proxy_pass https://api.mch.weixin.qq.com/;
                proxy_read_timeout 300ms;
            }
        }

        location /internal/md5/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/md5-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/md5-apiclient_key.pem;
            %%INCLUDE%%
        }

        location /internal/anonymous/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            %%INCLUDE%%
        }

        location /internal/stranger/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/stranger.pem;
            proxy_ssl_certificate_key %%FILES%%/stranger.key;
            %%INCLUDE%%
        }
    }
}
EOC

my $dir = scratch_dir();
my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx8888888888888881' ],
                          merchant_serial => '5157F09EFDC047057A01');
my $md5 = $pay->merchant(name => 'md5', app_id => [ 'wx8888888888888882' ],
                         v2_sign_type => 'MD5',
                         merchant_serial => '5157F09EFDC047057A02');
my $agent = $pay->merchant(name => 'agent', app_id => [ 'wx8888888888888883' ],
                           sub_mch_id => [ '1900000998', '1900000999' ],
                           merchant_serial => '5157F09EFDC047057A03');
my @shops = ($shop, $md5, $agent);

write_file("$dir/stranger.key", rsa_key('stranger')->export_key_pem('private'),
           0600);
write_file("$dir/stranger.pem", certificate(rsa_key('stranger'),
                                            serial => '07',
                                            name => $shop->{mch_id}));

my $server = wechatpay_server(merchants => \@shops);
my $nginx = start($conf, $server);
my $caller = caller_of($nginx);


# Each code: [ WeChat Pay's, what the business app is told ]

for ([ 'SYSTEM_ERROR', '502 unknown SYSTEM_ERROR retryable' ],
     [ 'USER_ACCOUNT_ABNORMAL', '403 rejected USER_ACCOUNT_ABNORMAL' ],
     [ 'NOT_ENOUGH', '403 rejected NOT_ENOUGH' ],
     [ 'PARAM_ERROR', '400 rejected PARAM_ERROR' ],
     [ 'MCH_NOT_EXISTS', '404 rejected MCH_NOT_EXISTS' ],
     [ 'RESOURCE_NOT_EXISTS', '404 rejected RESOURCE_NOT_EXISTS' ],
     [ 'SIGN_ERROR', '401 rejected SIGN_ERROR' ],
     [ 'FREQUENCY_LIMITED', '429 rejected FREQUENCY_LIMITED retryable' ],
     [ 'INVALID_REQUEST', '400 rejected INVALID_REQUEST' ],
     [ 'NO_AUTH', '403 rejected NO_AUTH' ],
     [ 'NO_WISH', '403 rejected NO_WISH', status => 403 ],
     [ 'NEVER_HEARD_OF', '403 rejected NEVER_HEARD_OF', status => 403 ],
     (map { [ $_, "502 unknown $_ retryable", status => 503 ] }
          'NEVER_HEARD_OF', 'SYSTEM_OTHER'),
     [ 'NOT_ENOUGH', '502 unknown NOT_ENOUGH retryable', status => 500 ])
{
    my ($code, $line, %rule) = @$_;

    $server->rules({ code => $code, message => '余额"不足"', %rule });
    error_is('/v3', $code, $line);
}

for ([ 'SYSTEMERROR', '502 unknown SYSTEM_ERROR (SYSTEMERROR) retryable' ],
     [ 'BIZERR_NEED_RETRY',
       '502 unknown SYSTEM_ERROR (BIZERR_NEED_RETRY) retryable' ],
     [ 'TRADE_OVERDUE', '403 rejected TRADE_OVERDUE' ],
     [ 'ERROR', '400 rejected ERROR' ],
     [ 'USER_ACCOUNT_ABNORMAL', '403 rejected USER_ACCOUNT_ABNORMAL' ],
     [ 'INVALID_REQ_TOO_MUCH',
       '429 rejected FREQUENCY_LIMITED (INVALID_REQ_TOO_MUCH) retryable' ],
     [ 'NOTENOUGH', '403 rejected NOT_ENOUGH (NOTENOUGH)' ],
     [ 'INVALID_TRANSACTIONID',
       '400 rejected PARAM_ERROR (INVALID_TRANSACTIONID)' ],
     [ 'PARAM_ERROR', '400 rejected PARAM_ERROR' ],
     [ 'APPID_NOT_EXIST', '404 rejected APPID_NOT_EXIST' ],
     [ 'MCHID_NOT_EXIST', '404 rejected MCH_NOT_EXISTS (MCHID_NOT_EXIST)' ],
     [ 'ORDERNOTEXIST', '404 rejected RESOURCE_NOT_EXISTS (ORDERNOTEXIST)' ],
     [ 'REFUNDNOTEXIST',
       '404 rejected RESOURCE_NOT_EXISTS (REFUNDNOTEXIST)' ],
     [ 'REQUIRE_POST_METHOD',
       '400 rejected INVALID_REQUEST (REQUIRE_POST_METHOD)' ],
     [ 'SIGNERROR', '401 rejected SIGN_ERROR (SIGNERROR)' ],
     [ 'XML_FORMAT_ERROR',
       '400 rejected PARAM_ERROR (XML_FORMAT_ERROR)' ],
     [ 'FREQUENCY_LIMITED', '429 rejected FREQUENCY_LIMITED retryable' ],
     [ 'NEVER_HEARD_OF', '400 rejected NEVER_HEARD_OF' ])
{
    my ($code, $line) = @$_;

    $server->rules({ code => $code, message => '余额"不足"' });
    error_is($_, $code, $line) for '/v2', '/md5';
}


# The signature is found behind more headers than nginx keeps in one piece.

$server->rules({ headers => [ map { ("X-Trace-$_" => 'x') } 1 .. 50 ] });
is($caller->create('/v3')->{line}, '200 accepted', 'an answer of many headers');


# A system error is the one that is asked again: as a call of its own, about the
# same refund, and only while there is time.

for ([ 'v3', 'SYSTEM_ERROR' ], [ 'v2', 'SYSTEMERROR' ],
     [ 'v2', 'BIZERR_NEED_RETRY' ])
{
    my ($version, $code) = @$_;

    $server->rules({ code => $code, booked => 1, times => 1 });
    $server->forget;

    my $body = $caller->body;

    is($caller->call('POST', "/$version", $body)->{line}, '200 accepted',
       "$version: $code, and then the refund");
    is_deeply([ $server->calls ], [ ("create $body->{out_refund_no}") x 2 ],
              'asked twice');
    is_deeply([ $server->problems ], [], 'each time rightly');

    $server->rules({ code => $code });
    $server->forget;
    like($caller->create("/hurried/$version")->{line},
         qr/^502 unknown SYSTEM_ERROR/, 'without time');
    is(scalar $server->requests, 1, 'asked once');
}


# What is refused on the way says nothing of the first time.

for (qw(v3 v2)) {
    $server->rules({ code => $_ eq 'v3' ? 'SYSTEM_ERROR' : 'SYSTEMERROR',
                     booked => 1, times => 1 },
                   { code => 'FREQUENCY_LIMITED' });

    my $body = $caller->body;

    is($caller->call('POST', "/$_", $body)->{line},
       '502 unknown FREQUENCY_LIMITED retryable',
       "$_: a system error, and then too often");
    $server->rules;
    is($caller->call('POST', "/$_", $body)->{line}, '200 accepted',
       'it was refunded the first time');
}


# Nor does it when no connection is free for the second time: what was booked
# the first time is not known, and its number stays taken.

my $narrow = start($conf =~ s/processes 2/processes 1/r
                         =~ s/connections 256/connections 12/r, $server);
my $asking = caller_of($narrow);
my $tries = 0;
my ($booked, $told);

$narrow->allow(qr/12 worker_connections are not enough/);

do {
    my $connection = $asking->connect;

    $booked = $asking->body(sub_mch_id => '1900000998',
                            amount => { refund => 9, total => 10 });
    $server->rules({ code => 'SYSTEM_ERROR', booked => 1, times => 1 });
    $server->forget;
    $connection->send('POST', '/agent/stored',
                      [ 'Content-Type' => 'application/json' ],
                      JSON::XS::encode_json($booked));
    $server->wait_for(1) && $server->settle or die "nothing was asked\n";

    # all of them are taken, in the second before it is asked again

    my @others = map { $asking->connect } 1 .. 24;

    $_->write('P') for @others;
    $told = RefundNotify::Test::Caller::read_answer($connection->read)->{line};
    $_->close for $connection, @others;
} while ($told eq '200 accepted' && ++$tries < 5);

is($told, '502 unknown INTERNAL_ERROR retryable',
   'a system error, and then no connection is free');

ok(wait_until(sub {
    my $other = { %$booked, amount => { %{ $booked->{amount} }, refund => 8 } };

    return $asking->call('POST', '/agent/stored', $other)->{line}
           eq '409 rejected CONFLICT';
}), 'another amount is refused');
is_deeply([ $server->calls ], [ "create $booked->{out_refund_no}" ],
          'it was asked once');
ok(wait_until(sub {
    return $asking->call('POST', '/agent/stored', $booked)->{line}
           eq '200 accepted';
}), 'the same call again is accepted');
is($server->refund($booked->{out_refund_no})->{refund}, 9,
   'it was refunded the first time');


# What cannot be believed: [ what happens, the rule, what the business app is
# told ].  Whatever it is, the refund was asked for once, and the same call
# again finds it.

my $unverified = '502 unknown UNVERIFIED_RESPONSE retryable';
my $malformed = '502 unknown MALFORMED_RESPONSE retryable';
my $mismatched = '502 unknown MISMATCHED_RESPONSE retryable';
my $nothing = '502 unknown NO_RESPONSE retryable';
my $timeout = '504 unknown TIMEOUT retryable';
my %error = (code => 'NOT_ENOUGH', booked => 1);

my @both = (
    [ 'a forged signature', { sign => 'forged' }, $unverified ],
    [ 'no signature', { sign => 'none' }, $unverified ],
    [ 'something that was not signed', { sign => 'lacking' }, $unverified ],
    [ 'an error, forged', { %error, sign => 'forged' }, $unverified ],
    [ 'an error, not signed', { %error, sign => 'none' }, $unverified ],
    [ 'another out_refund_no', { answer => { out_refund_no => 'other' } },
      $mismatched ],
    [ 'an unknown status', { status => 502, sign => 'none' }, $unverified ],
    [ 'cut short', { cut => 100 }, $nothing ],
    [ 'cut by a reset', { cut => 100, then => 'reset' }, $nothing ],
    [ 'reset before it was booked', { fault => 'reset' }, $nothing ],
    [ 'reset after it was booked', { after => 'reset' }, $nothing ],
    [ 'closed after it was booked', { after => 'close' }, $nothing ],
    [ 'not HTTP', { raw => "SSH-2.0-OpenSSH\r\n" }, $unverified ],
    [ 'a huge answer', { padding => 20_000_000 }, $malformed ],
);

my @v3 = (
    [ 'the deliberately wrong signature', { sign => 'probe' }, $unverified ],
    [ 'an old signature', { sign => 'stale' }, $unverified ],
    [ 'an unknown serial', { sign => 'unknown' }, $unverified ],
    [ '204 and nothing', { empty => 1 }, $malformed ],
    [ 'signed, but no JSON', { text => '<html></html>' }, $malformed ],
    [ 'signed, but a list', { text => '[]' }, $malformed ],
    [ 'signed, but no refund', { text => '{}' }, $malformed ],
    [ 'a status that is none', { answer => { status => 'MAYBE' } },
      $malformed ],
    [ 'another order', { answer => { transaction_id => '42' } },
      $mismatched ],
);

my @v2 = (
    [ 'return_code FAIL', { return_code => 'FAIL', message => 'no',
                            booked => 1 }, $unverified ],
    [ 'another mch_id', { answer => { mch_id => '1900009999' } },
      $mismatched ],
    [ 'another order', { answer => { transaction_id => '42' } },
      $mismatched ],
    [ 'another appid', { answer => { appid => 'wx1' } }, $mismatched ],
    [ 'no result_code', { answer => { result_code => undef } }, $malformed ],
    [ 'another result_code', { answer => { result_code => 'MAYBE' } },
      $malformed ],
    [ 'no refund_id', { answer => { refund_id => undef } }, $malformed ],
);

not_believed('/v3', @both, @v3);
not_believed('/v2', @both, @v2);
not_believed('/md5', [ 'a forged signature', { sign => 'forged' },
                       $unverified ]);

for my $version (qw(v3 v2)) {
    not_believed("/hurried/$version",
                 [ 'no answer', { after => 'hang' }, $timeout ],
                 [ 'an answer that comes too late', { delay => 1.5 },
                   $timeout ],
                 [ 'an answer that never ends', { every => 0.05 },
                   $timeout ],
                 [ 'an answer that stops within', { cut => 100,
                                                    then => 'hang' },
                   $timeout ]);
}

my $hint = qr/does the location present/;
my $hints = () = $nginx->error_log =~ /$hint/g;

$server->rules({ command => 'query', sign => 'none' });
is($caller->call('GET', '/v2/nobody')->{line}, $unverified,
   'a query whose answer is not signed');
is(scalar(() = $nginx->error_log =~ /$hint/g), $hints,
   'which no client certificate could mend');

$server->rules({ after => 'hang' });
is($caller->create('/impatient')->{line}, $timeout,
   'no answer in the time that the location to WeChat Pay has for one');

$server->rules({ every => 0.0005 });
is($caller->create('/v3')->{line}, '200 accepted',
   'a slow answer is one all the same');
$server->rules;


# The caller hangs up in the middle: the refund is made, and remembered.

$server->rules({ delay => 0.7 });
$server->forget;

my $body = $caller->body(amount => { total => 10 });
my $connection = $caller->connect;

$connection->send('POST', '/stored', [ 'Content-Type' => 'application/json' ],
                  JSON::XS::encode_json($body));
ok($server->wait_for(1), 'a call is under way');
$connection->reset;
ok($server->settle, 'and is answered, though nobody waits');
sleep 0.2;
$server->rules;
$server->forget;
is($caller->call('POST', '/stored',
                 { %$body, amount => { %{ $body->{amount} },
                                       refund => 2 } })->{line},
   '409 rejected CONFLICT', 'what it was is remembered');
is($caller->call('POST', '/stored', $body)->{line}, '200 accepted',
   'and may be asked again');
is($server->refund($body->{out_refund_no})->{refund}, 1, 'it was made');


# Under a known out_refund_no another refund is not sent.

$server->forget;

my $known = $caller->body(amount => { total => 10 }, reason => 'one');

is($caller->call('POST', '/stored', $known)->{line}, '200 accepted',
   'a refund that is remembered');

for ([ 'another amount', amount => { %{ $known->{amount} }, refund => 2 } ],
     [ 'another total', amount => { %{ $known->{amount} }, total => 11 } ],
     [ 'another order', transaction_id => '4200' ],
     [ 'another kind of order', transaction_id => undef,
       out_trade_no => $known->{transaction_id} ])
{
    my ($name, @change) = @$_;
    my $other = RefundNotify::Test::Caller::defined_only({ %$known,
                                                           @change });

    is($caller->call('POST', '/stored', $other)->{line},
       '409 rejected CONFLICT', "409: $name");
}

is(scalar $server->requests, 1, 'none of them was sent');
is($caller->call('POST', '/stored', { %$known, reason => 'two' })->{line},
   '200 accepted', 'another reason is not another refund');

my $sub = $caller->body(sub_mch_id => '1900000998');

is($caller->call('POST', '/agent/stored', $sub)->{line}, '200 accepted',
   'a service provider\'s');
is($caller->call('POST', '/agent/stored',
                 { %$sub, sub_mch_id => '1900000999' })->{line},
   '409 rejected CONFLICT', '409: another sub_mch_id');

# the exceptions

my $rejected = $caller->body(amount => { total => 10, refund => 9 });
my $mended = { %$rejected, amount => { %{ $rejected->{amount} },
                                       refund => 8 } };

$server->rules({ code => 'NOT_ENOUGH', times => 1 });
is($caller->call('POST', '/stored', $rejected)->{line},
   '403 rejected NOT_ENOUGH', 'one that is rejected');
is($caller->call('POST', '/stored', $mended)->{line}, '200 accepted',
   'may be mended');

my $unknown = $caller->body(amount => { total => 10, refund => 9 });
my $other = { %$unknown, amount => { %{ $unknown->{amount} },
                                     refund => 8 } };

$server->rules({ after => 'reset', times => 1 });
is($caller->call('POST', '/stored', $unknown)->{line}, $nothing,
   'one of which nothing is known');
is($caller->call('POST', '/stored', $other)->{line},
   '409 rejected CONFLICT', 'may not');
is($caller->call('POST', '/stored', $unknown)->{line}, '200 accepted',
   'but may be repeated');

# a rejection does not forget what was accepted before

$server->rules({ code => 'NOT_ENOUGH', times => 1 });
$caller->call('POST', '/stored', $unknown);
is($caller->call('POST', '/stored', $other)->{line},
   '409 rejected CONFLICT', 'accepted once is remembered');
$server->rules;


# Calls that fail are counted, over all workers: past one a second, as it is set
# here, no call is made.

$server->rules({ code => 'NOTENOUGH' });
$server->forget;

my $since = time;
my @lines = map { $caller->create('/limited')->{line} } 1 .. 30;
my $seconds = time - $since;
my $sent = () = $server->requests;
my $limited = grep { $_ eq '429 rejected ERROR_RATE_LIMITED retryable' }
                   @lines;

cmp_ok($sent, '>=', 1, 'a failing call passes');
cmp_ok($sent, '<=', 2 + $seconds, 'and then one a second');
is($limited, 30 - $sent, '429, and not sent');
like($nginx->error_log,
     qr/\[info\].*: ERROR_RATE_LIMITED, too many calls have failed/,
     'the log says why');
$server->rules;
is($caller->create('/v3')->{line}, '200 accepted', 'another merchant may');
ok(wait_until(sub { $caller->create('/limited')->{line} eq '200 accepted' },
              5), 'and this one after a while');
is_deeply([ map { $caller->create('/limited')->{line} } 1 .. 20 ],
          [ ('200 accepted') x 20 ], 'calls that succeed do not count');


# The merchant's certificate, which v2 wants: none, nobody's, another's

for ([ '/anonymous', 'No required SSL certificate was sent' ],
     [ '/stranger', 'The SSL certificate error' ],
     [ '/exchanged', 'certificate not match' ])
{
    my ($location, $page) = @$_;
    my $booked = $server->refunds;
    my $before = length $nginx->error_log;

    # the log says the same once a second

    sleep 1.1;
    is($caller->create($location)->{line}, $unverified, "$location: $page");
    is($server->refunds, $booked, 'nothing was refunded');
    like(substr($nginx->error_log, $before), qr/proxy_ssl_certificate/,
         'the log says what to mend');
}


# WeChat Pay's own certificate: of another name, of another authority, expired

for ([ 'another name', qr/certificate does not match/,
       name => 'api.mch.weixin.qq.com.example' ],
     [ 'another authority', qr/certificate verify error/,
       issuer => rsa_key('another authority'), issuer_name => 'another' ],
     [ 'expired', qr/certificate verify error.*expired/, to => time - 3600 ])
{
    my ($name, $log, %certificate) = @$_;
    my $false = wechatpay_server(merchants => \@shops,
                                 certificate => \%certificate);
    my $nginx = start($conf, $false);

    for my $version (qw(v3 v2)) {
        like(caller_of($nginx)->create("/$version")->{line},
             qr/^502 unknown NO_RESPONSE retryable$/,
             "$version: a certificate of $name");
        is(scalar $false->requests, 0, 'nothing was sent');
    }

    like($nginx->error_log, $log, 'the log says why');
    $nginx->finish;
    $false->stop;
}


# Two peers: what failed at one is not tried at the other.

my @peers = map { wechatpay_server(merchants => \@shops) } 1 .. 2;
my $two = start($conf, @peers);
my $client = caller_of($two);

for ([ 'reset after it was booked', { after => 'reset' } ],
     [ 'closed after it was booked', { after => 'close' } ],
     [ 'reset before it was booked', { fault => 'reset' } ],
     [ 'cut short', { cut => 10, then => 'reset' } ],
     [ 'not HTTP', { raw => "what?\r\n\r\n" } ],
     (map { [ "HTTP status $_", { status => $_, sign => 'none' } ] }
          403, 404, 429, 500, 502, 503, 504))
{
    my ($name, $rule) = @$_;

    $_->forget, $_->rules($rule) for @peers;

    for my $version (qw(v3 v2)) {
        $_->forget for @peers;
        like($client->create("/$version")->{line}, qr/^502 unknown/,
             "$version, two peers: $name");
        is(scalar(map { $_->requests } @peers), 1, 'sent once');
    }
}

$_->forget, $_->rules for @peers;
$client->create('/v3') for 1 .. 4;
ok((!grep { !$_->requests } @peers), 'both of them are there');

$_->stop for $nginx, $narrow, $two;
no_secrets($_, map { $pay->secrets($_) } @shops) for $nginx, $narrow, $two;

done_testing();


sub start {
    my ($conf, @servers) = @_;

    return nginx(with_merchants($conf, @shops), vars => {
        PAY => $servers[0]->port, FILES => $dir,
        INCLUDE => $servers[0]->include,
        SECOND_PEER => $servers[1]
                       ? 'server 127.0.0.1:' . $servers[1]->port
                         . ' max_fails=0;' : '',
    });
}


sub error_is {
    my ($location, $code, $line) = @_;

    $server->forget;

    my $body = $caller->body;
    my $answer = $caller->call('POST', $location, $body);
    my $error = $answer->{json}{error} || {};
    my @calls = $server->calls;

    is($answer->{line}, $line, "$location: $code");
    is($error->{provider_code}, $code, 'its own code');
    is($error->{message}, '余额"不足"', 'its message');

    is(scalar @calls, $line =~ /SYSTEM_ERROR/ ? 3 : 1,
       'how often it was sent');
    is_deeply([ grep { $_ ne "create $body->{out_refund_no}" } @calls ], [],
              'always the same');
    return;
}


sub not_believed {
    my ($location, @cases) = @_;

    for (@cases) {
        my ($name, $rule, $line) = @$_;
        my $body = $caller->body;

        $server->rules($rule);
        $server->forget;

        my $answer = $caller->call('POST', $location, $body);

        ref $line ? like($answer->{line}, $line, "$location: $name")
                  : is($answer->{line}, $line, "$location: $name");
        is(scalar $server->requests, 1, 'it was sent once');
        cmp_ok($answer->{time}, '<', slow(1.2), 'in time')
            if $location =~ /hurried/;

        # the same again, and then WeChat Pay's answer is right

        $server->settle if !$rule->{after} && !$rule->{fault};
        $server->rules;
        is($caller->call('POST', $location, $body)->{line}, '200 accepted',
           'the same call again');
        is($server->refund($body->{out_refund_no})->{status}, 'PROCESSING',
           'is one refund');
    }

    return;
}
