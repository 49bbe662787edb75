
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_notify.h"


static void
test_v3_vectors(void **state)
{
    (void) state;

    test_vectors_run(WECHATPAY_V3);
}


/* No byte of the body can change, be it one bit, and none be left out. */

static void
test_v3_changed(void **state)
{
    size_t                 i;
    test_vector_t          vector;
    test_memory_t          memory;
    unsigned char         *copy;
    wechatpay_str_t        json;
    wechatpay_error_e      error;
    wechatpay_merchant_t  *merchant;

    (void) state;

    vector = *test_vector_find("v3: the documented example");
    merchant = test_merchant(vector.merchant);

    copy = malloc(vector.body.len);
    assert_non_null(copy);

    memcpy(copy, vector.body.data, vector.body.len);
    vector.body.data = copy;

    for (i = 1; i < vector.body.len; i++) {
        copy[i] ^= (unsigned char) (1 << i % 8);

        test_memory_init(&memory, -1);
        error = test_run(&vector, merchant, &memory, &json);
        test_memory_free(&memory);

        assert_int_equal(error, WECHATPAY_ERROR_SIGNATURE_WRONG);

        copy[i] ^= (unsigned char) (1 << i % 8);
    }

    while (--vector.body.len != 0) {
        test_memory_init(&memory, -1);
        error = test_run(&vector, merchant, &memory, &json);
        test_memory_free(&memory);

        assert_int_equal(error, WECHATPAY_ERROR_SIGNATURE_WRONG);
    }

    free(copy);
    wechatpay_merchant_destroy(merchant);
}


/* Each allocation fails in turn, and then none. */

static void
test_v3_no_memory(void **state)
{
    long                   left;
    test_memory_t          memory;
    wechatpay_str_t        json;
    wechatpay_error_e      error;
    const test_vector_t   *vector;
    wechatpay_merchant_t  *merchant;

    (void) state;

    vector = test_vector_find("v3: unknown members are kept as they are");
    merchant = test_merchant(vector->merchant);

    for (left = 0; /* void */ ; left++) {
        test_memory_init(&memory, left);

        error = test_run(vector, merchant, &memory, &json);

        test_memory_free(&memory);

        if (error == WECHATPAY_OK) {
            break;
        }

        assert_int_equal(error, WECHATPAY_ERROR_NO_MEMORY);
    }

    assert_in_range(left, 5, 32);

    wechatpay_merchant_destroy(merchant);
}


/* A context that has met a forgery verifies what is right all the same. */

static void
test_v3_reused(void **state)
{
    size_t                 i;
    test_memory_t          memory;
    wechatpay_str_t        json;
    wechatpay_error_e      error;
    const test_vector_t   *right, *other;
    wechatpay_merchant_t  *merchant;

    (void) state;

    right = test_vector_find("v3: the documented example");
    merchant = test_merchant("shop");

    for (i = 0; i < test_vector_count(); i++) {
        other = test_vector(i);

        if (other->version != WECHATPAY_V3) {
            continue;
        }

        test_memory_init(&memory, -1);
        (void) test_run(other, merchant, &memory, &json);
        error = test_run(right, merchant, &memory, &json);

        assert_int_equal(error, WECHATPAY_OK);
        assert_int_equal(json.len, right->json.len);
        assert_memory_equal(json.data, right->json.data, json.len);

        test_memory_free(&memory);
    }

    wechatpay_merchant_destroy(merchant);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_v3_vectors),
        cmocka_unit_test(test_v3_changed),
        cmocka_unit_test(test_v3_no_memory),
        cmocka_unit_test(test_v3_reused)
    };

    return cmocka_run_group_tests_name("v3_notify", tests, NULL, NULL);
}
