
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>

#include "test_outbound.h"
#include "wechatpay_json.h"
#include "wechatpay_xml.h"


static wechatpay_parser_t  *test_answer_parser;


/* Down to the JSON; the response is a piece of its own, and gone after. */

static void
test_answer_take(const test_answer_t *vector, wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer)
{
    size_t                i;
    unsigned char        *copy;
    wechatpay_headers_t   headers;
    wechatpay_response_t  response;

    memset(&headers, 0, sizeof(wechatpay_headers_t));

    for (i = 0; vector->headers[i].name.len != 0; i++) {
        assert_true(wechatpay_headers_add(&headers, vector->headers[i].name,
                                          vector->headers[i].value));
    }

    copy = malloc(vector->body.len + 1);
    assert_non_null(copy);

    memcpy(copy + 1, vector->body.data, vector->body.len);

    response.status = vector->status;
    response.headers = &headers;
    response.body.data = copy + 1;
    response.body.len = vector->body.len;
    response.now = test_outbound_now();
    response.skew = 300;

    wechatpay_answer(test_answer_parser, merchant, request, &response, memory,
                     answer);

    free(copy);
}


static void
test_answer_vectors(void **state)
{
    size_t                 i, n;
    test_memory_t          memory;
    wechatpay_str_t        json, id;
    wechatpay_answer_t     answer;
    wechatpay_refund_t     event;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    const test_answer_t   *vector;
    wechatpay_merchant_t  *merchant;

    (void) state;

    for (i = 0; i < test_answer_count(); i++) {
        vector = test_answer(i);

        merchant = test_outbound_merchant(vector->request.merchant);
        test_memory_init(&memory, -1);

        if (test_request_run(&vector->request, merchant, &memory, &request,
                             &failure)
            != 0)
        {
            fail_msg("%s: the request is wrong", vector->request.name);
        }

        test_answer_take(vector, merchant, &request, &memory.memory, &answer);

        assert_int_equal(wechatpay_answer_json(&answer, test_str("shop"),
                                               &memory.memory, &json),
                         WECHATPAY_OK);

        if (!wechatpay_str_equal(json, vector->json)) {
            fail_msg("%s (%s):\n%.*s\ninstead of\n%.*s", vector->request.name,
                     answer.reason, (int) json.len, json.data,
                     (int) vector->json.len, vector->json.data);
        }

        if (vector->http != 0) {
            assert_int_equal(answer.failure.status, vector->http);
        }

        if (answer.outcome == WECHATPAY_ACCEPTED) {
            assert_string_equal(answer.reason, "");

        } else {
            assert_int_equal(answer.outcome, answer.failure.outcome);
            assert_int_equal(answer.nrefunds, 0);
            assert_int_equal(answer.failure.provider_code.len == 0,
                             answer.reason[0] != '\0');
        }

        n = (answer.nrefunds != 0
             && wechatpay_answer_event(&answer.refunds[0], &event));

        if (n != (vector->event.len != 0)) {
            fail_msg("%s: %u events", vector->request.name, (unsigned) n);
        }

        if (n != 0) {
            assert_int_equal(wechatpay_event_id(&event, &memory.memory, &id),
                             WECHATPAY_OK);
            assert_int_equal(wechatpay_event_json(&event, id, test_str("shop"),
                                                  0, &memory.memory, &json),
                             WECHATPAY_OK);

            if (!wechatpay_str_equal(json, vector->event)) {
                fail_msg("%s: event:\n%.*s\ninstead of\n%.*s",
                         vector->request.name, (int) json.len, json.data,
                         (int) vector->event.len, vector->event.data);
            }
        }

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);

        assert_int_equal(ERR_peek_error(), 0);
    }

    print_message("%u vectors\n", (unsigned) test_answer_count());
    assert_in_range(test_answer_count(), 150, SIZE_MAX);
}


/* No bit of a genuine answer can change, and none be left out. */

