package RefundNotify::Test::NameServer;

# A scripted name server on a UDP port of 127.0.0.1, in a process of its own.
#
#   $dns = RefundNotify::Test::NameServer->new
#   $dns->port
#   $dns->answer($name => [ $ipv4, ... ])    from the next question on; an
#                                  empty list: the name has no address
#   $dns->answer($name => $how)    NXDOMAIN, SERVFAIL, garbage, or silence
#   $dns->questions($name)         how often it was asked for
#
# A name that it was told nothing of is not found; all answers have a time to
# live of 0.

use strict;
use warnings;

use IO::Socket::INET;
use JSON::XS ();
use POSIX ();

use RefundNotify::Test::Util qw(scratch_dir read_file write_file adopt);

my %codes = (SERVFAIL => 2, NXDOMAIN => 3);
my $count = 0;


sub new {
    my ($class) = @_;

    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                       Proto => 'udp') or die "udp: $!\n";
    my $self = bless { port => $socket->sockport, names => {},
                       file => scratch_dir() . '/names-' . ++$count },
                     $class;

    $self->_write;

    my $pid = fork // die "fork: $!\n";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM);
        $self->_serve($socket);
        POSIX::_exit(0);
    }

    adopt($pid);

    return $self;
}


sub port { return $_[0]{port} }


sub questions {
    my ($self, $name) = @_;

    return scalar grep { $_ eq $name } split /\n/,
                                       read_file("$self->{file}.log");
}


sub answer {
    my ($self, $name, $how) = @_;

    $self->{names}{$name} = $how;
    $self->_write;
    return;
}


sub _write {
    my ($self) = @_;

    write_file("$self->{file}.new", JSON::XS::encode_json($self->{names}));
    rename "$self->{file}.new", $self->{file} or die "$self->{file}: $!\n";
    return;
}


sub _serve {
    my ($self, $socket) = @_;

    open my $log, '>>', "$self->{file}.log" or return;

    while (defined $socket->recv(my $query, 512)) {
        my ($id, undef, $n) = unpack 'n3', $query;
        my @labels;

        # the first question: labels, then type and class

        my ($offset, $length) = 12;

        while ($length = ord substr $query, $offset, 1) {
            push @labels, substr $query, $offset + 1, $length;
            $offset += $length + 1;
        }

        my $question = substr $query, 12, $offset + 5 - 12;
        my $names = JSON::XS::decode_json(read_file($self->{file}));
        my $name = lc join '.', @labels;
        my $how = $names->{$name} // 'NXDOMAIN';

        syswrite $log, "$name\n";
        next if $how eq 'silence';

        my @addresses = ref $how ? @$how : ();
        my $reply = pack('n6', $id, 0x8180 | ($codes{$how} // 0), 1,
                         scalar @addresses, 0, 0) . $question
                    . join '', map { pack 'n3Nna4', 0xc00c, 1, 1, 0, 4,
                                     pack 'C4', split /\./ } @addresses;

        $reply = substr($reply, 0, 2) . "\xff" x 20 if $how eq 'garbage';
        $socket->send($reply);
    }

    return;
}


1;
