#!/usr/bin/perl

# What nginx -t says: each way to write a directive or a file wrongly, with its
# whole message, which names the file and the line; each warning; and that what
# is right draws neither.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);

use Crypt::PK::ECC;
use Crypt::PK::RSA;
use MIME::Base64 qw(decode_base64 encode_base64);
use POSIX ();

# A row replaces the parts in capitals; the line with #! is the one that the
# message must name.

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 64;
}

http {
    %%HTTP%%

    refund_merchant shop {
        MERCHANT
    }

    HTTP

    server {
        listen 127.0.0.1:%%PORT%%;

        SERVER

        location = /notify {
            LOCATION
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_APP%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    LAST
}
EOC

my %good = (
    MERCHANT => "mch_id 1900000109;\n"
                . "api_v2_key_file v2key;\n"
                . "api_v3_key_file v3key;\n"
                . "wechatpay_public_key PUB_KEY_ID_01 public.pem;",
    HTTP => '',
    SERVER => '',
    LOCATION => "refund_notify shop;\n"
                . 'refund_notify_pass /internal/refunds;',
    LAST => '',
);

my $nginx = RefundNotify::Test::Nginx->new;
my $dir = $nginx->dir;
my $day = 86400;
my $now = time;
my $rsa = rsa_key('good');
my $pem = $rsa->export_key_pem('public_x509');
my $small = Crypt::PK::RSA->new;
my $big = Crypt::PK::RSA->new;
my $ec = Crypt::PK::ECC->new;

$small->generate_key(128, 65537);
$big->import_key({ N => 'c' x 1025 . '1', e => '10001' });
$ec->generate_key('secp256r1');

# a certificate of an EC key: nobody checks who signed it

{
    package EcCertificate;

    sub export_key_pem { return $ec->export_key_pem('public') }
    sub sign_message { return shift->[0]->sign_message(@_) }
}

# another certificate, in which the code has changed something

sub altered {
    my ($code) = @_;

    local $_ = decode_base64(certificate($rsa, serial => '0C')
                             =~ s/^-.*\n//mgr);

    $code->() or die "nothing is altered\n";

    return "-----BEGIN CERTIFICATE-----\n" . encode_base64($_)
           . "-----END CERTIFICATE-----\n";
}

my %file = (
    v2key => 'v' x 32,
    v2key2 => ('w' x 32) . "\n",
    v3key => ('k' x 32) . "\n",
    v3key2 => ('l' x 32) . "\r\n",
    key31 => 'k' x 31,
    key33 => 'k' x 33,
    twolines => ('k' x 32) . "\n\n",
    spaced => 'k' x 31 . ' ',
    accent => 'k' x 30 . "\xc3\xa9",
    empty => '',
    newline => "\n",
    large => 'k' x 65537,

    'public.pem' => $pem,
    'public2.pem' => rsa_key('second')->export_key_pem('public_x509'),
    'public.der' => decode_base64($pem =~ s/^-.*\n//mgr),
    'pkcs1.pem' => $rsa->export_key_pem('public'),
    'ec.pem' => $ec->export_key_pem('public'),
    'small.pem' => $small->export_key_pem('public_x509'),
    'big.pem' => $big->export_key_pem('public_x509'),
    'half.pem' => substr($pem, 0, 200),
    'two.pem' => $pem . rsa_key('second')->export_key_pem('public_x509'),
    'chain.pem' => certificate($rsa, serial => '08')
                   . certificate(rsa_key('second'), serial => '09'),
    'keycert.pem' => $pem . certificate($rsa, serial => '0B'),

    'cert.pem' => certificate($rsa, serial => '5157F09EFDC096DE'),
    'cert2.pem' => certificate(rsa_key('second'), serial => '0A'),
    'cert.der' => decode_base64(certificate($rsa, serial => '01')
                                =~ s/^-.*\n//mgr),
    'expired.pem' => certificate($rsa, serial => '02',
                                 from => $now - 100 * $day,
                                 to => $now - 10.5 * $day),
    'soon.pem' => certificate($rsa, serial => '03',
                              to => $now + 29.5 * $day),
    'enough.pem' => certificate($rsa, serial => '04',
                                to => $now + 30.5 * $day),
    'notyet.pem' => certificate($rsa, serial => '05', from => $now + $day),
    'eccert.pem' => certificate(bless([ $rsa ], 'EcCertificate'),
                                serial => '06'),
    'smallcert.pem' => certificate($small, serial => '07'),
    'noserial.pem' => certificate($rsa, serial => '00'),
    'negative.pem' => certificate($rsa, serial => 'fe', negative => 1),
    'longest.pem' => certificate($rsa, serial => '5A' x 32),
    'longer.pem' => certificate($rsa, serial => '5A' x 33),

    # from and to a thirteenth month; a key of no known algorithm

    'from13.pem' => altered(sub { s/\x17\x0d\d\d\K\d\d/13/ }),
    'to13.pem' => altered(sub { s/\x17\x0d\d{12}Z\x17\x0d\d\d\K\d\d/13/ }),
    'nokey.pem' => altered(sub { s/\x2a\x86\x48\x86\xf7\x0d\x01\x01\K\x01/c/ }),

    'key.pem' => $rsa->export_key_pem('private'),
    'key2.pem' => rsa_key('second')->export_key_pem('private'),
    'key.der' => $rsa->export_key_der('private'),
    'eckey.pem' => $ec->export_key_pem('private'),
    'smallkey.pem' => $small->export_key_pem('private'),
    'locked.pem' => $rsa->export_key_pem('private', 'secret'),

    whsec => 'whsec_' . encode_base64('s' x 24, ''),
    whsec64 => 'whsec_' . encode_base64('s' x 64, '') . "\n",
    whsec23 => 'whsec_' . encode_base64('s' x 23, ''),
    whsec65 => 'whsec_' . encode_base64('s' x 65, ''),
    whsecbad => 'whsec_' . '*' x 32,
    whsec96 => 'whsec_' . encode_base64('s' x 96, ''),
    nowhsec => encode_base64('s' x 24, ''),
    halfwhsec => 'whsec',
);

RefundNotify::Test::Util::write_file($nginx->path($_), $file{$_}, 0600)
    for keys %file;
RefundNotify::Test::Util::write_file($nginx->path('open'), 'o' x 32, 0644);
RefundNotify::Test::Util::write_file($nginx->path('opensec'), $file{whsec},
                                     0604);
RefundNotify::Test::Util::write_file($nginx->path('group'), 'g' x 32, 0640);
RefundNotify::Test::Util::write_file($nginx->path('openkey.pem'),
                                     $file{'key.pem'}, 0644);
mkdir $nginx->path('directory') or die;
POSIX::mkfifo($nginx->path('fifo'), 0600) or die;


# A part with the line that is wrong in place of the good one's, and what nginx
# says of it: "emerg" or "warn" and the message, several of them as a list.

sub says {
    my ($name, $parts, @messages) = @_;

    my $text = $conf;

    for my $part (sort keys %good) {
        my $lines = $parts->{$part} // $good{$part};

        $text =~ s/^ +$part\n/$lines\n/m or die $part;
    }

    my ($status, $output) = $nginx->config_test($text);
    my $file = $nginx->path('test.conf');
    my @lines = split /\n/, RefundNotify::Test::Util::read_file($file);
    my @marked = grep { $lines[$_ - 1] =~ /#!/ } 1 .. @lines;
    my $failed = grep { /^emerg/ } @messages;

    # LINE2 is the second line that is marked

    my $wanted = join '', map {
        my ($level, $message) = /^(\w+) (.*)/s;

        $message .= " in $file:LINE1" if $message !~ / in \S+:LINE\d\z/;
        $message =~ s/LINE(\d)/$marked[$1 - 1]/g;
        $message =~ s/%DIR%/$dir/g;
        "nginx: [$level] $message\n"
    } @messages;

    $wanted .= $failed ? "nginx: configuration file $file test failed\n"
               : "nginx: the configuration file $file syntax is ok\n"
                 . "nginx: configuration file $file test is successful\n";

    is($output, $wanted, $name);
    is($status, $failed ? 1 : 0, "$name: its exit code");
    return;
}


sub refused {
    my ($part, $lines, $message) = @_;

    return says("$part: $lines" =~ s/\n/ /gr,
                { $part => marked($lines) }, "emerg $message");
}


sub warned {
    my ($part, $lines, @messages) = @_;

    return says("$part: $lines" =~ s/\n/ /gr,
                { $part => marked($lines) }, map { "warn $_" } @messages);
}


sub marked {
    my ($lines) = @_;

    return $lines =~ /#!/ ? $lines : "$lines #!";
}


# refund_merchant: its lines, alone in the block but for mch_id

my $NUMBER = "mch_id 1900000109;\n";
my $ARGUMENTS = 'invalid number of arguments in';
my $OF_SHOP = 'directive of refund_merchant "shop": it takes';
my $ONE_OF_TWO = 'remove one of the two';
my $KNOWN = 'it knows mch_id app_id sub_mch_id api_v2_key_file api_v3_key_file '
            . 'api_v2_sign_type wechatpay_public_key wechatpay_certificate '
            . 'merchant_certificate merchant_key';
my $IN_SHOP = 'in refund_merchant "shop"';

my @merchant = (
    (map { [ $_, "$ARGUMENTS \"" . (split / /, $_)[0] =~ s/;//r
                 . "\" $OF_SHOP " . (/^(?:app|sub_mch)_id/ ? '1 or more'
                                    : /^wechatpay_public_key/ ? 2 : 1) ] }
         'app_id;', 'sub_mch_id;', 'api_v2_key_file;',
         'api_v2_key_file a b;', 'api_v3_key_file;', 'api_v3_key_file a b;',
         'api_v2_sign_type;', 'api_v2_sign_type MD5 MD5;',
         'wechatpay_public_key;', 'wechatpay_public_key public.pem;',
         'wechatpay_public_key PUB_KEY_ID_01 public.pem x;',
         'wechatpay_certificate;', 'wechatpay_certificate a b;',
         'merchant_certificate;', 'merchant_certificate a b;',
         'merchant_key;', 'merchant_key a b;', 'mch_id;', 'mch_id 1 2;'),
    [ 'mchid 1;', "unknown directive \"mchid\" $IN_SHOP: $KNOWN" ],
    [ 'include x;', "unknown directive \"include\" $IN_SHOP: $KNOWN" ],
    [ 'mch_id 1900000109;',
      "\"mch_id\" directive is duplicate $IN_SHOP: $ONE_OF_TWO" ],
    [ "api_v2_sign_type MD5;\napi_v2_sign_type MD5;",
      "\"api_v2_sign_type\" directive is duplicate $IN_SHOP: $ONE_OF_TWO" ],
    [ "merchant_certificate cert.pem;\nmerchant_certificate cert.pem;",
      "\"merchant_certificate\" directive is duplicate $IN_SHOP: $ONE_OF_TWO" ],
    [ "merchant_key key.pem;\nmerchant_key key.pem;",
      "\"merchant_key\" directive is duplicate $IN_SHOP: $ONE_OF_TWO" ],
    [ 'app_id "";', 'invalid "app_id": "" is not of 1 to 32 letters, digits, '
      . '"_" or "-"' ],
    (map { [ "app_id $_;", "invalid \"app_id\": \"$_\" is not of 1 to 32 "
             . 'letters, digits, "_" or "-"' ] } 'wx+1', 'wx~1'),
    [ "app_id wx1;\napp_id wx2 wx1;",
      'invalid "app_id": "wx1" is a duplicate: ' . $ONE_OF_TWO ],
    [ 'sub_mch_id x;', 'invalid "sub_mch_id": "x" is neither of 1 to 32 '
      . 'digits nor "*"' ],
    (map { [ "sub_mch_id $_ $_;",
             "invalid \"sub_mch_id\": \"$_\" is a duplicate: $ONE_OF_TWO" ] }
         1, '*'),
    [ 'api_v2_sign_type SHA1;', 'invalid "api_v2_sign_type": "SHA1" is neither '
      . '"HMAC-SHA256" nor "MD5"' ],
);

refused(MERCHANT => "$NUMBER$_->[0]", $_->[1]) for @merchant;

refused(MERCHANT => "mch_id $_->[0];",
        "invalid \"mch_id\": \"$_->[1]\" is not of 1 to 32 digits")
    for [ 'x', 'x' ], [ '""', '' ], [ '1' x 33, '1' x 33 ], [ '-1', '-1' ];


# files that are not there, or no files: whoever reads them

my $NO_FILE = 'is not a regular file: name the one that holds the key or '
              . 'certificate';
my $EMPTY = 'is empty: put the key, password or certificate into it';
my $LARGE = 'is larger than 65536 bytes, which no key or certificate is: name '
            . 'another file';

for ([ 'api_v2_key_file' ], [ 'api_v3_key_file' ],
     [ 'wechatpay_public_key', 'PUB_KEY_ID_01 ' ], [ 'wechatpay_certificate' ],
     [ 'merchant_certificate' ], [ 'merchant_key' ])
{
    my ($directive, $id) = (@$_, '');
    my $use = "$NUMBER$directive $id";

    refused(MERCHANT => "${use}missing;",
            'open() "%DIR%/missing" failed (2: No such file or directory)');
    refused(MERCHANT => "$use\"\";",
            'the name of a file is empty: say where it is');
    refused(MERCHANT => "${use}fifo;", "\"%DIR%/fifo\" $NO_FILE");
    refused(MERCHANT => "${use}empty;", "\"%DIR%/empty\" $EMPTY");
}

refused(MERCHANT => "${NUMBER}api_v2_key_file $_->[0];", $_->[1])
    for [ '%%DIR%%/no/dir', 'open() "%DIR%/no/dir" failed (2: No such file or '
          . 'directory)' ],
        [ 'directory', "\"%DIR%/directory\" $NO_FILE" ],
        [ 'newline', "\"%DIR%/newline\" $EMPTY" ],
        [ 'large', "\"%DIR%/large\" $LARGE" ];

SKIP: {
    skip 'root may read every file', 2 if $> == 0;

    chmod 0000, $nginx->path('key31');
    refused(MERCHANT => "${NUMBER}api_v2_key_file key31;",
            'open() "%DIR%/key31" failed (13: Permission denied)');
    chmod 0600, $nginx->path('key31');
}


# files with the wrong content

my $V2 = 'is not exactly 32 characters long: copy the APIv2 key of the '
         . 'merchant platform';
my $V3 = 'is not exactly 32 bytes long: copy the APIv3 key of the merchant '
         . 'platform';
my $RSA = 'is not of RSA, as WeChat Pay\'s and the merchant\'s are';
my $PUBLIC = 'is not a public key in PEM ("BEGIN PUBLIC KEY")';
my $CERTIFICATE = 'is not a certificate in PEM ("BEGIN CERTIFICATE")';
my $PRIVATE = 'is not a private key in PEM without a passphrase '
              . '("BEGIN PRIVATE KEY")';
my $ID = 'has an id that is not of the form PUB_KEY_ID_...';
my $SEVERAL = 'holds more than one: put each into a file of its own';

my @content = (
    [ 'api_v2_key_file', 'key31', $V2 ],
    [ 'api_v2_key_file', 'key33', $V2 ],
    [ 'api_v2_key_file', 'twolines', $V2 ],
    [ 'api_v2_key_file', 'spaced', 'holds other than printable characters' ],
    [ 'api_v2_key_file', 'accent', 'holds other than printable characters' ],
    [ 'api_v2_key_file', 'public.pem', $V2 ],
    [ 'api_v3_key_file', 'key31', $V3 ],
    [ 'api_v3_key_file', 'key33', $V3 ],
    [ 'api_v3_key_file', 'twolines', $V3 ],
    [ 'api_v3_key_file', 'key.pem', $V3 ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 public.der', $PUBLIC ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 half.pem', $PUBLIC ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 key.pem', $PUBLIC ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 cert.pem', $PUBLIC ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 v3key', $PUBLIC ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 ec.pem', $RSA ],
    (map { [ 'wechatpay_public_key', "PUB_KEY_ID_01 $_",
             'is not of 2048 to 4096 bits' ] } 'small.pem', 'big.pem'),
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 two.pem', $SEVERAL ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 keycert.pem', $SEVERAL ],
    [ 'wechatpay_certificate', 'chain.pem', $SEVERAL ],
    [ 'wechatpay_certificate', 'keycert.pem', $SEVERAL ],
    [ 'wechatpay_certificate', 'cert.der', $CERTIFICATE ],
    [ 'wechatpay_certificate', 'public.pem', $CERTIFICATE ],
    [ 'wechatpay_certificate', 'key.pem', $CERTIFICATE ],
    [ 'wechatpay_certificate', 'eccert.pem', $RSA ],
    [ 'wechatpay_certificate', 'smallcert.pem',
      'is not of 2048 to 4096 bits' ],
    (map { [ 'wechatpay_certificate', $_,
             'has a serial or dates that cannot be read' ] }
         qw(noserial.pem negative.pem longer.pem from13.pem to13.pem)),
    [ 'wechatpay_certificate', 'nokey.pem',
      'has a public key that cannot be read' ],
    [ 'merchant_certificate', 'cert.der', $CERTIFICATE ],
    [ 'merchant_certificate', 'key.pem', $CERTIFICATE ],
    [ 'merchant_certificate', 'eccert.pem', $RSA ],
    [ 'merchant_certificate', 'smallcert.pem',
      'is not of 2048 to 4096 bits' ],
    [ 'merchant_key', 'key.der', $PRIVATE ],
    [ 'merchant_key', 'public.pem', $PRIVATE ],
    [ 'merchant_key', 'cert.pem', $PRIVATE ],
    [ 'merchant_key', 'locked.pem', $PRIVATE ],
    [ 'merchant_key', 'eckey.pem', $RSA ],
    [ 'merchant_key', 'smallkey.pem', 'is not of 2048 to 4096 bits' ],
);

for (@content) {
    my ($directive, $use, $what) = @$_;
    my $of = of($use);

    refused(MERCHANT => "$NUMBER$directive $use;",
            "invalid \"$directive\": $of $what");
}

# what a file error begins with: of a public key its id is a part

sub of {
    my ($id, $file) = $_[0] =~ /^(?:(\S+) )?(\S+)$/;

    return defined $id ? "key \"$id\" in \"%DIR%/$file\""
                       : "the content of \"%DIR%/$file\"";
}

refused(MERCHANT => "${NUMBER}wechatpay_public_key $_ public.pem;",
        'invalid "wechatpay_public_key": ' . of("$_ public.pem") . " $ID")
    for qw(01 PUB_KEY_ID_ pub_key_id_01 PUB_KEY_ID_+);


# the same key twice

my @twice = (
    [ 'api_v2_key_file', 'v2key', 'v2key' ],
    [ 'api_v3_key_file', 'v3key', 'v3key' ],
    [ 'wechatpay_public_key', 'PUB_KEY_ID_01 public.pem',
      'PUB_KEY_ID_01 public2.pem' ],
    [ 'wechatpay_certificate', 'cert.pem', 'cert.pem' ],
);

for (@twice) {
    my ($directive, $first, $second) = @$_;

    refused(MERCHANT => "$NUMBER$directive $first;\n$directive $second;",
            "invalid \"$directive\": " . of($second)
            . " is a duplicate: $ONE_OF_TWO");
}


# what a merchant lacks, of which its closing brace is told

my @lacks = (
    [ 'app_id wx1;', 'no "mch_id" in refund_merchant "other": add the '
      . 'merchant\'s number' ],
    [ "${NUMBER}merchant_certificate cert.pem;",
      'no "merchant_key" for the "merchant_certificate" in refund_merchant '
      . '"other": add the key that belongs to it' ],
    [ "${NUMBER}merchant_key key.pem;",
      'no "merchant_certificate" for the "merchant_key" in refund_merchant '
      . '"other": add the certificate that it belongs to' ],
    [ "${NUMBER}merchant_certificate cert.pem;\nmerchant_key key2.pem;",
      'the "merchant_key" of refund_merchant "other" does not belong to the '
      . 'merchant\'s certificate: take the apiclient_key.pem that came with '
      . 'it' ],
);

refused(HTTP => "refund_merchant other {\n$_->[0]\n} #!", $_->[1]) for @lacks;

# an api_v3_key_file without the key that verifies

my $UNVERIFIABLE = '"api_v3_key_file" without "wechatpay_public_key" or '
                   . '"wechatpay_certificate" in refund_merchant "%s": v3 '
                   . 'notifies are refused until one is added';

warned(HTTP => "refund_merchant other {\n${NUMBER}api_v3_key_file v3key;\n"
               . "api_v3_key_file v3key2;\napi_v2_key_file v2key;\n} #!",
       sprintf $UNVERIFIABLE, 'other');


# dates

my $SOON = 'certificate "%DIR%/soon.pem" expires in 29 days: renew it';
my $EXPIRED = 'certificate "%DIR%/expired.pem" expired 10 days ago: put a new '
              . 'one in its place';
my $NOT_YET = 'certificate "%DIR%/notyet.pem" is not valid yet: check the '
              . 'file and this machine\'s clock';
my $V3_KEY = "${NUMBER}api_v3_key_file v3key;\n";

warned(MERCHANT => "${V3_KEY}wechatpay_certificate soon.pem;", $SOON);
warned(MERCHANT => "${V3_KEY}wechatpay_certificate expired.pem;", $EXPIRED);
warned(MERCHANT => "${V3_KEY}wechatpay_certificate notyet.pem;", $NOT_YET);
warned(MERCHANT => "$good{MERCHANT}\nmerchant_certificate soon.pem; #!\n"
                   . 'merchant_key key.pem;', $SOON);
refused(MERCHANT => "${NUMBER}merchant_certificate expired.pem;", $EXPIRED);
refused(MERCHANT => "${NUMBER}merchant_certificate notyet.pem;", $NOT_YET);


# secrets that others can read

sub readable {
    my ($file) = @_;

    return "secret file \"%DIR%/$file\" can be read by every user of this "
           . 'machine: take the permission away from others (chmod o-r)';
}

warned(MERCHANT => "${NUMBER}api_v2_key_file open;", readable('open'));
warned(MERCHANT => "${V3_KEY}api_v3_key_file open; #!\n"
                   . 'wechatpay_public_key PUB_KEY_ID_01 public.pem;',
       readable('open'));
warned(MERCHANT => "$good{MERCHANT}\nmerchant_certificate cert.pem;\n"
                   . 'merchant_key openkey.pem;', readable('openkey.pem'));
warned(SERVER => 'refund_notify_signing_key_file opensec;',
       readable('opensec'));
warned(HTTP => 'refund_store r redis://127.0.0.1 password_file=open;',
       readable('open'));


# refund_merchant itself

my $BAD_NAME = 'of a refund_merchant: use 1 to 64 letters, digits, "_", "-" or '
               . '"."';

refused(HTTP => "refund_merchant $_->[0] { #!\nmch_id 1;\n}",
        "invalid name \"$_->[1]\" $BAD_NAME")
    for [ '""', '' ], [ '"a b"', 'a b' ], [ 'a/b', 'a/b' ], [ 'a~b', 'a~b' ],
        [ 'a' x 65, 'a' x 65 ], [ '$name', '$name' ];
refused(HTTP => "refund_merchant shop { #!\nmch_id 1;\n}",
        'duplicate refund_merchant "shop": rename or remove one of the two');
refused(HTTP => "refund_merchant { #!\n}",
        "$ARGUMENTS \"refund_merchant\" directive");
refused(HTTP => "refund_merchant a b { #!\n}",
        "$ARGUMENTS \"refund_merchant\" directive");
refused(HTTP => 'refund_merchant a;',
        'directive "refund_merchant" has no opening "{"');
refused(HTTP => "refund_merchant a {\nmch_id 1;\nb { #!\n}\n}",
        'unexpected "{"');
refused($_ => "refund_merchant a { #!\n}",
        '"refund_merchant" directive is not allowed here')
    for qw(SERVER LOCATION);


# refund_store

sub store {
    my ($use, $message) = @_;

    return refused(HTTP => "refund_store $use;", $message);
}

my $BAD_STORE = 'of refund_store: it must be 1 to 64 letters, digits, "_", '
                . '"-" or "."';
my $SIZE = 'in refund_store "s": the size must be at least 64k, e.g. '
           . '"shm:10m"';
my $SCHEME = 'unknown scheme in the URL of refund_store "s": it must be '
             . '"shm:SIZE", "redis://HOST:PORT", "redis://unix:/PATH", '
             . '"redis+sentinel://" or "redis+cluster://", with "rediss" for '
             . 'TLS';
my $REDIS = 's redis://127.0.0.1:6379';

store($_, "$ARGUMENTS \"refund_store\" directive") for '', 's';
store("$_->[0] shm:1m", "invalid name \"$_->[1]\" $BAD_STORE")
    for [ '""', '' ], [ '"a b"', 'a b' ], [ 'a:b', 'a:b' ], [ 'a~b', 'a~b' ],
        [ '(default)', '(default)' ], [ 'a' x 65, 'a' x 65 ];
store("s shm:1m;\nrefund_store s shm:2m", 'duplicate refund_store "s": '
      . 'rename or remove one of the two');
store("s $_", "\"$_\" $SIZE")
    for qw(shm: shm:x shm:0 shm:63k shm:1kb shm:-1m);
store("s $_", $SCHEME)
    for qw(local shm http://127.0.0.1 127.0.0.1:6379 REDIS://h);
store("s shm:1m timeout=1s", '"timeout=" in refund_store "s" does not apply to '
                             . '"shm:": remove it');
store("s shm:1m cache=off", '"cache=" in refund_store "s" does not apply to '
                            . '"shm:": remove it');
store("$REDIS $_->[0]", "unknown parameter \"$_->[1]\" in refund_store \"s\": "
      . 'remove it or mend its name; a password is in a "password_file="')
    for [ 'verbose', 'verbose' ], [ 'password=secret', 'password=' ];
store("$REDIS timeout=1s timeout=1s",
      "\"timeout=\" is given twice in refund_store \"s\": $ONE_OF_TWO");
store("$REDIS timeout=", '"timeout=" in refund_store "s" has no value: '
                          . 'remove it or give it one');
store("$REDIS timeout=$_", "\"timeout=$_\" in refund_store \"s\": must be "
                           . 'between 1ms and 10s')
    for qw(x 0 0ms 10001ms 1h);
store("$REDIS cache=$_", "\"cache=$_\" in refund_store \"s\": must be \"off\" "
                         . 'or a size of at least 64k') for qw(on x 0 1k);
store("$REDIS user=edge",
      '"user=" in refund_store "s" needs "password_file="');
store("$REDIS password_file=missing",
      'open() "%DIR%/missing" failed (2: No such file or directory)');
store("$REDIS password_file=empty", "\"%DIR%/empty\" $EMPTY");
store("$REDIS \"prefix=$_\"", "\"prefix=$_\" in refund_store \"s\": must be at "
      . 'most 64 printable ASCII characters other than space, "{" and "}"')
    for 'a{b', 'a}b', 'a b', "a\x7fb", 'x' x 65;
store("s redis://:secret\@127.0.0.1", 'the URL of refund_store "s" holds a '
      . 'user or password: put the user into "user=", and the password into '
      . 'a file that "password_file=" names');
store("s redis://127.0.0.1/$_", "invalid database \"$_\" in refund_store "
      . '"s": must be a number between 0 and 65535') for qw(x 65536 -1 0/1);
store("s redis://127.0.0.1:$_", 'invalid port in the URL of refund_store "s"')
    for qw(x 0 65536);
store("$REDIS $_=x", "\"$_=\" in refund_store \"s\" does not apply to this "
                     . 'URL: remove it') for qw(ca cert key server_name);
store('s rediss://127.0.0.1', 'TLS in the URL of refund_store "s" needs '
      . 'hiredis 1.0 or newer with its TLS library, which this module was '
      . 'built without: build it where that is, as on Debian 13, or have a TLS '
      . 'proxy on this machine, e.g. stunnel, talk to Redis, and name that '
      . 'with "redis:"')
    if !RefundNotify::Test::Nginx::has_tls_to_redis();
store("$REDIS $_=x", "\"$_=\" in refund_store \"s\" does not apply to this "
                     . 'URL: remove it')
    for qw(sentinel_user sentinel_password_file);
store("s redis+sentinel://127.0.0.1$_", 'the URL of refund_store "s" names no '
      . 'master: it must be "redis+sentinel://HOST:PORT,.../MASTER"')
    for '', '/', '//0';
store("s redis+sentinel://127.0.0.1/$_", "invalid name \"$_\" of the master in "
      . 'the URL of refund_store "s": it must be 1 to 255 letters, digits, '
      . '"_", "-" or "."') for 'a:b', 'a^b', 'a~b', 'x' x 256;
store("s redis+sentinel://127.0.0.1/m/$_", "invalid database \"$_\" in "
      . 'refund_store "s": must be a number between 0 and 65535')
    for qw(x 65536 -1 0/1);
store('s redis+sentinel://127.0.0.1/m/1 database=1', 'refund_store "s" has a '
      . 'database in its URL and in "database=": remove one');
store('s redis+sentinel://127.0.0.1/m sentinel_user=edge', '"sentinel_user=" '
      . 'in refund_store "s" needs "sentinel_password_file="');
store('s redis+sentinel://127.0.0.1/m sentinel_password_file=missing',
      'open() "%DIR%/missing" failed (2: No such file or directory)');
store("s redis+cluster://127.0.0.1$_", 'refund_store "s" names a database, '
      . 'but a Redis Cluster has only one: remove it')
    for '/1', ' database=1';
store("s redis+cluster://127.0.0.1/x", 'invalid database "x" in refund_store '
      . '"s": must be a number between 0 and 65535');

for my $several ([ 'redis+sentinel://', '/m' ], [ 'redis+cluster://', '' ]) {
    my ($scheme, $path) = @$several;

    store("s $scheme$_$path", 'a host is missing in the URL of refund_store '
          . '"s"') for '', ',', '127.0.0.1:1,', ',127.0.0.1', '127.0.0.1,,127.0.0.2';
    store("s ${scheme}127.0.0.1:7,127.0.0.2,127.0.0.1:7$path",
          '"127.0.0.1:7" stands twice in the URL of refund_store "s"');
    store("s $scheme" . join(',', map { "127.0.0.1:$_" } 1 .. 17) . $path,
          'the URL of refund_store "s" has more than 16 hosts: some are '
          . 'enough to find the others');
    store("s ${scheme}127.0.0.1:x$path", 'invalid port in the URL of '
          . 'refund_store "s"');
    store("s ${scheme}me:secret\@127.0.0.1$path", 'the URL of refund_store "s" '
          . 'holds a user or password: put the user into "user=", and the '
          . 'password into a file that "password_file=" names');
    store("s ${scheme}unix:/run/redis.sock$path", 'the URL of refund_store "s" '
          . 'names a Unix socket, which other machines cannot reach: name '
          . 'hosts and ports');
}

store("$REDIS min_replicas=$_", "\"min_replicas=$_\" in refund_store \"s\": "
      . 'must be between 1 and 16') for qw(0 17 x -1);
store('s redis://unix:', 'no path in the unix domain socket in the URL of '
                         . 'refund_store "s"');
refused($_ => 'refund_store s shm:1m;',
        '"refund_store" directive is not allowed here') for qw(SERVER LOCATION);


# the directives of refund_notify: how many arguments, where, twice

my $PASS = 'refund_notify_pass /internal/refunds;';
my $NOTIFY = "refund_notify shop;\n$PASS";
my %value = (
    refund_notify_accept => 'v3', refund_notify_ack => 'code',
    refund_notify_clock_skew => '300s', refund_notify_deadline => '4s',
    refund_notify_delivery_timeout => '60s', refund_notify_lease => '10s',
    refund_notify_max_body_size => '64k', refund_notify_retain => '72h',
    refund_notify_signing_key_file => 'whsec',
    refund_notify_store => 'main', refund_notify_store_error => 'fail',
);

for my $directive (sort keys %value) {
    my $use = "$directive $value{$directive}";
    my $many = $directive eq 'refund_notify_accept' ? "$use v2 v3"
                                                    : "$use x";

    refused(SERVER => "$directive;", "$ARGUMENTS \"$directive\" directive");
    refused(SERVER => "$many;", "$ARGUMENTS \"$directive\" directive");
    refused(LAST => "}\n$use; #!\nmap_hash_max_size 64; http {",
            "\"$directive\" directive is not allowed here");

    next if $directive =~ /accept|signing_key_file/;

    refused(LOCATION => "$NOTIFY\n$use;\n$use;",
            "\"$directive\" directive is duplicate");
}

for my $directive (qw(refund_notify refund_notify_pass)) {
    refused(LOCATION => "$directive;", "$ARGUMENTS \"$directive\" directive");
    refused(LOCATION => "$directive a b c;",
            "$ARGUMENTS \"$directive\" directive");
    refused($_ => "$directive /x;",
            "\"$directive\" directive is not allowed here")
        for qw(HTTP SERVER);
    refused(LOCATION => "$NOTIFY\nif (\$arg_x) {\n$directive /x; #!\n}",
            "\"$directive\" directive is not allowed here");
}

refused(LOCATION => "$NOTIFY\nrefund_notify shop;",
        '"refund_notify" directive is duplicate');


# refund_status

my $ALONE = 'in this location: give it a location of its own';

refused(LOCATION => 'refund_status on;',
        "$ARGUMENTS \"refund_status\" directive");
refused(LOCATION => "refund_status;\nrefund_status;",
        '"refund_status" directive is duplicate');
refused($_ => 'refund_status;',
        '"refund_status" directive is not allowed here') for qw(HTTP SERVER);
refused(LOCATION => "$_\nrefund_status;",
        "\"refund_status\" directive conflicts with a directive before it "
        . $ALONE)
    for $NOTIFY, 'proxy_pass http://127.0.0.1:%%PORT_APP%%;';
refused(LOCATION => "refund_status; #!\nproxy_pass http://127.0.0.1;",
        "\"refund_status\" conflicts with a directive after it $ALONE");
says('more stores than refund_status can tell of',
     { HTTP => join("\n", map { "refund_store s$_ shm:64k;" } 1 .. 65),
       LOCATION => 'refund_status; #!' },
     'warn "refund_status" tells of 64 stores only');


# their values

for my $directive (qw(deadline delivery_timeout lease retain clock_skew)) {
    my $name = "refund_notify_$directive";

    refused(LOCATION => "$NOTIFY\n$name $_;",
            "\"$name\" directive invalid value") for qw(x 1.5s);
}

refused(LOCATION => "$NOTIFY\nrefund_notify_max_body_size $_;",
        '"refund_notify_max_body_size" directive invalid value')
    for qw(x 1t -1);
refused(LOCATION => "$NOTIFY\nrefund_notify_max_body_size $_;",
        'value must be between 1024 and 1048576') for qw(0 1023 1048577 2m);
refused(LOCATION => "$NOTIFY\nrefund_notify_store_error maybe;",
        'invalid value "maybe"');
refused(LOCATION => "$NOTIFY\nrefund_notify_ack body;",
        'invalid value "body"');
refused(LOCATION => "$NOTIFY\nrefund_notify_accept v1;",
        'invalid value "v1"');
refused(LOCATION => "$NOTIFY\nrefund_notify_store \"\";",
        '"refund_notify_store" directive has an empty store\'s name: name a '
        . 'refund_store');
refused(LOCATION => "refund_notify \"\";\n$PASS" =~ s/;/; #!/r,
        '"refund_notify" directive has an empty merchant\'s name: name a '
        . 'refund_merchant');

sub passes {
    my ($use, $message) = @_;

    return refused(LOCATION => "refund_notify shop;\n"
                               . "refund_notify_pass $use;", $message);
}

my $URI = 'in "refund_notify_pass": it must begin with "/"; a named location '
          . 'cannot take deliveries';
my $TARGET = 'in "refund_notify_pass": use 1 to 255 characters without white '
             . 'space';

passes($_->[0], "invalid URI \"$_->[1]\" $URI")
    for [ '@named', '@named' ], [ 'refunds', 'refunds' ], [ '""', '' ],
        [ 'http://127.0.0.1/', 'http://127.0.0.1/' ];
passes('/a b', 'invalid parameter "b" of "refund_notify_pass", only "name=" '
               . 'is known');
passes('/a Name=b', 'invalid parameter "Name=b" of "refund_notify_pass", only '
                    . '"name=" is known');
passes("/a \"name=$_\"", "invalid name \"$_\" $TARGET")
    for '', 'a b', "a\x7fb", 'a' x 256;
passes("/a;\nrefund_notify_pass /a",
       'duplicate target "/a" in "refund_notify_pass": each needs a URI and a '
       . 'name of its own');
passes("/a name=x;\nrefund_notify_pass /b name=x",
       'duplicate target "x" in "refund_notify_pass": each needs a URI and a '
       . 'name of its own');
passes("/a name=x;\nrefund_notify_pass /a name=y",
       'duplicate target "y" in "refund_notify_pass": each needs a URI and a '
       . 'name of its own');
passes("/a;\nrefund_notify_pass /b name=/a",
       'duplicate target "/a" in "refund_notify_pass": each needs a URI and a '
       . 'name of its own');


# keys of Standard Webhooks

my $LENGTH = 'is not the base64 of 24 to 64 bytes after "whsec_": make a new '
             . 'one with openssl rand -base64 32';

refused(SERVER => "refund_notify_signing_key_file $_->[0];", $_->[1])
    for [ 'missing', 'open() "%DIR%/missing" failed (2: No such file or '
          . 'directory)' ],
        [ 'fifo', "\"%DIR%/fifo\" $NO_FILE" ],
        [ 'empty', "\"%DIR%/empty\" $EMPTY" ],
        (map { [ $_, "the signing key in \"%DIR%/$_\" does not begin with "
                 . '"whsec_": add that before its base64' ] }
             qw(nowhsec halfwhsec)),
        map { [ $_, "the signing key in \"%DIR%/$_\" $LENGTH" ] }
            qw(whsec23 whsec65 whsec96 whsecbad);


# what does not go together

refused(LOCATION => $PASS,
        '"refund_notify_pass" without "refund_notify" in its location: name '
        . 'the merchant there');
refused(LOCATION => 'refund_notify shop;',
        '"refund_notify" without "refund_notify_pass": name the location that '
        . 'leads to the business app');
refused(LOCATION => "refund_notify nobody; #!\n$PASS",
        'unknown merchant "nobody" in "refund_notify": add a "refund_merchant '
        . 'nobody { }" to http');
refused(LOCATION => "$NOTIFY\nrefund_notify_store nowhere;",
        'unknown store "nowhere" in "refund_notify_store": add a '
        . '"refund_store nowhere ..." to http');
refused(SERVER => 'refund_notify_store nowhere;',
        'unknown store "nowhere" in "refund_notify_store": add a '
        . '"refund_store nowhere ..." to http');
refused(LOCATION => "proxy_pass http://127.0.0.1:1;\nrefund_notify shop; #!\n"
                    . $PASS,
        '"refund_notify" directive stands in a location whose requests another '
        . 'directive answers: give each its own');
refused(LOCATION => "refund_notify shop; #!\n$PASS\n"
                    . 'proxy_pass http://127.0.0.1:1;',
        '"refund_notify" and another directive both answer the requests of one '
        . 'location: give each its own');

my $V2_LACKS = '"refund_notify_accept v2", but merchant "shop" has no '
               . '"api_v2_key_file": add it, or take "v2" away';
my $V3_LACKS = '"refund_notify_accept v3", but merchant "shop" lacks an '
               . '"api_v3_key_file", or a "wechatpay_public_key" or '
               . '"wechatpay_certificate": add it, or take "v3" away';
my $V3_ONLY = "${V3_KEY}wechatpay_public_key PUB_KEY_ID_01 public.pem;";
my $USE = "refund_notify shop;\n$PASS\n";
my $MARKED = "refund_notify shop; #!\n$PASS\n";

my @accept = (
    [ $V3_ONLY, 'v2', $V2_LACKS ],
    [ $V3_ONLY, 'v2 v3', $V2_LACKS ],
    [ "${NUMBER}api_v2_key_file v2key;", 'v3', $V3_LACKS ],
    [ "${NUMBER}api_v2_key_file v2key;", 'v2 v3', $V3_LACKS ],
    [ "${NUMBER}wechatpay_public_key PUB_KEY_ID_01 public.pem;", 'v3',
      $V3_LACKS ],
);

for (@accept) {
    my ($merchant, $accept, $message) = @$_;

    says("refund_notify_accept $accept: $merchant" =~ s/\n/ /gr,
         { MERCHANT => $merchant,
           LOCATION => "${USE}refund_notify_accept $accept; #!" },
         "emerg $message");
}

my $NO_KEYS = 'merchant "shop" of "refund_notify" has no keys: add an '
              . '"api_v2_key_file", or an "api_v3_key_file" and a '
              . '"wechatpay_public_key"';

says("no keys: $_" =~ s/\n/ /gr, { MERCHANT => $_, LOCATION => $MARKED },
     "emerg $NO_KEYS")
    for $NUMBER, "${NUMBER}wechatpay_certificate cert.pem;";

# its closing brace is told of what is missing, too

my $V3_ALONE = "$V3_KEY} #!\nrefund_merchant other {\n$NUMBER";

says("an APIv3 key alone: $_->[0]" =~ s/\n/ /gr,
     { MERCHANT => $V3_ALONE, LOCATION => $_->[0] },
     'warn ' . sprintf($UNVERIFIABLE, 'shop'),
     "emerg $_->[1] in %DIR%/test.conf:LINE2")
    for [ $MARKED, $NO_KEYS ],
        [ "${USE}refund_notify_accept v3; #!", $V3_LACKS ];


# times

my $SKEW = 'clock_skew" must be between 1s and 1h, WeChat Pay says 300s';

my @times = (
    (map { [ "$_ 0; #!", "$_\" must be more than 0" ] }
         qw(deadline delivery_timeout)),
    [ 'clock_skew 0; #!', $SKEW ],
    [ 'clock_skew 3601s; #!', $SKEW ],
    [ 'lease 0; #!', 'lease" (0ms) must be at least 1s' ],
    [ 'lease 999ms; #!', 'lease" (999ms) must be at least 1s' ],
    [ 'retain 10s; #!', 'retain" (10000ms) must be longer than '
      . '"refund_notify_lease" (10000ms)' ],
    [ 'retain 0; #!', 'retain" (0ms) must be longer than "refund_notify_lease" '
      . '(10000ms)' ],
    [ "lease 2s;\nrefund_notify_retain 1999ms; #!",
      'retain" (1999ms) must be longer than "refund_notify_lease" (2000ms)' ],
    [ 'retain 366d; #!', 'retain" (31622400000ms) must be at most 365d' ],
    [ "lease 1004ms; #!\nrefund_notify_store r;",
      'lease" (1004ms) must be at least 5 times the timeout of store "r" '
      . '(201ms)' ],
);

for (@times) {
    my ($use, $message) = @$_;

    says("refund_notify_$use" =~ s/\n/ /gr,
         { HTTP => "refund_store r redis://127.0.0.1 timeout=201ms;",
           LOCATION => "${USE}refund_notify_$use" },
         "emerg \"refund_notify_$message");
}

says('a lease by default that is too short for its store',
     { HTTP => 'refund_store slow redis://127.0.0.1 timeout=2001ms;',
       LOCATION => "${MARKED}refund_notify_store slow;" },
     'emerg "refund_notify_lease" (10000ms) must be at least 5 times the '
     . 'timeout of store "slow" (2001ms)');

says('a time to remember by default that is shorter than the lease',
     { LOCATION => "${MARKED}refund_notify_lease 73h;" },
     'emerg "refund_notify_retain" (259200000ms) must be longer than '
     . '"refund_notify_lease" (262800000ms)');

my $DEADLINE = '"refund_notify_deadline" (4501ms) is more than 4.5s: WeChat '
               . 'Pay waits 5s, the answer may come too late';
my $LEASE = '"refund_notify_lease" (15001ms) is more than 15s: after a crash '
            . 'WeChat Pay\'s first repeats will be refused';
my $RETAIN = '"refund_notify_retain" (89999999ms) is less than 25h: WeChat Pay '
             . 'repeats for 24h 4m, a late repeat would be delivered again';

warned(LOCATION => "${USE}refund_notify_deadline 4501ms;", $DEADLINE);
warned(LOCATION => "${USE}refund_notify_lease 15001ms;", $LEASE);
warned(LOCATION => "${USE}refund_notify_retain 89999999ms;", $RETAIN);
says('all three times, inherited',
     { HTTP => 'refund_notify_deadline 4501ms; #!',
       SERVER => "refund_notify_lease 15001ms; #!\n"
                 . 'refund_notify_retain 89999999ms; #!',
       LOCATION => $USE },
     "warn $DEADLINE in %DIR%/test.conf:LINE1",
     "warn $LEASE in %DIR%/test.conf:LINE2",
     "warn $RETAIN in %DIR%/test.conf:LINE3");


# one store and target in two servers

sub second_server {
    my ($path, $lines) = @_;

    return "server {\nlisten 127.0.0.1:%%PORT%%;\nserver_name second;\n"
           . "location = $path {\nrefund_notify shop;\n$lines\n}\n}";
}

my $BOTH = 'of store "%s" stands in another server too, in '
           . '%%DIR%%/test.conf:LINE1: what one has delivered is a duplicate '
           . 'to the other; give them names of their own (name=) if that is '
           . 'not meant in %%DIR%%/test.conf:LINE2';
my $FIRST = "refund_notify shop;\n$PASS #!";

says('one default store and target in two servers',
     { LOCATION => $FIRST, LAST => second_server('/n', "$PASS #!") },
     'warn target "/internal/refunds" ' . sprintf($BOTH, '(default)'));
says('one store and name in two servers',
     { HTTP => 'refund_store main shm:1m;',
       LOCATION => "refund_notify shop;\nrefund_notify_store main;\n"
                   . 'refund_notify_pass /a name=x; #!',
       LAST => second_server('/n', "refund_notify_store main;\n"
                             . 'refund_notify_pass /b name=x; #!') },
     'warn target "x" ' . sprintf($BOTH, 'main'));


# What is right draws nothing.

my @right = (
    [ 'the least' => {} ],
    [ 'v2 only', { MERCHANT => "${NUMBER}api_v2_key_file v2key;" } ],
    [ 'v3 only', { MERCHANT => $V3_ONLY } ],
    [ 'keys of every kind, several of each',
      { MERCHANT => "app_id wx1 wx2;\napp_id wx3;\n$NUMBER"
        . "sub_mch_id 1 2;\nsub_mch_id *;\n"
        . "api_v2_key_file v2key;\napi_v2_key_file v2key2;\n"
        . "api_v3_key_file v3key;\napi_v3_key_file v3key2;\n"
        . "api_v2_sign_type MD5;\n"
        . "wechatpay_public_key PUB_KEY_ID_01 public.pem;\n"
        . "wechatpay_public_key PUB_KEY_ID_02 public2.pem;\n"
        . "wechatpay_public_key PUB_KEY_ID_03 pkcs1.pem;\n"
        . "wechatpay_certificate cert.pem;\n"
        . "wechatpay_certificate cert2.pem;\n"
        . "wechatpay_certificate longest.pem;\n"
        . "merchant_certificate enough.pem;\nmerchant_key key.pem;" } ],
    [ 'a key file that the group can read',
      { MERCHANT => "${NUMBER}api_v2_key_file group;" } ],
    [ 'a certificate of 30 days and a half',
      { MERCHANT => "${V3_KEY}wechatpay_certificate enough.pem;" } ],
    [ 'absolute names',
      { MERCHANT => "${NUMBER}api_v2_key_file %%DIR%%/v2key;" } ],
    [ 'the merchant and the store last',
      { LOCATION => "refund_notify later;\n$PASS\nrefund_notify_store last;",
        LAST => "refund_merchant later {\n$good{MERCHANT}\n}\n"
                . 'refund_store last shm:64k;' } ],
    [ 'names of every character', { HTTP =>
        "refund_merchant a.B-c_9 {\n$good{MERCHANT}\n}\n"
        . 'refund_store a.B-c_9 shm:1m;' } ],
    [ 'every kind of store', { HTTP => join "\n", map { "refund_store $_;" }
        'a shm:64k', 'b redis://127.0.0.1', 'c redis://127.0.0.1:6380/1',
        'd redis://localhost/65535', 'e redis://[::1]:6379/0',
        'f unix:/run/redis.sock', 'g redis://unix:/run/redis.sock',
        'h redis://unix:/run/redis.sock:1',
        'i redis://127.0.0.1 user=edge password_file=v2key prefix=shop: '
        . 'timeout=100ms cache=1m database=2',
        'j redis://127.0.0.1 cache=off password_file=v2key',
        'k redis+sentinel://127.0.0.1,127.0.0.1:26380/My_master-1.a/2 '
        . 'sentinel_user=edge sentinel_password_file=v2key prefix=shop:',
        'l redis+sentinel://[::1]:5/m database=3 user=e password_file=v2key',
        'm redis+cluster://127.0.0.1:1,127.0.0.1:2/0 timeout=1s',
        'n redis+cluster://127.0.0.1:1,127.0.0.10:1',
        'o redis+cluster://' . join ',', map { "127.0.0.1:$_" } 1 .. 16 } ],
    [ 'every directive at its limits', { LOCATION => join "\n", $NOTIFY,
        'refund_notify_pass /b?x=1 name=second;',
        map { "refund_notify_$_;" } 'accept v2 v3', 'ack code',
        'clock_skew 1s', 'deadline 4500ms', 'delivery_timeout 1h',
        'lease 15s', 'max_body_size 1m', 'retain 25h', 'store_error pass',
        'signing_key_file whsec', 'signing_key_file whsec64' } ],
    [ 'a lease of five timeouts',
      { HTTP => 'refund_store r redis://127.0.0.1 timeout=2s;',
        LOCATION => "$NOTIFY\nrefund_notify_store r;" } ],
    [ 'variables', { LOCATION => "refund_notify \$host;\n"
        . 'refund_notify_pass /internal/$host name=x;' } ],
    [ 'a variable and a version', { LOCATION => "refund_notify \$host;\n"
        . "$PASS\nrefund_notify_accept v2;" } ],
    [ 'limit_except', { LOCATION => "$NOTIFY\nlimit_except POST {\n"
        . "deny all;\n}" } ],
    [ 'two servers, each with names of its own',
      { LAST => second_server('/n', "refund_notify_pass /b;\n"
                              . 'refund_notify_pass /internal/refundz;') } ],
    [ 'two servers, each with a store of its own',
      { HTTP => 'refund_store main shm:1m;',
        LAST => second_server('/n', "$PASS\nrefund_notify_store main;") } ],
    [ 'two locations of one server and target',
      { LAST => '', SERVER => "location = /n {\n$NOTIFY\n}" } ],
    [ 'refund_status', { LOCATION => 'refund_status;' } ],
    [ 'nothing of ours', { MERCHANT => $NUMBER, LOCATION => 'return 204;' } ],
);

says("$_->[0] is right", $_->[1]) for @right;


# What is read when the configuration is tested is in no message.

no_secrets($nginx, grep { length >= 24 } @file{qw(v2key key31 key33)},
           map { substr $_, 6, 32 } @file{qw(whsec whsec23 whsec65)});

done_testing;
