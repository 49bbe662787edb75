#!/usr/bin/perl

# What does not prove to be WeChat Pay's, or is not encrypted for this merchant:
# wrong keys, forged signatures, base64 that others would take, AES-GCM with a
# bit changed, and AES-ECB with blocks cut, swapped and brought from elsewhere.

use lib 't/lib';
use RefundNotify::Test;

use Crypt::Digest qw(digest_data);
use Crypt::Mode::ECB;
use Crypt::PK::RSA;
use Digest::MD5 qw(md5_hex);
use Encode qw(decode encode_utf8);
use Math::BigInt;
use MIME::Base64 qw(decode_base64 encode_base64);
use RefundNotify::Test::Certificate qw(rsa_key);
use RefundNotify::Test::Hostile qw(judge edited);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify escape=none '$arg_n|$refund_notify_result'
                                  '|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;

        keepalive_requests 100000;
        refund_notify_deadline 30s;
        client_body_buffer_size 128k;
        large_client_header_buffers 4 32k;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds?row=$arg_n name=orders;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $CUBE = 'PUB_KEY_ID_0100000000000000000000000000000003';
my $LARGE = 'PUB_KEY_ID_0100000000000000000000000000004096';

my $pay = wechatpay();
my $shop = $pay->merchant(
    serial => [ '5157F09EFDC096DE15EBE81A47057A7232F1B8E1' ]);
my $other = $pay->merchant(name => 'other', public_key_id => []);
my $app = business_app();

# The public exponent 3, under which a cube root is as good as a signature; of
# its modulus the private key is not needed.

my $key = rsa_key($shop->{public_key_id}[0]);
my $cube = Crypt::PK::RSA->new->import_key({ N => $key->key2hash->{N},
                                             e => '03' });

# and one of another size

my $large = Crypt::PK::RSA->new(\scalar qx(openssl genrsa 4096 2>&1));

my $text = with_merchants($conf, $shop, $other);
$text =~ s{(refund_merchant shop \{)}
          {$1\n    wechatpay_public_key $CUBE %%DIR%%/cube.pem;
    wechatpay_public_key $LARGE %%DIR%%/large.pem;};

my @options = (vars => { APP => $app->port },
    files => { 'cube.pem' => $cube->export_key_pem('public_x509'),
               'large.pem' => $large->export_key_pem('public_x509') });
my $nginx = nginx($text, @options);

my $WRONG = 'unverified: Wechatpay-Signature is wrong';
my $SIGNATURE = 'unverified: Wechatpay-Signature is not base64 of the key\'s '
                . 'size';
my $SERIAL = 'unverified: no key with this Wechatpay-Serial';
my $PROBE = 'unverified: a probe of WeChat Pay\'s (WECHATPAY/SIGNTEST/)';
my $CIPHERTEXT = 'malformed: resource.ciphertext is not base64';
my $SHORT = 'undecryptable: resource.ciphertext is shorter than its tag';
my $V3_KEY = 'undecryptable: no APIv3 key decrypts the resource';
my $NONCE = 'malformed: resource.nonce is not 12 bytes long';
my $REQ_INFO = 'malformed: req_info is not base64';
my $BLOCKS = 'undecryptable: req_info is not a whole number of cipher blocks';
my $V2_KEY = 'undecryptable: no APIv2 key decrypts req_info';

my @plaintexts;


sub v2 {
    my (%option) = @_;

    my $notify = $pay->v2_notify($shop, %option);

    push @plaintexts, $notify->{plaintext};
    return $notify;
}


sub v3 {
    my (%option) = @_;

    my $notify = $pay->v3_notify($shop, %option);

    push @plaintexts, $notify->{plaintext};
    return $notify;
}


# A notify whose signature is what the code makes of the message, in bytes.

sub RefundNotify::Test::Forger::sign_message {
    my ($self, $message) = @_;

    return $self->($message);
}


sub forged {
    my ($code, %option) = @_;

    return v3(%option, -signing_key =>
                           bless sub { $code->(@_) },
                                 'RefundNotify::Test::Forger');
}


# A notify with another base64 of its signature, ciphertext or req_info.

sub signature {
    my ($code) = @_;

    return v3(-signature => $code);
}


sub ciphertext {
    my ($code, %option) = @_;

    return edited($pay, $shop, v3(%option), sub {
        my ($base64) = /"ciphertext":"([^"]*)/;
        s/\Q$base64/$code->($base64)/e;
    });
}


