#!/usr/bin/perl

# JSON that two readers could take for two different things, around the resource
# and within what it decrypts to, all of it rightly signed; and what WeChat Pay
# may send one day, which has to pass through.

use lib 't/lib';
use RefundNotify::Test;

use RefundNotify::Test::Hostile qw(judge judge_growing edited);

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
        client_body_buffer_size 1100k;
        refund_notify_max_body_size 1m;

        location = /notify {
            refund_notify shop;
            refund_notify_pass /internal/refunds?row=$arg_n name=orders;
        }

        location = /internal/refunds {
            internal;
            proxy_pass http://127.0.0.1:%%APP%%/refunds;
            include %%ROOT%%/conf/refund_delivery.conf;
        }
    }
}
EOC

my $pay = wechatpay();
my $SUB_MCH_ID = '1900009110';
my $shop = $pay->merchant(v2_key => [], sub_mch_id => [ $SUB_MCH_ID ]);
my $app = business_app();
my $nginx = nginx(with_merchants($conf, $shop),
                  vars => { APP => $app->port });

my $BROKEN = 'malformed: the JSON is malformed';
my $REPEATED = 'malformed: a repeated member in the JSON';
my $DEEP = 'malformed: the JSON is nested too deep';
my $ARRAY = 'malformed: the JSON is not an object';
my $NEITHER = 'malformed: neither XML nor JSON';
my $MONEY = 'malformed: an amount is not a count of fen';
my $STATUS = 'mismatch: refund_status is not what event_type says';
my $MERCHANT = 'mismatch: mch_id is not the merchant\'s';

my @plaintexts;


# A change of the JSON around, before it is signed; a change of the JSON within,
# before it is encrypted; and the same one of both.

sub around {
    my ($name, $expected, $code, @fragments) = @_;

    my $notify = edited($pay, $shop, $pay->v3_notify($shop), $code);

    return [ "around: $name", $notify, $expected, @fragments ];
}


sub within {
    my ($name, $expected, $code, @fragments) = @_;

    my $number = RefundNotify::Test::WeChatPay::number();
    my %option = (refund_id => $number);
    my $text = $pay->v3_notify($shop, %option)->{plaintext};

    $code->() for $text;
    push @plaintexts, $text if length $text < 10_000;

    return [ "within: $name",
             $pay->v3_notify($shop, %option, -plaintext => $text), $expected,
             @fragments ];
}


