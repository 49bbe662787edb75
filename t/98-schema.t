#!/usr/bin/perl

# conf/refund-notify.schema.json: it takes the documented events and whatever
# else the module delivers (which every test proves of what its business apps
# received), and refuses an event in which one member is not as documented.

use lib 't/lib';
use utf8;
use RefundNotify::Test;
use RefundNotify::Test::Schema qw(event_errors);
use RefundNotify::Test::Util qw(read_file);

use JSON::XS ();

my $json = JSON::XS->new->utf8->canonical;
my $ascii = JSON::XS->new->ascii;

# the documentation's own

my %event;

for my $name (glob 'docs/business-app*.md') {
    for (read_file($name) =~ /^```json\n(\{ "type".*?)^```/msg) {
        my $event = $json->decode($_);
        $event{ $event->{api_version} } = $event;
    }
}

is(join(' ', sort keys %event), 'v2 v3', 'the documentation shows both');

my $sub = { sub_mch_id => '1900000110', sub_app_id => 'wx8888888888888889' };

# What is done to which event, member by member ("a.b": b of a; undef leaves
# it out), and which member the schema has to complain of (none: it has to take
# it).

my @rows = (
    [ v2 => {}, undef, 'as documented' ],
    [ v3 => {}, undef, 'as documented' ],
    [ v2 => { 'data.extra' => undef }, undef, 'without extra' ],
    [ v2 => { map { ("data.$_" => $sub->{$_}) } keys %$sub }, undef,
      'a service provider' ],
    [ v2 => { 'data.success_time' => undef }, undef, 'without a time' ],
    [ v2 => closed('') => undef, 'closed' ],
    [ v3 => closed('') => undef, 'closed' ],
    [ v2 => abnormal('') => undef, 'abnormal' ],
    [ v3 => abnormal(':EV-2018022511223320873') => undef, 'abnormal' ],
    [ v3 => { 'data.extra' => { amount => { x => [ undef, 1.5 ] } } }, undef,
      'anything in extra' ],
    [ v3 => { 'data.amount.settlement_refund' => 0,
              'data.amount.currency' => 'CNY' }, undef, 'all amounts' ],
    [ v3 => { timestamp => '2018-06-08T02:34:56.123Z' }, undef,
      'a fraction and another zone' ],
    [ v2 => { 'data.amount.total' => undef }, undef,
      'the answer to a query may have no total' ],

    # each that has to be there

    (map { my $name = $_;
           map { [ $_ => { $name => undef }, parent($name), "no $name" ] }
               qw(v2 v3) }
         qw(type timestamp id provider api_version merchant data
            data.mch_id data.transaction_id data.out_trade_no data.refund_id
            data.out_refund_no data.status data.amount data.amount.refund)),
    [ v3 => { 'data.amount.total' => undef }, 'data.amount', 'no total' ],

    # what nobody sends

    (map { my $name = $_;
           map { [ $_ => { $name => 1 }, parent($name), "$name" ] }
               qw(v2 v3) }
         qw(unknown data.unknown data.amount.unknown data.channel
            data.create_time)),

    # and what the other version sends: jsonschema of Debian 12 names the
    # member, that of Debian 13 the object that it is in

    [ v3 => { 'data.request_source' => 'API' }, qr/^data(?:\.request_source)?$/,
      'a member of v2' ],
    (map { [ v2 => { "data.amount.$_" => 1 }, qr/^data\.amount(?:\.$_)?$/,
             "$_, a member of v3" ] } qw(payer_total payer_refund)),
    [ v2 => { 'data.amount.currency' => 'CNY' },
      qr/^data\.amount(?:\.currency)?$/, 'v2 says fee_type' ],

    # null is never sent, nor is anything of another type

    (map { my $name = $_;
           map { [ v3 => { $name => $_ }, $name, "$name of another type" ] }
               \undef, [ 1 ], {} }
         qw(type timestamp id provider api_version merchant
            data.mch_id data.app_id data.sub_mch_id data.sub_app_id
            data.transaction_id data.out_trade_no data.refund_id
            data.out_refund_no data.status data.success_time
            data.user_received_account data.funds_account data.amount.total
            data.amount.refund data.amount.payer_total
            data.amount.payer_refund data.amount.settlement_total
            data.amount.settlement_refund data.amount.currency)),
    [ v3 => { data => 'x' }, 'data', 'data is an object' ],
    [ v3 => { 'data.amount' => 1 }, 'data.amount', 'amount is an object' ],
    [ v3 => { 'data.extra' => [] }, 'data.extra', 'extra is an object' ],
    [ v3 => { 'data.extra' => {} }, 'data.extra', 'extra is not empty' ],
    [ v2 => { 'data.extra' => { cash_refund_fee => 3960 } },
      'data.extra.cash_refund_fee', 'v2 has strings' ],

    # money

    (map { my $name = $_;
           map { [ v3 => { "data.amount.$name" => $_ }, "data.amount.$name",
                   "$name $_" ] } -1, 0.5, '999', 9007199254740992 }
         qw(total refund payer_total payer_refund settlement_total
            settlement_refund)),

    # words and forms

    (map { my ($name, @wrong) = @$_;
           map { [ v3 => { $name => $_ }, $name,
                   "$name " . $ascii->encode([ $_ ]) ] } @wrong }
         [ 'type', 'refund.success', 'refund.processing', '' ],
         [ 'provider', 'alipay' ],
         [ 'api_version', 'v1', 3 ],
         [ 'merchant', '', 'a b', 'x' x 65 ],
         [ 'timestamp', '2018-06-08 10:34:56', '2018-06-08T10:34:56',
           '2018-13-08T10:34:56Z', '2018-06-32T10:34:56Z',
           '2018-06-08T24:34:56Z', '2018-06-08T10:34:56.Z', 1528425296 ],
         [ 'data.success_time', '2018-06-08 10:34:56', '' ],
         [ 'data.mch_id', '', '19000001x', '1' x 33 ],
         [ 'data.sub_mch_id', '', 'x', '1' x 33 ],
         [ 'data.app_id', '', 'wx 1', 'w' x 33 ],
         [ 'data.sub_app_id', '', 'wx 1', 'w' x 65 ],
         [ 'data.refund_id', '', '1/2', '1' x 65 ],
         [ 'data.transaction_id', '', "\x{e9}", '1' x 65 ],
         [ 'data.out_trade_no', '', "a\nb", '1' x 65 ],
         [ 'data.out_refund_no', '', "\x{4e2d}", '1' x 65 ],
         [ 'data.user_received_account', '', 'x' x 1025 ],
         [ 'data.funds_account', '' ],
         [ 'data.amount.currency', '' ]),

    # v2's times are Beijing's

    (map { [ v2 => { $_ => '2018-11-19T16:24:13Z' }, $_, "$_ in UTC" ] }
         qw(timestamp data.success_time)),

    # status, type and id say the same

    [ v3 => { type => 'refund.closed' }, qr/^(?:id|data\.status)$/,
      'another type' ],
    [ v3 => { 'data.status' => 'CLOSED' }, 'data.status', 'another status' ],
    [ v3 => { 'data.status' => 'PROCESSING' }, 'data.status',
      'a status of no notify' ],
    [ v2 => { 'data.status' => 'REFUNDCLOSE' }, 'data.status',
      'a word of v2' ],
    (map { [ v3 => { id => $_ }, 'id', "the id $_" ] }
         'wechatpay:1900000109:5020:CLOSED', 'wechatpay:1900000109:SUCCESS',
         'wechatpay:1900000109:5020:SUCCESS:EV-1', 'wechatpay::5020:SUCCESS',
         'alipay:1900000109:5020:SUCCESS', 'wechatpay:1900000109::SUCCESS',
         'wechatpay:1900000109:5020:success'),
    [ v3 => abnormal('') => 'id', 'v3 tells apart what became abnormal' ],
    [ v2 => abnormal(':EV-1') => 'id', 'v2 cannot' ],
);

