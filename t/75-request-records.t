#!/usr/bin/perl

# What is remembered of calls: whose out_refund_no is taken, and until when; how
# often a merchant may fail; and that none of it crowds out what the notifies
# have in the same store.

use lib 't/lib';
use RefundNotify::Test;

use JSON::XS ();
use Time::HiRes qw(time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 4;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store small shm:64k;
    refund_store main redis://127.0.0.1:%%REDIS%%;
    refund_store lame redis://127.0.0.1:%%LAME%% timeout=1s;
    refund_store gone redis://127.0.0.1:%%PORT_NOBODY%% timeout=100ms;

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%% max_fails=0;
        keepalive 16;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_request_pass /internal/wechatpay;
        refund_request_error_rate 1000r/s;

        location /shm {
            refund_request shop;
            refund_request_store small;
        }

        location /redis {
            refund_request shop;
            refund_request_store main;
        }

        location /lame {
            refund_request shop;
            refund_request_store lame;
        }

        location /late {
            refund_request shop;
            refund_request_store lame;
            refund_request_deadline 300ms;
        }

        location /gone {
            refund_request shop;
            refund_request_store gone;
        }

        location /limited {
            refund_request shop;
            refund_request_error_rate 6r/s;
        }

        location = /notify {
            refund_notify shop;
            refund_notify_store small;
            refund_notify_pass /internal/refunds;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            %%INCLUDE%%
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(name => 'shop', merchant_serial => '5157F09E');
my $server = wechatpay_server(merchants => [ $shop ]);
my $app = business_app({ status => 200 });
my $redis = redis();
my $lame = scripted_redis();
my $nginx = nginx(with_merchants($conf, $shop), vars => {
    PAY => $server->port, APP => $app->port, REDIS => $redis->port,
    LAME => $lame->port,
    INCLUDE => $server->include,
});
my $caller = caller_of($nginx);

my $NOT_ENOUGH = '403 rejected NOT_ENOUGH';
my $CONFLICT = '409 rejected CONFLICT';


# Each step: [ the server's rule, the amount asked for, the answer ]; all under
# one number

my %story = (
    'rejected, and mended, again and again' => [
        [ { code => 'NOT_ENOUGH' }, 9, $NOT_ENOUGH ],
        [ { code => 'NOT_ENOUGH' }, 8, $NOT_ENOUGH ],
        [ { code => 'NOT_ENOUGH' }, 7, $NOT_ENOUGH ],
        [ {}, 6, '200 accepted' ],
        [ {}, 5, $CONFLICT ],
        [ {}, 6, '200 accepted' ],
    ],
    'put off at first' => [
        [ { code => 'FREQUENCY_LIMITED' }, 9,
          '429 rejected FREQUENCY_LIMITED retryable' ],
        [ {}, 8, '200 accepted' ],
    ],
    'accepted, and then rejected' => [
        [ {}, 9, '200 accepted' ],
        [ { code => 'NOT_ENOUGH' }, 9, $NOT_ENOUGH ],
        [ {}, 8, $CONFLICT ],
    ],
    'unknown, and then rejected' => [
        [ { after => 'reset' }, 9, '502 unknown NO_RESPONSE retryable' ],
        [ { code => 'NOT_ENOUGH' }, 9, $NOT_ENOUGH ],
        [ {}, 8, $CONFLICT ],
        [ {}, 9, '200 accepted' ],
    ],
);

for my $location (qw(/shm /redis)) {
    for my $name (sort keys %story) {
        my $body = $caller->body(amount => { total => 9 });
        my (@answers, @wanted);

        for (@{ $story{$name} }) {
            my ($rule, $refund, $answer) = @$_;

            $server->rules({ %$rule });
            $body->{amount}{refund} = $refund;

            push @answers, $caller->call('POST', $location, $body)->{line};
            push @wanted, $answer;
        }

        is_deeply(\@answers, \@wanted, "$location: $name");
    }
}


# A store that is out of order holds up no refund, and changes no answer; the
# error log says what is not remembered.

for ([ '/gone', 'is not compared with those before: store "gone"' ],
     [ '/lame', 'how it ended could not be told to store "lame"' ])
{
    my ($location, $message) = @$_;
    my $body = $caller->body(amount => { refund => 9, total => 9 });

    $lame->rules({ command => qr/^EVAL/, reply => "-OOM no memory\r\n" });
    $server->rules({ code => 'NOT_ENOUGH' });
    is($caller->call('POST', $location, $body)->{line}, $NOT_ENOUGH,
       "$location: rejected");

    $server->rules({});
    is($caller->call('POST', $location, $body)->{line}, '200 accepted',
       "$location: accepted");
    ok($nginx->wait_for_log('error.log', qr/\[error\].*\Q$message\E/),
       "$location: the error log");
}


# A store that takes longer than there is time: nothing is sent any more, nor is
# the store asked a second time, so that it delays an answer once.

my $late = $caller->body;

$server->forget;

for my $what ('the first call', 'the same call again') {
    $lame->rules({ command => 'SET', delay => 0.6, times => 1 });
    $lame->forget;
    is($caller->call('POST', '/late', $late)->{line},
       '504 unknown TIMEOUT retryable',
       "the store is slower than the deadline: $what");
    is(scalar(grep { $_->{command} eq 'SET' } $lame->requests), 1,
       'the store is asked once');
}

is(scalar $server->requests, 0, 'WeChat Pay was not asked');
is($caller->call('POST', '/lame', $late)->{line}, '200 accepted',
   'once more, and in time');


# An answer about another refund than the one asked for is not believed

for my $answer ({ refund => 1 }, { total => 1 }) {
    my $body = $caller->body(amount => { refund => 9, total => 9 });
    my %amount = (refund => 9, total => 9, payer_refund => 9, payer_total => 9,
                  currency => 'CNY', %$answer);

    $server->rules({ answer => { amount => \%amount } });
    is($caller->call('POST', '/shm', $body)->{line},
       '502 unknown MISMATCHED_RESPONSE retryable',
       'an answer with another ' . (keys %$answer)[0]);
}


# More refunds than the store has room for: what the notifies need is there

$server->rules({});

my %answers;

for (1 .. 40) {
    $answers{ $_->{status} }++ for $caller->parallel([ map {
        [ 'POST', '/shm', [ 'Content-Type' => 'application/json' ],
          JSON::XS::encode_json($caller->body) ]
    } 1 .. 20 ]);
}

is_deeply(\%answers, { 200 => 800 }, '800 refunds more');

my $notify = $pay->v3_notify($shop);

is($pay->answer($notify, client($nginx)->post('/notify', $notify)), 'SUCCESS',
   'a notify, after 800 refunds on a store of 650 records');
is($pay->answer($notify, client($nginx)->post('/notify', $notify)), 'SUCCESS',
   'and again');
is(scalar $app->requests, 1, 'delivered once');


# Six failing calls a second, whichever of four workers they come to

$server->rules({ code => 'NOT_ENOUGH' });
$server->forget;

my $from = time;
my $limited = 0;

while (time - $from < 3) {
    my @responses = $caller->parallel([ map {
        [ 'POST', '/limited', [ 'Content-Type' => 'application/json' ],
          JSON::XS::encode_json($caller->body) ]
    } 1 .. 8 ]);

    $limited += grep { $_->{status} == 429 } @responses;
}

my $seconds = time - $from;
my $sent = () = $server->requests;

# eight are on their way at once, before the first of them has failed

cmp_ok($sent, '<=', 6 + 6 * $seconds + 3 * 8, 'so many failing calls are sent');
cmp_ok($sent, '>=', 6, 'and no fewer');
cmp_ok($limited, '>', 0, 'the others are not');

$nginx->stop;
no_secrets($nginx, $pay->secrets($shop));
done_testing();
