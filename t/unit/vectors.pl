#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# Writes the header of test vectors: notifies as WeChat Pay would send them, good
# and bad, each with what has to become of it.  All the cryptography is CryptX',
# none of it OpenSSL's but for the certificate; the keys are made at each run.
#
# Usage: vectors.pl directory > vectors.h      (directory: for temporary files)

use strict;
use warnings;

use Crypt::AuthEnc::GCM qw(gcm_encrypt_authenticate);
use Crypt::Cipher::AES;
use Crypt::Digest::MD5 qw(md5_hex);
use Crypt::Digest::SHA256 qw(sha256);
use Crypt::PK::RSA;
use MIME::Base64 qw(encode_base64);

my $dir = shift or die "usage: $0 directory\n";

###############################################################################

# keys

my %v2key = (a => '0123456789abcdefghijKLMNOPQRSTUV',
             b => 'rotated-v2-key-for-the-unit-test');
my %v3key = (a => 'a-32-byte-APIv3-key-for-testing!',
             b => "\x00\xffbinary bytes are an APIv3 key\x0a");

my %rsa;

for my $name ('public', 'certified', 'other', 'large') {
    $rsa{$name} = Crypt::PK::RSA->new;
    $rsa{$name}->generate_key($name eq 'large' ? 512 : 256, 65537);
}

my $public_id = 'PUB_KEY_ID_0119000001092024070100000000000001';
my $large_id = 'PUB_KEY_ID_0119000001092024070100000000000002';
my $serial = '0A5A3BD8C0E2F4A6B8C0D2E4F60718293A4B5C6D';
my $certificate = certificate($rsa{certified}, $serial);

sub certificate {
    my ($key, $serial, @more) = @_;

    write_file("$dir/key.pem", $key->export_key_pem('private'));

    system('openssl', 'req', '-x509', '-new', '-key', "$dir/key.pem",
           '-set_serial', "0x$serial", '-days', '400',
           '-subj', '/CN=Tenpay.com Root CA test', '-out', "$dir/cert.pem") == 0
        or die "openssl req failed\n";

    unlink "$dir/key.pem";

    return read_file("$dir/cert.pem");
}

###############################################################################

# merchants

my @merchants = (
    { name => 'shop', mch_id => '1900000109', v2 => ['a'], v3 => ['a'],
      public => [[$public_id, 'public']], certificates => [$certificate],
      subs => ['1900000110', '1900000111', '1900000112'] },
    { name => 'example', mch_id => '10000100', v2 => ['a'],
      apps => ['wx8888888888888888', 'wx2421b1c4370ec43b'] },
    { name => 'rotated', mch_id => '1900000109', v2 => ['b', 'a'],
      v3 => ['b', 'a'],
      public => [[$large_id, 'large'], [$public_id, 'public']] },
    { name => 'single', mch_id => '1900000109', v2 => ['a'], v3 => ['a'],
      public => [[$public_id, 'public']], apps => ['wx8888888888888888'] },
    { name => 'provider', mch_id => '1900000109', v2 => ['a'], v3 => ['a'],
      public => [[$public_id, 'public']], subs => ['*'] },
    { name => 'keyless', mch_id => '1900000109' },
    { name => 'wrong', mch_id => '1900000109', v2 => ['b'], v3 => ['b'],
      public => [[$public_id, 'public']] },
);

###############################################################################

my @vectors;
my $now = 1528425296;


# the v2 refund notify

my $v2_inner = <<'INNER';
<root>
<out_refund_no><![CDATA[131811191610442717309]]></out_refund_no>
<out_trade_no><![CDATA[71106718111915575302817]]></out_trade_no>
<refund_account><![CDATA[REFUND_SOURCE_RECHARGE_FUNDS]]></refund_account>
<refund_fee><![CDATA[3960]]></refund_fee>
<refund_id><![CDATA[50000408942018111907145868882]]></refund_id>
<refund_recv_accout><![CDATA[支付用户零钱]]></refund_recv_accout>
<refund_request_source><![CDATA[API]]></refund_request_source>
<refund_status><![CDATA[SUCCESS]]></refund_status>
<settlement_refund_fee><![CDATA[3960]]></settlement_refund_fee>
<settlement_total_fee><![CDATA[3960]]></settlement_total_fee>
<success_time><![CDATA[2018-11-19 16:24:13]]></success_time>
<cash_refund_fee><![CDATA[3960]]></cash_refund_fee>
<total_fee><![CDATA[3960]]></total_fee>
<transaction_id><![CDATA[4200000215201811190261405420]]></transaction_id>
</root>
INNER

my $v2_json = json_line(<<'JSON');
{"type":"refund.succeeded","timestamp":"2018-11-19T16:24:13+08:00",
"id":"wechatpay:10000100:50000408942018111907145868882:SUCCESS",
"provider":"wechatpay","api_version":"v2","merchant":"shop",
"data":{
"mch_id":"10000100","app_id":"wx2421b1c4370ec43b",
"transaction_id":"4200000215201811190261405420",
"out_trade_no":"71106718111915575302817",
"refund_id":"50000408942018111907145868882",
"out_refund_no":"131811191610442717309",
"status":"SUCCESS","success_time":"2018-11-19T16:24:13+08:00",
"user_received_account":"支付用户零钱",
"funds_account":"AVAILABLE","request_source":"API",
"amount":{"total":3960,"refund":3960,
"settlement_total":3960,"settlement_refund":3960},
"extra":{"cash_refund_fee":"3960"}}}
JSON

sub json_line {
    my ($text) = @_;
    $text =~ s/\n//g;
    return $text;
}

sub pad {
    my ($text) = @_;
    my $n = 16 - length($text) % 16;
    return $text . chr($n) x $n;
}

sub ecb {
    my ($key, $padded) = @_;
    my $aes = Crypt::Cipher::AES->new(md5_hex($key));
    return join '', map { $aes->encrypt($_) } unpack '(a16)*', $padded;
}

sub req_info {
    my ($key, $text) = @_;
    return encode_base64(ecb($v2key{$key}, pad($text)), '');
}

sub v2_body {
    my ($req_info, %more) = @_;
    my %field = (appid => 'wx2421b1c4370ec43b', mch_id => '10000100',
                 nonce_str => '26b2a9d4b1b8f5e2c1a0d3e4f5061728', %more);

    return '<xml><return_code>SUCCESS</return_code>'
           . join('', map { defined $field{$_}
                            ? "<$_><![CDATA[$field{$_}]]></$_>" : () }
                      sort keys %field)
           . "<req_info><![CDATA[$req_info]]></req_info></xml>";
}

# v2(name, error, option => value ...): what differs from the example.  edit
# and outer are s/// over the <root> and over the whole body.

sub v2 {
    my ($name, $error, %o) = @_;
    my $inner = $o{inner} // $v2_inner;
    my $json = $o{json} // $v2_json;

    for ($inner) { $o{edit}->() if $o{edit} }

    my $req_info = $o{req_info} // req_info($o{key} // 'a', $inner);
    my $body = $o{body} // v2_body($req_info, %{ $o{fields} // {} });

    for ($body) { $o{outer}->() if $o{outer} }
    for ($json) { $o{result}->() if $o{result} }

    push @vectors, { name => "v2: $name", version => 2, error => $error,
                     merchant => $o{merchant} // 'example', body => $body,
                     padding => $o{padding} // 0, headers => [],
                     json => $error eq 'OK' ? $json : '' };
}

my %own = (mch_id => '1900000109', appid => 'wx8888888888888888');

sub own {
    s/10000100/1900000109/g;
    s/wx2421b1c4370ec43b/wx8888888888888888/;
}

sub with_sub {
    own();
    s/("mch_id":"\d+")/$1,"sub_mch_id":"1900000111"/;
}

v2('the documented example', 'OK');
v2('without CDATA', 'OK', edit => sub { s/<!\[CDATA\[(.*?)\]\]>/$1/g });
v2('an XML declaration, and white space around all', 'OK',
   edit => sub { $_ = qq{<?xml version="1.0" encoding="UTF-8"?>\n$_} },
   outer => sub { $_ = qq{\r\n \t<?xml version="1.0"?>\n$_\n\n} });
v2('another declared encoding is UTF-8 all the same', 'OK',
   edit => sub { $_ = qq{<?xml version="1.0" encoding="GBK"?>$_} });
