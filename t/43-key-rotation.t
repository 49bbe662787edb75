#!/usr/bin/perl

# Every key there is, replaced step by step as docs/key-rotation.md has it,
# while notifies and refunds go on: old and new side by side, nothing lost,
# nothing genuine refused; and what was removed is refused.

use lib 't/lib';
use utf8;
use RefundNotify::Test;

use Digest::SHA qw(hmac_sha256);
use JSON::XS ();
use MIME::Base64 qw(encode_base64);
use POSIX ();
use RefundNotify::Test::Certificate qw(rsa_key);
use RefundNotify::Test::Util qw(adopt read_file stop_process write_file);
use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$refund_notify_result';

    %%MERCHANT%%

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%%;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /wechatpay/notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            %%SIGNING%%
            access_log %%DIR%%/notify.log notify;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location /v3 {
            refund_request shop;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/notify;
        }

        location /v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/notify;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            include %%DIR%%/wechatpay_upstream.conf;
            proxy_ssl_certificate %%DIR%%/shop-apiclient_cert.pem;
            proxy_ssl_certificate_key %%DIR%%/shop-apiclient_key.pem;
        }
    }
}
EOC

my $json = JSON::XS->new->utf8->canonical;
my $pay = wechatpay();

# what there is of each, by the names that the steps below give them

my %key = (v2_old => 'o' x 32, v2_new => 'n' x 32,
           v3_old => 'O' x 32, v3_new => 'N' x 32);
my %serial = (key_old => 'PUB_KEY_ID_0119000001092023010100000000000001',
              key_new => 'PUB_KEY_ID_0119000001092024010100000000000002',
              certificate => '5157F09EFDC096DE15EBE81A47057A7232F1B8E1',
              other => '6157F09EFDC096DE15EBE81A47057A7232F1B8E2',
              cert_old => '1DDE55AD98ED71D6EDD4A4A16996DE7B47773A8C',
              cert_new => '2DDE55AD98ED71D6EDD4A4A16996DE7B47773A8D');
my %whsec = (old => 'whsec_' . encode_base64('a' x 24, ''),
             new => 'whsec_' . encode_base64('b' x 24, ''));

# What nginx is configured with, and what WeChat Pay and the app use: lists, of
# which a notify takes one after the other.  WeChat Pay has the keys of "serial"
# and knows no other; notifies are signed with those of "signs".

my %nginx = (v2 => [ 'v2_old' ], v3 => [ 'v3_old' ], public => [ 'key_old' ],
             certificate => [], cert => 'cert_old', whsec => [ 'old' ]);
my %world = (v2 => [ 'v2_old' ], v3 => [ 'v3_old' ], serial => [ 'key_old' ],
             signs => [ 'key_old' ], cert => [ 'cert_old' ], whsec => 'old');

my $app = business_app();
my $server = wechatpay_server(merchants => [ merchant(\%world) ],
                              serials => [ @serial{qw(key_new certificate
                                                      cert_new)} ]);
my $nginx = RefundNotify::Test::Nginx->new(
    vars => { APP => $app->port, PAY => $server->port });

$nginx->write_file('wechatpay_upstream.conf', $server->include);
$nginx->write_file($_, "$whsec{$_}\n", 0600) for keys %whsec;
configure();
$nginx->start;

my $world = scratch_dir() . '/world';
my $steps = 0;
my @signed_for;

publish();

my @streams = (stream(notifies => \&send_notify), stream(calls => \&call));

all_go_on();


# One key after the other.  Each row: where, what it is then, and what is
# refused from then on.