my $errors = event_errors(map { $json->encode(changed(@$_)) } @rows);

for my $n (0 .. $#rows) {
    my ($version, undef, $path, $name) = @{ $rows[$n] };
    my ($where) = split / /, $errors->{$n} // 'nowhere';

    $path = 'nowhere' if !defined $path;
    ref $path ? like($where, $path, "$version: $name")
              : is($where, $path, "$version: $name");
}

# no JSON, and JSON that two readers may read in two ways

my @texts = ('', '{', '[]', 'null', '"x"', "\xff",
             $json->encode($event{v3}) =~ s/\{/{"type":"refund.closed",/r);

is(keys %{ event_errors(@texts) }, @texts, 'no event at all');

done_testing;


sub parent {
    my ($name) = @_;

    return $name =~ /^(.*)\.\w+$/ ? $1 : '.';
}


sub closed {
    my ($end) = @_;

    return { type => 'refund.closed', 'data.status' => 'CLOSED',
             'data.success_time' => undef,
             id => "wechatpay:1900000109:5020:CLOSED$end" };
}


sub abnormal {
    my ($end) = @_;

    return { type => 'refund.abnormal', 'data.status' => 'ABNORMAL',
             'data.success_time' => undef,
             id => "wechatpay:1900000109:5020:ABNORMAL$end" };
}


sub changed {
    my ($version, $changes) = @_;

    my $event = $json->decode($json->encode($event{$version}));

    for my $path (sort keys %$changes) {
        my @names = split /\./, $path;
        my $last = pop @names;
        my $at = $event;
        my $value = $changes->{$path};

        $at = $at->{$_} for @names;

        if (!defined $value) {
            delete $at->{$last};
        } else {
            $at->{$last} = ref $value eq 'SCALAR' ? undef : $value;
        }
    }

    return $event;
}
