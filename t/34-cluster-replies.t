#!/usr/bin/perl

# Whatever the nodes of a cluster may answer: keys that are elsewhere, or on
# their way, or nowhere; maps that have holes, are nonsense, or huge.  What
# becomes of a notify meanwhile, what is sent where, and what the log says.

use lib 't/lib';
use RefundNotify::Test;

use RefundNotify::Test::Cluster;
use Time::HiRes qw(sleep time);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify '$arg_n|$refund_notify_result|$refund_notify_reason'
                      '|$refund_notify_attempt';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_store many redis+cluster://127.0.0.1:%%A%%,127.0.0.1:%%B%%
                      prefix=t: cache=off timeout=%%TIMEOUT%%ms user=edge
                      password_file=%%DIR%%/edge.password;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = / {
            refund_notify          shop;
            refund_notify_pass     /internal/refunds name=orders;
            refund_notify_store    many;
            refund_notify_lease    %%LEASE%%ms;
            refund_notify_deadline 30s;
        }

        location = /status {
            refund_status;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $TIMEOUT = slow(1) > 1 ? 1.2 : 0.5;
my $LEASE = 5 * $TIMEOUT;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();

# Two nodes, which are scripted, and one Redis behind both: whatever is not
# redirected finds what the other has written.

my $redis = redis(password => 'of-the-nodes', config => [
    'user edge on >of-the-edge ~t:* +ping +set +get +eval +pttl' ]);
my ($node_a, $node_b) = map {
    RefundNotify::Test::ScriptedRedis->new(redis => $redis)
} 1 .. 2;
my %name = ($node_a => 'A', $node_b => 'B');
my $gone = RefundNotify::Test::Util::free_port();
my $n = 0;
my $nginx;


sub bulk {
    my ($text) = @_;

    return '$' . length($text) . "\r\n$text\r\n";
}


# CLUSTER SLOTS' reply: ranges of [ first, last, port, host ]

sub slots {
    return '*' . @_ . "\r\n" . join '', map {
        "*3\r\n:$_->[0]\r\n:$_->[1]\r\n*3\r\n"
        . bulk($_->[3] // '127.0.0.1') . ":$_->[2]\r\n" . bulk('0' x 40)
    } @_;
}


# Both nodes tell this map, and answer so from now on.  All connections are new.

sub script {
    my ($map, $rules_a, $rules_b) = @_;

    for ([ $node_a, $rules_a ], [ $node_b, $rules_b ]) {
        my ($node, $rules) = @$_;

        $node->rules(@{ $rules || [] },
                     { command => 'CLUSTER', reply => ref $map ? $map->{$node}
                                                               : $map },
                     { command => 'ASKING', reply => "+OK\r\n" });
        $node->forget;
        $node->drop;
    }

    # the map is asked for anew where a connection broke, but not at once

    wait_until(sub { grep { $_->{command} eq 'CLUSTER' }
                          $node_a->requests, $node_b->requests }, 10)
        or die "nobody asks for the map\n";
    sleep 0.1;
    return;
}


sub ends {
    my ($name, $notify, $result, $reason, $attempt) = @_;

    client($nginx)->post('/?n=' . ++$n, $pay->resend($shop, $notify));

    $reason //= '-';
    $attempt //= '-';
    like($nginx->logged($n), qr/^$result\|$reason\|$attempt$/, $name);
    return;
}


sub delivered {
    my ($name, $notify) = @_;

    ok(wait_until(sub {
        my $response = client($nginx)->post('/', $pay->resend($shop, $notify));

        return $pay->answer($notify, $response) eq 'SUCCESS';
    }, 10), $name);
    return;
}


sub becomes {
    my ($name, $ready) = @_;

    ok(wait_until(sub {
        client($nginx)->request('GET', '/status?ready')->{body} eq $ready
    }, 10), "$name: ?ready");
    return;
}


sub log_has {
    my ($name, $pattern) = @_;

    ok($nginx->wait_for_log('error.log', $pattern, 5), "$name: logged");
    return;
}


sub key {
    my ($notify) = @_;

    return "t:{$notify->{event_id}}orders";
}


# What was sent to which node, about this key, in the order of time.

sub sent {
    my ($key) = @_;

    my @seen;

    for my $node ($node_a, $node_b) {
        my %asking;

        for my $request ($node->requests) {
            my $connection = $request->{connection};

            if ($request->{command} eq 'ASKING') {
                $asking{$connection} = 1;
                next;
            }

            my $asking = delete $asking{$connection} ? '!' : '';

            push @seen, [ $request->{time}, "$name{$node}$asking:"
                                            . $request->{command} ]
                if ($request->{key} // '') eq $key;
        }
    }

    return join ' ', map { $_->[1] } sort { $a->[0] <=> $b->[0] } @seen;
}


my $ALL_A = slots([ 0, 16383, $node_a->port ]);
my $ALL_B = slots([ 0, 16383, $node_b->port ]);
my ($TO_A, $TO_B, $TO_GONE)
    = map { "127.0.0.1:$_\r\n" } $node_a->port, $node_b->port, $gone;

for ($node_a, $node_b) {
    $_->rules({ command => 'CLUSTER', reply => $ALL_A });
}

$nginx = nginx(with_merchants($conf, $shop),
               vars => { APP => $app->port, A => $node_a->port,
                         B => $node_b->port, TIMEOUT => 1000 * $TIMEOUT,
                         LEASE => 1000 * $LEASE },
               files => { 'edge.password' => 'of-the-edge' });

delivered('all is well', $pay->v2_notify($shop));

# Each row: what A says of the key, and of its claim's GET alone if that is said
# apart; what B says; the notify's end; and what was sent where.

my $MOVED = 'the key is on another node of the Redis Cluster';
my $LATER = 'the Redis Cluster is moving the keys';
my $DOWN = 'the Redis Cluster is down';

# What nearly is an address goes to no getaddrinfo(), which would take it for a
# name, and wait for what a name server says.

my @NEARLY = qw(1.2.3. ... 08.1.1.1 ::1.2.3.);

# the map goes on naming A: it may have been read anew when the app has accepted

my $MOVED_ON = qr/^A:SET A:GET B:SET B:GET (?:A:SET )?B:SET$/;

for ([ 'MOVED', { all => "-MOVED 1 $TO_B" }, {}, 'delivered', undef, 1,
       $MOVED_ON ],
     [ 'moved between the two', { GET => "-MOVED 1 $TO_B" }, {},
       'delivered', undef, 1, qr/^A:SET A:GET B:GET [AB]:SET$/ ],
     [ 'MOVED without a host',
       { all => '-MOVED 1 :' . $node_b->port . "\r\n" }, {}, 'delivered',
       undef, 1, $MOVED_ON ],
     [ 'MOVED to a host that is not known',
       { all => '-MOVED 1 ?:' . $node_b->port . "\r\n" }, {},
       'delivered', undef, 1, $MOVED_ON ],
     [ 'MOVED in a circle', { all => "-MOVED 1 $TO_B" },
       { all => "-MOVED 1 $TO_A" }, 'store_error', $MOVED, undef,
       'A:SET A:GET B:SET B:GET A:SET A:GET B:SET B:GET A:SET A:GET '
       . 'B:SET B:GET' ],
     [ 'MOVED to itself', { all => "-MOVED 1 $TO_A" }, {}, 'store_error',
       $MOVED, undef, join ' ', ('A:SET A:GET') x 6 ],
     [ 'MOVED, but badly', { all => "-MOVED 1 127.0.0.1:0\r\n" }, {},
       'store_error', $MOVED, undef, 'A:SET A:GET' ],
     [ 'MOVED, but nowhere', { all => "-MOVED\r\n" }, {}, 'store_error',
       $MOVED, undef, 'A:SET A:GET' ],
     [ 'MOVED to a name that nobody can look up',
       { all => "-MOVED 1 node.invalid:6379\r\n" }, {}, 'store_error',
       'the host name of Redis cannot be resolved', undef, qr/^A:SET A:GET/ ],
     (map { [ "MOVED to $_", { all => "-MOVED 1 $_:6379\r\n" }, {},
              'store_error', 'the host name of Redis cannot be resolved',
              undef, qr/^A:SET A:GET/ ] } @NEARLY),
     [ 'ASK to 1.2.3.', { all => "-ASK 1 1.2.3.:6379\r\n" }, {},
       'store_error', 'the host name of Redis cannot be resolved', undef,
       qr/^A:SET A:GET/ ],
     [ 'MOVED to a dead node', { all => "-MOVED 1 $TO_GONE" }, {},
       'store_error', 'Redis cannot be connected to', undef,
       qr/^A:SET A:GET/ ],
     [ 'ASK', { all => "-ASK 1 $TO_B", times => 2 }, {}, 'delivered', undef,
       1, 'A:SET A:GET B!:SET B!:GET A:SET' ],
     [ 'ASK of one', { GET => "-ASK 1 $TO_B" }, {}, 'delivered', undef, 1,
       'A:SET A:GET B!:GET A:SET' ],
     [ 'ASK, and not there either', { all => "-ASK 1 $TO_B" },
       { all => "-MOVED 1 $TO_A" }, 'store_error', $MOVED, undef,
       'A:SET A:GET B!:SET B!:GET A:SET A:GET B!:SET B!:GET A:SET A:GET '
       . 'B!:SET B!:GET' ],
     [ 'TRYAGAIN', { all => "-TRYAGAIN in a moment\r\n", times => 2 }, {},
       'delivered', undef, 1, 'A:SET A:GET A:SET A:GET A:SET' ],
     [ 'TRYAGAIN for ever', { all => "-TRYAGAIN in a moment\r\n" }, {},
       'store_error', $LATER, undef, qr/^(?:A:SET A:GET ?){4,}$/ ],
     [ 'CLUSTERDOWN', { all => "-CLUSTERDOWN for a moment\r\n", times => 4 },
       {}, 'delivered', undef, 1,
       'A:SET A:GET A:SET A:GET A:SET A:GET A:SET' ],
     [ 'CLUSTERDOWN for ever', { all => "-CLUSTERDOWN it is\r\n" }, {},
       'store_error', $DOWN, undef, qr/^(?:A:SET A:GET ?){4,}$/ ],
     [ 'LOADING', { all => "-LOADING for a moment\r\n", times => 2 }, {},
       'delivered', undef, 1, 'A:SET A:GET A:SET A:GET A:SET' ],
     [ 'OOM', { SET => "-OOM no memory\r\n" }, {}, 'store_error',
       'Redis is out of memory', undef, 'A:SET A:GET' ])
{
    my ($what, $on_a, $on_b, $result, $reason, $attempt, $expected) = @$_;
    my $notify = $pay->v2_notify($shop);
    my $key = key($notify);
    my @rules = map {
        my $on = $_;
        [ map { +{ $_ eq 'all' ? () : (command => $_), key => $key,
                   reply => $on->{$_},
                   $on->{times} ? (times => $on->{times}) : () } }
          grep { $_ ne 'times' } keys %$on ]
    } $on_a, $on_b;

    script($ALL_A, @rules);
    ends($what, $notify, $result, $reason, $attempt);

    wait_until(sub { sent($key) =~ /SET$/ }, 5) if $result eq 'delivered';

    ref $expected ? like(sent($key), $expected, "$what: what was sent")
                  : is(sent($key), $expected, "$what: what was sent");
}

# What a node may have run is not sent again.

{
    my $notify = $pay->v2_notify($shop);

    script($ALL_A, [ { command => 'GET', key => key($notify),
                       fault => 'close', times => 1 } ]);
    ends('lost between claim and reply', $notify, 'store_error',
         'Redis closed the connection');
    is(sent(key($notify)), 'A:SET A:GET', 'it is not sent again');
    sleep $LEASE;
    delivered('after its lease it is delivered', $notify);
    is(join(' ', map { $_->{headers}{'refund-attempt'} }
                 grep { $_->{id} eq $notify->{event_id} } $app->requests), 2,
       'once, as the second attempt');
}

# Maps: each row is what A tells, while B knows that all is on B; or what both
# tell.

for ([ 'an error', "-ERR nonsense\r\n" ],
     [ 'no cluster', "-ERR This instance has cluster support disabled\r\n" ],
     [ 'OK', "+OK\r\n" ], [ 'nothing', "*0\r\n" ], [ 'nil', "*-1\r\n" ],
     [ 'numbers', "*2\r\n:0\r\n:16383\r\n" ],
     [ 'no node', "*1\r\n*2\r\n:0\r\n:16383\r\n" ],
     [ 'a range backwards', slots([ 5, 4, $node_a->port ]) ],
     [ 'a slot too many', slots([ 0, 16384, $node_a->port ]) ],
     [ 'a slot below', slots([ -1, 16383, $node_a->port ]) ],
     [ 'no port', slots([ 0, 16383, 0 ]) ],
     [ 'a port too large', slots([ 0, 16383, 65536 ]) ],
     [ 'a host that is none', slots([ 0, 16383, $node_a->port, 'a b' ]) ],
     [ 'one bad range',
       slots([ 0, 16382, $node_a->port ], [ 2, 1, $node_a->port ]) ],
     [ 'too many ranges', slots(map { [ 0, 0, $node_a->port ] } 0 .. 16384) ],
     [ 'no end', "*1\r\n", then => 'hang' ])
{
    my ($what, $map, @how) = @$_;
    my $notify = $pay->v2_notify($shop);

    script({ $node_a => $map, $node_b => $ALL_B });
    delivered("A tells $what", $notify);
}

for ([ 'all on B', $ALL_B, 'B' ],
     (map { [ qq{B by "$_"},
              { $node_a => $ALL_B,
                $node_b => slots([ 0, 16383, $node_b->port, $_ ]) }, 'B' ] }
          '', '?'),
     [ 'B by nil', { $node_a => $ALL_B,
                     $node_b => $ALL_B =~ s/\$9\r\n127.0.0.1/\$-1/r }, 'B' ],
     [ 'B by its name and address',
       "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n" . bulk('node.invalid') . ':'
       . $node_b->port . "\r\n" . bulk('0' x 40) . "*2\r\n" . bulk('ip')
       . bulk('127.0.0.1'), 'B' ],
     [ 'all slots one by one',
       slots(map { [ $_, $_, $node_b->port ] } 0 .. 16383), 'B' ],
     [ 'thousands of ranges, of either',
       slots(map { [ 4 * $_, 4 * $_ + 3, ($_ % 2 ? $node_a : $node_b)->port ] }
                 0 .. 4095), '[AB]' ])
{
    my ($what, $map, $where) = @$_;
    my $notify = $pay->v2_notify($shop);

    script($map);
    delivered($what, $notify);
    like(sent(key($notify)), qr/(?:^| )$where:SET $where:GET $where:SET$/,
         "$what: it is there");
}

# what nearly is an address, as a node's host in the map

for my $host (@NEARLY) {
    script(slots([ 0, 16383, $node_b->port, $host ]));
    ends("$host has all", $pay->v2_notify($shop), 'store_error',
         'the host name of Redis cannot be resolved');
}

# A node that is known by its address alone goes from the map while its reply is
# still to come, which then names no host: its own is still known.  Who tells
# the map is chosen at random, and B, whose replies wait, may be it.  C is in no
# map, and so becomes known by that reply only.

{
    my $node_c = RefundNotify::Test::ScriptedRedis->new(redis => $redis);
    my ($to_a, $to_c) = map { '-MOVED 1 :' . $_->port . "\r\n" }
                            $node_a, $node_c;
    my ($by_a, $by_b) = map {
        "*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n\$-1\r\n:" . $_->port . "\r\n"
        . bulk('0' x 40) . "*2\r\n" . bulk('ip') . bulk('127.0.0.1')
    } $node_a, $node_b;

    for my $round (1 .. 6) {
        my ($now, $late) = map { $pay->v2_notify($shop) } 1, 2;

        script($by_b);
        delivered('a node by its address', $pay->v2_notify($shop));
        sleep 0.4;                      # between two maps

        $_->rules({ command => 'CLUSTER', reply => $by_a },
                  $_ == $node_a ? () : (
                      { key => key($now), reply => $to_a },
                      { key => key($late), reply => $to_c,
                        delay => 0.3 * $TIMEOUT }))
            for $node_a, $node_b;

        my @connections = map {
            my $connection = client($nginx)->connect;

            $connection->send('POST', '/', $_->{headers}, $_->{body});
            $connection;
        } $now, $late;

        is($pay->answer($now, $_->read), 'SUCCESS',
           "... which goes while it is asked, $round") for @connections;
    }
}

# holes: who has a key there is served, who has not waits in vain

{
    my ($here, $hole);

    while (!$here || !$hole) {
        my $notify = $pay->v2_notify($shop);

        (RefundNotify::Test::Cluster::slot_of(key($notify)) < 8192
         ? $here : $hole) //= $notify;
    }

    script(slots([ 0, 8191, $node_a->port ]));
    delivered('a slot that is served', $here);
    ends('a slot that nobody serves', $hole, 'store_error',
         'no node of the Redis Cluster has the slot');
    script($ALL_A);
    delivered('it is served again', $hole);
}

# more nodes than there is room for: of those beyond a key is in vain, and a
# redirection to one is as if it had not come

{
    my ($known, $beyond);

    while (!$known || !$beyond) {
        my $notify = $pay->v2_notify($shop);
        my $slot = RefundNotify::Test::Cluster::slot_of(key($notify));

        $known //= $notify if $slot < 8192;
        $beyond //= $notify if $slot > 9190;
    }

    # A, and 1000 more, none of which is connected to

    my @others = map { [ 8191 + $_, 8191 + $_, $gone,
                         '127.1.' . int($_ / 250) . '.' . (1 + $_ % 250) ] }
                     1 .. 1000;

    $others[-1][1] = 16383;
    script(slots([ 0, 8191, $node_a->port ], @others),
           [ { command => 'SET', key => key($known), times => 1,
               reply => "-MOVED 1 $others[-1][3]:$gone\r\n" } ]);
    ends('a node that is known', $known, 'delivered', undef, 1);
    is(sent(key($known)), 'A:SET A:GET A:SET A:GET A:SET',
       '... is asked again');
    ends('a node beyond', $beyond, 'store_error',
         'no node of the Redis Cluster has the slot');
    log_has('nodes beyond', qr/the Redis Cluster has more than 1000 nodes$/m);

    $_->rules({ command => 'CLUSTER', reply => $ALL_A }) for $node_a, $node_b;
    delivered('fewer of them', $beyond);
}

# one node is down: the other one's keys are served; and then it has all

{
    script($ALL_B);
    $node_a->accepting('no');
    $node_a->drop;
    delivered('A is down: B is not', $pay->v2_notify($shop));
    $node_a->accepting('yes');

    script($ALL_A);
    delivered('A has all', $pay->v2_notify($shop));
    $node_a->accepting('no');
    $_->rules({ command => 'CLUSTER', reply => $ALL_B }) for $node_b;
    $node_a->drop;
    delivered('A is down, B has taken over', $pay->v2_notify($shop));
    log_has('A is down', qr/\[error\].*\ "many":\ node\ 127\.0\.0\.1,\ port
                            \ ${\ $node_a->port},\ is\ down:\ /x);
    $node_a->accepting('yes');
}

# both are down

{
    $_->accepting('no') for $node_a, $node_b;
    $_->drop for $node_a, $node_b;
    ends('both are down', $pay->v2_notify($shop), 'store_error',
         qr/Redis cannot be connected to|connecting to Redis took too long/);
    log_has('both are down', qr/\[error\] .* "many" is down: no node/);
    becomes('both are down', qq(store "many" is down\n));
    $_->accepting('yes') for $node_a, $node_b;
    delivered('both are up', $pay->v2_notify($shop));
    log_has('both are up', qr/\[notice\] .* "many" is up again/);
    becomes('both are up', "ready\n");
}

no_secrets($nginx, 'of-the-edge', $pay->secrets($shop));
done_testing();
