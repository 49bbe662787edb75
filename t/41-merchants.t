#!/usr/bin/perl

# Whose notify it is, and where it arrives: many merchants on one URL, two
# servers, what one merchant's keys can never do to another, lists of app_id
# and sub_mch_id, keys that are rotated under load, and how the directives are
# inherited.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key);

use JSON::XS qw(decode_json);
use MIME::Base64 qw(encode_base64);
use Time::HiRes qw(sleep);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 1024;
}

http {
    %%HTTP%%

    log_format notify escape=none '$arg_n|$refund_notify_result'
                                  '|$refund_notify_reason'
                                  '|$refund_notify_merchant'
                                  '|$refund_notify_attempt';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    map $uri $merchant_of {
        ~^/map/(?<number>\d+)$ m$number;
        /map/first             m0;
        default                "";
    }

    refund_store main shm:1m;
    refund_store second shm:1m;
    refund_store down redis://127.0.0.1:%%PORT_NOBODY%% timeout=100ms;

    refund_notify_store main;
    refund_notify_deadline %%PATIENCE%%;
    refund_notify_delivery_timeout 60s;
    refund_notify_lease 10s;
    refund_notify_retain 72h;
    refund_notify_store_error fail;
    refund_notify_clock_skew 60s;
    refund_notify_max_body_size 4k;
    refund_notify_signing_key_file %%DIR%%/whsec.1;
    refund_notify_ack status;
    refund_notify_accept v2 v3;

    server {
        listen 127.0.0.1:%%PORT%%;
        server_name first;

        location ~ ^/m/(?<merchant>[^/]*)$ {
            refund_notify $merchant;
            refund_notify_pass /internal/refunds name=orders;
        }

        location /map/ {
            refund_notify $merchant_of;
            refund_notify_pass /internal/refunds name=orders;
        }

        location = /inherited {
            refund_notify b;
            refund_notify_pass /internal/refunds name=orders;
        }

        location = /down {
            refund_notify b;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store down;
        }

        location = /v2 {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_accept v2;
        }

        location = /v3 {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_accept v3;
        }

        location = /post-only {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;

            limit_except POST {
                deny all;
            }
        }

        location = /limited {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;

            limit_except GET {
                allow 127.0.0.1;
                deny all;
            }
        }

        location = /closed {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;

            limit_except GET {
                deny all;
            }
        }

        location = /if {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;

            if ($http_x_set) {
                set $anything 1;
            }

            if ($http_x_header) {
                add_header X-Answer yes always;
            }

            if ($http_x_no) {
                return 403;
            }
        }

        location = /error-page {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;
            error_page 400 401 403 404 405 413 502 503 504 /page;
        }

        location = /error-page-ok {
            refund_notify a;
            refund_notify_pass /internal/refunds name=orders;
            error_page 405 413 =200 /page;
        }

        location = /page {
            internal;
            return 418 '$refund_notify_result|$refund_notify_reason';
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_B%%;
        server_name second;

        refund_notify_store second;
        refund_notify_deadline %%HASTE%%;
        refund_notify_delivery_timeout %%TIMEOUT%%;
        refund_notify_lease 1s;
        refund_notify_retain 3s;
        refund_notify_store_error pass;
        refund_notify_clock_skew 300s;
        refund_notify_max_body_size 64k;
        refund_notify_signing_key_file %%DIR%%/whsec.2;
        refund_notify_signing_key_file %%DIR%%/whsec.1;
        refund_notify_ack code;
        refund_notify_accept v3;

        location = /inherited {
            refund_notify b;
            refund_notify_pass /internal/refunds name=orders;
        }

        location = /down {
            refund_notify b;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store down;
        }

        %%LOCATIONS%%

        location = /down-store_error {
            refund_notify b;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store down;
            refund_notify_store_error fail;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

# That of which the keys change.

my $rotated_conf = <<'EOC';
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

    include %%DIR%%/rotated.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /rotated {
            refund_notify rotated;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

# Each directive alone, set back to what the http block has; a lease has to be
# shorter than what is retained.

my %back = (store => 'main', deadline => '%%PATIENCE%%',
            delivery_timeout => '60s',
            lease => '10s; refund_notify_retain 72h', retain => '72h',
            clock_skew => '60s', max_body_size => '4k',
            signing_key_file => '%%DIR%%/whsec.1', ack => 'status',
            accept => 'v2 v3');
my $locations = join "\n", map {
    "location = /$_ {\n refund_notify b;\n"
    . " refund_notify_pass /internal/refunds name=orders;\n"
    . " refund_notify_$_ $back{$_};\n}"
} sort keys %back;

my $pay = wechatpay();
my $a = $pay->merchant(name => 'a', app_id => [ 'wxa1', 'wxa2' ]);
my $b = $pay->merchant(name => 'b', serial => [ '0ABC5157F09EFDC0' ]);
my $agent = $pay->merchant(name => 'agent',
                           sub_mch_id => [ 1900000110, 1900000111 ]);
my $any = $pay->merchant(name => 'any', sub_mch_id => [ '*' ]);

# a key takes long to make: the 300 share three

my @many = map {
    $pay->merchant(name => "m$_", mch_id => 1800000000 + $_,
                   public_key_id => [ 'PUB_KEY_ID_SHARED_' . $_ % 3 ])
} 0 .. 299;

my $rotated = $pay->merchant(name => 'rotated');
my $app = business_app();
my $good = { body => '{"code":"SUCCESS"}' };

$app->rules($good);

my $nginx = nginx(
    with_merchants($conf, $a, $b, $agent, $any, @many),
    vars => { APP => $app->port, LOCATIONS => $locations,
              PATIENCE => slow(3) . 's', HASTE => slow(1) . 's',
              TIMEOUT => slow(2500) . 'ms' },
    files => { map { ("whsec.$_" => 'whsec_' . encode_base64($_ x 24, '')) }
               1, 2 });
my $rotating = nginx($rotated_conf, vars => { APP => $app->port },
                     files => { 'rotated.conf'
                                => $pay->write($rotated, scratch_dir()) });
my $client = client($nginx);
my %server = (first => $client, second => client($nginx, 'B'),
              rotating => client($rotating));

my %STATUS = (delivered => 200, duplicate => 200, ignored => 200,
              malformed => 400, undecryptable => 400, unverified => 401,
              mismatch => 403, unsupported => 403, in_flight => 503,
              store_error => 503, upstream_error => 502, deadline => 504);

my $n = 0;


# Sends it; the answer, and the log's words: result|reason|merchant|attempt.

sub send_it {
    my ($path, $notify, $server) = @_;

    my $response = $server{ $server // 'first' }->post("$path?n=" . ++$n,
                                                       $notify);

    my $from = ($server // '') eq 'rotating' ? $rotating : $nginx;

    return ($response, split /\|/, $from->logged($n), -1);
}


# What WeChat Pay must get; and only what is delivered reaches the app, once.

sub answers {
    my ($name, $path, $notify, $result, $reason, $server) = @_;

    $app->forget;

    my ($response, $logged, $why) = send_it($path, $notify, $server);
    my $word = $STATUS{$result} == 200 ? 'OK' : $result;
    my $code = $word eq 'OK' ? 'SUCCESS' : 'FAIL';

    is("$response->{status} $response->{body}",
       $notify->{version} eq 'v3'
       ? qq($STATUS{$result} {"code":"$code","message":"$word"})
       : "200 <xml><return_code><![CDATA[$code]]></return_code>"
         . "<return_msg><![CDATA[$word]]></return_msg></xml>", $name);
    is($logged, $result, "$name: \$refund_notify_result");
    like($why, $reason, "$name: \$refund_notify_reason") if $reason;
    is(join(' ', map { $_->{id} } $app->requests),
       $result eq 'delivered' ? $notify->{event_id} : '',
       "$name: what the app got");
    return $response;
}


# 300 merchants on one URL, all at once and in both versions

for my $path ('/m/m', '/map/') {
    my @notifies = map { my $make = $_ % 2 ? 'v2_notify' : 'v3_notify';
                         $pay->$make($many[$_]) } 0 .. 299;

    $app->forget;

    my @responses = $client->parallel([ map {
        [ 'POST', "$path$_", $notifies[$_]{headers}, $notifies[$_]{body} ]
    } 0 .. 299 ]);
    my %got = map { $_->{id} => decode_json($_->{body}) } $app->requests;

    is(scalar(grep { $pay->acknowledged($notifies[$_], $responses[$_]) }
                   0 .. 299), 300, "300 merchants by $path");
    is(scalar(() = $app->requests), 300, "$path: each delivered once");
    is(join(' ', map { my $event = $got{ $notifies[$_]{event_id} };
                       "$event->{merchant}=$event->{data}{mch_id}" } 0 .. 299),
       join(' ', map { "m$_=" . (1800000000 + $_) } 0 .. 299),
       "$path: each as its own merchant's");
}

answers('the map\'s own name', '/map/first', $pay->v3_notify($many[0]),
        'delivered');


# merchants that there are not

for (qw(/m/m300 /m/M1 /m/m01 /m/ /m/m1%20 /m/shop /map/x /map/300
        /map/), '/m/' . 'm' x 500)
{
    $app->forget;

    my ($response, $result, $reason, $merchant)
        = send_it($_, $pay->v3_notify($many[1]));

    is($response->{status}, 404, "404 of $_");
    is("$result|$reason|$merchant", 'malformed|no such merchant|',
       "404 of $_: the variables");
    is(scalar(() = $app->requests), 0, "404 of $_: not delivered");
}


# What one merchant's keys cannot do: be another merchant.

for my $path ('/m/a', '/v3', '/post-only') {
    answers("v3 of a's keys with b's mchid to $path", $path,
            $pay->v3_notify($a, mchid => $b->{mch_id}), 'mismatch',
            qr/mch_id/);
    answers("v3 of a's keys with a longer mchid to $path", $path,
            $pay->v3_notify($a, mchid => "$a->{mch_id}0"), 'mismatch',
            qr/mch_id/);
}

answers("v2 of a's key with b's mch_id to $_", $_,
        $pay->v2_notify($a, -outer => { mch_id => $b->{mch_id} }),
        'mismatch', qr/mch_id/) for qw(/m/a /v2 /if);
answers('v3 of a with a\'s mchid and b\'s sp_mchid', '/m/a',
        $pay->v3_notify($a, sp_mchid => $b->{mch_id}), 'malformed',
        qr/sub_mchid/);
answers('v2 of a to b', '/m/b', $pay->v2_notify($a), 'mismatch', qr/mch_id/);
answers('v2 of a to b, with b\'s mch_id', '/m/b',
        $pay->v2_notify($a, -outer => { mch_id => $b->{mch_id} }),
        'undecryptable');
answers('v3 of a to b', '/m/b', $pay->v3_notify($a), 'unverified', qr/Serial/);
answers('v3 of a to b, with b\'s mchid and serial', '/m/b',
        $pay->v3_notify($a, mchid => $b->{mch_id},
                        -serial => $b->{public_key_id}[0],
                        -signing_key => rsa_key($a->{public_key_id}[0])),
        'unverified', qr/Signature/);
answers('v3 of a to b, signed for b', '/m/b',
        $pay->v3_notify($a, -serial => $b->{public_key_id}[0]),
        'undecryptable', qr/key/);
answers('v3 of m0 to m3, which have a key in common', '/m/m3',
        $pay->v3_notify($many[0]), 'undecryptable', qr/key/);
answers('v3 of m0 to m3, under m3\'s key', '/m/m3',
        $pay->v3_notify($many[0], -key => $many[3]{v3_key}[0]), 'mismatch',
        qr/mch_id/);
answers('v3 of b in the form of a service provider', '/m/b',
        $pay->v3_notify($b, -partner => '1900000110'), 'mismatch',
        qr/sub_mch_id/);


# app_id

for my $id (qw(wxa1 wxa2)) {
    answers("v2 with $id", '/m/a',
            $pay->v2_notify($a, -outer => { appid => $id }), 'delivered');
    answers("v3 with $id", '/m/a', $pay->v3_notify($a, appid => $id),
            'delivered');
}

for my $id (qw(wxa3 wxa wxa11 WXA1)) {
    answers("v2 with $id", '/m/a',
            $pay->v2_notify($a, -outer => { appid => $id }), 'mismatch',
            qr/appid/);
    answers("v3 with $id", '/m/a', $pay->v3_notify($a, appid => $id),
            'mismatch', qr/appid/);
}

answers('v2 without appid', '/m/a',
        $pay->v2_notify($a, -outer => { appid => undef }), 'delivered');
answers('v2 with an appid, none configured', '/m/b',
        $pay->v2_notify($b, -outer => { appid => 'wxany' }), 'delivered');


# sub_mch_id

for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";

    answers("$version of sub-merchant $_", '/m/agent',
            $pay->$make($agent, -partner => "$_"), 'delivered')
        for 1900000110, 1900000111;
    answers("$version of sub-merchant $_", '/m/agent',
            $pay->$make($agent, -partner => "$_"), 'mismatch', qr/sub_mch_id/)
        for 1900000112, 190000011, 19000001100;
    answers("$version of sub-merchant *", '/m/agent',
            $pay->$make($agent, -partner => '*'), 'malformed',
            qr/sub_mch_id/);
    answers("$version of no sub-merchant", '/m/agent', $pay->$make($agent),
            'delivered');
    answers("$version of any sub-merchant, $_", '/m/any',
            $pay->$make($any, -partner => "$_"), 'delivered')
        for 1, '9' x 32;
    answers("$version of a sub-merchant, none configured", '/m/b',
            $pay->$make($b, -partner => '1900000110'), 'mismatch',
            qr/sub_mch_id/);
}

answers('v3 of another service provider', '/m/any',
        $pay->v3_notify($any, -partner => '1', sp_mchid => $a->{mch_id}),
        'mismatch', qr/mch_id/);


# refund_notify_accept, and events that are no refunds

answers('v2 to v2', '/v2', $pay->v2_notify($a), 'delivered');
answers('v3 to v2', '/v2', $pay->v3_notify($a), 'malformed',
        qr/not accepted here/);
answers('v2 to v3', '/v3', $pay->v2_notify($a), 'malformed',
        qr/not accepted here/);
answers('v3 to v3', '/v3', $pay->v3_notify($a), 'delivered');

for my $event (qw(TRANSACTION.SUCCESS PAYSCORE.USER_PAID REFUND.PROCESSING
                  refund.success SECURITY_ECHO.FAIL))
{
    answers($event, '/m/a',
            $pay->v3_notify($a, -outer => { event_type => $event },
                            -resource => { original_type => 'transaction' }),
            'unsupported', qr/event_type/);
    answers("$event, forged", '/m/a',
            $pay->v3_notify($a, -outer => { event_type => $event },
                            -signing_key => rsa_key('stranger')),
            'unverified', qr/Signature/);
}

answers('SECURITY_ECHO', '/m/a', $pay->v3_notify($a, -echo => 1), 'ignored',
        qr/SECURITY_ECHO/);
answers('SECURITY_ECHO, forged', '/m/a',
        $pay->v3_notify($a, -echo => 1, -signing_key => rsa_key('stranger')),
        'unverified', qr/Signature/);
answers('SECURITY_ECHO of a to b', '/m/b', $pay->v3_notify($a, -echo => 1),
        'unverified', qr/Serial/);


# Keys are rotated: old, both, new; nothing is refused that a key that is there
# would take, not even while nginx reloads.

my %old = (v2 => $rotated->{v2_key}[0], v3 => $rotated->{v3_key}[0],
           serial => $rotated->{public_key_id}[0]);
my %new = (v2 => 'new APIv2 key of 32 characters..' =~ tr/ /-/r,
           v3 => 'new APIv3 key of 32 bytes.......', serial => '5A5A5A5B');

sub rotate {
    my ($name, $always, @sets) = @_;

    $rotating->write_file('rotated.conf', $pay->write({
        %$rotated, v2_key => [ map { $_->{v2} } @sets ],
        v3_key => [ map { $_->{v3} } @sets ],
        public_key_id => [ grep { /^PUB/ } map { $_->{serial} } @sets ],
        serial => [ grep { !/^PUB/ } map { $_->{serial} } @sets ],
    }, scratch_dir()));

    # under what is known before and after, while it reloads

    my @notifies = map { under([ v2 => $always ]), under([ v3 => $always ]) }
                       1 .. 20;

    $rotating->signal('HUP');

    my @responses = $server{rotating}->parallel([ map {
        [ 'POST', '/rotated', $_->{headers}, $_->{body} ] } @notifies ]);

    is(scalar(grep { $pay->acknowledged($notifies[$_], $responses[$_]) }
                   0 .. $#notifies), 40, "$name: while nginx reloads");
    ok($rotating->reload, "$name: reloaded");
    return;
}

sub under {
    my ($version, $set) = @{ $_[0] };
    my $make = "${version}_notify";

    return $pay->$make($rotated, -key => $set->{$version},
                       -serial => $set->{serial});
}

sub known {
    my ($name, $old, $new) = @_;

    for ([ 'old', \%old, $old ], [ 'new', \%new, $new ]) {
        my ($which, $set, $known) = @$_;

        answers("$name: v2 under the $which key", '/rotated',
                under([ v2 => $set ]), $known ? 'delivered' : 'undecryptable',
                undef, 'rotating');
        answers("$name: v3 under the $which key", '/rotated',
                under([ v3 => $set ]), $known ? 'delivered' : 'unverified',
                undef, 'rotating');
    }

    return;
}

known('before', 1, 0);
rotate('both, the new ones last', \%old, \%old, \%new);
known('both, the new ones last', 1, 1);
answers('the new APIv3 key under the old signature', '/rotated',
        $pay->v3_notify($rotated, -key => $new{v3}, -serial => $old{serial}),
        'delivered', undef, 'rotating');
rotate('both, the new ones first', \%old, \%new, \%old);
known('both, the new ones first', 1, 1);
rotate('the new ones alone', \%new, \%new);
known('the new ones alone', 0, 1);

my $again = under([ v2 => \%new ]);

answers('before a reload', '/rotated', $again, 'delivered', undef,
        'rotating');
ok($rotating->reload, 'a reload');
answers('what was delivered is known after a reload', '/rotated', $again,
        'duplicate', undef, 'rotating');

# of a public key and a certificate, side by side, each verifies its own

answers("v3 under $_", '/m/b', $pay->v3_notify($b, -serial => $_), 'delivered')
    for $b->{public_key_id}[0], $b->{serial}[0];
answers('v3 under the certificate\'s serial without its zero', '/m/b',
        $pay->v3_notify($b, -serial => 'ABC5157F09EFDC0',
                        -signing_key => rsa_key($b->{serial}[0])),
        'unverified', qr/Serial/);
answers('v3 under the certificate\'s serial and the other key', '/m/b',
        $pay->v3_notify($b, -serial => $b->{serial}[0],
                        -signing_key => rsa_key($b->{public_key_id}[0])),
        'unverified', qr/Signature/);


# limit_except and if within the location

for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";

    answers("$version in limit_except", $_, $pay->$make($a), 'delivered')
        for qw(/post-only /limited);
    is($client->post('/closed', $pay->$make($a))->{status}, 403,
       "$version: what limit_except denies");
    answers("$version beside if", '/if', $pay->$make($a), 'delivered');
    answers("$version in if with set", '/if',
            $pay->$make($a, -headers => [ 'X-Set' => 1 ]), 'delivered');

    my $response = answers("$version in if with add_header", '/if',
                           $pay->$make($a, -headers => [ 'X-Header' => 1 ]),
                           'delivered');

    is($response->{headers}{'x-answer'}, 'yes', "$version: its header");
    is($client->post('/if', $pay->$make($a, -headers => [ 'X-No' => 1 ]))
              ->{status}, 403, "$version: if with return");
}

is($client->request('GET', '/post-only')->{status}, 403,
   'GET, which limit_except denies');
is($client->request('GET', '/limited')->{status}, 405, 'GET outside of it');


# error_page: it is nginx' pages that it replaces, never an answer of ours.

my @pages = (
    [ 'GET', [ 'GET' ], 'malformed|the method is not POST' ],
    [ 'a large body', [ 'POST', ' ' x 4097 ],
      'malformed|the body is too large' ],
);

for (@pages) {
    my ($name, $request, $page) = @$_;
    my ($method, $body) = @$request;
    my $response = $client->request($method, '/error-page', [], $body);

    is("$response->{status} $response->{body}", ($body ? 413 : 405) . " $page",
       "error_page for $name") or diag($response->{error});
    $response = $client->request($method, '/error-page-ok', [], $body);
    is("$response->{status} $response->{body}", "200 $page",
       "error_page for $name with a status of its own");
}

$app->rules({ status => 500, times => 1 }, $good);
$app->forget;

my $failed = $pay->v3_notify($a);
my ($response, @logged) = send_it('/error-page', $failed);

is("$response->{status} $response->{body}",
   '502 {"code":"FAIL","message":"upstream_error"}', 'error_page for our 502');
is($logged[0], 'upstream_error', 'error_page for our 502: its result');
answers('error_page for our 200', '/error-page', $failed, 'delivered');
answers('error_page for our 400', '/error-page',
        $pay->v3_notify($a, -body => '{}'), 'malformed');
answers('error_page for our 401', '/error-page',
        $pay->v3_notify($a, -timestamp => time - 1000), 'unverified');
answers('error_page for v2', '/error-page',
        $pay->v2_notify($a, -req_info => 'QUJD'), 'undecryptable');


# Each directive in http, in a server in its place, and set back in a location:
# the word that tells which.

sub result {
    my ($server, $path, $notify) = @_;

    my (undef, $result) = send_it($path, $notify, $server);

    return $result;
}

sub places {
    my ($directive) = @_;

    return ([ 'http', 'first', '/inherited' ],
            [ 'server', 'second', '/inherited' ],
            [ 'location', 'second', "/$directive" ]);
}

sub probe {
    my ($directive, $code, $ours, $theirs) = @_;

    for (places($directive)) {
        my ($place, @where) = @$_;

        $app->rules($good);
        $app->forget;
        is($code->(@where), $place eq 'server' ? $theirs : $ours,
           "refund_notify_$directive in $place");
    }

    return;
}

probe(accept => sub { result(@_, $pay->v2_notify($b)) },
      'delivered', 'malformed');
probe(clock_skew => sub {
    result(@_, $pay->v3_notify($b, -timestamp => time - 120));
}, 'unverified', 'delivered');
probe(max_body_size => sub {
    my ($server, $path) = @_;
    my $notify = $pay->v3_notify($b);
    my ($response) = send_it($path, $pay->resend($b, {
        %$notify, body => $notify->{body} . ' ' x 4096 }), $server);
    return $response->{status};
}, 413, 200);
probe(ack => sub { $app->rules({}); result(@_, $pay->v3_notify($b)) },
      'delivered', 'upstream_error');
probe(signing_key_file => sub {
    result(@_, $pay->v3_notify($b));
    return scalar(() = ($app->requests)[0]{headers}{'webhook-signature'}
                       =~ /v1,/g);
}, 1, 2);

for ([ http => 'first', '/down', 'store_error' ],
     [ server => 'second', '/down', 'delivered' ],
     [ location => 'second', '/down-store_error', 'store_error' ])
{
    my ($place, $server, $path, $result) = @$_;

    $app->rules($good);
    is(result($server, $path, $pay->v3_notify($b)), $result,
       "refund_notify_store_error in $place");
}

# what main knows, second does not

my $known = $pay->v3_notify($b);

is(result('first', '/inherited', $known), 'delivered',
   'refund_notify_store in http');
is(result('second', '/inherited', $known), 'delivered',
   'refund_notify_store in server');
is(result('second', '/store', $known), 'duplicate',
   'refund_notify_store in location');

# for how long, which is looked at again below

my %retained = map { $_->[0] => $pay->v3_notify($b) } places('retain');

is(result(@$_[1, 2], $retained{ $_->[0] }), 'delivered',
   "refund_notify_retain in $_->[0]: delivered") for places('retain');

my $retained = time;

# A notify to each place, which the app works on, the server's last: [ place,
# notify, connection ].

sub begun {
    my ($directive) = @_;

    my @begun;

    $app->forget;

    for ((places($directive))[0, 2, 1]) {
        my ($place, $server, $path) = @$_;
        my $notify = $pay->v3_notify($b);
        my $connection = $server{$server}->connect;

        $connection->send('POST', $path, @$notify{qw(headers body)});
        push @begun, [ $place, $notify, $connection ];
        $app->wait_for(scalar @begun) or die "nothing was delivered\n";
    }

    return @begun;
}

# a delivery of 1.8 s: a deadline of 3 s or of 1 s

$app->rules({ %$good, delay => slow(1.8) });

for (begun('deadline')) {
    my ($place, $notify, $connection) = @$_;

    is($pay->answer($notify, $connection->read),
       $place eq 'server' ? 'deadline' : 'SUCCESS',
       "refund_notify_deadline in $place");
}

# an app that hangs: the server leaves after 2.5 s, the others do not

$app->rules({ fault => 'hang' });

my @hanging = begun('delivery_timeout');

wait_until(sub { ($app->requests)[2]{ended} }, 10);

for (0 .. 2) {
    my $place = $hanging[$_][0];

    is(($app->requests)[$_]{how} // 'under way',
       $place eq 'server' ? 'left' : 'under way',
       "refund_notify_delivery_timeout in $place");
}

$app->drop;
$app->settle;

# of unknown outcome: a lease of 10 s, or of 1 s

my %leased = map { $_->[0] => $pay->v3_notify($b) } places('lease');

$app->rules({ fault => 'close' });
is(result(@$_[1, 2], $leased{ $_->[0] }), 'upstream_error',
   "refund_notify_lease in $_->[0]: unknown")
    for (places('lease'))[1, 0, 2];
$app->rules($good);

ok(wait_until(sub {
    return result('second', '/inherited', $leased{server}) eq 'delivered';
}), 'refund_notify_lease in server: over');
is(result(@$_[1, 2], $leased{ $_->[0] }), 'in_flight',
   "refund_notify_lease in $_->[0]: not over")
    for (places('lease'))[2, 0];

sleep 0.1 while time < $retained + 4;

is(result(@$_[1, 2], $retained{ $_->[0] }),
   $_->[0] eq 'server' ? 'delivered' : 'duplicate',
   "refund_notify_retain in $_->[0]: 4 s later") for places('retain');

no_secrets($rotating, $pay->secrets($rotated), @new{qw(v2 v3)});
no_secrets($nginx, map({ $pay->secrets($_) } $a, $b, $agent, $any, @many),
           map { $_ x 24, encode_base64($_ x 24, '') } 1, 2);

done_testing;
