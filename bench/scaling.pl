#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# How the module scales: with workers, connections, sizes, merchants and ids
# that are remembered.  Prints tables, and writes them to
# bench/results/scaling.md.
#
#   bench/scaling.pl [workers|connections|sizes|merchants|redis|shm] ...
#
#   BENCH_SECONDS   of load for each measurement, 2 unless given
#   BENCH_COUNT     prepared notifies of a kind, 60000 unless given
#   BENCH_IDS       that Redis and shared memory are filled with, 10000000
#                   unless given
#   BENCH_RESULTS   where to write, bench/results unless given

use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

use lib dirname(__FILE__) . '/../t/lib', dirname(__FILE__) . '/lib';

use RefundNotify::Bench::Callgrind qw(under_callgrind);
use RefundNotify::Bench::Measure qw(bench_dir key cpu_of pin notifies load
                                    cpu_time rss_anon redis_info delivered
                                    markdown machine);
use RefundNotify::Bench::Merchants qw(more_merchants fresh_counts
                                      MERCHANTS_FLAT);
use RefundNotify::Test ();
use RefundNotify::Test::Client ();
use RefundNotify::Test::Nginx ();
use RefundNotify::Test::Redis ();
use RefundNotify::Test::Util qw(scratch_dir read_file write_file);

my $conf = <<'END';
%%GLOBALS%%
worker_processes     %%WORKERS%%;
worker_cpu_affinity  auto %%AFFINITY%%;
worker_rlimit_nofile 16384;

