#!/usr/bin/perl

# One event is delivered once: told again, told fifty times at once, to two
# workers, to two nginx that share a Redis, by v2 and by v3.  On both stores;
# and what a store that is Redis then holds, and how often it is asked.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$pid|$refund_notify_result';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store local    shm:1m;
    refund_store main     redis://127.0.0.1:%%REDIS%% prefix=shop-prod:
                          timeout=2s;
    refund_store uncached redis://127.0.0.1:%%REDIS%%/0 prefix=direct:
                          timeout=2s cache=off;
    refund_store other    redis://127.0.0.1:%%REDIS%% prefix=%%OTHER%%:
                          timeout=2s;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        location = /local {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /main {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
        }

        location = /uncached {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store uncached;
        }

        location = /other {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store other;
        }

        location = /embedded {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();

# two machines: they share the Redis, and all but the last of its prefixes

my ($here, $there) = map {
    nginx(with_merchants($conf, $shop),
          vars => { APP => $app->port, REDIS => $redis->port, OTHER => $_ })
} qw(east west);

my @clients = map { client($_) } $here, $there;
my $n = 0;

my ($LEASE, $RETAIN) = (10_000, 72 * 3600 * 1000);


# Sends it, and compares the answer.

sub answers {
    my ($name, $path, $notify, $answer, $client) = @_;

    $notify = $pay->resend($shop, $notify);

    my $response = ($client || $clients[0])->post("$path?n=" . ++$n, $notify);

    is($pay->answer($notify, $response), $answer, $name);
    return $response;
}


# What came to the business app since the last time, each with its attempt.

sub delivered {
    my ($name, @expected) = @_;

    is(join(', ', sort map { "$_->{id} $_->{headers}{'refund-attempt'}" }
                           $app->requests),
       join(', ', sort @expected), "$name: the deliveries");
    $app->forget;
    return;
}


sub result {
    my ($nginx, $n) = @_;

    return $nginx->logged($n) =~ s/^\d+\|//r;
}


# How often Redis was asked, and what, by the code.

sub asked {
    my ($code) = @_;

    $redis->command('CONFIG', 'RESETSTAT');
    $code->();

    my %calls = $redis->command('INFO', 'commandstats')
                =~ /^cmdstat_([^:]+):calls=(\d+)/mg;

    return join ' ', map { "$_=$calls{$_}" } grep { !/^(?:config|info)\b/ }
                         sort keys %calls;
}


for my $path (qw(/local /main /uncached /other /embedded)) {

    # one after another

    for my $version (qw(v2 v3)) {
        for my $status (qw(SUCCESS ABNORMAL CLOSED)) {
            my $name = "$path, $version $status";
            my $notify = $pay->notify($version, $shop, -status => $status);

            answers("$name: new", $path, $notify, 'SUCCESS');
            is(result($here, $n), 'delivered', "$name: its result");

            for (1 .. 3) {
                answers("$name: again, $_", $path, $notify, 'SUCCESS');
                is(result($here, $n), 'duplicate', "$name: its result");
            }

            delivered($name, "$notify->{event_id} 1");
        }

        # after a failure

        my $name = "$path, $version";
        my $notify = $pay->notify($version, $shop);

        $app->rules({ status => 500, times => 2 });
        answers("$name: a failure", $path, $notify, 'upstream_error');
        answers("$name: another", $path, $notify, 'upstream_error');
        answers("$name: then accepted", $path, $notify, 'SUCCESS');
        answers("$name: and again", $path, $notify, 'SUCCESS');
        delivered("$name, after failures",
                  map { "$notify->{event_id} $_" } 1 .. 3);
        $app->rules;

        # fifty at once, of which the two workers get some each

        $notify = $pay->notify($version, $shop);
        my $delay = slow(0.25);
        my $first = $n + 1;

        $app->rules({ delay => $delay });

        my @responses = $clients[0]->parallel([ map {
            my $again = $pay->resend($shop, $notify);
            [ 'POST', "$path?n=" . ++$n, $again->{headers}, $again->{body} ]
        } 1 .. 50 ]);

        my %answers;
        push @{ $answers{ $pay->answer($notify, $_) } }, $_ for @responses;

        is(join(' ', sort keys %answers), 'SUCCESS in_flight',
           "$name, fifty at once: the answers");

        my ($request) = $app->requests;
        my $accepted = ($request->{time} // 0) + $delay - 0.01;

        is(scalar(grep { $_->{at} < $accepted } @{ $answers{SUCCESS} }), 0,
           "$name, fifty at once: no SUCCESS before it was accepted");
        delivered("$name, fifty at once", "$notify->{event_id} 1");

        my (%results, %pids);

        for ($first .. $n) {
            my ($pid, $result) = split /\|/, $here->logged($_);

            $results{$result}++;
            $pids{$pid} = 1;
        }

        is(join(' ', sort keys %pids), join(' ', sort $here->workers),
           "$name, fifty at once: by both workers");
        is($results{delivered}, 1, "$name, fifty at once: one delivered it");
        is($results{in_flight}, @{ $answers{in_flight} },
           "$name, fifty at once: FAIL to who came meanwhile");
        is(($results{duplicate} // 0), @{ $answers{SUCCESS} } - 1,
           "$name, fifty at once: SUCCESS to who came later");

        $app->rules;
        answers("$name, fifty at once: and later", $path, $notify, 'SUCCESS');
        delivered("$name, later");
    }

    # one refund, by v2 and by v3

    for ([ qw(v2 v3) ], [ qw(v3 v2) ]) {
        my ($one, $two) = @$_;
        my $name = "$path, $one and then $two";

        for my $status (qw(SUCCESS CLOSED)) {
            my $notify = $pay->notify($one, $shop, -status => $status);
            my $same = $pay->notify($two, $shop, -status => $status,
                                    refund_id => $notify->{refund_id});

            answers("$name: $one $status", $path, $notify, 'SUCCESS');
            answers("$name: $two $status", $path, $same, 'SUCCESS');
            delivered("$name, $status", "$notify->{event_id} 1");
        }
    }

    # what happens to a refund one after another

    my @events = map { $pay->notify($_->[0], $shop, refund_id => "REFUND$n",
                                    -status => $_->[1]) }
                     [ v3 => 'ABNORMAL' ], [ v3 => 'ABNORMAL' ],
                     [ v2 => 'ABNORMAL' ], [ v2 => 'SUCCESS' ],
                     [ v2 => 'CLOSED' ];

    my %ids = map { $_->{event_id} => 1 } @events;
    is(scalar keys %ids, 5, "$path: five events of one refund");

    for my $time (1, 2) {
        answers("$path, event $_, time $time", $path, $events[$_], 'SUCCESS')
            for 0 .. $#events;
    }

    delivered("$path, five events", map { "$_->{event_id} 1" } @events);
}


# two machines

for my $version (qw(v2 v3)) {
    for my $path (qw(/main /uncached)) {
        my $name = "two nginx, $path, $version";
        my $notify = $pay->notify($version, $shop);

        answers("$name: here", $path, $notify, 'SUCCESS', $clients[0]);
        answers("$name: there", $path, $notify, 'SUCCESS', $clients[1]);
        is(result($there, $n), 'duplicate', "$name: as a duplicate");
        delivered($name, "$notify->{event_id} 1");

        # a failure here is the first attempt, there comes the second

        $notify = $pay->notify($version, $shop);
        $app->rules({ status => 503, times => 1 });
        answers("$name: fails", $path, $notify, 'upstream_error', $clients[0]);
        answers("$name: there", $path, $notify, 'SUCCESS', $clients[1]);
        answers("$name: here", $path, $notify, 'SUCCESS', $clients[0]);
        delivered($name, map { "$notify->{event_id} $_" } 1, 2);

        # under way here

        $notify = $pay->notify($version, $shop);
        $app->rules({ delay => slow(0.25) });

        my $again = $pay->resend($shop, $notify);
        my $connection = $clients[0]->connect;

        $connection->send('POST', $path, $again->{headers}, $again->{body});
        ok($app->wait_for(1), "$name: under way here");
        answers("$name: meanwhile there", $path, $notify, 'in_flight',
                $clients[1]);
        is($pay->answer($notify, $connection->read), 'SUCCESS',
           "$name: delivered here");
        answers("$name: then there", $path, $notify, 'SUCCESS', $clients[1]);
        delivered($name, "$notify->{event_id} 1");

        # at once

        $notify = $pay->notify($version, $shop);

        my @connections = map { $clients[$_ % 2]->connect } 1 .. 40;

        for (@connections) {
            my $again = $pay->resend($shop, $notify);
            $_->send('POST', $path, $again->{headers}, $again->{body});
        }

        my %answers = map { $pay->answer($notify, $_->read) => 1 }
                          @connections;

        is(join(' ', sort keys %answers), 'SUCCESS in_flight',
           "$name, forty at once: the answers");
        delivered("$name, forty at once", "$notify->{event_id} 1");
        $app->rules;
    }

    # a Redis of which each has its own part

    my $notify = $pay->notify($version, $shop);

    answers("two prefixes, $version: here", '/other', $notify, 'SUCCESS', $_)
        for @clients;
    delivered("two prefixes, $version", ("$notify->{event_id} 1") x 2);

    # and so are two stores of one nginx

    $notify = $pay->notify($version, $shop);

    answers("two stores, $version: $_", $_, $notify, 'SUCCESS')
        for qw(/local /main /other /embedded);
    delivered("two stores, $version", ("$notify->{event_id} 1") x 4);
}


# the records

for my $version (qw(v2 v3)) {
    my @records = (
        [ 'accepted', {}, qr/^D (\d{10})$/ ],
        [ 'refused', { status => 500 }, qr/^F 1 $LEASE $RETAIN$/ ],
        [ 'unknown', { fault => 'close' },
          qr/^P [0-9a-f]{32} 1 $LEASE $RETAIN$/ ],
    );

    for (@records) {
        my ($name, $rule, $value) = @$_;
        my $notify = $pay->notify($version, $shop);
        my $key = "shop-prod:{$notify->{event_id}}orders";

        $name = "record, $version, $name";
        $app->rules($rule);
        $redis->command('FLUSHALL');
        $clients[0]->post('/main', $notify);

        is(join(' ', @{ $redis->command('KEYS', '*') }), $key, "$name: key");

        my $record = $redis->command('GET', $key) // 'none';
        like($record, $value, "$name: value");

        if ($record =~ /^D (\d+)$/) {
            cmp_ok(abs($1 - time), '<=', slow(3), "$name: time");
        }

        my $left = $redis->command('PTTL', $key);
        ok($left <= $RETAIN && $left > $RETAIN - slow(5000),
           "$name: time to live") or diag($left);
    }

    $app->rules;
}


# how often Redis is asked

for my $version (qw(v2 v3)) {
    my $notify = $pay->notify($version, $shop);
    my $name = "asked, $version";

    # the connections of all four workers are there

    for (@clients) {
        for my $client (($_) x 20) {
            answers("$name: before", '/uncached',
                    $pay->notify($version, $shop), 'SUCCESS', $client);
            answers("$name: before", '/main',
                    $pay->notify($version, $shop), 'SUCCESS', $client);
        }
    }

    is(asked(sub { answers("$name: new", '/main', $notify, 'SUCCESS') }),
       'get=1 set=2', "$name: for a new one: claimed in one round, committed");
    is(asked(sub { answers("$name: again", '/main', $notify, 'SUCCESS')
                       for 1 .. 10 }),
       '', "$name: not at all for what this machine knows");
    is(asked(sub { answers("$name: there", '/main', $notify, 'SUCCESS',
                           $clients[1]) }),
       'get=1 set=1', "$name: once by a machine that does not");
    is(asked(sub { answers("$name: there, again", '/main', $notify, 'SUCCESS',
                           $clients[1]) for 1 .. 10 }),
       '', "$name: which then knows as well");

    $notify = $pay->notify($version, $shop);

    is(asked(sub { answers("$name: new", '/uncached', $notify, 'SUCCESS') }),
       'get=1 set=2', "$name: for a new one, without a cache");
    is(asked(sub { answers("$name: again", '/uncached', $notify, 'SUCCESS')
                       for 1 .. 5 }),
       'get=5 set=5', "$name: each time, without a cache");
}

$app->forget;


# what Redis has lost is known here; without a cache it is not

for my $version (qw(v2 v3)) {
    my $notify = $pay->notify($version, $shop);

    for (1, 2) {
        answers("lost, $version: $_", '/main', $notify, 'SUCCESS');
        answers("lost, $version, uncached: $_", '/uncached', $notify,
                'SUCCESS');
        $redis->command('FLUSHALL');
    }

    delivered("lost, $version", ("$notify->{event_id} 1") x 3);
}

no_secrets($_, $pay->secrets($shop)) for $here, $there;

done_testing;
