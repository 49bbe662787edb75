#!/usr/bin/perl

# Headers that nobody should send.  Those of a signature: none but the genuine
# ones, once each, lets a notify in.  All others: whatever the client sends, the
# business app gets, byte for byte, one request with our headers and our JSON.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify escape=none '$refund_notify_result'
                                  '|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    # one connection to the app, so that a byte too many is the next request's

    upstream business {
        server 127.0.0.1:%%APP%%;
        keepalive 1;
    }

    large_client_header_buffers 4 32k;
    underscores_in_headers on;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        server_name shop.example;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            access_log off;
            proxy_pass http://business/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        # the app gets the client's host

        location = /host {
            refund_notify shop;
            refund_notify_pass /internal/host;
        }

        location = /internal/host {
            internal;
            access_log off;
            proxy_pass http://business/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
            proxy_set_header Host $host;
        }

        # the target's URI is the client's; its path, query and request line

        location ~ ^/to/(?<where>[^/]*)/(?<which>(?s:.*))$ {
            refund_notify shop;
            refund_notify_pass /internal/at/$where?which=$which name=at;
        }

        location /internal/at/ {
            internal;
            access_log off;
            proxy_pass http://business;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location ~ ^/path/(?<where>(?s:.*))$ {
            refund_notify shop;
            refund_notify_pass /internal/path/$where name=path;
        }

        location /internal/path/ {
            internal;
            access_log off;
            proxy_pass http://business$uri;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location ~ ^/line/(?<where>(?s:.*))$ {
            refund_notify shop;
            refund_notify_pass /internal/line/$where name=line;
        }

        location /internal/line/ {
            internal;
            access_log off;
            proxy_pass http://business$request_uri;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

# What came to the app in one read, with the first byte of a request.

package RawApp;

use parent -norequire, 'RefundNotify::Test::BusinessApp';

sub parse {
    my ($self, $conn) = @_;

    my $bytes = $conn->{in};
    my $request = $self->SUPER::parse($conn) or return;

    $request->{bytes} = $bytes;
    return $request;
}

package main;

my $pay = wechatpay();
my $shop = $pay->merchant(
    public_key_id => [ 'PUB_KEY_ID_0114232134912410000000000000',
                       'PUB_KEY_ID_0114232134912410000000000001' ]);
my $app = RawApp->new(rules => []);
my $nginx = nginx(with_merchants($conf, $shop), vars => { APP => $app->port });
my $client = client($nginx);
my ($worker) = $nginx->workers;


# Sends it, and compares the answer, the log and what came to the app with the
# result: 'delivered', or another and its reason.

sub sends {
    my ($name, $path, $notify, $result, $reason) = @_;

    return arrived($name, $client->post($path, $notify), $notify, $result,
                   $reason);
}


sub sends_http2 {
    my ($name, $path, $notify, $result) = @_;

    my $http2 = http2($nginx, 'H2');
    my $stream = $http2->send('POST', $path, @$notify{qw(headers body)});

    return arrived($name, $http2->read($stream), $notify, $result);
}


sub arrived {
    my ($name, $response, $notify, $result, $reason) = @_;

    is($pay->answer($notify, $response),
       $result eq 'delivered' ? 'SUCCESS' : $result, $name);
    is(join("\n", $nginx->log_lines('notify.log', 1)),
       "$result|" . ($reason // ''), "$name: the log");

    my @requests = $app->requests;

    $app->forget;
    is(join(' ', map { $_->{id} } @requests),
       $result eq 'delivered' ? $notify->{event_id} : '',
       "$name: the deliveries");
    return $requests[0];
}


# The very bytes that the business app gets of it.

sub expected {
    my ($notify, $request, $path, @lines) = @_;

    return join "\r\n", "POST $path HTTP/1.1", 'Host: business',
                'Content-Length: ' . length $request->{body},
                'content-type: application/json',
                "webhook-id: $notify->{event_id}",
                "webhook-timestamp: $request->{headers}{'webhook-timestamp'}",
                'Refund-Attempt: 1', @lines, '', $request->{body};
}


# Its headers, of which those of that name become what the code makes of them.

sub bent {
    my ($notify, $name, $code) = @_;

    my @headers = @{ $notify->{headers} };
    my @bent;

    while (my ($key, $value) = splice @headers, 0, 2) {
        push @bent, lc $key eq lc $name ? $code->($key, $value)
                                        : ($key, $value);
    }

    return { %$notify, headers => \@bent };
}


# the signature's headers

my %LONGEST = (Timestamp => 12, Nonce => 128, Signature => 703, Serial => 128,
               'Signature-Type' => 64);

for my $header (qw(Timestamp Nonce Signature Serial Signature-Type)) {
    my @repeated = (malformed => "Wechatpay-$header is repeated");
    my @invalid = (malformed => "Wechatpay-$header is empty, too long or not "
                                . ($header eq 'Timestamp' ? 'a number'
                                                          : 'printable'));
    my @missing = $header eq 'Signature-Type'
                  ? 'delivered'
                  : (malformed => "Wechatpay-$header is missing");

    my @rows = (
        [ 'twice, equal', sub { (@_, @_) }, @repeated ],
        [ 'and another', sub { (@_, $_[0], 'x') }, @repeated ],
        [ 'after another', sub { ($_[0], 'x', @_) }, @repeated ],
        [ 'and an empty one', sub { (@_, $_[0], '') }, @repeated ],
        [ 'after an empty one', sub { ($_[0], '', @_) }, @repeated ],
        [ 'twice, in other letters',
          sub { (uc $_[0], $_[1], lc $_[0], $_[1]) }, @repeated ],
        [ 'a hundred times', sub { (@_) x 100 }, @repeated ],
        [ 'of spaces', sub { ($_[0], '    ') }, @invalid ],
        [ 'of 8 KB', sub { ($_[0], '7' x 8192) }, @invalid ],
        [ 'and 8 KB more', sub { ($_[0], $_[1] . '7' x 8192) }, @invalid ],
        [ 'a byte too long',
          sub { ($_[0], '7' x ($LONGEST{$header} + 1)) }, @invalid ],
        (map { my $byte = $_;
               [ sprintf('with \x%02x', ord),
                 sub { ($_[0], "$_[1]$byte") }, @invalid ] }
             "\x01", "\t", "\x1f", "\x7f", "\x80", "\xff"),
        [ 'in lower case', sub { (lc $_[0], $_[1]) }, 'delivered' ],
        [ 'in upper case', sub { (uc $_[0], $_[1]) }, 'delivered' ],
        [ 'amidst spaces', sub { ($_[0], "   $_[1]   ") }, 'delivered' ],
        [ 'with underscores', sub { ($_[0] =~ tr/-/_/r, $_[1]) }, @missing ],
        [ 'and another with underscores',
          sub { (@_, $_[0] =~ tr/-/_/r, 'x') }, 'delivered' ],
        [ 'with an X- before', sub { ("X-$_[0]", $_[1]) }, @missing ],
        [ 'and a longer name', sub { (@_, "$_[0]-2", 'x') }, 'delivered' ],
    );

    for (@rows) {
        my ($name, $code, @result) = @$_;

        sends("Wechatpay-$header $name", '/notify',
              bent($pay->v3_notify($shop), "Wechatpay-$header", $code),
              @result);
    }
}

my @signed = (
    [ 'a nonce of 128', [ -nonce => 'n' x 128 ], 'delivered' ],
    [ 'a nonce of 1', [ -nonce => 'n' ], 'delivered' ],
    [ 'a nonce with spaces in it', [ -nonce => 'a  b' ], 'delivered' ],
    [ 'a serial of 128, unknown', [ -serial => 'S' x 128 ], 'unverified',
      'no key with this Wechatpay-Serial' ],
    [ 'a signature of 703', [ -signature => 'A' x 703 ], 'unverified',
      'Wechatpay-Signature is not base64 of the key\'s size' ],
    [ 'another type of 64',
      [ -headers => [ 'Wechatpay-Signature-Type' => 'T' x 64 ] ],
      'unverified',
      'Wechatpay-Signature-Type is not WECHATPAY2-SHA256-RSA2048' ],
    [ 'a type in lower case',
      [ -headers => [ 'Wechatpay-Signature-Type' =>
                      'wechatpay2-sha256-rsa2048' ] ], 'unverified',
      'Wechatpay-Signature-Type is not WECHATPAY2-SHA256-RSA2048' ],
);

for (@signed) {
    my ($name, $option, @result) = @$_;

    sends($name, '/notify', $pay->v3_notify($shop, @$option), @result);
}

# a v2 notify has no signature, and none of these headers does it any harm

sends("v2 with Wechatpay-$_", '/notify',
      $pay->v2_notify($shop, -headers => [ ("Wechatpay-$_" => 'x') x 2 ]),
      'delivered')
    for sort keys %LONGEST;


# What the app gets: lines of the client's, and those of them that go on.

my @trace = (traceparent => '00-0af7651916cd43dd8448eb211c80319c-'
                            . 'b7ad6b7169203331-01');

my @onward = (
    [ 'Connection: close', [ Connection => 'close' ] ],
    [ 'Connection that names our headers',
      [ Connection => 'content-length, content-type, webhook-id, host',
        Connection => 'transfer-encoding, refund-attempt' ] ],
    [ 'Proxy-Connection', [ 'Proxy-Connection' => 'keep-alive' ] ],
    [ 'Keep-Alive', [ 'Keep-Alive' => 'timeout=5, max=1000' ] ],
    [ 'Upgrade', [ Upgrade => 'h2c', Connection => 'Upgrade, HTTP2-Settings',
                   'HTTP2-Settings' => 'AAMAAABkAAQAAP__' ] ],
    [ 'a websocket', [ Upgrade => 'websocket', Connection => 'Upgrade',
                       'Sec-WebSocket-Key' => 'x' ] ],
    [ 'TE, Trailer', [ TE => 'trailers', Trailer => 'webhook-id' ] ],
    [ 'Transfer_Encoding', [ Transfer_Encoding => 'chunked',
                             Content_Length => 1 ] ],
    [ 'our names', [ 'webhook-id' => 'forged', 'Webhook-Timestamp' => 1,
                     'webhook-signature' => 'v1,x', 'Refund-Attempt' => 9,
                     'REFUND-ATTEMPT' => 10, 'X-Request-Id' => 'x' ] ],
    [ 'our names with underscores',
      [ webhook_id => 'forged', Webhook_Timestamp => 1,
        webhook_signature => 'v1,x', refund_attempt => 9 ] ],
    [ 'X-Forwarded-*',
      [ 'X-Forwarded-For' => '10.0.0.1', 'X-Forwarded-Host' => 'other',
        'X-Forwarded-Proto' => 'https', 'X-Forwarded-Prefix' => '/x',
        'X-Real-IP' => '10.0.0.1', Forwarded => 'for=10.0.0.1',
        Via => '1.0 x' ] ],
    [ 'other URLs', [ 'X-Original-URL' => '/admin',
                      'X-Rewrite-URL' => '/admin',
                      'X-HTTP-Method-Override' => 'DELETE' ] ],
    [ 'credentials', [ Authorization => 'Basic eHg=', Cookie => 'a=b',
                       'Proxy-Authorization' => 'Basic eHg=' ] ],
    [ 'what asks for another answer',
      [ 'Accept-Encoding' => 'gzip', Range => 'bytes=0-0',
        'If-None-Match' => '*', 'If-Range' => '"x"' ] ],
    [ 'what describes another body',
      [ 'Content-Encoding' => 'gzip', 'Content-MD5' => 'x', Digest => 'x',
        'Content-Type' => 'multipart/form-data; boundary=x' ] ],
    [ 'nginx\' own', [ 'X-Accel-Redirect' => '/x', 'X-Sendfile' => '/x',
                       'X-Accel-Buffering' => 'no' ] ],
    [ 'another host', [ Host => 'other.example:8080' ] ],
    [ 'Expect', [ Expect => '100-continue' ] ],
    [ 'traceparent', [ @trace ], "traceparent: $trace[1]" ],
    [ 'traceparent twice', [ @trace, traceparent => 'x' ],
      "traceparent: $trace[1]" ],
    [ 'traceparent, empty', [ traceparent => '' ] ],
    [ 'tracestate of 512', [ @trace, tracestate => 'x' x 512 ],
      "traceparent: $trace[1]", 'tracestate: ' . 'x' x 512 ],
    [ 'tracestate of 513', [ @trace, tracestate => 'x' x 513 ],
      "traceparent: $trace[1]" ],
    (map { [ sprintf('traceparent and tracestate with \x%02x', ord),
             [ traceparent => "a$_", tracestate => "${_}b" ] ] }
         "\x01", "\x0b", "\x1b", "\x7f", "\x80", "\xff"),
);

for my $version (qw(v2 v3)) {
    my $make = "${version}_notify";

    for (@onward) {
        my ($name, $headers, @lines) = @$_;

        for (\&sends, \&sends_http2) {
            my $way = $_ == \&sends ? "$version, $name"
                                    : "$version, HTTP/2, $name";
            my $notify = $pay->$make($shop);

            unshift @{ $notify->{headers} }, @$headers;

            my $request = $_->($way, '/notify', $notify, 'delivered');

            is($request->{bytes},
               expected($notify, $request, '/refunds', @lines),
               "$way: the bytes");
        }
    }

    # in the URI, of which the target's is made

    my @uris = (
        [ 'a path and a query', '/to/a/b', '/internal/at/a?which=b' ],
        [ 'more of a query', '/to/a/b&c=d', '/internal/at/a?which=b&c=d' ],
        [ 'the path', '/path/a', '/internal/path/a' ],
        [ 'the path as it is', '/path/a%2525%23%c3b',
          "/internal/path/a%#\xc3b" ],
        [ 'the line', '/line/a', '/internal/line/a' ],
        [ 'the line with what must be escaped', '/line/a%2525%23%c3b',
          '/internal/line/a%25%23%C3b' ],
    );

    for (@uris) {
        my ($name, $uri, $path) = @$_;
        my $notify = $pay->$make($shop);
        my $request = sends("$version, $name", $uri, $notify, 'delivered');

        is($request->{bytes}, expected($notify, $request, $path),
           "$version, $name: the bytes");
    }

    my $smuggled = 'x%20HTTP/1.1%0d%0aHost:%20b%0d%0a%0d%0aPOST%20/refunds';

    sends("$version, in $_: nothing of it goes on", $_, $pay->$make($shop),
          upstream_error => 'refund_notify_pass yields no URI of this server')
        for "/to/a/$smuggled", '/to/a/b%20c', '/to/a/b%0ac', '/to/a/b%7f',
            '/to/a%0db/c', '/to/a%250db/c', '/to/a%2500b/c', "/line/$smuggled",
            '/line/a%0ab', '/line/%252e%252e%252fadmin', '/to/a%20b/c',
            '/line/a%20b', '/path/a%20HTTP/1.0', "/path/$smuggled",
            '/path/a%0ab', '/path/a%7f';
}

# The Host that the client sent, and what of it an app gets that is to have it.

for ([ 'a name', 'Other.Example:8080', 'other.example' ],
     [ 'an address', '127.0.0.1', '127.0.0.1' ],
     [ 'an IPv6 address', '[::1]:80', '[::1]' ],
     [ 'all that a host may have', q{a-b_~%41!$&'()*+,;=},
       q{a-b_~%41!$&'()*+,;=} ],
     [ '255 bytes', 'a' x 255, 'a' x 255 ],
     [ '256 bytes', 'a' x 256 ],
     map { [ sprintf('a name with \x%02x', ord), "a${_}b" ] }
         "\x80", "\xff", '"', '<', '>', '\\', '^', '`', '{', '|', '}', '@')
{
    my ($name, $host, $onward) = @$_;
    my $notify = $pay->v3_notify($shop);

    unshift @{ $notify->{headers} }, Host => $host;

    my $request = sends("Host: $name", '/host', $notify, 'delivered');

    is($request->{headers}{host}, $onward // 'shop.example',
       "Host: $name: what goes on");
}

is(join(' ', $nginx->workers), $worker, 'by one worker, all the time');

no_secrets($nginx, $pay->secrets($shop));

done_testing;
