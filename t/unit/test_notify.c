
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "test_notify.h"

#include "vectors.h"


static void *test_memory_alloc(void *data, size_t size);


static wechatpay_parser_t  *test_parser;


void
test_memory_init(test_memory_t *memory, long left)
{
    memory->npieces = 0;
    memory->left = left;
    memory->memory.alloc = test_memory_alloc;
    memory->memory.data = memory;
}


void
test_memory_free(test_memory_t *memory)
{
    while (memory->npieces != 0) {
        free(memory->pieces[--memory->npieces]);
    }
}


static void *
test_memory_alloc(void *data, size_t size)
{
    void           *p;
    test_memory_t  *memory = data;

    if (memory->left == 0) {
        return NULL;
    }

    memory->left--;

    p = malloc(size);

    assert_non_null(p);
    assert_in_range(memory->npieces, 0, test_count(memory->pieces) - 1);

    memory->pieces[memory->npieces++] = p;

    return p;
}


size_t
test_vector_count(void)
{
    return test_count(test_vectors);
}


const test_vector_t *
test_vector(size_t i)
{
    return &test_vectors[i];
}


const test_vector_t *
test_vector_find(const char *name)
{
    size_t  i;

    for (i = 0; i < test_count(test_vectors); i++) {
        if (strcmp(test_vectors[i].name, name) == 0) {
            return &test_vectors[i];
        }
    }

    fail_msg("no vector \"%s\"", name);

    return NULL;
}


time_t
test_now(void)
{
    return VECTORS_NOW;
}


wechatpay_str_t
test_str(const char *text)
{
    wechatpay_str_t  str;

    str.data = (const unsigned char *) text;
    str.len = strlen(text);

    return str;
}


wechatpay_merchant_t *
test_merchant(const char *name)
{
    size_t                  i;
    time_t                  not_before, not_after;
    wechatpay_merchant_t   *merchant;
    const test_merchant_t  *conf;

    for (i = 0; i < test_count(test_merchants); i++) {
        if (strcmp(test_merchants[i].name, name) == 0) {
            break;
        }
    }

    assert_in_range(i, 0, test_count(test_merchants) - 1);

    conf = &test_merchants[i];

    merchant = wechatpay_merchant_create();
    assert_non_null(merchant);

    assert_null(wechatpay_merchant_set_mch_id(merchant,
                                              test_str(conf->mch_id)));

    for (i = 0; conf->app_ids[i] != NULL; i++) {
        assert_null(wechatpay_merchant_add_app_id(merchant,
                                                test_str(conf->app_ids[i])));
    }

    for (i = 0; conf->sub_mch_ids[i] != NULL; i++) {
        assert_null(wechatpay_merchant_add_sub_mch_id(merchant,
                                            test_str(conf->sub_mch_ids[i])));
    }

    for (i = 0; conf->v2_keys[i] != NULL; i++) {
        assert_null(wechatpay_merchant_add_v2_key(merchant,
                                                test_str(conf->v2_keys[i])));
    }

    for (i = 0; conf->v3_keys[i].data != NULL; i++) {
        assert_null(wechatpay_merchant_add_v3_key(merchant,
                                                  conf->v3_keys[i]));
    }

    for (i = 0; conf->public_keys[i].id != NULL; i++) {
        assert_null(wechatpay_merchant_add_public_key(merchant,
                                         test_str(conf->public_keys[i].id),
                                         test_str(conf->public_keys[i].pem)));
    }

    for (i = 0; conf->certificates[i] != NULL; i++) {
        assert_null(wechatpay_merchant_add_certificate(merchant,
                                            test_str(conf->certificates[i]),
                                            &not_before, &not_after));
    }

    return merchant;
}


wechatpay_error_e
test_run(const test_vector_t *vector, wechatpay_merchant_t *merchant,
    test_memory_t *memory, wechatpay_str_t *json)
{
    size_t                i;
    unsigned char        *copy;
    wechatpay_str_t       body, id;
    wechatpay_error_e     error;
    wechatpay_refund_t    refund;
    wechatpay_headers_t   headers;

    if (test_parser == NULL) {
        test_parser = wechatpay_parser_create();
        assert_non_null(test_parser);
    }

    memset(&headers, 0, sizeof(wechatpay_headers_t));

    for (i = 0; vector->headers[i].name.len != 0; i++) {
        assert_int_equal(wechatpay_headers_add(&headers,
                                               vector->headers[i].name,
                                               vector->headers[i].value),
                         vector->headers[i].name.data[0] == 'w');
    }

    /* a piece of its own, without a NUL behind it */

    body.len = vector->body.len + vector->padding;

    copy = malloc(body.len);
    assert_non_null(copy);

    memcpy(copy, vector->body.data, vector->body.len);
    memset(copy + vector->body.len, ' ', vector->padding);

    body.data = copy;
    json->len = 0;

    if (vector->version == WECHATPAY_V2) {
        error = wechatpay_v2_notify(test_parser, merchant, body,
                                    &memory->memory, &refund);

    } else {
        error = wechatpay_v3_notify(test_parser, merchant, &headers, body,
                                    VECTORS_NOW, 300, &memory->memory,
                                    &refund);
    }

    assert_memory_equal(copy, vector->body.data, vector->body.len);

    /* nothing of the refund may lie in the body */

    free(copy);

    if (error == WECHATPAY_OK) {
        error = wechatpay_event_id(&refund, &memory->memory, &id);
    }

    if (error == WECHATPAY_OK) {
        error = wechatpay_event_json(&refund, id, test_str("shop"),
                                     VECTORS_NOW, &memory->memory, json);
    }

    return error;
}


void
test_vectors_run(wechatpay_version_e version)
{
    size_t                 i, n;
    wechatpay_str_t        json;
    test_memory_t          memory;
    wechatpay_error_e      error;
    const test_vector_t   *vector;
    wechatpay_merchant_t  *merchant;

    n = 0;

    for (i = 0; i < test_count(test_vectors); i++) {
        vector = &test_vectors[i];

        if (vector->version != version) {
            continue;
        }

        n++;

        merchant = test_merchant(vector->merchant);
        test_memory_init(&memory, -1);

        error = test_run(vector, merchant, &memory, &json);

        if (error != vector->error) {
            fail_msg("%s: \"%s\" instead of \"%s\"", vector->name,
                     wechatpay_error_phrase(error),
                     wechatpay_error_phrase(vector->error));
        }

        if (!wechatpay_str_equal(json, vector->json)) {
            fail_msg("%s:\n%.*s\ninstead of\n%.*s", vector->name,
                     (int) json.len, json.data,
                     (int) vector->json.len, vector->json.data);
        }

        test_memory_free(&memory);
        wechatpay_merchant_destroy(merchant);
    }

    print_message("%u vectors\n", (unsigned) n);
    assert_in_range(n, 100, SIZE_MAX);
}
