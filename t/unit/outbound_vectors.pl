#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# Writes the header of test vectors for what goes out and what is answered:
# requests of business apps, good and bad; the calls that they become, byte for
# byte; answers of WeChat Pay, genuine and forged.  All the cryptography is
# CryptX', none of it OpenSSL's but for the certificate; the keys are made at
# each run.  A signature of PKCS #1 v1.5 is the same whoever makes it.
#
# Usage: outbound_vectors.pl directory > outbound_vectors.h

use strict;
use warnings;

use Crypt::Digest::MD5 qw(md5_hex);
use Crypt::Mac::HMAC qw(hmac_hex);
use Crypt::PK::RSA;
use MIME::Base64 qw(encode_base64);

my $dir = shift or die "usage: $0 directory\n";

my $now = 1554208460;
my $nonce = '593BEC0C930BF1AFEB40B4A08C8FB242';
my $serial = '0408B07E79B8269FEC3D5D3E6AB8ED163A6A380D';
my $public_id = 'PUB_KEY_ID_0119000001092024070100000000000002';
my %v2key = (a => '192006250b4c09247ec02edce69f6a2d',
             b => 'rotated-v2-key-for-the-unit-test');
my %rsa;

for my $name ('merchant', 'old', 'new', 'other') {
    $rsa{$name} = Crypt::PK::RSA->new;
    $rsa{$name}->generate_key($name eq 'merchant' ? 512 : 256, 65537);
}

###############################################################################

# requests

my (@requests, @answers);

my $create = join '', split /\n/, <<'JSON';
{"transaction_id":"1217752501201407033233368018",
"out_refund_no":"1217752501201407033233368018","reason":"商品已售完",
"notify_url":"https://weixin.qq.com/","funds_account":"AVAILABLE",
"amount":{"refund":888,"total":999,"currency":"CNY"}}
JSON

my $whole = join '', split /\n/, <<'JSON';
{"out_trade_no":"1_|*@-Z","out_refund_no":"a_b|c*d@e-f",
"amount":{"refund":888,"from":[{"account":"AVAILABLE","amount":444},
{"account":"UNAVAILABLE","amount":444}],"total":888,"currency":"CNY"},
"goods_detail":[{"merchant_goods_id":"1217752501201407033233368018",
"wechatpay_goods_id":"1001","goods_name":"iPhone6s 16G","unit_price":528800,
"refund_amount":528800,"refund_quantity":1}],"sub_mch_id":"1900000110"}
JSON

my $abnormal = join '', split /\n/, <<'JSON';
{"out_refund_no":"1217752501201407033233368018","type":"USER_BANK_CARD",
"bank_type":"ICBC_DEBIT","bank_account":"6222020200012345678",
"real_name":"张三"}
JSON

# request(name, field, option => value ...): field: what is wrong, '' for all of
# it, undef for nothing; edit: s/// over the body; query: its arguments; code:
# another one than PARAM_ERROR

sub request {
    my ($name, $field, %o) = @_;
    my $call = $o{query} ? 'QUERY' : $o{refund_id} ? 'ABNORMAL' : 'CREATE';
    my $body = $o{body} // ($call eq 'ABNORMAL' ? $abnormal : $create);

    for ($body) { $o{edit}->() if $o{edit} }

    push @requests, { name => $name, version => 3, merchant => 'shop',
                      message => '', json => '', notify_url => '', %o,
                      body => $o{query} ? '' : $body, call => $call,
                      field => $field // '',
                      code => defined $field ? $o{code} // 'PARAM_ERROR'
                                             : '' };
}

sub both {
    my ($name, $field, @o) = @_;
    request("v$_: $name", $field, version => $_, @o) for 2, 3;
}

both('the documented example', undef);
request('all members', undef, body => $whole, merchant => 'provider',
        json => $whole =~ s/,"sub_mch_id":"(\d+)"/,"sub_mchid":"$1"/r);
request("the configured notify_url", undef,
        edit => sub { s/"notify_url":"[^"]+",// },
        notify_url => 'https://pay.example.com/n',
        json => $create =~ s/"notify_url":"[^"]+",//r
                =~ s/\}$/,"notify_url":"https:\/\/pay.example.com\/n"}/r);
request("the body's notify_url comes before the configured one", undef,
        notify_url => 'https://pay.example.com/n', json => $create);
request('white space and escapes', undef,
        edit => sub { s/,/ ,\n/g; s/商/\\u5546/ }, json => $create);
both('a reason of 80 bytes', undef,
     edit => sub { my $x = 'x' x 80; s/商品已售完/$x/ });
both('a reason of wide signs', undef,
     edit => sub { s/商品已售完/￥１，已退（￣）/ });
both('the largest amount', undef,
     edit => sub { s/999/9007199254740991/; s/888/9007199254740991/ });
