package RefundNotify::Sandbox;

# A WeChat Pay for business developers: an nginx with the module between a
# simulated WeChat Pay and the developer's app, or a small one of its own.
#
#   $sandbox = RefundNotify::Sandbox->new(
#       dir => $dir,               where the merchant and its keys are kept
#       port => 8600, page => 8601,       of nginx and of the page, on 127.0.0.1
#       app => $url,               the developer's app, or undef
#       speed => 1, profile => 'current')  see Notifier
#   $sandbox->run                  until SIGINT or SIGTERM
#   $sandbox->state                what the page shows: a hash
#   $sandbox->notify(%wish)        version, status, kind, out_refund_no
#   $sandbox->refund(%wish)        version, fen: asks nginx for a refund
#   $sandbox->again($n), $sandbox->stop($n)
#   $sandbox->settings(%wish)      speed, profile, outcome, app_status,
#                                  app_delay
#
# The last five are what page and command line ask for: they return a hash, or
# die with what is wrong with the wish, on a line of its own.

use strict;
use warnings;
use utf8;

use Crypt::PRNG qw(random_bytes random_string);
use Digest::SHA qw(hmac_sha256);
use Fcntl qw(:flock);
use File::Path qw(make_path);
use IO::Socket::INET;
use JSON::XS ();
use MIME::Base64 qw(decode_base64 encode_base64);
use Mojo::IOLoop;
use Mojo::UserAgent;
use Time::HiRes qw(time);

use RefundNotify::Sandbox::Notifier;
use RefundNotify::Sandbox::Page;
use RefundNotify::Test::BusinessApp;
use RefundNotify::Test::Certificate qw(rsa_key keep_keys);
use RefundNotify::Test::Nginx;
use RefundNotify::Test::Util qw(read_file write_file);
use RefundNotify::Test::WeChatPay;
use RefundNotify::Test::WeChatPayServer;

use constant {
    NOTIFY => '/wechatpay/refund-notify',
    POLL => 0.2,                # s
    SHOWN => 50,                # events of the app's on the page
    PROCESSING => 1,            # s that a refund takes
};

my $json = JSON::XS->new->utf8->canonical->pretty;

# What can be sent: made how, whether it has a ladder, and for which version.

my %KIND = (
    genuine => {},
    probe => { bend => sub { (-probe => 1) }, once => 1, only => 'v3' },
    echo => { make => [ -echo => 1 ], once => 1, only => 'v3' },
    forged => { bend => sub { (-signature => \&changed) }, once => 1,
                only => 'v3' },
    'wrong-key' => { once => 1, make_v2 => sub { (-key => 'x' x 32) },
                     bend => sub { (-signing_key => rsa_key('a stranger')) } },
    stale => { bend => sub { (-timestamp => int(time) - 3600) }, once => 1,
               only => 'v3' },
);


sub new {
    my ($class, %option) = @_;

    my $self = bless { outcome => 'SUCCESS', app_status => 200, app_delay => 0,
                       seen => 0, log_at => 0, said => 0, %option }, $class;

    $self->{kinds} = [ 'genuine', sort grep { $_ ne 'genuine' } keys %KIND ];

    make_path($self->{dir}, { mode => 0700 });
    chmod 0700, $self->{dir};
    $self->_alone;
    keep_keys($self->{dir});
    $self->{pay} = RefundNotify::Test::WeChatPay->new;
    $self->{shop} = $self->_merchant;

    rsa_key('a stranger');
    $self->{server} = RefundNotify::Test::WeChatPayServer->new(
        merchants => [ $self->{shop} ]);
    $self->{own_app} = RefundNotify::Test::BusinessApp->new
        if !defined $self->{app};
    $self->{nginx} = $self->_nginx;

    $self->{notifier} = RefundNotify::Sandbox::Notifier->new(
        pay => $self->{pay}, shop => $self->{shop},
        url => $self->url . NOTIFY, sent => sub { $self->_say(@_) });
    $self->settings(map { $_ => $option{$_} } grep { defined $option{$_} }
                        qw(speed profile));
    $self->{agent} = Mojo::UserAgent->new(max_connections => 0,
                                          request_timeout => 20);
    return $self;
}


