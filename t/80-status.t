#!/usr/bin/perl

# refund_status: what each way of a notify, a delivery or a call adds to the
# counters, to the one; both formats; by two workers at once, after one is
# killed, through a reload with other merchants; the stores, up and down, and
# ?ready; certificates.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::XS ();

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store local  shm:1m;
    refund_store main   redis://127.0.0.1:%%REDIS%% timeout=400ms;
    refund_store unused redis://127.0.0.1:%%PORT_NOWHERE%%;
    refund_store small  shm:64k;

    refund_merchant odd {
        mch_id                1900000777;
        api_v2_key_file       odd.v2key;
        wechatpay_certificate "%%ODD%%";
        wechatpay_certificate "%%WIDE%%";
    }

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%% max_fails=0;
    }

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        location ~ ^/local/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location ~ ^/hurried/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            refund_notify_deadline 300ms;
        }

        location ~ ^/main/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
            refund_notify_deadline 20s;
        }

        location ~ ^/lease/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
            refund_notify_lease 2s;
        }

        location ~ ^/small/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store small;
        }

        location ~ ^/pass/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=passed;
            refund_notify_store main;
            refund_notify_store_error pass;
        }

        location ~ ^/two/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_pass /internal/nowhere name=nowhere;
            refund_notify_store local;
        }

        location /refunds {
            refund_request shop;
            refund_request_pass /internal/wechatpay;
            refund_request_error_rate 1000r/s;
            refund_request_store local;
        }

        location = /status {
            refund_status;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/nowhere {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_NOWHERE%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            %%INCLUDE%%
        }
    }
}
EOC

my $root = abs_path(dirname(__FILE__) . '/..');
my $pay = wechatpay();
my $shop = $pay->merchant(merchant_serial => '5157F09E',
                          serial => [ '0A0B' ]);
my $cafe = $pay->merchant(name => 'cafe', v2_key => []);
my $server = wechatpay_server(merchants => [ $shop ]);
my $app = business_app();
my $redis = redis();
my $text = with_merchants($conf, $shop, $cafe);
my $nginx = nginx($text, vars => {
    APP => $app->port, REDIS => $redis->port, PAY => $server->port,
    INCLUDE => $server->include, ODD => "we\\\"ird\\\\\xff<b>.pem",
    WIDE => "\xe8\xaf\x81\1\x7f.pem",
}, files => {
    'odd.v2key' => 'v' x 32,
    "we\"ird\\\xff<b>.pem" => certificate(rsa_key('odd'), serial => '0C',
                                          to => time + 90 * 86400),
    "\xe8\xaf\x81\1\x7f.pem" => certificate(rsa_key('wide'), serial => '0D'),
});
my $client = client($nginx);
my $caller = caller_of($nginx);
my %kept;


sub status {
    my ($accept, $args, $method) = @_;

    return $client->request($method // 'GET', '/status' . ($args // ''),
                            [ $accept ? (Accept => $accept) : () ]);
}


# Prometheus' text as "name label label ..." => value, without "refund_" and
# "_total".

