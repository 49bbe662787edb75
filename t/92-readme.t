#!/usr/bin/perl

# README.md and README.zh-CN.md: nginx takes their configurations; they tell the
# same, one in the other's language; and what they list is what the sources
# have: directives, variables, codes of failures, lines of the error log.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Certificate qw(rsa_key certificate);
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use MIME::Base64 qw(encode_base64);

my $root = abs_path(dirname(__FILE__) . '/..');
my @names = qw(README.md README.zh-CN.md);
my %text = map { $_ => read_file("$root/$_") } @names;
my %parts = map { $_ => parts($text{$_}) } @names;

my $nginx = RefundNotify::Test::Nginx->new(files => {
    'secrets/shop.v2key' => 'v' x 32,
    'secrets/shop.v3key' => 'k' x 32,
    'secrets/cafe.v3key' => 'c' x 32,
    'secrets/redis' => 'password',
    'secrets/shop.whsec' => 'whsec_' . encode_base64('s' x 24, ''),
    'keys/wechatpay_public_key.pem'
        => rsa_key('wechatpay')->export_key_pem('public_x509'),
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

for my $name (@names) {
    my $n = 0;

    for (grep { $_->[0] eq 'nginx' } @{ $parts{$name}{blocks} }) {
        my ($status, $messages) = $nginx->config_test(complete($_->[1]));

        $n++;
        is($status, 0, "nginx takes $name\'s configuration $n")
            or diag($messages);
        unlike($messages, qr/\[warn\]/, 'without a warning');
    }

    cmp_ok($n, '>=', 6, "$name has configurations");
}


# One structure

my ($english, $chinese) = map { $parts{$_} } @names;

is_deeply($chinese->{outline}, $english->{outline},
          'the same headings, paragraphs, lists, blocks and tables');
is_deeply([ map { [ $_->[0], without_comments(@$_) ] }
                @{ $chinese->{blocks} } ],
          [ map { [ $_->[0], without_comments(@$_) ] }
                @{ $english->{blocks} } ],
          'the same blocks but for comments');
is_deeply([ map { [ map { spans($_) } @$_ ] } @{ $chinese->{tables} } ],
          [ map { [ map { spans($_) } @$_ ] } @{ $english->{tables} } ],
          'the same names in each row of each table');

for my $name (@names) {
    my %anchors = map { $_ => 1 } map { anchor($_) }
                      $text{$name} =~ /^#+ (.*)/mg;

    is_deeply([ grep { !$anchors{$_} } $text{$name} =~ /\]\(#(.*?)\)/g ], [],
              "$name: each link within leads somewhere");
}


# Directives, variables, codes

my $module = read_file("$root/ngx_http_refund_notify_module.c");
my $request = read_file(
                  "$root/src/request/ngx_http_refund_request_module.c");
my $merchant = read_file("$root/src/merchant/ngx_http_refund_merchant.c");
my $variables = read_file(
                    "$root/src/notify/ngx_http_refund_notify_variables.c");

my @directives = sort map { /\{ ngx_string\("(\w+)"\),/g }
                     $module =~ /^static ngx_command_t .*?^\};/msg,
                     $request =~ /^static ngx_command_t .*?^\};/msg,
                     $merchant =~ /^[ ]+ngx_http_refund_merchant_commands\[\]
                                   .*?^\};/msxg;
my @variables = sort map { "\$$_" }
                    $variables =~ /\{ ngx_string\("(\w+)"\),/g;

cmp_ok(scalar @directives, '>', 30, 'the sources have directives');
cmp_ok(scalar @variables, '>', 10, 'and variables');

my $failure = read_file("$root/src/wechatpay/wechatpay_failure.h");
my %codes = map { $_->[0] => $_ }
                map { [ /(\w+)/g ] } $failure =~ /^ +X\((\w+, .*?)\)/mg;
my %also = map { $_ => [] } keys %codes;

my $provider = read_file("$root/src/wechatpay/wechatpay_failure.c");

while ($provider =~ /wechatpay_string\("(\w+)"\),\s+WECHATPAY_CODE_(\w+)/g) {
    push @{ $also{$2} }, $1 if $1 ne $2;
}

cmp_ok(scalar keys %codes, '>', 20, 'and codes');

for my $name (@names) {
    my ($section) = $text{$name} =~ /^## (?:Directives|指令)\n(.*?)^## /ms;
    my @listed = ($section =~ /^`(\w+) [^\n]*`http`/mg,
                  map { first_words($_->[0]) }
                      map { @$_[ 1 .. $#$_ ] }
                      grep { $_->[0][0] =~ /^(?:Directive|指令)$/ }
                      @{ parts($section)->{tables} });

    is_deeply([ sort @listed ], \@directives,
              "$name: each directive, and no other");

    ($section) = $text{$name} =~ /^## (?:Variables|变量)\n(.*?)^## /ms;
    is_deeply([ sort $section =~ /`(\$refund_\w+)`(?=.* \|)/g ], \@variables,
              "$name: each variable, and no other");

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


# The lines of the error log, piece by piece between what is filled in

my $sources = join '', map { read_file($_) }
                       glob "$root/*.c $root/src/*.c $root/src/*/*.c";

$sources =~ s/"\s+"//g;
$sources =~ s/\\"/"/g;

my ($log) = grep { grep { $_->[0] =~ /^`refund notify ID/ } @$_ }
                 @{ $english->{tables} };
my @lines = map { $_->[0] =~ /`([^`]{12,})`/g } @{ $log || [] };

cmp_ok(scalar @lines, '>', 20, 'the error log has lines');

for my $line (@lines) {
    my @pieces = grep { length > 7 }
                 split / ?(?:"[A-Z]+"|\b[A-Z]+\b|…|: |, ) ?/, $line;

    ok(@pieces && !(grep { index($sources, $_) < 0 } @pieces),
       "a line of the error log: $line" =~ s/…/.../gr) or diag(explain \@pieces);
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


# The outline, the fenced blocks as [ language, text ], and the tables: of rows,
# of cells.

sub parts {
    my ($text) = @_;

    my %parts = (outline => [], blocks => [], tables => []);
    my ($last, $block) = ('');

    for my $line (split /\n/, $text) {

        if ($line =~ /^```(\w*)/) {
            $block = $block ? undef : [ $1, '' ];
            push @{ $parts{blocks} }, $block if $block;
            push @{ $parts{outline} }, "block $1" if $block;
            $last = '';
            next;
        }

        if ($block) {
            $block->[1] .= "$line\n";
            next;
        }

        my ($mark) = $line =~ /^(#+|-|\d+\.) /;
        my $kind = $line eq '' ? ''
                   : $line =~ /^\|/ ? 'table'
                   : $mark ? "mark $mark"
                   : $last =~ /^(?:mark [-\d]|text)/ ? $last : 'text';

        if ($kind eq 'table') {
            push @{ $parts{tables} }, [] if $last ne 'table';
            push @{ $parts{tables}[-1] },
                 [ $line =~ /\G\|? *((?:\\\||[^|])*?) *\|(?=.|\z)/g ];
        }

        push @{ $parts{outline} }, $kind
            if $kind ne '' && ($mark || $kind ne $last);
        $last = $kind;
    }

    return \%parts;
}


# Diagrams hold text of their language.

sub without_comments {
    my ($language, $block) = @_;

    return scalar(() = $block =~ /\n/g) if $block =~ /──>/;

    $block =~ s/^ *# .*\n//mg;
    $block =~ s/ +# .*$//mg;
    return $block;
}


sub spans {
    my ($row) = @_;

    return [ sort "@$row" =~ /`([^`]+)`/g ];
}


sub first_words {
    my ($cell) = @_;

    return $cell =~ /`(\w+) /g;
}


# As GitHub makes it of a heading

sub anchor {
    my ($heading) = @_;

    $heading = lc $heading;
    $heading =~ s/ /-/g;
    return $heading;
}
