#!/usr/bin/perl

# HTTP/1 as nobody should send it: how a body is framed, lines, methods, a
# client that breaks off at each byte or is slow.  Each row is a genuine notify
# around which something is wrong: what is answered, what the log says, whether
# the business app got the event; and the worker takes a good one after it.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 1024;
}

http {
    %%HTTP%%

    log_format notify escape=none '$status|$refund_notify_result'
                                  '|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_notify_max_body_size 8k;

    server {
        listen 127.0.0.1:%%PORT%%;

        # the body of a notify is in a file

        client_body_buffer_size 512;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /status {
            access_log off;
            stub_status;
        }

        location = /internal/refunds {
            internal;
            access_log off;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_BROKEN%%;

        access_log %%DIR%%/broken.log notify;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            access_log off;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_SLOW%%;

        client_header_timeout 1s;
        client_body_timeout 1s;
        access_log %%DIR%%/slow.log notify;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            access_log off;
            proxy_pass http://127.0.0.1:%%APP%%/;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop), vars => { APP => $app->port });
my $client = client($nginx);
my $broken = client($nginx, 'BROKEN');
my ($worker) = $nginx->workers;


# The bytes of a request.  What a row may say: line, the request line; host and
# framing, lines instead of Host's and Content-Length's; headers, more lines;
# body, instead of the notify's; end, of each line.  In all of them %L is the
# body's length, %X the same in hexadecimal, %B the body.

sub bytes {
    my ($notify, %row) = @_;

    my %body = (L => length $notify->{body},
                X => sprintf('%x', length $notify->{body}),
                B => $notify->{body});
    my $end = $row{end} // "\r\n";
    my @headers = @{ $notify->{headers} };
    my @lines;

    while (my ($name, $value) = splice @headers, 0, 2) {
        push @lines, "$name: $value";
    }

    my $text = join $end, $row{line} // 'POST /notify HTTP/1.1',
                    $row{host} // 'Host: localhost', @lines,
                    @{ $row{headers} // [] },
                    @{ $row{framing} // [ 'Content-Length: %L' ] }, '', '';

    return ($text . ($row{body} // '%B')) =~ s/%([LXB])/$body{$1}/gr;
}


# All that is answered until nginx closes, in a line: of each response the
# status and the word of a notify's answer, if it is one.

sub answers {
    my ($notify, $connection) = @_;

    my @answers;

    $connection->eof(15) or return 'not closed';

    while (length $connection->{in}) {
        my $response = $connection->read;
        my $answer = $pay->answer($notify, $response);

        push @answers, $answer =~ /^\w+$/ ? $answer
                       : $response->{error} || "$response->{status} page";
        last if $response->{error};
    }

    return join ' ', @answers;
}


# What else there is in the log after a good notify is of what came before it.

sub works {
    my ($name, @expected) = @_;

    my $good = $pay->v2_notify($shop);

    is($pay->answer($good, $client->post('/notify', $good)), 'SUCCESS',
       "$name: then a good one");
    is(join("\n", $nginx->log_lines('notify.log', @expected + 1)),
       join("\n", @expected, '200|delivered|'), "$name: the log");
    return $good->{event_id};
}


sub delivered {
    my ($name, @ids) = @_;

    is(join(' ', map { $_->{id} } $app->requests), join(' ', @ids),
       "$name: the deliveries");
    $app->forget;
    return;
}


my $DELIVERED = '200|delivered|';
my $EMPTY = '400|malformed|neither XML nor JSON';

# A request that nginx itself refuses, another that it takes for none of a
# notify's, and one that it takes.

my @REFUSED = ('400 page', 0, '400||');
my @TAKEN = ('SUCCESS', 1, $DELIVERED);

sub length_is { return (framing => [ map { "Content-Length: $_" } @_ ]) }
sub encoding_is { return (framing => [ map { "Transfer-Encoding: $_" } @_ ]) }

sub chunked {
    my ($body, @headers) = @_;

    return (framing => [ 'Transfer-Encoding: chunked', @headers ],
            body => $body);
}

# [ name, \%row of bytes(), answers, deliveries, lines of the log ]

my @rows = (

    # Content-Length

    [ 'Content-Length twice, equal', { length_is('%L', '%L') }, @REFUSED ],
    [ 'Content-Length twice, different', { length_is('%L', '1') }, @REFUSED ],
    [ 'two lengths in a Content-Length', { length_is('%L, %L') }, @REFUSED ],
    [ 'two numbers in a Content-Length', { length_is('%L %L') }, @REFUSED ],
    [ 'Content-Length with a plus', { length_is('+%L') }, @REFUSED ],
    [ 'a negative Content-Length', { length_is('-%L') }, @REFUSED ],
    [ 'a hexadecimal Content-Length', { length_is('0x%X') }, @REFUSED ],
    [ 'an empty Content-Length', { length_is('') }, @REFUSED ],
    [ 'Content-Length 2^63', { length_is('9223372036854775808') },
      @REFUSED ],
    [ 'Content-Length 2^64 and the length',
      { length_is('18446744073709551616') }, @REFUSED ],
    [ 'Content-Length 2^63 - 1', { length_is('9223372036854775807') },
      '413 page', 0, '413||' ],
    [ 'Content-Length with zeros before', { length_is('0000%L') }, @TAKEN ],
    [ 'Content-Length amidst spaces', { length_is('   %L   ') }, @TAKEN ],
    [ 'Content-Length 0: the body is the next request', { length_is(0) },
      'malformed 400 page', 0, $EMPTY, '400||' ],
    [ 'no Content-Length: likewise', { framing => [] },
      'malformed 400 page', 0, $EMPTY, '400||' ],
    [ 'Content-Length with a space before its colon',
      { framing => [ 'Content-Length : %L' ] }, @REFUSED ],
    [ 'Content_Length', { framing => [ 'Content_Length: %L' ] },
      'malformed 400 page', 0, $EMPTY, '400||' ],

    # Transfer-Encoding

    [ 'Content-Length and chunked',
      { chunked("%X\r\n%B\r\n0\r\n\r\n", 'Content-Length: %L') }, @REFUSED ],
    [ 'chunked twice', { encoding_is('chunked', 'chunked'),
                         body => "%X\r\n%B\r\n0\r\n\r\n" }, @REFUSED ],
    (map { [ "Transfer-Encoding $_", { encoding_is($_),
                                       body => "%X\r\n%B\r\n0\r\n\r\n" },
             '501 page', 0, '501||' ] }
         'identity', 'gzip, chunked', 'chunked, identity', 'xchunked',
         "\x0bchunked", '"chunked"', 'chunked;q=1', 'deflate'),
    [ 'an empty Transfer-Encoding',
      { encoding_is(''), body => "%X\r\n%B\r\n0\r\n\r\n" },
      '501 page', 0, '501||' ],
    [ 'Transfer-Encoding CHUNKED', { encoding_is("\tCHUNKED".' '),
                                     body => "%X\r\n%B\r\n0\r\n\r\n" },
      '501 page', 0, '501||' ],
    [ 'Transfer-Encoding cHunKed', { encoding_is('cHunKed'),
                                     body => "%X\r\n%B\r\n0\r\n\r\n" },
      @TAKEN ],
    [ 'Transfer-Encoding with a space before its colon',
      { framing => [ 'Transfer-Encoding : chunked' ] }, @REFUSED ],
    [ 'Transfer_Encoding beside Content-Length',
      { framing => [ 'Transfer_Encoding: chunked', 'Content-Length: %L' ] },
      @TAKEN ],
    [ 'chunked over HTTP/1.0',
      { line => 'POST /notify HTTP/1.0',
        chunked("%X\r\n%B\r\n0\r\n\r\n") }, @REFUSED ],

    # chunks

    [ 'a chunk', { chunked("%X\r\n%B\r\n0\r\n\r\n") }, @TAKEN ],
    [ 'a chunk with an extension',
      { chunked("%X;a=b;c=\"d\"\r\n%B\r\n0;e\r\n\r\n") }, @TAKEN ],
    [ 'a chunk with an extension of 20 KB',
      { chunked('%X;' . 'x' x 20_000 . "\r\n%B\r\n0\r\n\r\n") }, @TAKEN ],
    [ 'a chunk whose size has zeros before',
      { chunked('0' x 30 . "%X\r\n%B\r\n0\r\n\r\n") }, @TAKEN ],
    [ 'chunks ended by line feeds', { chunked("%X\n%B\n0\n\n") }, @TAKEN ],
    [ 'a chunk and trailers',
      { chunked("%X\r\n%B\r\n0\r\nContent-Length: 9\r\n"
                . "Wechatpay-Nonce: x\r\nwebhook-id: x\r\n\r\n",
                'Trailer: Wechatpay-Nonce') }, @TAKEN ],
    (map { [ "a chunk's size $_", { chunked("$_\r\n%B\r\n0\r\n\r\n") },
             @REFUSED ] }
         'g', '-%X', '+%X', '0x%X', ' %X', '', ';%X',
         '10000000000000%X', 'ffffffffffffffff', '8000000000000000',
         '7fffffffffffffff'),
    [ "two sizes of a chunk", { chunked("%X 1\r\n%B\r\n0\r\n\r\n") },
      @TAKEN ],
    [ 'a chunk of 256 MB', { chunked("fffffff\r\n%B") },
      '413 page', 0, '413||' ],
    [ 'a chunk longer than it says', { chunked("8\r\n%B\r\n0\r\n\r\n") },
      @REFUSED ],
    [ 'a chunk that takes the end for its own',
      { chunked("fff\r\n%B\r\n0\r\n\r\n") }, '', 0, '400||' ],
    [ 'chunks without an end', { chunked("%X\r\n%B\r\n") }, '', 0, '400||' ],
    [ 'chunks with half an end', { chunked("%X\r\n%B\r\n0\r\n") }, '', 0,
      '400||' ],
    [ 'an empty chunked body and then the notify',
      { chunked("0\r\n\r\n%B") }, 'malformed 400 page', 0, $EMPTY, '400||' ],

    # lines

    [ 'line feeds alone', { end => "\n" }, @TAKEN ],
    [ 'carriage returns alone', { end => "\r" }, @REFUSED ],
    [ 'line feeds and then carriage returns', { end => "\n\r" }, @REFUSED ],
    [ 'an empty line before', { line => "\r\nPOST /notify HTTP/1.1" },
      @TAKEN ],
    [ 'a folded line', { headers => [ "X-Folded: a\r\n b" ] }, @REFUSED ],
    [ 'a folded length',
      { framing => [ "Content-Length:\r\n %L" ] }, @REFUSED ],
    [ 'a folded line at the head', { host => " Host: localhost" },
      @REFUSED ],
    [ 'a line without a colon', { headers => [ 'X-Nothing' ] }, @TAKEN ],
    [ 'a line without a name', { headers => [ ': x' ] }, @REFUSED ],
    [ 'NUL in a value', { headers => [ "X-Nul: a\0b" ] }, @REFUSED ],
    [ 'NUL in a name', { headers => [ "X-\0Nul: a" ] }, @REFUSED ],
    [ 'a carriage return in a value', { headers => [ "X-Cr: a\rb: c" ] },
      @REFUSED ],
    [ 'control characters in a name', { headers => [ "X-\x01: a" ] },
      @REFUSED ],
    [ 'high bytes in a name', { headers => [ "X-\xe9\x80\x80: a" ] },
      @TAKEN ],
    [ '900 headers', { headers => [ map { "X-$_: a" } 1 .. 900 ] },
      @TAKEN ],
    [ '4000 headers', { headers => [ map { "X-$_: a" } 1 .. 4000 ] },
      '400 page', 0, '400||' ],
    [ 'a header of 8 KB', { headers => [ 'X-Long: ' . 'a' x 8192 ] },
      '400 page', 0, '400||' ],
    [ 'a name of 7 KB', { headers => [ 'X' x 7168 . ': a' ] }, @TAKEN ],

    # the request line, Host

    [ 'NUL in the URI', { line => "POST /notify\0 HTTP/1.1" }, @REFUSED ],
    [ '%00 in the URI', { line => 'POST /notify%00 HTTP/1.1' }, @REFUSED ],
    [ 'a control character in the URI',
      { line => "POST /notify\x01 HTTP/1.1" }, @REFUSED ],
    [ 'an encoded line feed in the URI',
      { line => 'POST /notify%0a HTTP/1.1' }, '404 page', 0, '404||' ],
    [ 'the URI in other words',
      { line => 'POST //x/..//%6eotify?a=%0d%0a HTTP/1.1' }, @TAKEN ],
    [ 'out of the root', { line => 'POST /../notify HTTP/1.1' }, @REFUSED ],
    [ 'the absolute form', { line => 'POST http://other/notify HTTP/1.1' },
      @TAKEN ],
    [ 'the absolute form, no host',
      { line => 'POST http:///notify HTTP/1.1' }, @REFUSED ],
    [ 'a URI of 8 KB', { line => 'POST /' . 'a' x 8192 . ' HTTP/1.1' },
      '414 page', 0, '414||' ],
    [ 'HTTP/1.0', { line => 'POST /notify HTTP/1.0' }, @TAKEN ],
    [ 'HTTP/1.0 without a host', { line => 'POST /notify HTTP/1.0',
                                   host => 'Accept: */*' }, @TAKEN ],
    [ 'HTTP/1.0 without a length', { line => 'POST /notify HTTP/1.0',
                                     framing => [] },
      'malformed', 0, $EMPTY ],
    [ 'HTTP/1.9', { line => 'POST /notify HTTP/1.9' }, @TAKEN ],
    [ 'HTTP/2.0', { line => 'POST /notify HTTP/2.0' }, '505 page', 0,
      '505||' ],
    [ 'HTTP/1.1.1', { line => 'POST /notify HTTP/1.1.1' }, @REFUSED ],
    [ 'HTTP/1,1', { line => 'POST /notify HTTP/1,1' }, @REFUSED ],
    [ 'HTTP/0.9, whose answer has no head', { line => 'POST /notify' },
      'closed', 0, '400||' ],
    [ 'a method in lower case', { line => 'post /notify HTTP/1.1' },
      @REFUSED ],
    [ 'an unknown method', { line => 'REFUND /notify HTTP/1.1' },
      '405 page', 0, '405|malformed|the method is not POST' ],
    [ 'TRACE', { line => 'TRACE /notify HTTP/1.1' }, '405 page', 0,
      '405||' ],
    [ 'CONNECT', { line => 'CONNECT /notify HTTP/1.1' }, '405 page', 0,
      '405||' ],
    [ 'no Host', { host => 'X-Host: localhost' }, @REFUSED ],
    [ 'Host twice', { host => "Host: localhost\r\nHost: localhost" },
      @REFUSED ],
    [ 'an empty Host', { host => 'Host: ' }, @REFUSED ],
    [ 'a path for a Host', { host => 'Host: a/../b' }, @REFUSED ],
    [ 'another Host', { host => 'Host: other:1' }, @TAKEN ],

    # what a body says of itself, which changes nothing

    (map { [ "$_", { headers => [ $_ ] }, @TAKEN ] }
         'Content-Encoding: gzip', 'Content-Type: multipart/form-data',
         'Content-Type: application/x-www-form-urlencoded',
         'Content-Type: text/html; charset=utf-16', 'Content-Type:',
         'Expect: 200-nothing', 'Expect: 100-continue', 'Range: bytes=0-0',
         'If-None-Match: *', 'If-Match: "x"',
         'If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT',
         'X-HTTP-Method-Override: GET', 'Upgrade: h2c'),
    [ 'a body in gzip', { headers => [ 'Content-Encoding: gzip' ],
                          body => "\x1f\x8b\x08" . "\0" x 20,
                          framing => [ 'Content-Length: 23' ] },
      'malformed', 0, $EMPTY ],
    [ 'a byte more than the length', { body => '%B ' },
      'SUCCESS 400 page', 1, $DELIVERED, '400||' ],
);

# Some stop amidst a request, and are looked at again below.

my @stalled;

for my $version (qw(v2 v3)) {
    for (1, 100, -1) {
        my $notify = $pay->notify($version, $shop);
        my $connection = client($nginx, 'SLOW')->connect;

        $connection->write(substr bytes($notify), 0, $_);
        push @stalled, [ "$version, stalled at $_", $notify, $connection ];
    }
}

for my $row (@rows) {
    my ($name, $request, $answer, $deliveries, @log) = @$row;

    for my $version (qw(v2 v3)) {
        my $notify = $pay->notify($version, $shop);
        my $connection = $client->connect;

        $connection->write(bytes($notify, %$request));
        $connection->finish;

        # what is neither of the two is answered as v3

        my $form = ($log[0] // '') eq $EMPTY ? { version => 'v3' } : $notify;

        is(answers($form, $connection), $answer, "$version, $name");
        delivered("$version, $name",
                  ($notify->{event_id}) x $deliveries,
                  works("$version, $name", @log));
    }
}


# It breaks off after each byte of v2, and after each seventh of v3, from
# another one on every time: nothing is answered, nothing is known of the event.

my %go = (FIN => sub { $_[0]->finish }, RST => sub { $_[0]->reset });
my $begun = 0;

for ([ v2 => FIN => 1 ], [ v2 => RST => 1 ], [ v3 => FIN => 7 ],
     [ v3 => RST => 7 ])
{
    my ($version, $how, $step) = @$_;
    my ($n, %answers) = int rand $step;
    my $name = "$version, $how every $step from $n";
    my $notify = $pay->notify($version, $shop);
    my $bytes = bytes($notify);

    while ($n < length $bytes) {
        my @connections;

        while (@connections < 100 && $n < length $bytes) {
            push @connections, $broken->connect;
            $connections[-1]->write(substr $bytes, 0, $n);
            $go{$how}->($connections[-1]);
            $begun++ if $n && $how eq 'FIN';
            $n += $step;
        }

        next if $how eq 'RST';

        $answers{ answers($notify, $_) }++ for @connections;
    }

    is(join(' ', keys %answers), '', "$name: no answer");
    delivered($name, works($name));
    is($pay->answer($notify, $broken->post('/notify', $notify)), 'SUCCESS',
       "$name: all of it");
    delivered("$name, all of it", $notify->{event_id});
}

# those by RST are logged too where nginx had read something of them

my (@lines, $taken);

wait_until(sub {
    push @lines, $nginx->log_lines('broken.log', 0);
    $taken = grep { $_ eq $DELIVERED } @lines;
    return $taken >= 4 && @lines >= $begun + 4;
});

cmp_ok(scalar @lines, '>=', $begun + 4, 'broken off: lines of the log');
is($taken, 4, 'broken off: four of them are delivered');
is(scalar(grep { !/^(?:400|499)\|\|$/ && $_ ne $DELIVERED } @lines), 0,
   'broken off: and no other tells of a notify');


# It was slow for longer than it may: it is not answered.

for my $stalled (@stalled) {
    my ($name, $notify, $connection) = @$stalled;

    is(answers($notify, $connection), '', "$name: not answered");
}

is(join("\n", $nginx->log_lines('slow.log', scalar @stalled)),
   join("\n", ('408||') x @stalled), 'stalled: the log');
delivered('stalled', works('stalled'));

is(join(' ', $nginx->workers), $worker, 'by one worker, all the time');


# nginx is reloaded while a request is on its way over a connection that was
# kept: what was begun is answered; what was not can be told again.

my @kept;

for my $version (qw(v2 v3)) {
    for (qw(idle head body delivery)) {
        my ($first, $notify) = map { $pay->notify($version, $shop) } 1, 2;
        my $bytes = bytes($notify);
        my %sent = (idle => 0, head => 100, body => length($bytes) - 1,
                    delivery => length $bytes);
        my $connection = $client->connect;

        $connection->write(bytes($first));
        is($pay->answer($first, $connection->read), 'SUCCESS',
           "reload, $version, $_: before");

        $app->rules({ id => $notify->{event_id}, delay => 0.3 });
        $connection->write(substr $bytes, 0, $sent{$_}, '');
        ok(wait_until(sub { grep { $_->{id} eq $notify->{event_id} }
                                 $app->requests }),
           "reload, $version: under way") if $_ eq 'delivery';
        push @kept, [ "reload, $version, $_", $notify, $connection, $bytes ];
    }
}

# what is sent is read before the signal is

wait_until(sub {
    my ($waiting) = $client->request('GET', '/status')->{body}
                    =~ /Waiting: (\d+)/;
    return $waiting == 2;
});
ok($nginx->reload(wait => 0), 'reloaded');

for (@kept) {
    my ($name, $notify, $connection, $rest) = @$_;

    $connection->write($rest);

    my $answer = answers($notify, $connection);

    # of one that is idle, nginx may have closed it already

    like($answer, $name =~ /idle/ ? qr/^(?:SUCCESS)?$/ : qr/^SUCCESS$/,
         "$name: answered");
    is($pay->answer($notify, $client->post('/notify', $notify)), 'SUCCESS',
       "$name: told again");
    is(scalar(grep { $_->{id} eq $notify->{event_id} } $app->requests), 1,
       "$name: delivered once");
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
