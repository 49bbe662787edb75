#!/usr/bin/perl

# What can become of a Redis, one row each: what WeChat Pay is answered, why,
# what the log says, and that once it is over the notify is accepted, and was
# delivered no more often than the loss explains, always under the same id.
#
# More of it elsewhere: every reply at every command in 30-redis.t, a thousand
# notifies in the air in 39-redis-stopped.t, certificates (expired ones too) in
# 35-redis-tls.t, names whose addresses change in 36-redis-names.t, sentinels
# that disagree in 33-sentinel-replies.t.

use lib 't/lib';
use RefundNotify::Test;

use IO::Socket::INET;
use RefundNotify::Test::Resp qw(resp_command);
use RefundNotify::Test::Util qw(free_port read_file);
use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$refund_notify_result|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store real     redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms;
    refund_store scripted redis://127.0.0.1:%%SCRIPTED%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_deadline 30s;

        # not renewed before a row is over

        refund_notify_lease    60s;

        location = /real {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store real;
        }

        location = /scripted {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store scripted;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $LEASE = 60_000;
my $RETAIN = 72 * 3600 * 1000;
my $HOUR = 3600 * 1000;
my $TIMEOUT = slow(1) > 1 ? 2 : 1;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();
my $scripted = scripted_redis();
my %behind = ('/real' => $redis, '/scripted' => $scripted->{redis});

$redis->stop;

my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, REDIS => $redis->port,
                            SCRIPTED => $scripted->port,
                            TIMEOUT => 1000 * $TIMEOUT });
my $n = 0;


sub key {
    my ($notify) = @_;

    return "t:{$notify->{event_id}}orders";
}


sub command {
    return $redis->command(@_);
}


sub config {
    my (%option) = @_;

    command('CONFIG', 'SET', $_, $option{$_}) for sort keys %option;
    return;
}


# nginx has to connect again

sub disconnect {
    command('CLIENT', 'KILL', 'TYPE', 'normal');
    return;
}


# Sends it, once more if need be: the answer, the result and the reason.

sub told {
    my ($path, $notify) = @_;

    my $number = ++$n;
    my $response = client($nginx)->post("$path?n=$number",
                                        $pay->resend($shop, $notify));
    my ($result, $reason) = split /\|/, $nginx->logged($number), -1;

    return ($pay->answer($notify, $response), $result, $reason);
}


# Sends it, and returns when it has been delivered, but not accepted yet.

sub under_way {
    my ($notify) = @_;

    my $connection = client($nginx)->connect;
    my $before = () = $app->requests;

    $app->rules({ id => $notify->{event_id}, times => 1, delay => slow(1) });
    $connection->send('POST', '/real', $notify->{headers}, $notify->{body});
    $app->wait_for($before + 1) or die "nothing was delivered\n";

    return $connection;
}


sub accepted {
    my ($notify) = @_;

    is((told('/real', $notify))[1], 'delivered', 'accepted before the fault');
    return;
}


# As Redis sees a record when its clock was put forward.

sub clock_forward {
    my ($notify, $ms, $on) = @_;

    $on //= $redis;

    my $left = $on->command('PTTL', key($notify));

    $on->command('PEXPIRE', key($notify), $left - $ms) if $left > 0;
    return;
}


# Until it is accepted; a lease that nobody renews is over soon.

sub in_the_end {
    my ($path, $notify) = @_;

    my $answer;

    wait_until(sub {
        ($answer) = told($path, $notify);

        if ($answer eq 'in_flight') {
            clock_forward($notify, $LEASE, $behind{$path});

        } elsif ($answer ne 'SUCCESS') {
            sleep 0.05;
        }

        return $answer eq 'SUCCESS';
    }, 20);

    return $answer;
}


sub failing {
    my ($command, %rule) = @_;

    return sub { $scripted->rules({ command => $command, times => 1,
                                    %rule }) };
}


my $empty = sub { $redis->kill; $redis->restart };
my $running = sub { $scripted->rules };
my $UNEXPECTED = 'Redis sent an unexpected reply';
my ($connection, $busy);

# a claim that waited for a connection, or for its packets to be sent again,
# may be carried out when it is too late

my $late = qr/^[12]$/;

# A row: the fault; the path; what brings it about; the result, and the reason;
# what ends it; the attempts that the app has seen in the end, of the same id.

