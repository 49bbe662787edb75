#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# The module at work: an nginx with it between a simulated WeChat Pay and a
# small business app.  Shows each notify, what becomes of it, and whether that
# is what the documentation promises; at last the whole circle, from the refund
# asked for to its notify.  Exits with 1 if anything is not as promised.
#
#   tools/demo.pl                  STORE=redis: with a redis-server of its own

use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::Bin/../t/lib";

use Digest::SHA qw(hmac_sha256);
use Encode qw(decode_utf8);
use JSON::XS ();
use MIME::Base64 qw(decode_base64 encode_base64);

use RefundNotify::Test::BusinessApp;
use RefundNotify::Test::Caller;
use RefundNotify::Test::Client;
use RefundNotify::Test::Nginx;
use RefundNotify::Test::Redis;
use RefundNotify::Test::Util qw(wait_until read_file);
use RefundNotify::Test::WeChatPay;
use RefundNotify::Test::WeChatPayServer;

use constant { WIDTH => 98, MARGIN => 20 };

binmode STDOUT, ':utf8';
$| = 1;

# END blocks, which stop what was started, do not run after a signal

$SIG{PIPE} = sub { exit 1 };

my %colour = (title => '1', name => '36', good => '32', bad => '31;1',
              dim => '2');
my $json = JSON::XS->new->utf8->canonical;
my $root = abs_path("$FindBin::Bin/..");
my $url = '/wechatpay/refund-notify';
my $secret = 'whsec_' . encode_base64(join('', map { chr rand 256 } 1 .. 24),
                                      '');

my %ok = (v2 => '<xml><return_code><![CDATA[SUCCESS]]></return_code>'
                . '<return_msg><![CDATA[OK]]></return_msg></xml>',
          v3 => '{"code":"SUCCESS","message":"OK"}');

my $pay = RefundNotify::Test::WeChatPay->new;
my $shop = $pay->merchant(mch_id => '1900000109',
                          app_id => [ 'wx2421b1c4370ec43b' ],
                          merchant_serial => '5157F09EFDC04705');
