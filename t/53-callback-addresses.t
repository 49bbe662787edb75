#!/usr/bin/perl

# conf/wechatpay_callback_addresses.conf: who reaches the notify's location with
# it, straight, behind a load balancer that names the client in a header, and
# behind one that speaks the PROXY protocol.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(dirname);

my $conf = <<'EOC';
%%GLOBALS%%

events {}

http {
    %%HTTP%%
    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_PROXY%% proxy_protocol;

        set_real_ip_from 127.0.0.1;
        real_ip_header X-Forwarded-For;
        real_ip_recursive on;

        location = /notify {
            allow 192.0.2.7;
            include conf/wechatpay_callback_addresses.conf;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /proxy-protocol {
            real_ip_header proxy_protocol;
            include conf/wechatpay_callback_addresses.conf;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_STRANGER%%;

        set_real_ip_from 192.0.2.1;
        real_ip_header X-Forwarded-For;

        location = /notify {
            include conf/wechatpay_callback_addresses.conf;
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%;
        }
    }
}
EOC

my $include = read_file(abs_path(dirname(__FILE__))
                        . '/../conf/wechatpay_callback_addresses.conf');
my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port },
                  files => { 'conf/wechatpay_callback_addresses.conf'
                                 => $include });
my $client = client($nginx);

# the first and the last of each range, and what is beside it

my @ranges = $include =~ /^allow (\S+);/mg;
my %published = map { $_ => 1 } map { inside($_) } @ranges;

is(scalar @ranges, 16, 'the list has its addresses');

for my $range (@ranges) {
    my @inside = inside($range);

    is(answer($_), 200, "$_ of $range is let in") for @inside;
    is(answer($_), 403, "$_ beside $range is not")
        for grep { !$published{$_} } next_to($inside[0], -1),
                                     next_to($inside[-1], 1);
}

my @cases = (
    [ 'no header: the balancer itself', undef, 403 ],
    [ 'an own address, allowed before the include', '192.0.2.7', 200 ],
    [ 'the client names another before its own, which the balancer adds',
      '175.24.214.208, 198.51.100.1', 403 ],
    [ 'two balancers', '175.24.214.208, 127.0.0.1', 200 ],
    [ 'no address at all', 'WeChat Pay', 403 ],
);

is(answer($_->[1]), $_->[2], $_->[0]) for @cases;

is(answer('175.24.214.208', client($nginx, 'STRANGER')), 403,
   'a header of one that is no balancer is not believed');

for my $case ([ '43.139.43.69', 200 ], [ '43.139.43.70', 403 ]) {
    my ($address, $status) = @$case;

    is(proxied($address), $status, "PROXY protocol: $address gets $status");
}

is(scalar(() = $app->requests), keys(%published) + 3,
   'the app has what was let in, and nothing else');

done_testing();


# A range's first and last address.

sub inside {
    my ($range) = @_;

    my ($first, $bits) = split m{/}, $range;

    return $bits ? ($first, next_to($first, 2 ** (32 - $bits) - 1)) : $first;
}


sub next_to {
    my ($address, $distance) = @_;

    return join '.', unpack 'C4', pack 'N',
           unpack('N', pack 'C4', split /\./, $address) + $distance;
}


# The status of a new notify from this address, behind the balancer.

sub answer {
    my ($address, $from) = @_;

    my $notify = $pay->v3_notify($shop);

    push @{ $notify->{headers} }, 'X-Forwarded-For' => $address
        if defined $address;

    return ($from // $client)->post('/notify', $notify)->{status};
}


sub proxied {
    my ($address) = @_;

    my $notify = $pay->v3_notify($shop);
    my $connection = RefundNotify::Test::Client->new(
                         port => $nginx->port('PROXY'))->connect;

    $connection->write("PROXY TCP4 $address 127.0.0.1 40000 443\r\n");

    return $connection->request('POST', '/proxy-protocol', $notify->{headers},
                                $notify->{body})->{status};
}
