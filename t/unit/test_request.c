
/*
 * Copyright (C) the refund-notify authors
 */


#define _GNU_SOURCE

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "test_outbound.h"
#include "wechatpay_base64.h"
#include "wechatpay_json.h"
#include "wechatpay_merchant_internal.h"


#define TEST_ACCOUNT  "6222020200012345678"


static void test_request_decrypts(wechatpay_str_t json, const char *name,
    const char *text);


static unsigned  test_request_left;


static void
test_request_vectors(void **state)
{
    int                     rc;
    size_t                  i;
    test_memory_t           memory;
    wechatpay_failure_t     failure;
    wechatpay_request_t     request;
    wechatpay_merchant_t   *merchant;
    const test_request_t   *vector;

    (void) state;

    for (i = 0; i < test_request_count(); i++) {
        vector = test_request(i);

        merchant = test_outbound_merchant(vector->merchant);
        test_memory_init(&memory, -1);

        failure.code.len = 0;

        rc = test_request_run(vector, merchant, &memory, &request, &failure);

        if (rc != (vector->code[0] == '\0' ? 0 : -1)) {
            fail_msg("%s: %.*s: %.*s", vector->name,
                     (int) failure.field.len, failure.field.data,
                     (int) failure.message.len, failure.message.data);
        }

        if (!wechatpay_str_equal(failure.code, test_str(vector->code))) {
            fail_msg("%s: %.*s", vector->name, (int) failure.code.len,
                     failure.code.data);
        }

        if (rc != 0) {
            assert_int_equal(failure.outcome, WECHATPAY_REJECTED);
            assert_false(failure.retryable);
            assert_in_range(failure.status, 400, 499);
            assert_int_equal(failure.provider_code.len, 0);

            if (!wechatpay_str_equal(failure.field, vector->field)) {
                fail_msg("%s: %.*s instead of %.*s", vector->name,
                         (int) failure.field.len, failure.field.data,
                         (int) vector->field.len, vector->field.data);
            }

            if (vector->message[0] != '\0'
                && !wechatpay_str_equal(failure.message,
                                        test_str(vector->message)))
            {
                fail_msg("%s: %.*s instead of %s", vector->name,
                         (int) failure.message.len, failure.message.data,
                         vector->message);
            }

        } else if (vector->json.len != 0
                   && !wechatpay_str_equal(request.json, vector->json))
        {
            fail_msg("%s:\n%.*s\ninstead of\n%.*s", vector->name,
                     (int) request.json.len, request.json.data,
                     (int) vector->json.len, vector->json.data);
        }

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);

        assert_int_equal(ERR_peek_error(), 0);
    }

    print_message("%u vectors\n", (unsigned) test_request_count());
    assert_in_range(test_request_count(), 300, SIZE_MAX);
}


/* Each allocation fails in turn: that is said, and leaves nothing behind. */

static void
test_request_no_memory(void **state)
{
    int                     rc;
    long                    left;
    size_t                  i;
    test_memory_t           memory;
    wechatpay_failure_t     failure;
    wechatpay_request_t     request;
    wechatpay_merchant_t   *merchant;
    const test_request_t   *vector;

    (void) state;

    for (i = 0; i < test_request_count(); i++) {
        vector = test_request(i);

        if (vector->code[0] != '\0') {
            continue;
        }

        merchant = test_outbound_merchant(vector->merchant);

        for (left = 0; /* void */ ; left++) {
            test_memory_init(&memory, left);
            rc = test_request_run(vector, merchant, &memory, &request,
                                  &failure);
            test_memory_free(&memory);

            if (rc == 0) {
                break;
            }

            assert_true(wechatpay_str_equal(failure.code,
                                            test_str("INTERNAL_ERROR")));
            assert_int_equal(failure.status, 500);
        }

        assert_in_range(left, 1, 32);

        wechatpay_merchant_destroy(merchant);
    }
}


