package RefundNotify::Test::WeChatPayServer;

# WeChat Pay, as far as it takes refunds: api.mch.weixin.qq.com over TLS, made
# from its public documentation with CryptX, and without any of our code.  See
# Peer for the interface and what is common to all rules.
#
#   $server = RefundNotify::Test::WeChatPayServer->new(
#       merchants => [ $shop, ... ],        WeChatPay.pm's; those with
#                                  former_serial (an array) still sign with
#                                  these certificates too
#       serials => [ ... ],        that a merchant gets later
#       certificate => { name => ..., to => ... },   of the server: otherwise
#       rules => [ {...}, ... ])
#   $server->authority             the CA that issued its certificate, a path
#   $server->include               conf/wechatpay_upstream.conf, its text with
#                                  that CA as the trusted one
#   $server->problems              what was wrong with the requests so far
#   $server->calls                 "create 1318...", "query ..." and so on, of
#                                  the requests so far
#   $server->refund($out_refund_no)       the refund as it stands: a hash
#   $server->refunds               how many there are
#   $server->conclude($out_refund_no, $status)    SUCCESS, ABNORMAL or CLOSED
#   $server->merchants($shop, ...)         replaces them; keys and serials that
#                                  are new have to be named to new() as well
#   $server->notify($out_refund_no, $status)      concludes it; the notify that
#                                  WeChat Pay sends (of WeChatPay.pm), with
#                                  "url", where to
#
# Everything that the documentation demands of a request is checked; what is
# wrong is refused as there, and kept for problems().  A refund is booked once:
# the same again gets the same answer, another amount the real one's error.  An
# order has the total of its first refund, unless the rule says order => $fen.
#
# Beside the fields of BusinessApp's, a request has: key (v3 or v2), command
# (create, query, abnormal), id (out_refund_no), mch_id, fields (a hash: the v2
# fields, or v3's JSON), server_name (SNI), client_certificate (its mch_id),
# decrypted (what was encrypted), problems.
#
# What a rule may bend besides:
#
#   code => 'NOT_ENOUGH'      this error, instead of booking it; message, status
#   return_code => 'FAIL'     v2's, which bears no signature
#   booked => 1               books it all the same
#   after => how              close, reset or hang, once it was booked
#   sign => how               none, forged, probe, stale, unknown (the serial),
#                             lacking (a field that was not signed is added)
#   refund_status => 'SUCCESS'        of the refund booked
#   coupons => [ [ id, type, fen ], ... ]        part of it was paid with them
#   answer => { name => value }       replaced in the answer, undef leaves out
#   padding => n              an answer longer by n bytes
#   text => bytes             instead of the answer, signed (v3)
#   empty => 1                204 without a body, signed

use strict;
use warnings;
use utf8;

use parent 'RefundNotify::Test::BusinessApp';

use Crypt::Digest::MD5 qw(md5_hex);
use Crypt::Mac::HMAC qw(hmac_hex);
use Cwd ();
use Encode qw(decode_utf8 encode_utf8);
use File::Basename qw(dirname);
use IO::Socket::SSL qw($SSL_ERROR SSL_WANT_READ SSL_WANT_WRITE);
use JSON::XS ();
use MIME::Base64 qw(decode_base64);
use Net::SSLeay ();
use POSIX ();

use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(scratch_dir read_file write_file);
use RefundNotify::Test::WeChatPay;

use constant {
    HOST => 'api.mch.weixin.qq.com',
    SERVER_AUTHORITY => 'WeChat Pay server CA',
    PAGE => 10,
};

my $json = JSON::XS->new->utf8->canonical;
my $count = 0;

my $V3 = '/v3/refund/domestic/refunds';

# the status of v3's errors, and v2's words for those that are told here

my %STATUS = (
    SYSTEM_ERROR => 500, USER_ACCOUNT_ABNORMAL => 403, NOT_ENOUGH => 403,
    PARAM_ERROR => 400, MCH_NOT_EXISTS => 404, RESOURCE_NOT_EXISTS => 404,
    SIGN_ERROR => 401, FREQUENCY_LIMITED => 429, INVALID_REQUEST => 400,
    NO_AUTH => 403,
);

my %V2_CODE = (NOT_ENOUGH => 'NOTENOUGH', INVALID_REQUEST => 'ERROR',
               RESOURCE_NOT_EXISTS => 'REFUNDNOTEXIST');

my %V2_STATUS = (ABNORMAL => 'CHANGE', CLOSED => 'REFUNDCLOSE');

my %V2_FUNDS = (AVAILABLE => 'REFUND_SOURCE_RECHARGE_FUNDS',
                UNSETTLED => 'REFUND_SOURCE_UNSETTLED_FUNDS');
my %V3_FUNDS = reverse %V2_FUNDS;


