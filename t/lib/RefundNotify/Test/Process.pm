package RefundNotify::Test::Process;

# What Linux tells of a process.
#
#   private_memory($pid)           RssAnon: its own KiB; 0 if it is gone
#   open_files($pid)               what it has open: a hash of local and remote
#                                  (ports) and state (ESTABLISHED, CLOSE_WAIT,
#                                  ...) for each connection by TCP, else a name
#                                  as in /proc; a connection that is made or
#                                  closed just then may have such a name
#   cpu_time($pid)                 seconds that it has worked, to a hundredth
#   age($pid)                      seconds since it was started; 0 if it is gone
#   describe($pid)                 lines that say what it is, and what it waits
#                                  for, for someone who wonders why it lives

use strict;
use warnings;

use Exporter 'import';
use POSIX ();

use RefundNotify::Test::Util qw(read_file);

our @EXPORT_OK = qw(private_memory open_files cpu_time age describe);

# of the kernel's include/net/tcp_states.h

my @STATES = qw(NONE ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2
                TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING);


sub private_memory {
    my ($pid) = @_;

    return read_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : 0;
}


sub open_files {
    my ($pid) = @_;

    my %connections;

    for (map { read_file("/proc/$pid/net/$_") =~ /^ *\d+: (.*)/mg }
             qw(tcp tcp6))
    {
        my ($local, $remote, $state, @rest) = split;

        $connections{ $rest[5] } = {
            local => hex($local =~ s/.*://r),
            remote => hex($remote =~ s/.*://r),
            state => $STATES[ hex $state ] // $state,
        } if $state ne '0A';
    }

    return map { /^socket:\[(\d+)\]/ && $connections{$1} || $_ }
           grep { defined } map { readlink } glob "/proc/$pid/fd/*";
}


sub cpu_time {
    my ($pid) = @_;

    # as the program, and as the kernel on its behalf: proc(5), utime and stime

    my ($user, $system) = read_file("/proc/$pid/stat")
                          =~ /^.*\) (?:\S+ ){11}(\d+) (\d+) /s;

    return (($user // 0) + ($system // 0))
           / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


sub age {
    my ($pid) = @_;

    my ($since) = read_file("/proc/$pid/stat") =~ /^.*\) (?:\S+ ){19}(\d+)/s;
    my ($now) = read_file('/proc/uptime') =~ /^(\S+)/;

    return defined $since
           ? $now - $since / POSIX::sysconf(POSIX::_SC_CLK_TCK()) : 0;
}


sub describe {
    my ($pid) = @_;

    my ($state) = read_file("/proc/$pid/status") =~ /^State:\s+(.*)/m;

    return "process $pid is gone" if !defined $state;

    my @lines = (
        sprintf('process %d, %d s old, %s: %s', $pid, age($pid), $state,
                read_file("/proc/$pid/cmdline") =~ s/\0+/ /gr),
        map({ "  $_: " . (read_file("/proc/$pid/$_") =~ s/\s+\z//r) }
            qw(wchan syscall)),
        map({ "  stack: $_" } split /\n/, read_file("/proc/$pid/stack")),
        map({ "  connection: $_->{local} to $_->{remote}, $_->{state}" }
            grep { ref } open_files($pid)),
    );

    return join "\n", @lines;
}


1;
