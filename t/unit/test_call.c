
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include <openssl/err.h>

#include "test_outbound.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_v2_sign.h"


int __real_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig,
    size_t *siglen, const unsigned char *tbs, size_t tbslen);
int __wrap_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig,
    size_t *siglen, const unsigned char *tbs, size_t tbslen);

static void test_call_equal(const char *name, const char *what,
    wechatpay_str_t is, wechatpay_str_t should);


/* the bit of a signature that is changed; SIZE_MAX: none */
static size_t  test_call_bit = SIZE_MAX;


/* The linker puts it in the place of EVP_PKEY_sign(). */

int
__wrap_EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *sig, size_t *siglen,
    const unsigned char *tbs, size_t tbslen)
{
    int  rc;

    rc = __real_EVP_PKEY_sign(ctx, sig, siglen, tbs, tbslen);

    if (test_call_bit != SIZE_MAX) {
        sig[test_call_bit / 8] ^= (unsigned char) (1 << test_call_bit % 8);
    }

    return rc;
}


/* The vectors were made and signed by CryptX: they are met byte for byte. */

static void
test_call_vectors(void **state)
{
    size_t                 i, n2, n3;
    test_memory_t          memory;
    wechatpay_call_t       call;
    const test_call_t     *vector;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    wechatpay_merchant_t  *merchant;

    (void) state;

    n2 = 0;
    n3 = 0;

    for (i = 0; i < test_call_count(); i++) {
        vector = test_call(i);

        merchant = test_outbound_merchant(vector->request.merchant);
        test_memory_init(&memory, -1);

        assert_int_equal(test_request_run(&vector->request, merchant, &memory,
                                          &request, &failure), 0);
        assert_int_equal(wechatpay_call_prepare(merchant, &request,
                                                test_outbound_now(),
                                                test_outbound_nonce(),
                                                &memory.memory, &call), 0);
        assert_int_equal(wechatpay_call_sign(&call), 0);

        test_call_equal(vector->request.name, "method", call.method,
                        test_str(vector->method));
        test_call_equal(vector->request.name, "path", call.path,
                        vector->path);
        test_call_equal(vector->request.name, "args", call.args,
                        vector->args);
        test_call_equal(vector->request.name, "target", call.target,
                        vector->target);
        test_call_equal(vector->request.name, "body", call.body,
                        vector->body);
        test_call_equal(vector->request.name, "authorization",
                        call.authorization, vector->authorization);

        assert_int_equal(call.content_type.len == 0, call.body.len == 0);
        assert_int_not_equal(call.accept.len, 0);

        if (request.version == WECHATPAY_V3) {
            n3++;
            test_call_equal(vector->request.name, "serial", call.serial,
                            test_outbound_serial());

        } else {
            n2++;
            assert_int_equal(call.serial.len, 0);
        }

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);
    }

    assert_int_equal(ERR_peek_error(), 0);
    assert_in_range(n2, 10, SIZE_MAX);
    assert_in_range(n3, 10, SIZE_MAX);
}


/* Without a nonce given each call has another one. */

static void
test_call_nonce(void **state)
{
    size_t                 i, j, signs;
    test_memory_t          memory;
    wechatpay_str_t        none, first;
    wechatpay_call_t       call;
    const test_call_t     *vector;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    wechatpay_merchant_t  *merchant;

    (void) state;

    none = test_str("");

    for (i = 0; i < test_call_count(); i++) {
        vector = test_call(i);

        merchant = test_outbound_merchant(vector->request.merchant);
        test_memory_init(&memory, -1);

        assert_int_equal(test_request_run(&vector->request, merchant, &memory,
                                          &request, &failure), 0);

        first = none;

        for (signs = 0; signs < 2; signs++) {
            assert_int_equal(wechatpay_call_prepare(merchant, &request,
                                                    test_outbound_now(), none,
                                                    &memory.memory, &call), 0);
            assert_int_equal(wechatpay_call_sign(&call), 0);

            if (request.version == WECHATPAY_V2) {
                assert_false(wechatpay_str_equal(call.body, first));
                first = call.body;
                continue;
            }

            assert_int_equal(call.authorization.len,
                             vector->authorization.len);
            assert_false(wechatpay_str_equal(call.authorization, first));
            assert_false(wechatpay_str_equal(call.authorization,
                                             vector->authorization));

            /* nothing of it can end a header or a quoted string */

            for (j = 0; j < call.authorization.len; j++) {
                assert_in_range(call.authorization.data[j], 0x20, 0x7e);
            }

            first = call.authorization;
        }

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);
    }
}


