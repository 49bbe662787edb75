
/*
 * Copyright (C) the refund-notify authors
 */


#include <ctype.h>

#include "test_notify.h"


/* Each way to fail is reached by a notify, and none by another's. */

static void
test_error_reached(void **state)
{
    int                    reached[WECHATPAY_ERROR_COUNT];
    size_t                 i;
    test_memory_t          memory;
    wechatpay_str_t        json;
    wechatpay_error_e      error;
    const test_vector_t   *vector;
    wechatpay_merchant_t  *merchant;

    (void) state;

    memset(reached, 0, sizeof(reached));

    for (i = 0; i < test_vector_count(); i++) {
        vector = test_vector(i);
        merchant = test_merchant(vector->merchant);

        test_memory_init(&memory, -1);
        error = test_run(vector, merchant, &memory, &json);
        test_memory_free(&memory);

        reached[error] = 1;

        test_memory_init(&memory, 0);
        error = test_run(vector, merchant, &memory, &json);
        test_memory_free(&memory);

        reached[error] = 1;

        wechatpay_merchant_destroy(merchant);
    }

    for (i = 0; i < WECHATPAY_ERROR_COUNT; i++) {
        if (!reached[i]) {
            fail_msg("\"%s\" is reached by none",
                     wechatpay_error_phrase((wechatpay_error_e) i));
        }
    }
}


/* Phrases are labels and log lines: short, printable, and each another one. */

static void
test_error_phrases(void **state)
{
    size_t       i, j;
    const char  *phrase;

    (void) state;

    assert_string_equal(wechatpay_error_phrase(WECHATPAY_OK), "");

    for (i = 1; i < WECHATPAY_ERROR_COUNT; i++) {
        phrase = wechatpay_error_phrase((wechatpay_error_e) i);

        assert_in_range(strlen(phrase), 1, 80);

        for (j = 0; phrase[j] != '\0'; j++) {
            assert_true(isprint((unsigned char) phrase[j]));
            assert_int_not_equal(phrase[j], '"');
        }

        for (j = 1; j < i; j++) {
            assert_string_not_equal(phrase,
                               wechatpay_error_phrase((wechatpay_error_e) j));
        }
    }
}


/* Only these may be answered SUCCESS, whatever is added to the table. */

static void
test_error_results(void **state)
{
    size_t              i;
    wechatpay_result_e  result;

    (void) state;

    for (i = 1; i < WECHATPAY_ERROR_COUNT; i++) {
        result = wechatpay_error_result((wechatpay_error_e) i);

        assert_int_not_equal(result, WECHATPAY_RESULT_DELIVERED);
        assert_int_not_equal(result, WECHATPAY_RESULT_DUPLICATE);
        assert_int_equal(result == WECHATPAY_RESULT_IGNORED,
                         i == WECHATPAY_ERROR_SECURITY_ECHO);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_error_reached),
        cmocka_unit_test(test_error_phrases),
        cmocka_unit_test(test_error_results)
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
