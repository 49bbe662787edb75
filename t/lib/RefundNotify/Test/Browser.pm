package RefundNotify::Test::Browser;

# A headless Chromium with an empty profile, by its WebDriver interface.
#
#   $browser = RefundNotify::Test::Browser->new(language => 'zh-CN')
#   $browser->size($width, $height)     of the page, in CSS pixels
#   $browser->dark($dark)          whether it prefers dark colours
#   $browser->open($url)
#   $browser->run($script, @arguments)  what the JavaScript returns
#   $browser->wait_for($script, $seconds)   until it returns what is true
#   $browser->screenshot           a PNG
#   $browser->console              what the console got since the last time
#   $browser->requested            the URLs asked for since the last time
#   $browser->stop

use strict;
use warnings;

use JSON::XS ();
use MIME::Base64 qw(decode_base64);

use RefundNotify::Test::Client;
use RefundNotify::Test::Util
    qw(scratch_dir free_port slow wait_until read_file spawn stop_process);

my $json = JSON::XS->new->utf8->allow_nonref;
my $count = 0;

my @flags = qw(--headless --no-sandbox --disable-gpu --disable-quic
               --no-first-run --disable-background-networking
               --disable-component-update --disable-sync
               --disable-dev-shm-usage --hide-scrollbars);


sub new {
    my ($class, %option) = @_;

    my $dir = scratch_dir() . '/browser-' . ++$count;
    my $port = free_port();
    my $self = bless { %option }, $class;

    mkdir $dir or die "$dir: $!\n";

    $self->{pid} = spawn([ 'chromedriver', "--port=$port" ],
                         output => "$dir/log",
                         env => { HOME => $dir });
    $self->{client} = RefundNotify::Test::Client->new(port => $port);

    wait_until(sub { read_file("$dir/log") =~ /started successfully/ }, 20)
        or die "chromedriver does not start:\n", read_file("$dir/log");

    my $session = $self->_call('POST', '/session', { capabilities => {
        alwaysMatch => {
            'goog:chromeOptions' => {
                args => [ @flags, "--user-data-dir=$dir/profile" ],
                prefs => { 'intl.accept_languages'
                               => $option{language} // 'en-US' },
            },
            'goog:loggingPrefs' => { browser => 'ALL', performance => 'ALL' },
        } } });

    $self->{session} = "/session/$session->{sessionId}";
    return $self;
}


sub _call {
    my ($self, $method, $path, $body) = @_;

    my $response = $self->{client}->request(
        $method, $path, [ 'Content-Type' => 'application/json' ],
        $method eq 'POST' ? $json->encode($body // {}) : undef,
        timeout => 60);
    my $value = eval { $json->decode($response->{body})->{value} };

    $response->{status} == 200
        or die "chromedriver, $path: $response->{status} $response->{error} ",
               $response->{body}, "\n";

    return $value;
}


sub _session {
    my ($self, $method, $path, $body) = @_;

    return $self->_call($method, "$self->{session}$path", $body);
}


sub _devtools {
    my ($self, $command, $parameters) = @_;

    return $self->_session('POST', '/goog/cdp/execute',
                           { cmd => $command, params => $parameters });
}


sub size {
    my ($self, $width, $height) = @_;

    $self->_devtools('Emulation.setDeviceMetricsOverride',
                     { width => $width + 0, height => $height + 0,
                       deviceScaleFactor => 1, mobile => JSON::XS::false });
    return;
}


sub dark {
    my ($self, $dark) = @_;

    $self->_devtools('Emulation.setEmulatedMedia', { features => [
        { name => 'prefers-color-scheme', value => $dark ? 'dark' : 'light' },
    ] });
    return;
}


sub open {
    my ($self, $url) = @_;

    $self->_session('POST', '/url', { url => $url });
    return;
}


sub run {
    my ($self, $script, @arguments) = @_;

    return $self->_session('POST', '/execute/sync',
                           { script => $script, args => \@arguments });
}


sub wait_for {
    my ($self, $script, $seconds) = @_;

    return wait_until(sub { $self->run($script) }, $seconds // 15);
}


sub screenshot {
    my ($self) = @_;

    return decode_base64($self->_session('GET', '/screenshot'));
}


sub _log {
    my ($self, $type) = @_;

    return @{ $self->_session('POST', '/se/log', { type => $type }) };
}


sub console {
    my ($self) = @_;

    return map { "$_->{level} $_->{message}" } $self->_log('browser');
}


sub requested {
    my ($self) = @_;

    return map { $_->{params}{request}{url} }
           grep { $_->{method} eq 'Network.requestWillBeSent' }
           map { $json->decode($_->{message})->{message} }
               $self->_log('performance');
}


sub stop {
    my ($self) = @_;

    my $session = delete $self->{session} or return;

    eval { $self->_call('DELETE', $session) };
    stop_process(delete $self->{pid}, 'TERM');
    return;
}


sub DESTROY { $_[0]->stop if $_[0]{session} }


1;
