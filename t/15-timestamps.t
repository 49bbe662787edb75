#!/usr/bin/perl

# When a notify is what it was when it was signed: timestamps at the edges of
# the window and out of it, replays, what was signed put together anew.  And
# what follows on a refund, in whatever order it comes: each event once, and a
# thousand of one at once on 16 workers.

use lib 't/lib';
use RefundNotify::Test;

use JSON::XS qw(decode_json);
use RefundNotify::Test::Util qw(read_file);
use Time::HiRes ();

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes %%WORKERS%%;

events {
    worker_connections 1536;
}

http {
    %%HTTP%%

    log_format notify escape=none '$refund_notify_result'
                                  '|$refund_notify_reason';
    log_format workers '$pid';

    access_log %%DIR%%/notify.log notify;
    access_log %%DIR%%/workers.log workers;

    %%MERCHANTS%%

    large_client_header_buffers 4 32k;

    # a thousand at once are no reason for another answer on a busy machine

    refund_store main %%STORE%%;
    refund_notify_store main;
    refund_notify_deadline 30s;
    refund_notify_lease 15s;

    server {
        listen 127.0.0.1:%%PORT%% backlog=2048 %%LISTEN%%;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_clock_skew 300s;
        }

        # the same target and store

        location = /short {
            refund_notify shop;
            refund_notify_pass /internal/refunds;
            refund_notify_clock_skew 60s;
        }

        location = /internal/refunds {
            internal;
            access_log off;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $shop = $pay->merchant(
    public_key_id => [ 'PUB_KEY_ID_0114232134912410000000000000',
                       'PUB_KEY_ID_0114232134912410000000000001' ]);
my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port, WORKERS => 1, LISTEN => '',
                            STORE => 'shm:10m' });
my $client = client($nginx);
my ($worker) = $nginx->workers;

my $STALE = 'Wechatpay-Timestamp is outside of the window';
my $NUMBER = 'Wechatpay-Timestamp is empty, too long or not a number';
my $WRONG = 'Wechatpay-Signature is wrong';


# Sends it, and compares the answer, the log and what came to the app with the
# result: delivered, duplicate, or another and its reason.

