
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdio.h>
#include <stdlib.h>

#include "test_notify.h"
#include "wechatpay_json.h"
#include "wechatpay_json_plain.h"


/* with its length, for a NUL may stand in it */
#define TEST_TEXT(text)  text, sizeof(text) - 1


/*
 * What is plain is what Jansson takes as well, and would write so; the rest is
 * not told to be wrong, for most of it is right.
 */

static void
test_json_plain_texts(void **state)
{
    int                      plain;
    size_t                   i, len;
    json_t                  *object;
    test_memory_t            memory;
    unsigned char           *copy;
    wechatpay_str_t          text, dump;
    wechatpay_json_plain_t   json;

    static const struct {
        const char  *text;
        size_t       len;
        int          plain;
    } texts[] = {
        { TEST_TEXT("{\"a\":\"1\"}"), 1 },
        { TEST_TEXT("{\"a\":\"\"}"), 1 },
        { TEST_TEXT("{\"a\":0}"), 1 },
        { TEST_TEXT("{\"a\":999999999999999}"), 1 },
        { TEST_TEXT("{\"a\":1,\"b\":\"2\",\"A\":{\"a\":1,\"b\":\"2\"},"
                    "\"c\":3}"), 1 },
        { TEST_TEXT("{\"a\":{\"a\":{},\"b\":1}}"), 0 },
        { TEST_TEXT("{\"a\":{\"b\":1},\"b\":{\"a\":1}}"), 1 },
        { TEST_TEXT("{\"a\":\"{[,:]}/'<>&\"}"), 1 },
        { TEST_TEXT("{\"a b\":\" \"}"), 1 },
        { TEST_TEXT("{\"\":1}"), 1 },
        { TEST_TEXT("{\"\344\270\255\":"
                    "\"\360\237\230\200\302\200\357\277\275\"}"), 1 },
        { TEST_TEXT("{\"a\":\"\177\"}"), 1 },

        /* right, and not plain */

        { TEST_TEXT("{}"), 0 },
        { TEST_TEXT("{\"a\":{}}"), 0 },
        { TEST_TEXT("{\"a\":{\"b\":{\"c\":1}}}"), 0 },
        { TEST_TEXT("{\"a\":[]}"), 0 },
        { TEST_TEXT("{\"a\":null}"), 0 },
        { TEST_TEXT("{\"a\":true}"), 0 },
        { TEST_TEXT("{\"a\":-1}"), 0 },
        { TEST_TEXT("{\"a\":-0}"), 0 },
        { TEST_TEXT("{\"a\":1.0}"), 0 },
        { TEST_TEXT("{\"a\":1e1}"), 0 },
        { TEST_TEXT("{\"a\":1000000000000000}"), 0 },
        { TEST_TEXT("{\"a\":\"\\n\"}"), 0 },
        { TEST_TEXT("{\"a\":\"\\u0041\"}"), 0 },
        { TEST_TEXT("{\"\\\"\":1}"), 0 },
        { TEST_TEXT(" {\"a\":1}"), 0 },
        { TEST_TEXT("{\"a\":1} "), 0 },
        { TEST_TEXT("{\"a\":1}\n"), 0 },
        { TEST_TEXT("{ \"a\":1}"), 0 },
        { TEST_TEXT("{\"a\" :1}"), 0 },
        { TEST_TEXT("{\"a\": 1}"), 0 },
        { TEST_TEXT("{\"a\":1 }"), 0 },
        { TEST_TEXT("{\"a\":1, \"b\":2}"), 0 },
        { TEST_TEXT("{\n\"a\":1}"), 0 },
        { TEST_TEXT("{\"a\":\"\357\277\277\"}"), 0 },

        /* wrong */

        { TEST_TEXT(""), 0 },
        { TEST_TEXT("{"), 0 },
        { TEST_TEXT("}"), 0 },
        { TEST_TEXT("\"a\":1}"), 0 },
        { TEST_TEXT("{\""), 0 },
        { TEST_TEXT("{\"a"), 0 },
        { TEST_TEXT("{\"a\""), 0 },
        { TEST_TEXT("{\"a\":"), 0 },
        { TEST_TEXT("{\"a\":\""), 0 },
        { TEST_TEXT("{\"a\":\"1"), 0 },
        { TEST_TEXT("{\"a\":\"1\""), 0 },
        { TEST_TEXT("{\"a\":1"), 0 },
        { TEST_TEXT("{\"a\":1,"), 0 },
        { TEST_TEXT("{\"a\":1,}"), 0 },
        { TEST_TEXT("{\"a\":{\"b\":1}"), 0 },
        { TEST_TEXT("{\"a\":1}}"), 0 },
        { TEST_TEXT("{\"a\":1}{\"a\":1}"), 0 },
        { TEST_TEXT("{\"a\":1;\"b\":2}"), 0 },
        { TEST_TEXT("{\"a\"=1}"), 0 },
        { TEST_TEXT("{a:1}"), 0 },
        { TEST_TEXT("{'a':1}"), 0 },
        { TEST_TEXT("{\"a\"}"), 0 },
        { TEST_TEXT("{\"a\":1]"), 0 },
        { TEST_TEXT("{\"a\":{\"b\":1]}"), 0 },
        { TEST_TEXT("{\"a\":}"), 0 },
        { TEST_TEXT("{\"a\":+1}"), 0 },
        { TEST_TEXT("{\"a\":00}"), 0 },
        { TEST_TEXT("{\"a\":01}"), 0 },
        { TEST_TEXT("{\"a\":1a}"), 0 },
        { TEST_TEXT("{\"a\":\"1\"\"2\"}"), 0 },
        { TEST_TEXT("{\"a\":1,\"a\":2}"), 0 },
        { TEST_TEXT("{\"a\":{\"b\":1,\"c\":2,\"b\":3}}"), 0 },
        { TEST_TEXT("{\"a\":{\"b\":1},\"b\":2,\"a\":3}"), 0 },
        { TEST_TEXT("{\"a\":\"\n\"}"), 0 },
        { TEST_TEXT("{\"a\":\"\t\"}"), 0 },
        { TEST_TEXT("{\"a\":\"\001\"}"), 0 },
        { TEST_TEXT("{\"a\":\"\377\"}"), 0 },
        { TEST_TEXT("{\"a\":\"\355\240\200\"}"), 0 },
        { TEST_TEXT("{\"a\":\"\344\270\"}"), 0 },
        { TEST_TEXT("[\"a\"]"), 0 },
        { TEST_TEXT("1"), 0 },
        { TEST_TEXT("{\"a\":\"\0\"}"), 0 },
        { TEST_TEXT("{\"a\":1}\0"), 0 }
    };

    (void) state;

    for (i = 0; i < test_count(texts); i++) {

        /* a piece of its own, so that the sanitizers see what is read */

        len = texts[i].len;
        copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy + 1, texts[i].text, len);

        text.data = copy + 1;
        text.len = len;

        plain = wechatpay_json_plain(text, &json);

        if (plain != texts[i].plain) {
            fail_msg("%s: %d", texts[i].text, plain);
        }

        if (plain) {
            test_memory_init(&memory, -1);

            if (wechatpay_json_parse(text, &object) != WECHATPAY_OK
                || wechatpay_json_dump(object, 0, &memory.memory, &dump)
                   != WECHATPAY_OK
                || !wechatpay_str_equal(dump, text))
            {
                fail_msg("%s: Jansson sees another", texts[i].text);
            }

            json_decref(object);
            test_memory_free(&memory);
        }

        free(copy);
    }
}


