#!/usr/bin/perl

# min_replicas: SUCCESS leaves when so many replicas of Redis have the record,
# or when its time is over; it is SUCCESS in any case.

use lib 't/lib';
use RefundNotify::Test;

use RefundNotify::Test::Cluster;
use RefundNotify::Test::Sentinel;
use RefundNotify::Test::Util qw(read_file);
use List::Util qw(sum uniq);
use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 2048;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store both     redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms min_replicas=2;
    refund_store patient  redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                          timeout=5s min_replicas=2;
    refund_store one      redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms min_replicas=1;
    refund_store denied   redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms min_replicas=1
                          user=edge password_file=%%DIR%%/edge.password;
    refund_store sentinel %%SENTINEL%% prefix=t: cache=off timeout=2s
                          min_replicas=2;
    refund_store cluster  %%CLUSTER%% prefix=t: cache=off timeout=2s
                          min_replicas=1;
    refund_store scripted redis://127.0.0.1:%%SCRIPTED%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms min_replicas=1;
    refund_store nodes    redis+cluster://127.0.0.1:%%NODE%% prefix=t: cache=off
                          timeout=4s min_replicas=1;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_deadline 4s;
        refund_notify_lease    60s;

        location = /both {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store both;
        }

        location = /patient {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store patient;
        }

        location = /short {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store patient;
            refund_notify_deadline 1s;
        }

        location = /one {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store one;
        }

        location = /denied {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store denied;
        }

        location = /scripted {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store scripted;
        }

        location = /nodes {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store nodes;
        }

        location = /sentinel {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store sentinel;
        }

        location = /cluster {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store cluster;
        }

        location = /status {
            refund_status;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $TIMEOUT = slow(1) > 1 ? 1.6 : 0.4;
# a machine that is slow enough is late with WAIT's answer, too

my $LATE = 'Redis did not answer in time';
my $password = 'edge-7hRz3mYp5N';

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $scripted = scripted_redis();
my $master = redis(config => [
    'repl-diskless-sync-delay 0', 'repl-timeout 60',
    "user edge on >$password ~t:* +get +set +eval +pttl +ping" ]);
my @replicas = map { redis(config => [
    "replicaof 127.0.0.1 @{[$master->port]}" ]) } 1 .. 2;

# nodes of a cluster, or so they say: the first has all slots

my ($node, $other_node) = map {
    RefundNotify::Test::ScriptedRedis->new(redis => $master)
} 1 .. 2;
my $slots = { command => 'CLUSTER', reply => "*1\r\n*3\r\n:0\r\n:16383\r\n"
              . "*2\r\n\$9\r\n127.0.0.1\r\n:@{[$node->port]}\r\n" };

$_->rules($slots) for $node, $other_node;

my $sentinel = RefundNotify::Test::Sentinel->new;
my $cluster = RefundNotify::Test::Cluster->new;

all_there() or die "the replicas do not come up\n";

my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, REDIS => $master->port,
                            SCRIPTED => $scripted->port,
                            NODE => $node->port,
                            SENTINEL => $sentinel->url,
                            CLUSTER => $cluster->url,
                            TIMEOUT => 1000 * $TIMEOUT },
                  files => { 'edge.password' => "$password\n" });


# Do all replicas follow, with nothing left to be acknowledged?

sub all_there {
    return wait_until(sub {
        $master->command('SET', 'other', time);
        return $master->command('WAIT', 2, 500) == 2;
    }, 20);
}


sub notify {
    return $pay->v3_notify($shop);
}


sub sent {
    my ($path, $notify) = @_;

    my $connection = client($nginx)->connect;

    $connection->send('POST', $path, $notify->{headers}, $notify->{body});
    return $connection;
}


sub accepted {
    my ($name, $path, $notify) = @_;

    $notify //= notify();

    my $response = client($nginx)->post($path, $notify);

    is($pay->answer($notify, $response), 'SUCCESS', $name);
    return $response->{time};
}


