
/*
 * Copyright (C) the refund-notify authors
 *
 * The libraries' memory running out while a notify is read: that is no fault of
 * the sender's, whatever the library says of it.
 */


#include <stdlib.h>

#include <jansson.h>
#include <libxml/xmlmemory.h>
#include <openssl/crypto.h>

#include "test_notify.h"
#include "wechatpay_json.h"


static int test_fails(void);
static void *test_library_malloc(size_t size);
static void *test_jansson_malloc(size_t size);
static void *test_library_realloc(void *p, size_t size);
static char *test_library_strdup(const char *text);
static void *test_openssl_malloc(size_t size, const char *file, int line);
static void *test_openssl_realloc(void *p, size_t size, const char *file,
    int line);
static void test_openssl_free(void *p, const char *file, int line);


/* the allocation after so many fails, and no other; < 0: none */

static long  test_left = -1;
static int   test_failed;

/* a long token in Jansson, see below, is not to lack memory */
static int   test_of_jansson;


static int
test_fails(void)
{
    if (test_left < 0 || test_left-- > 0) {
        return 0;
    }

    test_failed = 1;

    return 1;
}


static void *
test_library_malloc(size_t size)
{
    return test_fails() ? NULL : malloc(size);
}


static void *
test_jansson_malloc(size_t size)
{
    return test_of_jansson ? test_library_malloc(size) : malloc(size);
}


static void *
test_library_realloc(void *p, size_t size)
{
    return test_fails() ? NULL : realloc(p, size);
}


static char *
test_library_strdup(const char *text)
{
    return test_fails() ? NULL : strdup(text);
}


static void *
test_openssl_malloc(size_t size, const char *file, int line)
{
    (void) file;
    (void) line;

    return test_library_malloc(size);
}


static void *
test_openssl_realloc(void *p, size_t size, const char *file, int line)
{
    (void) file;
    (void) line;

    return test_library_realloc(p, size);
}


static void
test_openssl_free(void *p, const char *file, int line)
{
    (void) file;
    (void) line;

    free(p);
}


static void
test_memory_of_openssl_and_libxml2(void **state)
{
    long                   n, failures;
    size_t                 i;
    test_memory_t          memory;
    wechatpay_str_t        json;
    wechatpay_error_e      error;
    const test_vector_t   *vector;
    wechatpay_merchant_t  *merchant;

    (void) state;

    failures = 0;

    for (i = 0; i < test_vector_count(); i++) {
        vector = test_vector(i);

        if (vector->error != WECHATPAY_OK || vector->padding != 0) {
            continue;
        }

        merchant = test_merchant(vector->merchant);

        /* the first time nothing fails: what is made once is made then */

        for (n = -1; /* void */ ; n++) {
            test_memory_init(&memory, -1);
            test_failed = 0;
            test_left = n;

            error = test_run(vector, merchant, &memory, &json);

            test_left = -1;

            if (error == WECHATPAY_OK) {
                assert_int_equal(json.len, vector->json.len);
                assert_memory_equal(json.data, vector->json.data, json.len);

            } else if (error != WECHATPAY_ERROR_NO_MEMORY) {
                fail_msg("%s: allocation %ld: %s", vector->name, n,
                         wechatpay_error_phrase(error));
            }

            test_memory_free(&memory);

            if (n >= 0 && !test_failed) {
                break;
            }

            failures += test_failed;
        }

        assert_int_equal(error, WECHATPAY_OK);

        wechatpay_merchant_destroy(merchant);
    }

    assert_true(failures > 1000);
}


/*
 * The names and strings are short: where a longer one does not fit its buffer,
 * and the buffer cannot grow, Jansson 2.14 writes behind it.
 */

static void
test_memory_of_jansson(void **state)
{
    long                n;
    json_t             *json;
    test_memory_t       memory;
    wechatpay_str_t     text, dumped;
    wechatpay_error_e   error;

    (void) state;

    test_of_jansson = 1;

    text = test_str("{\"a\":{\"b\":[1,\"c\",true]},\"d\":[{}]}");

    for (n = 0; /* void */ ; n++) {
        test_failed = 0;
        test_left = n;
        error = wechatpay_json_parse(text, &json);
        test_left = -1;

        if (!test_failed) {
            break;
        }

        assert_int_equal(error, WECHATPAY_ERROR_NO_MEMORY);
    }

    assert_int_equal(error, WECHATPAY_OK);
    assert_true(n > 10);

    for (n = 0; /* void */ ; n++) {
        test_memory_init(&memory, -1);
        test_failed = 0;
        test_left = n;
        error = wechatpay_json_dump(json, 0, &memory.memory, &dumped);
        test_left = -1;

        if (!test_failed) {
            break;
        }

        assert_int_equal(error, WECHATPAY_ERROR_NO_MEMORY);
        test_memory_free(&memory);
    }

    assert_int_equal(error, WECHATPAY_OK);
    assert_true(n > 1);
    assert_int_equal(dumped.len, text.len);
    assert_memory_equal(dumped.data, text.data, text.len);

    test_memory_free(&memory);
    json_decref(json);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_memory_of_openssl_and_libxml2),
        cmocka_unit_test(test_memory_of_jansson),
    };

    if (CRYPTO_set_mem_functions(test_openssl_malloc, test_openssl_realloc,
                                 test_openssl_free)
        != 1
        || xmlMemSetup(free, test_library_malloc, test_library_realloc,
                       test_library_strdup)
           != 0)
    {
        return 1;
    }

    /* before the first parse, which looks for it */

    json_set_alloc_funcs(test_jansson_malloc, free);

    return cmocka_run_group_tests(tests, NULL, NULL);
}
