
/*
 * Copyright (C) the refund-notify authors
 *
 * The libraries' memory running out while a notify is read: that is no fault of
 * the sender's, whatever the library says of it.
 */


#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libxml/xmlmemory.h>
#include <openssl/crypto.h>

#include "test_outbound.h"
#include "wechatpay_json.h"
#include "wechatpay_merchant_internal.h"


static int test_fails(void);
static char *test_memory_text(const char *begin, const char *repeated,
    size_t times, const char *end);
static long test_memory_of_text(const char *string);
static void *test_library_malloc(size_t size);
static void *test_library_realloc(void *p, size_t size);
static char *test_library_strdup(const char *text);
static void *test_openssl_malloc(size_t size, const char *file, int line);
static void *test_openssl_realloc(void *p, size_t size, const char *file,
    int line);
static void test_openssl_free(void *p, const char *file, int line);


/* the allocation after so many fails, and no other; < 0: none */

static long  test_left = -1;
static int   test_failed;

/* but all that come after it, too */
static int   test_for_good;


static int
test_fails(void)
{
    if (test_left < 0) {
        return 0;
    }

    if (test_left > 0) {
        test_left--;
        return 0;
    }

    if (!test_for_good) {
        test_left = -1;
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
 * The buffer of a token has 16, 32, 64 ... bytes: where it is full at the quote
 * that ends a string, Jansson 2.14 reads on behind it if it could not grow.
 */

static void
test_memory_of_jansson(void **state)
{
    int     i;
    long    n;
    size_t  len;
    char   *text;

    (void) state;

    n = test_memory_of_text("{\"a\":{\"b\":[1,\"c\",true]},\"d\":[{}]}");
    assert_true(n > 10);

    for (len = 1; len < 300; len++) {
        text = test_memory_text("{\"", "x", len, "\":\"y\"}");
        (void) test_memory_of_text(text);
        free(text);

        text = test_memory_text("[{\"a\":\"\\u0041", "x", len, "\"}]");
        (void) test_memory_of_text(text);
        free(text);
    }

    /* what is of the sizes of such a buffer, again and again */

    for (i = 0; i < 3; i++) {
        text = test_memory_text("{\"a\":[",
                                i == 0 ? "true," : i == 1 ? "[true],"
                                : "\"0123456789abcdef0123456789abc\",",
                                200, "1],\"b\":\"0123456789abcdef\"}");
        (void) test_memory_of_text(text);
        free(text);
    }
}


/* begin, so many times what is repeated, and end; the caller frees it. */

static char *
test_memory_text(const char *begin, const char *repeated, size_t times,
    const char *end)
{
    char  *text, *p;

    text = malloc(strlen(begin) + times * strlen(repeated) + strlen(end) + 1);
    assert_non_null(text);

    p = stpcpy(text, begin);

    while (times--) {
        p = stpcpy(p, repeated);
    }

    (void) strcpy(p, end);

    return text;
}


/* Returns how many allocations it takes. */

static long
test_memory_of_text(const char *string)
{
    long                n;
    json_t             *json;
    wechatpay_str_t     text;
    wechatpay_error_e   error, whole;

    text = test_str(string);
    whole = wechatpay_json_parse(text, &json);

    if (whole == WECHATPAY_OK) {
        json_decref(json);
    }

    for (test_for_good = 0; test_for_good < 2; test_for_good++) {

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

        assert_int_equal(error, whole);

        if (error == WECHATPAY_OK) {
            json_decref(json);
        }
    }

    test_for_good = 0;

    return n;
}


static void
test_memory_of_dump(void **state)
{
    long                n;
    json_t             *json;
    test_memory_t       memory;
    wechatpay_str_t     text, dumped;
    wechatpay_error_e   error;

    (void) state;

    text = test_str("{\"a\":{\"b\":[1,\"c\",true]},\"d\":[{}]}");

    assert_int_equal(wechatpay_json_parse(text, &json), WECHATPAY_OK);

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


/*
 * OpenSSL makes a key's blinding anew at each 32nd signature.  3.0 that lacks
 * memory for it leaves one that signs wrongly until the next is made.
 */

static void
test_memory_of_signatures(void **state)
{
    int                    i, rc, failed;
    long                   n;
    unsigned char          signature[345], first[345];
    wechatpay_call_t       call;
    wechatpay_merchant_t  *merchant;

    (void) state;

    merchant = wechatpay_merchant_create();
    assert_non_null(merchant);
    assert_null(wechatpay_merchant_set_key(merchant,
                                     test_str(test_outbound_private_key())));

    memset(&call, 0, sizeof(wechatpay_call_t));

    call.key = merchant->sign;
    call.verify = merchant->verify;
    call.signature = signature;
    call.signature_len = 344;

    assert_int_equal(wechatpay_call_sign(&call), 0);
    memcpy(first, signature, sizeof(signature));

    for (n = 0, failed = 1; failed; n++) {

        /* of the first half one allocation of each fails */

        for (i = 0, failed = 0; i < 66; i++) {
            test_failed = 0;
            test_left = (i < 33) ? n : -1;

            rc = wechatpay_call_sign(&call);

            if (rc == 0) {
                assert_memory_equal(signature, first, sizeof(signature));
            }

            /* of the others none fails for what went wrong before */

            if (i >= 33) {
                assert_int_equal(rc, 0);
            }

            test_left = -1;
            failed |= test_failed;
        }
    }

    assert_int_equal(wechatpay_call_sign(&call), 0);
    assert_in_range(n, 10, 1000);

    wechatpay_merchant_destroy(merchant);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_memory_of_openssl_and_libxml2),
        cmocka_unit_test(test_memory_of_jansson),
        cmocka_unit_test(test_memory_of_dump),
        cmocka_unit_test(test_memory_of_signatures)
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

    json_set_alloc_funcs(test_library_malloc, free);

    return cmocka_run_group_tests(tests, NULL, NULL);
}
