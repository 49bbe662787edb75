package RefundNotify::Test::Sentinel;

# A master, its replicas, and the sentinels that watch over them, as they find
# each other in no time: each knows all others when it starts.
#
#   $set = RefundNotify::Test::Sentinel->new(
#       replicas => 2, sentinels => 3,
#       tls => { ... },            with TLS among all, as of Redis, and in url
#       config => [ line, ... ],   more lines for the redis.conf of each server
#       sentinel_config => [ line, ... ])   and of each sentinel
#
#   $set->url                      redis+sentinel://.../mymaster
#   $set->servers, $set->sentinels the Redis objects
#   $set->master                   the one that the sentinels name
#   $set->left($server)            no sentinel names it any more
#   $set->whole($seconds)          true once every replica follows the master
#                                  and the sentinels know it
#   $set->watch                    forgets the changes of the master so far
#   $set->switched($seconds)       waits for one: when a subscriber heard of it

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use RefundNotify::Test::Redis;
use RefundNotify::Test::Resp qw(resp_command resp_parse);
use RefundNotify::Test::Util qw(slow wait_until);
use Time::HiRes qw(time);

use constant {
    MASTER => 'mymaster',
    DOWN_AFTER => 500,
    FAILOVER_TIMEOUT => 3000,
};


sub new {
    my ($class, %option) = @_;

    my @config = ('repl-diskless-sync-delay 0', 'repl-ping-replica-period 1',
                  @{ $option{config} || [] });
    my @tls;

    if ($option{tls}) {
        push @config, 'tls-replication yes';
        @tls = (tls => $option{tls});
    }

    my $master = RefundNotify::Test::Redis->new(@tls, config => \@config);
    my $self = bless { servers => [ $master ], tls => $option{tls} }, $class;
    my $place = '127.0.0.1 ' . _port($master);

    for (1 .. $option{replicas} // 2) {
        push @{ $self->{servers} },
             RefundNotify::Test::Redis->new(
                 @tls, config => [ @config, "replicaof $place" ]);
    }

    my $down = slow(DOWN_AFTER);
    my @others = map { ' ' . MASTER . ' 127.0.0.1 ' . _port($_) }
                     @{ $self->{servers} }[ 1 .. $#{ $self->{servers} } ];
    my @known;

    for my $n (1 .. $option{sentinels} // 3) {
        my $id = sprintf '%040x', $n;
        my $sentinel = RefundNotify::Test::Redis->new(
            @tls, arguments => [ '--sentinel' ],
            config => [
                @{ $option{sentinel_config} || [] },
                $option{tls} ? 'tls-replication yes' : (),
                "sentinel myid $id",
                'sentinel monitor ' . MASTER . " $place "
                . (int(($option{sentinels} // 3) / 2) + 1),
                'sentinel down-after-milliseconds ' . MASTER . " $down",
                'sentinel failover-timeout ' . MASTER . ' '
                . slow(FAILOVER_TIMEOUT),
                (map { "sentinel known-replica$_" } @others),
                (map { 'sentinel known-sentinel ' . MASTER . " $_" } @known),
            ]);

        push @{ $self->{sentinels} }, $sentinel;
        push @known, '127.0.0.1 ' . _port($sentinel) . " $id";
    }

    $self->whole(20) or die "the sentinels do not find all servers\n";

    return $self;
}


sub servers { return @{ $_[0]{servers} } }
sub sentinels { return @{ $_[0]{sentinels} } }


sub url {
    my ($self) = @_;

    return ($self->{tls} ? 'rediss' : 'redis') . '+sentinel://'
           . join(',', map { '127.0.0.1:' . _port($_) } $self->sentinels)
           . '/' . MASTER;
}


sub master {
    my ($self, $sentinel) = @_;

    my $named = ($sentinel // $self->{sentinels}[0])->command(
        'SENTINEL', 'get-master-addr-by-name', MASTER);

    return (grep { _port($_) == $named->[1] } $self->servers)[0];
}


sub left {
    my ($self, $server) = @_;

    return !grep { $self->master($_) == $server } $self->sentinels;
}


sub _port {
    my ($server) = @_;

    return $server->tls_port // $server->port;
}


sub whole {
    my ($self, $seconds) = @_;

    my $replicas = $self->servers - 1;

    return wait_until(sub {
        for my $sentinel ($self->sentinels) {
            my %state = @{ $sentinel->command('SENTINEL', 'master', MASTER) };

            return 0 if $state{flags} ne 'master'
                        || $state{'num-slaves'} < $replicas
                        || $state{'num-other-sentinels'}
                           != $self->sentinels - 1;
        }

        my $role = eval { $self->master->command('ROLE') } or return 0;

        return $role->[0] eq 'master' && @{ $role->[2] } == $replicas;
    }, $seconds);
}


sub watch {
    my ($self) = @_;

    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $self->{sentinels}[0]->port)
        or die "sentinel: $!\n";

    syswrite $socket, resp_command('SUBSCRIBE', '+switch-master');
    $self->{watch} = { socket => $socket, in => '', heard => 0 };
    $self->_heard('subscribe', 5) or die "sentinel: no subscription\n";
    return;
}


sub switched {
    my ($self, $seconds) = @_;

    return $self->_heard('message', $seconds) ? time : undef;
}


sub _heard {
    my ($self, $kind, $seconds) = @_;

    my $watch = $self->{watch};
    my $select = IO::Select->new($watch->{socket});
    my $end = time + slow($seconds);

    while (1) {
        if (my ($message, $next) = resp_parse($watch->{in}, 0)) {
            substr $watch->{in}, 0, $next, '';
            return 1 if $message->[0] eq $kind;
            next;
        }

        return 0 if !$select->can_read($end - time)
                    || !sysread $watch->{socket}, $watch->{in}, 65536,
                                length $watch->{in};
    }
}


1;
