#!/usr/bin/perl

# nginx -t, of the outbound half: what it refuses, where, and what it says.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store local shm:1m;
    refund_store other shm:1m;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
            refund_notify_store local;
        }

        location /refunds {
            # here
            refund_request_pass /internal/wechatpay;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_APP%%;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_PAY%%/;
        }
    }
}
EOC

my $pay = wechatpay();
my @shops = (
    $pay->merchant(app_id => [ 'wx8888888888888881' ],
                   merchant_serial => '5157F09EFDC047057A01'),
    $pay->merchant(name => 'unsigned', app_id => [ 'wx8888888888888881' ]),
    $pay->merchant(name => 'unverified', serial => [], public_key_id => [],
                   app_id => [ 'wx8888888888888881' ],
                   merchant_serial => '5157F09EFDC047057A02', v3_key => []),
    $pay->merchant(name => 'appless', app_id => [],
                   merchant_serial => '5157F09EFDC047057A03'),
    $pay->merchant(name => 'v2less', v2_key => [],
                   app_id => [ 'wx8888888888888881' ],
                   merchant_serial => '5157F09EFDC047057A04'),
);

my $nginx = RefundNotify::Test::Nginx->new;

$conf = with_merchants($conf, @shops);

my $url = 'refund_request_notify_url https://pay.example.com';
my $event = 'refund_request_pass_event /internal/refunds';

for ([ 'as documented', 'refund_request shop;' ],
     [ 'v2', 'refund_request shop; refund_request_api v2;' ],
     [ 'v2 without what v3 needs',
       'refund_request unsigned; refund_request_api v2;' ],
     [ 'v3 without what v2 needs', 'refund_request v2less;' ],
     [ 'a variable', 'refund_request $arg_merchant;' ],
     [ 'an event of a merchant that a variable names',
       "refund_request \$arg_merchant; $event name=orders;" ],
     [ 'all of it', "refund_request shop; $url/notify;"
       . 'refund_request_deadline 15s; refund_request_error_rate 6r/s;'
       . "refund_request_store local; $event name=orders;"
       . 'refund_request_threads off;' ],
     [ 'a rate of less than one a second',
       'refund_request shop; refund_request_error_rate 6r/m;' ],
     [ 'a thread pool', 'refund_request shop; refund_request_threads on;' ])
{
    my ($name, $lines) = @$_;
    my ($status, $messages) = try($lines);

    is($status, 0, "taken: $name") or diag($messages);
    unlike($messages, qr/\[warn\]/, 'without a warning');
}

my $long = "$url/" . 'x' x 256;

