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

use List::Util qw(uniq);
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

    refund_store many     %%URL%% prefix=t: timeout=%%TIMEOUT%%ms user=edge
                          password_file=%%DIR%%/edge.password;
    refund_store uncached %%URL%% prefix=t: timeout=%%TIMEOUT%%ms user=edge
                          password_file=%%DIR%%/edge.password cache=off;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = / {
            refund_notify       shop;
            refund_notify_pass  /internal/refunds name=orders;
            refund_notify_store many;
            refund_notify_lease %%LEASE%%ms;
        }

        location = /uncached {
            refund_notify          shop;
            refund_notify_pass     /internal/refunds name=orders;
            refund_notify_store    uncached;
            refund_notify_lease    %%LEASE%%ms;
            refund_notify_deadline 60s;
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

# the user has the rights that docs/configuration.md says, and no others

my $cluster = RefundNotify::Test::Cluster->new(
    config => [ 'user edge on >of-the-edge ~t:* +ping +set +get +eval +pttl '
                . '+asking +cluster|slots' ]);

my %vars = (APP => $app->port, URL => $cluster->url, TIMEOUT => 1000 * $TIMEOUT,
            LEASE => 1000 * $LEASE);

$conf = with_merchants($conf, $shop);

my %files = ('edge.password' => 'of-the-edge');
my @nginx = map { nginx($conf, vars => { %vars }, files => { %files }) }
                1 .. 2;
my $stream = RefundNotify::Test::Stream->new(
    pay => $pay, shop => $shop, twice => 1,
    clients => [ map { client($_) } @nginx ]);

my @faults;


# Those whose record is in one of the slots: the others do not notice the fault.

sub in_slots {
    my %slots = map { $_ => 1 } @_;
    my %known;

    return sub {
        my ($id) = @_;

        return $known{$id} //= exists $slots{
            RefundNotify::Test::Cluster::slot_of("t:{$id}orders") };
    };
}


# The notifies in these slots are accepted soon after the fault is over.

sub soon {
    my ($name, $fault) = @_;

    my ($longest, $after) = $stream->waited($fault, 10);

    diag(sprintf '%s: %.2f s until SUCCESS, at most %.2f s of them after the '
                 . 'cluster was whole', $name, $longest, $after);
    cmp_ok($after, '<', slow(3), "$name: and soon");
    return;
}


# Does it to the master of some slots, and waits until the cluster does without
# it.

sub fault {
    my ($name, $master, $do, %fault) = @_;

    my $which = in_slots($cluster->slots($master));

    %fault = (%fault, which => $which, from => time);
    $do->();

    ok(wait_until(sub { $cluster->works_without($master) }, 20),
       "$name: another is master of its slots") or return;

    $fault{over} = time;
    ok($stream->flows(5, $fault{over}, 10, $which),
       "$name: its stream flows again");
    soon($name, \%fault);

    push @faults, \%fault;
    return;
}


ok($stream->flows(20, 0, 10), 'the stream flows');

for my $fault ([ 'a master killed', 'kill', 'restart' ],
               [ 'a master stopped', 'pause', 'resume' ])
{
    my ($name, $do, $undo) = @$fault;
    my $master = $cluster->owner(0);

    # what Redis had not told its replicas a moment before is lost, too

    fault($name, $master, sub { $master->$do }, loses => slow(1));

    $master->$undo;
    ok($cluster->whole(20), "$name: it comes back as a replica");
}

{
    my $master = $cluster->owner(0);
    my $replica = $cluster->replica($master);

    # https://redis.io/docs/latest/commands/cluster-failover/: nothing is lost

    fault('a master failed over by hand', $master,
          sub { $replica->command('CLUSTER', 'FAILOVER') });
    ok($cluster->whole(20), 'its master follows');
}

# The slots of some notifies move from one master to another, key by key: each
# was brought so far before, or comes for the first time while they move.