my @rotations = (
    [ 'the APIv3 key',
      [ nginx => v3 => [ qw(v3_old v3_new) ] ],
      [ world => v3 => [ 'v3_new' ] ],
      [ nginx => v3 => [ 'v3_new' ],
        refused => [ undecryptable => 'v3', -key => $key{v3_old} ] ] ],

    [ 'the APIv2 key',
      [ nginx => v2 => [ qw(v2_old v2_new) ] ],
      [ world => v2 => [ 'v2_new' ] ],
      [ nginx => v2 => [ qw(v2_new v2_old) ] ],
      [ nginx => v2 => [ 'v2_new' ],
        refused => [ undecryptable => 'v2', -key => $key{v2_old} ] ] ],

    [ "WeChat Pay's public key",
      [ nginx => public => [ qw(key_old key_new) ] ],
      [ world => serial => [ qw(key_old key_new) ] ],
      [ world => signs => [ qw(key_old key_new) ] ],
      [ nginx => public => [ qw(key_new key_old) ] ],
      [ world => signs => [ 'key_new' ] ],
      [ world => serial => [ 'key_new' ] ],
      [ nginx => public => [ 'key_new' ],
        refused => [ unverified => 'v3', -serial => $serial{key_old} ] ] ],

    [ "to WeChat Pay's certificate",
      [ nginx => certificate => [ 'certificate' ] ],
      [ world => serial => [ qw(key_new certificate) ] ],
      [ world => signs => [ qw(key_new certificate) ] ],
      [ world => signs => [ 'certificate' ] ],
      [ nginx => public => [],
        refused => [ unverified => 'v3', -serial => $serial{key_new} ] ],
      [ world => serial => [ 'certificate' ] ] ],

    [ 'and back to the public key',
      [ world => serial => [ qw(certificate key_new) ] ],
      [ nginx => public => [ 'key_new' ] ],
      [ world => signs => [ qw(certificate key_new) ] ],
      [ world => signs => [ 'key_new' ] ],
      [ world => serial => [ 'key_new' ] ],
      [ nginx => certificate => [],
        refused => [ unverified => 'v3',
                     -serial => $serial{certificate} ] ] ],

    [ 'the signing key',
      [ nginx => whsec => [ qw(old new) ] ],
      [ world => whsec => 'new' ],
      [ nginx => whsec => [ 'new' ], refused => [ 'signature', 'old' ] ] ],

    [ "the merchant's certificate",
      [ world => cert => [ qw(cert_old cert_new) ] ],
      [ nginx => cert => 'cert_new' ],
      [ world => cert => [ 'cert_new' ] ] ],
);

for (@rotations) {
    my ($name, @changes) = @$_;

    for (@changes) {
        my ($where, $what, $value, %then) = @$_;
        my $step = "$name: $where has "
                   . (join(', ', ref $value ? @$value : $value) || 'none');

        if ($where eq 'nginx') {
            $nginx{$what} = $value;
            is(configure(), '0', "$step: nginx -t");
            ok($nginx->reload, "$step: reload");

        } else {
            $world{$what} = $value;
            $server->merchants(merchant(\%world));
            push @signed_for, [ time, $value ] if $what eq 'whsec';
            publish();
        }

        all_go_on($step);
        refused($step, @{ $then{refused} }) if $then{refused};
    }
}

# not by a signal, which would cut short what they wait for

$world{stop} = 1;
publish();
is(stop_process($_, 0, 40), 0, 'the stream ends') for @streams;


# What came of all of them

my @notifies = records('notifies');
my @calls = records('calls');
my @delivered = $app->requests;
my %delivered;

$delivered{ $_->{id} }++ for @delivered;

is_deeply([ grep { $_->{answer} ne 'SUCCESS' } @notifies ], [],
          'each genuine notify: SUCCESS, at the first try');
is_deeply([ sort keys %delivered ],
          [ sort map { $_->{id} } @notifies ],
          'what was delivered is what was sent');
is_deeply([ grep { $delivered{$_} != 1 } keys %delivered ], [], 'once each');
is_deeply([ grep { !verifies($_, app_key($_->{time})) } @delivered ], [],
          'and signed with a key that the app had at that time');
is_deeply([ grep { $_->{answer} ne '200 accepted' } @calls ], [],
          'each refund is accepted')
    or diag(explain [ grep { $_->{answer} ne '200 accepted' } @calls ]);
is_deeply([ grep { $_ ne '签名错误' } $server->problems ], [],
          'and only v2 ever had to be repeated');
is($server->refunds, scalar(map { $_->{id} } @calls), 'and booked once');

my @refused = grep { $_ ne 'delivered' }
                   split /\n/, read_file($nginx->path('notify.log'));

is(join(' ', @refused),
   'undecryptable undecryptable unverified unverified unverified',
   'nothing else was refused than what was to be');
note(scalar @notifies, ' notifies, ', scalar @calls, ' refunds, ', $steps,
     ' steps');


