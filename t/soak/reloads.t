#!/usr/bin/perl

# Thousands of reloads, one after the other as fast as nginx takes them, while
# notifies of both versions come for both stores: none is lost, late, unanswered
# or delivered twice, the old workers end, and the master does not grow.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::BookingApp;
use RefundNotify::Test::Certificate qw(rsa_key);
use RefundNotify::Test::History qw(now violations);
use RefundNotify::Test::Process qw(open_files private_memory);
use RefundNotify::Test::Stream;

use List::Util qw(max);
use RefundNotify::Test::Util qw(slow wait_until);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 1024;
}

http {
    %%HTTP%%

    access_log off;

    %%MERCHANTS%%

    refund_store main  redis://127.0.0.1:%%REDIS%% prefix=t: timeout=200ms;
    refund_store local shm:64m;

    refund_notify_deadline         %%DEADLINE%%s;
    refund_notify_delivery_timeout 6s;
    refund_notify_lease            4s;

    upstream orders {
        server 127.0.0.1:%%ORDERS%%;
        keepalive 32;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        lingering_close off;

        location = /redis {
            refund_notify       shop;
            refund_notify_pass  /internal/orders name=orders;
            refund_notify_store main;
        }

        location = /local {
            refund_notify       mall;
            refund_notify_pass  /internal/orders name=orders;
            refund_notify_store local;
        }

        location = /internal/orders {
            internal;
            proxy_pass http://orders/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $LEASE = 4;
my $DEADLINE = 3;
my $PATIENCE = 5;
my $RATE = 60;
my $WORKERS = 2;
my @ROWS = (0, 10, 50, 100);    # per cent of the reloads

my $reloads = $ENV{SOAK_RELOADS} || 10_000;

my $pay = wechatpay();
my %shops = map { $_ => $pay->merchant(name => $_) } qw(shop mall);
my %to = (shop => [ '/redis', 'main' ], mall => [ '/local', 'local' ]);

rsa_key($_->{public_key_id}[0]) for values %shops;

my $history = RefundNotify::Test::History->new;
my $redis = redis();
my $app = RefundNotify::Test::BookingApp->new(
    history => $history, target => 'orders',
    rules => [ { id => qr/\d{20}7:/, delay => 0.3 } ]);
my $nginx = nginx(with_merchants($conf, values %shops), log_level => 'notice',
                  vars => { DEADLINE => $DEADLINE, REDIS => $redis->port,
                            ORDERS => $app->port });

my $stream = RefundNotify::Test::Stream->new(
    pay => $pay, clients => [ client($nginx) ], history => $history,
    every => 1 / $RATE, patience => $PATIENCE, ladder => [ 1, 1, 1, 1 ],
    make => sub {
        my $name = (qw(shop mall))[ rand 2 ];
        my ($path, $store) = @{ $to{$name} };
        my $make = (qw(v2_notify v3_notify))[ rand 2 ];
        my $notify = $pay->$make($shops{$name});

        return { notify => $notify, shop => $shops{$name}, path => $path,
                 noted => { genuine => 1, store => $store,
                            targets => [ 'orders' ],
                            amount => $notify->{fields}{refund_fee}
                                      // $notify->{fields}{amount}{refund} } };
    });

my (@rows, %all);
my $processes = 0;
my $failed = 0;
my $start = now();

for my $n (0 .. $reloads) {
    if ($n) {
        my %old = map { $_ => 1 } $nginx->workers;

        $nginx->signal('HUP');

        # until the new workers are there, and the old ones end

        my $new = wait_until(sub {
            my @workers = $nginx->workers;

            return @workers == $WORKERS && !grep { $old{$_} } @workers;
        }, 30);

        $failed++ if !$new;
        last if $failed > 3;
    }

    $all{$_} = 1 for $nginx->workers;
    $processes = max($processes, scalar $nginx->processes) if $n % 10 == 0;

    push @rows, row($n) if grep { $n == int $reloads * $_ / 100 } @ROWS;
}


# The master has two files open for each process that has not ended yet.

sub row {
    my ($n) = @_;

    wait_until(sub { $nginx->processes == $WORKERS }, 30);

    my @workers = $nginx->workers;

    return { n => $n, at => now() - $start, size => private_memory($nginx->pid),
             files => scalar(open_files($nginx->pid)),
             worker => max(map { private_memory($_) } @workers) };
}


is($failed, 0, "$reloads reloads, and new workers each time");
cmp_ok(scalar keys %all, '>=', $reloads, 'they were others each time');
ok($stream->finish(30), 'all of the notifies were acknowledged');
ok(wait_until(sub { $nginx->processes == $WORKERS }, 30),
   'the old workers have ended');

my $found = $history->check(lease => $LEASE, timeout => 0.2, retry => 0.5,
                            deadline => $DEADLINE, slack => slow(0.5),
                            stores => [ 'main', 'local' ]);

note($_) for split /\n/, $history->table($found);
note(sprintf '%.0f events a second; at most %d processes at once',
     $found->{events} / (now() - $start), $processes);
note(sprintf '%9s %7s %12s %6s %12s', @$_)
    for [ 'reloads', 's', 'master, KiB', 'files', 'worker, KiB' ],
        map { [ $_->{n}, sprintf('%.0f', $_->{at}), @$_{qw(size files worker)} ]
        } @rows;

for (violations()) {
    my @examples = grep { defined } @{ $found->{$_} }[0 .. 4];

    is(join(', ', @examples), '', "none: $_")
        or diag(join "\n", $history->lines(map { /(\d{20,})/ } @examples));
}

cmp_ok($found->{events}, '>=', $RATE * $rows[-1]{at} / slow(2),
       'under load indeed');
is($found->{again}, 0, 'none was delivered again');

# Where it reads keys, OpenSSL remembers how, and forgets half of that now and
# then: as an nginx with certificates alone, the master grows for about a
# thousand reloads.  Later what is left of one is no more than 30 bytes.

cmp_ok($rows[-1]{size}, '<=', $rows[2]{size} * 1.05 + 64,
       'the master has not grown in the second half');
is($rows[-1]{files}, $rows[1]{files}, 'it has as many files open');
no_secrets($nginx, map { $pay->secrets($_) } values %shops);

done_testing;
