#!/usr/bin/perl

# README.md, the pages of docs/ and their Chinese counterparts: nginx takes their
# configurations; each tells the same in both languages; no link is dead; the
# files are there that SECURITY.md names; and the codes of failures are those of
# the sources.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Document qw(chinese pages parts spans);
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use MIME::Base64 qw(encode_base64);

my $root = abs_path(dirname(__FILE__) . '/..');
my @english = pages();
my %chinese = map { $_ => chinese($_) } @english;
my @names = map { ($_, $chinese{$_}) } @english;
my %text = map { $_ => read_file("$root/$_") } @names;
my %parts = map { $_ => parts($text{$_}) } @names;

is_deeply([ sort map { s{^\Q$root/\E}{}r } glob "$root/docs/*" ],
          [ sort grep { m{^docs/} } @names ], 'each page in both languages');

my $nginx = RefundNotify::Test::Nginx->new(files => {
    'secrets/shop.v2key' => 'v' x 32,
    'secrets/shop.v3key' => 'k' x 32,
    'secrets/cafe.v3key' => 'c' x 32,
    'secrets/redis' => 'password',
    'secrets/sentinel' => 'password',
    'secrets/redis-ca.pem' => certificate(rsa_key('redis CA'), serial => '04',
                                          authority => 1),
    'secrets/edge.pem' => certificate(rsa_key('edge'), serial => '05'),
    'secrets/edge.key' => rsa_key('edge')->export_key_pem('private'),
    'secrets/shop.whsec' => 'whsec_' . encode_base64('s' x 24, ''),
    (map { ("secrets/shop-$_.v2key" => $_ x 32,
            "secrets/shop-$_.v3key" => $_ x 32,
            "secrets/shop-$_.whsec" => 'whsec_' . encode_base64($_ x 24, '')) }
         1, 2),
    'keys/wechatpay_public_key.pem'
        => rsa_key('wechatpay')->export_key_pem('public_x509'),
    'keys/wechatpay_certificate.pem' => certificate(rsa_key('platform'),
                                                    serial => '03'),
    'keys/apiclient_cert.pem' => certificate(rsa_key('merchant'),
                                             serial => '02'),
    'keys/apiclient_key.pem'
        => rsa_key('merchant')->export_key_pem('private'),
    'keys/pay.example.com.pem' => certificate(rsa_key('server'),
                                              serial => '01'),
    'keys/pay.example.com.key' => rsa_key('server')->export_key_pem('private'),
    'fastcgi_params' => 'fastcgi_param REQUEST_METHOD $request_method;',

    # the host's address is looked up, for which a test needs no network

    map { ('conf/' . basename($_) => read_file($_)
            =~ s/server api\.mch\.weixin\.qq\.com:/server 127.0.0.1:/r) }
        glob "$root/conf/*.conf"
});

my $configurations = 0;

for my $name (@names) {
    my $n = 0;

    for (grep { $_->[0] eq 'nginx' } @{ $parts{$name}{blocks} }) {
        $n++;

        if ($_->[1] =~ /rediss/
            && !RefundNotify::Test::Nginx::has_tls_to_redis())
        {
            note("$name: configuration $n needs a hiredis with TLS");
            next;
        }

        my ($status, $messages) = $nginx->config_test(complete($_->[1]));

        is($status, 0, "nginx takes $name\'s configuration $n")
            or diag($messages);
        unlike($messages, qr/\[warn\]/, 'without a warning');
    }

    $configurations += $n;
}

cmp_ok($configurations, '>=', 12, 'there are configurations');


# One structure

