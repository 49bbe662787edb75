package RefundNotify::Test::Redis;

# A real redis-server, or what the environment's REDIS_SERVER names (e.g.
# valkey-server), in a directory of its own.
#
#   $redis = RefundNotify::Test::Redis->new(
#       unix => 1,                 on a unix socket instead of a port
#       address => $ipv4,          instead of 127.0.0.1
#       port => $port,             instead of a free one
#       password => $text,         requirepass
#       tls => { cert => $path, key => $path, ca => $path,
#                clients => 1 }    a port with TLS beside the other; clients:
#                                  theirs must be of the ca, too
#       config => [ line, ... ],   more lines for redis.conf (ACL users, ...)
#       arguments => [ ... ])      after its name on the command line
#
#   $redis->port, $redis->tls_port, $redis->socket     where it is
#   $redis->url                    redis://127.0.0.1:PORT or redis://unix:PATH
#   $redis->command(@words)        the reply; an error dies
#   $redis->pause, $redis->resume  SIGSTOP and SIGCONT
#   $redis->kill                   SIGKILL
#   $redis->restart                starts it again, empty, at the same place
#   $redis->stop

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use RefundNotify::Test::Resp qw(resp_command resp_parse);
use RefundNotify::Test::Util
    qw(scratch_dir free_port slow wait_until write_file read_file spawn
       stop_process);

my $count = 0;


sub new {
    my ($class, %option) = @_;

    my $self = bless { port => $option{unix} ? 0 : free_port(), %option },
                     $class;

    $self->{dir} = scratch_dir() . '/redis-' . ++$count;
    mkdir $self->{dir} or die "$self->{dir}: $!\n";

    $self->{address} //= '127.0.0.1';

    my @lines = ("bind $self->{address}", "port $self->{port}", 'save ""',
                 'appendonly no', "dir $self->{dir}", 'daemonize no',
                 @{ $option{config} || [] });

    if ($option{unix}) {
        $self->{socket} = "$self->{dir}/redis.sock";
        push @lines, "unixsocket $self->{socket}", 'unixsocketperm 700';
    }

    if (my $tls = $option{tls}) {
        $self->{tls_port} = free_port();
        push @lines, "tls-port $self->{tls_port}",
             "tls-cert-file $tls->{cert}", "tls-key-file $tls->{key}",
             "tls-ca-cert-file $tls->{ca}",
             'tls-auth-clients ' . ($tls->{clients} ? 'yes' : 'no');
    }

    if (defined $option{password}) {
        push @lines, "requirepass $option{password}";
    }

    write_file("$self->{dir}/redis.conf", join "\n", @lines, '');
    $self->restart;

    return $self;
}


sub port { return $_[0]{port} }
sub tls_port { return $_[0]{tls_port} }
sub socket { return $_[0]{socket} }
sub pid { return $_[0]{pid} }


sub url {
    my ($self) = @_;

    return $self->{unix} ? "redis://unix:$self->{socket}"
                         : "redis://$self->{address}:$self->{port}";
}


sub restart {
    my ($self) = @_;

    $self->stop;
    unlink $self->{socket} if $self->{unix};

    my $log = "$self->{dir}/redis.log";
    $self->{pid} = spawn([ $ENV{REDIS_SERVER} || 'redis-server',
                           "$self->{dir}/redis.conf",
                           @{ $self->{arguments} || [] } ], output => $log);

    wait_until(sub { eval { $self->command('PING') } }, 10)
        or die "redis-server does not answer:\n", read_file($log);

    return;
}


sub command {
    my ($self, @words) = @_;

    if (!$self->{connection}) {
        $self->{connection} = $self->_connect or die "redis: $!\n";
        $self->command('AUTH', $self->{password})
            if defined $self->{password};
    }

    my $buffer = '';
    my $select = IO::Select->new($self->{connection});

    syswrite $self->{connection}, resp_command(@words);

    while (1) {
        my ($value, $next) = resp_parse($buffer, 0);

        if ($next) {
            die "redis: $$value\n" if ref $value && ref $value ne 'ARRAY';
            return $value;
        }

        next if $select->can_read(slow(5))
                && sysread $self->{connection}, $buffer, 65536, length $buffer;

        delete $self->{connection};
        die "redis: no reply\n";
    }
}


sub _connect {
    my ($self) = @_;

    return $self->{unix}
           ? IO::Socket::UNIX->new(Peer => $self->{socket})
           : IO::Socket::INET->new(PeerAddr => $self->{address},
                                   PeerPort => $self->{port});
}


sub pause { CORE::kill 'STOP', $_[0]{pid} }
sub resume { CORE::kill 'CONT', $_[0]{pid} }


sub kill {
    my ($self) = @_;

    delete $self->{connection};
    stop_process(delete $self->{pid}, 'KILL');
    return;
}


sub stop {
    my ($self) = @_;

    delete $self->{connection};

    if ($self->{pid}) {
        $self->resume;
        stop_process(delete $self->{pid}, 'TERM');
    }

    return;
}


1;
