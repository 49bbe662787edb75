#!/usr/bin/perl

# What refund_status and its ?ready say of stores while configurations come and
# go: a reload does not take a store for down that the new workers have not yet
# reached; stores that nobody has any longer make room for others; and one for
# which there is no room is asked for all the same.  A merchant for which there
# is none is counted without a name.

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

    %%MERCHANTS%%

    refund_store first redis://127.0.0.1:%%REDIS%% timeout=3s;
    %%STORES%%

    refund_notify_lease 20s;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /first/shop {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_store first;
        }

        %%LOCATIONS%%

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

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = scripted_redis();
my %vars = (APP => $app->port, REDIS => $redis->port, STORES => '',
            LOCATIONS => '');
my $nginx = nginx(with_merchants($conf, $shop), vars => \%vars);
my $client = client($nginx);


sub ready {
    my $response = client($nginx)->request('GET', '/status?ready');

    return "$response->{status} $response->{body}";
}


sub metric {
    my ($name) = @_;

    my ($value) = client($nginx)->request('GET', '/status')->{body}
                  =~ /^refund_\Q$name\E (\d+)$/m;

    return $value;
}


sub requests {
    my ($merchant) = @_;

    my $label = length $merchant ? qq(merchant="$merchant",) : '';

    return metric("notify_requests_total{$label"
                  . 'api_version="v2",result="delivered"}') // 0;
}


# A reload to these stores, of which the last is a Redis that is not there

sub reload {
    my ($names, %option) = @_;

    my @urls = (('shm:64k') x $#$names, 'redis://127.0.0.1:%%PORT_NOWHERE%%');

    $vars{STORES} = $vars{LOCATIONS} = '';

    for my $i (0 .. $#$names) {
        $vars{STORES} .= "refund_store $names->[$i] $urls[$i];\n";
        $vars{LOCATIONS} .= <<"EOC" =~ s/^ {4}//gmr;
            location = /$names->[$i]/shop {
                refund_notify shop;
                refund_notify_pass /internal/refunds;
                refund_notify_store $names->[$i];
            }
EOC
    }

    $nginx->{vars} = \%vars;
    $nginx->write_file('nginx.conf', with_merchants($conf, $shop));
    ok($nginx->reload(%option), "reload, to " . ($names->[0] // 'first'));
    return;
}


sub generation {
    my ($letter) = @_;

    return [ (map { "$letter$_" } 1 .. 23), "$letter-dead" ];
}


# Before the first worker knows, a store is not ready; a reload does not forget
# what is known.

ok(wait_until(sub { ready() eq "200 ready\n" }, 20), 'ready');

{
    my %seen;
    my ($old) = $nginx->workers;

    $redis->rules({ delay => 1.5 });
    $nginx->signal('HUP');

    # until the new worker has shaken hands, whatever that takes

    wait_until(sub {
        $seen{ ready() } = 1;
        $seen{'up ' . metric('store_up{store="first"}')} = 1;

        return !grep({ $_ == $old } $nginx->workers)
               && metric('store_connections{store="first"}');
    }, 20);

    is_deeply([ sort keys %seen ], [ "200 ready\n", 'up 1' ],
              'up and ready throughout a reload');
    $redis->rules;
}


# Seventy-two stores, twenty-four at a time

for my $letter ('a', 'b', 'c') {
    reload(generation($letter));
    ok(wait_until(sub {
           ready() eq qq(503 store "$letter-dead" is down\n) }, 20),
       'the one that is down is told') or diag(ready());
    is(metric(qq(store_up{store="$letter-dead"})), 0, 'by its metric, too');


    my $notify = $pay->v2_notify($shop);

    is($pay->answer($notify, $client->post("/${letter}1/shop", $notify)),
       'SUCCESS', 'a notify of the first');
    is(metric(qq(store_operations_total{store="${letter}1",)
              . 'operation="claim",result="ok"}'), 1,
       'is counted from nothing, whoever was there before');
}

unlike($nginx->error_log, qr/no room for store/, 'there was room for all');


# A worker that is still there keeps the room of its stores.

{
    my $connection = $client->connect;
    my $notify = $pay->v2_notify($shop);
    my ($old) = $nginx->workers;
    my $known = 'store_operations_total{store="c1",operation="claim",'
                . 'result="ok"}';

    $app->rules({ delay => 40, times => 1 });
    $app->forget;
    $connection->send('POST', '/c1/shop', $notify->{headers}, $notify->{body});
    $app->wait_for(1);

    reload(generation('d'), wait => 0);
    reload(generation('e'), wait => 0);
    ok($nginx->wait_for_log('error.log',
                            qr/no room for store "e-dead", of which/),
       'no room for the third lot beside it');
    ok(wait_until(sub { ready() eq qq(503 store "e-dead" is down\n) }, 20),
       'which is asked for all the same') or diag(ready());
    is(metric('store_up{store="e-dead"}'), undef, 'though it has no metrics');

    $nginx->allow(qr/exited on signal 9/);
    $nginx->signal('KILL', $old);
    ok(wait_until(sub { metric('deliveries_under_way') == 0 }, 10),
       'what the killed worker had under way is gone, and nobody came for it');

    reload([ 'c1', @{ generation('e') } ]);
    is(metric($known), 2, 'what it had counted is kept');
    ok(wait_until(sub { defined metric('store_up{store="e-dead"}') }, 20),
       'now there is room');
}


# There is room for 1023 merchants, those of the configurations before, too.

{
    my ($key) = with_merchants('%%MERCHANTS%%', $shop)
                =~ /(api_v2_key_file \S+;)/;

    $vars{LOCATIONS} = <<'EOC';
        location = /many/shop {
            refund_notify $arg_merchant;
            refund_notify_pass /internal/refunds;
            refund_notify_store first;
        }
EOC

    for my $letter ('a', 'b') {
        $vars{STORES} = join '', map {
            "refund_merchant $letter$_ { mch_id $_; $key }\n"
        } 1 .. 600;
        $nginx->write_file('nginx.conf', with_merchants($conf, $shop));
        ok($nginx->reload, 'reload, to 600 merchants more');
    }

    my ($m) = $nginx->error_log =~ /no room for merchant "b(\d+)"/;
    my $nameless = { %$shop, name => 'b' . ($m // 1), mch_id => $m // 1 };

    ok($m, 'there is no room for one of them');

    for ([ $shop, $shop->{name} ], [ $nameless, '' ]) {
        my ($merchant, $name) = @$_;
        my $before = requests($name);
        my $notify = $pay->v2_notify($merchant);

        is($pay->answer($notify, $client->post(
               "/many/shop?merchant=$merchant->{name}", $notify)),
           'SUCCESS', "a notify of merchant $merchant->{name}");
        is(requests($name), $before + 1, qq(counted as merchant "$name"));
    }
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