sub new {
    my ($class, %option) = @_;

    my $base = scratch_dir() . '/wechatpay-server-' . ++$count;
    my $key = rsa_key(HOST);
    my %issuer = (issuer => rsa_key(SERVER_AUTHORITY),
                  issuer_name => SERVER_AUTHORITY);
    my $merchants_ca = RefundNotify::Test::WeChatPay::AUTHORITY;

    write_file("$base.key", $key->export_key_pem('private'), 0600);
    write_file("$base.pem",
               certificate($key, serial => '02', name => HOST, %issuer,
                           %{ $option{certificate} || {} }));
    write_file("$base.ca",
               certificate($issuer{issuer}, serial => '01', authority => 1,
                           name => SERVER_AUTHORITY));
    write_file("$base.clients",
               certificate(rsa_key($merchants_ca), serial => '01',
                           authority => 1, name => $merchants_ca));

    # keys are made at their first use, which has to be in this process

    for my $shop (@{ $option{merchants} }) {
        rsa_key($_) for grep { defined } @{ $shop->{public_key_id} },
                                         @{ $shop->{serial} },
                                         $shop->{merchant_serial};
    }

    rsa_key($_) for 'a forger', @{ $option{serials} || [] };

    return $class->SUPER::new(
        %option, base_path => $base, pay => RefundNotify::Test::WeChatPay->new,
        shops => by_number(@{ $option{merchants} }));
}


sub by_number {
    return { map { $_->{mch_id} => $_ } @_ };
}


sub authority { return "$_[0]{base_path}.ca" }


sub include {
    my ($self) = @_;

    my $root = Cwd::abs_path(dirname(__FILE__) . '/../../../..');
    my $text = read_file("$root/conf/wechatpay_upstream.conf");
    my $authority = $self->authority;

    $text =~ s{/etc/ssl/certs/[\w.-]+;}{$authority;}
        or die "no trusted certificate in conf/wechatpay_upstream.conf\n";

    return $text;
}


sub problems {
    my ($self) = @_;

    return map { @{ $_->{problems} || [] } } $self->requests;
}


sub calls {
    my ($self) = @_;

    return map { join ' ', grep { defined } $_->{command}, $_->{id} }
               $self->requests;
}


sub refund {
    my ($self, $out_refund_no) = @_;

    return $self->_book->{$out_refund_no};
}


sub refunds {
    my ($self) = @_;

    return scalar keys %{ $self->_book };
}


sub conclude {
    my ($self, $out_refund_no, $status) = @_;

    return $self->_control(conclude => [ $out_refund_no, $status ]);
}


sub notify {
    my ($self, $out_refund_no, $status) = @_;

    $status //= 'SUCCESS';
    $self->conclude($out_refund_no, $status);

    my $refund = $self->refund($out_refund_no);
    my $shop = $self->{shops}{ $refund->{mch_id} };
    my $method = "$refund->{api}_notify";
    my %fields = map { $_ => $refund->{$_} }
                     qw(transaction_id out_trade_no refund_id out_refund_no);

    if ($refund->{api} eq 'v2') {
        %fields = (%fields, total_fee => $refund->{total},
                   refund_fee => $refund->{refund},
                   settlement_total_fee => $refund->{total},
                   settlement_refund_fee => settlement($refund),
                   refund_recv_accout => $refund->{account},
                   refund_account => $V2_FUNDS{ $refund->{funds_account} },
                   success_time => $refund->{success_time}
                                   && v2_time($refund->{success_time}));

    } else {
        %fields = (%fields, user_received_account => $refund->{account},
                   success_time => $refund->{success_time},
                   amount => { total => $refund->{total},
                               refund => $refund->{refund},
                               payer_total => $refund->{total},
                               payer_refund => settlement($refund) });
    }

    my $notify = $self->{pay}->$method($shop, %fields, -status => $status,
                                       -partner => $refund->{sub_mch_id});

    return { %$notify, url => $refund->{notify_url} };
}


sub merchants {
    my ($self, @shops) = @_;

    $self->{shops} = by_number(@shops);
    return $self->_control(merchants => \@shops);
}


sub _book {
    my ($self) = @_;

    $self->_control('book');
    return $json->decode(read_file("$self->{base_path}.book"));
}


# What follows runs in the server's own process.  First TLS: the client's
# certificate is asked for and verified, but it is the request that shows
# whether it was needed.


sub _run {
    my ($self, $control) = @_;

    my $base = $self->{base_path};

    $self->{book} = {};
    $self->{orders} = [];
    $self->{context} = IO::Socket::SSL::SSL_Context->new(
        SSL_server => 1,
        SSL_cert_file => "$base.pem",
        SSL_key_file => "$base.key",
        SSL_ca_file => "$base.clients",
        SSL_verify_mode => Net::SSLeay::VERIFY_PEER(),
        SSL_verify_callback => sub {
            my ($ok, undef, undef, $error) = @_;
            $self->{verify_error} = $error if !$ok;
            return 1;
        },
        SSL_create_ctx_callback => sub {
            my ($context) = @_;

            # a session resumed would not show the certificate again

            Net::SSLeay::CTX_set_session_cache_mode($context, 0);
            Net::SSLeay::CTX_set_options($context,
                                         Net::SSLeay::OP_NO_TICKET());
            Net::SSLeay::CTX_set_num_tickets($context, 0);
        },
    ) or die "TLS: $SSL_ERROR\n";

    return $self->SUPER::_run($control);
}


