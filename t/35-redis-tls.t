#!/usr/bin/perl

# TLS to Redis: whose certificate is taken and whose is refused, and why; client
# certificates; users of the ACL; servers that do not speak TLS, or stop in the
# midst of it; and what nginx -t says of the files.

use lib 't/lib';
use RefundNotify::Test;

use RefundNotify::Test::Cluster;
use RefundNotify::Test::Sentinel;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(read_file write_file);
use Time::HiRes qw(sleep time);

plan(skip_all => 'the module was built with a hiredis that has no TLS')
    if !RefundNotify::Test::Nginx::has_tls_to_redis();

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 2048;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$refund_notify_result|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

%%STORES%%

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_deadline 30s;
        refund_notify_lease    10s;

        location = /plain {
            return 200 plain;
        }

%%LOCATIONS%%

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $dir = scratch_dir();
my $day = 86400;

# Certificates and their keys; those of "other" are of an authority of its own.

my $serial = 10;

sub pem {
    my ($name, $authority, %option) = @_;

    my $key = rsa_key($name);
    my $cert = certificate($key, serial => sprintf('%02x', $serial++),
                           name => $name,
                           $authority ? (issuer => rsa_key($authority),
                                         issuer_name => $authority) : (),
                           %option);

    write_file("$dir/$name.key", $key->export_key_pem('private'), 0600);
    write_file("$dir/$name.pem", $cert);
    return;
}

pem('ca', undef, authority => 1);
pem('other', undef, authority => 1);
pem('server', 'ca', hosts => [ 'localhost', 'redis.example.com',
                               '127.0.0.1' ]);
pem('elsewhere', 'ca', hosts => [ 'redis.example.org', '127.0.0.2' ]);
pem('wildcard', 'ca', hosts => [ 'lo*.example.com', '*.example.net' ]);
pem('expired', 'ca', hosts => [ 'localhost' ], from => time - 30 * $day,
    to => time - $day);
pem('tomorrow', 'ca', hosts => [ 'localhost' ], from => time + $day);
pem('stranger', 'other', hosts => [ 'localhost' ]);
pem('selfsigned', undef, hosts => [ 'localhost' ]);
pem('client', 'ca');
pem('foreign', 'other');
pem('old', 'ca', from => time - 30 * $day, to => time - $day);
pem('soon', 'ca', to => time + 5 * $day);
pem('oldca', undef, authority => 1, from => time - 30 * $day,
    to => time - $day);

my %passwords = (edge => 'edge-7hRz3mYp5N', mute => 'mute-Sa2kQe8uWi',
                 wrong => 'wrong-Xc4bD6fGj1');

write_file("$dir/$_.password", "$passwords{$_}\n", 0600) for keys %passwords;

my $plain = redis();
my $peer = scripted_redis();
my %servers = map {
    my ($cert, $clients) = @$_;

    ($clients ? 'strict' : $cert) => redis(
        tls => { cert => "$dir/$cert.pem", key => "$dir/$cert.key",
                 ca => "$dir/ca.pem", clients => $clients },
        config => [ "user edge on >$passwords{edge} ~t:* +get +set +eval "
                    . '+pttl +ping',
                    "user mute on >$passwords{mute} ~t:* +get +ping" ])
} [ 'server' ], [ 'server', 1 ], map { [ $_ ] } qw(
    elsewhere wildcard expired tomorrow stranger selfsigned);

my %tls = (cert => "$dir/server.pem", key => "$dir/server.key",
           ca => "$dir/ca.pem");
my $sentinel = RefundNotify::Test::Sentinel->new(tls => { %tls });
my $cluster = RefundNotify::Test::Cluster->new(tls => { %tls }, masters => 3,
                                               replicas => 0);

my $CA = 'ca=%%SCRATCH%%/ca.pem';
my $REFUSED = 'the certificate of Redis was refused';
my $FAILED = 'TLS with Redis failed';
my $STRANGE = qr/unable to get local issuer certificate|in certificate chain/;
my $BROKE = 'the connection to Redis broke';
my $ALERT = qr/^(?:$FAILED|$BROKE)$/;    # a reset may overtake the alert
my $SLOW = 'connecting to Redis took too long';

