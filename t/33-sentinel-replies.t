#!/usr/bin/perl

# Whatever two sentinels, and the server that they name, may answer: that is not
# known, not so, not at all, or nonsense.  What becomes of a notify meanwhile,
# and what the log says of it.

use lib 't/lib';
use RefundNotify::Test;

use List::Util qw(max);
use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$refund_notify_result|$refund_notify_reason'
                      '|$refund_notify_attempt';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store ha redis+sentinel://127.0.0.1:%%ONE%%,127.0.0.1:%%TWO%%/m1/3
                    prefix=t: cache=off timeout=%%TIMEOUT%%ms user=edge
                    password_file=%%DIR%%/edge.password
                    sentinel_password_file=%%DIR%%/sentinel.password;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = / {
            refund_notify          shop;
            refund_notify_pass     /internal/refunds name=orders;
            refund_notify_store    ha;
            refund_notify_lease    %%LEASE%%ms;
            refund_notify_deadline 30s;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $TIMEOUT = slow(1) > 1 ? 1.2 : 0.5;
my $LEASE = 5 * $TIMEOUT;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();

# the sentinels are scripted; behind them a Redis, for its channels.  Two
# servers: "master", and "other", which is its replica, or so it says.

my %redis = (sentinel => redis(password => 'of-the-sentinels'));
my $master = redis(password => 'of-the-master', config => [
    'user edge on >of-the-edge ~t:* +ping +select +set +get +eval +pttl '
    . '+role' ]);
my @sentinels = map {
    RefundNotify::Test::ScriptedRedis->new(redis => $redis{sentinel})
} 1 .. 2;
my ($front, $other) = map {
    RefundNotify::Test::ScriptedRedis->new(redis => $master)
} 1 .. 2;
my $gone = RefundNotify::Test::Util::free_port();

my $nginx;
my $n = 0;


# A sentinel's reply that names the server at this port.

sub named {
    my ($port) = @_;

    return "*2\r\n\$9\r\n127.0.0.1\r\n\$" . length($port) . "\r\n$port\r\n";
}


sub answer {
    return { command => 'SENTINEL', ref $_[0] ? @{ $_[0] }
                                              : (reply => $_[0]) };
}


# Which sentinel is listened to, and so is asked first: 0 or 1.

sub watched {
    my @at = map {
        max(0, map { $_->{time} } grep { $_->{command} eq 'SUBSCRIBE' }
                                       $_->requests)
    } @sentinels;

    return $at[0] > $at[1] ? 0 : 1;
}


# The sentinel that is asked first, the other one, the master, and the other
# server answer so from now on, and the master is lost.  Returns the first.

sub script {
    my ($one, $two, $front_rules, $other_rules) = @_;

    my $first = watched();

    $sentinels[$first]->rules(answer($one));
    $sentinels[1 - $first]->rules(answer($two));
    $front->rules(@{ $front_rules || [] });
    $other->rules(@{ $other_rules || [] });
    $_->drop for $front, $other;
    return $sentinels[$first];
}


sub seen {
    my ($peer, $command) = @_;

    return scalar grep { $_->{command} eq $command } $peer->requests;
}


sub ends {
    my ($name, $notify, $result, $reason, $attempt) = @_;

    my $response = client($nginx)->post('/?n=' . ++$n,
                                        $pay->resend($shop, $notify));

    is($nginx->logged($n),
       join('|', $result, $reason // '-', $attempt // '-'), $name);
    return $response;
}


# Tries again until it is delivered: a failed lookup is not made again at once.

sub delivered {
    my ($name, $notify) = @_;

    ok(wait_until(sub {
        my $response = client($nginx)->post('/', $pay->resend($shop, $notify));

        return $pay->answer($notify, $response) eq 'SUCCESS';
    }, 10), $name);
    return;
}


sub log_has {
    my ($name, $pattern) = @_;

    ok($nginx->wait_for_log('error.log', $pattern, 5), "$name: logged");
    return;
}


my $MASTER = named($front->port);
my $OTHER = named($other->port);
my $REPLICA = "*5\r\n\$5\r\nslave\r\n\$9\r\n127.0.0.1\r\n:1\r\n"
              . "\$9\r\nconnected\r\n:1\r\n";
my $NONE = 'no sentinel leads to a master';

$sentinels[0]->rules(answer($MASTER));
$sentinels[1]->rules(answer($MASTER));

$nginx = nginx(with_merchants($conf, $shop),
               vars => { APP => $app->port, ONE => $sentinels[0]->port,
                         TWO => $sentinels[1]->port,
                         TIMEOUT => 1000 * $TIMEOUT, LEASE => 1000 * $LEASE },
               files => { 'edge.password' => 'of-the-edge',
                          'sentinel.password' => 'of-the-sentinels' });

# all is well

{
    my $notify = $pay->v2_notify($shop);

    delivered('all is well', $notify);

    my ($asked) = grep { $_->{command} eq 'SENTINEL' }
                       map { $_->requests } @sentinels;
    my @first = map { $_->{command} } $front->requests;

    is("@{ $asked->{words} }", 'SENTINEL get-master-addr-by-name m1',
       'the master is asked for by its name');
    is("@first[0 .. 2]", 'AUTH SELECT ROLE', 'before anything else it says '
                                             . 'that it is one');
    ok(wait_until(sub { grep { $_->{command} eq 'SUBSCRIBE'
                               && $_->{key} eq '+switch-master' }
                             map { $_->requests } @sentinels }, 5),
       'and a sentinel is listened to');
    log_has('the master', qr/\[notice\] .* "ha" is up: its master is /);
}

# the first sentinel is of no use: the second is asked

for ([ 'it knows no such master', "*-1\r\n",
       'SENTINEL: it knows no master of this name' ],
     [ 'it names what is not there', named($gone),
       "127.0.0.1, port $gone, is named its master, but Redis cannot be "
       . 'connected to' ],
     (map { [ "it names $_", "*2\r\n\$" . length . "\r\n$_\r\n\$1\r\n1\r\n",
              "$_, port 1, is named its master, but the host name of Redis "
              . 'cannot be resolved' ] } '1.2.3.', '::1.2.3.'),
     [ 'it names a replica', $OTHER,
       '127.0.0.1, port ' . $other->port . ', is named its master, but Redis '
       . 'is a read-only replica' ],
     [ 'it answers an error', "-ERR nonsense\r\n",
       'SENTINEL: Redis answered with an error' ],
     [ 'it asks for another password', "-NOAUTH Authentication required.\r\n",
       'SENTINEL: Redis asks for a password' ],
     [ 'it hangs', [ fault => 'hang' ],
       'SENTINEL: Redis did not answer in time' ],
     [ 'it hangs up', [ fault => 'close' ],
       'SENTINEL: Redis closed the connection' ],
     [ 'it speaks another language', "HTTP/1.1 200 OK\r\n\r\n",
       'SENTINEL: Redis sent a broken reply' ],
     [ 'it answers OK', "+OK\r\n", 'SENTINEL: Redis sent an unexpected reply' ],
     map { [ 'it answers ' . s/\r\n/ /gr, $_ ] }
         ":1\r\n", "*0\r\n", "\$0\r\n\r\n", "*1\r\n\$9\r\n127.0.0.1\r\n",
         "*2\r\n:1\r\n:2\r\n", "*2\r\n\$0\r\n\r\n\$4\r\n6379\r\n",
         "*2\r\n\$9\r\n127.0.0.1\r\n:6379\r\n",
         "*2\r\n\$9\r\n127 0 0 1\r\n\$4\r\n6379\r\n",
         map { "*2\r\n\$9\r\n127.0.0.1\r\n\$" . length . "\r\n$_\r\n" }
             '', '0', '65536', '-1', '6379x', '999999')
{
    my ($what, $one, $log) = @$_;

    # or else its line may be held back

    sleep 1.1 if $log;

    my $first = $sentinels[watched()];
    my $before = seen($first, 'SENTINEL');

    script($one, $MASTER, [], [ { command => 'ROLE', reply => $REPLICA } ]);
    delivered("the first sentinel: $what", $pay->v2_notify($shop));
    cmp_ok(seen($first, 'SENTINEL'), '>', $before, "$what: it was asked");

    if ($log) {
        $log =~ s/^SENTINEL/"the sentinel 127.0.0.1, port " . $first->port/e;
        log_has($what, qr/\[error\] .* \Q$log\E/);
    }
}

# neither is of any use

{
    script("*-1\r\n", named($gone));
    sleep $TIMEOUT;

    my $notify = $pay->v2_notify($shop);

    ends('no sentinel is of use', $notify, 'store_error', $NONE);
    log_has('no sentinel is of use', qr/refund_store "ha" is down: /);

    script($MASTER, $MASTER);
    delivered('they are again', $notify);
}

# they agree on a replica: it is connected to once a lookup, and never used

{
    my $role = { command => 'ROLE', reply => $REPLICA };

    script($OTHER, $OTHER, [], [ $role ]);
    ends('both name a replica', $pay->v2_notify($shop), 'store_error', $NONE);
    is(scalar(grep { $_->{command} eq 'SET' } $other->requests), 0,
       'a replica is sent nothing');
}

# what the master may say of itself, and of who comes

for ([ AUTH => ":1\r\n" ], [ SELECT => ":1\r\n" ],
     map { [ ROLE => $_ ] } ":1\r\n", "*0\r\n", "*1\r\n:1\r\n",
                            "+master\r\n", "*1\r\n\$8\r\nsentinel\r\n",
                            "-NOPERM this user has no permissions\r\n")
{
    my ($command, $reply) = @$_;
    my $what = $reply =~ s/\r\n/ /gr;

    script($MASTER, $MASTER, [ { command => $command, reply => $reply,
                                 forward => 1 } ]);
    ends("to $command: $what", $pay->v2_notify($shop), 'store_error', $NONE);
}

script($MASTER, $MASTER);
delivered('a master again', $pay->v2_notify($shop));

# What the server has not run is sent again, within the timeout: as the first
# attempt, and once.

for my $what (qw(READONLY LOADING MASTERDOWN)) {
    my $notify = $pay->v2_notify($shop);
    my $key = "t:{$notify->{event_id}}orders";

    $front->rules({ command => 'SET', key => $key, times => 1,
                    reply => "-$what for a test\r\n" });
    ends("$what: asked again, and sent again", $notify, 'delivered', undef, 1);

    my @sent = grep { $_->{key} eq $key } grep { defined $_->{key} }
               $front->requests;

    is(join(' ', map { $_->{command} } @sent), 'SET GET SET GET SET',
       "$what: the claim twice, the acceptance once");
    cmp_ok($sent[0]{connection}, '!=', $sent[2]{connection},
           "$what: over a new connection");
}

# What another would not run either is not sent again.

{
    my $notify = $pay->v2_notify($shop);
    my $key = "t:{$notify->{event_id}}orders";

    $front->rules({ command => 'SET', key => $key, times => 1,
                    reply => "-OOM for a test\r\n" });
    ends('OOM: refused', $notify, 'store_error', 'Redis is out of memory');
    is(join(' ', map { $_->{command} } grep { ($_->{key} // '') eq $key }
                                            $front->requests),
       'SET GET', 'OOM: not sent again');
    ends('OOM: over', $notify, 'delivered', undef, 1);
}

# One that comes in the same turn in which the connection breaks waits for the
# next: the worker is stopped until it has to meet both, as a rule at once.

{
    my ($worker) = $nginx->workers;
    my $connection = client($nginx)->connect;
    my $notify = $pay->v2_notify($shop);
    my $key = "t:{$notify->{event_id}}orders";
    my $before = seen($front, 'ROLE');
    my $post = sub {
        $connection->send('POST', '/?n=' . ++$n, $_[0]{headers}, $_[0]{body});
    };

    $post->($pay->v2_notify($shop));
    is($connection->read->{status}, 200, 'a connection that is kept');

    $nginx->signal('STOP', $worker);
    ok(wait_until(sub {
           RefundNotify::Test::Util::read_file("/proc/$worker/stat")
               =~ /\) T /;
       }), 'a worker that stands still');
    $front->drop;
    $post->($notify);
    $nginx->signal('CONT', $worker);

    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'the connection breaks as it comes');
    ok($nginx->wait_for_log('notify.log', qr/^$n\|delivered\|-\|1$/m),
       '... it is delivered');
    is(join(' ', map { $_->{command} } grep { ($_->{key} // '') eq $key }
                                            $front->requests),
       'SET GET SET', '... and was claimed once');
    cmp_ok(seen($front, 'ROLE'), '>', $before, '... over a new connection');
}

# What it may have run is not: the claim is under way until its lease is over.

{
    my $notify = $pay->v2_notify($shop);
    my $key = "t:{$notify->{event_id}}orders";

    $front->rules({ command => 'GET', key => $key, fault => 'close',
                    times => 1 });
    ends('lost between claim and reply', $notify, 'store_error',
         'Redis closed the connection');
    ends('it is under way', $notify, 'in_flight',
         'another delivery of it is under way');
    sleep $LEASE;
    ends('until its lease is over', $notify, 'delivered', undef, 2);
    is(scalar(grep { $_->{id} eq $notify->{event_id} } $app->requests), 1,
       'delivered once');
}

# Two servers say that they are masters.  The one that works is left for the
# other only where more than half of the sentinels name that; whichever of them
# is listened to, which is the other one when their connections have gone.

sub asked_all {
    my ($name, $one, $two) = @_;

    my $first = watched();
    my @before = map { seen($_, 'SENTINEL') } @sentinels;

    $sentinels[1 - $first]->rules(answer($one));
    $sentinels[$first]->rules(answer($two));
    $_->drop for @sentinels;

    ok(wait_until(sub {
        return !grep { seen($sentinels[$_], 'SENTINEL') <= $before[$_] } 0, 1;
    }, 20), "$name: both sentinels are asked");
    return;
}

for (1 .. 2) {
    my $before = seen($other, 'SET');

    asked_all('one is stale', $OTHER, $MASTER);
    sleep 0.3;
    ends('one is stale', $pay->v2_notify($shop), 'delivered', undef, 1)
        for 1 .. 3;
    is(seen($other, 'SET'), $before, '... and is not followed');
}

for ([ $other, $OTHER ], [ $front, $MASTER ]) {
    my ($to, $name) = @$_;
    my $before = seen($to, 'SET');

    asked_all('they agree', $name, $name);
    ok(wait_until(sub {
        client($nginx)->post('/', $pay->v2_notify($shop));
        return seen($to, 'SET') > $before;
    }, 10), '... and are followed');
}

# messages: the sentinels still name the old one; those at first are not for us

{
    my $publish = sub {
        $redis{sentinel}->command('PUBLISH', '+switch-master', @_);
    };
    my $to = '127.0.0.1 ' . $other->port;
    my $before = seen($other, 'ROLE');

    for my $message ('', 'm1', 'm1 1 2 3', "m2 127.0.0.1 1 $to",
                     'm1 127.0.0.1 1 127.0.0.1 0', "m1 127.0.0.1 1 $to 5",
                     'm1 a 1 b;c 2', 'x' x 10000)
    {
        is($publish->($message), 1, 'one listens');
    }

    ends('messages that are not for us', $pay->v2_notify($shop), 'delivered',
         undef, 1);
    is(seen($other, 'ROLE'), $before, 'they are not followed');

    # one that goes to no getaddrinfo(), which would wait for a name server

    $publish->('m1 127.0.0.1 1 08.1.1.1 5');
    log_has('an address that is nearly one',
            qr/08\.1\.1\.1, port 5, is .*, but the host name of Redis cannot/);
    delivered('it is not there', $pay->v2_notify($shop));

    $before = seen($other, 'SET');
    $publish->('m1 127.0.0.1 ' . $front->port . " $to");

    ok(wait_until(sub {
        client($nginx)->post('/', $pay->v2_notify($shop));
        return seen($other, 'SET') > $before;
    }, 10), 'one that is for us is followed');

    # what is no message at all ends the subscription, and no worker

    my $worker = join ' ', $nginx->workers;

    for my $reply ("+OK\r\n", ":5\r\n", "*2\r\n\$7\r\nmessage\r\n\$1\r\nx\r\n",
                   "*3\r\n:1\r\n:2\r\n:3\r\n", "\$-1\r\n", "*0\r\n",
                   "*3\r\n\$7\r\nmessage\r\n*0\r\n\$1\r\nx\r\n",
                   "*3\r\n\$7\r\nmessage\r\n\$-1\r\n\$1\r\nx\r\n",
                   "*3\r\n\$11\r\nunsubscribe\r\n\$14\r\n+switch-master\r\n"
                   . "\$1\r\nx\r\n", "-NOPERM no\r\n",
                   "*3\r\n\$7\r\nmessage\r\n\$1\r\nx\r\n*1\r\n:1\r\n",
                   map { "*3\r\n\$" . length . "\r\n$_\r\n\$1\r\nx\r\n:1\r\n" }
                       'passage', 'proscribe')
    {
        my $subscribed = seen($sentinels[0], 'SUBSCRIBE')
                         + seen($sentinels[1], 'SUBSCRIBE');

        $_->rules(answer($OTHER), { command => 'SUBSCRIBE', reply => $reply,
                                    times => 1 }) for @sentinels;
        $_->drop for @sentinels;

        ok(wait_until(sub {
            seen($sentinels[0], 'SUBSCRIBE') + seen($sentinels[1], 'SUBSCRIBE')
                > $subscribed + 2;
        }, 10), 'subscribed to anew after ' . $reply =~ s/\r\n/ /gr);
    }

    is(join(' ', $nginx->workers), $worker, 'by the same worker');
    delivered('after all that', $pay->v2_notify($shop));
}

no_secrets($nginx, 'of-the-edge', 'of-the-sentinels', $pay->secrets($shop));
done_testing();