v2('comments are skipped', 'OK',
   edit => sub { s/SUCCESS/SUC<!-- -->/; s/\Q<!-- -->]]>\E/]]><!-- a -->CESS/ },
   outer => sub { s/<xml>/<!-- b --><xml><!-- c -->/ });
v2('white space before the root within', 'OK',
   edit => sub { $_ = "\r\n \t$_" });
v2('white space before the root within, and a wrong key', 'OK',
   merchant => 'rotated', fields => { %own }, result => \&own,
   edit => sub { $_ = "\n$_" });
v2('= in text, CDATA, comments, before and behind tags', 'OK',
   edit => sub {
       s/<!\[CDATA\[支付用户零钱\]\]>/=a='b'<![CDATA[<a b="c">]]]]><!--<a b="c">-->=/
   },
   outer => sub { s/<xml>/<!--><xml a="b">--><xml><!--<![CDATA[--><!--]]>--><z><![CDATA[<!--]]><\/z>/ },
   result => sub { s/支付用户零钱/=a='b'<a b=\\"c\\">]]=/ });
v2('CDATA in pieces', 'OK',
   edit => sub { s/3960/39]]><![CDATA[6]]>0<![CDATA[/ });
v2('character references and the five entities', 'OK',
   edit => sub {
       s/<!\[CDATA\[支付用户零钱\]\]>/&#x652F;&#20184;&lt;&gt;&amp;&quot;&apos;/
   },
   result => sub { s/支付用户零钱/支付<>&\\"'/ });
v2('control characters in JSON', 'OK',
   edit => sub { s/支付用户零钱/a\\b\tc\nd/ },
   result => sub { s/支付用户零钱/a\\\\b\\tc\\nd/ });
v2('a carriage return and a DEL', 'OK',
   edit => sub { s/<!\[CDATA\[支付用户零钱\]\]>/a&#13;&#x7f;/ },
   result => sub { s/支付用户零钱/a\\r\x7f/ });
v2('CHANGE', 'OK', edit => sub { s/SUCCESS/CHANGE/ },
   result => sub { s/SUCCESS/ABNORMAL/g; s/succeeded/abnormal/ });
v2('REFUNDCLOSE', 'OK', edit => sub { s/SUCCESS/REFUNDCLOSE/ },
   result => sub { s/SUCCESS/CLOSED/g; s/succeeded/closed/ });
v2('unsettled funds', 'OK', edit => sub { s/RECHARGE/UNSETTLED/ },
   result => sub { s/AVAILABLE/UNSETTLED/ });
v2('funds of a new name', 'OK', edit => sub { s/RECHARGE/NEW/ },
   result => sub { s/AVAILABLE/REFUND_SOURCE_NEW_FUNDS/ });
v2('no success_time: the time of receipt', 'OK',
   edit => sub { s/<success_time>.*\n// },
   result => sub {
       s/"timestamp":"[^"]+"/"timestamp":"2018-06-08T10:34:56+08:00"/;
       s/"success_time":"[^"]+",//
   });
v2('an empty success_time', 'OK',
   edit => sub { s/(<success_time>).*?(<\/)/$1$2/ },
   result => sub {
       s/"timestamp":"[^"]+"/"timestamp":"2018-06-08T10:34:56+08:00"/;
       s/"success_time":"[^"]+",//
   });

for my $time ('2018-11-19T16:24:13', '2018-02-29 00:00:00', 'yesterday',
              '2018-11-31 16:24:13', '2018-13-01 16:24:13',
              '2018-00-01 16:24:13', '2018-01-00 16:24:13',
              '2018-11-19 24:00:00', '2018-11-19 16:60:13',
              '2018-11-19 16:24:60', '2018-11-19 16:24:1',
              '1900-02-29 00:00:00', '2018-11-19 16:24:1a',
              '2018-11-19 16:24:1-')
{
    v2("success_time of another form goes to extra: $time", 'OK',
       edit => sub { s/2018-11-19 16:24:13/$time/ },
       result => sub {
           s/"timestamp":"[^"]+"/"timestamp":"2018-06-08T10:34:56+08:00"/;
           s/"success_time":"[^"]+",//;
           s/"extra":\{/"extra":{"success_time":"$time",/
       });
}

for my $time ('2020-02-29 23:59:59', '2000-02-29 00:00:00',
              '2018-12-31 00:00:00')
{
    v2("success_time $time", 'OK',
       edit => sub { s/2018-11-19 16:24:13/$time/ },
       result => sub { my $t = $time =~ s/ /T/r;
                       s/2018-11-19T16:24:13/$t/g });
}

v2('optional fields absent', 'OK',
   inner => '<root><transaction_id>1</transaction_id><out_trade_no>2'
            . '</out_trade_no><refund_id>3</refund_id><out_refund_no>4'
            . '</out_refund_no><total_fee>0</total_fee><refund_fee>0'
            . '</refund_fee><refund_status>SUCCESS</refund_status></root>',
   json => '{"type":"refund.succeeded",'
           . '"timestamp":"2018-06-08T10:34:56+08:00",'
           . '"id":"wechatpay:10000100:3:SUCCESS","provider":"wechatpay",'
           . '"api_version":"v2","merchant":"shop","data":{'
           . '"mch_id":"10000100","app_id":"wx2421b1c4370ec43b",'
           . '"transaction_id":"1","out_trade_no":"2","refund_id":"3",'
           . '"out_refund_no":"4","status":"SUCCESS",'
           . '"amount":{"total":0,"refund":0}}}');
