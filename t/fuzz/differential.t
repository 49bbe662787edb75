#!/usr/bin/perl

# Two implementations of the protocol over the fuzzer's corpora: src/wechatpay,
# by the program judge, and Perl: CryptX, XML::LibXML and JSON::PP.  Perl wraps
# each input as its target does, encrypts and signs it.  What we take, Perl takes
# too, and it makes the same of it, from type to extra; what Perl takes and we
# refuse has a reason in a table here, and the reason holds.  Of each kind there
# are so many that both take: t/fuzz/seeds has them, whatever becomes of the
# corpus.  FUZZ_CORPUS is another directory than t/fuzz/corpus.

use strict;
use warnings;

use Test::More;

use Crypt::AuthEnc::GCM qw(gcm_decrypt_verify gcm_encrypt_authenticate);
use Crypt::Mode::ECB;
use Crypt::PK::RSA;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(hmac_sha256_hex);
use Encode qw(decode decode_utf8 encode_utf8);
use JSON::PP;
use MIME::Base64 qw(decode_base64 encode_base64);
use RefundNotify::Test::Certificate qw(rsa_key);
use RefundNotify::Test::Util qw(read_file scratch_dir write_file);
use Time::Local qw(timegm_modern);
use XML::LibXML;

my $corpus = $ENV{FUZZ_CORPUS} || 't/fuzz/corpus';
my $judge = $ENV{FUZZ_JUDGE} || 'build/fuzz/judge';

# what fuzz.h and judge.c have

my $KEY = '0123456789abcdefghijKLMNOPQRSTUV';
my $MCH_ID = '1900000109';
my $APP_ID = 'wxd930ea5d5a258f4f';
my $SERIAL = 'PUB_KEY_ID_0119000001092024070100000000000001';
my $NOW = 1528425296;
my $NOW_TEXT = '2018-06-08T10:34:56+08:00';
my $OUT_REFUND_NO = '1';
my $MAX_FIELDS = 256;

my $rsa = rsa_key($SERIAL);
my $ecb = Crypt::Mode::ECB->new('AES', 1);
my $json = JSON::PP->new->utf8->allow_nonref->allow_bignum->canonical;
my $libxml = XML::LibXML->new(no_network => 1, load_ext_dtd => 0,
                              expand_entities => 0);

# what a value has to be like, by its name

my $word = qr/\A[-0-9A-Za-z_]{1,64}\z/;
my $number = qr/\A[\x20-\x7e]{1,64}\z/;

my %FORM = (
    (map { $_ => $number } qw(transaction_id out_trade_no out_refund_no)),
    (map { $_ => $word } qw(refund_id refund_status id mchid sp_mchid sub_mchid
                            sub_appid)),
    appid => qr/\A[-0-9A-Za-z_]{1,32}\z/, sub_mch_id => qr/\A\d{1,32}\z/a,
);

my %V2_STATUS = (SUCCESS => 'SUCCESS', CHANGE => 'ABNORMAL',
                 REFUNDCLOSE => 'CLOSED');
my %TYPE = (SUCCESS => 'refund.succeeded', ABNORMAL => 'refund.abnormal',
            CLOSED => 'refund.closed');
my %V3_STATUS = map { $_ => $_ } keys %TYPE;
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
my @V3_MONEY = qw(total refund payer_total payer_refund settlement_total
                  settlement_refund);
my %V2_ANSWER = (%V2, refund_success_time => 'success_time',
                 refund_channel => 'channel');
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
    'the JSON is malformed' => sub { beyond_jansson($_[1]) },
    'a repeated member in the JSON' => sub { repeated($_[1]) },
    'the JSON is nested too deep' => sub { depth($_[1]) > 32 },
    'the JSON is not an object' => sub { ref $_[0] ne 'HASH' },
);

# The values by the names that they have in the notify; what is not in it itself,
# by names that begin with "-".

