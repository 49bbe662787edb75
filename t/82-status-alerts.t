#!/usr/bin/perl

# conf/prometheus-alerts.yml and conf/grafana-dashboard.json: promtool takes the
# rules and runs their tests, which know each alert, firing and not yet; all
# that either file names is a metric of the module with labels that it has; and
# the pages list the alerts.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::XS ();

plan(skip_all => 'the files are the same under the sanitizers')
    if $ENV{REFUND_NOTIFY_SANITIZE};

my $root = abs_path(dirname(__FILE__) . '/..');
my $rules = "$root/conf/prometheus-alerts.yml";
my $tests = "$root/t/prometheus/alerts.test.yml";

for (["check rules $rules"], ["test rules $tests"]) {
    my $output = qx(promtool $_->[0] 2>&1);

    is($?, 0, 'promtool ' . $_->[0] =~ s{\Q$root\E/}{}r) or diag($output);
}


# Each alert has its tests

my @alerts = read_file($rules) =~ /^ +- alert: (\w+)$/mg;
my %tested;

for my $test (split /\bexp_alerts:/,
              read_file($tests) =~ s/exp_alerts: \[\]/exp_none/gr)
{
    my ($name) = $test =~ /.*alertname: (\w+)/s;

    $tested{$name}{fires} = 1 if $name;
}

$tested{$_}{quiet} = 1
    for read_file($tests) =~ /alertname:\ (\w+),?\s+exp_alerts:\ \[\]/xg;

cmp_ok(scalar @alerts, '>=', 9, 'there are alerts');
is_deeply([ grep { !$tested{$_}{fires} } @alerts ], [],
          'a test of each in which it fires');
is_deeply([ grep { !$tested{$_}{quiet} } @alerts ], [],
          'and of one in which it does not');


# What the module has: the metrics, and the labels of each

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 64;
}

http {
    %%HTTP%%

    %%MERCHANTS%%

    refund_store main redis://127.0.0.1:%%PORT_NOWHERE%%;

    server {
        listen 127.0.0.1:%%PORT%%;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_store main;
        }

        location /refunds {
            refund_request shop;
            refund_request_pass /internal/refunds;
        }

        location = /status {
            refund_status;
        }

        location /internal/refunds {
            internal;
            return 204;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(merchant_serial => '5157F09E');
my $nginx = nginx(with_merchants($conf, $shop));
my %metrics;

client($nginx)->request('POST', '/refunds', [], '{}');

for (split /\n/, client($nginx)->request('GET', '/status')->{body}) {
    next if !/^(refund_\w+)(?:\{(.*)\})? /;

    my ($name, $labels) = ($1, $2 // '');

    $metrics{$name}{$_} = 1 for 'job', 'instance', $labels =~ /(\w+)="/g;
}


# What a query asks for and has not: metrics, or labels in their braces

sub unknown {
    my ($query) = @_;

    my @unknown;

    while ($query =~ /\b(refund_\w+)(?:\{(.*?)\})?/g) {
        my ($name, $labels) = ($1, $2 // '');

        if (!$metrics{$name}) {
            push @unknown, $name;
            next;
        }

        push @unknown, map { "$name $_" } grep { !$metrics{$name}{$_} }
                           $labels =~ /(\w+)(?:=~|!~|!=|=)"/g;
    }

    return @unknown;
}

is_deeply([ unknown('rate(refund_nothing[5m]) + refund_store_up{shop="a"}') ],
          [ 'refund_nothing', 'refund_store_up shop' ],
          'what is unknown is found');

my @expressions = read_file($rules) =~ /^ +expr: (.*?)\n +(?:for|labels):/msg;

is(scalar @expressions, scalar @alerts, 'each alert has an expression');
is_deeply([ map { unknown($_) } @expressions ], [],
          'of what the module has');

my $dashboard = JSON::XS->new->utf8->decode(
                    read_file("$root/conf/grafana-dashboard.json"));
my @panels = @{ $dashboard->{panels} };

cmp_ok(scalar @panels, '>=', 15, 'the dashboard has panels');

for my $panel (@panels) {
    my @queries = map { $_->{expr} } @{ $panel->{targets} };

    ok(scalar @queries, "$panel->{title}: queries");
    is_deeply([ map { unknown($_) } @queries ], [],
              "$panel->{title}: of what the module has");
    is_deeply([ grep { $_->{datasource}{uid} ne '${datasource}' }
                     $panel, @{ $panel->{targets} } ], [],
              "$panel->{title}: from the data source that is chosen");
}

my %variables = map { $_->{name} => $_ } @{ $dashboard->{templating}{list} };

is(join(' ', sort keys %variables), 'datasource instance job merchant',
   'its variables');
is($variables{datasource}{type}, 'datasource', 'one is the data source');
is_deeply([ map { unknown($_->{definition} // '') } values %variables ], [],
          'the others are of what the module has');
is(scalar keys %{ { map { $_->{id} => 1 } @panels } }, scalar @panels,
   'each panel has a number of its own');

my $map = '';

for my $place (map { $_->{gridPos} } @panels) {
    for my $y ($place->{y} .. $place->{y} + $place->{h} - 1) {
        for my $x ($place->{x} .. $place->{x} + $place->{w} - 1) {
            vec($map, $y * 24 + $x, 8)++;
        }
    }
}

is(scalar(grep { $_ > 1 } unpack 'C*', $map), 0, 'and a place of its own');

# promtool parses them as rules, once what Grafana fills in is there

my $number = 0;
my $queries = join '', map { my $query = $_;
                             my $name = 'x' . ++$number;
                             $query =~ s/\$__rate_interval/5m/g;
                             $query =~ s/\$(?:job|instance|merchant)/.*/g;
                             "      - record: $name\n"
                             . "        expr: '$query'\n" }
                           map { map { $_->{expr} } @{ $_->{targets} } }
                               @panels;
my $file = $nginx->write_file('queries.yml', "groups:\n  - name: dashboard\n"
                                             . "    rules:\n$queries");
my $output = qx(promtool check rules $file 2>&1);

unlike($output, qr/parse error|could not parse/, 'Prometheus takes its queries')
    or diag($output);
like($output, qr/^\s+SUCCESS/m, 'all of them') or diag($output);


# The pages

for my $page ('docs/status.md', 'docs/status.zh-CN.md') {
    my @listed = read_file("$root/$page") =~ /`(Refund[A-Z]\w+)`/g;

    is_deeply([ sort @listed ], [ sort @alerts ],
              "$page: each alert, and no other");
}

done_testing;
