#!/usr/bin/perl

# The harness itself, on nginx without our module: that each part does what its
# head says, and that what must fail a test fails it.

use lib 't/lib';
use RefundNotify::Test;

use Crypt::AuthEnc::GCM qw(gcm_decrypt_verify);
use Crypt::Mode::ECB;
use Crypt::PK::RSA;
use Digest::MD5 qw(md5_hex);
use JSON::XS qw(decode_json);
use MIME::Base64 qw(decode_base64);
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(read_file write_file spawn stop_process);
use Time::HiRes qw(sleep time);

my $app = business_app();
my $php = fastcgi();
my $python = uwsgi();

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 2;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    upstream business {
        server 127.0.0.1:%%APP%%;
        keepalive 4;
    }

    server {
        listen 127.0.0.1:%%PORT%% backlog=2048;
        listen 127.0.0.1:%%PORT_H2%% http2;

        location / {
            proxy_pass http://business;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout %%PATIENCE%%ms;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
        }

        location /php {
            fastcgi_pass 127.0.0.1:%%PHP%%;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param SCRIPT_NAME $uri;
            fastcgi_param CONTENT_LENGTH $content_length;
        }

        location /python {
            uwsgi_pass 127.0.0.1:%%PYTHON%%;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param CONTENT_LENGTH $content_length;
        }
    }
}
EOC

my %plain = (module => 0,
             vars => { APP => $app->port, PHP => $php->port,
                       PATIENCE => slow(500),
                       PYTHON => $python->port });

my $nginx = nginx($conf, %plain);
my $client = client($nginx);


# What a request comes to: status, length of the body, error.

sub outcome {
    my ($response) = @_;

    return join ' ', $response->{status}, length $response->{body},
                     $response->{error} || '-';
}


subtest 'business app' => sub {
    my @cases = (
        [ 'no rule', {}, '200 0 -', 'answered' ],
        [ 'status and body', { status => 503, body => 'abc' },
          '503 3 -', 'answered' ],
        [ 'no content', { status => 204 }, '204 0 -', 'answered' ],
        [ 'chunked', { body => 'abcd', framing => 'chunked' },
          '200 4 -', 'answered' ],
        [ 'until it closes', { body => 'abcd', framing => 'close' },
          '200 4 -', 'answered' ],
        [ 'huge', { size => 3_000_000 }, '200 3000000 -', 'answered' ],
        [ 'byte by byte', { every => 0.0005, body => 'abc' },
          '200 3 -', 'answered' ],
        [ 'delay', { delay => 0.1 }, '200 0 -', 'answered' ],
        [ 'cut by length', { body => 'abcdef', cut => 2 },
          '200 2 cut', 'closed' ],
        [ 'cut in a chunk', { body => 'abcdef', cut => 2,
                              framing => 'chunked' },
          qr/^200 \d+ cut$/, 'closed' ],
        [ 'cut by RST', { body => 'abcdef', cut => 2, then => 'reset' },
          qr/^(?:200 \d|502 \d+) /, 'reset' ],
        [ 'close', { fault => 'close' }, qr/^502 /, 'closed' ],
        [ 'reset', { fault => 'reset' }, qr/^502 /, 'reset' ],
        [ 'hang', { fault => 'hang' }, qr/^504 /, 'left' ],
    );

    for my $case (@cases) {
        my ($name, $rule, $outcome, $how) = @$case;

        $app->rules($rule);
        $app->forget;

        my $got = outcome($client->request('POST', "/x?$$", [], "b\xffdy"));

        ref $outcome ? like($got, $outcome, $name) : is($got, $outcome, $name);

        $app->settle;

        my @requests = $app->requests;
        is(join(' ', map { @$_{qw(method path body how)} } @requests),
           "POST /x?$$ b\xffdy $how", "$name: as recorded");
    }

    # what nginx would not pass on

    my $direct = RefundNotify::Test::Client->new(port => $app->port);

    $app->rules({ path => '/a', informational => [ 103 ], status => 201 },
                { raw => "garbage\r\n\r\n" });
    is(outcome($direct->request('GET', '/a')), '201 0 -', 'interim');
    is($direct->request('GET', '/')->{error}, 'not HTTP', 'garbage');

    $app->rules({ endless => 0.01 });
    my $response = $client->request('POST', '/', [], '', timeout => 0.3);
    is($response->{error}, 'timeout', 'an answer without end');
};


