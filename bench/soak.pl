#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# A million notifies through one worker, good and bad, with both stores: does
# its memory grow?  Prints a table, and writes it to bench/results/soak.md.
#
#   BENCH_STEPS     of 100000 notifies each, 10 unless given
#   BENCH_RESULTS   where to write, bench/results unless given

use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

use lib dirname(__FILE__) . '/../t/lib', dirname(__FILE__) . '/lib';

use RefundNotify::Bench::Measure qw(bench_dir key cpu_of pin notifies load
                                    rss_anon delivered markdown machine);
use RefundNotify::Test ();
use RefundNotify::Test::Client ();
use RefundNotify::Test::Nginx ();
use RefundNotify::Test::Redis ();
use RefundNotify::Test::Util qw(write_file);

# Both stores are smaller than what goes through them: what makes room is a part
# of it.

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
        api_v2_key_file      %%KEYS%%/v2.key;
        api_v3_key_file      %%KEYS%%/v3.key;
        wechatpay_public_key %%SERIAL%% %%KEYS%%/wechatpay.pem;
    }

    refund_store shm   shm:10m;
    refund_store redis redis://127.0.0.1:%%REDIS%% cache=1m;

    refund_notify_clock_skew 1h;

    upstream business {
        server             127.0.0.1:%%BUSINESS%%;
        keepalive          64;
        keepalive_requests 1000;
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
}
END

my $business_conf = <<'END';
%%GLOBALS%%
worker_processes    1;
worker_cpu_affinity auto %%AFFINITY%%;

events {
    worker_connections 4096;
}

http {
    %%HTTP%%
    access_log off;

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
}
END

# A step: which kind, to which store, how many.  Of each wrk leaves some under
# way, which are delivered, but not counted.

my @step = (
    [ 'v2', 'shm', 45100 ],
    [ 'v2', 'redis', 45100 ],
    [ 'v3', 'shm', 4000 ],
    [ 'v3', 'redis', 4000 ],
    [ 'v2-other-key', 'shm', 1000 ],
    [ 'v3-forged', 'redis', 1000 ],
);

# From the first step to the last: 64 pages, and so no byte of a notify's.

use constant FLAT => 256 * 1024;

my $root = abs_path(dirname(__FILE__) . '/..');
my $steps = $ENV{BENCH_STEPS} || 10;
my $results = $ENV{BENCH_RESULTS} || "$root/bench/results";

exit main();


sub main {
    my $redis = RefundNotify::Test::Redis->new;
    my $business = RefundNotify::Test::Nginx->new(
        conf => $business_conf, module => 0, log_level => 'warn',
        vars => { AFFINITY => '1' . '0' x cpu_of('business') })->start;
    my $nginx = RefundNotify::Test::Nginx->new(
        conf => $conf, log_level => 'warn',
        vars => { AFFINITY => '1' . '0' x cpu_of('worker'),
                  KEYS => bench_dir() . '/keys', SERIAL => key('serial'),
                  REDIS => $redis->port, BUSINESS => $business->port })
        ->start;
    my @pids = $nginx->workers;
    my ($sent, $first, @rows, @sizes) = (0, 1);

    pin($redis->pid, 'redis');

    for (1 .. $steps) {
        my $accepted = 0;
        my $delivered = delivered($business);

        for (@step) {
            my ($kind, $store, $count) = @$_;

            my $file = notifies($kind, $first, $count);
            my $sample = load($nginx->port($store), $file, seconds => 600);

            unlink $file;

            $first += $count;
            $sent += $sample->{requests};
            $accepted += $sample->{requests} if $kind !~ /-/;
        }

        select undef, undef, undef, 0.5;
        $delivered = delivered($business) - $delivered;

        # wrk leaves what is under way when a file ends

        die "$delivered of $accepted were delivered\n"
            if abs($delivered - $accepted) > 32 * @step;

        push @sizes, rss_anon(@pids);
        push @rows, [ $sent, sprintf '%.0f', $sizes[-1] / 1024 ];
        print "$rows[-1][0] notifies: $rows[-1][1] KB\n";
    }

    $_->stop for $nginx, $business, $redis;
    die "$_\n" for $nginx->problems;

    my $grown = $sizes[-1] - $sizes[0];
    my $flat = $grown <= FLAT;
    my $text = join "\n", '# Memory of a worker', '',
        (map { "- $_" } machine()), '',
        markdown([ 'notifies', 'RssAnon KB' ], @rows), '',
        sprintf('From the first step to the last: %+.0f KB, at most %.0f: %s.',
                $grown / 1024, FLAT / 1024, $flat ? 'met' : 'missed'), '';

    utf8::encode($text);
    print "\n$text";

    mkdir $results;
    write_file("$results/soak.md", $text);
    print "\nwritten to $results/soak.md\n";

    return $flat ? 0 : 1;
}
