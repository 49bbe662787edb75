#!/usr/bin/perl

# The JSON that the business app receives: how the fields of v2 and v3 become
# its members, as whole texts.

use lib 't/lib';
use RefundNotify::Test;

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

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /shop {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /agent {
            refund_notify agent;
            refund_notify_pass /internal/refunds;
        }

        location = /any {
            refund_notify any;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(mch_id => '10000100');
my $agent = $pay->merchant(name => 'agent', mch_id => '1900000109',
                           app_id => [ 'wx8888888888888888' ],
                           sub_mch_id => [ '1900000110', '1900000111' ]);
my $any = $pay->merchant(name => 'any', mch_id => '1900000119',
                         sub_mch_id => [ '*' ]);
my %shops = (shop => $shop, agent => $agent, any => $any);

my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop, $agent, $any),
                  vars => { APP => $app->port });
my $client = client($nginx);


# Delivers it, and returns what the business app received.

sub delivered {
    my ($name, $shop, $version, %option) = @_;

    my $make = "${version}_notify";
    my $notify = $pay->$make($shops{$shop}, %option);

    $app->forget;
    my $response = $client->post("/$shop", $notify);
    ok($pay->acknowledged($notify, $response), "$name: acknowledged")
        or diag($response->{body}, "\n", $nginx->error_log);

    my @requests = $app->requests;
    is(scalar @requests, 1, "$name: delivered");

    return ($requests[0]{body} // '', $notify);
}


# The data of a notify whose fields are all given, as text.

my %v2 = (transaction_id => 'T', out_trade_no => 'O', out_refund_no => 'N');
my %v3 = %v2;
my $id = 0;

sub data {
    my ($name, $shop, $version, %option) = @_;

    my ($body, $notify) = delivered($name, $shop, $version,
                                    refund_id => 'R' . ++$id,
                                    $version eq 'v2' ? %v2 : %v3, %option);
    my ($data) = $body =~ /^\{"type":.*?,"data":(\{.*\})\}$/s;

    ok(eval { decode_json($body) }, "$name: it is JSON");

    return ($data // $body) =~ s/"refund_id":"R$id"/"refund_id":"R"/r;
}


# the two of the documentation

my ($body) = delivered('v3', 'agent', 'v3',
    -partner => '1900000110',
    -outer => { create_time => '2018-06-08T10:34:56+08:00' },
    transaction_id => '1008450740201411110005820873',
    out_trade_no => '20150806125346',
    refund_id => '50200207182018070300011301001',
    out_refund_no => '7752501201407033233368018');

is($body, '{"type":"refund.succeeded",'
   . '"timestamp":"2018-06-08T10:34:56+08:00",'
   . '"id":"wechatpay:1900000109:50200207182018070300011301001:SUCCESS",'
   . '"provider":"wechatpay","api_version":"v3","merchant":"agent",'
   . '"data":{"mch_id":"1900000109","sub_mch_id":"1900000110",'
   . '"transaction_id":"1008450740201411110005820873",'
   . '"out_trade_no":"20150806125346",'
   . '"refund_id":"50200207182018070300011301001",'
   . '"out_refund_no":"7752501201407033233368018","status":"SUCCESS",'
   . '"success_time":"2018-06-08T10:34:56+08:00",'
   . '"user_received_account":"招商银行信用卡0403",'
   . '"amount":{"total":999,"refund":999,"payer_total":999,'
   . '"payer_refund":999}}}', 'v3: the JSON');

($body) = delivered('v2', 'shop', 'v2',
    cash_refund_fee => '3960',
    transaction_id => '4200000215201811190261405420',
    out_trade_no => '71106718111915575302817',
    refund_id => '50000408942018111907145868882',
    out_refund_no => '131811191610442717309');

is($body, '{"type":"refund.succeeded",'
   . '"timestamp":"2018-11-19T16:24:13+08:00",'
   . '"id":"wechatpay:10000100:50000408942018111907145868882:SUCCESS",'
   . '"provider":"wechatpay","api_version":"v2","merchant":"shop",'
   . '"data":{"mch_id":"10000100","app_id":"wx2421b1c4370ec43b",'
   . '"transaction_id":"4200000215201811190261405420",'
   . '"out_trade_no":"71106718111915575302817",'
   . '"refund_id":"50000408942018111907145868882",'
   . '"out_refund_no":"131811191610442717309","status":"SUCCESS",'
   . '"success_time":"2018-11-19T16:24:13+08:00",'
   . '"user_received_account":"支付用户零钱","funds_account":"AVAILABLE",'
   . '"request_source":"API","amount":{"total":3960,"refund":3960,'
   . '"settlement_total":3960,"settlement_refund":3960},'
   . '"extra":{"cash_refund_fee":"3960"}}}', 'v2: the JSON');


# What every v2 case leaves out, and what is then left.

my @bare = map { $_ => undef } qw(refund_account refund_recv_accout
    refund_request_source settlement_refund_fee settlement_total_fee
    success_time);
my $ids = '"transaction_id":"T","out_trade_no":"O","refund_id":"R",'
          . '"out_refund_no":"N"';
my $v2_head = qq({"mch_id":"10000100","app_id":"wx2421b1c4370ec43b",$ids,);
my $v2_money = '"amount":{"total":3960,"refund":3960}';
my $v3_head = qq({"mch_id":"10000100",$ids,);
my $v3_money = '"amount":{"total":999,"refund":1}';
my @v3_bare = (success_time => undef, user_received_account => undef,
               amount => { total => 999, refund => 1 });

my @cases = (
    [ 'v2, nothing optional', 'shop', 'v2', [ @bare ],
      qq($v2_head"status":"SUCCESS",$v2_money}) ],
    [ 'v2, CHANGE', 'shop', 'v2', [ @bare, refund_status => 'CHANGE' ],
      qq($v2_head"status":"ABNORMAL",$v2_money}) ],
    [ 'v2, REFUNDCLOSE', 'shop', 'v2',
      [ @bare, refund_status => 'REFUNDCLOSE' ],
      qq($v2_head"status":"CLOSED",$v2_money}) ],
    [ 'v2, unsettled funds', 'shop', 'v2',
      [ @bare, refund_account => 'REFUND_SOURCE_UNSETTLED_FUNDS' ],
      qq($v2_head"status":"SUCCESS","funds_account":"UNSETTLED",$v2_money}) ],
    [ 'v2, the platform', 'shop', 'v2',
      [ @bare, refund_request_source => 'VENDOR_PLATFORM' ],
      qq($v2_head"status":"SUCCESS","request_source":"VENDOR_PLATFORM",)
      . "$v2_money}" ],
    [ 'v2, without appid', 'shop', 'v2',
      [ @bare, -outer => { appid => undef } ],
      qq({"mch_id":"10000100",$ids,"status":"SUCCESS",$v2_money}) ],
    [ 'v2, large and zero money', 'shop', 'v2',
      [ @bare, total_fee => '90071992547409', refund_fee => '0' ],
      qq($v2_head"status":"SUCCESS",)
      . '"amount":{"total":90071992547409,"refund":0}}' ],
    [ 'v2, an unknown field', 'shop', 'v2',
      [ @bare, coupon_refund_fee_0 => '1', zz => '' ],
      qq($v2_head"status":"SUCCESS",$v2_money,)
      . '"extra":{"coupon_refund_fee_0":"1","zz":""}}' ],
    [ 'v2, what JSON has to escape', 'shop', 'v2',
      [ @bare, refund_recv_accout => qq(a"b\\c/d\te\x{2028}\x{1f600}<>&') ],
      sub { $_[0]{user_received_account}
            eq qq(a"b\\c/d\te\x{2028}\x{1f600}<>&') } ],
    [ 'v2, entities', 'shop', 'v2',
      [ -plaintext => '<root><transaction_id>T</transaction_id>'
        . '<out_trade_no>O</out_trade_no><out_refund_no>N</out_refund_no>'
        . '<refund_id>E1</refund_id><refund_status>SUCCESS</refund_status>'
        . '<total_fee>3960</total_fee><refund_fee>3960</refund_fee>'
        . '<refund_recv_accout>a&amp;b&#x4e2d;&lt;</refund_recv_accout>'
        . '</root>' ],
      sub { $_[0]{user_received_account} eq "a&b\x{4e2d}<" } ],
    [ 'v2, partner', 'agent', 'v2',
      [ @bare, -partner => '1900000111',
        -outer => { sub_appid => 'wxsub' } ],
      '{"mch_id":"1900000109","sub_mch_id":"1900000111",'
      . '"app_id":"wx8888888888888888","sub_app_id":"wxsub",'
      . qq($ids,"status":"SUCCESS",$v2_money}) ],
    [ 'v2, partner of any', 'any', 'v2', [ @bare, -partner => '77' ],
      '{"mch_id":"1900000119","sub_mch_id":"77",'
      . qq("app_id":"wx2421b1c4370ec43b",$ids,"status":"SUCCESS",$v2_money}) ],

    [ 'v3, nothing optional', 'shop', 'v3', [ @v3_bare ],
      qq($v3_head"status":"SUCCESS",$v3_money}) ],
    [ 'v3, ABNORMAL', 'shop', 'v3', [ -status => 'ABNORMAL', @v3_bare ],
      qq($v3_head"status":"ABNORMAL",$v3_money}) ],
    [ 'v3, CLOSED', 'shop', 'v3', [ -status => 'CLOSED', @v3_bare ],
      qq($v3_head"status":"CLOSED",$v3_money}) ],
    [ 'v3, funds_account', 'shop', 'v3',
      [ @v3_bare, funds_account => 'UNSETTLED' ],
      qq($v3_head"status":"SUCCESS","funds_account":"UNSETTLED",$v3_money}) ],
    [ 'v3, a currency', 'shop', 'v3',
      [ @v3_bare, amount => { total => 9, refund => 1, currency => 'CNY' } ],
      qq($v3_head"status":"SUCCESS",)
      . '"amount":{"total":9,"refund":1,"currency":"CNY"}}' ],
    [ 'v3, unknown members', 'shop', 'v3',
      [ @v3_bare, channel => 'ORIGINAL' ],
      qq($v3_head"status":"SUCCESS",$v3_money,)
      . '"extra":{"channel":"ORIGINAL"}}' ],
    [ 'v3, of every kind', 'shop', 'v3',
      [ @v3_bare, promotion_detail => [ { a => 1, b => [ undef, 1.5 ] } ] ],
      sub { $_[0]{extra}{promotion_detail}[0]{a} == 1
            && !defined $_[0]{extra}{promotion_detail}[0]{b}[0]
            && $_[0]{extra}{promotion_detail}[0]{b}[1] == 1.5 } ],
    [ 'v3, unknown members of amount', 'shop', 'v3',
      [ @v3_bare, amount => { total => 999, refund => 1,
                              discount_refund => 5 } ],
      qq($v3_head"status":"SUCCESS",$v3_money,)
      . '"extra":{"amount":{"discount_refund":5}}}' ],
    [ 'v3, partner of any', 'any', 'v3', [ @v3_bare, -partner => '77' ],
      '{"mch_id":"1900000119","sub_mch_id":"77",'
      . qq($ids,"status":"SUCCESS",$v3_money}) ],
    [ 'v3, what JSON has to escape', 'shop', 'v3',
      [ @v3_bare, user_received_account =>
            qq(a"b\\c/d\t\x{1}\x{7f}e\x{2028}\x{1f600}<>&') ],
      sub { $_[0]{user_received_account}
            eq qq(a"b\\c/d\t\x{1}\x{7f}e\x{2028}\x{1f600}<>&') } ],
    [ 'v3, associated_data empty', 'shop', 'v3',
      [ @v3_bare, -resource => { associated_data => '' } ],
      qq($v3_head"status":"SUCCESS",$v3_money}) ],
    [ 'v3, associated_data absent', 'shop', 'v3',
      [ @v3_bare, -resource => { associated_data => undef } ],
      qq($v3_head"status":"SUCCESS",$v3_money}) ],
);

for (@cases) {
    my ($name, $shop, $version, $option, $want) = @$_;
    my $data = data($name, $shop, $version, @$option);

    if (ref $want eq 'CODE') {
        ok(eval { $want->(decode_json($data)) }, "$name: data") or diag($data);

    } elsif (ref $want) {
        like($data, $want, "$name: data");

    } else {
        is($data, $want, "$name: data");
    }
}


# one refund, told by v2 and by v3, is one event

my ($v2_body, $v2) = delivered('v2 of a refund', 'shop', 'v2',
                               refund_id => 'SAME');
my $v3 = $pay->v3_notify($shop, refund_id => 'SAME');

$app->forget;
is($v2->{event_id}, $v3->{event_id}, 'v2 and v3 share the id');
ok($pay->acknowledged($v3, $client->post('/shop', $v3)), 'v3 is answered');
is(scalar(() = $app->requests), 0, 'and not delivered again');


# but a refund may become abnormal twice

for (1, 2) {
    my ($body, $notify) = delivered("ABNORMAL, $_", 'shop', 'v3',
                                    refund_id => 'TWICE',
                                    -status => 'ABNORMAL');

    is(decode_json($body)->{id}, "wechatpay:10000100:TWICE:ABNORMAL:"
       . decode_json($notify->{body})->{id}, "ABNORMAL, $_: its id");
}

done_testing;
