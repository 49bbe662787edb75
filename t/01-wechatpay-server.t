#!/usr/bin/perl

# The simulated API of WeChat Pay, asked by curl: it takes what is right, says
# what is wrong, and bends as it is told.  What it does not notice, no other
# test would.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(read_file write_file);
use RefundNotify::Test::WeChatPayServer;

use Crypt::Digest::MD5 qw(md5_hex);
use Crypt::Mac::HMAC qw(hmac_hex);
use JSON::XS qw(decode_json encode_json);
use MIME::Base64 qw(decode_base64 encode_base64);

my $dir = scratch_dir();
my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx8888888888888888' ],
                          merchant_serial => '5157F09EFDC057A72');
my $agent = $pay->merchant(name => 'agent', app_id => [ 'wx7777777777777777' ],
                           sub_mch_id => [ '1900000999' ],
                           merchant_serial => '6157F09EFDC057A72');

$pay->write($_, $dir) for $shop, $agent;

my $server = RefundNotify::Test::WeChatPayServer->new(
    merchants => [ $shop, $agent ]);
my $path = '/v3/refund/domestic/refunds';
my $n = 0;


# v3: each line one thing wrong with a call that is right otherwise

my @wrong = (
    [ 'the scheme', -scheme => 'WECHATPAY2-SHA256-RSA1024' ],
    [ 'another key', -key => rsa_key('stranger') ],
    [ 'another body', -sent => '{"amount":{}}' ],
    [ 'another path', -path => "$path/" ],
    [ 'another method', -method => 'PUT' ],
    [ 'an old timestamp', -timestamp => time - 400 ],
    [ 'another serial', -serial => '00' ],
    [ 'an unknown merchant', -mchid => '1900009999' ],
    [ 'a short nonce', -nonce => 'abc' ],
    [ 'a nonce again', -nonce => 'a' x 32 ],
    [ 'no Accept', -headers => [ 'Accept:' ] ],
    [ 'no User-Agent', -headers => [ 'User-Agent:' ] ],
    [ 'an unknown Wechatpay-Serial', -headers => [ 'Wechatpay-Serial: x' ] ],
    [ 'no JSON type', -headers => [ 'Content-Type: text/plain' ] ],
    [ 'no out_refund_no', out_refund_no => undef ],
    [ 'a bad out_refund_no', out_refund_no => 'a b' ],
    [ 'two order numbers', transaction_id => '42' ],
    [ 'no order number', out_trade_no => undef ],
    [ 'amounts as text', amount => { refund => '1', total => '1',
                                     currency => 'CNY' } ],
    [ 'no currency', amount => { refund => 1, total => 1 } ],
    [ 'a notify_url with a query', notify_url => 'https://a.example/?b' ],
    [ 'a sub_mchid', sub_mchid => '1900000999' ],
    [ 'a long reason', reason => 'x' x 81 ],
    [ 'an unknown member', more => 1 ],
);

create_v3(-nonce => 'a' x 32);
is_deeply([ $server->problems ], [], 'v3: a call that is right');

for (@wrong) {
    my ($name, %bend) = @$_;

    $server->forget;

    my $answer = create_v3(%bend);

    like($answer->{status}, qr/^4/, "v3: $name: refused");
    ok(scalar $server->problems, 'and noticed');
}

is($server->refunds, 1, 'nothing was booked');
$server->forget;


# v3: what is answered

my $first = create_v3(out_refund_no => 'R_-|*@1', out_trade_no => 'T1',
                      amount => { refund => 60, total => 100,
                                  currency => 'CNY' });
my $again = create_v3(out_refund_no => 'R_-|*@1', out_trade_no => 'T1',
                      amount => { refund => 60, total => 100,
                                  currency => 'CNY' });

is($first->{status}, 200, 'v3: a refund');
ok(verified($first), 'its signature');
is($again->{body}, $first->{body}, 'the same again: the same');
is(error(create_v3(out_refund_no => 'R_-|*@1', out_trade_no => 'T1',
                   amount => { refund => 61, total => 100,
                               currency => 'CNY' })),
   '400 INVALID_REQUEST', 'another amount');
is(error(create_v3(out_refund_no => 'R2', out_trade_no => 'T1',
                   amount => { refund => 41, total => 100,
                               currency => 'CNY' })),
   '403 NOT_ENOUGH', 'more than the order has left');
