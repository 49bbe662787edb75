#!/usr/bin/perl

# make install for an ordinary user, whose PATH does not lead to nginx: what
# lands where the nginx found looks for it, and what is said where none is found.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Util qw(read_file spawn stop_process);

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Copy qw(copy);
use File::Find qw(find);

my $root = abs_path(dirname(__FILE__) . '/..');
my $name = 'ngx_http_refund_notify_module.so';
my $scratch = scratch_dir();
my $dir = "$scratch/root";
my $output = "$scratch/output";

# the module under test is taken for what make has built

my $module = RefundNotify::Test::Nginx::module_path();

mkdir $_ or die "$_: $!\n" for "$scratch/build", $dir;
copy($module, "$scratch/build/$name") or die "$module: $!\n";

my $arguments = qx(PATH="\$PATH:/usr/sbin:/sbin" nginx -V 2>&1);
my ($modules) = $arguments =~ /--modules-path=(\S+)/;
my ($conf) = $arguments =~ m{--conf-path=(\S+/)};

my @conf = map { basename($_) } grep { !m{/nginx\.conf$} }
               glob "$root/conf/*.conf";
my %expected = map { @$_ } [ "$modules/$name", read_file($module) ],
                           map { [ "${conf}conf/$_",
                                   read_file("$root/conf/$_") ] } @conf;

is(make(), 0, 'make install') or diag(read_file($output));

my %installed;

find({ no_chdir => 1, wanted => sub {
    $installed{ s/^\Q$dir\E//r } = read_file($_) if -f;
} }, $dir);

is(join("\n", sort keys %installed), join("\n", sort keys %expected),
   'the module and the files of conf/, where nginx looks for them');
is_deeply([ grep { $installed{$_} ne ($expected{$_} // '') }
                 sort keys %installed ], [], 'with their contents');
like(read_file($output), qr/load_module \Q$modules\E\/\Q$name\E;/,
     'how to load it');

for (qw(MODULES_DIR CONF_DIR)) {
    isnt(make("$_="), 0, "no $_: refused");
    like(read_file($output), qr/MODULES_DIR=directory/, 'and what to say');
}

done_testing();


# Without the variables of a make that this test runs under.

sub make {
    my (@arguments) = @_;

    local %ENV = (HOME => $scratch, PATH => '/usr/bin:/bin');

    return stop_process(
        spawn([ '/usr/bin/make', '-o', 'all', 'install', "DESTDIR=$dir",
                "BUILD=$scratch/build", @arguments ],
              output => $output, cwd => $root), 0, slow(30));
}