/* What OpenSSL has signed wrongly is not sent, and no trace of it is left. */

static void
test_call_wrong_signature(void **state)
{
    size_t                 i, bits;
    unsigned char         *before;
    test_memory_t          memory;
    wechatpay_call_t       call;
    const test_call_t     *vector;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    wechatpay_merchant_t  *merchant;

    (void) state;

    for (i = 0; test_call(i)->request.version != WECHATPAY_V3; i++) {
        assert_in_range(i, 0, test_call_count() - 2);
    }

    vector = test_call(i);
    merchant = test_outbound_merchant(vector->request.merchant);
    test_memory_init(&memory, -1);

    assert_int_equal(test_request_run(&vector->request, merchant, &memory,
                                      &request, &failure), 0);
    assert_int_equal(wechatpay_call_prepare(merchant, &request,
                                            test_outbound_now(),
                                            test_outbound_nonce(),
                                            &memory.memory, &call), 0);

    before = malloc(call.authorization.len);
    assert_non_null(before);

    memcpy(before, call.authorization.data, call.authorization.len);

    bits = (size_t) EVP_PKEY_get_size(merchant->key) * 8;

    for (i = 0; i < bits; i += bits / 16 - 1) {
        test_call_bit = i;
        assert_int_equal(wechatpay_call_sign(&call), -1);
        test_call_bit = SIZE_MAX;

        assert_memory_equal(call.authorization.data, before,
                            call.authorization.len);
        assert_int_equal(ERR_peek_error(), 0);
    }

    assert_int_equal(wechatpay_call_sign(&call), 0);
    test_call_equal(vector->request.name, "authorization", call.authorization,
                    vector->authorization);

    free(before);
    test_memory_free(&memory);
    wechatpay_merchant_destroy(merchant);
}


static void
test_call_no_memory(void **state)
{
    int                    rc;
    long                   left;
    size_t                 i;
    test_memory_t          memory, short_memory;
    wechatpay_call_t       call;
    const test_call_t     *vector;
    wechatpay_failure_t    failure;
    wechatpay_request_t    request;
    wechatpay_merchant_t  *merchant;

    (void) state;

    for (i = 0; i < test_call_count(); i++) {
        vector = test_call(i);

        merchant = test_outbound_merchant(vector->request.merchant);
        test_memory_init(&memory, -1);

        assert_int_equal(test_request_run(&vector->request, merchant, &memory,
                                          &request, &failure), 0);

        for (left = 0; /* void */ ; left++) {
            test_memory_init(&short_memory, left);
            rc = wechatpay_call_prepare(merchant, &request,
                                        test_outbound_now(),
                                        test_outbound_nonce(),
                                        &short_memory.memory, &call);
            test_memory_free(&short_memory);

            if (rc == 0) {
                break;
            }
        }

        assert_int_equal(left, 2);

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);
    }
}


/* The example on WeChat Pay's page on the signature of API v2. */

