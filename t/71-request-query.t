#!/usr/bin/perl

# A refund asked after: by each of its ids and their order, page by page, for a
# service provider; the abnormal refund that is made again to another account;
# and what the business app is answered.

use lib 't/lib';
use utf8;
use RefundNotify::Test;

use Encode qw(encode_utf8);

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
        listen 127.0.0.1:%%PORT%%;

        location /v3 {
            refund_request shop;
            refund_request_pass /internal/shop;
        }

        location /v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/shop;
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

        location /internal/shop/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/shop-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/shop-apiclient_key.pem;
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
my $agent = $pay->merchant(name => 'agent', app_id => [ 'wx8888888888888883' ],
                           sub_mch_id => [ '1900000998', '1900000999' ],
                           merchant_serial => '5157F09EFDC047057A03');

my $server = wechatpay_server(merchants => [ $shop, $agent ]);
my $nginx = nginx(with_merchants($conf, $shop, $agent),
                  vars => { PAY => $server->port, FILES => scratch_dir(),
                            INCLUDE => $server->include });
my $caller = caller_of($nginx);


# One refund, by each of its ids.

my $body = $caller->body(out_refund_no => 'R_-|*@1', transaction_id => undef,
                         out_trade_no => 'order-1');

$caller->call('POST', '/v3', $body);
$server->conclude('R_-|*@1', 'SUCCESS');

my $refund = $server->refund('R_-|*@1');
my $data = {
    mch_id => $shop->{mch_id}, status => 'SUCCESS', channel => 'ORIGINAL',
    user_received_account => $refund->{account}, funds_account => 'AVAILABLE',
    (map { $_ => $refund->{$_} }
         qw(transaction_id out_trade_no refund_id out_refund_no create_time
            success_time)),
    amount => { total => 1, refund => 1, payer_total => 1, payer_refund => 1,
                settlement_total => 1, settlement_refund => 1,
                currency => 'CNY' },
    extra => { promotion_detail => [],
               amount => { from => [], discount_refund => 0,
                           refund_fee => 0 } },
};

for my $path ('/v3/R_-|*@1', '/v3/R_-%7C%2A%401', '/v3/R_-%7c*@1',
              '/v3?out_refund_no=R_-|*@1', '/v3?out_refund_no=R_-%7C%2a%401',
              '/v3?refund_id=1&out_refund_no=R_-%7C*@1&transaction_id=2')
{
    $server->forget;

    my $answer = query($path);

    is($answer->{line}, '200 accepted', "v3: $path");
    is_deeply([ $server->problems ], [], 'rightly sent');
    is_deeply($answer->{json}{data}, $data, 'the refund');
}

$server->forget;

for my $id (qw(refund_id transaction_id out_trade_no)) {
    is(query("/v3?$id=$refund->{$id}")->{line},
       "400 rejected PARAM_ERROR $id", "v3: by $id alone");
}

for ([ '/v3', 'out_refund_no' ], [ '/v3?out_refund_no=', 'out_refund_no' ],
     [ '/v3?out_refund_no=a%20b', 'out_refund_no' ],
     [ '/v3?out_refund_no=a%2fb', 'out_refund_no' ],
     [ '/v3/' . 'x' x 65, 'out_refund_no' ],
     [ '/v3/a%20b', 'out_refund_no' ],
     [ '/v3/a?sub_mch_id=1900000999', 'sub_mch_id' ],
     [ '/v3/a?offset=10', 'offset' ],
     [ '/v2', 'out_refund_no' ],
     [ '/v2?out_trade_no=o&offset=x', 'offset' ],
     [ '/v2?out_trade_no=o&offset=-1', 'offset' ],
     [ '/v2?refund_id=a%3Cb', 'refund_id' ],
     [ '/agent/v3/a', 'sub_mch_id' ],
     [ '/agent/v2?out_trade_no=o', 'sub_mch_id' ],
     [ '/agent/v2/a?sub_mch_id=1900000997', 'sub_mch_id' ])
{
    my ($path, $field) = @$_;

    is(query($path)->{line}, "400 rejected PARAM_ERROR $field", $path);
}

is(scalar $server->requests, 0, 'none of these was sent');

is(query('/v3/nobody')->{line}, '404 rejected RESOURCE_NOT_EXISTS',
   'v3: no such refund');
is(query('/v2/nobody')->{line},
   '404 rejected RESOURCE_NOT_EXISTS (REFUNDNOTEXIST)', 'v2: no such refund');


# v2: the first of refund_id, out_refund_no, transaction_id, out_trade_no

my @ids = qw(refund_id out_refund_no transaction_id out_trade_no);