subtest 'rules' => sub {
    $app->drop;
    $app->forget;
    $app->rules({ path => '/a', status => 401, times => 1 },
                { path => qr{^/a}, status => 402, skip => 1, times => 1 },
                { id => '7', status => 403 });

    is(join(' ', map { $client->request('GET', $_)->{status} }
                 qw(/a /a /ab /a /b)),
       '401 200 402 200 200', 'path, times, skip');
    is($client->request('GET', '/', [ 'webhook-id' => 7 ])->{status}, 403,
       'id');

    my @requests = $app->requests;
    is(scalar @requests, 6, 'all were recorded');
    is($requests[0]{headers}{host}, 'business', 'with headers');

    my %connections = map { $_->{connection} => 1 } @requests;
    cmp_ok(scalar keys %connections, '<=', 2, 'one connection a worker');

    $app->accepting('no');
    $app->drop;
    is($client->request('GET', '/')->{status}, 502, 'it refuses');
    ok($nginx->wait_for_log('error.log', qr/Connection refused/), 'really');

    $app->accepting('reset');
    is($client->request('GET', '/')->{status}, 502, 'it resets');
    $app->accepting('hang');
    is($client->request('GET', '/')->{status}, 504, 'it hangs');
    $app->accepting('yes');
    is($client->request('GET', '/')->{status}, 200, 'and is back');
};


subtest 'fastcgi and uwsgi' => sub {
    my $body = 'x' x 100_000;

    for ([ 'fastcgi', '/php', $php ], [ 'uwsgi', '/python', $python ]) {
        my ($name, $path, $peer) = @$_;

        $peer->rules({ body => $body, times => 1 },
                     { body => 'abcdef', cut => 2, times => 1 },
                     { fault => 'close', times => 1 },
                     { status => 404 });

        is(outcome($client->request('POST', $path, [], $body)),
           '200 100000 -', "$name: whole");
        like(outcome($client->request('POST', $path, [], 'b')),
             qr/^(?:200 [12] |502 )/, "$name: cut");
        is($client->request('POST', $path, [], 'b')->{status}, 502,
           "$name: no answer");
        is($client->request('POST', $path, [], 'b')->{status}, 404,
           "$name: status");

        my @requests = $peer->requests;
        is(@requests, 4, "$name: recorded");
        is(join(' ', @{ $requests[0] }{qw(method path how)},
                length $requests[0]{body}),
           "POST $path answered 100000", "$name: as sent");
    }

    $php->rules(RefundNotify::Test::FastCGI::php_fatal());
    my $response = $client->request('POST', '/php', [], '');
    is($response->{status}, 200, 'a fatal error of PHP is a 200');
    like($response->{body}, qr/Fatal error/, 'with its message');
};


subtest 'client' => sub {
    $app->rules;
    $app->forget;

    my $body = join '', map { chr } 0 .. 255;

    $client->request('POST', '/1', [], $body, pieces => 1);
    $client->request('POST', '/2', [], $body, chunked => 7);

    my $connection = $client->connect;
    is($connection->request('GET', "/$_")->{status}, 200, 'kept alive')
        for 3, 4;
    $connection->send('GET', '/5');
    $connection->send('GET', '/6');
    is($connection->read->{status}, 200, 'pipelined') for 5, 6;

    $connection->send('GET', '/7', [ Connection => 'close' ]);
    $connection->finish;
    is($connection->read->{status}, 200, 'half closed');
    ok($connection->eof, 'closed by nginx');

    $connection = $client->connect;
    $connection->send('POST', '/8', [], $body);
    $app->wait_for(8);
    $connection->reset;

    my %seen = map { $_->{path} => $_ } $app->requests;
    is(join(' ', sort keys %seen), join(' ', map { "/$_" } 1 .. 8), 'all seen');
    is($seen{$_}{body}, $body, "the bytes of $_") for '/1', '/2', '/8';

    $app->rules({ delay => 0.2 });
    $app->forget;

    my $start = time;
    my @responses = $client->parallel([ map { [ 'POST', "/$_", [], 'x' ] }
                                        1 .. 200 ]);
    is(scalar(grep { $_->{status} == 200 } @responses), 200, '200 at once');
    cmp_ok(time - $start, '<', slow(5), 'and not one after the other');

    $app->rules({ path => '/a', status => 418, body => 'abc' },
                { path => '/b', fault => 'hang' });
    my $http2 = http2($nginx, 'H2');
    my $stream = $http2->send('POST', '/b', [ 'X-Long' => 'x' x 300 ], 'b');
    $http2->reset($stream);
    $stream = $http2->send('POST', '/a', [], 'b');
    my $response = $http2->read($stream);
    is("$response->{status} $response->{body}$response->{error}", '418 abc',
       'HTTP/2, after a reset');
    like($client->curl('--http2-prior-knowledge', '-i', '-d', 'b',
                       'http://127.0.0.1:' . $nginx->port('H2') . '/a'),
         qr{^HTTP/2 418.*abc}s, 'HTTP/2 by curl');
};


