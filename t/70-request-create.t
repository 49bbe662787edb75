#!/usr/bin/perl

# A refund asked for: what WeChat Pay is sent, under each version of the API and
# for a service provider; what the business app is answered; and every rule of
# the body, with its 400 and the field's name.

use lib 't/lib';
use utf8;
use RefundNotify::Test;

use Encode qw(decode_utf8 encode_utf8);
use JSON::XS qw(decode_json);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    # no keepalive: nginx would use a connection again with another location's
    # client certificate

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%%;
    }

    server {
        listen 127.0.0.1:%%PORT_PAGE%%;
        return 200 page;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        merge_slashes off;

        location /v3 {
            refund_request shop;
            refund_request_pass /internal/shop;
            refund_request_notify_url https://pay.example.com/notify;
        }

        location /v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/shop;
            refund_request_notify_url https://pay.example.com/notify;
        }

        location /md5 {
            refund_request md5;
            refund_request_api v2;
            refund_request_pass /internal/md5/;
        }

        location /agent/v3 {
            refund_request agent;
            refund_request_pass /internal/agent;
        }

        location /agent/v2 {
            refund_request agent;
            refund_request_api v2;
            refund_request_pass /internal/agent;
        }

        location /certificate {
            refund_request certificate;
            refund_request_pass /internal/shop;
        }

        location /named {
            set $merchant $arg_merchant;
            refund_request $merchant;
            refund_request_pass /internal/shop;
        }

        location /limited {
            refund_request shop;
            refund_request_pass /internal/shop;
            refund_request_notify_url https://pay.example.com/notify;

            limit_except GET {
                allow 127.0.0.1;
                deny all;
            }
        }

        location /turned {
            refund_request shop;
            refund_request_pass /internal/shop;

            if ($arg_page) {
                proxy_pass http://127.0.0.1:%%PORT_PAGE%%;
            }
        }

        location = /asked {
            auth_request /v3;
        }

        location /looped {
            refund_request shop;
            refund_request_pass /v3;
        }

        location /threads {
            refund_request shop;
            refund_request_pass /internal/shop;
            refund_request_threads on;
        }

        location /threads/v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/shop;
            refund_request_threads on;
        }

        location /internal/shop/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/shop-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/shop-apiclient_key.pem;
            %%INCLUDE%%
        }

        location /internal/md5/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/md5-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/md5-apiclient_key.pem;
            %%INCLUDE%%
        }

        location /internal/agent/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/agent-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/agent-apiclient_key.pem;
            %%INCLUDE%%
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx8888888888888881' ],
                          merchant_serial => '5157F09EFDC047057A01');
my $md5 = $pay->merchant(name => 'md5', app_id => [ 'wx8888888888888882' ],
                         v2_sign_type => 'MD5', v3_key => [],
                         public_key_id => [],
                         merchant_serial => '5157F09EFDC047057A02');
my $agent = $pay->merchant(name => 'agent', app_id => [ 'wx8888888888888883' ],
                           v2_sign_type => 'HMAC-SHA256',
                           sub_mch_id => [ '1900000998', '1900000999' ],
                           merchant_serial => '5157F09EFDC047057A03');
my $certified = $pay->merchant(name => 'certificate', public_key_id => [],
                               serial => [ '0A' x 20 ],
                               merchant_serial => '0A57F09EFDC047057A04');

my $server = wechatpay_server(merchants => [ $shop, $md5, $agent,
                                             $certified ]);
my $nginx = nginx(with_merchants($conf, $shop, $md5, $agent, $certified),
                  vars => { PAY => $server->port, FILES => scratch_dir(),
                            INCLUDE => $server->include });
my $caller = caller_of($nginx);

my %shop_of = ('/v3' => $shop, '/v2' => $shop, '/md5' => $md5,
               '/agent/v3' => $agent, '/agent/v2' => $agent,
               '/certificate' => $certified, '/threads' => $shop,
               '/threads/v2' => $shop, '/turned' => $shop,
               '/limited' => $shop,
               '/named?merchant=shop' => $shop);


