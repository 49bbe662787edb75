
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdio.h>

#include <openssl/err.h>

#include "test_notify.h"
#include "wechatpay_merchant_internal.h"

#include "vectors.h"


#define TEST_KEY  "0123456789abcdefghijKLMNOPQRSTUV"


static int
test_merchant_setup(void **state)
{
    *state = wechatpay_merchant_create();

    return *state == NULL;
}


static int
test_merchant_teardown(void **state)
{
    wechatpay_merchant_destroy(*state);

    /* nginx would report what is left as an error of its next connection */

    return ERR_peek_error() != 0;
}


static void
test_merchant_names(void **state)
{
    char                   name[16];
    unsigned               i;
    wechatpay_merchant_t  *merchant = *state;

    assert_non_null(wechatpay_merchant_set_mch_id(merchant, test_str("")));
    assert_non_null(wechatpay_merchant_set_mch_id(merchant, test_str("12a")));
    assert_non_null(wechatpay_merchant_set_mch_id(merchant,
                              test_str("123456789012345678901234567890123")));
    assert_null(wechatpay_merchant_set_mch_id(merchant, test_str("12")));
    assert_non_null(wechatpay_merchant_set_mch_id(merchant, test_str("12")));
    assert_true(wechatpay_str_equal(wechatpay_merchant_mch_id(merchant),
                                    test_str("12")));

    assert_non_null(wechatpay_merchant_add_app_id(merchant, test_str("")));
    assert_non_null(wechatpay_merchant_add_app_id(merchant, test_str("w x")));
    assert_null(wechatpay_merchant_add_app_id(merchant, test_str("wx")));
    assert_non_null(wechatpay_merchant_add_app_id(merchant, test_str("wx")));

    assert_non_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                                      test_str("**")));
    assert_non_null(wechatpay_merchant_add_sub_mch_id(merchant, test_str("")));

    /* out of order, so that the sorted set has something to do */

    for (i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "%u", i * 7919 % 1000);
        assert_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                                      test_str(name)));
    }

    for (i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_non_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                                          test_str(name)));
        assert_int_equal(wechatpay_merchant_check(merchant, test_str("12"),
                                                  test_str("wx"),
                                                  test_str(name)),
                         WECHATPAY_OK);
    }

    assert_int_equal(wechatpay_merchant_check(merchant, test_str("12"),
                                              test_str(""), test_str("1000")),
                     WECHATPAY_ERROR_SUB_MCH_ID_MISMATCH);

    assert_null(wechatpay_merchant_add_sub_mch_id(merchant, test_str("*")));
    assert_non_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                                      test_str("*")));
    assert_int_equal(wechatpay_merchant_check(merchant, test_str("12"),
                                              test_str(""), test_str("1000")),
                     WECHATPAY_OK);
}


static void
test_merchant_secrets(void **state)
{
    char                   key[] = TEST_KEY;
    unsigned               i;
    wechatpay_str_t        v3;
    wechatpay_merchant_t  *merchant = *state;

    assert_false(wechatpay_merchant_accepts(merchant, WECHATPAY_V2));
    assert_false(wechatpay_merchant_accepts(merchant, WECHATPAY_V3));
    assert_false(wechatpay_merchant_accepts(merchant,
                                            WECHATPAY_VERSION_UNKNOWN));

    assert_non_null(wechatpay_merchant_add_v2_key(merchant, test_str("")));
    assert_non_null(wechatpay_merchant_add_v2_key(merchant,
                                                  test_str(TEST_KEY "x")));
    assert_non_null(wechatpay_merchant_add_v2_key(merchant,
                                                  test_str(&TEST_KEY[1])));
    assert_non_null(wechatpay_merchant_add_v2_key(merchant,
                              test_str("0123456789abcdefghijKLMNOPQRST V")));
    assert_null(wechatpay_merchant_add_v2_key(merchant, test_str(TEST_KEY)));
    assert_non_null(wechatpay_merchant_add_v2_key(merchant,
                                                  test_str(TEST_KEY)));
    assert_true(wechatpay_merchant_accepts(merchant, WECHATPAY_V2));

    v3 = test_str(TEST_KEY);

    v3.len = 31;
    assert_non_null(wechatpay_merchant_add_v3_key(merchant, v3));

    v3.len = 32;
    assert_null(wechatpay_merchant_add_v3_key(merchant, v3));
    assert_non_null(wechatpay_merchant_add_v3_key(merchant, v3));

    /* it cannot tell who sent a notify without a key of WeChat Pay's */

    assert_false(wechatpay_merchant_accepts(merchant, WECHATPAY_V3));

    for (i = 1; i < WECHATPAY_MERCHANT_MAX_KEYS; i++) {
        key[0] = (char) ('a' + i);
        assert_null(wechatpay_merchant_add_v2_key(merchant, test_str(key)));
        assert_null(wechatpay_merchant_add_v3_key(merchant, test_str(key)));
    }

    key[0] = 'Z';
    assert_non_null(wechatpay_merchant_add_v2_key(merchant, test_str(key)));
    assert_non_null(wechatpay_merchant_add_v3_key(merchant, test_str(key)));
}