{
    my ($from, $to) = ($cluster->owner(0), $cluster->owner(16383));
    my (%notify, %slot, $under_way);

    for my $name (qw(accepted refused slow fresh late)) {
        do {
            $notify{$name} = $pay->v2_notify($shop);
            $slot{$name} = RefundNotify::Test::Cluster::slot_of(
                "t:{$notify{$name}{event_id}}orders");
        } while ($cluster->owner($slot{$name}) != $from);
    }

    my $answer = sub {
        my ($name, $expected, $when) = @_;
        my $response = client($nginx[0])->post('/uncached', $notify{$name});

        is($pay->answer($notify{$name}, $response), $expected,
           "$name, $when: $expected");
    };

    $app->rules({ id => $notify{refused}{event_id}, status => 500,
                  times => 1 },
                { id => $notify{slow}{event_id}, delay => 2 * $LEASE });

    $answer->('accepted', 'SUCCESS', 'before');
    $answer->('refused', 'upstream_error', 'before');

    $under_way = client($nginx[0])->connect;
    $under_way->send('POST', '/uncached', $notify{slow}{headers},
                     $notify{slow}{body});
    ok(wait_until(sub { grep { $_->{id} eq $notify{slow}{event_id} }
                             $app->requests }, 10), 'slow is under way');

    my %at = (
        begun => sub {
            $answer->('accepted', 'SUCCESS', 'while its slot moves');
            $answer->('fresh', 'SUCCESS', 'while its slot moves');
            $answer->('slow', 'in_flight', 'while its slot moves');
        },
        emptied => sub {
            $answer->('accepted', 'SUCCESS', 'when its key has moved');
            $answer->('refused', 'SUCCESS', 'when its key has moved');
            $answer->('fresh', 'SUCCESS', 'when its slot is empty');
            $answer->('late', 'SUCCESS', 'when its slot is empty');
            $answer->('slow', 'in_flight', 'when its key has moved');
        },
    );

    my $moved = $cluster->move([ uniq values %slot ], $from, $to,
                               sub { ($at{ $_[0] } || sub { })->() });

    cmp_ok($moved, '>=', 3, 'keys were moved');
    is($pay->answer($notify{slow}, $under_way->read), 'SUCCESS',
       'slow is accepted in the end');
    $answer->($_, 'SUCCESS', 'afterwards') for sort keys %notify;

    is($cluster->owner($slot{$_}), $to, "the slot of $_ is moved")
        for sort keys %slot;

    is(join(' ', map {
        my $id = $notify{$_}{event_id};
        $_ . join ',', '', map { $_->{headers}{'refund-attempt'} }
                           grep { $_->{id} eq $id } $app->requests;
    } sort keys %notify),
    'accepted,1 fresh,1 late,1 refused,1,2 slow,1',
    'each was delivered once, or again where it was refused');

    $app->rules;
}

# a node comes, is given slots under the stream, gives them back, and goes

{
    my $node = $cluster->add;
    my $from = $cluster->owner(0);
    my $slots = [ ($cluster->slots($from))[ 0 .. 999 ] ];
    my $which = in_slots(@$slots);

    for ([ 'a node is given slots', $from, $node ],
         [ 'and gives them back', $node, $from ])
    {
        my ($name, @move) = @$_;
        my $start = time;

        cmp_ok($cluster->move($slots, @move), '>', 0, "$name, with keys");
        ok($stream->flows(3, $start, 10, $which), "$name: their stream flows");
        soon($name, { which => $which, from => $start, over => $start });
    }

    $cluster->remove($node);

    my $start = time;

    ok($stream->flows(30, $start, 10), 'the node is gone: the stream flows');
    ok($cluster->whole(20), 'the cluster is whole without it');
}

ok($stream->finish(30), 'every notify is acknowledged in the end');

$app->settle(10);

my @requests = $app->requests;
my %streamed = map { $_->{id} => 1 } $stream->sent;
my ($again, $unexplained) = $stream->again(\@faults,
                                           grep { $streamed{ $_->{id} } }
                                                @requests);

is(join(' ', $stream->early(@requests)), '',
   'none was acknowledged before it was accepted');
is(join("\n", @$unexplained), '', 'none was delivered again without a loss');
diag(@requests . ' deliveries, ' . @$again . ' of them again');

no_secrets($_, 'of-the-edge') for @nginx;
done_testing();