for my $from (0 .. $#ids) {
    my $arguments = join '&', map {
        my $value = $_ == $from ? $refund->{ $ids[$_] } : 'other';
        "$ids[$_]=" . $value =~ s/\|/%7C/r
    } reverse $from .. $#ids;

    $server->forget;

    my $answer = query("/v2?$arguments");
    my ($request) = $server->requests;

    is($answer->{line}, '200 accepted', "v2: $ids[$from] before the rest");
    is_deeply([ $server->problems ], [], 'rightly sent');
    is(join(' ', grep { /_id$|_no$/ && !/^mch/ }
                      sort keys %{ $request->{fields} }),
       $ids[$from], 'and no other id');
}

$server->forget;
is(query('/v2/R_-|*@1')->{line}, '200 accepted', 'v2: by its path');
is(($server->requests)[0]{path}, '/pay/refundquery', 'where it asks');


# v2: all that an answer has, for one refund and for an order's.

$server->rules({ coupons => [ [ 'c1', 'CASH', 3 ], [ 'c2', 'NO_CASH', 4 ] ] });
$caller->create('/v2', out_refund_no => 'C1', out_trade_no => 'order-c',
                amount => { refund => 10, total => 20 });
$server->rules;
$server->conclude('C1', 'ABNORMAL');

my $coupons = $server->refund('C1');
my %one = (
    status => 'ABNORMAL', channel => 'ORIGINAL', out_refund_no => 'C1',
    refund_id => $coupons->{refund_id},
    user_received_account => $coupons->{account},
    funds_account => 'AVAILABLE',
);

my $answer = query('/v2/C1');
my %got = %{ $answer->{json}{data} };

is_deeply({ map { $_ => $got{$_} } keys %one }, \%one,
          'v2: one refund that is abnormal');
is($got{mch_id}, $shop->{mch_id}, 'its merchant');
is($got{app_id}, $shop->{app_id}[0], 'its app');
is_deeply($got{amount}, { total => 20, refund => 10, settlement_refund => 3 },
          'its amounts');
is_deeply($got{extra}, {
    fee_type => 'CNY', cash_fee => '20', coupon_refund_count => '2',
    coupon_refund_fee => '7', coupon_refund_id_0 => 'c1',
    coupon_type_0 => 'CASH', coupon_refund_fee_0 => '3',
    coupon_refund_id_1 => 'c2', coupon_type_1 => 'NO_CASH',
    coupon_refund_fee_1 => '4',
}, 'and all else, its coupons too');

my $order = query('/v2?out_trade_no=order-c')->{json}{data};

is(scalar @{ $order->{refunds} || [] }, 1, 'the same by its order: a list');
is_deeply({ map { $_ => $order->{refunds}[0]{$_} } keys %one }, \%one,
          'with it');


# 36 refunds of one order, page by page, without one of them lost or twice

$caller->create('/v2', out_refund_no => "many$_", out_trade_no => 'order-36',
                amount => { refund => 10, total => 360 }) for 1 .. 36;
$server->forget;

my (@seen, @counts);

for my $offset (0, 10, 20, 30) {
    my $page = query("/v2?out_trade_no=order-36&offset=$offset");
    my $data = $page->{json}{data};

    push @seen, map { $_->{out_refund_no} } @{ $data->{refunds} };
    push @counts, $data->{total_refund_count};
    is(scalar @{ $data->{refunds} }, $offset == 30 ? 6 : 10,
       "the page from $offset");
    is($data->{out_trade_no}, 'order-36', 'its order');
}

is_deeply(\@seen, [ map { "many$_" } 1 .. 36 ], 'all 36 of them');
is_deeply(\@counts, [ (36) x 4 ], 'total_refund_count');
is_deeply([ $server->problems ], [], 'rightly asked');
is(query('/v2?out_trade_no=order-36&offset=36')->{line},
   '404 rejected RESOURCE_NOT_EXISTS (REFUNDNOTEXIST)', 'beyond the last');


# An answer with more fields than any that is known

$server->rules({ command => 'query', answer => {
    refund_count => 500,
    (map { ("out_refund_no_$_" => "more$_", "refund_id_$_" => 50000 + $_,
            "refund_fee_$_" => 1, "refund_status_$_" => 'PROCESSING') }
         10 .. 499),
    map { ("coupon_refund_id_0_$_" => "id$_") } 0 .. 99,
} });
my $long = query('/v2?out_trade_no=order-36');

is($long->{line}, '200 accepted', 'v2: 500 refunds in an answer');
is($long->{json}{data}{refunds}[499]{out_refund_no}, 'more499', 'the last');
$server->rules;


# An answer of three refunds, of which one was asked for, wherever it stands

