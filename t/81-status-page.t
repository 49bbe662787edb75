#!/usr/bin/perl

# The page of refund_status in a browser: what it says when nothing has come
# yet, when all is well, when a store is down, notifies fail or a certificate
# is about to expire, and when nginx does not answer; in English and Chinese,
# wide and narrow, light and dark; and that it asks nobody but this location.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Browser;
use RefundNotify::Test::Certificate qw(rsa_key certificate);

use utf8;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 512;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_merchant cafe {
        mch_id                1900000208;
        api_v2_key_file       cafe.v2key;
        wechatpay_certificate cafe.pem;
    }

    # words that objects of the page's language have themselves

    refund_merchant toString {
        mch_id          1900000209;
        api_v2_key_file cafe.v2key;
    }

    refund_merchant __proto__ {
        mch_id          1900000210;
        api_v2_key_file cafe.v2key;
    }

    refund_store main        redis://127.0.0.1:%%REDIS%%;
    refund_store constructor shm:1m;

    server {
        listen 127.0.0.1:%%PORT%%;

        location ~ ^/notify/(?<shop>\w+) {
            refund_notify $shop;
            refund_notify_pass /internal/refunds;
            refund_notify_store main;
        }

        location /constructor {
            refund_notify toString;
            refund_notify_pass /internal/refunds;
            refund_notify_store constructor;
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

plan(skip_all => 'the page is the same under the sanitizers')
    if $ENV{REFUND_NOTIFY_SANITIZE};

binmode $_, ':utf8' for Test::More->builder->output,
                        Test::More->builder->failure_output;

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $redis = redis();
my %vars = (APP => $app->port, REDIS => $redis->port);
my $nginx = nginx(with_merchants($conf, $shop), vars => \%vars, files => {
    'cafe.v2key' => 'v' x 32,
    'cafe.pem' => certificate(rsa_key('cafe'), serial => '0C',
                              to => time + 90.5 * 86400),
});
my $client = client($nginx);
my $url = 'http://127.0.0.1:' . $nginx->port . '/status';
my $browser = RefundNotify::Test::Browser->new;


sub notify {
    for (1 .. $_[0]) {
        $client->post('/notify/shop', $pay->v2_notify($shop));
    }

    return;
}


sub text {
    return $browser->run('return document.body.innerText');
}


# Waits until the page says it, in its state

sub says {
    my ($name, $class, $pattern) = @_;

    my $state;

    ok(wait_until(sub {
        $state = $browser->run(<<'EOS');
            var s = document.getElementById('state');
            return s.className + ': ' + s.innerText;
EOS
        return $state =~ /^\Q$class\E: .*$pattern/s;
    }, 20), $name) or diag($state);

    return;
}


# Text that is cut off or hidden has no place in it either.

sub fits {
    my ($name) = @_;

    is($browser->run(<<'EOS'), 0, "$name: no scrolling sideways");
        var e = document.documentElement;
        return Math.max(e.scrollWidth, document.body.scrollWidth)
               - e.clientWidth;
EOS
    is_deeply($browser->run(<<'EOS'), [], "$name: nothing sticks out");
        var width = document.documentElement.clientWidth;
        return [].filter.call(document.querySelectorAll('body *'),
            function (e) {
                return !e.closest('.scroll') && e.getClientRects().length
                       && e.getBoundingClientRect().right > width + 0.5;
            }).map(function (e) { return e.tagName + ' ' + e.innerText });
EOS
    return;
}


# Nothing yet

$browser->size(1280, 900);
$browser->open($url);
says('no notify yet', 'good', 'Waiting for the first notify');
is($browser->run('return document.documentElement.lang'), 'en', 'English');


# All is well

notify(5);
says('all is well', 'good', 'All well');

my @rows = (
    [ results => 'delivered' => qr/delivered.*\b5\s+every target accepted/ ],
    [ results => 'deadline' => qr/deadline\s+0\s+0/ ],
    [ times => 'notify' => qr/notify, in all\s+[\d.]+ ms\s+[\d.]+ ms\s+5/ ],
    [ stores => 'main' => qr/main\s+up\s+1\s+0\s+0\s+[\d.]+%\s+0/ ],
    [ stores => 'constructor' => qr/constructor\s+up/ ],
    [ merchants => 'toString' => qr/toString\s+0\s+0\s+0\s+0/ ],
    [ merchants => '__proto__' => qr/__proto__\s+0\s+0\s+0\s+0/ ],
    [ merchants => 'shop' => qr/shop\s+\d+\s+5\s+0\s+0/ ],
    [ certificates => 'cafe' => qr/cafe\s+\S+cafe\.pem\s+90/ ],
);

for (@rows) {
    my ($id, $key, $pattern) = @$_;
    my ($row) = grep { /^\Q$key\E/ }
                     @{ $browser->run(<<'EOS', $id) };
        return [].map.call(document.getElementById(arguments[0]).rows,
                           function (r) { return r.innerText });
EOS

    like($row // '', $pattern, "$id: $key");
}

like(text(), qr/refund-notify \S+, nginx \S+, 1 workers; counting since/,
     'what it is');
is_deeply($browser->run(<<'EOS'), [], 'each heading of a table has its scope');
    return [].filter.call(document.querySelectorAll('th'), function (th) {
        return !th.scope;
    }).map(function (th) { return th.outerHTML });
EOS
is_deeply($browser->run(<<'EOS'), [], 'each table has a name');
    return [].filter.call(document.querySelectorAll('table'), function (t) {
        return !document.getElementById(t.getAttribute('aria-labelledby'));
    }).map(function (t) { return t.outerHTML });
EOS
is_deeply($browser->run(<<'EOS'), [ 'Filled' ], 'and each meter');
    return [].map.call(document.querySelectorAll('meter'), function (m) {
        return document.getElementById(m.getAttribute('aria-labelledby'))
               .textContent;
    }).filter(function (name, i, all) { return all.indexOf(name) === i });
EOS
ok($browser->wait_for(<<'EOS'), 'there is a line');
    return /^M.*L/.test(document.querySelector('#rate-line path + path')
                        .getAttribute('d'));
EOS


# Both languages, wide and narrow, light and dark; contrast as WCAG 2 AA has it

my $contrast = <<'EOS';
    function light(c) {
        c = c.match(/[\d.]+/g).slice(0, 3).map(function (v) {
            v /= 255;
            return v <= 0.03928 ? v / 12.92
                                : Math.pow((v + 0.055) / 1.055, 2.4);
        });
        return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
    }
    function ground(e) {
        var c = getComputedStyle(e).backgroundColor;
        return /, 0\)$|transparent/.test(c) && e.parentElement
               ? ground(e.parentElement) : c;
    }
    return [].filter.call(document.querySelectorAll('body *'), function (e) {
        var own = [].some.call(e.childNodes, function (n) {
            return n.nodeType === 3 && n.nodeValue.trim();
        });
        var a, b;
        if (!own || !e.getClientRects().length) { return false; }
        a = light(getComputedStyle(e).color);
        b = light(ground(e));
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    }).map(function (e) { return e.innerText });
EOS

for my $width (1280, 390) {
    for my $language ('English', 'Chinese') {
        my $name = "$width, $language";

        $browser->size($width, 900);
        fits($name);

        for my $dark (0, 1) {
            $browser->dark($dark);
            is_deeply($browser->run($contrast), [],
                      "$name: contrast, " . ($dark ? 'dark' : 'light'));
        }

        like(text(), $language eq 'English' ? qr/All well.*Stores.*Latency/s
                                            : qr/一切正常.*存储.*用时/s,
             "$name: its language");
        is($browser->run('return document.documentElement.lang'),
           $language eq 'English' ? 'en' : 'zh-CN', "$name: and lang");
        is($browser->run('return document.getElementById("language").lang'),
           $language eq 'English' ? 'zh-CN' : 'en', 'and that of its button');
        $browser->run('document.getElementById("language").click()');
    }
}

$browser->dark(0);
$browser->size(1280, 900);


# What is wrong is said

$app->rules({ status => 500, times => 10 });
notify(10);
says('notifies fail', 'bad', '67% .* not accepted .*: upstream_error');

$redis->kill;
says('the store is down', 'bad', 'Store main is down');
$redis->restart;

$nginx->write_file('cafe.pem', certificate(rsa_key('cafe'), serial => '0D',
                                           to => time + 12.5 * 86400));
$nginx->reload;
says('a certificate expires', 'bad', 'cafe expires in 12 days: \S+cafe\.pem');
unlike(text(), qr/Store main is down/, 'the store is up again');
ok(wait_until(sub { text() =~ /main\s+up/ }, 10), 'as its row says');

is_deeply([ $browser->console ], [], 'nothing in the console');

# but for the browser's own page, before ours

is_deeply([ grep { $_ ne $url && !/^(?:data|chrome(?:-untrusted)?):/ } $browser->requested ],
          [], 'no other address was asked');


# nginx is gone, and comes back

$nginx->stop;
says('nginx does not answer', 'bad', 'No answer from nginx .*since \d+:\d\d');
is($browser->run('return document.body.className'), 'stale',
   'what is shown is marked as old');
is_deeply($browser->run($contrast), [], 'and readable');
like(text(), qr/upstream_error\s+\d+\s+10/, 'and still there');
$nginx->start;
says('it is back, and has begun anew', 'warn', 'expires in 12 days');
$browser->stop;


# The browser's own language

$browser = RefundNotify::Test::Browser->new(language => 'zh-CN');
$browser->open($url);
notify(1);
says('Chinese from the start', 'warn', '请留意');

# A policy that lets nothing else run

my ($policy) = map { $_->[1] }
               grep { lc $_->[0] eq 'content-security-policy' }
                    @{ $client->request('GET', '/status',
                                        [ Accept => 'text/html' ])->{fields} };

is($policy =~ s/'sha256-[\w+\/]{43}='/HASH/gr,
   "default-src 'none'; connect-src 'self'; img-src data:; style-src HASH; "
   . "script-src HASH; base-uri 'none'; form-action 'none'; "
   . "frame-ancestors 'none'", 'its Content-Security-Policy');

$browser->run(<<'EOS');
    var s = document.createElement('script');
    s.textContent = 'document.title = "stranger"';
    document.body.appendChild(s);
EOS
isnt($browser->run('return document.title'), 'stranger',
     'no other script runs');
$browser->stop;

done_testing;
