#!/usr/bin/perl

# A store that is Redis, and all that can become of it: down, killed, stopped,
# slow, full, refusing, talking nonsense, at each of claim, commit, release and
# renewal.  What WeChat Pay is answered, how often the business app is called,
# what is left in Redis, and what the log says.

use lib 't/lib';
use RefundNotify::Test;

use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$refund_notify_result|$refund_notify_reason'
                      '|$refund_notify_attempt';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store main     redis://127.0.0.1:%%REDIS%% prefix=t:
                          timeout=%%TIMEOUT%%ms;
    refund_store uncached redis://127.0.0.1:%%REDIS%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms;
    refund_store patient  redis://127.0.0.1:%%REDIS%% prefix=t: timeout=2s;
    refund_store scripted redis://127.0.0.1:%%SCRIPTED%% prefix=t: cache=off
                          timeout=%%TIMEOUT%%ms;
    refund_store slowly   redis://127.0.0.1:%%SCRIPTED%% prefix=t: timeout=2s;

    refund_store unix     redis://unix:%%SOCKET%% prefix=t: timeout=2s;
    refund_store database redis://127.0.0.1:%%LOCKED%%/5 prefix=t: timeout=2s
                          password_file=%%DIR%%/default.password;
    refund_store user     redis://127.0.0.1:%%LOCKED%% prefix=t: timeout=2s
                          user=edge password_file=%%DIR%%/edge.password;
    refund_store wrong    redis://127.0.0.1:%%LOCKED%% timeout=2s
                          password_file=%%DIR%%/wrong.password;
    refund_store nobody   redis://127.0.0.1:%%LOCKED%% timeout=2s
                          user=nobody password_file=%%DIR%%/edge.password;
    refund_store without  redis://127.0.0.1:%%LOCKED%% timeout=2s;
    refund_store mute     redis://127.0.0.1:%%LOCKED%% prefix=t: timeout=2s
                          user=mute password_file=%%DIR%%/mute.password;
    refund_store foreign  redis://127.0.0.1:%%LOCKED%% prefix=u: timeout=2s
                          user=edge password_file=%%DIR%%/edge.password;
    refund_store beyond   redis://127.0.0.1:%%LOCKED%%/99 timeout=2s
                          password_file=%%DIR%%/default.password;
    refund_store open     redis://127.0.0.1:%%SCRIPTED%% timeout=2s
                          password_file=%%DIR%%/default.password;
    refund_store loading  redis://127.0.0.1:%%SCRIPTED%%/1 timeout=2s;

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_deadline 30s;
        refund_notify_lease    %%LEASE%%ms;

        location = /plain {
            return 200 plain;
        }

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

        location = /patient {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store patient;
            refund_notify_lease 10s;
        }

        location = /slowly {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store slowly;
            refund_notify_lease 10s;
        }

        location = /scripted {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store scripted;
        }

        location /login/ {
            refund_notify_lease 10s;

            location = /login/unix {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store unix;
            }

            location = /login/database {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store database;
            }

            location = /login/user {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store user;
            }

            location = /login/wrong {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store wrong;
            }

            location = /login/nobody {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store nobody;
            }

            location = /login/without {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store without;
            }

            location = /login/mute {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store mute;
            }

            location = /login/foreign {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store foreign;
            }

            location = /login/beyond {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store beyond;
            }

            location = /login/open {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store open;
            }

            location = /login/loading {
                refund_notify shop;
                refund_notify_pass /internal/refunds name=orders;
                refund_notify_store loading;
            }
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

# as short as a loaded machine allows, for leases are waited for

my $TIMEOUT = slow(1) > 1 ? 0.8 : 0.3;
my $LEASE = 5 * $TIMEOUT;

my %passwords = (default => 'default-Kq8vT2xLw9', edge => 'edge-7hRz3mYp5N',
                 wrong => 'wrong-Xc4bD6fGj1', mute => 'mute-Sa2kQe8uWi');

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();
my $scripted = scripted_redis();
my $unix = redis(unix => 1);
my $locked = redis(password => $passwords{default}, config => [
    "user edge on >$passwords{edge} ~t:* +get +set +pttl +eval",
    "user mute on >$passwords{mute} ~t:* +get +ping" ]);

$redis->stop;

my %vars = (APP => $app->port, REDIS => $redis->port,
            SCRIPTED => $scripted->port, SOCKET => $unix->socket,
            LOCKED => $locked->port, TIMEOUT => 1000 * $TIMEOUT,
            LEASE => 1000 * $LEASE);
my %files = map { ("$_.password" => "$passwords{$_}\n") } keys %passwords;

$conf = with_merchants($conf, $shop);

my $nginx = nginx($conf, vars => { %vars }, files => { %files });
my $other = nginx($conf, vars => { %vars }, files => { %files });

my $n = 0;
my @notifies;


# A new notify, of either version in turn.

sub notify {
    my $make = @notifies % 2 ? 'v2_notify' : 'v3_notify';

    push @notifies, $pay->$make($shop);
    return $notifies[-1];
}


sub logged {
    my ($on, $n) = @_;

    my %logged;

    @logged{qw(result reason attempt)} = split /\|/, $on->logged($n), -1;

    return \%logged;
}


# Sends it, once more if need be, and compares the answer; the reason as well,
# where one is given: text, or a pattern.

sub answers {
    my ($name, $path, $notify, $answer, $reason, $on) = @_;

    $on //= $nginx;

    my $response = client($on)->post("$path?n=" . ++$n,
                                     $pay->resend($shop, $notify));

    is($pay->answer($notify, $response), $answer =~ /delivered|duplicate/
                                         ? 'SUCCESS' : $answer, $name);

    my $logged = logged($on, $n);

    is($logged->{result}, $answer, "$name: \$refund_notify_result");
    is($logged->{reason}, $reason, "$name: \$refund_notify_reason")
        if defined $reason;

    return $response;
}


# Sends it on a connection of its own and returns that.

sub sent {
    my ($path, $notify) = @_;

    my $connection = client($nginx)->connect;

    $connection->send('POST', "$path?n=" . ++$n, $notify->{headers},
                      $notify->{body});

    return $connection;
}


# Sends it while the app works on it.

sub under_way {
    my ($path, $notify, %rule) = @_;

    $app->rules({ id => $notify->{event_id}, times => 1, %rule });
    $app->forget;

    my $connection = sent($path, $notify);

    $app->wait_for(1) or die "nothing was delivered\n";

    return $connection;
}


# Repeats it until it is accepted; everything before that must be in_flight.

sub in_the_end {
    my ($name, $path, @notifies) = @_;

    my %left = map { $_->{event_id} => $_ } @notifies;
    my %others;

    wait_until(sub {
        my @left = values %left;
        my @responses = client($nginx)->parallel([ map {
            my $again = $pay->resend($shop, $_);
            [ 'POST', $path, $again->{headers}, $again->{body} ]
        } @left ]);

        for my $i (0 .. $#left) {
            my $answer = $pay->answer($left[$i], $responses[$i]);

            delete $left{ $left[$i]{event_id} } if $answer eq 'SUCCESS';
            $others{$answer}++ if $answer !~ /^(SUCCESS|in_flight)$/;
        }

        sleep 0.05 if %left;
        return !%left;
    }, 3 * $LEASE);

    is(join(' ', %others, sort keys %left), '', $name);
    return;
}


# The attempts the app was called with for it, since the last forget().

sub attempts {
    my ($notify) = @_;

    return join ' ', map { $_->{headers}{'refund-attempt'} // '-' }
                     grep { $_->{id} eq $notify->{event_id} } $app->requests;
}


sub key {
    my ($notify) = @_;

    return "t:{$notify->{event_id}}orders";
}


sub record {
    my ($notify, $in) = @_;

    return ($in // $redis)->command('GET', key($notify)) // '';
}


sub becomes_done {
    my ($name, $notify, $in) = @_;

    ok(wait_until(sub { record($notify, $in) =~ /^D \d+$/ }, 10),
       "$name: in Redis it becomes accepted");
    return;
}


sub count {
    my ($pattern) = @_;

    return scalar(() = $nginx->error_log =~ /$pattern/g);
}


# down at the start: refused, logged at most once a second

{
    my $start = time;
    my $down = 'Redis cannot be connected to';

    answers('down at the start', '/main', notify(), 'store_error', $down)
        for 1 .. 12;

    is(count(qr/\[error\].*\ refund_store\ "main"\ is\ down:\ \Q$down\E
                \ \(.*refused/x), 1, 'down at the start: logged once');

    sleep 1.1;
    answers('still down', '/main', notify(), 'store_error', $down);

    my @lines = grep { /\[error\].*was not delivered to "orders": store "main"/
                       && /: \Q$down\E/ } split /\n/, $nginx->error_log;
    my $held = 0;

    /\((\d+) more like this held back\)/ and $held += $1 for @lines;

    cmp_ok(scalar @lines, '<=', 1 + time - $start,
           'a line a second at most, about the notifies');
    is(@lines + $held, 13, 'and the count of those held back');
    is(scalar(() = $app->requests), 0, 'nothing was delivered');

    $redis->restart;

    answers('the very next notify', '/main', notify(), 'delivered');
    is(count(qr/\[notice\].* refund_store "main" is up again/), 1,
       'up again: logged');
}


# killed and restarted

{
    my $notify = notify();

    answers('before the kill', '/main', $notify, 'delivered');

    $redis->kill;
    answers('killed', '/main', notify(), 'store_error');
    answers('killed, but known here', '/main', $notify, 'duplicate');
    answers('killed, and not known there', '/main', $notify, 'store_error',
            undef, $other);

    $redis->restart;
    $app->forget;

    my $next = notify();

    answers('restarted', '/main', $next, 'delivered');
    answers('restarted, again', '/main', $next, 'duplicate', undef, $other);
    is(attempts($next), '1', 'restarted: delivered once');
    like(record($next), qr/^D \d+$/, 'restarted: its record');
}


# stopped at the claim: the worker does all else meanwhile

{
    my $notify = notify();

    answers('patient', '/patient', notify(), 'delivered');
    $redis->pause;

    my $connection = sent('/patient', $notify);
    my $plain = client($nginx)->request('GET', '/plain');

    is($plain->{body}, 'plain', 'stopped at the claim: another location');

    my $response = $connection->read;

    is($pay->answer($notify, $response), 'store_error',
       'stopped at the claim');
    is(logged($nginx, $n)->{reason}, 'Redis did not answer in time',
       '... and why');
    cmp_ok($response->{time}, '>', 1.9, '... after the timeout');
    cmp_ok($response->{time}, '<', 2 + slow(1), '... and not much later');
    cmp_ok($plain->{at}, '<', $response->{at} - 0.3,
           '... long after the other location has answered');

    $redis->resume;

    # the claim was carried out when nobody waited for it any more

    ok(wait_until(sub { record($notify) =~ /^P \w{32} 1 10000 259200000$/ }),
       'a claim that came late');
    answers('its lease counts', '/patient', $notify, 'in_flight');
}

{
    my $notify = notify();

    answers('ready', '/main', notify(), 'delivered');
    $app->forget;
    $redis->pause;
    answers('stopped at the claim', '/main', $notify, 'store_error');
    $redis->resume;
    wait_until(sub { record($notify) });
    in_the_end('after the lease it is delivered', '/main', $notify);
    is(attempts($notify), '2', '... as the second attempt, once');
}


# stopped, or gone, at the commit: the app has accepted, and Redis gets to know

for (map { my $path = $_; map { [ $path, $_ ] } qw(pause kill) }
         qw(/main /uncached))
{
    my ($path, $how) = @$_;
    my $name = "$how at the commit, $path";
    my $notify = notify();

    my $connection = under_way($path, $notify, delay => 0.2);
    my $request = $n;

    $redis->$how;

    my $response = $connection->read;

    is($pay->answer($notify, $response), 'SUCCESS', $name);
    is(logged($nginx, $request)->{result}, 'delivered', "$name: its result");
    cmp_ok($response->{time}, '<', $TIMEOUT + slow(1.5), "$name: in time");

    answers("$name, told again", $path, $notify,
            $path eq '/main' ? 'duplicate' : 'store_error');

    # past the first repeats of the commit

    sleep 2 * $TIMEOUT;
    $how eq 'pause' ? $redis->resume : $redis->restart;

    becomes_done($name, $notify);
    answers("$name, here", $path, $notify, 'duplicate');
    answers("$name, there", $path, $notify, 'duplicate', undef, $other);
    is(attempts($notify), '1', "$name: delivered once");
}

cmp_ok(count(qr/\[error\].*"orders"\ accepted\ it,\ store\ "\w+"\ could\ not
                \ be\ told\ yet:\ .*Redis.*;\ trying\ again/x), '>=', 1,
       'a commit that failed is logged');
is(count(qr/accepted it, but store/), 0, 'and none was given up');


# stopped at the release: the lease runs out instead

{
    my $notify = notify();
    my $connection = under_way('/main', $notify, delay => 0.2, status => 500);

    $redis->pause;

    my $response = $connection->read;

    is($pay->answer($notify, $response), 'upstream_error',
       'stopped at the release');
    cmp_ok($response->{time}, '<', $TIMEOUT + slow(1.5),
           'stopped at the release: in time');
    ok($nginx->wait_for_log('error.log', qr/\[error\].*could\ not\ be\ given
                            \ back:\ store\ "main":\ Redis\ did\ not/x),
       'stopped at the release: logged');

    $redis->resume;
    in_the_end('stopped at the release: delivered in the end', '/main',
               $notify);
    is(attempts($notify), '1 2', 'stopped at the release: attempts');
}


# stopped at a renewal

{
    my $notify = notify();
    my $connection = under_way('/main', $notify, delay => 2 * $LEASE);
    my $start = time;

    $redis->pause;
    ok($nginx->wait_for_log('error.log', qr/\[error\].*could\ not\ be\ renewed
                            \ yet:\ store\ "main":\ Redis\ did\ not/x),
       'stopped at the renewal: logged');
    $redis->resume;

    sleep $start + 1.5 * $LEASE - time;
    answers('stopped at the renewal: past the first lease', '/main', $notify,
            'in_flight', undef, $other);
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'stopped at the renewal: accepted');
    becomes_done('stopped at the renewal', $notify);
    is(attempts($notify), '1', 'stopped at the renewal: delivered once');
}


# restarted empty during a delivery: the renewal puts the record back

{
    my $notify = notify();
    my $connection = under_way('/main', $notify, delay => 1.5 * $LEASE);
    my $before = record($notify);

    like($before, qr/^P [\da-f]{32} 1 @{[1000 * $LEASE]} 259200000$/,
         'lost by Redis: its record before');
    $redis->kill;
    $redis->restart;
    ok(wait_until(sub { record($notify) eq $before }),
       'lost by Redis: put back');
    answers('lost by Redis: under way', '/main', $notify, 'in_flight', undef,
            $other);
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'lost by Redis: accepted');
    becomes_done('lost by Redis', $notify);
    is(attempts($notify), '1', 'lost by Redis: delivered once');
}


# the record is another's by now

{
    my $others = 'P ' . 'f' x 32 . ' 7 600000 1200000';
    my $notify = notify();
    my $connection = under_way('/main', $notify, delay => $LEASE);

    $redis->command('SET', key($notify), $others, 'PX', 1200000);
    ok($nginx->wait_for_log('error.log', qr/\[error\].*was\ lost,\ it\ may\ be
                            \ delivered\ twice/x), 'a lost lease: logged');
    is(record($notify), $others, 'a lost lease: the record is left alone');
    is($pay->answer($notify, $connection->read), 'SUCCESS',
       'a lost lease: accepted is accepted');
    becomes_done('a lost lease', $notify);

    $notify = notify();
    $connection = under_way('/main', $notify, delay => 0.2, status => 500);
    $redis->command('SET', key($notify), $others, 'PX', 1200000);
    is($pay->answer($notify, $connection->read), 'upstream_error',
       'a lost lease, refused by the app');
    is(record($notify), $others,
       'a lost lease, refused by the app: the record is left alone');
}

$app->rules;


# what is none of our records is neither claimed nor overwritten

my $owner = '0123456789abcdef' x 2;
my @foreign = (
    '', 'hello', 'P', 'F', 'D', 'D 0', 'D x', ' D 1700000000', 'D 1700000000 ',
    "D 1700000000\n", 'D 1234567890123', 'd 1700000000', 'F 0 1000 2000',
    'F 01 1000 2000', 'F 1 1000', 'F 1 1000 2000 3000', 'F -1 1000 2000',
    'F 1 1e3 2000', 'F 1234567890 1000 2000', "P $owner 1 1000",
    "P $owner 0 1000 2000", "P \U$owner\E 1 1000 2000",
    "P $owner 1 0 2000", "P $owner 1 1000 2000 ", "P ${owner}0 1 1000 2000",
    'P ' . 'g' x 32 . ' 1 1000 2000', 'x' x 60000,
);

$app->forget;

for my $value (@foreign) {
    my $notify = notify();
    my $name = 'a foreign value "' . substr($value, 0, 60) =~ s/\n/\\n/r . '"';

    $redis->command('SET', key($notify), $value);
    answers($name, '/uncached', $notify, 'store_error',
            'the key in Redis holds no record of this module');
    is(record($notify), $value, "$name: left alone");
    is($redis->command('PTTL', key($notify)), -1, "$name: for ever");
}

for ([ RPUSH => 'a' ], [ SADD => 'a' ], [ HSET => 'a', 'b' ],
     [ ZADD => 1, 'a' ])
{
    my ($command, @words) = @$_;
    my $notify = notify();

    $redis->command($command, key($notify), @words);
    answers("a key of $command", '/uncached', $notify, 'store_error',
            'the key in Redis is of another type');
    isnt($redis->command('TYPE', key($notify)), 'string',
         "a key of $command: left alone");
}

is(scalar(() = $app->requests), 0, 'nothing of these was delivered');

# and their opposites: what another of us has left

for ([ 'a failure', 'F 41 1000 2000', 'delivered', '42' ],
     [ 'a failure without a time to live', 'F 1 1000 900000', 'delivered',
       '2', 1 ],
     [ 'a lease that ran out', "P $owner 8 1000 900000", 'delivered', '9' ],
     [ 'a lease', "P $owner 8 10000 20000", 'in_flight', '' ],
     [ 'a lease without a time to live', "P $owner 8 10000 20000",
       'delivered', '9', 1 ],
     [ 'an acceptance', 'D 1', 'duplicate', '' ])
{
    my ($name, $value, $answer, $attempt, $for_ever) = @$_;
    my $notify = notify();

    $redis->command('SET', key($notify), $value,
                    $for_ever ? () : (PX => 19000));
    answers("$name of another", '/uncached', $notify, $answer);
    is(attempts($notify), $attempt, "$name of another: attempts");
    like(record($notify), qr/^D \d+$/, "$name of another: accepted")
        if $answer eq 'delivered';
}


# passwords, users, databases, a socket

{
    my $notify = notify();

    answers('a Unix socket', '/login/unix', $notify, 'delivered');
    like(record($notify, $unix), qr/^D/, 'a Unix socket: its record');

    $notify = notify();
    answers('a password, a database', '/login/database', $notify,
            'delivered');
    is(record($notify, $locked), '', 'a database: not in the first');
    $locked->command('SELECT', 5);
    like(record($notify, $locked), qr/^D/, 'a database: its record');
    $locked->command('SELECT', 0);

    $notify = notify();
    answers('a user, who may do no more than is needed', '/login/user',
            $notify, 'delivered');
    like(record($notify, $locked), qr/^D/, 'a user: its record');

    $notify = notify();
    $app->rules({ status => 500, times => 1 });
    answers('a user: refused by the app', '/login/user', $notify,
            'upstream_error');
    answers('a user: released', '/login/user', $notify, 'delivered');
}

my @refused = (
    [ wrong => 'Redis refused the user name or password', 1 ],
    [ nobody => 'Redis refused the user name or password', 1 ],
    [ without => 'Redis asks for a password', 1 ],
    [ beyond => 'Redis refused SELECT: no such database, or no permission',
      1 ],
    [ open => 'Redis refused AUTH', 1 ],
    [ loading => 'Redis is loading its data' ],
    [ mute => 'the Redis user lacks a permission' ],
    [ foreign => 'the Redis user lacks a permission' ],
);

$app->forget;
$scripted->rules({ command => 'SELECT', reply => "-LOADING for a test\r\n" });
$scripted->drop;

for (@refused) {
    my ($store, $reason, $down) = @$_;

    answers("$store login", "/login/$store", notify(), 'store_error',
            $reason);
    is(count(qr/\[error\].* refund_store "$store" is down: \Q$reason\E$/m), 1,
       "$store login: logged once") if $down;
    like($nginx->error_log, qr/\Q$reason\E/, "$store login: logged");
}

is(scalar(() = $app->requests), 0, 'nothing of these was delivered');
$scripted->rules;

$unix->kill;
ok($nginx->wait_for_log('error.log', qr/"unix" is down: Redis cannot be conn/),
   'a Unix socket of nobody: logged');
answers('a Unix socket of nobody', '/login/unix', notify(), 'store_error',
        'Redis cannot be connected to');


# Replies that are errors, of a wrong type, or nonsense.  What becomes of the
# connection: kept; dropped, but the next notify goes through; or refused, and
# then nothing is tried for a second.

my $UNEXPECTED = 'Redis sent an unexpected reply';
my $TOO_LARGE = 'Redis sent a reply that is too large';
my $BROKEN = 'Redis sent a broken reply';

my @replies = (
    (map { [ "-$_->[0]", "-$_->[0] words-of-redis\r\n", @$_[1, 2] ] }
        [ LOADING => 'Redis is loading its data', 'kept' ],
        [ READONLY => 'Redis is a read-only replica', 'dropped' ],
        [ OOM => 'Redis is out of memory', 'kept' ],
        [ MISCONF => 'Redis cannot write to its disk', 'kept' ],
        [ NOPERM => 'the Redis user lacks a permission', 'kept' ],
        [ BUSY => 'Redis is busy with a script', 'kept' ],
        [ CLUSTERDOWN => 'the Redis Cluster is down', 'kept' ],
        [ MOVED => 'the key is on another node of the Redis Cluster',
          'kept' ],
        [ ASK => 'the key is moving to another node of the Redis Cluster',
          'kept' ],
        [ TRYAGAIN => 'the Redis Cluster is moving the keys', 'kept' ],
        [ MASTERDOWN => 'the Redis replica has lost its master', 'dropped' ],
        [ NOREPLICAS => 'Redis has too few replicas', 'kept' ],
        [ 'ERR max number of clients' => 'Redis has too many clients',
          'dropped' ],
        [ ERR => 'Redis answered with an error', 'kept' ],
        [ LOADINGS => 'Redis answered with an error', 'kept' ],
        [ NOAUTH => 'Redis asks for a password', 'refused' ],
        [ WRONGPASS => 'Redis refused the user name or password',
          'refused' ]),
    [ 'an empty error', "-\r\n", 'Redis answered with an error', 'kept' ],
    [ 'another status', "+QUEUED\r\n", $UNEXPECTED, 'dropped' ],
    [ 'a number', ":1\r\n", $UNEXPECTED, 'dropped' ],
    [ 'a string', "\$2\r\nOK\r\n", $UNEXPECTED, 'dropped' ],
    [ 'an array', "*1\r\n+OK\r\n", $UNEXPECTED, 'dropped' ],
    [ 'an empty array', "*0\r\n", $UNEXPECTED, 'dropped' ],
    [ 'a reply too many', "+OK\r\n+OK\r\n", $UNEXPECTED, 'dropped' ],
    [ 'OK, and no record', "+OK\r\n", $UNEXPECTED, 'dropped' ],
    [ 'no type', "hello\r\n", $BROKEN, 'dropped' ],
    [ 'HTTP', "HTTP/1.1 400 Bad Request\r\n\r\n", $BROKEN, 'dropped' ],
    [ 'a NUL', "\0\r\n", $BROKEN, 'dropped' ],
    [ 'a large string', "\$200000\r\n" . 'x' x 200000 . "\r\n", $TOO_LARGE,
      'dropped' ],
    [ 'a huge string', "\$999999999999\r\n" . 'x' x 200000, $TOO_LARGE,
      'dropped' ],
    [ 'a long line', '+' . 'x' x 200000 . "\r\n", $TOO_LARGE, 'dropped' ],
    [ 'a large array', "*2000\r\n", $TOO_LARGE, 'dropped' ],
    [ 'a deep array', "*1\r\n" x 9, qr/large|broken/, 'dropped' ],
    [ 'a close', { fault => 'close' }, 'Redis closed the connection',
      'dropped' ],
    [ 'a reset', { fault => 'reset' }, 'the connection to Redis broke',
      'dropped' ],
    [ 'silence', { fault => 'hang' }, 'Redis did not answer in time',
      'dropped' ],
);

# to GET, when SET has claimed it already, and to the script that takes over

my @get = (
    (map { [ 'a reply too many: ' . s/\r\n//r, "+OK\r\n$_", $UNEXPECTED,
             'dropped' ] } "+OK\r\n", ":1\r\n", "\$-1\r\n"),
    [ 'no type', "hello\r\n", $BROKEN, 'dropped' ],
    [ 'a huge string', "\$999999999999\r\n" . 'x' x 200000, $TOO_LARGE,
      'dropped' ],
    [ 'a status', "+OK\r\n", $UNEXPECTED, 'dropped' ],
    [ 'a number', ":1\r\n", $UNEXPECTED, 'dropped' ],
    [ 'nothing', "\$-1\r\n", $UNEXPECTED, 'dropped' ],
    [ 'an array', "*1\r\n+OK\r\n", $UNEXPECTED, 'dropped' ],
    [ "another's lease", "\$52\r\nP " . 'f' x 32 . " 1 10000 259200000\r\n",
      $UNEXPECTED, 'dropped' ],
    [ "another's failure", "\$19\r\nF 1 10000 259200000\r\n", $UNEXPECTED,
      'dropped' ],
    [ 'no record', "\$5\r\nhello\r\n",
      'the key in Redis holds no record of this module', 'kept' ],
    [ 'an error', "-OOM words-of-redis\r\n", 'Redis is out of memory',
      'kept' ],
    [ 'a close', { fault => 'close' }, 'Redis closed the connection',
      'dropped' ],
);

my @eval = (
    [ 'a reply too many', "+OK\r\n" x 2, $UNEXPECTED, 'dropped' ],
    [ 'no type', "hello\r\n", $BROKEN, 'dropped' ],
    [ 'a huge string', "\$999999999999\r\n" . 'x' x 200000, $TOO_LARGE,
      'dropped' ],
    [ 'a status', "+OK\r\n", $UNEXPECTED, 'dropped' ],
    [ 'nothing', "\$-1\r\n", $UNEXPECTED, 'dropped' ],
    [ 'a failure', "\$15\r\nF 1 1000 900000\r\n", $UNEXPECTED, 'dropped' ],
    [ 'no record', "\$5\r\nhello\r\n",
      'the key in Redis holds no record of this module', 'kept' ],
    [ 'a busy Redis', "-BUSY words-of-redis\r\n",
      'Redis is busy with a script', 'kept' ],
    [ 'no permission', "-NOPERM words-of-redis\r\n",
      'the Redis user lacks a permission', 'kept' ],
    [ 'an error of the script', "-ERR words-of-redis\r\n",
      'Redis answered with an error', 'kept' ],
    [ 'a reset', { fault => 'reset' }, 'the connection to Redis broke',
      'dropped' ],
);

my %reasons;

$app->forget;

for ((map { [ SET => @$_ ] } @replies), (map { [ GET => @$_ ] } @get),
     (map { [ EVAL => @$_ ] } @eval))
{
    my ($command, $name, $reply, $reason, $then) = @$_;
    my $notify = notify();
    my $next = notify();

    $name = "$command: $name";

    if ($command eq 'EVAL') {
        $scripted->{redis}->command('SET', key($notify), 'F 1 1000 900000');
    }

    $scripted->rules({ command => $command, times => 1,
                       ref $reply ? %$reply : (reply => $reply) });
    $scripted->forget;

    my $response = answers($name, '/scripted', $notify, 'store_error',
                           ref $reason ? undef : $reason);

    like(logged($nginx, $n)->{reason}, $reason, "$name: its reason")
        if ref $reason;
    cmp_ok($response->{time}, '<', 2 * $TIMEOUT + slow(1), "$name: in time");
    $reasons{$reason} = 1 if !ref $reason;

    if ($then eq 'refused') {
        answers("$name, the next", '/scripted', $next, 'store_error', $reason);
        sleep 1.05;
    }

    answers("$name, the one after it", '/scripted', $next, 'delivered');

    my ($first, $last)
        = map { my $key = key($_);
                (grep { ($_->{key} // '') eq $key
                        || ($_->{words}[3] // '') eq $key }
                      $scripted->requests)[-1]{connection} } $notify, $next;

    is($first == $last ? 'kept' : 'dropped',
       $then eq 'kept' ? 'kept' : 'dropped', "$name: the connection");
}

is(scalar(() = $app->requests), @replies + @get + @eval,
   'only what came after them was delivered');

for my $reason (sort keys %reasons) {
    like($nginx->error_log,
         qr/\[error\].*store "scripted"(: | is down: )\Q$reason/,
         "logged: $reason");
}

unlike($nginx->error_log, qr/words-of-redis/, 'but no word of Redis itself');

# a claim that expired between SET and GET is a new one

{
    my $notify = notify();

    $scripted->rules({ command => 'SET', times => 1, reply => "\$-1\r\n" });
    answers('expired in between', '/scripted', $notify, 'delivered');
    is(attempts($notify), '1', 'expired in between: attempt 1');
}


# replies that come in pieces, or not to the end

my $GET = "\$@{[48 + length 1000 * $LEASE]}\r\nP $owner 1 @{[1000 * $LEASE]}"
          . " 259200000\r\n";

{
    my $notify = notify();

    $scripted->rules({ split => 1, every => 0.001 });
    answers('byte by byte', '/slowly', $notify, 'delivered');
    like(record($notify, $scripted->{redis}), qr/^D/,
         'byte by byte: its record');
}

my @cut = ((map { [ SET => $_ ] } 0 .. length("+OK\r\n") - 1),
           (map { [ GET => $_ ] } 0 .. length($GET) - 1),
           (map { [ EVAL => $_ ] } 0 .. length($GET) - 1));

$app->forget;

for (@cut) {
    my ($command, $bytes) = @$_;
    my $notify = notify();

    push @$_, $notify;

    if ($command eq 'EVAL') {
        $scripted->{redis}->command('SET', key($notify), 'F 1 1000 900000');
    }

    $scripted->rules({ command => $command, cut => $bytes, times => 1 });
    answers("$command cut after $bytes bytes", '/scripted', $notify,
            'store_error', 'Redis closed the connection');
}

is(scalar(() = $app->requests), 0, 'no cut reply is believed');

# the random numbers of owners are drawn many at once, and each used once

my %owners;

$owners{$_}++ for map { ($_->{words}[2] // '') =~ /^P ([0-9a-f]{32}) 1 / }
                      $scripted->requests;

cmp_ok(scalar(keys %owners), '>', 64, 'claims of more than two draws');
is(join(' ', grep { $owners{$_} > 1 } keys %owners), '',
   'no two claims have an owner in common');

# between write and reply: whether it was claimed is unknown

my @lost = ([ 'reset, carried out', '2', fault => 'reset', forward => 1 ],
            [ 'closed, carried out', '2', fault => 'close', forward => 1 ],
            [ 'reset, not carried out', '1', fault => 'reset' ]);

for (@lost) {
    my ($name, $attempt, %rule) = @$_;
    my $notify = notify();

    push @$_, notify => $notify;
    $scripted->rules({ command => 'SET', times => 1, %rule });
    answers($name, '/scripted', $notify, 'store_error');
}

# too late: whoever comes behind waits with it, and no reply meets another

my @late = map { notify() } 1 .. 3;

$scripted->rules({ command => 'GET', times => 1, delay => 3 * $TIMEOUT });
$scripted->forget;

my @connections = map { sent('/scripted', $_) } @late;

is($pay->answer($_, shift(@connections)->read), 'store_error',
   'a late reply') for @late;

my $start = time;

while (time < $start + 3 * $TIMEOUT) {
    my $notify = notify();

    answers('while the late reply comes', '/scripted', $notify, 'delivered');
    is(attempts($notify), '1', 'while the late reply comes: attempt 1');
    sleep 0.1;
}

$scripted->rules;
in_the_end('after a lost claim they are delivered', '/scripted',
           (map { $_->[2] } @cut), (map { $_->[-1] } @lost), @late);

is(attempts($_->[2]), $_->[0] eq 'EVAL' ? '3' : '2',
   "$_->[0] cut after $_->[1] bytes: delivered once") for @cut;
is(attempts($_->[-1]), $_->[1], "$_->[0]: delivered once") for @lost;
is(attempts($_), '2', 'a late reply: delivered once') for @late;


# the same at the commit: it is repeated until it is told

for ([ '-READONLY', "-READONLY words-of-redis\r\n" ],
     [ '-OOM', "-OOM words-of-redis\r\n" ], [ 'a number', ":1\r\n" ],
     [ 'a reset', undef, fault => 'reset' ],
     [ 'a close, carried out', undef, fault => 'close', forward => 1 ])
{
    my ($name, $reply, %rule) = @$_;
    my $notify = notify();

    $scripted->forget;
    $scripted->rules({ command => 'SET', key => key($notify), skip => 1,
                       times => 2, %rule,
                       defined $reply ? (reply => $reply) : () });
    answers("at the commit, $name", '/scripted', $notify, 'delivered');

    my $sets = sub { grep { $_->{command} eq 'SET'
                            && $_->{key} eq key($notify) }
                          $scripted->requests };

    ok(wait_until(sub { $sets->() == 4 }), "at the commit, $name: repeated");
    becomes_done("at the commit, $name", $notify, $scripted->{redis});
    is(attempts($notify), '1', "at the commit, $name: delivered once");
}

# an error that nobody asked for is Redis' farewell

{
    my $notify = notify();
    my $many = qr/"scripted" is down: Redis has too many clients/;
    my $before = count($many);

    sleep 1.05;                         # the log's limit
    $scripted->rules({ command => 'SET', key => key($notify), skip => 1,
                       times => 1, forward => 1,
                       reply => "+OK\r\n-ERR max number of clients\r\n" });
    answers('an error too many', '/scripted', $notify, 'delivered');
    ok(wait_until(sub { count($many) > $before }, 5),
       'an error too many: logged');
    answers('an error too many, the next', '/scripted', notify(), 'delivered');
}


# at the release

my @releases = (
    [ 'an error', 'in_flight', reply => "-READONLY words-of-redis\r\n" ],
    [ 'a reset', 'in_flight', fault => 'reset' ],
    [ 'nonsense', 'in_flight', reply => "+OK\r\n" ],
    (map { [ "another record, $_", 'in_flight',
             reply => '$' . length . "\r\n$_\r\n" ] }
         'F', 'F 9 ' . 1000 * $LEASE . ' 259200000'),
    [ 'a reset, carried out', 'delivered', fault => 'reset', forward => 1 ],
);

for (@releases) {
    my ($name, $answer, %rule) = @$_;
    my $notify = notify();

    push @$_, notify => $notify;
    $app->rules({ id => $notify->{event_id}, status => 500, times => 1 });
    $scripted->rules({ command => 'EVAL', times => 1, %rule });
    answers("at the release, $name", '/scripted', $notify, 'upstream_error');
    answers("at the release, $name: the next", '/scripted', $notify, $answer);
}

in_the_end('after a release that failed they are delivered', '/scripted',
           map { $_->[-1] } @releases);

is(attempts($_->[-1]), '1 2', "at the release, $_->[0]: attempts")
    for @releases;


# connections that do not come about

$scripted->rules;

for my $how (qw(no close reset hang)) {
    $scripted->accepting($how);
    $scripted->drop;
    answers("connections: $how", '/scripted', notify(), 'store_error');
    $scripted->accepting('yes');
    $scripted->drop;
    answers("connections: yes, after $how", '/scripted', notify(),
            'delivered');
}

no_secrets($_, $pay->secrets($shop), values %passwords) for $nginx, $other;

done_testing;
