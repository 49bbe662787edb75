#!/usr/bin/perl

# refund_notify_store_error pass: what cannot be claimed is delivered all the
# same, without an attempt number and without dedupe; and what was accepted is
# told to Redis when it is back.

use lib 't/lib';
use RefundNotify::Test;

use Time::HiRes ();

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

    refund_store main     redis://127.0.0.1:%%REDIS%% prefix=t: timeout=300ms;
    refund_store uncached redis://127.0.0.1:%%REDIS%% prefix=t: timeout=300ms
                          cache=off;
    refund_store full     shm:64k;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_store_error pass;

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

        location = /two {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_pass /internal/ledger name=ledger;
            refund_notify_store main;
        }

        location = /full {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store full;
        }

        location = /fail {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
            refund_notify_store_error fail;
        }

        location /internal/ {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = scripted_redis();
my %vars = (APP => $app->port, REDIS => $redis->port);

$conf = with_merchants($conf, $shop);

my $nginx = nginx($conf, vars => \%vars);
my $other = nginx($conf, vars => \%vars);
my $n = 0;


# Sends it, once more if need be, and compares the answer and the log.

sub answers {
    my ($name, $path, $notify, $result, $attempt, $on) = @_;

    $on //= $nginx;

    my $response = client($on)->post("$path?n=" . ++$n,
                                     $pay->resend($shop, $notify));

    is($pay->answer($notify, $response), $result =~ /delivered|duplicate/
                                         ? 'SUCCESS' : $result, $name);
    like($on->logged($n), qr/^$result\|[^|]*\|$attempt$/,
         "$name: the variables");
    return $response;
}


# How often, and with which attempts, the app was called.

sub attempts {
    my ($notify, $path) = @_;

    return join ' ', map { exists $_->{headers}{'refund-attempt'}
                           ? $_->{headers}{'refund-attempt'} : 'none' }
                     grep { $_->{id} eq $notify->{event_id}
                            && (!$path || $_->{path} eq $path) }
                          $app->requests;
}


sub key {
    my ($notify, $target) = @_;

    return "t:{$notify->{event_id}}" . ($target // 'orders');
}


sub becomes_done {
    my ($name, $notify, $target) = @_;

    ok(wait_until(sub {
           ($redis->{redis}->command('GET', key($notify, $target)) // '')
               =~ /^D \d+$/
       }, 10), "$name: in Redis it becomes accepted");
    return;
}


# Redis as it is: nothing passes by it

for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";
    my $notify = $pay->$make($shop);

    answers("$version, claimed", '/main', $notify, 'delivered', 1);
    answers("$version, again", '/main', $notify, 'duplicate', '-');
    is(attempts($notify), '1', "$version, with its attempt");

    # a record of another is no error of the store

    $notify = $pay->$make($shop);
    $redis->{redis}->command('SET', key($notify), 'P ' . 'f' x 32
                             . ' 7 600000 1200000', 'PX', 1200000);
    answers("$version, under way elsewhere", '/main', $notify, 'in_flight',
            '-');
    is(attempts($notify), '', "$version, under way elsewhere: not delivered");
}


# what is wrong with Redis, and what makes it well again

my @cases = (
    [ 'refused', sub { $redis->accepting('no'); $redis->drop },
      sub { $redis->accepting('yes') } ],
    [ 'stopped', sub { $redis->{redis}->pause },
      sub { $redis->{redis}->resume } ],
    [ 'read-only',
      sub { $redis->rules({ command => qr/SET|EVAL/,
                            reply => "-READONLY words-of-redis\r\n" }) },
      sub { $redis->rules } ],
    [ 'lost replies', sub { $redis->rules({ fault => 'reset',
                                            forward => 1 }) },
      sub { $redis->rules } ],
);

for my $i (0 .. $#cases) {
    my ($name, $break, $mend) = @{ $cases[$i] };
    my ($cached, $uncached, $two, $failed, $refused)
        = map { ($i + $_) % 2 ? $pay->v3_notify($shop)
                              : $pay->v2_notify($shop) } 1 .. 5;

    $break->();

    # with the cache it is known here from the acceptance on

    my $response = answers($name, '/main', $cached, 'delivered', '-');

    cmp_ok($response->{time}, '<', slow(2.5), "$name: in time");
    like($nginx->error_log, qr/\[error\].*\ is\ delivered\ to\ "orders"
         \ without\ a\ claim,\ repeats\ are\ not\ kept\ off:
         \ store\ "main":\ [^(\n]*Redis/x, "$name: logged");
    answers("$name, again", '/main', $cached, 'duplicate', '-');
    is(attempts($cached), 'none', "$name: delivered, without an attempt");

    # without it each repeat is one more delivery

    answers("$name, uncached", '/uncached', $uncached, 'delivered', '-')
        for 1 .. 2;
    is(attempts($uncached), 'none none', "$name, uncached: each delivered");

    answers("$name, two targets", '/two', $two, 'delivered', '-, -');
    is(attempts($two, "/$_"), 'none', "$name, two targets: $_")
        for qw(refunds ledger);

    # what the app refuses is refused, and can be sent again at once

    $app->rules({ id => $refused->{event_id}, status => 500, times => 1 });
    answers("$name, refused by the app", '/main', $refused, 'upstream_error',
            '-');
    answers("$name, then accepted", '/main', $refused, 'delivered', '-');
    is(attempts($refused), 'none none',
       "$name, refused by the app: delivered again");

    answers("$name, policy fail", '/fail', $failed, 'store_error', '-');
    is(attempts($failed), '', "$name, policy fail: not delivered");

    $mend->();

    becomes_done($name, $_) for $cached, $uncached, $two, $refused;
    becomes_done("$name, the second target", $two, 'ledger');

    answers("$name, here", '/uncached', $_, 'duplicate', '-')
        for $cached, $uncached, $refused;
    answers("$name, there", '/two', $two, 'duplicate', '-, -', $other);
    answers("$name, there", '/main', $_, 'duplicate', '-', $other)
        for $cached, $uncached, $refused;
    is(attempts($cached), 'none', "$name: not delivered again");
    is(attempts($two, '/ledger'), 'none', "$name: nor to the second");
}

unlike($nginx->error_log, qr/accepted it, but store/,
       'no commit was given up');
unlike($nginx->error_log, qr/words-of-redis/, 'no word of Redis in the log');


# a zone that is full is an error of the store as well

{
    my ($room) = $nginx->error_log
                 =~ /"refund_store:full" has room for (\d+) notifies/;
    my @failed = map { $pay->v2_notify($shop) } 1 .. $room;
    my $notify = $pay->v2_notify($shop);

    $app->rules({ status => 500 });

    while (my @some = splice @failed, 0, 50) {
        client($nginx)->parallel([ map { [ 'POST', '/full', $_->{headers},
                                           $_->{body} ] } @some ]);
    }

    $app->rules;

    # the log says the same at most once a second
    Time::HiRes::sleep(1.1);

    answers('a full zone', '/full', $notify, 'delivered', '-');
    is(attempts($notify), 'none', 'a full zone: delivered without an attempt');
    like($nginx->error_log, qr/without\ a\ claim,\ repeats\ are\ not\ kept\ off:
         \ store\ "full":\ the\ shared\ memory\ zone\ is\ full/x,
         'a full zone: logged');
}

no_secrets($_, $pay->secrets($shop)) for $nginx, $other;

done_testing;
