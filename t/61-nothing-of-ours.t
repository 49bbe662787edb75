#!/usr/bin/perl

# The module is loaded, as the package does it for every nginx, and nothing of it
# is used: in an http{} without its directives, and in an nginx without http{}.
# It starts, reloads and ends, and nothing is said of it.

use lib 't/lib';
use RefundNotify::Test;

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 64;
}

HTTP
EOC

my $http = <<'EOC';
http {
    %%HTTP%%

    server {
        listen 127.0.0.1:%%PORT%%;
        return 200 page;
    }
}
EOC

for ([ 'without its directives', $http ], [ 'without http', '' ]) {
    my ($name, $part) = @$_;

    my $nginx = nginx($conf =~ s/HTTP\n/$part/r);
    my ($worker) = $nginx->workers;

    is(client($nginx)->request('GET', '/')->{body}, 'page', "$name: a page")
        if $part;

    $nginx->reload;
    isnt(($nginx->workers)[0], $worker, "$name: another worker");
    $nginx->stop;
    unlike($nginx->error_log, qr/refund|\[(?:warn|error|crit|alert|emerg)\]/,
           "$name: the error log");
}

done_testing();
