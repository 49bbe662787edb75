#!/usr/bin/perl

# docs/directives.md against the tables of commands in the sources, and against
# nginx -t: each directive, its arguments, where it may stand, its default; the
# parameters of a store; the variables.  The manual page is made of that page,
# and has all of them too.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Document qw(chinese parts);
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(dirname);

my $root = abs_path(dirname(__FILE__) . '/..');
my @pages = map { ($_, chinese($_)) } 'docs/directives.md';

my $conf = <<'EOC';
%%GLOBALS%%
events {}
http {
    %%HTTP%%
    %%MERCHANTS%%
    refund_store local shm:64k;
    %%IN_HTTP%%
    server {
        listen 127.0.0.1:%%PORT%%;
        %%IN_SERVER%%
        location = /notify { %%IN_NOTIFY%% }
        location /refunds { %%IN_REQUEST%% }
        location = /other { %%IN_OTHER%% }
        location = /internal/refunds { internal; return 200; }
        location = /internal/wechatpay { internal; return 200; }
    }
}
EOC

# what makes its location one that nginx takes, and a value for what has no
# default that could be written

my %location = (
    notify => [ 'refund_notify', 'refund_notify_pass' ],
    request => [ 'refund_request', 'refund_request_pass' ],
    other => [],
);
my %example = (
    refund_merchant => 'another { mch_id 1900000109; api_v2_key_file v2key; }',
    refund_store => 'another shm:64k',
    refund_notify => 'shop',
    refund_notify_pass => '/internal/refunds name=orders',
    refund_notify_store => 'local',
    refund_notify_accept => 'v2 v3',
    refund_notify_signing_key_file => 'whsec',
    refund_request => 'shop',
    refund_request_pass => '/internal/wechatpay',
    refund_request_notify_url => 'https://pay.example.com/notify',
    refund_request_store => 'local',
    refund_request_pass_event => '/internal/refunds name=orders',
    refund_status => '',
);

my %contexts = (NGX_HTTP_MAIN_CONF => 'http', NGX_HTTP_SRV_CONF => 'server',
                NGX_HTTP_LOC_CONF => 'location');
my %arguments = (NGX_CONF_NOARGS => [ 0, 0 ], NGX_CONF_FLAG => [ 1, 1 ],
                 NGX_CONF_TAKE1 => [ 1, 1 ], NGX_CONF_TAKE2 => [ 2, 2 ],
                 NGX_CONF_TAKE12 => [ 1, 2 ], NGX_CONF_1MORE => [ 1, 8 ],
                 NGX_CONF_2MORE => [ 2, 8 ]);

my @sources = map { read_file($_) }
              glob "$root/*.c $root/src/*.c $root/src/*/*.c";
my $sources = join "\n", @sources;
my @includes = map { s{^\Q$root/\E}{}r } grep { !m{/nginx\.conf$} }
               glob "$root/conf/*.conf";
my %command = commands();
my @parameters = sort { $a cmp $b } parameters();
my @variables = sort { $a cmp $b } variables();

cmp_ok(scalar keys %command, '>', 30, 'the sources have directives');


# The page against the tables

