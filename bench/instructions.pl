#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# Counts the instructions of a notify with callgrind, which do not hang on what
# else the machine does, and holds them against bench/instructions.txt.
#
#   bench/instructions.pl check     fails where one has grown by more than 5 %,
#                                   or with 1000 merchants by more than 2 %,
#                                   or with refund_status by more than 3 %
#   bench/instructions.pl update    writes the file anew
#   bench/instructions.pl profile   prints the most expensive functions
#
# BENCH_BUILD has the driver (instructions), the generator (notifies) and keys.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

use lib dirname(__FILE__) . '/../t/lib', dirname(__FILE__) . '/lib';

use RefundNotify::Bench::Callgrind qw(read_counts under_callgrind write_counts);
use RefundNotify::Bench::Measure qw(bench_dir key requests send_all);
use RefundNotify::Bench::Merchants qw(more_merchants fresh_counts
                                      MERCHANTS_FLAT);
use RefundNotify::Test ();
use RefundNotify::Test::Nginx ();
use RefundNotify::Test::Redis ();
use RefundNotify::Test::Util qw(scratch_dir read_file write_file);

# Functions with fewer instructions a notify are added up, for 5 % of them are
# no more than a branch.

use constant { LEAST => 100, GROWTH => 1.05, RUNS => 20, REQUESTS => 50,
               STATUS => 1.03 };

# The worker that takes the notifies, and the business app.