sub on_replicas {
    my (@notifies) = @_;

    return scalar grep {
        my $key = "t:{$_->{event_id}}orders";
        !grep { ($_->command('GET', $key) // '') !~ /^D \d+$/ } @replicas
    } @notifies;
}


sub waits {
    my (@servers) = @_;

    return sum(map { $_->command('INFO', 'commandstats')
                         =~ /cmdstat_wait:calls=(\d+)/ ? $1 : 0 } @servers);
}


# How many are counted as not known to be on the replicas?

sub counted {
    my ($n) = client($nginx)->request('GET', '/status')->{body}
              =~ /^refund_store_commits_unreplicated_total (\d+)$/m;

    return $n;
}


sub logged {
    my ($name, $store, @reasons) = @_;

    my $reason = join '|', map { quotemeta } @reasons;

    ok($nginx->wait_for_log('error.log', qr/\[error\]\ .*\ refund_store
           \ "$store":\ \d+\ accepted\ refund\ notifies\ are\ not\ known\ to\ be
           \ on\ \d\ replicas:\ (?:$reason);\ they\ are\ answered\ SUCCESS/x),
       "$name: in the log");
    return;
}


# What Redis answers to WAIT is about the writes of its own connection: one that
# has written nothing is told that all have it.  So the module has to write on
# the connection that it waits on.

{
    my $fresh = bless { %$master, connection => undef }, ref $master;

    $_->pause for @replicas;
    $master->command('SET', 'other', 'x');
    is($fresh->command('WAIT', 2, 300), 2, 'WAIT without a write is of no use');
    is($master->command('WAIT', 2, 300), 0, 'WAIT after a write is');
    $_->resume for @replicas;
    all_there();
}


# they are there, when SUCCESS is

{
    my @notifies = map { notify() } 1 .. 20;

    for (@notifies) {
        accepted('the replicas are there', '/both', $_);
        is(on_replicas($_), 1, '... and have the record');
    }
}

{
    my $notify = notify();
    my $connection;

    $replicas[1]->pause;
    $connection = sent('/patient', $notify);
    sleep 0.7;
    $replicas[1]->resume;

    my $response = $connection->read;

    is($pay->answer($notify, $response), 'SUCCESS', 'a replica was stopped');
    cmp_ok($response->{time}, '>', 0.65, '... and was waited for');
    is(on_replicas($notify), 1, '... and has the record');
}

unlike($nginx->error_log, qr/not known to be on/, 'nothing is logged');
is(counted(), 0, '... or counted');


# they are not there: SUCCESS in time, and a line in the log; and who comes
# meanwhile is claimed and delivered at once

{
    my $first = notify();
    my $second = notify();

    $replicas[1]->pause;
    cmp_ok(accepted('one of two is stopped', '/both'), '<',
           $TIMEOUT + slow(1), '... in time');
    logged('one of two is stopped', 'both',
           'some have not acknowledged them in time', $LATE);
    is(counted(), 1, '... and counted');
    cmp_ok(accepted('one is enough', '/one'), '<', slow(1), '... in time');

    $replicas[0]->pause;
    $app->forget;

    my @connections = (sent('/patient', $first), sent('/patient', $second));

    ok($app->wait_for(2, 1), 'no delivery waits for replicas');

    is($pay->answer($first, $_->read), 'SUCCESS', 'all are stopped')
        for @connections;

    cmp_ok(accepted('the deadline before that', '/short'), '<', 1 + slow(0.7),
           '... is kept');
    cmp_ok(accepted('all are stopped', '/one'), '<', $TIMEOUT + slow(1),
           '... in time');
    logged('all are stopped', 'one',
           'none has acknowledged them in time', $LATE);
    logged('all are stopped', 'patient',
           'none has acknowledged them in time');
}


# one WAIT for many

{
    my $before = waits($master);
    my @notifies = map { notify() } 1 .. 150;
    my $start = time;
    my @answers = map { $pay->answer($notifies[0], $_) }
        client($nginx)->parallel([ map {
            [ 'POST', '/both', $_->{headers}, $_->{body} ]
        } @notifies ]);

    is(scalar(grep { $_ eq 'SUCCESS' } @answers), 150,
       'many, and all replicas are stopped');
    cmp_ok(time - $start, '<', $TIMEOUT + slow(2), '... in time');
    cmp_ok(waits($master) - $before, '<', 20, '... with few WAITs');

    $_->resume for @replicas;
    all_there();
    @notifies = map { notify() } 1 .. 150;
    client($nginx)->parallel([ map {
        [ 'POST', '/patient', $_->{headers}, $_->{body} ]
    } @notifies ]);
    is(on_replicas(@notifies), 150, 'many, and all replicas are there');
}


# what else can be answered

accepted('a user who may not WAIT', '/denied');
logged('a user who may not WAIT', 'denied',
       'the Redis user lacks a permission');

my @replies = (
    [ WAIT => 'an error', { reply => "-ERR words-of-redis\r\n" },
      'Redis answered with an error' ],
    [ WAIT => 'a string', { reply => "\$1\r\n2\r\n" },
      'Redis sent an unexpected reply' ],
    [ WAIT => 'a number below 0', { reply => ":-1\r\n" },
      'none has acknowledged them in time' ],
    [ WAIT => 'silence', { fault => 'hang' }, 'Redis did not answer in time' ],
    [ WAIT => 'a reset', { fault => 'reset' },
      'the connection to Redis broke' ],
    [ EVAL => 'a failover', { reply => "-READONLY words-of-redis\r\n" },
      'Redis is a read-only replica' ],
    [ EVAL => 'no memory', { reply => "-OOM words-of-redis\r\n" },
      'Redis is out of memory' ],
    [ EVAL => 'a number', { reply => ":1\r\n" },
      'Redis sent an unexpected reply' ],
    [ EVAL => 'a close', { fault => 'close' },
      'Redis closed the connection' ],
);

for (@replies) {
    my ($command, $name, $rule, $reason) = @$_;
    my $notify = notify();

    $name = "$command: $name";
    $scripted->rules({ command => 'WAIT', times => 1, reply => ":1\r\n" });
    accepted("before $name", '/scripted');
    sleep 1.05;                     # the log's limit
    $scripted->rules({ command => $command, times => 1, %$rule },
                     { command => 'WAIT', reply => ":1\r\n" });
    cmp_ok(accepted($name, '/scripted', $notify), '<', $TIMEOUT + slow(1),
           '... in time');
    logged($name, 'scripted', $reason);
    like($scripted->{redis}->command('GET', "t:{$notify->{event_id}}orders"),
         qr/^D \d+$/, "$name: its record");
}

my @waits = map { join ' ', @{ $_->{words} } }
            grep { $_->{command} eq 'WAIT' } $scripted->requests;

is_deeply([ grep { $_ ne "WAIT 1 @{[750 * $TIMEOUT]}" } @waits ], [ ],
          'no WAIT is for ever');
unlike($nginx->error_log, qr/words-of-redis/, 'no word of Redis itself');


# the same of the master that sentinels name, and of each node of a cluster

for my $n (1 .. 5) {
    my $notify = notify();
    my $key = "t:{$notify->{event_id}}orders";
    my $master = $sentinel->master;

    accepted("sentinels, $n", '/sentinel', $notify);
    is(scalar(grep { ($_->command('GET', $key) // '') =~ /^D/ }
                   $sentinel->servers), 3, '... master and replicas have it');
}

{
    my @notifies = map { notify() } 1 .. 60;
    my @answers = map { $pay->answer($notifies[0], $_) }
        client($nginx)->parallel([ map {
            [ 'POST', '/cluster', $_->{headers}, $_->{body} ]
        } @notifies ]);
    my @behind;

    is(scalar(grep { $_ eq 'SUCCESS' } @answers), 60, 'a cluster');

    for (@notifies) {
        my $key = "t:{$_->{event_id}}orders";
        my $slot = RefundNotify::Test::Cluster::slot_of($key);
        my $replica = $cluster->replica($cluster->owner($slot));

        $replica->command('READONLY');
        push @behind, $key if ($replica->command('GET', $key) // '') !~ /^D/;
    }

    is("@behind", '', '... each node\'s replica has its records');
    unlike($nginx->error_log, qr/"(?:cluster|sentinel)": \d+ accepted/,
           '... nothing is logged');

    my $notify = notify();
    my $slot = RefundNotify::Test::Cluster::slot_of("{$notify->{event_id}}");
    my $replica = $cluster->replica($cluster->owner($slot));

    $replica->pause;
    accepted("a node's replica is stopped", '/cluster', $notify);
    logged("a node's replica is stopped", 'cluster',
           'none has acknowledged them in time');
    $replica->resume;

    # one WAIT after the other to a node: none is behind another, where it would
    # take longer than the connection waits for a reply

    my @masters = uniq(map { $cluster->owner($_) } 0, 8000, 16383);
    my @paused = map { $cluster->replica($_) } @masters;
    my $before = waits(@masters);

    $_->pause for @paused;
    @notifies = map { notify() } 1 .. 150;
    @answers = map { $pay->answer($notifies[0], $_) }
        client($nginx)->parallel([ map {
            [ 'POST', '/cluster', $_->{headers}, $_->{body} ]
        } @notifies ]);
    $_->resume for @paused;

    is(scalar(grep { $_ eq 'SUCCESS' } @answers), 150,
       'many, and all replicas of a cluster are stopped');
    cmp_ok(waits(@masters) - $before, '<', 40, '... with few WAITs');
    unlike($nginx->error_log, qr/"cluster":\ (?:node\ .*\ )?is\ down/x,
           '... and no node is taken for one that is down');
}


# Of two commits that one WAIT is for, one was written elsewhere, or not at all:
# it has a WAIT of its own, or is known not to be there.  A row: what the node
# says of the first; what is sent, behind the WAIT of another; how many commits
# are counted; and why.

for ([ 'moved', "-MOVED 1 127.0.0.1:@{[$other_node->port]}\r\n",
       qr/^EVAL EVAL (?:EVAL )?WAIT (?:EVAL )?EVAL WAIT$/, 0 ],
     [ 'no memory', "-OOM words-of-redis\r\n", qr/^EVAL EVAL WAIT$/, 1,
       'Redis is out of memory' ],
     [ 'a number', ":1\r\n", qr/^EVAL EVAL(?: WAIT)?$/, 2,
       'Redis sent an unexpected reply' ])
{
    my ($name, $reply, $sent, $counted, $reason) = @$_;
    my ($sequence, @answers, $before);

    $name = "two in a batch, $name";

    # they come together if they come in time

    for (1 .. 10) {
        my @notifies = map { notify() } 1 .. 3;
        my @connections;

        sleep 1.05 if $reason;          # the log's limit
        $before = counted();
        $_->forget for $node, $other_node;
        $node->rules({ command => 'WAIT', times => 1, delay => slow(0.3) },
                     { command => 'EVAL', skip => 1, times => 1,
                       reply => $reply }, $slots);

        for (@notifies) {
            push @connections, sent('/nodes', $_);
            wait_until(sub { grep { $_->{command} eq 'WAIT' }
                                  $node->requests });
        }

        @answers = map { $pay->answer($notifies[0], $_->read) } @connections;
        (undef, undef, my @then) = grep { /EVAL|WAIT/ }
                                   map { $_->{command} }
                                   sort { $a->{time} <=> $b->{time} }
                                   map { $_->requests } $node, $other_node;
        $sequence = "@then";
        last if $sequence =~ /^EVAL EVAL/;
    }

    is("@answers", 'SUCCESS SUCCESS SUCCESS', $name);
    like($sequence, $sent, "$name: what is sent");
    is(counted() - $before, $counted, "$name: counted");
    logged($name, 'nodes', $reason) if $reason;
}


# the master goes, or nginx, while they wait

{
    my $notify = notify();
    my $connection;

    $_->pause for @replicas;
    $app->forget;
    $connection = sent('/patient', $notify);
    $app->settle;
    wait_until(sub {
        ($master->command('GET', "t:{$notify->{event_id}}orders") // '')
            =~ /^D/
    });
    $master->kill;
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'the master is killed');
    $_->resume for @replicas;
    $master->restart;
    $_->pause for @replicas;

    $notify = notify();
    $connection = sent('/both', $notify);
    $app->wait_for(2);
    $nginx->signal('QUIT');
    is($pay->answer($notify, $connection->read), 'SUCCESS', 'nginx goes');
}

done_testing;