# Stores: host, server, parameters; what becomes of a notify, and why not: the
# reason, and what the log says in brackets.

my @stores = (
    [ 'a name', 'localhost', 'server', $CA, 'delivered' ],
    [ 'an address', '127.0.0.1', 'server', $CA, 'delivered' ],
    [ 'another name', '127.0.0.1', 'server',
      "$CA server_name=redis.example.com", 'delivered' ],
    [ 'a wildcard', '127.0.0.1', 'wildcard',
      "$CA server_name=redis.example.net", 'delivered' ],
    [ 'a client certificate', 'localhost', 'strict',
      "$CA cert=%%SCRATCH%%/client.pem key=%%SCRATCH%%/client.key",
      'delivered' ],
    [ 'one that nobody asks for', 'localhost', 'server',
      "$CA cert=%%SCRATCH%%/client.pem key=%%SCRATCH%%/client.key",
      'delivered' ],
    [ 'a user', 'localhost', 'server',
      "$CA user=edge password_file=%%SCRATCH%%/edge.password", 'delivered' ],

    [ 'a wrong authority', 'localhost', 'server', 'ca=%%SCRATCH%%/other.pem',
      'store_error', $REFUSED, $STRANGE ],
    [ "this system's authorities", 'localhost', 'server', '', 'store_error',
      $REFUSED, $STRANGE ],
    [ "another authority's", 'localhost', 'stranger', $CA, 'store_error',
      $REFUSED, $STRANGE ],
    [ 'self-signed', 'localhost', 'selfsigned', $CA, 'store_error', $REFUSED,
      qr/self-signed certificate/ ],
    [ 'a wrong name', 'localhost', 'elsewhere', $CA, 'store_error', $REFUSED,
      qr/hostname mismatch/ ],
    [ 'a wrong address', '127.0.0.1', 'elsewhere', $CA, 'store_error',
      $REFUSED, qr/IP address mismatch/ ],
    [ 'a wrong server_name', 'localhost', 'server',
      "$CA server_name=redis.example.org", 'store_error', $REFUSED,
      qr/hostname mismatch/ ],
    [ 'a part of a wildcard', '127.0.0.1', 'wildcard',
      "$CA server_name=local.example.com", 'store_error', $REFUSED,
      qr/hostname mismatch/ ],
    [ 'expired', 'localhost', 'expired', $CA, 'store_error', $REFUSED,
      qr/certificate has expired/ ],
    [ 'not valid yet', 'localhost', 'tomorrow', $CA, 'store_error', $REFUSED,
      qr/certificate is not yet valid/ ],

    [ 'no client certificate', 'localhost', 'strict', $CA, 'store_error',
      $ALERT, qr/certificate required|reset by peer|Broken pipe/ ],
    [ "another authority's client", 'localhost', 'strict',
      "$CA cert=%%SCRATCH%%/foreign.pem key=%%SCRATCH%%/foreign.key",
      'store_error', $ALERT, qr/unknown ca|reset by peer|Broken pipe/ ],
    [ 'a wrong password', 'localhost', 'server',
      "$CA user=edge password_file=%%SCRATCH%%/wrong.password",
      'store_error', 'Redis refused the user name or password' ],
    [ 'a user without the rights', 'localhost', 'server',
      "$CA user=mute password_file=%%SCRATCH%%/mute.password",
      'store_error', 'the Redis user lacks a permission' ],
    [ 'a port without TLS', 'localhost', 'plain', $CA, 'store_error',
      qr/^(?:$SLOW|$FAILED|Redis closed the connection)$/ ],
);

my (@lines, @locations);
my $n = 0;

for (@stores) {
    my (undef, $host, $server, $parameters) = @$_;
    my $port = $server eq 'plain' ? $plain->port
                                  : $servers{$server}->tls_port;

    $n++;
    push @lines, "    refund_store s$n rediss://$host:$port prefix=t: "
                 . "timeout=2s $parameters;";
}

push @lines, "    refund_store peer rediss://127.0.0.1:@{[$peer->port]} "
             . "timeout=500ms $CA;";

