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
    'keys/apiclient_cert.pem' => certificate(rsa_key('merchant'),
                                             serial => '02'),
    'keys/apiclient_key.pem'
        => rsa_key('merchant')->export_key_pem('private'),
    map({ ("${_}_params" => "${_}_param REQUEST_METHOD \$request_method;") }
            qw(fastcgi uwsgi scgi)),

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

for my $file (qw(secrets/shop.v3key keys/apiclient_key.pem)) {
    my $content = read_file($nginx->path($file));

    unlink $nginx->path($file);
    isnt(($nginx->config_test($example))[0], 0, "it needs $file");
    $nginx->write_file($file, $content, 0600);
}

like($example, qr{^    include conf/wechatpay_upstream_hosts\.conf;}m,
     'it has the hosts of WeChat Pay');
$tested{'wechatpay_upstream_hosts.conf'} = 1;


my ($log) = read_file("$conf/refund_log.conf") =~ /\A((?:#.*\n)+)/;

like($log, qr{^#   http \{\n#       include conf/refund_log\.conf;}m,
     'refund_log.conf shows its use');
is_accepted('refund_log.conf',
            $example =~ s{refund\.log( +)refund;}{refund.json$1refund_json;}r
                     =~ s{^http \{\n}{$&    include conf/refund_log.conf;\n}mr);


# The rest, as their comments show them: with the example's http block around
# it in place of its locations.

for my $name (qw(refund_delivery.conf refund_delivery_fastcgi.conf
                 refund_delivery_uwsgi.conf refund_delivery_scgi.conf
                 wechatpay_callback_addresses.conf wechatpay_upstream.conf))
{
    my ($comment) = read_file("$conf/$name") =~ /\A((?:#.*\n)+)/;
    my $usage = join "\n", $comment =~ /^#   (.*)/mg;

    like($usage, qr{include\s+conf/\Q$name\E;}, "$name shows its use");
    is_accepted($name, around($usage));
}

is(join(' ', sort keys %tested),
   join(' ', sort map { basename($_) } glob "$conf/*.conf"),
   'no file of conf/ was left out');

done_testing();


sub around {
    my ($locations) = @_;

    my $text = $example;

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
