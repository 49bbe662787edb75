#!/usr/bin/perl

# Chaos: WeChat Pay sends the refunds of three merchants, in both versions, and
# repeats them by its ladder, in time compressed; others send forged ones.
# Meanwhile Redis, the business apps, nginx' processes, its disk and its clock,
# and the clients fail, one, two and three of them at a time.  In the end the
# faults stop, and what RefundNotify::Test::History counts of what must not be
# is 0.
#
# The seed decides which faults strike at which time, and what is sent; the same
# seed and seconds are the same faults.  Each must have struck.
#
# What does not strike has tests of its own: Redis' replies that are broken, cut
# or refusals of other kinds (30, 38), Sentinel, Cluster, TLS, names, replicas
# (33 to 37); upstreams by other protocols or TLS, answers of any status and
# size (50); HTTP/2, pipelines, odd framing, headers and sizes (12 to 16), and
# clients that go away at each point (23); shared memory that is full, shrunk,
# or left by a worker that was killed in the midst of a change (26, 31, 40).

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::BookingApp;
use RefundNotify::Test::Certificate qw(rsa_key);
use RefundNotify::Test::History qw(now violations);
use RefundNotify::Test::Process
    qw(age describe open_files private_memory);
use RefundNotify::Test::Stream;

use IO::Socket::INET;
use POSIX qw(strftime);
use List::Util qw(max min shuffle);
use RefundNotify::Test::Resp qw(resp_command);
use RefundNotify::Test::Util qw(read_file slow wait_until write_file);
use Time::HiRes qw(sleep);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes     %%WORKERS%%;
worker_rlimit_nofile %%FILES%%;

events {
    worker_connections 1024;
}

