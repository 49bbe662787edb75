#!/usr/bin/perl

# Every call of the module that can fail is made to fail once, while notifies
# and refunds of all kinds go through one worker, which has to live through all
# of it: t/torture/torture.c says how.  Of each request so many calls are
# counted; then it is made again for each of them, and that one fails.  The
# answer is no SUCCESS without the business app's, and none of WeChat Pay's
# fault; the same again is accepted when the lease is over, and was delivered
# under a higher attempt if at all; the next one is served; and in the end no
# connection is left, and nothing has leaked.
#
# Redis is one by TCP: TLS, Sentinel, Cluster and unix sockets are not here.
#
# Here some of the calls, by TORTURE_SEED (1); "make torture": all, what the
# libraries allocate too, and which calls never failed.

use lib 't/lib';
use RefundNotify::Test;

use List::Util qw(shuffle);
use POSIX ();
use RefundNotify::Test::Util qw(read_file write_file);
use Time::HiRes qw(sleep time);

my $full = $ENV{TORTURE_FULL};

plan(skip_all => 'the sanitizers, and amd64, are needed')
    if !($ENV{REFUND_NOTIFY_SANITIZE} || $full)
       || (POSIX::uname())[4] ne 'x86_64';

alarm slow(3600) if $full;
srand($ENV{TORTURE_SEED} // 1);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

thread_pool default threads=1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify '$refund_notify_result "$refund_notify_reason" '
                      '$refund_notify_version $refund_notify_merchant '
                      '$refund_notify_id $refund_notify_status '
                      '$refund_notify_refund_id $refund_notify_attempt '
                      '$refund_notify_out_refund_no $refund_notify_store_time '
                      '$refund_notify_out_trade_no '
                      '$refund_notify_upstream_time';
    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store local  shm:10m;
    refund_store redis  redis://127.0.0.1:%%REDIS%% prefix=t: timeout=1s
                        cache=off;
    refund_store cached redis://127.0.0.1:%%REDIS%% prefix=c: timeout=1s;

    upstream api.mch.weixin.qq.com {
        server 127.0.0.1:%%PAY%% max_fails=0;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        refund_notify_lease 5s;

        location = /shm {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location = /late {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store redis;
            refund_notify_deadline 500ms;
        }

        location = /two {
            set $merchant shop;
            refund_notify $merchant;
            refund_notify_pass /internal/refunds$merchant name=orders;
            refund_notify_pass /internal/ledger name=ledger;
            refund_notify_store local;
            refund_notify_signing_key_file whsec;
        }

        location = /code {
            refund_notify shop;
            refund_notify_pass /internal/code name=code;
            refund_notify_store local;
            refund_notify_ack code;
        }

        location = /redis {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store redis;
        }

        location = /cached {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store cached;
        }

        location /internal/ {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location /v3 {
            refund_request shop;
            refund_request_pass /internal/pay;
            refund_request_store local;
            refund_request_error_rate 60000r/s;
        }

        location /v2 {
            refund_request shop;
            refund_request_api v2;
            refund_request_pass /internal/pay;
            refund_request_error_rate 60000r/s;
        }

        location /threads {
            refund_request shop;
            refund_request_pass /internal/pay;
            refund_request_pass_event /internal/refunds name=orders;
            refund_request_store redis;
            refund_request_threads on;
            refund_request_error_rate 60000r/s;
        }

        location /internal/pay/ {
            internal;
            proxy_pass https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate %%FILES%%/shop-apiclient_cert.pem;
            proxy_ssl_certificate_key %%FILES%%/shop-apiclient_key.pem;
            %%INCLUDE%%
        }

        location /status {
            refund_status;
        }

        location = /connections {
            stub_status;
            access_log off;
        }
    }
}
EOC

my $LEASE = 5;

# Bits of torture.c's list of objects: libxml2, Jansson, libcrypto, and hiredis,
# of which 0.14 crashes where its output buffer cannot be made anew
# (redisBufferWrite).

my $MODULE = 1;
my $JANSSON = 4;
my $LIBRARIES = 2 | $JANSSON | 16 | (hiredis() >= 1 ? 8 : 0);

# where its file has which symbols were redirected, and the places that call

my $PATCHED = 32;
my $SITES = $PATCHED + 256;

my $dir = scratch_dir();
my $source = 't/torture/torture.c';
my $control = write_file("$dir/torture", "\0" x ($SITES + 16 * 8192));

system(qw(cc -std=gnu99 -O2 -Wall -Wextra -Werror -shared -fPIC -o),
       "$dir/torture.so", $source) == 0
    or die "cc: $source: $?\n";

$ENV{REFUND_NOTIFY_TORTURE} = $control;

my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx8888888888888881' ],
                          merchant_serial => '5157F09EFDC047057A01');
my $app = business_app({ path => '/code', body => '{"code":"SUCCESS"}' });
my $redis = redis();
my $server = wechatpay_server(merchants => [ $shop ]);
my $text = with_merchants($conf, $shop);
my $nginx = nginx($text,
                  files => { whsec => 'whsec_' . 'a' x 44 },
                  vars => { APP => $app->port, REDIS => $redis->port,
                            PAY => $server->port, FILES => $dir,
                            INCLUDE => $server->include },
                  preload => [ "$dir/torture.so" ],
                  allow => [ qr/\[emerg\]/,
                             qr/\[(?:crit|alert)\].*\bSSL_\w+\(\) failed/ ]);
my $client = client($nginx);
my $caller = caller_of($nginx);
my ($worker) = $nginx->workers;

my (%targets, %attempts, @unfinished, %failed);


# The major version of the hiredis that the module was linked with.

sub hiredis {
    my ($major) = read_file(RefundNotify::Test::Nginx::module_path())
                  =~ /\blibhiredis\.so\.(\d+)/;
    return $major;
}


# Calls $first to $last from now on fail, of those objects; none: $objects 0.

sub arm {
    my ($objects, $first, $last) = @_;

    open my $file, '+<:raw', $control or die "$control: $!\n";
    syswrite $file, pack 'L', 0;
    sysseek $file, 8, 0;
    syswrite $file, pack 'L4Q', 0, $first, $last, 0, 0;
    sysseek $file, 0, 0;
    syswrite $file, pack 'L', $objects;
    close $file;
    return;
}


# How many calls there were, how many failed, and the first that did.

sub disarm {
    open my $file, '+<:raw', $control or die "$control: $!\n";
    syswrite $file, pack 'L', 0;
    sysread $file, my $head, 28;
    close $file;

    return (unpack 'x4 L x8 L Q', $head);
}


sub answer {
    my ($path, $notify) = @_;

    return $pay->answer($notify, $client->post($path, $notify));
}


# What the app has been given since: the targets of each event that accepted,
# and the attempts of each.

sub look {
    my @wrong;

    for ($app->requests) {
        my $target = "$_->{id} $_->{path}";
        my $attempt = $_->{headers}{'refund-attempt'};

        push @wrong, "$target: attempt $attempt after $attempts{$target}[-1]"
            if $attempts{$target} && $attempt <= $attempts{$target}[-1];
        push @{ $attempts{$target} }, $attempt;
        $targets{ $_->{id} }{ $_->{path} } = 1;
    }

    $app->forget;
    return @wrong;
}


# How often a notify was given to the app.

sub deliveries {
    my ($notify) = @_;

    look();
    return scalar map { @{ $attempts{$_} } }
                      grep { /^\Q$notify->{event_id}\E / } keys %attempts;
}


# What a notify is answered by the call that fails, where that is not what it is
# usually answered; the first that fits.

my $closed = '5\d\d .*|0 .*closed';

my @right = (
    # made to fail as a whole, it does not say that it had no memory
    [ qr/^EVP_PKEY_verify / => 'unverified' ],

    # nobody may go on without a claim, and nobody waits for the rest
    [ qr/^ngx_http_refund_store_table_claim / => 'store_error' ],
    [ qr/^ngx_http_refund_store_table_/ => 'usual' ],
    [ qr/^ngx_refund_redis_send in \w+_(?:claim|claimed|take_over)\b/
      => 'store_error' ],
    [ qr/^ngx_refund_redis_send / => 'usual' ],

    # what was accepted before needs none
    [ qr/ in wechatpay_event_json / => 'store_error|usual' ],

    [ qr/ at wechatpay_/ => 'store_error' ],
    [ qr/ at ngx_http_refund_notify_variables/ => 'usual' ],
    [ qr/ at ngx_http_refund_(?:event|target|webhook|store)/
      => 'store_error|usual' ],
    [ qr/ at ngx_(?:http_refund_delivery|list|array)\b/
      => 'upstream_error|store_error' ],
    [ qr/ at ngx_refund_redis_/ => 'store_error|unknown|usual' ],
    [ qr/ at ngx_http_refund_(?:notify_handler|body|header|merchant_name)\./
      => 'closed' ],

    # an answer of the app's that cannot be read; and all that is of a notify
    [ qr/ in libjansson/ => 'upstream_error' ],
    [ qr/ in lib/ => 'store_error|unknown|usual' ],
    [ qr/^none$/ => 'usual' ],
);


sub right {
    my ($case, $site) = @_;

    my ($right) = map { $_->[1] } grep { $site =~ $_->[0] } @right;
    my $usual = $case->{usual} // 'SUCCESS';

    $right //= 'not told here';
    $right .= '|usual' if $case->{behind};
    $usual = 'deadline|SUCCESS' if $case->{behind};
    $right =~ s/\busual\b/$usual/;
    $right =~ s/\bclosed\b/$closed/;

    # a claim that was sent, and not replied to, may hold

    my $unknown = $case->{any} ? 'in_flight' : 'store_error';

    $right =~ s/\bunknown\b/$unknown/;
    return $right;
}


# A notify while calls fail, what it was answered, and the same again.

sub notify {
    my ($case, $objects, $first, $last) = @_;

    my ($path, $make) = @$case{qw(path make)};
    my $targets = $case->{targets} // 1;
    my $notify = $make->();
    my $id = $notify->{event_id};
    my @wrong = look();

    my $connection = $client->connect;
    my @request = ('POST', $path,
                   [ @{ $notify->{headers} }, Connection => 'close' ],
                   $notify->{body});

    # what is done before the app has it is made to fail elsewhere

    arm($objects, $first, $last) if !$case->{renewed};
    $connection->send(@request);

    if ($case->{renewed}) {
        push @wrong, 'no delivery' if !$app->wait_for(1, slow(10));
        arm($objects, $first, $last);
    }

    my $answer = $pay->answer($notify, $connection->read);

    if ($case->{behind}) {
        $app->settle(slow(10));
        sleep 0.1;
    }

    my ($calls, $failed, $key) = disarm();

    $connection->close;
    push @wrong, look();

    my $accepted = keys %{ $targets{$id} // {} };

    if ($case->{forged}) {
        push @wrong, "forged: $answer"
            if $answer !~ /^(?:$case->{forged}|store_error|5..\b.*)/s
               && $answer !~ /^0 /;
        push @wrong, 'forged, and delivered' if $accepted;
        return ($calls, $failed, $key, $answer, @wrong);
    }

    push @wrong, "$answer, and $accepted accepted"
        if $answer eq 'SUCCESS'
           && ($accepted != $targets
               || ($case->{usual} // '') eq 'upstream_error');

    my $right = right($case, $failed ? site($key) : 'none');

    push @wrong, $answer if $answer !~ /^(?:$right)$/s;

    my $deliveries = deliveries($notify);
    my $again = answer($path, $notify);

    push @wrong, look();
    push @wrong, 'SUCCESS, and delivered again'
        if $answer eq 'SUCCESS' && deliveries($notify) != $deliveries;
    push @wrong, "it may have accepted, and again: $again"
        if $objects == $JANSSON && $failed && $case->{path} eq '/code'
           && $again ne 'in_flight';
    push @wrong, "again: $again"
        if $again !~ /^(?:SUCCESS|in_flight)$/
           && $again ne ($case->{usual} // '')
           && !($case->{behind} && $again eq 'deadline');
    push @unfinished, [ $case, $notify, $key, $answer ]
        if $again ne 'SUCCESS';

    return ($calls, $failed, $key, $answer, @wrong);
}


# What a call for a refund is answered by the call that fails, likewise.  That
# it was rejected is told only where nothing was sent, and nothing is wrong with
# an answer that there is no memory to read.

my $NOT_SENT = '500 rejected INTERNAL_ERROR retryable';
my $NOT_READ = '502 unknown INTERNAL_ERROR retryable';

my @refund_right = (
    [ qr/^EVP_PKEY_verify in wechatpay_v3_/
      => '502 unknown UNVERIFIED_RESPONSE retryable' ],

    # it is sent without a guard
    [ qr/ in wechatpay_request_digest / => '200 accepted' ],

    # it is signed again
    [ qr/^EVP_PKEY_verify in wechatpay_call_sign / => '200 accepted' ],

    [ qr/ at wechatpay_(?:v[23]_)?call\./ => $NOT_SENT ],
    [ qr/ in ngx_http_refund_request_call_(?:answer_headers|judge) /
      => $NOT_READ ],
    [ qr/ at wechatpay_(?:v[23]_answer|v3_signature|xml)\./ => $NOT_READ ],

    # of what is sent, of the answer, and of the event behind it
    [ qr/ at wechatpay_/ => "$NOT_SENT|$NOT_READ|200 accepted" ],
    [ qr/ in libjansson/ => "$NOT_SENT|$NOT_READ|200 accepted" ],
    [ qr/^none$/ => '200 accepted' ],
    [ qr/./ => '200 accepted|0 .*closed'
               . '|5\d\d (?!.*(?:MALFORMED|UNVERIFIED)_RESPONSE).*' ],
);


# A call for a refund likewise: booked once, and accepted when it is repeated.

sub refund {
    my ($case, $objects, $first, $last) = @_;

    my $body = $caller->body;
    my $booked = $server->refunds;
    my @call = ('POST', $case->{path}, $body);
    my @wrong;

    if ($case->{query}) {
        my $created = $caller->call(@call)->{line};

        push @wrong, "created: $created" if $created ne '200 accepted';
        @call = ('GET', "$case->{path}$case->{query}$body->{out_refund_no}");
    }

    arm($objects, $first, $last);
    my $answer = $caller->call(@call)->{line};
    my ($calls, $failed, $key) = disarm();

    my $site = $failed ? site($key) : 'none';
    my ($right) = map { $_->[1] } grep { $site =~ $_->[0] } @refund_right;

    push @wrong, $answer if $answer !~ /^(?:$right)$/s;
    push @wrong, 'accepted, and not booked'
        if $answer eq '200 accepted' && $server->refunds != $booked + 1;

    my $again = $caller->call(@call)->{line};

    push @wrong, "again: $again"
        if $again ne '200 accepted' && $again !~ /^5/;
    push @unfinished, [ $case, \@call, $key, $answer ]
        if $again ne '200 accepted';

    return ($calls, $failed, $key, $answer, @wrong);
}


sub status {
    my ($case, $objects, $first, $last) = @_;

    arm($objects, $first, $last);
    my $response = $client->request('GET', $case->{path},
                                    [ Accept => $case->{accept} // '*/*' ]);
    my ($calls, $failed, $key) = disarm();

    return ($calls, $failed, $key, $response->{status},
            $response->{status} =~ /^(?:200|5\d\d|0)$/
            ? () : "$response->{status}");
}


# Each kind of request: what makes it, what it is answered when nothing fails,
# and what its check has to know.

my $v2 = sub { $pay->v2_notify($shop) };
my $v3 = sub { $pay->v3_notify($shop) };

sub known {
    my ($path, $make) = @_;

    return sub {
        my $notify = $make->();

        wait_until(sub { answer($path, $notify) eq 'SUCCESS' }, 20);
        return $notify;
    };
}


sub refused {
    my ($make) = @_;

    return sub {
        my $notify = $make->();

        $app->rules({ path => '/code', body => '{"code":"SUCCESS"}' },
                    { id => $notify->{event_id}, status => 500, times => 1 });
        return $notify;
    };
}


# What was refused by the app, sent again: the record is taken over.

sub released {
    my ($path, $make) = @_;

    return sub {
        my $notify = refused($make)->();

        answer($path, $notify);
        look();
        delete $targets{ $notify->{event_id} };
        return $notify;
    };
}


# The app takes so long that the lease is renewed.

sub delayed {
    my ($make) = @_;

    return sub {
        my $notify = $make->();

        $app->rules({ path => '/code', body => '{"code":"SUCCESS"}' },
                    { id => $notify->{event_id}, delay => $LEASE / 2,
                      times => 1 });
        return $notify;
    };
}


# Redis has closed the connections, so that they are made again.

sub severed {
    my ($make) = @_;

    return sub {
        my $notify = $make->();

        $redis->command(qw(CLIENT KILL TYPE normal));
        sleep 0.01;
        return $notify;
    };
}


my @cases = (
    map({
        my ($version, $make) = @$_;
        my $forged = $version eq 'v2'
            ? { forged => 'undecryptable',
                make => sub { $pay->v2_notify($shop, -key => 'k' x 32) } }
            : { forged => 'unverified',
                make => sub { $pay->v3_notify($shop, -signature => sub {
                    my ($signature) = @_;
                    $signature =~ tr/A-Za-z/B-ZAb-za/;
                    return $signature;
                }) } };

        map { +{ %$_, name => "$version, $_->{name}", run => \&notify } } (
            { name => 'shm', path => '/shm', make => $make },
            { name => 'two targets, signed', path => '/two', make => $make,
              targets => 2 },
            { name => 'an answer read', path => '/code', make => $make },
            { name => 'Redis', path => '/redis', make => $make },
            { name => 'Redis, cached', path => '/cached', make => $make },
            { name => 'Redis, severed', path => '/redis', any => 1,
              make => severed($make) },
            { name => 'duplicate, shm', path => '/shm',
              make => known('/shm', $make) },
            { name => 'duplicate, Redis', path => '/redis',
              make => known('/redis', $make) },
            { name => 'duplicate, cached', path => '/cached',
              make => known('/cached', $make) },
            { name => 'refused, shm', path => '/shm', usual => 'upstream_error',
              make => refused($make) },
            { name => 'refused, Redis', path => '/redis',
              usual => 'upstream_error', make => refused($make) },
            { name => 'taken over, shm', path => '/shm',
              make => released('/shm', $make) },
            { name => 'taken over, Redis', path => '/redis',
              make => released('/redis', $make) },
            { name => 'forged', path => '/shm', usual => $forged->{forged},
              %$forged },
        );
    } [ v2 => $v2 ], [ v3 => $v3 ]),

    { name => 'renewed, shm', path => '/shm', make => delayed($v2),
      renewed => 1, run => \&notify },
    { name => 'renewed, Redis', path => '/redis', make => delayed($v3),
      renewed => 1, run => \&notify },
    { name => 'deadline, Redis', path => '/late', make => delayed($v3),
      behind => 1, any => 1, share => 0.05, run => \&notify },

    map({ +{ %$_, run => \&refund, usual => '200 accepted' } } (
        { name => 'create, v3', path => '/v3' },
        { name => 'create, v2', path => '/v2' },
        { name => 'create, in a thread', path => '/threads' },
        { name => 'query, v3', path => '/v3', query => '/' },
        { name => 'query, v2', path => '/v2', query => '?out_refund_no=' },
    )),

    map({ +{ %$_, run => \&status, usual => 200 } } (
        { name => 'status', path => '/status' },
        { name => 'status, JSON', path => '/status',
          accept => 'application/json' },
        { name => 'status, page', path => '/status', accept => 'text/html' },
    )),
);


# Is all as before, so that the next round is one of its own?  What is done for
# the log of one request is done before the worker answers another.

sub well {
    my ($path) = @_;

    my $last;
    my $well = wait_until(sub {
        $last = answer($path, $v2->());
        return $last eq 'SUCCESS';
    }, 20);

    $client->request('GET', '/status');
    return $well ? () : "then: $last";
}


sub torture {
    my ($case, $objects, $share) = @_;

    my $path = $case->{path} =~ /redis|cached|threads|late/ ? '/redis' : '/shm';
    my ($calls, $failed, $key, $answer, @wrong)
        = $case->{run}->($case, $objects, 0, 0);
    my $usual = $case->{usual} // 'SUCCESS';

    my $name = $case->{name} . ($objects == $MODULE ? '' : ', libraries');

    is($answer, $usual, "$name: $calls calls") if !$case->{any};
    cmp_ok($calls, '>', 0, "$name: they are counted")
        if $objects != $LIBRARIES;

    my ($struck, %answers) = 0;
    my @which = 1 .. $calls;

    # a share of them, or so many

    $share = int($share < 1 ? $share * @which + 1 : @which) if $share <= 1;
    @which = sort { $a <=> $b } (shuffle @which)[0 .. $share - 1]
        if $share < @which;

    # there are as many of the others each time

    $which[0] = 1 if @which && ($case->{renewed} || $case->{any});

    for my $call (@which) {
        my ($n, $failed, $key, $answer, @bad)
            = $case->{run}->($case, $objects, $call, $call);

        $struck += $failed;
        push @bad, well($path);
        push @bad, 'the worker died' if ($nginx->workers)[0] != $worker;
        $answers{ length $answer > 30 ? substr $answer, 0, 30 : $answer }++;
        $failed{$key}{$answer}++ if $failed;
        push @wrong, map { sprintf '%d (%s): %s', $call, site($key), $_ } @bad;
        ($worker) = $nginx->workers;
    }

    cmp_ok($struck, '>', 0, "$name: and they fail")
        if @which && $objects == $MODULE;
    is(join("\n", @wrong), '', "$name: "
       . join ', ', map { "$answers{$_} $_" } sort keys %answers);
    return;
}


# What a call is called, by its key: the symbol, and file and line.

my (@symbols, @objects, %places);

{
    my $c = read_file($source);

    @objects = $c =~ /^    "(\w+\.so)"/mg;
    @symbols = $c =~ /^    \{ "(\w+)", /mg;
}

sub site {
    my ($key) = @_;

    return 'none' if !$key;

    my $object = $key >> 60;
    my $symbol = $symbols[($key >> 48 & 0xfff) - 1];
    my $offset = $key & (1 << 48) - 1;

    return "$symbol in $objects[$object]" if $object || !$offset;

    return "$symbol " . (places($offset))[0];
}


# The functions, and the lines, of calls that return to these places in the
# module.

sub places {
    my (@offsets) = @_;

    if (my @unknown = grep { !$places{$_} } @offsets) {
        my $list = write_file("$dir/offsets",
                              join '', map { sprintf "%x\n", $_ - 1 } @unknown);
        my $module = $nginx->module_path;

        my @lines = qx(addr2line -f -e $module <$list);

        for (@unknown) {
            my ($function, $line) = splice @lines, 0, 2;

            chomp $function;
            $places{$_} = "in $function at "
                          . ($line =~ m{([^/]+:\d+)[^/]*$} ? $1 : '?');
        }
    }

    return @places{@offsets};
}


# What a worker has open.

sub descriptors {
    return scalar(() = glob "/proc/$worker/fd/*");
}


sub connections {
    my ($active) = $client->request('GET', '/connections')->{body}
                   =~ /^Active connections: (\d+)/;
    return $active // 0;
}


well('/shm'), well('/redis');

my $descriptors = descriptors();

torture($_, $MODULE, $full ? 1 : $_->{share} // 0.1) for @cases;
torture($_, $JANSSON, $_->{path} eq '/code' || $full ? 1 : 0.1)
    for grep { $_->{name} =~ /^(?:v2, an answer read|create, v3|query, v3)$/ }
             @cases;

if ($full) {
    torture($_, $LIBRARIES, 100) for grep { $_->{run} != \&status } @cases;
}


# When the leases are over.  What was answered SUCCESS is not delivered again.

my @wrong;

for (@unfinished) {
    my ($case, $notify, $key, $was) = @$_;
    my $refund = $case->{run} == \&refund;
    my $deliveries = $refund || deliveries($notify);
    my $answer;

    wait_until(sub {
        $answer = $refund
                  ? $caller->call(@$notify)->{line}
                  : answer($case->{path}, $pay->resend($shop, $notify));
        sleep 0.05 if $answer =~ /^in_flight|^5/;
        return $answer =~ /^(?:SUCCESS|200 accepted)$/;
    }, 3 * $LEASE);

    push @wrong, "$case->{name} (" . site($key) . "): $was, in the end $answer"
        if $answer !~ /^(?:SUCCESS|200 accepted)$/;
    push @wrong, "$case->{name} (" . site($key) . "): SUCCESS, and delivered"
        if $was eq 'SUCCESS' && deliveries($notify) != $deliveries;
}

is(join("\n", @wrong), '', 'in the end all are accepted: ' . @unfinished);
like($nginx->error_log, qr/\[error\].*: INTERNAL_ERROR, the call could not be/,
     'a call that could not be made is told at error, and why')
    if grep { $failed{$_}{$NOT_SENT}
              && site($_) =~ / at wechatpay_(?:v[23]_)?call\./ } keys %failed;
ok(wait_until(sub { connections() == 1 }, 20), 'no connection is left')
    or diag(connections());
ok(wait_until(sub { descriptors() <= $descriptors }, 20),
   'nor anything else open')
    or diag(descriptors() . " of $descriptors");


# The configuration read: what fails there is refused, by nginx -t, and by a
# reload, which leaves all as it was.

sub start_up {
    my ($name, $share, $try) = @_;

    arm($MODULE, 0, 0);
    my ($code) = $nginx->config_test($text);
    my ($calls) = disarm();
    my (@wrong, %answers);

    is($code, 0, "$name: $calls calls");

    my @which = sort { $a <=> $b }
                     (shuffle 1 .. $calls)[0 .. $share * ($calls - 1)];

    for my $call (@which) {
        arm($MODULE, $call, $call);
        my @bad = $try->();
        my ($n, $failed, $key) = disarm();

        next if !$failed;

        $failed{$key}{$name . (@bad ? ' passed' : ' refused')}++;
        push @wrong, map { sprintf '%d (%s): %s', $call, site($key), $_ } @bad;
    }

    is(join("\n", @wrong), '', "$name: refused " . @which . ' times');
    return;
}


start_up('nginx -t', $full ? 1 : 0.02, sub {
    my ($code) = $nginx->config_test($text);

    return $code == 1 ? () : $code == 0 ? 'passed' : "ended by $code";
});

# nginx does not say that it has no memory for a configuration: where nothing
# comes of a reload it is not waited for.

start_up('reload', $full ? 1 : 0.02, sub {
    $nginx->signal('HUP');
    wait_until(sub {
        return unpack('x20 L', read_file($control))
               || grep { $_ != $worker } $nginx->workers;
    }, 20);
    sleep 0.2;

    my @workers = $nginx->workers;
    my @wrong = "@workers" eq $worker ? () : 'passed';

    ($worker) = grep { $_ != $worker } @workers if @wrong;
    return @wrong, well('/shm');
});

ok($nginx->reload, 'and at last a reload as any');


# Each function of the list is redirected, but what only libraries call, and
# what the C library has under two names.

my @patched = unpack "x$PATCHED C" . @symbols, read_file($control);

is(join(' ', map { $symbols[$_] } grep { !$patched[$_] } 0 .. $#symbols),
   'malloc reallocarray strdup strndup open fstat',
   'the others are called by the module, and can be made to fail');


# What the module calls that can fail, as it was linked: each such call, and
# what came of its failing.  Those that never did, and why.

my @never_here = (
    [ qr/ at ngx_refund_redis_(?:cluster|sentinel|lookup)\./
      => 'Redis is one' ],
    [ qr/ in ngx_refund_redis_connection_subscribe / => 'and no sentinel' ],
    [ qr/^redisAsyncConnectUnix / => 'by TCP' ],
    [ qr/ in ngx_http_refund_store_resolve / => 'at an address' ],
    [ qr/ at ngx_http_refund_store_replicas\./ => 'without replicas' ],
    [ qr/ in ngx_http_refund_status_ready / => 'and up' ],
    [ qr/ in ngx_refund_redis_(?:single|connection)_open /
      => 'once a worker, as it starts' ],
    [ qr/ in wechatpay_(?:parser_create|xml_parser_create|xml_context) /
      => 'once a worker, and before its calls are counted' ],
    [ qr/ in wechatpay_failure_json / => 'only when another has failed' ],
    [ qr/^ngx_read_file in ngx_http_refund_body / => 'no body is in a file' ],
    [ qr/ in ngx_http_refund_event_request_id /
      => 'nothing here uses $request_id' ],
    [ qr/ in wechatpay_request_(?:set|encrypt) / => 'no refund is abnormal' ],
    [ qr/^EVP_Digest in wechatpay_v2_sign_digest / => 'nothing signs by MD5' ],
    [ qr/ at ngx_refund_test_/ => 'the tests\' own' ],
);

if ($full) {
    my (%row, @never);
    my $wanted = join '|', @symbols;
    my $sites = substr read_file($control), $SITES;

    for (unpack '(a16)*', $sites) {
        my ($key, $hits, $fails) = unpack 'QLL', $_;
        my $offset = $key & (1 << 48) - 1;

        next if !$key || $key >> 60;
        places($offset) if $offset;

        my $row = $row{ site($key) } //= {};

        $row->{hits} += $hits;
        $row->{fails} += $fails;
        $row->{answers}{$_} += $failed{$key}{$_}
            for keys %{ $failed{$key} // {} };
    }

    my ($symbol, @calls);

    open my $objdump, '-|', 'objdump', '-d', '--no-show-raw-insn',
                            $nginx->module_path
        or die "objdump: $!\n";

    while (<$objdump>) {
        push @calls, [ $symbol, hex $1 ] if $symbol && /^ +([0-9a-f]+):/;
        $symbol = /\tcall .*<($wanted)\@plt>/ ? $1 : undef;
    }

    close $objdump;
    places(map { $_->[1] } @calls);

    for (@calls) {
        next if $_->[0] eq 'ngx_refund_redis_send';
        $row{ "$_->[0] " . (places($_->[1]))[0] } //= { hits => 0,
                                                           fails => 0 };
    }

    my $table = '';

    for my $call (sort { ($a =~ / (\S+)$/)[0] cmp ($b =~ / (\S+)$/)[0] }
                       keys %row)
    {
        my $answers = $row{$call}{answers} // {};
        my ($why) = map { $_->[1] } grep { $call =~ $_->[0] } @never_here;
        my $fails = $row{$call}{fails};

        $table .= sprintf "%-70s %6d %5d  %s\n", $call, $row{$call}{hits},
                          $fails, $fails
                          ? join ', ', map { "$answers->{$_} "
                                             . substr $_, 0, 40 }
                                           sort keys %$answers
                          : $why // 'never';
        push @never, $call if !$fails && !defined $why;
    }

    write_file($ENV{TORTURE_TABLE}, $table) if $ENV{TORTURE_TABLE};
    for my $what (qw(claim renew release commit)) {
        ok(grep({ /^ngx_refund_redis_send in \w+_$what\b/
                  && $row{$_}{fails} } keys %row),
           "$what, to Redis: it fails");
    }

    is(join("\n", @never), '',
       keys(%row) . ' calls: each has failed, or it is said why not');
}

$nginx->stop;
done_testing;
