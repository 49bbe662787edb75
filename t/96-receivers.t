#!/usr/bin/perl

# The receivers under examples/, each as an app runs it: what they take, what
# they refuse, and that a repeat is booked once; by requests made here, and by
# nginx.  Node's and Python's run wherever the tests do, the others where their
# language is there.

use lib 't/lib';
use RefundNotify::Test;

use Cwd qw(abs_path);
use Digest::SHA qw(hmac_sha256);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use IO::Socket::INET;
use JSON::XS ();
use MIME::Base64 qw(decode_base64 encode_base64);
use RefundNotify::Test::Util qw(free_port read_file spawn stop_process);

my $root = abs_path(dirname(__FILE__) . '/..');
my $scratch = scratch_dir();
my $json = JSON::XS->new->utf8->canonical;

# a key that the app knows, another one (it knows two while they change), and a
# stranger's

my %secret = map { $_ => 'whsec_' . encode_base64($_ x 4, '') }
                 qw(first_ second stranger);

# Each receiver: what starts it, and what it needs that may not be there.

my $node = "$scratch/node";
my @receivers = (
    { name => 'node', command => [ 'node', 'receiver.js' ], cwd => $node,
      ready => \&npm },
    { name => 'python', command => [ '/usr/bin/python3', 'receiver.py' ],
      database => 1 },
    { name => 'php', database => 1,
      command => [ 'php', '-S', '127.0.0.1:%PORT%', 'receiver.php' ],
      env => { PHP_CLI_SERVER_WORKERS => 4 },
      ready => sub { qx(php -m 2>&1) =~ /^pdo_sqlite$/m
                     ? undef : 'no pdo_sqlite' } },
    { name => 'java', command => [ 'java', 'Receiver.java' ],
      ready => sub { program('javac') ? undef : 'no javac' } },
    { name => 'go', command => [ 'go', 'run', 'receiver.go' ] },
);

