package RefundNotify::Test::Nginx;

# An nginx in a scratch directory, and what its logs may say.
#
#   $nginx = RefundNotify::Test::Nginx->new(
#       conf => $text,             nginx.conf, see the placeholders
#       vars => { NAME => value }, more placeholders
#       files => { name => text }, more files, with placeholders as well
#       module => 0,               without our module
#       log_level => 'info',       of error_log; REFUND_NOTIFY_LOG overrides
#       patience => 20,            s that it may take to start, and to stop
#       daemon => 1,               in the background, as upgrade() needs it
#       under => [ command ],      in one process, as that command's argument
#       preload => [ path ],       shared objects that are loaded before it
#       environment => { NAME => value },   of a new binary, too
#       allow => [ qr//, ... ])    lines of error.log that are expected here
#
# Placeholders: %%NAME%% is vars' value; %%DIR%% the directory, %%ROOT%% the
# project's; %%PORT%% or %%PORT_x%% a free port, the same at every place;
# %%GLOBALS%% stands at the head of nginx.conf (user, pid, error_log,
# load_module), %%HTTP%% at the head of its http block (where temporary files
# and access.log go).  The module is
# REFUND_NOTIFY_MODULE or build/ngx_http_refund_notify_module.so; the server is
# REFUND_NOTIFY_NGINX or the nginx found.
#
#   start                          until it listens; dies if it does not
#   stop                           SIGQUIT, waits; false if it had to be killed
#   lose_master                    SIGKILL to the master alone; the pids of its
#                                  workers, which go on
#   reload(wait => 0)              SIGHUP, waits until the new workers are there
#                                  and (unless wait => 0) the old ones gone;
#                                  false if nginx refused the configuration
#   upgrade                        USR2, WINCH, QUIT: a new binary, waits
#                                  until the old processes are gone
#   upgrading                      the same without waiting: code that is called
#                                  until it returns true
#   workers                        the pids of the workers that take requests
#   processes                      those of all that the master has started
#   signal($name, $pid)            to the master, or to $pid
#   config_test($conf)             nginx -t: (exit code, messages)
#   write_file($name, $text, $mode)   with placeholders; its path
#   port($name), dir, path($name)
#   error_log, access_log          what they hold
#   wait_for_log($file, qr//, $seconds)   true once a line matches
#   logged($n)                     what notify.log has behind "$n|" at the begin
#                                  of a line, which it waits for: of the request
#                                  ?n=$n where log_format begins with "$arg_n|"
#   log_lines($file, $n)           what is new in a log since the last time, of
#                                  which it waits for n lines
#   allow(qr//, ...)               more lines of error.log are expected
#   leaks(@secrets)                which of these strings are in a log
#   problems                       what is wrong: lines of error.log, reports of
#                                  the sanitizers, core files
#   finish                         stop, and one test that there are none
#
# REFUND_NOTIFY_SANITIZE=1 preloads the sanitizers' libraries for a module built
# with them; REFUND_NOTIFY_VALGRIND=1 runs nginx in one process under valgrind.

use strict;
use warnings;

use Test::Builder;

use Cwd ();
use File::Basename ();
use POSIX ();
use RefundNotify::Test::Process qw(describe);
use RefundNotify::Test::Util
    qw(scratch_dir free_port slow wait_until read_file spawn stop_process adopt
       disown adopt_orphans);

my $root = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../../..');
my $owner = $$;
my $count = 0;
my @unfinished;

my $bad = qr/\[(?:alert|crit|emerg)\]
             | exited\ on\ signal | exited\ with\ code\ [1-9]
             | open\ socket | Sanitizer | runtime\ error/x;


sub new {
    my ($class, %option) = @_;

    my $self = bless { module => 1, ports => {}, stopped => 1,
                       dir => scratch_dir() . '/nginx-' . ++$count,
                       log_level => 'info', allow => [], patience => 20,
                       %option }, $class;

    mkdir $self->{dir} or die "$self->{dir}: $!\n";
    $self->{log_level} = $ENV{REFUND_NOTIFY_LOG} || $self->{log_level};

    while (my ($name, $text) = each %{ $option{files} || {} }) {
        $self->write_file($name, $text, 0600);
    }

    $self->write_file('nginx.conf', $option{conf}) if defined $option{conf};

    push @unfinished, $self;
    return $self;
}


