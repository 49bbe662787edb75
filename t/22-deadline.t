#!/usr/bin/perl

# WeChat Pay is answered before the deadline, and the delivery goes on behind:
# committed when it is accepted, kept from a second one as long as it runs, cut
# when it never ends.  What is known to have failed may be tried again at once,
# what is not known only when the lease is over.

use lib 't/lib';
use RefundNotify::Test;

use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store local shm:1m;
    refund_store main  redis://127.0.0.1:%%REDIS%% timeout=400ms cache=off;
    refund_store quick redis://127.0.0.1:%%REDIS%% timeout=%%QUICK%% cache=off;
    refund_store slow  redis://127.0.0.1:%%SLOW_REDIS%% timeout=4s;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_lease %%LEASE%%;

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

        location = /late/local {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            refund_notify_deadline 300ms;
        }

        location = /late/main {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
            refund_notify_deadline 300ms;
        }

        location = /renewed/local {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            refund_notify_lease %%SHORT_LEASE%%;
            refund_notify_deadline 300ms;
        }

        location = /renewed/main {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store quick;
            refund_notify_lease %%SHORT_LEASE%%;
            refund_notify_deadline 300ms;
        }

        location = /slow {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store slow;
            refund_notify_lease 20s;
            refund_notify_deadline 300ms;
        }

        location = /patient {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store slow;
            refund_notify_lease 20s;
            refund_notify_deadline %%PATIENCE%%;
        }

        location = /cut/local {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
            refund_notify_delivery_timeout 500ms;
        }

        location = /cut/main {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
            refund_notify_delivery_timeout 500ms;
        }

        location = /timeout/local {
            refund_notify shop;
            refund_notify_pass /internal/impatient name=orders;
            refund_notify_store local;
        }

        location = /timeout/main {
            refund_notify shop;
            refund_notify_pass /internal/impatient name=orders;
            refund_notify_store main;
        }

        location = /other/local {
            refund_notify shop;
            refund_notify_pass /internal/other name=orders;
            refund_notify_store local;
        }

        location = /other/main {
            refund_notify shop;
            refund_notify_pass /internal/other name=orders;
            refund_notify_store main;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/impatient {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 400ms;
        }

        location = /internal/other {
            internal;
            proxy_pass http://127.0.0.1:%%OTHER%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my ($DEADLINE, $PATIENCE, $LEASE) = (0.3, slow(0.4), slow(2));

# a lease that a renewal in time, even under the sanitizers, keeps up

my $SHORT_LEASE = slow(1) > 1 ? 2 : 1;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $other = business_app();
my $redis = redis();
my $slow_redis = scripted_redis();
my $redis_of_slow = $slow_redis->{redis};
my $nginx = nginx(with_merchants($conf, $shop),
    vars => { APP => $app->port, OTHER => $other->port,
              REDIS => $redis->port, SLOW_REDIS => $slow_redis->port,
              PATIENCE => $PATIENCE * 1000 . 'ms',
              LEASE => "${LEASE}s", SHORT_LEASE => "${SHORT_LEASE}s",
              QUICK => $SHORT_LEASE * 200 . 'ms' });
my $client = client($nginx);

my @stores = qw(local main);
my @versions = qw(v2 v3);


sub answers {
    my ($name, $path, $notify, $answer) = @_;

    my $response = $client->post($path, $pay->resend($shop, $notify));

    is($pay->answer($notify, $response), $answer, $name);
    return $response;
}


# Sends all of these cases at once, each [ name, store, notify ], to a location
# of their store, and compares the answers; the responses.

sub all_answer {
    my ($when, $location, $cases, $answer) = @_;

    my @responses = $client->parallel([ map {
        my $notify = $pay->resend($shop, $_->[2]);
        [ 'POST', "$location/$_->[1]", $notify->{headers}, $notify->{body} ]
    } @$cases ]);

    is($pay->answer($cases->[$_][2], $responses[$_]), $answer,
       "$cases->[$_][0]: $when") for 0 .. $#$cases;

    return @responses;
}


# A notify of each version to each store.

sub cases {
    my ($name) = @_;

    return map { my $store = $_;
                 map { [ "$name, $store, $_", $store,
                         $pay->notify($_, $shop) ] } @versions } @stores;
}


# The deliveries of a notify: their attempts, and how each ended.

sub deliveries {
    my ($notify, $peer) = @_;

    return grep { $_->{id} eq $notify->{event_id} } ($peer || $app)->requests;
}


sub attempts {
    my ($notify, $peer) = @_;

    return join ' ', map { "$_->{headers}{'refund-attempt'} "
                           . ($_->{how} // 'running') }
                         deliveries($notify, $peer);
}


# Until a delivery that ended is known to the store.

sub becomes {
    my ($name, $path, $notify, $answer, $meanwhile) = @_;

    my $last;

    wait_until(sub {
        $last = $pay->answer($notify,
                             $client->post($path, $pay->resend($shop,
                                                               $notify)));
        return $last ne $meanwhile || do { sleep 0.02; 0 };
    }, 10);

    is($last, $answer, $name);

    # the app may note the end of its answer after nginx has passed it on

    $app->settle;
    return;
}


# What the log says of those that ended after they were answered: each "level
# text".

sub logged_late {
    my (@cases) = @_;

    my $ids = join '|', map { quotemeta $_->[2]{event_id} } @cases;

    return map { /\[(\w+)\] .* refund notify (?:$ids), already answered, (.*)/
                 ? "$1 $2" : () } split /\n/, $nginx->error_log;
}


# the deadline passes, the delivery goes on

my $delay = 1.2 * $SHORT_LEASE;

my %late = (
    200 => qr/^info was accepted by "orders", attempt 1$/,
    500 => qr/^error\ was\ not\ delivered\ to\ "orders":\ its\ answer\ is\ no
              \ acceptance,\ status\ 500,\ attempt\ 1$/x,
);

for my $status (200, 500) {
    my @cases = cases("late, $status");

    $app->rules({ delay => $delay, status => $status, times => 4 });

    my @responses = all_answer('FAIL', '/late', \@cases, 'deadline');

    for (0 .. $#cases) {
        my ($name, undef, $notify) = @{ $cases[$_] };
        my ($request) = deliveries($notify);

        cmp_ok($responses[$_]{time}, '>=', $DEADLINE - 0.05,
               "$name: not before the deadline");
        cmp_ok($responses[$_]{at}, '<', $request->{time} + $delay - 0.01,
               "$name: before the delivery ends");
    }

    all_answer('meanwhile', '/late', \@cases, 'in_flight');
    is(attempts($_->[2]), '1 running', "$_->[0]: it goes on") for @cases;
    ok($app->settle, "late, $status: all end");

    # they end together, and one of a kind is told in a second

    ok(wait_until(sub { logged_late(@cases) }), "late, $status: it is logged");
    is(join("\n", grep { $_ !~ $late{$status} } logged_late(@cases)), '',
       "late, $status: for what it is");

    for (@cases) {
        my ($name, $store, $notify) = @$_;

        becomes("$name: then", "/$store", $notify, 'SUCCESS', 'in_flight');
        is(attempts($notify),
           $status == 200 ? '1 answered' : '1 answered 2 answered',
           "$name: the deliveries");
    }
}


# the connection of a late delivery is free for the next request

for my $store (@stores) {
    for my $version (@versions) {
        my $name = "next on the connection, $store, $version";
        my ($late, $next) = map { $pay->notify($version, $shop) } 1, 2;
        my $connection = $client->connect;

        $app->rules({ id => $late->{event_id}, delay => $delay });

        my $response = $connection->request('POST', "/late/$store",
                                            $late->{headers}, $late->{body});
        is($pay->answer($late, $response), 'deadline', "$name: the late one");
        is($response->{headers}{connection}, 'keep-alive', "$name: kept");

        $response = $connection->request('POST', "/$store", $next->{headers},
                                         $next->{body});
        is($pay->answer($next, $response), 'SUCCESS', "$name: the next one");

        my ($request) = deliveries($late);
        cmp_ok($response->{at}, '<', $request->{time} + $delay - 0.01,
               "$name: while the late one runs");
        ok($app->settle, "$name: which ends");
        becomes("$name: and is known", "/$store", $late, 'SUCCESS',
                'in_flight');
        is(attempts($_), '1 answered', "$name: delivered once")
            for $late, $next;
    }
}

$app->rules;


# the deadline counts from the body's last byte

for my $version (@versions) {
    my $notify = $pay->notify($version, $shop);
    my $connection = $client->connect;
    my $length = length $notify->{body};

    $connection->send('POST', '/patient', [ @{ $notify->{headers} },
                                            'Content-Length' => $length ],
                      substr $notify->{body}, 0, 100);
    sleep 1.5 * $PATIENCE;
    $connection->write(substr $notify->{body}, 100);
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       "a body slower than the deadline, $version");
}


# the store is slower than the deadline

for my $version (@versions) {
    my $name = "a slow claim, $version";
    my $notify = $pay->notify($version, $shop);

    $slow_redis->rules({ command => 'SET', delay => $delay, times => 1 });
    answers($name, '/slow', $notify, 'deadline');
    is(attempts($notify), '', "$name: nothing is delivered yet");
    ok(wait_until(sub { attempts($notify) eq '1 answered' }),
       "$name: it is delivered when the claim comes back");
    $slow_redis->rules;
    becomes("$name: and known", '/patient', $notify, 'SUCCESS', 'in_flight');
    is(attempts($notify), '1 answered', "$name: delivered once");
}


# It comes back, and another nginx has delivered it, of which there is nothing
# to tell, or is at it.

my $DONE = 'D 1700000000';
my $UNDER_WAY = 'P ' . 'a' x 32 . ' 1 20000 60000';

for ([ 'a duplicate', 'v2', $DONE, 'SUCCESS', '' ],
     [ 'a duplicate', 'v3', $DONE, 'SUCCESS', '' ],
     [ 'one under way', 'v3', $UNDER_WAY, 'in_flight', 'info was not delivered '
       . 'to "orders": another delivery of it is under way' ])
{
    my ($what, $version, $record, $answer, $logged) = @$_;
    my $name = "a slow claim of $what, $version";
    my $notify = $pay->notify($version, $shop);
    my $log = sub { join "\n", logged_late([ $name, 'slow', $notify ]) };

    $redis_of_slow->command('SET', "{$notify->{event_id}}orders", $record,
                            'PX', 60_000);
    $slow_redis->rules({ command => 'SET', delay => $delay, times => 1 });
    answers($name, '/slow', $notify, 'deadline');
    sleep $delay;
    $slow_redis->rules;
    wait_until($log) if $logged;
    is($log->() =~ s/ \(\d+ more like this held back\)$//r, $logged,
       "$name: what is logged");
    answers("$name: known", '/patient', $notify, $answer);
    is(attempts($notify), '', "$name: not delivered");
}


# A delivery that takes longer than the lease: it is renewed.

my @cases = cases('renewed');

$app->rules({ delay => 3.5 * $SHORT_LEASE });
all_answer('late', '/renewed', \@cases, 'deadline');

my $begin = time;

while (time < $begin + 2.2 * $SHORT_LEASE) {
    sleep 0.4 * $SHORT_LEASE;
    all_answer(sprintf('after %.1f s', time - $begin), '/renewed', \@cases,
               'in_flight');
}

ok($app->settle, 'renewed: all end');
$app->rules;

for (@cases) {
    my ($name, $store, $notify) = @$_;

    becomes("$name: accepted", "/$store", $notify, 'SUCCESS', 'in_flight');
    is(attempts($notify), '1 answered', "$name: delivered once");
}


# What is known to have failed is released: the next try comes at once.  What
# is not known is in flight until the lease is over.

my @definite = (
    [ '500', '/cut', { status => 500 } ],
    [ '404', '/cut', { status => 404 } ],
    [ '302', '/cut', { status => 302, headers => [ Location => '/' ] } ],
    [ '503, close', '/cut', { status => 503, keepalive => 0 } ],
    [ '500 in pieces', '', { status => 500, body => 'x' x 20,
                             every => 0.005 } ],
);

my @unknown = (
    [ 'drips for ever', '/cut', { endless => 0.05 } ],
    [ 'drips its headers', '/cut', { every => 0.1 } ],
    [ 'never answers', '/cut', { fault => 'hang' } ],
    [ 'answers too late', '/cut', { delay => 60 } ],
    [ 'stops in the body', '/cut',
      { body => 'accepted', cut => 4, then => 'hang' } ],
    [ 'never answers, proxy_read_timeout', '/timeout', { fault => 'hang' } ],
    [ 'stops in the body, proxy_read_timeout', '/timeout',
      { body => 'accepted', cut => 4, then => 'hang' } ],
    [ 'closes', '/cut', { fault => 'close' } ],
    [ 'resets', '/cut', { fault => 'reset' } ],
    [ 'closes in the headers', '/cut', { raw => "HTTP/1.1 200 OK\r\nX-" } ],
    [ 'closes in the body', '/cut', { body => 'accepted', cut => 4 } ],
    [ 'closes in a chunk', '/cut',
      { body => 'accepted', framing => 'chunked', cut => 4 } ],
    [ 'resets in the body', '/cut',
      { body => 'accepted', cut => 4, then => 'reset' } ],
);

# Each of these, of each version, to each store, at once and then again; the
# cases, with the time before they were sent, as their leases are not older.

sub twice {
    my ($location, $table, $again) = @_;

    my (@cases, @rules);

    for (@$table) {
        my ($name, $where, $rule) = @$_;

        next if $where ne $location;

        for my $case (cases($name)) {
            push @cases, $case;
            push @rules, { %$rule, id => $case->[2]{event_id}, times => 1 };
        }
    }

    $app->rules(@rules);
    push @$_, time for @cases;
    all_answer('fails', $location, \@cases, 'upstream_error');
    all_answer('the next try', $location, \@cases, $again);

    return @cases;
}


for (map { twice($_, \@definite, 'SUCCESS') } '/cut', '') {
    my ($name, undef, $notify) = @$_;
    my @deliveries = deliveries($notify);

    is(join(' ', map { $_->{headers}{'refund-attempt'} } @deliveries), '1 2',
       "$name: is the second attempt");
    cmp_ok($deliveries[1]{time} - $deliveries[0]{time}, '<', $LEASE,
           "$name: before the lease would be over");
}

for (map { twice($_, \@unknown, 'in_flight') } qw(/cut /timeout)) {
    my ($name, $store, $notify, $before) = @$_;
    my ($first, $second) = deliveries($notify);

    is($second, undef, "$name: it is not delivered again");

    if ($name =~ /^(?:drips|never|stops|answers)/) {
        is($first->{how}, 'left', "$name: cut");
        cmp_ok($first->{ended} - $before, '>', 0.39,
               "$name: not before its time");
        cmp_ok($first->{ended} - $first->{time}, '<', slow(1.5),
               "$name: in time");
    }

    becomes("$name: later", "/$store", $notify, 'SUCCESS', 'in_flight');

    ($first, $second) = deliveries($notify);
    is($second->{headers}{'refund-attempt'}, 2, "$name: the second attempt");
    cmp_ok($second->{time} - $before, '>=', $LEASE - 0.05,
           "$name: when the lease is over");
    is(scalar(() = deliveries($notify)), 2, "$name: and no other");
}

$app->rules;


# nobody listens

$other->accepting('no');

@cases = cases('nobody listens');

all_answer("attempt $_", '/other', \@cases, 'upstream_error') for 1, 2;
$other->accepting('yes');
all_answer('then it listens', '/other', \@cases, 'SUCCESS');
$other->settle;

is(attempts($_->[2], $other), '3 answered', "$_->[0]: the third attempt")
    for @cases;

no_secrets($nginx, $pay->secrets($shop));

done_testing;