for my $n (0 .. 2) {
    my $mine = $caller->create('/v2', out_refund_no => "three$n")->{json}{data};

    $server->rules({ command => 'query', answer => {
        refund_count => 3,
        (map { ("out_refund_no_$_" => $_ == $n ? "three$n" : "other$_",
                "refund_id_$_" => $_ == $n ? $mine->{refund_id} : "5000$_",
                "refund_fee_$_" => 1 + $_,
                "refund_status_$_" => 'PROCESSING') } 0 .. 2),
    } });

    for my $path ("/v2/three$n", "/v2?refund_id=$mine->{refund_id}") {
        my $answer = query($path);
        my $data = $answer->{json}{data};

        is($answer->{line}, '200 accepted', "v2: three refunds, $n is meant");
        is_deeply([ @$data{qw(refund_id out_refund_no)} ],
                  [ $mine->{refund_id}, "three$n" ], 'and answered');
        is($data->{amount}{refund}, 1 + $n, 'with its amount');
    }
}

$server->rules;


# A service provider's, and its sub-merchants'.

for my $version (qw(v2 v3)) {
    $caller->create("/agent/$version", out_refund_no => "S$version",
                    sub_mch_id => '1900000999');
    $server->forget;

    my $mine = query("/agent/$version/S$version?sub_mch_id=1900000999");

    is($mine->{line}, '200 accepted', "$version: a sub-merchant's refund");
    is_deeply([ $server->problems ], [], 'rightly asked');
    is($mine->{json}{data}{sub_mch_id}, '1900000999', 'and answered');
    like(query("/agent/$version/S$version?sub_mch_id=1900000998")->{line},
         qr/^404 rejected RESOURCE_NOT_EXISTS/, 'not another\'s');
}

is_deeply(($server->requests)[0]{fields}, { sub_mchid => '1900000999' },
          'v3: as an argument');


# An abnormal refund to another account; the account is in no log.

my $account = '6225888877776666';
my %abnormal = (out_refund_no => 'A1', type => 'USER_BANK_CARD',
                bank_type => 'ICBC_DEBIT', bank_account => $account,
                real_name => '李雷');

$caller->create('/v3', out_refund_no => 'A1');
$server->conclude('A1', 'ABNORMAL');
$server->forget;

my $id = $server->refund('A1')->{refund_id};
my $path = "/v3/$id/abnormal";
my $again = $caller->call('POST', $path, \%abnormal);
my ($request) = $server->requests;

is($again->{line}, '200 accepted', 'an abnormal refund, to another account');
is_deeply([ $server->problems ], [], 'rightly sent');
is($request->{path}, "/v3/refund/domestic/refunds/$id/apply-abnormal-refund",
   'where to');
is_deeply($request->{decrypted}, { bank_account => $account,
                                   real_name => '李雷' },
          'encrypted to WeChat Pay');
is($again->{json}{data}{status}, 'PROCESSING', 'under way again');
is($again->{json}{data}{channel}, 'OTHER_BANKCARD', 'another way');

is($caller->call('POST', $path, \%abnormal)->{line},
   '400 rejected INVALID_REQUEST', 'it is not abnormal any more');
$server->conclude('A1', 'ABNORMAL');
$server->forget;
is($caller->call('POST', $path, { out_refund_no => 'A1',
                                  type => 'MERCHANT_BANK_CARD' })->{line},
   '200 accepted', 'to the merchant\'s account');
is_deeply([ $server->problems ], [], 'rightly sent');
$server->forget;

for ([ { out_refund_no => undef }, 'out_refund_no' ],
     [ { type => undef }, 'type' ], [ { type => 'CASH' }, 'type' ],
     [ { bank_type => undef }, 'bank_type' ],
     [ { bank_account => undef }, 'bank_account' ],
     [ { real_name => undef }, 'real_name' ],
     [ { bank_account => 'x' x 2000 }, 'bank_account' ],
     [ { bank_account => 6225 }, 'bank_account' ],
     [ { colour => 'red' }, 'colour' ],
     [ { sub_mch_id => '1900000999' }, 'sub_mch_id' ])
{
    my ($change, $field) = @$_;
    my %body = (%abnormal, %$change);

    delete @body{ grep { !defined $body{$_} } keys %body };
    is($caller->call('POST', $path, \%body)->{line},
       "400 rejected PARAM_ERROR $field",
       "abnormal: $field" . (defined $body{$field} ? '' : ' is missing'));
}

is($caller->call('POST', $path, '')->{line}, '400 rejected PARAM_ERROR',
   'abnormal: nothing');
like($caller->call('POST', "/v2/$id/abnormal", \%abnormal)->{line},
     qr/^4\d\d rejected/, 'v2 has no such call');
is(scalar $server->requests, 0, 'none of these was sent');

$nginx->stop;
no_secrets($nginx, $account, encode_utf8('李雷'),
           map { $pay->secrets($_) } $shop, $agent);

done_testing();


sub query {
    my ($path) = @_;

    return $caller->call('GET', $path);
}