my $app = RefundNotify::Test::BusinessApp->new;
my $server = RefundNotify::Test::WeChatPayServer->new(merchants => [ $shop ]);
my $redis = ($ENV{STORE} // '') eq 'redis' ? RefundNotify::Test::Redis->new
                                           : undef;
my $nginx = start_nginx();
my $client = RefundNotify::Test::Client->new(port => $nginx->port);
my $caller = RefundNotify::Test::Caller->new(port => $nginx->port);

my ($steps, $notifies, $failures) = (0, 0, 0);

introduce();
play();
circle();
show_store() if $redis;
$nginx->stop;

my @problems = $nginx->problems;
print "\n";

if ($failures || @problems) {
    print paint(bad => "$failures of $steps are not as expected"), "\n"
        if $failures;
    print paint(bad => 'nginx has something to complain of'), "\n",
          map { "$_\n" } @problems if @problems;
    exit 1;
}

print paint(good => "All $steps are as expected, and nginx stopped cleanly."),
      "\n", $redis ? '' : "With Redis as the store: make demo STORE=redis\n";


sub play {
    my $first = $pay->v3_notify($shop);

    step('A refund succeeded: an APIv3 notify',
         'JSON, signed with WeChat Pay\'s key, encrypted with the APIv3 key.',
         $first,
         status => 200, body => $ok{v3}, result => 'delivered',
         attempt => 1);

    step('The same notify again',
         'WeChat Pay repeats, freshly signed, what it saw no SUCCESS for. The '
         . 'app is not called twice.',
         $pay->resend($shop, $first),
         again => 1, status => 200, body => $ok{v3}, result => 'duplicate');

    step('A refund did not arrive: ABNORMAL',
         'The bank card is closed, say: not a failure, but somebody has to '
         . 'act.',
         $pay->v3_notify($shop, -status => 'ABNORMAL'),
         status => 200, body => $ok{v3}, result => 'delivered',
         attempt => 1);

    step('A refund was closed: CLOSED',
         'No money moved; it may be asked for again under a new '
         . 'out_refund_no.',
         $pay->v3_notify($shop, -status => 'CLOSED'),
         status => 200, body => $ok{v3}, result => 'delivered',
         attempt => 1);

    step('A refund succeeded: an APIv2 notify',
         'XML with an encrypted <root> in it. The same URL takes it, and the '
         . 'app gets the same JSON.',
         $pay->v2_notify($shop),
         status => 200, body => $ok{v2}, result => 'delivered',
         attempt => 1);

    step('A refund did not arrive: APIv2\'s CHANGE',
         'The app reads ABNORMAL, as from APIv3.',
         $pay->v2_notify($shop, -status => 'ABNORMAL'),
         status => 200, body => $ok{v2}, result => 'delivered',
         attempt => 1);

    step('A refund was closed: APIv2\'s REFUNDCLOSE',
         'The app reads CLOSED.',
         $pay->v2_notify($shop, -status => 'CLOSED'),
         status => 200, body => $ok{v2}, result => 'delivered',
         attempt => 1);

    step('A forged APIv3 notify',
         'Somebody else signed it. The app never hears of it, the answer does '
         . 'not say what was wrong.',
         $pay->v3_notify($shop, -signing_key => stranger()),
         from => 'somebody', status => 401,
         body => '{"code":"FAIL","message":"unverified"}',
         result => 'unverified');

    step('A forged APIv2 notify',
         'It was encrypted without the merchant\'s key.',
         $pay->v2_notify($shop, -key => 'x' x 32),
         from => 'somebody', status => 200,
         body => '<xml><return_code><![CDATA[FAIL]]></return_code>'
                 . '<return_msg><![CDATA[undecryptable]]></return_msg></xml>',
         result => 'undecryptable');

    my $retried = $pay->v3_notify($shop);

    step('The business app fails',
         'So WeChat Pay is told FAIL, and will repeat the notify.',
         $retried,
         app_answers => 500, status => 502,
         body => '{"code":"FAIL","message":"upstream_error"}',
         result => 'upstream_error', attempt => 1);

    step('WeChat Pay repeats it',
         'The app gets it again under the same webhook-id, as attempt 2, and '
         . 'accepts.',
         $pay->resend($shop, $retried),
         again => 1, status => 200, body => $ok{v3}, result => 'delivered',
         attempt => 2);

    return;
}


# From the refund to its notify, under both versions of the API.

sub circle {
    my $number = 1217752501;
    my (%asked, %told);

    for my $version (qw(v3 v2)) {
        my $name = "API$version";
        my $body = $caller->body(
            out_refund_no => 'refund-' . ++$number, transaction_id => undef,
            out_trade_no => "order-$number", reason => 'sold out',
            amount => { refund => 999, total => 3960 });

        $asked{$version} = ask($version, $body);

        my $notify = $server->notify($body->{out_refund_no});

        ($told{$version}) = step(
            "The circle closes: the $name notify of that refund",
            'WeChat Pay sends it to the notify_url that the module gave.',
            $notify, status => 200, body => $ok{$version},
            result => 'delivered', attempt => 1);
    }

    print "\n", paint(title => '    Side by side, what the app reads'), "\n";
    beside('The answer', %asked);
    beside('The event', %told);
    return;
}


# The app asks for a refund; returns the JSON that it reads.

sub ask {
    my ($version, $body) = @_;

    my $path = $version eq 'v3' ? '/refunds' : '/v2/refunds';

    $server->forget;

    $steps++;
    print "\n", paint(title => sprintf '%2d  The app asks for a refund: API%s',
                      $steps, $version), "\n    ",
          paint(dim => 'Plain JSON, and no key: the module checks it, signs '
                       . 'it, and verifies the answer.'), "\n\n";
    show('the app sends', "POST $path",
         split /\n/, pretty(decode_utf8($json->encode($body))));

    my $response = $caller->call('POST', $path, $body);

    for my $request ($server->requests) {
        my $headers = $request->{headers};

        show('WeChat Pay reads', "$request->{method} $request->{path}",
             (map { "$_: $headers->{lc $_}" } grep { $headers->{lc $_} }
                  qw(Authorization Wechatpay-Serial)),
             $version eq 'v2'
             ? "with the certificate of $request->{client_certificate}" : (),
             decode_utf8($request->{body}));
    }

    show('the app reads', $response->{status},
         split /\n/, pretty(decode_utf8($response->{body})));

    verdict(differs('the answer', $response->{line}, '200 accepted'),
            differs('the calls', scalar $server->requests, 1),
            map { "WeChat Pay objects: $_" } $server->problems);

    return $response->{body};
}


# One notify from end to end; %want says how it has to go.  Without attempt the
# app must not be called.  Returns what it was sent.

sub step {
    my ($title, $explanation, $notify, %want) = @_;

    my $app_answers = $want{app_answers} // 200;
    my $from = $want{from} // 'WeChat Pay';
    my @wrong;

    $app->forget;
    $app->rules({ status => $app_answers });

    $steps++;
    print "\n", paint(title => sprintf '%2d  %s', $steps, $title), "\n    ",
          paint(dim => $explanation), "\n\n";
    show_notify($notify, $from, $want{again});

    my $response = $client->post($url, $notify);
    my @calls = $app->requests;
    my $log = logged(++$notifies);

    show_call($_, $app_answers) for @calls;
    show('the app hears', paint(dim => 'nothing')) if !@calls;
    show("$from reads", "$response->{status}  $response->{body}");
    show('the log says', join ', ', grep { length } @$log{qw(result reason)});

    for my $name (qw(status body)) {
        push @wrong, differs("the answer's $name", $response->{$name},
                             $want{$name});
    }

    push @wrong, differs('the result', $log->{result}, $want{result}),
                 differs('the calls of the app', scalar @calls,
                         $want{attempt} ? 1 : 0),
                 map { check_call($_, $notify, $want{attempt}) } @calls;

    verdict(@wrong);
    return map { $_->{body} } @calls;
}


sub verdict {
    my (@wrong) = @_;

    show('', @wrong ? map { paint(bad => $_) } @wrong
                    : paint(good => 'as expected'));
    $failures++ if @wrong;
    return;
}


sub check_call {
    my ($call, $notify, $attempt) = @_;

    my $headers = $call->{headers};
    my $got = eval { $json->decode($call->{body}) } || {};
    my $want = expected($notify);

    # a v2 notify without success_time bears the time of its receipt

    $want->{timestamp} //= $got->{timestamp};

    return differs('the JSON', $json->encode($got), $json->encode($want)),
           differs('webhook-id', $headers->{'webhook-id'}, $want->{id}),
           differs('Refund-Attempt', $headers->{'refund-attempt'}, $attempt),
           differs('Content-Type', $headers->{'content-type'},
                   'application/json'),
           differs('webhook-signature', $headers->{'webhook-signature'},
                   signature($headers, $call->{body}));
}


# The JSON that the documentation promises for a notify.

sub expected {
    my ($notify) = @_;

    my $fields = $notify->{fields};
    my $v2 = $notify->{version} eq 'v2';
    my %type = (SUCCESS => 'succeeded', ABNORMAL => 'abnormal',
                CLOSED => 'closed');

    my %data = (
        mch_id => $shop->{mch_id},
        status => $notify->{status},
        map { $_ => $fields->{$_} }
            qw(transaction_id out_trade_no refund_id out_refund_no),
    );

    if ($v2) {
        $data{app_id} = $shop->{app_id}[0];
        $data{user_received_account} = $fields->{refund_recv_accout};
        $data{funds_account} = 'AVAILABLE';
        $data{request_source} = 'API';
        $data{amount} = {
            map { $_ => $fields->{"${_}_fee"} + 0 }
                qw(total refund settlement_total settlement_refund)
        };

    } else {
        $data{user_received_account} = $fields->{user_received_account};
        $data{amount} = $fields->{amount};
    }

    if (my $time = $fields->{success_time}) {
        $data{success_time} = $v2 ? $time =~ s/ /T/r . '+08:00' : $time;
    }

    return {
        type => "refund.$type{ $notify->{status} }",
        timestamp => $v2 ? $data{success_time} : $notify->{create_time},
        id => $notify->{event_id},
        provider => 'wechatpay',
        api_version => $notify->{version},
        merchant => $shop->{name},
        data => \%data,
    };
}


# As an app checks it, after Standard Webhooks.

sub signature {
    my ($headers, $body) = @_;

    my $signed = join '.', map({ $headers->{$_} // '' }
                               qw(webhook-id webhook-timestamp)), $body;

    return 'v1,' . encode_base64(
        hmac_sha256($signed, decode_base64($secret =~ s/^whsec_//r)), '');
}


sub differs {
    my ($name, $got, $want) = @_;

    $_ //= 'nothing' for $got, $want;
    return $got eq $want ? () : "$name: expected $want, got $got";
}


sub stranger {
    require RefundNotify::Test::Certificate;
    return RefundNotify::Test::Certificate::rsa_key('stranger');
}


sub start_nginx {
    my $new = RefundNotify::Test::Nginx->new;
    my $store = $redis ? $redis->url : 'shm:10m';

    $new->write_file('whsec', "$secret\n", 0600);
    $new->{vars} = {
        MERCHANT => $pay->write($shop, $new->dir),
        STORE => $store,
        APP => $app->port,
        PAY => $server->port,
    };
    $new->write_file('wechatpay_upstream.conf', $server->include);
    $new->write_file('nginx.conf', conf());

    return $new->start;
}


sub conf {
    return <<"END";
%%GLOBALS%%
events { worker_connections 512; }

http {
    %%HTTP%%
    log_format demo escape=json
        '{"result":"\$refund_notify_result","reason":"\$refund_notify_reason"}';

    %%MERCHANT%%
    refund_store demo %%STORE%%;

    upstream api.mch.weixin.qq.com { server 127.0.0.1:%%PAY%%; }

    server {
        listen 127.0.0.1:%%PORT%%;

        location = $url {
            refund_notify                  shop;
            refund_notify_pass             /internal/refunds;
            refund_notify_store            demo;
            refund_notify_signing_key_file whsec;
            access_log                     demo.log demo;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include    $root/conf/refund_delivery.conf;
        }

        location /refunds {
            refund_request            shop;
            refund_request_pass       /internal/wechatpay;
            refund_request_notify_url https://pay.example.com$url;
        }

        location /v2/refunds {
            refund_request            shop;
            refund_request_api        v2;
            refund_request_pass       /internal/wechatpay;
            refund_request_notify_url https://pay.example.com$url;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass                https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate     shop-apiclient_cert.pem;
            proxy_ssl_certificate_key shop-apiclient_key.pem;
            include                   wechatpay_upstream.conf;
        }
    }
}
END
}


# What nginx logged about the nth notify: the line is written after the answer.

sub logged {
    my ($n) = @_;

    my $line = wait_until(sub {
        return (split /\n/, read_file($nginx->path('demo.log')))[ $n - 1 ];
    }, 5);

    return defined $line ? $json->decode($line) : {};
}


sub introduce {
    my ($block) = $nginx->expand(conf()) =~ /(    server \{.*\n    \}\n)/s;

    print paint(title => 'refund-notify'), "\n\n",
          "WeChat Pay  -->  nginx with the module  -->  business app\n",
          "(simulated)      127.0.0.1:", $nginx->port, ' 'x 12,
          '127.0.0.1:', $app->port, "\n\n",
          "What has been delivered is remembered in ",
          $redis ? 'Redis, ' . $redis->url : "nginx' shared memory", ".\n",
          "What nginx.conf says about it:\n\n";
    print paint(dim => $_), "\n" for split /\n/, $block;
    return;
}


sub show_notify {
    my ($notify, $from, $again) = @_;

    my @headers = @{ $notify->{headers} };
    my @lines = "POST $url";

    while (my ($name, $value) = splice @headers, 0, 2) {
        push @lines, "$name: $value"
            if $name =~ /^(?:Content-Type
                             |Wechatpay-(?:Timestamp|Serial|Signature))$/x;
    }

    show("$from sends", @lines, $again ? 'the same body'
                                            : decode_utf8($notify->{body}));
    return if $again;

    my $fields = $notify->{fields};
    my @told = grep { defined $fields->{$_} }
                    qw(refund_status refund_id out_refund_no refund_fee amount);

    show('encrypted in it', join ', ', (map {
        my $value = $fields->{$_};
        "$_ " . (ref $value ? $json->encode($value) : $value)
    } @told), keys(%$fields) - @told . ' more');
    return;
}


sub show_call {
    my ($call, $status) = @_;

    my $headers = $call->{headers};

    show('the app receives', "$call->{method} $call->{path}",
         (map { "$_: $headers->{lc $_}" }
              grep { defined $headers->{lc $_} }
                   qw(Content-Type webhook-id webhook-timestamp
                      webhook-signature Refund-Attempt)),
         split /\n/, pretty(decode_utf8($call->{body})));
    show('the app answers', $status);
    return;
}


sub show_store {
    print "\n";
    show('Redis remembers', map { "$_ = " . $redis->command('GET', $_) }
                                sort @{ $redis->command('KEYS', '*') });
    return;
}


# A name and the lines that belong to it, wrapped; what is long and means
# nothing to a reader is cut.

sub show {
    my ($name, @lines) = @_;

    for my $line (@lines) {
        $line =~ s{([0-9A-Za-z+/]{16})([0-9A-Za-z+/]{60,}=*)}
                  {"$1... (" . length("$1$2") . ' characters)'}ge;

        for my $piece (wrap($line)) {
            print ' ' x 4, paint(name => sprintf '%-*s', MARGIN, $name),
                  "$piece\n";
            $name = '';
        }
    }

    return;
}


sub wrap {
    my ($line, $room) = @_;

    $room //= WIDTH - 4 - MARGIN;

    my ($indent) = $line =~ /^( *)/;
    my @pieces;

    while (columns($line) > $room) {
        my $piece = substr $line, 0, $room;

        chop $piece while columns($piece) > $room;
        $piece = $1 if $piece =~ /^(\s*\S.{20,}[\s,>])/;

        push @pieces, $piece =~ s/ +$//r;
        $line = "$indent  " . substr($line, length $piece) =~ s/^ +//r;
    }

    return @pieces, $line;
}


# Two JSON texts in two columns, one line for each member.

sub beside {
    my ($title, %text) = @_;

    my @width = (34, 32, 32);
    my (@names, %value, %seen);

    for my $version (qw(v2 v3)) {
        my $at = 0;

        for (members('', tokens(\decode_utf8($text{$version} // '{}')))) {
            my ($name, $value) = @$_;

            # what only the other has stands behind what comes before it there

            splice @names, $at, 0, $name if !$seen{$name}++;
            ($at) = map { $_ + 1 } grep { $names[$_] eq $name } 0 .. $#names;
            $value{$name}{$version} = $value;
        }
    }

    print "\n";

    for ([ $title, 'APIv2', 'APIv3' ],
         map { [ $_, map { $_ // '' } @{ $value{$_} }{qw(v2 v3)} ] } @names)
    {
        my @cells = map { [ wrap($_->[0], $_->[1] - 1) ] }
                        [ $_->[0], $width[0] ], [ $_->[1], $width[1] ],
                        [ $_->[2], $width[2] ];

        while (grep { @$_ } @cells) {
            my @row = map { shift @$_ // '' } @cells;
            my $line = ' ' x 4 . join '', map {
                $row[$_] . ' ' x ($width[$_] - columns($row[$_]))
            } 0 .. 2;

            $line =~ s/ +$//;
            print $_->[0] eq $title ? paint(name => $line) : $line, "\n";
        }
    }

    return;
}


# The members of JSON, those within others as data.amount.total.

sub members {
    my ($path, $value) = @_;

    return [ $path, layout($value, 2) ]
        if !ref $value || $value->[0] ne '{' || !defined $value->[1];

    my (undef, @members) = @$value;

    return map {
        my ($name) = $_->[0] =~ /^"(.*)": $/;
        members(length $path ? "$path.$name" : $name, $_->[1]);
    } @members;
}


# Chinese characters take two columns, the colours none.

sub columns {
    my ($text) = @_;

    $text =~ s/\e\[[0-9;]*m//g;
    return length($text) + (() = $text =~ /[\x{2e80}-\x{ffef}]/g);
}


# JSON laid out, its members in the order in which they came.

sub pretty {
    my ($text) = @_;

    return layout(tokens(\$text), 0);
}


sub tokens {
    my ($text) = @_;

    my $string = qr/"(?:[^"\\]|\\.)*"/;

    if ($$text =~ /\G\s*([\{\[])/gc) {
        my ($open, @members) = $1;

        while ($$text !~ /\G\s*[\}\]]/gc) {
            my $name = '';

            if ($open eq '{') {
                $$text =~ /\G\s*($string)\s*:/gc or return $$text;
                $name = "$1: ";
            }

            push @members, [ $name, tokens($text) ];
            $$text =~ /\G\s*,/gc or $$text =~ /\G(?=\s*[\}\]])/gc
                or return $$text;
        }

        return [ $open, @members ];
    }

    return $$text =~ /\G\s*($string|[^\s,\}\]]+)/gc ? $1 : $$text;
}


sub layout {
    my ($value, $depth) = @_;

    return $value if !ref $value;

    my ($open, @members) = @$value;
    my $close = $open eq '{' ? '}' : ']';
    my $indent = '  ' x ($depth + 1);
    my @texts = map { $_->[0] . layout($_->[1], $depth + 1) } @members;
    my $flat = join ' ', $open, join(', ', @texts), $close;

    return $flat if $depth > 1;

    return "$open\n" . join(",\n", map { "$indent$_" } @texts) . "\n"
           . '  ' x $depth . $close;
}


sub paint {
    my ($kind, $text) = @_;

    return -t STDOUT && !defined $ENV{NO_COLOR}
           ? "\e[$colour{$kind}m$text\e[m" : $text;
}
