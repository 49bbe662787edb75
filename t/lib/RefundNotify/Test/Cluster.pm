package RefundNotify::Test::Cluster;

# A Redis Cluster: masters that share the slots, each with a replica.
#
#   $cluster = RefundNotify::Test::Cluster->new(
#       masters => 3, replicas => 1,
#       tls => { ... },            ports with TLS, as of Redis, which url names
#       config => [ line, ... ])   more lines for the redis.conf of each
#
#   $cluster->url                  redis+cluster://127.0.0.1:...
#   $cluster->nodes                the Redis objects, masters at first
#   slot_of($key)                  the slot of a key, reckoned here
#   $cluster->owner($slot)         the node that has it
#   $cluster->slots($node)         the slots that it has
#   $cluster->replica($node)       one that follows the master $node
#   $cluster->id($node)            its name among the nodes
#   $cluster->add                  a node more, without slots
#   $cluster->move(\@slots, $from, $to, $step)   their keys one by one; calls
#                                  $step->("begun"), after each key ("key"), and
#                                  ("emptied") before the slots change hands;
#                                  returns how many keys there were
#   $cluster->remove($node)        forgotten by the others, and stopped
#   $cluster->is_master($node)     it says so itself
#   $cluster->works_without($node) all others say that slots are served, and
#                                  none of them by $node
#   $cluster->whole($seconds)      true once all agree that all is well

use strict;
use warnings;

use RefundNotify::Test::Redis;
use RefundNotify::Test::Util qw(free_port slow wait_until);

use constant { SLOTS => 16384, NODE_TIMEOUT => 500 };