# The key that calls name: the first public key, or else the first certificate.
# One that WeChat Pay does not have any more, or not yet, has them refused.

my $SERIAL = 'an unknown Wechatpay-Serial';

for ([ 'the old key is still the first', [ qw(key_old key_new) ], [],
       [ 'key_new' ], $SERIAL ],
     [ 'the new one is the first', [ qw(key_new key_old) ], [], [ 'key_new' ],
       '' ],
     [ 'it is the first too early', [ qw(key_new key_old) ], [], [ 'key_old' ],
       $SERIAL ],
     [ 'a key beside a certificate', [ 'key_new' ], [ 'certificate' ],
       [ 'certificate' ], $SERIAL ],
     [ 'the certificate alone', [], [ 'certificate' ], [ 'certificate' ], '' ],
     [ 'the new certificate is the first', [], [ qw(certificate other) ],
       [ 'certificate' ], '' ],
     [ 'the old certificate is the first', [], [ qw(other certificate) ],
       [ 'certificate' ], $SERIAL ])
{
    my ($name, $public, $certificate, $serial, $problem) = @$_;

    @nginx{qw(public certificate)} = ($public, $certificate);
    calls($name, { %world, serial => $serial }, $problem,
          $problem ? '400 rejected PARAM_ERROR' : '200 accepted');
}

@nginx{qw(public certificate)} = ([ 'key_new' ], []);


# the certificate that WeChat Pay no longer takes

$nginx{cert} = 'cert_old';
calls('the old certificate again', \%world,
      'Authorization: another serial_no', '401 rejected SIGN_ERROR');

no_secrets($nginx, values %key, values %whsec,
           map { $pay->secrets(merchant({ %world, cert => [ $_ ] })) }
               qw(cert_old cert_new));

done_testing;


# The merchant with these keys: all of them for WeChat Pay.

sub merchant {
    my ($keys) = @_;

    my ($cert, @former) = reverse @{ $keys->{cert} };

    return $pay->merchant(
        mch_id => '1900000109', app_id => [ 'wx8888888888888888' ],
        v2_key => [ map { $key{$_} } @{ $keys->{v2} } ],
        v3_key => [ map { $key{$_} } @{ $keys->{v3} } ],
        public_key_id => [ @serial{ grep { /^key/ } @{ $keys->{serial} } } ],
        serial => [ @serial{ grep { !/^key/ } @{ $keys->{serial} } } ],
        merchant_serial => $serial{$cert},
        former_serial => [ map { $serial{$_} } @former ]);
}


# Writes what nginx is configured with; the exit code of nginx -t, and what it
# says if it is not content.

sub configure {
    my $shop = merchant({ %nginx, cert => [ $nginx{cert} ],
                          serial => [ map { @$_ }
                                         @nginx{qw(public certificate)} ] });

    $nginx->{vars}{MERCHANT} = $pay->write($shop, $nginx->dir);
    $nginx->{vars}{SIGNING} = join "\n" . ' ' x 12, map {
        "refund_notify_signing_key_file %%DIR%%/$_;" } @{ $nginx{whsec} };

    my ($code, $messages) = $nginx->config_test($conf);

    $nginx->write_file('nginx.conf', $conf);
    return $messages =~ /\[(?:emerg|warn)\]/ ? "$code $messages" : $code;
}


# Tells the streams what WeChat Pay uses now.

sub publish {
    write_file("$world.new", $json->encode({ %world, step => ++$steps }));
    rename "$world.new", $world or die "$world: $!\n";
    return;
}


# A process that sends one after the other and notes what came of it.

sub stream {
    my ($name, $send) = @_;

    my $pid = fork // die "fork: $!\n";

    return adopt($pid) if $pid;

    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM);
    open my $out, '>>:raw', scratch_dir() . "/$name" or POSIX::_exit(1);

    for (my $n = 0; ; $n++) {
        my $now = $json->decode(read_file($world));

        last if $now->{stop};

        my $record = eval { $send->($n, $now) }
                     || { id => "none $n", answer => "died: $@" };

        syswrite $out, $json->encode({ %$record, version => version($n),
                                       at => time,
                                       step => $now->{step} }) . "\n";
        sleep 0.01;
    }

    POSIX::_exit(0);
}


