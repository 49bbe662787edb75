#!/usr/bin/perl

# Two implementations of the protocol over the fuzzer's corpora: src/wechatpay,
# by the program judge, and Perl: CryptX, XML::LibXML and JSON::PP.  Perl wraps
# each input as its target does, encrypts and signs it.  What we take, Perl takes
# too, and every value that it has is in what we make of it, and none besides;
# what Perl takes and we refuse has a reason in a table here, and the reason
# holds.  FUZZ_CORPUS is another directory than t/fuzz/corpus.

use strict;
use warnings;

use Test::More;

use Crypt::AuthEnc::GCM qw(gcm_decrypt_verify gcm_encrypt_authenticate);
use Crypt::Mode::ECB;
use Crypt::PK::RSA;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(hmac_sha256_hex);
use Encode qw(decode encode_utf8);
use JSON::PP;
use MIME::Base64 qw(decode_base64 encode_base64);
use RefundNotify::Test::Certificate qw(rsa_key);
use RefundNotify::Test::Util qw(read_file scratch_dir write_file);
use XML::LibXML;

my $corpus = $ENV{FUZZ_CORPUS} || 't/fuzz/corpus';
my $judge = $ENV{FUZZ_JUDGE} || 'build/fuzz/judge';

# what fuzz.h and judge.c have

my $KEY = '0123456789abcdefghijKLMNOPQRSTUV';
my $MCH_ID = '1900000109';
my $APP_ID = 'wxd930ea5d5a258f4f';
my $SERIAL = 'PUB_KEY_ID_0119000001092024070100000000000001';
my $NOW = 1528425296;
my $MAX_FIELDS = 256;

my $rsa = rsa_key($SERIAL);
my $ecb = Crypt::Mode::ECB->new('AES', 1);
my $json = JSON::PP->new->utf8->allow_nonref->allow_bignum->canonical;
my $libxml = XML::LibXML->new(no_network => 1, load_ext_dtd => 0,
                              expand_entities => 0);
my $id = qr/^[\x21-\x7e]{1,64}$/;
my $time = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[-+]\d\d:\d\d)$/;

my %V2_STATUS = (SUCCESS => 'SUCCESS', CHANGE => 'ABNORMAL',
                 REFUNDCLOSE => 'CLOSED');
my %FUNDS = (REFUND_SOURCE_RECHARGE_FUNDS => 'AVAILABLE',
             REFUND_SOURCE_UNSETTLED_FUNDS => 'UNSETTLED');

# names of the provider's: where they are in the event

my %V2 = (
    (map { $_ => $_ } qw(transaction_id out_trade_no refund_id out_refund_no
                         success_time)),
    refund_status => 'status', refund_recv_accout => 'user_received_account',
    refund_account => 'funds_account', refund_request_source =>
    'request_source',
);
my %V2_MONEY = (total_fee => 'total', refund_fee => 'refund',
                settlement_total_fee => 'settlement_total',
                settlement_refund_fee => 'settlement_refund');
my %V3 = (
    (map { $_ => $_ } qw(transaction_id out_trade_no refund_id out_refund_no
                         success_time user_received_account funds_account)),
    mchid => 'mch_id', sp_mchid => 'mch_id', sub_mchid => 'sub_mch_id',
    appid => 'app_id', sub_appid => 'sub_app_id', refund_status => 'status',
);
my %V3_ANSWER = (%V3, (map { $_ => $_ } qw(status channel create_time)));
delete $V3_ANSWER{refund_status};


# Why we refuse what Perl takes: by our own word, whether that is so of what
# Perl has read, which is given with its text.

