#!/usr/bin/perl

# How a delivery ends: by proxy_pass, plain and with TLS, fastcgi_pass,
# uwsgi_pass and scgi_pass, whatever the business app does.  Accepted is a
# repeat a duplicate; refused for certain, the next delivery may begin at once;
# of unknown outcome, nobody is called again until the lease is over.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Scgi;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    log_format notify escape=none '$arg_n|$refund_notify_result'
                                  '|$refund_notify_reason'
                                  '|$refund_notify_attempt';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    refund_notify_lease 3s;

    proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;

    upstream kept {
        server 127.0.0.1:%%APP%%;
        keepalive 4;
    }

    upstream fastcgi_kept {
        server 127.0.0.1:%%FASTCGI%%;
        keepalive 4;
    }

    upstream first_refuses {
        server 127.0.0.1:%%PORT_NOBODY%% max_fails=0;
        server 127.0.0.1:%%APP%% backup;
    }

    upstream first_is_there {
        server 127.0.0.1:%%APP%% max_fails=0;
        server 127.0.0.1:%%OTHER%% backup;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location ~ ^/status/(?<way>.+)$ {
            refund_notify shop;
            refund_notify_pass /internal/$way name=orders;
        }

        location ~ ^/code/(?<way>.+)$ {
            refund_notify shop;
            refund_notify_pass /internal/$way name=orders;
            refund_notify_ack code;
        }

        location ~ ^/hurried/(?<way>.+)$ {
            refund_notify shop;
            refund_notify_pass /internal/$way name=orders;
            refund_notify_delivery_timeout 1s;
        }

        location /internal/ {
            internal;
            include %%ROOT%%/conf/refund_delivery.conf;

            location = /internal/http {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
            }

            location = /internal/grpc {
                grpc_pass 127.0.0.1:%%PORT_GRPC%%;
            }

            location = /internal/http-buffered {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_buffering on;
            }

            location = /internal/http-no-file {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_buffering on;
                proxy_max_temp_file_size 0;
            }

            # files, which sendfile would not even read

            location = /internal/http-cached {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_buffering on;
                proxy_cache cache;
                proxy_cache_methods POST;
                proxy_cache_key $request_id;
                proxy_cache_valid 1h;
                sendfile on;
            }

            location = /internal/http-stored {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_buffering on;
                proxy_store %%DIR%%/stored/$request_id;
                sendfile on;
            }

            location = /internal/http-kept {
                proxy_pass http://kept/refunds;
            }

            location = /internal/http-1.0 {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_http_version 1.0;
            }

            location = /internal/https {
                proxy_pass https://127.0.0.1:%%PORT_TLS%%/refunds;
                proxy_ssl_verify on;
                proxy_ssl_trusted_certificate %%DIR%%/app.pem;
                proxy_ssl_server_name on;
                proxy_ssl_name orders.example.com;
            }

            location = /internal/https-wrong-name {
                proxy_pass https://127.0.0.1:%%PORT_TLS%%/refunds;
                proxy_ssl_verify on;
                proxy_ssl_trusted_certificate %%DIR%%/app.pem;
                proxy_ssl_name others.example.com;
            }

            location = /internal/https-wrong-ca {
                proxy_pass https://127.0.0.1:%%PORT_TLS%%/refunds;
                proxy_ssl_verify on;
                proxy_ssl_trusted_certificate %%DIR%%/other.pem;
                proxy_ssl_session_reuse off;
                proxy_ssl_name orders.example.com;
            }

            location = /internal/https-plain {
                proxy_pass http://127.0.0.1:%%PORT_TLS%%/refunds;
            }

            location = /internal/first-refuses {
                proxy_pass http://first_refuses/refunds;
            }

            location = /internal/first-is-there {
                proxy_pass http://first_is_there/refunds;
            }

            location = /internal/nobody {
                proxy_pass http://127.0.0.1:%%PORT_NOBODY%%;
            }

            location = /internal/masked {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_intercept_errors on;
                error_page 500 =200 /internal/own;
            }

            location = /internal/unmasked {
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
                proxy_intercept_errors on;
                error_page 404 =500 /internal/own;
            }

            location = /internal/own {
                return 200 '{"code":"SUCCESS"}';
            }

            location = /internal/denied {
                deny all;
                proxy_pass http://127.0.0.1:%%APP%%/refunds;
            }
        }

        location /internal/fastcgi {
            internal;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SCRIPT_NAME /refunds.php;
            include %%ROOT%%/conf/refund_delivery_fastcgi.conf;

            location = /internal/fastcgi {
                fastcgi_pass 127.0.0.1:%%FASTCGI%%;
            }

            location = /internal/fastcgi-kept {
                fastcgi_pass fastcgi_kept;
            }

            location = /internal/fastcgi-unbuffered {
                fastcgi_pass 127.0.0.1:%%FASTCGI%%;
                fastcgi_buffering off;
            }

            location = /internal/fastcgi-nobody {
                fastcgi_pass 127.0.0.1:%%PORT_NOBODY%%;
            }
        }

        location /internal/uwsgi {
            internal;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param CONTENT_TYPE $content_type;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param REQUEST_URI /refunds;
            include %%ROOT%%/conf/refund_delivery_uwsgi.conf;

            location = /internal/uwsgi {
                uwsgi_pass 127.0.0.1:%%UWSGI%%;
            }

            location = /internal/uwsgi-buffered {
                uwsgi_pass 127.0.0.1:%%UWSGI%%;
                uwsgi_buffering on;
            }

            location = /internal/uwsgi-nobody {
                uwsgi_pass 127.0.0.1:%%PORT_NOBODY%%;
            }
        }

        location /internal/scgi {
            internal;
            scgi_param REQUEST_METHOD $request_method;
            scgi_param CONTENT_TYPE $content_type;
            scgi_param SCRIPT_NAME /refunds;
            include %%ROOT%%/conf/refund_delivery_scgi.conf;

            location = /internal/scgi {
                scgi_pass 127.0.0.1:%%SCGI%%;
            }

            location = /internal/scgi-buffered {
                scgi_pass 127.0.0.1:%%SCGI%%;
                scgi_buffering on;
            }

            location = /internal/scgi-nobody {
                scgi_pass 127.0.0.1:%%PORT_NOBODY%%;
            }
        }
    }

    server {
        listen 127.0.0.1:%%PORT_GRPC%% http2;
        access_log off;
        return 200 '{"code":"SUCCESS"}';
    }

    server {
        listen 127.0.0.1:%%PORT_TLS%% ssl;
        ssl_certificate %%DIR%%/app.pem;
        ssl_certificate_key %%DIR%%/app.key;
        access_log off;

        location / {
            proxy_pass http://127.0.0.1:%%APP%%;
            proxy_pass_request_headers on;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant;
my %peer = (http => business_app(), other => business_app(),
            fastcgi => fastcgi(), uwsgi => uwsgi(),
            scgi => RefundNotify::Test::Scgi->new(rules => []));
my $nginx = nginx(
    with_merchants($conf, $shop),
    vars => { APP => $peer{http}->port, OTHER => $peer{other}->port,
              map { uc $_ => $peer{$_}->port } qw(fastcgi uwsgi scgi) },
    files => {
        'app.pem' => certificate(rsa_key('app'), serial => '01',
                                 name => 'orders.example.com'),
        'app.key' => rsa_key('app')->export_key_pem('private'),
        'other.pem' => certificate(rsa_key('other'), serial => '02',
                                   name => 'orders.example.com'),
    });
my $client = client($nginx);

my $JSON = '{"code":"SUCCESS"}';
my $OK = { body => $JSON };
my $NO = 'its answer is no acceptance';
my $CUT = 'its answer was cut short';
my $SILENT = 'it did not answer';
my $UNREACHED = 'it could not be reached';
my $NEVER = 'fastcgi_pass and uwsgi_pass need "refund_notify_ack code"';

my %ANSWER = (
    delivered => '200 {"code":"SUCCESS","message":"OK"}',
    duplicate => '200 {"code":"SUCCESS","message":"OK"}',
    upstream_error => '502 {"code":"FAIL","message":"upstream_error"}',
    in_flight => '503 {"code":"FAIL","message":"in_flight"}',
);

my $n = 0;
my @unknown;


# The peer that a path leads to.

sub peer {
    my ($path) = @_;

    return $peer{ $path =~ /(fastcgi|uwsgi|scgi)/ ? $1 : 'http' };
}


# Sends it; the answer, and what the log says: result|reason|attempt.

sub send_it {
    my ($path, $notify) = @_;

    my $response = $client->post("$path?n=" . ++$n,
                                 $pay->resend($shop, $notify));

    return ("$response->{status} $response->{body}$response->{error}",
            $nginx->logged($n));
}


sub answers {
    my ($name, $path, $notify, $result, $reason, $attempt) = @_;

    my ($answer, $logged) = send_it($path, $notify);

    is($answer, $ANSWER{$result}, "$name: $result");
    is($logged, join('|', $result, $reason // '', $attempt // '-'),
       "$name: result, reason and attempt");
    return;
}


# One delivery to an app that does this once and accepts from then on.  Of an
# outcome that stays what it is (nobody is there): what comes next.

sub ends {
    my ($name, $path, $rule, $outcome, $reason, %option) = @_;

    my $peer = peer($path);
    my $notify = $pay->v3_notify($shop);
    my $calls = $option{calls} // 1;
    my $next = $option{next} // 'delivered';

    $peer->rules({ %$rule, times => 1 }, $OK);
    $_->forget for values %peer;

    $name = "$path, $name";
    answers($name, $path, $notify,
            $outcome eq 'accepted' ? 'delivered' : 'upstream_error',
            $reason, 1);
    is(scalar(() = $peer->requests), $calls, "$name: called once");

    if ($outcome eq 'accepted') {
        answers("$name: again", $path, $notify, 'duplicate');

    } elsif ($outcome eq 'refused') {
        answers("$name: again", $path, $notify, $next,
                $next eq 'delivered' ? undef : $reason, 2);
        is(attempt(($peer->requests)[-1]), 2, "$name: the app's attempt 2")
            if $next eq 'delivered';

    } else {
        answers("$name: again", $path, $notify, 'in_flight',
                'another delivery of it is under way');
        push @unknown, [ $name, $path, $notify, $next,
                         $next eq 'delivered' ? undef : $reason ];
    }

    is(scalar(() = $peer->requests),
       $calls + ($outcome eq 'refused' && $next eq 'delivered'),
       "$name: and as often as that");
    is(scalar(() = $peer{other}->requests), 0, "$name: no other app called");
    return;
}


sub attempt {
    my ($request) = @_;

    return $request->{headers}{'refund-attempt'}
           // $request->{params}{HTTP_REFUND_ATTEMPT};
}


# What each way brings to the app: the same, in its own form.

for (qw(/status/http /status/http-1.0 /status/https /code/fastcgi /code/uwsgi
        /status/scgi))
{
    my $notify = $pay->v3_notify($shop);
    my $peer = peer($_);

    $peer->rules($OK);
    $peer->forget;
    answers("$_: a delivery", $_, $notify, 'delivered', undef, 1);

    my ($request) = $peer->requests;
    my $got = $request->{headers}
              || { map { my $name = $_;
                         (lc($name =~ s/^HTTP_//r =~ tr/_/-/r)
                          => $request->{params}{$name}) }
                   keys %{ $request->{params} } };

    is($request->{method}, 'POST', "$_: the method");
    is($got->{'webhook-id'}, $notify->{event_id}, "$_: webhook-id");
    is($got->{'refund-attempt'}, 1, "$_: Refund-Attempt");
    is($got->{'content-type'}, 'application/json', "$_: Content-Type");
    is($got->{'content-length'}, length $request->{body},
       "$_: Content-Length");
    is(join(' ', grep { /wechatpay/ } keys %$got), '',
       "$_: no header of WeChat Pay's");
    like($request->{body}, qr/^\{"type":"refund\.succeeded",.*\}\}$/s,
         "$_: the event");
}


# statuses

for my $path (qw(/status/http /status/http-buffered /status/https
                 /status/scgi))
{
    for my $status (200, 201, 202, 204, 206, 299) {
        my $size = $status == 204 ? 0 : 10;

        ends($status, $path, { status => $status, size => $size }, 'accepted');
    }

    for my $status (301, 302, 304, 400, 401, 404, 409, 422, 429, 500, 503) {
        ends($status, $path, { status => $status, body =>
                               $status == 304 ? '' : $JSON,
                               headers => [ Location => '/elsewhere' ] },
             'refused', $NO);
    }
}

for my $path (qw(/code/http /code/fastcgi /code/uwsgi /code/scgi)) {
    ends('201 and SUCCESS', $path, { status => 201, body => $JSON },
         'accepted');

    for my $status (302, 404, 409, 500, 503) {
        ends("$status and SUCCESS", $path, { status => $status,
                                             body => $JSON }, 'refused', $NO);
    }

    ends('204', $path, { status => 204 }, 'refused', 'its answer is empty');
}

# nginx takes an interim answer for the answer (from 1.29 on it reads past a 103
# one): it is none, and what follows is not known.

SKIP: {
    my $binary = RefundNotify::Test::Nginx::_binary();
    my ($minor) = qx($binary -v 2>&1) =~ m{nginx/1\.(\d+)};

    skip 'this nginx reads past interim answers', 1 if $minor >= 29;

    for (qw(/status/http /status/http-buffered /code/http)) {
        ends('103 and then 200', $_, { %$OK, informational => [ 103 ],
                                       keepalive => 0 },
             'unknown', 'its answer is an interim one (1xx)');
    }

    ends('100 and then 200', '/hurried/http',
         { %$OK, informational => [ 100 ] },
         'unknown', 'its answer did not end in time');
}


# refund_notify_ack code

my $NOT_JSON = 'its answer is not JSON';
my $NO_CODE = 'its answer has no "code"';
my $OTHER = 'its answer\'s "code" is not "SUCCESS"';
my $LONG = 'its answer is longer than 4096 bytes';

sub long {
    my ($size) = @_;

    return '{"code":"SUCCESS","x":"' . 'x' x ($size - 25) . '"}';
}

my @answers = (
    [ 'SUCCESS', $JSON ],
    [ 'with white space', " {\r\n\t\"code\" : \"SUCCESS\" }\n" ],
    [ 'with other members', '{"a":[{"code":1}],"code":"SUCCESS","b":null}' ],
    [ 'with escapes', '{"co\u0064e":"SUCCES\u0053"}' ],
    [ '4096 bytes', long(4096) ],
    [ '4097 bytes', long(4097), $LONG ],
    [ '4096 and a space', long(4096) . ' ', $LONG ],
    [ '100 kB', long(100_000), $LONG ],
    [ 'nothing', '', 'its answer is empty' ],
    [ 'FAIL', '{"code":"FAIL"}', $OTHER ],
    [ 'lower case', '{"code":"success"}', $OTHER ],
    [ 'with a NUL', '{"code":"SUCCESS\u0000"}', $NOT_JSON ],
    [ 'a longer word', '{"code":"SUCCESSFUL"}', $OTHER ],
    [ 'true', '{"code":true}', $OTHER ],
    [ '0', '{"code":0}', $OTHER ],
    [ 'null', '{"code":null}', $OTHER ],
    [ 'a list of it', '{"code":["SUCCESS"]}', $OTHER ],
    [ 'another name', '{"Code":"SUCCESS"}', $NO_CODE ],
    [ 'deeper', '{"data":{"code":"SUCCESS"}}', $NO_CODE ],
    [ 'an array', '["code","SUCCESS"]', $NO_CODE ],
    [ '32 levels', '{"code":"SUCCESS","a":' . '[' x 31 . ']' x 31 . '}' ],
    [ '33 levels', '{"code":"SUCCESS","a":' . '[' x 32 . ']' x 32 . '}',
      'its answer has more than 32 levels' ],
    [ 'twice', '{"code":"SUCCESS","code":"SUCCESS"}', $NOT_JSON ],
    [ 'FAIL and SUCCESS', '{"code":"FAIL","code":"SUCCESS"}', $NOT_JSON ],
    [ 'something else twice', '{"a":1,"code":"SUCCESS","a":1}', $NOT_JSON ],
    [ 'half of it', '{"code":"SUCC', $NOT_JSON ],
    [ 'and more', '{"code":"SUCCESS"}{', $NOT_JSON ],
    [ 'a NUL after it', "{\"code\":\"SUCCESS\"}\0", $NOT_JSON ],
    [ 'not UTF-8', "{\"code\":\"SUCCESS\",\"a\":\"\xff\"}", $NOT_JSON ],
    [ 'text', 'SUCCESS', $NOT_JSON ],
    [ 'XML', '<xml><return_code>SUCCESS</return_code></xml>', $NOT_JSON ],
);

for (@answers) {
    my ($name, $body, $reason) = @$_;

    ends($name, '/code/http', { body => $body },
         $reason ? 'refused' : 'accepted', $reason);
}

for my $path (qw(/code/http-buffered /code/http-cached /code/http-stored
                 /code/http-kept /code/https /code/fastcgi /code/fastcgi-kept
                 /code/fastcgi-unbuffered /code/uwsgi /code/uwsgi-buffered
                 /code/scgi /code/scgi-buffered))
{
    ends('SUCCESS', $path, $OK, 'accepted');
    ends('4096 bytes', $path, { body => long(4096) }, 'accepted');
    ends('4097 bytes', $path, { body => long(4097) }, 'refused', $LONG);
    ends('1 MB', $path, { body => long(1_000_000) }, 'refused', $LONG);
    ends('FAIL', $path, { body => '{"code":"FAIL"}' }, 'refused', $OTHER);
    ends('nothing', $path, {}, 'refused', 'its answer is empty');
    ends('SUCCESS, byte by byte', $path, { body => $JSON, every => 0.001 },
         'accepted');
}

ends('chunked', "/code/$_", { body => long(4096), framing => 'chunked' },
     'accepted') for qw(http http-buffered http-kept);
ends('in chunks of a byte', "/code/$_",
     { raw => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              . join('', map { "1\r\n$_\r\n" } split //, $JSON)
              . "0\r\n\r\n", every => 0.001 },
     'accepted') for qw(http http-buffered http-kept);
ends('until the connection ends', "/code/$_",
     { body => $JSON, framing => 'close' }, 'accepted')
    for qw(http http-buffered http-1.0);


# What PHP says when it dies, and what FastCGI says beside the answer.

for my $path (qw(/code/fastcgi /code/fastcgi-kept)) {
    ends('a fatal error of PHP', $path,
         RefundNotify::Test::FastCGI::php_fatal(), 'refused', $NOT_JSON);
    ends('a fatal error after SUCCESS', $path,
         { body => "$JSON\n<b>Fatal error</b>:  Allowed memory size" },
         'refused', $NOT_JSON);
    ends('a warning on stderr', $path, { body => $JSON,
                                         stderr => 'PHP Warning: x' },
         'accepted');
}


# Under "status" these two accept nothing, and the log says what to do.

for my $path (qw(/status/fastcgi /status/uwsgi)) {
    for my $rule ({}, $OK, { status => 204 }) {
        ends('200', $path, $rule, 'unknown', $NEVER, next => 'upstream_error');
    }

    ends('a fatal error of PHP', $path,
         RefundNotify::Test::FastCGI::php_fatal(), 'unknown', $NEVER,
         next => 'upstream_error');
}

ends('200 without Content-Length', '/status/scgi',
     { body => $JSON, framing => 'close' }, 'unknown',
     'scgi_pass without a Content-Length needs "refund_notify_ack code"');
ends('204 without Content-Length', '/status/scgi',
     { status => 204, framing => 'close' }, 'accepted');
ends('200 without Content-Length', '/code/scgi',
     { body => $JSON, framing => 'close' }, 'accepted');
answers('200 over gRPC', $_, $pay->v3_notify($shop), 'upstream_error',
        'grpc_pass cannot take deliveries', 1)
    for '/status/grpc', '/code/grpc';

ok($nginx->wait_for_log('error.log', qr/\[error\].*\Q$NEVER\E/),
   'the error log says what they need');
like($nginx->error_log,
     qr/\[error\].*not\ accepted\ by\ "orders":\ \Q$NEVER\E,\ status\ 200,
        \ attempt\ 1/x, 'the error log names the mend');


# huge answers

for my $path (qw(/status/http /status/http-buffered /status/http-no-file
                 /status/http-kept /status/https /status/scgi
                 /status/scgi-buffered))
{
    my @framings = $path =~ /scgi/ ? 'length' : qw(length chunked close);

    for my $framing (@framings) {
        ends("1 MB, $framing", $path, { body => 'x' x 1_000_000,
                                        framing => $framing }, 'accepted');
    }
}


# answers that are cut short

for my $path (qw(/status/http /status/http-buffered /status/http-no-file
                 /status/http-kept /code/http /code/http-buffered))
{
    for my $framing (qw(length chunked)) {
        for my $then (qw(close reset)) {
            ends("$framing, cut before its body, $then", $path,
                 { body => $JSON, framing => $framing, cut => 0,
                   then => $then }, 'unknown', $CUT);
            ends("$framing, cut by a byte, $then", $path,
                 { body => "$JSON ", framing => $framing, cut => 18,
                   then => $then }, 'unknown', $CUT);
        }

        ends("$framing, cut in 1 MB", $path,
             { body => 'x' x 1_000_000, framing => $framing, cut => 600_000 },
             'unknown', $CUT);
    }

    ends('500, cut', $path, { status => 500, body => $JSON, cut => 5 },
         'unknown', $CUT);
}

ends('chunked, all but the last chunk', $_,
     { raw => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              . "12\r\n$JSON\r\n" }, 'unknown', $CUT)
    for qw(/status/http /code/http /code/http-buffered);

for my $path (qw(/code/fastcgi /code/fastcgi-kept)) {
    ends('cut', $path, { body => $JSON, cut => 5 }, 'unknown', $CUT);
    ends('all of it, but no END_REQUEST', $path,
         { body => $JSON, no_end => 1 }, 'unknown', $CUT);
    ends('all of it, but a reset for END_REQUEST', $path,
         { body => $JSON, no_end => 1, then => 'reset' }, 'unknown', $CUT);
}

for my $path (qw(/code/uwsgi /code/uwsgi-buffered /code/scgi
                 /code/scgi-buffered /status/scgi /status/scgi-buffered))
{
    ends('cut', $path, { body => "$JSON ", cut => 18 }, 'unknown', $CUT);
    ends('cut in 1 MB', $path, { body => 'x' x 1_000_000, cut => 600_000 },
         'unknown', $CUT);
}


# no answer at all

for my $path (qw(/status/http /status/http-buffered /status/http-kept
                 /code/http /code/fastcgi /code/fastcgi-kept /code/uwsgi
                 /status/scgi))
{
    ends("$_ for an answer", $path, { fault => $_ }, 'unknown', $SILENT)
        for qw(close reset);

    ends('half a header', $path, { raw => 'HTTP/1.1 200 OK' }, 'unknown',
         $SILENT) if $path !~ /fastcgi/;
}

ends('hangs', '/hurried/http', { fault => 'hang' }, 'unknown', $SILENT);
ends('never ends', '/hurried/http', { endless => 0.05 }, 'unknown',
     'its answer did not end in time');
ends('never ends', '/hurried/http-buffered', { endless => 0.05 }, 'unknown',
     'its answer did not end in time');


# not sent to anybody

ends('nobody', "/$_", {}, 'refused', $UNREACHED, calls => 0,
     next => 'upstream_error')
    for qw(status/nobody code/nobody status/https-wrong-name
           status/https-wrong-ca code/fastcgi-nobody code/uwsgi-nobody
           status/scgi-nobody);
ends('none of ours', "/$_", {}, 'refused',
     'the location did not pass the request on', calls => 0,
     next => 'upstream_error')
    for qw(status/own code/own status/denied status/no-such-location
           code/no-such-location);
ends('HTTP to a port of HTTPS', '/status/https-plain', {}, 'refused', $NO,
     calls => 0, next => 'upstream_error');


# a failure that error_page makes into a success, and the reverse

ends('500', '/status/masked', { status => 500 }, 'refused', $NO);
ends('404', '/status/unmasked', { status => 404 }, 'refused', $NO);
ends('200', "/status/$_", {}, 'accepted') for qw(masked unmasked);


# several servers

ends('200', '/status/first-refuses', {}, 'accepted');
ends('500', '/status/first-is-there', { status => 500 }, 'refused', $NO);
ends($_, '/status/first-is-there', { fault => $_ }, 'unknown', $SILENT)
    for qw(close reset);


# A connection that is kept, and that the app closes as the next one is sent.

for my $path (qw(/status/http-kept /code/fastcgi-kept)) {
    my $peer = peer($path);
    my $name = "$path, kept";

    $peer->rules($OK);
    $peer->forget;
    answers($name, $path, $pay->v3_notify($shop), 'delivered', undef, 1)
        for 1, 2;

    for my $fault (qw(close reset)) {
        ends("$fault on a connection that was kept", $path,
             { fault => $fault }, 'unknown', $SILENT);
    }
}


# The leases run out; what had an unknown outcome is delivered again.

for (@unknown) {
    my ($name, $path, $notify, $next, $reason) = @$_;
    my $peer = peer($path);
    my ($answer, $logged);

    $peer->rules($OK);
    $peer->forget;

    wait_until(sub {
        ($answer, $logged) = send_it($path, $notify);
        return $answer ne $ANSWER{in_flight};
    }, 10);

    is($answer, $ANSWER{$next}, "$name: after the lease");
    is($logged, join('|', $next, $reason // '', 2),
       "$name: after the lease, attempt 2");
    is(join(' ', map { attempt($_) } $peer->requests), 2,
       "$name: after the lease, called once");
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