my @rows = (
    [ 'down at the start', '/real', sub { },
      'store_error', 'Redis cannot be connected to',
      sub { $redis->restart }, '1' ],
    [ 'killed', '/real', sub { $redis->kill },
      'store_error',
      qr/Redis (?:closed the connection|cannot be connected to)/,
      sub { $redis->restart }, '1' ],
    [ 'stopped', '/real', sub { $redis->pause },
      'store_error', 'Redis did not answer in time',
      sub { $redis->resume }, $late ],
    [ 'slow', '/scripted', sub { $scripted->rules({ delay => $TIMEOUT / 6 }) },
      'delivered', '-', $running, '1' ],
    [ 'too slow', '/scripted', failing('SET', delay => 2 * $TIMEOUT),
      'store_error', 'Redis did not answer in time', $running, '2' ],
    [ 'made a replica', '/real',
      sub { command('REPLICAOF', '127.0.0.1', free_port()) },
      'store_error', 'Redis is a read-only replica',
      sub { command('REPLICAOF', 'NO', 'ONE') }, '1' ],
    [ 'loading its data', '/scripted',
      failing('SET', reply => "-LOADING Redis is loading\r\n"),
      'store_error', 'Redis is loading its data', $running, '1' ],
    [ 'out of memory', '/real', sub { config(maxmemory => 1) },
      'store_error', 'Redis is out of memory',
      sub { config(maxmemory => 0) }, '1' ],
    [ 'its disk cannot be written to', '/real',
      sub { mkdir "$redis->{dir}/dump.rdb";
            config(save => '3600 1');
            command('BGSAVE');
            wait_until(sub { command('INFO', 'persistence')
                             =~ /rdb_last_bgsave_status:err/ }) },
      'store_error', 'Redis cannot write to its disk',
      sub { rmdir "$redis->{dir}/dump.rdb";
            config(save => '') }, '1' ],
    (map { [ "a node of a Cluster: -$_->[0]", '/scripted',
             failing('SET', reply => "-$_->[0] $_->[1]\r\n"),
             'store_error', $_->[2], $running, '1' ] }
         [ MOVED => '1 127.0.0.1:1',
           'the key is on another node of the Redis Cluster' ],
         [ ASK => '1 127.0.0.1:1',
           'the key is moving to another node of the Redis Cluster' ],
         [ CLUSTERDOWN => 'The cluster is down',
           'the Redis Cluster is down' ],
         [ TRYAGAIN => 'Multiple keys request during rehashing of slot',
           'the Redis Cluster is moving the keys' ]),
    [ 'a password is asked for', '/real',
      sub { config(requirepass => 'secret-zQ8'); disconnect() },
      'store_error', 'Redis asks for a password',
      sub { config(requirepass => '') }, $late ],
    [ 'a password is wrong', '/scripted',
      failing('SET', reply => "-WRONGPASS invalid\r\n"),
      'store_error', 'Redis refused the user name or password', $running,
      $late ],
    [ 'a permission was taken away', '/real',
      sub { command('ACL', 'SETUSER', 'default', '-set') },
      'store_error', 'the Redis user lacks a permission',
      sub { command('ACL', 'SETUSER', 'default', '+set') }, '1' ],
    [ 'busy with a script', '/real',
      sub { config('busy-reply-threshold' => 1);
            $busy = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                          PeerPort => $redis->port);
            syswrite $busy, resp_command('EVAL', 'while true do end', 0);
            wait_until(sub { !eval { command('PING') } && $@ =~ /BUSY/ }) },
      'store_error', 'Redis is busy with a script',
      sub { command('SCRIPT', 'KILL');
            wait_until(sub { eval { command('PING') } }) }, '1' ],
    [ 'a script is not known', '/scripted',
      sub { failing('EVAL', reply => "-NOSCRIPT No matching script\r\n")->();
            $behind{'/scripted'}->command('SET', key($_[0]),
                                          'F 1 60000 259200000', 'PX',
                                          $RETAIN) },
      'store_error', 'Redis does not know the script', $running, '2' ],
    [ 'its replies come byte by byte', '/scripted',
      sub { $scripted->rules({ split => 1, every => 0.001 }) },
      'delivered', '-', $running, '1' ],
    [ 'a reply too many', '/scripted', failing('GET', reply => "+OK\r\n" x 2),
      'store_error', $UNEXPECTED, $running, '2' ],
    [ 'no reply, but garbage', '/scripted', failing('SET', reply => "?\r\n"),
      'store_error', 'Redis sent a broken reply', $running, '1' ],
    [ 'a reply too large', '/scripted',
      failing('SET', reply => "\$200000\r\n" . 'x' x 200000 . "\r\n"),
      'store_error', 'Redis sent a reply that is too large', $running, '1' ],
    [ 'a reply too late, and the next notify at once', '/scripted',
      failing('GET', delay => 1.5 * $TIMEOUT),
      'store_error', 'Redis did not answer in time',
      sub { my $next = $pay->v2_notify($shop);
            is((told('/scripted', $next))[1], 'delivered',
               '... which is delivered');
            is($behind{'/scripted'}->command('GET', key($next)) =~ /^(\w)/
               && $1, 'D', '... and recorded');
            $scripted->rules }, '2' ],
    [ 'reset between command and reply', '/scripted',
      failing('SET', fault => 'reset', forward => 1),
      'store_error', 'the connection to Redis broke', $running, '2' ],
    [ 'gone with its machine', '/scripted', sub { $scripted->vanished(1) },
      'store_error', 'Redis did not answer in time',
      sub { $scripted->vanished(0) }, $late ],
    [ 'still gone', '/scripted',
      sub { $scripted->vanished(1);
            told('/scripted', $pay->v2_notify($shop)) },
      'store_error', 'connecting to Redis took too long',
      sub { $scripted->vanished(0) }, '1' ],
    [ 'silent without an end', '/scripted',
      sub { $scripted->rules({ fault => 'hang' }) },
      'store_error', 'Redis did not answer in time', $running, '1' ],
    [ 'no more clients', '/real',
      sub { config(maxclients => 1); disconnect() },
      'store_error', 'Redis has too many clients',
      sub { config(maxclients => 1000) }, '1' ],

    # what it forgets is delivered again

    [ 'fails over without the claim', '/real',
      sub { $connection = under_way($_[0]); $empty->() },
      qr/^(?:delivered|in_flight)$/, undef, sub { }, qr/^1(?: 1)?$/ ],
    [ 'fails over without the acceptance', '/real',
      sub { accepted($_[0]); $empty->() },
      'delivered', '-', sub { }, '1 1' ],
    [ 'flushed while it is delivered', '/real',
      sub { $connection = under_way($_[0]); command('FLUSHALL') },
      'delivered', '-', sub { }, '1 1' ],
    [ 'flushed when it was accepted', '/real',
      sub { accepted($_[0]); command('FLUSHALL') },
      'delivered', '-', sub { }, '1 1' ],
    [ 'evicts the acceptance', '/real',
      sub { my ($notify) = @_;
            my ($used) = command('INFO', 'memory') =~ /^used_memory:(\d+)/m;

            accepted($notify);
            config(maxmemory => $used + 300_000,
                   'maxmemory-policy' => 'allkeys-lru');

            for (1 .. 10000) {
                command('SET', "other$_", 'x' x 1000);
                last if !command('EXISTS', key($notify));
            }

            config(maxmemory => 0, 'maxmemory-policy' => 'noeviction') },
      'delivered', '-', sub { }, '1 1' ],
    [ 'its clock goes an hour forward', '/real',
      sub { $connection = under_way($_[0]); clock_forward($_[0], $HOUR) },
      'delivered', '-', sub { }, '1 2' ],
    [ 'its clock goes an hour back', '/real',
      sub { command('SET', key($_[0]), 'P ' . 'a' x 32 . " 7 $LEASE $RETAIN",
                    'PX', $RETAIN + $HOUR - 2 * $LEASE) },
      'in_flight', undef, sub { clock_forward($_[0], $HOUR) }, '8' ],
);

