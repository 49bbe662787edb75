#!/usr/bin/perl

# Whole requests, changed at random: bytes, tokens, headers, bodies and their
# lengths, pipelined, over keepalive, until 10,000 are answered, and for
# WHOLE_SECONDS at least.  The worker that took the first takes the last;
# what the business app got is what it gets of the genuine notifies, to the
# byte, and each of them once.  A run repeats from WHOLE_SEED, but for the keys,
# the time, and in which order the sockets are served.

use lib 't/lib';
use RefundNotify::Test;

use IO::Select;
use RefundNotify::Test::Certificate qw(rsa_key);
use Time::HiRes qw(time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    # what is incomplete is not waited for

    client_header_timeout 300ms;
    client_body_timeout   300ms;
    lingering_close       off;
    keepalive_timeout     1s;
    keepalive_requests    1000000;

    client_body_buffer_size 1k;

    access_log off;

    %%MERCHANTS%%

    refund_store local shm:10m;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /notify {
            refund_notify            shop;
            refund_notify_pass       /internal/refunds name=orders;
            refund_notify_store      local;
            refund_notify_clock_skew 1h;
        }

        location = /status {
            refund_status;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $ENOUGH = 10_000;
my $AT_ONCE = 24;
my $IN_A_ROW = 12;

my $seconds = $ENV{WHOLE_SECONDS} // 0;
my $seed = $ENV{WHOLE_SEED} // 27;

note "WHOLE_SEED=$seed";
srand $seed;

my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx88888888' ]);
my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop), vars => { APP => $app->port });
my $client = client($nginx);

my @genuine = map { ($pay->v2_notify($shop, -status => $_),
                     $pay->v3_notify($shop, -status => $_)) }
                  qw(SUCCESS ABNORMAL CLOSED SUCCESS SUCCESS SUCCESS);

# of others, in the same form: none of these may get through

my $stranger = $pay->merchant(%$shop, v2_key => [ 'x' x 32 ],
                              v3_key => [ 'y' x 32 ]);
my @foreign = ($pay->v2_notify($stranger), $pay->v3_notify($stranger),
               $pay->v3_notify($shop, -signing_key => rsa_key('a stranger')));

my @tokens = (
    "\r\n", "\n", "\r", "\0", ' ', "\t", ':', '=', '&', '%00', '%2f', '..',
    'chunked', 'Transfer-Encoding: chunked', 'Content-Length: 0',
    'Content-Length: 99999', 'Expect: 100-continue', 'Connection: close',
    'Connection: upgrade', 'Host: a', 'HTTP/1.0', 'HTTP/1.1', 'HTTP/2.0',
    'GET ', 'POST ', 'HEAD ', 'PUT ', '/notify', '/status', '?ready',
    'Wechatpay-Timestamp: ', 'Wechatpay-Nonce: ', 'Wechatpay-Serial: ',
    'Wechatpay-Signature: ', 'WECHATPAY/SIGNTEST/', 'Refund-Attempt: 1',
    'Webhook-Id: x', 'traceparent: 00-', '<xml>', '</xml>', '<root>',
    '<![CDATA[', ']]>', '<!DOCTYPE a [', '<!ENTITY x SYSTEM "/etc/passwd">',
    '<!--', '-->', '<?xml ', '&lt;', '&#0;', 'mch_id', 'req_info', 'SUCCESS',
    '{', '}', '[', ']', '"', '\\u0000', '\\ud800', 'null', '1e999',
    '"resource":', '"ciphertext":', '"event_type":', 'REFUND.SUCCESS',
    'A' x 300, "\xff\xfe", "\xe4\xb8\xad", '0' x 40,
);

my ($worker) = $nginx->workers;
my ($answered, $sent, $taken) = (0, 0, 0);
my %open;
my $select = IO::Select->new;
my $begun = time;

while ($answered < $ENOUGH || time - $begun < $seconds || %open) {

    while (keys %open < $AT_ONCE
           && ($answered < $ENOUGH || time - $begun < $seconds))
    {
        begin();
    }

    for my $socket ($select->can_read(5)) {
        take($open{ fileno $socket });
    }
}

note sprintf '%d sent, %d answered, %d of them SUCCESS, in %.1f s', $sent,
             $answered, $taken, time - $begun;

cmp_ok($sent, '>=', $ENOUGH, 'enough were sent');
cmp_ok($taken, '>', 0, 'some of them were still genuine');
is(join(' ', $nginx->workers), $worker, 'the worker is the same');

# the genuine ones as they are: once, now or before

for my $notify (@genuine) {
    my $answer = $client->post('/notify', $pay->resend($shop, $notify));

    is($pay->answer($notify, $answer), 'SUCCESS',
       "$notify->{event_id} is accepted");
}

my %got;