sub new {
    my ($class, %option) = @_;

    my $masters = $option{masters} // 3;
    my $replicas = $option{replicas} // 1;
    my $self = bless { %option, nodes => [] }, $class;

    $self->_start for 1 .. $masters * (1 + $replicas);

    my @nodes = $self->nodes;

    for my $n (0 .. $masters - 1) {
        $nodes[$n]->command('CLUSTER', 'ADDSLOTSRANGE',
                            int(SLOTS * $n / $masters),
                            int(SLOTS * ($n + 1) / $masters) - 1);
        $nodes[$n]->command('CLUSTER', 'SET-CONFIG-EPOCH', $n + 1);
    }

    $self->_meet($_) for @nodes[ 1 .. $#nodes ];

    wait_until(sub {
        !grep { @{ $self->_known($_) } < @nodes } @nodes;
    }, 20) or die "the nodes of the cluster do not meet\n";

    for my $n ($masters .. $#nodes) {
        $nodes[$n]->command('CLUSTER', 'REPLICATE',
                            $self->id($nodes[ $n % $masters ]));
    }

    $self->whole(20) or die "the cluster does not come up\n";

    return $self;
}


sub nodes { return @{ $_[0]{nodes} } }


sub url {
    my ($self, @nodes) = @_;

    @nodes = $self->nodes if !@nodes;

    return ($self->{tls} ? 'rediss' : 'redis') . '+cluster://'
           . join ',', map { '127.0.0.1:' . ($_->tls_port // $_->port) } @nodes;
}


sub _start {
    my ($self, @config) = @_;

    # the bus takes a port of its own, which is the port's plus 10000 otherwise

    my $node = RefundNotify::Test::Redis->new(
        $self->{tls} ? (tls => $self->{tls}) : (),
        arguments => [ '--cluster-port', free_port() ],
        config => [ 'cluster-enabled yes',
                    'cluster-node-timeout ' . slow(NODE_TIMEOUT),
                    'cluster-replica-validity-factor 0',
                    'repl-diskless-sync-delay 0',
                    'repl-ping-replica-period 1',
                    @config, @{ $self->{config} || [] } ]);

    push @{ $self->{nodes} }, $node;
    return $node;
}


sub _meet {
    my ($self, $node) = @_;

    $self->{nodes}[0]->command('CLUSTER', 'MEET', '127.0.0.1', $node->port,
                               $node->{arguments}[1]);
    return;
}


# What a node knows of all nodes: [ id, address, flags, master, ..., slots ]

sub _known {
    my ($self, $node) = @_;

    return [ map { [ split / / ] }
             split /\n/, $node->command('CLUSTER', 'NODES') ];
}


sub _running {
    my ($self) = @_;

    return grep { $_->pid } $self->nodes;
}


sub id {
    my ($self, $node) = @_;

    return $node->{id} //= $node->command('CLUSTER', 'MYID');
}


# https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

sub slot_of {
    my ($key) = @_;

    my $crc = 0;

    for my $byte (unpack 'C*', $key =~ /^[^{]*\{([^}]+)\}/ ? $1 : $key) {
        $crc ^= $byte << 8;
        $crc = ($crc << 1 ^ ($crc & 0x8000 ? 0x1021 : 0)) & 0xffff for 1 .. 8;
    }

    return $crc % SLOTS;
}


sub owner {
    my ($self, $slot, $asked) = @_;

    for my $range (@{ ($asked // ($self->_running)[0])
                      ->command('CLUSTER', 'SLOTS') })
    {
        if ($range->[0] <= $slot && $slot <= $range->[1]) {
            return (grep { $_->port == $range->[2][1] } $self->nodes)[0];
        }
    }

    return;
}


sub slots {
    my ($self, $node) = @_;

    return map { $_->[0] .. $_->[1] }
           grep { $_->[2][1] == $node->port }
                @{ ($self->_running)[0]->command('CLUSTER', 'SLOTS') };
}


sub replica {
    my ($self, $node) = @_;

    my $id = $self->id($node);

    for my $known (@{ $self->_known(($self->_running)[0]) }) {
        return (grep { $self->id($_) eq $known->[0] } $self->nodes)[0]
            if $known->[3] eq $id && $known->[2] !~ /fail/;
    }

    return;
}


sub is_master {
    my ($self, $node) = @_;

    my $role = eval { $node->command('ROLE') };

    return $role && $role->[0] eq 'master';
}


sub works_without {
    my ($self, $node) = @_;

    for my $other (grep { $_ != $node } $self->_running) {
        my $info = eval { $other->command('CLUSTER', 'INFO') } // '';
        my $slots = eval { $other->command('CLUSTER', 'SLOTS') } or return 0;

        return 0 if $info !~ /^cluster_state:ok\r$/m
                    || grep { $_->[2][1] == $node->port } @$slots;
    }

    return 1;
}


sub whole {
    my ($self, $seconds) = @_;

    my @nodes = $self->_running;

    return wait_until(sub {
        my %views;

        for my $node (@nodes) {
            my $info = eval { $node->command('CLUSTER', 'INFO') } // '';
            my $role = eval { $node->command('ROLE') } // [ '' ];
            my $known = eval { $self->_known($node) } // [];

            return 0 if $info !~ /^cluster_state:ok\r$/m
                        || $role->[0] eq 'slave' && $role->[3] ne 'connected'
                        || @$known != @nodes
                        || grep { $_->[2] =~ /fail|handshake/
                                  || $_->[7] ne 'connected' } @$known;

            # whom each of them follows, and which slots are whose

            $views{ join ' ', (sort map { "$_->[0]-$_->[3]" } @$known),
                    sort map { "$_->[0]-$_->[1]-$_->[2][1]" }
                             @{ $node->command('CLUSTER', 'SLOTS') } }++;
        }

        return keys %views == 1;
    }, $seconds);
}


sub add {
    my ($self) = @_;

    # it stays a master when it has given its slots away

    my $node = $self->_start('cluster-allow-replica-migration no');

    $self->_meet($node);
    $self->whole(20) or die "the node does not join the cluster\n";

    return $node;
}


# https://redis.io/docs/latest/commands/cluster-setslot/

sub move {
    my ($self, $slots, $from, $to, $step) = @_;

    my @others = grep { $_ != $to && $_ != $from && $self->is_master($_) }
                      $self->_running;
    my $moved = 0;

    $step //= sub { };

    for my $slot (@$slots) {
        $to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING',
                     $self->id($from));
        $from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING',
                       $self->id($to));
    }

    $step->('begun');

    for my $slot (@$slots) {
        while (my @keys = @{ $from->command('CLUSTER', 'GETKEYSINSLOT', $slot,
                                            1) })
        {
            $from->command('MIGRATE', '127.0.0.1', $to->port, $keys[0], 0,
                           5000);
            $moved++;
            $step->('key');
        }
    }

    $step->('emptied');

    for my $slot (@$slots) {
        $_->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $self->id($to))
            for $to, $from, @others;
    }

    return $moved;
}


sub remove {
    my ($self, $node) = @_;

    my $id = $self->id($node);

    $self->{nodes} = [ grep { $_ != $node } $self->nodes ];
    $node->stop;
    $_->command('CLUSTER', 'FORGET', $id) for $self->_running;
    return;
}


1;
