#!/usr/bin/perl

# What WeChat Pay is answered: every row of the table, for v2 and v3, byte for
# byte; what the business app gets for it; and what the variables say.

use lib 't/lib';
use RefundNotify::Test;

use Digest::SHA qw(hmac_sha256);
use MIME::Base64 qw(encode_base64);
use POSIX ();
use RefundNotify::Test::Certificate qw(rsa_key);
use Time::HiRes qw(sleep);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify escape=none '$arg_n|$refund_notify_result'
                                  '|$refund_notify_reason'
                                  '|$refund_notify_version'
                                  '|$refund_notify_merchant'
                                  '|$refund_notify_id'
                                  '|$refund_notify_status'
                                  '|$refund_notify_refund_id'
                                  '|$refund_notify_out_refund_no'
                                  '|$refund_notify_out_trade_no'
                                  '|$refund_notify_attempt'
                                  '|$refund_notify_store_time'
                                  '|$refund_notify_upstream_time';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store local shm:1m;
    refund_store down  redis://127.0.0.1:%%PORT_NOBODY%% timeout=100ms;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_signing_key_file %%DIR%%/whsec.1;
        refund_notify_signing_key_file %%DIR%%/whsec.2;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /merchant/shop {
            set $merchant shop;
            refund_notify $merchant;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /merchant/nobody {
            set $merchant nobody;
            refund_notify $merchant;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /agent {
            refund_notify agent;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /v3 {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            refund_notify_accept v3;
        }

        location = /old {
            refund_notify old;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /hurried {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            refund_notify_deadline 300ms;
        }

        location = /store-down {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store down;
        }

        location = /code {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=coded;
            refund_notify_store local;
            refund_notify_ack code;
        }

        location = /nowhere {
            refund_notify shop;
            refund_notify_pass /internal/nowhere;
            refund_notify_store local;
        }

        # of which the client's URI may make none

        location /to/ {
            refund_notify shop;
            refund_notify_pass /internal$uri name=chosen;
            refund_notify_store local;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/nowhere {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_NOBODY%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(mch_id => '1900000109', app_id => [ 'wx88888888' ]);
my $agent = $pay->merchant(name => 'agent', sub_mch_id => [ 1900000110 ]);
my $old = $pay->merchant(name => 'old', v3_key => [], public_key_id => []);
my $stranger = $pay->merchant;

my @signing_keys = ('first signing key of 32 bytes ..', 'x' x 24);

my $app = business_app();
my $nginx = nginx(
    with_merchants($conf, $shop, $agent, $old),
    vars => { APP => $app->port },
    files => { map { ("whsec.$_" => 'whsec_'
                      . encode_base64($signing_keys[$_ - 1], '') . "\n") }
               1, 2 });
my $client = client($nginx);

my %STATUS = (
    delivered => 200, duplicate => 200, ignored => 200, unsupported => 403,
    in_flight => 503, upstream_error => 502, deadline => 504,
    store_error => 503, malformed => 400, unverified => 401,
    undecryptable => 400, mismatch => 403,
);

my $SUCCESS = '<xml><return_code><![CDATA[SUCCESS]]></return_code>'
              . '<return_msg><![CDATA[OK]]></return_msg></xml>';

my $n = 0;
my @plaintexts;


# Status, type and body, as WeChat Pay must get them.

sub expected {
    my ($version, $result) = @_;

    my $success = $STATUS{$result} == 200;

    if ($version eq 'v2') {
        return "200 text/xml "
               . ($success ? $SUCCESS
                  : $SUCCESS =~ s/SUCCESS\]/FAIL]/r =~ s/OK/$result/r);
    }

    return "$STATUS{$result} application/json "
           . ($success ? '{"code":"SUCCESS","message":"OK"}'
                       : qq({"code":"FAIL","message":"$result"}));
}


sub answered {
    my ($response) = @_;

    return join ' ', $response->{status},
                     $response->{headers}{'content-type'} // '-',
                     $response->{body} . $response->{error};
}


sub beijing {
    my ($epoch) = @_;

    return POSIX::strftime('%Y-%m-%dT%H:%M:%S+08:00',
                           gmtime($epoch + 8 * 3600));
}


# What the log says of the n-th request, by name.

sub logged {
    my ($n) = @_;

    my %logged;

    @logged{qw(result reason version merchant id status refund_id out_refund_no
               out_trade_no attempt store_time upstream_time)}
        = split /\|/, $nginx->logged($n), -1;

    return \%logged;
}


# Sends it, and compares the answer and the log with the result.

sub answers {
    my ($name, $path, $notify, $result, $reason) = @_;

    push @plaintexts, $notify->{plaintext};

    my $response = $client->post("$path?n=" . ++$n, $notify);

    is(answered($response), expected($notify->{version}, $result), $name);
    is($pay->acknowledged($notify, $response) ? 1 : 0,
       $STATUS{$result} == 200 ? 1 : 0, "$name: as WeChat Pay takes it");
    ok($response->{time} < slow(4.5), "$name: in time");

    my $logged = logged($n);
    is($logged->{result}, $result, "$name: \$refund_notify_result");
    is($logged->{version}, $notify->{version}, "$name: its version");

    if (defined $reason) {
        like($logged->{reason}, $reason, "$name: \$refund_notify_reason");
    }

    return $logged;
}


# The body, which no JSON module wrote: what it says, letter for letter.

sub body {
    my ($notify, $word) = @_;

    my $field = $notify->{fields};
    my $time = $notify->{version} eq 'v2' ? '2018-11-19T16:24:13+08:00'
                                          : '2018-06-08T10:34:56+08:00';
    my $body = qq({"type":"refund.$word","timestamp":")
               . ($notify->{create_time} // $time)
               . qq(","id":"$notify->{event_id}","provider":"wechatpay",)
               . qq("api_version":"$notify->{version}","merchant":"shop",)
               . qq("data":{"mch_id":"1900000109",)
               . ($notify->{version} eq 'v2' ? '"app_id":"wx88888888",' : '')
               . join(',', map { qq("$_":"$field->{$_}") }
                               qw(transaction_id out_trade_no refund_id
                                  out_refund_no))
               . qq(,"status":"$notify->{status}",)
               . ($notify->{status} eq 'SUCCESS' ? qq("success_time":"$time",)
                                                 : '');

    if ($notify->{version} eq 'v2') {
        $body .= '"user_received_account":"支付用户零钱",'
                 . '"funds_account":"AVAILABLE","request_source":"API",'
                 . '"amount":{"total":3960,"refund":3960,'
                 . '"settlement_total":3960,"settlement_refund":3960}}}';

    } else {
        $body .= '"user_received_account":"招商银行信用卡0403",'
                 . '"amount":{"total":999,"refund":999,"payer_total":999,'
                 . '"payer_refund":999}}}';
    }

    return $body;
}


for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";

    for ([ SUCCESS => 'succeeded' ], [ ABNORMAL => 'abnormal' ],
         [ CLOSED => 'closed' ])
    {
        my ($status, $word) = @$_;
        my $name = "$version $status";
        my $before = beijing(time - 1);
        my $notify = $pay->$make($shop, -status => $status, -headers => [
            Cookie => 'a=b', Authorization => 'Basic eHg=',
            traceparent => '00-4bf92f35-01', tracestate => 'x=y',
            'Webhook-Id' => 'forged', 'Refund-Attempt' => 7 ]);

        $app->forget;

        my $logged = answers($name, '/notify', $notify, 'delivered', qr/^-?$/);

        my @requests = $app->requests;
        is(scalar @requests, 1, "$name: delivered once");

        my $request = $requests[0] || {};
        my $headers = $request->{headers} || {};
        my $timestamp = $headers->{'webhook-timestamp'} // '';
        my $body = body($notify, $word);

        # v2 has no time of its own unless the refund succeeded

        if ($version eq 'v2' && $status ne 'SUCCESS') {
            my ($at) = ($request->{body} // '')
                       =~ /"timestamp":"([-\d]{10}T[:\d]{8}\+08:00)"/;
            $at //= 'none';

            ok($before le $at && $at le beijing(time),
               "$name: the time of receipt");
            $body =~ s/"timestamp":"[^"]*"/"timestamp":"$at"/;
        }

        is($request->{body}, $body, "$name: the JSON");
        is("$request->{method} $request->{path}", 'POST /refunds',
           "$name: where to");
        is($headers->{'content-type'}, 'application/json', "$name: its type");
        is($headers->{'webhook-id'}, $notify->{event_id}, "$name: webhook-id");
        is($headers->{'refund-attempt'}, 1, "$name: Refund-Attempt");
        cmp_ok(abs($timestamp - time), '<', slow(3),
               "$name: webhook-timestamp");
        is($headers->{'webhook-signature'},
           join(' ', map { 'v1,' . encode_base64(
                           hmac_sha256("$notify->{event_id}.$timestamp."
                                       . ($request->{body} // ''), $_), '') }
                         @signing_keys),
           "$name: webhook-signature");
        is($headers->{traceparent}, '00-4bf92f35-01', "$name: traceparent");
        is($headers->{tracestate}, 'x=y', "$name: tracestate");
        is(join(' ', sort keys %$headers),
           'content-length content-type host refund-attempt traceparent '
           . 'tracestate webhook-id webhook-signature webhook-timestamp',
           "$name: and no other header");

        is(join('|', @$logged{qw(merchant id status refund_id out_refund_no
                                 out_trade_no attempt)}),
           join('|', 'shop', $notify->{event_id}, $status,
                $notify->{refund_id}, $notify->{out_refund_no},
                $notify->{fields}{out_trade_no}, 1), "$name: the variables");
        like($logged->{"${_}_time"}, qr/^\d+\.\d{3}$/, "$name: ${_}_time")
            for qw(store upstream);

        answers("$name, again", '/notify', $pay->resend($shop, $notify),
                'duplicate');
        is(scalar(() = $app->requests), 1, "$name: not delivered again");
    }

    # a target failed, and then accepts

    my @failures = (
        [ 500, { status => 500 } ],
        [ 404, { status => 404 } ],
        [ 302, { status => 302, headers => [ Location => '/' ] } ],
        [ 'no answer', { fault => 'close' } ],
    );

    for (@failures) {
        my ($name, $rule) = @$_;
        my $notify = $pay->$make($shop);

        $app->rules({ %$rule, times => 1 });
        $app->forget;
        answers("$version, $name", '/notify', $notify, 'upstream_error',
                qr/\w/);
        is(scalar(() = $app->requests), 1, "$version, $name: tried once");

        # after a complete answer the next one may be delivered at once

        next if $name eq 'no answer';

        my $logged = answers("$version, $name, then accepted", '/notify',
                             $pay->resend($shop, $notify), 'delivered');
        is($logged->{attempt}, 2, "$version, $name: attempt 2");
        is(($app->requests)[-1]{headers}{'refund-attempt'}, 2,
           "$version, $name: Refund-Attempt 2");
    }

    for (201, 204, 299) {
        $app->rules({ status => $_ });
        answers("$version, $_", '/notify', $pay->$make($shop), 'delivered');
    }

    # refund_notify_ack code

    my @codes = (
        [ '"code":"SUCCESS"', { body => '{"code":"SUCCESS"}' }, 'delivered' ],
        [ 'an empty 200', {}, 'upstream_error' ],
        [ '"code":"FAIL"', { body => '{"code":"FAIL"}' }, 'upstream_error' ],
        [ 'not JSON', { body => 'SUCCESS' }, 'upstream_error' ],
        [ 'a 500 with SUCCESS', { status => 500,
                                  body => '{"code":"SUCCESS"}' },
          'upstream_error' ],
        [ 'over 4 KB', { body => '{"code":"SUCCESS","x":"' . 'x' x 4096
                                 . '"}' }, 'upstream_error' ],
    );

    for (@codes) {
        my ($name, $rule, $result) = @$_;

        $app->rules($rule);
        answers("$version, ack code, $name", '/code', $pay->$make($shop),
                $result);
    }

    $app->rules;

    answers("$version, nobody listens", '/nowhere', $pay->$make($shop),
            'upstream_error', qr/\w/);

    my $logged = answers("$version, a target without a URI", '/to/a%20b',
                         $pay->$make($shop), 'upstream_error',
                         qr/yields no URI of this server/);

    is(join('|', @$logged{qw(attempt store_time upstream_time)}), '-|-|-',
       "$version, a target without a URI: nobody was asked");

    answers("$version, the store is down", '/store-down', $pay->$make($shop),
            'store_error', qr/\w/);

    # under way

    my $notify = $pay->$make($shop);

    $app->rules({ delay => 1 });
    $app->forget;

    my $first = $client->connect;
    $first->send('POST', '/notify?n=' . ++$n, $notify->{headers},
                 $notify->{body});
    ok($app->wait_for(1), "$version: a delivery is under way");
    answers("$version, meanwhile", '/notify', $pay->resend($shop, $notify),
            'in_flight', qr/\w/);
    is(answered($first->read), expected($version, 'delivered'),
       "$version: the first one is delivered");
    is(scalar(() = $app->requests), 1, "$version: once");

    # the deadline

    $notify = $pay->$make($shop);

    answers("$version, deadline", '/hurried', $notify, 'deadline',
                       qr/deadline/);
    $app->settle;
    is(join(' ', map { $_->{how} } grep { $_->{id} eq $notify->{event_id} }
                     $app->requests),
       'answered', "$version, deadline: the delivery went on behind");
    ok(wait_until(sub {
        my $response = $client->post('/notify', $pay->resend($shop, $notify));
        return answered($response) eq expected($version, 'duplicate');
    }), "$version, deadline: and is known to be accepted");

    $app->rules;
}


# What is refused: nothing of it reaches the business app.

$app->forget;

my $bad = sub { my ($version, %option) = @_;
                my $make = "${version}_notify";
                return $pay->$make($shop, %option); };
my $other_key = 'another key of thirty-two bytes!';
my $serial = $shop->{public_key_id}[0];

my @refused = (
    [ 'v2: another key', v2 => [ -key => $other_key ], 'undecryptable',
      qr/decrypt/ ],
    [ 'v2: half a block', v2 => [ -req_info => 'QUJD' ], 'undecryptable',
      qr/block/ ],
    [ 'v2: not base64', v2 => [ -req_info => 'QUJD*' ], 'malformed',
      qr/base64/ ],
    [ 'v2: no req_info', v2 => [ -outer => { req_info => undef } ],
      'malformed', qr/req_info/ ],
    [ 'v2: not XML', v2 => [ -body => '<xml><return_code>' ], 'malformed',
      qr/well-formed/ ],
    [ 'v2: another root', v2 => [ -body => '<xmll></xmll>' ], 'malformed',
      qr/root/ ],
    [ 'v2: a DOCTYPE',
      v2 => [ -body => '<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">'
                       . ']><xml>&a;</xml>' ], 'malformed', qr/DOCTYPE/ ],
    [ 'v2: return_code FAIL',
      v2 => [ -body => '<xml><return_code>FAIL</return_code></xml>' ],
      'malformed', qr/return_code/ ],
    [ 'v2: return_code FAIL with req_info',
      v2 => [ -outer => { return_code => 'FAIL' } ], 'malformed',
      qr/return_code/ ],
    [ 'v2: another root inside', v2 => [ -plaintext => '<rot></rot>' ],
      'malformed', qr/root/ ],
    [ 'v2: another mch_id', v2 => [ -outer => { mch_id => 1900000001 } ],
      'mismatch', qr/mch_id/ ],
    [ 'v2: no mch_id', v2 => [ -outer => { mch_id => undef } ], 'malformed',
      qr/mch_id/ ],
    [ 'v2: another appid', v2 => [ -outer => { appid => 'wx1' } ], 'mismatch',
      qr/appid/ ],
    [ 'v2: a sub_mch_id', v2 => [ -partner => 1900000110 ], 'mismatch',
      qr/sub_mch_id/ ],
    [ 'v2: an unknown status', v2 => [ refund_status => 'PROCESSING' ],
      'malformed', qr/status/ ],
    (map { [ "v2: no $_", v2 => [ $_ => undef ], 'malformed',
             qr/missing/ ] }
         qw(refund_id out_refund_no transaction_id out_trade_no refund_status
            total_fee refund_fee)),
    [ 'v2: money with a point', v2 => [ refund_fee => '39.60' ], 'malformed',
      qr/amount/ ],
    [ 'v2: negative money', v2 => [ refund_fee => '-1' ], 'malformed',
      qr/amount/ ],

    [ 'v3: a signature of another key',
      v3 => [ -signing_key => rsa_key('stranger') ], 'unverified',
      qr/Signature/ ],
    [ 'v3: one letter of the signature',
      v3 => [ -signature => sub { my ($s) = @_;
                                  substr($s, 9, 1) =~ tr/A-Za-z/B-ZAb-za/
                                      || substr $s, 9, 1, 'A';
                                  return $s } ], 'unverified', qr/Signature/ ],
    [ 'v3: not base64', v3 => [ -signature => '*' x 344 ], 'unverified',
      qr/Signature/ ],
    [ 'v3: a probe', v3 => [ -probe => 1 ], 'unverified', qr/probe/ ],
    [ 'v3: an unknown serial', v3 => [ -serial => 'PUB_KEY_ID_0' ],
      'unverified', qr/Serial/ ],
    [ 'v3: a serial in lower case',
      v3 => [ -serial => lc $serial, -signing_key => rsa_key($serial) ],
      'unverified', qr/Serial/ ],
    [ 'v3: stale', v3 => [ -timestamp => time - 310 ], 'unverified',
      qr/Timestamp/ ],
    [ 'v3: of the future', v3 => [ -timestamp => time + 400 ], 'unverified',
      qr/Timestamp/ ],
    [ 'v3: another type of signature',
      v3 => [ -headers => [ 'Wechatpay-Signature-Type' =>
                            'WECHATPAY2-SM2-WITH-SM3' ] ], 'unverified',
      qr/Signature-Type/ ],
    (map { my $header = "Wechatpay-$_";
           ([ "v3: no $header", v3 => [ -headers => [ $header => undef ] ],
              'malformed', qr/$header is missing/ ],
            [ "v3: an empty $header",
              v3 => [ -headers => [ $header => '' ] ], 'malformed',
              qr/$header/ ],
            [ "v3: $header twice",
              v3 => [ -headers => [ $header => 'x', $header => 'x' ] ],
              'malformed', qr/$header is repeated/ ]) }
         qw(Timestamp Nonce Signature Serial)),
    [ 'v3: a timestamp with letters', v3 => [ -timestamp => '12e4' ],
      'malformed', qr/Timestamp/ ],
    [ 'v3: not JSON', v3 => [ -body => '{"id":' ], 'malformed', qr/JSON/ ],
    [ 'v3: a repeated member',
      v3 => [ -body => '{"id":"1","id":"1"}' ], 'malformed', qr/repeated/ ],
    [ 'v3: no resource', v3 => [ -outer => { resource => undef } ],
      'malformed', qr/resource/ ],
    [ 'v3: no event_type', v3 => [ -outer => { event_type => undef } ],
      'malformed', qr/event_type/ ],
    [ 'v3: ciphertext not base64',
      v3 => [ -resource => { ciphertext => 'x' x 41 } ], 'malformed',
      qr/base64/ ],
    [ 'v3: another key', v3 => [ -key => $other_key ], 'undecryptable',
      qr/decrypt/ ],
    [ 'v3: shorter than its tag',
      v3 => [ -resource => { ciphertext => 'QUJD' } ], 'undecryptable',
      qr/tag/ ],
    [ 'v3: JSON inside broken', v3 => [ -plaintext => '{"mchid":' ],
      'malformed', qr/JSON/ ],
    [ 'v3: a payment', v3 => [ -outer => { event_type =>
                                           'TRANSACTION.SUCCESS' } ],
      'unsupported', qr/event_type/ ],
    [ 'v3: an unknown event',
      v3 => [ -outer => { event_type => 'REFUND.PROCESSING' } ],
      'unsupported', qr/event_type/ ],
    [ 'v3: another mchid', v3 => [ mchid => '1900000001' ], 'mismatch',
      qr/mch_id/ ],
    [ 'v3: another appid', v3 => [ appid => 'wx1' ], 'mismatch', qr/appid/ ],
    [ "v3: a service provider's", v3 => [ -partner => '1900000110' ],
      'mismatch', qr/sub_mch_id/ ],
    [ 'v3: event against status', v3 => [ refund_status => 'CLOSED' ],
      'mismatch', qr/event_type/ ],
    [ 'v3: an unknown status', v3 => [ refund_status => 'PROCESSING' ],
      'malformed', qr/status/ ],
    (map { [ "v3: no $_", v3 => [ $_ => undef ], 'malformed',
             qr/missing/ ] }
         qw(mchid refund_id out_refund_no transaction_id out_trade_no
            refund_status amount)),
    [ 'v3: money as a string',
      v3 => [ amount => { total => '999', refund => 999 } ], 'malformed',
      qr/amount/ ],
    [ 'v3: money with a point',
      v3 => [ amount => { total => 999, refund => 9.5 } ], 'malformed',
      qr/amount/ ],
);

for (@refused) {
    my ($name, $version, $option, $result, $reason) = @$_;

    answers($name, '/notify', $bad->($version, @$option), $result, $reason);
}

answers('v3: a test of the console', '/notify', $bad->(v3 => -echo => 1),
        'ignored', qr/\w/);
answers('v3: a forged test of the console', '/notify',
        $bad->(v3 => -echo => 1, -signing_key => rsa_key('stranger')),
        'unverified');
answers('v2 where only v3 is accepted', '/v3', $bad->('v2'), 'malformed',
        qr/not accepted/);
answers('v3 of a merchant with v2 keys only', '/old', $bad->('v3'),
        'malformed', qr/not accepted/);

is($client->post('/merchant/nobody', $bad->('v3'))->{status}, 404,
   'a variable that names no merchant');

is(scalar(() = $app->requests), 0, 'nothing of these was delivered');

# One line a second for each reason, with the count of those held back; but what
# anyone can cause holds back no line of what ops must mend.

{
    my $forged = $bad->(v3 => -signing_key => rsa_key('stranger'));
    my $line = qr/^.*\[info\].*\ refund\ notify\ to\ merchant\ "shop"
                  \ unverified:\ Wechatpay-Signature\ .*\n/mx;
    my $v2 = $bad->(v2 => -outer => { mch_id => 1900000001 });
    my $v3 = $bad->(v3 => mchid => '1900000001');
    my $begin;

    my $lines = sub {
        my ($pattern) = @_;

        return substr($nginx->error_log, $begin) =~ /$pattern/g;
    };

    # past those before

    sleep 1.1;
    $begin = length $nginx->error_log;
    $client->parallel([ map { [ 'POST', '/notify', $forged->{headers},
                                $forged->{body} ] } 1 .. 20 ]);
    is(scalar(() = $lines->($line)), 1, '20 forged at once: one line');

    sleep 1.1;
    $client->post('/notify', $forged);

    my @both = $lines->($line);

    is(scalar @both, 2, 'another one later: a line again');
    like($both[1] // '', qr/ \(19 more like this held back\),/,
         'with the count');

    $client->post('/notify', $_) for $v2, $v3;
    is(join(', ', $lines->(qr/\[(\w+)\] .*"shop" mismatch: mch_id /)),
       'info, error', 'a reason that anyone can cause, and then WeChat Pay');
}


# and their opposites

answers('v3 where v2 is not accepted', '/v3', $bad->('v3'), 'delivered');
answers('v3 without Wechatpay-Signature-Type', '/notify',
        $bad->(v3 => -headers => [ 'Wechatpay-Signature-Type' => undef ]),
        'delivered');
answers('v3, four minutes ago', '/notify',
        $bad->(v3 => -timestamp => time - 240), 'delivered');
answers('v2 of a merchant with v2 keys only', '/old', $pay->v2_notify($old),
        'delivered');
answers('a merchant by a variable', '/merchant/shop', $bad->('v3'),
        'delivered');
answers('v2 of a sub-merchant', '/agent',
        $pay->v2_notify($agent, -partner => 1900000110), 'delivered');
answers('v3 of a sub-merchant', '/agent',
        $pay->v3_notify($agent, -partner => '1900000110'), 'delivered');
answers('v2 of another sub-merchant', '/agent',
        $pay->v2_notify($agent, -partner => 1900000111), 'mismatch',
        qr/sub_mch_id/);
answers('v3 of another sub-merchant', '/agent',
        $pay->v3_notify($agent, -partner => '1900000111'), 'mismatch',
        qr/sub_mch_id/);
answers('v3 of no sub-merchant', '/agent', $pay->v3_notify($agent),
        'delivered');

no_secrets($nginx, map({ $pay->secrets($_) } $shop, $agent, $old),
           @signing_keys, map({ encode_base64($_, '') } @signing_keys),
           grep({ defined } @plaintexts), '支付用户零钱',
           '招商银行信用卡0403');

done_testing;
