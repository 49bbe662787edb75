
/*
 * Copyright (C) the refund-notify authors
 */


#include <jansson.h>

#include "test_notify.h"
#include "wechatpay_json.h"


#define TEST_32  "12345678901234567890123456789012"


/* All at its longest and of the characters that take most room. */

static void
test_event_longest(void **state)
{
    unsigned char        text[1024];
    json_t              *object, *data;
    test_memory_t        memory;
    json_error_t         error;
    wechatpay_str_t      id, json, value;
    wechatpay_refund_t   refund;

    (void) state;

    memset(text, 1, sizeof(text));

    value.data = text;
    value.len = sizeof(text);

    memset(&refund, 0, sizeof(wechatpay_refund_t));

    refund.version = WECHATPAY_V3;
    refund.status = WECHATPAY_REFUND_ABNORMAL;
    refund.mch_id = test_str(TEST_32);
    refund.refund_id = test_str(TEST_32 TEST_32);
    refund.notify_id = test_str(TEST_32 TEST_32);
    refund.sub_mch_id = value;
    refund.app_id = value;
    refund.sub_app_id = value;
    refund.transaction_id = value;
    refund.out_trade_no = value;
    refund.out_refund_no = value;
    refund.success_time = value;
    refund.user_received_account = value;
    refund.funds_account = value;
    refund.request_source = value;
    refund.create_time = value;
    refund.amount.total = INT64_MAX;
    refund.amount.refund = INT64_MAX;
    refund.amount.payer_total = INT64_MAX;
    refund.amount.payer_refund = INT64_MAX;
    refund.amount.settlement_total = INT64_MAX;
    refund.amount.settlement_refund = 0;
    refund.amount.currency = value;
    refund.extra = test_str("\"a\":\"b\",\"c\":1");

    test_memory_init(&memory, -1);

    assert_int_equal(wechatpay_event_id(&refund, &memory.memory, &id),
                     WECHATPAY_OK);
    assert_int_equal(id.len, WECHATPAY_EVENT_ID_MAX_LEN);
    assert_true(wechatpay_str_equal(id, test_str("wechatpay:" TEST_32 ":"
                                                 TEST_32 TEST_32 ":ABNORMAL:"
                                                 TEST_32 TEST_32)));

    assert_int_equal(wechatpay_event_json(&refund, id, value, 0,
                                          &memory.memory, &json),
                     WECHATPAY_OK);

    object = json_loadb((const char *) json.data, json.len,
                        JSON_REJECT_DUPLICATES, &error);
    assert_non_null(object);

    data = json_object_get(object, "data");
    assert_int_equal(wechatpay_json_get(object, "merchant").len, value.len);
    assert_int_equal(wechatpay_json_get(data, "request_source").len,
                     value.len);
    assert_int_equal(json_object_size(json_object_get(data, "extra")), 2);
    assert_true(json_integer_value(json_object_get(
                           json_object_get(data, "amount"), "payer_refund"))
                == INT64_MAX);

    json_decref(object);
    test_memory_free(&memory);
}


/* What is escaped comes back as it was, and nothing is escaped in vain. */

static void
test_event_escapes(void **state)
{
    size_t           i, j;
    json_t          *object;
    unsigned char    all[127], buf[sizeof(all) * 6 + sizeof("{\"a\":\"\"}")];
    unsigned char   *p;
    wechatpay_str_t  text, value;

    (void) state;

    for (i = 0; i < sizeof(all); i++) {
        all[i] = (unsigned char) (i + 1);
    }

    text.data = all;
    text.len = sizeof(all);

    memcpy(buf, "{\"a\":\"", 6);
    p = wechatpay_json_escape(buf + 6, text);
    memcpy(p, "\"}", 2);

    text.data = buf;
    text.len = (size_t) (p + 2 - buf);

    assert_int_equal(wechatpay_json_parse(text, &object), WECHATPAY_OK);

    value = wechatpay_json_get(object, "a");
    assert_int_equal(value.len, sizeof(all));
    assert_memory_equal(value.data, all, value.len);

    json_decref(object);

    for (i = ' ', j = 0; i < 128; i++) {
        text.data = all + i - 1;
        text.len = 1;
        j += (size_t) (wechatpay_json_escape(buf, text) - buf) - 1;
    }

    assert_int_equal(j, 2);
}


/* A byte is escaped as it is alone, at any place and beside any other. */

static void
test_event_escape_places(void **state)
{
    size_t           i, len;
    unsigned         c, beside;
    unsigned char    data[18], buf[sizeof(data) * 6], alone[6];
    wechatpay_str_t  text;

    (void) state;

    for (c = 0; c < 256; c++) {

        data[0] = (unsigned char) c;

        text.data = data;
        text.len = 1;
        len = (size_t) (wechatpay_json_escape(alone, text) - alone);

        assert_int_equal(len != 1, c < 0x20 || c == '"' || c == '\\');

        text.len = sizeof(data);

        for (i = 0; i < sizeof(data) * 3; i++) {

            beside = (i % 3 == 0) ? '!' : (i % 3 == 1) ? 0x7f : 0xff;

            memset(data, (int) beside, sizeof(data));
            data[i / 3] = (unsigned char) c;

            assert_int_equal(wechatpay_json_escape(buf, text) - buf,
                             sizeof(data) - 1 + len);
            assert_memory_equal(buf, data, i / 3);
            assert_memory_equal(buf + i / 3, alone, len);
            assert_memory_equal(buf + i / 3 + len, data + i / 3 + 1,
                                sizeof(data) - 1 - i / 3);
        }
    }
}


static void
test_event_receipt(void **state)
{
    size_t               i;
    json_t              *object;
    test_memory_t        memory;
    wechatpay_str_t      json;
    wechatpay_refund_t   refund;

    static const struct {
        time_t       received;
        const char  *timestamp;
    } times[] = {
        { 0, "1970-01-01T08:00:00+08:00" },
        { 951753599, "2000-02-28T23:59:59+08:00" },
        { 951753600, "2000-02-29T00:00:00+08:00" },
        { 1735660799, "2024-12-31T23:59:59+08:00" },
        { 1735660800, "2025-01-01T00:00:00+08:00" },
        { 4107513600, "2100-03-01T00:00:00+08:00" }
    };

    (void) state;

    memset(&refund, 0, sizeof(wechatpay_refund_t));
    wechatpay_amount_init(&refund.amount);
    refund.version = WECHATPAY_V2;

    for (i = 0; i < test_count(times); i++) {
        test_memory_init(&memory, -1);

        assert_int_equal(wechatpay_event_json(&refund, test_str("i"),
                                              test_str("m"),
                                              times[i].received,
                                              &memory.memory, &json),
                         WECHATPAY_OK);
        assert_int_equal(wechatpay_json_parse(json, &object), WECHATPAY_OK);
        assert_true(wechatpay_str_equal(wechatpay_json_get(object,
                                                           "timestamp"),
                                        test_str(times[i].timestamp)));

        json_decref(object);
        test_memory_free(&memory);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_event_longest),
        cmocka_unit_test(test_event_escapes),
        cmocka_unit_test(test_event_escape_places),
        cmocka_unit_test(test_event_receipt)
    };

    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