/* Of several the others would be missed when WeChat Pay comes to use them. */

static void
test_merchant_several(wechatpay_merchant_t *merchant)
{
    size_t                 i;
    time_t                 from, to;
    wechatpay_str_t        id;
    wechatpay_key_error_t  error;

    static const char  message[] = "holds more than one: put each into a file"
                                   " of its own";
    static const char  *keys[] = {
        VECTORS_PUBLIC_KEY VECTORS_PUBLIC_KEY,
        VECTORS_PUBLIC_KEY "\n" VECTORS_CERTIFICATE,
        VECTORS_CERTIFICATE VECTORS_PUBLIC_KEY
    };
    static const char  *certificates[] = {
        VECTORS_CERTIFICATE VECTORS_CERTIFICATE,
        VECTORS_CERTIFICATE "\n" VECTORS_PUBLIC_KEY,
        VECTORS_CERTIFICATE_KEY VECTORS_CERTIFICATE
    };

    id = test_str("PUB_KEY_ID_1");

    for (i = 0; i < 3; i++) {
        error = wechatpay_merchant_add_public_key(merchant, id,
                                                  test_str(keys[i]));
        assert_non_null(error);
        assert_string_equal(error, message);

        error = wechatpay_merchant_add_certificate(merchant,
                                                   test_str(certificates[i]),
                                                   &from, &to);
        assert_non_null(error);
        assert_string_equal(error, message);
    }

    assert_int_equal(merchant->nverifiers, 0);
}


