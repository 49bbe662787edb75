
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdio.h>

#include "test_notify.h"
#include "wechatpay_reply.h"


#define TEST_V2(code, message)                                                \
    "<xml><return_code><![CDATA[" code "]]></return_code>"                    \
    "<return_msg><![CDATA[" message "]]></return_msg></xml>"
#define TEST_V3(code, message)                                                \
    "{\"code\":\"" code "\",\"message\":\"" message "\"}"


static void
test_reply_bodies(void **state)
{
    size_t                    i;
    const wechatpay_reply_t  *v2, *v3;

    /* written out, not made: this is what WeChat Pay sees */

    static const struct {
        wechatpay_result_e   result;
        unsigned             status;
        const char          *word;
        const char          *v2;
        const char          *v3;
    } replies[] = {
        { WECHATPAY_RESULT_DELIVERED, 200, "delivered",
          TEST_V2("SUCCESS", "OK"), TEST_V3("SUCCESS", "OK") },
        { WECHATPAY_RESULT_DUPLICATE, 200, "duplicate",
          TEST_V2("SUCCESS", "OK"), TEST_V3("SUCCESS", "OK") },
        { WECHATPAY_RESULT_IGNORED, 200, "ignored",
          TEST_V2("SUCCESS", "OK"), TEST_V3("SUCCESS", "OK") },
        { WECHATPAY_RESULT_UNSUPPORTED, 403, "unsupported",
          TEST_V2("FAIL", "unsupported"), TEST_V3("FAIL", "unsupported") },
        { WECHATPAY_RESULT_IN_FLIGHT, 503, "in_flight",
          TEST_V2("FAIL", "in_flight"), TEST_V3("FAIL", "in_flight") },
        { WECHATPAY_RESULT_UPSTREAM_ERROR, 502, "upstream_error",
          TEST_V2("FAIL", "upstream_error"),
          TEST_V3("FAIL", "upstream_error") },
        { WECHATPAY_RESULT_DEADLINE, 504, "deadline",
          TEST_V2("FAIL", "deadline"), TEST_V3("FAIL", "deadline") },
        { WECHATPAY_RESULT_STORE_ERROR, 503, "store_error",
          TEST_V2("FAIL", "store_error"), TEST_V3("FAIL", "store_error") },
        { WECHATPAY_RESULT_MALFORMED, 400, "malformed",
          TEST_V2("FAIL", "malformed"), TEST_V3("FAIL", "malformed") },
        { WECHATPAY_RESULT_UNVERIFIED, 401, "unverified",
          TEST_V2("FAIL", "unverified"), TEST_V3("FAIL", "unverified") },
        { WECHATPAY_RESULT_UNDECRYPTABLE, 400, "undecryptable",
          TEST_V2("FAIL", "undecryptable"),
          TEST_V3("FAIL", "undecryptable") },
        { WECHATPAY_RESULT_MISMATCH, 403, "mismatch",
          TEST_V2("FAIL", "mismatch"), TEST_V3("FAIL", "mismatch") }
    };

    (void) state;

    assert_int_equal(test_count(replies), WECHATPAY_RESULT_COUNT);

    for (i = 0; i < test_count(replies); i++) {
        v2 = wechatpay_reply(WECHATPAY_V2, replies[i].result);
        v3 = wechatpay_reply(WECHATPAY_V3, replies[i].result);

        assert_int_equal(v2->status, 200);
        assert_int_equal(v3->status, replies[i].status);
        assert_true(wechatpay_str_equal(v2->body, test_str(replies[i].v2)));
        assert_true(wechatpay_str_equal(v3->body, test_str(replies[i].v3)));
        assert_true(wechatpay_str_equal(v2->content_type,
                                        test_str("text/xml")));
        assert_true(wechatpay_str_equal(v3->content_type,
                                        test_str("application/json")));
        assert_true(wechatpay_str_equal(
                                     wechatpay_result_word(replies[i].result),
                                     test_str(replies[i].word)));

        assert_ptr_equal(wechatpay_reply(WECHATPAY_VERSION_UNKNOWN,
                                         replies[i].result),
                         v3);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_reply_bodies)
    };

    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
