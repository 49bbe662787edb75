#!/usr/bin/perl

# WeChat Pay goes away in the midst of it: by FIN, by RST, by a reset of HTTP/2,
# at every point of a notify's way.  What was claimed is delivered all the same,
# once, and committed; and nothing of the client is kept.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 96;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store local shm:1m;
    refund_store main  redis://127.0.0.1:%%REDIS%% prefix=gone: timeout=4s
                       cache=off;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        refund_notify_lease 20s;

        location = /local {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_store local;
        }

        location = /main {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_store main;
        }

        location = /late/local {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_store local;
            refund_notify_deadline 300ms;
        }

        location = /late/main {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_store main;
            refund_notify_deadline 300ms;
        }

        location /internal/ {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /status {
            stub_status;
            access_log off;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = scripted_redis();
my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, REDIS => $redis->port });
my $client = client($nginx);
my ($worker) = $nginx->workers;

my @stores = qw(local main);
my @versions = qw(v2 v3);

my %goes = (
    FIN => sub { $_[0]->close },
    RST => sub { $_[0]->reset },
    'half a FIN' => sub { $_[0]->finish },
);


sub deliveries {
    my ($notify) = @_;

    return join ', ', sort map { "$_->{path} $_->{headers}{'refund-attempt'} "
                                 . ($_->{how} // 'running') }
                           grep { $_->{id} eq $notify->{event_id} }
                                $app->requests;
}


sub under_way {
    my ($name, $notify) = @_;

    ok(wait_until(sub { deliveries($notify)
                        eq '/a 1 running, /b 1 running' }),
       "$name: under way") or diag(deliveries($notify));
    return;
}


sub record {
    my ($notify, $target) = @_;

    return $redis->{redis}->command('GET', "gone:{$notify->{event_id}}$target")
           // 'none';
}


# Both targets have it, once and for all.

sub committed {
    my ($name, $store, $notify) = @_;

    my $last;

    ok(wait_until(sub { deliveries($notify)
                        eq '/a 1 answered, /b 1 answered' }, 10),
       "$name: delivered") or diag(deliveries($notify));

    if ($store eq 'main') {
        for my $target (qw(a b)) {
            ok(wait_until(sub { record($notify, $target) =~ /^D \d{10}$/ }),
               "$name: the record of $target")
                or diag(record($notify, $target));
        }
    }

    wait_until(sub {
        $last = $pay->answer($notify,
                    $client->post("/$store", $pay->resend($shop, $notify)));
        return $last ne 'in_flight';
    });

    is($last, 'SUCCESS', "$name: told again");
    is(deliveries($notify), '/a 1 answered, /b 1 answered', "$name: once");
    return;
}


# The connections of clients and of deliveries, but for the one that asks.

sub active {
    my $response = $client->request('GET', '/status');
    my ($active) = $response->{body} =~ /^Active connections: (\d+)/m;

    return ($active // 999) - 1;
}


sub memory {
    my ($kilobytes) = RefundNotify::Test::Util::read_file(
                          "/proc/$worker/status") =~ /^VmRSS:\s+(\d+)/m;
    return $kilobytes;
}


for my $how (sort keys %goes) {
    my $go = $goes{$how};
    my @cases;

    for my $store (@stores) {
        for my $version (@versions) {
            my $name = "$how, $store, $version";

            # in the body: nothing is known of it, nothing happens

            my $notify = $pay->notify($version, $shop);
            my $connection = $client->connect;
            my $length = length $notify->{body};

            $connection->send('POST', "/$store", [ @{ $notify->{headers} },
                'Content-Length' => $length ],
                substr $notify->{body}, 0, $length - 1);
            select undef, undef, undef, 0.02;
            $go->($connection);

            # and comes back

            push @cases, [ "$name, in the body", $store, $notify ];

            is($pay->answer($notify, $client->post("/$store",
                   $pay->resend($shop, $notify))), 'SUCCESS',
               "$name: after half a body");

            # while it is delivered

            $notify = $pay->notify($version, $shop);
            push @cases, [ "$name, while it is delivered", $store, $notify ];

            $app->rules({ delay => 0.3 });
            $connection = $client->connect;
            $connection->send('POST', "/$store", $notify->{headers},
                              $notify->{body});
            under_way($name, $notify);
            $go->($connection);

            # the deadline's answer to who is gone

            $notify = $pay->notify($version, $shop);
            push @cases, [ "$name, before the deadline", $store, $notify ];

            $app->rules({ delay => 1 });
            $connection = $client->connect;
            $connection->send('POST', "/late/$store", $notify->{headers},
                              $notify->{body});
            under_way("$name, late", $notify);
            $go->($connection);

            # after it

            $notify = $pay->notify($version, $shop);
            push @cases, [ "$name, after the deadline", $store, $notify ];

            $connection = $client->connect;
            is($pay->answer($notify, $connection->request('POST',
                   "/late/$store", $notify->{headers}, $notify->{body})),
               'deadline', "$name: the deadline");
            $go->($connection);

            # before the business app was asked at all: sent and gone

            $notify = $pay->notify($version, $shop);
            push @cases, [ "$name, at once", $store, $notify ];

            $app->rules;
            $connection = $client->connect;
            $connection->send('POST', "/$store", $notify->{headers},
                              $notify->{body});

            # before nginx has read it, an RST takes it back

            ok(wait_until(sub { deliveries($notify) ne '' }),
               "$name: it was read") if $how eq 'RST';
            $go->($connection);
        }
    }

    # before the claim came back

    for my $version (@versions) {
        for my $location (qw(/main /late/main)) {
            my $name = "$how, before the claim to $location, $version";
            my $notify = $pay->notify($version, $shop);
            my $key = "gone:{$notify->{event_id}}a";

            push @cases, [ $name, 'main', $notify ];

            $redis->rules({ command => 'GET', key => $key, times => 1,
                            delay => 0.5 });

            my $connection = $client->connect;

            $connection->send('POST', $location, $notify->{headers},
                              $notify->{body});
            ok(wait_until(sub { grep { ($_->{key} // '') eq $key }
                                     $redis->requests }), "$name: it is asked");
            is(deliveries($notify), '', "$name: not delivered yet");
            $go->($connection);
        }
    }

    committed(@$_) for @cases;
    $_->rules for $app, $redis;
}


# HTTP/2

for my $store (@stores) {
    for my $version (@versions) {
        my $name = "HTTP/2, $store, $version";
        my @cases = map { [ "$name, $_", $store,
                            $pay->notify($version, $shop) ] }
                        ('normal', 'first is reset', 'both are reset',
                         'connection is closed', 'late');
        my ($normal, $first, $both, $closed, $late)
            = map { $_->[2] } @cases;
        my $post = sub {
            my ($http2, $path, $notify) = @_;

            return $http2->send('POST', $path, $notify->{headers},
                                $notify->{body});
        };
        my $http2 = http2($nginx, 'H2');

        is($pay->answer($normal, $http2->read($post->($http2, "/$store",
                                                      $normal))),
           'SUCCESS', "$name: normal");

        # reset between the two targets' answers, and before both

        $app->rules({ path => '/a', id => $first->{event_id}, delay => 0.2 },
                    { path => '/b', id => $first->{event_id}, delay => 0.7 },
                    { delay => 0.4 });

        my $one = $post->($http2, "/$store", $first);
        my $two = $post->($http2, "/$store", $both);

        ok(wait_until(sub {
            deliveries($first) =~ /^\/a 1 (?:running|answered), \/b 1 running$/
            && deliveries($both) eq '/a 1 running, /b 1 running'
        }), "$name: under way");
        $http2->reset($two);
        ok(wait_until(sub { deliveries($first) =~ /\/a 1 answered/ }),
           "$name: the first target has accepted");
        $http2->reset($one);

        # the connection serves others; it goes in the midst of one

        is($pay->answer($late, $http2->read($post->($http2, "/late/$store",
                                                    $late))),
           'deadline', "$name: late");

        $post->($http2, "/$store", $closed);
        under_way("$name, another", $closed);
        $http2->close;

        committed(@$_) for @cases;
        $app->rules;
    }
}


# the same one, pipelined on one connection

for my $store (@stores) {
    for my $version (@versions) {
        my $name = "pipelined, $store, $version";
        my ($notify, $late, $gone) = map { $pay->notify($version, $shop) }
                                         1 .. 3;
        my $connection = $client->connect;
        my $send = sub {
            my ($path, $notify) = @_;

            $connection->send('POST', $path, $notify->{headers},
                              $notify->{body}) for 1 .. 3;
        };

        $send->("/$store", $notify);
        is(join(' ', map { $pay->answer($notify, $connection->read) } 1 .. 3),
           'SUCCESS SUCCESS SUCCESS', $name);

        $app->rules({ delay => 1 });
        $send->("/late/$store", $late);
        is(join(' ', map { $pay->answer($late, $connection->read) } 1 .. 3),
           'deadline in_flight in_flight', "$name, late");

        $app->rules({ delay => 0.3 });
        $send->("/$store", $gone);
        under_way($name, $gone);
        $connection->reset;

        committed("$name, $_->[0]", $store, $_->[1])
            for [ normal => $notify ], [ late => $late ], [ gone => $gone ];
        $app->rules;
    }
}


# Nothing is kept.  There are no more connections than a handful need, so that
# one that is lost each time would be missed.

sub events {
    my ($count) = @_;

    $app->forget;

    for my $n (1 .. $count) {
        my $path = ($n % 3 ? '/' : '/late/') . $stores[$n % 2];
        my $notify = $pay->notify($versions[$n / 2 % 2], $shop);

        if ($n % 5 == 0) {
            my $http2 = http2($nginx, 'H2');
            my $stream = $http2->send('POST', $path, $notify->{headers},
                                      $notify->{body});

            $http2->reset($stream) if $n % 2;
            $http2->close;

        } else {
            my $connection = $client->connect;
            my $half = $n % 5 == 1;

            $connection->send('POST', $path, [ @{ $notify->{headers} },
                              'Content-Length' => length $notify->{body} ],
                              $half ? substr $notify->{body}, 0, 300
                                    : $notify->{body});
            wait_until(sub { deliveries($notify) ne '' }) if $n % 5 == 2;
            $n % 2 ? $connection->close : $connection->reset;
        }

        # not more at a time than there are connections

        if ($n % 10 == 0) {
            wait_until(sub { active() == 0 });
            $app->forget;
        }
    }

    is(active(), 0, "$count clients gone: their connections are free");
    return;
}

$app->rules({ delay => 0.01 });
events(100);

my $before = memory();

events(400);

# what the sanitizers keep of freed memory is not ours; they tell leaks
# themselves

cmp_ok(memory() - $before, '<',
       $ENV{REFUND_NOTIFY_SANITIZE} ? 100_000 : 1000,
       'clients gone: no memory is kept (kB)');

is(join(' ', $nginx->workers), $worker, 'by one worker, all the time');

no_secrets($nginx, $pay->secrets($shop));

done_testing;
