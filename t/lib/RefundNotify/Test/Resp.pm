package RefundNotify::Test::Resp;

# Redis' protocol, RESP2, for a client and for a peer.
#
#   resp_command(@words)           the bytes of a command
#   resp_parse($bytes, $position)  (value, position behind it), or () while it
#                                  is not whole: a string, an integer, undef
#                                  for nil, an array reference, or an error
#                                  (RefundNotify::Test::Resp::Error, a
#                                  reference to its text)

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(resp_command resp_parse);


sub resp_command {
    my (@words) = @_;

    return '*' . @words . "\r\n"
           . join '', map { '$' . length($_) . "\r\n$_\r\n" } @words;
}


sub resp_parse {
    my ($bytes, $position) = @_;

    my $end = index $bytes, "\r\n", $position;
    return () if $end < 0;

    my $type = substr $bytes, $position, 1;
    my $line = substr $bytes, $position + 1, $end - $position - 1;
    my $next = $end + 2;

    return ($line, $next) if $type eq '+';
    return ($line + 0, $next) if $type eq ':';

    if ($type eq '-') {
        return (bless(\$line, 'RefundNotify::Test::Resp::Error'), $next);
    }

    if ($type eq '$') {
        return (undef, $next) if $line < 0;
        return () if length $bytes < $next + $line + 2;
        return (substr($bytes, $next, $line), $next + $line + 2);
    }

    if ($type eq '*') {
        return (undef, $next) if $line < 0;

        my @values;

        for (1 .. $line) {
            my @parsed = resp_parse($bytes, $next) or return ();
            push @values, $parsed[0];
            $next = $parsed[1];
        }

        return (\@values, $next);
    }

    die "not RESP: $type$line\n";
}


1;