push @lines, map { "    refund_store $_->[0] $_->[1] prefix=t: timeout=2s "
                   . "$_->[2];" }
                 [ sentinel => $sentinel->url, $CA ],
                 [ cluster => $cluster->url, $CA ],
                 [ othersentinel => $sentinel->url,
                   'ca=%%SCRATCH%%/other.pem' ],
                 [ othercluster => $cluster->url,
                   'ca=%%SCRATCH%%/other.pem' ];

my @several = qw(sentinel cluster othersentinel othercluster);

for my $store ((map { "s$_" } 1 .. @stores), 'peer', @several) {
    push @locations, <<"END";
        location = /$store {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store $store;
        }
END
}

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my %vars = (APP => $app->port, SCRATCH => $dir, STORES => join("\n", @lines),
            LOCATIONS => join("\n", @locations));

$conf = with_merchants($conf, $shop);
$peer->accepting('hang');

my $nginx = nginx($conf, vars => { %vars });
my $count = 0;


sub answers {
    my ($name, $path, $notify, $result, $reason) = @_;

    my $response = client($nginx)->post("$path?n=" . ++$count,
                                        $pay->resend($shop, $notify));
    my ($got, $why) = split /\|/, $nginx->logged($count), -1;

    is($got, $result, $name);
    like($why, ref $reason ? $reason : qr/^\Q$reason\E$/, "$name: why")
        if defined $reason;

    return $response;
}


# who is taken, and who is refused with the reason in the log

$n = 0;

