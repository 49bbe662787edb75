#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# The benchmark: this module, what nginx does without it, and the peers that do
# the same job, side by side, in rounds.  Prints a table and the ratios, and
# writes them to bench/results: bench.md, bench.tsv (each round) and bench.svg.
#
#   BENCH_ROUNDS    rounds, 5 unless given
#   BENCH_SECONDS   of load for each scenario and round, 2 unless given
#   BENCH_COUNT     prepared notifies of a kind, 60000 unless given; a scenario
#                   ends where they do
#   BENCH_ONLY      a pattern: only the scenarios whose names match
#   BENCH_RESULTS   where to write, bench/results unless given

use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use Digest::SHA qw(hmac_sha256_hex);
use File::Basename qw(dirname);
use JSON::XS ();
use List::Util qw(max min sum0);
use MIME::Base64 qw(encode_base64);
use POSIX ();

use lib dirname(__FILE__) . '/../t/lib', dirname(__FILE__) . '/lib';

use RefundNotify::Bench::Measure qw(bench_dir key cpu_of pin notifies load
                                    cpu_time rss_anon redis_info delivered
                                    median spread markdown machine requests
                                    send_all);
use RefundNotify::Test ();
use RefundNotify::Test::Client ();
use RefundNotify::Test::Nginx ();
use RefundNotify::Test::Redis ();
use RefundNotify::Test::Util qw(scratch_dir free_port wait_until spawn
                                stop_process read_file write_file);

# The worker that is measured.  shm has room for every notify of a run.

my $conf = <<'END';
%%GLOBALS%%
worker_processes    1;
worker_cpu_affinity auto %%AFFINITY%%;

events {
    worker_connections 4096;
}

