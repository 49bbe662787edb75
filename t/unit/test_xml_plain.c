
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_notify.h"
#include "wechatpay_xml_plain.h"


#define TEST_XML_FIELDS  4

#define TEST_XML_NAME_64                                                      \
    "_bcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_1"


/* with its length, for a NUL may stand in it */
#define TEST_TEXT(text)  text, sizeof(text) - 1


/*
 * What is plain is what libxml2 takes as well, with the same fields; the rest
 * is not told to be wrong, for most of it is right.
 */

static void
test_xml_plain_texts(void **state)
{
    int                      plain;
    size_t                   i, j, len;
    wechatpay_xml_t          xml, other;
    test_memory_t            memory;
    unsigned char           *copy;
    wechatpay_str_t          text;
    wechatpay_xml_field_t    fields[TEST_XML_FIELDS];
    wechatpay_xml_parser_t  *parser;

    static const struct {
        const char  *text;
        size_t       len;
        int          plain;
    } texts[] = {
        { TEST_TEXT("<r></r>"), 1 },
        { TEST_TEXT("<r><a>1</a></r>"), 1 },
        { TEST_TEXT("<r><a>1</a><b><![CDATA[2]]></b></r>"), 1 },
        { TEST_TEXT("<r>\n<a>1</a> <b>2</b>\n\n</r> \n"), 1 },
        { TEST_TEXT("<r><a></a><b><![CDATA[]]></b></r>"), 1 },
        { TEST_TEXT("<r><a> 1\n </a><b><![CDATA[ \n]]></b></r>"), 1 },
        { TEST_TEXT("<r><a>=\"'/>>?!-</a></r>"), 1 },
        { TEST_TEXT("<r><a><![CDATA[<a>&lt;<!--<?[=>]]></a></r>"), 1 },
        { TEST_TEXT("<r><a>\344\270\255\360\237\230\200\302\200\357\277\275"
                    "</a></r>"), 1 },
        { TEST_TEXT("<r><a>\177</a></r>"), 1 },
        { TEST_TEXT("<r><a>1</a><A>2</A><a1>3</a1><_>4</_></r>"), 1 },
        { TEST_TEXT("<r><r>1</r></r>"), 1 },
        { TEST_TEXT("<xml><xmlns>1</xmlns></xml>"), 1 },
        { TEST_TEXT("<" TEST_XML_NAME_64 "></" TEST_XML_NAME_64 ">"), 1 },

        /* right, and not plain */

        { TEST_TEXT("<r/>"), 0 },
        { TEST_TEXT("<r><a/></r>"), 0 },
        { TEST_TEXT("<r ></r>"), 0 },
        { TEST_TEXT("<r></r >"), 0 },
        { TEST_TEXT("<r><a >1</a></r>"), 0 },
        { TEST_TEXT("<r>\r\n<a>1</a></r>"), 0 },
        { TEST_TEXT("<r>\t<a>1</a></r>"), 0 },
        { TEST_TEXT("<r><a>1\r</a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1\r\n2]]></a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1\t2]]></a></r>"), 0 },
        { TEST_TEXT("<r><a>1&amp;2</a></r>"), 0 },
        { TEST_TEXT("<r><a>&#49;</a></r>"), 0 },
        { TEST_TEXT("<r><a>]</a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[]1]]></a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1]]]></a></r>"), 0 },
        { TEST_TEXT("<r><a>1<![CDATA[2]]></a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1]]>2</a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1]]><![CDATA[2]]></a></r>"), 0 },
        { TEST_TEXT("<r><!-- 1 --></r>"), 0 },
        { TEST_TEXT("<r><a>1<!-- 1 --></a></r>"), 0 },
        { TEST_TEXT("<r></r><!-- 1 -->"), 0 },
        { TEST_TEXT("<r><![CDATA[ ]]></r>"), 0 },
        { TEST_TEXT("<?xml version=\"1.0\"?><r></r>"), 0 },
        { TEST_TEXT("<r-1></r-1>"), 0 },
        { TEST_TEXT("<r.1></r.1>"), 0 },
        { TEST_TEXT("<\303\244></\303\244>"), 0 },
        { TEST_TEXT("<" TEST_XML_NAME_64 "5></" TEST_XML_NAME_64 "5>"), 0 },

        /* wrong */

        { TEST_TEXT(""), 0 },
        { TEST_TEXT("<"), 0 },
        { TEST_TEXT("<>"), 0 },
        { TEST_TEXT("<></>"), 0 },
        { TEST_TEXT("<r"), 0 },
        { TEST_TEXT("<r>"), 0 },
        { TEST_TEXT("<r><"), 0 },
        { TEST_TEXT("<r></"), 0 },
        { TEST_TEXT("<r></r"), 0 },
        { TEST_TEXT("<r></s>"), 0 },
        { TEST_TEXT("<r></rs>"), 0 },
        { TEST_TEXT("<r><a>1</ab</r>"), 0 },
        { TEST_TEXT("<r></r>1"), 0 },
        { TEST_TEXT("<r></r><r></r>"), 0 },
        { TEST_TEXT("r></r>"), 0 },
        { TEST_TEXT("<1></1>"), 0 },
        { TEST_TEXT("<r>1</r>"), 0 },
        { TEST_TEXT("<r><a>1</r>"), 0 },
        { TEST_TEXT("<r><a>1</b></r>"), 0 },
        { TEST_TEXT("<r><a>1</a"), 0 },
        { TEST_TEXT("<r><a>1"), 0 },
        { TEST_TEXT("<r><a>1<b>2</b></a></r>"), 0 },
        { TEST_TEXT("<r><a><b>1</b></a></r>"), 0 },
        { TEST_TEXT("<r><a>1</a><a>2</a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1</a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1]></a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA[1]]</a></r>"), 0 },
        { TEST_TEXT("<r><a><![CDATA["), 0 },
        { TEST_TEXT("<r><a>1]]></a></r>"), 0 },
        { TEST_TEXT("<r><a>&x;</a></r>"), 0 },
        { TEST_TEXT("<r><a>\001</a></r>"), 0 },
        { TEST_TEXT("<r><a>\377</a></r>"), 0 },
        { TEST_TEXT("<r><a>\355\240\200</a></r>"), 0 },
        { TEST_TEXT("<r><a>\357\277\276</a></r>"), 0 },
        { TEST_TEXT("<r><a>\357\277\277</a></r>"), 0 },
        { TEST_TEXT("<r a=\"1\"></r>"), 0 },
        { TEST_TEXT("<r><a b='1'>2</a></r>"), 0 },
        { TEST_TEXT("<r><a:b>1</a:b></r>"), 0 },
        { TEST_TEXT("<!DOCTYPE r><r></r>"), 0 },
        { TEST_TEXT("<r><?a b?></r>"), 0 },
        { TEST_TEXT("<r><a>1</a><b>2</b><c>3</c><d>4</d><e>5</e></r>"), 0 },
        { TEST_TEXT("<r><a>1\0</a></r>"), 0 },
        { TEST_TEXT("<r></r>\0"), 0 }
    };

    (void) state;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    for (i = 0; i < test_count(texts); i++) {

        xml.fields = fields;
        xml.max = TEST_XML_FIELDS;

        /* a piece of its own, so that the sanitizers see what is read */

        len = texts[i].len;
        copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy + 1, texts[i].text, len);

        text.data = copy + 1;
        text.len = len;

        plain = wechatpay_xml_plain(text, &xml);

        if (plain != texts[i].plain) {
            fail_msg("%s: %d", texts[i].text, plain);
        }

        if (!plain) {
            free(copy);
            continue;
        }

        /* with max 0 it is libxml2 that reads it */

        test_memory_init(&memory, -1);

        other.max = 0;

        if (wechatpay_xml_parse(parser, text, &memory.memory, &other)
            != WECHATPAY_OK
            || other.nfields != xml.nfields
            || !wechatpay_str_equal(other.root, xml.root))
        {
            fail_msg("%s: libxml2 sees another", texts[i].text);
        }

        for (j = 0; j < xml.nfields; j++) {
            if (!wechatpay_str_equal(other.fields[j].name, fields[j].name)
                || !wechatpay_str_equal(other.fields[j].value,
                                        fields[j].value))
            {
                fail_msg("%s: field %zu is another", texts[i].text, j);
            }
        }

        test_memory_free(&memory);
        free(copy);
    }

    wechatpay_xml_parser_destroy(parser);
}


/* The notify on WeChat Pay's page, and what it decrypts to, are of the form. */

static void
test_xml_plain_notify(void **state)
{
    wechatpay_xml_t        xml;
    wechatpay_xml_field_t  fields[64];

    (void) state;

    xml.fields = fields;
    xml.max = test_count(fields);

    assert_int_equal(
        wechatpay_xml_plain(test_vector_find("v2: the documented example")
                            ->body, &xml),
        1);

    assert_true(wechatpay_str_equal(xml.root, test_str("xml")));
    assert_true(wechatpay_str_equal(wechatpay_xml_get(&xml, "return_code"),
                                    test_str("SUCCESS")));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_xml_plain_texts),
        cmocka_unit_test(test_xml_plain_notify)
    };

    return cmocka_run_group_tests_name("xml_plain", tests, NULL, NULL);
}