for my $name (@english) {
    my ($english, $chinese) = @parts{$name, $chinese{$name}};

    is_deeply($chinese->{outline}, $english->{outline},
              "$name: the same headings, paragraphs, lists, blocks and tables");
    is_deeply([ map { [ $_->[0], without_comments(@$_) ] }
                    @{ $chinese->{blocks} } ],
              [ map { [ $_->[0], without_comments(@$_) ] }
                    @{ $english->{blocks} } ],
              "$name: the same blocks but for comments");
    is_deeply([ map { [ map { spans($_) } @$_ ] } @{ $chinese->{tables} } ],
              [ map { [ map { spans($_) } @$_ ] } @{ $english->{tables} } ],
              "$name: the same names in each row of each table");
    is_deeply([ map { s/\.zh-CN\.md/.md/r =~ s/#.*//r } links($chinese{$name}) ],
              [ map { s/\.zh-CN\.md/.md/r =~ s/#.*//r } links($name) ],
              "$name: the same links");
}


# No dead link, and none that leads a reader into the other language, but for
# the one at the head of each page.

my %anchors = map { my $name = $_; $name => { map { anchor($_) => 1 }
                                              $text{$name} =~ /^#+ (.*)/mg } }
                  @names;

for my $name (@names) {
    my $language = $name =~ /\.zh-CN\.md$/ ? 1 : 0;
    my (@dead, $across);

    for my $link (links($name)) {
        my ($path, $anchor) = $link =~ /^([^#]*)#?(.*)/;
        my $to = $path eq '' ? $name : resolved($name, $path);

        push @dead, $link if !-e "$root/$to"
                             || $anchor ne '' && !$anchors{$to}{$anchor};

        $across++ if $to =~ /\.md$/
                     && ($to =~ /\.zh-CN\.md$/ ? 1 : 0) != $language;
    }

    is_deeply(\@dead, [], "$name: each link leads somewhere");
    is($across, 1, "$name: one to the other language");
}

is_deeply([ grep { my $page = $_; !grep { resolved('README.md', $_) eq $page }
                                        links('README.md') }
                 grep { m{^docs/|^SECURITY} } @english ], [],
          'README.md leads to each page');


# What shows that it is so, and what reads what

for my $name (map { ($_, $chinese{$_}) } 'SECURITY.md') {
    my @files = $text{$name} =~ m{`((?:t|src)/[\w./-]+)`}g;

    cmp_ok(scalar @files, '>', 20, "$name: it names files");
    is_deeply([ grep { !-e "$root/$_" } @files ], [], '... and each is there');
}


# The version is that of the package.

my ($version) = read_file("$root/debian/changelog") =~ /\A\S+ \(([\d.]+)\)/;

is(($text{$_} =~ /^## (\S+)/m)[0], $version, "$_ begins with this version")
    for 'CHANGELOG.md', 'CHANGELOG.zh-CN.md';
like(read_file("$root/src/ngx_http_refund_version.h"),
     qr/NGX_HTTP_REFUND_VERSION +"\Q$version\E"/, 'and the module says it');


# The codes of failures

my $failure = read_file("$root/src/wechatpay/wechatpay_failure.h");
my %codes = map { $_->[0] => $_ }
                map { [ /(\w+)/g ] } $failure =~ /^ +X\((\w+, .*?)\)/mg;
my %also = map { $_ => [] } keys %codes;

my $provider = read_file("$root/src/wechatpay/wechatpay_failure.c");

while ($provider =~ /wechatpay_string\("(\w+)"\),\s+WECHATPAY_CODE_(\w+)/g) {
    push @{ $also{$2} }, $1 if $1 ne $2;
}

cmp_ok(scalar keys %codes, '>', 20, 'the sources have codes');

# Metrics, with their types and their labels

my $counters = read_file("$root/src/status/ngx_refund_counters.h");
my %metrics;

while ($counters =~ /^\ +X\(\w+,\ \w+,\ "(\w+)",[\s\\]+"(refund_\w+)"/mgx) {
    $metrics{$2} = $1;
}

cmp_ok(scalar keys %metrics, '>', 20, 'and metrics');

for my $name (map { ($_, $chinese{$_}) } 'docs/status.md') {
    my ($table) = grep { $_->[0][0] =~ /^(?:Metric|指标)$/ }
                       @{ $parts{$name}{tables} };

    is_deeply({ map { $_->[0] =~ /`(\w+)/ => $_->[1] }
                    @{ $table || [] }[ 2 .. $#{ $table || [] } ] },
              \%metrics, "$name: each metric, its type, and no other");
}

for my $name (map { ($_, $chinese{$_}) } 'docs/refunds.md') {
    my ($table) = grep { $_->[0][0] eq '`code`' } @{ $parts{$name}{tables} };
    my @rows = @{ $table || [] }[ 2 .. $#{ $table || [] } ];

    is_deeply({ map { $_->[0] => [ @$_[ 1, 2 ], $_->[3] =~ /^(?:yes|是)$/
                                                || 0 ] } @rows },
              { map { ("`$_->[0]`" => [ lc $_->[1], $_->[2], $_->[3] ]) }
                    values %codes }, "$name: each code, and no other");
    is_deeply({ map { $_->[0] => [ sort grep { /^[A-Z_]+$/ }
                                       $_->[4] =~ /`(\w+)`/g ] } @rows },
              { map { ("`$_`" => [ sort @{ $also{$_} } ]) } keys %codes },
              "$name: each of WeChat Pay's codes");
}


done_testing();


# A file as it is, but for what is this machine's; else what goes into http or
# server.

sub complete {
    my ($conf) = @_;

    if ($conf =~ /^http \{/m) {
        $conf =~ s/^load_module .*/%%GLOBALS%%/m or die 'no load_module';
        $conf =~ s/^(?:user|error_log|pid) .*\n//gm;
        $conf =~ s/^http \{/$&\n    %%HTTP%%/m;

    } else {
        $conf = "server {\n    listen 127.0.0.1:%%PORT%%;\n$conf}\n"
            if $conf =~ /\Alocation /;
        $conf = "%%GLOBALS%%\nevents {}\nhttp {\n    %%HTTP%%\n$conf}\n";
    }

    $conf =~ s{/var/log/nginx/}{%%DIR%%/}g;
    $conf =~ s/listen( +)(?:127\.0\.0\.1:)?+\d+/listen$1 127.0.0.1:%%PORT%%/g;

    return $conf;
}


# Diagrams hold text of their language.

sub without_comments {
    my ($language, $block) = @_;

    return scalar(() = $block =~ /\n/g) if $block =~ /──>/;

    $block =~ s/^ *# .*\n//mg;
    $block =~ s/ +# .*$//mg;
    return $block;
}


# Within the project: relative ones.

sub links {
    my ($name) = @_;

    return grep { !/^https?:/ } $text{$name} =~ /\]\(([^)\s]+)\)/g;
}


sub resolved {
    my ($name, $path) = @_;

    my @path = split m{/}, dirname($name) . "/$path";
    my @to;

    for (@path) {
        if ($_ eq '..') {
            pop @to;

        } elsif ($_ ne '.') {
            push @to, $_;
        }
    }

    return join '/', @to;
}


# As GitHub makes it of a heading

sub anchor {
    my ($heading) = @_;

    $heading = lc $heading =~ s/[`',.:]|：|、|，//gr;
    $heading =~ s/ /-/g;
    return $heading;
}
