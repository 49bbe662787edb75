#!/usr/bin/perl

# A store that is the master which sentinels name, under a stream of notifies:
# the master killed, stopped, failed over by hand.  Every notify is accepted in
# the end, none is answered SUCCESS before, and soon after the sentinels have
# said who is master now the stream flows again.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Sentinel;
use RefundNotify::Test::Stream;

use Time::HiRes qw(time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$refund_notify_result|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store ha %%URL%%/0 prefix=t: timeout=%%TIMEOUT%%ms user=edge
                    password_file=%%DIR%%/edge.password sentinel_user=watch
                    sentinel_password_file=%%DIR%%/watch.password;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = / {
            refund_notify       shop;
            refund_notify_pass  /internal/refunds name=orders;
            refund_notify_store ha;
            refund_notify_lease %%LEASE%%ms;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $TIMEOUT = slow(1) > 1 ? 0.5 : 0.2;
my $LEASE = 5 * $TIMEOUT;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();

# the users have the rights that docs/configuration.md says, and no others

my $set = RefundNotify::Test::Sentinel->new(
    config => [ 'user edge on >of-the-edge ~t:* +ping +select +set +get +eval '
                . '+pttl +role' ],
    sentinel_config => [ 'user watch on >of-the-watch +ping '
                         . '+sentinel|get-master-addr-by-name +subscribe '
                         . '&+switch-master' ]);

my %vars = (APP => $app->port, URL => $set->url, TIMEOUT => 1000 * $TIMEOUT,
            LEASE => 1000 * $LEASE);

$conf = with_merchants($conf, $shop);

my %files = ('edge.password' => 'of-the-edge',
             'watch.password' => 'of-the-watch');
my @nginx = map { nginx($conf, vars => { %vars }, files => { %files }) }
                1 .. 2;
my $stream = RefundNotify::Test::Stream->new(
    pay => $pay, shop => $shop, twice => 1,
    clients => [ map { client($_) } @nginx ]);

my @faults;


# Does it, and waits until the stream flows again: from the change of the master
# on, notifies have to be accepted soon.

sub fault {
    my ($name, $do) = @_;

    my %fault = (from => time, loses => slow(1));
    my $master = $set->master;

    $set->watch;
    $do->();

    my $switched = $set->switched(15);

    ok($switched, "$name: the sentinels change the master") or return;
    ok(wait_until(sub { $set->left($master) }, 10), "$name: all of them");

    # what Redis had not told its replicas a moment before is lost, and so is
    # what an old master that still runs is told until the last worker has left

    push @faults, { %fault, over => time + slow(0.5) };


    ok($stream->flows(10, $switched, 10), "$name: the stream flows again");

    my ($longest, $after) = $stream->waited({ %fault, over => $switched }, 10);

    diag(sprintf '%s: %.2f s until SUCCESS, at most %.2f s of them after the '
                 . 'change was told', $name, $longest, $after);
    cmp_ok($after, '<', slow(3), "$name: and soon");
    return;
}


# Sentinels close its connections when they tell a server what it is now.

sub role {
    my ($redis) = @_;

    return (eval { $redis->command('ROLE') } // [ '' ])->[0];
}


ok($stream->flows(20, 0, 10), 'the stream flows');

# For some seconds, until a sentinel tells it, the old master takes itself for
# one again: nobody asks it, for it has nothing of what was accepted.

{
    my $master = $set->master;
    my $sentinel = $set->{sentinels}[0];

    fault('the master killed', sub { $master->kill });

    $master->restart;

    my $start = time;
    my $written = '';

    is(role($master), 'master', 'the old master is back, as a master');

    $sentinel->kill;
    ok($stream->flows(40, $start, 10), 'a sentinel killed: nobody cares');
    $sentinel->restart;

    ok(wait_until(sub {
        my $info = eval { $master->command('INFO') } // return 0;

        return 1 if $info =~ /^role:slave/m;
        $written = $1 if $info =~ /^(db0:.*)\r$/m;
        return 0;
    }, 30), 'the old master is told that it is a replica');
    is($written, '', '... and nobody has taken it for a master meanwhile');
    ok($set->whole(20), '... and follows the new one');
}

{
    my $master = $set->master;

    fault('the master stopped', sub { $master->pause });

    $master->resume;
    $master->command('REPLICAOF', '127.0.0.1', $set->master->port);
    ok($set->whole(20), 'the stopped master follows the new one');
}

fault('the master failed over by hand', sub {
    $set->{sentinels}[1]->command('SENTINEL', 'failover', 'mymaster');
});

ok($stream->finish(30), 'every notify is acknowledged in the end');

$app->settle(10);

my @requests = $app->requests;
my ($again, $unexplained) = $stream->again(\@faults, @requests);

is(join(' ', $stream->early(@requests)), '',
   'none was acknowledged before it was accepted');
is(join("\n", @$unexplained), '', 'none was delivered again without a loss');
diag(@requests . ' deliveries, ' . @$again . ' of them again');

no_secrets($_, 'of-the-edge', 'of-the-watch') for @nginx;
done_testing();
