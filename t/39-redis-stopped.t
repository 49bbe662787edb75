#!/usr/bin/perl

# A Redis that stops (SIGSTOP) with a thousand notifies in the air: all are
# answered before their deadline, the worker does all else meanwhile, what waits
# is bounded and its memory is given back; and when Redis goes on, nothing that
# it says too late meets another's claim.

use lib 't/lib';
use RefundNotify::Test;

use RefundNotify::Test::Util qw(read_file);
use Time::HiRes qw(time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;
worker_rlimit_nofile 8192;

events {
    worker_connections 4096;
}

http {
    %%HTTP%%

    log_format notify '$refund_notify_result|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store main redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                      timeout=%%TIMEOUT%%s;
    refund_store ha   redis+sentinel://127.0.0.1:%%SENTINEL%%/m1 prefix=t:
                      cache=off timeout=%%TIMEOUT%%s;

    server {
        listen 127.0.0.1:%%PORT%% backlog=2048;

        refund_notify_store    main;
        refund_notify_deadline %%DEADLINE%%s;
        refund_notify_lease    %%LEASE%%s;

        location = /plain {
            access_log off;
            return 200 plain;
        }

        location = /status {
            access_log off;
            stub_status;
        }

        location = /refunds {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
        }

        location = /many {
            refund_notify shop;
%%TARGETS%%
        }

        location = /ha {
            refund_notify shop;
            refund_notify_store ha;
%%HA_TARGETS%%
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

# what the worker does with a thousand has to fit into the timeout

my $NOTIFIES = 1000;
my $TARGETS = 20;
my $HA_TARGETS = 256;
my $PENDING_MAX = 16384;
my $TIMEOUT = slow(1) > 1 ? 8 : 5;
my $DEADLINE = $TIMEOUT + 1;
my $LEASE = 5 * $TIMEOUT;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();

my ($targets, $ha_targets) = map {
    join "\n", map {
        "            refund_notify_pass /internal/refunds?$_ name=target$_;"
    } 1 .. $_
} $TARGETS, $HA_TARGETS;

# a sentinel that knows of no master

my $sentinel = RefundNotify::Test::ScriptedRedis->new;

sub sentinel_says {
    $sentinel->rules({ command => 'SENTINEL', reply => $_[0] },
                     { command => 'PING', reply => "+PONG\r\n" },
                     { command => 'SUBSCRIBE', fault => 'hang' });
    return;
}

sentinel_says("*-1\r\n");

# what is freed goes back to the system at once, so that it can be seen

$ENV{MALLOC_MMAP_THRESHOLD_} = 256;
$ENV{MALLOC_TOP_PAD_} = 0;

my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, REDIS => $redis->port,
                            TIMEOUT => $TIMEOUT, DEADLINE => $DEADLINE,
                            LEASE => $LEASE, TARGETS => $targets,
                            SENTINEL => $sentinel->port,
                            HA_TARGETS => $ha_targets });
my $client = client($nginx);


sub notifies {
    my ($count) = @_;

    # of either version; making v3 takes long

    return map { $_ % 5 ? $pay->v2_notify($shop) : $pay->v3_notify($shop) }
               1 .. $count;
}


sub post {
    my ($path, $notify) = @_;

    return [ 'POST', $path, $notify->{headers}, $notify->{body} ];
}


sub counted {
    my (@words) = @_;

    my %counts;

    $counts{$_}++ for @words;
    return join ', ', map { "$_: $counts{$_}" } sort keys %counts;
}


# The kB of the worker's memory that are its own.

sub memory {
    my ($pid) = $nginx->workers;
    my ($size) = read_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;

    return $size;
}


# Requests that the worker has not answered, this one left out.

sub in_the_air {
    my ($busy) = client($nginx)->request('GET', '/status')->{body}
                 =~ /Writing: (\d+)/;

    return ($busy // 1) - 1;
}


# The memory of it once all clients are gone.

sub memory_left {
    wait_until(sub { client($nginx)->request('GET', '/status')->{body}
                     =~ /^Active connections: 1 / }, 5);
    return memory();
}


# The answers to all of them, each on a connection of its own.

sub answers {
    my ($path, @notifies) = @_;

    my @answers;

    while (my @some = splice @notifies, 0, $NOTIFIES) {
        @some = map { $pay->resend($shop, $_) } @some;

        my @responses = $client->parallel([ map { post($path, $_) } @some ]);

        push @answers, map { $pay->answer($some[$_], $responses[$_]) }
                           0 .. $#some;
    }

    return counted(@answers);
}


# Sends them all, each on a connection of its own; once so many of them wait for
# Redis, asks for something else.  A worker that waited itself would answer that
# when nothing else is left.

sub all_at_once {
    my ($name, $path, $notifies, %option) = @_;

    my @connections = map { $client->connect } @$notifies;
    my $expected = $option{waiting} // @$notifies;

    for my $i (0 .. $#$notifies) {
        my (undef, @request) = @{ post($path, $notifies->[$i]) };
        $connections[$i]->send('POST', @request);
    }

    ok(wait_until(sub { in_the_air() == $expected }, $TIMEOUT),
       "$name: $expected wait for Redis");

    my $plain = client($nginx)->request('GET', '/plain');

    is(in_the_air(), $expected, "$name: and still do");
    is($plain->{body}, 'plain', "$name: when another location has answered");

    my $peak = memory();

    $option{then}->() if $option{then};

    my @responses = map { $_->read } @connections;

    $_->close for @connections;

    is(counted(map { $pay->answer($notifies->[$_], $responses[$_]) }
                   0 .. $#$notifies),
       ($option{answer} // 'store_error') . ': ' . @$notifies,
       "$name: the answers");

    my ($slowest) = sort { $b <=> $a } map { $_->{time} } @responses;

    cmp_ok($slowest, '<', $DEADLINE + slow(0.5), "$name: in time");
    return $peak;
}


# How often, and with which attempts, the app was called for each of them.

sub delivered {
    my ($name, $attempts, @notifies) = @_;

    my %attempts = map { $_->{event_id} => '' } @notifies;

    $attempts{ $_->{id} } .= $_->{headers}{'refund-attempt'}
        for grep { exists $attempts{ $_->{id} } } $app->requests;

    is(counted(grep { !/$attempts/ } values %attempts), '', $name);
    return;
}


# Resumes Redis and waits until it has been asked again.

sub resume {
    $redis->resume;

    ok(wait_until(sub {
           my ($notify) = notifies(1);
           $pay->answer($notify, client($nginx)->post('/refunds', $notify))
               eq 'SUCCESS';
       }, 10), 'Redis goes on: it is asked again');
    return;
}


my (@peaks, @left);


# it goes on in time: each gets the reply to its own claim

{
    my @notifies = notifies($NOTIFIES);

    resume();
    push @left, memory_left();
    $redis->pause;
    push @peaks, all_at_once('stopped for a moment', '/refunds', \@notifies,
                             answer => 'SUCCESS',
                             then => sub { $redis->resume });
    delivered('stopped for a moment: each delivered once', qr/^1$/, @notifies);
    push @left, memory_left();
}


# It does not, on the connection that there is, and on those tried since.  Some of
# the claims are carried out afterwards, when nobody waits for them any more.

{
    my @claimed = notifies($NOTIFIES);
    my @unclaimed = notifies($NOTIFIES);
    my $deliveries = () = $app->requests;

    $redis->pause;
    push @peaks, all_at_once('stopped', '/refunds', \@claimed);
    push @left, memory_left();

    is(answers('/refunds', @unclaimed), "store_error: $NOTIFIES",
       'stopped, and not connected: the answers');
    push @left, memory_left();
    is(scalar(() = $app->requests), $deliveries,
       'stopped: nothing is delivered');

    resume();

    my @new = notifies($NOTIFIES);

    is(answers('/refunds', @new), "SUCCESS: $NOTIFIES",
       'afterwards: new ones are accepted');
    delivered('afterwards: new ones are delivered once', qr/^1$/, @new);
    like(answers('/refunds', @claimed), qr/^(?:SUCCESS: \d+, )?in_flight: \d+$/,
         'afterwards: what was claimed too late is taken for under way');

    # as if the leases' time had gone by

    $redis->command('EVAL', <<'EOS', 0, 't:*', 72 * 3600_000 - $LEASE * 1000);
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    if string.sub(redis.call('GET', key), 1, 1) == 'P' then
        redis.call('PEXPIRE', key, ARGV[2])
    end
end
EOS

    is(answers('/refunds', @claimed, @unclaimed),
       'SUCCESS: ' . 2 * $NOTIFIES, 'afterwards: told again, accepted');
    delivered('afterwards: claimed or not, delivered once', qr/^[12]$/,
              @claimed);
    delivered('afterwards: not claimed, delivered once', qr/^1$/, @unclaimed);
    push @left, memory_left();
}


# what a thousand notifies took is given back

my ($before, @after) = @left;

note("memory in kB: $before before, ", join(', ', @after),
     ' afterwards, at most ', join(', ', @peaks));

if (!$ENV{REFUND_NOTIFY_SANITIZE}) {
    cmp_ok($peaks[-1] - $before, '>', 10000, 'memory is used');
    cmp_ok($_ - $before, '<', 0.2 * ($peaks[-1] - $before),
           '... and given back') for @after;
    cmp_ok($after[2] - $after[1], '<', 1000, '... and does not grow');
}

# it stops, and more claims come than may wait: 20 of each notify

{
    my $deliveries = () = $app->requests;
    my $many = 'too many requests to Redis are pending';
    my $waiting = int($PENDING_MAX / $TARGETS) + 1;

    $redis->pause;
    all_at_once('stopped, and too many', '/many', [ notifies($NOTIFIES) ],
                waiting => $waiting);

    cmp_ok(scalar(() = read_file($nginx->path('notify.log'))
                       =~ /\|\Q$many\E$/mg), '>=', $NOTIFIES - $waiting,
           'stopped, and too many: those over the bound');
    is(scalar(() = $app->requests), $deliveries,
       'stopped, and too many: nothing is delivered');
    resume();
}


# The same where no connection has them: they wait for a master, and are refused
# by that which is found; those over the bound were at once.

{
    my $waiting = $PENDING_MAX / $HA_TARGETS;
    my $full = redis(config => [ 'maxmemory 1' ]);
    my @notifies = notifies($waiting + 5);
    my @connections = map { $client->connect } @notifies;
    my $start = length read_file($nginx->path('notify.log'));

    my $logged = sub {
        return counted(split /\n/,
                       substr read_file($nginx->path('notify.log')), $start);
    };

    for my $i (0 .. $#notifies) {
        my (undef, @request) = @{ post('/ha', $notifies[$i]) };
        $connections[$i]->send('POST', @request);
    }

    my $many = 'store_error|too many requests to Redis are pending: 5';

    ok(wait_until(sub { $logged->() eq $many }, $TIMEOUT),
       'no master: five are too many');
    is(in_the_air(), $waiting, 'no master: all others wait');

    sentinel_says("*2\r\n\$9\r\n127.0.0.1\r\n\$" . length($full->port)
                  . "\r\n" . $full->port . "\r\n");
    $_->read for @connections;
    ok(wait_until(sub {
        $logged->() eq "store_error|Redis is out of memory: $waiting, $many"
    }, 5), 'a master: it has refused them') or diag($logged->());
    like($nginx->error_log,
         qr/"ha" is down: no sentinel leads to a master$/m,
         'no master: in the log');
}


no_secrets($nginx, $pay->secrets($shop));

done_testing;