for my $page (@pages) {
    my $text = read_file("$root/$page");
    my %documented = documented($text);

    is_deeply([ sort keys %documented ], [ sort keys %command ],
              "$page: each directive, and no other");

    for my $name (grep { $documented{$_} } sort keys %command) {
        my ($command, $is) = ($command{$name}, $documented{$name});

        is_deeply([ bounded(@{ $is->{arguments} }) ],
                  [ bounded(@{ $command->{arguments} }) ],
                  "$page: $name, how many arguments");
        is_deeply($is->{contexts}, $command->{contexts},
                  "$page: $name, where it may stand");
        is(canonical($is->{default}), canonical($command->{default}),
           "$page: $name, its default");
    }

    is_deeply([ sort $text =~ /^\| .*?`(\w+)=\w+[^|]*(?=\|)/mg,
                     $text =~ /^\| `\w+=\w+`(?:, |、)`(\w+)=\w+`/mg ],
              \@parameters, "$page: each parameter of a store");

    is_deeply([ sort $text =~ /`(conf\/\w+\.conf)`(?=.* \|)/g ], \@includes,
              "$page: each file to include");

    my ($section) = $text =~ /^## (?:Variables|变量)\n(.*)/ms;

    is_deeply([ sort $section =~ /`(\$refund_\w+)`(?=.* \|)/g ],
              \@variables, "$page: each variable, and no other");
}


# The page against nginx -t

my $pay = wechatpay();
my $shop = $pay->merchant(app_id => [ 'wx8888888888888881' ],
                          merchant_serial => '5157F09EFDC047057A01');
my %documented = documented(read_file("$root/docs/directives.md"));
my %marks = map { ("IN_$_" => '') } qw(HTTP SERVER NOTIFY REQUEST OTHER);
my $nginx = RefundNotify::Test::Nginx->new(
    conf => with_merchants($conf, $shop), vars => { %marks },
    files => { v2key => 'v' x 32, whsec => 'whsec_' . 'c' x 32 });

for my $context ('http', 'server', 'location') {
    my ($status, $messages) = tested($context, grep {
        grep { $_ eq $context } @{ $documented{$_}{contexts} }
    } names());

    is($status, 0, "nginx takes in $context what may stand there, with its "
                   . 'default') or diag($messages);
    unlike($messages, qr/\[warn\]/, 'without a warning');
}

for my $name (names()) {
    for my $context ('http', 'server', 'location') {
        next if grep { $_ eq $context } @{ $documented{$name}{contexts} };

        my ($status, $messages) = tested($context, $name);

        isnt($status, 0, "$name in $context: refused");
        like($messages, qr/"$name" directive is not allowed here/, 'as such');
    }
}


# The manual page

for my $page (@pages) {
    my $manual = qx($^X $root/debian/man-page.pl $root/$page);
    my $plain = $manual =~ s/\\f[BR]//gr =~ s/\\-/-/gr;

    is($?, 0, "$page: a manual page is made of it");
    is_deeply([ grep { $plain !~ /^\.TP\n.*(?<!\w)\Q$_\E\b/m
                       && $plain !~ /^\Q$_\E name /m } sort keys %command,
                @variables ], [], 'with each directive and variable');
    unlike($manual, qr/`|\]\(|^\|/m, 'and no Markdown');
}

done_testing();


# What the sources say: of nginx' own tables, and of those of blocks.

sub commands {
    my %command;

    for my $source (@sources) {
        for my $table ($source =~ /^static ngx_command_t .*?^\};/msg) {
            while ($table =~ /\{\ ngx_string\("(\w+)"\),\s+([\w|\s]+),
                              (.*?)\},/sxg)
            {
                my ($name, $flags, $rest) = ($1, $2, $3);
                my ($field) = $rest =~ /offsetof\(\w+, ([\w.]+)\)/;
                my ($values) = $rest =~ /&(\w+)\s*$/;

                # whose setter knows the place itself, is named as the field

                $field //= $name =~ s/^refund_(?:notify|request)_//r;

                $command{$name} = {
                    contexts => [ map { $contexts{$_} // () }
                                      $flags =~ /\w+/g ],
                    arguments => (grep { $_ } map { $arguments{$_} }
                                                  $flags =~ /\w+/g)[0],
                    default => default($source, $field, $values),
                };
            }
        }

        for my $table ($source =~ /^\s+\w+_commands\[\] =\n\{.*?^\};/msg) {
            $command{$1} = { contexts => [], arguments => [ $2, $3 ] }
                while $table =~ /\{ ngx_string\("(\w+)"\), (\d+), (\d+),/g;
        }
    }

    return %command;
}


# What a field is merged to where nothing is set, as it would be written.

sub default {
    my ($source, $field, $values) = @_;

    my ($kind, $value)
        = $source =~ /ngx_conf_merge_(\w+)_value\(conf->\Q$field\E,\s+
                      prev->\Q$field\E,\s+([^;]+)\);/x
          ? ($1, $2)
          : $source =~ /conf->\Q$field\E\s=\s.*?==\sNGX_CONF_UNSET_UINT\)\s+
                        \?\ (\w+)\ :/x ? ('uint', $1)
          : return undef;

    if ($values && $source =~ /\Q$values\E\[\] = \{(.*?)^\};/ms) {
        my $entries = $1;

        return $entries =~ /ngx_string\("(\w+)"\), \Q$value\E \}/ ? $1 : undef;
    }

    return undef if $value !~ /^[\d *]+$/ || $kind eq 'bitmask';

    my $number = 1;

    $number *= $_ for $value =~ /\d+/g;

    return $field eq 'error_rate' ? $number / 1000 . 'r/s'
           : $field eq 'threads' ? ('off')[$number]
           : $kind eq 'msec' ? "${number}ms"
           : $kind eq 'sec' ? "${number}s"
           : $number;
}


