#!/usr/bin/perl

# tools/sandbox.pl, which make sandbox runs: what its command line and its page
# do, WeChat Pay's ladders, who is kept out of the page, and that nothing stays
# when it ends.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Browser;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::XS ();
use RefundNotify::Test::Util
    qw(free_port read_file spawn stop_process wait_until);
use Time::HiRes qw(sleep time);

my $root = abs_path(dirname(__FILE__) . '/..');
my $dir = scratch_dir() . '/sandbox';
my $json = JSON::XS->new->utf8->canonical;
my ($port, $page) = (free_port(), free_port());
my ($pid, $output, $starts);

start();

my $client = RefundNotify::Test::Client->new(port => $page,
                                             host => "127.0.0.1:$page");
my $whsec = read_file("$dir/whsec");
my $nginx = RefundNotify::Test::Client->new(port => $port,
                                            host => "127.0.0.1:$port");


# The commands that it prints, and those of its page in docs/

my @printed = curls(read_file($output), $port);
my @documented = curls(read_file("$root/docs/sandbox.md"), 8600);

is(scalar @printed, 2, 'it prints what to try');
is(scalar @documented, 1, 'and so does its page');

for (@printed, @documented) {
    my $answer = qx($_ 2>&1);

    is((eval { $json->decode($answer) } || {})->{outcome}, 'accepted', $_)
        or diag($answer);
}

my ($followed) = wait_until(sub {
    grep { $_->{out_refund_no} eq 'r-1' && $_->{state} eq 'acknowledged' }
         @{ state()->{notifies} }
}, 15);

ok($followed, 'its notify follows');


# Who has refunds made: no page of another site

my $wanted = '{"out_refund_no":"r-2","out_trade_no":"o-2","amount":'
             . '{"refund":1,"total":1,"currency":"CNY"}}';

for ([ 'a form of another site', 403, Origin => 'http://example.com' ],
     [ 'no origin that is told', 403, Origin => 'null' ],
     [ 'a name that leads here', 403, Host => "sandbox.example.com:$port" ],
     [ 'a page of that name', 403, Host => "sandbox.example.com:$port",
       Origin => "http://sandbox.example.com:$port" ],
     [ 'a program', 200 ],
     [ 'a program, by localhost', 200, Host => "localhost:$port" ])
{
    my ($name, $status, @headers) = @$_;

    for my $path ('/refunds', '/v2/refunds') {
        is($nginx->request('POST', $path,
                           [ @headers, 'Content-Type' => 'text/plain' ],
                           $wanted =~ s/-2/-2$path/gr =~ s{/}{-}gr)->{status},
           $status, "$path, $name");
    }
}


# What can be sent, and what comes of it: the answer's status, what nginx logs,
# and the event that the app gets.

my @kinds = (
    (map { my ($status, $event) = @$_;
           map { [ { version => $_, status => $status }, 200,
                   qr/^delivered -?$/, $event ] } qw(v2 v3) }
         [ SUCCESS => 'refund.succeeded' ], [ ABNORMAL => 'refund.abnormal' ],
         [ CLOSED => 'refund.closed' ]),
    [ { kind => 'probe' }, 401, qr/^unverified a probe/ ],
    [ { kind => 'echo' }, 200, qr/^ignored / ],
    [ { kind => 'forged' }, 401,
      qr/^unverified Wechatpay-Signature is wrong$/ ],
    [ { kind => 'wrong-key' }, 401,
      qr/^unverified Wechatpay-Signature is wrong$/ ],
    [ { kind => 'wrong-key', version => 'v2' }, 200, qr/^undecryptable / ],
    [ { kind => 'stale' }, 401, qr/^unverified .* outside of the window$/ ],
);