sub req_info {
    my ($code, %option) = @_;

    return edited($pay, $shop, v2(%option), sub {
        my ($base64) = /<req_info><!\[CDATA\[([^]]*)/;
        s/\Q$base64/$code->($base64)/e;
    });
}


# Whose key, and under which name

judge($nginx, $app,
    [ 'what is right', v3(), 'delivered' ],
    [ 'v2 that is right', v2(), 'delivered' ],
    [ 'a key of the merchant\'s under the serial of another',
      v3(-serial => $CUBE, -signing_key => $key), $WRONG ],
    (map { [ "the serial $_", v3(-serial => $_, -signing_key => $key),
             $SERIAL ] }
         'PUB_KEY_ID_', substr($CUBE, 0, -1), $CUBE . '0', lc $CUBE,
         $CUBE =~ s/PUB_KEY_ID_//r, "$CUBE,$CUBE", "$CUBE%00", "../$CUBE", '*',
         '0', '%s%s%n'),

    # WeChat Pay signs some notifies wrongly on purpose, with this prefix, to
    # see who does not verify

    [ 'a probe', v3(-probe => 1), $PROBE ],
    [ 'a probe of nothing else', signature(sub { 'WECHATPAY/SIGNTEST/' }),
      $PROBE ],
    [ 'a probe that would verify behind its prefix',
      signature(sub { "WECHATPAY/SIGNTEST/$_[0]" }), $PROBE ],
    [ 'a probe under a serial that is unknown',
      v3(-serial => 'PUB_KEY_ID_01', -signing_key => $key, -probe => 1),
      $PROBE ],
    [ 'a probe in small letters',
      signature(sub { "wechatpay/signtest/$_[0]" }), $SIGNATURE ],
    [ 'a probe\'s prefix behind', signature(sub { "$_[0]WECHATPAY/SIGNTEST/" }),
      $SIGNATURE ],
);


# What is signed is "timestamp\nnonce\nbody\n", to the byte.

my %message = (
    'without the last line feed' => sub { $_[0] =~ s/\n\z//r },
    'with a line feed too many' => sub { "$_[0]\n" },
    'with CR LF' => sub { $_[0] =~ s/\n/\r\n/gr },
    'with the nonce before the timestamp'
        => sub { $_[0] =~ s/^(.*)\n(.*)\n/$2\n$1\n/r },
    'of the body only' => sub { $_[0] =~ s/^.*\n.*\n//r },
    'with white space taken out of the body'
        => sub { $_[0] =~ s/(:\{.*)/$1 /r },
    'as a request of ours' => sub { "POST\n/notify\n$_[0]" },
    'of nothing' => sub { '' },
);

judge($nginx, $app, map {
    my $of = $message{$_};
    [ "a message $_",
      forged(sub { $key->sign_message($of->($_[0]), 'SHA256', 'v1.5') }),
      $WRONG ];
} sort keys %message);


# Signatures as numbers.  RFC 8017, 8.2.2: of another length than the modulus
# they are invalid, and 5.2.2: so are they from the modulus on.

my $size = 256;
my $modulus = Math::BigInt->from_hex($key->key2hash->{N});


sub octets {
    my ($number, $length) = (@_, $size);

    return pack 'H*', substr '0' x (2 * $length) . $number->to_hex,
                             -2 * $length;
}


sub signed {
    my ($message) = @_;

    return $key->sign_message($message, 'SHA256', 'v1.5');
}


# s + n is as good as s modulo n; where it fits into the same length

sub beyond {
    my $limit = Math::BigInt->new(2)->bpow(8 * $size) - $modulus;

    while (1) {
        my $timestamp = time;
        my $nonce = RefundNotify::Test::WeChatPay::random(32);
        my $sum;
        my $notify = forged(sub {
            my $s = Math::BigInt->from_bytes(signed($_[0]));

            $sum = $s < $limit;
            return octets($s + ($sum ? $modulus : 0));
        });

        return $notify if $sum;
    }
}


# The square root of 1 that is neither 1 nor n - 1, for which one has to know
# the primes: it is its own power for every odd exponent.

my ($p, $q) = map { Math::BigInt->from_hex($key->key2hash->{$_}) } qw(p q);
my $root = $p->copy->bmodinv($q)->bmul($q - 2)->bmod($q)->bmul($p)->badd(1);
my $one = Math::BigInt->bone;

is($root * $root % $modulus, 1, 'a square root of 1');

judge($nginx, $app,
    (map { my ($name, $bytes) = @$_;
           [ "a signature of $name", forged(sub { $bytes }), $WRONG ] }
         [ 0 => octets(Math::BigInt->bzero) ], [ 1 => octets($one) ],
         [ 2 => octets($one + 1) ], [ 'n - 1' => octets($modulus - 1) ],
         [ n => octets($modulus) ], [ 'n + 1' => octets($modulus + 1) ],
         [ 'order 2' => octets($root) ],
         [ 'n less order 2' => octets($modulus - $root) ],
         [ 'all ones' => "\xff" x $size ]),
    [ 'a signature and the modulus', beyond(), $WRONG ],
    [ 'the modulus less the signature',
      forged(sub { octets($modulus
                          - Math::BigInt->from_bytes(signed($_[0]))) }),
      $WRONG ],
    [ 'a signature byte by byte from behind',
      forged(sub { scalar reverse signed($_[0]) }), $WRONG ],
    (map { my ($name, $code) = @$_;
           [ "a signature $name", forged(sub { $code->(signed($_[0])) }),
             $SIGNATURE ] }
         [ 'with a zero before', sub { "\0$_[0]" } ],
         [ 'with a zero behind', sub { "$_[0]\0" } ],
         [ 'without its first byte', sub { substr $_[0], 1 } ],
         [ 'without its last byte', sub { substr $_[0], 0, -1 } ],
         [ 'of one byte', sub { 'x' } ],
         [ 'twice', sub { $_[0] x 2 } ]),
    (map { my $bytes = $_;
           [ "a signature of $bytes bytes", forged(sub { 'x' x $bytes }),
             $SIGNATURE ] } 32, 64, 128, 255, 257, 384, 512),
);


# Keys of two sizes, and the one's signatures under the other's serial

my $large_modulus = Math::BigInt->from_hex($large->key2hash->{N});

judge($nginx, $app,
    [ 'a key of 4096 bits', v3(-serial => $LARGE, -signing_key => $large),
      'delivered' ],
    [ 'a signature of 2048 bits under a key of 4096',
      v3(-serial => $LARGE, -signing_key => $key), $SIGNATURE ],
    [ 'a signature of 4096 bits under a key of 2048',
      v3(-signing_key => $large), $SIGNATURE ],
    (map { my ($name, $code) = @$_;
           [ "$name under a key of 4096", forged($code, -serial => $LARGE),
             $WRONG ] }
         [ 'a signature of 2048 bits behind zeros',
           sub { "\0" x $size . signed($_[0]) } ],
         [ 'a signature of 2048 bits twice', sub { signed($_[0]) x 2 } ],
         [ 'n', sub { octets($large_modulus, 2 * $size) } ],
         [ 'n + 1', sub { octets($large_modulus + 1, 2 * $size) } ],
         [ '1', sub { octets($one, 2 * $size) } ]),
    [ 'half of a signature of 4096 bits under a key of 2048',
      forged(sub { substr $large->sign_message($_[0], 'SHA256', 'v1.5'),
                          $size }), [ unverified => qr/./ ] ],
);


# Bleichenbacher's forgery of 2006 and its kin: what a verifier takes that
# parses the block instead of comparing it, as RFC 8017, 8.2.2 has it.  With our
# own private key each block can be signed.

sub raw {
    my ($block) = @_;

    length $block == $size or die 'a block of ', length $block;
    return $key->decrypt($block, 'none');
}


# 00 01 FF ... 00, as long as it takes, or with that many FF and garbage behind

sub block {
    my ($info, $fill) = @_;

    return "\0\1" . "\xff" x ($size - 3 - length $info) . "\0$info"
        if !defined $fill;
    return "\0\1" . "\xff" x $fill . "\0$info"
           . 'x' x ($size - 3 - $fill - length $info);
}


sub der {
    return RefundNotify::Test::Certificate::der(@_);
}


sub digest_info {
    my ($oid, $hash, $parameters) = @_;

    return der(0x30, der(0x30, der(0x06, pack 'H*', $oid)
                               . ($parameters // "\5\0")) . der(0x04, $hash));
}


my %oid = (MD5 => '2a864886f70d0205', SHA1 => '2b0e03021a',
           SHA224 => '608648016503040204', SHA256 => '608648016503040201',
           SHA384 => '608648016503040202', SHA512 => '608648016503040203',
           'SHA512/256' => '608648016503040206',
           'SHA3_256' => '608648016503040208');

my $sha256 = $oid{SHA256};

my %block = (
    'garbage behind the hash, and eight FF'
        => sub { block(digest_info($sha256, $_[0]), 8) },
    'garbage behind the hash, and seven FF'
        => sub { block(digest_info($sha256, $_[0]), 7) },
    'garbage behind the hash, and no FF'
        => sub { block(digest_info($sha256, $_[0]), 0) },
    'one byte behind the hash'
        => sub { block(digest_info($sha256, $_[0]), $size - 3 - 52) },
    'zeros behind the hash'
        => sub { block(digest_info($sha256, $_[0]), 8) =~ s/x+\z/"\0"
                     x length $&/er },
    'a last FF that is FE'
        => sub { block(digest_info($sha256, $_[0])) =~ s/\xff\0/\xfe\0/r },
    'zeros for FF (type 0)'
        => sub { block(digest_info($sha256, $_[0])) =~ s/\x01(\xff+)/"\0"
                     . "\0" x length $1/er },
    'type 2' => sub { block(digest_info($sha256, $_[0])) =~ s/\x01/\x02/r },
    'type 1, and other than FF'
        => sub { block(digest_info($sha256, $_[0])) =~ s/\xff/\x55/gr },
    'a first byte that is not 0'
        => sub { "\1" . substr block(digest_info($sha256, $_[0])), 1 },
    'no zero before DigestInfo'
        => sub { block(digest_info($sha256, $_[0])) =~ s/\xff\0/\xff\xff/r },
    'two zeros before DigestInfo'
        => sub { block(digest_info($sha256, $_[0])) =~ s/\xff\0/\0\0/r },
    'DigestInfo in front' => sub {
        my $info = digest_info($sha256, $_[0]);
        "\0\1\0$info" . "\xff" x ($size - 3 - length $info);
    },
    'the hash only' => sub { block($_[0]) },
    'the hash as an OCTET STRING' => sub { block(der(0x04, $_[0])) },
    'a hash cut short' => sub { block(digest_info($sha256,
                                                  substr $_[0], 0, 31)) },
    'a hash and a byte' => sub { block(digest_info($sha256, "$_[0]\0")) },
    'no hash' => sub { block(digest_info($sha256, '')) },

    # RFC 8017, appendix B.1: in DigestInfo the parameters have to be NULL

    'no parameters' => sub { block(digest_info($sha256, $_[0], '')) },
    'parameters that are not NULL'
        => sub { block(digest_info($sha256, $_[0], der(0x04, 'x' x 20))) },
    'a NULL that is not empty'
        => sub { block(digest_info($sha256, $_[0], der(0x05, "\0"))) },
    'something behind NULL'
        => sub { block(digest_info($sha256, $_[0], "\5\0\4\0")) },
    'something behind the hash, within DigestInfo'
        => sub { my $info = substr digest_info($sha256, $_[0]), 2;
                 block(der(0x30, $info . der(0x04, 'x' x 20))) },

    # RFC 8017, 9.2: DigestInfo is in DER, where each length is the shortest

    "BER's long length of DigestInfo"
        => sub { block(digest_info($sha256, $_[0]) =~ s/^\x30/\x30\x81/r) },
    "BER's long length of the algorithm"
        => sub { block(digest_info($sha256, $_[0])
                       =~ s/^\x30.\x30/\x30\x32\x30\x81/r) },
    "BER's long length of NULL"
        => sub { block(digest_info($sha256, $_[0], "\5\x81\0")) },
    "BER's long length of the hash"
        => sub { my $info = digest_info($sha256, '') =~ s/..\z//sr;
                 block(($info =~ s/^\x30./\x30\x32/r) . "\4\x81\x20$_[0]") },
    "BER's indefinite length"
        => sub { my $info = substr digest_info($sha256, $_[0]), 2;
                 block("\x30\x80$info\0\0") },

    # the right hash, said to be another, and other hashes

    (map { my $oid = $oid{$_};
           ("SHA-256's hash as ${_}'s"
            => sub { block(digest_info($oid, $_[0])) }) }
         grep { $_ ne 'SHA256' } sort keys %oid),
    (map { my $name = $_;
           ("a hash of $name"
            => sub { block(digest_info($oid{$name},
                               digest_data($name =~ s{/}{_}r, $_[1]))) }) }
         qw(MD5 SHA1 SHA224 SHA384 SHA512 SHA512/256 SHA3_256)),
    "the hash's hash"
        => sub { block(digest_info($sha256, digest_data('SHA256', $_[0]))) },
    'TLS 1.1\'s MD5 and SHA-1'
        => sub { block(digest_data('MD5', $_[1])
                       . digest_data('SHA1', $_[1])) },
);

is(sprintf('%s', unpack 'H*', digest_info($sha256, '') . 'x' x 32),
   '3011300d060960864801650304020105000400' . '78' x 32,
   'DigestInfo is as RFC 8017 prints it, but for the lengths of a hash');

judge($nginx, $app,
    [ 'a block that is right',
      forged(sub { raw(block(digest_info($sha256,
                                         digest_data('SHA256', $_[0])))) }),
      'delivered' ],
    (map { my $block = $block{$_};
           [ "a block with $_",
             forged(sub { raw($block->(digest_data('SHA256', $_[0]),
                                       $_[0])) }),
             $WRONG ] } sort keys %block),
    [ 'PSS', forged(sub { $key->sign_message($_[0], 'SHA256', 'pss') }),
      $WRONG ],
    [ 'PSS without salt',
      forged(sub { $key->sign_message($_[0], 'SHA256', 'pss', 0) }), $WRONG ],
);


# Nobody's key is needed where the public exponent is 3: the cube root of a
# block, rounded up, has the block's first third as its cube's.

sub cube_root {
    my ($message) = @_;

    my $block = block(digest_info($sha256, digest_data('SHA256', $message)),
                      8) =~ s/x+\z/"\0" x length $&/er;
    my $root = Math::BigInt->from_bytes($block)->broot(3) + 1;

    is(substr(octets($root ** 3), 0, 62), substr($block, 0, 62),
       'the cube is the block as far as the hash');
    return octets($root);
}

judge($nginx, $app,
    [ 'a cube root', forged(\&cube_root, -serial => $CUBE), $WRONG ],
    [ 'a cube root under another exponent', forged(\&cube_root), $WRONG ],
    [ '1 under the exponent 3', forged(sub { octets($one) },
                                       -serial => $CUBE), $WRONG ]);


# Base64, which RFC 4648, 3.3 and 3.5, has decoders refuse where it is not what
# an encoder writes: else one signature has many spellings.

my %base64 = (
    'without its last letter' => sub { substr $_[0], 0, -1 },
    'with a letter too many' => sub { "$_[0]A" },
    'with padding too much' => sub { "$_[0]=" },
    'with a group of padding' => sub { "$_[0]====" },
    'padding before its end' => sub { '=' . substr $_[0], 1 },
    'padding in the middle' => sub { 'AA==' . substr $_[0], 4 },
    "base64url's minus" => sub { '-' . substr $_[0], 1 },
    "base64url's underscore" => sub { '_' . substr $_[0], 1 },
    'a space within' => sub { substr($_[0], 0, 4) . ' ' . substr $_[0], 5 },
    'an asterisk' => sub { '*' . substr $_[0], 1 },
    'a percent sign, as in a URL' => sub { '%2B' . substr $_[0], 3 },
);

# a length of which two or one letters of padding are

my $one_padded = { -plaintext => '{' . 'x' x 9 };
my $two_padded = { -plaintext => '{' . 'x' x 8 };

judge($nginx, $app,
    (map { my ($name, $code) = ($_, $base64{$_});
           ([ "a signature $name", signature($code), $SIGNATURE ],
            [ "a ciphertext $name", ciphertext($code), $CIPHERTEXT ],
            [ "req_info $name", req_info($code), $REQ_INFO ]) }
         sort keys %base64),
    [ 'a signature twice', signature(sub { $_[0] x 2 }), $SIGNATURE ],

    # RFC 9110, 5.5: white space around it is no part of a header's value

    [ 'a signature with white space around', signature(sub { " $_[0] " }),
      'delivered' ],
    [ 'a signature with a tab', signature(sub { $_[0] =~ s/^(....)./$1\t/r }),
      'malformed: Wechatpay-Signature is empty, too long or not printable' ],
    [ 'an empty signature', signature(sub { '' }),
      'malformed: Wechatpay-Signature is empty, too long or not printable' ],
    [ 'a signature of 10 KB', signature(sub { 'A' x 10240 }),
      'malformed: Wechatpay-Signature is empty, too long or not printable' ],
    [ 'a signature with bits left over',
      signature(sub { $_[0] =~ s/(.)==\z/chr(1 + ord $1) . '=='/er }),
      $SIGNATURE ],
    [ 'a signature without its padding', signature(sub { $_[0] =~ s/=+\z//r }),
      $SIGNATURE ],

    [ 'a ciphertext with one letter of padding',
      ciphertext(sub { $_[0] =~ /[^=]=\z/ or die; $_[0] }, %$one_padded),
      'malformed: the JSON is malformed' ],
    [ 'and bits left over',
      ciphertext(sub { $_[0] =~ s/(.)=\z/chr(1 + ord $1) . '='/er },
                 %$one_padded), $CIPHERTEXT ],
    [ 'and without it', ciphertext(sub { $_[0] =~ s/=\z//r }, %$one_padded),
      $CIPHERTEXT ],
    [ 'a ciphertext with two letters of padding',
      ciphertext(sub { $_[0] =~ /[^=]==\z/ or die; $_[0] }, %$two_padded),
      'malformed: the JSON is malformed' ],
    [ 'two letters of padding and bits left over',
      ciphertext(sub { $_[0] =~ s/(.)==\z/chr(1 + ord $1) . '=='/er },
                 %$two_padded), $CIPHERTEXT ],
    [ 'two letters of padding, one of them missing',
      ciphertext(sub { $_[0] =~ s/=\z//r }, %$two_padded), $CIPHERTEXT ],
    [ 'a line break in the ciphertext, escaped',
      ciphertext(sub { $_[0] =~ s/^(.{76})/$1\\n/r }), $CIPHERTEXT ],
    [ 'a slash in the ciphertext, escaped as JSON may have it',
      ciphertext(sub { $_[0] =~ s{/}{\\/}gr }), 'delivered' ],
    [ 'an empty ciphertext', ciphertext(sub { '' }),
      'malformed: resource.ciphertext is missing or not a string' ],
    [ 'a ciphertext of 10 KB', ciphertext(sub { 'A' x 10240 }), $V3_KEY ],

    [ 'a line break in req_info', req_info(sub { $_[0] =~ s/^(.{76})/$1\n/r }),
      $REQ_INFO ],
    [ 'a space before req_info', req_info(sub { " $_[0]" }), $REQ_INFO ],
    [ 'an empty req_info', req_info(sub { '' }),
      'malformed: req_info is missing' ],
    [ 'req_info of 10 KB of zeros', req_info(sub { 'A' x 10240 }), $V2_KEY ],
    [ 'req_info twice, behind one another', req_info(sub {
          encode_base64(decode_base64($_[0]) x 2, '') }),
      'malformed: the XML is not well-formed' ],
);


# AES-GCM: NIST SP 800-38D, 7.2.  Each bit of the tag counts, and each of what
# goes into it.

sub flipped {
    my ($bytes, $bit) = @_;

    vec($bytes, $bit, 1) ^= 1;
    return $bytes;
}


# The ciphertext with its tag, in bytes, changed.

sub sealed {
    my ($code, %option) = @_;

    return ciphertext(sub { encode_base64($code->(decode_base64($_[0])), '') },
                      %option);
}


# A resource's member changed after the encryption; undef takes it out.

sub member {
    my ($name, $value, %option) = @_;

    return edited($pay, $shop, v3(%option), sub {
        defined $value ? s/("$name":)"[^"]*"(?=[^{]*\z)/$1$value/
                       : s/,"$name":"[^"]*"(?=[^{]*\z)//;
    });
}


my $reused = 'the nonce is';

judge($nginx, $app,
    (map { my $bit = $_;
           [ "bit $bit of the tag", sealed(sub { flipped(substr($_[0], 0, -16),
                 0) && substr($_[0], 0, -16) . flipped(substr($_[0], -16),
                                                       $bit) }), $V3_KEY ] }
         0 .. 127),
    (map { my $bit = $_;
           [ "bit $bit of the ciphertext",
             sealed(sub { flipped($_[0], $bit) }), $V3_KEY ] }
         0 .. 7, 128, 1000),
    (map { my $byte = $_;
           [ "byte $byte of the nonce",
             edited($pay, $shop, v3(), sub {
                 s/("nonce":".{$byte})(.)/$1 . chr(1 ^ ord $2)/e }),
             $V3_KEY ] } 0 .. 11),
    (map { my $length = $_;
           [ "$length bytes of the tag",
             sealed(sub { substr $_[0], 0, $length - 16 }), $V3_KEY ] }
         0 .. 15),
    (map { my $length = $_;
           [ "a ciphertext of $length bytes",
             sealed(sub { substr $_[0], 0, $length }), $SHORT ] } 1 .. 16),
    [ 'a ciphertext of 17 bytes', sealed(sub { substr $_[0], 0, 17 }),
      $V3_KEY ],
    [ 'a tag that is all zeros',
      sealed(sub { substr($_[0], 0, -16) . "\0" x 16 }), $V3_KEY ],
    [ 'the tag in front',
      sealed(sub { substr($_[0], -16) . substr $_[0], 0, -16 }), $V3_KEY ],
    [ 'a byte behind the tag', sealed(sub { "$_[0]\0" }), $V3_KEY ],
    [ 'another notify\'s tag',
      sealed(sub { substr($_[0], 0, -16) . substr decode_base64(
                       v3()->{body} =~ /"ciphertext":"([^"]*)/), -16 }),
      $V3_KEY ],

    (map { my $length = $_;
           [ "a nonce of $length bytes",
             v3(-resource => { nonce => 'n' x $length }), $NONCE ] }
         1, 11, 13, 16, 64),
    [ 'an empty nonce', member(nonce => '""'), $NONCE ],
    [ 'a nonce of null', member(nonce => 'null'), $NONCE ],
    [ 'a nonce that is a number', member(nonce => '123456789012'), $NONCE ],
    [ 'no nonce', edited($pay, $shop, v3(), sub { s/,"nonce":"[^"]*"// }),
      $NONCE ],
    [ 'a nonce that is an object', member(nonce => '{"a":"123456789012"}'),
      $NONCE ],

    # that a nonce is never used again is the duty of who encrypts (SP 800-38D,
    # 8); who decrypts cannot know

    [ 'a nonce', v3(-resource => { nonce => $reused }), 'delivered' ],
    [ 'the nonce again', v3(-resource => { nonce => $reused }), 'delivered' ],

    (map { [ "associated_data $_ for refund", member(associated_data => $_),
             $V3_KEY ] }
         '""', 'null', '"Refund"', '"refun"', '"refund "', '"refundx"',
         '"sefund"', '"' . 'refund' x 5000 . '"'),
    [ 'no associated_data for refund', member('associated_data'), $V3_KEY ],
    (map { [ "associated_data that is $_", member(associated_data => $_),
             'malformed: resource.associated_data is not a string' ] }
         '1', 'true', '["refund"]', '{"a":"refund"}'),
    [ 'an empty associated_data',
      v3(-resource => { associated_data => '' }), 'delivered' ],
    [ 'no associated_data', v3(-resource => { associated_data => undef }),
      'delivered' ],
    [ 'associated_data of null', member(associated_data => 'null',
          -resource => { associated_data => '' }), 'delivered' ],
    [ 'associated_data of 30 KB',
      v3(-resource => { associated_data => 'refund' x 5000 }), 'delivered' ],
    [ 'other associated_data, for which it was encrypted',
      v3(-resource => { associated_data => 'transaction' }), 'delivered' ],

    [ 'another merchant\'s key', v3(-key => $other->{v3_key}[0]), $V3_KEY ],
    [ 'the APIv2 key', v3(-key => $shop->{v2_key}[0]), $V3_KEY ],
    [ 'all of it encrypted for another merchant',
      $pay->v3_notify($other, -serial => $shop->{public_key_id}[0]), $V3_KEY ],
    [ 'another merchant\'s refund, encrypted for this one',
      v3(mchid => $other->{mch_id}),
      'mismatch: mch_id is not the merchant\'s' ],

    (map { [ "the algorithm $_", member(algorithm => "\"$_\""),
             'malformed: resource.algorithm is not AEAD_AES_256_GCM' ] }
         'AEAD_AES_128_GCM', 'AEAD_AES_256_CCM', 'aead_aes_256_gcm',
         'AEAD_AES_256_GCM ', ' AEAD_AES_256_GCM', 'AEAD_AES_256_GC',
         'AEAD_AES_256_GCM_SIV', 'AES-256-ECB', 'none', '0'),
    [ 'the algorithm AEAD_SM4_GCM', member(algorithm => '"AEAD_SM4_GCM"'),
      'malformed: resource.algorithm is AEAD_SM4_GCM, which is not supported' ],
    (map { [ "the algorithm $_", member(algorithm => $_),
             'malformed: resource.algorithm is missing or not a string' ] }
         '""', 'null', '1', '["AEAD_AES_256_GCM"]'),
);


# AES-ECB.  Nothing but the padding and the form of what it yields tells that it
# was encrypted with the key, and nothing at all that it was so in one piece.
# So what comes out must be refused exactly where that is no refund; and
# delivered as what it says where it is one, of which README.md warns.

my $ecb = Crypt::Mode::ECB->new('AES', 0);
my $v2_key = md5_hex($shop->{v2_key}[0]);


sub blocks {
    my ($padded, $key) = @_;

    return encode_base64($ecb->encrypt($padded, $key // $v2_key), '');
}


# The fields that this text has as a <root>, or nothing: an own reading of XML,
# as far as the fields of WeChat Pay's and their pieces go.

sub root {
    my ($text) = @_;

    my (%fields, $name);

    eval { decode('UTF-8', my $copy = $text, Encode::FB_CROAK); 1 } or return;
    $text !~ /[\x00-\x08\x0b\x0c\x0e-\x1f]/ or return;
    $text =~ s/^\s*<root>\s*//a or return;

    while ($text =~ s/^<([A-Za-z_][\w.-]*)>//a) {
        $name = $1;
        return if exists $fields{$name};
        $fields{$name} = '';

        while (1) {
            if ($text =~ s/^<!\[CDATA\[(.*?)\]\]>//s) {
                $fields{$name} .= $1;

            } elsif ($text =~ s/^([^<&]+)//) {
                my $part = $1;
                return if $part =~ /\]\]>/;
                $fields{$name} .= $part;

            } else {
                last;
            }
        }

        $text =~ s/^<\/\Q$name\E\s*>\s*//a or return;
    }

    return $text =~ /^<\/root\s*>\s*\z/a ? \%fields : ();
}


# Whether these are a refund, by WeChat Pay's page on the notify:
# https://pay.weixin.qq.com/doc/v2/partner/4011989265

sub is_refund {
    my ($fields) = @_;

    return ($fields->{refund_id} // '') =~ /^[\w-]{1,64}\z/a
           && !grep({ ($fields->{$_} // '') !~ /^[\x20-\x7e]{1,64}\z/ }
                    qw(transaction_id out_trade_no out_refund_no))
           && !grep({ ($fields->{$_} // '') !~ /^\d{1,15}\z/a }
                    qw(total_fee refund_fee))
           && !grep({ ($fields->{$_} // '') !~ /^(?:\d{1,15})?\z/a }
                    qw(settlement_total_fee settlement_refund_fee))
           && ($fields->{refund_status} // '')
              =~ /^(?:SUCCESS|CHANGE|REFUNDCLOSE)\z/;
}


# A row for what decrypts to these bytes.

my %passed;

sub altered {
    my ($name, $padded) = @_;

    my $padding = ord substr $padded, -1;
    my $notify = v2(-req_info => blocks($padded));

    if ($padding < 1 || $padding > 16
        || substr($padded, -$padding) ne chr($padding) x $padding)
    {
        return [ $name, $notify, $V2_KEY ];
    }

    my $text = substr $padded, 0, -$padding;
    my $fields = root($text);

    push @plaintexts, $text if length $text > 32;

    if ($fields && is_refund($fields)) {
        $passed{$name} = 1;

        # all of these were made of refunds that succeeded

        return [ $name, { %$notify, event_id => "wechatpay:$shop->{mch_id}:"
                                        . "$fields->{refund_id}:SUCCESS" },
                 'delivered',
                 map({ qq("$_":"$fields->{$_}") } qw(transaction_id
                     out_trade_no refund_id out_refund_no)),
                 '"total":' . (0 + $fields->{total_fee}) . ',"refund":'
                 . (0 + $fields->{refund_fee}) ];
    }

    return $text =~ /^</ ? [ $name, $notify, [ malformed => qr/\w/ ] ]
                         : [ $name, $notify, $V2_KEY ];
}


# A notify in blocks, padded.  Each is of the same form, so that the n-th block
# of one can stand for that of another; unlike most, no two blocks are alike.

sub notified {
    my $text = v2()->{plaintext};
    my $padding = 16 - length($text) % 16;

    return unpack '(a16)*', $text . chr($padding) x $padding;
}


my @blocks = notified();
my $last = $#blocks;

judge($nginx, $app,
    altered('blocks that nobody touched', join '', @blocks),
    (map { my @cut = notified(); splice @cut, $_, 1;
           altered("block $_ cut out", join '', @cut) } 0 .. $last),
    (map { my @cut = notified();
           altered("cut before block $_", join '', @cut[0 .. $_ - 1]) }
         1 .. $last),
    (map { my @cut = notified();
           altered("cut as far as block $_", join '', @cut[$_ .. $last]) }
         1 .. $last),
    (map { my @swapped = notified();
           @swapped[$_, $_ + 1] = @swapped[$_ + 1, $_];
           altered("block $_ behind the next", join '', @swapped) }
         0 .. $last - 1),
    (map { my @doubled = notified(); splice @doubled, $_, 0, $doubled[$_];
           altered("block $_ twice", join '', @doubled) } 0 .. $last),
    (map { my @one = notified(); my @two = notified();
           altered("another notify from block $_ on",
                   join '', @one[0 .. $_ - 1], @two[$_ .. $last]) }
         1 .. $last),
    (map { my @one = notified(); my @two = notified();
           $one[$_] = $two[$_];
           altered("block $_ of another notify", join '', @one) } 0 .. $last),
    altered('two notifies', join '', notified(), notified()),
    altered('from behind', join '', reverse notified()),
    altered('one block', $blocks[0]),
    altered('a block for all', $blocks[0] x @blocks),
);

ok($passed{'blocks that nobody touched'}, 'what is right passes here too');
cmp_ok(scalar(grep { /another notify/ } keys %passed), '>', 0,
       'and what is put together of two, where it is a refund');


# PKCS #7 (RFC 5652, 6.3): 1 to 16 bytes, each of them their number

sub right {
    return v2()->{plaintext};
}


# The same with line feeds behind, which the document may end with, until the
# last block lacks n bytes.

sub filled {
    my ($n) = @_;

    my $text = right();

    return $text . "\n" x (-($n + length $text) % 16);
}

judge($nginx, $app,
    (map { my $byte = chr;
           my $text = right();
           altered("$_ as the last byte",
                   substr($text, 0, length($text) & ~15) . 'x' x 15 . $byte)
         } 0, 2 .. 255),
    (map { my ($n, $last) = ($_, chr);
           (altered("$_ bytes of padding", filled($_) . $last x $n),
            $n == 1 ? ()
                : altered("$n bytes of padding, the first one another",
                          filled($n) . "\0" . $last x ($n - 1))) } 1 .. 16),
    altered('padding of zeros', filled(5) . "\0" x 5),
    altered("ANSI X9.23's padding", filled(5) . "\0\0\0\0\5"),
    altered("ISO 7816-4's padding", filled(5) . "\x80\0\0\0\0"),
    altered('white space for padding', filled(5) . ' ' x 5),
    altered('a block of padding only', "\x10" x 16),
    altered('two blocks of padding', "\x10" x 32),

    (map { my $cut = $_;
           [ "req_info without its last $cut bytes",
             req_info(sub { encode_base64(substr(decode_base64($_[0]), 0,
                                                 -$cut), '') }), $BLOCKS ] }
         1 .. 15),
    (map { my $more = $_;
           [ "req_info and $more bytes",
             req_info(sub { encode_base64(decode_base64($_[0]) . 'x' x $more,
                                          '') }), $BLOCKS ] } 1, 15),
    [ 'req_info and a block of another key', req_info(sub {
          encode_base64(decode_base64($_[0])
              . $ecb->encrypt("\x10" x 16, md5_hex($other->{v2_key}[0])),
              '') }), $V2_KEY ],
);


# Whom it is for

judge($nginx, $app,
    [ 'another merchant\'s APIv2 key', v2(-key => $other->{v2_key}[0]),
      [ undecryptable => qr/^no APIv2 key decrypts req_info$/ ] ],
    [ 'the APIv3 key', v2(-key => $shop->{v3_key}[0]),
      [ undecryptable => qr/^no APIv2 key decrypts req_info$/ ] ],
    [ 'the APIv2 key itself, without MD5',
      v2(-req_info => blocks(filled(5) . "\5" x 5, $shop->{v2_key}[0])),
      $V2_KEY ],
    [ 'another merchant\'s notify', $pay->v2_notify($other),
      'mismatch: mch_id is not the merchant\'s' ],
    [ 'another merchant\'s notify under this one\'s number',
      $pay->v2_notify($other, -outer => { mch_id => $shop->{mch_id} }),
      $V2_KEY ],
);


# K11: key files when nginx starts anew with them.  What is refused leaves the
# worker that is there at work; t/60-configuration.t has each message.

$nginx->allow(qr/\[emerg\]/);

my $private = $key->export_key_pem('private');
my %wrong = (
    'api_v2_key_file' => [ 'k' x 31, $private ],
    'api_v3_key_file' => [ 'k' x 31, $private ],
    "wechatpay_public_key $shop->{public_key_id}[0]"
        => [ $private, "-----BEGIN PUBLIC KEY-----\n" ],
    'wechatpay_certificate'
        => [ $private, $cube->export_key_pem('public_x509') ],
);

# To root nothing is unreadable, unless it goes without the capabilities for it.

my @limited = $> == 0 ? ('setpriv', map { "$_=-dac_override,-dac_read_search" }
                                        '--bounding-set', '--inh-caps') : ();
my $limited = RefundNotify::Test::Nginx->new(conf => $text, @options,
                                             under => \@limited);

is(($limited->config_test($text))[0], 0, 'nginx -t, before');

for my $directive (sort keys %wrong) {
    my ($kind) = $directive =~ /^(\w+)/;
    my ($file) = $text =~ /^ *\Q$directive\E (\S+);/m;
    my $right = RefundNotify::Test::Util::read_file($file);
    my $put = sub {
        unlink $file;
        RefundNotify::Test::Util::write_file($file, $_[0], 0600);
    };
    my @files = (
        [ 'is not there', sub { unlink $file } ],
        [ 'is a link to nothing',
          sub { unlink $file; symlink "$file.no", $file } ],
        [ 'is a directory', sub { unlink $file; mkdir $file },
          sub { rmdir $file } ],
        [ 'is empty', sub { $put->('') } ],
        [ 'is cut short, or of another form',
          sub { $put->($wrong{$directive}[0]) } ],
        [ 'is of another kind', sub { $put->($wrong{$directive}[1]) } ],
    );

    for (@files) {
        my ($name, $break, $clear) = @$_;

        $break->();
        ok(!$nginx->reload, "$kind: a reload with a file that $name");
        $clear->() if $clear;
    }

    $put->($right);
    chmod 0000, $file;

    my ($code, $output) = $limited->config_test($text);

    is($code, 1, "$kind: nginx -t of a file that may not be read");
    like($output, qr/\Q$file\E" failed \(13: /, "$kind: and says so");
    chmod 0600, $file;
    judge($nginx, $app, [ "$kind: and after all that", v3(), 'delivered' ],
                        [ "$kind: v2 after all that", v2(), 'delivered' ]);
}

my ($file) = $text =~ /api_v3_key_file (\S+);/;

chmod 0644, $file;
ok($nginx->reload, 'a reload with a key file that others may read');
like($nginx->error_log, qr/\[warn\].*\Q$file\E/, 'which is warned of');
judge($nginx, $app, [ 'after a reload', v3(), 'delivered' ]);

no_secrets($nginx, $pay->secrets($shop), $pay->secrets($other),
           grep({ defined && length > 15 } @plaintexts), '支付用户零钱',
           '招商银行信用卡0403');

done_testing;