sub parameters {
    return map { /ngx_string\("(\w+)="\)/g }
               $sources =~ /ngx_http_refund_store_param_names\[\] = .*?^\};/msg;
}


sub variables {
    return map { map { "\$$_" } /\{ ngx_string\("(refund_\w+)"\),/g }
               $sources =~ /^static ngx_http_variable_t .*?^\};/msg;
}


# What the page says: [ least, most ] arguments, contexts, default.

sub documented {
    my ($text) = @_;

    my %documented;

    while ($text =~ /^`(\w+)\ ([^`]*)`(?:,\ context\ |，位置\ )
                     ((?:`\w+`(?:,\ )?)+)/mgx)
    {
        my ($name, $syntax, $contexts) = ($1, $2, $3);

        $documented{$name} = { arguments => [ counted($syntax) ],
                               contexts => [ $contexts =~ /\w+/g ] };
    }

    for my $table (grep { $_->[0][0] =~ /^(?:Directive|指令)$/ }
                        @{ parts($text)->{tables} })
    {
        for my $row (@$table[ 2 .. $#$table ]) {
            my %cell;

            @cell{ map { s/^默认值$/Default/r =~ s/^位置$/Context/r }
                       @{ $table->[0] } } = @$row;

            while ($row->[0] =~ /`(\w+)(?: ([^`]*))?`/g) {
                my ($name, $syntax) = ($1, $2);
                my ($default) = ($cell{Default} // '') =~ /^`([^`]+)`$/;

                $documented{$name} = {
                    arguments => [ counted($syntax // '') ],
                    contexts => [ ($cell{Context} // '') =~ /\w+/g ],
                    default => $default,
                };
            }
        }
    }

    return %documented;
}


# "a \| b" is one argument, "[a]" none or one, "…" repeats what is before it.

sub counted {
    my ($syntax) = @_;

    my ($least, $most) = (0, 0);

    for my $word (split ' ', $syntax =~ s/ \{ … \}//r =~ s/ \\\| /|/gr) {
        $least++ if $word !~ /^\[|…/;
        $most += $word =~ /…/ ? 8 : 1;
    }

    return ($least, $most);
}


sub bounded {
    my ($least, $most) = @_;

    return ($least, $most > 1 && $most != $least ? 'more' : $most);
}


# Milliseconds and bytes

sub canonical {
    my ($value) = @_;

    my %unit = (ms => 1, s => 1000, m => 60000, h => 3600000, k => 1024);

    return $value if !defined $value || $value !~ /^(\d+)(ms|[smhk])$/;
    return $1 * $unit{$2};
}


sub names {
    return grep { /^refund_/ } sort keys %command;
}


# nginx -t with these in a context.

sub tested {
    my ($context, @names) = @_;

    my %text = map { ($_ => []) } qw(http server notify request other);
    my %there;

    for my $name (@names) {
        my $where = $context eq 'location' ? place($name) : $context;

        push @{ $text{$where} }, written($name);
        $there{$where}{$name} = 1;
    }

    for my $place (keys %location) {
        push @{ $text{$place} }, map { written($_) }
                                 grep { !$there{$place}{$_} }
                                      @{ $location{$place} };
    }

    $nginx->{vars} = { %{ $nginx->{vars} },
                       map { ("IN_\U$_" => join ' ', @{ $text{$_} }) }
                           keys %text };

    return $nginx->config_test($nginx->{conf});
}


sub place {
    my ($name) = @_;

    return $name =~ /^refund_(notify|request)/ ? $1 : 'other';
}


sub written {
    my ($name) = @_;

    my $value = $example{$name} // $documented{$name}{default};

    die "$name needs a value: add it to \%example\n" if !defined $value;
    return "$name $value" . ($value =~ /\}$/ ? '' : ';');
}
