package RefundNotify::Bench::Measure;

# What the parts of the benchmark share.
#
#   bench_dir()                    BENCH_BUILD or build/bench: the generator,
#                                  the keys of the merchant, prepared notifies
#   key($name)                     of them: mch_id, serial, v2.key ...
#   cpu_of($role)                  the processor of worker, load, business or
#                                  redis: the worker has one of its own
#   pin($pid, $role)               puts a process there
#   notifies($kind, $first, $count, $extra)
#                                  the path of a file of prepared requests, each
#                                  of a refund of its own; kept while v3's
#                                  signatures are fresh
#   requests($kind, $first, $count)
#                                  the same as a list, made now
#   send_all($connection, \@requests)
#                                  sends them one after the other; the answers
#                                  that came, each once
#   load($port, $file, seconds => 2, connections => 32, cycle => 0)
#                                  sends them by wrk: a hash of requests,
#                                  seconds, rate, p50, p99, p999 (ms), statuses
#                                  (that were errors); an error of a socket dies
#   cpu_time(@pids)                nanoseconds that their threads have run
#   rss_anon(@pids)                bytes of memory that is theirs alone
#   redis_info($redis)             a hash of INFO
#   delivered($business)           requests that the business app has had
#   median(@n), spread(@n)         "min-max"
#   markdown(\@head, \@row, ...)    a table
#   machine()                      "name: value" lines: processor, versions, and
#                                  what else the machine did
#
# The clock skew that nginx and the peers allow has to be an hour.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use List::Util qw(max min);
use POSIX ();

use RefundNotify::Test::Util qw(read_file spawn stop_process);

our @EXPORT_OK = qw(bench_dir key cpu_of pin notifies load cpu_time rss_anon
                    redis_info delivered median spread markdown machine
                    requests send_all);

my $root = abs_path(dirname(__FILE__) . '/../../../..');

# a notify is fresh for an hour both ways, and a run takes half of one at most

use constant { AHEAD => 3000, FRESH_FROM => -1500, FRESH_UNTIL => 3300 };


# of the last minute, before anything of ours has run

my $load_before = load_average();


sub bench_dir { return $ENV{BENCH_BUILD} || "$root/build/bench" }


sub key {
    my ($name) = @_;

    return read_file(bench_dir() . "/keys/$name") =~ s/\s+$//r;
}


sub processors {
    my $count = () = read_file('/proc/cpuinfo') =~ /^processor\s*:/mg;
    return $count;
}


sub cpu_of {
    my ($role) = @_;

    my %wanted = (worker => 0, load => 1, business => 2, redis => 3);
    my $count = processors();

    # where there are few, all but the worker share the second one

    return $wanted{$role} < $count ? $wanted{$role} : $count > 1 ? 1 : 0;
}


sub pin {
    my ($pid, $role) = @_;

    system("taskset -apc @{[ cpu_of($role) ]} $pid >/dev/null") == 0
        or die "taskset failed\n";

    return $pid;
}


sub notifies {
    my ($kind, $first, $count, $extra) = @_;

    $extra //= 0;

    my $dir = bench_dir() . '/prepared';
    my $base = "$dir/$kind-$first-$count-$extra";
    mkdir $dir;

    for my $path (glob "$base-*") {
        my ($time) = $path =~ /-(\d+)$/ or next;
        my $age = $time - time;

        return $path if $age > FRESH_FROM && $age < FRESH_UNTIL;

        unlink $path;
    }

    my $time = time + AHEAD;
    my $parts = processors();
    my (@pids, @files);

    for my $part (0 .. $parts - 1) {
        my $from = POSIX::floor($count * $part / $parts);
        my $to = POSIX::floor($count * ($part + 1) / $parts);

        push @files, "$base.part$part";
        unlink $files[-1];
        push @pids, spawn([ bench_dir() . '/notifies', bench_dir() . '/keys',
                            $kind, $first + $from, $to - $from, $extra,
                            $time ], output => $files[-1]);
    }

    for (@pids) {
        my $status = stop_process($_, 0, 600) // -1;
        die "the notifies were not made\n" if $status != 0;
    }

    system("cat @files >$base-$time") == 0 or die "cat failed\n";
    unlink @files;

    return "$base-$time";
}