static void
test_answer_changed(void **state)
{
    size_t                 i, n;
    unsigned char         *copy;
    test_answer_t          vector;
    test_memory_t          memory, other;
    wechatpay_answer_t     answer;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    wechatpay_merchant_t  *merchant;

    static const char  *names[] = { "v3: the documented example",
                                    "v3: NOT_ENOUGH, 403",
                                    "v2: a refund", "v2: NOTENOUGH" };

    (void) state;

    for (n = 0; n < test_count(names); n++) {

        for (i = 0; i < test_answer_count(); i++) {
            if (strcmp(test_answer(i)->request.name, names[n]) == 0) {
                break;
            }
        }

        assert_in_range(i, 0, test_answer_count() - 1);

        vector = *test_answer(i);

        merchant = test_outbound_merchant(vector.request.merchant);
        test_memory_init(&memory, -1);

        assert_int_equal(test_request_run(&vector.request, merchant, &memory,
                                          &request, &failure), 0);

        copy = malloc(vector.body.len);
        assert_non_null(copy);

        memcpy(copy, vector.body.data, vector.body.len);
        vector.body.data = copy;

        for (i = 0; i < vector.body.len; i++) {
            copy[i] ^= (unsigned char) (1 << i % 7);

            test_memory_init(&other, -1);
            test_answer_take(&vector, merchant, &request, &other.memory,
                             &answer);
            test_memory_free(&other);

            copy[i] ^= (unsigned char) (1 << i % 7);

            assert_int_equal(answer.outcome, WECHATPAY_UNKNOWN);
            assert_true(wechatpay_str_equal(answer.failure.code,
                                            test_str("UNVERIFIED_RESPONSE")));
        }

        while (vector.body.len-- != 0) {
            test_memory_init(&other, -1);
            test_answer_take(&vector, merchant, &request, &other.memory,
                             &answer);
            test_memory_free(&other);

            assert_int_equal(answer.outcome, WECHATPAY_UNKNOWN);
        }

        free(copy);
        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);
    }
}


/*
 * Without memory the outcome is unknown, whatever the answer says, and that is
 * no fault of the answer's.
 */

static void
test_answer_no_memory(void **state)
{
    long                   left;
    size_t                 i, unknown;
    test_memory_t          memory, other;
    wechatpay_str_t        json, internal_error;
    wechatpay_error_e      error;
    wechatpay_answer_t     answer;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    const test_answer_t   *vector;
    wechatpay_merchant_t  *merchant;

    (void) state;

    unknown = 0;
    internal_error = test_str("{\"outcome\":\"unknown\",\"error\":{"
                              "\"code\":\"INTERNAL_ERROR\","
                              "\"retryable\":true}}");

    for (i = 0; i < test_answer_count(); i++) {
        vector = test_answer(i);

        if (strstr((const char *) vector->json.data, "unknown") != NULL
            || vector->body.len > 64 * 1024)
        {
            continue;
        }

        merchant = test_outbound_merchant(vector->request.merchant);
        test_memory_init(&memory, -1);

        assert_int_equal(test_request_run(&vector->request, merchant, &memory,
                                          &request, &failure), 0);

        for (left = 0; /* void */ ; left++) {
            test_memory_init(&other, left);
            test_answer_take(vector, merchant, &request, &other.memory,
                             &answer);

            if (answer.outcome == WECHATPAY_UNKNOWN) {
                other.left = -1;
            }

            error = wechatpay_answer_json(&answer, test_str("shop"),
                                          &other.memory, &json);

            if (error == WECHATPAY_OK
                && wechatpay_str_equal(json, vector->json))
            {
                test_memory_free(&other);
                break;
            }

            if (error == WECHATPAY_OK) {
                unknown++;
                assert_true(wechatpay_str_equal(json, internal_error));
                assert_int_equal(answer.failure.status, 502);
                assert_string_equal(answer.reason, "out of memory");
            }

            test_memory_free(&other);
        }

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);
    }

    assert_in_range(unknown, 100, SIZE_MAX);
}