is(call_v3(-method => 'GET', -path => "$path/R_-%7C*\@1")->{body},
   $first->{body}, 'a query finds it');
is(error(call_v3(-method => 'GET', -path => "$path/R3")),
   '404 RESOURCE_NOT_EXISTS', 'and not another');
is(error(call_v3(-method => 'GET', -path => "$path/R_-%7C*\@1",
                 -shop => $agent)), '400 PARAM_ERROR',
   'a service provider names the sub-merchant');
is(error(call_v3(-method => 'GET', -shop => $agent,
                 -path => "$path/R_-%7C*\@1?sub_mchid=1900000999")),
   '404 RESOURCE_NOT_EXISTS', 'and sees its own refunds only');

my $notify = $server->notify('R_-|*@1', 'ABNORMAL');
my ($id) = $first->{body} =~ /"refund_id":"(\d+)"/;
my $serial = $shop->{public_key_id}[0];
my $encrypt = sub {
    return encode_base64(rsa_key($serial)->encrypt($_[0], 'oaep', 'SHA1'), '');
};

is($notify->{event_id} =~ s/:EV.*//r, "wechatpay:$shop->{mch_id}:$id:ABNORMAL",
   'its notify');
$server->forget;

my %abnormal = (-path => "$path/$id/apply-abnormal-refund",
                -headers => [ "Wechatpay-Serial: $serial" ]);
my %account = (out_refund_no => 'R_-|*@1', type => 'USER_BANK_CARD',
               bank_type => 'ICBC_DEBIT', real_name => $encrypt->('Li Lei'));

is(call_v3(%abnormal, -json => { %account,
                                 bank_account => $encrypt->('6222') })
   ->{status}, 200, 'an abnormal refund to another account');
is_deeply(($server->requests)[0]{decrypted},
          { bank_account => '6222', real_name => 'Li Lei' }, 'decrypted');
is(error(call_v3(%abnormal, -json => { %account, bank_account => '6222' })),
   '400 PARAM_ERROR', 'not encrypted: refused');
$server->forget;


# v3: bent

for my $how (qw(forged probe stale unknown lacking none)) {
    $server->rules({ sign => $how });
    ok(!verified(create_v3()), "v3: $how");
}

$server->rules({ empty => 1 });
my $empty = create_v3();
is("$empty->{status} $empty->{body}", '204 ', 'v3: empty');
ok(verified($empty), 'signed all the same');

$server->rules({ code => 'SYSTEM_ERROR' });
my $booked = $server->refunds;
is(error(create_v3()), '500 SYSTEM_ERROR', 'v3: an error');
is($server->refunds, $booked, 'not booked');

$server->rules({ code => 'SYSTEM_ERROR', booked => 1 });
create_v3();
is($server->refunds, $booked + 1, 'or booked');

for my $how (qw(reset close)) {
    $server->rules({ fault => $how });
    $booked = $server->refunds;
    is(create_v3()->{status}, '000', "v3: $how before it was booked");
    is($server->refunds, $booked, 'not booked');

    $server->rules({ after => $how });
    is(create_v3()->{status}, '000', "v3: $how after it was booked");
    is($server->refunds, $booked + 1, 'booked');
}

$server->rules({ cut => 20 });
is(create_v3()->{code}, 18, 'v3: cut short');
$server->rules({ padding => 100_000 });
my $huge = create_v3();
ok(length $huge->{body} > 100_000 && verified($huge), 'v3: huge');
$server->rules({ refund_status => 'SUCCESS' });
like(create_v3()->{body}, qr/"status":"SUCCESS".*"success_time":"20/,
     'v3: SUCCESS at once');
$server->rules({ answer => { out_refund_no => 'other' } });
like(create_v3()->{body}, qr/"out_refund_no":"other"/, 'v3: another number');
$server->rules;
$server->forget;


# v2

