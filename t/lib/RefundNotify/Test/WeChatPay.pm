package RefundNotify::Test::WeChatPay;

# WeChat Pay, as far as it sends refund notifications: made from its public
# documentation with CryptX, and without any of our code.
#
#   $pay = RefundNotify::Test::WeChatPay->new
#   $shop = $pay->merchant(name => 'shop', ...)
#
# A merchant is a hash; what is not given is made up:
#
#   mch_id, app_id, sub_mch_id     app_id and sub_mch_id: array references, []
#                                  (none) unless given
#   v2_key, v3_key                 array references; the first one encrypts
#   public_key_id                  array reference, of WeChat Pay's public keys;
#                                  one unless given
#   serial                         likewise of platform certificates; none
#   v2_sign_type                   MD5 or HMAC-SHA256; not said unless given
#   merchant_serial                of its own certificate, which with its key
#                                  exists only if this is given; its files are
#                                  NAME-apiclient_cert.pem and _key.pem
#
#   $pay->write($shop, $dir)       its files; the text of its refund_merchant{}
#   $pay->secrets($shop)           what must not be in any log
#
#   $pay->v2_notify($shop, %fields, %bend)
#   $pay->v3_notify($shop, %fields, %bend)
#   $pay->notify($version, $shop, %fields, %bend)     the one of v2 or v3
#
# make a notify: a hash of headers (a list of names and values), body, version,
# event_id (as the business app will see it), refund_id, out_refund_no,
# plaintext.  Fields replace those of the decrypted part, undef leaves one out.
# What can be bent:
#
#   -key         another APIv2 or APIv3 key
#   -plaintext   encrypted instead of the fields
#   -req_info    instead of the encrypted part (v2)
#   -outer       { name => value } of the outer XML or JSON; undef leaves out
#   -resource    { name => value } of v3's resource
#   -body        instead of the whole body
#   -status      SUCCESS, ABNORMAL or CLOSED: the fields and the event type
#   -partner     the service provider's form, for this sub_mch_id
#   -echo        the console's test callback, SECURITY_ECHO.SUCCESS (v3)
#   -serial      says this serial and signs with its key (v3)
#   -signing_key signs with this Crypt::PK::RSA
#   -timestamp, -nonce             of the signature
#   -signature   instead of the signature; code gets it and returns another
#   -probe       the signature is WeChat Pay's deliberately wrong one
#   -headers     [ name => value, ... ] replaces; undef leaves out
#
#   $pay->signature_headers($shop, $body, %bend)
#                the headers Wechatpay-* of these bytes, as answers bear them
#
#   $pay->resend($shop, $notify)   the same again, with a fresh signature
#   $pay->acknowledged($notify, $response)   whether WeChat Pay will stop
#   $pay->answer($notify, $response)         the answer in one word: SUCCESS, or
#                what FAIL gives as the reason; if status, type and body are
#                not to the byte what they must be, all of it instead

use strict;
use warnings;
use utf8;

use Crypt::AuthEnc::GCM qw(gcm_encrypt_authenticate);
use Crypt::Mode::ECB;
use Digest::MD5 qw(md5_hex);
use Encode qw(encode_utf8);
use JSON::XS ();
use MIME::Base64 qw(encode_base64);
use POSIX ();

use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(write_file);

# who issues the certificates of merchants

use constant AUTHORITY => 'Tenpay.com Root CA';

my $json = JSON::XS->new->utf8->canonical->allow_nonref;
my $count = 0;

my %FAIL = (
    unsupported => 403, in_flight => 503, upstream_error => 502,
    deadline => 504, store_error => 503, malformed => 400, unverified => 401,
    undecryptable => 400, mismatch => 403,
);

my %STATUS = (
    SUCCESS => { v2 => 'SUCCESS', event => 'REFUND.SUCCESS',
                 summary => '退款成功' },
    ABNORMAL => { v2 => 'CHANGE', event => 'REFUND.ABNORMAL',
                  summary => '退款异常' },
    CLOSED => { v2 => 'REFUNDCLOSE', event => 'REFUND.CLOSED',
                summary => '退款关闭' },
);


sub new {
    my ($class) = @_;

    return bless {}, $class;
}


sub merchant {
    my ($self, %given) = @_;

    my $n = ++$count;

    return {
        name => 'shop',
        mch_id => sprintf('19%08d', 109 + $n),
        app_id => [],
        sub_mch_id => [],
        v2_key => [ random(32) ],
        v3_key => [ random(32) ],
        public_key_id => [ sprintf 'PUB_KEY_ID_01%010d2024112900%012d', $n,
                                   $n ],
        serial => [],
        %given,
    };
}