both('any sub_mch_id', undef, merchant => 'provider',
     edit => sub { s/\{/{"sub_mch_id":"1900000110",/ });
both('a sub_mch_id of the list', undef, merchant => 'list',
     edit => sub { s/\{/{"sub_mch_id":"1900000111",/ });
both('UNSETTLED', undef, edit => sub { s/AVAILABLE/UNSETTLED/ });

both('nothing', '', body => '', message => 'the JSON is malformed');
both('no JSON', '', body => 'a=b', message => 'the JSON is malformed');
both('a backslash outside of a string', '', body => '{\\"a":1}',
     message => 'the JSON is malformed');
both('an array', '', body => '[]', message => 'the JSON is not an object');
both('XML', '', body => '<xml/>');
both('a member twice', '', message => 'a repeated member in the JSON',
     edit => sub { s/\{/{"reason":"a",/ });
both('nested too deep', '', message => 'the JSON is nested too deep',
     body => '[' x 33 . ']' x 33);
both('other than UTF-8', '', edit => sub { s/商/\xd6\xd0/ });

both('an unknown member', 'refund_desc', message => 'is not known',
     edit => sub { s/"reason"/"refund_desc"/ });
both("v3's own name of sub_mch_id", 'sub_mchid',
     edit => sub { s/\{/{"sub_mchid":"1900000110",/ });
both('an unknown amount', 'amount.payer_total',
     edit => sub { s/"total"/"payer_total":1,"total"/ });
both('an unknown name that is long', 'é' x 32, message => 'is not known',
     edit => sub { my $x = 'é' x 200; s/"reason"/"$x"/ });
both('an unknown name that is cut within a character', 'a' . 'é' x 31,
     edit => sub { my $x = 'a' . 'é' x 200; s/"reason"/"$x"/ });

for my $name ('out_refund_no', 'amount') {
    both("no $name", $name, message => 'is missing',
         edit => sub { s/"$name":("[^"]+"|\{[^}]*\})//; s/,,/,/;
                       s/,\}$/}/ });
    both("$name of null", $name,
         edit => sub { s/"$name":("[^"]+"|\{[^}]*\})/"$name":null/ });
}

for my $name ('refund', 'total', 'currency') {
    both("no $name", "amount.$name", message => 'is missing',
         edit => sub { s/"$name":[^,}]+,?//; s/,\}/}/ });
}

for my $name ('refund', 'total') {
    for my $bad (0, -1, '1.0', '1e3', '"888"', 'true', 'null', '{}',
                 '9007199254740992')
    {
        both("$name of $bad", "amount.$name",
             message => 'is not an integer of at least 1 fen',
             edit => sub { s/"$name":\d+/"$name":$bad/ });
    }
}

both('an integer that no machine holds', '',
     edit => sub { s/888/99999999999999999999/ });
both('more than the order', 'amount.refund',
     message => 'is more than amount.total', edit => sub { s/888/1000/ });
both('another currency', 'amount.currency', message => 'is not CNY',
     edit => sub { s/CNY/USD/ });
both('no order', 'transaction_id',
     message => 'is missing, and so is out_trade_no',
     edit => sub { s/"transaction_id":"\d+",// });
both('two orders', 'out_trade_no', message => 'stands beside transaction_id',
     edit => sub { s/\{/{"out_trade_no":"1",/ });

my %max = (out_refund_no => 64, transaction_id => 32, reason => 80,
           notify_url => 256, funds_account => 16);

for my $name (sort keys %max) {
    my $long = ($name eq 'notify_url' ? 'https://a.example/' : '')
               . 'a' x $max{$name};
    $long = substr $long, 0, $max{$name} + 1 if $name eq 'notify_url';
    $long .= 'a' if $name ne 'notify_url';

    for my $bad ('""', 1, 'null', 'true', '[]', '{}', "\"$long\"",
                 '"a\\nb"', '"a\\u007fb"', '"\\ufffe"')
    {
        both("$name of $bad", $name,
             edit => sub { s/"$name":"[^"]+"/"$name":$bad/ });
    }
}

for my $bad ('a b', 'a/b', 'a.b', 'a%b', 'a?b', 'é', 'a#b', 'a+b', 'a&b') {
    both("out_refund_no $bad", 'out_refund_no',
         edit => sub { s/("out_refund_no":")[^"]+/$1$bad/ });
    both("transaction_id $bad", 'transaction_id',
         edit => sub { s/("transaction_id":")[^"]+/$1$bad/ });
    both("out_trade_no $bad", 'out_trade_no',
         edit => sub { s/"transaction_id":"[^"]+/"out_trade_no":"$bad/ });
}

both('an out_trade_no of 33', 'out_trade_no',
     edit => sub { my $x = 'a' x 33;
                   s/"transaction_id":"[^"]+/"out_trade_no":"$x/ });

for my $bad ('http://a.example/', 'https://', 'https:///a', 'https://:1/',
             'https://a.example/?b', 'https://a.example/#b',
             'https://a.example/ b', 'https://a.example/é', 'HTTPS://a/')
{
    both("notify_url $bad", 'notify_url',
         edit => sub { s/("notify_url":")[^"]+/$1$bad/ });
}

both('other funds', 'funds_account', edit => sub { s/AVAILABLE/UNAVAILABLE/ });
both('an amount that is no object', 'amount', message => 'is not an object',
     edit => sub { s/"amount":\{.*\}\}/"amount":888}/ });

for my $bad ('"a"', '"1900000110x"', '"' . '1' x 33 . '"', 1900000110) {
    both("sub_mch_id $bad", 'sub_mch_id', merchant => 'provider',
         message => 'is not of 1 to 32 digits',
         edit => sub { s/\{/{"sub_mch_id":$bad,/ });
}

both('a sub_mch_id where none is configured', 'sub_mch_id',
     message => "is none of the merchant's",
     edit => sub { s/\{/{"sub_mch_id":"1900000110",/ });
both('a sub_mch_id that is not in the list', 'sub_mch_id', merchant => 'list',
     message => "is none of the merchant's",
     edit => sub { s/\{/{"sub_mch_id":"1900000110",/ });

both('a service provider without a sub_mch_id', 'sub_mch_id', merchant => $_)
    for 'list', 'provider';
query('a service provider without a sub_mch_id', 'sub_mch_id', $_,
      { out_refund_no => '1' }, merchant => 'provider') for 2, 3;
request('v2 has no amount.from', 'amount.from', version => 2,
        message => 'has no place in API v2',
        edit => sub { s/"total"/"from":[],"total"/ });
request('v2 has no goods_detail', 'goods_detail', version => 2,
        message => 'has no place in API v2',
        edit => sub { s/\{/{"goods_detail":[],/ });

for my $case (
    ['amount.from', 's/"from":\[.*?\]/"from":[]/'],
    ['amount.from', 's/"from":\[.*?\]/"from":{}/'],
    ['amount.from', 's/"from":\[.*?\]/"from":[1]/'],
    ['amount.from[].account', 's/"account":"AVAILABLE",//'],
    ['amount.from[].account', 's/"AVAILABLE"/"OTHER"/'],
    ['amount.from[].account', 's/UNAVAILABLE/AVAILABLE/'],
    ['amount.from[].account',
     's/(\{"account":"AVAILABLE","amount":)444\}/${1}222},${1}222}/'],
    ['amount.from[].account',
     's/(\{"account":"UNAVAILABLE","amount":)444\}/${1}222},${1}222}/'],
    ['amount.from[].amount', 's/,"amount":444//'],
    ['amount.from[].amount', 's/444/0/'],
    ['amount.from[].amount', 's/444/"444"/'],
    ['amount.from[].b', 's/"account"/"b":1,"account"/'],
    ['amount.from', 's/444/443/'],
    ['amount.from', 's/444/445/'],
    ['goods_detail', 's/"goods_detail":\[.*?\]/"goods_detail":[]/'],
    ['goods_detail', 's/"goods_detail":\[.*?\]/"goods_detail":[[]]/'],
    ['goods_detail[].merchant_goods_id', 's/"merchant_goods_id":"\d+",//'],
    ['goods_detail[].merchant_goods_id',
     's/("merchant_goods_id":")\d+/$1 . "1" x 33/e'],
    ['goods_detail[].wechatpay_goods_id', 's/"1001"/""/'],
    ['goods_detail[].goods_name', 's/iPhone6s 16G/"x" x 257/e'],
    ['goods_detail[].unit_price', 's/"unit_price":\d+,//'],
    ['goods_detail[].unit_price', 's/("unit_price":)\d+/${1}1.5/'],
    ['goods_detail[].refund_amount', 's/("refund_amount":)\d+/${1}0/'],
    ['goods_detail[].refund_quantity', 's/("refund_quantity":)1/${1}0/'],
    ['goods_detail[].refund_quantity', 's/,"refund_quantity":1//'],
    ['goods_detail[].goods_id', 's/"goods_name"/"goods_id"/'],
) {
    request("$case->[0]: $case->[1]", $case->[0], body => $whole,
            merchant => 'provider',
            edit => sub { eval "$case->[1]; 1" or die $@ });
}


# the abnormal refund

request('abnormal: the documented example', undef, refund_id => '50000000382019');
request('abnormal: to the merchant', undef, refund_id => '50000000382019',
        body => '{"out_refund_no":"1","type":"MERCHANT_BANK_CARD"}',
        json => '{"out_refund_no":"1","type":"MERCHANT_BANK_CARD"}');
request('abnormal: a service provider', undef, refund_id => '50000000382019',
        merchant => 'provider',
        body => '{"out_refund_no":"1","type":"MERCHANT_BANK_CARD",'
                . '"sub_mch_id":"1900000110"}',
        json => '{"out_refund_no":"1","type":"MERCHANT_BANK_CARD",'
                . '"sub_mchid":"1900000110"}');
request('abnormal: v2 has none', '', refund_id => '1', version => 2,
        code => 'NOT_FOUND');

for my $bad ('a/b', '1 ', 'x' x 65, '..', '1|2') {
    request("abnormal: refund_id $bad", 'refund_id', refund_id => $bad);
}

for my $name ('out_refund_no', 'type', 'bank_type', 'bank_account',
              'real_name')
{
    request("abnormal: no $name", $name, refund_id => '1',
            edit => sub { s/"$name":"[^"]+"//; s/,,/,/; s/,\}/}/; s/\{,/{/ });

    for my $bad ('""', 1, 'null', '"a\\nb"', '"' . 'a' x 300 . '"') {
        request("abnormal: $name of $bad", $name, refund_id => '1',
                edit => sub { s/"$name":"[^"]+"/"$name":$bad/ });
    }
}

request('abnormal: another type', 'type', refund_id => '1',
        edit => sub { s/USER_BANK_CARD/BANK_CARD/ });
request('abnormal: an unknown member', 'amount', refund_id => '1',
        edit => sub { s/\{/{"amount":1,/ });
request('abnormal: another sub_mch_id', 'sub_mch_id', refund_id => '1',
        edit => sub { s/\{/{"sub_mch_id":"1",/ });
request('abnormal: malformed', '', refund_id => '1', body => '{');


# queries

sub query {
    my ($name, $field, $version, $query, @o) = @_;
    request("query v$version: $name", $field, version => $version,
            query => $query, @o);
}

query('out_refund_no', undef, $_, { out_refund_no => 'a_b|c*d@e-f' }) for 2, 3;
query('refund_id', undef, 2, { refund_id => '50000000382019' });
query('transaction_id', undef, 2, { transaction_id => '1' });
query('out_trade_no', undef, 2, { out_trade_no => '1_|*@-Z' });
query('offset', undef, 2, { out_trade_no => '1', offset => '20' });
query('all ids', undef, 2, { refund_id => '1', out_refund_no => '2',
                             transaction_id => '3', out_trade_no => '4' });
query('all but refund_id', undef, 2,
      { out_refund_no => '2', transaction_id => '3', out_trade_no => '4' });
query('orders', undef, 2, { transaction_id => '3', out_trade_no => '4' });
query('others beside out_refund_no', undef, 3,
      { refund_id => '1', out_refund_no => '2', out_trade_no => '4' });
query('a sub_mch_id', undef, $_,
      { out_refund_no => '1', sub_mch_id => '1900000110' },
      merchant => 'provider') for 2, 3;

query('nothing', 'out_refund_no', $_, {}, message => 'is missing') for 2, 3;

for my $name ('refund_id', 'transaction_id', 'out_trade_no') {
    query("$name alone", $name, 3, { $name => '1' },
          message => 'is not known to API v3, only out_refund_no');
}

query('an offset', 'offset', 3, { out_refund_no => '1', offset => '0' },
      message => 'is not known to API v3');

for my $name ('refund_id', 'out_refund_no', 'transaction_id', 'out_trade_no') {
    for my $bad ('a b', 'a/b', 'x' x 65, "a\n", '../a', "\xff") {
        query("$name of $bad", $name, 2, { $name => $bad });
    }
}

query('out_refund_no with a slash', 'out_refund_no', 3,
      { out_refund_no => 'a/b' });

for my $bad ('-1', 'x', '1' x 10) {
    query("offset $bad", 'offset', 2, { refund_id => '1', offset => $bad });
}

query('another sub_mch_id', 'sub_mch_id', $_,
      { out_refund_no => '1', sub_mch_id => '1900000110' }) for 2, 3;
query('a sub_mch_id of another form', 'sub_mch_id', $_,
      { out_refund_no => '1', sub_mch_id => '1&a=b' },
      merchant => 'provider') for 2, 3;

###############################################################################

# calls: what a good request becomes

sub v2_sign {
    my ($type, $key, %f) = @_;
    my $text = join('', map { "$_=$f{$_}&" } grep { length $f{$_} } sort
                        grep { $_ ne 'sign' } keys %f) . "key=$v2key{$key}";
    return uc($type eq 'MD5' ? md5_hex($text)
                             : hmac_hex('SHA256', $v2key{$key}, $text));
}

die "sign\n" if v2_sign('MD5', 'a', appid => 'wxd930ea5d5a258f4f',
                        mch_id => '10000100', device_info => '1000',
                        body => 'test', nonce_str => 'ibuaiVcKdpRxkhJA')
                ne '9A0A8659F005D6984697E2CA0A9CF3B7';

my %v2_sign_type = (shop => 'HMAC-SHA256', provider => 'HMAC-SHA256',
                    md5 => 'MD5');

sub xml_escape {
    my ($text) = @_;
    my %entity = ('<' => 'lt', '>' => 'gt', '&' => 'amp', '"' => 'quot',
                  "'" => 'apos');
    return $text =~ s/([<>&"'])/&$entity{$1};/gr;
}

sub calls {
    my @calls;

    my @more = (
        { name => 'markup in a reason', version => 2, merchant => 'shop',
          call => 'CREATE', v2 => { reason => q{<a>&"b'</a>]]>} },
          body => $create =~ s/商品已售完/<a>&\\"b'<\/a>]]>/r },
        { name => 'MD5', version => 2, merchant => 'md5', call => 'CREATE',
          v2 => { reason => '商品已售完' }, body => $create },
        { name => 'HMAC-SHA256', version => 2, merchant => 'shop',
          call => 'CREATE', v2 => { reason => '商品已售完' },
          body => $create },
    );

    for my $r (@more) {
        my %f = (appid => 'wxd930ea5d5a258f4f', mch_id => '1900009191',
                 nonce_str => $nonce, sign_type => $v2_sign_type{$r->{merchant}},
                 transaction_id => '1217752501201407033233368018',
                 out_refund_no => '1217752501201407033233368018',
                 total_fee => 999, refund_fee => 888, refund_fee_type => 'CNY',
                 refund_desc => $r->{v2}{reason},
                 refund_account => 'REFUND_SOURCE_RECHARGE_FUNDS',
                 notify_url => 'https://weixin.qq.com/');

        push @calls, { %$r, v2_call(\%f), path => '/secapi/pay/refund' };
    }

    for my $r (grep { $_->{query} && !$_->{code} && $_->{version} == 2 }
               @requests)
    {
        my %q = %{ $r->{query} };
        my ($id) = grep { exists $q{$_} } qw(refund_id out_refund_no
                                             transaction_id out_trade_no);
        my %f = (appid => 'wxd930ea5d5a258f4f', mch_id => '1900009191',
                 nonce_str => $nonce,
                 sign_type => $v2_sign_type{$r->{merchant}},
                 map { exists $q{$_} ? ($_ => $q{$_}) : () }
                     $id, 'sub_mch_id', 'offset');

        push @calls, { %$r, v2_call(\%f), path => '/pay/refundquery' };
    }

    for my $r (grep { !$_->{code} && $_->{version} == 3 } @requests) {
        my $path = '/v3/refund/domestic/refunds';
        my $args = '';

        # what is encrypted is another text each time

        next if $r->{call} eq 'ABNORMAL' && !$r->{json};

        if ($r->{query}) {
            $path .= "/$r->{query}{out_refund_no}";
            $args = "sub_mchid=$r->{query}{sub_mch_id}"
                if $r->{query}{sub_mch_id};
        } elsif ($r->{refund_id}) {
            $path .= "/$r->{refund_id}/apply-abnormal-refund";
        } elsif (!$r->{json}) {
            $r->{json} = $r->{body}
                =~ s/^\{("sub_mch_id":"\d+"),(.*)\}$/{$2,$1}/r
                =~ s/sub_mch_id/sub_mchid/r;
        }

        my $target = $path =~ s/\|/%7C/gr . ($args ? "?$args" : '');
        my $method = $r->{query} ? 'GET' : 'POST';
        my $body = $r->{query} ? '' : $r->{json};
        my $signature = encode_base64(
            $rsa{merchant}->sign_message(
                "$method\n$target\n$now\n$nonce\n$body\n", 'SHA256', 'v1.5'),
            '');

        push @calls, { %$r, method => $method, path => $path, args => $args,
            target => $target, out => $body,
            authorization => 'WECHATPAY2-SHA256-RSA2048 mchid="1900009191",'
                . qq(nonce_str="$nonce",signature="$signature",)
                . qq(timestamp="$now",serial_no="$serial") };
    }

    return @calls;
}

sub v2_call {
    my ($f) = @_;
    my $sign = v2_sign($f->{sign_type}, 'a', %$f);

    return (method => 'POST', args => '', target => '', authorization => '',
            out => '<xml>' . join('', map { "<$_>" . xml_escape($f->{$_})
                                            . "</$_>" } sort keys %$f)
                   . "<sign>$sign</sign></xml>");
}

###############################################################################

# answers

# answer(name, expected, option => value ...): expected: the JSON, or the code
# for an unknown that WeChat Pay's answer has no part in

sub answer {
    my ($name, $expected, %o) = @_;

    $expected = qq({"outcome":"unknown","error":{"code":"$expected",)
                . '"retryable":true}}' if $expected !~ /^\{/;

    push @answers, { name => $name, merchant => 'shop', headers => [],
                     request => $create, query => undef, refund_id => '',
                     status => 200, event => '', %o, expected => $expected };
}

my $v3_answer = join '', split /\n/, <<'JSON';
{"refund_id":"50000000382019052709732678859",
"out_refund_no":"1217752501201407033233368018",
"transaction_id":"1217752501201407033233368018",
"out_trade_no":"1217752501201407033233368018","channel":"ORIGINAL",
"user_received_account":"招商银行信用卡0403",
"success_time":"2020-12-01T16:18:12+08:00",
"create_time":"2020-12-01T16:18:00+08:00","status":"SUCCESS",
"funds_account":"UNSETTLED",
"amount":{"total":999,"refund":888,
"from":[{"account":"AVAILABLE","amount":444}],"payer_total":90,
"payer_refund":90,"settlement_refund":100,"settlement_total":100,
"discount_refund":10,"currency":"CNY","refund_fee":100},
"promotion_detail":[{"promotion_id":"109519","scope":"GLOBAL","amount":5}]}
JSON

my $v3_data = join '', split /\n/, <<'JSON';
{"mch_id":"1900009191",
"transaction_id":"1217752501201407033233368018",
"out_trade_no":"1217752501201407033233368018",
"refund_id":"50000000382019052709732678859",
"out_refund_no":"1217752501201407033233368018","status":"SUCCESS",
"channel":"ORIGINAL","create_time":"2020-12-01T16:18:00+08:00",
"success_time":"2020-12-01T16:18:12+08:00",
"user_received_account":"招商银行信用卡0403","funds_account":"UNSETTLED",
"amount":{"total":999,"refund":888,"payer_total":90,"payer_refund":90,
"settlement_total":100,"settlement_refund":100,"currency":"CNY"},
"extra":{"amount":{"from":[{"account":"AVAILABLE","amount":444}],
"discount_refund":10,"refund_fee":100},
"promotion_detail":[{"promotion_id":"109519","scope":"GLOBAL","amount":5}]}}
JSON

sub accepted {
    my ($version, $data) = @_;
    return qq({"outcome":"accepted","provider":"wechatpay",)
           . qq("api_version":"v$version","merchant":"shop","data":$data});
}

sub event {
    my ($data, $version, $id, $time) = @_;
    $data =~ s/"channel":"\w+",//;
    $data =~ s/"create_time":"[^"]+",//;
    my ($status) = $data =~ /"status":"(\w+)"/;
    my $type = $status eq 'SUCCESS' ? 'succeeded' : lc $status;
    return qq({"type":"refund.$type","timestamp":"$time",)
           . qq("id":"wechatpay:1900009191:$id:$status",)
           . qq("provider":"wechatpay","api_version":"v$version",)
           . qq("merchant":"shop","data":$data});
}

# v3(name, expected, options): edit and late as in vectors.pl

sub v3 {
    my ($name, $expected, %o) = @_;
    my $body = $o{body} // $v3_answer;

    for ($body) { $o{edit}->() if $o{edit} }

    my %header = ('wechatpay-timestamp' => $o{timestamp} // $now,
                  'wechatpay-nonce' => 'c5ac7061fccab6bf3e254dcf98995b8c',
                  'wechatpay-serial' => $o{serial} // $public_id);

    my $signature = encode_base64($rsa{$o{signer} // 'new'}->sign_message(
        $header{'wechatpay-timestamp'} . "\n" . $header{'wechatpay-nonce'}
        . "\n$body\n", 'SHA256', 'v1.5'), '');

    $header{'wechatpay-signature'} = ($o{probe} // '') . $signature;
    %header = (%header, %{ $o{header} // {} });

    for ($body) { $o{late}->() if $o{late} }

    answer("v3: $name", $expected, version => 3, %o, body => $body,
           headers => [map { defined $header{$_} ? [$_, $header{$_}] : () }
                       sort keys %header]);
}

sub v3_ok {
    my ($name, %o) = @_;
    my $data = $v3_data;
    for ($data) { $o{result}->() if $o{result} }

    # what has ended is told as a notify tells it

    v3($name, accepted(3, $data), %o,
       event => $data =~ /"status":"(SUCCESS|CLOSED)"/
                ? event($data, 3, '50000000382019052709732678859',
                        '2020-12-01T16:18:12+08:00')
                : '');
}

my %by_number = (query => { out_refund_no => '1217752501201407033233368018' });

v3_ok('the documented example');
v3_ok('a query', %by_number);
v3_ok('the abnormal refund', refund_id => '50000000382019052709732678859',
      request => $abnormal);

for my $status ('PROCESSING', 'CLOSED', 'ABNORMAL') {
    v3_ok($status, status => 202, edit => sub { s/SUCCESS/$status/ },
          result => sub { s/SUCCESS/$status/ });
}

v3_ok('PROCESSING has no success_time',
      edit => sub { s/SUCCESS/PROCESSING/; s/"success_time":"[^"]+",// },
      result => sub { s/SUCCESS/PROCESSING/; s/"success_time":"[^"]+",// });
v3_ok('a service provider', merchant => 'provider',
      edit => sub { s/SUCCESS/CLOSED/ },
      request => $create =~ s/\{/{"sub_mch_id":"1900000110",/r,
      result => sub { s/SUCCESS/CLOSED/;
                      s/("mch_id":"\d+")/$1,"sub_mch_id":"1900000110"/ });
v3_ok('a service provider that is named', edit => sub {
    s/SUCCESS/CLOSED/;
    s/\{/{"sp_mchid":"1900009191","sub_mchid":"1900000110",/;
}, merchant => 'provider',
      request => $create =~ s/\{/{"sub_mch_id":"1900000110",/r,
      result => sub { s/SUCCESS/CLOSED/;
                      s/("mch_id":"\d+")/$1,"sub_mch_id":"1900000110"/ });
v3_ok('the old key', serial => 'PUB_KEY_ID_0119000001092024070100000000000001',
      signer => 'old', edit => sub { s/SUCCESS/CLOSED/ },
      result => sub { s/SUCCESS/CLOSED/ });

my %forged = (
    'another key' => [signer => 'other'],
    "another key's id" => [signer => 'old'],
    'an unknown serial' => [serial => 'PUB_KEY_ID_1'],
    'a probe' => [probe => 'WECHATPAY/SIGNTEST/'],
    'stale' => [timestamp => $now - 301],
    'early' => [timestamp => $now + 301],
    'cut' => [late => sub { chop }],
    'empty, and signed as it was' => [late => sub { $_ = '' }],
    'changed' => [late => sub { s/888/889/ }],
    'a byte behind' => [late => sub { $_ .= ' ' }],
    map { ("no $_" => [header => { $_ => undef }]) }
        'wechatpay-timestamp', 'wechatpay-nonce', 'wechatpay-signature',
        'wechatpay-serial');

for my $name (sort keys %forged) {
    for my $status (200, 403, 404, 500) {
        v3("$name, $status", 'UNVERIFIED_RESPONSE', status => $status,
           $status != 200 ? (body => '{"code":"NOT_ENOUGH"}') : (),
           @{ $forged{$name} },
           $name eq 'changed' ? (late => sub { s/8|N/9/ }) : ());
    }
}

v3('unsigned', 'UNVERIFIED_RESPONSE',
   header => { map { ("wechatpay-$_" => undef) }
               'timestamp', 'nonce', 'signature', 'serial' });

v3('empty, 204', 'MALFORMED_RESPONSE', body => '', status => 204);
v3('no JSON', 'MALFORMED_RESPONSE', body => 'OK');
v3('a member twice', 'MALFORMED_RESPONSE',
   edit => sub { s/\{/{"status":"SUCCESS",/ });
v3('a redirection', 'MALFORMED_RESPONSE', status => 302);
v3('an error without a code', 'MALFORMED_RESPONSE', status => 400,
   body => '{"message":"x"}');
v3('an error whose code is a number', 'MALFORMED_RESPONSE', status => 400,
   body => '{"code":1}');

for my $bad ('UNKNOWN', 'SUCESS', 'success') {
    v3("status $bad", 'MALFORMED_RESPONSE', edit => sub { s/SUCCESS/$bad/ });
}

v3('refund_status is not status', 'MALFORMED_RESPONSE',
   edit => sub { s/"status"/"refund_status"/ });

for my $name ('refund_id', 'out_refund_no', 'transaction_id', 'out_trade_no',
              'status', 'amount', 'total', 'refund')
{
    v3("no $name", 'MALFORMED_RESPONSE', edit => sub { s/"$name":/"x":/ });
}

v3('another out_refund_no', 'MISMATCHED_RESPONSE',
   edit => sub { s/("out_refund_no":"1)2/${1}3/ });
v3('another out_refund_no, in a query', 'MISMATCHED_RESPONSE', %by_number,
   edit => sub { s/("out_refund_no":"1)2/${1}3/ });
v3('another refund_id', 'MISMATCHED_RESPONSE', refund_id => '5',
   request => $abnormal);
v3('another transaction_id', 'MISMATCHED_RESPONSE',
   edit => sub { s/("transaction_id":"1)2/${1}3/ });
v3('another out_trade_no', 'MISMATCHED_RESPONSE',
   request => $create =~ s/"transaction_id":"\d+"/"out_trade_no":"1"/r);
v3('another mchid', 'MISMATCHED_RESPONSE',
   edit => sub { s/\{/{"mchid":"1900009192",/ });
v3('another sp_mchid', 'MISMATCHED_RESPONSE',
   edit => sub { s/\{/{"sp_mchid":"1900009192",/ });
v3('another sub_mchid', 'MISMATCHED_RESPONSE', merchant => 'provider',
   request => $create =~ s/\{/{"sub_mch_id":"1900000110",/r,
   edit => sub { s/\{/{"sub_mchid":"1900000111",/ });
v3('a sub_mchid that was not asked for', 'MISMATCHED_RESPONSE',
   edit => sub { s/\{/{"sub_mchid":"1900000111",/ });


# errors: provider's code, ours, outcome, HTTP status, retryable

sub failed {
    my ($outcome, $code, $provider, $retryable, $field) = @_;
    return qq({"outcome":"$outcome","error":{"code":"$code",)
           . qq("provider_code":"$provider","message":"原因",)
           . (defined $field ? qq("field":"$field",) : '')
           . '"retryable":' . ($retryable ? 'true' : 'false') . '}}';
}

my @v3_codes = (
    ['SYSTEM_ERROR', 500, 'SYSTEM_ERROR', 'unknown', 502, 1],
    ['USER_ACCOUNT_ABNORMAL', 403, 'USER_ACCOUNT_ABNORMAL', 'rejected', 403],
    ['NOT_ENOUGH', 403, 'NOT_ENOUGH', 'rejected', 403],
    ['PARAM_ERROR', 400, 'PARAM_ERROR', 'rejected', 400],
    ['MCH_NOT_EXISTS', 404, 'MCH_NOT_EXISTS', 'rejected', 404],
    ['RESOURCE_NOT_EXISTS', 404, 'RESOURCE_NOT_EXISTS', 'rejected', 404],
    ['SIGN_ERROR', 401, 'SIGN_ERROR', 'rejected', 401],
    ['FREQUENCY_LIMITED', 429, 'FREQUENCY_LIMITED', 'rejected', 429, 1],
    ['INVALID_REQUEST', 400, 'INVALID_REQUEST', 'rejected', 400],
    ['NO_AUTH', 403, 'NO_AUTH', 'rejected', 403],
    ['NEW_CODE', 409, 'NEW_CODE', 'rejected', 409],
    ['NEW_LIMIT', 429, 'NEW_LIMIT', 'rejected', 429, 1],
    ['NEW_FAULT', 500, 'NEW_FAULT', 'unknown', 502, 1],
    ['NEW_FAULT', 503, 'NEW_FAULT', 'unknown', 502, 1],
);

for my $c (@v3_codes) {
    my ($provider, $status, $code, $outcome, $http, $retryable) = @$c;

    v3("$provider, $status", failed($outcome, $code, $provider, $retryable),
       status => $status, http => $http,
       body => qq({"code":"$provider","message":"原因"}));
}

v3("detail.field $_", failed('rejected', 'PARAM_ERROR', 'PARAM_ERROR', 0,
                             'amount.currency'),
   status => 400, http => 400,
   body => '{"code":"PARAM_ERROR","message":"原因","detail":'
           . qq({"field":"$_","value":"XYZ","issue":"Currency"}}))
    for '/amount/currency', 'amount/currency';


# v2

my %v2_answer = (return_code => 'SUCCESS', return_msg => 'OK',
    appid => 'wxd930ea5d5a258f4f', mch_id => '1900009191',
    nonce_str => 'NfsMFbUFpdbEhPXP', result_code => 'SUCCESS',
    transaction_id => '1217752501201407033233368018',
    out_trade_no => '1217752501201407033233368018',
    out_refund_no => '1217752501201407033233368018',
    refund_id => '50000000382019052709732678859', refund_channel => '',
    refund_fee => 888, total_fee => 999, cash_fee => 999, fee_type => 'CNY',
    coupon_refund_count => 1, coupon_refund_id_0 => '123',
    coupon_type_0 => 'CASH', coupon_refund_fee_0 => 5, new_field => '<&>');

my $v2_data = join '', split /\n/, <<'JSON';
{"mch_id":"1900009191","app_id":"wxd930ea5d5a258f4f",
"transaction_id":"1217752501201407033233368018",
"out_trade_no":"1217752501201407033233368018",
"refund_id":"50000000382019052709732678859",
"out_refund_no":"1217752501201407033233368018","status":"PROCESSING",
"amount":{"total":999,"refund":888},
"extra":{"cash_fee":"999","coupon_refund_count":"1",
"coupon_refund_fee_0":"5","coupon_refund_id_0":"123","coupon_type_0":"CASH",
"fee_type":"CNY","new_field":"<&>"}}
JSON

# v2(name, expected, fields, option => value ...); late: s/// over the signed
# XML

sub v2 {
    my ($name, $expected, $fields, %o) = @_;
    my %f = %$fields;
    my $type = $o{type} // $v2_sign_type{$o{merchant} // 'shop'};

    $f{sign} = v2_sign($type, $o{key} // 'a', %f) unless exists $f{sign};
    delete $f{sign} unless defined $f{sign};

    my $body = '<xml>' . join('', map { "<$_><![CDATA[$f{$_}]]></$_>" }
                                  sort keys %f) . '</xml>';

    for ($body) { $o{late}->() if $o{late} }

    answer("v2: $name", $expected, version => 2, %o, body => $body);
}

v2('a refund', accepted(2, $v2_data), \%v2_answer);
v2('MD5', accepted(2, $v2_data), \%v2_answer, merchant => 'md5');
v2('signed with the second key', accepted(2, $v2_data), \%v2_answer,
   key => 'b');
v2('sign_type is signed too', accepted(2, $v2_data),
   { %v2_answer, sign_type => 'HMAC-SHA256' });
v2('refund_channel', accepted(2, $v2_data
       =~ s/("PROCESSING")/$1,"channel":"ORIGINAL"/r),
   { %v2_answer, refund_channel => 'ORIGINAL' });
v2('a service provider', accepted(2, $v2_data
       =~ s/("mch_id":"\d+")/$1,"sub_mch_id":"1900000110"/r),
   { %v2_answer, sub_mch_id => '1900000110' }, merchant => 'provider',
   request => $create =~ s/\{/{"sub_mch_id":"1900000110",/r);

my %v2_forged = (
    'no sign' => [{ sign => undef }],
    'an empty sign' => [{ sign => '' }],
    'another key' => [{ sign => v2_sign('HMAC-SHA256', 'a', %v2_answer)
                                =~ tr/0-9A-F/1-9A-F0/r }],
    'small letters' => [{ sign => lc v2_sign('HMAC-SHA256', 'a',
                                             %v2_answer) }],
    'MD5 where HMAC-SHA256 is configured' => [{}, type => 'MD5'],
    'HMAC-SHA256 where MD5 is configured' =>
        [{}, type => 'HMAC-SHA256', merchant => 'md5'],
    'a changed field' => [{}, late => sub { s/888/889/ }],
    'a field more' => [{}, late => sub { s/<xml>/<xml><a>1<\/a>/ }],
    'a field less' => [{}, late => sub { s/<fee_type>.*<\/fee_type>// }],
    'cut' => [{}, late => sub { substr($_, -6) = '' }],
    'FAIL, which is never signed' =>
        [{ return_code => 'FAIL', sign => undef }],
    'FAIL, signed' => [{ return_code => 'FAIL' }],
    'no return_code' => [{ return_code => '' }],
    'a field twice' => [{}, late => sub { s/<xml>/<xml><mch_id>1<\/mch_id>/ }],
    'another root' => [{}, late => sub { s/xml>/root>/g }],
    'a DOCTYPE' => [{}, late => sub { $_ = "<!DOCTYPE xml>$_" }],
    'HTML' => [{}, late => sub { $_ = '<html><body>502</body></html>' }],
    'nothing' => [{}, late => sub { $_ = '' }],
);

for my $name (sort keys %v2_forged) {
    my ($fields, @o) = @{ $v2_forged{$name} };
    v2($name, 'UNVERIFIED_RESPONSE', { %v2_answer, %$fields }, @o);
}

for my $case (['mch_id', ''], ['mch_id', '1900009192'], ['appid', ''],
              ['appid', 'wx1'], ['sub_mch_id', '1'],
              ['out_refund_no', '1'], ['transaction_id', '1'])
{
    my ($field, $value) = @$case;
    v2("$field is \"$value\"", 'MISMATCHED_RESPONSE',
       { %v2_answer, $field => $value });
}

for my $field ('refund_id', 'out_refund_no', 'transaction_id', 'out_trade_no',
               'refund_fee', 'total_fee', 'result_code')
{
    v2("no $field", 'MALFORMED_RESPONSE', { %v2_answer, $field => '' });
}

v2('refund_fee is no number', 'MALFORMED_RESPONSE',
   { %v2_answer, refund_fee => '8.88' });
v2('another result_code', 'MALFORMED_RESPONSE',
   { %v2_answer, result_code => 'OK' });
v2('FAIL without err_code', 'MALFORMED_RESPONSE',
   { %v2_answer, result_code => 'FAIL' });

my @v2_codes = (
    ['SYSTEMERROR', 'SYSTEM_ERROR', 'unknown', 502, 1],
    ['BIZERR_NEED_RETRY', 'SYSTEM_ERROR', 'unknown', 502, 1],
    ['TRADE_OVERDUE', 'TRADE_OVERDUE', 'rejected', 403],
    ['ERROR', 'ERROR', 'rejected', 400],
    ['USER_ACCOUNT_ABNORMAL', 'USER_ACCOUNT_ABNORMAL', 'rejected', 403],
    ['INVALID_REQ_TOO_MUCH', 'FREQUENCY_LIMITED', 'rejected', 429, 1],
    ['NOTENOUGH', 'NOT_ENOUGH', 'rejected', 403],
    ['INVALID_TRANSACTIONID', 'PARAM_ERROR', 'rejected', 400],
    ['PARAM_ERROR', 'PARAM_ERROR', 'rejected', 400],
    ['APPID_NOT_EXIST', 'APPID_NOT_EXIST', 'rejected', 404],
    ['MCHID_NOT_EXIST', 'MCH_NOT_EXISTS', 'rejected', 404],
    ['ORDERNOTEXIST', 'RESOURCE_NOT_EXISTS', 'rejected', 404],
    ['REFUNDNOTEXIST', 'RESOURCE_NOT_EXISTS', 'rejected', 404],
    ['REQUIRE_POST_METHOD', 'INVALID_REQUEST', 'rejected', 400],
    ['SIGNERROR', 'SIGN_ERROR', 'rejected', 401],
    ['XML_FORMAT_ERROR', 'PARAM_ERROR', 'rejected', 400],
    ['FREQUENCY_LIMITED', 'FREQUENCY_LIMITED', 'rejected', 429, 1],
    ['NEW_CODE', 'NEW_CODE', 'rejected', 400],
);

for my $c (@v2_codes) {
    my ($provider, $code, $outcome, $http, $retryable) = @$c;
    my %f = (return_code => 'SUCCESS', appid => 'wxd930ea5d5a258f4f',
             mch_id => '1900009191', nonce_str => 'x', result_code => 'FAIL',
             err_code => $provider, err_code_des => '原因');

    v2($provider, failed($outcome, $code, $provider, $retryable), \%f,
       http => $http);
    v2("$provider, unsigned", 'UNVERIFIED_RESPONSE', { %f, sign => undef });
    v2("$provider, another mch_id", 'MISMATCHED_RESPONSE',
       { %f, mch_id => '1' });
}


# v2's query

my %v2_query = (return_code => 'SUCCESS', appid => 'wxd930ea5d5a258f4f',
    mch_id => '1900009191', nonce_str => 'x', result_code => 'SUCCESS',
    transaction_id => '1008450740201411110005820873',
    out_trade_no => '20150806125346', total_fee => 999,
    settlement_total_fee => 990, cash_fee => 999);

sub v2_refund {
    my ($n, %more) = @_;
    my %f = (out_refund_no => "R$n", refund_id => "500$n", refund_fee => 1,
             refund_status => 'SUCCESS', refund_channel => 'ORIGINAL',
             refund_account => 'REFUND_SOURCE_RECHARGE_FUNDS',
             refund_recv_accout => '支付用户零钱',
             refund_success_time => '2016-07-25 15:26:26',
             settlement_refund_fee => 1, coupon_refund_count => 1,
             "coupon_type_$n" => undef, %more);
    delete $f{"coupon_type_$n"};
    return (coupon_id("${n}_0"), map { ("${_}_$n" => $f{$_}) } keys %f);
}

sub coupon_id { return ("coupon_refund_id_$_[0]" => "c$_[0]") }

sub v2_refund_data {
    my ($n, $more) = @_;
    my $extra = '"coupon_refund_count":"1","coupon_refund_id_0":"c'
                . $n . '_0"';

    # in the order of the answer's fields, which are sorted

    return '{"mch_id":"1900009191","app_id":"wxd930ea5d5a258f4f",'
        . '"transaction_id":"1008450740201411110005820873",'
        . '"out_trade_no":"20150806125346",'
        . qq("refund_id":"500$n","out_refund_no":"R$n","status":"SUCCESS",)
        . '"channel":"ORIGINAL","success_time":"2016-07-25T15:26:26+08:00",'
        . '"user_received_account":"支付用户零钱",'
        . '"funds_account":"AVAILABLE","amount":{"total":999,"refund":1,'
        . '"settlement_total":990,"settlement_refund":1},"extra":{'
        . ($more // '') . $extra . '}}';
}

sub v2_list {
    my ($total, @data) = @_;
    return accepted(2, '{"mch_id":"1900009191","app_id":"wxd930ea5d5a258f4f",'
        . '"transaction_id":"1008450740201411110005820873",'
        . '"out_trade_no":"20150806125346",'
        . (defined $total ? qq("total_refund_count":$total,) : '')
        . '"refunds":[' . join(',', @data)
        . '],"extra":{"cash_fee":"999"}}');
}

my %by_trade = (query => { out_trade_no => '20150806125346' });

v2('a query, 36 refunds', v2_list(50, map { v2_refund_data($_) } 0 .. 35),
   { %v2_query, refund_count => 36, total_refund_count => 50,
     map { v2_refund($_) } 0 .. 35 },
   query => { out_trade_no => '20150806125346', offset => 0 },
   event => event(v2_refund_data(0), 2, '5000', '2016-07-25T15:26:26+08:00'));
v2('a query by transaction_id, one refund', v2_list(undef, v2_refund_data(0)),
   { %v2_query, refund_count => 1, v2_refund(0) },
   query => { transaction_id => '1008450740201411110005820873' },
   event => event(v2_refund_data(0), 2, '5000', '2016-07-25T15:26:26+08:00'));
v2('a query without refunds', v2_list(undef),
   { %v2_query, refund_count => 0 }, %by_trade);
v2('a query, 300 refunds', v2_list(300, map { v2_refund_data($_) } 0 .. 299),
   { %v2_query, refund_count => 300, total_refund_count => 300,
     map { v2_refund($_) } 0 .. 299 }, %by_trade,
   event => event(v2_refund_data(0), 2, '5000', '2016-07-25T15:26:26+08:00'));
v2('a query by out_refund_no', accepted(2, v2_refund_data(0,
       '"cash_fee":"999",')),
   { %v2_query, refund_count => 1, v2_refund(0) },
   query => { out_refund_no => 'R0' },
   event => event(v2_refund_data(0, '"cash_fee":"999",'), 2, '5000',
                  '2016-07-25T15:26:26+08:00'));
v2('a query by refund_id, the second of two', accepted(2, v2_refund_data(1,
       '"cash_fee":"999",')),
   { %v2_query, refund_count => 2, map { v2_refund($_) } 0, 1 },
   query => { refund_id => '5001' },
   event => event(v2_refund_data(1, '"cash_fee":"999",'), 2, '5001',
                  '2016-07-25T15:26:26+08:00'));
v2('sums over all refunds are not taken for one', accepted(2,
       v2_refund_data(0, '"cash_fee":"999",')),
   { %v2_query, refund_count => 1, refund_fee => 777,
     coupon_refund_count => 77, v2_refund(0) },
   query => { out_refund_no => 'R0' },
   event => event(v2_refund_data(0, '"cash_fee":"999",'), 2, '5000',
                  '2016-07-25T15:26:26+08:00'));

for my $case (['PROCESSING', 'PROCESSING'], ['CHANGE', 'ABNORMAL'],
              ['REFUNDCLOSE', 'CLOSED'])
{
    my $data = v2_refund_data(0) =~ s/SUCCESS/$case->[1]/r;

    v2("a query, $case->[0]", v2_list(undef, $data),
       { %v2_query, refund_count => 1, v2_refund(0),
         refund_status_0 => $case->[0] }, %by_trade,
       event => $case->[1] ne 'PROCESSING'
                ? event($data, 2, '5000', '2016-07-25T15:26:26+08:00') : '');
}

v2('the example of the page has no total_fee',
   v2_list(undef, v2_refund_data(0) =~ s/"total":999,//r),
   { %v2_query, total_fee => '', refund_count => 1, v2_refund(0) }, %by_trade,
   event => event(v2_refund_data(0) =~ s/"total":999,//r, 2, '5000',
                  '2016-07-25T15:26:26+08:00'));

v2('fields beyond refund_count are the order\'s',
   v2_list(undef, v2_refund_data(0))
       =~ s/"extra":\{"cash_fee":"999"\}/"extra":{"_0":"4","a_00":"2","a_1":"1","a_18446744073709551616":"5","b_1_0":"3","bb1":"7","c_-":"6","cash_fee":"999"}/r,
   { %v2_query, refund_count => 1, v2_refund(0), a_1 => 1, a_00 => 2,
     b_1_0 => 3, bb1 => 7, _0 => 4, a_18446744073709551616 => 5,
     'c_-' => 6 }, %by_trade,
   event => event(v2_refund_data(0), 2, '5000', '2016-07-25T15:26:26+08:00'));

for my $bad ('', 'x', '-1', '1000', '1' x 16) {
    v2("refund_count is \"$bad\"", 'MALFORMED_RESPONSE',
       { %v2_query, refund_count => $bad, v2_refund(0) }, %by_trade);
}

v2('total_refund_count is no number', 'MALFORMED_RESPONSE',
   { %v2_query, refund_count => 1, total_refund_count => 'x', v2_refund(0) },
   %by_trade);
v2('a refund less than refund_count', 'MALFORMED_RESPONSE',
   { %v2_query, refund_count => 2, v2_refund(0) }, %by_trade);
v2('no refund for a number', 'MALFORMED_RESPONSE',
   { %v2_query, refund_count => 0 }, query => { out_refund_no => 'R0' });
v2('another refund than asked for', 'MISMATCHED_RESPONSE',
   { %v2_query, refund_count => 1, v2_refund(0) },
   query => { out_refund_no => 'R1' });
v2('another order than asked for', 'MISMATCHED_RESPONSE',
   { %v2_query, refund_count => 1, v2_refund(0) },
   query => { out_trade_no => '1' });

for my $field ('refund_id', 'out_refund_no', 'refund_status', 'refund_fee') {
    v2("a query, no ${field}_0", 'MALFORMED_RESPONSE',
       { %v2_query, refund_count => 1, v2_refund(0), "${field}_0" => '' },
       %by_trade);
}

###############################################################################

# the header

sub c {
    my ($text) = @_;
    $text =~ s/([^\x20-\x21\x23-\x3e\x40-\x5b\x5d-\x7e])/sprintf '\\%03o', ord $1/ge;
    my $literal = join qq{"\n    "}, $text =~ /((?:\\\d{3}|.){1,100})/gs;
    return qq(\n    "$literal");
}

sub span {
    my ($text) = @_;
    return sprintf '{ (const unsigned char *) %s, %d }', c($text),
           length $text;
}

sub query_c {
    my ($q) = @_;
    return '{ ' . join(', ', map { span($q->{$_} // '') }
                       qw(refund_id out_refund_no transaction_id out_trade_no
                          sub_mch_id offset)) . ' }';
}

sub certificate {
    my ($key) = @_;
    umask 077;
    open my $fh, '>', "$dir/merchant.pem" or die "$dir: $!\n";
    print $fh $key->export_key_pem('private');
    close $fh or die "$dir: $!\n";

    system('openssl', 'req', '-x509', '-new', '-key', "$dir/merchant.pem",
           '-set_serial', "0x$serial", '-days', '400', '-subj', '/CN=test',
           '-out', "$dir/merchant-cert.pem") == 0
        or die "openssl req failed\n";

    unlink "$dir/merchant.pem";

    open $fh, '<', "$dir/merchant-cert.pem" or die "$dir: $!\n";
    local $/;
    return scalar <$fh>;
}

print "/* made by outbound_vectors.pl */\n\n\n";
print "#define OUTBOUND_NOW  $now\n#define OUTBOUND_NONCE  \"$nonce\"\n";
print "#define OUTBOUND_SERIAL  \"$public_id\"\n";

my %define = (
    CERTIFICATE => certificate($rsa{merchant}),
    KEY => $rsa{merchant}->export_key_pem('private'),
    OLD_KEY => $rsa{old}->export_key_pem('public_x509'),
    NEW_KEY => $rsa{new}->export_key_pem('public_x509'),
    NEW_PRIVATE_KEY => $rsa{new}->export_key_pem('private'),
    V2_KEY => $v2key{a}, V2_KEY_NEXT => $v2key{b});

printf "#define OUTBOUND_%s %s\n", $_, c($define{$_}) =~ s/\n/ \\\n/gr
    for sort keys %define;

print "\n\nstatic const test_request_t  test_requests[] = {\n";

for my $r (@requests) {
    printf "{ %s, WECHATPAY_V%d, \"%s\", WECHATPAY_CALL_%s,\n"
           . "  %s, %s, %s, %s,\n  %s, %s, %s, %s },\n\n",
        c($r->{name}), $r->{version}, $r->{merchant}, $r->{call},
        span($r->{refund_id} // ''), span($r->{body}), query_c($r->{query}),
        span($r->{notify_url}), c($r->{code}), span($r->{field}),
        c($r->{message}), span($r->{json});
}

print "};\n\n\nstatic const test_call_t  test_calls[] = {\n";

for my $r (calls()) {
    printf "{ { %s, WECHATPAY_V%d, \"%s\", WECHATPAY_CALL_%s,\n"
           . "  %s, %s, %s, %s, \"\", { NULL, 0 }, \"\", { NULL, 0 } },\n"
           . "  \"%s\", %s, %s, %s,\n  %s, %s },\n\n",
        c($r->{name}), $r->{version}, $r->{merchant}, $r->{call},
        span($r->{refund_id} // ''), span($r->{query} ? '' : $r->{body}),
        query_c($r->{query}), span($r->{notify_url} // ''), $r->{method},
        span($r->{path}), span($r->{args}), span($r->{target} || $r->{path}),
        span($r->{out}), span($r->{authorization});
}

print "};\n\n\nstatic const test_answer_t  test_answers[] = {\n";

for my $r (@answers) {
    my $call = $r->{query} ? 'QUERY' : $r->{refund_id} ? 'ABNORMAL' : 'CREATE';

    printf "{ { %s, WECHATPAY_V%d, \"%s\", WECHATPAY_CALL_%s,\n"
           . "  %s, %s, %s, { NULL, 0 }, \"\", { NULL, 0 }, \"\","
           . " { NULL, 0 } },\n  %d, %s,\n  { %s },\n  %d, %s, %s },\n\n",
        c($r->{name}), $r->{version}, $r->{merchant}, $call,
        span($r->{refund_id}), span($r->{query} ? '' : $r->{request}),
        query_c($r->{query}), $r->{status}, span($r->{body}),
        join(', ', map { '{ ' . span($_->[0]) . ', ' . span($_->[1]) . ' }' }
                   @{ $r->{headers} }, ['', '']),
        $r->{http} // 0, span($r->{expected}), span($r->{event});
}

print "};\n";
