package RefundNotify::Test::Schema;

# conf/refund-notify.schema.json, which says what the business app receives,
# and whether that is what it received.
#
#   event_errors(@bodies)          a hash: the number of each body (from 0) that
#                                  is not as the schema says => where and why
#   received($request)             notes what a peer received, if it is a
#                                  delivery
#   deliveries_are_valid()         a test that all that was noted is as the
#                                  schema says, if there was any
#
# Of bodies that differ in digits only, the first few are looked at: there are
# tests with thousands of them.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename qw(dirname);
use Test::Builder;

use RefundNotify::Test::Util qw(scratch_dir write_file);

use constant ALIKE => 5;

our @EXPORT_OK = qw(event_errors received deliveries_are_valid);

my $lib = Cwd::abs_path(dirname(__FILE__) . '/../..');
my $schema = Cwd::abs_path("$lib/../../conf/refund-notify.schema.json");
my (@bodies, %alike);


sub event_errors {
    my (@texts) = @_;

    my $input = write_file(scratch_dir() . '/events',
                           join '', map { "$_\0" } @texts);
    my %errors;

    # Debian's own, for which the package is, not one that is found before it

    open my $pipe, '-|',
         "/usr/bin/python3 -I $lib/validate_json.py $schema <$input"
        or die "python3: $!\n";

    while (my $line = <$pipe>) {
        my ($n, $error) = $line =~ /^(\d+) (.*)/ or die $line;
        $errors{$n} = $error;
    }

    close $pipe or die "no validation: see above\n";
    return \%errors;
}


sub received {
    my ($request) = @_;

    my $body = $request->{body} // return;
    my ($headers, $params) = map { $_ || {} } @$request{qw(headers params)};

    return if $request->{method} ne 'POST'
              || !defined($headers->{'webhook-id'}
                          // $params->{HTTP_WEBHOOK_ID});

    push @bodies, $body if $alike{ $body =~ s/\d+/0/gr }++ < ALIKE;
    return;
}


sub deliveries_are_valid {
    return 1 if !@bodies;

    my $test = Test::Builder->new;
    my $errors = event_errors(@bodies);
    my $ok = $test->ok(!%$errors, 'what was delivered is as the schema says');

    $test->diag("$errors->{$_}: $bodies[$_]")
        for splice @{ [ sort { $a <=> $b } keys %$errors ] }, 0, 10;
    @bodies = ();
    return $ok;
}


1;