sub url { return "http://127.0.0.1:$_[0]{port}" }


# Neither a second one in the directory, whose files are those of the first, nor
# anything else on the ports.

sub _alone {
    my ($self) = @_;

    my $file = write_file("$self->{dir}/lock", '', 0600);

    open $self->{lock}, '<', $file or die "$file: $!\n";
    flock $self->{lock}, LOCK_EX | LOCK_NB
        or die "a sandbox is running in $self->{dir} already: stop it, or ",
               "start this one with --dir\n";

    for my $port (@$self{qw(port page)}) {
        IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
                              LocalPort => $port, ReuseAddr => 1)
            or die "port $port is in use: make sandbox PORT=... PAGE=..., ",
                   "or --port and --page\n";
    }

    return;
}


# Made once, so that an app that knows the key goes on knowing it.

sub _merchant {
    my ($self) = @_;

    my $file = "$self->{dir}/merchant.json";

    if (!-s $file) {
        my $shop = $self->{pay}->merchant(
            mch_id => '1900000109', app_id => [ 'wx2421b1c4370ec43b' ],
            merchant_serial => '5157F09EFDC04705',
            v2_key => [ random_string(32) ], v3_key => [ random_string(32) ]);

        write_file("$self->{dir}/whsec",
                   'whsec_' . encode_base64(random_bytes(32), '') . "\n",
                   0600);
        write_file($file, $json->encode($shop), 0600);
    }

    chomp($self->{secret} = read_file("$self->{dir}/whsec"));
    return $json->decode(read_file($file));
}


sub _nginx {
    my ($self) = @_;

    my $root = RefundNotify::Test::Nginx::root();
    my $nginx = RefundNotify::Test::Nginx->new(
        ports => { '' => $self->{port} });
    my $app = $self->{app}
              // 'http://127.0.0.1:' . $self->{own_app}->port . '/refunds';

    $nginx->write_file('whsec', "$self->{secret}\n", 0600);
    $nginx->{vars} = {
        MERCHANT => $self->{pay}->write($self->{shop}, $nginx->dir),
        APP => $app, PAY => $self->{server}->port, NOTIFY => NOTIFY,
        TLS => $app =~ /^https/
               ? "proxy_ssl_server_name on;\n            proxy_ssl_verify on;\n"
                 . '            proxy_ssl_trusted_certificate '
                 . '/etc/ssl/certs/ca-certificates.crt;' : '',
    };
    $nginx->write_file('wechatpay_upstream.conf', $self->{server}->include);
    $nginx->write_file('nginx.conf', <<'END');
%%GLOBALS%%
events { worker_connections 1024; }

http {
    %%HTTP%%
    log_format sandbox escape=json
        '{"try":"$http_sandbox_try","result":"$refund_notify_result",'
        '"reason":"$refund_notify_reason"}';

    %%MERCHANT%%
    refund_store sandbox shm:10m;

    upstream api.mch.weixin.qq.com { server 127.0.0.1:%%PAY%%; }

    # a page of another site, in the developer's browser, has refunds made by
    # neither: a name of its own that leads here, nor a form

    server {
        listen 127.0.0.1:%%PORT%% default_server;
        return 403;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        server_name 127.0.0.1 localhost;

        if ($http_origin) {
            return 403;
        }

        location = %%NOTIFY%% {
            refund_notify                  shop;
            refund_notify_pass             /internal/refunds name=app;
            refund_notify_store            sandbox;
            refund_notify_signing_key_file whsec;
            access_log                     sandbox.log sandbox;
        }

        location = /internal/refunds {
            internal;
            proxy_pass %%APP%%;
            %%TLS%%
            include    %%ROOT%%/conf/refund_delivery.conf;
        }

        location /refunds {
            refund_request            shop;
            refund_request_pass       /internal/wechatpay;
            refund_request_store      sandbox;
            refund_request_notify_url https://pay.example.com%%NOTIFY%%;
        }

        location /v2/refunds {
            refund_request            shop;
            refund_request_api        v2;
            refund_request_pass       /internal/wechatpay;
            refund_request_store      sandbox;
            refund_request_notify_url https://pay.example.com%%NOTIFY%%;
        }

        location /internal/wechatpay/ {
            internal;
            proxy_pass                https://api.mch.weixin.qq.com/;
            proxy_ssl_certificate     shop-apiclient_cert.pem;
            proxy_ssl_certificate_key shop-apiclient_key.pem;
            include                   wechatpay_upstream.conf;
        }
    }
}
END

    return $nginx->start;
}


