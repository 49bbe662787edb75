#!/usr/bin/perl

# A Redis that is called by its name: looked up by nginx' resolver whenever it
# is connected to, without anything waiting for the answer; several addresses;
# and names that are looked up only when nginx starts.

use lib 't/lib';
use RefundNotify::Test;

use IO::Socket::INET;
use RefundNotify::Test::Util qw(read_file);
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
    resolver   127.0.0.1:%%DNS%% ipv6=off;

    %%MERCHANTS%%

    refund_store main redis://redis.test:%%REDIS%% prefix=t: cache=off
                      timeout=%%TIMEOUT%%ms;
    refund_store both redis://both.test:%%REDIS%% prefix=t: cache=off
                      timeout=2s;
    refund_store last redis://last.test:%%REDIS%% timeout=10s;
    refund_store here redis://localhost:%%REDIS%% prefix=t: cache=off
                      timeout=2s;
    refund_store host redis://%%HOST%%:%%REDIS%% prefix=t: cache=off
                      timeout=%%TIMEOUT%%ms;
    refund_store ha   redis+sentinel://127.0.0.1:%%SENTINEL%%/m1 prefix=t:
                      cache=off timeout=2s;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_deadline 30s;
        refund_notify_lease    60s;

        location = /plain {
            return 200 plain;
        }

        location = /main {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
        }

        location = /both {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store both;
        }

        location = /last {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store last;
        }

        location = /here {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store here;
        }

        location = /host {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store host;
        }

        location = /ha {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store ha;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $TIMEOUT = slow(1) > 1 ? 1.5 : 0.5;

# a name that /etc/hosts has, if it has one, and no name server

my ($host) = map { (split)[1] } grep { /^127\.0\.0\.1\s/
                                       && !/\slocalhost\s*$/ }
             split /\n/, read_file('/etc/hosts');

my $NOT_FOUND = 'the host name of Redis cannot be resolved';

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $dns = name_server();
my $here = redis();
my $there = redis(address => '127.0.0.2', port => $here->port);

# what a sentinel calls its master, and what the name server is asked for

my $master = redis();
my $sentinel = RefundNotify::Test::ScriptedRedis->new(rules => [
    { command => 'SENTINEL', reply => "*2\r\n\$11\r\nMaster.Test\r\n\$"
                                      . length($master->port) . "\r\n"
                                      . $master->port . "\r\n" },
    { command => 'PING', reply => "+PONG\r\n" },
    { command => 'SUBSCRIBE', fault => 'hang' } ]);

$dns->answer('redis.test', [ '127.0.0.1' ]);
$dns->answer('both.test', [ '127.0.0.3', '127.0.0.1' ]);
$dns->answer('master.test', [ '127.0.0.1' ]);

my $nginx = nginx(with_merchants($conf, $shop), vars => {
    APP => $app->port, DNS => $dns->port, REDIS => $here->port,
    TIMEOUT => 1000 * $TIMEOUT, HOST => $host // 'localhost',
    SENTINEL => $sentinel->port });
my $count = 0;


# Sends a notify, and returns (result, reason, seconds).

sub told {
    my ($path, $notify) = @_;

    $notify //= $count % 2 ? $pay->v2_notify($shop) : $pay->v3_notify($shop);
    $count++;

    my $response = client($nginx)->post("$path?n=$count",
                                        $pay->resend($shop, $notify));
    my ($result, $reason) = split /\|/, $nginx->logged($count), -1;

    return ($result, $reason, $response->{time});
}


# nginx' resolver remembers an answer until the second it came in is over.

sub becomes {
    my ($name, $path, $want) = @_;

    my $result;

    ok(wait_until(sub { ($result) = told($path); $result eq $want }, 10),
       $name) or diag("it is $result");
    return;
}


sub records {
    my ($redis) = @_;

    return scalar @{ $redis->command('KEYS', 't:*') };
}


is((told('/main'))[0], 'delivered', 'a name that is not known at the start');
is(records($here), 1, '... its record');


# A master by a name with capital letters is the one that is connected to, each
# time that the sentinel is asked: when who listens to it has to begin anew.

{
    my $lookups = sub { scalar grep { $_->{command} eq 'SENTINEL' }
                                    $sentinel->requests };
    my $connections = sub { $master->command('INFO', 'stats')
                                =~ /^total_connections_received:(\d+)/m;
                            $1 };

    is((told('/ha'))[0], 'delivered', "a master's name with capital letters");

    my $before = $connections->();

    for (1 .. 2) {
        my $asked = $lookups->();

        $sentinel->drop;
        ok(wait_until(sub { $lookups->() > $asked }, 20),
           '... the sentinel is asked again');
    }

    is((told('/ha'))[0], 'delivered', '... and the master');
    is($connections->(), $before, '... on the same connection');
}


# another address, after the connection has gone

{
    my $asked = $dns->questions('redis.test');

    is((told('/main'))[0], 'delivered', 'while it is connected') for 1 .. 3;
    is($dns->questions('redis.test'), $asked, '... nobody is asked');

    $dns->answer('redis.test', [ '127.0.0.2' ]);
    $here->kill;
    becomes('another address is followed', '/main', 'delivered');
    cmp_ok(records($there), '>=', 1, '... its record is there');
    $here->restart;
    is((told('/main'))[0], 'delivered', 'and it stays');
    is(records($here), 0, '... there');
}


# no answer, or none of use: refused in time, with the reason in the log, while
# the worker does all else; and found again as soon as there is one

for ([ NXDOMAIN => 'Host not found' ], [ SERVFAIL => 'Server failure' ],
     [ silence => 'Operation timed out' ],
     [ garbage => 'Operation timed out' ], [ [ ] => 'Host not found' ])
{
    my ($how, $words) = @$_;
    my $name = ref $how ? 'no address' : $how;

    $dns->answer('redis.test', $how);
    $there->kill;
    becomes("$name: refused", '/main', 'store_error');
    ok(wait_until(sub { (told('/main'))[1] eq $NOT_FOUND }, 10),
       "$name: why");

    my $connection = client($nginx)->connect;
    my $notify = $pay->v3_notify($shop);

    $connection->send('POST', '/main', $notify->{headers}, $notify->{body});

    my $plain = client($nginx)->request('GET', '/plain');

    is($plain->{body}, 'plain', "$name: another location");

    my $response = $connection->read;

    is($pay->answer($notify, $response), 'store_error', "$name: refused again");
    cmp_ok($response->{time}, '<', $TIMEOUT + slow(1), "$name: in time");
    ok($nginx->wait_for_log('error.log', qr/\[error\].*"main"\ is\ down:
                            \ \Q$NOT_FOUND ($words)\E/x),
       "$name: in the log");

    $there->restart;
    $dns->answer('redis.test', [ '127.0.0.2' ]);
    becomes("$name: found again", '/main', 'delivered');
}


# of two addresses one is enough, whichever comes first

for (1 .. 6) {
    $here->command(qw(CLIENT KILL TYPE normal));
    is((told('/both'))[0], 'delivered', 'one of two is refused');
}

{
    my $hangs = IO::Socket::INET->new(LocalAddr => '127.0.0.4', Listen => 5,
                                      LocalPort => $here->port)
        or die "listen: $!\n";

    $dns->answer('both.test', [ '127.0.0.4', '127.0.0.1' ]);
    sleep 1.1;

    for (1 .. 6) {
        $here->command(qw(CLIENT KILL TYPE normal));
        is((told('/both'))[0], 'delivered', 'one of two does not answer');
    }

    $here->kill;
    is((told('/both'))[0], 'store_error', 'both are of no use');
    $here->restart;
    becomes('and one is again', '/both', 'delivered');
}


# a name that the system knows, and the name server does not

is((told('/here'))[0], 'delivered', 'localhost');
is($dns->questions('localhost'), 0, '... is nobody\'s to answer for');

SKIP: {
    skip('/etc/hosts has no other name', 4) if !defined $host;

    for my $how (qw(NXDOMAIN SERVFAIL silence garbage)) {
        $dns->answer($host, $how);
        $here->command(qw(CLIENT KILL TYPE normal));
        sleep 1.1;
        $here->command(qw(CLIENT KILL TYPE normal));
        becomes("/etc/hosts has it, the name server says $how", '/host',
                'delivered');
    }
}


# what is looked up while the configuration is read

sub configuration {
    my ($name, $lines, $code, $message, $not) = @_;

    my ($status, $output) = $nginx->config_test("%%GLOBALS%%\nevents { }\n"
                                                . "http {\n$lines\n}\n");

    is(!!$status, !!$code, "nginx -t: $name");
    like($output, $message, "nginx -t: $name: what it says");
    unlike($output, $not, "nginx -t: $name: and no more") if $not;
    return;
}

my $only = qr/looked up only now/;
my $port = $dns->port;

configuration('a name that is not found', 'refund_store s redis://no.invalid;',
              1, qr/\[emerg\]\ host\ "no.invalid"\ of\ refund_store\ "s"\ is
                    \ not\ found:.*\ in\ \S+test.conf:\d+$/mx);
configuration('one that a resolver may find',
              "refund_store s redis://no.invalid;\nresolver 127.0.0.1:$port;",
              0, qr/successful/, qr/not found/);
configuration('a numeric address', 'refund_store s redis://127.0.0.1;', 0,
              qr/successful/, $only);
configuration('localhost', 'refund_store s redis://localhost;', 0,
              qr/successful/, $only);

SKIP: {
    skip('/etc/hosts has no other name', 3) if !defined $host;

    configuration('a name, and no resolver', "refund_store s redis://$host;",
                  0, qr/successful/);

    # nginx prints no notice

    like(read_file($nginx->path('test.log')),
         qr/\[notice\] .*host "\Q$host\E" of refund_store "s" is $only/,
         '... is no more than a notice');
}

# a start without a resolver, and a worker that leaves while it asks

{
    my $local = nginx(with_merchants($conf =~ s/resolver .*;//r
                                     =~ s/(redis|both|last)\.test/localhost/gr,
                                     $shop),
                      vars => { APP => $app->port, REDIS => $here->port,
                                TIMEOUT => 2000, HOST => 'localhost',
                                SENTINEL => $sentinel->port });

    is(client($local)->post('/main', $pay->resend($shop,
           $pay->v3_notify($shop)))->{status}, 200, 'without a resolver');

    $dns->answer('last.test', 'silence');
    sleep 1.1;

    my $connection = client($nginx)->connect;
    my $notify = $pay->v3_notify($shop);
    my $asked = $dns->questions('last.test');

    $connection->send('POST', '/last', $notify->{headers}, $notify->{body});
    wait_until(sub { $dns->questions('last.test') > $asked });
    $nginx->signal('TERM');
    ok(wait_until(sub { !$nginx->workers }), 'a worker ends while it asks');
}

done_testing;
