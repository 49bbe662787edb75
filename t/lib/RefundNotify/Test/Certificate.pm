package RefundNotify::Test::Certificate;

# RSA keys, and certificates with any serial number and dates.
#
#   rsa_key($name)                 a 2048 bit Crypt::PK::RSA, made once a name
#   keep_keys($dir)                from now on made once and for all: in files of
#                                  this directory
#   certificate($key, serial => $hex, negative => 1, name => $common_name,
#               from => $epoch, to => $epoch, issuer => $key,
#               issuer_name => $common_name, authority => 1,
#               hosts => [ $name_or_ipv4, ... ])
#                                  a certificate's PEM; the serial's first bit
#                                  is a sign if negative; valid from yesterday
#                                  for five years, self-signed unless it has an
#                                  issuer; an authority may issue others, a
#                                  server's is good for these hosts

use strict;
use warnings;

use Crypt::PK::RSA;
use Exporter 'import';
use MIME::Base64 qw(decode_base64 encode_base64);
use POSIX ();

use RefundNotify::Test::Util qw(write_file);

our @EXPORT_OK = qw(rsa_key keep_keys certificate);

my (%keys, $kept);


sub rsa_key {
    my ($name) = @_;

    return $keys{$name} //= do {
        my $file = defined $kept ? "$kept/" . ($name =~ s/[^\w.-]/_/gr) . '.key'
                                 : undef;
        my $known = defined $file && -s $file;
        my $key = Crypt::PK::RSA->new($known ? $file : ());

        if (!$known) {
            $key->generate_key(256, 65537);
            write_file($file, $key->export_key_pem('private'), 0600)
                if defined $file;
        }

        $key;
    };
}


sub keep_keys {
    ($kept) = @_;

    return;
}


sub certificate {
    my ($key, %option) = @_;

    my $from = $option{from} // time - 86400;
    my $to = $option{to} // time + 5 * 365 * 86400;

    # sha256WithRSAEncryption; the name is a common name only

    my $algorithm = der(0x30, pack('H*', '06092a864886f70d01010b0500'));
    my $subject = $option{name} // 'Tenpay.com Root CA';
    my $issuer = $option{issuer_name} // $subject;
    my ($issued_by, $issued_to) = map {
        der(0x30, der(0x31, der(0x30, pack('H*', '0603550403')
                                      . der(0x0c, $_))))
    } $issuer, $subject;
    my $spki = decode_base64($key->export_key_pem('public_x509')
                             =~ s/^-.*\n//mgr);

    my $serial = pack 'H*', $option{serial};
    $serial = "\0$serial" if ord($serial) & 0x80 && !$option{negative};

    # the extension is basicConstraints, critical, with CA set

    # and subjectAltName, with DNS names and addresses

    my $extensions = join '',
        $option{authority} ? der(0x30, pack('H*', '0603551d130101ff'
                                                  . '040530030101ff')) : (),
        $option{hosts}
            ? der(0x30, pack('H*', '0603551d11')
                        . der(0x04, der(0x30, join '', map {
                              /^[\d.]+\z/ ? der(0x87, pack('C4', split /\./))
                                          : der(0x82, $_) }
                              @{ $option{hosts} })))
            : ();

    $extensions = der(0xa3, der(0x30, $extensions)) if length $extensions;

    my $body = der(0x30, der(0xa0, der(0x02, "\2")) . der(0x02, $serial)
                   . $algorithm . $issued_by
                   . der(0x30, date($from) . date($to)) . $issued_to . $spki
                   . $extensions);
    my $signature = ($option{issuer} // $key)->sign_message($body, 'SHA256',
                                                            'v1.5');

    return "-----BEGIN CERTIFICATE-----\n"
           . encode_base64(der(0x30, $body . $algorithm
                               . der(0x03, "\0$signature")))
           . "-----END CERTIFICATE-----\n";
}


sub der {
    my ($tag, $content) = @_;

    my $n = length $content;

    return pack('C', $tag)
           . ($n < 128 ? pack 'C', $n : $n < 256 ? pack 'CC', 0x81, $n
                                                 : pack 'Cn', 0x82, $n)
           . $content;
}


sub date {
    my ($epoch) = @_;

    return der(0x17, POSIX::strftime('%y%m%d%H%M%SZ', gmtime $epoch));
}


1;