static void
test_json_plain_members(void **state)
{
    wechatpay_json_plain_t          json;
    const wechatpay_json_member_t  *member;

    (void) state;

    assert_int_equal(
        wechatpay_json_plain(test_str("{\"a\":12,\"b\":{\"a\":\"x\",\"c\":3},"
                                      "\"d\":\"y\"}"), &json),
        1);
    assert_int_equal(json.nmembers, 5);

    member = wechatpay_json_plain_find(json.members, json.nmembers,
                                       test_str("a"));
    assert_non_null(member);
    assert_int_equal(member->kind, WECHATPAY_JSON_INTEGER);
    assert_int_equal(member->integer, 12);
    assert_true(wechatpay_str_equal(member->text, test_str("\"a\":12")));

    member = wechatpay_json_plain_find(json.members, json.nmembers,
                                       test_str("d"));
    assert_non_null(member);
    assert_int_equal(member->kind, WECHATPAY_JSON_STRING);
    assert_true(wechatpay_str_equal(member->string, test_str("y")));
    assert_true(wechatpay_str_equal(member->text, test_str("\"d\":\"y\"")));

    /* a member of a member is none of the object's own */

    assert_null(wechatpay_json_plain_find(json.members, json.nmembers,
                                          test_str("c")));

    member = wechatpay_json_plain_find(json.members, json.nmembers,
                                       test_str("b"));
    assert_non_null(member);
    assert_int_equal(member->kind, WECHATPAY_JSON_OBJECT);
    assert_int_equal(member->nmembers, 2);
    assert_true(wechatpay_str_equal(member->text,
                                   test_str("\"b\":{\"a\":\"x\",\"c\":3}")));

    member = wechatpay_json_plain_find(member + 1, member->nmembers,
                                       test_str("a"));
    assert_non_null(member);
    assert_true(wechatpay_str_equal(member->string, test_str("x")));
}


static void
test_json_plain_max(void **state)
{
    int                     n;
    char                    text[1024];
    size_t                  i, len;
    wechatpay_json_plain_t  json;

    (void) state;

    for (i = 1, len = 0; i <= WECHATPAY_JSON_PLAIN_MAX + 1; i++) {
        text[len] = (i == 1) ? '{' : ',';
        len++;

        n = snprintf(text + len, sizeof(text) - len, "\"%zu\":%zu}", i, i);
        assert_in_range(n, 1, sizeof(text) - len - 1);

        assert_int_equal(wechatpay_json_plain(test_str(text), &json),
                         i <= WECHATPAY_JSON_PLAIN_MAX);

        len += (size_t) n - 1;
    }
}


/* The notify on WeChat Pay's page is of the form. */

static void
test_json_plain_notify(void **state)
{
    wechatpay_json_plain_t  json;

    (void) state;

    assert_int_equal(
        wechatpay_json_plain(test_vector_find("v3: the documented example")
                             ->body, &json),
        1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_json_plain_texts),
        cmocka_unit_test(test_json_plain_members),
        cmocka_unit_test(test_json_plain_max),
        cmocka_unit_test(test_json_plain_notify)
    };

    return cmocka_run_group_tests_name("json_plain", tests, NULL, NULL);
}