my @rows = (
    # name => status, new events, how the request is bent

    [ 'genuine', 200, 1 ],
    [ 'the same again', 200, 0, again => 1 ],
    [ 'and again, sent later', 200, 0, again => 1, at => 2 ],
    [ 'another one', 200, 1 ],
    [ 'signed with the other key', 200, 1, keys => [ 'second' ] ],
    [ 'two signatures, the first of a key unknown', 200, 1,
      keys => [ 'stranger', 'first_' ] ],
    [ 'and the second', 200, 1, keys => [ 'first_', 'stranger' ] ],
    [ 'a signature of another kind before it', 200, 1,
      signature => sub { "v1a,AAAA $_[0]" } ],
    [ 'nearly too old', 200, 1, at => -240 ],

    [ 'forged', 401, 0, keys => [ 'stranger' ] ],
    [ 'forged, twice', 401, 0, keys => [ 'stranger', 'stranger' ] ],
    [ 'stale', 401, 0, at => -600 ],
    [ 'from the future', 401, 0, at => 600 ],
    [ 'another body', 401, 0,
      body => sub { $_[0] =~ s/"refund":999/"refund":9999/r } ],
    [ 'a body that is longer', 401, 0, body => sub { "$_[0] " } ],
    [ 'another id', 401, 0, header => { 'webhook-id' => 'x' } ],
    [ 'another time', 401, 0, header => { 'webhook-timestamp' => time - 1 } ],
    [ 'a time that is none', 401, 0,
      header => { 'webhook-timestamp' => 'now' } ],
    [ 'a time of 400 digits', 401, 0,
      header => { 'webhook-timestamp' => '9' x 400 } ],
    [ 'no id', 401, 0, header => { 'webhook-id' => undef } ],
    [ 'no time', 401, 0, header => { 'webhook-timestamp' => undef } ],
    [ 'no signature', 401, 0, signature => sub { undef } ],
    [ 'an empty one', 401, 0, signature => sub { '' } ],
    [ 'nothing in it', 401, 0, signature => sub { 'v1,' } ],
    [ 'no version', 401, 0, signature => sub { $_[0] =~ s/^v1,//r } ],
    [ 'another version', 401, 0, signature => sub { $_[0] =~ s/^v1/v2/r } ],
    [ 'cut short', 401, 0, signature => sub { substr $_[0], 0, 20 } ],
    [ 'a byte of it', 401, 0, signature => sub {
          $_[0] =~ s/^v1,\K(.)/$1 eq 'A' ? 'B' : 'A'/er } ],
);

my $pay = wechatpay();
my $shop = $pay->merchant;
my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_signing_key_file %%DIR%%/stranger;
        refund_notify_signing_key_file %%DIR%%/second;

        # two targets' names take the same event as two

        location /once/ {
            refund_notify shop;
            refund_notify_pass /internal/refunds$uri name=once;
            refund_notify_ack code;
        }

        location /again/ {
            refund_notify shop;
            refund_notify_pass /internal/refunds$uri name=again;
            refund_notify_ack code;
        }

        location ~ ^/internal/refunds/\w+/(\d+)$ {
            internal;
            proxy_pass http://127.0.0.1:$1;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $nginx = nginx(with_merchants($conf, $shop),
                  files => { map { $_ => $secret{$_} } keys %secret });
my $client = client($nginx);

for my $receiver (@receivers) {
    my $name = $receiver->{name};

    SKIP: {
        my $program = $receiver->{command}[0];
        my $missing = program($program) ? undef : "$program is not there";

        $missing //= $receiver->{ready}->() if $receiver->{ready};
        skip "$name: $missing", 1 if defined $missing;

        receives($receiver);
    }
}

done_testing;


sub program {
    my ($name) = @_;

    return grep { -x } $name =~ m{/} ? $name
                                     : map { "$_/$name" } split /:/, $ENV{PATH};
}


# What npm installs goes into a copy, by its lock file.  Without a network there
# is nothing to test.

sub npm {
    return 'npm is not there' if !program('npm');

    mkdir $node or die "$node: $!\n";
    copy("$root/examples/node/$_", "$node/$_") or die "$_: $!\n"
        for qw(receiver.js package.json package-lock.json .npmrc);

    my $output = "$scratch/npm";
    my $status = stop_process(
        spawn([ 'npm', 'ci', '--omit=dev', '--ignore-scripts', '--no-audit',
                '--no-fund', '--prefer-offline', '--fetch-retries=1' ],
              output => $output, cwd => $node), 0, 60);

    return if defined $status && $status == 0;
    return "no network for npm"
        if !defined $status
           || read_file($output) =~ /\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED
                                       |ECONNRESET|ENETUNREACH|ETIMEDOUT)\b/x;

    fail('npm ci');
    diag(read_file($output));
    return 'npm failed';
}


sub receives {
    my ($receiver) = @_;

    my $name = $receiver->{name};
    my $port = free_port();
    my $events = "$scratch/$name-events";
    my $log = "$scratch/$name.log";
    my $pid = spawn(
        [ map { s/%PORT%/$port/r } @{ $receiver->{command} } ],
        cwd => $receiver->{cwd} // "$root/examples/$name", output => $log,
        env => { %{ $receiver->{env} || {} },
                 WEBHOOK_SECRETS => "$secret{first_}\n $secret{second}\n",
                 PORT => $port, EVENTS => $events,
                 DATABASE => $name eq 'php' ? "sqlite:$events" : $events });
    my $stored = sub { $receiver->{database} ? booked($events)
                                             : files($events) };

    my $up = wait_until(sub {
        return 1 if IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                          PeerPort => $port);
        return waitpid($pid, 1) ? -1 : 0;
    }, 60) // 0;

    if ($up != 1) {
        fail("$name starts");
        diag(read_file($log));
        return;
    }

    my $app = RefundNotify::Test::Client->new(port => $port);
    my ($count, $request) = (0);

    for (@rows) {
        my ($row, $status, $new, %bend) = @$_;

        $request = request(%bend, n => $count) if !$bend{again};
        $request = { %$request, at => $bend{at} // 0 };

        my $response = $app->request('POST', '/refunds', signed($request),
                                     body($request));

        is($response->{status}, $status, "$name: $row")
            or diag(substr read_file($log), -1000);
        is($response->{body}, $status == 200 ? '{"code":"SUCCESS"}'
                                             : '{"code":"FAIL"}',
           "$name: $row: what it says");

        $count += $new;
    }

    is($stored->(), $count, "$name: each booked once");

    # what no HTTP server takes: an answer, if any, and no exception of ours

    for my $length ('x', '-1', '1e3', '9' x 400) {
        my $response = $app->request('POST', '/refunds',
                                     [ 'Content-Length' => $length ], '{}');

        like($response->{status}, qr/^(?:0|400|411|413)$/,
             "$name: a Content-Length that is none");
    }

    unlike(read_file($log), qr/Traceback|Exception|panic/,
           "$name: without an exception");

    # the same ten times at once

    $request = request(n => $count++);

    my @responses = $app->parallel([ map {
        [ 'POST', '/refunds', [ @{ signed($request) },
                                Connection => 'close' ], body($request) ]
    } 1 .. 10 ]);

    is(join(' ', map { $_->{status} } @responses), join(' ', (200) x 10),
       "$name: the same ten times at once");
    is($stored->(), $count, "$name: booked once");

    # from nginx, which signs with two keys, and delivers each event twice

    for my $version (qw(v2 v3)) {
        my $method = "${version}_notify";
        my $notify = $pay->$method($shop);

        for my $times (qw(once again)) {
            my $response = $client->post("/$times/$port",
                                         $pay->resend($shop, $notify));

            is($pay->answer($notify, $response), 'SUCCESS',
               "$name: from nginx, $version, $times");
        }

        is($stored->(), ++$count, "$name: booked once");
    }

    unlike(read_file($log), qr/whsec_|\Q@{[ substr $secret{first_}, 6 ]}\E/,
           "$name: no key in its log");
    kill 'TERM', children($pid);
    stop_process($pid, 'TERM');
    return;
}


# go run starts what it built

sub children {
    my ($pid) = @_;

    return map { read_file($_) =~ /^(\d+) \(.*\) \S (\d+) /s && $2 == $pid
                 ? $1 : () } glob '/proc/[0-9]*/stat';
}


sub request {
    my (%bend) = @_;

    my $number = "5030040894$bend{n}";
    my $id = "wechatpay:1900000109:$number:SUCCESS";

    return { id => $id, body => $json->encode({
        type => 'refund.succeeded', timestamp => '2018-06-08T10:34:56+08:00',
        id => $id, provider => 'wechatpay', api_version => 'v3',
        merchant => 'shop', data => {
            mch_id => '1900000109', transaction_id => '42',
            out_trade_no => '71', refund_id => $number,
            out_refund_no => "1318$bend{n}", status => 'SUCCESS',
            amount => { total => 999, refund => 999 } },
    }), bend => \%bend };
}


sub body {
    my ($request) = @_;

    my $bend = $request->{bend}{body};

    return $bend ? $bend->($request->{body}) : $request->{body};
}


# The headers: signed as Standard Webhooks has it, and then bent.

sub signed {
    my ($request) = @_;

    my $bend = $request->{bend};
    my $time = time + ($request->{at} || 0);
    my $signature = join ' ', map {
        'v1,' . encode_base64(hmac_sha256(
            "$request->{id}.$time.$request->{body}",
            decode_base64($secret{$_} =~ s/^whsec_//r)), '')
    } @{ $bend->{keys} || [ 'first_' ] };

    $signature = $bend->{signature}->($signature) if $bend->{signature};

    my %headers = ('webhook-id' => $request->{id}, 'webhook-timestamp' => $time,
                   'webhook-signature' => $signature,
                   'Content-Type' => 'application/json',
                   %{ $bend->{header} || {} });

    return [ map { ($_ => $headers{$_}) }
                 grep { defined $headers{$_} } sort keys %headers ];
}


sub files {
    my ($dir) = @_;

    opendir my $handle, $dir or return 0;
    return scalar grep { !/^\./ } readdir $handle;
}


sub booked {
    my ($database) = @_;

    my $program = 'import sqlite3, sys; '
                  . 'print(sqlite3.connect(sys.argv[1]).execute('
                  . '"SELECT count(*) FROM booking").fetchone()[0])';

    chomp(my $count = qx(/usr/bin/python3 -I -c '$program' $database));
    return $count;
}
