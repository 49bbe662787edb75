#!/usr/bin/perl

# A worker that is killed in the midst of a change of shared memory, at one
# instruction after the other: the other worker serves the same keys at once,
# nothing that was accepted is forgotten, nothing is delivered twice at once, and
# what was under way is delivered when its lease is over.  It needs what only
# the module has that is built with the sanitizers: t/shared-memory.

use lib 't/lib';
use RefundNotify::Test;

use POSIX ();
use RefundNotify::Test::Util qw(read_file write_file);
use Time::HiRes qw(sleep time);

plan(skip_all => 'the sanitizers, and amd64, are needed')
    if !$ENV{REFUND_NOTIFY_SANITIZE} || (POSIX::uname())[4] ne 'x86_64';

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;
env REFUND_NOTIFY_TEST_KILL;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store roomy shm:1m;
    refund_store tight shm:64k;
    refund_store redis redis://127.0.0.1:%%REDIS%% prefix=t: timeout=2s
                       cache=64k;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_lease %%LEASE%%s;

        location = /roomy {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store roomy;
        }

        location = /tight {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store tight;
        }

        location = /redis {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store redis;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $LEASE = 10;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();
my $countdown = write_file(scratch_dir() . '/countdown', pack 'Q', 0);

$ENV{REFUND_NOTIFY_TEST_KILL} = $countdown;

my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, REDIS => $redis->port,
                            LEASE => $LEASE },
                  allow => [ qr/\[alert\].*exited on signal 9/,
                             qr/\[alert\].*memory\ zone\ "refund_\w+:\w+"
                                \ was\ locked\ by\ \d+/x ]);



my $client = client($nginx);
my @unfinished;


sub notify {
    return $pay->v2_notify($shop);
}


sub answer {
    my ($path, $notify) = @_;

    return $pay->answer($notify, $client->post($path, $notify));
}


# The attempts of a notify that the app was called with.

sub attempts {
    my ($notify) = @_;

    return join ' ', map { $_->{headers}{'refund-attempt'} }
                     grep { $_->{id} eq $notify->{event_id} } $app->requests;
}


# So many instructions under a lock from now on a worker is killed; 0: none.

sub kill_after {
    my ($instructions) = @_;

    open my $file, '+<:raw', $countdown or die "$countdown: $!\n";
    syswrite $file, pack 'Q', $instructions;
    close $file;
    return;
}


sub killed {
    return !unpack 'Q', read_file($countdown);
}


sub locked {
    return scalar(() = $nginx->error_log =~ /was locked by/g);
}


# Kills a worker at every $step-th instruction of what a notify of $make makes
# it do under locks, until one gets through all of it.  The other worker is then
# asked for that notify, and for those that are known.

sub killed_all_the_way {
    my ($name, $path, $step, $make, %option) = @_;

    my $before = locked();
    my $slowest = 0;
    my (@killed, %answers, @wrong);

    for (my $at = 1;; $at += $step) {
        my $notify = $make->();
        my $attempts = attempts($notify);

        wait_until(sub { $nginx->workers == 2 }, 10);
        kill_after($at);

        my $first = answer($path, $notify);
        my $killed = killed();

        kill_after(0);
        last if !$killed;

        my $delivered = attempts($notify);
        my $start = time;
        my $answer = answer($path, $notify);

        $slowest = time - $start if time - $start > $slowest;
        $answers{$answer}++;
        push @killed, $notify;

        # told twice at most, and only if it was released

        push @wrong, "$at: $first" if $first !~ /^0 .*(?:closed|reset)/;
        push @wrong, "$at: $delivered, then " . attempts($notify)
            if $delivered ne $attempts && $delivered ne attempts($notify)
               && !$option{released};
        push @wrong, "$at: accepted, and never delivered"
            if $answer eq 'SUCCESS' && attempts($notify) eq $attempts;
        push @wrong, map { "$at: $_ of a known one" }
                         grep { $_ ne 'SUCCESS' }
                         map { answer($path, $_) } @{ $option{known} || [] };
    }

    is(join(', ', @wrong), '', "$name: nothing lost, nothing twice");
    is(join(' ', sort keys %answers), $option{answers} // 'SUCCESS in_flight',
       "$name: some were done, some not yet");
    cmp_ok(scalar @killed, '>', 20, "$name: killed " . @killed . ' times');
    cmp_ok(locked() - $before, '>=', 0.9 * @killed,
           "$name: with the lock held");
    cmp_ok($slowest, '<', slow(1), "$name: and yet nothing is locked");

    push @unfinished, map { [ $name, $path, $_ ] } @killed;
    return;
}


my %known;

for my $path (qw(/roomy /tight /redis)) {
    $known{$path} = [ map { notify() } 1 .. 3 ];
    is(answer($path, $_), 'SUCCESS', "$path: one that is to be known")
        for @{ $known{$path} };
}

killed_all_the_way('new and accepted', '/roomy', 31, \&notify,
                   known => $known{'/roomy'});

killed_all_the_way('refused by the app', '/roomy', 37, sub {
    my $notify = notify();

    $app->rules({ id => $notify->{event_id}, status => 500, times => 1 });
    return $notify;
}, known => $known{'/roomy'}, released => 1,
   answers => 'SUCCESS in_flight upstream_error');

killed_all_the_way('taken over', '/roomy', 37, sub {
    my $notify = notify();

    $app->rules({ id => $notify->{event_id}, status => 500, times => 1 });
    answer('/roomy', $notify);
    return $notify;
}, known => $known{'/roomy'});

killed_all_the_way('in the cache', '/redis', 23, \&notify,
                   known => $known{'/redis'});


# a full zone: what was accepted makes way, and all links are made anew

my ($room) = $nginx->error_log
             =~ /"refund_store:tight" has room for (\d+) notifies/;

for (1 .. $room / 50 + 1) {
    my @responses = $client->parallel([ map {
        [ 'POST', '/tight', $_->{headers}, $_->{body} ]
    } map { notify() } 1 .. 50 ]);
}

answer('/tight', $_) for @{ $known{'/tight'} };

killed_all_the_way('in a full zone', '/tight', 47, \&notify);

# killed while it makes them anew after another was killed

{
    my $before = locked();
    my @killed;

    for my $at (map { 1 + 997 * $_ } 1 .. 12) {
        for my $instructions (300, $at) {
            push @killed, notify();
            wait_until(sub { $nginx->workers == 2 }, 10);
            kill_after($instructions);
            answer('/tight', $killed[-1]);
            kill_after(0);
        }
    }

    cmp_ok(locked() - $before, '>=', 0.9 * @killed,
           'killed when all links are made anew: with the lock held');
    push @unfinished, map { [ 'killed when all links are made anew', '/tight',
                              $_ ] } @killed;
}


# when the leases are over

my (%times, @wrong);

for (@unfinished) {
    my ($name, $path, $notify) = @$_;
    my $answer;

    wait_until(sub {
        $answer = answer($path, $notify);
        sleep 0.05 if $answer ne 'SUCCESS';
        return $answer eq 'SUCCESS';
    }, 3 * $LEASE);

    my @attempts = split / /, attempts($notify);

    push @wrong, "$name: $answer" if $answer ne 'SUCCESS';
    push @wrong, "$name: @attempts"
        if !@attempts || grep { $attempts[$_] <= $attempts[$_ - 1] }
                              1 .. $#attempts;
}

is(join(', ', @wrong), '',
   'in the end all are accepted, and no attempt came twice');

no_secrets($nginx, $pay->secrets($shop));

done_testing;