static void
test_request_too_large(void **state)
{
    unsigned char          *body;
    test_memory_t           memory;
    wechatpay_str_t         text, none;
    wechatpay_failure_t     failure;
    wechatpay_request_t     request;
    wechatpay_merchant_t   *merchant;
    const test_request_t   *vector;

    (void) state;

    vector = test_request(0);
    merchant = test_outbound_merchant(vector->merchant);
    none = test_str("");

    body = malloc(WECHATPAY_REQUEST_MAX_BODY + 1);
    assert_non_null(body);

    memset(body, ' ', WECHATPAY_REQUEST_MAX_BODY + 1);
    memcpy(body, vector->body.data, vector->body.len);

    text.data = body;
    text.len = WECHATPAY_REQUEST_MAX_BODY;

    test_memory_init(&memory, -1);

    assert_int_equal(wechatpay_request_create(merchant, WECHATPAY_V3, text,
                                              none, &memory.memory, &request,
                                              &failure), 0);
    text.len++;
    assert_int_equal(wechatpay_request_create(merchant, WECHATPAY_V3, text,
                                              none, &memory.memory, &request,
                                              &failure), -1);
    assert_true(wechatpay_str_equal(failure.code,
                                    test_str("BODY_TOO_LARGE")));
    assert_int_equal(failure.status, 413);

    test_memory_free(&memory);
    free(body);
    wechatpay_merchant_destroy(merchant);
}


/* The same again has the same digest, and nothing else has it. */

static void
test_request_digest(void **state)
{
    size_t                  i, j;
    test_memory_t           memory;
    unsigned char           digests[9][WECHATPAY_REQUEST_DIGEST_LEN];
    wechatpay_str_t         none;
    wechatpay_failure_t     failure;
    wechatpay_request_t     request;
    wechatpay_merchant_t   *shop, *provider;

#define test_body(order, refund, total, more)                                 \
    "{\"out_refund_no\":\"1\"," order ",\"amount\":{\"refund\":" refund       \
    ",\"total\":" total ",\"currency\":\"CNY\"}" more "}"

    static const char  *bodies[] = {
        test_body("\"transaction_id\":\"1\"", "1", "12", ""),
        test_body("\"out_trade_no\":\"1\"", "1", "12", ""),
        test_body("\"transaction_id\":\"2\"", "1", "12", ""),
        test_body("\"transaction_id\":\"1\"", "2", "12", ""),
        test_body("\"transaction_id\":\"1\"", "1", "13", ""),
        test_body("\"transaction_id\":\"1\"", "11", "12", ""),
        test_body("\"transaction_id\":\"1\"", "1", "12",
                  ",\"sub_mch_id\":\"1\""),
        test_body("\"transaction_id\":\"1\"", "1", "12",
                  ",\"sub_mch_id\":\"2\""),

        /* what the first has, and what is no part of it */

        test_body("\"transaction_id\":\"1\"", "1", "12",
                  ",\"reason\":\"a\",\"funds_account\":\"AVAILABLE\"")
    };

    (void) state;

    shop = test_outbound_merchant("shop");
    provider = test_outbound_merchant("provider");
    none = test_str("");
    test_memory_init(&memory, -1);

    for (i = 0; i < test_count(bodies); i++) {
        assert_int_equal(wechatpay_request_create(
                                           i == 6 || i == 7 ? provider : shop,
                                           i % 2 ? WECHATPAY_V2 : WECHATPAY_V3,
                                           test_str(bodies[i]), none,
                                           &memory.memory, &request, &failure),
                         0);
        assert_int_equal(wechatpay_request_digest(&request, digests[i]), 0);

        for (j = 0; j < i; j++) {
            assert_int_equal(memcmp(digests[i], digests[j],
                                    WECHATPAY_REQUEST_DIGEST_LEN) == 0,
                             i == 8 && j == 0);
        }
    }

    /* of transaction_id, 1, 1, 12, CNY and nothing, a line each: it must not
     * change, for stores keep it from one version to the next */

    assert_memory_equal(digests[0],
            "401f1227d79b02b498027e165cf6ef2d4ee586859b61267a2dc3da97f1a48776",
            WECHATPAY_REQUEST_DIGEST_LEN);

    test_memory_free(&memory);
    wechatpay_merchant_destroy(provider);
    wechatpay_merchant_destroy(shop);
}


/* What is encrypted comes out of the right key again, and is nowhere else. */