for (@kinds) {
    my ($wish, $status, $log, $event) = @$_;
    my $sent = wish(notify => %$wish);
    my $notify = tried($sent->{n}, 1);
    my $try = $notify->{tries}[0];

    is($try->{status}, $status, join(' ', %$wish) . ': the answer');
    like("$try->{result} " . ($try->{reason} // ''), $log, 'what nginx logs');

    my ($got) = grep { ($_->{id} // '') eq ($sent->{id} // '-') }
                     @{ state()->{events} };

    is($got ? $got->{event}{type} : undef, $event, 'what the app gets');
    ok(!$event || $got->{signed}, 'signed');
    is($notify->{state}, $event ? 'acknowledged' : 'once', 'no more of it');
}


# Refunds that the app asks for, and what it is told of them

for my $version (qw(v3 v2)) {
    for my $outcome (qw(SUCCESS CLOSED none)) {
        my $name = "a refund by $version, $outcome";

        is(wish(settings => outcome => $outcome)->{outcome}, $outcome, $name);

        my $refund = wish(refund => version => $version, fen => 42);
        my $number = $refund->{out_refund_no};
        my $told = sub {
            my ($notify) = grep { ($_->{out_refund_no} // '') eq $number
                                  && $_->{state} eq 'acknowledged' }
                                @{ state()->{notifies} };
            return $notify;
        };

        is($refund->{answer}{outcome}, 'accepted', "$name: accepted")
            or diag(explain $refund);

        if ($outcome eq 'none') {
            wish(notify => out_refund_no => $number, status => 'ABNORMAL');
        }

        my $notify = wait_until($told, 15);

        is("$notify->{version} $notify->{status}",
           "$version " . ($outcome eq 'none' ? 'ABNORMAL' : $outcome),
           "$name: its notify");
        is((grep { $_->{id} eq $notify->{event_id} }
                 @{ state()->{events} })[0]{event}{data}{amount}{refund}, 42,
           "$name: what the app gets");
    }
}


# The ladders, with an app that never accepts: the intervals that WeChat Pay's
# pages name, in s

my %LADDER = (
    current => '15 15 30 180 600 1200 1800 1800 1800 3600 10800 10800 10800 '
               . '21600 21600',
    older => '15 15 30 180 1800 1800 1800 1800 3600',
);
my $SPEED = 80_000;

wish(settings => app_status => 500, speed => $SPEED);

for my $profile (sort keys %LADDER) {
    for my $version (qw(v2 v3)) {
        my $name = "$profile, $version";

        wish(settings => profile => $profile);

        my $n = wish(notify => version => $version)->{n};
        my $notify = wait_until(sub {
            my $now = notify($n);
            return $now->{state} eq 'waiting' ? 0 : $now;
        }, 40);
        my ($first, @rest) = @{ $notify->{tries} };

        is($notify->{state}, 'given up', "$name: given up at last");
        is(join(' ', map { $_->{after} } @rest), $LADDER{$profile},
           "$name: the intervals");

        my @early;
        my $last = $first;

        for (@rest) {
            push @early, $_->{after}
                if $_->{at} - $last->{at} - ($last->{seconds} // 0)
                   < $_->{after} / $SPEED - 0.002;
            $last = $_;
        }

        is("@early", '', "$name: none of them too short");
        is(join(' ', map { $_->{attempt} }
                     reverse grep { $_->{id} eq $notify->{event_id} }
                                  @{ state()->{events} }),
           join(' ', 1 .. @rest + 1), "$name: the app's attempts");
    }
}


# A ladder that waits: sent by hand, sped up, stopped

wish(settings => speed => 0.1, profile => 'current');

my @waiting = map { wish('notify')->{n} } 1 .. 4;

for my $n (@waiting) {
    my $notify = wait_until(sub {
        my $now = notify($n);
        return defined $now->{next} ? $now : 0;
    }, 10);
    my $try = $notify->{tries}[0];
    my $wait = $notify->{next} - $try->{at} - $try->{seconds};

    ok($wait > 149.9 && $wait < 160, "it waits for its 150 s: $wait");
}

wish(again => n => $waiting[0]);
is(tried($waiting[0], 2)->{state}, 'waiting', 'sent by hand: it still waits');
is(notify($waiting[0])->{tries}[1]{after}, undef, 'and not of the ladder');
wish(stop => n => $waiting[1]);
is(notify($waiting[1])->{state}, 'stopped', 'stopped');
is(notify($waiting[1])->{next}, undef, 'for good');
wish(settings => app_status => 204);
wish(again => n => $waiting[2]);
is(tried($waiting[2], 2)->{state}, 'acknowledged', 'sent by hand: accepted');
is(notify($waiting[2])->{next}, undef, 'and no more of it');
wish(settings => speed => 1000);
is(tried($waiting[3], 2)->{state}, 'acknowledged', 'sped up');
wish(again => n => $waiting[3]);
is(tried($waiting[3], 3)->{tries}[2]{result}, 'duplicate',
   'what was acknowledged can be repeated');


# The command line: each command, and what it prints of what was done

my $first = command('notify --version v2 --status CLOSED --kind genuine');

is(tried($first->{n}, 1)->{status}, 'CLOSED', 'notify');

my $refund = command('refund --version v2 --fen 7');

is($refund->{answer}{data}{amount}{refund}, 7, 'refund');
is(command("notify --out-refund-no $refund->{out_refund_no}")->{id},
   "wechatpay:1900000109:$refund->{answer}{data}{refund_id}:SUCCESS",
   'notify --out-refund-no');
is(command("again $first->{n}")->{n}, $first->{n}, 'again');
is(command("stop $first->{n}")->{n}, $first->{n}, 'stop');
is_deeply(command('set --speed 1000 --profile older --outcome none '
                  . '--app-status 201 --app-delay 0'),
          { speed => 1000, profile => 'older', outcome => 'none',
            app_status => 201, app_delay => 0 }, 'set');
tried($first->{n}, 2);
like(run('list'), qr/^$first->{n}\ \ APIv2\ CLOSED\ genuine\ .*acknowledged\n
                     (?:\ {5}\d\d:\d\d:\d\d\ \ 200\ \ \w+\ *\n){2}/mx,
     'list');
is(command('state')->{nginx}, "http://127.0.0.1:$port", 'state');
is(run('notify --kind x'), "kind: one of echo, forged, genuine, probe, stale, "
                           . "wrong-key\n", 'what is wrong is said');


# Who gets at the page.  Each row: what is bent, and the answer's status.

my $own = "http://127.0.0.1:$page";
my @doors = (
    [ 'as the page does it', {}, 200 ],
    [ 'without an origin, as a program', { Origin => undef }, 200 ],
    [ 'localhost', { Host => "localhost:$page",
                     Origin => "http://localhost:$page" }, 200 ],
    [ 'a name that leads here', { Host => "sandbox.example.com:$page",
                                  Origin => undef }, 403 ],
    [ 'another port', { Host => '127.0.0.1:1' }, 403 ],
    [ 'a name with ours in it', { Host => "127.0.0.1:$page.example.com" },
      403 ],
    [ 'another site', { Origin => 'http://example.com' }, 403 ],
    [ 'another of our ports', { Origin => "http://127.0.0.1:$port" }, 403 ],
    [ 'no origin that is told', { Origin => 'null' }, 403 ],
    [ 'as the browser says', { Origin => undef,
                               'Sec-Fetch-Site' => 'cross-site' }, 403 ],
    [ 'of the same site', { Origin => undef,
                            'Sec-Fetch-Site' => 'same-site' }, 403 ],
    [ 'a form', { 'Content-Type' => 'text/plain' }, 415 ],
    [ 'a form, too', { 'Content-Type'
                           => 'application/x-www-form-urlencoded' }, 415 ],
    [ 'no type', { 'Content-Type' => undef }, 415 ],
    [ 'no JSON', {}, 400, '{' ],
    [ 'a list', {}, 400, '[]' ],
    [ 'deep', {}, 400, '{"kind":{"a":1}}' ],
    [ 'large', {}, 413, '{"kind":"' . 'x' x 20_000 . '"}' ],
    [ 'a kind that is none', {}, 400, '{"kind":"x"}' ],
    [ 'a status that is none', {}, 400, '{"status":"PROCESSING"}' ],
    [ 'a version that is none', {}, 400, '{"version":"v4"}' ],
    [ 'v3 only', {}, 400, '{"version":"v2","kind":"probe"}' ],
    [ 'a number that is none', {}, 400, '{"out_refund_no":"a b"}' ],
    [ 'a number that is long', {}, 400,
      '{"out_refund_no":"' . 'x' x 65 . '"}' ],
    [ 'no such notify', {}, 400, '{"n":4711}', '/again' ],
    [ 'nothing', {}, 400, '{}', '/stop' ],
    (map { [ "settings $_", {}, 400, $_, '/settings' ] }
         '{"speed":0}', '{"speed":-1}', '{"speed":"fast"}',
         '{"speed":2,"profile":"x"}', '{"outcome":"x"}', '{"app_status":99}',
         '{"app_delay":1000}'),
    [ 'elsewhere', {}, 404, '{}', '/elsewhere' ],
    [ 'a GET', {}, 405, undef, '/notify', 'GET' ],
);

for (@doors) {
    my ($name, $bent, $status, $body, $path, $method) = @$_;
    my %headers = ('Content-Type' => 'application/json', Origin => $own,
                   Host => "127.0.0.1:$page", %$bent);
    my $before = @{ state()->{notifies} };
    my $response = $client->request(
        $method // 'POST', $path // '/notify',
        [ map { ($_ => $headers{$_}) }
              grep { defined $headers{$_} } sort keys %headers ],
        $method ? undef : $body // '{}');

    is($response->{status}, $status, "the page, $name")
        or diag($response->{body});
    is(@{ state()->{notifies} } - $before, $status == 200 ? 1 : 0,
       'and what comes of it');
    ok(exists $json->decode($response->{body})->{error} || $status == 200,
       'which it says') if $status != 413;
}

is(state()->{settings}{speed}, 1000, 'a wish that is wrong changes nothing');

my $html = $client->request('GET', '/', [ Host => "127.0.0.1:$page" ]);

is($html->{status}, 200, 'the page');
like($html->{headers}{'content-security-policy'},
     qr/^default-src\ 'none';\ .*frame-ancestors\ 'none';.*
        \ script-src\ 'sha256-[\w+\/]{43}='/x, 'nothing else runs in it');
unlike($html->{body}, qr{(?:src|href)="(?!data:)|https?://|\@import},
       'nothing comes from elsewhere');
is($client->request('GET', '/state', [ Host => "example.com" ])->{status}, 403,
   'what it shows is not for others');

# The page in a browser: by its own buttons, wide and as on a phone

my $browser = RefundNotify::Test::Browser->new;
my $heading = 'return document.querySelectorAll("h2")[3].textContent';

for ([ 'en', 1440, 900, 'Notifies' ], [ 'zh', 390, 844, "\x{901a}\x{77e5}" ]) {
    my ($language, $width, $height, $title) = @$_;
    my $name = "$width px, $language";
    my $number = "browser-$width";
    my $card = 'const card = [...document.querySelectorAll("#notifies .card")]'
               . ".find((it) => it.textContent.includes('$number'));";

    $browser->size($width, $height);
    $browser->open("$own/?#$language");
    $browser->wait_for('return document.querySelector("#notifies .card")');
    is($browser->run($heading), $title, "$name: its language");

    # with an app that refuses, and then accepts

    $browser->run(<<"END");
        for (const [name, value] of [['app_status', '503'], ['speed', '1']]) {
            document.getElementById(name).value = value;
            document.getElementById(name).dispatchEvent(new Event('change'));
        }
END
    ok(wait_until(sub { state()->{settings}{app_status} == 503
                        && state()->{settings}{speed} == 1 }, 10),
       "$name: settings are taken");
    $browser->run(<<"END");
        document.getElementById('number').value = '$number';
        document.getElementById('version').value = 'v2';
        document.getElementById('status').value = 'CLOSED';
        document.getElementById('send').click();
END
    ok($browser->wait_for("$card return card && card.querySelector('.wait') "
                          . "&& /\\d (?:s|\x{79d2})/.test(card"
                          . ".querySelector('[data-next]').textContent) && "
                          . "card.textContent.includes('upstream_error')"),
       "$name: a notify is sent, refused, and waits");
    like($browser->run("$card return card.textContent"),
         qr/APIv2 CLOSED.*200 FAIL.*upstream_error/, "$name: and says why");
    wish(settings => app_status => 200);
    $browser->run("$card card.querySelector('button').click()");
    ok($browser->wait_for("$card return card.querySelector('.badge.good')"),
       "$name: sent again, accepted");
    like($browser->run(
             'return document.querySelector("#events .card").textContent'),
         qr/^refund\.closed.*$number/s, "$name: the app got it");
    cmp_ok($browser->run('return document.documentElement.scrollWidth'), '<=',
           $width, "$name: all of it is to be seen");

    # and in the other language, by the button

    $browser->run('document.getElementById("language").click()');
    isnt($browser->run($heading), $title, "$name: the other language");
}

is(join("\n", $browser->console), '', 'the browser has nothing to object');
is(join(' ', grep { /^(?:http|ws)/ && !/^\Q$own\E\// }
                   $browser->requested), '',
   'and asks nobody else');
$browser->stop;


# It ends, and nothing stays; begun again, it is the same merchant.

is(mode($dir), '0700', 'the directory is its user\'s only');
is(join(' ', grep { mode($_) ne '0600' } glob "$dir/*"), '', 'and its files');

for my $signal (qw(TERM INT)) {
    my @all = descendants($pid);

    cmp_ok(scalar @all, '>=', 3, "$signal: there are processes");

    # as a terminal sends Ctrl-C, to all of them

    kill $signal, $signal eq 'INT' ? -$pid : $pid;
    is(stop_process($pid, 0, 20), 0, "$signal: it ends well")
        or diag(read_file($output));
    ok(wait_until(sub { !grep { -e "/proc/$_" } @all }, 10),
       "$signal: and so do all");
    ok(!-e "$dir/page", "$signal: it says so");
    is(run('list'), "no sandbox is running in $dir\n", "$signal: to others");

    if ($signal eq 'TERM') {
        my $app = business_app();

        start('--app', 'http://127.0.0.1:' . $app->port . '/my/refunds');
        is(read_file("$dir/whsec"), $whsec, 'the same key');

        my $sent = wish(notify => version => 'v2');

        is(tried($sent->{n}, 1)->{tries}[0]{result}, 'delivered',
           'an app of one\'s own');
        is(join(' ', map { "$_->{path} $_->{id}" } $app->requests),
           "/my/refunds $sent->{id}", 'gets it');
        like(run('set --app-status 500'), qr/^the app is your own/,
             'and answers as it likes');
    }
}

# What is in its way

start();

my $busy = free_port();
my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
                                   LocalPort => $busy);

like(run("start --port $busy"), qr/^a sandbox is running in \S+ already: /,
     'a second one in its directory');
ok(-e "$dir/page", 'which leaves the first alone');
is(command('state')->{nginx}, "http://127.0.0.1:$port", 'that goes on');
like(scalar qx($root/tools/sandbox.pl start --dir $dir-2 --port @$_ 2>&1),
     qr/\Aport\ $busy\ is\ in\ use:\ make\ sandbox\ PORT=\.\.\.\ PAGE=\.\.\.,
        \ or\ --port\ and\ --page\n\z/x,
     'a port that is taken')
    for [ $busy, '--page', free_port() ], [ free_port(), '--page', $busy ];
is(stop_process($pid, 'TERM', 20), 0, 'it ends');


for ([ 'start --app "http://a b"', qr/^--app: / ],
     [ 'start --app "http://a/;return"', qr/^--app: / ],
     [ 'start --app "ftp://a/"', qr/^--app: / ],
     [ 'start --unknown', qr/^Unknown option/ ],
     [ 'again', qr/^usage: / ], [ 'notify x', qr/^usage: / ],
     [ 'dance', qr/^usage: / ])
{
    like(run($_->[0]), $_->[1], "refused: $_->[0]");
}

done_testing;


sub start {
    my (@options) = @_;

    $output = scratch_dir() . '/output-' . ++$starts;
    $pid = spawn([ 'setsid', "$root/tools/sandbox.pl", 'start', '--dir', $dir,
                   '--port', $port, '--page', $page, @options ],
                 output => $output);

    my $up = wait_until(sub {
        return -1 if waitpid($pid, 1) > 0;
        return read_file($output) =~ /^Ctrl-C ends/m;
    }, 30);

    die "no sandbox:\n", read_file($output) if ($up // 0) != 1;
    return;
}


# The curls of a text, for a shell; those meant for another port as well.

sub curls {
    my ($text, $its) = @_;

    return map { s{:$its/}{:$port/}r =~ s/curl\K/ -sS/r }
               $text =~ /^ *(curl (?:.*\\\n)*.*)$/mg;
}


# What the command line prints, also if it is an error.

sub run {
    my ($command) = @_;

    return scalar qx($root/tools/sandbox.pl $command --dir $dir 2>&1);
}


sub command {
    my ($command) = @_;

    my $text = run($command);

    return eval { $json->decode($text) } // die "$command: $text";
}


# What the page asks for.

sub wish {
    my ($path, %wish) = @_;

    my $response = $client->request('POST', "/$path",
                                    [ 'Content-Type' => 'application/json' ],
                                    $json->encode(\%wish), timeout => 30);

    $response->{status} == 200
        or die "$path: $response->{status} $response->{body}\n";
    return $json->decode($response->{body});
}


sub state {
    my $response = $client->request('GET', '/state');

    return $json->decode($response->{body});
}


sub notify {
    my ($n) = @_;

    return (grep { $_->{n} == $n } @{ state()->{notifies} })[0];
}


# Once it was tried so often, and nginx has logged it.

sub tried {
    my ($n, $tries) = @_;

    return wait_until(sub {
        my $notify = notify($n);
        my @done = grep { defined $_->{result} && defined $_->{status} }
                        @{ $notify->{tries} };

        return @done >= $tries ? $notify : 0;
    }, 15) // die "notify $n: not $tries tries\n";
}


sub mode { return sprintf '%04o', (stat $_[0])[2] & 07777 }


sub descendants {
    my ($of) = @_;

    my @own = map { read_file($_) =~ /^(\d+) \(.*\) (?!Z)\S (\d+) /s
                    && $2 == $of ? $1 : () } glob '/proc/[0-9]*/stat';

    return (@own, map { descendants($_) } @own);
}
