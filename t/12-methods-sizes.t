#!/usr/bin/perl

# What is no notify at all, and every way in which a body can come: in one
# piece or byte by byte, chunked, in several buffers, in a file, over HTTP/2,
# as large as is allowed and one byte more.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify escape=none '$arg_n|$refund_notify_result'
                                  '|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        refund_notify_max_body_size 8k;

        location = /memory {
            client_body_buffer_size 64k;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /buffers {
            client_body_buffer_size 1k;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /single {
            client_body_buffer_size 64k;
            client_body_in_single_buffer on;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /file {
            client_body_in_file_only clean;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /default {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_max_body_size 64k;
        }

        location = /nginx-limit {
            client_max_body_size 1k;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        # what is written to these files is kept

        location = /unlimited {
            client_max_body_size 0;
            client_body_in_file_only on;
            client_body_temp_path %%DIR%%/unlimited;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /large {
            client_max_body_size 100m;
            client_body_in_file_only on;
            client_body_temp_path %%DIR%%/large;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /terse {
            error_log %%DIR%%/terse.log error;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        # others answer what these take to a page

        location = /turned {
            refund_notify shop;
            refund_notify_pass /internal/refunds;

            if ($arg_page) {
                proxy_pass http://127.0.0.1:%%PORT_PAGE%%;
            }
        }

        location = /asked {
            auth_request /default;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_PAGE%%;
        return 200 page;
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port });
my $client = client($nginx);

my @paths = qw(/memory /buffers /single /file);
my $MALFORMED = '{"code":"FAIL","message":"malformed"}';
my $n = 0;


# A notify of exactly that many bytes: white space may follow.

sub sized {
    my ($version, $size) = @_;

    my $notify = $pay->notify($version, $shop);
    my $body = $notify->{body} . ' ' x ($size - length $notify->{body});

    return { %$notify, body => $body } if $version eq 'v2';
    return $pay->resend($shop, { %$notify, body => $body });
}


# How many bytes of bodies nginx wrote there since the last time.

sub written {
    my ($path) = @_;

    my @files = glob $nginx->path("$path/*");
    my $size = 0;

    $size += -s for @files;
    unlink @files;
    return $size;
}


sub refused {
    my ($name, $response, $status, $body) = @_;

    is($response->{status}, $status, $name);
    is($response->{error}, '', "$name: answered in full");

    if (defined $body) {
        is($response->{body}, $body, "$name: the body");
        is($response->{headers}{'content-type'}, 'application/json',
           "$name: its type");
    }

    return;
}


# how a body comes

for my $version (qw(v2 v3)) {
    for my $path (@paths) {
        my @ways = (
            [ 'at once' ],
            [ 'byte by byte', pieces => 1 ],
            [ 'in two pieces', pieces => 1100, pause => 0.02 ],
            [ 'chunked', chunked => 4096 ],
            [ 'in chunks of 7', chunked => 7 ],
            [ 'in chunks of 1, byte by byte', chunked => 1, pieces => 1 ],
        );

        for (@ways) {
            my ($name, %option) = @$_;
            my $notify = $pay->notify($version, $shop);

            $app->forget;
            my $response = $client->post($path, $notify, %option);

            $name = "$version to $path $name";
            ok($pay->acknowledged($notify, $response), $name)
                or diag($response->{status}, $response->{body});
            is(join(' ', map { $_->{id} } $app->requests), $notify->{event_id},
               "$name: delivered");
        }
    }

    # around it

    for ([ 'white space before', " \t\r\n" ],
         [ 'much white space before', ' ' x 3000 ])
    {
        my ($name, $space) = @$_;
        my $notify = $pay->notify($version, $shop);

        $notify = $pay->resend($shop, { %$notify,
                                        body => $space . $notify->{body} });
        $app->forget;
        ok($pay->acknowledged($notify, $client->post('/buffers', $notify)),
           "$version, $name");
        is(scalar(() = $app->requests), 1, "$version, $name: delivered");
    }

    # sizes

    for my $path (@paths) {
        for my $way ([], [ chunked => 1000 ]) {
            my $name = "$version to $path" . (@$way ? ', chunked' : '');
            my $notify = sized($version, 8192);

            $app->forget;
            ok($pay->acknowledged($notify, $client->post($path, $notify,
                                                         @$way)),
               "$name: as large as allowed");
            is(scalar(() = $app->requests), 1, "$name: delivered");

            $notify = sized($version, 8193);
            $app->forget;
            refused("$name: one byte more",
                    $client->post($path, $notify, @$way), 413);
            is(scalar(() = $app->requests), 0, "$name: not delivered");
        }
    }

    my $notify = sized($version, 65536);

    ok($pay->acknowledged($notify, $client->post('/default', $notify)),
       "$version: 64k");
    refused("$version: 64k and a byte",
            $client->post('/default', sized($version, 65537)), 413);
    refused("$version: over nginx' own limit",
            $client->post('/nginx-limit', sized($version, 1500)), 413);
}


# A body that does not say its length: where nginx has no limit of its own, or a
# larger one, it takes no more of it than a notify may ever have.

my $large = sized('v3', 2 * 1024 * 1024);

for my $path (qw(/unlimited /large)) {
    my $notify = $pay->v3_notify($shop);

    ok($pay->acknowledged($notify, $client->post($path, $notify,
                                                 chunked => 1000)),
       "$path: a notify");
    is(written($path), length $notify->{body}, "$path: it is in a file");

    $app->forget;
    refused("$path: 2 MB, chunked",
            $client->post($path, $large, chunked => 65536), 413);
    cmp_ok(written($path), '<', 1_100_000, "$path: 2 MB, chunked: written");

    my $http2 = http2($nginx, 'H2');
    my $stream = $http2->send('POST', $path, $large->{headers},
                              $large->{body});

    is($http2->read($stream)->{status}, 413, "$path: 2 MB, HTTP/2");
    cmp_ok(written($path), '<', 1_100_000, "$path: 2 MB, HTTP/2: written");
    is(scalar(() = $app->requests), 0, "$path: 2 MB: not delivered");
}


# no body, or none of a notify

$app->forget;

for my $path (@paths) {
    my @bodies = (
        [ 'empty', '' ],
        [ 'no body', undef ],
        [ 'white space', " \r\n" ],
        [ 'text', 'success' ],
        [ 'a form', 'a=b&c=d' ],
        [ 'an array', '[]' ],
        [ 'a NUL', "\0{}" ],
        [ 'a byte order mark', "\xef\xbb\xbf{}" ],
    );

    for (@bodies) {
        my ($name, $body) = @$_;

        refused("$path, $name",
                $client->request('POST', "$path?n=" . ++$n, [], $body), 400,
                $MALFORMED);
        ok($nginx->wait_for_log('notify.log', qr/^$n\|malformed\|\w/m),
           "$path, $name: \$refund_notify_result and _reason");
    }

    refused("$path, empty and chunked",
            $client->request('POST', $path, [], '', chunked => 1), 400,
            $MALFORMED);
}

refused('where the error log has no "info"',
        $client->request('POST', '/terse', [], '[]'), 400, $MALFORMED);
is(-s $nginx->path('terse.log'), 0, 'nothing is logged');


# methods

for my $method (qw(GET HEAD PUT DELETE OPTIONS PATCH PROPFIND)) {
    my $notify = $pay->v2_notify($shop);
    my @body = $method =~ /GET|HEAD/ ? () : $notify->{body};
    my $response = $client->request($method, '/memory', $notify->{headers},
                                    @body);

    refused($method, $response, 405);
    is($response->{headers}{allow}, 'POST', "$method: Allow");
}

is(scalar(() = $app->requests), 0, 'nothing of these was delivered');


# what another directive within "if" answers, and a subrequest, which is no client

{
    my $notify = $pay->notify('v3', $shop);

    is($client->request('POST', '/turned?page=1', $notify->{headers},
                        $notify->{body})->{body}, 'page', 'a page');
    is($client->post('/asked', $notify)->{status}, 500, 'a subrequest');
    is(scalar(() = $app->requests), 0, 'nothing of these was delivered');
    ok($pay->acknowledged($notify, $client->post('/turned', $notify)),
       'beside the page');
    ok($nginx->wait_for_log('error.log',
                            qr/\[error\].*takes requests of clients only/),
       'the error log says that of the subrequest');
}


# connections

for my $version (qw(v2 v3)) {
    my @notifies = map { $pay->notify($version, $shop) } 1 .. 4;
    my $connection = $client->connect;

    $app->forget;

    for (@notifies[0, 1]) {
        ok($pay->acknowledged($_, $connection->request('POST', '/memory',
                                                       $_->{headers},
                                                       $_->{body})),
           "$version: on a connection that is kept");
    }

    $connection->send('POST', '/memory', $_->{headers}, $_->{body})
        for @notifies[2, 3];
    ok($pay->acknowledged($_, $connection->read), "$version: pipelined")
        for @notifies[2, 3];
    is(join(' ', map { $_->{id} } $app->requests),
       join(' ', map { $_->{event_id} } @notifies),
       "$version: delivered in order");

    my $notify = $pay->notify($version, $shop);

    $connection->send('POST', '/memory', [ @{ $notify->{headers} },
                                           Expect => '100-continue',
                                           'Content-Length' =>
                                           length $notify->{body} ]);
    $connection->write($notify->{body});
    ok($pay->acknowledged($notify, $connection->read),
       "$version: Expect: 100-continue");

    $notify = $pay->notify($version, $shop);
    $connection = $client->connect;
    $connection->send('POST', '/memory', [ @{ $notify->{headers} },
                                           Connection => 'close' ],
                      $notify->{body});
    $connection->finish;
    ok($pay->acknowledged($notify, $connection->read),
       "$version: half closed by the client");

    for my $path (@paths) {
        my $notify = $pay->notify($version, $shop);
        my $http2 = http2($nginx, 'H2');

        ok($pay->acknowledged($notify, $http2->read(
               $http2->send('POST', $path, $notify->{headers},
                            $notify->{body}))), "$version: HTTP/2 to $path");
    }
}


# many at once, each once

$app->forget;

my @notifies = map { $pay->notify($_ % 2 ? 'v2' : 'v3', $shop) } 1 .. 100;
my @responses = $client->parallel([ map { [ 'POST', '/buffers', $_->{headers},
                                            $_->{body} ] } @notifies ]);

is(scalar(grep { $pay->acknowledged($notifies[$_], $responses[$_]) } 0 .. 99),
   100, '100 at once');
is(join(' ', sort map { $_->{id} } $app->requests),
   join(' ', sort map { $_->{event_id} } @notifies), 'each delivered once');

no_secrets($nginx, $pay->secrets($shop));

done_testing;
