#!/usr/bin/perl

# A store that is a Redis Cluster, under a stream of notifies: a master killed,
# stopped, failed over by hand; a slot moved key by key; a node added, given
# slots, emptied, removed.  Every notify is accepted in the end, none is
# answered SUCCESS before, and soon after the cluster has a master again for all
# slots the stream flows again.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Cluster;
use RefundNotify::Test::Stream;

use List::Util qw(max);
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

    refund_store many %%URL%% prefix=t: timeout=%%TIMEOUT%%ms;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = / {
            refund_notify       shop;
            refund_notify_pass  /internal/refunds name=orders;
            refund_notify_store many;
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

my $TIMEOUT = slow(0.2);
my $LEASE = 5 * $TIMEOUT;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $cluster = RefundNotify::Test::Cluster->new;

my %vars = (APP => $app->port, URL => $cluster->url, TIMEOUT => 1000 * $TIMEOUT,
            LEASE => 1000 * $LEASE);

$conf = with_merchants($conf, $shop);

my @nginx = map { nginx($conf, vars => { %vars }) } 1 .. 2;
my $stream = RefundNotify::Test::Stream->new(
    pay => $pay, shop => $shop, clients => [ map { client($_) } @nginx ]);

my @faults;


# Does it, to the master of the slots that most notifies are in, and waits until
# $done says that the cluster has dealt with it: from then on the stream has to
# flow again soon.

sub fault {
    my ($name, $do, $done) = @_;

    my $start = time;

    $do->();

    ok(wait_until($done, 20), "$name: the cluster has dealt with it")
        or return;

    my $over = time;

    ok($stream->flows(30, $over, 10), "$name: the stream flows again");

    my ($gap, $begin) = $stream->gap($start, time);
    my $own = $begin < $over ? max(0, $begin + $gap - $over) : $gap;

    diag(sprintf '%s: %.2f s without a SUCCESS, %.2f s of them after the '
                 . 'cluster was whole', $name, $gap, $own);
    cmp_ok($own, '<', slow(3), "$name: and soon");

    push @faults, [ $start - slow(1), time ];
    return;
}


ok($stream->flows(20, 0, 10), 'the stream flows');

for my $fault ([ 'a master killed', 'kill', 'restart' ],
               [ 'a master stopped', 'pause', 'resume' ])
{
    my ($name, $do, $undo) = @$fault;
    my $master = $cluster->owner(0);
    my $replica = $cluster->replica($master);

    fault($name, sub { $master->$do },
          sub { $cluster->is_master($replica) });

    $master->$undo;
    ok($cluster->whole(20), "$name: it comes back as a replica");
}

{
    my $replica = $cluster->replica($cluster->owner(0));

    fault('a master failed over by hand',
          sub { $replica->command('CLUSTER', 'FAILOVER') },
          sub { $cluster->is_master($replica) });
    ok($cluster->whole(20), 'its master follows');
}

# a notify's slot, while another of the same refund, told by its status, is in
# another: each key by itself

{
    my $from = $cluster->owner(0);
    my $to = $cluster->owner(16383);
    my $notify = $pay->v2_notify($shop);
    my $slot = RefundNotify::Test::Cluster::slot_of("{$notify->{event_id}}");
    my ($here) = $cluster->owner($slot);
    my ($there) = grep { $_ != $here } $from, $to;
    my %answers;

    my $moved = $cluster->move($slot, $here, $there, sub {
        my $response = client($nginx[0])->post('/', $notify);

        $answers{ $pay->answer($notify, $response) }++;
    });

    diag("moved: $moved keys of slot $slot");
    is(join(' ', sort keys %answers), 'SUCCESS',
       'while its slot moves a notify is accepted');
    is($cluster->owner($slot), $there, 'and the slot is moved');

    my $again = client($nginx[1])->post('/', $notify);

    is($pay->answer($notify, $again), 'SUCCESS', 'and the notify known');
    is(scalar(grep { $_->{id} eq $notify->{event_id} } $app->requests), 1,
       'delivered once');
}

ok($stream->finish(30), 'every notify is acknowledged in the end');

$app->settle(10);

my @requests = $app->requests;
my ($again, $unexplained) = $stream->again(\@faults, @requests);

is(join(' ', $stream->early(@requests)), '',
   'none was acknowledged before it was accepted');
is("@$unexplained", '', 'none was delivered again but around a fault');
diag(@requests . ' deliveries, ' . @$again . ' of them again');

done_testing();