# What is sent and what comes back: [ name, location, the body's fields, and
# how they are sent, beside what each body has ]

my $from = [ { account => 'AVAILABLE', amount => 7 },
             { account => 'UNAVAILABLE', amount => 3 } ];
my $goods = [ { merchant_goods_id => '1217752501201407033233368018',
                wechatpay_goods_id => '1001', goods_name => 'iPhone6s 16G',
                unit_price => 10, refund_amount => 10, refund_quantity => 1 } ];
my $own_url = 'https://pay.example.com/other/notify';
my $characters = '0aZ_-|*@' . 'x' x 56;

my @right = (
    [ 'v3', '/v3', {}, { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v3, a number of the shop\'s', '/v3', { out_trade_no => 'order-1' },
      { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v3, all of its fields', '/v3',
      { amount => { refund => 10, total => 100, from => $from },
        reason => '商品已售完', notify_url => $own_url,
        funds_account => 'AVAILABLE', goods_detail => $goods },
      {} ],
    [ 'v3, each character', '/v3', { out_refund_no => $characters },
      { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v3, in limit_except', '/limited', {},
      { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v3, signed in a thread pool', '/threads', {}, {} ],
    [ 'v3, with a platform certificate', '/certificate', {}, {} ],
    [ 'v3, where "if" turns others away', '/turned', {}, {} ],
    [ 'v3, a service provider', '/agent/v3', { sub_mch_id => '1900000999' },
      {} ],
    [ 'v3, a merchant by a variable', '/named?merchant=shop', {}, {} ],
    [ 'v2', '/v2', {}, { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v2, a number of the shop\'s', '/v2', { out_trade_no => 'order-2' },
      { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v2, all of its fields', '/v2',
      { amount => { refund => 10, total => 100 },
        reason => 'sold out: <b>&amp;</b> ]]> 售完', notify_url => $own_url,
        funds_account => 'UNSETTLED' }, {} ],
    [ 'v2, each character', '/v2', { out_refund_no => $characters =~ s/^0/2/r },
      { notify_url => 'https://pay.example.com/notify' } ],
    [ 'v2, signed with MD5', '/md5', {}, {} ],
    [ 'v2, which no thread pool signs', '/threads/v2', {}, {} ],
    [ 'v2, a service provider', '/agent/v2', { sub_mch_id => '1900000998' },
      {} ],
);

for (@right) {
    my ($name, $location, $fields, $sent) = @$_;

    my $body = $caller->body(%$fields);
    my $shop = $shop_of{$location};

    $server->forget;

    my $answer = $caller->call('POST', $location, $body);
    my ($request) = $server->requests;
    my $v2 = ($request->{key} // '') eq 'v2';

    is($answer->{line}, '200 accepted', $name);
    is_deeply([ $server->problems ], [], 'nothing wrong with what was sent');
    is(scalar $server->requests, 1, 'once');
    is_deeply(sent($request), $v2 ? as_v2($shop, $body, $sent)
                                  : as_v3($body, $sent), 'its fields');
    is_deeply($answer->{json}, answered($shop, $body, $v2), 'the answer');
}


# Under v3, WeChat Pay is told which key to answer with, and where the call goes
# it goes by name.

$server->forget;
$caller->create('/v3');
$caller->create('/certificate');

my @headers = map { $_->{headers} } $server->requests;

is($headers[0]{'wechatpay-serial'}, $shop->{public_key_id}[0],
   'Wechatpay-Serial: the public key');
is($headers[1]{'wechatpay-serial'}, '0A' x 20,
   'or the platform certificate');
is($headers[0]{host}, 'api.mch.weixin.qq.com', 'Host');


# The caller's own headers stay here.

$server->forget;
$caller->request('POST', '/v3',
                 [ 'Content-Type' => 'application/json', Cookie => 'a=b',
                   Authorization => 'Bearer secret', 'X-Internal' => 'yes',
                   'Wechatpay-Serial' => 'mine', 'User-Agent' => 'mine' ],
                 JSON::XS::encode_json($caller->body));

my ($request) = $server->requests;

is_deeply([ $server->problems ], [], 'a call with headers of its own');
is_deeply([ grep { defined } @{ $request->{headers} }
                                 {qw(cookie x-internal)} ], [],
          'none of them went out');
isnt($request->{headers}{'user-agent'}, 'mine', 'nor its User-Agent');


# The same call again gets the same answer; WeChat Pay refunds once.

my $body = $caller->body;
my $booked = $server->refunds;
my $first = $caller->call('POST', '/v3', $body);

is($caller->call('POST', '/v3', $body)->{body}, $first->{body},
   'the same again: the same answer');
is($server->refunds, $booked + 1, 'refunded once');
is($caller->call('POST', '/v3', $body, chunked => 7)->{line}, '200 accepted',
   'a chunked body');
is($caller->call('POST', '/v3', 'x' x 65537, chunked => 40000)->{line},
   '413 rejected BODY_TOO_LARGE', 'a chunked body that is too large');
is($caller->call('POST', '/v3more', $body)->{line},
   '404 rejected NOT_FOUND', 'another resource, whose name begins as this');


is($caller->request('GET', '/turned?page=1', [])->{body}, 'page',
   'a page, by a directive within "if"');


# Only a client asks for refunds, no subrequest for it and no other call.

is($caller->request('POST', '/asked', [], 'x')->{status}, 500, 'a subrequest');
is($caller->create('/looped')->{line}, '502 unknown NO_RESPONSE retryable',
   'a call that leads to another');
ok($nginx->wait_for_log('error.log',
                        qr/\[error\].*takes requests of clients only/),
   'the error log says why');


# Each rule: [ what is wrong, the fields, the field that the answer names ]

my $long = 'x' x 65;
my @rules = (
    [ 'no out_refund_no', { out_refund_no => undef }, 'out_refund_no' ],
    [ 'an empty out_refund_no', { out_refund_no => '' }, 'out_refund_no' ],
    [ 'a long out_refund_no', { out_refund_no => $long }, 'out_refund_no' ],
    [ 'a number as out_refund_no', { out_refund_no => 1 }, 'out_refund_no' ],
    (map { [ "$_ in out_refund_no", { out_refund_no => "a${_}b" },
             'out_refund_no' ] }
         ' ', '/', '%', '.', '#', '?', '&', '+', ':', "\t", "\n", '退',
         '\\', '"'),
    [ 'no order', { transaction_id => undef }, 'transaction_id' ],
    [ 'two orders', { transaction_id => '4200', out_trade_no => 'order' },
      'out_trade_no' ],
    [ 'an empty transaction_id', { transaction_id => '' }, 'transaction_id' ],
    [ 'a long transaction_id', { transaction_id => '4' x 33 },
      'transaction_id' ],
    [ 'an odd transaction_id', { transaction_id => '42 00' },
      'transaction_id' ],
    [ 'a long out_trade_no', { out_trade_no => 'o' x 33 }, 'out_trade_no' ],
    [ 'an odd out_trade_no', { out_trade_no => '<o>' }, 'out_trade_no' ],
    [ 'a long reason', { reason => 'x' x 81 }, 'reason' ],
    [ 'a long reason in Chinese', { reason => '退' x 27 }, 'reason' ],
    [ 'a reason that is no text', { reason => [] }, 'reason' ],
    [ 'a notify_url without TLS', { notify_url => 'http://a.example/' },
      'notify_url' ],
    [ 'a notify_url with a query', { notify_url => 'https://a.example/?b' },
      'notify_url' ],
    [ 'a long notify_url',
      { notify_url => 'https://a.example/' . 'x' x 239 }, 'notify_url' ],
    [ 'an unknown funds_account', { funds_account => 'MINE' },
      'funds_account' ],
    [ 'no amount', { amount => undef }, 'amount' ],
    [ 'an amount that is a number', { amount => 1 }, 'amount' ],
    [ 'no refund', { amount => { refund => undef } }, 'amount.refund' ],
    [ 'no total', { amount => { total => undef } }, 'amount.total' ],
    [ 'a refund of nothing', { amount => { refund => 0 } }, 'amount.refund' ],
    [ 'a negative refund', { amount => { refund => -1 } }, 'amount.refund' ],
    [ 'half a fen', { amount => { refund => 0.5 } }, 'amount.refund' ],
    [ 'a refund as text', { amount => { refund => '1' } }, 'amount.refund' ],
    [ 'a total as text', { amount => { total => '1' } }, 'amount.total' ],
    [ 'more than the total', { amount => { refund => 2 } }, 'amount.refund' ],
    [ 'another currency', { amount => { currency => 'USD' } },
      'amount.currency' ],
    [ 'an unknown member of amount', { amount => { fee => 1 } },
      'amount.fee' ],
    [ 'an unknown member', { colour => 'red' }, 'colour' ],
    [ 'a sub_mch_id for a merchant that has none',
      { sub_mch_id => '1900000999' }, 'sub_mch_id' ],
);

my @rules_v3 = (
    [ 'from that is no list', { amount => { from => {} } }, 'amount.from' ],
    [ 'goods_detail that is no list', { goods_detail => {} },
      'goods_detail' ],
);

my @rules_v2 = (
    [ 'amount.from under v2', { amount => { refund => 10, total => 10,
                                            from => $from } },
      'amount.from' ],
    [ 'goods_detail under v2', { goods_detail => $goods }, 'goods_detail' ],
);

my @rules_agent = (
    [ 'a service provider without sub_mch_id', {}, 'sub_mch_id' ],
    [ 'a sub_mch_id of somebody else\'s', { sub_mch_id => '1900000997' },
      'sub_mch_id' ],
);

$server->forget;
check_rules('/v3', @rules, @rules_v3);
check_rules('/v2', @rules, @rules_v2);
check_rules($_, @rules_agent) for '/agent/v3', '/agent/v2';

# what perl's JSON does not write

for ([ 'not JSON', '{' ],
     [ 'nothing', '' ],
     [ 'a list', '[]' ],
     [ 'text behind it', '{}x' ],
     [ 'not UTF-8', "{\"reason\":\"\xff\"}" ],
     [ 'a member twice', '{"out_refund_no":"a","out_refund_no":"b"}' ],
     [ 'a NUL', '{"out_refund_no":"a\\u0000b"}' ],
     [ 'a huge number', '{"out_refund_no":"a","transaction_id":"4",'
       . '"amount":{"refund":1,"total":99999999999999999999,'
       . '"currency":"CNY"}}' ],
     [ 'a deep body', '{"amount":' x 1000 ])
{
    my ($name, $text) = @$_;

    like($caller->call('POST', '/v3', $text)->{line},
         qr/^400 rejected PARAM_ERROR/, $name);
}

is(scalar $server->requests, 0, 'none of them was sent');


# What is no call at all

for ([ 'DELETE', '/v3', '{}', 405 ], [ 'PUT', '/v3', '{}', 405 ],
     [ 'PUT', '/v3/a', '{}', 405 ], [ 'PUT', '/v3/a/abnormal', '{}', 405 ],
     [ 'POST', '/v3/a/b/c', '{}', 404 ], [ 'POST', '/v3//abnormal', '{}', 404 ],
     (map { [ 'POST', "/v3/a/$_", '{}', 404 ] } 'abnormally', 'abnormas'),
     [ 'POST', '/named?merchant=nobody', '{}', 404 ],
     [ 'POST', '/named?merchant=md5', '{}', 404 ],
     [ 'POST', '/v3', '{"reason":"' . 'x' x 70_000 . '"}', 413 ])
{
    my ($method, $path, $text, $status) = @$_;

    like($caller->call($method, $path, $text)->{line},
         qr/^$status rejected [A-Z_]+$/, "$method $path: $status");
}

is(scalar $server->requests, 0, 'nothing was sent');

$nginx->stop;
no_secrets($nginx, map { $pay->secrets($_) } $shop, $md5, $agent, $certified);
unlike($nginx->error_log, qr/sold out|商品已售完/, 'nor the reason');

done_testing();


sub check_rules {
    my ($location, @wrong) = @_;

    for (@wrong) {
        my ($name, $fields, $field) = @$_;
        my $body = $caller->body(%$fields);

        delete $body->{amount}
            if exists $fields->{amount} && !defined $fields->{amount};

        my $answer = $caller->call('POST', $location, $body);

        is($answer->{line}, "400 rejected PARAM_ERROR $field",
           "$location: $name" =~ s/[^ -~]/?/gr);
        ok(length($answer->{json}{error}{message} // ''), 'and says why');
    }

    return;
}


# The fields as sent, without those that are new in every call.

sub sent {
    my ($request) = @_;

    my %fields = %{ $request->{fields} || {} };

    delete @fields{qw(nonce_str sign)};
    return \%fields;
}


sub as_v3 {
    my ($body, $sent) = @_;

    my %fields = (%$sent, %$body);

    $fields{sub_mchid} = delete $fields{sub_mch_id}
        if defined $fields{sub_mch_id};
    return \%fields;
}


sub as_v2 {
    my ($shop, $body, $sent) = @_;

    my %fields = (
        appid => $shop->{app_id}[0], mch_id => $shop->{mch_id},
        sign_type => $shop->{v2_sign_type} // 'HMAC-SHA256',
        total_fee => $body->{amount}{total},
        refund_fee => $body->{amount}{refund}, refund_fee_type => 'CNY',
        refund_desc => $body->{reason},
        refund_account => $body->{funds_account}
                          && "REFUND_SOURCE_$body->{funds_account}_FUNDS",
        %$sent,
        map { $_ => $body->{$_} }
            qw(out_refund_no transaction_id out_trade_no sub_mch_id),
            defined $body->{notify_url} ? 'notify_url' : ()
    );

    return { map { $_ => $fields{$_} } grep { defined $fields{$_} }
                                            keys %fields };
}


sub answered {
    my ($shop, $body, $v2) = @_;

    my $booked = $server->refund($body->{out_refund_no}) || {};
    my $refund = $body->{amount}{refund};
    my $total = $body->{amount}{total};

    my %data = (
        mch_id => $shop->{mch_id}, status => 'PROCESSING',
        (map { $_ => $booked->{$_} }
             qw(transaction_id out_trade_no refund_id out_refund_no)),
        defined $body->{sub_mch_id} ? (sub_mch_id => $body->{sub_mch_id}) : (),
    );

    if ($v2) {
        $data{app_id} = $shop->{app_id}[0];
        $data{amount} = { total => $total, refund => $refund,
                          settlement_refund => $refund };
        $data{extra} = { cash_fee => $total, cash_refund_fee => $refund,
                         coupon_refund_count => 0, coupon_refund_fee => 0 };
        $_ = "$_" for values %{ $data{extra} };

    } else {
        $data{channel} = 'ORIGINAL';
        $data{funds_account} = $body->{funds_account} // 'AVAILABLE';
        $data{create_time} = $booked->{create_time};
        $data{user_received_account} = $booked->{account};
        $data{amount} = { total => $total, refund => $refund,
                          payer_total => $total, payer_refund => $refund,
                          settlement_total => $total,
                          settlement_refund => $refund, currency => 'CNY' };
        $data{extra} = { promotion_detail => [],
                         amount => { from => $body->{amount}{from} // [],
                                     discount_refund => 0, refund_fee => 0 } };
    }

    return { outcome => 'accepted', provider => 'wechatpay',
             api_version => $v2 ? 'v2' : 'v3', merchant => $shop->{name},
             data => \%data };
}
