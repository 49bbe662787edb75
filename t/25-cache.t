#!/usr/bin/perl

# The cache in front of Redis: what this machine knows to be accepted, per event
# and target, of all its workers, costs no round trip; it is bounded and forgets
# the oldest first, and a reload empties it.  What it does not know proves
# nothing: Redis decides.

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

    log_format notify '$pid';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store main     redis://127.0.0.1:%%REDIS%% prefix=t: timeout=2s;
    refund_store small    redis://127.0.0.1:%%REDIS%% prefix=t: timeout=2s
                          cache=64k;
    refund_store uncached redis://127.0.0.1:%%REDIS%% prefix=t: timeout=2s
                          cache=off;
    refund_store local    shm:10m;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        location = /main {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
        }

        location = /both {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_pass /internal/ledger  name=ledger;
            refund_notify_store main;
        }

        location = /small {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store small;
        }

        location = /uncached {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store uncached;
        }

        location = /local {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
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
my $redis = redis();
my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, REDIS => $redis->port });
my $client = client($nginx);

# the commands of one round trip each: who has to ask, and what comes of it

my $NOT_ASKED = '';
my $KNOWN_THERE = 'get=1 set=1';
my $NEW = 'get=1 set=2';


sub notify {
    return $pay->v2_notify($shop);
}


