#!/usr/bin/perl

# What becomes of deliveries when nginx' processes end: reloads, with another
# configuration too; workers that are told to end, or are killed; another
# binary.  Nothing is lost, nothing is delivered twice at once, nothing is left
# behind; on both stores.

use lib 't/lib';
use RefundNotify::Test;

use IO::Handle;
use POSIX ();
use RefundNotify::Test::Util qw(adopt read_file stop_process write_file);
use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes %%WORKERS%%;
%%SHUTDOWN%%

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$pid|$refund_notify_result';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store local shm:1m;
    refund_store main  redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                       timeout=%%TIMEOUT%%ms;
    refund_store mute  redis://127.0.0.1:%%MUTE%% prefix=t: cache=off
                       timeout=%%TIMEOUT%%ms;

    server {
        listen 127.0.0.1:%%PORT%%;

        # a worker that ends need not wait for clients that stay

        lingering_close off;

        refund_notify_deadline 30s;
        refund_notify_lease    %%LEASE%%ms;
        refund_notify_retain   %%RETAIN%%;

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

        location = /mute {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store mute;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

# a lease that can be waited for, and one that never ends here, in ms

my $SHORT = slow(1) > 1 ? 3000 : 1500;
my $LONG = 10 * $SHORT;

my @paths = qw(/local /main);

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();
my $mute = RefundNotify::Test::ScriptedRedis->new(redis => $redis);
my %vars = (APP => $app->port, REDIS => $redis->port, MUTE => $mute->port,
            WORKERS => 1, SHUTDOWN => '', LEASE => $SHORT, RETAIN => '72h',
            TIMEOUT => $SHORT / 5);

$conf = with_merchants($conf, $shop);

my $nginx = nginx($conf, vars => { %vars });
my $n = 0;
my $loads = 0;
my @all;


sub notify {
    my $make = @all % 2 ? 'v2_notify' : 'v3_notify';

    push @all, $pay->$make($shop);
    return $all[-1];
}


sub answers {
    my ($name, $path, $notify, $answer) = @_;

    my $response = client($nginx)->post("$path?n=" . ++$n,
                                        $pay->resend($shop, $notify));

    is($pay->answer($notify, $response), $answer =~ /delivered|duplicate/
                                         ? 'SUCCESS' : $answer, $name);
    is(logged($n)->[1], $answer, "$name: \$refund_notify_result");
    return;
}


# The worker's pid and the result of the n-th request.

sub logged {
    my ($n) = @_;

    return [ split /\|/, $nginx->logged($n) ];
}


# A connection on which it was sent, while the app works on it.

sub under_way {
    my ($path, $notify, %rule) = @_;

    my $connection = client($nginx)->connect;
    my $before = $app->requests;

    $app->rules({ id => $notify->{event_id}, times => 1, %rule });
    $connection->send('POST', "$path?n=" . ++$n, $notify->{headers},
                      $notify->{body});
    $app->wait_for($before + 1) or die "nothing was delivered\n";

    return $connection;
}


# Repeats it until it is accepted; everything before that must be in_flight.

sub in_the_end {
    my ($name, $path, $notify) = @_;

    my %answers;

    wait_until(sub {
        my $answer = $pay->answer($notify, client($nginx)->post($path,
                                  $pay->resend($shop, $notify)));

        $answers{$answer}++;
        sleep 0.05 if $answer ne 'SUCCESS';
        return $answer eq 'SUCCESS';
    }, 3 * $SHORT / 1000);

    delete $answers{in_flight};
    is(join(' ', %answers), 'SUCCESS 1', $name);
    return;
}


sub attempts {
    my ($notify) = @_;

    return join ' ', map { $_->{headers}{'refund-attempt'} // '-' }
                     grep { $_->{id} eq $notify->{event_id} } $app->requests;
}


sub record {
    my ($notify) = @_;

    return $redis->command('GET', "t:{$notify->{event_id}}orders") // '';
}


sub gone {
    my (@pids) = @_;

    my %pids = map { $_ => 1 } @pids;

    return wait_until(sub { !grep { $pids{$_} } $nginx->processes }, 20);
}


sub count {
    my ($pattern, $on) = @_;

    return scalar(() = ($on // $nginx)->error_log =~ /$pattern/g);
}


# Reloads, with other variables, and returns when the old workers take no more
# requests.

sub reload {
    my (%vars) = @_;

    my $old = $nginx->workers;
    my $ending = count(qr/gracefully shutting down/);

    $nginx->{vars} = { %{ $nginx->{vars} }, %vars };
    $nginx->write_file('nginx.conf', $conf);
    ok($nginx->reload(wait => 0), 'reload' . join ' ', '', %vars);
    wait_until(sub { count(qr/gracefully shutting down/) >= $ending + $old });
    return;
}


# A process that sends one notify after the other, until finish() ends it and
# returns them, with what each was answered.

sub load {
    my ($on, $path) = @_;

    my $load = { file => scratch_dir() . '/load-' . ++$loads };

    $load->{pid} = fork // die "fork: $!\n";

    if (!$load->{pid}) {
        open my $out, '>', $load->{file};
        $out->autoflush(1);

        while (!-e "$load->{file}.stop") {
            my $notify = $pay->v2_notify($shop);
            my $response = client($on)->post($path, $notify);

            print $out join("\t", $notify->{event_id}, $notify->{body},
                            $pay->answer($notify, $response)), "\n";
            sleep 0.005;
        }

        POSIX::_exit(0);
    }

    adopt($load->{pid});
    return $load;
}


sub finish {
    my ($load) = @_;

    write_file("$load->{file}.stop", '');
    stop_process($load->{pid}, 0, 20);

    return map { my ($id, $body, $answer) = split /\t/;
                 +{ version => 'v2', event_id => $id, body => $body,
                    headers => [ 'Content-Type' => 'text/xml' ],
                    answer => $answer } }
           split /\n/, read_file($load->{file});
}


# How often each answer came, and how often each notify was delivered.

sub answered {
    my (@notifies) = @_;

    my %count;

    $count{ $_->{answer} }++ for @notifies;
    return join ' ', map { "$count{$_} $_" } sort keys %count;
}


sub delivered {
    my (@notifies) = @_;

    my (%deliveries, %count);

    $deliveries{ $_->{id} }++ for $app->requests;
    $count{ $deliveries{ $_->{event_id} } // 0 }++ for @notifies;
    return join ' ', map { "$count{$_} x $_" } sort keys %count;
}


# a reload while a delivery runs: it ends where it began

for my $path (@paths) {
    my $name = "$path, reload";
    my $notify = notify();
    my ($old) = $nginx->workers;
    my $connection = under_way($path, $notify, delay => 2);
    my $first = $n;

    reload();
    answers("$name, meanwhile", $path, $notify, 'in_flight');
    isnt(logged($n)->[0], $old, "$name, meanwhile: the new worker says so");
    is($pay->answer($notify, $connection->read), 'SUCCESS', $name);
    ok(gone($old), "$name: the old worker ends");
    is(logged($first)->[0], $old, "$name: it was the old worker's");
    answers("$name, afterwards", $path, $notify, 'duplicate');
    is(attempts($notify), '1', "$name: delivered once");
    like(record($notify), qr/^D/, "$name: its record") if $path eq '/main';
}


# a reload with another lease: that of the claim counts, whether its worker
# lives or was killed, which it may have been where it had locked the zone

$nginx->allow(qr/\[alert\] .* worker process \d+ exited on signal 9/,
              qr/\[alert\] .* shared memory zone "\S+" was locked by/);

for ([ $SHORT, 72, $LONG, 30 ], [ $LONG, 30, $SHORT, 72 ]) {
    my ($lease, $retain, $new_lease, $new_retain) = @$_;
    my $name = "lease $lease, then $new_lease";
    my %live = map { $_ => notify() } @paths;
    my %dead = map { $_ => notify() } @paths;

    reload(LEASE => $lease, RETAIN => "${retain}h");

    my ($old) = $nginx->workers;
    my @killed = map { under_way($_, $dead{$_}, fault => 'hang') } @paths;
    my %connections = map {
        $_ => under_way($_, $live{$_}, delay => 2 * $SHORT / 1000) } @paths;
    my $start = time;

    reload(LEASE => $new_lease, RETAIN => "${new_retain}h");

    sleep $start + 1.4 * $SHORT / 1000 - time;
    answers("$_, $name: live", $_, $live{$_}, 'in_flight') for @paths;
    like(record($live{'/main'}),
         qr/^P \w+ 1 $lease @{[$retain * 3600000]}$/,
         "$name: live, its record");

    for (@paths) {
        is($pay->answer($live{$_}, $connections{$_}->read), 'SUCCESS',
           "$_, $name: live, accepted");
        answers("$_, $name: live, afterwards", $_, $live{$_}, 'duplicate');
        is(attempts($live{$_}), '1', "$_, $name: live, delivered once");
        answers("$_, $name: not dead yet", $_, $dead{$_}, 'in_flight');
    }

    $nginx->signal('KILL', $old);
    ok(gone($old), "$name: killed");
    $start = time;
    answers("$_, $name: just dead", $_, $dead{$_}, 'in_flight') for @paths;

    # the worker that was killed may have renewed it just before

    if ($lease == $SHORT) {
        for (@paths) {
            in_the_end("$_, $name: dead, delivered", $_, $dead{$_});
            cmp_ok(time - $start, '<', $SHORT / 1000 + slow(1),
                   "$_, $name: dead, when its own lease is over");
            is(attempts($dead{$_}), '1 2', "$_, $name: dead, as attempt 2");
        }

    } else {
        sleep $start + 1.4 * $SHORT / 1000 - time;

        for (@paths) {
            answers("$_, $name: dead, the new lease is over", $_, $dead{$_},
                    'in_flight');
            is(attempts($dead{$_}), '1', "$_, $name: dead, not delivered");
        }
    }
}

reload(LEASE => $SHORT);


# a worker is killed

{
    my %notify = map { $_ => notify() } @paths;
    my ($old) = $nginx->workers;
    my @connections = map { under_way($_, $notify{$_}, fault => 'hang') }
                          @paths;

    $nginx->signal('KILL', $old);
    wait_until(sub { grep { $_ != $old } $nginx->workers });

    answers("$_, killed: the lease is not over", $_, $notify{$_}, 'in_flight')
        for @paths;

    for (@paths) {
        in_the_end("$_, killed: the lease is over", $_, $notify{$_});
        is(attempts($notify{$_}), '1 2', "$_, killed: delivered as attempt 2");
        answers("$_, killed: told again", $_, $notify{$_}, 'duplicate');
    }
}


# worker_shutdown_timeout cuts a delivery: its outcome is unknown

{
    my %notify = map { $_ => notify() } @paths;

    reload(SHUTDOWN => 'worker_shutdown_timeout 300ms;');

    my ($old) = $nginx->workers;
    my %connections = map { $_ => under_way($_, $notify{$_}, fault => 'hang') }
                          @paths;

    reload();

    for (@paths) {
        my $response = $connections{$_}->read;

        is($response->{error} || $pay->answer($notify{$_}, $response),
           'closed', "$_, worker_shutdown_timeout: no answer");
    }

    ok($app->settle, 'worker_shutdown_timeout: the deliveries are cut');
    answers("$_, worker_shutdown_timeout: the lease is not over", $_,
            $notify{$_}, 'in_flight') for @paths;
    ok(gone($old), 'worker_shutdown_timeout: the worker ends');

    for (@paths) {
        in_the_end("$_, worker_shutdown_timeout: the lease is over", $_,
                   $notify{$_});
        is(attempts($notify{$_}), '1 2',
           "$_, worker_shutdown_timeout: delivered as attempt 2");
        answers("$_, worker_shutdown_timeout: told again", $_, $notify{$_},
                'duplicate');
    }
}


# SIGQUIT waits for a delivery, and for a commit that has to be repeated

{
    reload(SHUTDOWN => '');

    my %notify = map { $_ => notify() } @paths;
    my %connections = map { $_ => under_way($_, $notify{$_}, delay => 1) }
                          @paths;

    $nginx->signal('QUIT');
    is($pay->answer($notify{$_}, $connections{$_}->read), 'SUCCESS',
       "$_, QUIT: accepted") for @paths;
    ok($nginx->stop, 'QUIT: nginx ends');
    $nginx->start;

    answers('/main, QUIT: is known', '/main', $notify{'/main'}, 'duplicate');
    answers('/local, QUIT: is not', '/local', $notify{'/local'}, 'delivered');
    is(attempts($notify{'/main'}), '1', '/main, QUIT: delivered once');
    is(attempts($notify{'/local'}), '1 1', '/local, QUIT: forgotten');

    my $notify = notify();
    my $connection = under_way('/main', $notify, delay => 0.2);

    $redis->pause;
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'QUIT before the commit: accepted');
    $nginx->signal('QUIT');
    sleep 0.5;
    $redis->resume;
    ok($nginx->stop, 'QUIT before the commit: nginx ends');
    like(record($notify), qr/^D/, 'QUIT before the commit: its record');
    $nginx->start;
    answers('QUIT before the commit: is known', '/main', $notify, 'duplicate');
    is(attempts($notify), '1', 'QUIT before the commit: delivered once');
}


# A commit that the store has not heard of when the worker is told to end, for
# it does not answer the first try, or is not there: it hears of it in time, and
# then the worker ends.  The store's timeout is longer than the shutdown's, so
# that this cuts the connection on which the first try waits.

my @silences = (
    [ '/mute', sub { $mute->rules({ command => 'SET', fault => 'hang',
                                    times => 1 }) } ],
    [ '/main', sub { $redis->kill } ],
);

for my $how (qw(QUIT worker_shutdown_timeout)) {
    my $timeout = $how ne 'QUIT';

    reload($timeout ? (SHUTDOWN => 'worker_shutdown_timeout 300ms;',
                       LEASE => $LONG, TIMEOUT => 2 * $SHORT) : ());

    for (@silences) {
        my ($path, $silence) = @$_;
        my $name = "$path, $how, a commit is not through";
        my $notify = notify();
        my ($old) = $nginx->workers;
        my $connection = under_way($path, $notify, delay => 0.2);

        $silence->();
        ok($app->settle, "$name: accepted");
        $timeout ? reload() : $nginx->signal('QUIT');

        my $response = $connection->read;

        is($response->{error} || $pay->answer($notify, $response),
           $timeout && $path eq '/mute' ? 'closed' : 'SUCCESS',
           "$name: the answer");
        is(scalar(() = grep { $_ == $old } $nginx->processes), 1,
           "$name: the worker waits");

        if ($path eq '/main') {
            sleep 0.5;
            $redis->restart;
        }

        ok(wait_until(sub { record($notify) =~ /^D/ }, 10),
           "$name: its record");

        my $start = time;

        ok(gone($old), "$name: the worker ends");
        cmp_ok(time - $start, '<', slow(1), "$name: soon");

        if (!$timeout) {
            ok($nginx->stop, "$name: nginx ends");
            $nginx->start;
        }

        answers("$name: is known", $path, $notify, 'duplicate');
        is(attempts($notify), '1', "$name: delivered once");
    }
}

reload(SHUTDOWN => '', LEASE => $SHORT, TIMEOUT => $SHORT / 5);
is(count(qr/the worker exits: \d+ accepted/), 0, 'no acceptance is lost so');


# SIGTERM does not wait for a store: the log says what it was not told

for (@silences) {
    my ($path, $silence) = @$_;
    my $name = "$path, TERM, a commit is not through";
    my $tries = count(qr/could not be told yet/);
    my $notify = notify();
    my $connection = under_way($path, $notify, delay => 0.2);

    $silence->();

    # the one at its first try, the other between two tries

    ok($path eq '/mute' ? $app->settle
       : wait_until(sub { count(qr/could not be told yet/) > $tries }),
       "$name: accepted");
    $nginx->signal('TERM');
    $connection->read;
    ok($nginx->stop, "$name: nginx ends");

    like($nginx->error_log, $path eq '/mute'
         ? qr/\[error\].*\ refund\ notify\ \Q$notify->{event_id}\E:\ "orders"
              \ accepted\ it,\ but\ store\ "mute"\ could\ not\ be\ told:/x
         : qr/\[error\].*\ the\ worker\ exits:\ 1\ accepted\ refund\ notifies
              \ could\ not\ be\ told\ to\ their\ store,/x,
         "$name: the log says so");

    $redis->restart if $path eq '/main';
    $nginx->start;
}


# SIGTERM does not wait: the outcome is unknown

{
    my %notify = map { $_ => notify() } @paths;
    my %connections = map { $_ => under_way($_, $notify{$_}, fault => 'hang') }
                          @paths;

    $nginx->signal('TERM');

    for (@paths) {
        is($pay->answer($notify{$_}, $connections{$_}->read),
           'upstream_error', "$_, TERM");
    }

    ok($app->settle, 'TERM: the deliveries are cut');
    like(record($notify{'/main'}), qr/^P/, 'TERM: the outcome is unknown');
    ok($nginx->stop, 'TERM: nginx ends');
    $nginx->start;

    in_the_end("$_, TERM: delivered", $_, $notify{$_}) for @paths;
    is(attempts($notify{'/main'}), '1 2', '/main, TERM: as attempt 2');
    is(attempts($notify{'/local'}), '1 1', '/local, TERM: forgotten');
}


# workers are killed under load: nothing stays locked, nothing is lost

{
    reload(WORKERS => 2);
    $app->rules;
    $app->forget;

    my @loads = map { load($nginx, '/local') } 1 .. 4;

    for (1 .. 20) {
        wait_until(sub { $nginx->workers == 2 }, 10);
        sleep 0.05;
        $nginx->signal('KILL', ($nginx->workers)[0]);
    }

    my @notifies = map { finish($_) } @loads;
    my @accepted = grep { $_->{answer} eq 'SUCCESS' } @notifies;
    my @unknown = grep { $_->{answer} =~ /closed|reset/ } @notifies;

    cmp_ok(scalar @accepted, '>', 100, 'killed under load: accepted');
    is(@accepted + @unknown, @notifies, 'killed under load: no other answers')
        or diag answered(@notifies);
    is(delivered(@accepted), @accepted . ' x 1',
       'killed under load: those that were answered, delivered once');

    in_the_end('killed under load: not answered, delivered in the end',
               '/local', $_) for @unknown;

    my @before = $app->requests;
    my $slowest = 0;

    for (@notifies) {
        my $response = client($nginx)->post('/local', $_);

        $_->{answer} = $pay->answer($_, $response);
        $slowest = $response->{time} if $response->{time} > $slowest;
    }

    is(answered(@notifies), @notifies . ' SUCCESS',
       'killed under load: all of them are known');
    is(scalar(() = $app->requests), scalar @before,
       'killed under load: none is delivered again');
    cmp_ok($slowest, '<', slow(1), 'killed under load: nothing is locked');
    is(join(', ', grep { !/^(1|2|1 2)$/ } map { attempts($_) } @unknown), '',
       'killed under load: at most twice, with another attempt');
}


# twenty reloads under load

{
    $app->rules({ delay => 0.02 });
    $app->forget;

    wait_until(sub { $nginx->processes == 2 }, 20);

    my $proc = '/proc/' . $nginx->pid;
    my $files = () = glob "$proc/fd/*";
    my @loads = map { load($nginx, $_) } @paths, @paths;
    my @size;

    for my $i (1 .. 20) {
        ok($nginx->reload(wait => 0), "reload $i under load");
        sleep 0.1;

        next if $i != 8 && $i != 20;

        push @size, read_file("$proc/status") =~ /VmRSS:\s+(\d+) kB/;
    }

    my @notifies = map { finish($_) } @loads;

    is(answered(@notifies), @notifies . ' SUCCESS',
       'twenty reloads: every notify is accepted');
    is(delivered(@notifies), @notifies . ' x 1',
       'twenty reloads: and delivered once');
    cmp_ok(scalar @notifies, '>', 100, 'twenty reloads: under load indeed');
    ok(wait_until(sub { $nginx->processes == 2 }, 20),
       'twenty reloads: no worker is left');
    is(scalar(() = $nginx->workers), 2, 'twenty reloads: but the new ones');
    is(scalar(() = glob "$proc/fd/*"), $files,
       'twenty reloads: the master has as many files as before');

    # the sanitizers keep what was freed

    cmp_ok($size[1] - $size[0], '<', 1000, 'twenty reloads: memory in kB')
        if !$ENV{REFUND_NOTIFY_SANITIZE};
}


# another binary, while deliveries run

{
    $nginx->finish;
    $nginx = nginx($conf, vars => { %vars, LEASE => $LONG }, daemon => 1);

    my %before = map { $_ => notify() } @paths;
    my %notify = map { $_ => notify() } @paths;

    $app->rules;
    $app->forget;
    answers("$_, upgrade: before", $_, $before{$_}, 'delivered') for @paths;

    my @loads = map { load($nginx, $_) } @paths;

    my @connections = map { under_way($_, $notify{$_}, delay => 1.5) } @paths;
    my $old = $nginx->pid;

    ok($nginx->upgrade, 'upgrade');
    isnt($nginx->pid, $old, 'upgrade: to another master');
    is($pay->answer($notify{$_}, shift(@connections)->read), 'SUCCESS',
       "$_, upgrade: accepted meanwhile") for @paths;

    my @notifies = map { finish($_) } @loads;

    is(answered(@notifies), @notifies . ' SUCCESS',
       'upgrade: every notify is accepted');
    is(delivered(@notifies), @notifies . ' x 1', 'upgrade: delivered once');

    is(count(qr/^\d.*\[warn\].*delivered notifies is forgotten/m), 1,
       'upgrade: one zone forgets');
    like($nginx->error_log,
         qr/"refund_store:local" is new to this binary: what it knew/,
         'upgrade: it says which, and why');

    for my $notify (\%before, \%notify) {
        answers('/main, upgrade: is known', '/main', $notify->{'/main'},
                'duplicate');
        answers('/local, upgrade: is forgotten', '/local',
                $notify->{'/local'}, 'delivered');
        is(attempts($notify->{'/main'}), '1',
           '/main, upgrade: delivered once');
        is(attempts($notify->{'/local'}), '1 1',
           '/local, upgrade: delivered again');
    }
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