$app->settle;
push @{ $got{ $_->{id} // '' } }, $_ for $app->requests;

for my $notify (@genuine) {
    my @requests = @{ delete $got{ $notify->{event_id} } || [] };

    is(scalar @requests, 1, "$notify->{event_id} was delivered once");
    is(without_time($requests[0]{body}), without_time(expected($notify)),
       'to the byte');
}

is(join(' ', sort keys %got), '', 'and nothing else was delivered');
no_secrets($nginx, $pay->secrets($shop));
done_testing();


# What the business app gets of a notify, by an nginx of its own.

sub expected {
    my ($notify) = @_;

    our ($other, $other_app);

    $other_app //= business_app();
    $other //= nginx(with_merchants($conf, $shop),
                     vars => { APP => $other_app->port });

    client($other)->post('/notify', $pay->resend($shop, $notify));

    my ($request) = grep { $_->{id} eq $notify->{event_id} }
                         $other_app->requests;
    return $request->{body};
}


# v2 has a time of its own only where the refund succeeded.

sub without_time {
    my ($body) = @_;

    return $body // 'nothing'
        if ($body // '') !~ /"api_version":"v2"/ || $body =~ /"SUCCESS"/;
    return $body =~ s/"timestamp":"[^"]*"//r;
}


# A connection with some requests in a row, of which the last is the wildest:
# where its end is, nginx may see otherwise than we.

sub begin {
    my $connection = $client->connect;
    my $socket = $connection->{socket} or die "connect: $connection->{error}\n";
    my $n = 1 + int rand $IN_A_ROW;
    my $bytes = join '', map { framed(any()) } 2 .. $n;

    $bytes .= rand() < 0.5 ? changed(framed(any()), 1 + int rand 4)
                           : framed(any());
    $bytes .= "GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    $sent += $n + 1;

    $open{ fileno $socket } = { socket => $socket, out => $bytes, in => '',
                                since => time };
    $select->add($socket);
    give($open{ fileno $socket });
    return;
}


sub give {
    my ($connection) = @_;

    return if !length $connection->{out};

    my $n = syswrite $connection->{socket}, $connection->{out};

    substr $connection->{out}, 0, $n, '' if $n;
    return;
}


sub take {
    my ($connection) = @_;

    give($connection);

    my $n = sysread $connection->{socket}, $connection->{in}, 65536,
                    length $connection->{in};

    return if !defined $n && $!{EAGAIN} || $n;

    $answered += () = $connection->{in} =~ /HTTP\/1\.1 [2-5]\d\d /g;
    $taken += () = $connection->{in} =~ /\[SUCCESS\]|"code":"SUCCESS"/g;

    delete $open{ fileno $connection->{socket} };
    $select->remove($connection->{socket});
    close $connection->{socket};
    return;
}


sub any {
    my $notify = rand() < 0.8 ? $genuine[rand @genuine]
                              : $foreign[rand @foreign];
    my ($body, @headers) = ($notify->{body}, @{ $notify->{headers} });
    my $kind = rand;

    if ($kind < 0.45) {
        $body = changed($body, 1 + int rand 3);

    } elsif ($kind < 0.7) {

        # a header's value, or one twice, or one less, or of another notify

        my $i = 2 * int rand @headers / 2;
        my $how = rand;

        if ($how < 0.5) {
            $headers[$i + 1] = changed($headers[$i + 1], 1) =~ s/[\r\n\0]//gr;

        } elsif ($how < 0.7) {
            push @headers, @headers[$i, $i + 1];

        } elsif ($how < 0.9) {
            splice @headers, $i, 2;

        } else {
            @headers = @{ $genuine[rand @genuine]{headers} };
        }

    } elsif ($kind < 0.9) {
        $body = spliced($body, $genuine[rand @genuine]{body});
    }

    return { headers => \@headers, body => $body };
}


# As one request, with its own length, or in chunks.

sub framed {
    my ($request) = @_;

    my @headers = @{ $request->{headers} };
    my $text = "POST /notify HTTP/1.1\r\nHost: localhost\r\n";

    while (my ($name, $value) = splice @headers, 0, 2) {
        $text .= "$name: $value\r\n";
    }

    my $body = $request->{body};

    if (rand() < 0.15) {
        my $size = 1 + int rand 700;

        return "${text}Transfer-Encoding: chunked\r\n\r\n"
               . join('', map { sprintf "%x\r\n%s\r\n", length, $_ }
                              unpack "(a$size)*", $body) . "0\r\n\r\n";
    }

    return "${text}Content-Length: " . length($body) . "\r\n\r\n$body";
}


sub changed {
    my ($bytes, $times) = @_;

    for (1 .. $times) {
        my $at = int rand 1 + length $bytes;
        my $n = 1 + int rand 20;
        my $how = int rand 7;

        if ($how == 0 && $at < length $bytes) {
            substr($bytes, $at, 1) ^= chr 1 << int rand 8;

        } elsif ($how == 1) {
            substr $bytes, $at, $n, '' if $at + $n <= length $bytes;

        } elsif ($how == 2) {
            substr $bytes, $at, 0, substr $bytes, int rand 1 + length $bytes,
                                   $n;

        } elsif ($how == 3) {
            substr $bytes, $at, 0, $tokens[rand @tokens];

        } elsif ($how == 4) {
            my $token = $tokens[rand @tokens];
            substr $bytes, $at, length $token, $token
                if $at + length $token <= length $bytes;

        } elsif ($how == 5) {
            $bytes =~ s/(\d)/int rand 10/e;

        } else {
            substr($bytes, $at) = '' if rand() < 0.3;
        }
    }

    return $bytes;
}


sub spliced {
    my ($one, $other) = @_;

    return substr($one, 0, rand 1 + length $one)
           . substr($other, rand 1 + length $other);
}