static void
test_merchant_verifiers(void **state)
{
    char                    name[64];
    size_t                  i;
    time_t                  from, to, now;
    wechatpay_str_t         id, pem, certificate;
    wechatpay_merchant_t   *merchant = *state;
    wechatpay_key_error_t   error;

    id = test_str("PUB_KEY_ID_1");
    pem = test_str(VECTORS_PUBLIC_KEY);
    certificate = test_str(VECTORS_CERTIFICATE);

    assert_non_null(wechatpay_merchant_add_public_key(merchant,
                                               test_str("PUB_KEY_ID_"), pem));
    assert_non_null(wechatpay_merchant_add_public_key(merchant,
                                                      test_str("1234"), pem));
    assert_non_null(wechatpay_merchant_add_public_key(merchant,
                                             test_str("PUB_KEY_ID_ 1"), pem));
    assert_non_null(wechatpay_merchant_add_public_key(merchant, id,
                                                      test_str("")));
    assert_non_null(wechatpay_merchant_add_public_key(merchant, id,
                                                      certificate));
    assert_non_null(wechatpay_merchant_add_public_key(merchant, id,
                                             test_str(VECTORS_OTHER_KEY)));
    assert_non_null(wechatpay_merchant_add_public_key(merchant, id,
                                             test_str(VECTORS_SMALL_KEY)));
    test_merchant_several(merchant);
    assert_null(wechatpay_merchant_add_public_key(merchant, id, pem));
    assert_non_null(wechatpay_merchant_add_public_key(merchant, id, pem));

    assert_non_null(wechatpay_merchant_add_certificate(merchant, pem, &from,
                                                       &to));
    assert_null(wechatpay_merchant_add_certificate(merchant, certificate,
                                                   &from, &to));
    assert_non_null(wechatpay_merchant_add_certificate(merchant, certificate,
                                                       &from, &to));

    now = time(NULL);
    assert_in_range(from, now - 86400, now + 60);
    assert_int_equal(to - from, 400 * 86400);

    assert_int_equal(merchant->verifiers[1].serial_len,
                     sizeof(VECTORS_SERIAL) - 1);
    assert_memory_equal(merchant->verifiers[1].serial, VECTORS_SERIAL,
                        sizeof(VECTORS_SERIAL) - 1);

    for (i = merchant->nverifiers; i < WECHATPAY_MERCHANT_MAX_KEYS; i++) {
        snprintf(name, sizeof(name), "PUB_KEY_ID_0%zu", i);
        assert_null(wechatpay_merchant_add_public_key(merchant, test_str(name),
                                                      pem));
    }

    error = wechatpay_merchant_add_public_key(merchant,
                                              test_str("PUB_KEY_ID_2"), pem);
    assert_non_null(error);
    assert_string_equal(error, "is one more than 16");
    assert_int_equal(merchant->nverifiers, WECHATPAY_MERCHANT_MAX_KEYS);
}


static void
test_merchant_own(void **state)
{
    time_t                 from, to;
    wechatpay_merchant_t  *merchant = *state;

    assert_null(wechatpay_merchant_check_key(merchant));

    assert_non_null(wechatpay_merchant_set_certificate(merchant,
                                test_str(VECTORS_PUBLIC_KEY), &from, &to));
    assert_null(wechatpay_merchant_set_certificate(merchant,
            test_str(VECTORS_CERTIFICATE VECTORS_CERTIFICATE), &from, &to));
    assert_non_null(wechatpay_merchant_set_certificate(merchant,
                                test_str(VECTORS_CERTIFICATE), &from, &to));
    assert_null(wechatpay_merchant_check_key(merchant));

    assert_non_null(wechatpay_merchant_set_key(merchant,
                                          test_str(VECTORS_CERTIFICATE)));
    assert_non_null(wechatpay_merchant_set_key(merchant,
                                          test_str(VECTORS_ENCRYPTED_KEY)));
    assert_null(wechatpay_merchant_set_key(merchant,
                                          test_str(VECTORS_CERTIFICATE_KEY)));
    assert_null(wechatpay_merchant_check_key(merchant));
    assert_non_null(wechatpay_merchant_set_key(merchant,
                                          test_str(VECTORS_CERTIFICATE_KEY)));
}


static void
test_merchant_other(void **state)
{
    time_t                 from, to;
    wechatpay_merchant_t  *merchant = *state;

    assert_null(wechatpay_merchant_set_certificate(merchant,
                                test_str(VECTORS_CERTIFICATE), &from, &to));
    assert_null(wechatpay_merchant_set_key(merchant,
                                           test_str(VECTORS_OTHER_KEY)));
    assert_non_null(wechatpay_merchant_check_key(merchant));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_merchant_names,
                                 test_merchant_setup, test_merchant_teardown),
        cmocka_unit_test_setup_teardown(test_merchant_secrets,
                                 test_merchant_setup, test_merchant_teardown),
        cmocka_unit_test_setup_teardown(test_merchant_verifiers,
                                 test_merchant_setup, test_merchant_teardown),
        cmocka_unit_test_setup_teardown(test_merchant_own,
                                 test_merchant_setup, test_merchant_teardown),
        cmocka_unit_test_setup_teardown(test_merchant_other,
                                 test_merchant_setup, test_merchant_teardown)
    };

    return cmocka_run_group_tests_name("merchant", tests, NULL, NULL);
}
