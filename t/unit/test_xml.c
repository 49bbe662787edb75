
/*
 * Copyright (C) the refund-notify authors
 */


#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <libxml/parser.h>
#include <libxml/xmlIO.h>

#include "test_notify.h"
#include "wechatpay_xml.h"


/*
 * The CPU time, in microseconds, that 1 MB may take: about 20 times what the
 * slowest of the texts below does.  What takes the square of a text's length
 * takes seconds.  Without a limit on the number of fields it is 5 times that.
 */

#if defined(__SANITIZE_ADDRESS__)
#define TEST_XML_SLOW  10
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_XML_SLOW  10
#endif
#endif

#ifndef TEST_XML_SLOW
#define TEST_XML_SLOW  1
#endif

#define TEST_XML_TIME  (200000 * TEST_XML_SLOW)


/* head, and as many times part (a number, and behind) as there is room for. */

typedef struct {
    const char         *head;
    const char         *part;
    const char         *behind;         /* NULL: no number either */
    const char         *tail;
    wechatpay_error_e   error;
} test_xml_hostile_t;


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

    text = test_str("<r>\r\n\t<a>1</a> &#13;<b>x<![CDATA[<]]>&gt;<!-- y -->z\r\n"
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


/* What is skipped before a document is white space, and that is no NUL. */

static void
test_xml_before(void **state)
{
    size_t                   i;
    wechatpay_str_t          text;
    wechatpay_xml_t          xml;
    test_memory_t            memory;
    wechatpay_xml_field_t    fields[4];
    wechatpay_xml_parser_t  *parser;

    static const unsigned char  before[] = { ' ', '\t', '\r', '\n', '\0',
                                             '\v', 'x' };
    static unsigned char        bytes[] = " <r/>";

    (void) state;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    xml.fields = fields;
    text.data = bytes;
    text.len = sizeof(bytes) - 1;

    for (i = 0; i < sizeof(before) * 2; i++) {
        bytes[0] = before[i / 2];
        xml.max = (i % 2) ? 0 : test_count(fields);

        test_memory_init(&memory, -1);
        assert_int_equal(wechatpay_xml_parse(parser, text, &memory.memory,
                                             &xml)
                         == WECHATPAY_OK,
                         i / 2 < 4);
        test_memory_free(&memory);
    }

    wechatpay_xml_parser_destroy(parser);
}


/*
 * What libxml2 remembers of a document, its names and its catalogues, it keeps:
 * anybody could fill the memory with new ones.
 */

static void
test_xml_kept(const char *format, wechatpay_error_e error)
{
    char                     buf[256];
    unsigned                 i;
    size_t                   before, after;
    wechatpay_xml_t          xml;
    test_memory_t            memory;
    wechatpay_xml_field_t    fields[4];
    wechatpay_xml_parser_t  *parser;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    xml.fields = fields;
    xml.max = test_count(fields);

    before = mallinfo2().uordblks;

    for (i = 0; i < 50000; i++) {
        snprintf(buf, sizeof(buf), format, i);

        test_memory_init(&memory, -1);
        assert_int_equal(wechatpay_xml_parse(parser, test_str(buf),
                                             &memory.memory, &xml),
                         error);
        test_memory_free(&memory);
    }

    after = mallinfo2().uordblks;

    assert_in_range(after, 0, before + 512 * 1024);

    wechatpay_xml_parser_destroy(parser);
}


static void
test_xml_names(void **state)
{
    (void) state;

    test_xml_kept("<r><name-that-is-rather-long-to-fill-a-dictionary-%u/></r>",
                  WECHATPAY_OK);
}


static void
test_xml_catalogues(void **state)
{
    (void) state;

    test_xml_kept("<?oasis-xml-catalog catalog='a-catalogue-%u'?><r/>",
                  WECHATPAY_ERROR_XML_INSTRUCTION);
}


static wechatpay_str_t
test_xml_text(const test_xml_hostile_t *hostile, char *buf)
{
    int              n;
    char             part[64];
    size_t           len, room;
    unsigned         i;
    wechatpay_str_t  text;

    len = strlen(hostile->head);
    room = WECHATPAY_XML_MAX_SIZE - strlen(hostile->tail);

    memcpy(buf, hostile->head, len);

    for (i = 0; /* void */ ; i++) {

        n = hostile->behind
            ? snprintf(part, sizeof(part), "%s%u%s", hostile->part, i,
                       hostile->behind)
            : snprintf(part, sizeof(part), "%s", hostile->part);

        if (len + (size_t) n > room) {
            break;
        }

        memcpy(buf + len, part, (size_t) n);
        len += (size_t) n;
    }

    memcpy(buf + len, hostile->tail, strlen(hostile->tail));

    text.data = (unsigned char *) buf;
    text.len = len + strlen(hostile->tail);

    return text;
}


/* Anybody may send 1 MB of anything, while the worker has others to serve. */

static void
test_xml_hostile(void **state)
{
    char                        *buf;
    long                         us;
    size_t                       i, max;
    wechatpay_xml_t              xml;
    test_memory_t                memory;
    wechatpay_str_t              text;
    struct timespec              from, to;
    wechatpay_error_e            error;
    wechatpay_xml_field_t        fields[64];
    wechatpay_xml_parser_t      *parser;
    const test_xml_hostile_t    *hostile;

    static const test_xml_hostile_t  texts[] = {
        { "<r><a>", "x", NULL, "</a></r>", WECHATPAY_OK },

        { "<r", " a", "=\"\"", "/>", WECHATPAY_ERROR_XML_ATTRIBUTE },
        { "<r", " xmlns:a", "=\"u\"", "/>", WECHATPAY_ERROR_XML_ATTRIBUTE },
        { "<r><a", " a=''", NULL, "/></r>", WECHATPAY_ERROR_XML_ATTRIBUTE },
        { "<r", " a", "", "/>", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r", " ", NULL, "/>", WECHATPAY_OK },
        { "<?xml version='1.0'", " a", "=''", "?><r/>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<?xml version='1.", "1", NULL, "'?><r/>", WECHATPAY_OK },
        { "<?xml version='1.0'", " ", NULL, "?><r/>", WECHATPAY_OK },
        { "<?xml version='1.0' encoding='a", "a", NULL, "'?><r/>",
          WECHATPAY_OK },

        { "<?a ", "x", NULL, "?><r/>", WECHATPAY_ERROR_XML_INSTRUCTION },
        { "<?a", "a", NULL, "?><r/>", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r>", "<?a b?>", NULL, "</r>", WECHATPAY_ERROR_XML_INSTRUCTION },
        { "<r>", "<?", NULL, "", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<!DOCTYPE a [", "<!ENTITY a", " 'b'>", "]><r/>",
          WECHATPAY_ERROR_XML_DOCTYPE },
        { "<!DOCTYPE a [", "<!ATTLIST r a", " CDATA 'b'>", "]><r/>",
          WECHATPAY_ERROR_XML_DOCTYPE },
        { "<!DOCTYPE a SYSTEM '", "x", NULL, "'><r/>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },

        { "<r><a>", "&amp;", NULL, "</a></r>", WECHATPAY_OK },
        { "<r><a>", "&#65;", NULL, "</a></r>", WECHATPAY_OK },
        { "<r><a>&#", "0", NULL, "65;</a></r>", WECHATPAY_OK },
        { "<r><a>&#", "1", NULL, ";</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a>", "&x;", NULL, "</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a>", "&x", ";", "</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a>", "&", NULL, "</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a>", "\001", NULL, "</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a>", "]]>", NULL, "</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a>", "]", NULL, "</a></r>", WECHATPAY_OK },
        { "<r><a>", "\r", NULL, "</a></r>", WECHATPAY_OK },
        { "<r><a>", "\344\270\255&lt;a\r", NULL, "</a></r>", WECHATPAY_OK },

        { "<r><a>", "<![CDATA[]]>", NULL, "</a></r>", WECHATPAY_OK },
        { "<r><a>", "<![CDATA[x]]>", NULL, "</a></r>", WECHATPAY_OK },
        { "<r><a><![CDATA[", "]", NULL, "]]></a></r>", WECHATPAY_OK },
        { "<r><a><![CDATA[", "<![CDATA[", NULL, "]]></a></r>", WECHATPAY_OK },
        { "<r><a>", "<![CDATA[", NULL, "</a></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r>", "<!---->", NULL, "</r>", WECHATPAY_OK },
        { "<r><!--", "- ", NULL, "--></r>", WECHATPAY_OK },
        { "<r><!--", "--", NULL, "--></r>",
          WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r>", "<!--", NULL, "", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r/>", "<!--x-->", NULL, "", WECHATPAY_OK },

        { "", "<a>", NULL, "", WECHATPAY_ERROR_XML_NESTED },
        { "<r>", "</a>", NULL, "", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r>", "<", NULL, "", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r>", "<a/>", NULL, "</r>", WECHATPAY_ERROR_XML_REPEATED },
        { "<r>", "<a", "/>", "</r>", WECHATPAY_ERROR_XML_TOO_MANY },
        { "<r><", "a", NULL, "/></r>", WECHATPAY_ERROR_XML_NOT_WELL_FORMED },
        { "<r><a", ":a", NULL, "/></r>", WECHATPAY_ERROR_XML_NOT_WELL_FORMED }
    };

    (void) state;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    buf = malloc(WECHATPAY_XML_MAX_SIZE);
    assert_non_null(buf);

    for (i = 0; i < test_count(texts) * 2; i++) {
        hostile = &texts[i / 2];
        max = (i % 2) ? 0 : test_count(fields);

        text = test_xml_text(hostile, buf);

        xml.fields = fields;
        xml.max = max;

        test_memory_init(&memory, -1);

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        error = wechatpay_xml_parse(parser, text, &memory.memory, &xml);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);

        test_memory_free(&memory);

        us = (to.tv_sec - from.tv_sec) * 1000000
             + (to.tv_nsec - from.tv_nsec) / 1000;

        if (us > (max ? TEST_XML_TIME : 5 * TEST_XML_TIME)) {
            fail_msg("%s%s%s...: %ld us", hostile->head, hostile->part,
                     hostile->behind ? hostile->behind : "", us);
        }

        if (error != hostile->error
            && (max || hostile->error != WECHATPAY_ERROR_XML_TOO_MANY))
        {
            fail_msg("%s%s%s...: \"%s\"", hostile->head, hostile->part,
                     hostile->behind ? hostile->behind : "",
                     wechatpay_error_phrase(error));
        }
    }

    free(buf);
    wechatpay_xml_parser_destroy(parser);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_xml_fields),
        cmocka_unit_test(test_xml_quiet),
        cmocka_unit_test(test_xml_before),
        cmocka_unit_test(test_xml_names),
        cmocka_unit_test(test_xml_catalogues),
        cmocka_unit_test(test_xml_hostile)
    };

    return cmocka_run_group_tests_name("xml", tests, NULL, NULL);
}