sub write {
    my ($self, $shop, $dir) = @_;

    my $base = "$dir/$shop->{name}";
    my @lines = "mch_id $shop->{mch_id};";

    push @lines, map { "app_id $_;" } @{ $shop->{app_id} };

    if (@{ $shop->{sub_mch_id} }) {
        push @lines, "sub_mch_id @{ $shop->{sub_mch_id} };";
    }

    for my $version (qw(v2 v3)) {
        my $n = 0;

        for my $key (@{ $shop->{"${version}_key"} }) {
            my $path = write_file("$base-" . ++$n . ".${version}key",
                                  "$key\n", 0600);
            push @lines, "api_${version}_key_file $path;";
        }
    }

    push @lines, "api_v2_sign_type $shop->{v2_sign_type};"
        if $shop->{v2_sign_type};

    for my $id (@{ $shop->{public_key_id} }) {
        my $path = write_file("$base-$id.pem",
                              rsa_key($id)->export_key_pem('public_x509'));
        push @lines, "wechatpay_public_key $id $path;";
    }

    for my $serial (@{ $shop->{serial} }) {
        my $path = write_file("$base-$serial.pem",
                              certificate(rsa_key($serial),
                                          serial => $serial));
        push @lines, "wechatpay_certificate $path;";
    }

    if (my $serial = $shop->{merchant_serial}) {
        my $key = rsa_key($serial);

        push @lines, 'merchant_certificate '
             . write_file("$base-apiclient_cert.pem",
                          certificate($key, serial => $serial,
                                      name => $shop->{mch_id},
                                      issuer => rsa_key(AUTHORITY),
                                      issuer_name => AUTHORITY)) . ';';
        push @lines, 'merchant_key '
             . write_file("$base-apiclient_key.pem",
                          $key->export_key_pem('private'), 0600) . ';';
    }

    return join "\n    ", "refund_merchant $shop->{name} {", @lines, "}\n";
}


