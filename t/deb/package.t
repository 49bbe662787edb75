#!/usr/bin/perl

# The Debian package in the life of a machine: installed, configured, started,
# reloaded, upgraded under load, removed, installed again, purged.  nginx is
# Debian's, in a Debian of its own; WeChat Pay and the app are out here.
# tools/test-deb.sh makes that Debian and runs this.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Util qw(read_file write_file spawn stop_process);

my $chroot = $ENV{REFUND_NOTIFY_CHROOT} or die "make test-deb runs this\n";
my $package = 'libnginx-mod-http-refund-notify';
my $module = '/usr/lib/nginx/modules/ngx_http_refund_notify_module.so';
my $enabled = '/etc/nginx/modules-enabled/50-mod-http-refund-notify.conf';
my $kept = '/etc/nginx/conf/refund_delivery.conf';

my $pay = wechatpay();
my $shop = $pay->merchant;
my $app = business_app();
my $client = RefundNotify::Test::Client->new(port => 8443);

my ($runs, $answers) = (0, 0);

my $site = <<'EOC';
refund_store main shm:10m;

log_format refund '$refund_notify_result';

server {
    listen 127.0.0.1:8443;

    location = /wechatpay/refund-notify {
        access_log          /var/log/nginx/refund.log refund;
        refund_notify       shop;
        refund_notify_pass  /internal/refunds name=business;
        refund_notify_store main;
    }

    location = /internal/refunds {
        internal;
        proxy_pass http://127.0.0.1:%%APP%%;
        include    conf/refund_delivery.conf;
    }
}
EOC

$site =~ s/%%APP%%/$app->port/e;


# Installed

succeeds('apt-get', 'install', '/older.deb');
ok(-l "$chroot$_" || -s _, "$_ is there")
    for $module, $enabled, $kept, '/usr/share/man/man5/refund-notify.5.gz',
        "/usr/share/doc/$package/README.md";

my ($files) = run('dpkg', '-L', $package);

is_deeply([ map { m{^/etc/nginx/(conf/.*\.conf)$} } split /\n/, $files ],
          [ grep { $_ ne 'conf/nginx.conf' } glob 'conf/*.conf' ],
          'the files of conf/ are where an include finds them');


# The documents: what they link to, and the files of conf/ that they name

my $documents = "/usr/share/doc/$package";
my @pages = grep { /\.md$/ } split /\n/, $files;
my (@dead, @links);

