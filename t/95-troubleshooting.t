#!/usr/bin/perl

# docs/troubleshooting.md: each result, each reason for one and each line of the
# error log that the sources have is in its table, and nothing else is.  (That
# the Chinese page has the same, 92-documentation.t tells.)

use lib 't/lib';
use RefundNotify::Test;
use RefundNotify::Test::Document qw(parts);
use RefundNotify::Test::Util qw(read_file);

use Cwd qw(abs_path);
use File::Basename qw(dirname);

my $root = abs_path(dirname(__FILE__) . '/..');
my @tables = @{ parts(read_file("$root/docs/troubleshooting.md"))->{tables} };
my %source = map { s{^\Q$root/\E}{}r => read_file($_) }
             glob "$root/*.c $root/src/*.c $root/src/*/*.[ch]";


# The results

my ($results) = grep { grep { $_->[0] eq '`in_flight`' } @$_ } @tables;
my @results = $source{'src/wechatpay/wechatpay.h'}
              =~ /^ +X\(\w+, +"(\w+)", +\d+\)/mg;

cmp_ok(scalar @results, '>', 10, 'the sources have results');
is_deeply([ map { $_->[0] =~ /`(\w+)`/ } @$results ],
          [ sort { place($a) <=> place($b) } @results ],
          'each result, and no other');


# The reasons: those of the protocol, with their result; and what the rest gives
# for one, which is all text of theirs that is not the log's, nor nginx -t's.

my %reasons;
my $errors = $source{'src/wechatpay/wechatpay_error.h'} =~ s/\\\n//gr;

while ($errors =~ /X\(\w+,\s+(\w+),\s+"([^"]+)"\)/g) {
    $reasons{$2} = lc $1;
}

for my $file (grep { m{^src/(?:notify|redis|store)/.*\.c$} } keys %source) {
    next if $file =~ /_(?:conf|url)\.c$/
            || $file eq 'src/store/ngx_http_refund_store_tls.c';

    my $text = $source{$file} =~ s{/\*.*?\*/}{}gsr =~ s/(?<!\\)"\s+"//gr;

    $text =~ s/\bngx_(?:log_error|conf_log_error|refund_log_limited
                       |http_refund_conf_error)\(.*?\);$//msxg;
    $text =~ s/->action = "[^"]+"//g;

    for ($text =~ /"((?:[^"\\]|\\.)*)"/g) {
        my $reason = s/\\"/"/gr;

        $reasons{$reason} //= ''
            if $reason =~ / [a-z]{2}/ && $reason !~ /[%\\]|^ERR /;
    }
}

my ($table) = grep { $_->[0][1] eq 'Reason' } @tables;
my %explained;

cmp_ok(scalar keys %reasons, '>', 100, 'the sources have reasons');

for my $row (@$table[ 2 .. $#$table ]) {
    my ($result) = $row->[0] =~ /`(\w+)`/;

    for my $reason ($row->[1] =~ /`([^`]+)`/g) {
        my $pattern = join '.*', map { quotemeta } split /…/, $reason, -1;
        my @matching = grep { /^$pattern$/ && $reasons{$_} =~ /^(?:|$result)$/ }
                            keys %reasons;

        ok(scalar @matching, "$result: $reason" =~ s/…/.../gr);
        $explained{$_} = 1 for @matching;
    }
}

is(join("\n", sort grep { !$explained{$_} } keys %reasons), '',
   'each reason is explained');


# The lines of the error log: each format in the sources that is written while
# nginx serves or starts has its line in the table, and each line its format.

my %formats;

for my $source (values %source) {
    while ($source =~ /\bngx_(?:log_error|refund_log_limited)\((?!ngx_uint_t )
                       (.*?)\);$/msxg)
    {
        my $call = $1 =~ s/(?<!\\)"\s+"//gr;

        # a literal before the format is the reason that a line is counted by,
        # and what comes after it is filled in

        $call =~ s/"[^"]+",\s+(?=")//;
        $call =~ s/(?<!\\)",.*/"/s;

        # a connection's line begins with the label of its server

        for ($call =~ /"((?:[^"\\]|\\.)*)"/g) {
            my $format = s/\\"/"/gr =~ s/^%V(?= is |: )/refund_store "%V"/r;

            $formats{$format} = 0 if $format =~ /\w \w/ && $format !~ /^%\*s/;
        }
    }
}

my ($log) = grep { grep { $_->[0] =~ /^`refund notify ID/ } @$_ }
                 @tables;
my @lines = map { $_->[0] =~ /`([^`]{12,})`/g } @{ $log || [] };

cmp_ok(scalar @lines, '>', 20, 'the error log has lines');

for my $line (@lines) {
    my $pattern = join '', map { /…/ ? '.*'
                                 : /^[A-Z]+$/ ? '%\*?[a-zA-Z]+'
                                 : quotemeta }
                               split /( ?…|\b[A-Z]+\b)/, $line;
    my @matching = grep { /^$pattern/ } keys %formats;

    ok(scalar @matching, "a line of the error log: $line" =~ s/…/.../gr);
    $formats{$_} = 1 for @matching;
}

is(join("\n", sort grep { !$formats{$_} } keys %formats), '',
   'each line of the error log is there');

done_testing();


# In the page's order

sub place {
    my ($result) = @_;

    my ($n) = grep { $results->[$_][0] eq "`$result`" } 0 .. $#$results;

    return $n // @$results;
}
