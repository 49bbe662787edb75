
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_notify.h"


static void
test_v2_vectors(void **state)
{
    (void) state;

    test_vectors_run(WECHATPAY_V2);
}


/* A notify that was cut anywhere is none. */

static void
test_v2_cut(void **state)
{
    size_t                 i;
    test_vector_t          vector;
    test_memory_t          memory;
    wechatpay_str_t        json;
    wechatpay_merchant_t  *merchant;

    (void) state;

    vector = *test_vector_find("v2: the documented example");
    merchant = test_merchant(vector.merchant);

    for (i = vector.body.len; i-- != 0; /* void */ ) {
        vector.body.len = i;

        test_memory_init(&memory, -1);
        assert_int_not_equal(test_run(&vector, merchant, &memory, &json),
                             WECHATPAY_OK);
        test_memory_free(&memory);
    }

    wechatpay_merchant_destroy(merchant);
}


/* Each allocation fails in turn, and then none. */

static void
test_v2_no_memory(void **state)
{
    long                   left;
    test_memory_t          memory;
    wechatpay_str_t        json;
    wechatpay_error_e      error;
    const test_vector_t   *vector;
    wechatpay_merchant_t  *merchant;

    (void) state;

    vector = test_vector_find("v2: the documented example");
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


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_v2_vectors),
        cmocka_unit_test(test_v2_cut),
        cmocka_unit_test(test_v2_no_memory)
    };

    return cmocka_run_group_tests_name("v2_notify", tests, NULL, NULL);
}