sub version { return $_[0] % 2 ? 'v3' : 'v2' }


sub records {
    my ($name) = @_;

    return map { $json->decode($_) }
               split /\n/, read_file(scratch_dir() . "/$name");
}


# One of the list, in turn.  v2 and v3 take turns as well.

sub turn {
    my ($n, $list) = @_;

    return $list->[ ($n >> 1) % @$list ];
}


sub send_notify {
    my ($n, $now) = @_;

    my $version = version($n);
    my $method = "${version}_notify";
    my $notify = $pay->$method(
        merchant($now), -key => $key{ turn($n, $now->{$version}) },
        -serial => $serial{ turn($n, $now->{signs}) });
    my $response = client($nginx)->post('/wechatpay/notify', $notify);

    return { id => $notify->{event_id},
             answer => $pay->answer($notify, $response) };
}


# A refund, asked for until it is known to be accepted, as an app has to: v2's
# key cannot change in two places at once.  Anything else that is not "accepted"
# stands.

sub call {
    my ($n) = @_;

    my $version = version($n);
    my $caller = caller_of($nginx);
    my $body = $caller->body;
    my $end = time + slow(30);
    my $tries = 0;
    my $response;

    do {
        sleep 0.05 if $tries++;
        $response = $caller->call('POST', "/$version", $body);
    } while ($version eq 'v2' && $response->{line} =~ /^502 unknown/
             && time < $end);

    return { id => $body->{out_refund_no}, answer => $response->{line},
             tries => $tries };
}


# Both streams go on, with what is in force now, in both versions.  But where
# WeChat Pay has another key than the one that v2's calls are signed with, these
# are refused, and go on with the next step.

sub all_go_on {
    my ($step) = @_;

    my $now = time;
    my @waiting = (map { my $stream = $_; map { "$stream $_" } qw(v2 v3) }
                       qw(notifies calls));

    my $refused = $nginx{v2}[0] ne $world{v2}[0];

    @waiting = grep { !/calls/ } @waiting if $refused;

    my %seen;
    my $all = wait_until(sub {
        return 0 if $refused && !$server->problems;

        %seen = ();

        for my $stream (qw(notifies calls)) {
            $seen{"$stream $_->{version}"}++
                for grep { $_->{step} == $steps && $_->{at} > $now }
                         records($stream);
        }

        return !grep { ($seen{$_} // 0) < 2 } @waiting;
    }, 20);

    ok($all, ($step // 'at first') . ': all goes on')
        or diag(explain \%seen);
    return;
}


sub refused {
    my ($step, $result, $version, @bend) = @_;

    if ($result eq 'signature') {

        # the latest of them

        my ($last) = reverse $app->requests;

        ok(!verifies($last, $version), "$step: the old key verifies nothing");

    } else {
        my $method = "${version}_notify";
        my $notify = $pay->$method(merchant(\%world), @bend);
        my $response = client($nginx)->post('/wechatpay/notify', $notify);

        is($pay->answer($notify, $response), $result, "$step: the old one");
    }

    return;
}


# A refund asked for by APIv3, of a WeChat Pay that has these keys, and what that
# has to say against it, and the app reads.

sub calls {
    my ($name, $keys, $problem, $line) = @_;

    is(configure(), '0', "$name: nginx -t");
    ok($nginx->reload, "$name: reload");
    $server->merchants(merchant($keys));
    $server->forget;

    is(caller_of($nginx)->create('/v3')->{line}, $line, "$name: a refund");
    is(join(' ', $server->problems), $problem, "$name: WeChat Pay's objection");
    return;
}


sub app_key {
    my ($time) = @_;

    return grep({ $time >= $_->[0] } @signed_for) ? 'new' : 'old';
}


# As an app that knows this one key.

sub verifies {
    my ($request, $name) = @_;

    my %header = %{ $request->{headers} };
    my $signed = "$header{'webhook-id'}.$header{'webhook-timestamp'}."
                 . $request->{body};
    my $secret = $whsec{$name} =~ s/^whsec_//r;
    my $wanted = 'v1,' . encode_base64(
        hmac_sha256($signed, MIME::Base64::decode_base64($secret)), '');

    return scalar grep { $_ eq $wanted }
                       split / /, $header{'webhook-signature'};
}
