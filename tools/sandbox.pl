#!/usr/bin/perl

# Copyright (C) the refund-notify authors
#
# A sandbox for business developers, see RefundNotify::Sandbox: starts it, or
# tells one that runs what to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../t/lib", "$FindBin::Bin/lib";

use Cwd qw(abs_path);
use Getopt::Long qw(GetOptionsFromArray);
use JSON::XS ();
use Mojo::UserAgent;

my $USAGE = <<'END';
usage: tools/sandbox.pl [command] [options]

start       the sandbox, until Ctrl-C (what is done without a command)
                --app URL           the app; without it a small one
                --port 8600         nginx'
                --page 8601         of the page
                --speed 1           times faster than WeChat Pay's ladder
                --profile current   its ladder: current or older
notify      sends a notify
                --version v3        v2 or v3
                --status SUCCESS    or ABNORMAL (v2's CHANGE), CLOSED
                                    (v2's REFUNDCLOSE)
                --out-refund-no N   of this refund
                --kind genuine      probe: WeChat Pay's deliberately wrong
                                    signature (v3); echo: its test,
                                    SECURITY_ECHO (v3); forged: a signature of something else
                                    (v3); wrong-key: signed, or encrypted, with
                                    another key; stale: an hour old (v3)
refund      asks nginx for a refund, as the app would
                --version v3, --fen 1
again N     sends notify N again, now
stop N      sends it no more
set         --speed, --profile, --outcome SUCCESS (of refunds asked for, or
            ABNORMAL, CLOSED, none: nothing follows), --app-status 200,
            --app-delay 0 (s; of the small app)
list        the notifies, their tries, the answers
state       all there is, as JSON

All but start take --dir DIRECTORY as start does: where the merchant and its
keys are kept, build/sandbox unless given.
END

my %COMMAND = (
    start => { options => [ qw(app=s port=i page=i speed=f profile=s) ] },
    notify => { options => [ qw(version=s status=s out-refund-no=s kind=s) ] },
    refund => { options => [ qw(version=s fen=i) ] },
    again => { argument => 'n' },
    stop => { argument => 'n' },
    set => { path => 'settings',
             options => [ qw(speed=f profile=s outcome=s app-status=i
                             app-delay=f) ] },
    list => { path => 'state', show => \&list },
    state => {},
);

my $json = JSON::XS->new->utf8->canonical->pretty;
my @arguments = @ARGV;
my $name = @arguments && $arguments[0] !~ /^-/ ? shift @arguments : 'start';
my $command = $COMMAND{$name} or usage($name eq 'help' ? 0 : 2);
my %option = (dir => "$FindBin::Bin/../build/sandbox");

GetOptionsFromArray(\@arguments, \%option, 'dir=s', 'help',
                    @{ $command->{options} || [] }) or usage(2);
usage(0) if delete $option{help};

$option{ $command->{argument} } = shift(@arguments) // usage(2)
    if $command->{argument};
usage(2) if @arguments;

my $dir = delete $option{dir};
my %wish = map { s/-/_/gr => $option{$_} } keys %option;

if ($name eq 'start') {
    start();
    exit 0;
}

open my $file, '<', "$dir/page" or die "no sandbox is running in $dir\n";
chomp(my $page = <$file>);

my $agent = Mojo::UserAgent->new(request_timeout => 30);
my $url = $page . ($command->{path} // $name);
my $tx = ($command->{path} // $name) eq 'state'
         ? $agent->get($url)
         : $agent->post($url, { 'Content-Type' => 'application/json' },
                        $json->encode(\%wish));
my $answer = eval { $json->decode($tx->res->body) }
             // die "the sandbox does not answer: ",
                    ($tx->error || {})->{message} // 'no JSON', "\n";

die "$answer->{error}\n" if $tx->res->code != 200;
$command->{show} ? $command->{show}->($answer) : print $json->encode($answer);


sub usage {
    my ($code) = @_;

    print { $code ? *STDERR : *STDOUT } $USAGE;
    exit $code;
}


sub start {
    require RefundNotify::Sandbox;

    $wish{app} = undef if !length($wish{app} // '');

    die "--app: http://host[:port]/path\n"
        if defined $wish{app}
           && $wish{app} !~ m{^https?://(?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d+)?
                              (?:/[\w./~%+-]*)?\z}xa;

    $| = 1;

    # as a path of nginx.conf's, too

    mkdir $dir if !-d $dir;

    my $sandbox = RefundNotify::Sandbox->new(
        port => 8600, page => 8601, %wish, dir => abs_path($dir) // $dir);

    $sandbox->run;
    return;
}


sub list {
    my ($state) = @_;

    for my $notify (reverse @{ $state->{notifies} }) {
        my $next = defined $notify->{next}
                   ? sprintf ', next in %.3g s', $notify->{next} - $state->{now}
                   : '';

        print "$notify->{n}  API$notify->{version} $notify->{status} ",
              "$notify->{label}  ", $notify->{out_refund_no} // '', "  ",
              "$notify->{state}$next\n";

        for my $try (@{ $notify->{tries} }) {
            my @when = localtime $try->{at};

            printf "     %02d:%02d:%02d  %s  %s  %s\n", @when[2, 1, 0],
                   $try->{status} // '...',
                   $try->{result} // $try->{error} // '',
                   $try->{reason} // '';
        }
    }

    return;
}
