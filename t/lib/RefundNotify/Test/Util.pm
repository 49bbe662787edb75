package RefundNotify::Test::Util;

# What every part of the harness needs: a scratch directory, ports that no
# other test has, files, child processes that never outlive the test, and
# waiting with a limit.
#
#   scratch_dir()                  this test's directory; removed at the end,
#                                  unless REFUND_NOTIFY_KEEP is set
#   free_port()                    a TCP port of 127.0.0.1, ours until we exit
#   slow($seconds)                 $seconds, longer under the sanitizers and on a
#                                  machine that has too much to do
#   wait_until($code, $seconds)    the first true value of $code, or undef
#   read_file($path), write_file($path, $bytes, $mode)
#   spawn(\@command, output => $path, env => { NAME => value }, cwd => $dir)
#                                  starts it in the background; its pid
#   stop_process($pid, $signal, $seconds)
#                                  sends the signal, waits, at last kills: the
#                                  wait status, or undef if it had to be killed
#   adopt($pid), disown($pid)      the list of children killed at the end
#   adopt_orphans()                what our children leave behind becomes ours

use strict;
use warnings;

use Exporter 'import';
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(scratch_dir free_port slow wait_until read_file write_file
                    spawn stop_process adopt disown adopt_orphans);

my $owner = $$;
my ($scratch, %children, @locks);

# END blocks, which stop what a test started, do not run after a signal; a
# closed pipe is an error of the write like any other.

$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';

# prctl(PR_SET_PDEATHSIG), for when the test itself is killed

my %PRCTL = (x86_64 => 157, aarch64 => 167);
my $prctl = $PRCTL{ (POSIX::uname())[4] };


sub scratch_dir {
    if (!$scratch) {
        $scratch = File::Temp->newdir('refund-notify-XXXXXXXX', TMPDIR => 1,
                                      CLEANUP => !$ENV{REFUND_NOTIFY_KEEP});
        print STDERR "# kept: $scratch\n" if $ENV{REFUND_NOTIFY_KEEP};
    }

    return "$scratch";
}


# A UDP socket on the same number is the lock: it needs no file, and goes with
# its process.  The range lies below the ports of outgoing connections.

sub free_port {
    for (1 .. 2000) {
        my $port = 20000 + int(rand(10000));
        my %local = (LocalAddr => '127.0.0.1', LocalPort => $port);

        my $lock = IO::Socket::INET->new(%local, Proto => 'udp') or next;
        IO::Socket::INET->new(%local, Proto => 'tcp', Listen => 1,
                              ReuseAddr => 1) or next;

        push @locks, $lock;
        return $port;
    }

    die "no free port in 20000-29999\n";
}


# A machine with more to do than three times what it can makes processes wait
# for as long as the sanitizers do.  It is asked once: what a test has said of
# its times holds to its end.

my ($load) = map { /^([\d.]+)/ } read_file('/proc/loadavg');
my $cores = () = read_file('/proc/cpuinfo') =~ /^processor\b/mg;

my $patience = $ENV{REFUND_NOTIFY_VALGRIND} ? 20
               : $ENV{REFUND_NOTIFY_SANITIZE} || $load > 3 * ($cores || 1) ? 5
               : 1;

sub slow {
    my ($seconds) = @_;

    return $seconds * $patience;
}


sub wait_until {
    my ($code, $seconds) = @_;

    my $end = time + slow($seconds // 5);

    while (1) {
        my $value = $code->();

        return $value if $value;
        return undef if time > $end;

        sleep 0.005;
    }
}


sub read_file {
    my ($path) = @_;

    open my $file, '<:raw', $path or return '';
    local $/;
    return scalar(<$file>) // '';
}


sub write_file {
    my ($path, $bytes, $mode) = @_;

    open my $file, '>:raw', $path or die "$path: $!\n";
    chmod $mode, $path if defined $mode;
    print $file $bytes or die "$path: $!\n";
    close $file or die "$path: $!\n";

    return $path;
}


sub spawn {
    my ($command, %option) = @_;

    my $pid = fork // die "fork: $!\n";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE ALRM);
        syscall $prctl, 1, POSIX::SIGTERM() if $prctl;
        $ENV{$_} = $option{env}{$_} for keys %{ $option{env} || {} };

        if (open(STDIN, '<', '/dev/null')
            && open(STDOUT, '>>', $option{output} // '/dev/null')
            && open(STDERR, '>&', \*STDOUT)
            && (!defined $option{cwd} || chdir $option{cwd}))
        {
            no warnings 'exec';
            exec { $command->[0] } @$command;
            print STDERR "$command->[0]: $!\n";
        }

        POSIX::_exit(127);
    }

    return adopt($pid);
}


sub stop_process {
    my ($pid, $signal, $seconds) = @_;

    kill $signal, $pid if $signal;

    my $status;
    my $gone = wait_until(sub {
        my $rc = waitpid $pid, POSIX::WNOHANG();
        $status = $? if $rc == $pid;
        return $rc != 0;
    }, $seconds // 10);

    if (!$gone) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }

    disown($pid);
    return $gone ? $status // 0 : undef;
}


sub adopt {
    my ($pid) = @_;

    $children{$pid} = 1;
    return $pid;
}


sub disown {
    my ($pid) = @_;

    delete $children{$pid};
    return;
}


# prctl(PR_SET_CHILD_SUBREAPER)

sub adopt_orphans {
    syscall $prctl, 36, 1 if $prctl;
    return;
}


END {
    if ($$ == $owner) {
        local $?;

        for my $pid (keys %children) {
            kill 'CONT', $pid;
            kill 'KILL', $pid;
            waitpid $pid, 0;
        }
    }
}


1;