http {
    %%HTTP%%
    access_log              off;
    keepalive_requests      1000000000;
    client_body_buffer_size 64k;

    refund_merchant shop {
        mch_id               1900000109;
        app_id               wx2421b1c4370ec43b;
        api_v2_key_file      %%KEYS%%/v2.key;
        api_v3_key_file      %%KEYS%%/v3.key;
        wechatpay_public_key %%SERIAL%% %%KEYS%%/wechatpay.pem;
        merchant_certificate %%KEYS%%/apiclient_cert.pem;
        merchant_key         %%KEYS%%/apiclient_key.pem;
    }

    refund_store shm   shm:64m;
    refund_store redis redis://127.0.0.1:%%REDIS%% cache=64m timeout=2s;

    refund_notify_clock_skew  1h;
    refund_request_pass       /internal/wechatpay;
    refund_request_notify_url https://pay.example.com/wechatpay/refund-notify;

    upstream business {
        server             127.0.0.1:%%BUSINESS%%;
        keepalive          64;
        keepalive_requests 1000000000;
    }

    upstream wechatpay {
        server             127.0.0.1:%%WECHATPAY%%;
        keepalive          64;
        keepalive_requests 1000000000;
    }

    server {
        listen 127.0.0.1:%%PORT_status%%;

        location / {
            refund_status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_shm%%;

        location = /wechatpay/refund-notify {
            refund_notify       shop;
            refund_notify_pass  /internal/refunds;
            refund_notify_store shm;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://business;
            include    %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_redis%%;

        location = /wechatpay/refund-notify {
            refund_notify       shop;
            refund_notify_pass  /internal/refunds;
            refund_notify_store redis;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://business;
            include    %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_request_v3%%;

        location /refunds {
            refund_request shop;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass         http://wechatpay/;
            proxy_http_version 1.1;
            proxy_set_header   Connection "";
        }
    }

    server {
        listen 127.0.0.1:%%PORT_request_v2%%;

        location /refunds {
            refund_request     shop;
            refund_request_api v2;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass         http://wechatpay/;
            proxy_http_version 1.1;
            proxy_set_header   Connection "";
        }
    }
}
END

# What nginx does without this module.

my $bare_conf = <<'END';
%%GLOBALS%%
worker_processes    1;
worker_cpu_affinity auto %%AFFINITY%%;

events {
    worker_connections 4096;
}

http {
    %%HTTP%%
    access_log              off;
    keepalive_requests      1000000000;
    client_body_buffer_size 64k;

    upstream business {
        server             127.0.0.1:%%BUSINESS%%;
        keepalive          64;
        keepalive_requests 1000000000;
    }

    server {
        listen 127.0.0.1:%%PORT_return%%;

        location / {
            return 200;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_proxy%%;

        location / {
            proxy_pass         http://business;
            proxy_http_version 1.1;
            proxy_set_header   Connection "";
        }
    }
}
END

# The business app of all of them, and WeChat Pay, whose answers to one refund
# are signed beforehand: to ask for the same refund again is what WeChat Pay
# wants to be done where an outcome is unknown.

my $business_conf = <<'END';
%%GLOBALS%%
worker_processes    1;
worker_cpu_affinity auto %%AFFINITY%%;

events {
    worker_connections 4096;
}

http {
    %%HTTP%%
    access_log         off;
    keepalive_requests 1000000000;
    default_type       application/json;

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            return 200;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_status%%;

        location / {
            stub_status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_wechatpay%%;

        location = /v3/refund/domestic/refunds {
            %%V3_HEADERS%%
            return 200 '%%V3_ANSWER%%';
        }

        location = /secapi/pay/refund {
            default_type text/xml;
            return 200 '%%V2_ANSWER%%';
        }
    }
}
END

# The peer in Lua.

my $lua_conf = <<'END';
load_module %%MODULES%%/ndk_http_module.so;
load_module %%MODULES%%/ngx_http_lua_module.so;

%%GLOBALS%%
worker_processes    1;
worker_cpu_affinity auto %%AFFINITY%%;

events {
    worker_connections 4096;
}

http {
    %%HTTP%%
    access_log              off;
    keepalive_requests      1000000000;
    client_body_buffer_size 64k;
    lua_package_path        "%%ROOT%%/bench/peers/lua/?.lua;;";

    init_by_lua_block {
        peer = require "refund_notify"
        peer.init("%%KEYS%%", %%REDIS%%)
    }

    upstream business {
        server             127.0.0.1:%%BUSINESS%%;
        keepalive          64;
        keepalive_requests 1000000000;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        set $webhook_id "";
        set $webhook_timestamp "";

        location = /wechatpay/refund-notify {
            content_by_lua_block { peer.handle() }
        }

        location = /internal/refunds {
            internal;
            proxy_pass                 http://business;
            proxy_http_version         1.1;
            proxy_pass_request_headers off;
            proxy_set_header           Connection "";
            proxy_set_header           Content-Type application/json;
            proxy_set_header           webhook-id $webhook_id;
            proxy_set_header           webhook-timestamp $webhook_timestamp;
        }
    }
}
END

my $root = abs_path(dirname(__FILE__) . '/..');
my $rounds = $ENV{BENCH_ROUNDS} || 5;
my $seconds = $ENV{BENCH_SECONDS} || 2;
my $count = $ENV{BENCH_COUNT} || 60000;
my $results = $ENV{BENCH_RESULTS} || "$root/bench/results";
my $only = $ENV{BENCH_ONLY} // '';

# before the time is measured: what is made once, and what a JIT wants to see

use constant WARM_UP => 3000;

# notifies that come one after the other, of which each has Redis to itself

use constant SINGLY => 500;

# a ratio whose rounds are further apart than this part of it tells of what else
# the machine did

use constant WIDE => 0.1;

# who does it, on which port, to which notifies (cycle: the same ones again and
# again, which the warm-up has sent once), the status of its answers, how many
# deliveries each of them makes, and as what this module counts it

my @scenarios = (
    { name => 'return 200, v2', who => 'bare', port => 'return',
      kind => 'v2' },
    { name => 'return 200, v3', who => 'bare', port => 'return',
      kind => 'v3' },
    { name => 'proxy_pass, v2', who => 'bare', port => 'proxy',
      kind => 'v2', delivers => 1 },
    { name => 'proxy_pass, v3', who => 'bare', port => 'proxy',
      kind => 'v3', delivers => 1 },

    { name => 'fresh v2, Redis', who => 'nginx', port => 'redis',
      kind => 'v2', delivers => 1,
      result => 'delivered' },
    { name => 'fresh v2, shm', who => 'nginx', port => 'shm',
      kind => 'v2', delivers => 1,
      result => 'delivered' },
    { name => 'fresh v3, Redis', who => 'nginx', port => 'redis',
      kind => 'v3', delivers => 1,
      result => 'delivered' },
    { name => 'fresh v3, shm', who => 'nginx', port => 'shm',
      kind => 'v3', delivers => 1,
      result => 'delivered' },

    { name => 'duplicate v2, Redis', who => 'nginx', port => 'redis',
      kind => 'v2', cycle => 1,
      result => 'duplicate' },
    { name => 'duplicate v2, shm', who => 'nginx', port => 'shm',
      kind => 'v2', cycle => 1,
      result => 'duplicate' },
    { name => 'duplicate v3, Redis', who => 'nginx', port => 'redis',
      kind => 'v3', cycle => 1,
      result => 'duplicate' },
    { name => 'duplicate v3, shm', who => 'nginx', port => 'shm',
      kind => 'v3', cycle => 1,
      result => 'duplicate' },

    { name => 'forged v2', who => 'nginx', port => 'shm',
      kind => 'v2-other-key', cycle => 1,
      result => 'undecryptable' },
    { name => 'forged v3', who => 'nginx', port => 'shm',
      kind => 'v3-forged', cycle => 1, refused => 1,
      result => 'unverified' },
    { name => 'before crypto, v2', who => 'nginx', port => 'shm',
      kind => 'v2-no-req-info', cycle => 1,
      result => 'malformed' },
    { name => 'before crypto, v3', who => 'nginx', port => 'shm',
      kind => 'v3-other-serial', cycle => 1, refused => 1,
      result => 'unverified' },

    { name => 'create, v2', who => 'nginx', port => 'request_v2',
      kind => 'create', cycle => 1,
      result => 'accepted' },
    { name => 'create, v3', who => 'nginx', port => 'request_v3',
      kind => 'create', cycle => 1,
      result => 'accepted' },

    { name => 'Lua, fresh v2', who => 'lua', kind => 'v2', delivers => 1 },
    { name => 'Lua, fresh v3', who => 'lua', kind => 'v3', delivers => 1 },
    { name => 'Node, fresh v2', who => 'node', kind => 'v2', delivers => 1 },
    { name => 'Node, fresh v3', who => 'node', kind => 'v3', delivers => 1 },
);

# one's CPU time a notify over the other's; at most that

my @budgets = (
    [ 'fresh v2, Redis', 'proxy_pass, v2', 2.2 ],
    [ 'fresh v2, shm', 'proxy_pass, v2', 1.9 ],
    [ 'fresh v3, Redis', 'proxy_pass, v3', 3.4 ],
    [ 'fresh v3, shm', 'proxy_pass, v3', 3.1 ],
    [ 'duplicate v2, Redis', 'return 200, v2', 2.6 ],
    [ 'duplicate v2, shm', 'return 200, v2', 2.6 ],
    [ 'duplicate v3, Redis', 'return 200, v3', 5 ],
    [ 'duplicate v3, shm', 'return 200, v3', 5 ],
    [ 'before crypto, v2', 'return 200, v2', 1.4 ],
    [ 'before crypto, v3', 'return 200, v3', 1.4 ],
    [ 'fresh v2, Redis', 'Lua, fresh v2', 1 / 4 ],
    [ 'fresh v3, Redis', 'Lua, fresh v3', 1 / 3 ],
    [ 'fresh v2, Redis', 'Node, fresh v2', 1 / 7 ],
    [ 'fresh v3, Redis', 'Node, fresh v3', 1 / 4.5 ],
);

# of a fresh notify, and of an id with its target

my @redis_budgets = (
    [ 'commands', 'Redis commands a fresh notify', '%.2f', 3 ],
    [ 'writes', 'writes to Redis a fresh notify, one at a time', '%.2f', 2 ],
    [ 'key_memory', "bytes of Redis' memory an id", '%.0f', 240 ],
);

# What no code can go below: nginx taking the request, or passing it on as well,
# and RSA where the protocol wants it.

my @floors = (
    [ 'fresh v2, shm', 'proxy_pass, v2' ],
    [ 'fresh v3, shm', 'proxy_pass, v3', 'verify' ],
    [ 'duplicate v2, shm', 'return 200, v2' ],
    [ 'duplicate v3, shm', 'return 200, v3', 'verify' ],
    [ 'forged v3', 'return 200, v3', 'verify' ],
    [ 'create, v3', 'proxy_pass, v3', 'verify', 'sign' ],
);

my ($redis, $business, %file, %sample, %writes, %rsa);

exit main();


sub main {
    @scenarios = grep { $_->{name} =~ /$only/ } @scenarios;
    die "no scenario's name matches $only\n" if !@scenarios;

    print "preparing notifies\n";
    prepare();

    $redis = RefundNotify::Test::Redis->new;
    pin($redis->pid, 'redis');
    compare();
    $business = business();
    singly($_) for grep { $_->{who} eq 'nginx' && uses_redis($_) } @scenarios;

    # each round in another order, so that nothing always follows the same

    for my $round (1 .. $rounds) {
        my @order = $round % 2 ? @scenarios : reverse @scenarios;

        for my $scenario (@order) {
            my $sample = measure($scenario);

            push @{ $sample{ $scenario->{name} } }, $sample;
            printf "round %d of %d: %-22s %8.0f/s %8.1f us of CPU\n", $round,
                   $rounds, $scenario->{name}, $sample->{rate},
                   $sample->{cpu};
        }
    }

    $_->stop for $business, $redis;

    # of RSA-2048 by libcrypto, in microseconds

    @rsa{ 'sign', 'verify' } = map { 1e6 / $_ }
        qx(taskset -c @{[ cpu_of('worker') ]} openssl speed -seconds 1 \\
           -mr rsa2048 2>/dev/null) =~ /^\+F2:\d+:2048:([\d.]+):([\d.]+)/m;

    report();

    return 0;
}


# Warm-ups are of refunds of their own.  create: a body that is asked for again
# and again.

sub prepare {
    for my $kind (map { $_->{kind} } @scenarios) {
        next if $file{$kind};

        if ($kind eq 'create') {
            my $body = '{"out_refund_no":"1318000000000000001",'
                       . '"transaction_id":"4200000215200000000000001",'
                       . '"reason":"商品已售完","amount":{"refund":888,'
                       . '"total":888,"currency":"CNY"}}';

            utf8::encode($body);

            my $request = "POST /refunds HTTP/1.1\r\nHost: localhost\r\n"
                          . "Content-Type: application/json\r\n"
                          . 'Content-Length: ' . length($body)
                          . "\r\n\r\n$body";
            my $line = sprintf '%08d%s', length $request, $request;

            $file{$kind} = write_file(scratch_dir() . '/create', $line);
            $file{"$kind warm"} = write_file(scratch_dir() . '/create-warm',
                                             $line x 200);
            next;
        }

        $file{"$kind warm"} = notifies($kind, 1, WARM_UP);
        $file{$kind} = notifies($kind, 1 + WARM_UP, $count)
            if grep { $_->{kind} eq $kind && !$_->{cycle} } @scenarios;
    }

    return;
}


# Before anything is measured: whoever is, makes the same JSON of a notify,
# delivers it once however often it comes, and refuses what is forged or has no
# sum that is one.

sub compare {
    my %json;

    $business = RefundNotify::Test::BusinessApp->new(rules => []);

    for my $scenario (@scenarios) {
        my $kind = $scenario->{kind};

        next if !$scenario->{delivers} || $scenario->{who} eq 'bare';

        my @bad = map { "$kind-$_" } $kind eq 'v2' ? 'other-key' : 'forged',
                                     'bad-fee', 'no-fee';

        $redis->command('FLUSHALL');

        my ($server, $port) = start($scenario);
        my $connection
            = RefundNotify::Test::Client->new(port => $port)->connect;
        my $before = $business->requests;
        my @notify = requests($kind, 1, 1);
        my $answers = send_all($connection, [ @notify, @notify ]);
        my @delivered = $business->requests;
        my $refused = send_all($connection,
                               [ map { requests($_, 2, 1) } @bad ]);
        my $json = JSON::XS->new->canonical;

        $connection->close;
        $server->();

        my $after = $business->requests;

        die "$scenario->{name}: $answers; refused: $refused; ",
            $after - $before, " deliveries\n"
            if $answers !~ /SUCCESS.*OK/ || $answers =~ /FAIL|; /
               || $refused !~ /FAIL/ || $refused =~ /SUCCESS/
               || $after != $before + 1;

        my $event = $json->encode($json->decode($delivered[-1]{body}));

        $json{$kind} //= $event;

        die "$scenario->{name}: another JSON:\n$event\n$json{$kind}\n"
            if $event ne $json{$kind};
    }

    $business->stop;

    return;
}


# How often a notify writes to Redis that comes alone: of many at a time some
# share a write.

sub singly {
    my ($scenario) = @_;

    $redis->command('FLUSHALL');

    my ($server, $port) = start($scenario);
    my $connection = RefundNotify::Test::Client->new(port => $port)->connect;
    my @requests = requests($scenario->{kind}, 1, 20 + SINGLY);
    my $sample = { notifies => SINGLY };

    # the first of them open connections

    send_all($connection, [ splice @requests, 0, 20 ]);

    my $info = redis_info($redis);
    my $answers = send_all($connection, \@requests);

    redis_sample($sample, $info, redis_info($redis));
    die "$scenario->{name}: $answers\n" if $answers =~ /FAIL|^0 |; /;

    $connection->close;
    $server->();

    $writes{ $scenario->{name} } = $sample->{writes};

    return;
}


sub business {
    my ($v3_headers, $v3_answer) = v3_answer();

    my $nginx = RefundNotify::Test::Nginx->new(
        conf => $business_conf, module => 0, log_level => 'warn',
        vars => { AFFINITY => affinity('business'),
                  V3_HEADERS => $v3_headers, V3_ANSWER => $v3_answer,
                  V2_ANSWER => v2_answer() })->start;

    return $nginx;
}


sub affinity {
    my ($role) = @_;

    return '1' . '0' x cpu_of($role);
}


sub v3_answer {
    my $answer = '{"amount":{"currency":"CNY","discount_refund":0,"from":[],'
        . '"payer_refund":888,"payer_total":888,"refund":888,'
        . '"settlement_refund":888,"settlement_total":888,"total":888},'
        . '"channel":"ORIGINAL","create_time":"2020-12-01T16:18:12+08:00",'
        . '"funds_account":"AVAILABLE",'
        . '"out_refund_no":"1318000000000000001",'
        . '"out_trade_no":"7110000000000000001","promotion_detail":[],'
        . '"refund_id":"50000000382019052709732678859",'
        . '"status":"PROCESSING",'
        . '"transaction_id":"4200000215200000000000001",'
        . '"user_received_account":"招商银行信用卡0403"}';

    utf8::encode($answer);

    # half of the clock skew, which is the protocol's 5 minutes here, would be
    # over before the run is: it is signed anew for each business app

    my $time = time + 280;
    my $nonce = '00000000000000000000000000000001';
    my $signed = write_file(scratch_dir() . '/answer',
                            "$time\n$nonce\n$answer\n");
    my $key = bench_dir() . '/keys/wechatpay.key';
    my $signature = encode_base64(
        qx(openssl dgst -sha256 -sign $key $signed), '');

    my %headers = ('Wechatpay-Timestamp' => $time,
                   'Wechatpay-Nonce' => $nonce,
                   'Wechatpay-Serial' => key('serial'),
                   'Wechatpay-Signature' => $signature);

    return (join("\n", map { "add_header $_ \"$headers{$_}\";" }
                           sort keys %headers), $answer);
}


sub v2_answer {
    my %field = (
        return_code => 'SUCCESS', return_msg => 'OK',
        result_code => 'SUCCESS', appid => 'wx2421b1c4370ec43b',
        mch_id => key('mch_id'), nonce_str => 'NfsMFbUFpdbEhPXP',
        transaction_id => '4200000215200000000000001',
        out_trade_no => '7110000000000000001',
        out_refund_no => '1318000000000000001',
        refund_id => '50000000382019052709732678859', refund_fee => 888,
        settlement_refund_fee => 888, total_fee => 888,
        settlement_total_fee => 888, cash_fee => 888,
        cash_refund_fee => 888, fee_type => 'CNY',
    );

    my $text = join '&', (map { "$_=$field{$_}" } sort keys %field),
                         'key=' . key('v2.key');

    $field{sign} = uc hmac_sha256_hex($text, key('v2.key'));

    return join '', '<xml>', (map { "<$_><![CDATA[$field{$_}]]></$_>" }
                                  sort keys %field), '</xml>';
}


# Starts who does it, warms it up, measures, checks, stops.

sub measure {
    my ($scenario) = @_;

    my $kind = $scenario->{kind};

    $redis->command('FLUSHALL');

    # its answer is signed for some minutes only

    if ($kind eq 'create') {
        $business->stop;
        $business = business();
    }

    my ($server, $port, $status, @pids) = start($scenario);

    load($port, $file{"$kind warm"}, seconds => 30);

    my $delivered = delivered($business);
    my $counted = counted($scenario, $status);
    my $info = redis_info($redis);
    my $cpu = cpu_time(@pids);

    my $sample = load($port, $scenario->{cycle} ? $file{"$kind warm"}
                                                : $file{$kind},
                      seconds => $seconds, cycle => $scenario->{cycle});

    # what was under way when wrk stopped is delivered all the same, and counts

    select undef, undef, undef, 0.2;
    $delivered = delivered($business) - $delivered;
    $sample->{notifies} = $scenario->{delivers} ? $delivered
                                                : $sample->{requests};

    $sample->{cpu} = (cpu_time(@pids) - $cpu) / $sample->{notifies} / 1e3;
    $sample->{memory} = rss_anon(@pids);
    $sample->{counted} = counted($scenario, $status) - $counted;

    redis_sample($sample, $info, redis_info($redis));
    $sample->{ $_->[0] } //= 0 for @redis_budgets;

    $server->();

    check($scenario, $sample, $delivered);

    return $sample;
}


sub start {
    my ($scenario) = @_;

    my %vars = (AFFINITY => affinity('worker'), REDIS => $redis->port,
                KEYS => bench_dir() . '/keys', SERIAL => key('serial'),
                BUSINESS => $business->port,
                WECHATPAY => $business->port('wechatpay'));

    if ($scenario->{who} eq 'node') {
        my $port = free_port();
        my $dir = bench_dir() . '/node';
        my $pid = spawn([ 'taskset', '-c', cpu_of('worker'), 'node',
                          'server.js', $port, $redis->port, $business->port,
                          $vars{KEYS} ],
                        cwd => $dir, output => "$dir/output",
                        env => { NODE_ENV => 'production' });

        wait_until(sub {
            RefundNotify::Test::Client->new(port => $port)
                ->request('GET', '/')->{status} == 404;
        }, 20) or die "node does not start:\n", read_file("$dir/output");

        return (sub { stop_process($pid, 'TERM') }, $port, 0, $pid);
    }

    my ($who, $name) = @$scenario{qw(who port)};

    ($vars{MODULES}) = qx(PATH="\$PATH:/usr/sbin" nginx -V 2>&1)
                       =~ /--modules-path=(\S+)/;

    my $nginx = RefundNotify::Test::Nginx->new(
        conf => { nginx => $conf, bare => $bare_conf,
                  lua => $lua_conf }->{$who},
        module => $who eq 'nginx', log_level => 'warn',
        vars => \%vars)->start;

    return (sub {
        $nginx->stop;
        die "$_\n" for $nginx->problems;
    }, $nginx->port($name // ''), $nginx->port('status'), $nginx->workers);
}


# How many this module says that it has answered so.

sub counted {
    my ($scenario, $port) = @_;

    my $result = $scenario->{result} // return 0;
    my $response = RefundNotify::Test::Client->new(port => $port)
                   ->request('GET', '/');

    die "refund_status does not answer: $response->{error}\n"
        if $response->{status} != 200;

    return sum0($response->{body}
                =~ /^refund_(?:notify_requests|request_calls)_total
                    \{[^}]*="$result"[^}]*\}\ (\d+)$/mgx);
}


# Redis' own counts, without those of INFO; writes is how often it had something
# to read, and with it how often the worker wrote.

sub redis_sample {
    my ($sample, $before, $after) = @_;

    my $notifies = $sample->{notifies};
    my %grown = map { $_ => $after->{$_} - $before->{$_} }
                    qw(total_commands_processed total_net_input_bytes
                       total_net_output_bytes total_reads_processed
                       used_memory);
    my ($keys) = ($after->{db0} // '') =~ /keys=(\d+)/;
    my ($keys_before) = ($before->{db0} // '') =~ /keys=(\d+)/;

    $sample->{commands} = ($grown{total_commands_processed} - 1) / $notifies;
    $sample->{writes} = ($grown{total_reads_processed} - 1) / $notifies;
    $sample->{bytes} = ($grown{total_net_input_bytes}
                        + $grown{total_net_output_bytes}) / $notifies;

    $keys = ($keys // 0) - ($keys_before // 0);
    $sample->{key_memory} = $grown{used_memory} / $keys if $keys > 1000;

    return;
}


# A figure counts only if the job was done.

sub check {
    my ($scenario, $sample, $delivered) = @_;

    my $requests = $sample->{requests};
    my $refused = $scenario->{refused} ? $requests : 0;
    my $expected = $scenario->{delivers} ? $requests : 0;

    die "$scenario->{name}: /proc tells no CPU time\n" if !$sample->{cpu};

    # wrk has 32 under way when it stops

    die "$scenario->{name}: $sample->{statuses} of $requests answers were",
        " errors\n"
        if abs($sample->{statuses} - $refused) > 64;

    die "$scenario->{name}: $delivered of $expected were delivered\n"
        if $scenario->{kind} ne 'create'
           && abs($delivered - $expected) > 64;

    # v2's refusals are errors of no HTTP status

    die "$scenario->{name}: $sample->{counted} of $requests were counted as",
        " $scenario->{result}\n"
        if $scenario->{result} && abs($sample->{counted} - $requests) > 64;

    # the claim, and that it was accepted, but for those that wrk has left

    die "$scenario->{name}: $sample->{commands} commands to Redis a notify\n"
        if uses_redis($scenario)
           && (2 - $sample->{commands}) * $sample->{notifies} > 2 * 64;

    return;
}


sub uses_redis {
    my ($scenario) = @_;

    return $scenario->{delivers} && $scenario->{who} ne 'bare'
           && ($scenario->{port} // 'redis') eq 'redis';
}


sub of {
    my ($name, $field) = @_;

    return map { $_->{$field} } @{ $sample{$name} };
}


sub report {
    my @table = (
        [ 'Scenario', 'requests/s', 'p50 ms', 'p99 ms', 'p99.9 ms',
          'CPU µs', 'CPU µs, min-max', 'Redis commands', 'Redis bytes',
          'memory MB' ],
        map { row($_->{name}) } @scenarios);
    my @ratios = ([ 'CPU time a notify', 'over', 'ratio', 'min-max',
                    'at most', '' ],
                  map { ratio(@$_) } @budgets);
    my @above = ([ 'CPU µs', 'floor', 'which is', 'is', 'above it' ],
                 map { above(@$_) } @floors);
    my @counts = ([ 'Count', 'Scenario', 'is', 'at most', '' ],
                  map { my $name = $_;
                        map { redis_budget($name, @$_) } @redis_budgets }
                      grep { $sample{$_} } 'fresh v2, Redis',
                                           'fresh v3, Redis');

    my $text = join "\n", '# Results', '',
        (map { "- $_" } machine(), peers(), "rounds: $rounds, of $seconds s"
                                            . ' of load each'),
        '', markdown(@table), '', @ratios > 1 ? (markdown(@ratios), '') : (),
        @counts > 1 ? (markdown(@counts), '') : (),
        @above > 1 ? (markdown(@above), '') : (),
        '![CPU time a notify](bench.svg)', '';

    utf8::encode($text);
    print "\n$text";

    mkdir $results;
    write_file("$results/bench.md", $text);
    raw();
    plot();

    print "\nwritten to $results: bench.md, bench.tsv, bench.svg\n";

    return;
}


sub row {
    my ($name) = @_;

    my $redis = median(of($name, 'commands')) > 0.01;

    return [ $name,
             (map { sprintf $_->[1], median(of($name, $_->[0])) }
                  [ rate => '%.0f' ], [ p50 => '%.2f' ], [ p99 => '%.2f' ],
                  [ p999 => '%.2f' ], [ cpu => '%.1f' ]),
             spread('%.1f', of($name, 'cpu')),
             (map { $redis ? sprintf $_->[1], median(of($name, $_->[0]))
                           : '' }
                  [ commands => '%.2f' ], [ bytes => '%.0f' ]),
             sprintf('%.1f', median(of($name, 'memory')) / 1e6) ];
}


# Round by round, for both were measured then.

sub ratio {
    my ($name, $base, $most) = @_;

    return () if !$sample{$name} || !$sample{$base};

    my @cpu = of($name, 'cpu');
    my @base = of($base, 'cpu');
    my @ratios = map { $cpu[$_] / $base[$_] } 0 .. $#cpu;
    my $format = $most < 1 ? '%.3f' : '%.2f';
    my $median = median(@ratios);
    my $wide = max(@ratios) - min(@ratios) > WIDE * $median;

    return [ $name, $base, sprintf($format, $median),
             spread($format, @ratios), sprintf($format, $most),
             ($median <= $most ? 'met' : 'missed')
             . ($wide ? ', not to be quoted' : '') ];
}


sub above {
    my ($name, $base, @rsa) = @_;

    return () if !$sample{$name} || !$sample{$base} || !$rsa{sign};

    my $floor = median(of($base, 'cpu'));
    my $is = median(of($name, 'cpu'));

    $floor += $rsa{$_} for @rsa;

    return [ $name, sprintf('%.1f', $floor),
             join(' + ', $base, map { sprintf "$_ %.1f", $rsa{$_} } @rsa),
             sprintf('%.1f', $is), sprintf('%.1f', $is - $floor) ];
}


sub redis_budget {
    my ($name, $field, $title, $format, $most) = @_;

    my $value = $field eq 'writes' ? $writes{$name}
                                   : median(of($name, $field));

    return [ $title, $name, sprintf($format, $value), sprintf($format, $most),
             sprintf($format, $value) <= $most ? 'met' : 'missed' ];
}


sub peers {
    my ($lua) = qx(dpkg-query -W -f '\${Version}' libnginx-mod-http-lua)
                =~ /^(?:\d+:)?([\d.]+)/;
    my ($node) = qx(node --version) =~ /v([\d.]+)/;
    my $packages = read_file("$root/bench/peers/node/package.json");
    my ($list) = $packages =~ /"dependencies": \{(.*?)\}/s;

    return 'peers: lua-nginx-module ' . ($lua // 'none') . ', Node.js '
           . ($node // 'none') . ' with '
           . join ', ', map { s/[":]//gr } $list =~ /("\S+": "\S+")/g;
}


sub raw {
    my @fields = qw(rate requests notifies p50 p99 p999 cpu commands bytes
                    writes key_memory memory);

    return write_file("$results/bench.tsv", join "\n",
        join("\t", 'scenario', 'round', @fields),
        (map {
            my $name = $_->{name};
            my $round = 0;
            map { join "\t", $name, ++$round,
                       map { sprintf '%.6g', $_ } @$_{@fields}
            } @{ $sample{$name} }
        } @scenarios), '');
}


sub plot {
    my $data = write_file(scratch_dir() . '/plot.tsv', join '', map {
        my $name = $_->{name};
        my @cpu = sort { $a <=> $b } of($name, 'cpu');
        sprintf "\"%s\"\t%f\t%f\t%f\n", $name, median(@cpu), $cpu[0],
                $cpu[-1];
    } reverse @scenarios);

    my $most = max(map { of($_->{name}, 'cpu') } @scenarios);
    my $script = write_file(scratch_dir() . '/plot.gp', <<"END");
set terminal svg size 900,@{[ 120 + 28 * @scenarios ]} noenhanced \\
    font 'sans-serif,13' background 'white'
set output '$results/bench.svg'
set title 'CPU time a notify, median and range of $rounds rounds'
set xlabel 'microseconds'
set xrange [0:@{[ 1.15 * $most ]}]
set yrange [-0.7:@{[ @scenarios - 0.3 ]}]
set grid xtics
set tics nomirror
unset key
set style fill solid 0.8 noborder
set datafile separator "\\t"
plot '$data' using (0):0:(0):2:(\$0-0.35):(\$0+0.35):ytic(1) \\
         with boxxyerror lc rgb '#4878a8', \\
     '$data' using 2:0:3:4 with xerrorbars pt 0 lw 1.5 lc rgb '#202020', \\
     '$data' using 4:0:(sprintf('  %.1f', \$2)) with labels left
END

    system('gnuplot', $script) == 0 or die "gnuplot failed\n";

    return;
}