events {
    worker_connections 8192;
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

    %%MERCHANTS%%

    refund_store shm   shm:64m;
    refund_store redis redis://127.0.0.1:%%REDIS%% cache=64m timeout=2s;

    refund_notify_clock_skew    1h;
    refund_notify_max_body_size 128k;

    upstream business {
        server             127.0.0.1:%%BUSINESS%%;
        keepalive          1024;
        keepalive_requests 1000000000;
    }

    server {
        listen 127.0.0.1:%%PORT_shm%% backlog=4096 reuseport;

        set $merchant shop;

        location = /wechatpay/refund-notify {
            refund_notify       $merchant;
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
        listen 127.0.0.1:%%PORT_redis%% backlog=4096 reuseport;

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
worker_processes     1;
worker_cpu_affinity  auto %%AFFINITY%%;
worker_rlimit_nofile 16384;

events {
    worker_connections 8192;
}

http {
    %%HTTP%%
    access_log           off;
    keepalive_requests   1000000000;
    client_max_body_size 1m;

    server {
        listen 127.0.0.1:%%PORT%% backlog=4096;

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

my $root = abs_path(dirname(__FILE__) . '/..');
my $seconds = $ENV{BENCH_SECONDS} || 2;
my $count = $ENV{BENCH_COUNT} || 60000;
my $ids = $ENV{BENCH_IDS} || 10_000_000;
my $results = $ENV{BENCH_RESULTS} || "$root/bench/results";
my $module = RefundNotify::Test::Nginx::module_path();

my @parts = qw(workers connections sizes merchants redis shm);
my %part = (workers => \&workers, connections => \&connections,
            sizes => \&sizes, merchants => \&merchants, redis => \&redis,
            shm => \&shm);

my @sample_head = ('requests/s', 'p50 ms', 'p99 ms', 'CPU µs');

my ($redis, $business);

exit main(@ARGV);


sub main {
    my @wanted = @_ ? @_ : @parts;

    $part{$_} or die "usage: $0 [@{[ join '|', @parts ]}] ...\n" for @wanted;

    $redis = RefundNotify::Test::Redis->new;
    pin($redis->pid, 'redis');
    $business = RefundNotify::Test::Nginx->new(
        conf => $business_conf, module => 0, log_level => 'warn',
        vars => { AFFINITY => '1' . '0' x cpu_of('business') })->start;

    my $text = join "\n", '# Scaling', '', (map { "- $_" } machine()),
                    (map { print "$_\n"; ('', $part{$_}->()) } @wanted), '';

    $_->stop for $business, $redis;

    utf8::encode($text);
    print "\n$text";

    mkdir $results;
    write_file("$results/scaling.md", $text);
    print "\nwritten to $results/scaling.md\n";

    return 0;
}


sub worker {
    my (%option) = @_;

    my $workers = $option{workers} // 1;

    return RefundNotify::Test::Nginx->new(
        conf => $conf, log_level => 'warn', under => $option{under},
        patience => $option{under} ? 300 : 20,
        vars => { WORKERS => $workers,
                  AFFINITY => $workers == 1 ? '1' . '0' x cpu_of('worker')
                                            : '',
                  KEYS => bench_dir() . '/keys', SERIAL => key('serial'),
                  MERCHANTS => $option{merchants} // '',
                  REDIS => $redis->port, BUSINESS => $business->port })
        ->start;
}


# A measurement of fresh notifies, each of which is delivered.

sub fresh {
    my ($nginx, $port, $file, %option) = @_;

    my @pids = $nginx->workers;
    my $delivered = delivered($business);
    my $cpu = cpu_time(@pids);
    my $sample = load($nginx->port($port), $file, seconds => $seconds,
                      %option);

    select undef, undef, undef, 0.5;

    $sample->{delivered} = delivered($business) - $delivered;
    $sample->{cpu} = (cpu_time(@pids) - $cpu) / $sample->{delivered} / 1e3;

    die "$sample->{statuses} answers were errors, $sample->{delivered} of",
        " $sample->{requests} were delivered\n"
        if $sample->{statuses}
           || abs($sample->{delivered} - $sample->{requests})
              > ($option{connections} // 32) + 32;

    return $sample;
}


sub stop {
    my ($nginx) = @_;

    $nginx->stop;
    die "$_\n" for $nginx->problems;

    return;
}


sub sample_columns {
    my ($sample) = @_;

    return map { sprintf $_->[1], $sample->{ $_->[0] } }
               [ rate => '%.0f' ], [ p50 => '%.2f' ], [ p99 => '%.2f' ],
               [ cpu => '%.1f' ];
}


sub workers {
    my @rows;

    for my $kind ('v2', 'v3') {
        for my $store ('shm', 'redis') {
            for my $workers (1, 2) {
                my $nginx = worker(workers => $workers);

                $redis->command('FLUSHALL');

                push @rows, [ "$kind, $store", $workers,
                              sample_columns(fresh($nginx, $store,
                                  notifies($kind, 1, $count))) ];
                stop($nginx);
            }
        }
    }

    return ('## Workers', '', markdown([ 'Fresh', 'workers', @sample_head ],
                                       @rows));
}


sub connections {
    my @rows;

    for my $store ('shm', 'redis') {
        for my $connections (1, 10, 100, 1000) {
            my $nginx = worker();

            $redis->command('FLUSHALL');

            my $before = redis_info($redis)->{total_reads_processed};
            my $sample = fresh($nginx, $store, notifies('v2', 1, $count),
                               connections => $connections);
            my $writes = redis_info($redis)->{total_reads_processed} - $before;

            push @rows, [ "v2, $store", $connections, sample_columns($sample),
                          $store eq 'redis'
                          ? sprintf '%.2f', $writes / $sample->{delivered}
                          : '' ];
            stop($nginx);
        }
    }

    return ('## Connections', '',
            markdown([ 'Fresh', 'connections', @sample_head,
                       'writes to Redis' ], @rows));
}


# What is added to the plaintext grows by a third in base64.

sub sizes {
    my @rows;

    for my $kind ('v2', 'v3') {
        for my $size (1, 4, 16, 60) {
            my $extra = $size == 1 ? 0 : ($size - 1) * 1024 / 4 * 3;
            my $file = notifies($kind, 1, $size > 16 ? 4000 : 20000, $extra);
            my $nginx = worker();

            push @rows, [ "$kind, shm",
                          sprintf('%.1f', body_length($file) / 1024),
                          sample_columns(fresh($nginx, 'shm', $file)) ];
            stop($nginx);
        }
    }

    return ('## Sizes', '',
            markdown([ 'Fresh', 'body KB', @sample_head ], @rows));
}


sub body_length {
    my ($file) = @_;

    open my $input, '<:raw', $file or die "$file: $!\n";
    read $input, my $head, 4096;

    return $head =~ /^Content-Length: (\d+)/m ? $1 : 0;
}


sub merchants {
    my (@rows, %first);

    for my $count (1, 10, 100, 1000) {
        my $out = scratch_dir() . "/merchants-$count.out";
        my $nginx = worker(merchants => more_merchants($count - 1),
                           under => under_callgrind($out));
        my $delivered = delivered($business);
        my %each = fresh_counts($nginx, $nginx->port('shm'), $out);

        die "no notify was delivered\n"
            if delivered($business) == $delivered;

        for my $kind ('v2', 'v3') {
            my $more = $each{$kind} / ($first{$kind} //= $each{$kind});

            push @rows, [ "$kind, shm", $count, sprintf('%.0f', $each{$kind}),
                          sprintf('%+.2f %%', 100 * ($more - 1)),
                          $more <= MERCHANTS_FLAT ? 'met' : 'missed' ];
        }

        stop($nginx);
    }

    return ('## Merchants', '',
            markdown([ 'Fresh', 'merchants', 'instructions',
                       'more than with one', 'at most 2 %' ],
                     sort { $a->[0] cmp $b->[0] } @rows));
}


# The records are those that a notify has left: its key and its value, with
# other numbers of the refund.

sub redis {
    $redis->command('FLUSHALL');

    my $nginx = worker();
    my $file = notifies('v2', 1, $count);
    my $empty = fresh($nginx, 'redis', $file);

    stop($nginx);

    my ($key, $value, $ttl) = record();

    $redis->command('FLUSHALL');

    my $before = redis_info($redis)->{used_memory};

    fill_redis($key, $value, $ttl);

    my $info = redis_info($redis);
    my ($keys) = $info->{db0} =~ /keys=(\d+)/;

    die "Redis has $keys of $ids ids\n" if $keys != $ids;

    $nginx = worker();
    my $full = fresh($nginx, 'redis', $file);
    stop($nginx);

    # to forget so many takes longer than a command may

    $redis->command('FLUSHALL', 'ASYNC');

    my $each = ($info->{used_memory} - $before) / $keys;

    return ('## Ids in Redis', '',
            "The record: $value under $key.", '',
            markdown([ 'ids', 'memory MB', 'bytes an id', 'at most 240' ],
                     [ $keys, sprintf('%.0f', $info->{used_memory} / 1e6),
                       sprintf('%.1f', $each),
                       $each <= 240 ? 'met' : 'missed' ]), '',
            markdown([ 'Fresh v2 with', @sample_head ],
                     [ 'an empty Redis', sample_columns($empty) ],
                     [ "$keys ids in it", sample_columns($full) ]));
}


# What a fresh notify leaves in Redis.

sub record {
    my (undef, $keys) = @{ $redis->command('SCAN', 0, 'COUNT', 1000) };

    for my $key (@$keys) {
        my $value = $redis->command('GET', $key);

        return ($key, $value, $redis->command('PTTL', $key))
            if $value =~ /^D /;
    }

    die "no notify has left a record in Redis\n";
}


sub fill_redis {
    my ($key, $value, $ttl) = @_;

    # the number of the refund has 17 digits

    my ($head, $tail) = $key =~ /^(.*:503004089420)\d{17}(:.*)$/
        or die "a key of another form: $key\n";
    my $size = length $key;
    my $rest = sprintf "\r\n\$%d\r\n%s\r\n\$2\r\nPX\r\n\$%d\r\n%d\r\n",
                       length $value, $value, length $ttl, $ttl;

    my $port = $redis->port;

    open my $pipe, '|-', "redis-cli -p $port --pipe >/dev/null"
        or die "redis-cli: $!\n";

    for my $n (1 .. $ids) {
        print $pipe "*5\r\n\$3\r\nSET\r\n\$$size\r\n$head",
                    sprintf('%017d', 10_000_000_000 + $n), $tail, $rest
            or die "redis-cli: $!\n";
    }

    close $pipe or die "redis-cli failed\n";

    return;
}


sub shm {
    my $key = '{wechatpay:1900000109:503004089420%017llu:SUCCESS}'
              . '/internal/refunds';

    # a zone that they do not quite fit into, so that what fits is counted

    my $size = 90 * $ids;
    my $output = qx(@{[ bench_dir() ]}/table $size $ids '$key');
    my ($held, $each, $first, $last) = split ' ', $output;

    die "the table was not filled\n" if $? || !$last;

    return ('## Ids in shared memory', '',
            markdown([ 'zone MB', 'ids that it holds', 'bytes an id',
                       'claim and commit, of the first tenth, ns',
                       'of the last, ns' ],
                     [ sprintf('%.0f', $size / 1e6), $held, $each, $first,
                       $last ]));
}
