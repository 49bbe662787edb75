#!/usr/bin/perl

# Two nginx of two workers each share a Redis and take ten thousand events, more
# than a third of which come to both of them at the same moment: each is delivered
# once, and only the one that delivers it, or who comes later, says SUCCESS.

use lib 't/lib';
use RefundNotify::Test;

use POSIX ();
use RefundNotify::Test::Util qw(adopt disown read_file);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$pid $refund_notify_result';

    access_log %%DIR%%/notify.log notify buffer=64k;
    keepalive_requests 100000;

    %%MERCHANTS%%

    refund_store main redis://127.0.0.1:%%REDIS%% prefix=t: cache=%%CACHE%%
                      timeout=3s;

    upstream app {
        server 127.0.0.1:%%APP%%;
        keepalive 64;
        keepalive_requests 100000;
    }

    server {
        listen 127.0.0.1:%%PORT%% reuseport;

        # ten thousand a minute are no reason for a FAIL on a busy machine

        refund_notify_deadline 30s;
        refund_notify_lease    15s;

        location = /refunds {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store main;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://app/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $EVENTS = 10000;
my $CLIENTS = 4;
my $CONNECTIONS = 25;           # of each client to each nginx

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();

$conf = with_merchants($conf, $shop);

# one with a cache, one without

my @nginx = map {
    nginx($conf, vars => { APP => $app->port, REDIS => $redis->port,
                           CACHE => $_ })
} qw(1m off);


# Sends its part of the events, on connections that stay, and writes what each
# was answered, by one nginx or by both.

sub run_client {
    my ($number, $out) = @_;

    my @connections = map { my $client = client($_);
                            [ map { $client->connect } 1 .. $CONNECTIONS ] }
                          @nginx;
    my $left = $EVENTS / $CLIENTS;

    while ($left > 0) {
        my @notifies = map { $pay->v2_notify($shop) } 1 .. $CONNECTIONS;
        my @sent;

        $left -= @notifies;

        for my $i (0 .. $#notifies) {
            my $one = $i % 2;

            $sent[$i] = [ map { $connections[$_][$i] }
                              $i % 3 ? ($one) : ($one, 1 - $one) ];

            for my $connection (@{ $sent[$i] }) {
                $connection->send('POST', '/refunds',
                                  $notifies[$i]{headers},
                                  $notifies[$i]{body});
            }
        }

        for my $i (0 .. $#notifies) {
            print $out join(' ', $notifies[$i]{event_id}, map {
                $pay->answer($notifies[$i], $_->read) =~ s/ /_/gr
            } @{ $sent[$i] }), "\n";
        }
    }

    return;
}


my $dir = scratch_dir();
my @pids;

for my $number (1 .. $CLIENTS) {
    my $pid = fork // die "fork: $!\n";

    if (!$pid) {
        srand;
        open my $out, '>', "$dir/client-$number" or POSIX::_exit(1);
        eval { run_client($number, $out); 1 } or print $out "0 $@\n";
        close $out;
        POSIX::_exit(0);
    }

    push @pids, adopt($pid);
}

for (@pids) {
    waitpid $_, 0;
    disown($_);
}

my %answers = map { my ($id, @answers) = split / /; $id => \@answers }
                  map { split /\n/, read_file("$dir/client-$_") }
                      1 .. $CLIENTS;

my %deliveries;

$deliveries{ $_->{id} }{ $_->{headers}{'refund-attempt'} }++
    for $app->requests;

my (%counts, %times);

for my $id (keys %answers) {
    $counts{ join ' ', sort @{ $answers{$id} } }++;
    $times{ join ' ', %{ $deliveries{$id} // {} } }++;
}

is(scalar keys %answers, $EVENTS, "$EVENTS events were sent");
is(scalar keys %deliveries, $EVENTS, '... and as many were delivered');
is(join(', ', map { "$_: $times{$_}" } sort keys %times), "1 1: $EVENTS",
   '... each as attempt 1, once');

my $both = () = grep { @$_ == 2 } values %answers;

cmp_ok($both, '>=', 0.33 * $EVENTS, 'a third came to both at once');
is($counts{SUCCESS}, $EVENTS - $both, 'SUCCESS to those that came to one');
is(($counts{'SUCCESS SUCCESS'} // 0) + ($counts{'SUCCESS in_flight'} // 0),
   $both, 'of those that came to both, SUCCESS to one at least');
cmp_ok($counts{'SUCCESS in_flight'} // 0, '>', 0,
       '... and not to who came while it was delivered');

diag(join ', ', map { "$_: $counts{$_}" } sort keys %counts);

# what the two of them say, once their logs are written

for (0, 1) {
    $nginx[$_]->stop;

    my $log = read_file($nginx[$_]->path('notify.log'));
    my %pids = map { $_ => 1 } $log =~ /^(\d+) /mg;

    is(scalar keys %pids, 2, "nginx $_: by both workers");
    $counts{$_}++ for $log =~ / (delivered|duplicate|in_flight)$/mg;
}

is($counts{delivered}, $EVENTS, 'as many results are "delivered"');
is($counts{in_flight} // 0, $counts{'SUCCESS in_flight'} // 0,
   '... as many "in_flight" as were answered');
is($counts{duplicate} // 0, $counts{'SUCCESS SUCCESS'} // 0,
   '... and as many "duplicate"');

no_secrets($_, $pay->secrets($shop)) for @nginx;

done_testing;