sub requests {
    my ($kind, $first, $count) = @_;

    open my $pipe, '-|', bench_dir() . '/notifies', bench_dir() . '/keys',
                   $kind, $first, $count, 0, time or die "notifies: $!\n";
    binmode $pipe;

    my @requests;

    while (read($pipe, my $length, 8)) {
        read($pipe, my $request, $length);
        push @requests, $request;
    }

    close $pipe or die "notifies failed\n";

    return @requests;
}


sub send_all {
    my ($connection, $requests) = @_;

    my %answers;

    for (@$requests) {
        $connection->{method} = 'POST';
        $connection->write($_);

        my $response = $connection->read(timeout => 60);
        $answers{"$response->{status} $response->{body}$response->{error}"}++;
    }

    return join '; ', sort keys %answers;
}


sub load {
    my ($port, $file, %option) = @_;

    my $output = qx(taskset -c @{[ cpu_of('load') ]} wrk -t 1 \\
                    -c @{[ $option{connections} // 32 ]} \\
                    -d @{[ POSIX::ceil($option{seconds} // 2) ]}s \\
                    -s $root/bench/load.lua http://127.0.0.1:$port \\
                    -- $file @{[ $option{cycle} ? 'cycle' : '' ]} 2>&1);

    my ($requests, $us, $p50, $p99, $p999, $statuses, $errors)
        = $output =~ /^result (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$/m
        or die "wrk failed:\n$output";

    die "wrk had $errors errors of its sockets:\n$output" if $errors;

    return { requests => $requests, seconds => $us / 1e6,
             rate => $requests / $us * 1e6, p50 => $p50 / 1e3,
             p99 => $p99 / 1e3, p999 => $p999 / 1e3, statuses => $statuses };
}


sub cpu_time {
    my (@pids) = @_;

    my $time = 0;

    for my $task (map { glob "/proc/$_/task/*/schedstat" } @pids) {
        $time += $1 if read_file($task) =~ /^(\d+)/;
    }

    return $time;
}


sub rss_anon {
    my (@pids) = @_;

    my $size = 0;

    for (@pids) {
        $size += $1 * 1024
            if read_file("/proc/$_/status") =~ /^RssAnon:\s+(\d+) kB/m;
    }

    return $size;
}


sub redis_info {
    my ($redis) = @_;

    return { $redis->command('INFO') =~ /^(\w+):(.*?)\r?$/mg };
}


# stub_status counts this request of it too

sub delivered {
    my ($business) = @_;

    my $response = RefundNotify::Test::Client->new(
        port => $business->port('status'))->request('GET', '/');

    $response->{body} =~ /^ \d+ \d+ (\d+) /m
        or die "the business app's count is missing: $response->{error}\n";

    return $1 - ++$business->{status_requests};
}


sub median {
    my (@sorted) = sort { $a <=> $b } @_;

    return ($sorted[$#sorted / 2] + $sorted[@sorted / 2]) / 2;
}


sub spread {
    my ($format, @n) = @_;

    return join '-', map { sprintf $format, $_ } min(@n), max(@n);
}


sub markdown {
    my ($head, @rows) = @_;

    return join "\n",
        map { '| ' . join(' | ', @$_) . ' |' } $head,
            [ map { $_ eq $head->[0] ? '---' : '--:' } @$head ], @rows;
}


sub load_average { return (split ' ', read_file('/proc/loadavg'))[0] }


sub machine {
    my ($cpu) = read_file('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
    my ($system) = read_file('/etc/os-release') =~ /^PRETTY_NAME="?(.*?)"?$/m;
    my ($memory) = read_file('/proc/meminfo') =~ /^MemTotal:\s+(\d+)/m;
    my ($nginx) = qx(PATH="\$PATH:/usr/sbin" nginx -v 2>&1) =~ m{/([\d.]+)};
    my ($redis) = qx(redis-server --version) =~ /v=([\d.]+)/;
    my ($openssl) = qx(openssl version) =~ /^OpenSSL (\S+)/;
    my ($wrk) = qx(wrk -v 2>&1) =~ m{wrk \D*([\d.]+)};
    my ($kernel) = (POSIX::uname())[2];

    return ('date: ' . POSIX::strftime('%Y-%m-%d %H:%M UTC', gmtime),
            sprintf('machine: %s, %d processors, %.0f GB of memory',
                    $cpu // 'unknown', processors(), $memory / 1024 / 1024),
            "system: $system, Linux $kernel",
            "versions: nginx $nginx, OpenSSL $openssl, Redis $redis,"
            . " wrk $wrk",
            "load average: $load_before at the start, @{[ load_average() ]} at the"
            . ' end');
}


1;