v2('unknown fields are kept in order, empty ones too', 'OK',
   edit => sub { s/<root>/<root><z>1<\/z><a>"\\<\/a><empty\/>/ },
   result => sub { s/"extra":\{/"extra":{"z":"1","a":"\\"\\\\","empty":"",/ });
v2('text that is too long is kept in extra', 'OK',
   edit => sub { my $long = 'x' x 1025; s/支付用户零钱/$long/ },
   result => sub { my $long = 'x' x 1025;
                   s/"user_received_account":"[^"]+",//;
                   s/"extra":\{/"extra":{"refund_recv_accout":"$long",/ });
v2('text of 1024 bytes', 'OK',
   edit => sub { my $long = 'x' x 1024; s/支付用户零钱/$long/ },
   result => sub { my $long = 'x' x 1024; s/支付用户零钱/$long/ });
v2('the largest amount', 'OK',
   edit => sub { s/(<total_fee><!\[CDATA\[)3960/${1}999999999999999/ },
   result => sub { s/"total":3960/"total":999999999999999/ });
v2('a sub_mch_id of the list, and a sub_appid', 'OK', merchant => 'shop',
   fields => { %own, sub_mch_id => '1900000111', sub_appid => 'wx1' },
   result => sub { with_sub(); s/("app_id":"\w+")/$1,"sub_app_id":"wx1"/ });
v2('any sub_mch_id', 'OK', merchant => 'provider',
   fields => { %own, sub_mch_id => '1900000111' }, result => \&with_sub);
v2('a list of sub_mch_id, but none in the notify', 'OK', merchant => 'shop',
   fields => { %own }, result => \&own);
v2('empty elements are absent', 'OK', merchant => 'single',
   fields => { %own, sub_mch_id => '', sub_appid => '' }, result => \&own);
v2('no appid', 'OK', fields => { appid => undef },
   result => sub { s/"app_id":"[^"]+",// });
v2('the second key', 'OK', merchant => 'rotated', fields => { %own },
   result => \&own);
v2('the first key', 'OK', merchant => 'rotated', key => 'b',
   fields => { %own }, result => \&own);
v2('a full block of padding', 'OK',
   edit => sub { $_ .= ' ' x (16 - length($_) % 16) });

# chosen so that the first key leaves valid padding, and with it text that begins
# as XML does: it is not the key all the same

sub disguised {
    my ($first) = @_;
    my $wrong = Crypt::Cipher::AES->new(md5_hex($v2key{b}));
    my ($n, $start, $blocks) = (0, '<root>');

    if ($first) {
        do {
            $start = sprintf '<root><!--%03x-->', $n++;
        } until substr($wrong->decrypt(ecb($v2key{a}, $start)), 0, 1) eq '<';
    }

    my $text = $v2_inner =~ s/<root>/$start/r;
    $text .= ' ' x ((15 - 11 - length $text) % 16);

    do {
        $blocks = ecb($v2key{a}, sprintf "%s<!--%04x-->\x01", $text, $n++);
    } until substr($wrong->decrypt(substr $blocks, -16), -1) eq "\x01";

    return encode_base64($blocks, '');
}

v2('a wrong key that leaves valid padding', 'OK', merchant => 'rotated',
   fields => { %own }, result => \&own, req_info => disguised(0));
v2('a wrong key that leaves valid padding and a <', 'OK',
   merchant => 'rotated', fields => { %own }, result => \&own,
   req_info => disguised(1));
v2('only a wrong key that leaves valid padding', 'REQ_INFO_KEY',
   merchant => 'wrong', fields => { %own }, req_info => disguised(0));
v2('only a wrong key that leaves valid padding and a <', 'XML_NOT_UTF8',
   merchant => 'wrong', fields => { %own }, req_info => disguised(1));

v2('neither', 'FORMAT_UNKNOWN', body => 'hello');
v2('nothing', 'FORMAT_UNKNOWN', body => '');
v2('white space only', 'FORMAT_UNKNOWN', body => " \r\n\t");
v2('JSON', 'FORMAT_UNKNOWN', body => '{}');
v2('a byte order mark', 'FORMAT_UNKNOWN',
   outer => sub { $_ = "\xef\xbb\xbf$_" });
v2('no key', 'VERSION_NOT_ACCEPTED', merchant => 'keyless');
v2('over 1 MB', 'BODY_TOO_LARGE', padding => 1024 * 1024);

v2('a NUL', 'XML_NOT_UTF8', outer => sub { s/<xml>/<xml>\0/ });
v2('a NUL behind', 'XML_NOT_UTF8', outer => sub { $_ .= "\0" });
v2('UTF-16', 'XML_NOT_UTF8',
   outer => sub { $_ = join '', map { "$_\0" } split // });
v2('Latin 1', 'XML_NOT_UTF8', outer => sub { s/<xml>/<xml>\xe9/ });
v2('overlong UTF-8', 'XML_NOT_UTF8', outer => sub { s/<xml>/<xml>\xc0\xaf/ });
v2('a surrogate', 'XML_NOT_UTF8',
   outer => sub { s/<xml>/<xml>\xed\xa0\x80/ });
v2('GBK within', 'XML_NOT_UTF8', edit => sub { s/支/\xd6\xd0/ });
v2('a declared UTF-16', 'XML_NOT_UTF8', outer => sub {
   $_ = "\x3c\0?\0x\0m\0l\0" . $_ });
v2('an open tag', 'XML_NOT_WELL_FORMED', outer => sub { s/<\/xml>// });
v2('something behind', 'XML_NOT_WELL_FORMED', outer => sub { $_ .= '<a/>' });
v2('text behind', 'XML_NOT_WELL_FORMED', outer => sub { $_ .= 'x' });
v2('crossed tags', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a><b><\/a><\/b>/;
                  s/<a><b><\/a><\/b>/<a>1<\/b>/ });
v2('an unknown entity', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>&xxe;<\/a>/ });
v2('a reference to a control character', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>&#1;<\/a>/ });
v2('a reference to NUL', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>&#0;<\/a>/ });
v2('a reference beyond Unicode', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>&#x110000;<\/a>/ });
v2('a control character', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>\x01<\/a>/ });
v2(']]> in text', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>]]><\/a>/ });
v2('one tag', 'XML_NOT_WELL_FORMED', body => '<');
v2('a declaration only', 'XML_NOT_WELL_FORMED',
   body => '<?xml version="1.0"?>');
v2('within, an open tag', 'XML_NOT_WELL_FORMED',
   edit => sub { s/<\/root>// });

for my $doctype (
    '<!DOCTYPE xml>',
    '<!DOCTYPE xml SYSTEM "file:///etc/passwd">',
    '<!DOCTYPE xml SYSTEM "http://127.0.0.1:1/x.dtd">',
    '<!DOCTYPE xml PUBLIC "-//W3C//DTD XHTML 1.0//EN" "x.dtd">',
    '<!DOCTYPE xml [<!ENTITY xxe SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE xml [<!ENTITY % p SYSTEM "http://127.0.0.1:1/"> %p;]>',
    '<!DOCTYPE xml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
    '<!DOCTYPE xml [<!ATTLIST xml a CDATA "b">]>')
{
    v2($doctype, 'XML_DOCTYPE', outer => sub { $_ = $doctype . $_ });
}

v2('a DOCTYPE within', 'XML_DOCTYPE',
   edit => sub { $_ = "<!DOCTYPE root>$_" });
v2('a processing instruction', 'XML_INSTRUCTION',
   outer => sub { s/<xml>/<xml><?php phpinfo()?>/ });
v2('a processing instruction before', 'XML_INSTRUCTION',
   outer => sub { $_ = '<?xml-stylesheet href="a"?>' . $_ });
v2('an attribute', 'XML_ATTRIBUTE', outer => sub { s/<xml>/<xml a="b">/ });
v2('an attribute of a field', 'XML_ATTRIBUTE',
   outer => sub { s/<mch_id>/<mch_id a="b">/ });
v2('a namespace', 'XML_ATTRIBUTE', outer => sub { s/<xml>/<xml xmlns="a">/ });
v2('an attribute with a >', 'XML_ATTRIBUTE',
   outer => sub { s/<mch_id>/<mch_id a=">">/ });
v2('an attribute in another line', 'XML_ATTRIBUTE',
   outer => sub { s/<mch_id>/<mch_id\n\ta\n=\n'b'>/ });
v2('an attribute within', 'XML_ATTRIBUTE',
   edit => sub { s/<refund_id>/<refund_id a="b">/ });
v2('an attribute without quotes', 'XML_ATTRIBUTE',
   outer => sub { s/<xml>/<xml a=b>/ });
v2('an attribute behind a comment with CDATA', 'XML_ATTRIBUTE',
   outer => sub { s/<xml>/<xml><!--<![CDATA[--><a b="c"\/>/ });
v2('an attribute behind CDATA with a comment', 'XML_ATTRIBUTE',
   outer => sub { s/<xml>/<xml><a><![CDATA[<!--]]><\/a><a b="c"\/>/ });
v2('an attribute behind a comment in an instruction', 'XML_INSTRUCTION',
   outer => sub { s/<xml>/<xml><?a <!--?><a b="c"\/>/ });
v2('an attribute behind CDATA in a declaration', 'XML_NOT_WELL_FORMED',
   outer => sub { $_ = '<?xml version="1.0"<![CDATA[?><xml a="b"/>' });
v2('an attribute behind a comment in a DOCTYPE', 'XML_DOCTYPE',
   outer => sub { $_ = '<!DOCTYPE xml [<?a <!--?>]><xml a="b"/>' });
v2('an attribute without a value', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml a>/ });
v2('the first error is what counts', 'XML_NOT_WELL_FORMED',
   outer => sub { s/<xml>/<xml><a>&x;<\/a>text/ });
v2('XInclude', 'XML_ATTRIBUTE', outer => sub {
   s/<xml>/<xml><xi:include xmlns:xi="http:\/\/www.w3.org\/2001\/XInclude" href="a"\/>/ });
v2('a prefix', 'XML_ATTRIBUTE', outer => sub { s/mch_id>/a:mch_id>/g });
v2('an element within a field', 'XML_NESTED',
   outer => sub { s/<xml>/<xml><a><b\/><\/a>/ });
v2('nested deep', 'XML_NESTED',
   body => '<a>' x 100000 . '</a>' x 100000);
v2('text between', 'XML_MIXED', outer => sub { s/<xml>/<xml>text/ });
v2('CDATA between', 'XML_MIXED',
   outer => sub { s/<xml>/<xml><![CDATA[x]]>/ });
v2('mch_id twice', 'XML_REPEATED',
   outer => sub { s/<xml>/<xml><mch_id>1<\/mch_id>/ });
v2('refund_id twice', 'XML_REPEATED',
   edit => sub { s/<root>/<root><refund_id>1<\/refund_id>/ });
v2('an unknown field twice', 'XML_REPEATED',
   edit => sub { s/<root>/<root><a>1<\/a><a>1<\/a>/ });
v2('too many fields', 'XML_TOO_MANY', outer => sub {
   my $more = join '', map { "<a$_/>" } 1 .. 65; s/<xml>/<xml>$more/ });
v2('64 fields', 'OK', outer => sub {
   my $n = 64 - (() = m{</\w+>}g) + 1;
   my $more = join '', map { "<a$_/>" } 1 .. $n; s/<xml>/<xml>$more/ });

v2('another root', 'V2_ROOT', outer => sub { s/(<\/?)xml>/$1root>/g });
v2('no return_code', 'RETURN_CODE_MISSING',
   outer => sub { s/<return_code>.*<\/return_code>// });
v2('an empty return_code', 'RETURN_CODE_MISSING',
   outer => sub { s/<return_code>.*<\/return_code>/<return_code\/>/ });
v2('FAIL', 'RETURN_CODE',
   body => '<xml><return_code>FAIL</return_code><return_msg>x</return_msg>'
           . '</xml>');
v2('success in small letters', 'RETURN_CODE',
   outer => sub { s/SUCCESS/success/ });
v2('no mch_id', 'MCH_ID_MISSING', fields => { mch_id => undef });
v2('an empty mch_id', 'MCH_ID_MISSING', fields => { mch_id => '' });
v2('another mch_id', 'MCH_ID_MISMATCH', fields => { mch_id => '10000101' });
v2('a longer mch_id', 'MCH_ID_MISMATCH', fields => { mch_id => '100001000' });
v2('white space around mch_id', 'MCH_ID_MISMATCH',
   fields => { mch_id => ' 10000100' });
v2('another appid', 'APP_ID_MISMATCH', fields => { appid => 'wx1' });
v2('an appid of another form', 'APP_ID_INVALID', fields => { appid => 'a b' });
v2('an appid that is too long', 'APP_ID_INVALID',
   fields => { appid => 'a' x 33 });
v2('a sub_appid of another form', 'APP_ID_INVALID',
   fields => { sub_appid => "\n" });
v2('a sub_mch_id where none is configured', 'SUB_MCH_ID_MISMATCH',
   fields => { sub_mch_id => '1900000111' });
v2('a sub_mch_id that is not in the list', 'SUB_MCH_ID_MISMATCH',
   merchant => 'shop', fields => { %own, sub_mch_id => '1900000113' });
v2('a sub_mch_id of another form', 'SUB_MCH_ID_INVALID',
   merchant => 'provider', fields => { %own, sub_mch_id => '*' });

v2('no req_info', 'REQ_INFO_MISSING',
   outer => sub { s/<req_info>.*<\/req_info>// });
v2('an empty req_info', 'REQ_INFO_MISSING', req_info => '');

for my $bad ('=', 'A', 'AAA', '====', 'A===', 'AB==', 'AAB=', 'AA=A', 'A=AA',
             'AAAA====', 'AA==AAAA')
{
    v2("req_info $bad", 'REQ_INFO_BASE64', req_info => $bad);
}

v2('a line break in req_info', 'REQ_INFO_BASE64',
   outer => sub { s/(<req_info><!\[CDATA\[.{76})/$1\n/ });
v2('a space behind req_info', 'REQ_INFO_BASE64',
   outer => sub { s/(\]\]><\/req_info>)/ $1/ });
v2("base64url's alphabet", 'REQ_INFO_BASE64', req_info => '--__');
v2('part of a block', 'REQ_INFO_BLOCKS', req_info => encode_base64('x' x 15, ''));
v2('a block and a byte', 'REQ_INFO_BLOCKS',
   req_info => encode_base64('x' x 17, ''));
v2('the wrong key', 'REQ_INFO_KEY', merchant => 'wrong', fields => { %own });

for my $padding ("\x00", "\x11", "\xff", "\x01\x02", "\x03\x02\x03",
                 "\x0f" . "\x10" x 15, "\x11" x 16, "\xff" x 16)
{
    my $text = '<' . 'x' x (31 - length($padding)) . $padding;

    v2('padding ' . unpack('H*', $padding), 'REQ_INFO_KEY',
       req_info => encode_base64(ecb($v2key{a}, $text), ''));
}

v2('padding only', 'REQ_INFO_KEY', inner => '');
v2('text within that is no XML', 'REQ_INFO_KEY', inner => 'hello');
v2('white space within', 'REQ_INFO_KEY', inner => " \n");
v2('white space within, and a root that lacks a field', 'REQ_INFO_KEY',
   edit => sub { s/<refund_id>.*\n//; $_ = " $_" });
v2('another root within', 'REQ_INFO_ROOT',
   edit => sub { s/(<\/?)root>/$1xml>/g });

for my $name ('transaction_id', 'out_trade_no', 'refund_id', 'out_refund_no') {
    my $code = uc $name;

    v2("no $name", "${code}_MISSING", edit => sub { s/<$name>.*\n// });
    v2("an empty $name", "${code}_MISSING",
       edit => sub { s/(<$name>).*?(<\/)/$1$2/ });
    v2("$name of 65 bytes", "${code}_INVALID",
       edit => sub { my $n = '1' x 65; s/(<$name>).*?(<\/)/$1$n$2/ });
    v2("$name with a line feed", "${code}_INVALID",
       edit => sub { s/(<$name>)(.*?<\/)/$1\n$2/ });
    v2("$name with other than ASCII", "${code}_INVALID",
       edit => sub { s/(<$name>)(.*?<\/)/$1é$2/ });
}

for my $bad (':', '{', '}', ' ', '*', '/', '%0d') {
    v2("refund_id with $bad", 'REFUND_ID_INVALID',
       edit => sub { s/(<refund_id>)(.*?<\/)/$1$bad$2/ });
}

v2('no refund_status', 'STATUS_MISSING',
   edit => sub { s/<refund_status>.*\n// });
v2('another refund_status', 'STATUS_UNKNOWN',
   edit => sub { s/SUCCESS/PROCESSING/ });
v2("v3's refund_status", 'STATUS_UNKNOWN',
   edit => sub { s/SUCCESS/CLOSED/ });
v2('no total_fee', 'TOTAL_MISSING', edit => sub { s/<total_fee>.*\n// });
v2('no refund_fee', 'REFUND_MISSING', edit => sub { s/<refund_fee>.*\n// });

for my $name ('total_fee', 'refund_fee', 'settlement_total_fee',
              'settlement_refund_fee')
{
    for my $bad ('-1', '+1', '1.0', ' 1', '1 ', '0x1', '1e3', '1' x 16, 'x') {
        v2("$name $bad", 'MONEY_INVALID',
           edit => sub { s/(<$name>).*?(<\/)/$1$bad$2/ });
    }
}

v2('broken XML, and a key that is the wrong one', 'REFUND_ID_MISSING',
   merchant => 'rotated', fields => { %own },
   edit => sub { s/<refund_id>.*\n// });

###############################################################################

# the v3 refund notify

my $v3_inner = json_line(<<'JSON');
{"mchid":"1900000109","transaction_id":"1008450740201411110005820873",
"out_trade_no":"20150806125346",
"refund_id":"50200207182018070300011301001",
"out_refund_no":"7752501201407033233368018",
"refund_status":"SUCCESS","success_time":"2018-06-08T10:34:56+08:00",
"user_received_account":"招商银行信用卡0403",
"amount":{"total":999,"refund":999,"payer_total":999,"payer_refund":999}}
JSON

my $v3_partner = $v3_inner
    =~ s/"mchid":"1900000109"/"sp_mchid":"1900000109","sub_mchid":"1900000110"/r;

my $v3_json = json_line(<<'JSON');
{"type":"refund.succeeded","timestamp":"2018-06-08T10:34:56+08:00",
"id":"wechatpay:1900000109:50200207182018070300011301001:SUCCESS",
"provider":"wechatpay","api_version":"v3","merchant":"shop",
"data":{
"mch_id":"1900000109",
"transaction_id":"1008450740201411110005820873",
"out_trade_no":"20150806125346",
"refund_id":"50200207182018070300011301001",
"out_refund_no":"7752501201407033233368018",
"status":"SUCCESS","success_time":"2018-06-08T10:34:56+08:00",
"user_received_account":"招商银行信用卡0403",
"amount":{"total":999,"refund":999,"payer_total":999,"payer_refund":999}}}
JSON

my $v3_id = 'EV-2018022511223320873';

sub gcm {
    my ($key, $nonce, $data, $text) = @_;
    my ($blocks, $tag) = gcm_encrypt_authenticate('AES', $v3key{$key}, $nonce,
                                                  $data, $text);
    return encode_base64($blocks . $tag, '');
}

# v3(name, error, option => value ...): edit, outer and result as for v2, outer
# before it is signed; data: the associated data, undef for none; late: s///
# over the signed body; header: what replaces headers, undef for none, an array
# for several; signature: of the message, instead of a right one

sub v3 {
    my ($name, $error, %o) = @_;
    my $inner = $o{inner} // $v3_inner;
    my $json = $o{json} // $v3_json;
    my $nonce = 'fdasflkja484';
    my $data = exists $o{data} ? $o{data} : 'refund';
    my $signer = $o{signer} // 'public';

    for ($inner) { $o{edit}->() if $o{edit} }

    my $ciphertext = $o{ciphertext}
                     // gcm($o{key} // 'a', $nonce, $data // '', $inner);

    my $body = qq({"id":"$v3_id","create_time":"2018-06-08T10:34:56+08:00",)
        . q("resource_type":"encrypt-resource","event_type":"REFUND.SUCCESS",)
        . q("summary":"退款成功","resource":{"original_type":"refund",)
        . qq("algorithm":"AEAD_AES_256_GCM","ciphertext":"$ciphertext",)
        . (defined $data ? qq("associated_data":"$data",) : '')
        . qq("nonce":"$nonce"}});

    $body = $o{body} if defined $o{body};

    for ($body) { $o{outer}->() if $o{outer} }
    for ($json) { $o{result}->() if $o{result} }

    my %header = ('wechatpay-timestamp' => $o{timestamp} // $now,
                  'wechatpay-nonce' => '593BEC0C930BF1AFEB40B4A08C8FB242',
                  'wechatpay-serial' => $o{serial} // $public_id);

    my $message = $header{'wechatpay-timestamp'} . "\n"
                  . $header{'wechatpay-nonce'} . "\n$body\n";

    my $signature = $o{signature}
        ? $o{signature}->($message)
        : $rsa{$signer}->sign_message($message, 'SHA256', 'v1.5');

    $header{'wechatpay-signature'} = encode_base64($signature, '');
    %header = (%header, 'wechatpay-signature-type' =>
               'WECHATPAY2-SHA256-RSA2048', %{ $o{header} // {} });

    for ($header{'wechatpay-signature'}) { $o{edit_signature}->()
                                           if $o{edit_signature} }
    for ($body) { $o{late}->() if $o{late} }

    my @headers = (['host', 'pay.example.com']);

    for my $key (sort keys %header) {
        my $value = $header{$key};
        push @headers, map { [$key, $_] } ref $value ? @$value
                                          : defined $value ? ($value) : ();
    }

    push @vectors, { name => "v3: $name", version => 3, error => $error,
                     merchant => $o{merchant} // 'shop', body => $body,
                     padding => 0, headers => \@headers,
                     json => $error eq 'OK' ? $json : '' };
}

sub partner {
    s/"mch_id":"1900000109"/"mch_id":"1900000109","sub_mch_id":"1900000110"/;
}

v3('the documented example', 'OK', inner => $v3_partner, result => \&partner);
v3('a merchant of its own', 'OK');
v3('by a certificate', 'OK', signer => 'certified', serial => $serial);
v3('by a key of 4096 bits', 'OK', merchant => 'rotated', signer => 'large',
   serial => $large_id);
v3('the second key of each kind', 'OK', merchant => 'rotated');
v3('the first key', 'OK', merchant => 'rotated', key => 'b');
v3('no Wechatpay-Signature-Type', 'OK',
   header => { 'wechatpay-signature-type' => undef });
v3('no associated_data', 'OK', data => undef);
v3('empty associated_data', 'OK', data => '');
v3('associated_data of null', 'OK', data => undef,
   outer => sub { s/"nonce"/"associated_data":null,"nonce"/ });
v3('escapes and white space', 'OK',
   outer => sub { s/REFUND/\\u0052EFUND/; s/,/ ,\n/g },
   edit => sub { s/招商/\\u62db\\u5546/; s/,/\t, /g });
v3('as late as it may be', 'OK', timestamp => $now - 300);
v3('as early as it may be', 'OK', timestamp => $now + 300);
v3('any sub_mchid', 'OK', merchant => 'provider', inner => $v3_partner,
   result => \&partner);
v3('mchid and sp_mchid, the same', 'OK',
   edit => sub { $_ = $v3_partner; s/\{/{"mchid":"1900000109",/ },
   result => \&partner);
v3('an appid of the list, and a sub_appid', 'OK', merchant => 'single',
   edit => sub { s/\{/{"appid":"wx8888888888888888","sub_appid":"wx1",/ },
   result => sub { s/("mch_id":"\d+")/$1,"app_id":"wx8888888888888888","sub_app_id":"wx1"/ });
v3('ABNORMAL', 'OK', edit => sub { s/SUCCESS/ABNORMAL/ },
   outer => sub { s/REFUND.SUCCESS/REFUND.ABNORMAL/ },
   result => sub {
       s/SUCCESS/ABNORMAL/g; s/succeeded/abnormal/;
       s/:ABNORMAL"/:ABNORMAL:$v3_id"/
   });
v3('CLOSED, without success_time', 'OK',
   edit => sub { s/SUCCESS/CLOSED/; s/"success_time":"[^"]+",// },
   outer => sub { s/REFUND.SUCCESS/REFUND.CLOSED/;
                  s/10:34:56\+08:00/11:00:00+08:00/ },
   result => sub {
       s/SUCCESS/CLOSED/g; s/succeeded/closed/;
       s/"success_time":"[^"]+",//; s/10:34:56/11:00:00/
   });
v3('unknown members are kept as they are', 'OK',
   edit => sub {
       s/\{/{"z":[1,-2.5,true,null,{"b":"\\u0001\\""}],/;
       s/"total"/"discount":7,"total"/;
       s/\}\}$/,"currency":"CNY","exchange_rate":{"rate":100000000}},"a":{}}/
   },
   result => sub {
       s/\}\}\}$/,"currency":"CNY"},"extra":{"z":[1,-2.5,true,null,{"b":"\\u0001\\""}],"amount":{"discount":7,"exchange_rate":{"rate":100000000}},"a":{}}}}/
   });
v3('unknown members of the plainest kind are kept likewise', 'OK',
   edit => sub {
       s/\{/{"z":"1","y":2,/;
       s/"total"/"discount":7,"note":"","total"/;
       s/\}\}$/,"currency":"CNY"},"a":{"c":"支付","b":3}}/
   },
   result => sub {
       s/\}\}\}$/,"currency":"CNY"},"extra":{"z":"1","y":2,"amount":{"discount":7,"note":""},"a":{"c":"支付","b":3}}}}/
   });
v3('settlement amounts and funds_account', 'OK',
   edit => sub {
       s/"amount":\{/"funds_account":"UNSETTLED","amount":{"settlement_refund":1,"settlement_total":2,/
   },
   result => sub {
       s/("user_received_account":"[^"]+")/$1,"funds_account":"UNSETTLED"/;
       s/("payer_refund":999)/$1,"settlement_total":2,"settlement_refund":1/
   });
v3('empty and null members are absent', 'OK',
   edit => sub {
       s/"success_time":"[^"]+"/"success_time":""/;
       s/"user_received_account":"[^"]+"/"user_received_account":null/;
       s/"payer_total":999/"payer_total":null/
   },
   result => sub {
       s/"success_time":"[^"]+",//; s/"user_received_account":"[^"]+",//;
       s/"payer_total":999,//
   });
v3('readable members of another type go to extra', 'OK',
   edit => sub { s/"success_time":"[^"]+"/"success_time":5/;
                 s/("refund":999)/$1,"currency":[]/ },
   result => sub {
       s/"success_time":"[^"]+",//;
       s/\}\}\}$/},"extra":{"success_time":5,"amount":{"currency":[]}}}}/
   });
v3('reals are as they were received', 'OK',
   edit => sub {
       s/\{/{"r":[0.1,-0.0,1.005,1.5e300,123456789012.345,2.0],/;
       s/"total"/"rate":{"x":6.9999},"total"/
   },
   result => sub {
       s/\}\}\}$/},"extra":{"r":[0.1,-0.0,1.005,1.5e300,123456789012.345,2.0],"amount":{"rate":{"x":6.9999}}}}}/
   });
v3('a real of 16 digits', 'OK',
   edit => sub { s/\{/{"r":0.1234567890123456,/ },
   result => sub { s/\}\}\}$/},"extra":{"r":0.1234567890123456}}}/ });
v3('a real of 17 digits', 'OK',
   edit => sub { s/\{/{"r":{"s":[0.30000000000000004]},/ },
   result => sub {
       s/\}\}\}$/},"extra":{"r":{"s":[0.30000000000000004]}}}}/
   });

for my $time ('2018-06-08T10:34:56Z', '2018-06-08T10:34:56-00:00',
              '2018-06-08T10:34:56+23:59', '2018-06-08T10:34:56.1+08:00',
              '2020-02-29T23:59:59.123456789Z',
              '2018-06-08T10:34:56.' . '0' x 38 . '+08:00')
{
    v3("create_time $time", 'OK',
       outer => sub { s/("create_time":")[^"]+/$1$time/ },
       result => sub { s/("timestamp":")[^"]+/$1$time/ });
    v3("success_time $time", 'OK',
       edit => sub { s/("success_time":")[^"]+/$1$time/ },
       result => sub { s/("success_time":")[^"]+/$1$time/ });
}

for my $time ('2018-06-08 10:34:56+08:00', '2018-06-08T10:34:56',
              '2018-06-08t10:34:56Z', '2018-06-08T10:34:56z',
              '2018-06-08T10:34:56 Z', '2018-06-08T10:34:56+0800',
              '2018-06-08T10:34:56+08', '2018-06-08T10:34:56+08:00Z',
              '2018-06-08T10:34:56+24:00', '2018-06-08T10:34:56+08:60',
              '2018-06-08T10:34:56.+08:00', '2018-06-08T10:34:56,1+08:00',
              '2018-06-08T10:34:56.1', '2018-06-08T10:34:56.',
              '2018-06-08T10:34+08:00', '2018-02-29T10:34:56Z',
              '2018-13-08T10:34:56Z', '2018-06-08T24:34:56Z',
              '2018-6-08T10:34:56Z', '1528425296', '0', 'T',
              '2018-06-08T10:34:56.' . '0' x 39 . '+08:00', 'yesterday')
{
    v3("create_time of another form: $time", 'CREATE_TIME',
       outer => sub { s/("create_time":")[^"]+/$1$time/ });
    v3("success_time of another form goes to extra: $time", 'OK',
       edit => sub { s/("success_time":")[^"]+/$1$time/ },
       result => sub {
           s/"success_time":"[^"]+",//;
           s/\}\}\}$/},"extra":{"success_time":"$time"}}}/
       });
}