for (@rows) {
    my ($name, $path, $fault, $result, $reason, $end, $attempts) = @$_;
    my $notify = $pay->v2_notify($shop);

    undef $connection;
    $app->rules;
    $fault->($notify);

    my $logged = length $nginx->error_log;
    my ($answer, $is, $why) = told($path, $notify);

    like($is, ref $result ? $result : qr/^$result$/, "$name: the result");
    is($answer, $is =~ /delivered|duplicate/ ? 'SUCCESS' : $is,
       "$name: the answer");
    if (defined $reason) {
        $reason = quotemeta $reason if !ref $reason;
        like($why, qr/^$reason$/, "$name: the reason");
    }

    # a line a second for each reason: another row may have had this one

    ok(wait_until(sub {
        substr($nginx->error_log, $logged)
            =~ /\[error\].*store "\w+"(?: is down)?: $reason/
            or told($path, $pay->v2_notify($shop)) && 0;
    }, 5), "$name: the log") if $is eq 'store_error';

    $end->($notify);
    is(in_the_end($path, $notify), 'SUCCESS', "$name: accepted in the end");
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       "$name: and so was who waited") if $connection;

    my $seen = join ' ', map { $_->{headers}{'refund-attempt'} }
                         grep { $_->{id} eq $notify->{event_id} }
                         $app->requests;

    like($seen, ref $attempts ? $attempts : qr/^$attempts$/,
         "$name: the attempts");
    like($behind{$path}->command('GET', key($notify)), qr/^D \d+$/,
         "$name: the record");
}

# One that vanishes while nothing is asked of it is found out by the kernel's
# probes, whose timer runs on a connection at rest (2: its proc_net_tcp.txt).

SKIP: {
    skip 'no /proc/net/tcp here', 1 if !-r '/proc/net/tcp';

    my $port = sprintf '%04X', $scripted->port;
    my $probed = qr/^\s*\d+:\ \S+\ \S+:$port\ 01\ \S+\ 02:/mx;

    is((told('/scripted', $pay->v2_notify($shop)))[1], 'delivered',
       'connected');
    ok(wait_until(sub { read_file('/proc/net/tcp') =~ $probed }),
       'a connection at rest is probed');
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