static void
test_request_secrets(void **state)
{
    size_t                  i;
    test_memory_t           memory;
    wechatpay_failure_t     failure;
    wechatpay_request_t     request[2];
    wechatpay_merchant_t   *merchant;
    const test_request_t   *vector;

    (void) state;

    for (i = 0; i < test_request_count() - 1; i++) {
        if (strcmp(test_request(i)->name, "abnormal: the documented example")
            == 0)
        {
            break;
        }
    }

    vector = test_request(i);

    assert_int_equal(vector->call, WECHATPAY_CALL_ABNORMAL);

    merchant = test_outbound_merchant(vector->merchant);
    test_memory_init(&memory, -1);

    for (i = 0; i < 2; i++) {
        assert_int_equal(test_request_run(vector, merchant, &memory,
                                          &request[i], &failure), 0);

        test_request_decrypts(request[i].json, "bank_account",
                              "6222020200012345678");
        test_request_decrypts(request[i].json, "real_name", "张三");
    }

    /* OAEP is never the same twice */

    assert_false(wechatpay_str_equal(request[0].json, request[1].json));

    for (i = 0; i < 2; i++) {
        assert_null(memmem(request[i].json.data, request[i].json.len,
                           "62220202", 8));
    }

    test_memory_free(&memory);
    wechatpay_merchant_destroy(merchant);
}


static void
test_request_free(void *p)
{
    if (p != NULL && memmem(p, malloc_usable_size(p), TEST_ACCOUNT,
                            sizeof(TEST_ACCOUNT) - 1)
                     != NULL)
    {
        test_request_left++;
    }

    free(p);
}


/*
 * No object that is freed still holds the account, be it under a wrong name.
 * The strings behind it are for the parser's own buffer, which keeps what no
 * later string writes over.
 */

static void
test_request_wiped(void **state)
{
    int                     rc;
    size_t                  i;
    test_memory_t           memory;
    json_free_t             old_free;
    json_malloc_t           old_malloc;
    wechatpay_failure_t     failure;
    wechatpay_request_t     request;
    wechatpay_merchant_t   *merchant;

    static const char  *bodies[] = {
        "{\"bank_account\":\"" TEST_ACCOUNT "\",\"real_name\":\"x\","
        "\"type\":\"USER_BANK_CARD\",\"bank_type\":\"ICBC_DEBIT\","
        "\"out_refund_no\":\"1217752501201407033233368018\"}",

        "{\"bank_acount\":\"" TEST_ACCOUNT "\",\"real_name\":\"x\","
        "\"type\":\"USER_BANK_CARD\",\"bank_type\":\"ICBC_DEBIT\","
        "\"out_refund_no\":\"1217752501201407033233368018\"}"
    };

    (void) state;

    merchant = test_outbound_merchant("shop");

    json_get_alloc_funcs(&old_malloc, &old_free);

    for (i = 0; i < test_count(bodies); i++) {
        test_memory_init(&memory, -1);
        test_request_left = 0;

        json_set_alloc_funcs(malloc, test_request_free);

        rc = wechatpay_request_abnormal(merchant, WECHATPAY_V3, test_str("5"),
                                        test_str(bodies[i]), &memory.memory,
                                        &request, &failure);

        json_set_alloc_funcs(old_malloc, old_free);

        assert_int_equal(rc, i == 0 ? 0 : -1);
        assert_int_equal(test_request_left, 0);

        test_memory_free(&memory);
    }

    wechatpay_merchant_destroy(merchant);
}


static void
test_request_decrypts(wechatpay_str_t json, const char *name, const char *text)
{
    BIO              *bio;
    json_t           *object;
    size_t            len;
    EVP_PKEY         *key;
    EVP_PKEY_CTX     *ctx;
    unsigned char     blocks[512], plain[512];
    wechatpay_str_t   base64;

    assert_int_equal(wechatpay_json_parse(json, &object), WECHATPAY_OK);

    base64 = wechatpay_json_get(object, name);

    assert_int_equal(base64.len, (256 + 2) / 3 * 4);
    assert_int_equal(wechatpay_base64_decode(base64, blocks, &len), 0);
    assert_int_equal(len, 256);

    bio = BIO_new_mem_buf(test_outbound_private_key(), -1);
    key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    assert_non_null(key);

    ctx = EVP_PKEY_CTX_new(key, NULL);
    len = sizeof(plain);

    assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING),
                     1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha1()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha1()), 1);
    assert_int_equal(EVP_PKEY_decrypt(ctx, plain, &len, blocks, 256), 1);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(plain, text, len);

    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    BIO_free(bio);
    json_decref(object);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_request_vectors),
        cmocka_unit_test(test_request_no_memory),
        cmocka_unit_test(test_request_too_large),
        cmocka_unit_test(test_request_digest),
        cmocka_unit_test(test_request_secrets),
        cmocka_unit_test(test_request_wiped)
    };

    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