static void
test_call_v2_example(void **state)
{
    size_t                 i, len;
    unsigned char          sign[WECHATPAY_V2_SIGN_MAX_LEN];
    test_memory_t          memory;
    wechatpay_merchant_t  *merchant;

    static const char   zeros[WECHATPAY_V2_KEY_LEN];
    static const char   text[] = "appid=wxd930ea5d5a258f4f&body=test"
                                 "&device_info=1000&mch_id=10000100"
                                 "&nonce_str=ibuaiVcKdpRxkhJA&key=";
    static const char  *fields[][2] = {
        { "appid", "wxd930ea5d5a258f4f" },
        { "attach", "" },
        { "body", "test" },
        { "device_info", "1000" },
        { "mch_id", "10000100" },
        { "nonce_str", "ibuaiVcKdpRxkhJA" },
        { "sign", "" }
    };
    static const struct {
        wechatpay_v2_sign_type_e  type;
        const char               *sign;
    } signs[] = {
        { WECHATPAY_SIGN_MD5, "9A0A8659F005D6984697E2CA0A9CF3B7" },
        { WECHATPAY_SIGN_HMAC_SHA256, "6A9AE1657590FD6257D693A078E1C3E4"
                                      "BB6BA4DC30B23E0EE2496E54170DACD6" }
    };

    wechatpay_xml_field_t  xml[test_count(fields)];

    (void) state;

    for (i = 0; i < test_count(fields); i++) {
        xml[i].name = test_str(fields[i][0]);
        xml[i].value = test_str(fields[i][1]);
    }

    merchant = test_outbound_merchant("shop");
    test_memory_init(&memory, -1);

    for (i = 0; i < test_count(signs); i++) {
        wechatpay_merchant_set_v2_sign_type(merchant, signs[i].type);

        assert_int_equal(wechatpay_v2_sign(merchant, xml, test_count(fields),
                                           &memory.memory, sign, &len), 0);
        assert_int_equal(len, strlen(signs[i].sign));
        assert_memory_equal(sign, signs[i].sign, len);

        /* the key does not stay behind what was signed */

        assert_memory_equal(memory.pieces[i], text, strlen(text));
        assert_memory_equal((char *) memory.pieces[i] + strlen(text), zeros,
                            sizeof(zeros));
    }

    test_memory_free(&memory);
    wechatpay_merchant_destroy(merchant);
}


static void
test_call_merchant(void **state)
{
    time_t                 from, to;
    wechatpay_merchant_t  *full, *merchant;

    (void) state;

    full = test_outbound_merchant("shop");
    assert_null(wechatpay_merchant_check_calls(full, WECHATPAY_V2));
    assert_null(wechatpay_merchant_check_calls(full, WECHATPAY_V3));
    assert_true(wechatpay_str_equal(wechatpay_merchant_serial(full),
                                    test_outbound_serial()));
    wechatpay_merchant_destroy(full);

    merchant = wechatpay_merchant_create();
    assert_non_null(merchant);

    assert_int_equal(wechatpay_merchant_serial(merchant).len, 0);
    assert_string_equal(wechatpay_merchant_check_calls(merchant, WECHATPAY_V2),
                        "needs \"api_v2_key_file\" for API v2");

    assert_null(wechatpay_merchant_add_v2_key(merchant,
                                test_str("192006250b4c09247ec02edce69f6a2d")));
    assert_string_equal(wechatpay_merchant_check_calls(merchant, WECHATPAY_V2),
                        "needs \"app_id\" for API v2");

    assert_null(wechatpay_merchant_add_app_id(merchant, test_str("wx1")));
    assert_null(wechatpay_merchant_check_calls(merchant, WECHATPAY_V2));

    assert_string_equal(wechatpay_merchant_check_calls(merchant, WECHATPAY_V3),
                        "needs \"merchant_certificate\" for API v3");

    assert_null(wechatpay_merchant_set_certificate(merchant,
                              test_str(test_outbound_certificate()), &from,
                              &to));
    assert_string_equal(wechatpay_merchant_check_calls(merchant, WECHATPAY_V3),
                        "needs \"merchant_key\" for API v3");

    assert_null(wechatpay_merchant_set_key(merchant,
                                           test_str(test_outbound_key())));
    assert_string_equal(wechatpay_merchant_check_calls(merchant, WECHATPAY_V3),
                        "needs \"wechatpay_public_key\" or"
                        " \"wechatpay_certificate\" for API v3");

    assert_null(wechatpay_merchant_add_certificate(merchant,
                              test_str(test_outbound_certificate()), &from,
                              &to));
    assert_null(wechatpay_merchant_check_calls(merchant, WECHATPAY_V3));
    assert_int_equal(wechatpay_merchant_serial(merchant).len, 40);

    wechatpay_merchant_destroy(merchant);
}


static void
test_call_equal(const char *name, const char *what, wechatpay_str_t is,
    wechatpay_str_t should)
{
    if (!wechatpay_str_equal(is, should)) {
        fail_msg("%s: %s:\n%.*s\ninstead of\n%.*s", name, what,
                 (int) is.len, is.data, (int) should.len, should.data);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_call_vectors),
        cmocka_unit_test(test_call_nonce),
        cmocka_unit_test(test_call_wrong_signature),
        cmocka_unit_test(test_call_no_memory),
        cmocka_unit_test(test_call_v2_example),
        cmocka_unit_test(test_call_merchant)
    };

    return cmocka_run_group_tests_name("call", tests, NULL, NULL);
}