sub both {
    my ($name, $expected, $code, $starts) = @_;

    # what does not begin with a brace is neither format, around

    return (around($name, $starts // $expected, $code),
            within($name, $expected, $code));
}


# A member more, which nobody knows.

sub member {
    my ($value) = @_;

    s/^\{/{"x":$value,/;
    return;
}


# Members twice.  RFC 8259, 4: what a reader makes of them is unpredictable, so
# that one verifies the first and another uses the last.

judge($nginx, $app,
    (map { my $name = $_;
           (around("$name twice", $REPEATED,
                   sub { s/^\{/{"$name":"x",/ }),
            around("$name twice, alike", $REPEATED,
                   sub { s/("$name":(?:"[^"]*"|\{[^}]*\}))/$1,$1/ })) }
         qw(id create_time event_type resource_type resource summary)),
    (map { my $name = $_;
           (around("resource.$name twice", $REPEATED,
                   sub { s/"resource":\{/$&"$name":"x",/ }),
            around("resource.$name twice, last", $REPEATED,
                   sub { s/\}\}\z/,"$name":"x"$&/ })) }
         qw(original_type algorithm ciphertext associated_data nonce)),
    (map { my $name = $_;
           (within("$name twice", $REPEATED, sub { s/^\{/{"$name":"x",/ }),
            within("$name twice, last", $REPEATED,
                   sub { s/\}\z/,"$name":"x"}/ })) }
         qw(mchid refund_id refund_status out_refund_no transaction_id amount)),
    (map { my $name = $_;
           within("amount.$name twice", $REPEATED,
                  sub { s/"amount":\{/$&"$name":1,/ }) }
         qw(total refund payer_total payer_refund)),
    within('a member twice, once escaped', $REPEATED,
           sub { s/^\{/{"refund\\u005Fid":"1",/ }),
    within('amount.refund twice, once escaped', $REPEATED,
           sub { s/"amount":\{/$&"\\u0072efund":1,/ }),
    both('an unknown member twice', $REPEATED,
         sub { s/^\{/{"x":1,"x":1,/ }),
    both('twice, deep within', $REPEATED,
         sub { member('[{"a":{"b":1,"b":2}}]') }),
    both('an empty name twice', $REPEATED, sub { s/^\{/{"":1,"":1,/ }),

    # names are compared byte by byte (RFC 8259, 8.3), so these are others

    both('a name in capitals', 'delivered',
         sub { s/^\{/{"ID":"x","Refund_id":"x","AMOUNT":1,/ }),
    both('a name with a space behind', 'delivered',
         sub { s/^\{/{"id ":"x","refund_id ":"x",/ }),
    both('the same letters in two forms', 'delivered',
         sub { s/^\{/{"\xc3\xa9":1,"e\xcc\x81":2,/ }),
);


# What is no JSON by RFC 8259, though many readers take it

judge($nginx, $app,
    both('something behind', $BROKEN, sub { $_ .= 'x' }),
    both('an object behind', $BROKEN, sub { $_ .= $_ }),
    both('a brace behind', $BROKEN, sub { $_ .= '}' }),
    both('a comma behind', $BROKEN, sub { $_ .= ',' }),
    both('a comma behind the last member', $BROKEN, sub { s/\}\z/,}/ }),
    both('two commas', $BROKEN, sub { s/,/,,/ }),
    both('no comma', $BROKEN, sub { s/","/" "/ }),
    both('a semicolon', $BROKEN, sub { s/","/";"/ }),
    both('no colon', $BROKEN, sub { s/":/"=/ }),
    both('a NUL behind', $BROKEN, sub { $_ .= "\0" }),
    both('a NUL between', $BROKEN, sub { s/,/,\0/ }),
    both('a comment', $BROKEN, sub { s|^\{|{/* x */| }),
    both('a comment to the line\'s end', $BROKEN, sub { s|^\{|{// x\n| }),
    both('a comment of a shell\'s', $BROKEN, sub { s/^\{/{# x\n/ }),
    both('a byte order mark', $BROKEN, sub { s/^/\xef\xbb\xbf/ }, $NEITHER),
    both('a byte order mark inside', $BROKEN, sub { s/^\{/{\xef\xbb\xbf/ }),
    both('an array', $ARRAY, sub { $_ = "[$_]" }, $NEITHER),
    both('a string', $BROKEN, sub { $_ = '"x"' }, $NEITHER),
    both('null', $BROKEN, sub { $_ = 'null' }, $NEITHER),
    both('XSSI\'s prefix', $BROKEN, sub { s/^/)]}',\n/ }, $NEITHER),
    both('JSONP', $BROKEN, sub { $_ = "f($_)" }, $NEITHER),
    both('a space that is none in JSON', $BROKEN, sub { s/,/,\xc2\xa0/ }),
    both('a form feed', $BROKEN, sub { s/,/,\f/ }),
    both('a name in single quotes', $BROKEN, sub { s/^\{"(\w+)"/{'$1'/ }),
    both('a name without quotes', $BROKEN, sub { s/^\{"(\w+)"/{$1/ }),
    both('an open string', $BROKEN, sub { s/"\}+\z/}/; s/\d\}+\z/"/ }),
    both('nothing but a brace', $BROKEN, sub { $_ = '{' }),

    (map { my ($name, $value, $expected) = (@$_, $BROKEN);
           both("a value of $name", $expected, sub { member($value) }) }
         [ 'NaN', 'NaN' ], [ 'Infinity', 'Infinity' ],
         [ 'minus Infinity', '-Infinity' ], [ 'True', 'True' ],
         [ 'undefined', 'undefined' ], [ 'nul', 'nul' ],
         [ 'nothing', '' ], [ 'single quotes', "'x'" ],
         [ 'backquotes', '`x`' ], [ 'a leading zero', '01' ],
         [ 'a leading plus', '+1' ], [ 'a minus only', '-' ],
         [ 'a point first', '.1' ], [ 'a point last', '1.' ],
         [ 'an exponent without digits', '1e' ], [ 'hexadecimal', '0x1' ],
         [ 'an underscore in a number', '1_0' ], [ 'two numbers', '1 2' ],
         [ 'full-width digits', "\xef\xbc\x91" ],
         [ 'a double beyond its range', '1e400' ],
         [ 'an integer beyond 64 bits', '9223372036854775808' ],
         [ 'a long integer', '9' x 1000 ],
         [ 'a line feed in a string', "\"a\nb\"" ],
         [ 'a control character in a string', "\"a\1b\"" ],
         [ 'a NUL in a string', "\"a\0b\"" ],
         [ 'a NUL in a string, escaped', '"a\\u0000b"' ],
         [ 'an unknown escape', '"\\x41"' ], [ 'an open escape', '"\\u12"' ],
         [ 'an escape in no hexadecimal', '"\\u12g4"' ],
         [ 'a high surrogate', '"\\ud83d"' ],
         [ 'a low surrogate', '"\\ude00"' ],
         [ 'surrogates in the wrong order', '"\\ude00\\ud83d"' ],
         [ 'two high surrogates', '"\\ud83d\\ud83d"' ],
         [ 'a high surrogate and text', '"\\ud83dx"' ],
         [ 'a surrogate in bytes', "\"\xed\xa0\xbd\"" ],
         [ 'a byte that is not UTF-8', "\"\xff\"" ],
         [ 'a continuation only', "\"\x80\"" ],
         [ 'UTF-8 cut short', "\"\xe4\xb8\"" ],
         [ 'overlong UTF-8', "\"\xc0\xaf\"" ],
         [ 'beyond Unicode', "\"\xf4\x90\x80\x80\"" ],
         [ 'GBK', "\"\xd6\xd0\"" ]),
    both('a name that is not UTF-8', $BROKEN, sub { s/^\{/{"\xff":1,/ }),
    both('a name with a NUL, escaped', $BROKEN,
         sub { s/^\{/{"id\\u0000":1,/ }),
    both('UTF-16', $BROKEN, sub { s/(.)/$1\0/gs }),
);


# What is JSON, however odd

judge($nginx, $app,
    (map { my ($name, $value) = @$_;
           both("a value of $name", 'delivered', sub { member($value) }) }
         [ 'minus 0', '-0' ], [ 'an exponent', '1E+2' ],
         [ 'a double that is all but 0', '1e-400' ],
         [ 'the least integer of 64 bits', '-9223372036854775808' ],
         [ 'many digits behind the point', '0.' . '1' x 1000 ],
         [ 'a pair of surrogates', '"\\ud83d\\ude00"' ],
         [ 'U+FFFF', '"\\uffff"' ], [ 'every escape', '"\\"\\\\\\/\\b\\f\\n"' ],
         [ 'an empty object', '{}' ], [ 'an empty array', '[]' ],
         [ 'a bidirectional override', '"\\u202e"' ],
         [ 'markup', '"</script><!--"' ], [ 'DEL', "\"\x7f\"" ]),
    both('white space wherever it may be', 'delivered',
         sub { s/("[^"]*"|[{}:,])/$1\r\n\t /g }),
    both('an empty name', 'delivered', sub { s/^\{/{"":1,/ }),
    both('a name of 1000 letters', 'delivered',
         sub { s/^\{/'{"' . 'a' x 1000 . '":1,'/e }),
    both('names that a prototype has', 'delivered',
         sub { s/^\{/{"__proto__":{"mchid":"x"},"constructor":1,/ }),
    around('white space before', 'delivered', sub { s/^/\r\n\t / }),
    both('members in the order of their names', 'delivered', sub {
        my %members = /("\w+"):("[^"]*"|\{[^}]*\})/g;
        $_ = '{' . join(',', map { "$_:$members{$_}" }
                                 reverse sort keys %members) . '}';
    }),
);


# What is large, or deep

my $large = 1000 * 1000;


sub growing {
    my ($wrap, $bytes) = @_;

    return (
        $wrap->('nested arrays', $DEEP, sub { member('[' x $bytes) }),
        $wrap->('nested arrays that end', $DEEP,
                sub { member('[' x ($bytes / 2) . ']' x ($bytes / 2)) }),
        $wrap->('nested objects', $DEEP,
                sub { member('{"a":' x ($bytes / 5)) }),
        $wrap->('arrays nested 32 deep', $DEEP,
                sub { member('[' x 32 . ']' x 32) }),
        $wrap->('arrays nested 31 deep', 'delivered',
                sub { member('[' x 31 . ']' x 31) }),
        $wrap->('brackets in a string', 'delivered',
                sub { member('"' . '[{' x ($bytes / 2) . '"') }),
        $wrap->('an open string', $BROKEN, sub { $_ = '{"' . 'a' x $bytes }),
        $wrap->('a number of digits', $BROKEN,
                sub { member('1' x $bytes) }),
        $wrap->('an exponent of digits', $BROKEN,
                sub { member('1e' . '9' x $bytes) }),
        $wrap->('backslashes', $BROKEN, sub { member('"' . '\\' x $bytes) }),
        $wrap->('a large array', 'delivered',
                sub { member('[' . join(',', (1) x 10_000) . ']') }),
        $wrap->('members of different names', 'delivered', sub {
            s/^\{/'{' . join '', map { "\"a$_\":1," } 1 .. 5000/e;
        }),
        $wrap->('commas', $BROKEN, sub { $_ = '{' . ',' x $bytes }),
    );
}

# base64 makes four bytes of three, within

judge_growing($nginx, $app, sub { growing(\&around, $_[0]) }, $large);
judge_growing($nginx, $app, sub { growing(\&within, $_[0]) },
              $large * 3 / 4 - 2000);


# The JSON within against that around, and money

my %provider = (sp_mchid => $shop->{mch_id}, sub_mchid => $SUB_MCH_ID);

judge($nginx, $app,
    (map { my ($event, $status) = @$_;
           [ "event_type $event of a refund that is $status",
             $pay->v3_notify($shop, refund_status => $status,
                             -outer => { event_type => "REFUND.$event" }),
             $STATUS ] }
         [ SUCCESS => 'CLOSED' ], [ SUCCESS => 'ABNORMAL' ],
         [ ABNORMAL => 'SUCCESS' ], [ ABNORMAL => 'CLOSED' ],
         [ CLOSED => 'SUCCESS' ], [ CLOSED => 'ABNORMAL' ]),
    (map { my $type = $_;
           around("the original_type $type",
                  'malformed: resource.original_type is not refund',
                  sub { s/("original_type":)"refund"/$1"$type"/ }) }
         qw(transaction security REFUND refunds)),
    around('an mchid around', 'delivered', sub { s/^\{/{"mchid":"1",/ },
           qq("mch_id":"$shop->{mch_id}")),
    around('a refund around', 'delivered',
           sub { s/^\{/{"refund_id":"1","amount":{"refund":1},/ },
           '"refund":999'),
    within('a resource within', 'delivered',
           sub { s/^\{/{"resource":{"ciphertext":"x"},"event_type":"x",/ }),
    within('another mchid', $MERCHANT, sub { s/("mchid":")./${1}2/ }),
    within('the mchid and a space', 'malformed: mch_id is not a string',
           sub { s/("mchid":"\d+)/$1 / }),
    within('an mchid that is a number', 'malformed: mch_id is not a string',
           sub { s/("mchid":)"(\d+)"/$1$2/ }),
    within('mchid in a list', 'malformed: mch_id is not a string',
           sub { s/("mchid":)("\d+")/$1\[$2]/ }),
    within('an sp_mchid without sub_mchid', 'malformed: sub_mchid is missing',
           sub { s/^\{/{"sp_mchid":"1900000001",/ }),

    # a service provider's notify; none of it may be another's

    (map { my ($name, $expected, %mchid) = @$_;
           my $members = join ',', map { "\"$_\":\"$mchid{$_}\"" }
                                       sort keys %mchid;
           within($name, $expected, sub { s/"mchid":"\d+"/$members/ }) }
         [ 'a service provider\'s', 'delivered', %provider ],
         [ 'its mchid too', 'delivered', %provider,
           mchid => $shop->{mch_id} ],
         [ 'an sp_mchid of another', $MERCHANT, %provider,
           sp_mchid => '1900000001' ],
         [ 'an sp_mchid of another beside the mchid', $MERCHANT, %provider,
           sp_mchid => '1900000001', mchid => $shop->{mch_id} ],
         [ 'an mchid of another beside the sp_mchid', $MERCHANT, %provider,
           mchid => '1900000001' ],
         [ 'another for both', $MERCHANT, %provider,
           sp_mchid => '1900000001', mchid => '1900000001' ],
         [ 'a sub_mchid of another',
           'mismatch: sub_mch_id is none of the merchant\'s', %provider,
           sub_mchid => '1900009111' ],
         [ 'the sub_mchid and a digit',
           'mismatch: sub_mch_id is none of the merchant\'s', %provider,
           sub_mchid => "${SUB_MCH_ID}0" ]),
    within('the mchid, escaped', 'delivered',
           sub { s/("mchid":")(.)/sprintf '%s\\u%04x', $1, ord $2/e }),

    (map { my $name = $_;
           map { my $bad = $_;
                 within("$name of " . substr($bad, 0, 40), $MONEY,
                        sub { s/"$name":999/"$name":$bad/ }) }
               '"999"', '999.0', '9.99e2', '999.5', '-1', '-999', '[999]',
               '{"fen":999}', 'true', '9007199254740992',
               '9223372036854775807', '-9223372036854775808', '1e15',
               '0.' . '9' x 40 }
         qw(total refund)),
    within('a total of null', 'malformed: the order\'s total is missing',
           sub { s/"total":999/"total":null/ }),
    within('a refund of null', 'malformed: the refund\'s amount is missing',
           sub { s/"refund":999/"refund":null/ }),
    within('a refund of minus 0', 'delivered',
           sub { s/"refund":999/"refund":-0/ }, '"refund":0'),
    within('the largest refund', 'delivered',
           sub { s/:999/:9007199254740991/g }, '"refund":9007199254740991'),
    within('a refund beyond 64 bits', $BROKEN,
           sub { s/"refund":999/"refund":18446744073709552615/ }),
    within('an amount in a list',
           'malformed: amount is missing or not an object',
           sub { s/"amount":(.*)\}\z/"amount":[$1]}/ }),
);


# What is new passes through, as extra: no refund is lost because WeChat Pay says
# more of it.  But a status or an event that is new is not guessed.

my $EXTRA = '"extra":{';

judge($nginx, $app,
    (map { my ($name, $code, @fragments) = @$_;
           within($name, 'delivered', $code, @fragments) }
         [ 'a new member', sub { s/^\{/{"new":"x",/ }, $EXTRA . '"new":"x"' ],
         [ 'a new object', sub { s/^\{/{"new":{"a":[1,null,true]},/ },
           '"new":{"a":[1,null,true]}' ],
         [ 'a new amount', sub { s/"amount":\{/$&"new":-1,/ },
           '"amount":{"new":-1}' ],
         [ 'a new account of funds',
           sub { s/^\{/{"funds_account":"MOON",/ },
           '"funds_account":"MOON"' ],
         [ 'a new currency', sub { s/"amount":\{/$&"currency":"XTS",/ },
           '"currency":"XTS"' ],
         [ 'a time of another form', sub { s/2018-06-08T/2018-06-08 / },
           '"success_time":"2018-06-08 10:34:56' ],
         [ 'an account that is a number',
           sub { s/("user_received_account":)"[^"]*"/${1}1/ },
           '"user_received_account":1' ],
         [ 'an account of a language written from the right',
           sub { s/("user_received_account":)"[^"]*"/$1"\\u05d0\\u202e"/ },
           "\"user_received_account\":\"\xd7\x90\xe2\x80\xae\"" ]),
    around('a new member', 'delivered', sub { s/^\{/{"new":{"x":[1]},/ }),
    around('a new member of the resource', 'delivered',
           sub { s/"resource":\{/$&"new":1,/ }),
    around('a new resource_type', 'delivered',
           sub { s/encrypt-resource/new-resource/ }),
    around('a new event_type', 'unsupported: event_type is not of a refund',
           sub { s/REFUND\.SUCCESS/REFUND.NEW/ }),
    within('a new refund_status', 'malformed: refund_status is unknown',
           sub { s/"SUCCESS"/"NEW"/ }),
);

no_secrets($nginx, $pay->secrets($shop), grep({ length > 15 } @plaintexts),
           '招商银行信用卡0403');

done_testing;