http {
    %%HTTP%%

    log_format notify '$msec $pid $status $refund_notify_result '
                      '"$refund_notify_reason" $refund_notify_id '
                      '$refund_notify_attempt';

    access_log %%DISK%%/notify.log notify;
    access_log %%DIR%%/notify.log notify;
    error_log  %%DISK%%/second.log info;
    error_log  %%DIR%%/error.log info;

    client_body_buffer_size 256;

    %%MERCHANTS%%

    refund_store main  redis://127.0.0.1:%%REDIS%% prefix=t:
                       timeout=%%TIMEOUT%%ms;
    refund_store local shm:64m;

    refund_notify_deadline         %%DEADLINE%%ms;
    refund_notify_delivery_timeout 6s;
    refund_notify_lease            %%LEASE%%s;

    upstream orders {
        server 127.0.0.1:%%ORDERS%%;
        keepalive 32;
    }

    upstream ledger {
        server 127.0.0.1:%%LEDGER%%;
        keepalive 32;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        lingering_close       off;
        client_body_temp_path %%DISK%%/body;

        location = /redis {
            refund_notify       shop;
            refund_notify_pass  /internal/orders name=orders;
            refund_notify_store main;
        }

        location = /both {
            refund_notify       mall;
            refund_notify_pass  /internal/orders name=orders;
            refund_notify_pass  /internal/ledger name=ledger;
            refund_notify_store main;
        }

        location = /local {
            refund_notify       market;
            refund_notify_pass  /internal/orders name=orders;
            refund_notify_store local;
        }

        location = /internal/orders {
            internal;
            proxy_pass http://orders/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }

        location = /internal/ledger {
            internal;
            proxy_pass http://ledger/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $WORKERS = 3;
my $LEASE = 4;
my $TIMEOUT = 0.8;             # of Redis
my $RETRY = 0.5;                # of a renewal that failed
my $DEADLINE = 1.5;
my $STREAMS = 3;
my $PATIENCE = 5;               # of WeChat Pay, which is not compressed
my $SPARE = 4;                  # of the ladder, when the faults are over
my $FILES = 4096;
my $HIDDEN = slow(8);           # s for which one may hide another
my $ALL = 60;                   # s in which each fault can strike
my $OVER = slow(30);            # s after which a fault must be over
my $LATE = slow(0.5);           # s that the machine may take for itself
my $LINGERS = slow(1);          # ... before workers have all they need again
my $LOOKS = 5;                  # s between two looks at the processes

# What is between the 16 sends, 15 s to 6 h, as half a second to twelve.

my @LADDER = map { 0.153 * $_ ** 0.437 }
                 15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800,
                 10800, 10800, 21600, 21600;

my $seconds = $ENV{CHAOS_SECONDS} || 60;
my $seed = $ENV{CHAOS_SEED} || 1 + int rand 1e9;
my $rate = $ENV{CHAOS_RATE} || 120;
my $only = $ENV{CHAOS_FAULTS} || '.';

# In a run that is long enough nothing ends a worker in its last part, and those
# that lived so long are looked at: they must not have grown.

my $lived = $ENV{CHAOS_LIVED} || 300;
my $calm = $seconds > 2 * $lived ? $seconds - 1.2 * $lived : $seconds;

# A worker keeps for itself what it needed once.  It needs most when no app
# answers, which the last part therefore begins with; but how many of all that
# wait are its own is chance.  25,000 requests, as many as a worker gets in that
# time, may lose five bytes each.

my $SLACK = 128;                # KiB

# A disk that can be full is root's to make; it is gone with this process, for
# nobody else sees it.

if ($> == 0 && !$ENV{CHAOS_OWN_MOUNTS}
    && system('unshare --mount true 2>/dev/null') == 0)
{
    $ENV{CHAOS_OWN_MOUNTS} = 1;
    exec 'unshare', '--mount', $^X, $0;
}

my $TOO_LONG = 'the whole takes too long';

$SIG{ALRM} = sub { die "$TOO_LONG\n" };
alarm $seconds + slow(600);

my $disk = scratch_dir() . '/disk';
my $owner = $$;
my $small;

mkdir $disk or die "$disk: $!\n";

if ($ENV{CHAOS_OWN_MOUNTS}) {
    $small = system('mount', '-t', 'tmpfs', '-o', 'size=64m,mode=755', 'none',
                    $disk) == 0;
}

END {
    if ($small && $$ == $owner) {
        local $?;
        system 'umount', '-l', $disk;
    }
}

my $pay = wechatpay();
my %shops = map { $_ => $pay->merchant(name => $_) } qw(shop mall market);
my %to = (
    shop   => { path => '/redis', store => 'main', targets => [ 'orders' ] },
    mall   => { path => '/both',  store => 'main',
                targets => [ 'orders', 'ledger' ] },
    market => { path => '/local', store => 'local', targets => [ 'orders' ] },
);

rsa_key($_) for 'forger', map { $_->{public_key_id}[0] } values %shops;

my $history = RefundNotify::Test::History->new;
my $redis = redis(config => [ 'enable-debug-command local',
                              'busy-reply-threshold 50' ]);
my %apps = map {
    $_ => RefundNotify::Test::BookingApp->new(history => $history,
                                              target => $_)
} qw(orders ledger);
# A library stands between nginx and its clock, but for the one that is never
# set; it is Debian's libfaketime.

my ($faketime) = glob '/usr/lib/*/faketime/libfaketime.so.1';

clock(0);

my $nginx = nginx(with_merchants($conf, values %shops), daemon => 1,
                  environment => $faketime ? {
                      LD_PRELOAD => $faketime,
                      FAKETIME_TIMESTAMP_FILE => scratch_dir() . '/clock',
                      FAKETIME_NO_CACHE => 1, FAKETIME_DISABLE_SHM => 1,
                      FAKETIME_DONT_FAKE_MONOTONIC => 1,
                  } : {},
                  vars => { WORKERS => $WORKERS, LEASE => $LEASE,
                            TIMEOUT => 1000 * $TIMEOUT,
                            DEADLINE => 1000 * $DEADLINE,
                            FILES => $FILES, DISK => $disk,
                            REDIS => $redis->port,
                            ORDERS => $apps{orders}->port,
                            LEDGER => $apps{ledger}->port });

# The faults, by what they befall; of each kind there is one at a time.  How
# long they last, what they explain, what is done at the begin, at the end, and
# every so often between, and what shows that it strikes: something new in the
# error log, or code that is given the fault and what is new there.  Of the
# clients it is the history.

my $some = qr/\d{20}[0-6]:/;    # seven of ten ids

# What an app does when nothing is wrong: of ten one takes its time, and of a
# hundred one takes longer than the lease.

my @usual = ({ id => qr/\d{20}77:/, delay => $LEASE + 1 },
             { id => qr/\d{20}7:/, delay => 0.3 });

$_->rules(@usual) for values %apps;

my $cut_off = qr/Redis\ (?:closed\ the\ connection|cannot\ be\ connected)
                 |connection\ to\ Redis\ broke/x;
my $broken = qr/(?:reset\ by\ peer\)\ while\ .*|prematurely\ closed\ .*)
                upstream/x;

my %FAULTS = (
    redis => {
        'Redis stops for a moment' => {
            shows => sub { stopped($redis->{pid}) },
            lasts => [ 0.2, 0.8 ], hampers => [ 'main' ],
            begin => sub { $redis->pause }, end => sub { $redis->resume } },
        'Redis stops' => {
            shows => qr/Redis did not answer in time/,
            lasts => [ 5, 6 ], hampers => [ 'main' ],
            begin => sub { $redis->pause }, end => sub { $redis->resume } },
        'Redis is killed, and comes back empty' => {
            shows => $cut_off,
            lasts => [ 0.1, 2 ], hampers => [ 'main' ], forgets => [ 'main' ],
            begin => sub { $redis->kill }, end => sub { $redis->restart } },
        'Redis is flushed' => {
            shows => sub { $_[0]{records} },
            lasts => [ 0, 0 ], forgets => [ 'main' ],
            begin => sub {
                $_[1]{records} = $redis->command('DBSIZE');
                $redis->command('FLUSHALL');
            } },
        'Redis is read-only' => {
            shows => qr/Redis is a read-only replica/,
            lasts => [ 0.5, 3 ], hampers => [ 'main' ],
            begin => sub { $redis->command(qw(REPLICAOF 127.0.0.1 1)) },
            end => sub { $redis->command(qw(REPLICAOF NO ONE)) } },
        'Redis is out of memory' => {
            shows => qr/Redis is out of memory/,
            lasts => [ 0.5, 3 ], hampers => [ 'main' ],
            begin => sub { $redis->command(qw(CONFIG SET maxmemory 1)) },
            end => sub { $redis->command(qw(CONFIG SET maxmemory 0)) } },
        'Redis is busy with a script' => {
            shows => qr/Redis is busy with a script/,
            lasts => [ 0.5, 2 ], hampers => [ 'main' ],
            begin => sub {
                $_[1]{busy} = aside('EVAL', 'while true do end', 0);
            },
            end => sub { $redis->command(qw(SCRIPT KILL)) } },
        'Redis is loading' => {
            shows => qr/Redis is loading its data/,
            lasts => [ 0.5, 2 ], hampers => [ 'main' ],
            begin => sub { $_[1]{loads} = loading($_[1]{to} - $_[1]{from}) },
            ready => \&answers,
            end => sub { unlink "$redis->{dir}/dump.rdb" } },
        'Redis cuts connections' => {
            shows => $cut_off,
            lasts => [ 0.3, 3 ], hampers => [ 'main' ],
            every => 0.1,
            again => sub { $redis->command(qw(CLIENT KILL TYPE normal)) } },
    },

    app => {
        'an app refuses connections' => {
            shows => qr/111: Connection refused\) while .* upstream/,
            lasts => [ 0.5, 3 ],
            begin => sub { $_[0]->accepting('no'); $_[0]->drop },
            end => sub { $_[0]->accepting('yes') } },
        'an app resets connections' => {
            shows => $broken,
            lasts => [ 0.5, 3 ],
            begin => sub { $_[0]->accepting('reset'); $_[0]->drop },
            end => sub { $_[0]->accepting('yes') } },
        'an app does not read' => {
            shows => qr/the deadline passed/,
            lasts => [ 0.5, 3 ],
            begin => sub { $_[0]->accepting('hang'); $_[0]->drop },
            end => sub { $_[0]->accepting('yes'); $_[0]->drop } },
        'an app is started again' => {
            shows => $broken,
            lasts => [ 0.5, 2 ], every => 0.2, again => sub { $_[0]->drop } },
        rule('an app refuses', 3, status => 500, refuses => 1),
        rule('an app books, fails, and then says that it knows it', [ 2, 4 ],
             status => 409, known => 1),
        rule('an app is busy', 3, status => 503, refuses => 1),
        rule('an app resets', 3, fault => 'reset', refuses => 1),
        rule('an app books, and resets', 3, fault => 'reset'),
        rule('an app books, and never answers', 4, fault => 'hang'),
        rule('an app books, and its answer is cut', 3, body => 'x' x 99,
             cut => 50),
        rule('an app is slow', 4, delay => 2),
        rule('an app drips', 3, every => 0.03),
        rule('an app hangs up after it', 3, hang_up => 1),
    },

    master => {
        'nginx is told to reload each second' => {
            shows => qr/\(SIGHUP\) received from .* reconf/,
            ends_workers => 1, lasts => [ 3, 5 ],
            every => 1, again => sub { $nginx->signal('HUP') } },
        'nginx is upgraded' => {
            shows => sub { $nginx->pid != $_[0]{master} },
            ends_workers => 1, lasts => [ 0.5, 0.5 ],
            forgets => [ 'local' ],
            until => sub { $nginx->upgrading } },

        'the master is killed, and nginx started anew' => {
            shows => sub { !-d "/proc/$_[0]{master}" },
            ends_workers => 1, lasts => [ 0.5, 2 ],
            forgets => [ 'local' ],
            begin => sub { $_[1]{workers} = [ $nginx->lose_master ] },
            end => sub { cut(\&start_anew, @{ $_[1]{workers} }) } },

        # a connection to Redis that is lost then cannot be had again

        'file descriptors run out' => {
            shows => qr/24: Too many open files/,
            ends_workers => 1, lasts => [ 2, 4 ], hampers => [ 'main' ],
            stalls => 1, lingers => $LINGERS,
            begin => sub { files(few()) },
            end => sub { files($FILES) } },
    },

    worker => {
        'workers are killed' => {
            shows => qr/exited on signal 9/,
            ends_workers => 1, lasts => [ 1, 3 ],
            every => 0.4,
            again => sub { cut(\&signal, KILL => worker()) } },
        'a worker stops for a moment' => {
            shows => sub { stopped($_[0]{worker}) },
            lasts => [ 0.2, 0.8 ], stops => 1,
            begin => sub { signal(STOP => $_[1]{worker} = worker()) },
            end => sub { signal(CONT => $_[1]{worker}) } },
        'a worker stops for longer than the lease' => {
            shows => sub { stopped($_[0]{worker}) },
            lasts => [ $LEASE + 1, $LEASE + 2 ], stops => 1,
            begin => sub { signal(STOP => $_[1]{worker} = worker()) },
            end => sub { signal(CONT => $_[1]{worker}) } },
    },

    clients => {
        leaving('clients reset', 'reset all'),
        leaving('clients reset in the middle', 'reset half'),
        leaving('clients close', 'close all'),
        leaving('clients close in the middle', 'close half'),
        leaving('clients are slow', 'slow'),
    },

    clock => {
        'the clock is an hour ahead' => {
            shows => sub { logged_at(time + 3600, $_[1]) },
            lasts => [ 0.5, 3 ],
            begin => sub { clock(3600) }, end => sub { clock(0) } },
        'the clock is an hour behind' => {
            shows => sub { logged_at(time - 3600, $_[1]) },
            lasts => [ 0.5, 3 ],
            begin => sub { clock(-3600) }, end => sub { clock(0) } },
    },

    disk => {
        'the disk is full' => {
            shows => qr/28: No space left on device/,
            lasts => [ 1, 3 ],
            begin => sub { fill() if $small },
            end => sub { unlink "$disk/filler" } },
    },
);


sub rule {
    my ($name, $lasts, %rule) = @_;

    my $path = scratch_dir() . '/' . $name =~ tr/ /-/r;

    return ($name => { lasts => ref $lasts ? $lasts : [ 0.5, $lasts ],
                       shows => sub { -e $path },
                       begin => sub {
                           $_[0]->rules({ id => $some, tells => $path, %rule },
                                        @usual);
                       },
                       end => sub { $_[0]->rules(@usual) } });
}


sub leaving {
    my ($name, $how) = @_;

    return ($name => { lasts => [ 0.5, 3 ], leaves => $how });
}


sub worker {
    my @workers = $nginx->workers;

    return $workers[ rand @workers ];
}


# The workers that are left have the sockets: they are told to end, even one
# that was stopped, before another nginx can have them.

sub start_anew {
    my (@workers) = @_;

    $nginx->signal($_->[0], $_->[1])
        for map { my $pid = $_; map { [ $_, $pid ] } qw(QUIT CONT) } @workers;

    # longest takes who gives up a commit and has a delivery under way yet

    my @living;

    wait_until(sub {
        @living = grep { read_file("/proc/$_/cmdline") =~ /worker process\0*$/ }
                       @workers;
        return !@living;
    }, 20) or die "they do not end: ", join "\n", map { describe($_) } @living;

    $nginx->start;
    return;
}


sub stopped {
    my ($pid) = @_;

    return $pid && read_file("/proc/$pid/status") =~ /^State:\s+T/m;
}


# Is in the lines one of that hour?

sub logged_at {
    my ($time, $lines) = @_;

    return index($lines, strftime('%Y/%m/%d %H:', localtime $time)) >= 0;
}


# Says it to Redis, and does not wait for the reply.

sub aside {
    my (@words) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $redis->port)
        or die "redis: $!\n";

    syswrite $socket, resp_command(@words);
    return $socket;
}


# Does what ends connections; they end then, and at no other time.

sub cut {
    my ($code, @arguments) = @_;

    my $at = now();

    $code->(@arguments);
    $history->note(fault => name => 'connections end', at => $at,
                   until => now(), cuts => 1);
    return;
}


sub answers {
    my $pong = eval { $redis->command('PING') };

    die $@ if $@ =~ /$TOO_LONG/;
    return $pong;
}


# Writes all it has to a file, and reads it, which takes about so long.

sub loading {
    my ($seconds) = @_;

    my $each = 1 + int 1e6 * $seconds / (1 + $redis->command('DBSIZE'));

    $redis->command(qw(CONFIG SET key-load-delay), $each,
                    'loading-process-events-interval-bytes', 1024);
    return aside(qw(DEBUG RELOAD));
}


# To a worker, if there is one: it is not meant for the master.

sub signal {
    my ($name, $pid) = @_;

    $nginx->signal($name, $pid) if $pid;
    return;
}


sub files {
    my ($n) = @_;

    $nginx->{vars}{FILES} = $n;
    $nginx->write_file('nginx.conf', $nginx->{conf});
    $nginx->signal('HUP');
    return;
}


# Enough for a worker to begin, which has those of the master, and five beside
# them for Redis, clients and apps.

sub few {
    return 10 + (() = glob '/proc/' . $nginx->pid . '/fd/*');
}


# The wall clock of nginx.

sub clock {
    my ($seconds) = @_;

    my $path = scratch_dir() . '/clock';

    write_file("$path.new", sprintf "%+d\n", $seconds);
    rename "$path.new", $path or die "$path: $!\n";
    return;
}


# The logs may not do it by themselves.

sub empty_logs {
    truncate $_, 0 for grep { -s > 1 << 20 } glob "$disk/*.log";
    return;
}


sub fill {
    open my $file, '>', "$disk/filler" or return;

    for my $size (65536, 512, 1) {
        1 while syswrite $file, 'x' x $size;
    }

    return;
}


# The faults of a seed, by time.  They are dealt like cards, so that each comes
# before one comes again; and dealt anew until each comes at all, if there is
# time for it.

sub schedule {
    my %kinds = map { $_ => 1 }
                    grep { /$only/ } map { keys %$_ } values %FAULTS;
    my @faults;

    srand $seed;

    for (1 .. 10_000) {
        my %dealt = map { $_->{name} => 1 } @faults = dealt();

        last if $seconds < $ALL || keys %dealt == keys %kinds;
    }

    return sort { $a->{from} <=> $b->{from} } @faults;
}


sub dealt {
    my @deck;
    my @faults;
    my $at = 2;

    while ($at < $seconds - 8) {
        my (%struck, $end);

        for (1 .. 1 + int rand 3) {
            my ($i) = grep { !$struck{ $deck[$_][0] } } 0 .. $#deck;

            if (!defined $i) {
                push @deck, shuffle map {
                    my $kind = $_;
                    map { [ $kind, $_ ] } grep { /$only/ }
                        sort keys %{ $FAULTS{$kind} }
                } sort keys %FAULTS;
                ($i) = grep { !$struck{ $deck[$_][0] } } 0 .. $#deck;
            }

            last if !defined $i;

            my ($kind, $name) = @{ splice @deck, $i, 1 };
            my $fault = $FAULTS{$kind}{$name};

            next if $fault->{ends_workers} && $at >= $calm;
            my ($least, $most) = @{ $fault->{lasts} };
            my $from = $at + rand 1;
            my $to = $from + $least + rand($most - $least);

            $struck{$kind} = 1;
            push @faults, { %$fault, name => $name, kind => $kind,
                            from => $from, to => $to,
                            app => (sort keys %apps)[ rand 2 ] };
            $end = max($to, $end // 0);
        }

        $at = ($end // $at) + rand 0.5;
    }

    push @faults, { %{ $FAULTS{app}{'an app books, and never answers'} },
                    name => 'an app books, and never answers',
                    kind => "app $_->[1]", app => $_->[1],
                    from => $_->[0], to => $_->[0] + 7 }
        for map { my $n = $_;
                  map { [ $calm + 1 + $n * $lived / 20, $_ ] } sort keys %apps
        } $calm < $seconds ? 0 .. 2 : ();

    return @faults;
}


# What nginx' processes weigh: KiB that are their own, and how many files they
# have open beside connections, of which the least counts, for a temporary one
# may be among them.  First is the second minute of five of the last part.

my %weighed;
my %peers = map { $_->port => 1 } $redis, values %apps;

sub look {
    my ($at) = @_;

    for my $pid ($nginx->pid, $nginx->workers) {
        my $of = $weighed{$pid} //= { most => 0 };
        my $size = private_memory($pid);

        $of->{most} = max($of->{most}, $size);

        next if $at < $calm + $lived / 5 || $at > $calm + $lived * 2 / 5;

        my $now = weight($pid);

        $of->{first}{$_} = max($of->{first}{$_} // 0, $now->{$_})
            for qw(size connections);
        $of->{first}{files} = min($of->{first}{files} // 9e9, $now->{files});
    }

    return;
}


sub weight {
    my ($pid) = @_;

    my @open = open_files($pid);
    my @connections = grep { ref } @open;
    my @files = grep { !ref } @open;

    return { size => private_memory($pid), files => scalar @files,
             connections => scalar @connections,
             astray => [ grep { !$peers{ $_->{remote} }
                                || $_->{state} ne 'ESTABLISHED' }
                              @connections ] };
}


# At rest, when no delivery is under way any more.

sub worn {
    my %master = ($nginx->pid => 1);
    my @rows;

    return if $calm == $seconds;

    wait_until(sub {
        !grep { @{ weight($_)->{astray} } } $nginx->workers;
    }, 10);

    for my $pid ($nginx->pid, $nginx->workers) {
        my $first = $weighed{$pid}{first};
        my $last = weight($pid);

        next if !$first || age($pid) < $lived;

        my $name = ($master{$pid} ? 'master ' : 'worker ') . $pid;

        push @rows, [ $name, sprintf('%d', age($pid)), $first->{size},
                      $weighed{$pid}{most}, $last->{size},
                      int $first->{size} * 1.05 + $SLACK,
                      map { $_->{files}, $_->{connections} } $first, $last ];

        cmp_ok($last->{size}, '<=', $first->{size} * 1.05 + $SLACK,
               "$name: has not grown");
        cmp_ok($last->{files}, '<=', $first->{files},
               "$name: no more files open");
        is_deeply($last->{astray}, [],
                  "$name: only connections to who is there");
    }

    note(sprintf '%-16s %6s %7s %7s %7s %8s %6s %6s %6s %6s', @$_)
        for [ '', '', 'KiB', '', '', '', 'first', '', 'last', '' ],
            [ '', 's old', 'first', 'most', 'last', 'may have',
              ('files', 'conns') x 2 ],
            @rows;

    cmp_ok(scalar(grep { $_->[0] =~ /^worker/ } @rows), '>=', $WORKERS,
           "as many workers as there are have lived $lived s");
    return;
}


# What is sent next, in the stream's own process: mostly a refund, one of
# several of an order, as a notify of either version, or of both.

my %orders;

sub refunds {
    my ($name) = (sort keys %shops)[ rand 3 ];
    my $shop = $shops{$name};
    my $order = $orders{$name};
    my $number = RefundNotify::Test::WeChatPay::number();

    if (!$order || $order->{left} < 100 || rand() < 0.3) {
        my $total = 1000 + int rand 100_000;

        $order = $orders{$name} = {
            total => $total, left => $total,
            same => { transaction_id => "42000002152$number",
                      out_trade_no => "7110$number" } };
    }

    my $refund = 1 + int rand $order->{left};

    $order->{left} -= $refund;

    my %same = (%{ $order->{same} }, refund_id => "503004089420$number",
                out_refund_no => "1318$number",
                -status => (('SUCCESS') x 10, qw(CLOSED ABNORMAL))[ rand 12 ]);

    # a signature of v3 costs the test more than all the rest of a notify

    my @versions = rand() < 0.1 && $same{-status} ne 'ABNORMAL'
                   ? qw(v2 v3) : (qw(v2 v2 v3))[ rand 3 ];
    my @turns = map {
        turn($name, notify($_, $shop, $order->{total}, $refund, %same), $refund)
    } @versions;

    push @turns, forged($name, $order->{total}, $refund + 1, %same)
        if rand() < 0.1;

    # now and then many that are identical, at once

    push @turns, map { +{ %{ $turns[0] } } } 1 .. 19 if rand() < 0.005;

    return @turns;
}


sub notify {
    my ($version, $shop, $total, $refund, %option) = @_;

    return $version eq 'v2'
           ? $pay->v2_notify($shop, total_fee => $total, refund_fee => $refund,
                             settlement_total_fee => $total,
                             settlement_refund_fee => $refund, %option)
           : $pay->v3_notify($shop, amount => {
                                 total => $total, refund => $refund,
                                 payer_total => $total,
                                 payer_refund => $refund }, %option);
}


sub turn {
    my ($name, $notify, $refund, %option) = @_;

    return { notify => $notify, shop => $shops{$name},
             path => $to{$name}{path}, ladder => \@LADDER,
             noted => { amount => $refund, genuine => 1,
                        store => $to{$name}{store},
                        targets => $to{$name}{targets} }, %option };
}


# One that asks for more, of the same refund or of one that there is not.

sub forged {
    my ($name, $total, $refund, %same) = @_;

    # the clock of nginx may be an hour slow

    my $stale = time - 2 * 3600;
    my $shop = $shops{$name};
    my ($other) = grep { $_ ne $name } sort keys %shops;
    my @forged = (
        sub { notify(v2 => $shop, @_, -key => 'x' x 32) },
        sub { notify(v2 => $shop, @_, -req_info => 'AAAAAAAAAAAAAAAAAAAAAA==')
        },
        sub { notify(v2 => $shops{$other}, @_) },
        sub { notify(v3 => $shop, @_, -signing_key => rsa_key('forger')) },
        sub { notify(v3 => $shop, @_, -timestamp => $stale) },
        sub { notify(v3 => $shop, @_, -probe => 1) },
        sub { notify(v3 => $shop, @_, -key => 'x' x 32) },
        sub { notify(v3 => $shops{$other}, @_) },
    );

    delete @same{ 'refund_id', 'out_refund_no' } if rand() < 0.5;

    my $turn = turn($name, $forged[ rand @forged ]->($total, $refund, %same),
                    $refund, forged => 1, ladder => []);

    $turn->{noted}{genuine} = 0;
    return $turn;
}


my @faults = schedule();
my $start = now();

srand $seed;
note("seed $seed, $seconds s, $rate events a second");

my @streams = map {
    RefundNotify::Test::Stream->new(
        seed => $seed + $_,
        pay => $pay, clients => [ client($nginx) ], history => $history,
        every => $STREAMS / $rate, patience => $PATIENCE, most => 200,
        make => \&refunds, spare => $SPARE, signed => 60,
        leaves => sub {
            my $at = now() - $start;
            my ($fault) = grep { $_->{leaves} && $_->{from} <= $at
                                 && $at <= $_->{to} } @faults;

            return rand() < 0.5 ? $fault->{leaves} : '' if $fault;
            return rand() < 0.02 ? 'reset all' : '';
        })
} 1 .. $STREAMS;

my @active;
my @left = @faults;
my (@watched, %shown);

open my $error_log, '<', $nginx->path('error.log') or die "error.log: $!\n";
seek $error_log, 0, 2;

my $look = 0;

while (@left || @active || @watched || now() < $start + $seconds) {
    my $at = now() - $start;

    # What is over ends before another of its kind begins.

    for my $fault (@active) {
        my @whom = ($apps{ $fault->{app} }, $fault);

        if ($fault->{every} && $fault->{next} <= $at && $at < $fault->{to}) {
            $fault->{again}->(@whom);
            $fault->{next} += $fault->{every};
        }

        die "$fault->{name}: is not over after $OVER s more\n"
            if $at > $fault->{to} + $OVER;

        # another may keep it from what it does

        next if $at < $fault->{to}
                || $fault->{ready} && !$fault->{ready}->()
                || $fault->{shows} && !$shown{ $fault->{name} }
                   && $at < $fault->{to} + $HIDDEN;

        $fault->{end}->(@whom) if $fault->{end};
        $fault->{over} = 1;

        $history->note(fault => at => $fault->{at},
                       until => now() + ($fault->{lingers} // 0),
                       map { $_ => $fault->{$_} }
                           grep { defined $fault->{$_} }
                                qw(name forgets hampers stops stalls));
    }

    @active = grep { !$_->{over} } @active;

    # what it does may be told a little later

    my $new = do { local $/; readline $error_log } // '';

    seek $error_log, 0, 1;

    for my $fault (@watched) {
        my $shows = $fault->{shows};

        $shown{ $fault->{name} } = 1
            if ref $shows eq 'CODE' ? $shows->($fault, $new) : $new =~ $shows;
    }

    @watched = grep { !$shown{ $_->{name} }
                      && (!$_->{over} || $at < $_->{to} + $LINGERS) }
                    @watched;

    # nobody knows the workers of a master that is gone

    while (@left && $left[0]{from} <= $at
           && !grep({ $_->{kind} eq $left[0]{kind} } @active)
           && ($left[0]{kind} ne 'worker' || worker()))
    {
        my $fault = shift @left;

        $fault->{to} += $at - $fault->{from};
        $fault->{from} = $at;

        note(sprintf '%6.2f s, for %4.2f s: %s%s', @$fault{'from'},
             $fault->{to} - $fault->{from}, $fault->{name},
             $fault->{name} =~ /^an app/ ? " ($fault->{app})" : '');

        push @watched, $fault if $fault->{shows};
        $fault->{master} = $nginx->pid;
        $fault->{at} = now();
        $fault->{begin}->($apps{ $fault->{app} }, $fault) if $fault->{begin};
        $fault->{ready} = $fault->{until}->() if $fault->{until};
        $fault->{next} = $at;
        push @active, $fault;
    }

    empty_logs() if !-e "$disk/filler";

    if ($calm < $seconds && $at >= $look) {
        look($at);
        $look = $at + $LOOKS;
    }

    sleep 0.02;
}

$_->ebb for @streams;
ok($_->finish(150), 'the ladder has run out') for @streams;

my $found = $history->check(lease => $LEASE, timeout => $TIMEOUT,
                            retry => $RETRY, deadline => $DEADLINE,
                            slack => $LATE, stores => [ 'main', 'local' ]);

note($_) for split /\n/, $history->table($found);
note(sprintf 'seed %d, %.0f events a second', $seed,
     $found->{events} / $seconds);

my %struck = map { $_->{name} => $_ } @faults;
my %cannot;

$cannot{'the disk is full'} = 'no disk can be mounted here that could be full'
    if !$small;

if (!$faketime && !$ENV{CI}) {
    $cannot{$_} = 'no libfaketime is here' for keys %{ $FAULTS{clock} };
}

is(join(', ', grep { !$struck{$_} }
              map { sort keys %$_ } @FAULTS{ sort keys %FAULTS }), '',
   'there was each kind of fault') if $only eq '.' && $seconds >= $ALL;

SKIP: for my $name (sort keys %struck) {
    skip("$name: $cannot{$name}", 1) if $cannot{$name};

    ok($shown{$name} || $found->{leaves}{ $struck{$name}{leaves} // '' },
       "it struck: $name");
}

for (violations()) {
    my @examples = grep { defined } @{ $found->{$_} }[0 .. 4];

    is(join(', ', @examples), '', "none: $_")
        or diag(join "\n", "seed $seed", $history->lines(map { /(\d{20,})/ }
                                                             @examples));
}

worn();

cmp_ok($found->{events}, '>=', $ENV{CHAOS_EVENTS} || $rate * $seconds / slow(2),
       'under load indeed');
cmp_ok($found->{$_}, '>', 0, "there were some: $_") for qw(forged again);

$nginx->allow(qr/\[alert\] .* worker process \d+ exited on signal 9/,
              qr/\[alert\] .* shared memory zone "\S+" was locked by/,
              qr/\(24: Too many open files\)/,
              qr/\(28: No space left on device\)/,
              qr/\[alert\] .* write\(\) to "[^"]*" was incomplete/,

              # nginx' own, when descriptors run out: it cannot be handed one
              # by the master; and a worker that waits for one to accept with
              # tries once more when its sockets are closed already

              qr/\[alert\] .* recvmsg\(\) (?:truncated|returned invalid anc)/,
              qr/\[alert\] .* accept4\(\) failed \(9: Bad file descriptor\)/);
no_secrets($nginx, map { $pay->secrets($_) } values %shops);

done_testing;
