#!/usr/bin/perl

# tools/demo.pl, which make demo runs, with each of the two stores.

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Util qw(read_file spawn stop_process);

use Cwd qw(abs_path);
use File::Basename qw(dirname);

my $root = abs_path(dirname(__FILE__) . '/..');
my %environment = (REFUND_NOTIFY_MODULE
                       => RefundNotify::Test::Nginx::module_path());

for my $store ('shm', 'redis') {
    my $output = scratch_dir() . "/$store";

    my $status = stop_process(
        spawn([ "$root/tools/demo.pl" ], output => $output,
              env => { %environment, STORE => $store }), 0, slow(60));

    my $text = read_file($output);
    my $steps = () = $text =~ /^[ \d]\d  \S/mg;

    is($status, 0, "$store: the demo exits with 0")
        or diag(substr $text, -4000);
    cmp_ok($steps, '>', 10, 'it shows its steps');
    like($text, qr/^All $steps are as expected, and nginx stopped cleanly\.$/m,
         'of which all are as expected');
    is(() = $text =~ /^ +as expected$/mg, $steps, 'each of them');
    is($text =~ /Redis remembers +\{wechatpay:.* = D \d/s ? 'redis' : 'shm',
       $store, 'and this is where it was remembered');
}

done_testing();