my %REFUND_STRICTER = (
    'mch_id is missing' => sub { !grep { length } @{ $_[0]{-mch_ids} } },
    'mch_id is not a string' => sub { another_form($_[0], 'mchid', 'sp_mchid') },
    'mch_id is not the merchant\'s' =>
        sub { grep { length && $_ ne $MCH_ID } @{ $_[0]{-mch_ids} } },
    'appid or sub_appid is of another form' =>
        sub { another_form($_[0]{-owner}, 'appid', 'sub_appid') },
    'appid is none of the merchant\'s' =>
        sub { length($_[0]{-owner}{appid} // '')
              && $_[0]{-owner}{appid} ne $APP_ID },
    'sub_mch_id is of another form' =>
        sub { another_form($_[0]{-owner}, 'sub_mch_id')
              || another_form({ sub_mch_id => $_[0]{sub_mchid} },
                              'sub_mch_id') },
    'sub_mchid is missing' =>
        sub { length($_[0]{sp_mchid} // '') && !length($_[0]{sub_mchid} // '') },
    'refund_status is unknown' =>
        sub { my $status = $_[0]{refund_status} // '';
              length $status && !$_[0]{-statuses}{$status} },
    'refund_status is not what event_type says' =>
        sub { $_[0]{-outer}{event_type} ne "REFUND.$_[0]{refund_status}" },
    'amount is missing or not an object' =>
        sub { ref $_[0]{amount} ne 'HASH' },
    'the order\'s total is missing' =>
        sub { !length($_[0]{-money}{total} // '') },
    'the refund\'s amount is missing' =>
        sub { !length($_[0]{-money}{refund} // '') },
    'an amount is not a count of fen' =>
        sub { grep { !$_[0]{-fen}->($_) } values %{ $_[0]{-money} } },
    'the root of the decrypted XML is not <root>' =>
        sub { $_[0]{-root} ne 'root' },
    'id is missing, too long or of other characters' =>
        sub { !length($_[0]{-outer}{id} // '')
              || another_form($_[0]{-outer}, 'id') },
    'create_time is missing or not a time' =>
        sub { !is_time($_[0]{-outer}{create_time}) },
    'resource_type is missing or not a string' =>
        sub { my $type = $_[0]{-outer}{resource_type};
              !length($type // '') || !is_string($type) },
    'resource.original_type is not refund' =>
        sub { $_[0]{-outer}{resource}{original_type} ne 'refund' },
    'resource.associated_data is not a string' =>
        sub { my $data = $_[0]{-outer}{resource}{associated_data};
              defined $data && !is_string($data) },
    (map { my $name = $_; ("$name is missing" =>
                           sub { !length($_[0]{$name} // '') },
                           "$name is of another form" =>
                           sub { another_form($_[0], $name) }) }
         qw(transaction_id out_trade_no refund_id out_refund_no
            refund_status)),

    # what does not begin as XML and is no refund may be of another key

    'no APIv2 key decrypts req_info' =>
        sub { $_[1] !~ /^</
              && grep { !length($_[0]{$_} // '') }
                      qw(transaction_id out_trade_no refund_id out_refund_no
                         refund_status total_fee refund_fee) },

    # answers

    'out_refund_no is not the one that was asked for' =>
        sub { $_[0]{out_refund_no} ne $OUT_REFUND_NO },
    'appid is not the one that was sent' =>
        sub { $_[0]{-owner}{appid} ne $APP_ID },
    'result_code or err_code is missing or unknown' =>
        sub { ($_[0]{-outer}{result_code} // '') !~ /^(?:SUCCESS|FAIL)\z/
              || ($_[0]{-outer}{result_code} eq 'FAIL'
                  && !length($_[0]{-outer}{err_code} // '')) },
    'refund_count is missing or wrong' =>
        sub { my $count = $_[0]{-outer}{refund_count} // '';
              $count !~ /^\d{1,15}\z/a || $count > keys %{ $_[0]{-outer} } },
    'refund_count is 0' => sub { $_[0]{-outer}{refund_count} == 0 },
    'total_refund_count is not a number' =>
        sub { ($_[0]{-outer}{total_refund_count} // '') !~ /^(\d{1,15})?\z/a },
);


# Of each kind so many are taken at the least: more than half of what were when
# this was written.

my %TAKEN = (base64 => 3, req_info => 15, xml => 25, v2_notify => 40,
             v3_notify => 60, v2_answer => 25, v3_answer => 15);


my (@cases, %compared, %taken, %reasons);

base64_case($_) for inputs('base64');
req_info_case($_) for inputs('req_info');
xml_case($_) for inputs('xml'), inputs('xml_plain');
v2_notify_case($_) for inputs('v2_notify');
v3_notify_case($_) for inputs('v3_notify'), inputs('json_plain');
v2_answer_case($_) for inputs('v2_answer');
v3_answer_case($_) for inputs('v3_answer');

judge_all();

for my $kind (sort keys %TAKEN) {
    cmp_ok($taken{$kind} // 0, '>=', $TAKEN{$kind},
           "$kind: $compared{$kind} compared, enough of them taken");
    note "$kind: $compared{$kind} compared, ", $taken{$kind} // 0, ' taken';
}

note "refused, though Perl takes it: $reasons{$_} times: $_"
    for sort keys %reasons;
done_testing();


sub inputs {
    my ($target) = @_;

    my @files = glob "$corpus/$target/*";
    @files or die "$corpus/$target: nothing there\n";

    push @files, glob "t/fuzz/seeds/$target/*";

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


# Is one that has a value not as it has to be?

sub another_form {
    my ($values, @names) = @_;

    return grep { my ($name, $value) = ($_, $values->{$_});
                  defined $value && (!is_string($value)
                                     || (length $value
                                         && $value !~ $FORM{$name})) } @names;
}


sub is_string {
    my ($value) = @_;

    return defined $value && !ref $value && $json->encode($value) =~ /^"/;
}


# of v3; a time of v2's is one with a space for the T, and without its end

sub is_time {
    my ($value) = @_;

    return 0 if !is_string($value) || length $value > 64;

    my ($date, $zone) = $value =~ /\A(.{19})(?:\.\d+)?(Z|[-+]\d\d:\d\d)\z/a
        or return 0;
    my ($hours, $minutes) = $zone =~ /(\d+):(\d+)/;

    return 0 if defined $hours && ($hours > 23 || $minutes > 59);

    my @parts = $date =~ /\A(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\z/a
        or return 0;

    return $parts[5] <= 59 && defined eval {
        timegm_modern(@parts[5, 4, 3, 2], $parts[1] - 1, $parts[0])
    };
}


sub v2_time {
    my ($value) = @_;

    my $time = $value =~ /\A\S+ \S+\z/ ? $value =~ s/ /T/r . '+08:00' : '';

    return is_time($time) ? $time : undef;
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

            return 'Perl refuses it' if !$theirs;

            my $data = v2_data($theirs, \%V2, $theirs->{-inner});

            return another($value, event(v2 => $data->{success_time}, $data));
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

    my %inner = map { @$_ } @pairs;

    return ({ v2_values(\%field, \@pairs), -statuses => \%V2_STATUS,
              -root => $inner->documentElement->nodeName, -inner => \@pairs },
            $tree // $inner, $text // $plaintext);
}


# What the reasons are about: the outer fields, and those of the refund.

sub v2_values {
    my ($outer, $pairs) = @_;

    my %value = map { @$_ } @$pairs;
    my @money = grep { length($value{$_} // '') } keys %V2_MONEY;

    delete @value{qw(mchid sp_mchid sub_mchid)};

    return (%value, -outer => $outer, -mch_ids => [ $outer->{mch_id} // '' ],
            -owner => { map { $_ => $outer->{$_} }
                            qw(appid sub_appid sub_mch_id) },
            -money => { map { $V2_MONEY{$_} => $value{$_} } @money },
            -fen => sub { $_[0] =~ /\A\d{1,15}\z/a });
}


# The refund of these pairs, as the business app has to get it.

sub v2_data {
    my ($theirs, $map, $pairs) = @_;

    my $outer = $theirs->{-outer};
    my %data = (amount => {});
    my %extra;

    for ([ mch_id => 'mch_id' ], [ sub_mch_id => 'sub_mch_id' ],
         [ appid => 'app_id' ], [ sub_appid => 'sub_app_id' ])
    {
        $data{ $_->[1] } = $outer->{ $_->[0] }
            if length($outer->{ $_->[0] } // '');
    }

    for (@$pairs) {
        my ($name, $value) = ($_->[0], decode_utf8($_->[1]));
        my $known = $map->{$name};

        if (!$known && !$V2_MONEY{$name}) {
            $extra{ decode_utf8($name) } = $value;

        } elsif ($value eq '') {
            next;

        } elsif ($V2_MONEY{$name}) {
            $data{amount}{ $V2_MONEY{$name} } = 0 + $value;

        } elsif ($known eq 'success_time') {
            my $time = v2_time($value);
            defined $time ? $data{$known} = $time : ($extra{$name} = $value);

        } elsif (length $_->[1] > 1024) {
            $extra{$name} = $value;

        } else {
            $data{$known} = $name eq 'refund_status'
                            ? $theirs->{-statuses}{$value}
                            : $name eq 'refund_account'
                              ? $FUNDS{$value} // $value : $value;
        }
    }

    $data{extra} = \%extra if %extra;

    return \%data;
}


# The whole of what the business app has to get.

sub event {
    my ($version, $time, $data, $notify_id) = @_;

    my $id = join ':', 'wechatpay', @$data{qw(mch_id refund_id status)};

    $id .= ":$notify_id" if $version eq 'v3' && $data->{status} eq 'ABNORMAL';

    return { type => $TYPE{ $data->{status} }, timestamp => $time // $NOW_TEXT,
             id => $id, provider => 'wechatpay', api_version => $version,
             merchant => 'shop', data => $data };
}


sub answer {
    my ($version, $data) = @_;

    return { outcome => 'accepted', provider => 'wechatpay',
             api_version => $version, merchant => 'shop', data => $data };
}


# '', or how what we made of it differs from theirs.

sub another {
    my ($value, $theirs) = @_;

    $theirs = $json->encode(doubles($theirs));

    return $json->encode(doubles($json->decode($value))) eq $theirs
           ? '' : "another value: $theirs";
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
    my ($said) = $text =~ /"(SUCCESS|ABNORMAL|CLOSED)"/;
    my %events = map { $_ => 1 } $said // 'SUCCESS',
                     (qw(SUCCESS ABNORMAL CLOSED))[length($text) % 3];
    my @bodies = ($text);

    for my $event (length $text ? sort keys %events : ()) {
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

            return $theirs
                   ? another($value, event(v3 => $theirs->{-outer}{create_time},
                                           v3_data($theirs->{-inner}, \%V3),
                                           $theirs->{-outer}{id}))
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

    return ({ v3_values($inner), -outer => $outer, -statuses => \%V3_STATUS,
              -inner => $inner },
            $inner, $plaintext);
}


# What the reasons are about, of the members of a refund.

sub v3_values {
    my ($inner) = @_;

    my $amount = ref $inner->{amount} eq 'HASH' ? $inner->{amount} : {};
    my @money = grep { defined $amount->{$_} } @V3_MONEY;

    return (%$inner, -owner => { map { $_ => $inner->{$_} } qw(appid sub_appid) },
            -mch_ids => [ map { $_ // '' } @$inner{qw(mchid sp_mchid)} ],
            -money => { map { $_ => $amount->{$_} } @money },
            -fen => sub { my $text = ref $_[0] eq 'Math::BigFloat' ? ''
                                     : $json->encode($_[0]);
                          $text =~ /\A\d{1,16}\z/a
                          && $text <= 9007199254740991 });
}


sub v3_answer_case {
    my ($input) = @_;

    my $body = $input->{text};
    my $read = json($body);

    # Perl takes what is an object of a refund's members

    my $theirs = ref $read eq 'HASH'
        ? { v3_values($read), refund_status => $read->{status},
            -statuses => { %V3_STATUS, PROCESSING => 'PROCESSING' } }
        : undef;

    add_case(v3_answer => $input->{name}, signed($body), sub {
        my ($why, $value) = @_;

        return answer_refused($why, $theirs, $read, $body) if $why ne '';
        return 'Perl refuses it' if !$theirs;

        my $data = v3_data($read, \%V3_ANSWER);

        # the configured one, where an answer does not say

        $data->{mch_id} //= $MCH_ID;

        return another($value, answer(v3 => $data));
    });

    add_case(v3_answer => "$input->{name}, changed", signed($body, "$body "),
             sub { return $_[0] =~ /^UNVERIFIED_RESPONSE: / ? '' : 'taken' });
    return;
}


# As refused(), and what is signed is never unverified.

sub answer_refused {
    my ($why, $theirs, $read, $text) = @_;

    my ($code, $reason) = split /: /, $why, 2;

    return 'Perl takes the signature' if $code eq 'UNVERIFIED_RESPONSE';

    return $JSON_STRICTER{$reason}
           ? refused($reason, \%JSON_STRICTER, $read, $text)
           : refused($reason, \%REFUND_STRICTER, $theirs, $text);
}


# The refund of these members, as the business app has to get it.

sub v3_data {
    my ($inner, $map) = @_;

    my %data = (amount => {});
    my (%extra, %extra_amount);

    my $fits = sub {
        my ($name, $value) = @_;

        return is_string($value) && length encode_utf8($value) <= 1024
               && ($name !~ /_time$/ || is_time($value));
    };

    # a service provider's mchid is sp_mchid's

    for my $name (sort keys %$inner) {
        my ($known, $value) = ($map->{$name}, $inner->{$name});

        if ($name eq 'amount' && ref $value eq 'HASH') {
            next;

        } elsif (!$known) {
            $extra{$name} = $value;

        } elsif (defined $value && (ref $value || $value ne '')) {
            $fits->($name, $value) ? $data{$known} = $value
                                   : ($extra{$name} = $value);
        }
    }

    my %amount = %{ ref $inner->{amount} eq 'HASH' ? $inner->{amount} : {} };

    for (@V3_MONEY, 'currency') {
        my $value = delete $amount{$_};

        next if !defined $value || (!ref $value && $value eq '');

        $_ ne 'currency' || $fits->($_, $value)
            ? $data{amount}{$_} = $value : ($amount{$_} = $value);
    }

    $extra{amount} = \%amount if %amount;
    $data{extra} = \%extra if %extra;

    return \%data;
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
    %field = (appid => $APP_ID, mch_id => $MCH_ID, %field,
              return_code => 'SUCCESS');

    my $signed = join '&', map { "$_=$field{$_}" }
                               grep { length $field{$_} } sort keys %field;
    my $sign = uc hmac_sha256_hex("$signed&key=$KEY", $KEY);

    my $body = sub {
        return '<xml>' . join('', map { "<$_><![CDATA[$field{$_}]]></$_>" }
                                      sort keys %field)
               . "<sign>$_[0]</sign></xml>";
    };

    my $pairs = v2_asked({ %field, sign => $sign });
    my $theirs = { v2_values({ %field, sign => $sign }, $pairs),
                   -statuses => { %V2_STATUS, PROCESSING => 'PROCESSING' } };

    add_case(v2_answer => $input->{name}, $body->($sign), sub {
        my ($why, $value) = @_;

        # the provider's own word for why it did not

        return $why =~ /^\w+_RESPONSE: ./ ? 'the err_code is lost' : ''
            if ($field{result_code} // '') eq 'FAIL' && $field{err_code};

        return $why ne '' ? answer_refused($why, $theirs, undef, '')
               : another($value, answer(v2 => v2_data($theirs, \%V2_ANSWER,
                                                      $pairs)));
    });

    for ($input->{text}, $body->(reverse $sign), $body->('')) {
        next if $_ eq $body->($sign);

        add_case(v2_answer => "$input->{name}, not signed", $_, sub {
            return $_[0] =~ /^UNVERIFIED_RESPONSE: / ? '' : 'taken';
        });
    }

    return;
}


# The fields of the refund that was asked for: what is said of its order, of all
# refunds, and of it, which has its number behind the name, and if it is about a
# coupon, the coupon's behind that.

sub v2_asked {
    my ($field) = @_;

    my $count = ($field->{refund_count} // '') =~ /\A(\d{1,6})\z/a ? $1 : 0;
    my (%own, %all);

    for my $name (sort keys %$field) {
        next if $name =~ /^(?:return_code|return_msg|result_code|err_code
                             |err_code_des|appid|mch_id|sub_appid|sub_mch_id
                             |nonce_str|sign|sign_type|refund_count
                             |total_refund_count)\z/x;

        my $index = qr/_(0|[1-9]\d{0,6})/a;
        my ($base, $n, $coupon) = $name =~ /\A(.+?)$index$index\z/
            ? ($1, $2, "_$3")
            : $name =~ /\A(.+?)$index\z/ ? ($1, $2, '') : ($name, $count, '');

        if ($n < $count) {
            $own{$n}{"$base$coupon"} = $field->{$name};

        } else {
            $all{$name} = $field->{$name};
        }
    }

    my ($n) = grep { ($own{$_}{out_refund_no} // '') eq $OUT_REFUND_NO }
                   0 .. $count - 1;
    my $asked = $own{ $n // $count - 1 } // {};

    # of what both say, what is said of the refund; but nothing is no word

    my @order = grep { exists $all{$_} } qw(transaction_id out_trade_no
                                            total_fee settlement_total_fee);
    my @order_pairs = map { [ $_, delete $all{$_} ] } @order;

    return [ @order_pairs,
             (map { [ $_, $all{$_} ] } grep { !exists $asked->{$_} }
                  sort keys %all),
             map { [ $_, $asked->{$_} ] } sort keys %$asked ];
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


# Is it JSON, but not of the kind that Jansson can keep: other than UTF-8, half of
# a surrogate pair, U+0000, an integer of more than 64 bits, a number that is too
# large for a double?

sub beyond_jansson {
    my ($text) = @_;

    return 1 if $text =~ /\0/
                || !eval { decode('UTF-8', my $copy = $text, Encode::FB_CROAK);
                           1 };

    my @strings = $text =~ /("(?:[^"\\]|\\.)*")/gs;

    return 1 if grep { (eval { $json->decode($_) } // "\0")
                       =~ /[\0\x{d800}-\x{dfff}]/ } @strings;

    return grep { /[.eE]/ ? abs(0 + $_) == 9**9**9 : !in_64_bits($_) }
                without_strings($text) =~ /(-?\d[-+.\deE]*)/ag;
}


sub in_64_bits {
    my ($integer) = @_;

    my $n = Math::BigInt->new($integer);

    return $n->bcmp('9223372036854775807') <= 0
           && $n->bcmp('-9223372036854775808') >= 0;
}


sub without_strings {
    my ($text) = @_;

    return $text =~ s/"(?:[^"\\]|\\.)*"/""/gsr;
}


sub depth {
    my ($text) = @_;

    my ($depth, $max) = (0, 0);

    for (without_strings($text) =~ /[][{}]/g) {
        $depth += /[[{]/ ? 1 : -1;
        $max = $depth if $depth > $max;
    }

    return $max;
}
