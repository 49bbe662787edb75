#!/usr/bin/perl

# The whole circle: business app -> refund -> WeChat Pay -> notify -> business
# app, under both versions of the API; and the ways in which the business app
# hears of a refund without a notify, by the same record.

use lib 't/lib';
use utf8;
use RefundNotify::Test;
use RefundNotify::Test::Util qw(read_file);

use JSON::XS qw(decode_json);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify '$refund_notify_result';
    log_format call   '$uri $refund_notify_result $refund_notify_reason'
                      ' $refund_notify_version $refund_notify_merchant'
                      ' $refund_notify_id $refund_notify_status'
                      ' $refund_notify_refund_id $refund_notify_out_refund_no'
                      ' $refund_notify_out_trade_no $refund_notify_attempt'
                      ' $refund_notify_store_time $refund_notify_upstream_time';

    access_log %%DIR%%/call.log call;

    %%MERCHANTS%%

    refund_store local shm:1m;

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%%;
        keepalive 4;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /wechatpay/notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            access_log %%DIR%%/notify.log notify;
        }

        location = /wechatpay/agent {
            refund_notify agent;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            access_log %%DIR%%/notify.log notify;
        }

        location /v3 {
            refund_request shop;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/notify;
            refund_request_store local;
        }

        location /v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/notify;
            refund_request_store local;
        }

        location /agent {
            refund_request agent;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/agent;
        }

        location /event/v3 {
            refund_request shop;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/notify;
            refund_request_store local;
            refund_request_pass_event /internal/refunds name=orders;
        }

        location /event/v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/wechatpay;
            refund_request_notify_url https://pay.example.com/wechatpay/notify;
            refund_request_store local;
            refund_request_pass_event /internal/refunds name=orders;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/shop-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/shop-apiclient_key.pem;
            %%INCLUDE%%
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx8888888888888881' ],
                          merchant_serial => '5157F09EFDC047057A01');
my $agent = $pay->merchant(name => 'agent', app_id => [ 'wx8888888888888883' ],
                           sub_mch_id => [ '1900000999' ],
                           merchant_serial => '5157F09EFDC047057A03');

my $app = business_app();
my $server = wechatpay_server(merchants => [ $shop, $agent ]);
my $nginx = nginx(with_merchants($conf, $shop, $agent),
                  vars => { PAY => $server->port, APP => $app->port,
                            FILES => scratch_dir(),
                            INCLUDE => $server->include });
my $caller = caller_of($nginx);
my $client = client($nginx);


# Once round, for each status that a notify has.

for (map { my $location = $_; map { [ $location, $_ ] }
           qw(SUCCESS ABNORMAL CLOSED) } '/v3', '/v2', '/agent')
{
    my ($location, $status) = @$_;
    my %sub = $location eq '/agent' ? (sub_mch_id => '1900000999') : ();

    $app->forget;

    my $asked = $caller->create($location, %sub,
                                amount => { total => 30, refund => 10 });
    my $data = $asked->{json}{data};

    is($asked->{line}, '200 accepted', "$location: a refund");
    is($data->{status}, 'PROCESSING', 'under way');

    my $notify = $server->notify($data->{out_refund_no}, $status);

    is($notify->{version}, $location eq '/v2' ? 'v2' : 'v3', 'its notify');
    is(sent($notify), 'SUCCESS delivered', "$status, which is delivered");

    my @calls = $app->requests;
    my $event = decode_json($calls[0]{body});

    is(scalar @calls, 1, 'the business app hears of it once');
    is($calls[0]{id}, $notify->{event_id}, 'under its id');
    is($event->{data}{status}, $status, 'how it went');

    for my $name (grep { !/^(?:status|channel|create_time|extra|amount
                              |user_received_account|funds_account)$/x }
                       sort keys %$data)
    {
        is($event->{data}{$name}, $data->{$name}, "the same $name");
    }

    is("@{ $event->{data}{amount} }{qw(total refund)}", '30 10',
       'the same amounts');
    is(sent($notify), 'SUCCESS duplicate', 'the notify again');
    is(scalar $app->requests, 1, 'is not delivered again');
}


# SUCCESS at once: delivered once, and the notify that follows is a duplicate.

$server->rules({ refund_status => 'SUCCESS' });
$app->forget;

my $at_once = $caller->create('/event/v3')->{json}{data};

is($at_once->{status}, 'SUCCESS', 'SUCCESS at once');
ok($app->wait_for(1), 'the business app hears of it');
$app->settle;

my $refund = $server->refund($at_once->{out_refund_no});
my ($call) = $app->requests;
my $event = decode_json($call->{body});
my $id = "wechatpay:$shop->{mch_id}:$at_once->{refund_id}:SUCCESS";

is($call->{path}, '/refunds', 'where it hears of all');
is($call->{id}, $id, 'under the id that the notify has');
is($call->{headers}{'refund-attempt'}, 1, 'as a first attempt');
is_deeply([ @$event{qw(type id timestamp provider api_version merchant)} ],
          [ 'refund.succeeded', $id, $refund->{success_time}, 'wechatpay',
            'v3', 'shop' ], 'the event');