sub key {
    my ($notify, $target) = @_;

    return "t:{$notify->{event_id}}" . ($target // 'orders');
}


# How often Redis was asked, and what, while the code ran.

sub asked {
    my ($code) = @_;

    $redis->command('CONFIG', 'RESETSTAT');
    $code->();

    my %calls = $redis->command('INFO', 'commandstats')
                =~ /^cmdstat_([^:]+):calls=(\d+)/mg;

    return join ' ', map { "$_=$calls{$_}" }
                     grep { !/^(?:config|info|ping)\b/ } sort keys %calls;
}


# Sends it: how often Redis is asked, and how often the app, which is SUCCESS in
# the end in each of these cases.

sub costs {
    my ($name, $path, $notify, $asked, $deliveries) = @_;

    my $answer;

    $app->forget;
    is(asked(sub { $answer = $pay->answer($notify,
                                          $client->post($path, $notify)) }),
       $asked, "$name: what Redis is asked");
    is($answer, 'SUCCESS', "$name: SUCCESS");
    is(scalar(() = $app->requests), $deliveries, "$name: deliveries");
    return;
}


# Sends many at once; they must all be accepted.

sub all_accepted {
    my ($name, $path, @notifies) = @_;

    my $failed = 0;

    while (my @some = splice @notifies, 0, 50) {
        my @responses = $client->parallel([ map {
            [ 'POST', $path, $_->{headers}, $_->{body} ] } @some ]);

        $failed += grep { $pay->answer($some[$_], $responses[$_])
                          ne 'SUCCESS' } 0 .. $#some;
    }

    is($failed, 0, $name);
    return;
}


# which connects the workers

all_accepted('before', $_, map { notify() } 1 .. 50)
    for qw(/main /small /uncached);


# how much it holds

my %room = $nginx->error_log
           =~ /"(refund_\w+:\w+)" has room for (\d+) notifies/g;

is(join(' ', sort keys %room),
   'refund_cache:main refund_cache:small refund_store:local',
   'start-up says what there is room for');

my $cache = $room{'refund_cache:main'};

diag("a cache of 1 MB has room for $cache records");

for my $page (qw(directives directives.zh-CN configuration
                 configuration.zh-CN))
{
    my $text = RefundNotify::Test::Util::read_file("docs/$page.md");
    my ($number) = $text =~ ($page =~ /^d/ ? qr/^\| `cache=.*?(\d+ \d{3})\b/m
                                           : qr/1 MB.*?(\d+ \d{3})\b/);

    cmp_ok(abs(($number // 0) =~ s/ //r - $cache), '<', 0.05 * $cache,
           "docs/$page.md says how many");
}


# of what was accepted here: not asked again, by any worker

{
    my $notify = notify();

    costs('new', '/main', $notify, $NEW, 1);

    my %before = map { $_ => 1 } $nginx->workers;
    my $log = $nginx->path('notify.log');
    my $lines = () = RefundNotify::Test::Util::read_file($log) =~ /\n/g;

    is(asked(sub { all_accepted('told fifty times', '/main',
                                ($notify) x 50) }),
       $NOT_ASKED, 'told fifty times: Redis is not asked');

    ok(wait_until(sub {
           my @pids = RefundNotify::Test::Util::read_file($log) =~ /^(\d+)$/mg;
           my %pids = map { $_ => 1 } splice @pids, $lines;

           return !grep { !$pids{$_} } keys %before;
       }), 'told fifty times: by both workers');
}


# a row: what this machine's cache and Redis know of the event, what Redis is
# asked, what the app is

my @rows = (
    [ 'Redis knows, the cache does not', '/main', $KNOWN_THERE, 0,
      sub { $client->post('/uncached', $_[0]) } ],
    [ 'both know', '/main', $NOT_ASKED, 0,
      sub { $client->post('/main', $_[0]) } ],
    [ 'the cache has learnt it from Redis', '/main', $NOT_ASKED, 0,
      sub { $client->post($_, $_[0]) for qw(/uncached /main) } ],
    [ "another store's cache knows", '/small', $KNOWN_THERE, 0,
      sub { $client->post('/main', $_[0]) } ],
    [ 'neither knows', '/main', $NEW, 1, sub { } ],
    [ 'the cache knows, and Redis was emptied', '/main', $NOT_ASKED, 0,
      sub { $client->post('/main', $_[0]);
            $redis->command('FLUSHALL') } ],
    [ 'there is no cache, and Redis was emptied', '/uncached', $NEW, 1,
      sub { $client->post('/uncached', $_[0]);
            $redis->command('FLUSHALL') } ],
    [ 'the cache knows, and the key was deleted', '/main', $NOT_ASKED, 0,
      sub { $client->post('/main', $_[0]);
            $redis->command('DEL', key($_[0])) } ],
    [ 'the cache knew, the key was deleted, and nginx reloaded', '/main',
      $NEW, 1,
      sub { $client->post('/main', $_[0]);
            $redis->command('DEL', key($_[0]));
            $nginx->reload;
            all_accepted('reloaded', '/main', map { notify() } 1 .. 50) } ],
    [ 'the cache knew, and nginx reloaded', '/main', $KNOWN_THERE, 0,
      sub { $client->post('/main', $_[0]);
            $nginx->reload;
            all_accepted('reloaded', '/main', map { notify() } 1 .. 50) } ],
    [ 'a failure is not remembered', '/main', 'eval=1 get=2 set=3', 1,
      sub { $app->rules({ status => 500, times => 1 });
            $client->post('/main', $_[0]) } ],
    [ 'one target is known here, the other nowhere', '/both', $NEW, 1,
      sub { $client->post('/main', $_[0]) } ],
    [ 'both targets are known here', '/both', $NOT_ASKED, 0,
      sub { $client->post('/both', $_[0]) } ],
    [ 'one target is known here, the other to Redis', '/both', $KNOWN_THERE, 0,
      sub { $client->post('/main', $_[0]);
            $redis->command('SET', key($_[0], 'ledger'), 'D 1700000000',
                            'PX', 60000) } ],
);

for (@rows) {
    my ($name, $path, $asked, $deliveries, $before) = @$_;
    my $notify = notify();

    $before->($notify);
    costs($name, $path, $notify, $asked, $deliveries);
    $app->rules;
}


# bounded, and the oldest goes first

{
    my $room = $room{'refund_cache:small'};
    my ($oldest, $second) = (notify(), notify());
    my @others = map { notify() } 1 .. $room - 3;
    my $newest = notify();

    all_accepted('the oldest', '/small', $oldest);
    all_accepted('the second', '/small', $second);
    all_accepted('as many as there is room for', '/small', @others, $newest);

    costs('full: the oldest', '/small', $oldest, $NOT_ASKED, 0);
    all_accepted('one too many', '/small', notify());
    costs('one too many: the second', '/small', $second, $NOT_ASKED, 0);
    costs('one too many: the newest', '/small', $newest, $NOT_ASKED, 0);
    costs('one too many: the oldest', '/small', $oldest, $KNOWN_THERE, 0);
    costs('and then the second', '/small', $second, $KNOWN_THERE, 0);
    unlike($nginx->error_log, qr/refund_cache:small" is full/,
           'nothing to warn of');
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