my $conf = <<'END';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%
    access_log off;

    refund_merchant shop {
        mch_id               1900000109;
        api_v2_key_file      %%KEYS%%/v2.key;
        api_v3_key_file      %%KEYS%%/v3.key;
        wechatpay_public_key %%SERIAL%% %%KEYS%%/wechatpay.pem;
    }

    %%MERCHANTS%%

    refund_store shm   shm:10m;
    refund_store redis redis://127.0.0.1:%%REDIS%%;

    upstream business {
        server 127.0.0.1:%%BUSINESS%%;
        keepalive 32;
    }

    server {
        listen 127.0.0.1:%%PORT_shm%%;

        refund_notify_store shm;
        refund_notify_clock_skew 1h;

        location = /wechatpay/refund-notify {
            refund_notify      shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://business;
            include    %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_merchants%%;

        set $merchant shop;

        refund_notify_store shm;
        refund_notify_clock_skew 1h;

        %%STATUS%%

        location = /wechatpay/refund-notify {
            refund_notify      $merchant;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://business;
            include    %%ROOT%%/conf/refund_delivery.conf;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_redis%%;

        refund_notify_store redis;
        refund_notify_clock_skew 1h;

        location = /wechatpay/refund-notify {
            refund_notify      shop;
            refund_notify_pass /internal/refunds;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://business;
            include    %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
END

my $business_conf = <<'END';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%
    access_log off;

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            return 200;
        }
    }
}
END

# kind of notify, server, how often each is sent; what answers it

my @worker = (
    [ 'v2, shm, fresh', 'v2', 'shm', 1 ],
    [ 'v2, shm, duplicate', 'v2', 'shm', 2 ],
    [ 'v2, Redis, fresh', 'v2', 'redis', 1 ],
    [ 'v2, Redis, duplicate', 'v2', 'redis', 2 ],
    [ 'v3, shm, fresh', 'v3', 'shm', 1 ],
    [ 'v3, shm, duplicate', 'v3', 'shm', 2 ],
    [ 'v3, Redis, fresh', 'v3', 'redis', 1 ],
    [ 'v3, Redis, duplicate', 'v3', 'redis', 2 ],
    [ 'v2, under another key', 'v2-other-key', 'shm', 1 ],
    [ 'v2, without req_info', 'v2-no-req-info', 'shm', 1 ],
    [ 'v3, forged signature', 'v3-forged', 'shm', 1 ],
    [ 'v3, unknown serial', 'v3-other-serial', 'shm', 1 ],
);

my $root = abs_path(dirname(__FILE__) . '/..');
my $build = abs_path(bench_dir());
my $file = "$root/bench/instructions.txt";
my $command = shift // '';

my ($redis, $business);

$command =~ /^(?:check|update|profile)$/
    or die "usage: $0 check|update|profile\n";

exit main();


sub main {
    my $versions = versions();
    my ($known, $known_versions) = read_known();

    if ($command eq 'check' && $versions ne $known_versions) {
        print "bench-instructions: skipped, for the counts are of other",
              " versions:\n    $known_versions\n    and here are\n",
              "    $versions\n";
        return 0;
    }

    $redis = RefundNotify::Test::Redis->new;
    $business = RefundNotify::Test::Nginx->new(conf => $business_conf,
                                               module => 0)->start;

    my @scenarios = (driver(), worker());

    return profile(@scenarios) if $command eq 'profile';

    return update($versions, map { rows($_) } @scenarios)
        if $command eq 'update';

    my @wrong = (check($known, map { rows($_, $known) } @scenarios),
                 many_merchants(), counters());

    print @wrong, 'bench-instructions: ', @wrong ? 'FAILED' : 'passed', "\n";

    return @wrong ? 1 : 0;
}


# What decides how many instructions the same source takes.

sub versions {
    my $family = qx(\${CC:-cc} --version) =~ /clang/ ? 'clang' : 'gcc';

    # clang knows only the one, of which gcc tells no more than the first number

    my $option = $family eq 'clang' ? '-dumpversion' : '-dumpfullversion';

    chomp(my $compiler = qx(\${CC:-cc} $option));

    my @packages = split /\n/,
        qx(dpkg-query -W -f '\${Package} \${Version}\n' libc6 libhiredis0.14 \\
           libjansson4 libssl3 libxml2 nginx valgrind 2>/dev/null);

    # Debian's own revisions, and a binary's, are no other version

    s/^(\S+) (?:\d+:)?(.*?)(?:[-+~].*)?$/$1 $2/ for @packages;

    my $avx2 = read_file('/proc/cpuinfo') =~ /^flags.*\bavx2\b/m;

    return join ', ', "$family $compiler", @packages,
                $avx2 ? 'a processor with AVX2' : 'a processor without AVX2';
}


# Each scenario: name, notifies, total, self, inclusive.

sub driver {
    my $driver = "$build/instructions";
    my $out = scratch_dir() . '/driver.out';

    chomp(my @names = qx($driver $build/keys list));

    system('valgrind', '-q', '--tool=callgrind', "--callgrind-out-file=$out",
           '--toggle-collect=bench_measured*', '--dump-after=bench_scenario*',
           $driver, "$build/keys", 'run', RUNS) == 0
        or die "$driver failed under valgrind\n";

    my $n = 0;

    return map {
        $n++;
        [ "wechatpay: $_", RUNS,
          read_counts("$out.$n", wanted(qr/^\Q$driver\E$/)) ]
    } @names;
}


sub wanted {
    return $command eq 'profile' ? undef : $_[0];
}


sub start_worker {
    my ($out, $merchants, $status) = @_;

    return RefundNotify::Test::Nginx->new(
        conf => $conf, log_level => 'warn', patience => 300,
        vars => { KEYS => "$build/keys", REDIS => $redis->port,
                  BUSINESS => $business->port, SERIAL => key('serial'),
                  MERCHANTS => more_merchants($merchants - 1),
                  STATUS => $status // '' },
        under => under_callgrind($out))->start;
}


sub worker {
    my $out = scratch_dir() . '/worker.out';
    my $nginx = start_worker($out, 1);
    my $dumps = 0;
    my $first = 1;

    my $dump = sub {
        return write_counts($nginx, $nginx->port('shm'), "$out." . ++$dumps);
    };

    my $module = RefundNotify::Test::Nginx::module_path();
    my @counts;

    for my $scenario (@worker) {
        my ($name, $kind, $server, $times) = @$scenario;

        # the first of them open connections, and make what is made once

        my @requests = requests($kind, $first, 10 + REQUESTS);
        my $connection = RefundNotify::Test::Client->new(
            port => $nginx->port($server))->connect;

        $first += @requests;

        send_all($connection, \@requests) if $times == 2;
        send_all($connection, [ @requests[0 .. 9] ]);
        $dump->();
        my $answers = send_all($connection, [ @requests[10 .. $#requests] ]);
        my $counts = $dump->();

        my $wrong = $kind =~ /-/ ? qr/SUCCESS/ : qr/FAIL/;
        die "$name: $answers\n" if $answers =~ $wrong;

        push @counts, [ "worker: $name", REQUESTS,
                        read_counts($counts, wanted(qr/^\Q$module\E$/)) ];
        $connection->close;
    }

    stop($nginx);

    return @counts;
}


# Lines that say where the lookup of a merchant takes longer among many.

sub many_merchants {
    my (%first, @missed);

    for my $count (1, 1000) {
        my $out = scratch_dir() . "/merchants-$count.out";
        my $nginx = start_worker($out, $count);
        my %each = fresh_counts($nginx, $nginx->port('merchants'), $out);

        stop($nginx);

        for my $kind (sort keys %each) {
            my $before = $first{$kind} //= $each{$kind};

            push @missed, sprintf "bench-instructions: %s with %d merchants:"
                                  . " %.0f -> %.0f, more than 2 %%\n", $kind,
                                  $count, $before, $each{$kind}
                if $each{$kind} > MERCHANTS_FLAT * $before;
        }
    }

    return @missed;
}


# Lines that say where refund_status makes a notify dearer than it may.

sub counters {
    my (@each, @missed);

    for my $status ('', 'location = /status { refund_status; }') {
        my $out = scratch_dir() . '/status-' . @each . '.out';
        my $nginx = start_worker($out, 1, $status);

        push @each, { fresh_counts($nginx, $nginx->port('merchants'), $out) };
        stop($nginx);
    }

    for my $kind (sort keys %{ $each[0] }) {
        my ($without, $with) = map { $_->{$kind} } @each;

        printf "bench-instructions: refund_status, %s: %.0f -> %.0f,"
               . " %+.2f %%\n", $kind, $without, $with,
               100 * ($with / $without - 1);

        # fewer than without are none that were counted

        push @missed, sprintf "bench-instructions: refund_status, %s: not"
                              . " between 0 and 3 %% more\n", $kind
            if $with <= $without || $with > STATUS * $without;
    }

    return @missed;
}


sub stop {
    my ($nginx) = @_;

    $nginx->stop;
    die "$_\n" for $nginx->problems;

    return;
}


# Those that are compared are those of the file: what is new is of the rest.

sub rows {
    my ($scenario, $known) = @_;

    my ($name, $count, $total, $self) = @$scenario;
    my $others = 0;
    my @rows;

    for my $function (sort keys %$self) {
        my $each = $self->{$function} / $count;

        # of the driver its own are not the module's, of the worker those of
        # src/wechatpay are counted above

        next if $function =~ ($name =~ /^worker/ ? qr/^wechatpay_/
                                                 : qr/^(?!wechatpay_)/);

        if ($known ? $known->{"$name\t$function"} : $each >= LEAST) {
            push @rows, [ $name, $function, $each ];

        } else {
            $others += $each;
        }
    }

    # another path, or an object without symbols

    die "$name: nothing of ours was counted\n" if !@rows && !$others;

    return ([ $name, 'all, with libraries', $total / $count ], @rows,
            [ $name, 'the rest of ours', $others ]);
}


sub read_known {
    my (%known, $versions);

    for (split /\n/, read_file($file)) {
        next if /^#/ || !length;

        my ($name, $function, $count) = split /\t/;

        if ($name eq 'versions') {
            $versions = $function;

        } else {
            $known{"$name\t$function"} = $count;
        }
    }

    return (\%known, $versions // 'none');
}


sub update {
    my ($versions, @rows) = @_;

    write_file($file, join '',
        "# Instructions of a notify, as callgrind counts them: make",
        " bench-instructions\n",
        "# compares them, make bench-instructions-update writes them.  Those",
        " of a\n",
        "# function are its own, without what it calls.\n\n",
        "versions\t$versions\n\n",
        map { sprintf("%s\t%s\t%.0f\n", @$_) } @rows);

    print "bench-instructions: $file was written\n";

    return 0;
}


# Lines that say what is wrong.

sub check {
    my ($known, @rows) = @_;

    my (@grown, @fallen);

    for my $row (@rows) {
        my ($name, $function, $count) = @$row;
        my $before = delete $known->{"$name\t$function"};
        my $line = sprintf '    %-36s %-46s %8s -> %.0f', $name, $function,
                           $before // 'new', $count;

        if ($count > GROWTH * ($before // 0) + 1) {
            push @grown, $line;

        } elsif (GROWTH * $count + 1 < $before // 0) {
            push @fallen, $line;
        }
    }

    print join "\n", 'bench-instructions: fallen by more than 5 %:', @fallen,
                     '' if @fallen;

    # what is not there any more is as if it were compared

    my @gone = map { '    ' . s/\t/, /r } sort keys %$known;

    return ((map { "$_\n" }
                 @grown ? ('bench-instructions: grown by more than 5 %:',
                           @grown) : (),
                 @gone ? ('bench-instructions: gone:', @gone) : (),
                 @grown || @gone
                 ? '    If that is what it is: make'
                   . ' bench-instructions-update, and commit it.' : ()));
}


sub profile {
    for my $scenario (@_) {
        my ($name, $count, $total, $self, $inclusive) = @$scenario;
        my @functions = sort { $self->{$b} <=> $self->{$a} } keys %$self;

        printf "%s: %.0f instructions a notify\n%10s %10s\n", $name,
               $total / $count, 'self', 'inclusive';

        printf "%10.0f %10.0f  %s\n", $self->{$_} / $count,
               $inclusive->{$_} / $count, $_
            for grep { defined } @functions[0 .. 39];

        print "\n";
    }

    return 0;
}
