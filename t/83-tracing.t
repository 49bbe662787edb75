#!/usr/bin/perl

# One notify followed through logs: the $request_id of its line in the access
# log is the X-Request-Id of its deliveries, by proxy_pass and fastcgi_pass, now
# and behind the deadline; traceparent goes along; and each line is JSON.

use lib 't/lib';
use RefundNotify::Test;

use JSON::XS ();

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    include %%ROOT%%/conf/refund_log.conf;

    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;

        %%LOG%%

        location /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_pass /internal/php;
            refund_notify_ack code;
            refund_notify_deadline 500ms;
        }

        location = /internal/refunds {
            internal;
            access_log off;
            proxy_pass http://127.0.0.1:%%APP%%;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/php {
            internal;
            access_log off;
            fastcgi_pass 127.0.0.1:%%PHP%%;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SCRIPT_FILENAME /refunds.php;
            include %%ROOT%%/conf/refund_delivery_fastcgi.conf;
        }
    }
}
EOC

my $json = JSON::XS->new->utf8;
my $pay = wechatpay();
my $shop = $pay->merchant;
my $accepted = { body => '{"code":"SUCCESS"}' };
my $app = business_app($accepted);
my $php = fastcgi($accepted);
my %vars = (APP => $app->port, PHP => $php->port);
my $nginx = nginx(with_merchants($conf, $shop), vars => {
    %vars, LOG => 'access_log %%DIR%%/refund.json refund_json;' });
my $client = client($nginx);
my $TRACE = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
my %seen;


# What the line of the last request says

sub logged {
    my @lines = $nginx->log_lines('refund.json', 1);

    is(scalar @lines, 1, 'a line of the log');
    return $json->decode($lines[-1]);
}


# A header of the only request, of which FastCGI makes a parameter

sub header {
    my ($peer, $name) = @_;

    my ($request) = $peer->requests;

    return $peer == $app ? $request->{headers}{ lc $name }
           : $request->{params}{ 'HTTP_' . uc $name =~ tr/-/_/r };
}


sub identified {
    my ($name, $notify, $result) = @_;

    my $line = logged();
    my $id = $line->{request_id};

    like($id, qr/^[0-9a-f]{32}$/, "$name: its id");
    ok(!$seen{$id}++, 'is its own');
    is("$line->{result} $line->{id} $line->{merchant} $line->{api_version}",
       "$result $notify->{event_id} shop $notify->{version}", 'what it was');

    $_->wait_for(1) for $app, $php;
    is_deeply([ map { header($_, 'X-Request-Id') } $app, $php ], [ $id, $id ],
              'both targets have its id');
    is_deeply([ map { header($_, 'traceparent') // '' } $app, $php ],
              [ ($line->{traceparent}) x 2 ], 'and its trace');
    $_->settle, $_->forget for $app, $php;
    return $line;
}


for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";
    my $notify = $pay->$make($shop);
    my $line;

    push @{ $notify->{headers} }, traceparent => $TRACE,
         'X-Request-Id' => 'a stranger\'s';
    $client->post('/notify', $notify);
    $line = identified("$version, delivered", $notify, 'delivered');
    is($line->{traceparent}, $TRACE, 'the trace that it came with');
    is($line->{status}, 200, 'its status');
    is($line->{serial}, $version eq 'v3' ? $shop->{public_key_id}[0] : '',
       'the key that it names');
    is("$line->{attempt} $line->{refund_status}", '1, 1 SUCCESS',
       'its attempts and status');
    like($line->{store_time}, qr/^\d+\.\d{3}, \d+\.\d{3}$/, 'times');
    is($line->{refund_id}, $notify->{refund_id}, 'its refund');

    # the delivery begins while the client waits, and ends later

    $notify = $pay->$make($shop);
    $_->rules({ %$accepted, delay => 1.5, times => 1 }, $accepted)
        for $app, $php;
    $client->post('/notify', $notify);
    $line = identified("$version, deadline", $notify, 'deadline');
    is($line->{reason}, 'the deadline passed, the delivery goes on',
       'its reason');
}

# what anyone sends does not break a line, nor is it written

for my $bytes ('"\\', "\x01", "\xc3\xa9", "\xff\xfe", '0' x 129) {
    my $path = join '', map { sprintf '%%%02x', ord } split //, $bytes;

    $client->request('POST', "/notify/$path",
                     [ traceparent => $bytes, 'Wechatpay-Serial' => $bytes ],
                     '<"\\');

    my $line = logged();

    is("$line->{result} $line->{api_version}", 'malformed v2', 'no notify');
    is("$line->{traceparent} $line->{serial}", ' ', 'in a line that is JSON');
    is($line->{uri}, $bytes =~ /^[ -~]+$/ ? "/notify/$bytes" : '', 'its URI');
}

# where nothing uses it, none is made

my $plain = nginx(with_merchants($conf =~ s/^.*refund_log\.conf;\n//mr, $shop),
                  vars => { %vars, LOG => '' });

client($plain)->post('/notify', $pay->v3_notify($shop));
is_deeply([ map { scalar(() = $_->requests) } $app, $php ], [ 1, 1 ],
          'delivered without such a log');
is_deeply([ map { header($_, 'X-Request-Id') } $app, $php ], [ undef, undef ],
          'and without an id');

no_secrets($_, $pay->secrets($shop)) for $nginx, $plain;

done_testing;