for my $type ('MD5', 'HMAC-SHA256') {
    my $answer = create_v2(sign_type => $type, out_refund_no => "V-$type");

    is_deeply([ $server->problems ], [], "v2: right, signed with $type");
    like($answer->{body}, qr/<result_code><!\[CDATA\[SUCCESS/, 'accepted');
    is($answer->{sign}, $answer->{right_sign}, 'and signed');
}

for ([ 'another key', qr/签名错误/, -key => 'x' x 32 ],
     [ 'no certificate', qr/No required SSL certificate was sent/,
       -certificate => undef ],
     [ 'a certificate of nobody', qr/The SSL certificate error/,
       -certificate => 'stranger' ],
     [ 'another merchant\'s certificate', qr/certificate not match/,
       -certificate => 'agent' ],
     [ 'an unknown field', qr/unknown field/, refund_desk => 'x' ],
     [ 'another appid', qr/appid/, appid => 'wx1' ],
     [ 'no amount', qr/refund is wrong/, refund_fee => undef ])
{
    my ($name, $message, %bend) = @$_;

    $server->forget;

    my $answer = create_v2(%bend);

    like($answer->{body}, $message, "v2: $name: refused");
    ok(scalar $server->problems, 'and noticed');
    is($answer->{sign}, undef, 'without a signature');
}

$server->forget;
create_v2(out_refund_no => "P$_", out_trade_no => 'many', total_fee => 36,
          refund_fee => 1) for 1 .. 12;

my $page = call_v2('/pay/refundquery', out_trade_no => 'many', offset => 10);

like($page->{body}, qr/<refund_count><!\[CDATA\[2\]\]>.*
                       <refund_status_1><!\[CDATA\[PROCESSING\]\]>.*
                       <total_refund_count><!\[CDATA\[12\]\]>/xs,
     'v2: the last page of a query');
like(call_v2('/pay/refundquery', refund_id => 'x', out_trade_no => 'many')
     ->{body}, qr/REFUNDNOTEXIST/, 'refund_id comes first');
is($page->{sign}, $page->{right_sign}, 'signed');

$server->rules({ code => 'BIZERR_NEED_RETRY' });
like(create_v2()->{body}, qr/<err_code><!\[CDATA\[BIZERR_NEED_RETRY/,
     'v2: an error');

for my $how (qw(forged lacking)) {
    $server->rules({ sign => $how });
    my $answer = create_v2();
    isnt($answer->{sign}, $answer->{right_sign}, "v2: $how");
}

$server->rules({ coupons => [ [ 'c1', 'CASH', 3 ], [ 'c2', 'NO_CASH', 4 ] ] });
my $coupons = create_v2(out_refund_no => 'C', total_fee => 20,
                        refund_fee => 10);
like($coupons->{body}, qr/<settlement_refund_fee><!\[CDATA\[3\]\]>/,
     'v2: with coupons');
like(call_v2('/pay/refundquery', out_refund_no => 'C')->{body},
     qr/<coupon_refund_fee_0_1><!\[CDATA\[4\]\]>/, 'and in a query');
is_deeply([ $server->problems ], [], 'all of these were right');

done_testing();


sub create_v3 {
    my (%bend) = @_;

    my %json = (out_refund_no => 'A' . ++$n, out_trade_no => "O$n",
                amount => { refund => 1, total => 1, currency => 'CNY' },
                map { $_ => $bend{$_} } grep { !/^-/ } keys %bend);

    delete @json{ grep { !defined $json{$_} } keys %json };
    return call_v3(-json => \%json,
                   map { $_ => $bend{$_} } grep { /^-/ } keys %bend);
}


sub call_v3 {
    my (%call) = @_;

    my $who = $call{-shop} // $shop;
    my $body = $call{-json} ? encode_json($call{-json}) : '';
    my $method = $call{-json} ? 'POST' : 'GET';
    my $target = $call{-json} ? $call{-path} // $path : $call{-path};
    my $signed_target = exists $call{-path} && $call{-path} eq "$path/"
                        ? $path : $target;
    my $timestamp = $call{-timestamp} // time;
    my $nonce = $call{-nonce} // sprintf '%032d', ++$n;
    my $signature = encode_base64(
        ($call{-key} // rsa_key($who->{merchant_serial}))->sign_message(
            "$method\n$signed_target\n$timestamp\n$nonce\n$body\n", 'SHA256',
            'v1.5'), '');

    my $authorization = join ',',
        'mchid="' . ($call{-mchid} // $who->{mch_id}) . '"',
        qq(nonce_str="$nonce"), qq(signature="$signature"),
        qq(timestamp="$timestamp"),
        'serial_no="' . ($call{-serial} // $who->{merchant_serial}) . '"';
    my $scheme = $call{-scheme} // 'WECHATPAY2-SHA256-RSA2048';
    my %headers = map { my ($name) = /^([\w-]+)/; ($name => $_) }
        "Authorization: $scheme $authorization", 'Accept: application/json',
        'User-Agent: test',
        $call{-json} ? 'Content-Type: application/json' : (),
        @{ $call{-headers} || [] };

    # "Name:" takes one of curl's own away

    return curl($target,
                '-X', $call{-method} // $method,
                (map { ('-H', $_) } values %headers),
                $call{-json} ? ('--data-binary', $call{-sent} // $body) : ());
}


sub create_v2 {
    my (%bend) = @_;

    return call_v2('/secapi/pay/refund', out_refund_no => 'B' . ++$n,
                   out_trade_no => "O$n", total_fee => 1, refund_fee => 1,
                   %bend);
}


sub call_v2 {
    my ($target, %bend) = @_;

    my %fields = (appid => $shop->{app_id}[0], mch_id => $shop->{mch_id},
                  nonce_str => sprintf('%032d', ++$n),
                  map { $_ => $bend{$_} } grep { !/^-/ } keys %bend);
    my $certificate = exists $bend{-certificate} ? $bend{-certificate}
                                                 : 'shop';
    my $base = "$dir/" . ($certificate // '') . '-apiclient';

    delete @fields{ grep { !defined $fields{$_} } keys %fields };

    if (($certificate // '') eq 'stranger') {
        my $key = rsa_key('stranger');

        write_file("${base}_key.pem", $key->export_key_pem('private'));
        write_file("${base}_cert.pem", certificate($key, serial => '07',
                                                   name => $shop->{mch_id}));
    }

    $fields{sign} = sign(\%fields, $fields{sign_type}, $bend{-key});

    my $answer = curl($target, '--data-binary',
                      join('', '<xml>', (map { "<$_>$fields{$_}</$_>" }
                                             keys %fields), '</xml>'),
                      defined $certificate
                      ? ('--cert', "${base}_cert.pem",
                         '--key', "${base}_key.pem") : ());

    my %got = $answer->{body} =~ /<(\w+)><!\[CDATA\[(.*?)\]\]>/g;

    $answer->{sign} = delete $got{sign};
    $answer->{right_sign} = sign(\%got, $fields{sign_type});
    return $answer;
}


sub sign {
    my ($fields, $type, $key) = @_;

    $key //= $shop->{v2_key}[0];

    my $text = join '&', (map { "$_=$fields->{$_}" }
                              grep { length $fields->{$_} }
                                   sort keys %$fields), "key=$key";

    return uc(($type // 'MD5') eq 'MD5' ? md5_hex($text)
                                        : hmac_hex('SHA256', $key, $text));
}


sub curl {
    my ($target, @arguments) = @_;

    my $port = $server->port;
    my $head = "$dir/head";
    my $host = 'api.mch.weixin.qq.com';

    unlink $head;
    open my $pipe, '-|', 'curl', '-s', '--globoff', '--path-as-is',
         '--max-time', slow(15), '--http1.1',
         '--resolve', "$host:$port:127.0.0.1", '--cacert', $server->authority,
         '-D', $head, '-w', "\n%{http_code}", @arguments,
         "https://$host:$port$target" or die "curl: $!\n";

    local $/;
    my $output = <$pipe>;
    close $pipe;
    my $code = $? >> 8;

    $output =~ s/\n(\d+)\z//;

    return { status => $1, body => $output, code => $code,
             head => read_file($head) };
}


sub error {
    my ($answer) = @_;

    return "$answer->{status} " . decode_json($answer->{body})->{code};
}


sub verified {
    my ($answer) = @_;

    my %header = $answer->{head} =~ /^Wechatpay-(\w+): (.*?)\r$/mg;

    return ($header{Serial} // '') eq $shop->{public_key_id}[0]
           && abs($header{Timestamp} - time) < 300
           && rsa_key($header{Serial})->verify_message(
                  decode_base64($header{Signature}),
                  "$header{Timestamp}\n$header{Nonce}\n$answer->{body}\n",
                  'SHA256', 'v1.5');
}