is_deeply({ map { $_ => $event->{data}{$_} }
                qw(status refund_id out_refund_no transaction_id
                   success_time) },
          { map { $_ => $at_once->{$_} }
                qw(status refund_id out_refund_no transaction_id
                   success_time) }, 'its data');
ok((!grep { exists $event->{data}{$_} } qw(channel create_time)),
   'as a notify has it');

my $late = $server->notify($at_once->{out_refund_no});

is($late->{event_id}, $id, 'the notify that follows');
is(sent($late), 'SUCCESS duplicate', 'is a duplicate');
is(scalar $app->requests, 1, 'the business app heard of it once');


# The call does not wait for the business app, nor for its refusal; then the
# notify brings it.

$app->forget;
$app->rules({ status => 500, times => 1 });

my $refused = $caller->create('/event/v3');

is($refused->{line}, '200 accepted', 'the business app refuses the event');
ok($app->wait_for(1), 'which it was offered');
$app->settle;

my $no = $refused->{json}{data}{out_refund_no};

ok(wait_until(sub { sent($server->notify($no)) eq 'SUCCESS delivered' }, 5),
   'the notify brings it');
is(($app->requests)[1]{headers}{'refund-attempt'}, 2, 'as a second attempt');
$app->rules;


# No event: while it is under way; where none is asked for; a query without
# "deliver", or that finds several; a refund that is refused.

$app->forget;
$server->rules({ code => 'NOT_ENOUGH' });
is($caller->create('/event/v3')->{line}, '403 rejected NOT_ENOUGH',
   'a refund that is refused');
$server->rules({ refund_status => 'SUCCESS' });
$caller->create('/v2', out_trade_no => 'of-two', amount => { total => 10 })
    for 1, 2;
is(scalar @{ $caller->call('GET', '/event/v2?out_trade_no=of-two&deliver')
             ->{json}{data}{refunds} || [] }, 2, 'a query that finds two');
$caller->create('/v3');
$server->rules;

my $under_way = $caller->create('/event/v3')->{json}{data}{out_refund_no};

$caller->call('GET', "/event/v3/$under_way?deliver");
is($caller->call('GET', "/event/v3/$under_way?deliver")->{line},
   '200 accepted', 'a refund that is under way');
$server->conclude($under_way, 'SUCCESS');
$caller->call('GET', "/event/v3/$under_way");
$caller->call('GET', "/event/v3/$under_way?undeliver&delivery=1");
$caller->call('GET', "/event/v3/$under_way?x");
$caller->call('GET', "/v3/$under_way?deliver");
$caller->create('/event/v3', amount => { refund => 2 });
select undef, undef, undef, 0.3;
is(scalar $app->requests, 0, 'nothing to hear');


# A query that delivers what never arrived.

for (map { my $version = $_; map { [ $version, @$_ ] }
           [ 'SUCCESS', 'deliver' ], [ 'SUCCESS', 'deliver=1' ],
           [ 'CLOSED', 'deliver' ] } 'v3', 'v2')
{
    my ($version, $status, $argument) = @$_;
    my $out_refund_no
        = $caller->create("/event/$version")->{json}{data}{out_refund_no};

    $server->conclude($out_refund_no, $status);
    $app->forget;

    my $path = "/event/$version/$out_refund_no?$argument";
    my $answer = $caller->call('GET', $path);

    is($answer->{line}, '200 accepted', "$version, $status: ?$argument");
    is($answer->{json}{data}{status}, $status, 'which has ended');
    ok($app->wait_for(1), 'the business app hears of it');
    $app->settle;

    my ($call) = $app->requests;
    my $refund_id = $answer->{json}{data}{refund_id};

    is($call->{id}, "wechatpay:$shop->{mch_id}:$refund_id:$status",
       'under the id that the notify has');
    is(decode_json($call->{body} // '{}')->{data}{status}, $status,
       'how it went');

    $caller->call('GET', $path);
    is(sent($server->notify($out_refund_no, $status)), 'SUCCESS duplicate',
       'the notify is a duplicate');
    is(scalar $app->requests, 1, 'it was delivered once');
}

my %connections = map { $_->{connection} => 1 } $server->requests;

is(scalar keys %connections, 1, 'all by one connection');
is(scalar $server->problems, 0, 'nothing wrong with what was sent');

$nginx->stop;

# a call is no notify, whatever logs it: neither what was asked for, nor what
# goes out for it

my @calls = grep { !m{^/internal/refunds } }
                 split /\n/, read_file($nginx->path('call.log'));

ok((grep { m{^/internal/wechatpay/} } @calls), 'calls are logged');
is(join("\n", grep { !/^\S+( -){12}$/ } @calls), '',
   'with no variable of a notify');

no_secrets($nginx, map { $pay->secrets($_) } $shop, $agent);

done_testing();


# What WeChat Pay reads, and what the log calls it.

sub sent {
    my ($notify) = @_;

    my ($path) = $notify->{url} =~ m{^https://pay\.example\.com(/.*)};
    my $log = $nginx->path('notify.log');
    my $lines = () = read_file($log) =~ /\n/g;
    my $response = $client->post($path, $pay->resend(
        $path =~ /agent/ ? $agent : $shop, $notify));
    my $result = wait_until(sub {
        (split /\n/, read_file($log))[$lines];
    }, 5) // '-';

    return $pay->answer($notify, $response) . " $result";
}
