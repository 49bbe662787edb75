package RefundNotify::Test::Hostile;

# Tables of hostile notifies, sent through an nginx one after the other.
#
#   judge($nginx, $app, @rows)     returns the CPU time of each, s
#   judge_growing($nginx, $app, $code, $bytes)
#                                  the rows that $code->($bytes) makes, and those
#                                  of a quarter of it, which have to be a good
#                                  part of the work: what grows with the square
#                                  of a text's length is found on any machine
#
# A row is [ name, notify, expected, fragment, ... ]: a notify of WeChatPay.pm's
# (or one with a version, headers and a body), what the log has to say of it,
# and what has to be in the JSON of a delivery.  What is expected:
#
#   'delivered'                 SUCCESS, and one delivery, of its event_id
#   'malformed: the reason'     FAIL, to the byte; result and reason as logged,
#                               and no delivery
#   [ malformed => qr/.../ ]    likewise, of any such reason
#
# It is one test a row; and one of each table that none of them kept the worker
# busy for long, and that it is the one that was there before.  The requests are to /notify?n=N; for
# this nginx.conf has log_format with '$arg_n|$refund_notify_result|
# $refund_notify_reason' to notify.log, and the app's URI ends in ?row=$arg_n.
#
#   edited($pay, $shop, $notify, $code)
#                               the notify with its body changed by $code, which
#                               gets it in $_, signed again (v3)

use strict;
use warnings;

use Exporter 'import';
use Test::Builder;

use RefundNotify::Test::Client;
use RefundNotify::Test::Process qw(cpu_time);
use RefundNotify::Test::Util qw(read_file);
use RefundNotify::Test::WeChatPay;

our @EXPORT_OK = qw(judge judge_growing edited);

my $test = Test::Builder->new;

# Of the 4 s in which a notify has to be answered, the seconds that a worker may
# work for one: it has others to serve.  How long one waits says nothing on a
# machine that has other things to do.

my $LIMIT = $ENV{REFUND_NOTIFY_SANITIZE} ? 5 : 1;
my $n = 0;


sub judge {
    my ($nginx, $app, @rows) = @_;

    my $client = RefundNotify::Test::Client->new(port => $nginx->port);
    my $pay = RefundNotify::Test::WeChatPay->new;
    my @workers = $nginx->workers;
    my ($first, $connection, @responses, @times) = ($n + 1);
    my $worked = cpu_time($workers[0]);

    $app->forget;

    for my $row (@rows) {
        my $notify = $row->[1];

        $connection //= $client->connect;

        my $response = $connection->request('POST', '/notify?n=' . ++$n,
                                            @$notify{qw(headers body)});

        if ($response->{error}
            || ($response->{headers}{connection} // '') eq 'close')
        {
            $connection->close;
            undef $connection;
        }

        push @responses, $response;

        my $now = cpu_time($workers[0]);

        push @times, $now - $worked;
        $worked = $now;
    }

    $connection->close if $connection;
    $nginx->wait_for_log('notify.log', qr/^$n\|/m);

    my %logged = read_file($nginx->path('notify.log')) =~ /^(\d+)\|(.*)$/mg;
    my %delivered;

    for my $request ($app->requests) {
        my ($of) = $request->{path} =~ /\?row=(\d+)$/;
        push @{ $delivered{$of} }, $request;
    }

    for my $i (0 .. $#rows) {
        my ($name, $notify, $expected, @fragments) = @{ $rows[$i] };
        my ($result, $reason) = ref $expected ? @$expected
                                              : split /: /, $expected, 2;
        my @requests = @{ delete $delivered{ $first + $i } || [] };
        my $success = $result eq 'delivered';
        my ($is, $why) = split /\|/, $logged{ $first + $i } // '', 2;

        # a pattern, and what matches it, are the same here

        $why = $reason if ref $reason && ($why // '') =~ $reason;

        $test->is_eq(
            join("\n", $pay->answer($notify, $responses[$i]), $is // '',
                 $why // '', map { $_->{id} } @requests),
            join("\n", $success ? ('SUCCESS', $result, '',
                                   $notify->{event_id})
                                : ($result, $result, $reason)), $name);

        my $body = $requests[0]{body} // '';

        $test->is_eq(join(' ', grep { index($body, $_) < 0 } @fragments), '',
                     "$name: the JSON has it")
            or $test->diag("it is $body") if @fragments;
    }

    $test->is_eq(join(' ', %delivered), '', 'nothing else was delivered');
    $test->is_eq(named(\@rows, grep { $times[$_] > $LIMIT } 0 .. $#rows), '',
                 'none was long work');
    $test->is_eq(join(' ', $nginx->workers), "@workers",
                 'by the worker that was there before');
    return @times;
}


sub judge_growing {
    my ($nginx, $app, $code, $bytes) = @_;

    my @rows = $code->(int $bytes / 4);
    my @quarter = judge($nginx, $app, @rows);
    my @whole = judge($nginx, $app, $code->($bytes));

    # four times, or sixteen; the clock tells hundredths, so what is over at
    # once is let pass

    $test->is_eq(named(\@rows, grep { $whole[$_] > 8 * $quarter[$_]
                                                    + $LIMIT / 10 } 0 .. $#rows),
                 '', 'of four times the text, no more than eight times the work')
        or $test->diag("s of work: @quarter, @whole");
    return;
}


sub named {
    my ($rows, @n) = @_;

    return join ', ', map { $rows->[$_][0] } @n;
}


sub edited {
    my ($pay, $shop, $notify, $code) = @_;

    my $body = $notify->{body};

    $code->() for $body;

    return $pay->resend($shop, { %$notify, body => $body });
}


1;
