package RefundNotify::Sandbox::Page;

# The sandbox' page and what it is made with: a small HTTP server on 127.0.0.1.
#
#   GET /                the page
#   GET /state           JSON of the sandbox' state
#   POST /notify, /refund, /again, /stop, /settings      JSON of wishes
#
# Other sites that the developer's browser has open must not get at it: the
# name it is asked by has to be this machine's own (no other name that leads
# here), a POST has to be of this page or of no page, and JSON, which no form
# of another site can send.

use strict;
use warnings;

use Digest::SHA qw(sha256_base64);
use JSON::XS ();
use Mojo::Server::Daemon;

use RefundNotify::Test::Util qw(read_file);

use constant LIMIT => 16384;

my $json = JSON::XS->new->utf8->canonical;

my %POST = (
    '/notify' => sub { $_[0]->notify(%{ $_[1] }) },
    '/refund' => sub { $_[0]->refund(%{ $_[1] }) },
    '/again' => sub { $_[0]->again($_[1]{n}) },
    '/stop' => sub { $_[0]->stop($_[1]{n}) },
    '/settings' => sub { $_[0]->settings(%{ $_[1] }) },
);


sub new {
    my ($class, %option) = @_;

    my $html = read_file(__FILE__ =~ s/Page\.pm$/page.html/r);
    my %hash;

    # nothing runs on the page but what is in the file

    for my $tag (qw(script style)) {
        my ($text) = $html =~ m{<$tag>(.*?)</$tag>}s;
        $hash{$tag} = 'sha256-' . sha256_base64($text) . '=';
    }

    return bless { %option, html => $html, policy =>
        "default-src 'none'; connect-src 'self'; base-uri 'none'; "
        . "form-action 'none'; frame-ancestors 'none'; img-src data:; "
        . "script-src '$hash{script}'; style-src '$hash{style}'" }, $class;
}


sub url { return "http://127.0.0.1:$_[0]{port}/" }


sub start {
    my ($self) = @_;

    my $daemon = $self->{daemon} = Mojo::Server::Daemon->new(
        listen => [ "http://127.0.0.1:$self->{port}" ], silent => 1);

    $daemon->max_requests(1000);
    $daemon->unsubscribe('request')->on(request => sub {
        my (undef, $tx) = @_;

        my ($status, $type, $body) = $self->_answer($tx->req);
        my $response = $tx->res;

        $response->code($status);
        $response->headers->header(@$_) for
            [ 'Content-Type' => $type ], [ 'Cache-Control' => 'no-store' ],
            [ 'Content-Security-Policy' => $self->{policy} ],
            [ 'X-Content-Type-Options' => 'nosniff' ],
            [ 'Referrer-Policy' => 'no-referrer' ];
        $response->body($body);
        $tx->resume;
    });

    $daemon->start;
    return;
}


sub _answer {
    my ($self, $request) = @_;

    my $headers = $request->headers;
    my $host = $headers->host // '';
    my $path = $request->url->path->to_string;
    my $method = $request->method;

    return error(403, 'not by this name')
        if $host !~ /^(?:127\.0\.0\.1|localhost):\Q$self->{port}\E\z/i;

    if ($method eq 'GET' && $path eq '/') {
        return (200, 'text/html; charset=utf-8', $self->{html});
    }

    if ($method eq 'GET' && $path eq '/state') {
        return answer($self->{sandbox}->state);
    }

    my $wish = $POST{$path};

    return error(404, 'no such thing') if !$wish;
    return error(405, 'not a POST') if $method ne 'POST';

    my $origin = $headers->origin // '';
    my $site = $headers->header('Sec-Fetch-Site') // '';

    return error(403, 'not from another site')
        if $origin ne '' && lc $origin ne lc "http://$host"
           || $site !~ /^(?:|same-origin|none)\z/;
    return error(415, 'not JSON')
        if ($headers->content_type // '') !~ m{^application/json\b}i;
    return error(413, 'too large')
        if $request->is_limit_exceeded || length $request->body > LIMIT;

    my $given = eval { $json->decode($request->body) };

    return error(400, 'not a JSON object') if ref $given ne 'HASH';
    return error(400, 'not a text or a number')
        if grep { ref } values %$given;

    my $done = eval { $wish->($self->{sandbox}, $given) };

    return $done ? answer($done) : error(400, $@ =~ s/\n.*//sr);
}


sub answer { return (200, 'application/json', $json->encode($_[0])) }


sub error {
    my ($status, $message) = @_;

    return ($status, 'application/json', $json->encode({ error => $message }));
}


1;