sub _command {
    my ($self, $word, $value) = @_;

    if ($word eq 'book') {
        write_file("$self->{base_path}.book", $json->encode({
            map { $_->{out_refund_no} => $_ } values %{ $self->{book} }
        }));
        return;
    }

    if ($word eq 'merchants') {
        $self->{shops} = by_number(@$value);
        return;
    }

    if ($word eq 'conclude') {
        my ($out_refund_no, $status) = @$value;

        conclude_refund($_, $status)
            for grep { $_->{out_refund_no} eq $out_refund_no }
                     values %{ $self->{book} };
        return;
    }

    return $self->SUPER::_command($word, $value);
}


sub _accepted {
    my ($self, $socket) = @_;

    $socket->blocking(0);

    IO::Socket::SSL->start_SSL($socket, SSL_server => 1,
                               SSL_startHandshake => 0,
                               SSL_reuse_ctx => $self->{context})
        or die "TLS: $SSL_ERROR\n";

    return $self->SUPER::_accepted($socket);
}


sub _readable {
    my ($self, $conn) = @_;

    my $socket = $conn->{socket};

    if (!$conn->{tls}) {
        $self->{verify_error} = undef;

        my $done = $socket->accept_SSL;

        # the callback may come in any of the handshake's turns

        $conn->{verify_error} //= $self->{verify_error};

        if (!$done) {
            my $wait = $SSL_ERROR == SSL_WANT_READ ? 0
                       : $SSL_ERROR == SSL_WANT_WRITE ? 1 : undef;

            defined $wait ? $self->{reactor}->watch($socket, 1, $wait)
                          : $self->end($conn, 'left');
            return;
        }

        $self->{reactor}->watch($socket, 1, 0);
        $conn->{tls} = 1;
        $conn->{server_name} = $socket->get_servername;
        $conn->{client} = $socket->peer_certificate('commonName');
    }

    do {
        $self->SUPER::_readable($conn);
    } while (!$conn->{ended} && $socket->pending);

    return;
}


sub advance {
    my ($self, $conn) = @_;

    # writable in the middle of the handshake

    return $conn->{tls} ? $self->SUPER::advance($conn)
                        : $self->_readable($conn);
}


sub end {
    my ($self, $conn, $how) = @_;

    if ($how eq 'reset' && !$conn->{ended}) {
        $self->{reactor}->remove($conn->{socket});
        $conn->{socket}->stop_SSL(SSL_no_shutdown => 1,
                                  SSL_ctx_free => 0);
    }

    return $self->SUPER::end($conn, $how);
}


# The request: understood, and everything checked that does not hang on the
# refunds booked.


