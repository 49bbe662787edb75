#!/usr/bin/perl

# Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature, which
# is recomputed here with Perl's own HMAC for each of many notifies of one
# worker, with no key, one, and two.

use lib 't/lib';
use RefundNotify::Test;

use Digest::SHA qw(hmac_sha256);
use MIME::Base64 qw(encode_base64);
use Time::HiRes qw(sleep);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /none {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /short {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_signing_key_file %%DIR%%/short;
        }

        location = /long {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_signing_key_file %%DIR%%/long;
        }

        location = /rotated {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_signing_key_file %%DIR%%/long;
            refund_notify_signing_key_file %%DIR%%/short;
        }

        location = /code {
            refund_notify shop;
            refund_notify_pass /internal/fastcgi name=orders;
            refund_notify_pass /internal/refunds;
            refund_notify_signing_key_file %%DIR%%/short;
            refund_notify_ack code;
        }

        location = /changes {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            %%KEYS%%
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/fastcgi {
            internal;
            fastcgi_pass 127.0.0.1:%%FASTCGI%%;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_LENGTH $content_length;
            include %%ROOT%%/conf/refund_delivery_fastcgi.conf;
        }
    }
}
EOC

# every byte there is, as a key is no text; as the file may end

my %key = (short => join('', map { chr } 0 .. 23),
           long => join('', map { chr } 192 .. 255),
           new => 'n' x 32);
my %end = (short => '', long => "\n", new => "\r\n");

my %keys = (none => [], short => [ 'short' ], long => [ 'long' ],
            rotated => [ 'long', 'short' ]);

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $fastcgi = fastcgi();
my $nginx = RefundNotify::Test::Nginx->new(
    conf => with_merchants($conf, $shop),
    vars => { APP => $app->port, FASTCGI => $fastcgi->port, KEYS => '' });

$nginx->write_file($_, whsec($_) . $end{$_}, 0600) for keys %key;
$nginx->write_file('nginx.conf', configuration('long'));
$nginx->start;

my $client = client($nginx);


sub whsec {
    my ($name) = @_;

    return 'whsec_' . encode_base64($key{$name}, '');
}


# The configuration, with these keys for /changes.

sub configuration {
    my (@names) = @_;

    $nginx->{vars}{KEYS} = join ' ', map {
        "refund_notify_signing_key_file %%DIR%%/$_;" } @names;
    return $nginx->{conf};
}


# What the headers must be, from what was received and the keys alone.

sub signed {
    my ($name, $request, $notify, @names) = @_;

    my %header = %{ $request->{headers}
                    || { map { ("webhook-$_" => $request->{params}
                                                { 'HTTP_WEBHOOK_' . uc }) }
                         qw(id timestamp signature) } };
    my $timestamp = $header{'webhook-timestamp'} // '';

    is($header{'webhook-id'}, $notify->{event_id}, "$name: webhook-id");
    like($timestamp, qr/^[1-9]\d{9}$/, "$name: webhook-timestamp");
    cmp_ok(abs($timestamp - $request->{time}), '<', slow(5),
           "$name: webhook-timestamp is the time of this delivery");
    is($header{'webhook-signature'},
       @names ? join(' ', map { 'v1,' . encode_base64(hmac_sha256(
                    "$notify->{event_id}.$timestamp.$request->{body}",
                    $key{$_}), '') } @names)
              : undef, "$name: webhook-signature");
    return;
}


sub delivered {
    my ($name, $path, $version, @names) = @_;

    my $make = "${version}_notify";
    my $notify = $pay->$make($shop);

    $app->forget;
    ok($pay->acknowledged($notify, $client->post($path, $notify)),
       "$name: acknowledged");

    my @requests = $app->requests;
    is(scalar @requests, 1, "$name: delivered once");
    signed($name, $requests[0], $notify, @names);
    return;
}


# one after the other, so that each key is used again and again, in turn

for my $round (1 .. 10) {
    for my $path (sort keys %keys) {
        for my $version (qw(v2 v3)) {
            delivered("$version to /$path, $round", "/$path", $version,
                      @{ $keys{$path} });
        }
    }
}


# at once

my @paths = map { (sort keys %keys)[$_ % 4] } 0 .. 99;
my @notifies = map { $_ % 3 ? $pay->v3_notify($shop) : $pay->v2_notify($shop) }
                   0 .. 99;

$app->forget;

my @responses = $client->parallel([ map {
    [ 'POST', "/$paths[$_]", $notifies[$_]{headers}, $notifies[$_]{body} ]
} 0 .. 99 ]);
my %request = map { $_->{id} => $_ } $app->requests;

is(scalar(grep { $pay->acknowledged($notifies[$_], $responses[$_]) } 0 .. 99),
   100, '100 at once');
is(scalar keys %request, 100, '100 at once: each delivered');
signed("100 at once, $_", $request{ $notifies[$_]{event_id} }, $notifies[$_],
       @{ $keys{ $paths[$_] } }) for 0 .. 99;


# Each attempt is signed anew; the id stays.

my $notify = $pay->v3_notify($shop);

$app->rules({ status => 500, times => 1 });
$app->forget;

ok(!$pay->acknowledged($notify, $client->post('/short', $notify)),
   'attempt 1 is refused');
sleep 1.1;
ok($pay->acknowledged($notify, $client->post('/short',
                                             $pay->resend($shop, $notify))),
   'attempt 2 is accepted');

my @attempts = $app->requests;

is(scalar @attempts, 2, 'two attempts');
signed("attempt $_", $attempts[$_ - 1], $notify, 'short') for 1, 2;
isnt($attempts[0]{headers}{'webhook-timestamp'},
     $attempts[1]{headers}{'webhook-timestamp'}, 'their times differ');
isnt($attempts[0]{headers}{'webhook-signature'},
     $attempts[1]{headers}{'webhook-signature'}, 'their signatures too');
is($attempts[0]{body}, $attempts[1]{body}, 'the event is the same');


# two targets, one of them by FastCGI

for (1 .. 5) {
    my $notify = $pay->v2_notify($shop);
    my $name = "two targets, $_";

    $_->rules({ body => '{"code":"SUCCESS"}' }) for $app, $fastcgi;
    $_->forget for $app, $fastcgi;
    ok($pay->acknowledged($notify, $client->post('/code', $notify)), $name);

    for my $peer ($app, $fastcgi) {
        my @requests = $peer->requests;

        is(scalar @requests, 1, "$name: each once");
        signed($name, $requests[0], $notify, 'short');
    }
}


# A key is replaced by reloads: old, both, new, and none.

$app->rules;
delivered('the old key', '/changes', 'v3', 'long');

for ([ 'both', 'new', 'long' ], [ 'the new key', 'new' ], [ 'no key' ]) {
    my ($name, @names) = @$_;

    $nginx->write_file('nginx.conf', configuration(@names));
    ok($nginx->reload, "$name: reload");
    delivered("$name, $_", '/changes', $_, @names) for qw(v2 v3 v3);
}

no_secrets($nginx, $pay->secrets($shop), values %key,
           map { my $text = whsec($_); ($text, substr $text, 6) } keys %key);

done_testing;
