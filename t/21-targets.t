#!/usr/bin/perl

# Where an event goes: to one target or to several, of which each is claimed,
# tried and remembered on its own; through all that a location may have in
# nginx; and with which headers it arrives.

use lib 't/lib';
use RefundNotify::Test;

use IO::Socket::IP;
use Time::HiRes qw(time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify   '$arg_n|$refund_notify_result|$refund_notify_attempt';
    log_format delivery '$arg_n|$request_method|$uri|$args|$status'
                        '|$refund_notify_id|$refund_notify_attempt'
                        '|$refund_notify_version|$refund_notify_merchant'
                        '|$refund_notify_status|$refund_notify_refund_id'
                        '|$remote_addr|$host';

    access_log %%DIR%%/notify.log notify;

    limit_req_zone  $server_port zone=slowed:64k rate=5r/s;
    limit_req_zone  $server_port zone=limited:64k rate=1r/m;
    proxy_cache_path %%DIR%%/cache keys_zone=cache:64k;

    %%MERCHANTS%%

    refund_store local shm:1m;
    refund_store main  redis://127.0.0.1:%%REDIS%% prefix=t: timeout=2s
                       cache=off;

    upstream kept {
        server    127.0.0.1:%%APP%%;
        keepalive 4;
    }

    upstream second {
        server 127.0.0.1:%%PORT_NOBODY%%;
        server 127.0.0.1:%%APP%% backup;
    }

    upstream both {
        server 127.0.0.1:%%FIRST%% max_fails=0;
        server 127.0.0.1:%%APP%% backup;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        listen unix:%%DIR%%/nginx.sock;
        %%LISTEN%%

        refund_notify_store main;

        location = /two/local {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_store local;
        }

        location = /two/main {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
        }

        location = /three {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_pass /internal/c name=c;
        }

        location = /three/hurried {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass /internal/b name=b;
            refund_notify_pass /internal/c name=c;
            refund_notify_deadline %%HURRY%%;
        }

        location = /named/one {
            refund_notify shop;
            refund_notify_pass /internal/a name=one;
        }

        location = /named/one/elsewhere {
            refund_notify shop;
            refund_notify_pass /internal/b name=one;
        }

        location = /named/other {
            refund_notify shop;
            refund_notify_pass /internal/a name=other;
        }

        location = /unnamed {
            refund_notify shop;
            refund_notify_pass /internal/a;
        }

        location = /uri/arguments {
            refund_notify shop;
            refund_notify_pass /internal/a?x=1&y=%20z;
        }

        location = /uri/below {
            refund_notify shop;
            refund_notify_pass /internal/$arg_where name=v;
            refund_notify_pass /internal/a name=a;
        }

        location = /uri/whole {
            refund_notify shop;
            refund_notify_pass /internal/a name=a;
            refund_notify_pass $arg_where name=v;
        }

        location = /uri/variables {
            refund_notify shop;
            refund_notify_pass /internal/$arg_where?n=$arg_n&v=$server_port
                               name=v;
        }

        location = /to/open {
            refund_notify shop;
            refund_notify_pass /open name=open;
        }

        location ~ ^/through/(?<kind>[a-z_0-9]+)$ {
            refund_notify shop;
            refund_notify_pass /internal/through/$kind name=t;
        }

        location /internal/ {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /open {
            proxy_pass http://127.0.0.1:%%APP%%/open;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/check {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/check;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }

        location /internal/through/ {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;

            location = /internal/through/kept {
                proxy_pass http://kept/kept;
            }

            location = /internal/through/next {
                proxy_pass http://second/next;
            }

            location = /internal/through/both {
                proxy_pass http://both/both;
                proxy_next_upstream http_500 non_idempotent;
            }

            location = /internal/through/both_silent {
                proxy_pass http://both/both;
                proxy_next_upstream error non_idempotent;
            }

            location = /internal/through/not_both {
                proxy_pass http://both/both;
                proxy_next_upstream error timeout http_500;
            }

            location = /internal/through/host {
                proxy_pass http://127.0.0.1:%%APP%%/host;
                proxy_set_header Host $host;
                proxy_set_header Connection "";
                proxy_set_header X-Real-IP $remote_addr;
                proxy_set_header X-Refund $refund_notify_out_refund_no;
                proxy_set_header X-Attempt $refund_notify_attempt;
            }

            location = /internal/through/logged {
                access_log %%DIR%%/delivery.log delivery;
                proxy_pass http://127.0.0.1:%%APP%%/logged;
            }

            location = /internal/through/auth {
                auth_basic           app;
                auth_basic_user_file %%DIR%%/users;
                proxy_pass http://127.0.0.1:%%APP%%/auth;
            }

            location = /internal/through/deny {
                deny all;
                proxy_pass http://127.0.0.1:%%APP%%/deny;
            }

            location = /internal/through/allow {
                allow 127.0.0.1;
                deny all;
                proxy_pass http://127.0.0.1:%%APP%%/allow;
            }

            location = /internal/through/satisfy {
                satisfy any;
                allow 127.0.0.1;
                deny all;
                auth_basic           app;
                auth_basic_user_file %%DIR%%/users;
                proxy_pass http://127.0.0.1:%%APP%%/satisfy;
            }

            location = /internal/through/return_200 {
                return 200 "accepted";
            }

            location = /internal/through/return_204 {
                return 204;
            }

            location = /internal/through/return_301 {
                return 301 /elsewhere;
            }

            location = /internal/through/if_return {
                if ($request_method = POST) {
                    return 200;
                }

                proxy_pass http://127.0.0.1:%%APP%%/if_return;
            }

            location = /internal/through/file {
                root %%DIR%%;
                try_files /page.html =404;
            }

            location = /internal/through/file_200 {
                root %%DIR%%;
                error_page 405 =200 /page.html;
                try_files /page.html =404;
            }

            location = /internal/through/try_files {
                try_files /nothing @app;
            }

            location = /internal/through/try_files_404 {
                try_files /nothing =404;
                proxy_pass http://127.0.0.1:%%APP%%/try_files_404;
            }

            location = /internal/through/rewrite_last {
                rewrite ^ /internal/rewritten?r=1 last;
            }

            location = /internal/through/rewrite_break {
                rewrite ^ /changed break;
                proxy_pass http://127.0.0.1:%%APP%%;
            }

            location = /internal/through/error_page_200 {
                proxy_pass http://127.0.0.1:%%APP%%/error_page_200;
                proxy_intercept_errors on;
                error_page 500 =200 /page.html;
            }

            location = /internal/through/error_page_return {
                proxy_pass http://127.0.0.1:%%APP%%/error_page_return;
                proxy_intercept_errors on;
                error_page 500 =200 @return;
            }

            location = /internal/through/error_page_refused {
                proxy_pass http://127.0.0.1:%%PORT_NOBODY%%;
                error_page 502 =200 @return;
            }

            location = /internal/through/error_page_second {
                proxy_pass http://127.0.0.1:%%APP%%/first;
                proxy_intercept_errors on;
                error_page 500 = @app;
            }

            location = /internal/through/error_page_second_refused {
                proxy_pass http://127.0.0.1:%%PORT_NOBODY%%;
                error_page 502 = @app;
            }

            location = /internal/through/error_page_changed {
                proxy_pass http://127.0.0.1:%%APP%%/first;
                proxy_intercept_errors on;
                error_page 500 =503 @app;
            }

            location = /internal/through/limit_req {
                limit_req zone=slowed burst=20;
                proxy_pass http://127.0.0.1:%%APP%%/limit_req;
            }

            location = /internal/through/limit_req_refused {
                limit_req zone=limited;
                proxy_pass http://127.0.0.1:%%APP%%/limit_req_refused;
            }

            location = /internal/through/mirror {
                mirror /internal/copy;
                proxy_pass http://127.0.0.1:%%APP%%/mirror;
            }

            location = /internal/through/auth_request {
                auth_request /internal/check;
                proxy_pass http://127.0.0.1:%%APP%%/auth_request;
            }

            location = /internal/through/cache {
                proxy_pass http://127.0.0.1:%%APP%%/cache;
                proxy_buffering on;
                proxy_cache cache;
                proxy_cache_methods POST;
                proxy_cache_key same;
                proxy_cache_valid 1h;
            }

            location = /internal/through/refused {
                proxy_pass http://127.0.0.1:%%PORT_NOBODY%%;
            }

            location = /internal/through/to_notify {
                rewrite ^ /named/one last;
            }
        }

        location = /page.html {
            root %%DIR%%;
        }

        location @return {
            return 200 "accepted";
        }

        location @app {
            proxy_pass http://127.0.0.1:%%APP%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $first = business_app();
my $redis = redis();
my $ipv6 = IO::Socket::IP->new(LocalHost => '::1', Listen => 1);
my $nginx = nginx(with_merchants($conf, $shop),
    vars => { APP => $app->port, FIRST => $first->port,
              REDIS => $redis->port, HURRY => slow(400) . 'ms',
              LISTEN => $ipv6 ? 'listen [::1]:%%PORT%%;' : '' },
    files => { users => "app:{PLAIN}secret\n", 'page.html' => "accepted\n" });
my $client = client($nginx);
my $n = 0;

my ($LEASE, $RETAIN) = (10_000, 72 * 3600 * 1000);
my $P = 'P ' . 'ab' x 16 . " 3 $LEASE $RETAIN";


sub answers {
    my ($name, $path, $notify, $answer) = @_;

    my $again = $pay->resend($shop, $notify);
    my $response = $client->post($path . ($path =~ /\?/ ? '&' : '?') . 'n='
                                 . ++$n, $again);

    is($pay->answer($notify, $response), $answer, $name);
    return;
}


# What came to the business app since the last time: path and attempt.

sub delivered {
    my ($name, @expected) = @_;

    my $header = 'refund-attempt';

    is(join(', ', sort map { "$_->{path} " . ($_->{headers}{$header} // '-') }
                           $app->requests),
       join(', ', sort @expected), "$name: the deliveries");
    $app->forget;
    return;
}


# What the log says of the last request: its result and each target's attempt.

sub result {
    my ($name, $result, $attempts) = @_;

    is($nginx->logged($n), "$result|$attempts", "$name: its result");
    return;
}


sub count {
    my ($pattern) = @_;

    return scalar(() = $nginx->error_log =~ /$pattern/g);
}


sub record {
    my ($notify, $name) = @_;

    return $redis->command('GET', "t:{$notify->{event_id}}$name") // 'none';
}


for my $version (qw(v2 v3)) {

    # two targets, one fails

    for my $store (qw(local main)) {
        for ([ qw(a b) ], [ qw(b a) ]) {
            my ($good, $bad) = @$_;
            my $name = "$version, $store, $bad fails";
            my $path = "/two/$store";
            my $notify = $pay->notify($version, $shop);

            $app->rules({ path => "/$bad", status => 500 });
            answers("$name: first", $path, $notify, 'upstream_error');
            delivered("$name: both", "/$good 1", "/$bad 1");
            answers("$name: second", $path, $notify, 'upstream_error');
            delivered("$name: that one only", "/$bad 2");
            $app->rules;
            answers("$name: third", $path, $notify, 'SUCCESS');
            result($name, 'delivered', $bad eq 'a' ? '3, -' : '-, 3');
            delivered("$name: that one only", "/$bad 3");
            answers("$name: fourth", $path, $notify, 'SUCCESS');
            result($name, 'duplicate', '-, -');
            delivered("$name: no one");
        }

        # both fail, then one at a time

        my $name = "$version, $store, both fail";
        my $path = "/two/$store";
        my $notify = $pay->notify($version, $shop);

        $app->rules({ status => 500 });
        answers("$name: first", $path, $notify, 'upstream_error');
        delivered("$name: both", '/a 1', '/b 1');
        $app->rules({ path => '/a', status => 500 });
        answers("$name: second", $path, $notify, 'upstream_error');
        delivered("$name: both", '/a 2', '/b 2');
        $app->rules;
        answers("$name: third", $path, $notify, 'SUCCESS');
        delivered("$name: the other", '/a 3');
    }
}


# The answer is the first of these that applies to a target.  What stands in
# the store before makes it so, or the business app; and what stands there then.

my @order = qw(store_error upstream_error deadline in_flight delivered
               duplicate);

my %case = (
    store_error => { before => 'of another program',
                     after => qr/^of another program$/ },
    upstream_error => { rule => { status => 500 }, attempt => 1,
                        after => qr/^F 1 $LEASE $RETAIN$/ },
    deadline => { rule => { delay => slow(0.6) }, attempt => 1,
                  after => qr/^D \d{10}$/ },
    in_flight => { before => $P, after => qr/^\Q$P\E$/ },
    delivered => { attempt => 1, after => qr/^D \d{10}$/ },
    duplicate => { before => 'D 1700000000', after => qr/^D 1700000000$/ },
);

my @targets = qw(a b c);
my $turn = 0;

for my $i (0 .. $#order) {
    for my $j ($i .. $#order) {

        # the three places take turns, and so do the versions

        my @results = ($order[$i], $order[$j], $order[$j]);
        push @results, shift @results for 1 .. ++$turn % 3;

        my $version = $turn % 2 ? 'v2' : 'v3';
        my $name = "$version: @results";
        my $notify = $pay->notify($version, $shop);
        my $deadline = grep { $_ eq 'deadline' } @results;
        my (@rules, @delivered);

        for my $k (0 .. $#targets) {
            my $case = $case{ $results[$k] };
            my $path = "/$targets[$k]";

            if ($case->{before}) {
                $redis->command('SET', "t:{$notify->{event_id}}$targets[$k]",
                                $case->{before}, 'PX', $RETAIN);
            }

            push @rules, { path => $path, %{ $case->{rule} } }
                if $case->{rule};
            push @delivered, "$path $case->{attempt}" if $case->{attempt};
        }

        $app->rules(@rules);
        answers($name, $deadline ? '/three/hurried' : '/three', $notify,
                $i < 4 ? $order[$i] : 'SUCCESS');
        result($name, $order[$i],
               join ', ', map { $case{$_}{attempt} // '-' } @results);
        ok($app->settle, "$name: all deliveries ended");

        for my $k (0 .. $#targets) {
            my $after = $case{ $results[$k] }{after};

            ok(wait_until(sub { record($notify, $targets[$k]) =~ $after }),
               "$name: the record of $targets[$k]")
                or diag(record($notify, $targets[$k]));
        }

        delivered($name, @delivered);
    }
}

$app->rules;


# names

for my $version (qw(v2 v3)) {
    my $notify = $pay->notify($version, $shop);
    my $name = "$version, name";

    answers("$name: one", '/named/one', $notify, 'SUCCESS');
    delivered("$name: one", '/a 1');
    answers("$name: one, elsewhere", '/named/one/elsewhere', $notify,
            'SUCCESS');
    delivered("$name: the same record");
    answers("$name: other", '/named/other', $notify, 'SUCCESS');
    delivered("$name: another record", '/a 1');
    answers("$name: none", '/unnamed', $notify, 'SUCCESS');
    delivered("$name: a record by the URI", '/a 1');

    is(join(' ', sort grep { /\Q$notify->{event_id}\E/ }
                           @{ $redis->command('KEYS', '*') }),
       join(' ', map { "t:{$notify->{event_id}}$_" } qw(/internal/a one
                                                        other)),
       "$name: the keys");

    # URIs

    $notify = $pay->notify($version, $shop);
    answers("$version, arguments", '/uri/arguments', $notify, 'SUCCESS');
    delivered("$version, arguments", '/a?x=1&y=%20z 1');

    my $port = $nginx->port;

    $notify = $pay->notify($version, $shop);
    answers("$version, variables", '/uri/variables?where=a/b', $notify,
            'SUCCESS');
    delivered("$version, variables", "/a/b?n=$n&v=$port 1");
    answers("$version, variables, again", '/uri/variables?where=c', $notify,
            'SUCCESS');
    delivered("$version, variables, again");
}


# A URI of variables that is none: that target fails, and asks no store.

my $no_uri = qr/\[error\].*\ was\ not\ accepted\ by\ "v":\ refund_notify_pass
                \ yields\ no\ URI\ of\ this\ server,\ status\ 0,\ attempt\ 0/x;
my $begin = time;

for my $version (qw(v2 v3)) {
    for ([ 'nothing', '/uri/whole' ], [ 'no slash', '/uri/whole?where=b' ],
         [ 'above the root', '/uri/whole?where=/../b' ],
         [ 'above the location', '/uri/below?where=..' ])
    {
        my ($what, $path) = @$_;
        my $notify = $pay->notify($version, $shop);
        my $name = "$version, a URI of $what";
        my @attempts = $path =~ /below/ ? ('-, 1', '-, -') : ('1, -', '-, -');

        answers($name, $path, $notify, 'upstream_error');
        result($name, 'upstream_error', $attempts[0]);
        delivered("$name: to the other target", '/a 1');
        answers("$name, again", $path, $notify, 'upstream_error');
        result("$name, again", 'upstream_error', $attempts[1]);
        delivered("$name, again: to nobody");
        like(record($notify, 'a'), qr/^D \d{10}$/, "$name: the other's record");
        is(record($notify, 'v'), 'none', "$name: and none of its own");
    }
}

my $lines = count($no_uri);

cmp_ok($lines, '>=', 1, 'a URI that is none: the log says it');
cmp_ok($lines, '<=', 1 + time - $begin, 'once a second at most');


# What a location may have.  Each: its name, the rules, the answer, what the
# app gets, and the answer and the deliveries of a second try without rules;
# without them the second try is a duplicate.

my $FAILS = { status => 500 };

my @through = (
    [ 'plain', [], 'SUCCESS', [ '/plain 1' ] ],
    [ 'plain', [ $FAILS ], 'upstream_error', [ '/plain 1' ], 'SUCCESS',
      [ '/plain 2' ] ],
    [ 'next', [], 'SUCCESS', [ '/next 1' ] ],
    [ 'next', [ $FAILS ], 'upstream_error', [ '/next 1' ], 'SUCCESS',
      [ '/next 2' ] ],
    [ 'auth', [], 'upstream_error', [], 'upstream_error', [] ],
    [ 'deny', [], 'upstream_error', [], 'upstream_error', [] ],
    [ 'allow', [], 'SUCCESS', [ '/allow 1' ] ],
    [ 'satisfy', [], 'SUCCESS', [ '/satisfy 1' ] ],
    (map { [ $_, [], 'upstream_error', [], 'upstream_error', [] ] }
         qw(return_200 return_204 return_301 if_return file file_200
            try_files_404 refused error_page_refused to_notify)),
    [ 'try_files', [], 'SUCCESS', [ '/internal/through/try_files 1' ] ],
    [ 'rewrite_last', [], 'SUCCESS', [ '/rewritten?r=1 1' ] ],
    [ 'rewrite_break', [], 'SUCCESS', [ '/changed 1' ] ],
    (map { [ $_, [], 'SUCCESS', [ "/$_ 1" ] ],
           [ $_, [ $FAILS ], 'upstream_error', [ "/$_ 1" ], 'SUCCESS',
             [ "/$_ 2" ] ] } qw(error_page_200 error_page_return)),
    [ 'error_page_second', [], 'SUCCESS', [ '/first 1' ] ],
    [ 'error_page_second', [ { path => '/first', %$FAILS } ], 'SUCCESS',
      [ '/first 1', '/internal/through/error_page_second 1' ] ],
    [ 'error_page_second', [ $FAILS ], 'upstream_error',
      [ '/first 1', '/internal/through/error_page_second 1' ], 'SUCCESS',
      [ '/first 2' ] ],
    [ 'error_page_second_refused', [], 'SUCCESS',
      [ '/internal/through/error_page_second_refused 1' ] ],

    # the second has accepted, but ops say that it counts as a failure

    [ 'error_page_changed', [ { path => '/first', %$FAILS } ],
      'upstream_error', [ '/first 1',
                          '/internal/through/error_page_changed 1' ],
      'SUCCESS', [ '/first 2' ] ],
    [ 'limit_req_refused', [], 'SUCCESS', [ '/limit_req_refused 1' ] ],
    [ 'limit_req_refused', [], 'upstream_error', [], 'upstream_error', [] ],
    [ 'mirror', [], 'SUCCESS', [ '/mirror 1', '/copy 1' ] ],
    [ 'mirror', [ { path => '/copy', %$FAILS } ], 'SUCCESS',
      [ '/mirror 1', '/copy 1' ] ],
    [ 'mirror', [ { path => '/mirror', %$FAILS } ], 'upstream_error',
      [ '/mirror 1', '/copy 1' ], 'SUCCESS', [ '/mirror 2', '/copy 2' ] ],
    [ 'auth_request', [], 'SUCCESS', [ '/check 1', '/auth_request 1' ] ],
    [ 'auth_request', [ { path => '/check', status => 403 } ],
      'upstream_error', [ '/check 1' ], 'SUCCESS',
      [ '/check 2', '/auth_request 2' ] ],
    [ 'auth_request', [ { path => '/auth_request', %$FAILS } ],
      'upstream_error', [ '/check 1', '/auth_request 1' ], 'SUCCESS',
      [ '/check 2', '/auth_request 2' ] ],

    # what is in a cache was accepted for another event

    [ 'cache', [], 'SUCCESS', [ '/cache 1' ] ],
    [ 'cache', [], 'upstream_error', [], 'upstream_error', [] ],
);

for (@through) {
    my ($kind, $rules, $answer, $delivered, $second, $again) = @$_;

    for my $version ($kind =~ /^(?:cache|limit_req_refused)$/ ? 'v3'
                                                              : qw(v2 v3))
    {
        my $notify = $pay->notify($version, $shop);
        my $name = "$version, $kind" . (@$rules ? ', failing' : '');

        $app->rules(@$rules);
        answers($name, "/through/$kind", $notify, $answer);
        $app->wait_for(scalar @$delivered);
        delivered($name, @$delivered);
        like(record($notify, 't'), $answer eq 'SUCCESS'
             ? qr/^D \d{10}$/ : qr/^F 1 $LEASE $RETAIN$/, "$name: the record");

        $app->rules;
        answers("$name, again", "/through/$kind", $notify,
                $second // 'SUCCESS');
        $app->wait_for(scalar @{ $again || [] });
        delivered("$name, again", @{ $again || [] });
    }
}


# two servers of an upstream

for my $version (qw(v2 v3)) {
    my @both = (
        [ 'the first fails', 'both', $FAILS, {}, 'SUCCESS', 1,
          qr/^D \d{10}$/ ],
        [ 'both fail', 'both', $FAILS, $FAILS, 'upstream_error', 1,
          qr/^F 1 $LEASE $RETAIN$/ ],
        [ 'a POST is not repeated', 'not_both', $FAILS, {}, 'upstream_error',
          0, qr/^F 1 $LEASE $RETAIN$/ ],

        # the first may have accepted before it fell silent

        [ 'the first is silent', 'both_silent', { fault => 'close' }, {},
          'SUCCESS', 1, qr/^D \d{10}$/ ],
        [ 'the first is silent, the second fails', 'both_silent',
          { fault => 'close' }, $FAILS, 'upstream_error', 1,
          qr/^P [0-9a-f]{32} 1 $LEASE $RETAIN$/ ],
        [ 'silent, a POST is not repeated', 'not_both', { fault => 'close' },
          {}, 'upstream_error', 0, qr/^P [0-9a-f]{32} 1 $LEASE $RETAIN$/ ],
    );

    for (@both) {
        my ($name, $kind, $one, $two, $answer, $count, $record) = @$_;
        my $notify = $pay->notify($version, $shop);

        $name = "$version, two servers, $name";
        $first->rules($one);
        $app->rules($two);

        answers($name, "/through/$kind", $notify, $answer);

        is(scalar(() = $first->requests), 1, "$name: the first");
        is(scalar(() = $app->requests), $count, "$name: the second");
        like(record($notify, 't'), $record, "$name: the record");
        $_->forget for $app, $first;
    }

    $_->rules for $app, $first;
}


# limit_req that delays

my @notifies = map { $pay->notify($_ % 2 ? 'v2' : 'v3', $shop) } 1 .. 5;
my @responses = $client->parallel([ map {
    [ 'POST', '/through/limit_req', $_->{headers}, $_->{body} ]
} @notifies ]);

is($pay->answer($notifies[$_], $responses[$_]), 'SUCCESS',
   "limit_req, delayed $_") for 0 .. $#notifies;

my @times = map { $_->{time} } $app->requests;
cmp_ok($times[-1] - $times[0], '>', 0.7, 'limit_req: one after another');
delivered('limit_req', ('/limit_req 1') x 5);


# keepalive

for (1 .. 20) {
    my $notify = $pay->notify($_ % 2 ? 'v2' : 'v3', $shop);
    answers("kept, $_", '/through/kept', $notify, 'SUCCESS');
}

my %connections = map { $_->{connection} => 1 } $app->requests;
is(scalar keys %connections, 1, 'kept: all on one connection');
delivered('kept', ('/kept 1') x 20);

answers("not kept, $_", '/through/plain', $pay->v3_notify($shop), 'SUCCESS')
    for 1 .. 3;
%connections = map { $_->{connection} => 1 } $app->requests;
is(scalar keys %connections, 3, 'not kept: each on its own');
delivered('not kept', ('/plain 1') x 3);


# headers

for my $version (qw(v2 v3)) {
    my @sent = (Host => 'pay.example.com', Cookie => 'session=1',
                Authorization => 'Basic eHg=',
                'Proxy-Authorization' => 'Basic eHg=',
                'X-Forwarded-For' => '10.0.0.1', Forwarded => 'for=10.0.0.1',
                'X-Real-IP' => '10.0.0.1', 'X-Refund' => 'forged',
                'Refund-Attempt' => '99', 'Webhook-Id' => 'forged',
                'Webhook-Signature' => 'v1,forged', 'X-Api-Key' => 'k',
                'Accept-Encoding' => 'gzip', Range => 'bytes=0-1',
                'If-None-Match' => '*', 'X-HTTP-Method-Override' => 'PUT');
    my @trace = (traceparent =>
                 '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
                 tracestate => 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE');
    my @always = qw(content-length content-type host refund-attempt webhook-id
                    webhook-timestamp);

    my @cases = (
        [ 'plain', [], '127.0.0.1:' . $app->port, [] ],
        [ 'plain', [ @trace ], '127.0.0.1:' . $app->port,
          [ qw(traceparent tracestate) ] ],
        [ 'kept', [ @trace[0, 1] ], 'kept', [ qw(traceparent) ] ],
        [ 'host', [], 'pay.example.com',
          [ qw(x-attempt x-real-ip x-refund) ] ],
    );

    for (@cases) {
        my ($kind, $trace, $host, $more) = @$_;
        my $notify = $pay->notify($version, $shop,
                                  -headers => [ @sent, @$trace ]);
        my $name = "$version, headers, $kind";

        is($pay->answer($notify, $client->post("/through/$kind", $notify)),
           'SUCCESS', $name);

        my ($request) = $app->requests;
        my %headers = %{ $request->{headers} };

        $app->forget;
        is(join(' ', sort keys %headers), join(' ', sort @always, @$more),
           "$name: these and no others");
        is($request->{method}, 'POST', "$name: POST");
        is($request->{protocol}, 'HTTP/1.1', "$name: HTTP/1.1");
        is($headers{host}, $host, "$name: Host");
        is($headers{'content-length'}, length $request->{body},
           "$name: Content-Length");
        is($headers{'webhook-id'}, $notify->{event_id}, "$name: webhook-id");
        is($headers{'refund-attempt'}, 1, "$name: Refund-Attempt");

        my %trace = @$trace;
        is($headers{$_} // '-', $trace{$_} // '-', "$name: $_")
            for qw(traceparent tracestate);

        next if $kind ne 'host';

        is($headers{'x-real-ip'}, '127.0.0.1', "$name: \$remote_addr");
        is($headers{'x-refund'}, $notify->{out_refund_no},
           "$name: \$refund_notify_out_refund_no");
        is($headers{'x-attempt'}, 1, "$name: \$refund_notify_attempt");
    }


    # where the client comes from

    for ([ '127.0.0.1', $client ],
         [ 'unix:', RefundNotify::Test::Client->new(
                        unix => $nginx->path('nginx.sock')) ],
         [ '::1', RefundNotify::Test::Client->new(
                      address => '::1', port => $nginx->port) ])
    {
        my ($address, $from) = @$_;

        SKIP: {
            skip 'there is no [::1]', 2 if $address eq '::1' && !$ipv6;

            my $notify = $pay->notify($version, $shop);

            is($pay->answer($notify, $from->post('/through/host', $notify)),
               'SUCCESS', "$version, from $address");
            is(join(' ', map { $_->{headers}{'x-real-ip'} } $app->requests),
               $address, "$version, from $address: \$remote_addr");
            $app->forget;
        }
    }


    # the log of a delivery: one line for each

    my $notify = $pay->notify($version, $shop);
    my $name = "$version, access_log";

    $app->rules({ status => 503, times => 1 });
    answers("$name: fails", '/through/logged', $notify, 'upstream_error');
    answers("$name: accepted", '/through/logged', $notify, 'SUCCESS');
    answers("$name: again", '/through/logged', $notify, 'SUCCESS');
    $app->rules;
    delivered($name, '/logged 1', '/logged 2');

    my @lines = grep { /\Q$notify->{event_id}\E/ } split /\n/,
                RefundNotify::Test::Util::read_file(
                    $nginx->path('delivery.log'));

    is(join("\n", @lines),
       join("\n", map {
           my ($attempt, $status) = @$_;
           "-|POST|/internal/through/logged|-|$status|$notify->{event_id}|"
           . "$attempt|$version|shop|SUCCESS|$notify->{refund_id}|127.0.0.1|"
           . 'localhost'
       } [ 1, 503 ], [ 2, 200 ]), "$name: its lines");
}


# a location that clients reach too: it works, and one line a second warns

my $open = qr/\[warn\].*\ location\ "\/open"\ takes\ deliveries\ and\ is
              \ not\ "internal":\ clients\ reach\ what\ is\ behind\ it\ too/x;

$begin = time;
answers("open, $_", '/to/open', $pay->v3_notify($shop), 'SUCCESS') for 1 .. 5;
delivered('open', ('/open 1') x 5);
$lines = count($open);
cmp_ok($lines, '>=', 1, 'open: a warning');
cmp_ok($lines, '<=', 1 + time - $begin, 'open: one a second at most');
is(count(qr/location "(?:\/internal\/|\@)[^"]*" takes deliveries/), 0,
   'and none of a location that is internal or named');

no_secrets($nginx, $pay->secrets($shop));

done_testing;