sub parse {
    my ($self, $conn) = @_;

    my $request = $self->SUPER::parse($conn) or return;

    $request->{problems} = [];
    $request->{server_name} = $conn->{server_name};
    $request->{client_certificate} = $conn->{client};
    $request->{header_fields} = delete $request->{fields};

    my ($path) = $request->{path} =~ /^([^?]*)/;
    my $v3 = $path =~ m{^/v3/};
    my $method = $v3 ? 'check_v3' : 'check_v2';

    $request->{key} = $v3 ? 'v3' : 'v2';
    problem($request, PARAM_ERROR => "the name in TLS is not @{[HOST]}")
        if ($conn->{server_name} // '') ne HOST;

    $self->$method($request, $path, $conn);
    return $request;
}


sub problem {
    my ($request, $code, $message) = @_;

    push @{ $request->{problems} }, $message;
    $request->{refusal} //= [ $code, $message ];
    return;
}


sub check_v3 {
    my ($self, $request, $path) = @_;

    my $headers = $request->{headers};
    my $shop = $self->check_authorization($request);
    my $wanted = $headers->{'wechatpay-serial'};
    my (undef, $query) = split /\?/, $request->{path}, 2;

    problem($request, PARAM_ERROR => 'no Accept: application/json')
        if ($headers->{accept} // '') !~ m{^(?:application/json|\*/\*)$};
    problem($request, PARAM_ERROR => 'no User-Agent')
        if !length($headers->{'user-agent'} // '');
    problem($request, PARAM_ERROR => 'an unknown Wechatpay-Serial')
        if $shop && defined $wanted
           && !grep { $_ eq $wanted } @{ $shop->{public_key_id} },
                                      @{ $shop->{serial} };

    my ($rest) = $path =~ m{^\Q$V3\E(.*)} or do {
        problem($request, RESOURCE_NOT_EXISTS => 'no such path');
        return;
    };

    if ($request->{method} eq 'GET' && $rest =~ m{^/([^/]+)$}) {
        $request->{command} = 'query';
        $request->{id} = unescape($1);
        $request->{fields} = {
            map { map { unescape($_) } split /=/, $_, 2 }
                split /&/, $query // ''
        };
        problem($request, PARAM_ERROR => "unknown argument $_")
            for grep { $_ ne 'sub_mchid' } keys %{ $request->{fields} };
        problem($request, PARAM_ERROR => 'a query has no body')
            if length $request->{body};

    } elsif ($request->{method} eq 'POST' && !defined $query
             && $rest =~ m{^(?:/([^/]+)/apply-abnormal-refund)?$})
    {
        $request->{refund_id} = $1;
        $request->{command} = defined $1 ? 'abnormal' : 'create';
        $request->{fields} = eval { $json->decode($request->{body}) };

        problem($request, PARAM_ERROR => 'not JSON')
            if ref $request->{fields} ne 'HASH';
        problem($request, PARAM_ERROR => 'Content-Type is not JSON')
            if ($headers->{'content-type'} // '')
               !~ m{^application/json(?:; *charset=utf-8)?$}i;

        $request->{fields} = {} if ref $request->{fields} ne 'HASH';
        $request->{id} = $request->{fields}{out_refund_no};

    } else {
        problem($request, RESOURCE_NOT_EXISTS => 'no such method or path');
        return;
    }

    return if !$shop;

    my $sub_mchid = $request->{fields}{sub_mchid};

    $request->{sub_mch_id} = $sub_mchid;
    check_sub_mch_id($request, $shop);

    if ($request->{command} eq 'create') {
        check_create_v3($request);

    } elsif ($request->{command} eq 'abnormal') {
        check_abnormal($request, $shop);
    }

    return;
}


sub check_authorization {
    my ($self, $request) = @_;

    my $wrong = sub {
        problem($request, SIGN_ERROR => "Authorization: $_[0]");
        return;
    };

    my ($scheme, $rest) = split / /, $request->{headers}{authorization} // '',
                                2;
    return $wrong->('the scheme')
        if ($scheme // '') ne 'WECHATPAY2-SHA256-RSA2048';

    my @parts = split /,/, $rest // '';
    my %given = map { /^(\w+)="([^"]*)"$/ ? ($1, $2) : () } @parts;

    return $wrong->('the parts')
        if @parts != 5
           || join(' ', sort keys %given)
              ne 'mchid nonce_str serial_no signature timestamp';

    my $shop = $self->{shops}{ $given{mchid} }
        or return $wrong->('an unknown mchid');
    $request->{mch_id} = $given{mchid};

    my ($serial) = grep { $given{serial_no} eq uc }
                        $shop->{merchant_serial} // (),
                        @{ $shop->{former_serial} || [] };

    return $wrong->('another serial_no') if !defined $serial;
    return $wrong->('the timestamp')
        if $given{timestamp} !~ /^\d{10}$/
           || abs($given{timestamp} - time) > 300;
    return $wrong->('the nonce_str')
        if $given{nonce_str} !~ /^[0-9A-Za-z]{16,32}$/;
    return $wrong->('nonce_str comes a second time')
        if $self->{nonces}{ $given{mchid} }{ $given{nonce_str} }++;

    my $signed = join '', map { "$_\n" } @$request{qw(method path)},
                      @given{qw(timestamp nonce_str)}, $request->{body};

    return $wrong->('the signature')
        if $given{signature} !~ m{^[0-9A-Za-z+/]{342}==$}
           || !rsa_key($serial)->verify_message(
                  decode_base64($given{signature}), $signed, 'SHA256',
                  'v1.5');

    return $shop;
}


sub check_sub_mch_id {
    my ($request, $shop) = @_;

    my @allowed = @{ $shop->{sub_mch_id} };
    my $given = $request->{sub_mch_id};

    problem($request, PARAM_ERROR => 'sub_mch_id is missing')
        if @allowed && !defined $given;
    problem($request, NO_AUTH => 'sub_mch_id is not of this merchant')
        if defined $given && !grep { $_ eq $given || $_ eq '"*"' } @allowed;
    return;
}


# What v2 and v3 have in common, once v3's names are v2's.

sub check_create {
    my ($request) = @_;

    my $refund = $request->{wanted};
    my $wrong = sub { problem($request, PARAM_ERROR => "$_[0] is wrong") };

    $wrong->('out_refund_no')
        if ($refund->{out_refund_no} // '') !~ /^[0-9A-Za-z_\-|*@]{1,64}$/;
    $wrong->('the order number')
        if 1 != grep { defined } @$refund{qw(transaction_id out_trade_no)};

    for my $name (qw(total refund)) {
        $wrong->($name) if ($refund->{$name} // '') !~ /^[1-9]\d{0,15}$/;
    }

    $wrong->('notify_url')
        if defined $refund->{notify_url}
           && ($refund->{notify_url} !~ m{^https://[^?]+$}
               || length $refund->{notify_url} > 256);
    $wrong->('reason')
        if length encode_utf8($refund->{reason} // '') > 80;
    return;
}


sub check_create_v3 {
    my ($request) = @_;

    my $fields = $request->{fields};
    my $amount = $fields->{amount};
    my %known = map { $_ => 1 }
                    qw(sub_mchid transaction_id out_trade_no out_refund_no
                       reason notify_url funds_account amount goods_detail);

    problem($request, PARAM_ERROR => "unknown member $_")
        for grep { !$known{$_} } sort keys %$fields;

    if (ref $amount ne 'HASH' || ($amount->{currency} // '') ne 'CNY'
        || grep { !/^(?:refund|total|currency|from)$/ } keys %$amount)
    {
        problem($request, PARAM_ERROR => 'amount is wrong');
        return;
    }

    # numbers, and not strings of digits

    problem($request, PARAM_ERROR => 'amount is not of numbers')
        if $request->{body} =~ /"(?:refund|total)"\s*:\s*"/;

    $request->{wanted} = {
        (map { $_ => $fields->{$_} }
             qw(transaction_id out_trade_no out_refund_no reason notify_url
                funds_account goods_detail)),
        total => $amount->{total}, refund => $amount->{refund},
        from => $amount->{from}, sub_mch_id => $fields->{sub_mchid},
    };

    return check_create($request);
}


sub check_abnormal {
    my ($request, $shop) = @_;

    my $fields = $request->{fields};
    my $serial = $request->{headers}{'wechatpay-serial'};

    problem($request, PARAM_ERROR => 'out_refund_no is missing')
        if !defined $fields->{out_refund_no};
    problem($request, PARAM_ERROR => 'type is wrong')
        if ($fields->{type} // '') !~ /^(?:USER|MERCHANT)_BANK_CARD$/;

    for my $name (qw(bank_account real_name)) {
        my $given = $fields->{$name} // next;
        my $plain = defined $serial
                    ? eval { rsa_key($serial)->decrypt(decode_base64($given),
                                                       'oaep', 'SHA1') }
                    : undef;

        defined $plain
            ? $request->{decrypted}{$name} = decode_utf8($plain)
            : problem($request,
                      PARAM_ERROR => "$name cannot be decrypted");
    }

    return;
}


sub check_v2 {
    my ($self, $request, $path, $conn) = @_;

    my %commands = ('/secapi/pay/refund' => 'create',
                    '/pay/refundquery' => 'query');

    $request->{command} = $commands{$path};
    problem($request, PARAM_ERROR => 'no such path')
        if !$request->{command} || $request->{path} ne $path;
    problem($request, REQUIRE_POST_METHOD => 'not a POST')
        if $request->{method} ne 'POST';

    my $fields = $request->{fields} = flat_xml($request->{body});

    if (!$fields) {
        problem($request, XML_FORMAT_ERROR => 'not the XML that is wanted');
        $request->{fields} = {};
        return;
    }

    $request->{mch_id} = $fields->{mch_id};
    $request->{id} = $fields->{out_refund_no};
    $request->{sub_mch_id} = $fields->{sub_mch_id};

    # the front server refuses before it reads who it is

    if (($request->{command} // '') eq 'create') {
        my $front = !defined $conn->{client}
                    ? 'No required SSL certificate was sent'
                    : defined $conn->{verify_error}
                      ? 'The SSL certificate error' : undef;

        if (defined $front) {
            problem($request, undef, $front);
            $request->{front} = $front;
            return;
        }

        problem($request, PARAM_ERROR => 'certificate not match')
            if $conn->{client} ne ($fields->{mch_id} // '');
    }

    my $shop = $self->{shops}{ $fields->{mch_id} // '' } or do {
        problem($request, MCHID_NOT_EXIST => 'mch_id is wrong');
        return;
    };

    problem($request, APPID_NOT_EXIST => 'appid is wrong')
        if ($fields->{appid} // '') ne ($shop->{app_id}[0] // '-');
    problem($request, PARAM_ERROR => 'nonce_str is wrong')
        if ($fields->{nonce_str} // '') !~ /^[0-9A-Za-z]{1,32}$/;
    problem($request, PARAM_ERROR => 'nonce_str comes a second time')
        if $self->{nonces}{ $fields->{mch_id} }{ $fields->{nonce_str} // '' }++;
    problem($request, PARAM_ERROR => 'an empty field')
        if grep { !length } values %$fields;
    problem($request, SIGNERROR => '签名错误')
        if ($fields->{sign} // '')
           ne v2_sign($shop, $fields, $fields->{sign_type});

    $request->{sign_type} = $fields->{sign_type};
    check_sub_mch_id($request, $shop);

    my @known = qw(appid mch_id sub_appid sub_mch_id nonce_str sign sign_type
                   transaction_id out_trade_no out_refund_no);

    if ($request->{command} eq 'query') {
        push @known, qw(refund_id offset);
        problem($request, PARAM_ERROR => 'which refund?')
            if !grep { defined $fields->{$_} }
                     qw(refund_id out_refund_no transaction_id out_trade_no);

    } else {
        push @known, qw(total_fee refund_fee refund_fee_type refund_desc
                        refund_account notify_url);
        problem($request, PARAM_ERROR => 'refund_fee_type is wrong')
            if ($fields->{refund_fee_type} // 'CNY') ne 'CNY';

        my $account = $fields->{refund_account};

        problem($request, PARAM_ERROR => 'refund_account is wrong')
            if defined $account && !$V3_FUNDS{$account};

        $request->{wanted} = {
            (map { $_ => $fields->{$_} }
                 qw(transaction_id out_trade_no out_refund_no notify_url
                    sub_mch_id)),
            total => $fields->{total_fee}, refund => $fields->{refund_fee},
            reason => $fields->{refund_desc},
            funds_account => defined $account ? $V3_FUNDS{$account} : undef,
        };

        check_create($request);
    }

    my %known = map { $_ => 1 } @known;

    problem($request, PARAM_ERROR => "unknown field $_")
        for grep { !$known{$_} } sort keys %$fields;
    return;
}


# <xml> with one level in it and each name once; nothing between the tags.

sub flat_xml {
    my ($body) = @_;

    my $text = eval { decode_utf8($body, Encode::FB_CROAK) } // return;
    my %fields;

    $text =~ s{^\s*<xml>(.*)</xml>\s*$}{$1}s or return;

    while ($text =~ m{\G\s*<(\w+)>((?:<!\[CDATA\[.*?\]\]>|[^<])*)</\1>\s*}gcs) {
        my ($name, $value) = ($1, $2);
        my %entity = (lt => '<', gt => '>', amp => '&', quot => '"',
                      apos => "'");

        return if exists $fields{$name};

        $value =~ s{<!\[CDATA\[(.*?)\]\]>|&(\w+);}
                   {defined $1 ? $1 : $entity{$2} // return}gse;
        $fields{$name} = $value;
    }

    return ($text =~ /\G\z/gc && %fields) ? \%fields : undef;
}


sub v2_sign {
    my ($shop, $fields, $type) = @_;

    my $key = $shop->{v2_key}[0];
    my $signed = encode_utf8(
        join '&', (map { "$_=$fields->{$_}" }
                       grep { $_ ne 'sign' && defined $fields->{$_}
                              && length $fields->{$_} }
                            sort keys %$fields), "key=$key");

    return uc(($type // 'MD5') eq 'HMAC-SHA256'
              ? hmac_hex('SHA256', $key, $signed) : md5_hex($signed));
}


# The answer.


sub answer {
    my ($self, $conn, $request, $rule) = @_;

    if (my $front = $request->{front}) {
        my $page = "<html>\r\n<head><title>400 $front</title></head>\r\n"
                   . "<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n"
                   . "<center>$front</center>\r\n"
                   . "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

        return $self->SUPER::answer($conn, $request, {
            status => 400, body => $page, keepalive => 0,
            headers => [ 'Content-Type' => 'text/html' ],
        });
    }

    my ($error, $result) = $self->outcome($request, $rule);
    my $method = "answer_$request->{key}";
    my ($status, $body, @headers)
        = $self->$method($request, $rule, $error, $result);

    return [ $rule->{after} ] if $rule->{after};

    return $self->SUPER::answer($conn, $request, {
        %$rule, status => $status, body => $body,
        headers => [ Server => 'nginx', @{ $rule->{headers} || [] },
                     @headers ],
    });
}


# An error ([code, message]), or what was booked or found.

sub outcome {
    my ($self, $request, $rule) = @_;

    return $request->{refusal} if $request->{refusal};

    my $bent = defined $rule->{code} || defined $rule->{return_code}
               ? [ $rule->{code}, $rule->{message} // '' ] : undef;
    my $command = $request->{command};

    return $bent if $bent && !$rule->{booked};

    my ($error, $result) = $self->$command($request, $rule);

    return ($bent // $error, $result);
}


sub create {
    my ($self, $request, $rule) = @_;

    my $wanted = $request->{wanted};
    my $book = $self->{book};
    my $key = "$request->{mch_id} $wanted->{out_refund_no}";
    my $order = $self->order($request, $wanted, $rule);
    my ($by) = grep { defined $wanted->{$_} } qw(transaction_id out_trade_no);
    my $differs = [ 'INVALID_REQUEST',
                    '订单金额或退款金额与之前请求不一致，请核实后再试' ];

    if (my $known = $book->{$key}) {
        return $differs
            if $known->{total} != $wanted->{total}
               || $known->{refund} != $wanted->{refund}
               || $known->{$by} ne $wanted->{$by};
        return (undef, $known);
    }

    return $differs if $order->{total} != $wanted->{total};

    my $sum = $wanted->{refund};
    $sum += $_->{refund}
        for grep { $_->{status} ne 'CLOSED' } @{ $order->{refunds} };

    return [ 'NOT_ENOUGH', '基本账户余额不足，请充值后重新发起' ]
        if $sum > $order->{total};

    my $refund = $book->{$key} = {
        %$wanted, api => $request->{key}, mch_id => $request->{mch_id},
        (map { $_ => $order->{$_} } qw(transaction_id out_trade_no)),
        refund_id => sprintf('503%08d%06d%012d', $$ % 100_000_000,
                             time % 1_000_000, ++$self->{booked}),
        status => 'PROCESSING',
        create_time => rfc3339(time),
        account => '招商银行信用卡0403',
        coupons => $rule->{coupons} || [],
        funds_account => $wanted->{funds_account} // 'AVAILABLE',
        total => $wanted->{total} + 0, refund => $wanted->{refund} + 0,
    };

    push @{ $order->{refunds} }, $refund;
    conclude_refund($refund, $rule->{refund_status})
        if $rule->{refund_status};

    return (undef, $refund);
}


sub order {
    my ($self, $request, $wanted, $rule) = @_;

    my ($by) = grep { defined $wanted->{$_} } qw(transaction_id out_trade_no);
    my ($known) = grep { $_->{mch_id} eq $request->{mch_id}
                         && $_->{$by} eq $wanted->{$by} } @{ $self->{orders} };

    return $known if $known;

    my $n = @{ $self->{orders} } + 1;
    my $order = {
        mch_id => $request->{mch_id},
        transaction_id => $wanted->{transaction_id}
                          // sprintf('42000002152018%014d', $n),
        out_trade_no => $wanted->{out_trade_no} // sprintf('trade%08d', $n),
        total => $rule->{order} // $wanted->{total}, refunds => [],
    };

    push @{ $self->{orders} }, $order;
    return $order;
}


sub conclude_refund {
    my ($refund, $status) = @_;

    $refund->{status} = $status;
    delete $refund->{success_time};
    $refund->{success_time} = rfc3339(time) if $status eq 'SUCCESS';
    return;
}


sub query {
    my ($self, $request) = @_;

    my $fields = $request->{fields};
    my $missing = [ 'RESOURCE_NOT_EXISTS', '退款单不存在' ];
    my @all = grep { $_->{mch_id} eq $request->{mch_id}
                     && ($_->{sub_mch_id} // '')
                        eq ($request->{sub_mch_id} // '') }
              map { @{ $_->{refunds} } } @{ $self->{orders} };

    if ($request->{key} eq 'v3') {
        my ($refund) = grep { $_->{out_refund_no} eq $request->{id} } @all;
        return $refund ? (undef, $refund) : $missing;
    }

    my ($by) = grep { defined $fields->{$_} }
                    qw(refund_id out_refund_no transaction_id out_trade_no);
    my @found = grep { $_->{$by} eq $fields->{$by} } @all;
    my $from = $fields->{offset} // 0;

    return $missing if $from >= @found;

    my $to = $from + PAGE > @found ? $#found : $from + PAGE - 1;

    return (undef, { refunds => [ @found[$from .. $to] ],
                     all => scalar @found });
}


sub abnormal {
    my ($self, $request) = @_;

    my $refund = $self->{book}{"$request->{mch_id} $request->{id}"};

    return [ 'RESOURCE_NOT_EXISTS', '退款单不存在' ]
        if !$refund || $refund->{refund_id} ne unescape($request->{refund_id});
    return [ 'INVALID_REQUEST', '退款单状态不是退款异常' ]
        if $refund->{status} ne 'ABNORMAL';

    $refund->{status} = 'PROCESSING';
    $refund->{channel} = 'OTHER_BANKCARD';
    return (undef, $refund);
}


sub answer_v3 {
    my ($self, $request, $rule, $error, $refund) = @_;

    my ($status, $answer) = (200);

    if ($error) {
        my ($code, $message) = @$error;

        $status = $rule->{status} // $STATUS{$code} // 400;
        $answer = { code => $code, message => $message };

    } else {
        my $discount = $refund->{refund} - settlement($refund);

        $status = $rule->{status} // 200;
        $answer = {
            (map { $_ => $refund->{$_} }
                 grep { defined $refund->{$_} }
                      qw(refund_id out_refund_no transaction_id out_trade_no
                         create_time success_time status funds_account)),
            channel => $refund->{channel} // 'ORIGINAL',
            user_received_account => $refund->{account},
            amount => {
                total => $refund->{total}, refund => $refund->{refund},
                from => $refund->{from} // [],
                payer_total => $refund->{total},
                payer_refund => settlement($refund),
                settlement_total => $refund->{total},
                settlement_refund => settlement($refund),
                discount_refund => $discount, currency => 'CNY',
                refund_fee => 0,
            },
            promotion_detail => [ map { {
                promotion_id => $_->[0], scope => 'GLOBAL',
                type => $_->[1] eq 'CASH' ? 'CASH' : 'NOCASH',
                amount => $_->[2], refund_amount => $_->[2],
            } } @{ $refund->{coupons} } ],
        };
    }

    $answer = bent($answer, $rule);

    my $body = $rule->{empty} ? '' : $rule->{text} // $json->encode($answer);

    $status = 204 if $rule->{empty};

    return ($status, $body, 'Content-Type' => 'application/json; charset=utf-8',
            $self->signed_v3($request, $rule, $body));
}


sub signed_v3 {
    my ($self, $request, $rule, $body) = @_;

    my $shop = $self->{shops}{ $request->{mch_id} // '' } or return;
    my $how = $rule->{sign} // '';

    return if $how eq 'none';

    # with the key that was named, if it is one of WeChat Pay's

    my $wanted = $request->{headers}{'wechatpay-serial'} // '';
    my @serials = (@{ $shop->{public_key_id} }, @{ $shop->{serial} });
    my ($serial) = ((grep { $_ eq $wanted } @serials), @serials);
    my $unknown = 'PUB_KEY_ID_0100000000000000000000000000';

    return $self->{pay}->signature_headers(
        $shop, $how eq 'lacking' ? "$body " : $body,
        -serial => $how eq 'unknown' ? $unknown : $serial,
        -signing_key => $how eq 'forged' ? rsa_key('a forger')
                                         : rsa_key($serial),
        -probe => $how eq 'probe',
        $how eq 'stale' ? (-timestamp => time - 600) : ());
}


sub answer_v2 {
    my ($self, $request, $rule, $error, $found) = @_;

    my $shop = $self->{shops}{ $request->{mch_id} // '' };
    my $return_code = $request->{refusal}
                      ? 'FAIL' : $rule->{return_code} // 'SUCCESS';
    my @type = ('Content-Type' => 'text/plain');

    if ($return_code ne 'SUCCESS') {
        return ($rule->{status} // 200,
                xml({ return_code => $return_code,
                      return_msg => $error->[1] }), @type);
    }

    my %answer = (
        return_code => 'SUCCESS', return_msg => 'OK',
        appid => $shop->{app_id}[0], mch_id => $shop->{mch_id},
        sub_mch_id => $request->{sub_mch_id},
        nonce_str => RefundNotify::Test::WeChatPay::random(16),
        result_code => $error ? 'FAIL' : 'SUCCESS',
    );

    if ($error) {
        my ($code, $message) = @$error;

        $code = $V2_CODE{$code} // $code if !defined $rule->{code};
        $answer{err_code} = $code;
        $answer{err_code_des} = $message;

    } elsif ($request->{command} eq 'query') {
        %answer = (%answer, query_fields($found));
        $answer{total_refund_count} = $found->{all}
            if defined $request->{fields}{offset};

    } else {
        %answer = (%answer, create_fields($found));
    }

    %answer = %{ bent(\%answer, $rule) };

    my $how = $rule->{sign} // '';
    my $signer = $how eq 'forged' ? { v2_key => [ 'f' x 32 ] } : $shop;

    $answer{sign} = v2_sign($signer, \%answer, $request->{sign_type});
    delete $answer{sign} if $how eq 'none';
    $answer{unsigned_field} = '1' if $how eq 'lacking';

    return ($rule->{status} // 200, xml(\%answer), @type);
}


sub create_fields {
    my ($refund) = @_;

    my $coupons = $refund->{coupons};

    return (
        (map { $_ => $refund->{$_} }
             qw(transaction_id out_trade_no out_refund_no refund_id)),
        refund_channel => '',
        total_fee => $refund->{total}, cash_fee => $refund->{total},
        refund_fee => $refund->{refund},
        settlement_refund_fee => settlement($refund),
        cash_refund_fee => settlement($refund),
        coupon_refund_count => scalar @$coupons,
        coupon_refund_fee => $refund->{refund} - settlement($refund),
        map { ("coupon_refund_id_$_" => $coupons->[$_][0],
               "coupon_type_$_" => $coupons->[$_][1],
               "coupon_refund_fee_$_" => $coupons->[$_][2]) } 0 .. $#$coupons
    );
}


sub query_fields {
    my ($found) = @_;

    my @refunds = @{ $found->{refunds} };
    my $first = $refunds[0];
    my %fields = (
        (map { $_ => $first->{$_} } qw(transaction_id out_trade_no)),
        total_fee => $first->{total}, cash_fee => $first->{total},
        fee_type => 'CNY', refund_count => scalar @refunds,
    );

    for my $n (0 .. $#refunds) {
        my $refund = $refunds[$n];
        my $coupons = $refund->{coupons};
        my %own = (
            out_refund_no => $refund->{out_refund_no},
            refund_id => $refund->{refund_id},
            refund_channel => $refund->{channel} // 'ORIGINAL',
            refund_fee => $refund->{refund},
            settlement_refund_fee => settlement($refund),
            refund_status => $V2_STATUS{ $refund->{status} }
                             // $refund->{status},
            refund_account => $V2_FUNDS{ $refund->{funds_account} },
            refund_recv_accout => $refund->{account},
            refund_success_time => $refund->{success_time}
                                   && v2_time($refund->{success_time}),
            coupon_refund_count => scalar @$coupons,
            coupon_refund_fee => $refund->{refund} - settlement($refund),
        );

        for my $m (0 .. $#$coupons) {
            $fields{"coupon_refund_id_${n}_$m"} = $coupons->[$m][0];
            $fields{"coupon_type_${n}_$m"} = $coupons->[$m][1];
            $fields{"coupon_refund_fee_${n}_$m"} = $coupons->[$m][2];
        }

        $fields{"${_}_$n"} = $own{$_} for keys %own;
    }

    return %fields;
}


# An answer with what the rule replaces in it.

sub bent {
    my ($answer, $rule) = @_;

    my %bent = (%$answer, %{ $rule->{answer} || {} });

    $bent{padding} = 'x' x $rule->{padding} if $rule->{padding};

    return { map { $_ => $bent{$_} } grep { defined $bent{$_} } keys %bent };
}


sub xml {
    my ($fields) = @_;

    return encode_utf8(join '', '<xml>',
                       (map { "<$_><![CDATA[$fields->{$_}]]></$_>\n" }
                            sort grep { defined $fields->{$_} } keys %$fields),
                       '</xml>');
}


# What is left for the payer when the coupons are back.

sub settlement {
    my ($refund) = @_;

    my $fen = $refund->{refund};

    $fen -= $_->[2] for @{ $refund->{coupons} };
    return $fen;
}


sub rfc3339 {
    my ($time) = @_;

    return POSIX::strftime('%Y-%m-%dT%H:%M:%S+08:00',
                           gmtime($time + 8 * 3600));
}


sub v2_time {
    my ($time) = @_;

    return $time =~ s/T/ /r =~ s/\+08:00$//r;
}


sub unescape {
    my ($text) = @_;

    return $text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger;
}


1;