for ([ 'an unknown merchant', 'refund_request nobody;',
       qr/unknown merchant "nobody"/ ],
     [ 'no merchant', 'refund_request "";', qr/merchant/ ],
     [ 'v3 without the merchant\'s key', 'refund_request unsigned;',
       qr/"unsigned".*needs .*merchant_certificate/ ],
     [ 'v3 without a key of WeChat Pay\'s', 'refund_request unverified;',
       qr/"unverified".*needs .*wechatpay_public_key/ ],
     [ 'v2 without an appid',
       'refund_request appless; refund_request_api v2;',
       qr/"appless".*needs .*app_id/ ],
     [ 'v2 without its key',
       'refund_request v2less; refund_request_api v2;',
       qr/"v2less".*needs .*api_v2_key_file/ ],
     [ 'an unknown version', 'refund_request shop; refund_request_api v4;',
       qr/v4/ ],
     [ 'twice', 'refund_request shop; refund_request shop;', qr/duplicate/ ],
     [ 'a notify_url without TLS', 'refund_request shop; '
       . 'refund_request_notify_url http://pay.example.com/notify;',
       qr/refund_request_notify_url.*https/ ],
     [ 'a notify_url with a query', "refund_request shop; $url/n?a=b;",
       qr/refund_request_notify_url/ ],
     [ 'a long notify_url', "refund_request shop; $long;",
       qr/refund_request_notify_url/ ],
     [ 'no deadline', 'refund_request shop; refund_request_deadline 0;',
       qr/refund_request_deadline/ ],
     (map { [ "the error rate $_",
              "refund_request shop; refund_request_error_rate $_;",
              qr/refund_request_error_rate/ ] }
          qw(6 r/s 0r/s -1r/s 6r/h six 1000001r/s)),
     (map { [ "$_ twice", "refund_request shop; $_; $_;", qr/duplicate/ ] }
          'refund_request_error_rate 6r/s', 'refund_request_store local',
          'refund_request_threads off', "$event name=orders"),
     [ 'two ways to WeChat Pay',
       'refund_request shop; refund_request_pass /internal/other;',
       qr/"refund_request_pass" directive is duplicate/ ],
     [ 'a store without a name',
       'refund_request shop; refund_request_store "";', qr/empty store's name/ ],
     [ 'an unknown store', 'refund_request shop; '
       . 'refund_request_store nowhere;', qr/unknown store "nowhere"/ ],
     [ 'an event for a target that no notify has',
       "refund_request shop; $event name=nobody;", qr/"nobody"/ ],
     [ 'an event for a target by another name',
       "refund_request shop; $event;", qr{"/internal/refunds"} ],
     [ 'an event by another store', 'refund_request shop; '
       . "refund_request_store other; $event name=orders;", qr/store/ ],
     [ 'an event with another parameter',
       "refund_request shop; $event colour=red;", qr/colour=red/ ],
     (map { [ "an event for $_->[0]",
              "refund_request shop; refund_request_pass_event $_->[1];",
              qr/invalid (?:URI|parameter) "\Q$_->[2]\E"/ ] }
          [ 'a named location', '@refunds', '@refunds' ],
          [ 'nothing', '""', '' ],
          [ 'a query', '/internal/refunds?a', '/internal/refunds?a' ],
          [ 'a variable', '/internal/$host', '/internal/$host' ],
          [ 'an empty name', '/internal/refunds name=', 'name=' ]),
     [ 'an event without a call', "$event name=orders;",
       qr/refund_request_pass_event/ ],
     [ 'another handler too',
       'refund_request shop; proxy_pass http://127.0.0.1:1;', qr/refund_req/ ],
     [ 'notifies too', 'refund_request shop; refund_notify shop; '
       . 'refund_notify_pass /internal/refunds;', qr/refund_/ ],
     [ 'an unknown thread pool',
       'refund_request shop; refund_request_threads nowhere;',
       qr/nowhere/ ])
{
    my ($name, $lines, $message) = @$_;

    refused($name, $message, try($lines));
}

# the line that leads to WeChat Pay

for ([ 'no way to WeChat Pay', '', qr/"refund_request_pass"/ ],
     [ 'a named one', 'refund_request_pass @wechatpay;', qr/\@wechatpay/ ],
     [ 'a host', 'refund_request_pass https://api.mch.weixin.qq.com/;',
       qr/refund_request_pass/ ],
     [ 'every location', 'refund_request_pass /;', qr{invalid URI "/"} ],
     [ 'one with a query', 'refund_request_pass /internal?a;',
       qr/refund_request_pass/ ],
     [ 'one of variables', 'refund_request_pass /internal/$host;',
       qr/refund_request_pass/ ])
{
    my ($name, $line, $message) = @$_;

    refused($name, $message,
            test($conf =~ s/refund_request_pass .*/$line/r
                 =~ s/# here/refund_request shop;/r));
}

refused('a regular expression', qr/regular expression/,
        test($conf =~ s{location /refunds}{location ~ ^/(refunds|r)}r
             =~ s/# here/refund_request shop;/r));
my $again = 'location = /again { refund_notify shop; '
            . 'refund_notify_pass /internal/refunds name=orders; '
            . 'refund_notify_store other; }';

refused('an event whose target has records in two stores',
        qr/"orders".*more than one store/,
        test($conf =~ s{location = /notify}{$again\n        $&}r
             =~ s/# here/refund_request shop; $event name=orders;/r));
is((test($conf =~ s{location = /notify}{$again\n        $&}r
         =~ s/store other; \}/store local; }/r
         =~ s/# here/refund_request shop; $event name=orders;/r))[0], 0,
   'an event whose target stands in two locations, of one store');
refused('in server', qr/"refund_request" directive is not allowed here/,
        test($conf =~ s/listen /refund_request shop;\n        $&/r));

my ($status) = test($conf =~ s{location /refunds}{location /refunds/}r
                    =~ s/# here/refund_request shop;/r);

is($status, 0, 'a location that ends in "/"');

($status) = test($conf =~ s{location /refunds}{location ""}r
                 =~ s/# here/refund_request shop;/r);

is($status, 0, 'a location without a name, which takes all that no other does');

($status) = test($conf =~ s{refund_notify shop}{refund_notify \$host}r
                 =~ s/# here/refund_request shop; $event name=orders;/r);

is($status, 0, 'an event for what a variable\'s merchant is notified of');

done_testing();


sub try {
    my ($lines) = @_;

    return test($conf =~ s/# here/$lines/r);
}


sub test {
    my ($text) = @_;

    return $nginx->config_test($text);
}


sub refused {
    my ($name, $message, $status, $messages) = @_;

    my ($line) = $messages =~ /(\[emerg\].*)/;

    is($status, 1, "refused: $name");
    like($line // $messages, $message, 'what is wrong');
    like($line // '', qr/in \S+test\.conf:\d+$/, 'and where');
    return;
}
