
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_outbound.h"

#include "outbound_vectors.h"


size_t
test_request_count(void)
{
    return test_count(test_requests);
}


const test_request_t *
test_request(size_t i)
{
    return &test_requests[i];
}


size_t
test_call_count(void)
{
    return test_count(test_calls);
}


const test_call_t *
test_call(size_t i)
{
    return &test_calls[i];
}


size_t
test_answer_count(void)
{
    return test_count(test_answers);
}


const test_answer_t *
test_answer(size_t i)
{
    return &test_answers[i];
}


wechatpay_merchant_t *
test_outbound_merchant(const char *name)
{
    time_t                 from, to;
    wechatpay_merchant_t  *merchant;

    merchant = wechatpay_merchant_create();
    assert_non_null(merchant);

    assert_null(wechatpay_merchant_set_mch_id(merchant,
                                              test_str("1900009191")));

    /* the first is sent, though another one sorts before it */

    assert_null(wechatpay_merchant_add_app_id(merchant,
                                              test_str("wxd930ea5d5a258f4f")));
    assert_null(wechatpay_merchant_add_app_id(merchant, test_str("wx1")));

    assert_null(wechatpay_merchant_add_v2_key(merchant,
                                              test_str(OUTBOUND_V2_KEY)));
    assert_null(wechatpay_merchant_add_v2_key(merchant,
                                              test_str(OUTBOUND_V2_KEY_NEXT)));

    /* the first public key is named, though a certificate comes before it */

    assert_null(wechatpay_merchant_add_certificate(merchant,
                                  test_str(OUTBOUND_CERTIFICATE), &from, &to));
    assert_null(wechatpay_merchant_add_public_key(merchant,
                      test_str(OUTBOUND_SERIAL), test_str(OUTBOUND_NEW_KEY)));
    assert_null(wechatpay_merchant_add_public_key(merchant,
                      test_str("PUB_KEY_ID_0119000001092024070100000000000001"),
                      test_str(OUTBOUND_OLD_KEY)));

    assert_null(wechatpay_merchant_set_certificate(merchant,
                                  test_str(OUTBOUND_CERTIFICATE), &from, &to));
    assert_null(wechatpay_merchant_set_key(merchant, test_str(OUTBOUND_KEY)));
    assert_null(wechatpay_merchant_check_key(merchant));

    if (strcmp(name, "md5") == 0) {
        wechatpay_merchant_set_v2_sign_type(merchant, WECHATPAY_SIGN_MD5);

    } else if (strcmp(name, "list") == 0) {
        assert_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                                      test_str("1900000111")));

    } else if (strcmp(name, "provider") == 0) {
        assert_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                                      test_str("*")));

    } else {
        assert_string_equal(name, "shop");
    }

    return merchant;
}


int
test_request_run(const test_request_t *vector, wechatpay_merchant_t *merchant,
    test_memory_t *memory, wechatpay_request_t *request,
    wechatpay_failure_t *failure)
{
    int               rc;
    unsigned char    *copy;
    wechatpay_str_t   body;

    if (vector->call == WECHATPAY_CALL_QUERY) {
        return wechatpay_request_query(merchant, vector->version,
                                       &vector->query, &memory->memory,
                                       request, failure);
    }

    copy = malloc(vector->body.len + 1);
    assert_non_null(copy);

    memcpy(copy + 1, vector->body.data, vector->body.len);

    body.data = copy + 1;
    body.len = vector->body.len;

    if (vector->call == WECHATPAY_CALL_ABNORMAL) {
        rc = wechatpay_request_abnormal(merchant, vector->version,
                                        vector->refund_id, body,
                                        &memory->memory, request, failure);

    } else {
        rc = wechatpay_request_create(merchant, vector->version, body,
                                      vector->notify_url, &memory->memory,
                                      request, failure);
    }

    free(copy);

    return rc;
}


const char *
test_outbound_private_key(void)
{
    return OUTBOUND_NEW_PRIVATE_KEY;
}


const char *
test_outbound_certificate(void)
{
    return OUTBOUND_CERTIFICATE;
}


const char *
test_outbound_key(void)
{
    return OUTBOUND_KEY;
}


time_t
test_outbound_now(void)
{
    return OUTBOUND_NOW;
}


wechatpay_str_t
test_outbound_nonce(void)
{
    return test_str(OUTBOUND_NONCE);
}


wechatpay_str_t
test_outbound_serial(void)
{
    return test_str(OUTBOUND_SERIAL);
}