for (@stores) {
    my ($name, undef, $server, undef, $result, $reason, $detail) = @$_;
    my $notify = $n++ % 2 ? $pay->v2_notify($shop) : $pay->v3_notify($shop);

    $app->forget;
    answers($name, "/s$n", $notify, $result, $reason);

    if ($result eq 'delivered') {
        like($servers{$server}->command('GET',
                                        "t:{$notify->{event_id}}orders"),
             qr/^D \d+$/, "$name: its record");
        next;
    }

    is(scalar(() = $app->requests), 0, "$name: nothing is delivered");

    my ($logged) = $nginx->error_log
                   =~ /\[error\].*refund_store\ "s$n"(?:\ is\ down)?:\ (.*)/x;

    like($logged // '', qr/\(.*(?:$detail)\)$/, "$name: the reason in the log")
        if $detail;
}

# what was refused got no command, and no password

for my $server (qw(elsewhere expired tomorrow stranger selfsigned)) {
    is($servers{$server}->command('INFO', 'commandstats')
       =~ s/^cmdstat_(?:info|ping):.*\n|^#.*\n//mgr =~ s/\s//gr, '',
       "$server: was sent no command");
}


# servers that stop in the midst of the handshake; the worker goes on

for my $how (qw(hang close reset)) {
    $peer->accepting($how);
    $peer->drop;

    my $start = time;
    my $response = answers("a server that does $how", '/peer',
                           $pay->v3_notify($shop), 'store_error');

    cmp_ok(time - $start, '<', 0.5 + slow(1.5), "... in time");
    is(client($nginx)->request('GET', '/plain')->{body}, 'plain',
       '... and the worker answers');
}


# a server that goes and comes again; and many commands at once

{
    my $server = $servers{server};
    my @notifies = map { $pay->v3_notify($shop) } 1 .. 200;

    $server->kill;
    answers('killed', '/s1', $pay->v3_notify($shop), 'store_error');
    $server->restart;
    answers('restarted', '/s1', $pay->v3_notify($shop), 'delivered');

    my @answers = map { $pay->answer($notifies[0], $_) }
        client($nginx)->parallel([ map {
            [ 'POST', '/s1', $_->{headers}, $_->{body} ]
        } @notifies ]);

    is(scalar(grep { $_ eq 'SUCCESS' } @answers), 200, '200 at once');

    $server->pause;
    answers('stopped', '/s1', $pay->v3_notify($shop), 'store_error',
            'Redis did not answer in time');
    $server->resume;
    answers('resumed', '/s1', $pay->v3_notify($shop), 'delivered');
}


# the same of sentinels and the master that they name, and of a cluster

{
    for my $n (1 .. 10) {
        answers("$_, $n", "/$_", $pay->v3_notify($shop), 'delivered')
            for qw(sentinel cluster);
    }

    for (qw(othersentinel othercluster)) {
        answers($_, "/$_", $pay->v3_notify($shop), 'store_error');
        like($nginx->error_log,
             qr/\[error\].*"$_".*\Q$REFUSED\E \(.*$STRANGE/,
             "$_: in the log");
    }

    my ($first) = $sentinel->sentinels;

    $sentinel->watch;
    $first->command('SENTINEL', 'FAILOVER', 'mymaster');
    ok($sentinel->switched(20), 'the sentinels fail over');
    ok(wait_until(sub {
        my $notify = $pay->v3_notify($shop);
        $pay->answer($notify, client($nginx)->post('/sentinel', $notify))
            eq 'SUCCESS';
    }, 10), '... and the new master is spoken to');
}


# what nginx -t says of the files

write_file("$dir/empty.pem", '');
write_file("$dir/text.pem", "no certificate\n");
write_file("$dir/open.key", read_file("$dir/client.key"), 0644);

my @pair = ('cert=%%SCRATCH%%/client.pem', 'key=%%SCRATCH%%/client.key');
my @configurations = (
    [ "$CA @pair", 0, qr/successful/ ],
    [ 'ca=%%SCRATCH%%/nowhere.pem', 1,
      qr/stat\(\) ".*nowhere.pem" failed.*No such file/ ],
    [ 'ca=%%SCRATCH%%', 1, qr/is not a regular file/ ],
    [ 'ca=%%SCRATCH%%/text.pem', 1,
      qr/"ca=.*text.pem" in refund_store "s": the file holds no cert/ ],
    [ 'ca=%%SCRATCH%%/oldca.pem', 0,
      qr/\[warn\].*"[^"]*oldca.pem" expired 1 days ago/ ],
    [ $pair[0], 1, qr/has only one of "cert=" and "key="/ ],
    [ $pair[1], 1, qr/has only one of "cert=" and "key="/ ],
    [ "cert=%%SCRATCH%%/text.pem $pair[1]", 1,
      qr/"cert=.*text.pem" in refund_store "s": the file holds no cert/ ],
    [ "cert=%%SCRATCH%%/empty.pem $pair[1]", 1, qr/empty.pem" is empty/ ],
    [ "cert=%%SCRATCH%%/old.pem key=%%SCRATCH%%/old.key", 1,
      qr/\[emerg\].*old.pem" expired 1 days ago: put a new one/ ],
    [ "cert=%%SCRATCH%%/soon.pem key=%%SCRATCH%%/soon.key", 0,
      qr/\[warn\].*soon.pem" expires in 4 days: renew it/ ],
    [ "$pair[0] key=%%SCRATCH%%/foreign.key", 1,
      qr/"key=.*foreign.key".*: the file is not the key of the certificate/ ],
    [ "$pair[0] key=%%SCRATCH%%/text.pem", 1,
      qr/"key=.*text.pem".*: the file holds no private key in PEM/ ],
    [ "$pair[0] key=%%SCRATCH%%/open.key", 0,
      qr/\[warn\] secret file ".*open.key" can be read by every user/ ],
    [ 'server_name=' . 'x' x 254, 1, qr/is longer than 253 characters/ ],
    [ 'unix', 1, qr/asks for TLS on a Unix socket.*use "redis:/ ],
);

for (@configurations) {
    my ($parameters, $code, $message) = @$_;
    my $host = $parameters eq 'unix' ? 'unix:/tmp/s' : '127.0.0.1';

    $parameters = '' if $parameters eq 'unix';

    my ($status, $output) = $nginx->config_test(<<"END");
%%GLOBALS%%
events { }
http {
    refund_store s rediss://$host $parameters;
}
END
    is(!!$status, !!$code, "nginx -t: $parameters");
    like($output, $message, "nginx -t: $parameters: what it says");
    like($output, qr/ in \S+test.conf:\d+$/m, "nginx -t: $parameters: where") if $code;
}

no_secrets($nginx, $pay->secrets($shop), values %passwords);

done_testing;
