
/*
 * Copyright (C) the refund-notify authors
 */


#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libxml/parser.h>
#include <libxml/xmlIO.h>

#include "test_notify.h"
#include "wechatpay_xml.h"


static unsigned  test_xml_opened;


static int
test_xml_match(const char *uri)
{
    (void) uri;

    test_xml_opened++;

    return 0;
}


static xmlParserInputPtr
test_xml_load(const char *url, const char *id, xmlParserCtxtPtr ctxt)
{
    (void) url;
    (void) id;
    (void) ctxt;

    test_xml_opened++;

    return NULL;
}


static void
test_xml_fields(void **state)
{
    wechatpay_xml_t          xml;
    test_memory_t            memory;
    wechatpay_str_t          text;
    wechatpay_xml_field_t    fields[4];
    wechatpay_xml_parser_t  *parser;

    (void) state;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    xml.fields = fields;
    xml.max = test_count(fields);

    test_memory_init(&memory, -1);

    text = test_str("<r>\r\n<a>1</a> <b>x<![CDATA[<]]>&gt;<!-- y -->z\r\n"
                    "</b><c/><d></d></r>");

    assert_int_equal(wechatpay_xml_parse(parser, text, &memory.memory, &xml),
                     WECHATPAY_OK);

    wechatpay_xml_parser_destroy(parser);

    /* the parser's end takes nothing with it */

    assert_int_equal(xml.nfields, 4);
    assert_true(wechatpay_str_equal(xml.root, test_str("r")));
    assert_true(wechatpay_str_equal(fields[0].name, test_str("a")));
    assert_true(wechatpay_str_equal(fields[3].name, test_str("d")));
    assert_true(wechatpay_str_equal(wechatpay_xml_get(&xml, "a"),
                                    test_str("1")));
    assert_true(wechatpay_str_equal(wechatpay_xml_get(&xml, "b"),
                                    test_str("x<>z\n")));
    assert_int_equal(wechatpay_xml_get(&xml, "c").len, 0);
    assert_int_equal(wechatpay_xml_get(&xml, "d").len, 0);
    assert_int_equal(wechatpay_xml_get(&xml, "e").len, 0);

    test_memory_free(&memory);
}


/*
 * Whatever comes in, nothing is printed, no file and no address opened, and the
 * parser is as good as new.
 */

static void
test_xml_quiet(void **state)
{
    int                      saved;
    FILE                    *file;
    long                     printed;
    size_t                   i;
    wechatpay_xml_t          xml;
    test_memory_t            memory;
    wechatpay_str_t          text;
    wechatpay_error_e        error, again;
    wechatpay_xml_field_t    fields[4];
    wechatpay_xml_parser_t  *parser;

    static const char  *bad[] = {
        "<", "<a", "<a>", "<a></b>", "<a>&x;</a>", "<a>&#xffff;</a>",
        "<a><b></a></b>", "<!DOCTYPE", "<!DOCTYPE a", "<!DOCTYPE [",
        "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        "<!DOCTYPE a PUBLIC 'x' 'http://127.0.0.1:1/'><a/>",
        "<!DOCTYPE SYSTEM 'file:///etc/passwd' [ <!ENTITY x SYSTEM "
            "'file:///etc/passwd'> ]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY % p SYSTEM 'file:///etc/passwd'>%p;]><a/>",
        "<!DOCTYPE 1 [<!ENTITY % p SYSTEM 'file:///etc/passwd'>%p;]><a/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<?xml version='1.0' encoding='nonsense' standalone='perhaps'?><a/>",
        "<a xmlns='&#0;'/>", "<a:b/>", "<a b='1' b='1'/>",
        "<a xmlns:xi='http://www.w3.org/2001/XInclude'>"
            "<xi:include href='file:///etc/passwd' parse='text'/></a>",
        "<?xml-stylesheet href='file:///etc/passwd'?><a/>", "<a>]]></a>",
        "<a><b><c/></b></a>", "<a>x</a>", "<a><b/><b/></a>",
        "<a><b/><c/><d/><e/><f/></a>", "\xff", "", " \r\n\t"
    };

    (void) state;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    xml.fields = fields;
    xml.max = test_count(fields);

    file = tmpfile();
    assert_non_null(file);

    test_xml_opened = 0;
    xmlSetExternalEntityLoader(test_xml_load);
    assert_in_range(xmlRegisterInputCallbacks(test_xml_match, NULL, NULL,
                                              NULL),
                    0, 100);

    fflush(stderr);
    saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);

    error = WECHATPAY_ERROR_COUNT;
    again = WECHATPAY_OK;

    for (i = 0; i < test_count(bad); i++) {
        test_memory_init(&memory, -1);

        error = wechatpay_xml_parse(parser, test_str(bad[i]), &memory.memory,
                                    &xml);

        text = test_str("<r><a>1</a></r>");
        again = wechatpay_xml_parse(parser, text, &memory.memory, &xml);

        test_memory_free(&memory);

        if (error == WECHATPAY_OK || again != WECHATPAY_OK) {
            break;
        }
    }

    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);

    fseek(file, 0, SEEK_END);
    printed = ftell(file);
    fclose(file);

    if (i != test_count(bad)) {
        fail_msg("%s: \"%s\", and then \"%s\"", bad[i],
                 wechatpay_error_phrase(error), wechatpay_error_phrase(again));
    }

    assert_int_equal(printed, 0);
    assert_int_equal(test_xml_opened, 0);

    wechatpay_xml_parser_destroy(parser);
}


/* libxml2 remembers all names: anybody could fill the memory with new ones. */

static void
test_xml_names(void **state)
{
    char                     buf[256];
    unsigned                 i;
    size_t                   before, after;
    wechatpay_xml_t          xml;
    test_memory_t            memory;
    wechatpay_xml_field_t    fields[4];
    wechatpay_xml_parser_t  *parser;

    (void) state;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    xml.fields = fields;
    xml.max = test_count(fields);

    before = mallinfo2().uordblks;

    for (i = 0; i < 50000; i++) {
        snprintf(buf, sizeof(buf), "<r><name-that-is-rather-long-to-fill-a-"
                 "dictionary-%u/></r>", i);

        test_memory_init(&memory, -1);
        assert_int_equal(wechatpay_xml_parse(parser, test_str(buf),
                                             &memory.memory, &xml),
                         WECHATPAY_OK);
        test_memory_free(&memory);
    }

    after = mallinfo2().uordblks;

    assert_in_range(after, 0, before + 512 * 1024);

    wechatpay_xml_parser_destroy(parser);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_xml_fields),
        cmocka_unit_test(test_xml_quiet),
        cmocka_unit_test(test_xml_names)
    };

    return cmocka_run_group_tests_name("xml", tests, NULL, NULL);
}