static void
test_answer_too_long(void **state)
{
    test_answer_t          vector;
    test_memory_t          memory;
    unsigned char         *copy;
    wechatpay_answer_t     answer;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    wechatpay_merchant_t  *merchant;

    (void) state;

    vector = *test_answer(0);
    merchant = test_outbound_merchant(vector.request.merchant);
    test_memory_init(&memory, -1);

    assert_int_equal(test_request_run(&vector.request, merchant, &memory,
                                      &request, &failure), 0);

    copy = malloc(WECHATPAY_XML_MAX_SIZE + 1);
    assert_non_null(copy);

    memset(copy, ' ', WECHATPAY_XML_MAX_SIZE + 1);
    memcpy(copy, vector.body.data, vector.body.len);

    vector.body.data = copy;
    vector.body.len = WECHATPAY_XML_MAX_SIZE + 1;

    test_answer_take(&vector, merchant, &request, &memory.memory, &answer);

    assert_int_equal(answer.outcome, WECHATPAY_UNKNOWN);
    assert_string_equal(answer.reason, "the body is longer than 1 MB");

    free(copy);
    test_memory_free(&memory);
    wechatpay_merchant_destroy(merchant);
}


/* As many fields as a body can hold take no more than a moment. */

static void
test_answer_many_fields(void **state)
{
    size_t                   i, len;
    unsigned char           *copy;
    wechatpay_xml_t          xml;
    test_memory_t            memory;
    wechatpay_str_t          text;
    wechatpay_xml_parser_t  *parser;

    (void) state;

    copy = malloc(WECHATPAY_XML_MAX_SIZE);
    assert_non_null(copy);

    len = (size_t) sprintf((char *) copy, "<xml>");

    for (i = 0; len < WECHATPAY_XML_MAX_SIZE - 32; i++) {
        len += (size_t) sprintf((char *) copy + len, "<a%zx/>", i);
    }

    len += (size_t) sprintf((char *) copy + len, "</xml>");

    text.data = copy;
    text.len = len;

    parser = wechatpay_xml_parser_create();
    assert_non_null(parser);

    test_memory_init(&memory, -1);

    xml.fields = NULL;
    xml.max = 0;

    assert_int_equal(wechatpay_xml_parse(parser, text, &memory.memory, &xml),
                     WECHATPAY_OK);
    assert_int_equal(xml.nfields, i);
    assert_in_range(i, 100000, SIZE_MAX);

    for (i = 1; i < xml.nfields; i++) {
        assert_true(wechatpay_xml_compare(&xml.sorted[i - 1], &xml.sorted[i])
                    < 0);
    }

    /* a field twice is seen, however far apart */

    (void) sprintf((char *) copy + len - 6, "<a0/></xml>");
    text.len = len + 5;

    xml.fields = NULL;
    xml.max = 0;

    assert_int_equal(wechatpay_xml_parse(parser, text, &memory.memory, &xml),
                     WECHATPAY_ERROR_XML_REPEATED);

    test_memory_free(&memory);
    wechatpay_xml_parser_destroy(parser);
    free(copy);
}


static int
test_answer_setup(void **state)
{
    (void) state;

    test_answer_parser = wechatpay_parser_create();

    return test_answer_parser == NULL;
}


static int
test_answer_teardown(void **state)
{
    (void) state;

    wechatpay_parser_destroy(test_answer_parser);

    return 0;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_answer_vectors),
        cmocka_unit_test(test_answer_changed),
        cmocka_unit_test(test_answer_no_memory),
        cmocka_unit_test(test_answer_too_long),
        cmocka_unit_test(test_answer_many_fields)
    };

    return cmocka_run_group_tests_name("answer", tests, test_answer_setup,
                                       test_answer_teardown);
}
