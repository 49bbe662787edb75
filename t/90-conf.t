#!/usr/bin/perl

# The files of conf/: nginx takes the complete example, and each of the others
# where its own head comment says that it belongs.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use MIME::Base64 qw(encode_base64);

my $conf = abs_path(dirname(__FILE__) . '/../conf');
my %tested;

my $nginx = RefundNotify::Test::Nginx->new(files => {
    'secrets/shop.v2key' => 'v' x 32,
    'secrets/shop.v3key' => 'k' x 32,
    'secrets/shop.whsec' => 'whsec_' . encode_base64('s' x 24, ''),
    'keys/wechatpay_public_key.pem'
        => rsa_key('wechatpay')->export_key_pem('public_x509'),
    'keys/pay.example.com.pem' => certificate(rsa_key('server'),
                                              serial => '01'),
    'keys/pay.example.com.key' => rsa_key('server')->export_key_pem('private'),
    'fastcgi_params' => 'fastcgi_param REQUEST_METHOD $request_method;',
    'uwsgi_params' => 'uwsgi_param REQUEST_METHOD $request_method;',

    # the host's address is looked up, for which a test needs no network

    map { ('conf/' . basename($_) => read_file($_)
            =~ s/server api\.mch\.weixin\.qq\.com:/server 127.0.0.1:/r) }
        glob "$conf/*.conf"
});

chmod 0600, $nginx->path($_)
    for qw(secrets/shop.v2key secrets/shop.v3key secrets/shop.whsec);


# The complete example, with this test's own places for what nginx writes.

my $example = read_file("$conf/nginx.conf");

$example =~ s/^load_module .*/%%GLOBALS%%/m or die 'no load_module';
$example =~ s/^(?:user|error_log|pid) .*\n//gm;
$example =~ s/^http \{/http {\n    %%HTTP%%/m or die 'no http';
$example =~ s{/var/log/nginx/}{%%DIR%%/}g;
$example =~ s/listen( +)443/listen$1 127.0.0.1:%%PORT%%/ or die 'no listen';

is_accepted('nginx.conf', $example);

unlink $nginx->path('secrets/shop.v3key');
isnt(($nginx->config_test($example))[0], 0, 'its key files are needed');
$nginx->write_file('secrets/shop.v3key', 'k' x 32, 0600);


# The rest, as their comments show them: with the example's http block around
# it in place of its locations.

for my $name (qw(refund_delivery.conf refund_delivery_fastcgi.conf
                 refund_delivery_uwsgi.conf wechatpay_upstream.conf))
{
    my ($comment) = read_file("$conf/$name") =~ /\A((?:#.*\n)+)/;
    my $usage = join "\n", $comment =~ /^#   (.*)/mg;

    like($usage, qr{include\s+conf/\Q$name\E;}, "$name shows its use");
    is_accepted($name, around($usage));
}

is_accepted('wechatpay_upstream_hosts.conf',
            around('location /internal/wechatpay/ { '
                   . 'proxy_pass https://api.mch.weixin.qq.com/; '
                   . 'include conf/wechatpay_upstream.conf; }',
                   'include conf/wechatpay_upstream_hosts.conf;'));

is(join(' ', sort keys %tested),
   join(' ', sort map { basename($_) } glob "$conf/*.conf"),
   'no file of conf/ was left out');

done_testing();


# Without the upstream block of that name the host would be looked up.

sub around {
    my ($locations, $upstream) = @_;

    $locations =~ s/api\.mch\.weixin\.qq\.com/127.0.0.1/ if !$upstream;

    my $text = $example;

    $text =~ s{^    server \{}{    @{[ $upstream // '' ]}\n$&}m
        or die 'no server';
    $text =~ s/^        location .*(?=^    \}\n\}\n\z)/$locations\n/ms
        or die 'no locations';

    return $text;
}


sub is_accepted {
    my ($name, $text) = @_;

    my ($status, $messages) = $nginx->config_test($text);

    $tested{$name} = 1;
    is($status, 0, "nginx takes $name") or diag($messages);
    unlike($messages, qr/\[warn\]/, 'without a warning');
    return;
}