my %XML_STRICTER = (
    'a DOCTYPE in the XML' => sub { $_[0]->internalSubset },
    'a processing instruction in the XML' =>
        sub { $_[0]->findnodes('//processing-instruction()')->size },
    'an attribute or a namespace in the XML' =>
        sub { $_[0]->findnodes('//@*')->size || $_[1] =~ /<[^!?>][^<>]*[=:]/ },
    'an element within a field of the XML' =>
        sub { $_[0]->findnodes('/*/*/*')->size },
    'text between the fields of the XML' =>
        sub { grep { $_->data =~ /[^ \t\r\n]/ }
                   $_[0]->findnodes('/*/text()') },
    'a repeated field in the XML' =>
        sub { my %n; grep { $n{ $_->nodeName }++ } $_[0]->findnodes('/*/*') },
    'too many fields in the XML' =>
        sub { $_[0]->findnodes('/*/*')->size > 64 },
    'the XML is not UTF-8' =>
        sub { !eval { decode('UTF-8', my $text = $_[1], Encode::FB_CROAK) }
              || $_[1] =~ /^\xef\xbb\xbf/ },
);

my %JSON_STRICTER = (
    'the JSON is malformed' =>
        sub { $_[1] =~ /\\u0000|\\ud[89a-f]|[\x80-\xff]|\d{16}|\d[eE]/i },
    'a repeated member in the JSON' => sub { repeated($_[1]) },
    'the JSON is nested too deep' => sub { $_[1] =~ /(?:[\[{][^\[{]*){33}/ },
    'the JSON is not an object' => sub { ref $_[0] ne 'HASH' },
);

my %REFUND_STRICTER = (
    'mch_id is missing' => sub { !length($_[0]{mch_id} // '') },
    'mch_id is not a string' => sub { 1 },
    'mch_id is not the merchant\'s' =>
        sub { ($_[0]{mch_id} // '') ne $MCH_ID
              || ($_[0]{sp_mchid} // $MCH_ID) ne $MCH_ID
              || ($_[0]{mchid} // $MCH_ID) ne $MCH_ID },
    'appid or sub_appid is of another form' => of_another_form(
        qw(appid sub_appid)),
    'appid is none of the merchant\'s' =>
        sub { ($_[0]{appid} // '') ne $APP_ID },
    'sub_mch_id is of another form' => of_another_form(
        qw(sub_mch_id sub_mchid)),
    'sub_mchid is missing' =>
        sub { length($_[0]{sp_mchid} // '') && !length($_[0]{sub_mchid} // '') },
    'refund_status is unknown' =>
        sub { ($_[0]{refund_status} // '') !~ /^(?:SUCCESS|CHANGE|REFUNDCLOSE
                                                  |ABNORMAL|CLOSED)$/x
              || (defined $_[0]{req_info})
                 != defined $V2_STATUS{ $_[0]{refund_status} } },
    'refund_status is not what event_type says' =>
        sub { $_[0]{event_type} ne "REFUND.$_[0]{refund_status}" },
    'amount is missing or not an object' =>
        sub { ref $_[0]{amount} ne 'HASH' },
    'the order\'s total is missing' =>
        sub { !length($_[0]{total_fee} // $_[0]{amount}{total} // '') },
    'the refund\'s amount is missing' =>
        sub { !length($_[0]{refund_fee} // $_[0]{amount}{refund} // '') },
    'an amount is not a count of fen' =>
        sub { grep { defined && ($json->encode($_) !~ /^"?\d{1,16}"?$/
                                 || $json->encode($_) =~ /^"?(?:9{16}|0\d)/
                                 || ref $_) }
                   values %{ ref $_[0]{amount} ? $_[0]{amount} : {} },
                   @{ $_[0] }{ keys %V2_MONEY } },
    'the root of the decrypted XML is not <root>' =>
        sub { $_[0]{-root} ne 'root' },
    'id is missing, too long or of other characters' =>
        of_another_form('id', 1),
    'create_time is missing or not a time' =>
        sub { ref $_[0]{create_time} || ($_[0]{create_time} // '') !~ $time
              || $_[0]{create_time} !~ /^20/ },
    'resource_type is missing or not a string' =>
        sub { ref $_[0]{resource_type} || !length($_[0]{resource_type} // '') },
    'resource.original_type is not refund' =>
        sub { $_[0]{resource}{original_type} ne 'refund' },
    'resource.associated_data is not a string' =>
        sub { defined $_[0]{resource}{associated_data} },
    (map { my $name = $_; ("$name is missing" =>
                           sub { ref $_[0]{$name}
                                 || !length($_[0]{$name} // '') },
                           "$name is of another form" =>
                           of_another_form($name)) }
         qw(transaction_id out_trade_no refund_id out_refund_no
            refund_status)),
);


my (@cases, %compared, %taken, %reasons);

base64_case($_) for inputs('base64');
req_info_case($_) for inputs('req_info');
xml_case($_) for inputs('xml'), inputs('xml_plain');
v2_notify_case($_) for inputs('v2_notify');
v3_notify_case($_) for inputs('v3_notify'), inputs('json_plain');
v2_answer_case($_) for inputs('v2_answer');
v3_answer_case($_) for inputs('v3_answer');

judge_all();

for my $kind (sort keys %compared) {
    cmp_ok($taken{$kind} // 0, '>', 0,
           "$kind: $compared{$kind} compared, some of them taken");
    note "$kind: $compared{$kind} compared, ", $taken{$kind} // 0, ' taken';
}

note "refused, though Perl takes it: $reasons{$_} times: $_"
    for sort keys %reasons;
done_testing();


sub inputs {
    my ($target) = @_;

    my @files = glob "$corpus/$target/*";
    @files or die "$corpus/$target: nothing there\n";

    return map { { name => $_, text => read_file($_) } } @files;
}


# Judges the text; then check gets why it is refused, or '', and what it was
# taken for.

sub add_case {
    my ($kind, $name, $text, $check) = @_;

    push @cases, { kind => $kind, name => "$kind, $name", text => $text,
                   check => $check };
    return;
}


sub judge_all {
    my $dir = scratch_dir();
    my $public = write_file("$dir/public.pem",
                            $rsa->export_key_pem('public_x509'));
    my $list = '';

    for my $n (0 .. $#cases) {
        write_file("$dir/$n", $cases[$n]{text});
        $list .= "$cases[$n]{kind} $dir/$n\n";
    }

    write_file("$dir/list", $list);

    my @lines = split /\n/, qx($judge $public < $dir/list);

    is($?, 0, 'judge ended well');
    is(scalar @lines, scalar @cases, 'and judged all');

    for my $n (0 .. $#cases) {
        my ($kind, $name) = @{ $cases[$n] }{qw(kind name)};
        my ($why, $value) = split /\t/, $lines[$n] // '', 2;

        $compared{$kind}++;
        $taken{$kind}++ if $why eq '';

        my $wrong = eval { $cases[$n]{check}->($why, $value) }
                    // ($@ ? "Perl: $@" : '');

        # one test for each that goes well would be thousands of lines

        ok(0, $name), diag("we: $why $value\n$wrong") if $wrong;
    }

    return;
}


# What is wrong, or '': we took it, or refused it for that reason, and Perl did
# (then theirs is what it took it for) or did not (then it is undefined).

sub refused {
    my ($why, $table, $theirs, $text, $name) = @_;

    return '' if !defined $theirs;

    my $holds = $table->{$why}
        or return 'Perl takes it, and the reason is in no table';

    return 'Perl takes it, and the reason does not hold'
        if !$holds->($theirs, $text);

    $reasons{$why}++;
    return '';
}


sub of_another_form {
    my @names = @_;
    my $missing = $names[-1] eq '1' && pop @names;

    return sub {
        my ($value) = @_;

        return grep { ref $value->{$_} || ($value->{$_} // '') !~ $id
                      || $value->{$_} =~ /[^-0-9A-Za-z_|*\@]/
                      || length $value->{$_} > 32 || $missing } @names;
    };
}


sub canonical_base64 {
    my ($text) = @_;

    my $bytes = decode_base64($text);
    return encode_base64($bytes, '') eq $text ? $bytes : undef;
}


sub base64_case {
    my ($input) = @_;

    # MIME::Base64 skips what it does not know: what it would write itself is
    # what is well-formed

    my $theirs = canonical_base64($input->{text});

    add_case(base64 => $input->{name}, $input->{text}, sub {
        my ($why, $value) = @_;

        return $why eq '' ? 'Perl refuses it' : '' if !defined $theirs;
        return $why ne '' ? 'Perl takes it'
               : $value eq unpack('H*', $theirs) ? '' : 'another value';
    });
    return;
}


sub decrypted {
    my ($req_info) = @_;

    my $blocks = canonical_base64($req_info);

    return if !length($blocks // '') || length($blocks) % 16;
    return eval { $ecb->decrypt($blocks, md5_hex($KEY)) };
}


sub req_info_case {
    my ($input) = @_;

    my $text = $input->{text};
    my $whole = substr $text, 0, length($text) - length($text) % 16;
    my $blocks = length $whole
                 ? Crypt::Mode::ECB->new('AES', 0)->encrypt($whole,
                                                            md5_hex($KEY))
                 : '';

    for my $req_info ($text, encode_base64($blocks, ''),
                      encode_base64($ecb->encrypt($text, md5_hex($KEY)), ''))
    {
        my $theirs = decrypted($req_info);

        add_case(req_info => $input->{name}, $req_info, sub {
            my ($why, $value) = @_;

            return $why eq '' ? 'Perl refuses it' : '' if !defined $theirs;
            return $why ne '' ? 'Perl takes it'
                   : $value eq unpack('H*', $theirs) ? '' : 'another value';
        });
    }

    return;
}


# The encoding that the declaration names does not matter to us: it is UTF-8.

sub xml_tree {
    my ($text) = @_;

    $text =~ s/^[ \t\r\n]+//;
    $text =~ s/^(<\?xml[^>]*?)\s+encoding\s*=\s*(?:"[^"]*"|'[^']*')/$1/;

    return eval { $libxml->parse_string($text) };
}


sub xml_fields {
    my ($tree) = @_;

    return map { [ encode_utf8($_->nodeName), encode_utf8($_->textContent) ] }
               $tree->findnodes('/*/*');
}


sub xml_case {
    my ($input) = @_;

    my $text = $input->{text};
    my $tree = xml_tree($text);

    add_case(xml => $input->{name}, $text, sub {
        my ($why, $value) = @_;

        return refused($why, \%XML_STRICTER, $tree, $text) if $why ne '';
        return 'Perl refuses it' if !$tree;

        my $theirs = join ' ',
            unpack('H*', encode_utf8($tree->documentElement->nodeName)),
            map { unpack('H*', $_->[0]) . '=' . unpack('H*', $_->[1]) }
                xml_fields($tree);

        return $value eq $theirs ? '' : "another value: $theirs";
    });
    return;
}


sub v2_notify_case {
    my ($input) = @_;

    my $req_info = encode_base64($ecb->encrypt($input->{text}, md5_hex($KEY)),
                                 '');

    for my $body ($input->{text},
                  "<xml><return_code>SUCCESS</return_code><appid>$APP_ID"
                  . "</appid><mch_id>$MCH_ID</mch_id><req_info>$req_info"
                  . '</req_info></xml>')
    {
        my ($theirs, $tree, $text) = v2_notify($body);

        add_case(v2_notify => $input->{name}, $body, sub {
            my ($why, $value) = @_;

            if ($why ne '') {
                return $XML_STRICTER{$why}
                       ? refused($why, \%XML_STRICTER, $tree, $text)
                       : refused($why, \%REFUND_STRICTER, $theirs, $text);
            }

            return $theirs ? v2_wrong($theirs, $json->decode($value)->{data})
                           : 'Perl refuses it';
        });
    }

    return;
}


# The fields of both levels, and what was read last, and of what.

sub v2_notify {
    my ($body) = @_;

    my $outer = xml_tree($body) or return;

    return if $outer->documentElement->nodeName ne 'xml';

    my %field = map { @$_ } xml_fields($outer);

    return if ($field{return_code} // '') ne 'SUCCESS';

    my $plaintext = decrypted($field{req_info} // '') // return;
    my $inner = xml_tree($plaintext) or return;
    my @pairs = xml_fields($inner);

    # a field twice in one of them is seen in its tree

    my ($tree, $text) = map { @$_ } grep {
        my $found = $_;
        grep { $_->(@$found) } values %XML_STRICTER;
    } [ $outer, $body ], [ $inner, $plaintext ];

    return ({ %field, -root => $inner->documentElement->nodeName,
              -inner => \@pairs, map { @$_ } @pairs },
            $tree // $inner, $text // $plaintext);
}


sub v2_wrong {
    my ($theirs, $data) = @_;

    my %extra = %{ delete $data->{extra} || {} };
    my %amount = %{ delete $data->{amount} };
    my @wrong;

    my $compare = sub {
        my ($name, $ours, $value) = @_;

        push @wrong, "$name: $value, not " . ($ours // 'absent')
            if encode_utf8($ours // '') ne $value;
    };

    for (@{ $theirs->{-inner} }) {
        my ($name, $value) = @$_;
        my $known = $V2{$name} // $V2_MONEY{$name};
        my $ours = !$known ? delete $extra{$name}
                   : $V2_MONEY{$name} ? delete $amount{$known}
                   : exists $data->{$known} ? delete $data->{$known}
                   : delete $extra{$name};

        next if $known && $value eq '';

        # what is said there in another way

        $value = $V2_STATUS{$value} if $name eq 'refund_status';
        $value = $FUNDS{$value} // $value if $name eq 'refund_account';
        $value =~ s/^(\S+) (\S+)$/$1T$2+08:00/
            if $name eq 'success_time' && ($ours // '') =~ /T/;
        $value =~ s/^0+(?=\d)// if $V2_MONEY{$name};

        $compare->($name, $ours, $value);
    }

    for ([ mch_id => 'mch_id' ], [ sub_mch_id => 'sub_mch_id' ],
         [ appid => 'app_id' ], [ sub_appid => 'sub_app_id' ])
    {
        $compare->($_->[0], delete $data->{ $_->[1] },
                   $theirs->{-outer}{ $_->[0] } // $theirs->{ $_->[0] } // '');
    }

    push @wrong, 'of its own: ' . join ' ', %$data, %amount, %extra
        if %$data || %amount || %extra;

    return join "\n", @wrong;
}


sub signed {
    my ($body, $other) = @_;

    my $nonce = '593BEC0C930BF1AFEB40B4A08C8FB242';
    my $signature = $rsa->sign_message("$NOW\n$nonce\n$body\n", 'SHA256',
                                       'v1.5');

    return "wechatpay-timestamp: $NOW\nwechatpay-nonce: $nonce\n"
           . "wechatpay-serial: $SERIAL\nwechatpay-signature: "
           . encode_base64($signature, '') . "\n\n" . ($other // $body);
}


sub v3_notify_case {
    my ($input) = @_;

    my $text = $input->{text};
    my $nonce = 'fdasflkja484';
    my $event = (qw(SUCCESS ABNORMAL CLOSED))[length($text) % 3];
    my @bodies = ($text);

    if (length $text) {
        my ($ciphertext, $tag) = gcm_encrypt_authenticate('AES', $KEY, $nonce,
                                                          '', $text);

        push @bodies,
            qq({"id":"EV-1","resource_type":"r","create_time":)
            . qq("2018-06-08T10:34:56+08:00","event_type":"REFUND.$event",)
            . '"resource":{"original_type":"refund","algorithm":'
            . qq("AEAD_AES_256_GCM","nonce":"$nonce","ciphertext":")
            . encode_base64("$ciphertext$tag", '') . '"}}';
    }

    for my $body (@bodies) {
        my ($theirs, $read, $last) = v3_notify($body);

        add_case(v3_notify => $input->{name}, signed($body), sub {
            my ($why, $value) = @_;

            if ($why ne '') {
                return $JSON_STRICTER{$why}
                       ? refused($why, \%JSON_STRICTER, $read, $last)
                       : refused($why, \%REFUND_STRICTER, $theirs, $last);
            }

            return $theirs ? v3_wrong($theirs->{-inner}, \%V3,
                                      $json->decode($value)->{data})
                           : 'Perl refuses it';
        });

    }

    # what was signed is not what came

    add_case(v3_notify => "$input->{name}, changed", signed($text, "$text "),
             sub { return $_[0] =~ /Signature is wrong|neither XML nor JSON/
                          ? '' : 'taken' });
    return;
}


# The members of both levels, what was read last, and of what.

sub v3_notify {
    my ($body) = @_;

    my $outer = json($body);

    return (undef, $outer, $body)
        if ref $outer ne 'HASH' || repeated($body)
           || ref $outer->{resource} ne 'HASH'
           || ($outer->{event_type} // '') !~ /^REFUND\.\w+$/;

    my $resource = $outer->{resource};

    return if ($resource->{algorithm} // '') ne 'AEAD_AES_256_GCM'
              || length($resource->{nonce} // '') != 12
              || ref $resource->{ciphertext};

    my $bytes = canonical_base64($resource->{ciphertext} // '') // return;

    return if length $bytes <= 16;

    # of their own: CryptX misreads what substr() gives it as arguments

    my ($ciphertext, $tag) = unpack 'a' . (length($bytes) - 16) . 'a16', $bytes;
    my $plaintext = gcm_decrypt_verify('AES', $KEY, $resource->{nonce},
                                       $resource->{associated_data} // '',
                                       $ciphertext, $tag) // return;
    my $inner = json($plaintext);

    return (undef, $inner, $plaintext) if ref $inner ne 'HASH';

    return ({ %$outer, %$inner, mch_id => $inner->{sp_mchid}
                                          // $inner->{mchid},
              create_time => $outer->{create_time}, -inner => $inner },
            $inner, $plaintext);
}


sub v3_answer_case {
    my ($input) = @_;

    my $body = $input->{text};
    my $read = json($body);

    add_case(v3_answer => $input->{name}, signed($body), sub {
        my ($why, $value) = @_;

        # an answer that we do not take is never one that says: no refund

        return $why =~ /^(?:MALFORMED|MISMATCHED|UNVERIFIED)_RESPONSE: ./
               ? '' : 'refused without a reason' if $why ne '';
        return ref $read eq 'HASH'
               ? v3_wrong($read, \%V3_ANSWER, $json->decode($value)->{data})
               : 'Perl refuses it';
    });

    add_case(v3_answer => "$input->{name}, changed", signed($body, "$body "),
             sub { return $_[0] =~ /^UNVERIFIED_RESPONSE: / ? '' : 'taken' });
    return;
}


sub v3_wrong {
    my ($theirs, $map, $data) = @_;

    my %extra = %{ delete $data->{extra} || {} };
    my %amount = %{ delete $data->{amount} || {} };
    my %extra_amount = %{ ref $extra{amount} eq 'HASH'
                          ? delete $extra{amount} : {} };
    my @wrong;

    my $compare = sub {
        my ($name, $ours, $value) = @_;

        # absent is as good as null, and as empty

        return if !defined $ours && (!defined $value || $value eq '');

        push @wrong, "$name: " . $json->encode($value) . ', not '
                     . $json->encode($ours)
            if $json->encode(doubles($ours)) ne $json->encode(doubles($value));
    };

    for my $name (keys %$theirs) {
        if ($name eq 'amount' && ref $theirs->{amount} eq 'HASH') {
            $compare->("amount.$_", delete $amount{$_}
                                    // delete $extra_amount{$_},
                       $theirs->{amount}{$_}) for keys %{ $theirs->{amount} };
            next;
        }

        my $known = $map->{$name};

        # a service provider's mchid is sp_mchid's

        next if $name eq 'mchid' && defined $theirs->{sp_mchid};

        $compare->($name, defined $known && exists $data->{$known}
                          ? delete $data->{$known} : delete $extra{$name},
                   $theirs->{$name});
    }

    # the configured one, where an answer does not say

    delete $data->{mch_id} if ($data->{mch_id} // '') eq $MCH_ID;

    push @wrong, 'of its own: ' . $json->encode([ $data, \%amount, \%extra,
                                                  \%extra_amount ])
        if %$data || %amount || %extra || %extra_amount;

    return join "\n", @wrong;
}


# Fractions are doubles: 0.1 and 0.10000000000000001 are one.

sub doubles {
    my ($value) = @_;

    return ref $value eq 'HASH' ? { map { $_ => doubles($value->{$_}) }
                                        keys %$value }
           : ref $value eq 'ARRAY' ? [ map { doubles($_) } @$value ]
           : ref $value eq 'Math::BigFloat' ? sprintf '%.17g', "$value"
           : $value;
}


# The fields of an answer, a line each, "name=value", as the target takes them.

sub v2_answer_case {
    my ($input) = @_;

    my %field = map { /^([a-z_][a-z_0-9]*)=([\x20-\x5c\x5e-\x7e]*)$/ }
                    split /\n/, $input->{text};

    delete $field{sign};
    %field = (%field, return_code => 'SUCCESS', appid => $APP_ID,
              mch_id => $MCH_ID);

    my $signed = join '&', map { "$_=$field{$_}" }
                               grep { length $field{$_} } sort keys %field;
    my $sign = uc hmac_sha256_hex("$signed&key=$KEY", $KEY);

    my $body = sub {
        return '<xml>' . join('', map { "<$_><![CDATA[$field{$_}]]></$_>" }
                                      sort keys %field)
               . "<sign>$_[0]</sign></xml>";
    };

    add_case(v2_answer => $input->{name}, $body->($sign), sub {
        my ($why, $value) = @_;

        return $why =~ /^UNVERIFIED_RESPONSE: / ? 'Perl takes the sign' : ''
            if $why ne '';

        # whatever it is taken for was in a field

        my %values = map { $_ => 1 } values %field;
        my @strange = grep { !$values{$_} } leaves($json->decode($value));

        return @strange ? "in no field: @strange" : '';
    });

    for ($input->{text}, $body->(reverse $sign), $body->('')) {
        next if $_ eq $body->($sign);

        add_case(v2_answer => "$input->{name}, not signed", $_, sub {
            return $_[0] =~ /^UNVERIFIED_RESPONSE: / ? '' : 'taken';
        });
    }

    return;
}


# The strings and numbers of an answer's data as v2 says them.

sub leaves {
    my ($answer) = @_;

    my %word = ((reverse %V2_STATUS), reverse %FUNDS);
    my @leaves;
    my @todo = $answer->{data};

    while (defined(my $value = shift @todo)) {
        if (ref $value eq 'HASH') {
            push @todo, grep { defined } values %$value;

        } elsif (ref $value eq 'ARRAY') {
            push @todo, @$value;

        } elsif ($value ne 'PROCESSING') {
            $value =~ s/^(\d{4}-\d\d-\d\d)T(\S{8})\+08:00$/$1 $2/;
            push @leaves, encode_utf8($word{$value} // $value);
        }
    }

    return @leaves;
}


sub json {
    my ($text) = @_;

    return scalar eval { $json->decode($text) };
}


# Has it a member twice?  JSON::PP keeps the last of them.

sub repeated {
    my ($text) = @_;

    my @seen;

    while ($text =~ /\G[^"{}]*(?:([{}])|("(?:[^"\\]|\\.)*")(\s*:)?)/gcs) {
        my ($brace, $string, $colon) = ($1, $2, $3);

        if (defined $brace) {
            $brace eq '{' ? push @seen, {} : pop @seen;

        } elsif ($colon && @seen) {
            my $name = eval { $json->decode($string) } // $string;
            return 1 if $seen[-1]{$name}++;
        }
    }

    return 0;
}