sub root { return $root }
sub dir { return $_[0]{dir} }
sub path { return "$_[0]{dir}/$_[1]" }
sub pid { return $_[0]{pid} }
sub error_log { return read_file($_[0]->path('error.log')) }
sub access_log { return read_file($_[0]->path('access.log')) }


sub port {
    my ($self, $name) = @_;

    return $self->{ports}{ $name // '' } //= free_port();
}


sub write_file {
    my ($self, $name, $text, $mode) = @_;

    my $path = $name =~ m{^/} ? $name : $self->path($name);

    for my $dir (grep { !-d } File::Basename::dirname($path)) {
        mkdir $dir or die "$dir: $!\n";
    }

    return RefundNotify::Test::Util::write_file($path, $self->expand($text),
                                                $mode);
}


sub expand {
    my ($self, $text) = @_;

    # a value may hold placeholders itself

    1 while $text =~ s/%%(\w+)%%/$self->_placeholder($1)/ge;

    return $text;
}


sub _placeholder {
    my ($self, $name) = @_;

    my $vars = $self->{vars} || {};

    return $vars->{$name} if defined $vars->{$name};
    return $self->{dir} if $name eq 'DIR';
    return $root if $name eq 'ROOT';
    return $self->port($1) if $name =~ /^PORT(?:_(\w+))?$/;
    return $self->_globals if $name eq 'GLOBALS';

    if ($name eq 'HTTP') {
        return join "\n    ", "access_log $self->{dir}/access.log;",
                    map { "${_}_temp_path $self->{dir}/$_;" }
                        qw(client_body proxy fastcgi uwsgi scgi);
    }

    die "%%$name%% in nginx.conf is unknown\n";
}


sub _globals {
    my ($self) = @_;

    my @lines = ("pid $self->{dir}/nginx.pid;",
                 "error_log $self->{dir}/error.log $self->{log_level};");

    push @lines, 'user root;' if $> == 0;
    push @lines, 'load_module ' . module_path() . ';' if $self->{module};
    push @lines, 'daemon off;' if !$self->{daemon};
    push @lines, 'master_process off;'
        if $ENV{REFUND_NOTIFY_VALGRIND} || $self->{under};

    push @lines, map { "env $_;" } sort keys %{ $self->{environment} || {} };

    if ($ENV{REFUND_NOTIFY_SANITIZE}) {
        push @lines, map { "env $_;" }
                         qw(LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS);
    }

    return join "\n", @lines;
}


sub module_path {
    my $path = Cwd::abs_path($ENV{REFUND_NOTIFY_MODULE}
                   || "$root/build/ngx_http_refund_notify_module.so");

    -f $path or die "$path is not there: run make first\n";

    return $path;
}


# Was the module built with a hiredis that has TLS?

sub has_tls_to_redis {
    return read_file(module_path()) =~ /\blibhiredis_ssl\b/;
}


sub start {
    my ($self) = @_;

    unlink $self->path('nginx.pid');
    adopt_orphans() if $self->{daemon};

    $self->{stopped} = 0;
    $self->{pid} = spawn($self->_command('nginx.conf', 'error.log'),
                         output => $self->path('output'), cwd => $self->{dir},
                         env => $self->_environment);

    # the one that was started makes another its master, and ends

    if ($self->{daemon}) {
        waitpid $self->{pid}, 0;
        disown($self->{pid});
        $self->{pid} = wait_until(sub { $self->_pid }, 10);
        adopt($self->{pid} // die "nginx does not start:\n",
              read_file($self->path('output')), $self->error_log);
    }

    # it writes the pid when its sockets listen, and then starts the workers

    my $workers = $self->_configured_workers;

    my $up = wait_until(sub {
        return 1 if -s $self->path('nginx.pid') && $self->workers >= $workers;
        return waitpid($self->{pid}, POSIX::WNOHANG()) ? -1 : 0;
    }, $self->{patience});

    if (($up // 0) != 1) {
        $self->{stopped} = 1;
        @unfinished = grep { $_ != $self } @unfinished;
        die "nginx does not start:\n", read_file($self->path('output')),
            $self->error_log;
    }

    return $self;
}


sub _pid {
    my ($self) = @_;

    my ($pid) = read_file($self->path('nginx.pid')) =~ /^(\d+)$/;
    return $pid;
}


sub _command {
    my ($self, $conf, $log) = @_;

    my @valgrind;

    if ($ENV{REFUND_NOTIFY_VALGRIND}) {
        my $suppressions = RefundNotify::Test::Util::write_file(
            $self->path('suppressions'),
            "{\nenvironment\nMemcheck:Leak\n...\n"
            . "fun:ngx_set_environment\n}\n"
            . "{\nconnections\nMemcheck:Leak\nfun:malloc\nfun:ngx_alloc\n"
            . "obj:*/nginx\nfun:ngx_single_process_cycle\n}\n");

        @valgrind = ('valgrind', '-q', '--vgdb=no', '--leak-check=full',
                     '--show-leak-kinds=definite',
                     "--suppressions=$suppressions",
                     "--log-file=$self->{dir}/valgrind.%p");
    }

    return [ @valgrind, @{ $self->{under} || [] }, _binary(),
             '-p', "$self->{dir}/", '-c', $conf, '-e', $log ];
}


sub _binary {
    return $ENV{REFUND_NOTIFY_NGINX} if $ENV{REFUND_NOTIFY_NGINX};

    my ($found) = grep { -x } map { "$_/nginx" }
                       split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';

    return $found || die "nginx is not installed\n";
}


sub _environment {
    my ($self) = @_;

    my @preload = @{ $self->{preload} || [] };

    return { %{ $self->{environment} || {} },
             @preload ? (LD_PRELOAD => "@preload") : () }
        if !$ENV{REFUND_NOTIFY_SANITIZE};

    chomp(my @libraries = map { scalar qx(gcc -print-file-name=$_) }
                              qw(libasan.so libubsan.so));

    # All are nginx' own.  SSL_SESSION_new: the TLS session of an upstream
    # server that is kept for the next handshake with it is pointed to from the
    # configuration's pool, which a worker destroys when it ends, and is not
    # freed with it.  ngx_ssl_create_connection: what it has made is left where
    # OpenSSL lacks memory for the next step, which only a preloaded object can
    # bring about; below it, too, is all that a TLS connection has that the
    # module leaks, so that in all other tests it is told.

    my $suppressions = RefundNotify::Test::Util::write_file(
        $self->path('lsan.supp'),
        join '', map { "leak:$_\n" }
                 qw(ngx_regex_compile SSL_SESSION_new),
                 @preload ? 'ngx_ssl_create_connection' : ());

    return {
        LD_PRELOAD => "@libraries @preload",
        ASAN_OPTIONS => "detect_leaks=1:fast_unwind_on_malloc=0:"
                        . "log_path=$self->{dir}/asan",
        UBSAN_OPTIONS => "print_stacktrace=1:log_path=$self->{dir}/ubsan",
        LSAN_OPTIONS => "print_suppressions=0:suppressions=$suppressions:"
                        . "exitcode=0",
    };
}


sub signal {
    my ($self, $name, $pid) = @_;

    return kill $name, $pid // $self->{pid};
}


sub stop {
    my ($self) = @_;

    return 1 if $self->{stopped}++;

    $self->signal('QUIT');

    my $gone = wait_until(sub {
        return waitpid($self->{pid}, POSIX::WNOHANG()) != 0;
    }, $self->{patience});

    # without their master the workers would stay

    if (!$gone) {
        my @living = ($self->{pid}, $self->processes);

        $self->{hung} = join "\n", map { describe($_) } @living;
        kill 'KILL', @living;
        waitpid $self->{pid}, 0;
    }

    disown($self->{pid});
    return $gone ? 1 : 0;
}


sub lose_master {
    my ($self) = @_;

    my @workers = $self->processes;

    $self->signal('KILL');
    waitpid $self->{pid}, 0;
    disown($self->{pid});

    return map { adopt($_) } @workers;
}


sub reload {
    my ($self, %option) = @_;

    my %old = map { $_ => 1 } $self->workers;
    my $refused = () = $self->error_log =~ /\[emerg\]/g;

    $self->signal('HUP');

    my $done = wait_until(sub {
        return -1 if $refused < (() = $self->error_log =~ /\[emerg\]/g);
        return 0 if !grep { !$old{$_} } $self->workers;
        return ($option{wait} // 1) ? !grep { $old{$_} } $self->processes : 1;
    }, 30);

    return ($done // 0) == 1;
}


sub upgrade {
    my ($self) = @_;

    return wait_until($self->upgrading, 70) ? 1 : 0;
}


sub upgrading {
    my ($self) = @_;

    my $old = $self->{pid};
    my ($new, $ending);

    # not those there are: a reload a moment ago has left some that end

    my $workers = $self->_configured_workers;

    $self->signal('USR2');

    return sub {
        if (!$new) {
            my $pid = $self->_pid;

            return 0 if !$pid || $pid == $old;

            $self->{pid} = $new = adopt($pid);
        }

        if (!$ending) {
            return 0 if $self->workers < $workers;

            $self->signal('WINCH', $old);
            $ending = 'WINCH';
        }

        if ($ending eq 'WINCH') {
            return 0 if grep { $_ != $new } $self->processes($old);

            $self->signal('QUIT', $old);
            $ending = 'QUIT';
        }

        return 0 if waitpid($old, POSIX::WNOHANG()) == 0;

        disown($old);
        return 1;
    };
}


sub _configured_workers {
    my ($self) = @_;

    my ($workers) = read_file($self->path('nginx.conf'))
                    =~ /^\s*worker_processes\s+(\d+)/m;

    return $workers // 1;
}


sub workers {
    my ($self) = @_;

    return ($self->{pid}) if $ENV{REFUND_NOTIFY_VALGRIND} || $self->{under};

    # the title, which nginx sets, is "nginx: worker process"

    my $worker = qr/worker process\0*$/;
    my @workers = grep { read_file("/proc/$_/cmdline") =~ $worker }
                       $self->processes;
    return @workers;
}


sub processes {
    my ($self, $master) = @_;

    my @children;

    $master //= $self->{pid};

    for my $stat (glob '/proc/[0-9]*/stat') {
        push @children, $1
            if read_file($stat) =~ /^(\d+) \(.*\) (?!Z)\S (\d+) /s
               && $2 == $master;
    }

    return @children;
}


sub config_test {
    my ($self, $conf) = @_;

    # an own log: what is wrong here is no problem of the server that runs

    my $log = $self->path('test.log');
    my $output = $self->path('test.out');

    local $self->{vars} = { %{ $self->{vars} || {} } };
    (my $text = $conf) =~ s/%%GLOBALS%%/$self->_globals/e;
    $text =~ s/error\.log/test.log/;
    unlink $log, $output;
    $self->write_file('test.conf', $text);

    # nginx frees nothing at the end of -t, so no leaks are looked for

    local $ENV{REFUND_NOTIFY_VALGRIND};
    my %environment = %{ $self->_environment };
    $environment{ASAN_OPTIONS} =~ s/detect_leaks=1/detect_leaks=0/
        if $environment{ASAN_OPTIONS};

    my $status = stop_process(
        spawn([ @{ $self->_command('test.conf', $log) }, '-t' ],
              output => $output, cwd => $self->{dir}, env => \%environment),
        0, 20);

    return (defined $status ? $status >> 8 || $status & 127 : -1,
            read_file($output));
}


sub wait_for_log {
    my ($self, $file, $pattern, $seconds) = @_;

    return wait_until(sub { read_file($self->path($file)) =~ $pattern },
                      $seconds);
}


sub logged {
    my ($self, $n) = @_;

    $self->wait_for_log('notify.log', qr/^$n\|.*\n/m);

    my ($line) = read_file($self->path('notify.log')) =~ /^$n\|(.*)\n/m;

    return $line // 'not logged';
}


sub log_lines {
    my ($self, $file, $n) = @_;

    my $seen = \($self->{log_lines}{$file} //= 0);
    my @lines;

    wait_until(sub {
        @lines = split /\n/, read_file($self->path($file));
        return @lines >= $$seen + $n;
    });

    splice @lines, 0, $$seen;
    $$seen += @lines;
    return @lines;
}


sub allow {
    my ($self, @patterns) = @_;

    push @{ $self->{allow} }, @patterns;
    return;
}


sub leaks {
    my ($self, @secrets) = @_;

    my $logs = join '', map { read_file($_) } glob "$self->{dir}/*.log";

    # nginx' logs write what is not printable as \xXX

    my $escaped = sub {
        my ($text) = @_;
        $text =~ s/([^\x20-\x7e]|["\\])/sprintf '\\x%02X', ord $1/ge;
        return $text;
    };

    return grep { length
                  && (index($logs, $_) >= 0
                      || index($logs, $escaped->($_)) >= 0) } @secrets;
}


sub problems {
    my ($self) = @_;

    my @problems = grep {
        my $line = $_;
        $line =~ $bad && !grep { $line =~ $_ } @{ $self->{allow} }
    } split /\n/, $self->error_log . read_file($self->path('output'));

    for my $report (glob "$self->{dir}/{asan,ubsan,valgrind}.* "
                         . "$self->{dir}/core*")
    {
        next if !-s $report;

        my $text = $report =~ /core/ ? 'a core file'
                                     : without_own_leaks(read_file($report));
        push @problems, "$report:", split /\n/, $text if length $text;
    }

    push @problems, 'nginx did not stop after SIGQUIT:',
         split /\n/, $self->{hung} if $self->{hung};

    return @problems;
}


# A worker that ends drops what nginx itself allocated when it began (the
# arrays of connections and events, which refer to each other): whether that is
# reported as a leak hangs on what is left on its stack.  It cannot be
# suppressed by name, as those functions are static.

sub without_own_leaks {
    my ($report) = @_;

    my $own = qr/^\s+\#1\ \S+\ in\ ngx_alloc\b.*\n
                 (?:^\s+\#\d+\ \S+\ +\(\S*nginx\+0x\w+\)\n)+
                 ^\s+\#\d+\ \S+\ in\ ngx_spawn_process\b/mx;

    return $report if $report !~ /LeakSanitizer/
                      || $report =~ /runtime error|ERROR: AddressSanitizer/;

    my @leaks = grep { !/$own/ } $report =~ /^(\w+ leak of .*?\n)\n/msg;

    return join "\n", @leaks;
}


sub finish {
    my ($self) = @_;

    return 1 if $self->{finished}++;

    @unfinished = grep { $_ != $self } @unfinished;
    $self->stop;

    my @problems = $self->problems;
    my $test = Test::Builder->new;
    my $ok = $test->ok(!@problems, 'nginx stopped, nothing bad in its logs');

    $test->diag($_) for splice @problems, 0, 100;
    return $ok;
}


sub finish_all {
    $_->finish for @unfinished;
    return;
}


# A test that died or forgot finish() does not get away with it: this runs
# before Test::Builder's own END, which keeps our exit code.

END {
    if ($$ == $owner) {
        my $status = $?;

        for my $self (@unfinished) {
            $self->stop;

            if (my @problems = $self->problems) {
                print STDERR "# $_\n" for @problems;
                $status ||= 1;
            }
        }

        $? = $status;
    }
}


1;
