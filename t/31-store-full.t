#!/usr/bin/perl

# A store in shared memory that is full: the oldest accepted notifies are
# forgotten, those under way and those that failed never; when only these are
# left, no more is taken.  And what a reload keeps, and what it forgets.

use lib 't/lib';
use RefundNotify::Test;

use Time::HiRes qw(time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$refund_notify_result|$refund_notify_reason'
                      '|$refund_notify_attempt';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store done   shm:64k;
    refund_store open   shm:64k;
    refund_store brief  shm:64k;
    refund_store %%KEPT%% shm:%%SIZE%%;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /done {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store done;
        }

        location = /open {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store open;
            refund_notify_lease 10m;
        }

        location = /brief {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store brief;
            refund_notify_lease  1s;
            refund_notify_retain %%RETAIN%%s;
        }

        location = /kept {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store %%KEPT%%;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my %vars = (APP => $app->port, KEPT => 'kept', SIZE => '128k',
            RETAIN => slow(1) > 1 ? 12 : 5);

$conf = with_merchants($conf, $shop);

my $nginx = nginx($conf, vars => \%vars);
my $client = client($nginx);
my $n = 0;


sub notifies {
    my ($count) = @_;

    return map { $pay->v2_notify($shop) } 1 .. $count;
}


# Sends each, fifty at once, and counts the answers.

sub answers {
    my ($name, $path, $answer, @notifies) = @_;

    my $count = @notifies;
    my %answers;

    while (my @some = splice @notifies, 0, 50) {
        my @responses = $client->parallel([ map {
            [ 'POST', $path, $_->{headers}, $_->{body} ] } @some ]);

        $answers{ $pay->answer($some[$_], $responses[$_]) }++ for 0 .. $#some;
    }

    is(join(' ', map { "$answers{$_} $_" } sort keys %answers),
       "$count $answer", $name);
    return;
}


# One notify, its result, its reason and its attempt.

sub result {
    my ($name, $path, $notify, $expected) = @_;

    $client->post("$path?n=" . ++$n, $notify);
    is($nginx->logged($n), $expected, $name);
    return;
}


# The attempts of each, all the same, and how many were delivered.

sub delivered {
    my ($name, $attempt, @notifies) = @_;

    my %attempts;

    push @{ $attempts{ $_->{id} } }, $_->{headers}{'refund-attempt'}
        for $app->requests;

    is(scalar(grep { join(' ', @{ $attempts{ $_->{event_id} } || [] })
                     eq $attempt } @notifies),
       scalar @notifies, $name);
    return;
}


sub count {
    my ($pattern) = @_;

    return scalar(() = $nginx->error_log =~ /$pattern/g);
}


sub room {
    my ($store) = @_;

    my @rooms = $nginx->error_log
                =~ /\[notice\].* shared\ memory\ zone
                    \ "refund_store:\Q$store\E"\ has\ room\ for
                    \ (\d+)\ notifies/xg;

    return $rooms[-1] // 0;
}


my %room = map { $_ => room($_) } qw(done open brief kept);

cmp_ok($room{$_}, '>', 300, "start-up says what there is room for: $_")
    for sort keys %room;
is($room{open}, $room{done}, 'as much in zones of one size');
cmp_ok($room{kept}, '>', 2 * $room{done}, 'twice in one of twice the size');


# accepted: the oldest goes first

{
    my @oldest = notifies(3);
    my @others = notifies($room{done} - 3);
    my @more = notifies(3);

    answers('the oldest', '/done', 'SUCCESS', $_) for @oldest;
    answers('as many as there is room for', '/done', 'SUCCESS', @others);
    delivered('each delivered', '1', @oldest, @others);
    answers('all of them are known', '/done', 'SUCCESS', @oldest, @others);
    delivered('none delivered again', '1', @oldest, @others);

    is(count(qr/is full/), 0, 'and none was forgotten');

    answers('one more', '/done', 'SUCCESS', $more[0]);
    is(count(qr/\[warn\].*\ "refund_store:done"\ is\ full:\ 1\ accepted
                \ notifies\ were\ forgotten\ before\ their\ time,
                \ make\ it\ larger/x), 1, 'one was forgotten: logged');

    result('the second', '/done', $oldest[1], 'duplicate|-|-');
    result('the third', '/done', $oldest[2], 'duplicate|-|-');
    result('the last', '/done', $others[-1], 'duplicate|-|-');
    result('the one more', '/done', $more[0], 'duplicate|-|-');
    result('it was the first', '/done', $oldest[0], 'delivered|-|1');
    result('and then the second', '/done', $oldest[1], 'delivered|-|1');

    answers('two more', '/done', 'SUCCESS', @more[1, 2]);
    is(count(qr/is full/), 1, 'a warning a minute at most');
}


# failed and under way: never, and no others then

{
    my @failed = notifies(int($room{open} / 2));
    my @cut = notifies($room{open} - @failed - 2);
    my @accepted = notifies(2);
    my @more = notifies(3);
    my $full = 'store_error|the shared memory zone is full|-';

    $app->rules({ status => 500 });
    $app->forget;
    answers('refused by the app', '/open', 'upstream_error', @failed);
    $app->rules({ fault => 'close' });
    answers('of unknown outcome', '/open', 'upstream_error', @cut);
    $app->rules;
    answers('accepted', '/open', 'SUCCESS', $_) for @accepted;

    is(count(qr/"refund_store:open" is full/), 0, 'now it is full');

    # an accepted one makes way for one that fails

    $app->rules({ status => 500, times => 2 });
    result('one that fails', '/open', $more[0],
           'upstream_error|its answer is no acceptance|1');
    result('another one', '/open', $more[1],
           'upstream_error|its answer is no acceptance|1');
    is(count(qr/"refund_store:open" is full/), 1,
       'accepted ones make way for them');

    # and then there is none left

    my $start = time;

    $app->forget;
    result('none that is accepted is left', '/open', $more[2], $full);
    result('nor for an old one', '/open', $accepted[0], $full);
    is(scalar(() = $app->requests), 0, 'not delivered');
    result('nor for any other', '/open', $_, $full) for notifies(20);

    my $logged = count(qr/\[error\].*\ was\ not\ delivered\ to\ "orders":
                          \ store\ "open":\ the\ shared\ memory\ zone
                          \ is\ full/x);

    cmp_ok($logged, '>=', 1, 'logged');
    cmp_ok($logged, '<=', 2 * (1 + time - $start),
           '... by each worker once a second at most');

    answers('those under way are all known', '/open', 'in_flight', @cut);
    is(scalar(() = $app->requests), 0, 'none of them delivered');
    answers('those that failed are all known', '/open', 'SUCCESS', @failed);
    delivered('each as attempt 2', '2', @failed);

    result('these make way again', '/open', $more[2], 'delivered|-|1');
    result('one that failed when it was full', '/open', $more[0],
           'delivered|-|2');
}


# but only until their time is over

{
    my @failed = notifies($room{brief});
    my ($more) = notifies(1);

    $app->rules({ fault => 'close' });
    answers('for a while', '/brief', 'upstream_error', @failed);
    $app->rules;
    result('full', '/brief', $more,
           'store_error|the shared memory zone is full|-');

    ok(wait_until(sub {
           $pay->answer($more, $client->post('/brief', $more)) eq 'SUCCESS'
       }, 2 * $vars{RETAIN}), 'their time is over');
    is(count(qr/"refund_store:brief" is full/), 0,
       'that forgets none before its time');
}


# what a reload keeps

my ($known, @others) = notifies(4);
my $forgotten = qr/\[warn\].*what it knew of delivered notifies is forgotten/;

$app->forget;
result('before the reload', '/kept', $known, 'delivered|-|1');
ok($nginx->reload, 'reload');
result('after the reload', '/kept', $known, 'duplicate|-|-');
is(count($forgotten), 0, 'nothing is forgotten');
is(count(qr/"refund_store:kept" has room/), 1, 'the zone is the same');

# another size

$nginx->{vars}{SIZE} = '256k';
$nginx->write_file('nginx.conf', $conf);
ok($nginx->reload, 'reload with another size');
is(count($forgotten), 1, 'one zone forgets');
is(count(qr/\[warn\].* "refund_store:kept" is new, with another size: /), 1,
   'it says which');
cmp_ok(room('kept'), '>', 2 * $room{kept}, 'and has room for more');
result('its notifies are new ones', '/kept', $known, 'delivered|-|1');

# another name

$nginx->{vars}{KEPT} = 'renamed';
$nginx->write_file('nginx.conf', $conf);
ok($nginx->reload, 'reload with another name');
is(count($forgotten), 2, 'one more zone forgets');
is(count(qr/\[warn\].* "refund_store:kept" is gone: /), 1,
   'it says which');
result('its notifies are new ones', '/kept', $known, 'delivered|-|1');
result('and are known from now on', '/kept', $known, 'duplicate|-|-');
is(scalar(() = $app->requests), 3, 'delivered three times');

# refused

$nginx->write_file('nginx.conf', $conf =~ s/shm:64k/shm:63k/r);
$nginx->allow(qr/\[emerg\].*size must be at least 64k/);
ok(!$nginx->reload, 'too small a size is refused');
is(count($forgotten), 2, 'nothing is forgotten');
result('and nothing has changed', '/kept', $known, 'duplicate|-|-');

# a delivery that runs while its zone is replaced

{
    my $notify = $others[0];
    my $connection = $client->connect;

    $app->rules({ delay => 1, times => 1 });
    $app->forget;
    $connection->send('POST', '/kept', $notify->{headers}, $notify->{body});
    $app->wait_for(1);

    $nginx->{vars}{SIZE} = '128k';
    $nginx->write_file('nginx.conf', $conf);
    ok($nginx->reload(wait => 0), 'reload during a delivery');
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'it ends as it began');
    is(count($forgotten), 3, 'its zone is replaced');
    result('and its records with it', '/kept', $notify, 'delivered|-|1');
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
