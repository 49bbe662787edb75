package RefundNotify::Bench::Merchants;

# What the lookup of a merchant costs, in instructions, for it is far less than
# the noise of time.
#
#   more_merchants($count)         refund_merchant blocks of that many more,
#                                  without keys that are long to read
#   fresh_counts($nginx, $port, $out)
#                                  the instructions of a fresh notify that names
#                                  its merchant by a variable: a hash by v2, v3.
#                                  $nginx runs under callgrind, which writes to
#                                  $out.1, $out.2 ...
#   MERCHANTS_FLAT                 what they may be with 1000 of them, over one

use strict;
use warnings;

use Exporter 'import';

use RefundNotify::Bench::Callgrind qw(read_counts write_counts);
use RefundNotify::Bench::Measure qw(bench_dir requests send_all);
use RefundNotify::Test::Client ();

use constant { WARM_UP => 10, REQUESTS => 50, MERCHANTS_FLAT => 1.02 };

our @EXPORT_OK = qw(more_merchants fresh_counts MERCHANTS_FLAT);


sub more_merchants {
    my ($count) = @_;

    my $keys = bench_dir() . '/keys';

    return join '', map {
        my $merchant = sprintf 'shop%04d', $_;
        my $mch_id = 1900001000 + $_;
        <<"END";
    refund_merchant $merchant {
        mch_id          $mch_id;
        api_v2_key_file $keys/v2.key;
    }
END
    } 1 .. $count;
}


sub fresh_counts {
    my ($nginx, $port, $out) = @_;

    my $dumps = 0;
    my %counts;

    for my $kind ('v2', 'v3') {
        # v2 and v3 tell of the same refund under the same id

        my @requests = requests($kind, 1 + $dumps * 1000,
                                WARM_UP + REQUESTS);
        my $connection
            = RefundNotify::Test::Client->new(port => $port)->connect;
        my @measured = splice @requests, WARM_UP;

        for my $part (\@requests, \@measured) {
            my $answers = send_all($connection, $part);
            die "$kind: $answers\n" if $answers =~ /FAIL|^0 /;

            write_counts($nginx, $port, "$out." . ++$dumps);
        }

        my ($total) = read_counts("$out.$dumps");

        $counts{$kind} = $total / REQUESTS;
        $connection->close;
    }

    return %counts;
}


1;