sub metrics {
    my ($body) = @_;

    my %metrics;

    for (grep { !/^#/ } split /\n/, $body // status()->{body}) {
        my ($name, $labels, $value)
            = /^refund_(\w+?)(?:_total)?(?:\{(.*)\})? ([\d.]+)$/
            or die "no metric: $_\n";

        $metrics{ join ' ', $name, ($labels // '') =~ /="((?:\\.|[^"])*)"/g }
            = $value;
    }

    return \%metrics;
}


# Which counters differ from those before, and by how much; those that hang on
# time are left out.

my $volatile = qr/^(?: \w+_bucket | \w+_sum | \w+_timestamp_seconds
                   | log_lines_held_back | workers | store_connections )\b/x;

sub changed {
    my ($before, $after) = @_;

    return {
        map { ($_ => ($after->{$_} // 0) - ($before->{$_} // 0)) }
            grep { !/$volatile/ && ($after->{$_} // 0) != ($before->{$_} // 0) }
                 keys %{ { %$before, %$after } }
    };
}


sub counts {
    my ($name, $code, @expected) = @_;

    my $before = metrics();
    my %expected;

    $expected{$_}++ for @expected;
    $code->();

    # what was answered is counted, and what goes on behind is waited for

    wait_until(sub {
        my $changed = changed($before, metrics());
        return $changed->{deliveries_under_way} ? 0
               : keys %$changed >= keys %expected;
    }, 5);
    is_deeply(changed($before, metrics()), \%expected, $name);
    return;
}


sub notify {
    my ($path, $notify) = @_;

    return $pay->answer($notify, $client->post($path, $notify));
}


# What one of them adds

sub answered {
    my ($merchant, $version, $result) = @_;

    return ("notify_requests $merchant $version $result",
            'notify_duration_seconds_count');
}


sub delivery {
    my ($outcome) = @_;

    return ('deliveries_started', "deliveries $outcome",
            'delivery_duration_seconds_count');
}


sub store {
    my ($store, @operations) = @_;

    return map { ("store_operations $store $_",
                  "store_operation_duration_seconds_count $store") }
               @operations;
}

my @new = 'store_zone_records local records';


# Each way that a notify can take

wait_until(sub { metrics()->{'store_connections main'} == 2 }, 5);

# a rate wants the first of each, too

is_deeply([ grep { metrics()->{"store_operations main $_"} // 1 }
                 map { ("$_ ok", "$_ error", "$_ timeout") }
                     qw(claim renew release commit keep) ], [],
          'what has not happened is shown as 0');

for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";
    my $known = $pay->$make($shop);
    my $failing = $pay->$make($shop);
    my $late = $pay->$make($shop);

    counts("$version, delivered", sub { notify('/local/shop', $known) },
           answered('shop', $version, 'delivered'), delivery('accepted'),
           store('local', 'claim ok', 'commit ok'), @new);

    counts("$version, a duplicate", sub {
               notify('/local/shop', $pay->resend($shop, $known)) },
           answered('shop', $version, 'duplicate'),
           store('local', 'claim done'));

    counts("$version, refused by the app", sub {
               $app->rules({ status => 500, times => 1 });
               notify('/local/shop', $failing) },
           answered('shop', $version, 'upstream_error'), delivery('failed'),
           store('local', 'claim ok', 'release ok'), @new);

    counts("$version, then accepted", sub {
               notify('/local/shop', $pay->resend($shop, $failing)) },
           answered('shop', $version, 'delivered'), delivery('accepted'),
           store('local', 'claim ok', 'commit ok'));

    counts("$version, of unknown outcome", sub {
               $app->rules({ fault => 'close', times => 1 });
               notify('/local/shop', $pay->$make($shop)) },
           answered('shop', $version, 'upstream_error'), delivery('unknown'),
           store('local', 'claim ok'), @new);

    counts("$version, after the deadline", sub {
               $app->rules({ delay => 2, times => 1 });
               is(notify('/hurried/shop', $late), 'deadline', 'late');
               is(metrics()->{deliveries_under_way}, 1, 'one under way');
               is(notify('/hurried/shop', $pay->resend($shop, $late)),
                  'in_flight', 'refused meanwhile') },
           answered('shop', $version, 'deadline'), delivery('accepted'),
           answered('shop', $version, 'in_flight'),
           store('local', 'claim ok', 'claim in_flight', 'commit ok'), @new);

    counts("$version, two targets", sub {
               notify('/two/shop', $pay->$make($shop)) },
           answered('shop', $version, 'upstream_error'),
           delivery('accepted'), delivery('failed'),
           store('local', ('claim ok') x 2, 'commit ok', 'release ok'),
           (@new) x 2);

    counts("$version, on Redis", sub {
               notify('/main/shop', $known = $pay->$make($shop)) },
           answered('shop', $version, 'delivered'), delivery('accepted'),
           store('main', 'claim ok', 'commit ok'),
           'store_zone_records main cache');

    counts("$version, known to the cache", sub {
               notify('/main/shop', $pay->resend($shop, $known)) },
           answered('shop', $version, 'duplicate'), 'store_cache_hits main');

    counts("$version, not decrypted", sub {
               notify('/local/shop', $pay->$make($shop, -key => 'k' x 32)) },
           answered('shop', $version, 'undecryptable'));

    counts("$version, of another merchant", sub {
               my $other = { %$shop, mch_id => '1900009999' };
               notify('/local/shop', $pay->$make($other)) },
           answered('shop', $version, 'mismatch'));
}

my @v3 = (
    unverified => { -probe => 1 },
    unverified => { -timestamp => time - 3600 },
    ignored => { -echo => 1 },
    unsupported => { -outer => { event_type => 'TRANSACTION.SUCCESS' } },
);

while (my ($result, $bent) = splice @v3, 0, 2) {
    counts("v3, $result", sub {
               notify('/local/cafe', $pay->v3_notify($cafe, %$bent)) },
           answered('cafe', 'v3', $result));
}

counts('not a notify', sub { $client->request('POST', '/local/cafe', [], '?') },
       answered('cafe', 'unknown', 'malformed'));
counts('v2, for which it has no key', sub {
           notify('/local/cafe', $pay->v2_notify($shop)) },
       answered('cafe', 'v2', 'malformed'));
counts('not POST', sub { $client->request('GET', '/local/shop') },
       'notify_requests shop unknown malformed');
counts('no such merchant', sub { $client->request('POST', '/local/x', [], '') },
       'notify_requests unknown malformed');


# What business apps ask for

my $mark = 'store_zone_records local records';

counts('a refund', sub { $caller->create('/refunds') },
       'request_calls shop v3 accepted', 'request_duration_seconds_count',
       store('local', 'claim ok', 'keep ok'), $mark);
counts('rejected', sub {
           $server->rules({ code => 'NOT_ENOUGH', times => 1 });
           $caller->create('/refunds') },
       'request_calls shop v3 rejected', 'request_duration_seconds_count',
       store('local', 'claim ok', 'release ok'));
counts('unknown', sub {
           $server->rules({ fault => 'close', times => 1 });
           $caller->create('/refunds') },
       'request_calls shop v3 unknown', 'request_duration_seconds_count',
       store('local', 'claim ok'), $mark);
counts('refused here', sub { $caller->create('/refunds', amount => 'x') },
       'request_calls shop v3 rejected');


# The two formats say the same

for my $body (status()->{body}) {
    my $json = JSON::XS->new->utf8->decode(
                   status('application/json')->{body})->{metrics};
    my $moving = qr/^refund_(?:store_connections|workers)\b/;
    my @lines;

    ok(utf8::decode($body), 'the text is UTF-8, too');

    for my $name (keys %$json) {
        my ($family) = $body =~ /^# HELP $name (.*\n# TYPE .*)\n/m;

        is($family, "$json->{$name}{help}\n# TYPE $name $json->{$name}{type}",
           "JSON: $name");

        for my $sample (@{ $json->{$name}{samples} }) {
            push @lines, samples($name, $sample);
        }
    }

    my @text = grep { !/^#/ } split /\n/, $body;

    is_deeply([ sort map { as_number($_) } grep { !/$moving/ } @lines ],
              [ sort map { as_number($_) } grep { !/$moving/ } @text ],
              'JSON: the samples of the text');
}


sub as_number {
    my ($line) = @_;

    return $line =~ s/ ([\d.]+)$/" " . ($1 + 0)/er;
}


# One of JSON's samples as lines of text; the labels' order is the text's

sub samples {
    my ($name, $sample) = @_;

    my @order = qw(merchant api_version store operation zone kind file version
                   nginx result outcome);
    my $line = sub {
        my ($suffix, $value, @more) = @_;
        my $labels = join ',', (map { my $value = $sample->{labels}{$_};
                                      qq($_=") . $value =~ s/(["\\])/\\$1/gr
                                      . '"' }
                                    grep { exists $sample->{labels}{$_} }
                                         @order), @more;

        return "$name$suffix" . ($labels && "{$labels}") . " $value";
    };

    return $line->('', $sample->{value}) if exists $sample->{value};

    return ((map { $line->('_bucket', $sample->{buckets}{$_}, qq(le="$_")) }
                 keys %{ $sample->{buckets} }),
            $line->('_sum', $sample->{sum}),
            $line->('_count', $sample->{count}));
}


# Histograms

{
    my $metrics = metrics();

    for my $name ('notify_duration_seconds', 'delivery_duration_seconds',
                  'request_duration_seconds',
                  'store_operation_duration_seconds')
    {
        my $store = $name =~ /^store/ ? ' main' : '';
        my @buckets = map { $metrics->{"${name}_bucket$store $_"} }
                          qw(0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01
                             0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf);

        is(scalar(grep { defined } @buckets), 17, "$name: its buckets");
        is_deeply([ sort { $a <=> $b } @buckets ], \@buckets,
                  "$name: cumulative");
        is($buckets[-1], $metrics->{"${name}_count$store"}, "$name: all");
        cmp_ok($metrics->{"${name}_sum$store"}, '>', 0, "$name: its sum");
    }

    # those that the app took its time for

    cmp_ok($metrics->{'delivery_duration_seconds_count'}
           - $metrics->{'delivery_duration_seconds_bucket 1'}, '>=', 2,
           'two deliveries took more than a second');
    cmp_ok($metrics->{'delivery_duration_seconds_sum'}, '>=', 4,
           'and together four');
    cmp_ok($metrics->{'notify_duration_seconds_sum'}, '>=', 0.6,
           'of which their notifies waited 0.3 s each');
}


# promtool

{
    my $file = $nginx->write_file('metrics', status()->{body});

    is(qx(promtool check metrics <$file 2>&1), '', 'promtool check metrics');
    is($?, 0, 'it is content');
}


# Who asks how is answered what

my @answers = (
    # Accept, what comes
    [ undef, 'text/plain; version=0.0.4; charset=utf-8' ],
    [ '*/*', 'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'image/png', 'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'application/openmetrics-text;version=1.0.0;q=0.5,'
      . 'text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
      'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'application/json', 'application/json' ],
    [ 'Application/JSON; charset=utf-8', 'application/json' ],
    [ 'text/plain;q=0.5, application/json', 'application/json' ],
    [ 'text/plain, application/json;q=0.9',
      'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'application/json;q=0, */*', 'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'text/plain;q=0.9 , application/json;q=0.5',
      'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'application/jsonlines', 'text/plain; version=0.0.4; charset=utf-8' ],
    [ "text/plain;q=0.5,\tapplication/json\t; q=0.6\t, ", 'application/json' ],
    [ "application/json ;\tQ=0.5,text/plain;q=0.6",
      'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'text/plain;q=0.5,application/json;qs=0.1;xq=0.1', 'application/json' ],
    [ 'application/json;q=x,text/plain;q=0.1',
      'text/plain; version=0.0.4; charset=utf-8' ],
    [ 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
      'text/html; charset=utf-8' ],
);

for (@answers) {
    my ($accept, $type) = @$_;
    my $name = 'Accept: ' . ($accept // 'none');

    for my $method (qw(GET HEAD)) {
        my $response = status($accept, '', $method);
        my %headers = %{ $response->{headers} };

        is($response->{status}, 200, "$name, $method");
        is($headers{'content-type'}, $type, 'its type');
        is($headers{'cache-control'}, 'no-store', 'not to be kept');
        is($headers{vary}, 'Accept', 'it varies');
        cmp_ok($headers{'content-length'}, '>', 1000, 'its length');
        is(length $response->{body},
           $method eq 'HEAD' ? 0 : $headers{'content-length'}, 'its body');
    }
}

is($client->request('GET', '/status',
                    [ (map { ("X-Trace-$_" => 'x') } 1 .. 50),
                      Accept => 'application/json' ])
          ->{headers}{'content-type'}, 'application/json',
   'Accept behind many headers');

for my $method (qw(POST PUT DELETE)) {
    my $response = $client->request($method, '/status', [], 'x');

    is("$response->{status} $response->{headers}{allow}", '405 GET, HEAD',
       "$method is not allowed");
}


for (
    # arguments, is it asked for
    [ '?ready', 1 ], [ '?ready=1', 1 ], [ '?a=1&ready', 1 ],
    [ '?ready&a', 1 ], [ '?readyx', 0 ], [ '?xready', 0 ], [ '?a=ready', 0 ],
    [ '?read', 0 ], [ '?', 0 ],
) {
    my ($args, $asked) = @$_;
    my $response = status(undef, $args);

    is($response->{body} eq "ready\n", !!$asked, "$args: what is told");
    is($response->{headers}{'content-type'},
       $asked ? 'text/plain; charset=utf-8'
              : 'text/plain; version=0.0.4; charset=utf-8', 'its type');
}


# Certificates

for my $serial ([ 'wechatpay', '0A0B' ], [ 'merchant', 'apiclient_cert' ]) {
    my ($kind, $name) = @$serial;
    my $dir = scratch_dir();
    my $end = qx(openssl x509 -noout -enddate -in $dir/shop-$name.pem);
    my ($epoch) = map { chomp; $_ } qx(date -d '@{[ $end =~ /=(.*)/ ]}' +%s);

    is(metrics()->{"certificate_expiry_timestamp_seconds shop $kind"
                   . " $dir/shop-$name.pem"}, $epoch, "certificate, $kind");
}

is_deeply([ sort map { s{.*/}{}r } grep { /^certificate\w+ odd / }
                                        keys %{ metrics() } ],
          [ 'we\\"ird\\\\?<b>.pem', "\xe8\xaf\x81??.pem" ],
          'names of other bytes');


# Two workers, many at once; and one that is killed

{
    my $before = metrics();
    my @workers = $nginx->workers;

    $client->parallel([ map {
        my $notify = $pay->v2_notify($shop);
        [ 'POST', '/local/shop', $notify->{headers}, $notify->{body} ]
    } 1 .. 200 ]) for 1, 2;

    my $after = metrics();

    is_deeply(changed($before, $after), {
        'notify_requests shop v2 delivered' => 400,
        'notify_duration_seconds_count' => 400,
        'deliveries_started' => 400, 'deliveries accepted' => 400,
        'delivery_duration_seconds_count' => 400,
        'store_operations local claim ok' => 400,
        'store_operations local commit ok' => 400,
        'store_operation_duration_seconds_count local' => 800,
        'store_zone_records local records' => 400,
    }, 'four hundred by two workers');
    is($after->{workers}, 2, 'two workers');

    # with a delivery of each under way

    $app->rules({ delay => 30 });

    my @connections = map {
        my $connection = $client->connect;
        my $notify = $pay->v2_notify($shop);

        $connection->send('POST', '/main/shop', $notify->{headers},
                          $notify->{body});
        $connection;
    } 1 .. 20;

    wait_until(sub { metrics()->{deliveries_under_way} == 20 }, 5);
    is(metrics()->{deliveries_under_way}, 20, 'twenty under way');

    $nginx->allow(qr/exited on signal 9/);
    $nginx->signal('KILL', $_) for @workers;
    wait_until(sub {
        my @now = $nginx->workers;
        return @now == 2 && !grep { $_ == $now[0] || $_ == $now[1] } @workers;
    }, 10);
    $app->rules;

    %kept = %{ metrics() };
    is($kept{deliveries_under_way}, 0, 'none of them after the workers died');
    is($kept{'deliveries accepted'}, $after->{'deliveries accepted'},
       'none was accepted');
    is($kept{'notify_requests shop v2 delivered'},
       $after->{'notify_requests shop v2 delivered'}, 'all else is kept');
    is($kept{workers}, 2, 'two workers again');
}


# A reload, with a merchant less and one more, while a delivery is under way

{
    my $bar = $pay->merchant(name => 'bar');
    my $connection = $client->connect;
    my $notify = $pay->v3_notify($cafe);

    ok($kept{'notify_requests cafe v3 unverified'}, 'cafe has had notifies');

    $app->forget;
    $app->rules({ delay => 5, times => 1 });
    $connection->send('POST', '/main/cafe', $notify->{headers},
                      $notify->{body});
    $app->wait_for(1);

    $nginx->write_file('nginx.conf', with_merchants($conf, $bar, $shop));
    ok($nginx->reload(wait => 0), 'reload');
    is(metrics()->{deliveries_under_way}, 1, 'the old worker\'s delivery');
    cmp_ok(metrics()->{workers}, '>=', 3, 'and the worker itself');
    is($pay->answer($notify, $connection->read), 'SUCCESS', 'it ends');

    is(metrics()->{'notify_requests cafe v3 delivered'},
       $kept{'notify_requests cafe v3 delivered'} + 1,
       'what it adds is there, though nobody has that name now');
    is(metrics()->{'notify_requests bar v2 delivered'}, 0, 'the new merchant');
    notify('/local/bar', $pay->v2_notify($bar));
    is(metrics()->{'notify_requests bar v2 delivered'}, 1, 'is counted');
    is(metrics()->{'counters_start_timestamp_seconds'},
       $kept{'counters_start_timestamp_seconds'}, 'the counters are the same');
    wait_until(sub { metrics()->{workers} == 2 }, 10);
    is(metrics()->{workers}, 2, 'the old workers are gone');
}


# What seldom happens

{
    my $before = time;

    notify('/local/shop', $pay->v2_notify($shop));

    my $last = metrics()->{notify_last_success_timestamp_seconds};

    cmp_ok($last, '>=', int($before) - 1, 'the last SUCCESS is now');

    # perl's clock may lag behind nginx' by a tick

    cmp_ok($last, '<=', time + 1, 'and not later');
}

{
    my $malformed = qr/\[info\].* refund notify to merchant "shop" /;
    my $lines = () = $nginx->error_log =~ /$malformed/g;
    my $before = metrics()->{log_lines_held_back};

    $client->request('POST', '/local/shop', [], '<x') for 1 .. 40;

    my $held_back = metrics()->{log_lines_held_back} - $before;

    $lines = (() = $nginx->error_log =~ /$malformed/g) - $lines;
    cmp_ok($held_back, '>', 0, 'lines are held back');
    is($held_back + $lines, 40, 'and all others written');
}

{
    my $before = metrics();
    my $n = 100 + $before->{'store_zone_capacity_records small records'};

    for (1 .. 10) {
        $client->parallel([ map {
            my $notify = $pay->v2_notify($shop);
            [ 'POST', '/small/shop', $notify->{headers}, $notify->{body} ]
        } 1 .. $n / 10 ]);
    }

    my $changed = changed($before, metrics());

    cmp_ok($changed->{'store_zone_evictions small records'}, '>', 0,
           'a zone that is too small forgets');
    is($changed->{'store_zone_evictions small records'}
       + $changed->{'store_zone_records small records'},
       $changed->{'deliveries accepted'}, 'what it does not hold');
}

{
    my $before = metrics();
    my $connection = $client->connect;
    my $notify = $pay->v2_notify($shop);

    $app->forget;
    $app->rules({ delay => 2.5, times => 1 });
    $connection->send('POST', '/lease/shop', $notify->{headers},
                      $notify->{body});
    $app->wait_for(1);

    # the record is another's by now

    my ($key) = grep { /\Q$notify->{event_id}\E/ }
                     @{ $redis->command('KEYS', '*') };

    $redis->command('SET', $key, 'P ' . 'f' x 32 . ' 7 600000 1200000',
                    'PX', 1200000);
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'accepted, though its lease was lost');
    is(changed($before, metrics())->{store_leases_lost}, 1, 'which is counted');
}


# A store that goes down, and comes back

sub ready {
    my $response = status(undef, '?ready');

    return "$response->{status} $response->{body}";
}

is(ready(), "200 ready\n", 'ready, though a store that none uses is down');
ok(!exists metrics()->{'store_up unused'}, 'of which nothing is said');
is(metrics()->{'store_up main'}, 1, 'the store is up');
is(metrics()->{'store_up local'}, 1, 'as shared memory is');

my $committed = $pay->v2_notify($shop);

{
    my $before = metrics();
    my $connection = $client->connect;

    $app->rules({ delay => 0.3, times => 1 });
    $app->forget;
    $connection->send('POST', '/main/shop', $committed->{headers},
                      $committed->{body});
    $app->wait_for(1);
    $redis->kill;
    is($pay->answer($committed, $connection->read), 'SUCCESS',
       'accepted, though the store cannot be told');

    ok(wait_until(sub { !metrics()->{'store_up main'} }, 10), 'it is down');
    is(ready(), qq(503 store "main" is down\n), 'not ready');
    ok(wait_until(sub { metrics()->{store_commits_repeated} }, 10),
       'it is told again');
    is(notify('/main/shop', $pay->v3_notify($shop)), 'store_error',
       'no more is taken meanwhile');
    is(notify('/pass/shop', $pay->v3_notify($shop)), 'SUCCESS',
       'but where it is allowed to do without');

    my $changed = changed($before, metrics());

    is($changed->{'notify_requests shop v3 store_error'}, 1, 'a store_error');
    is($changed->{deliveries_unclaimed}, 1, 'a delivery without a claim');
    cmp_ok($changed->{'store_operations main claim error'}, '>=', 2,
           'claims that failed');
    cmp_ok($changed->{'store_operations main commit error'}, '>=', 2,
           'commits that failed');

    $redis->restart;
    ok(wait_until(sub { ready() =~ /^200/ }, 10), 'ready again');
    ok(wait_until(sub {
           changed($before, metrics())->{'store_operations main commit ok'} > 1
       }, 10), 'and told of both at last');
    is(metrics()->{store_commits_given_up}, 0, 'none was given up');

    # but what a worker cannot wait for is

    $connection = $client->connect;
    $committed = $pay->v2_notify($shop);
    $app->rules({ delay => 0.3, times => 1 });
    $app->forget;
    $connection->send('POST', '/main/shop', $committed->{headers},
                      $committed->{body});
    $app->wait_for(1);
    $redis->kill;
    is($pay->answer($committed, $connection->read), 'SUCCESS',
       'accepted while the store is down again');

    my @workers = $nginx->workers;

    $nginx->signal('TERM', $_) for @workers;
    ok(wait_until(sub { eval { metrics()->{store_commits_given_up} } }, 20),
       'its worker ends');
    is(metrics()->{store_commits_given_up}, 1, 'and gives it up');
    $redis->restart;
    ok(wait_until(sub { ready() =~ /^200/ }, 20), 'ready once more');
}


# A store that does not answer in time

{
    my $before = metrics();

    wait_until(sub { metrics()->{'store_connections main'} == 2 }, 10);
    $redis->pause;
    is(notify('/main/shop', $pay->v3_notify($shop)), 'store_error',
       'no answer of the store');
    $redis->resume;
    is(changed($before, metrics())->{'store_operations main claim timeout'}, 1,
       'is counted as such');
}

no_secrets($nginx, $pay->secrets($_)) for $shop, $cafe;

done_testing;