sub run {
    my ($self) = @_;

    my $page = RefundNotify::Sandbox::Page->new(sandbox => $self,
                                                port => $self->{page});

    $SIG{$_} = sub { Mojo::IOLoop->stop } for qw(INT TERM HUP);
    Mojo::IOLoop->recurring(POLL, sub { $self->_poll });
    $page->start;

    # for the command line

    my $control = write_file("$self->{dir}/page", $page->url . "\n", 0600);

    $self->_introduce($page);
    Mojo::IOLoop->start;

    unlink $control;
    print "\nstopping\n";
    $self->{nginx}->stop;
    $_->stop for grep { $_ } $self->{server}, $self->{own_app};
    return;
}


# What came to pass elsewhere: nginx' lines, and refunds that WeChat Pay has
# accepted.

sub _poll {
    my ($self) = @_;

    my $log = $self->{nginx}->path('sandbox.log');

    if (open my $file, '<:raw', $log) {
        seek $file, $self->{log_at}, 0;

        while (my $line = <$file>) {
            last if $line !~ /\n\z/;

            $self->{log_at} += length $line;
            my $try = $json->decode($line);

            $self->{notifier}->result(@$try{qw(try result reason)})
                if $try->{try} =~ /^\d+\z/;
        }
    }

    my @calls = $self->{server}->requests;

    while ($self->{seen} < @calls) {
        my $call = $calls[ $self->{seen}++ ];

        next if ($call->{command} // '') ne 'create'
                || $self->{told}{ $call->{id} // '' };

        my $refund = $self->{server}->refund($call->{id}) or next;

        $self->{told}{ $call->{id} } = 1;
        print "refund accepted: $call->{id}, $refund->{refund} fen, API",
              "$refund->{api}\n";
        next if $self->{outcome} eq 'none';

        my $outcome = $self->{outcome};

        Mojo::IOLoop->timer(PROCESSING, sub {
            eval {
                $self->notify(out_refund_no => $call->{id},
                              status => $outcome);
                1;
            } or print $@;
        });
    }

    return;
}


sub notify {
    my ($self, %wish) = @_;

    my $kind = choice('kind', $wish{kind} // 'genuine', keys %KIND);
    my $status = choice('status', $wish{status} // 'SUCCESS',
                        qw(SUCCESS ABNORMAL CLOSED));
    my $number = $wish{out_refund_no} // '';
    my $how = $KIND{$kind};
    my ($notify, $version);

    die "out_refund_no: at most 64 of 0-9 A-Z a-z _ - | * @\n"
        if $number !~ /^[0-9A-Za-z_\-|*@]{0,64}\z/;

    my $refund = length $number ? $self->{server}->refund($number) : undef;

    $version = choice('version',
                      $wish{version} // ($refund ? $refund->{api}
                                         : $how->{only} // 'v3'), qw(v2 v3));

    die "version: \"$kind\" is of API$how->{only} only\n"
        if $how->{only} && $how->{only} ne $version;
    die "version: that refund was asked for by API$refund->{api}\n"
        if $refund && $refund->{api} ne $version;

    if ($refund && $kind eq 'genuine') {
        $notify = $self->{server}->notify($number, $status);

    } else {
        my $method = "${version}_notify";
        my $now = RefundNotify::Test::WeChatPayServer::rfc3339(time);

        $notify = $self->{pay}->$method(
            $self->{shop}, -status => $status,
            length $number ? (out_refund_no => $number) : (),
            $status eq 'SUCCESS' && $kind ne 'echo'
            ? (success_time => $version eq 'v3' ? $now
                   : RefundNotify::Test::WeChatPayServer::v2_time($now)) : (),
            @{ $how->{make} || [] },
            $version eq 'v2' && $how->{make_v2} ? $how->{make_v2}->() : ());
    }

    my $record = $self->{notifier}->add(
        $notify, label => $kind, once => $how->{once},
        resend => { $how->{bend} ? $how->{bend}->() : () })
        // die "too many notifies wait already: stop some\n";

    return { n => $record->{n},
             defined $record->{event_id} ? (id => $record->{event_id}) : () };
}


# The signature of other bytes, in its right form.

sub changed {
    my ($signature) = @_;

    return $signature =~ s/^(.{172})(.{168})/$2$1/r;
}


sub refund {
    my ($self, %wish) = @_;

    my $version = choice('version', $wish{version} // 'v3', qw(v2 v3));
    my $fen = number('fen', $wish{fen} // 1, 1, 1_000_000);
    my $number = sprintf '%d%03d', time, ++$self->{asked} % 1000;
    my $body = { out_refund_no => "refund-$number",
                 out_trade_no => "order-$number",
                 amount => { refund => $fen + 0, total => $fen + 0,
                             currency => 'CNY' } };

    # nginx is another process, and so is who it asks: this one may wait

    my $tx = $self->{agent}->post(
        $self->url . ($version eq 'v2' ? '/v2/refunds' : '/refunds'),
        { 'Content-Type' => 'application/json' }, $json->encode($body));

    return { status => ($tx->res->code // 0) + 0,
             out_refund_no => "refund-$number",
             answer => eval { $json->decode($tx->res->body) }
                       // $tx->res->body };
}


sub again {
    my ($self, $n) = @_;

    $self->{notifier}->again(number('n', $n, 1, 1e9))
        or die "n: no such notify\n";
    return { n => $n };
}


sub stop {
    my ($self, $n) = @_;

    $self->{notifier}->stop(number('n', $n, 1, 1e9))
        or die "n: no such notify\n";
    return { n => $n };
}


sub settings {
    my ($self, %wish) = @_;

    my $ladders = RefundNotify::Sandbox::Notifier::LADDERS;

    # all of them are looked at before any is taken

    my %new = map { $_ => $wish{$_} } grep { defined $wish{$_} } keys %wish;

    number('speed', $new{speed}, 0.001, 1_000_000) if exists $new{speed};
    choice('profile', $new{profile}, keys %$ladders) if exists $new{profile};
    choice('outcome', $new{outcome}, qw(SUCCESS ABNORMAL CLOSED none))
        if exists $new{outcome};
    number($_->[0], $new{ $_->[0] }, @$_[1, 2])
        for grep { exists $new{ $_->[0] } } [ 'app_status', 200, 599 ],
                                            [ 'app_delay', 0, 120 ];

    die "the app is your own: it answers what it answers\n"
        if $self->{app} && grep { exists $new{$_} } qw(app_status app_delay);

    $self->{notifier}->speed($new{speed}) if exists $new{speed};
    $self->{notifier}->profile($new{profile}) if exists $new{profile};
    $self->{$_} = $new{$_} for grep { exists $new{$_} }
                                    qw(outcome app_status app_delay);

    if ($self->{own_app}) {
        $self->{own_app}->rules({
            status => $self->{app_status} + 0,
            $self->{app_delay} ? (delay => $self->{app_delay} + 0) : (),
            headers => [ 'Content-Type' => 'application/json' ],
            body => '{"code":"SUCCESS"}',
        });
    }

    return $self->_settings;
}


sub _settings {
    my ($self) = @_;

    return {
        speed => $self->{notifier}->speed + 0,
        profile => $self->{notifier}->profile,
        (map { $_ => $self->{$_} } qw(outcome)),
        $self->{own_app} ? (app_status => $self->{app_status} + 0,
                            app_delay => $self->{app_delay} + 0) : (),
    };
}


sub state {
    my ($self) = @_;

    $self->_poll;

    return {
        now => time,
        nginx => $self->url,
        app => $self->{app},
        kinds => $self->{kinds},
        ladders => RefundNotify::Sandbox::Notifier::LADDERS,
        settings => $self->_settings,
        notifies => [ map { my $record = $_;
            +{ map { $_ => $record->{$_} }
                   grep { defined $record->{$_} }
                        qw(n label version status event_id out_refund_no
                           profile state next interval tries) }
        } $self->{notifier}->records ],
        events => $self->_events,
    };
}


# What the small app has received, the latest first.

sub _events {
    my ($self) = @_;

    return [] if !$self->{own_app};

    my @requests = reverse $self->{own_app}->requests;

    splice @requests, SHOWN if @requests > SHOWN;

    return [ map {
        my $headers = $_->{headers};

        { at => $_->{time}, id => $headers->{'webhook-id'},
          attempt => $headers->{'refund-attempt'},
          signed => $self->_verifies($_) ? \1 : \0,
          event => eval { $json->decode($_->{body}) } }
    } @requests ];
}


# As an app does it, after Standard Webhooks.

sub _verifies {
    my ($self, $request) = @_;

    my $headers = $request->{headers};
    my $signed = join '.', map({ $headers->{$_} // '' }
                               qw(webhook-id webhook-timestamp)),
                           $request->{body};
    my $wanted = 'v1,' . encode_base64(hmac_sha256(
        $signed, decode_base64($self->{secret} =~ s/^whsec_//r)), '');

    return grep { $_ eq $wanted } split / /,
                $headers->{'webhook-signature'} // '';
}


sub choice {
    my ($name, $value, @known) = @_;

    die "$name: one of ", join(', ', sort @known), "\n"
        if ref $value || !grep { $_ eq $value } @known;

    return $value;
}


sub number {
    my ($name, $value, $least, $most) = @_;

    die "$name: a number from $least to $most\n"
        if ref($value // []) || $value !~ /^\d{1,9}(?:\.\d{1,6})?\z/
           || $value < $least || $value > $most;

    return $value;
}


sub _say {
    my ($self, $record, $try) = @_;

    my $wait = defined $record->{next}
               ? sprintf ', again in %.3g s', $record->{next} - time : '';

    printf "notify %d, API%s %s %s, try %d: %s %s%s\n", $record->{n},
           $record->{version}, $record->{status}, $record->{label},
           scalar @{ $record->{tries} }, $try->{status},
           $try->{error} // $try->{answer}, $wait;
    return;
}


sub _introduce {
    my ($self, $page) = @_;

    my $app = $self->{app} // 'a small one, which accepts all';
    my $url = $self->url;
    my $page_url = $page->url;

    print <<"END";
WeChat Pay is simulated here; nginx and the module are the real ones.

    the page    $page_url
    the app     $app
    its key     $self->{dir}/whsec

Ask for a refund, as the app does; its notify follows:

    curl -d '{"out_refund_no":"r-1","out_trade_no":"o-1","amount":{"refund":1,"total":1,"currency":"CNY"}}' \\
         -H 'Content-Type: application/json' $url/refunds
    curl $url/refunds/r-1

    and by APIv2 at $url/v2/refunds

Or from another terminal:

    tools/sandbox.pl notify --version v2 --status CLOSED
    tools/sandbox.pl notify --kind forged
    tools/sandbox.pl help

Ctrl-C ends all of it.

END
    return;
}


1;