v3('the largest amount', 'OK',
   edit => sub { s/"total":999/"total":9007199254740991/ },
   result => sub { s/"total":999/"total":9007199254740991/ });
v3('a currency and no others', 'OK',
   edit => sub { s/,"payer_total.*/,"currency":"CNY"}}/ },
   result => sub { s/,"payer_total.*/,"currency":"CNY"}}}/ });

v3('XML', 'FORMAT_UNKNOWN', body => '<xml/>');
v3('no key', 'VERSION_NOT_ACCEPTED', merchant => 'keyless');

my %max = (timestamp => 12, nonce => 128, signature => 703, serial => 128,
           'signature-type' => 64);

for my $name (sort keys %max) {
    my $header = "wechatpay-$name";
    my $code = uc $name =~ s/-/_/r;

    v3("no $header", "${code}_MISSING", header => { $header => undef })
        if $name ne 'signature-type';
    v3("$header twice", "${code}_REPEATED", header => { $header => [1, 1] });
    v3("an empty $header", "${code}_INVALID", header => { $header => '' });
    v3("$header too long", "${code}_INVALID",
       header => { $header => '1' x ($max{$name} + 1) });
    v3("$header with a control character", "${code}_INVALID",
       header => { $header => "1\n" });
    v3("$header with a NUL", "${code}_INVALID", header => { $header => "\0" });
}

for my $bad ('-1528425296', '+1528425296', ' 1528425296', '1528425296.0',
             '0x5b19ee50', '1e9', 'now')
{
    v3("timestamp $bad", 'TIMESTAMP_INVALID',
       header => { 'wechatpay-timestamp' => $bad });
}

v3('SM2', 'SIGNATURE_TYPE_UNKNOWN',
   header => { 'wechatpay-signature-type' => 'WECHATPAY2-SM2-WITH-SM3' });
v3('a type in small letters', 'SIGNATURE_TYPE_UNKNOWN',
   header => { 'wechatpay-signature-type' => 'wechatpay2-sha256-rsa2048' });
v3('a probe', 'SIGNATURE_PROBE',
   edit_signature => sub { $_ = "WECHATPAY/SIGNTEST/$_" });
v3('a probe, and nothing else', 'SIGNATURE_PROBE',
   header => { 'wechatpay-signature' => 'WECHATPAY/SIGNTEST/' });
v3('too late', 'TIMESTAMP_STALE', timestamp => $now - 301);
v3('too early', 'TIMESTAMP_STALE', timestamp => $now + 301);
v3('zero', 'TIMESTAMP_STALE', timestamp => 0);
v3('the largest time', 'TIMESTAMP_STALE', timestamp => '999999999999');
v3('milliseconds', 'TIMESTAMP_STALE', timestamp => $now * 10);

for my $bad ('PUB_KEY_ID_1', substr($public_id, 11), lc $public_id,
             "$public_id ", substr($serial, 1), $large_id)
{
    v3("serial $bad", 'SERIAL_UNKNOWN', serial => $bad);
}

v3('a signature without padding', 'SIGNATURE_BASE64',
   edit_signature => sub { s/=+$// });
v3("base64url's alphabet", 'SIGNATURE_BASE64',
   edit_signature => sub { s/^./_/ });
v3('white space in the signature', 'SIGNATURE_BASE64',
   edit_signature => sub { s/^./ / });
v3('bits left over in the signature', 'SIGNATURE_BASE64',
   edit_signature => sub { s/.==$/'B=='/e });
v3('a short signature', 'SIGNATURE_BASE64',
   signature => sub { 'x' x 255 });
v3('a long signature', 'SIGNATURE_BASE64',
   signature => sub { 'x' x 257 });
v3("another key's size", 'SIGNATURE_BASE64', signer => 'large');

v3('another key', 'SIGNATURE_WRONG', signer => 'other');
v3("the certificate's key under the public key's id", 'SIGNATURE_WRONG',
   signer => 'certified');
v3('the body changed', 'SIGNATURE_WRONG', late => sub { $_ .= ' ' });
v3('white space before', 'SIGNATURE_WRONG', late => sub { $_ = " $_" });
v3('the nonce changed', 'SIGNATURE_WRONG',
   header => { 'wechatpay-nonce' => '593BEC0C930BF1AFEB40B4A08C8FB243' });
v3('the timestamp changed', 'SIGNATURE_WRONG',
   header => { 'wechatpay-timestamp' => $now + 1 });
v3('SHA-1', 'SIGNATURE_WRONG', signature =>
   sub { $rsa{public}->sign_message($_[0], 'SHA1', 'v1.5') });
v3('SHA-512', 'SIGNATURE_WRONG', signature =>
   sub { $rsa{public}->sign_message($_[0], 'SHA512', 'v1.5') });
v3('PSS', 'SIGNATURE_WRONG', signature =>
   sub { $rsa{public}->sign_message($_[0], 'SHA256', 'pss') });
v3('zero', 'SIGNATURE_WRONG', signature => sub { "\0" x 256 });
v3('one', 'SIGNATURE_WRONG', signature => sub { "\0" x 255 . "\1" });
v3('not less than the modulus', 'SIGNATURE_WRONG',
   signature => sub { "\xff" x 256 });

# what a verifier that parses the block loosely takes (Bleichenbacher's)

my $info = pack 'H*', '3031300d060960864801650304020105000420';

sub raw {
    my ($block) = @_;
    length $block == 256 or die;
    return $rsa{public}->decrypt($block, 'none');
}

my %forged = (
    'right' => sub { "\0\1" . "\xff" x 202 . "\0$info$_[0]" },
    'bytes behind the hash' =>
        sub { "\0\1" . "\xff" x 8 . "\0$info$_[0]" . 'x' x 194 },
    'zeros behind the hash' =>
        sub { "\0\1" . "\xff" x 8 . "\0$info$_[0]" . "\0" x 194 },
    'another block type' => sub { "\0\2" . "\xff" x 202 . "\0$info$_[0]" },
    'another byte in the padding' =>
        sub { "\0\1" . "\xff" x 100 . "\xfe" . "\xff" x 101
              . "\0$info$_[0]" },
    'no zero behind the padding' =>
        sub { "\0\1" . "\xff" x 203 . "$info$_[0]" },
    'no parameters' =>
        sub { my $i = pack 'H*', '302f300b0609608648016503040201' . '0420';
              "\0\1" . "\xff" x 204 . "\0$i$_[0]" },
    'no DigestInfo' => sub { "\0\1" . "\xff" x 221 . "\0$_[0]" },
    "SHA-1's OID" =>
        sub { my $i = pack 'H*', '302d300906052b0e03021a05000420';
              "\0\1" . "\xff" x 206 . "\0$i$_[0]" },
    "SHA-512's OID" =>
        sub { my $i = pack 'H*', '3031300d060960864801650304020305000420';
              "\0\1" . "\xff" x 202 . "\0$i$_[0]" },
    "BER's long form of a length" =>
        sub { my $i = pack 'H*',
                  '308131300d060960864801650304020105000420';
              "\0\1" . "\xff" x 201 . "\0$i$_[0]" },
);

for my $name (sort keys %forged) {
    v3("a block with $name", $name eq 'right' ? 'OK' : 'SIGNATURE_WRONG',
       signature => sub { raw($forged{$name}->(sha256($_[0]))) });
}

v3('JSON cut short', 'JSON_MALFORMED', outer => sub { chop });
v3('something behind', 'JSON_MALFORMED', outer => sub { $_ .= 'x' });
v3('two objects', 'JSON_MALFORMED', outer => sub { $_ .= '{}' });
v3('a comma too many', 'JSON_MALFORMED', outer => sub { s/\}$/,}/ });
v3('a NUL', 'JSON_MALFORMED', outer => sub { $_ .= "\0" });
v3('an escaped NUL', 'JSON_MALFORMED', outer => sub { s/退款/\\u0000/ });
v3('not UTF-8', 'JSON_MALFORMED', outer => sub { s/退款/\xff/ });
v3('a lone surrogate', 'JSON_MALFORMED', outer => sub { s/退款/\\ud800/ });
v3('a number that is too big', 'JSON_MALFORMED',
   outer => sub { s/\}$/,"n":99999999999999999999}/ });
v3('a member twice', 'JSON_REPEATED',
   outer => sub { s/\{/{"id":"1",/ });
v3('a member twice, once escaped', 'JSON_REPEATED',
   outer => sub { s/\{/{"\\u0069d":"1",/ });
v3('a member of the resource twice', 'JSON_REPEATED',
   outer => sub { s/"nonce"/"nonce":"","nonce"/ });
v3('nested deep', 'JSON_TOO_DEEP',
   outer => sub { my $n = '[' x 32; s/\}$/,"n":$n/ });
v3('nested as deep as may be', 'OK',
   outer => sub { my $n = '[' x 31 . ']' x 31; s/\}$/,"n":$n}/ });
v3('brackets in strings do not count', 'OK',
   outer => sub { my $n = '[' x 99; s/\}$/,"n":"\\"$n"}/ });
v3('within, a member twice', 'JSON_REPEATED',
   edit => sub { s/\{/{"refund_id":"1",/ });
v3('within, no JSON', 'JSON_MALFORMED', inner => '<root/>');
v3('within, an array', 'JSON_NOT_OBJECT', inner => '[{}]');

v3('no event_type', 'EVENT_TYPE_MISSING',
   outer => sub { s/"event_type":"[^"]+",// });
v3('an event_type that is no string', 'EVENT_TYPE_MISSING',
   outer => sub { s/"event_type":"[^"]+"/"event_type":1/ });
v3('no resource', 'RESOURCE_MISSING',
   outer => sub { s/,"resource":.*/}/ });
v3('a resource that is no object', 'RESOURCE_MISSING',
   outer => sub { s/"resource":.*/"resource":"x"}/ });
v3('a resource that is no object, behind a space', 'RESOURCE_MISSING',
   outer => sub { s/"resource":.*/"resource": "x"}/ });
v3('no original_type', 'ORIGINAL_TYPE_MISSING',
   outer => sub { s/"original_type":"[^"]+",// });
v3('a test', 'SECURITY_ECHO', outer => sub {
   s/REFUND.SUCCESS/SECURITY_ECHO.SUCCESS/;
   s/"original_type":"refund"/"original_type":"security"/ });
v3('a test of another type', 'EVENT_TYPE_UNSUPPORTED', outer => sub {
   s/REFUND.SUCCESS/SECURITY_ECHO.SUCCESS/ });
v3('a payment', 'EVENT_TYPE_UNSUPPORTED', outer => sub {
   s/REFUND.SUCCESS/TRANSACTION.SUCCESS/;
   s/"original_type":"refund"/"original_type":"transaction"/ });
v3('a payment without a resource', 'EVENT_TYPE_UNSUPPORTED', outer => sub {
   s/REFUND.SUCCESS/TRANSACTION.SUCCESS/; s/,"resource":.*/}/ });
v3('a payment with a resource that is no object', 'EVENT_TYPE_UNSUPPORTED',
   outer => sub { s/REFUND.SUCCESS/TRANSACTION.SUCCESS/;
                  s/"resource":.*/"resource":"x"}/ });
v3('a payment without an original_type', 'EVENT_TYPE_UNSUPPORTED',
   outer => sub { s/REFUND.SUCCESS/TRANSACTION.SUCCESS/;
                  s/"original_type":"[^"]+",// });
v3('a test without a resource', 'RESOURCE_MISSING', outer => sub {
   s/REFUND.SUCCESS/SECURITY_ECHO.SUCCESS/; s/,"resource":.*/}/ });
v3('a test without an original_type', 'ORIGINAL_TYPE_MISSING', outer => sub {
   s/REFUND.SUCCESS/SECURITY_ECHO.SUCCESS/; s/"original_type":"[^"]+",// });
v3('an unknown refund', 'EVENT_TYPE_UNSUPPORTED', outer => sub {
   s/REFUND.SUCCESS/REFUND.PROCESSING/ });
v3('the original_type of a payment', 'ORIGINAL_TYPE', outer => sub {
   s/"original_type":"refund"/"original_type":"transaction"/ });
v3('no id', 'NOTIFY_ID', outer => sub { s/"id":"[^"]+",// });
v3('an id of 65 bytes', 'NOTIFY_ID',
   outer => sub { my $n = 'a' x 65; s/$v3_id/$n/ });
v3('an id of other characters', 'NOTIFY_ID',
   outer => sub { s/$v3_id/a:b/ });
v3('no create_time', 'CREATE_TIME',
   outer => sub { s/"create_time":"[^"]+",// });
v3('a create_time with a line feed', 'CREATE_TIME',
   outer => sub { s/"create_time":"/"create_time":"\\n/ });
v3('no resource_type', 'RESOURCE_TYPE',
   outer => sub { s/"resource_type":"[^"]+",// });
v3('no algorithm', 'ALGORITHM_MISSING',
   outer => sub { s/"algorithm":"[^"]+",// });
v3('SM4', 'ALGORITHM_SM4',
   outer => sub { s/AEAD_AES_256_GCM/AEAD_SM4_GCM/ });
v3('another algorithm', 'ALGORITHM_UNKNOWN',
   outer => sub { s/AEAD_AES_256_GCM/AES-256-GCM/ });
v3('no nonce', 'RESOURCE_NONCE', outer => sub { s/,"nonce":"[^"]+"// });
v3('a short nonce', 'RESOURCE_NONCE', outer => sub { s/fdasflkja484/1/ });
v3('a long nonce', 'RESOURCE_NONCE',
   outer => sub { s/fdasflkja484/fdasflkja4841/ });
v3('associated_data that is no string', 'ASSOCIATED_DATA',
   outer => sub { s/"associated_data":"[^"]+"/"associated_data":1/ });
v3('no ciphertext', 'CIPHERTEXT_MISSING',
   outer => sub { s/"ciphertext":"[^"]+",// });
v3('a ciphertext that is not base64', 'CIPHERTEXT_BASE64',
   outer => sub { s/"ciphertext":"./"ciphertext":"-/ });
v3('a ciphertext of one character', 'CIPHERTEXT_BASE64', ciphertext => 'A');
v3('a tag only', 'CIPHERTEXT_SHORT', ciphertext => gcm('a', 'fdasflkja484',
   'refund', ''));
v3('the wrong key', 'RESOURCE_KEY', merchant => 'wrong');
v3('another nonce', 'RESOURCE_KEY',
   outer => sub { s/fdasflkja484/fdasflkja485/ });
v3('other associated data', 'RESOURCE_KEY',
   outer => sub { s/"associated_data":"refund"/"associated_data":"refuns"/ });
v3('no associated data any more', 'RESOURCE_KEY',
   outer => sub { s/"associated_data":"refund",// });
v3('a byte of the ciphertext', 'RESOURCE_KEY',
   outer => sub { s/"ciphertext":"(.)/'"ciphertext":"' . ($1 eq 'A' ? 'B' : 'A')/e });

v3('no mchid', 'MCH_ID_MISSING', edit => sub { s/"mchid":"[^"]+",// });
v3('an empty mchid', 'MCH_ID_MISSING',
   edit => sub { s/"mchid":"[^"]+"/"mchid":""/ });
v3('an mchid that is a number', 'MCH_ID_INVALID',
   edit => sub { s/"mchid":"(\d+)"/"mchid":$1/ });
v3('another mchid', 'MCH_ID_MISMATCH', edit => sub { s/1900000109/1900000110/ });
v3('another sp_mchid', 'MCH_ID_MISMATCH',
   edit => sub { $_ = $v3_partner; s/1900000109/1900000111/ });
v3('an mchid that is not the sp_mchid', 'MCH_ID_MISMATCH',
   edit => sub { $_ = $v3_partner; s/\{/{"mchid":"1900000110",/ });
v3('no sub_mchid', 'SUB_MCH_ID_MISSING',
   edit => sub { $_ = $v3_partner; s/"sub_mchid":"[^"]+",// });
v3('a sub_mchid that is a number', 'SUB_MCH_ID_INVALID',
   edit => sub { $_ = $v3_partner; s/"sub_mchid":"(\d+)"/"sub_mchid":$1/ });
v3('a sub_mchid of letters', 'SUB_MCH_ID_INVALID', merchant => 'provider',
   edit => sub { $_ = $v3_partner; s/"sub_mchid":"\d+"/"sub_mchid":"a"/ });
v3('a sub_mchid that is not in the list', 'SUB_MCH_ID_MISMATCH',
   edit => sub { $_ = $v3_partner; s/1900000110/1900000119/ });
v3('a sub_mchid where none is configured', 'SUB_MCH_ID_MISMATCH',
   merchant => 'single', inner => $v3_partner);
v3('another appid', 'APP_ID_MISMATCH', merchant => 'single',
   edit => sub { s/\{/{"appid":"wx1",/ });
v3('an appid that is no string', 'APP_ID_INVALID',
   edit => sub { s/\{/{"appid":{},/ });

for my $name ('transaction_id', 'out_trade_no', 'refund_id', 'out_refund_no') {
    my $code = uc $name;

    v3("no $name", "${code}_MISSING", edit => sub { s/"$name":"[^"]+",// });
    v3("$name of null", "${code}_MISSING",
       edit => sub { s/"$name":"[^"]+"/"$name":null/ });
    v3("$name that is a number", "${code}_INVALID",
       edit => sub { s/"$name":"[^"]+"/"$name":1/ });
    v3("$name with a line feed", "${code}_INVALID",
       edit => sub { s/"$name":"/"$name":"\\n/ });
}

v3('no refund_status', 'STATUS_MISSING',
   edit => sub { s/"refund_status":"[^"]+",// });

for my $bad ('PROCESSING', 'CLOSE', 'CHANGE', 'success') {
    v3("refund_status $bad", 'STATUS_UNKNOWN', edit => sub { s/SUCCESS/$bad/ });
}

v3('a status that the event does not say', 'STATUS_MISMATCH',
   edit => sub { s/SUCCESS/CLOSED/ });
v3('an event that the status does not say', 'STATUS_MISMATCH',
   outer => sub { s/REFUND.SUCCESS/REFUND.ABNORMAL/ });
v3('no amount', 'AMOUNT_MISSING', edit => sub { s/,"amount":.*/}/ });
v3('an amount that is no object', 'AMOUNT_MISSING',
   edit => sub { s/"amount":.*/"amount":999}/ });
v3('no total', 'TOTAL_MISSING', edit => sub { s/"total":999,// });
v3('no refund', 'REFUND_MISSING', edit => sub { s/"refund":999,// });

for my $name ('total', 'refund', 'payer_total', 'payer_refund') {
    for my $bad ('-1', '1.0', '1e3', '"999"', 'true', '9007199254740992') {
        v3("$name $bad", 'MONEY_INVALID', edit => sub { s/"$name":999/"$name":$bad/ });
    }
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

print "/* made by vectors.pl */\n\n\n";
print "#define VECTORS_NOW  $now\n\n";
print "static const test_merchant_t  test_merchants[] = {\n";

for my $m (@merchants) {
    printf "{ \"%s\", %s,\n", $m->{name}, c($m->{mch_id});
    printf "{ %s }, { %s }, { %s }, { %s },\n",
        map { join('', map { c($_) . ', ' } @$_) . 'NULL' }
            $m->{apps} // [], $m->{subs} // [],
            [map { $v2key{$_} } @{ $m->{v2} // [] }],
            $m->{certificates} // [];
    printf "{ %s { NULL, 0 } },\n",
        join '', map { span($v3key{$_}) . ', ' } @{ $m->{v3} // [] };
    printf "{ %s { NULL, NULL } } },\n",
        join '', map { sprintf '{ "%s", %s }, ', $_->[0],
                       c($rsa{$_->[1]}->export_key_pem('public_x509')) }
                 @{ $m->{public} // [] };
}

print "};\n\n\nstatic const test_vector_t  test_vectors[] = {\n";

for my $v (@vectors) {
    printf "{ %s, WECHATPAY_V%d,\n  \"%s\", WECHATPAY_%s,\n  %s, %d,\n  { %s },"
           . "\n  %s },\n\n",
        c($v->{name}), $v->{version}, $v->{merchant},
        $v->{error} eq 'OK' ? 'OK' : "ERROR_$v->{error}",
        span($v->{body}), $v->{padding},
        join(', ', map { '{ ' . span($_->[0]) . ', ' . span($_->[1]) . ' }' }
                   @{ $v->{headers} }, ['', '']),
        span($v->{json});
}

print "};\n\n\n";

my $other = Crypt::PK::RSA->new;
$other->generate_key(128, 65537);

printf "#define VECTORS_CERTIFICATE %s\n", c($certificate) =~ s/\n/ \\\n/gr;
printf "#define VECTORS_SERIAL  \"%s\"\n", $serial;
printf "#define VECTORS_PUBLIC_KEY %s\n",
    c($rsa{public}->export_key_pem('public_x509')) =~ s/\n/ \\\n/gr;
printf "#define VECTORS_CERTIFICATE_KEY %s\n",
    c($rsa{certified}->export_key_pem('private')) =~ s/\n/ \\\n/gr;
printf "#define VECTORS_OTHER_KEY %s\n",
    c($rsa{other}->export_key_pem('private')) =~ s/\n/ \\\n/gr;
printf "#define VECTORS_ENCRYPTED_KEY %s\n",
    c($rsa{other}->export_key_pem('private', 'secret')) =~ s/\n/ \\\n/gr;
printf "#define VECTORS_SMALL_KEY %s\n",
    c($other->export_key_pem('public_x509')) =~ s/\n/ \\\n/gr;

###############################################################################

sub read_file {
    my ($path) = @_;
    open my $fh, '<:raw', $path or die "$path: $!\n";
    local $/;
    return <$fh>;
}

sub write_file {
    my ($path, $text) = @_;
    umask 077;
    open my $fh, '>:raw', $path or die "$path: $!\n";
    print $fh $text;
    close $fh or die "$path: $!\n";
}