for my $page (@pages) {
    my $text = read_file("$chroot$page");
    my $of = $page =~ s{/[^/]+$}{}r;

    for my $link (grep { !/^https?:/ } $text =~ /\]\(([^)\s#]+)/g) {
        push @links, $link;
        push @dead, "$page: $link" if !-e "$chroot$of/$link";
    }

    for my $name ($text =~ m{`(conf/[\w*.-]+\.\w+)`}g) {
        my @found = grep { -e } map { glob "$chroot$_/$name" }
                                    $documents, '/etc/nginx';

        push @dead, "$page: $name" if !@found;
    }
}

cmp_ok(scalar @pages, '>=', 20, 'its documents');
cmp_ok(scalar @links, '>=', 100, 'which link to one another');
is_deeply(\@dead, [], 'no link is dead');

like(field('Depends'), qr/\bnginx-abi-[\d.]+-\d+\b/,
     'it fits one binary interface of nginx');
like(maps(), qr{^\Q$module\E$}m, 'nginx runs with the module at once');


# Configured, started, reloaded

mkdir "$chroot/etc/nginx/secrets" or die "secrets: $!\n";
configure($pay->write($shop, "$chroot/etc/nginx/secrets")
          =~ s/\Q$chroot\E//gr . $site);

succeeds('nginx', '-t');
succeeds('service', 'nginx', 'restart');

my $notify = $pay->v3_notify($shop);

is(answered($notify), 'delivered', 'a notify is delivered');
is(scalar(() = $app->requests), 1, 'to the app');
is(answered($pay->v2_notify($shop)), 'delivered', 'one of APIv2 too');

succeeds('service', 'nginx', 'reload');
is(answered($pay->resend($shop, $notify)), 'duplicate',
   'a reload forgets nothing');


# Upgraded under load.  A reload goes on with the module that is loaded; the
# init script's upgrade takes the new one without a connection refused.

write_file("$chroot$kept", read_file("$chroot$kept") . "# ours\n");

my $load = load();

succeeds('apt-get', 'install', '/newer.deb');
is(field('Version'), '99.0', 'upgraded');
like(maps(), qr{^\Q$module\E \(deleted\)$}m, 'the module that runs is the old');
like(read_file("$chroot$kept"), qr/^# ours$/m, 'a file that was edited is kept');

my $before = master();

succeeds('service', 'nginx', 'upgrade');
ok(wait_until(sub { !-d "/proc/$before" }, 30), 'the old nginx is gone');
like(maps(), qr{^\Q$module\E$}m, 'the module that runs is the new');

my ($sent, $failed) = ended($load);

$answers += $sent;

cmp_ok($sent, '>', 10, 'notifies came in meanwhile');
is($failed, 0, 'each was delivered');


# Removed while its directives are in use: nginx goes on as it is, and says
# what is missing.

succeeds('apt-get', 'remove', $package);
ok(!-e "$chroot$module", 'removed');
is(answered($pay->v3_notify($shop)), 'delivered', 'nginx goes on as it runs');
like((run('nginx', '-t'))[0],
     qr/unknown directive "refund_\w+" in .*refund\.conf/,
     'nginx -t says what is missing');

succeeds('apt-get', 'install', '/newer.deb');
ok(-l "$chroot$enabled", 'installed again, it is enabled again');
succeeds('nginx', '-t');


# What ops have turned off stays off.

unlink "$chroot$_" or die "$_: $!\n"
    for '/etc/nginx/conf.d/refund.conf', $enabled;
succeeds('apt-get', 'install', '--reinstall', '/newer.deb');
ok(!-l "$chroot$enabled", 'a module that was disabled stays so');


# Purged

succeeds('apt-get', 'purge', $package);

is((run('sh', '-c', "find /etc /usr /var/lib/dpkg/info "
                    . "-name '*refund*' -o -name '*wechatpay*'"))[0],
   '', 'purged: nothing is left');
ok(!-e "$chroot/etc/nginx/conf", 'its directory neither');
succeeds('nginx', '-t');
succeeds('service', 'nginx', 'restart');
unlike(maps(), qr/refund/, 'nginx runs without it');
is(RefundNotify::Test::Client->new(port => 80)->request('GET', '/')->{status},
   200, 'and serves what else it has');

is_deeply([ grep { /\[(?:alert|crit|emerg)\]/ && !/unknown directive/ }
                 split /\n/, read_file("$chroot/var/log/nginx/error.log") ],
          [], 'nothing bad in the error log');

succeeds('service', 'nginx', 'stop');
done_testing();


# What a command in there prints, and its exit status.

sub run {
    my (@command) = @_;

    my $output = scratch_dir() . '/output-' . ++$runs;
    my $status = stop_process(spawn([ 'chroot', $chroot, @command ],
                                    output => $output,
                                    env => { DEBIAN_FRONTEND
                                                 => 'noninteractive' }),
                              0, slow(120));

    return (read_file($output), $status);
}


sub succeeds {
    my (@command) = @_;

    my ($output, $status)
        = run(@command, $command[0] eq 'apt-get'
                        ? qw(-y --allow-downgrades -o Dpkg::Use-Pty=0) : ());

    is($status, 0, "@command") or diag(substr $output, -2000);
    unlike($output, qr/failed|error:/i, 'without a complaint')
        if $command[0] eq 'apt-get' && $command[1] ne 'remove';
    return;
}


sub field {
    my ($name) = @_;

    return (run('dpkg-query', '-W', '-f', "\${$name}", $package))[0];
}


sub configure {
    my ($text) = @_;

    return write_file("$chroot/etc/nginx/conf.d/refund.conf", $text);
}


sub master {
    return read_file("$chroot/run/nginx.pid") =~ /(\d+)/ ? $1 : die 'no pid';
}


# The files that the nginx which runs has mapped, as it sees them.

sub maps {
    my %files = map { s/^\Q$chroot\E//r => 1 }
                    read_file('/proc/' . master() . '/maps')
                    =~ m{ (/\S+(?: \(deleted\))?)$}mg;

    return join '', map { "$_\n" } sort keys %files;
}


# The result in the access log, which is written after the answer, if that is
# SUCCESS.

sub answered {
    my ($notify) = @_;

    my $response = $client->post('/wechatpay/refund-notify', $notify);

    return "status $response->{status} $response->{error}"
        if !$pay->acknowledged($notify, $response);

    $answers++;

    return wait_until(sub {
        my @results = grep { $_ ne '-' }
                      split /\n/, read_file("$chroot/var/log/nginx/refund.log");

        return @results == $answers && $results[-1];
    }, 10);
}


# Sends notifies, one after the other, until it is told to end; counts them.

sub load {
    my $log = scratch_dir() . '/load';
    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        my ($sent, $failed, $end) = (0, 0, 0);

        $SIG{TERM} = sub { $end = 1 };

        while (!$end) {
            my $new = $pay->v3_notify($shop);

            $sent++;
            $failed++ if !$pay->acknowledged($new,
                             $client->post('/wechatpay/refund-notify', $new));
            select undef, undef, undef, 0.02;
        }

        write_file($log, "$sent $failed");
        require POSIX;
        POSIX::_exit(0);
    }

    return { pid => $pid, log => $log };
}


sub ended {
    my ($load) = @_;

    kill 'TERM', $load->{pid};
    waitpid $load->{pid}, 0;
    return split / /, read_file($load->{log});
}