subtest 'redis' => sub {
    my $redis = redis();

    is($redis->command(qw(SET key value NX PX 5000)), 'OK', 'SET');
    is($redis->command(qw(SET key value NX PX 5000)), undef, 'nil');
    is_deeply($redis->command('EVAL', 'return {1,{"a",false}}', 0),
              [ 1, [ 'a', undef ] ], 'EVAL');
    is(eval { $redis->command('NONSENSE') }, undef, 'an error dies');

    $redis->pause;
    my $other = RefundNotify::Test::Client->new(port => $redis->port)->connect;
    $other->write("PING\r\n");
    ok(!$other->eof(0.2) && $other->{in} eq '', 'stopped');
    $redis->resume;
    ok(wait_until(sub { $other->eof(0.01); $other->{in} eq "+PONG\r\n" }),
       'and continued');

    $redis->kill;
    ok(!eval { $redis->command('PING') }, 'killed');
    $redis->restart;
    is($redis->command('GET', 'key'), undef, 'empty after the restart');

    my $unix = redis(unix => 1, password => 'secret');
    is($unix->command('PING'), 'PONG', 'on a unix socket, with a password');
    like($unix->url, qr{^redis://unix:/}, 'its url');

    my $proxy = scripted_redis({ command => 'GET', key => 'a',
                                 reply => "-LOADING wait\r\n", times => 1 },
                               { command => 'SET', fault => 'reset',
                                 forward => 1 },
                               { key => 'd', cut => 2 },
                               { key => 'e', split => 1 });
    my $peer = sub {
        my $peer = RefundNotify::Test::Client->new(port => $proxy->port)
                                             ->connect;
        $peer->write(RefundNotify::Test::Resp::resp_command(@$_)) for @_;
        return $peer;
    };
    my $read = sub { my ($peer) = @_; $peer->eof(0.3); $peer->{in} };

    is($read->($peer->([ 'GET', 'a' ], [ 'PING' ], [ 'GET', 'a' ])),
       "-LOADING wait\r\n+PONG\r\n\$-1\r\n", 'a reply bent, the others not');
    is($read->($peer->([ 'SET', 'b', 1 ])), '', 'reset');
    is($proxy->{redis}->command('GET', 'b'), 1, 'but executed');
    is($read->($peer->([ 'GET', 'd' ])), '$-', 'cut');
    is($read->($peer->([ 'STRLEN', 'e' ])), ":0\r\n", 'split');
    is(join(' ', map { $_->{command} } $proxy->requests),
       'GET PING GET SET GET STRLEN', 'the commands were recorded');
};


subtest 'wechat pay' => sub {
    my $pay = wechatpay();
    my $shop = $pay->merchant(app_id => [ 'wx1' ], serial => [ '0F33AA' ],
                              merchant_serial => 'F0' x 20);
    my $block = $pay->write($shop, scratch_dir());

    like($block, qr/^refund_merchant shop \{\n    mch_id $shop->{mch_id};/,
         'its block');

    my $name = RefundNotify::Test::WeChatPay::AUTHORITY;
    my $authority = write_file(scratch_dir() . '/authority',
                               certificate(rsa_key($name), serial => '01',
                                           name => $name, authority => 1));

    for my $path ($block =~ m{(/\S+);}g) {
        my $pem = read_file($path);
        my $issuer = $path =~ /apiclient/ ? $authority : $path;

        ok(length $pem, "$path is there");
        next if $path !~ /cert|0F33AA/;
        like(qx(openssl x509 -in $path -noout -serial 2>&1)
             . qx(openssl verify -CAfile $issuer $path 2>&1),
             qr/^serial=(?:0F33AA|(?:F0){20}).*OK$/s, 'a certificate');
    }

    my $v2 = $pay->v2_notify($shop, -status => 'CLOSED', cash_refund_fee => 1,
                             total_fee => undef);
    my ($req_info) = $v2->{body} =~ /<req_info><!\[CDATA\[(.*?)\]\]>/;
    my $plain = Crypt::Mode::ECB->new('AES', 1)
                    ->decrypt(decode_base64($req_info),
                              md5_hex($shop->{v2_key}[0]));
    like($v2->{body}, qr{^<xml><return_code>SUCCESS</return_code><appid><!\[},
         'v2 outside');
    like($plain, qr{^<root>\n<out_refund_no>.*>\n</root>$}s, 'v2 inside');
    like($plain, qr/<refund_status><!\[CDATA\[REFUNDCLOSE\]/, 'its status');
    like($plain, qr/<cash_refund_fee>/, 'a field more');
    unlike($plain, qr/total_fee><!.*<total_fee|success_time/s, 'and less');
    is($v2->{event_id},
       "wechatpay:$shop->{mch_id}:$v2->{refund_id}:CLOSED", 'its id');

    my $v3 = $pay->v3_notify($shop, -partner => 190, -status => 'ABNORMAL');
    my %headers = @{ $v3->{headers} };
    my $verified = sub {
        my ($notify, $serial) = @_;
        my %headers = @{ $notify->{headers} };
        return rsa_key($serial)->verify_message(
            decode_base64($headers{'Wechatpay-Signature'}),
            join("\n", @headers{qw(Wechatpay-Timestamp Wechatpay-Nonce)},
                 $notify->{body}, ''), 'SHA256', 'v1.5');
    };
    ok($verified->($v3, $shop->{public_key_id}[0]), 'v3 is signed');
    ok($verified->($pay->resend($shop, $v3, -serial => '0F33AA'), '0F33AA'),
       'and can be again, with another key');

    my $envelope = decode_json($v3->{body});
    my $resource = $envelope->{resource};
    my ($cipher, $tag) = decode_base64($resource->{ciphertext})
                         =~ /^(.*)(.{16})$/s;
    $plain = gcm_decrypt_verify('AES', $shop->{v3_key}[0], $resource->{nonce},
                                $resource->{associated_data}, "$cipher",
                                "$tag");
    my $inner = decode_json($plain);
    is("$envelope->{event_type} $inner->{refund_status} $inner->{sub_mchid}",
       'REFUND.ABNORMAL ABNORMAL 190', 'v3 inside');
    like($v3->{event_id}, qr/:ABNORMAL:\Q$envelope->{id}\E$/, 'its id');

    my $probe = $pay->v3_notify($shop, -probe => 1);
    %headers = @{ $probe->{headers} };
    like($headers{'Wechatpay-Signature'}, qr{^WECHATPAY/SIGNTEST/.{336}$},
         'a probe');

    my $ok = '<xml><return_code><![CDATA[SUCCESS]]></return_code>'
             . '<return_msg><![CDATA[OK]]></return_msg></xml>';
    my @answers = (
        [ $v2, 200, $ok, 1 ], [ $v2, 200, "$ok\n", 0 ],
        [ $v2, 500, $ok, 0 ], [ $v2, 200, 'success', 0 ],
        [ $v3, 200, '{"code":"FAIL"}', 1 ], [ $v3, 204, '', 1 ],
        [ $v3, 201, '', 0 ], [ $v3, 0, '', 0 ],
    );

    for (@answers) {
        my ($notify, $status, $body, $want) = @$_;

        is($pay->acknowledged($notify, { status => $status, body => $body })
           ? 1 : 0, $want, "$notify->{version} answered $status");
    }

    my %ids = map { $pay->v2_notify($shop)->{refund_id} => 1 } 1 .. 1000;
    is(scalar keys %ids, 1000, 'ids do not repeat');
};


subtest 'nginx' => sub {
    my ($code, $messages) = $nginx->config_test($conf);
    is($code, 0, 'a good configuration');
    like($messages, qr/test is successful/, 'as nginx says');

    ($code, $messages) = $nginx->config_test("%%GLOBALS%%\nnonsense;\n");
    isnt($code, 0, 'a bad one');
    like($messages, qr/unknown directive "nonsense"/, 'and why');

    SKIP: {
        skip 'one process under valgrind', 6 if $ENV{REFUND_NOTIFY_VALGRIND};

        my @old = $nginx->workers;
        is(scalar @old, 2, 'workers');

        $app->rules({ delay => 0.4 });
        $app->forget;
        my $connection = $client->connect;
        $connection->send('GET', '/');
        $app->wait_for(1);
        ok($nginx->reload(wait => 0), 'reload');
        ok((grep { -d "/proc/$_" } @old), 'an old worker is still there');
        is($connection->read->{status}, 200, 'for its request');
        $app->rules;
        ok($nginx->reload, 'reload, and wait');
        ok(!(grep { -d "/proc/$_" } @old), 'no old worker is there');

        $nginx->write_file('nginx.conf', "%%GLOBALS%%\nnonsense;\n");
        ok(!$nginx->reload, 'a bad configuration is not loaded');
        is($client->request('GET', '/')->{status}, 200, 'nginx goes on');
        like(join('', $nginx->problems), qr/emerg.*nonsense/,
             'which is a problem');
        $nginx->allow(qr/unknown directive "nonsense"/);
    }

    is_deeply([ $nginx->problems ], [], 'but when allowed');
    like($nginx->access_log, qr{"POST /x\?$$ HTTP/1.1" 200 }, 'access_log');
    is_deeply([ $nginx->leaks("/x?$$", 'not-there', '') ], [ "/x?$$" ],
              'leaks');
    ok(!eval { nginx("%%GLOBALS%%\nnonsense;\n", module => 0) },
       'a bad configuration does not start');
    like($@, qr/nonsense/, 'and says why');
};


# What must fail a test, in tests of their own.

sub run_test {
    my ($script) = @_;

    my $output = scratch_dir() . '/run.out';
    unlink $output;

    # with what a real test begins, and an nginx

    my $head = <<'EOS';
        use RefundNotify::Test;
        $| = 1;
        my $nginx = nginx("%%GLOBALS%%\nworker_processes 1;\n"
                          . "events { }\nhttp { %%HTTP%% server {"
                          . " listen 127.0.0.1:%%PORT%%; } }\n",
                          module => 0);
        my ($worker) = $nginx->workers;
        ok(1, 'a test');
EOS

    local @ENV{qw(REFUND_NOTIFY_KEEP REFUND_NOTIFY_SANITIZE)};
    local $ENV{TMPDIR} = scratch_dir();

    my $status = stop_process(spawn([ $^X, '-It/lib', '-e', "$head $script" ],
                                    output => $output), 0, 60);

    return ($status, read_file($output));
}


SKIP: {
    skip 'needs a worker process', 1 if $ENV{REFUND_NOTIFY_VALGRIND};

    my $crash = <<'EOS';
        $nginx->signal('SEGV', $worker);
        $nginx->wait_for_log('error.log', qr/exited on signal 11/);
EOS
    my $forge = q(open my $log, '>>', $nginx->path('error.log');
                  $log->autoflush; print $log );

    my @cases = (
        [ 'nothing', 'done_testing;', 1, qr/^ok 2 - nginx stopped/m ],
        [ 'a crash', "$crash done_testing;", 0,
          qr/^not ok 2 .*exited on signal 11/ms ],
        [ 'a crash that is allowed',
          "$crash \$nginx->allow(qr/exited on signal 11/); done_testing;", 1,
          qr/^ok 2 /m ],
        [ 'a crash and no finish()',
          "$crash Test::More::done_testing();", 0, qr/exited on signal 11/ ],
        [ 'an alert', qq($forge "x [alert] 1#1: open socket #3\n";)
                      . ' done_testing;', 0, qr/open socket #3/ ],
        [ 'an exit code', qq($forge "worker 1 exited with code 1\n";)
                          . ' done_testing;', 0, qr/exited with code 1/ ],
        [ 'a report of a sanitizer',
          q($nginx->write_file('asan.7', 'AddressSanitizer: SEGV');
            done_testing;), 0, qr/AddressSanitizer: SEGV/ ],
        [ 'a core file', q($nginx->write_file('core.7', 'x'); done_testing;),
          0, qr/core\.7/ ],
        [ 'a secret', qq($forge "the key is k3y\n";)
                      . ' no_secrets($nginx, "k3y", "x1"); done_testing;', 0,
          qr/1 of 2 are there/ ],
        [ 'no secret to look for', 'no_secrets($nginx, ""); done_testing;', 0,
          qr/no secret given/ ],
        [ 'nginx that does not stop', <<'EOS', 0, qr/did not stop/ ],
            $nginx->signal('STOP', $worker);
            $nginx->{patience} = 1;
            done_testing;
EOS
        [ 'a test that dies', 'die "ouch";', 0, qr/ouch/ ],
    );

    for (@cases) {
        my ($name, $script, $passes, $output) = @$_;
        my ($status, $text) = run_test($script);

        is($status ? 0 : 1, $passes, ($passes ? 'passes: ' : 'fails: ') . $name)
            or diag($text);
        like($text, $output, "and says so: $name");
    }

    for my $signal (qw(TERM KILL)) {
        my ($status, $text) = run_test(<<'EOS' . "kill '$signal', \$\$;");
            print join ' ', 'left:', $nginx->pid, $worker,
                            business_app()->{pid}, redis()->pid, "\n";
EOS
        my ($pids) = $text =~ /left: ([\d ]+) $/m;
        my @left = my @started = split / /, $pids // '';

        is(scalar @started, 4, 'all were started');
        wait_until(sub {
            !(@left = grep { read_file("/proc/$_/stat") =~ /\) [^Z]/ }
                           @started)
        });
        is_deeply(\@left, [], "a test that gets SIG$signal leaves no process");
    }
}


done_testing;
