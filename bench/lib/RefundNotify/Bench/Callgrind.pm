package RefundNotify::Bench::Callgrind;

# What callgrind counted, read from a file of its format (see the chapter
# "Callgrind Format Specification" of valgrind's manual).
#
#   my ($total, \%self, \%inclusive) = read_counts($path, qr/object/)
#
# $total: the instructions of all objects.  Of the functions in the objects
# whose path matches, by "file.c function": their own instructions, and those
# of what they call too.  Without a pattern: of all objects, by
# "object function".
#
#   under_callgrind($out)          the option "under" of such an nginx
#   write_counts($nginx, $port, $path)
#                                  has it write what it has counted since the
#                                  last time: $out.1, $out.2, ...

use strict;
use warnings;

use Exporter 'import';

use RefundNotify::Test::Client ();
use RefundNotify::Test::Util qw(wait_until read_file);

our @EXPORT_OK = qw(read_counts under_callgrind write_counts);


sub under_callgrind {
    my ($out) = @_;

    return [ 'valgrind', '-q', '--tool=callgrind',
             "--callgrind-out-file=$out", '--dump-before=ngx_reopen_files' ];
}


# SIGUSR1 has nginx reopen its logs, at which callgrind writes.  A signal that
# comes just before nginx waits for events is seen with the next of them: a
# connection is one.

sub write_counts {
    my ($nginx, $port, $path) = @_;

    $nginx->signal('USR1');

    for (1 .. 30) {
        return $path
            if wait_until(sub { read_file($path) =~ /^totals:/m }, 2);

        RefundNotify::Test::Client->new(port => $port)->connect->close;
    }

    die "callgrind writes nothing\n";
}


sub read_counts {
    my ($path, $wanted) = @_;

    my (%names, %self, %inclusive, $object, $file, $key, $called);
    my $total = 0;

    open my $dump, '<', $path or die "$path: $!\n";

    while (<$dump>) {
        if (/^(c?)(ob|fl|fi|fe|fn)=(?:\((\d+)\))? ?(.*)$/) {
            my ($of_call, $kind, $id, $name) = ($1, $2, $3, $4);

            # a name is written out the first time only; what is inlined (fi,
            # fe) shares the numbers of files

            my $space = $kind =~ /^f[lie]$/ ? 'fl' : $kind;
            $names{$space}{$id} = $name if defined $id && length $name;
            $name = $names{$space}{$id} if defined $id;

            next if $of_call;

            $object = $name if $kind eq 'ob';
            $file = $name if $kind eq 'fl';

            if ($kind eq 'fn') {
                $key = name_of($object, $file, $name, $wanted);
            }

        } elsif (/^c(?:fi|fl)=(?:\((\d+)\))? ?(.*)$/) {
            $names{fl}{$1} = $2 if defined $1 && length $2;

        } elsif (/^calls=/) {
            $called = 1;

        } elsif (/^[+*\-\d]\S* (\d+)$/) {
            if ($called) {
                $inclusive{$key} += $1 if defined $key;
                $called = 0;

            } else {
                $total += $1;

                if (defined $key) {
                    $self{$key} += $1;
                    $inclusive{$key} += $1;
                }
            }
        }
    }

    return ($total, \%self, \%inclusive);
}


# What the compiler made several of is one function.

sub name_of {
    my ($object, $file, $name, $wanted) = @_;

    return if $wanted && $object !~ $wanted;

    $name =~ s/'\d+$//;
    $name =~ s/\.(?:part|isra|constprop|cold|lto_priv)\b.*//;

    my $place = $wanted ? $file : $object;
    $place =~ s{^.*/}{};

    return "$place $name";
}


1;