sub sends {
    my ($name, $path, $notify, $result, $reason) = @_;

    my $response = $client->post($path, $notify);

    is($pay->answer($notify, $response),
       $result =~ /^(?:delivered|duplicate)$/ ? 'SUCCESS' : $result, $name);
    is(join("\n", $nginx->log_lines('notify.log', 1)),
       "$result|" . ($reason // ''), "$name: the log");

    my @requests = $app->requests;

    $app->forget;
    is(join(' ', map { $_->{id} } @requests),
       $result eq 'delivered' ? $notify->{event_id} : '',
       "$name: the deliveries");
    return $requests[0];
}


# A notify signed at $seconds from now, and sent within the same second, so that
# nginx' clock says the same: it is made anew until that was so, which a machine
# that takes a second for each will not see.  perl's own time() lags behind the
# clock that nginx reads.

sub edge {
    my ($path, $seconds, $result, $reason) = @_;

    my $name = "$path, $seconds s from now";
    my ($now, $answer, $notify);
    my $tries = 0;

    do {
        $tries++ < 50 or return fail("$name: it takes a second, each time");

        $nginx->log_lines('notify.log', 1) if $notify;
        $app->forget;

        $now = int Time::HiRes::time();
        $notify = $pay->v3_notify($shop, -timestamp => $now + $seconds);
        $answer = $pay->answer($notify, $client->post($path, $notify));
    } while (int Time::HiRes::time() != $now);

    is($answer, $result eq 'delivered' ? 'SUCCESS' : $result, $name);
    is(join("\n", $nginx->log_lines('notify.log', 1)),
       "$result|" . ($reason // ''), "$name: the log");
    is(scalar(() = $app->requests), $result eq 'delivered' ? 1 : 0,
       "$name: the deliveries");
    $app->forget;
    return;
}


# timestamps

for ([ '/notify', 300 ], [ '/short', 60 ]) {
    my ($path, $skew) = @$_;

    edge($path, $_ * $skew, 'delivered') for -1, 0, 1;
    edge($path, $_ * ($skew + 1), unverified => $STALE) for -1, 1;
}

my @timestamps = (
    [ "zero", '0', unverified => $STALE ],
    [ "before the epoch", '-1', malformed => $NUMBER ],
    [ "minus now", '-' . time, malformed => $NUMBER ],
    [ "plus now", '+' . time, malformed => $NUMBER ],
    [ "zeros before", '00' . time, 'delivered' ],
    [ "more zeros before", '000' . time, malformed => $NUMBER ],
    [ "a space in it", time =~ s/^(.....)/$1 /r, malformed => $NUMBER ],
    [ "a fraction", time . '.0', malformed => $NUMBER ],
    [ "a fraction behind a comma", time . ',0', malformed => $NUMBER ],
    [ "an exponent", '1.8e9', malformed => $NUMBER ],
    [ "hexadecimal", sprintf('0x%x', time), malformed => $NUMBER ],
    [ "hexadecimal without 0x", sprintf('%x', time + 0xa0000000),
      malformed => $NUMBER ],
    [ "octal", sprintf('%o', time), unverified => $STALE ],
    [ "milliseconds", time . '000', malformed => $NUMBER ],
    [ "a date", '2018-06-08T1', malformed => $NUMBER ],
    [ "NaN", 'NaN', malformed => $NUMBER ],
    [ "full-width digits", "\xef\xbc\x91" x 4, malformed => $NUMBER ],
    [ "10^10", '10000000000', unverified => $STALE ],
    [ "10^12 - 1", '9' x 12, unverified => $STALE ],
    [ "10^12", '1' . '0' x 12, malformed => $NUMBER ],
    [ "2^31 - 1", '2147483647', unverified => $STALE ],
    [ "2^31", '2147483648', unverified => $STALE ],
    [ "2^32", '4294967296', unverified => $STALE ],
    [ "2^32 and now", 2 ** 32 + time, unverified => $STALE ],
    [ "2^63", '9223372036854775808', malformed => $NUMBER ],
    [ "2^64", '18446744073709551616', malformed => $NUMBER ],
    [ "10 KB of digits", '1' x 10240, malformed => $NUMBER ],
    [ "10 KB of zeros, and now", '0' x 10240 . time, malformed => $NUMBER ],
);

for (@timestamps) {
    my ($name, $timestamp, @result) = @$_;

    sends("timestamp: $name", '/notify',
          $pay->v3_notify($shop, -timestamp => $timestamp), @result);
}


# Replays: every byte as it was, within the window and out of it, which is what
# /short has of what is older than 60 s.

my @replays = (
    [ 'as it was', [], 'duplicate' ],
    [ 'as it was, again', [], 'duplicate' ],
    [ 'with other headers, which are not signed',
      [ 'User-Agent' => 'curl', 'X-Forwarded-For' => '175.24.214.208',
        Cookie => 'a=b', traceparent => '00-x-y-01',
        'Content-Type' => 'text/plain' ], 'duplicate' ],
    [ 'without the type of its signature',
      [ 'Wechatpay-Signature-Type' => undef ], 'duplicate' ],
    [ 'at another time', [ 'Wechatpay-Timestamp' => time - 1 ],
      unverified => $WRONG ],
    [ 'with another nonce', [ 'Wechatpay-Nonce' => 'x' x 32 ],
      unverified => $WRONG ],
    [ 'under another of the keys',
      [ 'Wechatpay-Serial' => $shop->{public_key_id}[1] ],
      unverified => $WRONG ],
    [ 'with the nonce in the timestamp\'s place',
      [ 'Wechatpay-Timestamp' => 'x' x 8, 'Wechatpay-Nonce' => time ],
      malformed => $NUMBER ],
);

my $first = $pay->v3_notify($shop, -timestamp => time - 200);
my $other = $pay->v3_notify($shop, -timestamp => time - 200);

sends('a first', '/notify', $first, 'delivered');

for (@replays) {
    my ($name, $headers, @result) = @$_;

    sends("replayed $name", '/notify',
          { %$first, headers => RefundNotify::Test::WeChatPay::kept(
                         $first->{headers}, $headers) }, @result);
    sends("replayed late, $name", '/short',
          { %$first, headers => RefundNotify::Test::WeChatPay::kept(
                         $first->{headers}, $headers) },
          $result[0] eq 'duplicate' || $name =~ /nonce$|keys$/
          ? (unverified => $STALE) : @result);
}

my @mixed = (
    [ 'the body of one, the headers of another', $other->{headers},
      $first->{body} ],
    [ 'the headers of one, the body of another', $first->{headers},
      $other->{body} ],
    [ 'a space after the body', $other->{headers}, "$other->{body} " ],
    [ 'a line feed after the body', $other->{headers}, "$other->{body}\n" ],
    [ 'a space before the body', $other->{headers}, " $other->{body}" ],
    [ 'a letter of another case', $other->{headers},
      $other->{body} =~ s/"id"/"iD"/r ],
    [ 'a body and another', $other->{headers},
      "$other->{body}$first->{body}" ],
    [ 'a body written otherwise', $other->{headers},
      $other->{body} =~ s/":"/": "/r ],
);

for (@mixed) {
    my ($name, $headers, $body) = @$_;

    sends($name, '/notify', { %$other, headers => $headers, body => $body },
          unverified => $WRONG);
}

# The line feed of what is signed, moved: from before the body into it, and the
# body's first line into the nonce.

{
    my $notify = $pay->v3_notify($shop);
    my $body = "{}\n$notify->{body}";
    my $signed = $pay->resend($shop, { %$notify, body => $body },
                              -nonce => 'n');

    sends('the body without its first line', '/notify',
          { %$signed, body => $notify->{body} }, unverified => $WRONG);
    sends('the first line of the body in the nonce', '/notify',
          { %$signed, body => $notify->{body},
            headers => RefundNotify::Test::WeChatPay::kept(
                $signed->{headers}, [ 'Wechatpay-Nonce' => 'n {}' ]) },
          unverified => $WRONG);
}

sends('the other, untouched', '/notify', $other, 'delivered');


# What follows on a refund, in each order: an event of its own each, once, with
# what it says.

my @orders = ([ qw(SUCCESS ABNORMAL CLOSED) ], [ qw(SUCCESS CLOSED ABNORMAL) ],
              [ qw(ABNORMAL SUCCESS CLOSED) ], [ qw(ABNORMAL CLOSED SUCCESS) ],
              [ qw(CLOSED SUCCESS ABNORMAL) ], [ qw(CLOSED ABNORMAL SUCCESS) ]);

for my $version (qw(v2 v3)) {
    for my $order (@orders) {
        my $make = "${version}_notify";
        my $name = "$version, @$order";
        my $refund_id = $pay->v2_notify($shop)->{refund_id};
        my @events = map { $pay->$make($shop, -status => $_,
                                       refund_id => $refund_id) } @$order;

        for (@events) {
            my $request = sends("$name: $_->{status}", '/notify', $_,
                                'delivered');
            my $body = decode_json($request->{body} // '{}');

            is("$body->{data}{status} $body->{data}{refund_id}",
               "$_->{status} $refund_id", "$name: what $_->{status} says");
        }

        sends("$name: $_->{status} again", '/notify',
              $pay->resend($shop, $_), 'duplicate') for @events;
    }
}

# The same refund again, under another notification's id: it has happened once.
# But it can become abnormal twice, and then the id tells.

my $refund_id = $pay->v2_notify($shop)->{refund_id};
my @again = (
    [ 'a SUCCESS', 'SUCCESS', 'EV-1', 999, 'delivered' ],
    [ 'SUCCESS under another id', 'SUCCESS', 'EV-2', 999, 'duplicate' ],
    [ 'SUCCESS of another amount', 'SUCCESS', 'EV-3', 1, 'duplicate' ],
    [ 'SUCCESS of more than the order', 'SUCCESS', 'EV-3', 1000,
      'duplicate' ],
    [ 'an ABNORMAL', 'ABNORMAL', 'EV-4', 999, 'delivered' ],
    [ 'ABNORMAL under another id', 'ABNORMAL', 'EV-5', 999, 'delivered' ],
    [ 'ABNORMAL under the first id', 'ABNORMAL', 'EV-4', 999, 'duplicate' ],
    [ 'a CLOSED under the id of SUCCESS', 'CLOSED', 'EV-1', 999,
      'delivered' ],
);

for (@again) {
    my ($name, $status, $id, $refund, $result) = @$_;

    sends("of one refund, $name", '/notify',
          $pay->v3_notify($shop, -status => $status, refund_id => $refund_id,
                          -outer => { id => $id },
                          amount => { total => 999, refund => $refund,
                                      payer_total => 999,
                                      payer_refund => $refund }), $result);
}

# an order that is refunded in fifty parts, each told twice

my @parts = map {
    my %order = (transaction_id => '4200001', out_trade_no => 'order');

    $_ % 2 ? $pay->v2_notify($shop, %order, total_fee => 50, refund_fee => 1)
           : $pay->v3_notify($shop, %order,
                             amount => { total => 50, refund => 1,
                                         payer_total => 50,
                                         payer_refund => 1 })
} 1 .. 50;

for my $name ('told', 'told again') {
    my @responses = $client->parallel([ map {
        [ 'POST', '/notify', $_->{headers}, $_->{body} ] } @parts ]);

    is(scalar(grep { $pay->answer($parts[$_], $responses[$_]) eq 'SUCCESS' }
                   0 .. 49), 50, "fifty parts $name");
}

my @events = map { decode_json($_->{body}) } $app->requests;
my $sum = 0;

$sum += $_->{data}{amount}{refund} for @events;
is(join(' ', sort map { $_->{id} } @events),
   join(' ', sort map { $_->{event_id} } @parts),
   'fifty parts: each delivered once');
is($sum, 50, 'fifty parts: all of the order');
is(join(' ', $nginx->workers), $worker, 'by one worker, all the time');


# A thousand of one at once on 16 workers, while the app takes its time; where
# one mutex decides which of them delivers it, and where Redis does.

my $redis = redis();

for ([ shm => 'shm:10m' ],
     [ Redis => $redis->url . ' timeout=3s cache=off' ])
{
    my ($name, $store) = ("a thousand at once, $_->[0]", $_->[1]);
    my $crowd = nginx(with_merchants($conf, $shop),
                      vars => { APP => $app->port, WORKERS => 16,
                                LISTEN => 'reuseport', STORE => $store });
    my $pids = join ' ', sort $crowd->workers;
    my $notify = $pay->v3_notify($shop);

    $app->forget;
    $app->rules({ delay => slow(0.5) });

    my @responses = client($crowd)->parallel([
        ([ 'POST', '/notify', $notify->{headers}, $notify->{body} ]) x 1000 ],
        timeout => 60);
    my %answers = (SUCCESS => 0, in_flight => 0);

    $answers{ $pay->answer($notify, $_) }++ for @responses;

    is(join(' ', sort keys %answers), 'SUCCESS in_flight',
       "$name: the answers");
    cmp_ok($answers{SUCCESS}, '>=', 1, "$name: SUCCESS");
    cmp_ok($answers{in_flight}, '>=', 1, "$name: some while it was delivered");
    is($answers{SUCCESS} + $answers{in_flight}, 1000,
       "$name: all are answered");
    is(join(' ', map { $_->{id} } $app->requests), $notify->{event_id},
       "$name: delivered once");
    $app->rules;
    is($pay->answer($notify, client($crowd)->post('/notify', $notify)),
       'SUCCESS', "$name: told again");
    is(scalar(() = $app->requests), 1, "$name: and not delivered again");

    my @lines = $crowd->log_lines('notify.log', 1001);

    is(scalar @lines, 1001, "$name: each is in the log");
    is(scalar(grep { $_ eq 'delivered|' } @lines), 1,
       "$name: one delivered it");

    my %took = map { $_ => 1 } split /\n/,
                                     read_file($crowd->path('workers.log'));

    # which of them the kernel gives the connections to is its own matter

    cmp_ok(scalar keys %took, '>=', 2, "$name: several workers had one");
    is(join(' ', sort $crowd->workers), $pids,
       "$name: by the workers of the beginning");

    no_secrets($crowd, $pay->secrets($shop));
    $crowd->stop;
}

no_secrets($nginx, $pay->secrets($shop));

done_testing;