sub secrets {
    my ($self, $shop) = @_;

    return (@{ $shop->{v2_key} }, @{ $shop->{v3_key} },
            (map { md5_hex($_) } @{ $shop->{v2_key} }),
            $shop->{merchant_serial}
            ? split(/\n/, rsa_key($shop->{merchant_serial})
                          ->export_key_pem('private') =~ s/^-.*\n//mgr) : ());
}


sub v2_notify {
    my ($self, $shop, %option) = @_;

    my $status = $STATUS{ $option{-status} // 'SUCCESS' };
    my $number = number();
    my $fields = fields(\%option,
        out_refund_no => "1318$number",
        out_trade_no => "7110$number",
        refund_account => 'REFUND_SOURCE_RECHARGE_FUNDS',
        refund_fee => '3960',
        refund_id => "503004089420$number",
        refund_recv_accout => '支付用户零钱',
        refund_request_source => 'API',
        refund_status => $status->{v2},
        settlement_refund_fee => '3960',
        settlement_total_fee => '3960',
        success_time => $status->{v2} eq 'SUCCESS' ? '2018-11-19 16:24:13'
                                                   : undef,
        total_fee => '3960',
        transaction_id => "42000002152$number",
    );

    my $plaintext = $option{-plaintext} // encode_utf8(
        join "\n", '<root>',
        (map { "<$_->[0]><![CDATA[$_->[1]]]></$_->[0]>" } @$fields),
        '</root>');
    my $key = md5_hex($option{-key} // $shop->{v2_key}[0]);
    my $req_info = $option{-req_info} // encode_base64(
        Crypt::Mode::ECB->new('AES', 1)->encrypt($plaintext, $key), '');

    my $outer = pairs($option{-outer},
        return_code => 'SUCCESS',
        appid => $shop->{app_id}[0] // 'wx2421b1c4370ec43b',
        mch_id => $shop->{mch_id},
        sub_mch_id => $option{-partner},
        nonce_str => random(32),
        req_info => $req_info,
    );

    # all but return_code come in CDATA

    my $body = join '', '<xml>', (map {
        "<$_->[0]>" . ($_->[0] eq 'return_code' ? $_->[1]
                                                : "<![CDATA[$_->[1]]]>")
        . "</$_->[0]>"
    } @$outer), '</xml>';

    return $self->_notify($shop, \%option, v2 => $fields, $plaintext,
                          $option{-body} // encode_utf8($body),
                          [ 'User-Agent' => 'Mozilla/4.0', Accept => '*/*',
                            Pragma => 'no-cache',
                            'Content-Type' => 'text/xml' ]);
}


sub v3_notify {
    my ($self, $shop, %option) = @_;

    my $status = $STATUS{ $option{-status} // 'SUCCESS' };
    my $number = number();
    my $now = POSIX::strftime('%Y-%m-%dT%H:%M:%S+08:00',
                              gmtime(time + 8 * 3600));
    my $fields = $option{-echo} ? [] : fields(\%option,
        $option{-partner} ? (sp_mchid => $shop->{mch_id},
                             sub_mchid => $option{-partner})
                          : (mchid => $shop->{mch_id}),
        out_trade_no => "7110$number",
        transaction_id => "42000002152$number",
        out_refund_no => "1318$number",
        refund_id => "503004089420$number",
        refund_status => $option{-status} // 'SUCCESS',
        success_time => $status->{v2} eq 'SUCCESS'
                        ? '2018-06-08T10:34:56+08:00' : undef,
        user_received_account => '招商银行信用卡0403',
        amount => { total => 999, refund => 999, payer_total => 999,
                    payer_refund => 999 },
    );

    my $plaintext = $option{-plaintext} // object($fields);
    my $original = $option{-echo} ? 'security' : 'refund';
    my $aad = $option{-resource} && exists $option{-resource}{associated_data}
              ? $option{-resource}{associated_data} // '' : $original;
    my $nonce = $option{-resource}{nonce} // random(12);
    my ($ciphertext, $tag)
        = gcm_encrypt_authenticate('AES', $option{-key} // $shop->{v3_key}[0],
                                   $nonce, encode_utf8($aad), $plaintext);

    my $resource = pairs($option{-resource},
        original_type => $original,
        algorithm => 'AEAD_AES_256_GCM',
        ciphertext => encode_base64("$ciphertext$tag", ''),
        associated_data => $original,
        nonce => $nonce,
    );

    my $outer = pairs($option{-outer},
        id => sprintf('EV-20180225112233%016d', $count),
        create_time => $now,
        resource_type => 'encrypt-resource',
        event_type => $option{-echo} ? 'SECURITY_ECHO.SUCCESS'
                                     : $status->{event},
        summary => $status->{summary},
        resource => $resource,
    );

    my $notify = $self->_notify($shop, \%option, v3 => $fields, $plaintext,
                                $option{-body} // object($outer), []);

    ($notify->{id}) = map { $_->[1] } grep { $_->[0] eq 'id' } @$outer;
    ($notify->{create_time})
        = map { $_->[1] } grep { $_->[0] eq 'create_time' } @$outer;

    if ($notify->{status} eq 'ABNORMAL') {
        $notify->{event_id} .= ":$notify->{id}";
    }

    $notify->{headers} = $self->_sign($shop, $notify->{body}, %option);
    return $notify;
}


sub notify {
    my ($self, $version, $shop, %option) = @_;

    my $make = "${version}_notify";

    return $self->$make($shop, %option);
}


sub _sign {
    my ($self, $shop, $body, %option) = @_;

    my $timestamp = $option{-timestamp} // time;
    my $nonce = $option{-nonce} // random(32);
    my $serial = $option{-serial} // $shop->{public_key_id}[0]
                 // $shop->{serial}[0];
    my $key = $option{-signing_key} // rsa_key($serial);
    my $signature = encode_base64(
        $key->sign_message("$timestamp\n$nonce\n$body\n", 'SHA256', 'v1.5'),
        '');

    if ($option{-probe}) {
        $signature = 'WECHATPAY/SIGNTEST/' . substr $signature, 8, 336;
    }

    if (ref $option{-signature}) {
        $signature = $option{-signature}->($signature);

    } elsif (defined $option{-signature}) {
        $signature = $option{-signature};
    }

    my @replaced = @{ $option{-headers} || [] };
    my %replaced = @replaced;
    my @headers = (
        'User-Agent' => 'Mozilla/4.0',
        Accept => '*/*',
        'Content-Type' => 'application/json',
        'Wechatpay-Nonce' => $nonce,
        'Wechatpay-Serial' => $serial,
        'Wechatpay-Signature' => $signature,
        'Wechatpay-Signature-Type' => 'WECHATPAY2-SHA256-RSA2048',
        'Wechatpay-Timestamp' => $timestamp,
    );

    return kept([ @headers ], \@replaced);
}


sub signature_headers {
    my ($self, $shop, $body, %option) = @_;

    my @headers = @{ $self->_sign($shop, $body, %option) };
    my @kept;

    while (my ($name, $value) = splice @headers, 0, 2) {
        push @kept, $name, $value if $name =~ /^Wechatpay-/;
    }

    return @kept;
}


sub resend {
    my ($self, $shop, $notify, %option) = @_;

    return $notify if $notify->{version} eq 'v2';

    return { %$notify,
             headers => $self->_sign($shop, $notify->{body}, %option) };
}


sub acknowledged {
    my ($self, $notify, $response) = @_;

    if ($notify->{version} eq 'v2') {
        return $response->{status} == 200 && $response->{body}
               eq '<xml><return_code><![CDATA[SUCCESS]]></return_code>'
                  . '<return_msg><![CDATA[OK]]></return_msg></xml>';
    }

    return $response->{status} == 200 || $response->{status} == 204;
}


sub answer {
    my ($self, $notify, $response) = @_;

    my $v2 = $notify->{version} eq 'v2';
    my $form = $v2 ? '<xml><return_code><![CDATA[%s]]></return_code>'
                     . '<return_msg><![CDATA[%s]]></return_msg></xml>'
                   : '{"code":"%s","message":"%s"}';

    # the small HTTP/2 client does not tell the headers

    my $type = $v2 ? 'text/xml' : 'application/json';
    my $received = $response->{headers}
                   ? $response->{headers}{'content-type'} // '-' : $type;
    my $answer = join ' ', $response->{status}, $received, $response->{body},
                           $response->{error};

    return 'SUCCESS'
        if $answer eq join ' ', 200, $type, sprintf($form, 'SUCCESS', 'OK'),
                                '';

    for (keys %FAIL) {
        return $_ if $answer eq join ' ', $v2 ? 200 : $FAIL{$_}, $type,
                                          sprintf($form, 'FAIL', $_), '';
    }

    return $answer;
}


sub _notify {
    my ($self, $shop, $option, $version, $fields, $plaintext, $body, $headers)
        = @_;

    my %field = map { @$_ } @$fields;
    my $status = $field{refund_status} // '';

    ($status) = grep { $STATUS{$_}{v2} eq $status } keys %STATUS
        if $version eq 'v2';

    return {
        version => $version,
        headers => kept($headers, $option->{-headers}),
        body => $body,
        plaintext => $plaintext,
        fields => \%field,
        status => $status // '',
        refund_id => $field{refund_id},
        out_refund_no => $field{out_refund_no},
        event_id => join(':', 'wechatpay', $shop->{mch_id},
                         $field{refund_id} // '', $status // ''),
    };
}


# Names and values, with some replaced, added or (undef) left out.

sub pairs {
    my ($replaced, @pairs) = @_;

    my %replaced = %{ $replaced || {} };
    my @result;

    while (my ($name, $value) = splice @pairs, 0, 2) {
        $value = delete $replaced{$name} if exists $replaced{$name};
        push @result, [ $name, $value ] if defined $value;
    }

    return [ @result, map { [ $_, $replaced{$_} ] }
                          grep { defined $replaced{$_} } sort keys %replaced ];
}


sub fields {
    my ($option, @pairs) = @_;

    return pairs({ map { $_ => $option->{$_} } grep { !/^-/ } keys %$option },
                 @pairs);
}


# A list of headers, some of them replaced: one that is named twice is sent
# twice.

sub kept {
    my ($headers, $replaced) = @_;

    my @replaced = @{ $replaced || [] };
    my %names;
    my @result;

    for (my $i = 0; $i < @replaced; $i += 2) {
        $names{ lc $replaced[$i] } = 1;
    }

    for (my $i = 0; $i < @$headers; $i += 2) {
        push @result, @$headers[$i, $i + 1] if !$names{ lc $headers->[$i] };
    }

    while (my ($name, $value) = splice @replaced, 0, 2) {
        push @result, $name, $value if defined $value;
    }

    return \@result;
}


# JSON in the order of the pairs, as WeChat Pay sends it.

sub object {
    my ($pairs) = @_;

    return '{' . join(',', map {
        $json->encode($_->[0]) . ':'
        . (ref $_->[1] eq 'ARRAY' && ref $_->[1][0] eq 'ARRAY'
           ? object($_->[1]) : $json->encode($_->[1]))
    } @$pairs) . '}';
}


sub random {
    my ($length) = @_;

    my @characters = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');

    return join '', map { $characters[rand @characters] } 1 .. $length;
}


# 17 digits that do not come twice, on whatever process they are made.

sub number {
    return sprintf '%07d%06d%04d', $$ % 10_000_000, rand(1_000_000), ++$count;
}


1;
