package RefundNotify::Test;

# What a test begins with:
#
#   use lib 't/lib';
#   use RefundNotify::Test;
#
# It turns on strict and warnings, brings Test::More's functions, and
#
#   nginx($conf, %option)          a started RefundNotify::Test::Nginx
#   business_app(@rules)           a BusinessApp; fastcgi() and uwsgi() likewise
#   redis(%option)                 a Redis
#   name_server()                  a NameServer
#   scripted_redis(@rules)         a ScriptedRedis before a Redis of its own
#   client($nginx, $port_name)     a Client
#   http2($nginx, $port_name, %option)   an Http2
#   wechatpay()                    a WeChatPay
#   wechatpay_server(%option)      a WeChatPayServer
#   caller_of($nginx, $port_name)  a Caller
#   with_merchants($conf, @shops)  the arguments of nginx(): %%MERCHANTS%% in
#                                  $conf becomes their refund_merchant blocks
#   slow($s), wait_until($code, $s), scratch_dir()     of Util
#   no_secrets($nginx, @secrets)   a test that none of them is in a log
#   done_testing()                 Test::More's, after each nginx was finished
#                                  and what was delivered was found valid
#
# A test that takes longer than ten minutes (more under the sanitizers) dies.

use strict;
use warnings;

use Test::More ();

use RefundNotify::Test::BusinessApp;
use RefundNotify::Test::Caller;
use RefundNotify::Test::Client;
use RefundNotify::Test::FastCGI;
use RefundNotify::Test::Http2;
use RefundNotify::Test::NameServer;
use RefundNotify::Test::Nginx;
use RefundNotify::Test::Peer;
use RefundNotify::Test::Redis;
use RefundNotify::Test::Schema qw(deliveries_are_valid);
use RefundNotify::Test::ScriptedRedis;
use RefundNotify::Test::Util qw(slow wait_until scratch_dir);
use RefundNotify::Test::Uwsgi;
use RefundNotify::Test::WeChatPay;
use RefundNotify::Test::WeChatPayServer;

our @EXPORT = qw(nginx business_app fastcgi uwsgi redis name_server
                 scripted_redis client http2 wechatpay wechatpay_server
                 caller_of with_merchants slow wait_until scratch_dir
                 no_secrets done_testing);


sub import {
    my ($class) = @_;

    my $caller = caller;

    strict->import;
    warnings->import;

    no strict 'refs';

    *{"${caller}::$_"} = \&{"Test::More::$_"}
        for grep { /^\w+$/ && $_ ne 'done_testing' } @Test::More::EXPORT;
    *{"${caller}::$_"} = \&$_ for @EXPORT;

    $SIG{ALRM} = sub { die "the test took too long\n" };
    alarm slow(600);
    return;
}


sub nginx {
    my ($conf, %option) = @_;

    return RefundNotify::Test::Nginx->new(conf => $conf, %option)->start;
}


sub business_app {
    return RefundNotify::Test::BusinessApp->new(rules => [ @_ ]);
}


sub fastcgi {
    return RefundNotify::Test::FastCGI->new(rules => [ @_ ]);
}


sub uwsgi {
    return RefundNotify::Test::Uwsgi->new(rules => [ @_ ]);
}


sub redis {
    return RefundNotify::Test::Redis->new(@_);
}


sub name_server {
    return RefundNotify::Test::NameServer->new;
}


sub scripted_redis {
    return RefundNotify::Test::ScriptedRedis->new(redis => redis(),
                                                  rules => [ @_ ]);
}


sub client {
    my ($nginx, $name) = @_;

    return RefundNotify::Test::Client->new(port => $nginx->port($name));
}


sub http2 {
    my ($nginx, $name, %option) = @_;

    return RefundNotify::Test::Http2->new(port => $nginx->port($name),
                                          %option);
}


sub wechatpay {
    return RefundNotify::Test::WeChatPay->new;
}


sub wechatpay_server {
    return RefundNotify::Test::WeChatPayServer->new(@_);
}


sub caller_of {
    my ($nginx, $name) = @_;

    return RefundNotify::Test::Caller->new(port => $nginx->port($name));
}


sub with_merchants {
    my ($conf, @shops) = @_;

    my $dir = scratch_dir();
    my $text = join '', map { wechatpay()->write($_, $dir) } @shops;

    return ($conf =~ s/%%MERCHANTS%%/$text/r);
}


sub no_secrets {
    my ($nginx, @secrets) = @_;

    # of nothing there is never anything in a log

    grep { defined && length } @secrets or die "no_secrets: no secret given\n";

    my @leaks = $nginx->leaks(@secrets);
    my $ok = Test::More::ok(!@leaks, 'no secret in a log');

    # saying which one would be one more log with it

    Test::More::diag(scalar @leaks, ' of ', scalar @secrets, ' are there')
        if !$ok;

    return $ok;
}


sub done_testing {
    RefundNotify::Test::Nginx::finish_all();
    RefundNotify::Test::Peer::read_all();
    deliveries_are_valid();
    return Test::More::done_testing();
}


1;
